# A matrix as native code passes it around, and who computes: what the kernels, the engine and other Cython code share.

from libc.limits cimport INT_MAX

ctypedef fused real:
    float
    double

cdef struct Matrix:
    const void *data
    Py_ssize_t n, m                 # shape
    Py_ssize_t row, column          # strides in entries: entry (i, j) stands at i row + j column

# At most so many threads, the caller among them, and memory to pack into. No result depends on how many.
cdef struct Team:
    int threads
    void *scratch                   # NNK_SCRATCH_BYTES from form_team

# A step of an optimizer on weights whose gradient is finished: `code` one of nnk.h's updates, `step` its nnk_step.
cdef struct Update:
    int code
    void *W
    void *s1
    void *s2
    const void *step
    bint penalised
    double penalty                  # out: of the W before it

# Sums a block of float or double over all processes, in place; False where one hasn't come.
ctypedef bint (*Reduce)(void *owner, void *block, Py_ssize_t count, int itemsize) noexcept nogil

# One part of a task that is shared out; `scratch` belongs to the thread that does it.
ctypedef void (*Task)(void *context, Py_ssize_t part, void *scratch) noexcept nogil


cdef inline Matrix matrix_of(const real[:, :] view) noexcept nogil:
    """Of a memoryview whose strides are whole numbers of entries."""
    cdef Matrix A
    A.data = &view[0, 0] if view.shape[0] and view.shape[1] else NULL
    A.n, A.m = view.shape[0], view.shape[1]
    A.row = view.strides[0] // <Py_ssize_t>sizeof(real)
    A.column = view.strides[1] // <Py_ssize_t>sizeof(real)
    return A


cdef inline Matrix contiguous(const void *data, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """Of columns that follow each other without a gap."""
    cdef Matrix A
    A.data, A.n, A.m, A.row, A.column = data, n, m, 1, n
    return A


cdef inline Matrix transposed(const Matrix *A) noexcept nogil:
    cdef Matrix T
    T.data, T.n, T.m, T.row, T.column = A.data, A.m, A.n, A.column, A.row
    return T


cdef inline Matrix columns_of(const Matrix *A, Py_ssize_t first, Py_ssize_t m, int itemsize) noexcept nogil:
    """The columns first … first + m - 1."""
    cdef Matrix B = A[0]
    B.data = <const char *>A.data + first * A.column * itemsize
    B.m = m
    return B


cdef inline bint is_contiguous(const Matrix *A) noexcept nogil:
    return (A.row == 1 or A.n <= 1) and (A.column == A.n or A.m <= 1)


cdef inline bint has_contiguous_columns(const Matrix *A) noexcept nogil:
    """Whether BLAS takes it untransposed: entries of a column side by side, columns apart by at least their length."""
    return (A.row == 1 or A.n <= 1) and (A.m <= 1 or A.n <= A.column <= INT_MAX)


cdef inline bint fits_blas(const Matrix *A) noexcept nogil:
    """Whether BLAS takes the matrix in its own layout: one stride 1, the other at least a whole column or row."""
    cdef Matrix T = transposed(A)
    return has_contiguous_columns(A) or has_contiguous_columns(&T)
