//! Memory that only the kernel's own calls see: structures of an i386 program in their 64-bit form.
//!
//! Each piece lies far from the others, so that a call that reads past the end of one finds nothing
//! there. The addresses are no program's: not even a 64-bit program can have memory there.

/// The address of the first piece.
const BASE: u64 = 0xffff_c900_0000_0000;
/// The distance of two pieces.
const STRIDE_SHIFT: u32 = 24;

/// The pieces of one call.
#[derive(Clone, Default, Debug)]
pub(crate) struct Window {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    bytes: Vec<u8>,
    is_written: bool,
}

impl Window {
    /// Adds a piece and returns its address.
    pub(super) fn add(&mut self, bytes: Vec<u8>) -> u64 {
        self.pieces.push(Piece { bytes, is_written: false });
        BASE + ((self.pieces.len() as u64 - 1) << STRIDE_SHIFT)
    }

    /// The bytes of the piece at `addr`, if a call has written there.
    pub(super) fn take_written(&mut self, addr: u64) -> Option<Vec<u8>> {
        let index = usize::try_from(addr.checked_sub(BASE)? >> STRIDE_SHIFT).ok()?;
        let piece = self.pieces.get_mut(index).filter(|piece| piece.is_written)?;
        Some(std::mem::take(&mut piece.bytes))
    }

    /// Removes all pieces.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
    }

    /// Whether `count` bytes at `addr` lie in one piece.
    pub(crate) fn holds(&self, addr: u64, count: u64) -> bool {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.place(addr, count).is_some()
    }

    /// The bytes at `addr`, if they lie in one piece.
    pub(crate) fn read(&self, addr: u64, count: usize) -> Option<&[u8]> {
        let (index, start) = self.place(addr, count)?;
        self.pieces[index].bytes.get(start..start + count)
    }

    /// Writes to the piece at `addr`; `None`, and nothing done, if it is not all in one.
    pub(crate) fn write(&mut self, addr: u64, bytes: &[u8]) -> Option<()> {
        let (index, start) = self.place(addr, bytes.len())?;
        let piece = &mut self.pieces[index];
        piece.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        piece.is_written = true;
        Some(())
    }

    fn place(&self, addr: u64, count: usize) -> Option<(usize, usize)> {
        let distance = addr.checked_sub(BASE)?;
        let index = usize::try_from(distance >> STRIDE_SHIFT).ok()?;
        let start = usize::try_from(distance & ((1 << STRIDE_SHIFT) - 1)).ok()?;
        let length = self.pieces.get(index)?.bytes.len();
        (start.checked_add(count)? <= length).then_some((index, start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_ends() {
        let mut window = Window::default();
        let first = window.add(vec![1; 8]);
        let second = window.add(vec![2; 4]);
        assert_eq!(window.read(first + 4, 4), Some([1; 4].as_slice()));
        assert_eq!(window.read(first + 4, 5), None);
        assert_eq!(window.read(second - 1, 1), None);
        assert_eq!(window.write(second + 1, &[9; 4]), None);
        assert_eq!(window.take_written(second), None);
        assert_eq!(window.write(second, &[9; 4]), Some(()));
        assert_eq!(window.take_written(second), Some(vec![9; 4]));
        window.clear();
        assert!(!window.holds(first, 1) && !window.holds(u64::MAX, 1));
    }
}
