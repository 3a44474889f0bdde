//! The page cache of the machine: every way to the bytes of a file sees the same pages, they
//! outlive processes, and what a program waits for is what its device has to do.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Build, Guest, build, fresh, input, installed};

/// Bytes of the scene that the walk-through reads.
const SCENE_BYTES: usize = 1 << 20;
const SCENE_PAGES: u64 = (SCENE_BYTES / 4096) as u64;

fn scene() -> PathBuf {
    input("scene.dat", || (0..SCENE_BYTES).map(|i| (i * 31 + i / 4096) as u8).collect())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("our own names are text")
}

/// Runs a script inside and returns what it prints.
#[track_caller]
fn shell(options: &[&str], script: &str) -> String {
    installed("/usr/bin/dash").expect("a shell is installed");
    let ran = Guest::new(["/usr/bin/dash", "-c", script]).options(options).inside();
    assert_eq!(ran.code(), Some(0), "{}{}", ran.text(), ran.errors());
    ran.text()
}

/// The values of the fields of a `page-in` line: object, pages, pages read from the device.
fn page_in(line: &str) -> Option<(u64, u64, u64)> {
    let fields = line.split_once("page-in ")?.1;
    let value = |name: &str| {
        let fields = fields.split_whitespace().filter_map(|field| field.split_once('='));
        fields.filter(|field| field.0 == name).find_map(|field| field.1.parse().ok())
    };
    Some((value("object")?, value("pages")?, value("device")?))
}

/// Pages that came into the cache and those read from the device, by object, of a run.
#[track_caller]
fn pages_in(options: &[&str], script: &str) -> (String, BTreeMap<u64, (u64, u64)>) {
    let trace = fresh("trace");
    let options = [options, &["--trace", text(&trace)]].concat();
    let printed = shell(&options, script);
    let lines = fs::read_to_string(&trace).expect("the trace was written");
    fs::remove_file(&trace).expect("it is ours");
    let mut objects = BTreeMap::new();
    for (object, pages, device_pages) in lines.lines().filter_map(page_in) {
        let sums: &mut (u64, u64) = objects.entry(object).or_default();
        *sums = (sums.0 + pages, sums.1 + device_pages);
    }
    (printed, objects)
}

#[test]
fn file_1_all_ways_to_the_bytes_of_a_file_agree() {
    if let Some(program) = build("cache/coherence.c", Build::Dynamic) {
        let file = fresh("coherence");
        Guest::new([program, file]).same();
    }
}

#[test]
fn file_1_a_read_fills_buffers_of_every_shape() {
    if let Some(program) = build("cache/reads.c", Build::Dynamic) {
        Guest::new([program]).same();
    }
}

/// What comes for a read may take the frames of the buffer that it is read into.
#[test]
fn a_file_and_its_buffer_need_not_fit_in_ram_together() {
    let Some(program) = build("cache/reads.c", Build::Dynamic) else { return };
    let bytes = 12 << 20;
    let file = input("12M.dat", || (0..bytes).map(|i| (i * 13 + i / 4099) as u8).collect());
    let bytes = bytes.to_string();
    let command = [program.as_os_str(), file.as_os_str(), bytes.as_ref()];
    for ram in ["8M", "20M"] {
        let report = Guest::new(command).options(["--ram", ram, "--swap", "64M"]).same();
        assert_ne!(report["swap"]["out_pages"], 0, "{ram}: {report:#}");
    }
}

#[test]
fn render_reads_its_scene_once_and_others_find_it_in_the_cache() {
    let scene = scene();
    let script = format!("cat {0} > /dev/null; cat {0} > /dev/null; cat {0} | cksum", text(&scene));
    let (_, objects) = pages_in(&["--page-cache", "cold"], &script);
    let whole = objects.values().filter(|sums| **sums == (SCENE_PAGES, SCENE_PAGES));
    assert_eq!(whole.count(), 1, "the scene came once, from the device: {objects:?}");
    let (_, objects) = pages_in(&[], &script);
    let whole = objects.values().filter(|sums| **sums == (SCENE_PAGES, 0));
    assert_eq!(whole.count(), 1, "warm, no page waits for the device: {objects:?}");
    assert!(objects.values().all(|sums| sums.1 == 0), "{objects:?}");
}

#[test]
fn file_7_a_small_read_brings_the_first_window() {
    let scene = scene();
    let script = format!("dd if={} of=/dev/null bs=512 count=1 2>/dev/null", text(&scene));
    let (_, objects) = pages_in(&["--page-cache", "cold"], &script);
    let windows = objects.values().filter(|sums| **sums == (4, 4));
    assert_eq!(windows.count(), 1, "512 bytes bring four pages: {objects:?}");
}

