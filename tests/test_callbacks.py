"""What callbacks may be given; the rate and the weights that they change, metrics, and the learning-rate finder.

What the older ones do is held in test_network.py.
"""

import copy
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import nnkern as nk

ONE = np.ones((1, 1))


def make():
    return nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)


class OnlyOnEpochEnd:
    def on_epoch_end(self, net, epoch, history):
        pass


@pytest.mark.parametrize("cls", [nk.EarlyStopping, nk.Callback, OnlyOnEpochEnd, dict])
def test_classes_in_place_of_objects_are_refused(cls):
    for callbacks in (cls, [nk.EarlyStopping(monitor="cost"), cls]):
        net = make()
        before = net.parameters["W1"].copy()
        said = f"a callback must be an object, not its class; got {cls!r}: {cls.__name__}(…)"
        with pytest.raises(TypeError, match=re.escape(said)):
            net.fit(ONE, ONE, epochs=1, callbacks=callbacks)
        assert np.array_equal(net.parameters["W1"], before)


@pytest.mark.parametrize("form", [str, Path, os.fsencode])
def test_checkpoints_take_any_path(form, tmp_path):
    net = make()
    net.fit(ONE, ONE, epochs=2, callbacks=nk.Checkpoint(form(tmp_path / "ä {epoch}.npz")))
    assert sorted(os.listdir(tmp_path)) == ["ä 0.npz", "ä 1.npz"]
    assert nk.load(tmp_path / "ä 1.npz") == net


def test_checkpoints_take_nothing_but_paths():
    with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not int"):
        nk.Checkpoint(3)


def test_a_checkpoint_in_a_folder_that_is_not_there_is_refused_before_the_first_epoch(tmp_path):
    net = make()
    before = net.parameters["W1"].copy()
    for name in ("no/a.npz", "no/{epoch}.npz"):
        with pytest.raises(FileNotFoundError, match="no such folder for a Checkpoint") as caught:
            net.fit(ONE, ONE, epochs=1, callbacks=nk.Checkpoint(tmp_path / name))
        assert caught.value.filename == str(tmp_path / "no")
        assert np.array_equal(net.parameters["W1"], before)
    folder = nk.Checkpoint(tmp_path / "{epoch}" / "a.npz")  # which may be made by another callback
    with pytest.raises(FileNotFoundError, match=r"a\.npz"):
        net.fit(ONE, ONE, epochs=1, callbacks=folder)
    assert not np.array_equal(net.parameters["W1"], before)


# ---- the learning rate that falls where nothing improves ----


def told(values):
    """A monitor that gives these values, epoch by epoch."""
    left = iter(values)

    def told_loss(targets, outputs):
        return next(left)

    return told_loss


@pytest.mark.parametrize(
    ("values", "how", "reductions"),
    [
        ([5, 4, 3, 2, 1, 0], {"patience": 1}, [0, 0, 0, 0, 0, 0]),
        ([5, 5, 5, 5, 5, 5], {"patience": 2}, [0, 0, 0, 1, 1, 2]),
        ([5, 6, 4, 5, 5, 3], {"patience": 2}, [0, 0, 0, 0, 0, 1]),
        ([5, 4.9, 4.8, 4.7, 4, 4], {"patience": 2, "min_delta": 0.5}, [0, 0, 0, 1, 1, 1]),
        ([1, 2, 3, 3, 3, 3], {"patience": 1, "mode": "max"}, [0, 0, 0, 0, 1, 2]),
        ([np.nan] * 6, {"patience": 3}, [0, 0, 0, 1, 1, 1]),
    ],
)
def test_the_rate_is_reduced_where_nothing_improves(values, how, reductions):
    net, slower = make(), nk.ReduceLROnPlateau(0.5, monitor=told(values), **how)
    history = net.fit(ONE, ONE, epochs=6, optimizer=nk.SGD(0.1), validation_data=(ONE, ONE), callbacks=slower)
    assert history["learning_rate"] == [0.1 * 0.5**count for count in reductions]
    # and it stays reduced in a training that is resumed
    assert net.fit(ONE, ONE, epochs=1, resume=True)["learning_rate"][0] <= history["learning_rate"][-1]


