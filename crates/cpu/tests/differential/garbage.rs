//! Bytes that no compiler makes: mutated instructions, compared with the host as far as that is
//! safe, and noise, which must not bring the engine down.

use crate::builder::{Builder, Mood, decode_all};
use crate::case::Case;
use crate::catalog;
use crate::layout;
use crate::prepare::is_relaxed;
use crate::random::Random;
use iced_x86::{Code, FlowControl};

const PREFIXES: [u8; 18] = [
    0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x40, 0x41, 0x44, 0x48, 0x4f, 0x42,
    0xf0, 0x0f,
];

/// An instruction of `code` with one change that leaves it comparable: a prefix more, a bit or a
/// byte changed. `None` if the change makes something that must not run natively.
pub fn mutation(seed: u64, index: u64, code: Code) -> Option<Case> {
    let mut random = Random::new(seed.wrapping_add(index.wrapping_mul(0x7_0000_000b)));
    let mut builder = Builder::new(&mut random, Mood::Calm);
    builder.add(code)?;
    let mut bytes = builder.code.clone();
    match builder.random.below(4) {
        0 => bytes.insert(0, builder.random.pick(&PREFIXES)),
        1 => {
            let at = builder.random.below(bytes.len() as u64) as usize;
            bytes[at] = builder.random.next() as u8;
        }
        _ => {
            let at = builder.random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << builder.random.below(8);
        }
    }
    if !is_safe(&bytes, builder.start) {
        return None;
    }
    builder.code = bytes;
    Some(builder.finish(format!("mutation seed {seed} index {index} of {code:?}")))
}

/// Whether all that `bytes` decode to may run on the host and must do the same in the guest.
fn is_safe(bytes: &[u8], start: u64) -> bool {
    let mut padded = bytes.to_vec();
    padded.extend_from_slice(&[0xcc; 16]);
    for one in decode_all(bytes, start) {
        if one.is_invalid() {
            // How much of an invalid instruction the CPU fetches is its own affair.
            let is_near_hole = one.ip() + 15 > layout::CODE_END && one.ip() < layout::CODE_END;
            return !is_near_hole && !is_foreign(&padded[(one.ip() - start) as usize..]);
        }
        if one.code() == Code::Pause && one.len() > 2 {
            // With REX.B some CPUs exchange registers.
            return false;
        }
        let is_known = catalog::is_comparable(one.code())
            && one.flow_control() == FlowControl::Next
            && !one.is_stack_instruction()
            && !one.has_xacquire_prefix()
            && !one.has_xrelease_prefix();
        if !is_known || is_relaxed(one.mnemonic()) || one.rflags_undefined() != 0 {
            return false;
        }
    }
    true
}

/// Whether the bytes may be an instruction of the host that the decoder and the guest do not know:
/// behind the prefixes comes EVEX, XOP, 3DNow! or an opcode of another maker.
fn is_foreign(bytes: &[u8]) -> bool {
    let opcode = bytes.iter().position(|byte| !PREFIXES[..17].contains(byte)).unwrap_or(0);
    let rest = &bytes[opcode..];
    matches!(rest[0], 0x62 | 0x8f | 0xc4 | 0xc5)
        || rest[0] == 0x0f && matches!(rest[1], 0x01 | 0x0d | 0x0f | 0x38 | 0x3a | 0x78 | 0x79)
        || rest[0] == 0x0f && matches!(rest[1], 0x00 | 0x05 | 0x07 | 0x18..=0x1f | 0x34..=0x37)
        || rest[0] == 0x0f && matches!(rest[1], 0xa6 | 0xa7 | 0xae | 0xc7)
}

/// Noise: `length` random bytes, or whole random instructions glued together.
pub fn noise(random: &mut Random, codes: &[Code]) -> Case {
    let mut bytes = vec![0; 64];
    random.fill(&mut bytes);
    if random.chance(50) {
        let mut builder = Builder::new(random, Mood::Wild);
        for _ in 0..6 {
            let code = builder.random.pick(codes);
            let _ = builder.add(code);
        }
        let glued = builder.code.clone();
        bytes[..glued.len().min(64)].copy_from_slice(&glued[..glued.len().min(64)]);
        for _ in 0..random.below(4) {
            let at = random.below(64) as usize;
            bytes[at] = random.next() as u8;
        }
    }
    let mut case = crate::exceptions::case(random, String::from("noise"), &bytes);
    case.state.is_compat = random.chance(30);
    for register in 0..16 {
        if random.chance(60) {
            case.state.gpr[register] = layout::DATA + random.below(0xf000);
        }
    }
    case
}
