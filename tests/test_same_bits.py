"""Results must not depend on where an array happens to lie in memory, nor on what ran before."""

import numpy as np
import pytest

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
