//! The memory that emitted code lives in: mapped twice, writable here, executable there.
//!
//! No address of it is ever writable and executable. One half holds hot code, the other cold code,
//! so that what runs lies densely. Space is only ever taken from the end of a half; all of it is
//! given back at once, but for a jump at the end. The writable view is unmapped again and again, so
//! that the host does not hold two entries for each page of code for ever.
//!
//! Invariants
//! 1. Host addresses handed out are those of the executable view.
//! 2. `used[0] <= middle <= used[1] <= bytes`, both offsets; what is behind them in their half, but
//!    for a jump that was taken back, was never executed since the last [`Cache::reset`].
#![allow(unsafe_code, reason = "owns the mappings of emitted code")]

use super::EngineError;
use super::emit::{Place, relative};

/// The code cache.
#[derive(Debug)]
pub(super) struct Cache {
    writable: *mut u8,
    executable: u64,
    bytes: usize,
    /// Where the cold half begins.
    middle: usize,
    /// Where each half is used up to.
    used: [usize; 2],
    is_dirty: bool,
    /// Pages of the writable view that are mapped, as bits, and how many.
    written: Vec<u64>,
    written_count: usize,
}

/// Bytes of a page of the host.
const PAGE_BYTES: usize = 4096;
/// Pages of the writable view after which it is unmapped.
const WRITTEN_MAX: usize = 128;
/// The last byte of an opcode, and a displacement.
pub(super) const BRANCH_BYTES: usize = 5;
/// `jmp rel32`.
const JUMP: u8 = 0xe9;
/// What stands for a jump to the next instruction.
const NOTHING: [u8; BRANCH_BYTES] = [0x66, 0x66, 0x66, 0x66, 0x90];
/// What is left of code that died: `int3`.
const FILLER: u8 = 0xcc;

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
        let middle = bytes / 2;
        Ok(Self {
            writable,
            executable,
            bytes,
            middle,
            used: [0, middle],
            is_dirty: false,
            written: vec![0; bytes.div_ceil(PAGE_BYTES * 64)],
            written_count: 0,
        })
    }

    /// Host addresses of the next bytes to be appended.
    pub(super) fn next(&self) -> Place {
        let [hot, cold] = self.used.map(|used| self.executable + used as u64);
        Place { hot, cold }
    }

    /// Bytes still free in the half that has less.
    pub(super) fn free(&self) -> usize {
        (self.middle - self.used[0]).min(self.bytes - self.used[1])
    }

    /// Bytes of hot code.
    pub(super) fn hot_bytes(&self) -> usize {
        self.used[0]
    }

    /// First host address of cold code.
    pub(super) fn cold_start(&self) -> u64 {
        self.executable + self.middle as u64
    }

    /// First host address, and the one behind the last.
    pub(super) fn range(&self) -> (u64, u64) {
        (self.executable, self.executable + self.bytes as u64)
    }

    /// Appends code, hot and cold, at [`Self::next`].
    ///
    /// # Panics
    /// If it does not fit: the caller has looked at [`Self::free`].
    pub(super) fn append(&mut self, (hot, cold): (&[u8], &[u8])) {
        let bytes = hot.len().max(cold.len());
        assert!(bytes <= self.free(), "the caller has checked that the code fits");
        for (half, code) in [hot, cold].into_iter().enumerate() {
            self.write(self.used[half], code);
            self.used[half] += code.len();
        }
    }

    /// Whether hot code ends with a `jmp` whose displacement is at host address `field`.
    pub(super) fn ends_with_jump(&self, field: u64) -> bool {
        let [(start, hot), _] = self.code();
        let at = hot.len().checked_sub(BRANCH_BYTES);
        at.is_some_and(|at| field == start + at as u64 + 1 && hot[at] == JUMP)
    }

    /// Takes the jump at the end of hot code back; returns [`Self::next`].
    pub(super) fn take_jump_back(&mut self) -> Place {
        self.used[0] -= BRANCH_BYTES;
        self.next()
    }

    /// Writes a `jmp` to `target`, whose displacement is at host address `field`, over code that
    /// nothing runs any more, and fills what is left of it up to `end`.
    ///
    /// # Panics
    /// If that is not in use, or shorter than the jump.
    pub(super) fn put_jump(&mut self, field: u64, end: u64, target: u64) {
        let offset = field.wrapping_sub(self.executable + 1) as usize;
        let mut code = vec![FILLER; (end - field) as usize + 1];
        assert!(offset + code.len() <= self.used[0], "the code is hot and in use");
        code[0] = JUMP;
        code[1..BRANCH_BYTES].copy_from_slice(&relative(field, target));
        self.write(offset, &code);
    }

    /// Writes code at an offset.
    fn write(&mut self, offset: usize, code: &[u8]) {
        assert!(code.len() <= self.bytes - offset, "the caller has checked that the code fits");
        // SAFETY: 1. `offset <= bytes`, by the assertion, so the sum stays inside the mapping.
        let target = unsafe { self.writable.add(offset) };
        // SAFETY: 1. `code.len()` bytes are there, by the assertion. 2. `code` is a Rust slice,
        // which cannot overlap a mapping that only this value knows.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), target, code.len()) };
        self.note_written(offset, code.len());
    }

    /// Everything in use: hot code and cold code, each with its host address.
    pub(super) fn code(&self) -> [(u64, &[u8]); 2] {
        [0, self.middle].map(|start| {
            let used = self.used[usize::from(start > 0)];
            let first = (self.executable + start as u64) as *const u8;
            // SAFETY: 1. `start <= used <= bytes` (invariant 2), and that view is readable. 2. The
            // memory is written through `&mut self` only.
            let code = unsafe { core::slice::from_raw_parts(first, used - start) };
            (self.executable + start as u64, code)
        })
    }

    /// Lets the near branch whose displacement is at host address `field` go to `target`. A `jmp`
    /// to what stands right behind it is no instruction that does anything.
    ///
    /// # Panics
    /// If the branch is not in use.
    pub(super) fn patch(&mut self, field: u64, target: u64) {
        let offset = usize::try_from(field.wrapping_sub(self.executable + 1))
            .ok()
            .filter(|offset| {
                let used = self.used[usize::from(*offset >= self.middle)];
                offset.checked_add(BRANCH_BYTES).is_some_and(|end| end <= used)
            })
            .expect("patches are inside emitted code");
        // Read there, a page of the writable view would be mapped with all its neighbours.
        let present = (self.executable + offset as u64) as *const [u8; BRANCH_BYTES];
        // SAFETY: 1. `offset + 5 <= used <= bytes`. 2. A read of bytes needs no alignment.
        let old = unsafe { present.read_unaligned() };
        // SAFETY: 1. As above.
        let branch = unsafe { self.writable.add(offset) }.cast::<[u8; BRANCH_BYTES]>();
        // SAFETY: 1. As above. 2. A write of bytes needs no alignment.
        unsafe { branch.write_unaligned(redirected(old, field, target)) };
        self.note_written(offset, BRANCH_BYTES);
    }

    /// Notes that these bytes of the writable view are mapped; unmaps all if that is too much.
    fn note_written(&mut self, offset: usize, bytes: usize) {
        self.is_dirty = true;
        for page in offset / PAGE_BYTES..(offset + bytes).div_ceil(PAGE_BYTES) {
            let word = &mut self.written[page / 64];
            self.written_count += usize::from(*word >> (page % 64) & 1 == 0);
            *word |= 1 << (page % 64);
        }
        if self.written_count > WRITTEN_MAX {
            self.written.fill(0);
            self.written_count = 0;
            let all = self.writable.cast();
            // SAFETY: 1. The mapping is ours and shared: its content stays, and comes back when it
            // is touched. 2. No reference into it lives, since `self` is borrowed mutably.
            unsafe { libc::madvise(all, self.bytes, libc::MADV_DONTNEED) };
        }
    }

    /// Gives back everything behind the first `keep` hot bytes.
    pub(super) fn reset(&mut self, keep: usize) {
        self.used = [keep.min(self.used[0]), self.middle];
        self.is_dirty = true;
    }

    /// Whether code was written since the last call: the CPU has to be told before it runs.
    pub(super) fn take_dirty(&mut self) -> bool {
        core::mem::take(&mut self.is_dirty)
    }
}

