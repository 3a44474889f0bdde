//! Sleeping and waking: what a task waits for, and who wakes it.
//!
//! A system call that cannot go on calls [`Kernel::block`] and returns the error it got. The task
//! then sleeps with its registers untouched, and when it is woken the call is simply done again: it
//! finds what it left in [`Wait`]. A task may be woken in vain; only who is woken by a futex is
//! told so.
//!
//! Invariants
//! 1. A task is in the queues of `waiters` and in `deadlines` exactly while it is blocked.

use std::collections::VecDeque;

use crate::Kernel;
use crate::errno::Errno;
use crate::fs::{FileId, News, NodeId, SocketId, Stream};
use crate::schedule::Tasks;
use crate::syscall::futex::FutexKey;
use crate::task::State;

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
    /// Where it was woken by name.
    pub(crate) woken_at: Option<Channel>,
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

impl Channel {
    pub(crate) fn stream(&self) -> Option<(Stream, u16)> {
        match self {
            Self::Stream(stream, events) => Some((*stream, *events)),
            _ => None,
        }
    }
}

impl Tasks {
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
        wait.woken_at = None;
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

    /// Lets a blocked task go on with its call; others are left as they are.
    pub(crate) fn wake_task(&mut self, tid: u32) {
        let Some(task) = self.task_mut(tid) else { return };
        if task.state != State::Blocked {
            return;
        }
        task.state = State::Ready;
        let wait = task.wait.take().unwrap_or_default();
        self.tasks.unqueue(tid, &wait);
        if let Some(task) = self.task_mut(tid) {
            task.wait = Some(wait);
        }
        self.ready_again(tid);
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
            self.wake_by_name(tid, channel);
            count += 1;
        }
        count
    }

    /// Wakes a task that waits for `channel`, and tells it so.
    pub(crate) fn wake_by_name(&mut self, tid: u32, channel: Channel) {
        self.wake_task(tid);
        if let Some(wait) = self.task_mut(tid).and_then(|task| task.wait.as_mut()) {
            wait.is_woken = true;
            wait.woken_at = Some(channel);
        }
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
                // One that waits for several keeps the others.
                for channel in wait.channels.iter_mut().filter(|channel| **channel == from) {
                    *channel = to;
                }
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
}
