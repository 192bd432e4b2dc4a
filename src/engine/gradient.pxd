# dθ of a batch. It is worked through in chunks of CHUNK_COLUMNS examples, whose gradients are added up in a fixed tree;
# a chunk, in blocks (most often one): forward, loss, backward, adding up.

from libc.math cimport isfinite

from engine.blocks cimport BLOCK_BYTES, CHUNK_COLUMNS, TREE_LEVELS, slots_for, sums_to_add
from engine.data cimport Batch, Examples, part_of_block, take_block, take_targets, weight_of
from engine.optimizer cimport Applied
from engine.passes cimport Pass, backward_pass, forward_pass, loss_pass, scale_sums
from engine.plan cimport Gradient, Plan, entry, operations
from engine.step cimport penalise
from engine.watch cimport Watch, follower_of
from engine.workspace cimport Workspace, view_from
from kernels.nnk cimport NNK_LOSSES
from nnkern._matrix cimport Matrix, Team
from nnkern._products cimport share_out
from runtime.check cimport check

cdef enum:
    # threads that work through a batch side by side where one layer's products are too small to be shared out
    WORKERS = 4
    # in 10⁹ operations: a block of more is interrupted between its layers; no product of a block takes more
    HEAVY_BLOCK = 1
    HEAVIEST_BLOCK = 60

cdef struct Score:
    double right                    # Σ w over the examples predicted rightly
    double *squares                 # Σ w (ŷ - y)² per output, or NULL for classification

# What a batch's gradient is computed with
cdef struct Gradients:
    Pass *p
    Workspace **workspaces          # of WORKERS, the pass's own first; NULL where one works alone
    const Batch *batch
    double weight                   # of the whole batch
    void *slots                     # room for sums of chunks, each as large as θ
    Score *score                    # or NULL
    Applied *applied                # for a batch of one block, or NULL


# ---------------------------------------------------------------------------------------------------------------------
# Sizes

cdef inline Py_ssize_t examples_in_cache(const Plan *plan) noexcept nogil:
    return BLOCK_BYTES // (plan.n_x * plan.compute.itemsize)


cdef inline bint reads_X_once(const Plan *plan, Py_ssize_t batch) noexcept nogil:
    """Whether a block of X had best stay in the cache between forward and backward.

    Where the first layer has but a few units, both of its products are bound by reading X. Reading it once pays when
    that saves more than reading W[1] and twice dW[1] for each block costs.
    """
    return batch > examples_in_cache(plan) > 3 * plan.layers[0].n


