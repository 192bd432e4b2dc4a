"""The life of a network: parameters, initial weights, fit, evaluate, copies, callbacks, threads, faults."""

import copy
import io
import itertools
import pickle
import subprocess
import sys
import textwrap
import threading
import time
import types
from types import SimpleNamespace

import numpy as np
import pytest
import reference as ref
from conftest import LAYOUTS, WRITABLE_LAYOUTS, assert_no_leaks, fails, interrupt, prefilled, run, unmodified

import nnkern as nk
from nnkern import _kernels, runners
from nnkern.state import of

N_X, N_Y, M = 3, 4, 11

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits, signals and memory as Linux counts them")


def data(seed=0, m=M, n_x=N_X, n_y=N_Y):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_x, m)), rng.integers(0, n_y, m)


def classifier(*, hidden=5, n_x=N_X, n_y=N_Y, dropout=0.0, dtype="float64", seed=0, **options):
    layers = [nk.Dense(hidden, "tanh", dropout=dropout), nk.Dense(n_y, "softmax")]
    return nk.Network(layers, "cross_entropy", n_x=n_x, dtype=dtype, seed=seed, **options)


def neuron(*, n_x=1, w=0.0, b=0.0, loss="squared_error", dtype="float64", **options):
    """ŷ = w·x + b: one can tell by hand what training does to it."""
    net = nk.Network([nk.Dense(1, **options)], loss, n_x=n_x, dtype=dtype, seed=0)
    net.parameters["W1"][...] = w
    if "b1" in net.parameters:
        net.parameters["b1"][...] = b
    return net


def copied(net):
    return {name: a.copy() for name, a in net.parameters.items()}


def same_bits(net, parameters):
    return all(net.parameters[name].tobytes() == a.tobytes() for name, a in parameters.items())


# ---- parameters ----


def test_parameters_are_named_and_shaped_as_on_paper(dtype):
    net = classifier(dtype=str(dtype))
    shapes = {name: a.shape for name, a in net.parameters.items()}
    assert shapes == {"W1": (5, 3), "b1": (5, 1), "W2": (4, 5), "b2": (4, 1)}
    assert all(a.dtype == dtype for a in net.parameters.values())
    assert (net.n_x, net.n_y, net.L, net.loss, net.dtype, net.seed) == (3, 4, 2, "cross_entropy", dtype, 0)
    assert [layer.units for layer in net.layers] == [5, 4]


def test_parameters_are_views_that_carve_one_block(dtype):
    net = classifier(dtype=str(dtype))
    arrays = list(net.parameters.values())
    starts = sorted((a.__array_interface__["data"][0], a.nbytes) for a in arrays)
    # one block: from the first byte to the last there is little more than the parameters (room for alignment)
    assert starts[-1][0] + starts[-1][1] - starts[0][0] <= sum(a.nbytes for a in arrays) + 64 * len(arrays)
    for i, a in enumerate(arrays):
        assert a.flags.writeable
        assert not a.flags.owndata
        assert not any(np.shares_memory(a, b) for b in arrays[:i])
        assert np.shares_memory(a, list(net.parameters.values())[i])


def test_what_is_written_to_parameters_is_what_the_network_uses():
    net = neuron(n_x=2)
    W, b = net.parameters["W1"], net.parameters["b1"]
    W[...] = [[2, -3]]
    b += 0.5
    assert net.predict([[1.0], [10.0]]) == [[-27.5]]
    net.fit([[1.0], [10.0]], [[0.0]], epochs=1, optimizer=nk.SGD(0.01))
    assert W[0, 0] == pytest.approx(2 + 0.275)  # the view from before the fit still shows θ


def test_parameters_outlive_the_network():
    W = classifier().parameters["W1"]
    before = W.copy()
    filler = [np.ones(100) for _ in range(1000)]
    assert np.array_equal(W, before)
    assert len(filler) == 1000


