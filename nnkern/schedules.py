"""Schedules: numbers that change while a network trains.

A learning rate may be a callable from the epoch, counted from 0, to the rate: one of `InverseTime`, `Exponential`,
`Step`, `Cosine` and `WarmUp`, or a function of one's own. A learning rate, a weight decay or a layer's dropout may be a
`ByStep`, which changes from step to step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from nnkern import names, validation
from nnkern._values import Value


@dataclass(frozen=True, eq=False, repr=False)
class _Schedule(Value):
    """Base of the schedules: their numbers are checked when they are made, and kept as Python's own."""

    _least_epochs: ClassVar[int] = 1

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("every", "epochs"):
                value = validation.integer(f.name, value, self._least_epochs)
            elif f.name != "then" or not callable(value):
                value = validation.number(f.name, value, 0)
            elif isinstance(value, ByStep):
                raise ValueError("then must be a rate or a schedule of the epoch; ByStep is a schedule of the step")
            object.__setattr__(self, f.name, value)


@dataclass(frozen=True, eq=False, repr=False)
class InverseTime(_Schedule):
    """α₀ / (1 + decay · epoch)."""

    initial: float
    decay: float

    def __call__(self, epoch: int) -> float:
        return self.initial / (1 + self.decay * epoch)


@dataclass(frozen=True, eq=False, repr=False)
class Exponential(_Schedule):
    """α₀ · factor^epoch."""

    initial: float
    factor: float

    def __call__(self, epoch: int) -> float:
        return self.initial * self.factor**epoch


@dataclass(frozen=True, eq=False, repr=False)
class Step(_Schedule):
    """α₀ · factor^⌊epoch / every⌋."""

    initial: float
    factor: float
    every: int

    def __call__(self, epoch: int) -> float:
        return self.initial * self.factor ** (epoch // self.every)


@dataclass(frozen=True, eq=False, repr=False)
class Cosine(_Schedule):
    """From α₀ down to `final` along half a cosine over `epochs`, then `final`.

    Source: Loshchilov and Hutter, SGDR, 2017, equation 5 (without restarts).
    """

    initial: float
    epochs: int
    final: float = 0.0

    def __call__(self, epoch: int) -> float:
        share = min(epoch / self.epochs, 1)
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True, eq=False, repr=False)
class WarmUp(_Schedule):
    """Rises in equal steps over `epochs` epochs, then goes on as `then`, a rate or a schedule counted from there.

    Epoch e < epochs has the share (e + 1) / (epochs + 1) of the rate that `then` begins with.

    Examples
    --------
    >>> import nnkern as nk
    >>> warm_up = nk.schedules.WarmUp(nk.schedules.Exponential(0.8, 0.5), epochs=3)
    >>> [round(warm_up(epoch), 3) for epoch in range(6)]
    [0.2, 0.4, 0.6, 0.8, 0.4, 0.2]
    """

    _least_epochs: ClassVar[int] = 0

    then: float | Callable[[int], float]
    epochs: int

    def __call__(self, epoch: int) -> float:
        later = self.then if callable(self.then) else lambda _: self.then
        return later(0) * (epoch + 1) / (self.epochs + 1) if epoch < self.epochs else later(epoch - self.epochs)


def _falling(share):
    """From 1 down to 0 along half a cosine, as the share of the way goes from 0 to 1."""
    return (1 + np.cos(np.pi * share)) / 2


def _one_cycle(t, top):
    rising, falling = _falling(1 - t / top), _falling((t - top) / (1 - top))
    return np.where(t < top, (1 + 24 * rising) / 25, falling + (1 - falling) / 25e4)


SHAPES = {
    "cosine": lambda t, _: _falling(t),
    "coslog4": lambda t, _: (1 - np.cos(2 * np.pi * np.log2(1 + 15 * t))) / 2,
    "flat_cos": lambda t, _: np.where(t < 0.5, 1.0, _falling(2 * t - 1)),
    "linear": lambda t, _: 1 - t,
    "one_cycle": _one_cycle,
    "warm_up": lambda t, share: np.minimum(t / share, 1),
}
"""Factors by name: functions of t and, for those in _SHARES, of the share of the steps that the rise takes."""
_SHARES = {"one_cycle": 0.3, "warm_up": 0.1}


