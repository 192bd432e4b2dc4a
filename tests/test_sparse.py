"""Sparse examples: products with their entries give what products with the dense matrix give."""

import tracemalloc

import numpy as np
import pytest
from conftest import run_tests
from test_bfloat16 import bf16

import nnkern as nk
from nnkern import _engine
from nnkern.state import of

FACTS = nk.show_config().to_dict()
rng = np.random.default_rng(0)
N_X, M = 50, 37


def examples(dtype, m=M):
    """(X (N_X, m), the same as sparse columns): one column without an entry, one full, one entry in two parts."""
    X = np.where(rng.random((N_X, m)) < 0.1, rng.standard_normal((N_X, m)), 0).astype(dtype)
    X[:, 0], X[:, m // 2] = 0, rng.standard_normal(N_X)
    columns = [np.flatnonzero(x) for x in X.T]
    rows, values = [*columns[:-1], [3, 3]], [*(x[at] for x, at in zip(X.T[:-1], columns, strict=False)), [0.25, 0.5]]
    X[:, -1] = 0
    X[3, -1] = 0.75
    starts = np.cumsum([0, *map(len, rows)])
    return X, _engine.SparseColumns(N_X, starts, np.concatenate(rows), np.concatenate(values).astype(dtype))


def network(dtype, n, compute=None, **options):
    layers = [nk.Dense(n, "tanh", **options), nk.Dense(3, "softmax")]
    return nk.Network(layers, "cross_entropy", n_x=N_X, dtype=dtype.name, compute=compute, seed=1)


def gradient_of(engine, *data, threads=None):
    """(loss, the gradients of all parameters one after the other)."""
    loss, gradient = engine.loss_gradient(*data, threads=threads)
    return loss, np.concatenate([view.ravel() for view in engine.views(gradient).values()])


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"mix": True}, {"trainable": False}], ids=str)
@pytest.mark.parametrize("n", [1, 3, 16, 17, 40, 64, 65, 150])
def test_products(n, options, dtype):
    """Predictions, costs and gradients, weighted or not, with any number of threads to the same bits."""
    X, sparse = examples(dtype)
    engine, labels = of(network(dtype, n, **options)).engine, rng.integers(0, 3, M)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype.itemsize == 4 else {"rtol": 1e-12, "atol": 1e-14}
    np.testing.assert_allclose(engine.predict(sparse), engine.predict(X), **tolerance)
    for w in (None, rng.random(M).astype(dtype)):
        cost, right, _, total = engine.evaluate(X, None, labels, w)
        assert engine.evaluate(sparse, None, labels, w) == (pytest.approx(cost, rel=1e-5), right, None, total)
        expected = gradient_of(engine, X, None, labels, w)[1]
        results = []
        for threads in (1, 2, 3):
            loss, gradient = gradient_of(engine, sparse, None, labels, w, threads=threads)
            np.testing.assert_allclose(gradient, expected, **tolerance)
            results.append((loss, gradient.tobytes()))
        assert len(set(results)) == 1
        assert np.count_nonzero(expected) > 0


