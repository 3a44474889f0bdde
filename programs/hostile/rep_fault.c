/* String instructions interrupted by faults: counts and pointers must be those of the element. */
#include "hostile.h"

static char *area;

/* Bytes from the area, or a fixed number for what is far from it. */
static long distance(long address)
{
	long bytes = address - (long)area;

	return bytes > -100000 && bytes < 100000 ? bytes : 999999;
}

static void handler(int number, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	printf("signal %d at %+ld: rcx %lld rsi %+ld rdi %+ld\n", number, distance((long)info->si_addr),
	       regs[REG_RCX], distance(regs[REG_RSI]), distance(regs[REG_RDI]));
	fflush(stdout);
	siglongjmp(try_back, 1);
}

static void string(const char *name, long count, char *from, char *to, int which)
{
	printf("%s: ", name);
	fflush(stdout);
	if (sigsetjmp(try_back, 1)) {
		__asm__ volatile("cld");
		return;
	}
	long rcx = count;
	char *rsi = from, *rdi = to;
#define RUN(text) __asm__ volatile(text : "+c"(rcx), "+S"(rsi), "+D"(rdi) : "a"(0x41) : "memory", "cc")
	switch (which) {
	case 0: RUN("rep movsb"); break;
	case 1: RUN("rep movsq"); break;
	case 2: RUN("rep stosb"); break;
	case 3: RUN("rep stosq"); break;
	case 4: RUN("repe cmpsb"); break;
	case 5: RUN("repne scasb"); break;
	case 6: RUN("std; rep movsb; cld"); break;
	case 7: RUN("std; rep stosq; cld"); break;
	case 8: RUN("rep lodsb"); break;
	case 9: RUN("repe scasw"); break;
	}
	printf("done: rcx %ld rsi %+ld rdi %+ld\n", rcx, distance((long)rsi), distance((long)rdi));
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	char *p = pages(8, PROT_READ | PROT_WRITE);

	area = p + 2 * PAGE;
	mprotect(p, PAGE, PROT_NONE);
	mprotect(p + 7 * PAGE, PAGE, PROT_NONE);
	sigaction(SIGSEGV, &action, 0);
	for (int which = 0; which < 10; which++) {
		char *end = p + 7 * PAGE, *start = p + PAGE;
		int back = which == 6 || which == 7;
		string("inside", 100, area, area + PAGE, which);
		string("zero", 0, (char *)8, (char *)8, which);
		if (back) {
			string("target runs out", 300, area + PAGE, start + 255, which);
			string("source runs out", 300, start + 99, area + PAGE, which);
		} else {
			string("target runs out", 300, area, end - 256, which);
			string("source runs out", 300, end - 96, area, which);
			string("unaligned", 300, area, end - 251, which);
		}
		string("wild", 5, (char *)0x123456789abcdef0, (char *)0x10, which);
	}
	return 0;
}
