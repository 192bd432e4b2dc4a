"""Plain numpy: the textbook loop over mini-batches, optimised within that style.

The equations are written once, on (units, examples) arrays; buffers are preallocated and all
operations are in place. Which variant is fastest differs from case to case, so each case first
times all the forms below and keeps the fastest.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from cases import initial, one_hot
from clock import Clock

from peers import Unsupported


@dataclass(frozen=True)
class Form:
    examples: str  # memory order of X, A, dA: "F" has examples contiguous, "C" features
    weights: str  # memory order of W and dW
    product: str  # np.matmul, or np.dot: quicker to call, sometimes another BLAS routine
    relu: str  # np.maximum, or a product with the mask that the backward pass needs anyway

    def __str__(self) -> str:
        relu = f", relu by {self.relu}" if self.relu else ""
        return f"A {self.examples}, W {self.weights}, {self.product}{relu}"

    def products(self) -> tuple[Callable, Callable]:
        """product(P, Q, out) for an out of A's memory order, and one for an out of W's."""
        if self.product == "matmul":
            return np.matmul, np.matmul
        by_order = {"C": np.dot, "F": dot_transposed}
        return by_order[self.examples], by_order[self.weights]


def dot_transposed(P, Q, out):
    """np.dot for an out in Fortran order, which np.dot itself refuses."""
    np.dot(Q.T, P.T, out.T)


def forms(relu: bool) -> list[Form]:
    relus = ("maximum", "mask") if relu else ("",)
    return [Form(*choice) for choice in itertools.product("FC", "CF", ("matmul", "dot"), relus)]


def best_seconds(call: Callable[[], object], budget: float, threads: int) -> float:
    """The best time of one call, within a budget of seconds and at least one call.

    On one thread it's processor time, which other programs don't lengthen.
    """
    best, end = math.inf, time.perf_counter() + budget
    while True:
        clock = Clock()
        call()
        wall, cpu = clock.read()
        best = min(best, cpu if threads == 1 else wall)
        if time.perf_counter() >= end:
            return best


def fastest(candidates, budget: float, threads: int):
    """Of pairs (what, call), the first entry of the pair with the fastest call."""
    best, kept = math.inf, None
    for what, call in candidates:
        seconds = best_seconds(call, budget, threads)
        if seconds < best:
            best, kept = seconds, what
    return kept


def activate(A, activation: str, relu: str, mask):
    """A = g(Z) in place. relu by "mask" fills the mask.

    softmax returns Z's maximum and the sum of the exponentials, both (m,).
    """
    if activation == "tanh":
        np.tanh(A, A)
    elif activation == "relu" and relu == "mask":
        np.greater(A, 0, mask)
        np.multiply(A, mask, A)
    elif activation == "relu":
        np.maximum(A, 0, out=A)
    elif activation == "sigmoid":
        np.negative(A, A)
        np.exp(A, A)
        np.add(A, 1, A)
        np.reciprocal(A, A)
    elif activation == "softmax":
        top = np.maximum.reduce(A, axis=0)
        np.subtract(A, top, A)
        np.exp(A, A)
        total = np.add.reduce(A, axis=0)
        np.divide(A, total, A)
        return top, total
    else:
        raise ValueError(activation)


def differentiate(dA, A, activation: str, dZ, mask, mask_filled: bool) -> None:
    """dZ = dA g'(A). For relu dZ may be dA itself."""
    if activation == "relu":
        if not mask_filled:
            np.greater(A, 0, mask)
        np.multiply(dA, mask, dZ)
    elif activation == "tanh":
        np.multiply(A, A, dZ)
        np.subtract(1, dZ, dZ)
        np.multiply(dA, dZ, dZ)
    else:
        raise ValueError(activation)


class Workspace:
    """The activations and gradients of one batch size, indexed by layer; [0] is unused."""

    def __init__(self, case, form: Form, dtype, m: int):
        def empty(n, kind=dtype):
            return np.empty((n, m), kind, order=form.examples)

        self.A = [empty(n) for n in case.n]
        self.dA = [empty(n) for n in case.n]
        # tanh needs an array for 1 - A^2; relu's dZ overwrites its dA.
        self.dZ = [empty(n) for n in case.n] if case.activation == "tanh" else self.dA
        self.mask = [empty(n, bool) for n in case.n]
        self.ones = np.ones((m, 1), dtype)


