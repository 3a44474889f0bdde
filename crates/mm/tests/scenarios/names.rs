//! Names for addresses: scenarios say `a+3p`, never numbers that depend on where `a` is.

use machine::{PAGE_BYTES, VirtAddr, VirtRange};

/// Named ranges, the latest last.
#[derive(Default)]
pub(crate) struct Names(Vec<(String, VirtRange)>);

impl Names {
    /// Gives `range` a name, which no other range has any more.
    pub(crate) fn set(&mut self, name: &str, range: VirtRange) {
        self.0.retain(|(other, _)| other != name);
        self.0.push((name.to_owned(), range));
    }

    /// The range of a name.
    pub(crate) fn range(&self, name: &str) -> Result<VirtRange, String> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, range)| *range).ok_or_else(|| format!("nothing is named {name:?}"))
    }

    /// The address of `0x1000`, or of `NAME`, `NAME+3p`, `NAME-1p`, `NAME+3p+16b`.
    pub(crate) fn addr(&self, text: &str) -> Result<VirtAddr, String> {
        if let Some(digits) = text.strip_prefix("0x") {
            let number = u64::from_str_radix(digits, 16);
            return number.map(VirtAddr::new).map_err(|error| format!("{text:?}: {error}"));
        }
        let sign = |c| c == '+' || c == '-';
        let (name, mut rest) = text.split_at(text.find(sign).unwrap_or(text.len()));
        let mut addr = self.range(name)?.start;
        while !rest.is_empty() {
            let end = rest[1..].find(sign).map_or(rest.len(), |end| end + 1);
            let distance = bytes(&rest[1..end])?;
            let is_up = rest.starts_with('+');
            addr = addr.wrapping_add(if is_up { distance } else { distance.wrapping_neg() });
            rest = &rest[end..];
        }
        Ok(addr)
    }

    /// An address by name: of the latest range that has it, else of the nearest one.
    pub(crate) fn text(&self, addr: u64) -> String {
        let distance = |range: VirtRange| {
            let (start, end) = (range.start.as_u64(), range.end.as_u64());
            if addr < start { start - addr } else { (addr + 1).saturating_sub(end) }
        };
        let nearest = self.0.iter().rev().min_by_key(|(_, range)| distance(*range));
        let Some((name, range)) = nearest else { return format!("{addr:#x}") };
        let start = range.start.as_u64();
        let page = addr & !(PAGE_BYTES - 1);
        let pages = match page.abs_diff(start) / PAGE_BYTES {
            0 => String::new(),
            count if page < start => format!("-{count}p"),
            count => format!("+{count}p"),
        };
        let rest = if addr == page { String::new() } else { format!("+{}b", addr - page) };
        format!("{name}{pages}{rest}")
    }
}

/// A length: `3p` pages or `16b` bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match (text.strip_suffix('p'), text.strip_suffix('b')) {
        (Some(digits), _) => (digits, PAGE_BYTES),
        (_, Some(digits)) => (digits, 1),
        _ => return Err(format!("{text:?} is neither pages (3p) nor bytes (16b)")),
    };
    Ok(number(digits)?.wrapping_mul(unit))
}

/// A plain number.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}
