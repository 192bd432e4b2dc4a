"""compute="bfloat16": what it means, where it is asked for, and what refuses it.

The oracle rounds operands in float64 and multiplies there. A product of the library is as exact as float32's when held
against it: by the contract the operands that enter are rounded, or, in small products, aren't; its products of two
entries are exact in float32 (8 bits by 8 bits), and its sums are float32's. So the bounds here are those of
reference.py for float32, of the operands as they were rounded; a term meets no more roundings. That is some 2^16
times as tight as the bound of the contract, which says how far rounded operands may lead from the unrounded ones.
"""

import copy
import functools
import json
import pickle

import numpy as np
import pytest
import reference as ref
from conftest import (
    LAYOUTS,
    WRITABLE_LAYOUTS,
    assert_only_inside,
    check_in_layouts,
    prefilled,
    run,
    run_tests,
    unmodified,
)
from hypothesis import given
from hypothesis import strategies as st

import nnkern as nk

F32 = np.dtype("float32")
ACTIVATIONS = nk.kernels.ACTIVATIONS
GRADIENTS = ("dZ", "dW", "db", "dA_prev")
FACTS = nk.show_config().to_dict()
USABLE_ISAS = FACTS["usable_isas"].split(", ")

# The unit roundoff of 8 significant bits, to nearest: numbers in [1, 2) are 2^-7 apart, so 1 + 2^-8 is off by 2^-8.
U8 = 2.0**-8
SMALLEST_NORMAL = 2.0**-126


def bf16(x):
    """x rounded to bfloat16 in float64: 8 significant bits, halves to even, infinity from 2^128 on.

    Below 2^-126 bfloat16 has fewer bits; what is lost there is part of every bound (`flushed`).
    """
    with np.errstate(invalid="ignore"):
        mantissa, exponent = np.frexp(np.asarray(x, np.float64))
        rounded = np.ldexp(np.rint(mantissa * 2.0**8), exponent - 8)
        return np.where(np.abs(rounded) >= 2.0**128, np.copysign(np.inf, rounded), rounded)


def test_the_oracle_rounds_to_nearest_even():
    """Against rounding by the nearer of the two neighbours, found by their bits."""
    rng = np.random.default_rng(0)
    x = rng.integers(0x0080_0000, 0x7F00_0000, 50_000).astype(np.uint32).view("f4")
    x[:3] = 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38
    below = (x.view(np.uint32) & 0xFFFF_0000).view("f4").astype(np.float64)
    above = ((x.view(np.uint32) >> 16) + 1 << 16).astype(np.uint32).view("f4").astype(np.float64)
    above[np.isinf(above)] = 2.0**128
    down, up = x - below, above - x
    even = (x.view(np.uint32) >> 16) % 2 == 0
    expected = np.where((down < up) | ((down == up) & even), below, above)
    expected[expected == 2.0**128] = np.inf
    np.testing.assert_array_equal(bf16(x), expected)
    np.testing.assert_array_equal(bf16(-x), -expected)
    assert list(bf16(x[:3])) == [1, 1 + 2**-6, np.inf]


def is_surely_rounded(rows, depth, columns):
    """Whether a product (rows, depth) (depth, columns) is one of those that round their operands, on every machine.

    Where many fewer entries are summed up, or come out, rounding them would take longer than it saves: those products
    may be float32's.
    """
    return rows * columns >= 100 * (rows + columns) and depth >= 16


# ---- one layer against the oracle ----

# Below, at and above multiples of vectors, of tiles' rows, columns and depths, and of blocks.
EDGES = (1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128, 129)
# n, n_prev, m: of these the forward product surely rounds, of most one of the others, of the last four all three.
LARGE = [
    *[(200, 16, 201), (201, 17, 200), (127, 33, 512), (129, 31, 511), (600, 32, 128), (1031, 97, 111)],
    *[(383, 47, 384), (385, 48, 383), (384, 49, 385), (111, 1025, 1024), (512, 63, 127), (129, 600, 513)],
    *[(513, 65, 129), (384, 95, 384), (256, 96, 256), (201, 785, 201)],
    *[(257, 255, 193), (401, 129, 303), (193, 257, 512), (300, 383, 600)],
]
ALL_ROUND = LARGE[-4]


def layer_shapes(n, n_prev, m):
    return {"W": (n, n_prev), "A_prev": (n_prev, m), "b": (n, 1), "dA": (n, m)}


def gradient_shapes(n, n_prev, m):
    return {"dZ": (n, m), "dW": (n, n_prev), "db": (n, 1), "dA_prev": (n_prev, m)}


def normal_layer(n, n_prev, m, seed=0, scale=1.0):
    """W, A_prev, b, dA; Z has the given scale."""
    rng = np.random.default_rng(seed)
    layer = {name: rng.normal(size=shape) for name, shape in layer_shapes(n, n_prev, m).items()}
    layer["W"] *= scale / n_prev**0.5
    return {name: array.astype(F32) for name, array in layer.items()}


def flushed(depth, *operands):
    """What sums of so many products can lose where denormals are taken for 0: operands, products and partial sums."""
    largest = max(np.max(np.abs(a), initial=0) for a in operands)
    return 2 * (depth + 2) * SMALLEST_NORMAL * (1 + largest)


def check_product(compare, actual, A, B, what, *, plus=0.0, share=1.0, extra=1):
    """actual = share A B + plus, by rounded operands or, where the product may be a small one, by those of float32.

    A term meets its product, depth - 1 additions and `extra` roundings more: of `plus`, or of the share. Which of the
    two it was is a choice by shapes, so that all of the product must be the one or all of it the other.
    """
    (rows, depth), columns = A.shape, B.shape[1]

    def value_and_bound(P, Q):
        magnitude = share * (np.abs(P) @ np.abs(Q)) + np.abs(plus)
        return share * (P @ Q) + plus, ref.gamma_both(depth + extra, F32) * magnitude + flushed(depth, P, Q)

    expected = value_and_bound(bf16(A), bf16(B))
    if not is_surely_rounded(rows, depth, columns) and np.any(np.abs(actual - expected[0]) > expected[1]):
        expected = value_and_bound(A.astype(np.float64), B.astype(np.float64))
    compare(actual, *expected, what)


def check_forward(compare, W, A_prev, b, activation, what="", negative_slope=0.01, **options):
    """Runs dense_forward, holds A and Z against the oracle, gives A, Z."""
    what = f"{what} {activation} {W.shape} x {A_prev.shape}"
    options |= {"negative_slope": negative_slope, "compute": "bfloat16"}
    with unmodified(W, A_prev, b):
        A, Z = nk.kernels.dense_forward(W, A_prev, b, activation, return_Z=True, **options)
    assert A.dtype == Z.dtype == F32
    check_product(compare, Z, W, A_prev, f"Z, {what}", plus=np.asarray(b, np.float64))
    # g is float32's, of Z as it was computed
    expected = ref.activation_forward(Z, activation, negative_slope)
    compare(A, expected, ref.bound_A(Z, activation, F32, 0.0, negative_slope), f"A, {what}")
    return A, Z


def check_backward(compare, dA, W, A_prev, A, Z, activation, what="", negative_slope=0.01, **options):
    """Runs dense_backward, holds the gradients against the oracle, gives them.

    dZ = dA g'(Z) and db, a sum and no product, are float32's. dW = 1/m dZ A_prevᵀ and dA_prev = Wᵀ dZ are products
    of that dZ, which is what is rounded: they are held against the dZ that came out. A term of dW meets its product,
    m - 1 additions, 1/m and the product with it; one of db the same but for the first.
    """
    what = f"{what} {activation} {W.shape} x {A_prev.shape}"
    options |= {"Z": Z, "negative_slope": negative_slope, "compute": "bfloat16"}
    with unmodified(dA, W, A_prev, A, Z):
        gradients = nk.kernels.dense_backward(dA, W, A_prev, A, activation, **options)
    assert all(g.dtype == F32 for g in gradients)
    dZ, dW, db, dA_prev = (g.astype(np.float64) for g in gradients)
    m = dZ.shape[1]
    case = dA, ref.operand(activation, A, Z), activation
    compare(dZ, ref.activation_backward(*case, negative_slope), ref.bound_dZ(*case, F32, negative_slope), f"dZ, {what}")
    magnitude = np.abs(dZ).sum(axis=1, keepdims=True) / m
    bound = ref.gamma_both(m + 1, F32) * magnitude + flushed(m, dZ)
    compare(db, dZ.sum(axis=1, keepdims=True) / m, bound, f"db, {what}")
    check_product(compare, dW, dZ, A_prev.T, f"dW, {what}", share=1 / m, extra=2)
    check_product(compare, dA_prev, W.T, dZ, f"dA_prev, {what}", extra=0)
    return gradients


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_layer_against_the_oracle(compare, shape):
    assert is_surely_rounded(*shape)
    W, A_prev, b, dA = normal_layer(*shape, seed=sum(shape)).values()
    A, Z = check_forward(compare, W, A_prev, b, "tanh")
    check_backward(compare, dA, W, A_prev, A, Z, "tanh")
    np.testing.assert_array_equal(A, nk.kernels.dense_forward(W, A_prev, b, "tanh", compute="bfloat16"))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_against_the_oracle(compare, activation):
    assert all(is_surely_rounded(*(ALL_ROUND[k] for k in order)) for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2)))
    W, A_prev, b, dA = normal_layer(*ALL_ROUND, seed=1).values()
    A, Z = check_forward(compare, W, A_prev, b, activation, negative_slope=0.3)
    check_backward(compare, dA, W, A_prev, A, Z, activation, negative_slope=0.3)


