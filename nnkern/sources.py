"""Where the examples of a training come from: arrays, arrays in files that needn't fit into memory, or batches.

A source gives what the engine takes, (X, Y, labels, w), either as a whole (`direct`) or as the parts of an epoch. It
knows not what an epoch does with the examples.
"""

import numpy as np

from nnkern import _engine, losses, validation

# bytes of a memory-mapped array in the network's dtype up to which it is treated as an array in memory
IN_MEMORY = 1 << 26
# entries of a larger one that are checked at a time
_CHECKED_ENTRIES = 1 << 20


class Arrays:
    """Examples as the engine takes them: X (n_x, m), Y (n_y, m) or labels (m,), weights (m,) or None."""

    direct = True

    def __init__(self, X, Y, labels, w):
        self.X, self.Y, self.labels, self.w = X, Y, labels, w
        self._held = _engine.held(X, Y, w)

    @property
    def n_x(self):
        """Number of features."""
        return self.X.shape[0]

    @property
    def m(self):
        """Number of examples."""
        return self.X.shape[1]

    def steps(self, plan):
        """How many an epoch takes by that plan."""
        return self.m // plan.batch_size + (self.m % plan.batch_size > 0 and not plan.drop_last)

    def whole(self):
        """(X, Y, labels, w) of all examples."""
        return self.X, self.Y, self.labels, self.w

    def blocks(self):
        """The same of all examples in turn; here in one."""
        yield self.whole()

    def take(self, picked):
        """Those examples, copied."""
        return type(self)(self.X[:, picked], *self._targets(picked))

    subset = take

    def part(self, first, end, order):
        """(X, Y, labels, w) of the examples first … end - 1, in that order of them or in their own."""
        picked = slice(first, end) if order is None else order[first:end]
        X = self.X[:, picked]
        return X if order is None else np.asfortranarray(X), *self._targets(picked)

    def some(self, count):
        """X of at most so many examples, spread evenly."""
        return self.dense(np.unique(np.linspace(0, self.m - 1, min(count, self.m)).astype(np.intp)))

    def dense(self, picked):
        """X of those examples as an array."""
        return self.take(picked).X

    def _targets(self, picked):
        return (
            None if self.Y is None else self.Y[:, picked],
            None if self.labels is None else self.labels[picked],
            None if self.w is None else self.w[picked],
        )

    def astype(self, dtype):
        """The same with other floating-point numbers."""
        return type(self)(self.X.astype(dtype, copy=False), *self._targets_as(dtype))

    def _targets_as(self, dtype):
        Y, w = (None if a is None else a.astype(dtype, copy=False) for a in (self.Y, self.w))
        return Y, self.labels, w

    def weighted(self, class_weight, loss, n_y, whole=True):
        """The same with each weight times that of the example's class; not all are 0 where it is the `whole`."""
        return Arrays(*validation.class_weights(class_weight, loss, n_y, self.whole(), whole))

    def weight(self, used=None):
        """Σ w_i, of those examples or of all."""
        *_, w = self.targets(used)
        if w is None:
            return self.m if used is None else len(used)
        return float(w.sum(dtype=np.float64))

    def spread(self, used=None):
        """Σ_i w_i (y_i - ȳ)² per output, of those examples or of all."""
        Y, _, w = self.targets(used)
        return losses.spread(Y, w)

    def targets(self, used=None):
        """(Y, labels, w) of those examples or of all."""
        return self._targets(slice(None) if used is None else used)


