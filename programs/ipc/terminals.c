/* Pseudo-terminals: the line discipline, signals, sessions and groups. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
}
#define T(call) tell(#call, (long)(call))

static void show(const char *name, int fd)
{
	char b[500];
	long n = read(fd, b, sizeof b);
	printf("%s %ld ", name, n);
	for (int i = 0; i < n; i++)
		printf(b[i] < ' ' || b[i] == 127 ? "<%02x>" : "%c", (unsigned char)b[i]);
	puts(n < 0 ? strerror(errno) : "");
}

static int events_of(int fd)
{
	struct pollfd p = { fd, POLLIN | POLLOUT, 0 };
	poll(&p, 1, 0);
	return p.revents;
}

static void discipline(void)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY), s;
	T(m >= 0);
	T(open(ptsname(m), O_RDWR | O_NOCTTY));
	T(grantpt(m));
	T(unlockpt(m));
	s = open(ptsname(m), O_RDWR | O_NOCTTY | O_NONBLOCK);
	T(s >= 0);
	T(isatty(m));
	T(isatty(s));
	struct stat st;
	fstat(s, &st);
	printf("%o %d\n", st.st_mode & 0170600, (int)(st.st_rdev >> 8));
	struct termios t;
	T(tcgetattr(s, &t));
	printf("%x %x %x %x\n", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag);
	for (int i = 0; i < 17; i++)
		printf("%d ", t.c_cc[i]);
	puts("");
	T(events_of(m));
	T(events_of(s));
	T(write(m, "hello\n", 6));
	show("echo", m);
	show("line", s);
	show("line", s);
	T(write(m, "abc\177\177d\t\001x", 9));
	show("echo", m);
	show("line", s);
	int n;
	ioctl(s, FIONREAD, &n);
	T(n);
	write(m, "\n", 1);
	usleep(20000);
	ioctl(s, FIONREAD, &n);
	T(n);
	show("echo", m);
	show("line", s);
	write(m, "one two  three\027\027_x", 18);
	show("echo", m);
	write(m, "\025", 1);
	show("echo", m);
	write(m, "eof\004\004", 5);
	show("echo", m);
	show("line", s);
	show("line", s);
	show("line", s);
	write(m, "a\nbb\nccc", 8);
	char b[10];
	T(read(s, b, 1));
	T(read(s, b, 10));
	T(read(s, b, 2));
	T(read(s, b, 10));
	T(read(s, b, 10));
	show("echo", m);
	write(m, "\r\026\003\n", 4);
	show("echo", m);
	show("line", s);
	show("line", s);
	T(write(s, "x\ty\nz\r\n", 7));
	show("out", m);
	/* Raw. */
	cfmakeraw(&t);
	T(tcsetattr(s, TCSANOW, &t));
	write(m, "\003\n\r\004", 4);
	show("echo", m = fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK) ? m : m);
	show("raw", s);
	write(s, "\n", 1);
	show("out", m);
	t.c_cc[VMIN] = 3;
	tcsetattr(s, TCSANOW, &t);
	write(m, "ab", 2);
	T(events_of(s));
	write(m, "c", 1);
	T(events_of(s));
	show("three", s);
	t.c_cc[VMIN] = 0;
	t.c_cc[VTIME] = 1;
	tcsetattr(s, TCSANOW, &t);
	fcntl(s, F_SETFL, O_RDWR);
	show("nothing", s);
	struct winsize w = { 24, 80, 0, 0 };
	T(ioctl(m, TIOCSWINSZ, &w));
	w.ws_row = 0;
	T(ioctl(s, TIOCGWINSZ, &w));
	T(w.ws_row * 1000 + w.ws_col);
	T(ioctl(s, TIOCGPTN, &n));
	T(tcgetpgrp(s));
	T(lseek(s, 0, SEEK_CUR));
	T(tcflush(s, TCIOFLUSH));
	close(s);
	T(events_of(m));
	show("end", m);
	s = open(ptsname(m), O_RDWR | O_NOCTTY);
	T(events_of(m));
	char name[50];
	strcpy(name, ptsname(m));
	close(m);
	T(events_of(s));
	show("end", s);
	T(write(s, "x", 1));
	T(stat(name, &st));
	close(s);
}

static volatile int got[65];

static void note(int signal)
{
	got[signal]++;
}

