//! String instructions: every repetition, direction and count, across borders and into holes.

use crate::builder::{Builder, Mood};
use crate::case::Case;
use crate::layout;
use crate::random::Random;
use iced_x86::{Code, Instruction, MemoryOperand, OpCodeOperandKind, Register};

const CODES: [Code; 20] = [
    Code::Movsb_m8_m8,
    Code::Movsw_m16_m16,
    Code::Movsd_m32_m32,
    Code::Movsq_m64_m64,
    Code::Stosb_m8_AL,
    Code::Stosw_m16_AX,
    Code::Stosd_m32_EAX,
    Code::Stosq_m64_RAX,
    Code::Lodsb_AL_m8,
    Code::Lodsw_AX_m16,
    Code::Lodsd_EAX_m32,
    Code::Lodsq_RAX_m64,
    Code::Scasb_AL_m8,
    Code::Scasw_AX_m16,
    Code::Scasd_EAX_m32,
    Code::Scasq_RAX_m64,
    Code::Cmpsb_m8_m8,
    Code::Cmpsw_m16_m16,
    Code::Cmpsd_m32_m32,
    Code::Cmpsq_m64_m64,
];
const TEST: Code = Code::Test_rm32_r32;
const COUNTS: [u64; 10] = [0, 1, 2, 3, 7, 17, 64, 300, 515, 1100];

/// How a string instruction is repeated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Once,
    Equal,
    NotEqual,
}

/// Every combination, each with operands in `variants` random places.
pub fn cases(seed: u64, variants: u64) -> Vec<Case> {
    combinations(&CODES, |random, mood| Builder::new(random, mood), seed, variants)
}

/// Likewise in 32-bit code.
pub fn cases_compat(seed: u64, variants: u64) -> Vec<Case> {
    let codes: Vec<Code> = CODES.into_iter().filter(|code| width(*code) < 8).collect();
    combinations(&codes, |random, mood| Builder::new_compat(random, mood), seed, variants)
}

fn combinations(
    codes: &[Code],
    build: impl for<'r> Fn(&'r mut Random, Mood) -> Builder<'r>,
    seed: u64,
    variants: u64,
) -> Vec<Case> {
    let mut random = Random::new(seed ^ 0x5712);
    let mut cases = Vec::new();
    for code in codes.iter().copied() {
        for repeat in [Repeat::Once, Repeat::Equal, Repeat::NotEqual] {
            for is_down in [false, true] {
                for count in COUNTS {
                    for _ in 0..variants {
                        let name = format!("strings {}", cases.len());
                        let builder = build(&mut random, Mood::Calm);
                        cases.extend(case(builder, code, repeat, is_down, count, name));
                    }
                }
            }
        }
    }
    cases
}

/// `rep stos` over its own bytes, which then are those of a longer instruction.
pub fn over_themselves(seed: u64) -> Vec<Case> {
    const MOVE: u64 = u64::from_le_bytes([0xbf; 8]);
    let mut random = Random::new(seed ^ 0x0eef);
    (0..40)
        .map(|index| {
            let name = format!("rep stosq over itself {index}");
            let mut case = crate::exceptions::case(&mut random, name, &[0xf3, 0x48, 0xab]);
            case.state.rflags &= !0x400;
            case.state.gpr[0] = MOVE;
            case.state.gpr[1] = 16 + random.below(8);
            case.state.gpr[7] = case.state.rip - 64 + random.below(8);
            case
        })
        .collect()
}

