//! The host of Weft's CNI executables.
//!
//! One static executable holds QuickJS-ng, the object `Sys` (system calls, nothing else) and, appended to it, an archive of the
//! program's bytecode. What the program does is TypeScript's; what is here knows of no network, container or CNI verb, but for
//! one thing: whatever goes wrong ends as a CNI error document on stdout, since that is all the caller reads.

pub mod archive;
pub mod failure;
pub mod host;
pub mod sys;
