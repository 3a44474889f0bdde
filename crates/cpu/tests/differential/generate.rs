//! Whole cases: one instruction, or a short sequence with skips, calls and repetition.

use crate::builder::{Builder, Mood, Value};
use crate::case::Case;
use crate::catalog::COMMON;
use crate::layout;
use crate::random::Random;
use iced_x86::{Code, FlowControl, Instruction, MemoryOperand, Register};

/// The case number `index` of the run with `seed`: one instruction of `code`, with or without
/// company.
pub fn single(seed: u64, index: u64, code: Code) -> Option<Case> {
    let mut random = Random::new(seed.wrapping_add(index.wrapping_mul(0x1_0000_0001)));
    let mood = if random.chance(70) { Mood::Wild } else { Mood::Calm };
    let mut builder = Builder::new(&mut random, mood);
    builder.add(code)?;
    if builder.random.chance(40) {
        // The flags of the instruction are dead.
        let killer = builder.random.pick(&[Code::Test_rm64_r64, Code::Cmp_r64_rm64]);
        let _ = if builder.is_over { None } else { builder.add(killer) };
    }
    Some(builder.finish(format!("single seed {seed} index {index} code {code:?}")))
}

/// A case of two to eight instructions.
pub fn sequence(seed: u64, index: u64, all: &[Code]) -> Case {
    let mut random = Random::new(seed.wrapping_add(index.wrapping_mul(0x1_0000_0003)));
    let mood = if random.chance(15) { Mood::Wild } else { Mood::Calm };
    let mut builder = Builder::new(&mut random, mood);
    let length = 2 + builder.random.below(7);
    let repeats = builder.random.chance(25);
    for _ in 0..length {
        if builder.is_over {
            break;
        }
        let code = if builder.random.chance(65) {
            builder.random.pick(&COMMON)
        } else {
            builder.random.pick(all)
        };
        let _ = match builder.random.below(20) {
            0 => skip(&mut builder, code),
            1 => call_and_return(&mut builder),
            _ => builder.add(code),
        };
    }
    if repeats && !builder.is_over {
        repeat(&mut builder);
    }
    builder.finish(format!("sequence seed {seed} index {index}"))
}

/// One instruction of 32-bit code.
pub fn single_compat(seed: u64, index: u64, code: Code) -> Option<Case> {
    let mut random = Random::new(seed.wrapping_add(index.wrapping_mul(0x1_0000_000f)));
    let mood = if random.chance(70) { Mood::Wild } else { Mood::Calm };
    let mut builder = Builder::new_compat(&mut random, mood);
    builder.add(code)?;
    if builder.random.chance(40) && !builder.is_over {
        let _ = builder.add(Code::Test_rm32_r32);
    }
    Some(builder.finish(format!("32-bit single seed {seed} index {index} code {code:?}")))
}

/// Two to eight instructions of 32-bit code, perhaps repeated.
pub fn sequence_compat(seed: u64, index: u64, common: &[Code], all: &[Code]) -> Case {
    let mut random = Random::new(seed.wrapping_add(index.wrapping_mul(0x1_0000_0011)));
    let mood = if random.chance(15) { Mood::Wild } else { Mood::Calm };
    let mut builder = Builder::new_compat(&mut random, mood);
    let length = 2 + builder.random.below(7);
    let repeats = builder.random.chance(25);
    for _ in 0..length {
        if builder.is_over {
            break;
        }
        let list = if builder.random.chance(65) { common } else { all };
        let code = builder.random.pick(list);
        let _ = match builder.random.below(20) {
            0 => skip(&mut builder, code),
            1 => call_and_return(&mut builder),
            _ => builder.add(code),
        };
    }
    if repeats && !builder.is_over {
        repeat(&mut builder);
    }
    builder.finish(format!("32-bit sequence seed {seed} index {index}"))
}

/// `jcc` over an instruction of `code`.
fn skip(builder: &mut Builder<'_>, code: Code) -> Option<()> {
    if is_control(code) {
        return builder.add(code);
    }
    let jumps = match builder.is_compat() {
        true => [Code::Je_rel8_32, Code::Jb_rel8_32, Code::Js_rel8_32],
        false => [Code::Je_rel8_64, Code::Jb_rel8_64, Code::Js_rel8_64],
    };
    let jump = builder.random.pick(&jumps);
    let before_all = builder.draft.clone();
    let length_before = builder.code.len();
    builder.add(jump)?;
    let length_of_jump = builder.code.len();
    let before = builder.draft.clone();
    if builder.add(code).is_none() {
        builder.draft = before_all;
        builder.code.truncate(length_before);
        return None;
    }
    builder.code[length_of_jump - 1] = (builder.code.len() - length_of_jump) as u8;
    for index in 0..16 {
        if before.values[index] == Value::Free {
            continue;
        }
        if builder.draft.values[index] != before.values[index] {
            builder.draft.values[index] = Value::Unknown;
        }
    }
    builder.draft.undefined |= before.undefined;
    Some(())
}

fn is_control(code: Code) -> bool {
    code.flow_control() != FlowControl::Next || code.is_stack_instruction()
}

/// `call` of a `ret` behind the body.
fn call_and_return(builder: &mut Builder<'_>) -> Option<()> {
    let landing = builder.landing(true);
    let offset = layout::physical(landing)?;
    let code = if builder.is_compat() { Code::Call_rel32_32 } else { Code::Call_rel32_64 };
    let call = Instruction::with_branch(code, landing).ok()?;
    let before = builder.draft.clone();
    if builder.prepare(code, false).and_then(|()| builder.append(&call)).is_none() {
        builder.draft = before;
        return None;
    }
    builder.draft.patches.push((offset, vec![0xc3]));
    let slot = if builder.is_compat() { 4 } else { 8 };
    builder.draft.values[4] = before_call(builder.draft.values[4], slot);
    Some(())
}

const fn before_call(rsp: Value, slot: u64) -> Value {
    match rsp {
        Value::Known(value) => Value::Known(value.wrapping_add(slot)),
        other => other,
    }
}

/// Counts down in memory and jumps back to the start: every instruction runs two or three times.
fn repeat(builder: &mut Builder<'_>) {
    let counter = layout::SCRATCH + builder.random.below(0x1000);
    let times = 2 + builder.random.below(2) as u8;
    let length = builder.code.len();
    let (memory, back) = match builder.is_compat() {
        true => (
            MemoryOperand::new(
                Register::None,
                Register::None,
                1,
                counter as i64,
                4,
                false,
                Register::None,
            ),
            Code::Jne_rel32_32,
        ),
        false => {
            (MemoryOperand::with_base_displ(Register::RIP, counter as i64), Code::Jne_rel32_64)
        }
    };
    let before = builder.draft.clone();
    let appended = Instruction::with1(Code::Dec_rm8, memory)
        .ok()
        .and_then(|dec| builder.append(&dec))
        .and_then(|()| Instruction::with_branch(back, builder.start).ok())
        .and_then(|jump| builder.append(&jump));
    if appended.is_none() {
        builder.draft = before;
        builder.code.truncate(length);
        return;
    }
    builder.poke(counter, &[times]);
}
