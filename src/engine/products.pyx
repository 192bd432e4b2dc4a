# Dense products: which path computes one, how it is cut into parts, and what each block goes through after it.
#
# C (n, m) := alpha A B + beta C with A (n, k), B (k, m). A product is computed in parts, rows by columns of C. Where
# that changes no bit the parts depend on the number of threads; where it may (BLAS), they depend on the shape only.
# Knows pointers, item sizes and a compute type's functions; knows no layers and nothing of what a user meant.

from libc.string cimport memset

from engine.blocks cimport PARALLEL_OPERATIONS, block_columns
from kernels.nnk cimport (
    NNK_ACTIVATIONS, NNK_UPDATES, NNK_linear, NNK_sgd, NNK_softmax, nnk_bf16_table, nnk_choose_tables,
    nnk_packed_product, nnk_product, nnk_product_of, nnk_step, nnk_tables, nnk_usable_isas,
)
from nnkern._matrix cimport contiguous, fits_blas, has_contiguous_columns, transposed
from runtime.blas cimport (
    NNK_BLAS_NAME, nnk_blas_config, nnk_blas_core, nnk_blas_f32, nnk_blas_f64, nnk_blas_single_thread, nnk_open_blas,
    nnk_prepare_thread,
)
from runtime.check cimport check
from runtime.pool cimport (
    NNK_SCRATCH_BYTES, nnk_give_scratch, nnk_prepare_worker, nnk_run, nnk_take_scratch, nnk_wake,
)
from runtime.system cimport nnk_processors

import os as _os

if nnk_open_blas() != 0:
    raise MemoryError("no memory for the first buffer of BLAS")
nnk_prepare_worker = nnk_prepare_thread

cdef const nnk_tables *tables = nnk_choose_tables()


def usable_isas():
    """Names of the instruction sets that this build holds and this processor runs, best first."""
    names = []
    while nnk_usable_isas()[len(names)] is not NULL:
        names.append(nnk_usable_isas()[len(names)].decode())
    return names


if tables is NULL:
    raise ImportError(
        f"NNKERN_ISA={_os.environ.get('NNKERN_ISA')!r} can't be had: "
        f"this build on this processor has {', '.join(usable_isas())}")

# Which side computes products where both can: NNKERN_GEMM=blas leaves all of them to BLAS.
_asked = _os.environ.get("NNKERN_GEMM") or "auto"
if _asked not in ("auto", "blas", "tiles"):
    raise ImportError(f"NNKERN_GEMM={_asked!r} is unknown: auto, blas or tiles")
cdef bint own_products = _asked != "blas", always_tiles = _asked == "tiles"

cdef inline bint tiles_pay() noexcept nogil:
    """Whether our micro-kernels beat BLAS: with vectors that are wider than the baseline's.

    Measured against OpenBLAS 0.3.34 on one core of a Zen 4 (limit 117 GF/s in float32; n×m×k, GF/s of tiles : BLAS):
    128×64×784 117 : 96, 256×128×256 117 : 101, 512×256×784 116 : 105, 10×256×512 82 : 49, 1024×1024×1024 105 : 102,
    4096×1024×1024 104 : 101, 1024×256×1024 107 : 99, 20×209×12288 88 : 73; with rows of B contiguous 20×209×12288
    97 : 68; with A transposed 512×256×512 109 : 98, 1024×1024×4096 101 : 99. A whole training of 1024-4096-4096-1024
    units, larger than all caches, takes as long with either.
    """
    return tables.vector_bytes >= 32


# The compute types, and the same without BLAS. A further one is a row here, with a table of kernels of its own.
cdef enum:
    IN_FLOAT32
    IN_FLOAT64
    IN_BFLOAT16
    COMPUTE_TYPES

COMPUTE_NAMES = ("float32", "float64", "bfloat16")
cdef Compute types[COMPUTE_TYPES]
cdef Compute own_types[COMPUTE_TYPES]


