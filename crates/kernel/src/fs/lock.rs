//! Advisory locks: of ranges by a process or an open file, of whole files by an open file.
//!
//! Does not: wait. What is taken is told with who has it.
//!
//! Invariants
//! 1. Ranges of one owner in one file do not overlap.
//! 2. A lock's file is open in its owner, so its node lives.
//!
//! # Source
//! man 2 `fcntl`, `flock`; Linux 6.12 `fs/locks.c`.

use std::collections::BTreeMap;

use super::open::Opened;
use super::{FileId, News, NodeId, Vfs};
use crate::errno::Errno;

/// Most locks of a run.
const LOCKS_MAX: usize = 65_536;

/// Whose a lock is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum LockOwner {
    /// A process, by its number.
    Process(u32),
    /// An open file description.
    File(FileId),
}

/// Whether others may hold the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LockKind {
    Shared,
    Exclusive,
}

/// A locked range of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lock {
    pub(crate) owner: LockOwner,
    pub(crate) kind: LockKind,
    /// First byte.
    pub(crate) start: u64,
    /// Last byte.
    pub(crate) last: u64,
}

impl Lock {
    fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    fn conflicts(&self, other: &Self) -> bool {
        let is_exclusive = [self.kind, other.kind].contains(&LockKind::Exclusive);
        self.owner != other.owner && is_exclusive && self.overlaps(other)
    }

    /// Whether both are parts of one lock.
    fn joins(&self, other: &Self) -> bool {
        let is_adjacent = self.start <= other.last.saturating_add(1)
            && other.start <= self.last.saturating_add(1);
        self.owner == other.owner && self.kind == other.kind && is_adjacent
    }
}

/// All locks of a run.
#[derive(Default, Debug)]
pub(crate) struct Locks {
    /// Of ranges, by their starts.
    ranges: BTreeMap<NodeId, Vec<Lock>>,
    /// Of whole files.
    whole: BTreeMap<NodeId, Vec<(FileId, LockKind)>>,
    /// Tasks that wait for a lock: their process, and that which has it.
    pub(crate) waiting: BTreeMap<u32, (u32, u32)>,
    count: usize,
}

impl Locks {
    /// Forgets all of a file that is gone.
    pub(crate) fn forget_node(&mut self, node: NodeId) {
        if let Some(ranges) = self.ranges.remove(&node) {
            self.count -= ranges.len();
        }
        self.whole.remove(&node);
    }
}

impl Vfs {
    /// The first lock that keeps `lock` from being set.
    pub(crate) fn lock_conflict(&self, node: NodeId, lock: &Lock) -> Option<Lock> {
        self.locks.ranges.get(&node)?.iter().find(|held| held.conflicts(lock)).copied()
    }

    /// Sets a lock on its range, or takes all of its owner's off there with `kind` none.
    ///
    /// # Errors
    /// `EAGAIN`: somebody else has a part. `ENOLCK`: too many.
    pub(crate) fn set_lock(
        &mut self,
        node: NodeId,
        lock: Lock,
        kind: Option<LockKind>,
    ) -> Result<(), Errno> {
        if kind.is_some() && self.lock_conflict(node, &lock).is_some() {
            return Err(Errno::EAGAIN);
        }
        if kind.is_some() && self.locks.count >= LOCKS_MAX {
            return Err(Errno::ENOLCK);
        }
        let ranges = self.locks.ranges.entry(node).or_default();
        let before = ranges.len();
        let mut kept = Vec::with_capacity(before + 2);
        for held in ranges.drain(..) {
            if held.owner != lock.owner || !held.overlaps(&lock) {
                kept.push(held);
                continue;
            }
            if held.start < lock.start {
                kept.push(Lock { last: lock.start - 1, ..held });
            }
            if held.last > lock.last {
                kept.push(Lock { start: lock.last + 1, ..held });
            }
        }
        if kind.is_some() {
            let mut new = lock;
            kept.retain(|held| {
                let is_joined = held.joins(&new);
                if is_joined {
                    new.start = new.start.min(held.start);
                    new.last = new.last.max(held.last);
                }
                !is_joined
            });
            kept.push(new);
        }
        kept.sort_by_key(|held| (held.start, held.owner));
        self.locks.count = self.locks.count + kept.len() - before;
        if kept.is_empty() {
            self.locks.ranges.remove(&node);
        } else {
            self.locks.ranges.insert(node, kept);
        }
        self.news.push(News::Node(node));
        Ok(())
    }

