//! Advisory locks: of ranges by a process or an open file, of whole files by an open file.
//!
//! Does not: wait. What is taken is told with who has it.
//!
//! Invariants
//! 1. Ranges of one owner in one file do not overlap.
//! 2. A lock's file is open in its owner, so its node lives.
//! 3. Each lock has [`LOCK_BYTES`] of our memory.
//!
//! # Source
//! man 2 `fcntl`, `flock`; Linux 6.12 `fs/locks.c`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::open::Opened;
use super::pool::{Pool, Share};
use super::{FileId, News, NodeId, Vfs};
use crate::errno::Errno;

/// What a lock takes of our memory, with its part of the tables that it lies in.
const LOCK_BYTES: usize = 160;

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
    fn conflicts(&self, other: &Self) -> bool {
        let is_exclusive = [self.kind, other.kind].contains(&LockKind::Exclusive);
        let is_common = self.start <= other.last && other.start <= self.last;
        self.owner != other.owner && is_exclusive && is_common
    }
}

/// What one owner has locked of a file.
#[derive(Debug)]
struct Holder {
    owner: LockOwner,
    /// By the first byte: the last one.
    ranges: BTreeMap<u64, (u64, LockKind)>,
}

impl Holder {
    /// The locks with a byte in this range, the last one first.
    fn within(&self, start: u64, last: u64) -> impl Iterator<Item = Lock> + '_ {
        let before = self.ranges.range(..=last).rev();
        let here = before.take_while(move |(_, (its_last, _))| *its_last >= start);
        here.map(|(&start, &(last, kind))| Lock { owner: self.owner, kind, start, last })
    }
}

/// All locks of a run.
#[derive(Debug)]
pub(crate) struct Locks {
    /// Of ranges; who came first stands first, as on Linux.
    ranges: BTreeMap<NodeId, Vec<Holder>>,
    /// Of whole files.
    whole: BTreeMap<NodeId, Vec<(FileId, LockKind)>>,
    /// Tasks that wait for a lock: their process, and that which has it.
    pub(crate) waiting: BTreeMap<u32, (u32, u32)>,
    /// What all locks take of our memory.
    share: Share,
}

impl Locks {
    /// No locks; those to come take of the pool.
    pub(crate) fn new(pool: &Arc<Pool>) -> Self {
        Self {
            ranges: BTreeMap::new(),
            whole: BTreeMap::new(),
            waiting: BTreeMap::new(),
            share: Share::empty(pool),
        }
    }

    /// Forgets all of a file that is gone.
    pub(crate) fn forget_node(&mut self, node: NodeId) {
        for holder in self.ranges.remove(&node).unwrap_or_default() {
            self.share.shrink(holder.ranges.len() * LOCK_BYTES);
        }
        if let Some(holders) = self.whole.remove(&node) {
            self.share.shrink(holders.len() * LOCK_BYTES);
        }
    }

    /// What its owner has locked of the file.
    fn holder(&mut self, node: NodeId, owner: LockOwner) -> &mut Holder {
        let holders = self.ranges.entry(node).or_default();
        let index = holders.iter().position(|holder| holder.owner == owner);
        let index = index.unwrap_or_else(|| {
            holders.push(Holder { owner, ranges: BTreeMap::new() });
            holders.len() - 1
        });
        &mut holders[index]
    }
}

impl Vfs {
    /// The first lock that keeps `lock` from being set.
    pub(crate) fn lock_conflict(&self, node: NodeId, lock: &Lock) -> Option<Lock> {
        let holders = self.locks.ranges.get(&node)?;
        let conflicting = |holder: &Holder| {
            holder.within(lock.start, lock.last).filter(|held| held.conflicts(lock)).last()
        };
        holders.iter().find_map(conflicting)
    }

    /// Sets a lock on its range, or takes all of its owner's off there with `kind` none.
    ///
    /// # Errors
    /// `EAGAIN`: somebody else has a part. `ENOLCK`: too many. Nothing has changed then.
    pub(crate) fn set_lock(
        &mut self,
        node: NodeId,
        lock: Lock,
        kind: Option<LockKind>,
    ) -> Result<(), Errno> {
        if kind.is_some() && self.lock_conflict(node, &lock).is_some() {
            return Err(Errno::EAGAIN);
        }
        let mut new = lock;
        let mut gone = Vec::new();
        let mut left = Vec::new();
        let holder = self.locks.holder(node, lock.owner);
        for held in holder.within(lock.start.saturating_sub(1), lock.last.saturating_add(1)) {
            if kind == Some(held.kind) {
                new.start = new.start.min(held.start);
                new.last = new.last.max(held.last);
            } else if held.start > lock.last || held.last < lock.start {
                continue;
            } else {
                if held.start < lock.start {
                    left.push(Lock { last: lock.start - 1, ..held });
                }
                if held.last > lock.last {
                    left.push(Lock { start: lock.last + 1, ..held });
                }
            }
            gone.push(held.start);
        }
        left.extend(kind.map(|_| new));
        let more = left.len().saturating_sub(gone.len());
        if self.locks.share.grow(more * LOCK_BYTES).is_err() {
            self.forget_idle(node);
            return Err(Errno::ENOLCK);
        }
        self.locks.share.shrink(gone.len().saturating_sub(left.len()) * LOCK_BYTES);
        let ranges = &mut self.locks.holder(node, lock.owner).ranges;
        for start in &gone {
            ranges.remove(start);
        }
        ranges.extend(left.iter().map(|lock| (lock.start, (lock.last, lock.kind))));
        self.forget_idle(node);
        self.news.push(News::Node(node));
        Ok(())
    }

    /// Forgets owners who have no lock of ranges of the file.
    fn forget_idle(&mut self, node: NodeId) {
        let Some(holders) = self.locks.ranges.get_mut(&node) else { return };
        holders.retain(|holder| !holder.ranges.is_empty());
        if holders.is_empty() {
            self.locks.ranges.remove(&node);
        }
    }

    /// Takes all locks of ranges off a file that their owner closes.
    fn drop_ranges(&mut self, node: NodeId, owner: LockOwner) {
        let Some(holders) = self.locks.ranges.get_mut(&node) else { return };
        let Some(index) = holders.iter().position(|holder| holder.owner == owner) else { return };
        let gone = holders.remove(index).ranges.len();
        if holders.is_empty() {
            self.locks.ranges.remove(&node);
        }
        self.locks.share.shrink(gone * LOCK_BYTES);
        self.news.push(News::Node(node));
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
    /// `ENOLCK`: too many; what was held is held still.
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
        let is_new = kind.is_some() && holders.iter().all(|(holder, _)| *holder != file);
        if is_new && self.locks.share.grow(LOCK_BYTES).is_err() {
            if holders.is_empty() {
                self.locks.whole.remove(&node);
            }
            return Err(Errno::ENOLCK);
        }
        holders.retain(|(holder, _)| *holder != file);
        let is_less = holders.len() < before;
        let is_taken = kind.is_some_and(|kind| {
            holders.iter().any(|(_, held)| [kind, *held].contains(&LockKind::Exclusive))
        });
        if let (Some(kind), false) = (kind, is_taken) {
            holders.push((file, kind));
        }
        let gone = before + usize::from(is_new) - holders.len();
        self.locks.share.shrink(gone * LOCK_BYTES);
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
    }
}
