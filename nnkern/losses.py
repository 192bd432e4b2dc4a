"""The losses: which output they need, what Y may be, and their numbers. Their arithmetic is in src/kernels/losses.def.

    binary_cross_entropy   L = -Σ_units (y log ŷ + (1 - y) log(1 - ŷ))     ŷ = σ(z)
    cross_entropy          L = -Σ_units y log ŷ                            ŷ = softmax(z)
    squared_error          L = Σ_units ½ (ŷ - y)²
    absolute_error         L = Σ_units |ŷ - y|                             derivative 0 at 0
    huber                  L = Σ_units ½ d² for |d| <= δ, else δ (|d| - ½ δ), d = ŷ - y
    quantile               L = Σ_units q (y - ŷ) or (1 - q) (ŷ - y), the one that is positive
    poisson                L = Σ_units (ŷ - y log ŷ)                       ŷ = e^z

The cost is the (weighted) mean over the examples, plus the penalty l2/2 Σ‖W[l]‖² + l1 Σ|W[l]|.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from nnkern import _engine, _kernels, validation


@dataclass(frozen=True)
class Loss:
    """What the rest of the package must know of a loss: base of the losses.

    Attributes
    ----------
    name : str
    output : str or None
        The activation its output layer must have; None: any.
    score : str
        What a right prediction is: "argmax", the unit of the largest output is the class; "sides", each output is on
        the right side of ½; "squares", there are no classes, and R² is told.
    low, high : float
        Between which the entries of Y must lie.
    kernel_takes_labels : bool
        Whether what computes it takes labels as they are; otherwise columns of 0 and 1 stand for them.
    """

    name: ClassVar[str] = ""
    score: ClassVar[str] = "squares"
    low: ClassVar[float] = -math.inf
    high: ClassVar[float] = math.inf
    kernel_takes_labels: ClassVar[bool] = True

    def __post_init__(self):
        for one in fields(self):
            object.__setattr__(self, one.name, self.checked(getattr(self, one.name)))

    @staticmethod
    def checked(number: Any) -> Any:
        """Its one number, where it is in its range; else a ValueError that names it."""
        return number

    @property
    def output(self) -> str | None:
        output = _kernels.LOSSES[self.name]
        return None if output == "linear" else output

    @property
    def classifies(self) -> bool:
        """Whether the score is accuracy; otherwise it is R²."""
        return self.score != "squares"

    @property
    def labels(self) -> bool:
        """Whether Y may be class labels."""
        return self.classifies

    def labels_of(self, A: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The labels that outputs A (n_y, m) stand for: (m,), or (n_y, m) for several sigmoid outputs.

        Raises
        ------
        ValueError
            There are no classes, or an output is NaN.
        """
        if not self.classifies:
            raise ValueError(f"the loss {self.name} has no classes: outputs are numbers, not labels: use predict")
        validation.no_nan(A)
        if self.score == "argmax":
            return A.argmax(axis=0)
        labels = (A > 0.5).astype(np.int64)
        return labels[0] if len(labels) == 1 else labels

    @property
    def parameter(self) -> float:
        """Its one number, as the kernels take it; 0 where it has none."""
        return next((getattr(self, one.name) for one in fields(self)), 0.0)

    @property
    def native(self):
        """What the engine calls it by."""
        return self.name

    def config(self) -> str | dict[str, Any]:
        """Its name, or where its numbers aren't the default ones, a dict of them and its name."""
        return self.name if self == type(self)() else {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class _Smoothed(Loss):
    """What the cross-entropies share."""

    label_smoothing: float = 0.0

    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0

    @staticmethod
    def checked(number: float) -> float:
        return validation.number("label_smoothing", number, 0, 1, high_open=True)


class BinaryCrossEntropy(_Smoothed):
    """-Σ_units (y log ŷ + (1 - y) log(1 - ŷ)), for sigmoid outputs; y in [0, 1].

    Parameters
    ----------
    label_smoothing : float
        ε in [0, 1): (1 - ε) y + ε / 2 stands for y, in training and evaluation: each unit has two classes.
    """

    name: ClassVar[str] = "binary_cross_entropy"
    score: ClassVar[str] = "sides"


class CrossEntropy(_Smoothed):
    """-Σ_units y log ŷ, for softmax outputs.

    Parameters
    ----------
    label_smoothing : float
        ε in [0, 1): (1 - ε) y + ε / n_y stands for y, in training and evaluation.
        Source: Szegedy et al., Rethinking the Inception architecture, 2016, section 7.
    """

    name: ClassVar[str] = "cross_entropy"
    score: ClassVar[str] = "argmax"


class SquaredError(Loss):
    """Σ_units ½ (ŷ - y)²."""

    name: ClassVar[str] = "squared_error"


class AbsoluteError(Loss):
    """Σ_units |ŷ - y|; its derivative at 0 is 0."""

    name: ClassVar[str] = "absolute_error"


@dataclass(frozen=True)
class Huber(Loss):
    """Σ_units ½ d² for |d| <= δ, else δ (|d| - ½ δ), with d = ŷ - y.

    Parameters
    ----------
    delta : float
        δ > 0.

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.Network([nk.Dense(1)], nk.losses.Huber(delta=2.0)).loss
    'huber'
    """

    delta: float = 1.0

    name: ClassVar[str] = "huber"

    @staticmethod
    def checked(number: float) -> float:
        return validation.number("delta", number, 0, low_open=True)


@dataclass(frozen=True)
class Quantile(Loss):
    """Σ_units q (y - ŷ) where ŷ <= y, else (1 - q) (ŷ - y): least at the q-quantile of y; its derivative at ŷ = y is 0.

    Parameters
    ----------
    q : float
        In (0, 1).
    """

    q: float = 0.5

    name: ClassVar[str] = "quantile"

    @staticmethod
    def checked(number: float) -> float:
        return validation.number("q", number, 0, 1, low_open=True, high_open=True)


class Poisson(Loss):
    """Σ_units (ŷ - y log ŷ), for exp outputs; counts y >= 0. The likelihood's log y! is left out."""

    name: ClassVar[str] = "poisson"
    low: ClassVar[float] = 0.0


# the loss whose score the engine counts as that
_SCORED_AS = {"argmax": "cross_entropy", "sides": "binary_cross_entropy", "squares": "squared_error"}


@dataclass(frozen=True)
class Custom(Loss):
    """A loss of the user's own: function(A, Y) -> (cost, dA).

    The function gets the outputs A (n_y, c) and Y (n_y, c) of c examples, in the network's dtype, as copies. It returns
    the loss of each example, (c,), or, where no sample weights are used, their mean; and dA (n_y, c): column i is the
    derivative of example i's own loss by its column of A, without a factor 1/c. L must not depend on other examples: a
    batch comes in blocks of at most 4096.

    One that classifies says so by its score, here or as the function's attribute ``score``. Labels are then taken as
    Y wherever the cross-entropies take them, and the function gets columns of 0 and 1 in their place; the score is
    accuracy, and `predict_labels`, class weights and the metrics of classes are there. Which activation the outputs
    have is the network's affair.

    What it costs: the GIL is taken back for each block, so that other Python threads wait for it, and numpy's price
    of a few microseconds a call is paid per batch. A saved network holds the function's name only, and the score.

    Parameters
    ----------
    function : callable, or the name of one that a loaded network lacks
    score : {"argmax", "sides", "squares"}, optional
        "argmax": the class is the unit of the largest output, and columns of Y sum to 1; "sides": each output tells of
        two classes, by the side of ½ it is on, and Y is in [0, 1]; "squares": numbers, whose score is R². Default: the
        function's attribute of that name, else "squares".

    Raises
    ------
    ValueError
        The score has another name.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> def log_cosh(A, Y):
    ...     return np.log(np.cosh(A - Y)).sum(axis=0), np.tanh(A - Y)
    >>> net = nk.Network([nk.Dense(1)], log_cosh, n_x=2, seed=0)
    >>> history = net.fit(np.ones((2, 8)), np.ones((1, 8)), epochs=3)
    >>> net.loss
    'custom'

    The focal loss of Lin et al. 2017, equation 4, with γ = 2, for softmax outputs:

    >>> def focal(A, Y):
    ...     A = A.clip(1e-7, 1)
    ...     dA = Y * (1 - A) * (2 * np.log(A) - (1 - A) / A)
    ...     return -(Y * (1 - A) ** 2 * np.log(A)).sum(axis=0), dA
    >>> focal.score = "argmax"
    >>> X = np.random.default_rng(0).standard_normal((2, 90))
    >>> labels = (X > 0).sum(axis=0)
    >>> net = nk.Network([nk.Dense(8, "tanh"), nk.Dense(3, "softmax")], focal, seed=0)
    >>> history = net.fit(X, labels, epochs=100, optimizer=nk.Adam(0.02))
    >>> right = (net.predict_labels(X) == labels).mean()
    >>> bool(right == net.evaluate(X, labels).score > 0.9)
    True
    """

    function: Callable[..., Any] | str
    score: str | None = field(default=None, kw_only=True)  # type: ignore[assignment, misc]

    name: ClassVar[str] = "custom"
    output: ClassVar[None] = None
    parameter: ClassVar[float] = 0.0
    kernel_takes_labels: ClassVar[bool] = False

    def __post_init__(self):
        score = getattr(self.function, "score", "squares") if self.score is None else self.score
        object.__setattr__(self, "score", validation.choice("score", score, _SCORED_AS))

    @property
    def low(self):
        return 0.0 if self.classifies else -math.inf

    @property
    def high(self):
        return 1.0 if self.classifies else math.inf

    @property
    def native(self):
        return self

    @property
    def scored_as(self):
        """The name of the loss whose score this one has."""
        return _SCORED_AS[self.score]

    def __call__(self, A, Y):
        """(cost, dA) as the function gives them."""
        given = self._missing(A, Y) if isinstance(self.function, str) else self.function(A, Y)
        if isinstance(given, tuple | list) and len(given) == 2:
            return given
        came = f"an array of shape {given.shape}" if isinstance(given, np.ndarray) else repr(given)
        if isinstance(given, tuple | list):
            came = f"{len(given)} things"
        raise ValueError(
            f"the loss function must return two things, (cost, dA): the loss of each example, ({A.shape[1]},), or "
            f"their mean, and in either case each example's own derivative by A, {A.shape}, without a factor "
            f"1/{A.shape[1]}; got {came}. check_gradients compares the two"
        )

    def _missing(self, A, Y):
        raise ValueError(
            f"the network's loss is the Python function {self.function}, which a saved model doesn't hold: hand it in "
            "where the model is loaded, nnkern.load(path, loss=function)"
        )

    def with_function(self, function):
        """The same with the function whose name alone a file has."""
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"loss must be the function that the network was trained by; got {function!r}")
        return Custom(function, score=self.score)

    def config(self) -> str | dict[str, Any]:
        function = self.function
        if not isinstance(function, str):
            function = (
                f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
            )
        config = {"name": self.name, "function": function}
        return config | {"score": self.score} if self.classifies else config


