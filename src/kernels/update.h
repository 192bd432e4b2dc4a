/* The updates of updates.def: one loop over a block of θ, its gradient and the optimizer's state. The penalty's gradient
 * and value are taken in the same pass.
 */
#define update_vec NAME(update_vec)
#define update_body NAME(update_body)

/* θ, the optimizer's state and the gradient, and the numbers of the step: a copy, which no store into θ can change, so that
 * they stay in registers */
typedef struct {
    real *theta, *s1, *s2, *dtheta;
    nnk_step step;
} NAME(update_operands);
#define update_operands NAME(update_operands)

/* The vector (its first k lanes) at entry i. Adds θ² to *squares and |θ| to *sizes where `penalised`. */
NNK_INLINE void update_vec(int update, int penalised, const update_operands *o, ptrdiff_t i, ptrdiff_t k, vec *squares,
                           vec *sizes)
{
    const nnk_step *step = &o->step;
    real *theta = o->theta, *s1 = o->s1, *s2 = o->s2, *dtheta = o->dtheta;
    const real rate = R(step->rate), inertia = R(step->inertia), eps = R(step->eps);
    const real fresh1 = R(1 - step->beta1), beta2 = R(step->beta2), fresh2 = R(1 - step->beta2);
    const vec old = v_first(theta + i, k);
    vec g = v_first(dtheta + i, k);
    if (penalised) {
        const vec sign = v_select((ivec)(old == v_all(0)), old, v_copysign(v_all(1), old));
        *squares += old * old;
        *sizes += v_abs(old);
        g += R(step->l2) * old + R(step->l1) * sign;
    }
    const vec x = update == NNK_adam ? old * R(step->shrink) : old;
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wswitch"
    switch ((enum nnk_update)update) {
    case NNK_penalise:
        v_put(dtheta + i, g, k);
        return;
    case NNK_sgd:
        v_put(theta + i, x - rate * g, k);
        return;
    case NNK_momentum:
    case NNK_nesterov: {
        const vec v = inertia * v_first(s1 + i, k) - rate * g;
        v_put(s1 + i, v, k);
        v_put(theta + i, x + (update == NNK_nesterov ? inertia * v - rate * g : v), k);
        return;
    }
    case NNK_adam: {
        const vec first = v_first(s1 + i, k), second = v_first(s2 + i, k);
        const vec m1 = first + fresh1 * (g - first), m2 = beta2 * second + fresh2 * (g * g);
        v_put(s1 + i, m1, k);
        v_put(s2 + i, m2, k);
        v_put(theta + i, x - rate * (m1 / (v_sqrt(m2) * R(1 / step->root) + eps)), k);
        return;
    }
    case NNK_rmsprop:
    case NNK_adagrad: {
        const vec second = v_first(s2 + i, k);
        const vec sum = update == NNK_adagrad ? second + g * g : beta2 * second + fresh2 * (g * g);
        v_put(s2 + i, sum, k);
        v_put(theta + i, x - rate * (g / (v_sqrt(sum) + eps)), k);
        return;
    }
    case NNK_UPDATES: return;
    }
#pragma GCC diagnostic pop
}

/* Columns of n contiguous entries, ld apart. The penalties' sums are closed after each run of vectors. */
NNK_INLINE double update_body(int update, int penalised, update_operands o, ptrdiff_t n, ptrdiff_t m, ptrdiff_t ld)
{
    double squares = 0, sizes = 0;
    if (ld == n) {
        n *= m;
        m = 1;
    }
    for (ptrdiff_t j = 0; j < m; j++) {
        ptrdiff_t i = j * ld;
        const ptrdiff_t end = i + n;
        while (i < end) {
            vec squares_run = v_all(0), sizes_run = v_all(0);
            for (int run = 0; run < RUN && i + LANES <= end; run++, i += LANES)
                update_vec(update, penalised, &o, i, LANES, &squares_run, &sizes_run);
            if (i < end && i + LANES > end) {
                update_vec(update, penalised, &o, i, end - i, &squares_run, &sizes_run);
                i = end;
            }
            if (penalised) {
                squares += v_sum_double(squares_run);
                sizes += v_sum_double(sizes_run);
            }
        }
    }
    return o.step.l2 / 2 * squares + o.step.l1 * sizes;
}

#define UPDATE(name, has_s1, has_s2)                                                                                   \
    static double NAME(name)(void *theta, void *s1, void *s2, void *dtheta, const nnk_step *step, ptrdiff_t n,         \
                             ptrdiff_t m, ptrdiff_t ld)                                                                \
    {                                                                                                                  \
        assert(NNK_IS_MATRIX(dtheta, ld, n, m) && NNK_IS_MATRIX(theta, ld, n, m) && theta != dtheta);                  \
        assert(n == 0 || m == 0 || ((s1 || !has_s1) && (s2 || !has_s2)));                                              \
        const update_operands o = {theta, s1, s2, dtheta, *step};                                                      \
        if (step->l2 != 0 || step->l1 != 0)                                                                            \
            return update_body(NNK_##name, 1, o, n, m, ld);                                                            \
        return update_body(NNK_##name, 0, o, n, m, ld);                                                                \
    }
#include "kernels/updates.def"
#undef UPDATE
