/* Transposes squares of LANES by LANES entries in registers, and sums the lanes of LANES vectors at once.
 *
 * In steps that the processor has a single instruction for: first squares of QUARTER by QUARTER entries within the
 * quarters of 128 bits, then the quarters themselves.
 */
#define QUARTER ((int)(16 / sizeof(real)))
#define QUARTERS (LANES / QUARTER)

#define transpose_square NAME(transpose_square)
#define v_sums NAME(v_sums)
#define load_transposed NAME(load_transposed)
#define store_transposed NAME(store_transposed)

/* (a, b) in every quarter: units of `width` entries of its lower (or upper) half, alternately from a and from b */
NNK_INLINE vec NAME(interleave)(vec a, vec b, int width, int upper)
{
    ivec from;
    for (int lane = 0; lane < LANES; lane++) {
        const int base = lane / QUARTER * QUARTER, unit = lane % QUARTER / width;
        from[lane] = unit % 2 * LANES + base + unit / 2 * width + lane % width + upper * QUARTER / 2;
    }
    return v_shuffle_two(a, b, from);
}

/* Quarters `first`, first + step, … of a, and then of b */
NNK_INLINE vec NAME(quarters)(vec a, vec b, int first, int step)
{
    ivec from;
    for (int lane = 0; lane < LANES; lane++) {
        const int quarter = lane / QUARTER, half = QUARTERS > 1 ? QUARTERS / 2 : 1;
        from[lane] = quarter / half * LANES + (first + quarter % half * step) * QUARTER + lane % QUARTER;
    }
    return v_shuffle_two(a, b, from);
}

NNK_INLINE void transpose_square(vec rows[LANES])
{
#pragma GCC unroll 2
    for (int width = 1; width < QUARTER; width *= 2)
#pragma GCC unroll 8
        for (int i = 0; i < LANES; i += QUARTER)
#pragma GCC unroll 2
            for (int pair = 0; pair < QUARTER / 2; pair++) {
                /* rows 0, 1 and 2, 3; then, of what these gave, 0, 2 and 1, 3 */
                const int x = i + (width == 1 ? 2 * pair : pair), y = x + width;
                const vec a = rows[x], b = rows[y];
                rows[x] = NAME(interleave)(a, b, width, 0);
                rows[y] = NAME(interleave)(a, b, width, 1);
            }
#if REAL_BITS == 32
    /* the second step left row 1 of each four where 2 belongs */
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i += 4) {
        const vec a = rows[i + 1];
        rows[i + 1] = rows[i + 2];
        rows[i + 2] = a;
    }
#endif
#if NNK_VECTOR_BYTES == 32
#pragma GCC unroll 4
    for (int i = 0; i < QUARTER; i++) {
        const vec a = rows[i], b = rows[i + QUARTER];
        rows[i] = NAME(quarters)(a, b, 0, 1);
        rows[i + QUARTER] = NAME(quarters)(a, b, 1, 1);
    }
#elif NNK_VECTOR_BYTES == 64
#pragma GCC unroll 4
    for (int i = 0; i < QUARTER; i++) {
        const vec a = rows[i], b = rows[i + QUARTER], c = rows[i + 2 * QUARTER], d = rows[i + 3 * QUARTER];
        const vec ab_low = NAME(quarters)(a, b, 0, 1), ab_high = NAME(quarters)(a, b, 2, 1);
        const vec cd_low = NAME(quarters)(c, d, 0, 1), cd_high = NAME(quarters)(c, d, 2, 1);
        rows[i] = NAME(quarters)(ab_low, cd_low, 0, 2);
        rows[i + QUARTER] = NAME(quarters)(ab_low, cd_low, 1, 2);
        rows[i + 2 * QUARTER] = NAME(quarters)(ab_high, cd_high, 0, 2);
        rows[i + 3 * QUARTER] = NAME(quarters)(ab_high, cd_high, 1, 2);
    }
#elif NNK_VECTOR_BYTES != 16
#error "transpose_square has no steps for the quarters of such vectors"
#endif
}

/* Lane i is the sum of rows[i]: the rows are added up while they are transposed. */
NNK_INLINE vec v_sums(vec rows[LANES])
{
    int count = LANES;
#pragma GCC unroll 2
    for (int width = 1; width < QUARTER; width *= 2, count /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < count / 2; i++)
            rows[i] = NAME(interleave)(rows[2 * i], rows[2 * i + 1], width, 0) +
                      NAME(interleave)(rows[2 * i], rows[2 * i + 1], width, 1);
#if NNK_VECTOR_BYTES == 32
    return NAME(quarters)(rows[0], rows[1], 0, 1) + NAME(quarters)(rows[0], rows[1], 1, 1);
#elif NNK_VECTOR_BYTES == 64
    const vec ab = NAME(quarters)(rows[0], rows[1], 0, 1) + NAME(quarters)(rows[0], rows[1], 2, 1);
    const vec cd = NAME(quarters)(rows[2], rows[3], 0, 1) + NAME(quarters)(rows[2], rows[3], 2, 1);
    return NAME(quarters)(ab, cd, 0, 2) + NAME(quarters)(ab, cd, 1, 2);
#elif NNK_VECTOR_BYTES == 16
    return rows[0];
#else
#error "v_sums has no steps for the quarters of such vectors"
#endif
}

/* rows (n) := the rows of the first n entries of `columns` <= LANES columns of Z; lanes beyond these are 0 */
NNK_INLINE void load_transposed(vec *rows, const real *Z, ptrdiff_t ldz, ptrdiff_t n, ptrdiff_t columns)
{
    assert(NNK_IS_INPUT(Z, n, columns) && columns <= LANES);
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vec square[LANES];
        for (int c = 0; c < LANES; c++)
            square[c] = c < columns ? v_first(Z + c * ldz + i, n - i) : v_all(0);
        transpose_square(square);
        for (int k = 0; k < LANES; k++)
            rows[i + k] = square[k];
    }
}

/* and back; `rows` has room for whole squares */
NNK_INLINE void store_transposed(real *A, ptrdiff_t lda, const vec *rows, ptrdiff_t n, ptrdiff_t columns)
{
    assert(NNK_IS_MATRIX(A, lda, n, columns) && columns <= LANES);
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vec square[LANES];
        for (int k = 0; k < LANES; k++)
            square[k] = rows[i + k];
        transpose_square(square);
        for (int c = 0; c < columns; c++)
            v_put(A + c * lda + i, square[c], n - i);
    }
}
