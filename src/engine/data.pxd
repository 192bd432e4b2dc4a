# Examples as a caller has them, in any layout, and blocks of them as the passes want them.

from libc.stdint cimport int64_t

from engine.plan cimport Plan
from engine.workspace cimport Workspace
from kernels.nnk cimport nnk_sparse, nnk_table
from nnkern._matrix cimport Matrix, Team, columns_of, contiguous, fits_blas, is_contiguous
from nnkern._products cimport share_out
from runtime.check cimport check

cdef enum:
    GATHER_GRAIN = 1 << 13          # entries of a part

cdef struct Data:
    Matrix X                        # (n_x, m); a shape only where the examples are sparse
    nnk_sparse sparse               # then they are its columns; else it is empty
    Matrix Y                        # (n_y, m) where there are no labels
    bint gather_X, gather_Y         # whether a block has to be copied first
    const int64_t *labels           # (m,) or NULL
    const void *w                   # (m,) or NULL
    Py_ssize_t m

# The examples first … first + count - 1, as they stand or in an order
cdef struct Batch:
    const Data *data
    const int64_t *order            # or NULL
    Py_ssize_t first, count
    Py_ssize_t place                # of the first in the batch of all processes

# A block of them, ready for the passes
cdef struct Examples:
    Matrix X                        # fits BLAS; a shape only where they are sparse
    nnk_sparse sparse               # as Data has it
    const void *Y                   # contiguous, or NULL
    const int64_t *labels           # or NULL
    const void *w                   # or NULL
    Py_ssize_t first                # its place in the batch, which dropout depends on


cdef inline bint is_sparse(const nnk_sparse *X) noexcept nogil:
    """Whether it is the examples."""
    return X.starts is not NULL


cdef inline const nnk_sparse *entries_or_null(const nnk_sparse *X) noexcept nogil:
    return X if is_sparse(X) else NULL


cdef inline Matrix shape_only(Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """Of sparse examples."""
    return contiguous(NULL, n, m)


cdef inline void set_layouts(Data *data) noexcept nogil:
    """Fills in what follows from X, Y and labels."""
    data.m = data.X.m
    data.gather_X = not is_sparse(&data.sparse) and not fits_blas(&data.X)
    data.gather_Y = data.labels is NULL and not is_contiguous(&data.Y)


cdef inline double weight_of(const Plan *plan, const Batch *batch) noexcept nogil:
    """Σ w_i; without weights, the number of examples."""
    if batch.data.w is NULL:
        return batch.count
    return plan.compute.table.total(batch.data.w, batch.order, batch.first, batch.count)


cdef struct GatherJob:
    const nnk_table *table
    char *out
    const Matrix *X
    const int64_t *order
    Py_ssize_t width
    int itemsize


cdef inline void gather_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef const GatherJob *job = <const GatherJob *>job_
    cdef Py_ssize_t first = part * job.width, n = job.X.n
    cdef const char *X = <const char *>job.X.data + (first * job.X.column * job.itemsize if job.order is NULL else 0)
    job.table.gather(job.out + first * n * job.itemsize, X, job.X.row, job.X.column,
                     NULL if job.order is NULL else job.order + first, n, min(job.width, job.X.m - first))


cdef inline Matrix gathered(
    const Plan *plan, void *out, const Matrix *X, const int64_t *order, Py_ssize_t m, const Team *team,
) noexcept nogil:
    """The columns 0 … m - 1 of X, or those that `order` names, side by side in `out`."""
    cdef GatherJob job
    cdef Matrix taken = X[0]
    taken.m = m
    job.table, job.itemsize = plan.compute.table, plan.compute.itemsize
    job.out, job.X, job.order = <char *>out, &taken, order
    job.width = max(<Py_ssize_t>1, GATHER_GRAIN // X.n)
    share_out(gather_part, &job, (m + job.width - 1) // job.width, False, team)
    return contiguous(out, X.n, m)


cdef inline const int64_t *labels_in_order(
    int64_t *out, const int64_t *labels, const int64_t *order, Py_ssize_t m,
) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(m):
        out[j] = labels[order[j]]
    return out


cdef inline void take_block(
    Examples *block, const Plan *plan, const Workspace *space, const Batch *batch, Py_ssize_t start, Py_ssize_t m,
    const Team *team,
) noexcept nogil:
    """The examples start … start + m - 1 of a batch, gathered into the workspace where they can't be used in place."""
    cdef const Data *data = batch.data
    cdef Py_ssize_t at = batch.first + start
    cdef const int64_t *order = NULL if batch.order is NULL else batch.order + at
    check(start >= 0 and m >= 0 and start + m <= batch.count and batch.first + batch.count <= data.m)
    check(m <= space.capacity and data.X.n == plan.n_x)
    block.sparse = data.sparse
    if is_sparse(&data.sparse):
        block.X = shape_only(data.X.n, m)
        block.sparse.order, block.sparse.first = order, at
        take_targets(block, plan, space, batch, start, m)
        return
    # with an order, examples are picked from the whole matrix; without, the block is a slice of it
    block.X = columns_of(&data.X, at, m, plan.compute.itemsize) if order is NULL else data.X
    if data.gather_X or order is not NULL:
        block.X = gathered(plan, space.X, &block.X, order, m, team)
    take_targets(block, plan, space, batch, start, m)


cdef inline void take_targets(
    Examples *block, const Plan *plan, const Workspace *space, const Batch *batch, Py_ssize_t start, Py_ssize_t m,
) noexcept nogil:
    """Y or labels, and weights, of the same."""
    cdef const Data *data = batch.data
    cdef Py_ssize_t at = batch.first + start
    cdef const int64_t *order = NULL if batch.order is NULL else batch.order + at
    cdef Matrix Y
    block.first, block.Y, block.labels, block.w = batch.place + start, NULL, NULL, NULL
    if data.labels is not NULL:
        block.labels = data.labels + at
        if order is not NULL:
            block.labels = labels_in_order(space.labels, data.labels, order, m)
    else:
        Y = columns_of(&data.Y, at, m, plan.compute.itemsize) if order is NULL else data.Y
        if data.gather_Y or order is not NULL:
            plan.compute.table.gather(space.Y, Y.data, Y.row, Y.column, order, plan.n_y, m)
            Y.data = space.Y
        block.Y = Y.data
    if data.w is not NULL:
        block.w = <const char *>data.w + at * plan.compute.itemsize
        if order is not NULL:
            plan.compute.table.gather(space.w, data.w, 1, 1, order, 1, m)
            block.w = space.w


cdef inline Examples part_of_block(
    const Plan *plan, const Examples *whole, Py_ssize_t first, Py_ssize_t m,
) noexcept nogil:
    """The examples first … first + m - 1 of a block."""
    cdef Examples part
    cdef int itemsize = plan.compute.itemsize
    check(first >= 0 and m >= 0 and first + m <= whole.X.m)
    check(not is_sparse(&whole.sparse))
    part.X, part.sparse = columns_of(&whole.X, first, m, itemsize), whole.sparse
    part.first = whole.first + first
    part.Y = NULL if whole.Y is NULL else <const char *>whole.Y + first * plan.n_y * itemsize
    part.labels = NULL if whole.labels is NULL else whole.labels + first
    part.w = NULL if whole.w is NULL else <const char *>whole.w + first * itemsize
    return part
