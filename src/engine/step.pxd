# One step of an optimizer with a gradient that is finished: clipping, then the update of each parameter that learns.

from libc.math cimport INFINITY, ilogb, isfinite, ldexp, sqrt
from libc.string cimport memset

from engine.optimizer cimport Applied, Optimizer, clips, step_numbers
from engine.plan cimport Layer, Parameter, Plan, entries_of, entry
from kernels.nnk cimport NNK_penalise, nnk_step, nnk_table
from nnkern._matrix cimport Team
from nnkern._products cimport share_out
from runtime.check cimport check

cdef enum:
    UPDATE_GRAIN = 1 << 14          # fewest entries of a part
    MOST_UPDATE_PARTS = 256         # each has a sum of its own

cdef struct UpdateJob:
    const nnk_table *table
    int update, itemsize
    char *theta
    char *s1
    char *s2
    char *dtheta
    nnk_step step
    Py_ssize_t count, width         # entries, and how many of them are a part
    double penalties[MOST_UPDATE_PARTS]


cdef inline void update_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef UpdateJob *job = <UpdateJob *>job_
    cdef Py_ssize_t first = part * job.width, at = first * job.itemsize, c = min(job.width, job.count - first)
    job.penalties[part] = job.table.update[job.update](
        job.theta + at, job.s1 + at, job.s2 + at, job.dtheta + at, &job.step, c, 1, c)


cdef inline nnk_step step_of(
    const Optimizer *optimizer, const Layer *layer, const Parameter *parameter, bint penalised,
) noexcept nogil:
    """The numbers of the step that has begun for one parameter."""
    cdef double l2 = 0, l1 = 0
    if parameter.decays and penalised:
        l2, l1 = layer.l2 + optimizer.l2, layer.l1
    return step_numbers(optimizer, parameter.rate, parameter.held, parameter.decays, l2, l1)