def test_the_rate_is_not_reduced_below_the_least():
    def rates(rate, **how):
        slower = nk.ReduceLROnPlateau(0.5, 1, 100, "cost", **how)
        return make().fit(ONE, ONE, epochs=5, optimizer=nk.SGD(rate), callbacks=slower)["learning_rate"]

    assert rates(0.1, min_rate=0.03) == [0.1, 0.1, 0.05, 0.03, 0.03]
    assert rates(0.01, min_rate=0.03) == [0.01] * 5


def test_a_schedule_is_not_reduced():
    net, slower = make(), nk.ReduceLROnPlateau(monitor="cost")
    before = net.parameters["W1"].copy()
    with pytest.raises(
        ValueError, match="needs a learning rate that is a number, and this optimizer's goes by a sched"
    ):
        net.fit(ONE, ONE, optimizer=nk.SGD(nk.schedules.Cosine(0.1, 5)), callbacks=slower)
    assert np.array_equal(net.parameters["W1"], before)
    with pytest.raises(ValueError, match=r"monitor 'val_cost' isn't in the history.*validation_data"):
        net.fit(ONE, ONE, callbacks=nk.ReduceLROnPlateau())


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"factor": 1.0}, r"factor must be in \(0, 1\)"),
        ({"factor": 0}, r"factor must be in \(0, 1\)"),
        ({"patience": 0}, "patience must be an integer >= 1"),
        ({"min_delta": -1}, "min_delta must be"),
        ({"min_rate": -1}, "min_rate must be"),
        ({"monitor": len}, "mode must be"),
        ({"mode": "least"}, "mode must be one of min, max"),
    ],
)
def test_reductions_that_cannot_be(how, words):
    with pytest.raises(ValueError, match=words):
        nk.ReduceLROnPlateau(**how)


# ---- the mean of the weights ----


@pytest.mark.parametrize(("start", "decay"), [(0, None), (3, None), (2, 0.75), (0, 0)])
def test_the_mean_of_the_epochs_is_what_the_network_ends_with(start, decay):
    kept = []

    def keep(net, epoch, history):
        kept.append({name: view.astype(np.float64) for name, view in net.parameters.items()})

    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(3, 40)), rng.normal(size=(1, 40))
    net = nk.Network([nk.Dense(4, "tanh"), nk.Dense(1)], "squared_error", n_x=3, seed=0)
    average = nk.AverageWeights(start, decay)
    net.fit(X, Y, epochs=6, callbacks=[keep, average])
    assert average.count == 6 - start
    for name, view in net.parameters.items():
        arrays = [one[name] for one in kept[start:]]
        expected = arrays[0]
        for array in arrays[1:]:
            expected = decay * expected + (1 - decay) * array if decay is not None else np.mean(arrays, axis=0)
        np.testing.assert_allclose(view, expected, rtol=1e-6, atol=1e-7)
    assert np.array_equal(net.parameters["W1"], kept[-1]["W1"]) == (decay == 0)


