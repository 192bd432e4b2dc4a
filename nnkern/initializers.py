"""Initial weights by name. An initializer is a callable (rng, n, n_prev) -> (n, n_prev) array; b starts at zero.

zeros            0
normal           N(0, scale²), scale 0.01
he_normal        N(0, 2 / n_prev)                     He et al. 2015
he_uniform       U(±√(6 / n_prev))
glorot_normal    N(0, 2 / (n_prev + n))               Glorot and Bengio 2010
glorot_uniform   U(±√(6 / (n_prev + n)))
lecun_normal     N(0, 1 / n_prev)                     LeCun et al. 1998
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


def draw(init, rng, n, n_prev, to, layer):
    """The (n, n_prev) weights that `init` (a name, an array or a callable) gives for a layer, counted from 1.

    Raises
    ------
    ValueError
        The name is unknown, the shape isn't (n, n_prev), or an entry isn't finite.
    """
    if isinstance(init, str):
        init = INITIALIZERS[validation.choice("init", init, INITIALIZERS)]
    W = init(rng, n, n_prev) if callable(init) else init
    return validation.parameter(f"init of layer {layer}", W, (n, n_prev), to)
