"""dense_forward and dense_backward against the oracle.

Values, layouts, `out=`, edges, refusals, and what 10,000 calls leave behind.
"""

import functools
import itertools
import re
import sys

import numpy as np
import pytest
import reference as ref
from conftest import (
    BF16_ISAS,
    DTYPES,
    LAYOUTS,
    SIZES,
    UNUSUAL_LAYOUTS,
    WRITABLE_LAYOUTS,
    assert_no_leaks,
    assert_only_inside,
    check_in_layouts,
    fails,
    measured,
    prefilled,
    run,
    run_tests,
    unmodified,
)
from hypothesis import given
from hypothesis import strategies as st

import nnkern as nk

ACTIVATIONS = nk.kernels.ACTIVATIONS
GRADIENTS = ("dZ", "dW", "db", "dA_prev")
USABLE_ISAS = [isa for isa in nk.show_config().to_dict()["usable_isas"].split(", ") if isa not in BF16_ISAS]
LAYER_SIZES = (17, 13, 33)
"""n, n_prev, m where one size does: none a multiple of a vector."""


def test_the_oracle_knows_every_activation():
    assert set(ACTIVATIONS) == set(ref.ACTIVATIONS)


def layer_shapes(n, n_prev, m):
    return {"W": (n, n_prev), "A_prev": (n_prev, m), "b": (n, 1), "dA": (n, m)}


def normal_layer(n, n_prev, m, dtype, seed=0, scale=1.0):
    """W, A_prev, b, dA; W is scaled so that Z keeps the given scale for every n_prev."""
    rng = np.random.default_rng(seed)
    shapes = layer_shapes(n, n_prev, m)
    layer = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    layer["W"] *= scale / max(n_prev, 1) ** 0.5
    return {name: array.astype(dtype) for name, array in layer.items()}


def gradient_shapes(n, n_prev, m):
    return {"dZ": (n, m), "dW": (n, n_prev), "db": (n, 1), "dA_prev": (n_prev, m)}


def check_forward(compare, W, A_prev, b, activation, what="", negative_slope=0.01, **options):
    """Runs dense_forward, holds A and Z against the oracle within bounds, gives A, Z."""
    dtype = W.dtype.newbyteorder("=")
    what = f"{what} {activation} {W.shape} x {A_prev.shape} {dtype}"
    options["negative_slope"] = negative_slope
    with unmodified(W, A_prev, b):
        A, Z = nk.kernels.dense_forward(W, A_prev, b, activation, return_Z=True, **options)
    expected_A, expected_Z = ref.dense_forward(W, A_prev, b, activation, negative_slope)
    Z_bound = ref.bound_Z(W, A_prev, b, dtype)
    A_bound = ref.bound_A(expected_Z, activation, dtype, Z_bound, negative_slope)
    assert A.dtype == Z.dtype == dtype
    compare(Z, expected_Z, Z_bound, f"Z, {what}")
    compare(A, expected_A, A_bound, f"A, {what}")
    return A, Z


def check_backward(compare, dA, W, A_prev, A, Z, activation, what="", negative_slope=0.01, **options):
    """Runs dense_backward, holds the gradients against the oracle within bounds, gives them."""
    dtype = W.dtype.newbyteorder("=")
    what = f"{what} {activation} {W.shape} x {A_prev.shape} {dtype}"
    options |= {"Z": Z, "negative_slope": negative_slope}
    with unmodified(dA, W, A_prev, A, Z):
        gradients = nk.kernels.dense_backward(dA, W, A_prev, A, activation, **options)
    case = (dA, W, A_prev, ref.operand(activation, A, Z), activation)
    expected = ref.dense_backward(*case, negative_slope)
    bounds = ref.bound_backward(*case, dtype, negative_slope)
    for name, actual, value, bound in zip(GRADIENTS, gradients, expected, bounds, strict=True):
        assert actual.dtype == dtype
        compare(actual, value, bound, f"{name}, {what}")
    return gradients


# ---- values ----

INTEGERS = np.random.default_rng(0).integers(-3, 4, (4, max(SIZES), max(SIZES)))
"""Sums of 65 products of these stay below 2^24: every order of summation is exact."""

EXACT_ACTIVATIONS = ("linear", "relu", "leaky_relu")
"""With a slope of 1/2 all three keep integers and halves exact."""


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("activation", EXACT_ACTIVATIONS)
def test_forward_is_exact_on_integers(dtype, activation, n):
    W_all, X_all, b_all = (array.astype(dtype) for array in INTEGERS[:3])
    for n_prev in SIZES:
        W, b = W_all[:n, :n_prev], b_all[:n, :1]
        for m in SIZES:
            A_prev = X_all[:n_prev, :m]
            A = prefilled((n, m), dtype)
            nk.kernels.dense_forward(W, A_prev, b, activation, out=A, negative_slope=0.5)
            expected, _ = ref.dense_forward(W, A_prev, b, activation, 0.5)
            np.testing.assert_array_equal(A, expected, err_msg=f"n_prev={n_prev} m={m}")


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("activation", EXACT_ACTIVATIONS)
def test_backward_is_exact_on_integers(dtype, activation, n):
    """dW and db carry 1/m: exact where m is a power of 2, else m times them rounds to exact."""
    dA_all, W_all, X_all, A_all = (array.astype(dtype) for array in INTEGERS)
    for n_prev in SIZES:
        W = W_all[:n, :n_prev]
        for m in SIZES:
            dA, A_prev, A = dA_all[:n, :m], X_all[:n_prev, :m], A_all[:n, :m]
            out = tuple(prefilled(s, dtype) for s in gradient_shapes(n, n_prev, m).values())
            nk.kernels.dense_backward(dA, W, A_prev, A, activation, out=out, negative_slope=0.5)
            expected = ref.dense_backward(dA, W, A_prev, A, activation, 0.5)
            for name, actual, value in zip(GRADIENTS, out, expected, strict=True):
                if name in ("dW", "db") and m & (m - 1):
                    # sums of halves: twice m times the mean is an integer
                    actual, value = (np.rint(2 * m * g.astype(np.float64)) for g in (actual, value))
                np.testing.assert_array_equal(actual, value, err_msg=f"{name} n_prev={n_prev} m={m}")


