"""Encode and its encoders, and units that mix their activation with the identity, against their equations.

The oracle is reference.py's chain of layers, in float64. Beside it: what refuses codes, files, threads, and other
formats.
"""

import concurrent.futures
import copy
import itertools
import json
import pickle
import re
import textwrap
import tracemalloc

import mpmath
import numpy as np
import pytest
import reference as ref
from conftest import BF16_ISAS, LAYOUTS, measured, run, run_tests
from hypothesis import given
from hypothesis import strategies as st
from test_bfloat16 import bf16
from test_c_export import compiled, needs_cc
from test_io import linux

import nnkern as nk

USABLE_ISAS = [isa for isa in nk.show_config().to_dict()["usable_isas"].split(", ") if isa not in BF16_ISAS]
MIXABLE = [name for name in nk.kernels.ACTIVATIONS if name not in ("linear", "softmax")]
EDGES = (-2.0, -1.25, -0.5, 0.0, 0.25, 1.0, 2.5)

# one of each, alone
ALONE = {
    "number": ref.Numeric(1),
    **{f"periodic {k}": ref.Periodic(1, k) for k in (1, 3, 16, 17, 40)},
    **{
        f"periodic {k} to {units}": ref.Periodic(1, k, units)
        for k, units in ((1, 2), (3, 3), (16, 4), (17, 5), (40, 2))
    },
    **{f"bins {k}": ref.PiecewiseLinear(1, tuple(np.linspace(-2, 2, k + 1) ** 3)) for k in (1, 2, 16, 33)},
    **{
        f"bins {k} to {units}": ref.PiecewiseLinear(1, tuple(np.linspace(-2, 2, k + 1) ** 3), units)
        for k, units in ((1, 1), (2, 2), (16, 3), (33, 4), (3, 5))
    },
    **{f"one of {size}": ref.OneHot(1, size) for size in (1, 2, 7, 40)},
    **{f"one of {size} or unknown": ref.OneHot(1, size, True) for size in (1, 7)},
    **{
        f"{size} vectors of {units}": ref.Embedding(1, size, units)
        for size, units in ((1, 1), (5, 2), (100, 8), (9, 17))
    },
}

# all together: rows 4 and 8 aren't used, several rows have more than one encoder
TOGETHER = (
    ref.OneHot(2, 3, True),
    ref.Numeric(0),
    ref.Periodic(1, 3, 4),
    ref.PiecewiseLinear(0, EDGES, 2),
    ref.Embedding(3, 6, 2),
    ref.PiecewiseLinear(1, EDGES),
    ref.OneHot(3, 6),
    ref.Periodic(5, 17),
    ref.Numeric(2),
    ref.Periodic(0, 16, 2),
    ref.Embedding(6, 30, 5),
    ref.OneHot(7, 1),
)
N_X = 9


# ---- networks, and the same for the oracle ----


def ours(encoder):
    """The library's encoder of the oracle's."""
    return getattr(nk, type(encoder).__name__)(**encoder._asdict())


def encode(encoders, **options):
    return nk.Encode([ours(encoder) for encoder in encoders], **options)


def oracle_of(layer):
    """The oracle's layer of the library's; encoders are given by their numbers."""
    if isinstance(layer, nk.Encode):
        names = ("row", "frequencies", "units", "edges", "size", "unknown")
        kinds = [getattr(ref, type(one).__name__) for one in layer.encoders]
        return ref.Encode(
            kind(**{name: getattr(one, name) for name in names if name in kind._fields})
            for kind, one in zip(kinds, layer.encoders, strict=True)
        )
    if isinstance(layer, nk.Scale):
        return ref.Scale()
    return ref.Dense(layer.activation, mix=layer.mix, negative_slope=layer.negative_slope)


def network(layers, loss="squared_error", *, n_x=N_X, dtype="float64", seed=0, **options):
    """A network whose parameters are all of order 1 and differ, and its layers for the oracle."""
    net = nk.Network(layers, loss, n_x=n_x, dtype=str(dtype), seed=seed, **options)
    rng = np.random.default_rng(seed)
    for name, view in net.parameters.items():
        scale = 1 / np.sqrt(view.shape[1]) if name[0] == "W" else 0.5
        view[...] = rng.normal(scale=scale, size=view.shape)
        if name[0] in "sa":
            view[...] = rng.uniform(0.3, 1.7, view.shape)
    return net, [oracle_of(layer) for layer in net.layers]


def copies(parameters):
    return {name: np.array(view, np.float64) for name, view in parameters.items()}


def codes_of(encoders):
    """{row: number of codes} of the rows that hold some."""
    codes = {}
    for encoder in encoders:
        if isinstance(encoder, (ref.OneHot, ref.Embedding)):
            most = encoder.size + getattr(encoder, "unknown", False)
            codes[encoder.row] = min(most, codes.get(encoder.row, most))
    return codes


def examples(encoders, m, *, n_x=N_X, dtype="float64", seed=0):
    """X (n_x, m): codes where there must be some, all of them where m is large, and normal numbers, away from edges."""
    rng = np.random.default_rng(seed)
    X = rng.normal(scale=1.5, size=(n_x, m))
    edges = np.unique([edge for one in encoders for edge in getattr(one, "edges", ())])
    for edge in edges:
        X = np.where(np.abs(X - edge) < 1e-3, edge + 2e-3, X)
    for row, most in codes_of(encoders).items():
        X[row] = rng.permutation(np.arange(m) % most)
    return X.astype(dtype)