fn case(
    mut builder: Builder<'_>,
    code: Code,
    repeat: Repeat,
    is_down: bool,
    count: u64,
    name: String,
) -> Option<Case> {
    builder.draft.state.rflags &= !0x400;
    if is_down {
        builder.draft.state.rflags |= 0x400;
    }
    let size = width(code);
    let span = size * count.max(1);
    let source = end_near_border(builder.random, span, is_down);
    let destination = match builder.random.below(6) {
        // Overlapping, so that a copy reads what it wrote.
        0 => source.wrapping_add_signed(builder.random.between(-20, 20)),
        _ => end_near_border(builder.random, span, is_down),
    };
    if is_aliased(source, destination, span, is_down) {
        return None;
    }
    builder.assign(1, count);
    builder.assign(6, source);
    builder.assign(7, destination);
    if builder.random.chance(60) {
        make_equal(&mut builder, [source, destination], span, is_down);
    }
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    for (operand, kind) in code.op_code().op_kinds().iter().enumerate() {
        use OpCodeOperandKind as K;
        let operand = operand as u32;
        match kind {
            K::seg_rSI | K::es_rDI => {
                let kind = crate::place::string_kind(*kind == K::es_rDI, builder.is_compat());
                instruction.set_op_kind(operand, kind);
            }
            _ => instruction.set_op_register(operand, accumulator(size)),
        }
    }
    instruction.set_has_rep_prefix(repeat == Repeat::Equal);
    instruction.set_has_repne_prefix(repeat == Repeat::NotEqual);
    if builder.random.chance(50) {
        warm_up(&mut builder)?;
    }
    builder.append(&instruction)?;
    if builder.random.chance(50) {
        go_on(&mut builder, &instruction)?;
    }
    if builder.random.chance(70) {
        // The flags need not be kept.
        builder.append(&Instruction::with2(TEST, Register::EDX, Register::EDX).ok()?)?;
    }
    Some(builder.finish(name))
}

/// Touches both pages before.
fn warm_up(builder: &mut Builder<'_>) -> Option<()> {
    let at = |index: usize| MemoryOperand::with_base(builder.pointer(index));
    let (source, target) = (at(6), at(7));
    builder.append(&Instruction::with2(Code::Mov_r8_rm8, Register::DL, source).ok()?)?;
    builder.append(&Instruction::with2(Code::Mov_rm8_r8, target, Register::DL).ok()?)
}

/// Once more with pages that are known by now, and then one of those that may evict them.
fn go_on(builder: &mut Builder<'_>, instruction: &Instruction) -> Option<()> {
    let count = builder.random.between(1, 40) as i32;
    builder.append(&Instruction::with2(Code::Mov_r32_imm32, Register::ECX, count).ok()?)?;
    builder.append(instruction)?;
    let page = layout::DATA + (1 + builder.random.below(3)) * 0x1000;
    let place = MemoryOperand::with_displ(page, 4);
    builder.append(&Instruction::with2(Code::Mov_r32_rm32, Register::EDX, place).ok()?)
}

/// Whether the two runs share bytes of memory by way of different pages: there the host moves
/// several elements at once, against the manual.
fn is_aliased(source: u64, destination: u64, span: u64, is_down: bool) -> bool {
    let bytes = |start: u64| {
        let first = if is_down { start.wrapping_sub(span) } else { start };
        (0..span + 8).filter_map(move |i| Some((first + i, layout::physical(first + i)?)))
    };
    let frame_of = |place: u64| place / 0x1000;
    let ends = |start: u64| bytes(start).step_by(64).chain(bytes(start).next_back());
    ends(source).any(|(from, place)| {
        ends(destination)
            .any(|(to, other)| frame_of(place) == frame_of(other) && from / 0x1000 != to / 0x1000)
    })
}

const fn accumulator(size: u64) -> Register {
    match size {
        1 => Register::AL,
        2 => Register::AX,
        4 => Register::EAX,
        _ => Register::RAX,
    }
}

fn width(code: Code) -> u64 {
    let index = CODES.iter().position(|one| *one == code).unwrap_or_default();
    1 << (index % 4)
}

/// A start from which a run of `span` bytes begins, crosses, touches or ends near some border.
fn end_near_border(random: &mut Random, span: u64, is_down: bool) -> u64 {
    let border = layout::DATA + (1 + random.below(layout::DATA_PAGES - 1)) * 0x1000;
    if random.chance(40) {
        return if is_down { border + span } else { border.saturating_sub(span) };
    }
    let before = random.below(span + 24);
    let away = random.between(-8, 8);
    let start = if is_down { border + before } else { border - before };
    start.wrapping_add_signed(away)
}

/// The same bytes at both places, but for one somewhere; `rax` holds them, too.
fn make_equal(builder: &mut Builder<'_>, starts: [u64; 2], span: u64, is_down: bool) {
    let byte = builder.random.next() as u8;
    let odd_one = builder.random.below(span * 2);
    let back = if is_down { span } else { 0 };
    for start in starts {
        builder.poke(start - back, &vec![byte; (span + 8) as usize]);
    }
    builder.poke(starts[1] - back + odd_one, &[byte ^ 1]);
    builder.assign(0, u64::from_le_bytes([byte; 8]));
}
