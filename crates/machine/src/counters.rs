//! Plain counters of what the CPU and its MMU did.

/// Hits and misses of one level of TLB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HitMiss {
    /// Look-ups that found the page.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
}

/// Everything the machine counts. Equal for a filled and an empty fast path.
///
/// Only accesses that succeed count as accesses, hits and misses; a refused access shows in
/// `walks`, `walk_memory_reads` and `faults`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counters {
    /// Data reads.
    pub reads: u64,
    /// Data writes and read-modify-writes.
    pub writes: u64,
    /// Fetch accesses: entries into a code page.
    pub fetches: u64,
    /// First-level data TLB. `hits + misses == reads + writes`, if modelled.
    pub l1d: HitMiss,
    /// First-level instruction TLB. `hits + misses == fetches`, if modelled.
    pub l1i: HitMiss,
    /// Second level. `hits + misses == l1d.misses + l1i.misses`, if modelled.
    pub l2: HitMiss,
    /// Page walks, refused ones and those that only set a dirty bit included.
    pub walks: u64,
    /// Page-table entries read by walks.
    pub walk_memory_reads: u64,
    /// Walks made only because a store met a clean TLB entry.
    pub dirty_walks: u64,
    /// Accesses refused with a page fault.
    pub faults: u64,
    /// Pages flushed one by one.
    pub page_flushes: u64,
    /// Flushes of a whole address space.
    pub full_flushes: u64,
    /// Changes of the active address space.
    pub switches: u64,
    /// TLB entries, of all levels, that such a change dropped: what must be refilled when the space
    /// that they belonged to comes back.
    pub switch_entries_lost: u64,
}

/// How the fast path fared: differs between [`crate::FastPath`] modes, unlike [`Counters`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FastStatistics {
    /// Accesses that found their shadow slot taken by another page.
    pub conflicts: u64,
    /// How often the shadow's index grew by a bit.
    pub mask_changes: u64,
    /// Accesses that went through the model and filled a slot.
    pub fills: u64,
    /// Those among them that emitted code made itself.
    pub emitted_misses: u64,
}
