"""Real data sets whose best answer is known from elsewhere: does training arrive at it?"""

import numpy as np
import pytest

import nnkern as nk

pytest.importorskip("sklearn", reason="the data sets, and what finds their best answer")

from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split


def standardised(X):
    return (X - X.mean(axis=0)) / X.std(axis=0)


@pytest.mark.parametrize("C", [0.1, 1.0])
@pytest.mark.parametrize("nesterov", [False, True])
def test_logistic_regression_reaches_the_optimum_of_scikit_learn(C, nesterov):
    """scikit-learn minimises C Σ L_i + ½‖w‖²; divided by C m that is J with l2 = 1/(C m)."""
    X, Y = load_breast_cancer(return_X_y=True)
    X = standardised(X)
    m = Y.size
    peer = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(X, Y)

    net = nk.Network(
        [nk.Dense(1, "sigmoid", init="zeros")],
        loss="binary_cross_entropy",
        l2=1 / (C * m),
        dtype="float64",
    )
    # The Hessian's eigenvalues lie between l2 and 1/4 of the largest of XXᵀ/m, 13.3, plus l2: the
    # step is below 1/3.4, and 3000 steps of momentum 0.95 shrink the error far below the tolerance.
    optimizer = nk.SGD(0.25, momentum=0.95, nesterov=nesterov)
    net.fit(X.T, Y, epochs=3000, batch_size=None, optimizer=optimizer)

    W, b = net.parameters["W1"], net.parameters["b1"]
    np.testing.assert_allclose(W, peer.coef_, rtol=1e-3)
    np.testing.assert_allclose(b.ravel(), peer.intercept_, rtol=1e-3)
    # At the optimum the gradient with the penalty vanishes, whatever a peer says.
    A = net.predict(X.T)
    dZ = A - Y
    assert np.abs(dZ @ X / m + W / (C * m)).max() < 1e-6
    assert np.abs(dZ.mean()) < 1e-6


@pytest.mark.parametrize("hidden", [[], [6]])
def test_a_linear_network_reaches_the_least_squares_solution(hidden):
    """Of any depth, a network of linear units is a linear map: lstsq knows its lowest error."""
    X, y = load_diabetes(return_X_y=True)
    X, y = standardised(X), y / y.std()
    with_ones = np.column_stack([X, np.ones(len(X))])
    solution, *_ = np.linalg.lstsq(with_ones, y)
    lowest = np.mean((with_ones @ solution - y) ** 2)

    layers = [nk.Dense(units) for units in hidden] + [nk.Dense(1)]
    net = nk.Network(layers, loss="squared_error", dtype="float64", seed=0)
    optimizer = nk.SGD(0.03, momentum=0.9)
    net.fit(X.T, y.reshape(1, -1), epochs=2000, batch_size=None, optimizer=optimizer)

    error = np.mean((net.predict(X.T) - y) ** 2)
    assert lowest * (1 - 1e-12) <= error <= lowest * (1 + 1e-3)
    cost, score = net.evaluate(X.T, y.reshape(1, -1))
    assert cost == pytest.approx(error / 2, rel=1e-12)
    assert score == pytest.approx(1 - error / y.var(), rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits_reach_97_per_cent_of_the_held_out_third(dtype, seed):
    X, Y = load_digits(return_X_y=True)
    X_train, X_test, Y_train, Y_test = train_test_split(X / 16, Y, test_size=1 / 3, stratify=Y, random_state=0)
    net = nk.Network(
        [nk.Dense(64, "relu"), nk.Dense(10, "softmax")],
        loss="cross_entropy",
        l2=1e-4,
        dtype=dtype,
        seed=seed,
    )
    net.fit(X_train.T, Y_train, epochs=60, batch_size=32, optimizer=nk.Adam(2e-3))
    accuracy = net.evaluate(X_test.T, Y_test).score
    assert accuracy >= 0.97
    assert accuracy == np.mean(net.predict_labels(X_test.T) == Y_test)
