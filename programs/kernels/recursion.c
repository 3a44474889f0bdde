/* Recursion: calls, returns and the stack. */
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) static long fibonacci(long n)
{
	return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

int main(int argc, char **argv)
{
	printf("%ld\n", fibonacci(argc > 1 ? atol(argv[1]) : 40));
	return 0;
}
