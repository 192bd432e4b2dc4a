/* The checks of sparse.h's kernels, for one precision; kernels_checks.h includes it and says what it has. */

enum { NAME(SPARSE_ROWS) = 11, NAME(SPARSE_COLUMNS) = 7 };

/* W X and dW += alpha dZ Xᵀ for n units, of the examples 1 … or of all in another order, weights `pad` entries apart more */
static void NAME(check_sparse_of)(const nnk_columns *columns, long n, long pad, int ordered)
{
    const long k = NAME(SPARSE_ROWS), all = NAME(SPARSE_COLUMNS), m = ordered ? all : all - 1, ld = n + pad;
    long count = 0;
    int64_t starts[NAME(SPARSE_COLUMNS) + 1], order[NAME(SPARSE_COLUMNS)];
    /* the first example has no entry, the second all */
    for (long c = 0; c < all; c++) {
        starts[c] = count;
        for (long i = 0; i < k; i++)
            count += c == 1 || (c > 0 && (i + c) % 3 == 0);
        order[c] = all - 1 - c;
    }
    starts[all] = count;
    int64_t *const own_starts = take(FIFTH, sizeof starts);
    memcpy(own_starts, starts, sizeof starts);
    real *const values = NAME(take)(FIRST, count);
    int32_t *const rows = take(SECOND, (size_t)count * sizeof *rows);
    real *const W = NAME(take)(THIRD, (k - 1) * ld + n), *const out = NAME(take)(FOURTH, (m - 1) * ld + n);
    nnk_sparse X = {own_starts, rows, values, ordered ? order : NULL, ordered ? 0 : 1};
    long e = 0;
    for (long c = 0; c < all; c++)
        for (long i = 0; i < k; i++)
            if (c == 1 || (c > 0 && (i + c) % 3 == 0)) {
                rows[e] = (int32_t)i;
                values[e++] = (real)whole(i, c);
            }
    for (long i = 0; i < k; i++)
        for (long u = 0; u < n; u++)
            W[u + i * ld] = (real)small(u, i);
    columns->sum_sparse(out, ld, W, ld, &X, n, m);
    for (long j = 0; j < m; j++) {
        const long c = ordered ? order[j] : j + 1;
        for (long u = 0; u < n; u++) {
            double expected = 0;
            for (int64_t at = starts[c]; at < starts[c + 1]; at++)
                expected += (double)values[at] * (double)W[u + rows[at] * ld];
            compare("W X, X sparse", out[u + j * ld], expected, 0);
        }
    }
    NAME(check_beside)("beside W X, X sparse", FOURTH, n, ld);
    /* out holds dZ now, and W is added to */
    columns->add_to_sparse(W, ld, out, ld, 0.5, &X, n, m);
    for (long i = 0; i < k; i++)
        for (long u = 0; u < n; u++) {
            double expected = small(u, i);
            for (long j = 0; j < m; j++) {
                const long c = ordered ? order[j] : j + 1;
                for (int64_t at = starts[c]; at < starts[c + 1]; at++)
                    expected += rows[at] == i ? 0.5 * (double)values[at] * (double)out[u + j * ld] : 0;
            }
            compare("dZ X^T, X sparse", W[u + i * ld], expected, 0);
        }
    NAME(check_beside)("beside dZ X^T, X sparse", THIRD, n, ld);
}

static void NAME(check_sparse)(const nnk_tables *tables)
{
    const long sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 49, 63, 64, 65, 100, 130};
    for (int size = 0; size < COUNT(sizes); size++)
        for (int way = 0; way < 4; way++)
            NAME(check_sparse_of)(&tables->TABLE->columns, sizes[size], way & 1 ? 3 : 0, way >> 1);
}
