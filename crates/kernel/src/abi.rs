//! The two sets of rules a program can be written for, x86-64 and i386, and the two kernels.
//!
//! A 64-bit kernel runs programs of both kinds, one of 32 bits those of its own.
//!
//! # Source
//! Linux 6.12 `arch/x86/include/asm/{processor,elf,page_32_types}.h`; the addresses of i386
//! programs measured natively (`/proc/PID/maps` under `setarch -R`).

use cpu::{GDT_I386, GDT_X86_64};
use machine::{Geometry, PAGE_BYTES};
use mm::kernel_space::KernelSpace;

use crate::Kernel;
use crate::uaccess::TASK_END;

/// What a program is written for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Abi {
    /// 64-bit programs.
    #[default]
    X86_64,
    /// 32-bit programs.
    I386,
}

/// First byte that no i386 program on a 64-bit kernel may map (`IA32_PAGE_OFFSET`).
const TASK_END_COMPAT: u64 = 0xffff_e000;
/// Likewise with [`ADDR_LIMIT_3GB`].
const TASK_END_3GB: u64 = 0xc000_0000;
/// The bit of the personality that gives i386 programs the user space of most i386 kernels.
const ADDR_LIMIT_3GB: u32 = 0x0800_0000;
/// The personality, without its bits, whose `uname` names a machine of 32 bits.
const PER_LINUX32: u32 = 8;

/// The room that a program gets (AS-1, AS-11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// First byte that it may not map, and the end of its stack.
    pub end: u64,
    /// Where programs that may be anywhere go (`ELF_ET_DYN_BASE`).
    pub pie_base: u64,
}

/// Which kernel the machine has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelKind {
    /// One of 64 bits.
    X86_64,
    /// One of 32 bits.
    I386 {
        /// Its first address of its own (`PAGE_OFFSET`): what is below is for programs.
        page_offset: u64,
    },
}

impl KernelKind {
    /// The kernel with this map.
    pub const fn of(space: &KernelSpace) -> Self {
        match space.config().geometry {
            Geometry::I386 | Geometry::Pae => {
                Self::I386 { page_offset: space.page_offset().as_u64() }
            }
            Geometry::X86_64 | Geometry::La57 => Self::X86_64,
        }
    }

    /// Whether it runs programs written for `abi`.
    pub fn runs(self, abi: Abi) -> bool {
        self == Self::X86_64 || abi == Abi::I386
    }

    /// The end of the user space of all its programs (`TASK_SIZE_MAX`).
    pub const fn user_end(self) -> u64 {
        match self {
            Self::X86_64 => TASK_END,
            Self::I386 { page_offset } => page_offset,
        }
    }

    /// The room of a program written for `abi`, whose task has these bits of personality.
    pub const fn room(self, abi: Abi, personality: u32) -> Room {
        let (end, pie_base) = match (self, abi) {
            (Self::X86_64, Abi::X86_64) => (TASK_END, TASK_END / 3 * 2),
            (Self::I386 { page_offset }, _) => (page_offset, 0x40_0000),
            (Self::X86_64, Abi::I386) => {
                let is_less = personality & ADDR_LIMIT_3GB != 0;
                let end = if is_less { TASK_END_3GB } else { TASK_END_COMPAT };
                // `COMPAT_ELF_ET_DYN_BASE`.
                (end, (end / 3).next_multiple_of(PAGE_BYTES) + (16 << 20))
            }
        };
        Room { end, pie_base }
    }

    /// The name of the machine in `uname`, for a task with this personality.
    pub const fn machine(self, personality: u32) -> &'static str {
        match self {
            Self::X86_64 if personality & 0xff != PER_LINUX32 => "x86_64",
            Self::X86_64 | Self::I386 { .. } => "i686",
        }
    }

    /// The selectors of code and data of i386 programs.
    pub const fn selectors(self) -> (u16, u16) {
        match self {
            Self::X86_64 => (0x23, 0x2b),
            Self::I386 { .. } => (0x73, 0x7b),
        }
    }

    /// What a program can see of the GDT, without the entries for threads.
    pub const fn descriptors(self) -> &'static [u64] {
        match self {
            Self::X86_64 => &GDT_X86_64,
            Self::I386 { .. } => &GDT_I386,
        }
    }

    /// The first entry of the GDT for threads (`GDT_ENTRY_TLS_MIN`).
    pub const fn first_thread_entry(self) -> u64 {
        match self {
            Self::X86_64 => 12,
            Self::I386 { .. } => 6,
        }
    }
}

impl Abi {
    /// What the program in an address space is written for.
    pub fn of(mm: &mm::Mm) -> Self {
        if mm.layout.task_end.as_u64() > u64::from(u32::MAX) { Self::X86_64 } else { Self::I386 }
    }

    /// Bytes of a pointer, and of a word of the auxiliary vector.
    pub const fn word_bytes(self) -> u64 {
        match self {
            Self::X86_64 => 8,
            Self::I386 => 4,
        }
    }

    /// Bytes of one program header.
    pub const fn program_header_bytes(self) -> usize {
        match self {
            Self::X86_64 => 56,
            Self::I386 => 32,
        }
    }

    /// `AT_PLATFORM`, with its NUL.
    pub const fn platform(self) -> &'static [u8] {
        match self {
            Self::X86_64 => b"x86_64\0",
            Self::I386 => b"i686\0",
        }
    }

    /// `value` as the bytes of one word; what does not fit is cut off.
    pub fn word(self, value: u64) -> Vec<u8> {
        let bytes = usize::from(self.word_bytes() as u8);
        value.to_le_bytes()[..bytes].to_vec()
    }
}

impl Kernel {
    /// Whether the running task is in a call of an i386 program.
    pub(crate) fn is_in_i386_call(&self) -> bool {
        self.task.call_abi == Abi::I386
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_as_long_as_pointers() {
        assert_eq!(Abi::I386.word(0x1_2345_6789), [0x89, 0x67, 0x45, 0x23]);
        assert_eq!(Abi::X86_64.word(1).len(), 8);
    }

    #[test]
    fn programs_are_where_linux_has_them() {
        let room = |kind: KernelKind, abi, personality| {
            let Room { end, pie_base } = kind.room(abi, personality);
            (end, pie_base)
        };
        let long = KernelKind::X86_64;
        assert_eq!(room(long, Abi::I386, 0), (0xffff_e000, 0x5655_5000));
        assert_eq!(room(long, Abi::I386, ADDR_LIMIT_3GB), (0xc000_0000, 0x4100_0000));
        assert_eq!(room(long, Abi::X86_64, ADDR_LIMIT_3GB).0, TASK_END);
        for page_offset in [0xc000_0000, 0xb000_0000, 0x8000_0000, 0x7800_0000, 0x4000_0000] {
            let old = KernelKind::I386 { page_offset };
            for personality in [0, ADDR_LIMIT_3GB] {
                assert_eq!(room(old, Abi::I386, personality), (page_offset, 0x40_0000));
            }
            assert!(long.runs(Abi::I386) && !old.runs(Abi::X86_64));
        }
    }
}
