"""input_gradient, jacobian and example_gradients against central differences, the oracle and torch's autograd."""

import numpy as np
import pytest
import reference as ref

import nnkern as nk

N_X, N_Y, M = 4, 3, 6
STEP = 1e-5


def network(hidden, output, loss, *, dtype="float64", depth=3, n_y=N_Y, **options):
    """Its parameters keep every Z away from the kinks of both activations."""
    layers = [*(nk.Dense(5, hidden) for _ in range(depth - 1)), nk.Dense(n_y, output)]
    names = [layer.activation for layer in layers]
    for seed in range(1000):
        net = nk.Network(layers, loss, n_x=N_X, dtype=dtype, seed=seed, **options)
        X = np.random.default_rng(seed).normal(size=(N_X, M))
        _, Z = ref.network_forward(X, dict(net.parameters), names)
        kinks = [ref.ELEMENTWISE[name].kinks if name in ref.ELEMENTWISE else () for name in names]
        if all(np.abs(z - kink).min() > 100 * STEP for z, at in zip(Z[1:], kinks, strict=True) for kink in at):
            return net, X
    raise AssertionError("no data far enough from every kink")


def targets(loss, n_y=N_Y, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(0, n_y, M) if loss == "cross_entropy" else rng.uniform(0.1, 0.9, (n_y, M)) + (loss == "poisson")


def losses_of(net, X, Y):
    """L (m,) by the library, one example at a time."""
    return np.array([net.evaluate(X[:, [i]], Y[..., [i]]).cost for i in range(X.shape[1])])


def differences(f, X):
    """∂f(i) / ∂X[j, i] for f (…, m), as (…, n_x, m)."""
    columns = []
    for j in range(len(X)):
        nudge = STEP * (np.arange(len(X)) == j)[:, None]
        columns.append((f(X + nudge) - f(X - nudge)) / (2 * STEP))
    return np.stack(columns, axis=-2)


# ---- by the inputs ----


@pytest.mark.parametrize("activation", nk.kernels.ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 3])
def test_jacobian_and_gradient_of_outputs(activation, depth):
    net, X = network(activation, activation, "squared_error", depth=depth)
    J = net.jacobian(X)
    assert J.shape == (M, N_Y, N_X)
    assert J.dtype == net.dtype
    np.testing.assert_allclose(J.transpose(1, 2, 0), differences(net.predict, X), rtol=1e-6, atol=1e-8)
    for unit in range(N_Y):
        np.testing.assert_allclose(net.input_gradient(X, output=unit), J[:, unit].T, rtol=1e-12, atol=1e-15)
    units = np.arange(M) % N_Y
    np.testing.assert_allclose(net.input_gradient(X, output=units), J[np.arange(M), units].T, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", ref.LOSSES)
def test_gradient_of_losses(loss):
    net, X = network("tanh", ref.MATCHED.get(loss, "gelu"), loss, l2=0.3)
    Y = targets(loss)
    dX = net.input_gradient(X, Y)
    assert dX.shape == X.shape
    np.testing.assert_allclose(dX, differences(lambda X: losses_of(net, X, Y), X), rtol=1e-6, atol=1e-8)


def test_one_output_needs_no_name():
    net, X = network("silu", "linear", "squared_error", n_y=1)
    np.testing.assert_array_equal(net.input_gradient(X), net.jacobian(X)[:, 0].T)


def test_jacobian_in_blocks(monkeypatch):
    net, X = network("tanh", "softmax", "cross_entropy")
    whole = net.jacobian(X)
    monkeypatch.setattr("nnkern.derivatives._BLOCK", 4 * 15)
    np.testing.assert_allclose(net.jacobian(X), whole, rtol=1e-12, atol=1e-15)


def test_float32():
    net, X = network("tanh", "softmax", "cross_entropy", dtype="float32")
    double, _ = network("tanh", "softmax", "cross_entropy")
    double.set_parameters(net.parameters)
    Y = targets("cross_entropy")
    X = X.astype(np.float32)
    for name, arguments in (("jacobian", (X,)), ("input_gradient", (X, Y))):
        value = getattr(net, name)(*arguments)
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, getattr(double, name)(*arguments), atol=1e-5)


