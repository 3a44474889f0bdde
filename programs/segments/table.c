/*
 * The local descriptor table as a program makes it: bad input, growth, threads, fork, execve; and
 * the ways from 64-bit code to 32-bit code and back, signals among them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

struct user_descriptor {
	unsigned entry, base, limit, flags;
};

enum { READ = 0, WRITE_OLD = 1, READ_DEFAULT = 2, WRITE = 0x11 };

static long set(unsigned entry, unsigned base, unsigned limit, unsigned flags)
{
	struct user_descriptor one = { entry, base, limit, flags };

	return syscall(SYS_modify_ldt, WRITE, &one, sizeof one);
}

static long limit_of(unsigned selector)
{
	unsigned long limit = -1;

	__asm__ volatile("lsl %k1, %k0" : "+r"(limit) : "r"(selector) : "cc");
	return limit;
}

static unsigned char table[1 << 17];

static void show_table(const char *when)
{
	unsigned long hash = 1;
	long bytes;

	memset(table, 0xaa, sizeof table);
	bytes = syscall(SYS_modify_ldt, READ, table, sizeof table);
	for (unsigned long i = 0; i < sizeof table; i++)
		hash = hash * 31 + table[i];
	printf("%s: %ld bytes, %016lx\n", when, bytes, hash);
}

static void bad_input(void)
{
	struct user_descriptor one = { 0, 0, 0xfffff, 0x51 };
	static const long functions[] = { 3, 0x10, 0x12, -1, 1l << 32 };
	static const unsigned long sizes[] = { 0, 1, 15, 17, 32, -1 };
	char *gone = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(gone + 4096, 4096);
	for (int i = 0; i < 5; i++)
		printf("function %lx: %lx\n", functions[i], syscall(SYS_modify_ldt, functions[i], &one, 16));
	for (int i = 0; i < 6; i++)
		printf("size %lx: %lx %lx\n", sizes[i], syscall(SYS_modify_ldt, WRITE, &one, sizes[i]),
		       syscall(SYS_modify_ldt, WRITE_OLD, &one, sizes[i]));
	printf("no pointer: %lx\n", syscall(SYS_modify_ldt, WRITE, 0, 16));
	printf("half a pointer: %lx\n", syscall(SYS_modify_ldt, WRITE, gone + 4088, 16));
	printf("kernel pointer: %lx\n", syscall(SYS_modify_ldt, WRITE, -4096l, 16));
	printf("default: %lx %lx %lx %lx\n", syscall(SYS_modify_ldt, READ_DEFAULT, table, 16),
	       syscall(SYS_modify_ldt, READ_DEFAULT, table, 128),
	       syscall(SYS_modify_ldt, READ_DEFAULT, table, 1l << 40),
	       syscall(SYS_modify_ldt, READ_DEFAULT, 0, 1));
	printf("read nothing: %lx\n", syscall(SYS_modify_ldt, READ, 0, 16));
	printf("entry 8192: %lx\n", set(8192, 0, 0xfffff, 0x51));
	printf("entry -1: %lx\n", set(-1, 0, 0xfffff, 0x51));
	for (unsigned flags = 0; flags < 256; flags++)
		printf("%lx%c", set(1, 0x1000, 0x10, flags), flags % 16 == 15 ? '\n' : ' ');
	for (unsigned flags = 0; flags < 256; flags++) {
		struct user_descriptor old = { 1, 0x1000, 0x10, flags };

		printf("%lx%c", syscall(SYS_modify_ldt, WRITE_OLD, &old, 16), flags % 16 == 15 ? '\n' : ' ');
	}
	show_table("after bad input");
	printf("read to nowhere: %lx\n", syscall(SYS_modify_ldt, READ, 0, 16));
	printf("read half: %lx\n", syscall(SYS_modify_ldt, READ, gone + 4088, 16));
	printf("read 7: %lx\n", syscall(SYS_modify_ldt, READ, table, 7));
}

static void growth(void)
{
	static const unsigned entries[] = { 0, 2, 511, 512, 1023, 1024, 5000, 8191 };

	for (int i = 0; i < 8; i++) {
		printf("entry %u: %lx", entries[i], set(entries[i], i << 12, 0x100 + i, 0x1));
		printf(" limit %lx", limit_of(entries[i] << 3 | 7));
		printf(" before %lx\n", limit_of(entries[i / 2] << 3 | 7));
		show_table("grown");
	}
	printf("bad ones: %lx %lx %lx\n", limit_of(3 << 3 | 7), limit_of(0), limit_of(0xffff));
}

static pthread_barrier_t barrier;

static void *thread(void *unused)
{
	unsigned es = 5 << 3 | 7;

	printf("thread sees %lx\n", limit_of(es));
	__asm__ volatile("mov %0, %%es" : : "r"(es));
	pthread_barrier_wait(&barrier);
	/* The entry goes. */
	pthread_barrier_wait(&barrier);
	__asm__ volatile("mov %%es, %0" : "=r"(es));
	printf("thread has es %x, limit %lx\n", es, limit_of(5 << 3 | 7));
	set(6, 0, 0x666, 1);
	return 0;
}

