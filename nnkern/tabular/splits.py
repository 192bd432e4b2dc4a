"""Which rows are trained on and which are held out: the caller's, a share, or each part in turn."""

import functools

import numpy as np

from nnkern import validation
from nnkern.tabular.columns import BLOCK_ROWS


class Examples:
    """Rows of a table as networks take them: X (n_x, m) float32, y (m,), w (m,) or None."""

    def __init__(self, X, y, w=None, names=("X", "y", "sample_weight")):
        self.X, self.y = np.asarray(X), np.asarray(y)
        self.w = None if w is None else np.asarray(w, np.float64)
        if self.X.ndim != 2 or self.y.ndim != 1 or self.X.shape[1] != len(self.y):
            raise ValueError(
                f"{names[0]} must be (n_x, m) and {names[1]} (m,); got shapes {self.X.shape} and {self.y.shape}"
            )
        if self.w is not None and self.w.shape != self.y.shape:
            raise ValueError(f"{names[2]} must have shape {self.y.shape}; got {self.w.shape}")

    @property
    def m(self):
        """Number of rows."""
        return len(self.y)

    def take(self, which):
        """These rows, copied."""
        return Taken(self, which).copied()

    @property
    def nbytes(self):
        """Of memory that copies of X take: none, X is the caller's."""
        return 0

    def free(self):
        """Lets such copies go."""

    def counting(self):
        """The rows whose weight isn't 0."""
        return self if self.w is None or (self.w != 0).all() else self.take(np.flatnonzero(self.w))


class Taken:
    """Some rows of Examples, as Examples: their X is copied when it is asked for, and kept until it is let go."""

    def __init__(self, examples, which):
        self._examples, self._which, self._X = examples, which, None
        self.y, self.w = examples.y[which], None if examples.w is None else examples.w[which]

    @property
    def m(self):
        """Number of rows."""
        return len(self.y)

    @property
    def X(self):
        """(n_x, m) float32, an example contiguous."""
        if self._X is None:
            self._X = np.asfortranarray(self._examples.X.T[self._which].T)
        return self._X

    @property
    def nbytes(self):
        """Of memory that the copy of X takes."""
        return 4 * self.m * self._examples.X.shape[0]

    def free(self):
        """Lets X go; asked for again, it is made again."""
        self._X = None

    def take(self, which):
        """These rows of them, copied."""
        return self._examples.take(self._which[which])

    def copied(self):
        """As Examples of their own."""
        return Examples(self.X, self.y, self.w)


class Part:
    """Rows to train on, and the rows held out of them.

    `held_rows`: where the latter are among all, or None; `put_back`: brings all rows into their order again, where X
    was put in another, after which the part is of no more use.
    """

    def __init__(self, train, held_out, held_rows=None, put_back=lambda: None):
        self.train, self.held_out, self.held_rows, self.put_back = train, held_out, held_rows, put_back

    @property
    def known(self):
        """The rows that bins are found from."""
        return self.train

    @property
    def m(self):
        """How many rows are trained on."""
        return self.train.m

    def free(self):
        """Lets go the copies of its rows, which are made again where they are asked for."""
        self.train.free()
        self.held_out.free()


def parts(data, held_out, count, n_classes, seed, overwrite=False):
    """The parts that `count` networks of a recipe are trained on.

    Parameters
    ----------
    data : Examples
    held_out : (X, y), (X, y, sample_weight) or float
        A caller's rows, which all networks have, or the share of rows that is set aside where `count` is 1; else each
        of `count` parts is held out once.
    count : int
    n_classes : int
        0 for numbers.
    seed : int
    overwrite : bool
        Whether X, with an example contiguous, may be put in another order, which saves copies of its parts; done where
        a share is held out.

    Returns
    -------
    parts : list of Part

    Raises
    ------
    ValueError
        There are too few rows for it, or the held-out ones don't fit.
    """
    if isinstance(held_out, tuple | list):
        part = Part(data, _given(held_out, data, n_classes))
        return [part] * count
    share = validation.number("held_out", held_out, 0, 1, low_open=True, high_open=True)
    if data.m < max(2, count):
        raise ValueError(
            f"{data.m} sample{'s' if data.m > 1 else ''} (rows of weight above 0) can't be divided into rows to train "
            f"on and rows held out: at least {max(2, count)} are needed"
        )
    y = data.y if n_classes else None
    if count == 1:
        held = share_of(data.m, share, y, seed)
        return [_part_in_place(data, held) if overwrite else _part(data, held)]
    numbers = folds_of(data.m, count, y, seed)
    return [_part(data, numbers == k) for k in range(count)]


