//! What the kernel's own objects take of RAM: stacks of tasks, and slabs.
//!
//! ```text
//!  a task      one task_struct, a pid, credentials, and a stack: 4 pages of vmalloc and a guard
//!  a process   one signal_cache and one sighand_cache, until it is reaped
//!  a table of open files, a place in the tree, an open file, a node of the tree: one each
//!  a pipe      one object of kmalloc-192, and one of kmalloc-1k for its buffers
//! ```
//! Address spaces and their VMAs have theirs in crate `mm`. The structures themselves are ours;
//! the places in RAM are where Linux would keep them, so that `/proc/slabinfo`,
//! `/proc/vmallocinfo` and `/proc/meminfo` tell what is there.
//!
//! Does not: count nodes of the page cache, families of private pages, sockets, and the bytes that
//! wait in pipes; give nodes back under pressure.
//!
//! Invariants
//! 1. Every task that has not ended has a stack and a `task_struct`; no other has a stack.
//! 2. After each system call the counts are those of the objects, unless RAM was too short for one:
//!    then it is tried again after the next. Only a new task is refused.
//!
//! # Source
//! Linux 6.12 `kernel/fork.c:alloc_thread_stack_node`, `dup_task_struct`; `fs/file_table.c`.

use std::collections::BTreeMap;

use machine::{Machine, PAGE_BYTES, VirtAddr};
use mm::{Cache, Memory, MmError, Objects};

use crate::task::{PID, State};
use crate::{BootError, Kernel};

/// `THREAD_SIZE`, pages.
// Differs from Linux: a kernel of 32 bits has the stacks of one of 64, not of 2 pages.
const STACK_PAGES: u64 = 4;
/// What `/proc/vmallocinfo` says of a stack.
const STACK_CALLER: &str = "kernel_clone";
/// What the kernel writes at the end of a stack, to see whether it was overrun.
///
/// # Source
/// Linux 6.12 `include/uapi/linux/magic.h:STACK_END_MAGIC`.
const STACK_END_MAGIC: u32 = 0x57ac_6e9d;

/// What one task has.
#[derive(Debug)]
struct TaskMemory {
    stack: Option<VirtAddr>,
    task_struct: Objects,
}

/// What all tasks and files have.
#[derive(Debug)]
pub(crate) struct KernelObjects {
    tasks: BTreeMap<u32, TaskMemory>,
    /// Kinds of which only the number counts.
    counted: [Objects; COUNTED.len()],
    /// Nodes that the tree had at the start: those of `/proc`, `/sys` and `/dev`.
    planted_count: usize,
}

/// Caches of objects that are taken and given back by number.
const COUNTED: [Cache; 12] = [
    Cache::SignalCache,
    Cache::SighandCache,
    Cache::Pid,
    Cache::CredJar,
    Cache::FilesCache,
    Cache::FsCache,
    Cache::Filp,
    Cache::Dentry,
    Cache::InodeCache,
    Cache::ProcDirEntry,
    // What a pipe is (`pipe_inode_info`), and its 16 `pipe_buffer`s of 40 bytes.
    Cache::Kmalloc192,
    Cache::Kmalloc1k,
];

impl KernelObjects {
    /// What the first task has, in a tree with `planted_count` nodes.
    ///
    /// # Errors
    /// [`BootError::Memory`]: no frames for it.
    pub(crate) fn first(
        planted_count: usize,
        memory: &mut Memory,
        hw: &mut Machine,
    ) -> Result<Self, BootError> {
        let mut objects =
            Self { tasks: BTreeMap::new(), counted: COUNTED.map(Objects::of), planted_count };
        objects.add_task(PID, memory, hw).map_err(BootError::Memory)?;
        Ok(objects)
    }

    /// The tree has one node more that is there from the start.
    pub(crate) const fn count_planted(&mut self) {
        self.planted_count += 1;
    }

    /// KiB of stacks (`KernelStack`).
    pub(crate) fn stack_kib(&self) -> u64 {
        let count = self.tasks.values().filter(|task| task.stack.is_some()).count() as u64;
        count * STACK_PAGES * (PAGE_BYTES >> 10)
    }

