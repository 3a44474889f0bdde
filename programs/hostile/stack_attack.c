/* The stack: endless recursion, jumps over the guard gap, a mapping in its way. */
#include "hostile.h"
#include <sys/resource.h>

__attribute__((noinline)) static long recurse(long depth)
{
	volatile char frame[1000];

	frame[0] = depth;
	return depth < 0 ? 0 : recurse(depth + 1) + frame[0];
}

static uintptr_t stack_pointer(void)
{
	uintptr_t value;
	__asm__ volatile("mov %%rsp, %0" : "=r"(value));
	return value;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	uintptr_t rsp = stack_pointer() & ~(PAGE - 1);

	catch_signals();
	if (!strcmp(how, "recurse"))
		TRY("recurse", recurse(0));
	else if (!strcmp(how, "die")) {
		signal(SIGSEGV, SIG_DFL);
		recurse(0);
	} else if (!strcmp(how, "jump")) {
		TRY("1 MB down", *(volatile char *)(rsp - (1 << 20)) = 1);
		TRY("7 MB down", *(volatile char *)(rsp - (7 << 20)) = 1);
		TRY("9 MB down", *(volatile char *)(rsp - (9 << 20)) = 1);
		TRY("1 GB down", *(volatile char *)(rsp - (1 << 30)) = 1);
	} else if (!strcmp(how, "gap")) {
		char *volatile wall =
			mmap((char *)rsp - (2 << 20), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		printf("wall %s\n", wall == MAP_FAILED ? "refused" : "built");
		TRY("far above the wall", *(volatile char *)(wall + 300 * PAGE) = 1);
		TRY("just outside the gap", *(volatile char *)(wall + 257 * PAGE) = 1);
		TRY("inside the gap", *(volatile char *)(wall + 100 * PAGE) = 1);
		TRY("touching the wall", *(volatile char *)(wall + PAGE) = 1);
		TRY("the wall", *(volatile char *)wall = 1);
	} else if (!strcmp(how, "limit")) {
		struct rlimit limit = { 1 << 20, 1 << 20 };
		setrlimit(RLIMIT_STACK, &limit);
		TRY("512 KB down", *(volatile char *)(rsp - (512 << 10)) = 1);
		TRY("2 MB down", *(volatile char *)(rsp - (2 << 20)) = 1);
		TRY("recurse", recurse(0));
	}
	return 0;
}
