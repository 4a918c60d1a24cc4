/*
 * vector.h
 *	  Loops that are worth wide registers.
 *
 * FA_PREDICT_WIDE before a function: the compiler makes one more of it for
 * processors with AVX2, and the linker picks.  Both give the same bits: no sum
 * is reordered, no product fused with a sum.  What it calls in its loops is
 * FA_PREDICT_INLINE.  Makefiles compile this room with -O3.
 */
#ifndef FA_PREDICT_VECTOR_H
#define FA_PREDICT_VECTOR_H

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && \
	!defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define FA_PREDICT_WIDE \
	__attribute__((target_clones("avx2", "default")))
#define FA_PREDICT_INLINE inline __attribute__((always_inline))
#else
#define FA_PREDICT_WIDE
#define FA_PREDICT_INLINE inline
#endif

#endif							/* FA_PREDICT_VECTOR_H */
