# The kernels as Python and other Cython code have them: forward, backward, activations, losses of one layer.
#
# Checks that dimensions, dtypes and memory agree, releases the GIL and calls down: products to the engine, the rest to
# the C kernels. Knows nothing of networks, and doesn't validate what a user meant: validation.py does.

from collections import namedtuple

from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memset

cimport numpy as cnp
from api.arrays cimport (
    address, check_int, compute_for, dtype_of, matrix_of_array, new_matrix, share_bytes, type_of, unlike_first,
)
from engine.blocks cimport block_columns
from engine.layer cimport (
    DenseBackward, DenseForward, Elementwise, LossPass, backward_chunks, elementwise_blocks, forward_blocks,
    lay_out_backward, lay_out_elementwise, lay_out_forward, loss_chunks, operand_in_blocks, set_backward_blocks,
    set_forward_blocks, set_gradient_blocks,
)
from kernels.nnk cimport (
    NNK_ACTIVATIONS, NNK_LOSSES, NNK_score_argmax, nnk_activation_facts, nnk_loss_facts, nnk_philox, nnk_table,
)
from nnkern cimport _products as products
from nnkern._matrix cimport is_contiguous
from nnkern._products cimport (
    Below, Compute, Forward, WeightGradient, compute_type, forward_product, input_gradient_product,
    weight_gradient_product,
)
from runtime.arena cimport nnk_arena, nnk_arena_provide
from runtime.system cimport nnk_release_memory, nnk_seconds

cdef extern from "Python.h":
    object PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items)

from numbers import Integral

import numpy as np

cnp.import_array()

ACTIVATIONS = tuple(nnk_activation_facts[i].name.decode() for i in range(NNK_ACTIVATIONS))
# The activations whose derivative is computed from Z; the others' from A.
NEEDS_Z = frozenset(
    nnk_activation_facts[i].name.decode() for i in range(NNK_ACTIVATIONS) if nnk_activation_facts[i].derivative_reads_Z)
# The initializer of a layer's weights that goes with each of them.
INITIALIZERS = {
    nnk_activation_facts[i].name.decode(): nnk_activation_facts[i].initializer.decode() for i in range(NNK_ACTIVATIONS)}
# {loss: the activation it is fused with, linear for none}
LOSSES = {nnk_loss_facts[i].name.decode(): ACTIVATIONS[nnk_loss_facts[i].output] for i in range(NNK_LOSSES)}
cdef dict loss_codes = {name: code for code, name in enumerate(LOSSES)}
cdef dict activation_codes = {name: code for code, name in enumerate(ACTIVATIONS)}

DenseGradients = namedtuple("DenseGradients", "dZ dW db dA_prev", module="nnkern.kernels")
DenseGradients.__doc__ = "What dense_backward returns: dZ (n, m), dW (n, n_prev), db (n, 1), dA_prev or None."

cdef object FLOAT32 = np.dtype(np.float32)
cdef object FLOAT64 = np.dtype(np.float64)
cdef object ndarray = np.ndarray


# ---------------------------------------------------------------------------------------------------------------------
# For other Cython code

cdef inline const Compute *compute_of(const real *like_this) noexcept nogil:
    return compute_type(sizeof(real))


cdef Team form_team(int threads) except *:
    return products.form_team(threads)


cdef void dissolve(const Team *team) noexcept nogil:
    products.dissolve(team)


cdef void share_out(Task task, void *context, Py_ssize_t parts, bint wake, const Team *team) noexcept nogil:
    products.share_out(task, context, parts, wake, team)


cdef void product(
    real *C, Py_ssize_t ldc, real alpha, const Matrix *A, const Matrix *B, real beta, const Team *team,
) noexcept nogil:
    products.multiply(compute_of(C), C, ldc, alpha, A, B, beta, team)


cdef void forward_columns(
    real *A, real *Z, int activation, double slope, const Matrix *W, const Matrix *A_prev, const real *b,
    const Team *team,
) noexcept nogil:
    cdef Forward to = Forward(<void *>A, <void *>Z, W.n, 0, b, activation, slope)
    if Z is NULL:
        to.Z = to.A
    forward_product(compute_of(A), &to, W, A_prev, team)


cdef void forward_rows(
    real *A, Py_ssize_t lda, int activation, double slope, const Matrix *W, const Matrix *A_prev, real beta,
    const real *b, const Team *team,
) noexcept nogil:
    cdef Forward to = Forward(<void *>A, <void *>A, lda, beta, b, activation, slope)
    forward_product(compute_of(A), &to, W, A_prev, team)


