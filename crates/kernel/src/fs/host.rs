//! The host's files: the only calls of this crate that reach them.
//!
//! Every path comes from the walk in the guest's view, and no call follows a symbolic link.
//!
//! Does not: decide what the guest may see or change.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, Gid, Mode, OFlags, StatxFlags, Timespec, Timestamps, Uid};

use super::stat::{FileType, Stat, Timestamp};
use crate::errno::Errno;

impl From<rustix::io::Errno> for Errno {
    fn from(error: rustix::io::Errno) -> Self {
        Self::from_host(error.raw_os_error())
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self::from_host(error.raw_os_error().unwrap_or(0))
    }
}

/// Attributes of `path` itself.
pub(super) fn stat(path: &Path) -> Result<Stat, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let all = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    Ok(convert(&fs::statx(CWD, path, flags, all)?))
}

/// Attributes of an open file of the host.
pub(super) fn stat_fd(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    let all = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    Ok(convert(&fs::statx(fd, c"", AtFlags::EMPTY_PATH, all)?))
}

fn convert(host: &fs::Statx) -> Stat {
    let time =
        |time: fs::StatxTimestamp| Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec };
    Stat {
        device: (host.stx_dev_major, host.stx_dev_minor),
        inode: host.stx_ino,
        mode: host.stx_mode.into(),
        link_count: host.stx_nlink,
        uid: host.stx_uid,
        gid: host.stx_gid,
        special: (host.stx_rdev_major, host.stx_rdev_minor),
        size_bytes: host.stx_size,
        block_bytes: host.stx_blksize,
        blocks: host.stx_blocks,
        // Differs from Linux: the host's time of the last access is not shown, because our own
        // reading moves it, and the same run would not be the same again.
        accessed: time(host.stx_mtime),
        modified: time(host.stx_mtime),
        changed: time(host.stx_ctime),
        created: time(host.stx_btime),
    }
}

/// Whether `path` lies on a file system that shows the host itself instead of files.
pub(super) fn is_virtual(path: &Path) -> bool {
    // Linux include/uapi/linux/magic.h: proc, sysfs, debugfs, tracefs, securityfs, cgroup, cgroup2,
    // bpf, configfs, pstore, efivarfs, selinux, binfmt_misc, fusectl, mqueue, devpts, nsfs.
    const MAGIC: [u32; 17] = [
        0x9fa0,
        0x6265_6572,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0x0027_e0eb,
        0x6367_7270,
        0xcafe_4a11,
        0x6265_6570,
        0x6165_676c,
        0xde5e_81e4,
        0xf97c_ff8c,
        0x4249_4e4d,
        0x6573_5543,
        0x1980_0202,
        0x1cd1,
        0x6e73_6673,
    ];
    match fs::statfs(path) {
        Ok(found) => u32::try_from(found.f_type & 0xffff_ffff).is_ok_and(|t| MAGIC.contains(&t)),
        Err(_) => true,
    }
}

/// Opens the regular file `path` for reading, or for both when `is_writable`.
pub(super) fn open_file(path: &Path, is_writable: bool) -> Result<File, Errno> {
    let access = if is_writable { OFlags::RDWR } else { OFlags::RDONLY };
    // NONBLOCK: should the path have become a FIFO, nothing waits for its other end.
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = File::from(fs::open(path, flags, Mode::empty())?);
    match stat_fd(file.as_fd())?.file_type() {
        FileType::Regular => Ok(file),
        _ => Err(Errno::ENXIO),
    }
}

/// Makes the regular file `path` and opens it for both.
pub(super) fn create_file(path: &Path, mode: u32) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(fs::open(path, flags, Mode::from_raw_mode(mode))?);
    fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file)
}

/// One entry of a host directory.
pub(super) struct HostEntry {
    pub(super) name: Vec<u8>,
    pub(super) inode: u64,
    pub(super) kind: u8,
}

/// All entries of the directory `path`, in the host's order, `.` and `..` included.
pub(super) fn list(path: &Path) -> Result<Vec<HostEntry>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = fs::Dir::new(fs::open(path, flags, Mode::empty())?)?;
    let mut entries = Vec::new();
    while let Some(entry) = dir.read() {
        let entry = entry?;
        entries.push(HostEntry {
            name: name_bytes(entry.file_name()),
            inode: entry.ino(),
            kind: dirent_kind(entry.file_type()),
        });
    }
    Ok(entries)
}

fn name_bytes(name: &CStr) -> Vec<u8> {
    name.to_bytes().to_vec()
}

fn dirent_kind(kind: fs::FileType) -> u8 {
    u8::try_from(kind.as_raw_mode() >> 12 & 0xf).unwrap_or(0)
}

/// The text of the symbolic link `path`.
pub(super) fn read_link(path: &Path) -> Result<Vec<u8>, Errno> {
    Ok(fs::readlinkat(CWD, path, Vec::new())?.into_bytes())
}

/// Changes of a written-through directory, one call of the host each.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), Errno> {
    fs::mkdirat(CWD, path, Mode::from_raw_mode(mode))?;
    Ok(fs::chmod(path, Mode::from_raw_mode(mode))?)
}

/// Makes the symbolic link `path` with this text.
pub(super) fn make_symlink(text: &[u8], path: &Path) -> Result<(), Errno> {
    Ok(fs::symlinkat(std::ffi::OsStr::from_bytes(text), CWD, path)?)
}

/// Gives the file `from` the further name `to`.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), Errno> {
    Ok(fs::linkat(CWD, from, CWD, to, AtFlags::empty())?)
}

/// Removes the name of a file.
pub(super) fn unlink(path: &Path) -> Result<(), Errno> {
    Ok(fs::unlinkat(CWD, path, AtFlags::empty())?)
}

/// Removes an empty directory.
pub(super) fn remove_directory(path: &Path) -> Result<(), Errno> {
    Ok(fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

/// Renames with `renameat2` flags.
pub(super) fn rename(from: &Path, to: &Path, flags: u32) -> Result<(), Errno> {
    let flags = fs::RenameFlags::from_bits_retain(flags);
    Ok(fs::renameat_with(CWD, from, CWD, to, flags)?)
}

/// Sets the permissions of a file that is not a symbolic link.
pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), Errno> {
    Ok(fs::chmod(path, Mode::from_raw_mode(mode))?)
}

/// Sets owner and group where given.
pub(super) fn set_owner(path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    Ok(fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets the times of last read and last write.
pub(super) fn set_times(
    path: &Path,
    accessed: Timestamp,
    modified: Timestamp,
) -> Result<(), Errno> {
    let spec =
        |time: Timestamp| Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    let times = Timestamps { last_access: spec(accessed), last_modification: spec(modified) };
    Ok(fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
