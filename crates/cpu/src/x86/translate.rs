//! From one guest block to host code.
//!
//! ```text
//! [ways in][point: hot code of each instruction ...][exit]   [slow ways of probes, links, leaves]
//! ```
//! What is on the right is cold and stands in another part of the code cache.

//! Every instruction is emitted as it is, with its memory operand on `[r14+r13]` behind a probe
//! (`probe.rs`), stolen registers replaced (`operand.rs`), and the stack (`stack.rs`) and control
//! transfers (`branch.rs`) rewritten.
//!
//! Invariants
//! 1. At each point, every guest register is in its home and no scratch register holds anything.
//! 2. No guest register changes before the last access of its instruction.
//! 3. The words RCX_SAVE, SPILL and PARK hold nothing across points.

use super::ask::{Ask, Asked};
use super::block::{Extent, Scan, Step};
use super::classify::Class;
use super::compat::Flavor;
use super::condition::EQUAL;
use super::emit::{Assembler, Mem, Patch, Place, S0, S1};
use super::members::puts_stack_off;
use super::records::{Link, Offset, Point, offset};
use super::site::{Site, SiteKind};
use super::strip::{self, Strip};
use super::stubs::{PARKED_BIT, Reason, Stubs};
use super::window::WindowProbe;
use super::words;
use crate::Exception;
use iced_x86::{Encoder, Instruction, InstructionInfoFactory};
use machine::{Access, PAGE_BYTES, layout};

/// Index of a block.
pub(super) type BlockId = u32;

/// What has to be emitted behind the hot code.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cold {
    /// A probe failed.
    Probe { branch: Patch, site: u32, access: Access, is_flags_live: bool },
    /// The probe of a group failed.
    Group { branch: Patch, site: u32, is_flags_live: bool },
    /// A group whose probe has failed before: these steps, and then on at `resume`.
    Split { first: usize, last: usize, resume: u64 },
    /// The window is on another page than an access.
    Window { branch: Patch, probe: WindowProbe },
    /// The page of a predicted load is at another distance than the one before.
    Distance { branch: Patch, word: usize, resume: u64 },
    /// A direct jump without a target.
    Link { link: u32 },
    /// An indirect jump misses the jump cache, or meets a drain.
    Indirect { branches: [Patch; 2], site: u32 },
    /// A branch that leads to another page.
    Go { branch: Patch, target: u64, is_flags_live: bool },
    /// Leave with an address and a reason.
    Leave { branch: Patch, rip: u64, reason: u32 },
    /// A page is entered that is not in the fetch shadow.
    Fetch { branch: Patch, site: u32, is_flags_live: bool },
    /// The block jumps back to its start, and goes on in a strip.
    Strip { branch: Patch },
}

/// What is the same for all instructions of the block being emitted.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Current {
    pub block: BlockId,
    pub is_single: bool,
    /// Start of the page in which the block ends.
    pub exit_page: u64,
    /// Whether its first instruction reaches into that page from the one before.
    pub is_straddling: bool,
    /// Whether an access was emitted in the block.
    pub has_access: bool,
    /// The instruction being emitted.
    pub rip: u64,
    pub next_rip: u64,
    /// Arithmetic flags that may still be read, as bits of RFLAGS.
    pub live: u16,
    /// Whether flags may be read where the block jumps to, and behind its last instruction.
    pub is_flags_live_taken: bool,
    pub is_flags_live_next: bool,
    /// Whether the block leaves with parked flags.
    pub parks: bool,
    /// Probes of the instruction so far.
    pub ordinal: u8,
    /// Whether r14 holds the address of a group.
    pub is_grouped: bool,
    /// Whether r13 holds the frame of the group, and r14 the offset in it.
    pub is_indexed: bool,
    /// By how much rsp has to move yet.
    pub stack_bytes: i32,
    /// Whether the instruction cannot fault: homes may be behind until one that can.
    pub is_quiet: bool,
    /// The first instruction of the block.
    pub first: u64,
    /// What the block depends on.
    pub flavor: Flavor,
    /// Whether rbp points to the stack.
    pub has_frame: bool,
    /// The way in from another page.
    pub page_entry: u64,
    /// The code of the first instruction.
    pub body: u64,
}

