/* Address space by the terabyte, without touching it. */
#include "hostile.h"

int main(void)
{
	long count = 0;

	while (count < 1000 && mmap(0, 1ul << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED)
		count++;
	printf("%ld TB, then errno %d\n", count, errno);
	return 0;
}
