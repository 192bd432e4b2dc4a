"""The slow oracle: the equations of the library's notation in float64 numpy, as on paper.

It knows nothing of nnkern and takes no short cut; the tests hold every kernel, gradient and
optimizer step against it. One example is a column: X (n_x, m), W (n, n_prev), b (n, 1), Z and
A (n, m). The second half holds the error bounds that such comparisons may use; both the kernel and
the oracle round, so every bound counts the roundings of both.

Source of the bounds: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., ch. 3.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import mpmath
import numpy as np

F64 = np.float64


# ---- activations: g, g' from z, g' from a ----


class Activation(NamedTuple):
    """An elementwise activation; functions of an array take the negative slope as their second argument."""

    g: Callable
    derivative_of_z: Callable
    derivative_of_a: Callable | None = None
    """None where the library computes g' from Z."""
    ulps: float = 0
    """How far a kernel's g may be from the exact g, in units in the last place."""
    oracle_ulps: Callable | None = None
    """How far g here may be off in float64, a function of z, where that is more."""
    exact: Callable | None = None
    """g in mpmath; None where float64 is exact."""
    limits: tuple = (0.0, 0.0, np.inf)
    """g at -inf, 0 and inf."""
    kinks: tuple = ()
    """Where g' jumps."""
    extremes: tuple = ()
    """Where |g'| is larger than close by."""
    terms: Callable | None = None
    """Sum of the magnitudes of the terms that the kernel adds up to g', a function of what g' is computed from; None
    where g' has no rounding."""
    roundings: int = 3
    """How many roundings each term meets, the product with dA included."""
    torch: Callable | None = None
    """(torch.nn.functional, Z) -> A."""
    initializer: str = "he_normal"


def _sigmoid(z, _=None):
    e = np.exp(-np.abs(z))
    return np.where(z < 0, e, 1.0) / (1.0 + e)


def _sigmoid_slope(z):
    return _sigmoid(z) * _sigmoid(-z)


def _softplus(z, _=None):
    """log(1 + exp(z)) without overflow."""
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def _finite(z):
    """z, but not so large that a power of it is infinite."""
    return np.clip(z, -1e30, 1e30)


def _tanh(z):
    """Of a copy: numpy gathers the entries of a view by AVX2, which qemu 7.2 emulates wrongly (`make emulate`)."""
    return np.tanh(np.array(z))


_erfc = np.vectorize(math.erfc, otypes=[F64])


def _Phi(z):
    """The normal distribution function, erfc(x) / 2 at x = -z/sqrt(2).

    Far out, erfc changes by x^2 times as many roundings as x does; so what x lost in rounding, d, is made up for.
    """
    z = _finite(np.asarray(z, F64))
    root_high, root_low = 1.4142135381698608, 2.420323420895794e-08  # of 2; x_high root_high is exact
    x = -z / np.sqrt(2)
    x_high = x.astype(np.float32).astype(F64)
    d = ((-z - x_high * root_high) - x_high * root_low - (x - x_high) * np.sqrt(2)) / np.sqrt(2)
    return _erfc(x) / 2 - d * np.exp(-(x**2)) / np.sqrt(np.pi)


def _phi(z):
    """Its density; z^2 = high^2 + (z - high)(z + high), high^2 without rounding."""
    z = _finite(np.asarray(z, F64))
    high = z.astype(np.float32).astype(F64)
    return np.exp(-(high**2) / 2) * np.exp((high - z) * (z + high) / 2) / np.sqrt(2 * np.pi)


_GELU_SCALE = 2 * np.sqrt(2 / np.pi)


def _gelu_tanh_u(z):
    """0.5 (1 + tanh(u/2)) = sigmoid(u)."""
    z = _finite(z)
    return _GELU_SCALE * (z + 0.044715 * z**3)


def _gelu_tanh_u_slope(z):
    return _GELU_SCALE * (1 + 3 * 0.044715 * _finite(z) ** 2)


def _gelu_tanh_terms(z, u):
    """|u| roundings in u are as many in e^u and in sigmoid'(u), 1 - sigmoid(u) times as many in sigmoid(u)."""
    with_slope = np.abs(z) * _sigmoid_slope(u) * _gelu_tanh_u_slope(z)
    return _sigmoid(u) * (1 + np.abs(u) * _sigmoid(-u)) + with_slope * (1 + np.abs(u))


def _mish_parts(z):
    """tanh(softplus(z)) = n / (n + 2) with n = e^z (e^z + 2), and its derivative; beyond 40 they are 1 and 0."""
    e = np.exp(np.minimum(z, 40))
    n = e * (e + 2)
    return n / (n + 2), 4 * e * (e + 1) / (n + 2) ** 2


def _mp_clipped(z):
    """Beyond +-2000 the curved part has no digit left in any float64; mpmath needs no thousand-bit exponents."""
    return max(min(z, 2000), -2000)


def _mp_sigmoid(z):
    return 1 / (1 + mpmath.exp(-_mp_clipped(z)))


def _mp_softplus(z):
    return z if z > 2000 else mpmath.log1p(mpmath.exp(_mp_clipped(z)))


def _mp_gelu_tanh(z):
    near = _mp_clipped(z)
    return z * _mp_sigmoid(2 * mpmath.sqrt(2 / mpmath.pi) * (near + mpmath.mpf("0.044715") * near**3))


_SELU = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717

