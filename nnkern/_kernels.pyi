# Types of the compiled kernels; what they mean is said in their docstrings. Defaults are written there, not here.

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from nnkern import names

_Floats: TypeAlias = npt.NDArray[np.floating[Any]]
_Labels: TypeAlias = npt.NDArray[np.integer[Any]] | Sequence[int]

ACTIVATIONS: tuple[names.Activation, ...]
NEEDS_Z: frozenset[str]

class DenseGradients(NamedTuple):
    dZ: _Floats
    dW: _Floats
    db: _Floats
    dA_prev: _Floats | None

@overload
def dense_forward(
    W: _Floats,
    A_prev: _Floats,
    b: _Floats | None,
    activation: names.Activation,
    *,
    out: _Floats | None = ...,
    return_Z: Literal[False] = ...,
    negative_slope: float = ...,
    threads: int | None = ...,
    compute: names.Compute | None = ...,
) -> _Floats: ...
@overload
def dense_forward(
    W: _Floats,
    A_prev: _Floats,
    b: _Floats | None,
    activation: names.Activation,
    *,
    out: _Floats | None = ...,
    return_Z: Literal[True],
    negative_slope: float = ...,
    threads: int | None = ...,
    compute: names.Compute | None = ...,
) -> tuple[_Floats, _Floats]: ...
def dense_backward(
    dA: _Floats,
    W: _Floats,
    A_prev: _Floats,
    A: _Floats,
    activation: names.Activation,
    *,
    Z: _Floats | None = ...,
    need_dA_prev: bool = ...,
    out: tuple[_Floats | None, _Floats | None, _Floats | None, _Floats | None] | None = ...,
    negative_slope: float = ...,
    threads: int | None = ...,
    compute: names.Compute | None = ...,
) -> DenseGradients: ...
def activation_forward(
    Z: _Floats, name: names.Activation, *, out: _Floats | None = ..., negative_slope: float = ...
) -> _Floats: ...
def activation_backward(
    dA: _Floats,
    A: _Floats,
    name: names.Activation,
    *,
    Z: _Floats | None = ...,
    out: _Floats | None = ...,
    negative_slope: float = ...,
) -> _Floats: ...

# for the Python layers above
INITIALIZERS: dict[names.Activation, Any]
LOSSES: dict[str, str]

def loss(
    name: str, Z: _Floats, Y: _Floats | _Labels, sample_weight: npt.ArrayLike | None, parameter: float = ...
) -> tuple[float, _Floats, _Floats]: ...
def output(
    name: str, out: object, n: int, m: int, number: int, inputs: Sequence[tuple[str, npt.NDArray[Any] | None]]
) -> _Floats: ...
def first_nonfinite(array: _Floats) -> tuple[int, ...] | None: ...
def philox(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]: ...
def get_threads() -> int: ...
def set_threads(threads: int) -> None: ...
def release_memory() -> None: ...
def fma_rate(dtype: npt.DTypeLike, seconds: float = ...) -> float: ...
