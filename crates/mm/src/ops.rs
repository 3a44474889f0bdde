//! The memory calls, named as in man 2.
//!
//! Each takes the address space, the frames and the machine, checks its arguments in the order of
//! Linux, changes VMAs through `edit.rs` and entries through `page_table.rs`, and logs one event.
//! Numbers of the system call ABI are decoded above; here arguments are typed.

mod brk;
mod device;
mod edit;
mod exec;
mod fork;
mod madvise;
mod mincore;
mod mlock;
mod mmap;
mod mprotect;
mod mremap;
mod msync;
mod munmap;
mod place;
mod reap;

pub use brk::brk;
pub use exec::{map_stack, reserve_statics, set_rights_of_stack};
pub use fork::fork;
pub use madvise::{Advice, madvise};
pub use mincore::{Ownership, mincore};
pub use mlock::{LockFlags, LockMode, mlock, mlockall, munlock, munlockall};
pub use mmap::{MapFlags, MapRequest, MapSource, mmap};
pub use mprotect::{ProtectFlags, mprotect};
pub use mremap::{RemapFlags, mremap};
pub use msync::{SyncFlags, msync};
pub use munmap::munmap;
pub use reap::reap;

/// A length in whole pages; one that would not fit into 64 bits becomes 0, as in Linux where this
/// is used.
const fn wrap_to_pages(bytes: u64) -> u64 {
    let mask = machine::PAGE_BYTES - 1;
    bytes.wrapping_add(mask) & !mask
}

#[cfg(test)]
mod tests;
