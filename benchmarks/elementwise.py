"""Every activation, every loss and the clipping of gradients against the same in numpy: is any slower?

As in kernels.py both sides run in one child process, which is this file run as a script, pinned to one processor, one
thread each, in alternation. numpy writes in place into preallocated buffers, in the faster of the two memory orders;
numpy has no erf, so gelu needs scipy. nnkern's activations are tried with `out=` and without; its losses allocate their
arrays in each call. Clipping is a whole step of SGD on both sides, from a gradient that is copied first, since the
step changes it.

A result must lie within ROUNDINGS u (1 + |z|)² (1 + |value|) (1 + |dA|) of float64's, u the unit roundoff: three
elementary functions of 8 u each, chained, and the additions and products around them, each rounded relative to a number
of that size. A cost's bound is the mean of such over the examples.
"""

from __future__ import annotations

import json
import sys
from functools import partial

import cases
import numpy as np
import reference
from kernels import begin, rows_of_child, time_sides
from reference import compare
from sides import Session, idlest_cores

ROUNDINGS = 64
SLOPE = 0.01  # leaky_relu's, the default
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
DELTA, Q = 1.0, 0.5  # huber's and quantile's, the defaults
RATE, LIMIT = 0.0078125, 1e-2  # of the clipped step


class Operands:
    """What a call reads and writes, (n, m), in one memory order."""

    def __init__(self, case: cases.ElementwiseCase, dtype: str, order: str):
        rng = np.random.default_rng(4)
        shape = case.n, case.m

        def array(drawn):
            return np.array(drawn, dtype, order=order)

        self.Z, self.dA = array(rng.standard_normal(shape)), array(rng.standard_normal(shape))
        self.labels = rng.integers(0, case.n, case.m)
        self.one_hot = array(cases.one_hot(self.labels, case.n, dtype))
        self.targets = array(rng.integers(0, 2, shape))  # valid for every loss but cross_entropy
        self.A = np.empty_like(self.Z)  # what the backward pass reads
        self.out, self.dZ, self.T, self.U, self.V = (np.empty_like(self.Z) for _ in range(5))
        self.M = np.empty(shape, bool, order=order)


# ---- numpy: g(Z) into out


def sigmoid(Z, out):
    np.negative(Z, out)
    np.exp(out, out)
    np.add(out, 1, out)
    np.reciprocal(out, out)


def softplus(Z, out, T):
    """max(z, 0) + log(1 + e^-|z|)"""
    np.abs(Z, T)
    np.negative(T, T)
    np.exp(T, T)
    np.log1p(T, T)
    np.maximum(Z, 0, out=out)
    np.add(out, T, out)


def exponential_below(Z, out, T, alpha, scale):
    """scale (max(z, 0) + alpha (e^min(z, 0) - 1))"""
    np.minimum(Z, 0, out=T)
    np.expm1(T, T)
    if alpha != 1:
        np.multiply(T, alpha, T)
    np.maximum(Z, 0, out=out)
    np.add(out, T, out)
    if scale != 1:
        np.multiply(out, scale, out)


def half_z_plus(Z, out, T):
    """½ z (1 + t)"""
    np.add(T, 1, T)
    np.multiply(T, Z, out)
    np.multiply(out, 0.5, out)


def tanh_argument(Z, T):
    """√(2/π) (z + 0.044715 z³)"""
    np.multiply(Z, Z, T)
    np.multiply(T, 0.044715, T)
    np.add(T, 1, T)
    np.multiply(T, Z, T)
    np.multiply(T, (2 / np.pi) ** 0.5, T)


def erf(x, out):
    from scipy import special

    special.erf(x, out)


def forward(name: str, Z, out, w: Operands) -> None:
    T = w.T
    if name == "linear":
        np.copyto(out, Z)
    elif name == "sigmoid":
        sigmoid(Z, out)
    elif name == "tanh":
        np.tanh(Z, out)
    elif name == "relu":
        np.maximum(Z, 0, out=out)
    elif name == "leaky_relu":
        np.multiply(Z, SLOPE, T)
        np.maximum(Z, T, out=out)
    elif name == "elu":
        exponential_below(Z, out, T, 1, 1)
    elif name == "selu":
        exponential_below(Z, out, T, SELU_ALPHA, SELU_SCALE)
    elif name == "gelu":
        np.multiply(Z, 0.5**0.5, T)
        erf(T, T)
        half_z_plus(Z, out, T)
    elif name == "gelu_tanh":
        tanh_argument(Z, T)
        np.tanh(T, T)
        half_z_plus(Z, out, T)
    elif name == "silu":
        sigmoid(Z, out)
        np.multiply(out, Z, out)
    elif name == "softplus":
        softplus(Z, out, T)
    elif name == "mish":
        softplus(Z, out, T)
        np.tanh(out, out)
        np.multiply(out, Z, out)
    elif name == "hard_swish":
        np.add(Z, 3, out)
        np.clip(out, 0, 6, out)
        np.multiply(out, Z, out)
        np.multiply(out, 1 / 6, out)
    elif name == "exp":
        np.exp(Z, out)
    elif name == "softmax":
        np.subtract(Z, np.maximum.reduce(Z, axis=0), out)
        np.exp(out, out)
        np.divide(out, np.add.reduce(out, axis=0), out)
    else:
        raise ValueError(name)


