# Types of callbacks.py, whose code and docstrings say the rest. Defaults are written there, not here.

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

from nnkern.network import Network

_History: TypeAlias = dict[str, list[float]]
_Monitor: TypeAlias = str | Callable[[npt.NDArray[Any], npt.NDArray[Any]], float]
_Metric: TypeAlias = (
    Literal["val_error", "val_auc", "val_rmse", "val_mae"] | Callable[[npt.NDArray[Any], npt.NDArray[Any]], float]
)
_Mode: TypeAlias = Literal["min", "max"]
_OneCallback: TypeAlias = Callback | Callable[[Network, int, _History], object]

class Callback:
    def on_fit_begin(self, net: Network) -> None: ...
    def on_epoch_end(self, net: Network, epoch: int, history: _History) -> object: ...
    def on_fit_end(self, net: Network, history: _History) -> None: ...
    def on_fit_error(self, net: Network, error: BaseException) -> None: ...

class ForOne(Callback):
    shared: str

class EarlyStopping(Callback):
    patience: int | None
    min_delta: float
    monitor: _Monitor
    restore_best: bool
    ties: Literal["first", "last"]
    mode: _Mode | None
    best_epoch: int | None
    best_value: float | None

    def __init__(
        self,
        patience: int | None = ...,
        min_delta: float = ...,
        monitor: _Monitor = ...,
        restore_best: bool = ...,
        *,
        ties: Literal["first", "last"] = ...,
        mode: _Mode | None = ...,
    ) -> None: ...
    def rule(self) -> dict[str, Any] | None: ...
    def found(self, epoch: int, value: float, parameters: Mapping[str, npt.NDArray[Any]] | None) -> None: ...

class ReduceLROnPlateau(Callback):
    factor: float
    patience: int
    min_delta: float
    monitor: _Monitor
    min_rate: float
    mode: _Mode | None

    def __init__(
        self,
        factor: float = ...,
        patience: int = ...,
        min_delta: float = ...,
        monitor: _Monitor = ...,
        min_rate: float = ...,
        *,
        mode: _Mode | None = ...,
    ) -> None: ...

class AverageWeights(Callback):
    start: int
    decay: float | None
    each: Literal["epoch", "step"]
    count: int
    follower: Any

    def __init__(self, start: int = ..., decay: float | None = ..., each: Literal["epoch", "step"] = ...) -> None: ...

class LearningRateSchedule(Callback):
    f: Callable[[int], float]

    def __init__(self, f: Callable[[int], float]) -> None: ...

class Checkpoint(ForOne):
    path: str
    every: int
    monitor: _Monitor | None
    mode: _Mode | None
    training_state: bool

    def __init__(
        self,
        path: str | PathLike[str],
        every: int = ...,
        monitor: _Monitor | None = ...,
        training_state: bool = ...,
        *,
        mode: _Mode | None = ...,
    ) -> None: ...

def get(callbacks: _OneCallback | Sequence[_OneCallback] | None) -> list[Callback]: ...
def remembers(callback: object) -> bool: ...
def for_one_of(callbacks: _OneCallback | Sequence[_OneCallback] | None, count: int) -> list[Callback]: ...
def follower(callbacks: Sequence[Callback]) -> Any: ...
def check_monitor(callback: Callback, history: _History) -> None: ...
def call(callback: Callback, method: str, *arguments: object) -> None: ...
def tell_of_error(callbacks: Sequence[Callback], net: Network, error: BaseException) -> None: ...
