"""The optimizers: hyper-parameters, and which native update they drive (src/kernels/updates.def has the formulas).

An optimizer object holds numbers only; the network holds the state. A learning rate may be a schedule: a callable from
the epoch (counted from 0) to the rate, or a `nnkern.schedules.ByStep`, which a weight decay may be too.
"""

import math
import numbers
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, TypeAlias

from nnkern import arguments, schedules, validation

Rate: TypeAlias = float | Callable[[int], float]


def _rate_or_schedule(value):
    """A learning rate, or what gives one by epoch or by step."""
    if isinstance(value, type) or not (callable(value) or isinstance(value, numbers.Real)):
        made = f"{value.__name__}(…)" if isinstance(value, type) else "schedules.Cosine(0.01, epochs=100)"
        raise ValueError(
            f"learning_rate must be a number, finite and > 0, or a schedule; got {value!r}: a schedule is an object "
            f"such as {made}, or a function of the epoch"
        )
    return value if callable(value) else validation.number("learning_rate", value, 0, low_open=True)


@dataclass(repr=False)
class Optimizer:
    """Base of the optimizers.

    Parameters
    ----------
    clip_value : float, optional
        Entries of the gradient are kept within ± this.
    clip_norm : float, optional
        The gradient of all parameters together is made shorter where its Euclidean norm is larger. Both take the
        gradient of J, penalty included; the value comes first.
    """

    if TYPE_CHECKING:
        learning_rate: Rate  # the first field of every optimizer
    clip_value: float | None = field(default=None, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)

    def __repr__(self):
        """Its numbers, clipping last and only where there is some."""
        clipping = [f for f in fields(Optimizer) if getattr(self, f.name) is not None]
        shown = [f for f in fields(self) if not f.kw_only] + clipping
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in shown)})"

    def __post_init__(self):
        self.check()

    def check(self) -> None:
        """Raises ValueError where a hyper-parameter is out of its range; the others become Python's own numbers."""
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "learning_rate":
                value = _rate_or_schedule(value)
            elif f.name == "momentum":
                value = validation.number(f.name, value, 0, 1)
            elif f.name in ("beta1", "beta2", "alpha"):
                value = validation.number(f.name, value, 0, 1, high_open=True)
            elif f.name == "eps":
                value = validation.number(f.name, value, 0, low_open=True)
            elif f.name == "weight_decay":
                value = value if isinstance(value, schedules.ByStep) else validation.number(f.name, value, 0)
            elif f.name == "nesterov":
                value = validation.flag(f.name, value)
            elif f.kw_only and value is not None:
                value = validation.number(f.name, value, 0, low_open=True)
            setattr(self, f.name, value)

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        if isinstance(self.learning_rate, schedules.ByStep):
            self.refuse_by_step()
        if callable(self.learning_rate):
            return validation.number(f"the schedule's rate of epoch {epoch}", self.learning_rate(epoch), 0)
        return validation.number("learning_rate", self.learning_rate, 0)  # a callback may have set it

    def by_step(self) -> dict[str, schedules.ByStep]:
        """Those of its numbers that change from step to step."""
        return {f.name: s for f in fields(self) if isinstance(s := getattr(self, f.name), schedules.ByStep)}

    def refuse_by_step(self) -> None:
        """Raises ValueError where a number changes from step to step: where nobody knows how many there are."""
        for name, schedule in self.by_step().items():
            raise ValueError(
                f"{name}={schedule!r} goes by the share of the steps that are done, which only fit knows: for a loop "
                f"of your own pass an optimizer with the number of each step, {name}=schedule(t) for t = step / steps"
            )

    @property
    def update(self) -> str:
        """Name of the native update."""
        raise NotImplementedError

    @property
    def hyper_parameters(self):
        """The update's own numbers but for the rate, by the names of the engine."""
        return {
            f.name: float(schedules.initial(getattr(self, f.name)))
            for f in fields(self)
            if f.name != "learning_rate" and not f.kw_only
        }

    @property
    def numbers(self):
        """All numbers of an update but for the rate."""
        clipping = {f.name: getattr(self, f.name) for f in fields(Optimizer)}
        return self.hyper_parameters | {name: math.inf if x is None else float(x) for name, x in clipping.items()}


