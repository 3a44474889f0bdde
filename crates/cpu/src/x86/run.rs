//! The loop between emitted code and the world: enter, look why it left, go on or return.

use super::access::Stop;
use super::block::{Extent, PARKED};
use super::compat::Flavor;
use super::engine::{Core, SPIN_EDGES, jump_slot};
use super::slow::SlowContext;
use super::stubs::{PARKED_BIT, Reason};
use super::translate::Ways;
use super::translate::{BlockId, exception_of};
use super::window::{check_window, close_window};
use super::words;
use crate::{Exception, Exit, Gate, Mode, Registers, Segment, SegmentName};
use machine::{CLOCK_DRAIN_BIT, CLOCK_SHIFT, Machine, VirtAddr, layout};

/// CF PF AF ZF SF OF in RFLAGS.
pub(super) const ARITHMETIC: u64 = 0x8d5;
/// The direction flag.
pub(super) const DIRECTION: u64 = 0x400;
/// The trap flag.
pub(super) const TRAP: u64 = 0x100;
/// The flag that lets misaligned accesses raise #AC: Linux sets CR0.AM.
const ALIGNMENT: u64 = 0x4_0000;
/// Flags that a user program can change and that emitted code never holds: TF NT AC ID.
const KEPT: u64 = 0x0024_4100;
/// Flags that are always set: bit 1 and IF.
const ALWAYS: u64 = 0x202;
/// Virtual nanoseconds that a back edge without an access takes.
const SPIN_EDGE_NS: u64 = 1;

/// State of the guest that no register of the host holds.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct VirtualState {
    /// TF NT AC ID.
    pub flags: u64,
    /// Accesses when the slice began.
    slice_start: u64,
    /// Emulated instructions until the next look at the clock.
    emulated: u32,
    /// Instructions done one at a time since the last look whether time passes.
    singles: u64,
    /// Accesses at that look.
    seen: u64,
    /// The hidden parts of the segment registers, outside of 64-bit code.
    pub segments: [Segment; 6],
}

/// The stride of string instructions under these flags.
const fn stride(rflags: u64) -> u64 {
    if rflags & DIRECTION != 0 { u64::MAX } else { 1 }
}

/// The direction flag.
pub(super) fn direction(fast: &[u64]) -> u64 {
    if fast[words::STRIDE] == 1 { 0 } else { DIRECTION }
}

/// Flags as they are parked: ah as `lahf` leaves it, al the overflow flag.
pub(super) const fn parked(flags: u64) -> u64 {
    (flags & 0xd5 | 2) << 8 | flags >> 11 & 1
}

/// Parked flags as bits of RFLAGS.
pub(super) const fn unparked(word: u64) -> u64 {
    word >> 8 & 0xd5 | (word & 1) << 11
}

/// Leaves only those flags at an exit that were kept: others may be remains of a probe.
pub(super) fn keep_live(fast: &mut [u64], live: u16) {
    if live == PARKED {
        fast[words::FLAGS] = unparked(fast[words::FLAGS_PARKED]);
    } else {
        fast[words::FLAGS] &= u64::from(live);
    }
}

/// The exit for a system call: 1 more than the number of a gate, or 0.
const fn system_call(gate: u64) -> Exit {
    match gate {
        0 => Exit::Syscall,
        1 => Exit::Syscall32(Gate::Int80),
        2 => Exit::Syscall32(Gate::Sysenter),
        _ => Exit::Syscall32(Gate::Syscall),
    }
}

/// What to do next.
pub(super) enum Next {
    /// Go on at this guest address.
    At(u64),
    /// Go on at this host address.
    Host(u64),
    /// Tell the world.
    Leave(Exit),
}

