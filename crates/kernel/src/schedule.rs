//! Which task runs: turns, waiting, waking, and what happens when all wait.
//!
//! A system call that cannot go on calls [`Kernel::block`] and returns the error it got. The task
//! then sleeps with its registers untouched, and when it is woken the call is simply done again: it
//! finds what it left in [`Wait`]. A task may be woken in vain; only who is woken by a futex is
//! told so.
//!
//! Does not: use the host's threads or clock. Turns go round by virtual time.
//!
//! Invariants
//! 1. `ready` holds each task that is [`State::Ready`], but not the running one, once.
//! 2. A task is in the queues of `waiters` and in `deadlines` exactly while it is blocked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use machine::{Event, VirtAddr};
use mm::Mm;

use crate::Kernel;
use crate::errno::Errno;
use crate::fs::{FdTable, FileId, FsContext, News, NodeId, SocketId, Stream};
use crate::load::LoadAverage;
use crate::process::Process;
use crate::shelf::{PartKey, Shelf};
use crate::syscall::futex::FutexKey;
use crate::task::{PID, State, Task};

/// How long a task runs while others are ready, virtual nanoseconds.
///
/// # Source
/// Linux 6.12 `kernel/sched/fair.c:sysctl_sched_base_slice` on one CPU.
const SLICE_NS: u64 = 700_000;

/// What a task can wait for, besides time and signals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Channel {
    /// A pipe or FIFO changes.
    Node(NodeId),
    /// An open file without an inode changes.
    File(FileId),
    /// A socket changes.
    Socket(SocketId),
    /// A pseudo-terminal changes.
    Terminal(u32),
    /// A process, or a thread of it, gets a signal.
    Signals(u32),
    /// A process ends.
    Process(u32),
    /// A set of semaphores changes.
    Semaphores(u32),
    /// A message queue changes.
    Messages(u32),
    /// A stream of the host becomes ready for these poll events.
    Stream(Stream, u16),
    /// A futex is woken.
    Futex(FutexKey),
    /// A child of the process ends, stops or goes on.
    Children(u32),
    /// The child of a `vfork` lets its parent go on.
    Vfork(u32),
}

/// What a blocked system call left for when it is done again.
#[derive(Clone, Default, Debug)]
pub struct Wait {
    channels: Vec<Channel>,
    /// When it gives up, in nanoseconds of [`machine::Machine::now_ns`].
    pub(crate) deadline_ns: Option<u64>,
    /// Whether somebody woke it by name: see [`Kernel::wake_count`].
    pub(crate) is_woken: bool,
    /// What is done already: the call's own number.
    pub(crate) progress: u64,
    /// A file that the call has opened already.
    pub(crate) file: Option<FileId>,
}

impl Wait {
    /// What it waits for.
    pub(crate) fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// Whether it waits for the child of a `vfork`.
    pub(crate) fn is_for_vfork(&self) -> bool {
        self.channels.iter().any(|channel| matches!(channel, Channel::Vfork(_)))
    }

    /// The function of Linux that a task sleeps in which waits for the same; `None` if it does not.
    pub(crate) fn place(&self) -> Option<&'static str> {
        match self.channels.first() {
            Some(Channel::Node(_)) => Some("pipe_read"),
            Some(Channel::File(_)) => Some("ep_poll"),
            Some(Channel::Socket(_)) => Some("skb_wait_for_more_packets"),
            Some(Channel::Stream(..) | Channel::Terminal(_)) => Some("wait_woken"),
            Some(Channel::Futex(_)) => Some("futex_wait_queue"),
            Some(Channel::Children(_)) => Some("do_wait"),
            Some(Channel::Signals(_)) => Some("signalfd_read_iter"),
            Some(Channel::Process(_)) => Some("pidfd_poll"),
            Some(Channel::Semaphores(_)) => Some("do_semtimedop"),
            Some(Channel::Messages(_)) => Some("do_msgrcv"),
            Some(Channel::Vfork(_)) => Some("kernel_clone"),
            None => self.deadline_ns.map(|_| "hrtimer_nanosleep"),
        }
    }
}

