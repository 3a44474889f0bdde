// Runs test cases on the host's CPU and reports what happened.
//
// A case is a whole CPU state plus patches to memory. The oracle lays out the same virtual pages as
// the test's guest, loads the state, enters the code with iretq (which serialises) and lets it run
// into a signal: every case ends in one, usually the int3 that fills the code pages. The signal
// frame is the final state. Nothing here interprets instructions.
//
// Standard input, in 64-bit words, little endian:
//   LAYOUT frame_count page_count {virtual_address frame protection}* base[frame_count * 4096]
//   BATCH  case_count byte_count {struct request, {physical_address length bytes.. padded}*}*
// Standard output, after each BATCH:
//   byte_count {struct report, {physical_address value}*}*
// where the pairs name each 8 bytes of memory that the case left different from what it found.
//
// Build: cc -O2 -static-pie -fno-stack-protector oracle.c. Linked statically so that one range holds
// all code that may call the kernel: system calls of the code under test are caught by syscall
// user dispatch. Position independent so that the low 4 GiB are the guest's.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>
#include <asm/prctl.h>

enum { LAYOUT = 1, BATCH = 2 };
enum { PAGE = 4096, FPU_BYTES = 832 };
enum { TICK_MICROSECONDS = 20000, TICKS_ALLOWED = 3 };

struct request {
    uint64_t gpr[16], rip, rflags, fs_base, gs_base, patch_count;
    uint64_t code_selector; // 0: that of 64-bit code
    uint64_t unused[2];
    uint8_t fpu[FPU_BYTES];
};

struct report {
    uint64_t gpr[16], rip, rflags, signal, code, trap, error, cr2, change_count;
    uint8_t fpu[FPU_BYTES];
};

_Static_assert(offsetof(struct request, fpu) == 192, "enter_case knows these offsets");

static struct request now __attribute__((aligned(64)));
static struct report done;
uint64_t host_rsp; // named by the assembly
static uint64_t host_fs;
static volatile int in_case, ticks;
static uint64_t frame_count;
static uint8_t *memory;    // all frames, as the oracle sees them
static uint8_t *reference; // what a case found: the base and its patches
static uint8_t *base;
static uint8_t *mapped[4096];
static size_t mapped_count;
extern const char __executable_start[], etext[];

void enter_case(struct request *);
void leave_case(void) __attribute__((noreturn));

__asm__(".text\n"
        "enter_case:\n"
        "  push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "  mov %rsp, host_rsp(%rip)\n"
        "  mov $7, %eax\n xor %edx, %edx\n"
        "  xrstor64 192(%rdi)\n"
        "  mov %ss, %eax\n push %rax\n"
        "  pushq 4*8(%rdi)\n pushq 136(%rdi)\n"
        "  mov %cs, %eax\n mov 168(%rdi), %rcx\n test %rcx, %rcx\n cmovnz %rcx, %rax\n push %rax\n"
        "  pushq 128(%rdi)\n"
        "  mov 0*8(%rdi), %rax\n mov 1*8(%rdi), %rcx\n mov 2*8(%rdi), %rdx\n"
        "  mov 3*8(%rdi), %rbx\n mov 5*8(%rdi), %rbp\n mov 6*8(%rdi), %rsi\n"
        "  mov 8*8(%rdi), %r8\n mov 9*8(%rdi), %r9\n mov 10*8(%rdi), %r10\n"
        "  mov 11*8(%rdi), %r11\n mov 12*8(%rdi), %r12\n mov 13*8(%rdi), %r13\n"
        "  mov 14*8(%rdi), %r14\n mov 15*8(%rdi), %r15\n mov 7*8(%rdi), %rdi\n"
        "  iretq\n"
        "leave_case:\n"
        "  mov host_rsp(%rip), %rsp\n"
        "  pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "  ret\n");

static long kernel_call(long number, long first, long second) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(first), "S"(second)
                     : "rcx", "r11", "memory");
    return result;
}

