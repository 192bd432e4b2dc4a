/* The epilogue of a product: bias and g on the way forward, g' and the sums db on the way back, and the same for softmax,
 * which works on whole columns. Knows nothing of products.
 *
 * A column of n units seldom fills whole vectors. Where the matrix is contiguous and n is small, the few columns that do so
 * together are taken as one, with as many copies of b (or of the sums db). What is left is walked column by column, each of
 * which ends in a partial vector.
 */
#define LONGEST 2048 /* entries of such a column */

#define g_of NAME(g_of)
#define dg_of NAME(dg_of)
#define forward_body NAME(forward_body)
#define backward_body NAME(backward_body)

/* the fewest columns of n units whose entries fill vectors (any number is right) */
NNK_INLINE ptrdiff_t NAME(columns_in_vectors)(ptrdiff_t n)
{
    return n % LANES ? LANES / (n & -n) : 1; /* by the highest power of two that divides n */
}

NNK_INLINE vec g_of(int activation, vec z, vec slope)
{
    (void)slope;
    switch (activation) {
#define ELEMENTWISE(name, reads, init, g, dg)                                                                          \
    case NNK_##name:                                                                                                   \
        return g;
#define COLUMNWISE(name, reads, init)
#include "kernels/activations.def"
#undef ELEMENTWISE
#undef COLUMNWISE
    }
    return z;
}

/* The columns of a matrix that is written, and of one that is read: ld apart */
typedef struct {
    real *x;
    ptrdiff_t ld;
} NAME(written);
typedef struct {
    const real *x;
    ptrdiff_t ld;
} NAME(read);

/* A (n, m) := g(Z + b), each column by itself. The vectors that end a column come last of all: a load of the next column's
 * first would wait for a store of fewer lanes just before it. */
NNK_INLINE void NAME(forward_columns)(int activation, NAME(written) A, NAME(read) Z, const real *b, vec slope, ptrdiff_t n,
                                      ptrdiff_t m)
{
    const ptrdiff_t whole = n / LANES * LANES, k = n - whole;
    for (ptrdiff_t j = 0; whole && j < m; j++) {
        real *a = A.x + j * A.ld;
        const real *z = Z.x + j * Z.ld;
        if (b)
            for (ptrdiff_t i = 0; i < whole; i += LANES)
                v_store(a + i, g_of(activation, v_load(z + i) + v_load(b + i), slope));
        else
            for (ptrdiff_t i = 0; i < whole; i += LANES)
                v_store(a + i, g_of(activation, v_load(z + i), slope));
    }
    if (k) {
        const vec b_end = b ? v_load_first(b + whole, k, 0) : v_all(0);
        for (ptrdiff_t j = 0; j < m; j++) {
            const vec z = v_load_first(Z.x + j * Z.ld + whole, k, 0);
            v_store_first(A.x + j * A.ld + whole, g_of(activation, b ? z + b_end : z, slope), k);
        }
    }
}

NNK_INLINE void forward_body(int activation, NAME(written) A, NAME(read) Z, const real *b, real slope, ptrdiff_t n,
                             ptrdiff_t m)
{
    const ptrdiff_t copies = NAME(columns_in_vectors)(n);
    const int contiguous = A.ld == n && Z.ld == n;
    if (contiguous && !b && activation == NNK_linear)
        memmove(A.x, Z.x, (size_t)(n * m) * sizeof(real));
    else if (contiguous && !b)
        NAME(forward_columns)(activation, A, Z, NULL, v_all(slope), n * m, 1);
    else if (contiguous && copies > 1 && n * copies <= LONGEST && copies <= m) {
        real b_copies[LONGEST] __attribute__((aligned(64)));
        const ptrdiff_t length = n * copies, rest = (m - m % copies) * n;
        if (length == LANES) /* n is a power of two. By copies in memory the load that follows would wait for them all. */
            v_store(b_copies, v_shuffle(v_load_first(b, n, 0), v_lanes() & (integer)(n - 1)));
        else
            for (ptrdiff_t copy = 0; copy < copies; copy++)
                memcpy(b_copies + copy * n, b, (size_t)n * sizeof(real));
        NAME(forward_columns)(activation, (NAME(written)){A.x, length}, (NAME(read)){Z.x, length}, b_copies, v_all(slope),
                              length, m / copies);
        NAME(forward_columns)(activation, (NAME(written)){A.x + rest, n}, (NAME(read)){Z.x + rest, n}, b, v_all(slope), n,
                              m % copies);
    }
    else
        NAME(forward_columns)(activation, A, Z, b, v_all(slope), n, m);
}

