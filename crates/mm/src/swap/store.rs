//! Where the bytes of swapped pages are kept.
//!
//! [`SwapStore`] is implemented here for memory of the host, compressed as zram does it, and above
//! this crate for files. The area (`area.rs`) says which slots are used; a store only keeps bytes.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::fmt;

use lz4_flex::block;
use machine::PAGE_BYTES;

use super::area::SwapSlot;

const PAGE: usize = PAGE_BYTES as usize;

/// Why a page can not be kept or brought back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SwapError {
    /// The device failed.
    Io {
        /// The slot.
        slot: SwapSlot,
    },
    /// What came back is not what was kept.
    Corrupt {
        /// The slot.
        slot: SwapSlot,
    },
}

impl fmt::Display for SwapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { slot } => write!(f, "swap slot {}: input or output error", slot.0),
            Self::Corrupt { slot } => write!(f, "swap slot {}: the page is damaged", slot.0),
        }
    }
}

impl core::error::Error for SwapError {}

/// Keeps pages by slot.
pub trait SwapStore {
    /// Keeps `page`, 4,096 bytes, in `slot`; what was there is gone.
    ///
    /// # Errors
    /// The device failed: the page stays in RAM (SWAP-6).
    fn write(&mut self, slot: SwapSlot, page: &[u8]) -> Result<(), SwapError>;

    /// Brings the page of `slot` back into `page`, 4,096 bytes. The slot keeps it.
    ///
    /// # Errors
    /// The device failed or the page is damaged: the faulting task gets SIGBUS (SWAP-6). `page` is
    /// then anything.
    fn read(&mut self, slot: SwapSlot, page: &mut [u8]) -> Result<(), SwapError>;

    /// Says that nobody will ask for `slot` before it is written again.
    fn discard(&mut self, slot: SwapSlot);

    /// Bytes of the host that kept pages take.
    fn held_bytes(&self) -> u64;
}

/// How one page is kept.
#[derive(Debug)]
enum Kept {
    /// One word, again and again: most often zero.
    Filled(u64),
    /// Compressed.
    Packed(Box<[u8]>),
    /// As it is: it does not become smaller.
    Whole(Box<[u8]>),
}

/// Pages in memory of the host, compressed with LZ4 like zram.
///
/// # Source
/// Linux 6.12 `drivers/block/zram/zram_drv.c`: pages of one word are kept as the word, and pages
/// that hardly shrink are kept whole.
#[derive(Default, Debug)]
pub struct PackedStore {
    pages: BTreeMap<SwapSlot, Kept>,
    held_bytes: u64,
}

/// A page that does not get below this is kept whole (zram's `huge_class_size`).
const PACKED_BYTES_MAX: usize = 3264;

impl PackedStore {
    /// A store without pages.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The word that the page is made of, if it is made of one.
fn only_word(page: &[u8]) -> Option<u64> {
    let first = page.first_chunk::<8>()?;
    let (words, rest) = page.as_chunks::<8>();
    (rest.is_empty() && words.iter().all(|word| word == first)).then(|| u64::from_le_bytes(*first))
}

impl Kept {
    fn of(page: &[u8]) -> Self {
        if let Some(word) = only_word(page) {
            return Self::Filled(word);
        }
        let packed = block::compress(page);
        if packed.len() > PACKED_BYTES_MAX {
            return Self::Whole(page.into());
        }
        Self::Packed(packed.into_boxed_slice())
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Filled(_) => 0,
            Self::Packed(bytes) | Self::Whole(bytes) => bytes.len() as u64,
        }
    }
}

impl SwapStore for PackedStore {
    fn write(&mut self, slot: SwapSlot, page: &[u8]) -> Result<(), SwapError> {
        if page.len() != PAGE {
            return Err(SwapError::Io { slot });
        }
        let kept = Kept::of(page);
        self.held_bytes += kept.bytes();
        if let Some(old) = self.pages.insert(slot, kept) {
            self.held_bytes -= old.bytes();
        }
        Ok(())
    }

    fn read(&mut self, slot: SwapSlot, page: &mut [u8]) -> Result<(), SwapError> {
        if page.len() != PAGE {
            return Err(SwapError::Io { slot });
        }
        match self.pages.get(&slot).ok_or(SwapError::Io { slot })? {
            Kept::Filled(word) => {
                page.as_chunks_mut::<8>().0.fill(word.to_le_bytes());
            }
            Kept::Whole(bytes) => page.copy_from_slice(bytes),
            Kept::Packed(bytes) => {
                let count = block::decompress_into(bytes, page);
                if !matches!(count, Ok(PAGE)) {
                    return Err(SwapError::Corrupt { slot });
                }
            }
        }
        Ok(())
    }

    fn discard(&mut self, slot: SwapSlot) {
        if let Some(kept) = self.pages.remove(&slot) {
            self.held_bytes -= kept.bytes();
        }
    }

    fn held_bytes(&self) -> u64 {
        self.held_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise() -> [u8; PAGE] {
        let mut x = 88_172_645_463_325_252_u64;
        [0; PAGE].map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
    }

    #[test]
    fn pages_come_back_as_they_were() {
        let mut store = PackedStore::new();
        let mut text = [b'a'; PAGE];
        text[100] = b'b';
        let pages = [[0; PAGE], [7; PAGE], text, noise()];
        for (slot, page) in (1..).map(SwapSlot).zip(&pages) {
            store.write(slot, page).expect("memory");
        }
        for (slot, page) in (1..).map(SwapSlot).zip(&pages) {
            let mut back = [1; PAGE];
            store.read(slot, &mut back).expect("it was kept");
            assert_eq!(&back, page);
        }
        let held = store.held_bytes();
        assert!(held > PAGE_BYTES && held < PAGE_BYTES + 200, "{held}: noise and a little text");
        store.write(SwapSlot(4), &[0; PAGE]).expect("memory");
        store.discard(SwapSlot(3));
        assert_eq!(store.held_bytes(), 0);
        let mut back = [0; PAGE];
        assert_eq!(store.read(SwapSlot(3), &mut back), Err(SwapError::Io { slot: SwapSlot(3) }));
    }
}
