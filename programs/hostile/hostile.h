/*
 * The common part of the hostile programs: tries something, survives the signal, says what came.
 *
 * What is printed depends on the program's behaviour alone, so that the output natively and inside
 * can be compared byte for byte.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096ul

static sigjmp_buf try_back;
static volatile uintptr_t try_base;
/* The address is told in steps of so many bytes, where the makers of CPUs name different ones. */
static volatile uintptr_t try_unit = 1;

/* Prints the signal; the address only relative to try_base, when it is near. */
static inline void try_report(int number, siginfo_t *info, void *context)
{
	(void)context;
	/* A handler inherits EFLAGS.AC; the library's copies are misaligned at times. */
	__asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq" ::: "cc", "memory");
	uintptr_t distance = (uintptr_t)info->si_addr - try_base;

	printf("signal %d code %d", number, info->si_code);
	if (try_base && distance < 0x100000)
		printf(" at +%#lx", distance / try_unit * try_unit);
	printf("\n");
	siglongjmp(try_back, 1);
}

static inline stack_t try_stack(void)
{
	static char memory[65536];

	return (stack_t){ .ss_sp = memory, .ss_size = sizeof memory };
}

static inline void catch_signals(void)
{
	static const int numbers[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS };
	struct sigaction action = { .sa_sigaction = try_report,
				    .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t stack = try_stack();

	sigaltstack(&stack, 0);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		sigaction(numbers[i], &action, 0);
}

/* Runs the statement; prints its name and what it did: nothing, or a signal. */
#define TRY(name, ...)                                      \
	do {                                                \
		printf("%s: ", name);                       \
		fflush(stdout);                             \
		if (!sigsetjmp(try_back, 1)) {              \
			__VA_ARGS__;                        \
			printf("done\n");                   \
		}                                           \
		fflush(stdout);                             \
	} while (0)

/* An instruction given as text. */
#define TRY_ASM(text) TRY(text, __asm__ volatile(text ::: "rax", "rbx", "rcx", "rdx", "memory", "cc"))

static inline const char *error_name(int number)
{
	static char text[32];

	snprintf(text, sizeof text, "errno %d", number);
	return text;
}

/* Prints the result of a system call: its value, or the name of the error. */
#define CALL(name, ...)                                                              \
	do {                                                                         \
		long call_result = (long)(__VA_ARGS__);                              \
		if (call_result == -1 && errno)                                      \
			printf("%s: %s\n", name, error_name(errno));               \
		else                                                                 \
			printf("%s: %s\n", name, call_result == 0 ? "0" : "value");  \
		errno = 0;                                                           \
	} while (0)

/* Pages of zeros with the given rights. */
static inline char *pages(size_t count, int rights)
{
	char *p = mmap(0, count * PAGE, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(99);
	return p;
}

/* One page with the given rights between two that have none. */
static inline char *lone_page(int rights)
{
	char *p = pages(3, PROT_NONE);

	mprotect(p + PAGE, PAGE, rights);
	return p + PAGE;
}

/* A page of code: the bytes at its start, writable and executable. */
static inline void *code_page(const void *bytes, size_t count)
{
	char *p = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);

	memcpy(p, bytes, count);
	return p;
}

