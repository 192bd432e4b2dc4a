"""Factors on the learning rate of parameters, and weights that learn in another unit, against equations in float64."""

import pickle

import numpy as np
import pytest
import reference as ref
from test_golden import OPTIMIZERS, copies

import nnkern as nk
from nnkern.state import of

STEPS, M = 10, 16
UNITS, ACTIVATIONS = (4, 5, 6, 2), ("tanh", "selu", "linear")
L2 = 0.05

HOW = {
    "ntk": [{"ntk": True}] * 3,
    "one layer ntk": [{}, {"ntk": True}, {}],
    "rates": [{"rate": 0.25, "bias_rate": 3.0}, {"bias_rate": 0.1}, {"rate": 2.0}],
    "both": [{"ntk": True, "bias_rate": 0.1}, {"ntk": True, "rate": 0.5}, {"rate": 0.0}],
}


def network(how, *, dtype="float64", l2=L2, seed=1, **options):
    layers = [
        nk.Dense(n, name, **more, **options) for n, name, more in zip(UNITS[1:], ACTIVATIONS, HOW[how], strict=True)
    ]
    return nk.Network(layers, "squared_error", n_x=UNITS[0], l2=l2, dtype=dtype, seed=seed)


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((UNITS[0], M)), rng.standard_normal((UNITS[-1], M))


class ByHand:
    """The same network as W' = c W and b, each moved by a plain optimizer of its own, whose rate has the factor."""

    def __init__(self, net, how, optimizer):
        kind, options = OPTIMIZERS[optimizer]
        plain = getattr(ref, kind)(**options).learning_rate
        self.held, self.c, self.optimizers = {}, {}, {}
        for l, (layer, n_prev) in enumerate(zip(HOW[how], UNITS, strict=False), start=1):
            for name, factor in (("W", layer.get("rate", 1)), ("b", layer.get("bias_rate", 1))):
                key = f"{name}{l}"
                self.c[key] = n_prev**0.5 if name == "W" and layer.get("ntk") else 1.0
                self.held[key] = self.c[key] * net.parameters[key]
                self.optimizers[key] = getattr(ref, kind)(**options | {"learning_rate": plain * factor})

    @property
    def parameters(self):
        return {name: array / self.c[name] for name, array in self.held.items()}

    def step(self, X, Y):
        """One step; J before it."""
        parameters = self.parameters
        cost = ref.network_cost(X, Y, parameters, ACTIVATIONS, "squared_error", L2)
        gradients = ref.network_backward(X, Y, parameters, ACTIVATIONS, "squared_error", L2)
        for name, optimizer in self.optimizers.items():
            optimizer.step({name: self.held[name]}, {"d" + name: gradients["d" + name] / self.c[name]})
        return cost


def by_fit(net, X, Y, optimizer):
    return net.fit(X, Y, epochs=STEPS, batch_size=None, optimizer=optimizer)["cost"]


def by_partial_fit(net, X, Y, optimizer):
    return [net.partial_fit(X, Y, optimizer=optimizer) for _ in range(STEPS)]


def by_step(net, X, Y, optimizer):
    costs = []
    for _ in range(STEPS):
        costs.append(net.evaluate(X, Y).cost + of(net).engine.penalty())
        net.forward(X, training=True)
        net.step(net.backward(Y), optimizer)
    return costs


@pytest.mark.parametrize("way", [by_fit, by_partial_fit, by_step])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ten_steps_are_those_of_the_plain_optimizer_on_what_is_held(optimizer, how, way):
    """Penalty and decoupled decay included; the decay is relative, so that it doesn't depend on the unit."""
    kind, options = OPTIMIZERS[optimizer]
    net, (X, Y) = network(how), data()
    start, by_hand = copies(net.parameters), ByHand(net, how, optimizer)
    expected = [by_hand.step(X, Y) for _ in range(STEPS)]
    np.testing.assert_allclose(way(net, X, Y, getattr(nk, kind)(**options)), expected, rtol=1e-12)
    for name, array in by_hand.parameters.items():
        np.testing.assert_allclose(net.parameters[name], array, rtol=1e-12, atol=1e-12 * np.abs(array).max())
        moves = by_hand.optimizers[name].learning_rate > 0
        assert (np.abs(array - start[name]).max() > 1e-4) == moves, name


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if "default" not in name])
def test_mini_batches_in_float32(optimizer):
    """The updates that go along with the products of small batches have the same factors."""
    kind, options = OPTIMIZERS[optimizer]
    net, (X, Y) = network("both", dtype="float32"), data()
    by_hand = ByHand(net, "both", optimizer)
    net.fit(X, Y, epochs=2, batch_size=4, shuffle=False, optimizer=getattr(nk, kind)(**options))
    for _ in range(2):
        for first in range(0, M, 4):
            by_hand.step(X[:, first : first + 4], Y[:, first : first + 4])
    for name, array in by_hand.parameters.items():
        np.testing.assert_allclose(net.parameters[name], array, atol=4e-5 * np.abs(array).max())


