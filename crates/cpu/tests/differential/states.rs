//! Random states of the CPU.

use crate::case::State;
use crate::random::Random;

/// A state whose general registers and `rip` are still to be chosen.
pub fn random_state(random: &mut Random) -> State {
    let mut state = State::new();
    state.rflags = random_flags(random);
    for index in 0..16 {
        let (low, high) = State::vector_halves(index);
        state.fpu[low..low + 16].copy_from_slice(&random.vector());
        state.fpu[high..high + 16].copy_from_slice(&random.vector());
    }
    if random.chance(25) {
        state.fpu[24..28].copy_from_slice(&random_mxcsr(random).to_le_bytes());
    }
    random_x87(random, &mut state);
    state
}

/// Random arithmetic flags; DF in a quarter of all cases, ID in some.
pub fn random_flags(random: &mut Random) -> u64 {
    let mut flags = 0x202 | (random.next() & 0x8d5);
    if random.chance(25) {
        flags |= 1 << 10;
    }
    if random.chance(10) {
        flags |= 1 << 21;
    }
    flags
}

/// Any legal MXCSR: mostly with all exceptions masked.
pub fn random_mxcsr(random: &mut Random) -> u32 {
    let mut mxcsr = random.next() as u32 & 0xe07f;
    mxcsr |= if random.chance(80) { 0x1f80 } else { random.next() as u32 & 0x1f80 };
    if random.chance(60) {
        mxcsr &= !0x3f;
    }
    mxcsr
}

/// An empty x87 unit in half of all cases, else anything.
fn random_x87(random: &mut Random, state: &mut State) {
    if random.chance(40) {
        return;
    }
    let masks = if random.chance(85) { 0x3f } else { random.next() as u16 & 0x3f };
    let control = 0x40 | masks | (random.next() as u16 & 0xf00);
    let mut status = random.next() as u16 & 0x7f00;
    if random.chance(15) {
        status |= random.next() as u16 & 0x7f;
    }
    if status & !masks & 0x3f != 0 {
        // ES and B, as the CPU makes them.
        status |= 0x8080;
    } else {
        status &= !0x8080;
    }
    state.fpu[0..2].copy_from_slice(&control.to_le_bytes());
    state.fpu[2..4].copy_from_slice(&status.to_le_bytes());
    state.fpu[4] = if random.chance(40) { 0xff } else { random.next() as u8 };
    for index in 0..8 {
        let start = 32 + index * 16;
        state.fpu[start..start + 10].copy_from_slice(&random.extended());
    }
}

/// A legal image of the x87 and SSE state for `fxrstor`, of the same kind as the states of cases.
pub fn random_image(random: &mut Random) -> [u8; 512] {
    let state = random_state(random);
    let mut image = [0; 512];
    image.copy_from_slice(&state.fpu[..512]);
    image
}
