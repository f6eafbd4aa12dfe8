//! The end of the process after an error: a CNI error document on stdout, exit status 1.

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Whether the program has written to stdout: a second document there would make both unreadable.
static STDOUT_USED: AtomicBool = AtomicBool::new(false);

/// Called for each write to stdout.
pub fn note_stdout_used() {
    STDOUT_USED.store(true, Ordering::Relaxed);
}

/// The description of a failure.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// One sentence.
    pub message: String,
    /// Where it happened, if that is known.
    pub details: String,
}

impl Failure {
    /// A failure without details.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            details: String::new(),
        }
    }

    /// The document, as CNI 1.1.0 wants it; 999 is CNI's code for an internal error.
    #[must_use]
    pub fn document(&self) -> String {
        let mut text = String::from("{\"cniVersion\":\"1.1.0\",\"code\":999,\"msg\":");
        append_json(&mut text, &self.message);
        if !self.details.is_empty() {
            text.push_str(",\"details\":");
            append_json(&mut text, &self.details);
        }
        text.push_str("}\n");
        text
    }

    /// Writes the document and ends the process. It goes to stderr if the program has already written to stdout.
    pub fn end(&self) -> ! {
        let document = self.document();
        if STDOUT_USED.load(Ordering::Relaxed) {
            write_all(std::io::stderr().as_fd(), document.as_bytes());
        } else {
            write_all(std::io::stdout().as_fd(), document.as_bytes());
        }
        exit(1)
    }
}

/// Ends the process at once, without destructors and without flushing libc's buffers.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit takes any number and does not return.
    unsafe { libc::_exit(status) }
}

/// A file that would grow beyond the process's limit (RLIMIT_FSIZE) gives EFBIG, and a pipe without a reader EPIPE. The
/// signals would end the process without a document.
pub fn ignore_signals() {
    for signal in [libc::SIGXFSZ, libc::SIGPIPE] {
        // SAFETY: an ignored signal runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Opens /dev/null for stdin, stdout and stderr if the caller has closed them. Otherwise the next file to be opened would
/// get such a number, and the answer would be written into it.
pub fn open_standard_descriptors() {
    let is_closed = |fd: i32| {
        // SAFETY: fcntl(2) with F_GETFD says EBADF if the descriptor is not open.
        (unsafe { libc::fcntl(fd, libc::F_GETFD) }) < 0
    };
    for fd in 0..=2 {
        if is_closed(fd) {
            // The lowest number that is free: this one, because those before it are open by now.
            let flags = OFlags::RDWR;
            match rustix::fs::open("/dev/null", flags, Mode::empty()) {
                Ok(opened) => std::mem::forget(opened),
                Err(_) => exit(1),
            }
        }
    }
}

/// A panic ends as an error document too, instead of as a core dump.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let cause = panic.payload();
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or_else(|| cause.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        let details = panic.location().map(ToString::to_string).unwrap_or_default();
        Failure {
            message: format!("The runtime has failed: {text}"),
            details,
        }
        .end()
    }));
}

/// Writes everything, and waits if the descriptor is non-blocking and full. If the reader is gone, the error is
/// ignored.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return,
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}

/// Appends `value` as a JSON string (RFC 8259 section 7).
fn append_json(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            control if control < ' ' => {
                let _ = write!(text, "\\u{:04x}", u32::from(control));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn documents_are_json() {
        let failure = Failure {
            message: "a \"b\"\\\u{1}\té".into(),
            details: "x\ny\r".into(),
        };
        assert_eq!(
            failure.document(),
            "{\"cniVersion\":\"1.1.0\",\"code\":999,\"msg\":\"a \\\"b\\\"\\\\\\u0001\\té\",\"details\":\"x\\ny\\r\"}\n"
        );
        assert_eq!(
            Failure::new("m").document(),
            "{\"cniVersion\":\"1.1.0\",\"code\":999,\"msg\":\"m\"}\n"
        );
    }
}
