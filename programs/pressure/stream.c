/* Goes over memory from start to end, several times: stream MIB TURNS [r]. The first turn writes;
   with r the others only read. Prints its major faults and the wrong words that it found. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

int main(int argc, char **argv)
{
    size_t count = strtoul(argv[1], 0, 0) << 8, wrong = 0;
    int turns = atoi(argv[2]), reads = argc > 3;
    struct rusage usage;
    char *memory = mmap(0, count << 12, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (int turn = 0; turn < turns; turn++)
        for (size_t page = 0; page < count; page++) {
            volatile size_t *word = (size_t *)(memory + (page << 12));
            wrong += turn && *word != page + (reads ? 0 : turn - 1);
            if (!turn || !reads)
                *word = page + turn;
        }
    getrusage(RUSAGE_SELF, &usage);
    printf("%ld major faults, %zu wrong words\n", usage.ru_majflt, wrong);
    return 0;
}
