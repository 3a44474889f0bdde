//! How epolls may lie in each other: no circle, not deep, and not so that one event would have to
//! go ways without number.
//!
//! Invariants
//! 1. No way from an open file up through epolls is longer than [`NESTED_MAX`] + 1.
//!
//! # Source
//! Linux 6.18 `fs/eventpoll.c`: `ep_loop_check`, `reverse_path_check`.

use std::collections::{BTreeMap, BTreeSet};

use crate::Kernel;
use crate::errno::Errno;
use crate::fs::{FileId, Opened};

/// How many epolls may lie in an epoll, one in the other.
const NESTED_MAX: u32 = 4;
/// How many ways of two and more steps may lead from a file to epolls, by their length.
const PATHS_MAX: [u32; 4] = [500, 100, 50, 10];

impl Kernel {
    /// Refuses to put the epoll `inner` into the epoll `outer` if that makes a circle or goes too
    /// deep.
    ///
    /// # Errors
    /// `ELOOP`.
    pub(super) fn check_nesting(&self, inner: FileId, outer: FileId) -> Result<(), Errno> {
        let mut below = BTreeMap::new();
        let below_count = self.epolls_below(inner, &mut below);
        let above_count = self.epolls_above(outer, &mut BTreeMap::new());
        let is_deep = below_count + 1 + above_count > NESTED_MAX;
        if is_deep || below.contains_key(&outer) { Err(Errno::ELOOP) } else { Ok(()) }
    }

    /// How many epolls lie in this one, one in the other; all of them are in `known` then.
    fn epolls_below(&self, epoll: FileId, known: &mut BTreeMap<FileId, u32>) -> u32 {
        if let Some(&count) = known.get(&epoll) {
            return count;
        }
        let mut most = 0;
        if let Opened::Epoll(interests) = &self.vfs.file(epoll).opened {
            for interest in interests {
                if self.is_epoll(interest.file) {
                    most = most.max(1 + self.epolls_below(interest.file, known));
                }
            }
        }
        known.insert(epoll, most);
        most
    }

    /// In how many epolls this one lies, one in the other.
    fn epolls_above(&self, epoll: FileId, known: &mut BTreeMap<FileId, u32>) -> u32 {
        if let Some(&count) = known.get(&epoll) {
            return count;
        }
        let watchers = &self.vfs.file(epoll).watchers;
        let counts = watchers.iter().map(|&outer| 1 + self.epolls_above(outer, known));
        let most = counts.max().unwrap_or(0);
        known.insert(epoll, most);
        most
    }

    /// Refuses what would make too many ways from the files below `file` to epolls above them. To
    /// be asked when the epoll watches the file already.
    ///
    /// Differs from Linux: epolls that watch nothing are counted too, because looking whether they
    /// are ready takes all ways.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(super) fn check_paths(&self, file: FileId) -> Result<(), Errno> {
        let mut below = BTreeMap::new();
        self.epolls_below(file, &mut below);
        let mut files = BTreeSet::new();
        for &epoll in below.keys() {
            files.insert(epoll);
            if let Opened::Epoll(interests) = &self.vfs.file(epoll).opened {
                files.extend(interests.iter().map(|interest| interest.file));
            }
        }
        for file in files {
            let length = usize::from(self.is_epoll(file));
            self.count_paths(file, length, &mut [0; PATHS_MAX.len()])?;
        }
        Ok(())
    }

    fn count_paths(
        &self,
        file: FileId,
        length: usize,
        counts: &mut [u32; PATHS_MAX.len()],
    ) -> Result<(), Errno> {
        for &epoll in &self.vfs.file(file).watchers {
            if let Some(index) = length.checked_sub(1) {
                let (Some(count), Some(most)) = (counts.get_mut(index), PATHS_MAX.get(index))
                else {
                    return Err(Errno::EINVAL);
                };
                *count += 1;
                if *count > *most {
                    return Err(Errno::EINVAL);
                }
            }
            self.count_paths(epoll, length + 1, counts)?;
        }
        Ok(())
    }

    fn is_epoll(&self, file: FileId) -> bool {
        matches!(self.vfs.file(file).opened, Opened::Epoll(_))
    }
}
