/* What an i386 program sees of the kernel that it runs on: selectors, room, addresses of the kernel. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <ucontext.h>
#include <unistd.h>

#include "try.h"

struct descriptor {
	int entry;
	unsigned base, limit, flags;
};

static void told(int signal, siginfo_t *info, void *context)
{
	ucontext_t *frame = context;

	printf("signal %d code %d addr %x trap %d error %d cs %x ss %x\n", signal, info->si_code,
	       (unsigned)info->si_addr & ~0xfffff,
	       (int)frame->uc_mcontext.gregs[REG_TRAPNO], (int)frame->uc_mcontext.gregs[REG_ERR],
	       (int)frame->uc_mcontext.gregs[REG_CS], (int)frame->uc_mcontext.gregs[REG_SS]);
	siglongjmp(back, 1);
}

int main(int count, char **arguments)
{
	struct sigaction action = { .sa_sigaction = told, .sa_flags = SA_SIGINFO };
	struct utsname name;
	int cs, ds, ss, es, gs;

	if (count > 1) {
		personality(strtoul(arguments[1], 0, 16));
		execl("/proc/self/exe", "machine", (char *)0);
		return 1;
	}
	setvbuf(stdout, 0, _IOLBF, 0);
	sigaction(SIGSEGV, &action, 0);
	sigaction(SIGBUS, &action, 0);
	asm("mov %%cs, %0; mov %%ds, %1; mov %%ss, %2; mov %%es, %3; mov %%gs, %4"
	    : "=r"(cs), "=r"(ds), "=r"(ss), "=r"(es), "=r"(gs));
	printf("cs %x ds %x ss %x es %x gs %x\n", cs & 0xffff, ds & 0xffff, ss & 0xffff, es & 0xffff, gs & 0xffff);
	uname(&name);
	printf("uname %s\n", name.machine);
	for (int entry = 5; entry < 16; entry++) {
		struct descriptor wanted = { entry, 0x1000, 0xfff, 0x51 };
		if (!syscall(SYS_get_thread_area, &wanted))
			printf("entry %d flags %x\n", entry, wanted.flags);
	}
	struct descriptor wanted = { -1, (unsigned)&name, sizeof name - 1, 0x41 };
	printf("set_thread_area %ld", syscall(SYS_set_thread_area, &wanted));
	printf(" entry %d\n", wanted.entry);
	char first;
	asm("push %%fs; mov %1, %%fs; movb %%fs:0, %0; pop %%fs" : "=q"(first) : "r"(wanted.entry * 8 + 3));
	printf("fs:0 %c\n", first);
	char *top = (char *)(((uintptr_t)environ[0] | 0xfff) + 1);
	while (*--top == 0)
		;
	printf("stack ends near %p\n", (void *)(((uintptr_t)top | 0xfff) + 1));
	char *map = mmap(0, 0x10000, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("mmap near %x, program near %x\n", (unsigned)map >> 24, (unsigned)main >> 20);
	printf("high %p\n", mmap((void *)0xbfff0000, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	printf("kernel %p\n", mmap((void *)0xc0000000, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	TRY(*(volatile char *)0xc0000000);
	TRY(*(volatile char *)0xc0001000 = 1);
	TRY(*(volatile char *)0xfffff000);
	TRY(((void (*)(void))0xc0100000)());
	printf("write from the kernel %ld\n", (long)write(1, (void *)0xc0000000, 4));
	/* Code in a page that may not be executed: a machine without NX does not notice. */
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
	char *data = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(data, code, sizeof code);
	if (!sigsetjmp(back, 1))
		printf("data executes: %d\n", ((int (*)(void))data)());
	/* Selectors of the one kernel and of the other. */
	for (int selector = 3; selector < 0x100; selector += 8)
		TRY(asm volatile("push %%es; mov %0, %%es; pop %%es" : : "r"(selector));
		    printf("selector %x\n", selector));
	printf("end\n");
}
