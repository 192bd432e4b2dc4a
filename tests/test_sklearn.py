"""The estimators: scikit-learn's own checks, the same numbers as scikit-learn's, and what goes beyond it."""

import copy
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from conftest import assert_no_leaks, fails, measured

pytest.importorskip("sklearn", minversion="1.7")

import joblib
import scipy.optimize
from scipy import sparse
from sklearn import datasets, metrics
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import shuffle
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

import nnkern as nk
from nnkern import sklearn as ours
from nnkern.estimators import processes
from nnkern.sklearn import MLPClassifier, MLPRegressor
from nnkern.state import of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Largest difference over largest entry, array by array, after 20 epochs in float64.
AGREEMENT = 1e-9


def standardised(A):
    spread = A.std(axis=0)
    return (A - A.mean(axis=0)) / np.where(spread == 0, 1, spread)


def load(name):
    """(X, y, the estimators' name) of a data set that ships with scikit-learn."""
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name in ("diabetes", "linnerud"):
        return standardised(X), standardised(y), "MLPRegressor"
    return standardised(X), y, "MLPClassifier"


def difference(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    return np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(float).tiny)


def assert_same(mine, peer, tolerance=AGREEMENT):
    """All that scikit-learn's has after a fit, ours has, with the same values."""
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(mine, name) == getattr(peer, name), name
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(mine, name), getattr(peer, name), strict=True):
            assert difference(a, b) <= tolerance, name
            assert a.dtype == b.dtype
    for name in ("loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"):
        a, b = getattr(mine, name, None), getattr(peer, name, None)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=1e-13, err_msg=name)
    if hasattr(peer, "classes_"):
        assert mine.classes_.dtype == peer.classes_.dtype
        assert np.array_equal(mine.classes_, peer.classes_)


def fit_both(kind, X, y, *fit_args, tolerance=AGREEMENT, **parameters):
    """Ours and theirs fitted alike, and found the same."""
    parameters = {"max_iter": 20, "random_state": 5, **parameters}
    mine, peer = getattr(ours, kind)(**parameters), getattr(theirs, kind)(**parameters)
    mine.fit(X, y, *fit_args)
    peer.fit(X, y, *fit_args)
    assert_same(mine, peer, tolerance)
    assert difference(mine.predict(X), peer.predict(X)) <= tolerance
    return mine, peer


# ---- scikit-learn's own checks


@parametrize_with_checks(
    [
        MLPClassifier(),
        MLPRegressor(),
        MLPClassifier(solver="lbfgs", hidden_layer_sizes=()),
        MLPRegressor(solver="adamw"),
    ]
)
def test_estimator_checks(estimator, check):
    check(estimator)


# ---- the same numbers


SCHEDULES = {
    "constant": {},
    "invscaling": {"learning_rate_init": 0.05},
    # so that it lowers the rate several times within 20 epochs
    "adaptive": {"n_iter_no_change": 1, "tol": 0.05},
}
SOLVERS = [
    pytest.param(
        {"solver": "sgd", "learning_rate": schedule, "learning_rate_init": 0.01, **more, **momentum},
        id=f"{schedule}-{kind}",
    )
    for schedule, more in SCHEDULES.items()
    for kind, momentum in (
        ("plain", {"momentum": 0}),
        ("momentum", {"nesterovs_momentum": False}),
        ("nesterov", {}),
    )
] + [pytest.param({"solver": "adam"}, id="adam")]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "diabetes", "linnerud"])
def test_agrees_with_scikit_learn(name, solver):
    X, y, kind = load(name)
    activations = {"iris": "tanh", "wine": "logistic", "linnerud": "identity"}
    fit_both(kind, X, y, activation=activations.get(name, "relu"), hidden_layer_sizes=(20, 10), **solver)


def test_the_adaptive_schedule_lowered_the_rate_in_the_test_above():
    X, y, _ = load("iris")
    mlp = MLPClassifier((20, 10), solver="sgd", learning_rate="adaptive", learning_rate_init=0.01, max_iter=20,
                        random_state=5, **SCHEDULES["adaptive"]).fit(X, y)  # fmt: skip
    assert mlp._network.optimizer.learning_rate < 0.01


@pytest.mark.parametrize("m", [1, 2, 3, 17, 64, 65, 1797])
def test_shuffles_as_scikit_learn(m):
    net = nk.Network([nk.Dense(1)], "squared_error", n_x=1)
    X = np.zeros((1, m), np.float32)
    source, peer = np.random.RandomState(3), np.random.RandomState(3)
    order = expected = np.arange(m)
    order = order.copy()
    of(net).engine.train(
        X, X, None, None, rates=np.full(3, 0.1), batch_size=5, shuffle=True, order=order, update="sgd", numbers={},
        keep_last=True, costs=np.empty(3), seconds=np.empty(3), source=source,
    )  # fmt: skip
    for _ in range(3):
        expected = shuffle(expected, random_state=peer)
    assert np.array_equal(order, expected)
    assert source.random_sample() == peer.random_sample()


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_agrees_with_sample_weights(kind):
    X, y, _ = load("wine")
    w = np.random.default_rng(0).uniform(0, 3, len(y))
    w[::7] = 0
    fit_both(kind, X, y, w, batch_size=30, alpha=0.3)


@pytest.mark.skipif("poisson" not in nk.losses.LOSSES, reason="a loss that isn't there")
def test_agrees_in_the_deviance_of_poisson():
    X, y, _ = load("wine")
    w = np.random.default_rng(0).uniform(0, 3, len(y))
    for weights in ((), (w,)):
        fit_both("MLPRegressor", X, y, *weights, loss="poisson", batch_size=30)
        fit_both("MLPRegressor", X, y, *weights, loss="poisson", early_stopping=True)
        fit_both("MLPRegressor", X, y, *weights, loss="poisson", max_iter=200, tol=0.02, n_iter_no_change=2)
        how = {"loss": "poisson", "solver": "lbfgs", "max_iter": 3, "random_state": 0}
        losses = [module.MLPRegressor(**how).fit(X, y, *weights).loss_ for module in (ours, theirs)]
        np.testing.assert_allclose(*losses, rtol=1e-9)


def test_agrees_with_several_outputs_and_weights():
    X, y, kind = load("linnerud")
    mine, _ = fit_both(kind, X, y, np.linspace(0.1, 1, len(X)), batch_size=7, alpha=0.1)
    assert mine.predict(X).shape == y.shape


def test_agrees_with_several_labels():
    X, Y = datasets.make_multilabel_classification(100, random_state=0)
    X = standardised(X)
    mine, peer = fit_both("MLPClassifier", X, Y, batch_size=30)
    assert np.array_equal(mine.predict(X), peer.predict(X))
    assert difference(mine.predict_proba(X), peer.predict_proba(X)) <= AGREEMENT
    mine, peer = fit_both("MLPClassifier", X, Y, batch_size=30, early_stopping=True)
    of_sparse = MLPClassifier(max_iter=20, random_state=5, batch_size=30, early_stopping=True)
    of_sparse.fit(X, sparse.csr_matrix(Y))
    assert sparse.issparse(of_sparse.predict(X))
    assert np.array_equal(of_sparse.predict(X).toarray(), mine.predict(X))


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "diabetes"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tol": 0.01, "n_iter_no_change": 2},
        {"learning_rate": "adaptive", "solver": "sgd", "n_iter_no_change": 1, "tol": 0.1},
    ],
)
def test_agrees_with_early_stopping(name, more):
    X, y, kind = load(name)
    fit_both(kind, X, y, early_stopping=True, batch_size=40, learning_rate_init=0.01, **more)
    fit_both(kind, X, y, np.arange(len(y)) % 3 + 1.0, early_stopping=True, **more)


