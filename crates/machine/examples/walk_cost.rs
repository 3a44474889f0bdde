//! What translation costs on this host: nanoseconds per walk, per first-level miss that the second
//! level resolves, and per access through the model. Run with `--release`.
#![allow(
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a measuring program: host time and standard output are its purpose"
)]

use std::hint::black_box;
use std::time::Instant;

use machine::{
    Access, FastPath, Frame, Geometry, Machine, MachineConfig, PAGE_BYTES, PhysAddr, Privilege,
    Pte, TlbMode, VirtAddr, WalkControls, tlb_preset, tlb_presets, walk,
};

const ROUNDS: u32 = 9;
const BASE: u64 = 0x7f00_0000_0000;

/// Maps `count` pages from `base` with all rights, and returns the root.
fn map(hw: &mut Machine, base: u64, count: u64) -> Frame {
    let geometry = hw.geometry();
    let root = Frame::new(1);
    let mut next = 2;
    for page in 0..count {
        let addr = VirtAddr::new(base + page * PAGE_BYTES);
        let mut table = root;
        for level in (2..=geometry.levels()).rev() {
            let slot = geometry.slot(table, geometry.index(level, addr));
            let mut entry = geometry.load(&hw.ram, slot);
            if !entry.is_present() {
                let is_register = geometry == Geometry::Pae && level == 3;
                let rights = if is_register { Pte::EMPTY } else { Pte::WRITE.with(Pte::USER) };
                entry = Pte::new(Frame::new(next), Pte::PRESENT.with(rights));
                next += 1;
                geometry.store(&mut hw.ram, slot, entry);
            }
            table = entry.frame();
        }
        let flags = Pte::PRESENT.with(Pte::WRITE).with(Pte::USER).with(Pte::DIRTY);
        let slot = geometry.slot(table, geometry.index(1, addr));
        geometry.store(&mut hw.ram, slot, Pte::new(Frame::new(0x8000 + page), flags));
    }
    hw.activate(root, 1);
    root
}

fn machine(geometry: Geometry, tlb: TlbMode, reference: FastPath) -> Machine {
    let config = MachineConfig { geometry, tlb, reference, ..MachineConfig::default() };
    Machine::new(config).expect("the host reserves 1 GiB")
}

/// The best of some rounds of `count` calls, in nanoseconds per call.
fn measure(count: u64, mut call: impl FnMut(u64)) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for step in 0..count {
            call(step);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / count as f64);
    }
    best
}

fn walks(geometry: Geometry, pages: u64) -> f64 {
    let base = if geometry.address_bits() == 32 { 0x4000_0000 } else { BASE };
    let mut hw = machine(geometry, TlbMode::Off, FastPath::Empty);
    let root = map(&mut hw, base, pages).start();
    let controls = WalkControls::default();
    measure(2_000_000, |step| {
        let addr = VirtAddr::new(base + (step.wrapping_mul(7) & (pages - 1)) * PAGE_BYTES);
        let walked =
            walk(geometry, controls, &mut hw.ram, root, addr, Access::Read, Privilege::User);
        black_box(walked.map_or(PhysAddr::new(0), |walked| walked.physical(addr)));
    })
}

/// Accesses that stride over `pages` pages, in a random-looking order.
fn accesses(tlb: TlbMode, reference: FastPath, pages: u64, access: Access) -> (f64, f64, f64) {
    let mut hw = machine(Geometry::X86_64, tlb, reference);
    map(&mut hw, BASE, pages);
    let before = hw.counters();
    let mut place = 1u64;
    let count = 2_000_000;
    let ns = measure(count, |_| {
        place = place.wrapping_mul(5).wrapping_add(3) & (pages - 1);
        let addr = VirtAddr::new(BASE + place * PAGE_BYTES);
        black_box(hw.access(addr, access).unwrap_or(PhysAddr::new(0)));
    });
    let after = hw.counters();
    let total = (after.reads + after.writes - before.reads - before.writes) as f64;
    let first = (after.l1d.misses - before.l1d.misses) as f64 / total;
    let second = (after.walks - before.walks) as f64 / total;
    (ns, first, second)
}

fn main() {
    println!("walk, tables in cache:");
    for geometry in Geometry::ALL {
        println!(
            "  {geometry:?}: {:.1} ns (64 pages), {:.1} ns (16,384 pages)",
            walks(geometry, 64),
            walks(geometry, 16_384)
        );
    }
    println!("access through the model (x86-64):  ns, L1 misses and walks per access");
    let show = |name: &str, what: &str, (ns, first, second): (f64, f64, f64)| {
        println!("  {name:12} {what:38} {ns:5.1} ns  {first:.2} {second:.2}");
    };
    for spec in tlb_presets() {
        let model = TlbMode::Model(*spec);
        let filled = FastPath::Filled;
        show(spec.name, "16 pages, read", accesses(model, filled, 16, Access::Read));
        show(spec.name, "512 pages, read", accesses(model, filled, 512, Access::Read));
        show(spec.name, "512 pages, write", accesses(model, filled, 512, Access::Write));
        show(spec.name, "16,384 pages, read", accesses(model, filled, 16_384, Access::Read));
    }
    if let Some(spec) = tlb_preset("golden-cove") {
        let model = TlbMode::Model(*spec);
        let empty = FastPath::Empty;
        show(spec.name, "16 pages, reference mode", accesses(model, empty, 16, Access::Read));
        show(spec.name, "512 pages, reference mode", accesses(model, empty, 512, Access::Read));
    }
    show("off", "512 pages, read", accesses(TlbMode::Off, FastPath::Filled, 512, Access::Read));
}
