"""activation_forward and activation_backward: ULP budgets over all exponents, special values, NaN.

The same functions run fused in dense_forward and in the loss kernels; `WAYS` takes each of them.
"""

import functools

import mpmath
import numpy as np
import pytest
import reference as ref
from conftest import (
    DTYPES,
    LAYOUTS,
    SIZES,
    WRITABLE_LAYOUTS,
    assert_only_inside,
    prefilled,
    unmodified,
)
from hypothesis import given
from hypothesis import strategies as st

import nnkern as nk

ACTIVATIONS = nk.kernels.ACTIVATIONS
ELEMENTWISE = [name for name in ACTIVATIONS if name != "softmax"]
CURVED = [name for name in ELEMENTWISE if ref.ELEMENTWISE[name].exact]
"""Those that need an approximation; their truth comes from mpmath."""


def alone(z, name):
    """g of a row of numbers by activation_forward, sixteen units a column where that divides."""
    height = 16 if z.size % 16 == 0 else 1
    return nk.kernels.activation_forward(z.reshape(height, -1), name).ravel()


def fused_with_a_row(z, name):
    """g of 1 z + 0 by dense_forward, one unit and an example for each number."""
    one, zero = np.ones((1, 1), z.dtype), np.zeros((1, 1), z.dtype)
    return nk.kernels.dense_forward(one, z[None], zero, name).ravel()


def fused_with_a_column(z, name):
    """g of z 1 + 0 by dense_forward, a unit for each number and one example."""
    one, zeros = np.ones((1, 1), z.dtype), np.zeros((z.size, 1), z.dtype)
    return nk.kernels.dense_forward(z[:, None], one, zeros, name).ravel()


WAYS = [alone, fused_with_a_row, fused_with_a_column]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def way(request):
    return request.param


# ---- the ULP budget ----


@functools.cache
def numbers_of_every_exponent(dtype, per_exponent):
    """Both signs, every exponent of finite numbers (subnormals too): the ends and some between."""
    info = np.finfo(dtype)
    bits = np.dtype(f"uint{8 * dtype.itemsize}").type
    rng = np.random.default_rng(0)
    exponents = np.arange(2**info.nexp - 1, dtype=bits) << bits(info.nmant)
    last = 2**info.nmant - 1
    between = rng.integers(0, last, per_exponent, endpoint=True)
    mantissas = np.array([0, 1, last, *between], bits)
    positive = (exponents[:, None] | mantissas).ravel().view(dtype)
    return np.concatenate([positive, -positive])


def nearest_and_rest(value):
    """An mpmath number as float64 and what is left of it, which float64 alone can't hold."""
    nearest = float(value)
    return nearest, float(value - nearest) if np.isfinite(nearest) else 0.0


@functools.cache
def truth(name, dtype, per_exponent):
    """The points and g there to about 100 bits, as (z, nearest float64, rest)."""
    dense = np.random.default_rng(1).uniform(-50, 50, 1000).astype(dtype)
    z = np.concatenate([numbers_of_every_exponent(dtype, per_exponent), dense])
    with mpmath.workprec(110):
        values = [nearest_and_rest(ref.ELEMENTWISE[name].exact(mpmath.mpf(float(value)))) for value in z]
    nearest, rest = np.array(values).T
    return z, nearest, rest


def assert_within_ulps(name, z, a, nearest, rest=0, slack=0):
    """|a - (nearest + rest)| is within g's budget of ULPs, and infinite where that is beyond this dtype's range."""
    with np.errstate(over="ignore", invalid="ignore"):
        ulps = np.abs((a.astype(np.float64) - nearest) - rest) / ref.ulp(nearest, a.dtype)
        ulps[a == nearest.astype(a.dtype)] = 0
    over = ulps - ref.ulp_budget(name) - slack
    worst = int(np.argmax(np.where(np.isnan(over), np.inf, over)))
    assert over[worst] <= 0, f"{name} of {z[worst]!r} is {ulps[worst]:.1f} ULP off"


@pytest.mark.parametrize("name", CURVED)
def test_ulps_against_mpmath(dtype, name, way):
    z, nearest, rest = truth(name, dtype, per_exponent=1)
    assert_within_ulps(name, z, way(z, name), nearest, rest)


