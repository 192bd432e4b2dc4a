"""fit_many: many networks at once, each to the bits of `fit`."""

import threading
import time

import numpy as np
import pytest

import nnkern as nk
from nnkern.state import of

M = 300


def data(dtype="float32"):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(7, M)).astype(dtype)
    return X, (X.sum(axis=0) > 0).astype(int)


def networks():
    """One of each kind: seeds, widths, penalties, dropout, dtype, depth."""
    D = nk.Dense
    stacks = [
        ([D(8, "relu"), D(1, "sigmoid")], {}),
        ([D(8, "relu"), D(1, "sigmoid")], {"seed": 1}),
        ([D(5, "tanh", dropout=0.3), D(1, "sigmoid")], {"l2": 0.01}),
        ([D(1, "sigmoid")], {"l1": 0.001}),
        ([D(8, "relu", trainable=False), D(4, "gelu"), D(1, "sigmoid")], {"dtype": "float64"}),
    ]
    return [nk.Network(layers, "binary_cross_entropy", **{"seed": 0, **options}) for layers, options in stacks]


OPTIMIZERS = [nk.Adam(), nk.SGD(0.5, momentum=0.9), nk.RMSprop(), nk.SGD(nk.schedules.Step(0.1, 0.5, 2)), nk.AdamW()]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [32, None])
def test_each_network_gets_the_bits_of_fit(threads, batch_size):
    X, Y = data()
    weights = np.random.default_rng(1).uniform(0.5, 2, M)
    how = {"epochs": 7, "batch_size": batch_size, "sample_weight": weights, "class_weight": {0: 1.0, 1: 2.0}}
    alone, together = networks(), networks()
    expected = [net.fit(X, Y, optimizer=one, **how) for net, one in zip(alone, OPTIMIZERS, strict=True)]
    histories = nk.fit_many(together, X, Y, optimizer=OPTIMIZERS, threads=threads, **how)
    for net, other, history, of_fit in zip(together, alone, histories, expected, strict=True):
        assert all((net.parameters[name] == a).all() for name, a in other.parameters.items())
        assert len(set(history["cost"])) > 1
        for what in ("cost", "learning_rate"):
            assert history[what] == of_fit[what]
        # and they go on alike
        assert net.fit(X, Y, epochs=2, resume=True)["cost"] == other.fit(X, Y, epochs=2, resume=True)["cost"]


def test_one_that_diverges_leaves_the_others_alone():
    X, Y = data()
    nets = [nk.Network([nk.Dense(1)], "squared_error", n_x=7, seed=seed) for seed in range(3)]
    before = {name: a.copy() for name, a in nets[1].parameters.items()}
    optimizers = [nk.SGD(0.01), nk.SGD(1e20), nk.SGD(0.02)]
    histories = nk.fit_many(nets, X, Y[None, :].astype(float), epochs=5, optimizer=optimizers)
    assert [len(history["cost"]) for history in histories] == [5, 0, 5]
    assert isinstance(histories[1]["diverged"], nk.DivergenceError)
    assert "diverged" not in histories[0]
    assert all((nets[1].parameters[name] == a).all() for name, a in before.items())
    with pytest.raises(nk.DivergenceError) as of_fit:
        nets[1].fit(X, Y[None, :].astype(float), epochs=5, optimizer=optimizers[1])
    assert str(of_fit.value) == str(histories[1]["diverged"])


def test_python_losses_run_on_the_callers_thread():
    """Workers' stacks are too small for them."""
    X, Y = data()
    threads = set()

    def loss(A, Y):
        threads.add(threading.get_ident())
        time.sleep(0.005)  # long enough for a worker to come
        return ((A - Y) ** 2).sum(axis=0) / 2, A - Y

    losses = ["squared_error", loss, loss, "squared_error"]
    together, alone = ([nk.Network([nk.Dense(3, "tanh"), nk.Dense(1)], one, seed=0) for one in losses] for _ in "ab")
    nk.fit_many(together, X, Y[None, :], epochs=3, threads=4)
    for net, other in zip(together, alone, strict=True):
        other.fit(X, Y[None, :], epochs=3)
        assert all((net.parameters[name] == a).all() for name, a in other.parameters.items())
    assert threads == {threading.get_ident()}


