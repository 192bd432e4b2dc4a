"""The losses as fused output layers: cost, A, dZ against the oracle; weights, labels, extremes."""

import numpy as np
import pytest
import reference as ref
from conftest import DTYPES, LAYOUTS, SIZES, unmodified
from hypothesis import given
from hypothesis import strategies as st

import nnkern as nk

LOSSES = ref.LOSSES
LABELLED = "cross_entropy"


def kernel(name):
    return getattr(nk.kernels, name)


def targets(name, shape, dtype, rng):
    return ref.random_targets(name, shape, rng).astype(dtype)


def check(compare, name, Z, Y, sample_weight=None, what="", parameter=None):
    """Runs the loss kernel and holds cost, A and dZ against the oracle within bounds."""
    given_arrays = [a for a in (Z, Y, sample_weight) if a is not None]
    options = {} if parameter is None else {ref.PARAMETERS[name][0]: parameter}
    with unmodified(*given_arrays):
        cost, A, dZ = kernel(name)(Z, Y, sample_weight, **options)
    dtype = Z.dtype.newbyteorder("=")
    assert np.ndim(cost) == 0
    assert A.dtype == dZ.dtype == dtype
    assert A.flags.f_contiguous
    assert dZ.flags.f_contiguous
    Y_full = Y if Y.dtype.kind == "f" else ref.one_hot(Y, Z.shape[0])
    L, expected_A, expected_dZ = ref.loss(Z, Y_full, name, parameter=parameter)
    expected_cost = ref.weighted_mean(L, sample_weight)
    bounds = ref.bound_loss(Z, Y_full, name, dtype, sample_weight, parameter)
    what = f"{what} {name} {Z.shape} {dtype}"
    compare(np.asarray(cost, np.float64), expected_cost, bounds[0], f"cost, {what}")
    compare(A, expected_A, bounds[1], f"A, {what}")
    expected_dZ = ref.weight_columns(expected_dZ, sample_weight)
    compare(dZ, expected_dZ, bounds[2], f"dZ, {what}")
    return cost, A, dZ


# ---- values ----


@pytest.mark.parametrize("name", LOSSES)
@given(
    shape=st.tuples(*[st.sampled_from([size for size in SIZES if size])] * 2),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    weights=st.sampled_from([None, "positive", "some zero", "whole"]),
    layouts=st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_size_and_layout(compare, name, shape, dtype, scale, weights, layouts, seed):
    rng = np.random.default_rng(seed)
    m = shape[1]
    if name == "poisson":
        scale = min(scale, 1.0)  # float32 has no e^100
    Z = LAYOUTS[layouts[0]](rng.normal(scale=scale, size=shape).astype(dtype))
    Y = targets(name, shape, dtype, rng)
    # rows that are all alike would leave columns that don't sum to 1
    if name != "cross_entropy" or layouts[1] not in ("one row broadcast", "one number broadcast"):
        Y = LAYOUTS[layouts[1]](Y)
    w = {
        None: lambda: None,
        "positive": lambda: rng.uniform(0.1, 3, m).astype(dtype),
        "some zero": lambda: (rng.permutation(m) % 3 != 1).astype(dtype) if m > 1 else None,
        "whole": lambda: rng.integers(1, 5, m).astype(dtype),
    }[weights]()
    check(compare, name, Z, Y, w, layouts)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(1, 20_000), (10, 3000), (1000, 7)], ids=str)
def test_large_batches(compare, dtype, name, shape):
    rng = np.random.default_rng(0)
    Z = rng.normal(scale=3, size=shape).astype(dtype)
    Y = targets(name, shape, dtype, rng)
    check(compare, name, Z, Y)
    check(compare, name, Z, Y, rng.uniform(0.5, 2, shape[1]).astype(dtype))


