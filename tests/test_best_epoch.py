"""The best epoch: by what it is chosen, which of equal ones is kept, and how the values are computed."""

import copy
import functools
import pickle
import re
import signal
import threading

import numpy as np
import pytest

import nnkern as nk
from nnkern import monitors

M = 60


def examples(kind, m=M, seed=0, weighted=False):
    """X (3, m), Y of a kind of task, and weights or None."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(3, m)).astype(np.float32)
    Z = rng.normal(size=(3, 3)) @ X + rng.normal(size=(3, m))
    Y = {
        "two classes": (Z[0] > 0).astype(int),
        "classes": Z.argmax(axis=0),
        "one-hot": (Z.max(axis=0) == Z).astype(np.float32),
        "labels": (Z > 0).astype(np.float32),
        "numbers": Z,
    }[kind]
    return X, Y, rng.uniform(0.5, 2, m).astype(np.float32) if weighted else None


LOSSES = {
    "two classes": (1, "sigmoid", "binary_cross_entropy"),
    "classes": (3, "softmax", "cross_entropy"),
    "one-hot": (3, "softmax", "cross_entropy"),
    "labels": (3, "sigmoid", "binary_cross_entropy"),
    "numbers": (3, "linear", "squared_error"),
}


def network(kind, **options):
    n_y, activation, loss = LOSSES[kind]
    return nk.Network([nk.Dense(5, "tanh"), nk.Dense(n_y, activation)], loss, seed=0, **options)


class Snapshots(nk.Callback):
    """The parameters after each epoch."""

    def on_fit_begin(self, net):
        self.taken = []

    def on_epoch_end(self, net, epoch, history):
        self.taken.append({name: a.copy() for name, a in net.parameters.items()})


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


def trained(kind, stopping, epochs=12, weighted=False, **options):
    """(network, history, parameters after each epoch) of a training that watches a held-out set."""
    X, Y, w = examples(kind, weighted=weighted)
    held_out = tuple(a for a in examples(kind, 41, 1, weighted) if a is not None)
    net, snapshots = network(kind), Snapshots()
    how = {"epochs": epochs, "optimizer": nk.SGD(0.5), "batch_size": 16, "callbacks": [snapshots, stopping], **options}
    history = net.fit(X, Y, sample_weight=w, validation_data=held_out, **how)
    return net, history, snapshots.taken


# ---- AUC and RMSE against their definitions ----


def area_by_pairs(outputs, belongs, w):
    """The probability, by weight, that a member's output is larger than another's, ties counting half."""
    inside, outside = np.flatnonzero(belongs), np.flatnonzero(~belongs)
    total = won = 0.0
    for i in inside:
        for j in outside:
            pair = float(w[i]) * float(w[j])
            total += pair
            won += pair * (1 if outputs[i] > outputs[j] else 0.5 if outputs[i] == outputs[j] else 0)
    return won / total


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("levels", [2, 7, 10**9])
def test_auc_counts_pairs(levels, weighted):
    rng = np.random.default_rng(levels)
    A = (rng.integers(levels, size=(3, M)) / levels).astype(np.float32)
    members = rng.random((3, M)) < 0.3
    # quarters, and whole numbers without weights: every sum is exact
    w = rng.integers(0, 9, M) / np.float32(4) if weighted else None
    expected = np.mean([area_by_pairs(A[k], members[k], np.ones(M) if w is None else w) for k in range(3)])
    assert monitors.auc(A, members, w) == pytest.approx(expected, rel=1e-15)


def test_auc_of_perfect_and_reversed_and_constant_outputs():
    members = np.array([[True, True, False, False]])
    for outputs, expected in [
        ([3, 2, 1, 0], 1.0),
        ([0, 1, 2, 3], 0.0),
        ([1, 1, 1, 1], 0.5),
        ([np.inf, 1, 1, 0], 0.875),
    ]:
        assert monitors.auc(np.array([outputs], np.float64), members, None) == expected
    assert np.isnan(monitors.auc(np.array([[0, np.nan, 1, 2]]), members, None))


def test_auc_leaves_out_classes_without_examples():
    """The second output has no member, the third none but members."""
    members = np.array([[True, False, True], [False] * 3, [True] * 3])
    assert monitors.auc(np.array([[2.0, 1, 0], [0, 1, 2], [0, 1, 2]]), members, None) == 0.5
    # a weight of 0 is no example
    assert monitors.auc(np.array([[2.0, 1, 0]]), members[:1], np.array([1, 1, 0], np.float32)) == 1


def test_rmse_is_averaged_over_the_outputs():
    A, Y = np.array([[1.0, 3], [0, 0]]), np.array([[0.0, 0], [6, 6]])
    assert monitors.rmse(A, Y, None) == (np.sqrt(5) + 6) / 2
    assert monitors.rmse(A, Y, np.array([1.0, 0])) == (1 + 6) / 2


# ---- what is recorded ----


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in LOSSES if kind != "numbers"])
def test_error_and_auc_are_those_of_the_held_out_examples(kind, weighted):
    X, Y, w = examples(kind, 41, 1, weighted)
    members = {"two classes": Y == 1, "classes": np.arange(3)[:, None] == Y}.get(kind, np.asarray(Y) == 1)
    callbacks = [nk.EarlyStopping(None, monitor=name, restore_best=False) for name in ("val_error", "val_auc")]
    seen = []

    def note(net, epoch, history):
        A = net.predict(X)
        areas = [
            area_by_pairs(a, belongs, np.ones(41) if w is None else w)
            for a, belongs in zip(A, np.atleast_2d(members), strict=True)
        ]
        seen.append((1 - net.evaluate(X, Y, sample_weight=w).score, np.mean(areas)))

    net = network(kind)
    held_out = (X, Y) if w is None else (X, Y, w)
    history = net.fit(*examples(kind)[:2], epochs=4, validation_data=held_out, callbacks=[*callbacks, note])
    assert history["val_error"] == [error for error, _ in seen]
    assert history["val_auc"] == pytest.approx([area for _, area in seen], rel=1e-14)
    assert len(set(history["val_auc"])) > 1
    assert callbacks[0].best_value == min(history["val_error"])
    assert callbacks[1].best_value == max(history["val_auc"])


def test_rmse_is_recorded_for_numbers():
    X, Y, _ = examples("numbers", 41, 1)
    net, history, _ = trained("numbers", nk.EarlyStopping(None, monitor="val_rmse", restore_best=False), epochs=3)
    squares = (net.predict(X).astype(np.float64) - Y.astype(np.float32)) ** 2
    assert history["val_rmse"][-1] == pytest.approx(np.sqrt(squares.mean(axis=1)).mean(), rel=1e-12)


def test_nothing_is_recorded_that_nobody_monitors():
    _, history, _ = trained("classes", nk.EarlyStopping(), epochs=1)
    assert list(history) == ["cost", "learning_rate", "seconds", "val_cost", "val_score"]


SHAPES = {"two classes": (41,), "classes": (41,), "one-hot": (41,), "labels": (3, 41), "numbers": (3, 41)}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_function_gets_labels_or_numbers_and_outputs(kind):
    X, Y, _ = examples(kind, 41, 1)
    calls = []

    def first_loss(targets, outputs):
        calls.append((targets.copy(), outputs))
        with pytest.raises(ValueError, match="read-only"):
            targets[...] = 0
        return len(calls)

    stopping = nk.EarlyStopping(None, monitor=first_loss, restore_best=False)
    net, history, _ = trained(kind, stopping, epochs=3)
    assert history["val_first_loss"] == [1.0, 2.0, 3.0]
    assert (stopping.best_epoch, stopping.best_value) == (0, 1.0)
    targets, outputs = calls[-1]
    assert np.array_equal(outputs, net.predict(X))
    assert targets.shape == SHAPES[kind]
    if kind == "numbers":
        assert np.array_equal(targets, Y.astype(np.float32))
    else:
        assert targets.dtype == np.int64
        assert np.array_equal(targets, Y.argmax(axis=0) if kind == "one-hot" else Y)


def test_a_function_gets_probabilities_as_they_are():
    X, Y, _ = examples("one-hot", 41, 1)
    Y = 0.5 * Y + 1 / 6
    seen = []

    def any_loss(targets, outputs):
        seen.append(targets)
        return 0.0

    network("classes").fit(X, Y, epochs=1, validation_data=(X, Y), callbacks=nk.EarlyStopping(monitor=any_loss))
    assert np.array_equal(seen[0], Y.astype(np.float32))


# ---- which epoch is kept ----


def sequence(values):
    """A function to monitor that returns these values in turn."""
    left = iter(values)

    def given_cost(targets, outputs):
        return next(left)

    return given_cost


@pytest.mark.parametrize(("ties", "best"), [("first", 1), ("last", 4)])
def test_of_equal_epochs_the_first_or_the_last_is_kept(ties, best):
    stopping = nk.EarlyStopping(None, monitor=sequence([3.0, 1, 2, 1, 1, 5]), ties=ties)
    net, _, snapshots = trained("classes", stopping, epochs=6)
    assert (stopping.best_epoch, stopping.best_value) == (best, 1.0)
    assert same(net.parameters, snapshots[best])
    assert not same(snapshots[1], snapshots[4])


@pytest.mark.parametrize("ties", ["first", "last"])
def test_equal_epochs_do_not_prolong_the_patience(ties):
    stopping = nk.EarlyStopping(3, monitor=sequence([2.0, 1, 1, 1, 1, 1, 0]), ties=ties)
    _, history, _ = trained("classes", stopping, epochs=7)
    assert history["val_given_cost"] == [2, 1, 1, 1, 1]
    assert stopping.best_epoch == {"first": 1, "last": 4}[ties]


def test_what_is_better_by_less_than_min_delta_is_no_tie():
    stopping = nk.EarlyStopping(None, 0.5, sequence([1.0, 0.75, 1, 0.25, 0]), ties="last")
    trained("classes", stopping, epochs=3)
    assert (stopping.best_epoch, stopping.best_value) == (2, 1.0)


def test_without_patience_all_epochs_are_gone_through():
    stopping = nk.EarlyStopping(patience=None, monitor=sequence([0.0, *range(1, 40)]))
    net, history, snapshots = trained("classes", stopping, epochs=40)
    assert len(history["cost"]) == 40
    assert stopping.best_epoch == 0
    assert same(net.parameters, snapshots[0])


def test_any_number_is_better_than_nan():
    nan = float("nan")
    stopping = nk.EarlyStopping(2, monitor=sequence([nan, 2.0, nan, nan]))
    _, history, _ = trained("classes", stopping)
    assert (stopping.best_epoch, stopping.best_value, len(history["cost"])) == (1, 2.0, 4)


def f1_score(targets, outputs):
    return 0.0


def log_loss(targets, outputs):
    return 0.0


def anything(targets, outputs):
    return 0.0


@pytest.mark.parametrize(
    ("monitor", "mode", "best"),
    [
        ("val_cost", None, min), ("val_score", None, max), ("val_error", None, min), ("val_auc", None, max),
        ("cost", None, min), ("cost", "max", max), ("val_score", "min", min), (f1_score, None, max),
        (log_loss, None, min), (f1_score, "min", min), (anything, "max", max), (anything, "min", min),
    ],
)  # fmt: skip
def test_which_values_are_better(monitor, mode, best):
    values = [2.0, 3.0, 1.0]
    stopping = nk.EarlyStopping(None, monitor=monitor, mode=mode)
    net = network("classes", n_x=3)
    stopping.on_fit_begin(net)
    key = f"val_{monitor.__name__}" if callable(monitor) else monitor
    for epoch in range(3):
        assert not stopping.on_epoch_end(net, epoch, {key: values[: epoch + 1]})
    assert stopping.best_value == best(values)
    assert stopping.best_epoch == values.index(best(values))


def test_checkpoints_take_the_same_monitors(tmp_path):
    path = tmp_path / "best.npz"
    saving = nk.Checkpoint(path, monitor=sequence([3.0, 1, 2, 1]))
    _, _, snapshots = trained("classes", saving, epochs=4)
    assert same(nk.load(path).parameters, snapshots[1])
    rising = nk.Checkpoint(path, monitor=sequence([1.0, 3, 2]), mode="max")
    _, _, snapshots = trained("classes", rising, epochs=3)
    assert same(nk.load(path).parameters, snapshots[1])
    trained("classes", nk.Checkpoint(path, monitor="val_auc"), epochs=2)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_and_pickles(again):
    stopping = nk.EarlyStopping(None, 0.5, log_loss, restore_best=False, ties="last", mode="max")
    assert vars(again(stopping)) == vars(stopping)


# ---- refusals ----


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: nk.EarlyStopping(monitor=5), TypeError, "monitor must be a key of the history or a function (targets"),
        (lambda: nk.EarlyStopping(monitor=anything), ValueError, 'mode must be "min" or "max" here: the name anything'),
        (lambda: nk.EarlyStopping(mode="up"), ValueError, "mode must be one of min, max; got 'up'"),
        (lambda: nk.EarlyStopping(ties="both"), ValueError, "ties must be one of first, last; got 'both'"),
        (lambda: nk.EarlyStopping(patience=0), ValueError, "patience must be an integer >= 1; got 0"),
        (lambda: nk.Checkpoint("a.npz", monitor=anything), ValueError, "mode must be"),
    ],
)
def test_what_cannot_be_monitored(make, error, said):
    with pytest.raises(error, match=re.escape(said)):
        make()


def test_functions_whose_names_have_a_meaning_already():
    def cost(targets, outputs):
        return 0.0

    with pytest.raises(ValueError, match="monitor is a function called cost, but val_cost has a meaning already"):
        nk.EarlyStopping(monitor=cost)


@pytest.mark.parametrize(
    ("kind", "monitor", "said"),
    [
        ("numbers", "val_error", "monitor 'val_error' is for classes, the loss squared_error is for numbers"),
        ("numbers", "val_auc", "monitor 'val_auc' is for classes"),
        ("classes", "val_rmse", "monitor 'val_rmse' is for numbers, the loss cross_entropy is for classes"),
        ("classes", "val_f1", "monitor 'val_f1' isn't in the history, which has cost"),
    ],
)
def test_what_does_not_suit_the_loss_is_refused_before_the_first_epoch(kind, monitor, said):
    X, Y, _ = examples(kind)
    net = network(kind)
    with pytest.raises(ValueError, match=re.escape(said)):
        net.fit(X, Y, validation_data=(X, Y), callbacks=nk.EarlyStopping(monitor=monitor))
    assert net.n_x is None


def test_a_name_that_is_no_monitor_is_told_those_that_are():
    """Held-out examples are there, so they are not what is missing."""
    X, Y, _ = examples("classes")
    message = (
        "monitor 'val_loss' isn't in the history, which has cost, learning_rate, seconds, val_cost, val_score; "
        "val_error, val_auc, val_rmse, val_mae and functions (targets, outputs) can be monitored besides"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        network("classes").fit(X, Y, validation_split=0.2, callbacks=nk.EarlyStopping(monitor="val_loss"))


@pytest.mark.parametrize("monitor", ["val_error", "val_auc", log_loss])
def test_what_is_monitored_needs_held_out_examples(monitor):
    X, Y, _ = examples("classes")
    name = monitor if isinstance(monitor, str) else "val_log_loss"
    with pytest.raises(ValueError, match=f"monitor '{name}' isn't in the history.*it needs validation_data or val"):
        network("classes").fit(X, Y, callbacks=nk.EarlyStopping(monitor=monitor))


@pytest.mark.parametrize("weights", [None, np.append(np.zeros(9), 1)])
def test_auc_of_one_class_is_refused(weights):
    X, Y = np.ones((3, 10)), np.append(np.full(9, weights is not None), 0).astype(int)
    held_out = (X, Y) if weights is None else (X, Y, weights)
    with pytest.raises(ValueError, match="monitor 'val_auc' needs examples of two classes among the held-out ones"):
        network("two classes").fit(
            *examples("two classes")[:2], validation_data=held_out, callbacks=nk.EarlyStopping(monitor="val_auc")
        )


def test_two_functions_of_one_name_are_refused_and_one_for_two_is_not():
    X, Y, _ = examples("classes")
    one, other = sequence([0.0]), sequence([0.0])
    for functions, said in [
        ((one, other), "two monitors are functions called given_cost: rename one"),
        ((one, one), ""),
    ]:
        net, callbacks = network("classes"), [nk.EarlyStopping(monitor=function) for function in functions]
        if said:
            with pytest.raises(ValueError, match=said):
                net.fit(X, Y, validation_data=(X, Y), callbacks=callbacks)
        else:
            assert net.fit(X, Y, epochs=1, validation_data=(X, Y), callbacks=callbacks)["val_given_cost"] == [0]


@pytest.mark.parametrize("value", [None, "0.5", [1.0], 1j], ids=repr)
def test_a_function_that_returns_no_number(value):
    X, Y, _ = examples("classes")
    stopping = nk.EarlyStopping(monitor=functools.partial(lambda value, *_: value, value), mode="min")
    said = re.escape(f"the monitor partial must return a number; got {value!r}")
    with pytest.raises(TypeError, match=said):
        network("classes").fit(X, Y, epochs=1, validation_data=(X, Y), callbacks=stopping)


# ---- in the engine and through Python: the same bits ----


def nothing(net, epoch, history):
    """A callback that makes the training go through Python after each epoch."""


def outcome(net, stopping, history, X, Y):
    """All that a training leaves, as what can be compared: NaN is NaN."""
    kept = {name: values for name, values in history.items() if name != "seconds"}
    went_on = net.fit(X, Y, epochs=2, resume=True, batch_size=16)
    return repr(
        (
            kept,
            [a.tobytes() for a in net.parameters.values()],
            (stopping.best_epoch, stopping.best_value),
            went_on["cost"],
        )
    )


def both(make_net, data, held_out, make_stopping, **how):
    """What a training leaves, in the engine and through Python."""
    results = []
    for more in ([], [nothing]):
        net, stopping = make_net(), make_stopping()
        history = net.fit(*data, validation_data=held_out, callbacks=[stopping, *more], **how)
        results.append(outcome(net, stopping, history, *data))
    return results


def wide(kind, n_y, dtype, **options):
    _, activation, loss = LOSSES[kind]
    layers = [nk.Dense(40, "gelu", dropout=0.25), nk.Dense(7, "tanh", l2=0.1), nk.Dense(n_y, activation)]
    return nk.Network(layers, loss, dtype=dtype, seed=3, l1=0.001, **options)


def targets(kind, n_y, m, rng):
    if kind in ("two classes", "classes"):
        return rng.integers(max(n_y, 2), size=m)
    if kind == "labels":
        return rng.integers(2, size=(n_y, m)).astype(np.float32)
    return rng.normal(size=(n_y, m))


# more outputs than numpy adds up in one go; more examples than a block has
TASKS = [("two classes", 1), ("classes", 4), ("labels", 3), ("numbers", 1), ("numbers", 9), ("numbers", 300)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "n_y"), TASKS)
def test_the_engine_chooses_as_python_does(kind, n_y, dtype, weighted):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(6, 90)), targets(kind, n_y, 90, rng)
    held_out = [rng.normal(size=(6, 700)), targets(kind, n_y, 700, rng)]
    if weighted:
        held_out.append(rng.integers(3, size=700) / 2)
    seen = set()
    for monitor in ("val_cost", "val_score", "cost", *(["val_error"] if kind != "numbers" else [])):
        for options in ({"patience": 2}, {"patience": None, "ties": "last"}, {"patience": 3, "min_delta": 0.01}):
            make = functools.partial(nk.EarlyStopping, monitor=monitor, **options)
            how = {"epochs": 9, "batch_size": 32, "optimizer": nk.Adam(0.02)}
            native, python = both(lambda: wide(kind, n_y, dtype), (X, Y), tuple(held_out), make, **how)
            assert native == python
            seen.add(native)
    assert len(seen) > 4


OTHERS = {
    "last epoch stays": {"restore_best": False},
    "rising cost": {"mode": "max", "patience": 3},
    "falling score": {"monitor": "val_score", "mode": "min", "patience": 4},
    "a large min_delta": {"min_delta": 1e9, "patience": 5, "ties": "last"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_choices_in_the_engine(name):
    X, Y, _ = examples("classes")
    native, python = both(
        lambda: network("classes"), (X, Y), examples("classes", 41, 1)[:2],
        lambda: nk.EarlyStopping(**OTHERS[name]), epochs=9, optimizer="adam",
    )  # fmt: skip
    assert native == python


def test_equal_epochs_in_the_engine():
    """The error rate takes few values; the last epoch of the lowest is kept, and it ends where the first one says."""
    X, Y, _ = examples("classes")
    held_out = examples("classes", 9, 1)[:2]
    for ties in ("first", "last"):
        for patience in (4, None):
            make = functools.partial(nk.EarlyStopping, patience, monitor="val_error", ties=ties)
            native, python = both(lambda: network("classes"), (X, Y), held_out, make, epochs=30, optimizer=nk.SGD(1.0))
            assert native == python
            net, stopping = network("classes"), make()
            errors = net.fit(X, Y, validation_data=held_out, callbacks=stopping, epochs=30, optimizer=nk.SGD(1.0))
            errors = np.array(errors["val_error"])
            lowest = np.flatnonzero(errors == errors.min())
            assert len(lowest) > 1
            assert stopping.best_epoch == lowest[0 if ties == "first" else -1]
            assert len(errors) == (30 if patience is None else lowest[0] + 1 + patience)


def test_schedules_by_step_and_whole_batches_in_the_engine():
    """The numbers of each step are asked for over all epochs of a call, or over one; dropout is off between."""
    rng = np.random.default_rng(0)
    X, Y, held_out = rng.normal(size=(6, 90)), rng.integers(3, size=90), (rng.normal(size=(6, 50)), np.arange(50) % 3)

    def make():
        layers = [nk.Dense(20, "silu", dropout=nk.schedules.ByStep(0.5, "flat_cos")), nk.Dense(3, "softmax")]
        return nk.Network(layers, "cross_entropy", seed=0)

    optimizer = nk.AdamW(nk.schedules.ByStep(0.05, "coslog4"), weight_decay=nk.schedules.ByStep(0.1, "linear"))
    how = {"epochs": 11, "batch_size": 32, "drop_last": True, "optimizer": optimizer}
    native, python = both(make, (X, Y), held_out, lambda: nk.EarlyStopping(None, ties="last"), **how)
    assert native == python
    native, python = both(make, (X, Y), held_out, lambda: nk.EarlyStopping(2, monitor="val_error"), **how)
    assert native == python


def test_categories_in_the_engine():
    """Codes of held-out examples are looked at as those of the training are."""
    rng = np.random.default_rng(0)
    codes = rng.integers(4, size=(1, 140))
    X, Y = np.vstack([rng.normal(size=(2, 140)), codes]), codes[0] % 2

    def make():
        encode = nk.Encode([nk.Numeric(0), nk.Periodic(1, 4, 3), nk.Embedding(2, 4, 2)])
        return nk.Network([encode, nk.Dense(6, "relu"), nk.Dense(1, "sigmoid")], "binary_cross_entropy", seed=0)

    parts = (X[:, :100], Y[:100]), (X[:, 100:], Y[100:])
    native, python = both(make, *parts, lambda: nk.EarlyStopping(3), epochs=9, optimizer="adam")
    assert native == python
    X[2, 120] = 4
    net = make()
    with pytest.raises(ValueError, match=r"X\[2, 20\]"):
        net.fit(*parts[0], validation_data=parts[1], callbacks=nk.EarlyStopping())


def test_more_epochs_than_one_call_has(monkeypatch):
    """2500 epochs are three calls of the engine, and 2500 with a callback of one's own."""
    calls = []
    train = nk.training._engine.train_together
    monkeypatch.setattr(nk.training._engine, "train_together", lambda *how: calls.append(how) or train(*how))
    X, Y, _ = examples("numbers", 8)
    make = functools.partial(nk.EarlyStopping, None, monitor="val_score", ties="last")
    how = {"epochs": 2500, "batch_size": None, "optimizer": nk.Adam(0.03)}
    native, python = both(lambda: network("numbers"), (X, Y), examples("numbers", 9, 1)[:2], make, **how)
    assert native == python
    assert len(calls) == 3 + 1 + 2500 + 1  # and one each for what goes on


