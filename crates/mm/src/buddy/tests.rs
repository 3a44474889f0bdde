//! Tests of the buddy allocator.

use super::mobility::BLOCK_FRAMES;
use super::*;

const MOVABLE: Mobility = Mobility::Movable;
const UNMOVABLE: Mobility = Mobility::Unmovable;
const RECLAIMABLE: Mobility = Mobility::Reclaimable;

/// A machine that is too small to group by mobility.
fn small(frame_count: u32) -> Buddy {
    Buddy::new(frame_count, 1)
}

fn grouped(frame_count: u32) -> Buddy {
    Buddy::new(frame_count, 1 << 20)
}

/// Free blocks of each order, of all mobilities.
fn all_blocks(buddy: &Buddy) -> [u32; ORDERS] {
    let counts = buddy.block_counts();
    core::array::from_fn(|order| counts.iter().map(|of_kind| of_kind[order]).sum())
}

/// Takes all frames, and gives back those for which `is_free` says so.
fn with_free(frame_count: u32, is_free: impl Fn(u32) -> bool) -> Buddy {
    let mut buddy = grouped(frame_count);
    let frames: Vec<u32> = (0..frame_count).filter_map(|_| buddy.alloc_frame(MOVABLE)).collect();
    for frame in frames.into_iter().filter(|&frame| is_free(frame)) {
        buddy.free(frame, 0);
    }
    buddy
}

#[test]
fn fresh_frames_ascend_and_come_back() {
    let mut buddy = small(5000);
    let taken: Vec<u32> = (0..5000).filter_map(|_| buddy.alloc_frame(MOVABLE)).collect();
    assert!(taken.iter().copied().eq(0..5000));
    assert_eq!(buddy.alloc_frame(MOVABLE), None);
    assert_eq!(buddy.free_count(), 0);
    for &frame in taken.iter().rev() {
        buddy.free_frame(frame);
    }
    assert_eq!(buddy.check(), Ok(()));
    assert_eq!(buddy.free_count(), 5000);
    assert!((0..100).filter_map(|_| buddy.alloc_frame(MOVABLE)).eq(0..100));
}

#[test]
fn the_last_freed_frame_is_the_next_taken() {
    let mut buddy = small(64);
    let frames: Vec<u32> = (0..8).filter_map(|_| buddy.alloc_frame(MOVABLE)).collect();
    buddy.free_frame(frames[3]);
    buddy.free_frame(frames[5]);
    assert_eq!(buddy.alloc_frame(MOVABLE), Some(5));
    assert_eq!(buddy.alloc_frame(MOVABLE), Some(3));
    assert_eq!(buddy.alloc_frame(MOVABLE), Some(8));
}

#[test]
fn phys_2_an_empty_hot_stack_gets_part_of_a_block() {
    let mut buddy = small(1024);
    assert_eq!(buddy.next_frame(MOVABLE), None);
    assert_eq!(buddy.alloc_frame(MOVABLE), Some(0));
    assert_eq!(buddy.next_frame(MOVABLE), Some(1));
    assert_eq!(all_blocks(&buddy), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0], "frames 32 to 1023");
    assert_eq!(buddy.free_count(), 1023);
    assert_eq!(buddy.check(), Ok(()));
    buddy.free_frame(0);
    assert_eq!(buddy.alloc(10, MOVABLE), Some(0), "hot frames are free for larger blocks, too");
}

#[test]
fn phys_2_no_hot_frame_is_of_a_page_block_of_another_mobility() {
    // All that is free is the upper quarter of a page block whose other frames can move.
    let mut buddy = with_free(BLOCK_FRAMES * 5, |frame| (384..512).contains(&frame));
    assert_eq!(buddy.alloc_frame(RECLAIMABLE), Some(384));
    assert_eq!(buddy.kind_counts(), [0, 5, 0]);
    assert_eq!(buddy.next_frame(RECLAIMABLE), None);
    assert_eq!(buddy.check(), Ok(()));
}

#[test]
fn hot_frames_merge_when_a_block_is_wanted() {
    let mut buddy = small(1024);
    let frames: Vec<u32> = (0..1024).filter_map(|_| buddy.alloc_frame(MOVABLE)).collect();
    for frame in frames {
        buddy.free_frame(frame);
    }
    assert_eq!(buddy.alloc(10, MOVABLE), Some(0));
    assert_eq!(buddy.alloc(0, MOVABLE), None);
    buddy.free(0, 10);
    assert_eq!(all_blocks(&buddy)[10], 1);
    assert_eq!(buddy.check(), Ok(()));
}

