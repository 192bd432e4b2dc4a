"""The best epoch: by what it is chosen, which of equal ones is kept, and how the values are computed."""

import copy
import functools
import pickle
import re

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
