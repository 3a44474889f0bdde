//! Our side: the same calls on `mm` directly.

use std::fmt::Write as _;
use std::sync::Arc;

use machine::{
    Access, FastPath, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, TlbMode, VirtAddr,
    tlb_default,
};
use mm::check::check;
use mm::ops::{
    self, Advice, LockFlags, LockMode, MapFlags, MapRequest, MapSource, Ownership, ProtectFlags,
    RemapFlags, SyncFlags,
};
use mm::{
    FaultError, FileKind, Layout, Limits, MappedFile, Memory, Mm, MmError, MmId, Rights, Sharing,
    Vma, VmaFlags, ZeroPager, handle_fault,
};

use crate::sequence::{ARENA, ARENA_END, FILE_BYTES, HEAP_PAGES, Op, PAGE, map};

const TASK_END: u64 = 0x7fff_ffff_f000;

/// What a step answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// The result, or minus the errno; for accesses see `native.c`.
    pub(crate) result: i64,
    /// Minor faults.
    pub(crate) faults: i64,
    /// For mincore, one digit per page.
    pub(crate) vector: String,
}

/// A machine with one address space.
pub(crate) struct Ours {
    hw: Machine,
    memory: Memory,
    mm: Mm,
    files: Vec<Arc<MappedFile>>,
    heap: u64,
}

impl Ours {
    /// An address space with everything reserved but the arena and the heap.
    pub(crate) fn new(heap: u64) -> Self {
        let mut hw = Machine::new(MachineConfig {
            ram_bytes: 32 << 20,
            geometry: Geometry::X86_64,
            tlb: TlbMode::Model(*tlb_default()),
            reference: FastPath::Filled,
            keep: Keep::HashOnly,
            boot_seconds: 0,
        })
        .expect("the test machine is small");
        let mut memory = Memory::new(&mut hw).expect("there are frames");
        let layout = Layout {
            mmap_base: VirtAddr::new(0x7fff_f7ff_f000),
            mmap_legacy_base: VirtAddr::new(0x2aaa_aaaa_a000),
            task_end: VirtAddr::new(TASK_END),
            min_address: VirtAddr::new(0x1_0000),
            start_brk: VirtAddr::new(heap),
            brk: VirtAddr::new(heap),
            ..Layout::default()
        };
        let limits = Limits { can_lock: true, can_map_low: true, ..Limits::default() };
        let mm = Mm::new(MmId(1), layout, limits, &mut memory, &mut hw).expect("there are frames");
        hw.activate(mm.root(), 1);
        let object = memory.add_object(Box::new(ZeroPager::new(FILE_BYTES)), FileKind::Shmem);
        let file = |may| {
            let path = Box::from(*b"/memfd:f (deleted)");
            let (device, inode, kind) = ((0, 1), 1, FileKind::Shmem);
            Arc::new(MappedFile { object, path, device, inode, kind, may })
        };
        let (read, write) = (Rights::READ | Rights::EXECUTE, Rights::WRITE | Rights::EXECUTE);
        let files = vec![file(Rights::all()), file(Rights::all()), file(read), file(write)];
        let mut ours = Self { hw, memory, mm, files, heap };
        ours.reserve(0x1_0000, heap);
        ours.reserve(heap + HEAP_PAGES * PAGE, ARENA);
        ours.reserve(ARENA_END, TASK_END);
        ours
    }

    fn reserve(&mut self, from: u64, to: u64) {
        let flags = map::PRIVATE | map::FIXED_NO_REPLACE | map::NO_RESERVE;
        let op = Op::Mmap { addr: from, bytes: to - from, rights: 0, flags, file: 0, offset: 0 };
        assert_eq!(self.call(op), Ok(from), "reserving {from:#x}..{to:#x}");
    }

    /// Makes one step.
    pub(crate) fn step(&mut self, op: Op) -> Answer {
        let before = self.mm.faults().minor;
        let mut vector = String::new();
        let result = match op {
            Op::Read { addr } => self.touch(addr, Access::Read),
            Op::Write { addr, value } => match self.touch(addr, Access::Write) {
                0.. => {
                    self.poke(addr, value as u8);
                    i64::from(self.peek(addr))
                }
                refused => refused,
            },
            Op::Mincore { addr, bytes } => {
                let range = (VirtAddr::new(addr), bytes);
                match ops::mincore(&self.mm, &self.memory, &self.hw, range, Ownership::Owner) {
                    Ok(pages) => {
                        vector = pages.iter().map(|page| char::from(b'0' + page)).collect();
                        0
                    }
                    Err(error) => -errno(error),
                }
            }
            _ => match self.call(op) {
                Ok(result) => result as i64,
                Err(error) => -errno(error),
            },
        };
        let faults = (self.mm.faults().minor - before) as i64;
        Answer { result, faults, vector }
    }

