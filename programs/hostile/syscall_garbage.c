/*
 * Every system call number with every kind of bad argument. Never run natively as it is: it would
 * do harm. Inside, each call must return; calls that end a program are left out. A call that would
 * wait for ever, as it should, is ended by a timer.
 */
#include "hostile.h"
#include <sys/time.h>

static int skipped(long number)
{
	static const int ends[] = {
		SYS_exit,	 SYS_exit_group, SYS_pause,	  SYS_rt_sigsuspend, SYS_rt_sigreturn,
		SYS_munmap,	 SYS_mremap,	 SYS_brk,	  SYS_mprotect,	     SYS_mmap,
		SYS_kill,	 SYS_tkill,	 SYS_tgkill,	  SYS_poll,	     SYS_ppoll,
		SYS_select,	 SYS_pselect6,	 SYS_nanosleep,	  SYS_clock_nanosleep, SYS_madvise,
		SYS_arch_prctl,	 SYS_rt_sigtimedwait, SYS_rt_sigaction, SYS_alarm, SYS_setitimer,
		SYS_timer_settime, SYS_epoll_wait, SYS_epoll_pwait, SYS_setrlimit, SYS_prlimit64,
		SYS_close,	 SYS_close_range, SYS_dup2,	  SYS_dup3,	     SYS_pkey_mprotect,
		SYS_rt_sigprocmask, SYS_sigaltstack, SYS_shmat,	  SYS_remap_file_pages,
		SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_execve, SYS_execveat, SYS_futex,
		SYS_process_madvise, SYS_prctl, SYS_fcntl, SYS_seccomp,
		SYS_fork,	 SYS_vfork,	 SYS_clone,	  SYS_clone3,
	};

	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (ends[i] == number)
			return 1;
	return 0;
}

static long values[12];

static void tick(int number)
{
	(void)number;
}

static void keep_ticking(void)
{
	struct sigaction action = { .sa_handler = tick };
	struct itimerval soon = { { 0, 1000 }, { 0, 1000 } };

	sigaction(SIGALRM, &action, 0);
	setitimer(ITIMER_REAL, &soon, 0);
}

int main(void)
{
	unsigned long x = 88172645463325252ul, calls = 0;
	char *lone = lone_page(PROT_READ | PROT_WRITE);
	long chosen[] = { 0, 1, -1, 8, (long)lone, (long)(lone + PAGE - 1), (long)(lone + PAGE),
			  0x7ffffffff000, (long)0x8000000000000000, (long)0xffffffff81000000,
			  0x7fffffffffffffff, 4096 };

	memcpy(values, chosen, sizeof values);
	keep_ticking();
	for (long number = -2; number < 480; number++) {
		if (skipped(number))
			continue;
		for (int round = 0; round < 48; round++) {
			long a[6];
			for (int i = 0; i < 6; i++) {
				x ^= x << 13, x ^= x >> 7, x ^= x << 17;
				a[i] = values[x % 12];
			}
			/* Standard streams stay as they are: no call on 0 to 2 but bad ones. */
			if (a[0] == 0 || a[0] == 1)
				a[0] = 77;
			syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
			calls++;
		}
	}
	syscall(0x7fffffff, 1, 2, 3);
	syscall(-1l, 1, 2, 3);
	syscall(0x40000001, 1, 2, 3);
	printf("%s\n", calls > 10000 ? "survived" : "too few calls");
	return 0;
}
