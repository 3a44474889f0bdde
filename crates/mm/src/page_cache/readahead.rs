//! Which pages are read ahead of a program that reads a file.
//!
//! Only pages on the device: where all are at hand, nothing is ahead. Windows grow while reading
//! goes on in sequence; the page at which the next window is to be asked for carries a mark.
//!
//! # Source
//! Linux 6.12 `mm/readahead.c`, `mm/filemap.c:do_sync_mmap_readahead`; semantics FILE-6, FILE-7.

use machine::{Frame, Machine};

use super::Object;
use crate::backing::{FileKind, ObjectId};
use crate::memory::Memory;
use crate::rights::VmaFlags;

/// Largest window: 128 KiB (`read_ahead_kb`).
const WINDOW_PAGES: u64 = 32;
/// Most pages that one piece of advice brings: what a device takes in one request.
const REQUEST_PAGES: u64 = 256;
/// Misses of a mapping beyond hits after which nothing is read around faults.
const MISSES_MAX: u32 = 100;

/// How a program says that it reads a file (`posix_fadvise`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pattern {
    /// Nothing said.
    #[default]
    Normal,
    /// In sequence: windows are twice as large.
    Sequential,
    /// Here and there: nothing is read ahead.
    Random,
}

/// What an open file knows about how it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readahead {
    /// What its program said.
    pub pattern: Pattern,
    /// Whether its program said that it reads each byte once: pages do not count as used.
    pub reads_once: bool,
    window: Window,
    /// Index of the page that was read last.
    previous: Option<u64>,
}

impl Default for Readahead {
    fn default() -> Self {
        Self {
            pattern: Pattern::Normal,
            reads_once: false,
            window: Window::default(),
            previous: None,
        }
    }
}

/// Pages that were asked for together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Window {
    start: u64,
    size: u64,
    /// How many of them are ahead of the page that carries the mark.
    ahead: u64,
}

impl Window {
    /// The first window of a sequence that begins with a request for `wanted` pages.
    fn first(start: u64, wanted: u64, most: u64) -> Self {
        let rounded = wanted.checked_next_power_of_two().unwrap_or(most);
        let size = match rounded {
            _ if rounded <= most / 32 => rounded * 4,
            _ if rounded <= most / 4 => rounded * 2,
            _ => most,
        };
        Self { start, size, ahead: if size > wanted { size - wanted } else { size / 2 } }
    }

    /// How large the window after one of `size` pages is.
    const fn grown(size: u64, most: u64) -> u64 {
        match size {
            _ if size < most / 16 => size * 4,
            _ if size <= most / 2 => size * 2,
            _ => most,
        }
    }

    const fn end(self) -> u64 {
        self.start.saturating_add(self.size)
    }
}

impl Readahead {
    const fn window_max(&self) -> u64 {
        match self.pattern {
            Pattern::Sequential => 2 * WINDOW_PAGES,
            Pattern::Normal | Pattern::Random => WINDOW_PAGES,
        }
    }

    /// Notes that page `index` is read. Returns whether that is the same as before.
    #[inline]
    pub(super) fn note(&mut self, index: u64) -> bool {
        let is_same = self.previous == Some(index);
        self.previous = Some(index);
        is_same
    }

    /// The pages to ask for when page `index`, the first of `wanted`, is not in RAM. `before` is
    /// how many pages in front of it are, at most as many as the largest window has.
    fn on_miss(&mut self, index: u64, wanted: u64, before: u64) -> Window {
        let most = self.window_max();
        let alone = Window { start: index, size: wanted, ahead: 0 };
        if self.pattern == Pattern::Random {
            return alone;
        }
        let is_next = self.previous.is_some_and(|last| index.wrapping_sub(last) <= 1);
        if index == 0 || wanted > most || is_next {
            self.window = Window::first(index, wanted, most.max(wanted.min(REQUEST_PAGES)));
            return self.window;
        }
        if before <= wanted {
            return alone;
        }
        let history = if before == index { before * 2 } else { before };
        self.window = Window { start: index, size: (history + wanted).min(most), ahead: 1 };
        self.window
    }

