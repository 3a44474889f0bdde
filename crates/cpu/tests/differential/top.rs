//! 32-bit code around the end of its addresses, where it wraps. The first three ends were seen
//! natively, in a 64-bit program that maps the pages below and above 4 GiB and the first one and
//! jumps far.

use crate::case::{Case, End, Outcome, Rules, State};
use crate::layout;
use machine::{Frame, Geometry, Machine, PAGE_BYTES, Pte};

/// The last page of 32-bit addresses, in frame 0 of the layout.
const TOP: u64 = 0xffff_f000;
/// The first page, in frame 2. The page above 4 GiB is frame 3, which holds `int3`.
const BOTTOM_FRAME: u64 = 2;
const ABOVE: (u64, u64) = (1 << 32, 3);
/// Tables of the layout end well below.
const FREE_TABLE: u64 = 128;

/// A program: bytes at the end of the last page, and at the start of the first.
pub struct Program {
    pub name: &'static str,
    /// Where it begins.
    start: u64,
    top: &'static [u8],
    bottom: &'static [u8],
    /// How it ends, where, and with what in eax.
    pub expected: (End, u64, u64),
}

pub const PROGRAMS: [Program; 7] = [
    Program {
        name: "an instruction that ends with the last byte",
        start: 0xffff_fffb,
        top: &[0xb8, 1, 0, 0, 0],                   // mov eax, 1
        bottom: &[0x83, 0xc0, 2, 0x90, 0xcd, 0x80], // add eax, 2; nop; int 0x80
        expected: (End::Syscall, 6, 3),
    },
    Program {
        name: "an instruction that reaches over the end",
        start: 0xffff_fffd,
        top: &[0xb8, 1, 0],
        bottom: &[0, 0, 0xcd, 0x80],
        expected: (End::Exception(13), 0xffff_fffd, 0),
    },
    Program {
        name: "a jump over the end",
        start: 0xffff_fffe,
        top: &[0xeb, 1],                   // jmp 1
        bottom: &[0xcc, 0x40, 0xcd, 0x80], // int3; inc eax; int 0x80
        expected: (End::Syscall, 4, 1),
    },
    Program {
        name: "a call at the end",
        start: 0xffff_fffb,
        top: &[0xe8, 5, 0, 0, 0],                            // call 5
        bottom: &[0x40, 0xcd, 0x80, 0xcc, 0xcc, 0x40, 0xc3], // inc eax; int 0x80; ..; inc eax; ret
        expected: (End::Syscall, 3, 2),
    },
    Program {
        name: "an instruction done in Rust that faults at 0",
        start: 0xffff_ffff,
        top: &[0x90],
        bottom: &[0xd4, 0], // aam 0
        expected: (End::Exception(0), 0, 0),
    },
    Program {
        name: "an instruction done in Rust that ends with the last byte",
        start: 0xffff_fffe,
        top: &[0x0f, 0xa2],                // cpuid
        bottom: &[0x31, 0xc0, 0xcd, 0x80], // xor eax, eax; int 0x80
        expected: (End::Syscall, 4, 0),
    },
    Program {
        name: "a loop over the end without an access",
        start: 0xffff_fffe,
        top: &[0x90, 0x90],
        bottom: &[0xeb, 0xfc], // jmp to the start
        expected: (End::Endless, 0, 0),
    },
];

impl Program {
    /// Eax and ebx are 0; esp is in a page that can be written.
    pub fn case(&self) -> Case {
        let mut state = State::new();
        state.is_compat = true;
        state.rip = self.start;
        state.gpr[4] = layout::DATA + 0x2800;
        let top = PAGE_BYTES - self.top.len() as u64;
        let bottom = BOTTOM_FRAME * PAGE_BYTES;
        Case {
            name: self.name.into(),
            state,
            patches: vec![(top, self.top.to_vec()), (bottom, self.bottom.to_vec())],
            instructions: Vec::new(),
            rules: Rules::default(),
        }
    }

    /// What an outcome says of how it ended, and where if it is known.
    pub fn end(&self, outcome: &Outcome) -> (End, u64, u64) {
        match outcome.end {
            End::Endless => (End::Endless, 0, 0),
            end => (end, outcome.state.rip, outcome.state.gpr[0]),
        }
    }
}

/// The program that ends with the last byte in Rust.
pub const IN_RUST: usize = 5;

/// Takes the first page away: what goes on there faults at 0.
pub fn unmap_bottom(hw: &mut Machine) {
    let slot = layout::leaf_slot(hw, 0, &mut { FREE_TABLE });
    Geometry::X86_64.store(&mut hw.ram, slot, Pte::default());
    hw.flush_all();
}

/// Maps the pages.
pub fn map(hw: &mut Machine) {
    let mut next_table = FREE_TABLE;
    for (page, frame) in [(TOP, 0), (0, BOTTOM_FRAME), ABOVE] {
        let slot = layout::leaf_slot(hw, page, &mut next_table);
        let frame = Frame::new(layout::guest_physical(frame * PAGE_BYTES).frame().number());
        let leaf = Pte::new(frame, Pte::PRESENT.with(Pte::USER).with(Pte::WRITE));
        Geometry::X86_64.store(&mut hw.ram, slot, leaf);
    }
}