def test_agrees_where_training_ends_by_itself():
    X, y, kind = load("iris")
    mine, _ = fit_both(kind, X, y, max_iter=500, tol=1e-2, learning_rate_init=0.01)
    assert 10 < mine.n_iter_ < 500
    mine, _ = fit_both(kind, X, y, max_iter=500, tol=0.05, n_iter_no_change=1, solver="sgd")
    assert mine.n_iter_ < 500
    fit_both(kind, X, y, max_iter=50, n_iter_no_change=np.inf)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"shuffle": False},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": (), "activation": "logistic"},
        {"hidden_layer_sizes": 7},
        {"batch_size": 1000},
        {"beta_1": 0.0, "beta_2": 0.5, "epsilon": 0.1},
        {"solver": "sgd", "momentum": 1.0},
    ],
)
@pytest.mark.filterwarnings("ignore:Got `batch_size`")
def test_agrees_with_other_parameters(parameters):
    X, y, kind = load("wine")
    fit_both(kind, X, y, **{"max_iter": 10, "batch_size": 50, **parameters})


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_warm_start_agrees(solver):
    X, y, kind = load("wine")
    how = {"warm_start": True, "max_iter": 5, "random_state": 3, "solver": solver, "learning_rate": "invscaling"}
    mine, peer = getattr(ours, kind)(**how), getattr(theirs, kind)(**how)
    for _ in range(3):
        assert_same(mine.fit(X, y), peer.fit(X, y))
    assert len(mine.loss_curve_) == 15


def test_warm_start_with_another_activation_agrees():
    """The parameters and the optimizer's state go on, in a network of another kind."""
    X, y, kind = load("wine")
    how = {"warm_start": True, "max_iter": 5, "random_state": 3}
    mine, peer = getattr(ours, kind)(**how), getattr(theirs, kind)(**how)
    for activation in ("relu", "tanh", "logistic"):
        for mlp in (mine, peer):
            mlp.set_params(activation=activation).fit(X, y)
        assert_same(mine, peer)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit_agrees(solver):
    X, y, kind = load("wine")
    how = {"random_state": 3, "solver": solver, "learning_rate": "invscaling"}
    mine, peer = getattr(ours, kind)(**how), getattr(theirs, kind)(**how)
    for i in range(6):
        part = slice(25 * i, 25 * i + 25)
        if i == 3:
            mine = pickle.loads(pickle.dumps(mine))  # the optimizer's state goes along
        for mlp in (mine, peer):
            mlp.partial_fit(X[part], y[part], classes=np.unique(y) if i == 0 else None)
        assert_same(mine, peer)
    mine.fit(X[:50], y[:50])
    peer.fit(X[:50], y[:50])
    assert_same(mine, peer)


def test_partial_fit_of_a_regressor_after_fit_agrees():
    X, y, kind = load("diabetes")
    mine, peer = getattr(ours, kind)(random_state=1, max_iter=3), getattr(theirs, kind)(random_state=1, max_iter=3)
    for mlp in (mine, peer):
        mlp.fit(X, y).partial_fit(X[:100], y[:100]).partial_fit(X[100:], y[100:])
    assert_same(mine, peer)


def test_random_states_are_drawn_from_as_scikit_learn_does():
    X, y, kind = load("iris")
    draws = []
    for module in (ours, theirs):
        source = np.random.RandomState(7)
        getattr(module, kind)(random_state=source, max_iter=3).fit(X, y)
        draws.append(source.random_sample())
    assert draws[0] == draws[1]
    for module in (ours, theirs):  # None stands for numpy's global one
        np.random.seed(7)  # noqa: NPY002
        getattr(module, kind)(max_iter=3).fit(X, y)
        draws.append(np.random.random_sample())  # noqa: NPY002
    assert draws[2] == draws[3] == draws[0]


def test_the_loss_is_exact_where_scikit_learn_clips():
    X = np.array([[-1.0], [1.0]])
    mlp = MLPClassifier((), solver="sgd", max_iter=1, learning_rate_init=1e-300, alpha=0, warm_start=True)
    mlp.fit(X, [0, 1])
    mlp.coefs_[0][:], mlp.intercepts_[0][:] = 50.0, 0.0  # -log σ(50) = log1p(e⁻⁵⁰), far below the clip at 2e-16
    mlp.fit(X, [0, 1])
    np.testing.assert_allclose(mlp.loss_, np.log1p(np.exp(-50)), rtol=1e-14)


def test_verbose_says_what_scikit_learn_says(capsys):
    X, y, kind = load("iris")
    said = []
    for module in (ours, theirs):
        for more in (
            {"early_stopping": True},
            {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 1.0},
        ):
            how = {"verbose": True, "n_iter_no_change": 1, "tol": 0.02, "random_state": 0, "max_iter": 40, **more}
            getattr(module, kind)(**how).fit(X, y)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "Stopping." in said[0]
    assert "Setting learning rate" in said[0]
    MLPClassifier(solver="lbfgs", verbose=True, max_iter=3).fit(X, y)
    assert "Iteration 3, loss = " in capsys.readouterr().out


# ---- L-BFGS


@pytest.mark.parametrize("name", ["wine", "diabetes", "breast_cancer"])
def test_lbfgs_agrees(name):
    """The same function from the same start: the same path, until rounding in the line searches parts them."""
    X, y, kind = load(name)
    how = {"solver": "lbfgs", "random_state": 1, "max_iter": 10, "activation": "tanh", "hidden_layer_sizes": (6,)}
    mine, peer = getattr(ours, kind)(**how).fit(X, y), getattr(theirs, kind)(**how).fit(X, y)
    assert mine.n_iter_ == peer.n_iter_
    np.testing.assert_allclose(mine.loss_, peer.loss_, rtol=1e-9)
    for a, b in zip(mine.coefs_, peer.coefs_, strict=True):
        assert difference(a, b) <= 1e-7
    assert not hasattr(mine, "loss_curve_")
    assert not hasattr(mine, "partial_fit")


def test_lbfgs_gives_the_least_squares_of_several_outputs():
    X, y, _ = load("linnerud")
    mlp = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=0, tol=1e-10, random_state=0).fit(X, y)
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y)[0]
    # L-BFGS-B ends where the loss changes by less than 1e7 u ≈ 2e-9 of itself: the parameters are right to its root
    np.testing.assert_allclose(np.vstack([mlp.coefs_[0], mlp.intercepts_[0]]), solution, atol=5e-4)
    np.testing.assert_allclose(mlp.loss_, 0.5 * np.mean((mlp.predict(X) - y) ** 2), rtol=1e-12)


def test_lbfgs_of_several_outputs_has_scikit_learn_s_gradient_and_the_loss_of_it(monkeypatch):
    """Theirs goes with the mean over the outputs, whose gradient it isn't: the paths part."""
    X, y, _ = load("linnerud")
    minimize, handed = scipy.optimize.minimize, []

    def note(J, theta, *, args=(), **how):
        handed.append((lambda at: J(at, *args), theta.copy()))
        return minimize(J, theta, args=args, **how)

    monkeypatch.setattr(scipy.optimize, "minimize", note)
    for module in (ours, theirs):
        how = {"hidden_layer_sizes": (4,), "activation": "tanh", "alpha": 0.1, "random_state": 0, "max_iter": 1}
        module.MLPRegressor(solver="lbfgs", **how).fit(X, y)
    (J, theta), (peer_J, peer_theta) = handed
    gradient, peer_gradient = J(theta)[1].copy(), peer_J(peer_theta)[1].copy()
    # the parameters lie in another order
    np.testing.assert_allclose(np.sort(gradient), np.sort(peer_gradient), rtol=0, atol=1e-14)
    h = 1e-5 * np.random.default_rng(0).normal(size=len(theta))
    # h is some 6e-5 long: its cube is 2e-13, the rounding of J some 1e-15
    np.testing.assert_allclose(J(theta + h)[0] - J(theta - h)[0], 2 * gradient @ h, rtol=0, atol=1e-12)


