/* The product of matrices that are rounded to bfloat16: C (n, m) := alpha op(A) B + beta C with the operands, float32 in memory,
 * rounded to nearest even, and float32 sums. A block of B and panels of A are packed (bf16_packing.h) and multiplied by
 *   NNK_BF16_TILES   tiles of AMX (amx_tiles.h)
 *   NNK_BF16_PAIRS   the micro-kernels with an instruction for pairs
 *   neither          the micro-kernels of float32
 * A product that is too small for that goes to float32's own kernels, whose operands aren't rounded. That choice, and the
 * order of summation, depend on the whole product's shape only.
 */

/* Packing costs n k + k m steps, multiplying n k m: the least n m / (n + m) for which the whole pays. Where nothing is gained
 * by rounding, what it costs is to be lost among the rest. */
#ifdef NNK_BF16_TILES
#define BF16_LEAST 20
#elif defined(NNK_BF16_PAIRS)
#define BF16_LEAST 16
#else
#define BF16_LEAST 96
#endif
#define BF16_MIN_K 16

NNK_INLINE int stays_float32(const nnk_product *p)
{
    return p->k < BF16_MIN_K || p->n * p->m < BF16_LEAST * (p->n + p->m) || (p->rs_b != 1 && p->cs_b != 1);
}

/* Entries of a panel that the kernel reads: tiles take whole squares, which end in zeros */
#ifdef NNK_BF16_TILES
#define PACKED_ENTRIES(terms) ((entries_of(terms) + LANES - 1) / LANES * LANES)
#else
#define PACKED_ENTRIES(terms) entries_of(terms)
#endif

/* Columns of C that had best be finished before the next */
static ptrdiff_t NAME(gemm_block_bf16)(const nnk_product *p, ptrdiff_t rows)
{
    if (stays_float32(p))
        return FLOAT32_GEMM_BLOCK(p, rows);
    return p->m < NC_REDUCED ? p->m : NC_REDUCED;
}

static void NAME(gemm_bf16)(const nnk_product *p, ptrdiff_t row, ptrdiff_t row_end, ptrdiff_t first, ptrdiff_t end,
                            void *pack_buffer)
{
    if (stays_float32(p)) {
        FLOAT32_GEMM(p, row, row_end, first, end, pack_buffer);
        return;
    }
    assert(NNK_IS_MATRIX(p->C, p->ldc, p->n, p->m) && p->B && p->C != p->A && p->C != p->B);
    assert(NNK_IS_MATRIX(p->A, p->lda, p->transpose_a ? p->k : p->n, p->transpose_a ? p->n : p->k));
    assert(0 <= row && row <= row_end && row_end <= p->n && 0 <= first && first <= end && end <= p->m);
    real panel[KC_REDUCED * MR] __attribute__((aligned(64)));
#ifdef NNK_BF16_TILES
    const int by_rows = 0;
#else
    const int by_rows = p->rs_b != 1;
#endif
    BEGIN_TILES();
    for (ptrdiff_t jc = first; jc < end; jc += NC_REDUCED) {
        const ptrdiff_t nc = end - jc < NC_REDUCED ? end - jc : NC_REDUCED;
        for (ptrdiff_t pc = 0; pc < p->k; pc += KC_REDUCED * TERMS) {
            const ptrdiff_t terms = p->k - pc < KC_REDUCED * TERMS ? p->k - pc : KC_REDUCED * TERMS;
            const real *B = (const real *)p->B + pc * p->rs_b + jc * p->cs_b;
            micro_operands o = {NULL, panel, pack_buffer, p->ldc, MR, by_rows ? RS_REDUCED : 1, by_rows ? 1 : CS_REDUCED,
                                R(p->alpha), pc == 0 ? R(p->beta) : R(1), PACKED_ENTRIES(terms)};
            if (by_rows)
                pack_rows(pack_buffer, B, p->rs_b, terms, nc);
            else
                pack_columns(pack_buffer, B, p->rs_b, p->cs_b, terms, nc);
            for (ptrdiff_t i = row, rows; i < row_end; i += rows) {
                rows = MICRO_ROWS(row_end - i);
                pack_panel(panel, (const real *)p->A + (p->transpose_a ? i * p->lda + pc : i + pc * p->lda), p->lda,
                           p->transpose_a, rows, terms);
                o.C = (real *)p->C + i + jc * p->ldc;
                MACRO_KERNEL(&o, rows, nc);
            }
        }
    }
    END_TILES();
}
