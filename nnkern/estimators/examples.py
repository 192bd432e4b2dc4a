"""The samples of an estimator as sources of examples, dense or sparse."""

from nnkern import _engine
from nnkern.estimators.needed import issparse
from nnkern.sources import Arrays


def source_of(X, Y, labels, w):
    """The source of samples X (m, n_x)."""
    return SparseRows(X.tocsr(), Y, labels, w) if issparse(X) else Arrays(X.T, Y, labels, w)


def check_weights(name, w):
    """Refuses weights that are all 0."""
    if w is not None and not w.any():
        raise ValueError(f"{name} must contain at least one non-zero number.")


class SparseRows(Arrays):
    """Samples in the rows of a sparse matrix in CSR, whose entries the engine takes as they are."""

    def __init__(self, rows, Y, labels, w):
        self._rows = rows
        super().__init__(_engine.SparseColumns(rows.shape[1], rows.indptr, rows.indices, rows.data), Y, labels, w)

    def take(self, picked):
        """Those examples, copied."""
        return SparseRows(self._rows[picked], *self._targets(picked))

    subset = take

    def part(self, first, end, order):
        """(X, Y, labels, w) of the examples first … end - 1, in that order of them or in their own."""
        return self.take(slice(first, end) if order is None else order[first:end]).whole()

    def dense(self, picked):
        """X of those examples as an array."""
        return self._rows[picked].toarray().T

    def astype(self, dtype):
        """The same with other floating-point numbers."""
        return SparseRows(self._rows.astype(dtype, copy=False), *self._targets_as(dtype))