cdef inline Py_ssize_t training_width(const Plan *plan, Py_ssize_t batch) noexcept nogil:
    """Examples in a block of a training batch."""
    cdef Py_ssize_t l, most
    cdef double largest = 1
    for l in range(plan.L):
        largest = max(largest, 2 * plan.layers[l].multiply_adds)
    if reads_X_once(plan, batch):
        # the kernels take four columns at a time
        return min(max(<Py_ssize_t>4, examples_in_cache(plan) // 4 * 4), <Py_ssize_t>CHUNK_COLUMNS)
    most = max(<Py_ssize_t>64, <Py_ssize_t>(1e9 * HEAVIEST_BLOCK / largest))
    return min(batch, min(<Py_ssize_t>CHUNK_COLUMNS, most))


cdef inline bint is_heavy(const Plan *plan, const Workspace *space) noexcept nogil:
    return operations(plan) * space.capacity > 1e9 * HEAVY_BLOCK


cdef inline bint worth_workers(const Plan *plan, Py_ssize_t batch, Py_ssize_t width) noexcept nogil:
    return reads_X_once(plan, batch) and batch >= 4 * WORKERS * width


cdef inline Py_ssize_t examples_of_worker(Py_ssize_t count) noexcept nogil:
    """The most that one gets."""
    return (count + WORKERS - 1) // WORKERS


cdef inline Py_ssize_t slots_of_batch(const Plan *plan, Py_ssize_t batch, Py_ssize_t width) noexcept nogil:
    """Room for sums of chunks that batch_gradient needs beside dθ."""
    if worth_workers(plan, batch, width):
        return WORKERS - 1 + WORKERS * slots_for(examples_of_worker(batch))
    return slots_for(batch)


# ---------------------------------------------------------------------------------------------------------------------
# Chunks and their tree

cdef inline double mean(double total, double weight) noexcept nogil:
    """`total` of what has a weight of `weight`; 0 where nothing counts."""
    return total / weight if weight > 0 else 0


cdef inline double batch_gradient(void *dtheta, const Gradients *g, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """Σ w_i L_i of the examples start … end - 1 of the batch, and their share of dθ, chunk by chunk.

    With `applied` (for one block of examples) the weights are updated on the way, if the sum is finite.
    """
    cdef const Plan *plan = g.p.plan
    cdef Py_ssize_t full = 0, done = 0, chunk, chunk_end, m
    cdef double cost = 0, chunk_cost
    cdef Examples block
    cdef void *sums[TREE_LEVELS]
    check(0 <= start and start < end and end <= g.batch.count)
    check(g.applied is NULL or end - start <= min(g.p.space.capacity, <Py_ssize_t>CHUNK_COLUMNS))
    if g.workspaces is not NULL and end - start >= 4 * WORKERS * g.p.space.capacity:
        return workers_gradient(dtheta, g)
    while start < end:
        if g.p.watch is not NULL and g.p.watch.stop:
            return 0
        check(full < TREE_LEVELS and (full == 0 or g.slots is not NULL))
        # dθ itself for the first sum, slots for further ones
        sums[full] = dtheta if full == 0 else entry(plan, g.slots, (full - 1) * plan.count)
        chunk, chunk_end, chunk_cost = start, min(end, start + CHUNK_COLUMNS), 0
        while start < chunk_end:
            m = min(g.p.space.capacity, chunk_end - start)
            chunk_cost += block_cost(&block, g, start, m)
            if g.applied is not NULL and (not isfinite(chunk_cost) or (g.p.watch is not NULL and g.p.watch.stop)):
                return chunk_cost
            block_gradient(sums[full], g, &block, start > chunk)
            start += m
        scale_sums(plan, sums[full], 1.0 / g.batch.count)
        cost += chunk_cost
        done += 1
        full = add_pairs(&sums[0], full + 1, done, start == end, plan)
    return cost


cdef inline Py_ssize_t add_pairs(
    void **sums, Py_ssize_t full, Py_ssize_t done, bint last, const Plan *plan,
) noexcept nogil:
    """Adds up what the tree over chunks allows once `done` are in sums[0 … full - 1]; how many sums are left."""
    cdef Py_ssize_t _
    for _ in range(sums_to_add(full, done, last)):
        full -= 1
        plan.compute.table.add(sums[full - 1], sums[full], plan.count)
    return full


cdef inline double block_cost(
    Examples *block, const Gradients *g, Py_ssize_t start, Py_ssize_t m,
) noexcept nogil:
    """Σ w_i L_i of m examples of the batch, which become a block whose derivative is left for backward_pass."""
    cdef const Plan *plan = g.p.plan
    cdef void *A = g.p.space.layers[plan.L - 1].A
    cdef double cost
    take_block(block, plan, g.p.space, g.batch, start, m, g.p.team)
    forward_pass(g.p, block, True)
    cost = loss_pass(g.p, block, A, g.p.space.dZ, A, mean(g.batch.count, g.weight))
    if g.score is not NULL:
        add_to_score(g.score, plan, A, block)
    return cost


cdef inline void block_gradient(
    void *dtheta, const Gradients *g, const Examples *block, bint accumulate,
) noexcept nogil:
    """The other half of `block_cost`: its share of dθ, but for what `scale_sums` does to the whole."""
    cdef Gradient to
    to.dtheta, to.one_mth, to.accumulate, to.applied = dtheta, 1.0 / g.batch.count, accumulate, g.applied
    backward_pass(g.p, block, &to)


cdef inline void add_to_score(Score *score, const Plan *plan, const void *A, const Examples *block) noexcept nogil:
    plan.compute.table.score[plan.score](
        &score.right, score.squares, A, block.Y, block.labels, block.w, plan.n_y, block.X.m)


# ---------------------------------------------------------------------------------------------------------------------
# Workers side by side

cdef struct WorkersJob:
    const Gradients *g
    void *sums[WORKERS]
    void *slots[WORKERS]
    double costs[WORKERS]


cdef inline void worker_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef WorkersJob *job = <WorkersJob *>job_
    cdef Gradients own = job.g[0]
    cdef Pass p = own.p[0]
    cdef Py_ssize_t count = own.batch.count
    cdef Team alone
    cdef Watch follower
    alone.threads, alone.scratch = 1, scratch
    # the caller looks at the signals, the others at what it found
    if p.watch is not NULL and scratch != p.team.scratch:
        follower = follower_of(p.watch)
        p.watch = &follower
    p.team, p.space = &alone, own.workspaces[part]
    own.p, own.slots, own.applied, own.workspaces = &p, job.slots[part], NULL, NULL
    job.costs[part] = batch_gradient(job.sums[part], &own, count * part // WORKERS, count * (part + 1) // WORKERS)


cdef inline double workers_gradient(void *dtheta, const Gradients *g) noexcept nogil:
    """dθ of a batch in WORKERS parts, each with a workspace of its own; returns Σ w_i L_i."""
    cdef const Plan *plan = g.p.plan
    cdef WorkersJob job
    cdef Py_ssize_t part, apart = 1, each = slots_for(examples_of_worker(g.batch.count))
    cdef double cost = 0
    cdef Team team = g.p.team[0]
    job.g = g
    for part in range(WORKERS):
        job.sums[part] = dtheta if part == 0 else entry(plan, g.slots, (part - 1) * plan.count)
        job.slots[part] = entry(plan, g.slots, (WORKERS - 1 + part * each) * plan.count)
    if g.score is not NULL or plan.loss == NNK_LOSSES:
        team.threads = 1            # each adds to the score in turn, and a Python function is called by the caller
    share_out(worker_part, &job, WORKERS, True, &team)
    while apart < WORKERS:
        part = 0
        while part < WORKERS:
            plan.compute.table.add(job.sums[part], job.sums[part + apart], plan.count)
            part += 2 * apart
        apart *= 2
    for part in range(WORKERS):
        cost += job.costs[part]
    return cost


# ---------------------------------------------------------------------------------------------------------------------
# The backward half of a forward pass that was kept

cdef inline void retained_gradient(
    void *dtheta, const Pass *p, const Batch *batch, const Matrix *X, Workspace *part, void *slots,
) noexcept nogil:
    """dθ of all examples of X, penalty included, from the activations in p.space; `part`: views of chunks go there."""
    cdef const Plan *plan = p.plan
    cdef const Workspace *space = p.space
    cdef Pass of_chunk = p[0]
    cdef Py_ssize_t first = 0, m = batch.count, full = 0, done = 0, l, k
    cdef double scale = m / weight_of(plan, batch)
    cdef void *sums[TREE_LEVELS]
    cdef Examples whole, block
    cdef Gradient to
    take_targets(&whole, plan, space, batch, 0, m)
    whole.X, whole.sparse = X[0], batch.data.sparse
    to.one_mth, to.accumulate, to.applied = 1.0 / m, False, NULL
    of_chunk.space = part
    while first < m:
        block = part_of_block(plan, &whole, first, min(<Py_ssize_t>CHUNK_COLUMNS, m - first))
        view_from(part, plan, space, first)
        sums[full] = dtheta if full == 0 else entry(plan, slots, (full - 1) * plan.count)
        loss_pass(&of_chunk, &block, part.dZ_other, part.dZ, part.layers[plan.L - 1].A, scale)
        to.dtheta = sums[full]
        backward_pass(&of_chunk, &block, &to)
        first += block.X.m
        done += 1
        full = add_pairs(&sums[0], full + 1, done, first == m, plan)
    scale_sums(plan, dtheta, 1.0 / m)
    for l in range(plan.L):
        for k in range(plan.layers[l].count if plan.layers[l].trainable else 0):
            penalise(dtheta, plan, &plan.layers[l], &plan.layers[l].parameters[k], plan.layers[l].l2, plan.layers[l].l1)
