"""Dask's arrays and frames by their partitions, and who trains on them."""

import numpy as np

from nnkern import validation
from nnkern._optional import require
from nnkern.estimators.needed import BaseEstimator


class OnDask(BaseEstimator):
    """Base class of the estimators that train on Dask's partitions: the parameters that all of them have."""

    def __init__(self, *, epochs_a_round=1, n_shards=None, timeout=None, client=None):
        # the docstrings of their classes take this one in, see in_full
        """epochs_a_round : int, default=1
            After so many epochs by itself each shard's network becomes the mean of all.
        n_shards : int or None, default=None
            Into how many shards the partitions are put together; None: one for each worker, at most one a partition.
            The result depends on it, and not on which worker trains which shard.
        timeout : float or None, default=None
            Seconds that a shard's task may take before it is given to another worker as well.
        client : distributed.Client or None, default=None
            None: the present one.
        """
        self.epochs_a_round, self.n_shards = epochs_a_round, n_shards
        self.timeout, self.client = timeout, client


def client_of(client):
    """The client that is given, or the present one."""
    distributed = require("distributed", "nnkern.dask")
    if client is not None:
        return client
    try:
        return distributed.get_client()
    except ValueError as error:
        raise ValueError("there is no client: make one, distributed.Client(…), or pass client=") from error


def shards_of(parts, n_shards, client):
    """The partitions in as many lists as there are to be shards: `n_shards`, or one for each worker."""
    if n_shards is not None:
        count = min(validation.integer("n_shards", n_shards, 1), len(parts))
    else:
        count = max(1, min(len(client.scheduler_info(n_workers=-1)["workers"]), len(parts)))
    return [parts[len(parts) * k // count : len(parts) * (k + 1) // count] for k in range(count)]


def _partitions(name, collection, like):
    """A Dask collection as tasks, one a partition; `like`: the array whose rows it has, perhaps itself."""
    if hasattr(collection, "map_partitions"):
        return collection.to_delayed()
    if not hasattr(collection, "map_blocks"):
        raise TypeError(f"{name} must be a dask array, frame or series; got {type(collection).__name__}")
    chunks = dict.fromkeys(range(1, collection.ndim), -1)
    if like is not collection and _rows(collection) == _rows(like) and None not in (_rows(collection), _rows(like)):
        chunks[0] = like.chunks[0]
    return list((collection.rechunk(chunks) if chunks else collection).to_delayed().ravel())


def _rows(array):
    """How many rows an array has, or None where nobody knows."""
    sizes = getattr(array, "chunks", ((np.nan,),))[0]
    return None if np.isnan(sizes).any() else sum(sizes)


def parts_of(X, y, sample_weight):
    """(X, y) or (X, y, weights) of each partition, as tasks; a y that is a text stays one."""
    given = {"X": X, "y": y, "sample_weight": sample_weight}
    given = {name: one for name, one in given.items() if one is not None}
    parts = {name: _partitions(name, one, X) for name, one in given.items() if not isinstance(one, str)}
    counts = {name: len(one) for name, one in parts.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"X, y and sample_weight must have the same partitions; they have {counts} of them")
    parts |= {name: [one] * len(parts["X"]) for name, one in given.items() if isinstance(one, str)}
    return list(zip(*(parts[name] for name in given), strict=True))


def _meta(X):
    """Dask's name for the empty frame that a collection is like."""
    return X._meta


def empty_like(X, dtype, columns):
    """An empty frame or series like the one that a prediction of X is."""
    pandas = require("pandas", "a dask frame")
    index = _meta(X).index
    if columns is None:
        return pandas.Series([], index=index, dtype=dtype)
    return pandas.DataFrame({name: pandas.Series([], index=index, dtype=dtype) for name in columns})
