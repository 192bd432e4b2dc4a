"""Learning-rate schedules: callables from the epoch (counted from 0) to the rate. Any callable will do."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class InverseTime:
    """α₀ / (1 + decay · epoch)."""

    initial: float
    decay: float

    def __call__(self, epoch):
        return self.initial / (1 + self.decay * epoch)


@dataclass(frozen=True)
class Exponential:
    """α₀ · factor^epoch."""

    initial: float
    factor: float

    def __call__(self, epoch):
        return self.initial * self.factor**epoch


@dataclass(frozen=True)
class Step:
    """α₀ · factor^⌊epoch / every⌋."""

    initial: float
    factor: float
    every: int

    def __call__(self, epoch):
        return self.initial * self.factor ** (epoch // self.every)


@dataclass(frozen=True)
class Cosine:
    """From α₀ down to `final` along half a cosine over `epochs`, then `final`.

    Source: Loshchilov and Hutter, SGDR, 2017, equation 5 (without restarts).
    """

    initial: float
    epochs: int
    final: float = 0.0

    def __call__(self, epoch):
        share = min(epoch / self.epochs, 1)
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * share)) / 2


SCHEDULES = {cls.__name__: cls for cls in (InverseTime, Exponential, Step, Cosine)}