def test_errors_of_losses_are_left_in_no_network():
    X, Y = data()
    bad = True

    def loss(A, Y):
        if bad:
            raise OverflowError
        return ((A - Y) ** 2).sum(axis=0) / 2, A - Y

    nets = [nk.Network([nk.Dense(1)], loss, n_x=7, seed=seed) for seed in range(3)]
    before = [{name: a.copy() for name, a in net.parameters.items()} for net in nets]
    with pytest.raises(OverflowError):
        nk.fit_many(nets, X, Y[None, :], epochs=2)
    bad = False
    for net, parameters in zip(nets, before, strict=True):
        assert np.isfinite(net.evaluate(X, Y[None, :]).cost)
        assert all((net.parameters[name] == a).all() for name, a in parameters.items())
        assert net.optimizer is None


def test_an_error_of_one_leaves_what_the_others_have_done():
    X, Y = data()

    def failing(A, Y):
        raise OverflowError

    def loss(A, Y):
        return ((A - Y) ** 2).sum(axis=0) / 2, A - Y

    nets = [nk.Network([nk.Dense(1)], one, n_x=7, seed=0) for one in (failing, loss)]
    with pytest.raises(OverflowError):
        nk.fit_many(nets, X, Y[None, :], epochs=2, optimizer=[nk.Adam(), nk.Adam()])
    alone = nk.Network([nk.Dense(1)], loss, n_x=7, seed=0)
    alone.fit(X, Y[None, :], epochs=1, optimizer=nk.Adam())
    for net in (nets[1], alone):
        net.fit(X, Y[None, :], epochs=1, resume=True)
    assert nets[0].optimizer is None
    assert all((nets[1].parameters[name] == a).all() for name, a in alone.parameters.items())


def test_no_networks_and_no_epochs():
    X, Y = data()
    assert nk.fit_many([], X, Y) == []
    nets = networks()
    assert [history["cost"] for history in nk.fit_many(nets, X, Y, epochs=0)] == [[]] * len(nets)


def test_what_does_not_fit_changes_nothing():
    X, Y = data()
    nets = networks()
    for bad, error, words in [
        (lambda: nk.fit_many([nets[0], nets[0]], X, Y), ValueError, "twice"),
        (lambda: nk.fit_many([nets[0], "net"], X, Y), TypeError, "position 1"),
        (lambda: nk.fit_many(nets, X, Y, optimizer=[nk.SGD(0.1)]), ValueError, "1 optimizers for 5 networks"),
        (lambda: nk.fit_many(nets, X, Y[:-1]), ValueError, "300"),
        (lambda: nk.fit_many(nets, X, Y, threads=0), ValueError, "threads"),
        (lambda: nk.fit_many(nets, X, Y, epochs=-1), ValueError, "epochs"),
        (lambda: nk.fit_many(nets, X * np.nan, Y), ValueError, "X"),
    ]:
        with pytest.raises(error, match=words):
            bad()
    assert all(of(net).engine is None for net in nets)
    nk.fit_many(nets, X, Y, epochs=1)


def test_a_network_in_training_is_refused_and_the_others_are_free_again():
    X, Y = data()
    nets = networks()
    refused = []

    def callback(net, epoch, history):
        with pytest.raises(RuntimeError, match="trained already"):
            nk.fit_many(nets, X, Y, epochs=1)
        refused.append(net)

    nets[-1].fit(X, Y, epochs=1, callbacks=callback)
    assert refused == [nets[-1]]
    nk.fit_many(nets, X, Y, epochs=1)