@dataclass(frozen=True, eq=False, repr=False)
class ByStep(_Schedule):
    """A number that changes from step to step: `initial` times a factor, a function of the share of the steps done.

    t in [0, 1) is the share before the step: steps done / steps of the fit, which are epochs times steps an epoch. In
    ``fit(…, resume=True)`` the epochs before count too, so that a training that was interrupted, and is resumed for the
    epochs that are left, goes the same way.

    ``Adam(learning_rate=ByStep(…))``, ``AdamW(weight_decay=ByStep(…))`` and ``Dense(dropout=ByStep(…))`` take one. An
    iterable of batches must have a ``__len__`` then. Outside of `Network.fit` nobody knows the share of the steps:
    `Network.partial_fit` and `Network.step` refuse a rate or a decay by step, and layers drop by `initial`.

    Parameters
    ----------
    initial : float
        What the factor is for: a learning rate, the weight decay λ, or the share of a layer's outputs to drop.
    shape : str or callable
        A function t → factor, called once for each step, or one of

        ========== ==================================================================================================
        cosine     ½ (1 + cos πt)
        linear     1 − t
        flat_cos   1 up to t = ½, then ½ (1 + cos π(2t − 1))
        coslog4    ½ (1 − cos(2π log₂(1 + 15t))): four cycles, each longer than the one before (RealMLP: Holzmüller,
                   Grinsztajn and Steinwart 2024)
        warm_up    t / share up to t = share, then 1
        one_cycle  from 1/25 up to 1 at t = share along half a cosine, then likewise down to 1/250,000: as torch's
                   OneCycleLR by default (Smith and Topin 2019)
        ========== ==================================================================================================
    share : float, optional
        Of the steps, in (0, 1), that the rise of warm_up (default 0.1) or one_cycle (default 0.3) takes.

    Examples
    --------
    >>> import nnkern as nk
    >>> rate = nk.schedules.ByStep(0.04, "linear")
    >>> [rate(t) for t in (0, 0.25, 0.5)]
    [0.04, 0.03, 0.02]
    >>> optimizer = nk.AdamW(rate, weight_decay=nk.schedules.ByStep(0.02, "flat_cos"))
    """

    initial: float
    shape: names.Shape | Callable[[float], float]
    share: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "initial", validation.number("initial", self.initial, 0))
        if not callable(self.shape):
            validation.choice("shape", self.shape, SHAPES)
        default = None if callable(self.shape) else _SHARES.get(self.shape)
        if self.share is None:
            object.__setattr__(self, "share", default)
        elif default is None:
            raise ValueError(
                f"share is for the shapes {' and '.join(_SHARES)}; got share={self.share!r} for {self.shape!r}"
            )
        else:
            number = validation.number("share", self.share, 0, 1, low_open=True, high_open=True)
            object.__setattr__(self, "share", number)

    def __call__(self, t: float) -> float:
        return float(self._values(np.array([t], np.float64))[0])

    def table(self, first, count, steps):
        """The numbers of the steps first … first + count - 1 of so many, as a vector."""
        return self._values(np.arange(first, first + count) / steps)

    def _values(self, t):
        """A number for each entry of a vector."""
        if callable(self.shape):
            factors = [validation.number(f"the factor at t = {x:g}", self.shape(x), 0) for x in t.tolist()]
            return self.initial * np.array(factors, np.float64)
        return self.initial * SHAPES[self.shape](t, self.share)


def initial(value):
    """A number that may go by step, where there are no steps to go by."""
    return value.initial if isinstance(value, ByStep) else value


SCHEDULES = {cls.__name__: cls for cls in (InverseTime, Exponential, Step, Cosine, WarmUp, ByStep)}


def to_json(schedule):
    """The schedule as what JSON can hold; None where it is one of the user's own."""
    if type(schedule) not in SCHEDULES.values():
        return None
    config = {"schedule": type(schedule).__name__, **vars(schedule)}
    if callable(config.get("shape")):
        return None
    if callable(config.get("then")):
        config["then"] = to_json(config["then"])
        if config["then"] is None:
            return None
    return config


def from_json(config):
    """The schedule that `to_json` wrote; ValueError or TypeError for anything else."""
    config = dict(config)
    schedule = SCHEDULES[validation.choice("schedule", config.pop("schedule"), SCHEDULES)]
    if isinstance(config.get("then"), dict):
        config["then"] = from_json(config["then"])
    return schedule(**config)
