/* How the operands of a bfloat16 product are rounded and packed. Both are float32 in memory; what the kernels read are
 * entries of 32 bits: two neighbouring terms of a sum as bfloat16, the first in the low half, where the processor multiplies
 * such pairs (NNK_BF16_PAIRS), elsewhere one term as the float32 that it rounds to. Knows nothing of the kernels.
 */
#ifdef NNK_BF16_PAIRS
#define TERMS 2
#else
#define TERMS 1
#endif

#ifdef NNK_BF16_PAIRS
/* Two vectors of terms as pairs: lane i has the bfloat16s of low[i] and high[i] */
NNK_INLINE vec pairs_across(vec low, vec high)
{
    const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
    const __m512i from = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20,
                                          4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (vec)_mm512_permutexvar_epi16(from, halves);
}

/* The first `terms` from p on as pairs, with zeros after the last */
NNK_INLINE vec entries_along(const real *p, ptrdiff_t terms)
{
    const vec low = v_first(p, terms), high = terms > LANES ? v_first(p + LANES, terms - LANES) : v_all(0);
    return (vec)(__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

/* The entries of the first `lanes` of two rows, of which the second may be missing */
NNK_INLINE vec entries_across(const real *row, const real *next, ptrdiff_t lanes)
{
    return pairs_across(v_first(row, lanes), next ? v_first(next, lanes) : v_all(0));
}
#else
/* To the nearest number of 8 bits, ties to even; NaN stays NaN */
NNK_INLINE vec NAME(v_bf16)(vec x)
{
    typedef uint32_t bits_of __attribute__((vector_size(NNK_VECTOR_BYTES)));
    const bits_of bits = (bits_of)x, even = bits >> 16 & 1, upper = (bits_of){0} - 0x10000;
    const bits_of rounded = (bits + even + 0x7fff) & upper, quiet = (bits | 0x400000) & upper;
    return v_select(v_is_nan(x), (vec)quiet, (vec)rounded);
}

NNK_INLINE vec entries_along(const real *p, ptrdiff_t terms) { return NAME(v_bf16)(v_first(p, terms)); }

NNK_INLINE vec entries_across(const real *row, const real *next, ptrdiff_t lanes)
{
    (void)next;
    return NAME(v_bf16)(v_first(row, lanes));
}
#endif

/* The row of terms after the one at p, where there is one */
NNK_INLINE const real *next_row(const real *p, ptrdiff_t stride, ptrdiff_t terms)
{
    return TERMS > 1 && terms > 1 ? p + stride : NULL;
}

NNK_INLINE ptrdiff_t entries_of(ptrdiff_t terms) { return (terms + TERMS - 1) / TERMS; }

/* A square of LANES entries by LANES: entry (q, i) of square[i] is of terms q of row i of a matrix whose rows are contiguous.
 * Beyond `rows` and `terms` there are zeros. */
NNK_INLINE void load_square(vec square[LANES], const real *p, ptrdiff_t ld, ptrdiff_t rows, ptrdiff_t terms)
{
    for (int i = 0; i < LANES; i++)
        square[i] = i < rows ? entries_along(p + i * ld, terms) : v_all(0);
}

/* panel (KC, MR) := `terms` columns of `rows` rows of op(A), with zeros up to whole vectors and whole squares */
static void pack_panel(real *panel, const real *A, ptrdiff_t lda, int transposed, ptrdiff_t rows, ptrdiff_t terms)
{
    const ptrdiff_t entries = entries_of(terms);
    assert(0 < rows && rows <= MR && 0 < entries && entries <= KC_REDUCED);
    for (ptrdiff_t v = 0; v * LANES < rows; v++)
        for (ptrdiff_t e = 0; e < entries; e += LANES) {
            vec square[LANES];
            const ptrdiff_t left = terms - e * TERMS;
            if (transposed) {
                load_square(square, A + v * LANES * lda + e * TERMS, lda, rows - v * LANES, left);
                transpose_square(square);
            }
            else
                for (int q = 0; q < LANES; q++) {
                    const real *row = A + (e + q) * TERMS * lda + v * LANES;
                    const ptrdiff_t rest = left - q * TERMS;
                    /* each row of a panel is on a page of its own: the next panel comes while this one is multiplied */
                    for (int term = 0; term < TERMS; term++)
                        __builtin_prefetch(row + term * lda + MR, 0, 2);
                    square[q] = rest > 0 ? entries_across(row, next_row(row, lda, rest), rows - v * LANES) : v_all(0);
                }
            for (int q = 0; q < LANES; q++)
                v_store(panel + (e + q) * MR + v * LANES, square[q]);
        }
}

/* packed := a block of B by columns, CS apart, with zeros up to whole squares */
static void pack_columns(real *packed, const real *B, ptrdiff_t rs_b, ptrdiff_t cs_b, ptrdiff_t terms, ptrdiff_t nc)
{
    const ptrdiff_t entries = entries_of(terms);
    assert((uintptr_t)packed % 64 == 0 && 0 < entries && entries <= KC_REDUCED && 0 < nc && nc <= NC_REDUCED);
    for (ptrdiff_t j = 0; j < nc; j += LANES)
        for (ptrdiff_t e = 0; e < entries; e += LANES) {
            vec square[LANES];
            const ptrdiff_t left = terms - e * TERMS, columns = nc - j;
            if (rs_b == 1)
                load_square(square, B + e * TERMS + j * cs_b, cs_b, columns, left);
            else {
                for (int q = 0; q < LANES; q++) {
                    const real *row = B + (e + q) * TERMS * rs_b + j;
                    const ptrdiff_t rest = left - q * TERMS;
                    square[q] = rest > 0 ? entries_across(row, next_row(row, rs_b, rest), columns) : v_all(0);
                }
                transpose_square(square);
            }
            for (int c = 0; c < LANES; c++)
                v_store(packed + (j + c) * CS_REDUCED + e, square[c]);
        }
}

/* packed := a block of B whose rows are contiguous, by rows, RS apart */
NNK_INLINE void pack_rows(real *packed, const real *B, ptrdiff_t rs_b, ptrdiff_t terms, ptrdiff_t nc)
{
    for (ptrdiff_t e = 0; e * TERMS < terms; e++)
        for (ptrdiff_t j = 0; j < nc; j += LANES) {
            const real *row = B + e * TERMS * rs_b + j;
            v_store(packed + e * RS_REDUCED + j, entries_across(row, next_row(row, rs_b, terms - e * TERMS), nc - j));
        }
}
