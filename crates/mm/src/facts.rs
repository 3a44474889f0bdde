//! Frames and entries as `/proc` tells of them: `pagemap`, `kpageflags`, `kpagecount`.
//!
//! Pure functions of page tables and frame table, in the words of the Linux ABI.
//!
//! # Source
//! Linux 6.12 `fs/proc/page.c`, `fs/proc/task_mmu.c:pte_to_pagemap_entry`,
//! `include/uapi/linux/kernel-page-flags.h`; semantics PROC-7.

use machine::{Frame, Geometry, Machine, PAGE_BYTES, Pte, VirtAddr, VirtRange};

use crate::folio::FrameState;
use crate::memory::Memory;
use crate::page_table::{PteState, SPECIAL, for_each_entry};
use crate::rights::VmaFlags;
use crate::space::Mm;
use crate::swap::decode;

/// What is known of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameFacts {
    /// What it is used for.
    pub state: FrameState,
    /// How many leaf entries name it.
    pub map_count: u32,
    /// How many other users it has: 1 for the page cache.
    pub hold_count: u32,
    /// Whether its bytes are not with its pager.
    pub is_dirty: bool,
    /// Whether it is a private page that its only user may write in place.
    pub is_exclusive: bool,
}

const PAGEMAP_FRAME: u64 = (1 << 55) - 1;
const PAGEMAP_EXCLUSIVE: u64 = 1 << 56;
const PAGEMAP_FILE: u64 = 1 << 61;
const PAGEMAP_SWAP: u64 = 1 << 62;
const PAGEMAP_PRESENT: u64 = 1 << 63;

const KPF_UPTODATE: u64 = 1 << 3;
const KPF_DIRTY: u64 = 1 << 4;
const KPF_LRU: u64 = 1 << 5;
const KPF_SLAB: u64 = 1 << 7;
const KPF_COMPOUND_HEAD: u64 = 1 << 15;
const KPF_COMPOUND_TAIL: u64 = 1 << 16;
const KPF_BUDDY: u64 = 1 << 10;
const KPF_MMAP: u64 = 1 << 11;
const KPF_ANON: u64 = 1 << 12;
const KPF_SWAP_BACKED: u64 = 1 << 14;
const KPF_NO_PAGE: u64 = 1 << 20;
const KPF_ZERO_PAGE: u64 = 1 << 24;
const KPF_PAGE_TABLE: u64 = 1 << 26;
const KPF_RESERVED: u64 = 1 << 32;
/// `PG_anon_exclusive` shares its bit with `PG_mappedtodisk`.
const KPF_MAPPED_TO_DISK: u64 = 1 << 34;

impl Memory {
    /// What is known of a frame; `None` outside RAM.
    pub fn frame_facts(&self, frame: Frame) -> Option<FrameFacts> {
        let frames = &self.frames;
        (frame.number() < frames.len() as u64).then(|| FrameFacts {
            state: frames.state(frame),
            map_count: frames.map_count(frame),
            hold_count: frames.hold_count(frame),
            is_dirty: frames.is_dirty(frame),
            is_exclusive: frames.is_exclusive(frame),
        })
    }

    /// The word of a frame in `/proc/kpagecount`: how often it is mapped.
    pub fn kpagecount(&self, frame: Frame) -> u64 {
        self.frame_facts(frame).map_or(0, |facts| facts.map_count.into())
    }

    /// The word of a frame in `/proc/kpageflags`.
    pub fn kpageflags(&self, frame: Frame) -> u64 {
        let Some(facts) = self.frame_facts(frame) else { return KPF_NO_PAGE };
        let mut flags = match facts.state {
            FrameState::Free => return KPF_BUDDY,
            FrameState::PageTable => return KPF_PAGE_TABLE,
            FrameState::Kernel if frame == self.zero => return KPF_ZERO_PAGE | KPF_RESERVED,
            FrameState::Slab => return KPF_SLAB | self.kpf_place(frame),
            FrameState::Kernel | FrameState::Vmalloc => return 0,
            FrameState::Anon => KPF_UPTODATE | KPF_LRU | KPF_ANON | KPF_SWAP_BACKED,
            FrameState::File => KPF_UPTODATE | KPF_LRU,
            FrameState::Shmem => KPF_UPTODATE | KPF_LRU | KPF_SWAP_BACKED,
        };
        if facts.map_count > 0 {
            flags |= KPF_MMAP;
        }
        if facts.is_dirty {
            flags |= KPF_DIRTY;
        }
        if facts.is_exclusive {
            flags |= KPF_MAPPED_TO_DISK;
        }
        flags
    }

    /// Which part of a slab of several frames a frame is; 0 for a slab of one.
    fn kpf_place(&self, frame: Frame) -> u64 {
        match self.slab_of(frame) {
            Some(slab) if slab.frame_count == 1 => 0,
            Some(slab) if slab.first == frame => KPF_COMPOUND_HEAD,
            _ => KPF_COMPOUND_TAIL,
        }
    }

