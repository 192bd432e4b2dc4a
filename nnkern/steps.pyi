# Types of steps.py, whose code and docstrings say the rest. Defaults are written there, not here.

from collections.abc import Mapping
from typing import NamedTuple

import numpy.typing as npt

from nnkern import names
from nnkern._kernels import _Floats
from nnkern.optimizers import Optimizer

class Gradients(NamedTuple):
    cost: float
    grads: dict[str, _Floats]

class Steps:
    def gradients(
        self,
        X: npt.ArrayLike,
        Y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = ...,
        training: bool = ...,
        *,
        rows: bool = ...,
    ) -> Gradients: ...
    def forward(self, X: npt.ArrayLike, training: bool = ...) -> _Floats: ...
    def backward(self, Y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = ...) -> dict[str, _Floats]: ...
    def step(self, grads: Mapping[str, npt.ArrayLike], optimizer: Optimizer | names.Optimizer) -> None: ...
