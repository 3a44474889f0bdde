//! TLBs of real cores, as constant tables.
//!
//! Simplifications that hold for all of them: replacement is exact LRU (cores use approximations
//! of it that vendors do not publish), sets are chosen by the low page-number bits (some cores
//! hash them), one hardware thread owns all entries, and there are no paging-structure caches.

use super::spec::{Array, Large, LevelSpec, TlbSpec};

/// A fully associative array.
const fn full(entries: u16) -> Array {
    Array::of(entries, entries)
}

const GOLDEN_COVE: TlbSpec = TlbSpec {
    name: "golden-cove",
    source: "Intel Golden Cove (Xeon Sapphire Rapids, Core 12th generation): CPUID leaf 18h and \
             Hennessy and Patterson, Computer Architecture, 7th edition, memory hierarchy of the \
             Core i9-12900. Simplified: the 16 entries for stores alone are left out; the two \
             second-level arrays of 1,024 (4K+2M, 4K+1G) are one of 2,048",
    l1d: LevelSpec {
        k4: Array::of(96, 6),
        m2: Large::Own(Array::of(32, 4)),
        g1: Large::Own(full(8)),
    },
    l1i: LevelSpec { k4: Array::of(256, 8), m2: Large::Own(Array::of(32, 8)), g1: Large::Absent },
    l2: LevelSpec { k4: Array::of(2048, 16), m2: Large::Shared, g1: Large::Shared },
    l2i: None,
};

const SUNNY_COVE: TlbSpec = TlbSpec {
    name: "sunny-cove",
    source: "Intel Sunny Cove (Xeon Ice Lake, Core 10th generation): CPUID leaf 18h (data and \
             second level); Intel 64 and IA-32 Optimization Reference Manual, Sunny Cove TLB table \
             (instructions). Simplified: the 16 entries for stores alone are left out; the two \
             second-level arrays of 1,024 (4K+2M, 4K+1G; 8 ways) are one of 2,048 and 16 ways",
    l1d: LevelSpec {
        k4: Array::of(64, 4),
        m2: Large::Own(Array::of(32, 4)),
        g1: Large::Own(full(8)),
    },
    l1i: LevelSpec { k4: Array::of(128, 8), m2: Large::Own(full(8)), g1: Large::Absent },
    l2: LevelSpec { k4: Array::of(2048, 16), m2: Large::Shared, g1: Large::Shared },
    l2i: None,
};

const SKYLAKE: TlbSpec = TlbSpec {
    name: "skylake",
    source: "Intel Skylake (client and Xeon Scalable): Intel 64 and IA-32 Optimization Reference \
             Manual, table \"TLB Parameters of the Skylake Microarchitecture\"",
    l1d: LevelSpec {
        k4: Array::of(64, 4),
        m2: Large::Own(Array::of(32, 4)),
        g1: Large::Own(Array::of(4, 4)),
    },
    l1i: LevelSpec { k4: Array::of(128, 8), m2: Large::Own(full(8)), g1: Large::Absent },
    l2: LevelSpec { k4: Array::of(1536, 12), m2: Large::Shared, g1: Large::Own(Array::of(16, 4)) },
    l2i: None,
};

const ZEN: TlbSpec = TlbSpec {
    name: "zen",
    source: "AMD Zen (EPYC 7001, Ryzen 1000): AMD 55723, Software Optimization Guide for AMD \
             Family 17h Processors, 2.7. Simplified: the second level does not hold 1G pages as 2M \
             pieces but not at all, and holds no directory entries",
    l1d: LevelSpec { k4: full(64), m2: Large::Shared, g1: Large::Shared },
    l1i: LevelSpec { k4: full(64), m2: Large::Shared, g1: Large::Shared },
    l2: LevelSpec { k4: Array::of(1536, 12), m2: Large::Shared, g1: Large::Absent },
    l2i: Some(LevelSpec { k4: Array::of(512, 8), m2: Large::Shared, g1: Large::Absent }),
};

