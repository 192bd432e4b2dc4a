/* The inner-product kernel: micro-tiles of C whose vectors run along the sum, for products in which every entry of C can be
 * that of two contiguous columns. The lanes of the sums are added up at the end, for many entries at a time.
 */
#define inner_product_body NAME(inner_product_body)

typedef struct {
    real *C;
    const real *A, *B;
    ptrdiff_t ldc, lda, ldb;
    real alpha, beta;
    const real *ahead; /* the columns of B that will be wanted next, or NULL */
    ptrdiff_t k;
} NAME(inner_operands);
#define inner_operands NAME(inner_operands)

/* C(i, j) := alpha Σ_k A(k, i) B(k, j) + beta C(i, j) for `units` columns i of A and `columns` of B (constants) */
NNK_INLINE void inner_product_body(const int units, const int columns, const inner_operands *p)
{
    vec sums[IP_NR][IP_MR];
    ptrdiff_t k = 0;
#pragma GCC unroll 6
    for (int j = 0; j < columns; j++)
#pragma GCC unroll 4
        for (int i = 0; i < units; i++)
            sums[j][i] = v_all(0);
    for (; k + LANES <= p->k; k += LANES) {
        vec a[IP_MR];
#pragma GCC unroll 4
        for (int i = 0; i < units; i++)
            a[i] = v_load(p->A + i * p->lda + k);
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++) {
            const vec b = v_load(p->B + j * p->ldb + k);
            if (p->ahead)
                __builtin_prefetch(p->ahead + j * p->ldb + k, 0, 2);
#pragma GCC unroll 4
            for (int i = 0; i < units; i++)
                sums[j][i] = v_fma(a[i], b, sums[j][i]);
        }
    }
    if (k < p->k) {
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++) {
            const vec b = v_load_first(p->B + j * p->ldb + k, p->k - k, 0);
#pragma GCC unroll 4
            for (int i = 0; i < units; i++)
                sums[j][i] = v_fma(v_load_first(p->A + i * p->lda + k, p->k - k, 0), b, sums[j][i]);
        }
    }
    enum { most = (IP_NR * IP_MR + LANES - 1) / LANES * LANES };
    real totals[most] __attribute__((aligned(64)));
#pragma GCC unroll 8
    for (int first = 0; first < units * columns; first += LANES) {
        vec some[LANES];
#pragma GCC unroll 16
        for (int s = 0; s < LANES; s++)
            some[s] = first + s < units * columns ? sums[(first + s) / units][(first + s) % units] : v_all(0);
        v_store(totals + first, v_rounded(p->alpha * v_sums(some)));
    }
#pragma GCC unroll 6
    for (int j = 0; j < columns; j++)
#pragma GCC unroll 4
        for (int i = 0; i < units; i++) {
            real *c = p->C + j * p->ldc + i;
            real old = p->beta != 0 ? p->beta * *c : 0;
            NNK_ROUNDED(old);
            *c = totals[j * units + i] + old;
        }
}

typedef void (*NAME(inner_product))(const inner_operands *p);

#define INNER_PRODUCT(columns, units)                                                                                  \
    static void NAME(inner_product_##columns##_##units)(const inner_operands *given)                                   \
    {                                                                                                                  \
        const inner_operands p = *given;                                                                               \
        inner_product_body(units, columns, &p);                                                                        \
    }
#define INNER_PRODUCT_NAME(columns, units) NAME(inner_product_##columns##_##units),
#if IP_NR == 6
#define FOR_COLUMNS(what, units) \
    what(1, units) what(2, units) what(3, units) what(4, units) what(5, units) what(6, units)
#else
#define FOR_COLUMNS(what, units) what(1, units) what(2, units) what(3, units) what(4, units)
#endif
FOR_COLUMNS(INNER_PRODUCT, 1)
FOR_COLUMNS(INNER_PRODUCT, 2)
FOR_COLUMNS(INNER_PRODUCT, 3)
#if IP_MR == 4
FOR_COLUMNS(INNER_PRODUCT, 4)
#endif

/* by units - 1, columns - 1 */
static const NAME(inner_product) NAME(inner_products)[IP_MR][IP_NR] = {
    {FOR_COLUMNS(INNER_PRODUCT_NAME, 1)},
    {FOR_COLUMNS(INNER_PRODUCT_NAME, 2)},
    {FOR_COLUMNS(INNER_PRODUCT_NAME, 3)},
#if IP_MR == 4
    {FOR_COLUMNS(INNER_PRODUCT_NAME, 4)},
#endif
};
#undef INNER_PRODUCT
#undef INNER_PRODUCT_NAME
#undef FOR_COLUMNS

/* Rows row … row_end-1 and columns first … end-1 of C for a B of contiguous columns. Few rows n of a long sum: A is
 * transposed first, so that no lane is empty and a long column of B is read in one piece. Few columns m: A is stored
 * transposed, and is used as it is. */
static void NAME(gemm_inner_product)(const nnk_product *p, ptrdiff_t row, ptrdiff_t row_end, ptrdiff_t first,
                                     ptrdiff_t end)
{
    real transposed[IP_MAX_N * IP_LDA] __attribute__((aligned(64)));
    const ptrdiff_t n = row_end - row, m = end - first, ldb = p->cs_b, lda = p->transpose_a ? p->lda : IP_LDA;
    assert(p->rs_b == 1 && (p->transpose_a || n <= IP_MAX_N));
    const ptrdiff_t groups = (n + IP_MR - 1) / IP_MR, tiles = (m + IP_NR - 1) / IP_NR;
    const ptrdiff_t outer = p->transpose_a ? groups : tiles, inner = p->transpose_a ? tiles : groups;
    for (ptrdiff_t k = 0; k < p->k; k += IP_KC) {
        const ptrdiff_t kc = p->k - k < IP_KC ? p->k - k : IP_KC;
        const real *A = p->transpose_a ? (const real *)p->A + row * lda + k : transposed;
        for (ptrdiff_t q = 0; !p->transpose_a && q < kc; q++)
            for (ptrdiff_t i = 0; i < n; i++)
                transposed[i * IP_LDA + q] = ((const real *)p->A)[row + i + (k + q) * p->lda];
        for (ptrdiff_t a = 0; a < outer; a++)
            for (ptrdiff_t b = 0; b < inner; b++) {
                const ptrdiff_t tile = p->transpose_a ? b : a, group = p->transpose_a ? a : b;
                const ptrdiff_t j = tile * m / tiles, columns = (tile + 1) * m / tiles - j;
                const ptrdiff_t i = group * n / groups, units = (group + 1) * n / groups - i;
                const real *B = (const real *)p->B + k + (first + j) * ldb;
                const real *ahead = !p->transpose_a && group == 0 && tile + 1 < tiles ? B + columns * ldb : NULL;
                const inner_operands o = {(real *)p->C + row + i + (first + j) * p->ldc, A + i * lda, B, p->ldc, lda,
                                          ldb, R(p->alpha), k == 0 ? R(p->beta) : R(1), ahead, kc};
                NAME(inner_products)[units - 1][columns - 1](&o);
            }
    }
}
