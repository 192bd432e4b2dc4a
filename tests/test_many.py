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
    for wrong, came in ((nets[0], "Network"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"^nets must be a list of networks; got {came}$"):
            nk.fit_many(wrong, X, Y)
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


# ---- data, validation and callbacks of each network ----


SIZES = (120, 300, 77, 300, 41)


def folds(dtype="float64"):
    """Of each network: X, Y, weights, and held-out examples, one of them without any."""
    rng = np.random.default_rng(2)
    cases = []
    for m in SIZES:
        X = rng.normal(size=(7, m + 30)).astype(dtype)
        Y, w = (X.sum(axis=0) + rng.normal(size=m + 30) > 0).astype(int), rng.uniform(0.5, 2, m + 30)
        cases.append((X[:, :m], Y[:m], w[:m], (X[:, m:], Y[m:], w[m:])))
    return [list(column) for column in zip(*cases, strict=True)]


def without_seconds(history):
    return {name: values for name, values in history.items() if name != "seconds"}


def log_loss(targets, outputs):
    return float(-np.log(np.where(targets == 1, outputs[0], 1 - outputs[0])).mean())


MONITORS = ["val_cost", "val_score", "val_error", "cost", "val_auc", log_loss]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("monitor", MONITORS, ids=lambda monitor: getattr(monitor, "__name__", monitor))
def test_each_network_has_its_own_data_and_best_epoch(monitor, threads):
    X, Y, w, held_out = folds()
    if monitor != "val_auc":
        held_out[2] = held_out[2][:2]  # without weights
    how = {"epochs": 25, "batch_size": 32}

    def stoppings():
        return [nk.EarlyStopping(k + 2, monitor=monitor, ties="last") for k in range(len(SIZES))]

    alone, together, one_by_one, at_once = networks(), networks(), stoppings(), stoppings()
    expected = [
        net.fit(X[k], Y[k], sample_weight=w[k], validation_data=held_out[k], callbacks=one_by_one[k],
                optimizer=OPTIMIZERS[k], **how)
        for k, net in enumerate(alone)
    ]  # fmt: skip
    histories = nk.fit_many(
        together, X, Y, sample_weight=w, validation_data=held_out, callbacks=at_once, optimizer=OPTIMIZERS,
        threads=threads, **how,
    )  # fmt: skip
    assert [without_seconds(history) for history in histories] == [without_seconds(history) for history in expected]
    assert all(net == other for net, other in zip(together, alone, strict=True))
    assert [vars(one) for one in at_once] == [vars(one) for one in one_by_one]
    assert len({len(history["cost"]) for history in histories}) > 1
    for k, (net, other) in enumerate(zip(together, alone, strict=True)):
        assert (
            net.fit(X[k], Y[k], epochs=2, resume=True)["cost"] == other.fit(X[k], Y[k], epochs=2, resume=True)["cost"]
        )


def test_what_is_no_list_is_for_all():
    X, Y, w, held_out = folds()
    for for_each in ("X", "Y", "sample_weight", "validation_data"):
        given = {"X": X[0], "Y": Y[0], "sample_weight": w[0], "validation_data": held_out[0]}
        rng = np.random.default_rng(3)
        of_each = {
            "X": [X[0] + rng.normal(size=X[0].shape) for _ in SIZES],
            "Y": [rng.permutation(Y[0]) for _ in SIZES],
            "sample_weight": [None, w[0], rng.permutation(w[0]).tolist(), w[0], None],
            "validation_data": [held_out[1], None, held_out[2], held_out[3][:2], None],
        }[for_each]
        together, alone = networks(), networks()
        histories = nk.fit_many(together, **{**given, for_each: of_each}, epochs=3)
        for net, own, history in zip(alone, of_each, histories, strict=True):
            assert without_seconds(net.fit(**{**given, for_each: own}, epochs=3)) == without_seconds(history)
        assert together == alone


def regressors(count, n_y):
    return [nk.Network([nk.Dense(n_y)], "squared_error", seed=seed) for seed in range(count)]


def test_lists_of_rows_are_one_matrix_where_they_cannot_be_one_for_each():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 9)), rng.normal(size=(3, 9))
    forms = [Y, Y.tolist(), list(Y), tuple(Y)]
    fitted = []
    for form in forms:
        nets = regressors(2, 3)
        nk.fit_many(nets, X, form, epochs=2)
        fitted.append(nets)
    assert all(nets == fitted[0] for nets in fitted)
    # three networks and three arrays: one for each
    nets, alone = regressors(3, 1), regressors(3, 1)
    nk.fit_many(nets, X.tolist(), list(Y[:, None]), epochs=2)
    for net, own in zip(alone, Y, strict=True):
        net.fit(X, own[None], epochs=2)
    assert nets == alone
    # a pair that is a list, and two networks
    pairs = []
    for pair in ((X, Y), [X, Y]):
        pairs.append(nk.fit_many(regressors(2, 3), X, Y, epochs=2, validation_data=pair)[1]["val_cost"])
    assert pairs[0] == pairs[1] != []


