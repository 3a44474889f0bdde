//! `execve` and `execveat`: another program in the place of the running one.
//!
//! # Source
//! Linux 6.12 `fs/exec.c`.

use machine::VirtAddr;

use super::{Frame, Image, LoadError, Loader, first_registers, log_exec, personality, program};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{Credentials, View};
use crate::process::memory_limits;
use crate::roster::Roster;
use crate::signal::AltStack;
use crate::stack_init::Strings;
use crate::task::task_name;

pub(crate) fn sys_execve(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [path, arguments, environment, ..] = args;
    let path = kernel.read_user_path(path)?;
    execve_at(kernel, path, arguments, environment)
}

pub(crate) fn sys_execveat(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [dirfd, path, arguments, environment, flags, _] = args;
    let path = kernel.path_of_program(dirfd, path, flags)?;
    execve_at(kernel, path, arguments, environment)
}

/// The program at `path` in the place of the running one, with the strings that the vectors at
/// `arguments` and `environment` point to.
///
/// # Errors
/// `EFAULT`, `E2BIG`, and those of [`Kernel::execve`]; the task is as before.
fn execve_at(kernel: &mut Kernel, path: Vec<u8>, arguments: u64, environment: u64) -> SysResult {
    let mut strings = Strings {
        args: kernel.read_user_strings(arguments)?,
        env: kernel.read_user_strings(environment)?,
        path,
    };
    if strings.args.is_empty() {
        strings.args.push(Vec::new());
    }
    kernel.execve(strings)?;
    Ok(0)
}

impl Kernel {
    /// Replaces the program of the task.
    ///
    /// # Errors
    /// Those of `execve`; the task is as before. Past the point of no return the task ends instead.
    fn execve(&mut self, strings: Strings) -> Result<(), Errno> {
        let stack_bytes = self.mm.limits.stack_bytes;
        let path = strings.path.clone();
        let Self { vfs, memory, hw, task, process, mm, files, fs, tasks: others, kind, .. } = self;
        let view = View::of(Roster { task, process, mm, files, fs, others });
        let prepared = program::prepare(vfs, (memory, hw, *kind), &view, strings, stack_bytes)?;
        let Credentials { uid, gid, .. } = self.fs.credentials;
        let limits = memory_limits(&self.process.limits, uid);
        let id = self.tasks.take_mm();
        let personality = self.task.personality;
        let frame = Frame { id, asid: self.asids.of(id), limits, uid, gid, personality };
        let Self { memory, hw, random, special, kind, .. } = self;
        let mut loader = Loader::new(memory, hw, random, special, *kind);
        match loader.load(&prepared, frame) {
            Ok(image) => self.enter_image(image),
            Err(error) => {
                self.asids.forget(id, &mut self.hw);
                self.activate();
                return match error {
                    LoadError::Refused(errno) => Err(errno),
                    LoadError::Fatal(outcome) => {
                        self.exit_process(outcome);
                        Ok(())
                    }
                };
            }
        }
        self.unshare_files();
        self.close_on_exec();
        self.fs.exe = prepared.main.path;
        self.task.name = task_name(&path);
        Ok(())
    }

    /// The point of no return: other threads end, the old address space goes, the new one runs.
    fn enter_image(&mut self, image: Image) {
        // What the dead left in their memory is still in the old space.
        self.activate();
        for tid in self.process.threads.clone() {
            if tid != self.task.tid {
                self.discard_thread(tid);
            }
        }
        self.leave_memory_to_others();
        self.take_over_leader();
        log_exec(&mut self.hw, self.task.tid, &image);
        let regs = first_registers(&image, self.gdt_at_boot());
        let implies_execute = image.implies_execute;
        let old_key = self.task.parts.mm;
        self.process.account.exec_count += 1;
        if self.tasks.mms.release(old_key) {
            self.account_for_mm();
            self.end_mm();
            self.mm = image.mm;
        } else {
            let old = std::mem::replace(&mut self.mm, image.mm);
            self.tasks.mms.put(old_key, old);
        }
        self.task.parts.mm = self.tasks.mms.reserve();
        self.activate();
        self.task.regs = regs;
        self.process.actions.reset_for_exec();
        self.process.actions_shared = None;
        self.process.settings.barriers = 0;
        self.drop_created_timers();
        self.process.has_executed = true;
        self.task.signals.alt_stack = AltStack::NONE;
        self.task.rseq = None;
        self.task.robust_list_i386 = 0;
        self.task.tls = [0; crate::compat::segments::COUNT];
        self.task.personality = personality(self.task.personality, implies_execute);
    }

    /// The path of the program that `execveat` names.
    fn path_of_program(&mut self, dirfd: u64, path: u64, flags: u64) -> Result<Vec<u8>, Errno> {
        const AT_FDCWD: u64 = 0xffff_ff9c;
        const AT_EMPTY_PATH: u64 = 0x1000;
        const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
        if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
            return Err(Errno::EINVAL);
        }
        let path = self.read_user_path(path)?;
        if path.starts_with(b"/") || dirfd & 0xffff_ffff == AT_FDCWD {
            return Ok(path);
        }
        let from = self.vfs.path_of(self.files.get(dirfd)?);
        match (path.is_empty(), flags & AT_EMPTY_PATH != 0) {
            (true, true) => Ok(from),
            (true, false) => Err(Errno::ENOENT),
            (false, _) => Ok([from, b"/".to_vec(), path].concat()),
        }
    }

    /// Reads an array of pointers to strings, as the call has them, that ends with a null pointer.
    fn read_user_strings(&mut self, addr: u64) -> Result<Vec<Vec<u8>>, Errno> {
        let abi = self.task.call_abi;
        let mut strings = Vec::new();
        let mut bytes = 0;
        if addr == 0 {
            return Ok(strings);
        }
        loop {
            let slot = VirtAddr::new(addr.wrapping_add(strings.len() as u64 * abi.word_bytes()));
            let pointer = self.read_user_word(slot, abi)?;
            if pointer == 0 {
                return Ok(strings);
            }
            let text = self.read_user_string(VirtAddr::new(pointer), 128 << 10);
            let text = text.map_err(|errno| match errno {
                Errno::ENAMETOOLONG => Errno::E2BIG,
                other => other,
            })?;
            bytes += text.len() + 1 + abi.word_bytes() as usize;
            if bytes > 8 << 20 {
                return Err(Errno::E2BIG);
            }
            strings.push(text);
        }
    }
}
