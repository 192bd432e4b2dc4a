"""What becomes of numbers in bad circumstances: sums over ten million examples, features that nobody has scaled."""

import numpy as np
import pytest
import reference as ref

import nnkern as nk

# ---- sums over many examples ----

MANY = 10_000_000
# of one example's term before it is added: its loss or its product, its weight, 1/m
OWN_ROUNDINGS = 24
# dtype float32: added up one by one, ten million of these are off by 9 %, since each addition errs to the same side
X_I, DZ_I = np.float32(0.1), np.float32(0.7)


def bound(m, dtype):
    """Relative error of a sum of m positive terms: chunks, which are added in a tree."""
    return ref.gamma(ref.additions(m) + OWN_ROUNDINGS, ref.unit_roundoff(dtype))


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


# what every example has for Y, where Z = 0
TARGETS = {
    "squared_error": (-0.7, 0.4),
    "binary_cross_entropy": (0.2, 0.9),
    "cross_entropy": (0.3, 0.7),
    "poisson": (0.3, 2.0),
    "absolute_error": (-0.7, 0.4),
    "huber": (-0.7, 1.7),
    "quantile": (-0.7, 0.4),
}


@pytest.mark.parametrize("name", [name for name in ref.LOSSES if name != "squared_error"])
def test_sums_of_every_loss_over_many_examples(name):
    """Cost and gradients of the others, by the kernel, by evaluate and by fit, weighted and not."""
    m, activation = MANY // 4, ref.MATCHED.get(name, "linear")
    column = np.array([TARGETS[name]], np.float32)
    X, Y, w = np.full((m, 1), X_I).T, np.tile(column, (m, 1)).T, np.full(m, np.float32(0.3))
    L, _, db = ref.loss(np.zeros((2, 1)), column.T, name, activation)
    net = nk.Network([nk.Dense(2, activation, init="zeros")], name, n_x=1, seed=0)
    most = bound(m, "float32")
    for weights in (None, w):
        assert off(getattr(nk.kernels, name)(np.zeros_like(Y), Y, weights)[0], L) < most
        assert off(net.evaluate(X, Y, sample_weight=weights).cost, L) < most
        history = net.fit(X, Y, epochs=1, batch_size=None, optimizer=nk.SGD(1.0), sample_weight=weights)
        assert off(history["cost"][0], L) < most
        assert off(net.parameters["W1"], -db * float(X_I)) < most
        assert off(net.parameters["b1"], -db) < most
        net.initialize(1)


@pytest.mark.parametrize("name", ref.LOSSES)
def test_costs_in_float64_are_added_in_chunks(name):
    """Of two million equal examples, against the cost of one: added one by one, cross-entropies are further off."""
    m = MANY // 5 + 1
    Z = np.tile([0.3, -0.2], (m, 1)).T
    Y = np.tile(TARGETS[name], (m, 1)).T
    kernel = getattr(nk.kernels, name)
    one = kernel(np.asfortranarray(Z[:, :1]), np.asfortranarray(Y[:, :1]))[0]
    for w in (None, np.full(m, 0.3)):
        assert off(kernel(Z, Y, w)[0], one) < bound(m, "float64")


def test_scores_over_ten_million_examples():
    """R² of a prediction of 0.35 for as many 0.7 as -0.7; the share of two classes that one prediction meets.

    Sums in float64, in any order. R² is 1 - 1.25: what two sums are off by is 10 times as much of it.
    """
    most = ref.gamma(MANY + OWN_ROUNDINGS, ref.unit_roundoff("float64"))
    X, w, sign = np.zeros((1, MANY), np.float32), np.full(MANY, np.float32(0.3)), np.ones(MANY, np.float32)
    sign[1::2] = -1
    net = nk.Network([nk.Dense(1, init="zeros")], "squared_error", n_x=1, seed=0)
    net.parameters["b1"][...] = DZ_I / 2
    classifier = nk.Network([nk.Dense(2, "softmax", init="zeros")], "cross_entropy", n_x=1, seed=0)
    for weights in (None, w):
        score = net.evaluate(X, (DZ_I * sign)[None], sample_weight=weights).score
        assert off(score, -0.25) < 10 * most
        score = classifier.evaluate(X, (sign < 0).astype(int), sample_weight=weights).score
        assert off(score, 0.5) < most


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