cdef void input_gradient(
    real *dZ_prev, real *db_prev, int activation, double slope, const Matrix *W, const real *dZ,
    const real *A_prev, const real *Z_prev, Py_ssize_t m, const Team *team,
) noexcept nogil:
    cdef Below below = Below(<void *>dZ_prev, <void *>db_prev, <const void *>A_prev, activation, slope)
    if nnk_activation_facts[activation].derivative_reads_Z:
        below.H = <const void *>Z_prev
    input_gradient_product(compute_of(dZ), &below, W, dZ, m, team)


cdef void weight_gradient(
    real *dW, const real *dZ, const Matrix *A_prev, real alpha, real beta, Py_ssize_t n, Update *update,
    const Team *team,
) noexcept nogil:
    cdef WeightGradient to = WeightGradient(<void *>dW, n, alpha, beta, update)
    weight_gradient_product(compute_of(dZ), &to, dZ, A_prev, team)


# ---------------------------------------------------------------------------------------------------------------------
# On arrays: what the functions below share

cdef int activation_code(activation) except -1:
    code = activation_codes.get(activation) if isinstance(activation, str) else None
    if code is None:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
    return code


cdef double checked_slope(negative_slope) except? -1:
    cdef double slope = negative_slope
    if not 0 <= slope < float("inf"):
        raise ValueError(f"negative_slope must be a finite number >= 0; got {negative_slope!r}")
    return slope


cdef void *provided(nnk_arena *arena) except? NULL:
    """Memory for what the arena has counted, to be freed; NULL where that is nothing."""
    cdef void *memory = NULL
    if arena.used:
        memory = nnk_arena_provide(arena)
        if memory is NULL:
            raise MemoryError(f"no {arena.size} bytes for packing")
    return memory


cdef object operand(str name, x, int number, str meaning):
    """x, or a copy of it that a kernel can take; errors name the argument and the shape that `meaning` gives it."""
    if not cnp.PyArray_Check(x) or cnp.PyArray_TYPE(x) != number:
        raise unlike_first(name, x, number)
    if cnp.PyArray_NDIM(x) != 2:
        hint = ""
        if x.ndim == 1:
            hint = f"; {name}.reshape(-1, 1) makes it a column, {name}.reshape(1, -1) a row"
        raise ValueError(f"{name} must have shape {meaning}; got an array of rank {x.ndim}, shape {x.shape}{hint}")
    # swapped bytes, or entries off their boundaries
    return x if cnp.PyArray_ISBEHAVED_RO(x) else np.array(x, dtype=dtype_of(number), order="F")


cpdef cnp.ndarray output(str name, out, Py_ssize_t n, Py_ssize_t m, int number, inputs):
    """A new (n, m) array of numpy's type `number`, or `out` after the checks it needs.

    `inputs` are pairs (name, array) that it must not overlap.
    """
    if out is None:
        return new_matrix(n, m, number)
    if not cnp.PyArray_Check(out):
        raise TypeError(f"{name} must be a numpy array of {dtype_of(number)}; got {type(out).__name__}")
    if cnp.PyArray_TYPE(out) != number or not out.dtype.isnative:
        raise TypeError(f"{name} must have dtype {dtype_of(number)}; got {out.dtype}")
    if cnp.PyArray_NDIM(out) != 2 or cnp.PyArray_DIM(out, 0) != n or cnp.PyArray_DIM(out, 1) != m:
        raise ValueError(f"{name} must have shape ({n}, {m}); got {out.shape}")
    if not cnp.PyArray_ISWRITEABLE(out):
        raise ValueError(f"{name} is read-only")
    if not cnp.PyArray_ISALIGNED(out):
        raise ValueError(f"{name} must be aligned")
    cdef Matrix A = matrix_of_array(out)
    if n * m > 1 and ((A.row == 0 and n > 1) or (A.column == 0 and m > 1)):
        raise ValueError(f"{name} is a broadcast array: several of its entries share one place in memory")
    for other_name, other in inputs:
        if other is not None and share_bytes(out, other):
            raise ValueError(f"{name} overlaps {other_name} in memory")
    return out


# ---------------------------------------------------------------------------------------------------------------------
# Dense layers

