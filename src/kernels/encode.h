/* What a layer of encoders computes of numbers: features of one and a linear map of them, forward and backward.
 *
 * Features of a number that are mapped are computed for a vector of examples at a time, so that no lanes are added up
 * before the end; features that are outputs themselves, for a vector of features of one example.
 */
#define feature NAME(feature)
#define tile_columns NAME(tile_columns)
#define kept_tile NAME(kept_tile)

/* f and, of a periodic one, s = sin of its phase; w, b by lanes */
NNK_INLINE vec feature(const int periodic, vec x, vec w, vec b, vec *s)
{
    vec f;
    if (!periodic) {
        /* NaN stays NaN */
        f = v_bounded((x - w) * b, 0, 1);
        return f;
    }
    v_sincos(v_fma(w * R(6.283185307179586477), x, b), s, &f);
    return f;
}

/* The examples of the vector that begins with example j: all lanes, or those that are left */
NNK_INLINE ptrdiff_t tile_columns(ptrdiff_t j, ptrdiff_t m) { return m - j < LANES ? m - j : LANES; }

/* Entries that a number keeps of each example: features that are mapped, sines of their phases, the gradient by the mapped */
static ptrdiff_t NAME(number_kept)(const nnk_number *e)
{
    return e->units ? e->k * (e->periodic ? 2 : 1) + e->units : e->periodic ? e->k : 0;
}

/* What is kept of the examples of the vector that begins with example j. All numbers of a layer share a block of memory,
 * vector of examples by vector, so that it can be cut where one begins. */
NNK_INLINE real *kept_tile(const nnk_number *e, void *kept, ptrdiff_t j, ptrdiff_t m)
{
    return (real *)kept + j * e->kept_of_all + tile_columns(j, m) * e->kept_at;
}

NNK_INLINE void NAME(encode_mapped)(const int periodic, const nnk_number *e, real *A, ptrdiff_t ld, void *kept,
                                    const real *x, ptrdiff_t column, ptrdiff_t m)
{
    const real *w = e->w, *b = e->b, *M = e->M;
    const ptrdiff_t k = e->k;
    for (ptrdiff_t j = 0; j < m; j += LANES) {
        const ptrdiff_t count = tile_columns(j, m);
        const vec x_j = strided_first(x + j * column, column, count);
        real *F = kept_tile(e, kept, j, m);
        for (ptrdiff_t i = 0; i < k; i++) {
            vec s = v_all(0);
            v_put(F + i * count, feature(periodic, x_j, v_all(w[i]), v_all(b[i]), &s), count);
            if (periodic)
                v_put(F + (k + i) * count, s, count);
        }
        for (ptrdiff_t u = 0; u < e->units; u++) {
            vec sum = v_all(M[u + k * e->units]);
            for (ptrdiff_t i = 0; i < k; i++)
                sum = v_fma(v_all(M[u + i * e->units]), v_first(F + i * count, count), sum);
            for (ptrdiff_t lane = 0; lane < count; lane++)
                A[u + (j + lane) * ld] = sum[lane];
        }
    }
}

NNK_INLINE void NAME(encode_features)(const int periodic, const nnk_number *e, real *A, ptrdiff_t ld, void *kept,
                                      const real *x, ptrdiff_t column, ptrdiff_t m)
{
    const real *w = e->w, *b = e->b;
    for (ptrdiff_t j = 0; j < m; j++) {
        real *S = periodic ? kept_tile(e, kept, j / LANES * LANES, m) + j % LANES * e->k : NULL;
        for (ptrdiff_t i = 0; i < e->k; i += LANES) {
            const ptrdiff_t left = e->k - i;
            vec s = v_all(0);
            v_put(A + i + j * ld, feature(periodic, v_all(x[j * column]), v_first(w + i, left), v_first(b + i, left), &s),
                  left);
            if (periodic)
                v_put(S + i, s, left);
        }
    }
}

/* The outputs of one number x, `column` entries apart: A (outputs, m), ld apart; `kept` takes number_kept entries an example */
static void NAME(encode_number)(const nnk_number *e, void *A_, ptrdiff_t ld, void *kept, const void *x_, ptrdiff_t column,
                                ptrdiff_t m)
{
    const real *x = x_;
    real *A = A_;
    assert(e->k >= 0 && e->units >= 0 && (e->k > 0 || !e->units) && (kept || !NAME(number_kept)(e)));
    if (e->keeps_x) {
        for (ptrdiff_t j = 0; j < m; j++)
            A[j * ld] = x[j * column];
        A++;
    }
    if (e->units && e->periodic)
        NAME(encode_mapped)(1, e, A, ld, kept, x, column, m);
    else if (e->units)
        NAME(encode_mapped)(0, e, A, ld, kept, x, column, m);
    else if (e->periodic)
        NAME(encode_features)(1, e, A, ld, kept, x, column, m);
    else
        NAME(encode_features)(0, e, A, ld, kept, x, column, m);
}

