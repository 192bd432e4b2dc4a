/* The losses, fused with the output unit they are matched to: one pass over Z gives the cost, A and dZ.
 * Costs are summed in vectors of at most RUN entries a lane, these in double: the error doesn't grow with m.
 */
#define RUN 64

#define loss_of NAME(loss_of)
#define loss_body NAME(loss_body)
#define loss_run NAME(loss_run)

/* The loss of one entry: ŷ in *a, ∂L/∂z in *dz */
NNK_INLINE vec loss_of(int loss, vec z, vec y, vec *a, vec *dz)
{
    const vec zero = v_all(0);
    switch (loss) {
    case NNK_binary_cross_entropy: {
        /* -(y log a + (1 - y) log(1 - a)) = max(z, 0) - y z + log(1 + e^-|z|) */
        const vec e = v_exp(-v_abs(z));
        *a = v_select(v_less(z, zero), e, v_all(1)) / (R(1) + e);
        *dz = *a - y;
        return v_select(v_less(z, zero), zero, z) - y * z + v_log1p(e);
    }
    case NNK_squared_error:
        *a = z;
        *dz = z - y;
        return R(0.5) * (*dz * *dz);
    case NNK_absolute_error: {
        const vec d = z - y;
        *a = z;
        /* sign d; 0 where d is 0, NaN where it is NaN */
        *dz = v_select((ivec)(d == zero) | v_is_nan(d), d, v_copysign(v_all(1), d));
        return v_abs(d);
    }
    }
    return zero;
}

/* `count` consecutive entries, weighted each by its own w[i] (w given) or all by `weight` */
NNK_INLINE double loss_run(int loss, real *A, real *dZ, const real *Z, const real *Y, const real *w, real weight,
                           real scale, ptrdiff_t count)
{
    double cost = 0;
    ptrdiff_t i = 0;
    while (i + LANES <= count) {
        vec sum = v_all(0);
        for (int step = 0; step < RUN && i + LANES <= count; step++, i += LANES) {
            vec a, dz;
            const vec weights = w ? v_load(w + i) : v_all(weight);
            sum += weights * loss_of(loss, v_load(Z + i), v_load(Y + i), &a, &dz);
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
        v_store(l, weights * loss_of(loss, v_load_first(Z + i, k, 0), v_load_first(Y + i, k, 0), &a, &dz));
        v_store_first(A + i, a, k);
        v_store_first(dZ + i, weights * scale * dz, k);
        for (ptrdiff_t lane = 0; lane < k; lane++)
            cost += l[lane];
    }
    return cost;
}

NNK_INLINE double loss_body(int loss, real *A, real *dZ, const real *Z, const real *Y, const real *w, double scale,
                            ptrdiff_t n, ptrdiff_t m)
{
    if (!w)
        return loss_run(loss, A, dZ, Z, Y, NULL, R(1), R(scale), n * m);
    if (n == 1)
        return loss_run(loss, A, dZ, Z, Y, w, R(1), R(scale), m);
    double cost = 0;
    for (ptrdiff_t j = 0; j < m; j++)
        cost += loss_run(loss, A + j * n, dZ + j * n, Z + j * n, Y + j * n, NULL, w[j], R(scale), n);
    return cost;
}

#define ELEMENTWISE_LOSS(name)                                                                                         \
    static double NAME(name)(void *A, void *dZ, const void *Z, const void *Y, const void *w, double scale,             \
                             ptrdiff_t n, ptrdiff_t m)                                                                 \
    {                                                                                                                  \
        return loss_body(NNK_##name, A, dZ, Z, Y, w, scale, n, m);                                                     \
    }
ELEMENTWISE_LOSS(binary_cross_entropy)
ELEMENTWISE_LOSS(squared_error)
ELEMENTWISE_LOSS(absolute_error)
#undef ELEMENTWISE_LOSS

/* L = -Σ_k y_k log ŷ_k = Σ_k y_k (log Σ e^z - z_k), ŷ = softmax z. The logarithms of CE_COLUMNS examples are taken
 * together, so that the vectors are full whatever n is. */
#define CE_COLUMNS 64
static double NAME(cross_entropy)(void *A, void *dZ, const void *Z, const void *Y, const int64_t *labels,
                                  const void *w_, double scale, ptrdiff_t n, ptrdiff_t m)
{
    const real *w = w_;
    double cost = 0;
    for (ptrdiff_t first = 0; first < m; first += CE_COLUMNS) {
        const ptrdiff_t columns = m - first < CE_COLUMNS ? m - first : CE_COLUMNS;
        /* per example: Σ e^(z - z_max), then its logarithm; and Σ_k y_k (z_max - z_k), Σ_k y_k */
        real sums[CE_COLUMNS], offset[CE_COLUMNS], y_sum[CE_COLUMNS];
        for (ptrdiff_t c = 0; c < CE_COLUMNS; c++)
            sums[c] = 1;
        for (ptrdiff_t c = 0; c < columns; c++) {
            const ptrdiff_t j = first + c;
            const real *z = (const real *)Z + j * n;
            real *a = (real *)A + j * n, *dz = (real *)dZ + j * n, z_max;
            const real z_label = labels ? z[labels[j]] : 0; /* before A, which may be Z, is written */
            if (!labels)
                memcpy(dz, z, (size_t)n * sizeof(real)); /* likewise: dz holds z until it is overwritten below */
            sums[c] = NAME(exp_column)(a, z, NULL, &z_max, n);
            const real inverse = R(1) / sums[c], weight = R((w ? w[j] : R(1)) * scale);
            if (labels) {
                offset[c] = z_max - z_label;
                y_sum[c] = 1;
                ptrdiff_t i = 0;
                for (; i + LANES <= n; i += LANES) {
                    const vec p = v_load(a + i) * inverse;
                    v_store(a + i, p);
                    v_store(dz + i, p * weight);
                }
                if (i < n) {
                    const vec p = v_load_first(a + i, n - i, 0) * inverse;
                    v_store_first(a + i, p, n - i);
                    v_store_first(dz + i, p * weight, n - i);
                }
                dz[labels[j]] = (a[labels[j]] - R(1)) * weight;
            }
            else {
                const real *y = (const real *)Y + j * n;
                vec inner = v_all(0), total = v_all(0);
                ptrdiff_t i = 0;
                for (; i < n; i += LANES) {
                    const ptrdiff_t k = n - i;
                    const int whole = k >= LANES;
                    const vec p = (whole ? v_load(a + i) : v_load_first(a + i, k, 0)) * inverse;
                    const vec y_i = whole ? v_load(y + i) : v_load_first(y + i, k, 0);
                    const vec z_i = whole ? v_load(dz + i) : v_load_first(dz + i, k, z_max);
                    inner += v_select((ivec)(y_i == v_all(0)), v_all(0), y_i * (z_max - z_i));
                    total += y_i;
                    const vec d = (p - y_i) * weight;
                    if (whole) {
                        v_store(a + i, p);
                        v_store(dz + i, d);
                    }
                    else {
                        v_store_first(a + i, p, k);
                        v_store_first(dz + i, d, k);
                    }
                }
                offset[c] = v_sum(inner);
                y_sum[c] = v_sum(total);
            }
        }
        for (ptrdiff_t c = 0; c < CE_COLUMNS; c += LANES)
            v_store(sums + c, v_log(v_load(sums + c)));
        for (ptrdiff_t c = 0; c < columns; c++)
            cost += (w ? w[first + c] : R(1)) * ((double)y_sum[c] * sums[c] + offset[c]);
    }
    return cost;
}
