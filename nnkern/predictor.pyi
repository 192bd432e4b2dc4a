# Types of predictor.py, whose code and docstrings say the rest.

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from nnkern._kernels import _Floats
from nnkern.model import Model
from nnkern.network import Network
from nnkern.state import Evaluation

_Weights: TypeAlias = Literal["float32", "float64", "bfloat16", "int8"]

LAYERS: dict[str, Callable[..., tuple[_Floats, _Floats | None, int, float]]]

def compile(
    model: Model, *, weights: _Weights | None = ..., compute: _Weights | None = ..., threads: int | None = ...
) -> Predictor | UnpackedPredictor: ...

class Reporting:
    def validated(self, X: npt.ArrayLike, out: _Floats | None) -> tuple[_Floats, _Floats]: ...
    def report(self, net: Network, X: npt.ArrayLike, Y: npt.ArrayLike | None = ...) -> PredictorReport: ...

class Predictor(Reporting):
    @property
    def dtype(self) -> np.dtype[np.floating[Any]]: ...
    @property
    def weights(self) -> _Weights: ...
    @property
    def threads(self) -> int | None: ...
    @property
    def n_x(self) -> int: ...
    @property
    def n_y(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def parameters(self) -> dict[str, _Floats]: ...
    def predict(self, X: npt.ArrayLike, out: _Floats | None = ...) -> _Floats: ...
    def __call__(self, X: npt.ArrayLike, out: _Floats | None = ...) -> _Floats: ...

class UnpackedPredictor(Reporting):
    weights: str
    dtype: np.dtype[np.floating[Any]]
    threads: int | None
    n_x: int
    n_y: int
    nbytes: int

    def __init__(self, model: Model, threads: int | None) -> None: ...
    @property
    def parameters(self) -> dict[str, _Floats]: ...
    def predict(self, X: npt.ArrayLike, out: _Floats | None = ...) -> _Floats: ...
    def __call__(self, X: npt.ArrayLike, out: _Floats | None = ...) -> _Floats: ...

@dataclass(frozen=True)
class PredictorReport:
    weights: str
    nbytes: int
    network_nbytes: int
    examples: int
    largest_difference: float
    mean_difference: float
    agreement: float | None
    evaluation: Evaluation | None
    network_evaluation: Evaluation | None
