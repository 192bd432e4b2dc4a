/* The matrix product C (n, m) := alpha op(A) B + beta C: which way it goes, and the loops around the kernels.
 *
 * Rows are contiguous in C and in A: the micro-kernel reads A(:, k) as vectors and broadcasts B(k, j), at any strides of B.
 * So nothing needs packing in
 *
 *   forward            Z  = W A_prev          A = W,  B = A_prev
 *   weight gradient    dW = dZ A_prevᵀ        A = dZ, B = A_prevᵀ (its strides swapped)
 *
 * and in the input gradient, dA_prev = Wᵀ dZ, panels of Wᵀ are transposed on the way into a pack buffer.
 *
 * Rows that don't fill a vector are loaded and stored in part. Columns are dealt out evenly among the micro-tiles. A sum
 * longer than KC is cut, and its parts are added up in C. The order of summation depends on shapes only.
 */

/* SIMD utilisation of x entries, in the narrowest vectors that hold them */
NNK_INLINE double NAME(utilisation)(ptrdiff_t x)
{
    return (double)x / (double)((x + NARROWEST - 1) / NARROWEST * NARROWEST);
}

/* Whether neighbours so many entries apart share a set of L1 */
NNK_INLINE int NAME(collide)(ptrdiff_t stride) { return (size_t)stride * sizeof(real) % 4096 == 0; }

/* ---- which way a product goes: by the whole product, not by the part of it that is computed ---- */

NNK_INLINE int NAME(goes_transposed)(const nnk_product *p)
{
    return !p->transpose_a && p->cs_b == 1 && p->k >= TRANSPOSED_MIN_K && p->n <= NNK_FEW_ROWS &&
           NAME(utilisation)(p->n) < 0.93 * NAME(utilisation)(p->m);
}

/* Columns of B that share a set of the cache are best read along their length. */
NNK_INLINE int NAME(goes_by_inner_products)(const nnk_product *p)
{
    if (p->transpose_a)
        return p->rs_b == 1 && p->k >= IP_TRANSPOSED_MIN_K && p->k >= IP_TRANSPOSED_MIN_K_PER_COLUMN * p->m;
    return p->rs_b == 1 && p->k >= IP_MIN_K && p->n <= IP_MAX_N &&
           (NAME(utilisation)(p->n) <= 0.5 || NAME(collide)(p->cs_b));
}

NNK_INLINE int NAME(packs_B)(const nnk_product *p)
{
    return p->n >= PACK_B_MIN_N &&
           ((p->rs_b != 1 && p->cs_b != 1) || NAME(collide)(p->rs_b == 1 ? p->cs_b : p->rs_b));
}

NNK_INLINE int NAME(packs_A)(const nnk_product *p)
{
    return !p->transpose_a && p->m >= PACK_A_MIN_M && (size_t)p->lda * sizeof(real) >= 4096;
}

/* whether A is packed or transposed anew for each block of columns */
NNK_INLINE int NAME(repacks_A)(const nnk_product *p)
{
    return p->transpose_a || NAME(packs_A)(p) || NAME(goes_by_inner_products)(p) || NAME(goes_transposed)(p);
}

/* NC where B is read in place: all columns, or whole micro-tiles whose part of B stays in L2 while the panels of A pass */
NNK_INLINE ptrdiff_t NAME(nc_in_place)(const nnk_product *p)
{
    const ptrdiff_t kc = p->k < KC ? p->k : KC;
    if (kc * p->m * (ptrdiff_t)sizeof(real) <= B_BYTES)
        return p->m;
    const ptrdiff_t tiles = B_BYTES / (kc * (ptrdiff_t)sizeof(real)) / NR;
    return (tiles > NC_MIN_TILES ? tiles : NC_MIN_TILES) * NR;
}

/* Columns of C that, `rows` of each, had best be finished while they are in a cache, before the next are computed */
static ptrdiff_t NAME(gemm_block)(const nnk_product *p, ptrdiff_t rows)
{
    assert(rows > 0 && p->n > 0 && p->m >= 0 && p->k > 0);
    if (rows * p->m * (ptrdiff_t)sizeof(real) <= C_BYTES)
        return p->m;
    const int repacks = NAME(repacks_A)(p);
    const ptrdiff_t step = repacks ? MR : NR, least = repacks ? REPACKED_MIN_M : NC_MIN_TILES * NR;
    const ptrdiff_t most = repacks ? p->m : NAME(nc_in_place)(p);
    ptrdiff_t columns = (repacks ? REPACKED_C_BYTES : C_BYTES) / (rows * (ptrdiff_t)sizeof(real)) / step * step;
    columns = columns < most ? columns : most;
    return columns > least ? columns : least;
}

/* ---- the loops ---- */

/* Columns first … end-1 for few rows n that fill their vectors badly, where the rows of B are contiguous: the transpose is
 * computed, whose vectors run along these rows, and each micro-tile is transposed back. */