static void expect(int m, const char *text)
{
	static char seen[5000];
	static int length;
	char *at;
	while (!(at = memmem(seen, length, text, strlen(text)))) {
		int n = read(m, seen + length, sizeof seen - length);
		if (n <= 0) {
			printf("end without %s\n", text);
			return;
		}
		length += n;
	}
	length -= at + strlen(text) - seen;
	memmove(seen, at + strlen(text), length);
	printf("saw %s\n", text);
	fflush(stdout);
}

static void sessions(void)
{
	int m;
	struct winsize w = { 30, 90, 0, 0 };
	fflush(stdout);
	pid_t child = forkpty(&m, 0, 0, &w);
	if (child == 0) {
		setvbuf(stdout, 0, _IONBF, 0);
		signal(SIGINT, note), signal(SIGWINCH, note), signal(SIGHUP, note);
		struct sigaction a = { .sa_handler = note };
		sigaction(SIGINT, &a, 0);
		sigaction(SIGTTOU, &a, 0);
		printf("tty %d sid %d group %d\n", isatty(0), tcgetsid(0) == getpid(), tcgetpgrp(0) == getpid());
		int tty = open("/dev/tty", O_RDWR);
		printf("dev %d\n", tty >= 0);
		char b[20];
		printf("ready\n");
		int n = read(0, b, 20);
		printf("read %d int %d\n", n, got[SIGINT]);
		/* A group of its own in the background. */
		pid_t back = fork();
		if (back == 0) {
			setpgid(0, 0);
			signal(SIGTTIN, SIG_DFL);
			n = read(0, b, 20);
			printf("background read %d\n", n);
			_exit(n);
		}
		setpgid(back, back);
		int status;
		waitpid(back, &status, WUNTRACED);
		printf("stopped %d by %d\n", WIFSTOPPED(status), WSTOPSIG(status));
		printf("set %d\n", tcsetpgrp(0, back));
		printf("group %d\n", tcgetpgrp(0) == back);
		kill(back, SIGCONT);
		printf("type\n");
		waitpid(back, &status, WUNTRACED);
		printf("status %x\n", status);
		sigset_t set;
		sigemptyset(&set);
		sigaddset(&set, SIGTTOU);
		sigprocmask(SIG_BLOCK, &set, 0);
		printf("set %d\n", tcsetpgrp(0, getpgrp()));
		printf("no such %d %s\n", tcsetpgrp(0, 9999), strerror(errno));
		pid_t front = fork();
		if (front == 0) {
			setpgid(0, 0);
			tcsetpgrp(0, getpid());
			printf("stop me\n");
			read(0, b, 20);
			_exit(1);
		}
		waitpid(front, &status, WUNTRACED);
		printf("front %x\n", status);
		kill(front, SIGKILL);
		waitpid(front, &status, 0);
		tcsetpgrp(0, getpid());
		printf("size\n");
		while (!got[SIGWINCH])
			usleep(1000);
		ioctl(0, TIOCGWINSZ, &w);
		printf("now %d\n", w.ws_row);
		while (!got[SIGHUP])
			usleep(1000);
		_exit(write(1, "x", 1) == -1 ? errno : 0);
	}
	expect(m, "ready");
	usleep(30000);
	write(m, "\003", 1);
	expect(m, "int 1");
	expect(m, "type");
	usleep(30000);
	write(m, "data\n", 5);
	expect(m, "background read 5");
	expect(m, "stop me");
	usleep(50000);
	write(m, "\032", 1);
	expect(m, "front 147f");
	expect(m, "size");
	w.ws_row = 31;
	ioctl(m, TIOCSWINSZ, &w);
	expect(m, "now 31");
	close(m);
	int status;
	waitpid(child, &status, 0);
	printf("%x\n", status);
	/* The end of a leader hangs up its foreground group. */
	fflush(stdout);
	child = forkpty(&m, 0, 0, 0);
	if (child == 0) {
		int p[2];
		pipe(p);
		if (fork() == 0) {
			signal(SIGHUP, note);
			write(p[1], "x", 1);
			while (!got[SIGHUP])
				usleep(1000);
			printf("hung up\n");
			_exit(0);
		}
		char c;
		read(p[0], &c, 1);
		_exit(0);
	}
	waitpid(child, &status, 0);
	printf("%x\n", status);
	close(m);
}

int main(void)
{
	setvbuf(stdout, 0, _IOFBF, 1 << 16);
	setsid();
	discipline();
	sessions();
	return 0;
}
