//! String instructions: every repetition, direction and count, across borders and into holes.

use crate::builder::{Builder, Mood};
use crate::case::Case;
use crate::layout;
use crate::random::Random;
use iced_x86::{Code, Instruction, OpCodeOperandKind};

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
    let mut random = Random::new(seed ^ 0x5712);
    let mut cases = Vec::new();
    for code in CODES {
        for repeat in [Repeat::Once, Repeat::Equal, Repeat::NotEqual] {
            for is_down in [false, true] {
                for count in COUNTS {
                    for _ in 0..variants {
                        let name = format!("strings {}", cases.len());
                        cases.extend(case(&mut random, code, repeat, is_down, count, name));
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
    random: &mut Random,
    code: Code,
    repeat: Repeat,
    is_down: bool,
    count: u64,
    name: String,
) -> Option<Case> {
    let mut builder = Builder::new(random, Mood::Calm);
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
                let kind = crate::place::string_kind(*kind == K::es_rDI, false);
                instruction.set_op_kind(operand, kind);
            }
            _ => instruction.set_op_register(operand, accumulator(size)),
        }
    }
    instruction.set_has_rep_prefix(repeat == Repeat::Equal);
    instruction.set_has_repne_prefix(repeat == Repeat::NotEqual);
    builder.append(&instruction)?;
    Some(builder.finish(name))
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

const fn accumulator(size: u64) -> iced_x86::Register {
    use iced_x86::Register;
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

/// A start from which a run of `span` bytes begins, crosses or ends near some border.
fn end_near_border(random: &mut Random, span: u64, is_down: bool) -> u64 {
    let border = layout::DATA + (1 + random.below(layout::DATA_PAGES - 1)) * 0x1000;
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
