"""Which examples are held out: one share, or folds, stratified by class. scikit-learn draws them."""

import numbers

import numpy as np

from nnkern._optional import require
from nnkern.data.containers import DataError


def split(strata, share, seed=0):
    """Indices (train, held_out), both ascending, with about `share` of the examples held out.

    `strata`: labels (m,), of each of which that share is held out, and a class's only example never; or a number m of
    examples, for a split that isn't stratified. Same seed, same split.
    """
    m, labels = _strata(strata)
    if not 0 <= share < 1:
        raise DataError(f"the held-out share is {share}, expected 0 <= share < 1")
    if share == 0:
        return np.arange(m), np.arange(0)
    drawn = np.arange(m)
    if labels is not None:
        _, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
        drawn = np.flatnonzero(counts[labels] > 1)
        labels = labels[drawn]
    draw = require("sklearn.model_selection", "holding examples out").train_test_split
    held = np.sort(draw(drawn, test_size=share, stratify=labels, random_state=seed)[1])
    return np.delete(np.arange(m), held), held


def folds(strata, count, seed=0):
    """`count` pairs of indices (train, held_out), both ascending: every example is held out once.

    `strata` as for `split`: the folds hold out equally many examples of each class, or one more. Same seed, same folds.
    """
    m, labels = _strata(strata)
    selection = require("sklearn.model_selection", "holding examples out")
    draw = selection.KFold if labels is None else selection.StratifiedKFold
    return list(draw(count, shuffle=True, random_state=seed).split(np.zeros(m), labels))


def _strata(strata):
    return (strata, None) if isinstance(strata, numbers.Integral) else (len(strata), np.asarray(strata))


def take(X, rows):
    """The examples `rows` of X (n_x, m), or of labels (m,), each example contiguous."""
    return np.ascontiguousarray(X.T[rows]).T
