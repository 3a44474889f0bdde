//! The line discipline: what becomes of typed and of printed bytes.
//!
//! # Source
//! man 3 `termios`; Linux 6.12 `drivers/tty/n_tty.c`.

use super::Terminal;

/// Bytes that may wait on their way in, and on their way out.
const HELD_BYTES_MAX: usize = 65_536;
/// Longest line that can be typed: `N_TTY_BUF_SIZE`, its end included.
const LINE_BYTES_MAX: usize = 4096;
/// Width of a tabulator.
const TAB: usize = 8;

/// Input modes.
mod input {
    pub(super) const ISTRIP: u32 = 0o40;
    pub(super) const INLCR: u32 = 0o100;
    pub(super) const IGNCR: u32 = 0o200;
    pub(super) const ICRNL: u32 = 0o400;
    pub(super) const IXON: u32 = 0o2000;
    pub(super) const IXANY: u32 = 0o4000;
    pub(super) const IUTF8: u32 = 0o40_000;
}

/// Output modes.
mod output {
    pub(super) const OPOST: u32 = 1;
    pub(super) const ONLCR: u32 = 4;
    pub(super) const OCRNL: u32 = 0o10;
    pub(super) const ONOCR: u32 = 0o20;
    pub(super) const ONLRET: u32 = 0o40;
    pub(super) const TABS: u32 = 0o14_000;
}

/// Local modes.
pub(super) mod local {
    pub(crate) const ISIG: u32 = 1;
    pub(crate) const ICANON: u32 = 2;
    pub(super) const ECHO: u32 = 0o10;
    pub(super) const ECHOE: u32 = 0o20;
    pub(super) const ECHOK: u32 = 0o40;
    pub(super) const ECHONL: u32 = 0o100;
    pub(super) const NOFLSH: u32 = 0o200;
    pub(crate) const TOSTOP: u32 = 0o400;
    pub(super) const ECHOCTL: u32 = 0o1000;
    pub(super) const ECHOKE: u32 = 0o4000;
    pub(super) const IEXTEN: u32 = 0o100_000;
}

/// Places of the special characters.
mod code {
    pub(super) const INTR: usize = 0;
    pub(super) const QUIT: usize = 1;
    pub(super) const ERASE: usize = 2;
    pub(super) const KILL: usize = 3;
    pub(super) const EOF: usize = 4;
    pub(super) const TIME: usize = 5;
    pub(super) const MIN: usize = 6;
    pub(super) const START: usize = 8;
    pub(super) const STOP: usize = 9;
    pub(super) const SUSP: usize = 10;
    pub(super) const EOL: usize = 11;
    pub(super) const REPRINT: usize = 12;
    pub(super) const WERASE: usize = 14;
    pub(super) const LNEXT: usize = 15;
    pub(super) const EOL2: usize = 16;
}

/// Bytes of `struct termios` of the kernel.
pub(crate) const SETTINGS_BYTES: usize = 36;

/// The settings of a terminal: `struct termios`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    discipline: u8,
    codes: [u8; 19],
}

impl Default for Settings {
    /// Those of a new pseudo-terminal.
    fn default() -> Self {
        let mut codes = [0; 19];
        let known = [3, 0x1c, 0x7f, 0x15, 4, 0, 1, 0, 0x11, 0x13, 0x1a, 0, 0x12, 0xf, 0x17, 0x16];
        codes[..known.len()].copy_from_slice(&known);
        Self { input: 0x500, output: 5, control: 0xbf, local: 0x8a3b, discipline: 0, codes }
    }
}

impl Settings {
    /// From the bytes that a program gives.
    pub(crate) fn from_bytes(bytes: &[u8; SETTINGS_BYTES]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let mut codes = [0; 19];
        codes.copy_from_slice(&bytes[17..]);
        Self {
            input: word(0),
            output: word(4),
            control: word(8),
            local: word(12),
            discipline: bytes[16],
            codes,
        }
    }