def test_patience_over_the_end_of_a_call():
    """The best epoch is in the first call, the end by patience in the second."""
    X, Y, _ = examples("numbers", 8)
    rates = [0.1] * 1020 + [-0.0] * 500
    net, stopping = network("numbers"), nk.EarlyStopping(50, monitor="cost")
    history = net.fit(
        X, Y, epochs=1500, batch_size=None, callbacks=stopping, optimizer=nk.SGD(lambda t: rates[t] + 1e-300)
    )
    costs = history["cost"]
    assert stopping.best_epoch == int(np.argmin(costs))
    assert len(costs) == stopping.best_epoch + 51 > 1024


def test_held_out_examples_alone_stay_in_the_engine(monkeypatch):
    X, Y, _ = examples("classes")
    histories = []
    for callbacks in ([], [nothing]):
        histories.append(network("classes").fit(X, Y, epochs=5, validation_split=0.3, callbacks=callbacks))
        del histories[-1]["seconds"]
    assert histories[0] == histories[1]
    calls = []
    train = nk.training._engine.train_together
    monkeypatch.setattr(nk.training._engine, "train_together", lambda *how: calls.append(how) or train(*how))
    network("classes").fit(X, Y, epochs=5, validation_split=0.3)
    assert len(calls) == 1


def test_a_subclass_and_a_method_of_ones_own_go_through_python():
    X, Y, _ = examples("classes")
    epochs = []

    class Own(nk.EarlyStopping):
        def on_epoch_end(self, net, epoch, history):
            epochs.append(epoch)
            return super().on_epoch_end(net, epoch, history)

    patched = nk.EarlyStopping()
    patched.on_epoch_end = lambda net, epoch, history: epochs.append(epoch)
    for stopping in (Own(), patched):
        network("classes").fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=stopping)
    assert epochs == [0, 1, 2, 0, 1, 2]


