# Types of many.py, whose code and docstrings say the rest. Defaults are written there, not here.

from collections.abc import Sequence
from typing import Any, Literal

import numpy.typing as npt

from nnkern import names
from nnkern.callbacks import _Metric, _OneCallback
from nnkern.network import Network, _Batch, _ClassWeight
from nnkern.optimizers import Optimizer

def fit_many(
    nets: Sequence[Network],
    X: npt.ArrayLike | list[npt.NDArray[Any]],
    Y: npt.ArrayLike | list[npt.NDArray[Any]],
    *,
    epochs: int = ...,
    batch_size: int | None = ...,
    shuffle: bool = ...,
    drop_last: bool = ...,
    optimizer: Optimizer | names.Optimizer | Sequence[Optimizer | names.Optimizer] | None = ...,
    sample_weight: npt.ArrayLike | Sequence[npt.ArrayLike | None] | None = ...,
    class_weight: Literal["balanced"] | _ClassWeight | None = ...,
    validation_data: _Batch | Sequence[_Batch | None] | None = ...,
    metrics: _Metric | Sequence[_Metric] = ...,
    callbacks: _OneCallback | Sequence[_OneCallback | Sequence[_OneCallback] | None] | None = ...,
    threads: int | None = ...,
    rows: bool = ...,
) -> list[dict[str, Any]]: ...  # lists of float; "diverged" holds an error
