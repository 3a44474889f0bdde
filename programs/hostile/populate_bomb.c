/* MAP_POPULATE and mlock of more than there is: errors or death, never a hang. Only inside. */
#include "hostile.h"

int main(void)
{
	char *p = mmap(0, 1ul << 36, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_POPULATE, -1, 0);

	printf("populate: %s\n", p == MAP_FAILED ? "refused" : "mapped");
	fflush(stdout);
	printf("mlock: %d\n", p == MAP_FAILED ? 0 : mlock(p, 1ul << 36));
	return 0;
}