@pytest.mark.parametrize(("start", "decay"), [(0, None), (1, None), (0, 0.9), (2, 0.75), (0, 0)])
@pytest.mark.parametrize("as_batches", [False, True], ids=["arrays", "batches"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mean_of_the_steps_is_what_the_network_ends_with(start, decay, as_batches, dtype):
    rng = np.random.default_rng(0)
    # more parameters than the engine averages in one part
    X, Y = rng.normal(size=(300, 20)), rng.normal(size=(1, 20))
    batches = [(X[:, at : at + 8], Y[:, at : at + 8]) for at in (0, 8, 16)]

    def build():
        layers = [nk.Dense(60, "tanh"), nk.Dense(1)]
        return nk.Network(layers, "squared_error", n_x=300, dtype=dtype, seed=0)

    average, net, stepped = nk.AverageWeights(start, decay, each="step"), build(), build()
    data = (batches,) if as_batches else (X, Y)
    how = {} if as_batches else {"batch_size": 8, "shuffle": False}
    net.fit(*data, epochs=3, optimizer=nk.Adam(0.01), callbacks=average, **how)
    mean, count = None, 0
    for epoch in range(3):
        for batch in batches:
            stepped.partial_fit(*batch, optimizer=nk.Adam(0.01))
            if epoch < start:
                continue
            count += 1
            now = {name: view.astype(np.float64) for name, view in stepped.parameters.items()}
            share = 1 / count if decay is None else 1 - decay
            mean = now if mean is None else {name: mean[name] + share * (now[name] - mean[name]) for name in now}
    assert average.count == count == 3 * (3 - start)
    for name, view in net.parameters.items():
        np.testing.assert_allclose(view, mean[name], rtol=10 * np.finfo(dtype).eps, atol=1e-9)
    assert np.array_equal(net.parameters["W1"], stepped.parameters["W1"]) == (decay == 0)


def test_with_one_step_an_epoch_both_means_are_the_same():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(3, 40)), rng.normal(size=(1, 40))
    nets = [make_wide(seed) for seed in (0, 0, 1)]
    for net, each in zip(nets, ("epoch", "step", "step"), strict=True):
        net.fit(X, Y, epochs=6, batch_size=None, callbacks=nk.AverageWeights(1, 0.5, each))
    assert nets[0] == nets[1]
    assert nets[1] != nets[2]
    together = [make_wide(seed) for seed in (0, 1)]
    nk.fit_many(together, X, Y, epochs=6, batch_size=None, callbacks=nk.AverageWeights(1, 0.5, "step"))
    assert together == nets[1:]


def test_a_mean_of_steps_is_dropped_where_the_training_fails():
    net = make_wide(0)

    def fail(net, epoch, history):
        raise RuntimeError("enough")

    average, X, Y = nk.AverageWeights(each="step"), np.ones((3, 8)), np.ones((1, 8))
    with pytest.raises(RuntimeError, match="enough"):
        net.fit(X, Y, epochs=3, batch_size=2, callbacks=[fail, average])
    plain = make_wide(0)
    plain.fit(X, Y, epochs=1, batch_size=2)
    assert net == plain
    # the next training begins anew
    net.fit(X, Y, epochs=2, batch_size=2, callbacks=average)
    assert average.count == 8


def test_what_a_mean_of_steps_is_refused_for():
    with pytest.raises(ValueError, match="each must be one of epoch, step; got 'batch'"):
        nk.AverageWeights(each="batch")
    both = [nk.AverageWeights(each="step"), nk.AverageWeights(3, 0.5, each="step")]
    net, before = make_wide(0), make_wide(0)
    with pytest.raises(ValueError, match="two AverageWeights"):
        net.fit(np.ones((3, 8)), np.ones((1, 8)), callbacks=both)
    assert net == before
    assert both[0].count == 0


def make_wide(seed):
    return nk.Network([nk.Dense(4, "tanh"), nk.Dense(1)], "squared_error", n_x=3, seed=seed)


def test_without_epochs_there_is_no_mean():
    net, plain = make(), make()
    average = nk.AverageWeights(start=5)
    for one, callbacks in ((net, average), (plain, ())):
        one.fit(ONE, ONE, epochs=5, callbacks=callbacks)
    assert average.count == 0
    assert net == plain
    for how, words in (({"start": -1}, "start must be"), ({"decay": 1.0}, r"decay must be in \[0, 1\)")):
        with pytest.raises(ValueError, match=words):
            nk.AverageWeights(**how)


def test_each_network_has_its_own_reductions_and_its_own_mean():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(3, 40)), rng.normal(size=(1, 40))

    def nets():
        return [nk.Network([nk.Dense(4, "tanh"), nk.Dense(1)], "squared_error", n_x=3, seed=seed) for seed in (0, 1)]

    def callbacks():
        return nk.ReduceLROnPlateau(0.5, 1, 0.05, "cost"), nk.AverageWeights(2)

    together, alone = nets(), nets()
    histories = nk.fit_many(together, X, Y, epochs=6, callbacks=callbacks())
    for net, one, history in zip(together, alone, histories, strict=True):
        assert one.fit(X, Y, epochs=6, callbacks=list(callbacks()))["learning_rate"] == history["learning_rate"]
        assert net == one
    for callback in callbacks():
        with pytest.raises(ValueError, match=f"callbacks holds one {type(callback).__name__} for two networks"):
            nk.fit_many(nets(), X, Y, callbacks=[callback, callback])


