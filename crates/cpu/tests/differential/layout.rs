//! The memory of every case: the same virtual pages, natively and in the guest.
//!
//! ```text
//!  code   hole | rwx 0 | rwx 2 | hole .. | r-x 3 | hole          (fetches, self-modification)
//!  data   hole | rw 4 | rw 5 | rw 9 | ro 6 | ro 7 | rw 8 | hole | ro 10 | hole | rw 11 | rw 11 |
//!         rw 12 | rwx 13 | hole                                    (every kind of page border)
//!  high   hole | rw 14 | rw 1 | hole                             (addresses above 4 GiB)
//!  scratch  rw 15                                                (counters of the tests)
//! ```
//! A number is a frame: neighbours are contiguous or not, and frame 11 is mapped twice.

use machine::{Frame, Geometry, Machine, PAGE_BYTES, PhysAddr, Pte, VirtAddr};

/// First page of code.
pub const CODE: u64 = 0x5000_1000;
/// One byte past the code that may be written.
pub const CODE_END: u64 = 0x5000_3000;
/// Code that may not be written.
pub const CODE_READ_ONLY: u64 = 0x5000_5000;
/// The first page of code once more, as data.
pub const CODE_ALIAS: u64 = 0x5800_0000;
/// The hole below the data.
pub const DATA: u64 = 0x6000_0000;
/// The hole below the pages above 4 GiB.
pub const HIGH: u64 = 0x1234_5678_9000;
/// A page that generated operands never name.
pub const SCRATCH: u64 = 0x6800_0000;
/// How many frames there are.
pub const FRAME_COUNT: u64 = 16;
/// How many of them hold code and start full of `int3`.
const CODE_FRAMES: [u64; 3] = [0, 2, 3];

/// `PROT_` values.
const R: u64 = 1;
const RW: u64 = 3;
const RX: u64 = 5;
const RWX: u64 = 7;

/// One mapped page.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    pub page: u64,
    pub frame: u64,
    pub protection: u64,
}

const fn at(page: u64, frame: u64, protection: u64) -> Mapping {
    Mapping { page, frame, protection }
}

/// Everything that is mapped.
pub const MAPPINGS: [Mapping; 19] = [
    at(CODE, 0, RWX),
    at(CODE + 0x1000, 2, RWX),
    at(CODE_READ_ONLY, 3, RX),
    at(DATA + 0x1000, 4, RW),
    at(DATA + 0x2000, 5, RW),
    at(DATA + 0x3000, 9, RW),
    at(DATA + 0x4000, 6, R),
    at(DATA + 0x5000, 7, R),
    at(DATA + 0x6000, 8, RW),
    at(DATA + 0x8000, 10, R),
    at(DATA + 0xa000, 11, RW),
    at(DATA + 0xb000, 11, RW),
    at(DATA + 0xc000, 12, RW),
    at(DATA + 0xd000, 13, RWX),
    at(HIGH + 0x1000, 14, RW),
    at(HIGH + 0x2000, 1, RW),
    at(SCRATCH, 15, RW),
    at(0x7fff_0000, 13, RW),
    at(CODE_ALIAS, 0, RW),
];

/// Distances in bytes between pages that lie in the same frame.
pub fn alias_distances() -> impl Iterator<Item = u64> {
    MAPPINGS.iter().flat_map(|one| {
        let others = MAPPINGS.iter().filter(|other| other.frame == one.frame);
        others.filter(|other| other.page > one.page).map(|other| other.page - one.page)
    })
}

/// Pages from the data hole to the hole behind it.
pub const DATA_PAGES: u64 = 15;

/// Where `address` is in the frames of the layout.
pub fn physical(address: u64) -> Option<u64> {
    let page = address & !(PAGE_BYTES - 1);
    let mapping = MAPPINGS.iter().find(|mapping| mapping.page == page)?;
    Some(mapping.frame * PAGE_BYTES + address % PAGE_BYTES)
}

/// What the frames hold before any case.
pub fn base_content(random: &mut crate::random::Random) -> Vec<u8> {
    let mut content = Vec::new();
    for _ in 0..FRAME_COUNT * PAGE_BYTES / 16 {
        content.extend_from_slice(&random.vector());
    }
    for frame in CODE_FRAMES {
        let start = (frame * PAGE_BYTES) as usize;
        content[start..start + PAGE_BYTES as usize].fill(0xcc);
    }
    content
}

/// First frame of the layout in the guest's RAM: below are the page tables.
const FIRST_FRAME: u64 = 256;
/// The root table.
pub const ROOT: Frame = Frame::new(16);

/// Where byte `offset` of the layout's frames is in the guest's RAM.
pub const fn guest_physical(offset: u64) -> PhysAddr {
    PhysAddr::new(FIRST_FRAME * PAGE_BYTES + offset)
}

/// Writes the page tables of the layout into the guest's RAM.
pub fn build_page_tables(hw: &mut Machine) {
    let mut next_table = ROOT.number() + 1;
    hw.ram.zero_frame(ROOT);
    for mapping in MAPPINGS {
        let mut leaf = Pte::PRESENT.with(Pte::USER);
        if mapping.protection & 2 != 0 {
            leaf = leaf.with(Pte::WRITE);
        }
        if mapping.protection & 4 == 0 {
            leaf = leaf.with(Pte::NX);
        }
        let slot = leaf_slot(hw, mapping.page, &mut next_table);
        let frame = Frame::new(FIRST_FRAME + mapping.frame);
        Geometry::X86_64.store(&mut hw.ram, slot, Pte::new(frame, leaf));
    }
    assert!(next_table < FIRST_FRAME, "page tables stay below the frames");
}

/// The slot of the leaf entry of `page`; makes the tables on the way.
pub fn leaf_slot(hw: &mut Machine, page: u64, next_table: &mut u64) -> PhysAddr {
    let geometry = Geometry::X86_64;
    let inner = Pte::PRESENT.with(Pte::USER).with(Pte::WRITE);
    let mut table = ROOT;
    for level in (2..=geometry.levels()).rev() {
        let slot = geometry.slot(table, geometry.index(level, VirtAddr::new(page)));
        let mut entry = geometry.load(&hw.ram, slot);
        if !entry.is_present() {
            entry = Pte::new(Frame::new(*next_table), inner);
            hw.ram.zero_frame(entry.frame());
            geometry.store(&mut hw.ram, slot, entry);
            *next_table += 1;
        }
        table = entry.frame();
    }
    geometry.slot(table, geometry.index(1, VirtAddr::new(page)))
}
