# What other Cython code may cimport: the kernels on bare pointers, GIL released, nothing checked.
# A matrix is described by its first entry, its shape and its strides, counted in entries. An activation is the position
# of its name in nnkern.kernels.ACTIVATIONS; slope is leaky_relu's.

from nnkern._matrix cimport (
    Matrix, Task, Team, Update, columns_of, contiguous, fits_blas, matrix_of, real, transposed,
)

# `threads` of a Python call: None for the default; ValueError unless an integer >= 1.
cdef int number_of_threads(threads) except -1
# Who computes: at most so many threads, the caller among them, and memory to pack into; MemoryError where there is
# none.
cdef Team form_team(int threads) except *
cdef void dissolve(const Team *team) noexcept nogil
# Runs task(context, part, scratch) for parts 0 … parts - 1; `wake`: it is worth waking sleeping threads.
cdef void share_out(Task task, void *context, Py_ssize_t parts, bint wake, const Team *team) noexcept nogil

# C (n, m) := alpha A B + beta C, C with contiguous columns, leading dimension ldc; A and B fit BLAS.
cdef void product(
    real *C, Py_ssize_t ldc, real alpha, const Matrix *A, const Matrix *B, real beta, const Team *team) noexcept nogil

# A = g(W A_prev + b) for matrices that fit BLAS, A contiguous (n, m); b may be NULL. Z is kept where it isn't NULL.
cdef void forward_columns(
    real *A, real *Z, int activation, double slope, const Matrix *W, const Matrix *A_prev,
    const real *b, const Team *team) noexcept nogil

# A = g(W A_prev + beta A + b) for some rows of a larger A, whose columns are lda apart. Where g isn't softmax A may be
# computed so in parts, and W A_prev as well: with g linear and no b for all parts but the last.
cdef void forward_rows(
    real *A, Py_ssize_t lda, int activation, double slope, const Matrix *W, const Matrix *A_prev, real beta,
    const real *b, const Team *team) noexcept nogil

# dZ_prev = (Wᵀ dZ) ⊙ g'(…), db_prev += Σ_columns dZ_prev: the input gradient, with g' of the layer below.
# dZ contiguous (n, m), dZ_prev, A_prev, Z_prev contiguous (n_prev, m); db_prev may be NULL.
cdef void input_gradient(
    real *dZ_prev, real *db_prev, int activation, double slope, const Matrix *W, const real *dZ,
    const real *A_prev, const real *Z_prev, Py_ssize_t m, const Team *team) noexcept nogil

# dW (n, n_prev) := alpha dZ A_prevᵀ + beta dW; dW and dZ contiguous, A_prev fits BLAS. With an `update` (or NULL) and
# beta = 0, W is updated by this dW, whose memory may be used meanwhile.
cdef void weight_gradient(
    real *dW, const real *dZ, const Matrix *A_prev, real alpha, real beta, Py_ssize_t n, Update *update,
    const Team *team) noexcept nogil
