/* Raw system calls of i386 programs: none of the C library's own forms in between. */
#include <stdio.h>

/* eax = number; ebx, ecx, edx, esi, edi and ebp from the list. */
long raw_call(long number, const long *arguments);
asm(".text\nraw_call:\n"
    "push %ebp; push %ebx; push %esi; push %edi\n"
    "mov 20(%esp), %eax; mov 24(%esp), %ecx\n"
    "mov (%ecx), %ebx; mov 8(%ecx), %edx; mov 12(%ecx), %esi\n"
    "mov 16(%ecx), %edi; mov 20(%ecx), %ebp; mov 4(%ecx), %ecx\n"
    "int $0x80\n"
    "pop %edi; pop %esi; pop %ebx; pop %ebp; ret\n");

#define QUIET(number, ...) raw_call(number, (const long[6]){ __VA_ARGS__ })
#define CALL(name, number, ...) told(name, QUIET(number, __VA_ARGS__))

static long told(const char *name, long result)
{
	printf("%s = %ld\n", name, result);
	return result;
}

static void hex(const char *name, const void *data, int bytes)
{
	const unsigned char *byte = data;

	printf("%s", name);
	for (int i = 0; i < bytes; i++)
		printf(" %02x", byte[i]);
	printf("\n");
}
