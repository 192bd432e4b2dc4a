"""The samples of an estimator as sources of examples, dense or sparse."""

from nnkern.estimators.needed import issparse
from nnkern.sources import Arrays

# entries of sparse X that are made dense at a time
DENSE_ENTRIES = 1 << 20


def source_of(X, Y, labels, w):
    """The source of samples X (m, n_x)."""
    return SparseRows(X.tocsr().T, Y, labels, w) if issparse(X) else Arrays(X.T, Y, labels, w)


def check_weights(name, w):
    """Refuses weights that are all 0."""
    if w is not None and not w.any():
        raise ValueError(f"{name} must contain at least one non-zero number.")


class SparseRows(Arrays):
    """Samples in the rows of a sparse matrix: X (n_x, m) in CSC, made dense some batches at a time."""

    direct = False

    def dense(self, picked):
        """(X (n_x, c), Y, labels, w) of those examples."""
        return self.X[:, picked].toarray(order="F"), *self._targets(picked)

    def part(self, first, end, order):
        """The same of the examples first … end - 1, in that order of them or in their own."""
        return self.dense(slice(first, end) if order is None else order[first:end])

    def _slices(self, multiple):
        """Slices of examples that are made dense at a time, multiples of so many but for the last."""
        size = max(1, DENSE_ENTRIES // self.n_x // multiple) * multiple
        return [slice(first, first + size) for first in range(0, self.m, size)]

    def blocks(self):
        """(X, Y, labels, w) of all examples, block by block."""
        for picked in self._slices(1):
            yield self.dense(picked)

    def parts(self, batch_size, order):
        """((X, Y, labels, w), batch_size) of some batches of an epoch in turn."""
        for part in self._slices(batch_size):
            yield self.dense(part if order is None else order[part]), batch_size
