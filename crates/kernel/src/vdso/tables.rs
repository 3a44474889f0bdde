//! The tables of a vDSO that are the same in both ELF classes: names, symbol hash, versions.
//!
//! # Source
//! System V ABI, "Dynamic Linking"; LSB, "Symbol Versioning".

/// The string table and where each string starts.
pub(super) struct Names {
    /// The table.
    pub(super) bytes: Vec<u8>,
    /// Of each symbol.
    pub(super) symbols: Vec<u32>,
    /// Of each version.
    pub(super) versions: Vec<u32>,
    /// Of the object itself.
    pub(super) object: u32,
}

impl Names {
    /// The table of these symbols, these versions and the object, in this order.
    pub(super) fn new(symbols: &[&str], versions: &[&str], object: &str) -> Self {
        let mut bytes = vec![0];
        let mut add = |name: &&str| {
            let start = u32::try_from(bytes.len()).expect("the table is a few hundred bytes");
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            start
        };
        let symbols = symbols.iter().map(&mut add).collect();
        let versions = versions.iter().map(&mut add).collect();
        let object = add(&object);
        Self { bytes, symbols, versions, object }
    }
}

/// `values` as bytes.
pub(super) fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// One bucket with a chain through `symbol_count` symbols; symbol 0, which is none, comes before
/// them.
pub(super) fn hash_table(symbol_count: usize) -> Vec<u8> {
    let count = symbol_count as u32 + 1;
    let mut table = vec![1, count, 1, 0];
    table.extend((1..count).map(|index| if index + 1 < count { index + 1 } else { 0 }));
    words(&table)
}

/// The base version, which has the object's name, and `versions` behind it.
pub(super) fn version_definitions(names: &Names, object: &str, versions: &[&str]) -> Vec<u8> {
    let base = (1_u16, object, names.object);
    let others = versions.iter().zip(&names.versions).map(|(&text, &name)| (0, text, name));
    let mut table = Vec::new();
    for (index, (flags, text, name)) in std::iter::once(base).chain(others).enumerate() {
        let number = index as u16 + 1;
        let next = if index == versions.len() { 0 } else { 28 };
        for half in [1, flags, number, 1] {
            table.extend(half.to_le_bytes());
        }
        table.extend(words(&[elf_hash(text), 20, next, name, 0]));
    }
    table
}

/// The System V hash of a name.
fn elf_hash(name: &str) -> u32 {
    name.bytes().fold(0_u32, |hash, byte| {
        let sum = (hash << 4).wrapping_add(byte.into());
        let high = sum & 0xf000_0000;
        (sum ^ high >> 24) & !high
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_hash_of_the_abi() {
        assert_eq!(elf_hash("LINUX_2.6"), 0x3ae_75f6);
    }
}
