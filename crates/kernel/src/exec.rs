//! Loading a program: from a path to an address space with the program in it.
//!
//! First everything that can still be refused: the file, its headers, its interpreter, the size of
//! its arguments. Then the point of no return: a new address space, and from there on a failure
//! kills with SIGSEGV (or because RAM is full).
//!
//! `exec/program.rs` finds and checks the files, `exec/map.rs` maps them.
//!
//! Does not: honour set-user-ID, keep anything of the old address space, randomise addresses.
//!
//! # Source
//! Linux 6.12 `fs/exec.c`, `fs/binfmt_elf.c`, `fs/binfmt_script.c`; semantics ELF-1 to ELF-12.

mod map;
mod program;

use std::collections::BTreeMap;
use std::sync::Arc;

use cpu::{DescriptorTable, Registers};
use machine::{Event, Geometry, Machine, PAGE_BYTES, PageSize, VirtAddr};
use mm::kernel_space::{KernelSpace, SpaceConfig};
use mm::{
    Backing, FileKind, Latency, Layout, Limits, MappedFile, Memory, Mm, MmError, MmId, Pager,
    PagerError, Rights, Sharing, Vma, VmaFlags,
};

use crate::abi::{Abi, KernelKind, Room};
use crate::asid::{Asids, ContextSwitch};
use crate::errno::{Errno, SysResult};
use crate::fs::{Credentials, FdTable, FsContext, Vfs, View};
use crate::ledger::ProcessReports;
use crate::objects::KernelObjects;
use crate::outcome::Outcome;
use crate::process::{LIMIT_COUNT, Process, ResourceLimit, initial_limits, memory_limits};
use crate::random::Generator;
use crate::roster::Roster;
use crate::schedule::Tasks;
use crate::signal::number::SIGSEGV;
use crate::signal::{AltStack, SIGNAL_FRAME_BYTES};
use crate::stack_init::{self, Auxiliary, Strings};
use crate::stuck::Deadlock;
use crate::syscall::SyscallTally;
use crate::syscall::memory::READ_IMPLIES_EXEC;
use crate::syscall::swap::NamedArea;
use crate::task::{self, Parts, Task, task_name};
use crate::uaccess;
use crate::{BootError, Kernel, KernelConfig, vdso};

use program::Prepared;

/// `vm.mmap_min_addr`.
const MIN_ADDRESS: u64 = 0x1_0000;
/// The least and the largest distance of `mmap_base` from the end of user space (AS-1).
const GAP_BYTES_MIN: u64 = 128 << 20;
const STACK_GUARD_BYTES: u64 = 256 * PAGE_BYTES;
/// How much the stack is larger than its first content.
const STACK_EXTRA_BYTES: u64 = 128 << 10;

/// The pages that the kernel maps into every program.
pub struct SpecialPages {
    vvar: Arc<MappedFile>,
    vclock: Arc<MappedFile>,
    vdso: Arc<MappedFile>,
    vdso_i386: Arc<MappedFile>,
}

/// Bytes of `[vvar]` and `[vvar_vclock]`, which are empty: our vDSO reads none of them.
const VVAR_BYTES: u64 = 4 * PAGE_BYTES;
const VCLOCK_BYTES: u64 = 2 * PAGE_BYTES;

/// Content that is there from the start and never changes.
struct FixedPager {
    bytes: Vec<u8>,
}

impl Pager for FixedPager {
    fn fill(&mut self, index: u64, page: &mut [u8]) -> Result<(), PagerError> {
        let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(page.len());
        let rest = self.bytes.get(start..).ok_or(PagerError::NoPage { index })?;
        let count = rest.len().min(page.len());
        page[..count].copy_from_slice(&rest[..count]);
        Ok(())
    }

