//! The program's modules, appended to the executable: `executable | bytecode… | index | footer`.
//!
//! The footer is at the end of the file and has a fixed size; the index lists the place of each module. Only the
//! requested modules are read from the disk. Integers are little-endian. Checksums find damage (a truncated copy, a bad disk) before
//! the engine runs the bytecode, which it trusts. They do not protect against someone who can write the file.

use std::fmt;
use std::fs::File;
use std::io;
use std::ptr::null_mut;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mm::{MapFlags, ProtFlags, mmap};

/// The engine that made the bytecode. Another engine refuses it. A test compares this with Cargo.lock.
pub const ENGINE: &str = "rquickjs 0.14.0";

/// The entry module.
pub const ENTRY: &str = "main-cni.js";

const MAGIC: &[u8; 8] = b"WEFTARC1";

/// engine u64, index offset u64, index length u32, modules u32, index checksum u64, file length u64, magic
const FOOTER_BYTES: usize = 48;

/// Why the executable's own program cannot be read.
#[derive(Debug)]
pub enum ArchiveError {
    /// /proc/self/exe cannot be read.
    Unreadable(io::Error),
    /// There is no archive: the file was cut short, or `weft-compile` never ran.
    Missing,
    /// Made for another engine.
    Engine,
    /// The named part differs from what was written.
    Damaged(String),
    /// The archive has no module of this name.
    NoModule(String),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "Cannot read \"/proc/self/exe\": {error}"),
            Self::Missing => write!(
                f,
                "The executable carries no program: it is incomplete, install it again"
            ),
            Self::Engine => write!(
                f,
                "The executable's program was made for another engine than {ENGINE}: build it again"
            ),
            Self::Damaged(what) => write!(f, "The executable is damaged ({what}): install it again"),
            Self::NoModule(name) => write!(f, "The executable has no module \"{name}\""),
        }
    }
}

impl std::error::Error for ArchiveError {}

/// A fast checksum: eight bytes a step, each mixed into all bits (the multiplier is 2^64 divided by the golden ratio).
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = (hash ^ word).wrapping_mul(MULTIPLIER);
        product ^ (product >> 32)
    };
    let mut words = bytes.chunks_exact(8);
    let mut hash = mix(MULTIPLIER, bytes.len() as u64);
    for word in &mut words {
        hash = mix(hash, u64::from_le_bytes(word.try_into().unwrap_or_default()));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(hash, u64::from_le_bytes(last))
}

/// The bytes to append to an executable of `executable_bytes` bytes. The entry module comes last, next to the index, so
/// that starting it reads one place.
#[must_use]
pub fn encode(executable_bytes: u64, modules: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut index = Vec::new();
    for (name, bytecode) in modules.iter().rev() {
        let offset = executable_bytes + archive.len() as u64;
        archive.extend_from_slice(bytecode);
        index.extend_from_slice(&length32(name.len()));
        index.extend_from_slice(name.as_bytes());
        index.extend_from_slice(&offset.to_le_bytes());
        index.extend_from_slice(&length32(bytecode.len()));
        index.extend_from_slice(&checksum(bytecode).to_le_bytes());
    }
    let index_offset = executable_bytes + archive.len() as u64;
    archive.extend_from_slice(&index);
    let file_bytes = executable_bytes + (archive.len() + FOOTER_BYTES) as u64;
    archive.extend_from_slice(&checksum(ENGINE.as_bytes()).to_le_bytes());
    archive.extend_from_slice(&index_offset.to_le_bytes());
    archive.extend_from_slice(&length32(index.len()));
    archive.extend_from_slice(&length32(modules.len()));
    archive.extend_from_slice(&checksum(&index).to_le_bytes());
    archive.extend_from_slice(&file_bytes.to_le_bytes());
    archive.extend_from_slice(MAGIC);
    archive
}

fn length32(length: usize) -> [u8; 4] {
    u32::try_from(length)
        .expect("a module is smaller than 4 GiB")
        .to_le_bytes()
}

struct Entry {
    name: String,
    offset: u64,
    length: usize,
    checksum: u64,
}

/// An executable's archive, open for reading.
pub struct Archive {
    /// The whole file. It is mapped as long as the process lives, because the engine keeps pointers into the bytecode.
    bytes: &'static [u8],
    index: Vec<Entry>,
}

