/* Random descriptors, selectors and pieces of code. */
#include "enter.h"

#define ENTRIES 10

struct user_descriptor {
	u32 entry, base, limit, flags;
};

static struct user_descriptor descriptors[ENTRIES];
static u64 state;

static u64 random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1d;
}

static u32 below(u32 bound)
{
	return (random64() >> 32) % bound;
}

static int chance(u32 one_in)
{
	return below(one_in) == 0;
}

/* seg_32bit, contents (2 bits), read_exec_only, limit_in_pages, not present, useable, lm */
static void random_descriptor(struct user_descriptor *one, u32 entry)
{
	static const u32 bases[] = { 0, 0, 0, CODE, DATA, STACK, DATA + 0x800, CODE + 3, TOP,
				     TOP + 0xf00, DATA - 0x100 };
	static const u32 limits[] = { 0, 1, 7, 0xff, 0x7ff, 0xfff, 0x1000, 0xffff, 0x10fff, 0xfffff,
				      0xfffff, 0xfffff, 0x10, 0x2ffff };
	int is_code = entry < 4;

	one->entry = entry;
	one->base = chance(30) ? random64() : bases[below(sizeof bases / 4)];
	one->limit = chance(20) ? random64() : limits[below(sizeof limits / 4)];
	one->flags = random64() & 0x51;
	/* The first four are mostly code at its place. */
	if (is_code && !chance(10)) {
		one->flags |= 2 << 1;
		if (!chance(6))
			one->base = chance(3) ? 0 : CODE;
		if (one->base == 0 && !chance(10)) {
			one->limit = 0xfffff;
			one->flags |= 0x10;
		}
	} else {
		one->flags |= (chance(8) ? below(4) : below(2)) << 1;
	}
	one->flags |= chance(5) << 3 | chance(12) << 5;
	if (chance(30))
		one->flags = random64();
	if (chance(40)) {
		one->base = one->limit = 0;
		one->flags = 0x28;
	}
}

static u32 local(u32 entry)
{
	return entry << 3 | 7;
}

static u32 random_selector(void)
{
	static const u16 global[] = { 0x23, 0x2b, 0x33, 0x2b, 0x23, 0x28, 0x43, 0x53, 0x10, 0x18,
				      0x63, 0x2a, 0x21 };
	u32 kind = below(20), selector;

	if (kind < 12)
		return local(below(ENTRIES));
	if (kind < 14)
		return local(below(ENTRIES)) - below(4);
	if (kind < 17)
		return global[below(sizeof global / 2)];
	if (kind < 18)
		return below(4);
	selector = random64() & 0xffff;
	/* The number of the CPU is nobody's affair. */
	return (selector & 0xfffc) == 0x78 ? 0x83 : selector;
}

enum use { FOR_CODE, FOR_STACK, FOR_DATA };

/* Whether an entry is of a segment for this use. */
static int is_good(u32 entry, enum use use)
{
	u32 flags = descriptors[entry].flags, contents = flags >> 1 & 3;

	if (flags & 0x20)
		return 0;
	if (use == FOR_CODE)
		return contents == 2;
	if (contents < 2)
		return use == FOR_DATA || !(flags & 8);
	return use == FOR_DATA && contents == 2 && !(flags & 8);
}

/* A selector that is likely good. */
static u32 selector_for(enum use use)
{
	if (chance(16))
		return random_selector();
	if (chance(4))
		return use == FOR_CODE ? 0x23 : 0x2b;
	for (int i = 0; i < 16; i++) {
		u32 entry = below(ENTRIES);

		if (is_good(entry, use))
			return local(entry);
	}
	return use == FOR_CODE ? 0x23 : 0x2b;
}

/* The piece: its first byte, and where it goes on. */
static u8 *start, *code;
/* Bits of addresses and operands of the piece. */
static u32 bits;
/* Whether it is entered as 64-bit code. */
static int is_long;

static void byte(u32 value)
{
	*code++ = value;
}

static void word(u32 value, u32 bytes)
{
	while (bytes--) {
		byte(value & 0xff);
		value >>= 8;
	}
}

/* An offset near what segments hold. */
static u32 offset(void)
{
	static const u32 near[] = { 0, 0xff, 0x7fe, 0xfff, 0x1000, 0xffff, 0x10, 0x100, 0xffe, 0xfffd,
				    0x1000, 0xfffffffc, 0xffffffff };

	switch (below(6)) {
	case 0:
		return DATA + below(0x1000);
	case 1:
		return near[below(sizeof near / 4)] + below(4) - 2;
	case 2:
		return chance(4) ? random64() : below(0x11000);
	case 3:
		return TOP + 0xff0 + below(32);
	default:
		return below(0x1000);
	}
}

/* Opcode prefixes: another segment, other sizes. */
static void prefixes(void)
{
	static const u8 segments[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };

	if (chance(2))
		byte(segments[below(6)]);
	if (chance(4))
		byte(0x66);
}

