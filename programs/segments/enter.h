/* The way from 64-bit code into a segment, and back from a signal handler. */

/* Places below 4 GiB; behind each is a page that is not mapped. */
#define CODE 0x10000000ul
#define CODE_PAGES 17
#define DATA 0x20000000ul
#define DATA_PAGES 17
#define STACK 0x30000000ul
#define STACK_PAGES 17
/* The last page below 4 GiB; the one behind it is mapped too. */
#define TOP 0xfffff000ul

/* State at the entry; the order is that of the code below. */
struct entry {
	u64 gpr[8];		/*  0: ax cx dx bx sp bp si di */
	u64 selectors[4];	/* 64: ds es fs gs */
	u64 ip, cs, flags, ss;	/* 96 */
	u64 way;		/* 128: 0 iretq, 1 far jump, 2 far return */
};

void enter_code(struct entry *entry);
extern char come_back[];

__asm__(
".data\n"
"kept: .quad 0\n"
"pointer: .long 0\n"
"         .word 0\n"
".text\n"
".globl enter_code, come_back\n"
"enter_code:\n"
"	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
"	mov %rsp, kept(%rip)\n"
"	mov %rdi, %r15\n"
"	mov 64(%r15), %eax\n	mov %eax, %ds\n"
"	mov 72(%r15), %eax\n	mov %eax, %es\n"
"	mov 80(%r15), %eax\n	mov %eax, %fs\n"
"	mov 88(%r15), %eax\n	mov %eax, %gs\n"
"	mov 128(%r15), %eax\n"
"	cmp $1, %eax\n"
"	je 1f\n"
"	ja 2f\n"
"	pushq 120(%r15)\n	pushq 32(%r15)\n	pushq 112(%r15)\n"
"	pushq 104(%r15)\n	pushq 96(%r15)\n"
"	call 9f\n"
"	iretq\n"
"1:	mov 96(%r15), %eax\n	mov %eax, pointer(%rip)\n"
"	mov 104(%r15), %eax\n	mov %ax, pointer+4(%rip)\n"
"	mov 120(%r15), %eax\n	mov %eax, %ss\n"
"	call 9f\n"
"	mov 32(%r15), %rsp\n"
"	ljmp *pointer(%rip)\n"
"2:	mov 120(%r15), %eax\n	mov %eax, %ss\n"
"	pushq 104(%r15)\n	pushq 96(%r15)\n"
"	call 9f\n"
"	lretq\n"
"9:	mov 0(%r15), %rax\n	mov 8(%r15), %rcx\n	mov 16(%r15), %rdx\n"
"	mov 24(%r15), %rbx\n	mov 40(%r15), %rbp\n	mov 48(%r15), %rsi\n"
"	mov 56(%r15), %rdi\n"
"	ret\n"
"come_back:\n"
"	xor %eax, %eax\n"
"	mov %eax, %ds\n	mov %eax, %es\n	mov %eax, %fs\n	mov %eax, %gs\n"
"	mov kept(%rip), %rsp\n"
"	pushq $0x202\n	popfq\n"
"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
"	ret\n");