#[test]
fn a_ram_that_is_no_power_of_two_has_small_blocks_at_its_end() {
    let mut buddy = small(1024 + 256 + 3);
    assert_eq!(all_blocks(&buddy), [1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
    assert_eq!(buddy.alloc(10, MOVABLE), Some(0));
    assert_eq!(buddy.alloc(9, MOVABLE), None);
    assert_eq!(buddy.alloc(8, MOVABLE), Some(1024));
    assert_eq!(buddy.free_count(), 3);
    assert_eq!(buddy.check(), Ok(()));
}

#[test]
fn random_blocks_keep_the_invariants() {
    let mut buddy = grouped(3000);
    let (mut held, mut seed) = (Vec::new(), 1u64);
    let mut kept: Vec<Kept> = Vec::new();
    for step in 0..4000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let order = (seed >> 33) as u32 % 11;
        if seed >> 60 == 0 {
            kept.extend(buddy.keep(1 + (seed >> 40) as u32 % KEPT_MAX, MOVABLE));
        } else if seed >> 60 == 1 && !kept.is_empty() {
            buddy.let_go(&kept.swap_remove((seed >> 40) as usize % kept.len()));
        } else if let (true, Some(kept)) = (seed >> 60 < 4, kept.last_mut()) {
            let frame = buddy.take_kept(kept, (seed >> 40) as u32 % KEPT_MAX, MOVABLE);
            held.extend(frame.map(|frame| (frame, 0)));
        } else if seed >> 60 < 10 {
            let mobility = Mobility::ALL[(seed >> 50) as usize % KINDS];
            let first = match order {
                0 => buddy.alloc_frame(mobility),
                _ => buddy.alloc(order, mobility),
            };
            held.extend(first.map(|first| (first, order)));
        } else if !held.is_empty() {
            match held.swap_remove((seed >> 40) as usize % held.len()) {
                (frame, 0) => buddy.free_frame(frame),
                (first, order) => buddy.free(first, order),
            }
        }
        if step % 16 == 0 {
            assert_eq!(buddy.check(), Ok(()));
        }
    }
    for (first, order) in held {
        buddy.free(first, order);
    }
    for kept in kept {
        buddy.let_go(&kept);
    }
    for kind in 0..KINDS {
        buddy.cool(kind, usize::MAX);
    }
    assert_eq!(buddy.check(), Ok(()));
    assert_eq!(all_blocks(&buddy), all_blocks(&grouped(3000)));
}

#[test]
fn phys_2_what_cannot_move_has_page_blocks_of_its_own() {
    let mut buddy = grouped(8 * BLOCK_FRAMES);
    let fixed: Vec<u32> = (0..40).filter_map(|_| buddy.alloc_frame(UNMOVABLE)).collect();
    let moved: Vec<u32> = (0..40).filter_map(|_| buddy.alloc_frame(MOVABLE)).collect();
    assert!(fixed.iter().copied().eq(0..40), "the first free block, of two page blocks");
    assert!(moved.iter().copied().eq(1024..1064), "{moved:?}");
    assert_eq!(buddy.kind_counts(), [2, 6, 0]);
    let by_mobility = buddy.block_counts();
    assert_eq!(by_mobility[UNMOVABLE as usize][9], 1);
    assert_eq!(by_mobility[MOVABLE as usize][10], 2);
    assert_eq!(buddy.check(), Ok(()));
}

#[test]
fn phys_2_a_machine_with_fewer_than_five_page_blocks_does_not_group() {
    let mut tiny = Buddy::new(2559, 2559);
    assert_eq!((tiny.alloc_frame(UNMOVABLE), tiny.alloc_frame(MOVABLE)), (Some(0), Some(1)));
    assert_eq!(tiny.kind_counts(), [5, 0, 0]);
    assert_eq!(Buddy::new(2560, 2560).kind_counts(), [0, 5, 0]);
}

#[test]
fn phys_2_a_page_block_of_which_half_is_free_changes_its_mobility_with_all_that_is_free() {
    // Of page block 1 the upper half is free.
    let mut buddy = with_free(4 * BLOCK_FRAMES, |frame| (768..1024).contains(&frame));
    assert_eq!(buddy.alloc_frame(UNMOVABLE), Some(768));
    assert_eq!(buddy.kind_counts(), [1, 3, 0]);
    assert_eq!(buddy.block_counts()[MOVABLE as usize], [0; ORDERS]);
    assert_eq!(buddy.check(), Ok(()));
    // What is freed there later is for what cannot move.
    buddy.free_frame(600);
    assert_eq!(buddy.alloc_frame(UNMOVABLE), Some(600));
}

#[test]
fn phys_2_of_a_page_block_that_is_nearly_full_only_the_frame_is_taken() {
    let mut buddy = with_free(4 * BLOCK_FRAMES, |frame| (768..800).contains(&frame));
    assert_eq!(buddy.alloc_frame(UNMOVABLE), Some(768));
    assert_eq!(buddy.kind_counts(), [0, 4, 0]);
    assert_eq!(buddy.block_counts()[MOVABLE as usize][..6], [1, 1, 1, 1, 1, 0]);
    assert_eq!(buddy.check(), Ok(()));
}

#[test]
fn phys_2_page_blocks_are_stolen_in_the_order_of_the_fallbacks() {
    let mut buddy = grouped(4 * BLOCK_FRAMES);
    assert_eq!(buddy.alloc(10, RECLAIMABLE), Some(0));
    assert_eq!(buddy.alloc(10, MOVABLE), Some(1024));
    buddy.free(0, 10);
    buddy.free(1024, 10);
    assert_eq!(buddy.kind_counts(), [0, 2, 2]);
    // Unmovable: first from Reclaimable, though a movable block of the same order is free.
    assert_eq!(buddy.alloc(10, UNMOVABLE), Some(0));
    assert_eq!(buddy.kind_counts(), [2, 2, 0]);
    buddy.free(0, 10);
    assert_eq!(buddy.alloc(9, RECLAIMABLE), Some(0), "first from Unmovable");
    assert_eq!(buddy.kind_counts(), [0, 2, 2]);
}

#[test]
fn phys_2_movable_frames_take_the_smallest_of_a_small_block_of_others() {
    // All is unmovable and used, but for a block of eight frames and one of two.
    let mut buddy = grouped(2 * BLOCK_FRAMES);
    for _ in 0..2 * BLOCK_FRAMES {
        buddy.alloc_frame(UNMOVABLE);
    }
    for frame in (8..16).chain(100..102) {
        buddy.free(frame, 0);
    }
    assert_eq!(buddy.alloc_frame(MOVABLE), Some(100));
    assert_eq!(buddy.kind_counts(), [2, 0, 0]);
    assert_eq!(buddy.check(), Ok(()));
}

#[test]
fn kept_frames_are_adjacent_and_free_until_each_is_taken() {
    let mut buddy = grouped(4 * BLOCK_FRAMES);
    let mut kept = buddy.keep(100, MOVABLE).expect("all is free");
    assert_eq!(buddy.free_count(), 4 * BLOCK_FRAMES);
    assert_eq!(buddy.alloc_frame(MOVABLE), Some(100), "what the block had behind them");
    assert_eq!(buddy.take_kept(&mut kept, 99, MOVABLE), Some(99));
    assert_eq!(buddy.take_kept(&mut kept, 7, MOVABLE), Some(7));
    assert_eq!(buddy.take_kept(&mut kept, 7, MOVABLE), None, "it is gone");
    assert_eq!(buddy.take_kept(&mut kept, 100, MOVABLE), None, "it never was");
    assert_eq!(buddy.free_count(), 4 * BLOCK_FRAMES - 3);
    assert_eq!(buddy.check(), Ok(()));
    // Who gives one back gives it to all.
    buddy.free_frame(7);
    assert_eq!(buddy.take_kept(&mut kept, 7, MOVABLE), None);
    buddy.let_go(&kept);
    assert_eq!(buddy.check(), Ok(()));
    buddy.free_frame(99);
    buddy.free_frame(100);
    assert_eq!(buddy.alloc(10, MOVABLE), Some(1024), "of fresh frames, while some are hot");
    assert_eq!(buddy.alloc(10, MOVABLE), Some(0), "nothing is lost");
}

#[test]
fn kept_frames_go_to_who_finds_no_other() {
    let mut buddy = small(64);
    let mut kept = buddy.keep(32, MOVABLE).expect("all is free");
    assert_eq!(buddy.take_kept(&mut kept, 3, MOVABLE), Some(3));
    let others: Vec<u32> = (0..32).filter_map(|_| buddy.alloc_frame(MOVABLE)).collect();
    assert!(others.iter().copied().eq(32..64), "{others:?}");
    assert_eq!(buddy.alloc_frame(MOVABLE), Some(2), "a kept one, alone beside the taken one");
    assert_eq!(buddy.take_kept(&mut kept, 1, MOVABLE), None, "then none is kept any more");
    assert_eq!(buddy.check(), Ok(()));
    // Frames that another keeps in the meantime stay as they are.
    let mut next = buddy.keep(16, MOVABLE).expect("half is free");
    buddy.let_go(&kept);
    assert_eq!(buddy.take_kept(&mut next, 1, MOVABLE), Some(17));
    assert_eq!(buddy.check(), Ok(()));
}

#[test]
fn no_more_frames_are_kept_than_lie_together() {
    // Every other frame is used.
    let mut buddy = with_free(4 * BLOCK_FRAMES, |frame| frame % 2 == 0);
    assert!(buddy.keep(2, MOVABLE).is_none());
    assert!(buddy.keep(1, MOVABLE).is_some());
    assert_eq!(buddy.check(), Ok(()));
}
