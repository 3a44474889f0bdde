/* Far transfers: to the same segment, to nonsense, to 32-bit mode. Not compared. */
#include "hostile.h"

static struct {
	uint64_t offset;
	uint16_t selector;
} __attribute__((packed)) target;

static void far_jump(const char *name, uint16_t selector)
{
	target.selector = selector;
	TRY(name, __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; rex.w ljmp *%0; 1:" : "+m"(target)::"rax", "memory"));
	TRY(name, __asm__ volatile("lea 1f(%%rip), %%rax; push %0; push %%rax; lretq; 1:" ::"r"((uint64_t)selector) : "rax", "memory"));
	TRY(name, __asm__ volatile("mov %%rsp, %%rcx; push $0x2b; push %%rcx; pushfq; push %0; lea 1f(%%rip), %%rax; push %%rax; iretq; 1:"
				   ::"r"((uint64_t)selector) : "rax", "rcx", "memory", "cc"));
}

int main(void)
{
	catch_signals();
	far_jump("same", 0x33);
	far_jump("null", 0);
	far_jump("data", 0x2b);
	far_jump("kernel", 0x10);
	far_jump("wild", 0xffff);
	far_jump("compatibility", 0x23);
	return 0;
}
