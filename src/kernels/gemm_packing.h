/* What the product copies on the way to the micro-kernel: panels of A (MR rows) and blocks of B into pack buffers, and
 * micro-tiles that were computed transposed back into C. Knows nothing of when that pays.
 */
#define pack_transposed_A NAME(pack_transposed_A)

/* panel (MR, kc) := the transpose of columns 0 … rows-1 and rows 0 … kc-1 of A, with zeros below up to whole vectors */
static void pack_transposed_A(real *panel, const real *A, ptrdiff_t lda, ptrdiff_t rows, ptrdiff_t kc)
{
    const vec zeros = v_all(0);
    assert(0 < rows && rows <= MR && 0 < kc && kc <= KC_PACKED);
    for (ptrdiff_t k = 0; k < kc; k += LANES)
        for (int v = 0; v * LANES < rows; v++) {
            const ptrdiff_t whole = kc - k < LANES ? kc - k : LANES;
            vec square[LANES];
            for (int i = 0; i < LANES; i++) {
                const real *from = A + (v * LANES + i) * lda + k;
                __builtin_prefetch(from + MR * lda, 0, 2);
                if (v * LANES + i >= rows)
                    square[i] = zeros;
                else
                    square[i] = whole < LANES ? v_load_first(from, whole, 0) : v_load(from);
            }
            transpose_square(square);
            for (int i = 0; i < whole; i++)
                v_store(panel + (k + i) * MR + v * LANES, square[i]);
        }
}

/* panel (MR, kc) := rows 0 … rows-1 and columns 0 … kc-1 of A */
NNK_INLINE void NAME(pack_A)(real *panel, const real *A, ptrdiff_t lda, ptrdiff_t rows, ptrdiff_t kc)
{
    assert(0 < rows && rows <= MR && 0 < kc && kc <= KC_PACKED);
    for (ptrdiff_t k = 0; k < kc; k++)
        for (int v = 0; v * LANES < rows; v++) {
            __builtin_prefetch(A + k * lda + MR + v * LANES, 0, 2);
            v_put(panel + k * MR + v * LANES, v_first(A + k * lda + v * LANES, rows - v * LANES), rows - v * LANES);
        }
}

/* packed (kc, nc) := a block of B, in columns CS_PACKED apart or, where its rows are contiguous, in rows RS_PACKED apart */
static void NAME(pack_B)(real *packed, const real *B, ptrdiff_t rs_b, ptrdiff_t cs_b, ptrdiff_t kc, ptrdiff_t nc)
{
    assert(packed && (uintptr_t)packed % 64 == 0 && 0 < kc && kc <= KC_PACKED && 0 < nc && nc <= NC_PACKED);
    if (cs_b == 1)
        for (ptrdiff_t k = 0; k < kc; k++)
            memcpy(packed + k * RS_PACKED, B + k * rs_b, (size_t)nc * sizeof(real));
    else if (rs_b == 1)
        for (ptrdiff_t j = 0; j < nc; j++)
            memcpy(packed + j * CS_PACKED, B + j * cs_b, (size_t)kc * sizeof(real));
    else
        for (ptrdiff_t j = 0; j < nc; j++)
            for (ptrdiff_t k = 0; k < kc; k++)
                packed[j * CS_PACKED + k] = B[k * rs_b + j * cs_b];
}

/* C(i, p) := alpha T(p, i) + beta C(i, p) for `columns` columns i of a micro-tile T of `rows` rows p, leading dimension MR */
static void NAME(store_tile_transposed)(real *C, ptrdiff_t ldc, const real *T, real alpha, real beta, ptrdiff_t rows,
                                        ptrdiff_t columns)
{
    assert(0 < rows && rows <= MR && 0 < columns && columns <= LANES);
    for (ptrdiff_t p = 0; p < rows; p += LANES) {
        vec square[LANES];
        for (int i = 0; i < LANES; i++)
            square[i] = i < columns ? v_load(T + i * MR + p) : v_all(0);
        transpose_square(square);
        for (int i = 0; i < LANES && p + i < rows; i++) {
            real *c = C + (p + i) * ldc;
            const vec old = beta != 0 ? beta * v_first(c, columns) : v_all(0);
            v_put(c, v_rounded(alpha * square[i]) + old, columns);
        }
    }
}