/* The bytes behind an opcode that name a memory operand. */
static void operand(u32 field)
{
	if (chance(2)) {
		/* A plain offset. */
		byte(field << 3 | (bits == 16 ? 6 : 5));
		word(offset(), bits / 8);
		return;
	}
	/* A register, perhaps with a displacement. */
	u32 mode = below(3), base = below(8);

	if (mode == 0 && base == (bits == 16 ? 6 : 5))
		base = 7;
	byte(mode << 6 | field << 3 | base);
	if (bits == 32 && base == 4)
		byte(below(4) << 6 | below(8) << 3 | (mode == 0 ? 3 : below(8)));
	if (mode == 1)
		byte(random64());
	if (mode == 2)
		word(offset(), bits / 8);
}

/* Something that reads or writes memory. */
static void access(void)
{
	static const u8 plain[] = { 0x8a, 0x8b, 0x88, 0x89, 0x00, 0x01, 0x02, 0x03, 0x31, 0x39, 0x3b,
				    0x86, 0x87, 0x8d, 0x85, 0x20, 0x2b, 0x63 };
	static const u8 escaped[] = { 0xb6, 0xb7, 0xbe, 0xbf, 0xa3, 0xab, 0xb3, 0xbb, 0xb0, 0xb1, 0xc1,
				      0x10, 0x11, 0x6f, 0x7f, 0x44, 0x02, 0x03 };

	prefixes();
	switch (below(8)) {
	case 0:
		byte(0x0f);
		byte(escaped[below(sizeof escaped)]);
		operand(below(8));
		break;
	case 1:
		/* inc, dec, push, near call and jump through memory are below */
		byte(0xfe);
		operand(below(2));
		break;
	case 2:
		byte(0xc6);
		operand(0);
		byte(0x5a);
		break;
	case 3:
		byte(0xa0 + below(4));
		word(offset(), bits / 8);
		break;
	case 4:
		byte(0xd7);
		break;
	case 5:
		byte(0xd9 + 2 * below(3));
		operand(chance(2) ? 0 : 3);
		break;
	default:
		byte(plain[below(sizeof plain)]);
		operand(below(8));
	}
}

/* Something on the stack. */
static void stack(void)
{
	static const u8 plain[] = { 0x06, 0x0e, 0x16, 0x1e, 0x07, 0x17, 0x1f, 0x60, 0x61, 0x9c, 0x9d,
				    0x50, 0x51, 0x53, 0x54, 0x58, 0x5b, 0x5d, 0xc9, 0xc3 };

	if (chance(4))
		byte(0x66);
	switch (below(10)) {
	case 0:
		byte(0x68);
		word(random_selector(), bits / 8);
		break;
	case 1:
		byte(0x0f);
		byte(0xa0 + below(2) + 8 * below(2));
		break;
	case 2:
		byte(0xff);
		operand(6);
		break;
	case 3:
		byte(0x8f);
		operand(0);
		break;
	case 4:
		byte(0xc8);
		word(below(64), 2);
		byte(below(4));
		break;
	case 5:
		byte(0x6a);
		byte(random64());
		break;
	default:
		byte(plain[below(sizeof plain)]);
	}
}

/* Something that loads, stores or looks at a selector. */
static void selector(void)
{
	static const u8 pointers[] = { 0xc4, 0xc5 };
	static const u8 escaped[] = { 0xb2, 0xb4, 0xb5, 0x02, 0x03 };

	switch (below(8)) {
	case 0:
	case 1:
	case 2:
		/* mov ax, selector; mov sreg, ax */
		byte(0xb8);
		word(chance(3) ? random_selector() : selector_for(chance(3) ? FOR_STACK : FOR_DATA), bits / 8);
		byte(0x8e);
		byte(0xc0 | below(6) << 3);
		break;
	case 3:
		prefixes();
		byte(pointers[below(2)]);
		operand(below(8));
		break;
	case 4:
		prefixes();
		byte(0x0f);
		byte(escaped[below(5)]);
		operand(below(8));
		break;
	case 5:
		prefixes();
		byte(0x0f);
		byte(0x00);
		operand(4 + below(2));
		break;
	case 6:
		prefixes();
		byte(0x8c);
		operand(below(6));
		break;
	default:
		/* lar, lsl of a register */
		byte(0xb8);
		word(random_selector(), bits / 8);
		byte(0x0f);
		byte(2 + below(2));
		byte(0xc0 | below(8) << 3);
	}
}

/* Where a far transfer might go: to the int3 behind the piece, mostly. */
static u32 target(u32 selector)
{
	u32 entry = selector >> 3, base = 0;

	if (selector & 4 && entry < ENTRIES)
		base = descriptors[entry].base;
	if (chance(6))
		return offset();
	return (u32)CODE + 0x800 + below(16) - base;
}

