//! The global object `Sys`: one function for each system call that `linux/sys.ts` declares, and no logic.
//!
//! A call that fails returns the negative errno. EINTR is retried. Descriptors are opened close-on-exec. A function
//! throws only for a fault of the program: an argument of the wrong type, a range outside its buffer.

mod clone;
mod files;
mod process;
mod sockets;
mod values;

use rquickjs::function::IntoJsFunc;
use rquickjs::{Ctx, Function, Object, Result};

/// Defines the global `Sys`, with the process's arguments.
pub fn install(ctx: &Ctx<'_>, arguments: Vec<String>) -> Result<()> {
    let sys = Object::new(ctx.clone())?;
    files::add(&sys)?;
    sockets::add(&sys)?;
    sys.set("argv", arguments)?;
    process::add(&sys)?;
    clone::add(&sys)?;
    values::add(&sys)?;
    ctx.globals().set("Sys", sys)
}

/// Adds one function.
fn add<'js, P>(sys: &Object<'js>, name: &str, function: impl IntoJsFunc<'js, P> + 'js) -> Result<()> {
    sys.set(name, Function::new(sys.ctx().clone(), function)?.with_name(name)?)
}
