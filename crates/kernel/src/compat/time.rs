//! Calls about time whose arguments mean different things from case to case.

use super::Args;
use super::shape::{Shape, TIME, TIME_64};
use crate::Kernel;
use crate::errno::SysResult;

const FUTEX: u16 = 202;

/// The fourth argument is a time in some operations and a number in others.
fn with_timeout(kernel: &mut Kernel, args: Args, shape: &'static Shape) -> SysResult {
    // WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2.
    let has_timeout = matches!(args[1] & 0x7f, 0 | 6 | 9 | 11 | 13);
    let mut args = args;
    if has_timeout && args[3] != 0 {
        args[3] = kernel.lend(args[3], shape)?;
    }
    kernel.call_native(FUTEX, args)
}

pub(super) fn futex(kernel: &mut Kernel, args: Args) -> SysResult {
    with_timeout(kernel, args, TIME)
}

pub(super) fn futex_time64(kernel: &mut Kernel, args: Args) -> SysResult {
    with_timeout(kernel, args, TIME_64)
}
