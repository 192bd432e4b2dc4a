"""Kinds of layers beside Dense: their equation, gradients, and a life in a network."""

import pickle

import numpy as np
import pytest
import reference
from conftest import BF16_ISAS, SIZES, run_tests

import nnkern as nk

USABLE_ISAS = [isa for isa in nk.show_config().to_dict()["usable_isas"].split(", ") if isa not in BF16_ISAS]
N_X, M = 5, 64
rng = np.random.default_rng(7)


def layouts(X):
    """The same matrix in C and in Fortran order, strided, and as a slice of a larger one."""
    larger = np.full((2 * X.shape[0], X.shape[1] + 3), np.nan, X.dtype)
    larger[::2, 3:] = X
    return np.ascontiguousarray(X), np.asfortranarray(X), larger[::2, 3:], np.asfortranarray(larger)[::2, 3:]


def whole_numbers(shape, dtype):
    return rng.integers(-8, 9, shape).astype(dtype)


def scaled(*after, dtype="float64", loss="squared_error", **options):
    """A network whose first layer is a Scale that doesn't start at 1."""
    net = nk.Network([nk.Scale(), *after], loss, n_x=N_X, dtype=dtype, seed=3, **options)
    net.parameters["s1"][...] = rng.uniform(0.5, 2, (N_X, 1))
    return net


# ---- Scale ----


@pytest.mark.parametrize("n", [size for size in SIZES if size])
def test_scale_is_its_equation_exactly_in_whole_numbers(n, dtype):
    """A = s ⊙ X, ds = 1/m Σ dA ⊙ X, for every layout; m is a power of two, so that nothing is rounded."""
    s, X, Y = whole_numbers((n, 1), dtype), whole_numbers((n, 16), dtype), whole_numbers((n, 16), dtype)
    net = nk.Network([nk.Scale()], "squared_error", n_x=n, dtype=dtype.name)
    net.set_parameters({"s1": s})
    A = reference.scale_forward(s, X)
    ds, dX = reference.scale_backward(A - Y, s, X)
    for laid_out in layouts(X):
        np.testing.assert_array_equal(net.predict(laid_out), A)
        np.testing.assert_array_equal(net.forward(laid_out), A)
        np.testing.assert_array_equal(net.backward(Y)["ds1"], ds)
        np.testing.assert_array_equal(net.input_gradient(laid_out, Y), dX)


@pytest.mark.own_kernels
@pytest.mark.parametrize("isa", USABLE_ISAS)
@pytest.mark.parametrize("gemm", ["blas", "tiles"])
def test_scale_with_other_kernels(isa, gemm):
    run_tests("test_layers.py", "exactly or central_differences", NNKERN_ISA=isa, NNKERN_GEMM=gemm)


@pytest.mark.parametrize(
    "layers",
    [
        [nk.Scale(), nk.Dense(4, "tanh"), nk.Dense(2)],
        [nk.Dense(4, "tanh"), nk.Scale(), nk.Dense(2)],
        [nk.Dense(4, "gelu", dropout=0.5), nk.Scale(), nk.Scale(), nk.Dense(2)],
        [nk.Dense(3, "sigmoid"), nk.Dense(2), nk.Scale()],
        [nk.Dense(4, "tanh", trainable=False), nk.Scale(), nk.Dense(2)],
        [nk.Scale(trainable=False), nk.Dense(4, "tanh"), nk.Scale()],
    ],
    ids=["first", "amid", "two after dropout", "last", "above a frozen layer", "frozen"],
)
def test_gradients_of_scales_are_central_differences(layers):
    net = nk.Network(layers, "squared_error", n_x=N_X, seed=1, dtype="float64", l2=0.1)
    for name, view in net.parameters.items():
        if name[0] == "s":
            view[...] = rng.uniform(0.5, 2, view.shape)
    X, Y = rng.standard_normal((N_X, 40)), rng.standard_normal((net.n_y, 40))
    grads = net.backward(Y) if net.forward(X) is not None else None
    assert {name[1:] for name in grads} == {
        f"{name}{l}" for l, layer in enumerate(layers, 1) if layer.trainable for name in layer.parameter_shapes(1)
    }
    assert nk.check_gradients(net, X, Y) < 1e-7


