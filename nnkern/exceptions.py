"""The errors that have a name of their own; all others are numpy's or Python's."""

import math
from collections.abc import Iterable


class NotFittedError(ValueError, AttributeError):
    """The network has no parameters yet: fit or initialize it first."""


class DivergenceError(ValueError):
    """The cost became NaN or infinite during training.

    `Network.fit` and the estimators then leave the network as it was after the last good epoch.

    Attributes
    ----------
    epoch, batch : int
        Where it happened, counted from 0.
    last_cost : float
        The last finite cost of a batch; NaN where there was none.
    undone : bool
        Whether the network is as it was before that epoch.
    rank : int or None
        Of several processes that train together, the first whose cost it was, where it wasn't that of all.
    """

    def __init__(self, epoch: int, batch: int, last_cost: float, undone: bool = True, rank: int | None = None) -> None:
        super().__init__(epoch, batch, last_cost, undone, rank)
        self.epoch = epoch
        self.batch = batch
        self.last_cost = last_cost
        self.undone = undone
        self.rank = rank

    def __str__(self) -> str:
        known = not math.isnan(self.last_cost)
        before = f"last finite cost: {self.last_cost:.6g}" if known else "no cost was finite before"
        where = "" if self.rank is None else f" on rank {self.rank}"
        back = "; the network is back at the last good epoch" if self.undone else ""
        return (
            f"the cost became NaN or infinite in epoch {self.epoch}, batch {self.batch}{where} ({before}){back}. A "
            "smaller learning rate or standardised features usually help"
        )


class RankError(RuntimeError):
    """Another of the processes that train a network together has failed, or hasn't come within the deadline.

    The network is as it was after the last whole epoch.

    Attributes
    ----------
    ranks : tuple of int
        Which; empty where that can't be told.
    what : str
        What has become of them.
    """

    def __init__(self, ranks: int | Iterable[int], what: str) -> None:
        self.ranks = (ranks,) if isinstance(ranks, int) else tuple(ranks)
        self.what = what
        super().__init__(self.ranks, what)

    def __str__(self) -> str:
        if not self.ranks:
            return self.what
        return f"rank{'s' if len(self.ranks) > 1 else ''} {', '.join(map(str, self.ranks))} {self.what}"


class ModelFormatError(ValueError):
    """A file is no model file, a damaged one, or of a newer format; or a network of another library can't be taken."""


class MissingPackageError(ImportError):
    """An optional package is needed; the message says what to install."""
