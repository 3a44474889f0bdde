/* 64-bit code that calls the system by int 0x80: the i386 table, and only the lower halves. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static long call(long number, long a, long b, long c, long d, long e)
{
	long result;

	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
		     : "memory", "r8", "r9", "r10", "r11");
	return result;
}

int main(void)
{
	static char far[] = "not reached\n";
	unsigned long r8 = 0x1122334455667788, after;

	printf("getpid %d\n", call(20, 0, 0, 0, 0, 0) == getpid());
	char *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	strcpy(low, "written by int 0x80\n");
	fflush(stdout);
	printf("write %ld\n", call(4, 1, (long)low, 20, 0, 0));
	printf("bad pointer %ld\n", call(4, 1, (long)far | 1L << 45, 12, 0, 0));
	printf("upper half does not count %ld\n", call(4, 1 | 1L << 40, (long)low | 1L << 40, 20, 0, 0));
	printf("no such call %ld\n", call(1000, 0, 0, 0, 0, 0));
	long mapped = call(192, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	printf("mmap2 %lx\n", mapped);
	asm volatile("mov %2, %%r8; mov $20, %%eax; int $0x80; mov %%r8, %0"
		     : "=r"(after), "+m"(r8) : "r"(r8) : "rax", "r8", "memory");
	printf("r8 %lx\n", after);
	fflush(stdout);
	return call(1, 5, 0, 0, 0, 0);
}
