//! `--machine FILE.toml`: a machine in a file, checked value by value.
//!
//! Every refusal names the file and the line. What is absent has its default.

use std::fmt::Display;
use std::ops::Range;

use machine::TlbMode;
use serde::Deserialize;
use toml::Spanned;

use super::{
    GEOMETRIES, MACHINE_DEFAULT, check_page_offset, find_geometry, find_tlb, geometry_names,
    line_of, read_file, wrong_toml,
};
use crate::args::high::parse_ram;
use crate::failure::Failure;

/// The keys of a file.
const KEYS: &str = "geometry, levels, address_bits, page_offset, ram and tlb";

/// A machine as a file describes it.
#[derive(Clone, Default, Debug)]
pub(crate) struct MachineFile {
    /// The name of its page-table format.
    pub(crate) geometry: Option<String>,
    /// Where the addresses of programs end, on a machine of 32 bits.
    pub(crate) page_offset: Option<u64>,
    /// Bytes of RAM.
    pub(crate) ram_bytes: Option<u64>,
    /// Its TLBs.
    pub(crate) tlb: Option<TlbMode>,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    geometry: Option<Spanned<String>>,
    levels: Option<Spanned<i64>>,
    address_bits: Option<Spanned<i64>>,
    page_offset: Option<Spanned<i64>>,
    ram: Option<Spanned<String>>,
    tlb: Option<Spanned<String>>,
}

/// A file that is being read: says of each mistake where it is.
struct Place<'a> {
    path: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn wrong(&self, span: Range<usize>, why: impl Display) -> Failure {
        let line = line_of(self.text, Some(span));
        Failure::own(format!("{}, line {line}: {why}", self.path))
    }

    /// The value of a text that stands in the file, by the reader of the option.
    fn value<T>(
        &self,
        written: Option<&Spanned<String>>,
        read: impl Fn(&str) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let value = |text: &Spanned<String>| {
            read(text.get_ref()).map_err(|failure| self.wrong(text.span(), failure.message))
        };
        written.map(value).transpose()
    }

    /// The format that is named, or has these levels and bits.
    fn geometry(&self, written: &Written) -> Result<Option<String>, Failure> {
        let mut fitting = GEOMETRIES.to_vec();
        if let Some(name) = &written.geometry {
            fitting.retain(|format| format.0 == name.get_ref());
            if fitting.is_empty() {
                let (text, names) = (name.get_ref(), geometry_names());
                let why = format!("geometry {text}: no such machine; give {names}");
                return Err(self.wrong(name.span(), why));
            }
        }
        if let Some(levels) = &written.levels {
            let (span, levels) = (levels.span(), *levels.get_ref());
            let why = match fitting.as_slice() {
                [(name, format, _)] => format!("levels {levels}: {name} has {}", format.levels()),
                _ => format!("levels {levels}: no such page tables; give 2, 3, 4 or 5"),
            };
            fitting.retain(|format| i64::from(format.1.levels()) == levels);
            if fitting.is_empty() {
                return Err(self.wrong(span, why));
            }
        }
        if let Some(bits) = &written.address_bits {
            fitting.retain(|format| i64::from(format.1.address_bits()) == *bits.get_ref());
            let why = match fitting.as_slice() {
                [] => "no such addresses; give 32 with 2 or 3 levels, 48 with 4, 57 with 5",
                [_, _, ..] => "two formats have them; give levels or geometry too",
                [_] => return Ok(Some(fitting[0].0.to_owned())),
            };
            let bits = (bits.span(), bits.get_ref());
            return Err(self.wrong(bits.0, format!("address_bits {}: {why}", bits.1)));
        }
        Ok(fitting.first().filter(|_| fitting.len() == 1).map(|format| format.0.to_owned()))
    }

    /// The split, if a kernel of the machine can have it.
    fn page_offset(
        &self,
        written: &Written,
        geometry: Option<&str>,
    ) -> Result<Option<u64>, Failure> {
        let Some(addr) = &written.page_offset else { return Ok(None) };
        let (_, geometry) = find_geometry(geometry.unwrap_or(MACHINE_DEFAULT))?;
        let page_offset = addr.get_ref().cast_unsigned();
        check_page_offset(geometry, page_offset)
            .map_err(|error| self.wrong(addr.span(), format!("page_offset: {error}")))?;
        Ok(Some(page_offset))
    }
}

impl MachineFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Exit code 125: it cannot be read, has another form, or describes no machine that could be.
    pub(crate) fn read(path: &str) -> Result<Self, Failure> {
        let text = read_file(path)?;
        let written: Written =
            toml::from_str(&text).map_err(|error| wrong_toml(path, &text, &error, KEYS))?;
        let place = Place { path, text: &text };
        let geometry = place.geometry(&written)?;
        let page_offset = place.page_offset(&written, geometry.as_deref())?;
        Ok(Self {
            geometry,
            page_offset,
            ram_bytes: place.value(written.ram.as_ref(), parse_ram)?,
            tlb: place.value(written.tlb.as_ref(), find_tlb)?,
        })
    }
}