impl Core {
    /// Runs until there is something to tell.
    pub(super) fn run(&mut self, regs: &mut Registers, hw: &mut Machine) -> Exit {
        self.attach(hw);
        self.apply_stale(hw);
        self.virtual_state.slice_start = hw.time();
        self.trap = super::access::Trap::default();
        regs.fpu.sanitize();
        regs.error_code = 0;
        self.load(regs, hw);
        let mut next = Next::At(hw.fast()[words::RIP]);
        let exit = loop {
            next = match next {
                Next::Leave(exit) => break exit,
                Next::Host(host) => self.stay(regs, hw, host),
                Next::At(rip) => self.go_to(regs, hw, rip),
            };
        };
        self.store(regs, hw);
        regs.fpu.clear_pointers();
        if exit == Exit::Syscall {
            regs.gpr[Registers::RCX] = regs.rip;
            regs.gpr[11] = regs.rflags;
        }
        exit
    }

    /// Registers to words.
    pub(super) fn load(&mut self, regs: &Registers, hw: &mut Machine) {
        self.virtual_state.flags = regs.rflags & KEPT;
        self.set_flavor(hw, Flavor::of(regs));
        let fast = hw.fast();
        for (register, value) in regs.gpr.iter().enumerate() {
            fast[words::home(self.assignment.place(register as u8))] = *value;
        }
        if regs.mode() == Mode::Compat {
            // 32-bit code relies on upper halves that are zero; it cannot see them.
            fast[words::GPR..words::GPR + 8].iter_mut().for_each(|word| *word &= 0xffff_ffff);
            close_window(fast);
            self.virtual_state.segments = regs.segments;
        }
        fast[words::RIP] = regs.linear_rip();
        fast[words::FLAGS] = regs.rflags & ARITHMETIC | 2;
        fast[words::STRIDE] = stride(regs.rflags);
        fast[words::FS_BASE] = regs.fs_base;
        fast[words::GS_BASE] = regs.gs_base;
        fast[words::ES_BASE] = regs.base(SegmentName::Es);
        fast[words::SS_BASE] = regs.base(SegmentName::Ss);
        fast[words::DS_BASE] = regs.base(SegmentName::Ds);
        fast[words::CS_BASE] = regs.base(SegmentName::Cs);
        fast[words::XSAVE_POINTER] = regs.fpu.bytes().as_ptr() as u64;
    }

    /// Words to registers.
    pub(super) fn store(&self, regs: &mut Registers, hw: &mut Machine) {
        let fast = hw.fast();
        // 32-bit code keeps what it has no name for.
        let named = if self.pages.flavor.is_compat() { 8 } else { 16 };
        for (register, value) in regs.gpr[..named].iter_mut().enumerate() {
            *value = fast[words::home(self.assignment.place(register as u8))];
        }
        regs.set_linear_rip(fast[words::RIP]);
        regs.rflags =
            fast[words::FLAGS] & ARITHMETIC | direction(fast) | self.virtual_state.flags | ALWAYS;
        regs.fs_base = fast[words::FS_BASE];
        regs.gs_base = fast[words::GS_BASE];
    }

    fn leave_at(hw: &mut Machine, rip: u64, exit: Exit) -> Next {
        hw.fast()[words::RIP] = rip;
        Next::Leave(exit)
    }

    /// Finds the host address for `rip`.
    fn go_to(&mut self, regs: &mut Registers, hw: &mut Machine, rip: u64) -> Next {
        if hw.has_stale_code() {
            self.apply_stale(hw);
        }
        if self.virtual_state.flags & (TRAP | ALIGNMENT) != 0 || self.pages.flavor.is_odd() {
            return self.go_one(regs, hw, rip);
        }
        let index = jump_slot(rip);
        let fast = hw.fast();
        let host = fast[index + words::JUMP_DISTANCE];
        if fast[index] == rip.wrapping_neg() && host != 0 {
            return Next::Host(host);
        }
        self.find_block(hw, rip)
    }