def test_ulps_of_gelu_tanh_below_0(way):
    """An error of u = 2 √(2/π) (z + 0.044715 z³) is |u| times as large in e^u, which once were 160 ULP near -9.8."""
    z = np.linspace(-10.5, 0, 20_001).astype(np.float32)
    exact = ref.activation_forward(z, "gelu_tanh")
    assert_within_ulps("gelu_tanh", z, way(z, "gelu_tanh"), exact, slack=0.01)


@functools.lru_cache(maxsize=1)
def float64_truth(name, z_bytes):
    return ref.activation_forward(np.frombuffer(z_bytes, np.float32), name)


@pytest.mark.parametrize("name", CURVED)
def test_ulps_of_many_float32(name, way):
    """float64 has bits enough to be the truth of float32."""
    z = numbers_of_every_exponent(np.dtype("float32"), per_exponent=300)
    rng = np.random.default_rng(2)
    z = np.concatenate([z, rng.uniform(-105, 105, 100_000).astype(np.float32)])
    # 0.01 ULP for the oracle's own rounding
    assert_within_ulps(name, z, way(z, name), float64_truth(name, z.tobytes()), slack=0.01)


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if name not in CURVED])
@pytest.mark.parametrize("negative_slope", [0.01, 0.5, 0.0, 1.0])
def test_piecewise_linear_ones(dtype, name, negative_slope):
    z = numbers_of_every_exponent(dtype, per_exponent=3)
    A = nk.kernels.activation_forward(z[None], name, negative_slope=negative_slope)[0]
    expected = ref.activation_forward(z, name, negative_slope)
    assert_within_ulps(name, z, A, expected, slack=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", CURVED)
def test_ulps_of_every_float32(name):
    """All 2^32 bit patterns; NaN gives NaN."""
    size = 2**22
    worst = 0.0
    for start in range(0, 2**32, size):
        z = np.arange(start, start + size, dtype=np.uint32).view(np.float32)
        a = alone(z, name)
        number = np.isfinite(z)
        assert np.isnan(a[np.isnan(z)]).all()
        z, a = z[number], a[number]
        if not z.size:
            continue
        exact = ref.activation_forward(z, name)
        assert_within_ulps(name, z, a, exact, slack=0.01)
        with np.errstate(over="ignore", invalid="ignore"):
            worst = max(worst, np.max((np.abs(a - exact) / ref.ulp(exact, a.dtype))[np.isfinite(a)], initial=0))
    print(f"{name}: {worst:.3f} ULP at most")


def test_bounds_of_the_range(dtype):
    """No rounding takes sigmoid or tanh out of its range, or makes a large |z| turn back."""
    z = np.sort(numbers_of_every_exponent(dtype, per_exponent=1))
    for name, low in (("sigmoid", 0), ("tanh", -1)):
        a = alone(z, name)
        assert low <= a.min()
        assert a.max() <= 1
        assert (a[0], a[-1]) == (low, 1)


# ---- special values ----

INF = np.inf
LIMITS = {name: dict(zip((-INF, 0.0, INF), ref.ELEMENTWISE[name].limits, strict=True)) for name in ELEMENTWISE}
LANES = 71
"""Longer than four of the widest vectors with a tail."""


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("special", [-INF, -0.0, 0.0, INF, np.nan, 1e4, -1e4, 5e29, -5e29])
def test_special_values_in_every_lane_and_tail(dtype, name, special):
    expected = LIMITS[name].get(special) if special == special else np.nan
    if expected is None:
        expected = ref.activation_forward(dtype.type(special), name)
    for length in (1, 2, 3, 7, 8, 15, 16, 17, LANES):
        for lane in range(length):
            z = np.full(length, 0.75, dtype)
            usual = alone(z, name)
            z[lane] = special
            a = nk.kernels.activation_forward(z[:, None], name).ravel()
            np.testing.assert_allclose(a[lane], expected, rtol=4 * np.finfo(dtype).eps, atol=0)
            np.testing.assert_array_equal(np.delete(a, lane), np.delete(usual, lane))


def test_the_sign_of_zero(dtype):
    z = np.full((1, LANES), -0.0, dtype)
    for name in ("linear", "tanh"):
        assert np.signbit(nk.kernels.activation_forward(z, name)).all()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_subnormals_are_kept(dtype, name):
    """Where g'(0) is not 0, g of the smallest number isn't either."""
    smallest = np.finfo(dtype).smallest_subnormal
    z = np.full((1, LANES), 1000 * smallest, dtype)
    a = nk.kernels.activation_forward(z, name)
    _, at_0, _ = ref.ELEMENTWISE[name].limits
    slope = ref.ELEMENTWISE[name].derivative_of_z(z[0, 0].astype(np.float64), 0.01)
    expected = dtype.type(at_0) if at_0 else dtype.type(slope) * z
    np.testing.assert_allclose(a, np.broadcast_to(expected, z.shape), rtol=np.finfo(dtype).eps, atol=smallest)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("n", [1, 2, 7, 16, 17, 33])
def test_nan_stays_nan(dtype, name, n):
    """In every place of Z; softmax spreads it over its example and no further."""
    m = 19
    for index in np.ndindex(n, m):
        Z = np.full((n, m), -0.5, dtype, order="F")
        Z[index] = np.nan
        expected = np.isnan(Z)
        if name == "softmax":
            expected[:, index[1]] = True
        for layout in ("C", "F"):
            A = nk.kernels.activation_forward(LAYOUTS[layout](Z), name)
            assert np.array_equal(np.isnan(A), expected), (index, layout)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("n", [1, 2, 7, 16, 17, 33])
def test_nan_stays_nan_backward(dtype, name, n):
    """A NaN in dA alone, and in A and dA as a forward pass and its loss would leave them."""
    m = 5
    for index in np.ndindex(n, m):
        for A_too in (False, True):
            dA, A = np.ones((n, m), dtype), np.full((n, m), 0.5, dtype)
            dA[index] = np.nan
            if A_too:
                A[index] = np.nan
            expected = np.isnan(dA)
            if name == "softmax":
                expected[:, index[1]] = True
            dZ = nk.kernels.activation_backward(dA, A, name, Z=A)
            assert np.array_equal(np.isnan(dZ), expected), (index, A_too)


# ---- softmax ----


@pytest.mark.parametrize("layout", WRITABLE_LAYOUTS)
def test_softmax_of_extremes(dtype, layout):
    """One unit far above the others takes it all; ties share; -inf takes nothing."""
    for large in (1e4, 5e29):
        for n in (2, 3, 9, 17, 33):
            Z = np.full((n, n), -large, dtype)
            np.fill_diagonal(Z, large)
            A = nk.kernels.activation_forward(LAYOUTS[layout](Z), "softmax")
            np.testing.assert_array_equal(A, np.eye(n))
            Z = np.full((n, 4), large, dtype)
            A = nk.kernels.activation_forward(LAYOUTS[layout](Z), "softmax")
            np.testing.assert_allclose(A, 1 / n, rtol=4 * np.finfo(dtype).eps)
            Z[1:] = -INF
            A = nk.kernels.activation_forward(LAYOUTS[layout](Z), "softmax")
            np.testing.assert_array_equal(A, np.eye(n)[:, [0] * 4])


@pytest.mark.parametrize("n", [1, 2, 5, 16, 33, 1000])
def test_columns_of_softmax_sum_to_one(dtype, n):
    Z = np.random.default_rng(3).normal(scale=5, size=(n, 40)).astype(dtype)
    A = nk.kernels.activation_forward(Z, "softmax")
    assert A.min() >= 0
    # the sum of exponentials, the quotients, and this sum
    bound = ref.gamma_both(2 * n + 2, dtype)
    np.testing.assert_allclose(A.sum(axis=0, dtype=np.float64), 1, rtol=0, atol=bound)


# ---- against the oracle, in any size and layout ----


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(
    shape=st.tuples(st.sampled_from(SIZES), st.sampled_from(SIZES)),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([1e-3, 1.0, 20.0]),
    seed=st.integers(0, 2**32 - 1),
    negative_slope=st.sampled_from([0.0, 0.01, 1.0]),
    layouts=st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 2),
    out_layout=st.sampled_from([None, *sorted(WRITABLE_LAYOUTS)]),
)
def test_any_array(compare, name, shape, dtype, scale, seed, negative_slope, layouts, out_layout):
    rng = np.random.default_rng(seed)
    if name == "exp":
        scale = min(scale, 1.0)  # float32 has no e^100
    Z, dA = (LAYOUTS[layout](rng.normal(scale=scale, size=shape).astype(dtype)) for layout in layouts)
    options = {"negative_slope": negative_slope}

    def run(kernel, *arguments, **more):
        out = None if out_layout is None else prefilled(shape, dtype, out_layout)
        with unmodified(*(a for a in arguments if isinstance(a, np.ndarray))):
            result = kernel(*arguments, **options, **more, out=out)
        assert result.dtype == dtype
        if out is None:
            assert result.flags.f_contiguous
            return result
        assert result is out
        values = out.copy()
        assert_only_inside(out)
        return values

    A = run(nk.kernels.activation_forward, Z, name)
    bound = ref.bound_A(Z, name, dtype, negative_slope=negative_slope)
    compare(A, ref.activation_forward(Z, name, **options), bound)
    dZ = run(nk.kernels.activation_backward, dA, A, name, Z=Z)
    H = ref.operand(name, A, Z)
    bound = ref.bound_dZ(dA, H, name, dtype, **options)
    compare(dZ, ref.activation_backward(dA, H, name, **options), bound)


