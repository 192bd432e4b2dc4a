# The dense kernels: forward, backward, activations, losses; on typed memoryviews for Python, on pointers for Cython.
#
# This file checks that dimensions, dtypes and memory agree, releases the GIL and calls down: matrix products go to BLAS
# through blas.pxd, everything entry by entry to the C kernels of the chosen instruction set through nnk.pxd.
# It knows nothing of networks, and doesn't judge what a user meant: validation.py does.
#
# Products and their epilogues run block by block over the examples, so that a block's Z is still in the cache when bias
# and activation reach it. The bounds of blocks and chunks depend on shapes and dtype only.

from collections import namedtuple

from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from libc.limits cimport INT_MAX
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cimport nnk
cimport numpy as cnp
from pool cimport (
    NNK_SCRATCH_BYTES, nnk_give_scratch, nnk_prepare_worker, nnk_processors, nnk_run, nnk_take_scratch, nnk_wake,
)
from blas cimport (
    NNK_BLAS_NAME, CBLAS_TRANSPOSE, CblasNoTrans, CblasTrans, gemm, gemv, nnk_blas_config, nnk_blas_core,
    nnk_blas_single_thread, nnk_open_blas, nnk_prepare_thread,
)

cdef extern from "Python.h":
    object PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items)

import os as _os
from numbers import Integral

import numpy as np

cnp.import_array()
if nnk_open_blas() != 0:
    raise MemoryError("no memory for the first buffer of BLAS")
nnk_prepare_worker = nnk_prepare_thread

cdef const nnk.nnk_tables *tables = nnk.nnk_choose_tables()
if tables is NULL:
    _usable = []
    while nnk.nnk_usable_isas()[len(_usable)] is not NULL:
        _usable.append(nnk.nnk_usable_isas()[len(_usable)].decode())
    raise ImportError(
        f"NNKERN_ISA={_os.environ.get('NNKERN_ISA')!r} can't be had: "
        f"this build on this processor has {', '.join(_usable)}")

# Which side computes products where both can: NNKERN_GEMM=blas leaves all of them to BLAS.
_asked = _os.environ.get("NNKERN_GEMM") or "auto"
if _asked not in ("auto", "blas", "tiles"):
    raise ImportError(f"NNKERN_GEMM={_asked!r} is unknown: auto, blas or tiles")
cdef bint own_products = _asked != "blas", always_tiles = _asked == "tiles"

# The largest number of threads of a call that doesn't say.
cdef int default_threads = 1

# Fewest rows for which our own loops take a matrix times a vector: they work along the columns.
cdef enum:
    GEMV_ROWS = 64

# Size of a block of Z: it stays in a second-level cache beside the operands of the product.
cdef enum:
    BLOCK_BYTES = 1 << 19
    # fewest columns of a block: below that BLAS spends its time packing W again and again
    BLOCK_COLUMNS = 1024
    # examples whose gradients are added up in one run; the sums of chunks are combined in a tree
    CHUNK_COLUMNS = 4096
    # levels of a tree over chunks of the most examples that there can be
    MOST_COSTS = 64
    MOST_THREADS = 256

ACTIVATIONS = tuple(nnk.nnk_activation_facts[i].name.decode() for i in range(nnk.NNK_ACTIVATIONS))
# The activations whose derivative is computed from Z; the others' from A.
NEEDS_Z = frozenset(
    nnk.nnk_activation_facts[i].name.decode()
    for i in range(nnk.NNK_ACTIVATIONS) if nnk.nnk_activation_facts[i].derivative_reads_Z)
# The initializer of a layer's weights that goes with each of them.
INITIALIZERS = {
    nnk.nnk_activation_facts[i].name.decode(): nnk.nnk_activation_facts[i].initializer.decode()
    for i in range(nnk.NNK_ACTIVATIONS)}
# {loss: the activation it is fused with, linear for none}
LOSSES = {
    nnk.nnk_loss_facts[i].name.decode(): ACTIVATIONS[nnk.nnk_loss_facts[i].output] for i in range(nnk.NNK_LOSSES)}
cdef dict loss_codes = {name: code for code, name in enumerate(LOSSES)}
cdef dict activation_codes = {name: code for code, name in enumerate(ACTIVATIONS)}

DenseGradients = namedtuple("DenseGradients", "dZ dW db dA_prev", module="nnkern.kernels")
DenseGradients.__doc__ = "What dense_backward returns: dZ (n, m), dW (n, n_prev), db (n, 1), dA_prev or None."

cdef object FLOAT32 = np.dtype(np.float32)
cdef object FLOAT64 = np.dtype(np.float64)
cdef object ndarray = np.ndarray


# ---------------------------------------------------------------------------------------------------------------------
# On pointers

cdef const void *kernel_table(int itemsize) noexcept nogil:
    return tables.f32 if itemsize == 4 else tables.f64


cdef inline const nnk.nnk_table *table_of(real *like) noexcept nogil:
    return tables.f32 if real is float else tables.f64


cdef inline bint columns_lie_for_blas(const Matrix *A) noexcept nogil:
    return (A.row == 1 or A.n <= 1) and (A.m <= 1 or A.n <= A.column <= INT_MAX)


cdef inline Py_ssize_t leading_dimension(const Matrix *A) noexcept nogil:
    """Of a matrix whose columns lie for BLAS."""
    return A.column if A.m > 1 else max(1, A.n)


cdef Matrix transposed(const Matrix *A) noexcept nogil:
    cdef Matrix T
    T.data, T.n, T.m, T.row, T.column = A.data, A.m, A.n, A.column, A.row
    return T


