"""compute="bfloat16": what it means, where it is asked for, and what refuses it.

The oracle rounds operands in float64 and multiplies there. A product of the library is as exact as float32's when held
against it: by the contract the operands that enter are rounded, or, in small products, aren't; its products of two
entries are exact in float32 (8 bits by 8 bits), and its sums are float32's. So the bounds here are those of
reference.py for float32, of the operands as they were rounded; a term meets no more roundings. That is some 2^16
times as tight as the bound of the contract, which says how far rounded operands may lead from the unrounded ones.
"""

import numpy as np
import pytest
import reference as ref
from conftest import (
    LAYOUTS,
    WRITABLE_LAYOUTS,
    assert_only_inside,
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
    rounded, exact = [], []
    for R, of in ((bf16, rounded), (lambda x: np.asarray(x, np.float64), exact)):
        P, Q = R(A), R(B)
        magnitude = share * (np.abs(P) @ np.abs(Q)) + np.abs(plus)
        of += share * (P @ Q) + plus, ref.gamma_both(depth + extra, F32) * magnitude + flushed(depth, P, Q)
    if not is_surely_rounded(rows, depth, columns) and np.all(np.abs(actual - exact[0]) <= exact[1]):
        rounded = exact
    compare(actual, *rounded, what)


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
    W, A_prev, b, dA = (LAYOUTS[layout](array) for layout, array in zip(layouts, layer.values(), strict=False))
    n, _, m = shape
    A = prefilled((n, m), F32, out_layouts[4])
    _, Z = check_forward(compare, W, A_prev, b, activation, layouts, negative_slope, out=A)
    A_given, Z_given = (LAYOUTS[layouts[4]](array) for array in (A, Z))
    out = tuple(
        prefilled(size, F32, layout)
        for size, layout in zip(gradient_shapes(*shape).values(), out_layouts, strict=False)
    )
    check_backward(compare, dA, W, A_prev, A_given, Z_given, activation, layouts, negative_slope, out=out)
    for array in (A, *out):
        assert_only_inside(array)


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


# ---- where it is asked for ----


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


# ---- other kernels ----

OTHER_KERNELS = [{"NNKERN_ISA": isa} for isa in USABLE_ISAS if isa != FACTS["isa"]] + [{"NNKERN_GEMM": "blas"}]


@pytest.mark.own_kernels
@pytest.mark.parametrize("environment", OTHER_KERNELS, ids=lambda environment: "-".join(environment.values()))
def test_other_kernels(environment):
    run_tests("test_bfloat16.py", "not other_kernels", **environment)
