/* Writes with lengths beyond the buffer and beyond what one call may take. */
#include "hostile.h"

int main(void)
{
	int null = open("/dev/null", O_WRONLY);
	char *p = pages(65, PROT_READ | PROT_WRITE);

	mprotect(p + 64 * PAGE, PAGE, PROT_NONE);
	memset(p, 'x', 64 * PAGE);
	for (int i = 0; i < 20; i++)
		if (write(1, p, 64 * PAGE - i) < 0)
			return 1;
	printf("\n%ld\n", (long)write(null, p, 1ul << 40));
	/* A regular file takes what is there. */
	char name[] = "/tmp/flood-XXXXXX";
	int file = mkstemp(name);
	unlink(name);
	printf("%ld\n", (long)write(file, p + 63 * PAGE + 4000, 1 << 20));
	return 0;
}
