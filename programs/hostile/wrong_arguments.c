/* File calls with several wrong arguments at once: of the errors the same one is told. */
#include "hostile.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/xattr.h>

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
}
#define T(call) tell(#call, (long)(call))
#define WILD ((void *)8)

static int file, path, event, epoll, ends[2], sockets[2], null, place, directory;
static char bytes[64];

static void reads(void)
{
	T(lseek(path, 0, 9)), T(lseek(file, 0, 9)), T(lseek(ends[0], 0, 9)), T(lseek(ends[0], 0, 0));
	T(lseek(event, 0, 0)), T(lseek(epoll, 5, 0)), T(lseek(sockets[0], 0, 0));
	T(lseek(file, -1, 0)), T(lseek(file, 0, SEEK_HOLE)), T(lseek(file, 11, SEEK_DATA));
	T(read(epoll, bytes, 8)), T(write(epoll, bytes, 8)), T(read(path, bytes, 1));
	T(write(path, bytes, 1)), T(read(epoll, WILD, 8)), T(read(directory, bytes, 8));
	T(read(file, WILD, 0)), T(read(ends[1], bytes, 1)), T(write(event, bytes, 16));
	T(write(event, bytes, 7)), T(read(event, bytes, 7)), T(read(event, bytes, 4));
	T(pwrite(file, "x", 1, INT64_MAX)), T(pwrite(file, "x", 0, INT64_MAX));
	T(pwrite(file, "x", 1, -1)), T(pread(file, bytes, 1, INT64_MAX));
	T(pread(ends[0], bytes, 1, 0)), T(pread(epoll, bytes, 1, 0));
}

static void states(void)
{
	int size = 0;

	T(flock(path, 64)), T(flock(path, LOCK_SH)), T(flock(file, 32)), T(flock(999, 99));
	T(flock(file, 0)), T(fcntl(file, F_SETSIG, 65)), T(fcntl(file, F_SETSIG, 0));
	T(fcntl(file, F_GETSIG)), T(fcntl(file, 999, 0)), T(fcntl(path, F_GETFL) & O_PATH);
	T(fcntl(path, F_SETFL, 0)), T(fcntl(path, F_SETSIG, 65)), T(fcntl(file, F_SETPIPE_SZ, 4096));
	T(ioctl(path, FIONREAD, &size)), T(ioctl(file, 2, &size)), T(size);
	T(ioctl(epoll, 0x1234, 0)), T(ioctl(file, 0x1234, 0)), T(ioctl(event, FIONREAD, &size));
	T(ioctl(ends[0], FIONREAD, WILD)), T(ioctl(path, FIOCLEX)), T(ioctl(file, FIONBIO, WILD));
	T(dup3(file, file, 0)), T(dup3(file, 100, 1)), T(dup3(999, 999, 0)), T(dup2(999, 999));
	T(dup2(file, -1)), T(dup2(file, 1 << 20)), T(pipe2(WILD, 1)), T(pipe2(WILD, 0));
	T(fsync(ends[0])), T(fsync(path)), T(fdatasync(event)), T(syncfs(path));
}

static void watches(void)
{
	struct epoll_event e = { .events = EPOLLIN };
	int full = open("/dev/full", O_RDWR), zero = open("/dev/zero", O_RDWR);
	int random = open("/dev/urandom", O_RDONLY);

	T(epoll_ctl(epoll, EPOLL_CTL_ADD, file, &e)), T(epoll_ctl(epoll, EPOLL_CTL_ADD, path, &e));
	T(epoll_ctl(path, EPOLL_CTL_ADD, ends[0], &e)), T(epoll_ctl(file, EPOLL_CTL_ADD, ends[0], &e));
	T(epoll_ctl(epoll, 99, ends[0], &e)), T(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], WILD));
	T(epoll_ctl(epoll, EPOLL_CTL_ADD, epoll, &e)), T(epoll_ctl(epoll, EPOLL_CTL_ADD, null, &e));
	T(epoll_ctl(epoll, EPOLL_CTL_ADD, full, &e)), T(epoll_ctl(epoll, EPOLL_CTL_ADD, zero, &e));
	T(epoll_ctl(epoll, EPOLL_CTL_ADD, random, &e));
	T(epoll_wait(epoll, &e, 0, 0)), T(epoll_wait(path, &e, 1, 0)), T(epoll_wait(file, &e, 1, 0));
	T(epoll_wait(999, &e, 0, 0)), T(epoll_wait(999, WILD, 1, 0));
}

