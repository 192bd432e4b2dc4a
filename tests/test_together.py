"""Training by several ranks, each a thread of this process here, with a barrier for a communicator."""

import signal
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import nnkern as nk
from nnkern import ranks as ranks_
from nnkern import shards as shards_
from nnkern import together as together_
from nnkern.state import of

TOLERANCE = 1e-12  # of float64, relative


class Group:
    """Threads that sum arrays: each waits until all have handed theirs in."""

    def __init__(self, size):
        self.size, self.barrier = size, threading.Barrier(size, timeout=30)
        self.given, self.calls = [None] * size, 0

    def __call__(self, work):
        """What work(communicator) returns or raises, for each rank."""
        results = [None] * self.size

        def run(rank):
            try:
                results[rank] = work(Member(self, rank))
            except BaseException as error:
                results[rank] = error

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads), "a rank waits for ever"
        return results


class Member:
    """The methods of a communicator that nnkern needs, and no others."""

    def __init__(self, group, rank):
        self._group, self._rank = group, rank

    def Get_rank(self):
        return self._rank

    def Get_size(self):
        return self._group.size

    def Allreduce(self, sendbuf, recvbuf):
        group = self._group
        group.given[self._rank] = sendbuf
        if group.barrier.wait() == 0:
            group.calls += 1
        recvbuf[:] = 0
        for one in group.given:
            recvbuf += one
        group.barrier.wait()


def results(group, work):
    """What each rank returns; the first error is raised."""
    found = group(work)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def examples(m, classes=0, seed=0, n_x=5):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_x, m))
    if classes:
        return X, np.argmax(rng.standard_normal((classes, n_x)) @ X, axis=0)
    return X, np.sin(X.sum(axis=0, keepdims=True)) + X[:2].sum(axis=0)


def shards(sizes, *arrays):
    """Each rank's (X, Y, …): the columns of each array one after the other."""
    ends = np.cumsum(sizes)
    return [tuple(a[..., end - m : end] for a in arrays) for m, end in zip(sizes, ends, strict=True)]


def steps_of(sizes, batch_size):
    """The examples of each step of an epoch, as their places in the concatenated data: by the definition."""
    starts, total = np.cumsum([0, *sizes[:-1]]), sum(sizes)
    steps = -(-total // batch_size)
    return [
        np.concatenate(
            [np.arange(at + m * k // steps, at + m * (k + 1) // steps) for at, m in zip(starts, sizes, strict=True)]
        )
        for k in range(steps)
    ]


def network(loss="squared_error", n_y=1, seed=0, dropout=0.0, dtype="float64", **more):
    output = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}.get(loss, "linear")
    layers = [nk.Dense(7, "tanh", dropout=dropout), nk.Dense(6, "relu"), nk.Dense(n_y, output)]
    return nk.Network(layers, loss, seed=seed, dtype=dtype, **more)


def assert_close(net, other, tolerance=TOLERANCE):
    for name, array in other.parameters.items():
        assert np.abs(net.parameters[name] - array).max() <= tolerance * np.abs(array).max(), name


def same_bits(nets):
    return all(
        net.parameters[name].tobytes() == array.tobytes() for net in nets for name, array in nets[0].parameters.items()
    )


def together(sizes, arrays, make=network, **how):
    """The networks and histories of ranks that train on the shards of those sizes."""

    def work(comm):
        net = make(seed=comm.Get_rank())
        X, Y, *w = shards(sizes, *arrays)[comm.Get_rank()]
        history = net.fit(X, Y, shuffle=False, comm=comm, **({"sample_weight": w[0]} if w else {}), **how)
        return net, history

    return map(list, zip(*results(Group(len(sizes)), work), strict=True))


def alone(sizes, arrays, batch_size, make=network, **how):
    """The network and history of one process, with the same batches."""
    X, *rest = arrays
    batches = [tuple(a[..., picked] for a in (X, *rest)) for picked in steps_of(sizes, batch_size)]
    net = make(seed=0)
    return net, net.fit(batches, **how)


SHARDS = [(60,), (30, 30), (41, 19), (33, 0), (17, 25, 18), (0, 25, 1)]


@pytest.mark.parametrize("sizes", SHARDS, ids=str)
@pytest.mark.parametrize("optimizer", [nk.SGD(0.05, momentum=0.9), nk.Adam(0.01)], ids=["sgd", "adam"])
def test_ranks_train_to_what_one_process_does(sizes, optimizer):
    data = examples(sum(sizes))
    nets, histories = together(sizes, data, epochs=10, batch_size=16, optimizer=optimizer)
    one, history = alone(sizes, data, 16, epochs=10, optimizer=optimizer)
    assert same_bits(nets)
    assert_close(nets[0], one)
    for own in histories:
        assert own["cost"] == histories[0]["cost"]
        np.testing.assert_allclose(own["cost"], history["cost"], rtol=TOLERANCE)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "absolute_error", "poisson"])
