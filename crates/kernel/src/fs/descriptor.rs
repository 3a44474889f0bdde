//! The descriptor numbers of a task.

use super::{FileId, Vfs};
use crate::errno::Errno;

/// Most descriptors whatever `RLIMIT_NOFILE` says: Linux's `fs.nr_open`.
const NUMBER_MAX: u64 = 1 << 20;

/// What `execve` does with a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Inherit {
    /// Keeps it.
    Keep,
    /// Closes it: `FD_CLOEXEC`.
    Close,
}

#[derive(Clone, Copy, Debug)]
struct Descriptor {
    file: FileId,
    inherit: Inherit,
}

/// The descriptor numbers of one task and the open files behind them.
#[derive(Default, Debug)]
pub struct FdTable {
    slots: Vec<Option<Descriptor>>,
    /// No number below is free.
    first_free: u64,
}

impl FdTable {
    /// A table with these files as 0, 1, 2 and so on.
    pub(crate) fn with(files: &[FileId]) -> Self {
        let descriptor = |&file| Some(Descriptor { file, inherit: Inherit::Keep });
        Self { slots: files.iter().map(descriptor).collect(), first_free: 0 }
    }

    /// The open file behind a descriptor argument: the low 32 bits of a register.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, fd: u64) -> Result<FileId, Errno> {
        self.slot(fd).map(|descriptor| descriptor.file)
    }

    fn slot(&self, fd: u64) -> Result<&Descriptor, Errno> {
        let place = usize::try_from(fd & 0xffff_ffff).ok().and_then(|fd| self.slots.get(fd));
        place.and_then(Option::as_ref).ok_or(Errno::EBADF)
    }

    /// All numbers in use, ascending.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_some());
        used.filter_map(|(number, _)| u32::try_from(number).ok())
    }

    /// How many descriptors the table has room for, as Linux makes it grow.
    ///
    /// # Source
    /// Linux 6.12 `fs/file.c:alloc_fdtable`.
    pub(crate) fn capacity(&self) -> usize {
        match self.slots.len() {
            0..=64 => 64,
            used => used.div_ceil(128).next_power_of_two() * 128,
        }
    }

    /// What `execve` does with the descriptor.
    pub(crate) fn inherit(&self, fd: u64) -> Result<Inherit, Errno> {
        self.slot(fd).map(|descriptor| descriptor.inherit)
    }

    pub(crate) fn set_inherit(&mut self, fd: u64, inherit: Inherit) -> Result<(), Errno> {
        let place = usize::try_from(fd & 0xffff_ffff).ok().and_then(|fd| self.slots.get_mut(fd));
        place.and_then(Option::as_mut).ok_or(Errno::EBADF)?.inherit = inherit;
        Ok(())
    }

    /// Gives `file` the lowest free number from `lowest` up.
    ///
    /// # Errors
    /// `EMFILE`: none below `limit`. The caller keeps the file.
    pub(crate) fn insert(
        &mut self,
        file: FileId,
        inherit: Inherit,
        lowest: u64,
        limit: u64,
    ) -> Result<u64, Errno> {
        let start = lowest.max(self.first_free);
        let free = (start..limit.min(NUMBER_MAX)).find(|&fd| self.slot(fd).is_err());
        let fd = free.ok_or(Errno::EMFILE)?;
        if lowest <= self.first_free {
            self.first_free = fd + 1;
        }
        self.put(fd, file, inherit);
        Ok(fd)
    }

    /// Gives `file` the number `fd`; returns what had it.
    pub(crate) fn put(&mut self, fd: u64, file: FileId, inherit: Inherit) -> Option<FileId> {
        let place = usize::try_from(fd.min(NUMBER_MAX)).unwrap_or(0);
        if place >= self.slots.len() {
            self.slots.resize(place + 1, None);
        }
        let old = self.slots[place].replace(Descriptor { file, inherit });
        old.map(|descriptor| descriptor.file)
    }

    /// Frees a number; the caller releases the file.
    ///
    /// # Errors
    /// `EBADF`.
    pub(crate) fn take(&mut self, fd: u64) -> Result<FileId, Errno> {
        let place = usize::try_from(fd & 0xffff_ffff).ok().and_then(|fd| self.slots.get_mut(fd));
        let descriptor = place.and_then(Option::take).ok_or(Errno::EBADF)?;
        self.first_free = self.first_free.min(fd & 0xffff_ffff);
        Ok(descriptor.file)
    }

    /// The same descriptors for another task.
    pub(crate) fn copy(&self, vfs: &mut Vfs) -> Self {
        for descriptor in self.slots.iter().flatten() {
            vfs.retain(descriptor.file);
        }
        Self { slots: self.slots.clone(), first_free: self.first_free }
    }

    /// Takes the files out that `execve` closes, for the caller to release.
    pub(crate) fn take_closing(&mut self) -> Vec<FileId> {
        let mut files = Vec::new();
        self.first_free = 0;
        for slot in &mut self.slots {
            if let Some(Descriptor { file, inherit: Inherit::Close }) = *slot {
                files.push(file);
                *slot = None;
            }
        }
        files
    }

    /// Closes everything.
    pub fn close_all(&mut self, vfs: &mut Vfs) {
        self.first_free = 0;
        for slot in self.slots.drain(..).flatten() {
            vfs.release(slot.file);
        }
    }
}
