/* One tile of registers of a product, for vectors of one width: gemm.h includes it with
 *   tile_body, tile_prefetch   the names of the functions
 *   tile_vec       its vector, a whole one or half of one
 *   TILE_LANES     the entries of that
 *   tile_first, tile_put_first   the first lanes of one, from memory and back
 * and undefines them here.
 */

/* C is at hand when the sum is finished */
NNK_INLINE void tile_prefetch(const int columns, const int vectors, const real *c, ptrdiff_t ldc)
{
#pragma GCC unroll 14
    for (int j = 0; j < columns; j++) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            __builtin_prefetch(c + v * TILE_LANES, 0, 2);
        c += ldc;
        NNK_OPAQUE(c);
    }
}

/* C := alpha L R + beta C for `columns` columns and `vectors` vectors of rows, of which the last has `last` lanes where
 * `partial` (all constants but `last`) */
NNK_INLINE void tile_body(const int columns, const int vectors, const int partial, real *C, ptrdiff_t ldc, real alpha,
                          real beta, const real *L, ptrdiff_t ldl, const real *R, ptrdiff_t r_row, ptrdiff_t r_column,
                          ptrdiff_t depth, ptrdiff_t last)
{
    tile_vec sums[TILE_COLUMNS][TILE_VECTORS];
    /* Three columns of R to a pointer, and one pointer along C: all offsets at once would not fit the registers. Compilers
     * would compute them nevertheless, did they know where the pointers come from. */
    const real *r[(TILE_COLUMNS + 2) / 3];
    real *c = C;
    /* a long L may have to come from a distant cache; a short one is worth no look ahead */
    const ptrdiff_t ahead = depth >= AHEAD_DEPTH ? AHEAD_ROWS * ldl : 0;
#pragma GCC unroll 5
    for (int j = 0; j < columns; j += 3)
        r[j / 3] = R + j * r_column;
#pragma GCC unroll 14
    for (int j = 0; j < columns; j++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sums[j][v] = (tile_vec){0};
    if (depth >= 128 || beta != 0)
        tile_prefetch(columns, vectors, C, ldc);
    for (ptrdiff_t k = 0; k < depth; k++) {
        tile_vec l[TILE_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            if (partial && v == vectors - 1)
                l[v] = tile_first(L + v * TILE_LANES, last);
            else
                memcpy(&l[v], L + v * TILE_LANES, sizeof l[v]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            __builtin_prefetch(L + ahead + v * TILE_LANES, 0, 3);
#pragma GCC unroll 14
        for (int j = 0; j < columns; j++) {
            const real r_j = r[j / 3][j % 3 * r_column];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sums[j][v] += l[v] * r_j;
        }
        L += ldl;
#pragma GCC unroll 5
        for (int j = 0; j < columns; j += 3) {
            r[j / 3] += r_row;
            NNK_OPAQUE(r[j / 3]);
        }
    }
#pragma GCC unroll 14
    for (int j = 0; j < columns; j++) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            tile_vec sum = alpha * sums[j][v], old;
            NNK_ROUNDED(sum);
            if (partial && v == vectors - 1) {
                if (beta != 0)
                    sum += beta * tile_first(c + v * TILE_LANES, last);
                tile_put_first(c + v * TILE_LANES, sum, last);
            }
            else {
                if (beta != 0) {
                    memcpy(&old, c + v * TILE_LANES, sizeof old);
                    sum += beta * old;
                }
                memcpy(c + v * TILE_LANES, &sum, sizeof sum);
            }
        }
        c += ldc;
        NNK_OPAQUE(c);
    }
}

#undef tile_body
#undef tile_prefetch
#undef tile_vec
#undef TILE_LANES
#undef tile_first
#undef tile_put_first
