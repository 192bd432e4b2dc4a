# Epochs of one network: order, batches, steps, and what is kept of the last whole epoch.

from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from engine.average cimport Average, follow
from engine.between cimport Between, copy_vector, look
from engine.blocks cimport CHUNK_COLUMNS
from engine.data cimport Batch, Data, Examples, is_sparse, weight_of
from engine.gradient cimport (
    Gradients, Score, batch_gradient, block_cost, block_gradient, is_heavy, mean, training_width,
)
from engine.optimizer cimport Applied, Optimizer, begin_step, clips
from engine.passes cimport Pass, scale_sums
from engine.plan cimport Plan, entry, operations
from engine.ranks cimport PLACES_APART, Ranks, are_several, deal, meet, meet_with, sum_the_rest
from engine.step cimport apply_update, frozen_penalty
from engine.watch cimport DIVERGED, DONE, EMPTY, INTERRUPTED, LOST, Status, Watch, must_stop
from engine.workspace cimport Workspace
from kernels.nnk cimport bitgen_t, nnk_shuffle
from nnkern._matrix cimport Team
from nnkern._products cimport wake
from runtime.check cimport check
from runtime.system cimport nnk_seconds

cdef enum:
    # operations of a step for which the threads are woken together, once for all of its products
    WAKING_STEP = 2000000
    # entries of a gradient from which processes sum and apply it by itself, some columns after the other: in turns on
    # one machine a step of 1024-4096-4096-1024 with 1024 examples took two processes 0.73 to 1.15 of the time, median
    # 0.94
    SUMMED_APART = 1 << 20

cdef struct Patience:
    double best, tol                # the lowest cost so far, and by how much a cost must be below it
    Py_ssize_t bad, most            # epochs in a row that weren't, and after how many of these it has been enough

# θ, s1 and s2 of the last whole epoch, each NULL where there is none, and the counts then
cdef struct Kept:
    void *theta
    void *s1
    void *s2
    uint64_t epoch, step, t
    int written                     # 0 while these are being written over: θ itself is whole then

# Shuffles by a generator of numpy's, which takes the GIL; whether it could.
ctypedef bint (*DrawOrder)(void *owner, int64_t *order, Py_ssize_t m) noexcept nogil

cdef struct Run:
    Plan *plan
    Workspace *space
    Workspace **workspaces          # for workers side by side, or NULL
    Data data
    Optimizer optimizer
    void *dtheta
    void *slots
    const double *rates             # learning rate of each epoch …
    const double *step_rates        # … or of each step, likewise weight decay, and dropout of each layer: (steps, L);
    const double *step_decays       # each NULL where it doesn't change from step to step
    const double *step_dropouts
    Py_ssize_t epochs, batch_size
    Py_ssize_t used                 # examples of an epoch: all, or those of whole batches
    int64_t *order                  # NULL: examples in their own order
    DrawOrder draw_order            # NULL: our own generator shuffles
    void *owner                     # what draw_order is called with
    double loss_scale               # what the reported cost counts the loss by
    Patience *patience              # NULL: all epochs are gone through
    Between *between                # NULL: nothing is looked at between them
    Average *average                # NULL: none is kept
    const Ranks *ranks              # the processes that train together; NULL where this one trains alone
    bint by_count                   # an epoch's cost is the mean over batches by number of examples, not by weight
    uint64_t epoch, step, t         # counted on: the epochs and steps of the network's life, the steps of the optimizer
    Kept *kept                      # or NULL
    double *costs                   # out: one an epoch
    double *seconds
    double *right                   # out: one an epoch, or NULL
    double *squares                 # out: (epochs, n_y), or NULL
    double weight, examples         # out: of the last step, over all processes where there are several
    # out, where it ended early
    Py_ssize_t done, batch
    double last_cost
    Status status


cdef inline bint enough(Patience *patience, double cost) noexcept nogil:
    """Whether, with an epoch of this cost, there have been more than `most` epochs without improvement."""
    patience.bad = patience.bad + 1 if cost > patience.best - patience.tol else 0
    patience.best = min(patience.best, cost)
    return patience.bad > patience.most


