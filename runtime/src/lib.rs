//! The host of Weft's CNI executables.
//!
//! One static executable holds QuickJS-ng, the object `Sys` (system calls, nothing else) and, appended to it, an
//! archive of the program's bytecode. All logic is in TypeScript. This crate knows no network, container or CNI verb,
//! with one exception: every error ends as a CNI error document on stdout, because the caller reads nothing else.
//!
//! `unsafe` is used for six things, each with its reason beside it: descriptors by their number, which is all that the
//! program has, ranges of the program's buffers, bytecode of our own, the mapped executable, the heap, and the calls of
//! libc that rustix has no safe form of: close, close_range, bind, setsockopt and sendto with raw addresses, signal, clone,
//! _exit.

pub mod archive;
pub mod failure;
pub mod heap;
pub mod host;
pub mod sys;
