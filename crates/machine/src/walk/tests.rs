//! The walk against an oracle written from the manual, over every combination of the bits that
//! matter at every level.
//!
//! A combination at a level that lets the walk go on is continued with every combination at the
//! next level; one that ends it (not present, reserved, leaf) is tried with every access, ring,
//! WP and NXE. Entries below the end are not read, so they need no combinations of their own.

use alloc::vec::Vec;

use super::*;

const P: u64 = 1;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const NX: u64 = 1 << 63;

/// The entries that a walk reads, from the root down.
type Path = Vec<u64>;

/// One case: everything the outcome depends on, but the entries.
#[derive(Clone, Copy, Debug)]
struct Case {
    access: Access,
    privilege: Privilege,
    wp: bool,
    nxe: bool,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for access in [Access::Read, Access::Write, Access::Fetch] {
        for privilege in [Privilege::User, Privilege::Supervisor] {
            for (wp, nxe) in [(false, false), (false, true), (true, false), (true, true)] {
                cases.push(Case { access, privilege, wp, nxe });
            }
        }
    }
    cases
}

/// What the manual says of the entry at `level`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    NotPresent,
    Reserved,
    Table,
    Leaf,
}

/// SDM 3A, figures 4-4 (32-bit), 4-7 (PAE) and 4-11 (4- and 5-level): the formats of entries, with
/// MAXPHYADDR 32, 36 and 46.
fn kind(geometry: Geometry, level: u32, entry: u64, nxe: bool) -> Kind {
    if entry & P == 0 {
        return Kind::NotPresent;
    }
    let range = |low: u32, high: u32| (low..=high).fold(0u64, |bits, bit| bits | 1 << bit);
    let is_leaf = match (geometry, level) {
        (_, 1) => true,
        (Geometry::I386 | Geometry::Pae, 2) => entry & PS != 0,
        (Geometry::X86_64 | Geometry::La57, 2 | 3) => entry & PS != 0,
        _ => false,
    };
    let mut reserved = match (geometry, level, is_leaf) {
        (Geometry::I386, 2, true) => range(13, 21),
        (Geometry::I386, ..) => 0,
        (Geometry::Pae, 3, _) => range(1, 2) | range(5, 8) | range(36, 63),
        (Geometry::Pae, 2, true) => range(13, 20) | range(36, 62),
        (Geometry::Pae, ..) => range(36, 62),
        (_, 4 | 5, _) => PS | range(46, 51),
        (_, 3, true) => range(13, 29) | range(46, 51),
        (_, 2, true) => range(13, 20) | range(46, 51),
        _ => range(46, 51),
    };
    if !nxe && geometry != Geometry::I386 {
        reserved |= NX;
    }
    match (entry & reserved != 0, is_leaf) {
        (true, _) => Kind::Reserved,
        (false, true) => Kind::Leaf,
        (false, false) => Kind::Table,
    }
}

/// What the CPU does: the result, and the entries after it.
fn oracle(geometry: Geometry, path: &Path, addr: u64, case: Case) -> (Result<u64, Refusal>, Path) {
    let mut after = path.clone();
    let levels = geometry.levels();
    let has_rights = |level: u32| !(geometry == Geometry::Pae && level == 3);
    let (mut all_write, mut all_user, mut any_nx) = (true, true, false);
    for (position, entry) in path.iter().enumerate() {
        let level = levels - position as u32;
        match kind(geometry, level, *entry, case.nxe) {
            Kind::NotPresent => return (Err(Refusal::NotPresent), after),
            Kind::Reserved => return (Err(Refusal::ReservedBit), after),
            kind => {
                if has_rights(level) {
                    all_write &= entry & RW != 0;
                    all_user &= entry & US != 0;
                    any_nx |= entry & NX != 0;
                }
                if kind == Kind::Leaf {
                    // SDM 3A, 4.6.1.
                    let is_user = case.privilege == Privilege::User;
                    let allowed = (all_user || !is_user)
                        && match case.access {
                            Access::Read => true,
                            Access::Write => all_write || (!is_user && !case.wp),
                            Access::Fetch => !any_nx,
                        };
                    if !allowed {
                        return (Err(Refusal::Protection), after);
                    }
                    after[position] |= A;
                    if case.access == Access::Write {
                        after[position] |= D;
                    }
                    let span = geometry.span_bytes(level);
                    let base = entry & 0x000f_ffff_ffff_f000 & !(span - 1);
                    return (Ok(base + addr % span), after);
                }
                if has_rights(level) {
                    after[position] |= A;
                }
            }
        }
    }
    panic!("a path ends");
}