static void die(const char *what) {
    perror(what);
    _exit(1);
}

// Brings the parts that the header calls initial into the form that they have when loaded.
static void copy_fpu(const uint8_t *from) {
    uint64_t present;
    memcpy(done.fpu, from, FPU_BYTES);
    memcpy(&present, from + 512, 8);
    if (!(present & 1)) {
        memset(done.fpu, 0, 24);
        memset(done.fpu + 32, 0, 128);
        done.fpu[0] = 0x7f, done.fpu[1] = 0x03;
    }
    if (!(present & 2)) memset(done.fpu + 160, 0, 256);
    if (!(present & 4)) memset(done.fpu + 576, 0, 256);
    memset(done.fpu + 416, 0, 160);
    done.fpu[512] = 7;
}

static int is_own(uint64_t address) {
    return address >= (uint64_t)__executable_start && address < (uint64_t)etext;
}

// The end of every case. FS still belongs to the guest when this starts, and AC and NT
// may be set.
static void on_signal(int signal, siginfo_t *info, void *context) {
    const greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                  REG_R12, REG_R13, REG_R14, REG_R15};
    __asm__ volatile("pushfq\n andl $~0x44000, (%%rsp)\n popfq" ::: "cc", "memory");
    if (signal == SIGVTALRM && (!in_case || is_own(gregs[REG_RIP]) || ++ticks < TICKS_ALLOWED)) return;
    kernel_call(SYS_arch_prctl, ARCH_SET_FS, host_fs);
    if (!in_case || is_own(gregs[REG_RIP])) {
        char text[] = "oracle: signal in its own code\n";
        (void)!write(2, text, sizeof text - 1);
        _exit(3);
    }
    in_case = 0;
    for (int i = 0; i < 16; i++) done.gpr[i] = gregs[order[i]];
    done.rip = gregs[REG_RIP];
    done.rflags = gregs[REG_EFL];
    done.signal = signal;
    done.code = info->si_code;
    done.trap = gregs[REG_TRAPNO];
    done.error = gregs[REG_ERR];
    done.cr2 = gregs[REG_CR2];
    copy_fpu((const uint8_t *)((ucontext_t *)context)->uc_mcontext.fpregs);
    leave_case();
}

static void run_case(void) {
    // 32-bit code finds its data through these.
    __asm__ volatile("mov %0, %%ds\n mov %0, %%es" : : "r"(now.code_selector ? 0x2b : 0));
    ticks = 0;
    in_case = 1;
    kernel_call(SYS_arch_prctl, ARCH_SET_GS, now.gs_base);
    kernel_call(SYS_arch_prctl, ARCH_SET_FS, now.fs_base);
    enter_case(&now);
}

static void read_all(void *to, size_t length) {
    uint8_t *at = to;
    while (length) {
        ssize_t got = read(0, at, length);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) _exit(got == 0 ? 0 : 1);
        at += got, length -= got;
    }
}

static void write_all(const void *from, size_t length) {
    const uint8_t *at = from;
    while (length) {
        ssize_t put = write(1, at, length);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) _exit(1);
        at += put, length -= put;
    }
}

static uint64_t read_word(void) {
    uint64_t word;
    read_all(&word, 8);
    return word;
}

static void *allocate(size_t length) {
    void *at = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) die("mmap");
    return at;
}