def test_scale_trains_by_the_equations():
    """Ten steps of gradient descent on [Scale, Dense] against the equations, step by step."""
    net = scaled(nk.Dense(2))
    X, Y = rng.standard_normal((N_X, M)), rng.standard_normal((2, M))
    s, W, b = (net.parameters[name].copy() for name in ("s1", "W2", "b2"))
    for _ in range(10):
        net.partial_fit(X, Y, optimizer=nk.SGD(0.1))
        A = reference.scale_forward(s, X)
        _, dW, db, dA = reference.dense_backward(W @ A + b - Y, W, A, None, "linear")
        ds, _ = reference.scale_backward(dA, s, X)
        s, W, b = s - 0.1 * ds, W - 0.1 * dW, b - 0.1 * db
        for name, expected in (("s1", s), ("W2", W), ("b2", b)):
            np.testing.assert_allclose(net.parameters[name], expected, rtol=1e-12, atol=1e-12)


def test_scale_learns_which_features_count():
    X = rng.standard_normal((N_X, 2000)).astype(np.float32)
    net = scaled(nk.Dense(16, "tanh"), nk.Dense(1), dtype="float32", l2=1e-3)
    net.fit(X, np.tanh(2 * X[:1]), epochs=60, optimizer=nk.Adam(0.01))
    s = np.abs(net.parameters["s1"][:, 0]) * np.linalg.norm(net.parameters["W2"], axis=0)
    assert s[0] > 5 * s[1:].max()


@pytest.mark.parametrize(
    ("optimizer", "l2"), [(nk.AdamW(0.1, weight_decay=0.5), 0), (nk.SGD(0.1), 0.5)], ids=["decay", "penalty"]
)
def test_factors_carry_no_penalty_and_do_not_decay(optimizer, l2):
    """With a gradient of zero they stay, where the weights beside them shrink."""
    net = scaled(nk.Dense(2), l2=l2)
    s, W = net.parameters["s1"].copy(), net.parameters["W2"].copy()
    net.partial_fit(np.zeros((N_X, M)), np.zeros((2, M)), optimizer=optimizer)
    np.testing.assert_array_equal(net.parameters["s1"], s)
    assert (np.abs(net.parameters["W2"]) < np.abs(W)).all()


@pytest.mark.parametrize("batch_size", [16, None, 5000])
def test_scale_gives_the_same_bits_for_any_number_of_threads(batch_size):
    X, Y = rng.standard_normal((N_X, 9000)).astype(np.float32), rng.standard_normal((2, 9000)).astype(np.float32)
    nets = [scaled(nk.Dense(64, "relu", dropout=0.2), nk.Scale(), nk.Dense(2), dtype="float32") for _ in range(3)]
    for net, threads in zip(nets, (1, 2, 5), strict=True):
        net.parameters["s1"][...] = 1.5
        net.fit(X, Y, epochs=1, batch_size=batch_size, optimizer=nk.SGD(0.01), threads=threads)
    assert nets[0] == nets[1] == nets[2]


def test_a_network_with_scales_is_kept_whole(tmp_path):
    """Files, pickles, copies, and a training that goes on from them."""
    X, Y = rng.standard_normal((N_X, M)), rng.standard_normal((2, M))
    net = scaled(nk.Dense(3, "tanh"), nk.Scale(trainable=False), nk.Dense(2))
    net.fit(X, Y, epochs=3, optimizer="adam")
    net.save(tmp_path / "net.npz", training_state=True)
    loaded, pickled = nk.load(tmp_path / "net.npz"), pickle.loads(pickle.dumps(net))
    assert loaded == net == pickled
    assert loaded.layers == net.layers
    assert repr(loaded.layers[2]) == "Scale(trainable=False)"
    for one in (net, loaded, pickled):
        one.fit(X, Y, epochs=2, resume=True)
    assert net == loaded == pickled
    assert nk.Network([nk.Scale(), nk.Dense(2)], "squared_error") != nk.Network([nk.Dense(2)], "squared_error")


def test_fit_many_trains_networks_with_scales_to_the_bits_of_fit():
    X, Y = rng.standard_normal((N_X, M)), rng.standard_normal((2, M))
    nets = [nk.Network([nk.Scale(), nk.Dense(2)], "squared_error", seed=seed, dtype="float64") for seed in range(3)]
    alone = [nk.Network([nk.Scale(), nk.Dense(2)], "squared_error", seed=seed, dtype="float64") for seed in range(3)]
    nk.fit_many(nets, X, Y, epochs=4)
    for net in alone:
        net.fit(X, Y, epochs=4)
    assert nets == alone