def test_networks_are_trained_and_evaluated_side_by_side(monkeypatch):
    """A call of the engine has many epochs of several networks, with their held-out examples."""
    calls = []
    train = nk.training._engine.train_together

    def count(jobs, threads):
        calls.append(len(jobs))
        return train(jobs, threads)

    monkeypatch.setattr(nk.training._engine, "train_together", count)
    monkeypatch.setattr(nk.training, "_ROUND", 1e9)  # seconds
    X, Y, _, held_out = folds()
    nk.fit_many(networks(), X, Y, validation_data=held_out, callbacks=nk.EarlyStopping(None), epochs=400, threads=2)
    # an epoch of all, to see how long it takes; then as many for each thread; then the fifth
    assert calls == [5, 4, 1]


def test_an_early_stopping_for_all_is_copied():
    X, Y, _, held_out = folds()
    stopping, epochs = nk.EarlyStopping(3), []

    def note(net, epoch, history):
        epochs.append((net.seed, len(net.layers), epoch))

    together, alone = networks(), networks()
    histories = nk.fit_many(together, X, Y, validation_data=held_out, callbacks=(stopping, note), epochs=8)
    assert not hasattr(stopping, "best_epoch")
    for k, (net, history) in enumerate(zip(alone, histories, strict=True)):
        own = net.fit(X[k], Y[k], validation_data=held_out[k], callbacks=nk.EarlyStopping(3), epochs=8)
        assert without_seconds(own) == without_seconds(history)
    assert together == alone
    assert len(epochs) == sum(len(history["cost"]) for history in histories)
    nk.fit_many(networks(), X, Y, callbacks=nk.LearningRateSchedule(lambda epoch: 0.1), epochs=1)


def test_callbacks_of_each():
    X, Y = data()
    seen = {k: [] for k in range(5)}
    callbacks = [
        None,
        lambda net, epoch, history: seen[1].append(epoch),
        (),
        [lambda net, epoch, history: seen[3].append(epoch) or epoch == 1, nk.EarlyStopping(monitor="cost")],
        nk.EarlyStopping(1, min_delta=1e9, monitor="cost"),
    ]
    histories = nk.fit_many(networks(), X, Y, callbacks=callbacks, epochs=4)
    assert [len(history["cost"]) for history in histories] == [4, 4, 4, 2, 2]
    assert seen == {0: [], 1: [0, 1, 2, 3], 2: [], 3: [0, 1], 4: []}