def test_any_loss(loss):
    sizes, classes = (19, 24), {"cross_entropy": 3, "binary_cross_entropy": 2}.get(loss, 0)
    X, Y = examples(sum(sizes), classes)
    Y = np.abs(Y) if not classes else Y

    def make(seed):
        layers = [
            nk.Dense(7, "tanh"),
            nk.Dense(
                3 if classes == 3 else 1,
                {"poisson": "exp"}.get(loss) or ("softmax" if classes == 3 else "sigmoid" if classes else "linear"),
            ),
        ]
        return nk.Network(layers, loss, seed=seed, dtype="float64")

    nets, _ = together(sizes, (X, Y), make, epochs=4, batch_size=10)
    assert_close(nets[0], alone(sizes, (X, Y), 10, make, epochs=4)[0])


def test_dropout_masks_are_those_of_the_whole_batch():
    sizes, data = (17, 25, 18), examples(60)

    def make(seed):
        return network(seed=seed, dropout=0.4)

    nets, _ = together(sizes, data, make, epochs=5, batch_size=20, optimizer="adam")
    assert_close(nets[0], alone(sizes, data, 20, make, epochs=5, optimizer="adam")[0])


@pytest.mark.parametrize("scale", [1.0, 1e-25], ids=["plain", "tiny"])
def test_weights_count_over_all_ranks(scale):
    sizes = (17, 25, 18)
    w = np.random.default_rng(3).exponential(size=60)
    w[:17] *= w[:17] > 0.5
    w[17:42] = 0  # a rank whose examples all count nothing
    data = (*examples(60), scale * w)
    nets, histories = together(sizes, data, epochs=6, batch_size=20, optimizer="adam")
    one, history = alone(sizes, data, 20, epochs=6, optimizer="adam")
    assert_close(nets[0], one)
    np.testing.assert_allclose(histories[0]["cost"], history["cost"], rtol=TOLERANCE)


def test_a_rank_without_weights_has_ones():
    sizes, (X, Y) = (20, 20), examples(40)
    w = np.random.default_rng(3).exponential(size=20)

    def work(comm):
        net, rank = network(), comm.Get_rank()
        net.fit(
            *shards(sizes, X, Y)[rank],
            shuffle=False,
            epochs=3,
            batch_size=10,
            sample_weight=None if rank else w,
            comm=comm,
        )
        return net

    one, _ = alone(sizes, (X, Y, np.concatenate([w, np.ones(20)])), 10, epochs=3)
    assert_close(results(Group(2), work)[0], one)


def test_class_weights_are_those_of_the_labels():
    sizes, data = (22, 18), examples(40, 3)

    def make(seed):
        return network("cross_entropy", 3, seed)

    how = {"epochs": 4, "class_weight": {0: 2.0, 2: 0.5}}
    nets, _ = together(sizes, data, make, batch_size=10, **how)
    assert_close(nets[0], alone(sizes, data, 10, make, **how)[0])


@pytest.mark.parametrize(
    "clipping", [{"clip_norm": 0.05}, {"clip_value": 0.01}, {"clip_norm": 0.05, "clip_value": 0.01}], ids=str
)
def test_the_gradient_of_all_is_clipped(clipping):
    sizes, data = (31, 9), examples(40)
    how = {"epochs": 4, "optimizer": nk.SGD(0.5, **clipping)}
    nets, _ = together(sizes, data, batch_size=10, **how)
    assert_close(nets[0], alone(sizes, data, 10, **how)[0])