@pytest.mark.parametrize("m", [1, 4097, 9000])
def test_chunks(m, dtype):
    """Of 4096 examples, whose gradients are added up; and one example."""
    X, sparse = examples(dtype, m)
    engine, labels = of(network(dtype, 5)).engine, rng.integers(0, 3, m)
    expected = gradient_of(engine, X, None, labels, None)[1]
    gradient = gradient_of(engine, sparse, None, labels, None)[1]
    tolerance = 1e-5 if dtype.itemsize == 4 else 1e-12
    np.testing.assert_allclose(gradient, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(engine.predict(sparse), engine.predict(X), rtol=tolerance, atol=tolerance)


def test_operands_are_rounded_where_others_are():
    """compute="bfloat16": sums of products of rounded numbers, which here are exact; unrounded ones differ."""
    filled = rng.random((N_X, 32)) < 0.2
    X = np.where(filled, 1 + rng.integers(0, 1024, filled.shape) / 1024, 0).astype("float32")
    starts = np.cumsum([0, *np.count_nonzero(filled, axis=0)])
    sparse = _engine.SparseColumns(N_X, starts, np.nonzero(filled.T)[1], X.T[filled.T])
    W, Y = (1 + rng.integers(0, 1024, (20, N_X)) / 1024).astype("float32"), np.zeros((20, 32), "float32")
    net = nk.Network([nk.Dense(20)], "squared_error", n_x=N_X, compute="bfloat16", seed=0)
    net.set_parameters({"W1": W, "b1": np.zeros((20, 1))})
    engine = of(net).engine
    A, gradient = engine.predict(sparse), gradient_of(engine, sparse, Y, None, None)[1]
    np.testing.assert_array_equal(A, bf16(W) @ bf16(X))
    np.testing.assert_allclose(gradient[: W.size].reshape(W.shape), bf16(A) @ bf16(X).T / 32, rtol=1e-6)
    assert np.abs(A - W @ X).max() > 1e-4 * A.max()


@pytest.mark.own_kernels
@pytest.mark.parametrize("isa", [isa for isa in FACTS["usable_isas"].split(", ") if isa != FACTS["isa"]])
def test_every_instruction_set(isa):
    run_tests("test_sparse.py", "products or chunks or rounded", NNKERN_ISA=isa)


GOOD = {"n": 4, "starts": [0, 2, 3], "rows": [0, 3, 1], "values": np.ones(3)}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"rows": [0, 4, 1]}, "sparse examples of 4 features name row 0 and row 4"),
        ({"rows": [0, -1, 1]}, "sparse examples of 4 features name row -1 and row 1"),
        ({"rows": [0, 2**32, 1]}, "name row 0 and row 4294967296"),
        ({"starts": [0, 2, 4]}, "must start in order from 0 to 3"),
        ({"starts": [1, 2, 3]}, "must start in order from 0 to 3"),
        ({"starts": [0, 3, 2, 3]}, "must start in order from 0 to 3"),
        ({"starts": []}, "need vectors"),
        ({"starts": [[0, 3]]}, "need vectors"),
        ({"values": np.ones(2)}, "of one length"),
        ({"rows": [[0, 3, 1]], "values": np.ones((1, 3))}, "need vectors"),
    ],
    ids=str,
)
def test_what_points_elsewhere_is_refused(bad, said):
    _engine.SparseColumns(**GOOD)
    with pytest.raises(ValueError, match=said):
        _engine.SparseColumns(**GOOD | bad)


def test_what_they_were_made_of_may_change():
    given = {name: np.array(value) for name, value in GOOD.items() if name != "n"}
    net = nk.Network([nk.Dense(2)], "squared_error", n_x=4, dtype="float64", seed=0)
    sparse = _engine.SparseColumns(4, **given)
    before = of(net).engine.predict(sparse)
    given["rows"][:], given["starts"][:], given["values"][:] = 10**9, 10**9, np.nan
    np.testing.assert_array_equal(of(net).engine.predict(sparse), before)
    for array in (sparse.rows, sparse.starts, sparse.values):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_row_numbers_of_32_bits_are_copied_once(index):
    """As scipy has them; others are converted, from a copy that nobody changes after it was looked at."""
    count = 1 << 18
    rows, values = np.arange(count, dtype=index), np.ones(count, np.float32)
    copies = {np.int32: 4, np.int64: 8 + 4}[index] + 4
    tracemalloc.start()
    try:
        sparse = _engine.SparseColumns(count, [0, count], rows, values)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert copies * count <= peak < (copies + 2) * count
    assert sparse.rows.dtype == np.int32
    assert not np.may_share_memory(sparse.rows, rows)


def test_what_does_not_go_with_a_network_is_refused():
    sparse = _engine.SparseColumns(**GOOD)
    for layers, options, error, said in (
        ([nk.Dense(2)], {"n_x": 5}, ValueError, "X has 4 features, the network 5"),
        (
            [nk.Dense(2)],
            {"n_x": 4, "dtype": "float32"},
            TypeError,
            "must be in the network's dtype; got sparse float64",
        ),
        ([nk.Scale(), nk.Dense(2)], {"n_x": 4}, ValueError, "needs a Dense layer first; the first is scale"),
    ):
        engine = of(nk.Network(layers, "squared_error", **{"dtype": "float64", "seed": 0} | options)).engine
        with pytest.raises(error, match=said):
            engine.predict(sparse)
    engine = of(nk.Network([nk.Dense(2)], "squared_error", n_x=4, dtype="float64", seed=0)).engine
    with pytest.raises(ValueError, match="sparse X can't be predicted invariantly"):
        engine.predict(sparse, invariant=True)
