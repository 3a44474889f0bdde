//! Host cost of reclaim and swap: nanoseconds of processor time for each page that leaves or comes.
//!
//! `cargo run --release -p mm --example reclaim_cost`
#![expect(clippy::disallowed_types, reason = "it measures the host")]
#![expect(clippy::print_stdout, reason = "it reports")]

use std::sync::Arc;
use std::time::Instant;

use machine::{
    Access, FastPath, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, TlbMode, VirtAddr,
};
use mm::ops::{MapFlags, MapRequest, MapSource, mmap};
use mm::{
    FileKind, LATENCIES, Layout, Limits, MappedFile, Memory, Mm, MmId, PackedStore, Pager,
    PagerError, Rights, Sharing, handle_fault,
};

const FRAMES: u64 = 16_384;
/// Four times RAM: nearly each page that is asked for has left.
const PAGES: u64 = 4 * FRAMES;
const BASE: u64 = 0x7f00_0000_0000;
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

struct Bench {
    hw: Machine,
    memory: Memory,
    mm: Mm,
}

impl Bench {
    fn new(ram_frames: u64) -> Self {
        let mut hw = Machine::new(MachineConfig {
            ram_bytes: ram_frames * PAGE_BYTES,
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
            ..Layout::default()
        };
        let mm = Mm::new(MmId(1), layout, Limits::default(), &mut memory, &mut hw);
        let mut bench = Self { mm: mm.expect("there are frames"), hw, memory };
        bench.hw.activate(bench.mm.root(), 1);
        bench
    }

    fn map(&mut self, source: MapSource) {
        let request = MapRequest {
            addr: BASE,
            bytes: PAGES * PAGE_BYTES,
            rights: Rights::READ | Rights::WRITE,
            sharing: Sharing::Private,
            flags: MapFlags::FIXED | MapFlags::NO_RESERVE,
            source,
        };
        mmap(&mut self.mm, &mut self.memory, &mut self.hw, request).expect("the range is free");
    }

    /// An access to each page in turn; how many nanoseconds all of them took.
    fn sweep(&mut self, access: Access) -> f64 {
        let start = Instant::now();
        for page in 0..PAGES {
            let addr = VirtAddr::new(BASE + page * PAGE_BYTES);
            while let Err(fault) = self.hw.access(addr, access) {
                handle_fault(&mut self.mm, &mut self.memory, &mut self.hw, fault)
                    .expect("pages can leave");
            }
        }
        start.elapsed().as_nanos() as f64
    }

    fn stop(mut self) {
        self.mm.exit(&mut self.memory, &mut self.hw);
        assert_eq!(self.memory.shutdown(&mut self.hw), 0, "frames leaked");
    }
}

/// What the same sweep over a file costs with room for all of it, and without: the difference is
/// reclaim.
fn clean_pages() {
    let sweep = |ram_frames: u64| {
        let mut least = f64::MAX;
        let mut stolen = 0;
        for _ in 0..ROUNDS {
            let mut bench = Bench::new(ram_frames);
            let object = bench.memory.add_object(Box::new(Nothing), FileKind::Regular);
            let (path, may) = (Box::from(*b"/file"), Rights::all());
            let kind = FileKind::Regular;
            let file = MappedFile { object, path, device: (0, 1), inode: 1, kind, may };
            bench.map(MapSource::File { file: Arc::new(file), offset: 0 });
            least = least.min(bench.sweep(Access::Read));
            stolen = bench.memory.events().stolen;
            bench.stop();
        }
        (least, stolen)
    };
    let (roomy, _) = sweep(PAGES * 2);
    let (short, stolen) = sweep(FRAMES);
    let cost = (short - roomy) / stolen as f64;
    println!("reclaiming a clean page of a file               {cost:>9.1} ns (goal: 300)");
}

/// A page that holds text, as the heaps of programs do, and one word in sixteen that differs.
fn write_text(hw: &mut Machine, mm: &Mm, page: u64) {
    let addr = VirtAddr::new(BASE + page * PAGE_BYTES);
    let Some((at, _)) = hw.peek(mm.root(), addr) else { return };
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
        let mut bench = Bench::new(FRAMES);
        let latency = mm::latency("zram").copied().unwrap_or(LATENCIES[0]);
        bench.memory.swap_on(PAGES as u32 + 1, Box::new(PackedStore::new()), latency);
        bench.memory.set_page_cluster(0);
        bench.map(MapSource::Anonymous);
        for page in 0..PAGES {
            let addr = VirtAddr::new(BASE + page * PAGE_BYTES);
            while let Err(fault) = bench.hw.access(addr, Access::Write) {
                handle_fault(&mut bench.mm, &mut bench.memory, &mut bench.hw, fault)
                    .expect("pages can leave");
            }
            write_text(&mut bench.hw, &bench.mm, page);
        }
        let before = *bench.memory.events();
        least = least.min(bench.sweep(Access::Read));
        let after = *bench.memory.events();
        let held = bench.memory.swap_usage().held_bytes;
        figures = (after.swap_ins - before.swap_ins, after.swap_outs - before.swap_outs, held);
        bench.stop();
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
