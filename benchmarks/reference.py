"""The equations in float64 numpy, each with an estimate of the rounding error that a side may have.

Every quantity is a pair: its value in float64 and V, the variance of its rounding error in units
of u^2 (u the unit roundoff of the precision that is checked; float64's own is added to it).

Worst-case bounds are useless after two layers: they grow with the norm of |W|. So the model is the
probabilistic one of Higham and Mary (A new approach to probabilistic rounding error analysis, SIAM
J. Sci. Comput. 41, 2019): roundings are independent with mean zero, and then a sum of K products,
in whatever order, has the standard deviation

    sqrt(K) u |x| . |y|  <=  K u sqrt(sum x_k^2 y_k^2)          (Cauchy-Schwarz)

which `product` adds to the variances of its operands. exp, log, tanh and sigmoid count 4 ULP = 8 u.
relu's derivative is the wrong one of 0 and 1 with a probability of at most 2 exp(-Z^2 / 2 V u^2).
Within one step each example has its own roundings, so their errors are independent. From step to
step, to first order in the learning rate, an error of the parameters is propagated unchanged: the
bounds of the steps add up linearly. A result must lie within LAMBDA standard deviations; the
model's probability that one entry is outside is 2 exp(-LAMBDA^2 / 2) = 3e-14.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cases import one_hot

LAMBDA = 8.0


def roundoff(dtype) -> float:
    return float(np.finfo(dtype).eps / 2 + np.finfo(np.float64).eps / 2)


@dataclass
class Inexact:
    """A value (float64) and the variance of its error in units of u^2 (None: exact)."""

    value: np.ndarray
    V: np.ndarray | None = None

    @property
    def T(self) -> Inexact:
        return Inexact(self.value.T, None if self.V is None else self.V.T)


def exact(array) -> Inexact:
    return Inexact(np.asarray(array, np.float64))


def product(P: Inexact, Q: Inexact, more: int = 0) -> Inexact:
    """P Q; `more` counts the roundings beside the K of the products (a bias, a factor).

    The variances need two digits only: they are multiplied in float32.
    """
    K = P.value.shape[1] + more
    P2 = np.square(P.value, dtype=np.float32, casting="unsafe")
    Q2 = np.square(Q.value, dtype=np.float32, casting="unsafe")
    V = P2 @ (np.float32(K**2) * Q2 + (0 if Q.V is None else Q.V.astype(np.float32)))
    if P.V is not None:
        V += P.V.astype(np.float32) @ Q2
    return Inexact(P.value @ Q.value, V.astype(np.float64))


def pre_activation(W: Inexact, A_prev: Inexact, b: Inexact) -> Inexact:
    """Z = W A_prev + b"""
    Z = product(W, A_prev, more=2)
    return Inexact(Z.value + b.value, Z.V + np.square(b.value))


def activation(Z: Inexact, name: str) -> Inexact:
    """A = g(Z)"""
    if name == "linear":
        return Z
    if name == "relu":
        return Inexact(np.maximum(Z.value, 0), Z.V)
    if name == "tanh":
        A = np.tanh(Z.value)
        return Inexact(A, np.square(1 - A * A) * Z.V + np.square(8 * A))
    if name == "sigmoid":
        A = np.exp(-np.logaddexp(0, -Z.value))
        return Inexact(A, np.square(A * (1 - A)) * Z.V + np.square(12 * A))
    if name == "softmax":
        shifted = Z.value - Z.value.max(axis=0)
        A = np.exp(shifted)
        A /= A.sum(axis=0)
        # Z - max rounds by |Z - max| u, then exp, the sum over units, the division.
        rounded = np.square(shifted).max(axis=0) + 16**2 + len(A) ** 2
        return Inexact(A, A * A * (2 * (Z.V + (A * A * Z.V).sum(axis=0)) + rounded))
    raise ValueError(name)


def activation_backward(dA: Inexact, A: Inexact, Z: Inexact | None, name: str, u: float) -> Inexact:
    """dZ = dA g'(A); an inexact A needs the Z that it came from, for relu's flips."""
    if name == "linear":
        return dA
    V_dA = np.float64(0) if dA.V is None else dA.V
    V_A = np.float64(0) if A.V is None else A.V
    if name == "relu":
        on = A.value > 0
        V = on * V_dA
        if Z is not None:
            with np.errstate(divide="ignore", over="ignore"):
                flips = np.minimum(1, 2 * np.exp(-np.square(Z.value) / (2 * Z.V * u * u)))
            V = V + np.square(dA.value / u) * flips
        return Inexact(dA.value * on, V)
    if name == "tanh":
        slope = 1 - np.square(A.value)
        V = np.square(slope) * V_dA + np.square(2 * dA.value * A.value) * V_A
        return Inexact(dA.value * slope, V + np.square(3 * dA.value))
    raise ValueError(name)


def loss(Z: Inexact, Y: np.ndarray, name: str) -> tuple[Inexact, Inexact]:
    """(cost, dZ) of a matched loss: dZ = A - Y for each example, the cost a mean over them."""
    m = Z.value.shape[1]
    A = activation(Z, name)
    dZ = A.value - Y
    if name == "sigmoid":
        L = np.logaddexp(0, Z.value) - Y * Z.value
        size = 1 + np.abs(Z.value) + L
        rounded = 16**2
    else:
        top = Z.value.max(axis=0)
        log_sum = np.log(np.exp(Z.value - top).sum(axis=0))
        L = top + log_sum - (Y * Z.value).sum(axis=0)
        size = 1 + np.abs(top) + log_sum + (top - Z.value.min(axis=0))
        rounded = 16**2 + len(Y) ** 2
    V = (dZ * dZ * Z.V).sum() / m**2 + np.square(size).sum() * (1 + (rounded / m**2))
    return Inexact(L.sum() / m, V), Inexact(dZ, A.V + dZ * dZ)


def forward(case, X: Inexact, parameters) -> tuple[list[tuple[Inexact, Inexact]], Inexact]:
    """(Z, A) of the hidden layers, and Z of the last. `parameters` maps names to arrays."""
    A = X
    hidden = []
    for layer, name in enumerate(case.activations, 1):
        Z = pre_activation(exact(parameters[f"W{layer}"]), A, exact(parameters[f"b{layer}"]))
        if layer < len(case.activations):
            A = activation(Z, name)
            hidden.append((Z, A))
    return hidden, Z


def step(case, X, Y, parameters, u: float):
    """One step of gradient descent from exact parameters.

    Gives the cost and its bound, {name: gradient}, {name: new value}, {name: bound of that}.
    """
    X = exact(X)
    m = X.value.shape[1]
    hidden, Z = forward(case, X, parameters)
    cost, dZ = loss(Z, Y, case.output)
    ones = exact(np.ones((m, 1)))
    gradients, updated, bounds = {}, {}, {}
    for layer in range(len(case.activations), 0, -1):
        W = exact(parameters[f"W{layer}"])
        A_prev = hidden[layer - 2][1] if layer > 1 else X
        # 1/m and the rate may be multiplied in before or after the sum.
        gradients[f"W{layer}"] = product(dZ, A_prev.T, more=6)
        gradients[f"b{layer}"] = product(dZ, ones, more=6)
        if layer > 1:
            dA = product(W.T, dZ, more=2)
            Z, A = hidden[layer - 2]
            dZ = activation_backward(dA, A, Z, case.activations[layer - 2], u)
    for name, gradient in gradients.items():
        rate = case.learning_rate / m
        updated[name] = parameters[name] - rate * gradient.value
        V = rate * rate * gradient.V + np.square(updated[name])
        bounds[name] = LAMBDA * u * np.sqrt(V)
        gradient.value /= m
    return (float(cost.value), LAMBDA * u * float(np.sqrt(cost.V))), gradients, updated, bounds


def train(case, X, labels, initial, epochs: int, dtype):
    """Epochs of contiguous batches in order: [(cost, bound) per epoch], {name: (value, bound)}.

    An epoch's cost is the mean over examples of each batch's cost before its update.
    """
    u = roundoff(dtype)
    Y = one_hot(labels, case.n[-1], np.float64)
    parameters = {name: np.asarray(array, np.float64) for name, array in initial.items()}
    bounds = {name: np.zeros(array.shape) for name, array in initial.items()}
    costs = []
    for _ in range(epochs):
        total = total_bound = 0.0
        for start in range(0, case.examples, case.batch):
            part = slice(start, min(start + case.batch, case.examples))
            (cost, bound), gradients, parameters, step_bounds = step(case, X[:, part], Y[:, part], parameters, u)
            # The error of the parameters changes this cost, to first order, by that much.
            drift = sum(float(np.vdot(np.abs(gradients[name].value), bounds[name])) for name in bounds)
            total += cost * (part.stop - start)
            total_bound += (bound + drift) * (part.stop - start)
            for name, step_bound in step_bounds.items():
                bounds[name] += step_bound
        costs.append((total / case.examples, total_bound / case.examples))
    return costs, {name: (parameters[name], bounds[name]) for name in bounds}


BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # Adam's, in every library


def descend(case, X, labels, initial, epochs: int):
    """As `train`, by the case's optimizer and without bounds: [cost per epoch], {name: value}.

    Adam: m += (1 - beta1) (g - m), v += (1 - beta2) (g^2 - v), theta -= rate m^ / (sqrt(v^) + eps).
    """
    Y = one_hot(labels, case.n[-1], np.float64)
    parameters = {name: np.asarray(array, np.float64) for name, array in initial.items()}
    moments = {name: np.zeros((2, *array.shape)) for name, array in initial.items()}
    costs = []
    t = 0
    for _ in range(epochs):
        total = 0.0
        for start in range(0, case.examples, case.batch):
            part = slice(start, min(start + case.batch, case.examples))
            (cost, _), gradients, moved, _ = step(case, X[:, part], Y[:, part], parameters, roundoff(np.float64))
            total += cost * (part.stop - start)
            t += 1
            if case.optimizer == "adam":
                for name, g in gradients.items():
                    m, v = moments[name]
                    m += (1 - BETA1) * (g.value - m)
                    v += (1 - BETA2) * (np.square(g.value) - v)
                    root = np.sqrt(v / (1 - BETA2**t)) + EPS
                    moved[name] = parameters[name] - case.learning_rate * (m / (1 - BETA1**t)) / root
            parameters = moved
        costs.append(total / case.examples)
    return costs, parameters


def predict(case, X, initial, dtype) -> tuple[np.ndarray, np.ndarray]:
    """A[L] and its bound."""
    _, Z = forward(case, exact(X), initial)
    A = activation(Z, case.output)
    return A.value, LAMBDA * roundoff(dtype) * np.sqrt(A.V)


class Disagreement(Exception):
    """A result is outside its bound."""


def compare(what: str, came, value, bound) -> None:
    """Raise Disagreement unless |came - value| <= bound everywhere; NaN never agrees."""
    came, value, bound = np.asarray(came), np.asarray(value), np.asarray(bound)
    if came.shape != value.shape:
        raise Disagreement(f"{what}: shape {came.shape}, expected {value.shape}")
    good = np.abs(came - value) <= bound
    if not good.all():
        bad = np.unravel_index(np.argmin(good), good.shape)
        raise Disagreement(
            f"{what}: {np.count_nonzero(~good)} of {good.size} entries outside the bound, the "
            f"first at {tuple(map(int, bad))}: {came[bad]!s}, expected "
            f"{value[bad]:.9g} ± {bound[bad]:.2g}"
        )
