"""Training in rounds on shards: what a round is, that it doesn't matter who trains what, tasks that are lost."""

import threading
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest

import nnkern as nk
from nnkern.state import of


def examples(m, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((4, m))
    return X, np.sin(X.sum(axis=0, keepdims=True))


def network(seed=0, **more):
    layers = [nk.Dense(6, "tanh", dropout=0.2), nk.Dense(1)]
    return nk.Network(layers, "squared_error", seed=seed, dtype="float64", **more)


SHARDS = [examples(m, seed) for seed, m in enumerate((40, 25, 0, 33))]


class Now:
    """Runs each task when it is submitted."""

    def __init__(self):
        self.count = 0

    def submit(self, function, *arguments):
        self.count += 1
        future = Future()
        try:
            future.set_result(self.run(function, *arguments))
        except BaseException as error:
            future.set_exception(error)
        return future

    def run(self, function, *arguments):
        return function(*arguments)


class Losing(Now):
    """Whose every third task is lost."""

    def run(self, function, *arguments):
        if self.count % 3 == 0:
            raise ConnectionError("the worker has gone")
        return function(*arguments)


class Backwards:
    """Runs the last task first."""

    def __init__(self):
        self.waiting = []

    def submit(self, function, *arguments):
        future = Future()
        self.waiting.append((future, function, arguments))
        if len(self.waiting) == len(SHARDS):
            for future_, function_, arguments_ in reversed(self.waiting):
                future_.set_result(function_(*arguments_))
            self.waiting = []
        return future


def trained(executor, shards=SHARDS, **how):
    net = network()
    history = nk.fit_shards(
        net, shards, executor=executor, **{"rounds": 3, "epochs_a_round": 2, "optimizer": "adam", **how}
    )
    return net, history


def same_bits(*nets):
    return all(
        net.parameters[name].tobytes() == array.tobytes() for net in nets for name, array in nets[0].parameters.items()
    )


def test_one_shard_is_trained_as_fit_does():
    net, history = trained(Now(), SHARDS[:1])
    one = network()
    expected = one.fit(*SHARDS[0], epochs=6, optimizer="adam")
    assert net == one
    assert history["cost"] == expected["cost"][1::2]
    # and goes on as it does
    nk.fit_shards(net, SHARDS[:1], executor=Now(), rounds=2, resume=True)
    one.fit(*SHARDS[0], epochs=2, resume=True)
    assert net == one


def test_a_round_gives_the_mean_by_examples_of_parameters_and_of_the_optimizers_state():
    start = network(n_x=4)
    net = nk.Network.from_model(start.to_model())
    nk.fit_shards(net, SHARDS, executor=Now(), rounds=1, epochs_a_round=2, shuffle=False, optimizer=nk.Adam(0.01))
    key, each = of(start).engine.key, []
    for number, (X, Y) in enumerate(SHARDS):
        if X.shape[1]:
            own = network(n_x=4)
            of(own).make_engine(4, key + number)
            own.set_parameters(start.parameters)
            own.fit(X, Y, epochs=2, shuffle=False, optimizer=nk.Adam(0.01))
            each.append((X.shape[1] / 98, own))
    for name, array in net.parameters.items():
        expected = sum(share * own.parameters[name] for share, own in each)
        np.testing.assert_allclose(array, expected, rtol=1e-14, atol=1e-16)
    training = net.to_model(training_state=True).training
    for moment in ("s1", "s2"):
        for name, array in training.moments[moment].items():
            moments = [own.to_model(training_state=True).training.moments[moment][name] for _, own in each]
            expected = sum(share * own for (share, _), own in zip(each, moments, strict=True))
            np.testing.assert_allclose(array, expected, rtol=1e-14, atol=1e-16)
    # steps, of which the shards make 2, 1 and 2 an epoch
    assert training.progress["t"] == 4
    assert training.progress["epochs_done"] == 2


def test_weights_count():
    w = np.random.default_rng(5).exponential(size=25)
    weighted = [(*SHARDS[0], np.full(40, 0.5)), (*SHARDS[1], w), (*SHARDS[3], np.zeros(33))]
    net, _ = trained(Now(), weighted, rounds=1, shuffle=False)
    parts = [trained(Now(), [one], rounds=1, shuffle=False)[0] for one in weighted[:1]]
    total = 20 + w.sum()
    second = (net.parameters["W1"] - 20 / total * parts[0].parameters["W1"]) * total / w.sum()
    alone = network(n_x=4)
    of(alone).make_engine(4, of(net).engine.key + 1)
    alone.set_parameters(network(n_x=4).parameters)
    alone.fit(*weighted[1][:2], sample_weight=w, epochs=2, shuffle=False, optimizer="adam")
    np.testing.assert_allclose(second, alone.parameters["W1"], rtol=1e-12)


def test_it_does_not_matter_who_trains_what():
    expected, history = trained(Now())
    executors = [Losing(), Backwards()]
    with ThreadPoolExecutor(3) as threads, ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        for executor in (*executors, threads, processes):
            net, own = trained(executor)
            assert same_bits(expected, net)
            assert own["cost"] == history["cost"]


def load(m, seed):
    return examples(m, seed)


def test_shards_that_are_read_where_they_are_trained():
    shards = [partial(load, len(Y[0]), seed) for seed, (_, Y) in enumerate(SHARDS)]
    net = network(n_x=4)
    nk.fit_shards(net, shards, executor=Now(), rounds=3, epochs_a_round=2, optimizer="adam")
    assert same_bits(trained(Now())[0], net)


def test_held_out_examples_and_callbacks_go_by_rounds():
    aside = examples(50, 9)
    best = nk.EarlyStopping(2, monitor="val_cost")
    net, history = trained(Now(), rounds=40, optimizer=nk.Adam(0.2), validation_data=aside, callbacks=best)
    assert len(history["val_cost"]) == len(history["cost"]) < 40
    assert best.best_value == min(history["val_cost"]) == net.evaluate(*aside).cost
    w = np.random.default_rng(0).exponential(size=50)
    net, history = trained(Now(), validation_data=(*aside, w))
    assert (history["val_cost"][-1], history["val_score"][-1]) == net.evaluate(*aside, sample_weight=w)


def test_it_learns():
    X, Y = examples(2000)
    shards = [(X[:, k::4], Y[:, k::4]) for k in range(4)]
    history = nk.fit_shards(network(), shards, executor=Now(), rounds=15, optimizer=nk.Adam(0.01))
    assert history["cost"][-1] < history["cost"][0] / 2


def test_smaller_batches_and_a_larger_rate_make_up_for_the_shards():
    """What docs/cluster.md says of the digits."""
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X, y = np.ascontiguousarray((X / 16).T[:, order]), y[order]

    def make():
        layers = [nk.Dense(64, "relu"), nk.Dense(10, "softmax")]
        return nk.Network(layers, "cross_entropy", seed=0, l2=1e-3)

    one, net = make(), make()
    one.fit(X, y, epochs=20, batch_size=32, optimizer=nk.Adam(0.001))
    shards = [(X[:, k::4], y[k::4]) for k in range(4)]
    nk.fit_shards(net, shards, executor=Now(), rounds=20, batch_size=8, optimizer=nk.Adam(0.002))
    assert net.evaluate(X, y).cost < 1.01 * one.evaluate(X, y).cost


# ---- tasks that fail ----


class Failing(Now):
    """Whose tasks of shard 1 fail from some number on."""

    def __init__(self, error, first):
        super().__init__()
        self.error, self.first = error, first

    def run(self, function, *arguments):
        if self.count >= self.first and arguments[2] == 1:
            raise self.error
        return function(*arguments)


def test_a_task_that_is_lost_again_and_again_leaves_the_last_whole_round():
    executor, net = Failing(ConnectionError("gone"), len(SHARDS) + 1), network()
    with pytest.raises(ConnectionError) as caught:
        nk.fit_shards(net, SHARDS, executor=executor, rounds=5, retries=2)
    assert caught.value.__notes__ == ["That is what the task of shards[1] raised."]
    assert executor.count == 2 * len(SHARDS) + 2
    expected = network()
    nk.fit_shards(expected, SHARDS, executor=Now(), rounds=1)
    assert same_bits(expected, net)
    # and can go on
    nk.fit_shards(net, SHARDS, executor=Now(), rounds=2, resume=True)
    nk.fit_shards(expected, SHARDS, executor=Now(), rounds=2, resume=True)
    assert same_bits(expected, net)


def test_errors_of_the_data_are_raised_at_once_with_the_shard():
    bad = [*SHARDS[:3], (np.full((4, 3), np.nan), np.ones((1, 3)))]
    executor, net = Now(), network(n_x=4)
    before = {name: array.copy() for name, array in net.parameters.items()}
    with pytest.raises(ValueError, match="X holds nan") as caught:
        nk.fit_shards(net, bad, executor=executor)
    assert caught.value.__notes__ == ["That is what the task of shards[3] raised."]
    assert executor.count == 4
    assert all(np.array_equal(array, before[name]) for name, array in net.parameters.items())
    with pytest.raises(nk.DivergenceError):
        nk.fit_shards(net, SHARDS, executor=Now(), optimizer=nk.SGD(1e200), epochs_a_round=3)
    with pytest.raises(ValueError, match=r"shards\[0\] must be \(X, Y\)"):
        nk.fit_shards(net, [lambda: None], executor=Now())


class Broken(Now):
    def run(self, function, *arguments):
        raise BrokenExecutor("a process of the pool was killed")


def test_a_pool_that_takes_no_more_tasks_ends_it():
    executor = Broken()
    with pytest.raises(BrokenExecutor):
        nk.fit_shards(network(), SHARDS, executor=executor)
    assert executor.count == len(SHARDS)


def test_the_network_is_in_training_meanwhile():
    net, seen = network(n_x=4), []

    class Looking(Now):
        def run(self, function, *arguments):
            def other():
                try:
                    net.fit(*SHARDS[0])
                except RuntimeError as error:
                    seen.append(str(error))

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            return function(*arguments)

    nk.fit_shards(net, SHARDS[:1], executor=Looking(), rounds=1)
    assert seen == ["this network is being trained already, by another thread"]


def test_refused():
    net = network(n_x=4)
    fit = partial(nk.fit_shards, net, SHARDS, executor=Now())
    for how, words in [
        ({"rounds": -1}, "rounds must be an integer >= 0"),
        ({"epochs_a_round": 0}, "epochs_a_round must be an integer >= 1"),
        ({"retries": 0.5}, "retries must be an integer"),
        (
            {"optimizer": nk.SGD(nk.schedules.ByStep(0.1, "linear"))},
            "a number that goes by step doesn't go with fit_shards",
        ),
        ({"callbacks": nk.EarlyStopping(monitor="val_cost")}, "monitor 'val_cost' isn't in the history"),
    ]:
        with pytest.raises(ValueError, match=words):
            fit(**how)
    with pytest.raises(TypeError, match=r"executor must have a method submit\(function, \*arguments\); got object"):
        nk.fit_shards(net, SHARDS, executor=object())
    with pytest.raises(ValueError, match="shards holds none"):
        nk.fit_shards(net, [], executor=Now())
    with pytest.raises(ValueError, match="no example with a weight above 0"):
        nk.fit_shards(net, [SHARDS[2]], executor=Now())
    with pytest.raises(ValueError, match=r"call initialize\(n_x\) first"):
        nk.fit_shards(network(), [lambda: SHARDS[0]], executor=Now())


# ---- workers that hang ----


class Hanging:
    """A shard whose function waits, the first so many times that it is called, until it is let go."""

    def __init__(self, shard, times):
        self.shard, self.times, self.calls, self.go = shard, times, 0, threading.Event()

    def __call__(self):
        self.calls += 1
        if self.calls <= self.times:
            assert self.go.wait(60)
        return self.shard


def outcome(executor, shards, **how):
    net = network(n_x=4)
    nk.fit_shards(net, shards, executor=executor, rounds=2, optimizer="adam", **how)
    return {name: array.tobytes() for name, array in net.parameters.items()}


@pytest.mark.parametrize("times", [1, 3])
def test_a_task_that_hangs_is_submitted_again(times):
    hanging = Hanging(SHARDS[1], times)
    with ThreadPoolExecutor(5) as executor:
        try:
            found = outcome(executor, [SHARDS[0], hanging, *SHARDS[2:]], timeout=0.3)
        finally:
            hanging.go.set()
    assert hanging.calls == times + 2
    assert found == outcome(Now(), SHARDS)


def test_a_task_that_always_hangs_ends_the_training():
    hanging, net = Hanging(SHARDS[1], 99), network(n_x=4)
    before = net.parameters["W1"].copy()
    with ThreadPoolExecutor(5) as executor:
        try:
            with pytest.raises(TimeoutError, match=r"the task of shards\[1\] hasn't ended, nor another for 0.2 s"):
                nk.fit_shards(net, [SHARDS[0], hanging], executor=executor, timeout=0.2, retries=2)
        finally:
            hanging.go.set()
    assert hanging.calls == 3
    assert (net.parameters["W1"] == before).all()


def test_a_task_that_waits_for_its_turn_does_not_hang():
    """One worker has a task after the other: each ends in time, all together don't."""
    calls, turn = [], threading.Event()

    def slow(number):
        calls.append(number)
        turn.wait(0.25)
        return SHARDS[number]

    with ThreadPoolExecutor(1) as executor:
        found = outcome(executor, [partial(slow, number) for number in range(4)], timeout=20)
    assert sorted(calls) == sorted([0, 1, 2, 3] * 2)
    assert found == outcome(Now(), SHARDS)


def test_the_seconds_are_validated():
    for seconds in (0, -1, np.nan):
        with pytest.raises(ValueError, match="timeout must be finite and > 0"):
            nk.fit_shards(network(n_x=4), SHARDS, executor=Now(), timeout=seconds)