def test_early_stopping_keeps_the_best_of_all_warm_fits():
    X, y, _ = load("wine")
    mlp = MLPClassifier(early_stopping=True, warm_start=True, max_iter=20, random_state=0, learning_rate_init=0.01)
    best = [a.copy() for a in mlp.fit(X, y).coefs_]
    assert mlp.best_validation_score_ == 1  # which nothing beats
    mlp.set_params(solver="sgd", learning_rate_init=1.0, max_iter=3).fit(X, y)
    assert len(mlp.loss_curve_) > 3
    assert all(np.array_equal(a, b) for a, b in zip(best, mlp.coefs_, strict=True))


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_lbfgs_with_weights_sparse_and_float32(kind):
    X, y, _ = load("wine")
    w = np.arange(len(y)) % 3.0
    how = {"solver": "lbfgs", "random_state": 1, "max_iter": 5, "hidden_layer_sizes": (6,)}
    mine, peer = getattr(ours, kind)(**how).fit(X, y, w), getattr(theirs, kind)(**how).fit(X, y, w)
    np.testing.assert_allclose(mine.loss_, peer.loss_, rtol=1e-9)
    of_sparse = getattr(ours, kind)(**how).fit(sparse.csc_matrix(X), y, w)
    np.testing.assert_allclose(of_sparse.loss_, peer.loss_, rtol=1e-9)
    single = getattr(ours, kind)(**how).fit(X.astype(np.float32), y, w)
    assert single.coefs_[0].dtype == np.float32
    np.testing.assert_allclose(single.loss_, peer.loss_, rtol=1e-4)


# ---- kinds of data


def test_float32_is_kept():
    X, y, kind = load("digits")
    X = X.astype(np.float32)
    # 27 steps of 1e-3 (ten times that with the momentum) along gradients of order 1, each right to 200 u = 1.2e-5,
    # beside entries of 0.2: 27 × 1e-2 × 1.2e-5 / 0.2. Not with Adam, which divides noise by noise where a feature is
    # constant.
    mine, peer = fit_both(kind, X, y, tolerance=2e-5, max_iter=3, solver="sgd")
    assert {a.dtype for a in mine.coefs_ + mine.intercepts_} == {np.dtype("float32")}
    assert mine.predict_proba(X).dtype == mine.predict_log_proba(X).dtype == np.float32
    np.testing.assert_allclose(mine.predict_proba(X), peer.predict_proba(X), atol=1e-4)
    assert MLPClassifier(max_iter=3).fit(X, y).coefs_[0].dtype == np.float32


@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "csr_array", "csc_array"])
@pytest.mark.parametrize(
    "more",
    [{}, {"early_stopping": True}, {"shuffle": False}, {"solver": "sgd", "alpha": 0.1, "hidden_layer_sizes": (70, 3)}],
    ids=str,
)
def test_sparse_is_as_dense(form, more):
    X, y = datasets.load_digits(return_X_y=True)
    X, y = X[:500], y[:500]
    how = {"max_iter": 3, "random_state": 1, "batch_size": 40, "dropout": 0.0, **more}
    dense = MLPClassifier(**how).fit(X, y)
    of_sparse = MLPClassifier(**how).fit(getattr(sparse, form)(X), y)
    for a, b in zip(of_sparse.coefs_ + of_sparse.intercepts_, dense.coefs_ + dense.intercepts_, strict=True):
        assert difference(a, b) < 1e-12
    np.testing.assert_allclose(of_sparse.loss_curve_, dense.loss_curve_, rtol=1e-12)
    assert of_sparse.validation_scores_ == dense.validation_scores_
    np.testing.assert_allclose(of_sparse.predict_proba(getattr(sparse, form)(X)), dense.predict_proba(X), atol=1e-12)


