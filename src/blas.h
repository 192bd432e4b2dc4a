/* The one seam to BLAS: under which header and prefix the CBLAS of this build is found, and what can be asked of it. */
#ifndef NNK_BLAS_H
#define NNK_BLAS_H

#if defined(NNK_BLAS_ACCELERATE)
#include <Accelerate/Accelerate.h>
#define NNK_CBLAS(name) cblas_##name
#define NNK_BLAS_NAME "Accelerate"
static inline const char *nnk_blas_config(void) { return ""; }
static inline const char *nnk_blas_core(void) { return ""; }
static inline void nnk_blas_single_thread(void) {}
#elif defined(NNK_BLAS_SCIPY_OPENBLAS)
#include <cblas.h>
#define NNK_CBLAS(name) scipy_cblas_##name
#define NNK_BLAS_NAME "OpenBLAS"
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
#include <cblas.h>
#define NNK_CBLAS(name) cblas_##name
#define NNK_BLAS_NAME NNK_BLAS_CBLAS
static inline const char *nnk_blas_config(void) { return ""; }
static inline const char *nnk_blas_core(void) { return ""; }
static inline void nnk_blas_single_thread(void) {}
#endif

#define nnk_sgemm NNK_CBLAS(sgemm)
#define nnk_dgemm NNK_CBLAS(dgemm)
#define nnk_sgemv NNK_CBLAS(sgemv)
#define nnk_dgemv NNK_CBLAS(dgemv)

#endif
