# A frozen network: weights packed for prediction (packed.h), whole or reduced, and the shortest way from X to A[L].
#
# Nothing of it is written after it was made, and what a call needs is its own: any number of threads may be here.

from engine.blocks cimport width_of_prediction
from kernels.nnk cimport (
    NNK_REDUCED_COLUMNS, NNK_UNPACKED_BYTES, NNK_UNPACKED_DEPTH, NNK_int8, NNK_linear, NNK_softmax, nnk_block,
    nnk_packed, nnk_packed_block, nnk_packed_product, nnk_table,
)
from nnkern._matrix cimport Matrix, Team, columns_of, contiguous
from nnkern._products cimport Compute, Forward, forward_product, share_out
from runtime.arena cimport nnk_arena, nnk_arena_take
from runtime.check cimport check

cdef enum:
    # examples from which reduced weights are multiplied as a matrix. Fewer are taken one by one, each weight widened as
    # it is read, unless there are so many of these that reading them takes the time, and so many examples
    MATRIX_WIDTH = 8
    MANY_WEIGHTS = 1 << 14
    LEAST_OF_BFLOAT16 = 2
    LEAST_OF_INT8 = 1
    # operations of a layer whose reduced weights are multiplied as they are from which it is shared out, by columns
    # where each thread gets so many, and from which it wakes threads
    REDUCED_PARALLEL = 4000000
    REDUCED_WAKING = 20000000
    LEAST_COLUMNS = 64
    # weights of a layer from which one example is shared out among threads, and from which it wakes them
    PARALLEL_WEIGHTS = 1 << 18
    WAKING_WEIGHTS = 2500000

cdef struct FrozenLayer:
    nnk_packed weights
    nnk_packed_product product      # what multiplies reduced weights as they are, or NULL
    const void *b                   # (n) or NULL
    int activation
    double slope

cdef struct Frozen:
    const Compute *compute
    Py_ssize_t L, n_x, n_y, widest
    bint reduced                    # weights are narrower than float32
    size_t bytes_of_one             # what lay_out_frozen takes for one example in place
    double work_of_one              # its multiply-adds
    FrozenLayer *layers

# Where a prediction goes, and the memory of a block on its way
cdef struct FrozenPrediction:
    void *out                       # (n_y, m) with strides
    Py_ssize_t row, column
    Py_ssize_t width                # examples of a block
    bint one                        # one example, in place
    bint gathers                    # whether blocks of X are copied first
    void *A[2]                      # activations, used in turn
    void *X
    void *widened                   # NNK_UNPACKED_BYTES where weights are widened


cdef inline void set_blocks(FrozenPrediction *to, const Frozen *net, const Matrix *X) noexcept nogil:
    to.one = X.m == 1 and X.row == 1 and (to.row == 1 or net.n_y == 1)
    to.width = 1 if to.one else width_of_prediction(X.m, net.widest, net.compute.itemsize)
    to.gathers = not to.one and (X.row != 1 or X.column != net.n_x)


cdef inline void lay_out_frozen(
    FrozenPrediction *to, const Frozen *net, const Matrix *X, nnk_arena *arena,
) noexcept nogil:
    """Takes the pieces from the arena; run without memory first, it tells how much there must be."""
    cdef size_t unit = to.width * net.compute.itemsize
    to.widened = nnk_arena_take(arena, NNK_UNPACKED_BYTES) if net.reduced and X.m >= MATRIX_WIDTH else NULL
    to.A[0], to.A[1] = nnk_arena_take(arena, net.widest * unit), nnk_arena_take(arena, net.widest * unit)
    to.X = nnk_arena_take(arena, net.n_x * unit) if to.gathers else NULL


cdef inline void set_costs_of_one(Frozen *net) noexcept nogil:
    """What a call for one example needn't find out anew."""
    cdef FrozenPrediction to
    cdef nnk_arena counting
    cdef Matrix x = contiguous(NULL, net.n_x, 1)
    cdef Py_ssize_t l
    counting.base, counting.used, counting.size = NULL, 0, 0
    to.row, to.column = 1, net.n_y
    set_blocks(&to, net, &x)
    lay_out_frozen(&to, net, &x, &counting)
    net.bytes_of_one, net.work_of_one = counting.used, 0
    for l in range(net.L):
        net.work_of_one += <double>net.layers[l].weights.n * net.layers[l].weights.n_prev


# ---------------------------------------------------------------------------------------------------------------------
# One example

cdef struct VectorJob:
    const nnk_table *table
    const nnk_packed *weights
    const void *x
    void *z


cdef inline void vector_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef const VectorJob *job = <const VectorJob *>job_
    job.table.packed_times_vector(job.z, job.weights, job.x, part)


