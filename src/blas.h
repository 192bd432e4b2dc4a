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

/* A process that ends unloads BLAS while threads that outlive the interpreter may still be inside. So the end waits until
 * nobody is, and who comes later stays outside. */
#ifdef _WIN32
#include <windows.h>
static inline void nnk_sleep_a_millisecond(void) { Sleep(1); }
#else
#include <time.h>
static inline void nnk_sleep_a_millisecond(void)
{
    const struct timespec millisecond = {0, 1000000};
    nanosleep(&millisecond, NULL);
}
#endif
static int nnk_blas_inside, nnk_blas_closed;

static inline void nnk_enter_blas(void)
{
    __atomic_add_fetch(&nnk_blas_inside, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&nnk_blas_closed, __ATOMIC_SEQ_CST)) {
        __atomic_sub_fetch(&nnk_blas_inside, 1, __ATOMIC_SEQ_CST);
        for (;;)
            nnk_sleep_a_millisecond();
    }
}

static inline void nnk_leave_blas(void) { __atomic_sub_fetch(&nnk_blas_inside, 1, __ATOMIC_SEQ_CST); }

/* for the C library's atexit: after the interpreter's end, before libraries are unloaded */
static void nnk_close_blas(void)
{
    __atomic_store_n(&nnk_blas_closed, 1, __ATOMIC_SEQ_CST);
    for (int waited = 0; waited < 10000 && __atomic_load_n(&nnk_blas_inside, __ATOMIC_SEQ_CST); waited++)
        nnk_sleep_a_millisecond();
}

#define nnk_sgemm NNK_CBLAS(sgemm)
#define nnk_dgemm NNK_CBLAS(dgemm)
#define nnk_sgemv NNK_CBLAS(sgemv)
#define nnk_dgemv NNK_CBLAS(dgemv)

#endif