    /// The pages to ask for when the marked page `index`, the first of `wanted`, is used; `missing`
    /// is the first page behind it that is not in RAM.
    fn on_mark(&mut self, index: u64, wanted: u64, missing: u64) -> Option<Window> {
        let most = self.window_max();
        let Window { start, size, ahead } = self.window;
        let expected = start.saturating_add(size).saturating_sub(ahead);
        let (start, size) = if size > 0 && index == expected {
            (start.saturating_add(size), Window::grown(size, most))
        } else {
            if missing - index > most {
                return None;
            }
            (missing, Window::grown(missing - index + wanted, most))
        };
        self.window = Window { start, size, ahead: size };
        Some(self.window)
    }
}

/// What is known about faults on the pages of an object.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AroundFaults {
    readahead: Readahead,
    /// Faults that missed, less those that did not.
    misses: u32,
}

impl Memory {
    /// Brings page `index`, which is on the device, and what is to be read ahead of a call that
    /// wants pages up to `end`. It has come when this returns, if there was a frame for it.
    pub(super) fn read_ahead(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        (index, end): (u64, u64),
        ahead: &mut Readahead,
    ) {
        let Some(object) = self.cache.object(id) else { return };
        let most = ahead.window_max();
        let before = (1..=most.min(index)).take_while(|&n| object.pages.get(index - n).is_some());
        let window = ahead.on_miss(index, end - index, before.count() as u64);
        self.request(hw, id, window);
        self.await_page(hw, id, index);
    }

    /// Asks for the next window if `frame`, page `index`, carries the mark.
    #[inline]
    pub(super) fn read_on(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        (index, end): (u64, u64),
        frame: Frame,
        ahead: &mut Readahead,
    ) {
        if !self.frames.take_mark(frame) || ahead.pattern == Pattern::Random {
            return;
        }
        let Some(object) = self.cache.object(id) else { return };
        let cached = (index..index + ahead.window_max() + 1)
            .take_while(|&at| object.pages.get(at).is_some());
        let missing = index + cached.count() as u64;
        if let Some(window) = ahead.on_mark(index, end - index, missing) {
            self.request(hw, id, window);
        }
    }

    /// Before a fault on page `index` brings it alone: reads what is around, if it is on the device
    /// (FILE-6).
    ///
    /// Returns whether the page was on the device.
    pub(crate) fn read_around(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        index: u64,
        flags: VmaFlags,
    ) -> bool {
        let Some(object) = self.cache.object_mut(id) else { return false };
        let mut around = object.around;
        let found = object.pages.get(index);
        if found.is_none() && (!object.is_on_device(index) || index >= object.page_count()) {
            return false;
        }
        let is_random = flags.contains(VmaFlags::RANDOM);
        around.readahead.pattern = if is_random { Pattern::Random } else { Pattern::Normal };
        if let Some(frame) = found {
            if !is_random {
                around.misses = around.misses.saturating_sub(1);
                self.read_on(hw, id, (index, index + 1), frame, &mut around.readahead);
            }
        } else if flags.contains(VmaFlags::SEQUENTIAL) {
            let end = index.saturating_add(WINDOW_PAGES);
            self.read_ahead(hw, id, (index, end), &mut around.readahead);
        } else if !is_random {
            around.misses = (around.misses + 1).min(10 * MISSES_MAX);
            if around.misses <= MISSES_MAX {
                let start = index.saturating_sub(WINDOW_PAGES / 2);
                let window = Window { start, size: WINDOW_PAGES, ahead: WINDOW_PAGES / 4 };
                around.readahead.window = window;
                self.request(hw, id, window);
                self.await_page(hw, id, index);
            }
        }
        if let Some(object) = self.cache.object_mut(id) {
            object.around = around;
        }
        found.is_none()
    }

    /// Whether a fault near page `index` may map it: it has content, it need not be read, and it is
    /// not the one at which reading ahead goes on.
    pub(crate) fn is_around(&self, id: ObjectId, index: u64) -> bool {
        match self.cache.get(id, index) {
            Some(frame) => !self.frames.has_mark(frame),
            None => self.cache.is_uptodate(id, index),
        }
    }

