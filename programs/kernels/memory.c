/* memcpy and memset: large blocks, then many small ones. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 400;
	size_t bytes = 8 << 20;
	char *a = malloc(bytes), *b = malloc(bytes);
	long sum = 0;

	memset(a, 1, bytes);
	memset(b, 2, bytes);
	for (int i = 0; i < rounds; i++) {
		memcpy(b, a, bytes);
		memset(a, i, bytes);
	}
	for (int i = 0; i < rounds * 50000; i++) {
		memcpy(b + (i * 64 & 0xffff), a + (i * 40 & 0xffff), (i & 63) + 1);
		sum += b[i & 0xffff];
	}
	printf("%ld\n", sum);
	return 0;
}
