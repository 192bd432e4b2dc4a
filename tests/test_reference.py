"""The oracle itself: loops against vectors, derivatives against differences, truth against mpmath,
and the bounds against arithmetic that is right, and against arithmetic that is wrong."""

import math

import mpmath
import numpy as np
import pytest
import reference as ref
from hypothesis import given
from hypothesis import strategies as st

GRADIENTS = ("dZ", "dW", "db", "dA_prev")

LAYER = st.fixed_dictionaries(
    {
        "n": st.integers(1, 6),
        "n_prev": st.integers(0, 6),
        "m": st.integers(1, 6),
        "activation": st.sampled_from(ref.ACTIVATIONS),
        "seed": st.integers(0, 2**32 - 1),
    }
)


def normal_layer(n, n_prev, m, seed):
    rng = np.random.default_rng(seed)
    W, A_prev = rng.normal(size=(n, n_prev)), rng.normal(size=(n_prev, m))
    return W, A_prev, rng.normal(size=(n, 1)), rng.normal(size=(n, m))


@given(layer=LAYER)
def test_loop_and_vectorised_form_agree(layer):
    activation = layer.pop("activation")
    W, A_prev, b, dA = normal_layer(**layer)
    A, Z = ref.dense_forward(W, A_prev, b, activation)
    A_loop, Z_loop = ref.dense_forward_loop(W, A_prev, b, activation)
    Z_bound = ref.bound_Z(W, A_prev, b, np.float64)
    assert (np.abs(Z - Z_loop) <= Z_bound).all()
    assert (np.abs(A - A_loop) <= ref.bound_A(Z, activation, np.float64, Z_bound)).all()

    H = ref.operand(activation, A, Z)
    vectorised = ref.dense_backward(dA, W, A_prev, H, activation)
    loop = ref.dense_backward_loop(dA, W, A_prev, H, activation)
    bounds = ref.bound_backward(dA, W, A_prev, H, activation, np.float64)
    for name, x, y, bound in zip(GRADIENTS, vectorised, loop, bounds, strict=True):
        assert (np.abs(x - y) <= bound).all(), name


@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_derivatives_of_activations(activation):
    """g' from a, and g' from z, against central differences; no z near the kink at 0."""
    rng = np.random.default_rng(1)
    Z = rng.uniform(0.1, 3, (4, 5)) * rng.choice([-1, 1], (4, 5))
    dA = rng.normal(size=Z.shape)
    A = ref.activation_forward(Z, activation)
    numerical = ref.central_differences(lambda: float((dA * ref.activation_forward(Z, activation)).sum()), Z)
    # truncation step^2/6 |g'''| < 1e-10; rounding u |J| / step < 1e-9
    dZ = ref.activation_backward(dA, ref.operand(activation, A, Z), activation)
    np.testing.assert_allclose(dZ, numerical, atol=2e-9)
    if activation in ref.ELEMENTWISE:
        from_z = dA * ref.ELEMENTWISE[activation].derivative_of_z(Z, 0.01)
        np.testing.assert_allclose(dZ, from_z, rtol=1e-13)


def test_derivative_at_the_kink():
    zero = np.zeros((1, 1))
    assert ref.activation_backward(1 + zero, zero, "relu") == 0
    assert ref.activation_backward(1 + zero, zero, "leaky_relu", 0.25) == 0.25


@pytest.mark.parametrize("loss_name", ref.LOSSES)
def test_derivatives_of_losses(loss_name):
    rng = np.random.default_rng(2)
    Z, w = rng.normal(size=(3, 5)), rng.uniform(0.5, 2, 5)
    Y = rng.dirichlet(np.ones(3), size=5).T
    _, _, dZ = ref.loss(Z, Y, loss_name)
    numerical = ref.central_differences(lambda: ref.weighted_mean(ref.loss(Z, Y, loss_name)[0], w), Z)
    np.testing.assert_allclose(ref.weight_columns(dZ, w) / 5, numerical, atol=2e-10)


