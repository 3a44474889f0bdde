/* Endless new code: a translation bomb of 24 MB, each piece run once. */
#include "hostile.h"

int main(void)
{
	size_t bytes = 4 << 20, step = 64;
	unsigned sum = 0;
	char *p = mmap(0, bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (int round = 0; round < 6; round++) {
		for (size_t at = 0; at < bytes; at += step) {
			/* mov $value, %eax; jz over a byte; ...; ret */
			uint32_t value = at * 2654435761u + round;
			unsigned char code[16] = { 0xb8, 0, 0, 0, 0, 0x85, 0xc0, 0x74, 1, 0x90, 0xff, 0xc0, 0xc3 };
			memcpy(code + 1, &value, 4);
			memcpy(p + at, code, sizeof code);
		}
		for (size_t at = 0; at < bytes; at += step)
			sum = sum * 31 + ((unsigned (*)(void))(p + at))();
	}
	printf("%u\n", sum);
	return 0;
}