cdef inline void times_vector(
    void *z, const Frozen *net, const nnk_packed *weights, const void *x, const Team *team,
) noexcept nogil:
    """z = W x"""
    cdef const nnk_table *table = net.compute.table
    cdef VectorJob job
    cdef Py_ssize_t parts = table.packed_parts(weights), size = weights.n * weights.n_prev, part
    if parts == 1 or team.threads == 1 or size < PARALLEL_WEIGHTS:
        for part in range(parts):
            table.packed_times_vector(z, weights, x, part)
        return
    job.table, job.weights, job.x, job.z = table, weights, x, z
    share_out(vector_part, &job, parts, size >= WAKING_WEIGHTS, team)


cdef inline void activate(void *A, const Frozen *net, const FrozenLayer *layer, Py_ssize_t m) noexcept nogil:
    """A = g(A + b)"""
    cdef Py_ssize_t n = layer.weights.n
    if layer.b is not NULL or layer.activation != NNK_linear:
        net.compute.table.forward[layer.activation](A, n, A, n, layer.b, layer.slope, n, m)


# ---------------------------------------------------------------------------------------------------------------------
# Weights that are multiplied in what they are kept in

cdef inline bint multiplied_as_kept(const FrozenLayer *layer, Py_ssize_t m) noexcept nogil:
    """Whether a product with m examples is: it depends on the shapes alone."""
    cdef Py_ssize_t least = LEAST_OF_INT8 if layer.weights.weights == NNK_int8 else LEAST_OF_BFLOAT16
    if layer.weights.n * layer.weights.n_prev < MANY_WEIGHTS:
        least = MATRIX_WIDTH
    return layer.product is not NULL and m >= least


# A product with a block of examples, in a grid of parts: units by columns
cdef struct ReducedJob:
    const Frozen *net
    const FrozenLayer *layer
    const Matrix *A_prev
    char *A
    Py_ssize_t unit_parts, column_parts
    bint plain


cdef inline void reduced_part(void *job_, Py_ssize_t number, void *scratch) noexcept nogil:
    cdef const ReducedJob *job = <const ReducedJob *>job_
    cdef const FrozenLayer *layer = job.layer
    cdef const Matrix *X = job.A_prev
    cdef const nnk_table *table = job.net.compute.table
    cdef int itemsize = job.net.compute.itemsize
    cdef Py_ssize_t n = layer.weights.n, parts = table.packed_parts(&layer.weights), row, rows, end
    cdef Py_ssize_t which = number % job.unit_parts, column = number // job.unit_parts
    cdef Py_ssize_t part = which * parts // job.unit_parts, part_end = (which + 1) * parts // job.unit_parts
    cdef Py_ssize_t first = column * X.m // job.column_parts, last = (column + 1) * X.m // job.column_parts
    cdef nnk_packed_block block
    cdef char *A
    row = table.packed_first(&layer.weights, part)
    rows = table.packed_first(&layer.weights, part_end) - row
    # bias and activation find what was multiplied in the cache
    while first < last:
        end = min(first + <Py_ssize_t>NNK_REDUCED_COLUMNS, last)
        block = nnk_packed_block(job.A, X.data, n, X.column, part, part_end, first, end)
        layer.product(&layer.weights, &block, scratch)
        A = job.A + (row + first * n) * itemsize
        if not job.plain and (layer.b is not NULL or layer.activation != NNK_linear):
            table.forward[layer.activation](
                A, n, A, n, NULL if layer.b is NULL else <const char *>layer.b + row * itemsize, layer.slope, rows,
                end - first)
        first = end


cdef inline void reduced_layer(
    void *A, const Frozen *net, const FrozenLayer *layer, const Matrix *A_prev, const Team *team,
) noexcept nogil:
    """A (n, m) = g(W A_prev + b)"""
    cdef ReducedJob job = ReducedJob(net, layer, A_prev, <char *>A, 1, 1, False)
    # a few examples take as long as the weights take to be read
    cdef double operations = 2.0 * layer.weights.n * layer.weights.n_prev * max(A_prev.m, <Py_ssize_t>MATRIX_WIDTH)
    if team.threads > 1 and operations >= REDUCED_PARALLEL:
        if A_prev.m >= LEAST_COLUMNS * team.threads:
            job.column_parts = team.threads
        else:
            job.unit_parts = min(<Py_ssize_t>team.threads, net.compute.table.packed_parts(&layer.weights))
    # softmax wants whole columns
    job.plain = layer.activation == NNK_softmax and job.unit_parts > 1
    share_out(reduced_part, &job, job.unit_parts * job.column_parts, operations >= REDUCED_WAKING, team)
    if job.plain:
        activate(A, net, layer, A_prev.m)


