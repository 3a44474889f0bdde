/* Binary trees with malloc, a hash table beyond the first TLB level, and formatted text. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tree {
	struct tree *left, *right;
	uint64_t key, count;
};

static struct tree *insert(struct tree *tree, uint64_t key)
{
	if (!tree) {
		tree = calloc(1, sizeof *tree);
		tree->key = key;
		tree->count = 1;
	} else if (key < tree->key) {
		tree->left = insert(tree->left, key);
	} else if (key > tree->key) {
		tree->right = insert(tree->right, key);
	} else {
		tree->count++;
	}
	return tree;
}

static uint64_t drop(struct tree *tree)
{
	if (!tree)
		return 0;
	uint64_t sum = tree->count * tree->key + drop(tree->left) + drop(tree->right);
	free(tree);
	return sum;
}

int main(int argc, char **argv)
{
	enum { SLOTS = 1 << 16 };
	static uint64_t table[SLOTS];
	int rounds = argc > 1 ? atoi(argv[1]) : 5;
	uint64_t x = 88172645463325252ull, sum = 0;
	char text[64];

	for (int round = 0; round < rounds; round++) {
		struct tree *tree = 0;
		for (int i = 0; i < 200000; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			tree = insert(tree, x % 150000);
		}
		sum += drop(tree);
	}
	for (long i = 0; i < rounds * 6000000l; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		uint64_t slot = x & (SLOTS - 1);
		table[slot] += x >> 40;
		sum ^= table[(slot * 7) & (SLOTS - 1)];
	}
	for (int i = 0; i < rounds * 150000; i++) {
		snprintf(text, sizeof text, "%d:%x:%s", i, i * 7, "hello");
		sum += strlen(text) + text[3];
	}
	printf("%llu\n", (unsigned long long)sum);
	return 0;
}
