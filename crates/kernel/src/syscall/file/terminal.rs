//! Terminals and the processes that they control: reading and writing, the foreground group, what
//! `ioctl` asks of them.
//!
//! The terminal of the host controls the first session; which of its groups is in the foreground
//! is decided here, the host is not told.
//!
//! # Source
//! man 2 `ioctl_tty`, man 7 `credentials`; Linux 6.12 `drivers/tty/tty_jobctrl.c`, `tty_io.c`.

use machine::VirtAddr;

use super::open::install;
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{
    Control, Device, FileId, Inherit, Keys, Opened, Settings, TerminalEnd, TerminalId,
    TerminalSignal, flag,
};
use crate::signal::number::{
    SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH,
};
use crate::signal::{SigAction, SigInfo, bit};
use crate::task::PID;
use crate::wait::{Channel, Interrupted};

/// Requests of `ioctl` about terminals.
mod request {
    pub(super) const TCGETS: u32 = 0x5401;
    pub(super) const TCSETS: u32 = 0x5402;
    pub(super) const TCSETSF: u32 = 0x5404;
    pub(super) const TCSBRK: u32 = 0x5409;
    pub(super) const TCXONC: u32 = 0x540a;
    pub(super) const TCFLSH: u32 = 0x540b;
    pub(super) const TIOCEXCL: u32 = 0x540c;
    pub(super) const TIOCNXCL: u32 = 0x540d;
    pub(super) const TIOCSCTTY: u32 = 0x540e;
    pub(super) const TIOCGPGRP: u32 = 0x540f;
    pub(super) const TIOCSPGRP: u32 = 0x5410;
    pub(super) const TIOCOUTQ: u32 = 0x5411;
    pub(super) const TIOCGWINSZ: u32 = 0x5413;
    pub(super) const TIOCSWINSZ: u32 = 0x5414;
    pub(super) const TIOCNOTTY: u32 = 0x5422;
    pub(super) const TIOCGETD: u32 = 0x5424;
    pub(super) const TCSBRKP: u32 = 0x5425;
    pub(super) const TIOCGSID: u32 = 0x5429;
    pub(super) const TIOCGPTPEER: u32 = 0x5441;
    pub(super) const TIOCGPTN: u32 = 0x8004_5430;
    pub(super) const TIOCSPTLCK: u32 = 0x4004_5431;
    pub(super) const TIOCGPTLCK: u32 = 0x8004_5439;
}

/// `O_NOCTTY`.
const NO_CONTROL: u32 = 0o400;

/// What a device is of a pseudo-terminal.
pub(super) fn pseudo_terminal(device: Device) -> Option<(u32, TerminalEnd)> {
    match device {
        Device::Master(number) => Some((number, TerminalEnd::Master)),
        Device::Slave(number) => Some((number, TerminalEnd::Slave)),
        _ => None,
    }
}

impl Kernel {
    /// Which terminal a file is, from the side of programs that it controls.
    fn terminal_behind(&self, file: FileId) -> Option<TerminalId> {
        let Opened::Device { device, .. } = self.vfs.file(file).opened else { return None };
        match device {
            Device::Slave(number) => Some(TerminalId::Pseudo(number)),
            _ => device.stream().filter(|stream| stream.is_terminal()).map(|_| TerminalId::Host),
        }
    }

    /// Finishes the opening of a device: `/dev/tty` becomes the terminal of the session, and a
    /// session without one gets that which its leader opens.
    ///
    /// # Errors
    /// `ENXIO`: the session has no terminal.
    pub(super) fn finish_terminal(&mut self, file: FileId, flags: u32) -> Result<FileId, Errno> {
        let Opened::Device { device, .. } = self.vfs.file(file).opened else { return Ok(file) };
        match device {
            Device::Tty => {
                let status = self.vfs.file(file).status;
                match self.vfs.terminals.of_session(self.process.session) {
                    Some(TerminalId::Pseudo(number)) => {
                        self.release_file(file);
                        self.vfs.open_slave(number, status)
                    }
                    Some(TerminalId::Host) if device.stream().is_some() => Ok(file),
                    _ => {
                        self.release_file(file);
                        Err(Errno::ENXIO)
                    }
                }
            }
            Device::Slave(number) => {
                if flags & NO_CONTROL == 0 {
                    self.take_control(TerminalId::Pseudo(number));
                }
                Ok(file)
            }
            _ => Ok(file),
        }
    }

