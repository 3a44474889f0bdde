//! Where the engine's own state lives in the words that GS points to.
//!
//! The machine reserves [`machine::layout::ENGINE`] onwards for the engine: homes of the guest's
//! registers, scratch words of emitted code, pointers to stubs, and the cache of indirect jumps.
//! All constants here are word indexes; [`gs`] turns one into the displacement of an operand.

use machine::layout;

const fn word(index: usize) -> usize {
    layout::ENGINE + index
}

/// Homes of the sixteen general registers, by their places in the
/// [`super::assignment::Assignment`]. Those from r12 on are always current.
pub(super) const GPR: usize = word(0);
/// The guest's instruction pointer at an exit.
pub(super) const RIP: usize = word(16);
/// The arithmetic flags at an exit and at an entry.
pub(super) const FLAGS: usize = word(17);
/// Bases of the segments.
pub(super) const FS_BASE: usize = word(18);
pub(super) const GS_BASE: usize = word(19);
/// The host's stack pointer while emitted code runs.
pub(super) const HOST_RSP: usize = word(20);
/// Why emitted code left: a number of [`super::stubs::Reason`].
pub(super) const REASON: usize = word(21);
/// What goes with the reason: number of a link or of a site.
pub(super) const ARGUMENT: usize = word(22);
/// Where the slow path goes on.
pub(super) const RESUME: usize = word(23);
/// The guest's rcx while `jrcxz` needs it.
pub(super) const RCX_SAVE: usize = word(24);
/// Guest registers lent to an instruction as temporaries.
pub(super) const SPILL: usize = word(25);
/// A value between the two accesses of one instruction.
pub(super) const PARK: usize = word(30);
/// The constant [`machine::CLOCK_DRAIN_BIT`], as a mask for `pext`.
pub(super) const DRAIN_MASK: usize = word(31);
/// By how many elements string instructions move: 1, or -1 if the direction flag is set.
pub(super) const STRIDE: usize = word(32);
/// Host address of the area of `xsave`.
pub(super) const XSAVE_POINTER: usize = word(33);
/// Host address of the context of the slow path.
pub(super) const CONTEXT: usize = word(34);
/// Back edges without an access that may still be taken before an exit.
pub(super) const SPIN: usize = word(35);
/// All address bits above the page offset, as a mask for `pext`.
pub(super) const PAGE_MASK: usize = word(36);
/// What a signal handler saw: the host's instruction pointer, and the number of the trap.
pub(super) const SIGNAL_RIP: usize = word(37);
pub(super) const SIGNAL_TRAP: usize = word(38);
/// Arithmetic flags while the slow path runs.
pub(super) const FLAGS_SAVE: usize = word(39);
/// Arithmetic flags between blocks that are not on the same page or not known to each other: ah as
/// `lahf` leaves it, al the overflow flag.
pub(super) const FLAGS_PARKED: usize = word(44);
/// Host address of the function that finds the targets of indirect jumps.
pub(super) const QUICK_TARGET: usize = word(45);
/// The slot of the code page that a fetch access in the slow path is for.
pub(super) const FETCH_SLOT: usize = word(47);
/// Bases of the segments of 32-bit code that are not flat.
pub(super) const ES_BASE: usize = word(61);
pub(super) const SS_BASE: usize = word(62);
pub(super) const DS_BASE: usize = word(63);
pub(super) const CS_BASE: usize = word(46);
/// Whether 32-bit code runs: r8 to r12 are those of `window.rs`.
pub(super) const WINDOW: usize = word(29);
/// MXCSR of the host.
pub(super) const HOST_MXCSR: usize = word(40);
/// Where emitted code is entered.
pub(super) const ENTRY: usize = word(41);
/// Host addresses of the functions of the slow path.
pub(super) const SLOW_ACCESS: usize = word(42);
/// Likewise for the quick half of it.
pub(super) const QUICK_ACCESS: usize = word(43);
/// While a strip is entered: the slots of its streams, then what their registers will hold.
pub(super) const STRIP_STREAM: usize = word(48);
/// How far the registers may move that a strip's streams move by.
pub(super) const STRIP_LIMIT: usize = word(56);
/// Vector registers while the slow path runs: 16 of 32 bytes.
pub(super) const VECTORS: usize = word(64);
/// Room for operands that cross frames, with a margin to align it to 64 bytes.
pub(super) const BOUNCE: usize = word(128);
/// Whether the state of the x87 is in use, or its image not complete: then `xsave` and `xrstor`
/// move all of the floating-point state, else loads and stores the vector registers.
pub(super) const WHOLE: usize = word(1020);
/// Whether the image has upper halves of vector registers that are not zero.
pub(super) const WIDE: usize = word(1021);
/// The cache of indirect jumps: [`JUMP_SLOTS`] negated targets, and as many host addresses.
pub(super) const JUMP_TAG: usize = word(1024);
/// The host addresses, not at the same offset in a page of the host as the targets.
pub(super) const JUMP_HOST: usize = JUMP_TAG + JUMP_DISTANCE;
/// From a negated target to its host address.
pub(super) const JUMP_DISTANCE: usize = JUMP_SLOTS + 256;
/// Slots of the cache of indirect jumps, indexed by the low bits of the target.
pub(super) const JUMP_SLOTS: usize = 65536;
/// What the index of a target differs by from that of its other slot, where it goes when another
/// target takes its own.
pub(super) const JUMP_OTHER: usize = 0x5a50;
/// Distances of the latest pages of loads of chains: see `predict.rs`.
pub(super) const DISTANCE: usize = JUMP_HOST + JUMP_SLOTS;
/// How many of them.
pub(super) const DISTANCES: usize = 4096;

const _: () = assert!(DISTANCE + DISTANCES == layout::CLOCK, "each word has its use");

/// The displacement of a word from the base of GS.
pub(super) const fn gs(index: usize) -> i32 {
    (index * 8) as i32
}

/// The word that is the home of general register `number`.
pub(super) const fn home(number: u8) -> usize {
    GPR + number as usize
}
