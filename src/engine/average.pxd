# The average of a network's parameters over the steps of a training, beside them and in float64.

from libc.stdint cimport uint64_t

from engine.plan cimport Plan, entry
from nnkern._matrix cimport Team
from nnkern._products cimport share_out
from runtime.check cimport check

cdef enum:
    AVERAGE_GRAIN = 1 << 14         # entries of a part

cdef struct Average:
    double *theta                   # NULL where none is kept
    double decay                    # it moves to decay · average + (1 - decay) · θ; negative: it is the mean
    uint64_t steps                  # that it is of
    bint counts                     # whether the next step does

cdef struct AverageJob:
    const char *theta
    double *average
    double share
    Py_ssize_t count
    int itemsize

ctypedef fused Real:
    float
    double


cdef inline void move(double *average, const Real *theta, double share, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        average[i] += share * (theta[i] - average[i])


cdef inline void move_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef AverageJob *job = <AverageJob *>job_
    cdef Py_ssize_t first = part * AVERAGE_GRAIN, count = min(<Py_ssize_t>AVERAGE_GRAIN, job.count - first)
    cdef const char *theta = job.theta + first * job.itemsize
    if job.itemsize == sizeof(float):
        move(job.average + first, <const float *>theta, job.share, count)
    else:
        move(job.average + first, <const double *>theta, job.share, count)


cdef inline void follow(Average *average, const Plan *plan, const Team *team) noexcept nogil:
    """After a step: the average moves towards the parameters as they are now, and the first one is these."""
    cdef AverageJob job
    if average.theta is NULL or not average.counts:
        return
    check(average.decay < 1 and plan.count > 0)
    average.steps += 1
    job.share = 1.0 / average.steps if average.decay < 0 or average.steps == 1 else 1 - average.decay
    job.theta, job.average = <const char *>entry(plan, plan.theta, 0), average.theta
    job.count, job.itemsize = plan.count, plan.compute.itemsize
    share_out(move_part, &job, (plan.count + AVERAGE_GRAIN - 1) // AVERAGE_GRAIN, False, team)
