/* The losses, fused with the output unit they are matched to: one pass over Z gives the cost, A and dZ.
 * Costs are summed in vectors of at most RUN entries a lane, these in double: the error doesn't grow with m.
 */
#define RUN 64

#define loss_of NAME(loss_of)
#define loss_body NAME(loss_body)
#define loss_run NAME(loss_run)

/* The loss of one entry: ŷ in *a, ∂L/∂z in *dz */
NNK_INLINE vec loss_of(int loss, vec z, vec y, real parameter, vec *a, vec *dz)
{
    const vec zero = v_all(0);
    (void)parameter;
    switch (loss) {
#define ELEMENTWISE_LOSS(name, output, score, ...)                                                                     \
    case NNK_##name:                                                                                                   \
        __VA_ARGS__
#define COLUMNWISE_LOSS(name, output, score)
#include "kernels/losses.def"
#undef ELEMENTWISE_LOSS
#undef COLUMNWISE_LOSS
    }
    return zero;
}

/* What a loss reads and writes (nnk.h), from some entry on */
typedef struct {
    real *A, *dZ;
    const real *Z, *Y;
    real scale, parameter;
} NAME(loss_operands);
#define loss_operands NAME(loss_operands)

/* One vector from entry i on, or its first k lanes: A and dZ, and returns the weighted losses */
NNK_INLINE vec NAME(loss_vector)(int loss, loss_operands o, vec weights, ptrdiff_t i, ptrdiff_t k)
{
    vec a, dz;
    const vec losses = weights * loss_of(loss, v_first(o.Z + i, k), v_first(o.Y + i, k), o.parameter, &a, &dz);
    v_put(o.A + i, a, k);
    v_put(o.dZ + i, weights * o.scale * dz, k);
    return losses;
}

/* `count` consecutive entries, weighted each by its own w[i] (w given) or all by `weight` */
NNK_INLINE double loss_run(int loss, loss_operands o, const real *w, real weight, ptrdiff_t count)
{
    double cost = 0;
    ptrdiff_t i = 0;
    while (i + LANES <= count) {
        vec sum = v_all(0);
        for (int step = 0; step < RUN && i + LANES <= count; step++, i += LANES)
            sum += NAME(loss_vector)(loss, o, w ? v_load(w + i) : v_all(weight), i, LANES);
        cost += v_sum_double(sum);
    }
    if (i < count) {
        const ptrdiff_t k = count - i;
        real l[LANES];
        v_store(l, NAME(loss_vector)(loss, o, w ? v_load_first(w + i, k, 0) : v_all(weight), i, k));
        for (ptrdiff_t lane = 0; lane < k; lane++)
            cost += l[lane];
    }
    return cost;
}

NNK_INLINE double loss_body(int loss, loss_operands o, const real *w, ptrdiff_t n, ptrdiff_t m)
{
    if (!w)
        return loss_run(loss, o, NULL, R(1), n * m);
    if (n == 1)
        return loss_run(loss, o, w, R(1), m);
    double cost = 0;
    for (ptrdiff_t j = 0; j < m; j++, o.A += n, o.dZ += n, o.Z += n, o.Y += n)
        cost += loss_run(loss, o, NULL, w[j], n);
    return cost;
}

