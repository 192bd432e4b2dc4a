# Dense: A = g(W A_prev + b), or a mix of that with W A_prev + b itself. Bias, activation, g', db and the update are the
# epilogues of its three products. Inputs that codes name pick columns of W, which are multiplied by their factors; so
# do the entries of sparse examples.

from libc.string cimport memset

from engine.optimizer cimport Applied
from engine.plan cimport Activations, Gradient, Inputs, Kind, Layer, Parameter, Plan, entry
from engine.step cimport applied_entries, step_of, update_parameter
from kernels.nnk cimport NNK_linear, nnk_codes, nnk_sparse, nnk_step
from nnkern._matrix cimport Matrix, Team, Update, columns_of, contiguous, transposed
from nnkern._products cimport (
    Below, Forward, WeightGradient, forward_product, input_gradient_product, multiply, share_out,
    weight_gradient_product,
)
from runtime.check cimport check

cdef enum:
    MIXED_ENTRIES = 1 << 11         # of each matrix that the gradient of a mix goes through at a time
    SPARSE_EXAMPLES = 16            # of a part of W X, where X is sparse …
    SPARSE_UNITS = 64               # … and units of a part of dZ Xᵀ: a column of W is read in whole cache lines
    SUMMED_COLUMNS = 1024           # of dW that are summed at a time: of fewer, dZ is packed too often


cdef inline void describe(Layer *layer) noexcept:
    layer.parameters[0] = Parameter(name=b"W", n=layer.n, m=layer.n_prev + layer.ones_prev, at=0, decays=True,
                                    is_sum=False, fused=layer.n * layer.n_prev)
    layer.count, layer.bias, layer.factors = 1, -1, -1
    if layer.use_bias:
        layer.parameters[1] = Parameter(name=b"b", n=layer.n, m=1, at=0, decays=False, is_sum=True, fused=0)
        layer.count, layer.bias = 2, 1
    if layer.mixes:
        layer.parameters[layer.count] = Parameter(name=b"a", n=layer.n, m=1, at=0, decays=False, is_sum=True, fused=0)
        layer.count += 1
        layer.kept = layer.n
    layer.multiply_adds = <double>layer.n * layer.n_prev


cdef inline Matrix W_of(const Plan *plan, const Layer *layer) noexcept nogil:
    """The columns for inputs that are a matrix."""
    return contiguous(entry(plan, plan.theta, layer.parameters[0].at), layer.n, layer.n_prev)


cdef inline void *picked(const Plan *plan, const Layer *layer, const void *block) noexcept nogil:
    """The columns of W, or in dθ of dW, for inputs that codes name."""
    return entry(plan, block, layer.parameters[0].at + layer.n * layer.n_prev)


cdef inline nnk_codes named_by(const Plan *plan, const Inputs *A_prev) noexcept nogil:
    cdef const void *s = NULL if A_prev.factors < 0 else entry(plan, plan.theta, A_prev.factors)
    return nnk_codes(A_prev.codes, A_prev.count, A_prev.count, s)


cdef inline const void *a_of(const Plan *plan, const Layer *layer) noexcept nogil:
    return entry(plan, plan.theta, layer.parameters[layer.count - 1].at)


cdef inline void forward(
    const Plan *plan, const Layer *layer, const Activations *out, int activation, const Inputs *A_prev,
    const Team *team,
) noexcept nogil:
    """Z = W A_prev + b, A = g(Z) or a g(Z) + (1 - a) Z."""
    cdef Forward to
    cdef Matrix W = W_of(plan, layer)
    cdef nnk_codes named = named_by(plan, A_prev)
    cdef Py_ssize_t n = layer.n, m = A_prev.A.m
    check(A_prev.A.n == layer.n_prev and A_prev.count == layer.codes_prev and out.A is not NULL)
    to.A, to.Z, to.ld, to.beta = out.A, out.A if out.Z is NULL else out.Z, n, 0
    if layer.mixes:
        to.A = out.kept
    to.b = entry(plan, plan.theta, layer.parameters[1].at) if layer.use_bias else NULL
    to.activation, to.slope = activation, layer.slope
    if A_prev.count:
        plan.compute.table.columns.sum(to.Z, n, picked(plan, layer, plan.theta), n, &named, n, m)
        to.beta = 1
    if A_prev.sparse is not NULL:
        sparse_product(plan, to.Z, &W, A_prev, team)
        add_bias(plan, &to, n, m)
    elif layer.n_prev:
        forward_product(plan.compute, &to, &W, &A_prev.A, team)
    else:
        add_bias(plan, &to, n, m)
    if layer.mixes:
        plan.compute.table.mix_rows(out.A, to.A, to.Z, a_of(plan, layer), n, m)


