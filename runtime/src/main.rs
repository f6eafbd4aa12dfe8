//! The runtime: runs the program in this executable's archive. `weft-compile` appends it.
//!
//! It does without the preparations of `std`'s own `main`, which cost more than VERSION does: `host::run` makes those
//! that matter.

#![no_main]

use std::ffi::{CStr, c_char, c_int};

use weft_runtime::heap::GlobalHeap;
use weft_runtime::host;

#[global_allocator]
static HEAP: GlobalHeap = GlobalHeap::new();

/// # Safety
/// Called by libc, with a list of `count` texts that live as long as the process.
// SAFETY: libc calls what has this name, and nothing else has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let text = |at| {
        // SAFETY: the list has so many texts.
        let text = unsafe { CStr::from_ptr(*arguments.add(at)) };
        text.to_string_lossy().into_owned()
    };
    host::run((0..usize::try_from(count).unwrap_or(0)).map(text).collect())
}
