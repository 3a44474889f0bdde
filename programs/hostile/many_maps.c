/* One VMA more than allowed: ENOMEM at the same count as Linux. */
#include "hostile.h"

int main(void)
{
	long count = 0;
	char *base = mmap(0, 70000 * 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	for (; count < 70000; count++)
		if (mprotect(base + count * 2 * PAGE, PAGE, PROT_READ))
			break;
	printf("%s after %s\n", errno == ENOMEM ? "ENOMEM" : "none", count > 32000 && count < 33000 ? "max_map_count" : "another count");
	CALL("munmap that splits", munmap(base + PAGE * 1001, PAGE / 2));
	CALL("munmap of all", munmap(base, 70000 * 2 * PAGE));
	CALL("mmap after", mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
	return 0;
}
