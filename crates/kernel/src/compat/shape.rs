//! Structures in their two forms: what each field is with words of 32 and of 64 bits.
//!
//! # Source
//! Linux 6.12 `include/linux/compat.h`, `arch/x86/include/asm/compat.h`.

use super::{wide, word};
use crate::errno::Errno;

/// One field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    /// A `long`.
    Long,
    /// An `unsigned long` or a pointer.
    Address,
    /// An `unsigned long` that counts; too large a one does not fit: `EOVERFLOW`.
    Count,
    /// An `unsigned long`; too large a one is told as the largest `int`.
    Capped,
    /// An offset; one that does not fit: `EOVERFLOW`.
    Offset,
    /// A length; one that does not fit is told as the largest.
    Length,
    /// A resource limit: the largest number means none.
    Limit,
    /// A `long long` of which a 32-bit program means the lower half.
    Low,
    /// So many bytes that are the same in both.
    Same(usize),
    /// Bytes that only the 32-bit form has.
    Only32(usize),
    /// Bytes that only the 64-bit form has.
    Only64(usize),
}

/// A structure.
pub(super) type Shape = [Field];

use Field::{Address, Capped, Count, Length, Limit, Long, Low, Offset, Only32, Only64, Same};

/// One `long`.
pub(super) const LONG: &Shape = &[Long];
/// `struct timespec`, `struct timeval`.
pub(super) const TIME: &Shape = &[Long, Long];
/// Two of them: `struct itimerval`, `struct itimerspec`, the times of `utimes`.
pub(super) const TIMES: &Shape = &[Long, Long, Long, Long];
/// `struct __kernel_timespec` of a program whose nanoseconds have 32 bits.
pub(super) const TIME_64: &Shape = &[Same(8), Low];
/// Two of them.
pub(super) const TIMES_64: &Shape = &[Same(8), Low, Same(8), Low];
/// `struct tms`.
pub(super) const TMS: &Shape = &[Long, Long, Long, Long];
/// `struct utimbuf`.
pub(super) const UTIMBUF: &Shape = &[Long, Long];
/// `struct rlimit`.
pub(super) const RLIMIT: &Shape = &[Limit, Limit];
/// Likewise, of a program that takes the largest signed number for none.
pub(super) const RLIMIT_OLD: &Shape = &[Capped, Capped];
/// `struct rusage`.
pub(super) const RUSAGE: &Shape = &[Long; 18];
/// `struct sigaction` of `rt_sigaction`.
pub(super) const SIGACTION: &Shape = &[Address, Address, Address, Same(8)];
/// `stack_t`.
pub(super) const STACK: &Shape = &[Address, Same(4), Only64(4), Address];
/// `struct sigevent`; the thread number is the only member of the union that means anything.
pub(super) const SIGEVENT: &Shape = &[Address, Same(12), Only32(48), Only64(44)];
/// `struct flock`.
pub(super) const FLOCK: &Shape = &[Same(4), Only64(4), Offset, Length, Same(4), Only64(4)];
/// `struct flock64`.
pub(super) const FLOCK_64: &Shape = &[Same(4), Only64(4), Same(16), Same(4), Only64(4)];
/// `struct statfs`.
pub(super) const STATFS: &Shape = &[
    Long,
    Long,
    Count,
    Count,
    Count,
    Count,
    Count,
    Same(8),
    Long,
    Long,
    Long,
    Long,
    Long,
    Long,
    Long,
];
/// `struct statfs64`.
pub(super) const STATFS_64: &Shape =
    &[Long, Long, Same(40), Same(8), Long, Long, Long, Long, Long, Long, Long];
/// What `waitid` tells of a child: a part of `siginfo_t`.
pub(super) const CHILD: &Shape = &[Same(12), Only64(4), Same(12), Only64(100)];
/// The arguments of the last pointer of `pselect6`.
pub(super) const MASK: &Shape = &[Address, Address];

/// Bytes of the 32-bit form.
pub(super) fn bytes_32(shape: &Shape) -> usize {
    let bytes = |field: &Field| match field {
        Long | Address | Count | Capped | Offset | Length | Limit => 4,
        Low => 8,
        Same(bytes) | Only32(bytes) => *bytes,
        Only64(_) => 0,
    };
    shape.iter().map(bytes).sum()
}

