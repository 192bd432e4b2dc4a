"""fit(drop_last=True): the last, smaller batch of an epoch is left out."""

import re

import numpy as np
import pytest

import nnkern as nk
from nnkern import _engine, sources
from nnkern.state import of

M, B, USED = 23, 5, 20
OUTPUTS = {"cross_entropy": "softmax", "squared_error": "linear"}
rng = np.random.default_rng(0)
X, Y, LABELS, WEIGHTS = rng.standard_normal((4, M)), rng.standard_normal((3, M)), np.arange(M) % 3, rng.uniform(1, 2, M)


def network(loss="squared_error", **options):
    layers = [nk.Dense(6, "tanh", dropout=0.2), nk.Dense(3, OUTPUTS[loss])]
    return nk.Network(layers, loss, dtype="float64", seed=1, **options)


def targets(loss):
    return LABELS if loss == "cross_entropy" else Y


def without_seconds(history):
    return {name: values for name, values in history.items() if name != "seconds"}


@pytest.fixture(params=["memory", "mapped"])
def where(request, monkeypatch, tmp_path):
    """Arrays as they are, or from files that are read batch by batch."""
    if request.param == "memory":
        return lambda array: array
    monkeypatch.setattr(sources, "IN_MEMORY", -1)

    def mapped(array):
        # of another dtype, so that batches are converted when their turn comes
        file = tmp_path / f"{array.shape}{array.dtype}.npy"
        np.save(file, array.astype("float32"))
        return np.load(file, mmap_mode="r")

    return mapped


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("loss", OUTPUTS)
def test_in_their_own_order_it_is_the_training_of_those_in_whole_batches(loss, weights, capsys):
    nets, targets_ = [network(loss) for _ in range(2)], targets(loss)
    how = {"epochs": 3, "batch_size": B, "shuffle": False, "progress": True}
    w = None if weights is None else weights[:USED]
    history = nets[0].fit(X, targets_, drop_last=True, sample_weight=weights, **how)
    expected = nets[1].fit(X[:, :USED], targets_[..., :USED], sample_weight=w, **how)
    np.testing.assert_allclose(history.pop("score"), expected.pop("score"), rtol=1e-13)
    assert without_seconds(history) == without_seconds(expected)
    assert nets[0] == nets[1]


def test_with_shuffling_others_are_left_out_each_epoch():
    """Those in the epoch's order from the last whole batch on; a loss that notes what it is given sees it."""
    seen = []

    def loss(A, Y):
        seen.append(Y[0].astype(int).tolist())
        return (A - Y)[0] ** 2 / 2, A - Y

    net = nk.Network([nk.Dense(1)], loss, dtype="float64", seed=1)
    net.fit(X, np.arange(M, dtype=float)[None, :], epochs=4, batch_size=B, drop_last=True)
    assert [len(batch) for batch in seen] == [B] * 4 * (USED // B)
    epochs = np.reshape(seen, (4, USED))
    for epoch, used in enumerate(epochs):
        np.testing.assert_array_equal(used, _engine.shuffled_order(M, of(net).engine.key, epoch)[:USED])
    left_out = [set(range(M)) - set(used) for used in epochs.tolist()]
    assert all(len(those) == M - USED for those in left_out)
    assert len(set(map(frozenset, left_out))) > 1


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("loss", OUTPUTS)
def test_cost_and_score_are_of_what_was_trained(loss, weights, where, capsys):
    """At a learning rate that changes nothing they are those of the epoch's examples."""
    net = nk.Network([nk.Dense(3, OUTPUTS[loss])], loss, n_x=4, dtype="float64", seed=1)
    X_, Y_ = where(X), targets(loss) if loss == "cross_entropy" else where(Y)
    how = {"batch_size": B, "drop_last": True, "progress": True, "sample_weight": weights}
    history = net.fit(X_, Y_, epochs=3, optimizer=nk.SGD(1e-300), **how)
    for epoch in range(3):
        used = _engine.shuffled_order(M, of(net).engine.key, epoch)[:USED]
        w = None if weights is None else weights[used]
        cost, score = net.evaluate(X_[:, used], Y_[..., used], sample_weight=w)
        assert history["cost"][epoch] == pytest.approx(cost, rel=1e-12)
        assert history["score"][epoch] == pytest.approx(score, rel=1e-12)


def test_a_score_where_what_was_trained_counts_nothing(capsys):
    weights = np.where(np.arange(M) < USED, 0.0, 1.0)
    for loss in OUTPUTS:
        how = {"batch_size": B, "shuffle": False, "progress": True, "epochs": 1}
        history = network(loss).fit(X, targets(loss), drop_last=True, sample_weight=weights, **how)
        assert history["cost"] == [0.0]
        assert np.isnan(history["score"]).all()


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("split", [0.0, 0.3])
def test_arrays_in_files_give_the_bits_of_those_in_memory(shuffle, split, monkeypatch, tmp_path):
    nets, arrays = [network() for _ in range(2)], []
    for name, array in (("X", X), ("Y", Y)):
        np.save(tmp_path / f"{name}.npy", array.astype("float32"))
        arrays.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    how = {"epochs": 3, "batch_size": B, "shuffle": shuffle, "drop_last": True, "validation_split": split}
    histories = [nets[0].fit(*(np.array(array) for array in arrays), **how)]
    monkeypatch.setattr(sources, "IN_MEMORY", -1)
    histories.append(nets[1].fit(*arrays, **how))
    assert nets[0] == nets[1]
    np.testing.assert_allclose(histories[0]["cost"], histories[1]["cost"], rtol=1e-14)


def test_resumed_beside_others_and_for_any_number_of_threads():
    how = {"batch_size": B, "drop_last": True, "optimizer": nk.Adam()}
    nets = [network() for _ in range(4)]
    nets[0].fit(X, Y, epochs=6, **how)
    nets[1].fit(X, Y, epochs=2, threads=2, **how)
    nets[1].fit(X, Y, epochs=4, resume=True, **how)
    nk.fit_many(nets[2:], X, Y, epochs=6, **how)
    assert nets[0] == nets[1] == nets[2] == nets[3]


@pytest.mark.parametrize("batch_size", [None, M, 1])
def test_where_nothing_is_left_out_nothing_changes(batch_size):
    nets = [network() for _ in range(2)]
    for net, drop_last in zip(nets, (False, True), strict=True):
        net.fit(X, Y, epochs=2, batch_size=batch_size, drop_last=drop_last)
    assert nets[0] == nets[1]


def test_refusals():
    net = network()
    said = f"drop_last=True leaves nothing of {M} examples in batches of {M + 1}: take a batch_size of at most {M}"
    with pytest.raises(ValueError, match=re.escape(said)):
        net.fit(X, Y, batch_size=M + 1, drop_last=True)
    with pytest.raises(ValueError, match=re.escape(said)):
        nk.fit_many([net], X, Y, batch_size=M + 1, drop_last=True)
    with pytest.raises(ValueError, match=r"leaves nothing of 11 examples"):
        net.fit(X, Y, batch_size=20, validation_split=0.5, drop_last=True)
    with pytest.raises(ValueError, match=r"drop_last=True is for arrays"):
        net.fit([(X, Y)], drop_last=True)
    with pytest.raises(ValueError, match=r"drop_last must be True or False; got 1"):
        net.fit(X, Y, drop_last=1)
    assert net.n_x is None
