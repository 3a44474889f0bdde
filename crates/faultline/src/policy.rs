//! `faultline policy`: the replacement policies by name.

use std::io::{self, Write};

use crate::failure::Failure;

/// `faultline policy list`.
///
/// # Errors
/// Exit code 125: stdout cannot be written.
pub(crate) fn list(names_only: bool) -> Result<(), Failure> {
    let line = |policy: &mm::Policy| match names_only {
        true => format!("{}\n", policy.name),
        false => format!("  {:<10} {}\n", policy.name, policy.about),
    };
    let lines: String = mm::POLICIES.iter().map(line).collect();
    let text = if names_only { lines } else { format!("policies (--policy)\n{lines}") };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::own(format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}
