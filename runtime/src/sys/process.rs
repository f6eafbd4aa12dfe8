//! This process, its namespaces, other processes, clocks and randomness.

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output, Stdio};
use std::thread;

use rquickjs::{ArrayBuffer, Ctx, IntoJs, Object, Result, Value};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustix::time::{ClockId, clock_gettime};

use super::values::{Outcome, Range, Text, borrow, buffer_of, done, errno_of, retry};
use crate::failure;

pub fn add(sys: &Object<'_>) -> Result<()> {
    super::add(sys, "setns", setns)?;
    super::add(sys, "spawn", spawn)?;
    super::add(sys, "environ", environ)?;
    super::add(sys, "getpid", || rustix::process::getpid().as_raw_pid())?;
    super::add(sys, "geteuid", || rustix::process::geteuid().as_raw())?;
    super::add(sys, "clock_gettime", clock)?;
    super::add(sys, "getrandom", random)?;
    super::add(sys, "exit", exit)
}

/// _exit(2)
fn exit(status: i32) -> Result<()> {
    failure::exit(status)
}

/// setns(2): network namespaces, or with 0 any kind of namespace that `fd` refers to
fn setns(fd: i32, nstype: i32) -> Outcome<i32> {
    let kind = match nstype {
        0 => None,
        libc::CLONE_NEWNET => Some(LinkNameSpaceType::Network),
        _ => return Outcome(Err(Errno::INVAL)),
    };
    done(retry(|| move_into_link_name_space(borrow(fd)?, kind)).0)
}

/// environ(7)
fn environ() -> Vec<String> {
    let entry = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        format!("{}={}", name.to_string_lossy(), value.to_string_lossy())
    };
    std::env::vars_os().map(entry).collect()
}

/// clock_gettime(2), in milliseconds
#[allow(clippy::cast_precision_loss)] // seconds since 1970 are exact for longer than Linux will count them
fn clock(clock: i32) -> Outcome<f64> {
    let clock = match clock {
        libc::CLOCK_REALTIME => ClockId::Realtime,
        libc::CLOCK_MONOTONIC => ClockId::Monotonic,
        libc::CLOCK_PROCESS_CPUTIME_ID => ClockId::ProcessCPUTime,
        _ => return Outcome(Err(Errno::INVAL)),
    };
    let time = clock_gettime(clock);
    Outcome(Ok(time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6))
}

/// getrandom(2)
fn random<'js>(ctx: Ctx<'js>, buffer: ArrayBuffer<'js>, offset: f64, length: f64) -> Result<Outcome<usize>> {
    let mut range = Range::new(&ctx, buffer, offset, length)?;
    Ok(retry(|| getrandom(range.bytes_mut(), GetRandomFlags::empty())))
}

/// posix_spawn(3) and waitpid(2)
fn spawn(path: Text, argv: Vec<Text>, environment: Vec<Text>, stdin: ArrayBuffer<'_>) -> Outcome<SpawnResult> {
    let mut command = Command::new(&path.0);
    if let Some((name, arguments)) = argv.split_first() {
        command.arg0(&name.0).args(arguments.iter().map(|argument| &argument.0));
    }
    command
        .env_clear()
        .envs(environment.iter().filter_map(|entry| entry.0.split_once('=')));
    let stdin = Range::whole(stdin);
    Outcome(
        run(command, stdin.bytes())
            .map(SpawnResult)
            .map_err(|error| errno_of(&error)),
    )
}

/// Feeds the child from a separate thread, because the child may write more than a pipe holds before it reads. It is no
/// error if the child ends without reading everything.
fn run(mut command: Command, input: &[u8]) -> std::io::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        let feed = move || stdin.map(|mut stdin| stdin.write_all(input));
        if let Err(error) = thread::Builder::new().spawn_scoped(scope, feed) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        child.wait_with_output()
    })
}

/// `SpawnResult` of `linux/sys.ts`.
struct SpawnResult(Output);

impl<'js> IntoJs<'js> for SpawnResult {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        let Self(output) = self;
        let result = Object::new(ctx.clone())?;
        let by_signal = || 128 + output.status.signal().unwrap_or(0);
        result.set("status", output.status.code().unwrap_or_else(by_signal))?;
        result.set("stdout", buffer_of(ctx.clone(), &output.stdout)?)?;
        result.set("stderr", buffer_of(ctx.clone(), &output.stderr)?)?;
        Ok(result.into_value())
    }
}
