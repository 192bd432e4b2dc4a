/* What everything above the kernels knows of them: the codes, and one table of functions per precision, chosen once at
 * import by dispatch.c. Every function works on matrices whose columns (examples) are contiguous: entry (i, j) of
 * an (n, m) matrix with leading dimension ld is at i + j ld. Outputs come first, inputs are const, sizes last.
 * Nothing here allocates, locks, prints or fails; the kernels know no threads, no networks and no Python.
 */
#ifndef NNK_H
#define NNK_H

#include <stddef.h>
#include <stdint.h>

enum nnk_activation {
#define ELEMENTWISE(name, reads, init, g, dg) NNK_##name,
#define COLUMNWISE(name, reads, init) NNK_##name,
#include "kernels/activations.def"
#undef ELEMENTWISE
#undef COLUMNWISE
    NNK_ACTIVATIONS
};

typedef struct {
    const char *name;
    int derivative_reads_Z; /* else it reads A */
    const char *initializer;
} nnk_activation_fact;
extern const nnk_activation_fact nnk_activation_facts[NNK_ACTIVATIONS];

enum nnk_loss {
#define ELEMENTWISE_LOSS(name, output, score, ...) NNK_##name,
#define COLUMNWISE_LOSS(name, output, score) NNK_##name,
#include "kernels/losses.def"
#undef ELEMENTWISE_LOSS
#undef COLUMNWISE_LOSS
    NNK_LOSSES
};

/* What counts as predicted rightly: the largest output is the label; every output is on its target's side of ½. A loss
 * whose targets are numbers has the sums of squared differences instead. */
enum nnk_score { NNK_score_argmax, NNK_score_sides, NNK_score_squares, NNK_SCORES };

typedef struct {
    const char *name;
    int output; /* the activation that it is fused with; NNK_linear: none */
    int score;  /* an nnk_score */
} nnk_loss_fact;
extern const nnk_loss_fact nnk_loss_facts[NNK_LOSSES];

enum nnk_update {
#define UPDATE(name, has_s1, has_s2) NNK_##name,
#include "kernels/updates.def"
#undef UPDATE
    NNK_UPDATES
};

typedef struct {
    const char *name;
    int has_s1, has_s2;
} nnk_update_fact;
extern const nnk_update_fact nnk_update_facts[NNK_UPDATES];

/* The numbers of one step, the same for all entries of a segment of θ; updates.def says what is done with them.
 *   root    √(1 - beta2^t) in Adam's t-th step: corrects s2's start at 0, as the rate corrects that of s1
 *   shrink  what θ is multiplied by first (decoupled weight decay); 1 without */
typedef struct {
    double rate, inertia, beta1, beta2, eps, root, shrink, l2, l1;
} nnk_step;

/* C (n, m) := alpha op(A) B + beta C, where op(A) (n, k) is A or its transpose; B (k, m) of any row stride rs_b and column
 * stride cs_b, in entries. */
typedef struct {
    void *C;
    const void *A, *B;
    ptrdiff_t ldc, lda, rs_b, cs_b;
    int transpose_a;
    double alpha, beta;
    ptrdiff_t n, m, k;
} nnk_product;

/* How a frozen network keeps its weights (packed.h): as they are or, in float32, reduced. */
enum nnk_weights { NNK_whole, NNK_bfloat16, NNK_int8, NNK_WEIGHTS };

typedef struct {
    void *W;     /* packed_bytes of memory, aligned to 64 */
    void *scale; /* of int8: one for each unit, and zeros up to a multiple of 64 bytes */
    int weights;
    ptrdiff_t n, n_prev;
} nnk_packed;

/* Some units first … first + n - 1 of packed weights as a matrix of any strides, counted in entries. */
typedef struct {
    const void *data;
    ptrdiff_t first, n, row, column;
} nnk_block;

enum {
    NNK_UNPACKED_DEPTH = 256,        /* inputs for which weights are widened at a time … */
    NNK_UNPACKED_BYTES = 128 << 10,  /* … into so much memory */
    NNK_REDUCED_COLUMNS = 384,       /* columns that a product of packed weights multiplies at a time … */
    NNK_REDUCED_FEW = 2,             /* … and those of int8 that it needs no scratch for */
    NNK_FEW_ROWS = 28, /* a product of no more rows is computed in parts of columns only */
};

/* What one number x becomes: x itself where it is kept, then features f_1 … f_k or a linear map of them.
 *   periodic   f_i = cos(2π w_i x + b_i)
 *   else       f_i = (x - w_i) b_i, kept within 0 and 1: the share of x of a bin */
