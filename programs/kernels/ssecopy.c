/* Misaligned SSE copy: source and destination shifted, so that accesses straddle pages. */
#include <emmintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((noinline)) static void copy(char *to, const char *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64) {
		__m128i a = _mm_loadu_si128((const void *)(from + i));
		__m128i b = _mm_loadu_si128((const void *)(from + i + 16));
		__m128i c = _mm_loadu_si128((const void *)(from + i + 32));
		__m128i d = _mm_loadu_si128((const void *)(from + i + 48));
		_mm_storeu_si128((void *)(to + i), a);
		_mm_storeu_si128((void *)(to + i + 16), b);
		_mm_storeu_si128((void *)(to + i + 32), c);
		_mm_storeu_si128((void *)(to + i + 48), d);
	}
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 12000;
	size_t bytes = 1 << 20;
	char *from = malloc(bytes + 64), *to = malloc(bytes + 64);

	memset(from, 1, bytes + 64);
	for (int i = 0; i < rounds; i++) {
		copy(to, from + (i & 15), bytes);
		from[i] += to[i];
	}
	printf("%d\n", to[5]);
	return 0;
}