def test_penalties_schedules_and_frozen_layers():
    sizes, data = (23, 17), examples(40)

    def make(seed):
        layers = [nk.Dense(7, "tanh", trainable=False), nk.Dense(6, "relu"), nk.Dense(1)]
        return nk.Network(layers, "squared_error", seed=seed, dtype="float64", l2=0.01, l1=0.001)

    how = {"epochs": 5, "optimizer": nk.AdamW(nk.schedules.ByStep(0.02, "cosine"), weight_decay=0.1)}
    nets, histories = together(sizes, data, make, batch_size=10, **how)
    one, history = alone(sizes, data, 10, make, **how)
    assert_close(nets[0], one)
    assert histories[1]["learning_rate"] == history["learning_rate"]


def test_initial_values_that_depend_on_examples_come_from_a_rank_that_has_some():
    data = examples(30)

    def make(seed):
        return nk.Network([nk.Dense(4, "tanh", init="unit_variance"), nk.Dense(1)], "squared_error", seed=seed)

    nets, _ = together((0, 30), data, make, epochs=1, optimizer=nk.SGD(1e-9))
    assert same_bits(nets)
    Z = nets[0].parameters["W1"] @ data[0]
    np.testing.assert_allclose(Z.std(axis=1), 1, rtol=1e-5)


def test_float32_and_bfloat16():
    sizes, data = (40, 24), examples(64)
    for more, tolerance in (({}, 1e-4), ({"compute": "bfloat16"}, 0.05)):

        def make(seed, more=more):
            return network(seed=seed, dtype="float32", **more)

        nets, _ = together(sizes, data, make, epochs=5, batch_size=16)
        assert same_bits(nets)
        assert_close(nets[0], alone(sizes, data, 16, make, epochs=5)[0], tolerance)


def test_the_same_bits_twice_and_with_any_number_of_threads():
    data = examples(60)
    found = [together((35, 25), data, epochs=3, batch_size=16, threads=threads) for threads in (None, 1, 2)]
    assert same_bits([net for nets, _ in found for net in nets])


def test_shuffled_shards_are_each_in_an_order_of_their_own():
    sizes, (X, _) = (12, 12), examples(24)
    seen = {0: [], 1: []}

    def work(comm):
        rank = comm.Get_rank()

        def loss(A, Y):
            seen[rank].append(Y.copy())
            return ((A - Y) ** 2).sum(axis=0), 2 * (A - Y)

        net = nk.Network([nk.Dense(3, "tanh"), nk.Dense(1)], loss, seed=0, dtype="float64")
        net.fit(*shards(sizes, X, np.tile(np.arange(12.0), 2)[None])[rank], epochs=2, batch_size=6, comm=comm)
        return net

    results(Group(2), work)
    orders = {rank: np.concatenate(batches, axis=1).reshape(2, 12) for rank, batches in seen.items()}
    for order in orders.values():
        assert (np.sort(order, axis=1) == np.arange(12)).all()
        assert not np.array_equal(order[0], order[1])
    assert not np.array_equal(orders[0], orders[1])


# ---- held-out examples, callbacks, resuming ----


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("who", [(20, 14), (34, 0), (0, 34)], ids=str)
@pytest.mark.parametrize("in_engine", [True, False])
def test_held_out_examples_of_all_ranks_choose_the_best_epoch(classes, who, in_engine):
    sizes, data, aside = (33, 27), examples(60, classes), examples(34, classes, seed=0)
    parts = shards(who, *aside)

    def make(seed):
        return network("cross_entropy", 3, seed) if classes else network(seed=seed)

    def stopping():
        best = nk.EarlyStopping(3, monitor="val_cost")
        return best, [best] if in_engine else [best, lambda net, epoch, history: None]

    def work(comm):
        net, rank, (best, callbacks) = make(comm.Get_rank()), comm.Get_rank(), stopping()
        held_out = parts[rank] if who[rank] else None
        how = {"validation_data": held_out, "callbacks": callbacks, "optimizer": nk.Adam(0.3), "comm": comm}
        history = net.fit(*shards(sizes, *data)[rank], shuffle=False, epochs=60, batch_size=16, **how)
        return net, history, best.best_epoch

    found = results(Group(2), work)
    best, callbacks = stopping()
    how = {"validation_data": aside, "callbacks": callbacks, "optimizer": nk.Adam(0.3)}
    one, history = alone(sizes, data, 16, make, epochs=60, **how)
    assert len(history["cost"]) < 60
    assert same_bits([net for net, *_ in found])
    for net, own, best_epoch in found:
        assert best_epoch == best.best_epoch
        assert_close(net, one, 1e-9)
        for name in ("val_cost", "val_score"):
            np.testing.assert_allclose(own[name], history[name], rtol=1e-9)