PARAMETERS = [
    *[(name, smoothing) for name in ("binary_cross_entropy", "cross_entropy") for smoothing in (0.1, 0.9)],
    *[("huber", delta) for delta in (0.1, 3.0, 1e3)],
    *[("quantile", q) for q in (0.1, 0.75)],
]


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
@pytest.mark.parametrize("shape", [(1, 33), (3, 70), (10, 129), (16, 9), (37, 21)], ids=str)
def test_parameters(compare, dtype, name, parameter, shape):
    rng = np.random.default_rng(0)
    Z = rng.normal(scale=3, size=shape).astype(dtype)
    Y = targets(name, shape, dtype, rng)
    check(compare, name, Z, Y, parameter=parameter)
    check(compare, name, Z, Y, rng.uniform(0.5, 2, shape[1]).astype(dtype), parameter=parameter)
    if name == LABELLED:
        check(compare, name, Z, rng.integers(0, shape[0], shape[1]), parameter=parameter)


@pytest.mark.parametrize(
    ("name", "bad"),
    [(name, bad) for name in ("huber", "quantile") for bad in (0, -1, np.nan, np.inf, True)]
    + [("quantile", 1)]
    + [(name, bad) for name in ("binary_cross_entropy", "cross_entropy") for bad in (1, -0.1)],
)
def test_parameters_out_of_range_are_named(name, bad):
    parameter, _ = ref.PARAMETERS[name]
    with pytest.raises(ValueError, match=parameter):
        kernel(name)(np.zeros((3, 4)), np.full((3, 4), 1 / 3), **{parameter: bad})


def test_the_list_of_losses_is_one():
    assert set(nk.losses.LOSSES) == set(ref.LOSSES) == set(nk.losses._kernels.LOSSES)
    assert {name: loss.output for name, loss in nk.losses.LOSSES.items() if loss.output} == ref.MATCHED


@pytest.mark.parametrize("name", ["squared_error", "absolute_error"])
def test_exact_on_integers(dtype, name):
    """m a power of 2, and every sum below 2^24."""
    rng = np.random.default_rng(1)
    for n_y in SIZES[1:]:
        for m in (1, 2, 4, 8, 16, 32, 64):
            Z, Y = (rng.integers(-4, 5, (n_y, m)).astype(dtype) for _ in range(2))
            cost, A, dZ = kernel(name)(Z, Y)
            L, expected_A, expected_dZ = ref.loss(Z, Y, name)
            assert cost == L.sum() / m, (n_y, m)
            np.testing.assert_array_equal(A, expected_A)
            np.testing.assert_array_equal(dZ, expected_dZ)
            assert not np.shares_memory(A, Z)


@pytest.mark.parametrize("name", ["absolute_error", "quantile", "huber"])
def test_derivative_where_nothing_is_off(dtype, name):
    Z = np.array([[1.0, -2.0, 0.0, -0.0]], dtype)
    cost, _, dZ = kernel(name)(Z, Z.copy())
    assert cost == 0
    np.testing.assert_array_equal(dZ, np.zeros((1, 4)))


@pytest.mark.parametrize("name", LOSSES)
def test_dZ_through_the_linear_layer_gives_the_mean_gradient(compare, dtype, name):
    """dense_backward with dA = dZ and "linear": dW and db of the weighted mean, 1/m once."""
    rng = np.random.default_rng(2)
    n_y, n_prev, m = 3, 4, 17
    W, A_prev = (rng.normal(size=s).astype(dtype) for s in ((n_y, n_prev), (n_prev, m)))
    b, w = np.zeros((n_y, 1), dtype), rng.uniform(0.5, 2, m).astype(dtype)
    Y = targets(name, (n_y, m), dtype, rng)
    Z = nk.kernels.dense_forward(W, A_prev, b, "linear")
    _, A, dZ = kernel(name)(Z, Y, w)
    gradients = nk.kernels.dense_backward(dZ, W, A_prev, A, "linear")
    parameters = {"W1": W, "b1": b}
    case = (A_prev, Y, parameters, [ref.MATCHED.get(name, "linear")], name, 0.0, w)
    expected = ref.network_backward(*case)
    # Z's rounding, carried through g' <= 1 into dZ, and then dense_backward's own
    Z_error = ref.bound_Z(W, A_prev, b, dtype)
    dZ_error = ref.bound_loss(Z, Y, name, dtype, w)[2] + ref.weight_columns(
        Z_error.max() * np.ones((n_y, m)) * (name != "absolute_error"), w
    )
    _, dW_bound, db_bound, _ = ref.bound_backward(dZ, W, A_prev, A, "linear", dtype)
    dW_bound = dW_bound + dZ_error @ np.abs(A_prev).T.astype(np.float64) / m
    db_bound = db_bound + dZ_error.mean(axis=1, keepdims=True)
    compare(gradients.dW, expected["dW1"], dW_bound, "dW")
    compare(gradients.db, expected["db1"], db_bound, "db")