@pytest.mark.parametrize("loss_name", ref.MATCHED)
def test_losses_from_Z_are_their_definition_in_a(loss_name):
    rng = np.random.default_rng(3)
    Z, Y = rng.normal(size=(3, 5)), rng.dirichlet(np.ones(3), size=5).T
    L, A, _ = ref.loss(Z, Y, loss_name)
    definition = -Y * np.log(A)
    if loss_name == "binary_cross_entropy":
        definition -= (1 - Y) * np.log(1 - A)
    if loss_name == "poisson":
        definition += A
    np.testing.assert_allclose(L, definition.sum(axis=0), rtol=1e-13)


@pytest.mark.parametrize("loss_name", ref.LOSSES)
@pytest.mark.parametrize("hidden", ref.ACTIVATIONS)
def test_network_gradients(hidden, loss_name):
    rng = np.random.default_rng(4)
    activations = (hidden, "tanh", ref.MATCHED.get(loss_name, "sigmoid"))
    sizes = (3, 4, 3, 2)
    parameters = {}
    for layer in (1, 2, 3):
        parameters[f"W{layer}"] = rng.normal(size=(sizes[layer], sizes[layer - 1]))
        parameters[f"b{layer}"] = rng.normal(size=(sizes[layer], 1))
    X, Y = rng.normal(size=(3, 6)), rng.dirichlet(np.ones(2), size=6).T
    case = (activations, loss_name, (0.1, 0.0, 0.3), rng.uniform(0.5, 2, 6))
    gradients = ref.network_backward(X, Y, parameters, *case)
    for name, theta in parameters.items():
        numerical = ref.central_differences(lambda: ref.network_cost(X, Y, parameters, *case), theta)
        np.testing.assert_allclose(gradients["d" + name], numerical, atol=1e-8, err_msg=name)


# rows 0 and 1 hold numbers, row 2 codes from 0 to 3
ENCODERS = (
    ref.OneHot(2, 3, True),
    ref.Numeric(0),
    ref.Periodic(0, 3),
    ref.Periodic(1, 5, 3),
    ref.PiecewiseLinear(0, (-2.0, -0.5, 0.25, 2.0)),
    ref.PiecewiseLinear(1, (-2.0, -0.5, 0.25, 2.0), 2),
    ref.Embedding(2, 4, 2),
    ref.OneHot(2, 4),
)


def encoded(encoders, m=9, seed=8):
    """An Encode of the oracle, its parameters and examples."""
    rng = np.random.default_rng(seed)
    encode = ref.Encode(encoders)
    p = {name: rng.normal(size=shape) for name, shape in encode.shapes().items()}
    return encode, p, np.vstack([rng.normal(size=(2, m)), rng.integers(0, 4, (1, m))])


@pytest.mark.parametrize("encoders", [*((one,) for one in ENCODERS), ENCODERS, ENCODERS[::-1]], ids=str)
def test_derivatives_of_encoders(encoders):
    """By every parameter, and by numbers; a code has none."""
    encode, p, X = encoded(encoders)
    dA = np.random.default_rng(9).normal(size=(encode.outputs, X.shape[1]))
    gradients, dX = encode.backward(dA, p, X)
    assert list(gradients) == list(p)

    def J():
        return float((dA * encode.forward(p, X)[0]).sum())

    for name, theta in p.items():
        numerical = ref.central_differences(J, theta) / X.shape[1]
        np.testing.assert_allclose(gradients[name], numerical, atol=2e-9, err_msg=name)
    np.testing.assert_allclose(dX[:2], ref.central_differences(J, X[:2]), atol=1e-8)
    assert (dX[2] == 0).all()


def test_encoders_by_hand():
    """Number by number, with the places of outputs and of parameters counted out."""
    encode, p, X = encoded(
        (ref.OneHot(2, 3, True), ref.Periodic(1, 2, 3), ref.PiecewiseLinear(0, (0.0, 2.0, 3.0)), ref.Embedding(2, 4, 2))
    )
    A, _ = encode.forward(p, X)
    w, b, M, E = (p[name][:, 0] for name in "wbME")
    for i, (x0, x1, code) in enumerate(X.T):
        f = [math.cos(2 * math.pi * w[j] * x1 + b[j]) for j in range(2)]
        mapped = [M[u] * f[0] + M[2 + u] * f[1] + M[4 + u] for u in range(2)]
        bins = [min(max(x0 / 2, 0), 1), min(max(x0 - 2, 0), 1)]
        vector = [E[2 * int(code)], E[2 * int(code) + 1]]
        np.testing.assert_allclose(A[:, i], [x1, *mapped, *bins, *vector, code == 1, code == 2, code == 3], rtol=1e-13)


