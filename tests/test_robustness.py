"""What becomes of numbers in bad circumstances: sums over ten million examples, features that nobody has scaled."""

import numpy as np
import pytest
import reference as ref

import nnkern as nk

# ---- sums over many examples ----

MANY = 10_000_000
CHUNK = 4096
# of one example's term before it is added: its loss or its product, its weight, 1/m
OWN_ROUNDINGS = 24
# dtype float32: added up one by one, ten million of these are off by 9 %, since each addition errs to the same side
X_I, DZ_I = np.float32(0.1), np.float32(0.7)


def bound(m, dtype):
    """Relative error of a sum of m positive terms: chunks of 4096, which are added in a tree."""
    depth = int(np.ceil(np.log2(max(m / CHUNK, 1))))
    return ref.gamma(CHUNK + depth + OWN_ROUNDINGS, ref.unit_roundoff(dtype))


def off(actual, expected):
    """Largest relative error."""
    return np.max(np.abs(np.asarray(actual, np.float64) / np.asarray(expected, np.float64) - 1))


def test_the_terms_are_such_that_order_matters():
    one_by_one = np.cumsum(np.full(MANY, DZ_I))[-1] / MANY
    assert off(one_by_one, DZ_I) > 100 * bound(MANY, "float32")


# one unit; a few, where parts of a batch go on side by side; wide enough for products by blocks
@pytest.mark.parametrize(
    ("n", "n_prev", "m"),
    [(1, 1, MANY), (3, 2, MANY // 2), (1, 8, MANY // 4), (16, 16, MANY // 10), (40, 70, MANY // 50)],
)
def test_sums_over_ten_million_examples(n, n_prev, m):
    """Of every way to a gradient or a cost. Y = -0.7 and θ = 0, so that dZ is 0.7, and dW and db are negated steps."""
    X, Y = np.full((m, n_prev), X_I).T, np.full((m, n), -DZ_I).T
    w = np.full(m, np.float32(0.3))
    dW, db, cost = float(X_I) * float(DZ_I), float(DZ_I), n * float(DZ_I) ** 2 / 2
    net = nk.Network([nk.Dense(n, init="zeros")], "squared_error", n_x=n_prev, seed=0)
    most = bound(m, "float32")

    gradients = nk.kernels.dense_backward(-Y, np.zeros((n, n_prev), "float32"), X, Y, "linear", need_dA_prev=False)
    assert off(gradients.dW, dW) < most
    assert off(gradients.db, db) < most
    del gradients
    for weights in (None, w):
        assert off(nk.kernels.squared_error(np.zeros_like(Y), Y, weights)[0], cost) < most
        assert off(net.evaluate(X, Y, sample_weight=weights).cost, cost) < most
        net.forward(X)
        gradients = net.backward(Y, sample_weight=weights)
        assert off(gradients["dW1"], dW) < most
        assert off(gradients["db1"], db) < most
        net.initialize(n_prev)
        history = net.fit(X, Y, epochs=1, batch_size=None, optimizer=nk.SGD(1.0), sample_weight=weights)
        assert off(history["cost"][0], cost) < most
        assert off(net.parameters["W1"], -dW) < most
        assert off(net.parameters["b1"], -db) < most
        net.set_parameters({name: np.zeros_like(a) for name, a in net.parameters.items()})


# ---- features as they come ----

# of houses: a year, square feet, a price, a share, coordinates, a constant, an identifier
SCALES = np.array([2e3, 4e4, 5e5, 1e-6, 50.0, 1.0, 3e9])
OPTIMIZERS = {
    "sgd": lambda: nk.SGD(0.1),
    "momentum": lambda: nk.SGD(0.01, momentum=0.9, nesterov=True),
    "adam": lambda: nk.Adam(0.1),
    "adamw": lambda: nk.AdamW(0.1),
    "rmsprop": lambda: nk.RMSprop(0.1),
    "adagrad": lambda: nk.Adagrad(0.1),
}
OUTPUTS = {
    "cross_entropy": (3, "softmax"),
    "binary_cross_entropy": (1, "sigmoid"),
    "squared_error": (1, "linear"),
    "poisson": (1, "exp"),
}


def diverges(loss, hidden, optimizer):
    """Whether a training on these features leaves float32 whatever the arithmetic.

    Hidden units without bound are A ≈ 1e9 here. A step dW of a poisson output moves its Z by the hundred millions, and
    exp(Z) overflows from Z = 88 on. In squared_error's output a step of rate η multiplies the error by 1 - η|A|², about
    -1e18: two steps, where nothing scales the gradient.
    """
    return hidden != "tanh" and (loss == "poisson" or (loss == "squared_error" and optimizer in ("sgd", "momentum")))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("hidden", ["relu", "tanh", "gelu", "softplus"])
def test_unscaled_features_in_float32_give_no_silent_NaN(optimizer, loss, hidden):
    """Costs, weights and predictions are finite; where they can't be, it says so, and the weights are finite."""
    rng = np.random.default_rng(0)
    m, (n_y, activation) = 200, OUTPUTS[loss]
    X = (SCALES[:, None] * (1 + 0.3 * rng.standard_normal((len(SCALES), m)))).astype("float32")
    X[5] = 1
    kind = (X[1] / X[0] > 20).astype(int)
    Y = {"squared_error": X[2:3], "poisson": kind[None].astype(float)}.get(loss, kind)
    net = nk.Network([nk.Dense(16, hidden), nk.Dense(n_y, activation)], loss, n_x=len(X), seed=0)
    how = {"epochs": 20, "batch_size": 32, "optimizer": OPTIMIZERS[optimizer]()}
    if diverges(loss, hidden, optimizer):
        with pytest.raises(nk.DivergenceError):
            net.fit(X, Y, **how)
    else:
        history = net.fit(X, Y, **how)
        assert np.isfinite(history["cost"]).all()
        assert np.isfinite(net.predict(X)).all()
        assert np.isfinite(net.evaluate(X, Y)).all()
    assert all(np.isfinite(a).all() for a in net.parameters.values())
