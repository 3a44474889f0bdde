//! Reproducible random numbers and values that are likely to matter.

/// A splitmix64 sequence.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A number from `low` to `high`, both included.
    pub const fn between(&mut self, low: i64, high: i64) -> i64 {
        low.wrapping_add(self.below((high - low) as u64 + 1) as i64)
    }

    /// Whether something that happens in `percent` of all cases happens now.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    /// An integer: often at an edge of some width, else of random length.
    pub fn integer(&mut self) -> u64 {
        const EDGES: [u64; 16] = [
            0,
            1,
            u64::MAX,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0x8000,
            0xffff,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0x1_0000_0000,
            i64::MAX as u64,
            1 << 63,
            0xffff_ffff_8000_0000,
        ];
        match self.below(8) {
            0..=2 => self.pick(&EDGES),
            3 => self.below(130),
            4 => self.below(130).wrapping_neg(),
            5 => {
                let shift = self.below(64);
                self.next() >> shift
            }
            _ => self.next(),
        }
    }

    /// The bits of a single: ordinary, special or anything.
    pub fn single(&mut self) -> u32 {
        const SPECIAL: [u32; 12] = [
            0,
            0x8000_0000,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0001,
            0x7f80_0001,
            1,
            0x807f_ffff,
            0x3f80_0000,
            0x7f7f_ffff,
            0x0080_0000,
            0x4f00_0000,
        ];
        match self.below(6) {
            0 => self.pick(&SPECIAL),
            1 => self.next() as u32,
            2 => (self.between(-1000, 1000) as f32).to_bits(),
            _ => (self.next() as u32 & 0x807f_ffff) | (self.between(100, 150) as u32) << 23,
        }
    }

    /// The bits of a double.
    pub fn double(&mut self) -> u64 {
        const SPECIAL: [u64; 12] = [
            0,
            1 << 63,
            0x7ff0_0000_0000_0000,
            0xfff0_0000_0000_0000,
            0x7ff8_0000_0000_0001,
            0x7ff0_0000_0000_0001,
            1,
            0x800f_ffff_ffff_ffff,
            0x3ff0_0000_0000_0000,
            0x7fef_ffff_ffff_ffff,
            0x0010_0000_0000_0000,
            0x43e0_0000_0000_0000,
        ];
        match self.below(6) {
            0 => self.pick(&SPECIAL),
            1 => self.next(),
            2 => (self.between(-1000, 1000) as f64).to_bits(),
            _ => (self.next() & 0x800f_ffff_ffff_ffff) | (self.between(990, 1060) as u64) << 52,
        }
    }

    /// A vector of 16 bytes: integers, singles, doubles, masks, zero or anything.
    pub fn vector(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let kind = self.below(8);
        for chunk in bytes.chunks_exact_mut(8) {
            let low = u64::from(self.single());
            let word = match kind {
                0 => self.integer(),
                1 | 2 => low | u64::from(self.single()) << 32,
                3 | 4 => self.double(),
                5 => self.byte_mask(),
                6 => u64::from(self.chance(30)),
                _ => self.next(),
            };
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Eight bytes, each all ones or all zeros.
    fn byte_mask(&mut self) -> u64 {
        let unit = self.pick(&[8, 32, 64]);
        let ones = u64::MAX >> (64 - unit);
        (0..64 / unit)
            .fold(0, |mask, i| mask | if self.chance(50) { ones << (i * unit) } else { 0 })
    }

    /// An x87 register: 80 bits of any class.
    pub fn extended(&mut self) -> [u8; 10] {
        let sign = self.pick(&[0, 0x8000]);
        let (exponent, mantissa) = match self.below(10) {
            0 => (0, 0),
            1 => (0x7fff, 1 << 63),
            2 => (0x7fff, 1 << 63 | self.next()),
            3 => (0, self.next() >> 1),
            4 => (self.next() as u16 & 0x7fff, self.next()),
            5 => (0x3fff + self.below(8) as u16, 1 << 63 | self.below(16) << 59),
            _ => (self.between(0x3fe0, 0x4020) as u16, 1 << 63 | self.next()),
        };
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&mantissa.to_le_bytes());
        bytes[8..].copy_from_slice(&(exponent | sign).to_le_bytes());
        bytes
    }
}