/// How a signal ends a call that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interrupted {
    /// It is done again if the handler has `SA_RESTART`.
    Restarts,
    /// It is done again behind any handler.
    Always,
    /// It returns `EINTR` if there is a handler.
    Ends,
    /// Not at all; only what ends the task does.
    Never,
}

/// All tasks but the running one, and the order of their turns.
#[derive(Default)]
pub struct Tasks {
    pub(crate) tasks: BTreeMap<u32, Task>,
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) mms: Shelf<Mm>,
    pub(crate) files: Shelf<FdTable>,
    pub(crate) fs: Shelf<FsContext>,
    ready: VecDeque<u32>,
    waiters: BTreeMap<Channel, VecDeque<u32>>,
    deadlines: BTreeSet<(u64, u32)>,
    /// Timers of processes: when, whose, and which of `timer_create`; `None` is `ITIMER_REAL`.
    pub(crate) alarms: BTreeSet<(u64, u32, Option<u32>)>,
    /// Since when the running task has the CPU.
    pub(crate) on_cpu_since_ns: u64,
    turn_since_ns: u64,
    /// Whether the running task gave its turn up.
    is_turn_over: bool,
    next_pid: u32,
    last_mm: u32,
    /// Changes from one task to another.
    pub(crate) switch_count: u64,
    /// Tasks made by `clone` and its like.
    pub(crate) fork_count: u64,
    /// Virtual nanoseconds in which no task could run.
    pub(crate) idle_ns: u64,
    /// How many tasks wanted to run, averaged.
    pub(crate) load: LoadAverage,
}

impl Tasks {
    /// A number that no task, group or session has.
    pub(crate) fn take_pid(&mut self) -> u32 {
        const PID_MAX: u32 = 4_194_304;
        loop {
            self.next_pid = if self.next_pid >= PID_MAX - 1 { 300 } else { self.next_pid + 1 };
            let pid = self.next_pid.max(PID + 1);
            self.next_pid = pid;
            let is_used = self.tasks.contains_key(&pid)
                || self.processes.contains_key(&pid)
                || self.processes.values().any(|one| one.group == pid || one.session == pid);
            if !is_used {
                return pid;
            }
        }
    }

    /// The number that was given last.
    pub(crate) fn last_pid(&self) -> u32 {
        self.next_pid.max(PID)
    }

    /// A number for a new address space.
    pub(crate) fn take_mm(&mut self) -> mm::MmId {
        self.last_mm = self.last_mm.wrapping_add(1);
        mm::MmId(self.last_mm)
    }

    /// How many tasks want the CPU, `running` among them if it does.
    pub(crate) fn runnable_count(&self, running: &Task) -> u64 {
        self.ready.len() as u64 + u64::from(running.state == State::Ready)
    }

    /// Lays a new task down that is ready to run.
    pub(crate) fn start(&mut self, task: Task) {
        self.ready.push_back(task.tid);
        self.tasks.insert(task.tid, task);
    }

    /// Takes a task out of all queues that it waits in.
    fn unqueue(&mut self, tid: u32, wait: &Wait) {
        for channel in &wait.channels {
            if let Some(queue) = self.waiters.get_mut(channel) {
                queue.retain(|&other| other != tid);
                if queue.is_empty() {
                    self.waiters.remove(channel);
                }
            }
        }
        if let Some(deadline) = wait.deadline_ns {
            self.deadlines.remove(&(deadline, tid));
        }
    }
}

impl Kernel {
    /// The running task or another.
    pub(crate) fn task_mut(&mut self, tid: u32) -> Option<&mut Task> {
        if self.task.tid == tid {
            return (self.task.state != State::Dead).then_some(&mut self.task);
        }
        self.tasks.tasks.get_mut(&tid)
    }

    /// The process of the running task or another, also a zombie.
    pub(crate) fn process_mut(&mut self, pid: u32) -> Option<&mut Process> {
        if self.process.pid == pid {
            return self.roster().is_process_there().then_some(&mut self.process);
        }
        self.tasks.processes.get_mut(&pid)
    }

