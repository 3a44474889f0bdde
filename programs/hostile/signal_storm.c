/* Fifty thousand faults, each resolved by a handler that changes the registers. */
#include "hostile.h"

static char *target;
static volatile long caught;

static void repair(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)info;
	caught++;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = (greg_t)target;
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = repair, .sa_flags = SA_SIGINFO };

	target = pages(1, PROT_READ | PROT_WRITE);
	sigaction(SIGSEGV, &action, 0);
	for (long i = 0; i < 50000; i++) {
		long address = 8;
		__asm__ volatile("incq (%%rax)" : "+a"(address)::"memory", "cc");
	}
	printf("%ld caught, %ld counted\n", caught, *(long *)target);
	return 0;
}
