# Scale: A = s ⊙ A_prev, a learnable factor for each feature. What comes as codes is handed on as codes: who reads them
# multiplies by the factors, and finds the gradient by these.

from engine.plan cimport Activations, Gradient, Inputs, Kind, Layer, Parameter, Plan, entry
from nnkern._matrix cimport Matrix, Team
from nnkern._products cimport Below
from runtime.check cimport check


cdef inline void describe(Layer *layer) noexcept:
    layer.n, layer.ones, layer.codes = layer.n_prev, layer.ones_prev, layer.codes_prev
    layer.parameters[0] = Parameter(
        name=b"s", n=layer.n + layer.ones, m=1, at=0, decays=False, is_sum=True, fused=0)
    layer.count, layer.bias, layer.factors = 1, -1, 0 if layer.ones else -1
    layer.multiply_adds = layer.n + layer.codes


cdef inline const void *s_of(const Plan *plan, const Layer *layer) noexcept nogil:
    return entry(plan, plan.theta, layer.parameters[0].at)


cdef inline void forward(
    const Plan *plan, const Layer *layer, const Activations *out, int activation, const Inputs *A_prev_,
    const Team *team,
) noexcept nogil:
    """A = s ⊙ A_prev; the activation is always linear."""
    cdef const Matrix *A_prev = &A_prev_.A
    cdef Py_ssize_t n = layer.n, m = A_prev.m
    check(A_prev.n == n and A_prev_.factors < 0 and activation == layer.activation)
    check(A_prev_.count == layer.codes and (layer.codes == 0 or out.codes == A_prev_.codes))
    if A_prev.row == 1:
        plan.compute.table.scale_rows(out.A, A_prev.data, A_prev.column, s_of(plan, layer), n, m)
        return
    plan.compute.table.gather(out.A, A_prev.data, A_prev.row, A_prev.column, NULL, n, m)
    plan.compute.table.scale_rows(out.A, out.A, n, s_of(plan, layer), n, m)


cdef inline void backward(
    const Plan *plan, const Layer *layer, const Gradient *to, const Activations *own, const void *dZ,
    const Inputs *A_prev_, const Below *below, const Team *team,
) noexcept nogil:
    """m ds = Σ_columns dA ⊙ A_prev, and dA_prev = s ⊙ dA, which becomes dZ_prev = dA_prev ⊙ g_prev'."""
    cdef const Matrix *A_prev = &A_prev_.A
    cdef Py_ssize_t n = layer.n, m = A_prev.m
    check(A_prev.n == n and dZ is not NULL)
    if layer.trainable:
        plan.compute.table.add_row_products(
            entry(plan, to.dtheta, layer.parameters[0].at), dZ, A_prev.data, A_prev.row, A_prev.column, n, m)
    if below is not NULL:
        plan.compute.table.scale_rows(below.dZ, dZ, n, s_of(plan, layer), n, m)
        plan.compute.table.backward[below.activation](
            below.dZ, n, below.db, below.dZ, n, below.H, n, below.H, n, below.slope, n, m)


cdef inline Kind scale() noexcept:
    return Kind(
        name=b"scale", describe=describe, forward=forward, backward=backward, through=NULL, takes_sparse=False,
        first_bad=NULL)
