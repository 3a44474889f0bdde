//! What `/proc/sysvipc` says of segments, semaphores and queues.
//!
//! # Source
//! Linux 6.12 `ipc/shm.c:sysvipc_shm_proc_show`, `ipc/sem.c`, `ipc/msg.c`.

use std::fmt::Write;

use machine::PAGE_BYTES;

use super::Permissions;
use crate::Kernel;

/// Pages of one segment that are looked for, at most.
const PAGES_MAX: u64 = 1 << 20;

/// Key, number and mode: the first columns.
fn head(id: u32, permissions: &Permissions) -> String {
    // The key is an `int` to Linux.
    let key = permissions.key.cast_signed();
    format!("{key:>10} {id:>10}  {:>4o}", permissions.mode)
}

/// Whose it is, and who made it.
fn users(permissions: &Permissions) -> String {
    let Permissions { uid, gid, maker_uid, maker_gid, .. } = permissions;
    format!("{uid:>5} {gid:>5} {maker_uid:>5} {maker_gid:>5}")
}

/// `/proc/sysvipc/shm`.
pub(crate) fn segments(kernel: &Kernel) -> String {
    let mut text = "       key      shmid perms                  size  cpid  lpid nattch   uid   \
                    gid  cuid  cgid      atime      dtime      ctime                   \
                    rss                  swap\n"
        .to_owned();
    for (&id, entry) in &kernel.ipc.segments.entries {
        let segment = &entry.data;
        let object = segment.file.object;
        let pages = segment.bytes.div_ceil(PAGE_BYTES).min(PAGES_MAX);
        let resident = (0..pages).filter(|&page| kernel.memory.cached_page(object, page).is_some());
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{} {:>21} {:>5} {:>5}  {:>5} {} {:>10} {:>10} {:>10} {:>21} {:>21}",
            head(id, &entry.permissions),
            segment.bytes,
            segment.maker_pid,
            segment.last_pid,
            kernel.attach_count(object),
            users(&entry.permissions),
            segment.attached_s,
            segment.detached_s,
            segment.changed_s,
            resident.count() as u64 * PAGE_BYTES,
            kernel.memory.object_swap_pages(object) * PAGE_BYTES,
        );
    }
    text
}

/// `/proc/sysvipc/sem`.
pub(crate) fn semaphores(kernel: &Kernel) -> String {
    let mut text =
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      \
                    ctime\n"
            .to_owned();
    for (&id, entry) in &kernel.ipc.sets.entries {
        let set = &entry.data;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{} {:>10} {} {:>10} {:>10}",
            head(id, &entry.permissions),
            set.values.len(),
            users(&entry.permissions),
            set.used_s,
            set.changed_s,
        );
    }
    text
}

/// `/proc/sysvipc/msg`.
pub(crate) fn queues(kernel: &Kernel) -> String {
    let mut text = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  \
                    cuid  cgid      stime      rtime      ctime\n"
        .to_owned();
    for (&id, entry) in &kernel.ipc.queues.entries {
        let queue = &entry.data;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{}  {:>10} {:>10} {:>5} {:>5} {} {:>10} {:>10} {:>10}",
            head(id, &entry.permissions),
            queue.bytes(),
            queue.messages.len(),
            queue.last_sender,
            queue.last_receiver,
            users(&entry.permissions),
            queue.sent_s,
            queue.received_s,
            queue.changed_s,
        );
    }
    text
}
