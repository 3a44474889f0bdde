/* Handlers of i386 programs: both frames, the other stack, the x87 and SSE, forged frames. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile int count;
static char other[65536] __attribute__((aligned(16)));

static void plain(int signal)
{
	count += signal;
}

static void told(int signal, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *regs = uc->uc_mcontext.gregs;

	printf("signal %d code %d addr %p trap %d error %d cs %x ss %x ds %x mask %lx\n", signal,
	       info->si_code, signal == SIGSEGV ? info->si_addr : 0, (int)regs[REG_TRAPNO],
	       (int)regs[REG_ERR], (int)regs[REG_CS], (int)regs[REG_SS], (int)regs[REG_DS],
	       uc->uc_sigmask.__val[0]);
	printf("stack %s aligned %d state %d\n",
	       (char *)&uc > other && (char *)&uc < other + sizeof other ? "other" : "own",
	       ((unsigned)__builtin_frame_address(0) + 8) % 16 == 0,
	       ((struct _libc_fpstate *)uc->uc_mcontext.fpregs)->status >> 16);
	if (signal == SIGSEGV)
		siglongjmp(back, 1);
	/* The program goes on with other numbers. */
	regs[REG_ESI] = 0x1234;
}

static void clobber(int signal)
{
	asm volatile("fninit; fldz; fldz; pxor %xmm0, %xmm0; pxor %xmm7, %xmm7");
	count++;
}

static void set(int signal, void *handler, int flags)
{
	struct sigaction action = { .sa_flags = flags };

	action.sa_sigaction = handler;
	if (sigaction(signal, &action, 0))
		perror("sigaction");
}

/* An action as the first kernels had it, without a restorer. */
static void set_old(int signal, void *handler)
{
	struct {
		void *handler;
		unsigned mask, flags;
		void *restorer;
	} new = { handler, 0, 0, 0 }, old;

	printf("old sigaction %ld\n", syscall(SYS_sigaction, signal, &new, 0));
	printf("again %ld same %d flags %x\n", syscall(SYS_sigaction, signal, 0, &old),
	       old.handler == handler, old.flags);
}

static void floats(void)
{
	double sum = 1.25, kept;
	unsigned control = 0, xmm[4] = { 1, 2, 3, 4 }, after[4];

	unsigned pid = getpid();
	asm volatile("fldl %3; movups %4, %%xmm7; int $0x80; movups %%xmm7, %1; fstpl %0; fnstcw %2"
		     : "=m"(kept), "=m"(after), "=m"(control)
		     : "m"(sum), "m"(xmm), "a"(SYS_kill), "b"(pid), "c"(SIGUSR2)
		     : "memory");
	printf("kept %g xmm %u %u %u %u control %x count %d\n", kept, after[0], after[1], after[2],
	       after[3], control & 0xffff, count);
}

/* Ends a handler that never began: the bytes on the stack decide. */
static void forge(const char *what, int number, int offset, unsigned value)
{
	int status;

	fflush(stdout);
	if (fork() == 0) {
		static unsigned frame[1024];
		memset(frame, 0, sizeof frame);
		/* cs and ss of a sigcontext that would do. */
		int context = number == SYS_sigreturn ? 0 : 164 - 4;
		frame[(context + 56) / 4] = 0x08048000;
		frame[(context + 60) / 4] = 0x23;
		frame[(context + 72) / 4] = 0x2b;
		frame[(context + offset) / 4] = value;
		asm volatile("mov %0, %%esp; int $0x80" ::"r"(frame), "a"(number));
		_exit(0);
	}
	wait(&status);
	printf("%s: %s %d\n", what, WIFSIGNALED(status) ? "killed" : "exited",
	       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int main(void)
{
	stack_t stack = { other, 0, sizeof other }, was;
	unsigned esi = 7;

	set(SIGUSR1, plain, 0);
	raise(SIGUSR1);
	signal(SIGUSR1, plain);
	raise(SIGUSR1);
	printf("count %d\n", count);
	set_old(SIGUSR1, plain);
	raise(SIGUSR1);
	printf("count %d\n", count);

	set(SIGUSR2, told, SA_SIGINFO);
	asm volatile("int $0x80" : "+S"(esi) : "a"(SYS_kill), "b"(getpid()), "c"(SIGUSR2) : "memory");
	printf("esi %x\n", esi);
	printf("sigaltstack %d\n", sigaltstack(&stack, 0));
	set(SIGUSR2, told, SA_SIGINFO | SA_ONSTACK);
	raise(SIGUSR2);
	sigaltstack(0, &was);
	printf("stack %d %d %x\n", was.ss_sp == other, was.ss_size == sizeof other, was.ss_flags);

	set(SIGSEGV, told, SA_SIGINFO | SA_NODEFER);
	if (!sigsetjmp(back, 1))
		*(volatile int *)8 = 1;
	if (!sigsetjmp(back, 1))
		*(volatile int *)0xfffff000 = 1;
	if (!sigsetjmp(back, 1))
		asm volatile("hlt");
	set(SIGUSR2, clobber, 0);
	floats();

	forge("a frame of zeros", SYS_sigreturn, 0, 0);
	forge("a code segment of the kernel", SYS_sigreturn, 60, 0x10);
	forge("no code segment", SYS_sigreturn, 60, 0xfff8);
	forge("a stack segment of code", SYS_rt_sigreturn, 72, 0x23);
	forge("state at a bad address", SYS_rt_sigreturn, 76, 0xfffffff0);
	forge("64-bit code", SYS_rt_sigreturn, 60, 0x33);
	return 0;
}
