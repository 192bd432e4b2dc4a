"""Memory-mapped arrays train to the bits of arrays in memory, whatever their dtype and order, and take no memory.

joblib hands arrays of more than a megabyte to its workers memory-mapped: nothing may depend on it.
"""

import tracemalloc

import numpy as np
import pytest

import nnkern as nk
from nnkern import sources
from nnkern.state import of

M, N_X, N_Y = 129, 7, 4


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch):
    """Whether the arrays count as what fits into memory."""
    monkeypatch.setattr(sources, "IN_MEMORY", 1 << 26 if request.param == "small" else -1)
    return request.param


@pytest.fixture
def mapped(tmp_path):
    """Makes a memory-mapped copy of an array."""
    count = iter(range(100))

    def save(array):
        path = tmp_path / f"{next(count)}.npy"
        np.save(path, array)
        return np.load(path, mmap_mode="r")

    return save


def data(came="float64", order="C"):
    rng = np.random.default_rng(0)
    X = np.asarray((30 * rng.normal(size=(N_X, M))).astype(came), order=order)
    return X, rng.integers(0, N_Y, M), rng.uniform(0.5, 2, M)


def network(dtype="float32", **more):
    layers = [nk.Dense(9, "tanh", dropout=0.3), nk.Dense(N_Y, "softmax")]
    return nk.Network(layers, "cross_entropy", seed=3, dtype=dtype, **more)


def bits(net):
    """All that a training has left."""
    state = of(net)
    vectors = [vector for vector in state.engine.state()[1:] if vector is not None]
    return [array.tobytes() for array in (*net.parameters.values(), *vectors)], state.progress()


def without_seconds(history):
    return {name: values for name, values in history.items() if name != "seconds"}


WAYS = {
    "plain": {},
    "in order": {"shuffle": False},
    "full batch": {"batch_size": None},
    "one by one": {"batch_size": 1, "shuffle": False},
    "split": {"validation_split": 0.3},
    "split, in order": {"validation_split": 0.3, "shuffle": False},
    "balanced": {"class_weight": "balanced"},
    "balanced split": {"class_weight": "balanced", "validation_split": 0.3},
    "weights of classes": {"class_weight": {0: 0.0, 3: 2.0}},
    "progress": {"progress": True},
    "callback": {"callbacks": lambda net, epoch, history: epoch == 1},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("came", "order"), [("float64", "C"), ("float64", "F"), ("float32", "C"), (">f4", "F")])
def test_fit(size, mapped, came, order, way, weighted):
    X, Y, w = data(came, order)
    how = {"epochs": 3, "batch_size": 16, "optimizer": nk.Adam(), "sample_weight": w if weighted else None, **WAYS[way]}
    on_arrays, on_files = network(), network()
    expected = on_arrays.fit(X, Y, **how)
    history = on_files.fit(mapped(X), mapped(Y), **how)
    assert bits(on_files) == bits(on_arrays)
    if "progress" in WAYS[way]:
        np.testing.assert_allclose(history.pop("score"), expected.pop("score"), rtol=1e-12)
    assert without_seconds(history) == without_seconds(expected)
    how = {**how, "epochs": 2, "resume": True}
    on_files.fit(mapped(X), Y, **how)
    on_arrays.fit(X, Y, **how)
    assert bits(on_files) == bits(on_arrays)


@pytest.mark.parametrize("came", ["int16", "float16", "float64"])
def test_fit_of_targets_as_large_as_the_examples(size, mapped, came):
    X, _, w = data(came)
    nets = [nk.Network([nk.Dense(3, "tanh"), nk.Dense(N_X)], "huber", seed=0) for _ in range(2)]
    how = {"epochs": 3, "batch_size": 10, "sample_weight": w, "validation_split": 0.2, "progress": True}
    expected, history = nets[0].fit(X, X, **how), nets[1].fit(mapped(X), mapped(X), **how)
    assert bits(nets[0]) == bits(nets[1])
    np.testing.assert_allclose(history.pop("score"), expected.pop("score"), rtol=1e-12)
    assert without_seconds(history) == without_seconds(expected)


def test_probabilities_of_classes(size, mapped):
    X, Y, _ = data()
    P = 0.7 * np.eye(N_Y)[:, Y] + 0.3 / N_Y
    for more in ({}, {"class_weight": "balanced"}):
        nets = [network(), network()]
        nets[0].fit(X, P, epochs=2, **more)
        nets[1].fit(mapped(X), mapped(P), epochs=2, **more)
        assert bits(nets[0]) == bits(nets[1])