cdef struct SparseJob:
    const Plan *plan
    const Inputs *X
    void *out                       # Z, or dW
    const void *operand             # W, or dZ
    Py_ssize_t n
    double alpha


cdef inline void sparse_forward_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef const SparseJob *job = <const SparseJob *>job_
    cdef nnk_sparse X = job.X.sparse[0]
    cdef Py_ssize_t first = part * SPARSE_EXAMPLES
    if X.order is NULL:
        X.first += first
    else:
        X.order += first
    job.plan.compute.table.columns.sum_sparse(
        entry(job.plan, job.out, first * job.n), job.n, job.operand, job.n, &X, job.n,
        min(<Py_ssize_t>SPARSE_EXAMPLES, job.X.A.m - first))


cdef inline void sparse_product(
    const Plan *plan, void *Z, const Matrix *W, const Inputs *X, const Team *team,
) noexcept nogil:
    """Z = W X"""
    cdef SparseJob job = SparseJob(plan, X, Z, W.data, W.n, 1)
    share_out(sparse_forward_part, &job, (X.A.m + SPARSE_EXAMPLES - 1) // SPARSE_EXAMPLES, False, team)


cdef inline void sparse_backward_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef const SparseJob *job = <const SparseJob *>job_
    cdef Py_ssize_t first = part * SPARSE_UNITS
    job.plan.compute.table.columns.add_to_sparse(
        entry(job.plan, job.out, first), job.n, entry(job.plan, job.operand, first), job.n, job.alpha, job.X.sparse,
        min(<Py_ssize_t>SPARSE_UNITS, job.n - first), job.X.A.m)


cdef inline void sparse_gradient(
    const Plan *plan, const Layer *layer, const Gradient *to, const void *dZ, const Inputs *X, const Team *team,
) noexcept nogil:
    """dW = 1/m dZ Xᵀ; its update comes with the rest of the step."""
    cdef void *dW = entry(plan, to.dtheta, layer.parameters[0].at)
    cdef SparseJob job = SparseJob(plan, X, dW, dZ, layer.n, to.one_mth)
    check(to.applied is NULL)
    if not to.accumulate:
        memset(dW, 0, layer.n * layer.n_prev * plan.compute.itemsize)
    share_out(sparse_backward_part, &job, (layer.n + SPARSE_UNITS - 1) // SPARSE_UNITS, False, team)


cdef inline void add_bias(const Plan *plan, const Forward *to, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """What a product ends with, where there is none: A = g(Z), Z = Z + b."""
    plan.compute.table.forward[NNK_linear](to.Z, n, to.Z, n, to.b, 0, n, m)
    plan.compute.table.forward[to.activation](to.A, n, to.Z, n, NULL, to.slope, n, m)


cdef inline void backward(
    const Plan *plan, const Layer *layer, const Gradient *to, const Activations *own, const void *dZ,
    const Inputs *A_prev, const Below *below, const Team *team,
) noexcept nogil:
    """dZ_prev = (Wᵀ dZ) ⊙ g_prev', and dW = 1/m dZ A_prevᵀ, applied where that is asked for.

    By the factor s_j of an input that codes name: m ds_j = Σ W[:, j]·dZ over the examples whose codes name it.
    """
    cdef Matrix W = W_of(plan, layer)
    cdef nnk_codes named = named_by(plan, A_prev)
    check(A_prev.A.n == layer.n_prev and dZ is not NULL)
    # before W is updated
    if below is not NULL and layer.n_prev:
        input_gradient_product(plan.compute, below, &W, dZ, A_prev.A.m, team)
    if A_prev.factors >= 0 and A_prev.factors_learn:
        plan.compute.table.columns.add_products(
            entry(plan, to.dtheta, A_prev.factors), picked(plan, layer, plan.theta), layer.n, dZ, layer.n, &named,
            layer.n, A_prev.A.m)
    if not layer.trainable:
        return
    if A_prev.sparse is not NULL:
        sparse_gradient(plan, layer, to, dZ, A_prev, team)
    elif layer.n_prev:
        weight_gradient(plan, layer, to, dZ, &A_prev.A, team)
    if layer.ones_prev:
        picked_gradient(plan, layer, to, dZ, A_prev)


cdef inline void weight_gradient(
    const Plan *plan, const Layer *layer, const Gradient *to, const void *dZ, const Matrix *A_prev, const Team *team,
) noexcept nogil:
    cdef const Parameter *W = &layer.parameters[0]
    cdef Applied *applied = to.applied
    cdef WeightGradient gradient
    cdef Update update
    cdef nnk_step step
    gradient.dW, gradient.n, gradient.update = entry(plan, to.dtheta, W.at), layer.n, NULL
    gradient.alpha, gradient.beta = to.one_mth, 1 if to.accumulate else 0
    if applied_entries(applied, W) == 0:
        applied = NULL
    elif applied.reduce is not NULL:
        summed_gradient(plan, layer, to, dZ, A_prev, team)
        return
    if applied is not NULL:
        step = step_of(applied.optimizer, layer, W, True)
        update.code, update.step, update.penalised = applied.optimizer.update, &step, step.l2 != 0 or step.l1 != 0
        update.W = entry(plan, plan.theta, W.at)
        update.s1, update.s2 = entry(plan, applied.optimizer.s1, W.at), entry(plan, applied.optimizer.s2, W.at)
        gradient.update = &update
    weight_gradient_product(plan.compute, &gradient, dZ, A_prev, team)
    if applied is not NULL:
        applied.penalty += update.penalty


cdef inline void summed_gradient(
    const Plan *plan, const Layer *layer, const Gradient *to, const void *dZ, const Matrix *A_prev, const Team *team,
) noexcept nogil:
    """dW of all processes, some columns at a time, in the memory of the first: computed, summed and applied.

    Processes need the same blocks: these depend on the shape of W alone.
    """
    cdef const Parameter *W = &layer.parameters[0]
    cdef Applied *applied = to.applied
    cdef Matrix dZ_matrix = contiguous(dZ, layer.n, A_prev.m), A_prev_T = transposed(A_prev), some
    cdef nnk_step step = step_of(applied.optimizer, layer, W, True)
    cdef Py_ssize_t column = 0, columns, first, count
    cdef double penalty = 0
    cdef void *dW = entry(plan, to.dtheta, W.at)
    check(not to.accumulate)
    while column < layer.n_prev and not applied.lost:
        columns = min(<Py_ssize_t>SUMMED_COLUMNS, layer.n_prev - column)
        first, count = column * layer.n, columns * layer.n
        some = columns_of(&A_prev_T, column, columns, plan.compute.itemsize)
        multiply(plan.compute, dW, layer.n, to.one_mth, &dZ_matrix, &some, 0, team)
        if applied.reduce(applied.owner, dW, count, plan.compute.itemsize):
            penalty += update_parameter(dW, plan, applied.optimizer, W, first, count, &step, team)
        else:
            applied.lost = True
        column += columns
    applied.penalty += penalty if W.decays else 0


cdef inline void picked_gradient(
    const Plan *plan, const Layer *layer, const Gradient *to, const void *dZ, const Inputs *A_prev,
) noexcept nogil:
    """The columns of dW for inputs that codes name; their update comes with the rest of the step."""
    cdef nnk_codes named = named_by(plan, A_prev)
    cdef void *dW = picked(plan, layer, to.dtheta)
    if not to.accumulate:
        memset(dW, 0, layer.n * layer.ones_prev * plan.compute.itemsize)
    plan.compute.table.columns.add_to(dW, layer.n, dZ, layer.n, to.one_mth, &named, layer.n, A_prev.A.m)


cdef inline void through(
    const Plan *plan, const Layer *layer, void *dtheta, const Activations *own, void *dZ, void *spare,
    Py_ssize_t m,
) noexcept nogil:
    """Of a mix, in place: dZ = dA ⊙ (a g' + 1 - a), m da += Σ_columns dA ⊙ (g - Z), m db += Σ_columns dZ.

    Some columns at a time, which stay in the first-level cache.
    """
    cdef Py_ssize_t n = layer.n, width = max(<Py_ssize_t>1, MIXED_ENTRIES // n), first = 0, at
    while first < m:
        at = first * n
        through_columns(
            plan, layer, dtheta, entry(plan, own.kept, at), entry(plan, own.Z, at), entry(plan, dZ, at), spare,
            min(width, m - first))
        first += width


cdef inline void through_columns(
    const Plan *plan, const Layer *layer, void *dtheta, const void *g, const void *Z, void *dZ, void *spare,
    Py_ssize_t m,
) noexcept nogil:
    cdef Py_ssize_t n = layer.n
    cdef bint learns_b = layer.trainable and layer.use_bias
    if layer.trainable:
        plan.compute.table.add_row_differences(
            entry(plan, dtheta, layer.parameters[layer.count - 1].at), dZ, g, Z, n, m)
    plan.compute.table.backward[layer.activation](spare, n, NULL, dZ, n, g, n, Z, n, layer.slope, n, m)
    plan.compute.table.mix_rows(dZ, spare, dZ, a_of(plan, layer), n, m)
    if learns_b:
        plan.compute.table.backward[NNK_linear](
            dZ, n, entry(plan, dtheta, layer.parameters[layer.bias].at), dZ, n, NULL, n, NULL, n, 0, n, m)


cdef inline Kind dense() noexcept:
    return Kind(
        name=b"dense", describe=describe, forward=forward, backward=backward, through=through, takes_sparse=True,
        first_bad=NULL)
