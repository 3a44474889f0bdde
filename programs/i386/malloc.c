/* Blocks of all sizes taken, resized and given back at random; then all that there is, and again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 512
#define LARGE (1ul << 20)

static uint32_t state = 2463534242u;

static uint32_t next(uint32_t bound)
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state % bound;
}

/* Most blocks are small; some are so large that the C library maps them. */
static size_t size(void)
{
	return next(16) ? 1 + next(4000) : 1 + next(300000);
}

static int is_intact(const unsigned char *block, size_t bytes, unsigned char mark)
{
	return block[0] == mark && block[bytes / 2] == mark && block[bytes - 1] == mark;
}

int main(void)
{
	static unsigned char *block[BLOCKS];
	static size_t bytes[BLOCKS];
	static void *list;
	unsigned long lost = 0, rounds = 0;

	for (; rounds < 30000; rounds++) {
		int at = next(BLOCKS);
		unsigned char mark = at;
		size_t wanted = size();

		if (block[at] && !is_intact(block[at], bytes[at], mark))
			lost++;
		if (block[at] && next(3) == 0) {
			free(block[at]);
			block[at] = 0;
			continue;
		}
		block[at] = realloc(block[at], wanted);
		if (!block[at]) {
			printf("no block of %zu bytes\n", wanted);
			return 1;
		}
		memset(block[at], mark, wanted);
		bytes[at] = wanted;
	}
	printf("%lu rounds, %lu blocks damaged\n", rounds, lost);
	/* What was given back can be had again. */
	unsigned long count[2] = { 0, 0 };
	for (int turn = 0; turn < 2; turn++) {
		for (void **one; (one = malloc(LARGE)); list = one) {
			*one = list;
			count[turn]++;
		}
		while (list) {
			void *rest = *(void **)list;
			free(list);
			list = rest;
		}
	}
	printf("all %s, and %s again\n", count[0] > 300 ? "of it" : "too little", count[1] == count[0] ? "all" : "less");
	return 0;
}
