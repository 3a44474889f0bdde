/* A million instructions, each executed once: what a run costs is what translating them costs.
 * With an argument: none of them. Blocks are five instructions long, as in compiled programs. */
int main(int argc, char **argv)
{
	long words[4] = { argc, 2, 3, 4 };

	(void)argv;
	if (argc > 1)
		return 0;
	__asm__ volatile(
		".rept 100000\n"
		"	mov (%0), %%rax\n"
		"	add %%rax, %%rbx\n"
		"	lea 8(%%rbx,%%rax), %%rcx\n"
		"	test %%rcx, %%rcx\n"
		"	jz 1f\n"
		"1:	mov %%rcx, 16(%0)\n"
		"	imul $3, %%rbx, %%rbx\n"
		"	xor %%rbx, %%rax\n"
		"	cmp %%rax, %%rbx\n"
		"	jb 2f\n"
		"2:\n"
		".endr\n"
		:
		: "r"(words)
		: "rax", "rbx", "rcx", "memory", "cc");
	return 0;
}
