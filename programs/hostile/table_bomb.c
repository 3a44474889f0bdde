/* One byte for each 2 MB: a page table for every page, until memory ends. Only inside, with little RAM. */
#include "hostile.h"

int main(void)
{
	for (int block = 0; block < 4096; block++) {
		char *p = mmap(0, 1ul << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED)
			return 3;
		for (size_t at = 0; at < 1ul << 30; at += 2 << 20)
			p[at] = 1;
	}
	return 4;
}
