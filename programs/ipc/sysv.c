/* System V IPC between processes: segments, semaphores, queues. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
}
#define T(call) tell(#call, (long)(call))

static void segments(key_t key)
{
	int id = shmget(key, 10000, IPC_CREAT | IPC_EXCL | 0600);
	T(id >= 0);
	T(shmget(key, 10000, IPC_CREAT | IPC_EXCL | 0600));
	T(shmget(key, 20000, 0));
	T(shmget(key, 10, 0) == id);
	T(shmget(key + 1, 10, 0));
	T(shmget(IPC_PRIVATE, 0, 0600));
	char *p = shmat(id, 0, 0), *q = shmat(id, (void *)0x30000123, SHM_RND);
	printf("%p\n", q);
	strcpy(p, "shared");
	puts(q);
	T((long)shmat(id, (void *)0x30000123, 0));
	T((long)shmat(id, q, 0));
	T((long)shmat(9999999, 0, 0));
	struct shmid_ds d;
	T(shmctl(id, IPC_STAT, &d));
	printf("%zu %ld %o %d %d\n", d.shm_segsz, (long)d.shm_nattch, d.shm_perm.mode,
		d.shm_cpid == getpid(), d.shm_perm.__key == key);
	fflush(stdout);
	if (fork() == 0) {
		shmctl(id, IPC_STAT, &d);
		printf("%ld\n", (long)d.shm_nattch);
		strcpy(q + 9000, "by the child");
		shmdt(q);
		shmctl(id, IPC_STAT, &d);
		printf("%ld %s\n", (long)d.shm_nattch, p);
		fflush(stdout);
		_exit(0);
	}
	wait(0);
	puts(p + 9000);
	T(shmdt(q));
	T(shmdt(q));
	T(shmctl(id, IPC_STAT, &d));
	printf("%ld\n", (long)d.shm_nattch);
	T(shmctl(id, IPC_RMID, 0));
	T(shmget(key, 10, 0));
	T(shmctl(id, IPC_STAT, &d));
	printf("%o\n", d.shm_perm.mode);
	puts(p);
	T(shmdt(p));
	T(shmctl(id, IPC_STAT, &d));
}

static int op(int id, int index, int change, int flags)
{
	struct sembuf b = { index, change, flags };
	return semop(id, &b, 1);
}

static void nothing(int signal)
{
}

static void semaphores(key_t key)
{
	int id = semget(key, 3, IPC_CREAT | IPC_EXCL | 0600);
	T(id >= 0);
	T(semget(key, 4, 0));
	T(semget(key + 1, 1, 0));
	T(semctl(id, 1, SETVAL, 2));
	T(op(id, 1, -3, IPC_NOWAIT));
	T(op(id, 1, -1, 0));
	T(semctl(id, 1, GETVAL));
	T(op(id, 1, 0, IPC_NOWAIT));
	T(op(id, 3, 1, 0));
	T(op(id, 1, 32767, 0));
	T(semctl(id, 0, SETVAL, 40000));
	T(semctl(id, 7, GETVAL));
	struct sembuf both[] = { { 0, 1, 0 }, { 2, -1, IPC_NOWAIT } };
	T(semop(id, both, 2));
	T(semctl(id, 0, GETVAL));
	unsigned short all[3] = { 5, 6, 7 };
	T(semctl(id, 0, SETALL, all));
	memset(all, 0, sizeof all);
	T(semctl(id, 0, GETALL, all));
	printf("%d %d %d\n", all[0], all[1], all[2]);
	struct semid_ds d;
	T(semctl(id, 0, IPC_STAT, &d));
	printf("%lu %o\n", (long)d.sem_nsems, d.sem_perm.mode);
	struct timespec t = { 0, 20000000 };
	struct sembuf take = { 0, -9, 0 };
	T(semtimedop(id, &take, 1, &t));
	fflush(stdout);
	semctl(id, 0, SETVAL, 0);
	pid_t child = fork();
	if (child == 0) {
		op(id, 1, 3, SEM_UNDO);
		op(id, 0, -2, 0);
		printf("child has it\n");
		fflush(stdout);
		_exit(0);
	}
	while (semctl(id, 0, GETNCNT) == 0)
		usleep(1000);
	T(semctl(id, 1, GETVAL));
	T(op(id, 0, 2, 0));
	fflush(stdout);
	wait(0);
	T(semctl(id, 1, GETVAL));
	T(semctl(id, 0, GETPID) == child);
	fflush(stdout);
	child = fork();
	if (child == 0) {
		T(op(id, 0, -1, 0));
		fflush(stdout);
		_exit(0);
	}
	while (semctl(id, 0, GETNCNT) == 0)
		usleep(1000);
	T(semctl(id, 0, IPC_RMID));
	wait(0);
	T(semctl(id, 0, GETVAL));
	T(op(id, 0, 1, 0));
}

struct message {
	long kind;
	char text[100];
};

static void queues(key_t key)
{
	int id = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
	T(id >= 0);
	T(msgget(key, IPC_CREAT | IPC_EXCL | 0600));
	struct message m = { 0, "first" };
	T(msgsnd(id, &m, 6, 0));
	m.kind = 5;
	T(msgsnd(id, &m, 6, 0));
	m.kind = 3, strcpy(m.text, "second");
	T(msgsnd(id, &m, 7, 0));
	m.kind = 4, strcpy(m.text, "third");
	T(msgsnd(id, &m, 6, 0));
	T(msgsnd(id, &m, 9000, 0));
	struct msqid_ds d;
	T(msgctl(id, IPC_STAT, &d));
	printf("%lu %lu %lu %d\n", (long)d.msg_qnum, (long)d.__msg_cbytes, (long)d.msg_qbytes,
		d.msg_lspid == getpid());
	T(msgrcv(id, &m, 3, 3, 0));
	T(msgrcv(id, &m, 3, 3, MSG_NOERROR));
	printf("%ld %.3s\n", m.kind, m.text);
	T(msgrcv(id, &m, 100, -4, 0));
	printf("%ld %s\n", m.kind, m.text);
	T(msgrcv(id, &m, 100, 5, MSG_EXCEPT | IPC_NOWAIT));
	T(msgrcv(id, &m, 100, 0, 0));
	printf("%ld %s\n", m.kind, m.text);
	T(msgrcv(id, &m, 100, 0, IPC_NOWAIT));
	fflush(stdout);
	if (fork() == 0) {
		long sum = 0;
		for (int i = 0; i < 1000; i++) {
			msgrcv(id, &m, 100, 0, 0);
			sum += m.kind;
		}
		printf("sum %ld\n", sum);
		T(msgrcv(id, &m, 100, 77, 0));
		fflush(stdout);
		_exit(0);
	}
	for (int i = 1; i <= 1000; i++) {
		m.kind = i;
		msgsnd(id, &m, 100, 0);
	}
	usleep(100000);
	T(msgctl(id, IPC_RMID, 0));
	fflush(stdout);
	wait(0);
	T(msgsnd(id, &m, 1, 0));
}

int main(void)
{
	setvbuf(stdout, 0, _IOFBF, 1 << 16);
	key_t key = 0x46410000 + (getpid() & 0xfff) * 2;
	segments(key);
	semaphores(key);
	queues(key);
	return 0;
}