def _given(held_out, data, n_classes):
    if len(held_out) not in (2, 3):
        raise ValueError("held_out must be (X, y) or (X, y, sample_weight), or a share")
    names = "held_out's X", "held_out's y", "held_out's sample_weight"
    held = Examples(*held_out, *[None] * (3 - len(held_out)), names=names)
    if held.X.shape[0] != data.X.shape[0]:
        raise ValueError(f"held_out's X has {held.X.shape[0]} features, X has {data.X.shape[0]}")
    held = held.counting()
    if held.m == 0:
        raise ValueError("held_out has no rows of weight above 0: at least one is needed")
    if n_classes and not (held.y.min() >= 0 and held.y.max() < n_classes):
        raise ValueError(f"held_out's y must hold codes 0 to {n_classes - 1}, those of y; got {held.y.max()}")
    return held


def _part(data, held):
    rows = np.flatnonzero(held)
    return Part(Taken(data, np.flatnonzero(~held)), Taken(data, rows), rows)


def _part_in_place(data, held):
    held_last(data.X, held)
    rows, X = np.flatnonzero(held), data.X
    end = data.m - len(rows)
    both = [
        Examples(X[:, of], data.y[which], None if data.w is None else data.w[which])
        for of, which in ((slice(end), ~held), (slice(end, None), held))
    ]
    return Part(*both, rows, functools.partial(as_before, X, held))


def held_last(X, held):
    """Puts the columns of X (n, m) that are `held` after the others, in place; either keep their order."""
    rows, end = X.T, 0
    kept = rows[held]
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS][~held[start : start + BLOCK_ROWS]]
        rows[end : end + len(block)] = block
        end += len(block)
    rows[end:] = kept


def as_before(X, held):
    """Undoes `held_last`."""
    rows = X.T
    end = len(rows) - np.count_nonzero(held)
    kept = rows[end:].copy()
    for start in reversed(range(0, len(rows), BLOCK_ROWS)):
        trained = ~held[start : start + BLOCK_ROWS]
        first = end - np.count_nonzero(trained)
        rows[start : start + BLOCK_ROWS][trained] = rows[first:end].copy()
        end = first
    rows[held] = kept


def _order(m, y, seed):
    """(m,) all rows, shuffled, and where y is given class by class, so that equal steps meet each class."""
    order = np.arange(m, dtype=np.int32 if m < 2**31 else np.int64)  # half the memory, in the same order
    np.random.default_rng((seed, 1)).shuffle(order)
    return order if y is None else order[np.argsort(y[order], kind="stable")]


def share_of(m, share, y, seed):
    """(m,) of bool: which rows are held out, at least one and not all; of each class about the same share.

    A class whose rows would all be held out is trained on. Where none is left to be held out, it's a row of the most
    frequent class.
    """
    order, held = _order(m, y, seed), np.empty(m, bool)
    for start in range(0, m, BLOCK_ROWS):
        rows = order[start : start + BLOCK_ROWS]
        steps = np.floor(np.arange(start, start + len(rows) + 1.0) * share)
        held[rows] = steps[1:] > steps[:-1]
    if y is not None:
        trained = np.bincount(y[~held], minlength=y.max() + 1)
        held &= trained[y] > 0
    if held.all():
        held[order[0]] = False
    elif not held.any():
        ours = order if y is None else order[y[order] == np.bincount(y).argmax()]
        held[ours[-1]] = True
    return held


def folds_of(m, count, y, seed):
    """(m,) numbers 0 … count - 1, each about as often, in each class too."""
    numbers = np.empty(m, np.int64)
    numbers[_order(m, y, seed)] = np.arange(m) % count
    return numbers
