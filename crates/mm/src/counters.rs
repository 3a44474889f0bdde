//! Plain counts: faults, resident pages, frames.

use machine::{FaultLabel, Side};

use crate::folio::FrameState;

/// Faults of one address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultCounters {
    /// Resolved without I/O.
    pub minor: u64,
    /// Resolved with I/O.
    pub major: u64,
    /// Pages shared by a fork that this space, the parent, copied by a store.
    pub unshared_as_parent: u64,
    /// Pages shared by a fork that this space, the child, copied by a store.
    pub unshared_as_child: u64,
    by_label: [u64; FaultLabel::ALL.len()],
}

impl FaultCounters {
    /// Faults that ended with `label`.
    pub const fn of(&self, label: FaultLabel) -> u64 {
        self.by_label[label as usize]
    }

    /// Every label with its name in reports and its count.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        FaultLabel::ALL.iter().map(|&label| (label.name(), self.of(label)))
    }

    /// Resolved faults.
    pub const fn total(&self) -> u64 {
        self.minor + self.major
    }

    /// Takes the faults of another address space in.
    pub fn add(&mut self, other: &Self) {
        self.minor += other.minor;
        self.major += other.major;
        self.unshared_as_parent += other.unshared_as_parent;
        self.unshared_as_child += other.unshared_as_child;
        for (own, more) in self.by_label.iter_mut().zip(other.by_label) {
            *own += more;
        }
    }

    pub(crate) const fn count_unshared(&mut self, side: Side) {
        match side {
            Side::Parent => self.unshared_as_parent += 1,
            Side::Child => self.unshared_as_child += 1,
        }
    }

    pub(crate) const fn count(&mut self, label: FaultLabel) {
        self.by_label[label as usize] += 1;
    }
}

/// Resident pages of one address space, by what they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rss {
    /// Private pages without a file behind them.
    pub anon_pages: u64,
    /// Pages of files.
    pub file_pages: u64,
    /// Pages of shared memory.
    pub shmem_pages: u64,
}

impl Rss {
    /// All resident pages (`VmRSS`).
    pub const fn total_pages(&self) -> u64 {
        self.anon_pages + self.file_pages + self.shmem_pages
    }

    /// The count of pages in frames of a state.
    #[inline]
    pub(crate) const fn count_mut(&mut self, state: FrameState) -> &mut u64 {
        match state {
            FrameState::File => &mut self.file_pages,
            FrameState::Shmem => &mut self.shmem_pages,
            _ => &mut self.anon_pages,
        }
    }
}

/// Where the frames of the machine are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryUsage {
    /// All frames.
    pub frames_total: u64,
    /// Frames nobody uses.
    pub frames_free: u64,
    /// Frames of private pages.
    pub anon: u64,
    /// Frames of the page cache of files.
    pub file: u64,
    /// Frames of shared memory.
    pub shmem: u64,
    /// Frames that are page tables, roots included.
    pub page_table: u64,
    /// Frames of the memory manager itself: the zero frame, the kernel's page tables, descriptor
    /// tables, compressed pages of swap.
    pub kernel: u64,
    /// Frames of slabs: small objects of the kernel (`Slab`).
    pub slab: u64,
    /// Frames of areas of vmalloc, stacks of tasks among them (`VmallocUsed`).
    pub vmalloc: u64,
    /// Pages promised to programs (`Committed_AS`).
    pub committed_pages: u64,
    /// The most frames in use at one time.
    pub frames_used_peak: u64,
}