# ---- metrics in the history ----


def spread_of_outputs(targets, outputs):
    return outputs.max() - outputs.min()


def test_metrics_are_recorded_where_nothing_monitors_them():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(3, 40)), rng.normal(size=(2, 40))
    net = nk.Network([nk.Dense(2)], "squared_error", n_x=3, seed=0)
    w = rng.uniform(0.5, 2, 40)
    metrics = ["val_mae", "val_rmse", spread_of_outputs]
    history = net.fit(X, Y, epochs=3, validation_data=(X, Y, w), metrics=metrics)
    A = net.predict(X)
    squares = np.average((A - Y) ** 2, axis=1, weights=w)
    assert history["val_mae"][-1] == pytest.approx(np.average(abs(A - Y), axis=1, weights=w).mean(), rel=1e-6)
    assert history["val_rmse"][-1] == pytest.approx(np.sqrt(squares).mean(), rel=1e-6)
    assert history["val_spread_of_outputs"][-1] == pytest.approx(A.max() - A.min(), rel=1e-6)
    assert {len(values) for values in history.values()} == {3}
    # and the training is the one without them
    plain = nk.Network([nk.Dense(2)], "squared_error", n_x=3, seed=0)
    known = plain.fit(X, Y, epochs=3, validation_data=(X, Y, w))
    assert plain == net
    assert all(history[key] == known[key] for key in ("cost", "val_cost", "val_score"))


@pytest.mark.parametrize("metrics", ["val_error", ["val_error", "val_auc"]], ids=str)
@pytest.mark.parametrize("stops", [False, True])
def test_metrics_of_classes(metrics, stops):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 60))
    labels = (X[0] > 0).astype(int)
    callbacks = [nk.EarlyStopping(None)] if stops else []
    net = nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=3, seed=0)
    history = net.fit(X, labels, epochs=4, validation_split=0.5, metrics=metrics, callbacks=callbacks)
    assert history["val_error"] == [1 - score for score in history["val_score"]]
    assert len(history["val_error"]) == len(history.get("val_auc", history["cost"])) == 4
    many = nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=3, seed=0)
    [of_many] = nk.fit_many([many], X, labels, epochs=4, validation_data=(X, labels), metrics=metrics)
    assert of_many["val_error"] == [1 - score for score in of_many["val_score"]]


@pytest.mark.parametrize(
    ("metrics", "error", "words"),
    [
        ("auc", ValueError, "metrics must be one of val_error, val_auc, val_rmse, val_mae; got 'auc'"),
        (3, TypeError, "metrics must be names, functions .* or a list of them; got 3"),
        ([3], ValueError, "metrics must be one of val_error, .*; got 3"),
        (["val_score"], ValueError, "got 'val_score'. val_cost and val_score, .* without being asked for; score"),
        (
            "val_auc",
            ValueError,
            "'val_auc' is for classes, the loss squared_error is for numbers: use val_rmse or val_mae",
        ),
    ],
)
def test_metrics_that_there_are_not(metrics, error, words):
    with pytest.raises(error, match=words):
        make().fit(ONE, ONE, validation_data=(ONE, ONE), metrics=metrics)