@pytest.mark.parametrize("activation", ref.ELEMENTWISE)
def test_derivatives_of_mixes(activation):
    rng = np.random.default_rng(1)
    Z = rng.uniform(0.1, 2.9, (4, 5)) * rng.choice([-1, 1], (4, 5))
    a, dA = rng.normal(size=(4, 1)), rng.normal(size=Z.shape)
    dZ, da = ref.mix_backward(dA, a, Z, activation)

    def J():
        return float((dA * ref.mix_forward(a, Z, activation)).sum())

    np.testing.assert_allclose(dZ, ref.central_differences(J, Z), atol=5e-9)
    np.testing.assert_allclose(da, ref.central_differences(J, a) / 5, atol=5e-9)


def test_derivatives_of_a_chain():
    """Every kind of layer, a penalty of both kinds, weights, and a layer with factors, against differences."""
    rng = np.random.default_rng(3)
    encode, p, X = encoded(ENCODERS)
    layers = [
        encode,
        ref.Scale(),
        ref.Dense("tanh", mix=True, factors=rng.integers(0, 2, (4, 9))),
        ref.Dense("softmax"),
    ]
    shapes = {"s2": (encode.outputs, 1), "W3": (4, encode.outputs), "b3": (4, 1), "a3": (4, 1), "W4": (3, 4)}
    parameters = {f"{name}1": theta for name, theta in p.items()}
    parameters |= {name: rng.normal(scale=0.5, size=shape) for name, shape in shapes.items()}
    Y, w = ref.random_targets("cross_entropy", (3, 9), rng), rng.uniform(0.5, 2, 9)
    case = {"Y": Y, "loss_name": "cross_entropy", "l2": 0.1, "l1": 0.01, "sample_weight": w}
    _, gradients, _ = ref.chain(layers, parameters, X, **case)
    assert set(gradients) == {"d" + name for name in parameters}
    for name, theta in parameters.items():
        numerical = ref.central_differences(lambda: ref.chain(layers, parameters, X, **case)[0], theta)
        np.testing.assert_allclose(gradients["d" + name], numerical, atol=2e-9, err_msg=name)
    del case["sample_weight"], case["l2"], case["l1"]
    _, _, dX = ref.chain(layers, parameters, X, **case)
    numerical = ref.central_differences(lambda: ref.chain(layers, parameters, X, **case)[0], X[:2])
    np.testing.assert_allclose(dX[:2] / 9, numerical, atol=2e-9)


@pytest.mark.parametrize("name", [name for name in ref.ELEMENTWISE if ref.ELEMENTWISE[name].exact])
def test_activations_against_mpmath(name):
    z = np.concatenate([np.linspace(-40, 40, 401), 10.0 ** np.arange(-300, 3, 9)])
    with mpmath.workprec(200):
        exact = np.array([float(ref.ELEMENTWISE[name].exact(mpmath.mpf(v))) for v in z])
    ulps = np.abs(ref.activation_forward(z, name) - exact) / ref.ulp(exact, np.float64)
    # among the subnormals z is multiplied with what has few digits
    few_digits = np.where(np.abs(exact) < 100 * np.finfo(np.float64).tiny, np.abs(z), 0)
    assert (ulps <= ref.oracle_budget(name, z) + few_digits).all()


