//! Runs the program: creates an engine with limits, loads modules from the archive, and runs jobs until the entry
//! module has settled.

use std::cell::RefCell;
use std::rc::Rc;

use rquickjs::context::intrinsic;
use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Coerced, Context, Ctx, Error, Exception, Module, Object, Persistent, Result, Runtime, Value};
use rustix::process::{Resource, getrlimit};

use crate::archive::{Archive, ENTRY};
use crate::failure::{self, Failure};
use crate::heap::EngineHeap;
use crate::sys;

/// A program that needs more memory has a fault, and must not use up the caller's memory limit.
const MEMORY_LIMIT_BYTES: usize = 256 * 1024 * 1024;

/// Garbage collection does not pay for a program that ends within milliseconds, unless it has grown far too large.
const COLLECT_FROM_BYTES: usize = 32 * 1024 * 1024;

/// The engine's stack limit. If the process has less stack, the limit is half of it.
const STACK_LIMIT_BYTES: usize = 1024 * 1024;

/// The optional parts of the language that the program needs. There is no `eval`, `Function` from text, `Date`, `Proxy`
/// or `WeakRef`: the clock is in `Sys`, and code comes only from the archive.
type Intrinsics = (
    intrinsic::Json,
    intrinsic::TypedArrays,
    intrinsic::MapSet,
    intrinsic::RegExp,
    intrinsic::RegExpCompiler,
    intrinsic::Promise,
);

type Thrown = Persistent<Value<'static>>;

/// How the program ended, if it did not end the process itself.
enum Outcome {
    Settled,
    Threw(Thrown),
    /// An error of the engine that is no exception.
    Failed(Error),
    NeverSettled,
}

/// Runs this executable's program and ends the process.
pub fn run(arguments: Vec<String>) -> ! {
    failure::catch_panics();
    failure::ignore_signals();
    failure::open_standard_descriptors();
    let archive = Archive::open_own().unwrap_or_else(|error| Failure::new(error.to_string()).end());
    match run_archive(archive, arguments) {
        Ok(()) => failure::exit(0),
        Err(failure) => failure.end(),
    }
}

fn run_archive(archive: Archive, arguments: Vec<String>) -> std::result::Result<(), Failure> {
    let setup_failure = |error: Error| Failure::new(format!("The engine cannot start: {error}"));
    let runtime = Runtime::new_with_alloc(EngineHeap::default()).map_err(setup_failure)?;
    runtime.set_memory_limit(MEMORY_LIMIT_BYTES);
    runtime.set_gc_threshold(COLLECT_FROM_BYTES);
    runtime.set_max_stack_size(stack_limit_bytes());
    runtime.set_loader(Names, Modules(archive));
    let rejections = track_rejections(&runtime);
    let context = Context::custom::<Intrinsics>(&runtime).map_err(setup_failure)?;

    let outcome = context.with(|ctx| {
        sys::install(&ctx, arguments).map_err(setup_failure)?;
        Ok(run_entry(&ctx))
    })?;
    let thrown = match outcome {
        Outcome::NeverSettled => return Err(Failure::new(why_never_settled(&runtime))),
        Outcome::Failed(error) => return Err(Failure::new(format!("The engine has failed: {error}"))),
        Outcome::Threw(thrown) => Some(thrown),
        Outcome::Settled => rejections.borrow_mut().pop().map(|(_, reason)| reason),
    };
    let Some(thrown) = thrown else { return Ok(()) };
    // Reporting the error takes memory, which may have run out.
    runtime.set_memory_limit(usize::MAX);
    Err(context.with(|ctx| describe(&ctx, thrown)))
}

/// If memory has run out, there is not enough to reject a promise either.
fn why_never_settled(runtime: &Runtime) -> &'static str {
    let used = usize::try_from(runtime.memory_usage().malloc_size).unwrap_or(0);
    if used > MEMORY_LIMIT_BYTES / 4 * 3 {
        return "The program has run out of memory";
    }
    "The program waits for what cannot happen"
}

fn run_entry(ctx: &Ctx<'_>) -> Outcome {
    let settled = Module::import(ctx, ENTRY).and_then(|promise| promise.finish::<Value>());
    let Err(error) = settled else {
        while ctx.execute_pending_job() {}
        return Outcome::Settled;
    };
    match error {
        Error::WouldBlock => Outcome::NeverSettled,
        Error::Exception => Outcome::Threw(Persistent::save(ctx, ctx.catch())),
        other => Outcome::Failed(other),
    }
}

/// Half of a small stack, because the host's frames and the kernel's data are on the stack, too.
fn stack_limit_bytes() -> usize {
    let limit = getrlimit(Resource::Stack)
        .current
        .map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    STACK_LIMIT_BYTES.min(limit / 2)
}

type Rejections = Rc<RefCell<Vec<(Thrown, Thrown)>>>;

/// Keeps the unhandled rejected promises, each with its reason.
fn track_rejections(runtime: &Runtime) -> Rejections {
    let rejections: Rejections = Rc::default();
    let kept = rejections.clone();
    runtime.set_host_promise_rejection_tracker(Some(Box::new(move |ctx, promise, reason, handled| {
        if handled {
            let is_other = |saved: &Thrown| saved.clone().restore(&ctx).is_ok_and(|other| other != promise);
            kept.borrow_mut().retain(|(saved, _)| is_other(saved));
        } else {
            kept.borrow_mut()
                .push((Persistent::save(&ctx, promise), Persistent::save(&ctx, reason)));
        }
    })));
    rejections
}

/// Describes a thrown value: an error's name, message and stack, or the text of any other value.
fn describe(ctx: &Ctx<'_>, thrown: Thrown) -> Failure {
    let told = thrown.restore(ctx).and_then(|value| match value.as_object() {
        Some(error) if value.is_error() => describe_error(error),
        _ => Ok(Failure::new(format!("Uncaught: {}", value.get::<Coerced<String>>()?.0))),
    });
    told.unwrap_or_else(|_| Failure::new("Uncaught: a value that has no text"))
}

fn describe_error(error: &Object<'_>) -> Result<Failure> {
    let name: Coerced<String> = error.get("name")?;
    let message: Coerced<String> = error.get("message")?;
    let stack: Option<Coerced<String>> = error.get("stack")?;
    Ok(Failure {
        message: format!("Uncaught {}: {}", name.0, message.0),
        details: stack.map(|stack| stack.0.trim().to_owned()).unwrap_or_default(),
    })
}

/// Modules are named by their file name; esbuild's chunks import each other as `./chunk-X.js`.
struct Names;

impl Resolver for Names {
    fn resolve<'js>(&mut self, _: &Ctx<'js>, _: &str, name: &str, _: Option<ImportAttributes<'js>>) -> Result<String> {
        Ok(name.strip_prefix("./").unwrap_or(name).into())
    }
}

struct Modules(Archive);

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        let bytecode = self
            .0
            .module(name)
            .map_err(|error| Exception::throw_internal(ctx, &error.to_string()))?;
        // SAFETY: weft-compile wrote these bytes with this same engine (the footer says so) and their checksum is right. They
        // live as long as the process.
        unsafe { Module::load(ctx.clone(), bytecode) }
    }
}
