/* Where things are in an i386 program on a 64-bit kernel, and what its segment registers hold. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void show_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], path[256];
	unsigned long start, end, offset;
	char rights[8];

	while (fgets(line, sizeof line, maps)) {
		path[0] = 0;
		sscanf(line, "%lx-%lx %7s %lx %*s %*s %255s", &start, &end, rights, &offset, path);
		char *name = strrchr(path, '/');
		printf("%08lx-%08lx %s %lx %s\n", start, end, rights, offset, name ? name : path);
	}
	fclose(maps);
}

int main(int argc, char **argv, char **env)
{
	unsigned cs, ds, es, ss, fs, gs;

	show_maps();
	while (*env++)
		;
	for (Elf32_auxv_t *entry = (void *)env; entry->a_type; entry++) {
		unsigned value = entry->a_un.a_val;
		switch (entry->a_type) {
		case AT_SYSINFO:
		case AT_MINSIGSTKSZ:
		case AT_HWCAP:
		case AT_HWCAP2:
			value = 0;
			break;
		case AT_PLATFORM:
			printf("platform %s\n", (char *)value);
		}
		printf("%u %x\n", entry->a_type, value);
	}
	asm("mov %%cs,%0; mov %%ds,%1; mov %%es,%2; mov %%ss,%3" : "=r"(cs), "=r"(ds), "=r"(es), "=r"(ss));
	asm("mov %%fs,%0; mov %%gs,%1" : "=r"(fs), "=r"(gs));
	printf("cs %x ds %x es %x ss %x fs %x gs %x\n", cs & 0xffff, ds & 0xffff, es & 0xffff,
	       ss & 0xffff, fs & 0xffff, gs & 0xffff);
	printf("argv %p sbrk %p\n", (void *)argv, sbrk(0));
	return 0;
}
