/*
 * Random descriptors, selectors and a few random instructions on them, one line of results a case:
 *
 *     random SEED FIRST COUNT [show]
 *
 * Each case changes the local descriptor table, loads the segment registers, and enters a short
 * piece of 16-bit or 32-bit code, which ends with an exception: the signal frame is the result.
 * No other system calls than modify_ldt are made in between, and the pieces make none: bytes that
 * would are taken out. Build with -nostdlib -static: fs and gs are not ours.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#include "generate.h"


#define PAGE 4096ul
/* Where no stack pointer gets of which only the low half was loaded. */
#define HANDLER_STACK 0x600000000ul

struct results {
	u64 signal, code, address;
	u64 trap, error, cr2;
	u64 rip, flags, cs, ss;
	u64 gpr[8];
	u16 selectors[4];
};

static struct results results;
static char text[1 << 16];
static u64 length;

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static void flush(void)
{
	u64 done = 0;

	while (done < length) {
		long count = call(1, 1, (long)text + done, length - done, 0, 0, 0);

		if (count <= 0)
			call(231, 3, 0, 0, 0, 0, 0);
		done += count;
	}
	length = 0;
}

static void put(char c)
{
	if (length == sizeof text)
		flush();
	text[length++] = c;
}

static void hex(const char *name, u64 value)
{
	char digits[16];
	int count = 0;

	put(' ');
	while (*name)
		put(*name++);
	do {
		digits[count++] = "0123456789abcdef"[value & 15];
		value >>= 4;
	} while (value);
	while (count)
		put(digits[--count]);
}

/* Words of the ucontext, which starts 5 words before the registers. */
enum { R_RDI = 8, R_RSI, R_RBP, R_RBX, R_RDX, R_RAX, R_RCX, R_RSP, R_RIP, R_FLAGS, R_SEGMENTS,
       R_ERROR, R_TRAP, R_MASK, R_CR2 };

void handler(int signal, u64 *info, u64 *context)
{
	u64 *regs = context + 5;
	u64 *gpr = results.gpr;

	results.signal = signal;
	results.code = (u32)info[1];
	results.address = info[2];
	results.trap = regs[R_TRAP];
	results.error = regs[R_ERROR];
	results.cr2 = regs[R_CR2];
	results.rip = regs[R_RIP];
	results.flags = regs[R_FLAGS];
	results.cs = regs[R_SEGMENTS] & 0xffff;
	results.ss = regs[R_SEGMENTS] >> 48;
	gpr[0] = regs[R_RAX];
	gpr[1] = regs[R_RCX];
	gpr[2] = regs[R_RDX];
	gpr[3] = regs[R_RBX];
	gpr[4] = regs[R_RSP];
	gpr[5] = regs[R_RBP];
	gpr[6] = regs[R_RSI];
	gpr[7] = regs[R_RDI];
	__asm__ volatile("mov %%ds, %0" : "=m"(results.selectors[0]));
	__asm__ volatile("mov %%es, %0" : "=m"(results.selectors[1]));
	__asm__ volatile("mov %%fs, %0" : "=m"(results.selectors[2]));
	__asm__ volatile("mov %%gs, %0" : "=m"(results.selectors[3]));
	regs[R_RIP] = (u64)come_back;
	regs[R_SEGMENTS] = 0x33 | 0x2bul << 48;
	regs[R_FLAGS] = 0x202;
}

/* The handler is entered with the flag for alignment checks, if a piece has set it. */
__asm__(".globl restore, handle\n"
	"restore: mov $15, %eax\nsyscall\n"
	"handle: pushq $0x202\npopfq\njmp handler\n");
extern char restore[], handle[];

static void *map(u64 at, u64 pages, int rights)
{
	/* Private, anonymous, at this address. */
	long result = call(9, at, pages * PAGE, rights, 0x32, -1, 0);

	if (result != (long)at)
		call(231, 2, 0, 0, 0, 0, 0);
	return (void *)result;
}

static void prepare(void)
{
	struct {
		void *base;
		u64 flags, bytes;
	} alternate = { (void *)HANDLER_STACK, 0, 16 * PAGE };
	struct {
		void *handler;
		u64 flags;
		void *restorer;
		u64 mask;
	} action = { handle, 0x0c000004, restore, 0 };
	static const u8 signals[] = { 4, 5, 7, 8, 11 };

	map(HANDLER_STACK, 16, 3);
	call(131, (long)&alternate, 0, 0, 0, 0, 0);
	for (u64 i = 0; i < sizeof signals; i++)
		call(13, signals[i], (long)&action, 0, 8, 0, 0);
	map(CODE, CODE_PAGES, 7);
	map(DATA, DATA_PAGES, 3);
	map(STACK, STACK_PAGES, 3);
	map(TOP, 1, 3);
	map(TOP + PAGE, 1, 3);
}

/* Text of the memory that a case may have changed, as one number. */
static u64 sum(u64 at, u64 bytes)
{
	u64 hash = 0xcbf29ce484222325;

	for (u64 i = 0; i < bytes; i += 8)
		hash = (hash ^ *(u64 *)(at + i)) * 0x100000001b3;
	return hash;
}

static void fill(u64 at, u64 bytes)
{
	for (u64 i = 0; i < bytes; i += 8)
		*(u64 *)(at + i) = random64();
}

