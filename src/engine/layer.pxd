# One dense layer, one activation or one loss on matrices of any layout, for callers that have no plan of a network.
# What isn't laid out as the kernels need it is packed block by block.

from libc.stdint cimport int64_t
from libc.string cimport memset

from engine.blocks cimport CHUNK_COLUMNS, TREE_LEVELS, block_columns, slots_for, sums_to_add
from kernels.nnk cimport NNK_linear
from nnkern._matrix cimport Matrix, Team, columns_of, contiguous, fits_blas, is_contiguous
from nnkern._products cimport (
    Below, Compute, Forward, WeightGradient, forward_product, input_gradient_product, weight_gradient_product,
)
from runtime.arena cimport nnk_arena, nnk_arena_take
from runtime.check cimport check

# A matrix that a kernel works through in blocks of columns: in place, or packed because of its layout.
cdef struct Operand:
    Matrix A
    bint packs
    Py_ssize_t width                # columns of a block
    void *space                     # for one block, where it packs


cdef inline Operand operand_in_blocks(const Matrix *A, bint packs, Py_ssize_t width) noexcept nogil:
    cdef Operand one
    one.A, one.packs, one.width, one.space = A[0], packs, width, NULL
    return one


cdef inline void take_space(Operand *one, int itemsize, nnk_arena *arena) noexcept nogil:
    if one.packs:
        one.space = nnk_arena_take(arena, one.A.n * one.width * itemsize)


cdef inline Matrix read_block(
    const Operand *one, const Compute *compute, Py_ssize_t first, Py_ssize_t m,
) noexcept nogil:
    """Some columns of an input."""
    cdef Matrix block = columns_of(&one.A, first, m, compute.itemsize)
    check(first >= 0 and m <= one.width and first + m <= one.A.m)
    if not one.packs:
        return block
    compute.table.gather(one.space, block.data, block.row, block.column, NULL, block.n, m)
    return contiguous(one.space, block.n, m)


cdef inline Matrix write_block(
    const Operand *one, const Compute *compute, Py_ssize_t first, Py_ssize_t m,
) noexcept nogil:
    """Where some columns of an output are to be written; store_block brings them to their place."""
    return contiguous(one.space, one.A.n, m) if one.packs else columns_of(&one.A, first, m, compute.itemsize)


cdef inline void store_block(
    const Operand *one, const Compute *compute, Py_ssize_t first, Py_ssize_t m,
) noexcept nogil:
    cdef Matrix block = columns_of(&one.A, first, m, compute.itemsize)
    if one.packs:
        compute.table.scatter(<void *>block.data, block.row, block.column, one.space, block.n, m)


# ---------------------------------------------------------------------------------------------------------------------
# Dense

cdef struct DenseForward:
    const Compute *compute
    Operand W, b, A_prev, A
    bint use_bias
    void *Z                         # contiguous, or NULL
    Forward to


cdef inline void set_forward_blocks(
    DenseForward *f, const Matrix *W, const Matrix *A_prev, const Matrix *A,
) noexcept nogil:
    """What isn't laid out as the products need it is packed: W and b whole, A_prev and A in blocks."""
    cdef bint pack_A_prev = not fits_blas(A_prev), pack_A = not is_contiguous(A)
    cdef Py_ssize_t m = A.m
    cdef Py_ssize_t width = min(m, block_columns(max(W.n, W.m), f.compute.itemsize)) if pack_A or pack_A_prev else m
    f.W = operand_in_blocks(W, not fits_blas(W), W.m)
    f.A_prev, f.A = operand_in_blocks(A_prev, pack_A_prev, width), operand_in_blocks(A, pack_A, width)


cdef inline void lay_out_forward(DenseForward *f, nnk_arena *arena) noexcept nogil:
    take_space(&f.W, f.compute.itemsize, arena)
    take_space(&f.b, f.compute.itemsize, arena)
    take_space(&f.A_prev, f.compute.itemsize, arena)
    take_space(&f.A, f.compute.itemsize, arena)


cdef inline void forward_blocks(DenseForward *f, const Team *team) noexcept nogil:
    cdef const Compute *compute = f.compute
    cdef Py_ssize_t first = 0, m, n = f.A.A.n
    cdef Matrix W = read_block(&f.W, compute, 0, f.W.A.m), A_prev, A
    f.to.ld, f.to.beta, f.to.b = n, 0, NULL
    if f.use_bias:
        f.to.b = read_block(&f.b, compute, 0, 1).data
    while first < f.A.A.m:
        m = min(f.A.width, f.A.A.m - first)
        A_prev, A = read_block(&f.A_prev, compute, first, m), write_block(&f.A, compute, first, m)
        f.to.A = <void *>A.data
        f.to.Z = f.to.A if f.Z is NULL else <char *>f.Z + first * n * compute.itemsize
        forward_product(compute, &f.to, &W, &A_prev, team)
        store_block(&f.A, compute, first, m)
        first += m


