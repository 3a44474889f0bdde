//! New tasks: `fork`, `vfork`, `clone`, `clone3`.
//!
//! # Source
//! Linux 6.12 `kernel/fork.c:copy_process`; semantics FORK-1 to FORK-6.

use std::collections::BTreeSet;

use cpu::{Registers, SegmentName};
use machine::{Event, VirtAddr};

use crate::Kernel;
use crate::compat::segments;
use crate::errno::{Errno, SysResult};
use crate::fs::{FdTable, flag as file_flag};
use crate::ledger::Account;
use crate::process::{IoCounts, Life, Process, Settings, Usage};
use crate::shelf::PartKey;
use crate::signal::number::SIGCHLD;
use crate::signal::{AltStack, Pending, Signals};
use crate::syscall::ldt::table_of;
use crate::syscall::time::Timers;
use crate::task::{Parts, State, Task};
use crate::wait::{Channel, Interrupted};

/// Flags of `clone`.
mod flag {
    pub(super) const SIGNAL: u64 = 0xff;
    pub(super) const VM: u64 = 0x100;
    pub(super) const FS: u64 = 0x200;
    pub(super) const FILES: u64 = 0x400;
    pub(super) const SIGHAND: u64 = 0x800;
    pub(super) const PIDFD: u64 = 0x1000;
    pub(super) const VFORK: u64 = 0x4000;
    pub(super) const PARENT: u64 = 0x8000;
    pub(super) const THREAD: u64 = 0x1_0000;
    pub(super) const NEWNS: u64 = 0x2_0000;
    pub(super) const DETACHED: u64 = 0x40_0000;
    pub(super) const SETTLS: u64 = 0x8_0000;
    pub(super) const PARENT_SETTID: u64 = 0x10_0000;
    pub(super) const CHILD_CLEARTID: u64 = 0x20_0000;
    pub(super) const CHILD_SETTID: u64 = 0x100_0000;
    /// Namespaces other than that of mounts.
    pub(super) const NAMESPACES: u64 = 0x7e02_0080;
    pub(super) const CLEAR_SIGHAND: u64 = 1 << 32;
    pub(super) const INTO_CGROUP: u64 = 1 << 33;
}

/// What a new task shall be.
#[derive(Clone, Copy, Default, Debug)]
struct Request {
    flags: u64,
    exit_signal: u8,
    stack_pointer: u64,
    parent_tid: u64,
    child_tid: u64,
    thread_pointer: u64,
    /// Where the descriptor of the child goes.
    pidfd: u64,
}

pub(crate) fn sys_fork(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    kernel.clone_task(&Request { exit_signal: SIGCHLD, ..Request::default() })
}

pub(crate) fn sys_vfork(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    let flags = flag::VM | flag::VFORK;
    kernel.clone_task(&Request { flags, exit_signal: SIGCHLD, ..Request::default() })
}

pub(crate) fn sys_clone(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [flags, stack_pointer, parent_tid, child_tid, thread_pointer, _] = args;
    let flags = flags & 0xffff_ffff;
    kernel.clone_task(&Request {
        flags: flags & !flag::SIGNAL,
        exit_signal: (flags & flag::SIGNAL) as u8,
        stack_pointer,
        parent_tid,
        child_tid,
        thread_pointer,
        pidfd: parent_tid,
    })
}

/// Least and most bytes of `struct clone_args`.
const ARGS_BYTES_MIN: u64 = 64;
const ARGS_BYTES_MAX: u64 = 4096;
const ARGS_BYTES_KNOWN: usize = 88;