cdef Matrix contiguous(const void *data, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    cdef Matrix A
    A.data, A.n, A.m, A.row, A.column = data, n, m, 1, n
    return A


cdef Matrix columns_of(const Matrix *A, Py_ssize_t first, Py_ssize_t m, int itemsize) noexcept nogil:
    cdef Matrix B = A[0]
    B.data = <const char *>A.data + first * A.column * itemsize
    B.m = m
    return B


cdef bint fits_blas(const Matrix *A) noexcept nogil:
    cdef Matrix T = transposed(A)
    return columns_lie_for_blas(A) or columns_lie_for_blas(&T)


cdef inline CBLAS_TRANSPOSE as_blas(const Matrix *A, int *ld) noexcept nogil:
    """Whether BLAS is to transpose what lies there, and its leading dimension."""
    cdef Matrix T
    if columns_lie_for_blas(A):
        ld[0] = <int>leading_dimension(A)
        return CblasNoTrans
    T = transposed(A)
    ld[0] = <int>leading_dimension(&T)
    return CblasTrans


# Products: C (n, m) := alpha A B + beta C with A (n, k), B (k, m).
#
# A product is computed in parts, rows by columns of C. Where that changes no bit the parts depend on the number of
# threads; where it may (BLAS), they depend on the shape only.

cdef enum Path:
    NOTHING_TO_SUM                  # k = 0
    DOTS                            # A or B has one column or row: our own loops, along the sum
    ADD_COLUMNS                     # likewise, along C
    GEMV
    TILES
    GEMM

cdef struct Product:
    nnk.nnk_product p
    Path path
    CBLAS_TRANSPOSE op_A, op_B
    int ldb
    # the parts: a grid of so many rows and columns
    Py_ssize_t row_parts, column_parts

cdef enum:
    # operations below which a product stays on the caller's thread, and from which it is worth waking the others
    PARALLEL_OPERATIONS = 500000
    WAKING_OPERATIONS = 5000000
    # rows of a part are multiples of what the largest tile has
    PART_ROWS = 32
    # parts of a product that is applied as a gradient, and the fewest columns of one
    APPLIED_PARTS = 8
    APPLIED_COLUMNS = 28
    MOST_APPLIED_PARTS = 64
    # a part for BLAS
    BLAS_ROWS = 4096
    BLAS_COLUMNS = 512

cdef inline bint tiles_pay() noexcept nogil:
    """Whether our tiles compute products faster than BLAS: with vectors that are wider than the baseline's.

    Measured against OpenBLAS 0.3.34 on one core of a Zen 4 (limit 117 GF/s in float32; n×m×k, GF/s of tiles : BLAS):
    128×64×784 117 : 96, 256×128×256 117 : 101, 512×256×784 116 : 105, 10×256×512 82 : 49, 1024×1024×1024 105 : 102,
    4096×1024×1024 104 : 101, 1024×256×1024 107 : 99, 20×209×12288 88 : 73; with rows of B contiguous 20×209×12288
    97 : 68; with A turned 512×256×512 109 : 98, 1024×1024×4096 101 : 99. A whole training of 1024-4096-4096-1024 units,
    larger than all caches, takes as long with either.
    """
    return tables.vector_bytes >= 32


cdef void plan_product(
    Product *q, real *C, Py_ssize_t ldc, real alpha, const Matrix *A, const Matrix *B, real beta, const Team *team,
    bint whole_columns,
) noexcept nogil:
    """Chooses path and parts; with `whole_columns` a part has all rows."""
    cdef Py_ssize_t n = A.n, k = A.m, m = B.m, parts
    cdef int lda = 0
    cdef double operations = 2.0 * n * k * m
    q.op_A, q.op_B = as_blas(A, &lda), as_blas(B, &q.ldb)
    q.p.C, q.p.ldc, q.p.A, q.p.lda, q.p.transpose_a = C, ldc, A.data, lda, q.op_A == CblasTrans
    q.p.B, q.p.rs_b, q.p.cs_b = B.data, B.row, B.column
    q.p.alpha, q.p.beta, q.p.n, q.p.m, q.p.k = alpha, beta, n, m, k
    q.row_parts = q.column_parts = 1
    parts = team.threads if operations >= PARALLEL_OPERATIONS else 1
    if k == 0:
        q.path = NOTHING_TO_SUM
    elif m == 1 or n == 1:
        q.path = gemv_path(q)
        if q.path != GEMV and parts > 1:
            if n == 1:
                q.column_parts = min(parts, m)
            elif not whole_columns:
                q.row_parts = min(parts, n)
    elif own_products and (always_tiles or tiles_pay()):
        q.path = TILES
        if parts > 1:
            # twice as many parts as threads: who is done first takes over
            if not whole_columns and n >= 2 * PART_ROWS and n >= m:
                q.row_parts = min(2 * parts, (n + PART_ROWS - 1) // PART_ROWS)
            elif operations >= 2.0 * WAKING_OPERATIONS * parts:
                q.column_parts = max(1, min(2 * parts, m // 8))
            else:
                q.column_parts = max(1, min(parts, m // 8))
    else:
        q.path = GEMM
        if operations >= PARALLEL_OPERATIONS:
            q.column_parts = (m + BLAS_COLUMNS - 1) // BLAS_COLUMNS
            if not whole_columns:
                q.row_parts = (n + BLAS_ROWS - 1) // BLAS_ROWS


cdef inline Path gemv_path(const Product *q) noexcept nogil:
    """Our own loops take what is contiguous, BLAS the rest."""
    cdef bint along_sum = q.op_A == CblasTrans if q.p.m == 1 else q.op_B == CblasNoTrans
    cdef Py_ssize_t along = q.p.n if q.p.m == 1 else q.p.m
    if not own_products:
        return GEMV
    if along_sum:
        return DOTS if q.p.k >= GEMV_ROWS and (q.p.rs_b == 1 if q.p.m == 1 else q.p.lda == 1) else GEMV
    return ADD_COLUMNS if along >= GEMV_ROWS and (q.p.m == 1 or q.p.ldc == 1) else GEMV


cdef void product_part(
    real *like, const Product *q, Py_ssize_t row, Py_ssize_t row_end, Py_ssize_t first, Py_ssize_t end, void *scratch,
) noexcept nogil:
    """Rows row … row_end - 1 of the columns first … end - 1 of C."""
    cdef const nnk.nnk_table *table = table_of(like)
    cdef Py_ssize_t n = row_end - row, m = end - first, k = q.p.k
    cdef real *C = <real *>q.p.C + row + first * q.p.ldc
    cdef const real *A = <const real *>q.p.A + (row * q.p.lda if q.p.transpose_a else row)
    cdef const real *B = <const real *>q.p.B + first * q.p.cs_b
    if n <= 0 or m <= 0:
        return
    if q.path == TILES:
        table.gemm(&q.p, row, row_end, first, end, scratch)
        return
    if q.path == GEMM:
        gemm(C, <int>q.p.ldc, q.op_A, q.op_B, <real>q.p.alpha, A, <int>q.p.lda, B, q.ldb, <real>q.p.beta,
             <int>n, <int>m, <int>k)
        return
    clear_or_scale(C, q.p.ldc, <real>q.p.beta, n, m)
    if q.path == NOTHING_TO_SUM:
        return
    if q.p.m == 1:
        # one example: C += alpha A B with B a column
        matrix_times_vector(C, 1, q, A, q.p.lda, q.op_A == CblasTrans, B, q.p.rs_b, n)
    else:
        # one unit: Cᵀ += alpha Bᵀ Aᵀ with Aᵀ a column
        matrix_times_vector(C, q.p.ldc, q, B, q.ldb, q.op_B == CblasNoTrans, A, 1 if q.p.transpose_a else q.p.lda, m)


cdef inline void matrix_times_vector(
    real *y, Py_ssize_t inc_y, const Product *q, const real *A, Py_ssize_t lda, bint transpose, const real *x,
    Py_ssize_t inc_x, Py_ssize_t n,
) noexcept nogil:
    """y (n) += alpha op(A) x (k), A stored as op says."""
    cdef Py_ssize_t k = q.p.k
    cdef int step = <int>inc_x if k > 1 else 1
    if q.path == DOTS:
        table_of(y).dots(y, inc_y, A, lda, x, q.p.alpha, k, n)
    elif q.path == ADD_COLUMNS:
        table_of(y).add_columns(y, A, lda, x, inc_x, q.p.alpha, n, k)
    elif transpose:
        gemv(y, <int>inc_y, CblasTrans, <real>q.p.alpha, A, <int>lda, x, step, <real>1, <int>k, <int>n)
    else:
        gemv(y, <int>inc_y, CblasNoTrans, <real>q.p.alpha, A, <int>lda, x, step, <real>1, <int>n, <int>k)


cdef inline void clear_or_scale(real *C, Py_ssize_t ldc, real beta, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """C := beta C. BLAS may take 0 C for C where C holds NaN."""
    cdef Py_ssize_t j
    if ldc == n:
        n, m = n * m, 1
    for j in range(m):
        if beta == 0:
            memset(C + j * ldc, 0, n * sizeof(real))
        elif beta != 1:
            table_of(C).scale(C + j * ldc, beta, n)


# ---------------------------------------------------------------------------------------------------------------------
# Products with what follows them, in parts

cdef enum Ending:
    STORED
    ACTIVATED                       # + b, then g
    DIFFERENTIATED                  # ⊙ g'
    APPLIED                         # to W, as its gradient

cdef struct Job:
    Product product
    int itemsize
    Ending ending
    int activation
    double slope
    const void *b                   # bias, or NULL
    void *A                         # ACTIVATED: where g(Z) goes; C itself unless Z is kept
    const void *H                   # DIFFERENTIATED: what g' reads, A or Z of the layer below
    void *db                        # DIFFERENTIATED: += Σ_columns, in a job of one part; or NULL
    const Update *update            # APPLIED
    double penalties[MOST_APPLIED_PARTS]


cdef void do_part(void *job, Py_ssize_t part, void *scratch) noexcept nogil:
    if (<Job *>job).itemsize == 4:
        part_of_job(<float *>NULL, <Job *>job, part, scratch)
    else:
        part_of_job(<double *>NULL, <Job *>job, part, scratch)


cdef void part_of_job(real *like, Job *job, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef const Product *q = &job.product
    cdef Py_ssize_t n = q.p.n, m = q.p.m, rows = q.row_parts, columns = q.column_parts
    cdef Py_ssize_t row = 0, row_end = n, first = 0, end = m, width, c
    if rows > 1:
        row, row_end = row_bound(n, part % rows, rows), row_bound(n, part % rows + 1, rows)
    if columns > 1:
        first, end = bound(m, part // rows, columns), bound(m, part // rows + 1, columns)
    # what follows the product finds its columns in the cache
    width = end - first
    if job.ending == APPLIED:
        job.penalties[part] = 0
    if job.ending != STORED and q.path == TILES and row < row_end:
        width = table_of(like).gemm_block(&q.p, row_end - row)
    elif job.ending != STORED and q.path != GEMM:
        width = block_columns(n, sizeof(real))
    while first < end:
        c = min(width, end - first)
        product_part(like, q, row, row_end, first, first + c, scratch)
        finish(like, job, part, row, row_end - row, first, c)
        first += c


cdef inline Py_ssize_t bound(Py_ssize_t size, Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """Where a part begins: parts are equal, but for multiples of 32 where they are large."""
    cdef Py_ssize_t at = part * size // parts
    return at if part == parts or size < 128 * parts else at // 32 * 32


cdef inline Py_ssize_t row_bound(Py_ssize_t n, Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """The same for rows: the tiles of a part are whole."""
    cdef Py_ssize_t tiles = (n + PART_ROWS - 1) // PART_ROWS
    return min(n, part * tiles // parts * PART_ROWS) if tiles >= parts else part * n // parts


cdef inline void finish(
    real *like, Job *job, Py_ssize_t part, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t first, Py_ssize_t columns,
) noexcept nogil:
    cdef const nnk.nnk_table *table = table_of(like)
    cdef Py_ssize_t ld = job.product.p.ldc, at = row + first * ld
    cdef real *C = <real *>job.product.p.C + at
    cdef const real *b = <const real *>job.b + row if job.b is not NULL else NULL
    cdef const real *H = <const real *>job.H + at if job.H is not NULL else NULL
    cdef real *A
    if job.ending == ACTIVATED:
        A = <real *>job.A + at
        if A != C:
            if b is not NULL:
                table.forward[nnk.NNK_linear](C, ld, C, ld, b, job.slope, rows, columns)
            b = NULL
        if A != C or b is not NULL or job.activation != nnk.NNK_linear:
            table.forward[job.activation](A, ld, C, ld, b, job.slope, rows, columns)
    elif job.ending == DIFFERENTIATED:
        table.backward[job.activation](C, ld, job.db, C, ld, H, ld, H, ld, job.slope, rows, columns)
    elif job.ending == APPLIED:
        job.penalties[part] += table.update[job.update.code](
            <real *>job.update.W + at, <real *>job.update.s1 + at, <real *>job.update.s2 + at, C,
            <const nnk.nnk_step *>job.update.step, rows, columns, ld)


cdef inline void run_job(Job *job, const Team *team) noexcept nogil:
    cdef const Product *q = &job.product
    if q.p.n == 0 or q.p.m == 0:
        return
    nnk_run(do_part, <void *>job, q.row_parts * q.column_parts, team.threads,
            2.0 * q.p.n * q.p.m * q.p.k >= WAKING_OPERATIONS, team.scratch)


cdef void share_out(Task task, void *context, Py_ssize_t parts, bint wake_, const Team *team) noexcept nogil:
    nnk_run(task, context, parts, team.threads, wake_, team.scratch)


cdef void wake(const Team *team) noexcept nogil:
    nnk_wake(team.threads)


cdef void product(
    real *C, Py_ssize_t ldc, real alpha, const Matrix *A, const Matrix *B, real beta, const Team *team,
) noexcept nogil:
    cdef Job job
    memset(&job, 0, sizeof(job))
    job.itemsize, job.ending = sizeof(real), STORED
    plan_product(&job.product, C, ldc, alpha, A, B, beta, team, False)
    run_job(&job, team)


cdef inline Py_ssize_t block_columns(Py_ssize_t n, int itemsize) noexcept nogil:
    """Examples in a block whose columns have n entries."""
    return max(<Py_ssize_t>BLOCK_COLUMNS, BLOCK_BYTES // (max(n, 1) * itemsize))


cdef void forward_columns(
    real *A, real *Z, int activation, double slope, const Matrix *W, const Matrix *A_prev, const real *b,
    const Team *team,
) noexcept nogil:
    forward_to(A, A if Z is NULL else Z, W.n, activation, slope, W, A_prev, <real>0, b, team)


cdef void forward_rows(
    real *A, Py_ssize_t lda, int activation, double slope, const Matrix *W, const Matrix *A_prev, real beta,
    const real *b, const Team *team,
) noexcept nogil:
    forward_to(A, A, lda, activation, slope, W, A_prev, beta, b, team)


cdef inline void forward_to(
    real *A, real *Z, Py_ssize_t ld, int activation, double slope, const Matrix *W, const Matrix *A_prev, real beta,
    const real *b, const Team *team,
) noexcept nogil:
    """Z = W A_prev + beta Z, + b where A is Z, and A = g(Z + b), both with leading dimension ld."""
    cdef Job job
    memset(&job, 0, sizeof(job))
    job.itemsize, job.ending, job.activation, job.slope = sizeof(real), ACTIVATED, activation, slope
    job.A, job.b = A, b
    plan_product(&job.product, Z, ld, <real>1, W, A_prev, beta, team, activation == nnk.NNK_softmax)
    run_job(&job, team)


cdef void input_gradient(
    real *dZ_prev, real *db_prev, int activation, double slope, const Matrix *W, const real *dZ,
    const real *A_prev, const real *Z_prev, Py_ssize_t m, const Team *team,
) noexcept nogil:
    cdef Matrix W_T = transposed(W), dZ_matrix = contiguous(dZ, W.n, m)
    cdef Job job
    # db in the pass that writes dZ, unless the columns may be shared out among threads
    cdef bint apart = 2.0 * W.n * W.m * m >= PARALLEL_OPERATIONS
    memset(&job, 0, sizeof(job))
    job.itemsize, job.activation, job.slope = sizeof(real), activation, slope
    job.H = Z_prev if nnk.nnk_activation_facts[activation].derivative_reads_Z else A_prev
    job.db = NULL if apart else db_prev
    job.ending = STORED if activation == nnk.NNK_linear and job.db is NULL else DIFFERENTIATED
    plan_product(&job.product, dZ_prev, W.m, <real>1, &W_T, &dZ_matrix, <real>0, team, activation == nnk.NNK_softmax)
    run_job(&job, team)
    if apart and db_prev is not NULL:
        add_up_columns(db_prev, dZ_prev, W.m, m)


cdef void add_up_columns(real *db, const real *dZ, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """db += Σ_columns dZ"""
    cdef real one = 1
    table_of(db).add_columns(db, dZ, n, &one, 0, 1, n, m)


cdef void weight_gradient(
    real *dW, const real *dZ, const Matrix *A_prev, real alpha, real beta, Py_ssize_t n, Update *update,
    const Team *team,
) noexcept nogil:
    cdef Matrix dZ_matrix = contiguous(dZ, n, A_prev.m), A_prev_T = transposed(A_prev)
    cdef Job job
    cdef Product *q = &job.product
    cdef Py_ssize_t part
    if update is not NULL and update.code == nnk.NNK_sgd and not update.penalised:
        # W := W - rate dW is a product too
        dW, beta = <real *>update.W, 1
        alpha = <real>(-alpha * (<const nnk.nnk_step *>update.step).rate)
        update.penalty = 0
        update = NULL
    memset(&job, 0, sizeof(job) - sizeof(job.penalties))
    job.itemsize, job.ending, job.update = sizeof(real), STORED if update is NULL else APPLIED, update
    plan_product(q, dW, n, alpha, &dZ_matrix, &A_prev_T, beta, team, False)
    if q.path == TILES and q.row_parts * q.column_parts > 1 and n >= 2 * PART_ROWS:
        # the rows of W that a thread multiplied by on the way forward
        q.row_parts, q.column_parts = min(2 * team.threads, (n + PART_ROWS - 1) // PART_ROWS), 1
    if update is not NULL and (update.penalised or q.row_parts * q.column_parts > MOST_APPLIED_PARTS):
        # the sums of the penalty mustn't depend on the number of threads
        q.row_parts = q.column_parts = 1
        if q.path == TILES and 2.0 * q.p.n * q.p.m * q.p.k >= PARALLEL_OPERATIONS:
            if n >= APPLIED_PARTS * PART_ROWS:
                q.row_parts = APPLIED_PARTS
            else:
                q.column_parts = max(<Py_ssize_t>1, min(<Py_ssize_t>APPLIED_PARTS, q.p.m // APPLIED_COLUMNS))
    run_job(&job, team)
    if update is not NULL:
        update.penalty = 0
        for part in range(q.row_parts * q.column_parts):
            update.penalty += job.penalties[part]


# ---------------------------------------------------------------------------------------------------------------------
# On arrays: what the functions below share

cdef inline bint is_whole(const Matrix *A) noexcept nogil:
    """Contiguous columns, one after the other."""
    return (A.row == 1 or A.n <= 1) and (A.column == A.n or A.m <= 1)


cdef int activation_code(activation) except -1:
    code = activation_codes.get(activation) if isinstance(activation, str) else None
    if code is None:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
    return code


cdef int number_of_threads(threads) except -1:
    if threads is None:
        return default_threads
    if isinstance(threads, bool) or not isinstance(threads, Integral):
        raise ValueError(f"threads must be an integer >= 1 or None; got {threads!r}")
    if threads < 1:
        raise ValueError(f"threads must be an integer >= 1 or None; got {threads}")
    return min(threads, MOST_THREADS)


cdef Team form_team(int threads) except *:
    cdef Team team
    if not nnk_prepare_thread():
        raise MemoryError("no memory for what BLAS keeps for a thread")
    team.threads, team.scratch = threads, nnk_take_scratch()
    if team.scratch is NULL:
        raise MemoryError(f"no {NNK_SCRATCH_BYTES} bytes for packing")
    return team


cdef void dissolve(const Team *team) noexcept nogil:
    nnk_give_scratch(team.scratch)


cdef Py_ssize_t sums_to_add(Py_ssize_t full, Py_ssize_t done, bint last) noexcept nogil:
    """How often the last of `full` sums goes into the one before it, by the tree over chunks once `done` are summed."""
    cdef Py_ssize_t count = 0
    while full - count > 1 and (done % 2 == 0 or last):
        count += 1
        done //= 2
    return count


cdef double checked_slope(negative_slope) except? -1:
    cdef double slope = negative_slope
    if not 0 <= slope < float("inf"):
        raise ValueError(f"negative_slope must be a finite number >= 0; got {negative_slope!r}")
    return slope


cdef int type_of(str name, x) except -1:
    """The numpy type number of a call, read off its first operand: NPY_FLOAT or NPY_DOUBLE."""
    if not cnp.PyArray_Check(x):
        raise TypeError(f"{name} must be a numpy array of float32 or float64; got {type(x).__name__}")
    cdef int number = cnp.PyArray_TYPE(x)
    if number != cnp.NPY_FLOAT and number != cnp.NPY_DOUBLE:
        raise TypeError(f"{name} must be a numpy array of float32 or float64; got dtype {x.dtype}")
    return number


cdef object operand(str name, x, int number, str meaning):
    """x, or a copy of it that a kernel can take; errors name the argument and the shape that `meaning` gives it."""
    if not cnp.PyArray_Check(x):
        raise TypeError(f"{name} must be a numpy array of {dtype_of(number)}; got {type(x).__name__}")
    if cnp.PyArray_TYPE(x) != number:
        raise TypeError(f"{name} has dtype {x.dtype}, the first operand {dtype_of(number)}: all must be alike")
    if cnp.PyArray_NDIM(x) != 2:
        hint = ""
        if x.ndim == 1:
            hint = f"; {name}.reshape(-1, 1) makes it a column, {name}.reshape(1, -1) a row"
        raise ValueError(f"{name} must have shape {meaning}; got an array of rank {x.ndim}, shape {x.shape}{hint}")
    # swapped bytes, or entries off their boundaries
    return x if cnp.PyArray_ISBEHAVED_RO(x) else np.array(x, dtype=dtype_of(number), order="F")


cdef inline object dtype_of(int number):
    return FLOAT32 if number == cnp.NPY_FLOAT else FLOAT64


cdef inline cnp.ndarray new_matrix(Py_ssize_t n, Py_ssize_t m, int number):
    """(n, m) in Fortran order, not written to."""
    cdef cnp.npy_intp shape[2]
    shape[0], shape[1] = n, m
    return cnp.PyArray_EMPTY(2, shape, number, 1)


cpdef cnp.ndarray output(str name, out, Py_ssize_t n, Py_ssize_t m, int number, inputs):
    """A new (n, m) array of numpy's type `number`, or `out` after the checks it needs.

    `inputs` are pairs (name, array) that it must not overlap.
    """
    if out is None:
        return new_matrix(n, m, number)
    if not cnp.PyArray_Check(out):
        raise TypeError(f"{name} must be a numpy array of {dtype_of(number)}; got {type(out).__name__}")
    if cnp.PyArray_TYPE(out) != number or not out.dtype.isnative:
        raise TypeError(f"{name} must have dtype {dtype_of(number)}; got {out.dtype}")
    if cnp.PyArray_NDIM(out) != 2 or cnp.PyArray_DIM(out, 0) != n or cnp.PyArray_DIM(out, 1) != m:
        raise ValueError(f"{name} must have shape ({n}, {m}); got {out.shape}")
    if not cnp.PyArray_ISWRITEABLE(out):
        raise ValueError(f"{name} is read-only")
    if not cnp.PyArray_ISALIGNED(out):
        raise ValueError(f"{name} must be aligned")
    cdef Matrix A = matrix_of_array(out)
    if n * m > 1 and ((A.row == 0 and n > 1) or (A.column == 0 and m > 1)):
        raise ValueError(f"{name} is a broadcast array: several of its entries share one place in memory")
    for other_name, other in inputs:
        if other is not None and share_bytes(out, other):
            raise ValueError(f"{name} overlaps {other_name} in memory")
    return out


cdef inline Matrix matrix_of_array(cnp.ndarray array):
    """Of a behaved array of two dimensions."""
    cdef Matrix A
    cdef Py_ssize_t itemsize = cnp.PyArray_ITEMSIZE(array)
    A.data = cnp.PyArray_DATA(array)
    A.n, A.m = cnp.PyArray_DIM(array, 0), cnp.PyArray_DIM(array, 1)
    A.row, A.column = cnp.PyArray_STRIDE(array, 0) // itemsize, cnp.PyArray_STRIDE(array, 1) // itemsize
    return A


cdef void byte_bounds(cnp.ndarray array, size_t *first, size_t *end):
    """The bytes between which the entries of an array lie."""
    cdef Py_ssize_t reach, axis
    first[0] = end[0] = <size_t>cnp.PyArray_DATA(array)
    if cnp.PyArray_SIZE(array) == 0:
        return
    end[0] += cnp.PyArray_ITEMSIZE(array)
    for axis in range(cnp.PyArray_NDIM(array)):
        reach = (cnp.PyArray_DIM(array, axis) - 1) * cnp.PyArray_STRIDE(array, axis)
        if reach < 0:
            first[0] += reach
        else:
            end[0] += reach


cdef bint share_bytes(cnp.ndarray a, cnp.ndarray b):
    """Whether the stretches of memory of two arrays overlap (their entries might still take turns)."""
    cdef size_t a_first, a_end, b_first, b_end
    byte_bounds(a, &a_first, &a_end)
    byte_bounds(b, &b_first, &b_end)
    return a_first < b_end and b_first < a_end


cdef class Scratch:
    """Memory for one call, freed with it."""
    cdef void *data

    def __cinit__(self, size_t bytes_):
        self.data = malloc(bytes_ if bytes_ else 1)
        if self.data is NULL:
            raise MemoryError(f"no {bytes_} bytes for packing")

    def __dealloc__(self):
        free(self.data)


cdef void check_int(str name, Py_ssize_t size) except *:
    if size > INT_MAX:
        raise ValueError(f"{name} is {size}: BLAS takes at most {INT_MAX}")


# ---------------------------------------------------------------------------------------------------------------------
# Dense layers

def dense_forward(W, A_prev, b, activation, *, out=None, return_Z=False, negative_slope=0.01, threads=None):
    """A = g(W A_prev + b), one dense layer forward.

    Parameters
    ----------
    W : (n, n_prev) array of float32 or float64, any strides
    A_prev : (n_prev, m) array of the same dtype, one example a column
    b : (n, 1) array of the same dtype, or None for no bias
    activation : str
        One of `nnkern.kernels.ACTIVATIONS`.
    out : (n, m) array of the same dtype, optional
        Written and returned; must not overlap an input.
    return_Z : bool
        Return ``(A, Z)`` with Z = W A_prev + b.
    negative_slope : float
        leaky_relu's slope below 0.
    threads : int, optional
        At most this many threads; results don't depend on it.

    Returns
    -------
    A : (n, m) array, in Fortran order unless `out` says otherwise

    Raises
    ------
    TypeError
        An operand is no float32 or float64 array, or not all are alike.
    ValueError
        Shapes don't agree, the activation is unknown, or `out` can't be written.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> W, b = np.array([[1.0, -2.0]]), np.array([[0.5]])
    >>> nk.kernels.dense_forward(W, np.array([[3.0, 0.0], [1.0, 1.0]]), b, "relu")
    array([[1.5, 0. ]])

    Notes
    -----
    Equation: Z[l] = W[l] A[l-1] + b[l], A[l] = g[l](Z[l]).
    """
    cdef int code = activation_code(activation)
    cdef double slope = checked_slope(negative_slope)
    cdef int number = type_of("W", W), most_threads = number_of_threads(threads)
    W = operand("W", W, number, "(n, n_prev)")
    A_prev = operand("A_prev", A_prev, number, "(n_prev, m)")
    if b is not None:
        b = operand("b", b, number, "(n, 1)")
    if number == cnp.NPY_FLOAT:
        return _dense_forward[float](NULL, W, A_prev, b, code, out, return_Z, slope, most_threads)
    return _dense_forward[double](NULL, W, A_prev, b, code, out, return_Z, slope, most_threads)


cdef object _dense_forward(
    real *like, cnp.ndarray W_array, cnp.ndarray A_prev_array, cnp.ndarray b_array, int activation, out, bint return_Z,
    double slope, int threads,
):
    cdef Matrix W = matrix_of_array(W_array), A_prev = matrix_of_array(A_prev_array), A, Z, b, block
    cdef Py_ssize_t n = W.n, n_prev = W.m, m = A_prev.m, first, c, width, packed = 0
    cdef bint pack_A_prev, pack_b = False, whole
    cdef const nnk.nnk_table *table = table_of(like)
    check_int("n", n)
    check_int("n_prev", n_prev)
    if A_prev.n != n_prev:
        raise ValueError(f"A_prev has {A_prev.n} rows, W has {n_prev} columns: W (n, n_prev), A_prev (n_prev, m)")
    if b_array is not None:
        b = matrix_of_array(b_array)
        if b.n != n or b.m != 1:
            raise ValueError(f"b must have shape ({n}, 1), as W has {n} rows; got ({b.n}, {b.m})")
        pack_b = n > 1 and b.row != 1
    cdef int number = cnp.NPY_FLOAT if real is float else cnp.NPY_DOUBLE
    cdef cnp.ndarray A_array = output(
        "out", out, n, m, number,
        () if out is None else (("W", W_array), ("A_prev", A_prev_array), ("b", b_array)))
    cdef cnp.ndarray Z_array = new_matrix(n, m, number) if return_Z else None
    A = matrix_of_array(A_array)
    if return_Z:
        Z = matrix_of_array(Z_array)
    if n == 0 or m == 0:
        return (A_array, Z_array) if return_Z else A_array
    whole = is_whole(&A)
    pack_A_prev = not fits_blas(&A_prev)
    width = m if whole and not pack_A_prev else min(m, block_columns(max(n, n_prev), sizeof(real)))
    # for what doesn't lie as the products need it: W, b, and a block each of A_prev and of A
    if not fits_blas(&W):
        packed += n * n_prev
    if pack_b:
        packed += n
    if pack_A_prev:
        packed += width * n_prev
    if not whole:
        packed += width * n
    cdef Scratch scratch = Scratch(packed * sizeof(real)) if packed else None
    cdef real *free_space = <real *>scratch.data if packed else NULL
    cdef real *packed_A_prev = NULL
    cdef real *A_block = NULL
    cdef real *Z_block = NULL
    cdef Team team = form_team(threads)
    with nogil:
        nnk_blas_single_thread()
        if not fits_blas(&W):
            table.gather(free_space, W.data, W.row, W.column, NULL, n, n_prev)
            W = contiguous(free_space, n, n_prev)
            free_space += n * n_prev
        if b_array is not None and pack_b:
            table.gather(free_space, b.data, b.row, b.column, NULL, n, 1)
            b = contiguous(free_space, n, 1)
            free_space += n
        if pack_A_prev:
            packed_A_prev = free_space
            free_space += width * n_prev
        first = 0
        while first < m:
            c = min(width, m - first)
            block = columns_of(&A_prev, first, c, sizeof(real))
            if pack_A_prev:
                table.gather(packed_A_prev, block.data, block.row, block.column, NULL, n_prev, c)
                block = contiguous(packed_A_prev, n_prev, c)
            A_block = <real *>A.data + first * n if whole else free_space
            if return_Z:
                Z_block = <real *>Z.data + first * n
            forward_columns(A_block, Z_block, activation, slope, &W, &block,
                            NULL if b_array is None else <const real *>b.data, &team)
            if not whole:
                table.scatter(<real *>A.data + first * A.column, A.row, A.column, A_block, n, c)
            first += width
        dissolve(&team)
    return (A_array, Z_array) if return_Z else A_array


def dense_backward(dA, W, A_prev, A, activation, *, Z=None, need_dA_prev=True, out=None, negative_slope=0.01,
                   threads=None):
    """dZ, dW, db, dA_prev of one dense layer: its backward pass.

    Parameters
    ----------
    dA : (n, m) array of float32 or float64
        Derivative of each example's loss by A. With a loss kernel's dZ, pass it here with ``activation="linear"``.
    W : (n, n_prev) array of the same dtype
    A_prev : (n_prev, m) array of the same dtype
    A : (n, m) array of the same dtype
        What `dense_forward` returned.
    activation : str
        One of `nnkern.kernels.ACTIVATIONS`.
    Z : (n, m) array of the same dtype, optional
        Needed by the activations in `nnkern.kernels.NEEDS_Z`.
    need_dA_prev : bool
        False leaves out dA_prev (None is returned for it), as for the first layer.
    out : tuple (dZ, dW, db, dA_prev), optional
        Arrays to write to, None where a new one is wanted.
    negative_slope : float
        leaky_relu's slope below 0.
    threads : int, optional
        At most this many threads; results don't depend on it.

    Returns
    -------
    DenseGradients : named tuple
        dZ (n, m) = dA ⊙ g'(Z), derivatives of each example's own loss; dW (n, n_prev) = 1/m dZ A_prevᵀ;
        db (n, 1) = 1/m Σ_columns dZ; dA_prev (n_prev, m) = Wᵀ dZ.

    Raises
    ------
    TypeError
        An operand is no float32 or float64 array, or not all are alike.
    ValueError
        Shapes don't agree, the activation is unknown, Z is missing, or `out` can't be written.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> W, A_prev = np.array([[1.0, -2.0]]), np.array([[3.0, 0.0], [1.0, 1.0]])
    >>> A = nk.kernels.dense_forward(W, A_prev, np.array([[0.5]]), "relu")
    >>> nk.kernels.dense_backward(np.ones((1, 2)), W, A_prev, A, "relu").dW
    array([[1.5, 0.5]])
    """
    cdef int code = activation_code(activation)
    cdef double slope = checked_slope(negative_slope)
    cdef int number = type_of("dA", dA), most_threads = number_of_threads(threads)
    dA = operand("dA", dA, number, "(n, m)")
    W = operand("W", W, number, "(n, n_prev)")
    A_prev = operand("A_prev", A_prev, number, "(n_prev, m)")
    A = operand("A", A, number, "(n, m)")
    if nnk.nnk_activation_facts[code].derivative_reads_Z:
        if Z is None:
            raise ValueError(f"the derivative of {activation} needs Z=: dense_forward(…, return_Z=True) returns it")
        # Z takes the place of A, the one operand that g' reads
        A = operand("Z", Z, number, "(n, m)")
    if out is not None and (not isinstance(out, tuple) or len(out) != 4):
        raise TypeError(f"out must be a tuple (dZ, dW, db, dA_prev); got {out!r}")
    if number == cnp.NPY_FLOAT:
        return _dense_backward[float](NULL, dA, W, A_prev, A, code, need_dA_prev, out, slope, most_threads)
    return _dense_backward[double](NULL, dA, W, A_prev, A, code, need_dA_prev, out, slope, most_threads)


cdef inline object gradients_of(dZ, dW, db, dA_prev):
    """A DenseGradients, made as a tuple is: the call of a named tuple takes as long as a small product."""
    cdef object gradients = PyType_GenericAlloc(<PyTypeObject *>DenseGradients, 4)
    cdef Py_ssize_t place = 0
    for array in (dZ, dW, db, dA_prev):
        Py_INCREF(array)
        PyTuple_SET_ITEM(gradients, place, array)
        place += 1
    return gradients


cdef object _dense_backward(
    real *like, cnp.ndarray dA_array, cnp.ndarray W_array, cnp.ndarray A_prev_array, cnp.ndarray H_array,
    int activation, bint need_dA_prev, out, double slope, int threads,
):
    cdef Matrix dA = matrix_of_array(dA_array), W = matrix_of_array(W_array), A_prev = matrix_of_array(A_prev_array)
    cdef Matrix H = matrix_of_array(H_array)
    cdef Py_ssize_t n = W.n, n_prev = W.m, m = A_prev.m, packed = 0
    cdef bint reads_Z = nnk.nnk_activation_facts[activation].derivative_reads_Z
    check_int("n", n)
    check_int("n_prev", n_prev)
    if A_prev.n != n_prev:
        raise ValueError(f"A_prev has {A_prev.n} rows, W has {n_prev} columns: W (n, n_prev), A_prev (n_prev, m)")
    if dA.n != n or dA.m != m:
        raise ValueError(f"dA must have shape ({n}, {m}), as W and A_prev say; got ({dA.n}, {dA.m})")
    if H.n != n or H.m != m:
        raise ValueError(f"{'Z' if reads_Z else 'A'} must have shape ({n}, {m}), as W and A_prev say; "
                         f"got ({H.n}, {H.m})")
    cdef int number = cnp.NPY_FLOAT if real is float else cnp.NPY_DOUBLE
    cdef cnp.ndarray dZ_array, dW_array, db_array, dA_prev_array = None
    if out is None:
        dZ_array, dW_array = new_matrix(n, m, number), new_matrix(n, n_prev, number)
        db_array = new_matrix(n, 1, number)
        if need_dA_prev:
            dA_prev_array = new_matrix(n_prev, m, number)
    else:
        if not need_dA_prev and out[3] is not None:
            raise ValueError("out holds a dA_prev that isn't computed: need_dA_prev is False")
        inputs = [("dA", dA_array), ("W", W_array), ("A_prev", A_prev_array), ("Z" if reads_Z else "A", H_array)]
        dZ_array = output("out's dZ", out[0], n, m, number, inputs)
        inputs.append(("out's dZ", dZ_array))
        dW_array = output("out's dW", out[1], n, n_prev, number, inputs)
        inputs.append(("out's dW", dW_array))
        db_array = output("out's db", out[2], n, 1, number, inputs)
        inputs.append(("out's db", db_array))
        if need_dA_prev:
            dA_prev_array = output("out's dA_prev", out[3], n_prev, m, number, inputs)
    cdef Matrix dZ = matrix_of_array(dZ_array), dW = matrix_of_array(dW_array), db = matrix_of_array(db_array), dA_prev
    if need_dA_prev:
        dA_prev = matrix_of_array(dA_prev_array)

    # Chunks of examples; the gradients of chunks are combined in a tree: slot 0 ends up with the sum.
    cdef Py_ssize_t chunks = max(1, (m + CHUNK_COLUMNS - 1) // CHUNK_COLUMNS), slots = 1, chunk, full
    while (1 << (slots - 1)) < chunks:
        slots += 1
    cdef bint whole_dZ = is_whole(&dZ), whole_dA_prev = need_dA_prev and is_whole(&dA_prev)
    cdef bint direct = is_whole(&dW) and (db.row == 1 or n <= 1)
    cdef bint pack_A_prev = not fits_blas(&A_prev), pack_dA = not (dA.row == 1 or n <= 1)
    cdef bint pack_H = activation != nnk.NNK_linear and not (H.row == 1 or n <= 1)
    cdef Py_ssize_t width = min(m, min(CHUNK_COLUMNS, block_columns(max(n, n_prev), sizeof(real))))
    cdef Py_ssize_t gradient = n * n_prev + n, slot, _
    packed = (slots - 1 if direct else slots) * gradient
    if not fits_blas(&W):
        packed += n * n_prev
    packed += width * (n * (<int>pack_dA + <int>pack_H + <int>(not whole_dZ))
                       + n_prev * (<int>pack_A_prev + <int>(need_dA_prev and not whole_dA_prev)))
    cdef Scratch scratch = Scratch(packed * sizeof(real)) if packed else None
    cdef real *free_space = <real *>scratch.data if packed else NULL
    cdef real *slot_dW[64]
    cdef real *slot_db[64]
    cdef real *packed_A_prev = NULL
    cdef real *packed_dA = NULL
    cdef real *packed_H = NULL
    cdef real *dZ_space = NULL
    cdef real *dA_prev_space = NULL
    cdef Team team = form_team(threads)
    with nogil:
        nnk_blas_single_thread()
        for slot in range(slots):
            if slot == 0 and direct:
                slot_dW[0] = <real *>dW.data
                slot_db[0] = <real *>db.data
            else:
                slot_dW[slot] = free_space
                slot_db[slot] = free_space + n * n_prev
                free_space += gradient
        if not fits_blas(&W):
            nnk_gather(free_space, &W)
            W = contiguous(free_space, n, n_prev)
            free_space += n * n_prev
        if pack_dA:
            packed_dA = free_space
            free_space += width * n
        if pack_H:
            packed_H = free_space
            free_space += width * n
        if not whole_dZ:
            dZ_space = free_space
            free_space += width * n
        if pack_A_prev:
            packed_A_prev = free_space
            free_space += width * n_prev
        if need_dA_prev and not whole_dA_prev:
            dA_prev_space = free_space
        full = 0
        for chunk in range(chunks):
            backward_chunk(
                slot_dW[full], slot_db[full], activation, slope, &dZ, &dA_prev if need_dA_prev else NULL, &dA, &W,
                &A_prev, &H, chunk * CHUNK_COLUMNS, min(<Py_ssize_t>CHUNK_COLUMNS, m - chunk * CHUNK_COLUMNS),
                width, packed_dA, packed_H, dZ_space, packed_A_prev, dA_prev_space, &team)
            full += 1
            for _ in range(sums_to_add(full, chunk + 1, chunk == chunks - 1)):
                full -= 1
                add_gradient(slot_dW[full - 1], slot_db[full - 1], slot_dW[full], slot_db[full], n, n_prev)
        if not direct:
            nnk_scatter(&dW, slot_dW[0])
            nnk_scatter(&db, slot_db[0])
        dissolve(&team)
    return gradients_of(dZ_array, dW_array, db_array, dA_prev_array)


cdef inline void nnk_gather(real *packed, const Matrix *A) noexcept nogil:
    table_of(packed).gather(packed, A.data, A.row, A.column, NULL, A.n, A.m)


cdef inline void nnk_scatter(const Matrix *A, const real *packed) noexcept nogil:
    table_of(packed).scatter(<void *>A.data, A.row, A.column, packed, A.n, A.m)


cdef inline void add_gradient(
    real *dW, real *db, const real *dW_more, const real *db_more, Py_ssize_t n, Py_ssize_t n_prev,
) noexcept nogil:
    table_of(dW).add(dW, dW_more, n * n_prev)
    table_of(dW).add(db, db_more, n)


cdef inline Matrix packed_columns(
    real *packed, const Matrix *A, Py_ssize_t first, Py_ssize_t c,
) noexcept nogil:
    """Columns of A, brought to `packed` unless that is NULL: then as they lie."""
    cdef Matrix block = columns_of(A, first, c, sizeof(real))
    if packed is NULL:
        return block
    nnk_gather(packed, &block)
    return contiguous(packed, block.n, block.m)


cdef void backward_chunk(
    real *dW, real *db, int activation, double slope, const Matrix *dZ, const Matrix *dA_prev, const Matrix *dA,
    const Matrix *W, const Matrix *A_prev, const Matrix *H, Py_ssize_t start, Py_ssize_t count,
    Py_ssize_t width, real *packed_dA, real *packed_H, real *dZ_space, real *packed_A_prev, real *dA_prev_space,
    const Team *team,
) noexcept nogil:
    """dW, db of `count` examples from `start` on, with dZ and dA_prev (unless NULL) of the same."""
    cdef const nnk.nnk_table *table = table_of(dW)
    cdef Py_ssize_t n = W.n, n_prev = W.m, m = A_prev.m, first = start, c
    cdef Matrix dA_block, H_block, A_prev_block, dZ_block, dA_prev_block
    cdef real *dZ_at
    cdef real *dA_prev_at
    cdef real one_mth = <real>(1.0 / m) if m else 0
    memset(db, 0, n * sizeof(real))
    if count == 0:
        memset(dW, 0, n * n_prev * sizeof(real))
    while first < start + count:
        c = min(width, start + count - first)
        dA_block = packed_columns(packed_dA, dA, first, c)
        H_block = packed_columns(packed_H, H, first, c)
        A_prev_block = packed_columns(packed_A_prev, A_prev, first, c)
        dZ_block = columns_of(dZ, first, c, sizeof(real))
        dZ_at = <real *>dZ_block.data if dZ_space is NULL else dZ_space
        table.backward[activation](
            dZ_at, n, db, dA_block.data, dA_block.column, H_block.data, H_block.column, H_block.data, H_block.column,
            slope, n, c)
        if dZ_space is not NULL:
            nnk_scatter(&dZ_block, dZ_at)
        weight_gradient(dW, dZ_at, &A_prev_block, one_mth, <real>(0 if first == start else 1), n, NULL, team)
        if dA_prev is not NULL:
            dA_prev_block = columns_of(dA_prev, first, c, sizeof(real))
            dA_prev_at = <real *>dA_prev_block.data if dA_prev_space is NULL else dA_prev_space
            input_gradient(dA_prev_at, <real *>NULL, nnk.NNK_linear, 0, W, dZ_at, <const real *>NULL,
                           <const real *>NULL, c, team)
            if dA_prev_space is not NULL:
                nnk_scatter(&dA_prev_block, dA_prev_at)
        first += c
    table.scale(db, 1.0 / m if m else 0, n)


# ---------------------------------------------------------------------------------------------------------------------
# Activations by themselves

def activation_forward(Z, name, *, out=None, negative_slope=0.01):
    """A = g(Z).

    Parameters
    ----------
    Z : (n, m) array of float32 or float64, any strides
    name : str
        One of `nnkern.kernels.ACTIVATIONS`; softmax is taken over the units of each example.
    out : (n, m) array of the same dtype, optional
    negative_slope : float
        leaky_relu's slope below 0.

    Returns
    -------
    A : (n, m) array, in Fortran order unless `out` says otherwise

    Raises
    ------
    TypeError, ValueError
        As `dense_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> nk.kernels.activation_forward(np.array([[-1.0, 0.0, 2.0]]), "relu")
    array([[0., 0., 2.]])
    """
    cdef int code = activation_code(name)
    cdef double slope = checked_slope(negative_slope)
    cdef int number = type_of("Z", Z)
    Z = operand("Z", Z, number, "(n, m)")
    return _applied(Z, None, out, () if out is None else (("Z", Z),), number, code, slope)


def activation_backward(dA, A, name, *, Z=None, out=None, negative_slope=0.01):
    """dZ = dA ⊙ g'(Z); for softmax dZ = A ⊙ (dA - Σ_units dA ⊙ A).

    Parameters
    ----------
    dA, A : (n, m) arrays of float32 or float64
    name : str
        One of `nnkern.kernels.ACTIVATIONS`.
    Z : (n, m) array, optional
        Needed by the activations in `nnkern.kernels.NEEDS_Z`.
    out : (n, m) array of the same dtype, optional
    negative_slope : float
        leaky_relu's slope below 0.

    Returns
    -------
    dZ : (n, m) array, in Fortran order unless `out` says otherwise

    Raises
    ------
    TypeError, ValueError
        As `dense_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> A = nk.kernels.activation_forward(np.array([[-1.0, 0.0, 2.0]]), "relu")
    >>> nk.kernels.activation_backward(np.ones((1, 3)), A, "relu")
    array([[0., 0., 1.]])
    """
    cdef int code = activation_code(name)
    cdef double slope = checked_slope(negative_slope)
    cdef int number = type_of("dA", dA)
    dA = operand("dA", dA, number, "(n, m)")
    A = operand("A", A, number, "(n, m)")
    if nnk.nnk_activation_facts[code].derivative_reads_Z:
        if Z is None:
            raise ValueError(f"the derivative of {name} needs Z=")
        A = operand("Z", Z, number, "(n, m)")
    if not cnp.PyArray_SAMESHAPE(A, dA):
        raise ValueError(f"A has shape {A.shape}, dA {dA.shape}: both must be (n, m)")
    return _applied(dA, A, out, () if out is None else (("dA", dA), ("A", A)), number, code, slope)


cdef object _applied(cnp.ndarray X, cnp.ndarray H, out, inputs, int number, int activation, double slope):
    """g(X), or X ⊙ g'(H) if there is an H."""
    cdef Matrix X_matrix = matrix_of_array(X), H_matrix, Y_matrix
    cdef const Matrix *derived_from = NULL
    Y = output("out", out, X_matrix.n, X_matrix.m, number, inputs)
    Y_matrix = matrix_of_array(Y)
    if H is not None:
        H_matrix = matrix_of_array(H)
        derived_from = &H_matrix
    if number == cnp.NPY_FLOAT:
        _walk[float](&Y_matrix, &X_matrix, derived_from, activation, slope)
    else:
        _walk[double](&Y_matrix, &X_matrix, derived_from, activation, slope)
    return Y


cdef int _walk(
    const Matrix *Y, const Matrix *X, const Matrix *H, int activation, double slope, const real *like=NULL,
) except -1:
    """Y = g(X), or Y = X ⊙ g'(H), block by block; blocks that aren't contiguous are packed."""
    cdef Py_ssize_t n = Y.n, m = Y.m, first, c
    cdef Py_ssize_t width = min(m, block_columns(n, sizeof(real)))
    cdef bint pack_Y = not is_whole(Y), pack_X = not is_whole(X), pack_H = H is not NULL and not is_whole(H)
    cdef Scratch scratch = None
    cdef real *space = NULL
    if pack_Y or pack_X or pack_H:
        scratch = Scratch((<int>pack_Y + <int>pack_X + <int>pack_H) * n * width * sizeof(real))
        space = <real *>scratch.data
    cdef real *X_space = space if pack_X else NULL
    cdef real *H_space = space + <int>pack_X * n * width if pack_H else NULL
    cdef real *Y_space = space + (<int>pack_X + <int>pack_H) * n * width if pack_Y else NULL
    cdef const nnk.nnk_table *table = table_of(space)
    cdef Matrix X_block, H_block, Y_block
    cdef void *target
    if n == 0 or m == 0:
        return 0
    with nogil:
        first = 0
        while first < m:
            c = min(width, m - first)
            X_block = packed_columns(X_space, X, first, c)
            Y_block = columns_of(Y, first, c, sizeof(real))
            target = Y_space if pack_Y else <void *>Y_block.data
            if H is NULL:
                table.forward[activation](target, n, X_block.data, n, NULL, slope, n, c)
            else:
                H_block = packed_columns(H_space, H, first, c)
                table.backward[activation](
                    target, n, NULL, X_block.data, n, H_block.data, n, H_block.data, n, slope, n, c)
            if pack_Y:
                nnk_scatter(&Y_block, <const real *>target)
            first += width
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Losses, fused with the output they are matched to

def loss(str name, Z, Y, sample_weight, double parameter=0):
    """cost, A, dZ of the loss of that name, in one pass over Z; `parameter` is its one number."""
    cdef int code = loss_codes[name]
    cdef int number = type_of("Z", Z)
    dtype = dtype_of(number)
    A = np.array(operand("Z", Z, number, "(n_y, m)"), dtype=dtype, order="F")
    cdef Py_ssize_t n = A.shape[0], m = A.shape[1]
    cdef const int64_t[::1] labels = None
    if code == nnk.NNK_cross_entropy and isinstance(Y, ndarray) and Y.dtype.kind in "iub":
        if Y.shape != (m,) and Y.shape != (1, m):
            raise ValueError(f"Y must hold labels of shape ({m},) or (1, {m}), as Z has {m} columns; got {Y.shape}")
        Y = np.ascontiguousarray(Y.reshape(m), dtype=np.int64)
        if m and (Y.min() < 0 or Y.max() >= n):
            first = int(np.flatnonzero((Y < 0) | (Y >= n))[0])
            raise ValueError(f"Y holds the label {Y[first]} at position {first}: labels go from 0 to {n - 1}")
        labels = Y
    else:
        Y = operand("Y", Y, number, "(n_y, m)")
        if Y.shape != A.shape:
            raise ValueError(f"Y has shape {Y.shape}, Z {A.shape}: both must be (n_y, m)")
        Y = np.asfortranarray(Y)
    if n == 0 and m > 0:
        raise ValueError("Z has no rows: a loss needs at least one output unit")
    weights = None
    cdef double total = m
    if sample_weight is not None:
        weights = np.ascontiguousarray(sample_weight, dtype=dtype)
        if weights.shape != (m,):
            raise ValueError(f"sample_weight must have shape ({m},), as Z has {m} columns; got {weights.shape}")
        total = weights.sum(dtype=np.float64)
        if m and not (total > 0 and total < float("inf") and weights.min() >= 0):
            raise ValueError("sample_weight must be finite, >= 0 and not all 0")
    dZ = new_matrix(n, m, number)
    if m == 0:
        return 0.0, A, dZ
    if number == cnp.NPY_FLOAT:
        cost = _loss_pass[float](A, dZ, None if labels is not None else Y, labels, weights, code, parameter, total)
    else:
        cost = _loss_pass[double](A, dZ, None if labels is not None else Y, labels, weights, code, parameter, total)
    return cost, A, dZ


cdef double _loss_pass(
    real[::1, :] A, real[::1, :] dZ, const real[::1, :] Y, const int64_t[::1] labels, const real[::1] w, int code,
    double parameter, double total,
) except? -1:
    cdef Py_ssize_t n = A.shape[0], m = A.shape[1], first = 0, _
    cdef const nnk.nnk_table *table = table_of(&A[0, 0])
    cdef double scale = 1 if w is None else m / total
    # costs of chunks, which are combined in a tree
    cdef double costs[MOST_COSTS]
    cdef int full = 0
    with nogil:
        while first < m:
            costs[full] = table.loss[code](
                &A[0, first], &dZ[0, first], &A[0, first], NULL if Y is None else &Y[0, first],
                NULL if labels is None else &labels[first], NULL if w is None else &w[first],
                scale, parameter, n, min(<Py_ssize_t>CHUNK_COLUMNS, m - first))
            first += CHUNK_COLUMNS
            full += 1
            for _ in range(sums_to_add(full, first // CHUNK_COLUMNS, first >= m)):
                full -= 1
                costs[full - 1] += costs[full]
    return costs[0] / total


# ---------------------------------------------------------------------------------------------------------------------
# For the Python layers above

def first_nonfinite(array):
    """Index tuple of the first NaN or infinity, row by row, or None. `array`: float32 or float64, any strides."""
    flat = array.reshape(-1, order="A") if array.flags.forc else None
    cdef const float[::1] singles
    cdef const double[::1] doubles
    cdef Py_ssize_t at, count
    if flat is not None and array.flags.aligned and array.dtype.isnative and array.size:
        count = flat.size
        if array.dtype == FLOAT32:
            singles = flat
            with nogil:
                at = tables.f32.first_nonfinite(&singles[0], count)
        else:
            doubles = flat
            with nogil:
                at = tables.f64.first_nonfinite(&doubles[0], count)
        if at == count:
            return None
        if array.flags.c_contiguous:
            return tuple(map(int, np.unravel_index(at, array.shape)))
    bad = ~np.isfinite(array)
    return tuple(map(int, np.unravel_index(bad.argmax(), array.shape))) if bad.any() else None


def philox(counter, key):
    """The four 32-bit words of Philox4x32-10 for a counter of four words and a key of two."""
    cdef uint32_t c[4]
    cdef uint32_t k[2]
    cdef uint32_t words[4]
    c[0], c[1], c[2], c[3] = counter
    k[0], k[1] = key
    nnk.nnk_philox(words, c, k)
    return words[0], words[1], words[2], words[3]


def get_threads():
    return default_threads


def set_threads(threads):
    global default_threads
    default_threads = min(threads, MOST_THREADS)


def processors():
    """How many processors this process may use, by its affinity and its share of them."""
    return nnk_processors()


def fma_rate(dtype, double seconds=0.02):
    """Flops per second of multiply-adds in registers with the chosen instruction set: the limit of one thread.

    The best of short runs within `seconds`, the GIL released. For the benchmarks.
    """
    if np.dtype(dtype) not in (FLOAT32, FLOAT64):
        raise TypeError(f"dtype: {dtype}, expected float32 or float64")
    cdef const nnk.nnk_table *table = <const nnk.nnk_table *>kernel_table(np.dtype(dtype).itemsize)
    cdef double total = 0, best = 0, flops, start, now, end
    with nogil:
        now = nnk.nnk_seconds()
        end = now + seconds
        while now < end:
            start = now
            # some 20 µs: longer than reading the clock takes, shorter than another program's turn
            flops = table.multiply_adds(&total, 100)
            now = nnk.nnk_seconds()
            if now > start:
                best = max(best, flops / (now - start))
    return best


def build_config():
    """What this build is and what it chose, as a dict of strings and numbers."""
    usable = []
    while nnk.nnk_usable_isas()[len(usable)] is not NULL:
        usable.append(nnk.nnk_usable_isas()[len(usable)].decode())
    return {
        "blas": NNK_BLAS_NAME.decode(),
        "blas_config": nnk_blas_config().decode(),
        "blas_core": nnk_blas_core().decode(),
        "gemm": _asked,
        "isa": tables.isa.decode(),
        "usable_isas": usable,
        "vector_bytes": tables.vector_bytes,
    }