cdef inline double update_parameter(
    const void *gradient, const Plan *plan, const Optimizer *optimizer, const Parameter *parameter, Py_ssize_t first,
    Py_ssize_t count, const nnk_step *step, const Team *team,
) noexcept nogil:
    """So many of its entries from `first` on by their gradient; returns the penalty of these before it."""
    cdef UpdateJob job
    cdef Py_ssize_t parts, part, at = parameter.at + first
    cdef double penalty = 0
    check(parameter.at >= 0 and parameter.at + entries_of(parameter) <= plan.count)
    check(0 <= first and first + count <= entries_of(parameter))
    check(optimizer.s1 is not NULL and optimizer.s2 is not NULL)
    job.table, job.update, job.itemsize = plan.compute.table, optimizer.update, plan.compute.itemsize
    job.step, job.count = step[0], count
    job.theta, job.dtheta = <char *>entry(plan, plan.theta, at), <char *>gradient
    job.s1, job.s2 = <char *>entry(plan, optimizer.s1, at), <char *>entry(plan, optimizer.s2, at)
    job.width = max(<Py_ssize_t>UPDATE_GRAIN, (job.count + MOST_UPDATE_PARTS - 1) // MOST_UPDATE_PARTS)
    parts = (job.count + job.width - 1) // job.width
    share_out(update_part, &job, parts, False, team)
    for part in range(parts):
        penalty += job.penalties[part]
    return penalty


cdef inline Py_ssize_t applied_entries(const Applied *applied, const Parameter *parameter) noexcept nogil:
    """How many of its entries, the first ones, backward has updated; `applied`: with what, or NULL."""
    return 0 if applied is NULL or parameter.fused < applied.least else parameter.fused


cdef inline double apply_update(
    void *dtheta, const Plan *plan, const Optimizer *optimizer, bint penalised, const Applied *applied,
    const Team *team,
) noexcept nogil:
    """The step that has begun; returns the penalty of the parameters before it.

    What backward has `applied` is updated, and its penalty is known.
    """
    cdef double penalty = 0, its_penalty
    cdef Py_ssize_t l, p, first, count
    cdef const Layer *layer
    cdef const Parameter *parameter
    cdef nnk_step step
    if clips(optimizer):
        penalty = clip_gradient(dtheta, plan, optimizer, penalised)
        penalised = False
    for l in range(plan.L):
        layer = &plan.layers[l]
        for p in range(layer.count if layer.trainable else 0):
            parameter = &layer.parameters[p]
            first = applied_entries(applied, parameter)
            count = entries_of(parameter) - first
            if count == 0:
                continue
            step = step_of(optimizer, layer, parameter, penalised)
            its_penalty = update_parameter(
                entry(plan, dtheta, parameter.at + first), plan, optimizer, parameter, first, count, &step, team)
            # of what doesn't decay it is 0 times the squares, which may be infinite
            penalty += its_penalty if parameter.decays else 0
    return penalty


cdef inline double penalise(
    void *dtheta, const Plan *plan, const Layer *layer, const Parameter *parameter, double l2, double l1,
) noexcept nogil:
    """Adds the penalty's gradient to a finished one; returns the penalty."""
    cdef nnk_step step
    if not parameter.decays or not (l2 > 0 or l1 > 0):
        return 0
    memset(&step, 0, sizeof(step))
    step.l2, step.l1 = l2, l1
    return plan.compute.table.update[NNK_penalise](
        entry(plan, plan.theta, parameter.at), NULL, NULL, entry(plan, dtheta, parameter.at), &step,
        parameter.n, parameter.m, parameter.n)


cdef inline double penalty_of(const Plan *plan, const Layer *layer) noexcept nogil:
    """l2/2 Σθ² + l1 Σ|θ| of what decays in a layer."""
    cdef double total = 0
    cdef Py_ssize_t p
    for p in range(layer.count):
        if layer.parameters[p].decays:
            total += plan.compute.table.penalty(
                entry(plan, plan.theta, layer.parameters[p].at), layer.l2, layer.l1, entries_of(&layer.parameters[p]))
    return total


cdef inline double frozen_penalty(const Plan *plan) noexcept nogil:
    """What layers that don't learn add to the cost."""
    cdef double total = 0
    cdef Py_ssize_t l
    for l in range(plan.L):
        if not plan.layers[l].trainable and (plan.layers[l].l2 > 0 or plan.layers[l].l1 > 0):
            total += penalty_of(plan, &plan.layers[l])
    return total


# ---------------------------------------------------------------------------------------------------------------------
# Clipping. It goes through the parameters that learn up to four times, each time with another of these visitors.

cdef struct Clipping:
    const Optimizer *optimizer
    bint penalised
    double penalty, squares, largest, unit

ctypedef void (*Visit)(
    void *dtheta, const Plan *plan, const Layer *layer, const Parameter *parameter, Clipping *clipping) noexcept nogil


cdef inline void visit_learning(void *dtheta, const Plan *plan, Visit visit, Clipping *clipping) noexcept nogil:
    cdef Py_ssize_t l, p
    cdef const Layer *layer
    for l in range(plan.L):
        layer = &plan.layers[l]
        for p in range(layer.count if layer.trainable else 0):
            visit(dtheta, plan, layer, &layer.parameters[p], clipping)


cdef inline void clip_entries(
    void *dtheta, const Plan *plan, const Layer *layer, const Parameter *parameter, Clipping *clipping,
) noexcept nogil:
    if clipping.penalised:
        clipping.penalty += penalise(dtheta, plan, layer, parameter, layer.l2 + clipping.optimizer.l2, layer.l1)
    clipping.squares += plan.compute.table.clip(
        entry(plan, dtheta, parameter.at), clipping.optimizer.clip_value, entries_of(parameter))


cdef inline void add_squares(
    void *dtheta, const Plan *plan, const Layer *layer, const Parameter *parameter, Clipping *clipping,
) noexcept nogil:
    """Adds (unit x)² to `squares`, and keeps the largest |x| so far."""
    plan.compute.table.magnitudes(
        entry(plan, dtheta, parameter.at), entries_of(parameter), clipping.unit, &clipping.largest, &clipping.squares)


cdef inline void scale_by_unit(
    void *dtheta, const Plan *plan, const Layer *layer, const Parameter *parameter, Clipping *clipping,
) noexcept nogil:
    plan.compute.table.scale(entry(plan, dtheta, parameter.at), clipping.unit, entries_of(parameter))


cdef inline double clip_gradient(
    void *dtheta, const Plan *plan, const Optimizer *optimizer, bint penalised,
) noexcept nogil:
    """Keeps entries of dθ, penalty included, within ±clip_value, then its norm within clip_norm; gives the penalty."""
    cdef Clipping clipping
    cdef double norm
    memset(&clipping, 0, sizeof(clipping))
    clipping.optimizer, clipping.penalised = optimizer, penalised
    visit_learning(dtheta, plan, clip_entries, &clipping)
    clipping.unit = 1
    if clipping.squares == INFINITY:
        # entries too large for their squares: in units of a power of two, of which the largest is less than one
        clipping.unit = 0
        visit_learning(dtheta, plan, add_squares, &clipping)
        clipping.unit = ldexp(1, -ilogb(clipping.largest) - 1) if isfinite(clipping.largest) else 0
        clipping.squares = 0
        visit_learning(dtheta, plan, add_squares, &clipping)
    norm = sqrt(clipping.squares)
    if norm > optimizer.clip_norm * clipping.unit:
        if clipping.unit < 1:
            visit_learning(dtheta, plan, scale_by_unit, &clipping)
        clipping.unit = optimizer.clip_norm / norm
        visit_learning(dtheta, plan, scale_by_unit, &clipping)
    return clipping.penalty
