"""The estimators of tables within scikit-learn: its own checks, and what it does with estimators, on data frames."""

import inspect
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.7")
pytest.importorskip("narwhals")
pytest.importorskip("pyarrow")

from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from nnkern.tabular import Recipe, TabularClassifier, TabularRegressor

FEW = [Recipe(epochs=8, units=(16,))]
ENOUGH = [Recipe(epochs=40, units=(32,), learning_rate=0.01)]


def expected_failed_checks(estimator):
    """What an estimator that holds rows out can't have, each with its reason."""
    return {
        "check_sample_weight_equivalence_on_dense_data": (
            "a row twice is not a row of weight 2: which rows are held out, and which make a batch, differ"
        ),  # that a row of weight 0 is none is tested below
    }


@parametrize_with_checks(
    [TabularClassifier(preset="fast"), TabularRegressor(preset="fast")],
    expected_failed_checks=expected_failed_checks,
)
@pytest.mark.filterwarnings("ignore::nnkern.tabular.TabularWarning")
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("cls", [TabularClassifier, TabularRegressor])
def test_a_row_of_weight_0_is_none(cls):
    """The half of scikit-learn's check of weights that holds: what is kept has weights of its own, as there."""
    rng = np.random.default_rng(0)
    X, y, weight = rng.random((60, 5)), rng.integers(0, 3, 60), rng.integers(0, 4, 60)
    counts = weight > 0
    # rows that don't count are of other sizes, and of a class of their own
    X[~counts], y[~counts] = 100 * X[~counts], 7
    model = cls(recipes=FEW, random_state=0, threads=1).fit(X, y, sample_weight=weight)
    expected = clone(model).fit(X[counts], y[counts], sample_weight=weight[counts])
    method = "predict_proba" if is_classifier(model) else "predict"
    assert getattr(model, method)(X).tobytes() == getattr(expected, method)(X).tobytes()


@pytest.mark.parametrize("cls", [TabularClassifier, TabularRegressor])
def test_parameters_are_those_of_the_constructor(cls):
    named = set(inspect.signature(cls).parameters)
    defaults = {name: one.default for name, one in inspect.signature(cls).parameters.items()}
    assert cls().get_params() == defaults
    assert {
        "preset", "recipes", "n_estimators", "metric", "column_types", "validation_fraction", "time_limit",
        "random_state", "threads", "progress",
    } <= named  # fmt: skip
    assert ("class_weight" in named) == (cls is TabularClassifier)
    for name in named:
        assert f"{name} : " in cls.__doc__, name
        model = cls(**{name: "what is set"})
        assert getattr(model, name) == "what is set"
        assert model.get_params()[name] == clone(model).get_params()[name] == "what is set"
    assert cls().set_params(metric="x", threads=3).get_params()["threads"] == 3
    with pytest.raises(ValueError, match="nonsense"):
        cls().set_params(nonsense=1)
    with pytest.raises(TypeError):
        cls("fast")


def test_what_scikit_learn_takes_them_for():
    assert is_classifier(TabularClassifier())
    assert is_regressor(TabularRegressor())
    for cls in (TabularClassifier, TabularRegressor):
        tags = cls().__sklearn_tags__()
        assert tags.input_tags.allow_nan
        assert tags.input_tags.categorical
        assert not tags.input_tags.sparse


def columns(m=150, seed=0):
    rng = np.random.default_rng(seed)
    age, town = rng.normal(40, 12, m), rng.choice(["Ulm", "Bonn", "Kiel"], m).astype(object)
    hidden = (age - 40) / 12 + np.where(town == "Ulm", 1.5, -0.7)
    age[rng.random(m) < 0.1], town[rng.random(m) < 0.1] = np.nan, None
    return {"age": age, "noise": rng.normal(size=m), "town": town}, np.where(hidden > 0, "yes", "no"), 10 + hidden


@pytest.fixture(scope="module", params=["pandas", "polars"])
def frame(request):
    library = pytest.importorskip(request.param)
    return library.DataFrame(columns()[0])


LABELS, NUMBERS = columns()[1:]


def classifier(**options):
    return TabularClassifier(**{"recipes": ENOUGH, "random_state": 0, "threads": 1, **options})


def regressor(**options):
    return TabularRegressor(**{"recipes": ENOUGH, "random_state": 0, "threads": 1, **options})


