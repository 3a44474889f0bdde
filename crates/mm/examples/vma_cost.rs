//! Host cost of the memory calls: nanoseconds per call, with few and with many VMAs.
//!
//! `cargo run --release -p mm --example vma_cost`
#![expect(clippy::disallowed_types, reason = "it measures the host")]
#![expect(clippy::print_stdout, reason = "it reports")]

use std::time::Instant;

use machine::{
    Access, FastPath, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, TlbMode, VirtAddr,
};
use mm::ops::{
    MapFlags, MapRequest, MapSource, ProtectFlags, brk, madvise, mmap, mprotect, munmap,
};
use mm::{Layout, Limits, Memory, Mm, MmId, Rights, Sharing, handle_fault};

const ROUNDS: u64 = 4_096;
const BATCHES: usize = 40;
const BASE: u64 = 0x7f00_0000_0000;
const HEAP: u64 = 0x5555_0000_0000;
const RW: Rights = Rights::READ.union(Rights::WRITE);

struct Bench {
    hw: Machine,
    memory: Memory,
    mm: Mm,
}

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

impl Bench {
    /// An address space with `count` VMAs of one page, with gaps of three pages between them.
    fn new(count: u64) -> Self {
        let mut hw = Machine::new(MachineConfig {
            ram_bytes: 1 << 30,
            geometry: Geometry::X86_64,
            tlb: TlbMode::Off,
            reference: FastPath::Filled,
            keep: Keep::HashOnly,
            boot_seconds: 0,
        })
        .expect("the host has address space");
        let mut memory = Memory::new(&mut hw).expect("there are frames");
        let layout = Layout {
            mmap_base: VirtAddr::new(BASE),
            task_end: VirtAddr::new(0x7fff_ffff_f000),
            min_address: VirtAddr::new(0x1_0000),
            start_brk: VirtAddr::new(HEAP),
            brk: VirtAddr::new(HEAP),
            ..Layout::default()
        };
        let limits = Limits { max_map_count: 1 << 20, ..Limits::default() };
        let mm = Mm::new(MmId(1), layout, limits, &mut memory, &mut hw);
        let mut bench = Self { mm: mm.expect("there are frames"), hw, memory };
        bench.hw.activate(bench.mm.root(), 1);
        for i in 0..count {
            bench.map(BASE - (4 * i + 1) * PAGE_BYTES, 1, MapFlags::FIXED);
        }
        bench
    }

    fn map(&mut self, addr: u64, pages: u64, flags: MapFlags) -> VirtAddr {
        let request = MapRequest {
            addr,
            bytes: pages * PAGE_BYTES,
            rights: RW,
            sharing: Sharing::Private,
            flags,
            source: MapSource::Anonymous,
        };
        mmap(&mut self.mm, &mut self.memory, &mut self.hw, request).expect("there is room")
    }

    fn unmap(&mut self, addr: VirtAddr, pages: u64) {
        let (mm, memory, hw) = (&mut self.mm, &mut self.memory, &mut self.hw);
        munmap(mm, memory, hw, addr, pages * PAGE_BYTES).expect("it is mapped");
    }

    fn protect(&mut self, addr: VirtAddr, pages: u64, rights: Rights) {
        let (mm, memory, hw) = (&mut self.mm, &mut self.memory, &mut self.hw);
        let how = (rights, ProtectFlags::empty());
        mprotect(mm, memory, hw, addr, pages * PAGE_BYTES, how).expect("it is mapped");
    }

    fn store(&mut self, addr: VirtAddr) {
        while let Err(fault) = self.hw.access(addr, Access::Write) {
            let (mm, memory, hw) = (&mut self.mm, &mut self.memory, &mut self.hw);
            handle_fault(mm, memory, hw, fault).expect("it is mapped");
        }
    }

    fn find(&self, count: u64, random: &mut u64) {
        let mut state = *random;
        let mut found = 0;
        for _ in 0..ROUNDS {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let addr = BASE - (4 * ((state >> 33) % count) + 1) * PAGE_BYTES;
            found += u64::from(self.mm.vma_at(VirtAddr::new(addr)).is_some());
        }
        assert_eq!(found, ROUNDS);
        *random = state;
    }
}

fn measure(count: u64) {
    let mut bench = Bench::new(count);
    println!("{count} VMAs");
    let mut random = 1;
    report("find", || bench.find(count, &mut random));
    report("mmap and munmap of 64 KiB", || {
        for _ in 0..ROUNDS {
            let addr = bench.map(0, 16, MapFlags::empty());
            bench.unmap(addr, 16);
        }
    });
    report("the same, one page touched", || {
        for _ in 0..ROUNDS {
            let addr = bench.map(0, 16, MapFlags::empty());
            bench.store(addr);
            bench.unmap(addr, 16);
        }
    });
    let area = bench.map(0, 64, MapFlags::empty());
    report("mprotect: split in three, and merged again", || {
        let middle = area.wrapping_add(16 * PAGE_BYTES);
        for _ in 0..ROUNDS {
            bench.protect(middle, 16, Rights::READ);
            bench.protect(middle, 16, RW);
        }
    });
    report("mprotect: the boundary of two VMAs, page by page", || {
        for i in 0..ROUNDS {
            let page = area.wrapping_add(i % 64 * PAGE_BYTES);
            bench.protect(page, 1, if i / 64 % 2 == 0 { Rights::READ } else { RW });
        }
    });
    report("brk: one page more, touched; back after 64", || {
        for i in 0..ROUNDS {
            let end = HEAP + (i % 64 + 1) * PAGE_BYTES;
            let (mm, memory, hw) = (&mut bench.mm, &mut bench.memory, &mut bench.hw);
            brk(mm, memory, hw, VirtAddr::new(end));
            bench.store(VirtAddr::new(end - 8));
        }
    });
    report("madvise(DONTNEED) of one touched page of 64", || {
        for i in 0..ROUNDS {
            let page = area.wrapping_add(i % 64 * PAGE_BYTES);
            bench.protect(page, 1, RW);
            bench.store(page);
            let (mm, memory, hw) = (&mut bench.mm, &mut bench.memory, &mut bench.hw);
            madvise(mm, memory, hw, (page, PAGE_BYTES), mm::ops::Advice::DontNeed)
                .expect("it is mapped");
        }
    });
}

fn main() {
    for count in [10, 1_000, 65_000, 100_000] {
        measure(count);
    }
}
