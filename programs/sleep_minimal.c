/* Sleeps for a second and ends: the smallest program whose memory can be looked at from outside.
   Build with -nostdlib -static. */
static long call(long number, long a, long b)
{
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b) : "rcx", "r11", "memory");
	return result;
}

void _start(void)
{
	static const long second[2] = { 1, 0 };

	call(35, (long)second, 0);
	call(231, 0, 0);
	__builtin_unreachable();
}
