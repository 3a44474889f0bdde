//! Precise faults: the same accesses slid across every border of the layout, byte by byte, so that
//! each access of a block is the one that faults or crosses.

use crate::builder::{Builder, Mood};
use crate::case::Case;
use crate::layout;
use crate::random::Random;
use iced_x86::Code;

/// Instructions with one memory operand that a group of accesses may consist of.
const MEMBERS: [Code; 30] = [
    Code::Mov_r64_rm64,
    Code::Mov_rm64_r64,
    Code::Mov_r32_rm32,
    Code::Mov_rm32_r32,
    Code::Mov_rm8_r8,
    Code::Mov_r8_rm8,
    Code::Mov_rm32_imm32,
    Code::Movzx_r32_rm8,
    Code::Movsxd_r64_rm32,
    Code::Add_rm64_r64,
    Code::Add_r64_rm64,
    Code::Adc_rm32_r32,
    Code::Sub_rm16_imm8,
    Code::Cmp_rm8_imm8,
    Code::Test_rm64_r64,
    Code::Inc_rm32,
    Code::Sete_rm8,
    Code::Cmovb_r64_rm64,
    Code::Xchg_rm64_r64,
    Code::Cmpxchg_rm32_r32,
    Code::Xadd_rm16_r16,
    Code::Movups_xmm_xmmm128,
    Code::Movups_xmmm128_xmm,
    Code::VEX_Vmovdqu_ymm_ymmm256,
    Code::VEX_Vmovdqu_ymmm256_ymm,
    Code::Addsd_xmm_xmmm64,
    Code::Fld_m80fp,
    Code::Fstp_m64fp,
    Code::Idiv_rm32,
    Code::Movaps_xmm_xmmm128,
];
/// The same through the stack pointer.
const STACK: [Code; 8] = [
    Code::Push_r64,
    Code::Pop_r64,
    Code::Push_rm64,
    Code::Pushq_imm32,
    Code::Pop_rm64,
    Code::Mov_r64_rm64,
    Code::Mov_rm32_r32,
    Code::Leaveq,
];
const RSP: usize = 4;

/// One program, slid across every border.
pub fn sweep(seed: u64, index: u64) -> Vec<Case> {
    let mut random = Random::new(seed.wrapping_add(index.wrapping_mul(0x5_0000_0007)));
    let bases = [3, 5, 6, 12, 13, 14, 15, RSP, RSP, RSP];
    let base = random.pick(&bases);
    let mut builder = Builder::new(&mut random, Mood::Calm);
    let start = layout::DATA + 0x2400;
    builder.assign(base, start);
    builder.pinned = Some(base);
    let length = 3 + builder.random.below(5);
    for _ in 0..length {
        let is_stack = base == RSP && builder.random.chance(60);
        let code =
            if is_stack { builder.random.pick(&STACK) } else { builder.random.pick(&MEMBERS) };
        let _ = builder.add(code);
    }
    let case = builder.finish(format!("sweep seed {seed} index {index}"));
    let mut cases = Vec::new();
    for border in 1..layout::DATA_PAGES {
        for _ in 0..6 {
            let mut slid = case.clone();
            let away = random.between(-180, 60);
            let at = (layout::DATA + border * 0x1000).wrapping_add_signed(away);
            slid.state.gpr[base] = at;
            slid.name = format!("{} base {at:#x}", case.name);
            cases.push(slid);
        }
    }
    cases
}
