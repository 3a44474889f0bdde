/* Loads and stores at every strange address, through every kind of base. */
#include "hostile.h"

static void access_at(uintptr_t address)
{
	try_base = address;
	printf("%#lx\n", address);
	TRY("load", (void)*(volatile uint64_t *)address);
	TRY("store", *(volatile uint64_t *)address = 1);
	TRY("byte", *(volatile uint8_t *)address = 1);
	TRY("rmw", __asm__ volatile("lock incq (%0)" ::"r"(address) : "memory"));
	TRY("sse", __asm__ volatile("movups (%0), %%xmm0" ::"r"(address) : "memory", "xmm0"));
	TRY("x87", __asm__ volatile("fldt (%0); fstp %%st" ::"r"(address) : "memory"));
	TRY("movs", __asm__ volatile("mov %0, %%rsi; mov %0, %%rdi; movsq" ::"r"(address)
				     : "rsi", "rdi", "memory"));
	TRY("rbp", __asm__ volatile("push %%rbp; mov %0, %%rbp; mov (%%rbp), %%rax; pop %%rbp" ::"r"(address)
				    : "rax", "memory"));
	/* Above, processors differ in whether the offset alone must be canonical. */
	if (address < 0x10000)
		TRY("fs", __asm__ volatile("mov %%fs:(%0), %%rax" ::"r"(address) : "rax", "memory"));
}

int main(void)
{
	static const uintptr_t addresses[] = {
		0,
		8,
		0xfff,
		0x7ffffffff000,
		0x7fffffffeffc,
		0x7ffffffffffc,
		0x800000000000,
		0x123456789abcdef0,
		0xffff7fffffffffff,
		0xffff800000000000,
		0xffffffff80000000,
		0xffffffffff600000,
		0xfffffffffffffff0,
		0xfffffffffffffffc,
		0xffffffffffffffff,
	};

	catch_signals();
	for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
		access_at(addresses[i]);
	return 0;
}
