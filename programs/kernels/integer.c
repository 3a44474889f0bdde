/* Integer loop: xorshift with one unpredictable branch, all in registers. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 200000000;
	uint64_t x = 88172645463325252ull, sum = 0;

	for (long i = 0; i < rounds; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		sum += x;
		if (x & 1)
			sum ^= i;
	}
	printf("%llu\n", (unsigned long long)sum);
	return 0;
}
