//! Unmodified programs of the host, and small ones of every kind of C library: standard output,
//! standard error and exit code are byte for byte those of a native run, and no frame leaks.

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{Build, Guest, build, input, installed, lines, noise, programs};

/// 100,000 lines of words.
fn text() -> PathBuf {
    input("lines.txt", || lines(100_000))
}

/// 40 MB without any pattern.
fn large() -> PathBuf {
    input("noise-40M", || noise(40 << 20))
}

/// 3 MB that compress a little.
fn medium() -> PathBuf {
    input("medium", || [lines(60_000), noise(1 << 20)].concat())
}

/// A C file of about 2,000 lines.
fn c_source() -> PathBuf {
    input("source.c", || {
        let mut text = String::from("typedef unsigned long word;\nextern word sink[1000];\n");
        for i in 0..220 {
            text += &format!(
                "struct s{i} {{ word a, b; double d; struct s{i} *next; }};\n\
                 word f{i}(struct s{i} *p, word n)\n{{\n\tword sum = {i};\n\
                 \tfor (word i = 0; i < n; i++) {{\n\t\tsum += p->a * {i} + (p->b >> {});\n\
                 \t\tif (sum % {} == 3)\n\t\t\tsink[i % 1000] ^= sum;\n\t\tp = p->next;\n\t}}\n\
                 \treturn sum;\n}}\n",
                i % 61,
                i + 7
            );
        }
        text.into_bytes()
    })
}

/// Runs the command both ways; nothing if the host does not have the program.
#[track_caller]
fn same(command: &[&str]) {
    if installed(command[0]).is_some() {
        Guest::new(command).same();
    }
}

/// The same with a standard input.
#[track_caller]
fn same_with_input(command: &[&str], stdin: PathBuf) {
    if installed(command[0]).is_some() {
        Guest::new(command).stdin(&stdin).same();
    }
}

#[track_caller]
fn same_built(source: &str, kind: Build) {
    if let Some(program) = build(source, kind) {
        Guest::new([program]).same();
    }
}

fn path(file: PathBuf) -> String {
    file.into_os_string().into_string().expect("our own names are text")
}

#[test]
fn truth() {
    same(&["/bin/true"]);
    same(&["/bin/false"]);
}

#[test]
fn echo() {
    same(&["/bin/echo", "hello", "", "a b", "\u{e4}\\n"]);
}

#[test]
fn cat() {
    same(&["/bin/cat", &path(text())]);
    same(&["/bin/cat", "/etc/passwd", "/nonexistent", "/etc"]);
    same_with_input(&["/bin/cat"], text());
}

#[test]
fn ls() {
    // The time decides how ls shows dates.
    let now = Command::new("date").arg("+%s").output().expect("coreutils are installed").stdout;
    let now = String::from_utf8(now).expect("a number");
    Guest::new(["/bin/ls", "-la", "/usr/bin"]).options(["--boot-time", now.trim()]).same();
    same(&["/bin/ls", "/nonexistent"]);
}

#[test]
fn wc() {
    same(&["/usr/bin/wc", &path(text())]);
    same_with_input(&["/usr/bin/wc", "-L"], text());
}

#[test]
fn sort() {
    same(&["/usr/bin/sort", &path(text())]);
    same(&["/usr/bin/sort", "-k2,2n", "-u", "--parallel=1", &path(text())]);
}

#[test]
fn sha256sum_of_40_megabytes() {
    same(&["/usr/bin/sha256sum", &path(large())]);
}

#[test]
fn gzip_there_and_back() {
    let compressed = Guest::new(["/bin/gzip", "-n", "-c", &path(medium())]);
    compressed.same();
    let bytes = compressed.native().stdout;
    let file = input("medium.gz", || bytes);
    let back = Guest::new(["/bin/gzip", "-d", "-c", &path(file)]);
    back.same();
    assert!(back.inside().stdout == std::fs::read(medium()).expect("it is there"));
}

#[test]
fn xz_decompresses() {
    if installed("/usr/bin/xz").is_some() {
        let bytes = Guest::new(["/usr/bin/xz", "-0", "-c", &path(medium())]).native().stdout;
        same(&["/usr/bin/xz", "-dc", &path(input("medium.xz", || bytes))]);
    }
}

#[test]
fn sed() {
    same(&["/bin/sed", "-E", "s/w([0-9]+) /<\\1>/g; 5,9d; /9$/!p", &path(text())]);
}

#[test]
fn awk() {
    let program = "{ n[$1] += NF; t += $NF } END { for (i = 0; i < 5000; i += 97) \
                   print i, n[sprintf(\"w%04d\", i)]; printf \"%.3f\\n\", t / NR }";
    same(&["/usr/bin/mawk", program, &path(text())]);
}

#[test]
fn grep_recursively() {
    let programs = path(programs());
    same(&["/bin/grep", "-rnE", "mmap|PROT_[A-Z]+", &programs]);
    same(&["/bin/grep", "-c", "w0[0-9]*7 ", &path(text())]);
    same(&["/bin/grep", "no such line", "/etc/passwd"]);
}

#[test]
fn od() {
    same(&["/usr/bin/od", "-A", "x", "-t", "x1z", "-N", "300000", &path(large())]);
}

#[test]
fn date() {
    same(&["/bin/date", "-u", "-d", "@0"]);
    same(&["/bin/date", "-u", "-d", "2026-02-31 12:00"]);
}

