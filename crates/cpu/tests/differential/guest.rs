//! The engine under test: a machine with the pages of the layout and a translator on top.

use crate::case::{Case, End, Outcome, State};
use crate::layout;
use crate::run::seed;
use cpu::x86::{InMemory, InstructionCount, Translator, TranslatorConfig};
use cpu::{Engine, Exception, Exit, Registers};
use machine::{
    Array, Counters, FastPath, Geometry, Keep, Large, LevelSpec, Machine, MachineConfig,
    PAGE_BYTES, TlbMode, TlbSpec, VirtAddr, tlb_default,
};

/// Slices after which a case is called endless.
const SLICES: usize = 4;
/// Accesses in a slice.
const SLICE_ACCESSES: u64 = 20_000;
/// Guest registers that live in memory, by seed.
const IN_MEMORY: [[u8; 4]; 5] =
    [[9, 10, 13, 15], [12, 13, 14, 15], [8, 11, 12, 14], [10, 11, 14, 15], [8, 9, 12, 13]];

/// What the machine and the engine are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Build {
    /// As programs get them.
    Usual,
    /// TLBs of a few entries, and a code cache that is full all the time.
    Tight,
    /// TLBs of a few entries.
    SmallTlb,
}

impl Build {
    pub fn tlb(self) -> TlbSpec {
        let level = |entries, ways| LevelSpec {
            k4: Array::of(entries, ways),
            m2: Large::Absent,
            g1: Large::Absent,
        };
        match self {
            Self::Usual => *tlb_default(),
            Self::Tight | Self::SmallTlb => {
                TlbSpec { l1d: level(4, 2), l1i: level(2, 2), l2: level(8, 4), ..*tlb_default() }
            }
        }
    }

    pub fn engine(self) -> TranslatorConfig {
        let usual = TranslatorConfig { slice_accesses: SLICE_ACCESSES, ..Default::default() };
        let in_memory =
            |turn| InMemory::Fixed(IN_MEMORY[(seed() + turn) as usize % IN_MEMORY.len()]);
        match self {
            Self::Usual => usual,
            Self::SmallTlb => TranslatorConfig { in_memory: in_memory(0), ..usual },
            Self::Tight => TranslatorConfig {
                code_bytes: 2 << 20,
                instructions: InstructionCount::On,
                in_memory: in_memory(1),
                ..usual
            },
        }
    }
}

