// The native side of the differential test: executes memory calls that it reads as lines on stdin in
// its own address space, and answers each with a line on stdout.
//
// Everything but an arena and a window for the heap is reserved first, so that the kernel can place
// new mappings there only. No stdio and no malloc: they would map memory of their own.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096UL
#define HEAP_PAGES 64UL
#define FILE_BYTES (20 * PAGE + 123)
#define TASK_END 0x7ffffffff000UL
#define LOWEST 0x10000UL

typedef unsigned long u64;

static char input[1 << 16], output[1 << 18], proc[1 << 21];
static size_t input_used, input_length, output_length;
static u64 arena, arena_end, heap, heap_end;
static int files[4];
static sigjmp_buf resume;
static volatile int trap_signal, trap_code;

static void flush(void) {
    size_t done = 0;
    while (done < output_length) {
        ssize_t n = write(1, output + done, output_length - done);
        if (n <= 0) _exit(3);
        done += n;
    }
    output_length = 0;
}

static void put(const char *bytes, size_t length) {
    if (output_length + length > sizeof output) flush();
    memcpy(output + output_length, bytes, length);
    output_length += length;
}

static void put_text(const char *text) { put(text, strlen(text)); }

static void put_hex(u64 value) {
    char digits[16];
    int at = 16;
    do digits[--at] = "0123456789abcdef"[value & 15]; while (value >>= 4);
    put(digits + at, 16 - at);
}

static void put_number(long value) {
    if (value < 0) put("-", 1);
    put_hex(value < 0 ? -(u64)value : (u64)value);
}

// One line without its newline; answers are sent when there is nothing left to read.
static char *line(void) {
    static char text[256];
    size_t length = 0;
    for (;;) {
        if (input_used == input_length) {
            flush();
            ssize_t n = read(0, input, sizeof input);
            if (n <= 0) _exit(0);
            input_length = n;
            input_used = 0;
        }
        char byte = input[input_used++];
        if (byte == '\n') break;
        if (length + 1 < sizeof text) text[length++] = byte;
    }
    text[length] = 0;
    return text;
}

static u64 hex(const char **at) {
    u64 value = 0;
    while (**at == ' ') ++*at;
    for (;; ++*at) {
        char byte = **at;
        if (byte >= '0' && byte <= '9') value = value << 4 | (u64)(byte - '0');
        else if (byte >= 'a' && byte <= 'f') value = value << 4 | (u64)(byte - 'a' + 10);
        else return value;
    }
}

static void on_signal(int signal, siginfo_t *info, void *context) {
    (void)context;
    trap_signal = signal;
    trap_code = info->si_code;
    siglongjmp(resume, 1);
}

static size_t read_proc(const char *path) {
    size_t length = 0;
    int fd = open(path, O_RDONLY);
    for (;;) {
        ssize_t n = read(fd, proc + length, sizeof proc - 1 - length);
        if (n <= 0) break;
        length += n;
    }
    close(fd);
    proc[length] = 0;
    return length;
}

static void reserve(u64 from, u64 to) {
    int flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE | MAP_NORESERVE;
    if (from < to && mmap((void *)from, to - from, PROT_NONE, flags, files[0], 0) != (void *)from) {
        put_text("cannot reserve\n");
        flush();
        _exit(4);
    }
}

// Reserves `from..to` but for the arena and the heap.
static void reserve_around(u64 from, u64 to) {
    u64 holes[2][2] = {{heap, heap_end}, {arena, arena_end}};
    for (int i = 0; i < 2; i++) {
        if (holes[i][1] <= from || to <= holes[i][0]) continue;
        reserve(from, holes[i][0]);
        from = holes[i][1];
    }
    reserve(from, to);
}

static void reserve_all(void) {
    static u64 ranges[256][2];
    size_t count = 0;
    read_proc("/proc/self/maps");
    for (const char *at = proc; *at; at = strchr(at, '\n') + 1) {
        ranges[count][0] = hex(&at);
        at++;
        ranges[count++][1] = hex(&at);
    }
    u64 low = LOWEST;
    for (size_t i = 0; i < count && ranges[i][0] < TASK_END; i++) {
        reserve_around(low, ranges[i][0]);
        low = ranges[i][1];
    }
    reserve_around(low, TASK_END);
}

static int is_ours(u64 start) {
    return (start >= arena && start < arena_end) || (start >= heap && start < heap_end);
}

// The lines of the arena and the heap: start, end, rights, offset.
static void dump_maps(void) {
    read_proc("/proc/self/maps");
    for (const char *at = proc; *at; at = strchr(at, '\n') + 1) {
        const char *first = at;
        u64 start = hex(&at);
        if (!is_ours(start)) continue;
        at++;
        hex(&at);
        at += 6;
        hex(&at);
        put(first, at - first);
        put("\n", 1);
    }
    put(".\n", 2);
}