impl Archive {
    /// The archive of the executable that is running.
    pub fn open_own() -> Result<Self, ArchiveError> {
        // One call: by musl, `File::open` makes two.
        let opened = openat(CWD, "/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Self::open(opened.map_err(|error| ArchiveError::Unreadable(error.into()))?.into())
    }

    /// The archive at the end of `file`.
    pub fn open(file: File) -> Result<Self, ArchiveError> {
        let bytes = map(&file)?;
        let file_bytes = bytes.len() as u64;
        let footer = bytes.last_chunk::<FOOTER_BYTES>().ok_or(ArchiveError::Missing)?;
        let mut fields = Reader(footer);
        let engine = fields.u64()?;
        let index_offset = fields.u64()?;
        let index_length = fields.length()?;
        let modules = fields.length()?;
        let index_checksum = fields.u64()?;
        let written_bytes = fields.u64()?;
        if fields.0 != MAGIC {
            return Err(ArchiveError::Missing);
        }
        if engine != checksum(ENGINE.as_bytes()) {
            return Err(ArchiveError::Engine);
        }
        let index_end = index_offset.checked_add(index_length as u64 + FOOTER_BYTES as u64);
        if written_bytes != file_bytes || index_end != Some(file_bytes) {
            return Err(ArchiveError::Damaged(format!(
                "it has {file_bytes} bytes instead of {written_bytes}"
            )));
        }
        let mut archive = Self {
            bytes,
            index: Vec::new(),
        };
        let index = archive.bytes(index_offset, index_length)?;
        if checksum(index) != index_checksum {
            return Err(ArchiveError::Damaged("index".into()));
        }
        let mut fields = Reader(index);
        for _ in 0..modules {
            archive.index.push(fields.entry()?);
        }
        Ok(archive)
    }

    /// The bytecode of a module.
    pub fn module(&self, name: &str) -> Result<&'static [u8], ArchiveError> {
        let found = self.index.iter().find(|entry| entry.name == name);
        let entry = found.ok_or_else(|| ArchiveError::NoModule(name.into()))?;
        let bytecode = self.bytes(entry.offset, entry.length)?;
        if checksum(bytecode) != entry.checksum {
            return Err(ArchiveError::Damaged(format!("module \"{name}\"")));
        }
        Ok(bytecode)
    }

    /// The names of all modules, the entry module last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.iter().map(|entry| entry.name.as_str())
    }

    fn bytes(&self, offset: u64, length: usize) -> Result<&'static [u8], ArchiveError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.checked_add(length);
        end.and_then(|end| self.bytes.get(start..end))
            .ok_or_else(|| ArchiveError::Damaged("too short".into()))
    }
}

/// Maps the file: only the pages that are looked at are read.
fn map(file: &File) -> Result<&'static [u8], ArchiveError> {
    let length = file.metadata().map_err(ArchiveError::Unreadable)?.len();
    let length = usize::try_from(length).unwrap_or(0);
    if length == 0 {
        return Err(ArchiveError::Missing);
    }
    // SAFETY: a new mapping, which is never unmapped nor written to. Nobody else writes to the file either: it is the
    // executable that is running, whose code the kernel has mapped in the same way.
    unsafe {
        let mapped = mmap(null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, 0);
        let start = mapped.map_err(|error| ArchiveError::Unreadable(error.into()))?;
        Ok(std::slice::from_raw_parts(start.cast(), length))
    }
}

/// Takes fields off the front of a footer or an index.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ArchiveError> {
        let taken = self
            .0
            .get(..length)
            .ok_or_else(|| ArchiveError::Damaged("index too short".into()))?;
        self.0 = &self.0[length..];
        Ok(taken)
    }

    fn u64(&mut self) -> Result<u64, ArchiveError> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().unwrap_or_default()))
    }

    fn length(&mut self) -> Result<usize, ArchiveError> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().unwrap_or_default()) as usize)
    }

    fn entry(&mut self) -> Result<Entry, ArchiveError> {
        let length = self.length()?;
        let name = String::from_utf8_lossy(self.take(length)?).into_owned();
        Ok(Entry {
            name,
            offset: self.u64()?,
            length: self.length()?,
            checksum: self.u64()?,
        })
    }
}
