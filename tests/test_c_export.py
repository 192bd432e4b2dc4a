"""Networks as C99: every file compiles without a warning, and computes what the equations say."""

import ctypes
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import reference

import nnkern as nk
from nnkern import layers, losses
from nnkern.convert import c
from nnkern.model import Model

CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_cc = pytest.mark.skipif(CC is None or sys.platform == "win32", reason="no C compiler")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
STRICT += ["-Wdouble-promotion", "-Wshadow", "-Wmissing-prototypes"]


class Compiled:
    """A network's C source, compiled and loaded: called with X (n_x, m), it gives A (n_y, m)."""

    def __init__(self, source, folder, dtype):
        (folder / "net.c").write_text(source, encoding="utf-8")
        command = [CC, *STRICT, "-O2", "-fPIC", "-shared", "-o", "net.so", "net.c", "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        self.library = ctypes.CDLL(str(folder / "net.so"))
        self.dtype = dtype

    def __call__(self, X, n_y):
        X = np.asfortranarray(X, self.dtype)
        A = np.full((n_y, X.shape[1]), np.nan, self.dtype, order="F")
        for i in range(X.shape[1]):
            self.library.predict(ctypes.c_void_p(X[:, i].ctypes.data), ctypes.c_void_p(A[:, i].ctypes.data))
        return A


def compiled(net, folder, **options):
    return Compiled(net.to_c(**options), folder, net.dtype)


@needs_cc
@pytest.mark.parametrize("activation", nk.kernels.ACTIVATIONS)
def test_every_activation(tmp_path, compare, activation, dtype):
    layers = [nk.Dense(9, activation, negative_slope=0.3), nk.Dense(4, activation, use_bias=False, negative_slope=0.3)]
    net = nk.Network(layers, "squared_error", n_x=5, dtype=dtype, seed=0)
    rng = np.random.default_rng(1)
    net.parameters["b1"][...] = rng.standard_normal((9, 1))
    X = ((0.3 if activation == "exp" else 3) * rng.standard_normal((5, 40))).astype(dtype)
    expected, bound = reference.network_bound(X, net.parameters, [activation] * 2, dtype, 0.3)
    compare(compiled(net, tmp_path)(X, 4), expected, bound)


@needs_cc
@pytest.mark.parametrize("activation", [name for name in nk.kernels.ACTIVATIONS if name != "softmax"])
def test_far_arguments_and_nan(tmp_path, activation, dtype):
    """Where a form would overflow or cancel, and NaN goes through."""
    net = nk.Network([nk.Dense(1, activation)], "squared_error", n_x=1, dtype=dtype, seed=0)
    net.set_parameters({"W1": np.ones((1, 1)), "b1": np.zeros((1, 1))})
    X = np.array([[-1e4, -120.0, -35.0, -8.0, -1e-9, -0.0, 0.0, 1e-9, 8.0, 35.0, 60.0, np.nan]], dtype)
    if activation != "exp":
        X = np.append(X, np.array([[1e4]], dtype), axis=1)
    A = compiled(net, tmp_path)(X, 1)
    expected = reference.activation_forward(X, activation)
    assert np.isnan(A[0, 11])
    finite = ~np.isnan(X)
    # relative to the result itself, but for what underflows: no form loses digits for far z, but by the rounding of
    # its argument, which exp(z) makes |z| times as large, and the exp(-z²/2) in gelu z² times
    u = reference.unit_roundoff(dtype)
    conditioning = X**2 if activation.startswith("gelu") else np.abs(X)
    bound = (reference.FORM_ROUNDINGS + 4 * conditioning) * u * np.abs(expected) + np.finfo(dtype).tiny
    assert (np.abs(A.astype(float) - expected) <= bound)[finite].all(), (A, expected)


@needs_cc
def test_softmax_is_stable_and_lets_nan_through(tmp_path, dtype):
    net = nk.Network([nk.Dense(3, "softmax")], "cross_entropy", n_x=3, dtype=dtype, seed=0)
    net.set_parameters({"W1": np.eye(3), "b1": np.zeros((3, 1))})
    X = np.array([[1e4, -1e4, 0], [0, 0, 0], [5e29, 0, 0], [np.nan, 0, 0], [0, np.nan, 0]], dtype).T
    A = compiled(net, tmp_path)(X, 3)
    assert np.array_equal(A[:, 0], [1, 0, 0])
    assert np.array_equal(A[:, 2], [1, 0, 0])
    np.testing.assert_allclose(A[:, 1], 1 / 3, rtol=1e-6)
    assert np.isnan(A[:, 3:]).all()


@needs_cc
def test_any_number_comes_out_to_the_bit(tmp_path, dtype):
    info = np.finfo(dtype)
    values = [0.1, -0.0, info.max, -info.max, info.tiny, info.smallest_subnormal, 1 / 3, 16777217.0, -np.inf, 1e-30]
    net = nk.Network([nk.Dense(len(values))], "squared_error", n_x=1, dtype=dtype, seed=0)
    b = np.array(values, dtype).reshape(-1, 1)
    net.set_parameters({"W1": np.zeros(b.shape), "b1": b})
    A = compiled(net, tmp_path)(np.zeros((1, 1)), len(values))
    # -0.0 + 0 is 0
    assert (A + 0.0).tobytes() == (b + 0.0).tobytes()
    net.parameters["b1"][0] = np.nan
    (tmp_path / "nan").mkdir()
    assert np.isnan(compiled(net, tmp_path / "nan")(np.zeros((1, 1)), len(values))[0])


SHAPES = {
    "one neuron": [nk.Dense(1, "sigmoid")],
    "two layers": [nk.Dense(3, "relu"), nk.Dense(2)],
    "three": [nk.Dense(3, "tanh"), nk.Dense(8, "tanh"), nk.Dense(2)],
    "narrow and wide by turns": [nk.Dense(n, "relu") for n in (2, 9, 1, 8, 3, 7)],
    "two slopes": [nk.Dense(4, "leaky_relu", negative_slope=s) for s in (0.25, 0.5, 0.25)],
    "no bias": [nk.Dense(4, "relu", use_bias=False), nk.Dense(2, use_bias=False)],
}


@needs_cc
@pytest.mark.parametrize("layers", SHAPES.values(), ids=list(SHAPES))
def test_every_shape(tmp_path, compare, layers):
    net = nk.Network(layers, "squared_error", n_x=5, dtype="float64", seed=0)
    X = np.random.default_rng(0).standard_normal((5, 20))
    A = compiled(net, tmp_path)(X, net.n_y)
    np.testing.assert_allclose(A, net.predict(X), rtol=1e-12, atol=1e-13)


@needs_cc
def test_a_factor_per_feature(tmp_path, dtype):
    """s ⊙ x before, between and after dense layers."""
    rng = np.random.default_rng(0)
    scale, dense = layers.Scale(), nk.Dense(4, "relu")
    shapes = {"s1": (3, 1), "W2": (4, 3), "b2": (4, 1), "s3": (4, 1)}
    p = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    X = rng.standard_normal((3, 20)).astype(dtype)
    model = Model((scale, dense, scale), losses.get("squared_error"), 3, p, dtype)
    Z = p["W2"] @ (p["s1"] * X) + p["b2"]
    A = Compiled(c.write(model), tmp_path, dtype)(X, 4)
    # numbers of order 1, a dozen roundings each
    np.testing.assert_allclose(A, p["s3"] * np.maximum(Z, 0), atol=32 * np.finfo(dtype).eps)
    alone = Model((scale,), losses.get("squared_error"), 3, {"s1": p["s1"]}, dtype)
    (tmp_path / "alone").mkdir()
    assert "activation" not in c.write(alone) + nk.Network([nk.Dense(2)], "squared_error", n_x=3).to_c()
    assert np.array_equal(Compiled(c.write(alone), tmp_path / "alone", dtype)(X, 3), p["s1"] * X)


@needs_cc
def test_standardisation_and_labels(tmp_path):
    rng = np.random.default_rng(0)
    X = 100 + 5 * rng.standard_normal((3, 10))
    mean, scale = X.mean(axis=1), X.std(axis=1)
    net = nk.Network([nk.Dense(4, "tanh"), nk.Dense(2)], "squared_error", n_x=3, dtype="float64", seed=0)
    target_mean, target_scale = np.array([1e3, -5.0]), np.array([20.0, 0.5])
    options = {"mean": mean, "scale": scale, "target_mean": target_mean, "target_scale": target_scale}
    A = compiled(net, tmp_path, **options)(X, 2)
    expected = target_mean[:, None] + target_scale[:, None] * net.predict((X - mean[:, None]) / scale[:, None])
    np.testing.assert_allclose(A, expected, rtol=1e-12)
    net = nk.Network([nk.Dense(3, "softmax")], "cross_entropy", n_x=3, seed=0)
    labels = ["plain", 'quote " backslash \\ ??/ 7', "Ünïcode 数\n"]
    (tmp_path / "b").mkdir()
    library = compiled(net, tmp_path / "b", labels=labels).library
    found = (ctypes.c_char_p * 3).in_dll(library, "network_labels")
    assert [text.decode() for text in found] == labels


@needs_cc
def test_the_stack_is_what_the_file_says(tmp_path):
    """Widths 2 9 1 8 3 and the output: two arrays of at most 3 and 9 floats."""
    net = nk.Network(SHAPES["narrow and wide by turns"], "squared_error", n_x=5, seed=0)
    source = net.to_c()
    assert "float a0[3];" in source
    assert "float a1[9];" in source
    assert f"the stack holds its {4 * 12} bytes" in source


def test_files_are_written_whole_or_not_at_all(tmp_path):
    net = nk.Network([nk.Dense(2)], "squared_error", n_x=3, seed=0)
    path = tmp_path / "net.c"
    source = net.to_c(path)
    assert path.read_text() == source == net.to_c()
    os.remove(path)
    net.to_c(os.fsencode(path))
    assert path.read_text() == source
    before = path.read_bytes()
    with pytest.raises(ValueError, match="labels"):
        net.to_c(path, labels=["a", "b"])
    assert path.read_bytes() == before
    with pytest.raises(FileNotFoundError):
        net.to_c(tmp_path / "missing" / "net.c")
    assert os.listdir(tmp_path) == ["net.c"]


def test_a_network_without_parameters():
    with pytest.raises(nk.NotFittedError):
        nk.Network([nk.Dense(2)], "squared_error").to_c()


@needs_cc
def test_a_code_out_of_range_reads_nothing_beside_the_table(tmp_path):
    encoders = [nk.Embedding(0, 4, 2), nk.OneHot(0, 4), nk.OneHot(0, 3, unknown=True)]
    net = nk.Network([nk.Encode(encoders), nk.Dense(9, use_bias=False)], "squared_error", n_x=1, seed=0)
    net.parameters["W2"][...] = np.eye(9)
    E = net.parameters["E1"].reshape(2, 4, order="F")
    bad = np.array([[-1, 4, 1e9, -1e9, np.nan, np.inf]], np.float32)
    A = compiled(net, tmp_path)(np.append(bad, [[3]], axis=1).astype(np.float32), 9)
    assert A[:, :-1] == pytest.approx(np.array([[*E[:, 0], *[0] * 7]] * 6).T)
    assert A[:, -1] == pytest.approx([*E[:, 3], 0, 0, 0, 1, 0, 0, 1])
