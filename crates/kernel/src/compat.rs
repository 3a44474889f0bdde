//! The system calls of i386 programs: their numbers and structures, and what they mean here.
//!
//! No call has a second meaning here. `compat/table.rs` has a row for each number: the call of the
//! same meaning, and what its arguments are. An argument that points to a structure with words of
//! the program's size is read and laid out anew in a [`Window`], which the call finds where it
//! looks for the program's memory; what the call writes there goes back into the program's
//! structure. Calls whose arguments are put together differently are functions of this module.
//!
//! Nouns: [`table::Row`] (a number), [`shape::Shape`] (a structure in both forms), [`Window`].
//!
//! Invariants
//! 1. The window is empty while a call of a 64-bit program runs, and after every call.
//!
//! # Source
//! Linux 6.12 `arch/x86/entry/syscalls/syscall_32.tbl`, `arch/x86/ia32/sys_ia32.c`.

mod file;
mod frame;
mod ipc;
mod memory;
mod process;
pub(crate) mod segments;
mod shape;
mod signal;
mod socket;
mod stat;
mod table;
mod time;
mod window;

use cpu::{Gate, Mode, Registers};
use machine::VirtAddr;

use crate::Kernel;
use crate::abi::Abi;
use crate::errno::{Errno, SysResult};
use crate::syscall;
use crate::vdso;

pub(crate) use window::Window;

use shape::Shape;
use table::How;

/// The argument registers of an i386 call: ebx ecx edx esi edi ebp.
type Args = [u64; 6];

