use machine::Geometry;

use super::*;
use crate::testing::World;

/// A machine with one address space, whose `mm_struct` has a slab of 8 frames.
fn world() -> World {
    World::with_kernel(2048, Geometry::X86_64)
}

const OF_THE_SPACE: u64 = 8;

impl World {
    /// Frames of slabs but that of the address space.
    fn slab_frames(&self) -> u64 {
        self.memory.usage().slab - OF_THE_SPACE
    }
}

#[test]
fn objects_share_slabs_and_empty_slabs_go_back() {
    let mut world = world();
    let free = world.memory.usage().frames_free;
    let mut objects = Objects::of(Cache::FilesCache);
    world.memory.set_objects(&mut world.hw, &mut objects, 24).expect("there is RAM");
    world.check();
    assert_eq!((objects.count(), world.slab_frames()), (24, 8), "23 to a slab of 4 frames");
    let places = objects.places();
    assert_eq!(places[1].offset_from(places[0]), 704, "one behind the other");
    assert!(places.iter().all(|&place| world.memory.is_object(place)));
    let slab = world.memory.slab_of(places[0].frame()).expect("it is one");
    assert_eq!((slab.cache, slab.used_count, slab.object_count), (Some(Cache::FilesCache), 23, 23));
    let gone = places[23];
    world.memory.set_objects(&mut world.hw, &mut objects, 23).expect("it is less");
    world.check();
    assert!(!world.memory.is_object(gone));
    assert_eq!(world.slab_frames(), 4);
    world.memory.set_objects(&mut world.hw, &mut objects, 0).expect("it is less");
    assert_eq!(world.memory.usage().frames_free, free);
    world.check();
    world.finish();
}

#[test]
fn a_freed_place_is_taken_again() {
    let mut world = world();
    let mut all: Vec<Objects> = (0..30).map(|_| Objects::of(Cache::Filp)).collect();
    for one in &mut all {
        world.memory.set_objects(&mut world.hw, one, 1).expect("there is RAM");
    }
    let place = all[7].places()[0];
    world.memory.set_objects(&mut world.hw, &mut all[7], 0).expect("it is less");
    let mut new = Objects::of(Cache::Filp);
    world.memory.set_objects(&mut world.hw, &mut new, 1).expect("there is room");
    assert_eq!(new.places(), [place]);
    let row = world.memory.cache_infos().into_iter().find(|row| row.cache == Cache::Filp);
    let row = row.expect("every cache is there");
    assert_eq!((row.used_count, row.object_count, row.slab_count), (30, 42, 2));
    all.push(new);
    for mut one in all {
        world.memory.set_objects(&mut world.hw, &mut one, 0).expect("it is less");
    }
    world.check();
    world.finish();
}

#[test]
fn slab_1_kmalloc_is_contiguous_in_lowmem_and_ends_at_4_mib() {
    let mut world = World::with_kernel(262_144, Geometry::I386);
    let mut taken = Vec::new();
    for bytes in [1, 8, 100, 4096, 8192, 8193, 100_000, 4 << 20] {
        let place = world.memory.kmalloc(&mut world.hw, bytes).expect("there is RAM");
        let space = world.memory.kernel_space().expect("it is mapped");
        let last = place.wrapping_add(bytes - 1);
        assert!(space.va(place).is_some() && space.va(last).is_some(), "{bytes} bytes: lowmem");
        assert!(world.memory.slab_of(last.frame()).is_some(), "{bytes}");
        taken.push(place);
    }
    world.check();
    assert_eq!(world.memory.kmalloc(&mut world.hw, (4 << 20) + 1), None);
    for place in taken {
        world.memory.kfree(&mut world.hw, place);
    }
    world.check();
    assert_eq!(world.slab_frames(), 0);
    world.finish();
}

#[test]
fn scattered_memory_gives_smaller_slabs_and_none_says_so() {
    let mut world = world();
    let frames: Vec<Frame> =
        core::iter::from_fn(|| world.memory.take_kernel_frame(&mut world.hw)).collect();
    let mut objects = Objects::of(Cache::SighandCache);
    let refused = world.memory.set_objects(&mut world.hw, &mut objects, 1);
    assert!(refused.is_err() && objects.count() == 0);
    // Every other frame: no two are neighbours.
    let (even, odd): (Vec<_>, Vec<_>) =
        frames.into_iter().partition(|frame| frame.number().is_multiple_of(2));
    for frame in even {
        world.memory.give_kernel_frame(&mut world.hw, frame);
    }
    world.memory.set_objects(&mut world.hw, &mut objects, 2).expect("one to a frame");
    assert_eq!(world.slab_frames(), 2);
    world.check();
    world.memory.set_objects(&mut world.hw, &mut objects, 0).expect("it is less");
    for frame in odd {
        world.memory.give_kernel_frame(&mut world.hw, frame);
    }
    world.finish();
}

#[test]
fn a_slab_whose_frames_are_refused_once_loses_none() {
    // There is room for a second `mm_struct` beside that of the space.
    for cache in Cache::ALL.into_iter().filter(|&cache| cache != Cache::MmStruct) {
        let mut world = world();
        world.memory.refuse_allocation(0);
        let mut objects = Objects::of(cache);
        let taken = world.memory.set_objects(&mut world.hw, &mut objects, 1);
        assert!(!world.memory.will_refuse());
        let cpus = world.memory.kernel_space().expect("it is mapped").config().cpus;
        let is_smaller_tried = cache.least_order() < cache.order(cpus);
        assert_eq!(taken.is_ok(), is_smaller_tried, "{}", cache.name());
        world.check();
        world.memory.set_objects(&mut world.hw, &mut objects, 0).expect("it is less");
        assert_eq!(world.slab_frames(), 0);
        world.check();
        world.finish();
    }
}

/// Random takes and gives against a list: no two objects overlap, all bookkeeping agrees.
#[test]
fn random_objects_never_overlap() {
    let mut world = world();
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for step in 0..4000 {
        if taken.is_empty() || next(5) < 3 {
            let bytes = 1 << next(14);
            let Some(place) = world.memory.kmalloc(&mut world.hw, bytes) else { continue };
            let (start, end) = (place.as_u64(), place.as_u64() + bytes);
            assert!(taken.iter().all(|other| end <= other.0 || other.1 <= start), "{start:#x}");
            taken.push((start, end));
        } else {
            let (start, _) = taken.swap_remove(next(taken.len() as u64) as usize);
            world.memory.kfree(&mut world.hw, PhysAddr::new(start));
        }
        if step % 200 == 0 {
            world.check();
        }
    }
    assert!(world.slab_frames() > 100);
    for (start, _) in taken {
        world.memory.kfree(&mut world.hw, PhysAddr::new(start));
    }
    assert_eq!(world.slab_frames(), 0);
    world.check();
    world.finish();
}
