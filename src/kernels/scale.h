/* A factor for each row of a matrix, forward and backward: the kernels of a layer that scales its inputs, and of a mix of an
 * activation with its argument. */
#define strided_first NAME(strided_first)

/* out (n, m), contiguous, := s ⊙ A for A with contiguous columns ld apart; out may be A where ld is n */
static void NAME(scale_rows)(void *out_, const void *A_, ptrdiff_t ld, const void *s_, ptrdiff_t n, ptrdiff_t m)
{
    real *out = out_;
    const real *A = A_, *s = s_;
    assert(n >= 0 && m >= 0 && (ld >= n || m <= 1));
    for (ptrdiff_t j = 0; j < m; j++)
        for (ptrdiff_t i = 0; i < n; i += LANES)
            v_put(out + j * n + i, v_first(s + i, n - i) * v_first(A + j * ld + i, n - i), n - i);
}

/* the entries i … i + k - 1 of a column, whose rows are `row` entries apart */
NNK_INLINE vec strided_first(const real *column, ptrdiff_t row, ptrdiff_t k)
{
    vec v = v_all(0);
    if (row == 1)
        return v_first(column, k);
    for (ptrdiff_t lane = 0; lane < LANES && lane < k; lane++)
        v[lane] = column[lane * row];
    return v;
}

/* ds (n) += Σ_columns dA ⊙ A for dA (n, m) contiguous and A of any strides, column by column, whatever these are */
static void NAME(add_row_products)(void *ds_, const void *dA_, const void *A_, ptrdiff_t row, ptrdiff_t column,
                                   ptrdiff_t n, ptrdiff_t m)
{
    real *ds = ds_;
    const real *dA = dA_, *A = A_;
    assert(n >= 0 && m >= 0);
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vec sum = v_first(ds + i, n - i);
        for (ptrdiff_t j = 0; j < m; j++)
            sum = v_fma(v_first(dA + j * n + i, n - i),
                        strided_first(A + i * row + j * column, row, n - i), sum);
        v_put(ds + i, sum, n - i);
    }
}

/* out := B + a ⊙ (A - B), all (n, m) and contiguous; out may be A or B */
static void NAME(mix_rows)(void *out_, const void *A_, const void *B_, const void *a_, ptrdiff_t n, ptrdiff_t m)
{
    real *out = out_;
    const real *A = A_, *B = B_, *a = a_;
    for (ptrdiff_t j = 0; j < m; j++)
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            const vec from = v_first(B + i + j * n, n - i);
            v_put(out + i + j * n, v_fma(v_first(a + i, n - i), v_first(A + i + j * n, n - i) - from, from), n - i);
        }
}

/* da (n) += Σ_columns d ⊙ (A - B) */
static void NAME(add_row_differences)(void *da_, const void *d_, const void *A_, const void *B_, ptrdiff_t n, ptrdiff_t m)
{
    real *da = da_;
    const real *d = d_, *A = A_, *B = B_;
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vec sum = v_first(da + i, n - i);
        for (ptrdiff_t j = 0; j < m; j++) {
            const ptrdiff_t at = i + j * n;
            sum = v_fma(v_first(d + at, n - i), v_first(A + at, n - i) - v_first(B + at, n - i), sum);
        }
        v_put(da + i, sum, n - i);
    }
}
