//! What processes share besides memory: every answer of the kernel is the host's.

mod common;

use std::path::PathBuf;

use common::{Build, Guest, build, input, installed};

/// Runs a program of `programs/ipc` both ways; nothing if the host has no compiler.
#[track_caller]
fn same(name: &str) {
    if let Some(program) = build(&format!("ipc/{name}.c"), Build::Dynamic) {
        Guest::new([program]).same();
    }
}

/// Runs a Python script both ways.
#[track_caller]
fn same_python(name: &str, script: &str, argument: &str) {
    let script: PathBuf = input(name, || script.as_bytes().to_vec());
    let script = script.into_os_string().into_string().expect("our own names are text");
    if installed("/usr/bin/python3").is_some() {
        Guest::new(["/usr/bin/python3", "-S", &script, argument]).same();
    }
}

#[test]
fn objects_of_system_v_in_proc() {
    same("sysv_rows");
}

#[test]
fn unix_sockets() {
    same("sockets");
}

const MULTIPROCESSING: &str = "
import multiprocessing as mp, sys
from multiprocessing import shared_memory
def square(x): return x * x
def put(q): q.put([1, 2, 3])
if __name__ == '__main__':
    mp.set_start_method(sys.argv[1])
    q = mp.Queue()
    p = mp.Process(target=put, args=(q,))
    p.start()
    print(q.get(), p.join(), p.exitcode)
    with mp.Pool(2) as pool:
        print(pool.map(square, range(5)))
    a, b = mp.Pipe()
    a.send('x')
    print(b.recv())
    s = shared_memory.SharedMemory(create=True, size=4096)
    s.buf[0] = 7
    t = shared_memory.SharedMemory(s.name)
    print(t.buf[0])
    t.close(), s.close(), s.unlink()
";

#[test]
fn python_multiprocessing_by_fork() {
    same_python("multiprocessing.py", MULTIPROCESSING, "fork");
}

#[test]
fn python_multiprocessing_by_spawn() {
    same_python("multiprocessing.py", MULTIPROCESSING, "spawn");
}

#[test]
fn python_asyncio_with_subprocesses() {
    let script = "
import asyncio
from asyncio.subprocess import PIPE
async def one(i):
    p = await asyncio.create_subprocess_shell(f'cat; echo {i}', stdin=PIPE, stdout=PIPE)
    out, _ = await p.communicate(b'in')
    return out, p.returncode
async def main():
    print(await asyncio.gather(*[one(i) for i in range(3)]))
asyncio.run(main())
";
    same_python("asyncio.py", script, "");
}

#[test]
fn fifos_and_splice() {
    same("fifos");
}

#[test]
fn file_locks() {
    same("locks");
}

#[test]
fn shared_memory_and_seals() {
    same("shared");
}

#[test]
fn sqlite_by_two_processes() {
    let script = "
cd $(mktemp -d) && sqlite3 t 'create table t(who, n)'
for who in a b; do
    for n in 1 2 3 4 5; do
        sqlite3 -cmd '.timeout 20000' t \"insert into t values('$who', $n)\" || echo failed $?
    done &
done
wait
sqlite3 t 'select who, n from t order by who, n; pragma integrity_check'
rm t; cd /; rmdir $OLDPWD";
    if installed("/usr/bin/sqlite3").is_some() {
        Guest::new(["/bin/bash", "-c", script]).same();
    }
}

#[test]
fn pseudo_terminals_and_job_control() {
    if let Some(program) = build("ipc/terminals.c", Build::Dynamic) {
        Guest::new([program]).same();
    }
}

#[test]
fn descriptors_for_time_signals_processes_and_epolls_over_them() {
    same("events");
}

#[test]
fn script_gives_a_program_a_terminal() {
    if installed("/usr/bin/script").is_some() {
        let ran = Guest::new(["/usr/bin/script", "-qec", "tty; exit 3", "/dev/null"]).inside();
        assert_eq!((ran.code(), ran.text().as_str()), (Some(3), "/dev/pts/0\r\n"));
    }
}

#[test]
fn system_v_ipc() {
    same("sysv");
}
