//! `ioctl`: a short list of requests; everything else is `ENOTTY`.
//!
//! Terminal attributes pass to and from the terminal that the run inherited. Requests that could
//! put characters into it (`TIOCSTI`, `TIOCLINUX`) are never passed on.
//!
//! # Source
//! Linux 6.12 `include/uapi/asm-generic/ioctls.h`, `termbits.h`; man 2 `ioctl_tty`.

use std::os::fd::BorrowedFd;

use machine::VirtAddr;
use rustix::termios::{
    self, ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex,
    Termios,
};

use super::terminal::pseudo_terminal;
use super::{low32, real_file};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{FileId, Inherit, Opened, TerminalEnd, flag};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    (number == 16).then_some(sys_ioctl as Handler)
}

/// Special characters of `struct termios` of the kernel.
const CODES: [SpecialCodeIndex; 17] = [
    SpecialCodeIndex::VINTR,
    SpecialCodeIndex::VQUIT,
    SpecialCodeIndex::VERASE,
    SpecialCodeIndex::VKILL,
    SpecialCodeIndex::VEOF,
    SpecialCodeIndex::VTIME,
    SpecialCodeIndex::VMIN,
    SpecialCodeIndex::VSWTC,
    SpecialCodeIndex::VSTART,
    SpecialCodeIndex::VSTOP,
    SpecialCodeIndex::VSUSP,
    SpecialCodeIndex::VEOL,
    SpecialCodeIndex::VREPRINT,
    SpecialCodeIndex::VDISCARD,
    SpecialCodeIndex::VWERASE,
    SpecialCodeIndex::VLNEXT,
    SpecialCodeIndex::VEOL2,
];

fn sys_ioctl(kernel: &mut Kernel, [fd, request, argument, ..]: [u64; 6]) -> SysResult {
    const FIGETBSZ: u32 = 2;
    const FIONREAD: u32 = 0x541b;
    const FIONBIO: u32 = 0x5421;
    const FIONCLEX: u32 = 0x5450;
    const FIOCLEX: u32 = 0x5451;
    const FIOASYNC: u32 = 0x5452;
    const FIOQSIZE: u32 = 0x5460;
    let file = real_file(kernel, fd)?;
    match low32(request) {
        FIGETBSZ if matches!(kernel.vfs.file(file).opened, Opened::Regular(_)) => {
            kernel.write_user_u32(VirtAddr::new(argument), 4096)?;
            Ok(0)
        }
        FIOCLEX => kernel.files.set_inherit(fd, Inherit::Close).map(|()| 0),
        FIONCLEX => kernel.files.set_inherit(fd, Inherit::Keep).map(|()| 0),
        FIONBIO => set_status(kernel, file, argument, flag::NONBLOCK),
        FIOASYNC => set_status(kernel, file, argument, flag::ASYNC),
        FIONREAD => {
            let count = waiting_bytes(kernel, file)?;
            kernel.write_user_u32(VirtAddr::new(argument), count)?;
            Ok(0)
        }
        FIOQSIZE => {
            let Opened::Regular(node) = kernel.vfs.file(file).opened else {
                return Err(Errno::ENOTTY);
            };
            let size = kernel.vfs.size_of(node)?;
            kernel.write_user_u64(VirtAddr::new(argument), size)?;
            Ok(0)
        }
        _ if matches!(kernel.vfs.file(file).opened, Opened::Epoll(_)) => Err(Errno::EINVAL),
        request if kernel.is_testmem(file) => kernel.testmem_request(file, request, argument),
        request => terminal_request(kernel, file, request, argument),
    }
}

fn set_status(kernel: &mut Kernel, file: FileId, argument: u64, bit: u32) -> SysResult {
    let is_on = kernel.read_user_u32(VirtAddr::new(argument))? != 0;
    let open = kernel.vfs.file_mut(file);
    open.status = if is_on { open.status | bit } else { open.status & !bit };
    Ok(0)
}

