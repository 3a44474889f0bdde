//! Machines and TLBs by name or from a file, and the commands that show them.

mod file;

use std::io::{self, Write};

use machine::{Array, Geometry, Large, LevelSpec, PageSize, TlbMode, TlbSpec, tlb_preset};
use mm::kernel_space::{KernelSpace, SpaceConfig, SpaceError};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
pub(crate) use file::MachineFile;

/// RAM unless told otherwise, bytes.
pub(crate) const RAM_DEFAULT: u64 = 4 << 30;
/// The page-table format of a machine that names none.
pub(crate) const MACHINE_DEFAULT: &str = "x86-64";
/// Page-table formats on which programs run.
const GEOMETRIES: [(&str, Geometry, &str); 4] = [
    ("x86-64", Geometry::X86_64, "4 levels, 48-bit addresses"),
    ("x86-64-la57", Geometry::La57, "5 levels, 57-bit addresses"),
    ("i386", Geometry::I386, "2 levels, 32-bit addresses; i386 programs only"),
    ("i386-pae", Geometry::Pae, "3 levels, 32-bit addresses, NX; i386 programs only"),
];

/// Reads a file with all that it describes.
fn read_toml<T: for<'de> Deserialize<'de>>(path: &str, accepted: &str) -> Result<T, Failure> {
    let text = read_file(path)?;
    toml::from_str(&text).map_err(|error| wrong_toml(path, &text, &error, accepted))
}

fn read_file(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::own(format!("{path}: {error}; give a readable file")))
}

/// What is wrong with the form of a file, and in which line.
fn wrong_toml(path: &str, text: &str, error: &toml::de::Error, accepted: &str) -> Failure {
    let line = line_of(text, error.span());
    let why = error.message().lines().next().unwrap_or("not TOML").to_owned();
    Failure::own(format!("{path}, line {line}: {why}; the keys are {accepted}"))
}

/// The number of the line where something stands.
fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let before = span.map_or(0, |span| span.start);
    1 + text.bytes().take(before).filter(|byte| *byte == b'\n').count()
}

/// The page-table format with this name, and the name.
///
/// # Errors
/// Exit code 125: there is none.
pub(crate) fn find_geometry(name: &str) -> Result<(&'static str, Geometry), Failure> {
    if let Some((name, geometry, _)) = GEOMETRIES.iter().find(|each| each.0 == name) {
        return Ok((*name, *geometry));
    }
    let names = geometry_names();
    Err(Failure::own(format!("--machine {name}: no such machine; give {names} or a .toml file")))
}

/// The names of all page-table formats, for a message.
fn geometry_names() -> String {
    GEOMETRIES.map(|each| each.0).join(", ")
}

/// Refuses a split that no kernel for these page tables has.
///
/// # Errors
/// [`SpaceError::PageOffset`], [`SpaceError::NoSplit`].
pub(crate) fn check_page_offset(geometry: Geometry, page_offset: u64) -> Result<(), SpaceError> {
    // How much RAM there is makes no difference.
    let usual = SpaceConfig::new(geometry, 1 << 30);
    KernelSpace::new(SpaceConfig { page_offset: Some(page_offset), ..usual }).map(drop)
}

/// The TLBs with this name, or in this file.
///
/// # Errors
/// Exit code 125: there are none.
pub(crate) fn find_tlb(name: &str) -> Result<TlbMode, Failure> {
    if name == "off" {
        return Ok(TlbMode::Off);
    }
    if name.ends_with(".toml") {
        return read_toml::<TlbFile>(name, TlbFile::KEYS)?.into_spec(name).map(TlbMode::Model);
    }
    match tlb_preset(name) {
        Some(spec) => Ok(TlbMode::Model(*spec)),
        None => {
            let names: Vec<&str> = machine::tlb_presets().iter().map(|spec| spec.name).collect();
            let names = names.join(", ");
            Err(Failure::own(format!(
                "--tlb {name}: no such TLBs; give {names}, off or a .toml file"
            )))
        }
    }
}

/// TLBs as a file describes them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlbFile {
    name: String,
    #[serde(default)]
    source: String,
    l1d: LevelFile,
    l1i: LevelFile,
    #[serde(default, skip_serializing_if = "LevelFile::is_none")]
    l2: LevelFile,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    l2i: Option<LevelFile>,
}

