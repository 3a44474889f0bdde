//! The synthesised `/proc`: text made from the state of this machine, never the host's.
//!
//! Each function makes the whole text of one file as it is at the moment of the open.

mod memory_map;
mod system;
mod task;

use super::{FileId, Opened, ProcFile};
use crate::Kernel;
use crate::errno::Errno;

/// Names of the files in the directory of a task.
pub(crate) const TASK_NAMES: [&str; 16] = task::NAMES;
/// Names of the files in `/proc` itself.
pub(crate) const SYSTEM_NAMES: [&str; 11] = system::NAMES;
/// Paths of the settings below `/proc/sys`.
pub(crate) const SETTING_NAMES: [&str; 18] = system::SETTINGS;

/// The content of `/proc/PID/NAME` of the task.
pub(crate) fn task_file(kernel: &Kernel, name: &str) -> Option<Vec<u8>> {
    task::file(kernel, name)
}

/// The content of `/proc/PATH`, for files that are about the whole machine.
pub(crate) fn system_file(kernel: &Kernel, path: &str) -> Option<Vec<u8>> {
    system::file(kernel, path)
}

impl Kernel {
    /// Reads from a file of `/proc`; its text is made anew by a read from the start.
    ///
    /// # Errors
    /// `EIO`: the file is gone.
    pub(crate) fn read_proc(
        &mut self,
        id: FileId,
        at: u64,
        bytes: &mut [u8],
    ) -> Result<usize, Errno> {
        let Opened::Proc { file, text, .. } = &self.vfs.file(id).opened else {
            return Err(Errno::EINVAL);
        };
        if at == 0 || text.is_none() {
            let made = self.proc_text(&file.clone()).ok_or(Errno::EIO)?;
            if let Opened::Proc { text, .. } = &mut self.vfs.file_mut(id).opened {
                *text = Some(made);
            }
        }
        let Opened::Proc { text: Some(text), .. } = &self.vfs.file(id).opened else { return Ok(0) };
        let rest = usize::try_from(at).ok().and_then(|at| text.get(at..)).unwrap_or(&[]);
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn proc_text(&self, file: &ProcFile) -> Option<Vec<u8>> {
        match file {
            ProcFile::Task(name) => task_file(self, name),
            ProcFile::System(name) => system_file(self, name),
            ProcFile::Setting(path) => system_file(self, &["sys/", path].concat()),
            ProcFile::DescriptorInfo(number) => {
                let id = self.files.get((*number).into()).ok()?;
                let file = self.vfs.file(id);
                let inode = self.vfs.stat_file(id).map_or(0, |stat| stat.inode);
                let (offset, status) = (file.offset, file.status);
                Some(
                    format!("pos:\t{offset}\nflags:\t0{status:o}\nmnt_id:\t1\nino:\t{inode}\n")
                        .into(),
                )
            }
        }
    }

    /// Writes to a file of `/proc`: the task's name, and settings that change nothing here.
    ///
    /// # Errors
    /// `EINVAL` for a value that does not fit, and for all other files.
    pub(crate) fn write_proc(&mut self, id: FileId, bytes: &[u8]) -> Result<usize, Errno> {
        const NAME_BYTES: usize = 15;
        let Opened::Proc { file, .. } = &self.vfs.file(id).opened else {
            return Err(Errno::EINVAL);
        };
        match file {
            ProcFile::Task("comm") => {
                let end = bytes.iter().position(|&b| b == 0 || b == b'\n').unwrap_or(bytes.len());
                self.task.name = bytes[..end.min(NAME_BYTES)].to_vec();
                Ok(bytes.len())
            }
            ProcFile::Task("oom_score_adj" | "oom_adj") => {
                let value =
                    std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
                match value {
                    Some(-1000..=1000_i32) => Ok(bytes.len()),
                    _ => Err(Errno::EINVAL),
                }
            }
            ProcFile::Task("loginuid") => Ok(bytes.len()),
            _ => Err(Errno::EINVAL),
        }
    }
}
