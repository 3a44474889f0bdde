//! THE LOOP: run the program, do what it asks for, until it ends.
//!
//! The only file that sees both sides: the engine says why it stopped, the memory manager and the
//! system calls resolve it, signals are delivered, and the engine runs on.

use cpu::Exit;

use crate::Kernel;
use crate::outcome::{Outcome, RunReport, UnimplementedCall, VmaReport};
use crate::syscall::names;

/// The address-space identifier of the only task.
pub(crate) const FIRST_ASID: u16 = 1;

impl Kernel {
    /// Runs the program to its end and returns how it ended; [`Kernel::report`] tells the rest.
    ///
    /// A second call returns the same at once.
    pub fn run(&mut self) -> Outcome {
        loop {
            if let Some(outcome) = self.task.exit {
                if self.report.is_none() {
                    self.finish(outcome);
                }
                return outcome;
            }
            self.step();
        }
    }

    /// Runs the task until it needs the kernel, and does what it needs.
    fn step(&mut self) {
        self.hw.activate(self.task.mm.root(), FIRST_ASID);
        match self.engine.run(&mut self.task.regs, &mut self.hw) {
            Exit::Syscall => self.dispatch(),
            Exit::Fault(fault) => self.page_fault(fault),
            Exit::Exception(exception) => self.exception(exception),
            Exit::Budget => {}
        }
        self.expire_timers();
        if self.task.signals.has_deliverable() || self.task.signals.saved_mask.is_some() {
            self.deliver_signals();
        }
    }

    /// The report, once the run has ended.
    pub fn report(&self) -> Option<&RunReport> {
        self.report.as_ref()
    }

    /// Logs the end, takes the report, and gives all frames back.
    fn finish(&mut self, outcome: Outcome) {
        let event = machine::Event::Exit { task: self.task.pid, status: outcome.wait_status() };
        self.hw.log.push(self.hw.time(), event);
        self.hw.drain_clock();
        let mut report = self.snapshot(outcome);
        self.close_all_files();
        self.task.mm.exit(&mut self.memory, &mut self.hw);
        report.frames_leaked = self.memory.shutdown(&mut self.hw);
        self.report = Some(report);
    }

    fn snapshot(&self, outcome: Outcome) -> RunReport {
        let mm = &self.task.mm;
        let usage = self.memory.usage();
        let page = machine::PAGE_BYTES;
        RunReport {
            outcome,
            program: self.task.fs.exe.clone(),
            ram_bytes: self.hw.ram.bytes(),
            faults: *mm.faults(),
            rss: mm.rss(&self.memory),
            rss_at_peak: mm.rss_at_peak(&self.memory),
            page_table_bytes: mm.page_table_frames(&self.memory) * page,
            page_table_peak_bytes: mm.page_table_frames_peak(&self.memory) * page,
            frames_free_at_exit: usage.frames_free,
            usage,
            frames_leaked: 0,
            counters: self.hw.counters(),
            engine: self.engine.statistics(),
            vmas: self.vma_reports(),
            syscall_count: self.tally.count,
            unimplemented: self.unimplemented(),
            virtual_ns: self.hw.now_ns(),
            log_hash: self.hw.log.hash(),
            log_count: self.hw.log.count(),
        }
    }

    fn vma_reports(&self) -> Vec<VmaReport> {
        let mm = &self.task.mm;
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