def test_a_stop_asked_for_by_one_stops_all():
    sizes, data = (33, 27), examples(60)

    def work(comm):
        callbacks = [lambda net, epoch, history: epoch == 4] if comm.Get_rank() else []
        net = network()
        return net, net.fit(*shards(sizes, *data)[comm.Get_rank()], epochs=50, callbacks=callbacks, comm=comm)

    found = results(Group(2), work)
    assert [len(history["cost"]) for _, history in found] == [5, 5]
    assert same_bits([net for net, _ in found])


def test_what_only_one_rank_brings_back_all_get():
    sizes, data = (33, 27), examples(60)

    def work(comm):
        callbacks = nk.EarlyStopping(2, monitor="cost") if comm.Get_rank() == 0 else []
        net = network()
        net.fit(
            *shards(sizes, *data)[comm.Get_rank()], epochs=30, callbacks=callbacks, optimizer=nk.SGD(0.4), comm=comm
        )
        return net

    assert same_bits(results(Group(2), work))


def test_checkpoints_of_rank_0_go_on_with_the_same_bits(tmp_path):
    sizes, data = (33, 27), examples(60)
    how = {"batch_size": 16, "optimizer": nk.Adam(0.01)}

    def whole(comm):
        net = network()
        net.fit(*shards(sizes, *data)[comm.Get_rank()], epochs=8, comm=comm, **how)
        return net

    def interrupted(comm):
        rank, path = comm.Get_rank(), tmp_path / "net.npz"
        net = network()
        net.fit(
            *shards(sizes, *data)[rank], epochs=5, callbacks=[] if rank else [nk.Checkpoint(path)], comm=comm, **how
        )
        # the others begin with what rank 0 has read
        net = nk.load(path) if rank == 0 else network(seed=5)
        net.fit(*shards(sizes, *data)[rank], epochs=3, resume=True, comm=comm, **how)
        return net

    assert same_bits(results(Group(2), whole) + results(Group(2), interrupted))


def test_progress_shows_on_rank_0_and_scores_are_those_of_all(capsys):
    sizes, data = (33, 27), examples(60)
    _, histories = together(sizes, data, epochs=3, batch_size=16, progress=True)
    shown = capsys.readouterr().err
    _, history = alone(sizes, data, 16, epochs=3)
    assert shown.count("epoch") <= 4
    for own in histories:
        assert len(own["score"]) == 3
        assert own["score"] == histories[0]["score"]
        np.testing.assert_allclose(own["cost"], history["cost"], rtol=TOLERANCE)


def test_scores_of_an_epoch_of_one_step_are_those_of_evaluate():
    sizes, data = (33, 27), examples(60)

    def work(comm):
        net = network(seed=0)
        net.initialize(5)
        before = net.evaluate(*data).score
        history = net.fit(*shards(sizes, *data)[comm.Get_rank()], epochs=1, batch_size=None, progress=True, comm=comm)
        return before, history["score"][0]

    for before, score in results(Group(2), work):
        assert score == pytest.approx(before, rel=1e-9)


def test_one_rank_has_the_bits_of_one_process_where_the_batches_are_the_same():
    data = examples(64)
    nets, _ = together((64,), data, epochs=3, batch_size=16)
    one = network(seed=0)
    one.fit(*data, shuffle=False, epochs=3, batch_size=16)
    assert same_bits([*nets, one])


# ---- faults ----


def errors_of(group, work):
    found = group(work)
    assert all(isinstance(one, BaseException) for one in found), found
    return found


def test_an_error_on_one_rank_is_raised_on_all_with_the_last_whole_epoch():
    sizes, data, nets = (20, 20, 20), examples(60), {}

    def work(comm):
        rank = comm.Get_rank()
        nets[rank] = network()

        def callback(net, epoch, history):
            if rank == 1 and epoch == 3:
                raise OSError("no disk")

        nets[rank].fit(*shards(sizes, *data)[rank], epochs=9, batch_size=20, callbacks=callback, comm=comm)

    errors = errors_of(Group(3), work)
    assert isinstance(errors[1], OSError)
    for error in (errors[0], errors[2]):
        assert isinstance(error, nk.RankError)
        assert error.ranks == (1,)
        assert str(error) == "rank 1 has failed: OSError: no disk"
    assert same_bits(list(nets.values()))
    assert {of(net).epochs_done for net in nets.values()} == {4}


