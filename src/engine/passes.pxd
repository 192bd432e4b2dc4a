# One block of examples: forward, loss, backward. Kinds of layers do the arithmetic; dropout, the loss and the
# activation of the output are the same for all of them and stand here.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from engine.data cimport Examples, entries_or_null
from engine.plan cimport Activations, Gradient, Inputs, Layer, Parameter, Plan, db_of, entries_of, entry, handed_on
from engine.watch cimport Watch, must_stop
from engine.workspace cimport Workspace
from kernels.nnk cimport NNK_LOSSES, NNK_linear
from nnkern._matrix cimport Matrix, Team
from nnkern._products cimport Below, share_out
from runtime.check cimport check

cdef enum:
    LOSS_GRAIN = 1 << 14            # entries of a part …
    MOST_LOSS_PARTS = 256           # … of which there are at most so many, each with a sum of its own

# How a block goes through a network
cdef struct Pass:
    const Plan *plan
    Workspace *space
    const Team *team
    Watch *watch                    # looked at between layers where these take long, else NULL
    bint training                   # with dropout
    uint64_t step                   # keys dropout's masks
    const double *dropouts          # of each layer in this step, or NULL where they are the layers' own


cdef inline void drop(
    const Pass *p, Py_ssize_t l, void *out, const void *A, Py_ssize_t first, Py_ssize_t m,
) noexcept nogil:
    """out = A ⊙ mask / (1 - dropout) for layer l, by the place of each entry in its batch."""
    cdef const Layer *layer = &p.plan.layers[l]
    cdef double share = layer.dropout if p.dropouts is NULL else p.dropouts[l]
    check(share >= 0 and share < 1)
    p.plan.compute.table.dropout(out, A, p.plan.key, p.step * <uint64_t>p.plan.L + <uint64_t>l,
                                 <uint64_t>(first * layer.n), share, layer.n * m)


cdef inline Inputs inputs_of(const Pass *p, Py_ssize_t l, const Examples *block) noexcept nogil:
    """What layer l (from 0) reads: the examples, or what the layer below hands on."""
    cdef const Layer *below
    cdef const Activations *own
    if l == 0:
        return Inputs(block.X, entries_or_null(&block.sparse), NULL, 0, -1, False)
    below, own = &p.plan.layers[l - 1], &p.space.layers[l - 1]
    return handed_on(below, own.D if p.training and below.dropout > 0 else own.A, own.codes, block.X.m)


cdef inline void forward_pass(const Pass *p, const Examples *block, bint for_loss) noexcept nogil:
    """A[l] = g[l](W[l] A[l-1] + b[l]) for l = 1 … L; with `for_loss` and a matched loss, A[L] is left at Z[L]."""
    cdef Py_ssize_t l, m = block.X.m
    cdef const Layer *layer
    cdef Inputs A_prev
    cdef int activation
    check(m <= p.space.capacity and block.X.n == p.plan.n_x and block.first >= 0)
    for l in range(p.plan.L):
        if p.watch is not NULL and must_stop(p.watch):
            return
        layer = &p.plan.layers[l]
        activation = layer.activation
        if for_loss and p.plan.matched and l == p.plan.L - 1:
            activation = NNK_linear
        A_prev = inputs_of(p, l, block)
        layer.kind.forward(p.plan, layer, &p.space.layers[l], activation, &A_prev, p.team)
        if p.training and layer.dropout > 0:
            drop(p, l, p.space.layers[l].D, p.space.layers[l].A, block.first, m)


cdef inline void backward_pass(const Pass *p, const Examples *block, const Gradient *to) noexcept nogil:
    """dθ of a block whose forward pass and loss have left A[l] and, in space.dZ, the loss's derivative.

    dZ[L] from the loss, then for l = L … 1 what the layer's kind makes of it: its share of dθ, and dZ[l-1], the
    gradient by its inputs through the activation below. Below the first layer that learns nothing is computed. With an
    update to apply the signals aren't looked at, so that no step is left half done.
    """
    cdef const Plan *plan = p.plan
    cdef Py_ssize_t l = plan.L - 1, m = block.X.m
    cdef void *dZ = p.space.dZ
    cdef void *dZ_prev = p.space.dZ_other
    cdef const Layer *layer = &plan.layers[l]
    cdef Inputs A_prev
    cdef Below below
    check(plan.first_trainable < plan.L and block.X.n == plan.n_x and to.dtheta is not NULL and to.one_mth > 0)
    if not to.accumulate:
        scale_sums(plan, to.dtheta, 0)
    below = below_of(p, l, to, dZ)
    if plan.matched:
        below.activation = NNK_linear
    if below.activation != NNK_linear or below.db is not NULL:
        through_activation(plan, &below, layer.n, m)
    while True:
        if to.applied is NULL and p.watch is not NULL and must_stop(p.watch):
            return
        layer = &plan.layers[l]
        A_prev = inputs_of(p, l, block)
        if l == plan.first_trainable:
            layer.kind.backward(plan, layer, to, &p.space.layers[l], dZ, &A_prev, NULL, p.team)
            return
        below = below_of(p, l - 1, to, dZ_prev)
        backward_layer(p, l, to, dZ, &A_prev, &below, block.first)
        dZ, dZ_prev = dZ_prev, dZ
        l -= 1


