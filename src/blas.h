/* The one seam to BLAS: under which header and prefix the CBLAS of this build is found, what can be asked of it, and
 * when a thread may enter it. */
#ifndef NNK_BLAS_H
#define NNK_BLAS_H

#include <stdlib.h>
#include "nnk.h"

#if defined(NNK_BLAS_ACCELERATE)
#include <Accelerate/Accelerate.h>
#define NNK_CBLAS(name) cblas_##name
#define NNK_BLAS_NAME "Accelerate"
#define NNK_BLAS_BUFFER 0
static inline const char *nnk_blas_config(void) { return ""; }
static inline const char *nnk_blas_core(void) { return ""; }
static inline void nnk_blas_single_thread(void) {}
#elif defined(NNK_BLAS_SCIPY_OPENBLAS)
#include <cblas.h>
#define NNK_CBLAS(name) scipy_cblas_##name
#define NNK_BLAS_NAME "OpenBLAS"
/* bytes of a buffer: 32 << BUFFERSIZE of OpenBLAS' build, 20 in scipy's */
#define NNK_BLAS_BUFFER ((size_t)32 << 20)
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
/* if it is OpenBLAS, what its builds have by default */
#define NNK_BLAS_BUFFER ((size_t)32 << 22)
static inline const char *nnk_blas_config(void) { return ""; }
static inline const char *nnk_blas_core(void) { return ""; }
static inline void nnk_blas_single_thread(void) {}
#endif

#ifdef _WIN32
#include <windows.h>
static inline void nnk_sleep_a_millisecond(void) { Sleep(1); }
static inline int nnk_room_for_buffers(int count) { return count >= 0; }
#else
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
static inline void nnk_sleep_a_millisecond(void)
{
    const struct timespec millisecond = {0, 1000000};
    nanosleep(&millisecond, NULL);
}

/* Whether `count` buffers can be had, and a little for others meanwhile */
static inline int nnk_room_for_buffers(int count)
{
    if (!nnk_memory_is_limited())
        return 1;
    const size_t bytes = (size_t)count * NNK_BLAS_BUFFER + ((size_t)4 << 20);
    void *const room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (room == MAP_FAILED)
        return 0;
    munmap(room, bytes);
    return 1;
}

static pthread_key_t nnk_thread_prepared;
#endif

static int nnk_blas_inside, nnk_blas_closed;

/* OpenBLAS takes a buffer when it has more callers at a time than ever before, and ends the process where there is no
 * memory for it. So a thread that isn't alone inside waits until there is, or until it is: one buffer is there from
 * nnk_open_blas on. A process that ends unloads BLAS while threads that outlive the interpreter may still be inside: its
 * end waits until nobody is, and who comes later stays outside. */
static inline void nnk_enter_blas(void)
{
    for (;;) {
        const int others = __atomic_fetch_add(&nnk_blas_inside, 1, __ATOMIC_SEQ_CST);
        if (!__atomic_load_n(&nnk_blas_closed, __ATOMIC_SEQ_CST) && (!others || nnk_room_for_buffers(others)))
            return;
        __atomic_sub_fetch(&nnk_blas_inside, 1, __ATOMIC_SEQ_CST);
        nnk_sleep_a_millisecond();
    }
}

static inline void nnk_leave_blas(void) { __atomic_sub_fetch(&nnk_blas_inside, 1, __ATOMIC_SEQ_CST); }

/* for the C library's atexit: after the interpreter's end, before libraries are unloaded */
static inline void nnk_close_blas(void)
{
    __atomic_store_n(&nnk_blas_closed, 1, __ATOMIC_SEQ_CST);
    for (int waited = 0; waited < 10000 && __atomic_load_n(&nnk_blas_inside, __ATOMIC_SEQ_CST); waited++)
        nnk_sleep_a_millisecond();
}

/* the child of a fork has none of the threads that were inside */
static inline void nnk_forget_inside(void) { __atomic_store_n(&nnk_blas_inside, 0, __ATOMIC_SEQ_CST); }

#define nnk_sgemm NNK_CBLAS(sgemm)
#define nnk_dgemm NNK_CBLAS(dgemm)
#define nnk_sgemv NNK_CBLAS(sgemv)
#define nnk_dgemv NNK_CBLAS(dgemv)

/* A thread's first product, of a size that OpenBLAS has no shorter way for: it takes a buffer, if there is none yet, and
 * from the C library what OpenBLAS keeps for each thread. Where that can't be had the C library ends the process. */
static inline int nnk_first_product(void)
{
    enum { N = 128, K = 64 };
    static const float operand[N * K];
    static float C[N * N];
    if (!nnk_room_for_buffers(1))
        return 0;
    nnk_enter_blas();
    nnk_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, N, N, K, 1, operand, N, operand, K, 1, C, N);
    nnk_leave_blas();
    return 1;
}

/* Where memory is limited, before a thread's first part: 0 if there is too little for its products. */
static inline int nnk_prepare_thread(void)
{
#ifdef _WIN32
    return 1;
#else
    if (pthread_getspecific(nnk_thread_prepared) || !nnk_memory_is_limited())
        return 1;
    return nnk_first_product() && pthread_setspecific(nnk_thread_prepared, &nnk_thread_prepared) == 0;
#endif
}

/* Before all else, once: BLAS takes its first buffer, and what a process' end and its forks need is registered. Not 0
 * where that can't be. */
static inline int nnk_open_blas(void)
{
    if (!nnk_first_product())
        return -1;
#ifndef _WIN32
    if (pthread_key_create(&nnk_thread_prepared, NULL) != 0 || pthread_atfork(NULL, NULL, nnk_forget_inside) != 0 ||
        pthread_setspecific(nnk_thread_prepared, &nnk_thread_prepared) != 0)
        return -1;
#endif
    return atexit(nnk_close_blas);
}

#endif
