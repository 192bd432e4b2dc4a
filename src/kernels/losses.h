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

/* `count` consecutive entries, weighted each by its own w[i] (w given) or all by `weight` */
NNK_INLINE double loss_run(int loss, real *A, real *dZ, const real *Z, const real *Y, const real *w, real weight,
                           real scale, real parameter, ptrdiff_t count)
{
    double cost = 0;
    ptrdiff_t i = 0;
    while (i + LANES <= count) {
        vec sum = v_all(0);
        for (int step = 0; step < RUN && i + LANES <= count; step++, i += LANES) {
            vec a, dz;
            const vec weights = w ? v_load(w + i) : v_all(weight);
            sum += weights * loss_of(loss, v_load(Z + i), v_load(Y + i), parameter, &a, &dz);
            v_store(A + i, a);
            v_store(dZ + i, weights * scale * dz);
        }
        cost += v_sum_double(sum);
    }
    if (i < count) {
        const ptrdiff_t k = count - i;
        vec a, dz;
        const vec weights = w ? v_load_first(w + i, k, 0) : v_all(weight);
        real l[LANES];
        const vec z = v_load_first(Z + i, k, 0), y = v_load_first(Y + i, k, 0);
        v_store(l, weights * loss_of(loss, z, y, parameter, &a, &dz));
        v_store_first(A + i, a, k);
        v_store_first(dZ + i, weights * scale * dz, k);
        for (ptrdiff_t lane = 0; lane < k; lane++)
            cost += l[lane];
    }
    return cost;
}

NNK_INLINE double loss_body(int loss, real *A, real *dZ, const real *Z, const real *Y, const real *w, real scale,
                            real parameter, ptrdiff_t n, ptrdiff_t m)
{
    if (!w)
        return loss_run(loss, A, dZ, Z, Y, NULL, R(1), scale, parameter, n * m);
    if (n == 1)
        return loss_run(loss, A, dZ, Z, Y, w, R(1), scale, parameter, m);
    double cost = 0;
    for (ptrdiff_t j = 0; j < m; j++)
        cost += loss_run(loss, A + j * n, dZ + j * n, Z + j * n, Y + j * n, NULL, w[j], scale, parameter, n);
    return cost;
}