/// Bytes of the 64-bit form.
pub(super) fn bytes_64(shape: &Shape) -> usize {
    let bytes = |field: &Field| match field {
        Long | Address | Count | Capped | Offset | Length | Limit | Low => 8,
        Same(bytes) | Only64(bytes) => *bytes,
        Only32(_) => 0,
    };
    shape.iter().map(bytes).sum()
}

/// The 64-bit form of a structure of [`bytes_32`] bytes.
pub(super) fn widen(shape: &Shape, bytes: &[u8]) -> Vec<u8> {
    let mut wide = Vec::with_capacity(bytes_64(shape));
    let mut at = 0;
    for field in shape {
        match *field {
            Long | Offset | Length => wide.extend(super::signed(word(bytes, at)).to_le_bytes()),
            Limit if word(bytes, at) == 0xffff_ffff => wide.extend(u64::MAX.to_le_bytes()),
            Address | Count | Capped | Limit | Low => wide.extend(word(bytes, at).to_le_bytes()),
            Same(count) => wide.extend(&bytes[at..at + count]),
            Only32(_) => {}
            Only64(count) => wide.resize(wide.len() + count, 0),
        }
        at += bytes_32(&[*field]);
    }
    wide
}

/// The 32-bit form of a structure of [`bytes_64`] bytes.
///
/// # Errors
/// `EOVERFLOW`: a count does not fit.
pub(super) fn narrow(shape: &Shape, bytes: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut slim = Vec::with_capacity(bytes_32(shape));
    let mut at = 0;
    for field in shape {
        let low = bytes.get(at..at + 4).unwrap_or(&[0; 4]);
        let signed_wide = |at| wide(bytes, at).cast_signed();
        let is_large = || bytes[at + 4..at + 8] != [0; 4];
        match *field {
            Count if is_large() => return Err(Errno::EOVERFLOW),
            Limit if is_large() => slim.extend([0xff; 4]),
            Capped if is_large() || low[3] >> 7 != 0 => slim.extend(i32::MAX.to_le_bytes()),
            Offset if signed_wide(at) > i32::MAX.into() => return Err(Errno::EOVERFLOW),
            Length if signed_wide(at) > i32::MAX.into() => slim.extend(i32::MAX.to_le_bytes()),
            Long | Address | Count | Capped | Offset | Length | Limit => slim.extend(low),
            Low => slim.extend(&bytes[at..at + 8]),
            Same(count) => slim.extend(&bytes[at..at + count]),
            Only32(count) => slim.resize(slim.len() + count, 0),
            Only64(_) => {}
        }
        at += bytes_64(&[*field]);
    }
    Ok(slim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_those_of_linux() {
        let sizes = [
            (TIME, 8, 16),
            (RUSAGE, 72, 144),
            (SIGACTION, 20, 32),
            (STACK, 12, 24),
            (SIGEVENT, 64, 64),
            (FLOCK, 16, 32),
            (FLOCK_64, 24, 32),
            (STATFS, 64, 120),
            (STATFS_64, 84, 120),
        ];
        for (shape, slim, wide) in sizes {
            assert_eq!((bytes_32(shape), bytes_64(shape)), (slim, wide), "{shape:?}");
        }
    }

    #[test]
    fn numbers_keep_their_meaning() {
        assert_eq!(widen(&[Long], &[0xff; 4]), [0xff; 8]);
        assert_eq!(widen(&[Address], &[0xff; 4]), [255, 255, 255, 255, 0, 0, 0, 0]);
        assert_eq!(widen(&[Limit], &[0xff; 4]), [0xff; 8]);
        assert_eq!(narrow(&[Limit], &(1_u64 << 32).to_le_bytes()), Ok(vec![0xff; 4]));
        assert_eq!(narrow(&[Count], &(1_u64 << 32).to_le_bytes()), Err(Errno::EOVERFLOW));
        assert_eq!(narrow(&[Offset], &(1_u64 << 31).to_le_bytes()), Err(Errno::EOVERFLOW));
        assert_eq!(narrow(&[Offset], &u64::MAX.to_le_bytes()), Ok(vec![0xff; 4]));
        assert_eq!(narrow(&[Length], &(1_u64 << 31).to_le_bytes()), Ok(vec![255, 255, 255, 127]));
        let low = [1, 0, 0, 0, 0xaa, 0xaa, 0xaa, 0xaa];
        assert_eq!(widen(&[Low], &low), 1_u64.to_le_bytes());
    }
}