// The same with resident and anonymous pages, and the flags.
static void dump_smaps(void) {
    read_proc("/proc/self/smaps");
    int inside = 0;
    for (const char *at = proc; *at; at = strchr(at, '\n') + 1) {
        const char *end = strchr(at, '\n');
        if (*at >= '0' && *at <= '9' || *at >= 'a' && *at <= 'f') {
            const char *first = at;
            u64 start = hex(&at);
            inside = is_ours(start);
            if (!inside) continue;
            at++;
            hex(&at);
            at += 6;
            hex(&at);
            put(first, at - first);
        } else if (inside && (!strncmp(at, "Rss:", 4) || !strncmp(at, "Anonymous:", 10))) {
            const char *digit = at;
            while (*digit < '0' || *digit > '9') digit++;
            put(" ", 1);
            for (; *digit >= '0' && *digit <= '9'; digit++) put(digit, 1);
        } else if (inside && !strncmp(at, "VmFlags:", 8)) {
            put(at + 8, end - at - 8);
            put("\n", 1);
        }
    }
    put(".\n", 2);
}

static long faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static long touch(u64 addr, int is_write, unsigned char value) {
    volatile unsigned char *byte = (volatile unsigned char *)addr;
    if (sigsetjmp(resume, 0)) return -1000L * (trap_signal == SIGBUS ? 2 : 1) - trap_code;
    if (is_write) *byte = value;
    return *byte;
}

static long call(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
    long result = syscall(number, a, b, c, d, e, f);
    return result == -1 ? -errno : result;
}

static void answer(const char *text) {
    static unsigned char vector[1 << 12];
    char kind = *text++;
    u64 a[6];
    for (int i = 0; i < 6; i++) a[i] = hex(&text);
    long result = 0, before = faults();
    switch (kind) {
    case 'm': result = call(SYS_mmap, a[0], a[1], a[2], a[3], a[3] & MAP_ANONYMOUS ? -1 : files[a[4]], a[5]); break;
    case 'u': result = call(SYS_munmap, a[0], a[1], 0, 0, 0, 0); break;
    case 'p': result = call(SYS_mprotect, a[0], a[1], a[2], 0, 0, 0); break;
    case 'r': result = call(SYS_mremap, a[0], a[1], a[2], a[3], a[4], 0); break;
    case 'a': result = call(SYS_madvise, a[0], a[1], a[2], 0, 0, 0); break;
    case 'l': result = call(SYS_mlock2, a[0], a[1], a[2], 0, 0, 0); break;
    case 'k': result = call(SYS_munlock, a[0], a[1], 0, 0, 0, 0); break;
    case 'L': result = call(SYS_mlockall, a[0], 0, 0, 0, 0, 0); break;
    case 'K': result = call(SYS_munlockall, 0, 0, 0, 0, 0, 0); break;
    case 'y': result = call(SYS_msync, a[0], a[1], a[2], 0, 0, 0); break;
    case 'b': result = syscall(SYS_brk, a[0]); break;
    case 'c': result = call(SYS_mincore, a[0], a[1], (u64)vector, 0, 0, 0); break;
    case 'R': result = touch(a[0], 0, 0); break;
    case 'W': result = touch(a[0], 1, a[1]); break;
    }
    long after = faults();
    put_number(result);
    put(" ", 1);
    put_number(after - before);
    if (kind == 'c' && result == 0) {
        put(" ", 1);
        for (u64 i = 0; i < (a[1] + PAGE - 1) / PAGE; i++) put(vector[i] & 1 ? "1" : "0", 1);
    }
    put("\n", 1);
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    const char *first = arguments[1], *last = arguments[2];
    arena = hex(&first);
    arena_end = hex(&last);
    heap = syscall(SYS_brk, 0);
    heap_end = heap + HEAP_PAGES * PAGE;
    files[0] = memfd_create("f", 0);
    ftruncate(files[0], FILE_BYTES);
    static const int modes[] = {O_RDWR, O_RDONLY, O_WRONLY};
    char path[] = "/proc/self/fd/0";
    path[14] = '0' + files[0];
    for (int i = 0; i < 3; i++) files[i + 1] = open(path, modes[i]);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);
    // Bring in what this program itself will touch.
    memset(input, 0, sizeof input);
    memset(output, 0, sizeof output);
    memset(proc, 0, sizeof proc);
    volatile char stack[1 << 16];
    for (size_t i = 0; i < sizeof stack; i += PAGE) stack[i] = 1;
    touch(8, 0, 0);
    reserve_all();
    mlockall(MCL_CURRENT);
    munlockall();
    dump_maps();
    output_length = 0;
    dump_smaps();
    output_length = 0;
    put_hex(heap);
    put("\n", 1);
    for (;;) {
        char *text = line();
        if (*text == 'M') dump_maps();
        else if (*text == 'S') dump_smaps();
        else answer(text);
    }
}
