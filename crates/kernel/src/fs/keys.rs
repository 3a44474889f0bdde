//! Keys of the host's terminal that mean a signal: the front end hears of them, the group in the
//! terminal's foreground gets the signal.
//!
//! Does not: install handlers. Without a terminal there are no keys, and a run depends on none.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// What the front end hears.
#[derive(Debug)]
pub struct Keys {
    /// Signals, and whether their key was pressed.
    pressed: Vec<(u8, Arc<AtomicBool>)>,
    /// Has bytes when a key was pressed; does not block.
    wake: OwnedFd,
}

impl Keys {
    /// Keys by their signals. Whoever hears one sets its mark, then writes to the other end of
    /// `wake`, which must not block.
    pub fn new(pressed: Vec<(u8, Arc<AtomicBool>)>, wake: OwnedFd) -> Self {
        Self { pressed, wake }
    }

    /// The signals of the keys that were pressed since this was last asked.
    pub(super) fn take(&self) -> Vec<u8> {
        let is_pressed = |(_, mark): &&(u8, Arc<AtomicBool>)| mark.swap(false, Ordering::Relaxed);
        self.pressed.iter().filter(is_pressed).map(|(signal, _)| *signal).collect()
    }

    /// Stops the process that we are, as the key would have without us, until the host lets it go
    /// on.
    pub(crate) fn stop_run() {
        // There is nobody to tell if the host does not do it.
        let _ = kill_process(getpid(), Signal::STOP);
    }

    /// What becomes readable when a key is pressed.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes the bytes out; whether there were any.
    pub(super) fn drain(&self) -> bool {
        let mut bytes = [0; 64];
        let mut was_woken = false;
        while matches!(rustix::io::read(&self.wake, &mut bytes), Ok(1..)) {
            was_woken = true;
        }
        was_woken
    }
}