/// How many bytes can be read at once.
fn waiting_bytes(kernel: &Kernel, file: FileId) -> Result<u32, Errno> {
    let open = kernel.vfs.file(file);
    let count = match &open.opened {
        // Negative behind the end, as on Linux.
        Opened::Regular(node) => {
            return Ok(low32(kernel.vfs.size_of(*node)?.wrapping_sub(open.offset)));
        }
        Opened::Pipe(node) => kernel.vfs.pipe(*node).map_or(0, |pipe| pipe.held_bytes() as u64),
        Opened::Socket(socket) => {
            let socket = kernel.vfs.socket(*socket)?;
            if socket.is_listening() {
                return Err(Errno::EINVAL);
            }
            socket.waiting_bytes() as u64
        }
        Opened::Device { device, .. } if pseudo_terminal(*device).is_some() => {
            let (number, end) = pseudo_terminal(*device).ok_or(Errno::ENOTTY)?;
            let [input, output] = kernel.vfs.terminals.get(number)?.waiting_bytes();
            (if end == TerminalEnd::Slave { input } else { output }) as u64
        }
        Opened::Device { device, .. } => {
            let stream = device.stream().ok_or(Errno::ENOTTY)?;
            rustix::io::ioctl_fionread(stream.fd())?
        }
        _ => return Err(Errno::ENOTTY),
    };
    Ok(u32::try_from(count.min(0x7fff_ffff)).unwrap_or(0))
}

fn terminal_request(kernel: &mut Kernel, file: FileId, request: u32, argument: u64) -> SysResult {
    const TCGETS: u32 = 0x5401;
    const TCSETS: u32 = 0x5402;
    const TCSETSF: u32 = 0x5404;
    const TCSBRK: u32 = 0x5409;
    const TCXONC: u32 = 0x540a;
    const TCFLSH: u32 = 0x540b;
    const TIOCGWINSZ: u32 = 0x5413;
    let Opened::Device { device, .. } = kernel.vfs.file(file).opened else {
        return Err(Errno::ENOTTY);
    };
    if let Some(result) = kernel.control_request(file, request, argument) {
        return result;
    }
    if let Some(end) = pseudo_terminal(device) {
        return kernel.pseudo_request(end, request, argument);
    }
    let stream = device.stream().filter(|stream| stream.is_terminal()).ok_or(Errno::ENOTTY)?;
    let fd = stream.fd();
    let addr = VirtAddr::new(argument);
    match request {
        TCGETS => {
            let bytes = termios_bytes(&termios::tcgetattr(fd).map_err(Errno::from)?);
            kernel.write_user(addr, &bytes)?;
            Ok(0)
        }
        TCSETS..=TCSETSF => {
            let mut bytes = [0; 36];
            kernel.read_user(addr, &mut bytes)?;
            set_termios(fd, request - TCSETS, &bytes)?;
            Ok(0)
        }
        TIOCGWINSZ => {
            let size = termios::tcgetwinsize(fd).map_err(Errno::from)?;
            let words = [size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel];
            kernel.write_user(addr, &words.map(u16::to_le_bytes).concat())?;
            Ok(0)
        }
        TCSBRK => Ok(termios::tcdrain(fd).map(|()| 0).map_err(Errno::from)?),
        TCXONC | TCFLSH => Ok(0),
        _ => Err(Errno::ENOTTY),
    }
}

/// `struct termios` of the kernel: four words, the line discipline, 19 special characters.
fn termios_bytes(settings: &Termios) -> [u8; 36] {
    let mut bytes = [0; 36];
    let modes = [
        settings.input_modes.bits(),
        settings.output_modes.bits(),
        settings.control_modes.bits(),
        settings.local_modes.bits(),
    ];
    for (place, word) in bytes.chunks_mut(4).zip(modes) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    for (place, code) in bytes[17..].iter_mut().zip(CODES) {
        *place = settings.special_codes[code];
    }
    bytes
}

fn set_termios(fd: BorrowedFd<'_>, when: u32, bytes: &[u8; 36]) -> Result<(), Errno> {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let mut settings = termios::tcgetattr(fd)?;
    settings.input_modes = InputModes::from_bits_retain(word(0));
    settings.output_modes = OutputModes::from_bits_retain(word(4));
    settings.control_modes = ControlModes::from_bits_retain(word(8));
    settings.local_modes = LocalModes::from_bits_retain(word(12));
    for (value, code) in bytes[17..].iter().zip(CODES) {
        settings.special_codes[code] = *value;
    }
    let when = match when {
        0 => OptionalActions::Now,
        1 => OptionalActions::Drain,
        _ => OptionalActions::Flush,
    };
    Ok(termios::tcsetattr(fd, when, &settings)?)
}
