//! The world that is played with, and what the model says of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use machine::{
    FastPath, Frame, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, TlbMode, VirtAddr,
    tlb_default,
};
use mm::check::check;
use mm::{
    FileKind, LATENCIES, Layout, Limits, MappedFile, Memory, Mm, MmId, ObjectId, PackedStore,
    Readahead, Rights, Sharing,
};

use crate::bytes::Bytes;

/// The first page that is played with: the pages lie across the border of two tables in every
/// geometry.
pub(crate) const FIRST: u64 = 0x400 - 96;
pub(crate) const PAGE: usize = PAGE_BYTES as usize;

/// A file as the model sees it: whole pages, and where the file ends.
pub(crate) struct ModelFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) size: usize,
    /// The real one; `None` for shared anonymous memory.
    pub(crate) real: Option<(Bytes, Arc<MappedFile>)>,
}

#[derive(Clone)]
pub(crate) struct ModelPage {
    pub(crate) rights: Rights,
    pub(crate) sharing: Sharing,
    /// File and page in it; `None` for private zeros.
    pub(crate) file: Option<(usize, usize)>,
    pub(crate) copy: Option<Vec<u8>>,
    /// Whether the copy may be gone when it is next looked at (`MADV_FREE`).
    pub(crate) is_lazy: bool,
    /// Whether it is locked, and then whether it was seen in RAM since.
    pub(crate) is_locked: bool,
    pub(crate) was_in_core: bool,
}

impl ModelPage {
    pub(crate) const fn new(
        rights: Rights,
        sharing: Sharing,
        file: Option<(usize, usize)>,
    ) -> Self {
        let (is_lazy, is_locked, was_in_core) = (false, false, false);
        Self { rights, sharing, file, copy: None, is_lazy, is_locked, was_in_core }
    }
}

pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}

/// An address space that is not the active one, and what the model says of it.
pub(crate) struct Other {
    pub(crate) mm: Mm,
    pub(crate) pages: BTreeMap<u64, ModelPage>,
    pub(crate) asid: u16,
    pub(crate) may_be_split: bool,
}

pub(crate) struct World {
    pub(crate) hw: Machine,
    pub(crate) memory: Memory,
    /// The active address space.
    pub(crate) mm: Mm,
    pub(crate) files: Vec<ModelFile>,
    /// Its pages.
    pub(crate) pages: BTreeMap<u64, ModelPage>,
    /// Its identifier.
    pub(crate) asid: u16,
    /// Whether it was forked with locks, which a child does not have, and VMAs were not merged then
    /// (FORK-1).
    pub(crate) may_be_split: bool,
    pub(crate) others: Vec<Other>,
    pub(crate) random: Random,
    /// How the files are read.
    pub(crate) ahead: Readahead,
    pub(crate) refused: u64,
    /// Frames taken away from the program.
    pub(crate) hogged: Vec<Frame>,
    /// Whether frames run short, so that reclaim stores pages of files.
    is_short: bool,
    /// How many pages are played with.
    pub(crate) count: u64,
}

/// Whether pages leave RAM when it is short.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swap {
    Off,
    /// An area of so many slots.
    Slots(u32),
    /// An area whose pages lie compressed in RAM.
    Zram(u32),
    /// An area behind a pool of compressed pages in RAM.
    Zswap(u32),
}

/// What world is played with.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) geometry: Geometry,
    pub(crate) frame_count: u64,
    pub(crate) page_count: u64,
    pub(crate) seed: u64,
    pub(crate) swap: Swap,
    /// Whether frames run short.
    pub(crate) is_short: bool,
}

pub(crate) fn at(page: u64) -> VirtAddr {
    VirtAddr::new(page * PAGE_BYTES)
}

impl World {
    /// A world of its own with one address space and two files.
    pub(crate) fn new(plan: Plan) -> Self {
        let Plan { geometry, frame_count, page_count, seed, swap, is_short } = plan;
        let mut hw = Machine::new(MachineConfig {
            ram_bytes: frame_count * PAGE_BYTES,
            geometry,
            tlb: TlbMode::Model(*tlb_default()),
            reference: FastPath::Filled,
            keep: Keep::HashOnly,
            boot_seconds: 0,
        })
        .unwrap();
        let mut memory = Memory::new(&mut hw).unwrap();
        let on_device = || Box::new(PackedStore::new());
        match swap {
            Swap::Off => {}
            Swap::Slots(count) => memory.swap_on(count, on_device(), LATENCIES[0]),
            Swap::Zram(count) => {
                let latency = mm::latency("zram").copied().unwrap();
                memory.swap_on(count, Box::new(PackedStore::in_ram()), latency);
            }
            Swap::Zswap(count) => {
                memory.set_zswap(3);
                memory.swap_on(count, on_device(), LATENCIES[0]);
            }
        }
        let layout = Layout {
            mmap_base: VirtAddr::new(0x4000_0000),
            mmap_legacy_base: VirtAddr::new(0x2000_0000),
            task_end: VirtAddr::new(0x8000_0000),
            min_address: VirtAddr::new(0x1000),
            ..Layout::default()
        };
        let limits = Limits { locked_bytes: u64::MAX, ..Limits::default() };
        let mm = Mm::new(MmId(1), layout, limits, &mut memory, &mut hw).unwrap();
        hw.activate(mm.root(), 1);
        let (files, pages, random) = (Vec::new(), BTreeMap::new(), Random::new(seed));
        let mut world = Self {
            hw,
            memory,
            mm,
            files,
            pages,
            asid: 1,
            may_be_split: false,
            others: Vec::new(),
            random,
            refused: 0,
            ahead: Readahead::default(),
            hogged: Vec::new(),
            is_short,
            count: page_count,
        };
        world.add_file(FileKind::Regular);
        world.add_file(FileKind::Shmem);
        world
    }