@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux counts it")
@pytest.mark.no_sanitizer
def test_sparse_is_never_dense_as_a_whole():
    """20,000 × 10,000 float32 would take 800 MB, in training and in prediction."""
    code = """
import numpy as np
from scipy import sparse
from nnkern.sklearn import MLPClassifier

draw = np.random.default_rng(0).integers
X = sparse.csc_matrix((np.ones(100_000, np.float32), (draw(20_000, size=100_000), draw(10_000, size=100_000))))
y = np.arange(X.shape[0]) % 2
mlp = MLPClassifier((2,), batch_size=100, max_iter=1, random_state=0, threads=2)
before = peak_bytes()
mlp.partial_fit(X, y, classes=[0, 1]).predict(X)
print(peak_bytes() - before)
"""
    done = subprocess.run([sys.executable, "-P", "-c", measured(code)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # a batch would be 4 MB, all of X 800
    assert int(done.stdout) < 20 * 2**20


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_of_outputs_that_are_NaN(classes):
    X = np.random.default_rng(0).normal(size=(30, 4))
    mlp = MLPClassifier((5,), max_iter=3, random_state=0).fit(X, np.arange(30) % classes)
    mlp.coefs_[0][1, 2] = np.nan
    with pytest.raises(ValueError, match="the outputs for example 0 hold NaN"):
        mlp.predict(X)


def test_labels_of_any_kind():
    X, y, _ = load("wine")
    names = np.array(["Barolo", "Grignolino", "Barbera"], dtype=object)[y]
    mine = MLPClassifier(random_state=1, max_iter=30).fit(X, names)
    assert list(mine.classes_) == ["Barbera", "Barolo", "Grignolino"]
    assert mine.score(X, names) > 0.9
    two = MLPClassifier(random_state=1, max_iter=30).fit(X, y > 0)
    assert two.predict(X).dtype == bool
    one = MLPClassifier(max_iter=2).fit(X, np.full(len(y), 7))
    assert np.array_equal(one.predict(X), np.full(len(y), 7))


def test_data_isnt_copied_where_it_needn_t_be():
    """X enters the engine as it stands, so a fit takes less memory than X has."""
    tracemalloc = pytest.importorskip("tracemalloc")
    X = np.random.default_rng(0).standard_normal((20_000, 100), dtype=np.float32)
    y = X[:, 0]
    mlp = MLPRegressor(hidden_layer_sizes=(4,), max_iter=1, random_state=0)
    mlp.fit(X[:1000], y[:1000])
    tracemalloc.start()
    try:
        mlp.fit(X, y)
        mlp.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # scikit-learn's check for NaN takes none of X's size where its sum is finite
    assert peak < X.nbytes / 4


# ---- beyond scikit-learn


def test_an_activation_for_each_layer():
    X, y, _ = load("wine")
    mlp = MLPClassifier((8, 6), ["tanh", "leaky_relu"], dropout=[0.1, 0.0], learning_rate_init=0.01, random_state=0)
    mlp.fit(X, y)
    assert [layer.activation for layer in mlp.network_.layers] == ["tanh", "leaky_relu", "softmax"]
    assert [layer.dropout for layer in mlp.network_.layers] == [0.1, 0.0, 0.0]
    assert mlp.score(X, y) > 0.95
    alike = MLPClassifier((8, 6), ["tanh", "tanh"], max_iter=2, random_state=0).fit(X, y)
    single = MLPClassifier((8, 6), "tanh", max_iter=2, random_state=0).fit(X, y)
    assert all(np.array_equal(a, b) for a, b in zip(alike.coefs_, single.coefs_, strict=True))


@pytest.mark.parametrize("loss", [name for name, loss in nk.losses.LOSSES.items() if not loss.classifies])
def test_losses_of_regression(loss):
    X, y, _ = load("diabetes")
    y = y - y.min() + 0.1
    mlp = MLPRegressor(loss, max_iter=40, random_state=0, learning_rate_init=0.01).fit(X, y)
    assert mlp.loss_curve_[-1] < mlp.loss_curve_[0]
    assert mlp.network_.loss == loss


@pytest.mark.parametrize("y_of", [lambda y: y, lambda y: y > 0, lambda y: np.eye(3, dtype=int)[y]])
def test_another_loss_of_classification(y_of):
    X, y, _ = load("wine")
    y = y_of(y)
    mlp = MLPClassifier(loss="squared_error", learning_rate_init=0.01, random_state=0).fit(X, y)
    assert mlp.score(X, y) > 0.9
    P = mlp.predict_proba(X)
    assert (P >= 0).all()
    assert (P <= 1).all()
    right = mlp.predict(X) == y
    in_all = MLPClassifier(loss="squared_error", max_iter=20, random_state=0).fit(X, y, eval_set=(X, y))
    right = (in_all.predict(X) == y).reshape(len(X), -1).all(axis=1)
    assert in_all.validation_scores_[-1] == right.mean()


def test_class_weight_is_sample_weight():
    X, y, _ = load("wine")
    how = {"max_iter": 5, "random_state": 0}
    by_class = MLPClassifier(class_weight={0: 1, 1: 2, 2: 0.5}, **how).fit(X, y)
    by_sample = MLPClassifier(**how).fit(X, y, np.array([1, 2, 0.5])[y])
    assert all(np.array_equal(a, b) for a, b in zip(by_class.coefs_, by_sample.coefs_, strict=True))
    balanced = MLPClassifier(class_weight="balanced", **how).fit(X, y)
    by_sample.fit(X, y, (len(y) / (3 * np.bincount(y)))[y])
    assert difference(balanced.coefs_[0], by_sample.coefs_[0]) < 1e-14
    with pytest.raises(ValueError, match="balanced"):
        balanced.partial_fit(X, y)


def test_a_class_that_class_weight_does_not_name_has_weight_1():
    """As scikit-learn has it; a label that no sample has is refused unless all classes are named."""
    X, y, _ = load("wine")
    y = np.array(["a", "b", "c"])[y]

    def weights(class_weight, X=X, y=y):
        mlp = MLPClassifier(class_weight=class_weight, max_iter=3, random_state=0)
        return [coef.tolist() for coef in mlp.fit(X, y).coefs_]

    expected = weights({"a": 1, "b": 4.0, "c": 1})
    for same in ({"b": 4.0}, {"b": 4, "c": np.float32(1)}, {"a": 1, "b": 4.0, "c": 1, "z": 9.0}):
        assert weights(same) == expected
        given = compute_sample_weight(same, y)  # scikit-learn's own
        assert [w.tolist() for w in MLPClassifier(max_iter=3, random_state=0).fit(X, y, given).coefs_] == expected
    words = "^class_weight names 'z', 3, which y has no samples of; its classes are 'a', 'b', 'c', and each "
    with pytest.raises(ValueError, match=words):
        weights({"a": 2.0, np.str_("z"): 3.0, 3: 1.0})
    for bad in (-1.0, np.nan, "much", None):
        with pytest.raises(ValueError, match=f"^class_weight of 'a' is {re.escape(repr(bad))}: it must be"):
            weights({"a": bad})
    with pytest.raises(ValueError, match="class_weight must be a dict of labels and weights where each sample has one"):
        weights([{"a": 1.0}])


def test_class_weights_of_classes_that_a_batch_lacks():
    X, y, _ = load("wine")
    mlp = MLPClassifier((4,), class_weight={2: 5.0}, random_state=0)
    other = clone(mlp).set_params(class_weight=None)
    for rows in (y < 9, y != 2, y == 2):
        mlp.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        other.partial_fit(X[rows], y[rows], np.where(y[rows] == 2, 5.0, 1.0), classes=[0, 1, 2])
    assert all(np.array_equal(a, b) for a, b in zip(mlp.coefs_, other.coefs_, strict=True))
    held = X[y != 2], y[y != 2]
    mlp.set_params(max_iter=2).fit(X, y, eval_set=held)
    assert len(mlp.validation_scores_) == 2


def test_label_smoothing():
    X, y, _ = load("wine")
    several = MLPClassifier(loss=nk.losses.CrossEntropy(label_smoothing=0.2), max_iter=3, random_state=0).fit(X, y)
    two = MLPClassifier(loss=nk.losses.BinaryCrossEntropy(label_smoothing=0.2), max_iter=3, random_state=0)
    two.fit(X, y > 0, eval_set=(X, y > 0))
    for mlp, classes in ((several, y), (two, (y > 0).astype(int))):
        Y = np.eye(len(mlp.classes_))[classes]
        smooth = 0.8 * Y + 0.2 / Y.shape[1]
        before = mlp.loss_curve_[-1]
        mlp.set_params(warm_start=True, max_iter=1, batch_size=len(X), alpha=0.0, shuffle=False)
        P = mlp.predict_log_proba(X)
        mlp.fit(X, classes if mlp is several else classes > 0)
        assert mlp.loss_ == pytest.approx(-(smooth * P).sum() / len(X))
        assert mlp.loss_ < before
    with pytest.raises(ValueError, match="is for sigmoid outputs, `y` of 3 classes is for softmax: use CrossEntropy"):
        clone(two).set_params(warm_start=False).fit(X, y)
    with pytest.raises(ValueError, match="is for softmax outputs, `y` of 2 classes is for sigmoid: use BinaryCrossEnt"):
        clone(several).set_params(warm_start=False).fit(X, y > 0)


def test_class_weights_of_several_labels_are_multiplied():
    X, y, _ = load("wine")
    Y = np.eye(3, dtype=int)[y]
    how = {"max_iter": 3, "random_state": 0}
    by_class = MLPClassifier(class_weight=[{0: 1, 1: 2}, {0: 3, 1: 1}, {0: 1, 1: 1}], **how).fit(X, Y)
    by_sample = MLPClassifier(**how).fit(X, Y, np.where(Y[:, 0], 2.0, 1.0) * np.where(Y[:, 1], 1.0, 3.0))
    assert difference(by_class.coefs_[0], by_sample.coefs_[0]) < 1e-14
    partly = MLPClassifier(class_weight=[{1: 2}, {0: 3}, {}], **how).fit(X, sparse.csr_matrix(Y))
    assert np.array_equal(partly.coefs_[0], by_class.coefs_[0])
    for bad in ({1: 2}, [{1: 2}], [2, 3, 4]):
        with pytest.raises(ValueError, match=r"class_weight must be .* a list of 3 dicts with weights of 0 and 1, one"):
            MLPClassifier(class_weight=bad, **how).fit(X, Y)
    with pytest.raises(ValueError, match=r"class_weight\[1\] names 5, which y has no samples of; its classes are 0, 1"):
        MLPClassifier(class_weight=[{}, {1: 2.0, 5: 3.0}, {}], **how).fit(X, Y)


def test_threads_change_nothing():
    X, y, _ = load("digits")
    one, two = (MLPClassifier(max_iter=2, random_state=0, threads=threads).fit(X, y) for threads in (1, 2))
    assert np.array_equal(one.coefs_[0], two.coefs_[0])
    assert np.array_equal(one.predict_proba(X), two.predict_proba(X))


def test_adamw_decays_weights():
    X, y, _ = load("wine")
    how = {"max_iter": 5, "random_state": 0, "alpha": 0}
    plain = MLPClassifier(**how).fit(X, y)
    none = MLPClassifier(solver="adamw", weight_decay=0.0, **how).fit(X, y)
    strong = MLPClassifier(solver="adamw", weight_decay=100.0, **how).fit(X, y)
    assert all(np.array_equal(a, b) for a, b in zip(plain.coefs_, none.coefs_, strict=True))
    assert np.abs(strong.coefs_[0]).max() < np.abs(plain.coefs_[0]).max()


def test_early_stopping_after_a_fit_with_an_eval_set():
    X, y, _ = load("wine")
    mlp = MLPClassifier(max_iter=3, random_state=0, warm_start=True).fit(X, y, eval_set=(X, y))
    mlp.set_params(early_stopping=True).fit(X, y)
    assert len(mlp.validation_scores_) == 6


def test_optimizers_of_nnkern_and_their_schedules():
    X, y, _ = load("wine")
    mlp = MLPClassifier(solver=nk.SGD(nk.schedules.Exponential(0.1, 0.5), momentum=0.9), max_iter=4, random_state=0)
    seen = []
    mlp.set_params(callbacks=lambda net, epoch, history: seen.append(history["learning_rate"][-1]))
    mlp.fit(X, y)
    assert seen == [0.1, 0.05, 0.025, 0.0125]
    assert clone(mlp).solver == mlp.solver
    assert MLPClassifier(solver=nk.RMSprop(1e-3), max_iter=50, random_state=0).fit(X, y).score(X, y) > 0.9


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
def test_learning_rates_of_any_type(kind, schedule):
    X, y, _ = load("wine")
    for rate in (1, np.int64(1), np.float32(0.1)):
        how = {"solver": "sgd", "learning_rate": schedule, "max_iter": 3, "momentum": 0, "random_state": 0}
        a, b = (
            getattr(ours, kind)(learning_rate_init=one, alpha=0.1, activation="tanh", **how).fit(0.1 * X, y)
            for one in (rate, float(rate))
        )
        assert a.loss_curve_ == b.loss_curve_

    def set_to_one(net, epoch, history):
        net.optimizer.learning_rate = 1

    losses = [
        MLPClassifier(solver=nk.SGD(one), callbacks=set_to_one, max_iter=3, random_state=0).fit(X, y).loss_curve_
        for one in (1, 1.0)
    ]
    assert losses[0] == losses[1]


def test_eval_set():
    X, y, _ = load("wine")
    mlp = MLPClassifier(max_iter=5, random_state=0).fit(X[::2], y[::2], eval_set=(X[1::2], y[1::2]))
    plain = MLPClassifier(max_iter=5, random_state=0).fit(X[::2], y[::2])
    assert all(np.array_equal(a, b) for a, b in zip(mlp.coefs_, plain.coefs_, strict=True))
    assert len(mlp.validation_scores_) == len(mlp.validation_loss_curve_) == 5
    assert mlp.validation_scores_[-1] == mlp.score(X[1::2], y[1::2])
    P = mlp.predict_proba(X[1::2])[np.arange(len(y[1::2])), y[1::2]]
    np.testing.assert_allclose(mlp.validation_loss_curve_[-1], -np.log(P).mean(), rtol=1e-12)
    stopped = MLPClassifier(max_iter=200, random_state=0, early_stopping=True, n_iter_no_change=3)
    stopped.fit(X[::2], y[::2], eval_set=(X[1::2], y[1::2], np.ones(len(y[1::2]))))
    assert stopped.score(X[1::2], y[1::2]) == stopped.best_validation_score_ == max(stopped.validation_scores_)
    with pytest.raises(ValueError, match="classes not in"):
        mlp.fit(X[y < 2], y[y < 2], eval_set=(X, y))
    with pytest.raises(ValueError, match="eval_set must be"):
        mlp.fit(X, y, eval_set=X)


def test_validation_of_regression_with_several_outputs():
    X, y, _ = load("linnerud")
    w = np.linspace(1, 2, len(X))
    mlp = MLPRegressor(max_iter=3, random_state=0).fit(X, y, eval_set=[X, y, w])
    np.testing.assert_allclose(mlp.validation_scores_[-1], mlp.score(X, y, w), rtol=1e-12)
    loss = 0.5 * np.average((mlp.predict(X) - y) ** 2, axis=0, weights=w).mean()
    np.testing.assert_allclose(mlp.validation_loss_curve_[-1], loss, rtol=1e-12)


def test_callbacks(tmp_path):
    X, y, _ = load("wine")
    stopping = nk.EarlyStopping(patience=2, monitor="val_cost")
    histories = []
    mlp = MLPClassifier(
        max_iter=300,
        random_state=0,
        learning_rate_init=0.1,
        callbacks=[
            stopping,
            nk.Checkpoint(tmp_path / "net.npz"),
            lambda net, epoch, history: histories.append((epoch, net.predict(X.T).shape, *history)),
        ],
    )
    mlp.fit(X[::2], y[::2], eval_set=(X[1::2], y[1::2]))
    assert mlp.n_iter_ == stopping.best_epoch + 3 < 300
    assert histories[-1] == (
        mlp.n_iter_ - 1, (3, len(X)), "cost", "learning_rate", "seconds", "val_cost", "val_score"
    )  # fmt: skip
    assert nk.load(tmp_path / "net.npz").loss == "cross_entropy"
    mlp.set_params(callbacks=nk.LearningRateSchedule(nk.schedules.Step(0.1, 0.1, 1)), max_iter=3).fit(X, y)
    with pytest.raises(ValueError, match="val_cost"):
        mlp.set_params(callbacks=stopping).fit(X, y)


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "sgd", "momentum": 1.0},
        {"solver": "sgd", "momentum": np.float32(0.5), "learning_rate_init": np.float32(0.1)},
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": np.float32(0.5)},
        {"solver": "adam", "beta_1": np.float32(0.9), "beta_2": np.float32(0.99), "epsilon": np.float32(1e-7)},
        {"solver": "adamw", "weight_decay": np.float32(0.1), "dropout": np.float32(0.25)},
    ],
    ids=str,
)
def test_checkpoints_of_any_settings_can_be_loaded(settings, tmp_path):
    X, y, _ = load("wine")
    how = {"hidden_layer_sizes": np.array([5]), "max_iter": 2, "random_state": np.int64(0), **settings}
    mlp = MLPClassifier(callbacks=nk.Checkpoint(tmp_path / "net.npz"), **how).fit(X, y)
    net = nk.load(tmp_path / "net.npz")
    assert net == mlp.network_
    assert net.optimizer == mlp.network_.optimizer
    net.fit(X.T, y, epochs=1, resume=True)