def test_a_loss_of_ones_own_and_its_errors():
    X, Y, _ = examples("numbers")
    held_out = examples("numbers", 41, 1)[:2]
    calls_left = None

    def loss(A, Y):
        nonlocal calls_left
        if A.shape[1] == 41 and calls_left is not None:
            calls_left -= 1
            if calls_left < 0:
                raise OverflowError("held out")
        return ((A - Y) ** 2).sum(axis=0) / 2, A - Y

    def make():
        return nk.Network([nk.Dense(4, "tanh"), nk.Dense(3)], loss, seed=0)

    native, python = both(make, (X, Y), held_out, lambda: nk.EarlyStopping(None), epochs=4)
    assert native == python
    left = []
    for more in ([], [nothing]):
        net, calls_left = make(), 2
        with pytest.raises(OverflowError, match="held out"):
            net.fit(X, Y, epochs=6, validation_data=held_out, callbacks=[nk.EarlyStopping(None), *more])
        calls_left = None
        left.append(([a.tobytes() for a in net.parameters.values()], net.fit(X, Y, epochs=1, resume=True)["cost"]))
    assert left[0] == left[1]


def test_divergence_later_is_the_same():
    X, Y, _ = examples("numbers")
    rates = [0.01, 0.01, 0.01, 1e30]
    left = []
    for more in ([], [nothing]):
        net, stopping = network("numbers"), nk.EarlyStopping(None)
        with pytest.raises(nk.DivergenceError, match="epoch 3") as caught:
            net.fit(
                X, Y, epochs=9, validation_data=(X, Y), callbacks=[stopping, *more],
                optimizer=nk.SGD(lambda epoch: rates[min(epoch, 3)]),
            )  # fmt: skip
        left.append((str(caught.value), stopping.best_epoch, [a.tobytes() for a in net.parameters.values()]))
    assert left[0] == left[1]
    assert left[0][1] == 2


