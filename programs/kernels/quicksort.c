/* Quicksort of random integers: unpredictable branches, two moving cursors. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void sort(int32_t *a, long left, long right)
{
	while (left < right) {
		int32_t pivot = a[(left + right) / 2];
		long i = left, j = right;

		while (i <= j) {
			while (a[i] < pivot)
				i++;
			while (a[j] > pivot)
				j--;
			if (i <= j) {
				int32_t other = a[i];
				a[i++] = a[j];
				a[j--] = other;
			}
		}
		if (j - left < right - i) {
			sort(a, left, j);
			left = i;
		} else {
			sort(a, i, right);
			right = j;
		}
	}
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 6000000;
	int32_t *a = malloc(count * sizeof *a);
	uint64_t x = 88172645463325252ull, hash = 0;

	for (long i = 0; i < count; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		a[i] = x;
	}
	sort(a, 0, count - 1);
	for (long i = 0; i < count; i++) {
		hash = hash * 31 + a[i];
		if (i && a[i - 1] > a[i])
			return 1;
	}
	printf("%llx\n", (unsigned long long)hash);
	return 0;
}