/* What lar, lsl, verr and verw say of a selector in 64-bit code. */
static void look(u32 selector)
{
	u64 rights = 0x1111, limit = 0x2222;
	u8 found[4];

	__asm__ volatile("lar %k2, %k0; setz %1" : "+r"(rights), "=q"(found[0]) : "r"(selector));
	__asm__ volatile("lsl %k2, %k0; setz %1" : "+r"(limit), "=q"(found[1]) : "r"(selector));
	__asm__ volatile("verr %w1; setz %0" : "=q"(found[2]) : "r"(selector));
	__asm__ volatile("verw %w1; setz %0" : "=q"(found[3]) : "r"(selector));
	hex("look ", selector);
	hex("lar ", rights);
	hex("lsl ", limit);
	hex("is ", found[0] | found[1] << 1 | found[2] << 2 | found[3] << 3);
}

static void report(void)
{
	static const char *names[8] = { "ax ", "cx ", "dx ", "bx ", "sp ", "bp ", "si ", "di " };

	hex("signal ", results.signal);
	hex("code ", results.code);
	hex("trap ", results.trap);
	hex("error ", results.error);
	if (results.trap == 14)
		hex("cr2 ", results.cr2);
	if (results.signal != 5 && results.trap != 14)
		hex("at ", results.address);
	hex("cs ", results.cs);
	hex("ip ", results.rip);
	hex("ss ", results.ss);
	/* An instruction that faults may find flags gone that it would have written. */
	hex("flags ", results.flags & (results.trap == 3 ? 0x4ed5 : 0x4400));
	for (int i = 0; i < 8; i++)
		hex(names[i], (u32)results.gpr[i]);
	hex("ds ", results.selectors[0]);
	hex("es ", results.selectors[1]);
	hex("fs ", results.selectors[2]);
	hex("gs ", results.selectors[3]);
	hex("data ", sum(DATA, 4096));
	hex("stack ", sum(STACK + (STACK_PAGES - 1) * PAGE, 4096));
	hex("top ", sum(TOP + 4000, 192));
}

/* Empties an entry. */
static void clear(struct user_descriptor *one)
{
	one->base = one->limit = 0;
	one->flags = 0x28;
	call(154, 0x11, (long)one, 16, 0, 0, 0);
}

static int is_shown;

/* What a case is about to do. */
static void show(struct entry *entry)
{
	static const char *names[17] = { "[ax ", "cx ", "dx ", "bx ", "sp ", "bp ", "si ", "di ", "ds ",
					 "es ", "fs ", "gs ", "ip ", "cs ", "flags ", "ss ", "way " };

	for (int i = 0; i < 17; i++)
		hex(names[i], ((u64 *)entry)[i]);
	for (int i = 0; i < ENTRIES; i++) {
		hex("base ", descriptors[i].base);
		hex("limit ", descriptors[i].limit);
		hex("flags ", descriptors[i].flags);
	}
	for (u8 *at = start; at < code; at++)
		hex("", *at);
	put(']');
}

static void one(u64 seed, u64 number)
{
	struct entry entry;

	state = (seed + 1) * 0x9e3779b97f4a7c15 ^ (number + 1) * 0xd1342543de82ef95;
	for (int i = 0; i < 4; i++)
		random64();
	hex("case ", number);
	if (number % 64 == 0)
		for (int i = 0; i < ENTRIES; i++) {
			struct user_descriptor *one = &descriptors[i];

			random_descriptor(one, i);
			hex("made ", call(154, 0x11, (long)one, 16, 0, 0, 0));
			/* What is refused leaves the entry of the cases before. */
			if (text[length - 1] != '0')
				clear(one);
		}
	for (u32 count = below(3); count; count--) {
		u32 at = below(ENTRIES);
		u32 form = chance(8) ? 1 : 0x11;
		struct user_descriptor one;

		random_descriptor(&one, at);
		if (chance(20))
			one.entry = chance(2) ? 8191 : ENTRIES + (random64() >> 32 >> below(30));
		hex("set ", one.entry);
		long result = call(154, form, (long)&one, 16, 0, 0, 0);

		hex("made ", result);
		if (result == 0 && one.entry == at)
			descriptors[at] = one;
		else if (result == 0)
			clear(&one);
	}
	if (chance(4))
		look(random_selector());
	fill(DATA, 4096);
	fill(STACK + (STACK_PAGES - 1) * PAGE, 4096);
	fill(TOP + 4000, 192);
	generate(&entry);
	if (is_shown)
		show(&entry);
	enter_code(&entry);
	report();
	put('\n');
}

static u64 number_of(const char *text)
{
	u64 value = 0;

	while (*text >= '0' && *text <= '9')
		value = value * 10 + (*text++ - '0');
	return value;
}

void run(u64 *stack)
{
	char **arguments = (char **)(stack + 1);

	if (stack[0] < 4)
		call(231, 1, 0, 0, 0, 0, 0);
	u64 seed = number_of(arguments[1]);
	u64 first = number_of(arguments[2]), count = number_of(arguments[3]);

	is_shown = stack[0] > 4;
	prepare();
	/* The table of a case depends on all since the last that made it anew. */
	for (u64 i = first & ~63ul; i < first + count; i++)
		one(seed, i);
	flush();
	call(231, 0, 0, 0, 0, 0, 0);
}

/* A stack of our own: its address shows in registers. */
u8 own_stack[1 << 16] __attribute__((aligned(16)));
__asm__(".globl _start\n_start: mov %rsp, %rdi\nlea own_stack+65536(%rip), %rsp\ncall run\nhlt\n");
