//! The processor: `/proc/cpuinfo` and `/sys/devices/system/cpu`, from what `cpuid` says.

use super::Source;
use crate::Kernel;

/// A cache of the processor.
struct Cache {
    level: u32,
    kind: &'static str,
    ways: u32,
    sets: u32,
}

/// Bytes of a line of every cache.
const LINE_BYTES: u32 = 64;

impl Cache {
    fn kib(&self) -> u32 {
        self.ways * self.sets * LINE_BYTES / 1024
    }
}

/// The caches, in the order of `cpuid` leaf 4.
fn caches() -> Vec<Cache> {
    let one = |index| {
        let [eax, ebx, ecx, _] = cpu::cpuid(4, index);
        let kind = match eax & 0x1f {
            1 => "Data",
            2 => "Instruction",
            3 => "Unified",
            _ => return None,
        };
        Some(Cache { level: eax >> 5 & 7, kind, ways: (ebx >> 22) + 1, sets: ecx + 1 })
    };
    (0..).map_while(one).collect()
}

/// The files of `/sys/devices/system/cpu` whose text is always the same: one processor.
pub(super) const FIXED: &[(&str, &str)] = &[
    ("/sys/devices/system/cpu/online", "0\n"),
    ("/sys/devices/system/cpu/offline", "\n"),
    ("/sys/devices/system/cpu/possible", "0\n"),
    ("/sys/devices/system/cpu/present", "0\n"),
    ("/sys/devices/system/cpu/isolated", "\n"),
    ("/sys/devices/system/cpu/kernel_max", "0\n"),
    ("/sys/devices/system/cpu/smt/active", "0\n"),
    ("/sys/devices/system/cpu/smt/control", "notsupported\n"),
    ("/sys/devices/system/cpu/cpu0/topology/core_id", "0\n"),
    ("/sys/devices/system/cpu/cpu0/topology/physical_package_id", "0\n"),
    ("/sys/devices/system/cpu/cpu0/topology/die_id", "0\n"),
    ("/sys/devices/system/cpu/cpu0/topology/core_cpus", "1\n"),
    ("/sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0\n"),
    ("/sys/devices/system/cpu/cpu0/topology/core_siblings", "1\n"),
    ("/sys/devices/system/cpu/cpu0/topology/core_siblings_list", "0\n"),
    ("/sys/devices/system/cpu/cpu0/topology/die_cpus", "1\n"),
    ("/sys/devices/system/cpu/cpu0/topology/die_cpus_list", "0\n"),
    ("/sys/devices/system/cpu/cpu0/topology/package_cpus", "1\n"),
    ("/sys/devices/system/cpu/cpu0/topology/package_cpus_list", "0\n"),
    ("/sys/devices/system/cpu/cpu0/topology/thread_siblings", "1\n"),
    ("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n"),
];

/// The files of the caches.
pub(super) const CACHE_FILES: &[&str] = &[
    "/sys/devices/system/cpu/cpu0/cache/index0/level",
    "/sys/devices/system/cpu/cpu0/cache/index0/type",
    "/sys/devices/system/cpu/cpu0/cache/index0/size",
    "/sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size",
    "/sys/devices/system/cpu/cpu0/cache/index0/number_of_sets",
    "/sys/devices/system/cpu/cpu0/cache/index0/ways_of_associativity",
    "/sys/devices/system/cpu/cpu0/cache/index0/physical_line_partition",
    "/sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list",
    "/sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_map",
    "/sys/devices/system/cpu/cpu0/cache/index0/id",
    "/sys/devices/system/cpu/cpu0/cache/index1/level",
    "/sys/devices/system/cpu/cpu0/cache/index1/type",
    "/sys/devices/system/cpu/cpu0/cache/index1/size",
    "/sys/devices/system/cpu/cpu0/cache/index1/coherency_line_size",
    "/sys/devices/system/cpu/cpu0/cache/index1/number_of_sets",
    "/sys/devices/system/cpu/cpu0/cache/index1/ways_of_associativity",
    "/sys/devices/system/cpu/cpu0/cache/index1/physical_line_partition",
    "/sys/devices/system/cpu/cpu0/cache/index1/shared_cpu_list",
    "/sys/devices/system/cpu/cpu0/cache/index1/shared_cpu_map",
    "/sys/devices/system/cpu/cpu0/cache/index1/id",
    "/sys/devices/system/cpu/cpu0/cache/index2/level",
    "/sys/devices/system/cpu/cpu0/cache/index2/type",
    "/sys/devices/system/cpu/cpu0/cache/index2/size",
    "/sys/devices/system/cpu/cpu0/cache/index2/coherency_line_size",
    "/sys/devices/system/cpu/cpu0/cache/index2/number_of_sets",
    "/sys/devices/system/cpu/cpu0/cache/index2/ways_of_associativity",
    "/sys/devices/system/cpu/cpu0/cache/index2/physical_line_partition",
    "/sys/devices/system/cpu/cpu0/cache/index2/shared_cpu_list",
    "/sys/devices/system/cpu/cpu0/cache/index2/shared_cpu_map",
    "/sys/devices/system/cpu/cpu0/cache/index2/id",
    "/sys/devices/system/cpu/cpu0/cache/index3/level",
    "/sys/devices/system/cpu/cpu0/cache/index3/type",
    "/sys/devices/system/cpu/cpu0/cache/index3/size",
    "/sys/devices/system/cpu/cpu0/cache/index3/coherency_line_size",
    "/sys/devices/system/cpu/cpu0/cache/index3/number_of_sets",
    "/sys/devices/system/cpu/cpu0/cache/index3/ways_of_associativity",
    "/sys/devices/system/cpu/cpu0/cache/index3/physical_line_partition",
    "/sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list",
    "/sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_map",
    "/sys/devices/system/cpu/cpu0/cache/index3/id",
];