/// One level in a file.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k4: Option<ArrayFile>,
    #[serde(default)]
    m2: LargeFile,
    #[serde(default)]
    g1: LargeFile,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArrayFile {
    entries: u16,
    ways: u16,
}

#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum LargeFile {
    Own(ArrayFile),
    Word(LargeWord),
    #[default]
    Absent,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LargeWord {
    Shared,
    Absent,
}

impl TlbFile {
    const KEYS: &'static str = "name, source, l1d, l1i, l2 and l2i (see `faultline machine show`)";

    fn from_spec(spec: &TlbSpec) -> Self {
        Self {
            name: spec.name.to_owned(),
            source: spec.source.to_owned(),
            l1d: LevelFile::from_spec(spec.l1d),
            l1i: LevelFile::from_spec(spec.l1i),
            l2: LevelFile::from_spec(spec.l2),
            l2i: spec.l2i.map(LevelFile::from_spec),
        }
    }

    fn into_spec(self, path: &str) -> Result<TlbSpec, Failure> {
        let level = |name: &str, level: &LevelFile| {
            level.to_spec().ok_or_else(|| {
                let rule = "entries / ways must be a power of two, ways from 1 to 256";
                Failure::own(format!("{path}, {name}: no such array; {rule}"))
            })
        };
        if self.l1d.k4.is_none() || self.l1i.k4.is_none() {
            let why = "a first level has no k4; give k4 = { entries = N, ways = N }";
            return Err(Failure::own(format!("{path}: {why}")));
        }
        Ok(TlbSpec {
            l1d: level("l1d", &self.l1d)?,
            l1i: level("l1i", &self.l1i)?,
            l2: level("l2", &self.l2)?,
            l2i: self.l2i.as_ref().map(|l2i| level("l2i", l2i)).transpose()?,
            // Once for each run: the specification lives as long as the process.
            name: self.name.leak(),
            source: self.source.leak(),
        })
    }
}

impl LevelFile {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn from_spec(spec: LevelSpec) -> Self {
        Self {
            k4: (spec.k4 != Array::NONE).then(|| ArrayFile::from_spec(spec.k4)),
            m2: LargeFile::from_spec(spec.m2),
            g1: LargeFile::from_spec(spec.g1),
        }
    }

    fn to_spec(&self) -> Option<LevelSpec> {
        Some(LevelSpec {
            k4: self.k4.map_or(Some(Array::NONE), ArrayFile::to_spec)?,
            m2: self.m2.to_spec()?,
            g1: self.g1.to_spec()?,
        })
    }
}

impl ArrayFile {
    fn from_spec(spec: Array) -> Self {
        let number = |count| u16::try_from(count).expect("an array has at most 65,535 entries");
        Self { entries: number(spec.entries()), ways: number(spec.ways()) }
    }

    fn to_spec(self) -> Option<Array> {
        if self.ways == 0 || !self.entries.is_multiple_of(self.ways) {
            return None;
        }
        Array::new(self.entries / self.ways, self.ways)
    }
}

impl LargeFile {
    fn from_spec(spec: Large) -> Self {
        match spec {
            Large::Shared => Self::Word(LargeWord::Shared),
            Large::Own(array) => Self::Own(ArrayFile::from_spec(array)),
            Large::Absent => Self::Word(LargeWord::Absent),
        }
    }

    fn to_spec(&self) -> Option<Large> {
        match self {
            Self::Own(array) => array.to_spec().map(Large::Own),
            Self::Word(LargeWord::Shared) => Some(Large::Shared),
            Self::Word(LargeWord::Absent) | Self::Absent => Some(Large::Absent),
        }
    }
}

/// A page-table format for people and machines.
#[derive(Serialize)]
struct GeometryView {
    name: &'static str,
    description: &'static str,
    levels: u32,
    entry_bytes: u64,
    address_bits: u32,
    physical_bits: u32,
    page_bytes: Vec<u64>,
}

impl GeometryView {
    fn new(name: &'static str, geometry: Geometry, description: &'static str) -> Self {
        let leaf_sizes = (0..geometry.levels()).filter_map(|level| geometry.leaf_size(level));
        Self {
            name,
            description,
            levels: geometry.levels(),
            entry_bytes: geometry.entry_bytes(),
            address_bits: geometry.address_bits(),
            physical_bits: geometry.physical_bits(),
            page_bytes: leaf_sizes.map(PageSize::bytes).collect(),
        }
    }

    fn all() -> Vec<Self> {
        GEOMETRIES.map(|(name, geometry, text)| Self::new(name, geometry, text)).into()
    }
}

