/* Bytecode loop with computed goto: one indirect jump for each operation. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	static const uint8_t code[] = { 0, 1, 2, 3, 4, 0, 2, 1, 3, 5, 0, 4, 2, 6 };
	static void *operation[] = { &&add, &&xor_in, &&scale, &&rotate, &&sum, &&fold, &&loop };
	uint64_t rounds = argc > 1 ? strtoull(argv[1], 0, 0) : 30000000;
	uint64_t a = 1, b = 2, c = 3, n = 0;
	const volatile uint8_t *next = code;

#define NEXT goto *operation[*next++]
	NEXT;
add:	a += b; NEXT;
xor_in:	b ^= a; NEXT;
scale:	c += a * 3; NEXT;
rotate:	a = a << 5 | a >> 59; NEXT;
sum:	b += c; NEXT;
fold:	c ^= b >> 3; NEXT;
loop:	if (++n == rounds) {
		printf("%llu\n", (unsigned long long)(a ^ b ^ c));
		return 0;
	}
	next = code;
	NEXT;
}
