# Types of sklearn.py, whose code and docstrings say the rest. Defaults are written there, not here.
# scikit-learn itself has no types: what comes from its base classes (score, get_params, …) is Any.

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Literal, Self, TypeAlias, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from nnkern import names
from nnkern._kernels import _Floats
from nnkern.callbacks import _OneCallback
from nnkern.losses import Loss
from nnkern.network import Network
from nnkern.optimizers import Optimizer

__all__ = ["MLPClassifier", "MLPRegressor"]

_Activation: TypeAlias = names.Activation | Literal["identity", "logistic"]
_Examples: TypeAlias = Any  # array-like or a sparse matrix of scipy, which has no types
_EvalSet: TypeAlias = tuple[_Examples, npt.ArrayLike] | tuple[_Examples, npt.ArrayLike, npt.ArrayLike]

# What both constructors take beside their own parameters; estimators/base.py says it in the signature of __init__.
class _Shared(TypedDict, total=False):
    solver: Literal["lbfgs", "sgd", "adam", "adamw"] | Optimizer
    alpha: float
    batch_size: int | Literal["auto"]
    learning_rate: Literal["constant", "invscaling", "adaptive"]
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: int | np.random.RandomState | None
    tol: float
    verbose: bool
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool | Literal["loss"]
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    weight_decay: float
    dropout: float | Sequence[float]
    callbacks: _OneCallback | Sequence[_OneCallback] | None
    progress: bool
    threads: int | None
    compute: Literal["bfloat16"] | None

class _MLP(BaseEstimator):
    coefs_: list[_Floats]
    intercepts_: list[_Floats]
    loss_: float
    best_loss_: float | None
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float]
    best_validation_score_: float | None
    best_validation_loss_: float | None
    n_iter_: int
    t_: int
    n_features_in_: int
    random_state_: int | np.random.RandomState
    n_layers_: int
    n_outputs_: int
    out_activation_: str

    @property
    def network_(self) -> Network: ...
    def to_onnx(
        self,
        path: str | PathLike[str],
        *,
        mean: npt.ArrayLike | None = ...,
        scale: npt.ArrayLike | None = ...,
        target_mean: npt.ArrayLike | None = ...,
        target_scale: npt.ArrayLike | None = ...,
    ) -> None: ...
    def fit(
        self,
        X: _Examples,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = ...,
        eval_set: _EvalSet | None = ...,
        *,
        comm: Any = ...,
        deadline: float = ...,
    ) -> Self: ...

class MLPClassifier(ClassifierMixin, _MLP):
    classes_: npt.NDArray[Any]

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = ...,
        activation: _Activation | Sequence[_Activation] = ...,
        *,
        loss: Literal["log_loss"] | names.Loss | Loss | Callable[..., Any] = ...,
        class_weight: dict[Any, float] | list[dict[Any, float]] | str | None = ...,
        **shared: Unpack[_Shared],
    ) -> None: ...
    def predict(self, X: _Examples) -> npt.NDArray[Any]: ...
    def predict_proba(self, X: _Examples) -> _Floats: ...
    def predict_log_proba(self, X: _Examples) -> _Floats: ...
    def partial_fit(
        self,
        X: _Examples,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = ...,
        classes: npt.ArrayLike | None = ...,
    ) -> Self: ...

class MLPRegressor(RegressorMixin, _MLP):
    def __init__(
        self,
        loss: names.Loss | Loss | Callable[..., Any] = ...,
        hidden_layer_sizes: int | Sequence[int] = ...,
        activation: _Activation | Sequence[_Activation] = ...,
        **shared: Unpack[_Shared],
    ) -> None: ...
    def predict(self, X: _Examples) -> _Floats: ...
    def partial_fit(
        self,
        X: _Examples,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = ...,
    ) -> Self: ...
