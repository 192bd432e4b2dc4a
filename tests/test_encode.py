"""Encode and its encoders, and units that mix their activation with the identity, against their equations.

The oracle is reference.py's chain of layers, in float64. Beside it: what refuses codes, files, threads, and other
formats.
"""

import itertools

import mpmath
import numpy as np
import pytest
import reference as ref
from conftest import BF16_ISAS, LAYOUTS, run_tests

import nnkern as nk

USABLE_ISAS = [isa for isa in nk.show_config().to_dict()["usable_isas"].split(", ") if isa not in BF16_ISAS]
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
def test_every_layout_of_examples(m, dtype):
    """The same bits as in C order, from predict, forward, and the gradients after it."""
    net, _ = plain_outputs(TOGETHER, dtype=dtype)
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
def test_codes_of_other_dtypes(came):
    """Integers and halves are taken as the numbers that they are."""
    net, _ = plain_outputs([ref.OneHot(0, 2), ref.Embedding(1, 2, 3), ref.PiecewiseLinear(1, EDGES)], n_x=2)
    X = np.random.default_rng(0).integers(0, 2, (2, 40))
    np.testing.assert_array_equal(net.predict(X.astype(came)), net.predict(X.astype(float)))


def test_bins_and_vectors_are_exact_in_whole_numbers(dtype):
    """Edges whose distances are powers of two, whole parameters, m a power of two: nothing is rounded."""
    encoders = [ref.PiecewiseLinear(0, (-4.0, -2.0, -1.0, 3.0, 11.0), 3), ref.Embedding(1, 5, 3)]
    encoders += [ref.OneHot(1, 5), ref.Numeric(0), ref.PiecewiseLinear(0, (0.0, 2.0))]
    net, (oracle, _) = plain_outputs(encoders, n_x=2, dtype=dtype)
    rng = np.random.default_rng(0)
    for name in ("M1", "E1"):
        net.parameters[name][...] = rng.integers(-8, 9, net.parameters[name].shape)
    p, s = ref.of_layer(net.parameters, 1), net.parameters["s2"].astype(float)
    X = np.stack([rng.integers(-6, 14, 64), rng.integers(0, 5, 64)]).astype(dtype)
    A, _ = oracle.forward(p, X)
    np.testing.assert_array_equal(net.predict(X), s * A)
    np.testing.assert_array_equal(net.forward(X), s * A)
    Y = np.where(rng.random(A.shape) < 0.5, 1000, -1000)
    gradients, _ = oracle.backward(s * np.sign(s * A - Y), p, X)
    computed = net.backward(Y)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(computed[f"d{name}1"], gradient)


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


@pytest.mark.own_kernels
@pytest.mark.parametrize("isa", USABLE_ISAS)
def test_encoders_with_other_kernels(isa):
    run_tests("test_encode.py", "together_are or whole_numbers or every_layout or ulp", NNKERN_ISA=isa)


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
