//! The host of Weft's CNI executables.
//!
//! One static executable holds QuickJS-ng, the object `Sys` (system calls, nothing else) and, appended to it, an archive of the
//! program's bytecode. What the program does is TypeScript's; what is here knows of no network, container or CNI verb, but for
//! one thing: whatever goes wrong ends as a CNI error document on stdout, since that is all the caller reads.
//!
//! `unsafe` is used for four things, each with its reason beside it: descriptors by their number (which is what the program
//! has of them), ranges of the program's buffers, bytecode of our own, and the calls of libc that rustix has no safe form of:
//! close, bind, setsockopt and sendto with raw addresses, _exit.

pub mod archive;
pub mod failure;
pub mod host;
pub mod sys;
