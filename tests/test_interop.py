"""scikit-learn's MLPs: they become networks and back, and predict the same."""

import warnings

import numpy as np
import pytest

import nnkern as nk

neural_network = pytest.importorskip("sklearn.neural_network")
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
X = np.random.default_rng(0).standard_normal((60, 3))
# A dozen operations on numbers of order 1 for each of three layers.
TOLERANCE = {np.dtype("f4"): 1e-5, np.dtype("f8"): 1e-13}


def fitted(kind, y, dtype, **options):
    options = {"hidden_layer_sizes": [5, 4], "max_iter": 30, "random_state": 0, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(neural_network, kind)(**options).fit(X.astype(dtype), y)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("classes", [["no", "yes"], [3, 1, 2]])
def test_classifiers(classes, activation, dtype):
    model = fitted("MLPClassifier", np.array(classes)[np.arange(60) % len(classes)], dtype, activation=activation)
    net = nk.from_sklearn(model)
    assert net.dtype == dtype
    assert net.loss == ("binary_cross_entropy" if len(classes) == 2 else "cross_entropy")
    assert net.metadata["classes"] == sorted(classes)
    probabilities = model.predict_proba(X.astype(dtype))
    A = net.predict(X.T)
    np.testing.assert_allclose(A.T, probabilities[:, 1:] if len(classes) == 2 else probabilities, atol=TOLERANCE[dtype])
    assert np.array_equal(np.array(net.metadata["classes"])[net.predict_labels(X.T)], model.predict(X))
    back = net.to_sklearn()
    assert back.activation == activation
    assert np.array_equal(back.classes_, model.classes_)
    for own, other in zip(model.coefs_ + model.intercepts_, back.coefs_ + back.intercepts_, strict=True):
        assert own.dtype == other.dtype
        assert np.array_equal(own, other)
    assert np.array_equal(back.predict(X.astype(dtype)), model.predict(X.astype(dtype)))
    assert np.array_equal(back.predict_proba(X.astype(dtype)), probabilities)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("targets", [1, 2])
def test_regressors(targets, activation, dtype):
    y = X[:, :2] if targets == 2 else X[:, 0]
    model = fitted("MLPRegressor", y, dtype, activation=activation)
    net = nk.from_sklearn(model)
    assert net.loss == "squared_error"
    expected = model.predict(X.astype(dtype))
    np.testing.assert_allclose(net.predict(X.T).T.reshape(expected.shape), expected, atol=TOLERANCE[dtype])
    back = net.to_sklearn()
    assert np.array_equal(back.predict(X.astype(dtype)), expected)


def test_several_labels_at_once():
    Y = (X[:, :2] > 0).astype(int)
    model = fitted("MLPClassifier", Y, "f8")
    net = nk.from_sklearn(model)
    assert (net.loss, net.n_y) == ("binary_cross_entropy", 2)
    assert np.array_equal(net.predict_labels(X.T).T, model.predict(X))
    assert np.array_equal(net.to_sklearn().predict(X), model.predict(X))


def test_a_poisson_regressor():
    if "exp" not in nk.kernels.ACTIVATIONS:
        pytest.skip("no exp")
    try:
        model = fitted("MLPRegressor", X[:, 0] ** 2, "f8", loss="poisson")
    except TypeError:
        pytest.skip("this scikit-learn's MLPRegressor has no loss")
    net = nk.from_sklearn(model)
    assert net.layers[-1].activation == "exp"
    np.testing.assert_allclose(net.predict(X.T)[0], model.predict(X), rtol=1e-12)
    assert np.array_equal(net.to_sklearn().predict(X), model.predict(X))


def test_networks_that_were_trained_here():
    net = nk.Network([nk.Dense(6, "relu", use_bias=False), nk.Dense(3, "softmax")], "cross_entropy", n_x=3, seed=0)
    net.fit(X.T, np.arange(60) % 3, epochs=3)
    model = net.to_sklearn()
    assert list(model.classes_) == [0, 1, 2]
    X4 = X.astype("f4")
    np.testing.assert_allclose(model.predict_proba(X4).T, net.predict(X4.T), atol=TOLERANCE[np.dtype("f4")])
    assert np.array_equal(model.predict(X4), net.predict_labels(X4.T))
    # the estimator trains on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.set_params(max_iter=2).fit(X4, np.arange(60) % 3)


def test_what_scikit_learn_does_not_have():
    def net(*layers, loss="squared_error"):
        return nk.Network(layers, loss, n_x=3, seed=0)

    with pytest.raises(ValueError, match="no leaky_relu, which layer 1"):
        net(nk.Dense(2, "leaky_relu"), nk.Dense(1)).to_sklearn()
    with pytest.raises(ValueError, match="one activation for all hidden layers; here are tanh, relu"):
        net(nk.Dense(2, "tanh"), nk.Dense(2, "relu"), nk.Dense(1)).to_sklearn()
    with pytest.raises(ValueError, match="output is linear"):
        net(nk.Dense(2, "tanh"), nk.Dense(1, "tanh")).to_sklearn()
    with pytest.raises(ValueError, match="softmax at the output only"):
        net(nk.Dense(2, "softmax"), nk.Dense(1)).to_sklearn()
    classifier = net(nk.Dense(2, "softmax"), loss="cross_entropy")
    classifier.metadata["classes"] = ["a"]
    with pytest.raises(ValueError, match="classes"):
        classifier.to_sklearn()


def test_other_models_are_refused():
    from sklearn.linear_model import LinearRegression

    with pytest.raises(TypeError, match="got LinearRegression"):
        nk.from_sklearn(LinearRegression())
    with pytest.raises(nk.NotFittedError, match="MLPClassifier isn't fitted"):
        nk.from_sklearn(neural_network.MLPClassifier())
    with pytest.raises(nk.NotFittedError):
        nk.Network([nk.Dense(2)], "squared_error").to_sklearn()


def test_models_that_were_tampered_with_are_refused():
    def fitted():
        X = np.random.default_rng(0).standard_normal((40, 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return neural_network.MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0).fit(X, X[:, 0])

    model = fitted()
    model.coefs_[1] = np.ones((5, 1))
    with pytest.raises(nk.ModelFormatError, match="layer 2: it takes 5 numbers, but gets 4"):
        nk.from_sklearn(model)
    model = fitted()
    model.intercepts_[0] = np.zeros(3)
    with pytest.raises(nk.ModelFormatError, match=r"layer 1: W has shape \(4, 3\), b \(3,\)"):
        nk.from_sklearn(model)
    model = fitted()
    model.coefs_[0] = model.coefs_[0].astype("float32")
    with pytest.raises(nk.ModelFormatError, match="layer 1: the parameters are float32 and float64"):
        nk.from_sklearn(model)
    model = fitted()
    model.activation = "gelu"
    with pytest.raises(nk.ModelFormatError, match="layer 1: the activation 'gelu' can't be taken"):
        nk.from_sklearn(model)
