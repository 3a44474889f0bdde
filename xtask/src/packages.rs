//! The Debian packages whose programs the tests run as guests.

use std::path::Path;
use std::process::Command;

/// A file of each package, and the package.
const NEEDED: [(&str, &str); 28] = [
    ("/bin/busybox", "busybox-static"),
    ("/usr/bin/musl-gcc", "musl-tools"),
    ("/usr/bin/sqlite3", "sqlite3"),
    ("/usr/bin/lua5.4", "lua5.4"),
    ("/usr/bin/mawk", "mawk"),
    ("/usr/bin/xz", "xz-utils"),
    ("/bin/gzip", "gzip"),
    ("/usr/bin/perl", "perl"),
    ("/usr/bin/python3", "python3"),
    ("/usr/bin/gcc", "gcc"),
    ("/usr/bin/g++", "g++"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("/usr/lib32/libc.so", "gcc-multilib"),
    ("/usr/bin/go", "golang-go"),
    ("/bin/sed", "sed"),
    ("/bin/grep", "grep"),
    ("/usr/bin/sort", "coreutils"),
    ("/usr/bin/prlimit", "util-linux"),
    ("/usr/bin/setarch", "util-linux"),
    ("/usr/bin/script", "bsdutils"),
    ("/bin/bash", "bash"),
    ("/usr/bin/make", "make"),
    ("/usr/bin/git", "git"),
    ("/usr/bin/objdump", "binutils"),
    ("/bin/tar", "tar"),
    ("/usr/bin/find", "findutils"),
    ("/usr/bin/diff", "diffutils"),
    ("/usr/bin/pmap", "procps"),
];

/// Installs what is missing, if we may; else says loudly what will be skipped.
pub(crate) fn install() {
    let missing = missing();
    if missing.is_empty() {
        return;
    }
    println!("missing packages: {}", missing.join(" "));
    if !is_root() {
        println!("not root: the tests that use them are SKIPPED; to run them:");
        println!("  sudo apt-get install {}", missing.join(" "));
        return;
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        command.status().is_ok_and(|status| status.success())
    };
    let install =
        [&["install", "-y", "-q", "--no-install-recommends"], missing.as_slice()].concat();
    if !(apt(&["update", "-q"]) && apt(&install)) {
        println!("apt-get failed: the tests that use these packages are SKIPPED");
    }
}

fn missing() -> Vec<&'static str> {
    let absent = NEEDED.iter().filter(|(file, _)| !Path::new(file).exists());
    let mut packages: Vec<&str> = absent.map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout == b"0\n")
}