# ---- sample weights ----


@pytest.mark.parametrize("name", LOSSES)
def test_what_weights_mean(compare, dtype, name):
    """Whole weights stand for repeated examples; a weight of 0 for none; scale does not count."""
    rng = np.random.default_rng(3)
    n_y, m = 4, 13
    Z = rng.normal(size=(n_y, m)).astype(dtype)
    Y = targets(name, (n_y, m), dtype, rng)
    w = (np.arange(m) % 4).astype(dtype)
    cost, A, dZ = check(compare, name, Z, Y, w)
    np.testing.assert_array_equal(dZ[:, w == 0], 0)

    repeated = np.repeat(np.arange(m), w.astype(int))
    repeated_cost, repeated_A, repeated_dZ = check(compare, name, Z[:, repeated], Y[:, repeated])
    cost_bound, _, dZ_bound = ref.bound_loss(Z, Y, name, dtype, w)
    assert cost == pytest.approx(repeated_cost, abs=2 * cost_bound)
    np.testing.assert_array_equal(A[:, repeated], repeated_A)
    factor = m * w[repeated].astype(np.float64) / w.sum()
    assert (np.abs(dZ[:, repeated] - factor * repeated_dZ) <= 2 * dZ_bound[:, repeated]).all()

    # a power of 2 is no rounding
    for scaled in zip(kernel(name)(Z, Y, 4 * w), (cost, A, dZ), strict=True):
        np.testing.assert_array_equal(*scaled)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_weights_are_no_weights(compare, dtype, name):
    rng = np.random.default_rng(4)
    Z = rng.normal(size=(3, 16)).astype(dtype)
    Y = targets(name, Z.shape, dtype, rng)
    weighted = check(compare, name, Z, Y, np.ones(16, dtype))
    for x, y in zip(weighted, kernel(name)(Z, Y), strict=True):
        # m = 16 and a sum of 16 are exact
        np.testing.assert_allclose(x, y, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "layout",
    [lambda w: w, lambda w: w[::-1].copy()[::-1], lambda w: np.repeat(w, 3)[::3]],
    ids=["contiguous", "reversed", "strided"],
)
def test_layouts_of_weights(compare, dtype, name, layout):
    rng = np.random.default_rng(5)
    Z = rng.normal(size=(3, 33)).astype(dtype)
    w = layout(rng.uniform(0.5, 2, 33).astype(dtype))
    w.flags.writeable = False
    check(compare, name, Z, targets(name, Z.shape, dtype, rng), w)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(15,), (17,), (1,), (16, 1), (3, 16), ()], ids=str)
def test_weights_of_another_shape_are_refused(name, shape):
    Z = np.zeros((3, 16))
    Y = np.full((3, 16), 1 / 3)
    with pytest.raises(ValueError, match="sample_weight"):
        kernel(name)(Z, Y, np.ones(shape))


# z, y, L: the limits of the equations
INFINITE = {
    "binary_cross_entropy": [(np.inf, 1, 0), (np.inf, 0, np.inf), (-np.inf, 0, 0), (-np.inf, 1, np.inf)],
    "poisson": [(np.inf, 0, np.inf), (np.inf, 3, np.inf), (-np.inf, 0, 0), (-np.inf, 3, np.inf)],
}


@pytest.mark.parametrize(("name", "z", "y", "L"), [(name, *row) for name, rows in INFINITE.items() for row in rows])
def test_infinite_z(dtype, name, z, y, L):
    for m in (1, 40):
        Z, Y = np.full((1, m), z, dtype), np.full((1, m), y, dtype)
        cost, A, dZ = kernel(name)(Z, Y)
        prediction = {np.inf: {"poisson": np.inf}.get(name, 1), -np.inf: 0}[z]
        assert cost == L
        assert (prediction == A).all()
        assert (dZ == prediction - y).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("bad", [[0, 0, 0], [1, -1, 1], [1, np.nan, 1], [1, np.inf, 1]], ids=str)
