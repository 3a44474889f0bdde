//! The first content of the stack: arguments, environment and the auxiliary vector.
//!
//! ```text
//! stack_top  8 zero bytes
//!            path of the program          AT_EXECFN
//!            environment strings
//!            argument strings             arg_start
//!            (padding to 16)
//!            "x86_64"                     AT_PLATFORM
//!            16 random bytes              AT_RANDOM
//!            (padding)
//!            auxiliary vector, AT_NULL last
//!            envp pointers, NULL
//!            argv pointers, NULL
//! rsp    ->  argc                         16-aligned
//! ```
//!
//! Pure: bytes and addresses come in, one block of bytes goes out.
//!
//! # Source
//! Linux 6.12 `fs/exec.c:bprm_*`, `fs/binfmt_elf.c:create_elf_tables`; semantics ELF-10, ELF-11.

use crate::abi::Abi;
use crate::errno::Errno;

/// The longest single string, its NUL included (32 pages).
const STRING_BYTES_MAX: usize = 128 << 10;
/// All strings and pointers together: never more than this.
const STRINGS_BYTES_MAX: u64 = 6 << 20;
/// And never less than this, whatever the stack limit.
const STRINGS_BYTES_MIN: u64 = 128 << 10;

const AT_NULL: u64 = 0;
const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_PAGESZ: u64 = 6;
const AT_BASE: u64 = 7;
const AT_FLAGS: u64 = 8;
const AT_ENTRY: u64 = 9;
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_PLATFORM: u64 = 15;
const AT_HWCAP: u64 = 16;
const AT_CLKTCK: u64 = 17;
const AT_SECURE: u64 = 23;
const AT_RANDOM: u64 = 25;
const AT_HWCAP2: u64 = 26;
const AT_RSEQ_FEATURE_SIZE: u64 = 27;
const AT_RSEQ_ALIGN: u64 = 28;
const AT_EXECFN: u64 = 31;
const AT_SYSINFO: u64 = 32;
const AT_SYSINFO_EHDR: u64 = 33;
const AT_MINSIGSTKSZ: u64 = 51;

/// The strings that a program gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Strings {
    /// Arguments, the zeroth included.
    pub args: Vec<Vec<u8>>,
    /// Environment.
    pub env: Vec<Vec<u8>>,
    /// The path that was executed.
    pub path: Vec<u8>,
}

impl Strings {
    /// Bytes of all strings with their NULs and the 8 zero bytes at the top.
    pub fn bytes(&self) -> u64 {
        let lists = self.args.iter().chain(&self.env);
        let strings: usize = lists.map(|text| text.len() + 1).sum();
        (strings + self.path.len() + 1 + 8) as u64
    }

    /// Refuses what does not fit (STK-7).
    ///
    /// # Errors
    /// `E2BIG`: a string, or all together, are too long for a stack of `stack_bytes`.
    pub fn check(&self, stack_bytes: u64) -> Result<(), Errno> {
        let mut lists = self.args.iter().chain(&self.env);
        if lists.any(|text| text.len() >= STRING_BYTES_MAX) {
            return Err(Errno::E2BIG);
        }
        let pointers = (self.args.len() + self.env.len()) as u64 * 8;
        let limit = (stack_bytes / 4).clamp(STRINGS_BYTES_MIN, STRINGS_BYTES_MAX);
        let wanted = self.bytes() + pointers;
        if wanted > limit { Err(Errno::E2BIG) } else { Ok(()) }
    }
}

/// What the auxiliary vector says beside addresses on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Auxiliary {
    /// What the program is written for: the size of all words.
    pub abi: Abi,
    /// The vDSO.
    pub vdso: u64,
    /// The function of the vDSO by which i386 programs call the system; 0 on x86-64.
    pub vsyscall: u64,
    /// Least size of a signal stack.
    pub signal_stack_bytes: u64,
    /// CPUID.1:EDX.
    pub hwcap: u64,
    /// Bit 1: the FSGSBASE instructions may be used.
    pub hwcap2: u64,
    /// Program headers in memory.
    pub table: u64,
    /// Their number.
    pub table_count: u16,
    /// Bias of the interpreter, 0 without one.
    pub base: u64,
    /// First instruction of the program itself.
    pub entry: u64,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The random bytes.
    pub random: [u8; 16],
}

/// The block of bytes for the top of the stack, and where its parts are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Address of the first byte: the stack pointer.
    pub start: u64,
    /// The bytes, up to the top of the stack.
    pub bytes: Vec<u8>,
    /// First argument string.
    pub arg_start: u64,
    /// End of the arguments, first environment string.
    pub arg_end: u64,
    /// End of the environment.
    pub env_end: u64,
}

impl Block {
    /// The words for the program, and the strings above them.
    pub fn split(&self) -> (&[u8], &[u8]) {
        let words = usize::try_from(self.arg_start - self.start).unwrap_or(self.bytes.len());
        self.bytes.split_at(words)
    }
}