    /// Takes all locks of ranges off a file that their owner closes.
    fn drop_ranges(&mut self, node: NodeId, owner: LockOwner) {
        let Some(ranges) = self.locks.ranges.get_mut(&node) else { return };
        let before = ranges.len();
        ranges.retain(|held| held.owner != owner);
        let gone = before - ranges.len();
        if ranges.is_empty() {
            self.locks.ranges.remove(&node);
        }
        self.locks.count -= gone;
        if gone > 0 {
            self.news.push(News::Node(node));
        }
    }

    /// A process closes a descriptor of the file: its locks there are gone, whatever other
    /// descriptors it has.
    pub(crate) fn drop_process_locks(&mut self, file: FileId, pid: u32) {
        if self.locks.ranges.is_empty() {
            return;
        }
        let file = self.file(file);
        if let (Some(node), false) = (file.node(), matches!(file.opened, Opened::Path(_))) {
            self.drop_ranges(node, LockOwner::Process(pid));
        }
    }

    /// A process ends.
    pub(crate) fn drop_all_locks(&mut self, pid: u32) {
        let nodes: Vec<NodeId> = self.locks.ranges.keys().copied().collect();
        for node in nodes {
            self.drop_ranges(node, LockOwner::Process(pid));
        }
        self.locks.waiting.retain(|_, (waiter, _)| *waiter != pid);
    }

    /// An open file description is closed for good.
    pub(crate) fn drop_file_locks(&mut self, node: NodeId, file: FileId) {
        self.drop_ranges(node, LockOwner::File(file));
        // Nothing to take off is no error.
        let _ = self.lock_whole(node, file, None);
    }

    /// `flock`: locks a whole file, or lets go of it with `kind` none.
    ///
    /// # Errors
    /// `EAGAIN`: somebody else has it. A lock of the other kind is lost even so, as on Linux.
    pub(crate) fn lock_whole(
        &mut self,
        node: NodeId,
        file: FileId,
        kind: Option<LockKind>,
    ) -> Result<(), Errno> {
        if kind.is_none() && !self.locks.whole.contains_key(&node) {
            return Ok(());
        }
        let holders = self.locks.whole.entry(node).or_default();
        if kind.is_some_and(|kind| holders.contains(&(file, kind))) {
            return Ok(());
        }
        let before = holders.len();
        holders.retain(|(holder, _)| *holder != file);
        let is_less = holders.len() < before;
        let is_taken = kind.is_some_and(|kind| {
            holders.iter().any(|(_, held)| [kind, *held].contains(&LockKind::Exclusive))
        });
        if let (Some(kind), false) = (kind, is_taken) {
            holders.push((file, kind));
        }
        if holders.is_empty() {
            self.locks.whole.remove(&node);
        }
        if is_less {
            self.news.push(News::Node(node));
        }
        if is_taken { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// Whether process `pid` would wait for itself if it waited for `blocker`.
    pub(crate) fn waits_in_circle(&self, pid: u32, blocker: u32) -> bool {
        let mut here = blocker;
        // No chain is longer than there are waiting tasks.
        for _ in 0..=self.locks.waiting.len() {
            if here == pid {
                return true;
            }
            let next = self.locks.waiting.values().find(|(waiter, _)| *waiter == here);
            let Some(&(_, next)) = next else { return false };
            here = next;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{Lock, LockKind, LockOwner};

    #[test]
    fn locks_of_one_owner_never_conflict() {
        let lock =
            |pid, kind, start, last| Lock { owner: LockOwner::Process(pid), kind, start, last };
        let held = lock(1, LockKind::Exclusive, 10, 19);
        assert!(!held.conflicts(&lock(1, LockKind::Shared, 0, 100)));
        assert!(held.conflicts(&lock(2, LockKind::Shared, 19, 19)));
        assert!(!held.conflicts(&lock(2, LockKind::Exclusive, 20, u64::MAX)));
        assert!(held.joins(&lock(1, LockKind::Exclusive, 20, 30)));
        assert!(!held.joins(&lock(1, LockKind::Exclusive, 21, 30)));
    }
}
