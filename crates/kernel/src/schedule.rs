//! Which task runs: turns, the context switch, and what happens when all wait.
//!
//! Does not: use the host's threads or clock. Turns go round by virtual time. Sleeping and waking
//! are in `wait.rs`.
//!
//! Invariants
//! 1. `ready` holds each task that is [`State::Ready`], but not the running one, once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use machine::{Event, VirtAddr};
use mm::Mm;

use crate::Kernel;
use crate::fs::{FdTable, FsContext, Stream};
use crate::load::LoadAverage;
use crate::process::Process;
use crate::shelf::{PartKey, Shelf};
use crate::task::{PID, State, Task};
use crate::wait::Channel;

/// How long a task runs while others are ready, virtual nanoseconds.
///
/// # Source
/// Linux 6.12 `kernel/sched/fair.c:sysctl_sched_base_slice` on one CPU.
const SLICE_NS: u64 = 700_000;

/// All tasks but the running one, and the order of their turns.
#[derive(Default)]
pub struct Tasks {
    pub(crate) tasks: BTreeMap<u32, Task>,
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) mms: Shelf<Mm>,
    pub(crate) files: Shelf<FdTable>,
    pub(crate) fs: Shelf<FsContext>,
    ready: VecDeque<u32>,
    pub(crate) waiters: BTreeMap<Channel, VecDeque<u32>>,
    pub(crate) deadlines: BTreeSet<(u64, u32)>,
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
        self.switch_tls();
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

    /// Fires timers and ends waits whose time has come. Returns the virtual time after that, in
    /// nanoseconds.
    pub(crate) fn expire(&mut self) -> u64 {
        let mut now_ns = self.hw.now_ns();
        self.expire_timers(now_ns);
        self.vfs.expire_timers(now_ns);
        self.wake_for_files();
        if now_ns >= self.write_back_ns {
            self.store_old(now_ns);
            now_ns = self.hw.now_ns();
        }
        self.tasks.load.advance(now_ns, self.tasks.runnable_count(&self.task));
        while let Some(&(deadline, tid)) = self.tasks.deadlines.first() {
            if deadline > now_ns {
                break;
            }
            self.tasks.deadlines.remove(&(deadline, tid));
            self.wake_task(tid);
        }
        now_ns
    }

    /// The virtual time at which the run is ended: what it waited for the host is taken from it.
    /// `u64::MAX`: never.
    pub(crate) fn time_limit_ns(&self) -> u64 {
        match self.end_ns {
            u64::MAX => u64::MAX,
            end_ns => end_ns.saturating_sub(self.patience.waited_ns()),
        }
    }

    /// Lets time pass, or waits on the host, because no task can run. What can never end, ends the
    /// run: [`Outcome::Stuck`].
    pub(crate) fn idle(&mut self) {
        self.charge_cpu();
        let deadline = self.tasks.deadlines.first().map(|first| first.0);
        let alarm = self.tasks.alarms.first().map(|first| first.0);
        let end = Some(self.time_limit_ns()).filter(|&end| end != u64::MAX);
        let streams: Vec<(Stream, u16)> =
            self.tasks.waiters.keys().filter_map(Channel::stream).collect();
        let timer = self.vfs.first_timer_ns();
        let next = deadline.into_iter().chain(alarm).chain(timer).min();
        let is_stuck = next.is_none() && streams.is_empty();
        let next = next.into_iter().chain(end.filter(|_| !is_stuck)).min();
        if !streams.is_empty() {
            let pause = next.map(|next| next.saturating_sub(self.hw.now_ns()));
            let ready = self.patience.wait(&streams, pause);
            for &(stream, events) in &ready {
                self.wake(Channel::Stream(stream, events));
            }
            if !ready.is_empty() || self.patience.take_woken() {
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

/// Puts the running task's part back and takes that of the next one.
fn exchange<T>(shelf: &mut Shelf<T>, held: &mut T, old: PartKey, new: PartKey) {
    if old == new {
        return;
    }
    if let Some(part) = shelf.take(new) {
        shelf.put(old, std::mem::replace(held, part));
    }
}
