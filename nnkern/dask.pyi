# Types of dask.py, whose code and docstrings say the rest. Defaults are written there, not here.

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from nnkern import names
from nnkern.callbacks import _OneCallback
from nnkern.losses import Loss
from nnkern.network import Network
from nnkern.optimizers import Optimizer
from nnkern.sklearn import _Activation

__all__ = ["MLPClassifier", "MLPRegressor"]

# What both constructors take beside their own parameters; dask.py says it in the signature of __init__.
class _Shared(TypedDict, total=False):
    solver: Literal["adam", "adamw", "sgd"] | Optimizer
    alpha: float
    batch_size: int | Literal["auto"]
    learning_rate_init: float
    max_iter: int
    epochs_a_round: int
    shuffle: bool
    random_state: int | np.random.RandomState | None
    tol: float
    early_stopping: bool
    n_iter_no_change: int
    dropout: float
    callbacks: _OneCallback | Sequence[_OneCallback] | None
    n_shards: int | None
    timeout: float | None
    client: Any

class _DaskMLP(BaseEstimator):
    network_: Network
    loss_: float
    loss_curve_: list[float]
    n_iter_: int
    n_features_in_: int
    feature_names_in_: npt.NDArray[Any]
    validation_loss_curve_: list[float]
    validation_scores_: list[float]

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int],
        activation: _Activation,
        loss: str | Loss | Callable[..., Any],
        **shared: Unpack[_Shared],
    ) -> None: ...
    def fit(self, X: Any, y: Any, sample_weight: Any = ..., eval_set: tuple[Any, ...] | None = ...) -> Self: ...

class MLPClassifier(ClassifierMixin, _DaskMLP):
    classes_: npt.NDArray[Any]

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = ...,
        activation: _Activation = ...,
        *,
        loss: Literal["log_loss"] = ...,
        **shared: Unpack[_Shared],
    ) -> None: ...
    def predict(self, X: Any) -> Any: ...
    def predict_proba(self, X: Any) -> Any: ...

class MLPRegressor(RegressorMixin, _DaskMLP):
    n_outputs_: int

    def __init__(
        self,
        loss: names.Loss | Loss = ...,
        hidden_layer_sizes: int | Sequence[int] = ...,
        activation: _Activation = ...,
        **shared: Unpack[_Shared],
    ) -> None: ...
    def predict(self, X: Any) -> Any: ...
