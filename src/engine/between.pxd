# What is done between two epochs: held-out examples are evaluated, and the best epoch is kept.

from libc.string cimport memcpy, memset

from engine.data cimport Data
from engine.gradient cimport Score, mean
from engine.inference cimport evaluate_blocks
from engine.passes cimport Pass
from engine.plan cimport Plan
from engine.ranks cimport Ranks, are_several, meet_with
from engine.watch cimport DONE, INTERRUPTED, LOST, Status, Watch
from engine.workspace cimport Workspace
from nnkern._matrix cimport Team
from runtime.check cimport check

cdef enum Monitor:
    MONITOR_COST                    # of the training
    MONITOR_VAL_COST
    MONITOR_VAL_SCORE
    MONITOR_VAL_ERROR               # 1 - score

cdef enum:
    # numbers that numpy adds up in one run, with eight sums where there are at least eight; more are halved first
    PAIRWISE_RUN = 128

# Which epoch is the best, and when there has been no better one for long enough
cdef struct Best:
    Monitor monitor
    double sign                     # 1 where the value should fall, -1 where it should rise
    double min_delta                # by how much it must, to be an improvement
    bint last                       # of epochs with equal values the last is kept
    Py_ssize_t patience             # epochs without improvement that end the training; below 0: none do
    # out
    void *theta                     # the parameters of the best epoch; NULL where they aren't wanted
    double value
    Py_ssize_t epoch                # -1 before the first
    Py_ssize_t improved             # the last epoch that was an improvement
    bint over

cdef struct Between:
    Data held_out
    Workspace *space                # for these; NULL where there are none
    const double *spread            # (n_y,) Σ w (y - ȳ)²; NULL where the score is accuracy
    double *squares                 # (n_y,), room for Σ w (ŷ - y)²
    const Ranks *ranks              # the processes that train together; NULL where this one trains alone
    Py_ssize_t first                # epochs of the training before this call
    Best *best                      # or NULL
    # out
    Py_ssize_t seen                 # epochs of this call that were looked at
    double *costs                   # one for each
    double *scores


cdef inline void copy_vector(const Plan *plan, void *to, const void *vector) noexcept nogil:
    """Of θ's size."""
    if to is not NULL:
        memcpy(to, vector, plan.count * plan.compute.itemsize)


cdef inline double pairwise_sum(const double *x, Py_ssize_t n) noexcept nogil:
    """Σ x in the order in which numpy adds up a vector."""
    cdef double sums[8]
    cdef double total
    cdef Py_ssize_t i, k, half
    if n > PAIRWISE_RUN:
        half = n // 2
        half -= half % 8
        return pairwise_sum(x, half) + pairwise_sum(x + half, n - half)
    if n < 8:
        total, i = x[0], 1
    else:
        memcpy(sums, x, sizeof(sums))
        i = 8
        while i + 8 <= n:
            for k in range(8):
                sums[k] += x[i + k]
            i += 8
        total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
    while i < n:
        total += x[i]
        i += 1
    return total


cdef inline double r2_of(double *squares, const double *spread, Py_ssize_t n) noexcept nogil:
    """R² averaged over n outputs, from Σ w (ŷ - y)² and Σ w (y - ȳ)² of each; each one's own takes its square's place.

    An output that is constant counts 1 when it is met exactly, else 0.
    """
    cdef Py_ssize_t k
    for k in range(n):
        if spread[k] == 0:
            squares[k] = squares[k] == 0
        else:
            squares[k] = 1 - squares[k] / spread[k]
    return pairwise_sum(squares, n) / n


cdef inline Status evaluate_held_out(Between *b, const Plan *plan, const Team *team, Watch *watch) noexcept nogil:
    """Their cost and score, over those of all processes, written to what is out; how it ended."""
    cdef Pass p
    cdef Score score
    cdef double sums[4]             # cost, weight, what was right, and room for meet_with's
    cdef Status status
    check(b.costs is not NULL and b.scores is not NULL and b.held_out.X.n == plan.n_x)
    p.plan, p.space, p.team, p.watch = plan, b.space, team, watch
    p.training, p.step, p.dropouts = False, 0, NULL
    score.right, score.squares = 0, b.squares
    if b.squares is not NULL:
        memset(b.squares, 0, plan.n_y * sizeof(double))
    sums[1] = 0
    sums[0] = evaluate_blocks(&p, &b.held_out, &score, &sums[1])
    sums[2] = score.right
    status = INTERRUPTED if watch.stop else DONE
    if are_several(b.ranks):
        status = meet_with(b.ranks, &sums[0], 3, INTERRUPTED if b.ranks.stop else status)
        if status == DONE and b.squares is not NULL and (
                not b.ranks.reduce(b.ranks.owner, b.squares, plan.n_y, sizeof(double))):
            status = LOST
    if status == DONE:
        b.costs[b.seen] = mean(sums[0], sums[1])
        b.scores[b.seen] = sums[2] / sums[1] if b.spread is NULL else r2_of(b.squares, b.spread, plan.n_y)
    return status


cdef inline double monitored(const Between *b, double cost) noexcept nogil:
    if b.best.monitor == MONITOR_VAL_COST:
        return b.costs[b.seen]
    if b.best.monitor == MONITOR_VAL_SCORE:
        return b.scores[b.seen]
    if b.best.monitor == MONITOR_VAL_ERROR:
        return 1 - b.scores[b.seen]
    return cost


cdef inline void note_epoch(Best *best, const Plan *plan, Py_ssize_t epoch, double value) noexcept nogil:
    """Keeps the parameters where this epoch is the best so far; anything is an improvement on NaN."""
    cdef bint improves = (
        best.epoch < 0 or best.sign * value < best.sign * best.value - best.min_delta
        or (best.value != best.value and value == value))
    if improves:
        best.improved = epoch
    if improves or (best.last and value == best.value):
        best.epoch, best.value = epoch, value
        copy_vector(plan, best.theta, plan.theta)
    best.over = 0 <= best.patience <= epoch - best.improved


cdef inline Status look(Between *b, const Plan *plan, double cost, const Team *team, Watch *watch) noexcept nogil:
    """After an epoch of that cost; where a signal came meanwhile, nothing is noted."""
    cdef Status status
    if b.space is not NULL:
        status = evaluate_held_out(b, plan, team, watch)
        if status != DONE:
            return status
    if b.best is not NULL:
        note_epoch(b.best, plan, b.first + b.seen, monitored(b, cost))
    b.seen += 1
    return DONE
