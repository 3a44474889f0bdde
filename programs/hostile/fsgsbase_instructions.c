/* RDFSBASE and friends: present on some hosts only, so not compared. */
#include "hostile.h"

static uint64_t cell = 5;

int main(void)
{
	volatile uint64_t value = 0;

	catch_signals();
	TRY("rdfsbase", __asm__ volatile("rdfsbase %0" : "=r"(value)));
	TRY("rdgsbase", __asm__ volatile("rdgsbase %0" : "=r"(value)));
	TRY("wrgsbase", __asm__ volatile("wrgsbase %0; mov %%gs:0, %1" ::"r"(&cell), "r"(value)));
	TRY("wrgsbase wild", __asm__ volatile("wrgsbase %0" ::"r"(0x8000000000000000ul)));
	TRY("rdpkru", __asm__ volatile("xor %%ecx, %%ecx; rdpkru" ::: "rax", "rcx", "rdx"));
	TRY("wrpkru", __asm__ volatile("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $-1, %%eax; wrpkru" ::: "rax", "rcx", "rdx"));
	TRY("rdpid", __asm__ volatile("rdpid %%rax" ::: "rax"));
	TRY("xgetbv", __asm__ volatile("xor %%ecx, %%ecx; xgetbv" ::: "rax", "rcx", "rdx"));
	TRY("xgetbv 7", __asm__ volatile("mov $7, %%ecx; xgetbv" ::: "rax", "rcx", "rdx"));
	TRY("rdtscp", __asm__ volatile("rdtscp" ::: "rax", "rcx", "rdx"));
	TRY("rdrand", __asm__ volatile("rdrand %%rax" ::: "rax", "cc"));
	TRY("rdseed", __asm__ volatile("rdseed %%rax" ::: "rax", "cc"));
	TRY("xbegin", __asm__ volatile("xbegin 1f; xend; 1:" ::: "rax", "memory"));
	TRY("xend", __asm__ volatile("xend"));
	TRY("xtest", __asm__ volatile("xtest" ::: "cc"));
	TRY("endbr64", __asm__ volatile("endbr64"));
	TRY("rdsspq", __asm__ volatile("rdsspq %%rax" ::: "rax"));
	TRY("monitorx", __asm__ volatile("mov %%rsp, %%rax; xor %%ecx, %%ecx; xor %%edx, %%edx; monitorx" ::: "rax", "rcx", "rdx"));
	TRY("vmcall", __asm__ volatile("vmcall" ::: "rax"));
	TRY("vmmcall", __asm__ volatile("vmmcall" ::: "rax"));
	TRY("enclu", __asm__ volatile("enclu" ::: "rax"));
	TRY("clzero", __asm__ volatile("lea -256(%%rsp), %%rax; clzero" ::: "rax", "memory"));
	TRY("tpause", __asm__ volatile("xor %%edx, %%edx; xor %%eax, %%eax; xor %%ecx, %%ecx; tpause %%ecx" ::: "rax", "rcx", "rdx", "cc"));
	TRY("umwait", __asm__ volatile("umonitor %%rsp; xor %%edx, %%edx; xor %%eax, %%eax; xor %%ecx, %%ecx; umwait %%ecx"
				       ::: "rax", "rcx", "rdx", "cc"));
	return 0;
}
