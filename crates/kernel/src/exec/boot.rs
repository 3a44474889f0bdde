//! The first program: the machine, the memory manager, the files, and the kernel around them.
//!
//! # Source
//! Linux 6.12 `init/main.c:kernel_init`, `arch/x86/mm/init.c`.

use std::collections::BTreeMap;
use std::mem;

use cpu::DescriptorTable;
use machine::{Machine, PhysAddr, RamError};
use mm::kernel_space::{KernelSpace, SpaceConfig, SpaceError};
use mm::{Latency, Memory, Mm, MmError, MmId};

use super::program::{self, Prepared};
use super::special::SpecialPages;
use super::{Frame, Image, LoadError, Loader, first_registers, layout, log_exec, personality};
use crate::abi::{Abi, KernelKind};
use crate::asid::{Asids, ContextSwitch};
use crate::errno::Errno;
use crate::fs::{Credentials, FdTable, FsContext, Vfs, View};
use crate::ledger::ProcessReports;
use crate::objects::KernelObjects;
use crate::process::{LIMIT_COUNT, Process, ResourceLimit, initial_limits, memory_limits};
use crate::random::Generator;
use crate::schedule::Tasks;
use crate::stack_init::Strings;
use crate::stuck::Deadlock;
use crate::syscall::SyscallTally;
use crate::syscall::swap::NamedArea;
use crate::task::{self, Parts, Task, task_name};
use crate::{BootError, Kernel, KernelConfig};

/// Messages on their way and names of files may take this part of what the machine has as RAM.
const POOL_PART: u64 = 8;
/// At least so many bytes.
const POOL_BYTES_MIN: u64 = 64 << 20;

impl Kernel {
    /// Builds the machine and loads the program into it.
    ///
    /// A program that is killed while it is loaded is no error: [`Kernel::run`] says so at once.
    ///
    /// # Errors
    /// Every [`BootError`].
    pub fn new(mut config: KernelConfig) -> Result<Self, BootError> {
        let Base { mut hw, mut memory, kind, swap_areas, swap_latency } = base(&mut config)?;
        let special = SpecialPages::new(&mut memory);
        let mut random = Generator::new(config.seed);
        let (mut vfs, files, mut fs) = open_files(&config)?;
        let planted = vfs.counts().1;
        let view = View::new(&fs, &files);
        let parts = (&mut memory, &mut hw, kind);
        let (path, prepared) = first_program(&mut config, &mut vfs, parts, &view)?;
        let limits = initial_limits(config.stack_bytes);
        let frame = Frame::first(&limits, &fs.credentials);
        let mut loader = Loader::new(&mut memory, &mut hw, &mut random, &special, kind);
        let (image, exit) = match loader.load(&prepared, frame) {
            Ok(image) => (image, None),
            Err(LoadError::Refused(errno)) => {
                return Err(BootError::Exec { program: path, errno });
            }
            Err(LoadError::Fatal(outcome)) => (loader.no_image(frame)?, Some(outcome)),
        };
        fs.exe = prepared.main.path.clone();
        log_exec(&mut hw, task::PID, &image);
        let mut tasks = Tasks::default();
        let (gdt, table) = boot_gdt(&mut memory, &mut hw, kind).map_err(BootError::Memory)?;
        let task = first_task(&mut tasks, &image, table, &path);
        let mut asids = Asids::new(context_switch(kind, config.context_switch));
        asids.of(tasks.take_mm());
        let objects = KernelObjects::first(planted, &mut memory, &mut hw)?;
        let kernel = Self {
            hw,
            memory,
            task,
            process: Process::first(limits),
            mm: image.mm,
            files,
            fs,
            tasks,
            vfs,
            engine: config.engine,
            random,
            ipc: crate::syscall::sysv::Ipc::default(),
            tally: SyscallTally::default(),
            task_limits: config.task_limits,
            asids,
            special,
            window: crate::compat::Window::default(),
            kind,
            gdt,
            settings: BTreeMap::new(),
            ledger: ProcessReports::default(),
            swap_areas,
            swap_latency,
            oom: crate::oom::OomKills::default(),
            series: crate::series::Series::new(config.working_set_ns),
            write_back_ns: 0,
            end_ns: config.task_limits.run_ns_max.unwrap_or(u64::MAX),
            patience: crate::fs::Patience::new(config.task_limits.run_ns_max.is_some()),
            outcome: exit,
            deadlock: Deadlock::default(),
            report: None,
            objects,
            testmem: None,
        };
        kernel.with_testmem(config.device_bytes).map(Self::settled)
    }
}