#define ELEMENTWISE_LOSS(name, output, score, ...)                                                                     \
    static double NAME(name)(void *A, void *dZ, const void *Z, const void *Y, const int64_t *labels, const void *w,    \
                             double scale, double parameter, ptrdiff_t n, ptrdiff_t m)                                 \
    {                                                                                                                  \
        (void)labels;                                                                                                  \
        return loss_body(NNK_##name, A, dZ, Z, Y, w, R(scale), R(parameter), n, m);                                    \
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

/* `columns` <= LANES columns side by side, one a lane: A, dZ, and what their costs are made of */
static void NAME(cross_entropy_square)(real *A, real *dZ, const real *Z, const real *Y, const int64_t *labels,
                                       const real *w, real scale, real kept, real shared, real *sums, real *offsets,
                                       real *y_sums, ptrdiff_t n, ptrdiff_t columns)
{
    vec z[SQUARE_UNITS], e[SQUARE_UNITS], targets[SQUARE_UNITS], top, sum;
    vec offset = v_all(0), y_sum = v_all(0);
    const vec weight = (w ? v_first(w, columns) : v_all(1)) * scale;
    ivec label = (ivec)v_all(0);
    NAME(exp_square)(z, e, &top, &sum, Z, n, NULL, n, columns);
    if (Y)
        turn_in(targets, Y, n, n, columns);
    else
        for (int c = 0; c < columns; c++)
            label[c] = (integer)labels[c];
    const vec inverse = R(1) / sum;
    for (ptrdiff_t i = 0; i < n; i++) {
        const vec is = Y ? targets[i] : v_select((ivec)(label == (integer)i), v_all(1), v_all(0)), y = kept * is + shared;
        e[i] *= inverse;
        offset += NAME(offset_of)(y, z[i], top);
        y_sum += y;
        z[i] = (e[i] - y) * weight;
    }
    turn_out(A, n, e, n, columns);
    turn_out(dZ, n, z, n, columns);
    v_put(sums, sum, columns);
    v_put(offsets, offset, columns);
    v_put(y_sums, y_sum, columns);
}

/* one column of at most one vector */
NNK_INLINE void NAME(cross_entropy_vector)(real *a, real *dz, const real *z_, const real *y_, integer label, real weight,
                                           real kept, real shared, real *sum_, real *offset, real *y_sum, ptrdiff_t n)
{
    vec z, e, top, sum;
    NAME(exp_vector)(&z, &e, &top, &sum, z_, v_all(0), n);
    const vec p = e * (R(1) / sum), y = NAME(targets_at)(y_, label, kept, shared, 0, n);
    *sum_ = sum[0];
    *offset = v_sum(NAME(offset_of)(y, v_keep_first(z, n), top));
    *y_sum = v_sum(y);
    v_put(a, p, n);
    v_put(dz, (p - y) * weight, n);
}

/* one column of any length, in three passes */
static void NAME(cross_entropy_column)(real *a, real *dz, const real *z, const real *y, integer label, real weight,
                                       real kept, real shared, real *sum, real *offset, real *y_sum, ptrdiff_t n)
{
    real z_max;
    vec offsets = v_all(0), ys = v_all(0);
    memcpy(dz, z, (size_t)n * sizeof(real)); /* a may be z: dz holds it until it is overwritten below */
    *sum = NAME(exp_column)(a, z, NULL, &z_max, n);
    const real inverse = R(1) / *sum;
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        const ptrdiff_t k = n - i;
        const vec p = v_first(a + i, k) * inverse, y_i = NAME(targets_at)(y, label, kept, shared, i, k);
        offsets += NAME(offset_of)(y_i, v_first(dz + i, k), v_all(z_max));
        ys += y_i;
        v_put(a + i, p, k);
        v_put(dz + i, (p - y_i) * weight, k);
    }
    *offset = v_sum(offsets);
    *y_sum = v_sum(ys);
}

/* L = -Σ_k y_k log ŷ_k = Σ_k y_k (log Σ e^z - z_k), ŷ = softmax z; with label smoothing ε, (1 - ε) y + ε / n stands for y
 * (Szegedy et al. 2016, section 7). The logarithms of CE_COLUMNS examples are taken
 * together, so that the vectors are full whatever n is. */
#define CE_COLUMNS 64
static double NAME(cross_entropy)(void *A_, void *dZ_, const void *Z_, const void *Y_, const int64_t *labels,
                                  const void *w_, double scale, double smoothing, ptrdiff_t n, ptrdiff_t m)
{
    const real kept = R(1 - smoothing), shared = R(smoothing / (double)n);
    double cost = 0;
    for (ptrdiff_t first = 0; first < m; first += CE_COLUMNS) {
        const ptrdiff_t columns = m - first < CE_COLUMNS ? m - first : CE_COLUMNS;
        real *A = (real *)A_ + first * n, *dZ = (real *)dZ_ + first * n;
        const real *Z = (const real *)Z_ + first * n, *Y = labels ? NULL : (const real *)Y_ + first * n;
        const real *w = w_ ? (const real *)w_ + first : NULL;
        const int64_t *label = labels ? labels + first : NULL;
        /* per example: Σ e^(z - z_max), then its logarithm; and Σ_k y_k (z_max - z_k), Σ_k y_k */
        real sums[CE_COLUMNS], offset[CE_COLUMNS], y_sum[CE_COLUMNS];
        for (ptrdiff_t c = 0; c < CE_COLUMNS; c++)
            sums[c] = 1;
        ptrdiff_t c = 0;
        while (n <= SQUARE_UNITS && c + SQUARE_LEAST <= columns) {
            const ptrdiff_t some = columns - c < LANES ? columns - c : LANES;
            NAME(cross_entropy_square)(A + c * n, dZ + c * n, Z + c * n, Y ? Y + c * n : NULL, label ? label + c : NULL,
                                       w ? w + c : NULL, R(scale), kept, shared, sums + c, offset + c, y_sum + c, n, some);
            c += some;
        }
        for (; c < columns; c++) {
            const real *y = Y ? Y + c * n : NULL;
            const real weight = (w ? w[c] : R(1)) * R(scale);
            const integer is = label ? (integer)label[c] : 0;
            if (n <= LANES)
                NAME(cross_entropy_vector)(A + c * n, dZ + c * n, Z + c * n, y, is, weight, kept, shared, sums + c,
                                           offset + c, y_sum + c, n);
            else
                NAME(cross_entropy_column)(A + c * n, dZ + c * n, Z + c * n, y, is, weight, kept, shared, sums + c,
                                           offset + c, y_sum + c, n);
        }
        for (c = 0; c < CE_COLUMNS; c += LANES)
            v_store(sums + c, v_log(v_load(sums + c)));
        for (c = 0; c < columns; c++)
            cost += (w ? w[c] : R(1)) * ((double)y_sum[c] * sums[c] + offset[c]);
    }
    return cost;
}
