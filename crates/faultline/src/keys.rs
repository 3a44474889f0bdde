//! Ctrl-C, Ctrl-\\ and Ctrl-Z at the host's terminal: they are for the program inside, as its own
//! terminal would have it, not for us.

use std::io::{self, IsTerminal};
use std::os::unix::net::UnixStream;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use kernel::fs::Keys;
use kernel::signal::number::{SIGINT, SIGQUIT, SIGTSTP};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// Bytes of the stack of the thread that runs the machine: as much as a first thread has.
const STACK_BYTES: usize = 8 << 20;

/// Does the work in a thread of its own, and waits for it here. The host gives the signals of keys
/// to the first thread: their handlers must not run where translated code does, whose stack pointer
/// is the guest's.
///
/// # Panics
/// As the work does, and if the host has no thread to give.
pub(crate) fn away_from_handlers<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let machine = thread::Builder::new().name("machine".to_owned()).stack_size(STACK_BYTES);
        let machine = machine.spawn_scoped(scope, work).expect("the host gives a second thread");
        machine.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// Hears the keys from now on; `None` if the standard input is no terminal: then the signals do
/// with us what they do with every program.
pub(crate) fn hear() -> Option<Keys> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let (reader, writer) = UnixStream::pair().ok()?;
    reader.set_nonblocking(true).ok()?;
    writer.set_nonblocking(true).ok()?;
    let mut pressed = Vec::new();
    for signal in [SIGINT, SIGQUIT, SIGTSTP] {
        let mark = Arc::new(AtomicBool::new(false));
        let end = writer.try_clone().ok()?;
        flag::register(signal.into(), Arc::clone(&mark)).ok()?;
        pipe::register(signal.into(), end).ok()?;
        pressed.push((signal, mark));
    }
    Some(Keys::new(pressed, reader.into()))
}
