//! Memory calls.

use std::sync::Arc;

use machine::{PAGE_BYTES, VirtRange};
use mm::ops::{
    Advice, MapFlags, MapRequest, MapSource, ProtectFlags, RemapFlags, madvise, mmap, mprotect,
    mremap, munmap, reserve_statics,
};
use mm::{MmError, Sharing};

use crate::world::{FIRST, ModelFile, ModelPage, PAGE, World, at};

impl World {
    /// Some pages are static variables.
    pub(crate) fn step_reserve(&mut self) {
        let (first, count) = self.range();
        let range = VirtRange::new(at(first), at(first + count));
        reserve_statics(&self.mm, &mut self.memory, range);
    }

    pub(crate) fn step_mmap(&mut self) {
        let ((first, count), rights) = (self.range(), self.rights());
        let sharing = [Sharing::Private, Sharing::Shared][self.random.below(2) as usize];
        let which = self.random.below(3) as usize;
        let skip = self.random.below(10) as usize;
        let source = match which {
            2 => MapSource::Anonymous,
            _ => {
                let file = Arc::clone(&self.files[which].real.as_ref().unwrap().1);
                MapSource::File { file, offset: skip as u64 * PAGE_BYTES }
            }
        };
        let file = match (which, sharing) {
            (2, Sharing::Private) => None,
            (2, Sharing::Shared) => {
                let bytes = vec![0; count as usize * PAGE];
                self.files.push(ModelFile { size: bytes.len(), bytes, real: None });
                Some((self.files.len() - 1, 0))
            }
            _ => Some((which, skip)),
        };
        let request = MapRequest {
            addr: at(first).as_u64(),
            bytes: count * PAGE_BYTES,
            rights,
            sharing,
            flags: MapFlags::FIXED,
            source,
        };
        mmap(&mut self.mm, &mut self.memory, &mut self.hw, request).unwrap();
        for i in 0..count {
            let file = file.map(|(file, skip)| (file, skip + i as usize));
            self.pages.insert(first + i, ModelPage::new(rights, sharing, file));
        }
    }

    pub(crate) fn step_munmap(&mut self) {
        let (first, count) = self.range();
        let bytes = count * PAGE_BYTES;
        munmap(&mut self.mm, &mut self.memory, &mut self.hw, at(first), bytes).unwrap();
        self.unmap_model(first, count);
    }

    pub(crate) fn step_mprotect(&mut self) {
        let ((first, count), rights) = (self.range(), self.rights());
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        let how = (rights, ProtectFlags::empty());
        let done = mprotect(&mut self.mm, memory, hw, at(first), count * PAGE_BYTES, how);
        for page in first..first + count {
            let Some(model) = self.pages.get_mut(&page) else {
                assert!(done.is_err());
                return;
            };
            model.rights = rights;
            if model.is_locked {
                self.note_copy(page);
            }
        }
        assert_eq!(done, Ok(()));
    }

    pub(crate) fn step_mremap(&mut self) {
        let (first, count) = self.range();
        let count = count.min(16);
        let target = FIRST + self.random.below(self.count - count);
        let is_mapped = (first..first + count).all(|page| self.pages.contains_key(&page));
        if !is_mapped || first < target + count && target < first + count {
            return;
        }
        let bytes = count * PAGE_BYTES;
        let flags = RemapFlags::MAY_MOVE | RemapFlags::FIXED;
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        let lengths = (at(first), bytes, bytes);
        let moved = mremap(&mut self.mm, memory, hw, lengths, flags, at(target));
        self.unmap_model(target, count);
        if moved.is_err() {
            return;
        }
        for i in 0..count {
            let model = self.pages.remove(&(first + i)).unwrap();
            self.pages.insert(target + i, model);
        }
    }

    pub(crate) fn step_dont_need(&mut self) {
        let (first, count) = self.range();
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        let range = (at(first), count * PAGE_BYTES);
        let done = madvise(&mut self.mm, memory, hw, range, Advice::DontNeed);
        for page in first..first + count {
            let Some(model) = self.pages.get_mut(&page) else { continue };
            if model.is_locked {
                assert!(matches!(done, Err(MmError::InvalidArgument(_))), "{done:?}");
                return;
            }
            model.copy = None;
            model.is_lazy = false;
        }
    }

    pub(crate) fn unmap_model(&mut self, first: u64, count: u64) {
        for page in first..first + count {
            self.pages.remove(&page);
        }
    }
}