def test_not_a_number_goes_through_a_scale():
    net = scaled()
    X = np.ones((N_X, 3))
    X[2, 1] = np.nan
    A = net.predict(X)
    assert np.isnan(A[2, 1])
    assert np.isfinite(np.delete(A.reshape(-1), 2 * 3 + 1)).all()


# ---- predictions whose bits depend on a column alone ----


@pytest.mark.parametrize("units", [(1,), (3,), (64, 10), (7, 1), (300, 33)])
@pytest.mark.parametrize("n_x", [1, 50, 700])
@pytest.mark.parametrize("output", ["linear", "softmax"])
def test_invariant_predictions(units, n_x, output, dtype):
    """A column's bits are the same beside any others, in any memory order, for any number of threads."""
    layers = [nk.Dense(n, "tanh") for n in units[:-1]] + [nk.Dense(units[-1], output)]
    net = nk.Network(
        layers, "squared_error" if output == "linear" else "cross_entropy", n_x=n_x, dtype=dtype.name, seed=0
    )
    X = np.random.default_rng(0).standard_normal((n_x, 150)).astype(dtype)
    A = net.predict(X, invariant=True)
    np.testing.assert_allclose(A, net.predict(X), rtol=100 * np.finfo(dtype).eps, atol=100 * np.finfo(dtype).eps)
    for picked in (slice(0, 1), slice(149, 150), slice(63, 65), slice(1, 128), slice(None, None, 7), [140, 3, 77]):
        np.testing.assert_array_equal(net.predict(X[:, picked], invariant=True, threads=2), A[:, picked])
    for laid_out in layouts(X):
        np.testing.assert_array_equal(net.predict(laid_out, invariant=True), A)
    out = np.empty((150, net.n_y), dtype).T
    assert net.predict(X, invariant=True, out=out) is out
    np.testing.assert_array_equal(out, A)


@pytest.mark.own_kernels
@pytest.mark.parametrize("isa", USABLE_ISAS)
@pytest.mark.parametrize("gemm", ["blas", "tiles"])
def test_invariant_predictions_with_other_kernels(isa, gemm):
    run_tests("test_layers.py", "test_invariant_predictions and not other", NNKERN_ISA=isa, NNKERN_GEMM=gemm)


def test_invariant_is_a_flag():
    net = scaled()
    with pytest.raises((TypeError, ValueError), match=r"^invariant must be"):
        net.predict(np.ones((N_X, 1)), invariant="yes")


def test_a_scale_is_seen_in_what_is_printed_of_a_network():
    net = nk.Network([nk.Dense(3, "tanh"), nk.Scale(), nk.Dense(1)], "squared_error")
    assert repr(net).startswith("<Network ? → 3 tanh → 3 scale → 1 linear,")
    lines = str(net.initialize(2).summary()).splitlines()
    assert lines[2].split() == ["2", "3", "scale", "none", "none", "3", "s", "(3,", "1)"]
    assert net.summary().parameters == 9 + 3 + 4


# ---- predictors of layers that aren't packed ----


@pytest.mark.parametrize("options", [{"dtype": "float32"}, {"dtype": "float64"}, {"compute": "bfloat16"}])
def test_a_predictor_of_a_network_that_is_not_packed_is_a_copy_of_it(options):
    net = nk.Network(
        [nk.Scale(), nk.Dense(7, "tanh", mix=True), nk.Dense(2)], "squared_error", n_x=5, seed=0, **options
    )
    X = np.random.default_rng(0).normal(size=(5, 9)).astype(net.dtype)
    expected, predictor = net.predict(X), net.compile_predict()
    parameters = {name: view.copy() for name, view in net.parameters.items()}
    net.initialize(5)
    assert (predictor(X) == expected).all()
    assert (predictor.predict(X.tolist()) == expected).all()
    out = np.empty((2, 9), net.dtype)
    assert predictor(np.ascontiguousarray(X), out=out) is out
    assert (out == expected).all()
    assert {name: array.tolist() for name, array in predictor.parameters.items()} == {
        name: array.tolist() for name, array in parameters.items()
    }
    assert (predictor.weights, predictor.n_x, predictor.n_y) == (net.dtype.name, 5, 2)
    net.set_parameters(parameters)
    report = predictor.report(net, X, np.zeros((2, 9)))
    assert report.largest_difference == 0
    assert report.evaluation == pytest.approx(report.network_evaluation, rel=1e-6)
    with pytest.raises(ValueError, match="out"):
        predictor(X, out=np.empty((3, 9), net.dtype))
    with pytest.raises(TypeError, match="a predictor can't be pickled"):
        pickle.dumps(predictor)