    /// Takes stack and `task_struct` of a new task.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]: no frames for them. Nothing has changed.
    pub(crate) fn add_task(
        &mut self,
        tid: u32,
        memory: &mut Memory,
        hw: &mut Machine,
    ) -> Result<(), MmError> {
        let mut task_struct = Objects::of(Cache::TaskStruct);
        memory.set_objects(hw, &mut task_struct, 1)?;
        let align = STACK_PAGES * PAGE_BYTES;
        let stack = match memory.vmalloc(hw, STACK_PAGES, align, STACK_CALLER) {
            Ok(stack) => stack,
            Err(error) => {
                memory.set_objects(hw, &mut task_struct, 0)?;
                return Err(error);
            }
        };
        if let Some(lowest) = memory.area_frames(stack).first() {
            hw.store(lowest.start(), &u64::from(STACK_END_MAGIC).to_le_bytes());
        }
        self.tasks.insert(tid, TaskMemory { stack: Some(stack), task_struct });
        Ok(())
    }

    /// Gives the stack of a task back that does not run any more.
    pub(crate) fn end_stack(&mut self, tid: u32, memory: &mut Memory, hw: &mut Machine) {
        let stack = self.tasks.get_mut(&tid).and_then(|task| task.stack.take());
        if let Some(stack) = stack {
            memory.vfree(hw, stack).expect("invariant 1: the task has a stack");
        }
    }

    /// Gives all that a task has back: nobody can ask for it any more.
    pub(crate) fn end_task(&mut self, tid: u32, memory: &mut Memory, hw: &mut Machine) {
        self.end_stack(tid, memory, hw);
        if let Some(mut task) = self.tasks.remove(&tid) {
            // Fewer objects need no frame.
            let _ = memory.set_objects(hw, &mut task.task_struct, 0);
        }
    }

    /// The task `tid` is called `leader` from now on, which is gone.
    pub(crate) fn rename(
        &mut self,
        (tid, leader): (u32, u32),
        memory: &mut Memory,
        hw: &mut Machine,
    ) {
        if tid == leader {
            return;
        }
        self.end_task(leader, memory, hw);
        if let Some(task) = self.tasks.remove(&tid) {
            self.tasks.insert(leader, task);
        }
    }

    /// Makes the counted objects as many as `counts` says, as far as there are frames.
    fn settle(&mut self, counts: [usize; COUNTED.len()], memory: &mut Memory, hw: &mut Machine) {
        for (objects, count) in self.counted.iter_mut().zip(counts) {
            if objects.count() != count {
                // What is missing is taken the next time.
                let _ = memory.set_objects(hw, objects, count);
            }
        }
    }

    /// Gives everything back.
    pub(crate) fn end_all(&mut self, memory: &mut Memory, hw: &mut Machine) {
        let tids: Vec<u32> = self.tasks.keys().copied().collect();
        tids.into_iter().for_each(|tid| self.end_task(tid, memory, hw));
        self.settle([0; COUNTED.len()], memory, hw);
    }
}

impl Kernel {
    /// The kernel with an object for each thing that it keeps.
    pub(crate) fn settled(mut self) -> Self {
        self.settle_objects();
        self
    }

    /// Takes and gives back objects until there is one for each thing that the kernel keeps.
    pub(crate) fn settle_objects(&mut self) {
        let tasks = self.tasks.tasks.len() + usize::from(self.task.state != State::Dead);
        let is_there = self.roster().is_process_there();
        let processes = self.tasks.processes.len() + usize::from(is_there);
        let (files, nodes) = self.vfs.counts();
        let pipes = self.vfs.pipe_count();
        let planted = self.objects.planted_count;
        let entered = nodes.saturating_sub(planted);
        let counts = [
            processes,
            processes,
            tasks,
            tasks,
            self.tasks.files.len(),
            self.tasks.fs.len(),
            files,
            entered,
            entered,
            planted,
            pipes,
            pipes,
        ];
        self.objects.settle(counts, &mut self.memory, &mut self.hw);
        self.mm.settle(&mut self.memory, &mut self.hw);
    }
}