cdef inline void shuffle_from(bitgen_t *source, int64_t *order, Py_ssize_t m) noexcept nogil:
    """What numpy.random.RandomState.shuffle does with `order`, from the same draws.

    Fisher and Yates from the last entry on; a draw is refused where the bits that i needs are above i. Which ones are
    can't be foretold, so there is no branch on it: an entry then changes places with itself, and i stays.
    """
    cdef uint64_t i = <uint64_t>m - 1, mask = 1, drawn, j
    cdef int64_t taken
    while mask < i:
        mask = 2 * mask + 1
    while i > 0:
        while mask >> 1 >= i:
            mask >>= 1
        drawn = (source.next_uint32(source.state) if mask >> 32 == 0 else source.next_uint64(source.state)) & mask
        j = drawn if drawn <= i else i
        taken = order[i]
        order[i] = order[j]
        order[j] = taken
        i -= drawn <= i


cdef inline void keep_epoch(Run *run) noexcept nogil:
    """Notes the epoch that is complete as what a failed one goes back to."""
    cdef Kept *kept = run.kept
    kept.written = 0
    copy_vector(run.plan, kept.theta, run.plan.theta)
    copy_vector(run.plan, kept.s1, run.optimizer.s1)
    copy_vector(run.plan, kept.s2, run.optimizer.s2)
    kept.epoch, kept.step, kept.t = run.epoch + 1, run.step, run.t
    kept.written = 1


cdef inline Py_ssize_t steps_of(const Run *run) noexcept nogil:
    """Of an epoch."""
    if run.ranks is not NULL:
        return run.ranks.steps
    return (run.used + run.batch_size - 1) // run.batch_size


cdef inline double take_batch(const Run *run, Batch *batch) noexcept nogil:
    """The examples of the next step; gives Σ w_i as far as it is known, which among several processes is on average."""
    cdef Py_ssize_t whole
    if run.ranks is NULL:
        batch.first = run.batch * run.batch_size
        batch.count = min(run.batch_size, run.used - batch.first)
        return weight_of(run.plan, batch)
    if run.ranks.shards is NULL:
        batch.first, batch.count, batch.place = 0, run.used, run.ranks.rank * PLACES_APART
        return run.ranks.mean_weight
    whole = deal(run.ranks, run.batch, batch)
    return whole * run.ranks.mean_weight if are_several(run.ranks) else weight_of(run.plan, batch)


cdef inline void follow_schedules(const Run *run, Optimizer *optimizer, Pass *p) noexcept nogil:
    """The numbers of the next step that go by a schedule of steps."""
    cdef Py_ssize_t step = run.done * steps_of(run) + run.batch
    if run.step_rates is not NULL:
        optimizer.rate = run.step_rates[step]
    if run.step_decays is not NULL:
        optimizer.weight_decay = run.step_decays[step]
    if run.step_dropouts is not NULL:
        p.dropouts = run.step_dropouts + step * run.plan.L


cdef inline Status gradient_of_all(
    Run *run, const Gradients *g, const Watch *watch, double *cost, double *weight, double *examples,
) noexcept nogil:
    """dθ, the cost, the weight and the size of the step's batch of all processes, whose gradients are summed.

    This one's are computed as if all examples had the mean weight, and corrected when the sum of weights is known.
    """
    cdef Plan *plan = run.plan
    cdef Py_ssize_t first = plan.layers[plan.first_trainable].parameters[0].at
    cdef double expected = weight[0]
    cdef Status status = INTERRUPTED if watch.stop or run.ranks.stop else DONE
    cost[0], weight[0], examples[0] = 0, 0, g.batch.count
    if g.batch.count > 0 and status == DONE:
        weight[0] = weight_of(plan, g.batch)
        cost[0] = mean(batch_gradient(run.dtheta, g, 0, g.batch.count), expected)
        status = INTERRUPTED if watch.stop else DONE if isfinite(cost[0]) else DIVERGED
    elif status == DONE:
        memset(entry(plan, run.dtheta, first), 0, (plan.count - first) * plan.compute.itemsize)
    status = meet(run.ranks, plan, run.dtheta, cost, weight, examples, status)
    if status == DONE and examples[0] == 0 and run.ranks.shards is NULL:
        return EMPTY
    if not run.ranks.weighted:
        weight[0] = expected
    elif status == DONE:
        plan.compute.table.scale(entry(plan, run.dtheta, first), mean(expected, weight[0]), plan.count - first)
        cost[0] *= mean(expected, weight[0])
    return DIVERGED if status == DONE and not isfinite(cost[0]) else status