@pytest.mark.parametrize("n", EDGES)
def test_sizes_around_edges_against_the_oracle(compare, n):
    """Every size meets every other, in places that change; the third takes another each time."""
    for i, other in enumerate(EDGES):
        third = EDGES[(7 * i + n) % len(EDGES)]
        shape = [(n, other, third), (other, third, n), (third, n, other)][(i + n) % 3]
        W, A_prev, b, dA = normal_layer(*shape, seed=i).values()
        A, Z = check_forward(compare, W, A_prev, b, "sigmoid")
        check_backward(compare, dA, W, A_prev, A, Z, "sigmoid")


@pytest.mark.parametrize("n", [192, 207, 209, 225])
@pytest.mark.parametrize("n_prev", range(16, 36))
def test_every_short_sum_against_the_oracle(compare, n, n_prev):
    """Depths that are no whole number of pairs, or of a tile's."""
    W, A_prev, b, _ = normal_layer(n, n_prev, 241 + n_prev, seed=n).values()
    Z = nk.kernels.dense_forward(W, A_prev, b, "linear", compute="bfloat16")
    check_product(compare, Z, W, A_prev, f"{W.shape} x {A_prev.shape}", plus=b.astype(np.float64))


SIZES = st.tuples(*[st.sampled_from(EDGES)] * 3) | st.sampled_from(LARGE[:6]) | st.just(ALL_ROUND)


