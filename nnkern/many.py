"""Many networks trained at once, each on one thread at a time and to the same bits as by itself."""

from collections.abc import Iterable

from nnkern import arguments
from nnkern import callbacks as callbacks_
from nnkern.network import Network
from nnkern.training import Options, fits_of_many, run


@arguments.named()
def fit_many(
    nets,
    X,
    Y,
    *,
    epochs=100,
    batch_size=32,
    shuffle=True,
    drop_last=False,
    optimizer=None,
    sample_weight=None,
    class_weight=None,
    validation_data=None,
    metrics=(),
    callbacks=(),
    threads=None,
    rows=False,
):
    """Trains many networks side by side, spread over the threads: other seeds, rates, penalties, layers, or other data.

    Each network ends up with the bits that ``net.fit`` with the same arguments gives it.

    X, Y, sample_weight, validation_data and callbacks may each be a list with one for each network; what isn't such a
    list is for all. Arrays that are the same object are checked and held once. An array is never such a list: a list
    of 1-D arrays for Y that isn't meant as one for each network must be stacked first.

    Parameters
    ----------
    nets : sequence of Network
        No network twice.
    X : (n_x, m) array, or a list of one for each network
    Y : (n_y, m) array, or labels; or a list of such arrays, one for each network
    epochs, batch_size, shuffle, drop_last
        As in `Network.fit`, for all.
    optimizer : optimizer or name, or a sequence of one for each network, optional
        Names are "sgd", "adam", "adamw", "rmsprop" and "adagrad". Default SGD(0.1).
    sample_weight : (m,) array, or a list of such or None for each network, optional
    class_weight
        As in `Network.fit`, for all; "balanced" is counted for each network's own data.
    validation_data : (X, Y) or (X, Y, sample_weight), or a list of such tuples or None for each network, optional
        Evaluated after each epoch.
    metrics : name, function or list of them
        As in `Network.fit`, for all.
    callbacks : callback or tuple of them for all, or a list with the callbacks of each network
        Each network has a copy of an EarlyStopping that is for all; what these have found is seen where each network is
        given its own. Where an EarlyStopping by "val_cost", "val_score", "val_error" or "cost" is all that there is,
        networks are evaluated side by side too.
    threads : int, optional
        At most this many threads; results don't depend on it.
    rows : bool
        As in `Network.fit`, for all.

    Returns
    -------
    histories : list of dict
        As `Network.fit` returns it, one a network. Where a training diverged, the network is at its last whole epoch
        as after `fit`, the others go on, and "diverged" holds the DivergenceError that `fit` would have raised.

    Raises
    ------
    ValueError, TypeError
        Something handed in doesn't fit, or is a list of another length; all networks are as they were.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> nets = [
    ...     nk.Network([nk.Dense(4, "tanh"), nk.Dense(1)], "squared_error", seed=seed)
    ...     for seed in range(3)
    ... ]
    >>> X, Y = np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 3.0, 5.0]])
    >>> histories = nk.fit_many(
    ...     nets, X, Y, epochs=20, optimizer=[nk.SGD(0.1), nk.SGD(0.01), nk.Adam()]
    ... )
    >>> [len(history["cost"]) for history in histories]
    [20, 20, 20]

    Bagging: each network holds out another third of the examples, and keeps its best epoch.

    >>> X = np.linspace(-1, 1, 60)[None, :]
    >>> Y, folds = np.sin(3 * X), np.arange(60) % 3
    >>> best = [nk.EarlyStopping(patience=None) for _ in nets]
    >>> histories = nk.fit_many(
    ...     nets,
    ...     [X[:, folds != k] for k in range(3)],
    ...     [Y[:, folds != k] for k in range(3)],
    ...     validation_data=[(X[:, folds == k], Y[:, folds == k]) for k in range(3)],
    ...     callbacks=best,
    ...     epochs=50,
    ... )
    >>> [
    ...     history["val_cost"][one.best_epoch] == one.best_value
    ...     for history, one in zip(histories, best)
    ... ]
    [True, True, True]
    """
    nets = _distinct(nets)
    count = len(nets)
    given = list(optimizer) if isinstance(optimizer, Iterable) and not isinstance(optimizer, str) else None
    if given is not None and len(given) != count:
        raise ValueError(f"optimizer holds {len(given)} optimizers for {count} networks")
    Xs = _each("X", X, count, lambda one: _dimensions(one) == 2)
    Ys = [Y] * count if _is_rows(Y, nets) else _each("Y", Y, count, _dimensions)
    weights = _each("sample_weight", sample_weight, count, lambda w: w is None or isinstance(w, list) or _dimensions(w))
    held_out = _each("validation_data", validation_data, count, lambda one: one is None or isinstance(one, tuple))
    optimizers, callbacks = given or [optimizer] * count, _callbacks_of_each(callbacks, count)

    def options(one=None, own=()):
        more = {"drop_last": drop_last, "metrics": metrics, "threads": threads, "rows": rows}
        return Options(epochs, batch_size, shuffle, one, class_weight, own, **more)

    common = options()  # checked where there are no networks, too
    each = [options(one, own) for one, own in zip(optimizers, callbacks, strict=True)]
    fits = fits_of_many(nets, each, list(zip(Xs, Ys, weights, strict=True)), held_out)
    run(fits, common.threads)
    return [fit.history for fit in fits]


def _each(name, given, count, is_one):
    """One for each network: the entries of a list of such things, or the thing itself for all."""
    if not isinstance(given, list) or not given or not all(is_one(one) for one in given):
        return [given] * count
    if len(given) != count:
        raise ValueError(f"{name} is a list of {len(given)}, which is one for each network, for {count} networks")
    return given


def _dimensions(given):
    """Of an array, of whatever library; 0 for anything else."""
    return len(getattr(given, "shape", ()))


def _is_rows(Y, nets):
    """Whether it is a list of the rows of one Y; as many as there are networks are one for each."""
    return isinstance(Y, list) and len(Y) != len(nets) and {len(Y)} == {net.n_y for net in nets}


def _callbacks_of_each(callbacks, count):
    """A list of callbacks for each network."""
    if not isinstance(callbacks, list) or not callbacks:
        return [callbacks_.for_one_of(callbacks, count) for _ in range(count)]
    if len(callbacks) != count:
        raise ValueError(
            f"callbacks is a list of {len(callbacks)}, which has those of each network, for {count} networks: several "
            "callbacks for all networks are a tuple"
        )
    found = [callbacks_.get(own) for own in callbacks]
    stateful = [(id(one), type(one).__name__) for own in found for one in own if callbacks_.remembers(one)]
    for number, name in stateful:
        if stateful.count((number, name)) > 1:
            raise ValueError(f"callbacks holds one {name} for two networks: give each network its own")
    return found


def _distinct(nets):
    if isinstance(nets, Network) or not isinstance(nets, Iterable):
        raise TypeError(f"nets must be a list of networks; got {type(nets).__name__}")
    nets = list(nets)
    for i, net in enumerate(nets):
        if not isinstance(net, Network):
            raise TypeError(f"nets must hold networks; got {type(net).__name__} at position {i}")
    if len({id(net) for net in nets}) < len(nets):
        raise ValueError("nets holds one network twice")
    return nets