/// What a kernel stands on.
struct Base {
    hw: Machine,
    memory: Memory,
    kind: KernelKind,
    swap_areas: Vec<NamedArea>,
    swap_latency: Latency,
}

/// The machine and its memory manager, as the configuration wants them.
fn base(config: &mut KernelConfig) -> Result<Base, BootError> {
    let space = kernel_space(config).map_err(BootError::Kernel)?;
    let kind = KernelKind::of(&space);
    let mut hw = new_machine(config, &space).map_err(BootError::Ram)?;
    let (memory, swap_areas, swap_latency) =
        manager(&mut hw, space, config).map_err(BootError::Memory)?;
    Ok(Base { hw, memory, kind, swap_areas, swap_latency })
}

/// The memory manager as the configuration wants it, its swap areas, and what swapping costs.
fn manager(
    hw: &mut Machine,
    space: KernelSpace,
    config: &mut KernelConfig,
) -> Result<(Memory, Vec<NamedArea>, Latency), MmError> {
    let mut memory = new_memory(hw, space, config.device_bytes)?;
    memory.overcommit = config.overcommit;
    memory.set_policy((config.policy.make)(config.seed));
    memory.set_limits(config.limits);
    memory.set_page_cache(config.page_cache.warmth, config.page_cache.device);
    let Some(swap) = config.swap.take() else {
        return Ok((memory, Vec::new(), mm::LATENCIES[0]));
    };
    memory.set_zswap(swap.zswap_percent);
    memory.swap_on(swap.slot_count(), swap.store, swap.latency);
    Ok((memory, vec![NamedArea::of_boot(swap.kind)], swap.latency))
}

/// The map of the kernel, which has one CPU.
fn kernel_space(config: &KernelConfig) -> Result<KernelSpace, SpaceError> {
    let (machine, page_offset) = (config.machine, config.page_offset);
    let usual = SpaceConfig::new(machine.geometry, machine.ram_bytes);
    KernelSpace::new(SpaceConfig { cpus: 1, page_offset, ..usual })
}

/// The machine, with memory above RAM: the test device's, and for the kernel's array of pages.
fn new_machine(config: &KernelConfig, space: &KernelSpace) -> Result<Machine, RamError> {
    let (machine, device_bytes) = (config.machine, config.device_bytes);
    let end = PhysAddr::new(machine.ram_bytes).wrapping_add(device_bytes);
    let array_bytes = space.vmemmap().map_or(0, |array| array.reserve_bytes(end));
    Machine::with_device(machine, device_bytes + array_bytes)
}

/// The memory manager, with the kernel's page tables, on a machine with so many bytes of a device.
fn new_memory(hw: &mut Machine, space: KernelSpace, device_bytes: u64) -> Result<Memory, MmError> {
    let end = PhysAddr::new(hw.ram.bytes()).wrapping_add(device_bytes);
    let array = space.vmemmap().filter(|array| array.reserve_bytes(end) > 0);
    let mut memory = Memory::with_kernel(hw, space)?;
    if let Some(array) = array {
        memory.map_vmemmap(hw, array.place_above(end))?;
    }
    Ok(memory)
}

