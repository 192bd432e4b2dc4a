"""Training by several ranks, each a thread, with what the engine can't take whole: batches, maps of another dtype."""

import numpy as np
import pytest
from test_together import (
    TOLERANCE,
    Group,
    Member,
    assert_close,
    errors_of,
    examples,
    network,
    results,
    same_bits,
    shards,
)

import nnkern as nk
from nnkern import shards as shards_
from nnkern import sources
from nnkern.state import of

# examples in each batch of each rank
BATCHES = [([9, 7, 4],), ([9, 7, 4], [5, 8, 6]), ([3, 3], [8, 1, 2, 5]), ([4, 4], []), ([2], [4, 3], [1, 1, 1])]


class Counted(list):
    """Batches that count how often they are gone through."""


def dealt(counts, *arrays):
    """(batches of each rank, the step's batches of all): the arrays' columns, step by step, rank by rank."""
    own, whole, at = [Counted() for _ in counts], [], 0
    for step in range(max(map(len, counts))):
        first = at
        for rank, sizes in enumerate(counts):
            if step < len(sizes):
                own[rank].append(tuple(a[..., at : at + sizes[step]] for a in arrays))
                at += sizes[step]
        whole.append(tuple(a[..., first:at] for a in arrays))
    return own, whole


def fit_batches(counts, arrays, make=network, **how):
    own, whole = dealt(counts, *arrays)

    def work(comm):
        net = make(seed=comm.Get_rank())
        net.initialize(len(arrays[0]))
        return net, net.fit(own[comm.Get_rank()], comm=comm, **how)

    found = results(Group(len(counts)), work)
    one = make(seed=0)
    return found, (one, one.fit(whole, **how))


@pytest.mark.parametrize("counts", BATCHES, ids=str)
@pytest.mark.parametrize("optimizer", [nk.SGD(0.05, momentum=0.9), nk.Adam(0.01)], ids=["sgd", "adam"])
@pytest.mark.parametrize("weighted", [False, True])
def test_batches_of_all_ranks_train_as_one(counts, optimizer, weighted):
    m = sum(map(sum, counts))
    data = examples(m)
    if weighted:
        w = np.random.default_rng(3).exponential(size=m)
        w[:4] = 0
        data = (*data, w)
    found, (one, history) = fit_batches(counts, data, epochs=6, optimizer=optimizer)
    assert same_bits([net for net, _ in found])
    assert_close(found[0][0], one)
    for net, own in found:
        np.testing.assert_allclose(own["cost"], history["cost"], rtol=TOLERANCE)
        assert of(net).epochs_done == 6
        assert of(net).engine.step == of(one).engine.step


def test_validation_schedules_and_clipping_with_batches():
    aside = examples(30, seed=0)
    rate = nk.schedules.ByStep(0.02, "cosine")
    how = {"optimizer": nk.Adam(rate, clip_norm=0.1), "validation_data": aside, "epochs": 5}
    counts = ([9, 7, 4], [5, 8])
    own, whole = dealt(counts, *examples(33))

    def work(comm):
        net, rank = network(seed=3), comm.Get_rank()
        net.initialize(5)
        more = how | {"validation_data": tuple(a[..., rank::2] for a in aside)}
        return net, net.fit(own[rank], comm=comm, **more)

    found = results(Group(2), work)
    one = network(seed=3)
    history = one.fit(whole, **how)
    assert_close(found[0][0], one)
    for name in ("cost", "val_cost", "val_score", "learning_rate"):
        np.testing.assert_allclose(found[1][1][name], history[name], rtol=1e-9)


def test_dropout_of_ranks_with_batches_is_independent():
    """Nobody knows an example's place among all of a step: each rank has masks of its own, the same in each run."""

    def make(seed):
        return nk.Network([nk.Dense(400, "linear", dropout=0.5), nk.Dense(1)], "squared_error", seed=seed)

    X = np.ones((5, 2))
    masks = {}

    def work(comm):
        rank, net = comm.Get_rank(), make(0)
        seen = []

        def loss(A, Y):
            seen.append(A.copy())
            return ((A - Y) ** 2).sum(axis=0), 2 * (A - Y)

        net = nk.Network([nk.Dense(400, "linear", dropout=0.5), nk.Dense(1)], loss, seed=0, n_x=5)
        net.fit([(X, np.zeros((1, 2)))], epochs=1, comm=comm)
        masks.setdefault(rank, []).append(seen[0])
        return net

    nets = results(Group(2), work) + results(Group(2), work)
    assert same_bits(nets)
    for first, again in masks.values():
        assert first.tobytes() == again.tobytes()
        assert first[0, 0] != first[0, 1]
    assert not set(masks[0][0].ravel().tolist()) & set(masks[1][0].ravel().tolist())