    fn store(&mut self, index: u64, _page: &[u8]) -> Result<(), PagerError> {
        Err(PagerError::Io { index })
    }

    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl SpecialPages {
    fn new(memory: &mut Memory) -> Self {
        let mut add = |path: &str, bytes: Vec<u8>| {
            let object = memory.add_object(Box::new(FixedPager { bytes }), FileKind::Special);
            Arc::new(MappedFile {
                object,
                path: path.as_bytes().into(),
                device: (0, 0),
                inode: 0,
                kind: FileKind::Special,
                may: Rights::all(),
            })
        };
        Self {
            vvar: add("[vvar]", vec![0; VVAR_BYTES as usize]),
            vclock: add("[vvar_vclock]", vec![0; VCLOCK_BYTES as usize]),
            vdso: add("[vdso]", vdso::image()),
            vdso_i386: add("[vdso]", vdso::i386::image()),
        }
    }
}

/// Why a program was not loaded.
enum LoadError {
    /// Nothing has happened; `execve` returns this.
    Refused(Errno),
    /// Past the point of no return: the task ends like this.
    Fatal(Outcome),
}

impl From<Errno> for LoadError {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}

/// A loaded program.
struct Image {
    abi: Abi,
    /// Whether reading implies executing.
    implies_execute: bool,
    mm: Mm,
    entry: u64,
    stack_pointer: u64,
}

impl Image {
    /// An address space without a program.
    fn empty(mm: Mm) -> Self {
        Self { abi: Abi::X86_64, implies_execute: false, mm, entry: 0, stack_pointer: 0 }
    }
}

/// All that loading works on.
struct Loader<'a> {
    memory: &'a mut Memory,
    hw: &'a mut Machine,
    random: &'a mut Generator,
    special: &'a SpecialPages,
    abi: Abi,
    room: Room,
    /// Whether all that can be read can be executed.
    implies_execute: bool,
}

/// The rules of a new address space.
#[derive(Clone, Copy)]
struct Frame {
    id: MmId,
    asid: u16,
    limits: Limits,
    uid: u32,
    gid: u32,
    personality: u32,
}

impl Frame {
    /// Those of the first program.
    fn first(limits: &[ResourceLimit; LIMIT_COUNT], who: &Credentials) -> Self {
        let (uid, gid) = (who.uid, who.gid);
        let limits = memory_limits(limits, uid);
        Self { id: MmId(1), asid: 1, limits, uid, gid, personality: 0 }
    }
}

impl<'a> Loader<'a> {
    fn new(
        memory: &'a mut Memory,
        hw: &'a mut Machine,
        random: &'a mut Generator,
        special: &'a SpecialPages,
    ) -> Self {
        let abi = Abi::X86_64;
        let room = KernelKind::of(hw.geometry()).room(abi, 0);
        Self { memory, hw, random, special, abi, room, implies_execute: false }
    }

    /// Builds the address space of `prepared`.
    ///
    /// The new space is the machine's active one afterwards. On an error it is gone again, and the
    /// machine has no usable space active: the caller ends the task or activates another.
    fn load(&mut self, prepared: &Prepared, frame: Frame) -> Result<Image, LoadError> {
        (self.abi, self.implies_execute) = (prepared.abi(), prepared.implies_execute());
        self.room = KernelKind::of(self.hw.geometry()).room(self.abi, frame.personality);
        let layout = layout(self.room, frame.limits.stack_bytes);
        let mut mm = Mm::new(frame.id, layout, frame.limits, self.memory, self.hw)
            .map_err(|error| LoadError::Refused(error.into()))?;
        self.hw.activate(mm.root(), frame.asid);
        match self.fill(&mut mm, prepared, frame) {
            Some((entry, stack_pointer)) => {
                mm.forget_faults();
                let (abi, implies_execute) = (self.abi, self.implies_execute);
                Ok(Image { abi, implies_execute, mm, entry, stack_pointer })
            }
            None => {
                let is_full = self.memory.usage().frames_free == 0;
                mm.exit(self.memory, self.hw);
                let killed = Outcome::Killed(SIGSEGV);
                Err(LoadError::Fatal(if is_full { Outcome::OutOfMemory } else { killed }))
            }
        }
    }

    /// The empty address space of a first program that was killed while it was loaded.
    fn no_image(&mut self, frame: Frame) -> Result<Image, BootError> {
        let layout = layout(self.room, 0);
        let mm = Mm::new(frame.id, layout, frame.limits, self.memory, self.hw);
        mm.map(Image::empty).map_err(BootError::Memory)
    }

