//! Host cost of the memory manager: nanoseconds per frame, fault and unmapped page.
//!
//! `cargo run --release -p mm --example mm_cost`
#![expect(clippy::disallowed_types, reason = "it measures the host")]
#![expect(clippy::print_stdout, reason = "it reports")]

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Instant;

use common::{BASE, Bench, boot, config, fault, layout, page_addr};
use machine::{Access, PAGE_BYTES, Refusal, VirtAddr};
use mm::ops::{MapFlags, MapSource, munmap};
use mm::{FileKind, Limits, MappedFile, Pager, PagerError, Rights};

const PAGES: u64 = 16_384;

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

/// Runs `work` and prints what one of its `count` parts cost.
fn report(what: &str, count: u64, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    println!("{what:<44} {:>9.1} ns", start.elapsed().as_nanos() as f64 / count as f64);
}

/// A machine of 4 GiB, and fifty small mappings far below [`BASE`].
fn start() -> Bench {
    let start = Instant::now();
    let booted = boot(config(4 << 30));
    println!("boot of 4 GiB: {:?}", start.elapsed());
    let mut bench = Bench::of(booted, layout(), Limits::default());
    for i in 0..50 {
        bench.map(BASE / 2 + i * 0x10_0000, 1, MapFlags::FIXED, MapSource::Anonymous);
    }
    bench
}

fn map(bench: &mut Bench, source: MapSource) {
    bench.map(BASE, PAGES, MapFlags::FIXED, source);
}

fn unmap(bench: &mut Bench, what: &str) {
    let (addr, bytes) = (VirtAddr::new(BASE), PAGES * PAGE_BYTES);
    report(what, PAGES, || {
        munmap(&mut bench.mm, &mut bench.memory, &mut bench.hw, addr, bytes).expect("mapped");
    });
}

fn faults(bench: &mut Bench, what: &str, step: usize, access: Access, refusal: Refusal) {
    let Bench { hw, memory, mm } = bench;
    report(what, PAGES / step as u64, || {
        for page in (0..PAGES).step_by(step) {
            fault((mm, memory, hw), page_addr(page), access, refusal);
        }
    });
}

fn main() {
    let mut bench = start();
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
        map(&mut bench, MapSource::Anonymous);
        faults(&mut bench, "anonymous write", 1, Access::Write, Refusal::NotPresent);
        unmap(&mut bench, "munmap, per anonymous page");
    }
    map(&mut bench, MapSource::Anonymous);
    faults(&mut bench, "anonymous read (zero page)", 1, Access::Read, Refusal::NotPresent);
    faults(
        &mut bench,
        "write after read (zero page replaced)",
        1,
        Access::Write,
        Refusal::Protection,
    );
    faults(&mut bench, "spurious", 1, Access::Write, Refusal::NotPresent);
    unmap(&mut bench, "munmap, per anonymous page");
    let file = Arc::new(MappedFile {
        object: bench.memory.add_object(Box::new(Ones), FileKind::Regular),
        path: Box::from(*b"/ones"),
        device: (0, 1),
        inode: 1,
        kind: FileKind::Regular,
        may: Rights::all(),
    });
    for _ in 0..2 {
        map(&mut bench, MapSource::File { file: Arc::clone(&file), offset: 0 });
        faults(&mut bench, "file read, 16 pages mapped", 16, Access::Read, Refusal::NotPresent);
        faults(&mut bench, "private file write (copy)", 1, Access::Write, Refusal::Protection);
        unmap(&mut bench, "munmap, per copied page");
    }
    drop(file);
    println!("frames leaked: {}", bench.stop());
}
