# The types of nnkern.data. Docstrings and defaults are in its code.

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from nnkern._kernels import _Floats
from nnkern._optional import require as require
from nnkern.exceptions import MissingPackageError as MissingPackageError

__all__ = [
    "Arrays",
    "DataError",
    "MissingPackageError",
    "Preprocessor",
    "Target",
    "choose_target",
    "digits",
    "folds",
    "is_table",
    "picture_features",
    "read",
    "read_npz",
    "read_pictures",
    "require",
    "split",
    "take",
]

_Path: TypeAlias = str | PathLike[str]
_Task: TypeAlias = Literal["classification", "regression"]
_Rows: TypeAlias = npt.NDArray[np.integer[Any]]

class DataError(ValueError): ...

@dataclass
class Arrays:
    X: npt.NDArray[Any]
    Y: npt.NDArray[Any] | None
    source: str
    size: int | None = ...
    files: list[str] = ...
    groups: int | None = ...

    @property
    def m(self) -> int: ...
    @property
    def kind(self) -> str: ...
    def describe(self) -> str: ...

def read(path: _Path | None = ..., *, size: int = ...) -> Arrays: ...
def is_table(path: _Path) -> bool: ...
def read_npz(path: _Path) -> Arrays: ...
def read_pictures(path: _Path, *, size: int = ...) -> Arrays: ...
def picture_features(path: _Path, size: int = ...) -> npt.NDArray[np.float32]: ...
def digits() -> Arrays: ...

@dataclass
class Target:
    task: str
    Y: npt.NDArray[Any]
    labels: list[Any] | None = ...
    reason: str = ...

    @property
    def m(self) -> int: ...

def choose_target(data: Arrays, task: _Task | None = ...) -> Target: ...

class Preprocessor:
    kind: str
    n_x: int
    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    task: str
    size: int | None
    labels: list[Any] | None
    target_mean: npt.NDArray[np.float64] | None
    target_scale: npt.NDArray[np.float64] | None

    def __init__(
        self,
        kind: str,
        n_x: int,
        mean: npt.ArrayLike,
        scale: npt.ArrayLike,
        task: str,
        *,
        size: int | None = ...,
        labels: list[Any] | None = ...,
        target_mean: npt.ArrayLike | None = ...,
        target_scale: npt.ArrayLike | None = ...,
    ) -> None: ...
    @classmethod
    def fit(
        cls, data: Arrays, target: Target, *, rows: npt.ArrayLike | None = ..., scale_target: bool = ...
    ) -> Preprocessor: ...
    def features(self, data: Arrays, dtype: npt.DTypeLike = ...) -> _Floats: ...
    def targets(self, data: Arrays, dtype: npt.DTypeLike = ...) -> npt.NDArray[Any]: ...
    def standardise_target(self, Y: npt.NDArray[Any], dtype: npt.DTypeLike = ...) -> _Floats: ...
    def predictions(self, A: npt.ArrayLike) -> npt.NDArray[np.float64]: ...
    def to_dict(self) -> dict[str, Any]: ...
    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessor: ...
    def __eq__(self, other: object) -> bool: ...

def split(strata: npt.ArrayLike, share: float, seed: int = ...) -> tuple[_Rows, _Rows]: ...
def folds(strata: npt.ArrayLike, count: int, seed: int = ...) -> list[tuple[_Rows, _Rows]]: ...
def take(X: npt.NDArray[Any], rows: npt.ArrayLike) -> npt.NDArray[Any]: ...
