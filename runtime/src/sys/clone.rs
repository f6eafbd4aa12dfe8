//! clone(2): a process of its own that sends one message.
//!
//! sendto(2) of a netlink request can take the kernel far longer than what was asked for: after the deletion of a link it
//! waits until all processors are done with it. Another process can wait for that.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;

use rquickjs::{ArrayBuffer, Ctx, Object, Result};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::process::{Pid, WaitOptions};

use super::values::{Outcome, Range, libc_result, retry};

pub fn add(sys: &Object<'_>) -> Result<()> {
    super::add(sys, "clone_sendto", clone_sendto)?;
    super::add(sys, "waitpid", waitpid)?;
    super::add(sys, "getppid", || Pid::as_raw(rustix::process::getppid()))
}

const STACK_BYTES: usize = 16 * 1024;
const MESSAGE_BYTES: usize = 512;

/// What the child has of this process's memory. Everything else may change while it runs.
#[repr(C, align(16))]
struct Shared {
    stack: [u8; STACK_BYTES],
    message: [u8; MESSAGE_BYTES],
    length: usize,
    fd: i32,
    is_taken: bool,
}

struct Place(UnsafeCell<Shared>);

// SAFETY: the one thread that runs the program takes it, once; from then on it is the child's.
unsafe impl Sync for Place {}

static PLACE: Place = Place(UnsafeCell::new(Shared {
    stack: [0; STACK_BYTES],
    message: [0; MESSAGE_BYTES],
    length: 0,
    fd: -1,
    is_taken: false,
}));

/// clone(2) with `CLONE_VM`; and in the child setsid(2), chdir(2) to `/`, close_range(2) of all other descriptors,
/// sendto(2), _exit(2).
///
/// The child has this process's memory, because to copy it would cost more than all the rest. It lives on if this process
/// ends first. EBUSY for a second child.
fn clone_sendto<'js>(
    ctx: Ctx<'js>,
    fd: i32,
    buffer: ArrayBuffer<'js>,
    offset: f64,
    length: f64,
) -> Result<Outcome<i32>> {
    let range = Range::new(&ctx, buffer, offset, length)?;
    Ok(Outcome(clone(fd, range.bytes())))
}

fn clone(fd: i32, message: &[u8]) -> rustix::io::Result<i32> {
    if message.len() > MESSAGE_BYTES {
        return Err(Errno::MSGSIZE);
    }
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // The child could not tell why it fails. There are no such descriptors: this asks whether the kernel has the call.
    close_range(u32::MAX, u32::MAX)?;
    let shared = PLACE.0.get();
    // SAFETY: no child has it yet, and this thread alone runs the program. The stack grows down from its end, which is
    // aligned, because the structure is and the size is a multiple of 16.
    let pid = unsafe {
        if (*shared).is_taken {
            return Err(Errno::BUSY);
        }
        (&mut (*shared).message)[..message.len()].copy_from_slice(message);
        (*shared).length = message.len();
        (*shared).fd = fd;
        let top = (&raw mut (*shared).stack).cast::<u8>().add(STACK_BYTES);
        let pid = libc::clone(child, top.cast(), libc::CLONE_VM | libc::SIGCHLD, shared.cast());
        (*shared).is_taken = pid > 0;
        pid
    };
    libc_result(pid)
}

/// close_range(2)
fn close_range(first: u32, last: u32) -> rustix::io::Result<i32> {
    // SAFETY: closes descriptors; the caller says which.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    libc_result(if result == -1 { -1 } else { 0 })
}

/// Runs on its own stack beside the parent: it calls nothing that allocates, locks, or sets `errno`, which is the parent's.
extern "C" fn child(shared: *mut c_void) -> c_int {
    // SAFETY: `clone` filled it in, and nobody writes to it any more. The descriptors are this process's own copies.
    unsafe {
        let shared = &*shared.cast::<Shared>();
        let _ = rustix::process::setsid();
        let _ = rustix::process::chdir(c"/");
        let fd = shared.fd.cast_unsigned();
        if fd > 0 {
            libc::syscall(libc::SYS_close_range, 0, fd - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, fd + 1, u32::MAX, 0);
        let socket = BorrowedFd::borrow_raw(shared.fd);
        let message = &(&shared.message)[..shared.length];
        let status = match rustix::net::send(socket, message, SendFlags::empty()) {
            Ok(_) => 0,
            Err(error) => error.raw_os_error(),
        };
        libc::_exit(status)
    }
}

/// waitpid(2) of one child: 0 while it runs, with WNOHANG (1); its id when it has ended.
fn waitpid(pid: i32, options: u32) -> Outcome<i32> {
    let Some(child) = Pid::from_raw(pid) else {
        return Outcome(Err(Errno::CHILD));
    };
    let options = WaitOptions::from_bits_retain(options);
    let ended = retry(|| rustix::process::waitpid(Some(child), options)).0;
    Outcome(ended.map(|ended| if ended.is_some() { pid } else { 0 }))
}