def dense_forward(W, A_prev, b, activation, *, out=None, return_Z=False, negative_slope=0.01, threads=None,
                  compute=None):
    """A = g(W A_prev + b), one dense layer forward.

    Parameters
    ----------
    W : (n, n_prev) array of float32 or float64, any strides
    A_prev : (n_prev, m) array of the same dtype, one example a column
    b : (n, 1) array of the same dtype, or None for no bias
    activation : str
        One of `nnkern.kernels.ACTIVATIONS`.
    out : (n, m) array of the same dtype, optional
        Written and returned; must not overlap an input.
    return_Z : bool
        Return ``(A, Z)`` with Z = W A_prev + b.
    negative_slope : float
        leaky_relu's slope below 0.
    threads : int, optional
        At most this many threads; results don't depend on it.
    compute : "bfloat16", optional
        For float32: the product's operands are rounded to bfloat16, as `nnkern.Network` says.

    Returns
    -------
    A : (n, m) array, in Fortran order unless `out` says otherwise

    Raises
    ------
    TypeError
        An operand is no float32 or float64 array, or not all are alike.
    ValueError
        Shapes don't agree, the activation is unknown, or `out` can't be written.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> W, b = np.array([[1.0, -2.0]]), np.array([[0.5]])
    >>> nk.kernels.dense_forward(W, np.array([[3.0, 0.0], [1.0, 1.0]]), b, "relu")
    array([[1.5, 0. ]])

    Notes
    -----
    Equation: Z[l] = W[l] A[l-1] + b[l], A[l] = g[l](Z[l]).
    """
    cdef DenseForward f
    cdef int number = type_of("W", W), most_threads = number_of_threads(threads)
    memset(&f, 0, sizeof(f))
    f.to.activation, f.to.slope = activation_code(activation), checked_slope(negative_slope)
    W = operand("W", W, number, "(n, n_prev)")
    A_prev = operand("A_prev", A_prev, number, "(n_prev, m)")
    if b is not None:
        b = operand("b", b, number, "(n, 1)")
    cdef Matrix W_ = matrix_of_array(W), A_prev_ = matrix_of_array(A_prev), b_
    check_chain(&W_, &A_prev_)
    if b is not None:
        b_ = matrix_of_array(b)
        if b_.n != W_.n or b_.m != 1:
            raise ValueError(f"b must have shape ({W_.n}, 1), as W has {W_.n} rows; got ({b_.n}, {b_.m})")
        f.b, f.use_bias = operand_in_blocks(&b_, W_.n > 1 and b_.row != 1, 1), True
    cdef cnp.ndarray A = output("out", out, W_.n, A_prev_.m, number,
                                () if out is None else (("W", W), ("A_prev", A_prev), ("b", b)))
    cdef cnp.ndarray Z = new_matrix(W_.n, A_prev_.m, number) if return_Z else None
    cdef Matrix A_ = matrix_of_array(A)
    f.Z = address(Z) if return_Z else NULL
    if W_.n and A_prev_.m:
        f.compute = compute_for(compute, number)
        set_forward_blocks(&f, &W_, &A_prev_, &A_)
        run_forward(&f, most_threads)
    return (A, Z) if return_Z else A


cdef int check_chain(const Matrix *W, const Matrix *A_prev) except -1:
    check_int("n", W.n)
    check_int("n_prev", W.m)
    if A_prev.n != W.m:
        raise ValueError(f"A_prev has {A_prev.n} rows, W has {W.m} columns: W (n, n_prev), A_prev (n_prev, m)")
    return 0


cdef int run_forward(DenseForward *f, int threads) except -1:
    cdef nnk_arena arena
    cdef void *memory
    cdef Team team
    memset(&arena, 0, sizeof(arena))
    lay_out_forward(f, &arena)
    memory = provided(&arena)
    lay_out_forward(f, &arena)
    try:
        team = form_team(threads)
        with nogil:
            forward_blocks(f, &team)
            dissolve(&team)
    finally:
        free(memory)
    return 0


