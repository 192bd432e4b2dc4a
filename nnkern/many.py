"""Many networks trained at once, each on one thread at a time and to the same bits as by itself."""

import time
from collections.abc import Iterable
from contextlib import ExitStack

from nnkern import _engine, validation
from nnkern.network import Network
from nnkern.state import of
from nnkern.training import EPOCHS_AT_ONCE, Course, Training

# Seconds of training after which Python has its turn: Ctrl-C is noticed by then at the latest.
_ROUND = 0.25


def fit_many(
    nets,
    X,
    Y,
    *,
    epochs=100,
    batch_size=32,
    shuffle=True,
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
    epochs, batch_size, shuffle
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
    threads = validation.threads(threads)
    given = list(optimizer) if isinstance(optimizer, Iterable) and not isinstance(optimizer, str) else None
    if given is not None and len(given) != len(nets):
        raise ValueError(f"optimizer holds {len(given)} optimizers for {len(nets)} networks")
    trainings = [
        Training(net, epochs, batch_size, shuffle, one, class_weight, (), False, False, threads)
        for net, one in zip(nets, given or [optimizer] * len(nets), strict=True)
    ]
    # networks alike see the same arrays
    judged = {}
    for net in nets:
        if _kind(net) not in judged:
            data = of(net).data(X, Y, sample_weight, n_x=net.n_x)
            judged[_kind(net)] = validation.class_weights(class_weight, of(net).loss, net.n_y, data)
    courses = [Course(training, judged[_kind(training.net)]) for training in trainings]
    with ExitStack() as entered:
        for course in courses:
            state = course.training.state
            if state.engine is None:
                state.initialize(course.data[0].shape[0])
            course.training.history = {"cost": [], "learning_rate": [], "seconds": []}
            entered.enter_context(state.training())
            entered.callback(_undone_unless_trained, course.training, state.undo())
        for training in trainings:
            training.state.fresh()
            training.state.use_optimizer(training.optimizer)
        _run(courses, threads)
    return [training.history for training in trainings]


def _undone_unless_trained(training, undo):
    """What failed before its first epoch was over has the optimizer and the state that it had."""
    if training.epochs and not training.history["cost"]:
        undo()


def _run(courses, threads):
    """All courses to their end, some epochs of each at a time."""
    count, done = 1, 0
    courses = [course for course in courses if course.training.epochs]
    while courses:
        begun = time.perf_counter()
        count = min(count, courses[0].training.epochs - done)
        prepared = [course.prepare(course.training.state.next_rates(count)) for course in courses]
        try:
            _engine.train_together(prepared, threads)
        finally:
            for course in courses:  # all at once, lest an interrupt comes between
                course.count()
            divergences = [course.conclude() for course in courses]
        done += count
        going_on = []
        for course, divergence in zip(courses, divergences, strict=True):
            if divergence is not None:
                course.training.history["diverged"] = divergence
            elif done < course.training.epochs:
                going_on.append(course)
        courses = going_on
        count = max(1, min(EPOCHS_AT_ONCE, int(count * _ROUND / max(time.perf_counter() - begun, 1e-9))))


def _kind(net):
    """What the judgement of the data depends on."""
    return net.dtype, of(net).loss, net.n_y, net.n_x


def _distinct(nets):
    nets = list(nets)
    for i, net in enumerate(nets):
        if not isinstance(net, Network):
            raise TypeError(f"nets must hold networks; got {type(net).__name__} at position {i}")
    if len({id(net) for net in nets}) < len(nets):
        raise ValueError("nets holds one network twice")
    return nets