/// By which ways a block will be entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ways {
    /// By direct jumps on its page.
    Links,
    /// Likewise, by one first whose displacement is there: see `joint.rs`.
    Behind(Offset),
    /// Also by indirect jumps and from other pages.
    All,
}

/// Where and for what a block is emitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Host addresses of its first bytes.
    pub place: Place,
    pub block: BlockId,
    pub extent: Extent,
    /// The page that its only instruction reaches into.
    pub second: Option<SecondPage>,
    /// Host address of its execution counter.
    pub counter: Option<u64>,
    /// The slot of its page, if it is to have all ways in.
    pub slot: Option<u32>,
    /// Whether rbp points to the stack while the block is emitted.
    pub has_frame: bool,
}

/// Where the parts of an emitted block are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emitted {
    pub body: u64,
    /// The ways in for indirect jumps and from other pages, if it has them.
    pub entry: Option<[u64; 2]>,
}

/// Emits blocks.
pub(super) struct Emitter {
    pub asm: Assembler,
    pub stubs: Stubs,
    /// Host address of the first byte of the cache.
    pub cache_start: u64,
    pub sites: Vec<Site>,
    pub asked: Asked,
    pub links: Vec<Link>,
    pub points: Vec<Point>,
    /// Host addresses of the loops of strips: first byte, and the one behind.
    pub strips: Vec<(u64, u64)>,
    /// Predicted loads so far.
    pub(super) predictions: usize,
    /// How the block being emitted can run in strips.
    pub(super) strip: Option<Strip>,
    pub(super) now: Current,
    pub(super) cold: Vec<Cold>,
    pub(super) encoder: Encoder,
    pub(super) factory: InstructionInfoFactory,
}

impl core::fmt::Debug for Emitter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Emitter").field("now", &self.now).finish_non_exhaustive()
    }
}

/// A page entry that a block makes before its only instruction: the slot of the second page.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecondPage {
    pub slot: u32,
}

impl Emitter {
    /// An emitter for a cache of so many bytes at `cache_start`. Room for its records is reserved,
    /// so that they need not move when they become many.
    pub(super) fn new(cache_start: u64, cache_bytes: usize) -> Self {
        Self {
            asm: Assembler::default(),
            stubs: Stubs::default(),
            cache_start,
            sites: Vec::with_capacity(cache_bytes / 128),
            asked: Asked::new(),
            links: Vec::with_capacity(cache_bytes / 256),
            points: Vec::new(),
            strips: Vec::new(),
            predictions: 0,
            strip: None,
            now: Current::default(),
            cold: Vec::new(),
            encoder: Encoder::new(64),
            factory: InstructionInfoFactory::new(),
        }
    }

    /// Forgets all sites, links and points: the code cache is being emptied.
    pub(super) fn forget(&mut self) {
        self.sites.clear();
        self.asked = Asked::new();
        self.links.clear();
        self.points.clear();
        self.strips.clear();
    }

    /// Emits the block of `scan`.
    pub(super) fn block(&mut self, scan: &Scan, start: Start) -> Emitted {
        let first = self.turn_to(scan, start);
        let first_point = self.points.len();
        let second = start.second;
        if let Some(slot) = start.slot {
            self.way_in(first, slot, scan.is_flags_live_before);
        }
        let body = self.asm.here();
        self.now.body = body;
        let is_whole = !self.now.is_single && second.is_none() && start.counter.is_none();
        self.strip = if is_whole { strip::find(scan, &mut self.factory) } else { None };
        if let Some(counter) = start.counter {
            self.count(counter);
        }
        if let Some(second) = second {
            self.now.rip = first;
            self.page_entry(first, second.slot, true, IsSecond::Yes);
        }
        if scan.parks_at_start {
            self.park();
        }
        self.steps(scan);
        self.asm.settle_all();
        let last = scan.steps.last().expect("a block has an instruction");
        if !last.class.ends_block() {
            self.go(scan.next_rip, scan.is_flags_live_next);
        }
        self.finish(scan);
        if start.counter.is_none() {
            self.drop_points(first_point);
        }
        Emitted { body, entry: start.slot.map(|_| [start.place.hot, self.now.page_entry]) }
    }