    /// Makes a terminal without a session that of the running one, if its leader asks and it has
    /// none. Returns whether it is now.
    fn take_control(&mut self, terminal: TerminalId) -> bool {
        let session = self.process.session;
        let is_leader = self.process.pid == session;
        let has_one = self.vfs.terminals.of_session(session).is_some();
        let is_free = self.vfs.terminals.control(terminal).session.is_none();
        let takes = is_leader && !has_one && is_free;
        if takes {
            let control = Control { session: Some(session), group: self.process.group };
            self.vfs.terminals.set_control(terminal, control);
        }
        takes
    }

    /// From now on the keys of the host's terminal reach the group in its foreground.
    pub fn hear_keys(&mut self, keys: Keys) {
        self.patience.hear(keys);
    }

    /// Sends what keys of the host's terminal mean to the group in its foreground. If one would
    /// stop the first process, whom only the host's shell could let go on, the whole run stops.
    pub(crate) fn send_pressed_keys(&mut self) {
        for signal in self.patience.take_pressed() {
            let group = self.vfs.terminals.control(TerminalId::Host).group;
            if signal == SIGTSTP && self.stops_first(group) {
                Keys::stop_run();
            } else {
                self.signal_group(group, signal);
            }
        }
    }

    /// Whether SIGTSTP to a group stops the first process of the run.
    fn stops_first(&self, group: u32) -> bool {
        self.process_of(PID).is_some_and(|first| {
            first.group == group && first.actions.get(SIGTSTP).handler == SigAction::DEFAULT
        })
    }

    /// Sends a signal to all processes of a group.
    fn signal_group(&mut self, group: u32, signal: u8) {
        for pid in self.group_members(group) {
            self.send_to_process(pid, SigInfo::kernel(signal));
        }
    }

    /// The terminal of a session is gone: its leader hears of it.
    pub(crate) fn hang_up_session(&mut self, session: u32) {
        for signal in [SIGHUP, SIGCONT] {
            self.send_to_process(session, SigInfo::kernel(signal));
        }
    }

    /// The leader of a session ends: the group in the foreground of its terminal hears of it, and
    /// the terminal is free.
    pub(crate) fn leave_terminal(&mut self) {
        let pid = self.process.pid;
        if self.process.session != pid {
            return;
        }
        let Some(terminal) = self.vfs.terminals.of_session(pid) else { return };
        let group = self.vfs.terminals.control(terminal).group;
        self.vfs.terminals.set_control(terminal, Control::default());
        if group != 0 {
            self.signal_group(group, SIGHUP);
            self.signal_group(group, SIGCONT);
        }
    }

    /// Stops a process of the background that uses its terminal.
    ///
    /// # Errors
    /// `EIO`: nobody could let it go on, or it does not want to stop. Those of a signal.
    fn check_foreground(&mut self, terminal: TerminalId, signal: u8) -> Result<(), Errno> {
        let control = self.vfs.terminals.control(terminal);
        let (session, group) = (self.process.session, self.process.group);
        if control.session != Some(session) || control.group == group || control.group == 0 {
            return Ok(());
        }
        let is_deaf =
            self.task.signals.mask & bit(signal) != 0 || self.process.actions.is_ignored(signal);
        match signal {
            SIGTTOU if is_deaf => return Ok(()),
            _ if is_deaf || self.is_orphaned(group) => return Err(Errno::EIO),
            _ => {}
        }
        self.signal_group(group, signal);
        Err(self.block(&[], None, Interrupted::Restarts))
    }

    /// Refuses reading to processes of the background.
    ///
    /// # Errors
    /// See [`Kernel::check_foreground`].
    pub(super) fn check_reader(&mut self, file: FileId) -> Result<(), Errno> {
        match self.terminal_behind(file) {
            Some(terminal) => self.check_foreground(terminal, SIGTTIN),
            None => Ok(()),
        }
    }

