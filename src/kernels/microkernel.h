/* The micro-kernel of the product, for vectors of one width: one micro-tile of C in registers. It alone knows the machine's
 * registers. gemm_microkernels.h includes it with
 *   micro_kernel, micro_prefetch, micro_store   the names of the functions
 *   micro_vec                                   its vector, a whole one or half of one
 *   MICRO_LANES                                 the entries of that
 *   micro_load_first, micro_store_first         the first lanes of one, from memory and back
 *   MICRO_MULTIPLY_ADD(sum, a, b)               adds the products of the entries of the vector a and the entry b
 *   MICRO_SCALED(alpha, sum)                    a sum as it is stored
 * and undefines all but the last two here.
 */

/* C is at hand when the sum is finished. */
NNK_INLINE void micro_prefetch(const int columns, const int vectors, const real *c, ptrdiff_t ldc)
{
#pragma GCC unroll 14
    for (int j = 0; j < columns; j++) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            __builtin_prefetch(c + v * MICRO_LANES, 0, 2);
        c += ldc;
        NNK_OPAQUE(c);
    }
}

/* One vector of C := alpha sum + beta C, or its first `last` lanes where `partial` (a constant) */
NNK_INLINE void micro_store(const int partial, real *c, micro_vec sum, real alpha, real beta, ptrdiff_t last)
{
    micro_vec old;
    sum = MICRO_SCALED(alpha, sum);
    NNK_ROUNDED(sum);
    if (partial) {
        if (beta != 0)
            sum += beta * micro_load_first(c, last);
        micro_store_first(c, sum, last);
    }
    else {
        if (beta != 0) {
            memcpy(&old, c, sizeof old);
            sum += beta * old;
        }
        memcpy(c, &sum, sizeof sum);
    }
}

/* C := alpha A B + beta C for `columns` columns and `vectors` vectors of rows, of which the last has `last` lanes where
 * `partial` (all constants but `last`) */
NNK_INLINE void micro_kernel(const int columns, const int vectors, const int partial, const micro_operands *p,
                             ptrdiff_t last)
{
    micro_vec sums[NR][MR_VECTORS];
    const real *A = p->A;
    /* Three columns of B to a pointer, and one pointer along C: all offsets at once would not fit the registers. Compilers
     * would compute them nevertheless, did they know where the pointers come from. */
    const real *b[(NR + 2) / 3];
    real *c = p->C;
    /* a long A may have to come from a distant cache; a short one is worth no look ahead */
    const ptrdiff_t ahead = p->k >= PREFETCH_MIN_K ? PREFETCH_COLUMNS * p->lda : 0;
#pragma GCC unroll 5
    for (int j = 0; j < columns; j += 3)
        b[j / 3] = p->B + j * p->cs_b;
#pragma GCC unroll 14
    for (int j = 0; j < columns; j++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sums[j][v] = (micro_vec){0};
    if (p->k >= 128 || p->beta != 0)
        micro_prefetch(columns, vectors, p->C, p->ldc);
    for (ptrdiff_t k = 0; k < p->k; k++) {
        micro_vec a[MR_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            if (partial && v == vectors - 1)
                a[v] = micro_load_first(A + v * MICRO_LANES, last);
            else
                memcpy(&a[v], A + v * MICRO_LANES, sizeof a[v]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            __builtin_prefetch(A + ahead + v * MICRO_LANES, 0, 3);
#pragma GCC unroll 14
        for (int j = 0; j < columns; j++) {
            const real b_j = b[j / 3][j % 3 * p->cs_b];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                MICRO_MULTIPLY_ADD(sums[j][v], a[v], b_j);
        }
        A += p->lda;
#pragma GCC unroll 5
        for (int j = 0; j < columns; j += 3) {
            b[j / 3] += p->rs_b;
            NNK_OPAQUE(b[j / 3]);
        }
    }
#pragma GCC unroll 14
    for (int j = 0; j < columns; j++) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            micro_store(partial && v == vectors - 1, c + v * MICRO_LANES, sums[j][v], p->alpha, p->beta, last);
        c += p->ldc;
        NNK_OPAQUE(c);
    }
}

#undef micro_kernel
#undef micro_prefetch
#undef micro_store
#undef micro_vec
#undef MICRO_LANES
#undef micro_load_first
#undef micro_store_first