def test_an_error_amid_an_epoch():
    sizes, data, nets = (20, 20), examples(40), {}

    def work(comm):
        rank, calls = comm.Get_rank(), []

        def loss(A, Y):
            calls.append(1)
            if rank == 0 and len(calls) == 11:
                raise KeyError("eleven")
            return ((A - Y) ** 2).sum(axis=0), 2 * (A - Y)

        nets[rank] = nk.Network([nk.Dense(3, "tanh"), nk.Dense(1)], loss, seed=0, dtype="float64")
        nets[rank].fit(*shards(sizes, *data)[rank], epochs=9, batch_size=10, comm=comm)

    errors = errors_of(Group(2), work)
    assert isinstance(errors[0], KeyError)
    assert errors[1].ranks == (0,)
    assert same_bits(list(nets.values()))
    assert {of(net).epochs_done for net in nets.values()} == {2}


def diverged_on_rank_1(data, make=network):
    """The networks of two ranks, of which the second comes upon a target whose cost is infinite in its last step."""
    sizes, (X, Y), nets = (20, 20), data, {}
    Y[0, 37] = 1e200

    def work(comm):
        rank = comm.Get_rank()
        nets[rank] = make()
        nets[rank].fit(*shards(sizes, X, Y)[rank], shuffle=False, epochs=9, batch_size=10, comm=comm)

    for error in errors_of(Group(2), work):
        assert isinstance(error, nk.DivergenceError)
        assert (error.epoch, error.batch, error.rank) == (0, 3, 1)
        assert "epoch 0, batch 3 on rank 1" in str(error)
    return list(nets.values())


def test_a_cost_that_is_infinite_on_one_rank_is_a_divergence_of_all():
    assert same_bits(diverged_on_rank_1(examples(40)))


def test_a_divergence_of_all_names_none():
    sizes, data = (20, 20), examples(40)

    def work(comm):
        optimizer = nk.SGD(1e200)
        network().fit(*shards(sizes, *data)[comm.Get_rank()], epochs=9, batch_size=10, optimizer=optimizer, comm=comm)

    for error in errors_of(Group(2), work):
        assert isinstance(error, nk.DivergenceError)
        assert error.rank is None


@pytest.mark.parametrize("where", ["examples", "options", "monitor", "callback", "schedule", "end"])
def test_what_fails_on_one_rank_before_or_after_the_steps_fails_on_all(where):
    sizes, data = (20, 20), examples(40)

    class Failing(nk.Callback):
        def on_fit_begin(self, net):
            if where == "callback":
                raise ArithmeticError("here")

        def on_fit_end(self, net, history):
            if where == "end":
                raise ArithmeticError("here")

    def work(comm):
        (X, Y), how = shards(sizes, *data)[comm.Get_rank()], {}
        if comm.Get_rank() == 0:
            if where == "examples":
                X = np.where(X > 1, np.nan, X)
            how = {"callbacks": Failing()}
            if where == "options":
                how["epochs"] = -1
            if where == "monitor":
                how["callbacks"] = nk.EarlyStopping(monitor="val_cost")
            if where == "schedule":
                how["optimizer"] = nk.SGD(lambda epoch: 0.1 if epoch < 2 else 1 / 0)
        network().fit(X, Y, comm=comm, **{"epochs": 5, **how})

    first, other = errors_of(Group(2), work)
    assert not isinstance(first, nk.RankError)
    assert isinstance(other, nk.RankError)
    assert other.ranks == (0,)
    assert str(other) == f"rank 0 has failed: {type(first).__name__}: {first}"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda rank: {"n_x": 4 + rank},
            "X's number of features must be the same on all ranks; rank 0 has 4, rank 1 5",
        ),
        (lambda rank: {"dtype": ("float32", "float64")[rank]}, "dtype must be the same"),
        (lambda rank: {"layer": 3 + rank}, "layers must be the same"),
        (lambda rank: {"batch_size": 3 + rank}, "batch_size must be the same on all ranks; rank 0 has 3, rank 1 4"),
        (lambda rank: {"epochs": 3 + rank}, "epochs must be the same"),
        (lambda rank: {"optimizer": (nk.SGD(0.1), nk.Adam(0.1))[rank]}, "optimizer must be the same"),
    ],
    ids=["width", "dtype", "layers", "batch_size", "epochs", "optimizer"],
)
def test_ranks_that_were_asked_for_other_things_are_told(make, words):
    def work(comm):
        asked = {"n_x": 4, "dtype": "float64", "layer": 3, "batch_size": 8, "epochs": 2, "optimizer": nk.SGD(0.1)}
        asked |= make(comm.Get_rank())
        net = nk.Network([nk.Dense(asked["layer"]), nk.Dense(1)], "squared_error", dtype=asked["dtype"])
        how = {name: asked[name] for name in ("batch_size", "epochs", "optimizer")}
        net.fit(np.ones((asked["n_x"], 10)), np.ones((1, 10)), comm=comm, **how)

    for error in errors_of(Group(2), work):
        assert isinstance(error, ValueError)
        assert words in str(error)