    /// Puts the running task to sleep in the middle of its system call, until `channels` or the
    /// time `deadline_ns` wake it.
    ///
    /// The call returns the error at once. It is either [`Errno::BLOCKED`], then the call will be
    /// done again, or one of the errors that mean a signal came first.
    pub(crate) fn block(
        &mut self,
        channels: &[Channel],
        deadline_ns: Option<u64>,
        interrupted: Interrupted,
    ) -> Errno {
        let is_heard = match interrupted {
            Interrupted::Never => self.has_fatal(),
            _ => self.has_deliverable(),
        };
        if is_heard || self.task.exit.is_some() {
            // If no handler runs, the call goes on with the same time limit.
            self.task.wait.get_or_insert_default().deadline_ns = deadline_ns;
            return match interrupted {
                Interrupted::Restarts => Errno::RESTART,
                Interrupted::Always => Errno::RESTART_ALWAYS,
                Interrupted::Ends | Interrupted::Never => Errno::RESTART_NO_HANDLER,
            };
        }
        let tid = self.task.tid;
        if !self.has_deliverable() {
            // Another thread took the signal that this one was chosen for.
            self.task.signals.is_notified = false;
        }
        let wait = self.task.wait.get_or_insert_default();
        wait.channels = channels.to_vec();
        wait.deadline_ns = deadline_ns;
        wait.is_woken = false;
        for &channel in channels {
            let queue = self.tasks.waiters.entry(channel).or_default();
            if !queue.contains(&tid) {
                queue.push_back(tid);
            }
        }
        if let Some(deadline) = deadline_ns {
            self.tasks.deadlines.insert((deadline, tid));
        }
        self.task.state = State::Blocked;
        Errno::BLOCKED
    }

    /// The deadline of a call that may wait `ns`: fixed when the call begins.
    pub(crate) fn deadline_after(&self, ns: Option<u64>) -> Option<u64> {
        match &self.task.wait {
            Some(wait) => wait.deadline_ns,
            None => ns.map(|ns| self.hw.now_ns().saturating_add(ns)),
        }
    }

    /// Whether a deadline is over.
    pub(crate) fn has_passed(&self, deadline_ns: Option<u64>) -> bool {
        deadline_ns.is_some_and(|deadline| deadline <= self.hw.now_ns())
    }

    /// Leaves a number for when the call that sleeps is done again.
    pub(crate) fn set_progress(&mut self, progress: u64) {
        if let Some(wait) = self.task.wait.as_mut() {
            wait.progress = progress;
        }
    }

    /// Whether no other task exists.
    pub(crate) fn is_alone(&self) -> bool {
        self.tasks.tasks.is_empty()
    }

    /// Lets a blocked task go on with its call; others are left as they are.
    pub(crate) fn wake_task(&mut self, tid: u32) {
        let Some(task) = self.task_mut(tid) else { return };
        if task.state != State::Blocked {
            return;
        }
        task.state = State::Ready;
        let wait = task.wait.take().unwrap_or_default();
        self.tasks.unqueue(tid, &wait);
        let is_running = self.task.tid == tid;
        if let Some(task) = self.task_mut(tid) {
            task.wait = Some(wait);
        }
        if !is_running {
            self.tasks.ready.push_back(tid);
        }
    }

    /// Wakes all that wait for `channel`.
    pub(crate) fn wake(&mut self, channel: Channel) {
        let Some(queue) = self.tasks.waiters.get(&channel) else { return };
        for tid in queue.clone() {
            self.wake_task(tid);
        }
    }

    /// Wakes at most `count_max` that wait for `channel` and pass `admits`, the longest waiting
    /// first, and tells them so. Returns how many.
    pub(crate) fn wake_count(
        &mut self,
        channel: Channel,
        count_max: u32,
        admits: impl Fn(&Wait) -> bool,
    ) -> u32 {
        let Some(queue) = self.tasks.waiters.get(&channel) else { return 0 };
        let mut count = 0;
        for tid in queue.clone() {
            if count >= count_max {
                break;
            }
            let Some(task) = self.task_mut(tid) else { continue };
            if !task.wait.as_ref().is_some_and(&admits) {
                continue;
            }
            self.wake_task(tid);
            if let Some(wait) = self.task_mut(tid).and_then(|task| task.wait.as_mut()) {
                wait.is_woken = true;
            }
            count += 1;
        }
        count
    }