static void threads(void)
{
	pthread_t other;

	pthread_barrier_init(&barrier, 0, 2);
	set(5, 0, 0x555, 1);
	pthread_create(&other, 0, thread, 0);
	pthread_barrier_wait(&barrier);
	set(5, 0, 0, 0x28);
	pthread_barrier_wait(&barrier);
	pthread_join(other, 0);
	printf("main sees %lx\n", limit_of(6 << 3 | 7));
}

static void children(char **arguments)
{
	fflush(stdout);
	if (fork() == 0) {
		printf("child sees %lx\n", limit_of(6 << 3 | 7));
		set(6, 0, 0x777, 1);
		set(7, 0, 0x888, 1);
		show_table("child");
		fflush(stdout);
		_exit(0);
	}
	wait(0);
	printf("parent sees %lx %lx\n", limit_of(6 << 3 | 7), limit_of(7 << 3 | 7));
	fflush(stdout);
	if (fork() == 0) {
		execl(arguments[0], arguments[0], "again", (char *)0);
		_exit(1);
	}
	wait(0);
}

/* Where 32-bit code comes back to. */
extern char back[];
static unsigned char *code;
static unsigned results[8];

/* Enters 32-bit code at `selector` by a far jump; the code ends with a far jump to `back`. */
static void enter(unsigned selector)
{
	static struct {
		unsigned offset;
		unsigned short selector;
	} __attribute__((packed)) target;

	target.offset = (unsigned)(unsigned long)code;
	target.selector = selector;
	__asm__ volatile("mov %%rbp, %%r14\n"
			 "mov %%rsp, %%r15\n"
			 "mov $0x2b, %%eax\n"
			 "mov %%eax, %%ds\n"
			 "ljmp *%0\n"
			 ".globl back\n"
			 "back: mov %%r15, %%rsp\n"
			 "mov %%r14, %%rbp\n"
			 "xor %%eax, %%eax\n"
			 "mov %%eax, %%ds\n"
			 : : "m"(target), "D"(results)
			 : "rax", "rbx", "rcx", "rdx", "rsi", "r14", "r15", "memory", "cc");
}

static unsigned put_code(const void *bytes, unsigned count)
{
	unsigned to = (unsigned)(unsigned long)back;

	memcpy(code, bytes, count);
	/* ljmp 0x33:back */
	code[count] = 0xea;
	memcpy(code + count + 1, &to, 4);
	memcpy(code + count + 5, "\x33\0", 2);
	return count + 7;
}

static void show_results(const char *what)
{
	printf("%s:", what);
	for (int i = 0; i < 8; i++)
		printf(" %x", results[i]);
	printf("\n");
	memset(results, 0, sizeof results);
}

static int signals;

static void handler(int signal, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	printf("signal %d code %d at %ld cs %llx ss %llx trap %lld error %llx flags %lx "
	       "resume %d\n", signal,
	       info->si_code, (long)regs[REG_RIP] - (long)code, regs[REG_CSGSFS] & 0xffff,
	       regs[REG_CSGSFS] >> 48, regs[REG_TRAPNO], regs[REG_ERR],
	       ((ucontext_t *)context)->uc_flags, regs[REG_EFL] >> 16 & 1);
	regs[REG_RIP] += 2;
	if (++signals == 20)
		exit(9);
}

static void far_jumps(void)
{
	/* mov eax, 0x7fffffff; inc eax; mov [edi], eax; mov al, 0x19; add al, 0x28; daa;
	 * movzx eax, al; mov [edi+4], eax; mov eax, cs; mov [edi+8], eax; mov eax, ss;
	 * mov [edi+12], eax */
	static const char plain[] = "\xb8\xff\xff\xff\x7f\x40\x89\x07\xb0\x19\x04\x28\x27\x0f\xb6\xc0"
				    "\x89\x47\x04\x8c\xc8\x89\x47\x08\x8c\xd0\x89\x47\x0c";
	/* ud2; mov eax, cs; mov [edi], eax; mov eax, 0x1234; mov ds, ax or mov [cs:0], al */
	static const char invalid[] = "\x0f\x0b\x8c\xc8\x89\x07\xb8\x34\x12\0\0\x8e\xd8\x89\x47\x04"
				      "\x8e\xd0\x8c\xd0\x89\x47\x08";
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t stack = { .ss_sp = malloc(65536), .ss_size = 65536 };

	code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	sigaltstack(&stack, 0);
	sigaction(SIGILL, &action, 0);
	sigaction(SIGSEGV, &action, 0);
	sigaction(SIGBUS, &action, 0);
	put_code(plain, sizeof plain - 1);
	enter(0x23);
	show_results("32-bit code");
	set(3, 0, 0xfffff, 0x10 | 2 << 1 | 1);
	enter(3 << 3 | 7);
	show_results("32-bit code of the table");
	put_code(invalid, sizeof invalid - 1);
	enter(0x23);
	show_results("signals in 32-bit code");
	enter(3 << 3 | 7);
	show_results("signals in code of the table");
}

int main(int count, char **arguments)
{
	if (count > 1) {
		show_table("behind execve");
		printf("sees %lx\n", limit_of(6 << 3 | 7));
		return 0;
	}
	show_table("at the start");
	bad_input();
	growth();
	threads();
	children(arguments);
	far_jumps();
	return 0;
}
