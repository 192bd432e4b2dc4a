/* The sums of one precision: sums.c includes this file with REAL and NAME(x), x with the suffix of the precision. */

void NAME(nnk_score_argmax)(double *right, double *squares, const void *A, const void *Y, const int64_t *labels,
                            const void *w, ptrdiff_t n, ptrdiff_t m)
{
    const REAL *a = A, *y = Y;
    (void)squares;
    assert(right && a && (labels || y) && n > 0 && m >= 0);
    for (ptrdiff_t j = 0; j < m; j++, a += n) {
        ptrdiff_t best = 0, true_label = 0;
        for (ptrdiff_t i = 1; i < n; i++)
            if (a[i] > a[best])
                best = i;
        if (labels)
            true_label = (ptrdiff_t)labels[j];
        else {
            for (ptrdiff_t i = 1; i < n; i++)
                if (y[i] > y[true_label])
                    true_label = i;
            y += n;
        }
        *right += best != true_label ? 0 : w ? ((const REAL *)w)[j] : 1;
    }
}

void NAME(nnk_score_sides)(double *right, double *squares, const void *A, const void *Y, const int64_t *labels,
                           const void *w, ptrdiff_t n, ptrdiff_t m)
{
    const REAL *a = A, *y = Y;
    (void)squares, (void)labels;
    assert(right && a && y && !labels && n > 0 && m >= 0);
    for (ptrdiff_t j = 0; j < m; j++, a += n, y += n) {
        int all = 1;
        for (ptrdiff_t i = 0; i < n; i++)
            all &= (a[i] > 0.5) == (y[i] > 0.5);
        *right += !all ? 0 : w ? ((const REAL *)w)[j] : 1;
    }
}

void NAME(nnk_score_squares)(double *right, double *squares, const void *A, const void *Y, const int64_t *labels,
                             const void *w, ptrdiff_t n, ptrdiff_t m)
{
    const REAL *a = A, *y = Y;
    (void)right, (void)labels;
    assert(squares && a && y && !labels && n > 0 && m >= 0);
    for (ptrdiff_t j = 0; j < m; j++, a += n, y += n) {
        const double weight = w ? ((const REAL *)w)[j] : 1;
        for (ptrdiff_t i = 0; i < n; i++) {
            const double d = (double)a[i] - y[i];
            squares[i] += weight * d * d;
        }
    }
}

double NAME(nnk_total)(const void *w_, const int64_t *order, ptrdiff_t first, ptrdiff_t count)
{
    const REAL *w = w_;
    double total = 0;
    assert(first >= 0 && count >= 0);
    if (!w)
        return (double)count;
    for (ptrdiff_t j = first; j < first + count; j++)
        total += w[order ? order[j] : j];
    return total;
}

void NAME(nnk_magnitudes)(const void *x_, ptrdiff_t count, double unit, double *largest, double *squares)
{
    const REAL *x = x_;
    assert(count >= 0 && (x || !count) && largest && squares);
    for (ptrdiff_t i = 0; i < count; i++) {
        const double size = fabs((double)x[i]);
        *largest = size > *largest ? size : *largest;
        *squares += (unit * x[i]) * (unit * x[i]);
    }
}

double NAME(nnk_penalty)(const void *W_, double l2, double l1, ptrdiff_t count)
{
    const REAL *W = W_;
    double squares = 0, sizes = 0;
    assert(count >= 0 && (W || !count));
    for (ptrdiff_t i = 0; i < count; i++) {
        squares += (double)W[i] * W[i];
        sizes += fabs((double)W[i]);
    }
    return l2 / 2 * squares + l1 * sizes;
}
