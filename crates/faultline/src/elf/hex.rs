//! Addresses in JSON: texts with `0x`, because 64 bits do not fit the numbers of every reader.

use serde::Serializer;

/// Writes an address as `"0x1000"`.
///
/// # Errors
/// Those of the writer.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) fn address<S: Serializer>(address: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{address:#x}"))
}
