/* Touches memory until there is none. Only inside, with little RAM. */
#include "hostile.h"

int main(void)
{
	for (;;) {
		char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED) {
			puts("refused");
			return 3;
		}
		memset(p, 1, 1 << 20);
	}
}