_CLASSES = (BinaryCrossEntropy, CrossEntropy, SquaredError, AbsoluteError, Huber, Quantile, Poisson)
LOSSES = {cls.name: cls() for cls in _CLASSES}


def get(loss: str | Loss | Callable[..., Any] | dict[str, Any]) -> Loss:
    """A loss from a name, a loss object, what its `config` gave, or a function (A, Y) -> (cost, dA).

    Raises
    ------
    ValueError
        There is none of that name; the names are listed.
    TypeError
        It is a class in place of an object.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise TypeError(f"loss is the class {loss.__name__}: pass an object of it, such as {loss.__name__}()")
    if callable(loss):
        return Custom(loss)
    if isinstance(loss, dict):
        numbers = dict(loss)
        name = numbers.pop("name", None)
        if name == Custom.name:
            return Custom(str(numbers["function"]), score=numbers.get("score"))
        return type(get(name))(**numbers)
    return LOSSES[validation.choice("loss", loss, LOSSES)]


def spread(Y, w):
    """Σ_i w_i (y_i - ȳ)² per output, ȳ the weighted mean."""
    Y = Y.astype(np.float64)
    mean = np.average(Y, axis=1, weights=w).reshape(-1, 1)
    squares = (Y - mean) ** 2
    return squares.sum(axis=1) if w is None else squares @ w.astype(np.float64)


def r2(squares, spread_of_Y):
    """R² averaged over the outputs; an output that is constant counts 1 when it is met exactly, else 0."""
    return _engine.r2(squares, spread_of_Y)