    /// Finds the host address for the one instruction at `rip`.
    pub(super) fn go_one(&mut self, regs: &mut Registers, hw: &mut Machine, rip: u64) -> Next {
        if self.is_standing(hw) {
            return self.spun(hw, rip);
        }
        let rip = rip & self.pages.flavor.linear_mask();
        if self.pages.flavor.is_odd()
            && let Err(exit) = self.check_code(regs, hw, rip)
        {
            return Self::leave_at(hw, rip, exit);
        }
        let block = match self.locate(hw, rip, Extent::Single, Ways::Links) {
            Ok(block) => block,
            Err(exit) => return Self::leave_at(hw, rip, exit),
        };
        let is_aligned = self.virtual_state.flags & ALIGNMENT != 0;
        if is_aligned || self.pages.flavor.is_compat() {
            self.store(regs, hw);
            if let Some(exception) = self.refusal(regs, hw, rip, is_aligned) {
                return Self::leave_at(hw, rip, Exit::Exception(exception));
            }
        }
        Next::Host(self.body(block))
    }

    /// Whether many instructions were done one at a time and none made an access: time has to pass
    /// all the same.
    fn is_standing(&mut self, hw: &mut Machine) -> bool {
        let state = &mut self.virtual_state;
        state.singles += 1;
        if state.singles < SPIN_EDGES {
            return false;
        }
        state.singles = 0;
        let before = core::mem::replace(&mut state.seen, hw.time());
        before == state.seen
    }

    /// Finds the block at `rip` past the jump cache.
    fn find_block(&mut self, hw: &mut Machine, rip: u64) -> Next {
        match self.locate(hw, rip, Extent::Block, Ways::All) {
            Ok(block) => {
                self.remember(hw, block);
                Next::Host(self.body(block))
            }
            Err(exit) => Self::leave_at(hw, rip, exit),
        }
    }

    fn body(&self, block: BlockId) -> u64 {
        self.host(self.pages.blocks[block as usize].body())
    }

    /// One stay in emitted code, and what it ended with.
    fn stay(&mut self, regs: &mut Registers, hw: &mut Machine, host: u64) -> Next {
        let fast = hw.fast();
        fast[words::FLAGS_PARKED] = parked(fast[words::FLAGS]);
        let is_compat = self.pages.flavor.is_compat();
        fast[words::WINDOW] = u64::from(is_compat);
        if is_compat {
            check_window(fast);
        }
        fast[words::WHOLE] = u64::from(self.uses_x87 || !regs.fpu.is_complete());
        fast[words::WIDE] = u64::from(regs.fpu.has_upper_halves());
        hw.allow_misses();
        let mut context = SlowContext::new(self, hw);
        let address = context.address();
        context.set_word(words::CONTEXT, address);
        context.enter(host);
        let fast = hw.fast();
        let rip = fast[words::RIP];
        let (reason, with) = Reason::decode(fast[words::REASON]);
        if fast[words::REASON] & u64::from(PARKED_BIT) != 0 {
            fast[words::FLAGS] = unparked(fast[words::FLAGS_PARKED]);
        }
        if reason != Reason::Done {
            self.trap.copy_back = None;
            self.trap.stale = None;
        }
        if core::mem::take(&mut self.trap.is_parked) {
            fast[words::FLAGS] = unparked(fast[words::FLAGS_PARKED]);
        }
        match reason {
            Reason::Link => self.follow(hw, with as u32),
            Reason::Indirect if !VirtAddr::new(rip).is_canonical(self.canonical_bits) => {
                self.undo_branch(hw, with as u32)
            }
            Reason::Drain | Reason::Indirect => self.look_at_clock(hw, rip),
            Reason::Spin => self.spun(hw, rip),
            Reason::Syscall => Next::Leave(system_call(with)),
            Reason::Checked => self.go_one(regs, hw, rip),
            Reason::Emulate => self.emulate_at(regs, hw, rip),
            Reason::Trap => self.trapped(hw, rip, exception_of(with)),
            Reason::Signal => self.signalled(hw),
            Reason::Stopped => self.stopped(regs, hw, rip),
            Reason::Done => self.done(hw, rip, with as u32),
            Reason::Split => self.split(regs, hw, with as u32),
        }
    }