def test_progress(capsys):
    X, y, _ = load("wine")
    MLPClassifier(max_iter=3, progress=True).fit(X, y, eval_set=(X, y))
    said = capsys.readouterr()
    assert "epoch 3/3" in said.err
    assert "val_accuracy" in said.err
    assert said.out == ""


def test_dropout_follows_random_state():
    X, y, _ = load("wine")
    how = {"dropout": 0.5, "max_iter": 3}
    a, b, c = (MLPClassifier(random_state=seed, **how).fit(X, y).coefs_[0] for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_network_is_the_model():
    X, y, _ = load("wine")
    mlp = MLPClassifier(max_iter=3, random_state=0).fit(X, y)
    assert np.array_equal(mlp.network_.predict(X.T).T, mlp.predict_proba(X))
    assert np.array_equal(mlp.network_.parameters["W1"].T, mlp.coefs_[0])
    mlp.coefs_[0][:] = 0  # a view
    assert not mlp.network_.parameters["W1"].any()
    own = np.ones_like(mlp.coefs_[1])
    mlp.coefs_[1] = own  # another array in its place
    assert (mlp.network_.parameters["W2"] == 1).all()
    again = pickle.loads(pickle.dumps(mlp))
    assert np.array_equal(again.coefs_[1], own)
    assert np.array_equal(again.predict_proba(X), mlp.predict_proba(X))
    mlp.coefs_[1] = own[:-1]
    with pytest.raises(ValueError, match=r"coefs_\[1\] must have shape"):
        mlp.predict(X)
    with pytest.raises(NotFittedError):
        MLPClassifier().network_  # noqa: B018


# ---- with the rest of scikit-learn


def test_in_pipelines_searches_and_ensembles():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(
        StandardScaler(), MLPClassifier((8,), learning_rate_init=0.01, max_iter=40, random_state=0)
    )
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1.0]}, n_jobs=2, cv=3).fit(X, y)
    assert search.best_score_ > 0.95
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.95
    calibrated = CalibratedClassifierCV(pipeline, cv=3).fit(X, y)
    assert calibrated.score(X, y) > 0.95
    vote = VotingClassifier([("a", pipeline), ("b", clone(pipeline))], voting="soft").fit(X, y)
    assert vote.score(X, y) > 0.95
    importance = permutation_importance(search.best_estimator_, X, y, n_repeats=2, n_jobs=2, random_state=0)
    assert importance.importances_mean.max() > 0.002


def test_regressors_in_searches_and_ensembles():
    X, y, _ = load("diabetes")
    pipeline = make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(8,), learning_rate_init=0.05, max_iter=30, random_state=0)
    )
    search = GridSearchCV(pipeline, {"mlpregressor__alpha": [1e-4, 10.0]}, n_jobs=2, cv=3).fit(X, y)
    assert search.best_score_ > 0.4
    vote = VotingRegressor([("a", pipeline), ("b", clone(pipeline))]).fit(X, y)
    assert vote.score(X, y) > 0.4
    scaled = TransformedTargetRegressor(clone(pipeline), transformer=StandardScaler()).fit(X, 100 * y + 7)
    assert scaled.score(X, 100 * y + 7) > 0.4
    importance = permutation_importance(search.best_estimator_, X, y, n_repeats=2, random_state=0)
    assert importance.importances_mean.max() > 0.01


