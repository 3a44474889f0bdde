//! Free blocks of RAM: `buddyinfo`, `pagetypeinfo` and the indexes of fragmentation.
//!
//! # Source
//! Linux 6.12 `mm/vmstat.c`; semantics PROC-9, PHYS-2.

use std::fmt::Write;

use mm::Mobility;

use crate::Kernel;

/// Rows of `pagetypeinfo`; of the last two there are never any.
const MOBILITIES: [(&str, Option<Mobility>); 5] = [
    ("Unmovable", Some(Mobility::Unmovable)),
    ("Movable", Some(Mobility::Movable)),
    ("Reclaimable", Some(Mobility::Reclaimable)),
    ("HighAtomic", None),
    ("Isolate", None),
];
/// Pages of a block of `pagetypeinfo`.
const BLOCK_PAGES: u64 = 512;

/// A line for each zone: its name, then what `figure` makes of each order.
fn by_order(kernel: &Kernel, figure: impl Fn(&mm::ZoneInfo, u32) -> String) -> String {
    let mut text = String::new();
    for zone in kernel.memory.zones() {
        write!(text, "Node 0, zone {:>8} ", zone.kind.name()).expect("a string takes it");
        for order in 0..11 {
            text.push_str(&figure(&zone, order));
        }
        text.push('\n');
    }
    text
}

/// The text of `buddyinfo`.
pub(super) fn buddyinfo(kernel: &Kernel) -> String {
    by_order(kernel, |zone, order| format!("{:>6} ", zone.blocks_by_order()[order as usize]))
}

/// The text of `extfrag_index`: near 0 if a block cannot be had for want of memory, near 1 because
/// free memory is scattered, -1 if it can be had.
pub(super) fn extfrag_index(kernel: &Kernel) -> String {
    by_order(kernel, |zone, order| match zone.fragmentation_index(order) {
        None => "-1.000 ".to_owned(),
        Some(index) => format!("{:>2}.{:03} ", index / 1000, index % 1000),
    })
}

/// The text of `unusable_index`: which share of free memory is of no use for blocks of each order.
pub(super) fn unusable_index(kernel: &Kernel) -> String {
    by_order(kernel, |zone, order| {
        let index = zone.unusable_index(order);
        format!("{}.{:03} ", index / 1000, index % 1000)
    })
}

/// The text of `pagetypeinfo`.
pub(super) fn pagetypeinfo(kernel: &Kernel) -> String {
    let mut text = format!("Page block order: 9\nPages per block:  {BLOCK_PAGES}\n\n");
    text.push_str("Free pages count per migrate type at order ");
    for order in 0..11 {
        write!(text, "{order:>6} ").expect("a string takes it");
    }
    text.push('\n');
    let zones = kernel.memory.zones();
    for zone in &zones {
        for (row, mobility) in MOBILITIES {
            let name = zone.kind.name();
            write!(text, "Node    0, zone {name:>8}, type {row:>12} ").expect("a string takes it");
            let counts = mobility.map_or([0; 11], |mobility| zone.blocks[mobility as usize]);
            for count in counts {
                write!(text, "{count:>6} ").expect("a string takes it");
            }
            text.push('\n');
        }
    }
    text.push_str("\nNumber of blocks type ");
    for (row, _) in MOBILITIES {
        write!(text, "{row:>12} ").expect("a string takes it");
    }
    for zone in &zones {
        write!(text, "\nNode 0, zone {:>8} ", zone.kind.name()).expect("a string takes it");
        for (_, mobility) in MOBILITIES {
            let blocks = mobility.map_or(0, |mobility| zone.page_blocks[mobility as usize]);
            write!(text, "{blocks:>12} ").expect("a string takes it");
        }
    }
    text.push('\n');
    text
}