typedef struct {
    int periodic, keeps_x;
    ptrdiff_t k, units;              /* features, and outputs of the map, or 0 where there is none */
    ptrdiff_t kept_at, kept_of_all;  /* of the entries kept of each example: those before its own, and all of a layer's */
    const void *w, *b;               /* (k) */
    const void *M;                   /* (units, k + 1), columns contiguous; its last column is added */
} nnk_number;

/* Where the gradients by its parameters are added to; dw and db are for periodic ones. */
typedef struct {
    void *dw, *db, *dM;
} nnk_number_gradient;

/* Columns that codes name: `count` of them for each example, those of examples `apart` entries apart, -1 for none. */
typedef struct {
    const int32_t *codes;
    ptrdiff_t apart, count;
    const void *s; /* a factor for each column, or NULL for ones */
} nnk_codes;

/* A sparse matrix X (k, ·): column c has the entries starts[c] … starts[c + 1] - 1 of `values`, in the rows that `rows`
 * names. Example j is the column order[j], or first + j where `order` is NULL. */
typedef struct {
    const int64_t *starts;
    const int32_t *rows;
    const void *values;
    const int64_t *order;
    ptrdiff_t first;
} nnk_sparse;

/* What products become where one operand is zeros but for what codes name, see codes.h, or for the entries of a sparse
 * matrix, see sparse.h; s_c is the factor of column c. */
typedef struct {
    /* out (n, m) := Σ_c s_c W[:, c] over the columns that are named for an example */
    void (*sum)(void *out, ptrdiff_t ldo, const void *W, ptrdiff_t ldw, const nnk_codes *named, ptrdiff_t n, ptrdiff_t m);
    /* dW[:, c] += alpha s_c dZ[:, j] for each example j and the columns named for it, example by example */
    void (*add_to)(void *dW, ptrdiff_t ldw, const void *dZ, ptrdiff_t ldz, double alpha, const nnk_codes *named, ptrdiff_t n,
                   ptrdiff_t m);
    /* ds_c += W[:, c] · dZ[:, j] likewise: the gradient by the factors, whatever these are */
    void (*add_products)(void *ds, const void *W, ptrdiff_t ldw, const void *dZ, ptrdiff_t ldz, const nnk_codes *named,
                         ptrdiff_t n, ptrdiff_t m);
    /* out (n, m) := W X of m examples */
    void (*sum_sparse)(void *out, ptrdiff_t ldo, const void *W, ptrdiff_t ldw, const nnk_sparse *X, ptrdiff_t n, ptrdiff_t m);
    /* dW += alpha dZ Xᵀ, example by example */
    void (*add_to_sparse)(void *dW, ptrdiff_t ldw, const void *dZ, ptrdiff_t ldz, double alpha, const nnk_sparse *X,
                          ptrdiff_t n, ptrdiff_t m);
} nnk_columns;

