//! What emitted code probes: the shadow of the modelled first-level TLB, in one array of words.
//!
//! The engine points a segment register at the words and reads and writes them directly; the
//! [`layout`] is the contract. See the module text of `mmu` for what the words mean.

/// Word indexes into [`FastTlb::words`].
pub mod layout {
    /// Words that belong to the engine alone.
    pub const ENGINE: usize = 0;
    /// How many: its own state, and its indirect-jump cache of 65,536 pairs.
    pub const ENGINE_WORDS: usize = 1024 + 2 * 65536;
    /// The access clock.
    pub const CLOCK: usize = ENGINE + ENGINE_WORDS;
    /// The `pext` mask that turns an address into a slot.
    pub const MASK_INDEX: usize = CLOCK + 1;
    /// The fetch clock.
    pub const FETCH_CLOCK: usize = CLOCK + 2;
    /// The code-page slot being executed, 0 for none.
    pub const FETCH_PAGE: usize = CLOCK + 3;

    /// Slots of the data shadow.
    pub const SLOTS: usize = 4096;
    /// Words between arrays, so that no two have equal offset modulo 4,096 bytes (a store to one
    /// would falsely alias a load of the other).
    pub const PAD: usize = 136;
    /// Per slot: minus the page base if loads may take the fast path, else poison.
    pub const READ_TAG: usize = CLOCK + 16;
    /// Per slot: minus the page base if stores may take the fast path, else poison.
    pub const WRITE_TAG: usize = READ_TAG + SLOTS + PAD;
    /// Per slot: host address of the frame.
    pub const HOST: usize = WRITE_TAG + SLOTS + PAD;
    /// Per slot: clock of the last hit.
    pub const STAMP: usize = HOST + SLOTS + PAD;

    /// Slots of the fetch shadow: code pages numbered by the engine from 1.
    pub const FETCH_SLOTS: usize = 16384;
    /// Per code page: non-zero if it is in the modelled L1I with execute right.
    pub const FETCH_RESIDENT: usize = STAMP + SLOTS + PAD;
    /// Per code page: fetch clock of the last hit.
    pub const FETCH_STAMP: usize = FETCH_RESIDENT + FETCH_SLOTS + PAD;
    /// First word that is private to the machine.
    pub const END: usize = FETCH_STAMP + FETCH_SLOTS + PAD;
}