def test_shards_that_are_all_empty_or_weigh_nothing():
    def empty(comm):
        network().fit(np.ones((4, 0)), np.ones((1, 0)), comm=comm)

    def weightless(comm):
        network().fit(np.ones((4, 3)), np.ones((1, 3)), sample_weight=np.zeros(3), comm=comm)

    for error in errors_of(Group(2), empty):
        assert "the shards of all 2 ranks have 0 examples" in str(error)
    for error in errors_of(Group(2), weightless):
        assert "give every example of all ranks the weight 0" in str(error)


def test_what_comm_does_not_go_with_is_refused():
    data = examples(20, 3)

    def asking(**how):
        def work(comm):
            network("cross_entropy", 3).fit(*data, comm=comm, validation_data=data, **how)

        return str(errors_of(Group(2), work)[0])

    assert "counts classes, of which each rank sees its own shard" in asking(class_weight="balanced")
    assert "can't be 'val_auc' with comm=" in asking(callbacks=nk.EarlyStopping(monitor="val_auc"))
    with pytest.raises(
        TypeError, match=r"comm must be a communicator of mpi4py's, .* got object, which lacks Get_rank"
    ):
        network().fit(*data, comm=object())
    with pytest.raises(ValueError, match="deadline must be finite and > 0; got 0"):
        network().fit(*data, comm=Member(Group(1), 0), deadline=0)


def test_a_step_is_one_sum():
    sizes, data, counted = (32, 32), examples(64), []
    for epochs in (1, 3):
        group = Group(2)

        def work(comm, epochs=epochs):
            network().fit(*shards(sizes, *data)[comm.Get_rank()], epochs=epochs, batch_size=16, comm=comm)

        results(group, work)
        counted.append(group.calls)
    assert counted[1] - counted[0] == 2 * 4


def test_both_ways_to_hold_out_are_refused():
    data = examples(20)

    def work(comm):
        network().fit(*data, comm=comm, validation_data=data, validation_split=0.25)

    for error in errors_of(Group(2), work):
        assert "validation_data and validation_split were both given: use one" in str(error)


# ---- a communicator that fails, and MPI's ----


class Torn(Member):
    """A communicator that fails at every call from one on; `is_first`: whether a block is what that one hands in."""

    def __init__(self, group, rank, is_first):
        super().__init__(group, rank)
        self._is_first, self.calls = is_first, 0

    def Allreduce(self, sendbuf, recvbuf):
        if self.calls or self._is_first(sendbuf):
            self.calls += 1
            raise ConnectionError(f"call {self.calls} without a connection")
        super().Allreduce(sendbuf, recvbuf)


def test_a_sum_that_fails_is_raised_where_it_was_asked_for():
    asking = ranks_.Ranks(Torn(Group(2), 0, lambda block: True), 10)
    for call in (1, 2):
        with pytest.raises(ConnectionError, match=f"^call {call} without a connection$"):
            asking.sum([1.0])


def test_a_step_whose_sum_fails_ends_the_training_without_another_meeting():
    data = examples(40)
    members, nets = {}, {}

    def work(comm):
        rank = comm.Get_rank()
        # only the blocks of gradients are of float32: what is told beside them is in float64
        members[rank] = Torn(comm._group, rank, lambda block: block.dtype == np.float32 and steps(rank))
        nets[rank] = network(dtype="float32")
        nets[rank].fit(*shards((20, 20), *data)[rank], epochs=9, batch_size=10, comm=members[rank])

    seen = {0: 0, 1: 0}

    def steps(rank):
        seen[rank] += 1
        return seen[rank] == 8

    for error in errors_of(Group(2), work):
        assert isinstance(error, ConnectionError)
        assert str(error) == "call 1 without a connection"
    assert [member.calls for member in members.values()] == [1, 1]