    /// The word of a leaf entry in `/proc/PID/pagemap`.
    fn pagemap_word(&self, geometry: Geometry, pte: Pte) -> u64 {
        match PteState::of(pte) {
            PteState::Empty => 0,
            PteState::Swapped => {
                // The number of the area in the low five bits.
                let place = decode(geometry, pte).0;
                PAGEMAP_SWAP | u64::from(place.slot.0) << 5 | u64::from(place.area.0)
            }
            PteState::Present => {
                let frame = pte.frame();
                let word = PAGEMAP_PRESENT | frame.number() & PAGEMAP_FRAME;
                if pte.contains(SPECIAL) {
                    return word;
                }
                let is_anon = self.frames.state(frame) == FrameState::Anon;
                let is_once = self.frames.map_count(frame) == 1;
                let file = if is_anon { 0 } else { PAGEMAP_FILE };
                word | file | if is_once { PAGEMAP_EXCLUSIVE } else { 0 }
            }
        }
    }
}

impl Mm {
    /// The words of `/proc/PID/pagemap` for the pages from `first` (page aligned) on; 0 where
    /// nothing is mapped or was ever touched, and beyond the address space.
    pub fn pagemap(&self, memory: &Memory, hw: &Machine, first: VirtAddr, words: &mut [u64]) {
        words.fill(0);
        let user = self.tables.user_range();
        let bytes = (words.len() as u64).saturating_mul(PAGE_BYTES);
        let end = first.checked_add(bytes).unwrap_or(user.end).min(user.end);
        if first >= end {
            return;
        }
        for_each_entry(self, hw, VirtRange::new(first, end), |addr, pte| {
            // Linux shows such ranges as empty as a whole, copies of stores included.
            if self.vmas.find(addr).is_some_and(|vma| vma.flags.contains(VmaFlags::PFN_MAP)) {
                return;
            }
            let index = addr.page().offset_from(first.page());
            if let Some(word) = words.get_mut(index as usize) {
                *word = memory.pagemap_word(hw.geometry(), pte);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backing::FileKind;
    use crate::rights::Sharing;
    use crate::testing::{RW, World, at, pages};
    use machine::Access;

    impl World {
        fn word(&self, space: usize, page: u64) -> u64 {
            let mut words = [7];
            self.spaces[space].pagemap(&self.memory, &self.hw, at(page), &mut words);
            words[0]
        }

        fn kinds(&self, page: u64) -> (u64, u64, u64) {
            let frame = Frame::new(self.word(0, page) & PAGEMAP_FRAME);
            (self.word(0, page) >> 56, self.memory.kpageflags(frame), self.memory.kpagecount(frame))
        }
    }

    /// The words that the host shows for the same pages, but for bits 2 (referenced) and 35.
    #[test]
    fn proc_7_each_kind_of_page_has_the_word_of_the_host() {
        let mut world = World::new(512);
        world.map(pages(0x100, 4), RW);
        let shmem = world.add_file(4 * 4096, FileKind::Shmem);
        world.map_file(pages(0x200, 4), RW, Sharing::Shared, &shmem, 0);
        let file = world.add_file(4 * 4096, FileKind::Regular);
        world.map_file(pages(0x300, 4), RW, Sharing::Private, &file, 0);
        world.map_file(pages(0x400, 4), RW, Sharing::Shared, &file, 3);
        drop((shmem, file));
        world.read(at(0x100)).expect("it is mapped");
        world.write(at(0x101)).expect("it is mapped");
        world.write(at(0x201)).expect("it is mapped");
        world.read(at(0x300)).expect("it is mapped");
        world.write(at(0x301)).expect("it is mapped");
        world.write(at(0x400)).expect("it is mapped");
        assert_eq!(world.kinds(0x100), (0x80, 0x1_0100_0000, 0), "zero page");
        assert_eq!(world.kinds(0x101), (0x81, 0x4_0000_5828, 1), "written");
        assert_eq!(world.word(0, 0x102), 0, "untouched");
        assert_eq!(world.kinds(0x201), (0xa1, 0x4838, 1), "shared memory");
        assert_eq!(world.kinds(0x300), (0xa1, 0x828, 1), "file");
        assert_eq!(world.kinds(0x301), (0x81, 0x4_0000_5828, 1), "copied file page");
        assert_eq!(
            world.kinds(0x400),
            (0xa0, 0x838, 2),
            "a written page of the file, two mappings"
        );
        world.fork();
        assert_eq!(world.kinds(0x101), (0x80, 0x5828, 2), "shared after fork");
        assert_eq!(world.word(1, 0x101), world.word(0, 0x101));
        assert_eq!(world.word(1, 0x201), 0, "shared memory is empty in the child");
        world.touch(1, at(0x201), Access::Read).expect("it is mapped");
        assert_eq!(world.kinds(0x201), (0xa0, 0x4838, 2));
        let beyond = Frame::new(512);
        assert_eq!(
            (world.memory.kpageflags(beyond), world.memory.kpagecount(beyond)),
            (1 << 20, 0)
        );
        assert_eq!(world.memory.kpageflags(world.spaces[0].root()), 1 << 26);
        assert_eq!(world.memory.kpageflags(Frame::new(511)), 1 << 10);
        world.finish();
    }

    #[test]
    fn pagemap_ends_with_the_address_space() {
        let world = World::new(512);
        let mut words = [7; 4];
        let last = VirtAddr::new((1 << 47) - 2 * PAGE_BYTES);
        world.spaces[0].pagemap(&world.memory, &world.hw, last, &mut words);
        assert_eq!(words, [0; 4]);
        let beyond = VirtAddr::new(u64::MAX - 4095);
        world.spaces[0].pagemap(&world.memory, &world.hw, beyond, &mut words);
        assert_eq!(words, [0; 4]);
        world.finish();
    }
}