pub(crate) fn sys_clone3(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [addr, bytes, ..] = args;
    if bytes > ARGS_BYTES_MAX {
        return Err(Errno::E2BIG);
    }
    if bytes < ARGS_BYTES_MIN {
        return Err(Errno::EINVAL);
    }
    let mut block = vec![0; usize::try_from(bytes).unwrap_or(0).max(ARGS_BYTES_KNOWN)];
    let given = usize::try_from(bytes).unwrap_or(0);
    kernel.read_user(VirtAddr::new(addr), &mut block[..given])?;
    if block[ARGS_BYTES_KNOWN..].iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    let words: Vec<u64> = block[..ARGS_BYTES_KNOWN]
        .chunks_exact(8)
        .map(|word| word.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
        .collect();
    let &[flags, fd, child_tid, parent_tid, signal, stack, stack_bytes, tls, tids, tid_count, _] =
        words.as_slice()
    else {
        return Err(Errno::EINVAL);
    };
    let has_both = (stack == 0) == (stack_bytes == 0);
    let is_threaded = flags & (flag::THREAD | flag::PARENT) != 0 && signal != 0;
    let is_unknown = flags & (flag::INTO_CGROUP | flag::SIGNAL) != 0 || flags >> 34 != 0;
    if !has_both || is_threaded || is_unknown || signal > 64 || tids != 0 || tid_count != 0 {
        return Err(Errno::EINVAL);
    }
    if stack != 0 && kernel.check_user_range(stack, stack_bytes).is_err() {
        return Err(Errno::EINVAL);
    }
    kernel.clone_task(&Request {
        flags,
        exit_signal: signal as u8,
        stack_pointer: stack.wrapping_add(stack_bytes),
        parent_tid,
        child_tid,
        thread_pointer: tls,
        pidfd: fd,
    })
}

/// Whether flags go together.
fn check(request: &Request) -> Result<(), Errno> {
    let flags = request.flags;
    let needs = |what: u64, other: u64| flags & what != 0 && flags & other == 0;
    let clashes = flags & flag::SIGHAND != 0 && flags & flag::CLEAR_SIGHAND != 0;
    if needs(flag::THREAD, flag::SIGHAND) || needs(flag::SIGHAND, flag::VM) || clashes {
        return Err(Errno::EINVAL);
    }
    if flags & flag::FS != 0 && flags & flag::NEWNS != 0 {
        return Err(Errno::EINVAL);
    }
    let is_one_place = flags & flag::PARENT_SETTID != 0 && request.pidfd == request.parent_tid;
    if flags & flag::PIDFD != 0 && (flags & flag::DETACHED != 0 || is_one_place) {
        return Err(Errno::EINVAL);
    }
    // Differs from Linux: there is one set of namespaces, also for root.
    if flags & (flag::NAMESPACES | flag::NEWNS) != 0 { Err(Errno::EPERM) } else { Ok(()) }
}

impl Kernel {
    fn clone_task(&mut self, request: &Request) -> SysResult {
        if let Some(child) = self.task.wait.as_ref().map(|wait| wait.progress) {
            return self.wait_for_vfork(child);
        }
        check(request)?;
        self.check_task_limits(request.flags & flag::THREAD != 0)?;
        let tls = match request.flags & flag::SETTLS != 0 && self.is_in_i386_call() {
            true => Some(self.tls_of_thread(request.thread_pointer)?),
            false => None,
        };
        let tid = self.tasks.take_pid();
        let pidfd = self.install_pidfd(request, tid)?;
        let parts = match self.clone_memory(request.flags, tid) {
            Ok(parts) => parts,
            Err(errno) => {
                self.take_pidfd_back(pidfd);
                return Err(errno);
            }
        };
        let is_thread = request.flags & flag::THREAD != 0;
        let pid = if is_thread { self.task.pid } else { tid };
        if is_thread {
            self.process.threads.insert(tid);
            self.process.account.thread_count += 1;
        } else {
            let process = self.clone_process(pid, request);
            self.tasks.processes.insert(pid, process);
        }
        if request.flags & flag::PARENT_SETTID != 0 {
            // As in Linux, a pointer that cannot be written changes nothing.
            let _ = self.write_user_u32(VirtAddr::new(request.parent_tid), tid);
        }
        let child = self.new_task(request, tid, pid, parts, tls);
        let mm = self.tasks.mms.get(parts.mm).map_or(self.mm.id.0, |mm| mm.id.0);
        let event = Event::Clone { parent: self.task.tid, child: tid, mm };
        self.hw.log.push(self.hw.time(), event);
        self.tasks.start(child);
        self.tasks.fork_count += 1;
        if request.flags & flag::VFORK != 0 {
            return self.wait_for_vfork(tid.into());
        }
        Ok(tid.into())
    }

    /// Gives the running task a descriptor of the process to come, if it asks for one.
    ///
    /// # Errors
    /// `EFAULT`: its number cannot be told. `EMFILE`, `ENFILE`. Nothing is left open.
    fn install_pidfd(&mut self, request: &Request, pid: u32) -> Result<Option<u64>, Errno> {
        if request.flags & flag::PIDFD == 0 {
            return Ok(None);
        }
        let is_thread = request.flags & flag::THREAD != 0;
        let fd = self.open_pidfd(pid, if is_thread { file_flag::THREAD } else { 0 })?;
        let number = (fd & 0xffff_ffff) as u32;
        if let Err(errno) = self.write_user_u32(VirtAddr::new(request.pidfd), number) {
            self.take_pidfd_back(Some(fd));
            return Err(errno);
        }
        Ok(Some(fd))
    }

    fn take_pidfd_back(&mut self, fd: Option<u64>) {
        if let Some(file) = fd.and_then(|fd| self.files.take(fd).ok()) {
            self.vfs.release(file);
        }
    }

    /// Sleeps until the child has an address space of its own or is gone.
    fn wait_for_vfork(&mut self, child: u64) -> SysResult {
        let own = self.task.tid;
        let tid = (child & 0xffff_ffff) as u32;
        let waits = |task: &Task| task.vfork_parent == Some(own);
        if self.task_of(tid).is_some_and(waits) {
            let errno = self.block(&[Channel::Vfork(tid)], None, Interrupted::Never);
            if let Some(wait) = self.task.wait.as_mut() {
                wait.progress = child;
            }
            return Err(errno);
        }
        Ok(child)
    }

    /// Refuses more processes or threads than allowed.
    fn check_task_limits(&self, is_thread: bool) -> Result<(), Errno> {
        let limits = &self.task_limits;
        let task_count = self.tasks.tasks.len() as u64 + 1;
        let process_count = self.tasks.processes.len() as u64 + 1;
        let is_crowded = if is_thread {
            task_count >= limits.threads_max
        } else {
            process_count >= limits.processes_max
        };
        // The limit of the user counts threads and zombies; all tasks are of one user.
        let is_over = task_count.max(process_count) >= self.process.processes_max();
        if is_crowded || is_over { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// The memory of the new task `tid`: a stack in the kernel, and its parts.
    ///
    /// # Errors
    /// `ENOMEM`: there is no RAM for one of them; nothing is kept.
    fn clone_memory(&mut self, flags: u64, tid: u32) -> Result<Parts, Errno> {
        let Self { objects, memory, hw, .. } = self;
        objects.add_task(tid, memory, hw)?;
        self.clone_parts(flags).inspect_err(|_| {
            self.objects.end_task(tid, &mut self.memory, &mut self.hw);
        })
    }

    fn clone_parts(&mut self, flags: u64) -> Result<Parts, Errno> {
        let own = self.task.parts;
        let mm = if flags & flag::VM != 0 {
            self.tasks.mms.retain(own.mm);
            own.mm
        } else {
            let id = self.tasks.take_mm();
            let (memory, hw) = (&mut self.memory, &mut self.hw);
            let mut child = mm::ops::fork(&mut self.mm, id, memory, hw)?;
            if let Err(error) = child.copy_descriptors(&self.mm, memory, hw) {
                child.exit(memory, hw);
                return Err(error.into());
            }
            self.account_for_fork(&child);
            self.tasks.mms.add(child)
        };
        let files = if flags & flag::FILES != 0 {
            self.tasks.files.retain(own.files);
            own.files
        } else {
            let copy = self.copy_files();
            self.tasks.files.add(copy)
        };
        let fs = if flags & flag::FS != 0 {
            self.tasks.fs.retain(own.fs);
            own.fs
        } else {
            self.vfs.hold(self.fs.cwd);
            self.tasks.fs.add(self.fs.clone())
        };
        Ok(Parts { mm, files, fs })
    }

    fn copy_files(&mut self) -> FdTable {
        self.files.copy(&mut self.vfs)
    }

    /// Gives the running task a table of open files of its own.
    pub(crate) fn unshare_files(&mut self) {
        let old = self.task.parts.files;
        if self.tasks.files.user_count(old) < 2 {
            return;
        }
        let copy = self.copy_files();
        let key: PartKey = self.tasks.files.reserve();
        let shared = std::mem::replace(&mut self.files, copy);
        self.tasks.files.release(old);
        self.tasks.files.put(old, shared);
        self.task.parts.files = key;
    }

    fn clone_process(&mut self, pid: u32, request: &Request) -> Process {
        if request.flags & flag::SIGHAND != 0 {
            let table = self.process.pid;
            self.process.actions_shared.get_or_insert(table);
        }
        let own = &self.process;
        let is_sibling = request.flags & flag::PARENT != 0;
        let mut actions = own.actions.clone();
        if request.flags & flag::CLEAR_SIGHAND != 0 {
            actions.reset_for_exec();
        }
        Process {
            pid,
            parent: if is_sibling { own.parent } else { own.pid },
            parent_thread: if is_sibling { own.parent_thread } else { self.task.tid },
            threads: BTreeSet::from([pid]),
            actions,
            actions_shared: own.actions_shared.filter(|_| request.flags & flag::SIGHAND != 0),
            pending: Pending::default(),
            timers: Timers::default(),
            settings: Settings { parent_death_signal: 0, subreaper: 0, ..own.settings },
            exit_signal: if is_sibling { own.exit_signal } else { request.exit_signal },
            exit: None,
            io: IoCounts::default(),
            life: Life::Alive,
            start_ns: self.hw.now_ns(),
            usage: Usage::default(),
            usage_of_children: Usage::default(),
            account: Account { thread_count: 1, ..Account::default() },
            has_executed: false,
            ..own.clone()
        }
    }

    fn new_task(
        &self,
        request: &Request,
        tid: u32,
        pid: u32,
        parts: Parts,
        tls: Option<[u64; segments::COUNT]>,
    ) -> Task {
        let own = &self.task;
        let flags = request.flags;
        let mut regs = own.regs.clone();
        regs.ldt = self.tasks.mms.get(parts.mm).map_or(regs.ldt, table_of);
        regs.gpr[Registers::RAX] = 0;
        if request.stack_pointer != 0 {
            regs.gpr[Registers::RSP] = request.stack_pointer;
        }
        if flags & flag::SETTLS != 0 && tls.is_none() {
            regs.set_base(SegmentName::Fs, request.thread_pointer);
        }
        let keeps_stack = flags & flag::VM == 0 || flags & flag::VFORK != 0;
        let alt_stack = if keeps_stack { own.signals.alt_stack } else { AltStack::NONE };
        let child_tid = VirtAddr::new(request.child_tid);
        let when = |bit: u64| if flags & bit != 0 { child_tid } else { VirtAddr::default() };
        Task {
            tid,
            pid,
            state: State::Ready,
            wait: None,
            regs,
            parts,
            signals: Signals { mask: own.signals.mask, alt_stack, ..Signals::default() },
            name: own.name.clone(),
            set_tid: when(flag::CHILD_SETTID),
            clear_tid: when(flag::CHILD_CLEARTID),
            robust_list: 0,
            robust_list_i386: 0,
            tls: tls.unwrap_or(own.tls),
            call_abi: own.call_abi,
            rseq: own.rseq.filter(|_| flags & flag::VM == 0),
            personality: own.personality,
            vfork_parent: (flags & flag::VFORK != 0).then_some(own.tid),
            cpu_ns: 0,
            start_ns: self.hw.now_ns(),
            switches_voluntary: 0,
            switches_forced: 0,
            exit: None,
        }
    }
}
