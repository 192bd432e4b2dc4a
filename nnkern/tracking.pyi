# Types of tracking.py, whose code and docstrings say the rest. Defaults are written there, not here.

from collections.abc import Callable
from os import PathLike
from typing import Any, TypeAlias

import numpy.typing as npt

from nnkern.callbacks import ForOne

_Monitor: TypeAlias = str | Callable[[npt.NDArray[Any], npt.NDArray[Any]], float]

class _Log(ForOne):
    every: int
    prefix: str
    def __init__(self, every: int, prefix: str) -> None: ...

class TensorBoard(_Log):
    log_dir: str

    def __init__(self, log_dir: str | PathLike[str], every: int = ..., *, prefix: str = ...) -> None: ...
    def write(self, step: int, values: dict[str, float]) -> None: ...
    def __getstate__(self) -> dict[str, Any]: ...

class MLflow(_Log):
    run_id: str | None

    def __init__(self, run_id: str | None = ..., every: int = ..., *, prefix: str = ...) -> None: ...
    def write(self, step: int, values: dict[str, float]) -> None: ...

class OptunaPruning(ForOne):
    trial: Any  # of Optuna's, which needn't be installed
    monitor: _Monitor
    raises: bool
    pruned: bool

    def __init__(self, trial: Any, monitor: _Monitor = ..., *, raises: bool = ...) -> None: ...
    def __deepcopy__(self, memo: dict[int, Any]) -> OptunaPruning: ...
