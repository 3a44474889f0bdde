//! Loading a program: from a path to an address space with the program in it.
//!
//! First everything that can still be refused: the file, its headers, its interpreter, the size of
//! its arguments. Then the point of no return: a new address space, and from there on a failure
//! kills with SIGSEGV (or because RAM is full).
//!
//! `exec/boot.rs` makes the kernel and loads the first program, `exec/call.rs` is `execve`;
//! `exec/program.rs` finds and checks the files, `exec/map.rs` maps them, and the pages of
//! `exec/special.rs`.
//!
//! Does not: honour set-user-ID, keep anything of the old address space, randomise addresses.
//!
//! # Source
//! Linux 6.12 `fs/exec.c`, `fs/binfmt_elf.c`, `fs/binfmt_script.c`; semantics ELF-1 to ELF-12.

mod boot;
mod call;
mod map;
mod program;
mod special;

use cpu::{DescriptorTable, Registers};
use machine::{Event, Machine, PAGE_BYTES, PageSize, VirtAddr};
use mm::{Backing, Layout, Limits, Memory, Mm, MmId, Rights, Sharing, Vma, VmaFlags};

use crate::abi::{Abi, KernelKind, Room};
use crate::errno::Errno;
use crate::outcome::Outcome;
use crate::random::Generator;
use crate::signal::SIGNAL_FRAME_BYTES;
use crate::signal::number::SIGSEGV;
use crate::stack_init::{self, Auxiliary, Strings};
use crate::syscall::memory::READ_IMPLIES_EXEC;
use crate::uaccess::{self, WrittenBy};
use crate::vdso;

pub(crate) use call::{sys_execve, sys_execveat};
pub(crate) use special::{FixedPager, SpecialPages};

use program::Prepared;

/// `vm.mmap_min_addr`.
const MIN_ADDRESS: u64 = 0x1_0000;
/// The least and the largest distance of `mmap_base` from the end of user space (AS-1).
const GAP_BYTES_MIN: u64 = 128 << 20;
const STACK_GUARD_BYTES: u64 = 256 * PAGE_BYTES;
/// How much the stack is larger than its first content.
const STACK_EXTRA_BYTES: u64 = 128 << 10;

/// Why a program was not loaded.
enum LoadError {
    /// Nothing has happened; `execve` returns this.
    Refused(Errno),
    /// Past the point of no return: the task ends like this.
    Fatal(Outcome),
}

impl From<Errno> for LoadError {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}

/// A loaded program.
struct Image {
    abi: Abi,
    /// Whether reading implies executing.
    implies_execute: bool,
    mm: Mm,
    entry: u64,
    stack_pointer: u64,
}

/// All that loading works on.
struct Loader<'a> {
    memory: &'a mut Memory,
    hw: &'a mut Machine,
    random: &'a mut Generator,
    special: &'a SpecialPages,
    kind: KernelKind,
    abi: Abi,
    room: Room,
    /// Whether all that can be read can be executed.
    implies_execute: bool,
}

/// The rules of a new address space.
#[derive(Clone, Copy)]
struct Frame {
    id: MmId,
    asid: u16,
    limits: Limits,
    uid: u32,
    gid: u32,
    personality: u32,
}

impl<'a> Loader<'a> {
    fn new(
        memory: &'a mut Memory,
        hw: &'a mut Machine,
        random: &'a mut Generator,
        special: &'a SpecialPages,
        kind: KernelKind,
    ) -> Self {
        let abi = Abi::X86_64;
        let room = kind.room(abi, 0);
        Self { memory, hw, random, special, kind, abi, room, implies_execute: false }
    }

    /// Builds the address space of `prepared`.
    ///
    /// The new space is the machine's active one afterwards. On an error it is gone again, and the
    /// machine has no usable space active: the caller ends the task or activates another.
    fn load(&mut self, prepared: &Prepared, frame: Frame) -> Result<Image, LoadError> {
        (self.abi, self.implies_execute) = (prepared.abi(), prepared.implies_execute());
        self.room = self.kind.room(self.abi, frame.personality);
        let layout = layout(self.room, frame.limits.stack_bytes);
        let mut mm = Mm::new(frame.id, layout, frame.limits, self.memory, self.hw)
            .map_err(|error| LoadError::Refused(error.into()))?;
        self.hw.activate(mm.root(), frame.asid);
        match self.fill(&mut mm, prepared, frame) {
            Some((entry, stack_pointer)) => {
                mm.forget_faults();
                let (abi, implies_execute) = (self.abi, self.implies_execute);
                Ok(Image { abi, implies_execute, mm, entry, stack_pointer })
            }
            None => {
                let is_full = self.memory.usage().frames_free == 0;
                mm.exit(self.memory, self.hw);
                let killed = Outcome::Killed(SIGSEGV);
                Err(LoadError::Fatal(if is_full { Outcome::OutOfMemory } else { killed }))
            }
        }
    }

