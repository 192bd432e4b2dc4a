"""Edges of bins for a number's piecewise linear encoding: from its quantiles, or from a tree of this number alone.

Edges are numbers of float32, as the engine has them, and none is closer to the one before it than it can tell apart.
"""

import numpy as np

from nnkern._optional import require

KINDS = ("quantile", "tree")
# of the range: closer edges would make a bin so steep that it is a step
_LEAST_WIDTH = 1e-6


def quantile_edges(x, count):
    """The edges of `count` bins of equal shares of rows: the quantiles 0, 1/count, … 1, without those that are equal.

    Parameters
    ----------
    x : (m,) array of finite numbers
    count : int
        Bins, at least 1.

    Returns
    -------
    edges : (at most count + 1,) array of float64
        Rising numbers of float32. A constant has one edge.

    Examples
    --------
    >>> import numpy as np
    >>> from nnkern.tabular.bins import quantile_edges
    >>> quantile_edges(np.array([0.0, 0.0, 0.0, 1.0, 2.0]), 4).tolist()
    [0.0, 1.0, 2.0]
    """
    return _apart(np.quantile(np.asarray(x, np.float64), np.linspace(0, 1, count + 1)))


def tree_edges(x, y, count, *, classes, sample_weight=None, min_rows=64):
    """The edges of at most `count` bins that tell most of y: the thresholds of a tree that sees x alone.

    Where many rows are equal, as in a column that is mostly zero, quantiles fall together, a tree's thresholds don't.

    Parameters
    ----------
    x : (m,) array of finite numbers
    y : (m,) array
        Codes of classes, or numbers.
    count : int
        Leaves of the tree.
    classes : bool
        Whether y holds classes.
    sample_weight : (m,) array, optional
    min_rows : int
        Of each leaf: with fewer, thresholds follow single rows.

    Returns
    -------
    edges : (at most count + 1,) array of float64
        The least x, the thresholds and the largest x, rising numbers of float32.

    Notes
    -----
    Source: Gorishniy, Rubachev and Babenko, On embeddings for numerical features in tabular deep learning, 2022,
    section 3.2.2. The tree is scikit-learn's.
    """
    tree = require("sklearn.tree", "bins from a tree")
    kind = tree.DecisionTreeClassifier if classes else tree.DecisionTreeRegressor
    # each column is there once, so that nothing is left to chance but the order of equal splits
    found = kind(max_leaf_nodes=max(2, count), min_samples_leaf=min_rows, random_state=0)
    found = found.fit(np.asarray(x, np.float32)[:, None], y, sample_weight).tree_
    thresholds = found.threshold[found.feature >= 0]
    return _apart(np.concatenate([[np.min(x)], np.sort(thresholds), [np.max(x)]]))


def _apart(edges):
    """Rising edges in float32 without those that are next to the one before; the last one stays."""
    edges = np.unique(edges.astype(np.float32)).astype(np.float64)
    least = _LEAST_WIDTH * (edges[-1] - edges[0])
    kept = [edges[0]]
    for edge in edges[1:]:
        if edge - kept[-1] > least:
            kept.append(edge)
    return np.array(kept)