class MappedArrays(Arrays):
    """Memory-mapped arrays that are read and converted a batch at a time.

    A batch has the memory layout that it would have as a part of the converted whole, since products of matrices in
    another layout have other last bits. `picked`: the examples that it has, where these aren't all.
    """

    def __init__(self, X, Y, labels, w, dtype, picked=None):
        super().__init__(X, Y, labels, w)
        self.dtype, self.picked = dtype, picked

    @property
    def direct(self):
        """Whether the engine can take all of it as it is."""
        return self.picked is None and all(_is_native(a, self.dtype) for a in (self.X, self.Y) if a is not None)

    @property
    def m(self):
        """Number of examples."""
        return self.X.shape[1] if self.picked is None else len(self.picked)

    def take(self, picked):
        """Those examples, copied and converted."""
        X, (Y, labels, w) = self.X[:, picked], self._targets(picked)
        return Arrays(X.astype(self.dtype), None if Y is None else Y.astype(self.dtype), labels, w)

    def subset(self, picked):
        """Those examples, left where they are."""
        return MappedArrays(self.X, self.Y, self.labels, self.w, self.dtype, picked)

    def weighted(self, class_weight, loss, n_y, whole=True):
        """The same with each weight times that of the example's class."""
        if class_weight is None:
            return self
        Y, labels, w = self.targets()
        *_, w_here = validation.class_weights(
            class_weight, loss, n_y, (shaped_like((self.n_x, self.m), self.dtype), Y, labels, w), whole
        )
        w = np.zeros(self.X.shape[1], self.dtype)
        w[slice(None) if self.picked is None else self.picked] = w_here
        return MappedArrays(self.X, self.Y, self.labels, w, self.dtype, self.picked)

    def targets(self, used=None):
        """(Y, labels, w) of those examples or of all that it has."""
        if self.picked is None or used is None:
            return super().targets(self.picked if used is None else used)
        return super().targets(self.picked[used])

    def spread(self, used=None):
        """Σ_i w_i (y_i - ȳ)² per output, one after the other where they stay in the file."""
        Y, _, w = self.targets(used)
        rows = [Y] if Y.dtype == self.dtype else [row[None, :].astype(self.dtype) for row in Y]
        return np.concatenate([losses.spread(row, w) for row in rows])

    def parts(self, batch_size, order):
        """((X, Y, labels, w), batch_size) of the batches of an epoch, in that order of the examples or in their own."""
        for first in range(0, self.m, batch_size):
            yield self.part(first, min(first + batch_size, self.m), order), batch_size

    def part(self, first, end, order):
        """(X, Y, labels, w) of the examples first … end - 1, in that order of them or in their own."""
        if order is None and self.picked is None:
            X, (Y, labels, w) = _columns(self.X, first, end, self.dtype), self._targets(slice(first, end))
        else:
            picked = np.arange(first, end) if order is None else order[first:end]
            picked = picked if self.picked is None else self.picked[picked]
            X, (Y, labels, w) = np.asfortranarray(self.X[:, picked], self.dtype), self._targets(picked)
        return X, None if Y is None else Y.astype(self.dtype, copy=False), labels, w


class Batches:
    """An iterable of (X, Y) or (X, Y, sample_weight) batches, each checked when its turn comes."""

    direct = False

    def __init__(self, state, batches, class_weight=None, rows=False):
        self._state, self._batches, self._rows = state, batches, rows
        self._class_weight = validation.unbalanced(class_weight)
        self._count = _length(batches)
        self.n_x = state.n_x
        if self.n_x is None:
            self._batches, first = _peek(batches)
            self.n_x = self._data(first, 0, n_x=None)[0].shape[0]

    def some(self, _count):
        """None: batches come when it is their turn."""

    def steps(self, _plan):
        """How many batches an epoch takes; None where that can't be told."""
        return self._count

    def parts(self, _batch_size, _order):
        """((X, Y, labels, w), number of examples) of each batch."""
        for number, batch in enumerate(self._batches):
            data = self._data(batch, number, self.n_x)
            yield data, data[0].shape[1]

    def _data(self, batch, number, n_x):
        X, Y, *w = _as_batch(batch, number)
        X, Y = self._state.columns(X, Y) if self._rows else (X, Y)
        with validation.told_of_columns(self._rows):
            return self._state.data(X, Y, w[0] if w else None, self._class_weight, n_x=n_x, whole=False)


def _rows(array, name):
    return validation.rows(name, array)


def _examples_in_rows(array, name):
    return validation.examples_in_rows(name, array)


class Checks:
    """validation.py's checks of arrays, each made once of an object that is handed in for several networks.

    What a check gives is kept too: an array that had to be converted is held once.
    """

    def __init__(self):
        self._made = {}

    def examples(self, *how, **more):
        return self._once(validation.examples, *how, **more)

    def targets(self, *how, **more):
        return self._once(validation.targets, *how, **more)

    def weights(self, *how):
        return self._once(validation.weights, *how)

    def rows(self, name, array):
        return self._once(_rows, array, name)

    def examples_in_rows(self, name, array):
        return self._once(_examples_in_rows, array, name)

    def _once(self, check, array, *how, **more):
        key = check, id(array), how, tuple(more.items())
        if key not in self._made:
            # with the array itself, lest another one gets its id
            self._made[key] = array, check(array, *how, **more)
        return self._made[key][1]


