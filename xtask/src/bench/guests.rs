//! What the bench runs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{target, top};

/// The parts of the bench.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    /// The ten kernels, `gcc -O2 -static`.
    Kernels,
    /// Programs of the host.
    Programs,
    /// Memory-manager work.
    Memory,
    /// Starting and ending.
    Start,
    /// Forks, programs started, pipes, a build.
    Processes,
}

impl Group {
    pub(super) const ALL: [Self; 5] =
        [Self::Kernels, Self::Programs, Self::Memory, Self::Start, Self::Processes];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kernels => "kernels",
            Self::Programs => "programs",
            Self::Memory => "memory",
            Self::Start => "start",
            Self::Processes => "processes",
        }
    }
}

/// One guest.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) group: Group,
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) stdin: Option<PathBuf>,
    pub(crate) is_for_cachegrind: bool,
}

impl Guest {
    pub(super) fn matches(&self, only: Option<&str>) -> bool {
        only.is_none_or(|word| self.name.contains(word) || self.group.name().contains(word))
    }
}

/// All guests of a group that this host can run.
pub(crate) fn all(group: Group) -> Result<Vec<Guest>, String> {
    match group {
        Group::Kernels => compiled(group, "kernels"),
        Group::Memory => compiled(group, "mm"),
        Group::Programs => programs(),
        Group::Start => Ok(start()),
        Group::Processes => processes(),
    }
}

/// The C files of a directory of `programs/`.
fn compiled(group: Group, directory: &str) -> Result<Vec<Guest>, String> {
    let sources = top().join("programs").join(directory);
    let entries = fs::read_dir(&sources).map_err(|error| format!("{sources:?}: {error}"))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    files.sort();
    files
        .iter()
        .map(|source| {
            let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let program = work()?.join(&name);
            let mut compiler = Command::new("cc");
            compiler.args(["-O2", "-w", "-static", "-o"]).arg(&program).arg(source);
            super::output(&mut compiler)?;
            Ok(guest(group, &name, &[&super::text(&program)]))
        })
        .collect()
}

/// Where inputs and compiled guests are kept.
pub(crate) fn work() -> Result<PathBuf, String> {
    let directory = target().join("bench");
    fs::create_dir_all(&directory).map_err(|error| format!("{directory:?}: {error}"))?;
    Ok(directory)
}

fn guest(group: Group, name: &str, command: &[&str]) -> Guest {
    let command = command.iter().map(|each| (*each).to_owned()).collect();
    Guest { group, name: name.into(), command, stdin: None, is_for_cachegrind: false }
}

/// The real programs that are installed.
fn programs() -> Result<Vec<Guest>, String> {
    let lines = super::text(&input("lines.txt", lines)?);
    let noise = super::text(&input("noise", noise)?);
    let source = super::text(&input("source.c", c_source)?);
    let script = input("script.sql", || SQL.into())?;
    let group = Group::Programs;
    let compiler = super::output(Command::new("gcc").arg("-print-prog-name=cc1"));
    let compiler = compiler.map(|path| String::from_utf8_lossy(&path).trim().to_owned());
    let words = "{ n[$1] += NF } END { for (k in n) s += n[k]; print s }";
    let mut all = vec![
        Guest { is_for_cachegrind: true, ..guest(group, "gzip", &["/bin/gzip", "-c", &lines]) },
        guest(group, "sort", &["/usr/bin/sort", "--parallel=1", &lines]),
        guest(group, "sha256sum", &["/usr/bin/sha256sum", &noise]),
        Guest {
            stdin: Some(script),
            is_for_cachegrind: true,
            ..guest(group, "sqlite3", &["/usr/bin/sqlite3", ":memory:"])
        },
        guest(group, "mawk", &["/usr/bin/mawk", words, &lines]),
        Guest {
            is_for_cachegrind: true,
            ..guest(group, "python", &["/usr/bin/python3", "-S", "-c", PYTHON])
        },
    ];
    if let Ok(compiler) = compiler {
        all.push(guest(group, "cc1", &[&compiler, "-quiet", "-O2", &source, "-o", "/dev/null"]));
    }
    all.retain(|guest| Path::new(&guest.command[0]).exists());
    Ok(all)
}

fn start() -> Vec<Guest> {
    let mut all = vec![
        guest(Group::Start, "true", &["/bin/true"]),
        guest(Group::Start, "python-print", &["/usr/bin/python3", "-c", "print(1)"]),
    ];
    all.retain(|guest| Path::new(&guest.command[0]).exists());
    all
}

