"""Results must not depend on where an array happens to lie in memory, nor on what ran before."""

import numpy as np
import pytest
from conftest import run_tests

import nnkern as nk


def at_offset(values, offset):
    """The same values in Fortran order, `offset` entries past a 64-byte boundary."""
    memory = np.zeros(values.size + 64, values.dtype)
    first = -memory.ctypes.data % 64 // values.itemsize + offset
    array = memory[first : first + values.size].reshape(values.shape, order="F")
    array[...] = values
    return array


# one unit or one example (matrix times vector), columns that are and aren't a whole number of vectors apart
@pytest.mark.parametrize(
    ("n", "n_prev", "m"), [(1, 64, 9), (1, 100, 9), (1, 1200, 21), (5, 128, 1), (96, 128, 1), (33, 96, 17)]
)
def test_alignment_of_operands_does_not_matter(n, n_prev, m, dtype):
    rng = np.random.default_rng(0)
    W, X, dA = (rng.standard_normal(shape).astype(dtype) for shape in ((n, n_prev), (n_prev, m), (n, m)))
    b = rng.standard_normal((n, 1)).astype(dtype)
    seen = set()
    for offset in range(16):
        for other in (0, 3):
            W_, X_ = at_offset(W, other), at_offset(X, offset)
            A = nk.kernels.dense_forward(W_, X_, b, "tanh")
            grads = nk.kernels.dense_backward(at_offset(dA, other), W_, X_, A, "tanh")
            seen.add(A.tobytes() + b"".join(array.tobytes() for array in grads))
    assert len(seen) == 1
    assert np.count_nonzero(A) == A.size


def test_a_second_run_gives_the_same_bits(dtype):
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((20, 300)), rng.integers(0, 3, 300)
    runs = []
    for _ in range(2):
        layers = [nk.Dense(17, "tanh", dropout=0.2), nk.Dense(3, "softmax")]
        net = nk.Network(layers, "cross_entropy", dtype=dtype, seed=5)
        net.fit(X, Y, epochs=3, batch_size=32, optimizer=nk.Adam(0.01))
        runs.append(b"".join(view.tobytes() for view in net.parameters.values()))
    assert runs[0] == runs[1]


# ---- any number of threads ----

THREADS = (1, 2, 3, 8)
FACTS = nk.show_config().to_dict()
# its own threads can't be held at one: docs/threads.md
ACCELERATE = FACTS["blas"] == "Accelerate"
any_number_of_threads = pytest.mark.skipif(ACCELERATE and FACTS["gemm"] != "tiles", reason="Accelerate")


def hidden(*units, activation="relu", **options):
    return [nk.Dense(n, activation, **options) for n in units]


def network(layers, loss, n_x, m, options=(), *, weights=False, **fit):
    """What `train` takes: layers by a function, so that each run has its own."""
    return {
        "layers": layers,
        "loss": loss,
        "n_x": n_x,
        "m": m,
        "options": dict(options),
        "weights": weights,
        "fit": fit,
    }


# Some stay on one thread, in most there is work to share out: of wide layers by blocks, of full batches by examples.
NETWORKS = {
    "small": network(lambda: [*hidden(17), nk.Dense(3, "softmax")], "cross_entropy", 20, 301, batch_size=32),
    "small, full batch": network(
        lambda: [*hidden(16, activation="tanh"), nk.Dense(1, "sigmoid")],
        "binary_cross_entropy", 8, 9001, batch_size=None, weights=True, optimizer=lambda: nk.Adam(0.01),
    ),
    "batches beyond 4096 examples": network(
        lambda: [*hidden(128), nk.Dense(10, "softmax")],
        "cross_entropy", 64, 9500, batch_size=5000, optimizer=lambda: nk.SGD(0.1, 0.9),
    ),
    "wide": network(
        lambda: [*hidden(512, 260), nk.Dense(10, "softmax")],
        "cross_entropy", 300, 600, batch_size=256, optimizer=nk.Adam,
    ),
    "wide, dropout and penalties": network(
        lambda: [*hidden(401, 303, activation="tanh", dropout=0.3), nk.Dense(5, "sigmoid")],
        "binary_cross_entropy", 257, 413, {"l2": 1e-3, "l1": 1e-4}, batch_size=200, weights=True,
        optimizer=lambda: nk.SGD(0.05, 0.9, nesterov=True),
    ),
    "wide, in order": network(
        lambda: [*hidden(500, 500, activation="leaky_relu", use_bias=False), nk.Dense(64)],
        "squared_error", 100, 300, shuffle=False, batch_size=100, optimizer=lambda: nk.AdamW(1e-3),
    ),
    "wide, frozen below": network(
        lambda: [*hidden(700, trainable=False), *hidden(300), nk.Dense(2)],
        "absolute_error", 200, 256, batch_size=None, optimizer=nk.RMSprop,
    ),
    "few units, many inputs": network(
        lambda: [*hidden(12), nk.Dense(1, "sigmoid")],
        "binary_cross_entropy", 1500, 300, batch_size=128, optimizer=nk.Adagrad,
    ),
}  # fmt: skip


def data_for(case, dtype):
    rng = np.random.default_rng(3)
    n_y = case["layers"]()[-1].units
    X = np.asfortranarray(rng.standard_normal((case["n_x"], case["m"])).astype(dtype))
    Y = {
        "cross_entropy": lambda: rng.integers(0, n_y, case["m"]),
        "binary_cross_entropy": lambda: rng.integers(0, 2, (n_y, case["m"])),
    }.get(case["loss"], lambda: rng.standard_normal((n_y, case["m"])))()
    return X, Y, rng.uniform(0.5, 2, case["m"]) if case["weights"] else None