def test_weights_that_are_none_are_refused(name, bad):
    Y = np.full((3, 3), 1 / 3)
    with pytest.raises(ValueError, match="sample_weight must be finite, >= 0 and not all 0"):
        kernel(name)(np.zeros((3, 3)), Y, np.array(bad, float))


# ---- labels ----


@pytest.mark.parametrize("integer", ["int8", "uint8", "int32", "int64", "uint64", ">i4"])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_and_one_hot_give_identical_results(compare, dtype, integer, weighted):
    rng = np.random.default_rng(6)
    for n_y, m in ((1, 1), (2, 5), (10, 33), (17, 64)):
        Z = rng.normal(scale=4, size=(n_y, m)).astype(dtype)
        labels = rng.integers(0, n_y, m).astype(integer)
        w = rng.uniform(0.5, 2, m).astype(dtype) if weighted else None
        expected = check(compare, LABELLED, Z, ref.one_hot(labels, n_y).astype(dtype), w)
        backwards = np.ascontiguousarray(labels[::-1])[::-1]
        for given_labels in (labels, labels.reshape(1, m), backwards):
            for x, y in zip(kernel(LABELLED)(Z, given_labels, w), expected, strict=True):
                np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("bad", [-1, 3, 100, -(2**40), 2**40])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_label_out_of_range_is_named(bad, place):
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    labels[place] = bad
    with pytest.raises(ValueError, match=rf"{bad}\b"):
        kernel(LABELLED)(np.zeros((3, 7)), labels)


@pytest.mark.parametrize("shape", [(6,), (8,), (1, 6), (7, 1), (3, 7), (1, 1, 7), ()], ids=str)
def test_labels_of_another_shape_are_refused(shape):
    with pytest.raises((TypeError, ValueError), match=r"\bY\b"):
        kernel(LABELLED)(np.zeros((3, 7)), np.zeros(shape, int))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != LABELLED])
def test_labels_are_refused_elsewhere(name):
    with pytest.raises(TypeError, match=r"\bY\b"):
        kernel(name)(np.zeros((1, 7)), np.zeros((1, 7), int))


def test_operands_of_another_dtype_are_told_what_to_pass():
    Z, W = np.zeros((1, 7)), np.ones((1, 2))
    for call, words in (
        (lambda: kernel("squared_error")(Z, np.zeros((1, 7), int)), "Y has dtype int64, the first operand float64"),
        (
            lambda: nk.kernels.dense_forward(W.astype("f4"), np.ones((2, 7)), None, "linear"),
            "A_prev has dtype float64, the first",
        ),
        (
            lambda: nk.kernels.dense_forward(W.astype(int), np.ones((2, 7)), None, "linear"),
            "W must be a numpy array of float32 or",
        ),
    ):
        with pytest.raises(TypeError, match=f"^{words}") as caught:
            call()
        name, remedy = str(caught.value).split()[0], str(caught.value).partition(": pass ")[2]
        assert remedy in (f"{name}.astype(float)", f"{name}.astype('float64')", f"{name}.astype('float32')")
    with pytest.raises(TypeError, match=r"^Y must be a numpy array of float64; got list$"):
        kernel("squared_error")(Z, [[0.0] * 7])


# ---- extremes ----


@pytest.mark.parametrize("large", [1e4, 5e29])
def test_binary_cross_entropy_is_stable(dtype, large):
    Z = np.array([[large, -large, large, -large]], dtype)
    Y = np.array([[1, 0, 0, 1]], dtype)
    cost, A, dZ = nk.kernels.binary_cross_entropy(Z, Y)
    np.testing.assert_array_equal(A, [[1, 0, 1, 0]])
    np.testing.assert_array_equal(dZ, [[0, 0, 1, -1]])
    assert cost == pytest.approx(large / 2, rel=4 * float(np.finfo(dtype).eps))
    right, _, _ = nk.kernels.binary_cross_entropy(Z[:, :2], Y[:, :2])
    assert right == 0


