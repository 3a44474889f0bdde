/* Rare instructions with memory side effects: ENTER, XLAT, CMPXCHG, BT with far bit offsets, PUSHF, ... */
#include "hostile.h"

int main(void)
{
	char *lone = lone_page(PROT_READ | PROT_WRITE);
	uint64_t *cells = (uint64_t *)lone;

	catch_signals();
	try_base = (uintptr_t)lone;
	TRY("enter", __asm__ volatile("push %%rbp; enter $64, $0; leave; pop %%rbp" ::: "memory"));
	TRY("enter nested", __asm__ volatile("push %%rbp; mov %%rsp, %%rbp; enter $64, $3; mov %%rbp, %%rsp; pop %%rbp; pop %%rbp" ::: "memory"));
	TRY("xlat", __asm__ volatile("xlatb" ::"a"(255), "b"(lone)));
	TRY("xlat beyond", __asm__ volatile("xlatb" ::"a"(255), "b"(lone + PAGE - 255)));
	TRY("bt far", __asm__ volatile("btsq %1, (%0)" ::"r"(lone + PAGE), "r"(-64l * 8) : "memory", "cc"));
	printf("cell %#lx\n", (unsigned long)cells[PAGE / 8 - 64 + 56]);
	TRY("bt beyond", __asm__ volatile("btsq %1, (%0)" ::"r"(lone), "r"(PAGE * 8) : "memory", "cc"));
	cells[2] = 7;
	cells[3] = 8;
	TRY("cmpxchg16b", __asm__ volatile("lock cmpxchg16b (%0)" ::"r"(lone + 16), "a"(7ul), "d"(8ul), "b"(1ul), "c"(2ul) : "memory", "cc"));
	printf("cells %lu %lu\n", (unsigned long)cells[2], (unsigned long)cells[3]);
	TRY("cmpxchg16b fails, read only", mprotect(lone, PAGE, PROT_READ);
	    __asm__ volatile("lock cmpxchg16b (%0)" ::"r"(lone + 16), "a"(0ul), "d"(0ul), "b"(1ul), "c"(2ul) : "memory", "cc"));
	TRY("cmpxchg fails, read only", __asm__ volatile("cmpxchgq %1, (%0)" ::"r"(lone), "r"(1ul), "a"(99ul) : "memory", "cc"));
	TRY("movbe", __asm__ volatile("movbe (%0), %%rax" ::"r"(lone) : "rax"));
	TRY("prefetch wild", __asm__ volatile("prefetcht0 (%0); prefetchnta (%0); prefetchw (%0)" ::"r"(0x123456789abcdef0)));
	TRY("prefetch null", __asm__ volatile("prefetcht0 0"));
	TRY("clflush", __asm__ volatile("clflush (%0)" ::"r"(lone)));
	TRY("clflush wild", __asm__ volatile("clflush (%0)" ::"r"(lone + PAGE)));
	TRY("lea wild", __asm__ volatile("lea (%0), %%rax" ::"r"(0x8000000000000000ul) : "rax"));
	TRY("nop wild", __asm__ volatile("nopl (%0)" ::"r"(0x8000000000000000ul)));
	TRY("push memory", __asm__ volatile("pushq (%0); pop %%rax" ::"r"(lone + PAGE) : "rax", "memory"));
	TRY("pop memory", __asm__ volatile("push $5; popq (%0); add $8, %%rsp" ::"r"(lone + PAGE) : "memory"));
	TRY("32-bit address", __asm__ volatile("movl (%%eax), %%eax" ::"a"(0xffffffff00000010ul)));
	TRY("movnti", __asm__ volatile("movnti %%rax, (%0)" ::"r"(lone + PAGE) : "memory"));
	TRY("pause, fences", __asm__ volatile("pause; lfence; sfence; mfence" ::: "memory"));
	TRY("leave wild", __asm__ volatile("mov %%rsp, %%rax; mov %%rbp, %%rdx; mov $16, %%ebp; leave" ::: "rax", "rdx", "memory"));
	return 0;
}