def test_torch_agrees():
    torch = pytest.importorskip("torch", reason="torch is an optional second opinion")
    net, X = network("gelu", "linear", "huber")
    W, b = ([torch.tensor(np.array(net.parameters[f"{k}{l}"])) for l in (1, 2, 3)] for k in "Wb")
    gelu = torch.nn.functional.gelu
    predict = lambda x: W[2] @ gelu(W[1] @ gelu(W[0] @ x + b[0][:, 0]) + b[1][:, 0]) + b[2][:, 0]  # noqa: E731
    for i, J in enumerate(net.jacobian(X)):
        exact = torch.autograd.functional.jacobian(predict, torch.tensor(X[:, i]))
        np.testing.assert_allclose(J, exact.numpy(), rtol=1e-11, atol=1e-13)


# ---- of each example ----


@pytest.mark.parametrize("loss", ref.LOSSES)
def test_gradients_of_examples(loss, dtype):
    net, X = network("mish", ref.MATCHED.get(loss, "linear"), loss, dtype=str(dtype), l2=0.3)
    # Z near 0, so that ŷ = e^Z isn't large beside the 1 that the bound is a multiple of
    net.set_parameters({name: a / 2 for name, a in net.parameters.items()})
    Y = targets(loss)
    grads = net.example_gradients(X, Y)
    assert list(grads) == [f"d{name}" for name in net.parameters]
    layers = [nk.Dense(layer.units, layer.activation) for layer in net.layers]
    plain = nk.Network(layers, loss, n_x=N_X, dtype=str(dtype))
    plain.set_parameters(net.parameters)
    for i in range(M):
        plain.forward(X[:, [i]])
        for name, exact in plain.backward(Y[..., [i]]).items():
            assert grads[name].shape == (M, *exact.shape)
            np.testing.assert_allclose(grads[name][i], exact, rtol=0, atol=30 * np.finfo(dtype).eps)


def test_frozen_layers_and_layers_without_bias():
    layers = [nk.Dense(5, "tanh", trainable=False), nk.Dense(4, "relu", use_bias=False), nk.Dense(2)]
    net = nk.Network(layers, "squared_error", n_x=3, seed=0)
    grads = net.example_gradients(np.ones((3, 7)), np.ones((2, 7)))
    assert {name: g.shape for name, g in grads.items()} == {"dW2": (7, 4, 5), "dW3": (7, 2, 4), "db3": (7, 2, 1)}


def test_a_python_loss():
    native, X = network("tanh", "gelu", "squared_error")
    net, _ = network("tanh", "gelu", lambda A, Y: (0.5 * ((A - Y) ** 2).sum(axis=0), A - Y))
    Y = targets("squared_error")
    np.testing.assert_allclose(net.input_gradient(X, Y), native.input_gradient(X, Y), rtol=1e-13)
    bad, _ = network("tanh", "gelu", lambda A, Y: (0.0, A.T))
    with pytest.raises(ValueError, match=r"derivative of shape \(6, 3\)"):
        bad.input_gradient(X, Y)


# ---- refusals ----


def test_refusals():
    net, X = network("tanh", "linear", "squared_error")
    Y = targets("squared_error")
    with pytest.raises(nk.NotFittedError):
        nk.Network([nk.Dense(1)], "squared_error").jacobian(X)
    with pytest.raises(ValueError, match=r"3 outputs: say which.*jacobian"):
        net.input_gradient(X)
    with pytest.raises(ValueError, match="both given"):
        net.input_gradient(X, Y, output=0)
    for bad in (3, -1, 0.5, True, [0, 1], np.full(M, 3), "0"):
        with pytest.raises(ValueError, match="output must be"):
            net.input_gradient(X, output=bad)
    for use in (net.jacobian, net.input_gradient, lambda X: net.example_gradients(X, Y)):
        with pytest.raises(ValueError, match="the network expects 4"):
            use(X[:3])
    with pytest.raises(ValueError, match="transposed"):
        net.example_gradients(X, Y.T)


def test_parameters_are_free_again_after_a_refusal():
    net, X = network("tanh", "linear", "squared_error")
    with pytest.raises(ValueError, match="3 outputs"):
        net.input_gradient(X)
    net.fit(X, targets("squared_error"), epochs=1)