@pytest.fixture(autouse=True)
def no_warning(request):
    """Frames keep their names on every way through scikit-learn: it would warn otherwise."""
    if "check" in request.fixturenames:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_cross_validation(frame):
    assert cross_val_score(classifier(), frame, LABELS, cv=3).min() > 0.75
    assert cross_val_score(classifier(), frame, LABELS, cv=3, scoring="roc_auc").min() > 0.85
    assert cross_val_score(regressor(), frame, NUMBERS, cv=3).min() > 0.6
    P = cross_val_predict(classifier(), frame, LABELS, cv=3, method="predict_proba")
    assert P.shape == (150, 2)
    assert ((P[:, 1] > 0.5) == (LABELS == "yes")).mean() > 0.75
    found = cross_validate(classifier(), frame, LABELS, cv=2, return_estimator=True)
    assert found["estimator"][0].feature_names_in_.tolist() == ["age", "noise", "town"]


def test_grid_search(frame):
    other = [Recipe(epochs=3, units=(8,))]
    grid = {"recipes": [other, ENOUGH], "n_estimators": [1, 2]}
    search = GridSearchCV(classifier(), grid, cv=StratifiedKFold(2), scoring="neg_log_loss").fit(frame, LABELS)
    assert search.best_params_["recipes"] == ENOUGH
    assert len(search.best_estimator_.networks_) == search.best_params_["n_estimators"]
    assert search.score(frame, LABELS) > -0.5
    assert search.predict(frame).shape == (150,)


def test_a_pipeline(frame):
    without_noise = FunctionTransformer(lambda X: X[["age", "town"]])
    pipeline = make_pipeline(without_noise, classifier()).fit(frame, LABELS)
    assert pipeline[-1].feature_names_in_.tolist() == ["age", "town"]
    assert pipeline.score(frame, LABELS) > 0.8
    assert pipeline.set_params(tabularclassifier__threads=2)[-1].threads == 2
    assert cross_val_score(pipeline, frame, LABELS, cv=2).min() > 0.7


def test_weights_and_eval_sets_through_a_pipeline(frame):
    rows, others, y, y_others = train_test_split(frame, LABELS, random_state=0)
    pipeline = make_pipeline("passthrough", classifier())
    options = {"sample_weight": np.ones(len(y)), "eval_set": (others, y_others)}
    pipeline.fit(rows, y, **{f"tabularclassifier__{name}": value for name, value in options.items()})
    alone = classifier().fit(rows, y, **options)
    assert pipeline.predict_proba(frame).tobytes() == alone.predict_proba(frame).tobytes()


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration(frame, method):
    model = CalibratedClassifierCV(classifier(), method=method, cv=2).fit(frame, LABELS)
    P = model.predict_proba(frame)
    assert ((P[:, 1] > 0.5) == (LABELS == "yes")).mean() > 0.8
    np.testing.assert_allclose(P.sum(axis=1), 1)


def test_permutation_importance_agrees_with_ones_own(frame):
    if not hasattr(frame, "iloc"):
        pytest.skip("scikit-learn shuffles columns of pandas' frames")
    model = regressor().fit(frame, NUMBERS)
    theirs = permutation_importance(
        model, frame, NUMBERS, scoring="neg_root_mean_squared_error", n_repeats=10, random_state=0
    ).importances_mean
    own = model.feature_importances(frame, NUMBERS, metric="rmse", n_repeats=10, random_state=0)
    for name, value in zip(frame.columns, theirs, strict=True):
        assert own[name] == pytest.approx(value, rel=0.3, abs=0.05)
    assert theirs.argmax() == list(frame.columns).index(next(iter(own)))


def test_ensembles_and_transformed_targets(frame):
    voting = VotingClassifier([("a", classifier()), ("b", classifier(random_state=1))], voting="soft")
    assert voting.fit(frame, LABELS).score(frame, LABELS) > 0.8
    model = TransformedTargetRegressor(regressor(), func=np.log, inverse_func=np.exp).fit(frame, NUMBERS)
    assert model.score(frame, NUMBERS) > 0.6


def test_scores(frame):
    model = classifier().fit(frame, LABELS)
    assert model.score(frame, LABELS) == (model.predict(frame) == LABELS).mean()
    weight = np.random.default_rng(0).random(150)
    right = model.predict(frame) == LABELS
    assert model.score(frame, LABELS, weight) == pytest.approx(np.average(right, weights=weight))
    model = regressor().fit(frame, NUMBERS)
    residual = ((model.predict(frame) - NUMBERS) ** 2).sum()
    assert model.score(frame, NUMBERS) == pytest.approx(1 - residual / ((NUMBERS - NUMBERS.mean()) ** 2).sum())


def test_the_same_bits_as_without_scikit_learn_around(frame):
    expected = classifier(recipes=FEW).fit(frame, LABELS).predict_proba(frame)
    assert (clone(classifier(recipes=FEW)).fit(frame, LABELS).predict_proba(frame) == expected).all()
    pipeline = make_pipeline("passthrough", classifier(recipes=FEW)).fit(frame, LABELS)
    assert (pipeline.predict_proba(frame) == expected).all()
