/* readv and writev: counts, lengths that overflow, bases that fault in the middle. */
#include "hostile.h"
#include <sys/uio.h>

int main(void)
{
	int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDONLY);
	char *lone = lone_page(PROT_READ | PROT_WRITE);
	static struct iovec many[1100];
	struct iovec two[2] = { { lone, 8 }, { (void *)8, 8 } };

	for (int i = 0; i < 1100; i++)
		many[i] = (struct iovec){ lone, 1 };
	CALL("count -1", writev(null, two, -1));
	CALL("count 0", writev(null, two, 0));
	CALL("count 1025", writev(null, many, 1025));
	CALL("count 1024", writev(null, many, 1024));
	printf("first good: %ld\n", (long)readv(zero, two, 2));
	two[0].iov_len = -1;
	CALL("length -1", writev(null, two, 2));
	two[0].iov_len = 1ul << 62;
	two[1] = (struct iovec){ lone, 1ul << 62 };
	CALL("lengths overflow", readv(zero, two, 2));
	two[0] = (struct iovec){ (void *)0xffffffff81000000, 8 };
	CALL("kernel base", readv(zero, two, 1));
	printf("cut at the edge: %ld\n", (long)read(zero, lone + PAGE - 100, 200));
	CALL("huge length", read(zero, lone + PAGE, -1ul));
	CALL("negative length", write(null, lone, -5ul));
	return 0;
}