/* The functions of one precision: every void * is to float or to double, as the table's. */
typedef struct {
    int itemsize;      /* 4 or 8 */
    size_t pack_bytes; /* what gemm packs into, aligned to 64 */
    const void *one;   /* 1 */
    /* x, rounded to this precision */
    double (*rounded)(double x);
    /* A = g(Z + b); b (n) or NULL; A may be Z */
    void (*forward[NNK_ACTIVATIONS])(void *A, ptrdiff_t lda, const void *Z, ptrdiff_t ldz, const void *b, double slope,
                                     ptrdiff_t n, ptrdiff_t m);
    /* dZ = dA ⊙ g', db += Σ_columns dZ; db (n) or NULL; of A and Z the one that the derivative doesn't read may be NULL;
     * dZ may be dA */
    void (*backward[NNK_ACTIVATIONS])(void *dZ, ptrdiff_t lddz, void *db, const void *dA, ptrdiff_t ldda, const void *A,
                                      ptrdiff_t lda, const void *Z, ptrdiff_t ldz, double slope, ptrdiff_t n,
                                      ptrdiff_t m);
    /* Returns Σ_i w_i L_i; A = ŷ, dZ column i = scale w_i ∂L_i/∂z. All contiguous (n, m); w (m) or NULL for ones;
     * A may be Z. Losses whose output is linear take Z for ŷ. For cross_entropy Y may be NULL and `labels` (m) be in
     * 0 … n-1. `parameter`: label smoothing of the cross-entropies, huber's δ, quantile's q. */
    double (*loss[NNK_LOSSES])(void *A, void *dZ, const void *Z, const void *Y, const int64_t *labels, const void *w,
                               double scale, double parameter, ptrdiff_t n, ptrdiff_t m);
    /* One step over a block, m columns of n entries, ld apart in all four; returns l2/2 Σθ² + l1 Σ|θ| of the θ before
     * it. s1, s2 where the update has them. */
    double (*update[NNK_UPDATES])(void *theta, void *s1, void *s2, void *dtheta, const nnk_step *step, ptrdiff_t n,
                                  ptrdiff_t m, ptrdiff_t ld);
    /* A part of a product: rows row … row_end-1, columns first … end-1. The bits don't depend on the parts. */
    void (*gemm)(const nnk_product *p, ptrdiff_t row, ptrdiff_t row_end, ptrdiff_t first, ptrdiff_t end, void *scratch);
    /* Columns of C that, `rows` of each, had best be finished while they are in a cache, before the next block. */
    ptrdiff_t (*gemm_block)(const nnk_product *p, ptrdiff_t rows);
    /* y (columns) += alpha Aᵀ x and y (rows) += alpha A x for A (rows, columns); strides in entries; x of the first and y
     * of the second contiguous */
    void (*dots)(void *y, ptrdiff_t inc_y, const void *A, ptrdiff_t lda, const void *x, double alpha, ptrdiff_t rows,
                 ptrdiff_t columns);
    void (*add_columns)(void *y, const void *A, ptrdiff_t lda, const void *x, ptrdiff_t inc_x, double alpha,
                        ptrdiff_t rows, ptrdiff_t columns);
    /* Weights (n, n_prev), columns contiguous, into what p describes; the memory that takes */
    void (*pack_weights)(const nnk_packed *p, const void *W);
    size_t (*packed_bytes)(const nnk_packed *p);
    /* The tasks that packed weights are divided into. z (n) := W x, the units of one part of it. */
    ptrdiff_t (*packed_parts)(const nnk_packed *p);
    /* The first unit of a part; n for the number of parts. Whether units are so few that they are packed as rows. */
    ptrdiff_t (*packed_first)(const nnk_packed *p, ptrdiff_t part);
    int (*packed_by_rows)(const nnk_packed *p);
    void (*packed_times_vector)(void *z, const nnk_packed *p, const void *x, ptrdiff_t part);
    /* Columns k … k + depth - 1 of a part: in place, or widened into `scratch`, and then for k a multiple of
     * NNK_UNPACKED_DEPTH and no larger depth */
    void (*unpacked)(nnk_block *block, const nnk_packed *p, ptrdiff_t part, ptrdiff_t k, ptrdiff_t depth, void *scratch);
    /* out = in ⊙ mask / (1 - p): entry i is kept where the generator's 32 bits at (key, stream, first + i) are not below
     * p 2³²; out may be in */
    void (*dropout)(void *out, const void *in, uint64_t key, uint64_t stream, uint64_t first, double p, ptrdiff_t count);
    /* out (n, m) contiguous := columns order[0 … m-1] (or 0 … m-1 where order is NULL) of a matrix of any strides,
     * counted in entries */
    void (*gather)(void *out, const void *in, ptrdiff_t row_stride, ptrdiff_t column_stride, const int64_t *order,
                   ptrdiff_t n, ptrdiff_t m);
    /* and back: a contiguous (n, m) matrix into one of any strides */
    void (*scatter)(void *out, ptrdiff_t row_stride, ptrdiff_t column_stride, const void *in, ptrdiff_t n, ptrdiff_t m);
    /* x *= a; y += x */
    void (*scale)(void *x, double a, ptrdiff_t count);
    void (*add)(void *y, const void *x, ptrdiff_t count);
    /* keeps x within ±limit; returns Σx² of what it is then */
    double (*clip)(void *x, double limit, ptrdiff_t count);
    /* index of the first entry that isn't finite, or count */
    ptrdiff_t (*first_nonfinite)(const void *x, ptrdiff_t count);
    /* a factor for each row, and its gradient: see scale.h */
    void (*scale_rows)(void *out, const void *A, ptrdiff_t ld, const void *s, ptrdiff_t n, ptrdiff_t m);
    void (*add_row_products)(void *ds, const void *dA, const void *A, ptrdiff_t row, ptrdiff_t column, ptrdiff_t n,
                             ptrdiff_t m);
    /* encoders: see encode.h and codes.h; and a mix of two matrices by rows: see scale.h */
    ptrdiff_t (*number_kept)(const nnk_number *e);
    void (*encode_number)(const nnk_number *e, void *A, ptrdiff_t ld, void *kept, const void *x, ptrdiff_t column,
                          ptrdiff_t m);
    void (*encode_gradient)(const nnk_number *e, const nnk_number_gradient *to, const void *dA, ptrdiff_t ld, void *kept,
                            const void *x, ptrdiff_t column, ptrdiff_t m);
    ptrdiff_t (*first_bad_code)(const void *x, ptrdiff_t column, ptrdiff_t size, ptrdiff_t m);
    void (*read_codes)(int32_t *codes, ptrdiff_t apart, const void *x, ptrdiff_t column, ptrdiff_t first,
                       ptrdiff_t skipped, ptrdiff_t size, ptrdiff_t m);
    nnk_columns columns;
    void (*put_ones)(void *out, ptrdiff_t ldo, const int32_t *codes, ptrdiff_t n, ptrdiff_t m);
    void (*mix_rows)(void *out, const void *A, const void *B, const void *a, ptrdiff_t n, ptrdiff_t m);
    void (*add_row_differences)(void *da, const void *d, const void *A, const void *B, ptrdiff_t n, ptrdiff_t m);
    /* Sums in double, in the order of the entries, the same bits for every instruction set.
     * score adds m examples' weights (w (m), or 1 where it is NULL) to *right where they are predicted rightly, or, by
     * outputs, w (ŷ - y)² to squares (n); A (n, m) and Y (n, m) contiguous, and Y NULL where argmax has labels (m). */
    void (*score[NNK_SCORES])(double *right, double *squares, const void *A, const void *Y, const int64_t *labels,
                              const void *w, ptrdiff_t n, ptrdiff_t m);
    /* Σ w at order[first … first + count - 1], or at these themselves where order is NULL; count where w is */
    double (*total)(const void *w, const int64_t *order, ptrdiff_t first, ptrdiff_t count);
    /* adds Σ (unit x)² to *squares, and keeps the largest |x| so far in *largest */
    void (*magnitudes)(const void *x, ptrdiff_t count, double unit, double *largest, double *squares);
    /* l2/2 Σ w² + l1 Σ |w| */
    double (*penalty)(const void *W, double l2, double l1, ptrdiff_t count);
    /* rounds of multiply-adds in registers; the sum of their results is added to *sum; returns the flops done */
    double (*multiply_adds)(double *sum, ptrdiff_t rounds);
} nnk_table;