static long rename2(const char *from, const char *to, int flags)
{
	return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static long statx_of(int fd, const char *name, int flags, unsigned mask)
{
	static char buffer[256];

	return syscall(SYS_statx, fd, name, flags, mask, buffer);
}

static void names(void)
{
	T(syscall(SYS_linkat, AT_FDCWD, "none", AT_FDCWD, WILD, 0));
	T(syscall(SYS_linkat, AT_FDCWD, WILD, AT_FDCWD, "x", 0x10000));
	T(rename2("file", "y", 3)), T(rename2("file", "y", 6)), T(rename2("file", "y", 8));
	T(rename2(WILD, "y", 0)), T(rename(".", "y"));
	T(statx_of(-100, "file", 0x6000, 0)), T(statx_of(-100, "file", 1, 0));
	T(statx_of(-100, "none", 0, 0x80000000u)), T(statx_of(file, "", 0x1000, 0));
	T(mkdirat(999, "/tmp", 0)), T(mkdir("file/x", 0)), T(mkdir("", 0)), T(rmdir("file"));
	T(rmdir(".")), T(rmdir("./..")), T(unlink(".")), T(unlink("none/")), T(symlink("", "l"));
	T(unlinkat(-100, "file", 77)), T(symlink("x", "file")), T(readlink("file", bytes, 8));
	T(readlink("none", bytes, 0)), T(readlink("file", bytes, -1)), T(open("file", O_DIRECTORY));
	T(open("file/", O_RDONLY)), T(open("new/", O_CREAT | O_RDWR, 0600)), T(open(".", O_RDWR));
	T(open("file", O_CREAT | O_EXCL | O_RDWR, 0)), T(open(".", O_CREAT | O_RDONLY, 0));
	T(open("", O_RDONLY)), T(openat(999, "file", O_RDONLY)), T(openat(file, "x", O_RDONLY));
	T(mknod("m", S_IFDIR, 0)), T(mknod("file", S_IFREG, 0)), T(access("none", 9));
	T(syscall(SYS_faccessat2, AT_FDCWD, "none", 0, 1)), T(fchdir(file));
}

static void attributes(void)
{
	struct timespec omit[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } }, bad[2] = { { 0, -5 } };

	T(syscall(SYS_utimensat, -100, "none", omit, 77)), T(syscall(SYS_utimensat, -100, "none", 0, 77));
	T(syscall(SYS_utimensat, -100, "none", bad, 0)), T(syscall(SYS_utimensat, path, 0, 0, 0));
	T(syscall(SYS_utimensat, file, 0, 0, 0)), T(syscall(SYS_utimensat, file, 0, 0, 0x100));
	T(syscall(SYS_fallocate, path, 0, -1, 0)), T(syscall(SYS_fallocate, file, 99, 0, 1));
	T(syscall(SYS_fallocate, ends[1], 0, 0, 1)), T(syscall(SYS_fallocate, directory, 0, 0, 1));
	T(getxattr("none", WILD, 0, 0)), T(getxattr("none", "", 0, 0)), T(getxattr("file", "odd.x", 0, 0));
	T(getxattr("file", "user.", 0, 0)), T(getxattr("file", "user.x", 0, 0));
	T(setxattr("none", "user.x", WILD, 3, 9)), T(setxattr("none", "user.x", WILD, 3, 0));
	T(setxattr("none", WILD, "x", 1 << 20, 0)), T(setxattr("none", "user.x", "x", 1 << 20, 0));
	T(setxattr("file", "odd.x", "x", 1, 0)), T(setxattr("file", "user.", "x", 1, 0));
	T(removexattr("none", "")), T(removexattr("file", "odd.x")), T(removexattr("file", "user.x"));
	T(fgetxattr(path, "user.x", 0, 0)), T(ftruncate(path, 0)), T(ftruncate(directory, 0));
	T(ftruncate(ends[0], 0)), T(ftruncate(file, -1)), T(truncate("none", -1)), T(truncate(".", 0));
	T(fchmod(path, 0)), T(fchown(path, 0, 0));
}

static void transfers(void)
{
	off_t at = 0, far = INT64_MAX, minus = -1;
	int out = sockets[0];

	T(sendfile(out, 999, WILD, 1)), T(sendfile(999, file, 0, 1)), T(sendfile(out, ends[0], &at, 1));
	T(sendfile(out, ends[0], 0, 1)), T(sendfile(out, file, &far, 1)), T(sendfile(out, file, &minus, 1));
	T(sendfile(out, file, &at, -1)), T(sendfile(out, path, 0, 1)), T(sendfile(ends[0], file, 0, 1));
	T(sendfile(out, directory, 0, 1)), T(sendfile(out, event, &at, 1));
	T(sendfile(out, file, &at, 3)), T(at);
	T(copy_file_range(999, WILD, file, 0, 1, 9)), T(copy_file_range(file, WILD, file, 0, 1, 9));
	T(copy_file_range(file, 0, path, 0, 1, 0)), T(copy_file_range(directory, 0, file, 0, 1, 0));
	T(copy_file_range(file, 0, ends[1], 0, 1, 0)), T(copy_file_range(file, &at, file, &at, 5, 0));
	T(readahead(file, 0, -1)), T(readahead(ends[0], 0, 1)), T(readahead(path, 0, 1));
	T(posix_fadvise(ends[0], 0, 0, 0)), T(posix_fadvise(file, 0, -1, 0));
	T(posix_fadvise(file, 0, 0, 9)), T(posix_fadvise(path, 0, 0, 0));
}

int main(void)
{
	char name[] = "/tmp/wrongXXXXXX";

	if (!mkdtemp(name) || chdir(name))
		return 1;
	file = open("file", O_CREAT | O_RDWR, 0600), path = open("file", O_PATH);
	event = eventfd(0, 0), epoll = epoll_create1(0), null = open("/dev/null", O_RDWR);
	place = open(".", O_PATH), directory = open(".", O_RDONLY);
	pipe(ends), socketpair(AF_UNIX, SOCK_STREAM, 0, sockets);
	write(file, "0123456789", 10);
	reads(), states(), watches(), names(), attributes(), transfers();
	unlink("file"), chdir("/"), rmdir(name);
	T(openat(place, "x", O_CREAT | O_RDWR, 0600)), T(mkdirat(place, "x", 0700));
	T(openat(place, ".", O_RDONLY) > 0), T(faccessat(place, "..", 0, 0));
	return 0;
}
