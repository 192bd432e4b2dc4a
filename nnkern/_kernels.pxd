# What other Cython code may cimport: the kernels on bare pointers, GIL released, nothing checked.
# A matrix is described by its first entry, its shape and its strides, counted in entries. An activation is the position
# of its name in nnkern.kernels.ACTIVATIONS; slope is leaky_relu's.

ctypedef fused real:
    float
    double

cdef struct Matrix:
    const void *data
    Py_ssize_t n, m                 # shape
    Py_ssize_t row, column          # strides: entry (i, j) stands at i row + j column

cdef inline Matrix matrix_of(const real[:, :] view) noexcept nogil:
    """Of a memoryview whose strides are whole numbers of entries."""
    cdef Matrix A
    A.data = &view[0, 0] if view.shape[0] and view.shape[1] else NULL
    A.n, A.m = view.shape[0], view.shape[1]
    A.row = view.strides[0] // <Py_ssize_t>sizeof(real)
    A.column = view.strides[1] // <Py_ssize_t>sizeof(real)
    return A


# Who computes: at most so many threads, the caller among them, and memory to pack into. No result depends on how many.
cdef struct Team:
    int threads
    void *scratch                   # from nnk_take_scratch

cdef Team form_team(int threads) except *
cdef void dissolve(const Team *team) noexcept nogil
# `threads` of a Python call: None for the default; ValueError unless an integer >= 1.
cdef int number_of_threads(threads) except -1
cdef Py_ssize_t sums_to_add(Py_ssize_t full, Py_ssize_t done, bint last) noexcept nogil

# Runs task(context, part, scratch) for parts 0 … parts - 1; `wake`: it is worth waking sleeping threads.
ctypedef void (*Task)(void *context, Py_ssize_t part, void *scratch) noexcept nogil
cdef void share_out(Task task, void *context, Py_ssize_t parts, bint wake, const Team *team) noexcept nogil
cdef void wake(const Team *team) noexcept nogil

# The table of C functions of one precision (`nnk_table *` of nnk.h), of the instruction set chosen at import.
cdef const void *kernel_table(int itemsize) noexcept nogil

# Whether BLAS takes the matrix as it lies: one stride 1, the other at least as large as a whole row or column.
cdef bint fits_blas(const Matrix *A) noexcept nogil

# The columns first … first + m - 1 of a matrix.
cdef Matrix columns_of(const Matrix *A, Py_ssize_t first, Py_ssize_t m, int itemsize) noexcept nogil
cdef Matrix transposed(const Matrix *A) noexcept nogil
cdef Matrix contiguous(const void *data, Py_ssize_t n, Py_ssize_t m) noexcept nogil

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

# A step of an optimizer on weights whose gradient is finished: `code` one of nnk.h's updates, `step` its nnk_step.
cdef struct Update:
    int code
    void *W
    void *s1
    void *s2
    const void *step
    bint penalised
    double penalty                  # out: of the W before it

# dW (n, n_prev) := alpha dZ A_prevᵀ + beta dW; dW and dZ contiguous, A_prev fits BLAS. With an `update` (or NULL) and
# beta = 0, W is updated by this dW, whose memory may be used meanwhile.
cdef void weight_gradient(
    real *dW, const real *dZ, const Matrix *A_prev, real alpha, real beta, Py_ssize_t n, Update *update,
    const Team *team) noexcept nogil