/// Programs of our own that start others, and a build.
fn processes() -> Result<Vec<Guest>, String> {
    let mut all = compiled(Group::Processes, "tasks")?;
    let make = "/usr/bin/make";
    if Path::new(make).exists() {
        let project = super::text(&project()?);
        all.push(guest(Group::Processes, "make", &[make, "-B", "-s", "-j2", "-C", &project]));
    }
    Ok(all)
}

/// A project of ten C files.
fn project() -> Result<PathBuf, String> {
    let directory = work()?.join("project");
    fs::create_dir_all(&directory).map_err(|error| format!("{directory:?}: {error}"))?;
    let mut files = vec![("Makefile".to_owned(), makefile())];
    files.extend((0..10).map(|number| (format!("f{number}.c"), project_source(number))));
    for (name, content) in files {
        let path = directory.join(name);
        fs::write(&path, content).map_err(|error| format!("{path:?}: {error}"))?;
    }
    Ok(directory)
}

fn makefile() -> String {
    let objects: String = (0..10).map(|number| format!(" f{number}.o")).collect();
    format!("CC = gcc\nCFLAGS = -O1\nprogram:{objects}\n\t$(CC) -o $@ $^\n")
}

fn project_source(number: u32) -> String {
    let functions: String = (0..12)
        .map(|index| {
            format!(
                "int f{number}_{index}(int n)\n{{\n\tint s = {index};\n\
                 \tfor (int i = 0; i < n; i++)\n\t\ts += (s ^ i) % {};\n\treturn s;\n}}\n",
                index + 3
            )
        })
        .collect();
    let main = match number {
        0 => "int main(void)\n{\n\tprintf(\"%d\\n\", f0_5(100));\n\treturn 0;\n}\n",
        _ => "",
    };
    format!("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n{functions}{main}")
}

const SQL: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, value INTEGER);\n\
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)\n\
    INSERT INTO t SELECT i, 'name' || (i * 7919 % 200003), i * i % 1009 FROM n;\n\
    CREATE INDEX by_name ON t (name);\n\
    SELECT value, count(*), sum(id) FROM t GROUP BY value ORDER BY 3 LIMIT 5;\n\
    SELECT count(*) FROM t WHERE name LIKE '%77%';\n\
    SELECT count(*) FROM t a JOIN t b ON a.name = 'name' || b.id WHERE b.value < 300;\n";

const PYTHON: &str = "
class Node:
    def __init__(self, key):
        self.key, self.left, self.right = key, None, None

def insert(tree, key):
    while tree.key != key:
        side = 'left' if key < tree.key else 'right'
        below = getattr(tree, side)
        if below is None:
            below = Node(key)
            setattr(tree, side, below)
        tree = below

root, x, words = Node(5000), 1, {}
for i in range(400000):
    x = x * 1103515245 + 12345 & 0x7fffffff
    insert(root, x % 10000)
    word = 'w%d' % (x % 977)
    words[word] = words.get(word, 0) + 1
print(len(words), sum(sorted(words.values())[:100]))
";

/// An input file, made once.
fn input(name: &str, content: impl FnOnce() -> Vec<u8>) -> Result<PathBuf, String> {
    let path = work()?.join(name);
    if !path.exists() {
        fs::write(&path, content()).map_err(|error| format!("{path:?}: {error}"))?;
    }
    Ok(path)
}

/// The next of a sequence of pseudo-random numbers.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// 250,000 lines of words.
fn lines() -> Vec<u8> {
    let mut state = 88_172_645_463_325_252;
    let mut text = Vec::new();
    for _ in 0..250_000 {
        let number = random(&mut state);
        writeln!(text, "w{:04} {} text w{}", number % 5000, number % 1_000_003, number % 97)
            .expect("a vector takes every write");
    }
    text
}

/// 40 MB without any pattern.
fn noise() -> Vec<u8> {
    let mut state = 362_436_069;
    (0..5 << 20).flat_map(|_| random(&mut state).to_le_bytes()).collect()
}

/// About 2,000 lines of C.
fn c_source() -> Vec<u8> {
    let mut text = Vec::new();
    for i in 0..230 {
        write!(
            text,
            "struct s{i} {{ long a, b; struct s{i} *next; }};\n\
             long f{i}(struct s{i} *p, long n)\n{{\n\tlong sum = {i};\n\
             \tfor (long i = 0; i < n; i++) {{\n\t\tsum += p->a * {i} + (p->b >> {});\n\
             \t\tif (sum % {} == 3)\n\t\t\tsum ^= i;\n\t\tp = p->next;\n\t}}\n\treturn sum;\n}}\n",
            i % 61,
            i + 7
        )
        .expect("a vector takes every write");
    }
    text
}
