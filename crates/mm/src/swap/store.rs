//! Where the bytes of swapped pages are kept.
//!
//! [`SwapStore`] is implemented here for memory of the host, compressed as zram does it, and above
//! this crate for files. The area (`area.rs`) says which slots are used; a store only keeps bytes.

use core::fmt;

use machine::PAGE_BYTES;

use super::area::SwapSlot;
use super::packed::{Kept, Packed};

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

    /// Frames of the machine's RAM that kept pages take: none, unless the store is in it.
    fn ram_frames(&self) -> u64 {
        0
    }
}

/// Pages in memory of the host, compressed with LZ4 like zram.
///
/// # Source
/// Linux 6.12 `drivers/block/zram/zram_drv.c`: pages of one word are kept as the word, and pages
/// that hardly shrink are kept whole.
#[derive(Default, Debug)]
pub struct PackedStore {
    pages: Packed<SwapSlot>,
    is_in_ram: bool,
}

impl PackedStore {
    /// A store without pages, which takes nothing of the machine's RAM: a device.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store without pages that takes frames of the machine for what it keeps, as zram does.
    pub fn in_ram() -> Self {
        Self { is_in_ram: true, ..Self::default() }
    }
}

impl SwapStore for PackedStore {
    fn write(&mut self, slot: SwapSlot, page: &[u8]) -> Result<(), SwapError> {
        if page.len() != PAGE {
            return Err(SwapError::Io { slot });
        }
        self.pages.insert(slot, Kept::of(page));
        Ok(())
    }

    fn read(&mut self, slot: SwapSlot, page: &mut [u8]) -> Result<(), SwapError> {
        if page.len() != PAGE {
            return Err(SwapError::Io { slot });
        }
        let kept = self.pages.get(slot).ok_or(SwapError::Io { slot })?;
        if kept.unpack(page) { Ok(()) } else { Err(SwapError::Corrupt { slot }) }
    }

    fn discard(&mut self, slot: SwapSlot) {
        self.pages.remove(slot);
    }

    fn held_bytes(&self) -> u64 {
        self.pages.held_bytes()
    }

    fn ram_frames(&self) -> u64 {
        if self.is_in_ram { self.pages.frames() } else { 0 }
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
    fn a_store_in_ram_takes_frames_of_the_machine() {
        let mut store = PackedStore::in_ram();
        store.write(SwapSlot(1), &noise()).expect("memory");
        store.write(SwapSlot(2), &[0; PAGE]).expect("memory");
        assert_eq!(store.ram_frames(), 1, "a page of one word takes none");
        store.discard(SwapSlot(1));
        assert_eq!(store.ram_frames(), 0);
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