cdef inline void backward_layer(
    const Pass *p, Py_ssize_t l, const Gradient *to, const void *dZ, const Inputs *A_prev, const Below *below,
    Py_ssize_t first,
) noexcept nogil:
    """The layer's own backward; dropout comes between the gradient by its inputs and the activation below."""
    cdef const Layer *layer = &p.plan.layers[l]
    cdef const Layer *layer_below = &p.plan.layers[l - 1]
    cdef bint drops = p.training and layer_below.dropout > 0
    cdef Below plain
    if not drops and not layer_below.mixes:
        layer.kind.backward(p.plan, layer, to, &p.space.layers[l], dZ, A_prev, below, p.team)
        return
    plain.dZ, plain.db, plain.H, plain.activation, plain.slope = below.dZ, NULL, NULL, NNK_linear, 0
    layer.kind.backward(p.plan, layer, to, &p.space.layers[l], dZ, A_prev, &plain, p.team)
    if drops:
        drop(p, l - 1, below.dZ, below.dZ, first, A_prev.A.m)
    if layer_below.mixes:
        layer_below.kind.through(
            p.plan, layer_below, to.dtheta, &p.space.layers[l - 1], below.dZ, p.space.spare, A_prev.A.m)
    else:
        through_activation(p.plan, below, layer.n_prev, A_prev.A.m)


cdef inline Below below_of(const Pass *p, Py_ssize_t l, const Gradient *to, void *dZ) noexcept nogil:
    """What a gradient by the outputs of layer l goes through to become its dZ."""
    cdef const Layer *layer = &p.plan.layers[l]
    cdef Below below
    below.dZ, below.activation, below.slope = dZ, layer.activation, layer.slope
    below.db = db_of(p.plan, layer, to.dtheta)
    below.H = p.space.layers[l].Z if layer.reads_Z else p.space.layers[l].A
    return below


cdef inline void through_activation(const Plan *plan, const Below *below, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """dZ := dZ ⊙ g', db += Σ_columns dZ"""
    plan.compute.table.backward[below.activation](
        below.dZ, n, below.db, below.dZ, n, below.H, n, below.H, n, below.slope, n, m)


cdef inline void scale_sums(const Plan *plan, void *dtheta, double factor) noexcept nogil:
    """The gradients that are sums over examples, times a factor: 0 before the first block, 1/m at last.

    Other gradients are stored by the first block.
    """
    cdef Py_ssize_t l, p
    cdef const Layer *layer
    cdef const Parameter *parameter
    for l in range(plan.first_trainable, plan.L):
        layer = &plan.layers[l]
        for p in range(layer.count if layer.trainable else 0):
            parameter = &layer.parameters[p]
            if parameter.is_sum and factor == 0:
                memset(entry(plan, dtheta, parameter.at), 0, entries_of(parameter) * plan.compute.itemsize)
            elif parameter.is_sum:
                plan.compute.table.scale(entry(plan, dtheta, parameter.at), factor, entries_of(parameter))


# ---------------------------------------------------------------------------------------------------------------------
# Loss

cdef struct LossJob:
    const Plan *plan
    void *A
    void *dA
    const void *Z
    const Examples *block
    double scale
    Py_ssize_t width                # examples of a part
    double sums[MOST_LOSS_PARTS]


cdef inline void loss_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef LossJob *job = <LossJob *>job_
    cdef const Plan *plan = job.plan
    cdef const Examples *block = job.block
    cdef int itemsize = plan.compute.itemsize
    cdef Py_ssize_t first = part * job.width, m = min(job.width, block.X.m - first), at = first * plan.n_y * itemsize
    job.sums[part] = plan.compute.table.loss[plan.loss](
        <char *>job.A + at, <char *>job.dA + at, <const char *>job.Z + at,
        NULL if block.Y is NULL else <const char *>block.Y + at,
        NULL if block.labels is NULL else block.labels + first,
        NULL if block.w is NULL else <const char *>block.w + first * itemsize,
        job.scale, plan.parameter, plan.n_y, m)


cdef inline double loss_pass(
    const Pass *p, const Examples *block, void *A, void *dA, const void *Z, double scale,
) noexcept nogil:
    """Σ w_i L_i of a block, from what forward_pass left as A[L] when it was asked to go on to the loss.

    A (which may be Z) becomes the prediction, dA its derivative by Z[L] (matched loss) or by A[L] (any other).
    """
    cdef const Plan *plan = p.plan
    cdef Py_ssize_t parts, part, m = block.X.m
    cdef LossJob job
    cdef double total = 0
    check(plan.loss >= 0 and plan.loss <= NNK_LOSSES and A != dA and scale >= 0)
    check(block.Y is not NULL or block.labels is not NULL)
    if plan.loss == NNK_LOSSES:
        if A != Z:
            memcpy(A, Z, plan.n_y * m * plan.compute.itemsize)
        return plan.custom_loss(plan.owner, A, dA, block.Y, block.w, scale, m)
    job.plan, job.A, job.dA, job.Z, job.block, job.scale = plan, A, dA, Z, block, scale
    job.width = max(LOSS_GRAIN // plan.n_y, (m + MOST_LOSS_PARTS - 1) // MOST_LOSS_PARTS)
    parts = (m + job.width - 1) // job.width
    share_out(loss_part, &job, parts, False, p.team)
    for part in range(parts):
        total += job.sums[part]
    return total