def test_fit_many(size, mapped):
    X, Y, w = data()
    how = {"epochs": 3, "sample_weight": w, "class_weight": "balanced"}
    alone, together = [network(l2=l2) for l2 in (0, 0.1)], [network(l2=l2) for l2 in (0, 0.1)]
    histories = nk.fit_many(together, mapped(X), mapped(Y), **how)
    for net, other, history in zip(alone, together, histories, strict=True):
        assert without_seconds(net.fit(X, Y, **how)) == without_seconds(history)
        assert bits(net) == bits(other)


def test_partial_fit_and_evaluate(size, mapped):
    X, Y, w = data()
    on_arrays, on_files = network(), network()
    assert on_files.partial_fit(mapped(X), mapped(Y), sample_weight=w) == on_arrays.partial_fit(X, Y, sample_weight=w)
    assert bits(on_files) == bits(on_arrays)
    assert on_files.evaluate(mapped(X), mapped(Y)) == on_arrays.evaluate(X, Y)


def test_validation_data(size, mapped):
    X, Y, _ = data()
    on_arrays, on_files = network(), network()
    expected = on_arrays.fit(X, Y, epochs=2, validation_data=(X, Y))
    history = on_files.fit(mapped(X), Y, epochs=2, validation_data=(mapped(X), mapped(Y)))
    assert without_seconds(history) == without_seconds(expected)


def in_workers(call, *arguments):
    """What a call gives in two workers; it is pickled, and must find all it needs within itself."""
    joblib = pytest.importorskip("joblib")
    return joblib.Parallel(n_jobs=2, max_nbytes=1000)(joblib.delayed(call)(*arguments) for _ in range(2))


def test_in_a_worker_of_joblib():
    def trained(X, Y):
        import nnkern as nk

        net = nk.Network([nk.Dense(9, "tanh", dropout=0.3), nk.Dense(4, "softmax")], "cross_entropy", seed=0)
        history = net.fit(X, Y, epochs=2, class_weight="balanced", validation_split=0.1)
        return type(X).__name__, [array.tobytes() for array in net.parameters.values()], history["cost"]

    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(N_X, 1000)), rng.integers(0, N_Y, 1000)
    _, *here = trained(X, Y)
    assert in_workers(trained, X, Y) == [("memmap", *here)] * 2


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"class_weight": "balanced", "shuffle": False}])
def test_estimators_in_a_worker_of_joblib(options):
    pytest.importorskip("sklearn")
    ours = pytest.importorskip("nnkern.sklearn")
    mlp = ours.MLPClassifier((8,), max_iter=5, random_state=0, tol=0, n_iter_no_change=100, **options)

    def trained(X, y):
        mlp.fit(X, y)
        return type(X).__name__, [array.tobytes() for array in mlp.coefs_], mlp.loss_curve_

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(1000, N_X)), rng.integers(0, N_Y, 1000)
    _, *here = trained(X, y)
    assert in_workers(trained, X, y) == [("memmap", *here)] * 2


@pytest.mark.parametrize("came", ["float32", "float64"])
@pytest.mark.parametrize("more", [{}, {"shuffle": False}, {"validation_split": 0.05}])
def test_what_is_larger_than_memory_takes_none(monkeypatch, mapped, came, more):
    monkeypatch.setattr(sources, "IN_MEMORY", 1 << 20)
    m, n_x = 40_000, 100
    X = mapped(np.ones((n_x, m), came))
    net = nk.Network([nk.Dense(n_x)], "squared_error", n_x=n_x, seed=0)
    tracemalloc.start()
    net.fit(X, X, epochs=1, optimizer=nk.SGD(1e-4), **more)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < X.size * 4 / 2


def test_the_slice_that_holds_what_is_not_finite(monkeypatch, mapped):
    monkeypatch.setattr(sources, "IN_MEMORY", -1)
    monkeypatch.setattr(sources, "_CHECKED_ENTRIES", 70)
    X, Y, _ = data()
    X[3, 45] = np.nan
    net = network(n_x=N_X)
    before = bits(net)
    with pytest.raises(ValueError, match=r"X\[:, 40:50\] holds nan at position \(3, 5\)"):
        net.fit(mapped(X), Y)
    targets = np.abs(X[:, :40])
    targets[2, 33] = -1
    counts = nk.Network([nk.Dense(N_X, "exp")], "poisson")
    with pytest.raises(ValueError, match=r"Y\[:, 30:40\] holds -1.* at position \(2, 3\)"):
        counts.fit(mapped(X[:, :40]), mapped(targets))
    assert bits(net) == before