ELEMENTWISE = {
    "linear": Activation(
        g=lambda z, _: z,
        derivative_of_z=lambda z, _: np.ones_like(z),
        derivative_of_a=lambda a, _: np.ones_like(a),
        limits=(-np.inf, 0.0, np.inf),
        torch=lambda F, Z: Z,
        initializer="glorot_uniform",
    ),
    "sigmoid": Activation(
        g=_sigmoid,
        derivative_of_z=lambda z, _: _sigmoid_slope(z),
        derivative_of_a=lambda a, _: a * (1 - a),
        ulps=4,
        exact=_mp_sigmoid,
        limits=(0.0, 0.5, 1.0),
        extremes=(0.0,),
        terms=lambda a, _: np.abs(a * (1 - a)),
        torch=lambda F, Z: F.sigmoid(Z),
        initializer="glorot_uniform",
    ),
    "tanh": Activation(
        g=lambda z, _: _tanh(z),
        derivative_of_z=lambda z, _: 1 - _tanh(z) ** 2,
        derivative_of_a=lambda a, _: 1 - a**2,
        ulps=4,
        exact=lambda z: mpmath.tanh(_mp_clipped(z)),
        limits=(-1.0, 0.0, 1.0),
        extremes=(0.0,),
        terms=lambda a, _: 1 + a**2,
        torch=lambda F, Z: F.tanh(Z),
        initializer="glorot_uniform",
    ),
    "relu": Activation(
        g=lambda z, _: np.where(z < 0, 0.0, z),
        derivative_of_z=lambda z, _: np.where(z <= 0, 0.0, 1.0),
        derivative_of_a=lambda a, _: np.where(a <= 0, 0.0, 1.0),
        kinks=(0.0,),
        torch=lambda F, Z: F.relu(Z),
    ),
    # The slope itself is rounded to the kernel's dtype, then the product is: 1 ULP each at most.
    "leaky_relu": Activation(
        g=lambda z, slope: np.where(z < 0, slope * z, z),
        derivative_of_z=lambda z, slope: np.where(z <= 0, slope, 1.0),
        derivative_of_a=lambda a, slope: np.where(a <= 0, slope, 1.0),
        ulps=2,
        limits=(-np.inf, 0.0, np.inf),
        kinks=(0.0,),
        terms=lambda a, slope: np.where(a <= 0, abs(slope), 0.0),
        torch=lambda F, Z: F.leaky_relu(Z, 0.01),
    ),
    "elu": Activation(
        g=lambda z, _: np.where(z < 0, np.expm1(np.minimum(z, 0)), z),
        derivative_of_z=lambda z, _: np.exp(np.minimum(z, 0)),
        derivative_of_a=lambda a, _: np.minimum(a, 0) + 1,
        ulps=4,
        exact=lambda z: mpmath.expm1(_mp_clipped(z)) if z < 0 else z,
        limits=(-1.0, 0.0, np.inf),
        terms=lambda a, _: np.where(a <= 0, 1 + np.abs(a), 0.0),
        torch=lambda F, Z: F.elu(Z),
    ),
    "selu": Activation(
        g=lambda z, _: _SELU * np.where(z < 0, _SELU_ALPHA * np.expm1(np.minimum(z, 0)), z),
        derivative_of_z=lambda z, _: _SELU * np.where(z <= 0, _SELU_ALPHA * np.exp(np.minimum(z, 0)), 1.0),
        derivative_of_a=lambda a, _: np.where(a <= 0, a + _SELU * _SELU_ALPHA, _SELU),
        ulps=4,
        exact=lambda z: (
            mpmath.mpf("1.0507009873554804934193349852946")
            * (mpmath.mpf("1.6732632423543772848170429916717") * mpmath.expm1(_mp_clipped(z)) if z < 0 else z)
        ),
        limits=(-_SELU * _SELU_ALPHA, 0.0, np.inf),
        kinks=(0.0,),
        extremes=(0.0,),
        terms=lambda a, _: np.where(a <= 0, np.abs(a) + _SELU * _SELU_ALPHA, _SELU),
        roundings=4,
        torch=lambda F, Z: F.selu(Z),
    ),
    "gelu": Activation(
        g=lambda z, _: z * _Phi(z),
        derivative_of_z=lambda z, _: _Phi(z) + z * _phi(z),
        ulps=4,
        exact=lambda z: z * mpmath.erfc(-_mp_clipped(z) / mpmath.sqrt(2)) / 2,
        extremes=(-np.sqrt(2), np.sqrt(2)),
        terms=lambda z, _: _Phi(z) + np.abs(z) * _phi(z),
        roundings=24,
        torch=lambda F, Z: F.gelu(Z),
    ),
    "gelu_tanh": Activation(
        g=lambda z, _: z * _sigmoid(_gelu_tanh_u(z)),
        derivative_of_z=lambda z, _: (
            _sigmoid(_gelu_tanh_u(z)) + z * _sigmoid_slope(_gelu_tanh_u(z)) * _gelu_tanh_u_slope(z)
        ),
        ulps=4,
        # an error in u, which is rounded four times, is |u| times as large in sigmoid(u) below 0
        oracle_ulps=lambda z: 4 + 4 * np.abs(_gelu_tanh_u(np.clip(z, -20, 0))),
        exact=_mp_gelu_tanh,
        extremes=(-1.4151, 1.4151),
        terms=lambda z, _: _gelu_tanh_terms(z, _gelu_tanh_u(z)),
        roundings=24,
        torch=lambda F, Z: F.gelu(Z, approximate="tanh"),
    ),
    "silu": Activation(
        g=lambda z, _: z * _sigmoid(z),
        derivative_of_z=lambda z, _: _sigmoid(z) + z * _sigmoid_slope(z),
        ulps=4,
        exact=lambda z: z * _mp_sigmoid(z),
        extremes=(-2.39936, 2.39936),
        terms=lambda z, _: _sigmoid(z) + np.abs(z) * _sigmoid_slope(z),
        roundings=16,
        torch=lambda F, Z: F.silu(Z),
    ),
    "softplus": Activation(
        g=_softplus,
        derivative_of_z=_sigmoid,
        derivative_of_a=lambda a, _: -np.expm1(-a),
        ulps=4,
        exact=_mp_softplus,
        limits=(0.0, np.log(2), np.inf),
        terms=lambda a, _: np.abs(np.expm1(-a)),
        roundings=8,
        torch=lambda F, Z: F.softplus(Z, threshold=1000),
    ),
    "mish": Activation(
        g=lambda z, _: z * _tanh(_softplus(z)),
        derivative_of_z=lambda z, _: _mish_parts(z)[0] + z * _mish_parts(z)[1],
        ulps=4,
        exact=lambda z: z * mpmath.tanh(_mp_clipped(_mp_softplus(z))),
        extremes=(-2.2564, 1.4906),
        terms=lambda z, _: _mish_parts(z)[0] + np.abs(z) * _mish_parts(z)[1],
        roundings=24,
        torch=lambda F, Z: F.mish(Z),
    ),
    "hard_swish": Activation(
        g=lambda z, _: np.where(z <= -3, 0.0, np.where(z < 3, np.clip(z, -3, 3) * (np.clip(z, -3, 3) + 3) / 6, z)),
        derivative_of_z=lambda z, _: np.where(z <= -3, 0.0, np.where(z < 3, z / 3 + 0.5, 1.0)),
        ulps=4,
        exact=lambda z: 0 if z <= -3 else z * (z + 3) / 6 if z < 3 else z,
        kinks=(-3.0, 3.0),
        extremes=(np.nextafter(-3.0, 0), np.nextafter(3.0, 0)),
        terms=lambda z, _: np.where(np.abs(z) < 3, np.abs(z) / 3 + 0.5, 0.0),
        roundings=4,
        torch=lambda F, Z: F.hardswish(Z),
    ),
    "exp": Activation(
        g=lambda z, _: np.exp(z),
        derivative_of_z=lambda z, _: np.exp(z),
        derivative_of_a=lambda a, _: a,
        ulps=4,
        exact=lambda z: mpmath.exp(_mp_clipped(z)),
        limits=(0.0, 1.0, np.inf),
        terms=lambda a, _: np.abs(a),
        roundings=2,
        torch=lambda F, Z: Z.exp(),
        initializer="glorot_uniform",
    ),
}

ACTIVATIONS = (*ELEMENTWISE, "softmax")

READS_Z = frozenset(name for name, activation in ELEMENTWISE.items() if activation.derivative_of_a is None)
"""The activations whose derivative is computed from Z; the others' from A."""


def operand(name, A, Z):
    """The one of A and Z that the derivative is computed from; below it is called H."""
    return Z if name in READS_Z else A


def softmax(Z):
    """A = exp(Z) / sum over units of exp(Z), each column shifted by its largest entry."""
    Z = np.asarray(Z, F64)
    if Z.shape[0] == 0:
        return Z.copy()
    E = np.exp(Z - Z.max(axis=0, keepdims=True))
    return E / E.sum(axis=0, keepdims=True)


def activation_forward(Z, name, negative_slope=0.01):
    """A = g(Z)."""
    Z = np.asarray(Z, F64)
    return softmax(Z) if name == "softmax" else ELEMENTWISE[name].g(Z, negative_slope)


def activation_backward(dA, H, name, negative_slope=0.01):
    """dZ = dA * g'(Z), g' written with H, see `operand`; for softmax dZ = A * (dA - sum over units of dA * A)."""
    dA, H = np.asarray(dA, F64), np.asarray(H, F64)
    if name == "softmax":
        return H * (dA - (dA * H).sum(axis=0, keepdims=True))
    activation = ELEMENTWISE[name]
    return dA * (activation.derivative_of_a or activation.derivative_of_z)(H, negative_slope)


# ---- one dense layer ----


def dense_forward(W, A_prev, b, activation, negative_slope=0.01):
    """Z = W A_prev + b, A = g(Z); gives (A, Z)."""
    W, A_prev, b = (np.asarray(array, F64) for array in (W, A_prev, b))
    Z = W @ A_prev + b
    return activation_forward(Z, activation, negative_slope), Z


def dense_backward(dA, W, A_prev, H, activation, negative_slope=0.01):
    """dZ = dA * g', dW = 1/m dZ A_prev^T, db = 1/m sum over columns of dZ, dA_prev = W^T dZ."""
    W, A_prev = np.asarray(W, F64), np.asarray(A_prev, F64)
    m = A_prev.shape[1]
    dZ = activation_backward(dA, H, activation, negative_slope)
    dW = dZ @ A_prev.T / max(m, 1)
    db = dZ.sum(axis=1, keepdims=True) / max(m, 1)
    return dZ, dW, db, W.T @ dZ


# ---- a factor for each feature ----


def scale_forward(s, A_prev):
    """A = s * A_prev, s (n, 1)."""
    return np.asarray(s, F64) * np.asarray(A_prev, F64)


def scale_backward(dA, s, A_prev):
    """ds = 1/m sum over columns of dA * A_prev, dA_prev = s * dA."""
    dA, A_prev = np.asarray(dA, F64), np.asarray(A_prev, F64)
    return (dA * A_prev).sum(axis=1, keepdims=True) / max(dA.shape[1], 1), np.asarray(s, F64) * dA


# ---- units that mix their activation with the identity ----


