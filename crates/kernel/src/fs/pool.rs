//! Our own memory that the guest can fill without any of its RAM: what waits in pipes, sockets and
//! message queues, files, names and attributes of the copy-on-write layer, locks, interests.
//!
//! One limit holds for all of it, whoever made it. Where one object has a limit of its own, as a
//! pipe, that comes first and is Linux's.
//!
//! It also counts the pipes that there are, whoever holds them.
//!
//! Does not: count bytes of files; [`super::content::Budget`] does.
//!
//! Invariants
//! 1. What is used is the sum of all shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::errno::Errno;

/// The memory that is shared out.
#[derive(Debug)]
pub(crate) struct Pool {
    used_bytes: AtomicU64,
    bytes_max: AtomicU64,
    pipe_count: AtomicU64,
}

impl Pool {
    /// A pool of this size.
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            used_bytes: AtomicU64::new(0),
            bytes_max: AtomicU64::new(bytes_max),
            pipe_count: AtomicU64::new(0),
        })
    }

    /// How many pipes there are.
    pub(crate) fn pipe_count(&self) -> usize {
        self.pipe_count.load(Ordering::Relaxed) as usize
    }

    /// Sets the limit; what is used already stays.
    pub(crate) fn set_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }
}

/// A pipe is counted as long as it has its mark.
#[derive(Debug)]
pub(crate) struct PipeMark(Arc<Pool>);

impl PipeMark {
    /// Counts one more pipe.
    pub(crate) fn new(pool: &Arc<Pool>) -> Self {
        pool.pipe_count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pool))
    }
}

impl Drop for PipeMark {
    fn drop(&mut self) {
        self.0.pipe_count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes of a pool that one object has; they go back with it.
#[derive(Debug)]
pub(crate) struct Share {
    pool: Arc<Pool>,
    bytes: u64,
}

impl Share {
    /// A share of nothing.
    pub(crate) fn empty(pool: &Arc<Pool>) -> Self {
        Self { pool: Arc::clone(pool), bytes: 0 }
    }

    /// A share of so many bytes.
    ///
    /// # Errors
    /// `ENOMEM`: the pool has not as many.
    pub(crate) fn of(pool: &Arc<Pool>, bytes: usize) -> Result<Self, Errno> {
        let mut share = Self::empty(pool);
        share.grow(bytes)?;
        Ok(share)
    }

    /// Takes more.
    ///
    /// # Errors
    /// `ENOMEM`: the pool has not as many; the share is as before.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Errno> {
        let bytes = bytes as u64;
        let used = self.pool.used_bytes.load(Ordering::Relaxed).saturating_add(bytes);
        if used > self.pool.bytes_max.load(Ordering::Relaxed) {
            return Err(Errno::ENOMEM);
        }
        self.pool.used_bytes.store(used, Ordering::Relaxed);
        self.bytes += bytes;
        Ok(())
    }

    /// Takes what another share has.
    pub(crate) fn absorb(&mut self, other: &mut Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives some back.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let bytes = self.bytes.min(bytes as u64);
        let used = self.pool.used_bytes.load(Ordering::Relaxed);
        self.pool.used_bytes.store(used.saturating_sub(bytes), Ordering::Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::{Pool, Share};
    use crate::errno::Errno;

    #[test]
    fn shares_never_exceed_the_pool_and_go_back() {
        let pool = Pool::new(100);
        let mut one = Share::of(&pool, 60).expect("there is room");
        assert_eq!(Share::of(&pool, 41).err(), Some(Errno::ENOMEM));
        let two = Share::of(&pool, 40).expect("there is room");
        assert_eq!(one.grow(1), Err(Errno::ENOMEM));
        one.shrink(10);
        assert_eq!(one.grow(10), Ok(()));
        drop(two);
        one.shrink(1000);
        assert_eq!(pool.used_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(one.grow(usize::MAX), Err(Errno::ENOMEM));
    }
}
