/* Signal calls with arguments that Linux refuses. */
#include "hostile.h"

int main(void)
{
	struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } action = { 0 };
	stack_t small = { .ss_sp = (void *)0x10000, .ss_size = 100 };
	stack_t odd = { .ss_sp = (void *)0x10000, .ss_size = 65536, .ss_flags = 0x1234 };
	uint64_t set = -1, old = 0;

	CALL("sigaction 0", syscall(SYS_rt_sigaction, 0, &action, 0, 8));
	CALL("sigaction 65", syscall(SYS_rt_sigaction, 65, &action, 0, 8));
	CALL("sigaction -1", syscall(SYS_rt_sigaction, -1, &action, 0, 8));
	CALL("sigaction KILL", syscall(SYS_rt_sigaction, SIGKILL, &action, 0, 8));
	CALL("sigaction STOP", syscall(SYS_rt_sigaction, SIGSTOP, &action, 0, 8));
	CALL("sigaction size", syscall(SYS_rt_sigaction, SIGUSR1, &action, 0, 16));
	CALL("sigaction pointer", syscall(SYS_rt_sigaction, SIGUSR1, 8, 0, 8));
	CALL("sigaction old pointer", syscall(SYS_rt_sigaction, SIGUSR1, 0, 8, 8));
	CALL("sigprocmask how", syscall(SYS_rt_sigprocmask, 9, &set, 0, 8));
	CALL("sigprocmask how unused", syscall(SYS_rt_sigprocmask, 9, 0, &old, 8));
	CALL("sigprocmask size", syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, 0, 4));
	CALL("sigprocmask pointer", syscall(SYS_rt_sigprocmask, SIG_BLOCK, -8l, 0, 8));
	CALL("sigprocmask all", syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, 0, 8));
	CALL("sigprocmask read", syscall(SYS_rt_sigprocmask, SIG_BLOCK, 0, &old, 8));
	printf("mask %#lx\n", (unsigned long)old);
	CALL("sigaltstack small", sigaltstack(&small, 0));
	CALL("sigaltstack flags", sigaltstack(&odd, 0));
	CALL("sigaltstack pointer", syscall(SYS_sigaltstack, 8, 0));
	CALL("kill signal", kill(getpid(), 65));
	CALL("kill -1", kill(getpid(), -1));
	CALL("kill nothing", kill(getpid(), 0));
	CALL("kill no such", kill(0x7ffffff0, 0));
	CALL("tgkill no such", syscall(SYS_tgkill, getpid(), 0x7ffffff0, 0));
	CALL("tgkill zero", syscall(SYS_tgkill, 0, 0, 0));
	return 0;
}
