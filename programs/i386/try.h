/* Statements that a signal may end; the program's handler `told` says which and comes back here. */
#include <setjmp.h>
#include <stdio.h>

static sigjmp_buf back;

#define TRY(what)                                       \
	do {                                            \
		if (!sigsetjmp(back, 1)) {              \
			what;                           \
			printf("nothing: " #what "\n"); \
		}                                       \
	} while (0)