/* dM (units, k + 1) += dA [F; 1]ᵀ, and of a periodic one dw, db (k) += what comes through M */
NNK_INLINE void NAME(mapped_gradient)(const int periodic, const nnk_number *e, const nnk_number_gradient *to, void *kept,
                                      const real *x, ptrdiff_t column, ptrdiff_t m)
{
    const real *M = e->M;
    const ptrdiff_t k = e->k, units = e->units, at_dy = k * (periodic ? 2 : 1);
    real *dM = to->dM, *dw = to->dw, *db = to->db;
    for (ptrdiff_t i = 0; i < k; i++) {
        vec sum_w = v_all(0), sum_b = v_all(0);
        if (periodic) {
            for (ptrdiff_t j = 0; j < m; j += LANES) {
                const ptrdiff_t count = tile_columns(j, m);
                const real *tile = kept_tile(e, kept, j, m);
                vec d = v_all(0);
                for (ptrdiff_t u = 0; u < units; u++)
                    d = v_fma(v_all(M[u + i * units]), v_first(tile + (at_dy + u) * count, count), d);
                d *= -v_first(tile + (k + i) * count, count);
                sum_b += d;
                sum_w = v_fma(d, strided_first(x + j * column, column, count), sum_w);
            }
            dw[i] += R(6.283185307179586477) * v_sum(sum_w);
            db[i] += v_sum(sum_b);
        }
        for (ptrdiff_t u = 0; u < units; u++) {
            vec sum = v_all(0);
            for (ptrdiff_t j = 0; j < m; j += LANES) {
                const ptrdiff_t count = tile_columns(j, m);
                const real *tile = kept_tile(e, kept, j, m);
                sum = v_fma(v_first(tile + (at_dy + u) * count, count), v_first(tile + i * count, count), sum);
            }
            dM[u + i * units] += v_sum(sum);
        }
    }
    for (ptrdiff_t u = 0; u < units; u++) {
        vec sum = v_all(0);
        for (ptrdiff_t j = 0; j < m; j += LANES) {
            const ptrdiff_t count = tile_columns(j, m);
            sum += v_first(kept_tile(e, kept, j, m) + (at_dy + u) * count, count);
        }
        dM[u + k * units] += v_sum(sum);
    }
}

/* The gradients by the parameters of a number, added up over its m examples, from dA (outputs, m), ld apart, and what
 * encode_number kept; the order of the sums depends on m alone. */
static void NAME(encode_gradient)(const nnk_number *e, const nnk_number_gradient *to, const void *dA_, ptrdiff_t ld,
                                  void *kept, const void *x_, ptrdiff_t column, ptrdiff_t m)
{
    const real *x = x_, *dA = (const real *)dA_ + (e->keeps_x ? 1 : 0);
    const ptrdiff_t k = e->k, at_dy = k * (e->periodic ? 2 : 1);
    assert(kept || !NAME(number_kept)(e));
    if (!e->units && e->periodic) {
        real *dw = to->dw, *db = to->db;
        for (ptrdiff_t i = 0; i < k; i += LANES) {
            vec sum_w = v_all(0), sum_b = v_all(0);
            for (ptrdiff_t j = 0; j < m; j++) {
                const real *S = kept_tile(e, kept, j / LANES * LANES, m) + j % LANES * k;
                const vec d = -v_first(dA + i + j * ld, k - i) * v_first(S + i, k - i);
                sum_b += d;
                sum_w = v_fma(d, v_all(x[j * column]), sum_w);
            }
            v_put(dw + i, v_first(dw + i, k - i) + R(6.283185307179586477) * sum_w, k - i);
            v_put(db + i, v_first(db + i, k - i) + sum_b, k - i);
        }
    }
    if (!e->units)
        return;
    /* dA by vectors of examples, beside their features */
    for (ptrdiff_t j = 0; j < m; j += LANES) {
        const ptrdiff_t count = tile_columns(j, m);
        for (ptrdiff_t u = 0; u < e->units; u++)
            v_put(kept_tile(e, kept, j, m) + (at_dy + u) * count, strided_first(dA + u + j * ld, ld, count), count);
    }
    if (e->periodic)
        NAME(mapped_gradient)(1, e, to, kept, x, column, m);
    else
        NAME(mapped_gradient)(0, e, to, kept, x, column, m);
}
