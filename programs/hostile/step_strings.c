/* The trap flag in repeated string instructions: one SIGTRAP for each element. */
#include "hostile.h"

static volatile int steps;
static long rcx[64], behind[64];

static void handler(int number, siginfo_t *info, void *context)
{
	const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)number, (void)info;
	if (steps < 64) {
		rcx[steps] = registers[REG_RCX];
		behind[steps] = registers[REG_RIP];
	}
	steps++;
}

#define STEP(text, times)                                                                 \
	do {                                                                              \
		char *to = room, *from = room + 32;                                       \
		long count = times, value = 0x41;                                         \
		steps = 0;                                                                \
		__asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; " text              \
				 "; pushfq; andl $~0x100, (%%rsp); popfq"                 \
				 : "+D"(to), "+S"(from), "+c"(count), "+a"(value)         \
				 : : "memory", "cc");                                     \
		printf("%s of %d: %d steps, left %ld:", text, times, steps, count);       \
		for (int i = 0; i < steps && i < 64; i++)                                 \
			printf(" %ld@%ld", rcx[i], behind[i] - behind[0]);                \
		printf("\n");                                                             \
	} while (0)

int main(void)
{
	static char room[64];
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

	sigaction(SIGTRAP, &action, 0);
	strcpy(room, "steps of strings");
	STEP("rep movsb", 0);
	STEP("rep movsb", 1);
	STEP("rep movsb", 7);
	STEP("rep stosq", 3);
	STEP("repne scasb", 40);
	STEP("repe cmpsw", 5);
	STEP("movsb", 5);
	return 0;
}