# ---- initial values that depend on examples ----


def pre_activations(net, X):
    """Z[l] of all layers, by their equations."""
    Z, A = [], np.asarray(X, np.float64)
    for l, layer in enumerate(net.layers, start=1):
        Z.append(net.parameters[f"W{l}"].astype(np.float64) @ A + net.parameters[f"b{l}"].astype(np.float64))
        A = np.tanh(Z[-1]) if layer.activation == "tanh" else Z[-1]
    return Z


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_that_give_pre_activations_variance_one(dtype):
    layers = [nk.Dense(7, "tanh", init="unit_variance") for _ in range(2)] + [nk.Dense(2, init="unit_variance")]
    X = rng.normal(3, 5, (4, 300))
    X[1] = 2  # one that doesn't vary
    net = nk.Network(layers, "squared_error", dtype=dtype, seed=0).initialize(4, X)
    for Z in pre_activations(net, X):
        assert Z.std(axis=1) == pytest.approx(np.ones(len(Z)), rel=1e-5 if dtype == "float32" else 1e-12)
    constant = nk.Network(layers, "squared_error", dtype=dtype, seed=0).initialize(4, np.ones((4, 3)))
    assert all(np.isfinite(view).all() and view.any() for name, view in constant.parameters.items() if name[0] == "W")


def test_biases_put_a_mean_of_examples_at_zero():
    layers = [nk.Dense(50, "tanh", bias_init="examples"), nk.Dense(3, bias_init="examples")]
    X = rng.normal(3, 5, (4, 300))
    net = nk.Network(layers, "squared_error", dtype="float64", seed=0).initialize(4, X)
    for Z in pre_activations(net, X):
        # a mean of five examples, as a convex combination, lies among them, and is another one for each unit
        assert (Z.min(axis=1) < 0).all()
        assert (Z.max(axis=1) > 0).all()
    same = nk.Network(layers, "squared_error", dtype="float64", seed=0).initialize(4, np.repeat(X[:, :1], 9, axis=1))
    for Z in pre_activations(same, X[:, :1]):
        assert np.abs(Z).max() < 1e-13
    assert net.parameters["b1"].any()


def test_fit_draws_initial_values_from_its_examples():
    layers = [nk.Dense(6, "tanh", init="unit_variance", bias_init="examples"), nk.Dense(1)]
    X, Y = rng.normal(size=(3, 6000)), rng.normal(size=(1, 6000))
    nets = [nk.Network(layers, "squared_error", dtype="float64", seed=1) for _ in range(3)]
    nets[0].fit(X, Y, epochs=0)
    nk.fit_many([nets[1]], X, Y, epochs=0)
    picked = np.unique(np.linspace(0, 5999, 4096).astype(int))
    nets[2].initialize(3, X[:, picked])
    assert nets[0] == nets[1] == nets[2]
    one = nk.Network(layers, "squared_error", dtype="float64", seed=1)
    one.partial_fit(X, Y, optimizer=nk.SGD(1e-30))
    drawn = nk.Network(layers, "squared_error", dtype="float64", seed=1).initialize(3, X)
    assert all((one.parameters[name] == drawn.parameters[name]).all() for name in ("W1", "b1"))


def test_initial_values_without_the_examples_they_need():
    layers = [nk.Dense(6, "tanh", init="unit_variance"), nk.Dense(1)]
    with pytest.raises(
        ValueError, match=r"init=\"unit_variance\" of layer 1 depends on examples: .*initialize\(n_x, X\)"
    ):
        nk.Network(layers, "squared_error", n_x=3)
    net = nk.Network([nk.Dense(6), nk.Dense(1, bias_init="examples")], "squared_error")
    with pytest.raises(ValueError, match=r"bias_init=\"examples\" of layer 2 depends on examples"):
        net.fit([(np.ones((3, 4)), np.ones((1, 4)))], epochs=1)
    with pytest.raises(ValueError, match="bias_init must be one of examples; got 'zeros'"):
        nk.Dense(3, bias_init="zeros")
    with pytest.raises(ValueError, match="bias_init is for a layer with a bias"):
        nk.Dense(3, bias_init="examples", use_bias=False)
    with pytest.raises(ValueError, match="X has 2 features"):
        net.initialize(3, np.ones((2, 4)))
