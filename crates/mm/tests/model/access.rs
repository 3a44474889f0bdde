//! Loads and stores of the active address space.

use machine::{Access, PAGE_BYTES, VirtAddr};
use mm::{FaultError, Rights, Sharing, handle_fault};

use crate::world::{FIRST, PAGE, World, at};

impl World {
    pub(crate) fn step_access(&mut self) {
        let page = FIRST + self.random.below(self.count);
        let access = [Access::Read, Access::Write][self.random.below(2) as usize];
        self.access_page(page, access);
    }

    /// Accesses to all pages of a range, as a program makes that goes over its memory.
    pub(crate) fn step_sweep(&mut self) {
        let (first, count) = self.range();
        let access = [Access::Read, Access::Write][self.random.below(2) as usize];
        for page in first..first + count {
            self.access_page(page, access);
        }
    }

    /// One access, and for a write a store, compared with the model.
    pub(crate) fn access_page(&mut self, page: u64, access: Access) {
        let found = self.access(at(page), access);
        if found.is_ok() {
            self.look_at_lazy(page, access);
        }
        let expected = self.expected(page, access);
        if matches!(found, Err(FaultError::OutOfMemory { .. })) {
            assert!(matches!(expected, Ok(_) | Err(FaultError::BusError { .. })));
            self.refused += 1;
            return;
        }
        match (found, expected) {
            (Ok(()), Ok(expected)) => {
                let (physical, _) = self.hw.peek(self.mm.root(), at(page)).unwrap();
                let bytes = self.hw.ram.slice(physical, PAGE_BYTES);
                assert!(bytes == expected, "bytes of page {page:#x}");
                if access == Access::Write {
                    self.store(page);
                }
            }
            (found, expected) => assert_eq!(found, expected.map(|_| ())),
        }
    }

    /// A page that was freed lazily has its content still, or none; a store settles it.
    fn look_at_lazy(&mut self, page: u64, access: Access) {
        let Some(model) = self.pages.get_mut(&page).filter(|model| model.is_lazy) else { return };
        let (physical, _) = self.hw.peek(self.mm.root(), at(page)).unwrap();
        let is_gone = self.hw.ram.slice(physical, PAGE_BYTES).iter().all(|&byte| byte == 0);
        if is_gone {
            model.copy = None;
        }
        model.is_lazy = !is_gone && access != Access::Write;
    }

    fn store(&mut self, page: u64) {
        let (offset, byte) = (self.random.below(PAGE_BYTES) as usize, self.random.below(256) as u8);
        let (physical, _) = self.hw.peek(self.mm.root(), at(page)).unwrap();
        self.hw.store(physical.wrapping_add(offset as u64), &[byte]);
        let bytes = self.expected(page, Access::Write).unwrap().to_vec();
        self.store_model(page, offset, byte, bytes);
    }

    /// What the model says to an access, and the bytes of the page.
    pub(crate) fn expected(&self, page: u64, access: Access) -> Result<&[u8], FaultError> {
        static ZEROS: [u8; PAGE] = [0; PAGE];
        let addr = at(page);
        let model = self.pages.get(&page).ok_or(FaultError::NoVma { addr })?;
        let is_allowed = match access {
            Access::Write => model.rights.contains(Rights::WRITE),
            _ => !model.rights.is_empty(),
        };
        if !is_allowed {
            return Err(FaultError::Denied { addr });
        }
        match (&model.copy, model.file) {
            (Some(copy), _) => Ok(copy),
            (None, None) => Ok(&ZEROS),
            (None, Some((file, page))) => {
                let bytes = &self.files[file].bytes;
                bytes.get(page * PAGE..(page + 1) * PAGE).ok_or(FaultError::BusError { addr })
            }
        }
    }

    /// Notes a store to a page that had `bytes`.
    pub(crate) fn store_model(&mut self, page: u64, offset: usize, byte: u8, mut bytes: Vec<u8>) {
        bytes[offset] = byte;
        let model = self.pages.get_mut(&page).unwrap();
        match (model.sharing, model.file) {
            (Sharing::Shared, Some((file, page))) => {
                self.files[file].bytes[page * PAGE..(page + 1) * PAGE].copy_from_slice(&bytes);
            }
            _ => model.copy = Some(bytes),
        }
    }

    pub(crate) fn access(&mut self, addr: VirtAddr, access: Access) -> Result<(), FaultError> {
        for _ in 0..3 {
            match self.hw.access(addr, access) {
                Ok(place) => {
                    let walked = self.hw.peek(self.mm.root(), addr).map(|(place, _)| place);
                    assert_eq!(walked, Some(place), "a stale translation of {addr}");
                    return Ok(());
                }
                Err(fault) => {
                    handle_fault(&mut self.mm, &mut self.memory, &mut self.hw, fault)?;
                }
            }
        }
        panic!("the same fault again and again at {addr}");
    }
}
