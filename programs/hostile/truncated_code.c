/* Code that runs off the end of its page into nothing. */
#include "hostile.h"

static void end_with(const char *name, const void *bytes, size_t count)
{
	char *page = lone_page(PROT_READ | PROT_WRITE | PROT_EXEC);

	memset(page, 0x90, PAGE);
	memcpy(page + PAGE - count, bytes, count);
	try_base = (uintptr_t)page;
	TRY(name, ((void (*)(void))page)());
}

int main(void)
{
	catch_signals();
	end_with("nop", "\x90", 1);
	end_with("half a mov", "\xb8\x01\x02", 3);
	end_with("prefix only", "\x66", 1);
	end_with("opcode map only", "\x0f", 1);
	end_with("vex only", "\xc5\xf8", 2);
	end_with("syscall", "\xb8\x27\x00\x00\x00\x0f\x05", 7);
	/* One more, and some CPUs call it too long before they miss its next byte. */
	end_with("14 prefixes", "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66", 14);
	end_with("jump off", "\xeb\x00", 2);
	end_with("conditional off", "\x74\x7f", 2);
	end_with("ret", "\xc3", 1);
	return 0;
}
