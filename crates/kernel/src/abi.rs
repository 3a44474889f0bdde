//! The two sets of rules a program can be written for: x86-64, and i386 on a 64-bit kernel.
//!
//! # Source
//! Linux 6.12 `arch/x86/include/asm/{processor,elf,page_32_types}.h`; the addresses of i386
//! programs measured natively (`/proc/PID/maps` under `setarch -R`).

use crate::uaccess::TASK_END;

/// What a program is written for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Abi {
    /// 64-bit programs.
    #[default]
    X86_64,
    /// 32-bit programs on a 64-bit kernel.
    I386,
}

/// First byte that no i386 program may map (`IA32_PAGE_OFFSET`).
const TASK_END_I386: u64 = 0xffff_e000;

impl Abi {
    /// First byte that no task may map, and the end of its stack.
    pub const fn task_end(self) -> u64 {
        match self {
            Self::X86_64 => TASK_END,
            Self::I386 => TASK_END_I386,
        }
    }

    /// Where programs that may be anywhere go (`ELF_ET_DYN_BASE`).
    pub const fn pie_base(self) -> u64 {
        match self {
            Self::X86_64 => TASK_END / 3 * 2,
            // `COMPAT_ELF_ET_DYN_BASE`: a third of user space, up to a page, and 16 MiB.
            Self::I386 => 0x5655_5000,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_as_long_as_pointers() {
        assert_eq!(Abi::I386.word(0x1_2345_6789), [0x89, 0x67, 0x45, 0x23]);
        assert_eq!(Abi::X86_64.word(1).len(), 8);
        let third = (Abi::I386.task_end() / 3).next_multiple_of(4096);
        assert_eq!(Abi::I386.pie_base(), third + (16 << 20));
    }
}
