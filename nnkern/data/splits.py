"""Which examples are held out: one share, or folds, stratified by class."""

import numbers

import numpy as np

from nnkern.data.containers import DataError


def split(strata, share, seed=0):
    """Indices (train, held_out), both ascending, with about `share` of the examples held out.

    `strata`: labels (m,), of each of which that share is held out, and at least one example is kept to train on;
    or a number m of examples, for a split that isn't stratified. Same seed, same split.
    """
    labels = np.zeros(strata, np.int64) if isinstance(strata, numbers.Integral) else np.asarray(strata)
    m = len(labels)
    if not 0 <= share < 1:
        raise DataError(f"the held-out share is {share}, expected 0 <= share < 1")
    if share == 0:
        return np.arange(m), np.arange(0)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = min(max(round(share * m), 1), m - 1)
    quota = counts * (wanted / m)
    taken = np.minimum(np.floor(quota), counts - 1).astype(np.int64)
    # The examples that rounding down left out are taken from the classes with the largest remainders, the
    # first of equal ones; a class that has one example left is skipped.
    while taken.sum() < min(wanted, m - len(counts)):
        for c in np.argsort(taken - quota, kind="stable"):
            if taken.sum() < wanted and taken[c] < counts[c] - 1:
                taken[c] += 1
    if not taken.any():
        raise DataError(f"{m} examples in {len(counts)} classes are too few to hold out a share of {share}")
    order = _class_by_class(codes, seed)
    ends = np.cumsum(counts)
    held = np.zeros(m, bool)
    for end, count, n in zip(ends, counts, taken, strict=True):
        held[order[end - count : end - count + n]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def folds(strata, count, seed=0):
    """`count` pairs of indices (train, held_out), both ascending: every example is held out once.

    `strata` as for `split`: of each class, the folds hold out equally many examples, or one more. Same seed,
    same folds.
    """
    labels = np.zeros(strata, np.int64) if isinstance(strata, numbers.Integral) else np.asarray(strata)
    m = len(labels)
    if not isinstance(count, numbers.Integral) or not 2 <= count <= m:
        raise DataError(f"the number of folds is {count}, expected 2 to {m}, the number of examples")
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        raise DataError("a class has a single example: a fold that holds it out has none to learn it from")
    order = _class_by_class(codes, seed)
    fold_of = np.empty(m, np.int64)
    fold_of[order] = np.arange(m) % count
    return [(np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(count)]


def _class_by_class(codes, seed):
    """All indices, class by class, shuffled within."""
    order = np.random.default_rng(seed).permutation(len(codes))
    return order[np.argsort(codes[order], kind="stable")]


def take(X, rows):
    """The examples `rows` of X (n_x, m), or of labels (m,), each example contiguous."""
    return np.ascontiguousarray(X.T[rows]).T