def train(case, dtype, threads):
    """All that comes out of a fit, two epochs and one more, with so many threads, as bytes."""
    X, Y, w = data_for(case, dtype)
    net = nk.Network(case["layers"](), case["loss"], n_x=case["n_x"], dtype=dtype, seed=7, **case["options"])
    options = {**case["fit"], "sample_weight": w, "threads": threads}
    optimizer = options.pop("optimizer", nk.SGD)
    options["optimizer"] = optimizer()
    start = np.concatenate([a.ravel() for a in net.parameters.values()])
    history = net.fit(X, Y, epochs=2, validation_data=(X[:, :100], Y[..., :100]), **options)
    options["resume"] = True
    history_2 = net.fit(X, Y, epochs=1, **options)
    parameters = np.concatenate([a.ravel() for a in net.parameters.values()])
    assert np.isfinite(parameters).all()
    assert np.mean(parameters != start) > 0.3, "hardly anything was trained"
    costs = np.array([*history["cost"], *history["val_cost"], *history["val_score"], *history_2["cost"]])
    return parameters.tobytes() + costs.tobytes()


@any_number_of_threads
@pytest.mark.parametrize("case", NETWORKS.values(), ids=list(NETWORKS))
def test_fit_gives_the_same_bits_for_any_number_of_threads(case, dtype):
    expected = train(case, dtype, 1)
    for threads in THREADS[1:]:
        assert train(case, dtype, threads) == expected, f"{threads} threads"


@any_number_of_threads
@pytest.mark.parametrize("m", [1, 3, 100, 5000])
@pytest.mark.parametrize("name", ["small", "wide", "few units, many inputs"])
def test_predict_and_evaluate_give_the_same_bits_for_any_number_of_threads(name, m, dtype):
    case = {**NETWORKS[name], "m": m}
    X, Y, w = data_for(case, dtype)
    net = nk.Network(case["layers"](), case["loss"], n_x=case["n_x"], dtype=dtype, seed=7)
    seen = set()
    for threads in THREADS:
        cost, score = net.evaluate(X, Y, sample_weight=w, threads=threads)
        A = net.predict(X, threads=threads)
        out = np.full(A.shape, np.nan, dtype, order="F")
        net.predict(X, out=out, threads=threads)
        seen.add((A.tobytes(), out.tobytes(), cost, score))
        assert net.predict_labels(X, threads=threads).shape[-1] == m
    assert len(seen) == 1
    assert A.tobytes() == out.tobytes()
    assert np.isfinite(A).all()


@any_number_of_threads
def test_the_default_number_of_threads_changes_no_bit(dtype):
    """What has no argument for it: forward, backward, step, partial_fit."""
    case = NETWORKS["wide"]
    X, Y, _ = data_for(case, dtype)
    before = nk.get_num_threads()
    seen = set()
    try:
        for threads in THREADS:
            nk.set_num_threads(threads)
            net = nk.Network(case["layers"](), case["loss"], n_x=case["n_x"], dtype=dtype, seed=7)
            A = net.forward(X, training=True)
            grads = net.backward(Y)
            net.step(grads, nk.SGD(0.1))
            net.partial_fit(X, Y)
            results = (A, *grads.values(), *net.parameters.values())
            seen.add(b"".join(a.tobytes() for a in results))
    finally:
        nk.set_num_threads(before)
    assert len(seen) == 1


# Beside those of test_kernels_dense.py: operands as rows, and shapes of which each of the three products is shared out.
@any_number_of_threads
@pytest.mark.parametrize("shape", [(512, 300, 600), (28, 2000, 700), (1500, 33, 401), (10, 64, 12_288)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_kernels_give_the_same_bits_for_any_number_of_threads(shape, order, dtype):
    n, n_prev, m = shape
    rng = np.random.default_rng(5)
    W, A_prev, b, dA = (
        np.array(rng.standard_normal(size), dtype, order=order) for size in ((n, n_prev), (n_prev, m), (n, 1), (n, m))
    )
    for activation in ("tanh", "softmax", *nk.kernels.NEEDS_Z):
        seen = set()
        for threads in THREADS:
            A, Z = nk.kernels.dense_forward(W, A_prev, b, activation, return_Z=True, threads=threads)
            Z = Z if activation in nk.kernels.NEEDS_Z else None
            grads = nk.kernels.dense_backward(dA, W, A_prev, A, activation, Z=Z, threads=threads)
            seen.add(b"".join(array.tobytes() for array in (A, *grads)))
        assert len(seen) == 1, activation


OTHER_KERNELS = {
    "blas": ("number_of_threads and not 5000 and (wide or kernels)", {"NNKERN_GEMM": "blas"}),
    "avx2": (
        "number_of_threads and ((fit and wide and float32) or kernels)",
        {"NNKERN_ISA": "avx2", "NNKERN_GEMM": "tiles"},
    ),
    "baseline": (
        "number_of_threads and ((fit and wide and float32) or 12288)",
        {"NNKERN_ISA": "baseline", "NNKERN_GEMM": "tiles"},
    ),
}


@pytest.mark.own_kernels
@pytest.mark.parametrize("kernels", OTHER_KERNELS)
def test_same_bits_with_other_kernels(kernels):
    names, environment = OTHER_KERNELS[kernels]
    isa = environment.get("NNKERN_ISA")
    if isa and isa not in FACTS["usable_isas"]:
        pytest.skip(f"this processor or this build has no {isa}")
    if ACCELERATE and environment.get("NNKERN_GEMM") != "tiles":
        pytest.skip("Accelerate")
    run_tests("test_same_bits.py", names, **environment)
