// Finds a page of its own in the kernel's memory by /proc/kcore: its bytes by their logical
// address, and its struct page in vmemmap, which must say what /proc/kpagecount says.
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int core;
static Elf64_Phdr segments[16];
static int segment_count;

static int read_at(uint64_t addr, void *bytes, size_t count) {
    for (int i = 0; i < segment_count; i++) {
        Elf64_Phdr *s = &segments[i];
        if (s->p_type == PT_LOAD && addr >= s->p_vaddr && addr - s->p_vaddr < s->p_memsz)
            return pread(core, bytes, count, s->p_offset + (addr - s->p_vaddr)) == (ssize_t)count;
    }
    return 0;
}

static uint64_t word_of(const char *path, uint64_t index) {
    uint64_t word = 0;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || pread(fd, &word, 8, index * 8) != 8)
        perror(path);
    close(fd);
    return word;
}

static void show(const char *when, uint64_t vmemmap, uint64_t frame) {
    unsigned char page[64];
    if (!read_at(vmemmap + frame * 64, page, sizeof page)) {
        printf("%s: no struct page\n", when);
        return;
    }
    uint64_t flags;
    int32_t map_count, reference_count;
    memcpy(&flags, page, 8);
    memcpy(&map_count, page + 48, 4);
    memcpy(&reference_count, page + 52, 4);
    printf("%s: uptodate %d lru %d swapbacked %d mapped %d (proc says %d) references %d\n", when,
           (int)(flags >> 3 & 1), (int)(flags >> 5 & 1), (int)(flags >> 17 & 1), map_count + 1,
           (int)word_of("/proc/kpagecount", frame), reference_count);
}

int main(int argc, char **argv) {
    uint64_t direct_map = 0xffff888000000000, vmemmap = 0xffffea0000000000;
    if (argc > 1) {
        direct_map = 0xff11000000000000;
        vmemmap = 0xffd4000000000000;
    }
    core = open("/proc/kcore", O_RDONLY);
    Elf64_Ehdr header;
    if (core < 0 || pread(core, &header, sizeof header, 0) != sizeof header) {
        perror("/proc/kcore");
        return 1;
    }
    segment_count = header.e_phnum < 16 ? header.e_phnum : 16;
    pread(core, segments, segment_count * sizeof segments[0], header.e_phoff);
    printf("%.3s type %d machine %d segments %d\n", header.e_ident + 1, header.e_type,
           header.e_machine, segment_count);
    for (int i = 0; i < segment_count; i++)
        printf("%#lx + %#lx physical %#lx\n", (long)segments[i].p_vaddr,
               (long)segments[i].p_memsz, (long)segments[i].p_paddr);

    char *mine = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(mine + 100, "seen from the other side");
    uint64_t frame = word_of("/proc/self/pagemap", (uintptr_t)mine / 4096) & ((1ul << 55) - 1);
    char seen[32] = "";
    read_at(direct_map + frame * 4096 + 100, seen, 25);
    printf("direct map: %s\n", seen);
    show("alone", vmemmap, frame);
    int go[2];
    pipe(go);
    pid_t child = fork();
    if (child == 0) {
        close(go[1]);
        read(go[0], seen, 1);
        _exit(0);
    }
    show("shared", vmemmap, frame);
    close(go[1]);
    waitpid(child, 0, 0);
    munmap(mine, 4096);
    show("free", vmemmap, frame);
    uint64_t nothing = 1;
    printf("beyond the array: %d\n", read_at(vmemmap + (1ul << 38), &nothing, 8));
    ssize_t count = pread(core, &nothing, 8, 1ul << 46);
    printf("a hole: %zd bytes of %d\n", count, (int)nothing);
    printf("the end: %zd\n", pread(core, &nothing, 8, 1ul << 60));
    return 0;
}
