/* Matrix times vector, which is bound by bringing the matrix to the first-level cache: one example through a layer, or one
 * unit over many examples. A strip of several vectors is read from one column before the next column's turn comes, since
 * columns a power of two apart would drive each other out of the cache if they took turns line by line; what all columns
 * meet stays in registers meanwhile.
 */
#define STRIP 8   /* vectors of a strip of y in add_columns */
#define COLUMNS 16 /* columns that add to a strip before it is stored */

#define dots_of_group NAME(dots_of_group)
#define add_to_strip NAME(add_to_strip)

/* y_c += alpha A_c·x for `columns` columns c, in strips of `strip` vectors and `chains` independent sums a column (all
 * three constants) */
NNK_INLINE void dots_of_group(const int columns, const int strip, const int chains, real *y, ptrdiff_t inc_y,
                              const real *A, ptrdiff_t lda, const real *x, real alpha, ptrdiff_t rows)
{
    vec sums[8];
    ptrdiff_t i = 0;
#pragma GCC unroll 8
    for (int s = 0; s < columns * chains; s++)
        sums[s] = v_all(0);
    for (; i + strip * LANES <= rows; i += strip * LANES)
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++)
#pragma GCC unroll 8
            for (int k = 0; k < strip; k++)
                sums[c * chains + k % chains] += v_load(A + c * lda + i + k * LANES) * v_load(x + i + k * LANES);
    for (; i + LANES <= rows; i += LANES)
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++)
            sums[c * chains] += v_load(A + c * lda + i) * v_load(x + i);
    if (i < rows) {
        const vec x_i = v_load_first(x + i, rows - i, 0);
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++)
            sums[c * chains] += v_load_first(A + c * lda + i, rows - i, 0) * x_i;
    }
#pragma GCC unroll 8
    for (int c = 0; c < columns; c++) {
        vec sum = sums[c * chains];
#pragma GCC unroll 8
        for (int chain = 1; chain < chains; chain++)
            sum += sums[c * chains + chain];
        y[c * inc_y] += alpha * v_sum(sum);
    }
}

/* y (columns) += alpha Aᵀ x, x contiguous */
static void NAME(dots)(void *y_, ptrdiff_t inc_y, const void *A_, ptrdiff_t lda, const void *x, double alpha,
                       ptrdiff_t rows, ptrdiff_t columns)
{
    real *y = y_;
    const real *A = A_;
    ptrdiff_t j = 0;
    for (; j + 4 <= columns; j += 4)
        dots_of_group(4, 4, 2, y + j * inc_y, inc_y, A + j * lda, lda, x, R(alpha), rows);
    for (; j < columns; j++)
        dots_of_group(1, 8, 8, y + j * inc_y, inc_y, A + j * lda, lda, x, R(alpha), rows);
}

/* `vectors` (a constant) vectors of y += Σ_c weights_c A_c */
NNK_INLINE void add_to_strip(const int vectors, real *y, const real *A, ptrdiff_t lda, const real *weights, int columns)
{
    vec sums[STRIP];
#pragma GCC unroll 8
    for (int k = 0; k < vectors; k++)
        sums[k] = v_load(y + k * LANES);
    for (int c = 0; c < columns; c++)
#pragma GCC unroll 8
        for (int k = 0; k < vectors; k++)
            sums[k] += weights[c] * v_load(A + c * lda + k * LANES);
#pragma GCC unroll 8
    for (int k = 0; k < vectors; k++)
        v_store(y + k * LANES, sums[k]);
}

/* y (rows), contiguous, += alpha A x */
static void NAME(add_columns)(void *y_, const void *A_, ptrdiff_t lda, const void *x_, ptrdiff_t inc_x, double alpha,
                              ptrdiff_t rows, ptrdiff_t columns)
{
    real *y = y_;
    const real *x = x_;
    for (ptrdiff_t j = 0; j < columns; j += COLUMNS) {
        const int c = (int)(columns - j < COLUMNS ? columns - j : COLUMNS);
        const real *A = (const real *)A_ + j * lda;
        real weights[COLUMNS];
        for (int k = 0; k < c; k++)
            weights[k] = R(alpha) * x[(j + k) * inc_x];
        ptrdiff_t i = 0;
        for (; i + STRIP * LANES <= rows; i += STRIP * LANES)
            add_to_strip(STRIP, y + i, A + i, lda, weights, c);
        for (; i + LANES <= rows; i += LANES)
            add_to_strip(1, y + i, A + i, lda, weights, c);
        if (i < rows) {
            vec sum = v_load_first(y + i, rows - i, 0);
            for (int k = 0; k < c; k++)
                sum += weights[k] * v_load_first(A + k * lda + i, rows - i, 0);
            v_store_first(y + i, sum, rows - i);
        }
    }
}
