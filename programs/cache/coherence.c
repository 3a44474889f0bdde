// All ways to the bytes of a file see the same pages: read, write, shared and private mappings,
// sendfile, splice, copies, appends, holes, truncation, O_DIRECT. Prints what each of them sees.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096L

static sigjmp_buf back;
static volatile int is_ready;

static void on_bus(int number) {
    if (!is_ready) _exit(9);
    siglongjmp(back, number);
}

static unsigned sum(const unsigned char *bytes, long count) {
    unsigned all = 2166136261u;
    for (long i = 0; i < count; i++) all = (all ^ bytes[i]) * 16777619u;
    return all;
}

static void show(int fd, const char *what) {
    static unsigned char bytes[1 << 20];
    struct stat st;
    fstat(fd, &st);
    long count = pread(fd, bytes, sizeof bytes, 0);
    printf("%-24s size %6ld read %6ld sum %08x\n", what, (long)st.st_size, count, sum(bytes, count));
}

static const char *touch(volatile char *at, int writes) {
    int number = sigsetjmp(back, 1);
    is_ready = !number;
    if (number) return number == SIGBUS ? "SIGBUS" : "SIGSEGV";
    if (writes) *at = 1;
    else (void)*at;
    is_ready = 0;
    return "fine";
}

static void mappings(int fd, int is_disk) {
    char *shared = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *private = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char byte = 0;
    pwrite(fd, "W", 1, 5000);
    printf("written: shared %c private %c\n", shared[5000], private[5000]);
    shared[5000] = 'M';
    pread(fd, &byte, 1, 5000);
    printf("stored: read %c private %c\n", byte, private[5000]);
    private[5000] = 'P';
    pwrite(fd, "X", 1, 5000);
    printf("copied: shared %c private %c\n", shared[5000], private[5000]);
    if (fork() == 0) {
        shared[6000] = 'C';
        pwrite(fd, "D", 1, 6001);
        _exit(0);
    }
    wait(0);
    printf("child: %c%c\n", shared[6000], shared[6001]);
    printf("msync %d\n", msync(shared, 8 * PAGE, MS_SYNC));
    shared[6000] = 'E';
    show(fd, "after msync");
    printf("truncate %d\n", ftruncate(fd, PAGE + 100));
    printf("beyond: %s\n", touch(shared + 2 * PAGE, 0));
    printf("beyond: %s\n", touch(private + 2 * PAGE, 1));
    printf("inside: %s\n", touch(shared + PAGE, 1));
    printf("tail %d %d\n", shared[PAGE + 99], shared[PAGE + 100]);
    if (is_disk) shared[PAGE + 200] = 'Z';
    show(fd, "stored behind the end");
    printf("grow %d\n", ftruncate(fd, 6 * PAGE));
    printf("grown: %d %d\n", shared[PAGE + 200], shared[3 * PAGE]);
    show(fd, "grown");
    munmap(shared, 8 * PAGE);
    munmap(private, 8 * PAGE);
}

static void sparse(int fd) {
    printf("far write %zd\n", pwrite(fd, "far", 3, 300 * PAGE + 7));
    show(fd, "sparse");
    char *map = mmap(0, 301 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    map[100 * PAGE + 1] = 9;
    printf("hole %d data %.3s\n", map[200 * PAGE], map + 300 * PAGE + 7);
    printf("punch %d\n", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 300 * PAGE, PAGE));
    printf("punched %d %d\n", map[300 * PAGE + 7], map[100 * PAGE + 1]);
    show(fd, "punched");
    munmap(map, 301 * PAGE);
}

static void moving(int fd, const char *name) {
    char other[512];
    snprintf(other, sizeof other, "%s.copy", name);
    int copy = open(other, O_RDWR | O_CREAT | O_TRUNC, 0600);
    char *map = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    strcpy(map, "moved by mappings");
    loff_t from = 0, to = 0;
    printf("copy_file_range %zd\n", copy_file_range(fd, &from, copy, &to, 3 * PAGE, 0));
    show(copy, "copied");
    off_t at = 1;
    printf("sendfile %zd\n", sendfile(copy, fd, &at, 5000));
    show(copy, "sent");
    int ends[2];
    pipe(ends);
    loff_t place = 6;
    printf("splice %zd\n", splice(fd, &place, ends[1], 0, 100, 0));
    char bytes[100] = {0};
    printf("pipe %zd %s\n", read(ends[0], bytes, 100), bytes);
    write(ends[1], "piped", 5);
    place = 2;
    printf("splice %zd\n", splice(ends[0], 0, copy, &place, 5, 0));
    show(copy, "spliced");
    int append = open(other, O_WRONLY | O_APPEND);
    for (int i = 0; i < 5; i++) {
        write(append, "line\n", 5);
        write(copy, "x", 1);
    }
    show(copy, "appended");
    char *view = mmap(0, 4 * PAGE, PROT_READ, MAP_SHARED, copy, 0);
    printf("mapped sum %08x\n", sum((unsigned char *)view, 3 * PAGE));
    unlink(other);
    write(append, "deleted", 7);
    printf("deleted sum %08x\n", sum((unsigned char *)view, 3 * PAGE));
    close(append), close(copy), munmap(map, PAGE), munmap(view, 4 * PAGE);
}

