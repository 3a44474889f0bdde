// Prints the pages of its own image that are copies of its own (no longer the file's) when main()
// starts: what start-up wrote to. No page is touched here that start-up did not touch.
#define _GNU_SOURCE
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <unistd.h>

// Something to relocate: in .data.rel.ro, in .data, and far enough apart to be on several pages.
extern char **environ;
static const char *const names[600] = { "a", "b", [599] = "c" };
const char *writable[700] = { "d", [350] = "e", [699] = "f" };
static int numbers[3000] = { 1 };

static void put(uint64_t value)
{
	char text[17];
	int digits = 0;

	for (int shift = 60; shift >= 0; shift -= 4)
		if (value >> shift || digits || !shift)
			text[digits++] = "0123456789abcdef"[value >> shift & 15];
	text[digits++] = '\n';
	write(1, text, digits);
}

static int image(struct dl_phdr_info *info, size_t size, void *data)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];
		uint64_t page = (info->dlpi_addr + part->p_vaddr) & ~4095ull;
		uint64_t end = info->dlpi_addr + part->p_vaddr + part->p_memsz;

		if (part->p_type != PT_LOAD || !(part->p_flags & PF_W))
			continue;
		for (; page < end; page += 4096) {
			uint64_t word = 0;

			pread(pagemap, &word, 8, page / 4096 * 8);
			if (word >> 63 && !(word >> 61 & 1))
				put(page);
		}
	}
	return 1; // the first one is the program
}

int main(int argc, char **argv)
{
	dl_iterate_phdr(image, 0);
	return names[argc] == writable[argc] || numbers[argc + 7];
}
