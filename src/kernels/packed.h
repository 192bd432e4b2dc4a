/* Packs the weights of a frozen network as packed_layout.h says, and multiplies them with one example; widens them for
 * products that have no kernels for reduced weights. Knows nothing of layers.
 */
#define widen NAME(widen)

/* The weights of one vector of words, first those of the lowest bits. An int8 is kept as q + 128, and put into the mantissa
 * of a number whose unit it counts: 2²³ for the lowest byte, 2¹⁵ for the byte above. */
NNK_INLINE void widen(const int weights, vec w[4], const real *packed)
{
    (void)weights;
    w[0] = v_load(packed);
#if REAL_BITS == 32
    if (weights == NNK_bfloat16) {
        const ivec words = (ivec)w[0];
        w[0] = (vec)(words << 16);
        w[1] = (vec)(words & (integer)0xffff0000);
    }
    else if (weights == NNK_int8) {
        const ivec low = (ivec)w[0], high = low >> 16;
        w[0] = (vec)((low & 0xff) | 0x4b000000) - R(8388608 + 128);
        w[1] = (vec)((low & 0xff00) | 0x47000000) - R(32768 + 128);
        w[2] = (vec)((high & 0xff) | 0x4b000000) - R(8388608 + 128);
        w[3] = (vec)((high & 0xff00) | 0x47000000) - R(32768 + 128);
    }
#endif
}

static ptrdiff_t NAME(packed_parts)(const nnk_packed *p)
{
    assert(p->n > 0 && p->n_prev > 0);
    return NAME(by_rows)(p) ? 1 : NAME(rounded_up)(p->n, PART_UNITS) / PART_UNITS;
}

static ptrdiff_t NAME(packed_first)(const nnk_packed *p, ptrdiff_t part)
{
    assert(0 <= part && part <= NAME(packed_parts)(p));
    return part * PART_UNITS < p->n ? part * PART_UNITS : p->n;
}

static int NAME(packed_by_rows)(const nnk_packed *p) { return NAME(by_rows)(p); }

static size_t NAME(packed_bytes)(const nnk_packed *p)
{
    assert(p->n > 0 && p->n_prev > 0);
    const ptrdiff_t units = NAME(by_rows)(p) ? p->n : NAME(rounded_up)(p->n, LANES);
    return (size_t)(units * NAME(unit_words)(p)) * sizeof(real);
}

/* Where weight (i, k) is: its word, and which of the word's weights it is */
NNK_INLINE ptrdiff_t NAME(place)(const nnk_packed *p, ptrdiff_t i, ptrdiff_t k, int *which)
{
    const int per = NAME(in_a_word)(p->weights);
    if (NAME(by_rows)(p)) {
        *which = (int)(k / LANES % per);
        return i * NAME(unit_words)(p) + k / (LANES * per) * LANES + k % LANES;
    }
    const ptrdiff_t part = i / PART_UNITS, panel = part * PART_UNITS, units = NAME(part_width)(p, part);
    *which = (int)(k % per);
    return panel * NAME(unit_words)(p) + k / per * units + i - panel;
}