cdef inline Py_ssize_t largest_applied(const Plan *plan) noexcept nogil:
    """The most entries of a gradient that backward applies itself."""
    cdef Py_ssize_t l, k, most = 0
    for l in range(plan.L):
        for k in range(plan.layers[l].count if plan.layers[l].trainable else 0):
            most = max(most, plan.layers[l].parameters[k].fused)
    return most


cdef inline bint sums_on_the_way(const Run *run) noexcept nogil:
    """Whether large gradients are summed and applied layer by layer: all processes find the same, by what all know.

    That is where each has some examples in every step, which are one block, and their weight is known beforehand.
    """
    cdef const Ranks *ranks = run.ranks
    cdef Py_ssize_t rank, most
    if not are_several(ranks) or not ranks.direct or ranks.weighted or clips(&run.optimizer):
        return False
    if largest_applied(run.plan) < SUMMED_APART:
        return False
    for rank in range(ranks.size):
        most = (ranks.shards[rank] + ranks.steps - 1) // ranks.steps
        if ranks.shards[rank] < ranks.steps or most > min(training_width(run.plan, most), <Py_ssize_t>CHUNK_COLUMNS):
            return False
    return True


cdef inline Status step_of_all(
    Run *run, const Gradients *g, const Watch *watch, double *cost, double *examples,
) noexcept nogil:
    """As gradient_of_all, with `applied`: costs are summed before the backward pass, and no step is begun after a
    failure.
    """
    cdef Examples block
    cdef double sums[3]
    cdef Status status = INTERRUPTED if watch.stop or run.ranks.stop else DONE
    check(0 < g.batch.count and g.batch.count <= run.space.capacity and not is_sparse(&run.data.sparse))
    sums[0], sums[1] = 0, g.batch.count
    if status == DONE:
        sums[0] = mean(block_cost(&block, g, 0, g.batch.count), g.weight)
        status = INTERRUPTED if watch.stop else DONE if isfinite(sums[0]) else DIVERGED
    status = meet_with(run.ranks, &sums[0], 2, status)
    cost[0], examples[0] = sums[0], sums[1]
    if status != DONE or not isfinite(cost[0]):
        return DIVERGED if status == DONE else status
    block_gradient(run.dtheta, g, &block, False)
    scale_sums(run.plan, run.dtheta, 1.0 / g.batch.count)
    return DONE if not g.applied.lost and sum_the_rest(run.ranks, run.plan, run.dtheta, g.applied) else LOST


cdef inline Status run_epoch(
    Run *run, Gradients *g, double frozen, Watch *watch, double *epoch_cost,
) noexcept nogil:
    """All batches in turn: the gradient, then the step; a batch's cost is J before its step."""
    cdef Plan *plan = run.plan
    cdef Optimizer *optimizer = &run.optimizer
    cdef Applied applied
    cdef Batch batch = Batch(&run.data, run.order, 0, 0, 0)
    cdef Py_ssize_t steps = steps_of(run)
    cdef double cost, weight, share, examples, total = 0, total_share = 0
    cdef bint several = are_several(run.ranks), on_the_way = sums_on_the_way(run), fused
    cdef Status status
    run.batch = 0
    while run.batch < steps:
        weight = take_batch(run, &batch)
        # a batch of one block is applied layer by layer; clipping looks at the whole gradient first, and the product
        # with sparse examples has no update at its end
        fused = on_the_way or (
            batch.count <= run.space.capacity and batch.count <= CHUNK_COLUMNS and not clips(optimizer)
            and not several and not is_sparse(&run.data.sparse))
        optimizer.l2 = optimizer.l2_of_sum / weight if weight > 0 else 0
        follow_schedules(run, optimizer, g.p)
        begin_step(optimizer, run.t + 1)
        applied = Applied(optimizer, NULL, NULL, 0, 0, False)
        if on_the_way:
            applied.reduce, applied.owner, applied.least = run.ranks.reduce, run.ranks.owner, SUMMED_APART
        g.batch, g.weight, g.applied, g.p.step = &batch, weight, &applied if fused else NULL, run.step
        if on_the_way:
            status = step_of_all(run, g, watch, &cost, &examples)
        elif several:
            status = gradient_of_all(run, g, watch, &cost, &weight, &examples)
            optimizer.l2 = optimizer.l2_of_sum / weight if weight > 0 else 0
        else:
            examples = batch.count
            cost = mean(batch_gradient(run.dtheta, g, 0, batch.count), weight)
            status = INTERRUPTED if watch.stop else DONE if isfinite(cost) else DIVERGED
        if status != DONE:
            return status
        run.t += 1
        run.step += 1
        applied.penalty += apply_update(run.dtheta, plan, optimizer, True, g.applied, g.p.team)
        if run.average is not NULL:
            follow(run.average, plan, g.p.team)
        cost = run.loss_scale * cost + applied.penalty + frozen
        if not isfinite(cost):
            return DIVERGED
        run.last_cost = cost
        share = examples if run.by_count else weight
        total += share * cost
        total_share += share
        run.batch += 1
        if must_stop(watch) and not several:
            return INTERRUPTED
    run.weight, run.examples = weight, examples
    epoch_cost[0] = mean(total, total_share)
    return DONE


