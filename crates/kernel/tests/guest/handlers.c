/* How handlers are entered and left: masks, stacks, flags, queues, floating point. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <time.h>
#include <unistd.h>

static volatile int depth, deepest, total, order[16], orders;
static char stack[1 << 16] __attribute__((aligned(4096)));

static unsigned long blocked(void)
{
	unsigned long mask = 0;

	syscall(SYS_rt_sigprocmask, 0, 0, &mask, 8);
	return mask;
}

static void plain(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	unsigned long at = (unsigned long)__builtin_frame_address(0);
	unsigned *software = (unsigned *)((char *)uc->uc_mcontext.fpregs + 464);

	printf("> handler %d code %d own %d mask %lx in context %lx on stack %d aligned %lu\n", number,
	       info->si_code, info->si_pid == getpid(), blocked(), *(unsigned long *)&uc->uc_sigmask,
	       at > (unsigned long)stack && at < (unsigned long)stack + sizeof stack, at % 16);
	printf("> magic %x xstate aligned %d below info %d\n", software[0],
	       (int)((unsigned long)uc->uc_mcontext.fpregs % 64 == 0),
	       (char *)uc->uc_mcontext.fpregs > (char *)info);
	printf("> stack in context %d flags %x\n", uc->uc_stack.ss_sp == (void *)stack,
	       uc->uc_stack.ss_flags);
}

static void nested(int number)
{
	if (++depth > deepest)
		deepest = depth;
	if (++total < 5)
		raise(number);
	depth--;
}

static void remember(int number, siginfo_t *info, void *context)
{
	if (orders < 16)
		order[orders++] = number * 1000 + info->si_value.sival_int;
}

static void change(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	uc->uc_mcontext.gregs[REG_RAX] = 77;
	uc->uc_mcontext.fpregs->_xmm[3].element[0] = 1234;
	uc->uc_mcontext.gregs[REG_RIP] += 2;
}

static void set(int number, void (*function)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = { .sa_sigaction = function, .sa_flags = flags | SA_SIGINFO };

	sigaddset(&action.sa_mask, SIGUSR2);
	sigaction(number, &action, 0);
}

int main(void)
{
	stack_t alt = { .ss_sp = stack, .ss_size = sizeof stack }, old;
	struct sigaction back;
	sigset_t all, before;
	siginfo_t info;
	struct timespec none = { 0 };
	uint32_t lane;
	long value;

	setvbuf(stdout, 0, _IOLBF, 0);
	set(SIGUSR1, plain, 0);
	raise(SIGUSR1);
	kill(getpid(), SIGUSR1);
	printf("> altstack %d\n", sigaltstack(&alt, &old));
	printf("> old flags %x\n", old.ss_flags);
	set(SIGUSR1, plain, SA_ONSTACK | SA_NODEFER);
	raise(SIGUSR1);
	set(SIGUSR1, plain, SA_RESETHAND);
	raise(SIGUSR1);
	sigaction(SIGUSR1, 0, &back);
	printf("> after resethand default %d\n", back.sa_handler == SIG_DFL);

	signal(SIGUSR1, SIG_DFL);
	struct sigaction deep = { .sa_handler = nested, .sa_flags = SA_NODEFER };
	sigaction(SIGUSR1, &deep, 0);
	raise(SIGUSR1);
	printf("> deepest %d\n", deepest);
	depth = deepest = total = 0;
	deep.sa_flags = 0;
	sigaction(SIGUSR1, &deep, 0);
	raise(SIGUSR1);
	printf("> deferred %d of %d\n", deepest, total);

	for (int i = 34; i < 38; i++)
		set(i, remember, 0);
	set(SIGUSR2, remember, 0);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	for (int i = 0; i < 3; i++) {
		union sigval word = { .sival_int = i };
		sigqueue(getpid(), 36, word);
		sigqueue(getpid(), 34, word);
		sigqueue(getpid(), SIGUSR2, word);
	}
	sigpending(&all);
	printf("> pending %d %d %d\n", sigismember(&all, 34), sigismember(&all, 36), sigismember(&all, SIGUSR2));
	sigemptyset(&all);
	sigaddset(&all, 34);
	printf("> wait %d", sigtimedwait(&all, &info, &none));
	printf(" value %d\n", info.si_value.sival_int);
	sigprocmask(SIG_SETMASK, &before, 0);
	for (int i = 0; i < orders; i++)
		printf("> got %d\n", order[i]);
	sigemptyset(&all);
	sigaddset(&all, 40);
	printf("> wait %d errno %d\n", sigtimedwait(&all, &info, &none), errno);

	set(SIGILL, change, 0);
	__asm__ volatile("pxor %%xmm3, %%xmm3; xor %%eax, %%eax; ud2; movd %%xmm3, %1"
			 : "=&a"(value), "=r"(lane) : : "xmm3");
	printf("> changed rax %ld xmm %u\n", value, lane);

	set(SIGALRM, remember, 0);
	orders = 0;
	struct itimerval soon = { .it_value = { 0, 2000 } };
	setitimer(ITIMER_REAL, &soon, 0);
	pause();
	printf("> alarm %d errno %d\n", orders, errno);
	struct timespec longer = { 5, 0 }, left;
	setitimer(ITIMER_REAL, &soon, 0);
	printf("> sleep %d", nanosleep(&longer, &left));
	printf(" errno %d left %ld\n", errno, (long)left.tv_sec);

	printf("> bad: %ld", syscall(SYS_rt_sigaction, SIGKILL, &deep, 0, 8));
	printf(" %d", errno);
	printf(" %ld", syscall(SYS_rt_sigaction, 65, 0, 0, 8));
	printf(" %d", errno);
	printf(" %ld", syscall(SYS_rt_sigaction, 10, 0, 0, 4));
	printf(" %d", errno);
	printf(" %ld", syscall(SYS_rt_sigprocmask, 7, &all, 0, 8));
	printf(" %d", errno);
	alt.ss_size = 100;
	printf(" %d", sigaltstack(&alt, 0));
	printf(" %d", errno);
	printf(" %d", kill(getpid(), 65));
	printf(" %d\n", errno);
	return 0;
}
