/* Fills pipes, sockets, message queues and directories: our memory must not grow without bound. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MIB (1 << 20)
static char block[MIB];
static int ends[1024][2];

static const char *bounded(long bytes)
{
	return bytes < 96L * MIB ? "bounded" : "without bound";
}

/* As many pipes as a process can have, each as full as it gets. */
static void pipes(void)
{
	long total = 0;
	int count = 0, error = 0;
	while (count < 1000 && pipe2(ends[count], O_NONBLOCK) == 0) {
		fcntl(ends[count][0], F_SETPIPE_SZ, MIB);
		ssize_t done = write(ends[count][1], block, MIB);
		error = done < 0 ? errno : 0;
		total += done > 0 ? done : 0;
		count++;
		if (error)
			break;
	}
	printf("pipes: %s, %s\n", bounded(total), strerror(error));
	for (int i = 0; i < count; i++) {
		close(ends[i][0]);
		close(ends[i][1]);
	}
	int p[2];
	pipe(p);
	printf("a pipe again: %zd\n", write(p[1], block, 65536));
	close(p[0]);
	close(p[1]);
}

static void sockets(int kind)
{
	long total = 0;
	int count = 0, error = 0;
	while (count < 500 && socketpair(AF_UNIX, kind | SOCK_NONBLOCK, 0, ends[count]) == 0) {
		int room = 64 * MIB;
		setsockopt(ends[count][0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
		ssize_t done;
		while ((done = send(ends[count][0], block, 50000, MSG_NOSIGNAL)) > 0)
			total += done;
		error = errno;
		count++;
		if (error != EAGAIN)
			break;
	}
	printf("sockets %d: %s, %s\n", kind, bounded(total), strerror(error));
	for (int i = 0; i < count; i++) {
		close(ends[i][0]);
		close(ends[i][1]);
	}
}

/* Messages of no length in many queues. */
static void messages(void)
{
	struct { long kind; char text[8000]; } message = { 1 };
	static int ids[4096];
	long total = 0;
	int count = 0, error = 0;
	while (count < 4096 && (ids[count] = msgget(IPC_PRIVATE, 0600)) >= 0) {
		while (msgsnd(ids[count], &message, 0, IPC_NOWAIT) == 0)
			total++;
		error = errno;
		count++;
		if (error != EAGAIN)
			break;
	}
	printf("messages: %s, %s\n", bounded(total * 32), strerror(error));
	for (int i = 0; i < count; i++)
		msgctl(ids[i], IPC_RMID, 0);
}

/* Empty files and long attributes. */
static void names(void)
{
	char name[300];
	long total = 0;
	int error = 0;
	mkdir("/tmp/many", 0700);
	chdir("/tmp/many");
	for (int i = 0; i < 1000000; i++) {
		snprintf(name, sizeof name, "%0200d", i);
		if (mknod(name, S_IFREG | 0600, 0)) {
			error = errno;
			break;
		}
		total += 400;
	}
	printf("names: %s, %s\n", bounded(total), strerror(error));
	printf("a file in memory: %s\n", memfd_create("x", 0) < 0 ? strerror(errno) : "made");
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof name, "%0200d", i);
		unlink(name);
	}
	int fd = open("long", O_CREAT | O_RDWR, 0600);
	printf("a file again: %d\n", fd >= 0);
	for (int i = 0; i < 5000; i++)
		if (fsetxattr(fd, "user.same", block, 60000, 0)) {
			printf("attribute %d: %s\n", i, strerror(errno));
			return;
		}
	printf("one attribute set often\n");
}

int main(void)
{
	pipes();
	sockets(SOCK_STREAM);
	sockets(SOCK_DGRAM);
	sockets(SOCK_SEQPACKET);
	messages();
	names();
	return 0;
}
