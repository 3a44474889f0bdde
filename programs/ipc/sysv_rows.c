/* What /proc/sysvipc says of objects of our own; numbers that differ from run to run are compared. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <time.h>
#include <unistd.h>

/* The columns of the line that tells of object `id`; how long the line is, 0 if there is none. */
static int columns(const char *kind, int id, long long *value)
{
	char path[64], line[512];
	int length = 0;
	snprintf(path, sizeof path, "/proc/sysvipc/%s", kind);
	FILE *file = fopen(path, "r");
	if (!fgets(line, sizeof line, file))
		exit(9);
	printf("%s", line);
	while (fgets(line, sizeof line, file)) {
		char *word = line;
		long long found[20] = { 0 };
		for (int i = 0; i < 17; i++)
			found[i] = strtoll(word, &word, i == 2 ? 8 : 10);
		if (found[1] == id) {
			memcpy(value, found, sizeof found);
			length = strlen(line);
		}
	}
	fclose(file);
	return length;
}

static int is_recent(long long when)
{
	return llabs(when - (long long)time(0)) < 100;
}

int main(void)
{
	int key = 0x50000000 + getpid();
	struct { long kind; char text[16]; } message = { 1 };
	long long v[20];
	int id = shmget(key, 10000, IPC_CREAT | 0640);
	char *memory = shmat(id, 0, 0);
	memory[0] = memory[5000] = 1;
	int length = columns("shm", id, v);
	printf("%d key %d mode %llo bytes %lld pids %d %d attached %lld users %lld %lld %lld %lld\n",
	       length, v[0] == key, v[2], v[3], v[4] == getpid(), v[5] == getpid(), v[6], v[7], v[8],
	       v[9], v[10]);
	printf("times %d %lld %d memory %lld %lld\n", is_recent(v[11]), v[12], is_recent(v[13]), v[14],
	       v[15]);
	shmctl(id, IPC_RMID, 0);
	printf("%d ", columns("shm", id, v));
	printf("key %lld mode %llo\n", v[0], v[2]);
	shmdt(memory);
	printf("%d\n", columns("shm", id, v));
	id = semget(key, 5, IPC_CREAT | 0600);
	struct sembuf up = { 2, 1, 0 };
	semop(id, &up, 1);
	length = columns("sem", id, v);
	printf("%d key %d mode %llo count %lld users %lld %lld times %d %d\n", length, v[0] == key, v[2],
	       v[3], v[4], v[6], is_recent(v[8]), is_recent(v[9]));
	semctl(id, 0, IPC_RMID);
	id = msgget(key, IPC_CREAT | 0666);
	msgsnd(id, &message, 7, 0);
	msgsnd(id, &message, 3, 0);
	length = columns("msg", id, v);
	printf("%d key %d mode %llo bytes %lld count %lld pids %d %lld times %d %lld\n", length,
	       v[0] == key, v[2], v[3], v[4], v[5] == getpid(), v[6], is_recent(v[11]), v[12]);
	msgctl(id, IPC_RMID, 0);
	return 0;
}
