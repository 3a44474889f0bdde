/* Restartable sequences, robust lists and the clear-tid address with wild pointers. */
#include "hostile.h"

static char area[64] __attribute__((aligned(32)));

int main(void)
{
	/* 334 rseq, 273 set_robust_list, 218 set_tid_address */
	CALL("rseq length", syscall(334, area, 8, 0, 0x53053053));
	CALL("rseq misaligned", syscall(334, area + 1, 32, 0, 0x53053053));
	CALL("rseq kernel", syscall(334, 0xffffffff81000000, 32, 0, 0x53053053));
	CALL("rseq flags", syscall(334, area, 32, 0x80, 0x53053053));
	CALL("robust list size", syscall(273, area, 7));
	CALL("robust list wild", syscall(273, 0x123456789abcdef0, 24));
	CALL("tid address wild", syscall(218, 0x123456789abcdef0) < 0 ? -1 : 0);
	return 0;
}
