# The one seam to BLAS, as blas.h declares it.

cdef extern from "runtime/blas.h" nogil:
    ctypedef struct nnk_blas:
        void gemm(
            void *C, Py_ssize_t ldc, bint transpose_a, bint transpose_b, double alpha, const void *A, Py_ssize_t lda,
            const void *B, Py_ssize_t ldb, double beta, Py_ssize_t n, Py_ssize_t m, Py_ssize_t k) noexcept nogil
        void gemv(
            void *y, Py_ssize_t inc_y, bint transpose, double alpha, const void *A, Py_ssize_t lda, const void *x,
            Py_ssize_t inc_x, double beta, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil

    const nnk_blas nnk_blas_f32
    const nnk_blas nnk_blas_f64
    const char *NNK_BLAS_NAME
    const char *nnk_blas_config() noexcept
    const char *nnk_blas_core() noexcept
    void nnk_blas_single_thread() noexcept
    int nnk_open_blas() noexcept
    int nnk_prepare_thread() noexcept
