//! Pseudo-terminals: a master, a slave that programs take for a terminal, and what lies between.
//!
//! `fs/terminal/line.rs` is the line discipline; here are the terminals of a run, which session
//! each controls, and how they come and go.
//!
//! Does not: wait or send signals; both are told to the caller.
//!
//! # Source
//! man 7 `pty`, man 4 `tty_ioctl`; Linux 6.12 `drivers/tty/pty.c`, `tty_jobctrl.c`.

mod line;

use std::collections::{BTreeMap, VecDeque};

use super::device::Device;
use super::node::{Child, Layer, Node, NodeKind, Target};
use super::open::Opened;
use super::stat::{FileType, Stat};
use super::{FileId, News, NodeId, Vfs};
use crate::errno::Errno;

pub(crate) use line::{Settings, TerminalSignal};

/// Most pseudo-terminals: `kernel.pty.max`.
const TERMINALS_MAX: u32 = 4096;
/// The group `tty` that owns slaves.
const GROUP: u32 = 5;

/// Which terminal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum TerminalId {
    /// That of the host, behind the standard streams.
    Host,
    /// A pseudo-terminal.
    Pseudo(u32),
}

/// Whom a terminal controls.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Control {
    /// The session whose terminal it is.
    pub(crate) session: Option<u32>,
    /// The process group in the foreground.
    pub(crate) group: u32,
}

/// A pseudo-terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub(crate) settings: Settings,
    /// Rows, columns and two sizes in pixels.
    pub(crate) size: [u16; 4],
    pub(crate) control: Control,
    pub(crate) is_locked: bool,
    has_master: bool,
    slave_count: u32,
    /// Whether a slave was ever open: before, its master does not see an end.
    had_slave: bool,
    node: Option<NodeId>,
    /// What the master can read.
    output: VecDeque<u8>,
    /// What the slave can read.
    input: VecDeque<u8>,
    /// Bytes of `input` up to the end of each line.
    line_ends: VecDeque<usize>,
    /// The line that is being typed.
    typed: Vec<u8>,
    /// Whether the next byte is taken as it is.
    is_literal: bool,
    /// Whether output is held back.
    is_stopped: bool,
    column: usize,
    /// How often something moved, in either direction.
    pub(crate) moves: [u64; 2],
}

/// All terminals of a run.
#[derive(Default, Debug)]
pub(crate) struct Terminals {
    pseudo: BTreeMap<u32, Terminal>,
    /// Whom the terminal of the host controls.
    pub(crate) host: Control,
}

impl Terminals {
    /// With the host's terminal controlling the first session.
    pub(crate) fn new(session: u32) -> Self {
        let host = Control { session: Some(session), group: session };
        Self { pseudo: BTreeMap::new(), host }
    }

    pub(crate) fn get(&self, number: u32) -> Result<&Terminal, Errno> {
        self.pseudo.get(&number).ok_or(Errno::EIO)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Result<&mut Terminal, Errno> {
        self.pseudo.get_mut(&number).ok_or(Errno::EIO)
    }

    /// Whom a terminal controls.
    pub(crate) fn control(&self, id: TerminalId) -> Control {
        match id {
            TerminalId::Host => self.host,
            TerminalId::Pseudo(number) => {
                self.pseudo.get(&number).map_or_else(Control::default, |one| one.control)
            }
        }
    }

    pub(crate) fn set_control(&mut self, id: TerminalId, control: Control) {
        match id {
            TerminalId::Host => self.host = control,
            TerminalId::Pseudo(number) => {
                if let Some(terminal) = self.pseudo.get_mut(&number) {
                    terminal.control = control;
                }
            }
        }
    }

    /// The terminal of a session.
    pub(crate) fn of_session(&self, session: u32) -> Option<TerminalId> {
        let controls = |terminal: &&Terminal| terminal.control.session == Some(session);
        let found = self.pseudo.iter().find(|(_, terminal)| controls(terminal));
        let pseudo = found.map(|(&number, _)| TerminalId::Pseudo(number));
        pseudo.or((self.host.session == Some(session)).then_some(TerminalId::Host))
    }
}

impl Terminal {
    fn new() -> Self {
        Self {
            settings: Settings::default(),
            size: [0; 4],
            control: Control::default(),
            is_locked: true,
            has_master: true,
            slave_count: 0,
            had_slave: false,
            node: None,
            output: VecDeque::new(),
            input: VecDeque::new(),
            line_ends: VecDeque::new(),
            typed: Vec::new(),
            is_literal: false,
            is_stopped: false,
            column: 0,
            moves: [0; 2],
        }
    }

    /// Whether the other side of an end is gone for good.
    pub(crate) fn is_hung_up(&self, end: End) -> bool {
        match end {
            End::Master => self.slave_count == 0 && self.had_slave,
            End::Slave => !self.has_master,
        }
    }
}

/// A side of a pseudo-terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Master,
    Slave,
}

impl Vfs {
    /// Makes a pseudo-terminal for the master at `node`, and the name of its slave.
    ///
    /// # Errors
    /// `ENOSPC`: too many.
    pub(crate) fn open_master(
        &mut self,
        node: NodeId,
        status: u32,
        uid: u32,
    ) -> Result<FileId, Errno> {
        let directory = self.slaves()?;
        let is_free = |number: &u32| {
            let name = number.to_string().into_bytes();
            let is_named = self
                .node(directory)
                .directory()
                .is_ok_and(|listed| listed.children.contains_key(&name));
            !self.terminals.pseudo.contains_key(number) && !is_named
        };
        let number = (0..TERMINALS_MAX).find(is_free).ok_or(Errno::ENOSPC)?;
        let mount = self.node(directory).mount;
        let device = Device::Slave(number);
        let mut slave = Node::new(NodeKind::Device(device), Layer::Overlay, mount);
        let mut stat = Stat::new(FileType::CharDevice, 0o620, self.now);
        stat.special = device.number();
        stat.uid = uid;
        stat.gid = GROUP;
        slave.stat = Some(Box::new(stat));
        let slave = self.graft(directory, number.to_string().as_bytes(), slave);
        self.hold(slave);
        let mut terminal = Terminal::new();
        terminal.node = Some(slave);
        self.terminals.pseudo.insert(number, terminal);
        Ok(self.add_file(Opened::Device { node, device: Device::Master(number) }, status))
    }

