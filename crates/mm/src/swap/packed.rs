//! Compressed pages, and the frames that they would take side by side.
//!
//! The bytes lie in memory of the host; how many frames a kernel needs for them is counted by
//! classes of size, as zsmalloc lays them out: objects of a class share spans of one to eight
//! frames, and begin and end anywhere in them.
//!
//! Differs from Linux: the objects of a class always lie as densely as after compaction.
//!
//! # Source
//! Linux 6.12 `mm/zsmalloc.c`: `calculate_zspage_chain_size`, `get_size_class_index`,
//! `can_merge`; `drivers/block/zram/zram_drv.c`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use lz4_flex::block;
use machine::PAGE_BYTES;

const PAGE: usize = PAGE_BYTES as usize;
/// A page that does not get below this is kept whole (zram's `huge_class_size`).
const PACKED_BYTES_MAX: usize = 3264;
/// Bytes of an object for its owner (`ZS_HANDLE_SIZE`).
const HANDLE_BYTES: usize = 8;
/// Bytes of the smallest class, and the step from class to class.
const CLASS_BYTES_MIN: usize = 32;
const CLASS_STEP: usize = 16;
/// The most frames of a span (`CONFIG_ZSMALLOC_CHAIN_SIZE`).
const SPAN_FRAMES_MAX: usize = 8;

/// How one page is kept.
#[derive(Debug)]
pub(super) enum Kept {
    /// One word, again and again: most often zero.
    Filled(u64),
    /// Compressed.
    Packed(Box<[u8]>),
    /// As it is: it does not become smaller.
    Whole(Box<[u8]>),
}

/// The word that the page is made of, if it is made of one.
fn only_word(page: &[u8]) -> Option<u64> {
    let first = page.first_chunk::<8>()?;
    let (words, rest) = page.as_chunks::<8>();
    (rest.is_empty() && words.iter().all(|word| word == first)).then(|| u64::from_le_bytes(*first))
}

impl Kept {
    /// The page as zram keeps it.
    pub(super) fn of(page: &[u8]) -> Self {
        if let Some(word) = only_word(page) {
            return Self::Filled(word);
        }
        let packed = block::compress(page);
        if packed.len() > PACKED_BYTES_MAX {
            return Self::Whole(page.into());
        }
        Self::Packed(packed.into_boxed_slice())
    }

    /// The page as zswap keeps it; `None` if it does not become smaller.
    pub(super) fn smaller(page: &[u8]) -> Option<Self> {
        if let Some(word) = only_word(page) {
            return Some(Self::Filled(word));
        }
        let packed = block::compress(page);
        (packed.len() < PAGE).then(|| Self::Packed(packed.into_boxed_slice()))
    }

    /// Writes the page, 4,096 bytes, to `page`. False if it is damaged; `page` is anything then.
    pub(super) fn unpack(&self, page: &mut [u8]) -> bool {
        match self {
            Self::Filled(word) => page.as_chunks_mut::<8>().0.fill(word.to_le_bytes()),
            Self::Whole(bytes) => page.copy_from_slice(bytes),
            Self::Packed(bytes) => {
                return matches!(block::decompress_into(bytes, page), Ok(PAGE));
            }
        }
        true
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Filled(_) => 0,
            Self::Packed(bytes) | Self::Whole(bytes) => bytes.len(),
        }
    }
}

/// Spans of equal length that hold equally many objects: frames of one, and objects.
type Span = (usize, usize);

/// The spans in which an object of so many bytes lies.
fn span_of(bytes: usize) -> Span {
    let with_handle = (bytes + HANDLE_BYTES).next_multiple_of(CLASS_STEP);
    let class = with_handle.clamp(CLASS_BYTES_MIN, PAGE);
    let waste = |frames: &usize| (frames * PAGE) % class;
    let frames = (1..=SPAN_FRAMES_MAX).min_by_key(waste).unwrap_or(1);
    (frames, frames * PAGE / class)
}

/// Pages by key.
#[derive(Debug)]
pub(super) struct Packed<K> {
    pages: BTreeMap<K, Kept>,
    held_bytes: u64,
    /// How many objects lie in spans of each kind.
    objects: BTreeMap<Span, usize>,
    frames: u64,
}

impl<K> Default for Packed<K> {
    fn default() -> Self {
        Self { pages: BTreeMap::new(), held_bytes: 0, objects: BTreeMap::new(), frames: 0 }
    }
}

impl<K: Ord + Copy> Packed<K> {
    /// Keeps a page; what had the key is gone.
    pub(super) fn insert(&mut self, key: K, kept: Kept) {
        self.remove(key);
        self.count(kept.bytes(), |count| count + 1);
        self.held_bytes += kept.bytes() as u64;
        self.pages.insert(key, kept);
    }

    /// The page of a key.
    pub(super) fn get(&self, key: K) -> Option<&Kept> {
        self.pages.get(&key)
    }

    /// Forgets the page of a key. False if there is none.
    pub(super) fn remove(&mut self, key: K) -> bool {
        let Some(kept) = self.pages.remove(&key) else { return false };
        self.held_bytes -= kept.bytes() as u64;
        self.count(kept.bytes(), |count| count - 1);
        true
    }

    fn count(&mut self, bytes: usize, change: impl FnOnce(usize) -> usize) {
        if bytes == 0 {
            return;
        }
        let span = span_of(bytes);
        let count = self.objects.entry(span).or_default();
        let frames = |count: usize| (count.div_ceil(span.1) * span.0) as u64;
        let before = frames(*count);
        *count = change(*count);
        self.frames = self.frames - before + frames(*count);
    }

    /// How many pages are kept.
    pub(super) fn len(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Bytes that they take.
    pub(super) const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Frames that a kernel needs for them.
    pub(super) const fn frames(&self) -> u64 {
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_share_spans_as_in_zsmalloc() {
        // Columns of /sys/kernel/debug/zsmalloc/zram0/classes: size, pages_per_zspage and
        // objs_per_zspage.
        assert_eq!(span_of(1), (1, 128), "class 32");
        assert_eq!(span_of(24), (1, 128), "class 32");
        assert_eq!(span_of(1000), (1, 4), "class 1008");
        assert_eq!(span_of(1352), (1, 3), "class 1360");
        assert_eq!(span_of(2700), (2, 3), "class 2720");
        assert_eq!(span_of(3250), (4, 5), "class 3264");
        assert_eq!(span_of(4096), (1, 1), "a page as it is");
    }

    #[test]
    fn frames_follow_what_is_kept() {
        let mut packed = Packed::default();
        for key in 0..7 {
            packed.insert(key, Kept::Packed(Box::from([0; 1000])));
        }
        assert_eq!((packed.len(), packed.held_bytes(), packed.frames()), (7, 7000, 2));
        packed.insert(6, Kept::Filled(0));
        assert!(packed.remove(5) && !packed.remove(99));
        assert_eq!(packed.frames(), 2);
        packed.remove(4);
        assert_eq!(packed.frames(), 1);
        for key in 0..7 {
            packed.remove(key);
        }
        assert_eq!((packed.len(), packed.held_bytes(), packed.frames()), (0, 0, 0));
    }
}
