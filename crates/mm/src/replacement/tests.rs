//! Every policy chooses what its name says, and loses nothing.

use alloc::vec::Vec;

use machine::Access;

use super::{POLICIES, policy};
use crate::testing::{RW, World, at, pages};

/// Pages of the working set, and of what is read once.
const HOT: u64 = 40;
const COLD: u64 = 600;

/// Uses the hot pages again and again while cold ones pass by. Returns how many of the hot ones had
/// to come back.
fn hot_faults(name: &str) -> usize {
    let mut world = World::with_policy(512, 4096, name);
    world.map(pages(0x800, HOT), RW);
    world.map(pages(0x1000, COLD), RW);
    for page in 0x800..0x800 + HOT {
        world.poke(0, at(page), page as u8).expect("there is swap");
    }
    let mut back = 0;
    for page in 0x1000..0x1000 + COLD {
        world.poke(0, at(page), 1).expect("there is swap");
        for hot in 0x800..0x800 + HOT {
            // A walk marks the entry anew, as one does that the TLB has no room for.
            world.hw.flush_page(at(hot));
            back += world.touch(0, at(hot), Access::Read).expect("it is mapped").len();
        }
    }
    for page in 0x800..0x800 + HOT {
        assert_eq!(world.peek(0, at(page)), Ok(page as u8), "{name}");
    }
    world.finish();
    back
}

#[test]
fn policies_that_see_use_keep_what_is_used() {
    for name in ["two-list", "clock", "lru"] {
        assert_eq!(hot_faults(name), 0, "{name}");
    }
    for name in ["fifo", "random"] {
        assert!(hot_faults(name) > 0, "{name} does not look at use");
    }
}

/// Stores to a hundred pages, uses some again, and stores elsewhere until the first pages leave.
/// Returns which of the former are still there.
fn survivors(name: &str, used_again: &[u64]) -> Vec<u64> {
    let mut world = World::with_policy(256, 4096, name);
    world.map(pages(0x800, 100), RW);
    world.map(pages(0x1000, 400), RW);
    for page in 0x800..0x864 {
        world.poke(0, at(page), 1).expect("there is swap");
    }
    for _ in 0..2 {
        for &page in used_again {
            world.hw.flush_page(at(page));
            world.touch(0, at(page), Access::Read).expect("it is mapped");
        }
    }
    let mut page = 0x1000;
    while world.memory.events().stolen == 0 {
        world.poke(0, at(page), 1).expect("there is swap");
        page += 1;
    }
    let frames = world.frames(pages(0x800, 100));
    let there = (0x800..).zip(frames).filter_map(|(page, frame)| frame.map(|_| page)).collect();
    world.finish();
    there
}

#[test]
fn fifo_takes_the_first_and_lru_those_not_used_again() {
    let used: Vec<u64> = (0x800..0x810).collect();
    let left = survivors("fifo", &used);
    assert!(left.len() < 100 && !left.contains(&0x800), "{left:x?}");
    assert!(left.is_sorted() && left.last() == Some(&0x863));
    let left = survivors("lru", &used);
    assert!(left.len() < 100 && used.iter().all(|page| left.contains(page)), "{left:x?}");
    assert!(!left.contains(&0x810), "the oldest that was not used again");
}

#[test]
fn random_depends_on_its_seed_alone() {
    let evicted = |seed| {
        let mut world = World::with_policy(256, 4096, "random");
        world.memory.set_policy((policy("random").expect("it is in the list").make)(seed));
        world.map(pages(0x1000, 400), RW);
        for page in 0x1000..0x1190 {
            world.poke(0, at(page), 1).expect("there is swap");
        }
        let frames = world.frames(pages(0x1000, 400));
        world.finish();
        frames
    };
    assert_eq!(evicted(1), evicted(1));
    assert_ne!(evicted(1), evicted(2));
}

#[test]
fn names_are_unique_and_known() {
    for (i, entry) in POLICIES.iter().enumerate() {
        assert_eq!((entry.make)(0).name(), entry.name);
        assert!(POLICIES[..i].iter().all(|other| other.name != entry.name));
    }
    assert_eq!(POLICIES[0].name, "two-list");
    assert!(policy("belady").is_none(), "nobody knows the future");
}
