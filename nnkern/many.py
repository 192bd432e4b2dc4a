"""Many networks trained at once, each on one thread at a time and to the same bits as by itself."""

from collections.abc import Iterable

from nnkern.network import Network
from nnkern.training import Options, fits_of_many, run


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
    threads=None,
):
    """Trains many networks on the same data, spread over the threads: other seeds, learning rates, penalties, layers.

    Each network ends up with the bits that ``net.fit`` with the same arguments gives it.

    Parameters
    ----------
    nets : sequence of Network
        No network twice.
    X : (n_x, m) array
    Y : (n_y, m) array, or labels
    epochs, batch_size, shuffle, drop_last
        As in `Network.fit`.
    optimizer : optimizer or name, or a sequence of one for each network, optional
        Default SGD(0.1).
    sample_weight : (m,) array, optional
    class_weight
        As in `Network.fit`.
    threads : int, optional
        At most this many threads; results don't depend on it.

    Returns
    -------
    histories : list of dict
        As `Network.fit` returns it, one a network. Where a training diverged, the network is at its last whole epoch
        as after `fit`, the others go on, and "diverged" holds the DivergenceError that `fit` would have raised.

    Raises
    ------
    ValueError, TypeError
        Something handed in doesn't fit; all networks are as they were.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> nets = [nk.Network([nk.Dense(4, "tanh"), nk.Dense(1)], "squared_error", seed=seed) for seed in range(3)]
    >>> X, Y = np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 3.0, 5.0]])
    >>> histories = nk.fit_many(nets, X, Y, epochs=20, optimizer=[nk.SGD(0.1), nk.SGD(0.01), nk.Adam()])
    >>> [len(history["cost"]) for history in histories]
    [20, 20, 20]
    """
    nets = _distinct(nets)
    given = list(optimizer) if isinstance(optimizer, Iterable) and not isinstance(optimizer, str) else None
    if given is not None and len(given) != len(nets):
        raise ValueError(f"optimizer holds {len(given)} optimizers for {len(nets)} networks")
    options = Options(epochs, batch_size, shuffle, None, class_weight, drop_last=drop_last, threads=threads)
    fits = fits_of_many(nets, given or [optimizer] * len(nets), options, (X, Y, sample_weight))
    run(fits, options.threads)
    return [fit.history for fit in fits]


def _distinct(nets):
    nets = list(nets)
    for i, net in enumerate(nets):
        if not isinstance(net, Network):
            raise TypeError(f"nets must hold networks; got {type(net).__name__} at position {i}")
    if len({id(net) for net in nets}) < len(nets):
        raise ValueError("nets holds one network twice")
    return nets