#[test]
fn busybox() {
    let text = path(text());
    for command in [
        &["echo", "a", "b"][..],
        &["cat", "/etc/passwd"],
        &["wc", &text],
        &["sort", "-n", &text],
        &["sha256sum", &text],
        &["sed", "s/w/W/g", &text],
        &["awk", "{ s += NF } END { print s }", &text],
        &["grep", "-c", "99", &text],
        &["od", "-x", "/etc/passwd"],
        &["gzip", "-c", &text],
        &["date", "-u", "-d", "@86400"],
        &["head", "-n", "3", &text],
        &["md5sum", "/nonexistent"],
        &["no-such-applet"],
    ] {
        let whole: Vec<&str> =
            std::iter::once("/bin/busybox").chain(command.iter().copied()).collect();
        same(&whole);
    }
}

#[test]
fn sqlite3() {
    let script = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, value INTEGER);\n\
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)\n\
        INSERT INTO t SELECT i, 'name' || (i * 7919 % 20011), i * i % 1009 FROM n;\n\
        CREATE INDEX by_name ON t (name);\n\
        SELECT value, count(*), sum(id) FROM t GROUP BY value HAVING count(*) > 21 ORDER BY 3;\n\
        SELECT * FROM t WHERE name LIKE 'name19%5' ORDER BY name LIMIT 20;\n\
        SELECT a.id, b.id FROM t a JOIN t b ON a.name = 'name' || b.id WHERE b.value = 7;\n\
        PRAGMA integrity_check;\n";
    let file = input("script.sql", || script.into());
    same_with_input(&["/usr/bin/sqlite3", ":memory:"], file.clone());
    // Into a file that is new both times: the native one is put away in between.
    if installed("/usr/bin/sqlite3").is_some() {
        let database = common::fresh("database");
        let guest = Guest::new(["/usr/bin/sqlite3".into(), database.clone()]).stdin(&file);
        let (inside, report, _) = guest.inside_with_json();
        assert!(!database.exists(), "what the guest writes stays inside");
        assert_eq!(guest.native(), inside);
        assert_eq!(report["memory"]["frames_leaked"], 0);
        std::fs::remove_file(database).expect("the native run has made it");
    }
}

#[test]
fn lua() {
    let program = "local t = {} for i = 1, 50000 do t[i] = tostring(i * i % 7919) end \
                   table.sort(t) print(#t, t[1], t[25000], table.concat(t, ',', 1, 20)) \
                   print(pcall(error, {1})) print(string.format('%q %5.2f', 'a\\n', 1 / 3)) \
                   os.exit(5)";
    same(&["/usr/bin/lua5.4", "-e", program]);
}

#[test]
fn perl() {
    let program = "my %h; for my $i (1..30000) { $h{$i % 997} .= chr(97 + $i % 26) } \
                   print join(',', map { length $h{$_} } sort { $a <=> $b } keys %h), \"\\n\"; \
                   my $s = 'x' x 1000; $s =~ s/(x{7})/length($1)/ge; print \"$s\\n\"; \
                   warn 'end'; exit 9";
    same(&["/usr/bin/perl", "-e", program]);
}

#[test]
fn python() {
    let json_and_re = "import json, re\n\
        data = {str(i): [i, i / 7, None, 'x' * (i % 9)] for i in range(3000)}\n\
        text = json.dumps(data, sort_keys=True)\nassert json.loads(text) == data\n\
        print(len(text), sum(int(m) for m in re.findall(r'\"(\\d+)\"', text)))\n";
    let hashes = "import hashlib, zlib\nd = bytes(range(256)) * 4096\n\
        for n in ('md5', 'sha1', 'sha256', 'sha3_512', 'blake2b'): \
        print(n, hashlib.new(n, d).hexdigest())\nprint(zlib.crc32(zlib.compress(d)))\n";
    let database = "import sqlite3\nc = sqlite3.connect(':memory:')\n\
        c.execute('create table t (a, b)')\n\
        c.executemany('insert into t values (?, ?)', ((i, i % 7) for i in range(5000)))\n\
        print(c.execute('select b, sum(a) from t group by b').fetchall())\n";
    let decimals = "from decimal import Decimal, getcontext\ngetcontext().prec = 200\n\
        print(Decimal(2).sqrt(), Decimal(1) / Decimal(7))\nimport sys, math\n\
        print(math.sin(1e10), 2 ** 3000 % 1000003)\nsys.exit('the end')\n";
    for script in ["print(1)", json_and_re, hashes, database, decimals, "1 / 0"] {
        same(&["/usr/bin/python3", "-c", script]);
    }
}

#[test]
fn cc1() {
    let output = Command::new("gcc").arg("-print-prog-name=cc1").output();
    let Ok(output) = output else { return common::skip("gcc is not installed") };
    let compiler = String::from_utf8(output.stdout).expect("a path").trim().to_owned();
    same(&[&compiler, "-quiet", "-O2", "-Wall", &path(c_source()), "-o", "-"]);
}

#[test]
fn hello_in_every_c_library() {
    for kind in [
        Build::Dynamic,
        Build::NoPie,
        Build::GlibcStatic,
        Build::GlibcStaticPie,
        Build::MuslStatic,
        Build::MuslDynamic,
    ] {
        same_built("hello.c", kind);
    }
    same_built("hello_nolibc.c", Build::Nolibc);
}

#[test]
fn hello_in_rust_and_cxx() {
    same_built("hello.rs", Build::Rust);
    same_built("hello.cc", Build::Cxx);
}

#[test]
fn the_kernels_of_the_bench() {
    for (kernel, size) in [
        ("integer", "2000000"),
        ("recursion", "24"),
        ("bytecode", "200000"),
        ("sha256", "1"),
        ("quicksort", "100000"),
        ("ssecopy", "30"),
        ("memory", "1"),
        ("chase", "200000"),
        ("tables", "1"),
        ("matmul", "1"),
    ] {
        let program = build(&format!("kernels/{kernel}.c"), Build::GlibcStatic);
        let program = program.expect("the C compiler is needed anyway");
        Guest::new([program.as_os_str(), size.as_ref()]).same();
    }
}