/// `faultline machine list`.
///
/// # Errors
/// Exit code 125: stdout cannot be written.
pub(crate) fn list(is_json: bool) -> Result<(), Failure> {
    let tlbs = machine::tlb_presets();
    if is_json {
        let tlbs: Vec<TlbFile> = tlbs.iter().map(TlbFile::from_spec).collect();
        let all = serde_json::json!({ "machines": GeometryView::all(), "tlbs": tlbs });
        return print(&format!("{all:#}\n"));
    }
    let mut text = String::from("machines (--machine)\n");
    for view in GeometryView::all() {
        text += &format!("  {:<16} {}\n", view.name, view.description);
    }
    text += "\nTLBs (--tlb)        L1 data   L1 instr.        L2   (4 KiB entries)\n";
    for (index, spec) in tlbs.iter().enumerate() {
        let [l1d, l1i, l2] = [spec.l1d, spec.l1i, spec.l2].map(|level| level.k4.entries());
        let note = if index == 0 { "   default" } else { "" };
        text += &format!("  {:<16} {l1d:>9} {l1i:>11} {l2:>9}{note}\n", spec.name);
    }
    text += "  off                                           no TLB is modelled; paging is\n";
    print(&text)
}

/// `faultline machine show NAME`.
///
/// # Errors
/// Exit code 125: no such name, or stdout cannot be written.
pub(crate) fn show(name: &str, is_json: bool) -> Result<(), Failure> {
    if let Some(view) = GeometryView::all().into_iter().find(|view| view.name == name) {
        let text = match is_json {
            true => {
                serde_json::to_string_pretty(&view).expect("numbers and texts serialise") + "\n"
            }
            false => geometry_text(&view),
        };
        return print(&text);
    }
    let Some(spec) = tlb_preset(name) else {
        let why = "no such machine or TLB; `faultline machine list` has the names";
        return Err(Failure::own(format!("{name}: {why}")));
    };
    let file = TlbFile::from_spec(spec);
    print(&match is_json {
        true => serde_json::to_string_pretty(&file).expect("numbers and texts serialise") + "\n",
        false => toml::to_string(&file).expect("numbers and texts serialise"),
    })
}

fn geometry_text(view: &GeometryView) -> String {
    let sizes: Vec<String> = view
        .page_bytes
        .iter()
        .map(|bytes| match bytes.trailing_zeros() {
            bits @ 0..20 => format!("{} KiB", 1u64 << (bits - 10)),
            bits @ 20..30 => format!("{} MiB", 1u64 << (bits - 20)),
            bits => format!("{} GiB", 1u64 << (bits - 30)),
        })
        .collect();
    format!(
        "{}: {}\n  levels            {}\n  entry bytes       {}\n  address bits      {}\n  \
         physical bits     {}\n  page sizes        {}\n",
        view.name,
        view.description,
        view.levels,
        view.entry_bytes,
        view.address_bits,
        view.physical_bits,
        sizes.join(", ")
    )
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::own(format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_show_prints_is_what_a_file_means() {
        for spec in machine::tlb_presets() {
            let text = toml::to_string(&TlbFile::from_spec(spec)).expect("it serialises");
            let file: TlbFile = toml::from_str(&text).expect("it reads back");
            assert_eq!(file.into_spec("x").as_ref(), Ok(spec), "{text}");
        }
    }

    #[test]
    fn odd_arrays_and_keys_are_refused() {
        let level = "k4 = { entries = 64, ways = 4 }";
        let good = format!("name = 'x'\n[l1d]\n{level}\n[l1i]\n{level}\n");
        let spec = toml::from_str::<TlbFile>(&good).map(|file| file.into_spec("x"));
        assert!(matches!(spec, Ok(Ok(_))), "{spec:?}");
        for (from, to) in [("ways = 4", "ways = 0"), ("ways = 4", "ways = 3"), ("64", "0")] {
            let file = toml::from_str::<TlbFile>(&good.replace(from, to)).expect("form is right");
            assert!(file.into_spec("x").is_err(), "{from} -> {to}");
        }
        assert!(toml::from_str::<TlbFile>(&good.replace("name", "nome")).is_err());
        let empty = "name = 'x'\n[l1d]\n[l1i]\n";
        assert!(toml::from_str::<TlbFile>(empty).expect("form").into_spec("x").is_err());
    }
}
