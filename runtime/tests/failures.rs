//! Finished executables, and every way in which they can fail: one error document, exit status 1.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use rquickjs::{Context, Runtime};
use weft_runtime::failure::{Failure, catch_panics};

const COMPILER: &str = env!("CARGO_BIN_EXE_weft-compile");
const RUNTIME: &str = env!("CARGO_BIN_EXE_weft-runtime");

struct Program(PathBuf);

impl Program {
    /// Compiles modules (name, source) into an executable.
    fn new(name: &str, modules: &[(&str, &str)]) -> Self {
        let program = Self(std::env::temp_dir().join(format!("weft-failures-{}-{name}", std::process::id())));
        fs::create_dir_all(program.0.join("modules")).expect("a folder");
        for (file, source) in modules {
            fs::write(program.0.join("modules").join(file), source).expect("a module");
        }
        let made = program.compile();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        program
    }

    fn compile(&self) -> Output {
        let mut compiler = Command::new(COMPILER);
        compiler.arg(RUNTIME).arg(self.0.join("modules")).arg(self.executable());
        compiler.output().expect("weft-compile")
    }

    fn executable(&self) -> PathBuf {
        self.0.join("program")
    }

    fn run(&self) -> Output {
        Command::new(self.executable())
            .arg("argument")
            .output()
            .expect("the program")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program that was just written. While another test forks, its child may have the file open for writing still.
fn output_of(command: &mut Command) -> Output {
    loop {
        match command.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => return output.expect("the program"),
        }
    }
}

/// The `msg` of the one error document that is all of `output`.
fn message_of(output: &[u8]) -> String {
    let text = String::from_utf8(output.to_vec()).expect("UTF-8");
    let runtime = Runtime::new().expect("an engine");
    let context = Context::full(&runtime).expect("a context");
    context.with(|ctx| {
        let document = ctx
            .json_parse(text.clone())
            .unwrap_or_else(|_| panic!("not one JSON document: {text:?}"));
        let document = document.into_object().expect("an object");
        assert_eq!(document.get::<_, String>("cniVersion").expect("a version"), "1.1.0");
        assert_eq!(document.get::<_, i32>("code").expect("a code"), 999);
        document.get("msg").expect("a message")
    })
}

/// Runs a module that fails, and returns what its error document says.
fn failure(name: &str, source: &str) -> String {
    let output = Program::new(name, &[("main-cni.js", source)]).run();
    assert_eq!(
        output.status.code(),
        Some(1),
        "{name}: {:?}, signal {:?}",
        output.status,
        output.status.signal()
    );
    assert!(
        output.stderr.is_empty(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    message_of(&output.stdout)
}

const PUT: &str = "const put = (text) => { const b = Sys.encodeUtf8(text); Sys.write(1, b, 0, b.byteLength); };";

#[test]
fn modules_are_loaded_when_they_are_needed() {
    let main = format!(
        "{PUT} import {{ a }} from './chunk-A.js'; put(a + Sys.argv[1]); (await import('./lazy.js')).run(put);"
    );
    let lazy = "import { a } from './chunk-A.js'; export const run = (put) => { put(a); Sys.exit(7); };";
    let modules = [
        ("main-cni.js", main.as_str()),
        ("chunk-A.js", "export const a = 'A ';"),
        ("lazy.js", lazy),
    ];
    let output = Program::new("modules", &modules).run();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "A argumentA ");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn the_end_of_the_entry_module_is_success() {
    let output = Program::new("end", &[("main-cni.js", "await 0;")]).run();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
}

#[test]
fn exceptions() {
    assert_eq!(
        failure("error", "throw new TypeError('a \"b\"\\n')"),
        "Uncaught TypeError: a \"b\"\n"
    );
    assert_eq!(failure("value", "throw 'text'"), "Uncaught: text");
    assert_eq!(failure("null", "throw null"), "Uncaught: null");
    assert_eq!(
        failure("symbol", "throw Symbol('s')"),
        "Uncaught: a value that has no text"
    );
    assert_eq!(
        failure("evil", "throw { toString() { throw 1; } }"),
        "Uncaught: a value that has no text"
    );
    assert_eq!(
        failure("argument", "Sys.open(1, 2, 3)").split(':').next(),
        Some("Uncaught TypeError")
    );
}

#[test]
fn rejected_promises() {
    assert_eq!(
        failure("awaited", "await Promise.reject(new Error('r'))"),
        "Uncaught Error: r"
    );
    assert_eq!(
        failure("unhandled", "Promise.reject(new Error('u'))"),
        "Uncaught Error: u"
    );
    let handled = "const p = Promise.reject(1); await 0; await p.catch(() => {}); Sys.exit(0)";
    assert_eq!(
        Program::new("handled", &[("main-cni.js", handled)]).run().status.code(),
        Some(0)
    );
}

#[test]
fn promises_that_never_settle() {
    assert_eq!(
        failure("never", "await new Promise(() => {})"),
        "The program waits for what cannot happen"
    );
}

#[test]
fn missing_modules() {
    let expected = "Uncaught InternalError: The executable has no module \"no.js\"";
    assert_eq!(failure("missing", "await import('./no.js')"), expected);
}

#[test]
fn out_of_memory() {
    let told = failure("buffers", "const a = []; for (;;) a.push(new ArrayBuffer(1e6))");
    assert_eq!(told, "Uncaught InternalError: out of memory");
    let told = failure(
        "texts",
        "const a = [], x = 'x'.repeat(1e6); for (;;) a.push(Sys.encodeUtf8(x))",
    );
    assert_eq!(told, "Uncaught InternalError: out of memory");
    // No memory is left even to reject the promise of the entry module.
    let told = failure("objects", "let a = {}; for (;;) a = { a, b: [1] }");
    assert!(told.contains("out of memory"), "{told}");
}

#[test]
fn stack_overflow() {
    let overflow = "Uncaught RangeError: Maximum call stack size exceeded";
    assert_eq!(failure("recursion", "const f = (a) => f(a + 1) + 1; f(0)"), overflow);
    assert_eq!(failure("parse", "JSON.parse('['.repeat(1e6))"), overflow);
    assert_eq!(
        failure(
            "stringify",
            "let a = []; for (let i = 0; i < 1e6; i++) a = [a]; JSON.stringify(a)"
        ),
        overflow
    );
}

#[test]
fn code_comes_from_the_archive_alone() {
    assert_eq!(
        failure("eval", "eval('1')"),
        "Uncaught TypeError: eval is not supported"
    );
    assert_eq!(
        failure("function", "new Function('return 1')"),
        "Uncaught TypeError: eval is not supported"
    );
}

#[test]
fn nothing_is_written_to_stdout_after_the_programs_own_output() {
    let source = format!("{PUT} put('{{}}'); throw new Error('late')");
    let output = Program::new("late", &[("main-cni.js", &source)]).run();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b"{}"[..]));
    assert_eq!(message_of(&output.stderr), "Uncaught Error: late");
}

#[test]
fn exit_is_the_last_thing_that_happens() {
    let source = format!("{PUT} Promise.reject(1); put('done'); Sys.exit(3); throw 1;");
    let output = Program::new("exit", &[("main-cni.js", &source)]).run();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(3), &b"done"[..])
    );
    assert!(output.stderr.is_empty());
}

