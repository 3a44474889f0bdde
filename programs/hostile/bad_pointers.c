/* Calls that are harmless natively, with every kind of bad pointer: the errors must be Linux's. */
#include "hostile.h"
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>

static int values_here;

static void with(const char *kind, void *p, int zero)
{
	printf("-- %s\n", kind);
	CALL("read", syscall(SYS_read, zero, p, 16));
	CALL("pread64", syscall(SYS_pread64, zero, p, 16, 0));
	CALL("write", syscall(SYS_write, zero, p, 16));
	CALL("writev", syscall(SYS_writev, 1, p, 1));
	CALL("readv", syscall(SYS_readv, zero, p, 1));
	CALL("open", syscall(SYS_open, p, O_RDONLY));
	CALL("openat", syscall(SYS_openat, AT_FDCWD, p, O_RDONLY));
	CALL("stat", syscall(SYS_stat, p, p));
	CALL("stat buffer", syscall(SYS_stat, "/", p));
	CALL("fstat", syscall(SYS_fstat, zero, p));
	CALL("newfstatat", syscall(SYS_newfstatat, AT_FDCWD, "/", p, 0));
	CALL("access", syscall(SYS_access, p, 0));
	CALL("readlink", syscall(SYS_readlink, p, p, 16));
	CALL("readlink buffer", syscall(SYS_readlink, "/proc/self/exe", p, 16));
	CALL("getcwd", syscall(SYS_getcwd, p, 64));
	CALL("uname", syscall(SYS_uname, p));
	CALL("clock_gettime", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, p));
	CALL("gettimeofday", syscall(SYS_gettimeofday, p, 0));
	CALL("getrlimit", syscall(SYS_getrlimit, 3, p));
	CALL("prlimit64", syscall(SYS_prlimit64, 0, 3, 0, p));
	CALL("getrusage", syscall(SYS_getrusage, 0, p));
	CALL("getrandom", syscall(SYS_getrandom, p, 16, 0));
	CALL("sysinfo", syscall(SYS_sysinfo, p));
	CALL("nanosleep", syscall(SYS_nanosleep, p, 0));
	CALL("rt_sigprocmask", syscall(SYS_rt_sigprocmask, 0, 0, p, 8));
	CALL("sigaltstack", syscall(SYS_sigaltstack, 0, p));
	CALL("chdir", syscall(SYS_chdir, p));
	CALL("mincore", syscall(SYS_mincore, (uintptr_t)&values_here & ~(PAGE - 1), PAGE, p));
	CALL("times", syscall(SYS_times, p) == -1 ? -1 : 0);
	CALL("time", syscall(SYS_time, p) == -1 ? -1 : 0);
}



int main(void)
{
	int zero = open("/dev/zero", O_RDWR);
	char *lone = lone_page(PROT_READ | PROT_WRITE);
	char *read_only = lone_page(PROT_READ);

	with("null", 0, zero);
	with("low", (void *)8, zero);
	with("no rights", pages(1, PROT_NONE), zero);
	with("read only", read_only, zero);
	with("unmapped", (void *)0x10000, zero);
	memset(lone, 'x', PAGE);
	with("last byte", lone + PAGE - 1, zero);
	with("end", lone + PAGE, zero);
	with("last of user space", (void *)0x7fffffffefff, zero);
	with("above user space", (void *)0x7ffffffff000, zero);
	with("non-canonical", (void *)0x123456789abcdef0, zero);
	with("kernel", (void *)0xffffffff81000000, zero);
	with("top", (void *)-1, zero);
	with("wraps", (void *)-8, zero);
	return 0;
}
