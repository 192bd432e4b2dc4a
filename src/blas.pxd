# The one seam to BLAS, from Cython: gemm and gemv for float and double under one name each.
# Matrices are column-major, as the core's are: examples, or the units that feed one input, contiguous.

cdef extern from "blas.h" nogil:
    enum CBLAS_ORDER:
        CblasColMajor
    enum CBLAS_TRANSPOSE:
        CblasNoTrans
        CblasTrans
    void nnk_sgemm(
        CBLAS_ORDER, CBLAS_TRANSPOSE, CBLAS_TRANSPOSE, int, int, int, float, const float *, int, const float *, int,
        float, float *, int)
    void nnk_dgemm(
        CBLAS_ORDER, CBLAS_TRANSPOSE, CBLAS_TRANSPOSE, int, int, int, double, const double *, int, const double *, int,
        double, double *, int)
    void nnk_sgemv(
        CBLAS_ORDER, CBLAS_TRANSPOSE, int, int, float, const float *, int, const float *, int, float, float *, int)
    void nnk_dgemv(
        CBLAS_ORDER, CBLAS_TRANSPOSE, int, int, double, const double *, int, const double *, int, double, double *,
        int)
    const char *NNK_BLAS_NAME
    const char *nnk_blas_config()
    const char *nnk_blas_core()
    void nnk_blas_single_thread()
    void nnk_enter_blas()
    void nnk_leave_blas()
    int nnk_open_blas()
    int nnk_prepare_thread()

ctypedef fused real:
    float
    double


cdef inline void gemm(
    real *C, int ldc, CBLAS_TRANSPOSE op_A, CBLAS_TRANSPOSE op_B, real alpha, const real *A, int lda,
    const real *B, int ldb, real beta, int n, int m, int k,
) noexcept nogil:
    """C := alpha op(A) op(B) + beta C with C (n, m), op(A) (n, k), op(B) (k, m)."""
    nnk_enter_blas()
    if real is float:
        nnk_sgemm(CblasColMajor, op_A, op_B, n, m, k, alpha, A, lda, B, ldb, beta, C, ldc)
    else:
        nnk_dgemm(CblasColMajor, op_A, op_B, n, m, k, alpha, A, lda, B, ldb, beta, C, ldc)
    nnk_leave_blas()


cdef inline void gemv(
    real *y, int inc_y, CBLAS_TRANSPOSE op_A, real alpha, const real *A, int lda, const real *x, int inc_x, real beta,
    int rows, int columns,
) noexcept nogil:
    """y := alpha op(A) x + beta y with A (rows, columns) as it is stored."""
    nnk_enter_blas()
    if real is float:
        nnk_sgemv(CblasColMajor, op_A, rows, columns, alpha, A, lda, x, inc_x, beta, y, inc_y)
    else:
        nnk_dgemv(CblasColMajor, op_A, rows, columns, alpha, A, lda, x, inc_x, beta, y, inc_y)
    nnk_leave_blas()
