"""Schedules by step: their equations, what a training makes of them, and where they can't go."""

import math
import pickle
import re

import numpy as np
import pytest
import reference as ref
from test_golden import OPTIMIZERS, M, Run, optimizers

import nnkern as nk
from nnkern import sources, training
from nnkern.schedules import SHAPES, ByStep
from nnkern.state import of

EPOCHS, B, STEPS = 4, 5, 12  # of 12 examples each epoch takes 3 steps


def halving(t):
    return 0.5 ** (4 * t)


def name_of(shape):
    """The same in every process, which a function's address isn't."""
    return getattr(shape, "__name__", str(shape))


def falls_late(t):
    return 1.0 if t < 0.5 else 0.4


# ---- the numbers ----

EQUATIONS = {
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
    "linear": lambda t: 1 - t,
    "flat_cos": lambda t: 1 if t <= 0.5 else (1 + math.cos(math.pi * (2 * t - 1))) / 2,
    "coslog4": lambda t: (1 - math.cos(2 * math.pi * math.log2(1 + 15 * t))) / 2,
    "warm_up": lambda t: t / 0.1 if t < 0.1 else 1,
    "one_cycle": lambda t: (
        1 / 25 + 24 / 25 * (1 - math.cos(math.pi * t / 0.3)) / 2
        if t < 0.3
        else 4e-6 + (1 - 4e-6) * (1 + math.cos(math.pi * (t - 0.3) / 0.7)) / 2
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape):
    schedule = ByStep(0.04, shape)
    table = schedule.table(0, 1000, 1000)
    expected = [0.04 * EQUATIONS[shape](k / 1000) for k in range(1000)]
    np.testing.assert_allclose(table, expected, rtol=1e-12, atol=1e-15)
    assert [schedule(k / 1000) for k in (0, 17, 300, 999)] == table[[0, 17, 300, 999]].tolist()


@pytest.mark.parametrize("shape", [*SHAPES, halving], ids=name_of)
def test_a_number_does_not_depend_on_the_others_in_its_table(shape):
    schedule = ByStep(0.3, shape)
    parts = [schedule.table(first, min(7, 500 - first), 500) for first in range(0, 500, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), schedule.table(0, 500, 500))


def test_shares():
    assert ByStep(2, "warm_up", 0.5)(0.25) == 1
    assert ByStep(2, "warm_up", share=0.5)(0.5) == ByStep(2, "one_cycle", share=0.5)(0.5) == 2
    assert repr(ByStep(1, "one_cycle")) == "ByStep(initial=1.0, shape='one_cycle', share=0.3)"
    assert ByStep(1, "linear") == ByStep(1.0, "linear") != ByStep(1, "cosine")


def test_one_cycle_is_torch_s():
    """Whose rise and fall end on a step, at 0.3 N - 1 and at N - 1."""
    torch = pytest.importorskip("torch", reason="torch is an optional second opinion")
    N = 50
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, top = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=N), 0.3 * N - 1
    for k in range(N):
        t = 0.3 * k / top if k < top else 0.3 + 0.7 * (k - top) / (N - 1 - top)
        assert ByStep(0.5, "one_cycle")(t) == pytest.approx(schedule.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        schedule.step()


# ---- in a training ----


def batches_of(run):
    for first in range(0, M, B):
        columns = slice(first, min(first + B, M))
        yield run.X[:, columns], run.Y[..., columns]


def fitted(optimizer, layers=None, **options):
    """A network with two hidden layers after a training with dropout."""
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((4, M)), rng.standard_normal((2, M))
    net = nk.Network(layers or falling_layers(), "squared_error", dtype="float64", seed=2)
    net.fit(X, Y, **{"epochs": EPOCHS, "batch_size": B, "optimizer": optimizer, **options})
    return net


def falling_layers(shape="flat_cos"):
    return [nk.Dense(6, "tanh", dropout=ByStep(0.3, shape)), nk.Dense(5, "selu", dropout=0.1), nk.Dense(2)]


def by_step():
    return nk.AdamW(ByStep(0.04, "coslog4"), weight_decay=ByStep(0.3, "flat_cos"))


@pytest.mark.parametrize("data", ["arrays", "batches"])
@pytest.mark.parametrize("shape", ["coslog4", halving], ids=name_of)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_rates_are_taken_before_each_step(optimizer, shape, data):
    run, (ours, oracles) = Run(), optimizers(optimizer)
    ours.learning_rate = schedule = ByStep(ours.learning_rate, shape)
    given = (run.X, run.Y) if data == "arrays" else (list(batches_of(run)),)
    history = run.net.fit(*given, epochs=EPOCHS, batch_size=B, shuffle=False, optimizer=ours)
    assert history["learning_rate"] == [schedule(3 * epoch / STEPS) for epoch in range(EPOCHS)]
    for step in range(STEPS):
        first = step % 3 * B
        run.oracle_step(oracles, slice(first, min(first + B, M)), learning_rate=schedule(step / STEPS))
    run.assert_same_parameters()


@pytest.mark.parametrize("rate", [0.02, ByStep(0.02, "one_cycle"), nk.schedules.Exponential(0.02, 0.5)], ids=str)
def test_weight_decay_by_step(rate):
    run, oracles, decay = Run(), ref.AdamW(), ByStep(0.5, "flat_cos")
    optimizer = nk.AdamW(rate, weight_decay=decay)
    history = run.net.fit(run.X, run.Y, epochs=EPOCHS, batch_size=B, shuffle=False, optimizer=optimizer)
    for step in range(STEPS):
        first, epoch = step % 3 * B, step // 3
        alpha = rate(step / STEPS) if isinstance(rate, ByStep) else optimizer.rate(epoch)
        if step % 3 == 0:
            assert history["learning_rate"][epoch] == alpha
        oracles.weight_decay = decay(step / STEPS)
        run.oracle_step(oracles, slice(first, min(first + B, M)), learning_rate=alpha)
    run.assert_same_parameters()


@pytest.mark.parametrize("batch_size", [B, None])
def test_a_dropout_that_stays_is_the_number(batch_size, dtype):
    nets = [
        fitted(nk.SGD(0.1), [nk.Dense(30, "gelu", dropout=dropout), nk.Dense(2)], batch_size=batch_size)
        for dropout in (0.25, ByStep(0.25, lambda t: 1.0), ByStep(0.5, lambda t: 0.5))
    ]
    for net in nets[1:]:
        for name, array in nets[0].parameters.items():
            np.testing.assert_array_equal(net.parameters[name], array)


def test_dropout_of_each_step_forward_and_backward():
    """Two steps, with ½ and with 0.2 dropped, are the first of a network with ½ and the second of one with 0.2."""
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((4, M)), rng.standard_normal((2, M))

    def made(dropout):
        layers = [nk.Dense(40, "tanh", dropout=dropout), nk.Dense(30, "relu", dropout=0.1), nk.Dense(2)]
        return nk.Network(layers, "squared_error", n_x=4, dtype="float64", seed=3)

    net, first, second = (made(dropout) for dropout in (ByStep(0.5, falls_late), 0.5, 0.2))
    how = {"batch_size": None, "optimizer": nk.SGD(0.1)}
    net.fit(X, Y, epochs=2, **how)
    first.fit(X, Y, epochs=1, **how)
    of(second).follow(of(first))
    second.fit(X, Y, epochs=1, resume=True, **how)
    for name, array in second.parameters.items():
        np.testing.assert_array_equal(net.parameters[name], array)


def test_a_function_is_called_once_for_each_step():
    seen = []

    def shape(t):
        seen.append(t)
        return 1

    fitted(nk.SGD(ByStep(0.1, shape)))
    assert seen == [step / STEPS for step in range(STEPS)]
    seen.clear()
    fitted(nk.SGD(ByStep(0.1, shape)), drop_last=True)
    assert seen == [step / 8 for step in range(8)]
    seen.clear()
    fitted(nk.SGD(ByStep(0.1, shape)), callbacks=[lambda net, epoch, history: epoch == 1])
    assert seen == [step / STEPS for step in range(6)]


@pytest.mark.parametrize("most", [1, 4, 7])
def test_epochs_at_a_time_do_not_matter(most, monkeypatch):
    net = fitted(by_step())
    assert net == fitted(by_step(), callbacks=[lambda net, epoch, history: None])
    monkeypatch.setattr(training, "STEPS_AT_ONCE", most)
    assert net == fitted(by_step())


def test_threads_and_neighbours_do_not_matter():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((20, 3000)).astype("float32"), rng.standard_normal((2, 3000)).astype("float32")

    def made():
        layers = [nk.Dense(200, "selu", dropout=ByStep(0.15, "flat_cos")), nk.Dense(2)]
        return nk.Network(layers, "squared_error", seed=0)

    nets, how = [made() for _ in range(5)], {"epochs": 2, "batch_size": 256, "drop_last": True}
    for net, threads in zip(nets, (1, 2, 5), strict=False):
        net.fit(X, Y, threads=threads, optimizer=by_step(), **how)
    nk.fit_many(nets[3:], X, Y, optimizer=by_step(), **how)
    assert nets[0] == nets[1] == nets[2] == nets[3] == nets[4]


def test_arrays_in_files_are_trained_to_the_same_bits(monkeypatch, tmp_path):
    rng, arrays = np.random.default_rng(0), []
    for name, n in (("X", 4), ("Y", 2)):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((n, M)).astype("float32"))
        arrays.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    nets = [nk.Network(falling_layers(), "squared_error", dtype="float64", seed=2) for _ in range(2)]
    how = {"epochs": EPOCHS, "batch_size": B, "optimizer": by_step()}
    nets[0].fit(*map(np.array, arrays), **how)
    monkeypatch.setattr(sources, "IN_MEMORY", -1)
    nets[1].fit(*arrays, **how)
    assert nets[0] == nets[1]


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pickle"])
def test_an_interrupted_training_goes_on_the_same_way(suffix, tmp_path):
    """t counts the epochs before a resumed fit."""
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    file, kept = tmp_path / f"net.{suffix}", []

    def keep(net, epoch, history):
        if epoch == 0 and suffix == "pickle":
            kept.append(pickle.dumps(net))
        elif epoch == 0:
            net.save(file, training_state=True)

    whole = fitted(by_step(), callbacks=keep)
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((4, M)), rng.standard_normal((2, M))
    resumed = pickle.loads(kept[0]) if kept else nk.load(file)
    assert resumed.layers == whole.layers
    assert resumed.optimizer == by_step()
    assert resumed != whole
    history = resumed.fit(X, Y, epochs=EPOCHS - 1, batch_size=B, resume=True)
    assert resumed == whole
    assert history["learning_rate"] == [ByStep(0.04, "coslog4")(3 * epoch / STEPS) for epoch in range(1, EPOCHS)]