def test_what_fails_before_the_steps_begin_is_raised_without_another_meeting(monkeypatch):
    """Where it fails on one rank only, the others are in a step, and would take a meeting for it."""
    group, data, calls = Group(2), examples(40), []

    def failing(jobs, threads):
        group.barrier.wait()
        calls.append(group.calls)
        raise MemoryError("no memory to begin")

    monkeypatch.setattr(together_._engine, "train_together", failing)

    def work(comm):
        network().fit(*shards((20, 20), *data)[comm.Get_rank()], epochs=9, batch_size=10, comm=comm)

    for error in errors_of(group, work):
        assert str(error) == "no memory to begin"
    assert calls == [group.calls] * 2


class MPI:
    """Of mpi4py.MPI, what is asked of a communicator before it is used."""

    class Comm:
        inter = False

        @staticmethod
        def Create_keyval(nopython):
            return 7

        def Is_inter(self):
            return self.inter

        def Get_rank(self):
            return 0

        def Get_size(self):
            return 3

        def Get_attr(self, key):
            return None

        def Allreduce(self, sendbuf, recvbuf):
            raise AssertionError("nothing is summed here")

        def Idup(self):
            """A duplicate that is never made, as where another rank doesn't ask for it."""
            asked = []

            def test():
                asked.append(1)
                assert len(asked) < 5000, "it is waited for beyond the deadline"
                return False

            return None, SimpleNamespace(Test=test)


@pytest.fixture
def mpi(monkeypatch):
    """That in place of mpi4py, whose keys and end are those of this test."""
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", MPI)
    monkeypatch.setattr(ranks_, "_keys", {})
    at_exit = []
    monkeypatch.setattr(ranks_.atexit, "register", lambda *call: at_exit.append(call))
    return at_exit


def test_communicators_between_two_groups_are_refused(mpi):
    comm = MPI.Comm()
    comm.inter = True
    with pytest.raises(TypeError, match=r"^comm must be an intracommunicator: its processes train with each other$"):
        network().fit(*examples(20), comm=comm)
    assert not mpi


def test_ranks_that_do_not_all_begin_are_told_by_the_deadline(mpi):
    with pytest.raises(nk.RankError, match=r"not all of 3 ranks have called fit within 0\.05 s") as caught:
        network().fit(*examples(20), comm=MPI.Comm(), deadline=0.05)
    assert caught.value.ranks == ()
    # MPI can't be ended in good order any more
    assert [function.__name__ for function, *_ in mpi] == ["_abort"]


# ---- examples in rows, metrics ----


@pytest.mark.parametrize("classes", [0, 3])
def test_examples_in_rows(classes):
    sizes, (X, Y) = (23, 0, 17), examples(40, classes)
    aside = examples(20, classes, seed=0)

    def fit(comm, rows):
        net, rank = network("cross_entropy", 3) if classes else network(), comm.Get_rank()
        own = (*shards(sizes, X, Y)[rank], *shards((12, 0, 8), *aside)[rank])
        own = [a.T.copy() if rows else a for a in own]
        held_out = tuple(own[2:]) if (12, 0, 8)[rank] else None
        how = {"epochs": 4, "batch_size": 10, "validation_data": held_out, "comm": comm, "rows": rows}
        return net, net.fit(*own[:2], **how)

    found, expected = (results(Group(3), lambda comm, rows=rows: fit(comm, rows)) for rows in (True, False))
    assert same_bits([found[0][0], found[1][0], found[2][0]])
    assert_close(found[0][0], expected[0][0])
    for (_, own), (_, other) in zip(found, expected, strict=True):
        np.testing.assert_allclose(own["val_cost"], other["val_cost"], rtol=TOLERANCE)