#if REAL_BITS == 32
/* The bfloat16 nearest to a finite number, of two the one whose last bit is 0. */
NNK_INLINE uint32_t NAME(to_bfloat16)(real w)
{
    uint32_t bits;
    memcpy(&bits, &w, sizeof bits);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
#endif

/* p->W := W (n, n_prev), columns contiguous; for int8 p->scale := the largest |w| of each unit / 127, and what is packed is
 * the nearest whole number of scales. */
static void NAME(pack_weights)(const nnk_packed *p, const void *W_)
{
    const real *W = W_;
    real *packed = p->W;
    assert(NAME(is_packed)(p) && W);
    memset(packed, 0, NAME(packed_bytes)(p));
#if REAL_BITS == 32
    if (p->weights == NNK_int8) {
        real *scale = p->scale;
        memset(packed, 128, NAME(packed_bytes)(p));
        memset(scale, 0, (size_t)NAME(rounded_up)(p->n, LANES) * sizeof(real));
        for (ptrdiff_t k = 0; k < p->n_prev; k++)
            for (ptrdiff_t i = 0; i < p->n; i++)
                if (__builtin_fabsf(W[i + k * p->n]) > scale[i])
                    scale[i] = __builtin_fabsf(W[i + k * p->n]);
        for (ptrdiff_t i = 0; i < p->n; i++)
            scale[i] /= 127;
    }
#endif
    for (ptrdiff_t k = 0; k < p->n_prev; k++)
        for (ptrdiff_t i = 0; i < p->n; i++) {
            const real w = W[i + k * p->n];
            int which;
            const ptrdiff_t at = NAME(place)(p, i, k, &which);
            if (p->weights == NNK_whole)
                packed[at] = w;
#if REAL_BITS == 32
            else {
                const int bits = 32 / NAME(in_a_word)(p->weights);
                const real scale = p->weights == NNK_int8 ? ((const real *)p->scale)[i] : 1;
                /* rounded to even by a sum whose unit is 1. A scale that is so small that it was rounded itself may leave
                 * more than 127 of them, or be 0. */
                real q = scale > 0 ? (w / scale + R(12582912)) - R(12582912) : 0;
                q = q > 127 ? 127 : q < -127 ? -127 : q;
                const uint32_t value = p->weights == NNK_int8 ? (uint32_t)((int)q + 128) : NAME(to_bfloat16)(w);
                const uint32_t mask = (bits == 8 ? 0xffu : 0xffffu) << (which * bits);
                uint32_t word;
                memcpy(&word, packed + at, sizeof word);
                word = (word & ~mask) | value << (which * bits);
                memcpy(packed + at, &word, sizeof word);
            }
#endif
        }
}

/* z := W x for a panel of `vectors` (a constant) vectors, of which `rows` units are there. Narrow panels are added up in
 * several chains, since a sum is there for its next term only after some cycles. */
NNK_INLINE void NAME(panel_body)(const int weights, const int vectors, real *z, const real *W, const real *scale,
                                 const real *x, ptrdiff_t rows, ptrdiff_t n_prev)
{
    const int per = NAME(in_a_word)(weights);
    enum { most = 8 };
    const int chains = vectors == 1 ? 8 : vectors == 2 ? 4 : vectors <= 4 ? 2 : 1;
    vec sums[most][PANEL_VECTORS];
    ptrdiff_t k = 0;
#pragma GCC unroll 8
    for (int chain = 0; chain < chains; chain++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sums[chain][v] = v_all(0);
    for (; k + chains * per <= n_prev; k += chains * per)
#pragma GCC unroll 8
        for (int chain = 0; chain < chains; chain++)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++, W += LANES) {
                vec w[4];
                widen(weights, w, W);
#pragma GCC unroll 4
                for (int c = 0; c < per; c++)
                    sums[chain][v] += w[c] * x[k + chain * per + c];
            }
    for (; k < n_prev; k += per) {
        real x_k[4] = {0};
        for (int c = 0; c < per && k + c < n_prev; c++)
            x_k[c] = x[k + c];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++, W += LANES) {
            vec w[4];
            widen(weights, w, W);
#pragma GCC unroll 4
            for (int c = 0; c < per; c++)
                sums[0][v] += w[c] * x_k[c];
        }
    }
#pragma GCC unroll 3
    for (int half = chains / 2; half > 0; half /= 2)
#pragma GCC unroll 4
        for (int chain = 0; chain < half; chain++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sums[chain][v] += sums[chain + half][v];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        v_put(z + v * LANES, weights == NNK_int8 ? sums[0][v] * v_load(scale + v * LANES) : sums[0][v], rows - v * LANES);
}

/* The same for one row, along which vectors run */
NNK_INLINE void NAME(row_body)(const int weights, real *z, const real *W, const real *scale, const real *x,
                               ptrdiff_t n_prev)
{
    enum { chains = 4 };
    const int per = NAME(in_a_word)(weights);
    vec sums[chains];
    ptrdiff_t k = 0;
#pragma GCC unroll 4
    for (int chain = 0; chain < chains; chain++)
        sums[chain] = v_all(0);
    for (; k + chains * LANES <= n_prev; k += chains * LANES)
#pragma GCC unroll 4
        for (int chain = 0; chain < chains; chain += per, W += LANES) {
            vec w[4];
            widen(weights, w, W);
#pragma GCC unroll 4
            for (int c = 0; c < per; c++)
                sums[chain + c] += w[c] * v_load(x + k + (chain + c) * LANES);
        }
    for (; k < n_prev; k += per * LANES, W += LANES) {
        vec w[4];
        widen(weights, w, W);
#pragma GCC unroll 4
        for (int c = 0; c < per; c++)
            if (k + c * LANES < n_prev)
                sums[c] += w[c] * v_first(x + k + c * LANES, n_prev - k - c * LANES);
    }
    *z = v_sum(sums[0] + sums[1] + (sums[2] + sums[3])) * (weights == NNK_int8 ? *scale : 1);
}

typedef void (*NAME(panel_function))(real *, const real *, const real *, const real *, ptrdiff_t, ptrdiff_t);

#define PANEL(weights, vectors)                                                                                        \
    static void NAME(panel_##weights##_##vectors)(real * z, const real *W, const real *scale, const real *x,           \
                                                  ptrdiff_t rows, ptrdiff_t n_prev)                                    \
    {                                                                                                                  \
        NAME(panel_body)(NNK_##weights, vectors, z, W, scale, x, rows, n_prev);                                        \
    }
#define PANEL_NAME(weights, vectors) NAME(panel_##weights##_##vectors),
#define FOR_VECTORS(what, weights)                                                                                     \
    what(weights, 1) what(weights, 2) what(weights, 3) what(weights, 4) what(weights, 5) what(weights, 6)              \
        what(weights, 7) what(weights, 8)
#define ROW(weights)                                                                                                   \
    static void NAME(row_##weights)(real * z, const real *W, const real *scale, const real *x, ptrdiff_t rows,         \
                                    ptrdiff_t n_prev)                                                                  \
    {                                                                                                                  \
        (void)rows;                                                                                                    \
        NAME(row_body)(NNK_##weights, z, W, scale, x, n_prev);                                                         \
    }
#if REAL_BITS == 32
#define FOR_WEIGHTS(what) what(whole) what(bfloat16) what(int8)
#else
#define FOR_WEIGHTS(what) what(whole)
#endif
#define BODIES(weights) ROW(weights) FOR_VECTORS(PANEL, weights)
#define NAMES(weights) [NNK_##weights] = {NAME(row_##weights), FOR_VECTORS(PANEL_NAME, weights)},
FOR_WEIGHTS(BODIES)

/* by weights, and vectors of the panel, or 0 for a row */
static const NAME(panel_function) NAME(panels)[NNK_WEIGHTS][PANEL_VECTORS + 1] = {FOR_WEIGHTS(NAMES)};
#undef PANEL
#undef PANEL_NAME
#undef FOR_VECTORS
#undef ROW
#undef FOR_WEIGHTS
#undef BODIES
#undef NAMES

/* z (n) := W x, of it the units of one part */
static void NAME(packed_times_vector)(void *z_, const nnk_packed *p, const void *x, ptrdiff_t part)
{
    real *z = z_;
    const real *W = NAME(part_at)(p, part), *scale = p->scale;
    assert(NAME(is_packed)(p) && z && x && z_ != x && 0 <= part && part < NAME(packed_parts)(p));
    if (NAME(by_rows)(p)) {
        for (ptrdiff_t i = 0; i < p->n; i++)
            NAME(panels)[p->weights][0](z + i, W + i * NAME(unit_words)(p), scale + i, x, 1, p->n_prev);
        return;
    }
    const ptrdiff_t i = part * PART_UNITS;
    NAME(panels)[p->weights][NAME(part_width)(p, part) / LANES](z + i, W, scale + i, x, p->n - i, p->n_prev);
}

#if REAL_BITS == 32
/* The reduced weights (a constant) of `units` units from i on, and of inputs k … k + depth - 1, which are at W */
NNK_INLINE void NAME(widen_block)(const int weights, real *to, const nnk_packed *p, const real *W, ptrdiff_t i,
                                  ptrdiff_t k, ptrdiff_t depth, ptrdiff_t units)
{
    const int per = NAME(in_a_word)(weights);
    if (NAME(by_rows)(p)) {
        const ptrdiff_t words = NAME(rounded_up)(depth, LANES * per) / per;
        for (ptrdiff_t row = 0; row < p->n; row++, to += words * per)
            for (ptrdiff_t v = 0; v < words; v += LANES) {
                vec w[4];
                widen(weights, w, W + row * NAME(unit_words)(p) + k / per + v);
#pragma GCC unroll 4
                for (int c = 0; c < per; c++)
                    v_store(to + v * per + c * LANES,
                            weights == NNK_int8 ? w[c] * ((const real *)p->scale)[row] : w[c]);
            }
        return;
    }
    for (ptrdiff_t word = k / per; word * per < k + depth; word++, to += per * units)
        for (ptrdiff_t v = 0; v < units; v += LANES) {
            vec w[4];
            widen(weights, w, W + word * units + v);
#pragma GCC unroll 4
            for (int c = 0; c < per; c++)
                v_store(to + c * units + v,
                        weights == NNK_int8 ? w[c] * v_load((const real *)p->scale + i + v) : w[c]);
        }
}
#endif

/* Columns k … k + depth - 1 of a part as a matrix: whole weights in place, reduced ones widened into `scratch`,
 * which holds NNK_UNPACKED_BYTES. Then k and depth are multiples of NNK_UNPACKED_DEPTH, but for the last depth. */
static void NAME(unpacked)(nnk_block *block, const nnk_packed *p, ptrdiff_t part, ptrdiff_t k, ptrdiff_t depth,
                           void *scratch)
{
    const int rows = NAME(by_rows)(p);
    const ptrdiff_t i = part * PART_UNITS, units = NAME(part_width)(p, part);
    const real *W = NAME(part_at)(p, part);
    assert(NAME(is_packed)(p) && 0 <= part && part < NAME(packed_parts)(p) && 0 <= k && depth > 0 && k + depth <= p->n_prev);
    assert(p->weights == NNK_whole || (scratch && k % NNK_UNPACKED_DEPTH == 0 && depth <= NNK_UNPACKED_DEPTH));
    block->first = i;
    block->n = p->n - i < PART_UNITS ? p->n - i : PART_UNITS;
    if (p->weights == NNK_whole) {
        block->data = W + (rows ? k : k * units);
        block->row = rows ? NAME(unit_words)(p) : 1;
        block->column = rows ? 1 : units;
        return;
    }
#if REAL_BITS == 32
    block->data = scratch;
    block->row = rows ? NAME(rounded_up)(depth, LANES * NAME(in_a_word)(p->weights)) : 1;
    block->column = rows ? 1 : units;
    if (p->weights == NNK_bfloat16)
        NAME(widen_block)(NNK_bfloat16, scratch, p, W, i, k, depth, units);
    else
        NAME(widen_block)(NNK_int8, scratch, p, W, i, k, depth, units);
#else
    (void)depth, (void)scratch;
#endif
}