    /// As programs see them.
    pub(crate) fn bytes(&self) -> [u8; SETTINGS_BYTES] {
        let mut bytes = [0; SETTINGS_BYTES];
        let modes = [self.input, self.output, self.control, self.local];
        for (place, mode) in bytes.chunks_mut(4).zip(modes) {
            place.copy_from_slice(&mode.to_le_bytes());
        }
        bytes[16] = self.discipline;
        bytes[17..].copy_from_slice(&self.codes);
        bytes
    }

    pub(crate) fn is_canonical(&self) -> bool {
        self.local & local::ICANON != 0
    }

    /// Whether groups in the background may not print.
    pub(crate) fn stops_background(&self) -> bool {
        self.local & local::TOSTOP != 0
    }

    /// Tenths of a second that a read waits for a first byte, where it waits for time only.
    pub(crate) fn read_tenths(&self) -> Option<u64> {
        let is_timed = !self.is_canonical() && self.codes[code::MIN] == 0;
        is_timed.then(|| self.codes[code::TIME].into())
    }

    fn is(&self, code: usize, byte: u8) -> bool {
        self.codes[code] == byte && byte != 0
    }

    fn echoes(&self) -> bool {
        self.local & local::ECHO != 0
    }
}

/// A signal that a typed character means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TerminalSignal {
    Interrupt,
    Quit,
    Suspend,
}

impl Terminal {
    /// Takes new settings; what was typed is at hand at once when lines end to matter.
    pub(crate) fn set_settings(&mut self, settings: Settings) {
        let was_canonical = self.settings.is_canonical();
        self.settings = settings;
        if was_canonical && !settings.is_canonical() {
            self.input.extend(self.typed.drain(..));
            self.line_ends.clear();
        } else if !was_canonical && settings.is_canonical() && !self.input.is_empty() {
            self.line_ends.push_back(self.input.len());
        }
    }

    /// Throws away what waits to be read by the slave, or by the master.
    pub(crate) fn flush(&mut self, input: bool, output: bool) {
        if input {
            self.input.clear();
            self.line_ends.clear();
            self.typed.clear();
        }
        if output {
            self.output.clear();
        }
    }

    /// Bytes that the slave could read at once, and that the master could.
    pub(crate) fn waiting_bytes(&self) -> [usize; 2] {
        [self.readable_bytes(), self.output.len()]
    }

    fn readable_bytes(&self) -> usize {
        if self.settings.is_canonical() {
            self.line_ends.back().copied().unwrap_or(0)
        } else {
            self.input.len()
        }
    }

    pub(super) fn has_input(&self) -> bool {
        if self.settings.is_canonical() {
            return !self.line_ends.is_empty();
        }
        self.input.len() >= usize::from(self.settings.codes[code::MIN]).max(1)
    }

    pub(super) fn has_input_room(&self) -> bool {
        self.input.len() < HELD_BYTES_MAX
    }

    pub(super) fn has_output_room(&self) -> bool {
        !self.is_stopped && self.output.len() < HELD_BYTES_MAX
    }

    pub(super) fn take_output(&mut self, bytes: &mut [u8]) -> Option<usize> {
        if self.output.is_empty() {
            return None;
        }
        let count = bytes.len().min(self.output.len());
        for (place, byte) in bytes.iter_mut().zip(self.output.drain(..count)) {
            *place = byte;
        }
        Some(count)
    }

    /// One line, or what is there; `None` if there is nothing to return yet.
    pub(super) fn take_input(&mut self, bytes: &mut [u8]) -> Option<usize> {
        if !self.has_input() {
            return None;
        }
        let end = match self.line_ends.front() {
            Some(&end) if self.settings.is_canonical() => end,
            _ => self.input.len(),
        };
        let count = bytes.len().min(end);
        for (place, byte) in bytes.iter_mut().zip(self.input.drain(..count)) {
            *place = byte;
        }
        for end in &mut self.line_ends {
            *end = end.saturating_sub(count);
        }
        if count == end {
            self.line_ends.pop_front();
        }
        Some(count)
    }

    /// Prints bytes of the slave; returns how many there was room for.
    pub(super) fn print(&mut self, bytes: &[u8]) -> usize {
        for (done, &byte) in bytes.iter().enumerate() {
            if !self.has_output_room() {
                return done;
            }
            self.put(byte);
        }
        bytes.len()
    }