cdef inline void predict_one(
    const FrozenPrediction *to, const Frozen *net, const void *x, int threads,
) noexcept nogil:
    """A[L] (n_y) of one example x (n_x)."""
    cdef const FrozenLayer *layer
    cdef Py_ssize_t l
    cdef Matrix A_prev
    cdef void *A
    cdef Team team
    team.threads, team.scratch = threads, NULL
    for l in range(net.L):
        layer = &net.layers[l]
        A = to.out if l == net.L - 1 else to.A[l % 2]
        if multiplied_as_kept(layer, 1):
            A_prev = contiguous(x, layer.weights.n_prev, 1)
            reduced_layer(A, net, layer, &A_prev, &team)
        else:
            times_vector(A, net, &layer.weights, x, &team)
            activate(A, net, layer, 1)
        x = A


# ---------------------------------------------------------------------------------------------------------------------
# Blocks of examples

cdef inline void part_of_layer(
    void *A, const Frozen *net, const FrozenLayer *layer, Py_ssize_t part, const Matrix *A_prev, void *widened,
    bint plain, const Team *team,
) noexcept nogil:
    """The units of one part of the packed weights, through bias and activation too unless `plain`."""
    cdef int itemsize = net.compute.itemsize
    cdef Py_ssize_t k = 0, depth, n_prev = layer.weights.n_prev
    cdef nnk_block block
    cdef Matrix W, rows = A_prev[0]
    cdef Forward to
    cdef bint last
    while k < n_prev:
        depth = min(<Py_ssize_t>NNK_UNPACKED_DEPTH, n_prev - k) if net.reduced else n_prev
        last = k + depth == n_prev and not plain
        net.compute.table.unpacked(&block, &layer.weights, part, k, depth, widened)
        W.data, W.n, W.m, W.row, W.column = block.data, block.n, depth, block.row, block.column
        rows.data, rows.n = <const char *>A_prev.data + k * itemsize, depth
        to.A = to.Z = <char *>A + block.first * itemsize
        to.ld, to.beta, to.slope = layer.weights.n, 1 if k else 0, layer.slope
        to.activation = layer.activation if last else <int>NNK_linear
        to.b = <const char *>layer.b + block.first * itemsize if last and layer.b is not NULL else NULL
        forward_product(net.compute, &to, &W, &rows, team)
        k += depth


cdef inline void forward_layer(
    void *A, const Frozen *net, const FrozenLayer *layer, const Matrix *A_prev, void *widened, const Team *team,
) noexcept nogil:
    """A (n, m) = g(W A_prev + b), all contiguous."""
    cdef const nnk_packed *weights = &layer.weights
    cdef Py_ssize_t parts = net.compute.table.packed_parts(weights), part, j, m = A_prev.m
    cdef int itemsize = net.compute.itemsize
    cdef bint one_by_one = net.reduced and m < MATRIX_WIDTH
    cdef bint plain = layer.activation == NNK_softmax and parts > 1
    if multiplied_as_kept(layer, m):
        reduced_layer(A, net, layer, A_prev, team)
        return
    if one_by_one:
        for j in range(m):
            times_vector(<char *>A + j * weights.n * itemsize, net, weights,
                         <const char *>A_prev.data + j * weights.n_prev * itemsize, team)
    else:
        for part in range(parts):
            part_of_layer(A, net, layer, part, A_prev, widened, plain, team)
    if one_by_one or plain:
        activate(A, net, layer, m)


cdef inline void predict_frozen(
    const FrozenPrediction *to, const Frozen *net, const Matrix *X, const Team *team,
) noexcept nogil:
    """A[L] of all columns of X."""
    cdef int itemsize = net.compute.itemsize
    cdef Py_ssize_t first = 0, l, m
    cdef bint whole = to.row == 1 and to.column == net.n_y
    cdef Matrix A_prev
    cdef void *out
    cdef void *A = NULL
    check(X.n == net.n_x and to.width > 0 and to.out is not NULL)
    while first < X.m:
        m = min(to.width, X.m - first)
        A_prev = columns_of(X, first, m, itemsize)
        if to.gathers:
            net.compute.table.gather(to.X, A_prev.data, X.row, X.column, NULL, net.n_x, m)
            A_prev = contiguous(to.X, net.n_x, m)
        out = <char *>to.out + first * to.column * itemsize
        for l in range(net.L):
            A = out if whole and l == net.L - 1 else to.A[l % 2]
            forward_layer(A, net, &net.layers[l], &A_prev, to.widened, team)
            A_prev = contiguous(A, net.layers[l].weights.n, m)
        if not whole:
            net.compute.table.scatter(out, to.row, to.column, A, net.n_y, m)
        first += m
