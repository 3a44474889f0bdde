/* Unmasked floating-point exceptions, SSE and x87. */
#include "hostile.h"

static void unmask(uint32_t mxcsr) { __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr)); }

static volatile double zero = 0, one = 1, huge = 1e308, tiny = 1e-308;
static volatile double result;

static void control(uint16_t word) { __asm__ volatile("fldcw %0" ::"m"(word)); }

int main(void)
{
	catch_signals();
	unmask(0x1f80 & ~0x200);
	TRY("sse divide by zero", result = one / zero);
	unmask(0x1f80 & ~0x80);
	TRY("sse invalid", result = zero / zero);
	unmask(0x1f80 & ~0x400);
	TRY("sse overflow", result = huge * huge);
	unmask(0x1f80 & ~0x800);
	TRY("sse underflow", result = tiny * tiny);
	unmask(0x1f80 & ~0x1000);
	TRY("sse inexact", result = one / 3);
	unmask(0x1f80);
	control(0x37f & ~4);
	TRY("x87 divide by zero", __asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp; fwait" ::"m"((uint16_t){ 0x37b })));
	__asm__ volatile("fninit");
	TRY("x87 invalid", __asm__ volatile("fninit; fldcw %0; fldz; fldz; fdivrp; fwait" ::"m"((uint16_t){ 0x37e })));
	__asm__ volatile("fninit");
	TRY("x87 stack underflow", __asm__ volatile("fninit; fldcw %0; fstp %%st; fwait" ::"m"((uint16_t){ 0x37e })));
	__asm__ volatile("fninit");
	return 0;
}