# ---- numpy: dA g'(Z) into dZ, from A where that suffices


def backward(name: str, dA, A, Z, dZ, w: Operands) -> None:
    T, M = w.T, w.M
    if name == "linear":
        np.copyto(dZ, dA)
        return
    if name == "softmax":
        np.multiply(dA, A, T)
        np.subtract(dA, np.add.reduce(T, axis=0), dZ)
        np.multiply(dZ, A, dZ)
        return
    if name == "relu":
        np.greater(A, 0, M)
        np.multiply(dA, M, dZ)
        return
    slope(name, A, Z, T, w)
    np.multiply(dA, T, dZ)


def slope(name: str, A, Z, T, w: Operands) -> None:
    """g'(Z) into T"""
    U, V, M = w.U, w.V, w.M
    if name == "sigmoid":
        np.subtract(1, A, T)
        np.multiply(T, A, T)
    elif name == "tanh":
        np.multiply(A, A, T)
        np.subtract(1, T, T)
    elif name == "leaky_relu":
        np.greater(A, 0, M)
        np.multiply(M, 1 - SLOPE, T)
        np.add(T, SLOPE, T)
    elif name == "elu":
        np.minimum(A, 0, out=T)
        np.add(T, 1, T)
    elif name == "selu":
        np.add(A, SELU_SCALE * SELU_ALPHA, T)
        np.greater(A, 0, M)
        np.copyto(T, SELU_SCALE, where=M)
    elif name == "gelu":
        # Φ(z) + z φ(z)
        np.multiply(Z, Z, U)
        np.multiply(U, -0.5, U)
        np.exp(U, U)
        np.multiply(U, Z, U)
        np.multiply(U, (0.5 / np.pi) ** 0.5, U)
        np.multiply(Z, 0.5**0.5, T)
        erf(T, T)
        np.add(T, 1, T)
        np.multiply(T, 0.5, T)
        np.add(T, U, T)
    elif name == "gelu_tanh":
        # ½ (1 + t) + ½ z (1 - t²) √(2/π) (1 + 3 · 0.044715 z²)
        tanh_argument(Z, T)
        np.tanh(T, T)
        np.multiply(Z, Z, U)
        np.multiply(U, 3 * 0.044715, U)
        np.add(U, 1, U)
        np.multiply(U, Z, U)
        np.multiply(U, 0.5 * (2 / np.pi) ** 0.5, U)
        # (1 - t²) u + ½ (1 + t) = (1 + t) ((1 - t) u + ½)
        np.subtract(1, T, V)
        np.multiply(U, V, U)
        np.add(U, 0.5, U)
        np.add(T, 1, T)
        np.multiply(T, U, T)
    elif name == "silu":
        # s (1 + z (1 - s)) = s (1 + z - a)
        sigmoid(Z, T)
        np.subtract(Z, A, U)
        np.add(U, 1, U)
        np.multiply(T, U, T)
    elif name == "softplus":
        # σ(z) = 1 - e^-a
        np.negative(A, T)
        np.expm1(T, T)
        np.negative(T, T)
    elif name == "mish":
        # t + z s (1 - t²), t = tanh softplus z, s = σ(z)
        softplus(Z, U, T)
        np.tanh(U, U)
        sigmoid(Z, T)
        np.multiply(T, Z, T)
        np.multiply(U, U, V)
        np.subtract(1, V, V)
        np.multiply(T, V, T)
        np.add(T, U, T)
    elif name == "hard_swish":
        # (2 z + 3) / 6 within ±3, 0 below, 1 above
        np.multiply(Z, 1 / 3, T)
        np.add(T, 0.5, T)
        np.less_equal(Z, -3, M)
        np.copyto(T, 0, where=M)
        np.greater_equal(Z, 3, M)
        np.copyto(T, 1, where=M)
    elif name == "exp":
        np.copyto(T, A)
    else:
        raise ValueError(name)


# ---- numpy: cost, A into out, dZ