#[test]
fn cached_pages_stay_when_their_process_ends_and_the_second_run_is_faster() {
    let scene = scene();
    let script = format!(
        "cached() {{ grep ^Cached: /proc/meminfo | tr -cd 0-9; }}
         timed() {{ from=$(date +%s%N); cat {0} > /dev/null; echo $(($(date +%s%N) - from)); }}
         date +%s%N > /dev/null; cat /dev/null; before=$(cached)
         first=$(timed); after=$(cached); second=$(timed); last=$(cached)
         test $((after - before)) -ge 1024 && echo cached
         test $((last - after)) -lt 64 && echo once
         test $((first - second)) -gt 400000 && echo faster
         echo 1 > /proc/sys/vm/drop_caches
         test $((last - $(cached))) -ge 1024 && echo dropped
         third=$(timed); test $((third - second)) -gt 400000 && echo slow again",
        text(&scene)
    );
    let printed = shell(&["--page-cache", "cold"], &script);
    assert_eq!(printed, "cached\nonce\nfaster\ndropped\nslow again\n");
}

#[test]
fn file_8_what_is_written_is_dirty_until_it_is_stored() {
    let script = "dirty() { grep ^Dirty: /proc/meminfo | tr -cd 0-9; }
         dd if=/dev/zero of=/tmp/dirty bs=4k count=100 2>/dev/null; dirty; echo
         sync; dirty; echo
         dd if=/dev/zero of=/tmp/dirty bs=4k count=50 conv=notrunc 2>/dev/null; dirty; echo
         sleep 40; dirty; echo
         dd if=/dev/zero of=/tmp/dirty bs=4k count=10 2>/dev/null; dirty; echo
         rm /tmp/dirty; dirty; echo
         grep -E '^nr_(dirtied|written) ' /proc/vmstat";
    let printed = shell(&[], script);
    assert_eq!(printed, "400\n0\n200\n0\n40\n0\nnr_dirtied 160\nnr_written 150\n");
}

#[test]
fn files_larger_than_ram_are_read_and_written() {
    let scene = input("large.dat", || (0..24u32 << 20).map(|i| (i >> 5) as u8).collect());
    let script = format!(
        "cat {0} {0} | cksum; cp {0} /tmp/copy; cat /tmp/copy | cksum; cksum < {0}",
        text(&scene)
    );
    let printed = shell(&["--ram", "16M"], &script);
    let sums: Vec<&str> = printed.lines().collect();
    assert_eq!(sums.len(), 3, "{printed}");
    assert_eq!(sums[1], sums[2], "the copy is the file");
    assert_eq!(shell(&[], &script), printed, "as with all the RAM that there could be");
}

#[test]
fn a_writable_bind_is_written_when_a_file_is_closed_or_the_run_ends() {
    let directory = fresh("bind");
    fs::create_dir_all(&directory).expect("the target can be written");
    let bind = format!("{}:/mnt:rw", text(&directory));
    let script = "printf one > /mnt/one; exec 3> /mnt/two; printf two >&3; printf 1 >> /mnt/one
         wc -c < /mnt/two; cat /mnt/one; mv /mnt/one /mnt/three; printf X > /mnt/four";
    let printed = shell(&["--bind", &bind], script);
    assert_eq!(printed.split_whitespace().collect::<Vec<_>>(), ["3", "one1"]);
    let read = |name: &str| fs::read_to_string(directory.join(name)).expect("it was stored");
    assert_eq!(
        (read("two"), read("three"), read("four")),
        ("two".into(), "one1".into(), "X".into())
    );
    fs::remove_dir_all(&directory).expect("it is ours");
}

/// A host that takes no more bytes (here: a limit of its own) loses pages, and that is said.
#[test]
fn pages_that_the_host_does_not_take_are_told() {
    let directory = fresh("lost");
    fs::create_dir_all(&directory).expect("the target can be written");
    let script = format!(
        "trap '' XFSZ; ulimit -f 1000000
         exec {} run --root / --bind {}:/mnt:rw --json {} -- \\
         /bin/dd if=/dev/zero of=/mnt/far bs=4096 count=3 seek=500000 status=none",
        env!("CARGO_BIN_EXE_faultline"),
        text(&directory),
        text(&directory.join("json"))
    );
    let ran = Command::new("/bin/bash").args(["-c", &script]).output().expect("bash is installed");
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(told.contains("\n3 pages of files below a rw bind were lost"), "{told}");
    let json = fs::read(directory.join("json")).expect("it was written");
    let report: serde_json::Value = serde_json::from_slice(&json).expect("it is JSON");
    assert_eq!(report["memory"]["pages_lost"], 3);
    fs::remove_dir_all(&directory).expect("it is ours");
}
