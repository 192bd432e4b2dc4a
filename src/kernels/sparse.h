/* Products with a sparse matrix X (k, m) of which only the entries that aren't zero are kept, column by column: nnk_sparse.
 *
 * Each entry picks a column of W or dW, as codes do, and multiplies it. In the variants for bfloat16 the operands are rounded
 * as those of any other product.
 */
enum { NAME(SPARSE_VECTORS) = 4 }; /* whose sums stay in registers while the entries of an example are gone through */

/* Which column of X is that of example j */
NNK_INLINE ptrdiff_t NAME(sparse_column)(const nnk_sparse *X, ptrdiff_t j)
{
    return X->order ? (ptrdiff_t)X->order[j] : X->first + j;
}

/* out (k) := Σ_e x_e W[:k, row_e] over the entries begin … end - 1; k in the last of so many vectors */
NNK_INLINE void NAME(sum_entries)(const int vectors, const int rounds, real *out, const real *W, ptrdiff_t ldw,
                                  const nnk_sparse *X, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t k)
{
    const real *x = X->values;
    vec sums[NAME(SPARSE_VECTORS)];
    for (int v = 0; v < vectors; v++)
        sums[v] = v_all(0);
    for (ptrdiff_t e = begin; e < end; e++) {
        const vec factor = operand(rounds, v_all(x[e]));
        const real *w = W + X->rows[e] * ldw;
        for (int v = 0; v < vectors; v++)
            sums[v] = v_fma(factor, operand(rounds, v_first(w + v * LANES, k - v * LANES)), sums[v]);
    }
    for (int v = 0; v < vectors; v++)
        v_put(out + v * LANES, sums[v], k - v * LANES);
}

NNK_INLINE void NAME(sum_sparse_any)(const int rounds, real *out, ptrdiff_t ldo, const real *W, ptrdiff_t ldw,
                                     const nnk_sparse *X, ptrdiff_t n, ptrdiff_t m)
{
    const ptrdiff_t most = NAME(SPARSE_VECTORS) * LANES;
    assert(n >= 0 && m >= 0 && X->starts && X->rows && (ldo >= n || m <= 1) && ldw >= n);
    for (ptrdiff_t j = 0; j < m; j++) {
        const ptrdiff_t at = NAME(sparse_column)(X, j), begin = (ptrdiff_t)X->starts[at], end = (ptrdiff_t)X->starts[at + 1];
        real *to = out + j * ldo;
        ptrdiff_t i = 0;
        for (; i + most <= n; i += most)
            NAME(sum_entries)(NAME(SPARSE_VECTORS), rounds, to + i, W + i, ldw, X, begin, end, most);
        const ptrdiff_t left = n - i;
        if (left > 3 * LANES)
            NAME(sum_entries)(4, rounds, to + i, W + i, ldw, X, begin, end, left);
        else if (left > 2 * LANES)
            NAME(sum_entries)(3, rounds, to + i, W + i, ldw, X, begin, end, left);
        else if (left > LANES)
            NAME(sum_entries)(2, rounds, to + i, W + i, ldw, X, begin, end, left);
        else if (left > 0)
            NAME(sum_entries)(1, rounds, to + i, W + i, ldw, X, begin, end, left);
    }
}

NNK_INLINE void NAME(add_sparse_any)(const int rounds, real *dW, ptrdiff_t ldw, const real *dZ, ptrdiff_t ldz, double alpha,
                                     const nnk_sparse *X, ptrdiff_t n, ptrdiff_t m)
{
    const real *x = X->values;
    assert(n >= 0 && m >= 0 && X->starts && X->rows && (ldz >= n || m <= 1) && ldw >= n);
    for (ptrdiff_t j = 0; j < m; j++) {
        const ptrdiff_t at = NAME(sparse_column)(X, j), end = (ptrdiff_t)X->starts[at + 1];
        for (ptrdiff_t e = (ptrdiff_t)X->starts[at]; e < end; e++) {
            const vec factor = v_all(R(alpha)) * operand(rounds, v_all(x[e]));
            real *to = dW + X->rows[e] * ldw;
            for (ptrdiff_t i = 0; i < n; i += LANES) {
                const vec dz = operand(rounds, v_first(dZ + i + j * ldz, n - i));
                v_put(to + i, v_fma(factor, dz, v_first(to + i, n - i)), n - i);
            }
        }
    }
}

/* The two of nnk_columns */
#define SPARSE_COLUMNS(name, rounds)                                                                                   \
    static void NAME(sum_##name)(void *out, ptrdiff_t ldo, const void *W, ptrdiff_t ldw, const nnk_sparse *X,           \
                                 ptrdiff_t n, ptrdiff_t m)                                                             \
    {                                                                                                                  \
        NAME(sum_sparse_any)(rounds, out, ldo, W, ldw, X, n, m);                                                       \
    }                                                                                                                  \
    static void NAME(add_to_##name)(void *dW, ptrdiff_t ldw, const void *dZ, ptrdiff_t ldz, double alpha,              \
                                    const nnk_sparse *X, ptrdiff_t n, ptrdiff_t m)                                     \
    {                                                                                                                  \
        NAME(add_sparse_any)(rounds, dW, ldw, dZ, ldz, alpha, X, n, m);                                                \
    }
SPARSE_COLUMNS(sparse, 0)
#if REAL_BITS == 32
SPARSE_COLUMNS(rounded_sparse, 1)
#endif
#undef SPARSE_COLUMNS