    /// Begins to emit code of the block of `scan`; returns its first address.
    pub(super) fn turn_to(&mut self, scan: &Scan, start: Start) -> u64 {
        let first = scan.steps.first().expect("a block has an instruction").instruction.ip();
        let page = first & !(PAGE_BYTES - 1);
        let is_straddling = start.second.is_some();
        self.asm.restart(start.place);
        self.cold.clear();
        self.strip = None;
        self.now = Current {
            block: start.block,
            is_single: start.extent == Extent::Single,
            exit_page: if is_straddling { page.wrapping_add(PAGE_BYTES) } else { page },
            is_straddling,
            is_flags_live_taken: scan.is_flags_live_taken,
            is_flags_live_next: scan.is_flags_live_next,
            parks: scan.parks,
            first,
            flavor: scan.flavor,
            has_frame: start.has_frame,
            ..Current::default()
        };
        first
    }

    /// Drops the points of instructions that raise nothing, from number `first` on.
    pub(super) fn drop_points(&mut self, first: usize) {
        let mut kept = first;
        for index in first..self.points.len() {
            if self.points[index].may_raise {
                self.points[kept] = self.points[index];
                kept += 1;
            }
        }
        self.points.truncate(kept);
    }

    /// Emits the ways into the block for indirect jumps and from other pages, right in front of its
    /// body.
    fn way_in(&mut self, rip: u64, slot: u32, is_flags_live: bool) {
        self.asm.compare_word_flags(Mem::word(layout::FETCH_PAGE), slot as i32);
        let same = self.asm.short(0x70 | EQUAL);
        self.now.page_entry = self.asm.here();
        self.page_entry(rip, slot, false, IsSecond::No);
        self.asm.land(same);
        if is_flags_live {
            self.unpark();
        }
    }

    fn steps(&mut self, scan: &Scan) {
        let mut at = 0;
        let mut groups = if self.now.is_single { [].iter() } else { scan.groups.iter() }.peekable();
        while at < scan.steps.len() {
            match groups.next_if(|group| group.first == at) {
                Some(group) => {
                    self.group(scan, group);
                    at = group.last + 1;
                }
                None => {
                    self.step(&scan.steps[at]);
                    at += 1;
                }
            }
        }
    }

    /// Adds one to an execution counter at a host address.
    fn count(&mut self, counter: u64) {
        self.asm.constant(S1, counter);
        self.asm.load(S0, Mem::at(S1, 0));
        self.asm.lea(S0, Mem::at(S0, 1));
        self.asm.store(Mem::at(S1, 0), S0);
    }

    /// Turns to the next instruction.
    pub(super) fn begin(&mut self, step: &Step) {
        let instruction = &step.instruction;
        self.now.rip = instruction.ip();
        self.now.next_rip = instruction.next_ip() & self.now.flavor.linear_mask();
        self.now.live = step.live;
        self.now.ordinal = 0;
        self.now.is_quiet = step.is_quiet();
        if !self.now.is_quiet {
            self.asm.settle_all();
        }
        if self.now.stack_bytes != 0 && !puts_stack_off(step) {
            self.move_stack();
        }
        self.points.push(Point {
            host: self.asm.len() as u16,
            guest: instruction.ip().wrapping_sub(self.now.first) as u16,
            spilled: [0xff; 2],
            pending: 0,
            pending_writes: 0,
            live: step.live,
            may_raise: step.may_raise(),
        });
    }

