/* A frozen network's reduced weights times a block of examples: C (n, m) := W X, multiplied in what the weights are kept in.
 * The panels of packed weights (packed_layout.h) are what the micro-kernels read; examples are rounded on the way:
 *   bfloat16   to nearest even
 *   int8       to whole numbers of a scale for each example, its largest |x| / 127; products are summed up in 32 bits, for
 *              at most KC words at a time. A weight is kept as q + 128, so 128 Σ x is taken off each sum.
 * The order of summation depends on the layer only.
 */
#ifdef NNK_INT8
/* Whole numbers of a block of examples, and their sums with a panel, which stand where floats do */
typedef struct {
    real sums[MR * NC_REDUCED] __attribute__((aligned(64)));
    real scales[NC_REDUCED];
    integer totals[NC_REDUCED]; /* Σ x */
} quantised;

/* The largest |x| of each column / 127: NaN where an entry isn't finite */
NNK_INLINE void find_scales(quantised *q, const real *X, ptrdiff_t ldx, ptrdiff_t n, ptrdiff_t columns)
{
    real *scales = q->scales;
    for (ptrdiff_t j = 0; j < columns; j++) {
        ivec top = (ivec)v_all(0);
        for (ptrdiff_t k = 0; k < n; k += LANES) {
            /* as whole numbers, in whose order NaN is above all others */
            const ivec x = (ivec)v_abs(v_first(X + k + j * ldx, n - k));
            top = (ivec)_mm512_max_epi32((__m512i)top, (__m512i)x);
        }
        const integer highest = _mm512_reduce_max_epi32((__m512i)top);
        memcpy(scales + j, &highest, sizeof highest);
        scales[j] = scales[j] - scales[j] == 0 ? scales[j] / 127 : scales[j] - scales[j];
    }
}

/* packed := whole numbers of the columns' scales, CS apart, with zeros up to whole squares */
static void quantise_columns(real *packed, quantised *q, const real *X, ptrdiff_t ldx, ptrdiff_t terms, ptrdiff_t nc)
{
    const __m512i ones = _mm512_set1_epi8(1);
    for (ptrdiff_t j = 0; j < nc; j++) {
        const vec inverse = v_all(q->scales[j] > 0 ? 1 / q->scales[j] : 0);
        __m512i sum = _mm512_setzero_si512();
        for (ptrdiff_t k = 0; k < terms; k += 4 * LANES) {
            __m128i quarter[4];
            for (int c = 0; c < 4; c++) {
                const ptrdiff_t left = terms - k - c * LANES;
                const vec x = left > 0 ? v_first(X + k + c * LANES + j * ldx, left) * inverse : v_all(0);
                quarter[c] = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32((__m512)x));
            }
            const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(quarter[0]), quarter[1], 1);
            const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(quarter[2]), quarter[3], 1);
            const __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
            sum = _mm512_dpbusd_epi32(sum, ones, all);
            _mm512_store_si512(packed + j * CS_REDUCED + k / 4, all);
        }
        q->totals[j] = _mm512_reduce_add_epi32(sum);
    }
}

/* zeros up to whole squares, which tiles read */
static void fill_squares(real *packed, ptrdiff_t nc)
{
    for (ptrdiff_t j = nc; j % LANES; j++)
        memset(packed + j * CS_REDUCED, 0, KC_REDUCED * sizeof(real));
}

/* sums := a panel of `vectors` (a constant) vectors times one column of `words` words. Narrow panels are added up in several
 * chains, since a sum is there for its next term only after some cycles. */