    /// Reads from an end of a pseudo-terminal.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn read_terminal(
        &mut self,
        (number, end): (u32, TerminalEnd),
        bytes: &mut [u8],
        is_nonblocking: bool,
    ) -> Result<usize, Errno> {
        const NS_PER_TENTH: u64 = 100_000_000;
        match self.vfs.read_terminal(number, end, bytes) {
            Err(Errno::EAGAIN) => {}
            result => return result,
        }
        let settings = self.vfs.terminals.get(number)?.settings;
        let tenths = settings.read_tenths().filter(|_| end == TerminalEnd::Slave);
        if tenths == Some(0) {
            return Ok(0);
        }
        if is_nonblocking {
            return Err(Errno::EAGAIN);
        }
        let deadline = self.deadline_after(tenths.map(|tenths| tenths * NS_PER_TENTH));
        if self.has_passed(deadline) {
            return Ok(0);
        }
        Err(self.block(&[Channel::Terminal(number)], deadline, Interrupted::Restarts))
    }

    /// Writes to an end of a pseudo-terminal, as much as there is room for.
    ///
    /// # Errors
    /// Those of `write`.
    pub(super) fn write_terminal(
        &mut self,
        (number, end): (u32, TerminalEnd),
        bytes: &[u8],
        is_nonblocking: bool,
    ) -> Result<usize, Errno> {
        let stops = self.vfs.terminals.get(number)?.settings.stops_background();
        if end == TerminalEnd::Slave && stops {
            self.check_foreground(TerminalId::Pseudo(number), SIGTTOU)?;
        }
        match self.vfs.write_terminal(number, end, bytes) {
            Ok((count, signals)) => {
                let group = self.vfs.terminals.get(number)?.control.group;
                for signal in signals {
                    let signal = match signal {
                        TerminalSignal::Interrupt => SIGINT,
                        TerminalSignal::Quit => SIGQUIT,
                        TerminalSignal::Suspend => SIGTSTP,
                    };
                    self.signal_group(group, signal);
                }
                Ok(count)
            }
            Err(Errno::EAGAIN) if !is_nonblocking => {
                Err(self.block(&[Channel::Terminal(number)], None, Interrupted::Restarts))
            }
            Err(errno) => Err(errno),
        }
    }

    /// Requests about which processes a terminal controls; `None` for others.
    pub(super) fn control_request(
        &mut self,
        file: FileId,
        request: u32,
        argument: u64,
    ) -> Option<SysResult> {
        let terminal = match self.vfs.file(file).opened {
            Opened::Device { device: Device::Master(number), .. } => TerminalId::Pseudo(number),
            _ => self.terminal_behind(file)?,
        };
        let is_master = self.terminal_behind(file).is_none();
        Some(match request {
            request::TIOCGPGRP => self.foreground_group(terminal, is_master, argument),
            request::TIOCSPGRP => self.set_foreground_group(terminal, argument),
            request::TIOCGSID => {
                let session = self.vfs.terminals.control(terminal).session;
                let own = session == Some(self.process.session) || is_master;
                match session.filter(|_| own) {
                    Some(session) => {
                        self.write_user_u32(VirtAddr::new(argument), session).map(|()| 0)
                    }
                    None => Err(Errno::ENOTTY),
                }
            }
            request::TIOCSCTTY => self.ask_control(terminal),
            request::TIOCNOTTY => self.give_control_up(terminal),
            _ => return None,
        })
    }

    fn foreground_group(&mut self, id: TerminalId, is_master: bool, addr: u64) -> SysResult {
        let control = self.vfs.terminals.control(id);
        if control.session != Some(self.process.session) && !is_master {
            return Err(Errno::ENOTTY);
        }
        self.write_user_u32(VirtAddr::new(addr), control.group)?;
        Ok(0)
    }

    fn set_foreground_group(&mut self, terminal: TerminalId, addr: u64) -> SysResult {
        let session = self.process.session;
        let control = self.vfs.terminals.control(terminal);
        if control.session != Some(session) {
            return Err(Errno::ENOTTY);
        }
        self.check_foreground(terminal, SIGTTOU)?;
        let group = self.read_user_u32(VirtAddr::new(addr))?;
        if group.cast_signed() < 0 {
            return Err(Errno::EINVAL);
        }
        let members = self.group_members(group);
        let first = members.first().ok_or(Errno::ESRCH)?;
        if self.process_of(*first).is_none_or(|process| process.session != session) {
            return Err(Errno::EPERM);
        }
        self.vfs.terminals.set_control(terminal, Control { group, ..control });
        Ok(0)
    }

    /// `TIOCSCTTY`.
    fn ask_control(&mut self, terminal: TerminalId) -> SysResult {
        let session = self.process.session;
        let is_own = self.vfs.terminals.of_session(session) == Some(terminal);
        if self.process.pid == session && is_own || self.take_control(terminal) {
            return Ok(0);
        }
        Err(Errno::EPERM)
    }

    /// `TIOCNOTTY`.
    fn give_control_up(&mut self, terminal: TerminalId) -> SysResult {
        if self.vfs.terminals.control(terminal).session != Some(self.process.session) {
            return Err(Errno::ENOTTY);
        }
        // Differs from Linux: only the leader can leave its session's terminal.
        self.leave_terminal();
        Ok(0)
    }

    /// Requests about a pseudo-terminal.
    ///
    /// # Errors
    /// `ENOTTY`: no such request.
    pub(super) fn pseudo_request(
        &mut self,
        (number, end): (u32, TerminalEnd),
        request: u32,
        argument: u64,
    ) -> SysResult {
        let addr = VirtAddr::new(argument);
        let own = TerminalId::Pseudo(number);
        match request {
            request::TCGETS => {
                let bytes = self.vfs.terminals.get(number)?.settings.bytes();
                self.write_user(addr, &bytes)?;
            }
            request::TCSETS..=request::TCSETSF => {
                if end == TerminalEnd::Slave {
                    self.check_foreground(own, SIGTTOU)?;
                }
                let mut bytes = [0; 36];
                self.read_user(addr, &mut bytes)?;
                let terminal = self.vfs.terminals.get_mut(number)?;
                terminal.flush(request == request::TCSETSF, false);
                terminal.set_settings(Settings::from_bytes(&bytes));
                self.wake(Channel::Terminal(number));
            }
            request::TCFLSH => {
                let both = [argument != 1, argument != 0];
                let [input, output] =
                    if end == TerminalEnd::Slave { both } else { [both[1], both[0]] };
                self.vfs.terminals.get_mut(number)?.flush(input, output);
                self.wake(Channel::Terminal(number));
            }
            request::TIOCGWINSZ => {
                let size = self.vfs.terminals.get(number)?.size;
                self.write_user(addr, &size.map(u16::to_le_bytes).concat())?;
            }
            request::TIOCSWINSZ => self.set_window_size(number, addr)?,
            request::TIOCGPTN if end == TerminalEnd::Master => self.write_user_u32(addr, number)?,
            request::TIOCSPTLCK if end == TerminalEnd::Master => {
                let is_locked = self.read_user_u32(addr)? != 0;
                self.vfs.terminals.get_mut(number)?.is_locked = is_locked;
            }
            request::TIOCGPTLCK if end == TerminalEnd::Master => {
                let is_locked = self.vfs.terminals.get(number)?.is_locked;
                self.write_user_u32(addr, is_locked.into())?;
            }
            request::TIOCGPTPEER if end == TerminalEnd::Master => {
                return self.open_peer(number, argument);
            }
            request::TIOCOUTQ => self.write_user_u32(addr, 0)?,
            request::TIOCGETD => self.write_user_u32(addr, 0)?,
            request::TCSBRK | request::TCSBRKP | request::TCXONC => {}
            request::TIOCEXCL | request::TIOCNXCL => {}
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }

    fn set_window_size(&mut self, number: u32, addr: VirtAddr) -> Result<(), Errno> {
        let mut bytes = [0; 8];
        self.read_user(addr, &mut bytes)?;
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let size = [half(0), half(2), half(4), half(6)];
        let terminal = self.vfs.terminals.get_mut(number)?;
        if std::mem::replace(&mut terminal.size, size) != size && terminal.control.group != 0 {
            let group = terminal.control.group;
            self.signal_group(group, SIGWINCH);
        }
        Ok(())
    }

    /// `TIOCGPTPEER`: the slave without its name.
    fn open_peer(&mut self, number: u32, argument: u64) -> SysResult {
        let flags = u32::try_from(argument & 0xffff_ffff).unwrap_or(0);
        let file = self.vfs.open_slave(number, flags & !flag::AT_OPEN | flag::LARGEFILE)?;
        if flags & NO_CONTROL == 0 {
            self.take_control(TerminalId::Pseudo(number));
        }
        let limit = self.files_max();
        let inherit = if flags & flag::CLOEXEC != 0 { Inherit::Close } else { Inherit::Keep };
        install(self, file, inherit, limit)
    }
}