# Beyond the blocks that fit a cache, and vectors of each orientation.
LARGE = [
    *[(1, 1000, 512), (1, 1, 4096), (300, 1, 256), (130, 257, 1)],
    *[(2, 3, 16384), (200, 129, 1024)],
    # few units over long sums
    *[(2, 769, 8), (5, 2048, 2), (7, 767, 64), (10, 512, 32), (20, 1537, 16), (24, 777, 32), (25, 1024, 8)],
]


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large_layers_are_exact_on_integers(dtype, shape):
    """m is a power of 2, so that 1/m is exact; sums stay below 9 * 16384 + 3 < 2^24."""
    rng = np.random.default_rng(1)
    W, A_prev, b, dA = (
        np.asfortranarray(rng.integers(-3, 4, size)).astype(dtype) for size in layer_shapes(*shape).values()
    )
    A = nk.kernels.dense_forward(W, A_prev, b, "relu")
    np.testing.assert_array_equal(A, ref.dense_forward(W, A_prev, b, "relu")[0])
    gradients = nk.kernels.dense_backward(dA, W, A_prev, A, "relu")
    expected = ref.dense_backward(dA, W, A_prev, A, "relu")
    for name, actual, value in zip(GRADIENTS, gradients, expected, strict=True):
        np.testing.assert_array_equal(actual, value, err_msg=name)


@pytest.mark.parametrize("chunks", range(2, 34))
def test_each_number_of_chunks(compare, chunks):
    """Gradients of 4096 examples each are added up in a tree, which has a shape of its own for each number of them."""
    layer = normal_layer(2, 3, 4096 * chunks - 5, np.float64)
    A, Z = check_forward(compare, layer["W"], layer["A_prev"], layer["b"], "tanh")
    check_backward(compare, layer["dA"], layer["W"], layer["A_prev"], A, Z, "tanh")


