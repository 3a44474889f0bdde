/*
 * The native oracle: probe PROGRAM [ARG]...
 *
 * Runs PROGRAM with address-space randomisation off, a fixed environment and /dev/null as standard
 * streams, stops it at exec and at exit (PTRACE_O_TRACEEXIT), and prints one line of JSON:
 *   {"minor":N,"major":N,"status":N,"maps":"..."}
 * A GLIBC_TUNABLES of our own is passed on: with it the C library can be kept from features of the
 * host's processor that the virtual one does not have.
 * minor and major are faults since exec, status is the wait status, maps is /proc/PID/maps at exit.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>

#include <sys/wait.h>
#include <unistd.h>

static char tunables[1024];
static char *environment[] = { "PATH=/usr/bin:/bin", "LANG=C", "HOME=/root", 0, 0 };

struct faults {
	unsigned long minor, major;
};

static void fail(const char *what)
{
	perror(what);
	exit(125);
}

static FILE *proc(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	FILE *file = fopen(path, "r");
	if (!file)
		fail(path);
	return file;
}

static struct faults read_faults(pid_t pid)
{
	char line[4096];
	struct faults faults = { 0, 0 };
	FILE *file = proc(pid, "stat");

	if (!fgets(line, sizeof line, file))
		fail("stat");
	fclose(file);
	/* After the name: state ppid pgrp session tty tpgid flags minflt cminflt majflt */
	char *rest = strrchr(line, ')');
	if (!rest || sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %lu %*u %lu", &faults.minor,
			    &faults.major) != 2)
		fail("stat format");
	return faults;
}

static void print_maps(pid_t pid)
{
	FILE *file = proc(pid, "maps");
	int byte;

	while ((byte = getc(file)) != EOF) {
		if (byte == '\n')
			fputs("\\n", stdout);
		else if (byte == '"' || byte == '\\')
			printf("\\%c", byte);
		else if (byte < 32)
			printf("\\u%04x", byte);
		else
			putchar(byte);
	}
	fclose(file);
}

static void child(char **argv)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	if (null > 2)
		close(null);
	personality(ADDR_NO_RANDOMIZE);
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	execve(argv[0], argv, environment);
	_exit(127);
}

int main(int argc, char **argv)
{
	int status;

	if (argc < 2)
		return 2;
	if (getenv("GLIBC_TUNABLES")) {
		snprintf(tunables, sizeof tunables, "GLIBC_TUNABLES=%s", getenv("GLIBC_TUNABLES"));
		environment[3] = tunables;
	}
	pid_t pid = fork();
	if (pid == 0)
		child(argv + 1);
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		fail("exec");
	struct faults at_exec = read_faults(pid);
	ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL);
	int pass = 0;
	for (;;) {
		ptrace(PTRACE_CONT, pid, 0, pass);
		if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
			fail("run");
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8))
			break;
		pass = WSTOPSIG(status);
	}
	struct faults at_exit = read_faults(pid);
	unsigned long code = 0;
	ptrace(PTRACE_GETEVENTMSG, pid, 0, &code);
	printf("{\"minor\":%lu,\"major\":%lu,\"status\":%lu,\"maps\":\"", at_exit.minor - at_exec.minor,
	       at_exit.major - at_exec.major, code);
	print_maps(pid);
	puts("\"}");
	ptrace(PTRACE_CONT, pid, 0, 0);
	waitpid(pid, &status, 0);
	return 0;
}