const NEHALEM: TlbSpec = TlbSpec {
    name: "nehalem",
    source: "Intel Nehalem (Core i7-900, Xeon 5500): Intel 64 and IA-32 Optimization Reference \
             Manual, Nehalem, \"Cache and Memory Subsystem\"; CPUID leaf 2 descriptors 5Ah, 55h, \
             B0h, B2h, CAh",
    l1d: LevelSpec { k4: Array::of(64, 4), m2: Large::Own(Array::of(32, 4)), g1: Large::Absent },
    l1i: LevelSpec { k4: Array::of(128, 4), m2: Large::Own(full(7)), g1: Large::Absent },
    l2: LevelSpec { k4: Array::of(512, 4), m2: Large::Absent, g1: Large::Absent },
    l2i: None,
};

const CORE2: TlbSpec = TlbSpec {
    name: "core2",
    source: "Intel Core 2 (Merom): Intel 64 and IA-32 Optimization Reference Manual, Intel Core \
             Microarchitecture, \"Intel Advanced Memory Access\" (DTLB0, DTLB1); CPUID leaf 2 \
             descriptors B0h, B1h. Simplified: stores go through the first level too",
    l1d: LevelSpec { k4: Array::of(16, 4), m2: Large::Own(Array::of(16, 4)), g1: Large::Absent },
    l1i: LevelSpec { k4: Array::of(128, 4), m2: Large::Own(Array::of(8, 4)), g1: Large::Absent },
    l2: LevelSpec { k4: Array::of(256, 4), m2: Large::Own(Array::of(32, 4)), g1: Large::Absent },
    l2i: Some(LevelSpec::NONE),
};

const P6: TlbSpec = TlbSpec {
    name: "p6",
    source: "Intel P6 family (Pentium Pro, II, III): Intel SDM 3A, table \"Characteristics of the \
             Caches, TLBs, Store Buffer\"; CPUID leaf 2 descriptors 01h to 04h. One level only",
    l1d: LevelSpec { k4: Array::of(64, 4), m2: Large::Own(Array::of(8, 4)), g1: Large::Absent },
    l1i: LevelSpec { k4: Array::of(32, 4), m2: Large::Own(full(2)), g1: Large::Absent },
    l2: LevelSpec::NONE,
    l2i: None,
};

const CLASSIC: TlbSpec = TlbSpec {
    name: "classic",
    source: "No core: 64 entries and 4 ways for data and instructions, 1,536 entries and 12 ways \
             behind them, large pages in the same arrays. The model that cache simulators offer",
    l1d: LevelSpec { k4: Array::of(64, 4), m2: Large::Shared, g1: Large::Shared },
    l1i: LevelSpec { k4: Array::of(64, 4), m2: Large::Shared, g1: Large::Shared },
    l2: LevelSpec { k4: Array::of(1536, 12), m2: Large::Shared, g1: Large::Shared },
    l2i: None,
};

static PRESETS: [TlbSpec; 8] = [GOLDEN_COVE, SUNNY_COVE, SKYLAKE, ZEN, NEHALEM, CORE2, P6, CLASSIC];

/// All presets; the first is the default.
pub fn tlb_presets() -> &'static [TlbSpec] {
    &PRESETS
}

/// The preset with this name.
pub fn tlb_preset(name: &str) -> Option<&'static TlbSpec> {
    PRESETS.iter().find(|spec| spec.name == name)
}

/// The TLBs of a machine unless told otherwise: those of a current server core.
pub fn tlb_default() -> &'static TlbSpec {
    &PRESETS[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for spec in tlb_presets() {
            assert_eq!(tlb_preset(spec.name).map(|found| found.source), Some(spec.source));
            assert_eq!(tlb_presets().iter().filter(|other| other.name == spec.name).count(), 1);
            assert!(spec.l1d.k4.entries() > 0 && spec.l1i.k4.entries() > 0);
        }
        assert_eq!(tlb_preset("none"), None);
        assert_eq!(tlb_default().name, "golden-cove");
    }
}