/// The bytes of a near branch whose displacement is at `field` when it goes to `target`: what is
/// before it of a `jcc` stays.
fn redirected(old: [u8; BRANCH_BYTES], field: u64, target: u64) -> [u8; BRANCH_BYTES] {
    let opcode = if old == NOTHING { JUMP } else { old[0] };
    if opcode == JUMP && target == field + 4 {
        return NOTHING;
    }
    let [first, second, third, last] = relative(field, target);
    [opcode, first, second, third, last]
}

impl Drop for Cache {
    fn drop(&mut self) {
        // SAFETY: 1. The mapping is ours, and nothing runs in it: running borrows the engine.
        unsafe { libc::munmap(self.writable.cast(), self.bytes) };
        // SAFETY: 1. As above.
        unsafe { libc::munmap(self.executable as *mut libc::c_void, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom};

    #[test]
    fn a_jump_to_the_next_instruction_is_none() {
        let field = 0x1001;
        let jump = redirected([JUMP, 9, 9, 9, 9], field, 0x1105);
        assert_eq!(jump, [JUMP, 0, 1, 0, 0]);
        let none = redirected(jump, field, 0x1005);
        assert_eq!(none, NOTHING);
        assert_eq!(redirected(none, field, 0x1105), jump);
        // `je` has no room for that: its opcode has two bytes.
        assert_eq!(redirected([0x84, 9, 9, 9, 9], field, 0x1005), [0x84, 0, 0, 0, 0]);
    }

    #[test]
    fn code_outlives_the_mapping_it_was_written_through() {
        let mut cache = Cache::new(8 << 20).expect("the host gives 8 MiB");
        let code: Vec<u8> = (0..1 << 16).map(|i: u32| (i * 7) as u8).collect();
        let field = cache.next().hot + 100;
        while cache.hot_bytes() <= WRITTEN_MAX * PAGE_BYTES {
            cache.append((&code, &code[..7]));
        }
        cache.patch(field, field + 4 + 0x0403_0201);
        let [(_, hot), (_, cold)] = cache.code();
        assert_eq!(hot[100..104], [1, 2, 3, 4]);
        assert!(hot[104..1 << 16] == code[104..] && hot[1 << 16..2 << 16] == code[..]);
        assert!(cold.chunks(7).all(|chunk| *chunk == code[..7]));
    }

    /// How many pages of the writable view are mapped now.
    fn mapped_count(cache: &Cache) -> usize {
        const PRESENT: u64 = 1 << 63;
        let mut file = File::open("/proc/self/pagemap").expect("Linux has it");
        let first = cache.writable as u64 / PAGE_BYTES as u64;
        file.seek(SeekFrom::Start(first * 8)).expect("it has an entry for each page");
        let mut entries = vec![0; cache.bytes / PAGE_BYTES * 8];
        file.read_exact(&mut entries).expect("likewise");
        let entries = entries.chunks_exact(8);
        let entries = entries.map(|entry| u64::from_le_bytes(entry.try_into().expect("8 bytes")));
        entries.filter(|entry| entry & PRESENT != 0).count()
    }

    #[test]
    fn patches_all_over_the_cache_map_few_pages_twice() {
        let mut cache = Cache::new(8 << 20).expect("the host gives 8 MiB");
        let code = [0xe9; PAGE_BYTES];
        let first = cache.next().hot;
        while cache.free() > 0 {
            cache.append((&code, &code));
            assert!(mapped_count(&cache) <= WRITTEN_MAX);
        }
        for turn in 0..400 {
            let page = turn * 7 % (cache.hot_bytes() / PAGE_BYTES);
            cache.patch(first + (page * PAGE_BYTES) as u64 + 1, first);
            assert!(mapped_count(&cache) <= WRITTEN_MAX, "patch {turn}");
        }
    }
}
