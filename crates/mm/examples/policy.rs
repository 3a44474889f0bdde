//! A replacement policy of one's own: not recently used, which forgets every 200 looks who was.
//!
//! Compares it with those of the list on a loop that does not fit: 1,200 pages in turn, of which
//! 100 are used four times as often, on a machine of 1,024 frames.
//!
//! `cargo run --release -p mm --example policy`
#![expect(clippy::print_stdout, reason = "it reports")]

use machine::{
    Access, FastPath, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, TlbMode, VirtAddr,
    tlb_default,
};
use mm::ops::{MapFlags, MapRequest, MapSource, mmap};
use mm::{
    LATENCIES, Layout, Limits, Memory, Mm, MmId, POLICIES, PackedStore, PageSeen, Replacement,
    Rights, Sharing, Verdict, handle_fault,
};

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

const BASE: u64 = 0x7f00_0000_0000;
const PAGES: u64 = 1200;

/// Major faults of the loop under `policy`.
fn major_faults(policy: Box<dyn Replacement>) -> u64 {
    let config = MachineConfig {
        ram_bytes: 1024 * PAGE_BYTES,
        geometry: Geometry::X86_64,
        tlb: TlbMode::Model(*tlb_default()),
        reference: FastPath::Empty,
        keep: Keep::HashOnly,
        boot_seconds: 0,
    };
    let mut hw = Machine::new(config).expect("it is small");
    let mut memory = Memory::new(&mut hw).expect("there are frames");
    memory.swap_on(4096, Box::new(PackedStore::new()), LATENCIES[0]);
    memory.set_policy(policy);
    let task_end = VirtAddr::new(0x7fff_ffff_f000);
    let layout = Layout { mmap_base: VirtAddr::new(BASE), task_end, ..Layout::default() };
    let mm = Mm::new(MmId(1), layout, Limits::default(), &mut memory, &mut hw);
    let mut mm = mm.expect("there are frames");
    hw.activate(mm.root(), 1);
    let request = MapRequest {
        addr: BASE,
        bytes: PAGES * PAGE_BYTES,
        rights: Rights::READ | Rights::WRITE,
        sharing: Sharing::Private,
        flags: MapFlags::FIXED,
        source: MapSource::Anonymous,
    };
    mmap(&mut mm, &mut memory, &mut hw, request).expect("the range is free");
    for turn in 0..PAGES * 10 {
        for page in [turn % PAGES, turn * 7 % 100, turn * 11 % 100, turn * 13 % 100] {
            let addr = VirtAddr::new(BASE + page * PAGE_BYTES);
            while let Err(fault) = hw.access(addr, Access::Write) {
                handle_fault(&mut mm, &mut memory, &mut hw, fault).expect("there is swap");
            }
        }
    }
    let major = mm.faults().major;
    mm.exit(&mut memory, &mut hw);
    assert_eq!(memory.shutdown(&mut hw), 0, "every frame came back");
    major
}

fn main() {
    println!("{:<10} {:>6}", "nru", major_faults(Box::new(NotRecentlyUsed::default())));
    for policy in POLICIES {
        println!("{:<10} {:>6}", policy.name, major_faults((policy.make)(1)));
    }
}
