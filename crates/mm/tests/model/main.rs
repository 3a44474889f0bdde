//! Random memory calls and accesses of up to three address spaces that fork, against a naive model:
//! pages in a map, bytes in vectors, no trees, no laziness. Every invariant is checked after each
//! step, and that the TLBs never translate to anything but what the page tables say.
//!
//! `cargo xtask model` plays a million steps with swap, `--steps` another number.

use std::env;

use machine::{Access, Geometry, PAGE_BYTES};
use mm::check::check;
use mm::ops::{MapFlags, MapRequest, MapSource, mmap};
use mm::{Backing, POLICIES, Rights, Sharing};

use world::{FIRST, Plan, Swap, World, at};

mod access;
mod advice;
#[path = "../bytes/mod.rs"]
mod bytes;
mod calls;
mod files;
mod spaces;
mod world;

/// Pages that are played with, if nothing else is said.
const PAGES: u64 = 192;

/// Plays 800 steps for each seed (3,000 with swap), with `free_count` frames. Returns how many
/// accesses found none.
fn run(geometry: Geometry, free_count: u64, seeds: std::ops::Range<u64>) -> u64 {
    play(geometry, free_count, seeds, Swap::Off).0
}

/// The same with or without swap. Returns also how many pages left and came back.
fn play(
    geometry: Geometry,
    free_count: u64,
    seeds: std::ops::Range<u64>,
    swap: Swap,
) -> (u64, u64, u64) {
    let (mut refused, mut outs, mut ins) = (0, 0, 0);
    for seed in seeds {
        let seed = seed * 0x9e37_79b9 + 1;
        let (page_count, is_short) = (PAGES, free_count < 500);
        let mut world =
            World::new(Plan { geometry, frame_count: 1024, page_count, seed, swap, is_short });
        while world.memory.usage().frames_free > free_count {
            world.hogged.extend(world.memory.take_kernel_frame(&mut world.hw));
        }
        let step_count = if swap == Swap::Off { 800 } else { 3000 };
        for _ in 0..step_count {
            world.step();
        }
        refused += world.refused;
        outs += world.memory.events().swap_outs;
        ins += world.memory.events().swap_ins;
        world.finish();
    }
    (refused, outs, ins)
}

/// Machines of so many frames are played with in turn, each with every policy.
const FRAMES: [u64; 6] = [64, 80, 128, 256, 512, 1024];
/// Steps in one world.
const WORLD_STEPS: u64 = 2_000;
/// Steps of all worlds together, unless `MODEL_STEPS` says so.
const STEPS: u64 = 120_000;

#[test]
fn random_steps_in_64_to_1024_frames_with_swap_agree_with_the_model() {
    let steps = env::var("MODEL_STEPS").ok().map_or(STEPS, |text| text.parse().unwrap());
    let (mut refused, mut outs, mut ins, mut dropped) = (0, 0, 0, 0);
    let (mut stored, mut written_back) = (0, 0);
    for turn in 0..steps.div_ceil(WORLD_STEPS) {
        let frame_count = FRAMES[(turn % 6) as usize];
        let policy = &POLICIES[(turn as usize / 6) % POLICIES.len()];
        let geometry = Geometry::ALL[turn as usize % Geometry::ALL.len()];
        // More pages than frames, if all spaces have all of them.
        let page_count = PAGES.max(frame_count * 5 / 8);
        let seed = turn * 0x9e37_79b9 + 7;
        let swaps = [Swap::Slots(4096), Swap::Zram(4096), Swap::Zswap(4096)];
        let swap = swaps[(turn / 6 % 3) as usize];
        // RAM has a megabyte at least: what is more than the frames wanted is taken away.
        let whole = frame_count.max(256);
        let plan = Plan { geometry, frame_count: whole, page_count, seed, swap, is_short: true };
        // Shown if a step fails.
        eprintln!("{frame_count} frames, {}, {geometry:?}, turn {turn}", policy.name);
        let mut world = World::new(plan);
        world.memory.set_policy((policy.make)(seed));
        for _ in frame_count..whole {
            world.hogged.extend(world.memory.take_kernel_frame(&mut world.hw));
        }
        for _ in 0..WORLD_STEPS.min(steps - turn * WORLD_STEPS) {
            world.step();
        }
        refused += world.refused;
        outs += world.memory.events().swap_outs;
        dropped += world.memory.events().lazily_dropped;
        ins += world.memory.events().swap_ins;
        stored += world.memory.zswap_usage().stored;
        written_back += world.memory.zswap_usage().written_back;
        world.finish();
    }
    eprintln!("{stored} pages were kept by zswap, {written_back} went on to the device");
    assert!(steps < STEPS || stored > 1000 && written_back > 100);
    eprintln!("{steps} steps: {outs} pages left, {ins} came back, {dropped} were dropped");
    eprintln!("{refused} accesses found no frame");
    assert!(dropped > 50 || steps < STEPS);
    assert!(steps < STEPS || outs > 5000 && ins > 2000, "{outs} left, {ins} came back");
}

#[test]
fn memory_calls_agree_with_the_model_in_every_geometry() {
    for geometry in Geometry::ALL {
        assert_eq!(run(geometry, 1000, 0..8), 0);
    }
}

#[test]
fn memory_calls_agree_with_the_model_when_frames_run_out() {
    assert!(run(Geometry::X86_64, 45, 100..116) > 0, "some access found no frame");
}

#[test]
fn pages_that_leave_ram_come_back_as_they_were() {
    for geometry in Geometry::ALL {
        let (_, outs, ins) = play(geometry, 66, 0..6, Swap::Slots(4096));
        assert!(outs > 300 && ins > 50, "{outs} pages left and {ins} came back");
    }
}

#[test]
fn a_full_swap_area_refuses_and_loses_nothing() {
    let (refused, outs, _) = play(Geometry::X86_64, 60, 0..12, Swap::Slots(8));
    assert!(refused > 0 && outs > 0, "{refused} refused, {outs} left");
}

#[test]
fn an_object_outlives_its_file_while_it_is_mapped() {
    let (geometry, frame_count, page_count) = (Geometry::X86_64, 1024, PAGES);
    let plan =
        Plan { geometry, frame_count, page_count, seed: 1, swap: Swap::Off, is_short: false };
    let mut world = World::new(plan);
    let (file, rights) = (world.files[0].real.take().unwrap().1, Rights::READ);
    let object = file.object;
    let request = MapRequest {
        addr: at(FIRST).as_u64(),
        bytes: PAGE_BYTES,
        rights,
        sharing: Sharing::Shared,
        flags: MapFlags::FIXED,
        source: MapSource::File { file, offset: 0 },
    };
    mmap(&mut world.mm, &mut world.memory, &mut world.hw, request).unwrap();
    assert_eq!(world.access(at(FIRST), Access::Read), Ok(()));
    world.memory.drop_object(&mut world.hw, object);
    assert_eq!(check(&[&world.mm], &world.memory, &world.hw), Ok(()));
    assert_eq!(world.access(at(FIRST), Access::Read), Ok(()));
    let backing = world.mm.vma_at(at(FIRST)).map(|vma| matches!(vma.backing, Backing::File(_)));
    assert_eq!(backing, Some(true));
    world.finish();
}
