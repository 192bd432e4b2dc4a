/* All micro-kernels of the product, by the size of their micro-tile, which of them are for how many rows, and the micro-tiles
 * of one panel. Knows nothing of how a product is cut into panels.
 */
#ifndef MICRO_MULTIPLY_ADD
#define MICRO_MULTIPLY_ADD(sum, a, b) ((sum) += (a) * (b))
#define MICRO_SCALED(alpha, sum) ((alpha) * (sum))
#endif

/* `count` micro-tiles side by side; the last vector of rows has `last` lanes */
typedef void (*NAME(microkernel))(const micro_operands *p, ptrdiff_t last, ptrdiff_t count);
#define microkernel NAME(microkernel)

#define MICROKERNEL(columns, width, vectors, partial)                                                                  \
    static void NAME(width##_##columns##_##vectors##_##partial)(const micro_operands *first, ptrdiff_t last,           \
                                                                ptrdiff_t count)                                       \
    {                                                                                                                  \
        micro_operands p = *first;                                                                                     \
        for (; count > 0; count--, p.C += columns * p.ldc, p.B += columns * p.cs_b)                                    \
            NAME(width##_body)(columns, vectors, partial, &p, last);                                                   \
    }
#define MICROKERNEL_NAME(columns, width, vectors, partial) NAME(width##_##columns##_##vectors##_##partial),
#if NR == 14
#define FOR_COLUMNS(what, ...)                                                                                         \
    what(1, __VA_ARGS__) what(2, __VA_ARGS__) what(3, __VA_ARGS__) what(4, __VA_ARGS__) what(5, __VA_ARGS__)           \
        what(6, __VA_ARGS__) what(7, __VA_ARGS__) what(8, __VA_ARGS__) what(9, __VA_ARGS__) what(10, __VA_ARGS__)      \
            what(11, __VA_ARGS__) what(12, __VA_ARGS__) what(13, __VA_ARGS__) what(14, __VA_ARGS__)
#else
#define FOR_COLUMNS(what, ...)                                                                                         \
    what(1, __VA_ARGS__) what(2, __VA_ARGS__) what(3, __VA_ARGS__) what(4, __VA_ARGS__) what(5, __VA_ARGS__)           \
        what(6, __VA_ARGS__)
#endif

#define micro_kernel NAME(micro_body)
#define micro_prefetch NAME(micro_prefetch)
#define micro_store NAME(micro_store)
#define micro_vec vec
#define MICRO_LANES LANES
#define micro_load_first(from, k) v_load_first(from, k, 0)
#define micro_store_first(to, v, k) v_store_first(to, v, k)
#include "kernels/microkernel.h"
FOR_COLUMNS(MICROKERNEL, micro, 1, 0)
FOR_COLUMNS(MICROKERNEL, micro, 1, 1)
FOR_COLUMNS(MICROKERNEL, micro, 2, 0)
FOR_COLUMNS(MICROKERNEL, micro, 2, 1)

/* by vectors - 1, partial, columns - 1 */
static const microkernel NAME(microkernels)[MR_VECTORS][2][NR] = {
    {{FOR_COLUMNS(MICROKERNEL_NAME, micro, 1, 0)}, {FOR_COLUMNS(MICROKERNEL_NAME, micro, 1, 1)}},
    {{FOR_COLUMNS(MICROKERNEL_NAME, micro, 2, 0)}, {FOR_COLUMNS(MICROKERNEL_NAME, micro, 2, 1)}},
};

/* Processors that take 64 bytes in two halves need half the time for half a vector; on others it does no harm. */
#if NNK_VECTOR_BYTES == 64
#define HALF_LANES (LANES / 2)
typedef real NAME(half) __attribute__((vector_size(NNK_VECTOR_BYTES / 2)));
NNK_INLINE NAME(half) NAME(half_load_first)(const real *p, ptrdiff_t k)
{
#if REAL_BITS == 32
    return (NAME(half))_mm256_maskz_loadu_ps((__mmask8)((1u << k) - 1), p);
#else
    return (NAME(half))_mm256_maskz_loadu_pd((__mmask8)((1u << k) - 1), p);
#endif
}
NNK_INLINE void NAME(half_store_first)(real *p, NAME(half) v, ptrdiff_t k)
{
#if REAL_BITS == 32
    _mm256_mask_storeu_ps(p, (__mmask8)((1u << k) - 1), (__m256)v);
#else
    _mm256_mask_storeu_pd(p, (__mmask8)((1u << k) - 1), (__m256d)v);
#endif
}
#define micro_kernel NAME(half_body)
#define micro_prefetch NAME(half_prefetch)
#define micro_store NAME(half_store)
#define micro_vec NAME(half)
#define MICRO_LANES HALF_LANES
#define micro_load_first NAME(half_load_first)
#define micro_store_first NAME(half_store_first)
#include "kernels/microkernel.h"
FOR_COLUMNS(MICROKERNEL, half, 1, 1)
static const microkernel NAME(half_microkernels)[NR] = {FOR_COLUMNS(MICROKERNEL_NAME, half, 1, 1)};
#define NARROWEST HALF_LANES
#else
#define HALF_LANES 0
#define NARROWEST LANES
#endif
#undef MICROKERNEL
#undef MICROKERNEL_NAME
#undef FOR_COLUMNS

/* How many of the rows that are left the next micro-tile has: half a vector goes by itself */
NNK_INLINE ptrdiff_t NAME(micro_rows)(ptrdiff_t left)
{
    if (left > LANES && left <= LANES + HALF_LANES)
        return LANES;
    return left < MR ? left : MR;
}

/* The micro-kernels for so many rows, by columns - 1, and how many lanes of their last vector are used */
NNK_INLINE const microkernel *NAME(microkernels_of)(ptrdiff_t rows, ptrdiff_t *last)
{
    const int vectors = rows > LANES ? 2 : 1;
    *last = rows - (vectors - 1) * LANES;
#if HALF_LANES
    if (rows <= HALF_LANES)
        return NAME(half_microkernels);
#endif
    return NAME(microkernels)[vectors - 1][*last < LANES];
}

/* Rows of one panel of A and all nc columns of a block of B: micro-tiles whose columns are dealt out evenly, some of one
 * column more than the others */
NNK_INLINE void NAME(macro_kernel)(const micro_operands *block, ptrdiff_t rows, ptrdiff_t nc)
{
    const ptrdiff_t tiles = (nc + NR - 1) / NR, fewest = nc / tiles, over = nc - fewest * tiles;
    micro_operands o = *block;
    ptrdiff_t last;
    const microkernel *of_columns = NAME(microkernels_of)(rows, &last);
    for (ptrdiff_t columns = fewest + 1, count = over; columns >= fewest; columns--) {
        if (count)
            of_columns[columns - 1](&o, last, count);
        o.C += count * columns * o.ldc;
        o.B += count * columns * o.cs_b;
        count = tiles - over;
    }
}
