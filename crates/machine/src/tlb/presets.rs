//! TLBs of real cores, as constant tables.

use super::spec::{Array, Large, LevelSpec, TlbSpec};

/// The 64-entry, 4-way first levels and 1,536-entry, 12-way second level of textbooks.
const CLASSIC: TlbSpec = TlbSpec {
    name: "classic",
    source: "",
    l1d: LevelSpec {
        k4: Array::of(64, 4),
        m2: Large::Own(Array::of(32, 4)),
        g1: Large::Own(Array::of(4, 4)),
    },
    l1i: LevelSpec { k4: Array::of(64, 4), m2: Large::Own(Array::of(8, 8)), g1: Large::Absent },
    l2: LevelSpec { k4: Array::of(1536, 12), m2: Large::Shared, g1: Large::Own(Array::of(16, 4)) },
    l2i: None,
};

const PRESETS: [TlbSpec; 1] = [CLASSIC];

/// All presets; the first is the default.
pub fn tlb_presets() -> &'static [TlbSpec] {
    const { &PRESETS }
}

/// The preset with this name.
pub fn tlb_preset(name: &str) -> Option<&'static TlbSpec> {
    tlb_presets().iter().find(|spec| spec.name == name)
}

/// The preset that a machine has unless told otherwise: a current server core.
pub fn tlb_default() -> &'static TlbSpec {
    &tlb_presets()[0]
}