def loss(name: str, Z, Y, out, dZ, w: Operands) -> float:
    """The mean of L over the examples."""
    m, T, U = Z.shape[1], w.T, w.U
    if name == "binary_cross_entropy":
        sigmoid(Z, out)
        np.subtract(out, Y, dZ)
        softplus(Z, U, T)
        np.multiply(Y, Z, T)
        np.subtract(U, T, U)
        return float(U.sum()) / m
    if name == "cross_entropy":
        top = np.maximum.reduce(Z, axis=0)
        np.subtract(Z, top, T)
        np.exp(T, out)
        total = np.add.reduce(out, axis=0)
        np.divide(out, total, out)
        np.subtract(out, Y, dZ)
        np.multiply(T, Y, T)
        return float(np.log(total).sum() - T.sum()) / m
    if name == "poisson":
        np.exp(Z, out)
        np.subtract(out, Y, dZ)
        np.multiply(Y, Z, T)
        np.subtract(out, T, T)
        return float(T.sum()) / m
    np.copyto(out, Z)
    np.subtract(Z, Y, dZ)  # d
    if name == "squared_error":
        np.multiply(dZ, dZ, T)
        return 0.5 * float(T.sum()) / m
    if name == "absolute_error":
        np.abs(dZ, T)
        np.sign(dZ, dZ)
        return float(T.sum()) / m
    if name == "huber":
        np.copyto(T, dZ)
        np.clip(dZ, -DELTA, DELTA, dZ)
        np.multiply(dZ, 0.5, U)
        np.subtract(T, U, T)
        np.multiply(T, dZ, T)
        return float(T.sum()) / m
    if name == "quantile":
        np.copyto(T, dZ)
        np.sign(dZ, dZ)
        np.add(dZ, 1 - 2 * Q, dZ)  # wrong only where d = 0, which doesn't occur here
        np.multiply(dZ, 0.5, dZ)
        np.multiply(T, dZ, T)
        return float(T.sum()) / m
    raise ValueError(name)


# ---- numpy: a step with a clipped gradient


def step(kind: str, theta, g, T) -> None:
    if kind == "clip_value":
        np.clip(g, -LIMIT, LIMIT, g)
    else:
        norm = float(np.dot(g, g)) ** 0.5
        if norm > LIMIT:
            np.multiply(g, LIMIT / norm, g)
    np.multiply(g, RATE, T)
    np.subtract(theta, T, theta)


# ---- one row each


class Row:
    """One comparison: its name, the calls of both sides, and the expected results with their bounds."""

    def __init__(self, case, dtype: str, name: str, direction: str, arrays: int):
        self.case, self.dtype, self.name, self.direction = case, dtype, name, direction
        self.bytes = arrays * case.n * case.m * np.dtype(dtype).itemsize  # each array once, read or written
        self.unit = ROUNDINGS * reference.roundoff(dtype)

    def candidates(self, who: str):
        """((form, call), call) of each variant of a side, verified, one at a time."""
        for form, call, results in getattr(self, who)():
            self.verify(f"{who}, {self.name} {self.direction}, {form}", call, results)
            yield (form, call), call

    def verify(self, what: str, call, results) -> None:
        """`results(returned)` are the arrays that the call gave, in the order of `expected`."""
        for (name, value, bound), came in zip(self.expected(), results(call()), strict=True):
            compare(f"{what}, {name}", came, value, self.unit * bound)


class Activation(Row):
    def operands(self, order: str) -> Operands:
        o = Operands(self.case, self.dtype, order)
        forward(self.name, o.Z, o.A, o)
        return o

    def expected(self):
        o = self.operands("F")
        double = Operands(self.case, "float64", "F")
        for name in ("Z", "A", "dA"):
            setattr(double, name, getattr(o, name).astype(np.float64))
        size = (1 + np.abs(double.Z)) ** 2
        if self.direction == "forward":
            forward(self.name, double.Z, double.out, double)
            yield "A", double.out, size * (1 + np.abs(double.out))
        else:
            backward(self.name, double.dA, double.A, double.Z, double.dZ, double)
            yield "dZ", double.dZ, size * (1 + np.abs(double.A)) * (1 + np.abs(double.dA))

    def numpy(self):
        for order in "FC":
            o = self.operands(order)
            if self.direction == "forward":
                call, out = partial(forward, self.name, o.Z, o.out, o), o.out
            else:
                call, out = partial(backward, self.name, o.dA, o.A, o.Z, o.dZ, o), o.dZ
            yield order, call, lambda _, out=out: [out]

    def nnkern(self):
        from nnkern import kernels

        for out in (True, False):
            o = self.operands("F")
            if self.direction == "forward":
                call, into = partial(kernels.activation_forward, o.Z, self.name), o.out
            else:
                Z = o.Z if self.name in kernels.NEEDS_Z else None
                call, into = partial(kernels.activation_backward, o.dA, o.A, self.name, Z=Z), o.dZ
            yield "out=" * out, partial(call, out=into) if out else call, lambda A: [A]