    /// `/dev/pts`.
    fn slaves(&mut self) -> Result<NodeId, Errno> {
        let mut here = self.root;
        for name in [&b"dev"[..], b"pts"] {
            here = match self.lookup(here, name)? {
                Target::Node(id) => id,
                _ => return Err(Errno::ENOSPC),
            };
        }
        Ok(here)
    }

    /// Opens the slave of a terminal.
    ///
    /// # Errors
    /// `EIO`: it is locked, or its master is gone.
    pub(crate) fn open_slave(&mut self, number: u32, status: u32) -> Result<FileId, Errno> {
        let terminal = self.terminals.get_mut(number)?;
        let node = match terminal.node {
            Some(node) if !terminal.is_locked && terminal.has_master => node,
            _ => return Err(Errno::EIO),
        };
        let file = self.add_file(Opened::Device { node, device: Device::Slave(number) }, status);
        Ok(file)
    }

    /// Counts a new file of a terminal.
    pub(crate) fn note_terminal_opened(&mut self, device: Device) {
        let Device::Slave(number) = device else { return };
        if let Ok(terminal) = self.terminals.get_mut(number) {
            terminal.slave_count += 1;
            terminal.had_slave = true;
        }
        self.news.push(News::Terminal(number));
    }

    /// Counts a closed file of a terminal; its end goes with the last one.
    pub(crate) fn note_terminal_closed(&mut self, device: Device) {
        let (number, end) = match device {
            Device::Slave(number) => (number, End::Slave),
            Device::Master(number) => (number, End::Master),
            _ => return,
        };
        let Ok(terminal) = self.terminals.get_mut(number) else { return };
        match end {
            End::Slave => terminal.slave_count = terminal.slave_count.saturating_sub(1),
            End::Master => {
                terminal.has_master = false;
                if let Some(session) = terminal.control.session.take() {
                    self.news.push(News::HungUp(session));
                }
            }
        }
        self.news.push(News::Terminal(number));
        let terminal = self.terminals.pseudo.get(&number);
        if terminal.is_some_and(|one| !one.has_master && one.slave_count == 0) {
            self.terminals.pseudo.remove(&number);
        }
        if end == End::Master {
            self.remove_slave(number);
        }
    }

    /// Takes the name of a slave away.
    fn remove_slave(&mut self, number: u32) {
        let Ok(directory) = self.slaves() else { return };
        let Ok(listed) = self.node_mut(directory).directory_mut() else { return };
        let removed = listed.children.remove(number.to_string().as_bytes());
        if let Some(Child::Added(id, _)) = removed {
            let node = self.node_mut(id);
            node.is_deleted = true;
            node.added_names = 0;
            self.unhold(id);
        }
    }

    /// Reads from an end of a terminal, at most one line in canonical mode.
    ///
    /// # Errors
    /// `EAGAIN`: nothing there yet. `EIO`: a master without slaves.
    pub(crate) fn read_terminal(
        &mut self,
        number: u32,
        end: End,
        bytes: &mut [u8],
    ) -> Result<usize, Errno> {
        let terminal = self.terminals.get_mut(number)?;
        let count = match end {
            End::Master => terminal.take_output(bytes),
            End::Slave => terminal.take_input(bytes),
        };
        let count = match (count, end) {
            (None, End::Master) if terminal.is_hung_up(end) => return Err(Errno::EIO),
            (None, End::Slave) if terminal.is_hung_up(end) => 0,
            (None, _) => return Err(Errno::EAGAIN),
            (Some(count), _) => count,
        };
        terminal.moves[1] += 1;
        self.news.push(News::Terminal(number));
        Ok(count)
    }

    /// Writes to an end of a terminal: how much, and the signals that typed characters mean.
    ///
    /// # Errors
    /// `EAGAIN`: no room. `EIO`: a slave without a master.
    pub(crate) fn write_terminal(
        &mut self,
        number: u32,
        end: End,
        bytes: &[u8],
    ) -> Result<(usize, Vec<TerminalSignal>), Errno> {
        let terminal = self.terminals.get_mut(number)?;
        if end == End::Slave && terminal.is_hung_up(end) {
            return Err(Errno::EIO);
        }
        let mut signals = Vec::new();
        let count = match end {
            End::Master => terminal.type_bytes(bytes, &mut signals),
            End::Slave => terminal.print(bytes),
        };
        terminal.moves[0] += 1;
        self.news.push(News::Terminal(number));
        if count == 0 && !bytes.is_empty() { Err(Errno::EAGAIN) } else { Ok((count, signals)) }
    }

    /// Whether an end can be read, and whether it can be written.
    pub(crate) fn terminal_state(&self, number: u32, end: End) -> (bool, bool) {
        let Ok(terminal) = self.terminals.get(number) else { return (true, true) };
        match end {
            End::Master => (!terminal.output.is_empty(), terminal.has_input_room()),
            End::Slave => (terminal.has_input(), terminal.has_output_room()),
        }
    }
}
