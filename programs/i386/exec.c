/* An i386 program starts a 64-bit one, which starts the i386 program again. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc > 1) {
		printf("back with %s and %s, words of %zu\n", argv[1], getenv("KEPT"), sizeof(long));
		return 9;
	}
	char *arguments[] = { "sh", "-c", "uname -m; KEPT=yes exec \"$0\" again", argv[0], 0 };
	printf("off\n");
	fflush(stdout);
	execv("/bin/sh", arguments);
	return 1;
}
