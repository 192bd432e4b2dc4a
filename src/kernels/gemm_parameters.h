/* The sizes into which the matrix product is cut, by the names that BLIS gives them: micro-tiles of C of MR rows and NR
 * columns, blocks of KC terms of the sums, and NC columns of B at a time; and what a micro-kernel is handed. gemm.h says how
 * they are used.
 *
 * A micro-tile's sums fill the registers: 2 × 14 of 32 with AVX-512, 2 × 6 of 16 elsewhere, which leaves room for a column of
 * A and a broadcast entry of B.
 */
#define MR_VECTORS 2
#define MR (MR_VECTORS * LANES)
#if NNK_VECTOR_BYTES == 64
#define NR 14
#else
#define NR 6
#endif

/* KC: where A and B are read in place, out of L2; where one of them is packed, 32 KB of A on the stack with the widest
 * vectors */
#define KC 1024
#define KC_PACKED 256
/* Columns of B that are packed at a time, and the strides of what is packed by columns and by rows: columns or rows don't
 * share sets of the cache. */
#define NC_PACKED ((ptrdiff_t)(1536 / sizeof(real)))
#define CS_PACKED (KC_PACKED + LANES)
#define RS_PACKED (NC_PACKED + LANES)
#define PACK_BYTES (KC_PACKED * RS_PACKED * sizeof(real))
/* Fewest rows n that make up for packing B; fewest columns m for which A is packed, whose rows are on a page of memory
 * each */
#define PACK_B_MIN_N 64
#define PACK_A_MIN_M 64

/* NC where B is read in place: what is sized for L2 while the panels of A pass, but at least so many micro-tiles */
#define B_BYTES (1 << 18)
#define NC_MIN_TILES 3
/* Columns of C that a caller finishes together: sized for L1; where A is packed or transposed anew for each block of
 * columns, for L2, and at least so many */
#define C_BYTES (1 << 14)
#define REPACKED_C_BYTES (1 << 19)
#define REPACKED_MIN_M 1024

/* Shortest sum for which the micro-kernel prefetches A, and how many of its columns ahead */
#define PREFETCH_MIN_K 512
#define PREFETCH_COLUMNS 16
/* Shortest sum for which transposing micro-tiles of C at their end costs less than lanes left empty */
#define TRANSPOSED_MIN_K 48

/* The inner-product kernel: its micro-tile, each of whose sums is a vector; shortest sum, most rows n, and KC (74 KB of A on
 * the stack, in rows that don't share sets of the cache) */
#if NNK_VECTOR_BYTES == 64
#define IP_MR 4
#define IP_NR 6
#else
#define IP_MR 3
#define IP_NR 4
#endif
#define IP_MIN_K 512
#define IP_MAX_N 24
#define IP_KC ((int)(3072 / sizeof(real)))
#define IP_LDA (IP_KC + LANES)
/* the same where A is stored transposed: shortest sum, also for each column, for which adding up the lanes of the sums
 * costs less than transposing panels */
#define IP_TRANSPOSED_MIN_K 128
#define IP_TRANSPOSED_MIN_K_PER_COLUMN 8

/* Of rounded operands, both packed: a panel and a block of entries of 32 bits, which hold one term of a sum or more, KC of
 * them, NC columns; the strides of the block by columns and by rows */
#define KC_REDUCED 256
#define NC_REDUCED NNK_REDUCED_COLUMNS
#define CS_REDUCED (KC_REDUCED + LANES)
#define RS_REDUCED (NC_REDUCED + LANES)

/* C := alpha A B + beta C for a micro-tile, or several side by side */
typedef struct {
    real *C;
    const real *A, *B;
    ptrdiff_t ldc, lda, rs_b, cs_b;
    real alpha, beta;
    ptrdiff_t k;
} NAME(micro_operands);
#define micro_operands NAME(micro_operands)
