//! Stores to present, write-protected private pages.

use machine::{Frame, PAGE_BYTES, Side};

use super::anon::private_frame;
use super::{Failure, Fault, FaultKind, Resolved};
use crate::backing::{AnonId, FileKind};
use crate::folio::FrameState;
use crate::memory::Content;
use crate::page_table::SPECIAL;

/// Reuses the frame if the faulting entry is its only user, else copies it (FLT-9).
pub(super) fn write(fault: &mut Fault<'_>) -> Result<Resolved, Failure> {
    let frame = fault.old.frame();
    if fault.old.contains(SPECIAL) && frame == fault.memory.zero {
        let copy = private_frame(fault, Content::Zeroed)?;
        return Ok(Resolved::minor(fault.written(copy), FaultKind::Cow));
    }
    if fault.old.contains(SPECIAL) && is_of_device(fault) {
        let copy = private_frame(fault, Content::Any)?;
        fault.hw.copy(frame.start(), copy.start(), PAGE_BYTES);
        return Ok(Resolved::minor(fault.written(copy), FaultKind::Cow));
    }
    if !fault.old.contains(SPECIAL) && is_last_owner(fault, frame) {
        fault.memory.frames.set_exclusive(frame);
        return Ok(Resolved::minor(fault.written(frame), FaultKind::Reuse));
    }
    let unshares = side_of_fork(fault, frame);
    let copy = copy(fault, frame)?;
    Ok(Resolved { unshares, ..Resolved::minor(fault.written(copy), FaultKind::Cow) })
}

/// Whether the VMA maps frames of a device, which nobody counts.
fn is_of_device(fault: &Fault<'_>) -> bool {
    fault.promise.file.is_some_and(|(_, kind)| kind == FileKind::Device)
}

/// On which side of the fork that shared the private page the faulting space is. `None` if the page
/// is none that a fork shares.
fn side_of_fork(fault: &Fault<'_>, frame: Frame) -> Option<Side> {
    let is_shared = !fault.old.contains(SPECIAL)
        && fault.memory.frames.state(frame) == FrameState::Anon
        && fault.memory.frames.map_count(frame) > 1;
    let is_inherited = fault.promise.anon.is_some_and(AnonId::is_inherited);
    is_shared.then_some(if is_inherited { Side::Child } else { Side::Parent })
}

/// Whether nobody but the faulting entry can see the private page. Decided by all users, never by
/// entries alone.
fn is_last_owner(fault: &Fault<'_>, frame: Frame) -> bool {
    let frames = &fault.memory.frames;
    frames.state(frame) == FrameState::Anon
        && (frames.is_exclusive(frame) || frames.has_one_user(frame))
}

/// A private frame with the bytes of `from`, which is held meanwhile.
pub(super) fn copy(fault: &mut Fault<'_>, from: Frame) -> Result<Frame, Failure> {
    fault.memory.frames.hold(from);
    let copy = private_frame(fault, Content::Any);
    fault.memory.frames.unhold(from);
    let copy = copy?;
    fault.memory.copy_page(fault.hw, from, copy);
    Ok(copy)
}