def test_a_rate_of_scale():
    rng = np.random.default_rng(1)
    net = nk.Network([nk.Scale(rate=6.0), nk.Dense(2)], "squared_error", n_x=3, dtype="float64", seed=0)
    X, Y = rng.standard_normal((3, M)), rng.standard_normal((2, M))
    for _ in range(3):
        before = copies(net.parameters)
        net.forward(X)
        gradients = net.backward(Y)
        net.partial_fit(X, Y, optimizer=nk.SGD(0.01))
        for name, factor in (("s1", 6.0), ("W2", 1.0), ("b2", 1.0)):
            expected = before[name] - 0.01 * factor * gradients["d" + name]
            np.testing.assert_allclose(net.parameters[name], expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("optimizer", ["SGD", "SGD, momentum", "SGD, Nesterov", "AdamW", "RMSprop", "Adagrad"])
def test_what_has_a_rate_of_0_keeps_its_bits(optimizer, dtype):
    """It is no frozen layer: its gradients are there, and b beside it learns."""
    kind, options = OPTIMIZERS[optimizer]
    layers = [nk.Dense(5, "tanh", rate=0), nk.Scale(rate=0), nk.Dense(2, bias_rate=0)]
    net = nk.Network(layers, "squared_error", n_x=4, dtype=dtype.name, l2=0.1, seed=0)
    X, Y = data()
    start = copies(net.parameters)
    net.fit(X, Y, epochs=3, batch_size=5, optimizer=getattr(nk, kind)(**options))
    stayed = {name for name, array in start.items() if (net.parameters[name] == array).all()}
    assert stayed == {"W1", "s2", "b3"}
    net.forward(X)
    assert set(net.backward(Y)) == {"dW1", "db1", "ds2", "dW3", "db3"}


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_powers_of_two_give_the_same_bits(kind, dtype):
    """For 16 inputs ntk is a rate of 1/16 or, with ε times 4, of 1/4; a rate is as good as the optimizer's own."""
    rng = np.random.default_rng(0)
    X, Y, W = rng.standard_normal((16, M)), rng.standard_normal((3, M)), rng.standard_normal((3, 16))
    rate, factor, eps = (0.5, 1 / 16, {}) if kind == "SGD" else (0.125, 1 / 4, {"eps": 2.0**-20})
    held = {"eps": 4 * eps["eps"]} if eps else {}
    ways = [
        ({"ntk": True}, getattr(nk, kind)(rate, **eps)),
        ({"rate": factor}, getattr(nk, kind)(rate, **held)),
        ({}, getattr(nk, kind)(rate * factor, **held)),
    ]
    nets = []
    for layer, optimizer in ways:
        layers = [nk.Dense(3, use_bias=False, init=W, **layer)]
        nets.append(nk.Network(layers, "squared_error", n_x=16, dtype=dtype.name))
        nets[-1].fit(X, Y, epochs=5, batch_size=8, shuffle=False, optimizer=optimizer)
    for net in nets[1:]:
        np.testing.assert_array_equal(net.parameters["W1"], nets[0].parameters["W1"])


def test_initial_weights():
    """Of ntk they are N(0, 1/n_prev); what `init` says comes first."""
    W = [
        nk.Network([nk.Dense(7, "relu", **how)], "squared_error", n_x=50, seed=3).parameters["W1"]
        for how in ({"ntk": True}, {"init": "lecun_normal"}, {"ntk": True, "init": "he_normal"}, {"init": "he_normal"})
    ]
    np.testing.assert_array_equal(W[0], W[1])
    np.testing.assert_array_equal(W[2], W[3])


def test_same_bits_for_any_number_of_threads_and_in_fit_many():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((30, 5000)), rng.standard_normal((2, 5000))

    def made():
        layers = [nk.Scale(rate=6), nk.Dense(256, "selu", ntk=True, bias_rate=0.1), nk.Dense(2, ntk=True)]
        return nk.Network(layers, "squared_error", seed=0)

    how = {"epochs": 1, "batch_size": 256, "optimizer": nk.AdamW(0.01)}
    nets = [made() for _ in range(3)]
    for net, threads in zip(nets, (1, 2, 5), strict=True):
        net.fit(X, Y, threads=threads, **how)
    many = [made(), made()]
    nk.fit_many(many, X, Y, **how)
    assert nets[0] == nets[1] == nets[2] == many[0] == many[1]


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_they_are_kept(suffix, tmp_path):
    """In files and pickles, and a resumed training goes by them."""
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    layers = [nk.Scale(rate=6), nk.Dense(5, "tanh", rate=0.5, bias_rate=0.1, ntk=True), nk.Dense(2)]
    net = nk.Network(layers, "squared_error", dtype="float64", seed=0)
    X, Y = data()
    net.fit(X, Y, epochs=2, optimizer=nk.AdamW(0.01))
    net.save(tmp_path / f"net.{suffix}", training_state=True)
    others = [nk.load(tmp_path / f"net.{suffix}"), pickle.loads(pickle.dumps(net))]
    for one in (net, *others):
        assert one.layers == tuple(layers)
        one.fit(X, Y, epochs=2, resume=True)
    assert net == others[0] == others[1]


def test_a_layer_without_them_is_described_as_before():
    """So that its files are what they were."""
    assert "rate" not in nk.Dense(2).to_dict()
    assert nk.Scale().to_dict() == {"kind": "scale", "trainable": True}
    assert repr(nk.Dense(2)).endswith("negative_slope=0.01)")
    assert repr(nk.Scale(rate=6)) == "Scale(trainable=True, rate=6.0)"
    assert set(nk.Dense(2, rate=0.5, ntk=True).to_dict()) == {*nk.Dense(2).to_dict(), "rate", "ntk"}
    for one in (nk.Dense(2, rate=2), nk.Dense(2, bias_rate=2), nk.Dense(2, ntk=True)):
        assert one != nk.Dense(2)
        assert nk.layers.from_dict(one.to_dict()) == one
    assert nk.Scale(rate=2) != nk.Scale()


@pytest.mark.parametrize("bad", [-1, np.nan, np.inf, "1", None, True])
@pytest.mark.parametrize("name", ["rate", "bias_rate"])
def test_refused_rates(name, bad):
    with pytest.raises(ValueError, match=f"^{name} must be .*finite and >= 0; got {bad!r}"):
        nk.Dense(2, **{name: bad})
    if name == "rate":
        with pytest.raises(ValueError, match=r"^rate must be .*finite and >= 0"):
            nk.Scale(rate=bad)


def test_ntk_is_a_flag():
    with pytest.raises(ValueError, match=r"^ntk must be True or False; got 1"):
        nk.Dense(2, ntk=1)


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if "default" not in name])
def test_rates_are_torch_s_parameter_groups(optimizer):
    torch = pytest.importorskip("torch", reason="torch is an optional second opinion")
    from test_golden import torch_optimizer

    kind, options = OPTIMIZERS[optimizer]
    net, (X, Y) = network("rates"), data()
    theta = {name: torch.tensor(np.array(a), requires_grad=True) for name, a in net.parameters.items()}
    torchs = torch_optimizer(torch, optimizer, theta)
    for group, name in zip(torchs.param_groups, theta, strict=True):
        group["lr"] *= HOW["rates"][int(name[1:]) - 1].get("rate" if name[0] == "W" else "bias_rate", 1)
    for _ in range(STEPS):
        torchs.zero_grad()
        ref.torch_cost(X, Y, theta, ACTIVATIONS, "squared_error", L2).backward()
        torchs.step()
        net.partial_fit(X, Y, optimizer=getattr(nk, kind)(**options))
    for name, leaf in theta.items():
        np.testing.assert_allclose(net.parameters[name], leaf.detach().numpy(), rtol=1e-10, atol=1e-10)