    /// Puts one byte out, with what `OPOST` makes of it.
    fn put(&mut self, byte: u8) {
        let modes = self.settings.output;
        if modes & output::OPOST == 0 {
            self.output.push_back(byte);
            return;
        }
        match byte {
            b'\n' => {
                if modes & output::ONLCR != 0 {
                    self.output.push_back(b'\r');
                }
                if modes & (output::ONLCR | output::ONLRET) != 0 {
                    self.column = 0;
                }
                self.output.push_back(b'\n');
            }
            b'\r' if modes & output::ONOCR != 0 && self.column == 0 => {}
            b'\r' if modes & output::OCRNL != 0 => {
                self.column = if modes & output::ONLRET != 0 { 0 } else { self.column };
                self.output.push_back(b'\n');
            }
            b'\r' => {
                self.column = 0;
                self.output.push_back(b'\r');
            }
            b'\t' => {
                let spaces = TAB - self.column % TAB;
                self.column += spaces;
                if modes & output::TABS == output::TABS {
                    self.output.extend(std::iter::repeat_n(b' ', spaces));
                } else {
                    self.output.push_back(b'\t');
                }
            }
            8 => {
                self.column = self.column.saturating_sub(1);
                self.output.push_back(byte);
            }
            _ => {
                let is_shown = byte >= b' ' && byte != 0x7f && byte & 0xc0 != 0x80;
                self.column = self.column.wrapping_add(usize::from(is_shown));
                self.output.push_back(byte);
            }
        }
    }

    /// Takes typed bytes of the master; returns how many there was room for.
    pub(super) fn type_bytes(&mut self, bytes: &[u8], signals: &mut Vec<TerminalSignal>) -> usize {
        for (done, &byte) in bytes.iter().enumerate() {
            if !self.has_input_room() {
                return done;
            }
            self.type_byte(byte, signals);
        }
        bytes.len()
    }

    fn type_byte(&mut self, byte: u8, signals: &mut Vec<TerminalSignal>) {
        let settings = self.settings;
        let modes = settings.input;
        let byte = if modes & input::ISTRIP != 0 { byte & 0x7f } else { byte };
        if std::mem::take(&mut self.is_literal) {
            return self.keep(byte);
        }
        if modes & input::IXON != 0 {
            if settings.is(code::START, byte) {
                self.is_stopped = false;
                return;
            }
            if settings.is(code::STOP, byte) {
                self.is_stopped = true;
                return;
            }
        }
        if settings.local & local::ISIG != 0
            && let Some(signal) = signal_of(&settings, byte)
        {
            signals.push(signal);
            return self.interrupt(byte);
        }
        if modes & input::IXANY != 0 {
            self.is_stopped = false;
        }
        let byte = match byte {
            b'\r' if modes & input::IGNCR != 0 => return,
            b'\r' if modes & input::ICRNL != 0 => b'\n',
            b'\n' if modes & input::INLCR != 0 => b'\r',
            other => other,
        };
        if settings.is_canonical() && self.edit(byte) {
            return;
        }
        self.keep(byte);
    }

    /// What a signal's character does besides.
    fn interrupt(&mut self, byte: u8) {
        if self.settings.local & local::NOFLSH == 0 {
            self.flush(true, true);
        }
        self.is_stopped = false;
        if self.settings.echoes() {
            self.echo(byte);
        }
    }

    /// Does what a special character of a line means; false if it is none.
    fn edit(&mut self, byte: u8) -> bool {
        let settings = self.settings;
        let is_extended = settings.local & local::IEXTEN != 0;
        if settings.is(code::ERASE, byte) {
            self.erase_character();
        } else if is_extended && settings.is(code::WERASE, byte) {
            self.erase_word();
        } else if settings.is(code::KILL, byte) {
            self.erase_line(byte);
        } else if is_extended && settings.is(code::LNEXT, byte) {
            self.is_literal = true;
            if settings.echoes() && settings.local & local::ECHOCTL != 0 {
                self.put(b'^');
                self.put(8);
            }
        } else if is_extended && settings.echoes() && settings.is(code::REPRINT, byte) {
            self.echo(byte);
            self.put(b'\n');
            for byte in self.typed.clone() {
                self.echo(byte);
            }
        } else if settings.is(code::EOF, byte) {
            self.end_line();
        } else if byte == b'\n' {
            if settings.echoes() || settings.local & local::ECHONL != 0 {
                self.put(b'\n');
            }
            self.typed.push(byte);
            self.end_line();
        } else if settings.is(code::EOL, byte) || is_extended && settings.is(code::EOL2, byte) {
            if settings.echoes() {
                self.echo(byte);
            }
            self.typed.push(byte);
            self.end_line();
        } else {
            return false;
        }
        true
    }

