/* A handler that returns through a frame it has forged: one field for each argument. */
#include "hostile.h"

static const char *field;

static void forge(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;
	greg_t *regs = user->uc_mcontext.gregs;

	(void)number;
	(void)info;
	if (!strcmp(field, "cs-kernel"))
		regs[REG_CSGSFS] = 0x10;
	else if (!strcmp(field, "cs-data"))
		regs[REG_CSGSFS] = 0x2b;
	else if (!strcmp(field, "cs-zero"))
		regs[REG_CSGSFS] = 0;
	else if (!strcmp(field, "ss-wild"))
		regs[REG_CSGSFS] = (regs[REG_CSGSFS] & 0xffffffffffff) | 0x1238000000000000;
	else if (!strcmp(field, "rip-noncanonical"))
		regs[REG_RIP] = 0x8000000000000000;
	else if (!strcmp(field, "rip-kernel"))
		regs[REG_RIP] = 0xffffffff81000000;
	else if (!strcmp(field, "rip-null"))
		regs[REG_RIP] = 0;
	else if (!strcmp(field, "rsp-wild"))
		regs[REG_RSP] = 0x123456789abcdef0;
	else if (!strcmp(field, "flags-all"))
		regs[REG_EFL] = 0xffffffff & ~0x40500;
	else if (!strcmp(field, "flags-trap"))
		regs[REG_EFL] |= 0x100;
	else if (!strcmp(field, "fp-wild"))
		user->uc_mcontext.fpregs = (void *)0x123456789abcdef0;
	else if (!strcmp(field, "fp-null"))
		user->uc_mcontext.fpregs = 0;
	else if (!strcmp(field, "fp-misaligned"))
		user->uc_mcontext.fpregs = (void *)((char *)user->uc_mcontext.fpregs + 8);
	else if (!strcmp(field, "mxcsr"))
		((uint32_t *)user->uc_mcontext.fpregs)[6] = 0xffffffff;
	else if (!strcmp(field, "fp-size"))
		((uint32_t *)user->uc_mcontext.fpregs)[117] = 0x7fffffff;
	else if (!strcmp(field, "fp-features"))
		memset((char *)user->uc_mcontext.fpregs + 512, 0xff, 8);
	else if (!strcmp(field, "mask"))
		memset(&user->uc_sigmask, 0xff, 8);
	else if (!strcmp(field, "stack"))
		user->uc_stack = (stack_t){ .ss_sp = (void *)8, .ss_size = 1, .ss_flags = 0x7777 };
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = forge, .sa_flags = SA_SIGINFO };

	field = argc > 1 ? argv[1] : "";
	sigaction(SIGUSR1, &action, 0);
	puts("before");
	fflush(stdout);
	syscall(SYS_kill, getpid(), SIGUSR1);
	puts("after");
	return 0;
}