def targets(loss, n_y, m, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(0, n_y, m) if loss == "cross_entropy" else ref.random_targets(loss, (n_y, m), rng)


def whole(loss, Y, n_y):
    return ref.one_hot(Y, n_y) if loss == "cross_entropy" else Y


def assert_close(actual, expected, relative, what=""):
    """Relative to the largest entry: single ones may cancel to nothing."""
    assert np.shape(actual) == np.shape(expected), what
    largest = max(1.0, np.max(np.abs(expected), initial=0))
    assert np.max(np.abs(actual - expected), initial=0) <= relative * largest, what


def plain_outputs(encoders, *, n_x=N_X, dtype="float64", seed=0, loss="absolute_error", **options):
    """A network of Encode and of a Scale whose factors are powers of two: its outputs are exact, and so is dA of the
    encoders, ± those factors, where targets are far away."""
    net, layers = network([encode(encoders), nk.Scale()], loss, n_x=n_x, dtype=dtype, seed=seed, **options)
    s = net.parameters["s2"]
    s[...] = 2.0 ** np.random.default_rng(seed).integers(-1, 2, s.shape)
    return net, layers


# ---- forward ----

EXAMPLES = (1, 2, 15, 16, 17, 33, 300, 5000)


def check_forward(compare, encoders, m, dtype, **options):
    """predict and forward of the encoders against the equations; gives the network and X."""
    net, (oracle, _) = plain_outputs(encoders, dtype=dtype, **options)
    X = examples(encoders, m, dtype=dtype, seed=m)
    p = ref.of_layer(net.parameters, 1)
    s = net.parameters["s2"].astype(np.float64)
    A, _ = oracle.forward(p, X)
    expected, bound = s * A, s * oracle.errors(p, X, dtype)
    for how in (net.predict, net.forward):
        actual = how(X)
        assert actual.dtype == dtype
        compare(actual, expected, bound, f"{how.__name__}, {m} examples")
    return net, X


@pytest.mark.parametrize("encoder", ALONE.values(), ids=list(ALONE))
def test_each_encoder_is_its_equation(compare, encoder, dtype):
    for m in EXAMPLES:
        check_forward(compare, [encoder], m, dtype)


def test_encoders_together_are_their_equations(compare, dtype):
    for m in EXAMPLES:
        check_forward(compare, TOGETHER, m, dtype)


@pytest.mark.parametrize("seed", range(8))
def test_encoders_in_any_order(compare, seed, dtype):
    """Outputs follow each other as the encoders do, and those of one-hot codes come last."""
    rng = np.random.default_rng(seed)
    encoders = [TOGETHER[i] for i in rng.permutation(len(TOGETHER))[: rng.integers(1, len(TOGETHER) + 1)]]
    check_forward(compare, encoders, 33, dtype)


def test_one_encoder_twice(compare, dtype):
    twice = ref.Periodic(1, 3, 2)
    net, _ = check_forward(compare, [twice, ref.OneHot(2, 3), twice, ref.OneHot(2, 3)], 17, dtype)
    assert net.parameters["w1"].shape == (6, 1)


def test_where_outputs_and_parameters_are():
    """The documented order, by hand: one-hot last; parameters follow as encoders are given, column by column."""
    encoders = [nk.OneHot(0, 2), nk.Embedding(0, 2, 3), nk.PiecewiseLinear(1, [0, 1], units=2), nk.Numeric(1)]
    encoders += [nk.OneHot(0, 1, unknown=True), nk.Embedding(0, 2, 1), nk.Periodic(1, 1, units=3)]
    net = nk.Network([nk.Encode(encoders), nk.Scale()], "squared_error", n_x=2, dtype="float64")
    assert [encoder.outputs for encoder in encoders] == [2, 3, 2, 1, 1, 1, 3]
    assert {name: view.shape for name, view in net.parameters.items()} == {
        "w1": (1, 1), "b1": (1, 1), "M1": (8, 1), "E1": (8, 1), "s2": (13, 1),
    }  # fmt: skip
    net.parameters["E1"][:, 0] = [10, 11, 12, 20, 21, 22, 30, 31]
    net.parameters["M1"][:, 0] = [1, 2, 3, 4, 5, 6, 7, 8]
    net.parameters["w1"][...] = net.parameters["b1"][...] = 0
    embedded, mapped = [20, 21, 22], [1 * 0.5 + 3, 2 * 0.5 + 4]
    expected = [*embedded, *mapped, 0.5, 31, 0.5, 5 + 7, 6 + 8, 0, 1, 1]
    np.testing.assert_array_equal(net.predict([[1.0], [0.5]])[:, 0], expected)
    parts = net.layers[0].parameters_of(ref.of_layer(net.parameters, 1))
    assert [encoder for encoder, _ in parts] == encoders
    np.testing.assert_array_equal(parts[1][1]["E"], [[10, 20], [11, 21], [12, 22]])
    np.testing.assert_array_equal(parts[6][1]["M"], [[5, 7], [6, 8]])


@pytest.mark.parametrize("m", [1, 17, 300])
@pytest.mark.parametrize("above", [[], [nk.Dense(5)]], ids=len)
def test_every_layout_of_examples(above, m, dtype):
    """The same bits as in C order, from predict, forward, and the gradients after it."""
    net, _ = network([encode(TOGETHER), nk.Scale(), *above], "absolute_error", dtype=dtype)
    X = examples(TOGETHER, m, dtype=dtype)
    Y = np.full((net.n_y, m), 100.0)
    for layout, lay_out in LAYOUTS.items():
        laid_out = lay_out(X)
        if ("row" in layout and "broadcast" in layout) or "number" in layout:
            continue  # one row doesn't hold both codes and numbers
        plain = np.array(laid_out, dtype, order="C")
        A, forwards = net.predict(plain), net.forward(plain)
        gradients = net.backward(Y)
        np.testing.assert_array_equal(net.predict(laid_out), A, err_msg=layout)
        np.testing.assert_array_equal(net.forward(laid_out), forwards, err_msg=layout)
        for name, gradient in net.backward(Y).items():
            np.testing.assert_array_equal(gradient, gradients[name], err_msg=f"{layout} {name}")


@pytest.mark.parametrize("came", ["int8", "int64", "uint16", "bool", "float16"])
def test_codes_of_any_dtype(came):
    """Integers and halves are taken as the numbers that they are."""
    net, _ = plain_outputs([ref.OneHot(0, 2), ref.Embedding(1, 2, 3), ref.PiecewiseLinear(1, EDGES)], n_x=2)
    X = np.random.default_rng(0).integers(0, 2, (2, 40))
    np.testing.assert_array_equal(net.predict(X.astype(came)), net.predict(X.astype(float)))


def test_beyond_the_edges_is_0_or_1_exactly(dtype):
    """Also where neither width nor its inverse is a number of the dtype that bounds are made for."""
    edges = (-1.1, -0.3, 0.7, 1e6)
    net, _ = plain_outputs([ref.PiecewiseLinear(0, edges)], n_x=1, dtype=dtype)
    net.parameters["s2"][...] = 1
    below, above = np.float32(-1.1000001), np.float32(1e6)
    X = np.array([[-np.inf, -1e30, -5, below, above, 2e6, 1e30, np.inf]], dtype)
    np.testing.assert_array_equal(net.predict(X), np.repeat([[0, 1]], [4, 4], axis=1) * np.ones((3, 1)))


@pytest.mark.parametrize(
    "edges", [(0.0, 2e-38), (0.0, 1.2e-38, 1.0), (-3e38, 3e38), (-3e38, 0.0, 3.3e38), (1.0, 1 + 2**-23)]
)
def test_bins_of_any_width_that_float32_has(edges, dtype):
    """Never NaN, never outside 0 and 1, and rising."""
    net, _ = plain_outputs([ref.PiecewiseLinear(0, edges)], n_x=1, dtype=dtype)
    net.parameters["s2"][...] = 1
    inside = [x for low, high in itertools.pairwise(edges) for x in (low, low + (high / 2 - low / 2), high)]
    X = np.array([sorted([-np.inf, *inside, -1.0, 2.0, np.inf])], dtype)
    A = net.predict(X)
    assert ((A >= 0) & (A <= 1)).all(), A
    assert (np.diff(A) >= 0).all(), A
    assert (A[:, 0] == 0).all()
    assert (A[:, -1] == 1).all()


# ---- backward ----


def check_backward(compare, encoders, m, dtype):
    """Gradients against the equations where dA is exact."""
    net, (oracle, _) = plain_outputs(encoders, dtype=dtype)
    X = examples(encoders, m, dtype=dtype, seed=m)
    p, s = ref.of_layer(net.parameters, 1), net.parameters["s2"].astype(float)
    signs = np.random.default_rng(m).choice([-1.0, 1.0], (net.n_y, m))
    net.forward(X)
    computed = net.backward(-1e3 * signs)
    expected, _ = oracle.backward(s * signs, p, X)
    bounds = oracle.gradient_errors(s * signs, p, X, dtype)
    assert set(computed) == {f"d{name}1" for name in expected} | {"ds2"}
    for name, gradient in expected.items():
        compare(computed[f"d{name}1"], gradient, bounds[name], f"d{name}, {m} examples")


LEARNT = {name: encoder for name, encoder in ALONE.items() if encoder.shapes()}


@pytest.mark.parametrize("encoder", LEARNT.values(), ids=list(LEARNT))
def test_gradients_of_each_encoder_are_its_equation(compare, encoder, dtype):
    for m in EXAMPLES:
        check_backward(compare, [encoder], m, dtype)


def test_gradients_of_encoders_together_are_their_equations(compare, dtype):
    for m in (*EXAMPLES, 4096, 4097, 9001):
        check_backward(compare, TOGETHER, m, dtype)


WIDE = (
    ref.Periodic(1, 2000, 50),
    ref.PiecewiseLinear(1, tuple(np.arange(-500, 501) / 250), 30),
    ref.Embedding(3, 3000, 300),
    ref.Periodic(0, 513),
)


@pytest.mark.parametrize("m", [1, 70])
def test_wide_encoders_are_their_equations(compare, m, dtype):
    check_forward(compare, WIDE, m, dtype)
    check_backward(compare, WIDE, m, dtype)


WHOLE = (
    ref.PiecewiseLinear(0, (-4.0, -2.0, -1.0, 3.0, 11.0), 3),
    ref.OneHot(1, 5),
    ref.Embedding(1, 5, 3),
    ref.Numeric(0),
    ref.OneHot(2, 40, True),
    ref.PiecewiseLinear(0, (0.0, 2.0)),
)


@pytest.mark.parametrize("options", [{"dtype": "float32"}, {"dtype": "float64"}, {"compute": "bfloat16"}], ids=str)
@pytest.mark.parametrize("encoders", [WHOLE, (ref.OneHot(2, 40, True),), WHOLE[:3]], ids=len)
@pytest.mark.parametrize("scales", [0, 1, 2])
def test_whole_numbers_through_a_dense_layer(scales, encoders, options):
    """Nothing is rounded, in bfloat16 neither: weights and factors of 1, 0 and -1, dZ of 1 and -1, m a power of two."""
    for units, m in ((1, 1), (3, 16), (17, 64), (200, 256), (33, 8192)):
        layers = [encode(encoders), *[nk.Scale()] * scales, nk.Dense(units)]
        net = nk.Network(layers, "absolute_error", n_x=3, seed=0, **options)
        rng = np.random.default_rng(units)
        for name, view in net.parameters.items():
            view[...] = rng.integers(-1, 2, view.shape) if name[0] in "Ws" else rng.integers(-8, 9, view.shape)
        X = np.stack([rng.integers(-6, 14, m), rng.integers(0, 5, m), rng.integers(0, 41, m)]).astype(net.dtype)
        Y = rng.choice([-1e4, 1e4], (units, m))
        layers, parameters = [oracle_of(layer) for layer in net.layers], copies(net.parameters)
        A = ref.chain_forward(layers, parameters, X)[0][-1]
        for how in (net.predict, net.forward, net.compile_predict()):
            np.testing.assert_array_equal(how(X), A, err_msg=f"{units} units, {m} examples")
        _, gradients, _ = ref.chain(layers, parameters, X, Y, "absolute_error")
        computed = net.backward(Y)
        assert list(computed) == ["d" + name for name in net.parameters]
        for name, gradient in gradients.items():
            np.testing.assert_array_equal(computed[name], gradient, err_msg=f"{name}, {units} units, {m} examples")


@pytest.mark.own_kernels
@pytest.mark.parametrize("isa", USABLE_ISAS)
def test_encoders_with_other_kernels(isa):
    names = "together_are or ulp or (whole_numbers and 6) or (every_layout and 17) or (mix_is and (selu or softplus))"
    names += " or (codes_give and twice) or operands_of_codes"
    run_tests("test_encode.py", names, NNKERN_ISA=isa)


@pytest.mark.own_kernels
@pytest.mark.parametrize("gemm", ["blas", "tiles"])
def test_dense_layers_above_encoders_by_either_way_of_multiplying(gemm):
    names = "(whole_numbers and 6) or (codes_give and twice) or (ten_steps and several and AdamW)"
    run_tests("test_encode.py", names, NNKERN_GEMM=gemm)


# ---- cosine and sine ----


def phases_of(dtype, rng):
    """Random phases over the range that is promised, and the numbers next to multiples of π/2 and π/4."""
    reach = 8192 if dtype == np.float32 else 1e6
    k = np.unique(np.concatenate([np.arange(64), np.geomspace(64, 4 * reach / np.pi - 1, 1500).astype(int)]))
    near = np.array([float(mpmath.mpf(int(i)) * mpmath.pi / 4) for i in k]).astype(dtype)
    near = np.concatenate([near, np.nextafter(near, dtype.type(np.inf)), np.nextafter(near, dtype.type(-np.inf))])
    far = rng.uniform(-reach, reach, 4000)
    small = 10.0 ** rng.uniform(-30, 0, 300)
    phases = np.concatenate([near, -near, far, small, [0, reach, -reach]]).astype(dtype)
    return phases[np.abs(phases) <= reach]


def test_cosine_and_sine_are_within_4_ulp(dtype):
    """w = 0 and b the phase; the gradient by b is the sine where dA is -1."""
    b = phases_of(dtype, np.random.default_rng(0))
    net, _ = plain_outputs([ref.Periodic(0, b.size)], n_x=1, dtype=dtype)
    net.parameters["s2"][...] = 1
    net.parameters["w1"][...] = 0
    net.parameters["b1"][:, 0] = b
    X = np.zeros((1, 1))
    results = {
        "predict": net.predict(X)[:, 0],
        "cos": net.forward(X)[:, 0],
        "sin": net.backward(2 + 0 * net.predict(X))["db1"][:, 0],
    }
    with mpmath.workdps(40):
        exact = {
            "cos": [mpmath.cos(mpmath.mpf(float(x))) for x in b],
            "sin": [mpmath.sin(mpmath.mpf(float(x))) for x in b],
        }
        exact["predict"] = exact["cos"]
        for name, computed in results.items():
            off = np.array([float(mpmath.mpf(float(c)) - e) for c, e in zip(computed, exact[name], strict=True)])
            ulps = np.abs(off) / ref.ulp([float(e) for e in exact[name]], dtype)
            worst = np.argmax(ulps)
            assert ulps[worst] <= 4, f"{name} of {b[worst]!r} is {computed[worst]!r}, {ulps[worst]:.3g} ULP off"


def test_cosines_of_any_phase_are_within_1(dtype):
    """Also where the phase is far beyond the range in which it has digits."""
    rng = np.random.default_rng(0)
    far = np.array([1e5, 1e6, 1e7, 1e10, 1e20, 1e30, 2.0**31, 2.0**32, 2.0**52, 2.0**63, 3e36])
    b = np.concatenate([far, -far, *(size * rng.standard_normal(200) for size in far)])
    net, _ = plain_outputs([ref.Periodic(0, b.size)], n_x=1, dtype=dtype)
    net.parameters["s2"][...] = 1
    net.parameters["w1"][:, 0], net.parameters["b1"][:, 0] = 1, b
    for x in (0.0, 1.0, 1e6, -1e6, 1e30, -3e36):
        A = net.forward([[x]])
        assert (np.abs(A) <= 1).all()
        assert (np.abs(net.predict([[x]])) <= 1).all()
        sines = net.backward(2 + 0 * A)["db1"]
        assert (np.abs(sines) <= 1).all()


def test_not_a_number_and_infinities_in_numbers(dtype):
    """NaN stays NaN in what is made of it, and nowhere else; a cosine of an infinity is none."""
    encoders = [ref.Numeric(0), ref.Periodic(0, 17), ref.PiecewiseLinear(0, EDGES), ref.Periodic(0, 3, 3)]
    encoders += [ref.PiecewiseLinear(0, EDGES, 2), ref.Numeric(1), ref.OneHot(2, 3)]
    net, (oracle, _) = plain_outputs(encoders, n_x=3, dtype=dtype)
    X = np.zeros((3, 40), dtype)
    X[0, [5, 17, 39]] = np.nan, np.inf, -np.inf
    p = ref.of_layer(net.parameters, 1)
    with np.errstate(invalid="ignore"):
        A = net.parameters["s2"] * oracle.forward(p, X)[0]
    for computed in (net.predict(X), net.forward(X), net.compile_predict()(X)):
        np.testing.assert_array_equal(np.isnan(computed), np.isnan(A))
        np.testing.assert_allclose(computed, A, rtol=1e-5, atol=1e-5)
    assert np.isnan(A[:-4, 5]).all()
    assert not np.isnan(A[-4:]).any()


# ---- whole networks: differences, and the equations ----

FEW = (
    ref.OneHot(2, 3),
    ref.Numeric(0),
    ref.Periodic(1, 3, 3),
    ref.PiecewiseLinear(0, EDGES, 2),
    ref.Embedding(3, 4, 2),
)
ENCODED = {
    **{
        name: [ALONE[name]]
        for name in (
            *("number", "periodic 3", "periodic 17 to 5", "bins 16", "bins 3 to 5", "one of 7", "one of 7 or unknown"),
            "5 vectors of 2",
        )
    },
    "several": FEW,
    "all": TOGETHER,
}
FOLLOWING = {
    "dense": lambda: [nk.Dense(4, "tanh")],
    "scale and dense": lambda: [nk.Scale(), nk.Dense(4, "gelu")],
    "two scales and dense": lambda: [nk.Scale(), nk.Scale(), nk.Dense(4, "tanh")],
    "mixed": lambda: [nk.Dense(4, "selu", mix=True)],
    "scale and mixed": lambda: [nk.Scale(), nk.Dense(4, "mish", mix=True)],
    "dense without bias": lambda: [nk.Dense(4, "sigmoid", use_bias=False)],
    "nothing": list,
}
OUTPUT = {"squared_error": "linear", "cross_entropy": "softmax", "binary_cross_entropy": "sigmoid", "poisson": "exp"}


def case(encoders, following, loss="squared_error", *, m=24, units=3, **options):
    """A network with its oracle's layers, and data."""
    net, layers = network([encode(encoders), *following, nk.Dense(units, OUTPUT[loss])], loss, **options)
    return net, layers, examples(encoders, m, n_x=net.n_x, dtype=net.dtype), targets(loss, units, m)


def gradients_of(net, X, Y, **options):
    net.forward(X)
    return net.backward(Y, **options)


@pytest.mark.parametrize("loss", OUTPUT)
@pytest.mark.parametrize("following", FOLLOWING)
@pytest.mark.parametrize("encoded", ENCODED)
def test_gradients_of_networks(encoded, following, loss):
    """Against central differences of the library's own cost, and against the equations."""
    net, layers, X, Y = case(ENCODED[encoded], FOLLOWING[following](), loss, l2=0.1, l1=0.01)
    assert nk.check_gradients(net, X, Y, max_entries=40) < 1e-6
    w = np.random.default_rng(3).uniform(0.5, 2, X.shape[1])
    for weights in (None, w):
        options = {"l2": 0.1, "l1": 0.01, "sample_weight": weights}
        _, expected, _ = ref.chain(layers, copies(net.parameters), X, whole(loss, Y, 3), loss, **options)
        computed = gradients_of(net, X, Y, sample_weight=weights)
        assert list(computed) == ["d" + name for name in net.parameters]
        for name, gradient in expected.items():
            assert_close(computed[name], gradient, 1e-13, name)


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("following", FOLLOWING)
@pytest.mark.parametrize("encoded", ENCODED)
def test_gradients_of_examples_and_inputs(encoded, following, loss):
    """Those of examples average to backward's; those by numbers are differences and the equation's, by codes 0."""
    encoders = ENCODED[encoded]
    net, layers, X, Y = case(encoders, FOLLOWING[following](), loss, m=9)
    of_examples, means = net.example_gradients(X, Y), gradients_of(net, X, Y)
    assert list(of_examples) == list(means)
    for name, gradient in means.items():
        assert of_examples[name].shape == (9, *gradient.shape)
        assert_close(of_examples[name].mean(axis=0), gradient, 1e-13, name)
    alone = gradients_of(net, X[:, 4:5], Y[..., 4:5])
    for name, gradient in alone.items():
        assert_close(of_examples[name][4], gradient, 1e-13, name)
    _, _, expected = ref.chain(layers, copies(net.parameters), X, whole(loss, Y, 3), loss)
    dX = net.input_gradient(X, Y)
    assert_close(dX, expected, 1e-13)
    codes = codes_of(encoders)
    for row in range(N_X):
        users = [one for one in encoders if one.row == row and row not in codes]
        if not users:
            numbers_too = any(isinstance(one, (ref.Numeric, ref.Periodic)) and one.row == row for one in encoders)
            assert numbers_too or (dX[row] == 0).all()
            continue
        nudge = 1e-5 * (np.arange(N_X) == row)[:, None]
        above, below = ([net.evaluate(Z[:, [i]], Y[..., [i]]).cost for i in range(9)] for Z in (X + nudge, X - nudge))
        assert_close(dX[row], np.subtract(above, below) / 2e-5, 1e-7, row)
    J = net.jacobian(X)
    assert J.shape == (9, 3, N_X)
    for unit in range(3):
        assert_close(J[:, unit].T, net.input_gradient(X, output=unit), 1e-13)


# ---- whole trainings ----

OPTIMIZERS = {
    "SGD": ("SGD", {"learning_rate": 0.1}),
    "momentum": ("SGD", {"learning_rate": 0.05, "momentum": 0.9}),
    "Adam": ("Adam", {"learning_rate": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6}),
    "AdamW": ("AdamW", {"learning_rate": 0.02, "weight_decay": 0.3, "eps": 1e-6}),
}


def optimizers(name):
    kind, options = OPTIMIZERS[name]
    return getattr(nk, kind)(**options), getattr(ref, kind)(**options)


class Oracle:
    """A training step by step: parameters, and which of them are free."""

    def __init__(self, net, layers, loss, optimizer, **penalties):
        self.parameters, self.layers, self.loss, self.optimizer = copies(net.parameters), layers, loss, optimizer
        self.penalties = penalties
        self.frozen = [str(l) for l, layer in enumerate(net.layers, start=1) if not layer.trainable]

    def step(self, X, Y, sample_weight=None, norm=np.inf):
        """One step; gives J before it. `norm`: what all gradients together are made no longer than."""
        options = {**self.penalties, "sample_weight": sample_weight}
        J, gradients, _ = ref.chain(self.layers, self.parameters, X, Y, self.loss, **options)
        free = {name: a for name, a in self.parameters.items() if name[1:] not in self.frozen}
        length = np.sqrt(sum((gradients["d" + name] ** 2).sum() for name in free))
        share = min(1.0, norm / length)
        self.optimizer.step(free, {name: share * gradient for name, gradient in gradients.items()})
        return J

    def epoch(self, X, Y, batch_size, sample_weight=None, norm=np.inf):
        """Batches in order; the mean of their J by the number of examples, or the sum of their weights."""
        sums = np.zeros(2)
        for start in range(0, X.shape[1], batch_size):
            part = slice(start, start + batch_size)
            w = None if sample_weight is None else sample_weight[part]
            share = X[:, part].shape[1] if w is None else w.sum()
            sums += share * self.step(X[:, part], Y[:, part], w, norm), share
        return sums[0] / sums[1]

    def assert_same(self, net, tolerance=1e-10):
        for name, expected in self.parameters.items():
            assert_close(net.parameters[name], expected, tolerance, name)


@pytest.mark.parametrize("batch_size", [7, None])
@pytest.mark.parametrize("following", ["dense", "scale and mixed"])
@pytest.mark.parametrize("encoded", ["one of 7 or unknown", "several", "all"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ten_steps(optimizer, encoded, following, batch_size):
    """Epochs of batches of 7, 7, 7 and 3, or full ones, with weights and both penalties; encoders decay by neither."""
    penalties = {"l2": 0.02, "l1": 0.003}
    net, layers, X, Y = case(ENCODED[encoded], FOLLOWING[following](), "cross_entropy", **penalties)
    ours_, oracles = optimizers(optimizer)
    oracle = Oracle(net, layers, "cross_entropy", oracles, **penalties)
    w = np.random.default_rng(4).uniform(0.5, 2, X.shape[1])
    options = {"optimizer": ours_, "shuffle": False, "sample_weight": w, "batch_size": batch_size}
    history = net.fit(X, Y, epochs=10 if batch_size is None else 3, **options)
    for cost in history["cost"]:
        expected = oracle.epoch(X, ref.one_hot(Y, 3), batch_size or X.shape[1], w)
        assert cost == pytest.approx(expected, rel=1e-10)
    oracle.assert_same(net)


@pytest.mark.parametrize("way", ["partial_fit", "step"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ten_steps_one_by_one(optimizer, way):
    net, layers, X, Y = case(TOGETHER, FOLLOWING["scale and mixed"](), "binary_cross_entropy")
    ours_, oracles = optimizers(optimizer)
    oracle = Oracle(net, layers, "binary_cross_entropy", oracles)
    start = copies(net.parameters)
    for _ in range(10):
        if way == "partial_fit":
            cost = net.partial_fit(X, Y, optimizer=ours_)
        else:
            cost = net.evaluate(X, Y).cost
            net.forward(X, training=True)
            net.step(net.backward(Y), ours_)
        assert cost == pytest.approx(oracle.step(X, Y), rel=1e-10)
        oracle.assert_same(net)
    assert all((view != start[name]).any() for name, view in net.parameters.items())


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_clipped_gradients(optimizer):
    """The length is that of all gradients together, those of the encoders too."""
    net, layers, X, Y = case(TOGETHER, FOLLOWING["mixed"]())
    kind, options = OPTIMIZERS[optimizer]
    oracle = Oracle(net, layers, "squared_error", optimizers(optimizer)[1])
    net.fit(X, 10 * Y, epochs=5, batch_size=10, shuffle=False, optimizer=getattr(nk, kind)(**options, clip_norm=0.5))
    for _ in range(5):
        oracle.epoch(X, 10 * Y, 10, norm=0.5)
    oracle.assert_same(net)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_ten_steps_in_float32(optimizer):
    """A gradient meets about m roundings in each step, as in test_golden.py; phases and their factor 2π some more."""
    net, layers, X, Y = case(FEW, FOLLOWING["scale and mixed"](), "cross_entropy", dtype="float32")
    ours_, oracles = optimizers(optimizer)
    oracle = Oracle(net, layers, "cross_entropy", oracles)
    net.fit(X, Y, epochs=10, batch_size=None, optimizer=ours_)
    for _ in range(10):
        oracle.step(X, ref.one_hot(Y, 3))
    oracle.assert_same(net, 10 * (X.shape[1] + 20) * ref.unit_roundoff("float32"))


@pytest.mark.parametrize("encoded", ["several", "all"])
@pytest.mark.parametrize("batch_size", [None, 5000])
def test_batches_beyond_a_chunk(encoded, batch_size):
    """9001 examples at once: sums over chunks of 4096 and a rest."""
    net, layers, X, Y = case(ENCODED[encoded], FOLLOWING["mixed"](), "cross_entropy", m=9001)
    oracle = Oracle(net, layers, "cross_entropy", ref.Adam(0.02))
    net.fit(X, Y, epochs=2, batch_size=batch_size, shuffle=False, optimizer=nk.Adam(0.02))
    for _ in range(2):
        oracle.epoch(X, ref.one_hot(Y, 3), batch_size or 9001)
    oracle.assert_same(net)


FROZEN = {
    "encode": lambda encoders: [encode(encoders, trainable=False), nk.Dense(4, "tanh"), nk.Dense(3, "softmax")],
    "dense above": lambda encoders: [
        encode(encoders), nk.Dense(4, "tanh", trainable=False), nk.Scale(), nk.Dense(3, "softmax")
    ],
    "mixed above": lambda encoders: [
        encode(encoders), nk.Dense(4, "tanh", mix=True, trainable=False), nk.Dense(3, "softmax")
    ],
    "scale above": lambda encoders: [encode(encoders), nk.Scale(trainable=False), nk.Dense(3, "softmax")],
    "dense above scale": lambda encoders: [
        encode(encoders), nk.Scale(), nk.Dense(4, "tanh", trainable=False), nk.Dense(3, "softmax")
    ],
    "all but scale": lambda encoders: [
        encode(encoders, trainable=False), nk.Scale(), nk.Dense(3, "softmax", trainable=False)
    ],
    "encode and scale": lambda encoders: [
        encode(encoders, trainable=False), nk.Scale(trainable=False), nk.Dense(3, "softmax")
    ],
    "all but encode": lambda encoders: [
        encode(encoders), nk.Dense(4, "gelu", trainable=False), nk.Dense(3, "softmax", trainable=False)
    ],
    "all but the last": lambda encoders: [
        encode(encoders, trainable=False), nk.Dense(4, "relu", mix=True, trainable=False), nk.Dense(3, "softmax")
    ],
    "output only": lambda encoders: [encode(encoders), nk.Dense(3, "softmax", trainable=False)],
}  # fmt: skip


@pytest.mark.parametrize("batch_size", [7, 5000])
@pytest.mark.parametrize("frozen", FROZEN)
def test_frozen_layers(frozen, batch_size):
    """They keep their bits, and have no gradient; the others go by the equations."""
    net, layers = network(FROZEN[frozen](TOGETHER), "cross_entropy", l2=0.02)
    m = 24 if batch_size < 100 else 9001
    X, Y = examples(TOGETHER, m), targets("cross_entropy", 3, m)
    start, oracle = copies(net.parameters), Oracle(net, layers, "cross_entropy", ref.Adam(0.02), l2=0.02)
    net.fit(X, Y, epochs=2, batch_size=batch_size, shuffle=False, optimizer=nk.Adam(0.02))
    for _ in range(2):
        oracle.epoch(X, ref.one_hot(Y, 3), batch_size)
    oracle.assert_same(net)
    free = [name for name in net.parameters if name[1:] not in oracle.frozen]
    for name, view in net.parameters.items():
        assert np.array_equal(view, start[name]) == (name not in free), name
    assert list(gradients_of(net, X, Y)) == ["d" + name for name in free]
    assert list(net.example_gradients(X[:, :5], Y[:5])) == ["d" + name for name in free]


@pytest.mark.parametrize("following", FOLLOWING)
def test_encode_with_nothing_to_learn(following):
    encoders = [ref.OneHot(0, 4, True), ref.Numeric(1), ref.PiecewiseLinear(1, EDGES), ref.OneHot(2, 3)]
    net, layers, X, Y = case(encoders, FOLLOWING[following](), m=50, n_x=3)
    oracle = Oracle(net, layers, "squared_error", ref.SGD(0.1))
    assert not [name for name in net.parameters if name.endswith("1")]
    net.fit(X, Y, epochs=3, batch_size=16, shuffle=False, optimizer=nk.SGD(0.1))
    for _ in range(3):
        oracle.epoch(X, Y, 16)
    oracle.assert_same(net)


# ---- one-hot codes beside the matrix of 0 and 1 ----

CATEGORIES = {
    "codes alone": (ref.OneHot(1, 7),),
    "or unknown": (ref.OneHot(1, 7, True), ref.OneHot(2, 40)),
    "with numbers": (ref.OneHot(3, 5, True), ref.Numeric(0), ref.OneHot(1, 3), ref.PiecewiseLinear(2, EDGES)),
    "twice": (ref.OneHot(1, 5), ref.OneHot(1, 5), ref.OneHot(1, 4, True), ref.Numeric(1)),
}


def beside_the_matrix(encoders, units, dtype, m, *, scaled, activation="tanh", **options):
    """A network of codes, one of their matrix of 0 and 1 with the same parameters, and the examples for each.

    Some of the factors of a Scale are 0, some below it.
    """
    layers = [nk.Scale()] * scaled + [nk.Dense(units, activation, **options), nk.Dense(3, "softmax")]
    of_codes, (oracle, *_) = network([encode(encoders), *layers], "cross_entropy", dtype=dtype)
    if scaled:
        s = of_codes.parameters["s2"]
        s[::3] *= -1
        s[1::4] = 0
    of_matrix = nk.Network(layers, "cross_entropy", n_x=oracle.outputs, dtype=str(dtype))
    of_matrix.set_parameters({f"{name[0]}{int(name[1:]) - 1}": view for name, view in of_codes.parameters.items()})
    X = examples(encoders, m, dtype=dtype)
    return of_codes, of_matrix, X, oracle.forward({}, X)[0].astype(dtype)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("units", [1, 2, 17, 64, 256])
@pytest.mark.parametrize("categories", CATEGORIES)
def test_codes_give_what_the_matrix_gives(compare, categories, units, scaled, dtype):
    for m in (1, 2, 16, 33, 300):
        nets = beside_the_matrix(CATEGORIES[categories], units, dtype, m, scaled=scaled)
        of_codes, of_matrix, X, matrix = nets
        parameters, A_prev = of_matrix.parameters, matrix.astype(np.float64)
        if scaled:
            A_prev *= parameters["s1"].astype(np.float64)
        rounding = ref.unit_roundoff(dtype) * np.abs(A_prev)
        options = {"error": scaled * rounding, "first": 1 + scaled}
        expected, bound = ref.network_bound(A_prev, parameters, ("tanh", "softmax"), dtype, **options)
        for A in (of_codes.predict(X), of_codes.forward(X), of_codes.compile_predict()(X), of_matrix.predict(matrix)):
            compare(A, expected, bound, f"{m} examples")


@pytest.mark.parametrize("mix", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("batch_size", [16, 5000])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("categories", CATEGORIES)
def test_codes_train_to_what_the_matrix_trains_to(categories, optimizer, batch_size, scaled, mix):
    """Columns of W that no example picks move by penalty and decay alone, and their factors not at all."""
    m = 9001 if batch_size > 100 else 57
    nets = beside_the_matrix(CATEGORIES[categories], 8, "float64", m, scaled=scaled, mix=mix)
    of_codes, of_matrix, X, matrix = nets
    start = copies(of_matrix.parameters)
    rare = matrix[-1] == 1
    X, matrix = X[:, ~rare], matrix[:, ~rare]
    Y = targets("cross_entropy", 3, X.shape[1])
    options = {"batch_size": batch_size, "optimizer": optimizers(optimizer)[0], "epochs": 3, "shuffle": False}
    histories = [net.fit(given, Y, **options) for net, given in ((of_codes, X), (of_matrix, matrix))]
    np.testing.assert_allclose(histories[0]["cost"], histories[1]["cost"], rtol=1e-11)
    for name, view in of_matrix.parameters.items():
        assert_close(of_codes.parameters[f"{name[0]}{int(name[1:]) + 1}"], view, 1e-10, name)
    if scaled:
        moved = of_codes.parameters["s2"] != start["s1"]
        np.testing.assert_array_equal(moved[:, 0], (matrix != 0).any(axis=1))


@pytest.mark.parametrize("frozen", ["", "scale", "dense"])
@pytest.mark.parametrize("categories", CATEGORIES)
def test_gradients_by_factors_that_are_0_or_below(categories, frozen):
    """A factor of 0 hides its column of W, whose product with dZ is the factor's gradient all the same."""
    layers = [
        encode(CATEGORIES[categories]),
        nk.Scale(trainable=frozen != "scale"),
        nk.Dense(5, "tanh", trainable=frozen != "dense"),
        nk.Dense(3, "softmax"),
    ]
    net, oracles = network(layers, "cross_entropy", l2=0.1)
    net.parameters["s2"][...] = np.resize([[0.0], [-1.5], [0.75]], net.parameters["s2"].shape)
    X, Y = examples(CATEGORIES[categories], 60), targets("cross_entropy", 3, 60)
    assert nk.check_gradients(net, X, Y) < 1e-6
    computed, (cost, at_once) = gradients_of(net, X, Y), net.gradients(X, Y)
    J, expected, dX = ref.chain(oracles, copies(net.parameters), X, ref.one_hot(Y, 3), "cross_entropy", l2=0.1)
    assert cost == pytest.approx(J, rel=1e-13)
    free = [name for name in net.parameters if name[0] + frozen not in ("sscale", "Wdense", "bdense") or name[1] == "4"]
    assert list(computed) == list(at_once) == ["d" + name for name in free]
    for name in computed:
        assert_close(computed[name], expected[name], 1e-13, name)
        assert_close(at_once[name], expected[name], 1e-13, name)
    if frozen != "scale":
        assert (computed["ds2"][net.parameters["s2"] == 0] != 0).any()
    assert_close(net.input_gradient(X, Y), dX, 1e-13)


@linux
@pytest.mark.no_sanitizer
def test_codes_through_a_scale_take_no_memory_for_a_matrix():
    """20,000 codes of 5,000 examples: as a matrix of float32 they have 400 MB, and a chunk of 4096 examples 327 MB."""
    code = """
        import numpy as np
        import nnkern as nk

        X, Y = np.arange(5000.0)[None] * 4, np.arange(5000) % 4
        layers = [nk.Encode([nk.OneHot(0, 20_000)]), nk.Scale(), nk.Dense(4, "softmax")]
        net = nk.Network(layers, "cross_entropy", n_x=1, seed=0)
        net.fit(X[:, :100], Y[:100], epochs=1)
        net.predict(X[:, :100])
        limit_memory(3 * 2**25)
        try:
            matrix = np.empty((20_000, 4096), np.float32)
        except MemoryError:
            print("no matrix")
        costs = net.fit(X, Y, epochs=3, batch_size=None, optimizer=nk.Adam(0.1))["cost"]
        costs += net.fit(X, Y, epochs=3, batch_size=256)["cost"]
        assert costs == sorted(costs, reverse=True)
        net.forward(X, training=True)
        assert (net.backward(Y)["ds2"] != 0).any()
        assert net.evaluate(X, Y).score == 1
        assert (net.compile_predict()(X).argmax(axis=0) == Y).all()
    """
    assert run(measured(textwrap.dedent(code))) == "no matrix\n"


# ---- the same bits ----

THREADS = (1, 2, 3, 8)


def table_network(*, dtype="float32", units=64, dropout=0.2, seed=3):
    layers = [encode(TOGETHER), nk.Scale(), nk.Dense(units, "selu", mix=True, dropout=dropout), nk.Dense(units, "relu")]
    return nk.Network([*layers, nk.Dense(3, "softmax")], "cross_entropy", n_x=N_X, dtype=str(dtype), seed=seed)


def bits(net):
    return b"".join(view.tobytes() for view in net.parameters.values())


@pytest.mark.parametrize(
    ("m", "batch_size", "units"), [(300, 32, 64), (9001, None, 16), (9001, 5000, 40), (600, 256, 260)]
)
def test_the_same_bits_for_any_number_of_threads(m, batch_size, units, dtype):
    X, Y = examples(TOGETHER, m, dtype=dtype), targets("cross_entropy", 3, m)
    w = np.random.default_rng(0).uniform(0.5, 2, m)
    seen = set()
    for threads in THREADS:
        net = table_network(dtype=dtype, units=units)
        how = {"batch_size": batch_size, "optimizer": nk.Adam(0.01), "sample_weight": w, "threads": threads}
        history = net.fit(X, Y, epochs=2, **how)
        A = net.predict(X, threads=threads)
        compiled = net.compile_predict(threads=threads)(X)
        seen.add((bits(net), *history["cost"], A.tobytes(), compiled.tobytes(), net.evaluate(X, Y, threads=threads)))
    assert len(seen) == 1


@pytest.mark.parametrize("scales", [0, 1, 2])
@pytest.mark.parametrize("encoded", ["one of 7", "several"])
def test_the_same_bits_of_few_codes_for_any_number_of_threads(encoded, scales, dtype):
    """Codes pick columns of the dense layer that follows, and where there are two scales between, make a matrix."""
    seen = set()
    for threads in THREADS:
        layers = [encode(ENCODED[encoded]), *[nk.Scale()] * scales, nk.Dense(100, "tanh"), nk.Dense(2)]
        net, _ = network(layers, dtype=dtype)
        X, Y = examples(ENCODED[encoded], 9001, dtype=dtype), np.ones((2, 9001))
        net.fit(X, Y, epochs=1, batch_size=None, optimizer=nk.SGD(0.01, 0.9), threads=threads)
        net.fit(X[:, :700], Y[:, :700], epochs=1, batch_size=128, optimizer=nk.AdamW(0.01), threads=threads)
        seen.add((bits(net), net.predict(X, threads=threads).tobytes()))
    assert len(seen) == 1


def test_the_same_bits_by_every_way_to_train(tmp_path, dtype):
    """fit, fit_many, batches of an iterable, in parts, resumed from a file, from a file's memory, in any layout."""
    X, Y = examples(TOGETHER, 150, dtype=dtype), targets("cross_entropy", 3, 150)
    np.save(tmp_path / "X.npy", X)
    how = {"epochs": 4, "batch_size": 32, "optimizer": nk.Adam(0.01)}
    expected = table_network(dtype=dtype)
    expected.fit(X, Y, **how)
    ways = {"fit_many": [table_network(dtype=dtype), table_network(dtype=dtype, seed=8)]}
    nk.fit_many(ways["fit_many"], X, Y, **how)
    ways["fit_many"] = ways["fit_many"][0]
    for name, laid_out in {
        "mapped": np.load(tmp_path / "X.npy", mmap_mode="r"),
        **{layout: LAYOUTS[layout](X) for layout in ("F", "reversed", "strided", "strided, transposed", "misaligned")},
    }.items():
        ways[name] = table_network(dtype=dtype)
        ways[name].fit(laid_out, Y, **how)
    ways["in parts"] = table_network(dtype=dtype)
    ways["in parts"].fit(X, Y, **{**how, "epochs": 1})
    ways["in parts"].save(tmp_path / "net.npz", training_state=True)
    ways["from a file"] = nk.load(tmp_path / "net.npz")
    ways["pickled"] = pickle.loads(pickle.dumps(ways["in parts"]))
    for name in ("in parts", "from a file", "pickled"):
        ways[name].fit(X, Y, epochs=3, batch_size=32, resume=True)
    for name, net in ways.items():
        assert bits(net) == bits(expected), name


def test_the_same_bits_from_batches(dtype):
    """partial_fit, an iterable of batches, and fit in order."""
    X, Y = examples(TOGETHER, 150, dtype=dtype), targets("cross_entropy", 3, 150)
    batches = [(X[:, i : i + 32], Y[i : i + 32]) for i in range(0, 150, 32)]
    nets = [table_network(dtype=dtype) for _ in range(3)]
    nets[0].fit(X, Y, epochs=2, batch_size=32, shuffle=False, optimizer=nk.Adam(0.01))
    nets[1].fit(batches, epochs=2, optimizer=nk.Adam(0.01))
    for _ in range(2):
        for batch in batches:
            nets[2].partial_fit(*batch, optimizer=nk.Adam(0.01))
    assert bits(nets[0]) == bits(nets[1]) == bits(nets[2])


def test_invariant_predictions_of_encoded_examples(dtype):
    """A column's bits are the same beside any others."""
    net = table_network(dtype=dtype)
    X = examples(TOGETHER, 150, dtype=dtype)
    A = net.predict(X, invariant=True)
    np.testing.assert_allclose(A, net.predict(X), rtol=1e3 * np.finfo(dtype).eps, atol=1e3 * np.finfo(dtype).eps)
    for picked in (slice(0, 1), slice(149, 150), slice(63, 65), slice(1, 128), [140, 3, 77]):
        np.testing.assert_array_equal(net.predict(X[:, picked], invariant=True), A[:, picked])


@pytest.mark.parametrize("scales", [0, 1])
@pytest.mark.parametrize("encoded", ["one of 7", "several"])
def test_invariant_predictions_of_few_codes(encoded, scales, dtype):
    layers = [encode(ENCODED[encoded]), *[nk.Scale()] * scales, nk.Dense(100, "tanh", mix=True), nk.Dense(2)]
    net, _ = network(layers, dtype=dtype)
    X = examples(ENCODED[encoded], 150, dtype=dtype)
    A = net.predict(X, invariant=True)
    for picked in (slice(0, 1), slice(149, 150), slice(63, 65), slice(1, 128), [140, 3, 77]):
        np.testing.assert_array_equal(net.predict(X[:, picked], invariant=True), A[:, picked])


def test_a_training_that_diverges_gives_everything_back():
    net = table_network(units=8)
    X, Y, start = examples(TOGETHER, 60), targets("cross_entropy", 3, 60), bits(net)
    with pytest.raises(nk.DivergenceError):
        net.fit(X, Y, epochs=20, optimizer=nk.SGD(1e30))
    assert bits(net) == start


def test_the_best_epoch_has_the_best_encoders():
    """Early stopping gives back all parameters of the epoch that it chose."""
    X, Y = examples(TOGETHER, 60), targets("cross_entropy", 3, 60)
    seen = []
    net = table_network(units=8, dtype="float64")
    history = net.fit(
        *(X, Y),
        epochs=30,
        optimizer=nk.Adam(0.05),
        validation_data=(X[:, ::-1], np.roll(Y, 1)),
        callbacks=[lambda net, epoch, history: seen.append(bits(net)), nk.callbacks.EarlyStopping(patience=3)],
    )
    best = int(np.argmin(history["val_cost"]))
    assert best < len(seen) - 1
    assert bits(net) == seen[best]


def test_a_loss_in_python_above_encoders():
    def half_of_squares(A, Y):
        return (0.5 * (A - Y) ** 2).sum(axis=0), A - Y

    nets = [
        network([encode(TOGETHER), nk.Dense(4, "tanh", mix=True), nk.Dense(2)], loss)[0]
        for loss in ("squared_error", half_of_squares)
    ]
    X, Y = examples(TOGETHER, 60), np.random.default_rng(0).normal(size=(2, 60))
    for net in nets:
        net.fit(X, Y, epochs=3, optimizer=nk.Adam(0.01))
    for name, view in nets[0].parameters.items():
        assert_close(nets[1].parameters[name], view, 1e-12, name)


# ---- codes that are none ----

BAD_CODES = (-1, 6, 5.5, 0.1, np.nan, np.inf, -np.inf, 1e10, 2.0**31, -(2.0**31), 2.0**32, 2.0**53, 1e30, -1e-30)


def uses_of(net, X, Y):
    """Everything that is given examples; bad ones are in X."""
    good = np.zeros(X.shape)
    return {
        "predict": lambda: net.predict(X),
        "invariant": lambda: net.predict(X, invariant=True),
        "predict_labels": lambda: net.predict_labels(X),
        "evaluate": lambda: net.evaluate(X, Y),
        "forward": lambda: net.forward(X),
        "input_gradient": lambda: net.input_gradient(X, Y),
        "jacobian": lambda: net.jacobian(X),
        "example_gradients": lambda: net.example_gradients(X, Y),
        "check_gradients": lambda: nk.check_gradients(net, X, Y),
        "partial_fit": lambda: net.partial_fit(X, Y),
        "fit": lambda: net.fit(X, Y, epochs=1, batch_size=4),
        "full batch": lambda: net.fit(X, Y, epochs=1, batch_size=None),
        "fit_many": lambda: nk.fit_many([net], X, Y, epochs=1, batch_size=4),
        "validation_data": lambda: net.fit(good, Y, epochs=1, validation_data=(X, Y)),
        "iterable": lambda: net.fit([(X, Y)], epochs=1),
        "second batch": lambda: net.fit([(good, Y), (X, Y)], epochs=1),
        "predictor": lambda: net.compile_predict()(X),
        "predictor.predict": lambda: net.compile_predict().predict(X),
    }


USES = list(uses_of(None, np.zeros(1), None))
IN_NUMPY = ("input_gradient", "jacobian", "example_gradients")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("encoder", [ref.OneHot(2, 6), ref.OneHot(2, 5, True), ref.Embedding(2, 6, 3)], ids=str)
def test_what_is_no_code_is_refused_before_anything_is_computed(encoder, use):
    """The error names row and example, and what codes there are; parameters are as they were."""
    net, _ = network([encode([ref.Numeric(0), encoder]), nk.Dense(3, "softmax")], "cross_entropy", n_x=4)
    Y, start = np.arange(20) % 3, bits(net)
    for bad, place in zip(BAD_CODES, itertools.cycle((0, 13, 19)), strict=False):
        X = np.zeros((4, 20))
        X[2, place] = bad
        with pytest.raises(ValueError, match=r"X|codes") as error:
            uses_of(net, X, Y)[use]()
        where = "row 2 of X must hold codes" if use in IN_NUMPY else rf"[\[(]2, {place}[\])]"
        assert re.search(where, str(error.value)), (bad, str(error.value))
        assert bits(net) == start, bad
    uses_of(net, np.full((4, 20), 5.0), Y)[use]()


@pytest.mark.parametrize("order", [1, -1])
def test_a_row_with_two_encoders_holds_the_codes_of_both(order):
    """What is told is how many the smaller one has."""
    encoders = [ref.Embedding(0, 10, 2), ref.OneHot(0, 3)][::order]
    for following in FOLLOWING.values():
        net, _ = network([encode(encoders), *following(), nk.Dense(3)], n_x=1)
        with pytest.raises(ValueError, match=r"X\[0, 1\] must be a code, a whole number from 0 to 2,"):
            net.predict([[2, 5]])


def test_codes_of_rows_that_nothing_encodes_are_not_looked_at():
    net, _ = network([encode([ref.OneHot(2, 6)]), nk.Dense(3)], n_x=4)
    X = np.full((4, 5), np.nan)
    X[2] = [0, 1, 2, 5, 4]
    assert np.isfinite(net.predict(X)).all()


def test_codes_in_float32_and_in_whole_numbers_are_refused_too():
    net, _ = network([encode([ref.OneHot(0, 6)]), nk.Dense(3)], n_x=1, dtype="float32")
    for X in (np.array([[6]], np.int64), np.array([[2**40 + 1]]), np.array([[-1]], np.int8), np.array([[5.5]], "f2")):
        with pytest.raises(ValueError, match=r"X\[0, 0\] must be a code, a whole number from 0 to 5"):
            net.predict(X)
    with pytest.raises(ValueError, match=r"X\[0, 0\] must be a code"):
        net.predict(np.array([[5 + 1e-6]], np.float32))


def test_unknown_codes_and_the_first_vector():
    """Code 0 of an unknown-encoder gives zeros only; that of an embedding its first vector."""
    net, _ = network([encode([ref.OneHot(0, 3, True), ref.Embedding(0, 4, 2)]), nk.Scale()], n_x=1)
    net.parameters["s2"][...] = 1
    A = net.predict([[0, 1, 2, 3]])
    np.testing.assert_array_equal(A[2:], [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(A[:2], net.parameters["E1"].reshape(2, 4, order="F"))
    assert net.parameters["E1"].shape == (8, 1)
    with pytest.raises(ValueError, match="a whole number from 0 to 3"):
        net.predict([[4]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_no_training_data(bad):
    net, _ = network([encode(FEW), nk.Dense(1)], n_x=4)
    X, start = examples(FEW, 20, n_x=4), bits(net)
    X[1, 7] = bad
    for call in (
        lambda: net.fit(X, np.zeros((1, 20)), epochs=1),
        lambda: net.evaluate(X, np.zeros((1, 20))),
        lambda: net.partial_fit(X, np.zeros((1, 20))),
    ):
        with pytest.raises(ValueError, match=r"X holds .* at position \(1, 7\)"):
            call()
    assert bits(net) == start


@pytest.mark.parametrize("batch_size", [4, None])
def test_bad_codes_in_memory_mapped_examples(tmp_path, monkeypatch, batch_size):
    """Large arrays are read once before the first batch, small ones whole."""
    net, _ = network([encode([ref.OneHot(2, 6)]), nk.Dense(3, "softmax")], "cross_entropy", n_x=4)
    X, start = np.zeros((4, 200)), bits(net)
    X[2, 190] = 6
    np.save(tmp_path / "X.npy", X)
    for in_memory in (1 << 26, -1):
        monkeypatch.setattr("nnkern.sources.IN_MEMORY", in_memory)
        mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
        with pytest.raises(ValueError, match="must be a code, a whole number from 0 to 5"):
            net.fit(mapped, np.zeros(200, int), epochs=1, batch_size=batch_size, shuffle=False)
        assert bits(net) == start


def test_bad_codes_among_examples_that_are_set_aside():
    """Whichever they are: before the first epoch."""
    net, _ = network([encode([ref.OneHot(0, 6)]), nk.Dense(3, "softmax")], "cross_entropy", n_x=1)
    start = bits(net)
    for place in range(10):
        X = np.zeros((1, 10))
        X[0, place] = 6
        with pytest.raises(ValueError, match="must be a code"):
            net.fit(X, np.zeros(10, int), epochs=1, validation_split=0.3)
        assert bits(net) == start, place


# ---- networks of all kinds, drawn at random ----

KINDS = {
    "Numeric": lambda draw, row: ref.Numeric(row),
    "Periodic": lambda draw, row: ref.Periodic(row, draw(1, 20), draw(1, 6) if draw(0, 1) else None),
    "PiecewiseLinear": lambda draw, row: ref.PiecewiseLinear(
        row, tuple(np.cumsum([-2.0, *(draw(1, 8) / 4 for _ in range(draw(1, 20)))])), draw(1, 5) if draw(0, 1) else None
    ),
    "OneHot": lambda draw, row: ref.OneHot(row, draw(1, 20), bool(draw(0, 1))),
    "Embedding": lambda draw, row: ref.Embedding(row, draw(1, 20), draw(1, 18)),
}


@given(seed=st.integers(0, 2**32 - 1))
def test_any_network(seed):
    rng = np.random.default_rng(seed)

    def draw(low, high):
        return int(rng.integers(low, high + 1))

    n_x = draw(1, 6)
    encoders = [KINDS[rng.choice(list(KINDS))](draw, draw(0, n_x - 1)) for _ in range(draw(1, 8))]
    encoders = [one._replace(units=2) if type(one) is ref.Periodic and one.units == 1 else one for one in encoders]
    layers = [nk.Scale() for _ in range(draw(0, 2))]
    for _ in range(draw(0, 2)):
        layers.append(nk.Dense(draw(1, 20), str(rng.choice(MIXABLE)), mix=bool(draw(0, 1)), use_bias=bool(draw(0, 1))))
    net, oracle = network([encode(encoders), *layers, nk.Dense(draw(1, 3))], n_x=n_x, seed=seed % 1000)
    m = draw(1, 70)
    X, Y = examples(encoders, m, n_x=n_x, seed=seed), rng.normal(size=(net.n_y, m))
    A, _ = ref.chain_forward(oracle, copies(net.parameters), X)
    # selu, elu and mish have slopes beyond 1, exp grows: relative to what the sums hold
    assert_close(net.predict(X), A[-1], 1e-11)
    assert_close(net.forward(X), A[-1], 1e-11)
    _, expected, dX = ref.chain(oracle, copies(net.parameters), X, Y, "squared_error")
    for name, gradient in net.backward(Y).items():
        assert_close(gradient, expected[name], 1e-11, name)
    assert_close(net.input_gradient(X, Y), dX, 1e-11)


# ---- mix ----


def mixed(activation, units, dtype, *, n_x=5, dropout=0.0, **options):
    """A mixed layer whose outputs are the network's, but for factors of 1."""
    layer = nk.Dense(units, activation, mix=True, dropout=dropout, negative_slope=0.3)
    net, layers = network([layer, nk.Scale()], n_x=n_x, dtype=dtype, **options)
    net.parameters["s2"][...] = 1
    return net, layers


@pytest.mark.parametrize("activation", MIXABLE)
def test_mix_is_its_equation(compare, activation, dtype):
    """Forward within bounds, for a between, beyond, 0 and 1."""
    for units, m in ((1, 1), (2, 15), (15, 16), (16, 17), (17, 33), (33, 300), (8, 5000), (130, 70)):
        net, _ = mixed(activation, units, dtype, seed=units)
        p = net.parameters
        p["a1"][: units // 2] = np.random.default_rng(m).choice([0, 1, -0.5, 2.25], (units // 2, 1))
        X = np.random.default_rng(m).normal(size=(5, m)).astype(dtype)
        Z = p["W1"].astype(float) @ X + p["b1"]
        A = ref.mix_forward(p["a1"], Z, activation, 0.3)
        bound = ref.bound_mix(p["a1"], Z, activation, dtype, ref.bound_Z(p["W1"], X, p["b1"], dtype), 0.3)
        for how in (net.predict, net.forward, net.compile_predict()):
            compare(how(X), A, bound, f"{activation}, {units} units, {m} examples")


@pytest.mark.parametrize("activation", MIXABLE)
def test_gradients_of_mixed_layers(activation):
    """First, amid, and one after the other, against differences and the equations."""

    def dense(units):
        return nk.Dense(units, activation, mix=True, negative_slope=0.3)

    for layers in (
        [dense(4), nk.Dense(2)],
        [nk.Dense(4, "tanh"), dense(17), dense(3), nk.Scale(), dense(3), nk.Dense(2)],
    ):
        net, oracle = network(layers, n_x=5, l2=0.1)
        if activation == "exp":  # e^e^z leaves no float64 for differences otherwise
            net.set_parameters({name: view / 3 for name, view in net.parameters.items()})
        X, Y = np.random.default_rng(0).normal(size=(5, 20)), np.random.default_rng(1).normal(size=(2, 20))
        Z = ref.chain_forward(oracle, copies(net.parameters), X)[1]
        kinks = ref.ELEMENTWISE[activation].kinks
        distance = min(np.abs(z - kink).min() for z in Z[1:] for kink in (*kinks, np.inf))
        if distance > 1e-4:
            assert nk.check_gradients(net, X, Y, step=1e-6) < 1e-5
        _, expected, dX = ref.chain(oracle, copies(net.parameters), X, Y, "squared_error", l2=0.1)
        computed = gradients_of(net, X, Y)
        assert list(computed) == ["d" + name for name in net.parameters]
        for name, gradient in expected.items():
            assert_close(computed[name], gradient, 1e-12, name)
        assert_close(net.input_gradient(X, Y), dX, 1e-12)
        for name, gradient in net.example_gradients(X, Y).items():
            penalty = 0.1 * net.parameters[name[1:]] if name[1] == "W" else 0
            assert_close(gradient.mean(axis=0) + penalty, expected[name], 1e-12, name)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "hard_swish", "selu"])
def test_a_mixed_layer_at_its_kink(activation, dtype):
    """At z = 0 the derivative is that of the activation by itself, mixed; all is exact here."""
    net, _ = mixed(activation, 1, dtype, n_x=1)
    for name, value in (("W1", 1), ("b1", 0), ("a1", 0.5)):
        net.parameters[name][...] = value
    net.forward([[0.0]])
    slope = ref.ELEMENTWISE[activation].derivative_of_z(np.zeros(()), 0.3)
    np.testing.assert_allclose(net.backward([[-1.0]])["db1"], 0.5 * slope + 0.5, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("activation", MIXABLE)
def test_a_fresh_mix_is_the_activation_alone(activation, dtype):
    """a starts at 1; of predictions and gradients, the bits may differ, by roundings."""
    layers = [[nk.Dense(17, activation, mix=mix), nk.Dense(2)] for mix in (True, False)]
    fresh, plain = (nk.Network(those, "squared_error", n_x=5, dtype=str(dtype), seed=2) for those in layers)
    a = fresh.parameters["a1"]
    assert a.shape == (17, 1)
    assert (a == 1).all()
    for name, view in plain.parameters.items():
        np.testing.assert_array_equal(fresh.parameters[name], view)
    X = np.random.default_rng(0).normal(size=(5, 40)).astype(dtype)
    np.testing.assert_allclose(fresh.predict(X), plain.predict(X), rtol=0, atol=100 * np.finfo(dtype).eps)
    gradients = [gradients_of(net, X, np.zeros((2, 40))) for net in (fresh, plain)]
    for name, gradient in gradients[1].items():
        assert_close(gradients[0][name], gradient, 200 * np.finfo(dtype).eps, name)


def test_a_mix_of_nothing_is_the_identity(dtype):
    net, _ = mixed("tanh", 4, dtype, n_x=4)
    net.set_parameters({"W1": np.eye(4), "b1": np.zeros((4, 1)), "a1": np.zeros((4, 1)), "s2": np.ones((4, 1))})
    X = np.random.default_rng(0).normal(scale=100, size=(4, 33)).astype(dtype)
    np.testing.assert_array_equal(net.predict(X), X)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "softplus"])
def test_dropout_of_a_mixed_layer(activation, encoded):
    """It drops outputs of the mix; the mask, seen in the outputs, is that of the gradients."""
    layers = [nk.Dense(40, activation, mix=True, dropout=0.4), nk.Scale()]
    net, oracle = network([encode(FEW), *layers] if encoded else layers, n_x=4)
    X, Y = examples(FEW, 30, n_x=4), np.random.default_rng(0).normal(size=(40, 30))
    undropped, masks = net.forward(X), []
    for _ in range(3):
        A = net.forward(X, training=True)
        masks.append(A != 0)
        assert 0.5 < masks[-1].mean() < 0.7
        oracle[-2].factors = masks[-1] / 0.6
        assert_close(A, undropped * oracle[-2].factors, 1e-14)
        _, expected, _ = ref.chain(oracle, copies(net.parameters), X, Y, "squared_error")
        gradients = net.backward(Y)
        for name, gradient in expected.items():
            assert_close(gradients[name], gradient, 1e-13, name)
        net.step({name: 0 * gradient for name, gradient in gradients.items()}, nk.SGD(0.1))
    assert (masks[0] != masks[1]).any()


@pytest.mark.parametrize(
    ("optimizer", "options"), [(nk.AdamW(0.1, weight_decay=0.5), {}), (nk.SGD(0.1), {"l2": 0.5, "l1": 1e-4})]
)
def test_mixes_and_encoders_carry_no_penalty_and_do_not_decay(optimizer, options):
    """With a gradient of zero they stay, where the weights beside them shrink."""
    net, _ = network([encode(TOGETHER), nk.Dense(4, "tanh", mix=True), nk.Dense(2)], **options)
    net.parameters["W3"][...] = net.parameters["b3"][...] = 0
    start = copies(net.parameters)
    net.partial_fit(examples(TOGETHER, 40), np.zeros((2, 40)), optimizer=optimizer)
    for name, view in net.parameters.items():
        assert np.array_equal(view, start[name]) == (name != "W2"), name
    assert (np.abs(net.parameters["W2"]) < np.abs(start["W2"])).all()


def test_not_a_number_goes_through_a_mix(dtype):
    net, _ = mixed("tanh", 17, dtype)
    X = np.ones((5, 40), dtype)
    X[2, 3] = np.nan
    for A in (net.predict(X), net.forward(X)):
        assert np.isnan(A[:, 3]).all()
        assert np.isfinite(np.delete(A, 3, axis=1)).all()


# ---- compute="bfloat16" ----

U8 = 2.0**-8
REDUCED = {"dtype": "float32", "compute": "bfloat16"}


def test_encoders_are_float32_beside_bfloat16():
    """What is no product has the bits of float32: outputs of encoders without a map, and their gradients."""
    encoders = [one for one in TOGETHER if getattr(one, "units", None) is None or isinstance(one, ref.Embedding)]
    for m in (17, 300, 5000):
        results = []
        for options in ({}, {"compute": "bfloat16"}):
            net, _ = plain_outputs(encoders, dtype="float32", **options)
            X = examples(encoders, m, dtype="float32")
            results.append([net.predict(X), *gradients_of(net, X, np.full((net.n_y, m), 100.0)).values()])
        for exact, reduced in zip(*results, strict=True):
            np.testing.assert_array_equal(exact, reduced)


def product_error(W, A_prev, b, A_prev_error=0.0):
    """The contract's bound of a product, of operands that may be off before they are rounded."""
    share = 2 * U8 + U8**2 + ref.gamma_both(W.shape[1] + 1, np.float32)
    size = np.abs(A_prev) + A_prev_error
    return share * (np.abs(W) @ size + np.abs(b)) + np.abs(W) @ (A_prev_error + 0 * size)


@pytest.mark.parametrize("m", [3, 300, 1000])
def test_products_after_encoders_are_within_the_bound_of_bfloat16(compare, m):
    """Of codes that pick columns too; maps of encoders are products."""
    layers = [encode(TOGETHER), nk.Dense(200, "silu", mix=True), nk.Scale()]
    net, (oracle, *_) = network(layers, dtype="float32", compute="bfloat16")
    net.parameters["s3"][...] = 1
    X, p = examples(TOGETHER, m, dtype="float32"), copies(net.parameters)
    own = ref.of_layer(p, 1)
    A, off = oracle.forward(own, X)[0], oracle.errors(own, X, np.float32)
    for encoder, parameters, place in oracle.blocks(own):
        if "M" in parameters:
            kept = place.stop - place.start - len(parameters["M"])
            f = encoder._replace(units=None).forward(parameters, X[encoder.row].astype(float))
            off[place.start + kept : place.stop] += product_error(
                parameters["M"][:, :-1], f, parameters["M"][:, -1:], 1e-5
            )
    Z = p["W2"] @ A + p["b2"]
    bound = ref.bound_mix(p["a2"], Z, "silu", np.float32, product_error(p["W2"], A, p["b2"], off))
    compare(net.predict(X), ref.mix_forward(p["a2"], Z, "silu"), bound)
    compare(net.forward(X), ref.mix_forward(p["a2"], Z, "silu"), bound)


@pytest.mark.parametrize("frozen", ["", "scale", "dense"])
@pytest.mark.parametrize("units", [1, 17, 300])
def test_operands_of_codes_with_factors_are_rounded_in_bfloat16(compare, units, frozen):
    """s_j, W and dZ, each where it enters a product; sums and what they are added to are float32."""
    scale, dense = nk.Scale(trainable=frozen != "scale"), nk.Dense(units, trainable=frozen != "dense")
    net, _ = network([encode((ref.OneHot(0, 7), ref.OneHot(1, 40, True))), scale, dense], n_x=2, **REDUCED)
    W, s, b = (net.parameters[name].astype(np.float64) for name in ("W3", "s2", "b3"))
    for m in (1, 33, 512):
        X = examples((ref.OneHot(0, 7), ref.OneHot(1, 40, True)), m, n_x=2, dtype="float32")
        ones = np.concatenate([np.arange(7)[:, None] == X[0], np.arange(1, 41)[:, None] == X[1]]).astype(float)
        Z, share = bf16(W) @ (bf16(s) * ones) + b, ref.gamma_both(3, np.float32)
        bound = share * (np.abs(W) @ (np.abs(s) * ones) * (1 + 3 * U8) + np.abs(b))
        for how in (net.predict, net.forward, net.compile_predict()):
            compare(how(X), Z, bound, f"{m} examples")
        Y = np.random.default_rng(m).normal(size=(units, m)).astype(np.float32)
        dZ = net.forward(X) - Y  # what squared_error gives, in float32
        computed, share = net.backward(Y), ref.gamma_both(m + units + 4, np.float32)
        expected = {
            "dW3": (bf16(s) * (ones @ bf16(dZ).T)).T / m,
            "ds2": ((bf16(W).T @ bf16(dZ)) * ones).sum(axis=1, keepdims=True) / m,
        }
        sizes = {
            "dW3": (np.abs(s) * (ones @ np.abs(dZ).T)).T / m,
            "ds2": ((np.abs(W).T @ np.abs(dZ)) * ones).sum(axis=1, keepdims=True) / m,
        }
        assert set(computed) == {"dW3", "db3", "ds2"} - {"": set(), "scale": {"ds2"}, "dense": {"dW3", "db3"}}[frozen]
        for name in expected.keys() & computed.keys():
            compare(computed[name], expected[name], share * (1 + 3 * U8) * sizes[name], f"{name}, {m} examples")


@pytest.mark.parametrize("scales", [0, 1])
def test_bfloat16_trains_to_the_same_bits_for_any_number_of_threads(scales):
    seen = set()
    for threads in THREADS:
        layers = [
            encode(TOGETHER),
            *[nk.Scale()] * scales,
            nk.Dense(200, "silu", mix=True, dropout=0.1),
            nk.Dense(200, "relu"),
            nk.Dense(3, "softmax"),
        ]
        net = nk.Network(layers, "cross_entropy", n_x=N_X, seed=0, compute="bfloat16")
        history = net.fit(
            examples(TOGETHER, 700), targets("cross_entropy", 3, 700), epochs=2, batch_size=256, threads=threads
        )
        seen.add((bits(net), *history["cost"]))
        assert np.isfinite(history["cost"]).all()
    assert len(seen) == 1


# ---- what a network with encoders is, beside its numbers ----


def test_initial_values():
    encoders = [nk.Periodic(0, 20_000, units=None, scale=0.3), nk.Embedding(1, 5000, 8), nk.Periodic(0, 16, units=400)]
    encoders += [nk.PiecewiseLinear(0, range(26), units=400)]
    layers = [nk.Encode(encoders), nk.Dense(3, "relu", mix=True), nk.Dense(1)]
    nets = [nk.Network(layers, "squared_error", n_x=2, dtype="float64", seed=seed) for seed in (0, 0, 1)]
    parts = nets[0].layers[0].parameters_of(ref.of_layer(nets[0].parameters, 1))
    w, b, E = parts[0][1]["w"], parts[0][1]["b"], parts[1][1]["E"]
    assert w.std() == pytest.approx(0.3, rel=0.03)
    assert abs(w.mean()) < 0.01
    # a turn, wherever it begins
    assert 0.999 * 2 * np.pi < b.max() - b.min() <= 2 * np.pi
    assert b.std() == pytest.approx(np.pi / np.sqrt(3), rel=0.03)
    assert E.std() == pytest.approx(1, rel=0.03)
    assert abs(E.mean()) < 0.02
    for number, k in ((2, 16), (3, 25)):
        M = parts[number][1]["M"]
        assert 0.99 / np.sqrt(k) < np.abs(M).max() <= 1 / np.sqrt(k)
        assert M.std() == pytest.approx(1 / np.sqrt(3 * k), rel=0.05)
    assert nets[0] == nets[1]
    assert all((nets[0].parameters[name] != nets[2].parameters[name]).any() for name in ("w1", "b1", "M1", "E1"))


def test_rows_are_counted_where_the_network_learns_of_them():
    net = nk.Network([nk.Encode([nk.Numeric(3)]), nk.Dense(1)], "squared_error")
    assert (net.n_x, net.n_y) == (None, 1)
    assert repr(net).startswith("<Network ? → 1 encode → 1 linear, squared_error")
    with pytest.raises(ValueError, match="an encoder names row 3 of X, which has 3 rows, counted from 0"):
        net.fit(np.ones((3, 4)), np.ones((1, 4)))
    with pytest.raises(nk.NotFittedError):
        net.predict(np.ones((4, 4)))
    net.fit(np.ones((4, 4)), np.ones((1, 4)), epochs=1)
    assert net.n_x == 4
    with pytest.raises(ValueError, match="the network expects 4"):
        net.predict(np.ones((5, 2)))


def test_many_codes():
    """More than 16 bits hold, each with its own column."""
    net = nk.Network(
        [nk.Encode([nk.OneHot(0, 70_000, unknown=True), nk.Embedding(0, 70_001, 1)]), nk.Dense(1)],
        "squared_error",
        n_x=1,
    )
    E, W = np.arange(70_001.0), np.arange(70_001.0)
    net.set_parameters({"E1": E[:, None], "W2": np.append([[1]], -W[None, 1:], axis=1), "b2": [[0.5]]})
    X = np.array([[0, 1, 2, 255, 256, 32_768, 65_535, 65_536, 69_999, 70_000]], np.float32)
    np.testing.assert_array_equal(net.predict(X), np.full((1, 10), 0.5))
    with pytest.raises(ValueError, match=r"X\[0, 0\] must be a code, a whole number from 0 to 70000,"):
        net.predict([[70_001]])


@pytest.mark.parametrize("name", ["net.npz", "net.safetensors"])
def test_a_network_with_encoders_is_kept_whole(tmp_path, name):
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    net = table_network(dtype="float64")
    X, Y = examples(TOGETHER, 50), targets("cross_entropy", 3, 50)
    net.fit(X, Y, epochs=2, optimizer="adam")
    net.save(tmp_path / name)
    loaded = nk.load(tmp_path / name)
    for twin in (loaded, pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert twin == net
        assert twin.layers == net.layers
        assert [repr(layer) for layer in twin.layers] == [repr(layer) for layer in net.layers]
        np.testing.assert_array_equal(twin.predict(X), net.predict(X))
    loaded.parameters["E1"][0] += 1
    assert loaded != net


@pytest.mark.parametrize("trainable", [True, False])
def test_what_a_network_is_as_json(trainable):
    layers = [encode(TOGETHER, trainable=trainable), nk.Dense(5, "elu", mix=True), nk.Dense(1)]
    net = nk.Network(layers, "squared_error", n_x=N_X, seed=1)
    config = json.loads(json.dumps(net.config()))
    again = nk.Network.from_config(config)
    assert again.layers == net.layers == nk.Network(layers, "squared_error").layers
    assert again.config() == net.config()
    first = config["layers"][0]
    assert (first["kind"], first["trainable"]) == ("encode", trainable)
    assert first["encoders"][:3] == [
        {"encoder": "one_hot", "row": 2, "size": 3, "unknown": True},
        {"encoder": "numeric", "row": 0},
        {"encoder": "periodic", "row": 1, "frequencies": 3, "units": 4, "scale": 0.1},
    ]
    assert config["layers"][1]["mix"] is True
    assert nk.Encode(first["encoders"], trainable=trainable) == net.layers[0]


def test_layers_that_differ_are_not_equal():
    layers = [encode(FEW), encode(FEW[::-1]), encode(FEW[:-1]), encode(FEW, trainable=False), nk.Scale()]
    layers += [
        nk.Encode([nk.Periodic(0, 3, 3)]),
        nk.Encode([nk.Periodic(0, 3, 3, scale=0.2)]),
        nk.Encode([nk.OneHot(0, 3)]),
    ]
    layers += [nk.Encode([nk.OneHot(0, 3, unknown=True)]), nk.Dense(3, "relu"), nk.Dense(3, "relu", mix=True)]
    for one, other in itertools.product(range(len(layers)), repeat=2):
        assert (layers[one] == layers[other]) == (one == other), (layers[one], layers[other])


def test_what_is_printed_of_a_network():
    net = table_network()
    assert repr(net).startswith("<Network 9 → 50 encode → 50 scale → 64 selu → 64 relu → 3 softmax, cross_entropy,")
    lines = str(net.summary()).splitlines()
    assert lines[1].split()[:3] == ["1", "50", "encode"]
    for shown in ("w (36, 1)", "(36, 1)", "M (43, 1)", "E (162, 1)"):
        assert shown in lines[1]
    assert "a (64, 1)" in lines[3]
    assert net.summary().parameters == sum(view.size for view in net.parameters.values())
    assert repr(nk.Encode([nk.Numeric(0), nk.OneHot(1, 3)], trainable=False)) == (
        "Encode(encoders=(Numeric(row=0), OneHot(row=1, size=3, unknown=False)), trainable=False)"
    )
    edges = repr(nk.PiecewiseLinear(0, np.array([0, 1, 3]), units=2))
    assert edges == "PiecewiseLinear(row=0, edges=(0.0, 1.0, 3.0), units=2)"


def test_encoders_are_values():
    """Frozen, equal by their numbers, and made of numpy's numbers as of Python's."""
    assert nk.OneHot(np.int32(1), np.int64(3)) == nk.OneHot(1, 3)
    assert nk.PiecewiseLinear(0, np.arange(3.0)) == nk.PiecewiseLinear(0, [0, 1, 2])
    assert nk.Encode(iter([nk.Numeric(0)])) == nk.Encode((nk.Numeric(0),))
    with pytest.raises(AttributeError):
        nk.Numeric(0).row = 1


def test_predictions_from_many_threads_at_once():
    """The predictor is a copy of the network, and one for all of them."""
    net = table_network()
    predictor = net.compile_predict(threads=1)
    given = [examples(TOGETHER, m, dtype="float32", seed=m) for m in (1, 3, 40, 200) for _ in range(25)]
    expected = [net.predict(X) for X in given]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for how in (predictor, net.predict):
            for computed, A in zip(pool.map(how, given), expected, strict=True):
                np.testing.assert_array_equal(computed, A)
    net.initialize(N_X)
    np.testing.assert_array_equal(predictor(given[0]), expected[0])


def test_predictions_into_an_array(dtype):
    net = table_network(dtype=dtype)
    X = examples(TOGETHER, 40, dtype=dtype)
    for how in (net.predict, net.compile_predict()):
        out = np.full((3, 40), np.nan, dtype, order="F")
        assert how(X, out=out) is out
        np.testing.assert_array_equal(out, net.predict(X))


# ---- other formats ----

EXPORTED = {**{name: [encoder] for name, encoder in ALONE.items()}, "together": TOGETHER}


def check_exported(compare, call, net, oracle, X):
    """Another program rounds as often as encoders do, beside FORM_ROUNDINGS for the functions it has."""
    p, s = ref.of_layer(net.parameters, 1), net.parameters["s2"].astype(float)
    A = s * oracle.forward(p, X)[0]
    bound = 2 * s * oracle.errors(p, X, net.dtype) + ref.FORM_ROUNDINGS * ref.unit_roundoff(net.dtype) * np.abs(A)
    compare(call(X), A, bound)


def through_onnx(net, folder, **options):
    """The exported model, run by onnxruntime: a function of X (n_x, m)."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    net.to_onnx(folder / "net.onnx", **options)
    onnx.checker.check_model(onnx.load(folder / "net.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(folder / "net.onnx"), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda X: session.run(None, {name: np.ascontiguousarray(X.T)})[-1].T


@pytest.mark.parametrize("encoders", EXPORTED.values(), ids=list(EXPORTED))
def test_encoders_in_onnx(tmp_path, compare, encoders, dtype):
    net, (oracle, _) = plain_outputs(encoders, dtype=dtype)
    check_exported(compare, through_onnx(net, tmp_path), net, oracle, examples(encoders, 40, dtype=dtype))


@needs_cc
@pytest.mark.parametrize("encoders", [*([one] for one in FEW), TOGETHER], ids=[*map(str, FEW), "together"])
def test_encoders_in_c(tmp_path, compare, encoders, dtype):
    net, (oracle, _) = plain_outputs(encoders, dtype=dtype)
    run = compiled(net, tmp_path)
    check_exported(compare, lambda X: run(X, net.n_y), net, oracle, examples(encoders, 40, dtype=dtype))


def whole_network(folder, form, dtype="float64", **options):
    """A network of codes and numbers that ends in classes, and what its exported form computes."""
    net = table_network(dtype=dtype, units=8)
    net.fit(examples(TOGETHER, 60), targets("cross_entropy", 3, 60), epochs=3)
    if form == "onnx":
        return net, through_onnx(net, folder, **options)
    run = compiled(net, folder, **options)
    return net, lambda X: run(X, 3)


FORMS = [pytest.param("c", marks=needs_cc), "onnx"]


@pytest.mark.parametrize("form", FORMS)
def test_whole_networks_in_other_formats(tmp_path, form, dtype):
    net, run = whole_network(tmp_path, form, dtype)
    X = examples(TOGETHER, 40, dtype=dtype)
    # outputs between 0 and 1, from some hundred roundings of numbers of order 1
    np.testing.assert_allclose(run(X), net.predict(X), atol=200 * np.finfo(dtype).eps)
    np.testing.assert_allclose(run(X).sum(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_numbers_are_standardised_before_they_are_encoded(tmp_path, form):
    """The model takes raw features; a code's mean is 0, and its scale 1."""
    rng = np.random.default_rng(0)
    mean, scale = rng.normal(size=N_X), rng.uniform(0.5, 2, N_X)
    codes = list(codes_of(TOGETHER))
    mean[codes], scale[codes] = 0, 1
    net, run = whole_network(tmp_path, form, mean=mean, scale=scale)
    X = examples(TOGETHER, 40)
    raw = X * scale[:, None] + mean[:, None]
    raw[codes] = X[codes]
    np.testing.assert_allclose(run(raw), net.predict(X), atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "encoder", [ref.Numeric(0), ref.Periodic(0, 3), ref.Periodic(0, 3, 3), ref.PiecewiseLinear(0, EDGES)], ids=str
)
def test_not_a_number_goes_through_other_formats(tmp_path, form, encoder, dtype):
    net, _ = plain_outputs([encoder, ref.OneHot(1, 2)], n_x=2, dtype=dtype)
    run = through_onnx(net, tmp_path) if form == "onnx" else lambda X: compiled(net, tmp_path)(X, net.n_y)
    A = run(np.array([[np.nan], [1]], dtype))
    assert np.isnan(A[:-2]).all()
    assert np.isfinite(A[-2:]).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", MIXABLE)
def test_mixes_in_other_formats(tmp_path, form, activation):
    layers = [nk.Dense(7, activation, mix=True, negative_slope=0.3), nk.Dense(4, activation, mix=True), nk.Dense(2)]
    net, _ = network(layers, n_x=5, dtype="float32")
    X = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    run = through_onnx(net, tmp_path) if form == "onnx" else lambda X: compiled(net, tmp_path)(X, 2)
    A = net.predict(X)
    np.testing.assert_allclose(run(X), A, rtol=0, atol=200 * np.finfo(np.float32).eps * max(1, np.abs(A).max()))


# ---- refusals ----

E = nk.Encode([nk.Numeric(0)])


def net_of(*layers, **options):
    return nk.Network(list(layers), "squared_error", **options)


def encoding_net(**options):
    return net_of(E, nk.Dense(2), n_x=1, **options)


def mixing_net():
    return net_of(nk.Dense(2, "relu", mix=True), nk.Dense(2), n_x=1)


NOT_MIXED = "mix is for an activation that is neither linear nor softmax; got"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *((lambda cls=cls: cls(-1), "row must be an integer >= 0; got -1") for cls in (nk.Numeric, nk.Periodic)),
        *((lambda cls=cls: cls(0.5), "row must be an integer >= 0; got 0.5") for cls in (nk.OneHot, nk.Embedding)),
        (lambda: nk.Numeric(True), "row must be an integer >= 0; got True"),
        (lambda: nk.Numeric("0"), "row must be an integer >= 0; got '0'"),
        (lambda: nk.PiecewiseLinear(-2, [0, 1]), "row must be an integer >= 0; got -2"),
        (lambda: nk.Periodic(0, 0), "frequencies must be an integer >= 1; got 0"),
        (lambda: nk.Periodic(0, 1.5), "frequencies must be an integer >= 1; got 1.5"),
        (lambda: nk.Periodic(0, units=1), "units must be an integer >= 2; got 1"),
        (lambda: nk.Periodic(0, units=2.5), "units must be an integer >= 2; got 2.5"),
        (lambda: nk.Periodic(0, scale=-1), "scale must be finite and >= 0; got -1"),
        (lambda: nk.Periodic(0, scale=np.nan), "scale must be finite and >= 0; got nan"),
        (lambda: nk.Periodic(0, scale="a"), "scale must be a number, finite and >= 0; got 'a'"),
        (lambda: nk.PiecewiseLinear(0), r"edges must be at least two numbers, each above .*; got \(\)"),
        (lambda: nk.PiecewiseLinear(0, [1]), r"edges must be at least two numbers, each above .*; got \[1\]"),
        (lambda: nk.PiecewiseLinear(0, [1, 1]), r"each above the one before it .*; got \[1, 1\]"),
        (lambda: nk.PiecewiseLinear(0, [2, 1]), r"each above the one before it in float32 .*; got \[2, 1\]"),
        (lambda: nk.PiecewiseLinear(0, [1, 1 + 1e-12]), "each above the one before it in float32"),
        (lambda: nk.PiecewiseLinear(0, [0, 1e-40]), "each above the one before it in float32 by 1.2e-38"),
        (lambda: nk.PiecewiseLinear(0, [0, 1e39]), "each above the one before it in float32"),
        (lambda: nk.PiecewiseLinear(0, [0, np.nan]), r"edges holds nan at position \(1,\)"),
        (lambda: nk.PiecewiseLinear(0, [0, np.inf]), r"edges holds inf at position \(1,\)"),
        (lambda: nk.PiecewiseLinear(0, [[0, 1]]), r"edges must be a vector; got shape \(1, 2\)"),
        (lambda: nk.PiecewiseLinear(0, [0, 1], units=0), "units must be an integer >= 1; got 0"),
        (lambda: nk.OneHot(0, 0), "size must be an integer >= 1 and <= 16777216; got 0"),
        (lambda: nk.OneHot(0, 2**24 + 1), "size must be an integer >= 1 and <= 16777216; got 16777217"),
        (lambda: nk.OneHot(0, 3, unknown="yes"), "unknown must be True or False; got 'yes'"),
        (lambda: nk.Embedding(0, 2.5), "size must be an integer >= 1 and <= 16777216; got 2.5"),
        (lambda: nk.Embedding(0, 3, 0), "units must be an integer >= 1; got 0"),
        (lambda: nk.Encode([]), "encoders must be a list of encoders, at least of one such as Numeric"),
        (lambda: nk.Encode([nk.Numeric(0), 2]), r"must be a list of encoders, .*; got \(Numeric\(row=0\), 2\)"),
        (lambda: nk.Encode([nk.Dense(1)]), "encoders must be a list of encoders"),
        (lambda: nk.Encode([{"encoder": "x"}]), "encoder must be one of numeric, periodic, .*; got 'x'"),
        (lambda: nk.Encode([nk.Numeric(0)], trainable=1), "trainable must be True or False; got 1"),
        (lambda: net_of(nk.Dense(2), E), "Encode must be the first layer, and another one must follow it"),
        (lambda: net_of(E, E, nk.Dense(2)), "Encode must be the first layer"),
        (lambda: net_of(E), "Encode must be the first layer, and another one must follow it"),
        (lambda: net_of(nk.Encode([nk.OneHot(3)]), nk.Dense(1), n_x=3), "names row 3 of X, which has 3 rows"),
        (lambda: nk.Dense(3, "linear", mix=True), f"{NOT_MIXED} linear"),
        (lambda: nk.Dense(3, mix=True), f"{NOT_MIXED} linear"),
        (lambda: nk.Dense(3, "softmax", mix=True), f"{NOT_MIXED} softmax"),
        (lambda: nk.Dense(3, "relu", mix=1), "mix must be True or False; got 1"),
        (lambda: net_of(nk.Dense(3, "relu", mix=True)), "the last layer has mix=True"),
        (lambda: net_of(nk.Dense(3), nk.Dense(3, "relu", mix=True)), "has mix=True: its outputs are what"),
        (lambda: encoding_net().to_torch(), "torch has no module for the encoders of layer 1"),
        (lambda: mixing_net().to_torch(), "torch has no module for the mix of layer 1"),
        (lambda: encoding_net().to_sklearn(), "MLPs have dense layers only; layer 1 is of the kind encode"),
        (lambda: mixing_net().to_sklearn(), "MLPs don't mix activations, as layer 1 does"),
        (lambda: encoding_net().compile_predict(weights="int8"), "layer 1, encode, isn't packed"),
        (lambda: encoding_net().compile_predict(weights="bfloat16"), "leave weights and compute away"),
        (lambda: encoding_net(dtype="float64", compute="bfloat16"), "bfloat16"),
        (lambda: encoding_net().set_parameters({"W2": [[1.0, 2.0]], "b2": [[0.0]]}), "W2"),
    ],
)  # fmt: skip
def test_refusals(make, message):
    if "MLPs" in message:
        pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("given", [None, 3, nk.Numeric(0)])
def test_encoders_come_in_a_list(given):
    with pytest.raises(TypeError, match="encoders must be a list of encoders; got"):
        nk.Encode(given)


@pytest.mark.parametrize("edges", ["ab", ["a", "b"]])
def test_edges_are_numbers(edges):
    with pytest.raises(TypeError, match="edges must hold real numbers"):
        nk.PiecewiseLinear(0, edges)


# ---- reading ONNX ----


def table_net(dtype, *hidden):
    encoders = [nk.Numeric(0), nk.Periodic(1, 5, 3), nk.Periodic(2, 7, None), nk.PiecewiseLinear(1, [-1, 0, 0.5, 2])]
    encoders += [nk.PiecewiseLinear(2, [-1, 0, 0.5], units=2), nk.Embedding(4, 5, 3), nk.OneHot(3, 3)]
    encoders += [nk.OneHot(4, 4, unknown=True)]
    net = nk.Network([nk.Encode(encoders), *hidden, nk.Dense(2)], "squared_error", dtype=dtype, seed=1, n_x=6)
    rng = np.random.default_rng(0)
    for name in net.parameters:
        if name[0] in "as":
            net.parameters[name][...] = rng.uniform(0.3, 2, net.parameters[name].shape)
    codes = rng.integers(0, 3, (1, 40)), rng.integers(0, 5, (1, 40))
    return net, np.concatenate([rng.normal(size=(3, 40)), *codes, np.ones((1, 40))]).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_onnx_comes_back(dtype, tmp_path):
    onnx = pytest.importorskip("onnx")
    net, X = table_net(dtype, nk.Dense(6, "silu", mix=True), nk.Dense(5, "tanh", mix=True))
    net.to_onnx(tmp_path / "net.onnx")
    read = nk.from_onnx(tmp_path / "net.onnx", loss="squared_error")
    assert read.layers[0] == net.layers[0]
    assert [(layer.activation, layer.mix) for layer in read.layers[1:]] == [("silu", 1), ("tanh", 1), ("linear", 0)]
    assert read.n_x == 6
    for name, view in net.parameters.items():
        # frequencies are written as 2π w
        assert read.parameters[name] == pytest.approx(view, rel=4 * float(np.finfo(dtype).eps)), name
    assert read.predict(X) == pytest.approx(net.predict(X), rel=100 * float(np.finfo(dtype).eps), abs=1e-6)
    # a Scale is folded into the layer after it
    scaled, X = table_net(dtype, nk.Scale(), nk.Dense(4, "selu"))
    scaled.to_onnx(tmp_path / "net.onnx")
    assert nk.from_onnx(tmp_path / "net.onnx").predict(X) == pytest.approx(scaled.predict(X), abs=1e-5)
    # what has another order than an Encode layer, or no encoder's form, isn't taken
    model = onnx.load(tmp_path / "net.onnx")
    (concat,) = [node for node in model.graph.node if node.op_type == "Concat" and len(node.input) > 2]
    names = list(concat.input)
    for changed in (names[::-1], [*names, model.graph.node[-1].output[0]]):
        del concat.input[:]
        concat.input.extend(changed)
        onnx.save(model, tmp_path / "changed.onnx")
        with pytest.raises(nk.ModelFormatError, match="can't be taken"):
            nk.from_onnx(tmp_path / "changed.onnx")


def test_onnx_of_bins_apart(tmp_path):
    onnx = pytest.importorskip("onnx")
    net = nk.Network([nk.Encode([nk.PiecewiseLinear(0, [0, 1, 3])]), nk.Dense(1)], "squared_error", n_x=1)
    net.to_onnx(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    for tensor in model.graph.initializer:
        if tensor.name.startswith("edges"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([[0, 2]], np.float32), tensor.name))
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(nk.ModelFormatError, match="bins that don't follow each other"):
        nk.from_onnx(tmp_path / "net.onnx")


def test_onnx_of_branches_that_share_their_constants(tmp_path):
    """Ten thousand maps of the same large constant are refused before one is made."""
    onnx = pytest.importorskip("onnx")
    encoders = [nk.PiecewiseLinear(0, np.arange(201.0), units=200)]
    net = nk.Network([nk.Encode(encoders), nk.Dense(1)], "squared_error", n_x=1)
    net.to_onnx(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    (concat,) = [node for node in model.graph.node if node.op_type == "Concat"]
    concat.input.extend(concat.input[:1] * 10000)
    onnx.save(model, tmp_path / "net.onnx")
    tracemalloc.start()
    with pytest.raises(nk.ModelFormatError, match="can't be taken"):
        nk.from_onnx(tmp_path / "net.onnx")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26  # all of them would take 1.6 GB


def test_codes_that_are_written_to_after_they_were_checked():
    """By a loss, amid an epoch; nothing is read or written outside the tables. In a process of its own."""
    code = """
        import numpy as np
        import nnkern as nk

        for encoder in (nk.Embedding(0, 5, 8), nk.OneHot(0, 5), nk.OneHot(0, 4, unknown=True)):
            for above in ([], [nk.Scale()]):
                X = np.asfortranarray(np.tile(np.arange(5.0), 20)[None])

                def loss(A, Y):
                    X[0, ::2] = np.resize([1e9, -1e9, np.nan, np.inf, 2e7], 50)
                    return ((A - Y) ** 2).sum(axis=0) / 2, A - Y

                net = nk.Network([nk.Encode([encoder]), *above, nk.Dense(3)], loss, n_x=1, dtype="float64", seed=0)
                net.fit(X, np.ones((3, 100)), epochs=1, batch_size=10, shuffle=False)
                assert all(np.isfinite(view).all() for view in net.parameters.values())
                try:
                    net.fit(X, np.ones((3, 100)), epochs=1)
                except ValueError:
                    print("refused")
    """
    assert run(code).split() == ["refused"] * 6