def test_metrics_need_held_out_examples_and_names_of_their_own():
    with pytest.raises(ValueError, match="metrics are those of held-out examples: use validation_data"):
        make().fit(ONE, ONE, metrics="val_mae")

    def score(targets, outputs):
        return 0.0

    with pytest.raises(ValueError, match="metrics is a function called score, but val_score has a meaning already"):
        make().fit(ONE, ONE, validation_data=(ONE, ONE), metrics=score)


# ---- the learning-rate finder ----


def regression(m=90, **options):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(3, m))
    net = nk.Network([nk.Dense(6, "tanh"), nk.Dense(1)], "squared_error", **{"n_x": 3, "seed": 0, **options})
    return net, X, X[:1] * X[1:2]


@pytest.mark.parametrize("optimizer", ["adam", nk.SGD(nk.schedules.Cosine(1.0, 3), momentum=0.5)], ids=["adam", "sgd"])
def test_rates_and_costs_of_the_finder_are_those_of_steps_by_hand(optimizer):
    net, X, Y = regression()
    progress, W1 = net.to_model(training_state=True).training.progress, net.parameters["W1"].copy()
    w = np.random.default_rng(4).uniform(0.5, 2, 90)
    how = {"low": 1e-4, "high": 1.0, "steps": 9, "batch_size": 40, "optimizer": optimizer, "sample_weight": w}
    found = nk.find_learning_rate(net, X, Y, **how)
    assert (net.to_model(training_state=True).training.progress, net.optimizer) == (progress, None)
    np.testing.assert_array_equal(net.parameters["W1"], W1)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 1, 9)[: len(found.rates)], rtol=1e-12)
    # a network that is stepped with the same batches
    by_hand, seen, own = copy.deepcopy(net), [], copy.copy(nk.optimizers.get(optimizer))
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(2,)))
    batches = [order[i : i + 40] for order in [rng.permutation(90) for _ in range(3)] for i in (0, 40, 80)]
    assert sorted(np.concatenate(batches[:3])) == list(range(90))
    for rate, batch in zip(found.rates, batches, strict=False):
        own.learning_rate = float(rate)
        seen.append(by_hand.partial_fit(X[:, batch], Y[:, batch], optimizer=own, sample_weight=w[batch]))
    np.testing.assert_array_equal(found.costs, seen)
    for i, value in enumerate(found.smoothed):
        weights = 0.98 ** np.arange(i, -1, -1)
        assert value == pytest.approx(np.average(seen[: i + 1], weights=weights), rel=1e-12)
    assert found.best == found.rates[found.smoothed.argmin()] / 10


def test_the_finder_ends_where_the_cost_explodes():
    net, X, Y = regression()
    found = nk.find_learning_rate(net, X, Y, high=1e6)
    assert len(found.rates) == len(found.costs) == len(found.smoothed) < 100
    assert found.best < found.rates[-1] < 1e6
    # labels, a network without parameters, more than one pass
    unborn = nk.Network([nk.Dense(4, "relu"), nk.Dense(2, "softmax")], "cross_entropy", seed=0)
    assert len(nk.find_learning_rate(unborn, X, (X[0] > 0).astype(int), high=1e-3).rates) == 100
    assert unborn.n_x is None


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"low": 0}, "low must be"),
        ({"low": 1.0, "high": 1.0}, "high must be finite and > 1"),
        ({"steps": 1}, "steps must be an integer >= 2"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"optimizer": "fast"}, "optimizer must be one of"),
    ],
)
def test_searches_that_cannot_be(how, words):
    net, X, Y = regression()
    with pytest.raises(ValueError, match=words):
        nk.find_learning_rate(net, X, Y, **how)