cdef inline bint shuffled(Run *run) noexcept nogil:
    """A new order; False where waiting for the generator was interrupted."""
    if run.order is NULL:
        return True
    if run.draw_order is not NULL:
        return run.draw_order(run.owner, run.order, run.data.m)
    nnk_shuffle(run.order, run.data.m, run.plan.key if run.ranks is NULL else run.ranks.key, run.epoch)
    return True


cdef inline bint add_scores(const Run *run, Score *score, Py_ssize_t n) noexcept nogil:
    """Sums what an epoch's score is made of over all processes; False where one hasn't come."""
    if score is NULL or not are_several(run.ranks):
        return True
    return run.ranks.reduce(run.ranks.owner, &score.right, 1, sizeof(double)) and (
        score.squares is NULL or run.ranks.reduce(run.ranks.owner, score.squares, n, sizeof(double)))


cdef inline Status run_epochs(Run *run, const Team *team, Watch *watch) noexcept nogil:
    cdef Plan *plan = run.plan
    cdef Pass p
    cdef Score score
    cdef Gradients g
    cdef Status status
    cdef double begun, cost = 0, frozen = frozen_penalty(plan)
    check(run.batch_size > 0 and run.used <= run.data.m and run.data.X.n == plan.n_x)
    check(run.batch_size <= run.used or run.ranks is not NULL)
    check(run.dtheta is not NULL and run.rates is not NULL and run.costs is not NULL and run.seconds is not NULL)
    p.plan, p.space, p.team, p.training, p.dropouts = plan, run.space, team, True, NULL
    p.watch = watch if is_heavy(plan, run.space) else NULL
    g.p, g.workspaces, g.slots = &p, run.workspaces, run.slots
    g.score = NULL if run.right is NULL else &score
    while run.done < run.epochs:
        begun = nnk_seconds()
        if operations(plan) * run.batch_size > WAKING_STEP:
            wake(team)
        run.optimizer.rate = run.rates[run.done]
        if not shuffled(run):
            return INTERRUPTED
        score.right = 0
        score.squares = NULL if run.squares is NULL else run.squares + run.done * plan.n_y
        status = run_epoch(run, &g, frozen, watch, &cost)
        if status == DONE and not add_scores(run, g.score, plan.n_y):
            status = LOST
        if status != DONE:
            return status
        if run.kept is not NULL:
            if plan.compute.table.first_nonfinite(plan.theta, plan.count) != plan.count:
                run.batch -= 1
                return DIVERGED
            keep_epoch(run)
        run.costs[run.done] = cost
        run.seconds[run.done] = nnk_seconds() - begun
        if run.right is not NULL:
            run.right[run.done] = score.right
        run.done += 1
        run.epoch += 1
        if run.patience is not NULL and enough(run.patience, cost):
            break
        if run.between is not NULL:
            status = look(run.between, plan, cost, team, watch)
            if status != DONE:
                return status
            if run.between.best is not NULL and run.between.best.over:
                break
    return DONE
