# The whole network in native code: prediction, evaluation, gradients, and epochs of training, each in one call with the
# GIL released.
#
# An Engine owns the parameters θ of one network, their gradient dθ, the optimizer's state and the workspace; what the
# numbers mean (names, shapes, defaults, histories) is network.py's affair, and what users hand in has been judged by
# validation.py. Dense layers are computed by the kernels of _kernels.pyx.
#
# A batch is worked through in chunks of CHUNK_COLUMNS examples, whose gradients are added up in a fixed tree; a chunk,
# in blocks (most often one): forward, loss, backward, adding up.

from libc.math cimport INFINITY, ilogb, isfinite, ldexp, pow, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport PyObject

cimport cython
cimport nnk
cimport numpy as cnp
from nnkern._kernels cimport (
    Matrix, Team, Update, columns_of, contiguous, dissolve, fits_blas, form_team, forward_columns, input_gradient,
    kernel_table, matrix_of, number_of_threads, real, share_out, sums_to_add, wake, weight_gradient,
)
from arrays cimport disjoint, lies_well
from blas cimport nnk_blas_single_thread

from threading import get_ident, main_thread

import numpy as np

cnp.import_array()

cdef object ndarray = np.ndarray

from nnkern._kernels import LOSSES

cdef enum:
    CHUNK_COLUMNS = 4096
    # what shall stay in a second-level cache: the activations of two layers in prediction, X in training
    BLOCK_BYTES = 1 << 19
    ALIGNMENT = 64
    MOST_SLOTS = 64
    # chunks of a batch that go on side by side where one layer's products are too small to be shared out
    CREW = 4
    # entries of what is shared out among threads in one part, and most parts where each has a sum of its own
    LOSS_ENTRIES = 1 << 14
    GATHERED_ENTRIES = 1 << 13
    UPDATED_ENTRIES = 1 << 14
    MOST_PARTS = 256
    # operations of a step for which the threads are called together
    WAKING_OPERATIONS = 2000000

# Codes of the updates, by the names optimizers.py gives them.
UPDATES = {nnk.nnk_update_facts[i].name.decode(): i for i in range(nnk.NNK_UPDATES)}

cdef enum Status:
    DONE
    DIVERGED
    INTERRUPTED

# seconds between two looks at the signals that arrived; a block of more operations than HEAVY is interrupted between
# its layers, and has so few columns that no product takes more than HEAVIEST
cdef double SIGNAL_PERIOD = 0.05
cdef double HEAVY = 1e9
cdef double HEAVIEST = 6e10


cdef class Engine


cdef struct Layer:
    Py_ssize_t n, n_prev
    int activation
    double slope, dropout, l2, l1
    bint use_bias, trainable, reads_Z
    Py_ssize_t W_at, b_at           # where W and b stand in θ, in entries

cdef struct Watch:
    PyObject *owner                 # the Engine that asks Python for signals
    double looked                   # when it last did
    bint stop                       # whether one asked for the end
    Watch *leader                   # whose `stop` counts where there is no owner

cdef struct Workspace:
    Py_ssize_t capacity             # columns
    void **A                        # A[l] (n[l], capacity)
    void **Z                        # Z[l] where g[l]' reads it, else NULL
    void **D                        # A[l] after dropout where the layer has it, else NULL
    void *dZ                        # two of the widest layer's size, used in turn
    void *dZ_other
    void *X                         # gathered examples
    void *Y
    void *w
    int64_t *labels
    Watch *watch                    # looked at between layers where these take long, else NULL
    const Team *team                # who computes
    Workspace *crew[CREW]           # this one and others, for chunks that go on side by side; NULL where there are none

cdef struct Plan:
    int itemsize
    const nnk.nnk_table *table
    Py_ssize_t L, n_x, n_y, count   # count: entries of θ
    Layer *layers
    int loss                        # NNK_LOSSES for a Python function
    double parameter                # of the loss
    PyObject *owner                 # the Engine, which has that function
    bint matched                    # the output's activation is the one the loss kernel applies itself
    Py_ssize_t first_trainable      # L where there is none
    uint64_t key                    # of dropout and shuffling
    void *theta

cdef struct Data:
    Matrix X
    bint gather_X
    Matrix Y
    bint gather_Y
    const int64_t *labels           # (m,) for cross_entropy with labels, else NULL
    const void *w                   # (m,) or NULL
    Py_ssize_t m

cdef struct Optimizer:
    int update
    double rate, momentum, beta1, beta2, eps, weight_decay
    bint raw_eps                    # adam's ε is added to √v as it stands, before the correction of its start
    double l2_of_sum                # a penalty l2_of_sum/2 Σ‖W[l]‖² on Σ w_i L_i of a batch rather than on its mean …
    double l2                       # … which is l2_of_sum / Σ w_i on the mean of the present batch
    double corrected_rate, corrected_eps, root      # of the present step
    double clip_value, clip_norm    # infinite where the gradient isn't clipped
    void *s1
    void *s2

# An update that goes along with the backward pass
cdef struct Applied:
    const Optimizer *optimizer
    double penalty                  # out: of the weights before it

cdef struct Score:
    double right                    # Σ w over the examples predicted rightly
    double *squares                 # Σ w (ŷ - y)² per output, or NULL for classification


# ---------------------------------------------------------------------------------------------------------------------
# One chunk: forward, loss, backward

cdef bint must_stop(Watch *watch) noexcept nogil:
    """Whether a signal has asked for the end; looks for one where the last look is a while ago."""
    cdef double now
    if watch.owner is NULL:
        watch.stop = watch.leader.stop
        return watch.stop
    if not watch.stop:
        now = nnk.nnk_seconds()
        if now - watch.looked > SIGNAL_PERIOD:
            watch.looked = now
            with gil:
                watch.stop = (<Engine>watch.owner).signalled()
    return watch.stop


cdef inline Matrix weights_of(real *like, const Plan *plan, Py_ssize_t l) noexcept nogil:
    return contiguous(<real *>plan.theta + plan.layers[l].W_at, plan.layers[l].n, plan.layers[l].n_prev)


cdef inline const real *bias_of(real *like, const Plan *plan, Py_ssize_t l) noexcept nogil:
    return <const real *>plan.theta + plan.layers[l].b_at if plan.layers[l].use_bias else NULL


cdef void forward_chunk(
    real *like, const Plan *plan, const Workspace *space, const Matrix *X, Py_ssize_t first, bint for_loss,
    bint training, uint64_t step,
) noexcept nogil:
    """A[l] = g[l](W[l] A[l-1] + b[l]) for l = 1 … L; with `for_loss` and a matched loss, A[L] is left at Z[L].

    `first` is the position of the chunk's first example in its batch: dropout's masks depend on it.
    """
    cdef Py_ssize_t l, c = X.m
    cdef Layer *layer
    cdef Matrix W, A_prev = X[0]
    cdef int activation
    for l in range(plan.L):
        if space.watch is not NULL and must_stop(space.watch):
            return
        layer = &plan.layers[l]
        W = weights_of(like, plan, l)
        activation = layer.activation
        if for_loss and plan.matched and l == plan.L - 1:
            activation = nnk.NNK_linear
        forward_columns(<real *>space.A[l], <real *>space.Z[l], activation, layer.slope, &W, &A_prev,
                        bias_of(like, plan, l), space.team)
        A_prev = contiguous(space.A[l], layer.n, c)
        if training and layer.dropout > 0:
            plan.table.dropout(space.D[l], space.A[l], plan.key, step * <uint64_t>plan.L + <uint64_t>l,
                               <uint64_t>(first * layer.n), layer.dropout, layer.n * c)
            A_prev.data = space.D[l]


