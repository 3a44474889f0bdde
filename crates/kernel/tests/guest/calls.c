/* Error numbers and results of calls about the process, time and the machine. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char area[64] __attribute__((aligned(64)));

#define CALL(...) call(#__VA_ARGS__, syscall(__VA_ARGS__))

static void call(const char *text, long result)
{
	if (result < 0)
		printf("> %s: errno %d\n", text, errno);
	else
		printf("> %s: %ld\n", text, result);
}

int main(void)
{
	char *bad = (char *)8, *hole = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *edge = hole + 4096 - 4;
	struct timespec negative = { -1, 0 }, large = { 0, 1000000000 }, soon = { 0, 1000 }, past = { 1, 0 };
	struct timeval before, after;
	uint32_t word = 5;
	struct rlimit limit;
	struct utsname name;
	unsigned long mask[16];
	char text[32] = "";

	setvbuf(stdout, 0, _IOLBF, 0);
	munmap(hole + 4096, 4096);
	CALL(SYS_futex, &word, FUTEX_WAIT, 4, 0, 0, 0);
	CALL(SYS_futex, &word, FUTEX_WAIT, 5, &soon, 0, 0);
	CALL(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 5, &negative, 0, 0);
	CALL(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 5, &past, 0, ~0);
	CALL(SYS_futex, &word, FUTEX_WAIT_BITSET, 5, &past, 0, ~0);
	CALL(SYS_futex, &word, FUTEX_WAIT_BITSET, 5, &past, 0, 0);
	CALL(SYS_futex, (char *)&word + 1, FUTEX_WAIT, 5, 0, 0, 0);
	CALL(SYS_futex, bad, FUTEX_WAIT, 5, 0, 0, 0);
	CALL(SYS_futex, &word, FUTEX_WAKE, 1, 0, 0, 0);
	CALL(SYS_futex, &word, FUTEX_WAKE_BITSET, 1, 0, 0, 0);
	CALL(SYS_futex, &word, FUTEX_CMP_REQUEUE, 1, 1, &mask, 4);
	CALL(SYS_futex, &word, FUTEX_CMP_REQUEUE, 1, 1, &mask, 5);
	CALL(SYS_futex, &word, FUTEX_WAKE_OP, 1, 1, &word, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5));
	printf("> word %u\n", word);
	CALL(SYS_futex, &word, 77, 1, 0, 0, 0);
	CALL(SYS_clock_gettime, 99, &soon);
	CALL(SYS_clock_gettime, 0, bad);
	CALL(SYS_clock_gettime, 1, hole);
	CALL(SYS_clock_getres, 1, &soon);
	printf("> resolution %ld\n", soon.tv_nsec);
	CALL(SYS_clock_getres, 1, 0);
	CALL(SYS_clock_nanosleep, 1, TIMER_ABSTIME, &past, 0);
	CALL(SYS_clock_nanosleep, 77, 0, &soon, 0);
	CALL(SYS_nanosleep, &negative, 0);
	CALL(SYS_nanosleep, &large, 0);
	CALL(SYS_nanosleep, bad, 0);
	gettimeofday(&before, 0);
	usleep(30000);
	gettimeofday(&after, 0);
	timersub(&after, &before, &after);
	printf("> slept %d\n", after.tv_usec >= 30000 && after.tv_usec < 300000);
	CALL(SYS_alarm, 100);
	CALL(SYS_alarm, 0);
	CALL(SYS_setitimer, 5, 0, 0);
	CALL(SYS_getitimer, 0, bad);
	CALL(SYS_getrlimit, 77, &limit);
	CALL(SYS_getrlimit, 3, bad);
	limit = (struct rlimit){ 5, 4 };
	CALL(SYS_setrlimit, RLIMIT_STACK, &limit);
	CALL(SYS_prlimit64, 0, RLIMIT_AS, 0, &limit);
	printf("> address space %lx\n", (long)limit.rlim_cur);
	CALL(SYS_prlimit64, 999999999, RLIMIT_AS, 0, &limit);
	CALL(SYS_getrusage, 5, area);
	CALL(SYS_getrusage, 0, bad);
	CALL(SYS_uname, bad);
	CALL(SYS_uname, &name);
	printf("> %s %s\n", name.sysname, name.machine);
	CALL(SYS_wait4, -1, 0, 0, 0);
	CALL(SYS_wait4, -1, 0, 0x100, 0);
	CALL(SYS_kill, 999999999, 0);
	CALL(SYS_kill, getpid(), 0);
	CALL(SYS_tgkill, 0, 0, 0);
	CALL(SYS_tgkill, getpid(), 999999999, 0);
	CALL(SYS_arch_prctl, 0x1002, 0x800000000000);
	CALL(SYS_arch_prctl, 0x1003, bad);
	CALL(SYS_arch_prctl, 0x9999, 0);
	CALL(SYS_rseq, area, 32, 0, 1);
	CALL(SYS_set_robust_list, area, 23);
	CALL(SYS_sched_getaffinity, 0, 3, mask);
	CALL(SYS_sched_getaffinity, 999999999, 128, mask);
	CALL(SYS_sched_getaffinity, 0, 128, bad);
	CALL(SYS_sched_yield);
	CALL(SYS_sched_getscheduler, 0);
	CALL(SYS_sched_get_priority_max, SCHED_FIFO);
	CALL(SYS_sched_get_priority_min, SCHED_OTHER);
	CALL(SYS_sched_get_priority_min, 55);
	CALL(SYS_getpriority, PRIO_PROCESS, 0);
	CALL(SYS_getpriority, 9, 0);
	CALL(SYS_prctl, PR_SET_NAME, "a rather long name of a task");
	CALL(SYS_prctl, PR_GET_NAME, text);
	printf("> name %s\n", text);
	CALL(SYS_prctl, PR_SET_NAME, bad);
	CALL(SYS_prctl, PR_GET_DUMPABLE);
	CALL(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	CALL(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	CALL(SYS_prctl, 9999);
	CALL(SYS_getrandom, area, 0, 0);
	CALL(SYS_getrandom, area, 16, 0);
	CALL(SYS_getrandom, area, 16, 0x10);
	CALL(SYS_getrandom, area, 16, 6);
	CALL(SYS_getrandom, bad, 16, 0);
	CALL(SYS_getrandom, edge, 16, 0);
	CALL(SYS_getcpu, bad, 0, 0);
	CALL(SYS_time, bad);
	CALL(SYS_times, bad);
	CALL(SYS_gettimeofday, 0, 0);
	CALL(SYS_personality, 0xffffffff);
	CALL(SYS_execve, bad, 0, 0);
	CALL(SYS_execve, "/no/such", 0, 0);
	CALL(SYS_execve, "/etc/passwd", 0, 0);
	CALL(SYS_execve, "/tmp", 0, 0);
	CALL(SYS_execve, "/bin/true", bad, 0);
	CALL(SYS_mmap, 0, 0, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CALL(SYS_mmap, 0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 1);
	CALL(SYS_mmap, 0, 4096, 3, MAP_PRIVATE, 99, 0);
	CALL(SYS_mmap, 0, 4096, 3, MAP_ANONYMOUS, -1, 0);
	CALL(SYS_mmap, 0, ~0UL, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CALL(SYS_mmap, 1, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CALL(SYS_mmap, hole, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	CALL(SYS_mprotect, hole + 1, 4096, 3);
	CALL(SYS_mprotect, hole, 0, 3);
	CALL(SYS_mprotect, hole, 8192, 3);
	CALL(SYS_mprotect, hole, 4096, 0x100);
	CALL(SYS_munmap, hole + 1, 4096);
	CALL(SYS_munmap, hole, 0);
	CALL(SYS_mremap, hole, 4096, 8192, 8);
	CALL(SYS_mremap, hole, 0, 4096, MREMAP_MAYMOVE);
	CALL(SYS_madvise, hole, 4096, 99);
	CALL(SYS_madvise, hole, 8192, MADV_DONTNEED);
	CALL(SYS_msync, hole, 4096, 16);
	CALL(SYS_msync, hole, 8192, MS_SYNC);
	CALL(SYS_mincore, hole, 4096, bad);
	CALL(SYS_mincore, hole, 8192, area);
	CALL(SYS_mlock, hole, 8192);
	CALL(SYS_mlockall, 0);
	printf("> brk %d\n", syscall(SYS_brk, 1) == syscall(SYS_brk, 0));
	return 0;
}
