# Prediction and evaluation. Nothing of the network is written, so any number of threads may be here at once.

from libc.stdint cimport int32_t
from libc.string cimport memset

from engine.blocks cimport width_of_prediction
from engine.data cimport Batch, Data, Examples, is_sparse, shape_only, take_block, weight_of
from engine.gradient cimport Score, add_to_score
from engine.passes cimport Pass, forward_pass, loss_pass
from engine.plan cimport Activations, Inputs, Layer, Plan, handed_on, widest_of
from kernels.nnk cimport NNK_softmax, nnk_sparse
from nnkern._matrix cimport Matrix, Team, columns_of, contiguous, fits_blas
from runtime.arena cimport nnk_arena, nnk_arena_take
from runtime.check cimport check

cdef enum:
    INVARIANT_WIDTH = 64            # examples of every block where a column's bits may depend on that column alone

# Where a prediction goes, and the memory for a block on its way
cdef struct Prediction:
    void *out                       # (n_y, m) with strides
    Py_ssize_t row, column
    Py_ssize_t width                # examples of a block
    bint gathers                    # whether blocks of X are copied first
    void *A[2]                      # activations, used in turn
    void *X
    void *kept                      # what kinds want to keep; nobody reads it
    int32_t *codes
    const nnk_sparse *sparse        # as Data has it


cdef inline Py_ssize_t predict_width(const Plan *plan, Py_ssize_t m) noexcept nogil:
    return width_of_prediction(m, widest_of(plan), plan.compute.itemsize)


cdef inline void lay_out_prediction(Prediction *to, const Plan *plan, nnk_arena *arena) noexcept nogil:
    """Takes the pieces from the arena; run without memory first, it tells how much there must be."""
    cdef size_t unit = to.width * plan.compute.itemsize
    cdef size_t kept = 0, codes = 0
    cdef Py_ssize_t l
    for l in range(plan.L):
        kept, codes = max(kept, plan.layers[l].kept), max(codes, <size_t>plan.layers[l].codes)
    to.A[0], to.A[1] = nnk_arena_take(arena, widest_of(plan) * unit), nnk_arena_take(arena, widest_of(plan) * unit)
    to.X = nnk_arena_take(arena, plan.n_x * unit) if to.gathers else NULL
    to.kept = nnk_arena_take(arena, kept * unit) if kept else NULL
    to.codes = <int32_t *>nnk_arena_take(arena, codes * to.width * sizeof(int32_t)) if codes else NULL


cdef inline void predict_blocks(
    const Prediction *to, const Plan *plan, const Matrix *X, const Team *team,
) noexcept nogil:
    """A[L] of all columns of X."""
    cdef Py_ssize_t first = 0, m
    cdef bint whole = (to.row == 1 or plan.n_y == 1) and to.column == plan.n_y
    cdef nnk_sparse sparse
    cdef Inputs block = Inputs(X[0], NULL, NULL, 0, -1, False)
    cdef void *A
    while first < X.m:
        m = min(to.width, X.m - first)
        if is_sparse(to.sparse):
            sparse, block.A, block.sparse = to.sparse[0], shape_only(X.n, m), &sparse
            sparse.first = first
        else:
            block.A = columns_of(X, first, m, plan.compute.itemsize)
        if to.gathers:
            plan.compute.table.gather(to.X, block.A.data, block.A.row, block.A.column, NULL, plan.n_x, m)
            block.A = contiguous(to.X, plan.n_x, m)
        A = <char *>to.out + first * to.column * plan.compute.itemsize
        if whole:
            predict_block(A, to, plan, &block, team)
        else:
            predict_block(to.A[(plan.L - 1) % 2], to, plan, &block, team)
            plan.compute.table.scatter(A, to.row, to.column, to.A[(plan.L - 1) % 2], plan.n_y, m)
        first += m


cdef inline void predict_invariantly(
    const Prediction *to, const Plan *plan, const Matrix *X, const Team *team,
) noexcept nogil:
    """The same, each column to the same bits whatever stands beside it and however X is laid out.

    All blocks have the same shape and layout, the last one filled up with zeros, so that each column takes the same
    path; and all products are our own, whose sums have the same order in every column.
    """
    cdef Plan own_products = plan[0]
    cdef Py_ssize_t first = 0, m, used, size = plan.compute.itemsize
    cdef Matrix columns
    cdef Inputs block = Inputs(contiguous(to.X, plan.n_x, INVARIANT_WIDTH), NULL, NULL, 0, -1, False)
    cdef void *A = to.A[(plan.L - 1) % 2]
    own_products.compute = plan.compute.without_blas
    while first < X.m:
        m = min(<Py_ssize_t>INVARIANT_WIDTH, X.m - first)
        columns, used = columns_of(X, first, m, size), m * plan.n_x * size
        plan.compute.table.gather(to.X, columns.data, X.row, X.column, NULL, plan.n_x, m)
        memset(<char *>to.X + used, 0, INVARIANT_WIDTH * plan.n_x * size - used)
        predict_block(A, to, &own_products, &block, team)
        plan.compute.table.scatter(<char *>to.out + first * to.column * size, to.row, to.column, A, plan.n_y, m)
        first += m


cdef inline void predict_block(
    void *out, const Prediction *to, const Plan *plan, const Inputs *X, const Team *team,
) noexcept nogil:
    cdef Inputs A_prev = X[0]
    cdef Activations own
    cdef const Layer *layer
    cdef Py_ssize_t l
    check(X.A.n == plan.n_x and X.A.m <= to.width and out is not NULL)
    own.Z, own.D, own.kept, own.codes = NULL, NULL, to.kept, to.codes
    for l in range(plan.L):
        layer = &plan.layers[l]
        own.A = out if l == plan.L - 1 else to.A[l % 2]
        layer.kind.forward(plan, layer, &own, layer.activation, &A_prev, team)
        A_prev = handed_on(layer, own.A, own.codes, X.A.m)


cdef inline double evaluate_blocks(const Pass *p, const Data *data, Score *score, double *total) noexcept nogil:
    """Σ w_i L_i of all examples; adds to the score, and Σ w_i to `total`. After a signal they mean nothing."""
    cdef const Plan *plan = p.plan
    cdef Batch batch = Batch(data, NULL, 0, 0, 0)
    cdef Examples block
    cdef double cost = 0
    cdef void *A = p.space.layers[plan.L - 1].A
    check(p.space.capacity > 0 and not p.training)
    while batch.first < data.m:
        batch.count = min(p.space.capacity, data.m - batch.first)
        take_block(&block, plan, p.space, &batch, 0, batch.count, p.team)
        forward_pass(p, &block, True)
        if p.watch is not NULL and p.watch.stop:
            return cost
        cost += loss_pass(p, &block, A, p.space.dZ, A, 1)
        add_to_score(score, plan, A, &block)
        total[0] += weight_of(plan, &batch)
        batch.first += batch.count
    return cost