    /// Stack, program, interpreter, vDSO, first content of the stack; `None` is fatal.
    fn fill(&mut self, mm: &mut Mm, prepared: &Prepared, frame: Frame) -> Option<(u64, u64)> {
        let stack_bytes = first_stack_bytes(&prepared.strings, frame.limits.stack_bytes);
        let rights = prepared.stack_rights();
        mm::ops::map_stack(mm, self.memory, self.hw, stack_bytes, rights).ok()?;
        let main = self.map_main(mm, prepared)?;
        let interpreter = match &prepared.interpreter {
            Some(interpreter) => Some(self.map_interpreter(mm, interpreter)?),
            None => None,
        };
        let vdso = self.map_vdso(mm)?;
        let mut random = [0; 16];
        self.random.fill(&mut random);
        let vsyscall = match self.abi {
            Abi::X86_64 => 0,
            Abi::I386 => vdso + vdso::i386::VSYSCALL,
        };
        let auxiliary = Auxiliary {
            abi: self.abi,
            vdso,
            vsyscall,
            signal_stack_bytes: SIGNAL_FRAME_BYTES,
            hwcap: u64::from(cpu::CPUID_FEATURES_EDX),
            hwcap2: u64::from(cpu::cpuid(7, 0)[1] & 1) << 1,
            table: prepared.main.table_address(main),
            table_count: prepared.main.program.header.count,
            base: interpreter.map_or(0, |(bias, _)| bias),
            entry: prepared.main.entry(main),
            uid: frame.uid,
            gid: frame.gid,
            random,
        };
        let top = mm.layout.stack_top.as_u64();
        let block = stack_init::build(top, &prepared.strings, &auxiliary);
        let start = VirtAddr::new(block.start);
        let (words, strings) = block.split();
        uaccess::store(mm, self.memory, self.hw, (start, words), WrittenBy::User).ok()?;
        let arg_start = VirtAddr::new(block.arg_start);
        uaccess::store(mm, self.memory, self.hw, (arg_start, strings), WrittenBy::Kmap).ok()?;
        mm.layout.vdso = VirtAddr::new(vdso);
        mm.layout.start_stack = start;
        mm.layout.arg_start = arg_start;
        mm.layout.arg_end = VirtAddr::new(block.arg_end);
        mm.layout.env_start = mm.layout.arg_end;
        mm.layout.env_end = VirtAddr::new(block.env_end);
        let entry = interpreter.map_or(auxiliary.entry, |(_, entry)| entry);
        (entry < self.room.end).then_some((entry, block.start))
    }
}

/// Addresses that depend on nothing but the room and the stack limit (AS-1 to AS-4).
pub(crate) fn layout(room: Room, stack_bytes: u64) -> Layout {
    let end = room.end;
    let gap = stack_bytes.checked_add(STACK_GUARD_BYTES).unwrap_or(stack_bytes);
    let gap = gap.clamp(GAP_BYTES_MIN, end / 6 * 5);
    let page_up = |addr: u64| VirtAddr::new(addr.next_multiple_of(PAGE_BYTES));
    Layout {
        mmap_base: page_up(end - gap),
        mmap_legacy_base: page_up(end / 3),
        task_end: VirtAddr::new(end),
        min_address: VirtAddr::new(MIN_ADDRESS),
        stack_top: VirtAddr::new(end),
        ..Layout::default()
    }
}

/// Bytes of the stack VMA: the pages of the strings and 128 KiB, within the limit (STK-1).
fn first_stack_bytes(strings: &Strings, limit: u64) -> u64 {
    let pages = strings.bytes().next_multiple_of(PAGE_BYTES);
    let limit = limit.saturating_sub(limit % PAGE_BYTES);
    (pages + STACK_EXTRA_BYTES).min(limit.max(pages))
}

