//! Host cost of fork and exit of a space with 256 MB of private pages, and of breaking the sharing.
//!
//! `cargo run --release -p mm --example fork_cost`
#![expect(clippy::disallowed_types, reason = "it measures the host")]
#![expect(clippy::print_stdout, reason = "it reports")]

#[path = "common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{BASE, Bench, fault, page_addr};
use machine::{Access, Refusal};
use mm::MmId;
use mm::ops::{MapFlags, MapSource, fork};

const PAGES: u64 = 65_536;
const ROUNDS: usize = 20;

fn report(what: &str, best: Duration) {
    println!("{what:<44} {:>9.3} ms", best.as_secs_f64() * 1e3);
}

fn main() {
    let mut bench = Bench::new(1 << 30);
    bench.map(BASE, PAGES, MapFlags::FIXED, MapSource::Anonymous);
    let Bench { mut hw, mut memory, mm: mut parent } = bench;
    for page in 0..PAGES {
        fault(
            (&mut parent, &mut memory, &mut hw),
            page_addr(page),
            Access::Write,
            Refusal::NotPresent,
        );
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
        fault(
            (&mut child, &mut memory, &mut hw),
            page_addr(page),
            Access::Write,
            Refusal::Protection,
        );
    }
    report("the child stores to all: copies", start.elapsed());
    let start = Instant::now();
    child.exit(&mut memory, &mut hw);
    report("exit of the child, frames freed", start.elapsed());
    let start = Instant::now();
    for page in 0..PAGES {
        fault(
            (&mut parent, &mut memory, &mut hw),
            page_addr(page),
            Access::Write,
            Refusal::Protection,
        );
    }
    report("the parent stores to all: reuse", start.elapsed());
    parent.exit(&mut memory, &mut hw);
    println!("frames leaked: {}", memory.shutdown(&mut hw));
}
