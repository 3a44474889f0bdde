/* The smallest C program with a library. */
#include <stdio.h>

int main(void)
{
	puts("hello");
	return 0;
}