@pytest.mark.parametrize("large", [1e4, 5e29])
@pytest.mark.parametrize("n_y", [2, 9, 17, 33])
def test_cross_entropy_is_stable(dtype, large, n_y):
    """One unit far above the rest, right, wrong, and all of them tied at a large value."""
    Z = np.full((n_y, 3), -large, dtype)
    Z[1, :2] = large
    Z[:, 2] = large
    cost, A, dZ = nk.kernels.cross_entropy(Z, np.array([1, 0, 0]))
    tied = np.full(n_y, 1 / n_y)
    np.testing.assert_allclose(A[:, 2], tied, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(A[:, :2], np.eye(n_y)[:, [1, 1]])
    np.testing.assert_array_equal(dZ[:, 0], 0)
    np.testing.assert_array_equal(dZ[:, 1], np.eye(n_y)[1] - np.eye(n_y)[0])
    np.testing.assert_allclose(dZ[:, 2], tied - np.eye(n_y)[0], rtol=8 * np.finfo(dtype).eps)
    slack = 8 * float(np.finfo(dtype).eps)
    assert cost == pytest.approx((2 * large + np.log(n_y)) / 3, rel=slack)
    right, _, _ = nk.kernels.cross_entropy(Z[:, :1], np.array([1]))
    assert right == 0
    all_tied, _, _ = nk.kernels.cross_entropy(Z[:, 2:], np.array([0]))
    # log n_y is what remains beside `large`, as far as that leaves it digits
    assert all_tied == pytest.approx(np.log(n_y), rel=slack, abs=slack * large)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("n_y", [1, 2, 7, 16, 17])
def test_nan_reaches_cost_and_its_own_entries(dtype, name, n_y):
    m = 13
    Y = np.full((n_y, m), 1 / n_y, dtype)
    for operand in ("Z", "Y"):
        for index in np.ndindex(n_y, m):
            arrays = {"Z": np.ones((n_y, m), dtype), "Y": Y.copy()}
            arrays[operand][index] = np.nan
            cost, A, dZ = kernel(name)(**arrays)
            place = np.isnan(arrays[operand])
            if name == "cross_entropy" and operand == "Z":
                place[:, index[1]] = True
            assert np.isnan(cost), (operand, index)
            assert np.array_equal(np.isnan(dZ), place), (operand, index)
            if operand == "Z":
                assert np.array_equal(np.isnan(A), place), index


@pytest.mark.parametrize("name", LOSSES)
def test_no_examples(dtype, name):
    """m = 0 is a no-op: a cost of 0 and no columns."""
    Z = np.zeros((3, 0), dtype)
    cost, A, dZ = kernel(name)(Z, Z.copy())
    assert cost == 0
    assert A.shape == dZ.shape == (3, 0)


@pytest.mark.parametrize("name", LOSSES)
def test_no_outputs(dtype, name):
    Z = np.zeros((0, 3), dtype)
    with pytest.raises(ValueError, match="Z has no rows: a loss needs at least one output unit"):
        kernel(name)(Z, Z.copy())


# ---- refusals ----


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("argument", ["Z", "Y"])
@pytest.mark.parametrize(
    ("wrong", "exception"),
    [
        (np.ones(16), ValueError),
        (np.ones((1, 3, 16)), ValueError),
        (np.ones((3, 15)), ValueError),
        (np.ones((2, 16)), ValueError),
        (np.ones((16, 3)), ValueError),
        (np.ones((3, 1)), ValueError),
        (np.ones((1, 16)), ValueError),
        (np.ones((3, 16), "float32"), TypeError),
        (np.ones((3, 16), "float16"), TypeError),
        (np.ones((3, 16), "complex128"), TypeError),
        (np.ones((3, 16)).tolist(), TypeError),
        (None, TypeError),
    ],
    ids=[
        *("rank 1", "rank 3", "m - 1", "n - 1", "transposed", "one column", "one row"),
        *("float32", "float16", "complex128", "list", "None"),
    ],
)
def test_refused_arrays(name, argument, wrong, exception):
    arrays = {"Z": np.ones((3, 16)), "Y": np.full((3, 16), 1 / 3)}
    with pytest.raises(exception, match=r"\b[ZY]\b"):
        kernel(name)(**arrays | {argument: wrong})


@pytest.mark.parametrize("name", LOSSES)
def test_integer_Z_is_refused(name):
    with pytest.raises(TypeError, match=r"\bZ\b"):
        kernel(name)(np.ones((3, 16), int), np.full((3, 16), 1 / 3))
