/* Locks of files, by processes and by open files. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
}
#define T(call) tell(#call, (long)(call))

static char path[64];
static int fd;
static pid_t parent;

static int lock(int f, int command, int type, long start, long length)
{
	struct flock l = { type, SEEK_SET, start, length, 0 };
	return fcntl(f, command, &l);
}

static void ask(int f, int command, int type, long start, long length)
{
	struct flock l = { type, SEEK_SET, start, length, 0 };
	int r = fcntl(f, command, &l);
	printf("ask %ld %ld: %d type %d start %ld length %ld %s\n", start, length, r, l.l_type,
		(long)l.l_start, (long)l.l_len,
		l.l_pid == parent ? "parent" : l.l_pid == -1 ? "file" : l.l_pid ? "other" : "none");
}

/* Runs f in a child and waits for it. */
static void in_child(void (*f)(void))
{
	fflush(stdout);
	if (fork() == 0) {
		f();
		fflush(stdout);
		_exit(0);
	}
	wait(0);
}

static void other(void)
{
	ask(fd, F_GETLK, F_RDLCK, 0, 0);
	ask(fd, F_GETLK, F_WRLCK, 0, 0);
	ask(fd, F_GETLK, F_WRLCK, 35, 10);
	ask(fd, F_GETLK, F_WRLCK, 1000, 0);
	T(lock(fd, F_SETLK, F_RDLCK, 10, 5));
	T(lock(fd, F_SETLK, F_WRLCK, 15, 1));
	T(lock(fd, F_SETLK, F_RDLCK, 30, 1));
	T(lock(fd, F_OFD_SETLK, F_WRLCK, 30, 1));
	T(lock(fd, F_SETLK, F_WRLCK, 500, 100));
}

static void ranges(void)
{
	T(lock(fd, F_SETLK, F_RDLCK, 10, 20));
	T(lock(fd, F_SETLK, F_WRLCK, 30, 10));
	T(lock(fd, F_SETLK, F_WRLCK, 15, 3));
	in_child(other);
	T(lock(fd, F_SETLK, F_UNLCK, 16, 1));
	T(lock(fd, F_SETLK, F_RDLCK, 35, 100));
	in_child(other);
	/* Any close ends all locks of the process. */
	close(open(path, O_RDONLY));
	in_child(other);
	T(lock(fd, F_SETLK, 7, 0, 0));
	T(lock(fd, F_SETLK, F_RDLCK, -1, 0));
	T(lock(fd, F_SETLK, F_RDLCK, 10, -11));
	T(lock(fd, F_SETLK, F_RDLCK, 10, -10));
	T(lock(fd, F_SETLK, F_RDLCK, 0x7fffffffffffffff, 2));
	T(lock(fd, F_SETLK, F_RDLCK, 0x7fffffffffffffff, 1));
	ask(fd, F_GETLK, F_UNLCK, 0, 0);
	in_child(other);
	int r = open(path, O_RDONLY);
	T(lock(r, F_SETLK, F_WRLCK, 0, 1));
	T(lock(r, F_SETLK, F_RDLCK, 0, 1));
	close(r);
	T(fcntl(fd, F_SETLK, 0));
	struct flock l = { F_WRLCK, SEEK_SET, 0, 1, 5 };
	T(fcntl(fd, F_OFD_SETLK, &l));
}

static void files(void)
{
	int a = open(path, O_RDWR), b = open(path, O_RDWR);
	T(lock(a, F_OFD_SETLK, F_WRLCK, 0, 10));
	T(lock(b, F_OFD_SETLK, F_WRLCK, 5, 10));
	T(lock(b, F_SETLK, F_WRLCK, 5, 10));
	ask(b, F_OFD_GETLK, F_RDLCK, 5, 1);
	ask(b, F_GETLK, F_RDLCK, 5, 1);
	int c = dup(a);
	close(a);
	T(lock(b, F_OFD_SETLK, F_WRLCK, 5, 10));
	close(c);
	T(lock(b, F_OFD_SETLK, F_WRLCK, 5, 10));
	close(b);
	a = open(path, O_RDWR), b = open(path, O_RDONLY);
	T(flock(a, LOCK_EX | LOCK_NB));
	T(flock(b, LOCK_SH | LOCK_NB));
	T(flock(a, LOCK_SH));
	T(flock(b, LOCK_SH | LOCK_NB));
	T(flock(a, LOCK_EX | LOCK_NB));
	T(flock(b, LOCK_EX | LOCK_NB));
	T(flock(a, LOCK_SH | LOCK_NB));
	T(flock(b, LOCK_UN));
	T(flock(a, LOCK_SH | LOCK_NB));
	T(flock(a, 3));
	T(flock(99, LOCK_SH));
	close(b);
	T(flock(a, LOCK_EX));
	fflush(stdout);
	if (fork() == 0) {
		int d = open(path, O_RDWR);
		T(flock(d, LOCK_EX | LOCK_NB));
		T(flock(a, LOCK_EX | LOCK_NB));
		T(flock(d, LOCK_EX));
		puts("child has it");
		fflush(stdout);
		_exit(0);
	}
	usleep(50000);
	flock(a, LOCK_UN);
	wait(0);
	T(flock(a, LOCK_EX | LOCK_NB));
	close(a);
}

static void nothing(int signal)
{
}

static void waiting(void)
{
	int *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	T(lock(fd, F_SETLK, F_WRLCK, 0, 1));
	fflush(stdout);
	/* A circle of two. */
	pid_t child = fork();
	if (child == 0) {
		lock(fd, F_SETLK, F_WRLCK, 1, 1);
		usleep(30000);
		int r = lock(fd, F_SETLKW, F_WRLCK, 0, 1);
		T(r);
		shared[0] = r == 0;
		fflush(stdout);
		_exit(0);
	}
	usleep(60000);
	T(lock(fd, F_SETLKW, F_WRLCK, 1, 1));
	fflush(stdout);
	lock(fd, F_SETLK, F_UNLCK, 0, 0);
	wait(0);
	T(shared[0]);
	fflush(stdout);
	/* Many count in turns. */
	for (int i = 0; i < 5; i++)
		if (fork() == 0) {
			for (int j = 0; j < 20; j++) {
				lock(fd, F_SETLKW, F_WRLCK, 7, 1);
				int now = shared[1];
				usleep(100);
				shared[1] = now + 1;
				lock(fd, F_SETLK, F_UNLCK, 7, 1);
			}
			_exit(0);
		}
	while (wait(0) > 0)
		;
	T(shared[1]);
	/* A signal ends the wait. */
	struct sigaction action = { .sa_handler = nothing };
	sigaction(SIGALRM, &action, 0);
	T(lock(fd, F_SETLK, F_WRLCK, 0, 1));
	fflush(stdout);
	if (fork() == 0) {
		ualarm(20000, 0);
		T(lock(fd, F_SETLKW, F_WRLCK, 0, 1));
		ualarm(20000, 0);
		int d = open(path, O_RDWR);
		flock(fd, LOCK_EX);
		T(flock(d, LOCK_EX));
		fflush(stdout);
		_exit(0);
	}
	wait(0);
}

int main(void)
{
	setvbuf(stdout, 0, _IOFBF, 1 << 16);
	parent = getpid();
	sprintf(path, "/tmp/faultline-lock-%07d", parent);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	ranges();
	files();
	waiting();
	unlink(path);
	return 0;
}
