//! Host cost of the memory calls: nanoseconds per call, with few and with many VMAs.
//!
//! `cargo run --release -p mm --example vma_cost`
#![expect(clippy::disallowed_types, reason = "it measures the host")]
#![expect(clippy::print_stdout, reason = "it reports")]

#[path = "common/mod.rs"]
mod common;

use std::time::Instant;

use common::{BASE, Bench, boot, config, layout};
use machine::{Access, PAGE_BYTES, VirtAddr};
use mm::ops::{Advice, MapFlags, MapSource, ProtectFlags, brk, madvise, mprotect, munmap};
use mm::{Layout, Limits, Rights};

const ROUNDS: u64 = 4_096;
const BATCHES: usize = 40;
const HEAP: u64 = 0x5555_0000_0000;
const RW: Rights = Rights::READ.union(Rights::WRITE);

/// Prints what one of `ROUNDS` rounds cost in the fastest of several batches: other work on the
/// host only ever adds.
fn report(what: &str, mut work: impl FnMut()) {
    let cost = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_nanos()
    };
    let best = (0..BATCHES).map(cost).min().unwrap_or_default();
    println!("{what:<56} {:>9.1} ns", best as f64 / ROUNDS as f64);
}

/// An address space with `count` VMAs of one page, with gaps of three pages between them.
fn start(count: u64) -> Bench {
    let layout = Layout {
        min_address: VirtAddr::new(0x1_0000),
        start_brk: VirtAddr::new(HEAP),
        brk: VirtAddr::new(HEAP),
        ..layout()
    };
    let limits = Limits { max_map_count: 1 << 20, ..Limits::default() };
    let mut bench = Bench::of(boot(config(1 << 30)), layout, limits);
    for i in 0..count {
        map(&mut bench, BASE - (4 * i + 1) * PAGE_BYTES, 1, MapFlags::FIXED);
    }
    bench
}

fn map(bench: &mut Bench, addr: u64, pages: u64, flags: MapFlags) -> VirtAddr {
    bench.map(addr, pages, flags, MapSource::Anonymous)
}

fn unmap(bench: &mut Bench, addr: VirtAddr, pages: u64) {
    let Bench { hw, memory, mm } = bench;
    munmap(mm, memory, hw, addr, pages * PAGE_BYTES).expect("it is mapped");
}

fn protect(bench: &mut Bench, addr: VirtAddr, pages: u64, rights: Rights) {
    let Bench { hw, memory, mm } = bench;
    let how = (rights, ProtectFlags::empty());
    mprotect(mm, memory, hw, addr, pages * PAGE_BYTES, how).expect("it is mapped");
}

fn find(bench: &Bench, count: u64, random: &mut u64) {
    let mut state = *random;
    let mut found = 0;
    for _ in 0..ROUNDS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let addr = BASE - (4 * ((state >> 33) % count) + 1) * PAGE_BYTES;
        found += u64::from(bench.mm.vma_at(VirtAddr::new(addr)).is_some());
    }
    assert_eq!(found, ROUNDS);
    *random = state;
}

fn measure(count: u64) {
    let mut bench = start(count);
    println!("{count} VMAs");
    let mut random = 1;
    report("find", || find(&bench, count, &mut random));
    report("mmap and munmap of 64 KiB", || {
        for _ in 0..ROUNDS {
            let addr = map(&mut bench, 0, 16, MapFlags::empty());
            unmap(&mut bench, addr, 16);
        }
    });
    report("the same, one page touched", || {
        for _ in 0..ROUNDS {
            let addr = map(&mut bench, 0, 16, MapFlags::empty());
            bench.touch(addr, Access::Write);
            unmap(&mut bench, addr, 16);
        }
    });
    let area = map(&mut bench, 0, 64, MapFlags::empty());
    report("mprotect: split in three, and merged again", || {
        let middle = area.wrapping_add(16 * PAGE_BYTES);
        for _ in 0..ROUNDS {
            protect(&mut bench, middle, 16, Rights::READ);
            protect(&mut bench, middle, 16, RW);
        }
    });
    report("mprotect: the boundary of two VMAs, page by page", || {
        for i in 0..ROUNDS {
            let page = area.wrapping_add(i % 64 * PAGE_BYTES);
            protect(&mut bench, page, 1, if i / 64 % 2 == 0 { Rights::READ } else { RW });
        }
    });
    report("brk: one page more, touched; back after 64", || {
        for i in 0..ROUNDS {
            let end = HEAP + (i % 64 + 1) * PAGE_BYTES;
            let (mm, memory, hw) = (&mut bench.mm, &mut bench.memory, &mut bench.hw);
            brk(mm, memory, hw, VirtAddr::new(end));
            bench.touch(VirtAddr::new(end - 8), Access::Write);
        }
    });
    report("madvise(DONTNEED) of one touched page of 64", || {
        for i in 0..ROUNDS {
            let page = area.wrapping_add(i % 64 * PAGE_BYTES);
            protect(&mut bench, page, 1, RW);
            bench.touch(page, Access::Write);
            let (mm, memory, hw) = (&mut bench.mm, &mut bench.memory, &mut bench.hw);
            madvise(mm, memory, hw, (page, PAGE_BYTES), Advice::DontNeed).expect("it is mapped");
        }
    });
}

fn main() {
    for count in [10, 1_000, 65_000, 100_000] {
        measure(count);
    }
}