class Loss(Row):
    def targets(self, o: Operands):
        return o.one_hot if self.name == "cross_entropy" else o.targets

    def expected(self):
        o = Operands(self.case, self.dtype, "F")
        double = Operands(self.case, "float64", "F")
        Z, Y = o.Z.astype(np.float64), self.targets(o).astype(np.float64)
        cost = loss(self.name, Z, Y, double.out, double.dZ, double)
        size = (1 + np.abs(Z)) ** 2 * (1 + np.abs(double.out))
        yield "cost", cost, size.sum() / self.case.m
        yield "A", double.out, size
        yield "dZ", double.dZ, size

    def numpy(self):
        for order in "FC":
            o = Operands(self.case, self.dtype, order)
            call = partial(loss, self.name, o.Z, self.targets(o), o.out, o.dZ, o)
            yield order, call, lambda cost, o=o: [cost, o.out, o.dZ]

    def nnkern(self):
        from nnkern import kernels

        o = Operands(self.case, self.dtype, "F")
        yield "Y", partial(getattr(kernels, self.name), o.Z, self.targets(o)), lambda found: found
        if self.name == "cross_entropy":
            yield "labels", partial(kernels.cross_entropy, o.Z, o.labels), lambda found: found


class Clipping(Row):
    """θ ← θ - α g, g clipped; θ has n (m + 1) entries, of one layer."""

    def drawn(self):
        """(θ, g)"""
        rng = np.random.default_rng(5)
        return rng.standard_normal((2, self.case.n * (self.case.m + 1))).astype(self.dtype)

    def expected(self):
        theta, g = self.drawn().astype(np.float64)
        size = 1 + np.abs(theta)
        step(self.name, theta, g, np.empty_like(theta))
        yield "theta", theta, size

    def numpy(self):
        theta, given = self.drawn()
        g, T = np.empty_like(given), np.empty_like(given)

        def call():
            np.copyto(g, given)
            step(self.name, theta, g, T)

        yield "", call, lambda _: [theta]

    def nnkern(self):
        import nnkern as nk
        from nnkern.state import of

        layer = nk.Dense(self.case.n, init="zeros")
        net = nk.Network([layer], "squared_error", n_x=self.case.m, dtype=self.dtype, seed=0)
        engine = of(net).engine
        optimizer = nk.SGD(RATE, **{self.name: LIMIT})
        values, given = self.drawn()
        places = np.concatenate([np.arange(at, at + n * k) for _, _, (n, k), at, _ in engine.segments()])
        theta, source = engine.theta, np.zeros_like(engine.theta)
        theta[places], source[places] = values, given
        g = theta.copy()
        update, numbers = optimizer.update, optimizer.numbers

        def call():
            np.copyto(g, source)
            engine.update(g, update, numbers, RATE)

        yield "", call, lambda _: [theta[places]]


def rows(case, dtype: str):
    from nnkern import kernels, losses

    for name in kernels.ACTIVATIONS:
        yield Activation(case, dtype, name, "forward", 2)
        yield Activation(case, dtype, name, "backward", 4 if name in kernels.NEEDS_Z else 3)
    for name in losses.LOSSES:
        yield Loss(case, dtype, name, "loss", 4)
    for name in ("clip_value", "clip_norm"):
        yield Clipping(case, dtype, name, "step", 5)


def measure(what: Row, rounds: int, budget: float) -> dict:
    row = {
        "case": f"{what.name}, {what.case.shape}",
        "direction": what.direction,
        "dtype": what.dtype,
        "threads": 1,
        "bytes": what.bytes,
        "sides": {"nnkern": {}, "numpy": {}},
    }
    candidates = {name: what.candidates(name) for name in row["sides"]}
    time_sides(row, f"{what.name} {what.direction}", candidates, rounds, budget)
    return row


def child(options: dict) -> None:
    if not begin(options):
        return
    for name in options["cases"]:
        for row in rows(cases.elementwise_case(name), options["dtype"]):
            print(json.dumps(measure(row, options["rounds"], options["budget"])), flush=True)


def run(session: Session, chosen: list[str] | None) -> list[dict]:
    usual = cases.ELEMENTWISE[:1] if session.quick else cases.ELEMENTWISE
    names = [case.name for case in (usual + cases.TINY_ELEMENTWISE if chosen else usual)]
    options = {
        "cores": idlest_cores(1),
        "cases": [name for name in names if not chosen or name in chosen],
        "dtype": session.dtype,
        "rounds": session.short_rounds,
        "budget": session.short_budget,
    }
    return rows_of_child(session, "elementwise", options)


if __name__ == "__main__":
    child(json.loads(sys.argv[1]))