@arguments.named("optimizer=SGD(0.1, {}=…)")
@dataclass(repr=False)
class SGD(Optimizer):
    """Gradient descent, with momentum: v ← μ v − α g; θ ← θ + v; Nesterov: θ ← θ + μ v − α g.

    Parameters
    ----------
    learning_rate : float or callable
        α > 0, or a schedule.
    momentum : float
        μ in [0, 1].
    nesterov : bool
    clip_value, clip_norm : float, optional
        As in every optimizer, see `Optimizer`.

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    learning_rate: Rate = 0.1
    momentum: float = 0.0
    nesterov: bool = False

    @property
    def update(self) -> str:
        if self.momentum == 0:
            return "sgd"
        return "nesterov" if self.nesterov else "momentum"

    @property
    def hyper_parameters(self):
        return {"momentum": float(self.momentum)}


@arguments.named("optimizer=Adam({}=…)")
@dataclass(repr=False)
class Adam(Optimizer):
    """Adam: m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; θ ← θ − α m̂ / (√v̂ + ε), m̂ and v̂ corrected for their start at 0.

    Source: Kingma and Ba, Adam: a method for stochastic optimization, 2015, algorithm 1; ε is added to √v̂.
    """

    learning_rate: Rate = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    @property
    def update(self) -> str:
        return "adam"


@arguments.named("optimizer=AdamW({}=…)")
@dataclass(repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: first W ← W − α λ W (weights only), then Adam's step. λ may go by step.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, 2019.
    """

    weight_decay: float | schedules.ByStep = 0.01


@arguments.named()
@dataclass(repr=False)
class RMSprop(Optimizer):
    """RMSprop, not centred: v ← α v + (1−α) g²; θ ← θ − rate g / (√v + ε).

    Source: Tieleman and Hinton, Lecture 6.5, 2012.
    """

    learning_rate: Rate = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8

    @property
    def update(self) -> str:
        return "rmsprop"

    @property
    def hyper_parameters(self):
        return {"beta2": float(self.alpha), "eps": float(self.eps)}


@arguments.named()
@dataclass(repr=False)
class Adagrad(Optimizer):
    """Adagrad: v ← v + g²; θ ← θ − rate g / (√v + ε).

    Source: Duchi, Hazan and Singer, Adaptive subgradient methods, 2011.
    """

    learning_rate: Rate = 1e-2
    eps: float = 1e-10

    @property
    def update(self) -> str:
        return "adagrad"


OPTIMIZERS = {cls.__name__.lower(): cls for cls in (SGD, Adam, AdamW, RMSprop, Adagrad)}


def get(optimizer):
    """An optimizer from an object or a name; None is SGD(0.1).

    Raises
    ------
    ValueError
        The name is unknown; the names are listed.
    TypeError
        It is neither.
    """
    if optimizer is None:
        return SGD()
    if isinstance(optimizer, str):
        if optimizer.lower() in OPTIMIZERS:
            optimizer = optimizer.lower()
        return OPTIMIZERS[validation.choice("optimizer", optimizer, OPTIMIZERS)]()
    if not isinstance(optimizer, Optimizer):
        came = reprlib.repr(optimizer)
        if isinstance(optimizer, type):
            came += f": make one, {optimizer.__name__}(…)"
        raise TypeError(f"optimizer must be one of {', '.join(OPTIMIZERS)} or an optimizer object; got {came}")
    optimizer.check()
    return optimizer


def to_json(optimizer):
    """The optimizer as what JSON can hold; None where it is one of the user's own, or goes by a function of theirs."""
    if type(optimizer) not in OPTIMIZERS.values():
        return None
    optimizer.check()  # callbacks may have changed it
    config = {"name": type(optimizer).__name__.lower(), **vars(optimizer)}
    for name, value in config.items():
        if callable(value):
            config[name] = schedules.to_json(value)
            if config[name] is None:
                return None
    return config


def from_json(config):
    """The optimizer that `to_json` wrote; ValueError or TypeError for anything else."""
    if config is None:
        return None
    config = dict(config)
    cls = OPTIMIZERS[validation.choice("optimizer", config.pop("name"), OPTIMIZERS)]
    config = {name: schedules.from_json(x) if isinstance(x, dict) else x for name, x in config.items()}
    return cls(**config)