def test_metadata_is_routed_through_cross_validation():
    import sklearn

    X, y, _ = load("wine")
    w = np.linspace(0.1, 2, len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        mlp = MLPClassifier(max_iter=3, random_state=0).set_fit_request(sample_weight=True)
        mlp.set_score_request(sample_weight=True).set_partial_fit_request(sample_weight=True, classes=False)
        scores = cross_val_score(mlp, X, y, cv=3, params={"sample_weight": w})
    expected = []
    for train, test in StratifiedKFold(3).split(X, y):
        fitted = clone(mlp).fit(X[train], y[train], w[train])
        expected.append(fitted.score(X[test], y[test], w[test]))
    assert list(scores) == expected


def test_metadata_routing():
    import sklearn

    X, y, _ = load("wine")
    with sklearn.config_context(enable_metadata_routing=True):
        mlp = MLPClassifier(max_iter=2, random_state=0).set_fit_request(sample_weight=True, eval_set=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, mlp).fit(X, y, sample_weight=y + 1.0, eval_set=(X, y))
    weighted = MLPClassifier(max_iter=2, random_state=0).fit(StandardScaler().fit_transform(X), y, y + 1.0)
    assert np.array_equal(pipeline[-1].coefs_[0], weighted.coefs_[0])


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    X, y, _ = load("wine")
    frame = pandas.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    mlp = make_pipeline(StandardScaler(), MLPClassifier(max_iter=2, random_state=0)).set_output(transform="pandas")
    mlp.fit(frame, pandas.Series(y))
    assert list(mlp[-1].feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        mlp[-1].predict(frame[frame.columns[::-1]])


def test_parameters_and_defaults_are_scikit_learn_s():
    for kind in ("MLPClassifier", "MLPRegressor"):
        peer, mine = getattr(theirs, kind)().get_params(), getattr(ours, kind)().get_params()
        assert {name: mine[name] for name in peer} == peer


def test_copies_are_independent():
    X, y, _ = load("wine")
    mlp = MLPClassifier(max_iter=2, random_state=0, warm_start=True).fit(X, y)
    other = copy.deepcopy(mlp)
    before = [a.copy() for a in mlp.coefs_]
    other.fit(X, y)
    assert all(np.array_equal(a, b) for a, b in zip(before, mlp.coefs_, strict=True))
    assert not np.array_equal(other.coefs_[0], mlp.coefs_[0])
    # a new fit leaves alone what was handed out before
    kept = mlp.set_params(warm_start=False).coefs_
    mlp.set_params(random_state=1).fit(X, y)
    assert all(np.array_equal(a, b) for a, b in zip(before, kept, strict=True))


@pytest.mark.parametrize("more", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_estimators_read_from_mapped_files_train_on(more, tmp_path):
    X, y, _ = load("wine")
    mlp = MLPClassifier(max_iter=3, random_state=0, warm_start=True, **more).fit(X, y)
    joblib.dump(mlp, tmp_path / "mlp.joblib")
    before = (tmp_path / "mlp.joblib").read_bytes()
    mapped = joblib.load(tmp_path / "mlp.joblib", mmap_mode="r").fit(X, y)
    mlp.fit(X, y)
    assert all(np.array_equal(a, b) for a, b in zip(mapped.coefs_, mlp.coefs_, strict=True))
    assert (tmp_path / "mlp.joblib").read_bytes() == before


# ---- bad inputs, and what may happen


def test_without_scikit_learn_the_import_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None; import nnkern.sklearn"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=300)
    assert "MissingPackageError: nnkern.sklearn needs scikit-learn" in done.stderr
    assert 'pip install "nnkern[sklearn]"' in done.stderr


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes must be > 0"),
        ({"solver": "newton"}, "The 'solver' parameter of MLPClassifier must be"),
        ({"activation": "cosine"}, "The 'activation' parameter of MLPClassifier must be"),
        ({"activation": ["relu", "relu"]}, "activation must be one value or one for each of the 1 hidden layers"),
        ({"activation": ["cosine"]}, "activation must be one of"),
        ({"dropout": 1.0}, "The 'dropout' parameter"),
        ({"dropout": [0.5, 2.0], "hidden_layer_sizes": (5, 5)}, "dropout must be in"),
        ({"alpha": -1}, "The 'alpha' parameter"),
        ({"threads": 0}, "The 'threads' parameter"),
        ({"class_weight": "even"}, "The 'class_weight' parameter"),
        ({"solver": "lbfgs", "dropout": 0.5}, "dropout needs a stochastic solver"),
        ({"early_stopping": True, "validation_fraction": 0.005}, "validation set is too small"),
    ],
)  # fmt: skip
def test_bad_parameters(parameters, said):
    X, y, _ = load("wine")
    with pytest.raises(ValueError, match=said):
        MLPClassifier(**{"max_iter": 1, **parameters}).fit(X, y)


def test_bad_data():
    X, y, _ = load("wine")
    mlp = MLPClassifier(max_iter=1)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        mlp.fit(X, y + 0.5)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        mlp.fit(np.where(X > 2, np.nan, X), y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        mlp.fit(X, y[:-1])
    with pytest.raises(ValueError, match="at least one non-zero"):
        mlp.fit(X, y, np.zeros(len(y)))
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        mlp.partial_fit(X, y)
    with pytest.raises(NotFittedError):
        mlp.predict(X)
    mlp.partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes not in"):
        mlp.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 13"):
        mlp.predict(X[:, :2])
    with pytest.raises(ValueError, match="does not support early_stopping"):
        mlp.set_params(early_stopping=True).partial_fit(X, y)
    warm = MLPClassifier(max_iter=1, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="warm_start can only be used where"):
        warm.fit(X[y > 0], y[y > 0])
    with pytest.raises(ValueError, match=r"have \[100, 3\] units"):
        warm.set_params(hidden_layer_sizes=(7,)).fit(X, y)
    with pytest.raises(ValueError, match=r"several columns of y must be labels, 0 or 1"):
        MLPClassifier(max_iter=1).fit(X, np.c_[y, y])
    several = MLPClassifier(max_iter=1, warm_start=True).fit(X, np.eye(3, dtype=int)[y])
    with pytest.raises(ValueError, match="`y` is multiclass now"):
        several.fit(X, y)
    several = np.eye(3, dtype=int)[y]
    with pytest.raises(ValueError, match="`y` must have 3 columns of labels"):
        MLPClassifier(max_iter=1).fit(X, several, eval_set=(X, several[:, :2]))
    with pytest.raises(ValueError, match="at least one non-zero"):
        MLPClassifier(max_iter=1, class_weight={0: 0.0, 1: 0.0, 2: 0.0}).fit(X, y)
    with pytest.warns(UserWarning, match="going to be clipped") as told:
        MLPClassifier(max_iter=1, batch_size=1000).fit(X, y)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(1\) reached"):
        MLPClassifier(max_iter=1).fit(X, y)
    assert {one.filename for one in told} == {__file__}  # they point to who called


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_all_weights_are_zero_on_one_side_of_the_split(kind, form, monkeypatch):
    X, y, _ = load("wine")
    held, rest = np.arange(0, len(y), 10), np.delete(np.arange(len(y)), np.s_[::10])
    monkeypatch.setattr(processes, "train_test_split", lambda rows, **how: (rest, held))
    mlp = getattr(ours, kind)(early_stopping=True, max_iter=1, random_state=0)
    for zero, said in ((held, "the held-out samples"), (rest, "the training samples, those not held out,")):
        w = np.ones(len(y))
        w[zero] = 0
        with pytest.raises(ValueError, match=f"Sample weights of {said} must contain at least one non-zero number"):
            mlp.fit(form(X), y, w)
        assert not hasattr(mlp, "coefs_")
        w[zero[0]] = 1
        clone(mlp).fit(form(X), y, w)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_divergence_leaves_the_last_good_epoch(form):
    X, y, _ = load("diabetes")
    mlp = MLPRegressor(hidden_layer_sizes=(5,), solver="sgd", learning_rate_init=1e3, random_state=0)
    with pytest.raises(nk.DivergenceError, match=r"Solver produced non-finite parameter weights.*epoch \d+, batch \d+"):
        mlp.fit(form(X), y)
    assert all(np.isfinite(a).all() for a in mlp.coefs_)
    assert len(mlp.loss_curve_) == mlp.n_iter_


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_divergence_by_the_last_update_of_the_first_epoch(form):
    """The cost was finite: the weights tell. There is no epoch to go back to but the start."""
    mlp = MLPRegressor(
        hidden_layer_sizes=(), solver="sgd", learning_rate_init=1e307, momentum=0, max_iter=1, batch_size=4
    )
    with pytest.raises(nk.DivergenceError, match="epoch 0, batch 0"):
        mlp.fit(form(np.full((4, 3), 100.0)), np.arange(4.0))
    assert all(np.isfinite(a).all() for a in mlp.coefs_)
    assert mlp.loss_curve_ == []


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_an_error_of_a_loss_counts_the_epochs_before_it(form):
    """64 samples in batches of 16: five epochs, then two, an error in the third; the schedule says which they are."""
    X, y, _ = load("diabetes")
    X, y, epochs, calls = form(X[:64]), y[:64], [], []

    def loss(A, Y):
        calls.append(len(calls))
        if len(calls) == 4 * 7 + 2:
            raise OverflowError
        return ((A - Y) ** 2).mean(axis=0) / 2, A - Y

    def rate(epoch):
        epochs.append(epoch)
        return 0.01

    how = {"loss": loss, "solver": nk.Adam(rate), "batch_size": 16, "max_iter": 5, "warm_start": True}
    mlp = MLPRegressor(hidden_layer_sizes=(4,), **how, random_state=0)
    mlp.fit(X, y)
    with pytest.raises(OverflowError):
        mlp.fit(X, y)
    assert (mlp.n_iter_, mlp.t_, len(mlp.loss_curve_)) == (2, 64 * 7, 7)
    epochs.clear()
    mlp.set_params(alpha=0.1, activation="tanh").fit(X, y)
    assert epochs[0] == 7


def test_divergence_of_lbfgs():
    X, y, _ = load("diabetes")
    mlp = MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs", random_state=0)
    with np.errstate(all="ignore"), pytest.raises(nk.DivergenceError, match="non-finite"):
        mlp.fit(X, 1e200 * y)


def test_coefficients_of_another_number_of_layers_are_refused():
    X, y, _ = load("wine")
    mlp = MLPClassifier(max_iter=1, random_state=0, warm_start=True).fit(X, y)
    mlp.coefs_ = mlp.coefs_[:1]
    with pytest.raises(ValueError, match="coefs_ must have 2 arrays, got 1"):
        mlp.fit(X, y)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_ctrl_c_ends_the_training_with_a_warning(form):
    X, y, _ = load("digits")
    begun = threading.Event()

    def rate(epoch):
        begun.set()
        return 1e-3

    def interrupt():
        assert begun.wait(300)
        before = time.process_time()
        while time.process_time() < before + 0.3:  # of the thread that trains: it is in the midst of it then
            time.sleep(0.001)
        signal.raise_signal(signal.SIGINT)

    how = {"max_iter": 100_000, "tol": 0, "n_iter_no_change": np.inf, "random_state": 0}
    mlp = MLPClassifier((200, 200), solver=nk.Adam(rate), **how)
    threading.Thread(target=interrupt).start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mlp.fit(form(X), y)
    assert any("Training interrupted by user" in str(one.message) for one in caught)
    assert mlp.n_iter_ == len(mlp.loss_curve_)
    assert mlp.t_ == mlp.n_iter_ * len(X)
    assert all(np.isfinite(a).all() for a in mlp.coefs_)
    mlp.set_params(max_iter=1).fit(X, y)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_ctrl_c_between_two_epochs_ends_the_training_too(form):
    X, y, _ = load("digits")

    def rate(epoch):
        if epoch == 3:
            raise KeyboardInterrupt
        return 1e-3

    mlp = MLPClassifier((8,), solver=nk.Adam(rate), random_state=0, callbacks=[lambda net, epoch, history: False])
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        mlp.fit(form(X), y)
    assert mlp.n_iter_ == len(mlp.loss_curve_) == 3
    net = nk.Network([nk.Dense(1)], "squared_error", seed=0)
    with pytest.raises(KeyboardInterrupt):
        net.fit(np.ones((2, 3)), np.ones((1, 3)), epochs=9, optimizer=nk.Adam(rate), callbacks=[lambda *_: False])


def test_a_mistake_in_a_warm_fit_leaves_the_model_alone():
    X, y, _ = load("wine")
    mlp = MLPClassifier(max_iter=2, random_state=0, warm_start=True).fit(X, y)
    before = pickle.dumps(mlp)
    with pytest.raises(ValueError, match="NaN"):
        mlp.fit(X, y, np.full(len(y), np.nan))
    assert pickle.dumps(mlp) == before


# ---- leaks

REPEATED = {
    "fit": lambda mlp, X, y: mlp.fit(X, y),
    "partial_fit": lambda mlp, X, y: mlp.partial_fit(X, y).loss_curve_.clear(),
    "predict": lambda mlp, X, y: mlp.predict_proba(X),
    "fit, refused": lambda mlp, X, y: fails(mlp.fit, X, y[:-1]),
    "pickle": lambda mlp, X, y: pickle.loads(pickle.dumps(mlp)),
    "sparse": lambda mlp, X, y: mlp.fit(sparse.csr_array(X), y),
}


@pytest.mark.no_sanitizer
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("call", REPEATED.values(), ids=list(REPEATED))
def test_no_leaks(call):
    X, y = np.random.default_rng(0).standard_normal((20, 4)), np.arange(20) % 3
    mlp = MLPClassifier((5,), max_iter=2, random_state=0).fit(X, y)
    assert_no_leaks(lambda: call(mlp, X, y), [mlp, X, y], 500)


# ---- stopping by the held-out loss; targets whose spread is far from 1 ----


class Coefs(nk.Callback):
    """The parameters after each epoch."""

    def on_fit_begin(self, net):
        self.taken = []

    def on_epoch_end(self, net, epoch, history):
        self.taken.append({name: a.copy() for name, a in net.parameters.items()})


def held_out_loss(mlp, X, y):
    """Log loss, or the squared error that the estimator counts, from predictions."""
    if isinstance(mlp, MLPRegressor):
        return 0.5 * ((mlp.predict(X) - y) ** 2).mean()
    P = mlp.predict_proba(X)
    return -np.log(P[np.arange(len(y)), np.searchsorted(mlp.classes_, y)]).mean()


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "diabetes", "linnerud"])
def test_early_stopping_by_loss(name):
    X, y, kind = load(name)
    coefs = Coefs()
    mlp = getattr(ours, kind)(
        hidden_layer_sizes=(30,), early_stopping="loss", random_state=3, learning_rate_init=0.03, n_iter_no_change=5,
        tol=0.01, callbacks=coefs, max_iter=100, validation_fraction=0.3,
    ).fit(X, y)  # fmt: skip
    losses = np.array(mlp.validation_loss_curve_)
    best = int(losses.argmin())
    # the parameters of the epoch of the least loss, which isn't that of the best score
    assert all(np.array_equal(a, mlp.network_.parameters[name]) for name, a in coefs.taken[best].items())
    assert mlp.best_validation_loss_ == losses[best]
    assert mlp.best_validation_score_ == max(mlp.validation_scores_)
    # it ends where scikit-learn's rule for losses says: more than 5 epochs in a row without an improvement of tol
    lowest, without = np.inf, 0
    for epoch, loss in enumerate(losses):
        without = 0 if loss <= lowest - 0.01 else without + 1
        lowest = min(lowest, loss)
        assert (without > 5) == (epoch == len(losses) - 1)
    assert mlp.best_loss_ is None
    # the same samples are held out as with True, and the losses are theirs
    _, held = processes.train_test_split(
        np.arange(len(y)), random_state=_state_after_weights(kind, X, y), test_size=0.3,
        stratify=y if name == "breast_cancer" else None,  # as scikit-learn does, which stratifies two classes alone
    )  # fmt: skip
    assert held_out_loss(mlp, X[held], y[held]) == pytest.approx(losses[best], rel=1e-12)


