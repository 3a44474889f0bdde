//! The kernel's own memory: `slabinfo` and `vmallocinfo`.
//!
//! # Source
//! Linux 6.12 `mm/slab_common.c:cache_show`, `mm/vmalloc.c:vmalloc_info_show`; semantics PROC-12.

use std::fmt::Write;

use mm::{AreaUse, CacheInfo};

use crate::Kernel;

const HEADER: &str = "slabinfo - version: 2.1\n\
    # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> \
    : tunables <limit> <batchcount> <sharedfactor> \
    : slabdata <active_slabs> <num_slabs> <sharedavail>\n";

/// The text of `slabinfo`: as in Linux, the cache made last comes first.
pub(super) fn slabinfo(kernel: &Kernel) -> String {
    let mut text = HEADER.to_owned();
    for row in kernel.memory.cache_infos().iter().rev() {
        let CacheInfo { cache, used_count, object_count, slab_count, .. } = row;
        writeln!(
            text,
            "{:<17} {used_count:>6} {object_count:>6} {:>6} {:>4} {:>4} \
             : tunables {:>4} {:>4} {:>4} : slabdata {slab_count:>6} {slab_count:>6} {:>6}",
            cache.name(),
            cache.object_bytes(),
            row.objects_per_slab,
            row.frames_per_slab,
            0,
            0,
            0,
            0
        )
        .expect("a string takes it");
    }
    text
}

/// Pages of slabs that Linux counts as reclaimable.
pub(super) fn reclaimable_pages(kernel: &Kernel) -> u64 {
    let rows = kernel.memory.cache_infos();
    let rows = rows.iter().filter(|row| row.cache.is_reclaimable());
    rows.map(|row| row.frame_count).sum()
}

/// The text of `vmallocinfo`.
///
/// Differs from Linux: addresses are shown, not their hashes, and the caller has no offset.
pub(super) fn vmallocinfo(kernel: &Kernel) -> String {
    let mut text = String::new();
    for area in kernel.memory.areas() {
        let (start, bytes) = (area.start.as_u64(), area.bytes());
        let end = start.wrapping_add(bytes);
        write!(text, "{start:#018x}-{end:#018x} {bytes:>7} {}", area.caller)
            .expect("a string takes it");
        let pages = area.page_count;
        match area.purpose {
            AreaUse::Vmalloc => writeln!(text, " pages={pages} vmalloc N0={pages}"),
            AreaUse::Ioremap(physical) => {
                writeln!(text, " phys={:#018x} ioremap", physical.as_u64())
            }
        }
        .expect("a string takes it");
    }
    text
}