@pytest.mark.parametrize("shape", LARGE, ids=str)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_large_layers(compare, dtype, activation, shape):
    n, n_prev, m = shape
    W, A_prev, b, dA = normal_layer(n, n_prev, m + m // 3, dtype).values()
    A, Z = check_forward(compare, W, A_prev, b, activation)
    check_backward(compare, dA, W, A_prev, A, Z, activation)


# ---- products of matrices, whatever computes them ----
# Rows, columns and lengths of sums below, at and above multiples of vectors, tiles and panels, and beyond what is
# packed; an entry takes part in sums of at most 1025 products of at most 9: every order of summation is exact.

EDGE_ROWS = (1, 3, 16, 17, 24, 25, 28, 29, 32, 33, 64, 65)
EDGE_COLUMNS = (1, 2, 6, 14, 15, 28, 29, 56, 57, 64, 65)
EDGE_SUMS = (2, 47, 48, 255, 256, 257, 512, 513, 767, 768, 769, 1023, 1024, 1025)


def page_apart(a):
    """The same values, whose columns begin a multiple of 4096 bytes apart: all in the same sets of a cache."""
    entries = 4096 // a.itemsize
    view = np.full((-(-a.shape[0] // entries) * entries, a.shape[1]), np.nan, a.dtype, order="F")[: a.shape[0]]
    view[...] = a
    return view


PRODUCT_LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "columns pages apart": page_apart,
    "rows pages apart": lambda a: page_apart(a.T).T,
}


def forward_product(L, R, **options):
    """W A_prev"""
    C = prefilled((L.shape[0], R.shape[1]), L.dtype)
    return nk.kernels.dense_forward(L, R, None, "linear", out=C, **options)


def input_gradient_product(L, R, **options):
    """Wᵀ dZ with W = Lᵀ"""
    C = prefilled((L.shape[0], R.shape[1]), L.dtype)
    nk.kernels.dense_backward(R, L.T, C.copy(), R, "linear", out=(None, None, None, C), **options)
    return C


def weight_gradient_product(L, R, **options):
    """dZ A_prevᵀ with A_prev = Rᵀ: m times dW, which is rounded once more"""
    C = prefilled((L.shape[0], R.shape[1]), L.dtype)
    nk.kernels.dense_backward(L, C.copy(), R.T, L, "linear", need_dA_prev=False, out=(None, C, None, None), **options)
    return np.rint(C.astype(np.float64) * L.shape[1])


PRODUCTS = {
    function.__name__: function for function in (forward_product, input_gradient_product, weight_gradient_product)
}
by_product = pytest.mark.parametrize("product", PRODUCTS.values(), ids=list(PRODUCTS))
# of L and R: each orientation with each, some of them far apart
by_layout = pytest.mark.parametrize(
    "layouts",
    [(a, b) for a in PRODUCT_LAYOUTS for b in PRODUCT_LAYOUTS if ("pages" in a) == ("pages" in b)],
    ids="|".join,
)


@functools.cache
def integers(rows, depth, columns):
    """L (rows, depth), R (depth, columns) and L R, by numpy's integers: no BLAS has a hand in it."""
    rng = np.random.default_rng(depth)
    L, R = rng.integers(-3, 4, (rows, depth)), rng.integers(-3, 4, (depth, columns))
    return L, R, L @ R


def integer_operands(rows, depth, columns, dtype, layouts):
    """L and R in those layouts, and L R."""
    L, R, LR = integers(rows, depth, columns)
    laid = (PRODUCT_LAYOUTS[layout](a.astype(dtype)) for layout, a in zip(layouts, (L, R), strict=True))
    return *laid, LR.astype(np.float64)


def check_products(product, dtype, layouts, depth, sizes):
    rows, columns = map(max, zip(*sizes, strict=True))
    L, R, LR = integer_operands(rows, depth, columns, dtype, layouts)
    for rows, columns in sizes:
        C = product(L[:rows], R[:, :columns])
        if not np.array_equal(C, LR[:rows, :columns]):
            wrong = np.argwhere(LR[:rows, :columns] != C)
            pytest.fail(f"({rows}, {depth}) x ({depth}, {columns}): {len(wrong)} entries wrong, first {wrong[0]}")


@by_product
@pytest.mark.parametrize("layout", ["C", "F"])
def test_products_of_every_small_size_are_exact(dtype, product, layout):
    sizes = list(itertools.product(range(1, 71), range(1, 61)))
    check_products(product, dtype, (layout, layout), 9, sizes)


@by_product
@by_layout
def test_products_are_exact_around_every_edge(dtype, product, layouts):
    """Every length of sum meets every number of rows and of columns; in a sixth of their pairs, another each time."""
    pairs = list(itertools.product(enumerate(EDGE_ROWS), enumerate(EDGE_COLUMNS)))
    for turn, depth in enumerate(EDGE_SUMS):
        sizes = [(rows, columns) for (i, rows), (j, columns) in pairs if (i + j + turn) % 6 == 0]
        check_products(product, dtype, layouts, depth, sizes)


@by_product
@by_layout
def test_products_shared_out_among_threads_are_exact(dtype, product, layouts):
    """The bounds of the parts are multiples of nothing; beyond 3 KB of columns and 64 rows operands are packed."""
    for rows, depth, columns in ((131, 769, 203), (67, 1025, 401), (20, 1000, 377), (20, 300, 801)):
        L, R, LR = integer_operands(rows, depth, columns, dtype, layouts)
        for threads in (1, 2, 8):
            np.testing.assert_array_equal(product(L, R, threads=threads), LR, err_msg=f"{L.shape} {R.shape} {threads}")


@by_product
@pytest.mark.parametrize("layout", WRITABLE_LAYOUTS)
def test_products_of_one_term_are_exact(dtype, product, layout):
    """A row, or a column, of any strides lies for BLAS and for tiles: with one input, or of one example."""
    for rows, columns in itertools.product((1, 3, 63, 64, 65, 131), (2, 15, 64, 401)):
        L, R, LR = integers(rows, 1, columns)
        L, R = (WRITABLE_LAYOUTS[layout](a.astype(dtype)) for a in (L, R))
        np.testing.assert_array_equal(product(L, R), LR, err_msg=f"{L.shape} {R.shape}")


# besides the best instruction set's tiles, which are this process's where nothing was asked for
OTHER_KERNELS = [
    {"NNKERN_GEMM": "blas"},
    *[{"NNKERN_ISA": isa, "NNKERN_GEMM": "tiles"} for isa in USABLE_ISAS[1:] or USABLE_ISAS],
]


@pytest.mark.own_kernels
@pytest.mark.parametrize("environment", OTHER_KERNELS, ids=lambda environment: "-".join(environment.values()))
def test_products_are_exact_with_other_kernels(environment):
    run_tests("test_kernels_dense.py", "test_products and not other_kernels", **environment)


LAYERS = st.tuples(*[st.sampled_from([size for size in SIZES if size])] * 3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@given(
    shape=LAYERS,
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    seed=st.integers(0, 2**32 - 1),
    negative_slope=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    layouts=st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 5),
    out_layouts=st.tuples(*[st.sampled_from(sorted(WRITABLE_LAYOUTS))] * 5),
)
def test_any_layer(compare, activation, shape, dtype, scale, seed, negative_slope, layouts, out_layouts):
    if activation == "exp":
        scale = min(scale, 1.0)  # float32 has no e^100
    layer = normal_layer(*shape, dtype, seed, scale)
    check_in_layouts(
        layer,
        layouts,
        out_layouts,
        lambda *arrays, **out: check_forward(compare, *arrays, activation, layouts, negative_slope, **out),
        lambda *arrays, **out: check_backward(compare, *arrays, activation, layouts, negative_slope, **out),
    )


def test_derivative_of_the_cross_entropy_through_sigmoid(compare, dtype):
    """dA = -Y/A + (1 - Y)/(1 - A) gives dZ = A - Y."""
    rng = np.random.default_rng(2)
    A = rng.uniform(0.01, 0.99, (5, 37)).astype(dtype)
    W, A_prev = (rng.normal(size=shape).astype(dtype) for shape in ((5, 4), (4, 37)))
    for Y in (rng.integers(0, 2, A.shape), rng.uniform(size=A.shape)):
        Y = Y.astype(dtype)
        dA = -Y / A + (1 - Y) / (1 - A)
        dZ = nk.kernels.dense_backward(dA, W, A_prev, A, "sigmoid").dZ
        # at most 4 roundings to each quotient and their sum, 3 to the product with a (1 - a)
        magnitude = Y.astype(np.float64) * (1 - A) + (1 - Y.astype(np.float64)) * A
        exact = A.astype(np.float64) - Y
        compare(dZ, exact, ref.gamma_both(8, dtype) * magnitude)


def test_derivative_at_zero():
    """relu' is 0 where a = 0, of either sign."""
    A = np.array([[0.0, -0.0, 1.0]])
    dZ = nk.kernels.dense_backward(np.ones((1, 3)), np.ones((1, 1)), A, A, "relu").dZ
    np.testing.assert_array_equal(dZ, [[0, 0, 1]])


# ---- what comes back ----


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_returned(dtype, activation):
    W, A_prev, b, dA = normal_layer(*LAYER_SIZES, dtype).values()
    A = nk.kernels.dense_forward(W, A_prev, b, activation)
    A_again, Z = nk.kernels.dense_forward(W, A_prev, b, activation, return_Z=True)
    np.testing.assert_array_equal(A, A_again)
    gradients = nk.kernels.dense_backward(dA, W, A_prev, A, activation, Z=Z)
    assert gradients._fields == GRADIENTS
    for name, shape in gradient_shapes(*LAYER_SIZES).items():
        assert getattr(gradients, name).shape == shape
    arrays = (A, Z, *gradients)
    for array in arrays:
        assert array.dtype == dtype
        assert array.flags.f_contiguous
        assert array.flags.writeable
    assert A.shape == Z.shape == dA.shape
    memory = {array.__array_interface__["data"][0] for array in (*arrays, W, A_prev, b, dA)}
    assert len(memory) == len(arrays) + 4


def test_no_bias(dtype):
    W, A_prev, b, _ = normal_layer(*LAYER_SIZES, dtype).values()
    without = nk.kernels.dense_forward(W, A_prev, None, "tanh")
    np.testing.assert_array_equal(without, nk.kernels.dense_forward(W, A_prev, 0 * b, "tanh"))


def test_dA_prev_is_left_out_on_demand(dtype):
    W, A_prev, _, dA = normal_layer(*LAYER_SIZES, dtype).values()
    with_it = nk.kernels.dense_backward(dA, W, A_prev, dA, "tanh")
    without = nk.kernels.dense_backward(dA, W, A_prev, dA, "tanh", need_dA_prev=False)
    assert without.dA_prev is None
    for name in GRADIENTS[:3]:
        np.testing.assert_array_equal(getattr(with_it, name), getattr(without, name))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("shape", [(64, 64, 5000), (3, 2, 30000), (300, 400, 257), (1, 64, 1)], ids=str)
def test_same_bits_for_any_number_of_threads(dtype, activation, shape):
    W, A_prev, b, dA = normal_layer(*shape, dtype).values()
    results = []
    for threads in (1, 2, 3, 8):
        A = nk.kernels.dense_forward(W, A_prev, b, activation, threads=threads)
        gradients = nk.kernels.dense_backward(dA, W, A_prev, A, activation, threads=threads)
        results.append([array.tobytes() for array in (A, *gradients)])
    assert all(result == results[0] for result in results)


# ---- layouts ----


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("argument", ["W", "A_prev", "b", "dA", "A", "all"])
def test_every_layout_of_every_argument(compare, dtype, argument, layout):
    layer = normal_layer(*LAYER_SIZES, dtype)
    layer["A"] = ref.activation_forward(layer["dA"][::-1], "tanh").astype(dtype)
    for name in layer if argument == "all" else [argument]:
        layer[name] = LAYOUTS[layout](layer[name])
    W, A_prev, b, dA, A = layer.values()
    check_forward(compare, W, A_prev, b, "tanh", layout)
    check_backward(compare, dA, W, A_prev, A, A, "tanh", layout)


@pytest.mark.parametrize("layout", WRITABLE_LAYOUTS)
@pytest.mark.parametrize("activation", ["linear", "sigmoid", "softmax"])
def test_every_layout_of_out(compare, dtype, activation, layout):
    W, A_prev, b, dA = normal_layer(*LAYER_SIZES, dtype).values()
    A = prefilled(dA.shape, dtype, layout)
    A_written, Z = check_forward(compare, W, A_prev, b, activation, layout, out=A)
    assert A_written is A
    out = [prefilled(shape, dtype, layout) for shape in gradient_shapes(*LAYER_SIZES).values()]
    gradients = check_backward(compare, dA, W, A_prev, A, Z, activation, layout, out=tuple(out))
    assert all(x is y for x, y in zip(gradients, out, strict=True))
    for array in (A, *out):
        assert_only_inside(array)


@pytest.mark.parametrize("given_entries", [(0,), (1,), (2,), (3,), (0, 3), (1, 2), ()], ids=str)
def test_some_entries_of_out(dtype, given_entries):
    W, A_prev, _, dA = normal_layer(*LAYER_SIZES, dtype).values()
    shapes = list(gradient_shapes(*LAYER_SIZES).values())
    out = tuple(prefilled(shapes[k], dtype) if k in given_entries else None for k in range(4))
    gradients = nk.kernels.dense_backward(dA, W, A_prev, dA, "tanh", out=out)
    expected = nk.kernels.dense_backward(dA, W, A_prev, dA, "tanh")
    for k in range(4):
        np.testing.assert_array_equal(gradients[k], expected[k])
        assert (gradients[k] is out[k]) == (k in given_entries)


@pytest.mark.parametrize("layout", UNUSUAL_LAYOUTS)
def test_unusual_layouts_of_out_are_refused(dtype, layout):
    W, A_prev, b, dA = normal_layer(*LAYER_SIZES, dtype).values()
    out = prefilled(dA.shape, dtype, layout)
    error, words = (
        (TypeError, f"out must have dtype {dtype}") if "swapped" in layout else (ValueError, "must be aligned")
    )
    with pytest.raises(error, match=words):
        nk.kernels.dense_forward(W, A_prev, b, "tanh", out=out)
    assert np.isnan(out).all()


def test_out_woven_between_the_columns_of_an_input_is_refused(dtype):
    """Ranges of addresses overlap, though no byte does."""
    W, _, b, woven = normal_layer(13, 13, 66, dtype).values()
    A_prev, out = woven[:, ::2], woven[:, 1::2]
    with unmodified(woven), pytest.raises(ValueError, match="out overlaps A_prev in memory"):
        nk.kernels.dense_forward(W, A_prev, b, "tanh", out=out)


# ---- edges ----


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(n, n_prev, m) for n in (0, 5) for n_prev in (0, 3) for m in (0, 4)], ids=str)
def test_empty_sizes(compare, dtype, activation, shape):
    """An inner size of 0 gives g(b) in every column; m = 0 gives zeros or no columns."""
    W, A_prev, b, dA = normal_layer(*shape, dtype).values()
    A, Z = check_forward(compare, W, A_prev, b, activation, out=prefilled(dA.shape, dtype))
    out = tuple(prefilled(size, dtype) for size in gradient_shapes(*shape).values())
    for options in ({}, {"out": out}):
        check_backward(compare, dA, W, A_prev, A, Z, activation, **options)


def nan_at(shape, dtype, index):
    array = np.zeros(shape, dtype)
    array[index] = np.nan
    return array


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n_prev", [1, 2, 9, 17])
def test_nan_of_an_operand_reaches_its_row_or_column(dtype, activation, n_prev):
    """NaN times 0 is NaN: no product may be skipped. Softmax spreads it over the example."""
    n, m = 19, 37
    zero = {name: np.zeros(s, dtype) for name, s in layer_shapes(n, n_prev, m).items()}

    def nan_in_A(**operand):
        layer = zero | operand
        W, A_prev, b = (layer[name] for name in ("W", "A_prev", "b"))
        return np.isnan(nk.kernels.dense_forward(W, A_prev, b, activation))

    for i in range(m):
        column = nan_in_A(A_prev=nan_at((n_prev, m), dtype, (i % n_prev, i)))
        np.testing.assert_array_equal(column, np.arange(m) == np.full((n, 1), i))
    for j in range(n):
        for operand in ("W", "b"):
            width = zero[operand].shape[1]
            row = nan_in_A(**{operand: nan_at((n, width), dtype, (j, j % width))})
            expected = np.full((n, m), activation == "softmax")
            expected[j] = True
            np.testing.assert_array_equal(row, expected, err_msg=operand)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n", [1, 2, 9, 17, 33])
def test_nan_of_dA_reaches_every_gradient(dtype, activation, n):
    n_prev, m = 7, 37
    W, A_prev = np.zeros((n, n_prev), dtype), np.zeros((n_prev, m), dtype)
    A = np.full((n, m), 0.25, dtype)
    for index in np.ndindex(n, m):
        j, i = index
        dA = nan_at((n, m), dtype, index)
        dZ, dW, db, dA_prev = map(np.isnan, nk.kernels.dense_backward(dA, W, A_prev, A, activation, Z=A))
        units = np.arange(n) == j if activation != "softmax" else np.full(n, True)
        examples = np.arange(m) == i
        np.testing.assert_array_equal(dZ, np.outer(units, examples))
        np.testing.assert_array_equal(dW, np.broadcast_to(units[:, None], dW.shape))
        np.testing.assert_array_equal(db, units[:, None])
        np.testing.assert_array_equal(dA_prev, np.broadcast_to(examples, dA_prev.shape))


# ---- refusals ----


def forward(W, A_prev, b, activation="relu", **options):
    return nk.kernels.dense_forward(W, A_prev, b, activation, **options)


def backward(dA, W, A_prev, A, activation="relu", **options):
    return nk.kernels.dense_backward(dA, W, A_prev, A, activation, **options)


def operands(kernel, dtype="float64", shape=(4, 3, 5)):
    layer = normal_layer(*shape, dtype)
    if kernel is forward:
        return {name: layer[name] for name in ("W", "A_prev", "b")}
    return {name: layer[name] for name in ("dA", "W", "A_prev")} | {"A": layer["dA"].copy()}


EVERY_OPERAND = [
    pytest.param(kernel, name, id=f"{kernel.__name__}-{name}")
    for kernel in (forward, backward)
    for name in operands(kernel)
]


@pytest.mark.parametrize(("kernel", "name"), EVERY_OPERAND)
@pytest.mark.parametrize(
    "bad",
    [
        lambda a: a.astype("float32"),
        lambda a: a.astype("float16"),
        lambda a: a.astype("longdouble"),
        lambda a: a.astype("complex128"),
        lambda a: a.astype("int64"),
        lambda a: a.astype("bool"),
        lambda a: a.astype("object"),
        lambda a: a.astype("str"),
        lambda a: a.tolist(),
        lambda a: None,
        lambda a: 1.0,
    ],
    ids=[
        *("float32", "float16", "longdouble", "complex", "int64", "bool", "object", "str"),
        *("list", "None", "number"),
    ],
)
def test_refused_types(kernel, name, bad):
    arguments = operands(kernel)
    wrong = bad(arguments[name])
    if isinstance(wrong, np.ndarray) and wrong.dtype == np.float64:
        pytest.skip("longdouble is float64 on this platform")
    if name == "b" and wrong is None:
        pytest.skip("None stands for no bias, see test_no_bias")
    with pytest.raises(TypeError, match=r"\b(W|A_prev|b|dA|A)\b"):
        kernel(**arguments | {name: wrong})


@pytest.mark.parametrize(("kernel", "name"), EVERY_OPERAND)
def test_integers_throughout_are_refused(kernel, name):
    arguments = {key: a.astype("int64") for key, a in operands(kernel).items()}
    with pytest.raises(TypeError, match=r"int64"):
        kernel(**arguments)


@pytest.mark.parametrize(("kernel", "name"), EVERY_OPERAND)
@pytest.mark.parametrize(
    "bad",
    [
        lambda a: a[:, 0].copy(),
        lambda a: a[0].copy(),
        lambda a: a.ravel(),
        lambda a: a[None],
        lambda a: a[0, 0],
        lambda a: np.array(1.0),
    ],
    ids=["column", "row", "flat", "rank 3", "scalar", "rank 0"],
)
def test_refused_ranks(kernel, name, bad):
    """Rank 1 is the best-known trap: the message names the argument, what came, and reshape."""
    arguments = operands(kernel)
    wrong = bad(arguments[name])
    expected = (ValueError, TypeError) if not isinstance(wrong, np.ndarray) else ValueError
    with pytest.raises(expected, match=rf"\b{name}\b") as refusal:
        kernel(**arguments | {name: wrong})
    if isinstance(wrong, np.ndarray) and wrong.ndim == 1:
        assert str(wrong.shape) in str(refusal.value)
        assert "reshape" in str(refusal.value)


@pytest.mark.parametrize(
    ("kernel", "name", "axis"),
    [
        pytest.param(kernel, name, axis, id=f"{kernel.__name__}-{name}-{axis}")
        for kernel in (forward, backward)
        for name in operands(kernel)
        for axis in (0, 1)
        # the number of examples of a forward pass is A_prev's alone
        if (kernel, name, axis) != (forward, "A_prev", 1)
    ],
)
@pytest.mark.parametrize("size", [0, 1, 2, 6])
def test_refused_shapes(kernel, name, axis, size):
    """Every operand with a size that no other agrees with; the message gives that size."""
    if (name, axis, size) == ("b", 1, 1):
        size = 5  # (n, m): a bias for each example
    arguments = operands(kernel)
    arguments[name] = np.resize(
        arguments[name], (size, *arguments[name].shape[1:]) if axis == 0 else (*arguments[name].shape[:1], size)
    )
    with pytest.raises(ValueError, match=r"\b(W|A_prev|b|dA|A)\b") as refusal:
        kernel(**arguments)
    assert str(size) in re.findall(r"\d+", str(refusal.value))


@pytest.mark.parametrize("shape", [(1, 4), (1, 1), (5, 1)], ids=str)
def test_bias_that_would_broadcast_is_refused(shape):
    with pytest.raises(ValueError, match=r"\bb\b"):
        forward(**operands(forward) | {"b": np.ones(shape)})


def test_transposed_operands_are_refused():
    for kernel in (forward, backward):
        for name, a in operands(kernel).items():
            with pytest.raises(ValueError, match=r"\b(W|A_prev|b|dA|A)\b"):
                kernel(**operands(kernel) | {name: a.T})


@pytest.mark.parametrize("kernel", [forward, backward])
@pytest.mark.parametrize("activation", ["rleu", "", "ReLU", "softmax "])
def test_unknown_activation_lists_the_names(kernel, activation):
    with pytest.raises(ValueError, match="activation") as refusal:
        kernel(**operands(kernel), activation=activation)
    assert all(name in str(refusal.value) for name in ACTIVATIONS)


@pytest.mark.parametrize("kernel", [forward, backward])
@pytest.mark.parametrize("activation", [None, 3, b"relu"])
def test_activation_of_another_type(kernel, activation):
    with pytest.raises((TypeError, ValueError), match="activation"):
        kernel(**operands(kernel), activation=activation)


@pytest.mark.parametrize("threads", [-1, 1.5, "two"])
def test_refused_number_of_threads(threads):
    for kernel in (forward, backward):
        with pytest.raises((TypeError, ValueError), match="threads"):
            kernel(**operands(kernel), threads=threads)


BAD_OUT = {
    "read-only": (lambda a: LAYOUTS["read-only"](a), ValueError),
    "float32": (lambda a: a.astype("float32"), TypeError),
    "int64": (lambda a: np.zeros(a.shape, "int64"), TypeError),
    "one row more": (lambda a: np.full((a.shape[0] + 1, a.shape[1]), np.nan), ValueError),
    "one column more": (lambda a: np.full((a.shape[0], a.shape[1] + 1), np.nan), ValueError),
    "transposed": (lambda a: a.T.copy(), ValueError),
    "flat": (lambda a: a.ravel(), ValueError),
    "rank 3": (lambda a: a[None].copy(), ValueError),
    "overlaps itself": (
        lambda a: np.lib.stride_tricks.as_strided(np.full(a.shape[0], np.nan), a.shape, (8, 0)),
        ValueError,
    ),
    "a list": (lambda a: a.tolist(), TypeError),
}


@pytest.mark.parametrize("bad", BAD_OUT)
def test_refused_out_of_forward(bad):
    make, exception = BAD_OUT[bad]
    out = make(np.full((4, 5), np.nan))
    before = np.array(out)
    with pytest.raises(exception, match=r"\bout\b"):
        forward(**operands(forward), out=out)
    np.testing.assert_array_equal(out, before)


@pytest.mark.parametrize(
    ("bad", "entry"),
    [
        pytest.param(bad, entry, id=f"{bad}-{name}")
        for bad in BAD_OUT
        for entry, name in enumerate(GRADIENTS)
        # db has one column: a stride of 0 along it overlaps nothing
        if (bad, name) != ("overlaps itself", "db")
    ],
)
def test_refused_out_of_backward(bad, entry):
    """Nothing is half-written: the three good entries stay as they were too."""
    make, exception = BAD_OUT[bad]
    out = [np.full(shape, np.nan) for shape in gradient_shapes(4, 3, 5).values()]
    out[entry] = make(out[entry])
    before = [np.array(array) for array in out]
    with pytest.raises(exception, match=rf"\b(out|{GRADIENTS[entry]})\b"):
        backward(**operands(backward), out=tuple(out))
    for array, value in zip(out, before, strict=True):
        np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize("out", [np.zeros((4, 5)), (None,) * 3, (None,) * 5, {}], ids=type)
def test_out_of_backward_is_a_tuple_of_four(out):
    with pytest.raises((TypeError, ValueError), match=r"\bout\b"):
        backward(**operands(backward), out=out)


def test_out_for_what_is_not_computed_is_refused():
    arguments = operands(backward)
    out = (None, None, None, np.full((3, 5), np.nan))
    with pytest.raises(ValueError, match="out holds a dA_prev that isn't computed: need_dA_prev is False"):
        backward(**arguments, need_dA_prev=False, out=out)
    assert np.isnan(out[3]).all()


@pytest.mark.parametrize("activation", sorted(nk.kernels.NEEDS_Z))
def test_Z_is_asked_for_where_the_derivative_needs_it(activation):
    with pytest.raises(
        ValueError, match=rf"the derivative of {activation} needs Z=: dense_forward\(…, return_Z=True\)"
    ):
        backward(**operands(backward), activation=activation)


@pytest.mark.parametrize("kernel", [forward, backward])
@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_refused_slopes(kernel, bad):
    with pytest.raises(ValueError, match=rf"negative_slope must be a finite number >= 0; got {bad}"):
        kernel(**operands(kernel), activation="leaky_relu", negative_slope=bad)


def test_memory_for_packing_that_cannot_be_had():
    """W of 2⁵⁰ bytes: no address space has them, so nothing is written before it is refused."""
    W, A_prev = (np.broadcast_to(np.float32(1), shape) for shape in ((2**20, 2**28), (2**28, 1)))
    out = np.full((2**20, 1), np.nan, np.float32)
    with pytest.raises(MemoryError, match=r"no \d+ bytes for packing"):
        nk.kernels.dense_forward(W, A_prev, None, "relu", out=out)
    assert np.isnan(out).all()


@pytest.mark.skipif(sys.platform != "linux", reason="limits and memory as Linux counts them")
@pytest.mark.no_sanitizer
def test_memory_for_packing_that_cannot_be_had_backward():
    """Here dW is as large as W, 16 MB, and is there before the limit that W's packing goes over."""
    code = """
        import numpy as np
        import nnkern as nk
        n = 2048
        W = np.broadcast_to(np.float32(1), (n, n))
        dA, A_prev, A = (np.ones((n, 1), np.float32) for _ in range(3))
        out = tuple(np.full(shape, np.nan, np.float32, "F") for shape in ((n, 1), (n, n), (n, 1), (n, 1)))
        nk.kernels.dense_backward(dA[:2], W[:2], A_prev, A[:2], "relu")
        limit_memory(2**23)
        try:
            nk.kernels.dense_backward(dA, W, A_prev, A, "relu", out=out)
        except MemoryError as error:
            print(error)
        assert all(np.isnan(a).all() for a in out)
        assert all((a == 1).all() for a in (dA, A_prev, A))
    """
    assert run(measured(code)) == f"no {4 * 2048**2} bytes for packing\n"


@pytest.mark.parametrize("name", ["n", "n_prev"])
def test_layers_larger_than_BLAS_takes(name):
    """Its sizes are a C int's: one more is refused, not cut. W is a view of one number, or has none."""
    size = 2**31
    one = np.float32(1)
    n, n_prev = (size, 0) if name == "n" else (1, size)
    W, A_prev, A = (np.broadcast_to(one, shape) for shape in ((n, n_prev), (n_prev, 1), (n, 1)))
    out = np.full((1, 1), np.nan, np.float32)
    message = rf"^{name} is {size}: BLAS takes at most {size - 1}$"
    with pytest.raises(ValueError, match=message):
        nk.kernels.dense_forward(W, A_prev, None, "relu", out=out)
    with pytest.raises(ValueError, match=message):
        nk.kernels.dense_backward(A, W, A_prev, A, "relu", out=(out, None, None, None))
    assert np.isnan(out).all()


def overlapping(a, how):
    """(a copy of `a`, an array of the same shape that shares memory with it)."""
    memory = np.zeros(2 * a.size + 1, a.dtype)
    start = {"whole": 0, "in part": 1, "by the last": a.size - 1}[how]
    first = memory[: a.size].reshape(a.shape)
    first[...] = a
    return first, memory[start : start + a.size].reshape(a.shape)


@pytest.mark.parametrize(("kernel", "name"), EVERY_OPERAND)
@pytest.mark.parametrize("how", ["whole", "in part", "by the last"])
def test_out_that_overlaps_an_input_is_refused(kernel, name, how):
    """Layers of n = n_prev = m = 4, so that out has the shape of the input."""
    arguments = operands(kernel, shape=(4, 4, 4))
    if name == "b":
        shared = np.zeros((4, 4))
        arguments["b"], out = shared[:, 1:2], shared
    else:
        arguments[name], out = overlapping(arguments[name], how)
    outs = [out] if kernel is forward else [tuple(out if k == entry else None for k in range(4)) for entry in (0, 1, 3)]
    for out in outs:
        with (
            unmodified(*arguments.values()),
            pytest.raises(ValueError, match=r"\b(overlap|share|memory)"),
        ):
            kernel(**arguments, out=out)


@pytest.mark.parametrize("entries", [(0, 1), (0, 3), (1, 3), (2, 0)], ids=str)
def test_entries_of_out_that_overlap_each_other_are_refused(entries):
    out = [None] * 4
    memory = np.full((4, 4), np.nan)
    for entry in entries:
        out[entry] = memory[:, :1] if entry == 2 else memory
    with pytest.raises(ValueError, match=r"\b(overlap|share|memory)"):
        backward(**operands(backward, shape=(4, 4, 4)), out=tuple(out))
    assert np.isnan(memory).all()


# ---- leaks ----


def kernel_calls():
    """name -> (a call of no arguments, the arrays it uses)."""
    W, A_prev, b, dA = normal_layer(7, 5, 9, np.float64).values()
    A, out = dA.copy(), np.zeros((7, 9))
    Y = ref.one_hot(np.arange(9) % 7, 7)
    read_only = LAYOUTS["read-only"](out)
    single = A_prev.astype(np.float32)
    k = nk.kernels
    return {
        "forward": (lambda: k.dense_forward(W, A_prev, b, "tanh"), (W, A_prev, b)),
        "forward into out": (
            lambda: k.dense_forward(W, A_prev, b, "softmax", out=out, return_Z=True),
            (W, A_prev, b, out),
        ),
        "backward": (lambda: k.dense_backward(dA, W, A_prev, A, "tanh"), (dA, W, A_prev, A)),
        "backward into out": (
            lambda: k.dense_backward(dA, W, A_prev, A, "softmax", out=(out, None, None, None)),
            (dA, W, A_prev, A, out),
        ),
        "activations": (
            lambda: k.activation_backward(dA, k.activation_forward(A, "sigmoid"), "sigmoid"),
            (dA, A),
        ),
        "loss": (lambda: k.cross_entropy(A, Y), (A, Y)),
        "unknown activation": (
            lambda: fails(k.dense_forward, W, A_prev, b, "none"),
            (W, A_prev, b),
        ),
        "wrong shape": (lambda: fails(k.dense_forward, W, b, b, "relu"), (W, b)),
        "mixed dtypes": (
            lambda: fails(k.dense_forward, W, single, b, "relu"),
            (W, single, b),
        ),
        "read-only out": (
            lambda: fails(k.dense_forward, W, A_prev, b, "relu", out=read_only),
            (W, A_prev, b, read_only),
        ),
        "wrong shape, backward": (
            lambda: fails(k.dense_backward, dA, W, b, A, "relu"),
            (dA, W, b, A),
        ),
        "overlap, backward": (
            lambda: fails(k.dense_backward, dA, W, A_prev, A, "relu", out=(dA, None, None, None)),
            (dA, W, A_prev, A),
        ),
        "wrong shape, loss": (lambda: fails(k.squared_error, A, W), (A, W)),
        "label out of range": (
            lambda: fails(k.cross_entropy, W, np.full(5, 7)),
            (W,),
        ),
    }


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("name", kernel_calls())
def test_no_leaks(name):
    """10,000 good calls, 10,000 that are refused."""
    assert_no_leaks(*kernel_calls()[name])