    /// A branch to a non-canonical address raises #GP where it stands, and rsp has not moved.
    fn undo_branch(&mut self, hw: &mut Machine, site: u32) -> Next {
        let site = self.emitter.sites[site as usize];
        let at = self.site_rip(&site);
        if let Ok(instruction) = self.decode_at(at, hw) {
            let moved = i64::from(instruction.stack_pointer_increment()) as u64;
            let rsp = &mut hw.fast()[words::home(super::emit::RSP)];
            *rsp = rsp.wrapping_sub(moved);
        }
        self.uncount_rest(site.block(), at, 0);
        Self::leave_at(hw, at, Exit::Exception(Exception::GeneralProtection))
    }

    /// A direct jump met its target for the first time.
    fn follow(&mut self, hw: &mut Machine, link: u32) -> Next {
        let record = self.emitter.links[link as usize];
        let target = self.link_target(&record);
        if hw.has_stale_code() {
            return Next::At(target);
        }
        let generation = self.statistics.generation_count;
        let ways = self.ways_behind(&record);
        match self.locate(hw, target, Extent::Block, ways) {
            Ok(block) => {
                if self.statistics.generation_count == generation {
                    self.connect(link, block);
                }
                Next::Host(self.body(block))
            }
            Err(exit) => Self::leave_at(hw, target, exit),
        }
    }

    /// Drains the clock if it is due, and ends the slice if it is over.
    fn look_at_clock(&mut self, hw: &mut Machine, rip: u64) -> Next {
        if hw.fast()[layout::CLOCK] & CLOCK_DRAIN_BIT == 0 {
            return Next::At(rip);
        }
        hw.drain_clock();
        self.look_at_code(hw, rip);
        self.end_slice(hw, rip)
    }

    fn end_slice(&mut self, hw: &mut Machine, rip: u64) -> Next {
        if hw.time() - self.virtual_state.slice_start >= self.config.slice_accesses {
            return Self::leave_at(hw, rip, Exit::Budget);
        }
        Next::At(rip)
    }

    /// A loop without accesses: time passes, and the world may want something.
    fn spun(&mut self, hw: &mut Machine, rip: u64) -> Next {
        hw.fast()[words::SPIN] = SPIN_EDGES;
        hw.advance_ns(SPIN_EDGES * SPIN_EDGE_NS);
        Self::leave_at(hw, rip, Exit::Budget)
    }

    fn trapped(&mut self, hw: &mut Machine, rip: u64, exception: Exception) -> Next {
        if let Some(counting) = self.counting.as_mut() {
            counting.take_back(1);
        }
        Self::leave_at(hw, rip, Exit::Exception(exception))
    }

    /// The slow path stopped an instruction.
    fn stopped(&mut self, regs: &Registers, hw: &mut Machine, rip: u64) -> Next {
        let block = hw.fast()[words::ARGUMENT] as BlockId;
        keep_live(hw.fast(), self.trap.live);
        match self.trap.stop.take().unwrap_or(Stop::NoRoom) {
            Stop::Exit(exit) => {
                if !self.trap.is_entry {
                    self.uncount_rest(block, rip, 0);
                }
                Next::Leave(self.first_exit(regs, hw, rip, exit))
            }
            Stop::Moved { address, slot, frame, is_second } => {
                self.turn_to(hw, address, slot.checked_sub(1), frame);
                if is_second {
                    self.uncount_rest(block, rip, 0);
                    self.kill_block(hw, block);
                    return Next::At(rip);
                }
                self.find_block(hw, rip)
            }
            Stop::Stale { next_rip } => {
                self.uncount_rest(block, rip, 1);
                self.single_done(hw, next_rip)
            }
            Stop::Element => {
                self.uncount_rest(block, rip, 0);
                Self::leave_at(hw, rip, Exit::Exception(Exception::Debug))
            }
            Stop::NoRoom => {
                self.uncount_rest(block, rip, 0);
                self.flush_generation(hw);
                Next::At(rip)
            }
        }
    }