/// One engine and its machine; they live through all cases of a run, so that translated code, TLBs
/// and shadow are in every state.
pub struct Guest {
    pub hw: Machine,
    pub engine: Translator,
    base: Vec<u8>,
    reference: Vec<u8>,
    counters: [(&'static str, u64); 13],
}

impl Guest {
    pub fn new(base: &[u8], build: Build, reference: FastPath) -> Self {
        let mut hw = Machine::new(MachineConfig {
            ram_bytes: 4 << 20,
            geometry: Geometry::X86_64,
            tlb: TlbMode::Model(build.tlb()),
            reference,
            keep: Keep::HashOnly,
            boot_seconds: 1_700_000_000,
        })
        .expect("4 MiB of RAM");
        layout::build_page_tables(&mut hw);
        hw.store(layout::guest_physical(0), base);
        hw.activate(layout::ROOT, 1);
        let engine = Translator::new(build.engine()).expect("the host runs the engine");
        let counters = named(&hw.counters());
        Self { hw, engine, base: base.to_vec(), reference: base.to_vec(), counters }
    }

    /// What was counted since the last call.
    pub fn counted(&mut self) -> [(&'static str, u64); 13] {
        self.hw.drain_clock();
        let mut now = named(&self.hw.counters());
        now[12].1 = self.engine.statistics().instruction_count.unwrap_or_default();
        let before = std::mem::replace(&mut self.counters, now);
        std::array::from_fn(|i| (now[i].0, now[i].1 - before[i].1))
    }

    /// Runs `case` from the base content and puts the content back afterwards.
    pub fn run(&mut self, case: &Case) -> Outcome {
        for (offset, bytes) in &case.patches {
            self.patch(*offset, bytes);
        }
        let mut registers = registers_of(&case.state);
        let end = self.run_to_the_end(&mut registers);
        let state = state_of(&registers);
        let changes = self.take_changes();
        for (offset, bytes) in &case.patches {
            let start = *offset as usize;
            let old = self.base[start..start + bytes.len()].to_vec();
            self.patch(*offset, &old);
        }
        Outcome { state, end, changes }
    }

    /// Runs an endless case for `count` slices: the registers and the time at the end of each.
    pub fn run_slices(&mut self, case: &Case, count: usize) -> Vec<([u64; 16], u64, u64)> {
        for (offset, bytes) in &case.patches {
            self.patch(*offset, bytes);
        }
        let mut registers = registers_of(&case.state);
        let ends = (0..count).map(|_| {
            let exit = self.engine.run(&mut registers, &mut self.hw);
            assert_eq!(exit, Exit::Budget, "at {:#x}", registers.rip);
            (registers.gpr, registers.rip, self.hw.time())
        });
        ends.collect()
    }

    fn run_to_the_end(&mut self, registers: &mut Registers) -> End {
        for _ in 0..SLICES {
            match self.engine.run(registers, &mut self.hw) {
                Exit::Budget => {}
                Exit::Syscall | Exit::Syscall32(_) => return End::Syscall,
                Exit::Exception(exception) => return End::Exception(vector(exception)),
                Exit::Fault(fault) => {
                    let (address, error) = (fault.addr.as_u64(), fault.error_code());
                    return End::Page { address, error };
                }
            }
        }
        End::Endless
    }

    fn patch(&mut self, offset: u64, bytes: &[u8]) {
        let start = offset as usize;
        self.reference[start..start + bytes.len()].copy_from_slice(bytes);
        self.hw.store(layout::guest_physical(offset), bytes);
    }

    /// The words that differ from what the case found; puts the old ones back.
    fn take_changes(&mut self) -> Vec<(u64, u64)> {
        let mut changes = Vec::new();
        for frame in 0..layout::FRAME_COUNT {
            let start = (frame * PAGE_BYTES) as usize;
            let was = &self.reference[start..start + PAGE_BYTES as usize];
            let is = self.hw.ram.slice(layout::guest_physical(start as u64), PAGE_BYTES);
            if was == is {
                continue;
            }
            let words = is.chunks_exact(8).zip(was.chunks_exact(8)).enumerate();
            for (i, (is, was)) in words {
                if is != was {
                    let value = u64::from_le_bytes(is.try_into().expect("eight bytes"));
                    changes.push((start as u64 + i as u64 * 8, value));
                }
            }
        }
        for (offset, _) in &changes {
            let old = &self.reference[*offset as usize..*offset as usize + 8];
            self.hw.store(layout::guest_physical(*offset), old);
        }
        changes
    }

    /// Forgets all translations of addresses.
    pub fn flush(&mut self) {
        self.hw.flush_all();
    }

    /// Forgets the translation of one page.
    pub fn flush_page(&mut self, address: u64) {
        self.hw.flush_page(VirtAddr::new(address));
    }
}

/// The counters that cases move.
const fn named(counters: &Counters) -> [(&'static str, u64); 13] {
    [
        ("reads", counters.reads),
        ("writes", counters.writes),
        ("fetches", counters.fetches),
        ("l1d hits", counters.l1d.hits),
        ("l1d misses", counters.l1d.misses),
        ("l1i hits", counters.l1i.hits),
        ("l1i misses", counters.l1i.misses),
        ("l2 hits", counters.l2.hits),
        ("walks", counters.walks),
        ("walk reads", counters.walk_memory_reads),
        ("dirty walks", counters.dirty_walks),
        ("faults", counters.faults),
        ("instructions", 0),
    ]
}

/// The state as the engine takes it.
pub fn registers_of(state: &State) -> Registers {
    let mut registers = match state.is_compat {
        true => Registers::new_compat(),
        false => Registers::new(),
    };
    registers.gpr = state.gpr;
    registers.rip = state.rip;
    registers.rflags = state.rflags;
    registers.fs_base = state.fs_base;
    registers.gs_base = state.gs_base;
    registers.fpu.bytes_mut().copy_from_slice(&state.fpu);
    registers
}

/// The state that the engine left, with initial parts written out.
pub fn state_of(registers: &Registers) -> State {
    let mut fpu = *registers.fpu.bytes();
    let present = fpu[512];
    if present & 1 == 0 {
        fpu[..24].fill(0);
        fpu[32..160].fill(0);
        (fpu[0], fpu[1]) = (0x7f, 0x03);
    }
    if present & 2 == 0 {
        fpu[160..416].fill(0);
    }
    if present & 4 == 0 {
        fpu[576..832].fill(0);
    }
    State {
        gpr: registers.gpr,
        rip: registers.rip,
        rflags: registers.rflags,
        fs_base: registers.fs_base,
        gs_base: registers.gs_base,
        is_compat: registers.mode() == cpu::Mode::Compat,
        fpu,
    }
}

/// The number of the exception in the manual.
const fn vector(exception: Exception) -> u64 {
    match exception {
        Exception::DivideError => 0,
        Exception::Debug => 1,
        Exception::Breakpoint => 3,
        Exception::Overflow => 4,
        Exception::Bound => 5,
        Exception::InvalidOpcode => 6,
        Exception::NotPresent => 11,
        Exception::StackFault => 12,
        Exception::GeneralProtection => 13,
        Exception::FloatingPoint => 16,
        Exception::AlignmentCheck => 17,
        Exception::SimdFloatingPoint => 19,
    }
}
