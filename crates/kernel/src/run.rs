//! THE LOOP: run the program, do what it asks for, until it ends.
//!
//! The only file that sees both sides: the engine says why it stopped, the memory manager and the
//! system calls resolve it, signals are delivered, and the engine runs on.

use cpu::{Exception, Exit};
use mm::Mm;

use crate::Kernel;
use crate::abi::Abi;
use crate::outcome::{Outcome, RunReport, UnimplementedCall, VmaReport};
use crate::signal::FLAG_RF;
use crate::syscall::names;
use crate::task::{PID, State};

/// Whether an exception comes behind its instruction.
fn is_trap(exception: Exception) -> bool {
    matches!(exception, Exception::Debug | Exception::Breakpoint | Exception::Overflow)
}

impl Kernel {
    /// Runs until the first process ends and returns how it ended; [`Kernel::report`] tells the
    /// rest. Processes that are left then end with it, like those of a PID namespace.
    ///
    /// A second call returns the same at once.
    pub fn run(&mut self) -> Outcome {
        loop {
            if let Some(outcome) = self.run_until_events(usize::MAX) {
                return outcome;
            }
        }
    }

    /// Runs like [`Kernel::run`], but returns `None` as soon as the log holds `count` events or
    /// more, for a reader that drains it and calls again.
    pub fn run_until_events(&mut self, count: usize) -> Option<Outcome> {
        while self.hw.log.pending().len() < count {
            if let Some(outcome) = self.outcome {
                if self.report.is_none() {
                    self.finish(outcome);
                }
                return Some(outcome);
            }
            self.send_pressed_keys();
            let now_ns = self.expire();
            self.sample_if_due(now_ns);
            if now_ns >= self.time_limit_ns() {
                self.outcome = Some(Outcome::TimedOut);
                continue;
            }
            if self.pick_task() { self.step() } else { self.idle() }
        }
        None
    }

    /// Runs the task until it needs the kernel, and does what it needs.
    fn step(&mut self) {
        if let Some(outcome) = self.task.exit {
            return self.end_task(outcome);
        }
        if self.task.wait.is_none() && self.task.signals.is_notified {
            // Sent while it waited for its turn.
            self.deliver_signals();
            if self.task.exit.is_some() || self.task.state != State::Ready {
                return;
            }
        }
        if self.task.wait.is_some() {
            // Woken in the middle of a system call, which is done again.
            self.dispatch();
        } else {
            match self.engine.run(&mut self.task.regs, &mut self.hw) {
                Exit::Syscall => {
                    // The instruction changes cs and ss, whatever they were.
                    self.task.regs.enter_long();
                    self.task.call_abi = Abi::X86_64;
                    self.dispatch();
                }
                Exit::Syscall32(gate) => {
                    if self.enter_gate(gate).is_ok() {
                        self.dispatch();
                    }
                }
                Exit::Fault(fault) => {
                    self.task.regs.clear_null_selectors();
                    self.task.regs.rflags |= FLAG_RF;
                    self.page_fault(fault);
                }
                Exit::Exception(exception) => {
                    self.task.regs.clear_null_selectors();
                    if !is_trap(exception) {
                        self.task.regs.rflags |= FLAG_RF;
                    }
                    self.exception(exception);
                }
                Exit::Budget => {}
            }
        }
        if self.task.state != State::Ready {
            return;
        }
        self.expire_timers(self.hw.now_ns());
        let signals = &self.task.signals;
        if signals.is_notified || signals.saved_mask.is_some() || signals.interrupted.is_some() {
            self.deliver_signals();
        }
    }

    /// How the run ended, if it has: a program may be killed while it is loaded.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// The report, once the run has ended.
    pub fn report(&self) -> Option<&RunReport> {
        self.report.as_ref()
    }

    /// Takes the report and gives all frames back.
    fn finish(&mut self, outcome: Outcome) {
        self.hw.drain_clock();
        self.sample();
        let mut report = self.snapshot(outcome);
        self.end_all();
        report.pages_lost = self.store_for_host();
        self.drop_gdt();
        self.drop_testmem();
        report.frames_leaked = self.memory.shutdown(&mut self.hw);
        report.slots_leaked = self.memory.swap_usage().used;
        self.report = Some(report);
    }

    fn snapshot(&self, outcome: Outcome) -> RunReport {
        let (mm, exe) = self.first();
        let usage = self.memory.usage();
        let processes = self.process_reports(outcome);
        let page = machine::PAGE_BYTES;
        RunReport {
            outcome,
            program: exe.to_vec(),
            ram_bytes: self.hw.ram.bytes(),
            faults: processes.faults,
            processes,
            deadlock: self.deadlock.clone(),
            oom: self.oom.clone(),
            series: self.series.clone(),
            rss: mm.rss(&self.memory),
            rss_at_peak: mm.rss_at_peak(&self.memory),
            page_table_bytes: mm.page_table_frames(&self.memory) * page,
            page_table_peak_bytes: mm.page_table_frames_peak(&self.memory) * page,
            frames_free_at_exit: usage.frames_free,
            usage,
            frames_leaked: 0,
            slots_leaked: 0,
            pages_lost: 0,
            counters: self.hw.counters(),
            engine: self.engine.statistics(),
            vmas: self.vma_reports(mm),
            task_switches: self.tasks.switch_count,
            syscall_count: self.tally.count,
            unimplemented: self.unimplemented(),
            events: *self.memory.events(),
            swap: self.memory.swap_usage(),
            zswap: self.memory.zswap_usage(),
            kmap: self.memory.kmap_usage(),
            pool_frames_max: self.memory.pool_frames_max(),
            virtual_ns: self.hw.now_ns(),
            log_hash: self.hw.log.hash(),
            log_count: self.hw.log.count(),
        }
    }

    /// The address space and the program of the first process, which the run is about.
    fn first(&self) -> (&Mm, &[u8]) {
        let (mm, fs) = self.process_of(PID).map_or((None, None), |process| self.parts_of(process));
        (mm.unwrap_or(&self.mm), &fs.unwrap_or(&self.fs).exe)
    }

    fn vma_reports(&self, mm: &Mm) -> Vec<VmaReport> {
        mm.vmas()
            .map(|vma| {
                let counts = mm.count_pages(&self.hw, &self.memory, vma.range);
                VmaReport {
                    start: vma.range.start.as_u64(),
                    end: vma.range.end.as_u64(),
                    perms: crate::exec::perms(vma),
                    name: crate::exec::vma_name(mm, vma).to_vec(),
                    rss_bytes: counts.resident * machine::PAGE_BYTES,
                    faults: vma.fault_count,
                }
            })
            .collect()
    }

    fn unimplemented(&self) -> Vec<UnimplementedCall> {
        self.tally
            .unimplemented
            .iter()
            .map(|(&number, &count)| UnimplementedCall { number, name: names::name(number), count })
            .collect()
    }
}
