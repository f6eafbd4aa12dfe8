//! Sockets, and waiting for them.

use std::num::NonZeroU32;
use std::os::fd::IntoRawFd;
use std::time::{Duration, Instant};

use rquickjs::{ArrayBuffer, Ctx, Object, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType};

use super::values::{Outcome, Range, borrow, last_errno, libc_result, retry};

pub fn add(sys: &Object<'_>) -> Result<()> {
    super::add(sys, "socket", socket)?;
    super::add(sys, "bind", bind)?;
    super::add(sys, "setsockopt", setsockopt)?;
    super::add(sys, "sendto", sendto)?;
    super::add(sys, "recv", recv)?;
    super::add(sys, "recvfrom", recvfrom)?;
    super::add(sys, "poll", poll)
}

/// The bits of socket(2)'s type that are the type; the rest are `SOCK_*` flags.
const SOCK_TYPE_MASK: u32 = 0xf;

/// socket(2)
fn socket(domain: i32, kind: u32, protocol: u32) -> Outcome<i32> {
    let Ok(domain) = u16::try_from(domain) else {
        return Outcome(Err(Errno::AFNOSUPPORT));
    };
    let flags = SocketFlags::from_bits_retain(kind & !SOCK_TYPE_MASK) | SocketFlags::CLOEXEC;
    let kind = SocketType::from_raw(kind & SOCK_TYPE_MASK);
    let protocol = NonZeroU32::new(protocol).map(Protocol::from_raw);
    let socket = retry(|| rustix::net::socket_with(AddressFamily::from_raw(domain), kind, flags, protocol));
    Outcome(socket.0.map(IntoRawFd::into_raw_fd))
}

/// bind(2)
fn bind(fd: i32, address: ArrayBuffer<'_>) -> Outcome<i32> {
    let address = Range::whole(address);
    let bytes = address.bytes();
    // SAFETY: pointer and length are those of `bytes`; the kernel copies them and checks what they say.
    Outcome(libc_result(unsafe {
        libc::bind(fd, bytes.as_ptr().cast(), socklen(bytes))
    }))
}

/// setsockopt(2)
fn setsockopt(fd: i32, level: i32, option: i32, value: ArrayBuffer<'_>) -> Outcome<i32> {
    let value = Range::whole(value);
    let bytes = value.bytes();
    // SAFETY: pointer and length are those of `bytes`; the kernel copies them and checks what they say.
    Outcome(libc_result(unsafe {
        libc::setsockopt(fd, level, option, bytes.as_ptr().cast(), socklen(bytes))
    }))
}

/// sendto(2)
fn sendto<'js>(
    ctx: Ctx<'js>,
    fd: i32,
    buffer: ArrayBuffer<'js>,
    offset: f64,
    length: f64,
    flags: i32,
    address: Option<ArrayBuffer<'js>>,
) -> Result<Outcome<usize>> {
    let range = Range::new(&ctx, buffer, offset, length)?;
    let address = address.map(Range::whole);
    let (bytes, address) = (range.bytes(), address.as_ref().map_or(&[][..], Range::bytes));
    let pointer = if address.is_empty() {
        std::ptr::null()
    } else {
        address.as_ptr().cast()
    };
    Ok(retry(|| {
        // SAFETY: pointers and lengths are those of `bytes` and `address`, or null and 0; the kernel only reads them.
        let sent = unsafe { libc::sendto(fd, bytes.as_ptr().cast(), bytes.len(), flags, pointer, socklen(address)) };
        usize::try_from(sent).map_err(|_| last_errno())
    }))
}

/// recv(2)
fn recv<'js>(
    ctx: Ctx<'js>,
    fd: i32,
    buffer: ArrayBuffer<'js>,
    offset: f64,
    length: f64,
    flags: u32,
) -> Result<Outcome<usize>> {
    let mut range = Range::new(&ctx, buffer, offset, length)?;
    let flags = RecvFlags::from_bits_retain(flags);
    Ok(Outcome(
        retry(|| rustix::net::recv(borrow(fd)?, range.bytes_mut(), flags))
            .0
            .map(|(_, length)| length),
    ))
}

/// recvfrom(2)
#[allow(clippy::too_many_arguments)]
fn recvfrom<'js>(
    ctx: Ctx<'js>,
    fd: i32,
    buffer: ArrayBuffer<'js>,
    offset: f64,
    length: f64,
    flags: i32,
    address: ArrayBuffer<'js>,
) -> Result<Outcome<usize>> {
    let mut range = Range::new(&ctx, buffer, offset, length)?;
    let mut address = Range::whole(address);
    let (bytes, address) = (range.bytes_mut(), address.bytes_mut());
    Ok(retry(|| {
        let mut size = socklen(address);
        // SAFETY: pointers and lengths are those of `bytes` and `address`; the kernel writes no more than these.
        let got = unsafe {
            libc::recvfrom(
                fd,
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                flags,
                address.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        usize::try_from(got).map_err(|_| last_errno())
    }))
}

/// poll(2), of one descriptor, for readability
fn poll(fd: i32, timeout_ms: f64) -> Outcome<usize> {
    let deadline = (timeout_ms >= 0.0).then(|| Instant::now() + Duration::from_secs_f64(timeout_ms.min(1e12) / 1e3));
    retry(|| {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        rustix::event::poll(
            &mut [PollFd::from_borrowed_fd(borrow(fd)?, PollFlags::IN)],
            left.as_ref(),
        )
    })
}

#[allow(clippy::cast_possible_truncation)] // addresses and options are short; the kernel refuses what is not
fn socklen(bytes: &[u8]) -> libc::socklen_t {
    bytes.len() as libc::socklen_t
}
