"""The losses by name: which output they need, and what Y may be. Their arithmetic is in src/losses.h.

    binary_cross_entropy   L = -Σ_units (y log ŷ + (1 - y) log(1 - ŷ))     ŷ = σ(z)
    cross_entropy          L = -Σ_units y log ŷ                            ŷ = softmax(z)
    squared_error          L = Σ_units ½ (ŷ - y)²
    absolute_error         L = Σ_units |ŷ - y|                             derivative 0 at 0

The cost is the (weighted) mean over the examples, plus the penalty l2/2 Σ‖W[l]‖² + l1 Σ|W[l]|.
"""

from dataclasses import dataclass

import numpy as np

from nnkern import validation


@dataclass(frozen=True)
class Loss:
    """What the rest of the package must know of a loss.

    Attributes
    ----------
    name : str
    output : str or None
        The activation its output layer must have; None: any.
    labels : bool
        Whether Y may be class labels.
    unit_interval : bool
        Whether the entries of Y must lie in [0, 1].
    """

    name: str
    output: str | None = None
    labels: bool = False
    unit_interval: bool = False

    @property
    def classifies(self):
        """Whether the score is accuracy; otherwise it is R²."""
        return self.labels


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("binary_cross_entropy", output="sigmoid", labels=True, unit_interval=True),
        Loss("cross_entropy", output="softmax", labels=True, unit_interval=True),
        Loss("squared_error"),
        Loss("absolute_error"),
    )
}


def get(name):
    """The loss of that name.

    Raises
    ------
    ValueError
        There is none; the names are listed.
    """
    return LOSSES[validation.choice("loss", name, LOSSES)]


def spread(Y, w):
    """Σ_i w_i (y_i - ȳ)² per output, ȳ the weighted mean."""
    Y = Y.astype(np.float64)
    mean = np.average(Y, axis=1, weights=w).reshape(-1, 1)
    squares = (Y - mean) ** 2
    return squares.sum(axis=1) if w is None else squares @ w.astype(np.float64)


def r2(squares, spread_of_Y):
    """R² averaged over the outputs; an output that is constant counts 1 when it is met exactly, else 0."""
    constant = spread_of_Y == 0
    ratios = squares / np.where(constant, 1, spread_of_Y)
    return float(np.where(constant, squares == 0, 1 - ratios).mean())