    /// A guest instruction raised an exception on the host.
    fn signalled(&mut self, hw: &mut Machine) -> Next {
        let fast = hw.fast();
        let host = fast[words::SIGNAL_RIP];
        let exception = match fast[words::SIGNAL_TRAP] {
            0 => Exception::DivideError,
            6 => Exception::InvalidOpcode,
            12 => Exception::StackFault,
            13 => Exception::GeneralProtection,
            16 => Exception::FloatingPoint,
            17 => Exception::AlignmentCheck,
            19 => Exception::SimdFloatingPoint,
            trap => panic!("emitted code at {host:#x} raised trap {trap}: a bug of the engine"),
        };
        let (piece, offset) = self
            .pages
            .piece_at_host(self.offset(host), host >= self.cache.cold_start())
            .unwrap_or_else(|| panic!("exception at {host:#x} outside of blocks"));
        let block = &self.pages.blocks[piece.block as usize];
        let points = &self.emitter.points[piece.points];
        let behind = points.partition_point(|point| u32::from(point.host) <= offset);
        let Some(point) = points[..behind].last() else {
            panic!("exception at {host:#x}, where no instruction raises one: a bug of the engine")
        };
        for (spill, register) in point.spilled.iter().enumerate() {
            if *register != 0xff {
                fast[words::home(*register)] = fast[words::SPILL + spill];
            }
        }
        let pending = u64::from(point.pending) + (u64::from(point.pending_writes) << CLOCK_SHIFT);
        fast[layout::CLOCK] -= pending;
        keep_live(fast, point.live);
        let rip = self.pages.rip(block).wrapping_add(u64::from(point.guest));
        self.uncount_rest(piece.block, rip, 0);
        Self::leave_at(hw, rip, Exit::Exception(exception))
    }

    /// A block of one instruction is done; `branch` is 1 more than the site of an indirect jump.
    fn done(&mut self, hw: &mut Machine, rip: u64, branch: u32) -> Next {
        if let Some(copy) = self.trap.copy_back.take() {
            self.write_back(hw, copy);
        }
        if let Some(frame) = self.trap.stale.take() {
            hw.frame_changed(frame);
        }
        match branch.checked_sub(1) {
            Some(site) if !VirtAddr::new(rip).is_canonical(self.canonical_bits) => {
                self.undo_branch(hw, site)
            }
            _ => self.single_done(hw, rip),
        }
    }

    /// Goes on at `rip`, unless the trap flag is set.
    fn single_done(&mut self, hw: &mut Machine, rip: u64) -> Next {
        if self.is_stepping() {
            return Self::leave_at(hw, rip, Exit::Exception(Exception::Debug));
        }
        self.look_at_clock(hw, rip)
    }

    /// Whether the trap flag is set.
    pub(super) fn is_stepping(&self) -> bool {
        self.virtual_state.flags & TRAP != 0
    }

    /// An instruction that is done in Rust.
    fn emulate_at(&mut self, regs: &mut Registers, hw: &mut Machine, rip: u64) -> Next {
        let was_traced = self.is_stepping();
        self.store(regs, hw);
        regs.fpu.clear_pointers();
        let result = self.emulate(regs, hw, rip);
        self.load(regs, hw);
        let next = hw.fast()[words::RIP] & self.pages.flavor.linear_mask();
        hw.fast()[words::RIP] = next;
        match result {
            Ok(()) if was_traced => Self::leave_at(hw, next, Exit::Exception(Exception::Debug)),
            Ok(()) => self.emulated(hw, next),
            Err(exit) => {
                if let Some(counting) = self.counting.as_mut() {
                    counting.take_back(1);
                }
                let is_behind = exit == Exit::Exception(Exception::Overflow);
                debug_assert!(next == rip || is_behind, "a fault keeps rip");
                Next::Leave(exit)
            }
        }
    }

    fn emulated(&mut self, hw: &mut Machine, rip: u64) -> Next {
        if hw.fast()[layout::CLOCK] & CLOCK_DRAIN_BIT != 0 {
            hw.drain_clock();
        }
        self.virtual_state.emulated += 1;
        if self.virtual_state.emulated < 1024 {
            return Next::At(rip);
        }
        self.virtual_state.emulated = 0;
        self.virtual_state.singles += 1023;
        if self.is_standing(hw) {
            return self.spun(hw, rip);
        }
        self.end_slice(hw, rip)
    }
}
