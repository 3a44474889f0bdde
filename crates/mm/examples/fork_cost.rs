//! Host cost of fork and exit of a space with 256 MB of private pages, and of breaking the sharing.
//!
//! `cargo run --release -p mm --example fork_cost`
#![expect(clippy::disallowed_types, reason = "it measures the host")]
#![expect(clippy::print_stdout, reason = "it reports")]

use std::time::{Duration, Instant};

use machine::{
    Access, FastPath, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, PageFault, Privilege,
    Refusal, TlbMode, VirtAddr,
};
use mm::ops::{MapFlags, MapRequest, MapSource, fork, mmap};
use mm::{Layout, Limits, Memory, Mm, MmId, Rights, Sharing, handle_fault};

const PAGES: u64 = 65_536;
const BASE: u64 = 0x7f00_0000_0000;
const ROUNDS: usize = 20;

fn store(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, page: u64, refusal: Refusal) {
    let addr = VirtAddr::new(BASE + page * PAGE_BYTES);
    let fault = PageFault { addr, access: Access::Write, privilege: Privilege::User, refusal };
    handle_fault(mm, memory, hw, fault).expect("it is mapped");
}

fn report(what: &str, best: Duration) {
    println!("{what:<44} {:>9.3} ms", best.as_secs_f64() * 1e3);
}

fn main() {
    let config = MachineConfig {
        ram_bytes: 1 << 30,
        geometry: Geometry::X86_64,
        tlb: TlbMode::Off,
        reference: FastPath::Filled,
        keep: Keep::HashOnly,
        boot_seconds: 0,
    };
    let mut hw = Machine::new(config).expect("the host has address space");
    let mut memory = Memory::new(&mut hw).expect("there are frames");
    let layout = Layout {
        mmap_base: VirtAddr::new(BASE),
        task_end: VirtAddr::new(0x7fff_ffff_f000),
        ..Layout::default()
    };
    let mut parent = Mm::new(MmId(1), layout, Limits::default(), &mut memory, &mut hw)
        .expect("there are frames");
    hw.activate(parent.root(), 1);
    let request = MapRequest {
        addr: BASE,
        bytes: PAGES * PAGE_BYTES,
        rights: Rights::READ | Rights::WRITE,
        sharing: Sharing::Private,
        flags: MapFlags::FIXED,
        source: MapSource::Anonymous,
    };
    mmap(&mut parent, &mut memory, &mut hw, request).expect("the range is free");
    for page in 0..PAGES {
        store(&mut parent, &mut memory, &mut hw, page, Refusal::NotPresent);
    }
    let (mut fork_best, mut exit_best) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut child = fork(&mut parent, MmId(2), &mut memory, &mut hw).expect("there are frames");
        fork_best = fork_best.min(start.elapsed());
        let start = Instant::now();
        child.exit(&mut memory, &mut hw);
        exit_best = exit_best.min(start.elapsed());
        hw.flush_asid(2);
    }
    report("fork of 65,536 pages", fork_best);
    report("exit of the child", exit_best);
    let mut child = fork(&mut parent, MmId(2), &mut memory, &mut hw).expect("there are frames");
    let start = Instant::now();
    for page in 0..PAGES {
        store(&mut child, &mut memory, &mut hw, page, Refusal::Protection);
    }
    report("the child stores to all: copies", start.elapsed());
    let start = Instant::now();
    child.exit(&mut memory, &mut hw);
    report("exit of the child, frames freed", start.elapsed());
    let start = Instant::now();
    for page in 0..PAGES {
        store(&mut parent, &mut memory, &mut hw, page, Refusal::Protection);
    }
    report("the parent stores to all: reuse", start.elapsed());
    parent.exit(&mut memory, &mut hw);
    println!("frames leaked: {}", memory.shutdown(&mut hw));
}
