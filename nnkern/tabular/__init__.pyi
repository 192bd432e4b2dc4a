# Types of the package's face, whose code and docstrings say the rest. Defaults are written there, not here.
# scikit-learn itself has no types: what comes from its base classes (score, get_params, …) is Any.

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Self, TypeAlias, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from nnkern._values import Value
from nnkern.network import Network, _Communicator
from nnkern.tabular.explaining import Explanation
from nnkern.tabular.metrics import METRICS as METRICS
from nnkern.tabular.model import TableModel
from nnkern.tabular.preprocessing import Preprocessing
from nnkern.tabular.preprocessing import TabularWarning as TabularWarning
from nnkern.tabular.recipes import PRESETS as PRESETS
from nnkern.tabular.recipes import Preset

__all__ = ["METRICS", "PRESETS", "Recipe", "TabularClassifier", "TabularRegressor", "TabularWarning", "load"]

_Frame: TypeAlias = Any  # pandas, polars or pyarrow, a dict of columns, or a 2-D array
_Column: TypeAlias = Any  # a Series of these, an array, or the name of a column
_Kind: TypeAlias = Literal["number", "category", "date", "ignore"]
_Held: TypeAlias = tuple[_Frame, _Column] | tuple[_Frame, _Column, npt.ArrayLike]
_EvalSet: TypeAlias = _Held | list[_Held]

# What both constructors take; tabular/base.py says it in the signature of __init__.
class _Shared(TypedDict, total=False):
    preset: Literal["fast", "default", "best"]
    recipes: Recipe | Sequence[Recipe] | Preset | None
    n_estimators: int | None
    metric: str | None
    column_types: Mapping[str, _Kind] | Mapping[int, _Kind] | None
    validation_fraction: float
    refit: bool
    time_limit: float | None
    random_state: int | np.random.RandomState | None
    threads: int | None
    progress: bool

class Recipe(Value):
    units: tuple[int, ...]
    activation: str
    numbers: Literal["plain", "periodic", "quantile", "tree"]
    bins: int
    bin_rows: int
    number_units: int | None
    embedding_units: int
    embedding_from: int
    dropout: float
    scale: bool
    mix: bool
    ntk: bool
    bias_rate: float
    encoder_rate: float
    learning_rate: float
    weight_decay: float
    beta2: float
    schedule: str | None
    dropout_schedule: str | None
    epochs: int
    patience: int | None
    batch_size: int | None
    label_smoothing: float
    compute: Literal["bfloat16"] | None
    def __init__(
        self,
        *,
        units: Sequence[int] = ...,
        activation: str = ...,
        numbers: Literal["plain", "periodic", "quantile", "tree"] = ...,
        bins: int = ...,
        bin_rows: int = ...,
        number_units: int | None = ...,
        embedding_units: int = ...,
        embedding_from: int = ...,
        dropout: float = ...,
        scale: bool = ...,
        mix: bool = ...,
        ntk: bool = ...,
        bias_rate: float = ...,
        encoder_rate: float = ...,
        learning_rate: float = ...,
        weight_decay: float = ...,
        beta2: float = ...,
        schedule: str | None = ...,
        dropout_schedule: str | None = ...,
        epochs: int = ...,
        patience: int | None = ...,
        batch_size: int | None = ...,
        label_smoothing: float = ...,
        compute: Literal["bfloat16"] | None = ...,
    ) -> None: ...
    def replace(self, **changes: Any) -> Self: ...

class _Tabular(BaseEstimator):
    model_: TableModel
    columns_: Preprocessing
    networks_: list[Network]
    network_: Network
    report_: list[dict[str, Any]]
    score_: float
    interrupted_: bool
    n_features_in_: int
    feature_names_in_: npt.NDArray[np.object_]
    def fit(
        self,
        X: _Frame,
        y: _Column,
        sample_weight: npt.ArrayLike | None = ...,
        eval_set: _EvalSet | None = ...,
        *,
        comm: _Communicator | None = ...,
        deadline: float = ...,
    ) -> Self: ...
    def score(self, X: _Frame, y: _Column, sample_weight: npt.ArrayLike | None = ...) -> float: ...
    def feature_importances(
        self,
        X: _Frame,
        y: _Column,
        *,
        sample_weight: npt.ArrayLike | None = ...,
        n_repeats: int = ...,
        metric: str | None = ...,
        random_state: int | np.random.RandomState | None = ...,
    ) -> dict[str, float]: ...
    def save(self, path: str | PathLike[str]) -> None: ...
    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self: ...
    def to_onnx(self, path: str | PathLike[str]) -> None: ...
    def to_c(self, path: str | PathLike[str] | None = ...) -> str: ...

class TabularClassifier(ClassifierMixin, _Tabular):
    classes_: npt.NDArray[Any]
    def __init__(
        self,
        *,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = ...,
        **shared: Unpack[_Shared],
    ) -> None: ...
    def predict(self, X: _Frame) -> npt.NDArray[Any]: ...
    def predict_proba(self, X: _Frame) -> npt.NDArray[np.float64]: ...
    def predict_one(self, row: Mapping[str, Any]) -> Any: ...
    def predict_proba_one(self, row: Mapping[str, Any]) -> npt.NDArray[np.float64]: ...
    def explain(self, X: _Frame, *, label: Any = ..., steps: int = ...) -> Explanation: ...

class TabularRegressor(RegressorMixin, _Tabular):
    def __init__(self, **shared: Unpack[_Shared]) -> None: ...
    def predict(self, X: _Frame) -> npt.NDArray[np.float64]: ...
    def predict_one(self, row: Mapping[str, Any]) -> float: ...
    def explain(self, X: _Frame, *, steps: int = ...) -> Explanation: ...

def load(path: str | PathLike[str]) -> TabularClassifier | TabularRegressor: ...
