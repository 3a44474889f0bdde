//! Files: their size and content change, their pages leave and come.

use machine::PAGE_BYTES;
use mm::Mm;

use crate::world::{PAGE, World};

impl World {
    pub(crate) fn step_truncate(&mut self) {
        let file = self.random.below(2) as usize;
        let size = self.random.below(30 * PAGE_BYTES) as usize;
        let size = self.size(size);
        let is_lower = size < self.files[file].size;
        let (pager, object) = self.object(file);
        pager.0.borrow_mut().resize(size, 0);
        let others = self.others.iter_mut().map(|other| &mut other.mm);
        let mut spaces: Vec<&mut Mm> = std::iter::once(&mut self.mm).chain(others).collect();
        self.memory.truncate_object(&mut spaces, &mut self.hw, object, size as u64);
        self.resize_model(file, size);
        if !is_lower {
            return;
        }
        let others = self.others.iter_mut().flat_map(|other| other.pages.values_mut());
        for model in self.pages.values_mut().chain(others) {
            if model.file.is_some_and(|(id, page)| id == file && page >= size.div_ceil(PAGE)) {
                model.copy = None;
            }
        }
    }

    pub(crate) fn resize_model(&mut self, file: usize, size: usize) {
        let model = &mut self.files[file];
        let (old, padded) = (model.size, size.next_multiple_of(PAGE));
        let low = old.min(size);
        let end = model.bytes.len().min(low.next_multiple_of(PAGE));
        model.bytes[low..end].fill(0);
        model.bytes.truncate(low.next_multiple_of(PAGE));
        model.bytes.resize(padded, 0);
        model.size = size;
    }

    pub(crate) fn step_write_file(&mut self) {
        let file = self.random.below(2) as usize;
        let start = self.random.below(24 * PAGE_BYTES) as usize;
        let length = 1 + self.random.below(2 * PAGE_BYTES) as usize;
        let byte = self.random.below(256) as u8;
        let (pager, object) = self.object(file);
        let end = start + length;
        let size_end = self.size(end);
        if end > self.files[file].size {
            self.resize_model(file, size_end);
        }
        self.files[file].bytes[start..end].fill(byte);
        let written = vec![byte; length];
        if self.random.below(2) == 0 {
            self.memory.object_grown(&mut self.hw, object);
            let held = pager.0.borrow().len();
            pager.0.borrow_mut().resize(if end > held { size_end } else { held }, 0);
            let done = self.memory.write_object(&mut self.hw, object, start as u64, &written);
            assert_eq!(done, Ok(length));
            return;
        }
        {
            let mut bytes = pager.0.borrow_mut();
            let size = if end > bytes.len() { size_end } else { bytes.len() };
            bytes.resize(size, 0);
            bytes[start..end].fill(byte);
        }
        self.memory.object_written(&mut self.hw, object, start as u64, &written);
    }

    pub(crate) fn step_read_file(&mut self) {
        let file = self.random.below(2) as usize;
        let start = self.random.below(24 * PAGE_BYTES) as usize;
        let mut bytes = vec![0; 1 + self.random.below(2 * PAGE_BYTES) as usize];
        let (_, object) = self.object(file);
        let ahead = &mut self.ahead;
        let read = self.memory.read_object(&mut self.hw, object, (start as u64, &mut bytes), ahead);
        let model = &self.files[file];
        let start = start.min(model.size);
        let expected = &model.bytes[start..(start + bytes.len()).min(model.size)];
        assert_eq!(read, Ok(expected.len()));
        assert_eq!(&bytes[..expected.len()], expected);
    }

    /// Drops clean pages, or asks for some.
    pub(crate) fn step_discard(&mut self) {
        let (_, object) = self.object(0);
        let first = self.random.below(24);
        match self.random.below(4) {
            0 => self.memory.drop_clean_cache(&mut self.hw),
            1 => self.memory.discard(&mut self.hw, object, first..=first + 4),
            _ => {
                self.memory.prefetch(&mut self.hw, object, first, 8);
                0
            }
        };
    }

    pub(crate) fn step_write_back(&mut self) {
        let file = self.random.below(2) as usize;
        let (pager, object) = self.object(file);
        self.memory.write_back(&mut self.hw, object, mm::ALL_PAGES).unwrap();
        let model = &mut self.files[file];
        if file == 0 {
            // Not shared memory, which nobody else has.
            assert!(pager.0.borrow()[..] == model.bytes[..model.size], "all is stored");
            // What was stored behind the end is gone (FILE-2).
            model.bytes[model.size..].fill(0);
        }
    }
}
