//! The kernel's part of the address space as programs meet it.

mod common;

use common::{Build, Guest, build};

/// The direct map is there, in every process, and no user gets in.
#[test]
fn k64_1_a_user_who_touches_the_kernel_gets_the_code_of_the_host() {
    for kind in [Build::Dynamic, Build::GlibcStatic] {
        let Some(program) = build("kernel_addresses.c", kind) else { return };
        Guest::new([program]).same();
    }
}

#[test]
fn meminfo_tells_of_the_pages_of_the_direct_map() {
    let kib = |ram: &str, label: &str| {
        let text =
            Guest::new(["/bin/cat", "/proc/meminfo"]).options(["--ram", ram]).inside().text();
        let line = text.lines().find(|line| line.starts_with(label)).expect("the line is there");
        let number = line.split_whitespace().nth(1).expect("a number");
        number.parse::<u64>().expect("a number")
    };
    assert_eq!(kib("4G", "DirectMap1G"), 4 << 20);
    assert_eq!(kib("4G", "DirectMap4k"), 0);
    assert_eq!(kib("100M", "DirectMap2M"), 100 << 10);
    assert_eq!(kib("65M", "DirectMap4k"), 1 << 10);
}