cdef void set_type(int which, int itemsize, const nnk_table *table, const nnk_blas *blas, bint own) noexcept:
    types[which] = Compute(itemsize, table, blas, own, &own_types[which])
    own_types[which] = Compute(itemsize, table, NULL, True, &own_types[which])


set_type(IN_FLOAT32, 4, tables.f32, &nnk_blas_f32, own_products and (always_tiles or tiles_pay()))
set_type(IN_FLOAT64, 8, tables.f64, &nnk_blas_f64, own_products and (always_tiles or tiles_pay()))


cdef const Compute *compute_type(int itemsize) noexcept nogil:
    return &types[IN_FLOAT32] if itemsize == 4 else &types[IN_FLOAT64]


cdef const Compute *compute_named(str name) except NULL:
    cdef int which = COMPUTE_NAMES.index(name)
    if which == IN_BFLOAT16 and types[IN_BFLOAT16].table is NULL:
        set_type(IN_BFLOAT16, 4, nnk_bf16_table(), &nnk_blas_f32, True)
    return &types[which]


cdef nnk_packed_product product_of(int weights) noexcept:
    return nnk_product_of(weights)


def processors():
    """How many processors this process may use, by its affinity and its share of them."""
    return nnk_processors()


def build_config():
    """What this build is and what it chose, as a dict of strings and numbers."""
    return {
        "blas": NNK_BLAS_NAME.decode(),
        "blas_config": nnk_blas_config().decode(),
        "blas_core": nnk_blas_core().decode(),
        "gemm": _asked,
        "isa": tables.isa.decode(),
        "bfloat16": tables.reduced.by.decode(),
        "usable_isas": usable_isas(),
        "vector_bytes": tables.vector_bytes,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Path and parts

cdef enum:
    # fewest rows for which our own loops take a matrix times a vector: they work along the columns
    GEMV_ROWS = 64
    # operations of a product from which it is worth waking sleeping threads
    WAKING_OPERATIONS = 5000000
    # the rows of a part are multiples of MR of the largest micro-kernel
    PART_ROWS = 32
    # the grain of a product that is applied as a gradient: parts of it, and the fewest columns of one
    APPLIED_PARTS = 8
    APPLIED_COLUMNS = 28
    MOST_APPLIED_PARTS = 64
    # the grain of BLAS
    BLAS_ROWS = 4096
    BLAS_COLUMNS = 512

cdef enum Path:
    NOTHING_TO_SUM                  # k = 0
    DOTS                            # A or B has one column or row: our own loops, along the sum
    ADD_COLUMNS                     # likewise, along C
    GEMV
    TILES
    GEMM

cdef struct Product:
    nnk_product p
    Path path
    bint transpose_b
    Py_ssize_t ldb
    Py_ssize_t row_parts, column_parts      # the grid of parts


cdef inline bint as_blas(const Matrix *A, Py_ssize_t *ld) noexcept nogil:
    """Whether BLAS is to transpose what is in memory, and its leading dimension."""
    cdef bint transpose = not has_contiguous_columns(A)
    cdef Matrix stored = transposed(A) if transpose else A[0]
    ld[0] = stored.column if stored.m > 1 else max(<Py_ssize_t>1, stored.n)
    return transpose


cdef inline Path gemv_path(const Product *q) noexcept nogil:
    """Our own loops take what is contiguous, BLAS the rest."""
    cdef bint along_sum = q.p.transpose_a if q.p.m == 1 else not q.transpose_b
    cdef Py_ssize_t along = q.p.n if q.p.m == 1 else q.p.m
    if not own_products:
        return GEMV
    if along_sum:
        return DOTS if q.p.k >= GEMV_ROWS and (q.p.rs_b == 1 if q.p.m == 1 else q.p.lda == 1) else GEMV
    return ADD_COLUMNS if along >= GEMV_ROWS and (q.p.m == 1 or q.p.ldc == 1) else GEMV


cdef inline double operations_of(const Product *q) noexcept nogil:
    return 2.0 * q.p.n * q.p.k * q.p.m


cdef void set_operands(
    Product *q, void *C, Py_ssize_t ldc, double alpha, const Matrix *A, const Matrix *B, double beta,
) noexcept nogil:
    check(A.n >= 0 and A.m >= 0 and B.m >= 0 and A.m == B.n and ldc >= A.n)
    check(A.n == 0 or B.m == 0 or C is not NULL)
    check(A.m == 0 or A.n == 0 or (A.data is not NULL and fits_blas(A)))
    check(A.m == 0 or B.m == 0 or (B.data is not NULL and fits_blas(B)))
    q.p.transpose_a = as_blas(A, &q.p.lda)
    q.transpose_b = as_blas(B, &q.ldb)
    q.p.C, q.p.ldc, q.p.A, q.p.B = C, ldc, A.data, B.data
    q.p.rs_b, q.p.cs_b = B.row, B.column
    q.p.alpha, q.p.beta, q.p.n, q.p.m, q.p.k = alpha, beta, A.n, B.m, A.m


cdef void choose_path(Product *q, const Compute *compute, const Team *team, bint whole_columns) noexcept nogil:
    """Path and parts of a product whose operands are set; with `whole_columns` a part has all rows."""
    cdef Py_ssize_t n = q.p.n, m = q.p.m
    cdef double operations = operations_of(q)
    cdef Py_ssize_t parts = team.threads if operations >= PARALLEL_OPERATIONS else 1
    q.row_parts = q.column_parts = 1
    if q.p.k == 0:
        q.path = NOTHING_TO_SUM
    elif (m == 1 or n == 1) and compute.blas is not NULL:
        q.path = gemv_path(q)
        if q.path != GEMV and parts > 1:
            if n == 1:
                q.column_parts = min(parts, m)
            elif not whole_columns:
                q.row_parts = min(parts, n)
    elif compute.own:
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


cdef inline Py_ssize_t column_bound(Py_ssize_t m, Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """Where a part begins: parts are equal, but for multiples of 32 where they are large."""
    cdef Py_ssize_t at = part * m // parts
    return at if part == parts or m < 128 * parts else at // 32 * 32


cdef inline Py_ssize_t row_bound(Py_ssize_t n, Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """The same for rows: no micro-kernel is cut between two parts."""
    cdef Py_ssize_t tiles = (n + PART_ROWS - 1) // PART_ROWS
    return min(n, part * tiles // parts * PART_ROWS) if tiles >= parts else part * n // parts


# ---------------------------------------------------------------------------------------------------------------------
# The product of one part

cdef struct Part:
    Py_ssize_t row, row_end, first, end     # rows row … row_end - 1, columns first … end - 1


cdef void blas_product(const Compute *compute, const Product *q, const Part *part) noexcept nogil:
    """By BLAS; what has one row or column, by our own loops too."""
    cdef int size = compute.itemsize
    cdef Py_ssize_t n = part.row_end - part.row, m = part.end - part.first
    cdef char *C = <char *>q.p.C + (part.row + part.first * q.p.ldc) * size
    cdef const char *A = <const char *>q.p.A + (part.row * q.p.lda if q.p.transpose_a else part.row) * size
    cdef const char *B = <const char *>q.p.B + part.first * q.p.cs_b * size
    if q.path == GEMM:
        compute.blas.gemm(C, q.p.ldc, q.p.transpose_a, q.transpose_b, q.p.alpha, A, q.p.lda, B, q.ldb, q.p.beta,
                          n, m, q.p.k)
        return
    clear_or_scale(compute, C, q.p.ldc, q.p.beta, n, m)
    if q.path == NOTHING_TO_SUM:
        return
    if q.p.m == 1:
        # one example: C += alpha A B with B a column
        matrix_times_vector(compute, q, C, A, B, n)
    else:
        # one unit: Cᵀ += alpha Bᵀ Aᵀ with Aᵀ a column
        matrix_times_vector(compute, q, C, B, A, m)


cdef inline void matrix_times_vector(
    const Compute *compute, const Product *q, void *y, const void *M, const void *x, Py_ssize_t length,
) noexcept nogil:
    """y (length) += alpha op(M) x (k): M is the operand that has more than one row and column, stored as q says."""
    cdef bint one_example = q.p.m == 1
    cdef Py_ssize_t k = q.p.k, ldm = q.p.lda if one_example else q.ldb
    cdef Py_ssize_t inc_y = 1 if one_example else q.p.ldc
    cdef Py_ssize_t inc_x = q.p.rs_b if one_example else (1 if q.p.transpose_a else q.p.lda)
    cdef bint transpose = q.p.transpose_a if one_example else not q.transpose_b
    if q.path == DOTS:
        compute.table.dots(y, inc_y, M, ldm, x, q.p.alpha, k, length)
    elif q.path == ADD_COLUMNS:
        compute.table.add_columns(y, M, ldm, x, inc_x, q.p.alpha, length, k)
    else:
        compute.blas.gemv(y, inc_y, transpose, q.p.alpha, M, ldm, x, inc_x if k > 1 else 1, 1,
                          k if transpose else length, length if transpose else k)


cdef inline void clear_or_scale(
    const Compute *compute, char *C, Py_ssize_t ldc, double beta, Py_ssize_t n, Py_ssize_t m,
) noexcept nogil:
    """C := beta C. BLAS may take 0 C for C where C holds NaN."""
    cdef Py_ssize_t j
    if ldc == n:
        n, m = n * m, 1
    for j in range(m):
        if beta == 0:
            memset(C + j * ldc * compute.itemsize, 0, n * compute.itemsize)
        elif beta != 1:
            compute.table.scale(C + j * ldc * compute.itemsize, beta, n)


# ---------------------------------------------------------------------------------------------------------------------
# Products with their epilogues, in parts

cdef enum Epilogue:
    STORE
    ACTIVATE                        # + b, then g
    DIFFERENTIATE                   # ⊙ g'
    APPLY                           # to W, as its gradient

cdef struct Job:
    Product product
    const Compute *compute
    Epilogue epilogue
    const Forward *forward          # ACTIVATE
    const Below *below              # DIFFERENTIATE
    void *db                        # DIFFERENTIATE: += Σ_columns, in a job of one part; or NULL
    const Update *update            # APPLY
    double penalties[MOST_APPLIED_PARTS]


cdef void do_part(void *job_, Py_ssize_t number, void *scratch) noexcept nogil:
    cdef Job *job = <Job *>job_
    cdef const Product *q = &job.product
    cdef Py_ssize_t rows = q.row_parts, columns = q.column_parts, width, end
    cdef Part part = Part(0, q.p.n, 0, q.p.m)
    if rows > 1:
        part.row, part.row_end = row_bound(q.p.n, number % rows, rows), row_bound(q.p.n, number % rows + 1, rows)
    if columns > 1:
        part.first = column_bound(q.p.m, number // rows, columns)
        part.end = column_bound(q.p.m, number // rows + 1, columns)
    if job.epilogue == APPLY:
        job.penalties[number] = 0
    if part.row == part.row_end or part.first == part.end:
        return
    # the epilogue finds its columns in the cache
    width = part.end - part.first
    if job.epilogue != STORE and q.path == TILES:
        width = job.compute.table.gemm_block(&q.p, part.row_end - part.row)
    elif job.epilogue != STORE and q.path != GEMM:
        width = block_columns(q.p.n, job.compute.itemsize)
    end = part.end
    while part.first < end:
        part.end = min(part.first + width, end)
        if q.path == TILES:
            job.compute.table.gemm(&q.p, part.row, part.row_end, part.first, part.end, scratch)
        else:
            blas_product(job.compute, q, &part)
        finish(job, &part, number)
        part.first = part.end


cdef inline void finish(Job *job, const Part *part, Py_ssize_t number) noexcept nogil:
    """The epilogue of a block."""
    cdef Py_ssize_t ld = job.product.p.ldc, n = part.row_end - part.row, m = part.end - part.first
    cdef Py_ssize_t at = (part.row + part.first * ld) * job.compute.itemsize
    cdef char *C = <char *>job.product.p.C + at
    cdef const void *H
    if job.epilogue == ACTIVATE:
        activate(job, C, <char *>job.forward.A + at, part.row, n, m)
    elif job.epilogue == DIFFERENTIATE:
        H = NULL if job.below.H is NULL else <const char *>job.below.H + at
        job.compute.table.backward[job.below.activation](C, ld, job.db, C, ld, H, ld, H, ld, job.below.slope, n, m)
    elif job.epilogue == APPLY:
        job.penalties[number] += job.compute.table.update[job.update.code](
            <char *>job.update.W + at, <char *>job.update.s1 + at, <char *>job.update.s2 + at, C,
            <const nnk_step *>job.update.step, n, m, ld)


cdef inline void activate(Job *job, char *Z, char *A, Py_ssize_t row, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """A = g(Z + b); where Z is kept it gets b too."""
    cdef const Forward *to = job.forward
    cdef const void *b = NULL if to.b is NULL else <const char *>to.b + row * job.compute.itemsize
    if A != Z:
        if b is not NULL:
            job.compute.table.forward[NNK_linear](Z, to.ld, Z, to.ld, b, to.slope, n, m)
        b = NULL
    if A != Z or b is not NULL or to.activation != NNK_linear:
        job.compute.table.forward[to.activation](A, to.ld, Z, to.ld, b, to.slope, n, m)


cdef inline bint wakes(const Product *q) noexcept nogil:
    """Whether the product is worth waking threads that sleep."""
    return operations_of(q) >= WAKING_OPERATIONS


cdef inline void begin_job(Job *job, const Compute *compute, Epilogue epilogue) noexcept nogil:
    # the penalties are written by their parts
    memset(job, 0, sizeof(job[0]) - sizeof(job.penalties))
    job.compute, job.epilogue = compute, epilogue


cdef void multiply(
    const Compute *compute, void *C, Py_ssize_t ldc, double alpha, const Matrix *A, const Matrix *B, double beta,
    const Team *team,
) noexcept nogil:
    cdef Job job
    cdef Product *q = &job.product
    begin_job(&job, compute, STORE)
    set_operands(q, C, ldc, alpha, A, B, beta)
    choose_path(q, compute, team, False)
    nnk_run(do_part, &job, q.row_parts * q.column_parts, team.threads, wakes(q), team.scratch)


cdef void forward_product(
    const Compute *compute, const Forward *to, const Matrix *W, const Matrix *A_prev, const Team *team,
) noexcept nogil:
    cdef Job job
    cdef Product *q = &job.product
    check(to.activation >= 0 and to.activation < NNK_ACTIVATIONS and to.A is not NULL and to.Z is not NULL)
    begin_job(&job, compute, ACTIVATE)
    job.forward = to
    set_operands(q, to.Z, to.ld, 1, W, A_prev, to.beta)
    choose_path(q, compute, team, to.activation == NNK_softmax)
    nnk_run(do_part, &job, q.row_parts * q.column_parts, team.threads, wakes(q), team.scratch)


cdef void input_gradient_product(
    const Compute *compute, const Below *below, const Matrix *W, const void *dZ, Py_ssize_t m, const Team *team,
) noexcept nogil:
    cdef Matrix W_T = transposed(W), dZ_matrix = contiguous(dZ, W.n, m)
    cdef Job job
    cdef Product *q = &job.product
    # db in the pass that writes dZ, unless the columns may be shared out among threads
    cdef bint apart = 2.0 * W.n * W.m * m >= PARALLEL_OPERATIONS
    check(below.activation >= 0 and below.activation < NNK_ACTIVATIONS and below.dZ != dZ)
    check(below.activation == NNK_linear or below.H is not NULL)
    begin_job(&job, compute, STORE)
    job.below, job.db = below, NULL if apart else below.db
    if below.activation != NNK_linear or job.db is not NULL:
        job.epilogue = DIFFERENTIATE
    set_operands(q, below.dZ, W.m, 1, &W_T, &dZ_matrix, 0)
    choose_path(q, compute, team, below.activation == NNK_softmax)
    nnk_run(do_part, &job, q.row_parts * q.column_parts, team.threads, wakes(q), team.scratch)
    if apart and below.db is not NULL:
        compute.table.add_columns(below.db, below.dZ, W.m, compute.table.one, 0, 1, W.m, m)


cdef void weight_gradient_product(
    const Compute *compute, const WeightGradient *to, const void *dZ, const Matrix *A_prev, const Team *team,
) noexcept nogil:
    cdef Matrix dZ_matrix = contiguous(dZ, to.n, A_prev.m), A_prev_T = transposed(A_prev)
    cdef Job job
    cdef Product *q = &job.product
    cdef Update *update = to.update
    cdef void *dW = to.dW
    cdef double alpha = compute.table.rounded(to.alpha), beta = to.beta
    cdef Py_ssize_t part
    check(update is NULL or (update.code >= 0 and update.code < NNK_UPDATES and to.beta == 0))
    if update is not NULL and update.code == NNK_sgd and not update.penalised:
        # W := W - rate dW is a product too
        dW, alpha, beta = update.W, -alpha * (<const nnk_step *>update.step).rate, 1
        update.penalty = 0
        update = NULL
    begin_job(&job, compute, STORE if update is NULL else APPLY)
    job.update = update
    set_operands(q, dW, to.n, alpha, &dZ_matrix, &A_prev_T, beta)
    choose_path(q, compute, team, False)
    if q.path == TILES and q.row_parts * q.column_parts > 1 and to.n >= 2 * PART_ROWS:
        # the rows of W that a thread multiplied by on the way forward
        q.row_parts, q.column_parts = min(2 * team.threads, (to.n + PART_ROWS - 1) // PART_ROWS), 1
    if update is not NULL and (update.penalised or q.row_parts * q.column_parts > MOST_APPLIED_PARTS):
        fix_parts(q)
    nnk_run(do_part, &job, q.row_parts * q.column_parts, team.threads, wakes(q), team.scratch)
    if update is not NULL:
        update.penalty = 0
        for part in range(q.row_parts * q.column_parts):
            update.penalty += job.penalties[part]


cdef inline void fix_parts(Product *q) noexcept nogil:
    """Parts by the shape alone: the sums of a penalty mustn't depend on the number of threads."""
    q.row_parts = q.column_parts = 1
    if q.path == TILES and operations_of(q) >= PARALLEL_OPERATIONS:
        if q.p.n >= APPLIED_PARTS * PART_ROWS:
            q.row_parts = APPLIED_PARTS
        else:
            q.column_parts = max(<Py_ssize_t>1, min(<Py_ssize_t>APPLIED_PARTS, q.p.m // APPLIED_COLUMNS))


# ---------------------------------------------------------------------------------------------------------------------
# Threads

cdef Team form_team(int threads) except *:
    cdef Team team
    if not nnk_prepare_thread():
        raise MemoryError("no memory for what BLAS keeps for a thread")
    nnk_blas_single_thread()
    team.threads, team.scratch = threads, nnk_take_scratch()
    if team.scratch is NULL:
        raise MemoryError(f"no {NNK_SCRATCH_BYTES} bytes for packing")
    return team


cdef void dissolve(const Team *team) noexcept nogil:
    nnk_give_scratch(team.scratch)


cdef void share_out(Task task, void *context, Py_ssize_t parts, bint wake_, const Team *team) noexcept nogil:
    check(parts >= 0 and team.threads >= 1)
    nnk_run(task, context, parts, team.threads, wake_, team.scratch)


cdef void wake(const Team *team) noexcept nogil:
    nnk_wake(team.threads)