/// Lays everything out below `top`.
pub fn build(top: u64, strings: &Strings, auxiliary: &Auxiliary) -> Block {
    let arg_start = top - strings.bytes();
    let mut text = Vec::new();
    let mut place = |items: &[Vec<u8>]| -> Vec<u64> {
        let mut addresses = Vec::new();
        for item in items {
            addresses.push(arg_start + text.len() as u64);
            text.extend_from_slice(item);
            text.push(0);
        }
        addresses
    };
    let args = place(&strings.args);
    let env = place(&strings.env);
    let path = place(std::slice::from_ref(&strings.path));
    text.extend([0; 8]);
    let env_start = env.first().copied();
    let path_start = path.first().copied().unwrap_or(top);
    let arg_end = env_start.unwrap_or(path_start);

    let abi = auxiliary.abi;
    let platform = (arg_start & !15) - abi.platform().len() as u64;
    let random = platform - 16;
    let vector = vector(auxiliary, [random, path_start, platform]);
    let mut words = vec![strings.args.len() as u64];
    words.extend(args);
    words.push(0);
    words.extend(env);
    words.push(0);
    let start =
        (random - (random & 7) - (words.len() + vector.len()) as u64 * abi.word_bytes()) & !15;
    words.extend(vector);

    let mut bytes: Vec<u8> = words.iter().flat_map(|&word| abi.word(word)).collect();
    let pad_to = |bytes: &mut Vec<u8>, addr: u64| {
        bytes.resize(usize::try_from(addr - start).unwrap_or(bytes.len()), 0);
    };
    pad_to(&mut bytes, random);
    bytes.extend(auxiliary.random);
    bytes.extend(abi.platform());
    pad_to(&mut bytes, arg_start);
    bytes.extend(text);
    Block { start, bytes, arg_start, arg_end, env_end: path_start }
}

/// The auxiliary vector, in the order of Linux.
fn vector(auxiliary: &Auxiliary, [random, path, platform]: [u64; 3]) -> Vec<u64> {
    let sysinfo = (auxiliary.vsyscall != 0).then_some((AT_SYSINFO, auxiliary.vsyscall));
    let rest = [
        (AT_SYSINFO_EHDR, auxiliary.vdso),
        (AT_MINSIGSTKSZ, auxiliary.signal_stack_bytes),
        (AT_HWCAP, auxiliary.hwcap),
        (AT_PAGESZ, machine::PAGE_BYTES),
        (AT_CLKTCK, 100),
        (AT_PHDR, auxiliary.table),
        (AT_PHENT, auxiliary.abi.program_header_bytes() as u64),
        (AT_PHNUM, auxiliary.table_count.into()),
        (AT_BASE, auxiliary.base),
        (AT_FLAGS, 0),
        (AT_ENTRY, auxiliary.entry),
        (AT_UID, auxiliary.uid.into()),
        (AT_EUID, auxiliary.uid.into()),
        (AT_GID, auxiliary.gid.into()),
        (AT_EGID, auxiliary.gid.into()),
        (AT_SECURE, 0),
        (AT_RANDOM, random),
        (AT_HWCAP2, auxiliary.hwcap2),
        (AT_EXECFN, path),
        (AT_PLATFORM, platform),
        (AT_RSEQ_FEATURE_SIZE, 28),
        (AT_RSEQ_ALIGN, 32),
        (AT_NULL, 0),
    ];
    sysinfo.into_iter().chain(rest).flat_map(|(kind, value)| [kind, value]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auxiliary() -> Auxiliary {
        Auxiliary {
            abi: Abi::X86_64,
            vsyscall: 0,
            vdso: 1,
            signal_stack_bytes: 2,
            hwcap: 3,
            hwcap2: 0,
            table: 4,
            table_count: 5,
            base: 6,
            entry: 7,
            uid: 8,
            gid: 9,
            random: [0xaa; 16],
        }
    }

    #[test]
    fn the_block_reaches_the_top_and_starts_aligned() {
        for count in 0..20 {
            let strings = Strings {
                args: vec![vec![b'a'; count]; count],
                env: vec![b"X=1".to_vec(); count / 3],
                path: b"/bin/p".to_vec(),
            };
            let block = build(0x7fff_ffff_f000, &strings, &auxiliary());
            assert_eq!(block.start % 16, 0);
            assert_eq!(block.start + block.bytes.len() as u64, 0x7fff_ffff_f000);
            assert_eq!(&block.bytes[block.bytes.len() - 15..], b"/bin/p\0\0\0\0\0\0\0\0\0");
            assert_eq!(block.bytes[0], count as u8);
        }
    }

    #[test]
    fn random_bytes_lie_where_linux_puts_them() {
        // Measured natively: AT_RANDOM ends with 9 because "x86_64" and its NUL lie above it.
        let strings = Strings { args: vec![b"a".to_vec()], env: vec![], path: b"p".to_vec() };
        let block = build(0x7fff_ffff_f000, &strings, &auxiliary());
        let words: Vec<u64> = block
            .bytes
            .chunks_exact(8)
            .map(|word| word.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
            .collect();
        let index = words.iter().position(|&word| word == AT_RANDOM).expect("it is there");
        assert_eq!(words[index + 1] & 15, 9);
    }

    #[test]
    fn too_long_strings_are_refused() {
        let long = |bytes: usize, count: usize| Strings {
            args: vec![vec![b'a'; bytes]; count],
            env: vec![],
            path: vec![],
        };
        assert_eq!(long(STRING_BYTES_MAX, 1).check(8 << 20), Err(Errno::E2BIG));
        assert_eq!(long(STRING_BYTES_MAX - 1, 1).check(8 << 20), Ok(()));
        assert_eq!(long(100_000, 21).check(8 << 20), Err(Errno::E2BIG));
        assert_eq!(long(100_000, 20).check(8 << 20), Ok(()));
    }
}
