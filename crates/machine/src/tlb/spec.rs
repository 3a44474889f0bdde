//! How big the TLBs are: plain data.

/// The most entries that one array of a first level may have, where its ways are padded to a power
/// of two. A larger one is cut to that many.
pub const FIRST_LEVEL_ENTRIES_MAX: usize = 4096;

/// One set-associative array of entries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Array {
    sets: u16,
    ways: u16,
}

impl Array {
    /// No entries at all.
    pub const NONE: Self = Self { sets: 0, ways: 0 };

    /// The largest number of ways.
    pub const WAYS_MAX: u16 = 256;

    /// An array of `sets` sets (a power of two) of `ways` ways, or `None` if there is no such.
    pub const fn new(sets: u16, ways: u16) -> Option<Self> {
        if !sets.is_power_of_two() || ways == 0 || ways > Self::WAYS_MAX {
            return None;
        }
        Some(Self { sets, ways })
    }

    /// An array of `entries` entries and `ways` ways, for constant tables.
    ///
    /// # Panics
    /// At compile time, if the numbers do not fit.
    pub const fn of(entries: u16, ways: u16) -> Self {
        assert!(entries.is_multiple_of(ways), "entries are a multiple of ways");
        match Self::new(entries / ways, ways) {
            Some(array) => array,
            None => panic!("the number of sets is a power of two"),
        }
    }

    /// Number of sets.
    pub const fn sets(self) -> usize {
        self.sets as usize
    }

    /// Entries per set.
    pub const fn ways(self) -> usize {
        self.ways as usize
    }

    /// Ways padded to a power of two, 4 at least: what a set takes in the model's arrays.
    pub(crate) const fn stride(self) -> usize {
        let ways = self.ways().next_power_of_two();
        if ways < 4 { 4 } else { ways }
    }

    /// The array, or the part of it that [`FIRST_LEVEL_ENTRIES_MAX`] allows.
    fn for_first_level(self) -> Self {
        let mut sets = self.sets;
        while usize::from(sets) * self.stride() > FIRST_LEVEL_ENTRIES_MAX {
            sets /= 2;
        }
        Self { sets, ..self }
    }

    /// Number of entries.
    pub const fn entries(self) -> usize {
        self.sets() * self.ways()
    }
}

/// Where a level keeps pages of one large size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Large {
    /// In the array of the 4 KiB pages.
    Shared,
    /// In an array of their own.
    Own(Array),
    /// Nowhere. A first level then holds the piece of the next smaller size that it has; a second
    /// level does not hold the page.
    Absent,
}

/// One level of TLB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LevelSpec {
    /// 4 KiB pages.
    pub k4: Array,
    /// 2 MiB and 4 MiB pages.
    pub m2: Large,
    /// 1 GiB pages.
    pub g1: Large,
}

impl LevelSpec {
    /// A level that does not exist.
    pub const NONE: Self = Self { k4: Array::NONE, m2: Large::Absent, g1: Large::Absent };

    /// The level within the limits of a first level: one 4 KiB entry at least.
    pub(crate) fn for_first_level(self) -> Self {
        let k4 = if self.k4 == Array::NONE { Array::of(1, 1) } else { self.k4 };
        let large = |large: Large| match large {
            Large::Own(array) => Large::Own(array.for_first_level()),
            Large::Shared | Large::Absent => large,
        };
        Self { k4: k4.for_first_level(), m2: large(self.m2), g1: large(self.g1) }
    }
}

/// The TLBs of one CPU core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TlbSpec {
    /// Short name for the command line.
    pub name: &'static str,
    /// Where the numbers come from, and where the model is simpler than the core.
    pub source: &'static str,
    /// First level for data. One 4 KiB entry is the least, and
    /// [`FIRST_LEVEL_ENTRIES_MAX`] per array the most.
    pub l1d: LevelSpec,
    /// First level for instructions. One 4 KiB entry is the least, and
    /// [`FIRST_LEVEL_ENTRIES_MAX`] per array the most.
    pub l1i: LevelSpec,
    /// Second level: for data, and for instructions unless `l2i` says otherwise.
    pub l2: LevelSpec,
    /// Second level for instructions, if it is separate.
    pub l2i: Option<LevelSpec>,
}

/// Whether TLBs are modelled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TlbMode {
    /// Exactly, with these sizes.
    Model(TlbSpec),
    /// Not at all: walks happen when the engine's own cache of translations misses.
    Off,
}
