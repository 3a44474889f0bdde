#![allow(clippy::all, missing_docs)]
use machine::*;
fn main() {
    let mut hw = Machine::new(MachineConfig::default()).unwrap();
    let g = hw.geometry();
    let root = Frame::new(1);
    let mut next = 2;
    let base = 0x7f00_0000_0000u64;
    for page in 0..512u64 {
        let addr = VirtAddr::new(base + page * 4096);
        let mut table = root;
        for level in (2..=4).rev() {
            let slot = g.slot(table, g.index(level, addr));
            let mut e = g.load(&hw.ram, slot);
            if !e.is_present() {
                e = Pte::new(Frame::new(next), Pte::PRESENT.with(Pte::WRITE).with(Pte::USER));
                next += 1;
                g.store(&mut hw.ram, slot, e);
            }
            table = e.frame();
        }
        let slot = g.slot(table, g.index(1, addr));
        g.store(
            &mut hw.ram,
            slot,
            Pte::new(
                Frame::new(0x8000 + page),
                Pte::PRESENT.with(Pte::WRITE).with(Pte::USER).with(Pte::DIRTY),
            ),
        );
    }
    hw.activate(root, 1);

    let n: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1_000_000);
    let mut best = f64::MAX;
    let mut p = 1u64;
    let mut s = 0;
    for _ in 0..if n < 1_000_000 { 1 } else { 40 } {
        let t = std::time::Instant::now();
        for _ in 0..n {
            p = p.wrapping_mul(5).wrapping_add(3) & 511;
            s ^= hw.access(VirtAddr::new(base + p * 4096), Access::Read).unwrap().as_u64();
        }
        best = best.min(t.elapsed().as_nanos() as f64 / n as f64);
    }
    println!("{best:.2} ns {s}");
}
