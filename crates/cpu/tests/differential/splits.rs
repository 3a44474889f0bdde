//! A row of groups on one page: the probe of the first fails, those of the others do not.

use crate::case::{Case, Rules, State};
use crate::layout;

/// Groups in the row.
pub const GROUPS: u64 = 16;
/// `mov [rdi], rax; add [rdi + 8], rax; lea rdi, [rdi + 16]`: two accesses through one register,
/// which moves behind them.
const GROUP: [u8; 11] = [0x48, 0x89, 0x07, 0x48, 0x01, 0x47, 0x08, 0x48, 0x8d, 0x7f, 0x10];
/// `syscall`, and what is never executed.
const END: [u8; 3] = [0x0f, 0x05, 0x90];

/// The row on bytes that begin at `address`.
pub fn case(address: u64) -> Case {
    let mut state = State::new();
    state.rip = layout::CODE;
    state.gpr[0] = 0x0123_4567_89ab_cdef;
    state.gpr[7] = address;
    let code = [&GROUP.repeat(GROUPS as usize)[..], &END].concat();
    Case {
        name: "groups".into(),
        state,
        patches: vec![(0, code)],
        instructions: Vec::new(),
        rules: Rules::default(),
    }
}
