//! Events and refusals as lines of text, with names instead of addresses.

use machine::{Event, PAGE_BYTES, Side};
use mm::{FaultError, MmError};

use super::calls::ADVICE;
use crate::names::Names;

/// One event.
pub(super) fn event(event: Event, names: &Names) -> String {
    let length = |bytes: u64| format!("{}p", bytes / PAGE_BYTES);
    let (mm, text) = match event {
        Event::Fault { mm, addr, label, code, is_major } => {
            let access = match code & 0x12 {
                0x10 => "exec",
                0x02 => "write",
                _ => "read",
            };
            let state = if code & 1 == 0 { "absent" } else { "present" };
            let weight = if is_major { " major" } else { "" };
            let (at, kind) = (names.text(addr), label.name());
            (mm, format!("fault {access} {at} {state}: {kind}{weight}"))
        }
        Event::Map { mm, start, bytes, rights } => {
            (mm, format!("map {} {} {}", names.text(start), length(bytes), letters(rights)))
        }
        Event::Unmap { mm, start, bytes } => {
            (mm, format!("unmap {} {}", names.text(start), length(bytes)))
        }
        Event::Protect { mm, start, bytes, rights } => {
            (mm, format!("protect {} {} {}", names.text(start), length(bytes), letters(rights)))
        }
        Event::Move { mm, from, to, bytes } => {
            (mm, format!("move {} to {} {}", names.text(from), names.text(to), length(bytes)))
        }
        Event::Advise { mm, start, bytes, advice } => {
            let known = ADVICE.iter().find(|(_, known)| *known as u8 == advice);
            let name = known.map_or("?", |(name, _)| name);
            (mm, format!("advise {} {} {name}", names.text(start), length(bytes)))
        }
        Event::Fork { mm, entries, table_frames, .. } => {
            (mm, format!("fork: {entries} entries, {table_frames} tables"))
        }
        Event::Unshare { mm, addr, side } => {
            let side = match side {
                Side::Parent => "parent",
                Side::Child => "child",
            };
            (mm, format!("unshare {} by the {side}", names.text(addr)))
        }
        Event::PageIn { first, pages, device_pages, .. } => {
            (1, format!("page-in {first}+{pages}, {device_pages} from the device"))
        }
        Event::WriteBack { first, pages, .. } => (1, format!("write-back {first}, {pages} pages")),
        other => (1, format!("{other:?}")),
    };
    if mm == 1 { text } else { format!("{text} (child)") }
}

fn letters(rights: u8) -> String {
    let letter = |(bit, letter): (u8, char)| if rights & bit == 0 { '-' } else { letter };
    [(1, 'r'), (2, 'w'), (4, 'x')].map(letter).iter().collect()
}

/// How the program learns of a fault that could not be resolved.
pub(super) fn fault_error(error: FaultError, names: &Names) -> String {
    let (signal, addr) = match error {
        FaultError::NoVma { addr } => ("SIGSEGV SEGV_MAPERR", addr),
        FaultError::Denied { addr } => ("SIGSEGV SEGV_ACCERR", addr),
        FaultError::BusError { addr } => ("SIGBUS BUS_ADRERR", addr),
        FaultError::OutOfMemory { addr } => ("out of memory", addr),
    };
    format!("= {signal} at {}", names.text(addr.as_u64()))
}

/// The errno of a call that was refused.
pub(super) fn mm_error(error: MmError) -> String {
    let errno = match error {
        MmError::InvalidArgument(_) => "EINVAL",
        MmError::NoMemory(_) | MmError::RamTooLarge { .. } => "ENOMEM",
        MmError::Exists => "EEXIST",
        MmError::NotPermitted => "EPERM",
        MmError::Again => "EAGAIN",
        MmError::Overflow => "EOVERFLOW",
        MmError::AccessDenied => "EACCES",
        MmError::NoDevice => "ENODEV",
        MmError::NotSupported => "EOPNOTSUPP",
        MmError::Fault { .. } => "EFAULT",
        MmError::Busy => "EBUSY",
        MmError::TextBusy => "ETXTBSY",
        MmError::Io(_) => "EIO",
    };
    format!("= {errno}")
}