    /// Stack, program, interpreter, vDSO, first content of the stack; `None` is fatal.
    fn fill(&mut self, mm: &mut Mm, prepared: &Prepared, frame: Frame) -> Option<(u64, u64)> {
        let stack_bytes = first_stack_bytes(&prepared.strings, frame.limits.stack_bytes);
        let rights = prepared.stack_rights();
        mm::ops::map_stack(mm, self.memory, self.hw, stack_bytes, rights).ok()?;
        let main = self.map_main(mm, prepared)?;
        let interpreter = match &prepared.interpreter {
            Some(interpreter) => Some(self.map_interpreter(mm, interpreter)?),
            None => None,
        };
        let vdso = self.map_vdso(mm)?;
        let mut random = [0; 16];
        self.random.fill(&mut random);
        let vsyscall = match self.abi {
            Abi::X86_64 => 0,
            Abi::I386 => vdso + vdso::i386::VSYSCALL,
        };
        let auxiliary = Auxiliary {
            abi: self.abi,
            vdso,
            vsyscall,
            signal_stack_bytes: SIGNAL_FRAME_BYTES,
            hwcap: u64::from(cpu::CPUID_FEATURES_EDX),
            hwcap2: u64::from(cpu::cpuid(7, 0)[1] & 1) << 1,
            table: prepared.main.table_address(main),
            table_count: prepared.main.program.header.count,
            base: interpreter.map_or(0, |(bias, _)| bias),
            entry: prepared.main.entry(main),
            uid: frame.uid,
            gid: frame.gid,
            random,
        };
        let top = mm.layout.stack_top.as_u64();
        let block = stack_init::build(top, &prepared.strings, &auxiliary);
        let start = VirtAddr::new(block.start);
        uaccess::store(mm, self.memory, self.hw, start, &block.bytes).ok()?;
        mm.layout.vdso = VirtAddr::new(vdso);
        mm.layout.start_stack = start;
        mm.layout.arg_start = VirtAddr::new(block.arg_start);
        mm.layout.arg_end = VirtAddr::new(block.arg_end);
        mm.layout.env_start = mm.layout.arg_end;
        mm.layout.env_end = VirtAddr::new(block.env_end);
        let entry = interpreter.map_or(auxiliary.entry, |(_, entry)| entry);
        (entry < self.room.end).then_some((entry, block.start))
    }
}

/// Addresses that depend on nothing but the room and the stack limit (AS-1 to AS-4).
pub(crate) fn layout(room: Room, stack_bytes: u64) -> Layout {
    let end = room.end;
    let gap = stack_bytes.checked_add(STACK_GUARD_BYTES).unwrap_or(stack_bytes);
    let gap = gap.clamp(GAP_BYTES_MIN, end / 6 * 5);
    let page_up = |addr: u64| VirtAddr::new(addr.next_multiple_of(PAGE_BYTES));
    Layout {
        mmap_base: page_up(end - gap),
        mmap_legacy_base: page_up(end / 3),
        task_end: VirtAddr::new(end),
        min_address: VirtAddr::new(MIN_ADDRESS),
        stack_top: VirtAddr::new(end),
        ..Layout::default()
    }
}

/// Bytes of the stack VMA: the pages of the strings and 128 KiB, within the limit (STK-1).
fn first_stack_bytes(strings: &Strings, limit: u64) -> u64 {
    let pages = strings.bytes().next_multiple_of(PAGE_BYTES);
    let limit = limit.saturating_sub(limit % PAGE_BYTES);
    (pages + STACK_EXTRA_BYTES).min(limit.max(pages))
}

/// `rwxp` letters of a VMA, as `/proc/PID/maps` shows them.
pub fn perms(vma: &Vma) -> [u8; 4] {
    let letter = |right: Rights, letter: u8| if vma.rights.contains(right) { letter } else { b'-' };
    [
        letter(Rights::READ, b'r'),
        letter(Rights::WRITE, b'w'),
        letter(Rights::EXECUTE, b'x'),
        if vma.sharing == Sharing::Shared { b's' } else { b'p' },
    ]
}

/// The name of a VMA as `/proc/PID/maps` shows it, empty for plain anonymous memory.
pub fn vma_name<'a>(mm: &'a Mm, vma: &'a Vma) -> &'a [u8] {
    if let Backing::File(file) = &vma.backing {
        return &file.path;
    }
    let (range, layout) = (vma.range, &mm.layout);
    if range.start <= layout.start_stack
        && layout.start_stack <= range.end
        && vma.flags.contains(VmaFlags::GROWS_DOWN)
    {
        return b"[stack]";
    }
    if range.start < layout.brk && range.end > layout.start_brk { b"[heap]" } else { b"" }
}

