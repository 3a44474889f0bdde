/* What signals say about faults: printed as lines that must equal those of the host. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static char *origin;
static const char *current;

static void handler(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	long long *gregs = uc->uc_mcontext.gregs;
	long offset = (char *)info->si_addr - origin;
	long cr2 = (char *)gregs[REG_CR2] - origin;
	int is_rip = (long long)info->si_addr == gregs[REG_RIP];

	printf("> %s: signal %d code %d errno %d", current, number, info->si_code, info->si_errno);
	if (is_rip)
		printf(" addr rip");
	else if (offset >= -4096 && offset < 1 << 24)
		printf(" addr +%lx", offset);
	else
		printf(" addr %p", info->si_addr);
	printf(" trap %lld err %lld", gregs[REG_TRAPNO], gregs[REG_ERR]);
	if (gregs[REG_TRAPNO] == 14) {
		if (cr2 >= -4096 && cr2 < 1 << 24)
			printf(" cr2 +%lx", cr2);
		else
			printf(" cr2 %llx", gregs[REG_CR2]);
	}
	printf(" flags %lx segments %llx\n", uc->uc_flags, gregs[REG_CSGSFS]);
	siglongjmp(back, 1);
}

#define CASE(name, ...) \
	do { \
		current = name; \
		if (!sigsetjmp(back, 1)) { \
			__VA_ARGS__; \
			printf("> %s: nothing\n", current); \
		} \
	} while (0)

int main(int count, char **args)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	static char stack[1 << 16];
	stack_t alt = { .ss_sp = stack, .ss_size = sizeof stack };
	int numbers[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
	int fd = open(args[0], O_RDONLY);
	char *none, *file;

	setvbuf(stdout, 0, _IOLBF, 0);
	sigaltstack(&alt, 0);
	for (unsigned i = 0; i < 5; i++)
		sigaction(numbers[i], &action, 0);
	origin = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(origin, 0xc3, 8192);
	mprotect(origin + 4096, 4096, PROT_READ);
	mprotect(origin + 8192, 4096, PROT_NONE);
	munmap(origin + 16384, 4096);

	CASE("read null", *(volatile char *)0);
	CASE("write null", *(volatile char *)0 = 1);
	CASE("read none", *(volatile char *)(origin + 8192));
	CASE("write read-only", *(volatile char *)(origin + 4096 + 5) = 1);
	CASE("read hole", *(volatile char *)(origin + 16384));
	CASE("write hole", *(volatile char *)(origin + 16384 + 9) = 1);
	CASE("write across into read-only", *(volatile uint64_t *)(origin + 4092) = 1);
	CASE("unchanged", if (origin[4092] == (char)0xc3) __builtin_trap());
	CASE("fetch data", ((void (*)(void))origin)());
	CASE("fetch untouched", ((void (*)(void))(origin + 65536))());
	CASE("fetch hole", ((void (*)(void))(origin + 16384))());
	CASE("read non-canonical", *(volatile char *)0x8000000000000000);
	CASE("stack non-canonical", __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp" : : "r"(0x8000000000000000) : "rbx"));
	CASE("read kernel", *(volatile char *)0xffff888000000000);
	CASE("write kernel", *(volatile char *)0xffffffff80000000 = 1);
	CASE("fetch kernel", ((void (*)(void))0xffff888000000000)());
	CASE("read vsyscall", *(volatile char *)0xffffffffff600000);
	CASE("fetch vsyscall middle", ((void (*)(void))0xffffffffff600010)());
	CASE("last page", *(volatile char *)0x7ffffffff000);
	CASE("divide", __asm__ volatile("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $1, %%eax; div %%ecx" : : : "eax", "ecx", "edx"));
	CASE("breakpoint", __asm__ volatile("int3"));
	CASE("ud2", __asm__ volatile("ud2"));
	CASE("hlt", __asm__ volatile("hlt"));
	CASE("cli", __asm__ volatile("cli"));
	CASE("misaligned", __asm__ volatile("movaps %0, %%xmm0" : : "m"(origin[65537]) : "xmm0"));
	CASE("x87 divide", unsigned short cw = 0x37b; __asm__ volatile("fnclex; fldcw %0; fldz; fld1; fdivp; fwait" : : "m"(cw)));
	__asm__ volatile("fninit");
	CASE("sse divide", unsigned csr = 0x1d80; __asm__ volatile("ldmxcsr %0; xorps %%xmm0, %%xmm0; movss %1, %%xmm1; divss %%xmm0, %%xmm1" : : "m"(csr), "m"(*(float[]){ 1 }) : "xmm0", "xmm1"));
	CASE("sse invalid", unsigned csr = 0x1f00; __asm__ volatile("ldmxcsr %0; xorps %%xmm0, %%xmm0; divss %%xmm0, %%xmm0" : : "m"(csr) : "xmm0"));
	none = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	origin = none;
	CASE("fetch none", ((void (*)(void))none)());
	file = mmap(0, 1 << 24, PROT_READ, MAP_PRIVATE, fd, 0);
	origin = file;
	CASE("beyond end of file", *(volatile char *)(file + (1 << 24) - 4096));
	origin = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(origin + 4096, 4096);
	origin[4095] = 0x48;
	CASE("instruction across hole", ((void (*)(void))(origin + 4095))());
	return 0;
}