/// The walk under test, with its tables.
struct Bench {
    geometry: Geometry,
    ram: Ram,
    addr: VirtAddr,
    slots: Vec<PhysAddr>,
    cases: Vec<Case>,
    count: u64,
}

impl Bench {
    fn new(geometry: Geometry, addr: u64) -> Self {
        let addr = VirtAddr::new(addr);
        // The table of level l is in frame l.
        let slots = (1..=geometry.levels())
            .rev()
            .map(|level| geometry.slot(Frame::new(level.into()), geometry.index(level, addr)))
            .collect();
        let ram = Ram::new(1 << 20).expect("1 MiB");
        Self { geometry, ram, addr, slots, cases: cases(), count: 0 }
    }

    fn write(&mut self, path: &Path) {
        for (slot, entry) in self.slots.iter().zip(path) {
            self.geometry.store(&mut self.ram, *slot, Pte::from_raw(*entry));
        }
    }

    fn read(&self, path: &mut Path) {
        for (slot, entry) in self.slots.iter().zip(path) {
            *entry = self.geometry.load(&self.ram, *slot).raw();
        }
    }

    /// Tries every case on a path that ends, whose entries stand in RAM.
    fn check(&mut self, path: &Path) {
        let mut found = path.clone();
        let root = self.geometry.levels();
        for case in self.cases.clone() {
            let (expected, after) = oracle(self.geometry, path, self.addr.as_u64(), case);
            let controls = WalkControls {
                write_protect: if case.wp { WriteProtect::All } else { WriteProtect::UserOnly },
                no_execute: if case.nxe { NoExecute::Honoured } else { NoExecute::Reserved },
            };
            let root = Frame::new(root.into()).start();
            let (access, privilege) = (case.access, case.privilege);
            let walked =
                walk(self.geometry, controls, &mut self.ram, root, self.addr, access, privilege);
            let result = walked.map(|walked| walked.physical(self.addr).as_u64());
            assert_eq!(result.map_err(|fault| fault.refusal), expected, "{path:x?} {case:?}");
            self.read(&mut found);
            assert_eq!(found, after, "{path:x?} {case:?}");
            if let Ok(walked) = walked {
                assert_eq!(walked.pte.raw(), after[after.len() - 1]);
                assert_eq!(walked.level as usize, self.slots.len() + 1 - after.len());
            }
            if after != *path {
                self.write(path);
            }
            self.count += 1;
        }
    }

    /// Tries every combination of `bits` at the next level, and goes on below those that let the
    /// walk continue.
    fn descend(&mut self, path: &mut Path, bits: &[u64]) {
        let level = self.geometry.levels() - path.len() as u32;
        for combination in 0..1u64 << bits.len() {
            let mut entry = 0;
            for (position, bit) in bits.iter().enumerate() {
                entry |= (combination >> position & 1) * bit;
            }
            let is_large = level > 1 && entry & PS != 0;
            if !is_large && level > 1 && entry & (1 << 13 | 1 << 21) != 0 {
                // In a table entry these are address bits.
                continue;
            }
            entry |= if is_large || level == 1 { 1 << 30 } else { u64::from(level - 1) << 12 };
            path.push(entry);
            let continues = kind(self.geometry, level, entry, true) == Kind::Table;
            if !continues {
                self.write(path);
                self.check(path);
            } else {
                self.descend(path, bits);
            }
            path.pop();
        }
    }

    fn run(geometry: Geometry, addr: u64, bits: &[u64]) -> u64 {
        let mut bench = Self::new(geometry, addr);
        bench.descend(&mut Vec::new(), bits);
        bench.count
    }
}

#[test]
fn every_combination_of_bits_walks_as_the_manual_says() {
    let i386 = Bench::run(Geometry::I386, 0xc012_3456, &[P, RW, US, A, D, PS, 1 << 13, 1 << 21]);
    let low = [P, RW, US, A, D, PS, NX, 1 << 13, 1 << 36];
    let pae = Bench::run(Geometry::Pae, 0x4a65_4321, &low);
    let four = [P, RW, US, A, PS, NX, 1 << 13, 1 << 46];
    let x86_64 = Bench::run(Geometry::X86_64, 0x7f12_3456_7abc, &four);
    let five = [P, RW, US, PS, NX, 1 << 51];
    let la57 = Bench::run(Geometry::La57, 0xff_1234_5678_9abc, &five);
    assert!(i386 > 50_000 && pae > 100_000, "{i386} {pae}");
    assert!(x86_64 > 20_000_000 && la57 > 5_000_000, "{x86_64} {la57}");
}
