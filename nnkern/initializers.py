"""Initial weights by name. An initializer is a callable (rng, n, n_prev) -> (n, n_prev) array; b starts at zero.

zeros            0
normal           N(0, scale²), scale 0.01
he_normal        N(0, 2 / n_prev)                     He et al. 2015
he_uniform       U(±√(6 / n_prev))
glorot_normal    N(0, 2 / (n_prev + n))               Glorot and Bengio 2010
glorot_uniform   U(±√(6 / (n_prev + n)))
lecun_normal     N(0, 1 / n_prev)                     LeCun et al. 1998
unit_variance    N(0, 1 / n_prev), then each unit's weights times a factor that gives its Z variance 1 on the examples;
                 such weights are drawn where there are examples, by `fit` or by `net.initialize(n_x, X)`

`biases` draws b from examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from nnkern import validation

# Quoted, as all annotations here are: numpy loads its random module when it is first named.
Initializer: TypeAlias = "Callable[[np.random.Generator, int, int], np.ndarray[Any, Any]]"


@dataclass(frozen=True)
class Normal:
    """Entries from N(0, scale²)."""

    scale: float = 0.01

    def __post_init__(self):
        validation.number("scale", self.scale, 0)

    def __call__(self, rng: np.random.Generator, n: int, n_prev: int) -> np.ndarray[Any, Any]:
        return self.scale * rng.standard_normal((n, n_prev))


def normal(scale: float = 0.01) -> Normal:
    """An initializer with entries from N(0, scale²).

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.Dense(4, "tanh", init=nk.initializers.normal(0.1)).init
    Normal(scale=0.1)
    """
    return Normal(scale)


def zeros(rng: np.random.Generator, n: int, n_prev: int) -> np.ndarray[Any, Any]:
    """All entries 0: enough for one neuron; in a hidden layer all units stay alike."""
    return np.zeros((n, n_prev))


def _gaussian(variance):
    return lambda rng, n, n_prev: np.sqrt(variance(n, n_prev)) * rng.standard_normal((n, n_prev))


def _uniform(variance):
    def draw(rng, n, n_prev):
        bound = np.sqrt(3 * variance(n, n_prev))
        return rng.uniform(-bound, bound, (n, n_prev))

    return draw


def _he(n, n_prev):
    return 2 / n_prev


def _glorot(n, n_prev):
    return 2 / (n + n_prev)


def _lecun(n, n_prev):
    return 1 / n_prev


INITIALIZERS = {
    "zeros": zeros,
    "normal": Normal(),
    "he_normal": _gaussian(_he),
    "he_uniform": _uniform(_he),
    "glorot_normal": _gaussian(_glorot),
    "glorot_uniform": _uniform(_glorot),
    "lecun_normal": _gaussian(_lecun),
}


UNIT_VARIANCE = "unit_variance"
NAMES = (*INITIALIZERS, UNIT_VARIANCE)


def draw(init, rng, n, n_prev, to, layer, A_prev=None):
    """The (n, n_prev) weights that `init` (a name, an array or a callable) gives for a layer, counted from 1.

    `A_prev` (n_prev, m), in float64: what the layer reads of some examples, for weights that depend on them.

    Raises
    ------
    ValueError
        The name is unknown, the shape isn't (n, n_prev), or an entry isn't finite; or there are no examples.
    """
    if isinstance(init, str) and init == UNIT_VARIANCE:
        W = INITIALIZERS["lecun_normal"](rng, n, n_prev)
        deviation = (W @ _examples('init="unit_variance"', A_prev, layer)).std(axis=1, keepdims=True)
        W = np.divide(W, deviation, out=W, where=deviation > 0)
    else:
        if isinstance(init, str):
            init = INITIALIZERS[validation.choice("init", init, NAMES)]
        W = init(rng, n, n_prev) if callable(init) else init
    return validation.parameter(f"init of layer {layer}", W, (n, n_prev), to)


def biases(rng, W, to, layer, A_prev):
    """b (n, 1) that puts a mean of five random examples at Z = 0 for each unit.

    It is minus a mean of their W A_prev, with weights that are drawn for each unit from the exponential distribution.

    Source: Steinwart, A sober look at neural network initializations, 2019 (the "he+5" initialization).
    """
    A_prev = _examples('bias_init="examples"', A_prev, layer)
    weights = rng.standard_exponential((len(W), 5))
    picked = W @ A_prev[:, rng.integers(A_prev.shape[1], size=5)]
    b = -(weights * picked).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    return validation.parameter(f"bias_init of layer {layer}", b, (len(W), 1), to)


def _examples(what, A_prev, layer):
    if A_prev is None:
        raise ValueError(
            f"{what} of layer {layer} depends on examples: leave n_x away, so that fit draws it, or call "
            "net.initialize(n_x, X)"
        )
    return A_prev
