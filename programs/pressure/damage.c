/* Fills 32 MiB, says so, waits for the end of its input, and reads everything again. Where a page
   does not come back there is a SIGBUS; it counts words that are wrong, of which there are none. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile int code;

static void on_bus(int number, siginfo_t *info, void *context)
{
    code = info->si_code;
    siglongjmp(back, 1);
}

int main(void)
{
    size_t bytes = 8ul << 20;
    static unsigned *parts[4];
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    /* The program itself stays in memory; room for its input and output is made now. */
    static char room[BUFSIZ];
    setvbuf(stdout, room, _IOFBF, sizeof room);
    if (mlockall(MCL_CURRENT))
        perror("mlockall");
    sigaction(SIGBUS, &action, 0);
    for (int part = 0; part < 4; part++) {
        parts[part] = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t at = 0; at < bytes / 4; at++)
            parts[part][at] = part * 77777777u + at;
    }
    char byte = 'x';
    write(1, &byte, 1);
    while (read(0, &byte, 1) > 0)
        ;
    volatile unsigned wrong = 0;
    if (sigsetjmp(back, 1) == 0)
        for (int part = 0; part < 4; part++)
            for (size_t at = 0; at < bytes / 4; at++)
                wrong += parts[part][at] != part * 77777777u + at;
    printf("%s, code %d, %u wrong words\n", code ? "SIGBUS" : "no signal", code, wrong);
    return 0;
}