    /// Fails if an invariant does not hold.
    pub(crate) fn check(&self) {
        assert_eq!(check(&[&self.mm], &self.memory, &self.hw), Ok(()));
    }

    fn call(&mut self, op: Op) -> Result<u64, MmError> {
        let (mm, memory, hw) = (&mut self.mm, &mut self.memory, &mut self.hw);
        let at = VirtAddr::new;
        let done = |()| 0;
        match op {
            Op::Mmap { addr, bytes, rights, flags, file, offset } => {
                let source = if flags & map::ANONYMOUS != 0 {
                    MapSource::Anonymous
                } else {
                    MapSource::File { file: Arc::clone(&self.files[file as usize]), offset }
                };
                let request = request((addr, bytes, rights, flags), source);
                ops::mmap(mm, memory, hw, request).map(VirtAddr::as_u64)
            }
            Op::Munmap { addr, bytes } => ops::munmap(mm, memory, hw, at(addr), bytes).map(done),
            Op::Mprotect { addr, bytes, rights } => {
                let rights = (Rights::from_bits_truncate(rights as u8), ProtectFlags::empty());
                ops::mprotect(mm, memory, hw, at(addr), bytes, rights).map(done)
            }
            Op::Mremap { addr, old_bytes, new_bytes, flags, new_addr } => {
                let what = (at(addr), old_bytes, new_bytes);
                let flags = u8::try_from(flags).ok().and_then(RemapFlags::from_bits);
                let flags = flags.ok_or(MmError::InvalidArgument("flags"))?;
                ops::mremap(mm, memory, hw, what, flags, at(new_addr)).map(VirtAddr::as_u64)
            }
            Op::Madvise { addr, bytes, advice } => {
                let advice =
                    Advice::from_number(advice).ok_or(MmError::InvalidArgument("advice"))?;
                ops::madvise(mm, memory, hw, (at(addr), bytes), advice).map(done)
            }
            Op::Mlock { addr, bytes, flags } => {
                let mode = match flags {
                    0 => LockMode::Now,
                    1 => LockMode::OnFault,
                    _ => return Err(MmError::InvalidArgument("flags")),
                };
                ops::mlock(mm, memory, hw, (at(addr), bytes), mode).map(done)
            }
            Op::Munlock { addr, bytes } => ops::munlock(mm, memory, hw, at(addr), bytes).map(done),
            Op::MlockAll { flags } => {
                let flags = LockFlags::from_bits(flags as u8);
                let flags = flags.ok_or(MmError::InvalidArgument("flags"))?;
                ops::mlockall(mm, memory, hw, flags).map(done)
            }
            Op::MunlockAll => {
                ops::munlockall(mm, memory, hw);
                Ok(0)
            }
            Op::Msync { addr, bytes, flags } => {
                let flags = SyncFlags::from_bits(flags as u8);
                let flags = flags.ok_or(MmError::InvalidArgument("flags"))?;
                ops::msync(mm, memory, hw, (at(addr), bytes), flags).map(done)
            }
            Op::Brk { addr } => Ok(ops::brk(mm, memory, hw, at(addr)).as_u64()),
            Op::Mincore { .. } | Op::Read { .. } | Op::Write { .. } => {
                unreachable!("answered by `step`")
            }
        }
    }

    /// The byte at `addr` after an access of the CPU, or how the access was refused.
    fn touch(&mut self, addr: u64, access: Access) -> i64 {
        let addr = VirtAddr::new(addr);
        for _ in 0..4 {
            let Err(fault) = self.hw.access(addr, access) else {
                return i64::from(self.peek(addr.as_u64()));
            };
            match handle_fault(&mut self.mm, &mut self.memory, &mut self.hw, fault) {
                Ok(_) => {}
                Err(FaultError::NoVma { .. }) => return -1001,
                Err(FaultError::Denied { .. }) => return -1002,
                Err(FaultError::BusError { .. }) => return -2002,
                Err(error @ FaultError::OutOfMemory { .. }) => panic!("{error}"),
            }
        }
        panic!("{access:?} of {addr} faults again and again");
    }

    fn peek(&self, addr: u64) -> u8 {
        let mut byte = [0];
        let found = self.hw.peek(self.mm.root(), VirtAddr::new(addr));
        self.hw.load(found.expect("it was just accessed").0, &mut byte);
        byte[0]
    }

    fn poke(&mut self, addr: u64, value: u8) {
        let found = self.hw.peek(self.mm.root(), VirtAddr::new(addr));
        self.hw.store(found.expect("it was just accessed").0, &[value]);
    }

    fn vmas(&self) -> impl Iterator<Item = &Vma> {
        let is_ours = |vma: &&Vma| {
            let start = vma.range.start.as_u64();
            (ARENA..ARENA_END).contains(&start)
                || (self.heap..self.heap + HEAP_PAGES * PAGE).contains(&start)
        };
        self.mm.vmas().filter(is_ours)
    }

