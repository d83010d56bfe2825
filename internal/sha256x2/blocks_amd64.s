#include "textflag.h"

// Two independent SHA-256 streams, block by block, with the SHA extensions.
// SHA256RNDS2 depends on its own last result and takes four cycles; a second
// stream fills the cycles in which the first one waits. Each stream is the
// sequence of Intel's "SHA Extensions" paper (July 2013), figure 4.
//
// States lie in memory as F E B A H G D C, which is the order that the
// instruction wants them in (ABEF and CDGH, from the highest word).

#define A0 X1 // stream a: state ABEF
#define A1 X2 // stream a: state CDGH
#define B0 X7
#define B1 X8
#define TMP X13
#define SWAP X15 // the shuffle that turns big-endian words round

// LOAD reads 16 bytes of the message.
#define LOAD(at, p, m) \
	MOVOU  at(p), m \
	PSHUFB SWAP, m

// ROUNDS is four rounds with m; m1 and m3 are the words after and before it.
// The first four groups have their words from the message, without SCHEDULE.
#define ROUNDS(k, m, s0, s1) \
	MOVOU       k(AX), X0    \
	PADDL       m, X0        \
	SHA256RNDS2 X0, s0, s1   \
	PSHUFD      $0x0e, X0, X0 \
	SHA256RNDS2 X0, s1, s0

// NEXT finishes the next four words of the schedule: m1, from m and m3.
#define NEXT(m, m1, m3) \
	MOVO       m, TMP     \
	PALIGNR    $4, m3, TMP \
	PADDL      TMP, m1    \
	SHA256MSG2 m, m1

#define BOTH(k, a, b) \
	ROUNDS(k, a, A0, A1) \
	ROUNDS(k, b, B0, B1)

// GROUP is rounds with a and b, and the schedule for the ones to come.
#define GROUP(k, a, a1, a3, b, b1, b3) \
	BOTH(k, a, b)     \
	NEXT(a, a1, a3)   \
	NEXT(b, b1, b3)   \
	SHA256MSG1 a, a3  \
	SHA256MSG1 b, b3

DATA swap<>+0(SB)/8, $0x0405060700010203
DATA swap<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL swap<>(SB), RODATA|NOPTR, $16

// func blocks(a, b *[8]uint32, k *[64]uint32, p, q *byte, n int)
TEXT ·blocks(SB), NOSPLIT, $64-48
	MOVQ a+0(FP), R8
	MOVQ b+8(FP), R9
	MOVQ k+16(FP), AX
	MOVQ p+24(FP), SI
	MOVQ q+32(FP), DI
	MOVQ n+40(FP), CX

	MOVOU 0(R8), A0
	MOVOU 16(R8), A1
	MOVOU 0(R9), B0
	MOVOU 16(R9), B1
	MOVOU swap<>(SB), SWAP
	TESTQ CX, CX
	JZ    done

loop:
	MOVOU A0, s-64(SP)
	MOVOU A1, s-48(SP)
	MOVOU B0, s-32(SP)
	MOVOU B1, s-16(SP)

	LOAD(0, SI, X3)
	LOAD(0, DI, X9)
	BOTH(0, X3, X9)
	LOAD(16, SI, X4)
	LOAD(16, DI, X10)
	BOTH(16, X4, X10)
	SHA256MSG1 X4, X3
	SHA256MSG1 X10, X9
	LOAD(32, SI, X5)
	LOAD(32, DI, X11)
	BOTH(32, X5, X11)
	SHA256MSG1 X5, X4
	SHA256MSG1 X11, X10
	LOAD(48, SI, X6)
	LOAD(48, DI, X12)
	GROUP(48, X6, X3, X5, X12, X9, X11)
	GROUP(64, X3, X4, X6, X9, X10, X12)
	GROUP(80, X4, X5, X3, X10, X11, X9)
	GROUP(96, X5, X6, X4, X11, X12, X10)
	GROUP(112, X6, X3, X5, X12, X9, X11)
	GROUP(128, X3, X4, X6, X9, X10, X12)
	GROUP(144, X4, X5, X3, X10, X11, X9)
	GROUP(160, X5, X6, X4, X11, X12, X10)
	GROUP(176, X6, X3, X5, X12, X9, X11)
	GROUP(192, X3, X4, X6, X9, X10, X12)
	BOTH(208, X4, X10)
	NEXT(X4, X5, X3)
	NEXT(X10, X11, X9)
	BOTH(224, X5, X11)
	NEXT(X5, X6, X4)
	NEXT(X11, X12, X10)
	BOTH(240, X6, X12)

	MOVOU s-64(SP), X3
	MOVOU s-48(SP), X4
	MOVOU s-32(SP), X5
	MOVOU s-16(SP), X6
	PADDL X3, A0
	PADDL X4, A1
	PADDL X5, B0
	PADDL X6, B1

	ADDQ $64, SI
	ADDQ $64, DI
	DECQ CX
	JNZ  loop

done:
	MOVOU A0, 0(R8)
	MOVOU A1, 16(R8)
	MOVOU B0, 0(R9)
	MOVOU B1, 16(R9)
	RET

// func cpuid(leaf, sub uint32) (ax, bx, cx, dx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL AX, ax+8(FP)
	MOVL BX, bx+12(FP)
	MOVL CX, cx+16(FP)
	MOVL DX, dx+20(FP)
	RET