/// `rwxp` letters of a VMA, as `/proc/PID/maps` shows them.
pub fn perms(vma: &Vma) -> [u8; 4] {
    let letter = |right: Rights, letter: u8| if vma.rights.contains(right) { letter } else { b'-' };
    [
        letter(Rights::READ, b'r'),
        letter(Rights::WRITE, b'w'),
        letter(Rights::EXECUTE, b'x'),
        if vma.sharing == Sharing::Shared { b's' } else { b'p' },
    ]
}

/// The name of a VMA as `/proc/PID/maps` shows it, empty for plain anonymous memory.
pub fn vma_name<'a>(mm: &'a Mm, vma: &'a Vma) -> &'a [u8] {
    if let Backing::File(file) = &vma.backing {
        return &file.path;
    }
    let (range, layout) = (vma.range, &mm.layout);
    if range.start <= layout.start_stack
        && layout.start_stack <= range.end
        && vma.flags.contains(VmaFlags::GROWS_DOWN)
    {
        return b"[stack]";
    }
    if range.start < layout.brk && range.end > layout.start_brk { b"[heap]" } else { b"" }
}

/// Registers of a program that has not yet run; `gdt` is the table of an i386 kernel.
fn first_registers(image: &Image, gdt: DescriptorTable) -> Registers {
    let mut regs = match image.abi {
        Abi::X86_64 => Registers::new(),
        Abi::I386 if gdt == DescriptorTable::NONE => Registers::new_compat(),
        Abi::I386 => Registers::new_i386(gdt),
    };
    regs.rip = image.entry;
    regs.gpr[Registers::RSP] = image.stack_pointer;
    regs
}

/// The personality of a task whose program is new.
const fn personality(before: u32, implies_execute: bool) -> u32 {
    let kept = before & !READ_IMPLIES_EXEC;
    if implies_execute { kept | READ_IMPLIES_EXEC } else { kept }
}

fn log_exec(hw: &mut Machine, task: u32, image: &Image) {
    let event = Event::Exec { task, mm: image.mm.id.0, entry: image.entry };
    hw.log.push(hw.time(), event);
}

/// Whether an address of the guest is page aligned.
fn is_page_aligned(addr: u64) -> bool {
    VirtAddr::new(addr).is_aligned(PageSize::K4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_linux_without_randomisation() {
        let base = |abi, stack| {
            let room = KernelKind::X86_64.room(abi, 0);
            layout(room, stack).mmap_base.as_u64()
        };
        let (long, i386) = (|stack| base(Abi::X86_64, stack), |stack| base(Abi::I386, stack));
        assert_eq!(long(8 << 20), 0x7fff_f7ff_f000);
        assert_eq!(long(1 << 30), 0x7fff_bfef_f000);
        assert_eq!(long(u64::MAX), 0x1555_5555_6000);
        let pie_base = KernelKind::X86_64.room(Abi::X86_64, 0).pie_base;
        assert_eq!(pie_base & !(PAGE_BYTES - 1), 0x5555_5555_4000);
        assert_eq!(i386(8 << 20), 0xf7ff_e000);
        let old = |page_offset, stack| {
            let layout = layout(KernelKind::I386 { page_offset }.room(Abi::I386, 0), stack);
            [layout.mmap_base, layout.mmap_legacy_base].map(VirtAddr::as_u64)
        };
        assert_eq!(old(0xc000_0000, 8 << 20), [0xb800_0000, 0x4000_0000]);
        assert_eq!(old(0x7800_0000, 8 << 20), [0x7000_0000, 0x2800_0000]);
        assert_eq!(old(0x4000_0000, 8 << 20), [0x3800_0000, 0x1555_6000]);
        assert_eq!(old(0x4000_0000, u64::MAX), [0x0aaa_b000, 0x1555_6000]);
    }

    #[test]
    fn the_first_stack_has_33_pages() {
        let strings = Strings { args: vec![], env: vec![], path: b"/bin/p".to_vec() };
        assert_eq!(first_stack_bytes(&strings, 8 << 20), 33 * PAGE_BYTES);
        assert_eq!(first_stack_bytes(&strings, 64 << 10), 16 * PAGE_BYTES);
    }
}
