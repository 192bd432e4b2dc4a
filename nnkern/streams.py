"""Prediction and evaluation of what doesn't come as one array in memory: batches, mapped files, examples in rows."""

import numpy as np

from nnkern import _kernels, sources, validation
from nnkern.losses import r2, spread
from nnkern.state import Evaluation

# entries of a memory-mapped array that are converted at a time
_ENTRIES = 1 << 22


def is_batches(X):
    """Whether that is an iterable of batches, and nothing that an array is made of."""
    if isinstance(X, list | tuple):
        return len(X) > 0 and _has_columns(sources.examples_of(X[0]))
    if isinstance(X, str | bytes | dict) or any(hasattr(X, name) for name in ("shape", "__array__", "nnz")):
        return False
    try:
        memoryview(X)
    except TypeError:
        return hasattr(X, "__iter__")
    return False


def _has_columns(X):
    return len(getattr(X, "shape", ())) > 1


def is_plain(X, dtype):
    """Whether X is to be predicted in one piece."""
    return not is_batches(X) and not (sources.is_large(X, dtype) and X.dtype != dtype)


def predict(state, X, out, *, rows=False, **how):
    """A[L] for what X holds; see `Network.predict`. `how`: threads and invariant."""
    if not is_batches(X):
        A = _predict_array(state, X, out, **how) if not rows else _predict_rows(state, X, out, **how)
    elif out is not None:
        raise ValueError("out is for an X that is an array: of batches it isn't known how many examples they hold")
    else:
        examples = (sources.examples_of(batch) for batch in X)
        predict_one = _predict_rows if rows else _predict_array
        parts = [predict_one(state, one, None, **how) for one in examples]
        if not parts:
            raise ValueError("the iterable gave no batch")
        A = np.concatenate(parts, axis=1)
    return A.T if rows else A


def _predict_rows(state, X, out, **how):
    """A[L] in columns for examples in rows."""
    X = validation.examples_in_rows("X", X)
    with validation.told_of_columns():
        return _predict_array(state, X, None if out is None else out.T, **how)


def _predict_array(state, X, out, threads, invariant):
    if is_plain(X, state.dtype):
        return predict_whole(state, X, out, threads, invariant)
    validation.examples(sources.shaped_like(X.shape, state.dtype), state.n_x, state.dtype, finite=False)
    A = np.empty((state.n_y, X.shape[1]), state.dtype, "F") if out is None else out
    A = _kernels.output("out", A, state.n_y, X.shape[1], state.dtype.num, ())
    width = max(1, _ENTRIES // state.n_x)
    for first in range(0, X.shape[1], width):
        columns = slice(first, first + width)
        predict_whole(state, X[:, columns], A[:, columns], threads, invariant)
    return A


def predict_whole(state, X, out, threads, invariant):
    """A[L] for an array."""
    engine = state.engine
    X = validation.examples(X, state.n_x, state.dtype, finite=False)
    if out is not None:
        inputs = ("X", X), ("the parameters", engine.theta)
        out = _kernels.output("out", out, state.n_y, X.shape[1], state.dtype.num, inputs)
    return engine.predict(X, out, threads, invariant)


def evaluate(state, X, Y, sample_weight, threads, rows):
    """The Evaluation of arrays, or of an iterable of batches where Y is None; see `Network.evaluate`."""
    if Y is None:
        if sample_weight is not None:
            raise ValueError("with an iterable of batches the sample_weight comes inside them, as (X, Y, w)")
        sources.check_batches(X, "evaluate")
        source = sources.Batches(state, X, rows=rows)
    else:
        X, Y = state.columns(X, Y) if rows else (X, Y)
        with validation.told_of_columns(rows):
            source = sources.arrays(state, X, Y, sample_weight, None)
        if source.direct:
            return state.evaluate(*source.whole(), threads=threads)
    width = max(1, _ENTRIES // source.n_x)
    return _of_parts(state, (data for data, _ in source.parts(width, None)), threads)


def _of_parts(state, parts, threads):
    cost = right = total = 0.0
    squares, spreads = 0.0, _Spread()
    for X, Y, labels, w in parts:
        part_cost, part_right, part_squares, weight = state.engine.evaluate(X, Y, labels, w, threads)
        cost, right, total = cost + part_cost * weight, right + part_right, total + weight
        if part_squares is not None and weight > 0:
            squares = squares + part_squares
            spreads.add(Y, w, weight)
    if total == 0:
        raise ValueError("the iterable gave no batch, or no example with a weight above 0")
    return Evaluation(cost / total, right / total if state.loss.classifies else r2(squares, spreads.squares))


class _Spread:
    """Σ_i w_i (y_i - ȳ)² per output of parts that come one after the other.

    Source: Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983, equation 2.1.
    """

    def __init__(self):
        self.weight, self.mean, self.squares = 0.0, 0.0, 0.0

    def add(self, Y, w, weight):
        off = np.average(Y.astype(np.float64), axis=1, weights=w) - self.mean
        together = self.weight + weight
        self.squares = self.squares + spread(Y, w) + off**2 * (self.weight * weight / together)
        self.mean = self.mean + off * (weight / together)
        self.weight = together