def test_a_callback_may_set_one():
    expected = fitted(nk.SGD(ByStep(0.1, "cosine")))
    assert fitted(nk.SGD(0.1), callbacks=nk.callbacks.LearningRateSchedule(ByStep(0.1, "cosine"))) == expected


def test_functions_are_pickled_and_not_saved(tmp_path):
    net = fitted(nk.SGD(ByStep(0.1, halving)), falling_layers(falls_late))
    assert pickle.loads(pickle.dumps(net)) == net
    with pytest.raises(ValueError, match=r"the dropout of layer 1 goes by a function of your own.*pickle"):
        net.save(tmp_path / "net.npz")
    net = fitted(nk.SGD(ByStep(0.1, halving)))
    net.save(tmp_path / "net.npz", training_state=True)
    with pytest.raises(ValueError, match=r"couldn't hold its optimizer"):
        nk.load(tmp_path / "net.npz").fit(np.ones((4, 1)), np.ones((2, 1)), resume=True)


def test_outside_of_a_fit_dropout_is_its_initial_number():
    """So it is what is written to other formats, and what a summary shows."""
    X = np.ones((4, M))
    nets = [
        nk.Network([nk.Dense(9, "tanh", dropout=dropout), nk.Dense(2)], "squared_error", n_x=4, seed=0)
        for dropout in (0.5, ByStep(0.5, "flat_cos"))
    ]
    A = [net.forward(X, training=True) for net in nets]
    np.testing.assert_array_equal(A[0], A[1])
    costs = [net.partial_fit(X, np.ones((2, M)), optimizer=nk.SGD(0.1)) for net in nets]
    assert costs[0] == costs[1]
    assert str(nets[0].summary()) == str(nets[1].summary())


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_estimators_take_a_dropout_by_step_and_no_rate():
    pytest.importorskip("sklearn")
    from nnkern.sklearn import MLPRegressor

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.standard_normal(40)
    fits = [
        MLPRegressor(hidden_layer_sizes=(8,), dropout=dropout, max_iter=3, random_state=0).fit(X, y)
        for dropout in (0.25, ByStep(0.5, lambda t: 0.5), ByStep(0.25, "linear"))
    ]
    assert (fits[0].predict(X) == fits[1].predict(X)).all()
    assert not (fits[0].predict(X) == fits[2].predict(X)).any()
    for name in ("learning_rate_init", "weight_decay"):
        with pytest.raises(ValueError, match=f"The '{name}' parameter of MLPRegressor must be a float"):
            MLPRegressor(**{name: ByStep(0.1, "linear")}).fit(X, y)


