//! The caches of small objects: names and sizes as a 64-bit Linux has them.
//!
//! # Source
//! Linux 6.12 `mm/slab_common.c:kmalloc_info`; object sizes as `/proc/slabinfo` of such a kernel
//! shows them; semantics SLAB-1.

use machine::PAGE_BYTES;

use crate::buddy::Mobility;
use crate::memory::block::order_of;

/// What kind of object: each has slabs of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the names are those of Linux; see the table")]
pub enum Cache {
    Kmalloc8,
    Kmalloc16,
    Kmalloc32,
    Kmalloc64,
    Kmalloc96,
    Kmalloc128,
    Kmalloc192,
    Kmalloc256,
    Kmalloc512,
    Kmalloc1k,
    Kmalloc2k,
    Kmalloc4k,
    Kmalloc8k,
    VmapArea,
    MmStruct,
    VmAreaStruct,
    TaskStruct,
    SignalCache,
    SighandCache,
    Pid,
    CredJar,
    FilesCache,
    FsCache,
    Filp,
    Dentry,
    InodeCache,
    ProcDirEntry,
}

/// Name, bytes of an object, and whether Linux counts the cache as reclaimable.
type Row = (Cache, &'static str, u32, bool);

const ROWS: [Row; 27] = [
    (Cache::Kmalloc8, "kmalloc-8", 8, false),
    (Cache::Kmalloc16, "kmalloc-16", 16, false),
    (Cache::Kmalloc32, "kmalloc-32", 32, false),
    (Cache::Kmalloc64, "kmalloc-64", 64, false),
    (Cache::Kmalloc96, "kmalloc-96", 96, false),
    (Cache::Kmalloc128, "kmalloc-128", 128, false),
    (Cache::Kmalloc192, "kmalloc-192", 192, false),
    (Cache::Kmalloc256, "kmalloc-256", 256, false),
    (Cache::Kmalloc512, "kmalloc-512", 512, false),
    (Cache::Kmalloc1k, "kmalloc-1k", 1024, false),
    (Cache::Kmalloc2k, "kmalloc-2k", 2048, false),
    (Cache::Kmalloc4k, "kmalloc-4k", 4096, false),
    (Cache::Kmalloc8k, "kmalloc-8k", 8192, false),
    (Cache::VmapArea, "vmap_area", 72, false),
    (Cache::MmStruct, "mm_struct", 1600, false),
    (Cache::VmAreaStruct, "vm_area_struct", 192, false),
    (Cache::TaskStruct, "task_struct", 5888, false),
    (Cache::SignalCache, "signal_cache", 1152, false),
    (Cache::SighandCache, "sighand_cache", 2112, false),
    (Cache::Pid, "pid", 192, false),
    (Cache::CredJar, "cred_jar", 192, false),
    (Cache::FilesCache, "files_cache", 704, false),
    (Cache::FsCache, "fs_cache", 64, false),
    (Cache::Filp, "filp", 192, false),
    (Cache::Dentry, "dentry", 192, true),
    (Cache::InodeCache, "inode_cache", 624, true),
    (Cache::ProcDirEntry, "proc_dir_entry", 192, false),
];

/// Slabs have at most 2^3 frames if an object fits (`slub_max_order`).
const ORDER_MAX: u32 = 3;

impl Cache {
    /// How many caches there are.
    pub(crate) const COUNT: usize = ROWS.len();
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::Kmalloc8; Self::COUNT];
        let mut at = 0;
        while at < Self::COUNT {
            all[at] = ROWS[at].0;
            assert!(all[at] as usize == at, "the table is in the order of the numbers");
            at += 1;
        }
        all
    };

    /// Its name in `/proc/slabinfo`.
    pub const fn name(self) -> &'static str {
        ROWS[self as usize].1
    }

    /// Bytes of an object.
    pub const fn object_bytes(self) -> u64 {
        ROWS[self as usize].2 as u64
    }

    /// What can become of its frames.
    pub(crate) const fn mobility(self) -> Mobility {
        if self.is_reclaimable() { Mobility::Reclaimable } else { Mobility::Unmovable }
    }

    /// Whether Linux counts its frames as `SReclaimable`.
    pub const fn is_reclaimable(self) -> bool {
        ROWS[self as usize].3
    }

    /// The cache that `kmalloc` takes `bytes` bytes from; `None` above 8 KiB (SLAB-1), where whole
    /// blocks are taken.
    pub fn of_bytes(bytes: u64) -> Option<Self> {
        let classes = Self::ALL.into_iter().take(Self::Kmalloc8k as usize + 1);
        classes.into_iter().find(|class| bytes <= class.object_bytes())
    }

    /// The order of a slab, on a machine of `cpus` processors.
    ///
    /// # Source
    /// Linux 6.12 `mm/slub.c:calculate_order`: enough objects for the processors, and at most a
    /// 16th of the slab unused, if that can be had.
    pub fn order(self, cpus: u64) -> u32 {
        let bytes = self.object_bytes();
        let at_most = (PAGE_BYTES << ORDER_MAX) / bytes;
        let wanted = 4 * (u64::from(cpus.max(1).ilog2()) + 2);
        let least = order_of(wanted.min(at_most).max(1) * bytes);
        let fits = |fraction: u64| {
            (least..=ORDER_MAX).find(|order| {
                let slab = PAGE_BYTES << order;
                slab % bytes <= slab / fraction
            })
        };
        [16, 8, 4, 2].into_iter().find_map(fits).unwrap_or_else(|| self.least_order())
    }

    /// The order of the smallest slab that holds an object: taken when memory is scattered.
    pub fn least_order(self) -> u32 {
        order_of(self.object_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of `/proc/slabinfo` of a machine with two processors: name, objects and pages of a
    /// slab.
    #[test]
    fn slab_1_slabs_have_the_sizes_of_the_host() {
        for (name, objects, pages) in [
            ("kmalloc-8", 512, 1),
            ("kmalloc-96", 42, 1),
            ("kmalloc-192", 21, 1),
            ("kmalloc-256", 16, 1),
            ("kmalloc-512", 16, 2),
            ("kmalloc-1k", 16, 4),
            ("kmalloc-2k", 16, 8),
            ("kmalloc-4k", 8, 8),
            ("kmalloc-8k", 4, 8),
            ("vmap_area", 56, 1),
            ("mm_struct", 20, 8),
            ("vm_area_struct", 21, 1),
            ("task_struct", 5, 8),
            ("signal_cache", 14, 4),
            ("sighand_cache", 15, 8),
            ("files_cache", 23, 4),
            ("filp", 21, 1),
            ("dentry", 21, 1),
            ("inode_cache", 13, 2),
            ("proc_dir_entry", 21, 1),
        ] {
            let cache = Cache::ALL.into_iter().find(|cache| cache.name() == name).expect("known");
            let bytes = PAGE_BYTES << cache.order(2);
            let found = (bytes / cache.object_bytes(), bytes / PAGE_BYTES);
            assert_eq!(found, (objects, pages), "{name}");
        }
    }

    #[test]
    fn slab_1_kmalloc_takes_the_smallest_class() {
        let name = |bytes| Cache::of_bytes(bytes).map(Cache::name);
        assert_eq!(name(0), Some("kmalloc-8"));
        assert_eq!(name(8), Some("kmalloc-8"));
        assert_eq!(name(65), Some("kmalloc-96"));
        assert_eq!(name(129), Some("kmalloc-192"));
        assert_eq!(name(193), Some("kmalloc-256"));
        assert_eq!(name(8192), Some("kmalloc-8k"));
        assert_eq!(name(8193), None);
        for cache in Cache::ALL {
            assert!(PAGE_BYTES << cache.least_order() >= cache.object_bytes(), "{cache:?}");
            assert!(cache.least_order() <= cache.order(1), "{cache:?}");
        }
    }
}