def mix_forward(a, Z, activation, negative_slope=0.01):
    """A = a * g(Z) + (1 - a) * Z, a (n, 1)."""
    a, Z = np.asarray(a, F64), np.asarray(Z, F64)
    return a * activation_forward(Z, activation, negative_slope) + (1 - a) * Z


def mix_backward(dA, a, Z, activation, negative_slope=0.01):
    """dZ = dA * (a g'(Z) + 1 - a), da = 1/m sum over columns of dA * (g(Z) - Z)."""
    a, Z = np.asarray(a, F64), np.asarray(Z, F64)
    g = activation_forward(Z, activation, negative_slope)
    of_g = activation_backward(dA, operand(activation, g, Z), activation, negative_slope)
    return a * of_g + (1 - a) * dA, (dA * (g - Z)).sum(axis=1, keepdims=True) / max(Z.shape[1], 1)


# ---- one dense layer, example by example ----


def dense_forward_loop(W, A_prev, b, activation, negative_slope=0.01):
    """dense_forward, one example after another and one product after another."""
    (n, n_prev), m = W.shape, A_prev.shape[1]
    Z, A = np.zeros((n, m)), np.zeros((n, m))
    for i in range(m):
        for j in range(n):
            z = 0.0
            for k in range(n_prev):
                z += float(W[j, k]) * float(A_prev[k, i])
            Z[j, i] = z + float(b[j, 0])
        A[:, [i]] = activation_forward(Z[:, [i]], activation, negative_slope)
    return A, Z


def dense_backward_loop(dA, W, A_prev, H, activation, negative_slope=0.01):
    """dense_backward, one example after another: each adds its own share to dW and db."""
    (n, n_prev), m = W.shape, A_prev.shape[1]
    dZ, dA_prev = np.zeros((n, m)), np.zeros((n_prev, m))
    dW, db = np.zeros((n, n_prev)), np.zeros((n, 1))
    for i in range(m):
        dZ[:, [i]] = activation_backward(dA[:, [i]], H[:, [i]], activation, negative_slope)
        for j in range(n):
            db[j, 0] += dZ[j, i] / m
            for k in range(n_prev):
                dW[j, k] += dZ[j, i] * float(A_prev[k, i]) / m
                dA_prev[k, i] += float(W[j, k]) * dZ[j, i]
    return dZ, dW, db, dA_prev


# ---- losses: L of each example from Z, and the derivative ----

MATCHED = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax", "poisson": "exp"}
"""Losses that are computed from Z together with the one output activation they belong to."""

LOSSES = (*MATCHED, "squared_error", "absolute_error", "huber", "quantile")

PARAMETERS = {
    "binary_cross_entropy": ("label_smoothing", 0.0),
    "cross_entropy": ("label_smoothing", 0.0),
    "huber": ("delta", 1.0),
    "quantile": ("q", 0.5),
}
"""The number that a loss has, and its default."""

KINKED_LOSSES = {"absolute_error": (0.0,), "quantile": (0.0,), "huber": (-1.0, 1.0)}
"""Where a derivative of a loss jumps, in a - y; huber's second one counts, as central differences see it too."""


def random_targets(name, shape, rng):
    """Y (n_y, m) as the loss wants it."""
    n_y, m = shape
    if name == "binary_cross_entropy":
        return np.where(rng.uniform(size=(1, m)) < 0.5, rng.integers(0, 2, shape), rng.random(shape))
    if name == "cross_entropy":
        soft = rng.dirichlet(np.ones(n_y), size=m).T.reshape(shape)
        return np.where(rng.uniform(size=(1, m)) < 0.5, soft, one_hot(rng.integers(0, n_y, m), n_y))
    if name == "poisson":
        return rng.integers(0, 2, shape).astype(F64)
    return rng.normal(scale=2, size=shape)


def one_hot(labels, n_y):
    """Labels 0..n_y-1 of shape (m,) or (1, m) as Y (n_y, m)."""
    return (np.arange(n_y)[:, None] == np.asarray(labels).reshape(1, -1)).astype(F64)


def log_sum_exp(Z):
    """log of the sum over units of exp(Z), as a row (1, m)."""
    largest = Z.max(axis=0, keepdims=True)
    return largest + np.log(np.exp(Z - largest).sum(axis=0, keepdims=True))


def smoothed(Y, name, smoothing):
    """What stands for Y (n_y, m): the share `smoothing` of every example goes to all classes alike."""
    if not smoothing or name not in ("binary_cross_entropy", "cross_entropy"):
        return Y
    classes = 2 if name == "binary_cross_entropy" else Y.shape[0]
    return (1 - smoothing) * Y + smoothing / classes


def loss(Z, Y, name, activation="linear", negative_slope=0.01, parameter=None):
    """L (m,) of each example, A, and dZ, the derivative of each example's own L by its column of Z.

    The cross-entropies imply their activation; the others are functions of A = g(Z).
    """
    Z, Y = np.asarray(Z, F64), np.asarray(Y, F64)
    activation = MATCHED.get(name, activation)
    A = activation_forward(Z, activation, negative_slope)
    if parameter is None and name in PARAMETERS:
        _, parameter = PARAMETERS[name]
    Y = smoothed(Y, name, parameter)
    if name == "binary_cross_entropy":
        # -(y log a + (1 - y) log(1 - a)) with log a = -softplus(-z), log(1 - a) = -softplus(z)
        return (Y * _softplus(-Z) + (1 - Y) * _softplus(Z)).sum(axis=0), A, A - Y
    if name == "cross_entropy":
        # -sum y log a with log a = z - log_sum_exp(z)
        return (Y * (log_sum_exp(Z) - Z)).sum(axis=0), A, A - Y
    if name == "poisson":
        return (A - np.where(Y == 0, 0, Y * Z)).sum(axis=0), A, A - Y
    if name == "squared_error":
        L, dA = (0.5 * (A - Y) ** 2).sum(axis=0), A - Y
    elif name == "absolute_error":
        L, dA = np.abs(Y - A).sum(axis=0), np.sign(A - Y)
    elif name == "huber":
        d = np.abs(A - Y)
        L = np.where(d <= parameter, 0.5 * d**2, parameter * (d - 0.5 * parameter)).sum(axis=0)
        dA = np.clip(A - Y, -parameter, parameter)
    elif name == "quantile":
        L = np.maximum(parameter * (Y - A), (1 - parameter) * (A - Y)).sum(axis=0)
        dA = np.where(A < Y, -parameter, np.where(A > Y, 1 - parameter, A - Y))
    else:
        raise KeyError(name)
    return L, A, activation_backward(dA, operand(activation, A, Z), activation, negative_slope)


def weighted_mean(L, sample_weight=None):
    """sum of w_i L_i / sum of w_i, with w_i = 1 by default."""
    w = np.ones(L.size) if sample_weight is None else np.asarray(sample_weight, F64)
    return float((w * L).sum() / w.sum())


def weight_columns(dZ, sample_weight=None):
    """Column i times m w_i / sum(w), so that 1/m of the sum over columns is the weighted mean."""
    if sample_weight is None:
        return dZ
    w = np.asarray(sample_weight, F64)
    return dZ * (w.size * w / w.sum())


# ---- a whole network ----
# parameters: {"W1": (n1, n_x), "b1": (n1, 1), "W2": ...}; activations: the names, layer 1 first;
# l2: one number, or one for each layer.


def _l2_of_layers(l2, L):
    return np.broadcast_to(np.asarray(l2, F64), (L,))


def network_forward(X, parameters, activations, negative_slope=0.01):
    """Gives the lists A and Z with A[0] = X and Z[0] = None."""
    A, Z = [np.asarray(X, F64)], [None]
    for layer, name in enumerate(activations, start=1):
        W, b = parameters[f"W{layer}"], parameters[f"b{layer}"]
        A_l, Z_l = dense_forward(W, A[-1], b, name, negative_slope)
        A.append(A_l)
        Z.append(Z_l)
    return A, Z


def penalty(parameters, L, l2=0.0):
    """sum over layers of l2/2 times the squared norm of W; biases carry none."""
    return sum(
        0.5 * l2_l * float((np.asarray(parameters[f"W{layer}"], F64) ** 2).sum())
        for layer, l2_l in enumerate(_l2_of_layers(l2, L), start=1)
    )


