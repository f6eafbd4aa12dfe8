//! Converts values between the program and the system: results with an errno, ranges of buffers, texts.

use std::os::fd::BorrowedFd;

use rquickjs::{
    ArrayBuffer, Ctx, Error, Exception, FromJs, Function, IntoJs, Object, Result, String as JsString, Value,
};
use rustix::io::Errno;

/// The result of a system call; an error becomes the negative errno.
pub struct Outcome<T>(pub rustix::io::Result<T>);

impl<'js, T: IntoJs<'js>> IntoJs<'js> for Outcome<T> {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        match self.0 {
            Ok(value) => value.into_js(ctx),
            Err(errno) => (-errno.raw_os_error()).into_js(ctx),
        }
    }
}

/// A call without a result: 0.
pub fn done(result: rustix::io::Result<()>) -> Outcome<i32> {
    Outcome(result.map(|()| 0))
}

/// Repeats a call while it is interrupted.
pub fn retry<T>(call: impl FnMut() -> rustix::io::Result<T>) -> Outcome<T> {
    Outcome(rustix::io::retry_on_intr(call))
}

/// The result of a libc call, or its negative errno if the result is −1.
pub fn libc_result(result: libc::c_int) -> rustix::io::Result<i32> {
    if result == -1 {
        return Err(last_errno());
    }
    Ok(result)
}

/// errno of this thread.
pub fn last_errno() -> Errno {
    errno_of(&std::io::Error::last_os_error())
}

/// The errno of an error of the standard library; EINVAL if it refused before the system call (a NUL in a path).
pub fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}

/// The descriptor `fd`, for the time of one call.
pub fn borrow<'fd>(fd: i32) -> rustix::io::Result<BorrowedFd<'fd>> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not −1, and used for one system call only, which says EBADF if it is not open.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// buffer[offset, offset + length).
pub struct Range<'js> {
    buffer: ArrayBuffer<'js>,
    start: usize,
    length: usize,
}

impl<'js> Range<'js> {
    /// Throws a RangeError if the buffer has no such range.
    pub fn new(ctx: &Ctx<'js>, buffer: ArrayBuffer<'js>, offset: f64, length: f64) -> Result<Self> {
        let size = buffer.len();
        match (index(offset), index(length)) {
            (Some(start), Some(length)) if start.checked_add(length).is_some_and(|end| end <= size) => {
                Ok(Self { buffer, start, length })
            }
            _ => Err(Exception::throw_range(ctx, "Length out of range of buffer")),
        }
    }

    /// The whole buffer.
    pub fn whole(buffer: ArrayBuffer<'js>) -> Self {
        Self {
            start: 0,
            length: buffer.len(),
            buffer,
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self.buffer.as_raw() {
            // SAFETY: the range was checked, and the program, which alone could detach or resize the buffer, does not
            // run before the system call has returned.
            Some(all) if self.length > 0 => unsafe { &all.as_ref()[self.start..self.start + self.length] },
            _ => &[],
        }
    }

    /// The bytes, to be written to.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self.buffer.as_raw() {
            // SAFETY: as above; and no other reference to these bytes exists meanwhile.
            Some(mut all) if self.length > 0 => unsafe { &mut all.as_mut()[self.start..self.start + self.length] },
            _ => &mut [],
        }
    }
}

/// A new buffer of the program with these bytes. They are copied, so that they count towards its memory limit.
pub fn buffer_of<'js>(ctx: Ctx<'js>, bytes: &[u8]) -> Result<ArrayBuffer<'js>> {
    ArrayBuffer::new_copy(ctx, bytes)
}

/// A number as an index: whole, not negative, and small enough to be exact.
fn index(number: f64) -> Option<usize> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked
    ((0.0..EXACT).contains(&number) && number.fract() == 0.0).then_some(number as usize)
}

/// A text of the program, as UTF-8. Unpaired surrogates, which UTF-8 cannot hold, become U+FFFD.
pub struct Text(pub String);

impl<'js> FromJs<'js> for Text {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        let text = JsString::from_value(value)?;
        match text.to_string() {
            Ok(text) => Ok(Self(text)),
            Err(Error::Utf8(_)) => {
                let prototype: Object = ctx.globals().get::<_, Object>("String")?.get("prototype")?;
                let to_well_formed: Function = prototype.get("toWellFormed")?;
                let well_formed: JsString = to_well_formed.call((rquickjs::function::This(text),))?;
                Ok(Self(well_formed.to_string()?))
            }
            Err(other) => Err(other),
        }
    }
}

pub fn add(sys: &Object<'_>) -> Result<()> {
    super::add(sys, "decodeUtf8", decode_utf8)?;
    super::add(sys, "encodeUtf8", encode_utf8)
}

/// UTF-8 text of buffer[offset, offset + length); malformed bytes become U+FFFD.
fn decode_utf8<'js>(ctx: Ctx<'js>, buffer: ArrayBuffer<'js>, offset: f64, length: f64) -> Result<JsString<'js>> {
    let range = Range::new(&ctx, buffer, offset, length)?;
    JsString::from_str(ctx, &String::from_utf8_lossy(range.bytes()))
}

/// The UTF-8 bytes of a text.
fn encode_utf8(ctx: Ctx<'_>, text: Text) -> Result<ArrayBuffer<'_>> {
    buffer_of(ctx, text.0.as_bytes())
}