def dense_backward(dA, W, A_prev, A, activation, *, Z=None, need_dA_prev=True, out=None, negative_slope=0.01,
                   threads=None, compute=None):
    """dZ, dW, db, dA_prev of one dense layer: its backward pass.

    Parameters
    ----------
    dA : (n, m) array of float32 or float64
        Derivative of each example's loss by A. With a loss kernel's dZ, pass it here with ``activation="linear"``.
    W : (n, n_prev) array of the same dtype
    A_prev : (n_prev, m) array of the same dtype
    A : (n, m) array of the same dtype
        What `dense_forward` returned.
    activation : str
        One of `nnkern.kernels.ACTIVATIONS`.
    Z : (n, m) array of the same dtype, optional
        Needed by the activations in `nnkern.kernels.NEEDS_Z`.
    need_dA_prev : bool
        False leaves out dA_prev (None is returned for it), as for the first layer.
    out : tuple (dZ, dW, db, dA_prev), optional
        Arrays to write to, None where a new one is wanted.
    negative_slope : float
        leaky_relu's slope below 0.
    threads : int, optional
        At most this many threads; results don't depend on it.
    compute : "bfloat16", optional
        As in `dense_forward`.

    Returns
    -------
    DenseGradients : named tuple
        dZ (n, m) = dA ⊙ g'(Z), derivatives of each example's own loss; dW (n, n_prev) = 1/m dZ A_prevᵀ;
        db (n, 1) = 1/m Σ_columns dZ; dA_prev (n_prev, m) = Wᵀ dZ.

    Raises
    ------
    TypeError
        An operand is no float32 or float64 array, or not all are alike.
    ValueError
        Shapes don't agree, the activation is unknown, Z is missing, or `out` can't be written.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> W, A_prev = np.array([[1.0, -2.0]]), np.array([[3.0, 0.0], [1.0, 1.0]])
    >>> A = nk.kernels.dense_forward(W, A_prev, np.array([[0.5]]), "relu")
    >>> nk.kernels.dense_backward(np.ones((1, 2)), W, A_prev, A, "relu").dW
    array([[1.5, 0.5]])
    """
    cdef DenseBackward f
    cdef int number = type_of("dA", dA), most_threads = number_of_threads(threads)
    memset(&f, 0, sizeof(f))
    f.activation, f.slope = activation_code(activation), checked_slope(negative_slope)
    cdef bint reads_Z = nnk_activation_facts[f.activation].derivative_reads_Z
    dA = operand("dA", dA, number, "(n, m)")
    W = operand("W", W, number, "(n, n_prev)")
    A_prev = operand("A_prev", A_prev, number, "(n_prev, m)")
    A = operand("A", A, number, "(n, m)")
    if reads_Z:
        if Z is None:
            raise ValueError(f"the derivative of {activation} needs Z=: dense_forward(…, return_Z=True) returns it")
        # Z takes the place of A, the one operand that g' reads
        A = operand("Z", Z, number, "(n, m)")
    cdef Matrix W_ = matrix_of_array(W), A_prev_ = matrix_of_array(A_prev), dA_ = matrix_of_array(dA)
    cdef Matrix H_ = matrix_of_array(A)
    check_chain(&W_, &A_prev_)
    check_shape("dA", &dA_, W_.n, A_prev_.m)
    check_shape("Z" if reads_Z else "A", &H_, W_.n, A_prev_.m)
    inputs = (("dA", dA), ("W", W), ("A_prev", A_prev), ("Z" if reads_Z else "A", A))
    gradients = gradient_arrays(out, inputs, number, need_dA_prev)
    f.compute = compute_for(compute, number)
    cdef Matrix dZ = matrix_of_array(gradients[0]), dW = matrix_of_array(gradients[1])
    cdef Matrix db = matrix_of_array(gradients[2]), dA_prev
    if need_dA_prev:
        dA_prev = matrix_of_array(gradients[3])
    set_backward_blocks(&f, &W_, &A_prev_, &dA_, &H_)
    set_gradient_blocks(&f, &dZ, &dW, &db, &dA_prev if need_dA_prev else NULL)
    run_backward(&f, most_threads)
    return gradients


cdef int check_shape(str name, const Matrix *A, Py_ssize_t n, Py_ssize_t m) except -1:
    if A.n != n or A.m != m:
        raise ValueError(f"{name} must have shape ({n}, {m}), as W and A_prev say; got ({A.n}, {A.m})")
    return 0


