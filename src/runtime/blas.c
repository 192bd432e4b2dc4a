/* Products by BLAS, and when a thread may enter it: compiled into the one extension that computes products, since who is
 * inside is counted for the whole process.
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include "runtime/blas.h"
#include "runtime/system.h"

/* Bytes of a buffer of OpenBLAS: 32 << BUFFERSIZE of its build, 20 in scipy's, 22 by default */
#if defined(NNK_BLAS_ACCELERATE)
#include <Accelerate/Accelerate.h>
#define CBLAS(name) cblas_##name
#define BUFFER_BYTES 0
#elif defined(NNK_BLAS_SCIPY_OPENBLAS)
#include <cblas.h>
#define CBLAS(name) scipy_cblas_##name
#define BUFFER_BYTES ((size_t)32 << 20)
#else
#include <cblas.h>
#define CBLAS(name) cblas_##name
#define BUFFER_BYTES ((size_t)32 << 22)
#endif

#ifdef _WIN32
#include <windows.h>
static void sleep_a_millisecond(void) { Sleep(1); }
static int room_for_buffers(int count) { return count >= 0; }
#else
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
static void sleep_a_millisecond(void)
{
    const struct timespec millisecond = {0, 1000000};
    nanosleep(&millisecond, NULL);
}

/* Whether `count` buffers can be had, and a little for others meanwhile */
static int room_for_buffers(int count)
{
    if (!nnk_memory_is_limited())
        return 1;
    const size_t bytes = (size_t)count * BUFFER_BYTES + ((size_t)4 << 20);
    void *const room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (room == MAP_FAILED)
        return 0;
    munmap(room, bytes);
    return 1;
}

static pthread_key_t thread_prepared;
#endif

static int inside, closed;

/* OpenBLAS takes a buffer when it has more callers at a time than ever before, and ends the process where there is no
 * memory for it. So a thread that isn't alone inside waits until there is, or until it is: one buffer is there from
 * nnk_open_blas on. A process that ends unloads BLAS while threads that outlive the interpreter may still be inside: its
 * end waits until nobody is, and who comes later stays outside. */
static void enter(void)
{
    for (;;) {
        const int others = __atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST);
        if (!__atomic_load_n(&closed, __ATOMIC_SEQ_CST) && (!others || room_for_buffers(others)))
            return;
        __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
        sleep_a_millisecond();
    }
}

static void leave(void) { __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST); }

/* for the C library's atexit: after the interpreter's end, before libraries are unloaded */
static void close_blas(void)
{
    __atomic_store_n(&closed, 1, __ATOMIC_SEQ_CST);
    for (int waited = 0; waited < 10000 && __atomic_load_n(&inside, __ATOMIC_SEQ_CST); waited++)
        sleep_a_millisecond();
}

#define OP(transpose) ((transpose) ? CblasTrans : CblasNoTrans)
#define FITS(size) (0 <= (size) && (size) <= INT_MAX)

#define PRODUCTS(precision, real, letter)                                                                              \
    static void gemm_##precision(void *C, ptrdiff_t ldc, int transpose_a, int transpose_b, double alpha, const void *A, \
                                 ptrdiff_t lda, const void *B, ptrdiff_t ldb, double beta, ptrdiff_t n, ptrdiff_t m,   \
                                 ptrdiff_t k)                                                                          \
    {                                                                                                                  \
        assert(FITS(n) && FITS(m) && FITS(k) && FITS(ldc) && FITS(lda) && FITS(ldb));                                  \
        assert(ldc >= n && lda >= (transpose_a ? k : n) && ldb >= (transpose_b ? m : k));                              \
        enter();                                                                                                       \
        CBLAS(letter##gemm)(CblasColMajor, OP(transpose_a), OP(transpose_b), (int)n, (int)m, (int)k, (real)alpha, A,   \
                            (int)lda, B, (int)ldb, (real)beta, C, (int)ldc);                                           \
        leave();                                                                                                       \
    }                                                                                                                  \
    static void gemv_##precision(void *y, ptrdiff_t inc_y, int transpose, double alpha, const void *A, ptrdiff_t lda,  \
                                 const void *x, ptrdiff_t inc_x, double beta, ptrdiff_t rows, ptrdiff_t columns)       \
    {                                                                                                                  \
        assert(FITS(rows) && FITS(columns) && FITS(lda) && lda >= rows);                                               \
        assert(FITS(inc_x) && FITS(inc_y) && inc_x && inc_y);                                                          \
        enter();                                                                                                       \
        CBLAS(letter##gemv)(CblasColMajor, OP(transpose), (int)rows, (int)columns, (real)alpha, A, (int)lda, x,        \
                            (int)inc_x, (real)beta, y, (int)inc_y);                                                    \
        leave();                                                                                                       \
    }                                                                                                                  \
    const nnk_blas nnk_blas_##precision = {gemm_##precision, gemv_##precision};
PRODUCTS(f32, float, s)
PRODUCTS(f64, double, d)

/* A thread's first product, of a size that OpenBLAS has no shorter way for: it takes a buffer, if there is none yet, and
 * from the C library what OpenBLAS keeps for each thread. Where that can't be had the C library ends the process. */
static int first_product(void)
{
    enum { N = 128, K = 64 };
    static const float operand[N * K];
    static float C[N * N];
    if (!room_for_buffers(1))
        return 0;
    gemm_f32(C, N, 0, 0, 1, operand, N, operand, K, 1, N, N, K);
    return 1;
}

int nnk_prepare_thread(void)
{
#ifdef _WIN32
    return 1;
#else
    if (pthread_getspecific(thread_prepared) || !nnk_memory_is_limited())
        return 1;
    return first_product() && pthread_setspecific(thread_prepared, &thread_prepared) == 0;
#endif
}

#ifndef _WIN32
/* the child of a fork has none of the threads that were inside */
static void forget_inside(void) { __atomic_store_n(&inside, 0, __ATOMIC_SEQ_CST); }
#endif

int nnk_open_blas(void)
{
    if (!first_product())
        return -1;
#ifndef _WIN32
    if (pthread_key_create(&thread_prepared, NULL) != 0 || pthread_atfork(NULL, NULL, forget_inside) != 0 ||
        pthread_setspecific(thread_prepared, &thread_prepared) != 0)
        return -1;
#endif
    return atexit(close_blas);
}
