//! A replacement policy of one's own: not recently used, which forgets every 200 looks who was.
//!
//! Compares it with those of the list on a loop that does not fit: 1,200 pages in turn, of which
//! 100 are used four times as often, on a machine of 1,024 frames.
//!
//! `cargo run --release -p mm --example policy`
#![expect(clippy::print_stdout, reason = "it reports")]

#[path = "common/mod.rs"]
mod common;

use common::{BASE, Bench, boot, config, layout, page_addr};
use machine::{Access, FastPath, MachineConfig, PAGE_BYTES, TlbMode, tlb_default};
use mm::ops::{MapFlags, MapSource};
use mm::{LATENCIES, Limits, POLICIES, PackedStore, PageSeen, Replacement, Verdict};

/// Keeps what was used since the last time that it forgot, and forgets every 200 looks.
#[derive(Debug, Default)]
struct NotRecentlyUsed {
    looks: u32,
}

impl Replacement for NotRecentlyUsed {
    fn name(&self) -> &'static str {
        "nru"
    }

    fn judge(&mut self, page: PageSeen) -> Verdict {
        self.looks += 1;
        let has_forgotten = self.looks.is_multiple_of(200);
        let is_used = page.references > 0 || page.was_referenced;
        if is_used && !has_forgotten { Verdict::Keep } else { Verdict::Evict }
    }
}

const PAGES: u64 = 1200;

/// Major faults of the loop under `policy`.
fn major_faults(policy: Box<dyn Replacement>) -> u64 {
    let (hw, mut memory) = boot(MachineConfig {
        tlb: TlbMode::Model(*tlb_default()),
        reference: FastPath::Empty,
        ..config(1024 * PAGE_BYTES)
    });
    memory.swap_on(4096, Box::new(PackedStore::new()), LATENCIES[0]);
    memory.set_policy(policy);
    let mut bench = Bench::of((hw, memory), layout(), Limits::default());
    bench.map(BASE, PAGES, MapFlags::FIXED, MapSource::Anonymous);
    for turn in 0..PAGES * 10 {
        for page in [turn % PAGES, turn * 7 % 100, turn * 11 % 100, turn * 13 % 100] {
            bench.touch(page_addr(page), Access::Write);
        }
    }
    let major = bench.mm.faults().major;
    assert_eq!(bench.stop(), 0, "every frame came back");
    major
}

fn main() {
    println!("{:<10} {:>6}", "nru", major_faults(Box::new(NotRecentlyUsed::default())));
    for policy in POLICIES {
        println!("{:<10} {:>6}", policy.name, major_faults((policy.make)(1)));
    }
}