    /// Moves at most `count_max` that wait for one channel to the queue of another.
    pub(crate) fn requeue(&mut self, from: Channel, to: Channel, count_max: u32) -> u32 {
        let mut count = 0;
        while count < count_max && from != to {
            let Some(queue) = self.tasks.waiters.get_mut(&from) else { break };
            let Some(tid) = queue.pop_front() else { break };
            if queue.is_empty() {
                self.tasks.waiters.remove(&from);
            }
            self.tasks.waiters.entry(to).or_default().push_back(tid);
            if let Some(wait) = self.task_mut(tid).and_then(|task| task.wait.as_mut()) {
                wait.channels = vec![to];
            }
            count += 1;
        }
        count
    }

    /// The task that waits for `channel` the longest.
    pub(crate) fn first_waiter(&self, channel: Channel) -> Option<u32> {
        self.tasks.waiters.get(&channel)?.front().copied()
    }

    /// How many tasks wait for `channel`.
    pub(crate) fn waiter_count(&self, channel: Channel) -> usize {
        self.tasks.waiters.get(&channel).map_or(0, VecDeque::len)
    }

    /// Takes a task that cannot run from the queue.
    pub(crate) fn unready(&mut self, tid: u32) {
        self.tasks.ready.retain(|&other| other != tid);
    }

    /// Puts a task that can run again into the queue.
    pub(crate) fn ready_again(&mut self, tid: u32) {
        if self.task.tid != tid {
            self.tasks.ready.push_back(tid);
        }
    }

    /// Wakes whoever waits for what the last system call changed in files.
    pub(crate) fn wake_for_files(&mut self) {
        for news in self.vfs.take_news() {
            let channel = match news {
                News::Node(node) => Channel::Node(node),
                News::File(file) => Channel::File(file),
                News::Socket(socket) => Channel::Socket(socket),
                News::Terminal(number) => Channel::Terminal(number),
                News::HungUp(session) => {
                    self.hang_up_session(session);
                    continue;
                }
            };
            self.wake(channel);
        }
    }

    /// Stops the turn of the running task: `sched_yield`.
    pub(crate) fn yield_turn(&mut self) {
        self.tasks.is_turn_over = true;
    }

    /// Gives the CPU to the task whose turn it is; false if none can run.
    pub(crate) fn pick_task(&mut self) -> bool {
        let is_ready = self.task.state == State::Ready;
        if is_ready && self.tasks.ready.is_empty() {
            return true;
        }
        let turn_ns = self.hw.now_ns().saturating_sub(self.tasks.turn_since_ns);
        if is_ready && turn_ns < SLICE_NS && !self.tasks.is_turn_over {
            return true;
        }
        let Some(next) = self.tasks.ready.pop_front() else { return is_ready };
        if is_ready {
            self.tasks.ready.push_back(self.task.tid);
            self.process.usage.switches_forced += 1;
            self.task.switches_forced += 1;
        } else {
            self.task.switches_voluntary += 1;
            self.process.usage.switches_voluntary += 1;
        }
        self.switch_to(next);
        true
    }

    /// Counts the time since the running task got the CPU as its own.
    pub(crate) fn charge_cpu(&mut self) {
        let now = self.hw.now_ns();
        let ran = now.saturating_sub(self.tasks.on_cpu_since_ns);
        self.task.cpu_ns = self.task.cpu_ns.saturating_add(ran);
        self.process.usage.cpu_ns = self.process.usage.cpu_ns.saturating_add(ran);
        self.tasks.on_cpu_since_ns = now;
    }