class Network:
    """The parameters in one form, and prediction."""

    def __init__(self, case, form: Form, dtype, sizes: set[int]):
        self.case, self.form, self.dtype = case, form, np.dtype(dtype)
        self.to_A, self.to_W = form.products()
        self.workspaces = {m: Workspace(case, form, dtype, m) for m in sizes}

    def load(self, parameters) -> None:
        layers = range(1, len(self.case.n))
        order = self.form.weights
        self.W = [None] + [np.array(parameters[f"W{k}"], self.dtype, order=order) for k in layers]
        self.b = [None] + [np.array(parameters[f"b{k}"], self.dtype) for k in layers]
        self.dW = [None] + [np.empty_like(self.W[k]) for k in layers]
        self.db = [None] + [np.empty_like(self.b[k]) for k in layers]

    def parameters(self) -> dict[str, np.ndarray]:
        layers = range(1, len(self.W))
        return {f"W{k}": self.W[k] for k in layers} | {f"b{k}": self.b[k] for k in layers}

    def predict(self, X) -> np.ndarray:
        """A[L], overwritten by the next call."""
        work = self.workspaces[X.shape[1]]
        A = X
        for k, name in enumerate(self.case.activations, 1):
            Z = work.A[k]
            self.to_A(self.W[k], A, Z)
            np.add(Z, self.b[k], Z)
            activate(Z, name, self.form.relu, work.mask[k])
            A = Z
        return A


class Loop(Network):
    """Gradient descent over the batches of a case."""

    def __init__(self, case, form: Form, dtype, X, labels):
        starts = range(0, case.examples, case.batch)
        self.parts = [slice(start, min(start + case.batch, case.examples)) for start in starts]
        super().__init__(case, form, dtype, {part.stop - part.start for part in self.parts})
        self.rate_over = {m: self.dtype.type(case.learning_rate / m) for m in self.workspaces}
        Y = one_hot(labels, case.n[-1], dtype)
        if case.shuffle:
            self.X_rows = np.ascontiguousarray(X.T, dtype)
            self.Y_rows = np.ascontiguousarray(Y.T)
            self.rng = np.random.default_rng(0)
        else:
            # These batches don't change: they are made once, in the memory order of the form.
            self.batches = [
                tuple(np.asarray(data[:, part], dtype, order=form.examples) for data in (X, Y)) for part in self.parts
            ]

    def shuffled(self):
        order = self.rng.permutation(self.case.examples)
        for part in self.parts:
            batch = (np.take(rows, order[part], axis=0).T for rows in (self.X_rows, self.Y_rows))
            if self.form.examples == "C":
                batch = map(np.ascontiguousarray, batch)
            yield tuple(batch)

    def train(self, epochs: int) -> list[float]:
        costs = []
        for _ in range(epochs):
            total = 0.0
            for X, Y in self.shuffled() if self.case.shuffle else self.batches:
                total += self.step(X, Y)
            costs.append(total / self.case.examples)
        return costs

    def step(self, X, Y) -> float:
        """One step; the sum of the examples' losses before it."""
        case, W, b, dW, db = self.case, self.W, self.b, self.dW, self.db
        to_A, to_W, relu = self.to_A, self.to_W, self.form.relu
        m = X.shape[1]
        work = self.workspaces[m]
        A, dA, dZ, mask = work.A, work.dA, work.dZ, work.mask
        L = len(case.n) - 1

        A_prev = X
        for k in range(1, L + 1):
            to_A(W[k], A_prev, A[k])
            np.add(A[k], b[k], A[k])
            if k < L:
                activate(A[k], case.activation, relu, mask[k])
                A_prev = A[k]

        Z = A[L]
        if case.output == "softmax":
            chosen = np.vdot(Y.ravel("K"), Z.ravel("K"))
            top, total = activate(Z, "softmax", relu, None)
            loss = np.add.reduce(top) + np.add.reduce(np.log(total)) - chosen
        else:
            # L = log(1 + exp(-z)) + (1 - y) z = (1 - y) z - log a
            linear = np.add.reduce(Z, axis=None) - np.vdot(Y, Z)
            activate(Z, "sigmoid", relu, None)
            loss = linear - np.add.reduce(np.log(Z), axis=None)

        # The learning rate and 1/m are multiplied into the smallest array: the rest is linear in it.
        np.subtract(A[L], Y, dZ[L])
        np.multiply(dZ[L], self.rate_over[m], dZ[L])
        for k in range(L, 0, -1):
            to_W(dZ[k], (A[k - 1] if k > 1 else X).T, dW[k])
            np.dot(dZ[k], work.ones, db[k])
            if k > 1:
                to_A(W[k].T, dZ[k], dA[k - 1])
                filled = relu == "mask"
                differentiate(dA[k - 1], A[k - 1], case.activation, dZ[k - 1], mask[k - 1], filled)
            np.subtract(W[k], dW[k], W[k])
            np.subtract(b[k], db[k], b[k])
        return float(loss)