    /// The lines of `/proc/self/maps`.
    pub(crate) fn maps(&self) -> String {
        self.vmas().fold(String::new(), |text, vma| text + &maps_line(vma) + "\n")
    }

    /// The lines of `/proc/self/maps`, each with KiB resident and anonymous and with its flags.
    pub(crate) fn smaps(&self) -> String {
        let mut text = String::new();
        for vma in self.vmas() {
            let counts = self.mm.count_pages(&self.hw, &self.memory, vma.range);
            let (resident, anonymous) = (counts.resident * 4, counts.anonymous * 4);
            let line = maps_line(vma);
            writeln!(text, "{line} {resident} {anonymous} {}", flag_names(vma))
                .expect("a String takes all");
        }
        text
    }
}

fn maps_line(vma: &Vma) -> String {
    let letter = |right, letter| if vma.rights.contains(right) { letter } else { '-' };
    let rights: String = [
        letter(Rights::READ, 'r'),
        letter(Rights::WRITE, 'w'),
        letter(Rights::EXECUTE, 'x'),
        if vma.sharing == Sharing::Shared { 's' } else { 'p' },
    ]
    .iter()
    .collect();
    let offset = vma.backing.file().map_or(0, |_| vma.page_offset * PAGE_BYTES);
    let (start, end) = (vma.range.start.as_u64(), vma.range.end.as_u64());
    format!("{start:08x}-{end:08x} {rights} {offset:08x}")
}

/// The two-letter codes of smaps (PROC-2).
fn flag_names(vma: &Vma) -> String {
    use VmaFlags as F;
    let is_shared = vma.sharing == Sharing::Shared;
    let flag = |flag| vma.flags.contains(flag);
    let names = [
        (vma.rights.contains(Rights::READ), "rd"),
        (vma.rights.contains(Rights::WRITE), "wr"),
        (vma.rights.contains(Rights::EXECUTE), "ex"),
        (is_shared && vma.may.contains(Rights::WRITE), "sh"),
        (vma.may.contains(Rights::READ), "mr"),
        (vma.may.contains(Rights::WRITE), "mw"),
        (vma.may.contains(Rights::EXECUTE), "me"),
        (is_shared, "ms"),
        (flag(F::GROWS_DOWN), "gd"),
        (flag(F::LOCKED), "lo"),
        (flag(F::SEQUENTIAL), "sr"),
        (flag(F::RANDOM), "rr"),
        (flag(F::DONT_FORK), "dc"),
        (flag(F::DONT_EXPAND), "de"),
        (flag(F::LOCK_ON_FAULT), "lf"),
        (flag(F::ACCOUNT), "ac"),
        (flag(F::NO_RESERVE), "nr"),
        (flag(F::WIPE_ON_FORK), "wf"),
        (flag(F::DONT_DUMP), "dd"),
        (flag(F::HUGE_PAGE), "hg"),
        (flag(F::NO_HUGE_PAGE), "nh"),
        (flag(F::MERGEABLE), "mg"),
        (flag(F::DROPPABLE), "dp"),
    ];
    names.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| format!("{name} ")).collect()
}

/// Decodes the numbers of the ABI as the kernel does.
fn request((addr, bytes, rights, flags): (u64, u64, u64, u64), source: MapSource) -> MapRequest {
    let sharing = match flags & map::TYPE {
        map::SHARED => Sharing::Shared,
        _ => Sharing::Private,
    };
    let pairs = [
        (map::FIXED, MapFlags::FIXED),
        (map::FIXED_NO_REPLACE, MapFlags::FIXED_NO_REPLACE),
        (map::GROWS_DOWN, MapFlags::GROWS_DOWN),
        (map::LOCKED, MapFlags::LOCKED),
        (map::NO_RESERVE, MapFlags::NO_RESERVE),
        (map::POPULATE, MapFlags::POPULATE),
    ];
    let mut typed = MapFlags::empty();
    for (bit, flag) in pairs {
        typed.set(flag, flags & bit != 0);
    }
    typed.set(MapFlags::DROPPABLE, flags & map::TYPE == map::DROPPABLE);
    let rights = Rights::from_bits_truncate(rights as u8);
    MapRequest { addr, bytes, rights, sharing, flags: typed, source }
}

fn errno(error: MmError) -> i64 {
    match error {
        MmError::NotPermitted => 1,
        MmError::Io(_) => 5,
        MmError::Again => 11,
        MmError::NoMemory(_) | MmError::RamTooLarge { .. } => 12,
        MmError::AccessDenied => 13,
        MmError::Fault { .. } => 14,
        MmError::Busy => 16,
        MmError::Exists => 17,
        MmError::NoDevice => 19,
        MmError::InvalidArgument(_) => 22,
        MmError::TextBusy => 26,
        MmError::Overflow => 75,
        MmError::NotSupported => 95,
    }
}
