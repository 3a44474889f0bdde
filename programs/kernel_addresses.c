// Touches addresses of the kernel: each access is a page fault with the code that Linux reports
// (the page counts as present), or a general protection where no address is.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile long signal_number, code, error, trap;

static void handler(int number, siginfo_t *info, void *context)
{
	ucontext_t *at = context;

	signal_number = number;
	code = info->si_code;
	error = at->uc_mcontext.gregs[REG_ERR];
	trap = at->uc_mcontext.gregs[REG_TRAPNO];
	siglongjmp(back, 1);
}

int main(void)
{
	static const unsigned long places[] = {
		0xffff888000000000, 0xffff888000001000, 0xffff88803fffffff, 0xffff880000000000,
		0xffff800000000000, 0xffffc90000000000, 0xffffea0000000000, 0xffffffff81000000,
		0xffffffffffffffff, 0x0000800000000000, 0xfffffe0000000000,
	};
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &action, 0);
	sigaction(SIGBUS, &action, 0);
	for (int i = 0; i < sizeof places / sizeof *places; i++)
		for (int kind = 0; kind < 3; kind++) {
			if (!sigsetjmp(back, 1)) {
				if (kind == 0)
					*(volatile char *)places[i];
				else if (kind == 1)
					*(volatile char *)places[i] = 1;
				else
					((void (*)(void))places[i])();
			}
			printf("%016lx %c: signal %ld code %ld error %lx trap %ld\n", places[i],
			       "rwx"[kind], signal_number, code, error, trap);
		}
	return 0;
}