    /// Hands the typed line to the slave.
    fn end_line(&mut self) {
        self.input.extend(self.typed.drain(..));
        self.line_ends.push_back(self.input.len());
    }

    /// Keeps a byte that means nothing special.
    fn keep(&mut self, byte: u8) {
        if !self.settings.is_canonical() {
            if self.settings.echoes() {
                self.echo(byte);
            }
            self.input.push_back(byte);
            return;
        }
        if self.typed.len() + 1 >= LINE_BYTES_MAX {
            // Only the end of the line has room: what is typed beyond is lost.
            return;
        }
        if self.settings.echoes() {
            self.echo(byte);
        }
        self.typed.push(byte);
    }

    /// Shows a typed byte.
    fn echo(&mut self, byte: u8) {
        if !self.has_input_room() || self.output.len() >= HELD_BYTES_MAX {
            return;
        }
        let is_control = byte < b' ' && byte != b'\t' && byte != b'\n' || byte == 0x7f;
        if is_control && self.settings.local & local::ECHOCTL != 0 {
            self.put(b'^');
            self.put(byte ^ 0x40);
        } else {
            self.put(byte);
        }
    }

    /// Takes the last character of the line away and returns its first byte.
    fn pop_character(&mut self) -> Option<u8> {
        let mut last = self.typed.pop()?;
        let is_utf8 = self.settings.input & input::IUTF8 != 0;
        while is_utf8 && last & 0xc0 == 0x80 {
            match self.typed.pop() {
                Some(byte) => last = byte,
                None => break,
            }
        }
        Some(last)
    }

    fn erase_character(&mut self) {
        let Some(gone) = self.pop_character() else { return };
        self.show_erased(gone);
    }

    /// Takes a character from the screen.
    fn show_erased(&mut self, gone: u8) {
        if !self.settings.echoes() {
            return;
        }
        if self.settings.local & local::ECHOE == 0 {
            let erase = self.settings.codes[code::ERASE];
            return self.echo(erase);
        }
        let is_control = gone < b' ' || gone == 0x7f;
        let shows_control = self.settings.local & local::ECHOCTL != 0;
        let width = match gone {
            b'\t' => TAB,
            _ if is_control && shows_control => 2,
            _ if is_control => 0,
            _ => 1,
        };
        for _ in 0..width {
            for byte in [8, b' ', 8] {
                self.put(byte);
            }
        }
    }

    fn erase_word(&mut self) {
        let mut has_word = false;
        while let Some(&last) = self.typed.last() {
            let is_word = last.is_ascii_alphanumeric() || last == b'_' || last >= 0x80;
            if has_word && !is_word {
                break;
            }
            has_word |= is_word;
            self.erase_character();
        }
    }

    fn erase_line(&mut self, byte: u8) {
        let modes = self.settings.local;
        let shows_each = local::ECHOK | local::ECHOKE | local::ECHOE;
        if modes & shows_each == shows_each {
            while !self.typed.is_empty() {
                self.erase_character();
            }
            return;
        }
        self.typed.clear();
        if self.settings.echoes() {
            self.echo(byte);
            if modes & local::ECHOK != 0 {
                self.put(b'\n');
            }
        }
    }
}

fn signal_of(settings: &Settings, byte: u8) -> Option<TerminalSignal> {
    if settings.is(code::INTR, byte) {
        Some(TerminalSignal::Interrupt)
    } else if settings.is(code::QUIT, byte) {
        Some(TerminalSignal::Quit)
    } else if settings.is(code::SUSP, byte) {
        Some(TerminalSignal::Suspend)
    } else {
        None
    }
}
