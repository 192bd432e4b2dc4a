# Dense: A = g(W A_prev + b). Bias, activation, g', db and the update are the epilogues of its three products.

from engine.optimizer cimport Applied
from engine.plan cimport Activations, Gradient, Kind, Layer, Parameter, Plan, entry
from engine.step cimport step_of
from kernels.nnk cimport nnk_step
from nnkern._matrix cimport Matrix, Team, Update, contiguous
from nnkern._products cimport (
    Below, Forward, WeightGradient, forward_product, input_gradient_product, weight_gradient_product,
)
from runtime.check cimport check


cdef inline void describe(Layer *layer) noexcept:
    layer.parameters[0] = Parameter(
        name=b"W", n=layer.n, m=layer.n_prev, at=0, decays=True, is_sum=False, fused=True, rate=1, held=1)
    layer.count, layer.bias = 1, -1
    if layer.use_bias:
        layer.parameters[1] = Parameter(
            name=b"b", n=layer.n, m=1, at=0, decays=False, is_sum=True, fused=False, rate=1, held=1)
        layer.count, layer.bias = 2, 1
    layer.multiply_adds = <double>layer.n * layer.n_prev


cdef inline Matrix W_of(const Plan *plan, const Layer *layer) noexcept nogil:
    return contiguous(entry(plan, plan.theta, layer.parameters[0].at), layer.n, layer.n_prev)


cdef inline void forward(
    const Plan *plan, const Layer *layer, const Activations *out, int activation, const Matrix *A_prev,
    const Team *team,
) noexcept nogil:
    """Z = W A_prev + b, A = g(Z)."""
    cdef Forward to
    cdef Matrix W = W_of(plan, layer)
    check(A_prev.n == layer.n_prev and out.A is not NULL)
    to.A, to.Z, to.ld, to.beta = out.A, out.A if out.Z is NULL else out.Z, layer.n, 0
    to.b = entry(plan, plan.theta, layer.parameters[1].at) if layer.use_bias else NULL
    to.activation, to.slope = activation, layer.slope
    forward_product(plan.compute, &to, &W, A_prev, team)


cdef inline void backward(
    const Plan *plan, const Layer *layer, const Gradient *to, const Activations *own, const void *dZ,
    const Matrix *A_prev, const Below *below, const Team *team,
) noexcept nogil:
    """dZ_prev = (Wᵀ dZ) ⊙ g_prev', and dW = 1/m dZ A_prevᵀ, applied where that is asked for."""
    cdef Matrix W = W_of(plan, layer)
    check(A_prev.n == layer.n_prev and dZ is not NULL)
    # before W is updated
    if below is not NULL:
        input_gradient_product(plan.compute, below, &W, dZ, A_prev.m, team)
    if layer.trainable:
        weight_gradient(plan, layer, to, dZ, A_prev, team)


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
    if applied is not NULL:
        step = step_of(applied.optimizer, layer, W, True)
        update.code, update.step, update.penalised = applied.optimizer.update, &step, step.l2 != 0 or step.l1 != 0
        update.W = entry(plan, plan.theta, W.at)
        update.s1, update.s2 = entry(plan, applied.optimizer.s1, W.at), entry(plan, applied.optimizer.s2, W.at)
        gradient.update = &update
    weight_gradient_product(plan.compute, &gradient, dZ, A_prev, team)
    if applied is not NULL:
        applied.penalty += update.penalty


cdef inline Kind dense() noexcept:
    return Kind(name=b"dense", describe=describe, forward=forward, backward=backward)
