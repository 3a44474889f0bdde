//! Files that tell of time: `timerfd`.
//!
//! # Source
//! man 2 `timerfd_create`; Linux 6.12 `fs/timerfd.c`.

use super::open::{Opened, flag};
use super::{FileId, News, Vfs};
use crate::errno::Errno;

/// A timer behind a descriptor. All times are nanoseconds of [`machine::Machine::now_ns`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct TimerFile {
    /// Which clock it was made with.
    pub(crate) clock: u32,
    /// When it runs out next; `None` while it is off.
    pub(crate) next_ns: Option<u64>,
    /// After how long again; 0 for once.
    pub(crate) interval_ns: u64,
}

impl TimerFile {
    /// How often it has run out by `now_ns`; the next time is then in the future.
    fn take_expirations(&mut self, now_ns: u64) -> u64 {
        let Some(next) = self.next_ns.filter(|&next| next <= now_ns) else { return 0 };
        if self.interval_ns == 0 {
            self.next_ns = None;
            return 1;
        }
        let count = 1 + (now_ns - next) / self.interval_ns;
        self.next_ns = Some(next.saturating_add(count.saturating_mul(self.interval_ns)));
        count
    }

    /// Nanoseconds until it runs out, as `timerfd_gettime` tells; 0 if it is off.
    pub(crate) fn rest_ns(&self, now_ns: u64) -> u64 {
        let mut later = *self;
        later.take_expirations(now_ns);
        later.next_ns.map_or(0, |next| next.saturating_sub(now_ns).max(1))
    }

    /// Whether it has run out and nobody has read it.
    pub(crate) fn has_expired(&self, now_ns: u64) -> bool {
        self.next_ns.is_some_and(|next| next <= now_ns)
    }
}

impl Vfs {
    /// Makes a timer that is off.
    pub(crate) fn open_timer(&mut self, clock: u32, status: u32) -> FileId {
        let timer = TimerFile { clock, ..TimerFile::default() };
        self.add_file(Opened::Timer(timer), status | flag::RDWR)
    }

    /// Sets a timer and returns what it was.
    ///
    /// # Errors
    /// `EINVAL`: the file is none.
    pub(crate) fn set_timer(
        &mut self,
        id: FileId,
        next_ns: Option<u64>,
        interval_ns: u64,
    ) -> Result<TimerFile, Errno> {
        let Opened::Timer(timer) = &mut self.file_mut(id).opened else {
            return Err(Errno::EINVAL);
        };
        let before = *timer;
        timer.next_ns = next_ns;
        timer.interval_ns = interval_ns;
        self.unplan(id, &before);
        self.plan(id);
        self.news.push(News::File(id));
        Ok(before)
    }

    /// Takes how often a timer has run out.
    ///
    /// # Errors
    /// `EINVAL`: less than eight bytes. `EAGAIN`: not since the last time.
    pub(crate) fn read_timer(
        &mut self,
        id: FileId,
        now_ns: u64,
        bytes: &mut [u8],
    ) -> Result<usize, Errno> {
        let place = bytes.first_chunk_mut::<8>().ok_or(Errno::EINVAL)?;
        let Opened::Timer(timer) = &mut self.file_mut(id).opened else {
            return Err(Errno::EINVAL);
        };
        let before = *timer;
        match timer.take_expirations(now_ns) {
            0 => Err(Errno::EAGAIN),
            count => {
                *place = count.to_le_bytes();
                self.unplan(id, &before);
                self.plan(id);
                Ok(8)
            }
        }
    }

    /// Notes when the timer runs out, for the clock.
    fn plan(&mut self, id: FileId) {
        if let Opened::Timer(TimerFile { next_ns: Some(next), .. }) = self.file(id).opened {
            self.timers.insert((next, id));
        }
    }

    /// Forgets when the timer would have run out.
    pub(crate) fn unplan(&mut self, id: FileId, timer: &TimerFile) {
        if let Some(next) = timer.next_ns {
            self.timers.remove(&(next, id));
        }
    }

    /// When the first timer runs out.
    pub(crate) fn first_timer_ns(&self) -> Option<u64> {
        self.timers.first().map(|first| first.0)
    }

    /// Tells who waits for timers that have run out by `now_ns`; each is told of once until it is
    /// read.
    pub(crate) fn expire_timers(&mut self, now_ns: u64) {
        while let Some(&(next, id)) = self.timers.first() {
            if next > now_ns {
                break;
            }
            self.timers.remove(&(next, id));
            self.file_mut(id).moves[0] += 1;
            self.news.push(News::File(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TimerFile;

    #[test]
    fn a_timer_counts_how_often_it_ran_out() {
        let mut timer = TimerFile { clock: 1, next_ns: Some(100), interval_ns: 10 };
        assert_eq!(timer.take_expirations(99), 0);
        assert_eq!(timer.rest_ns(99), 1);
        assert_eq!(timer.rest_ns(105), 5);
        assert_eq!(timer.take_expirations(125), 3);
        assert_eq!(timer.next_ns, Some(130));
        timer.interval_ns = 0;
        assert_eq!(timer.take_expirations(1000), 1);
        assert!(!timer.has_expired(2000));
    }
}
