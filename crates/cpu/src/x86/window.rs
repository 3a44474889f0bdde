//! The window on the stack of 32-bit code: the page that it used last, in registers.
//!
//! 32-bit code has no names for r8 to r12. While it runs, they hold the tag, the frame and the slot
//! of one page that loads and stores hit, mostly that of the top of the stack: an access through
//! esp or ebp compares with the tag in a register, and needs neither the index nor the frame from
//! the table. All else is as with any probe: the page is stamped and the clock advances. What is
//! won is time more than instructions: the host knows the place of an operand on the stack as soon
//! as its address, so that loads need not wait for stores whose place is not known yet.
//!
//! Accesses through ebp go by the window where ebp points to the stack when a block is emitted.
//! Where the window is on another page, the access is probed in the table, and if it is on the page
//! that esp points to, the window turns to it.
//!
//! Invariants
//! 1. [`TAG`] is [`NO_TAG`], or the slot in [`SLOT`] has this tag for loads and for stores, and the
//!    frame whose host address is in [`HOST`].
//! 2. Hence whatever may change the table (the slow path, all that Rust does between two entries)
//!    is followed by [`look_at_window`] or [`check_window`].

use super::condition::{ABOVE, EQUAL, NOT_EQUAL};
use super::emit::{Assembler, CLK, Mem, Patch, RBP, RCX, RDX, RSP, Reg, S0, S1};
use super::probe::{Want, tag};
use super::site::SiteKind;
use super::translate::{Cold, Emitter};
use super::words;
use machine::{Access, PAGE_BYTES, layout};

/// The tag, the host address of the frame, and the slot of the page.
const TAG: Reg = 8;
const HOST: Reg = 9;
const SLOT: Reg = 10;
/// Free for the way here.
const SPARE: Reg = 11;
/// In place of a tag: no address of 32 bits hits it.
const NO_TAG: i32 = 0x7fff_f000;
/// How far above the top of the stack a frame pointer points.
const FRAME_BYTES: u64 = 1 << 20;
const PAGE_SHIFT: u8 = PAGE_BYTES.trailing_zeros() as u8;

/// A probe of the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowProbe {
    pub want: Want,
    /// What the clock advances by.
    pub clock: i32,
    pub site: u32,
    /// Where code goes on.
    pub resume: u64,
}

impl Emitter {
    /// Whether an access goes by the window.
    pub(super) fn has_window(&self, want: Want) -> bool {
        let is_near = match want.base {
            Some(RSP) => true,
            Some(RBP) => self.now.has_frame,
            _ => false,
        };
        is_near && self.now.flavor.has_window() && !self.now.is_single && !self.is_live()
    }

    /// Probes for the access of a site at the address in r14. Afterwards the operand is at
    /// `[r14+r13]`. Returns the branch that is taken if the window is on another page.
    pub(super) fn probe_window(&mut self, want: Want, clock: i32, site: u32) -> Patch {
        self.asm.add_register_flags(S0, TAG);
        self.asm.compare_flags(S0, PAGE_BYTES as i32 - i32::from(want.bytes));
        let branch = self.asm.branch(ABOVE);
        self.asm.store(Mem::table(layout::STAMP, SLOT), CLK);
        self.asm.lea(CLK, Mem::at(CLK, clock));
        self.asm.copy(S1, HOST);
        let resume = self.asm.here();
        let probe = WindowProbe { want, clock, site, resume };
        self.cold.push(Cold::Window { branch, probe });
        self.now.has_access = true;
        branch
    }

    /// Probes in the table where the window is on another page, which turns to this one if esp
    /// points to it; goes where a probe goes that fails.
    pub(super) fn cold_window(&mut self, probe: WindowProbe) {
        self.asm.sub_register_flags(S0, TAG);
        self.asm.copy(SPARE, S0);
        self.asm.xor_register_flags(SPARE, RSP);
        let branch = self.probe_dead(probe.want);
        self.asm.store(Mem::table(layout::STAMP, S1), CLK);
        self.asm.lea(CLK, Mem::at(CLK, probe.clock));
        self.asm.shift_right_flags(SPARE, PAGE_SHIFT);
        let elsewhere = self.asm.branch(NOT_EQUAL);
        self.asm.load(TAG, Mem::table(tag(Access::Read), S1));
        self.asm.load(HOST, Mem::table(layout::HOST, S1));
        self.asm.copy(SLOT, S1);
        self.asm.compare_with_flags(TAG, Mem::table(tag(Access::Write), S1));
        let is_both = self.asm.branch(EQUAL);
        self.asm.constant(TAG, NO_TAG as u64);
        self.asm.resolve(is_both);
        self.asm.resolve(elsewhere);
        self.asm.load(S1, Mem::table(layout::HOST, S1));
        self.asm.jump_to(probe.resume);
        self.asm.resolve(branch);
        match self.sites[probe.site as usize].kind() {
            SiteKind::Group { .. } => self.cold_group(probe.site, false),
            _ => self.cold_probe(probe.site, probe.want.access, false),
        }
    }
}

/// Emits the check of a window whose registers are in their homes, if 32-bit code runs. Changes
/// rcx, rdx and flags.
pub(super) fn look_at_window(asm: &mut Assembler) {
    asm.compare_word_flags(Mem::word(words::WINDOW), 0);
    let none = asm.branch(EQUAL);
    asm.load(RCX, Mem::word(words::home(SLOT)));
    asm.load(RDX, Mem::word(words::home(TAG)));
    asm.compare_with_flags(RDX, Mem::table(layout::WRITE_TAG, RCX));
    let other = asm.branch(NOT_EQUAL);
    asm.load(RDX, Mem::word(words::home(HOST)));
    asm.compare_with_flags(RDX, Mem::table(layout::HOST, RCX));
    let same = asm.branch(EQUAL);
    asm.resolve(other);
    asm.store_imm(Mem::word(words::home(TAG)), NO_TAG);
    asm.resolve(same);
    asm.resolve(none);
}

/// Whether rbp points to the stack now.
pub(super) fn has_frame(fast: &[u64]) -> bool {
    fast[words::home(RBP)].wrapping_sub(fast[words::home(RSP)]) < FRAME_BYTES
}

/// Closes a window that is not true any more.
pub(super) fn check_window(fast: &mut [u64]) {
    let slot = fast[words::home(SLOT)] as usize & (layout::SLOTS - 1);
    let is_true = fast[layout::WRITE_TAG + slot] == fast[words::home(TAG)]
        && fast[layout::HOST + slot] == fast[words::home(HOST)];
    if !is_true {
        close_window(fast);
    }
}

/// Closes the window.
pub(super) fn close_window(fast: &mut [u64]) {
    fast[words::home(TAG)] = NO_TAG as u64;
    fast[words::home(SLOT)] = 0;
}
