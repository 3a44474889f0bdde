/* 100,000 messages of one byte there and back between two processes. */
#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGES = 100000 };

int main(void)
{
	int there[2], back[2];
	char byte = 1;

	if (pipe(there) != 0 || pipe(back) != 0)
		return 1;
	if (fork() == 0) {
		for (int i = 0; i < MESSAGES; i++)
			if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1)
				return 1;
		return 0;
	}
	for (int i = 0; i < MESSAGES; i++)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			return 1;
	wait(0);
	return 0;
}
