//! Parents and children: who inherits the children of the dead, who is told of an end or a stop,
//! and when a process group is left alone.
//!
//! Does not: know a terminal; a session's end hangs nothing up.
//!
//! # Source
//! Linux 6.12 `kernel/exit.c`: `forget_original_parent`, `find_new_reaper`, `kill_orphaned_pgrp`;
//! `kernel/signal.c`: `do_notify_parent`, `do_notify_parent_cldstop`.

use crate::Kernel;
use crate::exit::child_info;
use crate::process::{Life, Process};
use crate::signal::number::{SIGCHLD, SIGCONT, SIGHUP};
use crate::signal::{SI_USER, SIGNAL_MAX, SigAction, SigDetail, SigInfo, flag};
use crate::task::{PARENT_PID, PID};
use crate::wait::Channel;

impl Kernel {
    /// The process that a number names: its own, or that of one of its threads.
    pub(crate) fn pid_of(&self, number: u32) -> Option<u32> {
        if self.process_of(number).is_some() {
            return Some(number);
        }
        self.task_of(number).map(|task| task.pid)
    }

    fn children_of(&self, pid: u32) -> Vec<u32> {
        let is_child = |child: &u32| self.process_of(*child).is_some_and(|one| one.parent == pid);
        self.pids().into_iter().filter(is_child).collect()
    }

    /// The thread `tid` of the running process has ended, others go on: its children are theirs.
    pub(crate) fn leave_children_to_threads(&mut self, tid: u32) {
        let pid = self.process.pid;
        let Some(&heir) = self.process.threads.first() else { return };
        for child in self.children_of(pid) {
            let Some(process) = self.process_mut(child) else { continue };
            if process.parent_thread == tid {
                process.parent_thread = heir;
                self.send_death_signal(child);
            }
        }
    }

    /// All threads of process `pid` have ended: its children get another parent.
    pub(crate) fn orphan_children(&mut self, pid: u32) {
        let heir = self.heir_of(pid);
        let heir_thread = self.process_of(heir).and_then(|one| one.threads.first().copied());
        for child in self.children_of(pid) {
            let Some(process) = self.process_mut(child) else { continue };
            process.parent = heir;
            process.parent_thread = heir_thread.unwrap_or(heir);
            process.exit_signal = SIGCHLD;
            let is_zombie = process.is_zombie();
            let (group, session) = (process.group, process.session);
            if is_zombie {
                self.tell_parent_of_end(child);
            } else {
                self.send_death_signal(child);
            }
            self.hang_up_if_alone(group, session, pid, None);
        }
    }

    /// The nearest ancestor that said it takes orphans, or the parent of the first process.
    fn heir_of(&self, pid: u32) -> u32 {
        let mut ancestor = self.process_of(pid).map_or(PARENT_PID, |process| process.parent);
        while let Some(process) = self.process_of(ancestor) {
            if process.settings.subreaper != 0 && !process.threads.is_empty() {
                return ancestor;
            }
            ancestor = process.parent;
        }
        PARENT_PID
    }

    /// `PR_SET_PDEATHSIG`: the thread that made this process is gone.
    fn send_death_signal(&mut self, child: u32) {
        let Some(process) = self.process_of(child) else { return };
        if let Ok(signal @ 1..=SIGNAL_MAX) = u8::try_from(process.settings.parent_death_signal) {
            let detail = self.sender(0);
            self.send_to_process(child, SigInfo { signal, code: SI_USER, detail });
        }
    }

    /// Tells the parent of process `pid` that it has ended. A parent that does not care, or is not
    /// there, never sees a zombie.
    pub(crate) fn tell_parent_of_end(&mut self, pid: u32) {
        let uid = self.fs.credentials.uid;
        let Some(process) = self.process_of(pid) else { return };
        let (parent, signal) = (process.parent, process.exit_signal);
        let info = child_info(process, uid);
        let Some(told) = self.process_of(parent).filter(|process| !process.is_zombie()) else {
            return self.forget_process(pid);
        };
        let action = told.actions.get(SIGCHLD);
        let is_ignored = signal == SIGCHLD && action.handler == SigAction::IGNORE;
        let is_unwanted = is_ignored || signal == SIGCHLD && action.flags & flag::SA_NOCLDWAIT != 0;
        if is_unwanted {
            self.forget_process(pid);
        }
        // `clone` takes any byte as the signal of the end; what is none is never sent.
        if !is_ignored && (1..=SIGNAL_MAX).contains(&signal) {
            self.send_to_process(parent, SigInfo { signal, ..info });
        }
        self.wake(Channel::Children(parent));
    }

    /// Nothing is left of a process that has ended.
    fn forget_process(&mut self, pid: u32) {
        self.objects.end_task(pid, &mut self.memory, &mut self.hw);
        if self.process.pid == pid {
            self.process.life = Life::Reaped;
        } else {
            self.tasks.processes.remove(&pid);
        }
    }

    /// Tells the parent that a process stopped or goes on.
    pub(crate) fn tell_parent_of_stop(&mut self, pid: u32) {
        let uid = self.fs.credentials.uid;
        let Some(process) = self.process_of(pid) else { return };
        let (parent, info) = (process.parent, child_info(process, uid));
        let Some(told) = self.process_of(parent) else { return };
        let action = told.actions.get(SIGCHLD);
        if action.handler != SigAction::IGNORE && action.flags & flag::SA_NOCLDSTOP == 0 {
            self.send_to_process(parent, info);
        }
        self.wake(Channel::Children(parent));
    }

    /// The processes of a group, zombies included.
    pub(crate) fn group_members(&self, group: u32) -> Vec<u32> {
        let is_member = |pid: &u32| self.process_of(*pid).is_some_and(|one| one.group == group);
        self.pids().into_iter().filter(is_member).collect()
    }

    /// Whether no member of a group has a parent in another group of its session: then nobody could
    /// let it go on after a stop.
    pub(crate) fn is_orphaned(&self, group: u32) -> bool {
        self.is_alone_without(group, None)
    }

    fn is_alone_without(&self, group: u32, ignored: Option<u32>) -> bool {
        let links = |process: &Process| {
            // Whoever started the run could let its first process go on, like a shell.
            let is_first = process.pid == PID && process.group == PID;
            let parent = self.process_of(process.parent);
            is_first
                || parent.is_some_and(|parent| {
                    parent.group != process.group && parent.session == process.session
                })
        };
        let members = self.group_members(group);
        let mut others = members.iter().filter(|pid| Some(**pid) != ignored);
        !others.any(|&pid| {
            self.process_of(pid).is_some_and(|process| !process.is_zombie() && links(process))
        })
    }

    /// `link` no longer connects a group to the rest of its session. If that leaves the group alone
    /// and some of it is stopped, it is told, and goes on. `ignored` is a member that is ending.
    pub(crate) fn hang_up_if_alone(
        &mut self,
        group: u32,
        session: u32,
        link: u32,
        ignored: Option<u32>,
    ) {
        let linked = |one: &Process| one.group != group && one.session == session;
        if !self.process_of(link).is_some_and(linked) || !self.is_alone_without(group, ignored) {
            return;
        }
        let members = self.group_members(group);
        let is_stopped = |pid: &u32| {
            self.process_of(*pid).is_some_and(|one| matches!(one.life, Life::Stopped(..)))
        };
        if !members.iter().any(is_stopped) {
            return;
        }
        for signal in [SIGHUP, SIGCONT] {
            for &pid in &members {
                self.send_to_process(
                    pid,
                    SigInfo { detail: SigDetail::None, ..SigInfo::kernel(signal) },
                );
            }
        }
    }
}
