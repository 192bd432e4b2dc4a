/* Matrix times vector, which is bound by bringing the matrix to the first-level cache: one example through a layer, or one
 * unit over many examples. A strip of several vectors is read from one column before the next column, since columns a
 * power of two apart would evict each other from the cache if they were read line by line; what all columns need stays in
 * registers meanwhile.
 */
#define STRIP 8   /* vectors of a strip of y in add_columns */
#define COLUMNS 16 /* columns that add to a strip before it is stored */

/* Entries before the first whole vector of A's columns that is within one cache line, where that is the same for all
 * columns: a vector across two lines costs two accesses, and users' arrays are aligned to 16 bytes only. */
NNK_INLINE ptrdiff_t NAME(unaligned_head)(const real *A, ptrdiff_t lda, ptrdiff_t rows)
{
    const size_t past = (size_t)A % NNK_VECTOR_BYTES;
    if (past == 0 || past % sizeof(real) || (size_t)lda * sizeof(real) % NNK_VECTOR_BYTES || rows < 8 * LANES)
        return 0;
    return (ptrdiff_t)((NNK_VECTOR_BYTES - past) / sizeof(real));
}

#define dots_of_group NAME(dots_of_group)
#define add_to_strip NAME(add_to_strip)

/* lane i of the result is lane i + distance of a, counted round */
NNK_INLINE vec NAME(rotated)(vec a, ptrdiff_t distance)
{
    ivec from;
    for (int lane = 0; lane < LANES; lane++)
        from[lane] = lane;
    return v_shuffle(a, (from + (integer)distance) & (LANES - 1));
}

typedef struct {
    real *y;
    const real *A, *x;
    ptrdiff_t inc_y, lda, head, rows;
    real alpha;
} NAME(dots_operands);
#define dots_operands NAME(dots_operands)

/* y_c += alpha A_c·x for `columns` (a constant) columns c from `first` on. The terms i, i + LANES, i + 2 LANES, … are added up in one
 * lane, in this order, wherever the columns begin: a head rotates the lanes, which are rotated back at the end. So the
 * result doesn't depend on where in memory a user's array happens to be. */
NNK_INLINE void dots_of_group(const int columns, const dots_operands *o, ptrdiff_t first)
{
    const real *A = o->A + first * o->lda, *x = o->x;
    real *y = o->y + first * o->inc_y;
    const ptrdiff_t lda = o->lda, head = o->head, rows = o->rows;
    enum { strip = 4 };
    vec sums[8];
    ptrdiff_t i = head;
    const vec x_head = head ? v_load_first(x, head, 0) : v_all(0);
#pragma GCC unroll 8
    for (int c = 0; c < columns; c++)
        sums[c] = head ? NAME(rotated)(v_load_first(A + c * lda, head, 0) * x_head, head) : v_all(0);
    for (; i + strip * LANES <= rows; i += strip * LANES)
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++)
#pragma GCC unroll 4
            for (int k = 0; k < strip; k++)
                sums[c] += v_load(A + c * lda + i + k * LANES) * v_load(x + i + k * LANES);
    for (; i + LANES <= rows; i += LANES)
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++)
            sums[c] += v_load(A + c * lda + i) * v_load(x + i);
    if (i < rows) {
        const vec x_i = v_load_first(x + i, rows - i, 0);
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++)
            sums[c] += v_load_first(A + c * lda + i, rows - i, 0) * x_i;
    }
#pragma GCC unroll 8
    for (int c = 0; c < columns; c++)
        y[c * o->inc_y] += o->alpha * v_sum(head ? NAME(rotated)(sums[c], -head) : sums[c]);
}

/* y (columns) += alpha Aᵀ x, x contiguous */
static void NAME(dots)(void *y, ptrdiff_t inc_y, const void *A, ptrdiff_t lda, const void *x, double alpha,
                       ptrdiff_t rows, ptrdiff_t columns)
{
    assert(NNK_IS_MATRIX(A, lda, rows, columns) && inc_y > 0 && y != x && y != A);
    const dots_operands o = {y, A, x, inc_y, lda, NAME(unaligned_head)(A, lda, rows), rows, R(alpha)};
    ptrdiff_t j = 0;
    for (; j + 8 <= columns; j += 8)
        dots_of_group(8, &o, j);
    for (; j + 4 <= columns; j += 4)
        dots_of_group(4, &o, j);
    for (; j < columns; j++)
        dots_of_group(1, &o, j);
}

/* The first k < LANES entries of y += Σ_c weights_c A_c */
NNK_INLINE void NAME(add_to_part)(real *y, const real *A, ptrdiff_t lda, const real *weights, int columns, ptrdiff_t k)
{
    vec sum = v_load_first(y, k, 0);
    for (int c = 0; c < columns; c++)
        sum += weights[c] * v_load_first(A + c * lda, k, 0);
    v_store_first(y, sum, k);
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
    assert(NNK_IS_MATRIX(A_, lda, rows, columns) && inc_x >= 0 && y != x && y_ != A_);
    const ptrdiff_t head = NAME(unaligned_head)(A_, lda, rows);
    for (ptrdiff_t j = 0; j < columns; j += COLUMNS) {
        const int c = (int)(columns - j < COLUMNS ? columns - j : COLUMNS);
        const real *A = (const real *)A_ + j * lda;
        real weights[COLUMNS];
        for (int k = 0; k < c; k++)
            weights[k] = R(alpha) * x[(j + k) * inc_x];
        ptrdiff_t i = head;
        if (head)
            NAME(add_to_part)(y, A, lda, weights, c, head);
        for (; i + STRIP * LANES <= rows; i += STRIP * LANES)
            add_to_strip(STRIP, y + i, A + i, lda, weights, c);
        for (; i + LANES <= rows; i += LANES)
            add_to_strip(1, y + i, A + i, lda, weights, c);
        if (i < rows)
            NAME(add_to_part)(y + i, A + i, lda, weights, c, rows - i);
    }
}
