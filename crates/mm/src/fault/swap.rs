//! Faults on pages that are in swap (FLT-10).

use machine::Pte;

use super::{Cost, Failure, Fault, FaultKind, Resolved, cow};
use crate::backing::AnonId;
use crate::folio::Owner;
use crate::page_table::{PageTables, PteState};
use crate::rights::Rights;
use crate::swap::decode;

/// Brings the page back, with neighbours that left with it, and lets go of the slot.
///
/// The last entry that names the slot gets the page for itself; while others do, the page stays in
/// the swap cache, and a store makes a copy at once.
pub(super) fn bring(fault: &mut Fault<'_>, tables: &mut PageTables) -> Result<Resolved, Failure> {
    let (slot, _) = decode(fault.hw.geometry(), fault.old);
    let (frame, cost) = match fault.memory.swap_cached(slot) {
        Some(frame) => {
            fault.memory.spaces[tables.space()].swap_history.note_hit();
            (frame, Cost::Minor)
        }
        None => {
            let owner = owner_of(fault, 0);
            let frame = fault.memory.swap_in(fault.hw, slot, owner)?;
            (frame, Cost::Major)
        }
    };
    // Nobody takes the page away while its neighbours or a copy find frames.
    fault.memory.frames.hold(frame);
    if cost == Cost::Major {
        let more = read_ahead(fault, tables);
        fault.memory.wait_for_swap(fault.hw, 1 + more);
    }
    let is_mapped = fault.memory.frames.map_count(frame) > 0;
    let is_shared = is_mapped || fault.memory.swap_users(slot) > 1;
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

/// To what the page belongs that lies `ahead` pages behind the faulting one.
fn owner_of(fault: &Fault<'_>, ahead: u64) -> Owner {
    let root = fault.promise.anon.map_or(0, AnonId::root);
    Owner::Anon { root, index: fault.index().wrapping_add(ahead) }
}

/// Brings pages around the fault into the swap cache, as many as earlier faults of the space
/// suggest: those behind it if the faults ascend, else on both sides; inside VMA and table. Returns
/// how many were read.
///
/// # Source
/// Linux 6.12 `mm/swap_state.c:swap_vma_ra_win`; semantics SWAP-4.
fn read_ahead(fault: &mut Fault<'_>, tables: &mut PageTables) -> u64 {
    let page = fault.addr.page().number();
    let page_cluster = fault.memory.page_cluster();
    let history = &mut fault.memory.spaces[tables.space()].swap_history;
    let direction = history.direction(page);
    let window = u64::from(history.next_window(page, page_cluster));
    let before = match direction {
        core::cmp::Ordering::Greater => 0,
        core::cmp::Ordering::Less => window - 1,
        core::cmp::Ordering::Equal => (window - 1) / 2,
    };
    let at = fault.slot.index;
    let range = fault.promise.range;
    let first = at - before.min(at).min(page - range.start.page().number());
    let end = (first + window).min(tables.leaf_entries());
    let end = end.min(at + (range.end.page().number() - page));
    let mut count = 0;
    for index in (first..end).filter(|&index| index != at) {
        let entry = tables.read(fault.hw, fault.slot.sibling(index));
        if PteState::of(entry) != PteState::Swapped {
            continue;
        }
        let (slot, _) = decode(fault.hw.geometry(), entry);
        if fault.memory.swap_cached(slot).is_some() {
            continue;
        }
        let owner = owner_of(fault, index.wrapping_sub(at));
        if fault.memory.swap_in(fault.hw, slot, owner).is_err() {
            break;
        }
        count += 1;
    }
    count
}
