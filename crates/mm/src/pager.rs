//! Who has the content of a page that is not in RAM.

use machine::PAGE_BYTES;

use crate::error::PagerError;

/// Brings and takes the pages of one object: a file, shared memory, a remote machine.
///
/// Implemented above this crate; called by the page cache, which keeps what was brought.
pub trait Pager {
    /// Writes the content of page `index` into `page`, 4,096 zero bytes.
    ///
    /// Bytes beyond [`Pager::size_bytes`] must stay zero; the page cache makes sure.
    ///
    /// # Errors
    /// What the device says; the faulting task gets SIGBUS.
    fn fill(&mut self, index: u64, page: &mut [u8]) -> Result<(), PagerError>;

    /// Writes the content of neighbouring pages, the first of which is `first`, into `bytes`, a
    /// multiple of 4,096 bytes of any content; those beyond the size become anything.
    ///
    /// # Errors
    /// As [`Pager::fill`]; `bytes` is then anything.
    fn fill_run(&mut self, first: u64, bytes: &mut [u8]) -> Result<(), PagerError> {
        for (index, page) in (first..).zip(bytes.chunks_mut(PAGE_BYTES as usize)) {
            page.fill(0);
            self.fill(index, page)?;
        }
        Ok(())
    }

    /// Takes the content of page `index`: at most 4,096 bytes, none beyond the size.
    ///
    /// # Errors
    /// What the device says; the page stays dirty.
    fn store(&mut self, index: u64, page: &[u8]) -> Result<(), PagerError>;

    /// Takes the content of neighbouring pages, the first of which is `first`: any number of
    /// bytes, none beyond the size.
    ///
    /// # Errors
    /// As [`Pager::store`]; any of the pages may have been taken.
    fn store_run(&mut self, first: u64, bytes: &[u8]) -> Result<(), PagerError> {
        for (index, page) in (first..).zip(bytes.chunks(PAGE_BYTES as usize)) {
            self.store(index, page)?;
        }
        Ok(())
    }

    /// Makes sure that a later [`Pager::store`] of page `index` will find room.
    ///
    /// # Errors
    /// There is none: the page must not be changed (SIGBUS).
    fn reserve(&mut self, index: u64) -> Result<(), PagerError> {
        let _ = index;
        Ok(())
    }

    /// The size of the object in bytes, now.
    fn size_bytes(&self) -> u64;

    /// Whether page `index` has content of its own. A page without (a hole in shared memory) is
    /// zero and comes to the page cache only by a fault on itself, not by a fault nearby.
    fn has(&self, index: u64) -> bool {
        let _ = index;
        true
    }
}

/// A pager that has nothing: the content of `MAP_SHARED | MAP_ANONYMOUS` lives in the page cache.
#[derive(Clone, Copy, Debug)]
pub struct ZeroPager {
    size_bytes: u64,
}

impl ZeroPager {
    /// An object of `size_bytes` zeros.
    pub const fn new(size_bytes: u64) -> Self {
        Self { size_bytes }
    }
}

impl Pager for ZeroPager {
    fn fill(&mut self, _index: u64, _page: &mut [u8]) -> Result<(), PagerError> {
        Ok(())
    }

    fn store(&mut self, _index: u64, _page: &[u8]) -> Result<(), PagerError> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn has(&self, _index: u64) -> bool {
        false
    }
}