static void direct(const char *name) {
    int fd = open(name, O_RDWR | O_DIRECT), plain = open(name, O_RDWR);
    unsigned char *block = aligned_alloc(PAGE, 2 * PAGE);
    pwrite(plain, "cached", 6, 10);
    printf("direct read %zd %.6s\n", pread(fd, block, PAGE, 0), block + 10);
    memset(block, 'd', PAGE);
    printf("direct write %zd\n", pwrite(fd, block, PAGE, PAGE));
    char byte = 0;
    pread(plain, &byte, 1, PAGE + 1);
    printf("seen %c\n", byte);
    ssize_t odd = pread(fd, block, 100, 0);
    printf("odd length %s\n", odd < 0 ? strerror(errno) : "fine");
    odd = pread(fd, block + 1, PAGE, 0);
    printf("odd address %s\n", odd < 0 ? strerror(errno) : "fine");
    odd = pwrite(fd, block, PAGE, 100);
    printf("odd offset %s\n", odd < 0 ? strerror(errno) : "fine");
    close(fd), close(plain), free(block);
}

static void advice(int fd) {
    static unsigned char in_core[8];
    for (int advice = 0; advice < 6; advice++) printf("%d", posix_fadvise(fd, 0, 0, advice));
    printf(" %d %d\n", posix_fadvise(fd, 0, 0, 6), posix_fadvise(fd, 0, -1, 0));
    printf("readahead %zd sync %d %d %d\n", readahead(fd, 0, PAGE), fsync(fd), fdatasync(fd),
           sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
    char *map = mmap(0, 8 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    // Linux gives up only what is clean, nobody maps, and is no large folio cut in the middle.
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    mincore(map, 8 * PAGE, in_core);
    printf("given up %d\n", in_core[0] + in_core[7]);
    printf("read %zd\n", pread(fd, in_core, 1, 0));
    mincore(map, 8 * PAGE, in_core);
    printf("back %d\n", in_core[0]);
    munmap(map, 8 * PAGE);
}

static void hostile(int fd) {
    static char bytes[64];
    volatile size_t all = 0x7fffffff;
    volatile uintptr_t wall = 16;
    printf("2 GB read %zd\n", pread(fd, bytes, all, 8 * PAGE - 16));
    printf("far read %zd\n", pread(fd, bytes, 64, 1L << 60));
    ssize_t odd = pread(fd, (void *)wall, 64, 0);
    printf("wall %s\n", odd < 0 ? strerror(errno) : "fine");
    odd = pwrite(fd, bytes, 64, -1);
    printf("negative %s\n", odd < 0 ? strerror(errno) : "fine");
    struct iovec parts[3] = {{bytes, 10}, {0, 10}, {bytes + 20, 10}};
    printf("vector %zd\n", preadv(fd, parts, 3, 0));
    printf("vector out %zd\n", pwritev(fd, parts, 3, PAGE - 5));
}

int main(int count, char **arguments) {
    if (count < 2) return 1;
    signal(SIGBUS, on_bus);
    signal(SIGSEGV, on_bus);
    unlink(arguments[1]);
    int fd = open(arguments[1], O_RDWR | O_CREAT, 0600);
    static char bytes[8 * PAGE];
    for (long i = 0; i < 8 * PAGE; i++) bytes[i] = (char)(i * 31 + i / PAGE);
    printf("write %zd\n", write(fd, bytes, sizeof bytes));
    struct statfs fs;
    fstatfs(fd, &fs);
    // Memory file systems have no device to go around the cache to.
    int is_disk = fs.f_type != 0x01021994;
    show(fd, "written");
    mappings(fd, is_disk);
    sparse(fd);
    moving(fd, arguments[1]);
    if (is_disk) direct(arguments[1]);
    ftruncate(fd, 8 * PAGE);
    if (is_disk) advice(fd);
    hostile(fd);
    show(fd, "at the end");
    unlink(arguments[1]);
    return 0;
}
