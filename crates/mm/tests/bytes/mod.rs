//! A file in memory, as tests give it to the page cache.

use std::cell::RefCell;
use std::rc::Rc;

use machine::PAGE_BYTES;
use mm::{Pager, PagerError};

const PAGE: usize = PAGE_BYTES as usize;

/// The content of a file, shared by all who hold it.
#[derive(Clone)]
pub(crate) struct Bytes(pub(crate) Rc<RefCell<Vec<u8>>>);

impl Bytes {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Rc::new(RefCell::new(bytes)))
    }
}

impl Pager for Bytes {
    fn fill(&mut self, index: u64, page: &mut [u8]) -> Result<(), PagerError> {
        let bytes = self.0.borrow();
        let rest = bytes.get(index as usize * PAGE..).ok_or(PagerError::NoPage { index })?;
        let count = rest.len().min(PAGE);
        page[..count].copy_from_slice(&rest[..count]);
        Ok(())
    }

    fn store(&mut self, index: u64, page: &[u8]) -> Result<(), PagerError> {
        let start = index as usize * PAGE;
        self.0.borrow_mut()[start..start + page.len()].copy_from_slice(page);
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.0.borrow().len() as u64
    }
}
