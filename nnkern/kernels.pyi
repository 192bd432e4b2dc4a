# Types of kernels.py, whose code and docstrings say the rest. Defaults are written there, not here.

from typing import TypeAlias

import numpy.typing as npt

from nnkern._kernels import ACTIVATIONS as ACTIVATIONS
from nnkern._kernels import NEEDS_Z as NEEDS_Z
from nnkern._kernels import DenseGradients as DenseGradients
from nnkern._kernels import _Floats, _Labels
from nnkern._kernels import activation_backward as activation_backward
from nnkern._kernels import activation_forward as activation_forward
from nnkern._kernels import dense_backward as dense_backward
from nnkern._kernels import dense_forward as dense_forward

__all__ = [
    "ACTIVATIONS",
    "NEEDS_Z",
    "DenseGradients",
    "absolute_error",
    "activation_backward",
    "activation_forward",
    "binary_cross_entropy",
    "cross_entropy",
    "dense_backward",
    "dense_forward",
    "huber",
    "poisson",
    "quantile",
    "squared_error",
]

_Loss: TypeAlias = tuple[float, _Floats, _Floats]

def binary_cross_entropy(
    Z: _Floats, Y: _Floats, sample_weight: npt.ArrayLike | None = ..., *, label_smoothing: float = ...
) -> _Loss: ...
def cross_entropy(
    Z: _Floats, Y: _Floats | _Labels, sample_weight: npt.ArrayLike | None = ..., *, label_smoothing: float = ...
) -> _Loss: ...
def squared_error(Z: _Floats, Y: _Floats, sample_weight: npt.ArrayLike | None = ...) -> _Loss: ...
def absolute_error(Z: _Floats, Y: _Floats, sample_weight: npt.ArrayLike | None = ...) -> _Loss: ...
def huber(Z: _Floats, Y: _Floats, sample_weight: npt.ArrayLike | None = ..., *, delta: float = ...) -> _Loss: ...
def quantile(Z: _Floats, Y: _Floats, sample_weight: npt.ArrayLike | None = ..., *, q: float = ...) -> _Loss: ...
def poisson(Z: _Floats, Y: _Floats, sample_weight: npt.ArrayLike | None = ...) -> _Loss: ...
