/* The same page mapped twice: written through one mapping, executed through the other. */
#include "hostile.h"

int main(void)
{
	static const unsigned char answer[] = { 0xb8, 0, 0, 0, 0, 0xc3 };
	char *writable = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long sum = 0;

	memcpy(writable, answer, sizeof answer);
	/* An old size of 0 duplicates a shared mapping. */
	char *alias = mremap(writable, 0, PAGE, MREMAP_MAYMOVE);
	if (alias == MAP_FAILED || mprotect(alias, PAGE, PROT_READ | PROT_EXEC))
		return 1;
	for (int i = 0; i < 1000; i++) {
		memcpy(writable + 1, &i, 4);
		sum += ((int (*)(void))alias)();
	}
	printf("sum: %ld\n", sum);
	return 0;
}
