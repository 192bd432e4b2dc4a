# The types of nnkern.plotting. Docstrings and defaults are in its code.

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnkern.network import Network

__all__ = ["confusion", "confusion_matrix", "decision_boundary", "learning_curve", "panels", "weight_images"]

_Estimator: TypeAlias = Any  # of scikit-learn's kind, which has no types
_History: TypeAlias = Mapping[str, Sequence[float]] | _Estimator

def panels(
    rows: int = ..., columns: int = ..., *, width: float = ..., height: float = ...
) -> tuple[Figure, npt.NDArray[Any]]: ...
def learning_curve(
    history: _History | Sequence[_History],
    quantity: str = ...,
    *,
    labels: Sequence[str] | None = ...,
    ax: Axes | None = ...,
) -> Axes: ...
def decision_boundary(
    model: Network | _Estimator,
    X: npt.ArrayLike,
    Y: npt.ArrayLike | None = ...,
    *,
    points: int = ...,
    labels: Sequence[str] | None = ...,
    ax: Axes | None = ...,
) -> Axes: ...
def weight_images(
    model: Network | _Estimator,
    *,
    shape: Sequence[int] | None = ...,
    units: Iterable[int] | None = ...,
    ax: Axes | None = ...,
) -> Axes: ...
def confusion(Y: npt.ArrayLike, Y_hat: npt.ArrayLike, classes: npt.ArrayLike | None = ...) -> npt.NDArray[np.intp]: ...
def confusion_matrix(
    Y: npt.ArrayLike,
    Y_hat: npt.ArrayLike,
    *,
    classes: npt.ArrayLike | None = ...,
    labels: Sequence[str] | None = ...,
    normalise: bool = ...,
    ax: Axes | None = ...,
) -> Axes: ...
