//! Faults on anonymous pages that were never touched.

use machine::Pte;

use super::{Failure, Fault, FaultKind, Resolved};
use crate::backing::AnonId;
use crate::folio::Owner;
use crate::memory::Content;
use crate::page_table::SPECIAL;

/// A read: the shared frame of zeros, read-only and outside of RSS (FLT-4).
pub(super) fn zero(fault: &Fault<'_>) -> Resolved {
    Resolved::minor(Pte::new(fault.memory.zero, fault.bits.with(SPECIAL)), FaultKind::Zero)
}

/// A write: a frame of zeros of its own (FLT-5).
pub(super) fn fresh(fault: &mut Fault<'_>) -> Result<Resolved, Failure> {
    let frame = private_frame(fault, Content::Zeroed)?;
    Ok(Resolved::minor(fault.written(frame), FaultKind::Zero))
}

/// A frame for a private page of the faulting space, which alone uses it.
pub(super) fn private_frame(
    fault: &mut Fault<'_>,
    content: Content,
) -> Result<machine::Frame, Failure> {
    let index = fault.index();
    let memory = &mut *fault.memory;
    let page = (fault.space, fault.addr);
    let frame = memory.alloc_private(fault.hw, page, content).ok_or(Failure::NoFrame)?;
    memory.frames.set_exclusive(frame);
    let root = fault.promise.anon.map_or(0, AnonId::root);
    memory.frames.set_owner(frame, Owner::Anon { root, index });
    Ok(frame)
}