def test_a_schedule_that_ends_where_the_training_does():
    """It is asked for more rates than there are only where these are needed."""
    X, Y, _ = examples("numbers")
    how = {"epochs": 20, "validation_data": (X, Y), "optimizer": nk.SGD(lambda epoch: [0.1, 0.1, 30, 30, 30][epoch])}
    stopping = nk.EarlyStopping(2)
    net, python = network("numbers"), network("numbers")
    assert len(net.fit(X, Y, callbacks=stopping, **how)["cost"]) == 4
    python.fit(X, Y, callbacks=[nk.EarlyStopping(2), nothing], **how)
    assert net == python
    with pytest.raises(IndexError):
        network("numbers").fit(X, Y, callbacks=nk.EarlyStopping(9), **how)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_any_number_of_threads_gives_the_same_best_epoch(compute):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(30, 3000)), rng.integers(4, size=3000)
    results = []
    for threads, more in [(1, []), (2, []), (3, []), (2, [nothing])]:
        net, stopping = wide("classes", 4, "float32", compute=compute), nk.EarlyStopping(None)
        how = {"epochs": 3, "batch_size": 600, "threads": threads, "callbacks": [stopping, *more]}
        history = net.fit(X, Y, validation_split=0.4, **how)
        results.append(outcome(net, stopping, history, X, Y))
    assert len(set(results)) == 1