/// The task that runs `image`, with places for its parts in `tasks`.
fn first_task(tasks: &mut Tasks, image: &Image, gdt: DescriptorTable, path: &[u8]) -> Task {
    let parts =
        Parts { mm: tasks.mms.reserve(), files: tasks.files.reserve(), fs: tasks.fs.reserve() };
    let mut task = Task::first(first_registers(image, gdt), parts, task_name(path));
    task.personality = personality(0, image.implies_execute);
    task
}

/// Registers of a program that has not yet run; `gdt` is the table of an i386 kernel.
fn first_registers(image: &Image, gdt: DescriptorTable) -> Registers {
    let mut regs = match image.abi {
        Abi::X86_64 => Registers::new(),
        Abi::I386 if gdt == DescriptorTable::NONE => Registers::new_compat(),
        Abi::I386 => Registers::new_i386(gdt),
    };
    regs.rip = image.entry;
    regs.gpr[Registers::RSP] = image.stack_pointer;
    regs
}

/// The personality of a task whose program is new.
const fn personality(before: u32, implies_execute: bool) -> u32 {
    let kept = before & !READ_IMPLIES_EXEC;
    if implies_execute { kept | READ_IMPLIES_EXEC } else { kept }
}

/// The memory manager as the configuration wants it, its swap areas, and what swapping costs.
fn manager(
    hw: &mut Machine,
    config: &mut KernelConfig,
) -> Result<(Memory, Vec<NamedArea>, Latency), MmError> {
    let mut memory = Memory::new(hw)?;
    map_kernel(&mut memory, hw)?;
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

/// Builds the page tables of a usual kernel on this machine.
fn map_kernel(memory: &mut Memory, hw: &mut Machine) -> Result<(), MmError> {
    let frame_count = hw.ram.frame_count();
    let config = SpaceConfig { cpus: 1, ..SpaceConfig::new(hw.geometry(), hw.ram.bytes()) };
    let space = KernelSpace::new(config).map_err(|_| MmError::RamTooLarge { frame_count })?;
    memory.map_kernel(hw, space)
}

/// The GDT of an i386 kernel: its frame, and where it is. A 64-bit kernel makes one when a program
/// has entries of its own.
fn boot_gdt(
    memory: &mut Memory,
    hw: &mut Machine,
) -> Result<(Option<machine::Frame>, DescriptorTable), MmError> {
    if KernelKind::of(hw.geometry()) == KernelKind::X86_64 {
        return Ok((None, DescriptorTable::NONE));
    }
    let (frame, table) = crate::compat::segments::new_gdt(memory, hw)
        .ok_or(MmError::NoMemory("no frame for the GDT"))?;
    Ok((Some(frame), table))
}

/// Tags of address spaces (PCID) are an affair of 64-bit kernels.
const fn context_switch(geometry: Geometry, wanted: ContextSwitch) -> ContextSwitch {
    match KernelKind::of(geometry) {
        KernelKind::X86_64 => wanted,
        KernelKind::I386 => ContextSwitch::Flushed,
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

impl Kernel {
    /// Builds the machine and loads the program into it.
    ///
    /// A program that is killed while it is loaded is no error: [`Kernel::run`] says so at once.
    ///
    /// # Errors
    /// Every [`BootError`].
    pub fn new(mut config: KernelConfig) -> Result<Self, BootError> {
        let mut hw = Machine::new(config.machine).map_err(BootError::Ram)?;
        let (mut memory, swap_areas, swap_latency) =
            manager(&mut hw, &mut config).map_err(BootError::Memory)?;
        let special = SpecialPages::new(&mut memory);
        let mut random = Generator::new(config.seed);
        let (mut vfs, files, mut fs) = open_files(&config)?;
        let planted = vfs.counts().1;
        let path = program::search(&mut vfs, &View::new(&fs, &files), &config.program, &config.env)
            .ok_or_else(|| BootError::NotFound { program: config.program.clone() })?;
        let refuse = |errno| BootError::Exec { program: path.clone(), errno };
        let limits = initial_limits(config.stack_bytes);
        let strings = Strings { args: config.args, env: config.env, path: path.clone() };
        let view = View::new(&fs, &files);
        let prepared =
            program::prepare(&mut vfs, &mut memory, &mut hw, &view, strings, config.stack_bytes)
                .map_err(|errno| match errno {
                    Errno::ENOENT => missing(&mut vfs, &view, &path),
                    errno => refuse(errno),
                })?;
        let frame = Frame::first(&limits, &fs.credentials);
        let mut loader = Loader::new(&mut memory, &mut hw, &mut random, &special);
        let (image, exit) = match loader.load(&prepared, frame) {
            Ok(image) => (image, None),
            Err(LoadError::Refused(errno)) => return Err(refuse(errno)),
            Err(LoadError::Fatal(outcome)) => (loader.no_image(frame)?, Some(outcome)),
        };
        fs.exe = prepared.main.path.clone();
        log_exec(&mut hw, task::PID, &image);
        let mut tasks = Tasks::default();
        let (gdt, table) = boot_gdt(&mut memory, &mut hw).map_err(BootError::Memory)?;
        let task = first_task(&mut tasks, &image, table, &path);
        let mut asids = Asids::new(context_switch(hw.geometry(), config.context_switch));
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
        };
        Ok(kernel.settled())
    }

    /// Replaces the program of the task.
    ///
    /// # Errors
    /// Those of `execve`; the task is as before. Past the point of no return the task ends instead.
    fn execve(&mut self, strings: Strings) -> Result<(), Errno> {
        let stack_bytes = self.mm.limits.stack_bytes;
        let path = strings.path.clone();
        let Self { vfs, memory, hw, task, process, mm, files, fs, tasks: others, .. } = self;
        let view = View::of(Roster { task, process, mm, files, fs, others });
        let prepared = program::prepare(vfs, memory, hw, &view, strings, stack_bytes)?;
        let Credentials { uid, gid, .. } = self.fs.credentials;
        let limits = memory_limits(&self.process.limits, uid);
        let id = self.tasks.take_mm();
        let personality = self.task.personality;
        let frame = Frame { id, asid: self.asids.of(id), limits, uid, gid, personality };
        let Self { memory, hw, random, special, .. } = self;
        let mut loader = Loader::new(memory, hw, random, special);
        match loader.load(&prepared, frame) {
            Ok(image) => self.enter_image(image),
            Err(error) => {
                self.asids.forget(id, &mut self.hw);
                self.activate();
                return match error {
                    LoadError::Refused(errno) => Err(errno),
                    LoadError::Fatal(outcome) => {
                        self.exit_process(outcome);
                        Ok(())
                    }
                };
            }
        }
        self.unshare_files();
        self.close_on_exec();
        self.fs.exe = prepared.main.path;
        self.task.name = task_name(&path);
        Ok(())
    }

    /// The point of no return: other threads end, the old address space goes, the new one runs.
    fn enter_image(&mut self, image: Image) {
        // What the dead left in their memory is still in the old space.
        self.activate();
        for tid in self.process.threads.clone() {
            if tid != self.task.tid {
                self.discard_thread(tid);
            }
        }
        self.leave_memory_to_others();
        self.take_over_leader();
        log_exec(&mut self.hw, self.task.tid, &image);
        let regs = first_registers(&image, self.gdt_at_boot());
        let implies_execute = image.implies_execute;
        let old_key = self.task.parts.mm;
        self.process.account.exec_count += 1;
        if self.tasks.mms.release(old_key) {
            self.account_for_mm();
            self.end_mm();
            self.mm = image.mm;
        } else {
            let old = std::mem::replace(&mut self.mm, image.mm);
            self.tasks.mms.put(old_key, old);
        }
        self.task.parts.mm = self.tasks.mms.reserve();
        self.activate();
        self.task.regs = regs;
        self.process.actions.reset_for_exec();
        self.process.actions_shared = None;
        self.process.settings.barriers = 0;
        self.drop_created_timers();
        self.process.has_executed = true;
        self.task.signals.alt_stack = AltStack::NONE;
        self.task.rseq = None;
        self.task.robust_list_i386 = 0;
        self.task.tls = [0; crate::compat::segments::COUNT];
        self.task.personality = personality(self.task.personality, implies_execute);
    }

    /// The path of the program that `execveat` names.
    fn path_of_program(&mut self, dirfd: u64, path: u64, flags: u64) -> Result<Vec<u8>, Errno> {
        const AT_FDCWD: u64 = 0xffff_ff9c;
        const AT_EMPTY_PATH: u64 = 0x1000;
        const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
        if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
            return Err(Errno::EINVAL);
        }
        let path = self.read_user_path(path)?;
        if path.starts_with(b"/") || dirfd & 0xffff_ffff == AT_FDCWD {
            return Ok(path);
        }
        let from = self.vfs.path_of(self.files.get(dirfd)?);
        match (path.is_empty(), flags & AT_EMPTY_PATH != 0) {
            (true, true) => Ok(from),
            (true, false) => Err(Errno::ENOENT),
            (false, _) => Ok([from, b"/".to_vec(), path].concat()),
        }
    }

    /// Reads an array of pointers to strings, as the call has them, that ends with a null pointer.
    fn read_user_strings(&mut self, addr: u64) -> Result<Vec<Vec<u8>>, Errno> {
        let abi = self.task.call_abi;
        let mut strings = Vec::new();
        let mut bytes = 0;
        if addr == 0 {
            return Ok(strings);
        }
        loop {
            let slot = VirtAddr::new(addr.wrapping_add(strings.len() as u64 * abi.word_bytes()));
            let pointer = self.read_user_word(slot, abi)?;
            if pointer == 0 {
                return Ok(strings);
            }
            let text = self.read_user_string(VirtAddr::new(pointer), 128 << 10);
            let text = text.map_err(|errno| match errno {
                Errno::ENAMETOOLONG => Errno::E2BIG,
                other => other,
            })?;
            bytes += text.len() + 1 + abi.word_bytes() as usize;
            if bytes > 8 << 20 {
                return Err(Errno::E2BIG);
            }
            strings.push(text);
        }
    }
}

pub(crate) fn sys_execve(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let path = kernel.read_user_path(args[0])?;
    let mut strings = Strings {
        args: kernel.read_user_strings(args[1])?,
        env: kernel.read_user_strings(args[2])?,
        path,
    };
    if strings.args.is_empty() {
        strings.args.push(Vec::new());
    }
    kernel.execve(strings)?;
    Ok(0)
}

pub(crate) fn sys_execveat(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [dirfd, path, arguments, environment, flags, _] = args;
    let path = kernel.path_of_program(dirfd, path, flags)?;
    let mut strings = Strings {
        args: kernel.read_user_strings(arguments)?,
        env: kernel.read_user_strings(environment)?,
        path,
    };
    if strings.args.is_empty() {
        strings.args.push(Vec::new());
    }
    kernel.execve(strings)?;
    Ok(0)
}

fn log_exec(hw: &mut Machine, task: u32, image: &Image) {
    let event = Event::Exec { task, mm: image.mm.id.0, entry: image.entry };
    hw.log.push(hw.time(), event);
}

/// Messages on their way and names of files may take this part of what the machine has as RAM.
const POOL_PART: u64 = 8;
/// At least so many bytes.
const POOL_BYTES_MIN: u64 = 64 << 20;

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

/// Whether an address of the guest is page aligned.
fn is_page_aligned(addr: u64) -> bool {
    VirtAddr::new(addr).is_aligned(PageSize::K4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_linux_without_randomisation() {
        let base = |abi, stack| {
            let room = KernelKind::X86_64.room(abi, 0);
            layout(room, stack).mmap_base.as_u64()
        };
        let (long, i386) = (|stack| base(Abi::X86_64, stack), |stack| base(Abi::I386, stack));
        assert_eq!(long(8 << 20), 0x7fff_f7ff_f000);
        assert_eq!(long(1 << 30), 0x7fff_bfef_f000);
        assert_eq!(long(u64::MAX), 0x1555_5555_6000);
        let pie_base = KernelKind::X86_64.room(Abi::X86_64, 0).pie_base;
        assert_eq!(pie_base & !(PAGE_BYTES - 1), 0x5555_5555_4000);
        assert_eq!(i386(8 << 20), 0xf7ff_e000);
    }

    #[test]
    fn the_first_stack_has_33_pages() {
        let strings = Strings { args: vec![], env: vec![], path: b"/bin/p".to_vec() };
        assert_eq!(first_stack_bytes(&strings, 8 << 20), 33 * PAGE_BYTES);
        assert_eq!(first_stack_bytes(&strings, 64 << 10), 16 * PAGE_BYTES);
    }
}