# ---- where they can't go ----


class Unknown:
    """Batches without a length; with `broken`, one that can't be told, as torch's DataLoader has of a stream."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class Broken(Unknown):
    def __len__(self):
        raise TypeError("a stream has no length")


class Wrong(Unknown):
    def __len__(self):
        return len(self.batches) - 1


@pytest.mark.parametrize("kind", [Unknown, Broken])
@pytest.mark.parametrize("what", ["rate", "decay", "dropout"])
def test_batches_of_unknown_number_are_refused(kind, what):
    net = nk.Network(falling_layers() if what == "dropout" else [nk.Dense(2)], "squared_error")
    optimizer = {"rate": nk.SGD(ByStep(0.1, "linear")), "decay": nk.AdamW(weight_decay=ByStep(0.1, "linear"))}
    with pytest.raises(ValueError, match=r"a schedule by step needs to know how many steps.*__len__"):
        net.fit(kind([(np.ones((4, 3)), np.ones((2, 3)))]), epochs=1, optimizer=optimizer.get(what))
    assert net.n_x is None


def test_no_batch_is_told_of_as_ever():
    with pytest.raises(ValueError, match=r"the iterable gave no batch"):
        Run().net.fit([], epochs=2, optimizer=nk.SGD(ByStep(0.1, "linear")))


def test_more_batches_than_were_said_are_refused():
    run = Run()
    before = {name: array.copy() for name, array in run.net.parameters.items()}
    with pytest.raises(ValueError, match=r"has a length of 2 and gives more"):
        run.net.fit(Wrong(list(batches_of(run))), epochs=1, optimizer=nk.SGD(ByStep(0.1, "linear")))
    for name, array in before.items():
        np.testing.assert_array_equal(run.net.parameters[name], array)


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (nk.Adam(ByStep(0.1, "linear")), "learning_rate"),
        (nk.AdamW(0.1, weight_decay=ByStep(0.1, "linear")), "weight_decay"),
    ],
)
def test_single_steps_are_refused(optimizer, name):
    run = Run()
    said = rf"{name}=ByStep.* which only fit knows: .*{name}=schedule\(t\) for t = step / steps"
    with pytest.raises(ValueError, match=said):
        run.net.partial_fit(run.X, run.Y, optimizer=optimizer)
    run.net.forward(run.X)
    with pytest.raises(ValueError, match=said):
        run.net.step(run.net.backward(run.Y), optimizer)
    run.assert_same_parameters(tolerance=0)
    assert run.net.optimizer is None


@pytest.mark.parametrize(
    ("bad", "said"),
    [(-1.0, ">= 0; got -1.0"), (np.nan, ">= 0; got nan"), ("1", "a number"), (None, "a number")], ids=str
)  # fmt: skip
def test_factors_that_are_none(bad, said):
    run = Run()
    with pytest.raises(ValueError, match=rf"the factor at t = 0.5 must be .*{re.escape(said)}"):
        run.net.fit(run.X, run.Y, epochs=2, batch_size=None, optimizer=nk.SGD(ByStep(0.1, lambda t: bad if t else 1)))
    run.assert_same_parameters(tolerance=0)


def test_a_dropout_that_becomes_1_is_refused():
    with pytest.raises(ValueError, match=r"the dropout of layer 1 becomes 1.2 by its schedule: it must stay below 1"):
        fitted(nk.SGD(0.1), falling_layers(lambda t: 4 if t > 0.5 else 1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ByStep(-1, "linear"), "initial must be finite and >= 0; got -1"),
        (lambda: ByStep("1", "linear"), "initial must be a number, finite and >= 0; got '1'"),
        (lambda: ByStep(1, "linaer"), "shape must be one of cosine, coslog4, flat_cos, linear, one_cycle, warm_up"),
        (lambda: ByStep(1, 3), "shape must be one of cosine"),
        (lambda: ByStep(1, "linear", 0.5), "share is for the shapes one_cycle and warm_up; got share=0.5 for 'linear'"),
        (lambda: ByStep(1, "warm_up", 0), "share must be in (0, 1); got 0"),
        (lambda: ByStep(1, "warm_up", 1), "share must be in (0, 1); got 1"),
        (lambda: nk.schedules.WarmUp(ByStep(1, "linear"), 2), "then must be a rate or a schedule of the epoch"),
        (lambda: nk.Dense(2, dropout=ByStep(1, "linear")), "dropout must be in [0, 1); got 1.0"),
        (lambda: nk.Network([nk.Dense(2, dropout=ByStep(1e-3, "linear"))], "squared_error"), "the last layer has"),
        (lambda: nk.Adam(beta1=ByStep(0.5, "linear")), "beta1 must be a number"),
    ],
)  # fmt: skip
def test_refused(make, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        make()