NNK_INLINE void sum_panel(const int vectors, real *sums, const real *W, const real *x, ptrdiff_t words)
{
    enum { most = 4 };
    const int chains = vectors <= 2 ? 4 : vectors <= 4 ? 2 : 1;
    __m512i sum[most][PANEL_VECTORS];
    ptrdiff_t k = 0;
#pragma GCC unroll 4
    for (int chain = 0; chain < chains; chain++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[chain][v] = _mm512_setzero_si512();
    for (; k + chains <= words; k += chains)
#pragma GCC unroll 4
        for (int chain = 0; chain < chains; chain++) {
            const __m512i all = _mm512_castps_si512(_mm512_set1_ps(x[k + chain]));
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++, W += LANES)
                sum[chain][v] = _mm512_dpbusd_epi32(sum[chain][v], _mm512_load_si512(W), all);
        }
    for (; k < words; k++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++, W += LANES)
            sum[0][v] = _mm512_dpbusd_epi32(sum[0][v], _mm512_load_si512(W), _mm512_castps_si512(_mm512_set1_ps(x[k])));
#pragma GCC unroll 4
    for (int chain = 1; chain < chains; chain++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[0][v] = _mm512_add_epi32(sum[0][v], sum[chain][v]);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        _mm512_store_si512(sums + v * LANES, sum[0][v]);
}

/* The same for a panel of `width` units and a few columns, by vectors that are constants */
static void sum_panels(quantised *q, const real *W, ptrdiff_t width, const real *packed, ptrdiff_t words, ptrdiff_t nc)
{
    for (ptrdiff_t j = 0; j < nc; j++)
        switch (width / LANES) {
#define SUM(vectors)                                                                                                   \
    case vectors:                                                                                                      \
        sum_panel(vectors, q->sums + j * PART_UNITS, W, packed + j * CS_REDUCED, words);                               \
        break;
            SUM(1) SUM(2) SUM(3) SUM(4) SUM(5) SUM(6) SUM(7) SUM(8)
#undef SUM
        }
}

/* C := (sums - 128 Σ x) times both scales, + C where `add`; columns of sums are lds apart */
NNK_INLINE void store_scaled(real *C, ptrdiff_t ldc, const quantised *q, ptrdiff_t lds, const real *unit_scales,
                             ptrdiff_t rows, ptrdiff_t nc, int add)
{
    for (ptrdiff_t j = 0; j < nc; j++)
        for (ptrdiff_t i = 0; i < rows; i += LANES) {
            real *c = C + i + j * ldc;
            const __m512i whole = _mm512_sub_epi32(_mm512_load_si512(q->sums + i + j * lds), _mm512_set1_epi32(128 * q->totals[j]));
            const vec x = (vec)_mm512_cvtepi32_ps(whole) * (v_load(unit_scales + i) * q->scales[j]);
            v_put(c, add ? x + v_first(c, rows - i) : x, rows - i);
        }
}

/* The product of a few columns, for each of which the panels are read in one stream */
static void few_columns_product(const nnk_packed *p, const nnk_packed_block *b)
{
    real packed[NNK_REDUCED_FEW * CS_REDUCED] __attribute__((aligned(64)));
    const ptrdiff_t nc = b->end - b->first, per = NAME(in_a_word)(NNK_int8);
    const real *X = (const real *)b->X + b->first * b->ldx;
    quantised q;
    find_scales(&q, X, b->ldx, p->n_prev, nc);
    for (ptrdiff_t pc = 0; pc < p->n_prev; pc += KC_REDUCED * per) {
        const ptrdiff_t terms = p->n_prev - pc < KC_REDUCED * per ? p->n_prev - pc : KC_REDUCED * per;
        quantise_columns(packed, &q, X + pc, b->ldx, terms, nc);
        for (ptrdiff_t part = b->part; part < b->part_end; part++) {
            const ptrdiff_t i = part * PART_UNITS, width = NAME(part_width)(p, part);
            const ptrdiff_t rows = p->n - i < width ? p->n - i : width;
            sum_panels(&q, NAME(part_at)(p, part) + pc / per * width, width, packed, (terms + per - 1) / per, nc);
            store_scaled((real *)b->C + i + b->first * b->ldc, b->ldc, &q, PART_UNITS, (const real *)p->scale + i, rows,
                         nc, pc > 0);
        }
    }
}
#endif

/* `weights` is a constant */
NNK_INLINE void packed_product(const int weights, const nnk_packed *p, const nnk_packed_block *b, void *pack_buffer)
{
    const ptrdiff_t per = NAME(in_a_word)(weights), ldc = b->ldc;
#ifdef NNK_INT8
    quantised q;
#endif
    assert(NAME(is_packed)(p) && !NAME(by_rows)(p) && p->weights == weights && NNK_IS_MATRIX(b->C, ldc, p->n, b->end));
    assert(0 <= b->part && b->part <= b->part_end && 0 <= b->first && b->first <= b->end && b->X);
#ifdef NNK_INT8
    if (weights == NNK_int8 && b->end - b->first <= NNK_REDUCED_FEW) {
        few_columns_product(p, b);
        return;
    }
#endif
    assert(pack_buffer);
    for (ptrdiff_t jc = b->first; jc < b->end; jc += NC_REDUCED) {
        const ptrdiff_t nc = b->end - jc < NC_REDUCED ? b->end - jc : NC_REDUCED;
        const real *X = (const real *)b->X + jc * b->ldx;
#ifdef NNK_INT8
        if (weights == NNK_int8)
            find_scales(&q, X, b->ldx, p->n_prev, nc);
#endif
        for (ptrdiff_t pc = 0; pc < p->n_prev; pc += KC_REDUCED * per) {
            const ptrdiff_t terms = p->n_prev - pc < KC_REDUCED * per ? p->n_prev - pc : KC_REDUCED * per;
#ifdef NNK_INT8
            if (weights == NNK_int8) {
                quantise_columns(pack_buffer, &q, X + pc, b->ldx, terms, nc);
                fill_squares(pack_buffer, nc);
            }
#endif
#ifdef NNK_BF16_PAIRS
            if (weights == NNK_bfloat16)
                pack_columns(pack_buffer, X + pc, 1, b->ldx, terms, nc);
#endif
            for (ptrdiff_t i = b->part * PART_UNITS, rows; i < p->n && i < b->part_end * PART_UNITS; i += rows) {
                const ptrdiff_t part = i / PART_UNITS, rest = p->n - i, left = (part + 1) * PART_UNITS - i;
                const ptrdiff_t apart = NAME(part_width)(p, part);
                const real *W = NAME(part_at)(p, part) + pc / per * apart + i % PART_UNITS;
                real *C = (real *)b->C + i + jc * ldc;
                micro_operands o = {C, W, pack_buffer, ldc, apart, 1, CS_REDUCED, 1, pc > 0, (terms + per - 1) / per};
                rows = rest < left ? rest : left;
                rows = rows < MR ? rows : MR;
#ifdef NNK_INT8
                if (weights == NNK_int8) {
                    o.C = q.sums;
                    o.ldc = MR;
                    o.beta = 0;
                }
#endif
                MULTIPLY_PACKED(weights, &o, rows, nc);
#ifdef NNK_INT8
                if (weights == NNK_int8)
                    store_scaled(C, ldc, &q, MR, (const real *)p->scale + i, rows, nc, pc > 0);
#endif
            }
        }
    }
}

#define PACKED_PRODUCT(weights)                                                                                        \
    static void packed_product_##weights(const nnk_packed *p, const nnk_packed_block *block, void *scratch)            \
    {                                                                                                                  \
        BEGIN_TILES();                                                                                                 \
        packed_product(NNK_##weights, p, block, scratch);                                                              \
        END_TILES();                                                                                                   \
    }