cdef struct DenseBackward:
    const Compute *compute
    Operand W, A_prev, dA, H, dZ, dA_prev, dW, db
    int activation
    double slope
    bint need_dA_prev
    Py_ssize_t m, width             # examples, and those of a block
    void *slots                     # for gradients of chunks beside the first: dW, then db


cdef inline void set_backward_blocks(
    DenseBackward *f, const Matrix *W, const Matrix *A_prev, const Matrix *dA, const Matrix *H,
) noexcept nogil:
    """The inputs; what isn't laid out as the kernels need it is packed: W whole, the others in blocks."""
    cdef Py_ssize_t n = W.n
    f.m = A_prev.m
    f.width = min(f.m, min(<Py_ssize_t>CHUNK_COLUMNS, block_columns(max(n, W.m), f.compute.itemsize)))
    f.W = operand_in_blocks(W, not fits_blas(W), W.m)
    f.A_prev = operand_in_blocks(A_prev, not fits_blas(A_prev), f.width)
    f.dA = operand_in_blocks(dA, not (dA.row == 1 or n <= 1), f.width)
    f.H = operand_in_blocks(H, f.activation != NNK_linear and not (H.row == 1 or n <= 1), f.width)


cdef inline void set_gradient_blocks(
    DenseBackward *f, const Matrix *dZ, const Matrix *dW, const Matrix *db, const Matrix *dA_prev,
) noexcept nogil:
    """The outputs, dA_prev NULL where it isn't wanted: likewise, dW and db whole."""
    cdef bint direct = is_contiguous(dW) and (db.row == 1 or dW.n <= 1)
    f.dZ = operand_in_blocks(dZ, not is_contiguous(dZ), f.width)
    f.dW, f.db = operand_in_blocks(dW, not direct, dW.m), operand_in_blocks(db, not direct, 1)
    f.need_dA_prev = dA_prev is not NULL
    if f.need_dA_prev:
        f.dA_prev = operand_in_blocks(dA_prev, not is_contiguous(dA_prev), f.width)


cdef inline void lay_out_backward(DenseBackward *f, nnk_arena *arena) noexcept nogil:
    cdef int itemsize = f.compute.itemsize
    f.slots = nnk_arena_take(arena, slots_for(f.m) * gradient_entries(f) * itemsize)
    take_space(&f.dW, itemsize, arena)
    take_space(&f.db, itemsize, arena)
    take_space(&f.W, itemsize, arena)
    take_space(&f.dA, itemsize, arena)
    take_space(&f.H, itemsize, arena)
    take_space(&f.dZ, itemsize, arena)
    take_space(&f.A_prev, itemsize, arena)
    take_space(&f.dA_prev, itemsize, arena)


cdef inline Py_ssize_t gradient_entries(const DenseBackward *f) noexcept nogil:
    return f.dW.A.n * f.dW.A.m + f.dW.A.n