#[test]
fn damaged_executables() {
    let program = Program::new("damaged", &[("main-cni.js", "Sys.exit(0)")]);
    let whole = fs::read(program.executable()).expect("the program");
    let run = |bytes: &[u8]| {
        let path = program.0.join("damaged");
        fs::write(&path, bytes).expect("a file");
        fs::set_permissions(
            &path,
            fs::metadata(program.executable()).expect("the program").permissions(),
        )
        .expect("chmod");
        let output = output_of(&mut Command::new(&path));
        assert_eq!(output.status.code(), Some(1));
        message_of(&output.stdout)
    };
    let runtime_alone = fs::read(RUNTIME).expect("the runtime");
    assert!(run(&runtime_alone).contains("carries no program"));
    assert!(run(&whole[..whole.len() - 1]).contains("carries no program"));
    let mut changed = whole.clone();
    changed[runtime_alone.len() + 10] ^= 1;
    assert!(run(&changed).contains("damaged (module \"main-cni.js\")"));
    let mut longer = runtime_alone.clone();
    longer.push(0);
    longer.extend_from_slice(&whole[runtime_alone.len()..]);
    assert!(run(&longer).contains("damaged (it has"));
}

#[test]
fn equal_sources_give_equal_executables() {
    let program = Program::new(
        "equal",
        &[("main-cni.js", "await import('./b.js')"), ("b.js", "Sys.exit(0)")],
    );
    let first = fs::read(program.executable()).expect("the program");
    assert!(program.compile().status.success());
    assert!(first == fs::read(program.executable()).expect("the program"));
    assert!(
        fs::read_dir(&program.0).expect("the folder").count() == 2,
        "a temporary file is left"
    );
}