def network_cost(X, Y, parameters, activations, loss_name, l2=0.0, sample_weight=None, negative_slope=0.01):
    """J = weighted mean of L + penalty."""
    _, Z = network_forward(X, parameters, activations, negative_slope)
    L, _, _ = loss(Z[-1], Y, loss_name, activations[-1], negative_slope)
    return weighted_mean(L, sample_weight) + penalty(parameters, len(activations), l2)


def network_backward(X, Y, parameters, activations, loss_name, l2=0.0, sample_weight=None, negative_slope=0.01):
    """Derivatives of network_cost by every parameter: {"dW1": ..., "db1": ..., ...}."""
    A, Z = network_forward(X, parameters, activations, negative_slope)
    _, _, dZ = loss(Z[-1], Y, loss_name, activations[-1], negative_slope)
    dZ = weight_columns(dZ, sample_weight)
    l2_of = _l2_of_layers(l2, len(activations))
    gradients = {}
    for layer in range(len(activations), 0, -1):
        W = np.asarray(parameters[f"W{layer}"], F64)
        _, dW, db, dA_prev = dense_backward(dZ, W, A[layer - 1], A[layer], "linear")
        gradients[f"dW{layer}"] = dW + l2_of[layer - 1] * W
        gradients[f"db{layer}"] = db
        if layer > 1:
            name = activations[layer - 2]
            dZ = activation_backward(dA_prev, operand(name, A[layer - 1], Z[layer - 1]), name, negative_slope)
    return gradients


def central_differences(J, theta, step=1e-5):
    """(J(theta + step) - J(theta - step)) / (2 step) for each entry of theta, which is restored."""
    gradient = np.empty(theta.shape)
    for index in np.ndindex(theta.shape):
        value = theta[index]
        theta[index] = value + step
        above = J()
        theta[index] = value - step
        below = J()
        theta[index] = value
        gradient[index] = (above - below) / (2 * step)
    return gradient


# ---- encoders: what the first layer makes of a row x (m,) of X ----
# p: {"w": array, ...} in float64. `forward` gives (outputs, m); `backward` gives {"w": derivative of the sum over
# examples of each example's own L, ...} and dx (m,). `errors` gives what the outputs may be off by, `gradient_errors`
# what the gradients may where dA is exact.


def _affine(M, f):
    """M f + c, the columns of M (units, k + 1) being those that f (k, m) is multiplied with, then c."""
    return M[:, :-1] @ f + M[:, -1:]


def _with_ones(f):
    return np.vstack([f, np.ones((1, f.shape[1]))])


class Numeric(NamedTuple):
    """x itself."""

    row: int
    outputs = 1

    def shapes(self):
        return {}

    def forward(self, p, x):
        return x[None]

    def backward(self, dA, p, x):
        return {}, dA[0]

    def errors(self, p, x, dtype):
        return np.zeros((1, x.size))

    def gradient_errors(self, dA, p, x, dtype):
        return {}


class Periodic(NamedTuple):
    """cos(2 pi w x + b), w and b (k, 1); with units, x first and then the linear map of the cosines to units - 1."""

    row: int
    frequencies: int
    units: int | None = None

    @property
    def outputs(self):
        return self.frequencies if self.units is None else self.units

    def shapes(self):
        k = self.frequencies
        return {"w": (k, 1), "b": (k, 1)} | ({} if self.units is None else {"M": (self.units - 1, k + 1)})

    def phases(self, p, x):
        return 2 * np.pi * p["w"] * x + p["b"]

    def forward(self, p, x):
        f = np.cos(self.phases(p, x))
        return f if self.units is None else np.vstack([x[None], _affine(p["M"], f)])

    def backward(self, dA, p, x):
        phases, gradients, dx = self.phases(p, x), {}, np.zeros(x.size)
        df = dA
        if self.units is not None:
            dx, dA = dx + dA[0], dA[1:]
            gradients["M"] = dA @ _with_ones(np.cos(phases)).T
            df = p["M"][:, :-1].T @ dA
        d_phases = -np.sin(phases) * df
        gradients["w"] = (d_phases * 2 * np.pi * x).sum(axis=1, keepdims=True)
        gradients["b"] = d_phases.sum(axis=1, keepdims=True)
        return gradients, dx + (d_phases * 2 * np.pi * p["w"]).sum(axis=0)

    def cosine_errors(self, p, x, dtype):
        """Of cosines and sines: the phase is two products and a sum; what it is off by they are off by, and 4 ULP."""
        lost = gamma_both(4, dtype) * (2 * np.pi * np.abs(p["w"] * x) + np.abs(p["b"])) + _underflow(4, dtype)
        return np.minimum(lost + 4 * ulp(1.0, dtype), 2)

    def errors(self, p, x, dtype):
        off, f = self.cosine_errors(p, x, dtype), np.cos(self.phases(p, x))
        return off if self.units is None else np.vstack([np.zeros((1, x.size)), _affine_errors(p["M"], f, off, dtype)])

    def gradient_errors(self, dA, p, x, dtype):
        off, phases, errors = self.cosine_errors(p, x, dtype), self.phases(p, x), {}
        df, df_error = np.abs(dA), np.zeros(phases.shape)
        if self.units is not None:
            errors["M"] = _sum_errors(dA[1:], _with_ones(np.cos(phases)), np.vstack([off, 0 * x[None]]), dtype)
            df = np.abs(p["M"][:, :-1]).T @ np.abs(dA[1:])
            df_error = gamma_both(self.units, dtype) * df + _underflow(self.units, dtype)
        size = (df + df_error) * (np.abs(np.sin(phases)) + off)
        lost = (
            df_error * np.abs(np.sin(phases)) + (df + df_error) * off + gamma_both(additions(x.size) + 8, dtype) * size
        )
        errors["w"] = (lost * 2 * np.pi * np.abs(x)).sum(axis=1, keepdims=True)
        errors["b"] = lost.sum(axis=1, keepdims=True)
        return errors


class PiecewiseLinear(NamedTuple):
    """f_j = (x - e_j) / (e_(j+1) - e_j) within 0 and 1; with units, their linear map."""

    row: int
    edges: tuple
    units: int | None = None

    @property
    def bins(self):
        """Lower edges and widths, (k, 1) each."""
        e = np.asarray(self.edges, F64)[:, None]
        return e[:-1], e[1:] - e[:-1]

    @property
    def outputs(self):
        return len(self.edges) - 1 if self.units is None else self.units

    def shapes(self):
        return {} if self.units is None else {"M": (self.units, len(self.edges))}

    def features(self, x):
        """f (k, m), and where x is inside the bin."""
        low, width = self.bins
        f = (x - low) / width
        return np.clip(f, 0, 1), (f > 0) & (f < 1)

    def forward(self, p, x):
        f, _ = self.features(x)
        return f if self.units is None else _affine(p["M"], f)

    def backward(self, dA, p, x):
        f, inside = self.features(x)
        gradients, df = {}, dA
        if self.units is not None:
            gradients["M"] = dA @ _with_ones(f).T
            df = p["M"][:, :-1].T @ dA
        return gradients, (df * inside / self.bins[1]).sum(axis=0)

    def feature_errors(self, x, dtype):
        """Edges and 1/width are rounded to dtype, so is each of the two operations; beyond the bin nothing changes."""
        (low, width), u = self.bins, unit_roundoff(dtype)
        distance = np.clip(np.abs(x - low), 0, width)
        of_edges = u * np.abs(low) / width + u * (np.abs(low) + np.abs(low + width)) / width * distance / width
        return np.minimum(gamma_both(4, dtype) * distance / width + 2 * of_edges + _underflow(4, dtype), 1)

    def errors(self, p, x, dtype):
        off = self.feature_errors(x, dtype)
        return off if self.units is None else _affine_errors(p["M"], self.features(x)[0], off, dtype)

    def gradient_errors(self, dA, p, x, dtype):
        off = np.vstack([self.feature_errors(x, dtype), 0 * x[None]])
        return {} if self.units is None else {"M": _sum_errors(dA, _with_ones(self.features(x)[0]), off, dtype)}


class OneHot(NamedTuple):
    """1 at the place of the code; with unknown, code 0 has no place."""

    row: int
    size: int
    unknown: bool = False

    @property
    def outputs(self):
        return self.size

    def shapes(self):
        return {}

    def forward(self, p, x):
        return one_hot(x - self.unknown, self.size)

    def backward(self, dA, p, x):
        return {}, np.zeros(x.size)

    def errors(self, p, x, dtype):
        return np.zeros((self.size, x.size))

    def gradient_errors(self, dA, p, x, dtype):
        return {}