cdef object gradient_arrays(out, inputs, int number, bint need_dA_prev):
    """The arrays to write to, those of `out` after the checks they need."""
    cdef Py_ssize_t n = inputs[1][1].shape[0], n_prev = inputs[1][1].shape[1], m = inputs[0][1].shape[1]
    if out is None:
        return gradients_of(new_matrix(n, m, number), new_matrix(n, n_prev, number), new_matrix(n, 1, number),
                            new_matrix(n_prev, m, number) if need_dA_prev else None)
    if not isinstance(out, tuple) or len(out) != 4:
        raise TypeError(f"out must be a tuple (dZ, dW, db, dA_prev); got {out!r}")
    if not need_dA_prev and out[3] is not None:
        raise ValueError("out holds a dA_prev that isn't computed: need_dA_prev is False")
    others = list(inputs)
    dZ = output("out's dZ", out[0], n, m, number, others)
    others.append(("out's dZ", dZ))
    dW = output("out's dW", out[1], n, n_prev, number, others)
    others.append(("out's dW", dW))
    db = output("out's db", out[2], n, 1, number, others)
    others.append(("out's db", db))
    return gradients_of(
        dZ, dW, db, output("out's dA_prev", out[3], n_prev, m, number, others) if need_dA_prev else None)


cdef inline object gradients_of(dZ, dW, db, dA_prev):
    """A DenseGradients, made as a tuple is: the call of a named tuple takes as long as a small product."""
    cdef object gradients = PyType_GenericAlloc(<PyTypeObject *>DenseGradients, 4)
    cdef Py_ssize_t place = 0
    for array in (dZ, dW, db, dA_prev):
        Py_INCREF(array)
        PyTuple_SET_ITEM(gradients, place, array)
        place += 1
    return gradients


cdef int run_backward(DenseBackward *f, int threads) except -1:
    cdef nnk_arena arena
    cdef void *memory
    cdef Team team
    memset(&arena, 0, sizeof(arena))
    lay_out_backward(f, &arena)
    memory = provided(&arena)
    lay_out_backward(f, &arena)
    try:
        team = form_team(threads)
        with nogil:
            backward_chunks(f, &team)
            dissolve(&team)
    finally:
        free(memory)
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Activations by themselves

def activation_forward(Z, name, *, out=None, negative_slope=0.01):
    """A = g(Z).

    Parameters
    ----------
    Z : (n, m) array of float32 or float64, any strides
    name : str
        One of `nnkern.kernels.ACTIVATIONS`; softmax is taken over the units of each example.
    out : (n, m) array of the same dtype, optional
    negative_slope : float
        leaky_relu's slope below 0.

    Returns
    -------
    A : (n, m) array, in Fortran order unless `out` says otherwise

    Raises
    ------
    TypeError, ValueError
        As `dense_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> nk.kernels.activation_forward(np.array([[-1.0, 0.0, 2.0]]), "relu")
    array([[0., 0., 2.]])
    """
    cdef int code = activation_code(name)
    cdef double slope = checked_slope(negative_slope)
    cdef int number = type_of("Z", Z)
    Z = operand("Z", Z, number, "(n, m)")
    return _applied(Z, None, out, () if out is None else (("Z", Z),), number, code, slope)


def activation_backward(dA, A, name, *, Z=None, out=None, negative_slope=0.01):
    """dZ = dA ⊙ g'(Z); for softmax dZ = A ⊙ (dA - Σ_units dA ⊙ A).

    Parameters
    ----------
    dA, A : (n, m) arrays of float32 or float64
    name : str
        One of `nnkern.kernels.ACTIVATIONS`.
    Z : (n, m) array, optional
        Needed by the activations in `nnkern.kernels.NEEDS_Z`.
    out : (n, m) array of the same dtype, optional
    negative_slope : float
        leaky_relu's slope below 0.

    Returns
    -------
    dZ : (n, m) array, in Fortran order unless `out` says otherwise

    Raises
    ------
    TypeError, ValueError
        As `dense_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> A = nk.kernels.activation_forward(np.array([[-1.0, 0.0, 2.0]]), "relu")
    >>> nk.kernels.activation_backward(np.ones((1, 3)), A, "relu")
    array([[0., 0., 1.]])
    """
    cdef int code = activation_code(name)
    cdef double slope = checked_slope(negative_slope)
    cdef int number = type_of("dA", dA)
    dA = operand("dA", dA, number, "(n, m)")
    A = operand("A", A, number, "(n, m)")
    if nnk_activation_facts[code].derivative_reads_Z:
        if Z is None:
            raise ValueError(f"the derivative of {name} needs Z=")
        A = operand("Z", Z, number, "(n, m)")
    if not cnp.PyArray_SAMESHAPE(A, dA):
        raise ValueError(f"A has shape {A.shape}, dA {dA.shape}: both must be (n, m)")
    return _applied(dA, A, out, () if out is None else (("dA", dA), ("A", A)), number, code, slope)