NNK_INLINE vec dg_of(int activation, vec dA, vec a, vec z, vec slope)
{
    (void)a, (void)z, (void)slope;
    switch (activation) {
#define ELEMENTWISE(name, reads, init, g, dg)                                                                          \
    case NNK_##name:                                                                                                   \
        return dg;
#define COLUMNWISE(name, reads, init)
#include "kernels/activations.def"
#undef ELEMENTWISE
#undef COLUMNWISE
    }
    return dA;
}

/* true where the derivative reads A rather than Z; a constant once `activation` is */
NNK_INLINE int NAME(reads_A)(int activation)
{
    enum { A = 1, Z = 0 };
    switch (activation) {
#define ELEMENTWISE(name, reads, init, g, dg)                                                                          \
    case NNK_##name:                                                                                                   \
        return reads;
#define COLUMNWISE(name, reads, init)
#include "kernels/activations.def"
#undef ELEMENTWISE
#undef COLUMNWISE
    }
    return 1;
}

/* dz := da ⊙ g' for the first k lanes; returns dz. h is what g' reads. */
NNK_INLINE vec NAME(backward_vector)(int activation, real *dz, const real *da, const real *h_, vec slope, ptrdiff_t k)
{
    const vec h = v_first(h_, k), result = dg_of(activation, v_first(da, k), h, h, slope);
    v_put(dz, result, k);
    return result;
}

/* db += the sums of `columns` columns of dZ := dA ⊙ g'(H): the sums of one or two vectors of units stay in registers while
 * the columns pass */
NNK_INLINE void NAME(backward_sums)(int activation, NAME(written) dZ, real *db, NAME(read) dA, NAME(read) H, vec slope,
                                    ptrdiff_t n, ptrdiff_t columns)
{
    ptrdiff_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        vec sum = v_load(db + i), other = v_load(db + i + LANES);
        for (ptrdiff_t j = 0; j < columns; j++) {
            real *dz = dZ.x + j * dZ.ld + i;
            const real *da = dA.x + j * dA.ld + i, *h = H.x + j * H.ld + i;
            sum += NAME(backward_vector)(activation, dz, da, h, slope, LANES);
            other += NAME(backward_vector)(activation, dz + LANES, da + LANES, h + LANES, slope, LANES);
        }
        v_store(db + i, sum);
        v_store(db + i + LANES, other);
    }
    for (; i < n; i += LANES) {
        vec sum = v_first(db + i, n - i);
        for (ptrdiff_t j = 0; j < columns; j++)
            sum += NAME(backward_vector)(activation, dZ.x + j * dZ.ld + i, dA.x + j * dA.ld + i, H.x + j * H.ld + i, slope,
                                         n - i);
        v_put(db + i, sum, n - i);
    }
}

/* dZ := dA ⊙ g'(H), and db, if any, += its sums over the columns, so many at a time */
NNK_INLINE void NAME(backward_columns)(int activation, NAME(written) dZ, real *db, NAME(read) dA, NAME(read) H, vec slope,
                                       ptrdiff_t n, ptrdiff_t m)
{
    enum { columns = 64 };
    if (!db) {
        for (ptrdiff_t j = 0; j < m; j++)
            for (ptrdiff_t i = 0; i < n; i += LANES)
                NAME(backward_vector)(activation, dZ.x + j * dZ.ld + i, dA.x + j * dA.ld + i, H.x + j * H.ld + i, slope,
                                      n - i);
        return;
    }
    for (; m > 0; m -= columns, dZ.x += columns * dZ.ld, dA.x += columns * dA.ld, H.x += columns * H.ld)
        NAME(backward_sums)(activation, dZ, db, dA, H, slope, n, m < columns ? m : columns);
}

/* H is the one operand that g' reads; linear reads none. */
NNK_INLINE void backward_body(int activation, NAME(written) dZ, real *db, NAME(read) dA, NAME(read) H, real slope,
                              ptrdiff_t n, ptrdiff_t m)
{
    if (activation == NNK_linear)
        H = dA;
    const int contiguous = dZ.ld == n && dA.ld == n && H.ld == n;
    const ptrdiff_t copies = NAME(columns_in_vectors)(n);
    if (contiguous && !db && activation == NNK_linear)
        memmove(dZ.x, dA.x, (size_t)(n * m) * sizeof(real));
    else if (contiguous && !db)
        NAME(backward_columns)(activation, dZ, NULL, dA, H, v_all(slope), n * m, 1);
    else if (contiguous && copies > 1 && n * copies <= LONGEST && copies <= m) {
        real db_copies[LONGEST] __attribute__((aligned(64)));
        const ptrdiff_t length = n * copies, rest = (m - m % copies) * n;
        memset(db_copies, 0, (size_t)length * sizeof(real));
        NAME(backward_columns)(activation, (NAME(written)){dZ.x, length}, db_copies, (NAME(read)){dA.x, length},
                               (NAME(read)){H.x, length}, v_all(slope), length, m / copies);
        for (ptrdiff_t copy = 0; copy < copies; copy++)
            for (ptrdiff_t i = 0; i < n; i++)
                db[i] += db_copies[copy * n + i];
        NAME(backward_columns)(activation, (NAME(written)){dZ.x + rest, n}, db, (NAME(read)){dA.x + rest, n},
                               (NAME(read)){H.x + rest, n}, v_all(slope), n, m % copies);
    }
    else
        NAME(backward_columns)(activation, dZ, db, dA, H, v_all(slope), n, m);
}

