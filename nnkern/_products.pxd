# The dense products of a layer, and the threads they are shared out to: for the engine and the API, on bare pointers.
#
# A compute type is an item size and the functions that know what an entry is: nothing above asks for a dtype. Products
# know no layers and no networks. Matrices fit BLAS unless said otherwise; outputs have contiguous columns.

from kernels.nnk cimport nnk_packed_product, nnk_table
from nnkern._matrix cimport Matrix, Task, Team, Update
from runtime.blas cimport nnk_blas

cdef struct Compute:
    int itemsize
    const nnk_table *table          # the kernels of the instruction set chosen at import
    const nnk_blas *blas            # NULL: all products are our own, whose sums have the same order in every column
    bint own                        # products of matrices are our own, where BLAS can have those with a vector
    const Compute *without_blas     # the same, all products our own

# What follows a block of a finished product while it is in the cache, and where a product goes.

# A (n, m) = g(Z + b) for Z (n, m) := W A_prev + beta Z, both with leading dimension ld. A may be Z; where it isn't, b
# is added to Z too. b (n) may be NULL.
cdef struct Forward:
    void *A
    void *Z
    Py_ssize_t ld
    double beta
    const void *b
    int activation
    double slope

# dZ_prev (n_prev, m) = dA_prev ⊙ g', db_prev += Σ_columns dZ_prev: what a gradient by inputs becomes with the
# activation that made these inputs. H is what g' reads, A or Z of the layer below, and may be NULL where g is linear;
# db_prev (n_prev) may be NULL.
cdef struct Below:
    void *dZ
    void *db
    const void *H
    int activation
    double slope

# dW (n, n_prev) := alpha dZ A_prevᵀ + beta dW. With an update (or NULL) and beta = 0 W is updated by this dW, whose
# memory may be used meanwhile.
cdef struct WeightGradient:
    void *dW
    Py_ssize_t n
    double alpha, beta
    Update *update

# The one of a dtype, by its item size; and the one of a name: "float32", "float64" or "bfloat16", in which the operands
# of products are rounded to bfloat16, and all else is float32's.
cdef const Compute *compute_type(int itemsize) noexcept nogil
cdef const Compute *compute_named(str name) except NULL
# What multiplies weights that are kept as bfloat16 or int8; NULL where they are widened first.
cdef nnk_packed_product product_of(int weights) noexcept

cdef void multiply(
    const Compute *compute, void *C, Py_ssize_t ldc, double alpha, const Matrix *A, const Matrix *B, double beta,
    const Team *team) noexcept nogil
cdef void forward_product(
    const Compute *compute, const Forward *to, const Matrix *W, const Matrix *A_prev, const Team *team) noexcept nogil
cdef void input_gradient_product(
    const Compute *compute, const Below *below, const Matrix *W, const void *dZ, Py_ssize_t m,
    const Team *team) noexcept nogil
cdef void weight_gradient_product(
    const Compute *compute, const WeightGradient *to, const void *dZ, const Matrix *A_prev,
    const Team *team) noexcept nogil

# MemoryError where there is no room to pack into, or for what BLAS keeps for a thread.
cdef Team form_team(int threads) except *
cdef void dissolve(const Team *team) noexcept nogil
# Runs task(context, part, scratch) for parts 0 … parts - 1; `wake`: it is worth waking sleeping threads.
cdef void share_out(Task task, void *context, Py_ssize_t parts, bint wake, const Team *team) noexcept nogil
cdef void wake(const Team *team) noexcept nogil