static void NAME(gemm_transposed)(const nnk_product *p, ptrdiff_t first, ptrdiff_t end, void *pack_buffer)
{
    real tile[LANES * MR] __attribute__((aligned(64)));
    const ptrdiff_t n = p->n, most = LANES < NR ? LANES : NR, tiles = (n + most - 1) / most;
    const int pack = tiles > 1 && NAME(collide)(p->rs_b);
    const ptrdiff_t kc_most = pack ? KC_PACKED : KC, nc_most = pack ? NC_PACKED : end - first;
    for (ptrdiff_t jc = first; jc < end; jc += nc_most)
        for (ptrdiff_t pc = 0; pc < p->k; pc += kc_most) {
            const ptrdiff_t kc = p->k - pc < kc_most ? p->k - pc : kc_most, nc = end - jc < nc_most ? end - jc : nc_most;
            const real beta = pc == 0 ? R(p->beta) : R(1), *B = (const real *)p->B + pc * p->rs_b + jc;
            ptrdiff_t rs_b = p->rs_b;
            if (pack) {
                NAME(pack_B)(pack_buffer, B, rs_b, 1, kc, nc);
                B = pack_buffer;
                rs_b = RS_PACKED;
            }
            for (ptrdiff_t j = 0, rows; j < nc; j += rows) {
                ptrdiff_t last;
                rows = NAME(micro_rows)(nc - j);
                const microkernel *of_columns = NAME(microkernels_of)(rows, &last);
                for (ptrdiff_t t = 0; t < tiles; t++) {
                    const ptrdiff_t i = t * n / tiles, columns = (t + 1) * n / tiles - i;
                    const micro_operands o = {tile, B + j, (const real *)p->A + i + pc * p->lda, MR, rs_b, p->lda, 1, 1, 0,
                                              kc};
                    of_columns[columns - 1](&o, last, 1);
                    NAME(store_tile_transposed)((real *)p->C + i + (jc + j) * p->ldc, p->ldc, tile, R(p->alpha), beta, rows,
                                           columns);
                }
            }
        }
}

/* Rows `row` … row_end-1 and columns first … end-1 of C. The order of summation depends on the whole product only, so that
 * C may be computed in any parts; where the rows are few, in columns only. */
static void NAME(gemm)(const nnk_product *p, ptrdiff_t row, ptrdiff_t row_end, ptrdiff_t first, ptrdiff_t end,
                       void *pack_buffer)
{
    assert(p->k > 0 && NNK_IS_MATRIX(p->C, p->ldc, p->n, p->m) && p->B && p->C != p->A && p->C != p->B);
    assert(NNK_IS_MATRIX(p->A, p->lda, p->transpose_a ? p->k : p->n, p->transpose_a ? p->n : p->k));
    assert(0 <= row && row <= row_end && row_end <= p->n && 0 <= first && first <= end && end <= p->m);
    if (NAME(goes_transposed)(p)) {
        assert(row == 0 && row_end == p->n);
        NAME(gemm_transposed)(p, first, end, pack_buffer);
        return;
    }
    if (NAME(goes_by_inner_products)(p)) {
        NAME(gemm_inner_product)(p, row, row_end, first, end);
        return;
    }
    real panel[KC_PACKED * MR] __attribute__((aligned(64)));
    const int pack_b = NAME(packs_B)(p), pack_a = NAME(packs_A)(p);
    const ptrdiff_t kc_most = p->transpose_a || pack_b || pack_a ? KC_PACKED : KC;
    const ptrdiff_t nc_most = pack_b ? NC_PACKED : NAME(repacks_A)(p) ? end - first : NAME(nc_in_place)(p);
    for (ptrdiff_t jc = first; jc < end; jc += nc_most) {
        const ptrdiff_t nc = end - jc < nc_most ? end - jc : nc_most;
        for (ptrdiff_t pc = 0; pc < p->k; pc += kc_most) {
            const ptrdiff_t kc = p->k - pc < kc_most ? p->k - pc : kc_most;
            micro_operands o = {NULL, panel, (const real *)p->B + pc * p->rs_b + jc * p->cs_b, p->ldc, MR, p->rs_b, p->cs_b,
                                R(p->alpha), pc == 0 ? R(p->beta) : R(1), kc};
            if (pack_b) {
                NAME(pack_B)(pack_buffer, o.B, o.rs_b, o.cs_b, kc, nc);
                o.B = pack_buffer;
                o.rs_b = p->cs_b == 1 ? RS_PACKED : 1;
                o.cs_b = p->cs_b == 1 ? 1 : CS_PACKED;
            }
            for (ptrdiff_t i = row, rows; i < row_end; i += rows) {
                const real *A = (const real *)p->A + (p->transpose_a ? i * p->lda + pc : i + pc * p->lda);
                rows = NAME(micro_rows)(row_end - i);
                if (p->transpose_a)
                    pack_transposed_A(panel, A, p->lda, rows, kc);
                else if (pack_a)
                    NAME(pack_A)(panel, A, p->lda, rows, kc);
                else {
                    o.A = A;
                    o.lda = p->lda;
                }
                o.C = (real *)p->C + i + jc * p->ldc;
                NAME(macro_kernel)(&o, rows, nc);
            }
        }
    }
}