def test_callbacks_that_are_a_text():
    net, X, Y = regression()
    with pytest.raises(TypeError, match=r"^callbacks must be a callback or a list of them; got 'early stopping'$"):
        net.fit(X, Y, callbacks="early stopping")


def test_a_search_whose_first_cost_is_infinite():
    net, X, Y = regression()
    net.set_parameters({name: np.full_like(a, 3e38) for name, a in net.parameters.items()})
    with pytest.raises(ValueError, match="the cost isn't finite at the lowest rate already, 1e-06"):
        nk.find_learning_rate(net, X, Y)


# ---- the end by an error ----


class Listener(nk.Callback):
    """What it hears, as (name, what the network predicts at 1, the error); raises the `error` at the method `at`."""

    def __init__(self, at=None, error=None):
        self.at, self.error, self.heard = at, error, []

    def _hear(self, name, net, error=None):
        self.heard.append((name, net.predict(ONE).item(), error))
        if name == self.at:
            raise self.error

    def on_fit_begin(self, net):
        self._hear("begin", net)

    def on_epoch_end(self, net, epoch, history):
        self._hear(f"epoch {epoch}", net)

    def on_fit_end(self, net, history):
        self._hear("end", net)

    def on_fit_error(self, net, error):
        self._hear("error", net, error)

    @property
    def names(self):
        return [name for name, *_ in self.heard]


def in_one(net, callbacks):
    net.fit(ONE, 2 * ONE, epochs=3, callbacks=callbacks)


def beside_another(net, callbacks):
    other = make()
    nk.fit_many([other, net], ONE, 2 * ONE, epochs=3, callbacks=[[], callbacks])


def in_rounds(net, callbacks):
    with ThreadPoolExecutor(1) as executor:
        nk.fit_shards(net, [(ONE, 2 * ONE)], executor=executor, rounds=3, callbacks=callbacks)


@pytest.mark.parametrize("error", [ArithmeticError("mine"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("train", [in_one, beside_another, in_rounds])
def test_callbacks_are_told_of_an_error(train, error):
    """Those that were told of the begin and not of the end, once, with the network as the caller has it then."""
    at_begin, at_end = ["begin"], ["begin", "epoch 0", "epoch 1", "epoch 2", "end"]
    for at, first, second in (
        ("begin", ["begin", "error"], at_begin),
        ("epoch 1", [*at_end[:3], "error"], [*at_end[:3], "error"]),
        ("end", at_end, at_end),
        ("none", at_end, at_end),
    ):
        net, callbacks = make(), [Listener(), Listener(at, error), OnlyOnEpochEnd()]
        if at == "none":
            train(net, callbacks)
        else:
            with pytest.raises(type(error)) as caught:
                train(net, callbacks)
            assert caught.value is error
        assert callbacks[0].names == first
        assert callbacks[1].names == second
        if "error" in first:
            assert callbacks[0].heard[-1] == ("error", net.predict(ONE).item(), error)
    assert not getattr(error, "__notes__", [])


def test_callbacks_are_told_of_a_divergence():
    net, listener = make(), Listener()
    with pytest.raises(nk.DivergenceError) as caught:
        net.fit(ONE, 2 * ONE, epochs=99, optimizer=nk.SGD(1e30), callbacks=listener)
    assert listener.heard[-1] == ("error", net.predict(ONE).item(), caught.value)
    assert "end" not in listener.names


def test_what_fails_of_a_callback_then_is_a_note():
    first, second = Listener("error", OSError("disk full")), Listener("epoch 0", ArithmeticError("mine"))
    with pytest.raises(ArithmeticError, match="mine") as caught:
        make().fit(ONE, ONE, epochs=3, callbacks=[first, second])
    assert caught.value.__notes__ == ["Listener.on_fit_error failed too, OSError: disk full"]
    assert second.names == ["begin", "epoch 0", "error"]
