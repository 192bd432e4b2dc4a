"""compute="bfloat16": what it means, where it is asked for, and what refuses it."""

import numpy as np
import pytest

import nnkern as nk


def integers(n, k, m, seed=0):
    """Whole numbers whose products have sums that float32 holds."""
    rng = np.random.default_rng(seed)
    return rng.integers(-15, 16, (n, k)).astype("f4"), rng.integers(-15, 16, (k, m)).astype("f4")


@pytest.mark.parametrize("shape", [(64, 32, 64), (128, 784, 64), (130, 600, 401), (512, 20, 128), (33, 1031, 97)])
def test_whole_numbers_are_exact(shape):
    n, k, m = shape
    W, A = integers(n, k, m)
    Z = nk.kernels.dense_forward(W, A, None, "linear", compute="bfloat16")
    np.testing.assert_array_equal(Z, W.astype(np.float64) @ A)


def test_operands_are_rounded():
    """What 8 bits can't hold is lost, where the product isn't one of the small ones."""
    W, A = np.full((256, 64), 1 + 2**-12, "f4"), np.ones((64, 256), "f4")
    assert np.all(nk.kernels.dense_forward(W, A, None, "linear") == 64 + 2**-6)
    assert np.all(nk.kernels.dense_forward(W, A, None, "linear", compute="bfloat16") == 64)


def test_it_is_for_float32():
    W = np.ones((2, 2))
    with pytest.raises(
        ValueError, match=r'compute must be None or, for float32, "bfloat16"; got .bfloat16. for float64'
    ):
        nk.kernels.dense_forward(W, W, None, "linear", compute="bfloat16")
    with pytest.raises(ValueError, match='compute="bfloat16" is for dtype float32; the dtype is float64'):
        nk.Network([nk.Dense(1)], "squared_error", dtype="float64", compute="bfloat16")
    with pytest.raises(ValueError, match='compute must be None, "float32" as the dtype or, for float32, "bfloat16"'):
        nk.Network([nk.Dense(1)], "squared_error", compute="float16")
    assert nk.Network([nk.Dense(1)], "squared_error", compute="float32").compute == "float32"
    assert nk.Network([nk.Dense(1)], "squared_error", dtype="float64").compute == "float64"


@pytest.mark.parametrize("name", ["net.npz", "net.safetensors"])
def test_files_keep_it(tmp_path, name):
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    net = nk.Network([nk.Dense(3)], "squared_error", n_x=2, compute="bfloat16", seed=0)
    net.save(tmp_path / name)
    assert nk.load(tmp_path / name).compute == "bfloat16"
    assert "products in bfloat16" in repr(net)
    assert "products in bfloat16" in str(net.summary())