cdef double loss_chunk(
    real *like, const Plan *plan, void *A, void *dA, const void *Z, const void *Y, const int64_t *labels, const void *w,
    double scale, Py_ssize_t c, const Team *team,
) noexcept nogil:
    """Σ w_i L_i of a chunk, from what forward_chunk left as A[L] when it was asked to go on to the loss.

    A (which may be Z) becomes the prediction, dA its derivative by Z[L] (matched loss) or by A[L] (any other).
    """
    cdef LossJob job
    cdef Py_ssize_t parts, part
    cdef double total = 0
    if plan.loss == nnk.NNK_LOSSES:
        if A != Z:
            memcpy(A, Z, plan.n_y * c * sizeof(real))
        return call_loss(<real *>A, plan, <real *>dA, <real *>Y, <real *>w, scale, c)
    job.plan, job.A, job.dA, job.Z, job.Y, job.labels, job.w, job.scale, job.c = plan, A, dA, Z, Y, labels, w, scale, c
    job.width = max(LOSS_ENTRIES // plan.n_y, (c + MOST_PARTS - 1) // MOST_PARTS)
    parts = (c + job.width - 1) // job.width
    share_out(loss_part, &job, parts, False, team)
    for part in range(parts):
        total += job.sums[part]
    return total


cdef struct LossJob:
    const Plan *plan
    void *A
    void *dA
    const void *Z
    const void *Y
    const int64_t *labels
    const void *w
    double scale
    Py_ssize_t c, width             # examples, and how many of them are a part
    double sums[MOST_PARTS]


cdef void loss_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef LossJob *job = <LossJob *>job_
    cdef const Plan *plan = job.plan
    cdef Py_ssize_t n = plan.n_y, first = part * job.width, c = min(job.width, job.c - first)
    cdef Py_ssize_t at = first * n * plan.itemsize
    cdef char *A = <char *>job.A + at
    cdef char *dA = <char *>job.dA + at
    cdef const char *Z = <const char *>job.Z + at
    cdef const char *Y = NULL if job.Y is NULL else <const char *>job.Y + at
    cdef const char *w = NULL if job.w is NULL else <const char *>job.w + first * plan.itemsize
    job.sums[part] = plan.table.loss[plan.loss](
        A, dA, Z, Y, NULL if job.labels is NULL else job.labels + first, w, job.scale, plan.parameter, n, c)


cdef object copy_of(const real *A, Py_ssize_t n, Py_ssize_t m, dtype):
    """A contiguous matrix as an array."""
    array = np.empty((n, m), dtype, order="F")
    memcpy(address(array), A, n * m * sizeof(real))
    return array


cdef double call_loss(
    real *A, const Plan *plan, real *dA, real *Y, real *w, double scale, Py_ssize_t c,
) noexcept with gil:
    """loss_chunk with the network's Python function; what it raises waits in the engine, the cost is NaN then.

    On the thread that has called for it, never on one of the pool's: these have small stacks.
    """
    cdef Engine engine = <Engine>plan.owner
    cdef Py_ssize_t n = plan.n_y
    if get_ident() in engine.pending:
        return float("nan")         # the call is to fail anyhow
    try:
        # copies: the function may keep them
        cost, derivative = engine.function(copy_of(A, n, c, engine.dtype), copy_of(Y, n, c, engine.dtype))
        cost, derivative = np.asarray(cost, np.float64), np.asarray(derivative, engine.dtype)
        if derivative.shape != (n, c):
            raise ValueError(f"the loss function gave a derivative of shape {derivative.shape} "
                             f"for A of shape ({n}, {c})")
        if cost.shape != (c,) and (cost.shape != () or w is not NULL):
            raise ValueError(f"the loss function gave a cost of shape {cost.shape}: expected ({c},), one an example"
                             + ("" if w is not NULL else ", or their mean"))
        if w is not NULL:
            weights = copy_of(w, 1, c, engine.dtype)[0]
            cost, derivative = cost * weights, derivative * weights
        derivative = np.array(derivative * scale, engine.dtype, order="F")
        memcpy(dA, address(derivative), n * c * sizeof(real))
        return cost.sum() if cost.shape else cost * c
    except BaseException as error:
        engine.pending[get_ident()] = error
        return float("nan")


cdef void backward_chunk(
    real *dtheta, const Plan *plan, const Workspace *space, const Matrix *X, double one_mth, Py_ssize_t first,
    bint training, uint64_t step, bint accumulate, Applied *applied,
) noexcept nogil:
    """dθ of a block whose forward pass and loss have left A[l] and, in space.dZ, the loss's derivative.

    dZ[L] from the loss, then for l = L … 1: dW[l] = 1/m dZ[l] A[l-1]ᵀ, m db[l] = Σ_columns dZ[l],
    dZ[l-1] = (W[l]ᵀ dZ[l]) ⊙ g[l-1]'. Below the first layer that learns nothing is computed. With `accumulate` the
    block's share is added to what dθ holds; finish_biases then makes m db to db. With `applied` the weights are updated
    as soon as their gradient is there: the signals are then not looked at, so that no step is left half done.
    """
    cdef Py_ssize_t l = plan.L - 1, c = X.m
    cdef Layer *layer = &plan.layers[l]
    cdef Layer *below
    cdef real *dZ = <real *>space.dZ
    cdef real *dZ_prev = <real *>space.dZ_other
    cdef real *db = dtheta + layer.b_at if layer.use_bias and layer.trainable else NULL
    cdef real *db_prev
    cdef Matrix W, A_prev
    cdef bint dropped
    cdef int activation = nnk.NNK_linear if plan.matched else layer.activation
    if db is not NULL and not accumulate:
        memset(db, 0, layer.n * sizeof(real))
    if activation != nnk.NNK_linear or db is not NULL:
        plan.table.backward[activation](dZ, layer.n, db, dZ, layer.n, space.A[l], layer.n, space.Z[l], layer.n,
                                        layer.slope, layer.n, c)
    while True:
        if applied is NULL and space.watch is not NULL and must_stop(space.watch):
            return
        layer = &plan.layers[l]
        if l == plan.first_trainable:
            if l == 0:
                weights_of_layer(dtheta, plan, space, l, dZ, X, one_mth, accumulate, applied)
            else:
                A_prev = inputs_of(dtheta, plan, space, l, c, training)
                weights_of_layer(dtheta, plan, space, l, dZ, &A_prev, one_mth, accumulate, applied)
            return
        below = &plan.layers[l - 1]
        dropped = training and below.dropout > 0
        db_prev = dtheta + below.b_at if below.use_bias and below.trainable else NULL
        if db_prev is not NULL and not accumulate:
            memset(db_prev, 0, below.n * sizeof(real))
        W = weights_of(dtheta, plan, l)
        if dropped:
            input_gradient(dZ_prev, <real *>NULL, nnk.NNK_linear, 0, &W, dZ, <const real *>NULL, <const real *>NULL, c,
                           space.team)
            plan.table.dropout(dZ_prev, dZ_prev, plan.key, step * <uint64_t>plan.L + <uint64_t>(l - 1),
                               <uint64_t>(first * below.n), below.dropout, below.n * c)
            plan.table.backward[below.activation](
                dZ_prev, below.n, db_prev, dZ_prev, below.n, space.A[l - 1], below.n, space.Z[l - 1], below.n,
                below.slope, below.n, c)
        else:
            input_gradient(dZ_prev, db_prev, below.activation, below.slope, &W, dZ, <const real *>space.A[l - 1],
                           <const real *>space.Z[l - 1], c, space.team)
        # after W has been read for the input gradient
        if layer.trainable:
            A_prev = inputs_of(dtheta, plan, space, l, c, training)
            weights_of_layer(dtheta, plan, space, l, dZ, &A_prev, one_mth, accumulate, applied)
        dZ, dZ_prev = dZ_prev, dZ
        l -= 1


cdef inline Matrix inputs_of(
    real *like, const Plan *plan, const Workspace *space, Py_ssize_t l, Py_ssize_t c, bint training,
) noexcept nogil:
    """What layer l (from 0) of a block had for its inputs, l > 0."""
    cdef const Layer *below = &plan.layers[l - 1]
    return contiguous(space.D[l - 1] if training and below.dropout > 0 else space.A[l - 1], below.n, c)


cdef void weights_of_layer(
    real *dtheta, const Plan *plan, const Workspace *space, Py_ssize_t l, const real *dZ, const Matrix *A_prev,
    double one_mth, bint accumulate, Applied *applied,
) noexcept nogil:
    """dW[l], applied where that is asked for."""
    cdef const Layer *layer = &plan.layers[l]
    cdef nnk.nnk_step step
    cdef Update update
    if applied is not NULL:
        step = step_of(applied.optimizer, layer, True)
        update.code, update.step, update.penalised = applied.optimizer.update, &step, step.l2 != 0 or step.l1 != 0
        update.W = <real *>plan.theta + layer.W_at
        update.s1, update.s2 = <real *>applied.optimizer.s1 + layer.W_at, <real *>applied.optimizer.s2 + layer.W_at
    weight_gradient(dtheta + layer.W_at, dZ, A_prev, <real>one_mth, <real>(1 if accumulate else 0), layer.n,
                    NULL if applied is NULL else &update, space.team)
    if applied is not NULL:
        applied.penalty += update.penalty


cdef void finish_biases(real *dtheta, const Plan *plan, double one_mth) noexcept nogil:
    """db[l] from m db[l]."""
    cdef Py_ssize_t l
    for l in range(plan.first_trainable, plan.L):
        if plan.layers[l].trainable and plan.layers[l].use_bias:
            plan.table.scale(dtheta + plan.layers[l].b_at, one_mth, plan.layers[l].n)


cdef void add_to_score(
    real *like, const Plan *plan, Score *score, const void *A, const void *Y, const int64_t *labels, const void *w,
    Py_ssize_t c,
) noexcept nogil:
    """Adds c examples: right ones for the cross-entropies (argmax; all outputs on their side of ½), else squares."""
    cdef const real *a = <const real *>A
    cdef const real *y = <const real *>Y
    cdef Py_ssize_t n = plan.n_y, i, j, best, true_label
    cdef double weight, d
    cdef bint right
    for j in range(c):
        weight = 1 if w is NULL else (<const real *>w)[j]
        if plan.loss == nnk.NNK_cross_entropy:
            best = true_label = 0
            for i in range(1, n):
                if a[i] > a[best]:
                    best = i
                if labels is NULL and y[i] > y[true_label]:
                    true_label = i
            if labels is not NULL:
                true_label = labels[j]
            score.right += weight if best == true_label else 0
        elif plan.loss == nnk.NNK_binary_cross_entropy:
            right = True
            for i in range(n):
                right = right and (a[i] > 0.5) == (y[i] > 0.5)
            score.right += weight if right else 0
        else:
            for i in range(n):
                d = <double>a[i] - y[i]
                score.squares[i] += weight * d * d
        a += n
        if labels is NULL:
            y += n


# ---------------------------------------------------------------------------------------------------------------------
# One batch, and epochs of them

cdef double batch_gradient(
    real *dtheta, const Plan *plan, const Workspace *space, const Data *data, const int64_t *order,
    Py_ssize_t first, Py_ssize_t count, double total_weight, bint training, uint64_t step, real *slots, Score *score,
    Applied *applied,
) noexcept nogil:
    """dθ of the mean loss of `count` examples, and that mean. `slots`: room for sums of chunks, each as large as θ.

    With `applied` (for one block of examples) the weights are updated on the way, if the mean is finite.
    """
    cdef double cost, scale = count / total_weight if total_weight > 0 else 0
    if space.crew[0] is not NULL and count >= 4 * CREW * space.capacity:
        cost = crew_gradient(dtheta, plan, space, data, order, first, count, scale, training, step, slots, score)
    else:
        cost = tree_gradient(dtheta, plan, space, data, order, first, 0, count, 1.0 / count, scale, training, step,
                             slots, score, applied)
    return cost / total_weight if total_weight > 0 else 0


cdef double tree_gradient(
    real *dtheta, const Plan *plan, const Workspace *space, const Data *data, const int64_t *order,
    Py_ssize_t batch, Py_ssize_t start, Py_ssize_t end, double one_mth, double scale, bint training, uint64_t step,
    real *slots, Score *score, Applied *applied,
) noexcept nogil:
    """As chunk_gradient, which it calls for chunks of fixed size; what they give for dθ is added up in a tree."""
    cdef Py_ssize_t full = 0, done = 0, chunk_end
    cdef double cost = 0
    cdef real *sums[MOST_SLOTS]
    while start < end:
        if space.watch is not NULL and space.watch.stop:
            return 0
        # the slot of this chunk: dθ itself for the first, further ones behind
        sums[full] = dtheta if full == 0 else slots + (full - 1) * plan.count
        chunk_end = min(end, start + CHUNK_COLUMNS)
        cost += chunk_gradient(sums[full], plan, space, data, order, batch, start, chunk_end, one_mth, scale, training,
                               step, score, applied)
        start = chunk_end
        done += 1
        full = add_pairs(&sums[0], full + 1, done, start == end, plan)
    return cost


cdef Py_ssize_t add_pairs(
    real **sums, Py_ssize_t full, Py_ssize_t done, bint last, const Plan *plan,
) noexcept nogil:
    """Adds up what the tree over chunks allows once `done` are in sums[0 … full - 1]; how many sums are left."""
    cdef Py_ssize_t _
    for _ in range(sums_to_add(full, done, last)):
        full -= 1
        plan.table.add(sums[full - 1], sums[full], plan.count)
    return full


cdef inline Py_ssize_t slots_for(Py_ssize_t examples) noexcept nogil:
    """Sums of chunks, beside dθ, that the tree over so many examples holds at once."""
    cdef Py_ssize_t slots = 0
    while (<Py_ssize_t>CHUNK_COLUMNS << slots) < examples:
        slots += 1
    return slots


cdef inline Py_ssize_t part_of_crew(Py_ssize_t count) noexcept nogil:
    """The most examples that one of the crew gets."""
    return (count + CREW - 1) // CREW


cdef struct CrewJob:
    const Plan *plan
    const Workspace *space
    const Data *data
    const int64_t *order
    Py_ssize_t batch, count
    double scale
    bint training
    uint64_t step
    Score *score
    void *sums[CREW]
    void *slots[CREW]
    double costs[CREW]


cdef void crew_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef CrewJob *job = <CrewJob *>job_
    cdef Workspace space = job.space.crew[part][0]
    cdef Team alone
    space.watch = job.space.watch
    cdef Py_ssize_t start = job.count * part // CREW, end = job.count * (part + 1) // CREW
    alone.threads, alone.scratch = 1, scratch
    # the caller looks at the signals, the others at what it found
    cdef Watch follower
    follower.owner, follower.leader, follower.stop = NULL, job.space.watch, False
    space.team = &alone
    if space.watch is not NULL and scratch != job.space.team.scratch:
        space.watch = &follower
    if job.plan.itemsize == 4:
        job.costs[part] = tree_gradient(
            <float *>job.sums[part], job.plan, &space, job.data, job.order, job.batch, start, end, 1.0 / job.count,
            job.scale, job.training, job.step, <float *>job.slots[part], job.score, NULL)
    else:
        job.costs[part] = tree_gradient(
            <double *>job.sums[part], job.plan, &space, job.data, job.order, job.batch, start, end, 1.0 / job.count,
            job.scale, job.training, job.step, <double *>job.slots[part], job.score, NULL)


cdef double crew_gradient(
    real *dtheta, const Plan *plan, const Workspace *space, const Data *data, const int64_t *order,
    Py_ssize_t first, Py_ssize_t count, double scale, bint training, uint64_t step, real *slots, Score *score,
) noexcept nogil:
    """dθ of a batch in CREW parts, each with a workspace of its own; returns Σ w_i L_i."""
    cdef CrewJob job
    cdef Py_ssize_t part, apart, each = slots_for(part_of_crew(count))
    cdef double cost = 0
    cdef Team alone = space.team[0]
    job.plan, job.space, job.data, job.order, job.batch, job.count = plan, space, data, order, first, count
    job.scale, job.training, job.step, job.score = scale, training, step, score
    for part in range(CREW):
        job.sums[part] = dtheta if part == 0 else slots + (part - 1) * plan.count
        job.slots[part] = slots + (CREW - 1 + part * each) * plan.count
    if score is not NULL or plan.loss == nnk.NNK_LOSSES:
        alone.threads = 1           # the score is added to by each in turn, a Python function called by the caller
    share_out(crew_part, &job, CREW, True, &alone)
    apart = 1
    while apart < CREW:
        part = 0
        while part < CREW:
            plan.table.add(job.sums[part], job.sums[part + apart], plan.count)
            part += 2 * apart
        apart *= 2
    for part in range(CREW):
        cost += job.costs[part]
    return cost


cdef double chunk_gradient(
    real *dtheta, const Plan *plan, const Workspace *space, const Data *data, const int64_t *order,
    Py_ssize_t batch, Py_ssize_t start, Py_ssize_t end, double one_mth, double scale, bint training, uint64_t step,
    Score *score, Applied *applied,
) noexcept nogil:
    """Σ w_i L_i of the examples start … end of the batch that begins at example `batch`, and their share of dθ."""
    cdef Py_ssize_t at = start, c
    cdef const nnk.nnk_table *table = plan.table
    cdef const int64_t *picked
    cdef const int64_t *labels
    cdef const void *w
    cdef double cost = 0
    cdef Matrix X, Y
    cdef void *A = space.A[plan.L - 1]
    while at < end:
        c = min(space.capacity, end - at)
        # with an order, examples are picked from the whole matrix; without, the block is a slice of it
        picked = NULL if order is NULL else order + batch + at
        X = data.X if picked is not NULL else columns_of(&data.X, batch + at, c, sizeof(real))
        if data.gather_X or picked is not NULL:
            gather_columns(dtheta, space, &X, picked, plan.n_x, c, table)
            X = contiguous(space.X, plan.n_x, c)
        labels = NULL
        Y = data.Y
        if data.labels is not NULL:
            labels = data.labels + batch + at
            if picked is not NULL:
                take_labels(space.labels, data.labels, picked, c)
                labels = space.labels
        else:
            if picked is NULL:
                Y = columns_of(&data.Y, batch + at, c, sizeof(real))
            if data.gather_Y or picked is not NULL:
                table.gather(space.Y, Y.data, Y.row, Y.column, picked, plan.n_y, c)
                Y.data = space.Y
        w = NULL
        if data.w is not NULL:
            w = <const real *>data.w + batch + at
            if picked is not NULL:
                table.gather(space.w, data.w, 1, 1, picked, 1, c)
                w = space.w
        forward_chunk(dtheta, plan, space, &X, at, True, training, step)
        cost += loss_chunk(dtheta, plan, A, space.dZ, A, Y.data, labels, w, scale, c, space.team)
        if score is not NULL:
            add_to_score(dtheta, plan, score, A, Y.data, labels, w, c)
        if applied is not NULL and (not isfinite(cost) or (space.watch is not NULL and space.watch.stop)):
            return cost
        backward_chunk(dtheta, plan, space, &X, one_mth, at, training, step, at > start, applied)
        at += c
    finish_biases(dtheta, plan, one_mth)
    return cost


cdef struct GatherJob:
    const nnk.nnk_table *table
    char *out
    const Matrix *X
    const int64_t *order
    Py_ssize_t n, c, width
    int itemsize


cdef void gather_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef const GatherJob *job = <const GatherJob *>job_
    cdef Py_ssize_t first = part * job.width
    cdef const char *X = <const char *>job.X.data + (first * job.X.column * job.itemsize if job.order is NULL else 0)
    job.table.gather(job.out + first * job.n * job.itemsize, X, job.X.row, job.X.column,
                     NULL if job.order is NULL else job.order + first, job.n, min(job.width, job.c - first))


cdef void gather_columns(
    real *like, const Workspace *space, const Matrix *X, const int64_t *order, Py_ssize_t n, Py_ssize_t c,
    const nnk.nnk_table *table,
) noexcept nogil:
    """The examples 0 … c - 1, or those that `order` names, side by side in space.X."""
    cdef GatherJob job
    job.table, job.out, job.X, job.order, job.n, job.c = table, <char *>space.X, X, order, n, c
    job.itemsize = sizeof(real)
    job.width = max(<Py_ssize_t>1, GATHERED_ENTRIES // n)
    share_out(gather_part, &job, (c + job.width - 1) // job.width, False, space.team)


cdef inline void take_labels(
    int64_t *out, const int64_t *labels, const int64_t *order, Py_ssize_t c,
) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(c):
        out[j] = labels[order[j]]


cdef double weight_of(real *like, const Data *data, const int64_t *order, Py_ssize_t first, Py_ssize_t count,
                      ) noexcept nogil:
    """Σ w_i of a batch; without weights, its number of examples."""
    cdef double total = 0
    cdef Py_ssize_t j
    if data.w is NULL:
        return count
    for j in range(first, first + count):
        total += (<const real *>data.w)[j if order is NULL else order[j]]
    return total


cdef struct UpdateJob:
    const nnk.nnk_table *table
    int update, itemsize
    char *theta
    char *s1
    char *s2
    char *dtheta
    const nnk.nnk_step *step
    Py_ssize_t count, width         # entries, and how many of them are a part
    double penalties[MOST_PARTS]


cdef void update_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef UpdateJob *job = <UpdateJob *>job_
    cdef Py_ssize_t first = part * job.width, at = first * job.itemsize, c = min(job.width, job.count - first)
    job.penalties[part] = job.table.update[job.update](
        job.theta + at, job.s1 + at, job.s2 + at, job.dtheta + at, job.step, c, 1, c)


cdef double update_segment(
    real *dtheta, const Plan *plan, const Optimizer *optimizer, const nnk.nnk_step *step, Py_ssize_t at,
    Py_ssize_t count, const Team *team,
) noexcept nogil:
    """The entries at … at + count - 1 of θ; returns the penalty of these before it."""
    cdef UpdateJob job
    cdef Py_ssize_t parts, part
    cdef double penalty = 0
    job.table, job.update, job.itemsize, job.step, job.count = plan.table, optimizer.update, plan.itemsize, step, count
    job.theta, job.dtheta = <char *>(<real *>plan.theta + at), <char *>(dtheta + at)
    job.s1, job.s2 = <char *>(<real *>optimizer.s1 + at), <char *>(<real *>optimizer.s2 + at)
    job.width = max(<Py_ssize_t>UPDATED_ENTRIES, (count + MOST_PARTS - 1) // MOST_PARTS)
    parts = (count + job.width - 1) // job.width
    share_out(update_part, &job, parts, False, team)
    for part in range(parts):
        penalty += job.penalties[part]
    return penalty


cdef inline bint clips(const Optimizer *optimizer) noexcept nogil:
    return isfinite(optimizer.clip_value) or isfinite(optimizer.clip_norm)


cdef double clip_gradient(real *dtheta, const Plan *plan, const Optimizer *optimizer, bint penalised) noexcept nogil:
    """Keeps entries of dθ, penalty included, within ±clip_value, then its norm within clip_norm; gives the penalty."""
    cdef nnk.nnk_step step
    cdef double penalty = 0, squares = 0, largest = 0, unit = 1
    cdef Py_ssize_t l
    cdef Layer *layer
    memset(&step, 0, sizeof(step))
    for l in range(plan.L):
        layer = &plan.layers[l]
        if not layer.trainable:
            continue
        step.l2, step.l1 = layer.l2 + optimizer.l2, layer.l1
        if penalised and (step.l2 > 0 or step.l1 > 0):
            penalty += plan.table.update[nnk.NNK_penalise](
                <real *>plan.theta + layer.W_at, NULL, NULL, dtheta + layer.W_at, &step,
                layer.n, layer.n_prev, layer.n)
        squares += plan.table.clip(dtheta + layer.W_at, optimizer.clip_value, layer.n * layer.n_prev)
        if layer.use_bias:
            squares += plan.table.clip(dtheta + layer.b_at, optimizer.clip_value, layer.n)
    if squares == INFINITY:
        # entries too large for their squares: in units of a power of two, of which the largest is less than one
        for l in range(plan.L):
            layer = &plan.layers[l]
            if layer.trainable:
                look_at(dtheta + layer.W_at, layer.n * layer.n_prev, 0, &largest, &squares)
                look_at(dtheta + layer.b_at, layer.n if layer.use_bias else 0, 0, &largest, &squares)
        unit = ldexp(1, -ilogb(largest) - 1) if isfinite(largest) else 0
        squares = 0
        for l in range(plan.L):
            layer = &plan.layers[l]
            if layer.trainable:
                look_at(dtheta + layer.W_at, layer.n * layer.n_prev, unit, &largest, &squares)
                look_at(dtheta + layer.b_at, layer.n if layer.use_bias else 0, unit, &largest, &squares)
    if sqrt(squares) > optimizer.clip_norm * unit:
        if unit < 1:
            scale_gradient(dtheta, plan, unit)
        scale_gradient(dtheta, plan, optimizer.clip_norm / sqrt(squares))
    return penalty


cdef void look_at(const real *x, Py_ssize_t count, double unit, double *largest, double *squares) noexcept nogil:
    """Adds (unit x)² to squares[0], and keeps the largest |x| so far in largest[0]."""
    cdef Py_ssize_t i
    for i in range(count):
        largest[0] = max(largest[0], abs(<double>x[i]))
        squares[0] += (unit * x[i]) * (unit * x[i])


cdef void scale_gradient(real *dtheta, const Plan *plan, double share) noexcept nogil:
    cdef Py_ssize_t l
    cdef Layer *layer
    for l in range(plan.L):
        layer = &plan.layers[l]
        if layer.trainable:
            plan.table.scale(dtheta + layer.W_at, share, layer.n * layer.n_prev)
            if layer.use_bias:
                plan.table.scale(dtheta + layer.b_at, share, layer.n)


cdef void begin_step(Optimizer *optimizer, uint64_t t) noexcept nogil:
    """The numbers of the t-th step (from 1) that all layers share: Adam's corrections of its start."""
    optimizer.corrected_rate, optimizer.corrected_eps, optimizer.root = optimizer.rate, optimizer.eps, 1
    if optimizer.update == nnk.NNK_adam:
        optimizer.corrected_rate /= 1 - pow(optimizer.beta1, <double>t)
        optimizer.root = sqrt(1 - pow(optimizer.beta2, <double>t))
        if optimizer.raw_eps:
            optimizer.corrected_eps /= optimizer.root


cdef nnk.nnk_step step_of(const Optimizer *optimizer, const Layer *layer, bint penalised) noexcept nogil:
    """The numbers of the step that has begun for a layer's weights, or where `layer` is NULL for biases."""
    cdef nnk.nnk_step step
    memset(&step, 0, sizeof(step))
    step.rate, step.inertia, step.eps = optimizer.corrected_rate, optimizer.momentum, optimizer.corrected_eps
    step.beta1, step.beta2, step.root = optimizer.beta1, optimizer.beta2, optimizer.root
    step.shrink = 1
    if layer is not NULL:
        step.l2 = layer.l2 + optimizer.l2 if penalised else 0
        step.l1 = layer.l1 if penalised else 0
        step.shrink = 1 - optimizer.rate * optimizer.weight_decay
    return step


cdef double apply_update(
    real *dtheta, const Plan *plan, const Optimizer *optimizer, bint penalised, bint biases_alone,
    const Team *team,
) noexcept nogil:
    """The step that has begun; returns the penalty of the weights before it."""
    cdef nnk.nnk_step step, step_of_b = step_of(optimizer, NULL, False)
    cdef double penalty = 0
    cdef Py_ssize_t l
    cdef Layer *layer
    if clips(optimizer):
        penalty = clip_gradient(dtheta, plan, optimizer, penalised)
        penalised = False
    for l in range(plan.L):
        layer = &plan.layers[l]
        if not layer.trainable:
            continue
        if not biases_alone:
            step = step_of(optimizer, layer, penalised)
            penalty += update_segment(dtheta, plan, optimizer, &step, layer.W_at, layer.n * layer.n_prev, team)
        if layer.use_bias:
            update_segment(dtheta, plan, optimizer, &step_of_b, layer.b_at, layer.n, team)
    return penalty


cdef double frozen_penalty(real *like, const Plan *plan) noexcept nogil:
    """What layers that don't learn add to the cost."""
    cdef double total = 0
    cdef Py_ssize_t l
    cdef Layer *layer
    for l in range(plan.L):
        layer = &plan.layers[l]
        if not layer.trainable and (layer.l2 > 0 or layer.l1 > 0):
            total += penalty_of(like, layer, <const real *>plan.theta + layer.W_at)
    return total


cdef double penalty_of(real *like, const Layer *layer, const real *W) noexcept nogil:
    """l2/2 ‖W‖² + l1 Σ|W|"""
    cdef double squares = 0, sizes = 0
    cdef Py_ssize_t i
    for i in range(layer.n * layer.n_prev):
        squares += <double>W[i] * W[i]
        sizes += abs(<double>W[i])
    return layer.l2 / 2 * squares + layer.l1 * sizes


cdef void shuffle_from(nnk.bitgen_t *source, int64_t *order, Py_ssize_t m) noexcept nogil:
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


cdef struct Waiting:
    double best, tol                # the lowest cost so far, and by how much a cost must be below it
    Py_ssize_t bad, most            # epochs in a row that weren't, and after how many of these it has been enough


cdef bint enough(Waiting *waiting, double cost) noexcept nogil:
    """Whether, with an epoch of this cost, there have been more than `most` epochs without improvement."""
    waiting.bad = waiting.bad + 1 if cost > waiting.best - waiting.tol else 0
    waiting.best = min(waiting.best, cost)
    return waiting.bad > waiting.most


cdef struct Run:
    const double *rates             # learning rate of each epoch
    Py_ssize_t epochs, batch_size
    bint shuffle
    nnk.bitgen_t *source            # numpy's generator that shuffles, or NULL: the engine's own does
    double loss_scale               # what the reported cost counts the loss by
    Waiting *waiting                # for an improvement, or NULL: all epochs are gone through
    bint by_count                   # an epoch's cost is the mean over batches by number of examples, not by weight
    uint64_t epoch, step, t         # counted on: the epochs and steps of the network's life, the steps of the optimizer
    double *costs                   # out: one an epoch
    double *seconds
    double *squares                 # out: (epochs, n_y) or NULL
    double *right                   # out: one an epoch or NULL
    void *saved                     # θ of the last completed epoch, or NULL: none is kept
    void *saved_s1                  # and the optimizer's state then, each NULL where there is none
    void *saved_s2
    uint64_t saved_step, saved_t
    # out, where it ended early
    Py_ssize_t done, batch
    double last_cost


cdef Status train(
    real *dtheta, Plan *plan, const Workspace *space, const Data *data, Optimizer *optimizer, Run *run,
    int64_t *order, real *slots, Watch *watch,
) noexcept nogil:
    cdef Py_ssize_t first, count, m = data.m
    cdef double cost, penalty, weight, share, total, total_share, begun
    cdef Applied applied
    cdef bint fused
    cdef Score score
    cdef Score *score_at = NULL
    cdef bint shuffled
    cdef double frozen = frozen_penalty(dtheta, plan)
    nnk_blas_single_thread()
    while run.done < run.epochs:
        begun = nnk.nnk_seconds()
        if operations(plan) * run.batch_size > WAKING_OPERATIONS:
            wake(space.team)
        optimizer.rate = run.rates[run.done]
        if run.shuffle:
            if run.source is NULL:
                nnk.nnk_shuffle(order, m, plan.key, run.epoch)
            else:
                with gil:
                    shuffled = (<Engine>watch.owner).shuffled(run.source, order, m)
                if not shuffled:
                    return INTERRUPTED
        if run.right is not NULL:
            score.right = 0
            score.squares = NULL if run.squares is NULL else run.squares + run.done * plan.n_y
            score_at = &score
        total = total_share = 0
        first = 0
        run.batch = 0
        while first < m:
            count = min(run.batch_size, m - first)
            weight = weight_of(dtheta, data, order, first, count)
            optimizer.l2 = optimizer.l2_of_sum / weight if weight > 0 else 0
            # a batch of one block is applied layer by layer; clipping looks at the whole gradient first
            fused = count <= space.capacity and count <= CHUNK_COLUMNS and not clips(optimizer)
            begin_step(optimizer, run.t + 1)
            applied.optimizer, applied.penalty = optimizer, 0
            cost = batch_gradient(dtheta, plan, space, data, order, first, count, weight, True, run.step, slots,
                                  score_at, &applied if fused else NULL)
            if watch.stop:
                return INTERRUPTED
            if not isfinite(cost):
                return DIVERGED
            run.t += 1
            run.step += 1
            penalty = applied.penalty + apply_update(dtheta, plan, optimizer, True, fused, space.team)
            cost = run.loss_scale * cost + penalty + frozen
            if not isfinite(cost):
                return DIVERGED
            run.last_cost = cost
            share = count if run.by_count else weight
            total += share * cost
            total_share += share
            first += count
            run.batch += 1
            if must_stop(watch):
                return INTERRUPTED
        if run.saved is not NULL:
            if plan.table.first_nonfinite(plan.theta, plan.count) != plan.count:
                run.batch -= 1
                return DIVERGED
            memcpy(run.saved, plan.theta, plan.count * sizeof(real))
            if run.saved_s1 is not NULL:
                memcpy(run.saved_s1, optimizer.s1, plan.count * sizeof(real))
            if run.saved_s2 is not NULL:
                memcpy(run.saved_s2, optimizer.s2, plan.count * sizeof(real))
            run.saved_step, run.saved_t = run.step, run.t
        run.costs[run.done] = total / total_share if total_share > 0 else 0
        run.seconds[run.done] = nnk.nnk_seconds() - begun
        if run.right is not NULL:
            run.right[run.done] = score.right
        run.done += 1
        run.epoch += 1
        if run.waiting is not NULL and enough(run.waiting, run.costs[run.done - 1]):
            break
    return DONE


# ---------------------------------------------------------------------------------------------------------------------
# Prediction and evaluation: nothing of the engine is written, so any number of threads may be here

cdef int predict_blocks(
    real *out, Py_ssize_t out_row, Py_ssize_t out_column, const Plan *plan, const Matrix *X, Py_ssize_t width,
    real *space, const Team *team,
) noexcept nogil:
    """A[L] of all columns of X. `space`: two activations and one gathered block, `width` columns each."""
    cdef Py_ssize_t first = 0, l, c, widest = widest_of(plan)
    cdef bint gathered = not fits_blas(X), whole = (out_row == 1 or plan.n_y == 1) and out_column == plan.n_y
    cdef real *buffers[2]
    cdef real *A
    cdef Matrix W, A_prev
    cdef Layer *layer
    buffers[0], buffers[1] = space, space + widest * width
    nnk_blas_single_thread()
    while first < X.m:
        c = min(width, X.m - first)
        A_prev = columns_of(X, first, c, sizeof(real))
        if gathered:
            plan.table.gather(space + 2 * widest * width, A_prev.data, A_prev.row, A_prev.column, NULL, plan.n_x, c)
            A_prev = contiguous(space + 2 * widest * width, plan.n_x, c)
        for l in range(plan.L):
            layer = &plan.layers[l]
            W = weights_of(out, plan, l)
            A = buffers[l % 2]
            if l == plan.L - 1 and whole:
                A = out + first * plan.n_y
            forward_columns(A, <real *>NULL, layer.activation, layer.slope, &W, &A_prev, bias_of(out, plan, l), team)
            A_prev = contiguous(A, layer.n, c)
        if not whole:
            plan.table.scatter(out + first * out_column, out_row, out_column, A, plan.n_y, c)
        first += width
    return 0


cdef inline Py_ssize_t widest_of(const Plan *plan) noexcept nogil:
    cdef Py_ssize_t widest = 0, l
    for l in range(plan.L):
        widest = max(widest, plan.layers[l].n)
    return widest


cdef inline Py_ssize_t predict_width(const Plan *plan, Py_ssize_t m) noexcept nogil:
    return min(m, max(<Py_ssize_t>256, BLOCK_BYTES // (widest_of(plan) * plan.itemsize)))


cdef inline Py_ssize_t training_width(const Plan *plan, Py_ssize_t batch) noexcept nogil:
    """Examples in a block of a training batch.

    Where the first layer has but a few units, both of its products are bound by reading X. A block of X that stays in
    the cache between the two is read from memory once; it pays when that saves more than W[1] and twice dW[1] cost.
    """
    cdef Py_ssize_t in_cache = BLOCK_BYTES // (plan.n_x * plan.itemsize), l
    cdef double largest = 1
    for l in range(plan.L):
        largest = max(largest, 2.0 * plan.layers[l].n * plan.layers[l].n_prev)
    if reads_X_once(plan, batch):
        return min(max(4, in_cache // 4 * 4), <Py_ssize_t>CHUNK_COLUMNS)      # the kernels take four columns at a time
    return min(batch, min(<Py_ssize_t>CHUNK_COLUMNS, max(<Py_ssize_t>64, <Py_ssize_t>(HEAVIEST / largest))))


cdef inline bint reads_X_once(const Plan *plan, Py_ssize_t batch) noexcept nogil:
    cdef Py_ssize_t in_cache = BLOCK_BYTES // (plan.n_x * plan.itemsize)
    return batch > in_cache > 3 * plan.layers[0].n


cdef inline double operations(const Plan *plan) noexcept nogil:
    """Of one example, forward and backward."""
    cdef double total = 0
    cdef Py_ssize_t l
    for l in range(plan.L):
        total += 6.0 * plan.layers[l].n * plan.layers[l].n_prev
    return total


cdef object _predict(Engine engine, const real[:, :] X_view, out, int threads):
    cdef Matrix X = matrix_of(X_view)
    if out is None:
        out = np.empty((engine.plan.n_y, X.m), engine.dtype, "F")
    cdef real[:, :] out_view = out
    if X.m:
        predict_matrix(engine, &out_view[0, 0], out_view.strides[0] // <Py_ssize_t>sizeof(real),
                       out_view.strides[1] // <Py_ssize_t>sizeof(real), &X, threads)
    return out


cdef int predict_matrix(
    Engine engine, real *out, Py_ssize_t out_row, Py_ssize_t out_column, const Matrix *X, int threads,
) except -1:
    """out := A[L] of at least one example."""
    cdef const Plan *plan = &engine.plan
    cdef Py_ssize_t width = predict_width(plan, X.m), widest = widest_of(plan)
    cdef size_t bytes_ = (2 * widest + (0 if fits_blas(X) else plan.n_x)) * width * sizeof(real)
    cdef real *space
    cdef Team team = form_team(threads)
    space = <real *>malloc(bytes_)
    if space is NULL:
        dissolve(&team)
        raise MemoryError(f"no {bytes_} bytes for the activations of {width} examples")
    with nogil:
        predict_blocks(out, out_row, out_column if X.m > 1 else plan.n_y, plan, X, width, space, &team)
        free(space)
        dissolve(&team)
    return 0


cdef Data data_of(const real[:, :] X, const real[:, :] Y, const int64_t[::1] labels, const real[::1] w) noexcept nogil:
    cdef Data data
    memset(&data, 0, sizeof(data))
    data.X = matrix_of(X)
    data.m = data.X.m
    data.gather_X = not fits_blas(&data.X)
    if labels is not None:
        data.labels = &labels[0]
    else:
        data.Y = matrix_of(Y)
        data.gather_Y = not ((data.Y.row == 1 or data.Y.n == 1) and (data.Y.column == data.Y.n or data.Y.m == 1))
    if w is not None:
        data.w = &w[0]
    return data


cdef object _evaluate(Engine engine, const real[:, :] X, const real[:, :] Y, const int64_t[::1] labels,
                      const real[::1] w, int threads):
    """cost without penalty, Σ w of the right examples, Σ w (ŷ - y)² per output (an array, or None), Σ w."""
    cdef const Plan *plan = &engine.plan
    cdef Data data = data_of(X, Y, labels, w)
    cdef WorkspaceHolder holder = WorkspaceHolder(engine, predict_width(plan, data.m))
    cdef Score score
    cdef double[::1] squares = None
    cdef double cost = 0, total = 0
    cdef Py_ssize_t first = 0, c
    cdef Workspace *space = &holder.space
    cdef real *like = NULL
    cdef Matrix X_block, Y_block
    cdef const void *w_at
    cdef const int64_t *labels_at
    cdef void *A
    score.right, score.squares = 0, NULL
    if plan.loss not in (nnk.NNK_cross_entropy, nnk.NNK_binary_cross_entropy):
        squares = np.zeros(plan.n_y)
        score.squares = &squares[0]
    cdef Team team = form_team(threads)
    space.team = &team
    with nogil:
        nnk_blas_single_thread()
        while first < data.m:
            c = min(space.capacity, data.m - first)
            X_block = columns_of(&data.X, first, c, sizeof(real))
            if data.gather_X:
                plan.table.gather(space.X, X_block.data, X_block.row, X_block.column, NULL, plan.n_x, c)
                X_block = contiguous(space.X, plan.n_x, c)
            labels_at = NULL if data.labels is NULL else data.labels + first
            Y_block = data.Y
            if labels_at is NULL:
                Y_block = columns_of(&data.Y, first, c, sizeof(real))
                if data.gather_Y:
                    plan.table.gather(space.Y, Y_block.data, Y_block.row, Y_block.column, NULL, plan.n_y, c)
                    Y_block.data = space.Y
            w_at = NULL if data.w is NULL else <const real *>data.w + first
            forward_chunk(like, plan, space, &X_block, first, True, False, 0)
            A = space.A[plan.L - 1]
            cost += loss_chunk(like, plan, A, space.dZ, A, Y_block.data, labels_at, w_at, 1, c, &team)
            add_to_score(like, plan, &score, A, Y_block.data, labels_at, w_at, c)
            total += weight_of(like, &data, NULL, first, c)
            first += c
        dissolve(&team)
    engine.raise_pending()
    return cost / total if total > 0 else 0.0, score.right, None if squares is None else np.asarray(squares), total


# ---------------------------------------------------------------------------------------------------------------------
# The engine

cdef class WorkspaceHolder:
    """The activations and their gradients for `capacity` examples at a time, in one block of memory."""
    cdef Workspace space
    cdef object memory

    def __cinit__(self, Engine engine, Py_ssize_t capacity):
        cdef const Plan *plan = &engine.plan
        cdef Py_ssize_t l, widest = widest_of(plan), i
        cdef size_t need = 0, unit = plan.itemsize * max(capacity, 1), tables_bytes = 3 * plan.L * sizeof(void *)
        cdef char *at
        self.space.capacity = capacity
        self.space.watch = NULL
        self.space.team = NULL
        for i in range(CREW):
            self.space.crew[i] = NULL
        for l in range(plan.L):
            i = 1 + <int>plan.layers[l].reads_Z + <int>(plan.layers[l].dropout > 0)
            need += i * aligned_size(plan.layers[l].n * unit)
        need += 2 * aligned_size(widest * unit) + aligned_size(plan.n_x * unit) + aligned_size(plan.n_y * unit)
        need += aligned_size(unit) + aligned_size(capacity * sizeof(int64_t)) + aligned_size(tables_bytes)
        self.memory = aligned_empty(need, np.uint8)
        at = <char *>address(self.memory)
        self.space.A = <void **>at
        self.space.Z = self.space.A + plan.L
        self.space.D = self.space.Z + plan.L
        at += aligned_size(tables_bytes)
        for l in range(plan.L):
            self.space.A[l] = at
            at += aligned_size(plan.layers[l].n * unit)
            self.space.Z[l] = self.space.D[l] = NULL
            if plan.layers[l].reads_Z:
                self.space.Z[l] = at
                at += aligned_size(plan.layers[l].n * unit)
            if plan.layers[l].dropout > 0:
                self.space.D[l] = at
                at += aligned_size(plan.layers[l].n * unit)
        self.space.dZ = at
        self.space.dZ_other = at + aligned_size(widest * unit)
        at += 2 * aligned_size(widest * unit)
        self.space.X = at
        at += aligned_size(plan.n_x * unit)
        self.space.Y = at
        at += aligned_size(plan.n_y * unit)
        self.space.w = at
        at += aligned_size(unit)
        self.space.labels = <int64_t *>at


cdef class ForwardPass:
    """What a `forward` leaves for `backward`."""
    cdef WorkspaceHolder holder
    cdef object X
    cdef bint training, taken
    cdef uint64_t step              # keys dropout

    def __cinit__(self, Engine engine, X, bint training):
        self.holder = WorkspaceHolder(engine, X.shape[1])
        self.X, self.training, self.step = X, training, engine.step

    @property
    def examples(self):
        return self.X.shape[1]

    cdef int take(self) except -1:
        """For one `backward` at a time: it writes between the activations."""
        with cython.critical_section(self):
            if self.taken:
                raise RuntimeError("backward is going on already for the examples of the last forward")
            self.taken = True
        return 0


cdef inline size_t aligned_size(size_t bytes_) noexcept nogil:
    return (bytes_ + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def aligned_empty(Py_ssize_t count, dtype):
    """A vector, not written to, whose first entry stands on a 64-byte boundary.

    numpy asks for large pages where a vector is large, which spares most of the page faults of its first use.
    """
    itemsize = np.dtype(dtype).itemsize
    memory = np.empty(count * itemsize + ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start:start + count * itemsize].view(dtype)


def aligned_zeros(Py_ssize_t count, dtype):
    """Likewise, of zeros."""
    vector = aligned_empty(count, dtype)
    vector[:] = 0
    return vector


cdef class Patience:
    """Counts epochs without improvement: by more than `tol` below the `best` cost so far; `most` in a row are borne."""
    cdef Waiting waiting

    def __cinit__(self, double best, double tol, Py_ssize_t bad, Py_ssize_t most):
        self.waiting = Waiting(best, tol, bad, most)

    def note(self, double cost):
        """Counts an epoch; whether it has been enough."""
        return enough(&self.waiting, cost)

    @property
    def best(self):
        return self.waiting.best

    @property
    def bad(self):
        return self.waiting.bad


cdef class Engine:
    """One network's parameters and everything that is done to them in native code.

    `layers`: a list of dicts with n, n_prev, activation (its code), slope, dropout, l2, l1, use_bias, trainable;
    `loss`: its name, or a function (A, Y) -> (cost, dA); `parameter`: its number.
    """
    cdef Plan plan
    cdef readonly object theta, dtype
    cdef public uint64_t epoch, step        # of the network's life: they key shuffling and dropout
    cdef public uint64_t t                  # steps since the optimizer's state was fresh
    cdef object dtheta, s1, s2, slots
    cdef object saved, saved_s1, saved_s2   # θ and the optimizer's state after the last whole epoch
    cdef tuple saved_counts                 # and (epoch, step, t)
    cdef WorkspaceHolder workspace          # of the last training
    cdef list crew                          # further ones beside it
    cdef readonly ForwardPass retained      # the last one
    cdef object function                    # the loss where it is a Python function
    cdef dict pending                       # what a signal handler, or that function, raised, by the calling thread
    cdef object source                      # numpy's generator that shuffles the present training
    cdef object training_thread
    cdef Py_ssize_t readers

    def __cinit__(self, list layers, dtype, loss, double parameter, uint64_t key):
        cdef Py_ssize_t l, at = 0
        cdef Layer *layer
        self.pending = {}
        self.dtype = np.dtype(dtype)
        self.plan.itemsize = self.dtype.itemsize
        self.plan.table = <const nnk.nnk_table *>kernel_table(self.plan.itemsize)
        self.plan.L = len(layers)
        self.plan.key = key
        self.plan.owner = <PyObject *>self
        self.plan.parameter = parameter
        self.plan.loss = nnk.NNK_LOSSES
        if callable(loss):
            self.function = loss
        else:
            self.plan.loss = list(LOSSES).index(loss)
        self.plan.layers = <Layer *>calloc(self.plan.L, sizeof(Layer))
        if self.plan.layers is NULL:
            raise MemoryError("no memory for the layers")
        self.plan.first_trainable = self.plan.L
        for l in range(self.plan.L):
            facts = layers[l]
            layer = &self.plan.layers[l]
            layer.n, layer.n_prev, layer.activation = facts["n"], facts["n_prev"], facts["activation"]
            layer.slope, layer.dropout = facts["slope"], facts["dropout"]
            layer.l2, layer.l1 = facts["l2"], facts["l1"]
            layer.use_bias, layer.trainable = facts["use_bias"], facts["trainable"]
            layer.reads_Z = nnk.nnk_activation_facts[layer.activation].derivative_reads_Z
            layer.W_at = at
            at += aligned_size(layer.n * layer.n_prev * self.plan.itemsize) // self.plan.itemsize
            layer.b_at = at
            if layer.use_bias:
                at += aligned_size(layer.n * self.plan.itemsize) // self.plan.itemsize
            if layer.trainable and self.plan.first_trainable == self.plan.L:
                self.plan.first_trainable = l
        self.plan.count = at
        self.plan.n_x, self.plan.n_y = self.plan.layers[0].n_prev, self.plan.layers[self.plan.L - 1].n
        layer = &self.plan.layers[self.plan.L - 1]
        self.plan.matched = layer.activation == (
            nnk.nnk_loss_facts[self.plan.loss].output if self.plan.loss < nnk.NNK_LOSSES else nnk.NNK_linear)
        self.theta = aligned_zeros(at, self.dtype)
        self.plan.theta = <void *><size_t>self.theta.ctypes.data

    def __dealloc__(self):
        free(self.plan.layers)

    cdef bint signalled(self) noexcept:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            self.pending[get_ident()] = error
            return True
        return False

    cdef bint shuffled(self, nnk.bitgen_t *source, int64_t *order, Py_ssize_t m) noexcept:
        """Shuffles by numpy's generator, which other threads may draw from too; False where waiting was interrupted."""
        try:
            with self.source.lock:
                with nogil:
                    shuffle_from(source, order, m)
        except BaseException as error:
            self.pending[get_ident()] = error
            return False
        return True

    cdef object take_pending(self):
        """What was raised in a call of this thread, which ends with it; or None."""
        return self.pending.pop(get_ident(), None) if self.pending else None

    cdef int raise_pending(self) except -1:
        error = self.take_pending()
        if error is not None:
            raise error
        return 0

    @property
    def n_x(self):
        return self.plan.n_x

    @property
    def key(self):
        """Keys shuffling and dropout."""
        return self.plan.key

    def segments(self):
        """(l, "W" or "b", shape, offset) of every parameter in θ, in order; l counts from 1."""
        cdef Layer *layer
        cdef Py_ssize_t l
        result = []
        for l in range(self.plan.L):
            layer = &self.plan.layers[l]
            result.append((l + 1, "W", (layer.n, layer.n_prev), layer.W_at))
            if layer.use_bias:
                result.append((l + 1, "b", (layer.n, 1), layer.b_at))
        return result

    def views(self, block):
        """{"W1": view, "b1": view, …} of a vector laid out as θ."""
        return {
            f"{kind}{l}": block[at:at + n * m].reshape((n, m), order="F") for l, kind, (n, m), at in self.segments()}

    # Who is in here: predictions from any number of threads, or one training. The sections guard what the interpreter's
    # lock does where there is one.

    def check_idle(self):
        """Refuses what nothing else may go on beside."""
        if self.training_thread is not None:
            raise RuntimeError("this network is being trained already" + (
                "" if self.training_thread == get_ident() else ", by another thread"))
        if self.readers:
            raise RuntimeError("this network is being used by another thread: it can't be trained now")

    def enter_training(self):
        with cython.critical_section(self):
            self.check_idle()
            self.training_thread = get_ident()

    def check_untrained(self):
        """Refuses what can't go on beside a training in another thread."""
        if self.training_thread is not None and self.training_thread != get_ident():
            raise RuntimeError("this network is being trained by another thread")

    def leave_training(self):
        self.training_thread = None

    cpdef int enter_reading(self) except -1:
        with cython.critical_section(self):
            if self.training_thread is not None:
                self.check_untrained()
            self.readers += 1
        return 0

    cpdef int leave_reading(self) except -1:
        with cython.critical_section(self):
            self.readers -= 1
        return 0

    def predict(self, X, out=None, threads=None):
        """A[L] of checked examples X (n_x, m)."""
        cdef int most_threads = number_of_threads(threads)
        self.enter_reading()
        try:
            if self.plan.itemsize == 4:
                return _predict[float](self, X, out, most_threads)
            return _predict[double](self, X, out, most_threads)
        finally:
            self.leave_reading()

    def predict_as_it_lies(self, X, out, threads):
        """The same where X and `out` (or None) are arrays that need no judging and no conversion; else None.

        For one example and small networks: the judging takes longer than the arithmetic.
        """
        cdef int number = cnp.NPY_FLOAT if self.plan.itemsize == 4 else cnp.NPY_DOUBLE
        cdef cnp.npy_intp shape[2]
        cdef Matrix X_
        cdef cnp.ndarray A
        cdef const char *theta = <const char *>self.plan.theta
        if type(X) is not ndarray or not lies_well(X, number, self.plan.n_x):
            return None
        shape[0], shape[1] = self.plan.n_y, cnp.PyArray_DIM(X, 1)
        if out is None:
            A = cnp.PyArray_EMPTY(2, shape, number, 1)
        elif type(out) is ndarray and lies_well(out, number, shape[0]) and cnp.PyArray_ISWRITEABLE(out):
            A = out
            if cnp.PyArray_DIM(A, 1) != shape[1] or not (
                    disjoint(<char *>cnp.PyArray_DATA(A), cnp.PyArray_NBYTES(A), <char *>cnp.PyArray_DATA(X),
                             cnp.PyArray_NBYTES(X))
                    and disjoint(<char *>cnp.PyArray_DATA(A), cnp.PyArray_NBYTES(A), theta,
                                 self.plan.count * self.plan.itemsize)):
                return None
        else:
            return None
        X_ = contiguous(cnp.PyArray_DATA(X), self.plan.n_x, shape[1])
        self.enter_reading()
        try:
            if number == cnp.NPY_FLOAT:
                predict_matrix(self, <float *>cnp.PyArray_DATA(A), 1, shape[0], &X_, number_of_threads(threads))
            else:
                predict_matrix(self, <double *>cnp.PyArray_DATA(A), 1, shape[0], &X_, number_of_threads(threads))
        finally:
            self.leave_reading()
        return A

    def evaluate(self, X, Y, labels, w, threads=None):
        cdef int most_threads = number_of_threads(threads)
        self.enter_reading()
        try:
            if self.plan.itemsize == 4:
                return _evaluate[float](self, X, Y, labels, w, most_threads)
            return _evaluate[double](self, X, Y, labels, w, most_threads)
        finally:
            self.leave_reading()

    def fresh_state(self):
        """Forgets the optimizer's state."""
        self.t = 0
        self.s1 = self.s2 = self.saved_s1 = self.saved_s2 = None

    def state(self):
        """The optimizer's state: (t, s1, s2), the vectors None where there are none."""
        return self.t, self.s1, self.s2

    def restore_state(self, t, s1, s2):
        """Takes over what `state` gave; the vectors are copied, for they will be written to."""
        for vector in (s1, s2):
            if vector is not None and (vector.shape != (self.plan.count,) or vector.dtype != self.dtype):
                raise ValueError(f"the optimizer's state must have shape ({self.plan.count},) and dtype {self.dtype}; "
                                 f"got {vector.shape}, {vector.dtype}")
        self.t, self.s1, self.s2 = t, copied(s1, None), copied(s2, None)

    cdef int prepare(self, Optimizer *o, str update, dict numbers) except -1:
        memset(o, 0, sizeof(o[0]))
        o.update = UPDATES[update]
        o.momentum, o.beta1, o.beta2 = numbers.get("momentum", 0), numbers.get("beta1", 0), numbers.get("beta2", 0)
        o.eps, o.weight_decay = numbers.get("eps", 0), numbers.get("weight_decay", 0)
        o.raw_eps, o.l2_of_sum = numbers.get("raw_eps", False), numbers.get("l2_of_sum", 0)
        o.clip_value, o.clip_norm = numbers.get("clip_value", INFINITY), numbers.get("clip_norm", INFINITY)
        if self.dtheta is None:
            self.dtheta = aligned_zeros(self.plan.count, self.dtype)
        if self.s1 is None and nnk.nnk_update_facts[o.update].has_s1:
            self.s1 = aligned_zeros(self.plan.count, self.dtype)
        if self.s2 is None and nnk.nnk_update_facts[o.update].has_s2:
            self.s2 = aligned_zeros(self.plan.count, self.dtype)
        # a state that the update doesn't have is never read or written: θ stands for it
        o.s1 = self.plan.theta if self.s1 is None else address(self.s1)
        o.s2 = self.plan.theta if self.s2 is None else address(self.s2)
        return 0

    cdef int prepare_slots(self, Py_ssize_t slots) except -1:
        if slots and (self.slots is None or len(self.slots) < slots * self.plan.count):
            self.slots = aligned_empty(slots * self.plan.count, self.dtype)
        return 0

    cdef WorkspaceHolder training_workspace(self, Py_ssize_t width):
        """Kept from call to call, like dθ and the copy of θ: fresh memory costs more than it takes to fill it."""
        if self.workspace is None or self.workspace.space.capacity != width:
            self.workspace = self.crew = None
            self.workspace = WorkspaceHolder(self, width)
        return self.workspace

    cdef int form_crew(self, Py_ssize_t batch) except -1:
        """Further workspaces and slots, for batches whose first layer is bound by reading X."""
        cdef WorkspaceHolder holder
        cdef Py_ssize_t i
        if not reads_X_once(&self.plan, batch) or batch < 4 * CREW * self.workspace.space.capacity:
            self.workspace.space.crew[0] = NULL
            return 0
        if self.crew is None:
            self.crew = [WorkspaceHolder(self, self.workspace.space.capacity) for _ in range(CREW - 1)]
        for i in range(CREW):
            holder = self.workspace if i == 0 else self.crew[i - 1]
            self.workspace.space.crew[i] = &holder.space
        self.prepare_slots(CREW - 1 + CREW * slots_for(part_of_crew(batch)))
        return 0

    def keep(self):
        """Notes θ, the optimizer's state and the counters as what a failed epoch falls back to."""
        self.saved = copied(self.theta, self.saved)
        self.saved_s1 = copied(self.s1, self.saved_s1)
        self.saved_s2 = copied(self.s2, self.saved_s2)
        self.saved_counts = self.epoch, self.step, self.t

    def fall_back(self):
        """Brings back what `keep` noted."""
        self.theta[:] = self.saved
        self.s1 = copied(self.saved_s1, self.s1)
        self.s2 = copied(self.saved_s2, self.s2)
        self.epoch, self.step, self.t = self.saved_counts

    def train(self, X, Y, labels, w, *, rates, batch_size, shuffle, order, update, numbers, keep_last, costs, seconds,
              right=None, squares=None, threads=None, source=None, double loss_scale=1, bint by_count=False,
              Patience patience=None):
        """Epochs over (X, Y), one for each entry of `rates`, which has at least one; how it ended, as a dict.

        costs, seconds (and right, squares where the score is wanted) are vectors that the epochs are written to.
        With `keep_last` θ is, after a failure, what it was after the last whole epoch. With a numpy.random.RandomState
        as `source` the examples are shuffled as its `shuffle` would, epoch by epoch going on from what `order` holds.
        With `patience` the training ends where that does.
        """
        prepared = Prepared(
            self, X, Y, labels, w, rates=rates, batch_size=batch_size, shuffle=shuffle, order=order, update=update,
            numbers=numbers, keep_last=keep_last, costs=costs, seconds=seconds, right=right, squares=squares,
            source=source, loss_scale=loss_scale, by_count=by_count, patience=patience)
        train_together([prepared], threads)
        return prepared.outcome()

    def loss_gradient(self, X, Y, labels, w, threads=None):
        """Mean loss over X, and its gradient laid out as θ (the next call writes over it); no penalty, no dropout."""
        cdef Optimizer none
        cdef int most_threads = number_of_threads(threads)
        cdef WorkspaceHolder holder = self.training_workspace(training_width(&self.plan, X.shape[1]))
        self.prepare(&none, "sgd", {})
        self.prepare_slots(slots_for(X.shape[1]))
        self.form_crew(X.shape[1])
        if self.plan.itemsize == 4:
            loss = _loss_gradient[float](self, &holder.space, X, Y, labels, w, most_threads)
        else:
            loss = _loss_gradient[double](self, &holder.space, X, Y, labels, w, most_threads)
        self.raise_pending()
        return loss, self.dtheta

    def forward(self, X, bint training):
        """A[L] of X, whose activations are kept for `backward`."""
        cdef ForwardPass made
        self.enter_reading()
        try:
            made = ForwardPass(self, X, training)
            if self.plan.itemsize == 4:
                out = _forward[float](self, made, X)
            else:
                out = _forward[double](self, made, X)
            self.retained = made
            return out
        finally:
            self.leave_reading()

    def backward(self, ForwardPass made, Y, labels, w):
        """The gradient of the cost for the examples of that `forward`, a vector laid out as θ."""
        gradient = aligned_zeros(self.plan.count, self.dtype)
        self.enter_reading()
        try:
            made.take()
            try:
                if self.plan.itemsize == 4:
                    _backward[float](self, made, gradient, made.X, Y, labels, w)
                else:
                    _backward[double](self, made, gradient, made.X, Y, labels, w)
            finally:
                made.taken = False
        finally:
            self.leave_reading()
        return gradient

    def update(self, gradient, str update, dict numbers, double rate):
        """One step of an optimizer with a gradient laid out as θ, its penalty included."""
        cdef Optimizer optimizer
        self.prepare(&optimizer, update, numbers)
        cdef Team team = form_team(number_of_threads(None))
        optimizer.rate = rate
        self.t += 1
        begin_step(&optimizer, self.t)
        self.step += 1
        if self.plan.itemsize == 4:
            apply_update(<float *>address(gradient), &self.plan, &optimizer, False, False, &team)
        else:
            apply_update(<double *>address(gradient), &self.plan, &optimizer, False, False, &team)
        dissolve(&team)

    def penalty(self):
        """l2/2 Σ_l ‖W[l]‖² + l1 Σ_l Σ|W[l]|"""
        cdef double total = 0
        cdef Py_ssize_t l
        for l in range(self.plan.L):
            if self.plan.itemsize == 4:
                total += penalty_of(<float *>NULL, &self.plan.layers[l],
                                    <float *>self.plan.theta + self.plan.layers[l].W_at)
            else:
                total += penalty_of(<double *>NULL, &self.plan.layers[l],
                                    <double *>self.plan.theta + self.plan.layers[l].W_at)
        return total


cdef inline void *address(array) except *:
    return <void *><size_t>array.ctypes.data


cdef copied(vector, into):
    """A copy of a vector, or of None; written into `into` where that is one."""
    if vector is None:
        return None
    if into is None:
        into = aligned_empty(len(vector), vector.dtype)
    into[:] = vector
    return into


# ---------------------------------------------------------------------------------------------------------------------
# Epochs of one network, or of many side by side

cdef struct Member:
    Plan *plan
    Workspace *space
    Data data
    Optimizer optimizer
    Run run
    int64_t *order
    void *dtheta
    void *slots
    Status status

cdef class Prepared:
    """Epochs of one network with all they need; see Engine.train. One that has begun can't begin again."""
    cdef Engine engine
    cdef Member member
    cdef bint keep_last
    cdef tuple memory               # that the member points to

    def __init__(self, Engine engine, X, Y, labels, w, *, rates, batch_size, shuffle, order, update, numbers, keep_last,
                 costs, seconds, right=None, squares=None, source=None, double loss_scale=1, bint by_count=False,
                 Patience patience=None):
        cdef Run *run = &self.member.run
        cdef const double[::1] rates_ = rates
        cdef double[::1] costs_ = costs, seconds_ = seconds, right_ = right
        cdef double[:, ::1] squares_ = squares
        cdef int64_t[::1] order_ = order
        cdef Py_ssize_t size = min(<Py_ssize_t>batch_size, <Py_ssize_t>X.shape[1])
        cdef WorkspaceHolder holder = engine.training_workspace(training_width(&engine.plan, size))
        self.engine, self.keep_last = engine, keep_last
        engine.prepare(&self.member.optimizer, update, numbers)
        engine.prepare_slots(slots_for(size))
        engine.form_crew(size)
        if keep_last:
            engine.keep()
        self.memory = (X, Y, labels, w, rates, order, costs, seconds, right, squares, patience, holder, engine.crew,
                       engine.dtheta, engine.slots, engine.s1, engine.s2, engine.saved, engine.saved_s1,
                       engine.saved_s2)
        self.member.plan, self.member.space, self.member.status = &engine.plan, &holder.space, DONE
        self.member.dtheta = address(engine.dtheta)
        self.member.slots = NULL if engine.slots is None else address(engine.slots)
        if engine.plan.itemsize == 4:
            self.member.data = data_of[float](X, Y, labels, w)
        else:
            self.member.data = data_of[double](X, Y, labels, w)
        memset(run, 0, sizeof(run[0]))
        run.last_cost = float("nan")
        run.rates, run.epochs, run.batch_size, run.shuffle = &rates_[0], len(rates), size, shuffle
        run.epoch, run.step, run.t = engine.epoch, engine.step, engine.t
        run.costs, run.seconds = &costs_[0], &seconds_[0]
        run.loss_scale, run.by_count = loss_scale, by_count
        run.waiting = NULL if patience is None else &patience.waiting
        if source is not None:
            engine.source = source._bit_generator
            run.source = <nnk.bitgen_t *>PyCapsule_GetPointer(engine.source.capsule, "BitGenerator")
        run.right = NULL if right is None else &right_[0]
        run.squares = NULL if squares is None else &squares_[0, 0]
        self.member.order = NULL if order is None else &order_[0]
        if keep_last:
            run.saved = address(engine.saved)
            run.saved_s1 = NULL if engine.saved_s1 is None else address(engine.saved_s1)
            run.saved_s2 = NULL if engine.saved_s2 is None else address(engine.saved_s2)
            run.saved_step, run.saved_t = run.step, run.t

    cdef int conclude(self) except -1:
        """What the epochs have changed goes back to the engine."""
        cdef Run *run = &self.member.run
        self.engine.epoch, self.engine.step, self.engine.t = run.epoch, run.step, run.t
        if self.member.status != DONE and self.keep_last:
            self.engine.saved_counts = run.epoch, run.saved_step, run.saved_t
            self.engine.fall_back()
        return 0

    def outcome(self):
        """How it ended, as a dict."""
        cdef Run *run = &self.member.run
        return {"status": "done" if self.member.status == DONE else "diverged", "done": run.done, "batch": run.batch,
                "last_cost": run.last_cost}


cdef void train_member(Member *member, const Team *team, Watch *watch) noexcept nogil:
    cdef Workspace *space = member.space
    space.team = team
    space.watch = watch if operations(member.plan) * space.capacity > HEAVY else NULL
    if member.plan.itemsize == 4:
        member.status = train(<float *>member.dtheta, member.plan, space, &member.data, &member.optimizer, &member.run,
                              member.order, <float *>member.slots, watch)
    else:
        member.status = train(<double *>member.dtheta, member.plan, space, &member.data, &member.optimizer,
                              &member.run, member.order, <double *>member.slots, watch)
    space.team, space.watch = NULL, NULL


cdef struct Members:
    Member **members
    Watch *watch
    void *scratch                   # the caller's


cdef void member_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    """One network on one thread. The caller looks at the signals, the others at what it found."""
    cdef Members *job = <Members *>job_
    cdef Watch follower
    cdef Team alone
    alone.threads, alone.scratch = 1, scratch
    follower.owner, follower.leader, follower.stop = NULL, job.watch, False
    if not job.watch.stop:
        train_member(job.members[part], &alone, job.watch if scratch == job.scratch else &follower)


def train_together(list prepared, threads=None):
    """Runs what is prepared, at least one: one network with all threads, several with a thread for each at a time.

    Where one has a Python function for its loss, the caller runs all of them. What a signal handler or such a function
    raised meanwhile is raised at the end, the first network's error where there are several.
    """
    cdef Py_ssize_t count = len(prepared), i
    cdef Team team, sharing
    cdef Members job
    cdef Watch watch
    cdef Prepared one
    team = sharing = form_team(number_of_threads(threads))
    job.members = <Member **>malloc(count * sizeof(Member *))
    if job.members is NULL:
        dissolve(&team)
        raise MemoryError(f"no memory for {count} networks")
    for i in range(count):
        one = prepared[i]
        job.members[i] = &one.member
        if one.engine.function is not None:
            sharing.threads = 1
    one = prepared[0]
    watch.owner, watch.looked, watch.stop, watch.leader = <PyObject *>one.engine, nnk.nnk_seconds(), False, NULL
    if get_ident() != main_thread().ident:
        # signals reach the main thread alone, and a daemon may outlive the interpreter
        watch.looked = INFINITY
    job.watch, job.scratch = &watch, team.scratch
    with nogil:
        if count == 1:
            train_member(job.members[0], &team, &watch)
        else:
            share_out(member_part, &job, count, True, &sharing)
    free(job.members)
    dissolve(&team)
    for one in prepared:
        one.conclude()
    errors = [(<Prepared>one).engine.take_pending() for one in prepared]
    for error in errors:
        if error is not None:
            raise error


cdef double _loss_gradient(
    Engine engine, Workspace *space, const real[:, :] X, const real[:, :] Y, const int64_t[::1] labels,
    const real[::1] w, int threads,
) except *:
    cdef Data data = data_of(X, Y, labels, w)
    cdef real *dtheta = <real *>address(engine.dtheta)
    cdef real *slots = NULL if engine.slots is None else <real *>address(engine.slots)
    cdef double loss
    cdef Team team = form_team(threads)
    space.team = &team
    with nogil:
        nnk_blas_single_thread()
        loss = batch_gradient(dtheta, &engine.plan, space, &data, NULL, 0, data.m,
                              weight_of(dtheta, &data, NULL, 0, data.m), False, 0, slots, NULL, NULL)
        dissolve(&team)
    space.team = NULL
    return loss


cdef object _forward(Engine engine, ForwardPass made, const real[:, :] X_view):
    cdef Matrix X = matrix_of(X_view)
    cdef const Plan *plan = &engine.plan
    cdef Workspace *space = &made.holder.space
    cdef Py_ssize_t n = plan.n_y
    cdef Layer *last = &plan.layers[plan.L - 1]
    out = np.empty((n, X.m), engine.dtype, "F")
    cdef real *A = <real *>address(out)
    cdef Team team = form_team(number_of_threads(None))
    space.team = &team
    with nogil:
        nnk_blas_single_thread()
        if not fits_blas(&X):
            plan.table.gather(space.X, X.data, X.row, X.column, NULL, plan.n_x, X.m)
            X = contiguous(space.X, plan.n_x, X.m)
        forward_chunk(A, plan, space, &X, 0, True, made.training, made.step)
        # where the loss is matched, that has left Z[L], which the loss kernel wants
        plan.table.forward[last.activation if plan.matched else nnk.NNK_linear](
            A, n, space.A[plan.L - 1], n, NULL, last.slope, n, X.m)
        dissolve(&team)
    return out


cdef void view_columns(Workspace *part, const Plan *plan, const Workspace *space, Py_ssize_t first) noexcept nogil:
    """`part` becomes what the backward pass needs of `space` from column `first` on; room for dZ is shared."""
    cdef Py_ssize_t l, at
    for l in range(plan.L):
        at = first * plan.layers[l].n * plan.itemsize
        part.A[l] = <char *>space.A[l] + at
        part.Z[l] = NULL if space.Z[l] is NULL else <char *>space.Z[l] + at
        part.D[l] = NULL if space.D[l] is NULL else <char *>space.D[l] + at
    part.dZ, part.dZ_other = space.dZ, space.dZ_other


cdef int _backward(
    Engine engine, ForwardPass made, gradient, const real[:, :] X_view, const real[:, :] Y_view,
    const int64_t[::1] labels, const real[::1] w,
) except -1:
    cdef Data data = data_of(X_view, Y_view, labels, w)
    cdef Matrix X = data.X
    cdef const Plan *plan = &engine.plan
    cdef Workspace *space = &made.holder.space
    # the columns of one chunk
    cdef WorkspaceHolder holder = WorkspaceHolder(engine, 0) if data.m > CHUNK_COLUMNS else made.holder
    cdef Workspace *part = &holder.space
    slots = aligned_zeros(slots_for(data.m) * plan.count, engine.dtype)
    cdef real *more = <real *>address(slots)
    cdef real *dtheta = <real *>address(gradient)
    cdef real *sums[MOST_SLOTS]
    cdef nnk.nnk_step step
    cdef Py_ssize_t l, first = 0, c, full = 0, done = 0
    cdef double total
    cdef Matrix X_chunk, Y = data.Y
    cdef const int64_t *labels_at
    cdef const void *Y_at
    cdef const void *w_at
    cdef Team team = form_team(number_of_threads(None))
    space.team = &team
    with nogil:
        nnk_blas_single_thread()
        if data.gather_X:
            X = contiguous(space.X, plan.n_x, X.m)      # left there by the forward pass
        if data.gather_Y:
            plan.table.gather(space.Y, Y.data, Y.row, Y.column, NULL, plan.n_y, data.m)
            Y = contiguous(space.Y, plan.n_y, data.m)
        total = weight_of(dtheta, &data, NULL, 0, data.m)
        part.team = &team
        while first < data.m:
            c = min(<Py_ssize_t>CHUNK_COLUMNS, data.m - first)
            if part is not space:
                view_columns(part, plan, space, first)
            sums[full] = dtheta if full == 0 else more + (full - 1) * plan.count
            X_chunk = columns_of(&X, first, c, sizeof(real))
            labels_at = NULL if data.labels is NULL else data.labels + first
            Y_at = NULL if data.labels is not NULL else columns_of(&Y, first, c, sizeof(real)).data
            w_at = NULL if data.w is NULL else <const real *>data.w + first
            loss_chunk(sums[full], plan, part.dZ_other, part.dZ, part.A[plan.L - 1], Y_at, labels_at, w_at,
                       data.m / total, c, &team)
            backward_chunk(sums[full], plan, part, &X_chunk, 1.0 / data.m, first, made.training, made.step, False, NULL)
            first += c
            done += 1
            full = add_pairs(&sums[0], full + 1, done, first == data.m, plan)
        finish_biases(dtheta, plan, 1.0 / data.m)
        memset(&step, 0, sizeof(step))
        for l in range(plan.L):
            step.l2, step.l1 = plan.layers[l].l2, plan.layers[l].l1
            if plan.layers[l].trainable and (step.l2 > 0 or step.l1 > 0):
                plan.table.update[nnk.NNK_penalise](
                    <real *>plan.theta + plan.layers[l].W_at, NULL, NULL, dtheta + plan.layers[l].W_at, &step,
                    plan.layers[l].n, plan.layers[l].n_prev, plan.layers[l].n)
        dissolve(&team)
    return engine.raise_pending()
