/* Fills memory as parent, forks, and the child fills more: oom PARENT_MIB CHILD_MIB [ADJUSTMENT].
   Prints how the child ended, and whether the parent's memory is as it was. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1ul << 20)

static void adjust(const char *value)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        perror("oom_score_adj");
    close(fd);
}

/* Maps a MiB at a time, so that no request alone is too large, and writes a word to each page. */
static void fill(char **parts, unsigned count, unsigned seed)
{
    for (unsigned part = 0; part < count; part++) {
        parts[part] =
            mmap(0, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (parts[part] == MAP_FAILED) {
            printf("no room for part %u\n", part);
            exit(4);
        }
        for (unsigned at = 0; at < MIB; at += 4096)
            *(unsigned *)(parts[part] + at) = seed + part * 4096 + at;
    }
}

static unsigned wrong(char **parts, unsigned count, unsigned seed)
{
    unsigned sum = 0;
    for (unsigned part = 0; part < count; part++)
        for (unsigned at = 0; at < MIB; at += 4096)
            sum += *(unsigned *)(parts[part] + at) != seed + part * 4096 + at;
    return sum;
}

int main(int argc, char **argv)
{
    static char *own[1024], *more[1024];
    unsigned parent = atoi(argv[1]), child = atoi(argv[2]);
    int status = 0;
    if (argc > 3)
        adjust(argv[3]);
    fill(own, parent, 1);
    pid_t pid = fork();
    if (pid == 0) {
        if (argc > 3)
            adjust("0");
        fill(more, child, 2);
        printf("the child has %u wrong words\n", wrong(more, child, 2) + wrong(own, parent, 1));
        fflush(stdout);
        _exit(3);
    }
    waitpid(pid, &status, 0);
    printf("child: %x; parent: %u wrong words\n", status, wrong(own, parent, 1));
    return 0;
}
