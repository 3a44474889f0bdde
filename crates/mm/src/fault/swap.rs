//! Faults on pages that are in swap (FLT-10).

use core::cmp::Ordering;

use machine::Pte;

use super::{Cost, Failure, Fault, FaultKind, Resolved, cow};
use crate::folio::Owner;
use crate::page_table::{PageTables, PteState};
use crate::rights::Rights;
use crate::swap::{SwapPlace, decode};

/// Brings the page back, with neighbours that left with it, and lets go of the slot.
///
/// The last entry that names the slot gets the page for itself; while others do, the page stays in
/// the swap cache, and a store makes a copy at once.
pub(super) fn bring(fault: &mut Fault<'_>, tables: &PageTables) -> Result<Resolved, Failure> {
    let (place, _) = decode(fault.hw.geometry(), fault.old);
    let (frame, cost) = match fault.memory.swap.cached(place) {
        Some(frame) => {
            note_found(fault, place, frame);
            (frame, Cost::Minor)
        }
        None => (fault.memory.swap_in(fault.hw, place)?, Cost::Major),
    };
    // Nobody takes the page away while its neighbours or a copy find frames.
    fault.memory.frames.hold(frame);
    if cost == Cost::Major {
        let is_alone =
            fault.memory.swap.is_synchronous(place.area) && fault.memory.swap.use_count(place) == 1;
        let more = if is_alone { 0 } else { read_ahead(fault, tables, place) };
        fault.memory.wait_for_swap(fault.hw, place.area, 1 + more);
    }
    let is_mapped = fault.memory.frames.map_count(frame) > 0;
    let is_shared = is_mapped || fault.memory.swap.use_count(place) > 1;
    let resolved = if !is_shared {
        fault.memory.frames.set_exclusive(frame);
        Ok(own_leaf(fault, frame))
    } else if fault.is_write() {
        cow::copy(fault, frame).map(|copy| fault.written(copy))
    } else {
        Ok(Pte::new(frame, fault.bits))
    };
    fault.memory.frames.unhold(frame);
    let pte = resolved?;
    Ok(Resolved { pte, kind: FaultKind::SwapIn, cost, unshares: None })
}

/// The leaf of a page that nobody else has: it may be stored to without another fault.
fn own_leaf(fault: &Fault<'_>, frame: machine::Frame) -> Pte {
    if fault.is_write() {
        return fault.written(frame);
    }
    let is_writable = fault.promise.rights.contains(Rights::WRITE);
    let leaf = Pte::new(frame, fault.bits);
    if is_writable { leaf.with(Pte::WRITE) } else { leaf }
}

/// Learns from a page that is in RAM although its entry says swap: most often it was read ahead.
fn note_found(fault: &mut Fault<'_>, place: SwapPlace, frame: machine::Frame) {
    let is_hit = fault.memory.frames.take_readahead(frame);
    fault.memory.events.swap_ra_hits += u64::from(is_hit);
    let page = fault.addr.page().number();
    if !fault.memory.swap.is_rotating(place.area) {
        fault.promise.history.note_found(page);
        if is_hit {
            fault.promise.history.note_hit();
        }
    } else if is_hit {
        fault.memory.swap.history.note_hit();
    }
}

/// Brings pages near the fault into the swap cache: those of the address space, or where the device
/// turns, those of the device. Returns how many were read.
fn read_ahead(fault: &mut Fault<'_>, tables: &PageTables, place: SwapPlace) -> u64 {
    if fault.memory.swap.is_rotating(place.area) {
        read_cluster(fault, place)
    } else {
        read_around(fault, tables)
    }
}

/// The aligned cluster of slots around that of the fault, as far as private pages are there.
///
/// # Source
/// Linux 6.12 `mm/swap_state.c:swap_cluster_readahead`; semantics SWAP-4.
fn read_cluster(fault: &mut Fault<'_>, place: SwapPlace) -> u64 {
    let page_cluster = fault.memory.page_cluster();
    let at = u64::from(place.slot.0);
    let window = u64::from(fault.memory.swap.history.next_window(at, page_cluster));
    let first = at & !(window.next_power_of_two() - 1);
    let slots = (first..first + window).filter(|&slot| slot != at);
    let mut count = 0;
    for slot in slots.filter_map(|slot| u32::try_from(slot).ok()) {
        let near = SwapPlace { slot: crate::swap::SwapSlot(slot), ..place };
        let tenant = fault.memory.swap.tenant(near);
        let is_private = tenant.is_some_and(|t| matches!(t.owner, Owner::Anon { .. }));
        if is_private && !bring_ahead(fault, near, &mut count) {
            break;
        }
    }
    count
}

/// Pages around the fault, as many as earlier faults of the VMA suggest: those behind it if the
/// faults ascend, those before it if they descend, else on both sides; inside VMA and table.
///
/// # Source
/// Linux 6.12 `mm/swap_state.c:swap_vma_ra_win`, `swap_vma_readahead`; semantics SWAP-4.
fn read_around(fault: &mut Fault<'_>, tables: &PageTables) -> u64 {
    let page = fault.addr.page().number();
    let page_cluster = fault.memory.page_cluster();
    let history = &mut fault.promise.history;
    let direction = history.direction(page);
    let window = u64::from(history.next_window(page, page_cluster));
    let before = match direction {
        Ordering::Greater => 0,
        Ordering::Less => window - 1,
        Ordering::Equal => (window - 1) / 2,
    };
    let at = fault.slot.index;
    let range = fault.promise.range;
    let behind = range.end.page().number() - page;
    let end = (at + window - before).min(tables.leaf_entries()).min(at + behind);
    let first = at - before.min(at).min(page - range.start.page().number());
    let mut count = 0;
    for index in (first..end).filter(|&index| index != at) {
        let entry = tables.read(fault.hw, fault.slot.sibling(index));
        if PteState::of(entry) != PteState::Swapped {
            continue;
        }
        let (near, _) = decode(fault.hw.geometry(), entry);
        if !bring_ahead(fault, near, &mut count) {
            break;
        }
    }
    count
}

/// Reads a page before it is used, if it is not in RAM. False if that is not possible.
fn bring_ahead(fault: &mut Fault<'_>, place: SwapPlace, count: &mut u64) -> bool {
    if fault.memory.swap.cached(place).is_some() {
        return true;
    }
    let is_read = fault.memory.bring_ahead(fault.hw, place);
    *count += u64::from(is_read);
    is_read
}
