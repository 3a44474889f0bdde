//! The libraries that a program needs, and theirs, as the dynamic linker finds them.
//!
//! Looks where `ld.so` looks, in its order: `DT_RPATH` or `DT_RUNPATH` (with `$ORIGIN`), the
//! directories of `/etc/ld.so.conf`, then the built-in ones. Does not read `ld.so.cache` (it only
//! repeats the directories) nor `LD_LIBRARY_PATH` (it is not the file's).
//!
//! # Source
//! man 8 ld.so, "DESCRIPTION".

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use object::elf;
use serde::Serialize;

use super::raw::Raw;

/// One library and what it needs itself.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Needed {
    /// The name that was asked for.
    pub(crate) name: String,
    /// Where it was found.
    pub(crate) path: Option<PathBuf>,
    /// What it needs; empty if it was named before.
    pub(crate) needs: Vec<Self>,
    /// Whether it stands further up in the list and is loaded only once.
    pub(crate) is_known: bool,
}

/// Files with more bytes are not looked into as libraries.
const LIBRARY_BYTES_MAX: u64 = 1 << 30;
/// A chain of libraries is not followed further.
const DEPTH_MAX: usize = 64;

/// The libraries of the program at `path`.
pub(super) fn tree(raw: &Raw, file: &[u8], path: &Path) -> Vec<Needed> {
    let mut search = Search {
        known: BTreeSet::new(),
        system: system_directories(raw),
        program: (raw.machine, raw.bits),
    };
    search.level(raw, file, path, 0)
}

/// A library's path, headers and bytes.
type Library = (PathBuf, Raw, Vec<u8>);

struct Search {
    known: BTreeSet<String>,
    system: Vec<PathBuf>,
    program: (elf::Machine, u32),
}

impl Search {
    fn level(&mut self, raw: &Raw, file: &[u8], path: &Path, depth: usize) -> Vec<Needed> {
        let needed = raw.dynamic.iter().filter(|entry| entry.0 == elf::DT_NEEDED);
        let names: Vec<String> =
            needed.filter_map(|entry| raw.dynamic_text(file, entry.1)).collect();
        let own = own_directories(raw, file, path);
        let mut list = Vec::new();
        // What one file names comes before what its libraries name, as in the loader's list.
        for name in names {
            let is_known = !self.known.insert(name.clone());
            let found = self.find(&name, &own);
            list.push((name, found, is_known));
        }
        let follow = |(name, found, is_known): (String, Option<Library>, bool)| {
            let needs = match &found {
                Some((path, raw, bytes)) if !is_known && depth < DEPTH_MAX => {
                    self.level(raw, bytes, path, depth + 1)
                }
                _ => Vec::new(),
            };
            Needed { name, path: found.map(|(path, _, _)| path), needs, is_known }
        };
        list.into_iter().map(follow).collect()
    }

    /// The first file of that name that is for the same machine.
    fn find(&self, name: &str, own: &[PathBuf]) -> Option<Library> {
        if name.contains('/') {
            return self.open(PathBuf::from(name));
        }
        own.iter().chain(&self.system).find_map(|directory| self.open(directory.join(name)))
    }

    fn open(&self, path: PathBuf) -> Option<Library> {
        let data = fs::metadata(&path).ok()?;
        if !data.is_file() || data.len() > LIBRARY_BYTES_MAX {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        let raw = super::parse(&bytes).ok()?;
        ((raw.machine, raw.bits) == self.program).then_some((path, raw, bytes))
    }
}

/// `DT_RUNPATH`, or without it `DT_RPATH`, with `$ORIGIN` replaced by the file's directory.
fn own_directories(raw: &Raw, file: &[u8], path: &Path) -> Vec<PathBuf> {
    let tags = [elf::DT_RUNPATH, elf::DT_RPATH];
    let Some(offset) = tags.into_iter().find_map(|tag| raw.dynamic_value(tag)) else {
        return Vec::new();
    };
    let text = raw.dynamic_text(file, offset).unwrap_or_default();
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let origin = full.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let library = if raw.bits == 64 { "lib64" } else { "lib" };
    let parts = text.split(':').filter(|part| !part.is_empty()).map(|part| {
        part.replace("$ORIGIN", &origin)
            .replace("${ORIGIN}", &origin)
            .replace("$LIB", library)
            .replace("${LIB}", library)
    });
    parts.map(PathBuf::from).collect()
}

/// The directories of every program of that machine.
fn system_directories(raw: &Raw) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    configured(Path::new("/etc/ld.so.conf"), &mut directories, 0);
    let built_in: &[&str] = match raw.machine {
        elf::EM_X86_64 => &[
            "/lib/x86_64-linux-gnu",
            "/usr/lib/x86_64-linux-gnu",
            "/lib64",
            "/usr/lib64",
            "/lib",
            "/usr/lib",
        ],
        elf::EM_386 => &[
            "/lib/i386-linux-gnu",
            "/usr/lib/i386-linux-gnu",
            "/lib32",
            "/usr/lib32",
            "/lib",
            "/usr/lib",
        ],
        _ => &["/lib", "/usr/lib"],
    };
    directories.extend(built_in.iter().map(PathBuf::from));
    directories
}

/// Directories of a file of `ldconfig`, and of those that it includes.
fn configured(path: &Path, directories: &mut Vec<PathBuf>, depth: u32) {
    let text = fs::read_to_string(path).unwrap_or_default();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line.strip_prefix("include") {
            Some(pattern) if depth < 4 => {
                for file in matching(Path::new(pattern.trim())) {
                    configured(&file, directories, depth + 1);
                }
            }
            None if line.starts_with('/') => directories.push(PathBuf::from(line)),
            _ => {}
        }
    }
}

/// The files of a directory whose name fits `*` and an ending; the pattern itself without `*`.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned());
    let (Some(directory), Some(name)) = (pattern.parent(), name) else { return Vec::new() };
    let Some((start, end)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(start) && name.ends_with(end)
        })
        .collect();
    files.sort();
    files
}