# ---- refusals ----


def forward(name="tanh", Z=None, **options):
    return nk.kernels.activation_forward(np.ones((3, 4)) if Z is None else Z, name, **options)


def backward(name="tanh", dA=None, A=None, **options):
    dA = np.ones((3, 4)) if dA is None else dA
    return nk.kernels.activation_backward(dA, np.ones((3, 4)) if A is None else A, name, **options)


@pytest.mark.parametrize("kernel", [forward, backward])
def test_unknown_names_list_the_known(kernel):
    with pytest.raises(ValueError, match="'rleu'") as refusal:
        kernel("rleu")
    assert all(name in str(refusal.value) for name in ACTIVATIONS)


@pytest.mark.parametrize(("kernel", "argument"), [(forward, "Z"), (backward, "dA"), (backward, "A")])
@pytest.mark.parametrize(
    ("wrong", "exception"),
    [
        (np.ones(4), ValueError),
        (np.ones((1, 3, 4)), ValueError),
        (np.ones((3, 4), "int64"), TypeError),
        (np.ones((3, 4), "float16"), TypeError),
        (np.ones((3, 4), "complex128"), TypeError),
        ([[1.0, 2.0]], TypeError),
    ],
    ids=["rank 1", "rank 3", "int64", "float16", "complex128", "list"],
)
def test_refused_arrays(kernel, argument, wrong, exception):
    with pytest.raises(exception, match=rf"\b{argument}\b"):
        kernel(**{argument: wrong})


