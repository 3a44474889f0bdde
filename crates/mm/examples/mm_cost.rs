//! Host cost of the memory manager: nanoseconds per frame, fault and unmapped page.
//!
//! `cargo run --release -p mm --example mm_cost`
#![expect(clippy::disallowed_types, reason = "it measures the host")]
#![expect(clippy::print_stdout, reason = "it reports")]

use std::sync::Arc;
use std::time::Instant;

use machine::{
    Access, FastPath, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, PageFault, Privilege,
    Refusal, TlbMode, VirtAddr,
};
use mm::ops::{MapFlags, MapRequest, MapSource, mmap, munmap};
use mm::{
    FileKind, Layout, Limits, MappedFile, Memory, Mm, MmId, Pager, PagerError, Rights, Sharing,
    handle_fault,
};

const PAGES: u64 = 16_384;
const BASE: u64 = 0x7f00_0000_0000;

/// A file that costs next to nothing to read.
struct Ones;

impl Pager for Ones {
    fn fill(&mut self, _index: u64, page: &mut [u8]) -> Result<(), PagerError> {
        page[0] = 1;
        Ok(())
    }

    fn store(&mut self, _index: u64, _page: &[u8]) -> Result<(), PagerError> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        PAGES * PAGE_BYTES
    }
}

struct Bench {
    hw: Machine,
    memory: Memory,
    mm: Mm,
}

/// Runs `work` and prints what one of its `count` parts cost.
fn report(what: &str, count: u64, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    println!("{what:<44} {:>9.1} ns", start.elapsed().as_nanos() as f64 / count as f64);
}

impl Bench {
    fn new() -> Self {
        let config = MachineConfig {
            ram_bytes: 4 << 30,
            geometry: Geometry::X86_64,
            tlb: TlbMode::Off,
            reference: FastPath::Filled,
            keep: Keep::HashOnly,
            boot_seconds: 0,
        };
        let mut hw = Machine::new(config).expect("the host has address space");
        let start = Instant::now();
        let mut memory = Memory::new(&mut hw).expect("there are frames");
        println!("boot of 4 GiB: {:?}", start.elapsed());
        let layout = Layout {
            mmap_base: VirtAddr::new(BASE),
            task_end: VirtAddr::new(0x7fff_ffff_f000),
            ..Layout::default()
        };
        let mm = Mm::new(MmId(1), layout, Limits::default(), &mut memory, &mut hw);
        let mut bench = Self { mm: mm.expect("there are frames"), hw, memory };
        bench.hw.activate(bench.mm.root(), 1);
        for i in 0..50 {
            bench.map(BASE / 2 + i * 0x10_0000, 1, MapSource::Anonymous);
        }
        bench
    }

    fn map(&mut self, addr: u64, pages: u64, source: MapSource) {
        let request = MapRequest {
            addr,
            bytes: pages * PAGE_BYTES,
            rights: Rights::READ | Rights::WRITE,
            sharing: Sharing::Private,
            flags: MapFlags::FIXED,
            source,
        };
        mmap(&mut self.mm, &mut self.memory, &mut self.hw, request).expect("the range is free");
    }

    fn unmap(&mut self, what: &str) {
        let (addr, bytes) = (VirtAddr::new(BASE), PAGES * PAGE_BYTES);
        report(what, PAGES, || {
            munmap(&mut self.mm, &mut self.memory, &mut self.hw, addr, bytes).expect("mapped");
        });
    }

    fn fault(&mut self, page: u64, access: Access, refusal: Refusal) {
        let addr = VirtAddr::new(BASE + page * PAGE_BYTES);
        let fault = PageFault { addr, access, privilege: Privilege::User, refusal };
        handle_fault(&mut self.mm, &mut self.memory, &mut self.hw, fault).expect("it is mapped");
    }

    fn faults(&mut self, what: &str, step: usize, access: Access, refusal: Refusal) {
        report(what, PAGES / step as u64, || {
            for page in (0..PAGES).step_by(step) {
                self.fault(page, access, refusal);
            }
        });
    }
}

fn main() {
    let mut bench = Bench::new();
    for round in ["first", "second"] {
        let (memory, hw) = (&mut bench.memory, &mut bench.hw);
        let mut frames = Vec::with_capacity(PAGES as usize);
        report(&format!("frame: take and give, {round} time, all then all"), PAGES, || {
            for _ in 0..PAGES {
                frames.extend(memory.take_kernel_frame(hw));
            }
            for frame in frames.drain(..) {
                memory.give_kernel_frame(hw, frame);
            }
        });
    }
    report("frame: take and give, one at a time", PAGES, || {
        for _ in 0..PAGES {
            let frame = bench.memory.take_kernel_frame(&mut bench.hw).expect("one is free");
            bench.memory.give_kernel_frame(&mut bench.hw, frame);
        }
    });
    for _ in 0..3 {
        bench.map(BASE, PAGES, MapSource::Anonymous);
        bench.faults("anonymous write", 1, Access::Write, Refusal::NotPresent);
        bench.unmap("munmap, per anonymous page");
    }
    bench.map(BASE, PAGES, MapSource::Anonymous);
    bench.faults("anonymous read (zero page)", 1, Access::Read, Refusal::NotPresent);
    bench.faults("write after read (zero page replaced)", 1, Access::Write, Refusal::Protection);
    bench.faults("spurious", 1, Access::Write, Refusal::NotPresent);
    bench.unmap("munmap, per anonymous page");
    let file = Arc::new(MappedFile {
        object: bench.memory.add_object(Box::new(Ones), FileKind::Regular),
        path: Box::from(*b"/ones"),
        device: (0, 1),
        inode: 1,
        kind: FileKind::Regular,
        may: Rights::all(),
    });
    for _ in 0..2 {
        bench.map(BASE, PAGES, MapSource::File { file: Arc::clone(&file), offset: 0 });
        bench.faults("file read, 16 pages mapped", 16, Access::Read, Refusal::NotPresent);
        bench.faults("private file write (copy)", 1, Access::Write, Refusal::Protection);
        bench.unmap("munmap, per copied page");
    }
    drop(file);
    bench.mm.exit(&mut bench.memory, &mut bench.hw);
    println!("frames leaked: {}", bench.memory.shutdown(&mut bench.hw));
}