/* Something that goes elsewhere; it ends the piece. */
static void transfer(void)
{
	u32 to = chance(4) ? random_selector() : chance(6) ? 0x33 : selector_for(FOR_CODE);
	u32 bytes = bits / 8;

	/* The makers of CPUs disagree on near branches with this prefix in 64-bit code. */
	if (chance(3) && !is_long) {
		byte(0x66);
		bytes ^= 6;
	}
	switch (below(8)) {
	case 0:
	case 1:
		/*
		 * A call of 64-bit code pushes on what the upper half of the stack pointer has: not
		 * ours to know after a 16-bit stack.
		 */
		byte(chance(2) || (to & ~3) == 0x30 ? 0xea : 0x9a);
		word(target(to), bytes);
		word(to, 2);
		break;
	case 2:
		/* Selector, offset; far return or iret. */
		code -= bytes != bits / 8;
		byte(0x68);
		if (chance(2)) {
			word(0x202, bits / 8);
			byte(0x68);
			word(to, bits / 8);
			byte(0x68);
			word(target(to), bits / 8);
			byte(0xcf);
		} else {
			word(to, bits / 8);
			byte(0x68);
			word(target(to), bits / 8);
			byte(chance(2) ? 0xcb : 0xca);
			word(below(3) * 4, 2);
		}
		break;
	case 3:
		byte(0xff);
		operand(3 + 2 * below(2));
		break;
	case 4:
		/* Near, forward. */
		byte(chance(2) ? 0xe8 : 0xe9);
		word(below(8), bytes);
		break;
	case 5:
		byte(0xff);
		operand(2 + 2 * below(2));
		break;
	case 6:
		byte(0xe0 + below(4));
		byte(below(8));
		break;
	default:
		byte(0x70 + below(16));
		byte(below(8));
	}
}

static void strings(void)
{
	static const u8 plain[] = { 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf };

	if (chance(4))
		byte(0xfd);
	/* mov cx, count */
	byte(0xb9);
	word(below(40), bits / 8);
	if (chance(4))
		byte(0x67);
	prefixes();
	if (chance(2))
		byte(0xf2 + below(2));
	byte(plain[below(sizeof plain)]);
	byte(0xfc);
}

static void instruction(void)
{
	switch (below(10)) {
	case 0:
	case 1:
	case 2:
		return access();
	case 3:
	case 4:
		return stack();
	case 5:
	case 6:
	case 7:
		return selector();
	case 8:
		return strings();
	default:
		return transfer();
	}
}

/*
 * Whether there is anything in the bytes that could become a system call, or one of the
 * instructions that the kernel does in place of the CPU.
 */
static int is_call(const u8 *from, const u8 *end)
{
	for (; from < end; from++) {
		/* On some hosts int1 is not quite what it is on the CPU. */
		if (*from == 0xcd || *from == 0xf1)
			return 1;
		if (*from == 0x0f && (from[1] == 0x05 || from[1] == 0x34 || from[1] == 0x01))
			return 1;
		if (*from == 0x0f && from[1] == 0x00 && (from[2] >> 3 & 7) < 2)
			return 1;
	}
	return 0;
}

static u64 value(void)
{
	switch (below(4)) {
	case 0:
		return below(0x10000);
	case 1:
		return below(16);
	default:
		return offset();
	}
}

/* A state to enter with, and the code that is there. */
static void generate(struct entry *entry)
{
	u32 at = 0x100 + below(0x10), base = 0, to = selector_for(FOR_CODE);

	bits = 32;
	is_long = (to & ~3) == 0x30;
	if (to & 4 && to >> 3 < ENTRIES) {
		bits = descriptors[to >> 3].flags & 1 ? 32 : 16;
		base = descriptors[to >> 3].base;
	}
	if (chance(16) && to & 4 && to >> 3 < ENTRIES) {
		/* Near the limit. */
		u32 limit = descriptors[to >> 3].limit & 0xfffff;

		at = base + limit - CODE - below(24);
		if (at > 0xff00)
			at = 0x180;
	}
	for (u64 i = 0; i < CODE_PAGES * 4096; i += 8)
		*(u64 *)(CODE + i) = 0xcccccccccccccccc;
	do {
		start = code = (u8 *)CODE + at;
		for (u32 count = 1 + below(5); count; count--)
			instruction();
		for (u32 i = 0; i < 8; i++)
			start[code - start + i] = 0xcc;
	} while (is_call(start, code));
	for (int i = 0; i < 8; i++)
		entry->gpr[i] = value();
	entry->gpr[4] = chance(3) ? STACK + 0x10000 + below(0x1000) : below(0x1000);
	if (chance(8))
		entry->gpr[4] = value();
	for (int i = 0; i < 4; i++)
		entry->selectors[i] = chance(5) ? below(4) : selector_for(FOR_DATA);
	entry->ip = (u32)(CODE + at - base);
	if (chance(40))
		entry->ip = random64() >> below(40);
	entry->cs = to;
	entry->ss = chance(3) ? 0x2b : selector_for(FOR_STACK);
	entry->flags = 0x202 | random64() & 0xcd5;
	entry->way = below(3);
}
