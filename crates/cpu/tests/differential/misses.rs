//! Random accesses to more pages than a first level holds: what emitted code makes of the misses.

use cpu::x86::{InMemory, Translator, TranslatorConfig};
use cpu::{Engine, Exit, Registers};
use machine::{
    Counters, FastPath, Frame, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, PhysAddr, Pte,
    TlbMode, TlbSpec, VirtAddr,
};

const CODE: u64 = 0x40_1000;
/// Pages that are loaded from: every other one takes stores, too, and one is that of the code.
const LOADED: u64 = 0x60_0000;
/// Pages that are loaded from and stored to.
const STORED: u64 = 0x70_0000;
/// Pages of each kind, a power of two.
const PAGES: u64 = 256;
/// Accesses of each kind in one run.
const ROUNDS: u64 = 10_000;
const FIRST_FRAME: u64 = 64;
/// rdx times: `rax = rax * 1103515245 + 12345; rbx = rax >> 16 & mask; rcx += loaded[rbx];
/// stored[rbx] += rcx`.
const PROGRAM: [u8; 42] = [
    0x48, 0x69, 0xc0, 0x6d, 0x4e, 0xc6, 0x41, // imul rax, rax, 1103515245
    0x48, 0x05, 0x39, 0x30, 0x00, 0x00, // add rax, 12345
    0x48, 0x89, 0xc3, // mov rbx, rax
    0x48, 0xc1, 0xeb, 0x10, // shr rbx, 16
    0x81, 0xe3, 0xf8, 0xff, 0x0f, 0x00, // and ebx, 0xffff8
    0x48, 0x03, 0x0c, 0x1f, // add rcx, [rdi + rbx]
    0x48, 0x01, 0x0c, 0x1e, // add [rsi + rbx], rcx
    0x48, 0xff, 0xca, // dec rdx
    0x75, 0xd9, // jnz to the start
    0x0f, 0x05, 0x90, // syscall; nop
];

/// Where programs follow a list rdx times, each [`LIST_BYTES`] behind the one before.
const LIST_CODE: u64 = 0x40_3000;
const LIST_BYTES: u64 = 16;
const LIST_PROGRAMS: [[u8; LIST_BYTES as usize]; 4] = [
    list_program([0x48, 0x8b, 0x40, 0x00]), // mov rax, [rax+0]
    list_program([0x49, 0x8b, 0x04, 0x00]), // mov rax, [r8+rax]
    list_program([0x4a, 0x8b, 0x04, 0x00]), // mov rax, [rax+r8]
    list_program([0x4d, 0x8b, 0x40, 0x00]), // mov r8, [r8+0]
];
/// Nodes of the list in each page that is stored to.
pub const NODES: u64 = 3;

/// How a list is followed; r8 lives in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// By rax alone.
    Rax,
    /// By rax, from a base of 0 in r8.
    BehindR8,
    /// By rax, with an index of 0 in r8.
    BeforeR8,
    /// By r8 alone.
    R8,
}

impl Follow {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Rax, Self::BehindR8, Self::BeforeR8, Self::R8];
}

/// `load; sub rdx, 1; jnz to the start; syscall`.
const fn list_program(load: [u8; 4]) -> [u8; LIST_BYTES as usize] {
    let [a, b, c, d] = load;
    [a, b, c, d, 0x48, 0x83, 0xea, 0x01, 0x75, 0xf6, 0x0f, 0x05, 0x90, 0x90, 0x90, 0x90]
}

/// Where programs search the list for a node whose byte [`BYTE_AT`] is the one they look for.
const SEARCH_CODE: u64 = LIST_CODE + LIST_PROGRAMS.len() as u64 * LIST_BYTES;
const SEARCH_PROGRAMS: [[u8; LIST_BYTES as usize]; 4] = [
    search_program([0x38, 0x5c, 0x08, 0x00]), // cmp [rax+rcx+0], bl
    search_program([0x38, 0x7c, 0x08, 0x00]), // cmp [rax+rcx+0], bh
    search_program([0x44, 0x3a, 0x04, 0x08]), // cmp r8b, [rax+rcx]
    search_program([0x41, 0x38, 0x1c, 0x00]), // cmp [r8+rax], bl
];
const BYTE_AT: u64 = 8;

/// How a list is searched; r8 lives in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Search {
    /// For what is in bl.
    Bl,
    /// For what is in bh.
    Bh,
    /// For what is in r8b.
    R8b,
    /// With the offset of the byte in r8.
    BehindR8,
}

impl Search {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Bl, Self::Bh, Self::R8b, Self::BehindR8];
}

/// `mov rax, [rax]; compare; jne to the start; syscall`.
const fn search_program(compare: [u8; 4]) -> [u8; LIST_BYTES as usize] {
    let [a, b, c, d] = compare;
    [0x48, 0x8b, 0x40, 0x00, a, b, c, d, 0x75, 0xf6, 0x0f, 0x05, 0x90, 0x90, 0x90, 0x90]
}

/// One engine and its machine.
pub struct Walker {
    hw: Machine,
    engine: Translator,
    next_frame: u64,
    root: Frame,
}