/// What happened to memory since the machine started (`/proc/vmstat`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VmEvents {
    /// Frames taken (`pgalloc_*`).
    pub frames_taken: u64,
    /// Frames given back (`pgfree`).
    pub frames_given: u64,
    /// Faults that a VMA allowed, whatever their end (`pgfault`; FLT-12).
    pub faults: u64,
    /// Of those, the ones that waited for I/O (`pgmajfault`).
    pub major_faults: u64,
    /// Pages of files brought by pagers, at hand or not.
    pub pages_read: u64,
    /// Of those, the ones that were read from the device (`pgpgin` counts them in KiB).
    pub device_pages_read: u64,
    /// Pages of files that became dirty (`nr_dirtied`).
    pub pages_dirtied: u64,
    /// Pages of files taken by pagers (`pgpgout` counts them in KiB).
    pub pages_written: u64,
    /// Pages looked at by reclaim (`pgscan_*`).
    pub scanned: u64,
    /// Of those, the ones looked at in the background (`pgscan_kswapd`).
    pub scanned_kswapd: u64,
    /// Pages that reclaim took out of RAM (`pgsteal_*`).
    pub stolen: u64,
    /// Of those, the ones taken in the background (`pgsteal_kswapd`).
    pub stolen_kswapd: u64,
    /// Of `scanned`, pages that are not of files (`pgscan_anon`).
    pub scanned_anon: u64,
    /// Of `stolen`, pages that are not of files (`pgsteal_anon`).
    pub stolen_anon: u64,
    /// Allocations that had to take frames back themselves (`allocstall_*`).
    pub direct_stalls: u64,
    /// Pages that need not be kept any more (`pglazyfree`).
    pub lazily_freed: u64,
    /// Of those, the ones that reclaim gave up (`pglazyfreed`).
    pub lazily_dropped: u64,
    /// Times that the background was woken (`pageoutrun`).
    pub kswapd_runs: u64,
    /// Pages found locked and put aside (`unevictable_pgs_culled`).
    pub culled: u64,
    /// Pages put aside that may leave again (`unevictable_pgs_rescued`).
    pub rescued: u64,
    /// Pages that reclaim found in use (`pgactivate`).
    pub activated: u64,
    /// Pages that reclaim moved to an inactive list (`pgdeactivate`).
    pub deactivated: u64,
    /// Pages of active lists that reclaim looked at (`pgrefill`).
    pub refilled: u64,
    /// Pages written to swap (`pswpout`).
    pub swap_outs: u64,
    /// Pages read from swap, those ahead of a fault included (`pswpin`).
    pub swap_ins: u64,
    /// Pages of files that came back after reclaim took them (`workingset_refault_file`).
    pub refaults: u64,
    /// Pages that came back from swap (`workingset_refault_anon`).
    pub refaults_anon: u64,
    /// Of `refaults`, those that came back soon enough to be kept (`workingset_activate_file`).
    pub workingset_activated_file: u64,
    /// The same of pages from swap (`workingset_activate_anon`).
    pub workingset_activated_anon: u64,
    /// Of those kept, the ones in use before they had left (`workingset_restore_file`).
    pub workingset_restored_file: u64,
    /// The same of pages from swap (`workingset_restore_anon`).
    pub workingset_restored_anon: u64,
    /// Pages read from swap ahead of their use (`swap_ra`).
    pub swap_ra: u64,
    /// Of those, the ones that were used (`swap_ra_hit`).
    pub swap_ra_hits: u64,
    /// Virtual nanoseconds that programs waited for devices of swap and files.
    pub wait_ns: u64,
    /// Calls of [`crate::Memory::drop_clean_cache`] (`drop_pagecache`).
    pub cache_drops: u64,
}

/// The pages of a range, as `/proc/PID/smaps` counts them.
///
/// # Units
/// Pages, but for `pss_sub_pages` (1/4096 of a page) and the shares in 1/4096 of a byte, which are
/// to be added up before they are rounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageCounts {
    /// Present pages with a frame of their own accounting (`Rss`).
    pub resident: u64,
    /// Each page divided by how often it is mapped (`Pss`), in 1/4096 pages.
    pub pss_sub_pages: u64,
    /// The dirty part of it (`Pss_Dirty`), in 1/4096 pages.
    pub pss_dirty_sub_pages: u64,
    /// Each page divided by how often it is mapped, in 1/4096 bytes.
    pub pss_fixed: u64,
    /// The dirty part of it.
    pub pss_dirty_fixed: u64,
    /// The part of it that is private pages (`Pss_Anon`).
    pub pss_anon_fixed: u64,
    /// The part of it that is pages of files (`Pss_File`).
    pub pss_file_fixed: u64,
    /// The part of it that is shared memory (`Pss_Shmem`).
    pub pss_shmem_fixed: u64,
    /// Mapped more than once and not written.
    pub shared_clean: u64,
    /// Mapped more than once and written.
    pub shared_dirty: u64,
    /// Mapped once and not written.
    pub private_clean: u64,
    /// Mapped once and written.
    pub private_dirty: u64,
    /// With the accessed bit.
    pub referenced: u64,
    /// Private pages without a file behind them.
    pub anonymous: u64,
    /// Of `resident`, those of shared memory.
    pub shmem: u64,
    /// Pages in swap.
    pub swap: u64,
    /// Each of them divided by how many entries name it (`SwapPss`), in 1/4096 bytes.
    pub swap_pss_fixed: u64,
    /// Of `anonymous`, those that need not be kept (`LazyFree`).
    pub lazy_free: u64,
    /// Present entries that name the shared zero frame (not in `resident`).
    pub zero: u64,
    /// Of `resident`, those that reclaim takes for active, or may not take.
    pub active: u64,
    /// How often the page is mapped that is mapped most often.
    pub map_count_max: u64,
}

impl PageCounts {
    /// Takes the pages of another range in.
    pub const fn add(&mut self, other: &Self) {
        self.resident += other.resident;
        self.pss_sub_pages += other.pss_sub_pages;
        self.pss_dirty_sub_pages += other.pss_dirty_sub_pages;
        self.pss_fixed += other.pss_fixed;
        self.pss_dirty_fixed += other.pss_dirty_fixed;
        self.pss_anon_fixed += other.pss_anon_fixed;
        self.pss_file_fixed += other.pss_file_fixed;
        self.pss_shmem_fixed += other.pss_shmem_fixed;
        self.shared_clean += other.shared_clean;
        self.shared_dirty += other.shared_dirty;
        self.private_clean += other.private_clean;
        self.private_dirty += other.private_dirty;
        self.referenced += other.referenced;
        self.anonymous += other.anonymous;
        self.shmem += other.shmem;
        self.swap += other.swap;
        self.swap_pss_fixed += other.swap_pss_fixed;
        self.zero += other.zero;
        self.lazy_free += other.lazy_free;
        self.active += other.active;
        if other.map_count_max > self.map_count_max {
            self.map_count_max = other.map_count_max;
        }
    }
}
