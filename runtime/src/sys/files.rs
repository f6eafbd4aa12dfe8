//! Files, folders and locks.

use std::ffi::OsString;
use std::os::fd::IntoRawFd;

use rquickjs::{ArrayBuffer, Ctx, IntoJs, Object, Result, Value};
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::values::{Outcome, Range, Text, borrow, done, errno_of, last_errno, retry};
use crate::failure;

pub fn add(sys: &Object<'_>) -> Result<()> {
    super::add(sys, "open", open)?;
    super::add(sys, "close", close)?;
    super::add(sys, "read", read)?;
    super::add(sys, "write", write)?;
    super::add(sys, "fsync", |fd: i32| done(retry(|| fs::fsync(borrow(fd)?)).0))?;
    super::add(sys, "ftruncate", ftruncate)?;
    super::add(sys, "flock", flock)?;
    super::add(sys, "mkdir", |path: Text, mode: u32| {
        done(fs::mkdir(path.0, Mode::from_bits_retain(mode)))
    })?;
    super::add(sys, "rmdir", |path: Text| done(fs::rmdir(path.0)))?;
    super::add(sys, "unlink", |path: Text| done(fs::unlink(path.0)))?;
    super::add(sys, "rename", |from: Text, to: Text| done(fs::rename(from.0, to.0)))?;
    super::add(sys, "link", |from: Text, to: Text| done(fs::link(from.0, to.0)))?;
    super::add(sys, "utimensat", utimensat)?;
    super::add(sys, "readlink", readlink)?;
    super::add(sys, "stat", |path: Text| Outcome(fs::stat(path.0).map(FileStatus)))?;
    super::add(sys, "fstat", |fd: i32| {
        Outcome(borrow(fd).and_then(fs::fstat).map(FileStatus))
    })?;
    super::add(sys, "getdents", getdents)
}

/// open(2)
fn open(path: Text, flags: u32, mode: u32) -> Outcome<i32> {
    let flags = OFlags::from_bits_retain(flags) | OFlags::CLOEXEC;
    let mode = Mode::from_bits_retain(mode);
    Outcome(retry(|| fs::open(&path.0, flags, mode)).0.map(IntoRawFd::into_raw_fd))
}

/// close(2). Never retried: the descriptor is closed even if the call was interrupted.
fn close(fd: i32) -> Outcome<i32> {
    // SAFETY: descriptors belong to the program. The only one that the host keeps is the archive's, which is read
    // through checked calls.
    let result = unsafe { libc::close(fd) };
    done(if result == 0 || last_errno() == Errno::INTR {
        Ok(())
    } else {
        Err(last_errno())
    })
}

/// read(2)
fn read<'js>(ctx: Ctx<'js>, fd: i32, buffer: ArrayBuffer<'js>, offset: f64, length: f64) -> Result<Outcome<usize>> {
    let mut range = Range::new(&ctx, buffer, offset, length)?;
    Ok(retry(|| rustix::io::read(borrow(fd)?, range.bytes_mut())))
}

/// write(2)
fn write<'js>(ctx: Ctx<'js>, fd: i32, buffer: ArrayBuffer<'js>, offset: f64, length: f64) -> Result<Outcome<usize>> {
    let range = Range::new(&ctx, buffer, offset, length)?;
    if fd == libc::STDOUT_FILENO {
        failure::note_stdout_used();
    }
    Ok(retry(|| rustix::io::write(borrow(fd)?, range.bytes())))
}

/// ftruncate(2)
fn ftruncate(fd: i32, length: f64) -> Outcome<i32> {
    if length < 0.0 {
        return Outcome(Err(Errno::INVAL));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a length is whole; beyond 2^64 it saturates
    done(retry(|| fs::ftruncate(borrow(fd)?, length as u64)).0)
}

/// utimensat(2): the time of the last modification, in milliseconds
#[allow(clippy::cast_possible_truncation)] // seconds saturate, and nanoseconds are below 10^9
fn utimensat(path: Text, mtime_ms: f64) -> Outcome<i32> {
    if !mtime_ms.is_finite() {
        return done(Err(Errno::INVAL));
    }
    let seconds = (mtime_ms / 1000.0).floor();
    let nanoseconds = ((mtime_ms - seconds * 1000.0) * 1e6) as i64;
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_OMIT as _,
        },
        last_modification: Timespec {
            tv_sec: seconds as i64,
            tv_nsec: nanoseconds as _,
        },
    };
    done(fs::utimensat(fs::CWD, path.0, &times, AtFlags::empty()))
}

/// flock(2)
fn flock(fd: i32, operation: i32) -> Outcome<i32> {
    let operation = match operation {
        libc::LOCK_SH => FlockOperation::LockShared,
        libc::LOCK_EX => FlockOperation::LockExclusive,
        libc::LOCK_UN => FlockOperation::Unlock,
        other if other == libc::LOCK_SH | libc::LOCK_NB => FlockOperation::NonBlockingLockShared,
        other if other == libc::LOCK_EX | libc::LOCK_NB => FlockOperation::NonBlockingLockExclusive,
        other if other == libc::LOCK_UN | libc::LOCK_NB => FlockOperation::NonBlockingUnlock,
        _ => return Outcome(Err(Errno::INVAL)),
    };
    done(retry(|| fs::flock(borrow(fd)?, operation)).0)
}

/// readlink(2)
fn readlink(path: Text) -> Outcome<String> {
    Outcome(fs::readlink(path.0, Vec::new()).map(|target| String::from_utf8_lossy(target.as_bytes()).into_owned()))
}

/// getdents64(2), until the end
fn getdents(path: Text) -> Outcome<Vec<String>> {
    let lossy = |name: OsString| name.to_string_lossy().into_owned();
    let entries = std::fs::read_dir(path.0);
    let names = entries.and_then(|entries| entries.map(|entry| Ok(lossy(entry?.file_name()))).collect());
    Outcome(names.map_err(|error| errno_of(&error)))
}

/// `FileStatus` of `linux/sys.ts`.
struct FileStatus(Stat);

impl<'js> IntoJs<'js> for FileStatus {
    #[allow(clippy::cast_precision_loss)] // doubles are the program's only numbers; sys.ts says what that means
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        let Self(stat) = self;
        let status = Object::new(ctx.clone())?;
        status.set("dev", stat.st_dev as f64)?;
        status.set("ino", stat.st_ino as f64)?;
        status.set("mode", stat.st_mode)?;
        status.set("size", stat.st_size as f64)?;
        status.set("mtimeMs", stat.st_mtime as f64 * 1e3 + stat.st_mtime_nsec as f64 / 1e6)?;
        Ok(status.into_value())
    }
}
