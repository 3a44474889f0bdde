/* UNIX sockets between processes: every answer of the kernel is printed; native and inside agree. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
}
#define T(call) tell(#call, (long)(call))

static int events_of(int fd)
{
	struct pollfd p = { fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0 };
	poll(&p, 1, 0);
	return p.revents;
}

static socklen_t named(struct sockaddr_un *a, const char *name, int abstract)
{
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	strcpy(a->sun_path + abstract, name);
	return offsetof(struct sockaddr_un, sun_path) + abstract + strlen(name) + !abstract;
}

static char path[64];

static void pairs(void)
{
	int kinds[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
	for (int k = 0; k < 3; k++) {
		int s[2];
		char b[100];
		printf("-- pair %d\n", kinds[k]);
		T(socketpair(AF_UNIX, kinds[k] | SOCK_NONBLOCK, 0, s));
		T(events_of(s[0]));
		T(read(s[0], b, 10));
		T(write(s[0], "hello", 5));
		T(write(s[0], "world", 5));
		int n = -1;
		T(ioctl(s[1], FIONREAD, &n));
		T(n);
		T(recv(s[1], b, 3, MSG_PEEK));
		T(recv(s[1], b, 3, MSG_PEEK | MSG_TRUNC));
		T(recv(s[1], b, 3, 0));
		T(recv(s[1], b, 100, 0));
		T(recv(s[1], b, 100, MSG_DONTWAIT));
		T(send(s[0], "", 0, 0));
		T(events_of(s[1]));
		T(recv(s[1], b, 100, 0));
		int count = 0;
		static char big[200000];
		while (write(s[0], big, 1) == 1)
			count++;
		T(count);
		T(events_of(s[0]));
		while (recv(s[1], b, 1, 0) == 1)
			count--;
		T(count);
		T(events_of(s[0]));
		long total = 0, got;
		while ((got = write(s[0], big, sizeof big)) > 0)
			total += got;
		T(total);
		T(shutdown(s[0], SHUT_WR));
		T(events_of(s[0]));
		T(events_of(s[1]));
		signal(SIGPIPE, SIG_IGN);
		T(write(s[0], "x", 1));
		T(write(s[1], "x", 1));
		T(close(s[1]));
		T(events_of(s[0]));
		int e = 0;
		socklen_t l = sizeof e;
		T(getsockopt(s[0], SOL_SOCKET, SO_ERROR, &e, &l));
		T(e);
		T(recv(s[0], b, 10, 0));
		T(recv(s[0], b, 10, 0));
		close(s[0]);
	}
	T(socket(AF_UNIX, 7, 0));
	T(socket(AF_UNIX, SOCK_STREAM, 5));
	T(socket(99, SOCK_STREAM, 0));
}

static void names(int abstract)
{
	printf("-- names %d\n", abstract);
	struct sockaddr_un a, b;
	socklen_t n = named(&a, abstract ? "faultline-test" : path, abstract), l;
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	T(listen(s, 1));
	T(events_of(s));
	T(bind(s, (void *)&a, n));
	T(bind(s, (void *)&a, n));
	int t = socket(AF_UNIX, SOCK_STREAM, 0);
	T(bind(t, (void *)&a, n));
	T(connect(t, (void *)&a, n));
	T(listen(s, 1));
	l = sizeof b;
	T(getsockname(s, (void *)&b, &l));
	T(l);
	T(connect(t, (void *)&a, n));
	T(connect(t, (void *)&a, n));
	T(events_of(s));
	l = sizeof b;
	T(getpeername(t, (void *)&b, &l));
	T(l);
	T(send(t, "early", 5, 0));
	int u = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	T(connect(u, (void *)&a, n));
	int v = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	T(connect(v, (void *)&a, n));
	l = sizeof b;
	int c = accept4(s, (void *)&b, &l, SOCK_CLOEXEC);
	T(c >= 0);
	T(fcntl(c, F_GETFD));
	T(l);
	char buf[10];
	T(read(c, buf, 10));
	T(connect(v, (void *)&a, n));
	struct ucred cred;
	l = sizeof cred;
	T(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &cred, &l));
	T(cred.pid == getpid());
	T(close(s));
	T(read(u, buf, 10));
	T(read(u, buf, 10));
	T(send(u, "x", 1, MSG_NOSIGNAL));
	int w = socket(AF_UNIX, SOCK_STREAM, 0);
	T(connect(w, (void *)&a, n));
	T(send(w, "x", 1, MSG_NOSIGNAL));
	T(recv(w, buf, 1, 0));
	int d = socket(AF_UNIX, SOCK_DGRAM, 0);
	T(sendto(d, "x", 1, 0, (void *)&a, n));
	T(send(d, "x", 1, 0));
	close(t), close(u), close(v), close(w), close(d), close(c);
	if (!abstract) {
		struct stat st;
		T(stat(path, &st));
		printf("%o\n", st.st_mode);
		T(open(path, O_RDONLY));
		T(unlink(path));
	}
}

static void datagrams(void)
{
	printf("-- datagrams\n");
	struct sockaddr_un a, b;
	socklen_t n = named(&a, "faultline-d", 1), l;
	int s = socket(AF_UNIX, SOCK_DGRAM, 0), t = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	T(bind(s, (void *)&a, n));
	int count = 0;
	while (sendto(t, "abc", 3, 0, (void *)&a, n) == 3)
		count++;
	T(count);
	T(connect(t, (void *)&a, n));
	T(events_of(t));
	char buf[10];
	l = sizeof b;
	T(recvfrom(s, buf, 2, MSG_TRUNC, (void *)&b, &l));
	T(l);
	T(events_of(t));
	int r = socket(AF_UNIX, SOCK_DGRAM, 0);
	b.sun_family = AF_UNIX;
	T(bind(r, (void *)&b, 2));
	l = sizeof b;
	T(getsockname(r, (void *)&b, &l));
	T(l);
	T(connect(s, (void *)&b, l));
	T(send(t, "x", 1, 0));
	T(close(s));
	T(send(t, "x", 1, 0));
	T(send(t, "x", 1, 0));
	close(t), close(r);
}

static void rights(void)
{
	printf("-- rights\n");
	int s[2], p[2];
	socketpair(AF_UNIX, SOCK_STREAM, 0, s);
	pipe(p);
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		close(p[0]), close(p[1]), close(s[0]);
		char b[20], control[200];
		struct iovec v = { b, sizeof b };
		struct msghdr m = { 0, 0, &v, 1, control, sizeof control, 0 };
		T(recvmsg(s[1], &m, MSG_CMSG_CLOEXEC));
		printf("%zu %x\n", m.msg_controllen, m.msg_flags);
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
			printf("%d %d %zu\n", c->cmsg_level, c->cmsg_type, c->cmsg_len);
			int *fd = (int *)CMSG_DATA(c);
			T(write(fd[1], "through", 7));
			T(fcntl(fd[1], F_GETFD));
		}
		int one = 1;
		T(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
		m.msg_controllen = sizeof control;
		T(recvmsg(s[1], &m, 0));
		printf("%zu %x\n", m.msg_controllen, m.msg_flags);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		printf("%d %d\n", c->cmsg_type, ((struct ucred *)CMSG_DATA(c))->pid == getppid());
		m.msg_controllen = 20;
		T(recvmsg(s[1], &m, 0));
		printf("%zu %x\n", m.msg_controllen, m.msg_flags);
		m.msg_control = 0;
		m.msg_controllen = 0;
		T(recvmsg(s[1], &m, 0));
		printf("%zu %x\n", m.msg_controllen, m.msg_flags);
		fflush(stdout);
		_exit(0);
	}
	char control[CMSG_SPACE(8)] = { 0 };
	struct iovec v = { "hi", 2 };
	struct msghdr m = { 0, 0, &v, 1, control, sizeof control, 0 };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(8);
	memcpy(CMSG_DATA(c), p, 8);
	fflush(stdout);
	long sent[4];
	sent[0] = sendmsg(s[0], &m, 0);
	char b[20];
	long got = read(p[0], b, 20);
	usleep(100000);
	sent[1] = write(s[0], "a", 1);
	usleep(100000);
	sent[2] = write(s[0], "b", 1);
	usleep(100000);
	sent[3] = sendmsg(s[0], &m, 0);
	int status;
	waitpid(child, &status, 0);
	printf("%ld %ld %ld %ld %ld %d\n", sent[0], got, sent[1], sent[2], sent[3], status);
	/* A socket that holds itself is gone with its last descriptor. */
	c->cmsg_len = CMSG_LEN(4);
	m.msg_controllen = CMSG_SPACE(4);
	for (int i = 0; i < 2000; i++) {
		int q[2];
		if (socketpair(AF_UNIX, SOCK_DGRAM, 0, q))
			return perror("socketpair");
		memcpy(CMSG_DATA(c), &q[i & 1], 4);
		if (sendmsg(q[0], &m, 0) < 0)
			return perror("sendmsg");
		close(q[0]), close(q[1]);
	}
	memcpy(CMSG_DATA(c), (int[]){ 999 }, 4);
	T(sendmsg(s[0], &m, 0));
	c->cmsg_len = 3;
	T(sendmsg(s[0], &m, 0));
	close(s[0]), close(s[1]), close(p[0]), close(p[1]);
}