def test_ctrl_c_ends_a_training_with_held_out_examples():
    """Also where looking at these takes nearly all of the time."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(50, 40)).astype(np.float32), rng.integers(2, size=40)
    held_out = rng.normal(size=(50, 200000)).astype(np.float32), rng.integers(2, size=200000)
    net = nk.Network([nk.Dense(200, "tanh"), nk.Dense(1, "sigmoid")], "binary_cross_entropy", seed=0)
    thread = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])

    def rate(epoch):
        if not thread.ident:  # inside of fit
            thread.start()
        return 0.1

    how = {"epochs": 10**6, "validation_data": held_out, "optimizer": nk.SGD(rate)}
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, callbacks=nk.EarlyStopping(None, monitor="val_error"), **how)
    thread.join()
    assert np.isfinite(net.parameters["W1"]).all()
    assert len(net.fit(X, Y, epochs=2, resume=True)["cost"]) == 2


# ---- R² ----


@pytest.mark.parametrize("n_y", [1, 7, 8, 9, 100, 129, 1000])
def test_r2_is_averaged_over_the_outputs(n_y):
    rng = np.random.default_rng(n_y)
    squares, spread = rng.integers(0, 5, (2, n_y)).astype(np.float64)
    each = [1 - a / b if b else float(a == 0) for a, b in zip(squares, spread, strict=True)]
    assert nk.losses.r2(squares, spread) == pytest.approx(np.mean(each), rel=1e-14)
    assert np.array_equal(squares, np.random.default_rng(n_y).integers(0, 5, (2, n_y))[0])  # left as they were
    with pytest.raises(ValueError, match="outputs with"):
        nk.losses.r2(squares, np.append(spread, 1))
