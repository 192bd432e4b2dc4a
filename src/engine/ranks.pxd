# Several processes that train one network together, each with a shard of the examples. Which of them a step has, and
# how all processes meet in each step, is here; how a block of numbers is summed over them is the caller's affair.
#
# Whatever happens to a process, it comes to every meeting, and says there that it has failed: nobody waits for it then.

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from engine.data cimport Batch
from engine.optimizer cimport Applied
from engine.plan cimport Layer, Plan, entry
from engine.step cimport applied_entries
from engine.watch cimport ABANDONED, DONE, LOST, Status
from nnkern._matrix cimport Reduce
from runtime.check cimport check

cdef enum:
    # entries that a meeting has behind the gradient: cost, weight, examples, and how many processes have failed
    MEETING_ENTRIES = 4
    # between the places of examples of two processes, where none knows how many the others have in a step
    PLACES_APART = 1 << 30

cdef struct Ranks:
    Reduce reduce
    void *owner                     # what `reduce` is called with
    Py_ssize_t rank, size           # this process, and how many there are
    const int64_t *shards           # examples of each; NULL: a step is a batch of each, which only that one knows
    Py_ssize_t steps                # of an epoch
    double mean_weight              # of an example, over all; about that of a step where there are no shards
    bint weighted                   # whether any process has weights, or none knows those of a step
    bint direct                     # whether the engine takes the examples of each as they are
    uint64_t key                    # of shuffling, for this process
    bint stop                       # whether what `reduce` called has asked for the end


cdef inline bint are_several(const Ranks *ranks) noexcept nogil:
    return ranks is not NULL and ranks.size > 1


cdef inline Py_ssize_t first_of_step(const Ranks *ranks, Py_ssize_t rank, Py_ssize_t step) noexcept nogil:
    """Where the examples of a step begin in a shard, which is dealt evenly to the steps of an epoch."""
    return ranks.shards[rank] * step // ranks.steps


cdef inline Py_ssize_t deal(const Ranks *ranks, Py_ssize_t step, Batch *batch) noexcept nogil:
    """This process's examples of a step, and their place among those of all; how many these are."""
    cdef Py_ssize_t rank, count, whole = 0
    check(0 <= step and step < ranks.steps)
    for rank in range(ranks.size):
        count = first_of_step(ranks, rank, step + 1) - first_of_step(ranks, rank, step)
        if rank == ranks.rank:
            batch.first, batch.count, batch.place = first_of_step(ranks, rank, step), count, whole
        whole += count
    return whole


cdef inline void put(const Plan *plan, void *block, Py_ssize_t at, double value) noexcept nogil:
    if plan.compute.itemsize == 4:
        (<float *>block)[at] = <float>value
    else:
        (<double *>block)[at] = value


cdef inline double get(const Plan *plan, const void *block, Py_ssize_t at) noexcept nogil:
    return (<const float *>block)[at] if plan.compute.itemsize == 4 else (<const double *>block)[at]


cdef inline Status meet(
    const Ranks *ranks, const Plan *plan, void *dtheta, double *cost, double *weight, double *examples, Status own,
) noexcept nogil:
    """Sums the gradient, the cost, the weight and the number of examples of a step over all processes, each of which
    may have failed.

    Behind dθ there is room for MEETING_ENTRIES. What lies below the first layer that learns stays where it is.
    """
    cdef Py_ssize_t first = plan.layers[plan.first_trainable].parameters[0].at
    cdef double failed
    if own != DONE:
        memset(entry(plan, dtheta, first), 0, (plan.count - first) * plan.compute.itemsize)
        cost[0] = 0
    put(plan, dtheta, plan.count, cost[0])
    put(plan, dtheta, plan.count + 1, weight[0])
    put(plan, dtheta, plan.count + 2, examples[0])
    put(plan, dtheta, plan.count + 3, own != DONE)
    if not ranks.reduce(ranks.owner, entry(plan, dtheta, first), plan.count + MEETING_ENTRIES - first,
                        plan.compute.itemsize):
        return LOST
    cost[0], weight[0] = get(plan, dtheta, plan.count), get(plan, dtheta, plan.count + 1)
    examples[0], failed = get(plan, dtheta, plan.count + 2), get(plan, dtheta, plan.count + 3)
    if own != DONE or failed == 0:
        return own
    return ABANDONED


cdef inline bint sum_the_rest(
    const Ranks *ranks, const Plan *plan, void *dtheta, const Applied *applied,
) noexcept nogil:
    """Sums what backward has left of the gradient over all processes; False where one hasn't come."""
    cdef Py_ssize_t l, p, fused, at = plan.layers[plan.first_trainable].parameters[0].at, end
    cdef const Layer *layer
    for l in range(plan.first_trainable, plan.L):
        layer = &plan.layers[l]
        for p in range(layer.count if layer.trainable else 0):
            fused = applied_entries(applied, &layer.parameters[p])
            if fused == 0:
                continue
            end = layer.parameters[p].at
            if at < end and not ranks.reduce(ranks.owner, entry(plan, dtheta, at), end - at, plan.compute.itemsize):
                return False
            at = end + fused
    return at == plan.count or ranks.reduce(
        ranks.owner, entry(plan, dtheta, at), plan.count - at, plan.compute.itemsize)


cdef inline Status meet_with(
    const Ranks *ranks, double *numbers, Py_ssize_t count, Status own,
) noexcept nogil:
    """Likewise for a few numbers; behind them there is room for one more."""
    numbers[count] = own != DONE
    if not ranks.reduce(ranks.owner, numbers, count + 1, sizeof(double)):
        return LOST
    return own if own != DONE or numbers[count] == 0 else ABANDONED
