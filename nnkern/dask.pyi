# Types of dask.py, whose code and docstrings say the rest. Defaults are written there, not here.

from collections.abc import Callable, Mapping, Sequence
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
from nnkern.tabular import TabularClassifier as _OneClassifier
from nnkern.tabular import TabularRegressor as _OneRegressor
from nnkern.tabular import _Kind
from nnkern.tabular.recipes import Preset, Recipe

__all__ = ["MLPClassifier", "MLPRegressor", "TabularClassifier", "TabularRegressor"]

# What all constructors take; estimators/partitions.py says it in the signature of __init__.
class _OnDask(TypedDict, total=False):
    epochs_a_round: int
    n_shards: int | None
    timeout: float | None
    client: Any

# What both constructors take beside their own parameters; dask.py says it in the signature of __init__.
class _Shared(_OnDask, total=False):
    solver: Literal["adam", "adamw", "sgd"] | Optimizer
    alpha: float
    batch_size: int | Literal["auto"]
    learning_rate_init: float
    max_iter: int
    shuffle: bool
    random_state: int | np.random.RandomState | None
    tol: float
    early_stopping: bool
    n_iter_no_change: int
    dropout: float
    callbacks: _OneCallback | Sequence[_OneCallback] | None

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

# The same of the estimators of tables; tabular/on_dask.py says it.
class _SharedOfTables(_OnDask, total=False):
    preset: Literal["fast", "default", "best"]
    recipes: Recipe | Sequence[Recipe] | Preset | None
    n_estimators: int | None
    metric: str | None
    column_types: Mapping[str, _Kind] | Mapping[int, _Kind] | None
    validation_fraction: float
    refit: bool
    random_state: int | np.random.RandomState | None

class _DaskTabular(BaseEstimator):
    report_: list[dict[str, Any]]
    score_: float
    n_features_in_: int
    feature_names_in_: npt.NDArray[Any]

    def fit(self, X: Any, y: Any, sample_weight: Any = ..., eval_set: tuple[Any, ...] | None = ...) -> Self: ...
    def predict(self, X: Any) -> Any: ...

class TabularClassifier(ClassifierMixin, _DaskTabular):
    model_: _OneClassifier
    classes_: npt.NDArray[Any]

    def __init__(
        self,
        *,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = ...,
        **shared: Unpack[_SharedOfTables],
    ) -> None: ...
    def predict_proba(self, X: Any) -> Any: ...

class TabularRegressor(RegressorMixin, _DaskTabular):
    model_: _OneRegressor

    def __init__(self, **shared: Unpack[_SharedOfTables]) -> None: ...