    /// Notes that fault-around mapped `pages` pages that were there.
    pub(crate) fn note_around_hits(&mut self, id: ObjectId, pages: u32) {
        if let Some(object) = self.cache.object_mut(id) {
            object.around.misses = object.around.misses.saturating_sub(pages);
        }
    }

    /// Starts to bring pages from `first` on, at most `count`, as advised (`POSIX_FADV_WILLNEED`,
    /// `readahead`); nobody waits.
    pub fn prefetch(&mut self, hw: &mut Machine, id: ObjectId, first: u64, count: u64) {
        let is_file = |object: &Object| object.kind == FileKind::Regular;
        if !self.cache.object(id).is_some_and(is_file) {
            return;
        }
        let size = count.min(REQUEST_PAGES);
        self.request(hw, id, Window { start: first, size, ahead: 0 });
    }

    /// Asks for the pages of a window that are not in RAM; for none if frames are short, for then
    /// they would take the place of pages in use.
    fn request(&mut self, hw: &mut Machine, id: ObjectId, window: Window) {
        if !self.may_read_ahead() {
            return;
        }
        let Some(object) = self.cache.object(id) else { return };
        for (first, count) in object.missing_parts(window.start, window.end()) {
            let Ok(brought) = self.bring(hw, id, (first, count)) else { return };
            let end = first + brought.pages;
            self.start_flight(hw, id, (first, end), brought.device_pages);
            if brought.pages < count {
                return;
            }
        }
        if window.ahead > 0
            && let Some(frame) = self.cache.get(id, window.end() - window.ahead)
        {
            self.frames.set_mark(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Readahead, Window};

    /// Reads `count` pages one by one, from a file of which none is in RAM. Returns the windows
    /// asked for, as start and size.
    fn read(
        ahead: &mut Readahead,
        pages: impl Iterator<Item = u64>,
    ) -> alloc::vec::Vec<(u64, u64)> {
        let mut windows = alloc::vec::Vec::new();
        let mut present = alloc::collections::BTreeSet::new();
        let mut marks = alloc::collections::BTreeSet::new();
        for index in pages {
            let asked = if !present.contains(&index) {
                let before = (1..=index.min(32)).take_while(|n| present.contains(&(index - n)));
                Some(ahead.on_miss(index, 1, before.count() as u64))
            } else if marks.remove(&index) {
                let missing = (index..).find(|at| !present.contains(at)).expect("no end");
                ahead.on_mark(index, 1, missing)
            } else {
                None
            };
            if let Some(Window { start, size, ahead }) = asked {
                windows.push((start, size));
                present.extend(start..start + size);
                marks.extend((ahead > 0).then(|| start + size - ahead));
            }
            ahead.note(index);
        }
        windows
    }

    #[test]
    fn file_7_windows_grow_to_32_pages_while_reading_goes_on() {
        let mut ahead = Readahead::default();
        let windows = read(&mut ahead, 0..100);
        assert_eq!(windows, [(0, 4), (4, 8), (12, 16), (28, 32), (60, 32), (92, 32), (124, 32)]);
    }

    #[test]
    fn file_7_reading_here_and_there_reads_nothing_ahead() {
        let mut ahead = Readahead::default();
        let windows = read(&mut ahead, [1000, 7, 500, 90].into_iter());
        assert_eq!(windows, [(1000, 1), (7, 1), (500, 1), (90, 1)]);
    }

    #[test]
    fn file_7_a_sequence_that_starts_in_the_middle_is_noticed() {
        let mut ahead = Readahead::default();
        let windows = read(&mut ahead, 100..140);
        assert_eq!(windows, [(100, 1), (101, 4), (105, 8), (113, 16), (129, 32), (161, 32)]);
    }

    #[test]
    fn file_7_advice_changes_the_windows() {
        let mut ahead = Readahead { pattern: Pattern::Random, ..Readahead::default() };
        assert_eq!(read(&mut ahead, 0..3), [(0, 1), (1, 1), (2, 1)]);
        let mut ahead = Readahead { pattern: Pattern::Sequential, ..Readahead::default() };
        let windows = read(&mut ahead, 0..200);
        assert_eq!(windows[..5], [(0, 4), (4, 8), (12, 16), (28, 32), (60, 64)]);
    }
}