static void lay_out(void) {
    if (memory) {
        munmap(memory, frame_count * PAGE), munmap(reference, frame_count * PAGE);
        munmap(base, frame_count * PAGE);
        while (mapped_count) munmap(mapped[--mapped_count], PAGE);
    }
    frame_count = read_word();
    uint64_t page_count = read_word();
    if (page_count > sizeof mapped / sizeof *mapped) _exit(2);
    int file = memfd_create("frames", 0);
    if (file < 0 || ftruncate(file, frame_count * PAGE)) die("memfd");
    memory = mmap(0, frame_count * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
    if (memory == MAP_FAILED) die("mmap");
    reference = allocate(frame_count * PAGE);
    base = allocate(frame_count * PAGE);
    while (page_count--) {
        uint8_t *address = (uint8_t *)read_word();
        uint64_t frame = read_word(), protection = read_word();
        void *at = mmap(address, PAGE, protection, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE,
                        file, frame * PAGE);
        if (at != address) die("mmap of a guest page");
        mapped[mapped_count++] = address;
    }
    close(file);
    read_all(base, frame_count * PAGE);
    memcpy(memory, base, frame_count * PAGE);
    memcpy(reference, base, frame_count * PAGE);
}

static size_t padded(uint64_t length) { return (length + 7) & ~7ul; }

// Applies the patches at `at` to memory and reference, or takes them back; returns their end.
static const uint8_t *patch(const uint8_t *at, uint64_t count, int undo) {
    while (count--) {
        uint64_t where, length;
        memcpy(&where, at, 8), memcpy(&length, at + 8, 8);
        if (where + length > frame_count * PAGE) _exit(2);
        memcpy(memory + where, undo ? base + where : at + 16, length);
        memcpy(reference + where, undo ? base + where : at + 16, length);
        at += 16 + padded(length);
    }
    return at;
}

// Writes each changed word to `out` and puts the old one back.
static uint64_t *collect_changes(uint64_t *out) {
    for (uint64_t frame = 0; frame < frame_count; frame++) {
        uint64_t *is = (uint64_t *)(memory + frame * PAGE);
        uint64_t *was = (uint64_t *)(reference + frame * PAGE);
        if (!memcmp(is, was, PAGE)) continue;
        for (uint64_t i = 0; i < PAGE / 8; i++) {
            if (is[i] == was[i]) continue;
            *out++ = frame * PAGE + i * 8;
            *out++ = is[i];
            is[i] = was[i];
        }
    }
    return out;
}

static void run_batch(void) {
    uint64_t count = read_word(), length = read_word();
    size_t room = length + count * sizeof done + (64ul << 20);
    uint8_t *in = allocate(length), *out = allocate(room), *to = out;
    read_all(in, length);
    const uint8_t *at = in;
    while (count--) {
        memcpy(&now, at, sizeof now);
        const uint8_t *patches = at + sizeof now;
        at = patch(patches, now.patch_count, 0);
        memset(&done, 0, sizeof done);
        run_case();
        uint64_t *changes = (uint64_t *)(to + sizeof done);
        uint64_t *end = collect_changes(changes);
        done.change_count = (end - changes) / 2;
        memcpy(to, &done, sizeof done);
        to = (uint8_t *)end;
        patch(patches, now.patch_count, 1);
        if (to > out + room - frame_count * PAGE * 3) die("too many changes in one batch");
    }
    uint64_t written = to - out;
    write_all(&written, 8);
    write_all(out, written);
    munmap(in, length);
    munmap(out, room);
}

static void install_handlers(void) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGVTALRM};
    stack_t stack = {.ss_sp = allocate(1 << 18), .ss_size = 1 << 18};
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART};
    if (sigaltstack(&stack, 0)) die("sigaltstack");
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], &action, 0)) die("sigaction");
}

int main(void) {
    struct itimerval tick = {{0, TICK_MICROSECONDS}, {0, TICK_MICROSECONDS}};
    if (kernel_call(SYS_arch_prctl, ARCH_GET_FS, (long)&host_fs)) die("arch_prctl");
    install_handlers();
    uint64_t text = (uint64_t)__executable_start;
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, text, (uint64_t)etext - text, 0))
        die("syscall user dispatch");
    if (setitimer(ITIMER_VIRTUAL, &tick, 0)) die("setitimer");
    for (;;) {
        switch (read_word()) {
        case LAYOUT: lay_out(); break;
        case BATCH: run_batch(); break;
        default: return 2;
        }
    }
}
