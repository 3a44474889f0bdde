//! Whether a function of ours keeps away from the vector registers.
//!
//! The guest's vector registers stay in the host's while the quick slow path runs. No attribute of
//! the language says that a function does not use them, so the machine code is looked through: from
//! the start along all branches and calls. An indirect jump or a vector operand is a no. Then the
//! engine does without the quick path, which is slower and not wrong.

use super::slow::code_at;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

/// Most instructions that are looked at.
const INSTRUCTIONS_MAX: usize = 10_000;

/// Whether the function at `start` and all that it calls touch general registers only.
pub(super) fn is_plain_function(start: u64) -> bool {
    let mut waiting = vec![start];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(mut at) = waiting.pop() {
        while seen.insert(at) {
            let code = code_at(at);
            let one = Decoder::with_ip(64, &code, at, DecoderOptions::NONE).decode();
            if !is_plain(&one) || seen.len() > INSTRUCTIONS_MAX {
                return false;
            }
            match one.flow_control() {
                FlowControl::Next => at = one.next_ip(),
                FlowControl::UnconditionalBranch => at = one.near_branch_target(),
                FlowControl::ConditionalBranch | FlowControl::Call => {
                    waiting.push(one.near_branch_target());
                    at = one.next_ip();
                }
                FlowControl::Return => break,
                _ => return false,
            }
        }
    }
    true
}

/// Whether an instruction names no register but general ones.
fn is_plain(one: &Instruction) -> bool {
    !one.is_invalid()
        && (0..one.op_count()).all(|operand| {
            one.op_kind(operand) != OpKind::Register || one.op_register(operand).is_gpr()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::slow;

    #[test]
    #[cfg(not(debug_assertions))]
    fn the_quick_slow_path_uses_no_vector_registers() {
        assert!(is_plain_function(slow::quick_access_address()));
        assert!(is_plain_function(slow::quick_target_address()));
    }

    #[test]
    fn the_slow_path_is_seen_to_call() {
        assert!(!is_plain_function(slow::slow_access_address()));
    }
}
