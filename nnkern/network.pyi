# Types of network.py, whose code and docstrings say the rest. Defaults are written there, not here.

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import IO, Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from nnkern import names
from nnkern._kernels import _Floats, _Labels
from nnkern.callbacks import _History, _Metric, _OneCallback
from nnkern.layers import Layer
from nnkern.losses import Loss
from nnkern.model import Model
from nnkern.optimizers import Optimizer
from nnkern.predictor import Predictor, UnpackedPredictor, _Weights
from nnkern.state import Evaluation
from nnkern.steps import Gradients, Steps
from nnkern.summary import Summary

__all__ = ["Evaluation", "Gradients", "Network", "Summary", "check_gradients"]

_LossFunction: TypeAlias = Callable[[_Floats, _Floats], tuple[npt.ArrayLike, npt.ArrayLike]]
_ClassWeight: TypeAlias = Mapping[int, float] | Sequence[float] | Sequence[Mapping[int, float] | Sequence[float]]
_Path: TypeAlias = str | PathLike[str]
_Batch: TypeAlias = tuple[npt.ArrayLike, npt.ArrayLike] | tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]

class _Communicator(Protocol):
    def Get_rank(self) -> int: ...
    def Get_size(self) -> int: ...
    def Allreduce(self, sendbuf: Any, recvbuf: Any, /) -> Any: ...

class Network(Steps):
    metadata: dict[str, Any]

    def __init__(
        self,
        layers: Iterable[Layer],
        loss: names.Loss | Loss | _LossFunction,
        *,
        n_x: int | None = ...,
        l2: float = ...,
        l1: float = ...,
        dtype: npt.DTypeLike = ...,
        compute: names.Compute | None = ...,
        seed: int | None = ...,
    ) -> None: ...
    @property
    def layers(self) -> tuple[Layer, ...]: ...
    @property
    def l2(self) -> float: ...
    @property
    def l1(self) -> float: ...
    @property
    def dtype(self) -> np.dtype[np.floating[Any]]: ...
    @property
    def compute(self) -> str: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def loss(self) -> str: ...
    @property
    def L(self) -> int: ...
    @property
    def n_x(self) -> int | None: ...
    @property
    def n_y(self) -> int: ...
    @property
    def optimizer(self) -> Optimizer | None: ...
    @optimizer.setter
    def optimizer(self, optimizer: Optimizer | None) -> None: ...
    @property
    def parameters(self) -> Mapping[str, _Floats]: ...
    def set_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None: ...
    def initialize(self, n_x: int, X: npt.ArrayLike | None = ...) -> Network: ...
    def predict(
        self,
        X: npt.ArrayLike | Iterable[npt.ArrayLike | _Batch],
        *,
        out: _Floats | None = ...,
        threads: int | None = ...,
        invariant: bool = ...,
        rows: bool = ...,
    ) -> _Floats: ...
    def predict_labels(
        self, X: npt.ArrayLike | Iterable[npt.ArrayLike | _Batch], *, threads: int | None = ..., rows: bool = ...
    ) -> npt.NDArray[np.int64]: ...
    def compile_predict(
        self, *, weights: _Weights | None = ..., compute: _Weights | None = ..., threads: int | None = ...
    ) -> Predictor | UnpackedPredictor: ...
    def evaluate(
        self,
        X: npt.ArrayLike | Iterable[_Batch],
        Y: npt.ArrayLike | None = ...,
        *,
        sample_weight: npt.ArrayLike | None = ...,
        threads: int | None = ...,
        rows: bool = ...,
    ) -> Evaluation: ...
    def fit(
        self,
        X: npt.ArrayLike | Iterable[_Batch],
        Y: npt.ArrayLike | None = ...,
        *,
        epochs: int = ...,
        batch_size: int | None = ...,
        shuffle: bool = ...,
        drop_last: bool = ...,
        optimizer: Optimizer | names.Optimizer | None = ...,
        sample_weight: npt.ArrayLike | None = ...,
        class_weight: Literal["balanced"] | _ClassWeight | None = ...,
        validation_data: _Batch | None = ...,
        validation_split: float = ...,
        metrics: _Metric | Sequence[_Metric] = ...,
        callbacks: _OneCallback | Sequence[_OneCallback] | None = ...,
        progress: bool = ...,
        resume: bool = ...,
        threads: int | None = ...,
        rows: bool = ...,
        comm: _Communicator | None = ...,
        deadline: float = ...,
    ) -> _History: ...
    def partial_fit(
        self,
        X: npt.ArrayLike,
        Y: npt.ArrayLike,
        *,
        optimizer: Optimizer | names.Optimizer | None = ...,
        sample_weight: npt.ArrayLike | None = ...,
        class_weight: _ClassWeight | None = ...,
        rows: bool = ...,
    ) -> float: ...
    def input_gradient(
        self, X: npt.ArrayLike, Y: npt.ArrayLike | None = ..., *, output: int | _Labels | None = ...
    ) -> _Floats: ...
    def freeze(self, *layers: int | str) -> Network: ...
    def unfreeze(self, *layers: int | str) -> Network: ...
    def activations(self, X: npt.ArrayLike) -> list[_Floats]: ...
    def jacobian(self, X: npt.ArrayLike) -> _Floats: ...
    def example_gradients(self, X: npt.ArrayLike, Y: npt.ArrayLike) -> dict[str, _Floats]: ...
    def save(
        self,
        path: _Path | IO[bytes],
        *,
        training_state: bool = ...,
        format: Literal["npz", "safetensors"] | None = ...,
    ) -> None: ...
    def to_onnx(
        self,
        path: _Path,
        *,
        mean: npt.ArrayLike | None = ...,
        scale: npt.ArrayLike | None = ...,
        target_mean: npt.ArrayLike | None = ...,
        target_scale: npt.ArrayLike | None = ...,
        labels: Sequence[str] | Sequence[int] | None = ...,
    ) -> None: ...
    # the classes of torch and scikit-learn aren't named here: neither needs to be installed
    def to_torch(self) -> Any: ...
    def to_sklearn(self) -> Any: ...
    def to_c(
        self,
        path: _Path | None = ...,
        *,
        weights: Literal["int8"] | None = ...,
        calibration: npt.ArrayLike | None = ...,
        mean: npt.ArrayLike | None = ...,
        scale: npt.ArrayLike | None = ...,
        target_mean: npt.ArrayLike | None = ...,
        target_scale: npt.ArrayLike | None = ...,
        labels: Sequence[str] | Sequence[int] | None = ...,
    ) -> str: ...
    def summary(self) -> Summary: ...
    def __eq__(self, other: object) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    def config(self) -> dict[str, Any]: ...
    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Network: ...
    def to_model(self, training_state: bool = ...) -> Model: ...
    @classmethod
    def from_model(cls, model: Model) -> Network: ...
    def __getstate__(self) -> dict[str, Any]: ...
    def __setstate__(self, state: Mapping[str, Any]) -> None: ...

def check_gradients(
    net: Network, X: npt.ArrayLike, Y: npt.ArrayLike, *, step: float = ..., max_entries: int = ...
) -> float: ...
