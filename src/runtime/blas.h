/* The one seam to BLAS: its products, under one name for each precision, and what a process that uses it has to take care
 * of. Knows the libraries that a build may have; not what is computed with them.
 */
#ifndef NNK_BLAS_H
#define NNK_BLAS_H

#include <stddef.h>

#if defined(NNK_BLAS_ACCELERATE)
#define NNK_BLAS_NAME "Accelerate"
#elif defined(NNK_BLAS_SCIPY_OPENBLAS)
#define NNK_BLAS_NAME "OpenBLAS"
#else
#define NNK_BLAS_NAME NNK_BLAS_CBLAS
#endif

/* The products of one precision: every void * is to float or to double. All sizes and strides must fit an int. */
typedef struct {
    /* C (n, m) := alpha op(A) op(B) + beta C, op(A) (n, k), op(B) (k, m) */
    void (*gemm)(void *C, ptrdiff_t ldc, int transpose_a, int transpose_b, double alpha, const void *A, ptrdiff_t lda,
                 const void *B, ptrdiff_t ldb, double beta, ptrdiff_t n, ptrdiff_t m, ptrdiff_t k);
    /* y := alpha op(A) x + beta y, A (rows, columns) as it is stored */
    void (*gemv)(void *y, ptrdiff_t inc_y, int transpose, double alpha, const void *A, ptrdiff_t lda, const void *x,
                 ptrdiff_t inc_x, double beta, ptrdiff_t rows, ptrdiff_t columns);
} nnk_blas;
extern const nnk_blas nnk_blas_f32, nnk_blas_f64;

/* Before all else, once: BLAS takes its first buffer, and what a process' end and its forks need is registered. Not 0
 * where that can't be. */
int nnk_open_blas(void);
/* Where memory is limited, before a thread's first product: 0 if there is too little for it. */
int nnk_prepare_thread(void);

#ifdef NNK_BLAS_SCIPY_OPENBLAS
char *scipy_openblas_get_config(void);
char *scipy_openblas_get_corename(void);
int scipy_openblas_get_num_threads(void);
void scipy_openblas_set_num_threads(int);
static inline const char *nnk_blas_config(void) { return scipy_openblas_get_config(); }
static inline const char *nnk_blas_core(void) { return scipy_openblas_get_corename(); }
/* Someone else in the process may have raised it (threadpoolctl finds every OpenBLAS there is). */
static inline void nnk_blas_single_thread(void)
{
    if (scipy_openblas_get_num_threads() != 1)
        scipy_openblas_set_num_threads(1);
}
#else
static inline const char *nnk_blas_config(void) { return ""; }
static inline const char *nnk_blas_core(void) { return ""; }
static inline void nnk_blas_single_thread(void) {}
#endif

#endif
