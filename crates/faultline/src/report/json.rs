//! The report for machines: one JSON object.

use super::Report;

/// The JSON text, with a newline at the end. Equal reports give equal bytes.
pub(crate) fn render(report: &Report) -> String {
    let mut text =
        serde_json::to_string_pretty(report).expect("a report is numbers, texts and lists of them");
    text.push('\n');
    text
}