/// The GDT of an i386 kernel: its frame, and where it is. A 64-bit kernel makes one when a program
/// has entries of its own.
fn boot_gdt(
    memory: &mut Memory,
    hw: &mut Machine,
    kind: KernelKind,
) -> Result<(Option<machine::Frame>, DescriptorTable), MmError> {
    if kind == KernelKind::X86_64 {
        return Ok((None, DescriptorTable::NONE));
    }
    let (frame, table) = crate::compat::segments::new_gdt(memory, hw, kind)
        .ok_or(MmError::NoMemory("no frame for the GDT"))?;
    Ok((Some(frame), table))
}

/// Tags of address spaces (PCID) are an affair of 64-bit kernels.
const fn context_switch(kind: KernelKind, wanted: ContextSwitch) -> ContextSwitch {
    match kind {
        KernelKind::X86_64 => wanted,
        KernelKind::I386 { .. } => ContextSwitch::Flushed,
    }
}

/// The program that is to run, with its strings, which leave `config`, and its path.
fn first_program(
    config: &mut KernelConfig,
    vfs: &mut Vfs,
    parts: (&mut Memory, &mut Machine, KernelKind),
    view: &View<'_>,
) -> Result<(Vec<u8>, Prepared), BootError> {
    let path = program::search(vfs, view, &config.program, &config.env)
        .ok_or_else(|| BootError::NotFound { program: config.program.clone() })?;
    let (args, env) = (mem::take(&mut config.args), mem::take(&mut config.env));
    let strings = Strings { args, env, path: path.clone() };
    match program::prepare(vfs, parts, view, strings, config.stack_bytes) {
        Ok(prepared) => Ok((path, prepared)),
        Err(Errno::ENOENT) => Err(missing(vfs, view, &path)),
        Err(errno) => Err(BootError::Exec { program: path, errno }),
    }
}

/// Why a program could not be found: itself, or a file that it needs, is not there.
fn missing(vfs: &mut Vfs, view: &View<'_>, path: &[u8]) -> BootError {
    let program = path.to_vec();
    match vfs.program_exists(view, path) {
        true => BootError::Exec { program, errno: Errno::ENOENT },
        false => BootError::NotFound { program },
    }
}

/// The tree, the standard streams and where the program stands.
fn open_files(config: &KernelConfig) -> Result<(Vfs, FdTable, FsContext), BootError> {
    let mut vfs = Vfs::new(config.vfs.clone())
        .map_err(|error| BootError::Files { path: error.path, errno: error.errno })?;
    vfs.pool.set_max((config.machine.ram_bytes / POOL_PART).max(POOL_BYTES_MIN));
    let files = vfs.standard_files();
    let fs = vfs
        .context(&config.cwd, config.credentials.clone())
        .map_err(|errno| BootError::Files { path: config.cwd.clone(), errno })?;
    Ok((vfs, files, fs))
}

impl Frame {
    /// Those of the first program.
    fn first(limits: &[ResourceLimit; LIMIT_COUNT], who: &Credentials) -> Self {
        let (uid, gid) = (who.uid, who.gid);
        let limits = memory_limits(limits, uid);
        Self { id: MmId(1), asid: 1, limits, uid, gid, personality: 0 }
    }
}

impl Image {
    /// An address space without a program.
    fn empty(mm: Mm) -> Self {
        Self { abi: Abi::X86_64, implies_execute: false, mm, entry: 0, stack_pointer: 0 }
    }
}

impl Loader<'_> {
    /// The empty address space of a first program that was killed while it was loaded.
    fn no_image(&mut self, frame: Frame) -> Result<Image, BootError> {
        let layout = layout(self.room, 0);
        let mm = Mm::new(frame.id, layout, frame.limits, self.memory, self.hw);
        mm.map(Image::empty).map_err(BootError::Memory)
    }
}

/// The task that runs `image`, with places for its parts in `tasks`.
fn first_task(tasks: &mut Tasks, image: &Image, gdt: DescriptorTable, path: &[u8]) -> Task {
    let parts =
        Parts { mm: tasks.mms.reserve(), files: tasks.files.reserve(), fs: tasks.fs.reserve() };
    let mut task = Task::first(first_registers(image, gdt), parts, task_name(path));
    task.personality = personality(0, image.implies_execute);
    task
}