def test_the_same_array_is_checked_and_held_once(monkeypatch):
    checked = []
    for name in ("examples", "targets", "weights"):
        check = getattr(nk.validation, name)
        monkeypatch.setattr(
            nk.validation, name, lambda *how, check=check, **more: checked.append(id(how[0])) or check(*how, **more)
        )
    X, Y, w, held_out = (column[0] for column in folds())
    nets = [nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy", seed=seed) for seed in range(4)]
    weights = [w, w.copy(), w, w[::-1]]
    fits = nk.training.fits_of_many(
        nets, [nk.training.Options(1, 32, True, None, None)] * 4, [(X, Y, own) for own in weights],
        [held_out, held_out[:2], tuple(held_out), None],
    )  # fmt: skip
    assert checked.count(id(X)) == checked.count(id(Y)) == checked.count(id(held_out[0])) == 1
    assert all(fit.source.X is fits[0].source.X and fit.source.Y is fits[0].source.Y for fit in fits)
    assert fits[0].source is fits[2].source
    assert len({id(fit.source.w) for fit in fits}) == 3
    assert fits[0].held_out.X is fits[1].held_out.X is fits[2].held_out.X
    assert fits[0].source.X.dtype == np.float32


def test_lists_that_do_not_fit_change_nothing():
    X, Y, _, held_out = folds()
    nets = networks()
    bad_Y = [*Y[:2], Y[2][:-1], *Y[3:]]
    stopping, saving = nk.EarlyStopping(monitor="cost"), nk.Checkpoint("best.npz")
    for how, error, words in [
        ({"X": X[:4]}, ValueError, "^X is a list of 4, which is one for each network, for 5 networks$"),
        ({"Y": Y[:4]}, ValueError, "^Y is a list of 4, which is one for each network, for 5 networks$"),
        ({"sample_weight": [None] * 6}, ValueError, "^sample_weight is a list of 6, which is one for each network"),
        ({"validation_data": held_out[:2]}, ValueError, "^validation_data is a list of 2, which is one for each net"),
        ({"callbacks": [stopping]}, ValueError, "^callbacks is a list of 1, which has those of each network, for 5"),
        ({"callbacks": [stopping] * 5}, ValueError, "^callbacks holds one EarlyStopping for two networks: give each"),
        ({"callbacks": saving}, ValueError, "^callbacks holds a Checkpoint for all of 5 networks"),
        ({"callbacks": [3, None, None, None, None]}, TypeError, "^callbacks must be a callback or a list of them"),
        ({"callbacks": nk.EarlyStopping()}, ValueError, "^monitor 'val_cost' isn't in the history"),
        ({"Y": bad_Y}, ValueError, "76"),
        ({"validation_data": [None, None, (X[0],), None, None]}, ValueError, r"^validation_data must be \(X, Y\) or"),
        ({"validation_data": [(X[0][1:], Y[0]), *held_out[1:]]}, ValueError, "^validation_data's X"),
        ({"X": [*X[:3], X[3] * np.nan, X[4]]}, ValueError, "^X"),
    ]:
        with pytest.raises(error, match=words) as caught:
            nk.fit_many(nets, **{"X": X, "Y": Y, **how})
        if how.get("Y") is bad_Y:
            assert caught.value.__notes__ == ["That is what was given for nets[2]."]
    assert all(of(net).engine is None for net in nets)
    nk.fit_many(nets, X, Y, epochs=1)


def test_one_that_diverges_keeps_its_best_epoch_as_others_do():
    """As after `fit`, but for the error: the parameters are those of the best of its whole epochs."""
    X, Y = data()
    Y = Y[None, :].astype(float)
    rates = [0.01, 0.01, 0.5, 1e30]
    nets = [nk.Network([nk.Dense(1)], "squared_error", n_x=7, seed=seed) for seed in range(3)]
    optimizers = [nk.SGD(0.01), nk.SGD(lambda epoch: rates[min(epoch, 3)]), nk.SGD(0.02)]
    stoppings = [nk.EarlyStopping(None) for _ in nets]
    histories = nk.fit_many(
        nets, X, Y, epochs=9, batch_size=None, validation_data=(X, Y), callbacks=stoppings, optimizer=optimizers
    )
    assert [len(history["val_cost"]) for history in histories] == [9, 4, 9]
    assert isinstance(histories[1]["diverged"], nk.DivergenceError)
    for net, stopping, history in zip(nets, stoppings, histories, strict=True):
        assert stopping.best_value == min(history["val_cost"]) == net.evaluate(X, Y).cost
