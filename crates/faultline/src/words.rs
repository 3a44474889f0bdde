//! Numbers, sizes and names as the texts for people write them.

use crate::failure::visible;

/// A number with thousands separators.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with three figures and a unit.
pub(crate) fn short_bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in units {
        let tenths = (u128::from(bytes) * 10) >> shift;
        if tenths >= 10 {
            return match tenths {
                ..1000 if tenths % 10 != 0 => format!("{}.{} {unit}", tenths / 10, tenths % 10),
                _ => format!("{} {unit}", tenths / 10),
            };
        }
    }
    format!("{bytes} bytes")
}

/// The text with its harmless characters, its middle left out if it has more than `columns`.
pub(crate) fn shorten(text: &str, columns: usize) -> String {
    let chars: Vec<char> = text.chars().map(visible).collect();
    if chars.len() <= columns {
        return chars.into_iter().collect();
    }
    let head = columns / 3;
    let tail = columns - head - 3;
    let end = &chars[chars.len() - tail..];
    chars[..head].iter().chain(&['.', '.', '.']).chain(end).collect()
}
