"""fit, evaluate and predict of batches, of memory-mapped arrays, and of examples in rows."""

import re
import tracemalloc

import numpy as np
import pytest

import nnkern as nk
from nnkern import sources, streams

N_X, M = 5, 57
rng = np.random.default_rng(0)
X = rng.normal(size=(N_X, M))
LABELS = rng.integers(0, 3, M)
NUMBERS = rng.normal(size=(2, M)) + np.array([[100.0], [0.0]])
W = rng.uniform(0.5, 2, M)
W[7:14] = 0  # of a whole batch


def network(kind="classes", **options):
    output, loss = (nk.Dense(3, "softmax"), "cross_entropy") if kind == "classes" else (nk.Dense(2), "squared_error")
    return nk.Network([nk.Dense(4, "tanh"), output], loss, **{"n_x": N_X, "seed": 0, "dtype": "float64", **options})


class Tensor:
    """As torch's: it becomes an array where numpy asks for one."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


class Loader:
    """As torch's DataLoader: anew each time, of lists of tensors, examples in rows."""

    def __init__(self, *arrays, size=8, make=Tensor):
        self.arrays, self.size, self.make = arrays, size, make

    def __len__(self):
        return -(-len(self.arrays[0]) // self.size)

    def __iter__(self):
        for first in range(0, len(self.arrays[0]), self.size):
            yield [self.make(array[first : first + self.size]) for array in self.arrays]


def batches(*arrays, size=7):
    return [tuple(a[..., first : first + size] for a in arrays) for first in range(0, M, size)]


TARGETS = {"classes": LABELS, "numbers": NUMBERS}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", [list, iter, tuple], ids=["list", "iterator", "tuple"])
def test_evaluation_of_batches_is_that_of_the_whole(kind, weighted, form):
    net, Y = network(kind), TARGETS[kind]
    net.fit(X, Y, epochs=3, optimizer=nk.SGD(0.01))
    arrays = (X, Y, W) if weighted else (X, Y)
    known = net.evaluate(X, Y, sample_weight=W if weighted else None)
    assert net.evaluate(form(batches(*arrays))) == pytest.approx(known, rel=1e-10)
    for threads in (1, 2):
        assert net.evaluate(form(batches(*arrays)), threads=threads) == net.evaluate(batches(*arrays))


@pytest.mark.parametrize("form", [list, iter, tuple], ids=["list", "iterator", "tuple"])
def test_predictions_of_batches_are_those_of_the_whole(form):
    net = network()
    known = net.predict(X, invariant=True)
    for given in (batches(X, LABELS), batches(X, LABELS, W), [one[0] for one in batches(X)]):
        np.testing.assert_array_equal(net.predict(form(given), invariant=True), known)
        np.testing.assert_array_equal(net.predict_labels(form(given)), net.predict_labels(X))
    # what an array is made of is an array still
    np.testing.assert_array_equal(net.predict(X.tolist()), net.predict(X))
    np.testing.assert_array_equal(net.predict(tuple(map(tuple, X))), net.predict(X))
    np.testing.assert_array_equal(net.predict(list(X)), net.predict(X))
    np.testing.assert_array_equal(net.predict(Tensor(X)), net.predict(X))
    np.testing.assert_array_equal(net.predict(memoryview(np.ascontiguousarray(X))), net.predict(X))


@pytest.mark.parametrize("kind", TARGETS)
def test_examples_in_rows_are_those_in_columns(kind):
    Y = TARGETS[kind]
    net, known = network(kind), network(kind)
    how = {"epochs": 2, "optimizer": nk.SGD(0.01), "sample_weight": W}
    history = net.fit(X.T, Y.T, rows=True, validation_data=(X.T[:9], Y.T[:9]), **how)
    expected = known.fit(X, Y, validation_data=(X[:, :9], Y.T[:9].T), **how)
    assert [history[key] for key in ("cost", "val_cost", "val_score")] == [
        expected[key] for key in ("cost", "val_cost", "val_score")
    ]
    assert net == known
    assert net.evaluate(X.T, Y.T, rows=True, sample_weight=W) == net.evaluate(X, Y, sample_weight=W)
    np.testing.assert_array_equal(net.predict(X.T, rows=True), net.predict(X).T)
    np.testing.assert_array_equal(net.predict(X.T.tolist(), rows=True), net.predict(X.copy()).T)
    out = np.empty((M, net.n_y))
    assert np.shares_memory(net.predict(X.T, rows=True, out=out), out)
    np.testing.assert_array_equal(out, net.predict(X).T)
    # more dimensions are flattened, as pictures are
    pictures = np.repeat(X.T, 4, axis=1).reshape(M, N_X, 2, 2)
    other = network(kind, n_x=20)
    np.testing.assert_array_equal(other.predict(pictures, rows=True), other.predict(pictures.reshape(M, -1).T).T)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_step_takes_examples_in_rows(kind):
    Y = TARGETS[kind]
    net, known = network(kind), network(kind)
    for _ in range(3):
        assert net.partial_fit(X.T, Y.T, rows=True, optimizer="adam") == known.partial_fit(X, Y, optimizer="adam")
    weighed = {"sample_weight": W}
    assert net.partial_fit(X.T, Y.T, rows=True, **weighed) == known.partial_fit(X, Y, **weighed)
    for more in ({}, weighed):
        (cost, grads), (expected_cost, expected) = (
            net.gradients(X.T, Y.T, rows=True, **more),
            known.gradients(X, Y, **more),
        )
        assert cost == expected_cost
        for name, gradient in expected.items():
            np.testing.assert_array_equal(grads[name], gradient)
    assert net == known
    for call in (net.partial_fit, net.gradients, lambda *data, rows: nk.fit_many([net], *data, rows=rows)):
        with pytest.raises(ValueError, match="rows must be True or False; got 1"):
            call(X.T, Y.T, rows=1)
        with pytest.raises(ValueError, match="X has 57 features, the network expects 5"):
            call(X, Y.T, rows=True)


@pytest.mark.parametrize("kind", TARGETS)
def test_many_networks_take_examples_in_rows(kind):
    Y = TARGETS[kind]
    nets, known = ([network(kind, seed=seed) for seed in range(3)] for _ in range(2))
    how = {"epochs": 2, "optimizer": nk.SGD(0.01), "sample_weight": W}
    histories = nk.fit_many(nets, X.T, Y.T, rows=True, validation_data=(X.T[:9], Y.T[:9]), **how)
    expected = nk.fit_many(known, X, Y, validation_data=(X[:, :9], Y.T[:9].T), **how)
    for key in ("cost", "val_cost", "val_score"):
        assert [history[key] for history in histories] == [history[key] for history in expected]
    assert nets == known
    # each its own, and a list of rows of numbers
    parts = [slice(0, 19), slice(19, 38), slice(38, 57)]
    how.pop("sample_weight")
    nk.fit_many(nets, [X.T[part] for part in parts], [Y.T[part] for part in parts], rows=True, **how)
    nk.fit_many(known, [X[:, part] for part in parts], [Y[..., part] for part in parts], **how)
    assert nets == known


def test_arrays_in_rows_are_converted_once_for_many_networks():
    wide = rng.normal(size=(50_000, 20)).astype("f4")
    nets = [nk.Network([nk.Dense(1)], "squared_error", n_x=20, dtype="float64", seed=seed) for seed in range(6)]
    tracemalloc.start()
    nk.fit_many(nets, wide, wide[:, :1], rows=True, epochs=1, batch_size=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # X in float64, and little besides
    assert wide.size * 8 < peak < 1.8 * wide.size * 8


def test_labels_and_numbers_of_rows():
    net = network()
    assert net.predict_labels(X.T, rows=True).shape == (M,)
    several = nk.Network([nk.Dense(2, "sigmoid")], "binary_cross_entropy", n_x=N_X, seed=0)
    np.testing.assert_array_equal(several.predict_labels(X.T, rows=True), several.predict_labels(X).T)
    # one number an example may be a vector there
    one, known = (nk.Network([nk.Dense(1)], "squared_error", n_x=N_X, seed=0) for _ in range(2))
    one.fit(X.T, NUMBERS[1], rows=True, epochs=1)
    known.fit(X, NUMBERS[1:], epochs=1)
    assert one == known
    assert one.evaluate(X.T, NUMBERS[1], rows=True) == one.evaluate(X.T, NUMBERS[1:].T, rows=True)
    with pytest.raises(ValueError, match="X has 57 features, the network expects 5"):
        net.fit(X, LABELS, rows=True)
    for call in (net.predict, net.predict_labels, net.evaluate, net.fit):
        with pytest.raises(ValueError, match="rows must be True or False; got 1"):
            call(X, rows=1)


def test_errors_about_rows_say_whose_shapes_they_name():
    """The checks are those of columns: what they name must not be taken for the shape of what was given."""
    note = "With rows=True shapes and positions are those of X.T and Y.T, the arrays with an example a column."
    holed = X.T.copy()
    holed[3, 2] = np.nan
    net = nk.Network([nk.Dense(1)], "squared_error", n_x=N_X, seed=0)
    kept = net.parameters["W1"].copy()
    numbers = NUMBERS[:1]  # a row, where a column is due
    calls = [
        (lambda **how: net.fit(X.T, numbers, **how), "Y has shape (57, 1), expected (1, 57): it is transposed"),
        (lambda **how: net.fit([(X.T, numbers)], **how), "Y has shape (57, 1), expected (1, 57): it is transposed"),
        (lambda **how: net.fit(X.T, numbers.T, validation_data=(X, numbers), **how), "validation_data's X has 57"),
        (lambda **how: nk.fit_many([net], X.T, numbers, **how), "Y has shape (57, 1), expected (1, 57)"),
        (lambda **how: net.partial_fit(X.T, numbers, **how), "Y has shape (57, 1), expected (1, 57)"),
        (lambda **how: net.gradients(X.T, numbers, **how), "Y has shape (57, 1), expected (1, 57)"),
        (lambda **how: net.evaluate(holed, numbers.T, **how), "X holds nan at position (2, 3)"),
        (lambda **how: net.predict(X, **how), "X has 57 features, the network expects 5"),
        (lambda **how: net.predict([X], **how), "X has 57 features, the network expects 5"),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
            call(rows=True)
        assert caught.value.__notes__[0] == note
    # none where examples are columns, and none about a training that went wrong
    with pytest.raises(ValueError, match=r"it is transposed, pass Y\.T$") as caught:
        net.fit(X, numbers.T)
    assert not hasattr(caught.value, "__notes__")
    np.testing.assert_array_equal(net.parameters["W1"], kept)
    with pytest.raises(nk.DivergenceError) as caught:
        net.partial_fit(1e30 * X.T, numbers.T, rows=True)
    assert not hasattr(caught.value, "__notes__")


def test_a_vector_is_no_example_in_a_row():
    net = network()
    message = (
        "X must have shape (m, n_x), one example a row; got shape (5,): X.reshape(1, -1) for one example of "
        "5 features, X.reshape(-1, 1) for 5 examples of one feature"
    )
    for call in (net.predict, net.predict_labels, lambda x, rows: net.fit(x, LABELS, rows=rows)):
        with pytest.raises(ValueError, match=re.escape(message)):
            call(X[:, 0], rows=True)


@pytest.mark.parametrize("make", [Tensor, np.asarray], ids=["tensors", "arrays"])
@pytest.mark.parametrize("n_x", [N_X, None])
def test_a_loader_as_torch_has_them(make, n_x):
    loader = Loader(X.T, LABELS, make=make)
    net, known = network(n_x=n_x), network()
    history = net.fit(loader, epochs=3, rows=True, validation_data=(X.T, LABELS), optimizer="adam")
    columns = [(x.T, y) for x, y in Loader(X.T, LABELS, make=np.asarray)]
    expected = known.fit(columns, epochs=3, validation_data=(X, LABELS), optimizer="adam")
    assert history["cost"] == expected["cost"]
    assert net == known
    assert net.evaluate(loader, rows=True) == pytest.approx(net.evaluate(X, LABELS), rel=1e-12)
    np.testing.assert_allclose(net.predict(loader, rows=True), net.predict(X).T, rtol=1e-12)
    np.testing.assert_array_equal(net.predict_labels(loader, rows=True), net.predict_labels(X))
    # schedules by step are told how many there are
    net.fit(loader, epochs=1, rows=True, optimizer=nk.SGD(nk.schedules.ByStep(0.1, "linear")))


def test_torchs_own_loader():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(X.T), torch.tensor(LABELS))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    net = network()
    net.fit(loader, epochs=2, rows=True)
    assert net.evaluate(loader, rows=True) == pytest.approx(net.evaluate(X, LABELS), rel=1e-12)
    assert net.predict(loader, rows=True).shape == (M, 3)


def mapped(array, path, dtype, order="C"):
    np.save(path, np.asarray(array, dtype, order=order))
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f8", "int16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_mapped_arrays_are_predicted_and_evaluated_in_parts(tmp_path, monkeypatch, dtype, order):
    monkeypatch.setattr(sources, "IN_MEMORY", -1)
    monkeypatch.setattr(streams, "_ENTRIES", 10 * N_X)
    x = mapped(10 * X, tmp_path / "x.npy", dtype, order)
    whole = np.array(x, "float64")
    net = network()
    np.testing.assert_array_equal(net.predict(x, invariant=True), net.predict(whole, invariant=True))
    np.testing.assert_array_equal(net.predict(x.T, invariant=True, rows=True), net.predict(whole, invariant=True).T)
    out = np.empty((3, M))
    assert net.predict(x, out=out) is out
    np.testing.assert_allclose(out, net.predict(whole), rtol=1e-12)
    assert net.evaluate(x, LABELS, sample_weight=W) == pytest.approx(
        net.evaluate(whole, LABELS, sample_weight=W), rel=1e-12
    )
    numbers = network("numbers")
    y = mapped(NUMBERS, tmp_path / "y.npy", "float32")
    assert numbers.evaluate(x, y) == pytest.approx(numbers.evaluate(whole, np.array(y)), rel=1e-9)
    with pytest.raises(ValueError, match="X has 57 features, the network expects 5"):
        net.predict(x.T)
    with pytest.raises(ValueError, match=r"X must have shape \(n_x, m\)"):
        net.predict(x[0])
    with pytest.raises(ValueError, match="out must have shape"):
        net.predict(x, out=np.empty((3, M + 1)))


def test_predictions_of_a_mapped_array_take_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "IN_MEMORY", 1 << 20)
    monkeypatch.setattr(streams, "_ENTRIES", 1 << 16)
    x = mapped(np.ones((50, 80_000)), tmp_path / "x.npy", "float32")
    net = nk.Network([nk.Dense(1)], "squared_error", n_x=50, dtype="float64", seed=0)
    y = np.zeros((1, 80_000))
    net.predict(x[:, :9])
    for call in (lambda: net.predict(x), lambda: net.evaluate(x, y)):
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 12_000_000 < x.size * 8


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda net: net.evaluate(X), ValueError, r"Y is missing: evaluate\(X, Y\), or evaluate\(batches\)"),
        (lambda net: net.evaluate(3), TypeError, r"an iterable of \(X, Y\) batches; got int without Y"),
        (lambda net: net.evaluate(batches(X, LABELS), sample_weight=W), ValueError, "comes inside them, as"),
        (lambda net: net.evaluate([]), ValueError, "the iterable gave no batch"),
        (lambda net: net.evaluate([(X,)]), ValueError, r"batch 0 of the iterable must be \(X, Y\)"),
        (lambda net: net.evaluate([(X, LABELS, 0 * W)]), ValueError, "no example with a weight above 0"),
        (lambda net: net.evaluate([(X, LABELS), (X[:3], LABELS)]), ValueError, "X has 3 features"),
        (lambda net: net.predict(iter([])), ValueError, "the iterable gave no batch"),
        (lambda net: net.predict(iter([X, X[:3]])), ValueError, "X has 3 features"),
        (lambda net: net.predict(batches(X), out=np.empty((3, M))), ValueError, "out is for an X that is an array"),
        (lambda net: net.predict({"a": 1}), TypeError, "X must hold real numbers"),
        (lambda net: net.predict("abc"), TypeError, "got the text 'abc'"),
    ],
)
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call(network())