cdef object _applied(cnp.ndarray X, cnp.ndarray H, out, inputs, int number, int activation, double slope):
    """g(X), or X ⊙ g'(H) if there is an H."""
    cdef Matrix X_ = matrix_of_array(X), H_ = matrix_of_array(X if H is None else H), A_
    cdef cnp.ndarray A = output("out", out, X_.n, X_.m, number, inputs)
    cdef Elementwise f
    memset(&f, 0, sizeof(f))
    if X_.n == 0 or X_.m == 0:
        return A
    A_ = matrix_of_array(A)
    f.compute, f.activation, f.slope = compute_type(cnp.PyArray_ITEMSIZE(A)), activation, slope
    f.width = min(X_.m, block_columns(X_.n, f.compute.itemsize))
    f.derives = H is not None
    f.X = operand_in_blocks(&X_, not is_contiguous(&X_), f.width)
    f.A = operand_in_blocks(&A_, not is_contiguous(&A_), f.width)
    f.H = operand_in_blocks(&H_, f.derives and not is_contiguous(&H_), f.width)
    run_elementwise(&f)
    return A


cdef int run_elementwise(Elementwise *f) except -1:
    cdef nnk_arena arena
    cdef void *memory
    memset(&arena, 0, sizeof(arena))
    lay_out_elementwise(f, &arena)
    memory = provided(&arena)
    lay_out_elementwise(f, &arena)
    with nogil:
        elementwise_blocks(f)
        free(memory)
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Losses, fused with the output they are matched to

def loss(str name, Z, Y, sample_weight, double parameter=0):
    """cost, A, dZ of the loss of that name, in one pass over Z; `parameter` is its one number."""
    cdef LossPass f
    cdef int number = type_of("Z", Z)
    f.code, f.parameter, f.labels, f.Y, f.w = loss_codes[name], parameter, NULL, NULL, NULL
    A = np.array(operand("Z", Z, number, "(n_y, m)"), dtype=dtype_of(number), order="F")
    f.n, f.m, f.total = A.shape[0], A.shape[1], A.shape[1]
    if nnk_loss_facts[f.code].score == NNK_score_argmax and isinstance(Y, ndarray) and Y.dtype.kind in "iub":
        Y = checked_labels(Y, f.n, f.m)
        f.labels = <const int64_t *>address(Y)
    else:
        Y = operand("Y", Y, number, "(n_y, m)")
        if Y.shape != A.shape:
            raise ValueError(f"Y has shape {Y.shape}, Z {A.shape}: both must be (n_y, m)")
        Y = np.asfortranarray(Y)
        f.Y = <const char *>address(Y)
    if f.n == 0 and f.m > 0:
        raise ValueError("Z has no rows: a loss needs at least one output unit")
    if sample_weight is not None:
        sample_weight = checked_weights(sample_weight, f.m, dtype_of(number))
        f.total, f.w = sample_weight.sum(dtype=np.float64), <const char *>address(sample_weight)
        if f.m and not (f.total > 0 and f.total < float("inf") and sample_weight.min() >= 0):
            raise ValueError("sample_weight must be finite, >= 0 and not all 0")
    dZ = new_matrix(f.n, f.m, number)
    if f.m == 0:
        return 0.0, A, dZ
    f.compute, f.A, f.dZ = compute_type(A.itemsize), <char *>address(A), <char *>address(dZ)
    cdef double cost
    with nogil:
        cost = loss_chunks(&f)
    return cost / f.total, A, dZ


cdef object checked_labels(Y, Py_ssize_t n, Py_ssize_t m):
    if Y.shape != (m,) and Y.shape != (1, m):
        raise ValueError(f"Y must hold labels of shape ({m},) or (1, {m}), as Z has {m} columns; got {Y.shape}")
    # a copy, for they say where in memory to look
    Y = np.array(Y.reshape(m), dtype=np.int64)
    if m and (Y.min() < 0 or Y.max() >= n):
        first = int(np.flatnonzero((Y < 0) | (Y >= n))[0])
        raise ValueError(f"Y holds the label {Y[first]} at position {first}: labels go from 0 to {n - 1}")
    return Y


cdef object checked_weights(sample_weight, Py_ssize_t m, dtype):
    weights = np.ascontiguousarray(sample_weight, dtype=dtype)
    if weights.shape != (m,):
        raise ValueError(f"sample_weight must have shape ({m},), as Z has {m} columns; got {weights.shape}")
    return weights


include "machine.pxi"