class Embedding(NamedTuple):
    """Column c of E (units, size) for code c."""

    row: int
    size: int
    units: int

    @property
    def outputs(self):
        return self.units

    def shapes(self):
        return {"E": (self.units, self.size)}

    def forward(self, p, x):
        return p["E"] @ one_hot(x, self.size)

    def backward(self, dA, p, x):
        return {"E": dA @ one_hot(x, self.size).T}, np.zeros(x.size)

    def errors(self, p, x, dtype):
        return np.zeros((self.units, x.size))

    def gradient_errors(self, dA, p, x, dtype):
        return {"E": _sum_errors(dA, one_hot(x, self.size), 0.0, dtype)}


def _sum_errors(dA, f, off, dtype):
    """What dA f^T, a sum over examples, may be off by where f is off by `off`."""
    size = np.abs(dA) @ (np.abs(f) + off).T
    return gamma_both(additions(f.shape[1]) + 4, dtype) * size + np.abs(dA) @ (off + 0 * f).T


def _affine_errors(M, f, off, dtype):
    """What M f + c may be off by where f is off by `off`."""
    M_f, c = M[:, :-1], M[:, -1:]
    return bound_Z(M_f, np.abs(f) + off, c, dtype) + np.abs(M_f) @ off


# ---- layers of a network of several kinds ----
# forward(p, A_prev) gives (A, Z), backward(dZ, p, A_prev) gives {"W": dW, ...} as means over examples, and dA_prev;
# through(dA, p, A, Z) gives dZ and further gradients.


class Encode:
    """Encoders' outputs one after the other, those of one-hot codes last.

    Parameters are columns in which those of the encoders follow each other as the encoders are given, each column by
    column.
    """

    def __init__(self, encoders):
        self.encoders = tuple(encoders)
        self.outputs = sum(e.outputs for e in self.encoders)

    def shapes(self):
        sizes = {}
        for encoder in self.encoders:
            for name, shape in encoder.shapes().items():
                sizes[name] = sizes.get(name, 0) + math.prod(shape)
        return {name: (sizes[name], 1) for name in ("w", "b", "M", "E") if name in sizes}

    def split(self, p):
        """[(encoder, {"w": array, ...}), ...] in the order given."""
        at, parts = dict.fromkeys(p, 0), []
        for encoder in self.encoders:
            own = {}
            for name, shape in encoder.shapes().items():
                entries = np.asarray(p[name], F64)[at[name] : at[name] + math.prod(shape), 0]
                own[name] = entries.reshape(shape, order="F")
                at[name] += entries.size
            parts.append((encoder, own))
        return parts

    def blocks(self, p):
        """[(encoder, {"w": array, ...}, its outputs as a slice), ...] in the order given."""
        numbers = range(len(self.encoders))
        places, start = {}, 0
        for i in sorted(numbers, key=lambda i: isinstance(self.encoders[i], OneHot)):
            places[i] = slice(start, start + self.encoders[i].outputs)
            start = places[i].stop
        return [(*part, places[i]) for i, part in enumerate(self.split(p))]

    def forward(self, p, X):
        A = np.empty((self.outputs, X.shape[1]))
        for encoder, own, place in self.blocks(p):
            A[place] = encoder.forward(own, np.asarray(X[encoder.row], F64))
        return A, A

    def errors(self, p, X, dtype):
        """What A may be off by."""
        errors = np.empty((self.outputs, X.shape[1]))
        for encoder, own, place in self.blocks(p):
            errors[place] = encoder.errors(own, np.asarray(X[encoder.row], F64), dtype)
        return errors

    def gradient_errors(self, dA, p, X, dtype):
        """What the gradients may be off by where dA is exact; 1/m is one rounding, its product with the sum another."""
        columns = {name: [] for name in self.shapes()}
        for encoder, own, place in self.blocks(p):
            errors = encoder.gradient_errors(dA[place], own, np.asarray(X[encoder.row], F64), dtype)
            for name, error in errors.items():
                columns[name].append(error.reshape(-1, 1, order="F"))
        return {name: np.vstack(parts) / X.shape[1] for name, parts in columns.items()}

    def through(self, dA, p, A, Z):
        return dA, {}

    def backward(self, dA, p, X):
        columns, dX = {name: [] for name in self.shapes()}, np.zeros(X.shape)
        for encoder, own, place in self.blocks(p):
            gradients, dx = encoder.backward(dA[place], own, np.asarray(X[encoder.row], F64))
            dX[encoder.row] += dx
            for name, gradient in gradients.items():
                columns[name].append(gradient.reshape(-1, 1, order="F"))
        m = max(X.shape[1], 1)
        return {name: np.vstack(parts) / m for name, parts in columns.items()}, dX


class Scale:
    """A = s * A_prev."""

    activation = "linear"

    def forward(self, p, A_prev):
        A = scale_forward(p["s"], A_prev)
        return A, A

    def through(self, dA, p, A, Z):
        return dA, {}

    def backward(self, dZ, p, A_prev):
        ds, dA_prev = scale_backward(dZ, p["s"], A_prev)
        return {"s": ds}, dA_prev


class Dense:
    """A = g(Z), or a * g(Z) + (1 - a) * Z, and then a factor for each entry, which dropout's mask is."""

    def __init__(self, activation="linear", *, mix=False, factors=1.0, negative_slope=0.01):
        self.activation, self.mix, self.factors, self.negative_slope = activation, mix, factors, negative_slope

    def forward(self, p, A_prev):
        b = p.get("b", np.zeros((len(p["W"]), 1)))
        A, Z = dense_forward(p["W"], A_prev, b, self.activation, self.negative_slope)
        if self.mix:
            A = mix_forward(p["a"], Z, self.activation, self.negative_slope)
        return A * self.factors, Z

    def through(self, dA, p, A, Z):
        dA = dA * self.factors
        if self.mix:
            dZ, da = mix_backward(dA, p["a"], Z, self.activation, self.negative_slope)
            return dZ, {"a": da}
        H = operand(self.activation, activation_forward(Z, self.activation, self.negative_slope), Z)
        return activation_backward(dA, H, self.activation, self.negative_slope), {}

    def backward(self, dZ, p, A_prev):
        _, dW, db, dA_prev = dense_backward(dZ, p["W"], A_prev, None, "linear")
        return {"W": dW} | ({"b": db} if "b" in p else {}), dA_prev


def of_layer(parameters, l):
    """{"W": array, ...} of {"W1": array, ...}."""
    return {name[:1]: np.asarray(a, F64) for name, a in parameters.items() if name[1:] == str(l)}


def chain_forward(layers, parameters, X):
    """The lists A and Z with A[0] = X and Z[0] = None."""
    A, Z = [X], [None]
    for l, layer in enumerate(layers, start=1):
        A_l, Z_l = layer.forward(of_layer(parameters, l), A[-1])
        A.append(A_l)
        Z.append(Z_l)
    return A, Z


def chain(layers, parameters, X, Y, loss_name, *, l2=0.0, l1=0.0, sample_weight=None):
    """J, its derivatives {"dW1": ..., ...}, and those of each example's own L by X; l2 and l1 are for every W."""
    A, Z = chain_forward(layers, parameters, X)
    L, _, dZ = loss(Z[-1], Y, loss_name, layers[-1].activation)
    dX_of = weight_columns(dZ, sample_weight)
    weights = {name: np.asarray(a, F64) for name, a in parameters.items() if name[0] == "W"}
    J = weighted_mean(L, sample_weight) + sum((l2 / 2 * W**2 + l1 * np.abs(W)).sum() for W in weights.values())
    gradients = {}
    for l in range(len(layers), 0, -1):
        p, more = of_layer(parameters, l), {}
        if l < len(layers):
            dX_of, more = layers[l - 1].through(dX_of, p, A[l], Z[l])
        own, dX_of = layers[l - 1].backward(dX_of, p, A[l - 1])
        gradients |= {f"d{name}{l}": gradient for name, gradient in (own | more).items()}
    for name, W in weights.items():
        gradients["d" + name] = gradients["d" + name] + l2 * W + l1 * np.sign(W)
    return J, gradients, dX_of


# ---- optimizers: theta, g and the state s of one parameter array ----


