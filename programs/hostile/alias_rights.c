/* One page, two mappings with different rights. */
#include "hostile.h"

int main(void)
{
	char *writable = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *readable = mremap(writable, 0, PAGE, MREMAP_MAYMOVE);

	catch_signals();
	mprotect(readable, PAGE, PROT_READ);
	for (int i = 0; i < 4; i++) {
		writable[0] = i + 1;
		printf("%d\n", readable[0]);
		try_base = (uintptr_t)readable;
		TRY("store to the readable", readable[0] = 9);
		mprotect(writable, PAGE, i & 1 ? PROT_READ | PROT_WRITE : PROT_READ);
		try_base = (uintptr_t)writable;
		TRY("store to the other", writable[0] = 8);
		mprotect(writable, PAGE, PROT_READ | PROT_WRITE);
	}
	return 0;
}
