/* Shared memory: files in memory, seals, truncation under mappings, the same page at two addresses. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
}
#define T(call) tell(#call, (long)(call))

static sigjmp_buf back;
static int fault_code;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	fault_code = signal * 100 + info->si_code;
	siglongjmp(back, 1);
}

/* Reads a byte; the signal and its code, negative, if there is none. */
static int peek(volatile char *p)
{
	if (sigsetjmp(back, 1))
		return -fault_code;
	return *p;
}

static int poke(volatile char *p, int value)
{
	if (sigsetjmp(back, 1))
		return -fault_code;
	*p = value;
	return 0;
}

static int map_ok(int fd, int prot, int flags)
{
	void *p = mmap(0, 4096, prot, flags, fd, 0);
	if (p == MAP_FAILED)
		return -1;
	munmap(p, 4096);
	return 0;
}

static void seals(void)
{
	int fd = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	ftruncate(fd, 8192);
	T(fcntl(fd, F_GET_SEALS));
	char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	p[0] = 'a';
	T(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	T(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
	T(ftruncate(fd, 4096));
	T(ftruncate(fd, 12288));
	T(ftruncate(fd, 8192));
	T(pwrite(fd, "xyz", 3, 8190));
	T(pwrite(fd, "xyz", 3, 8189));
	char many[10000];
	memset(many, 1, sizeof many);
	T(pwrite(fd, many, 10000, 4000));
	T(fallocate(fd, 0, 0, 8192));
	T(fallocate(fd, 0, 0, 9000));
	T(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 9000));
	T(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	T(write(fd, "x", 1));
	p[1] = 'b';
	T(map_ok(fd, PROT_READ | PROT_WRITE, MAP_SHARED));
	T(map_ok(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE));
	T(map_ok(fd, PROT_READ, MAP_SHARED));
	char *r = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
	T(mprotect(r, 4096, PROT_READ | PROT_WRITE));
	T(r[1]);
	fflush(stdout);
	if (fork() == 0) {
		usleep(20000);
		_exit(0);
	}
	munmap(p, 8192);
	T(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	wait(0);
	T(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	T(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
	T(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
	T(fcntl(fd, F_GET_SEALS));
	T(fcntl(fd, F_ADD_SEALS, 0x1000));
	int plain = memfd_create("plain", 0);
	T(fcntl(plain, F_GET_SEALS));
	T(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW));
	T(fcntl(0, F_GET_SEALS));
	int ro = open("/proc/self/fd/3", O_RDONLY);
	T(fcntl(ro, F_ADD_SEALS, F_SEAL_GROW));
	T(memfd_create("x", 0x1000));
	close(fd), close(plain), close(ro);
}

static void truncation(void)
{
	int fd = memfd_create("cut", 0);
	ftruncate(fd, 3 * 4096);
	char *p = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *q = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	volatile int *step = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(p, 'p', 3 * 4096);
	q[4096] = 'q';
	fflush(stdout);
	if (fork() == 0) {
		int before = peek(p + 4096), mine = peek(q + 4096);
		*step = 1;
		while (*step != 2)
			usleep(1000);
		printf("child %d %d: %d %d %d %d\n", before, mine, peek(p), peek(p + 4095), peek(p + 4096),
			peek(q + 4096));
		printf("child %d\n", peek(p + 100));
		*step = 3;
		while (*step != 4)
			usleep(1000);
		printf("child %d %d %d\n", peek(p + 4096), peek(q + 4096), poke(p + 2 * 4096, 'c'));
		fflush(stdout);
		_exit(0);
	}
	while (*step != 1)
		usleep(1000);
	T(ftruncate(fd, 50));
	T(peek(p + 4096));
	T(peek(q + 4096));
	T(peek(p + 49));
	T(peek(p + 50));
	T(peek(p + 3 * 4096));
	fflush(stdout);
	*step = 2;
	while (*step != 3)
		usleep(1000);
	T(ftruncate(fd, 3 * 4096));
	T(peek(p + 4096));
	fflush(stdout);
	*step = 4;
	wait(0);
	char b[10];
	T(pread(fd, b, 1, 2 * 4096));
	T(b[0]);
	T(pwrite(fd, "z", 1, 4096));
	T(peek(p + 4096));
	T(peek(q + 4096));
	T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	T(peek(p + 1));
	struct stat st;
	fstat(fd, &st);
	printf("%ld %o %ld\n", (long)st.st_size, st.st_mode, (long)st.st_nlink);
	close(fd);
}

static void addresses(void)
{
	char name[40];
	sprintf(name, "/faultline-%07d", getpid());
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	T(fd >= 0);
	T(shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
	struct statfs fs;
	T(fstatfs(fd, &fs));
	printf("%lx %ld\n", (long)fs.f_type, (long)fs.f_bsize);
	T(statfs("/dev/shm", &fs));
	printf("%lx\n", (long)fs.f_type);
	struct stat st;
	stat("/dev/shm", &st);
	printf("%o\n", st.st_mode);
	ftruncate(fd, 4096);
	char **a = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	char **b = mmap((void *)0x20000000, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	a[0] = (char *)&a[1];
	a[1] = (char *)0x1234;
	printf("%d %d\n", b[0] == (char *)&a[1], b[0] == (char *)&b[1]);
	fflush(stdout);
	if (fork() == 0) {
		munmap(a, 4096);
		/* A pointer into the page works only where the page is at the same address. */
		printf("%d %lx\n", peek(b[0]), (long)b[1]);
		b[2] = (char *)77;
		write(fd, "W", 1);
		fflush(stdout);
		_exit(0);
	}
	wait(0);
	printf("%ld %c\n", (long)a[2], ((char *)a)[0]);
	char c;
	T(pread(fd, &c, 1, 16));
	T(c);
	T(msync(a, 4096, MS_SYNC));
	T(shm_unlink(name));
	T(shm_unlink(name));
	T(poke((char *)b, 'q'));
	T(peek((char *)a));
	close(fd);
}

static void anonymous(void)
{
	long *p = mmap(0, 64 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long *z;
	int zero = open("/dev/zero", O_RDWR);
	z = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, zero, 0);
	fflush(stdout);
	for (int i = 0; i < 4; i++)
		if (fork() == 0) {
			for (int j = i; j < 64; j += 4)
				p[j * 512] = j * 10 + i;
			__atomic_add_fetch(z, i + 1, __ATOMIC_SEQ_CST);
			if (fork() == 0) {
				p[i * 512 + 1] = i;
				_exit(0);
			}
			wait(0);
			_exit(0);
		}
	while (wait(0) > 0)
		;
	long sum = 0;
	for (int j = 0; j < 64; j++)
		sum += p[j * 512] * (j + 1) + p[j * 512 + 1];
	printf("%ld %ld\n", sum, *z);
	madvise(p, 64 * 4096, MADV_REMOVE);
	printf("%ld\n", p[512]);
}

int main(void)
{
	setvbuf(stdout, 0, _IOFBF, 1 << 16);
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	sigaction(SIGBUS, &action, 0);
	sigaction(SIGSEGV, &action, 0);
	seals();
	truncation();
	addresses();
	anonymous();
	return 0;
}
