"""The learning-rate finder: which rates a network can be trained with, tried step by step on a copy of it."""

import copy
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnkern import names, optimizers, validation
from nnkern.exceptions import DivergenceError
from nnkern.network import Network
from nnkern.schedules import ByStep
from nnkern.state import of

# of the running mean of the costs, as Smith and fastai have it
_SMOOTHING = 0.98
# times the lowest smoothed cost, from which on it is over
_ENOUGH = 4.0


class RateSearch(NamedTuple):
    """What `find_learning_rate` returns.

    rates, costs: vectors, the rate of each step and the cost of its batch before it; smoothed: the running mean of the
    costs; best: a tenth of the rate at which that is least, below which the cost still falls fast.
    """

    rates: npt.NDArray[np.float64]
    costs: npt.NDArray[np.float64]
    smoothed: npt.NDArray[np.float64]
    best: float


def find_learning_rate(
    net: Network,
    X: npt.ArrayLike,
    Y: npt.ArrayLike,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    optimizer: optimizers.Optimizer | names.Optimizer | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> RateSearch:
    """Costs of steps whose learning rate rises from `low` to `high`, each by the same factor, on a copy of the network.

    The network itself isn't changed. Batches are drawn by its seed, each example once before one comes again. It ends
    early where the smoothed cost is four times the lowest so far, or isn't finite.

    Parameters
    ----------
    net : Network
        Without parameters it is initialized for X, in the copy.
    X : (n_x, m) array
    Y : (n_y, m) array, or labels
    low, high : float
        0 < low < high.
    steps : int
        At least 2.
    batch_size : int
    optimizer : optimizer, "sgd", "adam", "adamw", "rmsprop" or "adagrad", optional
        Whose rate is looked for; its own rate or schedule has no part in it. Default SGD.
    sample_weight : (m,) array, optional

    Returns
    -------
    RateSearch
        Named tuple (rates, costs, smoothed, best). Its running mean is that of Smith, Cyclical learning rates for
        training neural networks, 2017, with the weight 0.98 and corrected for its start as Adam's are.

    Raises
    ------
    ValueError, TypeError
        Something handed in doesn't fit.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((3, 500))
    >>> net = nk.Network([nk.Dense(16, "relu"), nk.Dense(1)], "squared_error", seed=0)
    >>> found = nk.find_learning_rate(net, X, X[:1] * X[1:2], optimizer="adam")
    >>> bool(1e-4 < found.best < 1)
    True
    >>> history = net.fit(X, X[:1] * X[1:2], epochs=5, optimizer=nk.Adam(found.best))
    """
    low = validation.number("low", low, 0, low_open=True)
    high = validation.number("high", high, low, low_open=True)
    steps = validation.integer("steps", steps, 2)
    batch_size = validation.integer("batch_size", batch_size, 1)
    tried = copy.deepcopy(net)
    state = of(tried)
    examples, targets, labels, w = state.data(X, Y, sample_weight, n_x=state.n_x)
    if state.engine is None:
        state.initialize(examples.shape[0], examples)
    stepped = copy.copy(optimizers.get(optimizer))
    rising = ByStep(low, lambda t: (high / low) ** (t * steps / (steps - 1)))
    costs: list[float] = []
    smoothed: list[float] = []
    rates, mean = rising.table(0, steps, steps), 0.0
    for step, picked in enumerate(_batches(state.random("split"), examples.shape[1], batch_size, steps)):
        stepped.learning_rate = float(rates[step])
        part_of_Y = targets[:, picked] if labels is None else labels[picked]
        part_of_w = None if w is None else w[picked]
        try:
            costs.append(tried.partial_fit(examples[:, picked], part_of_Y, optimizer=stepped, sample_weight=part_of_w))
        except DivergenceError:
            break
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * costs[-1]
        smoothed.append(mean / (1 - _SMOOTHING ** (step + 1)))
        if smoothed[-1] > _ENOUGH * min(smoothed):
            break
    if not costs:
        raise ValueError(
            f"the cost isn't finite at the lowest rate already, {low:g}: X, Y or the parameters are too large"
        )
    found = np.array(smoothed)
    return RateSearch(rates[: len(costs)], np.array(costs), found, float(rates[found.argmin()]) / 10)


def _batches(rng, m, batch_size, count):
    """Examples of so many batches."""
    order = rng.permutation(m)
    for _ in range(count):
        if not len(order):
            order = rng.permutation(m)
        yield order[:batch_size]
        order = order[batch_size:]