    fn add_file(&mut self, kind: FileKind) {
        let size = self.size(20 * PAGE + 123);
        let bytes: Vec<u8> = (0..size).map(|i| (i * 7 + i / PAGE) as u8).collect();
        let pager = Bytes::new(bytes.clone());
        let object = self.memory.add_object(Box::new(pager.clone()), kind);
        let file = MappedFile {
            object,
            path: Box::from(*b"/f"),
            device: (0, 1),
            inode: u64::from(object.0),
            kind,
            may: Rights::all(),
        };
        let mut file = ModelFile { bytes, size, real: Some((pager, Arc::new(file))) };
        file.bytes.resize(size.next_multiple_of(PAGE), 0);
        self.files.push(file);
    }

    /// A size that a file may have. When frames run short, files end with a page: nobody can tell
    /// when reclaim writes the last one, and what was stored behind the end is gone then.
    pub(crate) fn size(&self, bytes: usize) -> usize {
        if self.is_short { bytes.next_multiple_of(PAGE) } else { bytes }
    }

    pub(crate) fn range(&mut self) -> (u64, u64) {
        let first = self.random.below(self.count);
        let count = 1 + self.random.below(40);
        (FIRST + first, count.min(self.count - first))
    }

    pub(crate) fn rights(&mut self) -> Rights {
        Rights::from_bits_truncate(self.random.below(12).min(7) as u8)
    }

    pub(crate) fn object(&self, file: usize) -> (Bytes, ObjectId) {
        let (pager, mapped) = self.files[file].real.as_ref().unwrap();
        (pager.clone(), mapped.object)
    }

    pub(crate) fn step(&mut self) {
        match self.random.below(40) {
            0..3 => self.step_mmap(),
            3 => self.step_munmap(),
            4..6 => self.step_mprotect(),
            6 => self.step_mremap(),
            7 => self.step_dont_need(),
            8 => self.step_truncate(),
            9 => self.step_write_file(),
            10 => self.step_read_file(),
            11 => self.step_write_back(),
            12 => self.step_fork(),
            13 => self.step_exit(),
            14 | 15 => self.step_switch(),
            16 => self.step_remote(),
            17 => self.step_discard(),
            18 => self.step_advise(),
            19 => self.step_lock(),
            20 => self.step_free(),
            21 | 22 => self.step_sweep(),
            23 => self.step_reserve(),
            _ => self.step_access(),
        }
        self.check();
        self.check_locked();
        let unmerged = self.mm.vmas().zip(self.mm.vmas().skip(1)).find(|(a, b)| a.can_merge(b));
        assert!(self.may_be_split || unmerged.is_none(), "I4: {unmerged:?}");
        for page in FIRST..FIRST + self.count {
            let is_mapped = self.mm.vma_at(at(page)).is_some();
            assert_eq!(is_mapped, self.pages.contains_key(&page), "page {page:#x}");
        }
    }

    pub(crate) fn check(&self) {
        let others = self.others.iter().map(|other| &other.mm);
        let spaces: Vec<&Mm> = std::iter::once(&self.mm).chain(others).collect();
        assert_eq!(check(&spaces, &self.memory, &self.hw), Ok(()));
    }

    pub(crate) fn finish(mut self) {
        self.files.clear();
        for frame in self.hogged {
            self.memory.give_kernel_frame(&mut self.hw, frame);
        }
        for mut other in self.others {
            other.mm.exit(&mut self.memory, &mut self.hw);
        }
        self.mm.exit(&mut self.memory, &mut self.hw);
        assert_eq!(check(&[], &self.memory, &self.hw), Ok(()));
        assert_eq!(self.memory.usage().anon, 0);
        assert_eq!(self.memory.shutdown(&mut self.hw), 0);
    }
}