@given(
    activation=st.sampled_from(ACTIVATIONS),
    shape=SIZES,
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    seed=st.integers(0, 2**32 - 1),
    negative_slope=st.sampled_from([0.0, 0.01, 1.0]),
    layouts=st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 5),
    out_layouts=st.tuples(*[st.sampled_from(sorted(WRITABLE_LAYOUTS))] * 5),
)
def test_any_layer_against_the_oracle(compare, activation, shape, scale, seed, negative_slope, layouts, out_layouts):
    if activation == "exp":
        scale = min(scale, 1.0)  # float32 has no e^100
    layer = normal_layer(*shape, seed, scale)
    check_in_layouts(
        layer,
        layouts,
        out_layouts,
        lambda *arrays, **out: check_forward(compare, *arrays, activation, layouts, negative_slope, **out),
        lambda *arrays, **out: check_backward(compare, *arrays, activation, layouts, negative_slope, **out),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("argument", ["W", "A_prev", "dA", "all"])
def test_every_layout_against_the_oracle(compare, argument, layout):
    layer = normal_layer(*ALL_ROUND)
    layer["A"] = ref.activation_forward(layer["dA"][::-1], "tanh").astype(F32)
    for name in layer if argument == "all" else [argument]:
        layer[name] = LAYOUTS[layout](layer[name])
    W, A_prev, b, dA, A = layer.values()
    check_forward(compare, W, A_prev, b, "tanh", layout)
    check_backward(compare, dA, W, A_prev, A, A, "tanh", layout)


@pytest.mark.parametrize("layout", WRITABLE_LAYOUTS)
@pytest.mark.parametrize("activation", ["linear", "sigmoid", "softmax"])
def test_every_layout_of_out_against_the_oracle(compare, activation, layout):
    W, A_prev, b, dA = normal_layer(*ALL_ROUND).values()
    A = prefilled(dA.shape, F32, layout)
    A_written, Z = check_forward(compare, W, A_prev, b, activation, layout, out=A)
    assert A_written is A
    out = [prefilled(shape, F32, layout) for shape in gradient_shapes(*ALL_ROUND).values()]
    gradients = check_backward(compare, dA, W, A_prev, A, Z, activation, layout, out=tuple(out))
    assert all(x is y for x, y in zip(gradients, out, strict=True))
    for array in (A, *out):
        assert_only_inside(array)


def test_single_gradients_are_those_of_all_together():
    """Without dA_prev, and with some arrays given, the others have the same bits."""
    W, A_prev, _, dA = normal_layer(*ALL_ROUND).values()
    A = np.tanh(dA[::-1])
    expected = nk.kernels.dense_backward(dA, W, A_prev, A, "tanh", compute="bfloat16")
    without = nk.kernels.dense_backward(dA, W, A_prev, A, "tanh", need_dA_prev=False, compute="bfloat16")
    assert without.dA_prev is None
    for name in GRADIENTS[:3]:
        np.testing.assert_array_equal(getattr(without, name), getattr(expected, name))
    for k, shape in enumerate(gradient_shapes(*ALL_ROUND).values()):
        out = [None] * 4
        out[k] = prefilled(shape, F32)
        given = nk.kernels.dense_backward(dA, W, A_prev, A, "tanh", out=tuple(out), compute="bfloat16")
        assert given[k] is out[k]
        for one, other in zip(given, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_no_bias_is_a_bias_of_zeros():
    W, A_prev, b, _ = normal_layer(*ALL_ROUND).values()
    without = nk.kernels.dense_forward(W, A_prev, None, "tanh", compute="bfloat16")
    with_zeros = nk.kernels.dense_forward(W, A_prev, 0 * b, "tanh", compute="bfloat16")
    np.testing.assert_array_equal(without, with_zeros)


# ---- whole numbers ----


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


@pytest.mark.parametrize("shape", [(256, 256, 256), (255, 193, 256), (193, 255, 256), (17, 256, 16), (1, 33, 64)])
@pytest.mark.parametrize("layout", ["C", "F", "strided"])
def test_whole_numbers_up_to_256_are_exact(shape, layout):
    """8 bits hold them; 256 products of at most 2^16 are at most 2^24 in any order, and 1/m is a power of 2."""
    rng = np.random.default_rng(1)
    signs = {"W": 1, "A_prev": -1, "b": 1, "dA": 1}
    layer = {name: rng.integers(-256, 257, size) for name, size in layer_shapes(*shape).items()}
    for name, array in layer.items():
        array[:, 0] = 256 * signs[name]
        array[0] = 256 * signs[name]
    layer["b"][0] = 0  # -2^24 is taken up already
    W, A_prev, b, dA = (WRITABLE_LAYOUTS[layout](array.astype(F32)) for array in layer.values())
    A = nk.kernels.dense_forward(W, A_prev, b, "relu", compute="bfloat16")
    np.testing.assert_array_equal(A, ref.dense_forward(W, A_prev, b, "relu")[0])
    gradients = nk.kernels.dense_backward(dA, W, A_prev, A, "relu", compute="bfloat16")
    expected = ref.dense_backward(dA, W, A_prev, A, "relu")
    for name, actual, value in zip(GRADIENTS, gradients, expected, strict=True):
        np.testing.assert_array_equal(actual, value, err_msg=name)


@pytest.mark.parametrize("m", [193, 241, 250])
def test_one_over_m_is_no_part_of_what_is_rounded(m):
    """m times dW is the exact sum, below 2^22, and two roundings of it, so that the nearest whole number is the sum."""
    rng = np.random.default_rng(m)
    W, A_prev, dZ = (rng.integers(-100, 101, size).astype(F32) for size in ((250, 250), (250, m), (250, m)))
    dW = nk.kernels.dense_backward(dZ, W, A_prev, dZ, "linear", compute="bfloat16").dW
    np.testing.assert_array_equal(np.rint(m * dW.astype(np.float64)), dZ.astype(np.float64) @ A_prev.T)


# ---- what is rounded ----


def test_operands_are_rounded():
    """What 8 bits can't hold is lost, where the product isn't one of the small ones."""
    W, A = np.full((256, 64), 1 + 2**-12, "f4"), np.ones((64, 256), "f4")
    assert np.all(nk.kernels.dense_forward(W, A, None, "linear") == 64 + 2**-6)
    assert np.all(nk.kernels.dense_forward(W, A, None, "linear", compute="bfloat16") == 64)


def patterns(shape, seed=0):
    """Numbers of either sign between 2^-20 and 2^20; in the middle between two of bfloat16, and next to it, too."""
    bits = np.random.default_rng(seed).integers(107 << 23, 147 << 23, shape).astype(np.uint32)
    for k, low in enumerate((0x8000, 0x7FFF, 0x8001, 0xFFFF, 0x8000)):
        bits[k::7] = bits[k::7] & 0xFFFF_0000 | low
    bits[5::7] |= 0x007F_8000  # rounded to the next power of 2
    bits[::2] |= 0x8000_0000
    return bits.view("f4")


def selecting(rows, columns):
    """One 1 in each column, the others 0; column i has row i mod rows."""
    array = np.zeros((rows, columns), F32)
    array[np.arange(columns) % rows, np.arange(columns)] = 1
    return array


def forward(W, A_prev):
    return nk.kernels.dense_forward(W, A_prev, None, "linear", compute="bfloat16")


def backward(dZ, W, A_prev):
    return nk.kernels.dense_backward(dZ, W, A_prev, dZ, "linear", compute="bfloat16")


def weight_gradient(L, R):
    """m dW with dZ = L, A_prev = Rᵀ; m a power of 2"""
    return backward(L, np.ones((len(L), R.shape[1]), F32), R.T).dW * np.float32(L.shape[1])


def input_gradient(L, R):
    """dA_prev with W = Lᵀ, dZ = R"""
    return backward(R, L.T, np.ones((len(L), R.shape[1]), F32)).dA_prev


THREE_PRODUCTS = pytest.mark.parametrize("product", [forward, weight_gradient, input_gradient])


@THREE_PRODUCTS
def test_each_operand_of_each_product_is_rounded_to_nearest_even(product):
    """Sums have one term that isn't 0, a product with 1: what comes out is the operand as it was rounded."""
    L, R = patterns((256, 64)), selecting(64, 256)
    np.testing.assert_array_equal(product(L, R), bf16(L)[:, np.arange(256) % 64])
    L, R = selecting(64, 256).T.copy(), patterns((64, 256), seed=1)
    np.testing.assert_array_equal(product(L, R), bf16(R)[np.arange(256) % 64])
    assert np.mean(bf16(R) != R) > 0.9


@THREE_PRODUCTS
def test_the_bound_of_the_contract_can_be_reached(product):
    """Each operand is off by u = 2^-8, so each product by 2u + u², as far as the bound lets it be."""
    L = np.full((256, 64), 1 + 2**-8, F32)
    C = product(L, L.T.copy())
    exact = 64 * (1 + 2.0**-8) ** 2
    assert np.all(C == 64)
    error = exact - 64
    assert error <= (2 * U8 + U8**2) * exact
    assert error > 0.99 * 2 * U8 * exact


@THREE_PRODUCTS
def test_rounding_shows_beside_the_bound_of_float32(product):
    """Of ordinary numbers too: float32 is within its own bound of the exact product, bfloat16 isn't."""
    rng = np.random.default_rng(0)
    L, R = (rng.normal(size=shape).astype(F32) for shape in ((256, 256), (256, 256)))
    bound = ref.gamma_both(258, F32) * (np.abs(L).astype(np.float64) @ np.abs(R))
    error = np.abs(product(L, R) - L.astype(np.float64) @ R)
    assert np.mean(error > bound) > 0.5
    assert np.all(error <= bound + (2 * U8 + U8**2) * (np.abs(L).astype(np.float64) @ np.abs(R)))


# ---- NaN, infinity, denormals ----


@THREE_PRODUCTS
def test_every_nan_stays_one(product):
    """Those too whose leading 16 bits are infinity's, or to whose bits nothing can be added."""
    nans = np.array([0x7F80_0001, 0xFF80_0001, 0x7F80_8000, 0x7FC0_0000, 0x7FFF_FFFF, 0xFFFF_FFFF], np.uint32)
    for at, nan in enumerate(nans.view("f4")):
        L, R = np.zeros((256, 64), F32), np.zeros((64, 256), F32)
        i, k, j = 37 * at + 5, 11 * at + 3, 41 * at + 7
        L.view(np.uint32)[i, k] = nans[at]
        assert np.isnan(nan)
        np.testing.assert_array_equal(np.isnan(product(L, R)), (np.arange(256) == i)[:, None] & np.full(256, True))
        L[...] = 0
        R.view(np.uint32)[k, j] = nans[at]
        np.testing.assert_array_equal(np.isnan(product(L, R)), (np.arange(256) == j) & np.full((256, 1), True))


@THREE_PRODUCTS
def test_infinity_goes_through(product):
    """inf by a finite number is inf with the product's sign, by 0 is NaN, and with another inf against it NaN."""
    L, R = np.ones((256, 64), F32), np.ones((64, 256), F32)
    L[:, 9] = np.resize([1, -1, 0], 256)
    R[9, 100] = np.inf
    C = product(L, R)
    np.testing.assert_array_equal(C[:, 100], np.resize([np.inf, -np.inf, np.nan], 256))
    assert np.isfinite(np.delete(C, 100, axis=1)).all()
    L[:, 40] = 1
    R[40, 100] = -np.inf
    np.testing.assert_array_equal(product(L, R)[:, 100], np.resize([np.nan, -np.inf, np.nan], 256))
    L, R = np.ones((256, 64), F32), np.ones((64, 256), F32)
    L[77, 63] = -np.inf
    expected = np.full((256, 256), 64.0)
    expected[77] = -np.inf
    np.testing.assert_array_equal(product(L, R), expected)


@THREE_PRODUCTS
def test_what_rounds_beyond_the_largest_bfloat16_is_infinity(product):
    """The largest is (2 - 2^-7) 2^127, and half a step further, 3.3961775e38, is rounded to infinity."""
    x = np.array([3.395e38, 3.3961774e38, 3.3961776e38, 3.4e38, -3.4e38], F32)
    expected = np.array([2**-7 * (2 - 2**-7) * 2.0**127] * 2 + [np.inf, np.inf, -np.inf])
    L, R = np.zeros((256, 64), F32), np.full((64, 256), 2.0**-7, F32)
    L[:, 20] = np.resize(x, 256)
    np.testing.assert_array_equal(product(L, R), np.resize(expected, 256)[:, None] * np.ones(256))
    R = np.zeros((64, 256), F32)
    R[20] = np.resize(x, 256)
    L = np.full((256, 64), 2.0**-7, F32)
    np.testing.assert_array_equal(product(L, R), np.resize(expected, 256) * np.ones((256, 1)))


@THREE_PRODUCTS
def test_denormals_are_kept_or_taken_for_zero(product):
    """An operand, a product and a sum below 2^-126 may become 0; what is next to them is as ever."""
    small = np.array([2.0**-127, 2.0**-133, -(2.0**-149), 2.0**-126 - 2.0**-149, 2.0**-126, 0.0], F32)
    x = np.resize(small, 256).astype(F32)
    L, R = np.zeros((256, 64), F32), np.zeros((64, 256), F32)
    L[:, 3], R[3] = x, 1
    L[:, 5], R[5, 128:] = 1, 3
    C = product(L, R)
    expected = bf16(x)
    error = np.abs(C[:, :128] - expected[:, None])
    assert np.all(error <= SMALLEST_NORMAL)
    np.testing.assert_array_equal(C[4::6, :128], SMALLEST_NORMAL)  # the smallest normal number is none
    np.testing.assert_array_equal(C[:, 128:], 3)
    # operands that aren't, with a product that is
    L[...], R[...] = 2.0**-70, 2.0**-70
    assert np.all(np.abs(product(L, R) - 64 * 2.0**-140) <= SMALLEST_NORMAL)
    # products that aren't, with a sum that is
    L[:, 0], L[:, 1:] = 1.0078125, 0
    R[0] = SMALLEST_NORMAL
    L[:, 1], R[1] = -1, SMALLEST_NORMAL
    assert np.all(np.abs(product(L, R) - 2.0**-133) <= SMALLEST_NORMAL)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_reaches_its_row_or_column_through_every_activation(activation):
    n, n_prev, m = ALL_ROUND
    zero = {name: np.zeros(shape, F32) for name, shape in layer_shapes(*ALL_ROUND).items()}
    A_prev, W = zero["A_prev"].copy(), zero["W"].copy()
    A_prev[n_prev - 1, m - 1] = np.nan
    got = np.isnan(nk.kernels.dense_forward(W, A_prev, zero["b"], activation, compute="bfloat16"))
    np.testing.assert_array_equal(got, np.broadcast_to(np.arange(m) == m - 1, (n, m)))
    W[n - 1, 0] = np.nan
    got = np.isnan(nk.kernels.dense_forward(W, zero["A_prev"], zero["b"], activation, compute="bfloat16"))
    units = np.full(n, True) if activation == "softmax" else np.arange(n) == n - 1
    np.testing.assert_array_equal(got, np.broadcast_to(units[:, None], (n, m)))
    A, dA = np.full((n, m), 0.25, F32), zero["dA"].copy()
    dA[n - 1, 5] = np.nan
    gradients = nk.kernels.dense_backward(dA, zero["W"], zero["A_prev"], A, activation, Z=A, compute="bfloat16")
    examples = np.arange(m) == 5
    expected = (
        np.outer(units, examples),
        np.broadcast_to(units[:, None], (n, n_prev)),
        units[:, None],
        np.broadcast_to(examples, (n_prev, m)),
    )
    for name, actual, where in zip(GRADIENTS, gradients, expected, strict=True):
        np.testing.assert_array_equal(np.isnan(actual), where, err_msg=name)


# ---- memory ----


@pytest.mark.skipif(FACTS["usable_isas"] == "baseline", reason="pages of x86-64 Linux")
@pytest.mark.parametrize("side", ["before", "behind"])
def test_nothing_is_read_outside_an_operand(side):
    """Operands and outputs end, or begin, where a page that can't be read begins, or ends."""
    code = f"""
        import ctypes, mmap
        import numpy as np
        import nnkern as nk

        libc = ctypes.CDLL(None, use_errno=True)

        def guarded(a):
            pages = -(-a.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
            memory = mmap.mmap(-1, pages + 2 * mmap.PAGESIZE)
            start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            for page in (start, start + mmap.PAGESIZE + pages):
                assert libc.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, 0) == 0
            offset = mmap.PAGESIZE + ({side == "behind"}) * (pages - a.nbytes)
            view = np.ndarray(a.shape, a.dtype, memory, offset, order="F" if a.flags.f_contiguous else "C")
            view[...] = a
            return view

        rng = np.random.default_rng(0)
        shapes = [(257, 255, 193), (129, 600, 513), (200, 16, 201), (300, 383, 600), (17, 33, 47), (1, 65, 1)]
        for n, n_prev, m in shapes:
            for order in "CF":
                W, A_prev, b, dA = (
                    guarded(np.array(rng.normal(size=s), "f4", order=order))
                    for s in ((n, n_prev), (n_prev, m), (n, 1), (n, m))
                )
                A = guarded(np.full((n, m), np.nan, "f4", order=order))
                nk.kernels.dense_forward(W, A_prev, b, "tanh", out=A, compute="bfloat16")
                shapes_out = (n, m), (n, n_prev), (n, 1), (n_prev, m)
                out = tuple(guarded(np.full(s, np.nan, "f4", order=order)) for s in shapes_out)
                nk.kernels.dense_backward(dA, W, A_prev, A, "tanh", out=out, compute="bfloat16")
                assert all(np.isfinite(a).all() for a in (A, *out))
        print("done")
    """
    assert run(code) == "done\n"


# ---- a network against the oracle ----


def entering(x, error, rounds):
    """An operand as it enters a product, and how far the library's own may be from it: (array, bound).

    Rounding is monotone: what lies within x ± error is rounded to something between the two ends as they are rounded,
    which for most entries are the same number. Where the library may round or not, it stays within u = 2^-8.
    """
    if not rounds:
        return x, error + U8 * (np.abs(x) + error)
    rounded = bf16(x)
    return rounded, np.maximum(bf16(x + error) - rounded, rounded - bf16(x - error))


def near_product(A, B, plus=0.0, share=1.0, extra=1):
    """share A B + plus for (value, bound) pairs A and B, as (value, bound); see check_product for `extra`."""
    rounds = is_surely_rounded(*A[0].shape, B[0].shape[1])
    (P, p), (Q, q) = entering(*A, rounds), entering(*B, rounds)
    depth = P.shape[1]
    carried = share * (np.abs(P) @ q + p @ np.abs(Q) + p @ q)
    magnitude = share * (np.abs(P) @ np.abs(Q)) + carried + np.abs(plus)
    bound = carried + ref.gamma_both(depth + extra, F32) * magnitude + flushed(depth, P, Q)
    return share * (P @ Q) + plus, bound


def near_derivative(dA, Z, A, name):
    """dZ = dA g' with its bound; dA, Z and A are (value, bound) pairs. The kernel takes g' from A, rounded twice."""
    (dA, error), (z, z_error), (a, a_error) = dA, Z, A
    reach = np.abs(dA) + error
    if name == "tanh":
        slope, slope_error = 1 - a**2, 2 * np.abs(a) * a_error + a_error**2
        return dA * slope, error * slope + reach * (slope_error + 2 * ref.gamma_both(4, F32))
    assert name == "relu"
    # 0 or dA, whichever, where the sign of z isn't sure
    unsure = np.abs(z) <= z_error
    return np.where(z > 0, dA, 0.0), np.where(unsure, reach, np.where(z > 0, error, 0.0))


def near_network(X, Y, parameters, activations, l2=0.0):
    """A[L] and all gradients as (value, bound) pairs: ref.network_backward, with operands rounded as they enter.

    For squared_error with a linear output and cross_entropy with softmax, whose derivative by Z is A - Y.
    """
    exactly = {name: np.asarray(array, np.float64) for name, array in parameters.items()}
    L, m = len(activations), X.shape[1]
    A, Z = [(np.asarray(X, np.float64), np.zeros(X.shape))], [None]
    of_W = [None, *((exactly[f"W{l}"], np.zeros(exactly[f"W{l}"].shape)) for l in range(1, L + 1))]
    for l, name in enumerate(activations, start=1):
        z, error = near_product(of_W[l], A[-1], plus=exactly[f"b{l}"])
        Z.append((z, error))
        A.append((ref.activation_forward(z, name), ref.bound_A(z, name, F32, error)))
    a, error = A[-1]
    dZ = a - Y, error + ref.gamma_both(1, F32) * (np.abs(a - Y) + error)
    gradients = {}
    for l in range(L, 0, -1):
        dW, error = near_product(dZ, (A[l - 1][0].T, A[l - 1][1].T), share=1 / m, extra=2)
        penalty = l2 * exactly[f"W{l}"]
        error = error + ref.gamma_both(3, F32) * (np.abs(dW) + error + np.abs(penalty))
        gradients[f"dW{l}"] = dW + penalty, error
        value, of_dZ = dZ
        magnitude = (np.abs(value) + of_dZ).sum(axis=1, keepdims=True) / m
        bound = of_dZ.sum(axis=1, keepdims=True) / m + ref.gamma_both(m + 1, F32) * magnitude + flushed(m, value)
        gradients[f"db{l}"] = value.sum(axis=1, keepdims=True) / m, bound
        if l > 1:
            dA = near_product((of_W[l][0].T, of_W[l][1].T), dZ, extra=0)
            dZ = near_derivative(dA, Z[l - 1], A[l - 1], activations[l - 2])
    return A[-1], gradients


# units from the inputs on, activations, loss; with 256 examples all products but those of the last two are rounded
WIDE = {
    "one layer": ((256, 260), ("linear",), "squared_error"),
    "two layers": ((256, 272, 256), ("tanh", "linear"), "squared_error"),
    "relu": ((300, 256, 257), ("relu", "linear"), "squared_error"),
    "three layers": ((256, 256, 400, 250), ("tanh", "tanh", "linear"), "squared_error"),
    "classes": ((256, 272, 256), ("tanh", "softmax"), "cross_entropy"),
    "ten classes": ((256, 300, 256, 10), ("tanh", "relu", "softmax"), "cross_entropy"),
    "one output": ((256, 300, 1), ("tanh", "linear"), "squared_error"),
}
wide = pytest.mark.parametrize("case", WIDE.values(), ids=list(WIDE))


def wide_network(case, *, compute="bfloat16", seed=3, **options):
    """(net, X, Y as fit takes it, Y as the oracle does), 256 examples."""
    units, activations, loss = case
    rng = np.random.default_rng(seed)
    layers = [nk.Dense(n, name) for n, name in zip(units[1:], activations, strict=True)]
    net = nk.Network(layers, loss, n_x=units[0], compute=compute, seed=seed, **options)
    net.set_parameters({name: rng.normal(size=a.shape) / a.shape[1] ** 0.5 for name, a in net.parameters.items()})
    X = rng.normal(size=(units[0], 256)).astype(F32)
    if loss == "cross_entropy":
        labels = rng.integers(0, units[-1], 256)
        return net, X, labels, ref.one_hot(labels, units[-1])
    Y = rng.normal(size=(units[-1], 256)).astype(F32)
    return net, X, Y, Y


@functools.cache
def oracle_of(case, l2=0.0):
    """near_network's for the parameters and data of wide_network(case)."""
    net, X, _, Y_full = wide_network(case)
    return near_network(X, Y_full, net.parameters, case[1], l2)


@wide
def test_gradients_of_networks_against_the_oracle(compare, case):
    # with a penalty for one of them
    l2 = 0.125 if case is WIDE["relu"] else 0.0
    net, X, Y, _ = wide_network(case, l2=l2)
    A, gradients = oracle_of(case, l2)
    compare(net.predict(X), *A, "predict")
    compare(net.forward(X), *A, "forward")
    for name, actual in net.backward(Y).items():
        compare(actual, *gradients[name], name)


@wide
def test_a_step_of_training_against_the_oracle(compare, case):
    """θ - αg, the product and the difference rounded once each."""
    net, X, Y, _ = wide_network(case)
    _, gradients = oracle_of(case)
    before = {name: a.astype(np.float64) for name, a in net.parameters.items()}
    net.fit(X, Y, epochs=1, batch_size=None, optimizer=nk.SGD(0.5), shuffle=False)
    for name, theta in before.items():
        g, error = gradients[f"d{name}"]
        bound = 0.5 * error + ref.gamma_both(2, F32) * (np.abs(theta) + 0.5 * np.abs(g) + error)
        compare(net.parameters[name], theta - 0.5 * g, bound, name)


@pytest.mark.parametrize("name", ["one layer", "two layers", "relu", "three layers", "classes"])
def test_gradients_are_nearer_to_rounded_operands_than_to_others(name):
    """All products are among those that round. What rounding them changes is ten times what else the library is off by.

    The bound of the tests above has to assume that all that may happen happens to one entry. But an entry of A or dZ
    that float32 has off by some 2^-20 is rounded to the other neighbour once in 2^12: such errors, of 2^-8 like those
    of rounding, have 2^-6 of their norm, at each of the few products on the way.
    """
    case = WIDE[name]
    (net, X, Y, _), plain = wide_network(case), wide_network(case, compute=None)[0]
    _, gradients = oracle_of(case)
    for one in (net, plain):
        one.forward(X)
    grads, of_float32 = net.backward(Y), plain.backward(Y)
    for key, (value, _) in gradients.items():
        assert 0 < np.linalg.norm(grads[key] - value) < 0.1 * np.linalg.norm(of_float32[key] - value), key


@wide
def test_the_cost_is_that_of_the_outputs(case):
    """evaluate and the history of a fit have the cost of A as it was computed: losses are float32's."""
    net, X, Y, Y_full = wide_network(case)
    A = net.predict(X).astype(np.float64)
    if case[2] == "cross_entropy":
        cost = -np.log(A[Y, np.arange(256)]).mean()
    else:
        cost = 0.5 * ((A - Y_full) ** 2).sum(axis=0).mean()
    # sums of at most 257 outputs, of exponentials good to 4 ULP of numbers below 2^4, and the oracle's of A
    assert net.evaluate(X, Y).cost == pytest.approx(cost, rel=1e-5)
    history = net.fit(X, Y, epochs=1, batch_size=None, shuffle=False)
    assert history["cost"][0] == pytest.approx(cost, rel=1e-5)


LEARNT = {
    "Adam": (lambda X: np.sin(2 * X[:1]) * np.cos(X[1:2]), lambda: nk.Adam(1e-3), 400),
    "SGD": (lambda X: 0.5 * (X[:1] - X[1:2]), lambda: nk.SGD(0.05, momentum=0.9), 100),
}


@pytest.mark.parametrize(("f", "optimizer", "epochs"), LEARNT.values(), ids=list(LEARNT))
def test_losses_that_float32_reaches_are_reached(f, optimizer, epochs):
    """Half the mean square below 1e-3: outputs off by 2^-8 of some 0.5 have one of 2e-6."""
    X = np.random.default_rng(0).uniform(-1, 1, (16, 512)).astype(F32)
    Y = f(X).astype(F32)
    costs = {}
    for compute in (None, "bfloat16"):
        layers = [nk.Dense(256, "tanh"), nk.Dense(256, "tanh"), nk.Dense(1)]
        net = nk.Network(layers, "squared_error", seed=1, compute=compute)
        history = net.fit(X, Y, epochs=epochs, batch_size=256, optimizer=optimizer())
        assert history["cost"][0] > 0.05
        costs[compute] = net.evaluate(X, Y).cost
    assert costs[None] < 1e-3
    assert costs["bfloat16"] < 1e-3
    assert costs["bfloat16"] != costs[None]


# ---- the same bits ----

THREADS = (1, 2, 3, 5)


@pytest.mark.parametrize("shape", [ALL_ROUND, (512, 300, 600), (28, 2000, 700), (64, 64, 9000)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_kernels_give_the_same_bits_for_any_number_of_threads(shape, order):
    W, A_prev, b, dA = (np.array(array, order=order) for array in normal_layer(*shape).values())
    for activation in ("tanh", "softmax", "gelu"):
        seen = set()
        for threads in THREADS:
            options = {"threads": threads, "compute": "bfloat16"}
            A, Z = nk.kernels.dense_forward(W, A_prev, b, activation, return_Z=True, **options)
            grads = nk.kernels.dense_backward(dA, W, A_prev, A, activation, Z=Z, **options)
            seen.add(b"".join(array.tobytes() for array in (A, Z, *grads)))
        assert len(seen) == 1, activation


# layers, loss, n_x, examples, options of the network, options of fit
TRAININGS = {
    "wide": (
        lambda: [nk.Dense(512, "relu"), nk.Dense(260, "relu"), nk.Dense(10, "softmax")],
        "cross_entropy", 300, 600, {}, {"batch_size": 256, "optimizer": lambda: nk.Adam(1e-3)},
    ),
    "dropout and penalties": (
        lambda: [*(nk.Dense(n, "tanh", dropout=0.3) for n in (401, 303)), nk.Dense(5, "sigmoid")],
        "binary_cross_entropy", 257, 413, {"l2": 1e-3, "l1": 1e-4},
        {"batch_size": 200, "optimizer": lambda: nk.SGD(0.05, 0.9, nesterov=True)},
    ),
    "in order, no bias": (
        lambda: [*(nk.Dense(n, "leaky_relu", use_bias=False) for n in (300, 300)), nk.Dense(64)],
        "squared_error", 100, 300, {}, {"batch_size": 150, "shuffle": False, "optimizer": lambda: nk.AdamW(1e-3)},
    ),
    "full batch": (
        lambda: [nk.Dense(128, "relu"), nk.Dense(128, "gelu"), nk.Dense(3)],
        "squared_error", 64, 9001, {}, {"batch_size": None, "optimizer": lambda: nk.SGD(0.1)},
    ),
    "small": (
        lambda: [nk.Dense(17, "relu"), nk.Dense(3, "softmax")],
        "cross_entropy", 20, 301, {}, {"batch_size": 32, "optimizer": lambda: nk.Adam(0.01)},
    ),
}  # fmt: skip
trainings = pytest.mark.parametrize("case", TRAININGS.values(), ids=list(TRAININGS))


def data_of(case):
    layers, loss, n_x, m, _, _ = case
    rng = np.random.default_rng(4)
    n_y = layers()[-1].units
    X = np.asfortranarray(rng.normal(size=(n_x, m)).astype(F32))
    Y = {
        "cross_entropy": lambda: rng.integers(0, n_y, m),
        "binary_cross_entropy": lambda: rng.integers(0, 2, (n_y, m)),
    }.get(loss, lambda: rng.normal(size=(n_y, m)))()
    return X, Y


def new_network(case, compute="bfloat16"):
    layers, loss, n_x, _, options, _ = case
    return nk.Network(layers(), loss, n_x=n_x, seed=7, compute=compute, **options)


def fit_options(case):
    return {**case[-1], "optimizer": case[-1]["optimizer"]()}


def trained(case, threads, compute="bfloat16"):
    """Parameters and costs, as bytes, of two epochs and one more."""
    X, Y = data_of(case)
    net = new_network(case, compute)
    start = np.concatenate([a.ravel() for a in net.parameters.values()])
    options = {**fit_options(case), "threads": threads}
    costs = [*net.fit(X, Y, epochs=2, validation_data=(X[:, :100], Y[..., :100]), **options)["val_cost"]]
    costs += net.fit(X, Y, epochs=1, resume=True, **options)["cost"]
    theta = np.concatenate([a.ravel() for a in net.parameters.values()])
    assert np.isfinite(theta).all()
    assert np.mean(theta != start) > 0.3, "hardly anything was trained"
    return theta.tobytes() + np.array(costs).tobytes()


@trainings
def test_trainings_have_the_same_bits_for_any_number_of_threads_and_again(case):
    expected = trained(case, 1)
    for threads in (*THREADS[1:], 1):
        assert trained(case, threads) == expected, f"{threads} threads"


def test_bfloat16_trains_to_other_bits_than_float32():
    case = TRAININGS["wide"]
    assert trained(case, 2) != trained(case, 2, compute=None)


@trainings
@pytest.mark.parametrize("m", [1, 3, 257])
def test_predict_and_evaluate_give_the_same_bits_for_any_number_of_threads(case, m):
    X, Y = (array[..., :m] for array in data_of(case))
    net = new_network(case)
    seen = set()
    for threads in THREADS:
        A = net.predict(X, threads=threads)
        out = np.full(A.shape, np.nan, F32, order="F")
        net.predict(X, out=out, threads=threads)
        seen.add((A.tobytes(), out.tobytes(), net.evaluate(X, Y, threads=threads).cost))
    assert len(seen) == 1
    assert A.tobytes() == out.tobytes()


@pytest.mark.parametrize("threads", [1, 3])
def test_fit_many_gives_each_network_the_bits_of_fit(threads):
    """bfloat16 beside float32, wide and narrow, in one call."""
    X, Y = data_of(TRAININGS["wide"])

    def networks():
        D, seeds = nk.Dense, iter(range(9))
        return [
            nk.Network([*hidden, D(10, "softmax")], "cross_entropy", seed=next(seeds), compute=compute)
            for hidden in ([D(256, "relu")], [D(130, "tanh", dropout=0.2), D(256, "relu")], [D(8, "relu")])
            for compute in ("bfloat16", None)
        ]

    optimizers = [nk.Adam(), nk.SGD(0.1, momentum=0.9)] * 3
    together, alone = networks(), networks()
    histories = nk.fit_many(together, X, Y, epochs=2, batch_size=200, optimizer=optimizers, threads=threads)
    for net, other, history, optimizer in zip(together, alone, histories, optimizers, strict=True):
        assert history["cost"] == other.fit(X, Y, epochs=2, batch_size=200, optimizer=optimizer)["cost"]
        assert net.compute == other.compute
        for name, a in other.parameters.items():
            np.testing.assert_array_equal(net.parameters[name], a)


def test_networks_of_one_seed_differ_by_what_they_compute_in_only():
    """Initial weights, order and dropout are the same, so that one epoch leads to almost the same place."""
    X, Y = data_of(TRAININGS["dropout and penalties"])
    nets = [new_network(TRAININGS["dropout and penalties"], compute) for compute in (None, "bfloat16")]
    for name, a in nets[0].parameters.items():
        np.testing.assert_array_equal(nets[1].parameters[name], a)
    costs = [net.fit(X, Y, epochs=1, batch_size=200, optimizer=nk.SGD(0.01))["cost"][0] for net in nets]
    # outputs are off by some 2^-8 of their spread; another mask of dropout, or order, costs ten times that
    assert costs[1] == pytest.approx(costs[0], rel=2e-3)
    other = nk.Network(nets[0].layers, "binary_cross_entropy", l2=1e-3, l1=1e-4, seed=8, n_x=257)
    other.set_parameters(new_network(TRAININGS["dropout and penalties"]).parameters)
    assert other.fit(X, Y, epochs=1, batch_size=200, optimizer=nk.SGD(0.01))["cost"][0] != pytest.approx(
        costs[0], rel=2e-3
    )


@pytest.mark.parametrize("name", ["wide", "dropout and penalties", "full batch", "small"])
def test_invariant_predictions_depend_on_no_other_example(name):
    """Nor on how X lies in memory, nor on the number of threads."""
    case = TRAININGS[name]
    X = data_of(case)[0][:, :300]
    net = new_network(case)
    expected = net.predict(X, invariant=True)
    assert np.isfinite(expected).all()
    for m in (1, 2, 5, 17, 64, 130):
        for first in (0, 7, 300 - m):
            columns = slice(first, first + m)
            np.testing.assert_array_equal(net.predict(X[:, columns], invariant=True), expected[:, columns])
    others = X.copy()
    others[:, 10:] = 1e3 * X[:, :290]
    others[:, 60:70] = np.nan
    np.testing.assert_array_equal(net.predict(others, invariant=True)[:, :10], expected[:, :10])
    for layout in WRITABLE_LAYOUTS:
        np.testing.assert_array_equal(net.predict(LAYOUTS[layout](X), invariant=True), expected)
    for threads in THREADS:
        np.testing.assert_array_equal(net.predict(X, invariant=True, threads=threads), expected)


def test_invariant_predictions_are_within_the_bound(compare):
    net, X, _, _ = wide_network(WIDE["two layers"])
    value, bound = oracle_of(WIDE["two layers"])[0]
    # whichever products it rounds: each of the two layers within its own bound of the contract
    exact, far = ref.network_bound(X, net.parameters, ("tanh", "linear"), F32)
    W = {l: np.abs(net.parameters[f"W{l}"].astype(np.float64)) for l in (1, 2)}
    first = (2 * U8 + U8**2) * (W[1] @ np.abs(X))
    far = far + W[2] @ first + (2 * U8 + U8**2) * (W[2] @ (1 + first))
    A = net.predict(X, invariant=True)
    compare(A, exact, far, "invariant")
    compare(net.predict(X), value, bound, "predict")


# ---- what a network with it does ----


def small_case(**options):
    """A network that has its parameters, wide enough to round, and data for it."""
    X, Y = data_of(TRAININGS["wide"])
    layers = [nk.Dense(256, "relu", dropout=0.1), nk.Dense(10, "softmax")]
    return nk.Network(layers, "cross_entropy", n_x=300, seed=2, **{"compute": "bfloat16", **options}), X, Y


def assert_same_network(net, other, X):
    assert other.compute == net.compute == "bfloat16"
    assert other == net
    np.testing.assert_array_equal(other.predict(X), net.predict(X))


NAMES = ["net.npz", "net.safetensors"]


def path_of(folder, name):
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    return folder / name


@pytest.mark.parametrize("name", NAMES)
def test_files_keep_it(tmp_path, name):
    path = path_of(tmp_path, name)
    net, X, Y = small_case()
    assert "products in bfloat16" in repr(net)
    assert "products in bfloat16" in str(net.summary())
    net.fit(X, Y, epochs=1, batch_size=200)
    net.save(path)
    assert_same_network(net, nk.load(path), X)
    assert all(a.dtype == F32 for a in nk.load(path).parameters.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_float32_says_nothing_of_it(tmp_path, name):
    """As files did before there was one: those load, and compute in their dtype."""
    for dtype in ("float32", "float64"):
        net = small_case(compute=None, dtype=dtype)[0]
        assert "compute" not in net.config()
        assert "bfloat16" not in repr(net) + str(net.summary())
        net.save(path_of(tmp_path, name))
        loaded = nk.load(tmp_path / name)
        assert loaded.compute == dtype
        assert loaded == net


def test_a_pickle_from_before_loads():
    net, X, _ = small_case(compute=None)
    state = net.__getstate__()
    vars(state["model"]).pop("compute")
    old = nk.Network.__new__(nk.Network)
    old.__setstate__(state)
    assert old.compute == "float32"
    np.testing.assert_array_equal(old.predict(X), net.predict(X))


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda net: pickle.loads(pickle.dumps(net)),
        lambda net: nk.Network.from_model(net.to_model()),
    ],
    ids=["copy", "deepcopy", "pickle", "model"],
)
def test_copies_keep_it(copied):
    net, X, Y = small_case()
    net.fit(X, Y, epochs=1, batch_size=200)
    other = copied(net)
    assert_same_network(net, other, X)
    # and train on alike
    first, second = (one.fit(X, Y, epochs=1, batch_size=200)["cost"] for one in (net, other))
    assert first == second


def test_its_configuration_keeps_it():
    net = small_case()[0]
    assert net.config()["compute"] == "bfloat16"
    again = nk.Network.from_config(json.loads(json.dumps(net.config())))
    assert again.compute == "bfloat16"
    assert again != small_case(compute=None)[0]
    assert net != small_case(compute=None)[0]
    with pytest.raises(AttributeError):
        net.compute = "float32"


@pytest.mark.parametrize("name", NAMES)
def test_a_training_resumed_from_a_file_is_the_one_that_went_on(tmp_path, name):
    """The file has float32's θ and the optimizer's state, not what they were rounded to."""
    net, X, Y = small_case()
    path = path_of(tmp_path, name)
    history = net.fit(X, Y, epochs=4, batch_size=200, optimizer=nk.Adam(), callbacks=nk.Checkpoint(path, every=2))
    checkpoint = nk.load(path)
    whole, _, _ = small_case()
    whole.fit(X, Y, epochs=2, batch_size=200, optimizer=nk.Adam())
    whole.save(path, training_state=True)
    resumed = nk.load(path)
    more = resumed.fit(X, Y, epochs=2, batch_size=200, resume=True)
    assert more["cost"] == history["cost"][2:]
    assert_same_network(net, resumed, X)
    assert_same_network(net, checkpoint, X)


def test_onnx_knows_nothing_of_it(tmp_path):
    """The exported graph is that of the same network of float32."""
    pytest.importorskip("onnx")
    net, X, _ = small_case()
    plain = small_case(compute=None)[0]
    plain.set_parameters(net.parameters)
    for one, name in ((net, "bfloat16.onnx"), (plain, "float32.onnx")):
        one.to_onnx(tmp_path / name)
    assert (tmp_path / "bfloat16.onnx").read_bytes() == (tmp_path / "float32.onnx").read_bytes()
    again = nk.from_onnx(tmp_path / "bfloat16.onnx", loss="cross_entropy")
    assert again.compute == "float32"
    np.testing.assert_array_equal(again.predict(X), plain.predict(X))


def test_check_gradients_works_on_a_copy_in_float64():
    rng = np.random.default_rng(0)
    layers = [nk.Dense(128, "tanh"), nk.Dense(3)]
    net = nk.Network(layers, "squared_error", n_x=64, seed=0, compute="bfloat16")
    X, Y = rng.normal(size=(64, 128)), rng.normal(size=(3, 128))
    before = net.predict(X)
    # differences of rounded outputs would be off by 100 %: a step of 1e-5 is none to 8 bits
    assert nk.check_gradients(net, X, Y, max_entries=50) < 1e-6
    assert net.compute == "bfloat16"
    np.testing.assert_array_equal(net.predict(X), before)


@pytest.mark.parametrize("weights", [None, "float32", "bfloat16", "int8"])
def test_a_predictor_of_it_and_its_report(weights):
    """Frozen predictors keep what they are asked for, or what the network computes in; their report compares with the
    network as it predicts."""
    net, X, Y = small_case()
    plain = small_case(compute=None)[0]
    plain.set_parameters(net.parameters)
    predictor = net.compile_predict(weights=weights)
    assert predictor.weights == (weights or "bfloat16")
    np.testing.assert_array_equal(predictor(X), plain.compile_predict(weights=weights or "bfloat16")(X))
    report = predictor.report(net, X, Y)
    difference = np.abs(predictor(X).astype(np.float64) - net.predict(X))
    assert report.largest_difference == difference.max() > 0
    assert report.network_evaluation == net.evaluate(X, Y)
    assert report.network_evaluation.cost != report.evaluation.cost


def test_one_s_own_loop_is_fit():
    """forward, backward and step in order, as fit does them."""
    case = WIDE["two layers"]
    (net, X, Y, _), other = wide_network(case), wide_network(case)[0]
    net.fit(X, Y, epochs=1, batch_size=None, optimizer=nk.SGD(0.5), shuffle=False)
    other.forward(X, training=True)
    other.step(other.backward(Y), nk.SGD(0.5))
    third = wide_network(case)[0]
    third.partial_fit(X, Y, optimizer=nk.SGD(0.5))
    for name, a in net.parameters.items():
        np.testing.assert_array_equal(other.parameters[name], a)
        np.testing.assert_array_equal(third.parameters[name], a)


def test_divergence_is_noticed():
    net, X, Y, _ = wide_network(WIDE["two layers"])
    with pytest.raises(nk.DivergenceError):
        net.fit(X, Y, epochs=3, batch_size=None, optimizer=nk.SGD(1e30))
    assert all(np.isfinite(a).all() for a in net.parameters.values())


# ---- estimators ----


@pytest.fixture
def estimators():
    pytest.importorskip("sklearn", minversion="1.7")
    import nnkern.sklearn

    return nnkern.sklearn


OPTIONS = {"hidden_layer_sizes": (256,), "batch_size": 200, "max_iter": 3, "random_state": 0}


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer", "ignore:lbfgs failed to converge")
class TestEstimators:
    def data(self, dtype="float64"):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(400, 64)).astype(dtype)
        return X, (X[:, 0] + X[:, 1] ** 2 > 1).astype(int)

    @pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
    def test_its_network_is_of_float32_whatever_X_is(self, estimators, kind):
        X, y = self.data()
        of_X = {}
        for dtype in ("float64", "float32", "int64"):
            given = X if dtype != "int64" else np.rint(X)
            estimator = getattr(estimators, kind)(compute="bfloat16", **OPTIONS).fit(given.astype(dtype), y)
            assert (estimator.network_.dtype, estimator.network_.compute) == (F32, "bfloat16")
            assert all(W.dtype == F32 for W in estimator.coefs_)
            of_X[dtype] = estimator
        np.testing.assert_array_equal(of_X["float64"].predict(X), of_X["float32"].predict(X.astype(F32)))
        plain = getattr(estimators, kind)(**OPTIONS).fit(X.astype(F32), y)
        assert plain.network_.compute == "float32"
        assert not np.array_equal(plain.coefs_[0], of_X["float32"].coefs_[0])
        # three epochs of 8 bits are near float32's: weights are some 0.1, learnt by steps of at most 0.001
        np.testing.assert_allclose(of_X["float32"].coefs_[0], plain.coefs_[0], atol=6 * 2 * 1e-3)
        assert getattr(estimators, kind)(**OPTIONS).fit(X, y).network_.compute == "float64"

    def test_parameters_and_clones(self, estimators):
        from sklearn.base import clone

        estimator = estimators.MLPClassifier(compute="bfloat16", **OPTIONS)
        assert estimator.get_params()["compute"] == "bfloat16"
        assert clone(estimator).get_params() == estimator.get_params()
        assert "compute='bfloat16'" in repr(estimator)
        assert estimators.MLPClassifier().get_params()["compute"] is None
        X, y = self.data()
        first, second = (one.fit(X, y) for one in (estimator, clone(estimator)))
        np.testing.assert_array_equal(first.coefs_[0], second.coefs_[0])
        again = pickle.loads(pickle.dumps(first))
        assert again.network_.compute == "bfloat16"
        np.testing.assert_array_equal(again.predict_proba(X), first.predict_proba(X))
        for compute in (None, "bfloat16"):
            assert first.set_params(compute=compute).fit(X, y).network_.compute == (compute or "float64")

    def test_searches(self, estimators):
        from sklearn.model_selection import GridSearchCV

        X, y = self.data("float32")
        search = GridSearchCV(estimators.MLPClassifier(**OPTIONS), {"compute": [None, "bfloat16"]}, cv=2)
        search.fit(X, y)
        assert [one["compute"] for one in search.cv_results_["params"]] == [None, "bfloat16"]
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    def test_warm_start_goes_on(self, estimators):
        """Two fits of 3 epochs have the bits of a warm start of 3 and 3; nothing is lost between them."""
        X, y = self.data()
        options = {**OPTIONS, "compute": "bfloat16", "warm_start": True}
        first, second = (estimators.MLPClassifier(**options).fit(X, y) for _ in "ab")
        losses = first.fit(X, y).loss_curve_
        assert losses[:3] + second.fit(X, y).loss_curve_[3:] == losses
        assert first.network_.compute == "bfloat16"
        assert losses[-1] < losses[0]
        np.testing.assert_array_equal(first.coefs_[0], second.coefs_[0])
        assert first.coefs_[0].dtype == F32

    def test_partial_fit_and_lbfgs(self, estimators):
        X, y = self.data()
        estimator = estimators.MLPClassifier(compute="bfloat16", **OPTIONS)
        for _ in range(2):
            estimator.partial_fit(X, y, classes=[0, 1])
        assert estimator.network_.compute == "bfloat16"
        lbfgs = estimators.MLPRegressor(solver="lbfgs", compute="bfloat16", **OPTIONS).fit(X, y)
        assert lbfgs.network_.compute == "bfloat16"
        assert lbfgs.score(X, y) > 0

    @pytest.mark.parametrize("value", ["float16", "float32", True, 5, b"bfloat16"])
    def test_refusals(self, estimators, value):
        X, y = self.data()
        with pytest.raises(ValueError, match="'compute' parameter"):
            estimators.MLPClassifier(compute=value, **OPTIONS).fit(X, y)


# ---- the command line ----


def command(capfd, *arguments):
    """(status, stdout, stderr)"""
    from nnkern import cli

    capfd.readouterr()
    status = cli.main([str(argument) for argument in arguments])
    return status, *capfd.readouterr()


def test_the_command_line_trains_with_it(tmp_path, capfd):
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    path = tmp_path / "m.npz"
    options = ["--quiet", "--epochs", 6, "--layers", "256,256", "--batch-size", 256, "--save", path]
    status, out, err = command(capfd, "train", "--compute", "bfloat16", *options)
    assert (status, err) == (0, "")
    # 0.91 after as many epochs of float32; classes of digits that weren't learnt would give 0.1
    assert float(out.split("held-out accuracy ")[1].split()[0]) > 0.85
    net = nk.load(path)
    assert (net.compute, net.dtype) == ("bfloat16", F32)
    status, out, err = command(capfd, "evaluate", path)
    assert (status, err) == (0, "")
    assert "accuracy" in out


def test_the_command_line_refuses_what_it_can_t_do(tmp_path, capfd):
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    for arguments in (["--dtype", "float64", "--compute", "bfloat16"], ["--compute", "float16"]):
        status, out, err = command(capfd, "train", "--epochs", 1, *arguments)
        assert (status, out) == (2, "")
        assert "compute" in err
        assert err.count("\n") == 1


def test_info_tells_what_multiplies(capfd):
    facts = nk.show_config().to_dict()
    assert facts["bfloat16"]
    assert "bfloat16" in str(nk.show_config())
    status, out, _ = command(capfd, "info")
    assert status == 0
    assert any(line.split() == ["bfloat16", *facts["bfloat16"].split()] for line in out.splitlines())


# ---- refusals ----

WORDS = {
    "network": lambda compute, dtype=F32: nk.Network([nk.Dense(1)], "squared_error", compute=compute, dtype=dtype),
    "forward": lambda compute, dtype=F32: nk.kernels.dense_forward(
        np.ones((2, 3), dtype), np.ones((3, 4), dtype), None, "relu", compute=compute
    ),
    "backward": lambda compute, dtype=F32: nk.kernels.dense_backward(
        np.ones((2, 4), dtype), np.ones((2, 3), dtype), np.ones((3, 4), dtype), np.ones((2, 4), dtype), "relu",
        compute=compute,
    ),
}  # fmt: skip
everywhere = pytest.mark.parametrize("ask", WORDS.values(), ids=list(WORDS))


@everywhere
@pytest.mark.parametrize(
    "value",
    ["float16", "int8", "bf16", "BFLOAT16", " bfloat16", "", "float64", True, False, 0, 5, 1.5, b"bfloat16",
     ["bfloat16"], ("bfloat16",), {"bfloat16": 1}, np.float16, object, {1, 2}],
    ids=repr,
)  # fmt: skip
def test_what_is_no_compute_type_is_refused(ask, value):
    with pytest.raises((ValueError, TypeError), match=r"^compute must be None"):
        ask(value)


@everywhere
@pytest.mark.parametrize("value", ["bfloat16", ["bfloat16"], ["bfloat16"] * 2, []], ids=str)
def test_arrays_are_refused(ask, value):
    with pytest.raises((ValueError, TypeError), match=r"^compute must be None"):
        ask(np.array(value))


@everywhere
def test_float64_is_refused(ask):
    with pytest.raises(ValueError, match=r"compute.*float32.*float64"):
        ask("bfloat16", np.float64)


@everywhere
def test_nothing_is_asked_for_by_none(ask):
    ask(None)
    ask(None, np.float64)


def test_names_of_the_dtype_are_no_other_compute_type():
    for dtype in ("float32", "float64"):
        net = nk.Network([nk.Dense(1)], "squared_error", compute=dtype, dtype=dtype)
        assert net.compute == dtype
        assert net == nk.Network([nk.Dense(1)], "squared_error", dtype=dtype)
    assert nk.Network([nk.Dense(1)], "squared_error").compute == "float32"


def test_refused_calls_write_to_nothing():
    out = np.full((2, 4), np.nan, F32)
    W, A_prev = np.ones((2, 3), F32), np.ones((3, 4), F32)
    with pytest.raises(ValueError, match="compute"):
        nk.kernels.dense_forward(W, A_prev, None, "relu", out=out, compute="float16")
    with pytest.raises(ValueError, match="compute"):
        nk.kernels.dense_backward(
            np.ones((2, 4), F32), W, A_prev, np.ones((2, 4), F32), "relu", out=(out, None, None, None), compute="x"
        )
    assert np.isnan(out).all()


# ---- other kernels ----

# of these each asks the kernels of an instruction set for something that isn't asked for by another
SHORT = (
    "test_layer or short_sum and 207 or whole_numbers or is_rounded or beyond or bound_of_the or beside_the_bound"
    " or nan or infinity or denormals or outside or kernels_give or again and wide"
)
# avx512_vnni has products of int8 only: those of bfloat16 are avx512's; what baseline has is avx2's in narrower vectors
OTHER_KERNELS = [{"NNKERN_ISA": isa} for isa in USABLE_ISAS if isa not in (FACTS["isa"], "avx512_vnni", "baseline")]
OTHER_KERNELS.append({"NNKERN_GEMM": "blas"})


@pytest.mark.own_kernels
@pytest.mark.skipif(len(USABLE_ISAS) == 1, reason="one instruction set")
def test_other_kernels_train_to_the_same_costs():
    """Native or emulated: the same operands are rounded, in layers that are wide enough, and sums end differently.

    Where a sum of float32 ends differently, an operand in 2^12 is rounded to its other neighbour in the next product:
    that moves a gradient by 2^-8 2^-6 of its norm, and the cost by as much of what a step changes: of four steps, less
    than 4 2^-14. Operands cut off, and not rounded, would be off by 2^-9 on the average, all to the same side.
    """
    code = """
        import numpy as np
        import nnkern as nk

        X = np.random.default_rng(0).normal(size=(256, 256)).astype("f4")
        Y = np.sin(X)
        layers = [nk.Dense(256, "tanh"), nk.Dense(256, "relu"), nk.Dense(256)]
        net = nk.Network(layers, "squared_error", seed=1, n_x=256, compute="bfloat16")
        options = {"epochs": 1, "batch_size": None, "shuffle": False, "optimizer": nk.SGD(0.05, momentum=0.9)}
        print(*(net.fit(X, Y, resume=k > 0, **options)["cost"][0].hex() for k in range(5)))
    """
    assert is_surely_rounded(256, 256, 256)
    costs = {
        isa: [float.fromhex(cost) for cost in run(code, environment={"NNKERN_ISA": isa}).split()] for isa in USABLE_ISAS
    }
    expected = costs["baseline"]
    assert expected[-1] < 0.5 * expected[0]
    for isa, of_isa in costs.items():
        # before any step: a forward pass
        assert of_isa[0] == pytest.approx(expected[0], rel=2**-18), isa
        assert of_isa == pytest.approx(expected, rel=2**-12), isa


@pytest.mark.own_kernels
@pytest.mark.parametrize("environment", OTHER_KERNELS, ids=lambda environment: "-".join(environment.values()))
def test_other_kernels(environment):
    run_tests("test_bfloat16.py", SHORT, NNKERN_TEST_PROFILE="emulated", **environment)