#[test]
fn the_compiler_says_what_is_wrong() {
    let program = Program::new("compiler", &[("main-cni.js", "1")]);
    fs::write(program.0.join("modules/bad.js"), "let let = 1").expect("a module");
    let output = program.compile();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Cannot compile \"bad.js\""));
    fs::remove_file(program.0.join("modules/bad.js")).expect("the module");
    fs::remove_file(program.0.join("modules/main-cni.js")).expect("the module");
    assert!(String::from_utf8_lossy(&program.compile().stderr).contains("Cannot find \"main-cni.js\""));
    assert!(program.executable().exists());
}

/// What `panics` and `full_pipes` run as another process; by itself it does nothing.
#[test]
fn child() {
    match std::env::var("WEFT_TEST_CHILD").as_deref() {
        Ok("panic") => {
            catch_panics();
            panic!("for {} reasons", 2);
        }
        Ok("large") => Failure::new("x".repeat(1_000_000)).end(),
        _ => {}
    }
}

fn run_child(what: &str) -> Output {
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("WEFT_TEST_CHILD", what);
    child.output().expect("the child")
}

#[test]
fn panics() {
    let output = run_child("panic");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let document = text.find('{').map_or("", |at| &text[at..]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(message_of(document.as_bytes()), "The runtime has failed: for 2 reasons");
}

/// Otherwise the first file that the program opens would be its stdout, and get its answer.
#[test]
fn closed_standard_descriptors_are_opened() {
    let main = "Sys.exit(Sys.open('/dev/null', 0, 0))";
    let program = Program::new("closed", &[("main-cni.js", main)]);
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "<&- 2>&-"] {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!("\"$0\" {closed}"))
            .arg(program.executable());
        let status = output_of(&mut shell).status.code();
        assert!(status.is_some_and(|fd| (3..10).contains(&fd)), "{closed}: {status:?}");
    }
}

/// The child is fed by a second thread, which shares the program's heap.
#[test]
fn a_large_input_goes_through_a_child() {
    let main = "const x = 'x'.repeat(3e6); let sum = 0;
        for (let i = 0; i < 5; i++) sum += Sys.spawn('/bin/cat', ['cat'], [], Sys.encodeUtf8(x)).stdout.byteLength;
        Sys.exit(sum === 15e6 ? 7 : 1)";
    let output = Program::new("spawn", &[("main-cni.js", main)]).run();
    assert_eq!(output.status.code(), Some(7), "{}", message_of(&output.stdout));
}

/// Much garbage between little that is kept: freed memory is used again, and the limit counts what is in use.
#[test]
fn garbage_is_used_again() {
    let main = "let kept = ''; for (let i = 0; i < 300; i++) {
            const a = Array.from({ length: 2000 }, (_, at) => ({ at, text: `${at}` }));
            kept = JSON.stringify(a.slice(0, 10)) + new ArrayBuffer(1e6).byteLength;
        }
        Sys.exit(kept.length > 100 ? 7 : 1)";
    let output = Program::new("garbage", &[("main-cni.js", main)]).run();
    assert_eq!(output.status.code(), Some(7), "{}", message_of(&output.stdout));
}

#[test]
fn full_pipes() {
    let output = run_child("large");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.len() > 1_000_000);
}
