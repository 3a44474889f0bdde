/* Self-modifying code: the next instruction of the same block, and a function over and over. */
#include "hostile.h"

int main(void)
{
	/* movb $2, 1+target(%rip); target: mov $1, %eax; ret */
	static const unsigned char own[] = { 0xc6, 0x05, 0x01, 0, 0, 0, 0x02, 0xb8, 1, 0, 0, 0, 0xc3 };
	/* mov $imm32, %eax; ret */
	static const unsigned char answer[] = { 0xb8, 0, 0, 0, 0, 0xc3 };
	int (*next)(void) = code_page(own, sizeof own);
	char *page = code_page(answer, sizeof answer);
	long sum = 0;

	printf("next instruction: %d\n", next());
	for (int i = 0; i < 3000; i++) {
		memcpy(page + 1, &i, 4);
		sum += ((int (*)(void))page)();
	}
	printf("sum: %ld\n", sum);
	return 0;
}
