/* Gather and scatter, dropout, and reductions: what works on matrices entry by entry, whatever they mean. */

/* ones in the lanes whose word is below the threshold, which is below 2³² */
NNK_INLINE ivec NAME(dropped)(const uint32_t *words, uint64_t threshold)
{
    uint32_t lanes __attribute__((vector_size(4 * LANES)));
    memcpy(&lanes, words, sizeof lanes);
#if REAL_BITS == 32
    return (ivec)(lanes < (uint32_t)threshold);
#else
    return (ivec)(__builtin_convertvector(lanes, ivec) < (integer)threshold);
#endif
}

static void NAME(dropout)(void *out_, const void *in_, uint64_t key, uint64_t stream, uint64_t first, double p,
                          ptrdiff_t count)
{
    real *out = out_;
    const real *in = in_;
    assert(count >= 0 && (count == 0 || (out && in)) && 0 <= p && p < 1);
    /* p 2³², but never 2³² itself: the generator's words are below it */
    const uint64_t threshold = (uint64_t)(p * 4294967296.0);
    const real kept = R(1 / (1 - p));
    uint64_t counter = first >> 2;
    /* a counter has four words: the first may begin before `first` */
    for (ptrdiff_t i = -(ptrdiff_t)(first & 3); i < count; i += PHILOX_WORDS, counter += PHILOX_LANES) {
        uint32_t words[PHILOX_WORDS];
        philox_vectors(words, counter, stream, key);
        if (i >= 0 && i + PHILOX_WORDS <= count)
            for (int word = 0; word < PHILOX_WORDS; word += LANES)
                v_store(out + i + word,
                        v_select(NAME(dropped)(words + word, threshold), v_all(0), v_load(in + i + word) * kept));
        else
            for (int word = 0; word < PHILOX_WORDS; word++)
                if (i + word >= 0 && i + word < count)
                    out[i + word] = words[word] < threshold ? 0 : in[i + word] * kept;
    }
}

/* Side of the squares in which a matrix is transposed: a square's lines of both sides stay in L1. */
#define SQUARE 16

/* Examples ahead in a shuffled order whose memory is asked for, as they lie anywhere: a few lines of the cache of each,
 * after which the processor sees where it goes on. */
#define AHEAD 16
#define FETCHED_LINES 4
#define LINE (64 / (ptrdiff_t)sizeof(real))

static void NAME(move)(real *out, ptrdiff_t out_row, ptrdiff_t out_column, const real *in, ptrdiff_t in_row,
                       ptrdiff_t in_column, const int64_t *order, ptrdiff_t n, ptrdiff_t m)
{
    if (in_row == 1 && out_row == 1) {
        for (ptrdiff_t j = 0; j < m; j++) {
            if (order && j + AHEAD < m)
                for (ptrdiff_t i = 0; i < n && i < FETCHED_LINES * LINE; i += LINE)
                    __builtin_prefetch(in + order[j + AHEAD] * in_column + i);
            memcpy(out + j * out_column, in + (order ? order[j] : j) * in_column, (size_t)n * sizeof(real));
        }
        return;
    }
    for (ptrdiff_t j0 = 0; j0 < m; j0 += SQUARE)
        for (ptrdiff_t i0 = 0; i0 < n; i0 += SQUARE)
            for (ptrdiff_t j = j0; j < j0 + SQUARE && j < m; j++) {
                const real *from = in + (order ? order[j] : j) * in_column;
                real *to = out + j * out_column;
                for (ptrdiff_t i = i0; i < i0 + SQUARE && i < n; i++)
                    to[i * out_row] = from[i * in_row];
            }
}

static void NAME(gather)(void *out, const void *in, ptrdiff_t row_stride, ptrdiff_t column_stride, const int64_t *order,
                         ptrdiff_t n, ptrdiff_t m)
{
    assert(n >= 0 && m >= 0 && (n == 0 || m == 0 || (out && in && out != in)));
    assert(nnk_labels_are_below(order, INT64_MAX, m));
    NAME(move)(out, 1, n, in, row_stride, column_stride, order, n, m);
}

static void NAME(scatter)(void *out, ptrdiff_t row_stride, ptrdiff_t column_stride, const void *in, ptrdiff_t n,
                          ptrdiff_t m)
{
    assert(n >= 0 && m >= 0 && (n == 0 || m == 0 || (out && in && out != in)));
    NAME(move)(out, row_stride, column_stride, in, 1, n, NULL, n, m);
}

static void NAME(scale)(void *x_, double a, ptrdiff_t count)
{
    real *x = x_;
    assert(count >= 0 && (x || !count));
    for (ptrdiff_t i = 0; i < count; i++)
        x[i] *= R(a);
}

static void NAME(add)(void *y_, const void *x_, ptrdiff_t count)
{
    real *y = y_;
    const real *x = x_;
    assert(count >= 0 && ((x && y && x != y) || !count));
    for (ptrdiff_t i = 0; i < count; i++)
        y[i] += x[i];
}

static double NAME(clip)(void *x_, double limit, ptrdiff_t count)
{
    real *x = x_;
    double squares = 0;
    assert(count >= 0 && (x || !count) && limit >= 0);
    for (ptrdiff_t i = 0; i < count; i += RUN * LANES) {
        vec sum = v_all(0);
        for (ptrdiff_t j = i; j < i + RUN * LANES && j < count; j += LANES) {
            const vec kept = v_bounded(v_first(x + j, count - j), R(-limit), R(limit));
            v_put(x + j, kept, count - j);
            sum += kept * kept;
        }
        squares += v_sum_double(sum);
    }
    return squares;
}

/* x - x is 0 for finite x and NaN otherwise; sums of such differences are looked at once a run */
static ptrdiff_t NAME(first_nonfinite)(const void *x_, ptrdiff_t count)
{
    const real *x = x_;
    ptrdiff_t i = 0;
    assert(count >= 0 && (x || !count));
    while (i + RUN * LANES <= count) {
        vec sum = v_all(0);
        for (int run = 0; run < RUN; run++) {
            const vec v = v_load(x + i + run * LANES);
            sum += v - v;
        }
        if (v_sum(sum) != 0)
            break;
        i += RUN * LANES;
    }
    while (i < count && x[i] - x[i] == 0)
        i++;
    return i;
}