    /// The context switch: the parts of the running task go back, those of `tid` come.
    fn switch_to(&mut self, tid: u32) {
        let Some(next) = self.tasks.tasks.remove(&tid) else { return };
        self.charge_cpu();
        let before = std::mem::replace(&mut self.task, next);
        let (old, new) = (before.parts, self.task.parts);
        exchange(&mut self.tasks.mms, &mut self.mm, old.mm, new.mm);
        exchange(&mut self.tasks.files, &mut self.files, old.files, new.files);
        exchange(&mut self.tasks.fs, &mut self.fs, old.fs, new.fs);
        if self.process.pid != self.task.pid
            && let Some(process) = self.tasks.processes.remove(&self.task.pid)
        {
            let was_there = self.roster().is_process_there();
            let gone = std::mem::replace(&mut self.process, process);
            if was_there {
                self.tasks.processes.insert(gone.pid, gone);
            }
        }
        let event = Event::Switch { from: before.tid, to: self.task.tid, mm: self.mm.id.0 };
        self.hw.log.push(self.hw.time(), event);
        if before.state != State::Dead {
            self.tasks.tasks.insert(before.tid, before);
        }
        self.tasks.switch_count += 1;
        self.activate();
        self.tasks.turn_since_ns = self.hw.now_ns();
        self.tasks.is_turn_over = false;
        let set_tid = std::mem::take(&mut self.task.set_tid);
        if set_tid != VirtAddr::default() {
            // As in Linux, a pointer that cannot be written changes nothing.
            let _ = self.write_user_u32(set_tid, self.task.tid);
        }
        if self.task.wait.is_none() {
            self.abort_rseq();
        }
    }

    /// Loads the tables of the running task's address space into the machine.
    pub(crate) fn activate(&mut self) {
        let asid = self.asids.of(self.mm.id);
        if self.mm.take_stale() {
            // Entries changed while the space was not active.
            self.hw.flush_asid(asid);
        }
        self.hw.activate(self.mm.root(), asid);
    }

    /// Fires timers and ends waits whose time has come.
    pub(crate) fn expire(&mut self) {
        self.expire_timers();
        self.vfs.expire_timers(self.hw.now_ns());
        self.wake_for_files();
        self.tasks.load.advance(self.hw.now_ns(), self.tasks.runnable_count(&self.task));
        while let Some(&(deadline, tid)) = self.tasks.deadlines.first() {
            if deadline > self.hw.now_ns() {
                break;
            }
            self.tasks.deadlines.remove(&(deadline, tid));
            self.wake_task(tid);
        }
    }

    /// Lets time pass, or waits on the host, because no task can run. What can never end, ends the
    /// run: [`Outcome::Stuck`].
    pub(crate) fn idle(&mut self) {
        self.charge_cpu();
        let deadline = self.tasks.deadlines.first().map(|first| first.0);
        let alarm = self.tasks.alarms.first().map(|first| first.0);
        let end = (self.end_ns != u64::MAX).then_some(self.end_ns);
        let streams: Vec<(Stream, u16)> =
            self.tasks.waiters.keys().filter_map(Channel::stream).collect();
        let timer = self.vfs.first_timer_ns();
        let next = deadline.into_iter().chain(alarm).chain(timer).min();
        let is_stuck = next.is_none() && streams.is_empty();
        let next = next.into_iter().chain(end.filter(|_| !is_stuck)).min();
        if !streams.is_empty() {
            let pause = next.map(|next| next.saturating_sub(self.hw.now_ns()));
            let ready = crate::fs::wait_for_streams(&streams, pause);
            for &(stream, events) in &ready {
                self.wake(Channel::Stream(stream, events));
            }
            if !ready.is_empty() {
                return;
            }
        }
        match next {
            Some(next) => {
                // A timer in the past would not let time pass: at least one nanosecond does.
                let pause = next.saturating_sub(self.hw.now_ns()).max(1);
                self.hw.advance_ns(pause);
                self.tasks.idle_ns = self.tasks.idle_ns.saturating_add(pause);
                self.tasks.load.advance(self.hw.now_ns(), 0);
            }
            None => self.end_stuck(),
        }
        self.tasks.on_cpu_since_ns = self.hw.now_ns();
        self.expire();
    }
}

impl Channel {
    fn stream(&self) -> Option<(Stream, u16)> {
        match self {
            Self::Stream(stream, events) => Some((*stream, *events)),
            _ => None,
        }
    }
}

/// Puts the running task's part back and takes that of the next one.
fn exchange<T>(shelf: &mut Shelf<T>, held: &mut T, old: PartKey, new: PartKey) {
    if old == new {
        return;
    }
    if let Some(part) = shelf.take(new) {
        shelf.put(old, std::mem::replace(held, part));
    }
}