def test_one_hot():
    expected = [[1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]
    np.testing.assert_array_equal(ref.one_hot([0, 2, 1, 0], 3), expected)
    np.testing.assert_array_equal(ref.one_hot([[0, 2, 1, 0]], 3), expected)


def test_central_differences_restores_its_argument():
    theta = np.array([[0.1, 0.7], [1e-3, 3.0]])
    before = theta.copy()
    gradient = ref.central_differences(lambda: float((theta**2).sum()), theta)
    np.testing.assert_array_equal(theta, before)
    np.testing.assert_allclose(gradient, 2 * before, atol=1e-9)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (ref.SGD(0.1), [0.8, 0.64]),
        (ref.SGD(0.1, momentum=0.5), [0.8, 0.54]),
        # v = -0.2, theta = 1 - 0.1 - 0.2; then v = -0.1 - 0.14, theta = 0.7 - 0.12 - 0.14
        (ref.SGD(0.1, momentum=0.5, nesterov=True), [0.7, 0.44]),
        # the first step of each of these has the size alpha / its own normalisation
        (ref.Adam(0.1, eps=0), [0.9]),
        (ref.AdamW(0.1, eps=0, weight_decay=0.5), [0.85]),
        (ref.RMSprop(0.1, alpha=0.75, eps=0), [0.8]),
        (ref.Adagrad(0.1, eps=0), [0.9]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ref.Optimizer) else "",
)
def test_optimizers_by_hand(optimizer, expected):
    """J = theta^2 from theta = 1."""
    parameters = {"W1": np.ones((1, 1))}
    for value in expected:
        optimizer.step(parameters, {"dW1": 2 * parameters["W1"]})
        assert parameters["W1"][0, 0] == pytest.approx(value, rel=1e-14)


def test_weight_decay_leaves_biases_alone():
    parameters = {"W1": np.ones((1, 1)), "b1": np.ones((1, 1))}
    zero = {"dW1": np.zeros((1, 1)), "db1": np.zeros((1, 1))}
    ref.AdamW(0.1, weight_decay=0.5).step(parameters, zero)
    assert (parameters["W1"], parameters["b1"]) == (0.95, 1)


# ---- the bounds ----


def test_ulp(dtype):
    info = np.finfo(dtype)
    tiny = float(info.smallest_subnormal)
    x = np.array([1, -1.99, 2, info.tiny, info.tiny / 4, tiny, 0], np.float64)
    expected = np.array([info.eps, info.eps, 2 * info.eps, tiny, tiny, tiny, tiny], np.float64)
    np.testing.assert_array_equal(ref.ulp(x, dtype), expected)
    largest = info.max
    below = float(largest) - float(np.nextafter(largest, dtype.type(0)))
    assert ref.ulp(largest, dtype) == below


def test_gamma():
    assert ref.gamma(0, 0.25) == 0
    assert ref.gamma(2, 0.25) == 1
    with pytest.raises(ValueError, match="no bound"):
        ref.gamma(4, 0.25)


@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_bounds_hold_and_are_tight(dtype, activation):
    """Plain numpy in this dtype keeps within them, and they are small beside the values."""
    arrays = normal_layer(31, 64, 65, seed=5)
    W, A_prev, b, dA = (array.astype(dtype) for array in arrays)
    A, Z = ref.dense_forward(W, A_prev, b, activation)
    Z_bound = ref.bound_Z(W, A_prev, b, dtype)
    A_bound = ref.bound_A(Z, activation, dtype, Z_bound)
    Z_rounded = W @ A_prev + b
    A_rounded = ref.activation_forward(Z_rounded, activation).astype(dtype)
    assert (np.abs(Z_rounded - Z) <= Z_bound).all()
    assert (np.abs(A_rounded - A) <= A_bound).all()

    H = ref.operand(activation, A_rounded, Z_rounded)
    backward = ref.dense_backward(dA, W, A_prev, H, activation)
    bounds = ref.bound_backward(dA, W, A_prev, H, activation, dtype)
    dZ = backward[0].astype(dtype)
    rounded = (dZ, dZ @ A_prev.T / dtype.type(65), dZ.mean(axis=1, keepdims=True), W.T @ dZ)
    for name, x, y, bound in zip(GRADIENTS, rounded, backward, bounds, strict=True):
        assert (np.abs(x - y) <= bound).all(), name
    for bound, value in zip((Z_bound, A_bound, *bounds), (Z, A, *backward), strict=True):
        assert np.max(bound) <= 2e4 * ref.unit_roundoff(dtype) * np.max(np.abs(value))