def _state_after_weights(kind, X, y):
    """The random state after the initial weights of the network above are drawn."""
    rng = np.random.RandomState(3)
    n_y = 1 if y.ndim == 1 else y.shape[1]
    if kind == "MLPClassifier" and len(set(y)) > 2:
        n_y = len(set(y))
    for n_prev, n in [(X.shape[1], 30), (30, n_y)]:
        rng.uniform(size=(n_prev, n))
        rng.uniform(size=n)
    return rng


def test_early_stopping_by_loss_of_an_eval_set_and_of_warm_fits(capsys):
    X, y, _ = load("wine")
    eval_set = (X[1::2], y[1::2])
    mlp = MLPClassifier(early_stopping="loss", warm_start=True, max_iter=60, random_state=0, learning_rate_init=0.01)
    best = [a.copy() for a in mlp.fit(X[::2], y[::2], eval_set=eval_set).coefs_]
    assert mlp.best_validation_loss_ == min(mlp.validation_loss_curve_)
    assert held_out_loss(mlp, *eval_set) == pytest.approx(mlp.best_validation_loss_, rel=1e-12)
    # a further fit that finds nothing better leaves the best so far
    mlp.set_params(solver="sgd", learning_rate_init=3.0, max_iter=3).fit(X[::2], y[::2], eval_set=eval_set)
    assert len(mlp.validation_loss_curve_) == len(mlp.loss_curve_)
    assert mlp.best_validation_loss_ < min(mlp.validation_loss_curve_[-3:])
    assert all(np.array_equal(a, b) for a, b in zip(best, mlp.coefs_, strict=True))
    # by another measure the best of the losses is no longer it
    mlp.set_params(early_stopping=True, learning_rate_init=1e-9, verbose=True).fit(X[::2], y[::2], eval_set=eval_set)
    assert mlp.best_validation_score_ == max(mlp.validation_scores_)
    assert "Validation score: " in capsys.readouterr().out
    mlp.set_params(early_stopping="loss", warm_start=False, n_iter_no_change=1, max_iter=500, learning_rate_init=0.3)
    mlp.fit(X[::2], y[::2], eval_set=eval_set)
    out = capsys.readouterr().out
    assert "Validation loss: " in out
    assert "Validation loss did not improve more than tol=0.000100 for 1 consecutive epochs. Stopping." in out