#define ELEMENTWISE(name, reads, init, g, dg)                                                                          \
    static void NAME(name##_forward)(void *A, ptrdiff_t lda, const void *Z, ptrdiff_t ldz, const void *b,              \
                                     double slope, ptrdiff_t n, ptrdiff_t m)                                           \
    {                                                                                                                  \
        assert(NNK_IS_MATRIX(A, lda, n, m) && NNK_IS_INPUT(Z, n, m) && (A != Z || lda == ldz));                        \
        forward_body(NNK_##name, (NAME(written)){A, lda}, (NAME(read)){Z, ldz}, b, R(slope), n, m);                    \
    }                                                                                                                  \
    static void NAME(name##_backward)(void *dZ, ptrdiff_t lddz, void *db, const void *dA, ptrdiff_t ldda,              \
                                      const void *A, ptrdiff_t lda, const void *Z, ptrdiff_t ldz, double slope,        \
                                      ptrdiff_t n, ptrdiff_t m)                                                        \
    {                                                                                                                  \
        const NAME(read) H = NAME(reads_A)(NNK_##name) ? (NAME(read)){A, lda} : (NAME(read)){Z, ldz};                  \
        assert(NNK_IS_MATRIX(dZ, lddz, n, m) && NNK_IS_INPUT(dA, n, m) && (dZ != dA || lddz == ldda));                 \
        assert(NNK_##name == NNK_linear || NNK_IS_INPUT(H.x, n, m));                                                   \
        backward_body(NNK_##name, (NAME(written)){dZ, lddz}, db, (NAME(read)){dA, ldda}, H, R(slope), n, m);           \
    }
#define COLUMNWISE(name, reads, init)
#include "kernels/activations.def"
#undef ELEMENTWISE
#undef COLUMNWISE

/* a_i = e^(z_i + b_i - z_max) for one column, b may be NULL; returns their sum. A NaN anywhere makes the sum NaN; the
 * maximum may pass over it. `z_max` is what was subtracted. */
NNK_INLINE real NAME(exp_column)(real *a, const real *z, const real *b, real *z_max, ptrdiff_t n)
{
    const real lowest = -(real)__builtin_inf();
    const vec zeros = v_all(0);
    vec top = v_all(lowest), sum = zeros;
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        top = v_max(top, v_load(z + i) + (b ? v_load(b + i) : zeros));
    if (i < n)
        top = v_max(top, v_load_first(z + i, n - i, lowest) + (b ? v_load_first(b + i, n - i, 0) : zeros));
    *z_max = v_highest(top);
    for (i = 0; i + LANES <= n; i += LANES) {
        const vec e = v_exp(v_load(z + i) + (b ? v_load(b + i) : zeros) - *z_max);
        v_store(a + i, e);
        sum += e;
    }
    if (i < n) {
        const vec z_b = v_load_first(z + i, n - i, lowest) + (b ? v_load_first(b + i, n - i, 0) : zeros);
        const vec e = v_exp(z_b - *z_max);
        v_store_first(a + i, e, n - i);
        /* the lanes past n are e^-inf = 0, but NaN where z_max is not finite */
        sum += v_keep_first(e, n - i);
    }
    return v_sum(sum);
}

/* The same for one column of at most one vector: z + b, e^(z + b - z_max), and z_max and the sum in every lane. Nothing is
 * stored: a load behind a store of fewer lanes would wait for it. */
NNK_INLINE void NAME(exp_vector)(vec *z, vec *e, vec *top, vec *sum, const real *Z, vec b, ptrdiff_t n)
{
    const real lowest = -(real)__builtin_inf();
    *z = (n < LANES ? v_load_first(Z, n, lowest) : v_load(Z)) + b;
    *top = v_highest_everywhere(v_max(v_all(lowest), *z));
    *e = v_keep_first(v_exp(*z - *top), n);
    *sum = v_sum_everywhere(*e);
}

/* The same for `columns` <= LANES columns side by side, one a lane: z and e have a vector for each of at most SQUARE_UNITS
 * units. The sums are added up in the order of a single column's, so that it doesn't matter which way a column goes. */
#define SQUARE_UNITS (8 * LANES)
static void NAME(exp_square)(vec *z, vec *e, vec *top, vec *sum, NAME(read) Z, const real *b, ptrdiff_t n,
                             ptrdiff_t columns)
{
    vec sums[LANES];
    load_transposed(z, Z.x, Z.ld, n, columns);
    if (b)
        for (ptrdiff_t i = 0; i < n; i++)
            z[i] += b[i];
    vec highest = v_all(-(real)__builtin_inf());
    for (ptrdiff_t i = 0; i < n; i++)
        highest = v_max(highest, z[i]);
    for (ptrdiff_t i = 0; i < n; i++)
        e[i] = v_exp(z[i] - highest);
    for (ptrdiff_t k = 0; k < LANES; k++) {
        sums[k] = v_all(0);
        for (ptrdiff_t i = k; i < n; i += LANES)
            sums[k] += e[i];
    }
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++)
            sums[k] += sums[k + half];
    *top = highest;
    *sum = sums[0];
}

/* columns from which a square costs less than its columns one by one */
#define SQUARE_LEAST (LANES / 2)

/* Â = e^z / Σ e^z over the units of each example */
static void NAME(softmax_forward)(void *A_, ptrdiff_t lda, const void *Z_, ptrdiff_t ldz, const void *b, double slope,
                                  ptrdiff_t n, ptrdiff_t m)
{
    real *A = A_;
    const real *Z = Z_;
    vec z[SQUARE_UNITS], e[SQUARE_UNITS], top, sum;
    ptrdiff_t j = 0;
    (void)slope;
    assert(NNK_IS_MATRIX(A, lda, n, m) && NNK_IS_INPUT(Z, n, m) && (A != Z || lda == ldz));
    if (n == 0)
        return;
    while (n <= SQUARE_UNITS && j + SQUARE_LEAST <= m) {
        const ptrdiff_t columns = m - j < LANES ? m - j : LANES;
        NAME(exp_square)(z, e, &top, &sum, (NAME(read)){Z + j * ldz, ldz}, b, n, columns);
        const vec inverse = R(1) / sum;
        for (ptrdiff_t i = 0; i < n; i++)
            e[i] *= inverse;
        store_transposed(A + j * lda, lda, e, n, columns);
        j += columns;
    }
    for (; n <= LANES && j < m; j++) {
        NAME(exp_vector)(z, e, &top, &sum, Z + j * ldz, b ? v_first(b, n) : v_all(0), n);
        v_put(A + j * lda, *e * (R(1) / sum), n);
    }
    for (; j < m; j++) {
        real *a = A + j * lda, z_max;
        const real inverse = R(1) / NAME(exp_column)(a, Z + j * ldz, b, &z_max, n);
        ptrdiff_t i = 0;
        for (; i + LANES <= n; i += LANES)
            v_store(a + i, v_load(a + i) * inverse);
        if (i < n)
            v_store_first(a + i, v_load_first(a + i, n - i, 0) * inverse, n - i);
    }
}

/* dZ = A ⊙ (dA - Σ_units dA ⊙ A) */
static void NAME(softmax_backward)(void *dZ, ptrdiff_t lddz, void *db_, const void *dA, ptrdiff_t ldda, const void *A,
                                   ptrdiff_t lda, const void *Z, ptrdiff_t ldz, double slope, ptrdiff_t n, ptrdiff_t m)
{
    real *db = db_;
    (void)Z, (void)ldz, (void)slope;
    assert(NNK_IS_MATRIX(dZ, lddz, n, m) && NNK_IS_INPUT(dA, n, m) && NNK_IS_INPUT(A, n, m));
    assert(dZ != dA || lddz == ldda);
    for (ptrdiff_t j = 0; j < m; j++) {
        real *dz = (real *)dZ + j * lddz;
        const real *da = (const real *)dA + j * ldda, *a = (const real *)A + j * lda;
        vec sum = v_all(0);
        ptrdiff_t i = 0;
        for (; i + LANES <= n; i += LANES)
            sum += v_load(da + i) * v_load(a + i);
        if (i < n)
            sum += v_load_first(da + i, n - i, 0) * v_load_first(a + i, n - i, 0);
        const real inner = v_sum(sum);
        for (i = 0; i + LANES <= n; i += LANES) {
            const vec x = v_load(a + i) * (v_load(da + i) - inner);
            v_store(dz + i, x);
            if (db)
                v_store(db + i, v_load(db + i) + x);
        }
        if (i < n) {
            const vec x = v_load_first(a + i, n - i, 0) * (v_load_first(da + i, n - i, 0) - inner);
            v_store_first(dz + i, x, n - i);
            if (db)
                v_store_first(db + i, v_load_first(db + i, n - i, 0) + x, n - i);
        }
    }
}