/// What an argument of a call is.
#[derive(Clone, Copy, Debug)]
enum Arg {
    /// The word as it is.
    Word,
    /// The word as a signed number.
    Signed,
    /// Two words: the lower and the upper half of one.
    Wide,
    /// No word: this value.
    Const(u64),
    /// A pointer to what the call reads.
    In(&'static Shape),
    /// A pointer to what the call writes.
    Out(&'static Shape),
    /// A pointer to what the call reads and writes.
    InOut(&'static Shape),
    /// A pointer to an array of `struct iovec`; the next word is their number.
    Vectors,
}

/// Something in the window that goes back into the program's memory.
struct Loan {
    /// Where the program wants it.
    target: u64,
    shape: &'static Shape,
    /// Where it is in the window.
    place: u64,
}

/// The name of call `number` of the i386 table, or `"?"`.
pub(crate) fn name(number: u32) -> &'static str {
    table::row(u64::from(number)).map_or("?", |row| row.name)
}

/// Whether there is a function for call `number`.
pub(crate) fn is_known(number: u32) -> bool {
    match table::row(number.into()).map(|row| row.how) {
        Some(How::Same(other) | How::With(other, _)) => syscall::handler(other.into()).is_some(),
        Some(How::Own(_)) => true,
        Some(How::None) | None => false,
    }
}

impl Kernel {
    /// Notes that the task has called the system as an i386 program does.
    ///
    /// `sysenter` and `syscall` do not say where they come from: as on Linux they return to the
    /// vDSO, and the last argument is on the stack.
    ///
    /// # Errors
    /// `EFAULT`: it cannot be read; the result is in eax, and no call is made.
    pub(crate) fn enter_gate(&mut self, gate: Gate) -> Result<(), Errno> {
        self.task.call_abi = Abi::I386;
        if gate == Gate::Int80 {
            return Ok(());
        }
        let regs = &mut self.task.regs;
        let stack = if gate == Gate::Sysenter {
            regs.gpr[Registers::RBP] & 0xffff_ffff
        } else {
            regs.gpr[Registers::RCX] = regs.gpr[Registers::RBP];
            regs.gpr[Registers::RSP]
        };
        regs.gpr[Registers::RSP] = stack;
        regs.rip = self.mm.layout.vdso.as_u64() + vdso::i386::LANDING;
        let argument = self.read_user_u32(VirtAddr::new(stack)).inspect_err(|errno| {
            self.task.regs.gpr[Registers::RAX] = errno.as_register() & 0xffff_ffff;
        })?;
        self.task.regs.gpr[Registers::RBP] = argument.into();
        Ok(())
    }

    /// Does call `number` of the i386 table.
    pub(crate) fn call_i386(&mut self, number: u32, args: Args) -> SysResult {
        let how = table::row(number.into()).map_or(How::None, |row| row.how);
        let result = match how {
            How::None => Err(Errno::ENOSYS),
            How::Own(function) => function(self, args),
            How::Same(other) => self.call_native(other, args),
            How::With(other, kinds) => self.call_with(other, args, kinds),
        };
        self.window.clear();
        result
    }

    /// Calls the function of 64-bit programs with this number.
    fn call_native(&mut self, number: u16, args: Args) -> SysResult {
        syscall::handler(number.into()).map_or(Err(Errno::ENOSYS), |handler| handler(self, args))
    }

    /// Calls the function of 64-bit programs with arguments of these kinds; what the list leaves
    /// out are words.
    fn call_with(&mut self, number: u16, args: Args, kinds: &'static [Arg]) -> SysResult {
        let mut words = args.into_iter().peekable();
        let mut native = [0; 6];
        let mut loans = Vec::new();
        for (index, slot) in native.iter_mut().enumerate() {
            let kind = kinds.get(index).copied().unwrap_or(Arg::Word);
            *slot = self.argument(kind, &mut words, &mut loans)?;
        }
        let result = self.call_native(number, native);
        self.give_back(&loans)?;
        result
    }

    fn argument(
        &mut self,
        kind: Arg,
        words: &mut std::iter::Peekable<std::array::IntoIter<u64, 6>>,
        loans: &mut Vec<Loan>,
    ) -> SysResult {
        if let Arg::Const(value) = kind {
            return Ok(value);
        }
        let word = words.next().unwrap_or(0);
        match kind {
            Arg::Word | Arg::Const(_) => Ok(word),
            Arg::Signed => Ok(signed(word)),
            Arg::Wide => Ok(word | words.next().unwrap_or(0) << 32),
            Arg::Vectors => {
                let count = words.peek().copied().unwrap_or(0);
                self.lend_vectors(word, count)
            }
            Arg::In(_) | Arg::Out(_) | Arg::InOut(_) if word == 0 => Ok(0),
            Arg::In(shape) => self.lend(word, shape),
            Arg::Out(shape) => Ok(self.lend_room(word, shape, loans)),
            Arg::InOut(shape) => {
                let place = self.lend(word, shape)?;
                loans.push(Loan { target: word, shape, place });
                Ok(place)
            }
        }
    }

    /// Lays the structure at `addr` out anew; returns where the call finds it.
    fn lend(&mut self, addr: u64, shape: &'static Shape) -> SysResult {
        let mut bytes = vec![0; shape::bytes_32(shape)];
        self.read_user(VirtAddr::new(addr), &mut bytes)?;
        Ok(self.window.add(shape::widen(shape, &bytes)))
    }

    /// Room for a structure that goes to `addr` once the call has written it.
    fn lend_room(&mut self, addr: u64, shape: &'static Shape, loans: &mut Vec<Loan>) -> u64 {
        let place = self.window.add(vec![0; shape::bytes_64(shape)]);
        loans.push(Loan { target: addr, shape, place });
        place
    }

    /// Writes what the call has written to the window into the program's structures.
    fn give_back(&mut self, loans: &[Loan]) -> Result<(), Errno> {
        for loan in loans {
            if let Some(bytes) = self.window.take_written(loan.place) {
                let bytes = shape::narrow(loan.shape, &bytes)?;
                self.write_user(VirtAddr::new(loan.target), &bytes)?;
            }
        }
        Ok(())
    }

    /// Lays an array of `struct iovec` out anew. A number of them that is refused anyway is passed
    /// on with whatever is there.
    fn lend_vectors(&mut self, addr: u64, count: u64) -> SysResult {
        const COUNT_MAX: u64 = 1024;
        let count = if count & 0xffff_ffff > COUNT_MAX { 0 } else { count };
        let mut bytes = vec![0; (count * 8) as usize];
        self.read_user(VirtAddr::new(addr), &mut bytes)?;
        let mut wide = Vec::with_capacity(bytes.len() * 2);
        for pair in bytes.chunks_exact(8) {
            let [base, length] = [word(pair, 0), word(pair, 4)];
            if length >> 31 != 0 {
                return Err(Errno::EINVAL);
            }
            wide.extend(base.to_le_bytes());
            wide.extend(length.to_le_bytes());
        }
        Ok(self.window.add(wide))
    }

    /// What a system call leaves in the register of its result.
    pub(crate) fn result_register(&self, value: u64) -> u64 {
        match self.task.regs.mode() {
            Mode::Long => value,
            Mode::Compat => value & 0xffff_ffff,
        }
    }
}

/// A word as a signed number.
fn signed(word: u64) -> u64 {
    i64::from(word as u32 as i32).cast_unsigned()
}

/// The word at `offset`.
fn word(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word).into()
}

/// The word of 64 bits at `offset`; 0 where `bytes` has none.
fn wide(bytes: &[u8], offset: usize) -> u64 {
    let word = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u64::from_le_bytes(*word))
}
