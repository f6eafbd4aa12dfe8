//! Makes the finished executable: compiles a folder of ES modules to bytecode and appends them to the runtime.
//!
//! `weft-compile RUNTIME FOLDER OUTPUT` — the folder's `*.js` files are the modules, `main-cni.js` is run first.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::{Declared, WriteOptions};
use rquickjs::{CatchResultExt, Context, Ctx, Module, Runtime};
use weft_runtime::archive::{self, ENTRY};

type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let made = match arguments.as_slice() {
        [runtime, folder, output] => make(runtime, folder, output),
        _ => Err("Usage: weft-compile RUNTIME FOLDER OUTPUT".into()),
    };
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn make(runtime: &Path, folder: &Path, output: &Path) -> Result<()> {
    let mut executable =
        fs::read(runtime).map_err(|error| format!("Cannot read \"{}\": {error}", runtime.display()))?;
    let mut modules = Vec::new();
    for (name, source) in sources(folder)? {
        modules.push((name.clone(), compile(&name, &source)?));
    }
    executable.extend_from_slice(&archive::encode(executable.len() as u64, &modules));
    write_executable(output, &executable).map_err(|error| format!("Cannot write \"{}\": {error}", output.display()))
}

/// Name and text of the folder's modules: the entry first, the others by name, so that equal input gives equal output.
fn sources(folder: &Path) -> Result<Vec<(String, String)>> {
    let cannot_read = |path: &Path, error: std::io::Error| format!("Cannot read \"{}\": {error}", path.display());
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| cannot_read(folder, error))? {
        let path = entry.map_err(|error| cannot_read(folder, error))?.path();
        let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|_| path.extension().is_some_and(|extension| extension == "js"))
        else {
            continue;
        };
        sources.push((
            name.to_owned(),
            fs::read_to_string(&path).map_err(|error| cannot_read(&path, error))?,
        ));
    }
    sources.sort_by_key(|(name, _)| (name != ENTRY, name.clone()));
    match sources.first() {
        Some((name, _)) if name == ENTRY => Ok(sources),
        _ => Err(format!("Cannot find \"{ENTRY}\" in \"{}\"", folder.display())),
    }
}

/// Bytecode of one module, with line numbers, without its source.
fn compile(name: &str, source: &str) -> Result<Vec<u8>> {
    let cannot_compile = |error: String| format!("Cannot compile {name:?}: {error}");
    let runtime = Runtime::new().map_err(|error| cannot_compile(error.to_string()))?;
    runtime.set_loader(Unread, Unread);
    let context = Context::full(&runtime).map_err(|error| cannot_compile(error.to_string()))?;
    context.with(|ctx| {
        let options = WriteOptions {
            strip_source: true,
            ..WriteOptions::default()
        };
        let module = Module::declare(ctx.clone(), name, source);
        let bytecode = module.and_then(|module| module.write(options)).catch(&ctx);
        bytecode.map_err(|error| cannot_compile(error.to_string()))
    })
}

/// The modules that a module imports are not needed to compile it: empty ones stand in for them.
struct Unread;

impl Resolver for Unread {
    fn resolve<'js>(
        &mut self,
        _: &Ctx<'js>,
        _: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        Ok(name.into())
    }
}

impl Loader for Unread {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js, Declared>> {
        Module::declare(ctx.clone(), name, "")
    }
}

/// Other processes see the old executable or the new one, never a part.
fn write_executable(output: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = output.with_extension(format!("{}.tmp", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, output));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
