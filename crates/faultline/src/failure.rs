//! Failures that end us, with the exit code each one has.

use std::fmt;

/// Why there is no run, or no report: one line and an exit code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// What kind of failure it is.
    pub(crate) kind: FailureKind,
    /// What, where, what to do: one line.
    pub(crate) message: String,
}

/// The kinds of failure; `env`, `sh` and `timeout` use the same codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FailureKind {
    /// A wrong option, or something of ours did not work.
    Own,
    /// The program exists but cannot be executed.
    NotExecutable,
    /// There is no such program.
    NotFound,
}

impl FailureKind {
    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Own => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }
}

impl Failure {
    /// A failure of ours, or of the command line.
    pub(crate) fn own(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Own, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line: String = self.message.chars().map(visible).collect();
        write!(f, "faultline: {line}")
    }
}

/// The character, or a question mark for one that could end the line or command a terminal.
pub(crate) fn visible(c: char) -> char {
    if is_visible(c) { c } else { '?' }
}

/// Whether a character neither ends the line, commands a terminal nor changes the direction.
fn is_visible(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_the_names_in_it() {
        let failure = Failure::own("a\nb\u{1b}[31m \u{202e}x: no such file");
        assert_eq!(failure.to_string(), "faultline: a?b?[31m ?x: no such file");
    }
}