    /// Emits one instruction with probes of its own.
    pub(super) fn step(&mut self, step: &Step) {
        self.begin(step);
        self.instruction(step);
        if step.parks_behind {
            self.asm.settle_all();
            self.park();
        }
    }

    fn instruction(&mut self, step: &Step) {
        let instruction = &step.instruction;
        match step.class {
            Class::Plain => self.plain(step),
            Class::Memory(access) => self.memory(step, access),
            Class::Lea => self.lea(instruction),
            Class::Nop => {}
            Class::Push => self.push(instruction),
            Class::PushMemory => self.push_memory(instruction),
            Class::Pop => self.pop(instruction),
            Class::PopMemory => self.pop_memory(instruction),
            Class::Leave => self.leave_frame(),
            Class::Translate => self.translate(instruction),
            Class::Direction => self.direction(instruction),
            Class::String => self.string(step),
            _ => self.transfer(step),
        }
    }

    /// Instructions behind which the block ends.
    fn transfer(&mut self, step: &Step) {
        let instruction = &step.instruction;
        match step.class {
            Class::Call => self.call(instruction),
            Class::CallIndirect => self.call_indirect(instruction),
            Class::Return => self.ret(instruction),
            Class::Jump => self.go(instruction.near_branch_target(), self.now.is_flags_live_taken),
            Class::Branch => self.branch(instruction),
            Class::Count => self.count_branch(instruction),
            Class::JumpIndirect => self.jump_indirect(instruction),
            Class::Syscall => self.leave_with(self.now.next_rip, Reason::Syscall.alone()),
            Class::Gate(gate) => {
                self.leave_with(self.now.next_rip, Reason::Syscall.with(gate as u32 + 1));
            }
            Class::Checked => self.leave_with(self.now.rip, Reason::Checked.alone()),
            Class::Trap(exception) => self.trap(exception),
            _ => self.leave_with(self.now.rip, Reason::Emulate.alone()),
        }
    }

    fn trap(&mut self, exception: Exception) {
        let is_behind =
            matches!(exception, Exception::Breakpoint | Exception::Debug | Exception::Overflow);
        let rip = if is_behind { self.now.next_rip } else { self.now.rip };
        self.leave_with(rip, Reason::Trap.with(exception_number(exception)));
    }

    /// `cld` or `std`: the flag is virtual.
    pub(super) fn direction(&mut self, instruction: &Instruction) {
        let stride = if instruction.code() == iced_x86::Code::Std { -1 } else { 1 };
        self.asm.store_imm(Mem::word(words::STRIDE), stride);
    }

    /// Leaves emitted code here.
    pub(super) fn leave_with(&mut self, rip: u64, reason: u32) {
        self.asm.constant(S0, rip);
        self.asm.constant(S1, u64::from(reason));
        self.asm.jump_to(self.stubs.leave);
    }

