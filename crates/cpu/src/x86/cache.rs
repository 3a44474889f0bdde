//! The memory that emitted code lives in: mapped twice, writable here, executable there.
//!
//! No address of it is ever writable and executable. Space is only ever taken from the end; all of
//! it is given back at once.
//!
//! Invariants
//! 1. Host addresses handed out are those of the executable view.
//! 2. `used <= bytes`; everything behind `used` was never executed since the last [`Cache::reset`].
#![allow(unsafe_code, reason = "owns the mappings of emitted code")]

use super::EngineError;

/// The code cache.
#[derive(Debug)]
pub(super) struct Cache {
    writable: *mut u8,
    executable: u64,
    bytes: usize,
    used: usize,
    is_dirty: bool,
}

// SAFETY: 1. `writable` points to memory that only this value writes. 2. Nothing of it is bound to
// the thread that made it.
unsafe impl Send for Cache {}

fn last_error(call: &'static str) -> EngineError {
    EngineError::Host { call, errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0) }
}

fn map(file: i32, bytes: usize, rights: i32) -> Result<*mut u8, EngineError> {
    // WHY UNSAFE: executable memory can be had from the kernel only.
    // SAFETY: 1. The address is chosen by the kernel, so no existing mapping changes. 2. The result
    // is compared with MAP_FAILED before it is used.
    let address =
        unsafe { libc::mmap(core::ptr::null_mut(), bytes, rights, libc::MAP_SHARED, file, 0) };
    if address == libc::MAP_FAILED { Err(last_error("mmap")) } else { Ok(address.cast()) }
}

impl Cache {
    /// An empty cache of `bytes`, touched lazily.
    ///
    /// # Errors
    /// The host refused the memory.
    pub(super) fn new(bytes: usize) -> Result<Self, EngineError> {
        // SAFETY: 1. The name is a C string.
        let file = unsafe { libc::memfd_create(c"code".as_ptr(), libc::MFD_CLOEXEC) };
        if file < 0 {
            return Err(last_error("memfd_create"));
        }
        // SAFETY: 1. `file` is the descriptor just made.
        let sized = unsafe { libc::ftruncate(file, bytes as libc::off_t) };
        let result =
            if sized < 0 { Err(last_error("ftruncate")) } else { Self::map_both(file, bytes) };
        // SAFETY: 1. `file` is ours, and the mappings keep the memory alive.
        unsafe { libc::close(file) };
        result
    }

    fn map_both(file: i32, bytes: usize) -> Result<Self, EngineError> {
        let writable = map(file, bytes, libc::PROT_READ | libc::PROT_WRITE)?;
        let executable = match map(file, bytes, libc::PROT_READ | libc::PROT_EXEC) {
            Ok(address) => address as u64,
            Err(error) => {
                // SAFETY: 1. The mapping was made above and nothing refers to it.
                unsafe { libc::munmap(writable.cast(), bytes) };
                return Err(error);
            }
        };
        Ok(Self { writable, executable, bytes, used: 0, is_dirty: false })
    }

    /// Host address of the next byte to be appended.
    pub(super) fn next(&self) -> u64 {
        self.executable + self.used as u64
    }

    /// Bytes still free.
    pub(super) fn free(&self) -> usize {
        self.bytes - self.used
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// First host address, and the one behind the last.
    pub(super) fn range(&self) -> (u64, u64) {
        (self.executable, self.executable + self.bytes as u64)
    }

    /// Appends code, and returns where it stands.
    ///
    /// # Panics
    /// If it does not fit: the caller has looked at [`Self::free`].
    pub(super) fn append(&mut self, code: &[u8]) -> u64 {
        assert!(code.len() <= self.free(), "the caller has checked that the code fits");
        let host = self.next();
        // SAFETY: 1. `used <= bytes` (invariant 2), so the sum stays inside the mapping.
        let target = unsafe { self.writable.add(self.used) };
        // SAFETY: 1. `code.len()` bytes are free there, by the assertion. 2. `code` is a Rust
        // slice, which cannot overlap a mapping that only this value knows.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), target, code.len()) };
        self.used += code.len();
        self.is_dirty = true;
        host
    }

    /// Everything in use.
    pub(super) fn code(&self) -> &[u8] {
        // SAFETY: 1. `used <= bytes` (invariant 2). 2. The memory is written through `&mut self`
        // only.
        unsafe { core::slice::from_raw_parts(self.writable, self.used) }
    }

    /// Overwrites four bytes at `host`: the displacement of a branch.
    ///
    /// # Panics
    /// If the bytes are not in use.
    pub(super) fn patch(&mut self, host: u64, field: [u8; 4]) {
        let offset = usize::try_from(host.wrapping_sub(self.executable))
            .ok()
            .filter(|offset| offset.checked_add(4).is_some_and(|end| end <= self.used))
            .expect("patches are inside emitted code");
        // SAFETY: 1. `offset + 4 <= used <= bytes`.
        let target = unsafe { self.writable.add(offset) };
        // SAFETY: 1. As above. 2. A write of bytes needs no alignment.
        unsafe { target.cast::<[u8; 4]>().write_unaligned(field) };
        self.is_dirty = true;
    }

    /// Gives back everything behind the first `keep` bytes.
    pub(super) fn reset(&mut self, keep: usize) {
        self.used = keep.min(self.used);
        self.is_dirty = true;
    }

    /// Whether code was written since the last call: the CPU has to be told before it runs.
    pub(super) fn take_dirty(&mut self) -> bool {
        core::mem::take(&mut self.is_dirty)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // SAFETY: 1. The mapping is ours, and nothing runs in it: running borrows the engine.
        unsafe { libc::munmap(self.writable.cast(), self.bytes) };
        // SAFETY: 1. As above.
        unsafe { libc::munmap(self.executable as *mut libc::c_void, self.bytes) };
    }
}
