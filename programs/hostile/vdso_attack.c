/* The vDSO and the pages around the stack: written to, protected, unmapped. Layout differs: not compared. */
#include "hostile.h"
#include <sys/auxv.h>

int main(void)
{
	char *vdso = (char *)getauxval(AT_SYSINFO_EHDR);

	catch_signals();
	printf("vdso %s\n", vdso ? "there" : "absent");
	if (!vdso)
		return 0;
	TRY("read", (void)*(volatile char *)vdso);
	TRY("write", *vdso = 0);
	TRY("below", (void)*(volatile char *)(vdso - PAGE));
	CALL("writable", mprotect(vdso, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	TRY("write again", *vdso = 0x7f);
	CALL("move", mremap(vdso, PAGE, PAGE, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0);
	CALL("discard", madvise(vdso, PAGE, MADV_DONTNEED));
	CALL("unmap", munmap(vdso - 16 * PAGE, 32 * PAGE));
	TRY("call", (void)*(volatile char *)vdso);
	return 0;
}
