//! The archive: what is written is read, and no damage goes unnoticed.

use std::fs::{self, File};
use std::path::PathBuf;

use weft_runtime::archive::{Archive, ArchiveError, ENGINE, checksum, encode};

fn modules() -> Vec<(String, Vec<u8>)> {
    let large: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    vec![
        ("main-cni.js".into(), b"entry".to_vec()),
        ("large.js".into(), large),
        ("empty.js".into(), Vec::new()),
    ]
}

struct Written(PathBuf);

impl Written {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("weft-archive-{}-{name}", std::process::id()));
        fs::write(&path, bytes).expect("a file");
        Self(path)
    }

    fn open(&self) -> Result<Archive, ArchiveError> {
        Archive::open(File::open(&self.0).expect("the file"))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// An "executable" of 1000 bytes with an archive.
fn executable(modules: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0x90; 1000];
    bytes.extend(encode(1000, modules));
    bytes
}

#[test]
fn modules_are_read_as_they_were_written() {
    let modules = modules();
    let written = Written::new("read", &executable(&modules));
    let archive = written.open().expect("an archive");
    assert_eq!(
        archive.names().collect::<Vec<_>>(),
        ["empty.js", "large.js", "main-cni.js"]
    );
    for (name, bytecode) in &modules {
        assert_eq!(archive.module(name).expect("a module"), bytecode);
    }
    assert!(matches!(archive.module("other.js"), Err(ArchiveError::NoModule(name)) if name == "other.js"));
}

#[test]
fn equal_modules_give_equal_bytes() {
    assert_eq!(executable(&modules()), executable(&modules()));
}

#[test]
fn a_file_without_an_archive_is_told_apart() {
    for bytes in [0, 47, 48, 100_000].map(|length| vec![0; length]) {
        let written = Written::new("none", &bytes);
        assert!(matches!(written.open(), Err(ArchiveError::Missing)));
    }
}

#[test]
fn truncation_at_any_length_is_noticed() {
    let whole = executable(&modules()[..1]);
    for length in 0..whole.len() {
        let written = Written::new("cut", &whole[..length]);
        assert!(written.open().is_err(), "cut to {length} bytes");
    }
}

#[test]
fn any_wrong_byte_is_noticed() {
    let modules = vec![
        ("main-cni.js".to_owned(), b"some bytecode".to_vec()),
        ("b.js".into(), b"x".to_vec()),
    ];
    let whole = executable(&modules);
    for position in 1000..whole.len() {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x10;
        let written = Written::new("byte", &damaged);
        let read_all = written.open().and_then(|archive| {
            archive.module("main-cni.js")?;
            archive.module("b.js").map(|_| ())
        });
        assert!(read_all.is_err(), "byte {position}");
    }
}

#[test]
fn checksums_differ_by_any_bit_and_length() {
    let zeros: Vec<u64> = (0..64).map(|length| checksum(&vec![0; length])).collect();
    let mut all = zeros.clone();
    for bit in 0..200 {
        let mut bytes = [0_u8; 25];
        bytes[bit / 8] |= 1 << (bit % 8);
        all.push(checksum(&bytes));
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn the_engine_is_the_locked_one() {
    let lock = include_str!("../Cargo.lock");
    let (name, version) = ENGINE.split_once(' ').expect("name and version");
    assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")));
}
