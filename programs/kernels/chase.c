/* Pointer chase over 64 MB in random order: every step misses the first TLB level. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct node {
	struct node *next;
	char rest[56];
};

int main(int argc, char **argv)
{
	long steps = argc > 1 ? atol(argv[1]) : 8000000;
	size_t count = (64ul << 20) / sizeof(struct node);
	struct node *nodes = malloc(count * sizeof *nodes), *at = nodes;
	uint32_t *order = malloc(count * sizeof *order);
	uint64_t x = 12345;

	for (size_t i = 0; i < count; i++)
		order[i] = i;
	for (size_t i = count - 1; i > 0; i--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		size_t j = x % i;
		uint32_t other = order[i];
		order[i] = order[j];
		order[j] = other;
	}
	for (size_t i = 0; i < count; i++)
		nodes[order[i]].next = &nodes[order[(i + 1) % count]];
	for (long i = 0; i < steps; i++)
		at = at->next;
	printf("%ld\n", (long)(at - nodes));
	return 0;
}