class Side:
    library = "numpy"

    def __init__(self):
        self.form = None
        self.tuned: dict[tuple, Form] = {}

    def describe(self) -> dict:
        return {"version": np.__version__, **blas_in_use()}

    def prepare_training(self, case, dtype, threads, X, labels):
        if case.optimizer != "sgd":
            raise Unsupported("plain SGD only")
        key = case.name, dtype, threads
        if key not in self.tuned:
            self.tuned[key] = self.tune(case, dtype, threads, X, labels)
        self.form = self.tuned[key]
        self.loop = Loop(case, self.form, dtype, X, labels)

    def tune(self, case, dtype, threads, X, labels) -> Form:
        trial = case.first(1)
        X, labels = X[:, : trial.examples], labels[: trial.examples]

        def candidates():
            for form in forms(case.activation == "relu"):
                loop = Loop(trial, form, dtype, X, labels)
                loop.load(initial(case))
                yield form, lambda loop=loop: loop.train(1)

        return fastest(candidates(), 0.03, threads)

    def load(self, parameters):
        self.loop.load(parameters)

    def train(self, epochs):
        return self.loop.train(epochs)

    def parameters(self):
        return self.loop.parameters()

    def predictor(self, case, dtype, threads, parameters, X):
        def candidates():
            for form in forms(case.activation == "relu"):
                network = Network(case, form, dtype, {X.shape[1]})
                network.load(parameters)
                X_form = np.asarray(X, dtype, order=form.examples)

                def predict(network=network, X=X_form):
                    return network.predict(X)

                yield (form, predict), predict

        self.form, predict = fastest(candidates(), 0.02, threads)
        return predict, lambda: predict().copy()

    limit = "numpy's product of 1024^3"

    def measure_limit(self, dtype, threads) -> float:
        """Flops per second of the best of several products."""
        n = 1024
        rng = np.random.default_rng(0)
        P, Q = (rng.standard_normal((n, n)).astype(dtype) for _ in range(2))
        out = np.empty_like(P)
        return 2 * n**3 / best_seconds(lambda: np.matmul(P, Q, out), 0.1, threads)


def blas_in_use() -> dict:
    """numpy's BLAS; its core and threads are known where threadpoolctl is installed."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        asked = os.environ.get("OPENBLAS_NUM_THREADS")
        name = f"{blas.get('name')} {blas.get('version')}"
        return {"kernels": {"blas": name, "simd": simd()}, "threads": f"{asked} asked for"}
    # numpy's own BLAS; another library in the process may have one too.
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    pool = next((pool for pool in pools if "numpy" in pool["filepath"]), pools[0])
    return {
        "kernels": {
            "blas": f"{pool['internal_api']} {pool['version']}",
            "blas_core": pool.get("architecture"),
            "simd": simd(),
        },
        "threads": pool["num_threads"],
    }


def simd() -> str:
    """The widest instruction set numpy found and compiled loops for."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return found[-1] if found else "baseline"
