/* Large files, directories, locks and their structures, through the raw i386 calls. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "call.h"

#define LARGE 0100000

/* What does not fit: the largest signed number for the first call, the largest for the second. */
static void limits(void)
{
	static const uint64_t SOFT[] = { 5, 0x7fffffff, 0x80000000, 0xffffffff, 0x300000001, -1 };

	for (int i = 0; i < 6; i++) {
		uint64_t wanted[2] = { SOFT[i], -1 };
		uint32_t words[4] = { 0xeeeeeeee, 0xeeeeeeee, 0xeeeeeeee, 0xeeeeeeee };

		CALL("prlimit64", 340, 0, RLIMIT_LOCKS, (long)wanted, 0);
		CALL("getrlimit", 76, RLIMIT_LOCKS, (long)words);
		CALL("ugetrlimit", 191, RLIMIT_LOCKS, (long)(words + 2));
		hex("limits", words, sizeof words);
	}
	CALL("getrlimit of nothing", 76, 16, 0);
	CALL("getrlimit nowhere", 76, RLIMIT_LOCKS, 0);
}

int main(void)
{
	char directory[] = "/tmp/filesXXXXXX";
	if (!mkdtemp(directory) || chdir(directory))
		return 1;
	int64_t place = 0;
	long fd = syscall(SYS_open, "large", O_RDWR | O_CREAT | LARGE, 0644);
	setvbuf(stdout, 0, _IOLBF, 0);
	printf("open %d\n", fd >= 0);
	CALL("_llseek 3G", 140, fd, 0, 0xc0000000, (long)&place, SEEK_SET);
	printf("place %lld\n", (long long)place);
	CALL("write", 4, fd, (long)"three gigabytes", 15);
	CALL("lseek cur", 19, fd, 0, SEEK_CUR);
	CALL("lseek set 0x80000000", 19, fd, 0x80000000, SEEK_SET);
	CALL("lseek -1", 19, fd, -1, SEEK_END);
	CALL("pwrite64 8G", 181, fd, (long)"eight", 5, 0, 2);
	char buffer[64] = { 0 };
	CALL("pread64 3G", 180, fd, (long)buffer, 15, 0xc0000000, 0);
	printf("%s\n", buffer);
	CALL("pread64 negative", 180, fd, (long)buffer, 15, 0, 0x80000000);
	struct iovec pieces[2] = { { buffer, 2 }, { buffer + 8, 3 } };
	memset(buffer, 0, sizeof buffer);
	CALL("preadv 8G", 333, fd, (long)pieces, 2, 0, 2);
	printf("%s %s\n", buffer, buffer + 8);
	CALL("preadv2 cur", 378, fd, (long)pieces, 2, -1, -1, 0);
	/* stat of a large file in three forms. */
	unsigned char stats[144];
	memset(stats, 0xee, sizeof stats);
	CALL("fstat", 108, fd, (long)stats);
	memset(stats, 0xee, sizeof stats);
	CALL("fstat64", 197, fd, (long)stats);
	hex("size", stats + 44, 8);
	hex("mode", stats + 16, 4);
	CALL("stat", 106, (long)"large", (long)stats);
	/* Without O_LARGEFILE it is not opened, and nothing grows beyond 2 GiB. */
	CALL("open small", 5, (long)"large", O_RDWR);
	printf("open path %d\n", QUIET(5, (long)"large", O_PATH) > 0);
	long small = syscall(SYS_open, "small", O_RDWR | O_CREAT, 0644);
	CALL("ftruncate", 93, small, 0x7fffffff);
	CALL("pwrite64 at the edge", 181, small, (long)"ab", 2, 0x7ffffffe, 0);
	CALL("pwrite64 behind", 181, small, (long)"ab", 2, 0x7fffffff, 0);
	CALL("pwrite64 far", 181, small, (long)"ab", 2, 0, 1);
	CALL("ftruncate64 3G", 194, small, 0xc0000000, 0);
	CALL("truncate64 3G", 193, (long)"small", 0xc0000000, 0);
	CALL("ftruncate negative", 93, fd, -1);
	CALL("fallocate", 324, fd, 0, 0, 3, 4096, 0);
	CALL("fstat64", 197, fd, (long)stats);
	hex("size", stats + 44, 8);
	CALL("getfl", 55, small, F_GETFL);
	CALL("getfl", 221, fd, F_GETFL);
	/* Mappings by pages. */
	char *map = (char *)QUIET(192, 0, 8192, 3, MAP_SHARED, fd, 0xc0000) ;
	printf("%.15s\n", map);
	map = mmap(0, 8192, 3, MAP_SHARED, fd, 0);
	map = (char *)QUIET(192, 0, 4096, 3, MAP_SHARED, fd, 0x200000);
	printf("%.5s\n", map);
	map[100] = 'x';
	CALL("msync", 144, (long)map, 4096, MS_SYNC);
	memset(buffer, 0, sizeof buffer);
	CALL("pread64", 180, fd, (long)buffer, 1, 100, 2);
	printf("%s\n", buffer);
	CALL("mmap2 at the end", 192, 0, 4096, 3, MAP_SHARED, fd, 0xfffff000);
	CALL("mmap2 wrap", 192, 0, 0x2000, 3, MAP_SHARED, fd, 0xffffffff);
	/* sendfile and copy_file_range. */
	int64_t offset = 0xc0000000;
	CALL("sendfile64", 239, small, fd, (long)&offset, 15);
	printf("offset %lld\n", (long long)offset);
	long offset32 = 3;
	CALL("sendfile", 187, small, fd, (long)&offset32, 15);
	printf("offset %ld\n", offset32);
	int64_t from = 0xc0000000, to = 0x100;
	CALL("copy_file_range", 377, fd, (long)&from, small, (long)&to, 15, 0);
	printf("%lld %lld\n", (long long)from, (long long)to);
	/* Locks in both forms. */
	struct { short type, whence; long start, length; int pid; } lock = { F_WRLCK, 0, 10, 20, 7 };
	CALL("F_SETLK", 55, fd, F_SETLK, (long)&lock);
	struct __attribute__((packed)) {
		short type, whence;
		int64_t start, length;
		int pid;
	} wide = { F_WRLCK, 0, 0x123456789, 5, 0 };
	CALL("F_SETLK64", 221, fd, 13, (long)&wide);
	CALL("F_SETLK64 of fcntl", 55, fd, 13, (long)&wide);
	CALL("F_OFD_GETLK with pid", 221, fd, 36, (long)&(typeof(wide)){ .pid = 5 });
	wide.pid = 0;
	CALL("F_OFD_GETLK", 221, fd, 36, (long)&wide);
	hex("lock", &wide, 20);
	lock.type = F_WRLCK, lock.start = -5, lock.length = 3;
	CALL("F_GETLK", 55, fd, F_GETLK, (long)&lock);
	lock.whence = 9;
	CALL("F_GETLK whence", 55, fd, F_GETLK, (long)&lock);
	if (!fork()) {
		lock = (typeof(lock)){ F_WRLCK, 0, 0, 0, 0 };
		CALL("F_GETLK child", 55, fd, F_GETLK, (long)&lock);
		printf("%d %d %ld %ld %d\n", lock.type, lock.whence, lock.start, lock.length, lock.pid == getppid());
		lock = (typeof(lock)){ F_WRLCK, 0, 1000, 0, 0 };
		CALL("F_GETLK far", 55, fd, F_GETLK, (long)&lock);
		printf("%d %d %ld %ld %d\n", lock.type, lock.whence, lock.start, lock.length, lock.pid == getppid());
		fflush(stdout);
		_exit(0);
	}
	fflush(stdout);
	wait(0);
	/* Directories: the three calls. */
	long dir = syscall(SYS_open, ".", O_RDONLY | O_DIRECTORY);
	mkdir("sub", 0755);
	close(open("a name of some length", O_CREAT | O_WRONLY, 0600));
	unsigned char entries[1024];
	int total[3] = { 0 }, bytes[3] = { 0 };
	for (int kind = 0; kind < 2; kind++) {
		syscall(SYS_lseek, dir, 0, SEEK_SET);
		long count;
		while ((count = QUIET(kind ? 220 : 141, dir, (long)entries, sizeof entries, 0, 0, 0)) > 0) {
			for (long at = 0; at < count;) {
				unsigned short length;
				memcpy(&length, entries + at + (kind ? 16 : 8), 2);
				total[kind]++;
				bytes[kind] += length;
				at += length;
			}
		}
		printf("%d entries of %d bytes, end %ld\n", total[kind], bytes[kind], count);
	}
	syscall(SYS_lseek, dir, 0, SEEK_SET);
	int names = 0;
	long count;
	struct { unsigned long inode, offset; unsigned short length; char name[300]; } old;
	while ((count = QUIET(89, dir, (long)&old, 1, 0, 0, 0)) == 1)
		names += old.length;
	printf("readdir %ld, %d characters\n", count, names);
	CALL("getdents small", 141, dir, (long)entries, 8);
	syscall(SYS_lseek, dir, 0, SEEK_SET);
	CALL("getdents small", 141, dir, (long)entries, 8);
	/* statfs. */
	unsigned char figures[100];
	memset(figures, 0xee, sizeof figures);
	CALL("statfs64 size", 268, (long)"/proc", 83, (long)figures);
	CALL("statfs64", 268, (long)"/proc", 84, (long)figures);
	hex("statfs64", figures, 48);
	hex("statfs64", figures + 56, 32);
	memset(figures, 0xee, sizeof figures);
	CALL("statfs", 99, (long)"/proc", (long)figures);
	hex("statfs", figures, 28);
	hex("statfs", figures + 36, 32);
	CALL("utimes", 271, (long)"small", (long)(long[]){ -1, 5, 0x7fffffff, 999999 });
	CALL("stat64", 195, (long)"small", (long)stats);
	hex("times", stats + 64, 16);
	memset(stats, 0xee, sizeof stats);
	CALL("oldstat", 18, (long)"/", (long)stats);
	hex("inode and mode", stats + 2, 4);
	hex("beyond", stats + 32, 4);
	CALL("oldlstat", 84, (long)"large", (long)stats);
	CALL("oldfstat", 28, -1, (long)stats);
	CALL("readahead", 225, fd, 0, 0, 4096);
	CALL("fadvise64", 250, fd, 0, 0, 4096, 4);
	CALL("fadvise64_64", 272, fd, 0, 0, 4096, 0, 4);
	CALL("sync_file_range", 314, fd, 0, 0, 4096, 0, 2);
	syscall(SYS_unlink, "large"), unlink("small"), unlink("a name of some length"), rmdir("sub");
	chdir("/");
	printf("%d\n", rmdir(directory));
	limits();
}
