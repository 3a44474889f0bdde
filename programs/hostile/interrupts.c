/* Software interrupts other than the system call of i386. */
#include "hostile.h"

int main(void)
{
	catch_signals();
	TRY_ASM("int3");
	TRY_ASM(".byte 0xcd, 0x03");
	TRY_ASM("int1");
	TRY_ASM(".byte 0xcd, 0x04");
	TRY_ASM("int $0x81");
	TRY_ASM("int $0");
	TRY_ASM("int $2");
	TRY_ASM("int $8");
	TRY_ASM("int $13");
	TRY_ASM("int $14");
	TRY_ASM("int $0x20");
	TRY_ASM("int $0xff");
	return 0;
}
