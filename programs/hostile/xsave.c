/* State saves and restores with headers and fields that hardware refuses. */
#include "hostile.h"
#include <immintrin.h>

static char area[4096] __attribute__((aligned(4096)));

#define RESTORE(name)                                                                              \
	TRY(name, __asm__ volatile("xrstor %0" ::"m"(area), "a"(7), "d"(0) : "memory"))

int main(void)
{
	catch_signals();
	TRY("fxsave", __asm__ volatile("fxsave %0" : "=m"(area)));
	area[24 + 3] = (char)0xff;
	TRY("fxrstor reserved mxcsr", __asm__ volatile("fxrstor %0" ::"m"(area)));
	memset(area, 0, sizeof area);
	TRY("xsave", __asm__ volatile("xsave %0" : "+m"(area) : "a"(7), "d"(0)));
	RESTORE("xrstor");
	area[512] = (char)0xff;
	area[519] = (char)0x40;
	RESTORE("xrstor unknown component");
	memset(area + 512, 0, 64);
	area[512] = 7;
	area[520 + 8] = 1;
	RESTORE("xrstor reserved header");
	memset(area + 512, 0, 64);
	area[512] = 3;
	area[27] = (char)0x80;
	RESTORE("xrstor reserved mxcsr");
	TRY("xsave misaligned", __asm__ volatile("xsave 8(%0)" ::"r"(area), "a"(7), "d"(0) : "memory"));
	uint32_t mxcsr = 0xffffffff;
	TRY("ldmxcsr reserved", __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr)));
	mxcsr = 0x1f80;
	TRY("ldmxcsr", __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr)));
	char *edge = lone_page(PROT_READ | PROT_WRITE) + PAGE - 512;
	TRY("fxsave fits", __asm__ volatile("fxsave (%0)" ::"r"(edge) : "memory"));
	TRY("fxsave crosses", __asm__ volatile("fxsave 64(%0)" ::"r"(edge) : "memory"));
	TRY("xsave crosses", __asm__ volatile("xsave (%0)" ::"r"(edge), "a"(7), "d"(0) : "memory"));
	TRY("xrstor crosses", __asm__ volatile("xrstor (%0)" ::"r"(edge), "a"(7), "d"(0) : "memory"));
	return 0;
}