cdef inline void backward_chunks(DenseBackward *f, const Team *team) noexcept nogil:
    """The gradients of chunks, combined in a tree whose first slot ends up with the sum."""
    cdef const Compute *compute = f.compute
    cdef Py_ssize_t chunks = max(<Py_ssize_t>1, (f.m + CHUNK_COLUMNS - 1) // CHUNK_COLUMNS), chunk, full = 0, start, _
    cdef Py_ssize_t weights = f.dW.A.n * f.dW.A.m, n = f.dW.A.n
    cdef Matrix W = read_block(&f.W, compute, 0, f.W.A.m)
    cdef char *dW[TREE_LEVELS]
    cdef char *db[TREE_LEVELS]
    dW[0] = <char *>write_block(&f.dW, compute, 0, f.dW.A.m).data
    db[0] = <char *>write_block(&f.db, compute, 0, 1).data
    for chunk in range(chunks):
        if full > 0:
            dW[full] = <char *>f.slots + (full - 1) * gradient_entries(f) * compute.itemsize
            db[full] = dW[full] + weights * compute.itemsize
        start = chunk * CHUNK_COLUMNS
        backward_chunk(f, dW[full], db[full], &W, start, min(start + CHUNK_COLUMNS, f.m), team)
        full += 1
        for _ in range(sums_to_add(full, chunk + 1, chunk == chunks - 1)):
            full -= 1
            compute.table.add(dW[full - 1], dW[full], weights)
            compute.table.add(db[full - 1], db[full], n)
    store_block(&f.dW, compute, 0, f.dW.A.m)
    store_block(&f.db, compute, 0, 1)


cdef inline void backward_chunk(
    const DenseBackward *f, void *dW, void *db, const Matrix *W, Py_ssize_t start, Py_ssize_t end, const Team *team,
) noexcept nogil:
    """dW, db of the examples start … end - 1, with dZ and dA_prev (where it is wanted) of the same."""
    cdef const Compute *compute = f.compute
    cdef Py_ssize_t n = W.n, first = start, m
    cdef Matrix dA, H, A_prev, dZ, dA_prev
    cdef WeightGradient gradient = WeightGradient(dW, n, 1.0 / f.m if f.m else 0, 0, NULL)
    cdef Below below = Below(NULL, NULL, NULL, NNK_linear, 0)
    memset(db, 0, n * compute.itemsize)
    if start == end:
        memset(dW, 0, n * W.m * compute.itemsize)
    while first < end:
        m = min(f.width, end - first)
        dA, H = read_block(&f.dA, compute, first, m), read_block(&f.H, compute, first, m)
        A_prev, dZ = read_block(&f.A_prev, compute, first, m), write_block(&f.dZ, compute, first, m)
        compute.table.backward[f.activation](
            <void *>dZ.data, n, db, dA.data, dA.column, H.data, H.column, H.data, H.column, f.slope, n, m)
        store_block(&f.dZ, compute, first, m)
        weight_gradient_product(compute, &gradient, dZ.data, &A_prev, team)
        gradient.beta = 1
        if f.need_dA_prev:
            dA_prev = write_block(&f.dA_prev, compute, first, m)
            below.dZ = <void *>dA_prev.data
            input_gradient_product(compute, &below, W, dZ.data, m, team)
            store_block(&f.dA_prev, compute, first, m)
        first += m
    compute.table.scale(db, 1.0 / f.m if f.m else 0, n)


# ---------------------------------------------------------------------------------------------------------------------
# Activations and losses by themselves

cdef struct Elementwise:
    const Compute *compute
    Operand A, X, H
    bint derives
    int activation
    double slope
    Py_ssize_t width


cdef inline void lay_out_elementwise(Elementwise *f, nnk_arena *arena) noexcept nogil:
    take_space(&f.X, f.compute.itemsize, arena)
    take_space(&f.H, f.compute.itemsize, arena)
    take_space(&f.A, f.compute.itemsize, arena)


cdef inline void elementwise_blocks(const Elementwise *f) noexcept nogil:
    cdef const Compute *compute = f.compute
    cdef Py_ssize_t first = 0, n = f.A.A.n, m
    cdef Matrix X, H, A
    while first < f.A.A.m:
        m = min(f.width, f.A.A.m - first)
        X, A = read_block(&f.X, compute, first, m), write_block(&f.A, compute, first, m)
        if f.derives:
            H = read_block(&f.H, compute, first, m)
            compute.table.backward[f.activation](
                <void *>A.data, n, NULL, X.data, n, H.data, n, H.data, n, f.slope, n, m)
        else:
            compute.table.forward[f.activation](<void *>A.data, n, X.data, n, NULL, f.slope, n, m)
        store_block(&f.A, compute, first, m)
        first += m


cdef struct LossPass:
    const Compute *compute
    int code
    double parameter, total         # total: Σ w
    Py_ssize_t n, m
    char *A                         # holds Z first
    char *dZ
    const char *Y
    const int64_t *labels
    const char *w


cdef inline double loss_chunks(const LossPass *f) noexcept nogil:
    """Σ w_i L_i: costs of chunks, which are combined in a tree."""
    cdef double costs[TREE_LEVELS]
    cdef double scale = 1 if f.w is NULL else f.m / f.total
    cdef Py_ssize_t first = 0, at, full = 0, _
    cdef int itemsize = f.compute.itemsize
    while first < f.m:
        at = first * f.n * itemsize
        costs[full] = f.compute.table.loss[f.code](
            f.A + at, f.dZ + at, f.A + at, NULL if f.Y is NULL else f.Y + at,
            NULL if f.labels is NULL else f.labels + first, NULL if f.w is NULL else f.w + first * itemsize,
            scale, f.parameter, f.n, min(<Py_ssize_t>CHUNK_COLUMNS, f.m - first))
        first += CHUNK_COLUMNS
        full += 1
        for _ in range(sums_to_add(full, first // CHUNK_COLUMNS, first >= f.m)):
            full -= 1
            costs[full - 1] += costs[full]
    return costs[0]