/// The source of each file in [`CACHE_FILES`].
pub(super) const CACHE_SOURCE: Source = Source::OfPath(cache_file);

/// The text of one file of a cache.
fn cache_file(_kernel: &Kernel, path: &str) -> String {
    let mut names = path.rsplit('/');
    let name = names.next().unwrap_or("");
    let index = names.next().and_then(|name| name.strip_prefix("index"));
    let caches = caches();
    let cache = index.and_then(|index| caches.get(index.parse::<usize>().ok()?));
    let Some(cache) = cache else { return String::new() };
    match name {
        "level" => format!("{}\n", cache.level),
        "type" => format!("{}\n", cache.kind),
        "size" => format!("{}K\n", cache.kib()),
        "coherency_line_size" => format!("{LINE_BYTES}\n"),
        "number_of_sets" => format!("{}\n", cache.sets),
        "ways_of_associativity" => format!("{}\n", cache.ways),
        "physical_line_partition" | "shared_cpu_map" => "1\n".to_string(),
        _ => "0\n".to_string(),
    }
}

/// The text of `cpuinfo`: what `cpuid` says.
pub(super) fn cpuinfo(_kernel: &Kernel) -> String {
    let [signature, _, ecx, edx] = cpu::cpuid(1, 0);
    let [highest, ebx, vendor_ecx, vendor_edx] = cpu::cpuid(0, 0);
    let vendor: Vec<u8> =
        [ebx, vendor_edx, vendor_ecx].iter().flat_map(|word| word.to_le_bytes()).collect();
    let [sizes, ..] = cpu::cpuid(0x8000_0008, 0);
    let (physical, virtual_bits) = (sizes & 0xff, sizes >> 8 & 0xff);
    let base_family = signature >> 8 & 0xf;
    let family = if base_family == 15 { 15 + (signature >> 20 & 0xff) } else { base_family };
    let model = (signature >> 4 & 0xf) | (signature >> 12 & 0xf0);
    format!(
        "processor\t: 0\nvendor_id\t: {}\ncpu family\t: {family}\nmodel\t\t: {model}\n\
         model name\t: {}\nstepping\t: {}\ncpu MHz\t\t: 2000.000\ncache size\t: {} KB\n\
         physical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\napicid\t\t: 0\n\
         initial apicid\t: 0\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {highest}\n\
         wp\t\t: yes\nflags\t\t:{}\nbugs\t\t:\nbogomips\t: 4000.00\nclflush size\t: 64\n\
         cache_alignment\t: 64\n\
         address sizes\t: {physical} bits physical, {virtual_bits} bits virtual\n\
         power management:\n\n",
        String::from_utf8_lossy(&vendor),
        brand(),
        signature & 0xf,
        caches().last().map_or(0, |cache| cache.kib()),
        flags(ecx, edx),
    )
}

fn brand() -> String {
    let mut text = Vec::new();
    for leaf in 0x8000_0002..=0x8000_0004 {
        text.extend(cpu::cpuid(leaf, 0).iter().flat_map(|word| word.to_le_bytes()));
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    text.trim_matches(|letter: char| letter == '\0' || letter.is_whitespace()).to_string()
}

const EDX_NAMES: [(u32, &str); 20] = [
    (0, "fpu"),
    (3, "pse"),
    (4, "tsc"),
    (5, "msr"),
    (6, "pae"),
    (7, "mce"),
    (8, "cx8"),
    (9, "apic"),
    (11, "sep"),
    (13, "pge"),
    (14, "mca"),
    (15, "cmov"),
    (16, "pat"),
    (17, "pse36"),
    (19, "clflush"),
    (23, "mmx"),
    (24, "fxsr"),
    (25, "sse"),
    (26, "sse2"),
    (28, "ht"),
];
const EXTENDED_EDX_NAMES: [(u32, &str); 5] =
    [(11, "syscall"), (20, "nx"), (26, "pdpe1gb"), (27, "rdtscp"), (29, "lm")];
const ECX_NAMES: [(u32, &str); 15] = [
    (0, "pni"),
    (1, "pclmulqdq"),
    (9, "ssse3"),
    (12, "fma"),
    (13, "cx16"),
    (17, "pcid"),
    (19, "sse4_1"),
    (20, "sse4_2"),
    (22, "movbe"),
    (23, "popcnt"),
    (25, "aes"),
    (26, "xsave"),
    (28, "avx"),
    (29, "f16c"),
    (31, "hypervisor"),
];
const EXTENDED_ECX_NAMES: [(u32, &str); 2] = [(0, "lahf_lm"), (5, "abm")];
const LEAF7_NAMES: [(u32, &str); 4] = [(3, "bmi1"), (5, "avx2"), (8, "bmi2"), (29, "sha_ni")];

/// The features of the virtual processor that have a name here.
fn flags(ecx: u32, edx: u32) -> String {
    let [_, leaf7, ..] = cpu::cpuid(7, 0);
    let [_, _, extended_ecx, extended_edx] = cpu::cpuid(0x8000_0001, 0);
    let sets: [(u32, &[(u32, &str)]); 5] = [
        (edx, &EDX_NAMES),
        (extended_edx, &EXTENDED_EDX_NAMES),
        (ecx, &ECX_NAMES),
        (extended_ecx, &EXTENDED_ECX_NAMES),
        (leaf7, &LEAF7_NAMES),
    ];
    let mut text = String::new();
    for (bits, names) in sets {
        for (bit, name) in names.iter().filter(|(bit, _)| bits >> bit & 1 == 1) {
            debug_assert!(*bit < 32, "a register has 32 bits");
            text.push(' ');
            text.push_str(name);
        }
    }
    text
}
