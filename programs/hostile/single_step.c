/* The trap flag: one SIGTRAP after each instruction until it is cleared. */
#include "hostile.h"

static volatile int steps;

static void handler(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;

	(void)number;
	if (++steps == 3) {
		printf("code %d\n", info->si_code);
		user->uc_mcontext.gregs[REG_EFL] &= ~0x100l;
	}
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

	sigaction(SIGTRAP, &action, 0);
	__asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; nop; nop; nop; nop; nop" ::: "cc", "memory");
	printf("steps %d\n", steps);
	return 0;
}
