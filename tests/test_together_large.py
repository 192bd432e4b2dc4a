"""Ranks that train together where gradients are so large that each is summed and applied by itself, as it is computed.

Ranks are threads, as in test_together.py, whose oracle is used: one process with the same batches.
"""

import numpy as np
import pytest
from test_together import (
    TOLERANCE,
    Group,
    Torn,
    alone,
    assert_close,
    diverged_on_rank_1,
    errors_of,
    results,
    same_bits,
    shards,
    together,
)

import nnkern as nk
from nnkern.state import of

N_X, UNITS = 1030, 1024  # W1 and W2 have more than 2**20 entries, and W1 more columns than are summed at a time
SUMS = 6  # of a step: the costs, two of W1 and one of W2, b1, and what is behind W2


def examples(m, n_x=N_X):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_x, m)) / n_x**0.5
    return X, np.sin(5 * X[:3].sum(axis=0, keepdims=True))


def network(seed=0, dtype="float64", output=None, **more):
    layers = [nk.Dense(UNITS, "tanh"), nk.Dense(N_X, "relu", dropout=0.1), output or nk.Dense(1)]
    return nk.Network(layers, "squared_error", seed=seed, dtype=dtype, **more)


def calls_of(sizes, epochs, make=network, **how):
    """How often ranks have met in so many epochs."""
    group = Group(len(sizes))

    def work(comm):
        net = make()
        net.fit(*shards(sizes, *examples(sum(sizes)))[comm.Get_rank()], epochs=epochs, comm=comm, **how)

    results(group, work)
    return group.calls


@pytest.mark.parametrize("sizes", [(20, 20), (29, 11), (12, 16, 10), (33, 0), (2, 40)], ids=str)
@pytest.mark.parametrize("optimizer", [nk.SGD(0.05), nk.Adam(0.001)], ids=["sgd", "adam"])
def test_ranks_train_to_what_one_process_does(sizes, optimizer):
    data = examples(sum(sizes))
    how = {"epochs": 2, "batch_size": 16, "optimizer": optimizer}
    nets, histories = together(sizes, data, network, **how)
    one, history = alone(sizes, data, 16, network, epochs=2, optimizer=optimizer)
    assert same_bits(nets)
    assert_close(nets[0], one)
    for own in histories:
        assert own["cost"] == histories[0]["cost"]
        np.testing.assert_allclose(own["cost"], history["cost"], rtol=TOLERANCE)


def test_a_step_is_a_sum_for_each_large_gradient():
    # once more, which is the second sum of an epoch in both, an epoch with and one without them
    large, small = (
        calls_of((32, 32), 3, make, batch_size=16) - calls_of((32, 32), 1, make, batch_size=16)
        for make in (network, lambda: nk.Network([nk.Dense(7, "tanh"), nk.Dense(1)], "squared_error", seed=0))
    )
    assert large - small == 2 * 4 * (SUMS - 1)


@pytest.mark.parametrize(
    ("more", "how"),
    [
        ({"l2": 0.1}, {}),
        ({}, {"optimizer": nk.AdamW(0.001, weight_decay=0.1)}),
        ({}, {"optimizer": nk.Adam(nk.schedules.Cosine(0.001, 3))}),
        ({}, {"optimizer": nk.SGD(0.1, clip_norm=0.01)}),
    ],
    ids=["l2", "weight decay", "schedule", "clipping"],
)
def test_penalties_schedules_and_clipping(more, how):
    sizes, data = (25, 15), examples(40)

    def make(seed):
        return network(seed, **more)

    nets, histories = together(sizes, data, make, epochs=3, batch_size=10, **how)
    one, history = alone(sizes, data, 10, make, epochs=3, **how)
    assert same_bits(nets)
    assert_close(nets[0], one)
    np.testing.assert_allclose(histories[0]["cost"], history["cost"], rtol=TOLERANCE)


@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_layers(frozen):
    sizes, data = (25, 15), examples(40)

    def make(seed):
        net = network(seed)
        net.freeze(frozen + 1)
        return net

    nets, _ = together(sizes, data, make, epochs=2, batch_size=10)
    assert same_bits(nets)
    assert_close(nets[0], alone(sizes, data, 10, make, epochs=2)[0])


def test_columns_that_codes_pick_are_summed_with_the_rest():
    sizes, (X, Y) = (25, 15), examples(40)
    X = np.concatenate((X, np.random.default_rng(1).integers(0, 3, (2, 40))))

    def make(seed):
        features = [*(nk.Numeric(i) for i in range(N_X)), nk.OneHot(N_X, 3), nk.OneHot(N_X + 1, 3)]
        layers = [nk.Encode(features), nk.Dense(UNITS, "tanh"), nk.Dense(1)]
        return nk.Network(layers, "squared_error", seed=seed, dtype="float64")

    nets, _ = together(sizes, (X, Y), make, epochs=2, batch_size=10)
    assert same_bits(nets)
    assert_close(nets[0], alone(sizes, (X, Y), 10, make, epochs=2)[0])


def test_float32_and_bfloat16():
    sizes, data = (40, 24), examples(64)
    for more, tolerance in (({}, 1e-4), ({"compute": "bfloat16"}, 0.05)):

        def make(seed, more=more):
            return network(seed, "float32", **more)

        nets, _ = together(sizes, data, make, epochs=3, batch_size=16)
        assert same_bits(nets)
        assert_close(nets[0], alone(sizes, data, 16, make, epochs=3)[0], tolerance)


def test_the_same_bits_twice_and_with_any_number_of_threads():
    data = examples(40)
    found = [together((25, 15), data, network, epochs=2, batch_size=10, threads=threads) for threads in (1, 1, 2)]
    assert same_bits([net for nets, _ in found for net in nets])


def test_a_cost_that_is_infinite_on_one_rank_is_a_divergence_of_all():
    begun = network()
    begun.initialize(N_X)
    assert same_bits([begun, *diverged_on_rank_1(examples(40), network)])


@pytest.mark.parametrize("number", range(SUMS - 1))
def test_a_sum_that_fails_amid_a_step_leaves_the_last_whole_epoch(number):
    sizes, data, nets, steps = (20, 20), examples(40), {}, 4
    seen = {0: 0, 1: 0}

    def is_first(rank, block):
        # of float32 are gradients, and before them the parameters that all begin with
        gradient = block.dtype == np.float32 and block.size <= UNITS * N_X
        seen[rank] += gradient
        return gradient and seen[rank] == 1 + steps * (SUMS - 1) + number

    def work(comm):
        rank = comm.Get_rank()
        torn = Torn(comm._group, rank, lambda block: is_first(rank, block))
        nets[rank] = network(dtype="float32")
        nets[rank].fit(*shards(sizes, *data)[rank], epochs=9, batch_size=10, comm=torn, shuffle=False)

    for error in errors_of(Group(2), work):
        assert isinstance(error, ConnectionError)
    assert {of(net).epochs_done for net in nets.values()} == {1}
    assert same_bits(list(nets.values()))
    whole, _ = together(sizes, data, lambda seed: network(dtype="float32"), epochs=1, batch_size=10)
    assert same_bits([whole[0], nets[0]])