    /// Emits what stands behind the hot code.
    pub(super) fn finish(&mut self, scan: &Scan) {
        self.asm.turn_cold();
        let mut index = 0;
        while let Some(cold) = self.cold.get(index).copied() {
            index += 1;
            match cold {
                Cold::Probe { branch, site, access, is_flags_live } => {
                    self.asm.resolve(branch);
                    self.cold_probe(site, access, is_flags_live);
                }
                Cold::Window { branch, probe } => {
                    self.asm.resolve(branch);
                    self.cold_window(probe);
                }
                Cold::Distance { branch, word, resume } => {
                    self.asm.resolve(branch);
                    self.cold_distance(word, resume);
                }
                Cold::Link { link } => {
                    let stub = offset(self.asm.here(), self.cache_start);
                    let record = &mut self.links[link as usize];
                    record.stub = stub;
                    let (field, target) = (record.field(), record.target(self.now.first));
                    let is_parked = self.is_crossing(target);
                    self.asm.resolve_at(self.cache_start + u64::from(field));
                    let parked = if is_parked { u32::from(PARKED_BIT) } else { 0 };
                    self.asm.constant(S1, u64::from(Reason::Link.with(link) | parked));
                    self.asm.jump_to(self.stubs.leave);
                }
                Cold::Indirect { branches, site } => {
                    for branch in branches {
                        self.asm.resolve(branch);
                    }
                    self.asm.sub_flags(S0, Mem::table(words::JUMP_TAG, S1));
                    let reason = Reason::Indirect.with(site) | u32::from(PARKED_BIT);
                    self.asm.constant(S1, u64::from(reason));
                    self.asm.jump_to(self.stubs.indirect);
                }
                Cold::Go { branch, target, is_flags_live } => {
                    self.asm.resolve(branch);
                    self.go(target, is_flags_live);
                }
                Cold::Leave { branch, rip, reason } => {
                    self.asm.resolve(branch);
                    self.leave_with(rip, reason);
                }
                Cold::Group { branch, site, is_flags_live } => {
                    self.asm.resolve(branch);
                    self.cold_group(site, is_flags_live);
                }
                Cold::Split { first, last, resume } => {
                    self.members(&scan.steps[first..=last], resume);
                }
                Cold::Strip { branch } => {
                    self.asm.resolve(branch);
                    self.cold_strip(scan);
                }
                Cold::Fetch { branch, site, is_flags_live } => {
                    self.asm.resolve(branch);
                    self.ask_fetch(site);
                    let stub =
                        if is_flags_live { self.stubs.slow_with_flags } else { self.stubs.slow };
                    self.asm.jump_to(stub);
                }
            }
        }
    }

    /// Brings to r13 what the slow path has to know of a site.
    pub(super) fn ask(&mut self, site: u32) {
        let word = Ask::word(site, &self.sites[site as usize]);
        self.asm.constant(S1, u64::from(word));
    }

    /// Likewise of one that enters a code page.
    fn ask_fetch(&mut self, site: u32) {
        let record = self.sites[site as usize];
        let SiteKind::Fetch { slot, is_second: false } = record.kind() else {
            return self.ask(site);
        };
        self.asm.store_imm(Mem::word(words::FETCH_SLOT), i32::from(slot));
        self.asm.constant(S1, Ask::fetch(site, record.resume()));
    }

    /// Encodes a guest instruction as it is now.
    pub(super) fn encode(&mut self, instruction: &Instruction) {
        self.encoder.set_buffer(core::mem::take(&mut self.asm.buffer));
        let result = self.encoder.encode(instruction, instruction.ip());
        self.asm.buffer = self.encoder.take_buffer();
        if result.is_err() {
            debug_assert!(false, "cannot encode {:?}", instruction.code());
            self.trap(Exception::InvalidOpcode);
        }
    }
}

/// Whether a page entry is the one in the middle of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IsSecond {
    No,
    Yes,
}

const EXCEPTIONS: [Exception; 12] = [
    Exception::DivideError,
    Exception::Debug,
    Exception::Breakpoint,
    Exception::Overflow,
    Exception::Bound,
    Exception::InvalidOpcode,
    Exception::GeneralProtection,
    Exception::NotPresent,
    Exception::StackFault,
    Exception::FloatingPoint,
    Exception::SimdFloatingPoint,
    Exception::AlignmentCheck,
];

/// The number of an exception in a reason word.
pub(super) fn exception_number(exception: Exception) -> u32 {
    EXCEPTIONS.iter().position(|other| *other == exception).unwrap_or(0) as u32
}

/// The exception with this number.
pub(super) fn exception_of(number: u64) -> Exception {
    let index = usize::try_from(number).unwrap_or(0);
    EXCEPTIONS.get(index).copied().unwrap_or(Exception::GeneralProtection)
}
