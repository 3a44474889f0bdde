/* Jumps into the middle of instructions: the same bytes mean two things. */
#include "hostile.h"

int main(void)
{
	/* mov $0x00c3c0ff, %eax; ret  -- from byte 1 on: inc %eax; ret */
	static const unsigned char bytes[] = { 0xb8, 0xff, 0xc0, 0xc3, 0x00, 0xc3 };
	char *page = code_page(bytes, sizeof bytes);
	long sum = 0;

	for (int i = 0; i < 1000; i++) {
		int value = i;
		sum += ((int (*)(void))page)();
		__asm__ volatile("call *%1" : "+a"(value) : "b"(page + 1) : "cc", "memory");
		sum += value;
	}
	printf("%ld\n", sum);
	return 0;
}
