//! The exact engine: translates x86-64 to x86-64 so that every load and store goes through the
//! modelled TLB and the guest's page tables.

mod access;
mod ask;
mod assignment;
mod block;
mod branch;
mod cache;
mod checks;
mod classify;
mod compat;
mod condition;
mod copying;
mod counting;
mod emit;
mod emulate;
mod engine;
mod enter;
mod features;
mod group;
mod host;
mod joint;
mod members;
mod miss;
mod operand;
mod pages;
mod plain;
mod precedence;
mod predict;
mod probe;
mod profile;
mod records;
mod run;
mod signals;
mod site;
mod slow;
mod split;
mod stack;
mod strip;
mod strip_code;
mod strip_safe;
mod stubs;
mod translate;
mod window;
mod words;

use crate::{Engine, EngineStatistics, Exit, Registers};
use machine::Machine;

/// Whether executed instructions are counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum InstructionCount {
    /// Not counted: the fastest code.
    #[default]
    Off,
    /// Each block counts its executions.
    On,
}

/// Which four of the guest's registers r8 to r15 live in memory. Results never depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum InMemory {
    /// Those that the running code names least, looked at now and then.
    #[default]
    Profiled,
    /// Always these; numbers that are none of r8 to r15 are replaced by the highest that are left.
    Fixed([u8; 4]),
}

/// How a translator is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TranslatorConfig {
    /// Whether executed instructions are counted.
    pub instructions: InstructionCount,
    /// Data accesses after which `run` returns [`Exit::Budget`] at the next block boundary.
    pub slice_accesses: u64,
    /// Bytes of the code cache, at least 2 MiB and at most 64 MiB.
    pub code_bytes: u64,
    /// Which guest registers live in memory.
    pub in_memory: InMemory,
}

/// Bytes of the code cache if nothing else is said. What is thrown away when the cache is full has
/// to be translated again: with 24 or 32 MiB `make` of ten C files, whose programs share the cache,
/// took 1.5 times as long, although `cc1` alone took 16 or 7 MiB less of the host's memory and no
/// longer.
const CODE_BYTES: u64 = 64 << 20;

impl Default for TranslatorConfig {
    fn default() -> Self {
        Self {
            instructions: InstructionCount::Off,
            slice_accesses: 1 << 22,
            code_bytes: CODE_BYTES,
            in_memory: InMemory::Profiled,
        }
    }
}

/// Why a translator cannot be built on this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EngineError {
    /// The host CPU lacks a feature that the virtual CPU promises.
    MissingFeature(&'static str),
    /// The host kernel refused a call; the number is its errno.
    Host {
        /// The call.
        call: &'static str,
        /// The errno.
        errno: i32,
    },
}

impl core::fmt::Display for EngineError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::MissingFeature(name) => {
                write!(f, "the host processor lacks {name}, which the virtual processor promises")
            }
            Self::Host { call, errno } => write!(f, "the host refused {call}: errno {errno}"),
        }
    }
}

impl core::error::Error for EngineError {}

/// The translator engine.
#[derive(Debug)]
pub struct Translator {
    core: Box<engine::Core>,
}

impl Translator {
    /// A translator without any translated code.
    ///
    /// # Errors
    /// - [`EngineError::MissingFeature`]: the host processor is too old.
    /// - [`EngineError::Host`]: no memory for the code cache, or no signal handlers.
    pub fn new(config: TranslatorConfig) -> Result<Self, EngineError> {
        Ok(Self { core: Box::new(engine::Core::new(config)?) })
    }

    /// All code that stands for guest code at the moment, hot and cold, each with the host address
    /// of its first byte: for those who want to verify it.
    pub fn emitted(&self) -> [(u64, &[u8]); 2] {
        let [(start, hot), cold] = self.core.cache.code();
        let stubs = self.core.stub_bytes.min(hot.len());
        [(start + stubs as u64, &hot[stubs..]), cold]
    }

    /// Host addresses of loops in [`Translator::emitted`] that run on pointers which were probed
    /// for many iterations: first byte, and the one behind.
    pub fn strips(&self) -> &[(u64, u64)] {
        &self.core.emitter.strips
    }
}

impl Engine for Translator {
    fn run(&mut self, regs: &mut Registers, hw: &mut Machine) -> Exit {
        self.core.run(regs, hw)
    }

    fn statistics(&self) -> EngineStatistics {
        let mut statistics = self.core.statistics;
        let counting = self.core.counting.as_ref();
        statistics.instruction_count =
            counting.map(|counting| counting.sum(&self.core.pages.blocks));
        statistics
    }
}