def share_out_of(bound, x, y):
    return (np.abs(x - y) > bound).mean()


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_bounds_of_encoders_hold_and_are_tight(dtype, encoder):
    """Plain numpy in this dtype keeps within them, and what has a frequency or an edge that is a little off doesn't."""
    encode, p, X = encoded([encoder], m=200)
    p, X = ({name: a.astype(dtype) for name, a in p.items()}, X.astype(dtype))
    (_, own), x = encode.split(p)[0], X[encoder.row]
    A, bound = encode.forward(p, X)[0], encode.errors(p, X, dtype)
    if isinstance(encoder, (ref.Periodic, ref.PiecewiseLinear)):
        own = {name: a.astype(dtype) for name, a in own.items()}
        if isinstance(encoder, ref.Periodic):
            f = np.cos(dtype.type(2 * np.pi) * own["w"] * x + own["b"])
            other = encode.forward(p | {"w": p["w"] * (1 + 1e-3)}, X)[0]
        else:
            e = np.array(encoder.edges, dtype)[:, None]
            f = np.clip((x - e[:-1]) * (1 / (e[1:] - e[:-1])), 0, 1)
            other = ref.Encode([encoder._replace(edges=tuple(1.001 * edge for edge in encoder.edges))]).forward(p, X)[0]
        if encoder.units is not None:
            f = own["M"][:, :-1] @ f + own["M"][:, -1:]
            f = np.vstack([x[None], f]) if isinstance(encoder, ref.Periodic) else f
        assert f.dtype == dtype
        assert (np.abs(f - A) <= bound).all()
        assert share_out_of(bound, other, A) > 0.25
    assert np.max(bound) <= 2000 * ref.unit_roundoff(dtype) * max(1, np.max(np.abs(A)))


@pytest.mark.parametrize("activation", ref.ELEMENTWISE)
def test_bounds_of_mixes_hold_and_are_tight(dtype, activation):
    rng = np.random.default_rng(2)
    Z, a = rng.normal(scale=2, size=(9, 50)).astype(dtype), rng.normal(size=(9, 1)).astype(dtype)
    A, bound = ref.mix_forward(a, Z, activation), ref.bound_mix(a, Z, activation, dtype)
    g = ref.activation_forward(Z, activation).astype(dtype)
    for rounded in (a * g + (1 - a) * Z, Z + a * (g - Z)):
        assert rounded.dtype == dtype
        assert (np.abs(rounded - A) <= bound).all()
    assert np.max(bound) <= 100 * ref.unit_roundoff(dtype) * np.max(np.abs(A))


def test_bounds_catch_one_wrong_product(dtype):
    """A sum that misses one of 65 products, or counts one example twice, is out of bounds."""
    arrays = (array.astype(dtype) for array in normal_layer(9, 65, 64, seed=6))
    W, A_prev, b, dA = (array / dtype.type(8) for array in arrays)  # tanh is far from saturation
    A, Z = ref.dense_forward(W, A_prev, b, "tanh")
    without_k = ref.dense_forward(W[:, :-1], A_prev[:-1], b, "tanh")[1]
    assert share_out_of(ref.bound_Z(W, A_prev, b, dtype), without_k, Z) > 0.95

    def backward(rows=slice(None), columns=slice(None)):
        return ref.dense_backward(dA[rows, columns], W[rows], A_prev[:, columns], A[rows, columns], "tanh")

    _, dW, db, dA_prev = backward()
    _, dW_bound, db_bound, dA_prev_bound = ref.bound_backward(dA, W, A_prev, A, "tanh", dtype)
    _, dW_twice, db_twice, _ = backward(columns=[*range(64), 63])
    assert share_out_of(dW_bound, dW_twice * 65 / 64, dW) > 0.95
    assert share_out_of(db_bound, db_twice * 65 / 64, db) > 0.95
    assert share_out_of(dA_prev_bound, backward(rows=slice(0, -1))[3], dA_prev) > 0.95


@pytest.mark.parametrize("loss_name", ref.LOSSES)
def test_loss_bounds_are_tight(dtype, loss_name):
    rng = np.random.default_rng(7)
    Z = rng.normal(scale=3, size=(10, 64)).astype(dtype)
    Y = ref.one_hot(rng.integers(0, 10, 64), 10)
    L, A, dZ = ref.loss(Z, Y, loss_name)
    cost_bound, A_bound, dZ_bound = ref.bound_loss(Z, Y, loss_name, dtype)
    u = ref.unit_roundoff(dtype)
    assert cost_bound <= 2e4 * u * ref.weighted_mean(L)
    assert np.max(A_bound) <= 100 * u * np.max(np.abs(A))
    assert np.max(dZ_bound) <= 100 * u * np.max(np.abs(dZ))