def test_early_stopping_by_loss_is_a_parameter_like_others():
    X, y, _ = load("wine")
    mlp = MLPClassifier(early_stopping="loss", max_iter=3, random_state=0)
    assert clone(mlp).early_stopping == "loss"
    mlp.fit(X, y)
    again = pickle.loads(pickle.dumps(mlp))
    assert again.best_validation_loss_ == mlp.best_validation_loss_
    assert MLPClassifier(max_iter=1).fit(X, y).best_validation_loss_ is None
    with pytest.raises(ValueError, match="'early_stopping' parameter of MLPClassifier must be"):
        MLPClassifier(early_stopping="score").fit(X, y)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping='loss'"):
        mlp.partial_fit(X, y)


SPREAD = "has a standard deviation of"


@pytest.mark.parametrize(("spread", "warned"), [(0.099, True), (0.101, False), (1, False), (99, False), (101, True)])
def test_targets_whose_spread_is_far_from_1(spread, warned):
    X, y, _ = load("diabetes")
    y = 1e6 + spread * standardised(y)  # where they are says nothing
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MLPRegressor(max_iter=1).fit(X, y)
    texts = [str(one.message) for one in caught if SPREAD in str(one.message)]
    assert len(texts) == warned
    if warned:
        assert texts[0] == (
            f"`y` has a standard deviation of {spread:.3g}: solver 'adam' learns little of targets outside of 0.1 to "
            "100. Standardise them: sklearn.compose.TransformedTargetRegressor(MLPRegressor(…), "
            "transformer=StandardScaler())"
        )
        assert [one.filename for one in caught if SPREAD in str(one.message)] == [__file__]


@pytest.mark.parametrize(
    ("how", "method"),
    [
        ({"loss": "poisson"}, "fit"), ({"solver": "lbfgs"}, "fit"), ({}, "partial_fit"),
        ({"early_stopping": True}, "constant"),
    ],
    ids=str,
)  # fmt: skip
def test_no_word_of_the_spread_where_it_does_not_matter(how, method):
    X, y, _ = load("diabetes")
    y = np.abs(1e4 * y) if method != "constant" else np.full(len(y), 1e5)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", f".*{SPREAD}")
        mlp = MLPRegressor(max_iter=1, **how)
        getattr(mlp, "partial_fit" if method == "partial_fit" else "fit")(X, y)
        transformed = TransformedTargetRegressor(MLPRegressor(max_iter=1), transformer=StandardScaler())
        transformed.fit(X, 1e4 * load("diabetes")[1])


def test_the_spread_of_several_targets_and_of_the_largest_numbers():
    X, y, _ = load("linnerud")
    with pytest.warns(UserWarning, match="^Column 1 of `y` has a standard deviation of 1e\\+03: solver 'sgd'"):
        MLPRegressor(max_iter=1, solver="sgd", learning_rate_init=1e-9).fit(X, y * [1, 1000, 0.001])
    with pytest.warns(UserWarning, match="^`y` has a standard deviation of inf"), pytest.raises(nk.DivergenceError):
        MLPRegressor(max_iter=1).fit(X, 1e300 * y[:, 0])


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
def test_monitors_are_scikit_learns_metrics(name, as_sparse):
    X, y, _ = load(name)
    w = np.arange(len(y)) % 4.0
    held_out = slice(1, None, 2)
    stopping = nk.EarlyStopping(None, monitor="val_auc", ties="last")
    errors, losses = nk.EarlyStopping(None, monitor="val_error", restore_best=False), []

    def log_loss(labels, outputs):
        P = np.vstack([1 - outputs, outputs]) if len(outputs) == 1 else outputs
        losses.append(metrics.log_loss(labels, P.T.astype(np.float64)))
        return losses[-1]

    kept = nk.EarlyStopping(None, monitor=log_loss, restore_best=False)
    mlp = MLPClassifier(max_iter=6, random_state=0, callbacks=[errors, kept, stopping], learning_rate_init=0.01)
    if as_sparse:
        X = sparse.csr_matrix(X)
    mlp.fit(X[::2], y[::2], eval_set=(X[held_out], y[held_out], w[held_out]))
    P = mlp.predict_proba(X[held_out])
    more = {"multi_class": "ovr"} if name == "wine" else {}
    areas = metrics.roc_auc_score(y[held_out], P if more else P[:, 1], sample_weight=w[held_out], **more)
    assert stopping.best_value == pytest.approx(areas, rel=1e-12)
    assert errors.best_value == 1 - mlp.best_validation_score_
    assert kept.best_value == min(losses)
    assert losses[stopping.best_epoch] == pytest.approx(metrics.log_loss(y[held_out], P), rel=1e-12)


def test_without_a_random_state_the_generator_is_told_as_it_was():
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2

    def fitted(random_state):
        return MLPClassifier((5,), max_iter=3, random_state=random_state, early_stopping=True).fit(X, y)

    np.random.seed(3)  # noqa: NPY002, scikit-learn's convention
    first, second = fitted(None), fitted(None)
    assert not np.array_equal(first.coefs_[0], second.coefs_[0])
    for mlp in (first, second):
        again = fitted(copy.deepcopy(mlp.random_state_))
        assert all(np.array_equal(a, b) for a, b in zip(again.coefs_, mlp.coefs_, strict=True))
    # as scikit-learn's own, whose draws these are
    np.random.seed(3)  # noqa: NPY002
    assert np.array_equal(fitted(None).coefs_[0], first.coefs_[0])
    assert fitted(7).random_state_ == 7
