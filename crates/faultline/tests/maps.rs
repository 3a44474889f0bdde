//! `/proc/self/maps` has the lines of the host's with address-space randomisation off.
//!
//! Not compared: device and inode numbers, the kernel's own pages ([vvar] and its variants, and
//! [vsyscall]), whose number differs between versions of Linux.

mod common;

use common::{Build, Guest, Ran, build, installed};

/// Address range, rights, offset and name of each line that is compared.
fn comparable(ran: &Ran) -> Vec<String> {
    let text = ran.text();
    let lines = text.lines().filter(|line| {
        !["[vvar]", "[vvar_vclock]", "[vsyscall]"].iter().any(|name| line.ends_with(name))
    });
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let name = fields.get(5..).unwrap_or_default().join(" ");
            format!("{} {} {} {name}", fields[0], fields[1], fields[2])
        })
        .collect()
}

#[track_caller]
fn same_maps(command: &[&str]) {
    if installed(command[0]).is_none() {
        return;
    }
    let guest = Guest::new(command);
    let (native, inside) = (guest.native(), guest.inside());
    assert_eq!(inside.code(), Some(0), "{inside:?}");
    let (native, inside) = (comparable(&native), comparable(&inside));
    assert_eq!(
        inside.join("\n"),
        native.join("\n"),
        "{command:?}: left is ours, right is the host's"
    );
}

#[test]
fn dynamic() {
    same_maps(&["/bin/cat", "/proc/self/maps"]);
}

#[test]
fn static_() {
    same_maps(&["/bin/busybox", "cat", "/proc/self/maps"]);
}

#[test]
fn interpreters() {
    let python = "print(open('/proc/self/maps').read(), end='')";
    same_maps(&["/usr/bin/python3", "-S", "-c", python]);
    same_maps(&["/usr/bin/perl", "-e", "open F, '/proc/self/maps'; print <F>"]);
}

#[test]
fn the_layout_of_the_line_is_linux_s() {
    let inside = Guest::new(["/bin/cat", "/proc/self/maps"]).inside().text();
    for line in inside.lines() {
        let name = line.get(73..).unwrap_or_default();
        assert!(name.is_empty() || name.starts_with(['/', '[']), "{line}");
        assert_eq!(line.split(' ').nth(1).map(str::len), Some(4), "{line}");
    }
    assert!(inside.contains("[stack]") && inside.contains("[heap]"), "{inside}");
}

#[test]
fn other_files_of_proc_tell_the_same_story() {
    let Some(program) = build("proc_files.c", Build::GlibcStatic) else { return };
    let guest = Guest::new([program]);
    let (native, inside) = (guest.native(), guest.inside());
    assert_eq!(native.text(), inside.text());
}