def test_parameters_cannot_be_exchanged_for_arrays_of_ones_own():
    """Assigning to the mapping must not leave the network with what it had, silently."""
    net = neuron(w=2.0)
    with pytest.raises(TypeError, match="item assignment"):
        net.parameters["W1"] = np.array([[5.0]])
    with pytest.raises(TypeError, match="item deletion"):
        del net.parameters["W1"]
    assert net.predict([[1.0]]) == [[2.0]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_set_parameters_takes_any_order_and_layout(layout, dtype):
    net = classifier(dtype=str(dtype))
    rng = np.random.default_rng(1)
    new = {name: LAYOUTS[layout](rng.normal(size=a.shape).astype(dtype)) for name, a in net.parameters.items()}
    with unmodified(*new.values()):
        net.set_parameters(dict(reversed(new.items())))
    for name, a in net.parameters.items():
        assert np.array_equal(a, new[name])


def test_set_parameters_from_its_own_views():
    """The square W of one layer goes to another, which goes to the first: nothing is read after it was written."""
    net = nk.Network([nk.Dense(3), nk.Dense(3)], "squared_error", n_x=3, seed=0)
    p = net.parameters
    W1, W2 = p["W1"].copy(), p["W2"].copy()
    net.set_parameters({"W1": p["W2"], "W2": p["W1"].T, "b1": p["b1"], "b2": p["b2"]})
    assert np.array_equal(p["W1"], W2)
    assert np.array_equal(p["W2"], W1.T)


def test_set_parameters_is_all_or_nothing():
    net = classifier()
    before = copied(net)
    good = {name: np.ones(a.shape) for name, a in before.items()}
    for name in good:
        with pytest.raises(ValueError, match=name):
            net.set_parameters({**good, name: np.ones((7, 7))})
        assert same_bits(net, before)


def test_no_bias_has_no_b():
    layers = [nk.Dense(5, "relu", use_bias=False), nk.Dense(1, use_bias=False)]
    net = nk.Network(layers, "squared_error", n_x=3, seed=0)
    assert list(net.parameters) == ["W1", "W2"]
    assert net.summary().parameters == 5 * 3 + 5
    assert not net.predict(np.zeros((3, 2))).any()


# ---- initial weights ----

VARIANCE = {
    "he_normal": lambda n, n_prev: 2 / n_prev,
    "he_uniform": lambda n, n_prev: 2 / n_prev,
    "glorot_normal": lambda n, n_prev: 2 / (n_prev + n),
    "glorot_uniform": lambda n, n_prev: 2 / (n_prev + n),
    "lecun_normal": lambda n, n_prev: 1 / n_prev,
    "normal": lambda n, n_prev: 0.01**2,
}


def assert_drawn_by(W, name):
    """Mean, variance and shape of the distribution of W's entries, to 5 standard errors."""
    n, n_prev = W.shape
    variance = VARIANCE[name](n, n_prev)
    uniform = name.endswith("uniform")
    w = W.ravel() / np.sqrt(variance)
    # fourth moments of the normal and the uniform distribution of variance 1: 3 and 9/5
    fourth = 1.8 if uniform else 3.0
    assert abs(w.mean()) < 5 / np.sqrt(w.size)
    assert abs((w**2).mean() - 1) < 5 * np.sqrt((fourth - 1) / w.size)
    assert abs((w**4).mean() - fourth) < 0.2
    if uniform:
        assert np.abs(w).max() <= np.sqrt(3) * (1 + 1e-6)
    else:
        assert np.abs(w).max() > 3.5
    assert abs(np.corrcoef(w[:-1], w[1:])[0, 1]) < 5 / np.sqrt(w.size)


@pytest.mark.parametrize("name", VARIANCE)
def test_initial_weights_by_name(name, dtype):
    net = nk.Network([nk.Dense(200, "tanh", init=name)], "squared_error", n_x=300, dtype=str(dtype), seed=1)
    assert_drawn_by(net.parameters["W1"], name)
    assert not net.parameters["b1"].any()


@pytest.mark.parametrize("activation", nk.kernels.ACTIVATIONS)
def test_initial_weights_by_default(activation):
    net = nk.Network([nk.Dense(200, activation)], "squared_error", n_x=300, seed=1)
    default = ref.ELEMENTWISE[activation].initializer if activation in ref.ELEMENTWISE else "glorot_uniform"
    assert_drawn_by(net.parameters["W1"], default)
    assert not net.parameters["b1"].any()


def test_initial_weights_of_normal_with_another_scale():
    init = nk.initializers.normal(0.5)
    net = nk.Network([nk.Dense(200, init=init)], "squared_error", n_x=300, seed=1)
    W = net.parameters["W1"]
    assert abs(np.mean((W / 0.5) ** 2) - 1) < 5 * np.sqrt(2 / W.size)


def test_initial_weights_zeros_array_and_callable():
    array = np.arange(12.0).reshape(4, 3)
    seen = []

    def init(rng, n, n_prev):
        seen.append((isinstance(rng, np.random.Generator), n, n_prev))
        return np.full((n, n_prev), 7)

    layers = [nk.Dense(4, init=array), nk.Dense(5, init=init), nk.Dense(2, init="zeros")]
    with unmodified(array):
        net = nk.Network(layers, "squared_error", n_x=3, seed=0)
        assert np.array_equal(net.parameters["W1"], array)
        net.parameters["W1"][...] = -1  # a copy: the user's array stays
    assert (net.parameters["W2"] == 7).all()
    assert not net.parameters["W3"].any()
    assert seen == [(True, 5, 4)]


def test_layers_of_one_network_are_drawn_independently():
    net = nk.Network([nk.Dense(6, "tanh"), nk.Dense(6, "tanh")], "squared_error", n_x=6, seed=0)
    assert not np.any(net.parameters["W1"] == net.parameters["W2"])


def test_initialize_returns_the_network_and_decides_n_x():
    net = nk.Network([nk.Dense(4, "relu")], "squared_error", seed=5)
    assert net.n_x is None
    assert net.initialize(7) is net
    assert net.n_x == 7
    assert net.parameters["W1"].shape == (4, 7)
    assert net == nk.Network([nk.Dense(4, "relu")], "squared_error", n_x=7, seed=5)


def test_first_fit_initializes_as_initialize_does():
    X, Y = data()
    a, b = (classifier(n_x=n_x) for n_x in (None, N_X))
    a.fit(X, Y, epochs=2)
    b.fit(X, Y, epochs=2)
    assert a == b
    c = classifier(n_x=None)
    c.partial_fit(X, Y)
    assert c.n_x == N_X


# ---- fit against the oracle ----

TOLERANCE = 1e-11


class Twin:
    """A network in float64, its data, and the same for the oracle, which takes the steps one by one."""

    def __init__(
        self, loss, *, m=M, l2=0.0, l1=0.0, weighted=False, layer_l2=(None, None), frozen=(), biased=(True, True)
    ):
        self.activations = ("tanh", ref.MATCHED.get(loss, "linear"))
        self.loss = loss
        n_y = 3
        self.layer_l2 = [l2 if own is None else own for own in layer_l2]
        self.l1 = l1
        self.frozen = [name for layer in frozen for name in (f"W{layer}", f"b{layer}")]
        self.frozen += [f"b{layer}" for layer, has in enumerate(biased, start=1) if not has]
        rng = np.random.default_rng(7)
        self.X = rng.normal(size=(N_X, m))
        self.w = rng.uniform(0.2, 3, m) if weighted else None
        self.Y = self.Y_full = ref.random_targets(loss, (n_y, m), rng)
        layers = [
            nk.Dense(n, g, l2=own, trainable=layer not in frozen, use_bias=has)
            for layer, n, g, own, has in zip((1, 2), (5, n_y), self.activations, layer_l2, biased, strict=True)
        ]
        self.net = nk.Network(layers, loss, n_x=N_X, l2=l2, l1=l1, dtype="float64", seed=3)
        self.parameters = {"b1": np.zeros((5, 1)), "b2": np.zeros((n_y, 1)), **copied(self.net)}

    def fit(self, epochs, batch_size, make):
        """Compares cost and parameters after each epoch."""
        m = self.X.shape[1]
        batch = m if batch_size is None else min(batch_size, m)
        optimizer, oracle = make(nk), make(ref)
        costs = []

        w = np.ones(m) if self.w is None else self.w

        def check(net, epoch, history):
            # an example counts by its weight, so that with α → 0 this is the cost of `evaluate`
            total = 0.0
            for start in range(0, m, batch):
                columns = slice(start, start + batch)
                total += self.step(oracle, columns) * w[columns].sum()
            costs.append(total / w.sum())
            for name, a in net.parameters.items():
                np.testing.assert_allclose(
                    a, self.parameters[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"{name}, epoch {epoch}"
                )

        with unmodified(self.X, self.Y, *([] if self.w is None else [self.w])):
            history = self.net.fit(
                self.X,
                self.Y,
                epochs=epochs,
                batch_size=batch_size,
                shuffle=False,
                optimizer=optimizer,
                sample_weight=self.w,
                callbacks=[check],
            )
        assert len(costs) == epochs
        np.testing.assert_allclose(history["cost"], costs, rtol=TOLERANCE)
        assert costs[-1] <= 1.2 * costs[0], "a training that diverges amplifies roundings"

    def step(self, oracle, columns):
        batch = self.X[:, columns], self.Y_full[:, columns]
        rest = self.activations, self.loss, self.layer_l2, None if self.w is None else self.w[columns]
        cost = ref.network_cost(*batch, self.parameters, *rest)
        grads = ref.network_backward(*batch, self.parameters, *rest)
        for layer in (1, 2):
            W = self.parameters[f"W{layer}"]
            cost += self.l1 * np.abs(W).sum()
            grads[f"dW{layer}"] = grads[f"dW{layer}"] + self.l1 * np.sign(W)
        free = {name: a for name, a in self.parameters.items() if name not in self.frozen}
        oracle.step(free, grads)
        return cost


def sgd(module):
    # slow enough for batches of one: at three times this rate a rounding grows 40,000-fold in four epochs, here 8-fold
    return module.SGD(0.03, momentum=0.9)


BATCHES = [1, 4, 5, 10, M, M + 5, None]


@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("loss", ref.LOSSES)
def test_mini_batches_in_order(loss, batch_size):
    Twin(loss).fit(4, batch_size, sgd)


@pytest.mark.parametrize("batch_size", [4, None])
@pytest.mark.parametrize("loss", ref.LOSSES)
@pytest.mark.parametrize(
    "options",
    [
        {"weighted": True},
        {"l2": 0.3},
        {"l1": 0.02},
        {"l1": 0.02, "l2": 0.3, "weighted": True},
        {"layer_l2": (0.5, None)},
        {"l2": 0.3, "layer_l2": (None, 0.0)},
        {"l2": 0.3, "layer_l2": (0.0, 0.7)},
        {"frozen": (1,), "l2": 0.3},
        {"frozen": (2,), "l1": 0.02},
        {"biased": (False, True)},
        {"biased": (True, False), "weighted": True},
        {"biased": (False, False), "l2": 0.3},
    ],
    ids=str,
)
def test_mini_batches_with(options, loss, batch_size):
    Twin(loss, **options).fit(3, batch_size, sgd)


@pytest.mark.parametrize("make", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
@pytest.mark.parametrize("options", [{"l1": 0.01, "l2": 0.1}, {"frozen": (1,)}, {"biased": (False, True)}], ids=str)
def test_mini_batches_of_each_optimizer_with(make, options):
    Twin("cross_entropy", **options).fit(3, 4, lambda module: getattr(module, make)(0.02))


@pytest.mark.parametrize("m", [4095, 4096, 4097, 10_000])
@pytest.mark.parametrize("loss", ref.LOSSES)
def test_full_batch_that_is_combined_from_chunks(loss, m):
    Twin(loss, m=m, weighted=True, l2=0.1).fit(2, None, sgd)


@pytest.mark.parametrize("chunks", range(3, 34))
def test_full_batch_of_each_number_of_chunks(chunks):
    """The tree of sums has a shape of its own for each; with 16 and more, parts of the batch go on side by side."""
    Twin("squared_error", m=4096 * chunks - 5).fit(1, None, sgd)


@pytest.mark.parametrize("batch_size", [4097, 9_000])
def test_mini_batches_that_are_combined_from_chunks(batch_size):
    Twin("cross_entropy", m=10_000, weighted=True).fit(2, batch_size, sgd)


def test_weights_are_means_of_each_batch():
    """J = Σ w L / Σ w within a batch: the scale of w doesn't matter, and a weight counts as repetition."""
    X, Y = data()
    w = np.random.default_rng(1).integers(1, 4, M)
    a, b, c = classifier(), classifier(), classifier()
    for net, options in ((a, {"sample_weight": w}), (b, {"sample_weight": 1000.0 * w})):
        net.fit(X, Y, epochs=3, batch_size=None, **options)
    c.fit(np.repeat(X, w, axis=1), np.repeat(Y, w), epochs=3, batch_size=None)
    for name, expected in c.parameters.items():
        np.testing.assert_allclose(a.parameters[name], expected, rtol=1e-12)
        np.testing.assert_allclose(b.parameters[name], expected, rtol=1e-12)


def test_examples_of_weight_0_count_nothing():
    X, Y = data()
    w = np.ones(M)
    w[[2, 7]] = 0
    far = X.copy()
    far[:, [2, 7]] = 1e3
    a, b = classifier(), classifier()
    a.fit(X, Y, epochs=3, batch_size=None, sample_weight=w)
    b.fit(far, Y, epochs=3, batch_size=None, sample_weight=w)
    for name, expected in a.parameters.items():
        np.testing.assert_allclose(b.parameters[name], expected, rtol=1e-12)


def test_frozen_layers_keep_their_bits_and_give_no_gradients():
    X, Y = data()
    layers = [nk.Dense(5, "tanh", trainable=False), nk.Dense(5, "tanh"), nk.Dense(4, "softmax", trainable=False)]
    net = nk.Network(layers, "cross_entropy", n_x=N_X, l2=0.1, seed=0)
    before = copied(net)
    net.fit(X, Y, epochs=3, optimizer=nk.AdamW(0.1))
    moved = {name for name, a in net.parameters.items() if a.tobytes() != before[name].tobytes()}
    assert moved == {"W2", "b2"}
    net.forward(X)
    assert set(net.backward(Y)) == {"dW2", "db2"}


def test_a_network_that_is_frozen_throughout_predicts_and_refuses_to_train():
    X, Y = data()
    layers = [nk.Dense(5, "tanh", trainable=False), nk.Dense(4, "softmax", trainable=False)]
    net = nk.Network(layers, "cross_entropy", n_x=N_X, seed=0)
    before = copied(net)
    with pytest.raises(ValueError, match="trainable"):
        net.fit(X, Y)
    assert same_bits(net, before)
    net.evaluate(X, Y)


# ---- schedules ----


@pytest.mark.parametrize(
    ("schedule", "rate"),
    [
        (lambda epoch: 0.5 / (epoch + 1), lambda epoch: 0.5 / (epoch + 1)),
        (nk.schedules.InverseTime(0.5, 0.25), lambda epoch: 0.5 / (1 + 0.25 * epoch)),
        (nk.schedules.Exponential(0.5, 0.75), lambda epoch: 0.5 * 0.75**epoch),
        (nk.schedules.Step(0.5, 0.5, 2), lambda epoch: 0.5 * 0.5 ** (epoch // 2)),
        (
            nk.schedules.Cosine(0.5, 4),
            lambda epoch: 0.25 * (1 + np.cos(np.pi * min(epoch, 4) / 4)),
        ),
    ],
    ids=["function", "InverseTime", "Exponential", "Step", "Cosine"],
)
@pytest.mark.parametrize("via", ["optimizer", "callback"])
def test_schedules(schedule, rate, via):
    """ŷ = w x with x = 1 and y = 0: w shrinks by the factor 1 - α in each step."""
    net = neuron(w=1.0, use_bias=False) if via == "optimizer" else neuron(w=1.0, trainable=True, use_bias=False)
    options = (
        {"optimizer": nk.SGD(schedule)} if via == "optimizer" else {"callbacks": nk.LearningRateSchedule(schedule)}
    )
    history = net.fit([[1.0]], [[0.0]], epochs=6, **options)
    rates = [rate(epoch) for epoch in range(6)]
    np.testing.assert_allclose(history["learning_rate"], rates, rtol=1e-12, atol=1e-15)
    assert net.parameters["W1"][0, 0] == pytest.approx(np.prod(1 - np.array(rates)), rel=1e-12)


def test_schedules_go_on_where_a_resumed_fit_goes_on():
    seen = []

    def rate(epoch):
        seen.append(epoch)
        return 0.1 / (epoch + 1)

    net = neuron(w=1.0)
    net.fit([[1.0]], [[0.0]], epochs=2, optimizer=nk.SGD(rate))
    history = net.fit([[1.0]], [[0.0]], epochs=2, optimizer=nk.SGD(rate), resume=True)
    assert history["learning_rate"] == [0.1 / 3, 0.1 / 4]
    history = net.fit([[1.0]], [[0.0]], epochs=2, optimizer=nk.SGD(rate))
    assert history["learning_rate"] == [0.1, 0.1 / 2]
    assert sorted(set(seen)) == [0, 1, 2, 3]


# ---- dropout ----


def test_dropout_is_inverted_and_drops_its_share():
    p, units, m = 0.3, 400, 500
    layers = [nk.Dense(units, dropout=p, init="zeros"), nk.Dense(units, init=np.eye(units))]
    net = nk.Network(layers, "squared_error", n_x=1, dtype="float64", seed=0)
    net.parameters["b1"][...] = 1
    A = net.forward(np.zeros((1, m)), training=True)
    np.testing.assert_allclose(np.unique(A), [0, 1 / (1 - p)], rtol=1e-12)
    dropped = A == 0
    error = np.sqrt(p * (1 - p))
    assert abs(dropped.mean() - p) < 5 * error / np.sqrt(A.size)
    # each unit and each example by itself, and neighbours independent of each other
    assert np.abs(dropped.mean(axis=1) - p).max() < 5 * error / np.sqrt(m)
    assert np.abs(dropped.mean(axis=0) - p).max() < 5 * error / np.sqrt(units)
    centred = dropped - p
    for other in (centred[1:] * centred[:-1], centred[:, 1:] * centred[:, :-1]):
        assert abs(other.mean()) < 5 * p * (1 - p) / np.sqrt(other.size)


@pytest.mark.parametrize(("units", "m", "p"), [(1, 1, 0.5), (37, 11, 0.3), (3, 5, 0.999), (5, 1500, 0.25)])
def test_dropout_mask_is_that_of_the_generator(units, m, p, dtype):
    """Entry i of the first step's first layer is dropped where word i of the counters 0, 1, … is below p 2^32."""
    layers = [nk.Dense(units, dropout=p, init=np.ones((units, 1))), nk.Dense(units, init=np.eye(units))]
    net = nk.Network(layers, "squared_error", n_x=1, dtype=str(dtype), seed=7)
    A = net.forward(np.ones((1, m)), training=True)
    key = of(net).engine.key
    counters = range((units * m + 3) // 4)
    words = [_kernels.philox((c, 0, 0, 0), (key % 2**32, key >> 32)) for c in counters]
    dropped = (np.ravel(words)[: units * m] < int(p * 2**32)).reshape((units, m), order="F")
    np.testing.assert_array_equal(A, np.where(dropped, 0, dtype.type(1 / (1 - p))))


def test_dropout_masks_differ_by_layer_step_and_seed():
    units, m = 30, 40
    eye = np.eye(units)

    def masks(seed):
        layers = [nk.Dense(units, dropout=0.5, init=eye), nk.Dense(units, init=eye)]
        net = nk.Network(layers, "squared_error", n_x=units, dtype="float64", seed=seed)
        return [net.forward(np.ones((units, m)), training=True) != 0 for _ in range(2)]

    # `forward` alone is no step, and draws the same again
    first, second = masks(0)
    assert np.array_equal(first, second)
    assert np.array_equal(first, masks(0)[0])
    agreement = np.mean(first == masks(1)[0])
    assert abs(agreement - 0.5) < 5 * 0.5 / np.sqrt(units * m)

    layers = [nk.Dense(units, dropout=0.5, init=eye), nk.Dense(units, dropout=0.5, init=eye), nk.Dense(units, init=eye)]
    net = nk.Network(layers, "squared_error", n_x=units, dtype="float64", seed=0)
    kept = net.forward(np.ones((units, m)), training=True) != 0
    # with one mask for both layers half would stay
    assert abs(kept.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / kept.size)


def test_dropout_masks_differ_from_step_to_step():
    """w₂ of a dropped unit stays; which of them moved tells the mask of each step."""
    units = 2000
    layers = [nk.Dense(units, dropout=0.5, init="zeros", trainable=False), nk.Dense(1, init="zeros")]
    net = nk.Network(layers, "squared_error", n_x=1, dtype="float64", seed=0)
    net.parameters["b1"][...] = 1
    moved = []
    for _ in range(3):
        before = net.parameters["W2"].copy()
        net.partial_fit([[0.0]], [[1e6]], optimizer=nk.SGD(1e-9))
        moved.append(net.parameters["W2"] != before)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert abs(np.mean(moved[one] == moved[other]) - 0.5) < 5 * 0.5 / np.sqrt(units)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_is_inactive_in_predict_evaluate_and_forward(p):
    X, Y = data()
    with_dropout, without = classifier(dropout=p), classifier()
    A = without.predict(X)
    assert np.array_equal(with_dropout.predict(X), A)
    assert np.array_equal(with_dropout.forward(X), without.forward(X))
    assert with_dropout.evaluate(X, Y) == without.evaluate(X, Y)
    assert not np.array_equal(with_dropout.forward(X, training=True), A)
    history = with_dropout.fit(X, Y, epochs=1, validation_data=(X, Y))
    assert history["val_cost"] == [with_dropout.evaluate(X, Y).cost]


@pytest.mark.parametrize("hidden", [[], [nk.Dense(5, "tanh", dropout=0.2)]], ids=["one layer", "two layers"])
@pytest.mark.parametrize("loss", ref.LOSSES)
def test_dropout_on_the_last_layer_is_refused(loss, hidden):
    """Outputs are never dropped."""
    last = nk.Dense(20, ref.MATCHED.get(loss, "linear"), dropout=0.5)
    with pytest.raises(ValueError, match=r"the last layer has dropout 0\.5"):
        nk.Network([*hidden, last], loss, n_x=N_X, seed=0)


@pytest.mark.parametrize("activation", nk.kernels.ACTIVATIONS)
def test_dropout_gradients_by_central_differences(activation):
    """The mask is that of the seed and the step, so copies of one network draw the same one."""
    X, _ = data(m=7)
    Y = np.random.default_rng(5).normal(size=(2, 7))
    layers = [nk.Dense(8, activation, dropout=0.4), nk.Dense(6, activation, dropout=0.3), nk.Dense(2)]
    net = nk.Network(layers, "squared_error", n_x=N_X, l2=0.1, dtype="float64", seed=2)
    for name, a in net.parameters.items():
        scale = 0.2 if activation == "exp" else 1.0  # e^e^z leaves no float64 for differences otherwise
        a[...] = np.random.default_rng(len(name) + int(name[1:])).normal(scale=scale, size=a.shape)
    theta = copied(net)

    def J():
        other = copy.deepcopy(net)
        other.set_parameters(theta)
        A = other.forward(X, training=True)
        penalty = sum(0.05 * (a**2).sum() for name, a in theta.items() if name.startswith("W"))
        return 0.5 * ((A - Y) ** 2).sum() / 7 + penalty

    other = copy.deepcopy(net)
    A = other.forward(X, training=True)
    assert not np.array_equal(A, other.predict(X))
    grads = other.backward(Y)
    for name, a in theta.items():
        numeric = ref.central_differences(J, a, 1e-5)
        np.testing.assert_allclose(
            grads[f"d{name}"], numeric, rtol=1e-6, atol=1e-7 * np.abs(numeric).max(), err_msg=name
        )


# ---- seeds and shuffling ----


@pytest.mark.parametrize("options", [{}, {"batch_size": None}, {"shuffle": False}, {"validation_split": 0.3}], ids=str)
def test_same_seed_same_bits(options, dtype):
    X, Y = data(m=100)
    a, b, other = (classifier(dropout=0.3, dtype=str(dtype), seed=seed) for seed in (1, 1, 2))
    histories = [net.fit(X, Y, epochs=3, optimizer=nk.Adam(), **options) for net in (a, b, other)]
    assert a == b
    assert histories[0]["cost"] == histories[1]["cost"]
    assert a.predict(X).tobytes() == b.predict(X).tobytes()
    for name in ("W1", "W2"):
        assert not np.any(a.parameters[name] == other.parameters[name])


def test_no_seed_draws_one():
    a, b = classifier(seed=None), classifier(seed=None)
    assert not np.any(a.parameters["W1"] == b.parameters["W1"])
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global generator must be left alone
    classifier(seed=None, dropout=0.5).fit(*data(), epochs=2)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize("m", [60, 1000])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_same_bits_for_any_number_of_threads(m, threads, dtype):
    X, Y = data(m=m * 10)
    nets = [classifier(hidden=40, dropout=0.2, dtype=str(dtype)) for _ in range(2)]
    for net, count in zip(nets, (1, threads), strict=True):
        net.fit(X, Y, epochs=2, batch_size=m, optimizer=nk.Adam(), threads=count)
        net.fit(X, Y, epochs=1, batch_size=None, threads=count)
    assert nets[0] == nets[1]
    assert nets[0].predict(X, threads=1).tobytes() == nets[1].predict(X, threads=threads).tobytes()
    assert nets[0].evaluate(X, Y, threads=1) == nets[1].evaluate(X, Y, threads=threads)


def order_of_an_epoch(m, *, X=None, seed=0, **options):
    """The examples of one epoch in batches of one, in the order they came.

    Example i is the i-th unit vector with target 1, so it alone pushes w_i, by 1; with momentum μ the push goes on for
    the rest of the epoch: after k more steps w_i = 1 + μ + … + μ^k. Whoever comes twice or never breaks the pattern.
    """
    mu = 0.9
    net = nk.Network([nk.Dense(1, init="zeros", use_bias=False)], "squared_error", n_x=m, dtype="float64", seed=seed)
    optimizer = nk.SGD(1.0, momentum=mu)
    X = np.eye(m) if X is None else X
    net.fit(X, np.ones((1, m)), epochs=1, batch_size=1, optimizer=optimizer, **options)
    w = net.parameters["W1"].ravel()
    order = np.argsort(-w)
    np.testing.assert_allclose(w[order], np.cumsum(mu ** np.arange(m))[::-1], rtol=1e-12)
    return order


@pytest.mark.parametrize("m", [2, 3, 10, 61])
def test_each_example_comes_once_an_epoch(m):
    assert np.array_equal(order_of_an_epoch(m, shuffle=False), np.arange(m))
    order = order_of_an_epoch(m)
    assert sorted(order) == list(range(m))
    if m > 3:
        assert not np.array_equal(order, np.arange(m))
        assert not np.array_equal(order, order_of_an_epoch(m, seed=1))


def test_each_order_is_as_likely():
    """All six orders of three examples, over 600 seeds: chi-squared with 5 degrees of freedom, p = 1e-6 at 36."""
    counts = {}
    for seed in range(600):
        order = tuple(order_of_an_epoch(3, seed=seed))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 36


@pytest.mark.parametrize("batch_size", [1, 7, 32, 60, 99, 100, 200, None])
def test_each_example_comes_once_in_batches_of_any_size(batch_size):
    """w_i = 1/(size of its batch) after an epoch; each epoch shuffles anew."""
    m = 100
    net = nk.Network([nk.Dense(1, init="zeros", use_bias=False)], "squared_error", n_x=m, dtype="float64", seed=0)
    seen = []

    def look(net, epoch, history):
        w = net.parameters["W1"]
        seen.append(1 / w.ravel())
        w[...] = 0

    net.fit(np.eye(m), np.ones((1, m)), epochs=3, batch_size=batch_size, optimizer=nk.SGD(1.0), callbacks=look)
    batch = min(batch_size or m, m)
    expected = [batch] * (m - m % batch) + [m % batch] * (m % batch)
    for sizes in seen:
        np.testing.assert_allclose(sorted(sizes, reverse=True), expected, rtol=1e-12)
    if m % batch > 5:
        assert len({tuple(np.round(sizes)) for sizes in seen}) == 3


# ---- fit goes on ----

GOES_ON = {
    "SGD": nk.SGD(0.1, momentum=0.9),
    "Nesterov": nk.SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": nk.Adam(0.01),
    "AdamW": nk.AdamW(0.01),
    "RMSprop": nk.RMSprop(0.01),
    "Adagrad": nk.Adagrad(0.01),
}


def assert_same_network(a, b):
    """Bit for bit, with words for the first that differs."""
    assert a.config() == b.config()
    for name, expected in b.parameters.items():
        assert np.array_equal(a.parameters[name], expected), name
    assert a == b


@pytest.mark.parametrize("optimizer", GOES_ON.values(), ids=list(GOES_ON))
@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": None},
        {"batch_size": 4},
        {"batch_size": 4, "shuffle": False},
        {"batch_size": 4, "callbacks": lambda *_: None},
        {"batch_size": 4, "validation_split": 0.3},
    ],
    ids=["full batch", "shuffled", "in order", "with callback", "validation_split"],
)
def test_resume_equals_one_longer_fit(optimizer, options, dtype):
    X, Y = data(m=30)
    whole, parts = (classifier(dropout=0.3, dtype=str(dtype)) for _ in range(2))
    expected = whole.fit(X, Y, epochs=7, optimizer=optimizer, **options)
    histories = [
        parts.fit(X, Y, epochs=epochs, optimizer=optimizer, resume=resume, **options)
        for epochs, resume in ((2, False), (4, True), (1, True))
    ]
    assert_same_network(parts, whole)
    for key in expected.keys() - {"seconds"}:
        assert [value for history in histories for value in history[key]] == expected[key]


def test_resume_after_a_fit_without_callbacks_and_with_them():
    """All epochs in one native call or each in its own: the same bits."""
    X, Y = data(m=30)
    a, b = classifier(dropout=0.3), classifier(dropout=0.3)
    a.fit(X, Y, epochs=5, optimizer=nk.Adam())
    b.fit(X, Y, epochs=5, optimizer=nk.Adam(), callbacks=lambda *_: None, validation_data=(X, Y))
    assert_same_network(a, b)


def test_resume_without_a_fit_before_is_a_first_fit():
    X, Y = data()
    a, b = classifier(), classifier()
    a.fit(X, Y, epochs=3, resume=True)
    b.fit(X, Y, epochs=3)
    assert_same_network(a, b)


def test_second_fit_goes_on_from_the_present_parameters_with_fresh_state():
    """v = 0 again: the first step of the second fit is -α g."""
    net = neuron(w=1.0, use_bias=False)
    net.fit([[1.0]], [[0.0]], epochs=3, optimizer=nk.SGD(0.1, momentum=0.9))
    w = net.parameters["W1"][0, 0]
    net.fit([[1.0]], [[0.0]], epochs=1, optimizer=nk.SGD(0.1, momentum=0.9))
    assert net.parameters["W1"][0, 0] == pytest.approx(0.9 * w, rel=1e-14)


def test_epochs_of_0_change_nothing():
    net = classifier()
    before = copied(net)
    history = net.fit(*data(), epochs=0)
    assert same_bits(net, before)
    assert history["cost"] == []


@pytest.mark.parametrize("optimizer", GOES_ON.values(), ids=list(GOES_ON))
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_partial_fit_equals_fit_on_the_same_batches(optimizer, dropout, dtype):
    X, Y = data()
    whole, stream = (classifier(dropout=dropout, l2=0.1, dtype=str(dtype)) for _ in range(2))
    history = whole.fit(X, Y, epochs=3, batch_size=4, shuffle=False, optimizer=optimizer)
    for epoch in range(3):
        costs = [
            stream.partial_fit(X[:, start : start + 4], Y[start : start + 4], optimizer=optimizer) * min(4, M - start)
            for start in range(0, M, 4)
        ]
        assert history["cost"][epoch] == pytest.approx(sum(costs) / M, rel=1e-6 if dtype == "float32" else 1e-14)
    assert_same_network(stream, whole)


def test_partial_fit_gives_the_cost_before_the_update():
    X, Y = data()
    net = classifier(l2=0.1)
    penalty = sum(0.05 * (net.parameters[name] ** 2).sum() for name in ("W1", "W2"))
    before = net.evaluate(X, Y).cost + penalty
    cost = net.partial_fit(X, Y)
    assert isinstance(cost, float)
    assert cost == pytest.approx(before, rel=1e-14)


def test_partial_fit_takes_weights():
    X, Y = data()
    w = np.arange(1.0, M + 1)
    a, b = classifier(), classifier()
    a.partial_fit(X, Y, sample_weight=w)
    b.fit(X, Y, sample_weight=w, epochs=1, batch_size=None)
    assert_same_network(a, b)


@pytest.mark.parametrize("optimizer", GOES_ON.values(), ids=list(GOES_ON))
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_loop_of_ones_own_equals_fit(optimizer, dropout):
    X, Y = data()
    whole, loop = classifier(dropout=dropout, l2=0.1), classifier(dropout=dropout, l2=0.1)
    whole.fit(X, Y, epochs=3, batch_size=4, shuffle=False, optimizer=optimizer)
    for _ in range(3):
        for start in range(0, M, 4):
            loop.forward(X[:, start : start + 4], training=True)
            loop.step(loop.backward(Y[start : start + 4]), optimizer)
    for name, expected in whole.parameters.items():
        np.testing.assert_allclose(loop.parameters[name], expected, rtol=1e-12, atol=1e-12, err_msg=name)


def test_gradients_of_backward_are_the_users_own():
    """They stay as they are when the next ones are computed, and step doesn't write to them."""
    X, Y = data()
    net = classifier()
    net.forward(X)
    grads = net.backward(Y)
    before = {name: g.copy() for name, g in grads.items()}
    net.step(grads, nk.SGD(0.5))
    net.forward(2 * X)
    net.backward(Y)
    for name, g in grads.items():
        assert np.array_equal(g, before[name])
    doubled = classifier()
    doubled.step({name: 2 * g for name, g in grads.items()}, nk.SGD(0.25))
    single = classifier()
    single.step(grads, nk.SGD(0.5))
    assert_same_network(doubled, single)


def test_forward_belongs_to_the_user():
    X, Y = data()
    net = classifier()
    A = net.forward(X)
    net.backward(Y)
    kept = A.copy()
    A[...] = 7
    again = net.forward(X)
    assert np.array_equal(again, kept)
    assert (A == 7).all()


def test_backward_is_of_the_mask_that_forward_drew():
    """A step in between draws no other."""
    X, Y = data()
    net = classifier(dropout=0.5)
    net.forward(X, training=True)
    expected = net.backward(Y)
    net.step({name: 0 * g for name, g in expected.items()}, nk.SGD(0.1))
    for name, g in net.backward(Y).items():
        assert np.array_equal(g, expected[name]), name


def test_a_loss_that_goes_forward_itself_leaves_backward_its_activations():
    X, _ = data(m=10_000)
    Y = X[:2] + 1
    plain = nk.Network([nk.Dense(50, "tanh"), nk.Dense(2)], "squared_error", n_x=N_X, dtype="float64", seed=0)

    def loss(A, Y):
        net.forward(X[:, :5])
        return ((A - Y) ** 2).sum(axis=0) / 2, A - Y

    net = nk.Network(plain.layers, loss, n_x=N_X, dtype="float64", seed=0)
    expected = [each.forward(X).tobytes() for each in (plain, net)]
    assert expected[0] == expected[1]
    for (name, g), other in zip(net.backward(Y).items(), plain.backward(Y).values(), strict=True):
        assert np.array_equal(g, other), name


def test_a_backward_within_a_backward_is_refused():
    X, _ = data()
    net = nk.Network([nk.Dense(1)], lambda A, Y: net.backward(Y), n_x=N_X)
    net.forward(X)
    with pytest.raises(RuntimeError, match="going on already"):
        net.backward(X[:1])
    of(net).loss = nk.losses.get("squared_error")
    with pytest.raises(RuntimeError, match="going on already"):
        net.backward(X[:1])  # the engine's function is the old one: refused again, not left taken


# ---- iterables of batches, memory-mapped data ----


class Batches:
    """Gives a new iterator each time."""

    def __init__(self, *arrays, size=4):
        self.arrays, self.size, self.passes = arrays, size, 0

    def __iter__(self):
        self.passes += 1
        for start in range(0, M, self.size):
            yield tuple(a[..., start : start + self.size] for a in self.arrays)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("as_list", [False, True])
def test_iterables_of_batches_equal_arrays(weighted, as_list):
    X, Y = data()
    w = np.arange(1.0, M + 1) if weighted else None
    a, b = classifier(dropout=0.3, n_x=None), classifier(dropout=0.3, n_x=None)
    expected = a.fit(X, Y, epochs=3, batch_size=4, shuffle=False, optimizer=nk.Adam(), sample_weight=w)
    batches = Batches(X, Y, w) if weighted else Batches(X, Y)
    history = b.fit(list(batches) if as_list else batches, epochs=3, optimizer=nk.Adam())
    assert_same_network(a, b)
    np.testing.assert_allclose(history["cost"], expected["cost"], rtol=1e-14)
    assert as_list or batches.passes == 3


@pytest.mark.parametrize("optimizer", GOES_ON.values(), ids=list(GOES_ON))
@pytest.mark.parametrize("by", ["sample_weight", "class_weight"])
def test_batches_may_weigh_nothing_but_not_all_of_them(tmp_path, by, optimizer):
    X, _ = data(m=20)
    Y = np.arange(20) // 5 % N_Y
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    weights = {0: 0.0, 3: 0.0}
    w = np.where(np.isin(Y, list(weights)), 0.0, 1.5)
    options = {"sample_weight": w} if by == "sample_weight" else {"class_weight": weights}
    a, b = classifier(), classifier()
    how = {"epochs": 3, "batch_size": 5, "shuffle": False, "optimizer": optimizer}
    history = a.fit(X, Y, **options, **how)
    other = b.fit(mapped, Y, **options, **how)
    assert_same_network(a, b)
    np.testing.assert_allclose(other["cost"], history["cost"], rtol=1e-14)
    nothing = {"sample_weight": 0 * w} if by == "sample_weight" else {"class_weight": dict.fromkeys(range(N_Y), 0.0)}
    for each in (X, mapped):
        with pytest.raises(ValueError, match=r"weight.* 0"):
            a.fit(each, Y, **nothing, **how)
        assert_same_network(a, b)


def test_iterables_of_batches_of_different_sizes():
    X, Y = data()
    a, b = classifier(), classifier()
    cuts = [0, 1, 6, 8, M]
    batches = [(X[:, i:j], Y[i:j]) for i, j in itertools.pairwise(cuts)]
    history = a.fit(batches, epochs=1, validation_data=(X, Y))
    costs = [b.partial_fit(*batch) * batch[1].size for batch in batches]
    assert_same_network(a, b)
    assert history["cost"] == [pytest.approx(sum(costs) / M, rel=1e-14)]
    assert history["val_cost"] == [b.evaluate(X, Y).cost]


@pytest.mark.parametrize("way", ["arrays", "batches", "callback", "many"])
def test_divergence_names_the_last_finite_cost_of_an_epoch_before(way):
    """In the first batch of an epoch, after one that went well."""
    X, Y = np.ones((1, 4)), np.full((1, 4), 2.0)
    net = nk.Network([nk.Dense(1, init="zeros")], "squared_error", dtype="float64")
    optimizer = nk.SGD(lambda epoch: [0.1, 1e200, 0.1][epoch])
    how = {"epochs": 3, "optimizer": optimizer}
    if way == "many":
        diverged = nk.fit_many([net], X, Y, batch_size=None, **how)[0]["diverged"]
    else:
        if way == "callback":
            how["callbacks"] = lambda net, epoch, history: None
        with pytest.raises(nk.DivergenceError) as caught:
            net.fit([(X, Y)], **how) if way == "batches" else net.fit(X, Y, batch_size=None, **how)
        diverged = caught.value
    assert (diverged.epoch, diverged.batch) == (2, 0)
    assert 0 < diverged.last_cost < 2  # that of the second epoch, before its step


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("came", ["float32", "float64", "int16"])
def test_memory_mapped_data_equal_arrays(tmp_path, order, came, dtype):
    X, Y = data(m=100)
    X = (10 * X).astype(came)
    np.save(tmp_path / "X.npy", np.asarray(X, order=order))
    np.save(tmp_path / "Y.npy", Y)
    X_map, Y_map = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "XY")
    a, b = (classifier(dropout=0.3, dtype=str(dtype)) for _ in range(2))
    options = {"epochs": 3, "batch_size": 16, "shuffle": False, "optimizer": nk.Adam()}
    expected = a.fit(X, Y, **options)
    history = b.fit(X_map, Y_map, **options)
    assert_same_network(a, b)
    np.testing.assert_allclose(history["cost"], expected["cost"], rtol=1e-6 if dtype == "float32" else 1e-14)
    assert a.predict(X_map).tobytes() == a.predict(X).tobytes()
    assert a.evaluate(X_map, Y_map) == a.evaluate(X, Y)


def test_memory_mapped_examples_as_rows_enter_transposed(tmp_path):
    X, Y = data(m=50)
    np.save(tmp_path / "rows.npy", X.T)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    a, b = classifier(), classifier()
    a.fit(X, Y, epochs=2, shuffle=False)
    b.fit(rows.T, Y, epochs=2, shuffle=False)
    assert_same_network(a, b)


@pytest.mark.parametrize("batch_size", [1, 7, 50, None])
def test_memory_mapped_examples_come_once_an_epoch_when_shuffled(tmp_path, batch_size):
    """As `test_each_example_comes_once_in_batches_of_any_size`; and the same seed gives the same order."""
    m = 50
    np.save(tmp_path / "X.npy", np.eye(m))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    batch = batch_size or m
    nets = [
        nk.Network([nk.Dense(1, init="zeros", use_bias=False)], "squared_error", n_x=m, dtype="float64", seed=0)
        for _ in range(2)
    ]
    for net in nets:
        net.fit(X, np.ones((1, m)), epochs=1, batch_size=batch_size, optimizer=nk.SGD(1.0))
        sizes = sorted(1 / net.parameters["W1"].ravel(), reverse=True)
        np.testing.assert_allclose(sizes, [batch] * (m - m % batch) + [m % batch] * (m % batch), rtol=1e-12)
    for net in nets:
        net.parameters["W1"][...] = 0
        net.fit(X, np.ones((1, m)), epochs=3, batch_size=batch_size, optimizer=nk.SGD(0.1, momentum=0.9))
    assert_same_network(*nets)


def test_memory_mapped_examples_come_in_a_new_order(tmp_path):
    m = 50
    np.save(tmp_path / "X.npy", np.eye(m))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    order = order_of_an_epoch(m, X=X)
    assert sorted(order) == list(range(m))
    assert not np.array_equal(order, np.arange(m))
    assert not np.array_equal(order, order_of_an_epoch(m, X=X, seed=1))
    assert np.array_equal(order_of_an_epoch(m, X=X, shuffle=False), np.arange(m))


# ---- validation and history ----


@pytest.mark.parametrize(
    ("options", "more"),
    [({}, set()), ({"validation": True}, {"val_cost", "val_score"}), ({"progress": True}, {"score"})],
    ids=["plain", "validation", "progress"],
)
def test_history_has_its_keys_and_an_entry_an_epoch(options, more, capsys):
    X, Y = data()
    if options.pop("validation", False):
        options = {"validation_data": (X, Y)}
    start = time.perf_counter()
    history = classifier().fit(X, Y, epochs=5, **options)
    whole = time.perf_counter() - start
    assert history.keys() == {"cost", "learning_rate", "seconds"} | more
    assert all(len(values) == 5 for values in history.values())
    assert all(type(value) is float for values in history.values() for value in values)
    assert history["learning_rate"] == [0.1] * 5
    assert min(history["seconds"]) >= 0
    assert sum(history["seconds"]) <= whole


def test_validation_reports_cost_without_penalty_and_the_score():
    X, Y = data(m=40)
    held = data(seed=1, m=9)
    w = np.arange(1.0, 10)
    net = classifier(l2=0.5, dropout=0.5)
    plain = []
    weighted = []

    def look(net, epoch, history):
        plain.append(net.evaluate(*held))
        weighted.append(net.evaluate(*held, sample_weight=w))

    history = net.fit(X, Y, epochs=3, validation_data=held, callbacks=look)
    assert history["val_cost"] == [e.cost for e in plain]
    assert history["val_score"] == [e.score for e in plain]
    weighted.clear()
    history = net.fit(X, Y, epochs=3, validation_data=(*held, w), callbacks=look)
    assert history["val_cost"] == [e.cost for e in weighted]
    assert history["val_score"] == [e.score for e in weighted]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_validation_split_sets_its_share_aside(share):
    """Only examples that are trained on push their w_i; the others are the validation's, whose cost is known then."""
    m = 40
    net = nk.Network([nk.Dense(1, init="zeros", use_bias=False)], "squared_error", n_x=m, dtype="float64", seed=0)
    X, Y = np.eye(m), np.ones((1, m))
    with unmodified(X, Y):
        history = net.fit(X, Y, epochs=2, batch_size=None, optimizer=nk.SGD(1.0), validation_split=share)
    trained = np.count_nonzero(net.parameters["W1"])
    assert trained == m - round(share * m)
    assert history["val_cost"] == [0.5, 0.5]  # ŷ = 0 for what was never seen
    other = nk.Network([nk.Dense(1, init="zeros", use_bias=False)], "squared_error", n_x=m, dtype="float64", seed=1)
    other.fit(X, Y, epochs=2, batch_size=None, optimizer=nk.SGD(1.0), validation_split=share)
    assert not np.array_equal(net.parameters["W1"] != 0, other.parameters["W1"] != 0)


# ---- evaluate ----


def test_evaluate_returns_a_named_tuple_of_floats():
    result = classifier().evaluate(*data())
    assert isinstance(result, nk.Evaluation)
    cost, score = result
    assert (cost, score) == (result.cost, result.score)
    assert type(cost) is float
    assert type(score) is float


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("m", [1, 50, 5000])
def test_evaluate_of_classes(weighted, shares, m):
    X, Y = data(m=m)
    w = np.random.default_rng(2).uniform(0, 2, m) if weighted else None
    net = classifier(l2=0.5)
    A = net.predict(X)
    cost, score = net.evaluate(X, ref.one_hot(Y, N_Y) if shares else Y, sample_weight=w)
    assert cost == pytest.approx(np.average(-np.log(A[Y, np.arange(m)]), weights=w), rel=1e-12)
    assert score == pytest.approx(np.average(A.argmax(axis=0) == Y, weights=w), rel=1e-12)
    assert np.array_equal(net.predict_labels(X), A.argmax(axis=0))
    assert net.predict_labels(X).dtype == np.int64


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["(m,)", "(1, m)"])
def test_evaluate_of_one_sigmoid(weighted, form):
    X, _ = data(m=50)
    rng = np.random.default_rng(2)
    Y = rng.integers(0, 2, 50)
    w = rng.uniform(0, 2, 50) if weighted else None
    net = nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=N_X, dtype="float64", seed=0)
    A = net.predict(X)[0]
    cost, score = net.evaluate(X, Y if form == "(m,)" else Y.reshape(1, -1), sample_weight=w)
    assert cost == pytest.approx(np.average(-np.log(np.where(Y == 1, A, 1 - A)), weights=w), rel=1e-12)
    assert score == pytest.approx(np.average((A > 0.5) == Y, weights=w), rel=1e-12)
    labels = net.predict_labels(X)
    assert labels.dtype == np.int64
    assert np.array_equal(labels, A > 0.5)


def test_one_half_is_no():
    """ŷ > 0.5, not >=: a neuron of zeros says 0."""
    net = nk.Network([nk.Dense(1, "sigmoid", init="zeros")], "binary_cross_entropy", n_x=1)
    assert net.predict([[1.0]]) == 0.5
    assert net.predict_labels([[1.0]]) == 0
    assert net.evaluate([[1.0, 1.0, 1.0]], [0, 0, 1]).score == pytest.approx(2 / 3)


@pytest.mark.parametrize("weighted", [False, True])
def test_evaluate_of_several_sigmoids_wants_all_right(weighted):
    X, _ = data(m=200)
    rng = np.random.default_rng(2)
    Y = rng.integers(0, 2, (3, 200)).astype(float)
    w = rng.uniform(0, 2, 200) if weighted else None
    net = nk.Network([nk.Dense(3, "sigmoid")], "binary_cross_entropy", n_x=N_X, dtype="float64", seed=0)
    A = net.predict(X)
    L = -np.log(np.where(Y == 1, A, 1 - A)).sum(axis=0)
    cost, score = net.evaluate(X, Y, sample_weight=w)
    assert cost == pytest.approx(np.average(L, weights=w), rel=1e-12)
    assert score == pytest.approx(np.average(((A > 0.5) == Y).all(axis=0), weights=w), rel=1e-12)
    labels = net.predict_labels(X)
    assert labels.shape == (3, 200)
    assert labels.dtype == np.int64
    assert np.array_equal(labels, A > 0.5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error"])
@pytest.mark.parametrize("m", [7, 5000])
def test_evaluate_of_numbers(weighted, loss, m):
    X, _ = data(m=m)
    rng = np.random.default_rng(2)
    Y = rng.normal(size=(2, m)) + 3
    w = rng.uniform(0, 2, m) if weighted else None
    net = nk.Network([nk.Dense(2)], loss, n_x=N_X, dtype="float64", seed=0)
    error = net.predict(X) - Y
    L = (0.5 * error**2 if loss == "squared_error" else np.abs(error)).sum(axis=0)
    mean = np.average(Y, axis=1, weights=w)[:, None]
    r2 = 1 - np.average(error**2, axis=1, weights=w) / np.average((Y - mean) ** 2, axis=1, weights=w)
    cost, score = net.evaluate(X, Y, sample_weight=w)
    assert cost == pytest.approx(np.average(L, weights=w), rel=1e-12)
    assert score == pytest.approx(r2.mean(), rel=1e-9)
    with pytest.raises((ValueError, TypeError), match=r"number|class|label"):
        net.predict_labels(X)


def test_r2_of_constant_outputs_counts_1_when_met_exactly_and_else_0():
    X = np.array([[1.0, 2.0, 3.0]])
    net = nk.Network([nk.Dense(2, init="zeros")], "squared_error", n_x=1, dtype="float64")
    net.parameters["b1"][...] = [[5], [2]]
    varying = [1.0, 2.0, 3.0]  # predicted by its mean: R² = 0
    assert net.evaluate(X, [[5, 5, 5], [2, 2, 2]]).score == 1
    assert net.evaluate(X, [[5, 5, 5], varying]).score == pytest.approx(0.5)
    assert net.evaluate(X, [[4, 4, 4], [2, 2, 2]]).score == pytest.approx(0.5)
    assert net.evaluate(X, [[4, 4, 4], varying]).score == pytest.approx(0)
    assert net.evaluate([[1.0]], [[5], [2]]).score == 1  # one example is constant


def test_r2_of_large_numbers_does_not_cancel(dtype):
    """Years, prices: mean 2000, spread 1. Σy² - m ȳ² would be noise in float32."""
    rng = np.random.default_rng(0)
    y = np.round(2000 + rng.normal(size=1000), 2).astype(dtype).astype(float)
    net = neuron(b=2000.0, dtype=str(dtype), use_bias=True)
    score = net.evaluate(np.zeros((1, 1000)), y.reshape(1, -1)).score
    assert score == pytest.approx(1 - np.mean((y - 2000) ** 2) / y.var(), abs=1e-5)


# ---- predict ----


@pytest.mark.parametrize("layout", LAYOUTS)
def test_predict_takes_any_layout(layout, dtype):
    X, _ = data()
    net = classifier(dtype=str(dtype))
    X = LAYOUTS[layout](X.astype(dtype))
    with unmodified(X):
        A = net.predict(X)
    assert A.tobytes() == net.predict(np.array(X, dtype, order="F")).tobytes()
    assert A.shape == (N_Y, M)
    assert A.dtype == dtype
    assert A.flags.f_contiguous


@pytest.mark.parametrize("layout", LAYOUTS)
def test_evaluate_forward_and_backward_take_any_layout(layout):
    X, Y = data()
    X = LAYOUTS[layout](X)
    net, contiguous = classifier(), np.array(X, float, order="F")
    with unmodified(X):
        np.testing.assert_allclose(net.evaluate(X, Y), net.evaluate(contiguous, Y), rtol=1e-14)
        A = net.forward(X)
        gradients = net.backward(Y)
    np.testing.assert_allclose(A, net.forward(contiguous), rtol=1e-13)
    for name, expected in net.backward(Y).items():
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-12, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("layout", WRITABLE_LAYOUTS)
def test_predict_writes_to_out(layout, dtype):
    X, _ = data()
    net = classifier(dtype=str(dtype))
    out = prefilled((N_Y, M), dtype, layout)
    assert net.predict(X, out=out) is out
    assert np.array_equal(out, net.predict(X))


@pytest.mark.parametrize("hidden", [5, 64, 300])
def test_predict_of_one_example_is_that_column(hidden):
    X, _ = data(m=70)
    net = classifier(hidden=hidden)
    A = net.predict(X)
    for i in (0, 33, 69):
        one = net.predict(X[:, [i]])
        assert one.shape == (N_Y, 1)
        np.testing.assert_allclose(one, A[:, [i]], rtol=1e-12)


@pytest.mark.parametrize("m", [1, 2, 63, 64, 65, 1000, 5000])
def test_predict_against_the_oracle(m):
    X, _ = data(m=m)
    layers = [
        nk.Dense(17, "relu"),
        nk.Dense(9, "leaky_relu", negative_slope=0.2),
        nk.Dense(5, "sigmoid"),
        nk.Dense(4, "softmax"),
    ]
    net = nk.Network(layers, "cross_entropy", n_x=N_X, dtype="float64", seed=0)
    A = X
    for layer, dense in enumerate(layers, start=1):
        W, b = net.parameters[f"W{layer}"], net.parameters[f"b{layer}"]
        A, _ = ref.dense_forward(W, A, b, dense.activation, dense.negative_slope)
    np.testing.assert_allclose(net.predict(X), A, rtol=1e-12)
    np.testing.assert_allclose(net.forward(X), A, rtol=1e-12)


def test_predict_again_gives_an_array_of_its_own():
    X, _ = data()
    net = classifier()
    first = net.predict(X)
    kept = first.copy()
    net.predict(2 * X)
    assert np.array_equal(first, kept)


# ---- copies, comparison, words ----

COPIES = {
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "pickle, protocol 2": lambda net: pickle.loads(pickle.dumps(net, protocol=2)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("how", COPIES.values(), ids=list(COPIES))
def test_copies_are_equal_and_independent(how, dtype):
    X, Y = data()
    net = classifier(dropout=0.3, l2=0.1, l1=0.01, dtype=str(dtype))
    net.fit(X, Y, epochs=2)
    net.metadata["labels"] = ["a", "b"]
    twin = how(net)
    assert twin == net
    assert twin.metadata == {"labels": ["a", "b"]}
    assert twin.predict(X).tobytes() == net.predict(X).tobytes()
    if how is not copy.copy:
        twin.metadata["labels"].append("c")
        assert net.metadata == {"labels": ["a", "b"]}
        before = copied(net)
        twin.fit(X, Y, epochs=2)
        assert same_bits(net, before)
        assert twin != net


@pytest.mark.parametrize("how", [COPIES["pickle"], COPIES["deepcopy"]], ids=["pickle", "deepcopy"])
def test_copies_without_parameters(how):
    net = classifier(n_x=None)
    twin = how(net)
    assert twin == net
    with pytest.raises(nk.NotFittedError):
        twin.predict(data()[0])
    X, Y = data()
    net.fit(X, Y, epochs=1)
    twin.fit(X, Y, epochs=1)
    assert_same_network(net, twin)


def test_copies_keep_arrays_and_functions_as_initializers():
    layers = [nk.Dense(5, "tanh", init=np.ones((5, N_X))), nk.Dense(N_Y, "softmax", init=nk.initializers.normal(0.5))]
    net = nk.Network(layers, "cross_entropy", seed=0)
    for how in (COPIES["pickle"], COPIES["deepcopy"]):
        twin = how(net)
        assert_same_network(twin.initialize(N_X), how(net).initialize(N_X))
        assert (twin.parameters["W1"] == 1).all()


def test_networks_are_equal_by_configuration_and_parameters():
    assert classifier() == classifier()
    assert classifier() != classifier(seed=1)
    assert classifier() != classifier(l2=0.1)
    assert classifier() != classifier(l1=0.1)
    assert classifier() != classifier(dropout=0.1)
    assert classifier() != classifier(dtype="float32")
    assert classifier() != classifier(hidden=6)
    assert classifier() != classifier(n_x=None)
    assert classifier(n_x=None) == classifier(n_x=None)
    assert classifier() != "a network"
    assert classifier() != None  # noqa: E711 - == is what is tested
    net = classifier()
    net.parameters["b2"][3, 0] = np.nextafter(0, 1)
    assert net != classifier()


def test_pickles_that_lie_in_others_memory_are_only_read():
    """Buffers handed out of band, as by joblib with mmap_mode: training goes on from copies."""
    X, Y = data()
    net = classifier()
    net.fit(X, Y, epochs=1, optimizer=nk.Adam())
    buffers = []
    pickled = pickle.dumps(net, protocol=5, buffer_callback=buffers.append)
    buffers = [bytes(buffer.raw()) for buffer in buffers]
    assert sum(map(len, buffers)) >= 3 * 44 * 8, "θ and Adam's two vectors of 44 parameters"
    kept = [bytearray(buffer) for buffer in buffers]
    other = pickle.loads(pickled, buffers=buffers)
    for each in (net, other):
        each.fit(X, Y, epochs=2, resume=True)
    assert_same_network(net, other)
    assert kept == buffers


class Hidden(nk.Network):
    def __init__(self, units):
        super().__init__([nk.Dense(units, "tanh"), nk.Dense(N_Y, "softmax")], "cross_entropy", l2=0.1, seed=3)
        self.units = units


@pytest.mark.parametrize("how", COPIES.values(), ids=list(COPIES))
@pytest.mark.parametrize("fitted", [False, True])
def test_subclasses_and_attributes_are_copied(how, fitted):
    X, Y = data()
    net = Hidden(6)
    net.note = {"from": "the cellar"}
    if fitted:
        net.fit(X, Y, epochs=2)
    other = how(net)
    assert type(other) is Hidden
    assert other == net
    assert (other.units, other.note) == (6, net.note)
    if fitted:
        assert str(net.compile_predict().report(net, X, Y)) == str(other.compile_predict().report(other, X, Y))


def test_what_a_network_is_cannot_be_changed():
    net = classifier()
    for name in ("layers", "l2", "l1", "dtype", "seed", "loss", "n_x", "n_y", "parameters"):
        with pytest.raises(AttributeError):
            setattr(net, name, getattr(net, name))


def test_numpy_numbers_as_settings_can_be_saved(tmp_path):
    net = classifier(seed=np.int64(5), l2=np.float32(0.5), hidden=np.int32(4))
    net.save(tmp_path / "net.npz")
    assert nk.load(tmp_path / "net.npz") == net == classifier(seed=5, l2=0.5, hidden=4)


def test_repr_and_summary():
    net = classifier(dropout=0.1)
    assert "Network" in repr(net)
    assert "cross_entropy" in repr(net)
    assert "\n" not in repr(net)
    text = str(net.summary())
    # 5·3 + 5 and 4·5 + 4 parameters
    for word in ("tanh", "softmax", "(5, 3)", "(4, 5)", "20", "24", "44"):
        assert word in text
    for layer in net.layers:
        assert "Dense" in repr(layer)
        assert eval(repr(layer), {"Dense": nk.Dense}) == layer


def test_repr_and_summary_without_parameters():
    net = classifier(n_x=None)
    assert repr(net).startswith("<Network ? → 5 tanh → 4 softmax")
    summary = net.summary()
    assert summary.parameters is None
    table = [line.split() for line in str(summary).splitlines()]
    # what is known is said: 4·5 + 4 parameters of the second layer
    assert table[1] == ["1", "5", "tanh", "(5,", "?)", "(5,", "1)", "?"]
    assert table[2] == ["2", "4", "softmax", "(4,", "5)", "(4,", "1)", "24"]
    assert "not yet initialized" in str(summary)


# ---- callbacks ----

# ŷ = w x, x = 1, y = 0: a rate of 1/2 halves w, a rate of 3 doubles and turns it
DOWN_AND_UP = [0.5, 0.5, 0.5, 3, 3, 3, 3, 3, 3, 3]
W_AFTER = np.cumprod(1 - np.array(DOWN_AND_UP))
ONE = np.array([[1.0]])


def train_down_and_up(*callbacks, epochs=10, **options):
    net = neuron(w=1.0, use_bias=False)
    optimizer = nk.SGD(lambda epoch: DOWN_AND_UP[epoch])
    history = net.fit(
        ONE, 0 * ONE, epochs=epochs, optimizer=optimizer, validation_data=(ONE, 0 * ONE), callbacks=callbacks, **options
    )
    return net.parameters["W1"][0, 0], history


@pytest.mark.parametrize("patience", [1, 3, 5])
@pytest.mark.parametrize("restore_best", [True, False])
def test_early_stopping(patience, restore_best):
    stopping = nk.EarlyStopping(patience=patience, restore_best=restore_best)
    w, history = train_down_and_up(stopping)
    assert len(history["cost"]) == 3 + patience
    assert stopping.best_epoch == 2
    assert stopping.best_value == history["val_cost"][2] == 0.5 * W_AFTER[2] ** 2
    assert w == (W_AFTER[2] if restore_best else W_AFTER[2 + patience])


def test_early_stopping_restores_the_best_even_if_patience_was_not_used_up():
    w, history = train_down_and_up(nk.EarlyStopping(patience=100))
    assert len(history["cost"]) == 10
    assert w == W_AFTER[2]


def test_early_stopping_wants_an_improvement_of_min_delta():
    """Costs are 1/8, 1/32, 1/128 …: none is better than the first by 0.12."""
    stopping = nk.EarlyStopping(patience=2, min_delta=0.12)
    w, history = train_down_and_up(stopping)
    assert stopping.best_epoch == 0
    assert len(history["cost"]) == 3
    assert w == W_AFTER[0]


def test_early_stopping_monitors_another_value():
    """The cost before each update lags one epoch behind; the score should rise."""
    stopping = nk.EarlyStopping(patience=1, monitor="cost")
    _, history = train_down_and_up(stopping)
    assert stopping.best_epoch == 3
    assert len(history["cost"]) == 5

    X, y = np.array([[-1.0, 1.0]]), np.array([[-1.0, 1.0]])
    net = neuron(w=0.0, use_bias=False)
    stopping = nk.EarlyStopping(patience=1, monitor="val_score")
    history = net.fit(
        X,
        y,
        epochs=9,
        optimizer=nk.SGD(lambda epoch: [0.5, 0.5, 3, 0][min(epoch, 3)]),
        callbacks=stopping,
        validation_data=(X, y),
    )
    assert stopping.best_epoch == 1
    assert len(history["cost"]) == 3
    assert net.parameters["W1"] == 0.75


def test_early_stopping_serves_a_second_fit():
    stopping = nk.EarlyStopping(patience=2)
    first = train_down_and_up(stopping)
    assert train_down_and_up(stopping) == (first[0], {**first[1], "seconds": pytest.approx([0] * 5, abs=10)})


def test_checkpoint_saves_every_so_many_epochs(tmp_path):
    weights = []
    callbacks = [
        nk.Checkpoint(tmp_path / "{epoch}.npz", every=3),
        lambda net, *_: weights.append(net.parameters["W1"][0, 0]),
    ]
    train_down_and_up(*callbacks)
    saved = {path.name for path in tmp_path.iterdir()}
    assert saved == {"2.npz", "5.npz", "8.npz"}
    for epoch in (2, 5, 8):
        assert nk.load(tmp_path / f"{epoch}.npz").parameters["W1"] == weights[epoch] == W_AFTER[epoch]


def test_checkpoint_replaces_its_file_or_keeps_the_best(tmp_path):
    train_down_and_up(
        nk.Checkpoint(tmp_path / "last.npz"), nk.Checkpoint(str(tmp_path / "best.npz"), monitor="val_cost")
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.npz", "last.npz"]
    assert nk.load(tmp_path / "last.npz").parameters["W1"] == W_AFTER[-1]
    assert nk.load(tmp_path / "best.npz").parameters["W1"] == W_AFTER[2]


def test_function_that_stops():
    calls = []

    def stop(net, epoch, history):
        calls.append((epoch, len(history["cost"]), net.parameters["W1"][0, 0]))
        return epoch == 2

    w, history = train_down_and_up(stop)
    assert calls == [(0, 1, W_AFTER[0]), (1, 2, W_AFTER[1]), (2, 3, W_AFTER[2])]
    assert len(history["cost"]) == 3
    assert w == W_AFTER[2]


def test_every_callback_sees_the_epoch_at_which_another_stops():
    seen = []
    train_down_and_up(lambda *_: True, lambda net, epoch, history: seen.append(epoch))
    assert seen == [0]


def test_callback_objects_hear_begin_epochs_and_end():
    heard = []

    class Listener(nk.Callback):
        def on_fit_begin(self, net):
            heard.append("begin")

        def on_epoch_end(self, net, epoch, history):
            heard.append(epoch)

        def on_fit_end(self, net, history):
            heard.append(("end", len(history["cost"])))

    train_down_and_up(Listener(), epochs=2)
    assert heard == ["begin", 0, 1, ("end", 2)]


def test_callbacks_may_predict_evaluate_and_save(tmp_path):
    X, Y = data()

    def use(net, epoch, history):
        net.predict(X)
        net.predict_labels(X)
        net.save(tmp_path / "net.npz")
        assert nk.load(tmp_path / "net.npz").evaluate(X, Y) == net.evaluate(X, Y)
        copy.deepcopy(net)

    a, b = classifier(dropout=0.3), classifier(dropout=0.3)
    a.fit(X, Y, epochs=3, callbacks=use)
    b.fit(X, Y, epochs=3)
    assert_same_network(a, b)


def test_callback_that_raises_leaves_the_last_whole_epoch():
    def fail(net, epoch, history):
        if epoch == 1:
            raise KeyError("mine")

    X, Y = data()
    a, b = classifier(), classifier()
    with pytest.raises(KeyError, match="mine"):
        a.fit(X, Y, epochs=5, callbacks=fail)
    b.fit(X, Y, epochs=2)
    assert_same_network(a, b)
    a.fit(X, Y, epochs=1)  # not locked


@pytest.mark.parametrize("name", ["fit", "partial_fit", "initialize"])
def test_training_inside_a_callback_raises(name):
    X, Y = data()
    net = classifier()

    def train(net, epoch, history):
        net.initialize(N_X) if name == "initialize" else getattr(net, name)(X, Y)

    with pytest.raises(RuntimeError, match="train"):
        net.fit(X, Y, epochs=2, callbacks=train)
    net.fit(X, Y, epochs=1)


def test_initialize_inside_a_callback_does_not_crash():
    """Another n_x there would let the engine run past the end of θ."""
    code = """
        import numpy as np
        import nnkern as nk
        net = nk.Network([nk.Dense(500, "tanh"), nk.Dense(1)], "squared_error", n_x=50, dtype="float64", seed=0)
        X, Y = np.ones((50, 200)), np.zeros((1, 200))
        try:
            net.fit(X, Y, epochs=20, optimizer=nk.SGD(1e-3), callbacks=lambda *_: bool(net.initialize(5000)) and False)
        except RuntimeError as error:
            print(error)
        print(net.n_x, net.predict(X).shape)
    """
    said = run(code).splitlines()
    assert "train" in said[0]
    assert said[1:] == ["50 (1, 200)"]


# ---- progress ----


def test_nothing_prints_unasked(capfd):
    X, Y = data()
    net = classifier()
    net.fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=[nk.EarlyStopping()])
    net.evaluate(X, Y)
    net.summary()
    assert capfd.readouterr() == ("", "")


def test_progress_prints_plain_lines_where_there_is_no_terminal(capfd):
    X, Y = data()
    net = classifier()
    history = net.fit(X, Y, epochs=3, progress=True, validation_data=(X, Y))
    out, err = capfd.readouterr()
    assert out == ""
    assert "\r" not in err
    assert "\x1b" not in err
    lines = err.splitlines()
    assert 1 <= len(lines) <= 3 + 1
    assert "3/3" in lines[-1]
    for word in ("cost", "accuracy", "left"):
        assert word in lines[-1]
    assert f"{history['cost'][-1]:.2f}" in lines[-1]
    assert history["score"][-1] == pytest.approx(net.evaluate(X, Y).score)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    pytest.importorskip("tqdm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    net = classifier()
    history = net.fit(*data(), epochs=3, progress=True, validation_data=data())
    shown = terminal.getvalue().split("\r")[-1]
    assert "3/3" in shown
    for name, word in (("cost", "cost"), ("score", "accuracy"), ("val_score", "val_accuracy")):
        assert f"{word}={history[name][-1]:.4g}" in shown


def test_progress_on_a_terminal_without_tqdm(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    classifier().fit(*data(), epochs=3, progress=True)
    assert "\r" not in terminal.getvalue()
    assert terminal.getvalue().splitlines()[-1].startswith("epoch 3/3  cost ")


def test_progress_over_an_iterable_has_no_score(capfd):
    """The examples have gone by when the epoch is done."""
    X, Y = data()
    history = classifier().fit([(X, Y)], epochs=2, progress=True)
    assert "score" not in history
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith(f"epoch 2/2  cost {history['cost'][-1]:.4f}  ")


def test_progress_changes_nothing(capfd):
    X, Y = data()
    a, b = classifier(dropout=0.3), classifier(dropout=0.3)
    a.fit(X, Y, epochs=5, progress=True, optimizer=nk.Adam())
    b.fit(X, Y, epochs=5, optimizer=nk.Adam())
    assert_same_network(a, b)


def test_progress_of_many_epochs_does_not_flood(capfd):
    classifier().fit(*data(), epochs=5000, batch_size=None, progress=True)
    assert len(capfd.readouterr().err.splitlines()) < 500


def test_progress_survives_a_closed_standard_error(monkeypatch):
    """As under pythonw: sys.stderr is None."""
    monkeypatch.setattr(sys, "stderr", None)
    classifier().fit(*data(), epochs=2, progress=True)


# ---- threads ----


def in_thread(function):
    """Runs it in another thread; gives what it raised, or None."""
    raised = []

    def run():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(300)
    assert not thread.is_alive()
    return raised[0] if raised else None


CALLS = {
    "predict": lambda net, X, Y, path: net.predict(X),
    "predict_labels": lambda net, X, Y, path: net.predict_labels(X),
    "evaluate": lambda net, X, Y, path: net.evaluate(X, Y),
    "forward": lambda net, X, Y, path: net.forward(X),
    "backward": lambda net, X, Y, path: net.backward(Y),
    "fit": lambda net, X, Y, path: net.fit(X, Y),
    "partial_fit": lambda net, X, Y, path: net.partial_fit(X, Y),
    "initialize": lambda net, X, Y, path: net.initialize(N_X),
    "set_parameters": lambda net, X, Y, path: net.set_parameters(copied(classifier())),
    "save": lambda net, X, Y, path: net.save(path),
    "deepcopy": lambda net, X, Y, path: copy.deepcopy(net),
    "pickle": lambda net, X, Y, path: pickle.dumps(net),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_a_call_from_another_thread_during_fit_raises(call, tmp_path):
    """What would see or save weights in the middle of a step, or change them, raises."""
    X, Y = data()
    net = classifier()
    net.forward(X)
    raised = []
    path = tmp_path / "net.npz"
    net.fit(X, Y, epochs=2, callbacks=lambda *_: raised.append(in_thread(lambda: call(net, X, Y, path))))
    assert [type(error) for error in raised] == [RuntimeError] * 2
    assert "train" in str(raised[0])
    call(net, X, Y, path)  # afterwards all is as before


class Stop(Exception):
    pass


def test_a_call_while_native_code_trains_raises():
    """No callback: a thousand epochs are one native call without the GIL, and go on until this thread has tried."""
    X, Y = data(m=2000)
    net = classifier(hidden=200)
    begun, tried, ended = threading.Event(), threading.Event(), []

    def rate(epoch):
        begun.set()
        if epoch and tried.is_set():
            raise Stop
        return 0.1

    def train():
        try:
            net.fit(X, Y, epochs=10**6, optimizer=nk.SGD(rate))
        except Stop:
            ended.append(True)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        assert begun.wait(300)
        before = time.process_time()
        # this thread takes little of the time: the other has been inside native code when it has passed
        while time.process_time() < before + 0.2:
            with pytest.raises(RuntimeError, match="train"):
                net.predict(X[:, :1])
            time.sleep(0.001)
    finally:
        tried.set()
        thread.join(300)
    assert ended
    assert np.isfinite(net.predict(X[:, :1])).all()


def test_fit_while_another_thread_predicts_raises():
    """Predictions one after the other: a call of fit comes in the midst of one, or in the gap between two."""
    n = 500
    net = nk.Network([nk.Dense(n, "tanh") for _ in range(6)], "squared_error", n_x=n, seed=0)
    X = np.ones((n, 4000), "float32")
    begun, over = threading.Event(), threading.Event()
    refused, of_fit = [], []

    def predict():
        while not over.is_set():
            begun.set()
            try:
                net.predict(X, threads=1)
            except RuntimeError as error:  # fit came in the gap
                refused.append(str(error))

    thread = threading.Thread(target=predict)
    thread.start()
    try:
        assert begun.wait(300)
        for _ in range(1000):
            try:
                net.fit(X[:, :1], np.ones((n, 1)), epochs=1)
            except RuntimeError as error:
                of_fit.append(str(error))
                break
    finally:
        over.set()
        thread.join(300)
    assert of_fit == ["this network is being used by another thread: it can't be trained now"]
    assert set(refused) <= {"this network is being trained by another thread"}
    net.fit(X[:, :1], np.ones((n, 1)), epochs=1)


@pytest.mark.parametrize("m", [1, 7, 3000])
def test_eight_threads_that_predict_at_once_get_the_right_answers(m):
    net = classifier(hidden=100)
    inputs = [data(seed=seed, m=m)[0] for seed in range(8)]
    expected = [net.predict(X) for X in inputs]
    barrier = threading.Barrier(8)
    wrong = []

    def work(X, A):
        barrier.wait(300)
        for _ in range(20):
            if net.predict(X).tobytes() != A.tobytes():
                wrong.append("predict")
            if not np.array_equal(net.predict_labels(X), A.argmax(axis=0)):
                wrong.append("predict_labels")

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_threads_that_go_forward_at_once_get_the_right_answers():
    net = classifier(hidden=100)
    inputs = [data(seed=seed, m=5000 + seed)[0] for seed in range(4)]
    expected = [net.forward(X) for X in inputs]
    right = []

    def work(X, A):
        right.extend(np.array_equal(net.forward(X), A) for _ in range(20))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert right == [True] * 80


def test_an_error_of_a_loss_reaches_the_thread_that_called_for_it():
    """Of two threads that evaluate at once one's loss raises, while the other's goes on."""
    X, Y = data(m=200_000)[0], np.zeros((1, 200_000))  # several blocks
    raised, over = threading.Event(), threading.Event()
    seen = {}

    def loss(A, Y):
        me = threading.current_thread().name
        if me == "raises":
            assert not raised.is_set(), "a loss that has raised isn't called on"
            raised.set()
            raise OverflowError("mine")
        assert raised.wait(300)
        return ((A - Y) ** 2).sum(axis=0), 2 * (A - Y)

    net = nk.Network([nk.Dense(1)], loss, n_x=N_X, seed=0)

    def work():
        me = threading.current_thread().name
        try:
            seen[me] = net.evaluate(X, Y).cost
        except OverflowError as error:
            seen[me] = error
        if me == "good":
            over.set()

    threads = [threading.Thread(target=work, name=name) for name in ("good", "raises")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert isinstance(seen["raises"], OverflowError)
    assert np.isfinite(seen["good"])
    assert net.evaluate(X, Y).cost == seen["good"]


def test_different_networks_fit_at_once():
    X, Y = data(m=200)
    expected = [classifier(seed=seed, dropout=0.3) for seed in range(4)]
    nets = [classifier(seed=seed, dropout=0.3) for seed in range(4)]
    for net in expected:
        net.fit(X, Y, epochs=5)
    threads = [threading.Thread(target=net.fit, args=(X, Y), kwargs={"epochs": 5}) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    for net, other in zip(nets, expected, strict=True):
        assert_same_network(net, other)


# ---- divergence ----


def test_divergence_in_the_first_epoch_gives_the_initial_weights_back():
    """x = 1, y = 0, w = 1: the first batch costs 1/2, then w = 1 - 1e200 and the second costs Inf."""
    net = neuron(w=1.0, b=0.25)
    with pytest.raises(nk.DivergenceError) as caught:
        net.fit(np.ones((1, 3)), np.zeros((1, 3)), epochs=3, batch_size=1, optimizer=nk.SGD(1e200))
    assert isinstance(caught.value, ValueError)
    assert (caught.value.epoch, caught.value.batch) == (0, 1)
    assert caught.value.last_cost == 0.5 * 1.25**2
    assert (net.parameters["W1"], net.parameters["b1"]) == (1.0, 0.25)
    net.fit(np.ones((1, 3)), np.zeros((1, 3)), epochs=3)


ROADS = {
    "arrays": lambda X, Y: {"X": X, "Y": Y, "batch_size": 4, "shuffle": False},
    "arrays, shuffled": lambda X, Y: {"X": X, "Y": Y, "batch_size": 4},
    "with callback": lambda X, Y: {"X": X, "Y": Y, "batch_size": 4, "callbacks": lambda *_: None},
    "full batch": lambda X, Y: {"X": X, "Y": Y, "batch_size": None},
    "iterable": lambda X, Y: {"X": [(X[:, i : i + 4], Y[:, i : i + 4]) for i in range(0, X.shape[1], 4)]},
}


@pytest.mark.parametrize("road", ROADS.values(), ids=list(ROADS))
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_divergence_later_gives_the_last_good_epoch_back(road, optimizer):
    X, _ = data()
    Y = X[:2] + 1
    options = road(X, Y)

    def rate(spoilt_at):
        return lambda epoch: 1e200 if epoch == spoilt_at else 0.05

    nets = [nk.Network([nk.Dense(4, "relu"), nk.Dense(2)], "squared_error", dtype="float64", seed=0) for _ in range(2)]
    make = getattr(nk, optimizer)
    nets[0].fit(**options, epochs=3, optimizer=make(rate(None)))
    with pytest.raises(nk.DivergenceError) as caught:
        nets[1].fit(**options, epochs=20, optimizer=make(rate(3)))
    full = options.get("batch_size", 4) is None
    # one batch an epoch: the cost of epoch 3 is still good, that of epoch 4 isn't
    assert caught.value.epoch == (4 if full else 3)
    assert caught.value.batch == (0 if full else 1)
    assert np.isfinite(caught.value.last_cost)
    for word in (caught.value.epoch, caught.value.batch):
        assert str(word) in str(caught.value)
    if full:
        assert all(np.isfinite(a).all() for a in nets[1].parameters.values())
    else:
        assert_same_network(nets[1], nets[0])


@pytest.mark.parametrize("given", [([[1e3]], [[0.0]]), ([([[1e3]], [[0.0]])],)], ids=["arrays", "iterable"])
def test_divergence_of_weights_at_the_end_of_an_epoch(given):
    """The cost of the only batch is finite, the step after it is not."""
    net = neuron(w=1.0)
    with pytest.raises(nk.DivergenceError) as caught:
        net.fit(*given, epochs=1, optimizer=nk.SGD(1e306))
    assert caught.value.epoch == 0
    assert caught.value.last_cost == 5e5
    assert (net.parameters["W1"], net.parameters["b1"]) == (1.0, 0.0)


def test_divergence_of_partial_fit_leaves_the_weights():
    net = neuron(w=1e200)
    with pytest.raises(nk.DivergenceError) as caught:
        net.partial_fit([[1e3]], [[0.0]])
    assert "last good" not in str(caught.value)
    assert (net.parameters["W1"], net.parameters["b1"]) == (1e200, 0.0)


def test_divergence_from_weights_that_were_not_finite_before():
    net = neuron(w=np.nan)
    with pytest.raises(nk.DivergenceError) as caught:
        net.fit([[1.0]], [[0.0]], epochs=2)
    assert (caught.value.epoch, caught.value.batch) == (0, 0)
    assert np.isnan(caught.value.last_cost)
    assert "no cost was finite before" in str(caught.value)
    assert "nan" not in str(caught.value)


def test_divergence_error_pickles():
    error = pickle.loads(pickle.dumps(nk.DivergenceError(3, 4, 0.5, False)))
    assert (error.epoch, error.batch, error.last_cost, error.undone) == (3, 4, 0.5, False)


@pytest.mark.parametrize("road", ROADS.values(), ids=list(ROADS))
@pytest.mark.parametrize("optimizer", GOES_ON.values(), ids=list(GOES_ON))
def test_a_failed_epoch_is_undone_for_whoever_goes_on(road, optimizer):
    """Weights, the optimizer's state and all counts: resumed, the training has the bits of one that never failed."""
    X, _ = data()
    options = road(X, X[:2] + 1) | {"optimizer": optimizer}
    batches = 1 if options.get("batch_size", 4) is None else 3
    calls = itertools.count()
    fails_at = 3 * batches + batches // 2

    def loss(A, Y):
        if next(calls) == fails_at:
            raise InterruptedError
        return ((A - Y) ** 2).sum(axis=0) / 2, A - Y

    layers = [nk.Dense(4, "tanh", dropout=0.3), nk.Dense(2)]
    net, whole = (nk.Network(layers, loss, dtype="float64", seed=0) for _ in range(2))
    with pytest.raises(InterruptedError):
        net.fit(**options, epochs=5)
    net.fit(**options, epochs=2, resume=True)
    whole.fit(**options, epochs=5)
    assert_same_network(net, whole)
    assert of(net).progress() == of(whole).progress()
    for vector, other in zip(of(net).engine.state()[1:], of(whole).engine.state()[1:], strict=True):
        assert np.array_equal(vector, other)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("optimizer", [nk.Adam(), nk.SGD(0.1)], ids=["the same", "another"])
@pytest.mark.parametrize("how", ["loss", "rate", "batch", "callback", "step", "partial_fit"])
def test_what_fails_before_its_first_epoch_leaves_the_training_before_it(how, optimizer, resume):
    X, _ = data()
    Y = X[:2] + 1
    fails = False

    def loss(A, Y):
        if fails:
            raise InterruptedError
        return ((A - Y) ** 2).sum(axis=0) / 2, A - Y

    def rate(epoch):
        raise InterruptedError

    def batches():
        yield X, Y
        raise InterruptedError

    class Callback(nk.callbacks.Callback):
        def on_fit_begin(self, net):
            raise InterruptedError

    net, other = (nk.Network([nk.Dense(4, "tanh", dropout=0.3), nk.Dense(2)], loss, seed=0) for _ in range(2))
    for each in (net, other):
        each.fit(X, Y, epochs=3, batch_size=4, optimizer=nk.Adam())
    fails = how in ("loss", "partial_fit")
    options = {"epochs": 1, "resume": resume, "optimizer": optimizer}
    spoilt = type(optimizer)(rate)
    gradients = {f"d{name}": 0 * a for name, a in net.parameters.items()}
    calls = {
        "loss": lambda: net.fit(X, Y, **options),
        "rate": lambda: net.fit(X, Y, **options | {"optimizer": spoilt}),
        "batch": lambda: net.fit(batches(), **options),
        "callback": lambda: net.fit(X, Y, **options, callbacks=Callback()),
        "step": lambda: net.step(gradients, spoilt),
        "partial_fit": lambda: net.partial_fit(X, Y, optimizer=optimizer),
    }
    with pytest.raises(InterruptedError):
        calls[how]()
    fails = False
    for each in (net, other):
        each.fit(X, Y, epochs=2, batch_size=4, resume=True)
    assert_same_network(net, other)
    assert of(net).progress() == of(other).progress()
    assert net.optimizer == other.optimizer == nk.Adam()


# ---- Ctrl-C ----

INTERRUPTED = """
    import numpy as np
    import nnkern as nk

    def make():
        hidden = [nk.Dense(units, "relu", dropout=0.2) for _ in range(depth)]
        return nk.Network([*hidden, nk.Dense(4, "softmax")], "cross_entropy", n_x=100, seed=0)

    def fit(net, m, epochs, callbacks):
        how = dict(batch_size=batch_size, optimizer=nk.Adam(), callbacks=callbacks, threads=2)
        net.fit(X[:, :m], Y[:m], epochs=epochs, **how)

    {settings}
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(100, m)).astype("float32"), rng.integers(0, 4, m)
    # a tenth of the work: of its examples where it is one epoch, of its epochs where it is a hundred
    part, epochs = (m // 10, 1) if first_epoch else (m, 10)
    whole = 10 * processor_time(lambda: fit(make(), part, epochs, callbacks))
    net = make()
    interruptible(lambda: fit(net, m, 10**6, callbacks), whole)
    assert all(np.isfinite(a).all() for a in net.parameters.values())
    found = [0] if net == make() else []

    def look(other, epoch, history):
        if other == net:
            found.append(epoch + 1)
        return found

    if not found:
        fit(make(), m, 100, look)
    print("epoch", found[0] if found else None, flush=True)
    net.fit(X[:, :10], Y[:10], epochs=1)
"""
# The work is a hundred short epochs, or one that is long. The last is one batch: it is noticed between blocks or never.
LENGTHS = {
    "many short epochs": ("m, units, depth, batch_size, callbacks = 4000, 64, 1, 64, ()", False),
    "with callback": ("m, units, depth, batch_size, callbacks = 4000, 64, 1, 64, [lambda *_: None]", False),
    "a long epoch": ("m, units, depth, batch_size, callbacks = 50_000, 3000, 1, 64, ()", True),
    "a long full batch": ("m, units, depth, batch_size, callbacks = 20_000, 1500, 4, None, ()", True),
}


@linux
@pytest.mark.no_sanitizer
@pytest.mark.parametrize(("settings", "first_epoch"), LENGTHS.values(), ids=list(LENGTHS))
def test_ctrl_c_is_noticed_and_leaves_the_last_whole_epoch(settings, first_epoch):
    code = INTERRUPTED.replace("{settings}", f"{settings}; first_epoch = {first_epoch}")
    further, out = interrupt(code, after=0.2)
    # of the whole work; unnoticed, all that is left of it is done, 0.8. On a busy machine each share takes longer.
    assert further < 0.4, "Ctrl-C is noticed soon"
    epoch = out.split()[-1]
    assert epoch == "0" if first_epoch else int(epoch) > 0


@linux
@pytest.mark.no_sanitizer
@pytest.mark.parametrize("callbacks", ["()", "[lambda *_: None]"], ids=["none", "with callback"])
def test_memory_does_not_grow_with_the_epochs_asked_for(callbacks):
    """ "As many as there is time for": 10⁹ epochs until Ctrl-C, with 1 GiB of address space."""
    code = f"""
        import _thread, resource, threading
        import numpy as np
        import nnkern as nk
        net = nk.Network([nk.Dense(4, "softmax")], "cross_entropy", n_x=3, seed=0)
        X, Y = np.ones((3, 100)), np.zeros(100, int)
        net.fit(X, Y, epochs=1)
        with open("/proc/self/statm") as statm:
            now = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**30, now + 2**30))
        try:
            threading.Timer(0.3, _thread.interrupt_main).start()
            net.fit(X, Y, epochs=10**9, callbacks={callbacks})
        except KeyboardInterrupt:
            print("interrupted")
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "interrupted\n", done.stderr


# ---- leaks ----


@pytest.fixture
def bag():
    """What the calls below use."""
    bag = SimpleNamespace(net=classifier(dropout=0.2))
    bag.X, bag.Y = data()
    bag.bad = np.where(bag.X[0, 0] == bag.X, np.nan, bag.X)
    bag.w, bag.out, bag.adam = np.ones(M), np.empty((N_Y, M), order="F"), nk.Adam()
    return bag


def loop(bag):
    bag.net.forward(bag.X, training=True)
    bag.net.step(bag.net.backward(bag.Y), bag.adam)


# name -> (call, how many: fewer of what takes long)
REPEATED = {
    "fit": (lambda b: b.net.fit(b.X, b.Y, sample_weight=b.w, epochs=1, batch_size=4, optimizer=b.adam), 10_000),
    "fit with callback": (lambda b: b.net.fit(b.X, b.Y, epochs=1, callbacks=lambda *_: None), 10_000),
    "partial_fit": (lambda b: b.net.partial_fit(b.X, b.Y, optimizer=b.adam), 10_000),
    "loop": (loop, 10_000),
    "predict": (lambda b: b.net.predict(b.X), 10_000),
    "predict into out": (lambda b: b.net.predict(b.X, out=b.out), 10_000),
    "evaluate": (lambda b: b.net.evaluate(b.X, b.Y, sample_weight=b.w), 10_000),
    "pickle": (lambda b: pickle.loads(pickle.dumps(b.net)), 2000),
    "fit, refused": (lambda b: fails(b.net.fit, b.bad, b.Y), 10_000),
    "fit, diverges": (lambda b: fails(b.net.fit, b.X, b.Y, epochs=2, optimizer=nk.SGD(1e308)), 10_000),
    "predict, refused": (lambda b: fails(b.net.predict, b.X[:2]), 10_000),
    "evaluate, refused": (lambda b: fails(b.net.evaluate, b.X, b.Y[:-1]), 10_000),
    "network, refused": (lambda b: fails(classifier, hidden=-1), 10_000),
}


@pytest.mark.no_sanitizer
@pytest.mark.parametrize(("call", "calls"), REPEATED.values(), ids=list(REPEATED))
def test_no_leaks(bag, call, calls):
    assert_no_leaks(lambda: call(bag), list(vars(bag).values()), calls)


def test_ctrl_c_while_the_beginning_of_an_epoch_is_noted_rolls_nothing_back():
    """What is noted isn't whole then, and nothing has changed."""

    def keep():
        raise KeyboardInterrupt

    runner = object.__new__(runners.PartsRunner)
    runner.state = types.SimpleNamespace(engine=types.SimpleNamespace(keep=keep))  # which has no rollback
    outcome = runner.outcome(None)
    assert isinstance(outcome.failure, KeyboardInterrupt)
    assert not outcome.costs