#define ELEMENTWISE_LOSS(name, output, score, ...)                                                                     \
    static double NAME(name)(void *A, void *dZ, const void *Z, const void *Y, const int64_t *labels, const void *w,    \
                             double scale, double parameter, ptrdiff_t n, ptrdiff_t m)                                 \
    {                                                                                                                  \
        (void)labels;                                                                                                  \
        assert(n > 0 && m >= 0 && (m == 0 || (A && dZ && Z && Y)) && dZ != A && dZ != Z);                              \
        return loss_body(NNK_##name, (loss_operands){A, dZ, Z, Y, R(scale), R(parameter)}, w, n, m);                   \
    }
#define COLUMNWISE_LOSS(name, output, score)
#include "kernels/losses.def"
#undef ELEMENTWISE_LOSS
#undef COLUMNWISE_LOSS

/* y_i … of one example, smoothed: kept y + shared; from Y, or from its label; the first k lanes count */
NNK_INLINE vec NAME(targets_at)(const real *y, integer label, real kept, real shared, ptrdiff_t i, ptrdiff_t k)
{
    const vec shares = v_keep_first(v_all(shared), k);
    if (y)
        return kept * v_first(y + i, k) + shares;
    ivec lanes;
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = lane;
    return v_select((ivec)(lanes == label - (integer)i), v_all(kept), v_all(0)) + shares;
}

/* y (z_max - z), 0 where y is: also where z is -inf */
NNK_INLINE vec NAME(offset_of)(vec y, vec z, vec z_max)
{
    return v_select((ivec)(y == v_all(0)), v_all(0), y * (z_max - z));
}

/* The cross-entropy of examples from some one on: n outputs each, targets in Y or labels (the other is NULL), w or NULL; per
 * example Σ e^(z - z_max), Σ_k y_k (z_max - z_k), Σ_k y_k */
typedef struct {
    real *A, *dZ;
    const real *Z, *Y;
    const int64_t *labels;
    const real *w;
    real scale, kept, shared;
    real *sums, *offsets, *y_sums;
    ptrdiff_t n;
} NAME(ce_operands);
#define ce_operands NAME(ce_operands)

NNK_INLINE ce_operands NAME(ce_from)(ce_operands o, ptrdiff_t example)
{
    o.A += example * o.n;
    o.dZ += example * o.n;
    o.Z += example * o.n;
    o.Y = o.Y ? o.Y + example * o.n : NULL;
    o.labels = o.labels ? o.labels + example : NULL;
    o.w = o.w ? o.w + example : NULL;
    o.sums += example;
    o.offsets += example;
    o.y_sums += example;
    return o;
}

/* `columns` <= LANES columns side by side, one a lane */
static void NAME(cross_entropy_square)(const ce_operands *o, ptrdiff_t columns)
{
    const ptrdiff_t n = o->n;
    vec z[SQUARE_UNITS], e[SQUARE_UNITS], targets[SQUARE_UNITS], top, sum;
    vec offset = v_all(0), y_sum = v_all(0);
    const vec weight = (o->w ? v_first(o->w, columns) : v_all(1)) * o->scale;
    ivec label = (ivec)v_all(0);
    NAME(exp_square)(z, e, &top, &sum, (NAME(read)){o->Z, n}, NULL, n, columns);
    if (o->Y)
        load_transposed(targets, o->Y, n, n, columns);
    else
        for (int c = 0; c < columns; c++)
            label[c] = (integer)o->labels[c];
    const vec inverse = R(1) / sum;
    for (ptrdiff_t i = 0; i < n; i++) {
        const vec is = o->Y ? targets[i] : v_select((ivec)(label == (integer)i), v_all(1), v_all(0));
        const vec y = o->kept * is + o->shared;
        e[i] *= inverse;
        offset += NAME(offset_of)(y, z[i], top);
        y_sum += y;
        z[i] = (e[i] - y) * weight;
    }
    store_transposed(o->A, n, e, n, columns);
    store_transposed(o->dZ, n, z, n, columns);
    v_put(o->sums, sum, columns);
    v_put(o->offsets, offset, columns);
    v_put(o->y_sums, y_sum, columns);
}

/* one column of at most one vector */
NNK_INLINE void NAME(cross_entropy_vector)(const ce_operands *o, real weight, integer label)
{
    vec z, e, top, sum;
    NAME(exp_vector)(&z, &e, &top, &sum, o->Z, v_all(0), o->n);
    const vec p = e * (R(1) / sum), y = NAME(targets_at)(o->Y, label, o->kept, o->shared, 0, o->n);
    *o->sums = sum[0];
    *o->offsets = v_sum(NAME(offset_of)(y, v_keep_first(z, o->n), top));
    *o->y_sums = v_sum(y);
    v_put(o->A, p, o->n);
    v_put(o->dZ, (p - y) * weight, o->n);
}

/* one column of any length, in three passes */
static void NAME(cross_entropy_column)(const ce_operands *o, real weight, integer label)
{
    real *a = o->A, *dz = o->dZ, z_max;
    vec offsets = v_all(0), ys = v_all(0);
    memcpy(dz, o->Z, (size_t)o->n * sizeof(real)); /* A may be Z: dZ holds it until it is overwritten below */
    *o->sums = NAME(exp_column)(a, o->Z, NULL, &z_max, o->n);
    const real inverse = R(1) / *o->sums;
    for (ptrdiff_t i = 0; i < o->n; i += LANES) {
        const ptrdiff_t k = o->n - i;
        const vec p = v_first(a + i, k) * inverse, y = NAME(targets_at)(o->Y, label, o->kept, o->shared, i, k);
        offsets += NAME(offset_of)(y, v_first(dz + i, k), v_all(z_max));
        ys += y;
        v_put(a + i, p, k);
        v_put(dz + i, (p - y) * weight, k);
    }
    *o->offsets = v_sum(offsets);
    *o->y_sums = v_sum(ys);
}

/* L = -Σ_k y_k log ŷ_k = Σ_k y_k (log Σ e^z - z_k), ŷ = softmax z; with label smoothing ε, (1 - ε) y + ε / n takes the place
 * of y (Szegedy et al. 2016, section 7). The logarithms of CE_COLUMNS examples are taken together, so that the vectors are full
 * whatever n is. */
#define CE_COLUMNS 64
static double NAME(cross_entropy)(void *A, void *dZ, const void *Z, const void *Y, const int64_t *labels, const void *w,
                                  double scale, double smoothing, ptrdiff_t n, ptrdiff_t m)
{
    real sums[CE_COLUMNS], offsets[CE_COLUMNS], y_sums[CE_COLUMNS];
    const ce_operands all = {A, dZ, Z, labels ? NULL : Y, labels, w, R(scale), R(1 - smoothing), R(smoothing / (double)n),
                             sums, offsets, y_sums, n};
    double cost = 0;
    assert(n > 0 && m >= 0 && (m == 0 || (A && dZ && Z && (Y || labels))) && dZ != A && dZ != Z);
    assert(nnk_labels_are_below(labels, n, m) && 0 <= smoothing && smoothing <= 1);
    for (ptrdiff_t first = 0; first < m; first += CE_COLUMNS) {
        const ptrdiff_t columns = m - first < CE_COLUMNS ? m - first : CE_COLUMNS;
        ce_operands block = NAME(ce_from)(all, first);
        block.sums = sums, block.offsets = offsets, block.y_sums = y_sums;
        for (ptrdiff_t c = 0; c < CE_COLUMNS; c++)
            sums[c] = 1;
        ptrdiff_t c = 0;
        while (n <= SQUARE_UNITS && c + SQUARE_LEAST <= columns) {
            const ptrdiff_t some = columns - c < LANES ? columns - c : LANES;
            const ce_operands o = NAME(ce_from)(block, c);
            NAME(cross_entropy_square)(&o, some);
            c += some;
        }
        for (; c < columns; c++) {
            const ce_operands o = NAME(ce_from)(block, c);
            const real weight = (o.w ? *o.w : R(1)) * o.scale;
            const integer label = o.labels ? (integer)*o.labels : 0;
            if (n <= LANES)
                NAME(cross_entropy_vector)(&o, weight, label);
            else
                NAME(cross_entropy_column)(&o, weight, label);
        }
        for (c = 0; c < CE_COLUMNS; c += LANES)
            v_store(sums + c, v_log(v_load(sums + c)));
        for (c = 0; c < columns; c++)
            cost += (block.w ? block.w[c] : R(1)) * ((double)y_sums[c] * sums[c] + offsets[c]);
    }
    return cost;
}
