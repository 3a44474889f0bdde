//! Host cost of reclaim and swap: nanoseconds of processor time for each page that leaves or comes.
//!
//! `cargo run --release -p mm --example reclaim_cost`
#![expect(clippy::disallowed_types, reason = "it measures the host")]
#![expect(clippy::print_stdout, reason = "it reports")]

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Instant;

use common::{BASE, Bench, page_addr};
use machine::{Access, Machine, PAGE_BYTES};
use mm::ops::{MapFlags, MapSource};
use mm::{FileKind, LATENCIES, MappedFile, Mm, PackedStore, Pager, PagerError, Rights};

const FRAMES: u64 = 16_384;
/// Four times RAM: nearly each page that is asked for has left.
const PAGES: u64 = 4 * FRAMES;
/// Rounds; the least counts.
const ROUNDS: usize = 3;

/// A file that costs nothing to read, so that what is left is reclaim and the fault.
struct Nothing;

impl Pager for Nothing {
    fn fill(&mut self, _index: u64, _page: &mut [u8]) -> Result<(), PagerError> {
        Ok(())
    }

    fn store(&mut self, _index: u64, _page: &[u8]) -> Result<(), PagerError> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        PAGES * PAGE_BYTES
    }
}

fn map(bench: &mut Bench, source: MapSource) {
    bench.map(BASE, PAGES, MapFlags::FIXED | MapFlags::NO_RESERVE, source);
}

/// Reads each page in turn; how many nanoseconds all of them took.
fn sweep(bench: &mut Bench) -> f64 {
    let start = Instant::now();
    for page in 0..PAGES {
        bench.touch(page_addr(page), Access::Read);
    }
    start.elapsed().as_nanos() as f64
}

fn stop(bench: Bench) {
    assert_eq!(bench.stop(), 0, "frames leaked");
}

/// What the same sweep over a file costs with room for all of it, and without: the difference is
/// reclaim.
fn clean_pages() {
    let cost = |ram_frames: u64| {
        let mut least = f64::MAX;
        let mut stolen = 0;
        for _ in 0..ROUNDS {
            let mut bench = Bench::new(ram_frames * PAGE_BYTES);
            let object = bench.memory.add_object(Box::new(Nothing), FileKind::Regular);
            let (path, may) = (Box::from(*b"/file"), Rights::all());
            let kind = FileKind::Regular;
            let file = MappedFile { object, path, device: (0, 1), inode: 1, kind, may };
            map(&mut bench, MapSource::File { file: Arc::new(file), offset: 0 });
            least = least.min(sweep(&mut bench));
            stolen = bench.memory.events().stolen;
            stop(bench);
        }
        (least, stolen)
    };
    let (roomy, _) = cost(PAGES * 2);
    let (short, stolen) = cost(FRAMES);
    let cost = (short - roomy) / stolen as f64;
    println!("reclaiming a clean page of a file               {cost:>9.1} ns (goal: 300)");
}

/// A page that holds text, as the heaps of programs do, and one word in sixteen that differs.
fn write_text(hw: &mut Machine, mm: &Mm, page: u64) {
    let Some((at, _)) = hw.peek(mm.root(), page_addr(page)) else { return };
    let bytes = hw.ram.slice_mut(at, PAGE_BYTES);
    let mut seed = page.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for (at, line) in bytes.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        line.copy_from_slice(b"key=00000000 value=the quick brown fox jumps over the lazy dog..");
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(at as u64);
        line[4..12].copy_from_slice(&seed.to_le_bytes());
    }
}

/// A page goes out, compressed, for each that comes back by a major fault.
fn compressed_swap() {
    let mut least = f64::MAX;
    let mut figures = (0, 0, 0);
    for _ in 0..ROUNDS {
        let mut bench = Bench::new(FRAMES * PAGE_BYTES);
        let latency = mm::latency("zram").copied().unwrap_or(LATENCIES[0]);
        bench.memory.swap_on(PAGES as u32 + 1, Box::new(PackedStore::new()), latency);
        bench.memory.set_page_cluster(0);
        map(&mut bench, MapSource::Anonymous);
        for page in 0..PAGES {
            bench.touch(page_addr(page), Access::Write);
            write_text(&mut bench.hw, &bench.mm, page);
        }
        let before = *bench.memory.events();
        least = least.min(sweep(&mut bench));
        let after = *bench.memory.events();
        let held = bench.memory.swap_usage().held_bytes;
        figures = (after.swap_ins - before.swap_ins, after.swap_outs - before.swap_outs, held);
        stop(bench);
    }
    let (ins, outs, held) = figures;
    let cost = least / ins as f64;
    println!("major fault from compressed swap, one page      {cost:>9.1} ns");
    println!("  of {ins} pages that came and {outs} that left; {} MiB hold the rest", held >> 20);
}

fn main() {
    clean_pages();
    compressed_swap();
}