/* C (n, m) := W X for packed weights and examples of float32, columns contiguous, which are rounded to what the weights are
 * kept in: the units of parts part … part_end - 1, columns first … end - 1. The bits don't depend on the parts. Weights that
 * are packed by rows aren't multiplied so. */
typedef struct {
    void *C;
    const void *X;
    ptrdiff_t ldc, ldx, part, part_end, first, end;
} nnk_packed_block;
typedef void (*nnk_packed_product)(const nnk_packed *p, const nnk_packed_block *block, void *scratch);

/* Products of reduced numbers. The compute type bfloat16 has gemm, gemm_block and columns in place of float32's, whose operands
 * are rounded; all else is float32's. */
typedef struct {
    const char *by; /* the instruction set that multiplies, or "float32" where numbers are rounded only */
    void (*gemm)(const nnk_product *p, ptrdiff_t row, ptrdiff_t row_end, ptrdiff_t first, ptrdiff_t end, void *scratch);
    ptrdiff_t (*gemm_block)(const nnk_product *p, ptrdiff_t rows);
    nnk_packed_product packed[NNK_WEIGHTS]; /* NULL where weights are widened and multiplied as float32 */
    nnk_columns columns;                    /* of the tables' own only */
} nnk_reduced;

typedef struct {
    const char *isa; /* NNK_ISA of its isa_*.c */
    int vector_bytes;
    const nnk_table *f32, *f64;
    const nnk_reduced *reduced;
} nnk_tables;

/* The tables of the best instruction set of this processor, or of the one named by NNKERN_ISA; NULL where that name is
 * unknown, or the processor or the build lacks it. */
const nnk_tables *nnk_choose_tables(void);
/* The table of the compute type bfloat16, and the products of weights that are kept reduced, by the chosen instruction set.
 * The first call asks the system for AMX's registers where that is the one; where it may not use them there are the others'
 * products. */
const nnk_table *nnk_bf16_table(void);
nnk_packed_product nnk_product_of(int weights);
/* Names of the instruction sets that this build holds and this processor runs, best first, ended by NULL. */
const char *const *nnk_usable_isas(void);

/* A permutation of 0 … count-1 that depends on (key, epoch, count) only: Fisher and Yates over the same generator. */
void nnk_shuffle(int64_t *order, int64_t count, uint64_t key, uint64_t epoch);
/* The generator, Philox4x32-10 of Salmon et al. (SC'11): out = 4 words for a 128-bit counter and a 64-bit key. */
void nnk_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

#endif
