/* FIFOs between processes, and bytes moved from pipe to pipe. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
}
#define T(call) tell(#call, (long)(call))

static char path[64];

static int events_of(int fd)
{
	struct pollfd p = { fd, POLLIN | POLLOUT, 0 };
	poll(&p, 1, 0);
	return p.revents;
}

static void nothing(int signal)
{
}

static void opening(void)
{
	T(mkfifo(path, 0640));
	T(mkfifo(path, 0640));
	T(open(path, O_WRONLY | O_NONBLOCK));
	int r = open(path, O_RDONLY | O_NONBLOCK);
	T(r >= 0);
	T(events_of(r));
	char b[10];
	T(read(r, b, 10));
	int w = open(path, O_WRONLY | O_NONBLOCK);
	T(w >= 0);
	T(read(r, b, 10));
	T(write(w, "abc", 3));
	T(events_of(r));
	close(w);
	T(events_of(r));
	T(read(r, b, 10));
	T(read(r, b, 10));
	close(r);
	int both = open(path, O_RDWR);
	T(write(both, "kept", 4));
	T(read(both, b, 10));
	T(lseek(both, 0, SEEK_SET));
	close(both);
	struct stat st;
	stat(path, &st);
	printf("%o\n", st.st_mode);
	fflush(stdout);
	/* Each end waits for the other. */
	for (int i = 0; i < 2; i++) {
		pid_t child = fork();
		if (child == 0) {
			if (i)
				usleep(50000);
			int fd = open(path, O_WRONLY);
			write(fd, "from a child", 12);
			_exit(0);
		}
		if (!i)
			usleep(50000);
		int fd = open(path, O_RDONLY);
		char text[20] = { 0 };
		T(read(fd, text, 20));
		puts(text);
		waitpid(child, 0, 0);
		T(read(fd, text, 20));
		close(fd);
		fflush(stdout);
	}
	/* A signal ends the wait; a reader that comes and goes lets a writer through. */
	struct sigaction action = { .sa_handler = nothing };
	sigaction(SIGALRM, &action, 0);
	ualarm(30000, 0);
	T(open(path, O_WRONLY));
	pid_t child = fork();
	if (child == 0) {
		usleep(30000);
		close(open(path, O_RDONLY | O_NONBLOCK));
		_exit(0);
	}
	int fd = open(path, O_WRONLY);
	T(fd >= 0);
	waitpid(child, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	T(write(fd, "x", 1));
	close(fd);
	/* One who waits is killed. */
	child = fork();
	if (child == 0) {
		open(path, O_RDONLY);
		_exit(0);
	}
	usleep(20000);
	kill(child, SIGKILL);
	int status;
	waitpid(child, &status, 0);
	T(status);
	T(open(path, O_WRONLY | O_NONBLOCK));
	T(unlink(path));
	T(mknod(path, S_IFIFO | 0600, 0));
	T(unlink(path));
}

static void moving(void)
{
	int p[2], q[2];
	char b[100];
	pipe(p), pipe(q);
	write(p[1], "hello world", 11);
	T(tee(p[0], q[1], 5, 0));
	T(read(q[0], b, 100));
	T(splice(p[0], 0, q[1], 0, 6, 0));
	T(read(q[0], b, 100));
	T(splice(p[0], 0, q[1], 0, 100, 0));
	T(splice(p[0], 0, q[1], 0, 100, SPLICE_F_NONBLOCK));
	T(splice(p[0], 0, p[1], 0, 100, 0));
	int f = open("/proc/self/exe", O_RDONLY), out = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	loff_t at = 1;
	T(splice(f, &at, q[1], 0, 3, 0));
	T(at);
	T(splice(f, 0, out, 0, 3, 0));
	T(splice(q[0], &at, out, 0, 3, 0));
	at = 10;
	T(splice(q[0], 0, out, &at, 100, 0));
	T(at);
	T(pread(out, b, 100, 0));
	T(sendfile(p[1], f, 0, 10000));
	T(splice(q[1], 0, p[0], 0, 3, 0));
	close(q[1]);
	T(splice(q[0], 0, p[1], 0, 3, 0));
	close(p[0]);
	T(splice(f, 0, p[1], 0, 3, 0));
	T(tee(f, p[1], 3, 0));
	/* A long way through three pipes, all of them full now and then. */
	fflush(stdout);
	int a[2], c[2];
	pipe(a), pipe(c);
	if (fork() == 0) {
		close(a[0]), close(c[0]), close(c[1]);
		static char big[70000];
		for (int i = 0; i < 20; i++) {
			memset(big, i, sizeof big);
			write(a[1], big, sizeof big);
		}
		_exit(0);
	}
	close(a[1]);
	if (fork() == 0) {
		close(c[0]);
		while (splice(a[0], 0, c[1], 0, 50000, 0) > 0)
			;
		_exit(0);
	}
	close(a[0]), close(c[1]);
	long total = 0, sum = 0, n;
	static char piece[3000];
	while ((n = read(c[0], piece, sizeof piece)) > 0) {
		total += n;
		for (int i = 0; i < n; i++)
			sum += piece[i];
	}
	printf("%ld %ld\n", total, sum);
	while (wait(0) > 0)
		;
	/* A file through a pipe that is read slowly. */
	pipe(a);
	ftruncate(out, 300000);
	fflush(stdout);
	if (fork() == 0) {
		close(a[0]);
		lseek(out, 0, SEEK_SET);
		long sent = 0, k;
		while ((k = sendfile(a[1], out, 0, 300000)) > 0)
			sent += k;
		_exit(sent != 300000);
	}
	close(a[1]);
	total = 0;
	while ((n = read(a[0], piece, sizeof piece)) > 0)
		total += n;
	int status;
	wait(&status);
	printf("%ld %d\n", total, status);
	unlink(path);
}

int main(void)
{
	setvbuf(stdout, 0, _IOFBF, 1 << 16);
	sprintf(path, "/tmp/faultline-fifo-%07d", getpid());
	opening();
	moving();
	return 0;
}
