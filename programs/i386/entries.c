/* Descriptors of threads, and the ways into the kernel. */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void area(const char *what, struct user_desc *entry)
{
	int result = syscall(SYS_set_thread_area, entry);

	printf("%s: %d entry %d\n", what, result, entry->entry_number);
}

int main(void)
{
	static int data[2] = { 77, 78 };
	struct user_desc entry = { .entry_number = -1, .base_addr = (unsigned)data, .limit = 7,
				   .seg_32bit = 1, .useable = 1 }, seen = { .entry_number = 0 };
	int value = 0, gs;

	area("a new entry", &entry);
	asm volatile("mov %%gs, %1; mov %2, %%fs; movl %%fs:4, %0" : "=r"(value), "=r"(gs)
		     : "r"(entry.entry_number * 8 + 3));
	printf("through fs: %d\n", value);
	seen.entry_number = entry.entry_number;
	printf("get %ld\n", syscall(SYS_get_thread_area, &seen));
	printf("base %d limit %x flags %d%d%d%d%d%d\n", seen.base_addr == (unsigned)data, seen.limit, seen.seg_32bit, seen.contents,
	       seen.read_exec_only, seen.limit_in_pages, seen.seg_not_present, seen.useable);
	entry.base_addr = (unsigned)(data + 1);
	area("changed while loaded", &entry);
	asm volatile("movl %%fs:0, %0" : "=r"(value));
	printf("through fs: %d\n", value);
	struct user_desc code = entry;
	code.contents = MODIFY_LDT_CONTENTS_CODE;
	area("a code segment", &code);
	code = entry;
	code.entry_number = 5;
	area("an entry of the kernel", &code);
	code = entry;
	code.entry_number = -1;
	area("the third", &code);
	code.entry_number = -1;
	area("the fourth", &code);
	memset(&code, 0, sizeof code);
	code.entry_number = entry.entry_number;
	area("taken away", &code);
	unsigned short fs;
	asm volatile("mov %%fs, %0" : "=r"(fs));
	printf("fs is null: %d\n", fs < 4);
	int result;
	asm volatile("mov $20, %%eax; call *%%gs:0x10" : "=a"(result) : : "memory");
	printf("vsyscall %d\n", result == getpid());
	return 0;
}
