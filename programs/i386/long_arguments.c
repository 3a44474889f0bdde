// Starts itself four times with nearly as many bytes of arguments as a program may have, each time
// others, and looks at every one of them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COUNT = 30, BYTES = 64000, ROUNDS = 4 };

static char byte_of(int round, int argument, int at) {
    return 'a' + (round * 7 + argument * 5 + at) % 26;
}

int main(int argc, char **argv) {
    int round = argc > 1 ? atoi(argv[1]) : 0, wrong = 0;
    if (argc > 1 && argc != COUNT + 2)
        wrong = 1000000;
    for (int i = 2; i < argc; i++) {
        wrong += strlen(argv[i]) != BYTES;
        for (int at = 0; argv[i][at]; at++)
            wrong += argv[i][at] != byte_of(round, i - 2, at);
    }
    printf("%d: %d wrong of %d arguments\n", round, wrong, argc);
    fflush(stdout);
    if (round == ROUNDS)
        return wrong != 0;
    char number[8], *next[COUNT + 3] = {argv[0], number};
    sprintf(number, "%d", round + 1);
    for (int i = 0; i < COUNT; i++) {
        next[i + 2] = calloc(1, BYTES + 1);
        for (int at = 0; at < BYTES; at++)
            next[i + 2][at] = byte_of(round + 1, i, at);
    }
    execv(argv[0], next);
    perror("execv");
    return 1;
}