static void server(void)
{
	printf("-- server\n");
	struct sockaddr_un a;
	socklen_t n = named(&a, "faultline-server", 1);
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	bind(s, (void *)&a, n);
	listen(s, 2);
	fflush(stdout);
	for (int i = 0; i < 8; i++)
		if (fork() == 0) {
			int c = socket(AF_UNIX, SOCK_STREAM, 0);
			static char big[300000];
			memset(big, i, sizeof big);
			if (connect(c, (void *)&a, n))
				_exit(1);
			long sent = 0, k;
			while (sent < (long)sizeof big && (k = write(c, big + sent, sizeof big - sent)) > 0)
				sent += k;
			shutdown(c, SHUT_WR);
			char answer[8];
			_exit(read(c, answer, 8) == 2 ? 0 : 2);
		}
	int e = epoll_create1(0), open_count = 8;
	struct epoll_event ev = { EPOLLIN, { .fd = s } };
	epoll_ctl(e, EPOLL_CTL_ADD, s, &ev);
	long total = 0;
	while (open_count > 0) {
		struct epoll_event got[4];
		int k = epoll_wait(e, got, 4, -1);
		for (int i = 0; i < k; i++) {
			int fd = got[i].data.fd;
			if (fd == s) {
				ev.data.fd = accept(s, 0, 0);
				epoll_ctl(e, EPOLL_CTL_ADD, ev.data.fd, &ev);
				continue;
			}
			char b[5000];
			long r = read(fd, b, sizeof b);
			for (long j = 0; j < r; j++)
				total += b[j] + 1;
			if (r == 0) {
				write(fd, "ok", 2);
				close(fd);
				open_count--;
			}
		}
	}
	int sum = 0, status;
	while (wait(&status) > 0)
		sum += status;
	printf("%ld %d\n", total, sum);
	close(s), close(e);
}

