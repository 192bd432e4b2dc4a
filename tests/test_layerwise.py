"""Freezing layers, what each layer puts out, and the seed that was drawn."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest

import nnkern as nk
from nnkern.state import of

X = np.random.default_rng(0).normal(size=(3, 40))
LABELS = (X[0] > 0).astype(int) + (X[1] > 0)


def network(**options):
    layers = [nk.Scale(), nk.Dense(5, "tanh", dropout=0.2), nk.Dense(4, "relu"), nk.Dense(3, "softmax")]
    return nk.Network(layers, "cross_entropy", **{"n_x": 3, "seed": 0, "dtype": "float64", **options})


def trainable(net):
    return [layer.trainable for layer in net.layers]


def bits(net):
    return {name: a.tobytes() for name, a in net.parameters.items()}


def test_numbers_and_kinds_of_layers():
    net = network()
    for which, frozen in (
        ((1,), [1]),
        ((2, 4), [2, 4]),
        ((-1,), [4]),
        ((-4, -2), [1, 3]),
        (("dense",), [2, 3, 4]),
        (("scale", 3), [1, 3]),
        (range(1, 4), [1, 2, 3]),
        ((), [1, 2, 3, 4]),
    ):
        assert net.freeze(*which) is net
        assert trainable(net) == [l not in frozen for l in range(1, 5)]
        assert net.unfreeze(*which) is net
        assert trainable(net) == [True] * 4
    assert trainable(net.freeze().unfreeze(-1)) == [False, False, False, True]
    # all else of the layers is as it was
    assert net.unfreeze().layers == network().layers


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (0, "layers are numbered from 1 to 4, or from -4 to -1; got 0"),
        (5, "layers are numbered from 1 to 4, or from -4 to -1; got 5"),
        (-5, "layers are numbered from 1 to 4, or from -4 to -1; got -5"),
        (1.0, "layers are numbered from 1 to 4, or from -4 to -1; got 1.0"),
        (True, "layers are numbered from 1 to 4, or from -4 to -1; got True"),
        ([1, 2], "got [1, 2]: give each by itself, as in freeze(1, 2)"),
        ("W1", "given by their numbers, from 1 to 4, or by a kind: dense, scale, encode; got 'W1'"),
        ("encode", "there is no layer of kind 'encode': they are scale, dense, dense, dense"),
    ],
)
def test_layers_that_there_are_not(bad, words):
    net = network()
    for call in (net.freeze, net.unfreeze):
        with pytest.raises(ValueError, match=re.escape(words)):
            call(1, bad)
    assert trainable(net) == [True] * 4


@pytest.mark.parametrize("optimizer", [nk.SGD(0.1, momentum=0.9), nk.Adam(0.01)], ids=["sgd", "adam"])
def test_a_frozen_network_trains_as_one_that_was_made_so(optimizer):
    made = [replace(layer, trainable=l > 1) for l, layer in enumerate(network().layers)]
    expected = nk.Network(made, "cross_entropy", n_x=3, seed=0, dtype="float64")
    net = network().freeze(1, 2)
    assert net == expected
    history, known = (one.fit(X, LABELS, epochs=3, optimizer=optimizer)["cost"] for one in (net, expected))
    assert history == known
    assert bits(net) == bits(expected)
    first = network().parameters
    assert all((net.parameters[name] == first[name]).all() for name in ("s1", "W2", "b2"))
    assert not (net.parameters["W3"] == first["W3"]).all()
    assert sorted(net.gradients(X, LABELS).grads) == ["dW3", "dW4", "db3", "db4"]


def test_all_else_stays_when_layers_are_frozen_amid_a_training():
    """The optimizer's state, counts and random streams: as in a network that is made of the same plain data."""
    net = network()
    net.fit(X, LABELS, epochs=3, optimizer=nk.Adam(0.01))
    model = net.to_model(training_state=True)
    model.layers = tuple(replace(layer, trainable=l > 1) for l, layer in enumerate(model.layers))
    expected = nk.Network.from_model(model)
    net.freeze(1, 2)
    assert of(net).progress() == of(expected).progress()
    for _ in range(2):
        for one in (net, expected):
            one.fit(X, LABELS, epochs=2, resume=True)
        assert bits(net) == bits(expected)
        net.unfreeze()
        expected = copy.deepcopy(net)
    assert trainable(nk.Network.from_config(network().freeze(2).config())) == [True, False, True, True]


def test_freezing_before_there_are_parameters():
    net = network(n_x=None).freeze(2)
    net.fit(X, LABELS, epochs=1)
    np.testing.assert_array_equal(net.parameters["W2"], network().parameters["W2"])


def test_what_nothing_may_go_on_beside():
    net = network()

    def amid(net, epoch, history):
        with pytest.raises(RuntimeError, match="being trained already"):
            net.freeze(1)

    net.fit(X, LABELS, epochs=1, callbacks=amid)
    assert trainable(net) == [True] * 4
    with pytest.raises(
        ValueError, match=r"no layer is trainable.*: unfreeze\(\) lets all learn, unfreeze\(-1\) the last"
    ):
        net.freeze().fit(X, LABELS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_are_those_of_the_equations(dtype):
    net = network(dtype=dtype)
    p = {name: a.astype(np.float64) for name, a in net.parameters.items()}
    A = [p["s1"] * X]
    A.append(np.tanh(p["W2"] @ A[-1] + p["b2"]))
    A.append(np.maximum(p["W3"] @ A[-1] + p["b3"], 0))
    Z = np.exp(p["W4"] @ A[-1] + p["b4"])
    A.append(Z / Z.sum(axis=0))
    found = net.activations(X)
    assert [a.shape for a in found] == [(3, 40), (5, 40), (4, 40), (3, 40)]
    for one, known in zip(found, A, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, known, rtol=0, atol=50 * np.finfo(dtype).eps)
    np.testing.assert_allclose(found[-1], net.predict(X), rtol=0, atol=50 * np.finfo(dtype).eps)
    with pytest.raises(nk.NotFittedError):
        network(n_x=None).activations(X)
    with pytest.raises(ValueError, match="X has 40 features, the network expects 3"):
        net.activations(X.T)


# ---- the seed that was drawn ----


def test_a_seed_that_was_drawn_is_told_and_gives_the_same_bits():
    net = network(seed=None)
    drawn = net.seed
    assert isinstance(drawn, int)
    assert network(seed=None).seed != drawn
    assert net.config()["seed"] is None  # a network made of it draws its own
    again = network(seed=drawn)
    assert bits(again) == bits(net)
    for one in (net, again):
        one.fit(X, LABELS, epochs=2)
    assert bits(again) == bits(net)
    assert net.freeze(1).seed == copy.deepcopy(net).seed == drawn
    net.initialize(3)
    assert net.seed != drawn
    assert bits(network(seed=net.seed)) == bits(net)
    assert network(seed=7).seed == 7
    without = network(seed=None, n_x=None)
    seed = without.seed
    without.fit(X, LABELS, epochs=1)
    assert without.seed == seed


def test_no_seed_is_told_of_weights_that_came_from_elsewhere(tmp_path):
    net = network(seed=None)
    net.save(tmp_path / "net.npz")
    assert nk.load(tmp_path / "net.npz").seed is None
    net.save(tmp_path / "net.npz", training_state=True)
    assert nk.load(tmp_path / "net.npz").seed == net.seed
    loaded = nk.load(tmp_path / "net.npz").initialize(3)
    assert bits(network(seed=loaded.seed)) == bits(loaded)