def test_a_step_of_batches_is_one_sum_and_an_epoch_has_one_more():
    counted = []
    for steps in (3, 8):
        own, _ = dealt(([4] * steps, [3] * steps), *examples(7 * steps))
        group = Group(2)

        def work(comm, own=own):
            network().initialize(5).fit(own[comm.Get_rank()], epochs=1, comm=comm)

        results(group, work)
        counted.append(group.calls)
    assert counted[1] - counted[0] == 5


def test_iterables_that_give_no_batch():
    def work(comm):
        network().initialize(5).fit([], epochs=1, comm=comm)

    for error in errors_of(Group(2), work):
        assert isinstance(error, ValueError)
        assert str(error) == "the iterables of all ranks gave no batch"


@pytest.mark.parametrize("step", [0, 2, 3])
@pytest.mark.parametrize("error", [OSError("no disk"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_an_iterable_that_fails_on_one_rank_is_told_to_all(step, error):
    own, _ = dealt(([4] * 3, [3] * 4), *examples(24))
    nets, gone = {}, [0, 0]

    class Failing:
        def __init__(self, rank):
            self.rank = rank

        def __iter__(self):
            gone[self.rank] += 1
            for number, batch in enumerate(own[self.rank]):
                if self.rank == 1 and gone[1] == 3 and number == step:
                    raise error
                yield batch

    def work(comm):
        rank = comm.Get_rank()
        nets[rank] = network().initialize(5)
        nets[rank].fit(Failing(rank), epochs=9, comm=comm)

    first, second = errors_of(Group(2), work)
    assert second is error
    assert isinstance(first, nk.RankError)
    assert first.ranks == (1,)
    assert same_bits(list(nets.values()))
    assert {of(net).epochs_done for net in nets.values()} == {2}


def test_a_batch_that_diverges_names_its_rank():
    own, _ = dealt(([4] * 3, [3] * 3), *examples(21))
    X, Y = own[1][2]
    own[1][2] = X, np.where(np.arange(3) == 1, 1e200, Y)

    def work(comm):
        network().initialize(5).fit(own[comm.Get_rank()], epochs=4, comm=comm)

    for error in errors_of(Group(2), work):
        assert isinstance(error, nk.DivergenceError)
        assert (error.epoch, error.batch, error.rank) == (0, 2, 1)


def test_what_batches_need_and_what_is_refused_with_them():
    batches = [tuple(examples(8))]
    one = Member(Group(1), 0)
    net = network()
    net.fit(batches, epochs=2, comm=one)
    other = network()
    other.fit(batches, epochs=2)
    assert same_bits([net, other])
    with pytest.raises(ValueError, match="the sample_weight comes inside them"):
        network().fit(batches, sample_weight=np.ones(8), comm=one)
    with pytest.raises(ValueError, match="an iterator can be gone through once, and epochs is 2"):
        network().fit(iter(batches), epochs=2, comm=one)
    with pytest.raises(TypeError, match="X must be an array"):
        network().fit(3, comm=one)
    by_step = {"optimizer": nk.SGD(nk.schedules.ByStep(0.1, "cosine")), "epochs": 2}

    class Endless:
        def __iter__(self):
            return iter(batches)

    def unknown(comm):
        network().initialize(5).fit([Endless(), batches][comm.Get_rank()], comm=comm, **by_step)

    for error in errors_of(Group(2), unknown):
        assert "give the iterable of batches of each rank a __len__" in str(error)

    def mixed(comm):
        X, Y = batches[0]
        network().fit(*([batches], [X, Y])[comm.Get_rank()], comm=comm)

    for error in errors_of(Group(2), mixed):
        assert isinstance(error, ValueError)
        assert "whether X is an iterable of batches must be the same on all ranks" in str(error)


def test_batches_beyond_the_length_that_was_said():
    class Liar(list):
        def __len__(self):
            return 1

    own, _ = dealt(([4] * 3, [3]), *examples(15))
    how = {"optimizer": nk.SGD(nk.schedules.ByStep(0.1, "cosine")), "epochs": 2}

    def work(comm):
        network().initialize(5).fit([Liar(own[0]), own[1]][comm.Get_rank()], comm=comm, **how)

    first, second = errors_of(Group(2), work)
    assert "that of rank 0 gives more" in str(first)
    assert second.ranks == (0,)


# ---- memory maps that have to be converted ----


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """A function that puts an array into a file and maps it; all maps count as large."""
    monkeypatch.setattr(sources, "IN_MEMORY", 0)

    def put(array, name, dtype):
        stored = np.memmap(tmp_path / name, dtype, "w+", shape=array.shape, order="F")
        stored[:] = array
        return np.memmap(tmp_path / name, dtype, "r", shape=array.shape, order="F")

    return put


@pytest.mark.parametrize("sizes", [(40,), (23, 17), (0, 25, 15)], ids=str)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("which", ["all", "first", "last"])
def test_maps_of_another_dtype_train_to_the_bits_of_arrays(mapped, sizes, shuffle, which):
    X, Y = examples(sum(sizes))
    X, Y = X.astype(np.float32), np.vstack([Y, -Y]).astype(np.float32)
    w = np.random.default_rng(1).exponential(size=sum(sizes))
    how = {"epochs": 4, "batch_size": 12, "shuffle": shuffle, "optimizer": "adam", "validation_split": 0.2}
    how |= {"progress": True}
    chosen = {"all": range(len(sizes)), "first": [next(r for r, m in enumerate(sizes) if m)], "last": [len(sizes) - 1]}

    def fit(comm, maps):
        rank, net = comm.Get_rank(), network(n_y=2, seed=comm.Get_rank(), dropout=0.2)
        own_X, own_Y, own_w = shards(sizes, X.astype(np.float64), Y.astype(np.float64), w)[rank]
        if maps and rank in chosen[which] and own_X.size:
            own_X, own_Y = (mapped(a, f"{n}{rank}", np.float32) for a, n in ((own_X, "X"), (own_Y, "Y")))
        return net, net.fit(own_X, own_Y, sample_weight=own_w, comm=comm, **how)

    expected = results(Group(len(sizes)), lambda comm: fit(comm, False))
    found = results(Group(len(sizes)), lambda comm: fit(comm, True))
    assert same_bits([net for net, _ in expected + found])
    for (_, own), (_, other) in zip(found, expected, strict=True):
        assert own["cost"] == other["cost"]
        assert own["val_cost"] == other["val_cost"]
        np.testing.assert_allclose(own["score"], other["score"], rtol=1e-12)


def test_a_step_that_can_never_be_made_is_left_after_so_many_errors(mapped, monkeypatch):
    """As where memory is short for good: nothing could be told to the others by another step."""
    sizes, (X, Y), nets, tried = (20, 20), examples(40), {}, {0: 0, 1: 0}

    deal = shards_.PartRunner.deal

    def failing(self, step):
        tried[self.ranks.rank] += 1
        if tried[self.ranks.rank] <= 50:
            raise MemoryError(f"for the time {tried[self.ranks.rank]}")
        deal(self, step)

    monkeypatch.setattr(shards_.PartRunner, "deal", failing)

    def work(comm):
        rank = comm.Get_rank()
        own_X, own_Y = shards(sizes, X, Y)[rank]
        nets[rank] = network()
        nets[rank].fit(mapped(own_X, f"X{rank}", np.float32), own_Y, batch_size=8, epochs=4, comm=comm)

    for error in errors_of(Group(2), work):
        assert str(error) == "for the time 9"
    assert same_bits([*nets.values(), network().initialize(5)])
    assert {of(net).epochs_done for net in nets.values()} == {0}


def test_a_map_that_fails_is_told_to_all(mapped, monkeypatch):
    sizes, (X, Y) = (20, 20), examples(40)
    taken = []
    part = sources.MappedArrays.part

    def failing(self, first, end, order):
        taken.append(first)
        if len(taken) == 7:
            raise OSError("the disk is gone")
        return part(self, first, end, order)

    monkeypatch.setattr(sources.MappedArrays, "part", failing)
    nets = {}

    def work(comm):
        rank = comm.Get_rank()
        own_X, own_Y = shards(sizes, X, Y)[rank]
        if rank == 1:
            own_X = mapped(own_X, "X", np.float32)
        nets[rank] = network()
        nets[rank].fit(own_X, own_Y, batch_size=8, epochs=4, comm=comm)

    first, second = errors_of(Group(2), work)
    assert str(second) == "the disk is gone"
    assert first.ranks == (1,)
    assert same_bits(list(nets.values()))
    assert {of(net).epochs_done for net in nets.values()} == {1}
