"""Learning-rate schedules: callables from the epoch (counted from 0) to the rate. Any callable will do."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

from nnkern import validation


@dataclass(frozen=True)
class _Schedule:
    """Base of the schedules: their numbers are checked when they are made, and kept as Python's own.

    What a dataclass would give each of them, at the cost of compiling it at import, is here once.
    """

    _least_epochs: ClassVar[int] = 1

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("every", "epochs"):
                value = validation.integer(f.name, value, self._least_epochs)
            elif f.name != "then" or not callable(value):
                value = validation.number(f.name, value, 0)
            object.__setattr__(self, f.name, value)

    def __repr__(self):
        return f"{type(self).__qualname__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in fields(self))})"

    def __eq__(self, other):
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self):
        return hash((type(self), *vars(self).values()))


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


SCHEDULES = {cls.__name__: cls for cls in (InverseTime, Exponential, Step, Cosine, WarmUp)}


def to_json(schedule):
    """The schedule as what JSON can hold; None where it is one of the user's own."""
    if type(schedule) not in SCHEDULES.values():
        return None
    config = {"schedule": type(schedule).__name__, **vars(schedule)}
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
