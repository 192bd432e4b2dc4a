/* Codes of categories: how they are read, and columns of a matrix that they name.
 *
 * A product with a matrix of zeros and ones, or of zeros and one factor s_c for each column c, needs no such matrix: it adds up
 * columns that are named, each times its factor. In the variants for bfloat16 the operands of such a product are rounded as
 * those of any other; a column without a factor isn't multiplied, and stays as it is.
 */
#define is_code NAME(is_code)
#define operand NAME(operand)

/* Whether it is a whole number in 0 … size - 1 */
NNK_INLINE int is_code(real x, ptrdiff_t size) { return x >= 0 && x < (real)size && (real)(int32_t)x == x; }

/* Index of the first of m codes, `column` apart, that is none; or m */
static ptrdiff_t NAME(first_bad_code)(const void *x_, ptrdiff_t column, ptrdiff_t size, ptrdiff_t m)
{
    const real *x = x_;
    for (ptrdiff_t j = 0; j < m; j++)
        if (!is_code(x[j * column], size))
            return j;
    return m;
}

/* codes[j * apart] := first + the code of example j, of `size`, less `skipped`; or -1 where that is below `first`, or where
 * it is no code: whose examples they are may have written to them since they were checked. */
static void NAME(read_codes)(int32_t *codes, ptrdiff_t apart, const void *x_, ptrdiff_t column, ptrdiff_t first,
                             ptrdiff_t skipped, ptrdiff_t size, ptrdiff_t m)
{
    const real *x = x_;
    for (ptrdiff_t j = 0; j < m; j++) {
        const real given = x[j * column];
        const ptrdiff_t code = is_code(given, size) ? (ptrdiff_t)given - skipped : -1;
        codes[j * apart] = (int32_t)(code < 0 ? -1 : first + code);
    }
}

/* x as it enters a product */
NNK_INLINE vec operand(const int rounds, vec x)
{
#if REAL_BITS == 32
    return rounds ? NAME(v_bf16)(x) : x;
#else
    (void)rounds;
    return x;
#endif
}

NNK_INLINE void NAME(sum_named)(const int scaled, const int rounds, real *out, ptrdiff_t ldo, const real *W, ptrdiff_t ldw,
                                const nnk_codes *named, ptrdiff_t n, ptrdiff_t m)
{
    const real *s = named->s;
    for (ptrdiff_t j = 0; j < m; j++)
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            vec sum = v_all(0);
            for (ptrdiff_t c = 0; c < named->count; c++) {
                const ptrdiff_t code = named->codes[j * named->apart + c];
                if (code < 0)
                    continue;
                const vec w = v_first(W + i + code * ldw, n - i);
                sum = scaled ? v_fma(operand(rounds, v_all(s[code])), operand(rounds, w), sum) : sum + w;
            }
            v_put(out + i + j * ldo, sum, n - i);
        }
}

NNK_INLINE void NAME(add_to_named)(const int scaled, const int rounds, real *dW, ptrdiff_t ldw, const real *dZ, ptrdiff_t ldz,
                                   double alpha, const nnk_codes *named, ptrdiff_t n, ptrdiff_t m)
{
    const real *s = named->s;
    for (ptrdiff_t j = 0; j < m; j++)
        for (ptrdiff_t c = 0; c < named->count; c++) {
            const ptrdiff_t code = named->codes[j * named->apart + c];
            if (code < 0)
                continue;
            const vec factor = scaled ? v_all(R(alpha)) * operand(rounds, v_all(s[code])) : v_all(R(alpha));
            real *to = dW + code * ldw;
            for (ptrdiff_t i = 0; i < n; i += LANES) {
                const vec dz = operand(rounds, v_first(dZ + i + j * ldz, n - i));
                v_put(to + i, v_fma(factor, dz, v_first(to + i, n - i)), n - i);
            }
        }
}

NNK_INLINE void NAME(add_named_products)(const int rounds, real *ds, const real *W, ptrdiff_t ldw, const real *dZ,
                                         ptrdiff_t ldz, const nnk_codes *named, ptrdiff_t n, ptrdiff_t m)
{
    for (ptrdiff_t j = 0; j < m; j++)
        for (ptrdiff_t c = 0; c < named->count; c++) {
            const ptrdiff_t code = named->codes[j * named->apart + c];
            if (code < 0)
                continue;
            vec sum = v_all(0);
            for (ptrdiff_t i = 0; i < n; i += LANES)
                sum = v_fma(operand(rounds, v_first(W + i + code * ldw, n - i)),
                            operand(rounds, v_first(dZ + i + j * ldz, n - i)), sum);
            ds[code] += v_sum(sum);
        }
}

/* The three of nnk_columns, whose operands are rounded where there are factors and `rounds` is 1 */
#define NAMED_COLUMNS(name, rounds)                                                                                    \
    static void NAME(sum_##name)(void *out, ptrdiff_t ldo, const void *W, ptrdiff_t ldw, const nnk_codes *named,        \
                                 ptrdiff_t n, ptrdiff_t m)                                                             \
    {                                                                                                                  \
        if (named->s)                                                                                                  \
            NAME(sum_named)(1, rounds, out, ldo, W, ldw, named, n, m);                                                 \
        else                                                                                                           \
            NAME(sum_named)(0, 0, out, ldo, W, ldw, named, n, m);                                                      \
    }                                                                                                                  \
    static void NAME(add_to_##name)(void *dW, ptrdiff_t ldw, const void *dZ, ptrdiff_t ldz, double alpha,              \
                                    const nnk_codes *named, ptrdiff_t n, ptrdiff_t m)                                  \
    {                                                                                                                  \
        if (named->s)                                                                                                  \
            NAME(add_to_named)(1, rounds, dW, ldw, dZ, ldz, alpha, named, n, m);                                       \
        else                                                                                                           \
            NAME(add_to_named)(0, 0, dW, ldw, dZ, ldz, alpha, named, n, m);                                            \
    }                                                                                                                  \
    static void NAME(add_products_of_##name)(void *ds, const void *W, ptrdiff_t ldw, const void *dZ, ptrdiff_t ldz,    \
                                             const nnk_codes *named, ptrdiff_t n, ptrdiff_t m)                         \
    {                                                                                                                  \
        NAME(add_named_products)(rounds, ds, W, ldw, dZ, ldz, named, n, m);                                            \
    }
NAMED_COLUMNS(columns, 0)
#if REAL_BITS == 32
NAMED_COLUMNS(rounded_columns, 1)
#endif
#undef NAMED_COLUMNS

/* Rows of out (n, m), ldo apart := 0, but for a 1 where a code names a row */
static void NAME(put_ones)(void *out_, ptrdiff_t ldo, const int32_t *codes, ptrdiff_t n, ptrdiff_t m)
{
    real *out = out_;
    for (ptrdiff_t j = 0; j < m; j++) {
        memset(out + j * ldo, 0, (size_t)n * sizeof(real));
        if (codes[j] >= 0)
            out[codes[j] + j * ldo] = 1;
    }
}