@pytest.mark.parametrize("name", sorted(nk.kernels.NEEDS_Z))
def test_Z_is_asked_for_where_the_derivative_needs_it(name):
    with pytest.raises(ValueError, match=rf"^the derivative of {name} needs Z=$"):
        nk.kernels.activation_backward(np.ones((2, 3)), np.ones((2, 3)), name)


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_refused_slopes(bad):
    a = np.ones((2, 3))
    with pytest.raises(ValueError, match="negative_slope must be a finite number >= 0"):
        nk.kernels.activation_forward(a, "leaky_relu", negative_slope=bad)
    with pytest.raises(ValueError, match="negative_slope must be a finite number >= 0"):
        nk.kernels.activation_backward(a, a, "leaky_relu", negative_slope=bad)


def test_disagreeing_arrays():
    with pytest.raises(ValueError, match=r"\bd?A\b"):
        backward(A=np.ones((3, 5)))
    with pytest.raises(ValueError, match=r"\bd?A\b"):
        backward(A=np.ones((3, 1)))
    with pytest.raises(TypeError, match=r"\bd?A\b"):
        backward(A=np.ones((3, 4), "float32"))


@pytest.mark.parametrize("kernel", [forward, backward])
def test_refused_out(kernel):
    whole = np.ones((3, 5))
    first, second = whole[:, :4], whole[:, 1:]
    argument = {"Z": first} if kernel is forward else {"A": first}
    for out, exception in (
        (LAYOUTS["read-only"](np.zeros((3, 4))), ValueError),
        (np.zeros((4, 3)), ValueError),
        (np.zeros((3, 4), "float32"), TypeError),
        (first, ValueError),
        (second, ValueError),
    ):
        before = out.copy()
        with pytest.raises(exception, match=r"\bout\b"):
            kernel(**argument, out=out)
        np.testing.assert_array_equal(out, before)