def arrays(state, X, Y, sample_weight, class_weight, checks=validation):
    """The source of what the user handed in as arrays, checked; without class weights, which come after a split."""
    n_x, dtype = state.n_x, state.dtype
    X_stays, Y_stays = is_large(X, dtype), is_large(Y, dtype)
    if not (X_stays or Y_stays):
        return Arrays(*state.data(X, Y, sample_weight, n_x=n_x, checks=checks))
    # class weights are counted from all of Y
    Y_stays = Y_stays and Y.ndim == 2 and class_weight is None
    shape = shaped_like(np.shape(X), dtype) if X_stays else X
    examples = validation.examples(shape, n_x, dtype, finite=not X_stays)
    n_x, m = examples.shape
    if Y_stays and Y.shape == (state.n_y, m) and state.n_y > 1:
        targets = np.asarray(Y), None
    else:
        Y_stays, targets = False, validation.targets(Y, state.loss, state.n_y, m, dtype, n_x=n_x)
    w = validation.weights(sample_weight, m, dtype)
    step = max(1, _CHECKED_ENTRIES // max(n_x, state.n_y))
    for first in range(0, m, step):
        columns = slice(first, min(first + step, m))
        where = f"[:, {columns.start}:{columns.stop}]"
        if X_stays:
            validation.examples(X[:, columns], n_x, dtype, finite=True, name=f"X{where}")
        if Y_stays:
            count = columns.stop - columns.start
            validation.targets(Y[:, columns], state.loss, state.n_y, count, dtype, name=f"Y{where}")
    return MappedArrays(np.asarray(X) if X_stays else examples, *targets, w, dtype)


def examples_of(batch):
    """The X of a batch, which may be (X, Y) or (X, Y, sample_weight)."""
    return batch[0] if isinstance(batch, tuple | list) and batch else batch


def check_batches(batches, what):
    """Refuses what is no iterable of batches; `what` it was handed to."""
    validation.dense("X", batches)
    if not hasattr(batches, "__iter__"):
        raise TypeError(
            f"X must be an array (with Y), or an iterable of (X, Y) batches; got {type(batches).__name__} without Y"
        )
    if isinstance(batches, np.ndarray):
        raise ValueError(f"Y is missing: {what}(X, Y), or {what}(batches) with an iterable of (X, Y) batches")


def is_large(array, dtype):
    """Whether it is memory-mapped, and larger than what is treated as an array in memory."""
    return isinstance(array, np.memmap) and array.size * dtype.itemsize > IN_MEMORY


def _is_native(array, dtype):
    return array.dtype == dtype and array.dtype.isnative and array.flags.aligned


def shaped_like(shape, dtype):
    """An array of that shape that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _columns(array, first, end, dtype):
    """The columns first … end - 1 in that dtype, with strides as the converted whole has them.

    Of one column numpy can't tell whether rows or columns were contiguous, so a neighbour is converted with it.
    """
    start = first if end - first > 1 else max(0, min(first, array.shape[1] - 2))
    part = array[:, start : max(end, min(start + 2, array.shape[1]))]
    return part.astype(dtype, order="K", copy=False)[:, first - start : end - start]


def _length(batches):
    """What len() says, or None: an object may have __len__ and no length."""
    try:
        return len(batches)
    except TypeError:
        return None


def _as_batch(batch, number):
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        raise ValueError(
            f"batch {number} of the iterable must be (X, Y) or (X, Y, sample_weight); got {type(batch).__name__}"
        )
    return batch


class _Peeked:
    """An iterable whose first batch has been looked at already."""

    def __init__(self, batches, iterator, first):
        self._batches, self._waiting = batches, (first, iterator)

    def __iter__(self):
        if self._waiting is None:
            yield from self._batches
            return
        (first, iterator), self._waiting = self._waiting, None
        yield first
        yield from iterator


def _peek(batches):
    iterator = iter(batches)
    try:
        first = _as_batch(next(iterator), 0)
    except StopIteration:
        raise ValueError("the iterable gave no batch") from None
    return _Peeked(batches, iterator, first), first