impl Walker {
    pub fn new(tlb: TlbSpec, reference: FastPath) -> Self {
        let hw = Machine::new(MachineConfig {
            ram_bytes: 16 << 20,
            geometry: Geometry::X86_64,
            tlb: TlbMode::Model(tlb),
            reference,
            keep: Keep::HashOnly,
            boot_seconds: 0,
        })
        .expect("16 MiB of RAM");
        let in_memory = InMemory::Fixed([8, 9, 10, 11]);
        let config = TranslatorConfig { in_memory, ..TranslatorConfig::default() };
        let engine = Translator::new(config).expect("the host runs it");
        let mut walker = Self { hw, engine, next_frame: FIRST_FRAME, root: Frame::new(16) };
        walker.next_frame += 1;
        let code = walker.frame();
        walker.hw.store(code.start(), &PROGRAM);
        walker.map(CODE, code, Pte::WRITE);
        let code = walker.frame();
        let programs = [LIST_PROGRAMS, SEARCH_PROGRAMS];
        walker.hw.store(code.start(), programs.as_flattened().as_flattened());
        walker.map(LIST_CODE, code, Pte::USER);
        for page in 0..PAGES {
            let frame = if page == 7 { code } else { walker.frame() };
            let right = if page % 2 == 1 { Pte::WRITE } else { Pte::USER };
            walker.map(LOADED + page * PAGE_BYTES, frame, right);
            let frame = walker.frame();
            walker.map(STORED + page * PAGE_BYTES, frame, Pte::WRITE);
        }
        walker
    }

    fn frame(&mut self) -> Frame {
        self.next_frame += 1;
        Frame::new(self.next_frame - 1)
    }

    fn map(&mut self, page: u64, frame: Frame, right: Pte) {
        let geometry = Geometry::X86_64;
        let rights = Pte::PRESENT.with(Pte::USER);
        let mut table = self.root;
        for level in (1..=geometry.levels()).rev() {
            let slot = geometry.slot(table, geometry.index(level, VirtAddr::new(page)));
            let mut entry = geometry.load(&self.hw.ram, slot);
            if level == 1 {
                entry = Pte::new(frame, rights.with(right));
            } else if !entry.is_present() {
                entry = Pte::new(self.frame(), rights.with(Pte::WRITE));
            }
            geometry.store(&mut self.hw.ram, slot, entry);
            table = entry.frame();
        }
    }

    /// Runs the program from the seed under the identifier `asid`; returns its sum.
    pub fn run(&mut self, seed: u64, asid: u16) -> u64 {
        self.hw.activate(self.root, asid);
        let mut registers = Registers::new();
        registers.rip = CODE;
        registers.gpr[0] = seed;
        registers.gpr[2] = ROUNDS;
        registers.gpr[6] = STORED;
        registers.gpr[7] = LOADED;
        self.run_to_the_end(&mut registers);
        registers.gpr[1]
    }

    fn run_to_the_end(&mut self, registers: &mut Registers) {
        let mut exit = Exit::Budget;
        while exit == Exit::Budget {
            exit = self.engine.run(registers, &mut self.hw);
        }
        assert_eq!(exit, Exit::Syscall, "rip {:#x}", registers.rip);
    }

    /// Address of node `number` of the list: [`NODES`] in one page, then as many in another.
    pub const fn node(number: u64) -> u64 {
        let (page, place) = (number / NODES * 37 % PAGES, number % NODES);
        STORED + page * PAGE_BYTES + place * 0x518
    }

    /// Lets each node of the list point to the next one, and the last to the first. Each page gets
    /// a new frame first, which is `stride` frames from that of the page before it.
    pub fn link(&mut self, stride: u64) {
        let first = self.next_frame;
        self.next_frame += PAGES * stride.max(1);
        for page in 0..PAGES {
            let frame = Frame::new(first + page * stride);
            self.map(STORED + page * PAGE_BYTES, frame, Pte::WRITE);
        }
        self.hw.flush_all();
        for number in 0..PAGES * NODES {
            let next = Self::node((number + 1) % (PAGES * NODES));
            let page = (Self::node(number) - STORED) / PAGE_BYTES;
            let frame = Frame::new(first + page * stride);
            let place = frame.start().as_u64() + Self::node(number) % PAGE_BYTES;
            self.hw.store(PhysAddr::new(place), &next.to_le_bytes());
            self.hw.store(PhysAddr::new(place + BYTE_AT), &[number as u8]);
        }
    }

    /// Follows the list from its first node for so many steps; returns where it is then.
    pub fn follow(&mut self, how: Follow, steps: u64) -> u64 {
        self.hw.activate(self.root, 1);
        let mut registers = Registers::new();
        let place = if how == Follow::R8 { 8 } else { 0 };
        registers.rip = LIST_CODE + how as u64 * LIST_BYTES;
        registers.gpr[place] = Self::node(0);
        registers.gpr[2] = steps;
        self.run_to_the_end(&mut registers);
        registers.gpr[place]
    }

    /// Searches the list behind its first node for a byte; returns where that was found.
    pub fn search(&mut self, how: Search, byte: u8) -> u64 {
        self.hw.activate(self.root, 1);
        let mut registers = Registers::new();
        registers.rip = SEARCH_CODE + how as u64 * LIST_BYTES;
        registers.gpr[0] = Self::node(0);
        registers.gpr[1] = BYTE_AT;
        registers.gpr[3] = if how == Search::Bh { u64::from(byte) << 8 } else { byte.into() };
        registers.gpr[8] = if how == Search::BehindR8 { BYTE_AT } else { byte.into() };
        self.run_to_the_end(&mut registers);
        registers.gpr[0]
    }

    /// Forgets one page, or all.
    pub fn flush(&mut self, turn: u64) {
        if turn.is_multiple_of(5) {
            self.hw.flush_all();
        } else {
            self.hw.flush_page(VirtAddr::new(STORED + turn % PAGES * PAGE_BYTES));
        }
    }

    pub fn counters(&mut self) -> Counters {
        self.hw.drain_clock();
        self.hw.counters()
    }

    /// First-level misses that emitted code made itself.
    pub fn emitted_misses(&self) -> u64 {
        self.hw.fast_statistics().emitted_misses
    }
}