class Optimizer:
    """Keeps the state of each parameter by name; `step` changes the parameters in place."""

    def __init__(self, learning_rate):
        self.learning_rate = learning_rate
        self.t = 0
        self.state = {}

    def step(self, parameters, gradients, learning_rate=None):
        """One update; `learning_rate` stands for this step's rate where a schedule gives it."""
        self.t += 1
        alpha = self.learning_rate if learning_rate is None else learning_rate
        for name, theta in parameters.items():
            g = gradients["d" + name]
            state = self.state.setdefault(name, [np.zeros(theta.shape) for _ in range(2)])
            self.update(theta, g, state, alpha, is_weight=name.startswith("W"))

    def update(self, theta, g, state, alpha, is_weight):
        raise NotImplementedError


class SGD(Optimizer):
    """v := mu v - alpha g, theta := theta + v; with Nesterov theta := theta + mu v - alpha g."""

    def __init__(self, learning_rate=0.1, momentum=0.0, nesterov=False):
        super().__init__(learning_rate)
        self.mu, self.nesterov = momentum, nesterov

    def update(self, theta, g, state, alpha, is_weight):
        v = state[0]
        v[...] = self.mu * v - alpha * g
        theta += self.mu * v - alpha * g if self.nesterov else v


class Adam(Optimizer):
    """Kingma and Ba 2015, algorithm 1; eps is added to the root of the corrected v."""

    def __init__(self, learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
        super().__init__(learning_rate)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def update(self, theta, g, state, alpha, is_weight):
        m, v = state
        m[...] = self.beta1 * m + (1 - self.beta1) * g
        v[...] = self.beta2 * v + (1 - self.beta2) * g**2
        m_hat = m / (1 - self.beta1**self.t)
        v_hat = v / (1 - self.beta2**self.t)
        theta -= alpha * m_hat / (np.sqrt(v_hat) + self.eps)


class AdamW(Adam):
    """W := W - alpha weight_decay W for weights only, then Adam (Loshchilov and Hutter 2019)."""

    def __init__(self, learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
        super().__init__(learning_rate, beta1, beta2, eps)
        self.weight_decay = weight_decay

    def update(self, theta, g, state, alpha, is_weight):
        if is_weight:
            theta -= alpha * self.weight_decay * theta
        super().update(theta, g, state, alpha, is_weight)


class RMSprop(Optimizer):
    """s := a s + (1 - a) g^2, theta := theta - alpha g / (sqrt(s) + eps); not centred."""

    def __init__(self, learning_rate=1e-2, alpha=0.99, eps=1e-8):
        super().__init__(learning_rate)
        self.smoothing, self.eps = alpha, eps

    def update(self, theta, g, state, alpha, is_weight):
        s = state[0]
        s[...] = self.smoothing * s + (1 - self.smoothing) * g**2
        theta -= alpha * g / (np.sqrt(s) + self.eps)


class Adagrad(Optimizer):
    """s := s + g^2, theta := theta - alpha g / (sqrt(s) + eps)."""

    def __init__(self, learning_rate=1e-2, eps=1e-10):
        super().__init__(learning_rate)
        self.eps = eps

    def update(self, theta, g, state, alpha, is_weight):
        s = state[0]
        s += g**2
        theta -= alpha * g / (np.sqrt(s) + self.eps)


# ---- the same cost in torch, for its autograd and its optimizers ----


def torch_cost(X, Y, theta, activations, loss_name, l2=0.0, sample_weight=None):
    """network_cost as a torch scalar; theta holds torch's leaves by name."""
    import torch  # an optional second opinion: only tests that have it call this

    functional = torch.nn.functional
    g = {name: functools.partial(activation.torch, functional) for name, activation in ELEMENTWISE.items()}
    g["softmax"] = lambda Z: torch.softmax(Z, 0)
    A, Y = torch.tensor(X), torch.tensor(Y)
    for layer, name in enumerate(activations, start=1):
        Z = theta[f"W{layer}"] @ A + theta[f"b{layer}"]
        A = g[name](Z)
    L = {
        "binary_cross_entropy": lambda: functional.binary_cross_entropy_with_logits(Z, Y, reduction="none").sum(0),
        "cross_entropy": lambda: functional.cross_entropy(Z.T, Y.T, reduction="none"),
        "squared_error": lambda: (0.5 * (A - Y) ** 2).sum(0),
        "absolute_error": lambda: (A - Y).abs().sum(0),
        "huber": lambda: functional.huber_loss(A, Y, reduction="none", delta=1.0).sum(0),
        "quantile": lambda: torch.maximum(0.5 * (Y - A), 0.5 * (A - Y)).sum(0),
        "poisson": lambda: functional.poisson_nll_loss(Z, Y, log_input=True, reduction="none").sum(0),
    }[loss_name]()
    w = torch.ones_like(L) if sample_weight is None else torch.tensor(sample_weight)
    squares = sum((theta[f"W{layer}"] ** 2).sum() for layer in range(1, len(activations) + 1))
    return (w * L).sum() / w.sum() + 0.5 * l2 * squares


# ---- error bounds ----


@functools.cache
def unit_roundoff(dtype):
    """u = 2^-24 for float32, 2^-53 for float64."""
    return float(np.finfo(dtype).eps) / 2


def gamma(n, u):
    """n u / (1 - n u): the relative error that n roundings can add up to (Higham, lemma 3.1)."""
    if n * u >= 1:
        raise ValueError(f"{n} roundings of unit {u} leave no bound")
    return n * u / (1 - n * u)


@functools.cache
def gamma_both(n, dtype):
    """gamma for n roundings in a kernel of this dtype and n in the float64 oracle."""
    return gamma(n, unit_roundoff(dtype)) + gamma(n, unit_roundoff(F64))


def ulp(x, dtype):
    """The spacing of this dtype's numbers at |x|; among subnormals, the smallest of them."""
    info = np.finfo(dtype)
    x = np.asarray(x, F64)
    exponent = np.where(x == 0, info.minexp, np.frexp(x)[1] - 1)
    return np.ldexp(1.0, np.maximum(exponent, info.minexp) - info.nmant)


def _underflow(n, dtype):
    """What n operations can lose where a result falls among the subnormals."""
    return n * float(np.finfo(dtype).smallest_subnormal)


def bound_Z(W, A_prev, b, dtype):
    """|z^ - z| <= gamma_(K+1) (|W| |x| + |b|) for a sum of K products and b."""
    W, A_prev, b = (np.abs(np.asarray(array, F64)) for array in (W, A_prev, b))
    K = W.shape[1]
    return gamma_both(K + 1, dtype) * (W @ A_prev + b) + _underflow(K + 1, dtype)


def ulp_budget(name):
    """How many ULP a kernel's g may be off."""
    return ELEMENTWISE[name].ulps


def oracle_budget(name, Z):
    """How many ULP of float64 g here may be off at Z."""
    function = ELEMENTWISE[name]
    return function.oracle_ulps(np.asarray(Z, F64)) if function.oracle_ulps else function.ulps


def bound_A(Z, name, dtype, Z_error=0.0, negative_slope=0.01):
    """|a^ - a| where z is off by at most Z_error: mean value theorem, and the ULP budget of g."""
    Z = np.asarray(Z, F64)
    if Z.size == 0:
        return np.zeros(Z.shape)
    if name == "softmax":
        return _bound_softmax(Z, dtype, Z_error)
    function = ELEMENTWISE[name]
    low, high = Z - Z_error, Z + Z_error
    points = (low, high, *(np.clip(z, low, high) for z in function.extremes))
    reach = Z_error * np.max([np.abs(function.derivative_of_z(z, negative_slope)) for z in points], axis=0)
    largest = np.abs(function.g(Z, negative_slope)) + reach
    rounding = ulp_budget(name) * ulp(largest, dtype) + oracle_budget(name, Z) * ulp(largest, F64)
    # the oracle multiplies z with a factor that may have underflowed, as erfc and its half both do
    rounding = rounding + np.abs(Z) * _underflow(2, F64)
    return reach + rounding


def bound_mix(a, Z, name, dtype, Z_error=0.0, negative_slope=0.01):
    """|a^ - a| of a * g(Z) + (1 - a) * Z, as a kernel adds it up in either order: four roundings of each term."""
    a, Z_size = np.abs(np.asarray(a, F64)), np.abs(Z) + Z_error
    A = np.abs(activation_forward(Z, name, negative_slope))
    A_error = bound_A(Z, name, dtype, Z_error, negative_slope)
    size = a * (A + A_error) + (1 + a) * Z_size
    return a * A_error + (1 + a) * Z_error + gamma_both(4, dtype) * size + _underflow(4, dtype)


def _bound_softmax(Z, dtype, Z_error):
    """Relative errors of exp(z - max), of their sum and of the quotient, put together.

    d = z - max is rounded, |d| u in it is |d| u relative in exp(d); exp is good to 4 ULP = 8 u. An
    error of Z_error in every z changes the quotient by a factor of at most exp(2 Z_error).
    """
    n = Z.shape[0]
    A = softmax(Z)
    d = Z.max(axis=0, keepdims=True) - Z
    both = gamma_both(1, dtype)
    exp_error = (d + 8) * both
    sum_error = (A * exp_error).sum(axis=0, keepdims=True) + gamma_both(n, dtype)
    relative = np.expm1(exp_error + sum_error + 2 * both)
    from_Z = np.expm1(2 * np.max(np.broadcast_to(Z_error, Z.shape), axis=0, keepdims=True))
    return A * (relative + from_Z + relative * from_Z) + _underflow(8, dtype)


def bound_dZ(dA, H, name, dtype, negative_slope=0.01):
    """|dz^ - dz| for given dA and H: the roundings of dA * g'."""
    dA, H = np.abs(np.asarray(dA, F64)), np.asarray(H, F64)
    if name == "softmax":
        # A * (dA - s), s a sum of n products
        n = H.shape[0]
        magnitude = H * (dA + (dA * H).sum(axis=0, keepdims=True))
        return gamma_both(n + 2, dtype) * magnitude + _underflow(n + 2, dtype)
    function = ELEMENTWISE[name]
    if function.terms is None:
        return np.zeros(H.shape)
    lost = gamma_both(function.roundings, dtype) * dA * function.terms(H, negative_slope)
    # what underflows first is an exponential; a cubic in z may be multiplied with it, and dA
    return lost + _underflow(function.roundings, dtype) * (1 + dA) * (1 + np.abs(np.clip(H, -100, 100))) ** 3


def bound_backward(dA, W, A_prev, H, name, dtype, negative_slope=0.01):
    """Bounds of dZ, dW, db, dA_prev: the error that dZ carries in, and each sum's own roundings.

    A term of dW meets its product, m - 1 additions, 1/m and the product with it: m + 2 roundings;
    a term of db one fewer; a term of dA_prev meets n.
    """
    W, A_prev = np.abs(np.asarray(W, F64)), np.abs(np.asarray(A_prev, F64))
    n, m = W.shape[0], A_prev.shape[1]
    dZ_error = bound_dZ(dA, H, name, dtype, negative_slope)
    dZ = np.abs(activation_backward(dA, H, name, negative_slope)) + dZ_error
    share = 1 / max(m, 1)

    def of_sum(roundings, magnitude, carried):
        own = gamma_both(roundings, dtype) * magnitude
        return own + carried + _underflow(roundings, dtype)

    return (
        dZ_error,
        of_sum(m + 2, share * (dZ @ A_prev.T), share * (dZ_error @ A_prev.T)),
        of_sum(m + 1, share * dZ.sum(axis=1, keepdims=True), share * dZ_error.sum(axis=1, keepdims=True)),
        of_sum(n, W.T @ dZ, W.T @ dZ_error),
    )


# Roundings in one entry of a loss: exp and log, each to 4 ULP = 8 u, and a few sums and products.
_LOSS_ROUNDINGS = 24

CHUNK = 4096
"""Examples whose terms are added up in one go at most; sums of chunks are added in a tree."""

RUN = 64
"""Entries of a loss that a lane of a vector adds up at most in the kernel's dtype; from there on it goes in float64."""


def additions(m):
    """Additions that a term of a sum over m examples meets at most: chunk + log2(m / chunk)."""
    return min(m, CHUNK) + math.ceil(math.log2(max(m / CHUNK, 1)))


def bound_loss(Z, Y, name, dtype, sample_weight=None, parameter=None):
    """Bounds of (cost, A, dZ) of a fused loss: cost is a sum over units and examples.

    Magnitudes are those of the terms that are added, not of the result: the losses cancel. In the kernel's dtype a term
    meets its own roundings and those of a lane: RUN additions, or as many as an example has units. Then it goes on in
    float64, over the lanes and over the examples, as do the weights and their sum.
    """
    Z, Y = np.asarray(Z, F64), np.asarray(Y, F64)
    n_y, m = Z.shape
    activation = MATCHED.get(name, "linear")
    _, A, dZ = loss(Z, Y, name, parameter=parameter)
    smooth = smoothed(Y, name, parameter)
    is_smoothed, Y = smooth is not Y, smooth
    if name == "binary_cross_entropy":
        terms = (1 + np.abs(Y)) * np.abs(Z) + np.log1p(np.exp(-np.abs(Z)))
    elif name == "cross_entropy":
        lse = log_sum_exp(Z)
        d = Z.max(axis=0, keepdims=True) - Z
        terms = Y * (np.abs(lse) + np.abs(Z) + np.abs(Z).max(axis=0, keepdims=True))
        # the relative error of the sum of exponentials is absolute in its logarithm
        terms = terms + Y * (1 + (A * d).sum(axis=0, keepdims=True))
    elif name == "squared_error":
        terms = (np.abs(Z) + np.abs(Y)) * np.abs(Z - Y)
    elif name == "poisson":
        terms = A + np.abs(Y * Z)
    elif name == "huber":
        # c (d - c/2) with |c| <= |d|, both off by no more than d's rounding
        delta = PARAMETERS[name][1] if parameter is None else parameter
        terms = (np.abs(Z) + np.abs(Y)) * np.minimum(np.abs(Z - Y), delta)
    else:
        terms = np.abs(Z) + np.abs(Y)
    roundings = _LOSS_ROUNDINGS + min(n_y * m, RUN + n_y)
    share = gamma_both(roundings, dtype) + gamma_both(2 * (n_y + additions(m)), F64)
    cost = share * weighted_mean(terms.sum(axis=0), sample_weight)
    A_error = bound_A(Z, activation, dtype)
    # absolute error's derivative is a sign; the others are one subtraction after A
    own = np.zeros(Z.shape) if name == "absolute_error" else gamma_both(1, dtype) * np.abs(dZ)
    if is_smoothed:
        own = own + gamma_both(3, dtype) * Y
    carried = A_error if name in MATCHED else np.zeros(Z.shape)
    dZ_error = weight_columns(own + carried, sample_weight)
    if sample_weight is not None:
        # m / sum of w in float64; that rounded, its product with w, the product with the derivative
        scaled = np.abs(weight_columns(dZ, sample_weight)) + dZ_error
        dZ_error = dZ_error + (gamma_both(3, dtype) + gamma_both(additions(m), F64)) * scaled + _underflow(3, dtype)
    return cost + _underflow(roundings, dtype), A_error, dZ_error


# ---- running errors: an optimizer's step, with what its roundings add up to ----


class Rounded(NamedTuple):
    """A number as computed in float64, and how far the number of a kernel may be from it.

    Each operation carries on what its operands are off by (A and B below, for a and b), and adds its own rounding, of a
    result of at most |c| + what that is off by: u in the kernel, and 2^-53 here. A product or a quotient may lose half
    of a subnormal too. A kernel that leaves out a rounding, as a fused multiply-add does, is within the same bound.
    Higham, sec. 3.3.

        a + b   A + B                   a / b   (A + |a / b| B) / (|b| - B)
        a b     A |b| + |a| B + A B     sqrt a  the smaller of A / sqrt a and sqrt A

    A quotient has no bound (infinity) where b may be 0.
    """

    value: np.ndarray
    error: np.ndarray
    dtype: np.dtype
    """Of the kernel's operations."""

    @classmethod
    def exact(cls, value, dtype):
        value = np.asarray(value, F64)
        return cls(value, np.zeros(value.shape), np.dtype(dtype))

    def to(self, dtype):
        """As a number of another dtype."""
        return Rounded(self.value, self.error, np.dtype(dtype))._after(self.value, self.error)

    def _after(self, value, carried, lost=0.0):
        return Rounded(value, carried + gamma_both(1, self.dtype) * (np.abs(value) + carried) + lost, self.dtype)

    def _lost_with(self, b):
        """What a product or a quotient can lose by underflow: nothing where an operand is sure to be 0."""
        none = ((self.value == 0) & (self.error == 0)) | ((b.value == 0) & (b.error == 0))
        return np.where(none, 0.0, _underflow(1, self.dtype))

    def _other(self, b):
        return b if isinstance(b, Rounded) else Rounded.exact(b, self.dtype)

    def __add__(self, b):
        b = self._other(b)
        return self._after(self.value + b.value, self.error + b.error)

    def __neg__(self):
        return Rounded(-self.value, self.error, self.dtype)

    def __sub__(self, b):
        return self + -self._other(b)

    def __rsub__(self, b):
        return -self + b

    def __mul__(self, b):
        b = self._other(b)
        carried = self.error * np.abs(b.value) + np.abs(self.value) * b.error + self.error * b.error
        return self._after(self.value * b.value, carried, self._lost_with(b))

    def __truediv__(self, b):
        b = self._other(b)
        value = self.value / b.value
        smallest = np.abs(b.value) - b.error
        with np.errstate(divide="ignore", invalid="ignore"):
            carried = np.where(smallest > 0, (self.error + np.abs(value) * b.error) / smallest, np.inf)
        return self._after(value, carried, self._lost_with(b))

    def sqrt(self):
        root = np.sqrt(self.value)
        with np.errstate(divide="ignore", invalid="ignore"):
            carried = np.fmin(self.error / root, np.sqrt(self.error))
        return self._after(root, carried)


class RoundedUpdates:
    """The optimizers' formulas above for one array of parameters, in numbers that know how far a kernel may be off.

    What all entries share (the rate, 1 - beta, Adam's corrections) is computed in float64, then rounded. Adam's m goes
    on by (1 - beta1)(g - m), which is the same but for rounding. A kernel may put the corrections of m and v into the
    rate and beside the root of v, with no more roundings.
    """

    def __init__(self, optimizer, theta, dtype):
        """`optimizer`: one of those above; `theta`: where it begins, in numbers of this dtype."""
        self.of, self.dtype = optimizer, np.dtype(dtype)
        self.theta = Rounded.exact(theta, dtype)
        self.state = [Rounded.exact(np.zeros(np.shape(theta)), dtype) for _ in range(2)]
        self.t = 0

    def shared(self, value):
        """A number that has been through one operation in float64 at most."""
        return (Rounded.exact(value, F64) + 0).to(self.dtype)

    @property
    def bounded(self):
        """Whether there is a bound: a gradient that a penalty all but cancels may have left a quotient without."""
        return np.isfinite(self.theta.error).all()

    @property
    def signs_are_sure(self):
        """Whether the kernel's theta is on the same side of 0 in every entry, or is 0 like this one."""
        return ((np.abs(self.theta.value) > self.theta.error) | (self.theta.error == 0)).all()

    def penalised(self, g, l2=0.0, l1=0.0):
        """The gradient g with that of l2/2 theta^2 + l1 |theta|; signs must be sure."""
        of_sizes = self.shared(l1) * np.sign(self.theta.value)
        return Rounded.exact(g, self.dtype) + (self.theta * self.shared(l2) + of_sizes)

    def penalty(self, l2=0.0, l1=0.0):
        """l2/2 sum theta^2 + l1 sum |theta|, and its bound: n additions, a square, and l2 and l1."""
        theta, error = np.abs(self.theta.value), self.theta.error
        value = (l2 / 2 * theta**2 + l1 * theta).sum()
        carried = (l2 * (theta + error) * error + l1 * error).sum()
        lost = _underflow(theta.size, self.dtype)
        return value, carried + gamma_both(theta.size + 4, self.dtype) * (value + carried) + lost

    def step(self, g, *, is_weight):
        """One step with this gradient: exact numbers, or Rounded."""
        self.t += 1
        g = g if isinstance(g, Rounded) else Rounded.exact(g, self.dtype)
        getattr(self, type(self.of).__name__)(g, is_weight)

    def SGD(self, g, is_weight):
        mu, step = self.shared(self.of.mu), g * self.shared(self.of.learning_rate)
        self.state[0] = v = self.state[0] * mu - step
        self.theta = self.theta + (v * mu - step if self.of.nesterov else v)

    def Adam(self, g, is_weight):
        m, v = self.state
        beta1, beta2 = self.of.beta1, self.of.beta2
        m = m + (g - m) * self.shared(1 - beta1)
        v = v * self.shared(beta2) + g * g * self.shared(1 - beta2)
        self.state = [m, v]
        m_hat, v_hat = (s / self.correction(beta) for s, beta in ((m, beta1), (v, beta2)))
        step = m_hat * self.shared(self.of.learning_rate) / (v_hat.sqrt() + self.shared(self.of.eps))
        self.theta = self.theta - step

    def correction(self, beta):
        """1 - beta^t, the power good to an ULP."""
        power = beta**self.t
        return (1 - Rounded(np.asarray(power), 4 * unit_roundoff(F64) * power, np.dtype(F64))).to(self.dtype)

    def AdamW(self, g, is_weight):
        if is_weight:
            decay = Rounded.exact(self.of.learning_rate, F64) * self.of.weight_decay
            self.theta = self.theta * (1 - decay).to(self.dtype)
        self.Adam(g, is_weight)

    def RMSprop(self, g, is_weight):
        a = self.of.smoothing
        self._divided(g, self.state[0] * self.shared(a) + g * g * self.shared(1 - a))

    def Adagrad(self, g, is_weight):
        self._divided(g, self.state[0] + g * g)

    def _divided(self, g, s):
        self.state[0] = s
        self.theta = self.theta - g / (s.sqrt() + self.shared(self.of.eps)) * self.shared(self.of.learning_rate)


def clipped(gradients, value=np.inf, norm=np.inf):
    """Gradients by name, each Rounded: entries within +-value, then all of them together made no longer than `norm`.

    What reaches a limit is off by that limit's rounding. The length of a vector changes by no more than the length of
    what it is off by; its squares are summed in any order: n + 1 roundings, of which the root halves the effect.
    """
    kept, squares, squares_of_errors, n = {}, 0.0, 0.0, 0
    for name, g in gradients.items():
        limited, size = np.clip(g.value, -value, value), np.abs(g.value) + g.error
        rounding = np.where(size > 0.99 * value, gamma_both(1, g.dtype) * value, 0.0) if np.isfinite(value) else 0.0
        kept[name] = g = Rounded(limited, g.error + rounding, g.dtype)
        squares, n = squares + (limited**2).sum(), n + limited.size
        squares_of_errors += (g.error**2).sum()
    length, error = np.sqrt(squares), np.sqrt(squares_of_errors)
    error = error + gamma_both(n + 2, g.dtype) * (length + error)
    if length + error > norm:
        share = Rounded.exact(norm, g.dtype) / Rounded(length, error, g.dtype)
        # length, like share, has no jump at the limit
        share = share._replace(value=np.minimum(share.value, 1.0))
        kept = {name: g * share for name, g in kept.items()}
    return kept


# ---- networks as other programs compute them ----

FORM_ROUNDINGS = 12
"""Operations in any form of an activation, each rounded relative to a number of at most 1 + |z| + |a|."""


def network_bound(
    X, parameters, activations, dtype, negative_slope=0.01, roundings=FORM_ROUNDINGS, *, error=0.0, first=1
):
    """A[L] and how far any program of that dtype may be from it, for any order of its sums.

    What a layer is off by goes through the next layer's weights; g is as exact as nnkern's, or off by `roundings`. X is
    what the layer of number `first` takes, off by `error`.
    """
    A = np.asarray(X, F64)
    error = np.zeros(A.shape) + error
    for layer, name in enumerate(activations, start=first):
        W = np.asarray(parameters[f"W{layer}"], F64)
        b = np.asarray(parameters.get(f"b{layer}", np.zeros((len(W), 1))), F64)
        Z_error = bound_Z(W, np.abs(A) + error, b, dtype) + np.abs(W) @ error
        A, Z = dense_forward(W, A, b, name, negative_slope)
        error = bound_A(Z, name, dtype, Z_error, negative_slope)
        if name != "linear":
            error = error + roundings * unit_roundoff(dtype) * (1 + np.abs(Z) + Z_error + np.abs(A))
    return A, error
