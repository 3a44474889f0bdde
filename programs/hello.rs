//! The Rust library's start-up, formatting, allocation and a caught panic.
use std::collections::BTreeMap;

fn main() {
    let squares: BTreeMap<u32, u32> = (0..5).map(|i| (i, i * i)).collect();
    println!("hello from Rust {squares:?}");
    // The usual message names the thread, whose number differs.
    std::panic::set_hook(Box::new(|_| eprintln!("a panic")));
    let caught = std::panic::catch_unwind(|| panic!("expected"));
    std::process::exit(if caught.is_err() { 4 } else { 0 });
}
