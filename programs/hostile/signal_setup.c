/* Handlers, stacks and masks that make delivery itself fail: the program must die of SIGSEGV. */
#include "hostile.h"

static volatile int depth;

static void fault(void) { *(volatile int *)8 = 1; }

static void again(int number)
{
	(void)number;
	if (++depth < 3)
		fault();
	_exit(50 + depth);
}

static void forever(int number)
{
	(void)number;
	depth++;
	fault();
}

static void install(void *handler, int flags)
{
	/* The kernel's own layout: handler, flags, restorer, mask. */
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} action = { handler, flags | 0x04000000, (void *)1, 0 };

	syscall(SYS_rt_sigaction, SIGSEGV, &action, 0, 8);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	struct sigaction action = { .sa_handler = again };

	if (!strcmp(how, "handler-null-page"))
		install((void *)16, 0);
	else if (!strcmp(how, "handler-noncanonical"))
		install((void *)0x8000000000000000, 0);
	else if (!strcmp(how, "handler-kernel"))
		install((void *)0xffffffff81000000, 0);
	else if (!strcmp(how, "nested-masked"))
		sigaction(SIGSEGV, &action, 0);
	else if (!strcmp(how, "nested-nodefer")) {
		action.sa_flags = SA_NODEFER;
		sigaction(SIGSEGV, &action, 0);
	} else if (!strcmp(how, "nested-forever")) {
		action = (struct sigaction){ .sa_handler = forever, .sa_flags = SA_NODEFER };
		sigaction(SIGSEGV, &action, 0);
	} else if (!strcmp(how, "ignored"))
		signal(SIGSEGV, SIG_IGN);
	else if (!strcmp(how, "blocked")) {
		sigset_t all;
		sigfillset(&all);
		sigaction(SIGSEGV, &action, 0);
		sigprocmask(SIG_BLOCK, &all, 0);
	} else if (!strcmp(how, "altstack-unmapped")) {
		stack_t stack = { .ss_sp = (void *)0x10000, .ss_size = 65536 };
		sigaltstack(&stack, 0);
		action.sa_flags = SA_ONSTACK;
		sigaction(SIGSEGV, &action, 0);
	} else if (!strcmp(how, "altstack-readonly")) {
		stack_t stack = { .ss_sp = pages(16, PROT_READ), .ss_size = 16 * PAGE };
		sigaltstack(&stack, 0);
		action.sa_flags = SA_ONSTACK;
		sigaction(SIGSEGV, &action, 0);
	} else if (!strcmp(how, "rsp-wild")) {
		sigaction(SIGSEGV, &action, 0);
		__asm__ volatile("mov $16, %%esp; push %%rax" ::: "memory");
	} else if (!strcmp(how, "rsp-noncanonical")) {
		sigaction(SIGSEGV, &action, 0);
		__asm__ volatile("movabs $0x8000000000000000, %%rsp; push %%rax" ::: "memory");
	} else if (!strcmp(how, "restorer-wild"))
		install(again, 0);
	puts("before");
	fflush(stdout);
	fault();
	return 0;
}