def test_batches_in_rows_whose_examples_have_more_dimensions():
    X, Y = examples(24, 3, n_x=6)

    def fit(comm, rows):
        net, rank = network("cross_entropy", 3), comm.Get_rank()
        own = [(X[:, k : k + 4], Y[k : k + 4]) for k in range(4 * rank, 24, 8)]
        if rows:
            own = [(a.T.reshape(4, 2, 3).copy(), b) for a, b in own]
        net.initialize(6)
        net.fit(own, epochs=3, comm=comm, rows=rows)
        return net

    found, expected = (results(Group(2), lambda comm, rows=rows: fit(comm, rows)) for rows in (True, False))
    assert same_bits(found)
    assert_close(found[1], expected[1])


@pytest.mark.parametrize("watched", [False, True])
def test_the_error_rate_is_that_of_all_held_out_examples(watched):
    sizes, data, aside = (23, 17), examples(40, 3), examples(30, 3, seed=0)

    def work(comm):
        net, rank = network("cross_entropy", 3), comm.Get_rank()
        callbacks = [lambda net, epoch, history: None] if watched and rank else []
        how = {"validation_data": shards((21, 9), *aside)[rank], "metrics": "val_error", "callbacks": callbacks}
        history = net.fit(*shards(sizes, *data)[rank], epochs=5, batch_size=10, comm=comm, **how)
        assert history["val_score"][-1] == net.evaluate(*aside).score
        return history

    for history in results(Group(2), work):
        assert history["val_error"] == [1 - score for score in history["val_score"]]
        assert len(history["val_error"]) == 5


def test_metrics_that_need_all_outputs_are_refused():
    data = examples(20, 3)

    def mean(targets, outputs):
        return 0.0

    mean.__name__ = "mean_cost"
    for metrics, said in (("val_auc", "'val_auc'"), ([mean], "the function mean_cost")):

        def work(comm, metrics=metrics):
            network("cross_entropy", 3).fit(*data, comm=comm, validation_data=data, metrics=metrics)

        for error in errors_of(Group(2), work):
            assert f"monitor can't be {said} with comm=" in str(error)


# ---- signals, whose handlers run in the main thread ----


def test_ctrl_c_after_the_last_meeting_is_raised_at_the_end():
    asking, done = ranks_.Ranks(Member(Group(2), 0), 10), []

    def train():
        with asking.together():
            signal.raise_signal(signal.SIGINT)
            done.append("what comes after it")

    with pytest.raises(KeyboardInterrupt):
        train()
    assert done == ["what comes after it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("where", ["callback", "sum", "reading", "between"])
def test_ctrl_c_is_told_to_all_wherever_it_comes(where, monkeypatch):
    group, data, nets, errors = Group(2), examples(40), [network(), network()], []
    calls = []

    def interrupt(number):
        calls.append(number)
        if len(calls) == number:
            signal.raise_signal(signal.SIGINT)

    class Interrupted(Member):
        def Allreduce(self, sendbuf, recvbuf):
            if where == "sum":
                interrupt(60)
            super().Allreduce(sendbuf, recvbuf)

    class Batches(list):
        def __iter__(self):
            for batch in super().__iter__():
                if where == "reading":
                    interrupt(11)
                yield batch

    class Callback(nk.Callback):
        def on_epoch_end(self, net, epoch, history):
            if where == "callback":
                interrupt(3)

    if where == "between":
        step = shards_.BatchRunner.note

        def note(self, result):
            step(self, result)
            if self.ranks.rank == 0:
                interrupt(11)

        monkeypatch.setattr(shards_.BatchRunner, "note", note)

    def fit(rank, comm):
        X, Y = shards((20, 20), *data)[rank]
        form = ([(X[:, k : k + 5], Y[:, k : k + 5]) for k in range(0, 20, 5)],)
        nets[rank].initialize(5)
        form = (Batches(*form) if rank == 0 else form[0],) if where in ("reading", "between") else (X, Y)
        nets[rank].fit(*form, epochs=10**4, batch_size=10, comm=comm, callbacks=Callback() if rank == 0 else [])

    def other():
        try:
            fit(1, Member(group, 1))
        except nk.RankError as error:
            errors.append(error)

    before, thread = signal.getsignal(signal.SIGINT), threading.Thread(target=other)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        fit(0, Interrupted(group, 0))
    thread.join(60)
    assert signal.getsignal(signal.SIGINT) is before
    (error,) = errors
    assert str(error) == "rank 0 has failed: KeyboardInterrupt"
    assert same_bits(nets)
    assert of(nets[0]).epochs_done == of(nets[1]).epochs_done
    assert where == "sum" or of(nets[0]).epochs_done in (2, 3)
