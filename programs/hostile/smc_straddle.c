/* An instruction across two pages; the second page is changed, protected, unmapped. */
#include "hostile.h"

int main(void)
{
	static const unsigned char answer[] = { 0xb8, 1, 2, 3, 4, 0xc3 };
	char *p = pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
	char *code = p + PAGE - 3;

	catch_signals();
	memcpy(code, answer, sizeof answer);
	for (int i = 0; i < 5; i++) {
		p[PAGE] = i;
		printf("%#x\n", ((int (*)(void))code)());
	}
	try_base = (uintptr_t)p;
	mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE);
	TRY("second page not executable", ((void (*)(void))code)());
	mprotect(p + PAGE, PAGE, PROT_READ | PROT_EXEC);
	TRY("executable again", ((void (*)(void))code)());
	munmap(p + PAGE, PAGE);
	TRY("second page gone", ((void (*)(void))code)());
	return 0;
}
