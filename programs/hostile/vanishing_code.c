/* Code that unmaps, protects, discards or replaces the page it runs from. */
#include "hostile.h"

/* syscall with the arguments already in place; nop; mov $7, %eax; ret */
static const unsigned char CODE[] = { 0x0f, 0x05, 0x90, 0xb8, 7, 0, 0, 0, 0xc3 };

static void run(const char *name, char *page, long number, long a, long b, long c)
{
	try_base = (uintptr_t)page;
	TRY(name, __asm__ volatile("call *%%rbx" ::"a"(number), "b"(page), "D"(a), "S"(b), "d"(c)
				   : "rcx", "r11", "memory"));
}

int main(void)
{
	catch_signals();
	char *page = code_page(CODE, sizeof CODE);
	run("munmap", page, SYS_munmap, (long)page, PAGE, 0);
	page = code_page(CODE, sizeof CODE);
	run("mprotect none", page, SYS_mprotect, (long)page, PAGE, PROT_NONE);
	page = code_page(CODE, sizeof CODE);
	run("mprotect read", page, SYS_mprotect, (long)page, PAGE, PROT_READ);
	page = code_page(CODE, sizeof CODE);
	run("discard", page, SYS_madvise, (long)page, PAGE, MADV_DONTNEED);
	page = code_page(CODE, sizeof CODE);
	run("stays", page, SYS_mprotect, (long)page, PAGE, PROT_READ | PROT_EXEC);
	char *elsewhere = pages(1, PROT_NONE);
	char *moved = mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere);
	TRY("old place", ((void (*)(void))page)());
	TRY("new place", __asm__ volatile("call *%%rbx" ::"a"(SYS_getpid), "b"(moved) : "rcx", "r11", "memory"));
	return 0;
}
