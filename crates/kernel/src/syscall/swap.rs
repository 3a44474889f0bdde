//! `swapon` and `swapoff`: files of the guest as swap areas.
//!
//! The file must be made by `mkswap`. Its pages are not written to it: they go to memory of the
//! host, compressed, and cost the virtual time of the machine's swap device.
//!
//! Differs from Linux: the file can still be written, to no effect on the area.
//!
//! # Source
//! Linux 6.12 `mm/swapfile.c`: `swapon`, `read_swap_header`, `swapoff`; semantics SWAP-1, SWAP-6.

use mm::{AreaId, PackedStore, Readahead};

use crate::Kernel;
use crate::SwapKind;
use crate::errno::{Errno, SysResult};
use crate::fs::View;
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub(crate) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        167 => sys_swapon,
        168 => sys_swapoff,
        _ => return None,
    })
}

/// A swap area by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NamedArea {
    pub(crate) id: AreaId,
    /// As `/proc/swaps` shows it.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: SwapKind,
}

impl NamedArea {
    /// The area that a machine starts with.
    pub(crate) fn of_boot(kind: SwapKind) -> Self {
        let path = match kind {
            SwapKind::Memory => b"/dev/zram0".to_vec(),
            SwapKind::File => b"/swapfile".to_vec(),
        };
        Self { id: AreaId(0), path, kind }
    }
}

const PAGE: usize = machine::PAGE_BYTES as usize;
const MAGIC: &[u8; 10] = b"SWAPSPACE2";
/// Version, last page, bad pages: behind 1,024 bytes for a boot loader.
const INFO: usize = 1024;
/// `SWAP_FLAG_PREFER`, `SWAP_FLAG_PRIO_MASK`, `SWAP_FLAGS_VALID`.
const PREFER: u64 = 0x8000;
const PRIORITY_MASK: u64 = 0x7fff;
const FLAGS: u64 = 0x7_ffff;

/// The last page that a header tells of.
///
/// # Errors
/// `EINVAL`: not the header of an area that can be used.
fn last_page(header: &[u8; PAGE], file_bytes: u64) -> Result<u32, Errno> {
    let word = |index: usize| {
        let four = header[INFO + 4 * index..].first_chunk().expect("a header is a page");
        u32::from_le_bytes(*four)
    };
    let [version, last, bad] = [word(0), word(1), word(2)];
    let pages = u64::from(last).saturating_add(1);
    let is_whole = pages <= file_bytes / machine::PAGE_BYTES;
    // A file has no bad pages.
    let is_good = header.ends_with(MAGIC) && version == 1 && last > 0 && bad == 0 && is_whole;
    if is_good { Ok(last) } else { Err(Errno::EINVAL) }
}

fn sys_swapon(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [path, flags, ..] = args;
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if kernel.fs.credentials.uid != 0 {
        return Err(Errno::EPERM);
    }
    let path = kernel.read_user_path(path)?;
    let Kernel { vfs, memory, hw, fs, files, .. } = kernel;
    let (file, bytes, path) = vfs.open_swap((memory, hw), &View::new(fs, files), &path)?;
    if kernel.swap_areas.iter().any(|area| area.path == path) {
        return Err(Errno::EBUSY);
    }
    let mut header = [0; PAGE];
    let count = memory.read_object(hw, file.object, (0, &mut header), &mut Readahead::default())?;
    if count < PAGE {
        return Err(Errno::EINVAL);
    }
    let slot_count = last_page(&header, bytes)?.saturating_add(1);
    let priority = (flags & PREFER != 0).then_some((flags & PRIORITY_MASK) as i16);
    let store = Box::new(PackedStore::new());
    let id = kernel.memory.swap_add(slot_count, store, kernel.swap_latency, priority)?;
    kernel.swap_areas.push(NamedArea { id, path, kind: SwapKind::File });
    Ok(0)
}

fn sys_swapoff(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    if kernel.fs.credentials.uid != 0 {
        return Err(Errno::EPERM);
    }
    let path = kernel.read_user_path(args[0])?;
    let is_known =
        |kernel: &Kernel, path: &[u8]| kernel.swap_areas.iter().position(|area| area.path == path);
    // The area of the machine has a name that leads nowhere.
    let at = match is_known(kernel, &path) {
        Some(at) => at,
        None => {
            let Kernel { vfs, fs, files, .. } = kernel;
            let view = View::new(fs, files);
            let path = vfs.existing_path(&view, &path)?;
            is_known(kernel, &path).ok_or(Errno::EINVAL)?
        }
    };
    let id = kernel.swap_areas[at].id;
    let Kernel { memory, hw, mm, tasks, .. } = kernel;
    let mut spaces = tasks.mms.parts_mut();
    spaces.push(mm);
    memory.swap_off(&mut spaces, hw, id)?;
    kernel.swap_areas.remove(at);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::{INFO, MAGIC, PAGE, last_page};
    use crate::errno::Errno;

    #[test]
    fn swap_1_only_whole_areas_of_version_1_are_taken() {
        let mut header = [0; PAGE];
        header[PAGE - 10..].copy_from_slice(MAGIC);
        header[INFO..INFO + 8].copy_from_slice(&[1, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(last_page(&header, 40_960), Ok(9));
        assert_eq!(last_page(&header, 40_959), Err(Errno::EINVAL), "cut");
        for (at, value) in [(INFO, 2), (INFO + 4, 0), (INFO + 8, 1), (PAGE - 1, b'1')] {
            let mut other = header;
            other[at] = value;
            assert_eq!(last_page(&other, 40_960), Err(Errno::EINVAL), "{at}");
        }
    }
}