static void timeouts(void)
{
	printf("-- timeouts\n");
	int s[2];
	socketpair(AF_UNIX, SOCK_STREAM, 0, s);
	struct timeval v = { 0, 50000 };
	T(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &v, sizeof v));
	char b[10];
	T(read(s[0], b, 10));
	int value = 0, names[] = { SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_SNDBUF, SO_RCVBUF, SO_ACCEPTCONN,
		SO_PASSCRED, SO_REUSEADDR, SO_KEEPALIVE, SO_ERROR, SO_RCVLOWAT, SO_BROADCAST };
	for (int i = 0; i < 12; i++) {
		socklen_t l = 4;
		tell("option", getsockopt(s[0], SOL_SOCKET, names[i], &value, &l));
		T(value);
	}
	value = 10000;
	T(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &value, 4));
	socklen_t l = 4;
	T(getsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &value, &l));
	T(value);
	T(setsockopt(s[0], SOL_SOCKET, SO_TYPE, &value, 4));
	T(setsockopt(s[0], SOL_SOCKET, SO_KEEPALIVE, &value, 2));
	T(getsockopt(s[0], 6, 1, &value, &l));
	T(getsockopt(0, SOL_SOCKET, SO_TYPE, &value, &l));
	T(getsockopt(99, SOL_SOCKET, SO_TYPE, &value, &l));
	T(lseek(s[0], 0, SEEK_SET));
	T(pread(s[0], b, 1, 0));
	T(fcntl(s[0], F_GETFL));
	struct stat st;
	T(fstat(s[0], &st));
	printf("%o\n", st.st_mode);
	T(accept(s[0], 0, 0));
	T(listen(s[0], 1));
	T(shutdown(s[0], 7));
	/* Reads of many parts, WAITALL across processes. */
	fflush(stdout);
	if (fork() == 0) {
		for (int i = 0; i < 5; i++) {
			write(s[1], "12", 2);
			usleep(10000);
		}
		_exit(0);
	}
	v.tv_usec = 0;
	setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &v, sizeof v);
	T(recv(s[0], b, 10, MSG_WAITALL));
	wait(0);
}

int main(void)
{
	setvbuf(stdout, 0, _IOFBF, 1 << 16);
	sprintf(path, "/tmp/faultline-socket-%07d", getpid());
	pairs();
	names(0);
	names(1);
	datagrams();
	rights();
	server();
	timeouts();
	return 0;
}
