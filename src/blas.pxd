# The one seam to BLAS, from Cython: gemm and gemv for float and double under one name each.
# Matrices are column-major, as the core's are: examples, or the units that feed one input, contiguous.

cdef extern from "runtime/blas.h" nogil:
    ctypedef struct nnk_blas:
        void gemm(
            void *C, Py_ssize_t ldc, int transpose_a, int transpose_b, double alpha, const void *A, Py_ssize_t lda,
            const void *B, Py_ssize_t ldb, double beta, Py_ssize_t n, Py_ssize_t m, Py_ssize_t k) noexcept nogil
        void gemv(
            void *y, Py_ssize_t inc_y, int transpose, double alpha, const void *A, Py_ssize_t lda, const void *x,
            Py_ssize_t inc_x, double beta, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil
    const nnk_blas nnk_blas_f32, nnk_blas_f64
    const char *NNK_BLAS_NAME
    const char *nnk_blas_config()
    const char *nnk_blas_core()
    void nnk_blas_single_thread()
    int nnk_open_blas()
    int nnk_prepare_thread()

ctypedef fused real:
    float
    double

ctypedef bint CBLAS_TRANSPOSE

cdef enum:
    CblasNoTrans = 0
    CblasTrans = 1


cdef inline void gemm(
    real *C, int ldc, CBLAS_TRANSPOSE op_A, CBLAS_TRANSPOSE op_B, real alpha, const real *A, int lda,
    const real *B, int ldb, real beta, int n, int m, int k,
) noexcept nogil:
    """C := alpha op(A) op(B) + beta C with C (n, m), op(A) (n, k), op(B) (k, m)."""
    if real is float:
        nnk_blas_f32.gemm(C, ldc, op_A, op_B, alpha, A, lda, B, ldb, beta, n, m, k)
    else:
        nnk_blas_f64.gemm(C, ldc, op_A, op_B, alpha, A, lda, B, ldb, beta, n, m, k)


cdef inline void gemv(
    real *y, int inc_y, CBLAS_TRANSPOSE op_A, real alpha, const real *A, int lda, const real *x, int inc_x, real beta,
    int rows, int columns,
) noexcept nogil:
    """y := alpha op(A) x + beta y with A (rows, columns) as it is stored."""
    if real is float:
        nnk_blas_f32.gemv(y, inc_y, op_A, alpha, A, lda, x, inc_x, beta, rows, columns)
    else:
        nnk_blas_f64.gemv(y, inc_y, op_A, alpha, A, lda, x, inc_x, beta, rows, columns)
