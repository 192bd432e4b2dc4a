"""The estimators of tables: what they take and refuse, labels of any type, warnings, the same bits.

Tables are small and trainings short: that a model is any good is shown by signals that no model could miss.
"""

import copy
import datetime as dt
import math
import pickle
import threading
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.7")
pytest.importorskip("narwhals")
pytest.importorskip("pyarrow")

import pyarrow as pa
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from tables import FEATURES, UTC, bits, classifier, outputs, people, regressor, replaced

from nnkern.tabular import METRICS, PRESETS, TabularClassifier, TabularRegressor, TabularWarning, base, frames

pytest_plugins = ["tables"]


# ---- what is learnt ----


def test_a_signal_in_numbers_and_categories_is_learnt(table, X):
    more = people(seed=1)
    model = classifier(32).fit(X, table["ill"].to_pylist())
    assert model.score(more.select(FEATURES), more["ill"].to_pylist()) > 0.8
    model = regressor(64).fit(X, table["cost"].to_numpy())
    assert model.score(more.select(FEATURES), more["cost"].to_numpy()) > 0.6


def test_attributes(fitted, fitted_regressor, X):
    for model in (fitted, fitted_regressor):
        assert model.n_features_in_ == 4
        assert model.feature_names_in_.tolist() == FEATURES
        assert model.feature_names_in_.dtype == object
        assert model.columns_.names == FEATURES
        assert model.network_ in model.networks_
        weights = model.model_.weights
        assert model.network_ is model.networks_[int(np.argmax(weights))]
        assert abs(weights.sum() - 1) < 1e-12
        assert [one["recipe"] for one in model.report_] == list(range(len(model.report_)))
        assert isinstance(model.score_, float)
        assert model.interrupted_ is False
        for word in ("median", "'Ulm'", "season", "seconds since 1970"):
            assert word in str(model.columns_)
        assert repr(model.columns_) == str(model.columns_)
    assert fitted.classes_.tolist() == ["no", "yes"]


@pytest.mark.parametrize("metric", [None, "mae", "r2"])
def test_scores_of_numbers_are_in_the_units_of_the_target(X, table, tmp_path, metric):
    """Prices in cents score a hundred times what they do in full; a share of the spread is what it was."""
    held, y = people(seed=1), table["cost"].to_numpy()
    cost = held["cost"].to_numpy()
    model = regressor(8, metric=metric).fit(X, y, eval_set=(held.select(FEATURES), cost))
    made = model.model_
    x = made.preprocessing.transform(frames.columns_of(held))
    (out,) = made.mean([net.predict(x) for net in made.networks]).astype(np.float64) * made.target.scale
    off = out + made.target.mean - cost
    rmse, mae = np.sqrt((off**2).mean()), np.abs(off).mean()
    expected = {None: rmse, "mae": mae, "r2": 1 - rmse**2 / cost.var()}[metric]
    assert model.score_ == pytest.approx(expected, rel=1e-5)
    assert model.report_[0]["score"] == pytest.approx(expected, rel=1e-5)
    assert {type(model.score_), type(model.report_[0]["score"])} == {float}
    model.save(tmp_path / "model.npz")
    loaded = TabularRegressor.load(tmp_path / "model.npz")
    assert (loaded.score_, loaded.report_) == (model.score_, model.report_)
    large = regressor(8, metric=metric).fit(X, 1024 * y, eval_set=(held.select(FEATURES), 1024 * cost))
    unit = 1 if metric == "r2" else 1024  # a power of two, so that what is learnt is the same to the bit
    assert large.score_ == unit * model.score_
    assert large.report_[0]["score"] == unit * model.report_[0]["score"]
    own, other = (m.feature_importances(held, k * cost, random_state=0) for m, k in ((model, 1), (large, 1024)))
    assert other == {name: unit * loss for name, loss in own.items()}


def test_outputs(fitted, fitted_regressor, X, table):
    P = fitted.predict_proba(X)
    assert P.shape == (120, 2)
    assert P.dtype == np.float64
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-6)
    assert fitted.predict(X).tolist() == fitted.classes_[P.argmax(axis=1)].tolist()
    cost = fitted_regressor.predict(X)
    assert cost.shape == (120,)
    assert cost.dtype == np.float64
    known = table["cost"].to_numpy()
    assert known.min() <= cost.min() <= cost.max() <= known.max()


def test_predictions_stay_within_the_range_of_training():
    x = np.linspace(0, 1, 80)[:, None]
    model = regressor(40).fit(x, 100 * x[:, 0])
    assert model.predict([[1e9], [-1e9]]).tolist() == model.predict([[1e12], [-1e12]]).tolist()
    assert set(model.predict([[1e9], [-1e9]])) <= set(np.clip(model.predict([[1e9], [-1e9]]), 0, 100))
    assert np.ptp(model.predict(x)) > 30


def test_every_library_gives_the_same_model(framed, fitted, X, y):
    model = classifier().fit(framed(X), y)
    assert bits(model, framed(X)) == bits(fitted, X)
    assert bits(fitted, framed(X)) == bits(fitted, X)
    assert model.feature_names_in_.tolist() == FEATURES


def test_the_target_by_its_column(framed, fitted, fitted_regressor, table, X):
    whole = framed(table)
    model = classifier(column_types={"cost": "ignore"}).fit(whole, "ill")
    assert "ill" not in model.feature_names_in_
    assert model.columns_.names == FEATURES
    assert bits(model, X.append_column("cost", table["cost"])) == bits(fitted, X)
    assert bits(regressor().fit(framed(table.drop_columns("ill")), "cost"), X) == bits(fitted_regressor, X)
    assert whole.columns is not None


def test_score_takes_the_name_of_a_column(framed, fitted, fitted_regressor, table):
    """As `fit` does: the target's column among others, of any library; the same number as of the column itself."""
    for model, name in ((fitted, "ill"), (fitted_regressor, "cost")):
        frame, column, w = framed(table), table[name].to_pylist(), np.arange(len(table)) % 3
        assert model.score(frame, name) == model.score(frame, column)
        assert model.score(frame, name, w) == model.score(frame, column, w) != model.score(frame, column)
    with pytest.raises(ValueError, match="X has no column 'well' to predict"):
        fitted.score(framed(table), "well")
    with pytest.raises(TypeError, match="y='ill' names a column of a data frame; X is of type ndarray"):
        fitted.score(np.ones((9, 4)), "ill")
    with pytest.raises(NotFittedError):
        classifier().score(framed(table), "ill")
    holes = table.set_column(table.schema.get_field_index("ill"), "ill", pa.nulls(len(table), pa.string()))
    with pytest.raises(ValueError, match="Input y contains NaN"):
        fitted.score(framed(holes), "ill")


def test_a_dict_of_columns(fitted, X, y):
    columns = {name: X[name].to_pylist() for name in FEATURES}
    assert bits(classifier().fit(columns, y), columns) == bits(fitted, X)


def test_what_is_handed_in_stays_as_it_is(y):
    pd = pytest.importorskip("pandas")
    frame = people().select(FEATURES).to_pandas()
    frame.columns = ["age", "town", 2, "since"]
    before = frame.copy()
    model = classifier().fit(frame, y)
    model.predict(frame)
    model.explain(frame, steps=2)
    model.feature_importances(frame, y, n_repeats=1)
    pd.testing.assert_frame_equal(frame, before)
    A = np.random.default_rng(0).normal(size=(40, 3))
    A.flags.writeable = False
    regressor().fit(A, A[:, 0]).predict(A)


# ---- columns at prediction ----


def test_columns_go_by_name(either, X, framed):
    swapped = X.select(["since", "member", "town", "age"]).append_column("more", pa.array(["x"] * 120))
    swapped = swapped.append_column("nested", pa.array([[1]] * 120))
    assert bits(either, framed(swapped)) == bits(either, X)


def test_missing_columns_are_named(either, X, framed):
    with pytest.raises(ValueError, match=r"X lacks the columns 'town', 'member', .*it has 'since', 'age'"):
        either.predict(framed(X.select(["since", "age"])))
    with pytest.raises(ValueError, match="X lacks the column 'since'"):
        outputs(either, X.drop_columns("since"))


def test_a_column_that_was_left_out_need_not_be_there(X, y):
    model = classifier(column_types={"since": "ignore"}).fit(X, y)
    assert bits(model, X.drop_columns("since")) == bits(model, X)
    assert model.feature_names_in_.tolist() == FEATURES


def test_texts_among_numbers_at_prediction(either, X):
    values = X["age"].to_pylist()
    written = replaced(X, "age", [None if v is None else repr(v) for v in values])
    assert bits(either, written) == bits(either, X)
    values[7] = "forty"
    with pytest.raises(ValueError, match="column 'age' of X, row 7 holds 'forty', and must hold numbers, by what tr"):
        either.predict(replaced(X, "age", [None if v is None else str(v) for v in values]))


def test_dates_among_numbers_at_prediction(either, X):
    with pytest.raises(ValueError, match="column 'age' of X must hold numbers; got timestamp"):
        either.predict(replaced(X, "age", X["since"].to_pylist()))
    with pytest.raises(ValueError, match="column 'since' of X must hold dates or times; got double"):
        either.predict(replaced(X, "since", X["age"].to_pylist()))


def test_zones_that_come_and_go(either, X, y):
    aware = replaced(X, "since", [v.replace(tzinfo=UTC) for v in X["since"].to_pylist()], pa.timestamp("us", "UTC"))
    with pytest.raises(ValueError, match="the times in column 'since' of X have a zone, and had none in training"):
        either.predict(aware)
    model = classifier().fit(aware, y)
    with pytest.raises(ValueError, match="the times in column 'since' of X have no zone, and had one in training"):
        model.predict(X)


def test_categories_never_seen_are_as_missing(either, X):
    unseen, missing = (replaced(X, "town", [value] * 120, pa.string()) for value in ("Rom", None))
    assert bits(either, unseen) == bits(either, missing)
    assert bits(either, unseen) != bits(either, X)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinity_at_prediction(either, X, value, framed):
    with pytest.raises(ValueError, match=f"column 'age' of X, row 3 holds {value}"):
        either.predict(framed(replaced(X, "age", [1.0, None, 2.0, value] + [3.0] * 116)))


def test_an_array_after_a_frame(y):
    """By place, in the order of training; scikit-learn warns of the lack of names."""
    table = people().select(["age", "member"])
    model = classifier().fit(table, y)
    A = np.column_stack([table["age"].to_numpy(), table["member"].to_numpy()]).astype(float)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        P = model.predict_proba(A.astype(object))
    assert P.shape == (120, 2)
    with (
        pytest.warns(UserWarning, match="does not have valid feature names"),
        pytest.raises(ValueError, match="X has 3 features, but TabularClassifier is expecting 2 features"),
    ):
        model.predict(np.ones((4, 3)))


def test_an_array_after_a_frame_of_numbers():
    table = pa.table({"b": np.arange(60.0) % 7, "a": np.arange(60.0) % 11})
    A = np.column_stack([table["b"].to_numpy(), table["a"].to_numpy()])
    y = A[:, 0] > 3
    of_frame, of_array = classifier().fit(table, y), classifier().fit(A, y)
    assert bits(of_frame, table) == bits(of_array, A)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        assert bits(of_frame, A) == bits(of_array, A)
    assert not hasattr(of_array, "feature_names_in_")
    assert of_array.n_features_in_ == 2


def test_a_dict_after_an_array():
    A = np.random.default_rng(0).normal(size=(60, 2))
    model = regressor().fit(A, A[:, 0])
    columns = {"a": A[:, 0], "b": A[:, 1]}
    with pytest.raises(TypeError, match=r"X must be an array with 2 columns, as in training, .* no names; got dict"):
        model.predict(columns)
    with pytest.raises(TypeError, match="eval_set's X must be an array with 2 columns"):
        model.fit(A, A[:, 0], eval_set=(columns, A[:, 0]))


def test_a_list_of_rows_and_the_name_of_a_file_are_told_what_makes_a_table(tmp_path, X, y):
    """scikit-learn's words for them propose a reshape."""
    rows = X.to_pylist()
    model = classifier().fit(X, y)
    calls = (
        lambda given: classifier().fit(given, y),
        model.predict,
        model.predict_proba,
        lambda given: model.feature_importances(given, y),
        lambda given: classifier().fit(X, y, eval_set=(given, y)),
    )
    for call in calls:
        with pytest.raises(TypeError, match=r"this is a list of dicts, one a row: pandas.DataFrame\(rows\) or pyarrow"):
            call(rows)
        for path in ("table.csv", tmp_path / "table.csv"):
            with pytest.raises(TypeError, match=r"a table is expected, got the text .*table\.csv.*pandas\.read_csv$"):
                call(path)
    with pytest.raises(TypeError, match=r"a table is expected, got the text 'table\.csv'"):
        classifier().fit("table.csv", "bought")
    assert bits(model, pa.Table.from_pylist(rows)) == bits(model, X)


def test_a_dict_whose_columns_can_count_their_nulls(X, y):
    """Series of polars and arrays of pyarrow, in place of columns that were checked already."""
    pl = pytest.importorskip("polars")
    expected = bits(classifier().fit(X, y), X)
    for series in (lambda column: pl.from_arrow(column), lambda column: column.combine_chunks()):
        columns = {name: series(X[name]) for name in X.column_names}
        assert bits(classifier().fit(columns, y), columns) == expected
    with pytest.raises(ValueError, match="the columns of X have different lengths: 'age' 120, 'town' 60"):
        classifier().fit({"age": X["age"], "town": X["town"][:60]}, y)


def test_a_frame_after_an_array():
    pd = pytest.importorskip("pandas")
    A = np.random.default_rng(0).normal(size=(60, 2))
    model = classifier().fit(A, A[:, 0] > 0)
    with pytest.warns(UserWarning, match="X has feature names, but TabularClassifier was fitted without"):
        assert bits(model, pd.DataFrame(A, columns=["b", "a"])) == bits(model, A)


def test_the_other_kind_of_table_on_a_refit(X, y):
    model = classifier().fit(X, y)
    A = np.random.default_rng(0).normal(size=(120, 3))
    model.fit(A, y)
    assert not hasattr(model, "feature_names_in_")
    assert bits(model, A) == bits(classifier().fit(A, y), A)


def test_arrays_of_objects():
    """Each column has its own type."""
    table = people().select(["age", "town", "member"])
    A = np.array([list(row.values()) for row in table.to_pylist()], object)
    y = people()["ill"].to_pylist()
    assert bits(classifier().fit(A, y), A) == bits(classifier().fit(table, y), table)


@pytest.mark.parametrize("dtype", ["<U4", object])
def test_arrays_of_texts(dtype):
    rng = np.random.default_rng(0)
    A = np.column_stack([rng.choice(list("abc"), 100), rng.choice(list("xy"), 100)]).astype(dtype)
    model = classifier(40).fit(A, (A[:, 0] == "a").astype(int))
    assert model.predict([["a", "x"], ["b", "x"], ["a", "y"], ["c", "y"]]).tolist() == [1, 0, 1, 0]


# ---- refusals ----


REFUSED = {
    "twice the same name": (lambda X: X.append_column("age", X["town"]), ValueError, "several columns named 'age'"),
    "nested": (
        lambda X: X.append_column("l", pa.array([[1]] * 120)).append_column("s", pa.array([{"a": 1}] * 120)),
        TypeError,
        r"'l' \(list<.*'s' \(struct<.*ignore",
    ),
    "no column": (lambda X: X.select([]), ValueError, "X has no columns"),
    "no row": (lambda X: X.slice(0, 0), ValueError, "X has 0 rows"),
    "no array": (lambda X: 7, ValueError, "Expected 2D array"),
    "None": (lambda X: None, ValueError, "Expected 2D array"),
    "one array": (lambda X: np.ones(120), ValueError, "Reshape your data"),
    "three axes": (lambda X: np.ones((120, 2, 2)), ValueError, "dim 3|3D"),
    "sparse": (lambda X: sparse.csr_matrix(np.eye(120)), TypeError, "[Ss]parse"),
    "complex": (lambda X: np.ones((120, 2), complex), ValueError, "Complex data not supported"),
    "complex column": (lambda X: {"a": np.ones(120, complex)}, ValueError, "Complex data not supported: column 'a'"),
    "infinite array": (
        lambda X: np.where(np.arange(240).reshape(120, 2) == 7, -np.inf, 1.0),
        ValueError,
        "X contains infinity: row 3, column 1",
    ),
    "infinite column": (
        lambda X: replaced(X, "age", [1.0] * 9 + [math.inf] * 111),
        ValueError,
        "column 'age' of X, row 9 holds inf",
    ),
    "objects": (
        lambda X: {"a": np.array([1.5, "x", {1}] * 40, object)},
        TypeError,
        "column 'a' of X, row 2 holds a set",
    ),
    "bytes": (lambda X: {"a": [b"a", b"b"] * 60}, TypeError, "'a'"),
    "columns of other lengths": (lambda X: {"a": [1, 2], "b": [1]}, ValueError, "length"),
}


@pytest.mark.parametrize(("change", "error", "words"), REFUSED.values(), ids=list(REFUSED))
def test_tables_that_are_refused(change, error, words, X, y):
    """The estimator stays as it was: fitted, or not."""
    new, old = classifier(), classifier().fit(X, y)
    before = bits(old, X)
    for model in (new, old):
        with pytest.raises(error, match=words):
            model.fit(change(X), y)
    assert bits(old, X) == before
    with pytest.raises(NotFittedError):
        new.predict(X)


TARGETS = {
    "fewer": (lambda y: y[:-1], ValueError, "X has 120 rows, y has 119"),
    "None": (lambda y: None, ValueError, "requires y to be passed"),
    "one class": (lambda y: ["a"] * 120, ValueError, "y has one class only, 'a'"),
    "holes in texts": (lambda y: [None, None, *y[2:]], ValueError, "2 of 120 values are missing, the first in row 0"),
    "holes in an array of pyarrow": (
        lambda y: pa.array([*y[:50], None, *y[51:]]),
        ValueError,
        "1 of 120 values are missing, the first in row 50",
    ),
    "holes in whole numbers of pyarrow": (
        lambda y: pa.chunked_array([pa.array([0, 1] * 30), pa.array([None, 1] * 30)]),
        ValueError,
        "30 of 120 values are missing, the first in row 60",
    ),
    "NaN": (lambda y: [0.0, 1.0, math.nan] * 40, ValueError, "40 of 120 values are missing, the first in row 2"),
    "two columns": (lambda y: np.zeros((120, 2)), ValueError, "1d array|two"),
    "fractions": (lambda y: np.linspace(0, 1, 120), ValueError, "continuous"),
    "dates": (lambda y: np.array(["2020-01-01", "2020-01-02"] * 60, "datetime64[D]"), TypeError, "labels must be"),
    "dates of pyarrow": (lambda y: pa.array([dt.date(2020, 1, 1), dt.date(2020, 1, 2)] * 60), TypeError, "labels must"),
    "bytes": (lambda y: np.array([b"a", b"b"] * 60), TypeError, "bytes"),
    "texts and numbers": (lambda y: np.array([1, "a"] * 60, object), TypeError, "values of several types"),
    "column that isn't there": (lambda y: "illness", ValueError, "X has no column 'illness' to predict, but 'age', 't"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "error", "words"), TARGETS.values(), ids=list(TARGETS))
def test_labels_that_are_refused(change, error, words, X, y):
    old = classifier().fit(X, y)
    before = bits(old, X)
    with pytest.raises(error, match=words):
        old.fit(X, change(y))
    assert bits(old, X) == before
    assert old.classes_.tolist() == ["no", "yes"]


def test_holes_in_targets_of_other_libraries(X):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    labels, numbers = ["a", "b", None] * 40, [1, 5, None] * 40
    for dtype, values in (("object", labels), ("str", labels), ("string", labels), ("category", labels)):
        with pytest.raises(ValueError, match="40 of 120 values are missing, the first in row 2"):
            classifier().fit(X, pd.Series(values, dtype=dtype))
    for one in (pd.Series(numbers, dtype="Int64"), pd.Series(numbers, dtype="float64"), pl.Series(numbers)):
        for model in (classifier(), regressor()):
            with pytest.raises(ValueError, match="40 of 120 values are missing, the first in row 2"):
                model.fit(X, one)
    with pytest.raises(ValueError, match="40 of 120 values are missing, the first in row 2"):
        classifier().fit(pd.DataFrame({"x": range(120), "y": labels}), "y")


NUMBERS = {
    "holes": (lambda y: [1.0, None, 2.0] * 40, ValueError, "40 of 120 values are missing, the first in row 1"),
    "infinity": (lambda y: [1.0] * 119 + [math.inf], ValueError, "y contains infinity .* row 119"),
    "texts": (
        lambda y: ["a", "b"] * 60,
        ValueError,
        "y must hold numbers, row 0 holds 'a': TabularClassifier predicts labels",
    ),
    "too large": (lambda y: [1e308, -1e308] * 60, ValueError, r"y has values too large to be standardised"),
    "complex": (lambda y: np.ones(120, complex), (TypeError, ValueError), "[Cc]omplex"),
    "fewer": (lambda y: y[:7], ValueError, "X has 120 rows, y has 7"),
}


@pytest.mark.parametrize(("change", "error", "words"), NUMBERS.values(), ids=list(NUMBERS))
def test_numbers_to_predict_that_are_refused(change, error, words, X, table):
    y = table["cost"].to_numpy()
    old = regressor().fit(X, y)
    before = bits(old, X)
    with pytest.raises(error, match=words):
        old.fit(X, change(y))
    assert bits(old, X) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_a_training_that_fails_leaves_the_model(X, y, monkeypatch, error):
    model = classifier().fit(X, y)
    before, columns = bits(model, X), str(model.columns_)

    def fails(*arguments, **options):
        raise error("amid training")

    monkeypatch.setattr(base, "train", fails)
    A = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(error):
        model.fit(A, np.arange(50) % 3)
    assert bits(model, X) == before
    assert (str(model.columns_), model.classes_.tolist()) == (columns, ["no", "yes"])
    assert model.predict_one(X.to_pylist()[0]) in ("no", "yes")


def test_a_target_by_name_needs_names():
    with pytest.raises(TypeError, match="y='ill' names a column of a data frame; X is of type ndarray"):
        classifier().fit(np.ones((9, 2)), "ill")


@pytest.mark.parametrize("model", [classifier(), regressor()], ids=["classifier", "regressor"])
def test_one_row(model):
    for X in (np.ones((1, 2)), pa.table({"a": [1.0]})):
        with pytest.raises(ValueError, match="X has 1 sample: at least two rows"):
            model.fit(X, [1])


def test_no_rows_at_prediction(either, X, framed):
    with pytest.raises(ValueError, match="X has 0 rows: at least one is needed"):
        either.predict(framed(X.slice(0, 0)))


def test_nothing_to_learn_from(X, y):
    nothing = pa.table({"one": [1] * 120, "none": pa.nulls(120)})
    with (
        pytest.warns(TabularWarning),
        pytest.raises(ValueError, match=r"X has no column to learn from: 'one' \(constant\); 'none' \(all missing\)"),
    ):
        classifier().fit(nothing, y)
    with pytest.raises(ValueError, match="no column to learn from"):
        classifier(column_types=dict.fromkeys(FEATURES, "ignore")).fit(X, y)


def test_a_lazy_frame(X, y):
    pl = pytest.importorskip("polars")
    lazy = pl.from_arrow(X).lazy()
    with pytest.raises(TypeError, match="collect"):
        classifier().fit(lazy, y)
    with pytest.raises(TypeError, match="collect"):
        classifier().fit(X, y).predict(lazy)


def test_predictions_before_fit(X):
    for model in (classifier(), regressor()):
        for call in (
            lambda model=model: model.predict(X),
            lambda model=model: model.predict_one({}),
            lambda model=model: model.explain(X),
            lambda model=model: model.feature_importances(X, [1] * 120),
            lambda model=model: model.save("never.npz"),
        ):
            with pytest.raises(NotFittedError, match="not fitted"):
                call()


PARAMETERS = {
    "preset": ("fastest", "preset"),
    "recipes": (7, "recipes"),
    "n_estimators": (0, "n_estimators"),
    "metric": ("beauty", "metric"),
    "column_types": (["age"], "column_types"),
    "validation_fraction": (1.0, "validation_fraction"),
    "time_limit": (0, "time_limit"),
    "random_state": ("x", "random_state"),
    "threads": (0, "threads"),
    "progress": ("loud", "progress"),
}


@pytest.mark.parametrize(("name", "value", "words"), [(n, *v) for n, v in PARAMETERS.items()], ids=list(PARAMETERS))
def test_parameters_that_are_refused(name, value, words, X, y):
    with pytest.raises(ValueError, match=f"The '{words}' parameter of TabularClassifier must be"):
        classifier(**{name: value}).fit(X, y)


def test_metrics_of_the_other_task(X, table):
    with pytest.raises(ValueError, match=r"metric 'rmse' is of numbers, .* use one of log_loss"):
        classifier(metric="rmse").fit(X, table["ill"])
    with pytest.raises(ValueError, match=r"metric 'auc' is of classes, .* use one of rmse"):
        regressor(metric="auc").fit(X, table["cost"])


def test_columns_types_that_are_refused(X, y):
    with pytest.raises(ValueError, match="column_types names 'height', which X doesn't have; it has 'age', 'town'"):
        classifier(column_types={"height": "number"}).fit(X, y)
    with pytest.raises(ValueError, match=r"column_types must be .*; got {'age': 'numeric'}"):
        classifier(column_types={"age": "numeric"}).fit(X, y)


WEIGHTS = {
    "negative": (lambda m: np.r_[-1.0, np.ones(m - 1)], "[Nn]egative"),
    "zero": (np.zeros, "zero"),
    "fewer": (lambda m: np.ones(m - 1), "sample_weight"),
    "NaN": (lambda m: np.r_[np.nan, np.ones(m - 1)], "sample_weight contains NaN"),
    "infinite": (lambda m: np.r_[np.inf, np.ones(m - 1)], "sample_weight contains infinity"),
    "two columns": (lambda m: np.ones((m, 2)), "1D"),
}


@pytest.mark.parametrize(("make", "words"), WEIGHTS.values(), ids=list(WEIGHTS))
def test_weights_that_are_refused(make, words, X, table):
    for model, y in ((classifier(), "ill"), (regressor(), "cost")):
        with pytest.raises(ValueError, match=words):
            model.fit(X, table[y].to_pylist(), sample_weight=make(120))


def test_weights_that_are_all_zero_are_refused_whatever_scikit_learn_says(X, y, monkeypatch):
    """Up to 1.8 its check lets them pass."""
    monkeypatch.setattr(base, "check_sample_weight", lambda weight, *_, **how: np.asarray(weight, np.float64))
    with pytest.raises(ValueError, match=r"^sample_weight is zero for every row: at least one must count$"):
        classifier().fit(X, y, sample_weight=np.zeros(120))


EVAL_SETS = {
    "a frame": (lambda X, y: X, "eval_set must be .X, y. or .X, y, sample_weight.; got Table"),
    "a tuple of one": (lambda X, y: (X,), "eval_set must be"),
    "two of them": (lambda X, y: [(X, y), (X, y)], "eval_set must be"),
    "fewer labels": (lambda X, y: (X, y[1:]), "eval_set's X has 120 rows, its y 119"),
    "holes": (lambda X, y: (X, [None, *y[1:]]), "eval_set's y contains NaN: 1 of 120 values .* row 0"),
    "a label of none": (lambda X, y: (X, [*y[:5], "maybe", *y[6:]]), "eval_set's y, row 5 holds 'maybe', .*: 'no', "),
    "other columns": (lambda X, y: (X.drop_columns(["town", "age"]), y), "eval_set's X lacks the columns 'age', 't"),
    "an array of other columns": (lambda X, y: (np.ones((120, 3)), y), "eval_set's X has 3 columns, X has 4"),
    "texts among numbers": (
        lambda X, y: (replaced(X, "age", ["old"] * 120), y),
        "column 'age' of eval_set's X, row 0 holds 'old'",
    ),
    "the target's name": (lambda X, y: (X, "ill"), "eval_set's X has no column 'ill'"),
    "negative weights": (lambda X, y: (X, y, -np.ones(120)), "[Nn]egative"),
    "no rows": (lambda X, y: (X.slice(0, 0), []), "eval_set's X has 0 rows"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "words"), EVAL_SETS.values(), ids=list(EVAL_SETS))
def test_eval_sets_that_are_refused(make, words, X, y):
    with pytest.raises(ValueError, match=words):
        classifier().fit(X, y, eval_set=make(X, y))


def test_an_eval_set_of_any_form_is_the_same(X, y, framed):
    more = people(60, seed=5)
    others, labels = more.select(FEATURES[::-1]), more["ill"]
    expected = bits(classifier().fit(X, y, eval_set=(others, labels.to_pylist())), X)
    whole = X.append_column("ill", pa.array(y))
    for model in (
        classifier().fit(X, y, eval_set=(framed(others), labels)),
        classifier().fit(framed(X), y, eval_set=[(others, labels)]),
        classifier().fit(X, y, eval_set=(others, labels, None)),
        classifier().fit(framed(whole), "ill", eval_set=(framed(more), "ill")),
    ):
        assert bits(model, X) == expected


def test_an_eval_set_of_arrays():
    A = np.random.default_rng(0).normal(size=(80, 2))
    y = A[:, 0] > 0
    expected = bits(classifier().fit(A[:60], y[:60], eval_set=(A[60:], y[60:])), A)
    assert bits(classifier().fit(A[:60], y[:60], eval_set=(A[60:].tolist(), y[60:].tolist())), A) == expected
    weighted = classifier().fit(A[:60], y[:60], eval_set=(A[60:], y[60:], np.ones(20)))
    assert bits(weighted, A) == expected
    table = pa.table({"a": A[:60, 0], "b": A[:60, 1]})
    named = classifier().fit(table, y[:60], eval_set=(A[60:], y[60:]))
    assert bits(named, table) == bits(classifier().fit(A[:60], y[:60], eval_set=(A[60:], y[60:])), A[:60])


# ---- labels of any type ----

LABELS = {
    "str": (["no", "yes", "later"], "O"),
    "numpy str": (np.array(["no", "yes", "later"]), "U"),
    "int": ([3, 1, 2], "i"),
    "negative int": (np.array([-1, 1, -7], np.int8), "i"),
    "uint64": (np.array([2**63, 1, 2], np.uint64), "u"),
    "bool": ([True, False], "b"),
    "float": ([1.0, 2.0, -3.0], "f"),
    "float32": (np.array([1, 2], np.float32), "f"),
    "object of int": (np.array([5, 7], object), "i"),
    "object of bool": (np.array([True, False], object), "b"),
    "object of str": (np.array(["ä", "", "z" * 300], object), "O"),
}


@pytest.mark.parametrize(("labels", "kind"), LABELS.values(), ids=list(LABELS))
def test_labels_come_back_as_they_were(labels, kind, tmp_path):
    labels = np.asarray(labels)
    y = labels[np.arange(90) % len(labels)]
    X = pa.table({"c": [f"level {i % len(labels)}" for i in range(90)], "n": np.arange(90) % 13})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TabularWarning)
        model = classifier(40).fit(X, y)
    assert model.classes_.tolist() == sorted(labels.tolist())
    assert model.predict(X).tolist() == y.tolist()
    assert model.predict(X).dtype == model.classes_.dtype
    if kind in "iuf" and labels.dtype != object:
        assert model.classes_.dtype == labels.dtype
    assert model.classes_.dtype.kind in (kind, "O" if kind == "U" else kind, "U" if kind == "O" else kind)
    assert model.predict_one({"c": "level 1", "n": 3}) == labels[1]
    model.save(tmp_path / "m.npz")
    loaded = TabularClassifier.load(tmp_path / "m.npz")
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.classes_.tolist() == model.classes_.tolist()
    assert loaded.predict(X).tolist() == y.tolist()


def test_labels_of_other_libraries():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    labels = ["b", "a", "c"] * 20
    X = pa.table({"c": [{"b": "x", "a": "y", "c": "z"}[label] for label in labels], "n": np.arange(60) % 7})
    series = [pd.Series(labels, dtype=dtype) for dtype in ("str", "string", "object", "category")]
    series += [pd.Series(labels, dtype=pd.ArrowDtype(pa.string())), pd.Categorical(labels)]
    series += [
        pl.Series(labels),
        pl.Series(labels, dtype=pl.Categorical),
        pl.Series(labels, dtype=pl.Enum(["a", "b", "c"])),
    ]
    series += [pa.array(labels), pa.array(labels).dictionary_encode(), pa.array(labels, pa.large_string())]
    for y in series:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TabularWarning)
            model = classifier(40).fit(X, y)
        assert model.classes_.tolist() == ["a", "b", "c"], type(y)
        assert model.predict(X).tolist() == labels
    for y in (pd.Series([4, 2] * 30, dtype="Int64"), pl.Series([4, 2] * 30), pa.array([4, 2] * 30)):
        model = classifier().fit(X, y)
        assert model.classes_.tolist() == [2, 4]
        assert model.classes_.dtype.kind == "i"
    for y in (
        pd.Series([True, False] * 30, dtype="boolean"),
        pl.Series([True, False] * 30),
        pa.array([True, False] * 30),
    ):
        assert classifier().fit(X, y).classes_.tolist() == [False, True]
    for y in (pd.Series([1, 5] * 30, dtype="Int64"), pl.Series([1, 5] * 30), pa.array([1.0, 5.0] * 30)):
        assert 1 <= regressor().fit(X, y).predict(X).min() <= 5


# ---- warnings ----


def warned(model, X, y):
    """The messages of the warnings of a fit, each of which points to the line that called it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    for warning in caught:
        assert warning.category is TabularWarning
        assert warning.filename == __file__
    return [str(warning.message) for warning in caught]


def test_a_clean_table_is_warned_of_nothing(X, y, table):
    assert warned(classifier(), X, y) == []
    assert warned(regressor(), X, table["cost"].to_numpy()) == []
    A = np.random.default_rng(0).normal(size=(120, 3))
    assert warned(classifier(), A, y) == []


def test_columns_left_out_are_said_in_one_warning(X, y):
    rng = np.random.default_rng(0)
    more = X.append_column("one", pa.array([7] * 120)).append_column("same", pa.array(["a"] * 120))
    more = more.append_column("none", pa.nulls(120)).append_column("none too", pa.nulls(120, pa.string()))
    more = more.append_column("review", pa.array([f"words {rng.random()}" for _ in range(120)]))
    (message,) = warned(classifier(), more, y)
    for part in ("'one', 'same' (constant)", "'none', 'none too' (all missing)", "'review' (text of 120 different"):
        assert part in message
    wanted = {"review": "category"} | dict.fromkeys(["one", "same", "none", "none too"], "ignore")
    assert warned(classifier(column_types=wanted), more, y) == []


def test_identifiers(X, y):
    rng = np.random.default_rng(0)
    more = X.append_column("id", pa.array(rng.permutation(120) + 1000)).append_column("row", pa.array(range(120)))
    more = more.append_column("year", pa.array(rng.integers(1990, 2020, 120)))
    (message,) = warned(classifier(), more, y)
    assert "'id', 'row' look like an identifier" in message
    assert "year" not in message
    assert warned(classifier(column_types={"id": "ignore", "row": "number"}), more, y) == []


def test_columns_that_give_the_target_away():
    table = people(240)
    X, y, cost = table.select(FEATURES), table["ill"].to_pylist(), table["cost"].to_numpy()
    renamed = pa.array([{"yes": "positive", "no": "negative"}[label] for label in y])
    more = X.append_column("result", renamed).append_column("price", pa.array(2 * cost - 7))
    both = {"result": "ignore", "price": "ignore"}
    (message,) = warned(classifier(1, column_types={"price": "ignore"}), more, y)
    assert message.startswith("'result' may give the target away")
    (message,) = warned(regressor(1), more.append_column("again", pa.array(np.exp(-cost / 1000))), cost)
    assert message.startswith("'price', 'again' may give the target away")
    assert warned(classifier(1, column_types=both), more, y) == []
    assert warned(regressor(1, column_types=both), more, cost) == []


@pytest.mark.parametrize("correlation", [0.9, 0.99, 0.999])
def test_columns_that_only_hang_together_with_the_target_are_no_leaks(correlation):
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=300), rng.normal(size=300)
    y = correlation * x + math.sqrt(1 - correlation**2) * noise
    assert warned(regressor(1), np.column_stack([x, noise]), y) == []


def test_hundreds_of_numbers_as_classes():
    A = np.random.default_rng(0).normal(size=(300, 2))
    (message,) = warned(classifier(1), A, np.arange(300) % 100)
    assert "y has 100 different numbers in 300 rows" in message
    assert "TabularRegressor" in message
    assert warned(classifier(1), A, [f"class {i % 100}" for i in range(300)]) == []


# ---- the same bits ----


@pytest.mark.parametrize("make", [classifier, regressor])
def test_the_same_seed_gives_the_same_bits(make, X, table, y):
    target = y if make is classifier else table["cost"].to_numpy()
    options = {"n_estimators": 2, "epochs": 2}
    expected = bits(make(**options).fit(X, target), X)
    assert bits(make(**options).fit(X, target), X) == expected
    assert bits(make(**options, threads=2).fit(X, target), X) == expected
    assert bits(make(**options, random_state=np.random.RandomState(0)).fit(X, target), X) == expected
    assert bits(make(**options, random_state=1).fit(X, target), X) != expected


def test_threads_dont_change_predictions(either, X):
    many = pa.concat_tables([X] * 20)
    expected = bits(either, many)
    model = copy.deepcopy(either)
    for threads in (2, None):
        model.threads = threads
        assert bits(model, many) == expected


def test_one_row_of_many_has_the_bits_of_one_row_alone(either, X):
    whole = outputs(either, X)
    for i in (0, 17, 119):
        assert outputs(either, X.slice(i, 1)).tobytes() == whole[i : i + 1].tobytes()


def test_sample_weights_reach_the_training():
    """Every row is there twice, with both labels: which of them is learnt, the weights say."""
    x = np.repeat(np.linspace(-1, 1, 100), 2)[:, None]
    right = np.repeat(np.linspace(-1, 1, 100) > 0, 2)
    first = np.arange(200) % 2 == 0
    y = np.where(first, right, ~right)
    for chosen, counts in ((right, first), (~right, ~first)):
        weight = np.where(counts, 1.0, 1e-3)
        model = classifier(40).fit(x, y, sample_weight=weight, eval_set=(x, chosen))
        assert (model.predict(x) == chosen).mean() > 0.85
        model = regressor(40).fit(x, y * 2.0 - 1, sample_weight=weight, eval_set=(x, chosen * 2.0 - 1))
        assert (model.predict(x) * (chosen * 2 - 1)).mean() > 0.5


def test_weights_of_every_form_are_the_same(X, y):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    weight = np.random.default_rng(0).integers(0, 5, 120)
    expected = bits(classifier().fit(X, y, sample_weight=weight.astype(float)), X)
    series = pd.Series(weight, index=range(120, 0, -1))
    for form in (weight, weight.tolist(), series, pl.Series(weight), pa.array(weight)):
        assert bits(classifier().fit(X, y, sample_weight=form), X) == expected, type(form)
    assert bits(classifier().fit(X, y, sample_weight=weight[::-1]), X) != expected


def test_balanced_classes_are_weights_of_rows(X, y):
    counts = {label: y.count(label) for label in ("no", "yes")}
    weight = {label: 120 / (2 * count) for label, count in counts.items()}
    expected = bits(classifier(class_weight="balanced").fit(X, y), X)
    assert bits(classifier(class_weight=weight).fit(X, y), X) == expected
    assert bits(classifier().fit(X, y, sample_weight=[weight[label] for label in y]), X) == expected
    assert bits(classifier().fit(X, y), X) != expected


def test_class_weights_that_are_refused(X, y):
    words = "class_weight names 'maybe', which y has no samples of; its classes are 'no', 'yes', and each"
    with pytest.raises(ValueError, match=words):
        classifier(class_weight={"maybe": 2.0, "no": 1.0}).fit(X, y)
    with pytest.raises(ValueError, match="class_weight"):
        classifier(class_weight="unbalanced").fit(X, y)
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"^class_weight of 'no' is {weight}: it must be a number from 0$"):
            classifier(class_weight={"no": weight, "yes": 1.0}).fit(X, y)


def test_a_class_that_is_not_named_has_weight_1(X, y):
    """As in scikit-learn; and where all classes are named, another one may be that of a row that isn't here."""
    expected = bits(classifier(class_weight={"no": 3.0, "yes": 1.0}).fit(X, y), X)
    assert bits(classifier(class_weight={"no": 3.0}).fit(X, y), X) == expected
    assert bits(classifier(class_weight={"no": 3.0, "yes": 1.0, "maybe": 7.0}).fit(X, y), X) == expected
    assert bits(classifier(class_weight={"yes": 3.0}).fit(X, y), X) != expected


def test_class_weights_reach_the_training():
    """Columns that say nothing: what is predicted is the classes' shares, as the weights make them."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 3, (200, 2)), np.where(np.arange(200) % 5 == 0, "rare", "often")

    def share(weight):
        return classifier(20, class_weight=weight).fit(x, y).predict_proba(x)[:, 1].mean()

    assert share(None) < 0.35 < share("balanced") < 0.65 < share({"rare": 100.0, "often": 1.0})
    # the weights of rows and of classes are multiplied
    row = np.where(y == "rare", 100.0, 1.0)
    undone = {"rare": 1.0, "often": 100.0}
    assert classifier(20, class_weight=undone).fit(x, y, sample_weight=row).predict_proba(x)[:, 1].mean() < 0.35


def test_an_eval_set_is_never_trained_on(X, y):
    """Labels that contradict those of training: they may choose among epochs, and no epoch has learnt them."""
    x = np.linspace(-1, 1, 100)[:, None]
    right = x[:, 0] > 0
    model = classifier(30).fit(x, right, eval_set=(np.repeat(x, 9, axis=0), np.repeat(~right, 9)))
    alone = classifier(30).fit(x, right, eval_set=(x, right))
    assert (alone.predict(x) == right).mean() > 0.9
    assert (model.predict(x) == ~right).mean() < 0.9


def test_many_threads_predict_at_once(either, X):
    model, rows = copy.deepcopy(either), X.to_pylist()
    model.threads = None
    expected, ones = bits(model, X), [model.predict_one(row) for row in rows]
    model = pickle.loads(pickle.dumps(model))  # without what the first row makes
    barrier, found = threading.Barrier(4), []

    def work():
        barrier.wait()
        found.append((bits(model, X), [model.predict_one(row) for row in rows]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(expected, ones)] * 4


def test_recipes_and_presets_are_listed():
    assert {"fast", "default", "best"} <= set(PRESETS)
    assert {"log_loss", "rmse"} <= set(METRICS)
    assert {p: getattr(classifier(), p) for p in ("preset", "metric")} == {"preset": "default", "metric": None}


# ---- copies ----


def test_pickles_and_copies(either, X):
    row = X.to_pylist()[0]
    either.predict_one(row)
    for twin in (pickle.loads(pickle.dumps(either)), copy.deepcopy(either), copy.copy(either)):
        assert bits(twin, X) == bits(either, X)
        assert twin.predict_one(row) == either.predict_one(row)
        assert str(twin.get_params()) == str(either.get_params())
        assert str(twin.columns_) == str(either.columns_)


def test_clones_are_untrained(either, X):
    twin = clone(either)
    assert twin.get_params() == either.get_params()
    with pytest.raises(NotFittedError):
        twin.predict(X)


def test_unseen_categories_count_as_missing_in_one_warning_and_rare_ones_are_known():
    frame = {
        "town": ["a", "b", "c"] * 30 + ["rare"] * 2 + ["a"] * 8,
        "lane": ["x", "y"] * 50,
        "size": [i % 9 for i in range(100)],
    }
    fitted = classifier().fit(frame, ["s", "t"] * 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = fitted.predict_proba({"town": ["a", "rare", None], "lane": ["x", "y", None], "size": [1, 2, 3]})
    asked = {"town": ["new", "rare", "other"], "lane": ["x", "z", None], "size": [1, 2, 3]}
    with pytest.warns(TabularWarning) as said:
        new = fitted.predict_proba(asked)
    assert [str(one.message) for one in said] == [
        "X has categories that weren't there in training, and count as missing: 'town' in 2 of 3 rows, 'lane' in 1 "
        "of 3 rows"
    ]
    missing = fitted.predict_proba({**asked, "town": [None] * 3, "lane": ["x", None, None]})
    assert (new == missing).all()
    assert known.shape == (3, 2)


MIXED = {
    "texts and numbers": ["a", 1, 2],
    "a number that comes late": ["a", None, "b", math.nan, 1.5],
    "texts and booleans": [True, "a", "b"],
    "numbers and booleans": [1, 2, True],
}


@pytest.mark.parametrize("values", MIXED.values(), ids=list(MIXED))
def test_labels_of_several_types_are_refused_whatever_holds_them(values, X):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    y = (values * 120)[:120]
    words = "^y holds values of several types, .* and .*; make them all texts"
    for form in (y, tuple(y), np.array(y, object), pd.Series(y, dtype=object), pl.Series(y, dtype=pl.Object)):
        with pytest.raises(TypeError, match=words):
            classifier().fit(X, form)
        with pytest.raises(TypeError, match=r"^eval_set's y holds values of several types"):
            classifier().fit(X, ["a", "b"] * 60, eval_set=(X, form))


def test_what_is_missing_in_a_target_is_named_whatever_it_is(X):
    pd = pytest.importorskip("pandas")
    for hole in (pd.NA, None, math.nan, pd.NaT):
        for cls in (classifier, regressor):
            y = [1, hole, *[0, 1] * 59]
            with pytest.raises(
                ValueError, match="Input y contains NaN: 1 of 120 values are missing, the first in row 1"
            ):
                cls().fit(X, np.array(y, object))
        with pytest.raises(ValueError, match="Input y contains NaN: 1 of 120 values are missing, the first in row 0"):
            classifier().fit(X, pd.Series([hole, *["a", "b", "c"] * 39, "a", "b"], dtype=object))


def test_what_is_no_number_is_named_with_its_row(X, fitted_regressor):
    numbers = np.arange(120.0)
    texts = [*map(str, numbers[:7]), "p", *map(str, numbers[8:])]
    with pytest.raises(ValueError, match=r"^y must hold numbers, row 7 holds 'p': "):
        regressor().fit(X, texts)
    with pytest.raises(ValueError, match=r"^eval_set's y must hold numbers, row 7 holds 'p': "):
        regressor().fit(X, numbers, eval_set=(X, texts))
    with pytest.raises(ValueError, match=r"^y must hold numbers, row 7 holds 'p': "):
        fitted_regressor.feature_importances(X, texts)


# ---- rows of weight 0 ----


def without(table, labels, rows):
    return table.filter(pa.array(rows)), [label for label, one in zip(labels, rows, strict=True) if one]


@pytest.mark.parametrize("lost", ["a", "b", "c"])
def test_rows_of_weight_0_count_as_if_they_were_not_there(lost, X):
    """Labels, medians, categories and the range of y: all of the model is that of the other rows."""
    labels = ["abc"[i % 3] for i in range(120)]
    rows = np.array([label != lost for label in labels])
    X = replaced(X, "age", np.where(rows, np.arange(120) % 50, 1e6))
    X = replaced(X, "town", [f"{i % 3}" if one else "only there" for i, one in enumerate(rows)])
    few, kept = without(X, labels, rows)
    expected = classifier().fit(few, kept)
    weighted = [
        classifier().fit(X, labels, sample_weight=rows * 1.0),
        classifier(class_weight={lost: 0, **dict.fromkeys(kept, 1)}).fit(X, labels),
        classifier().fit(X, labels, sample_weight=rows * 1.0, eval_set=None),
    ]
    ones = classifier().fit(few, kept, sample_weight=np.ones(len(kept)))
    for model in weighted:
        assert model.classes_.tolist() == expected.classes_.tolist()
        assert model.predict_proba(X).shape == (120, 2)
        assert str(model.columns_) == str(expected.columns_)
        assert bits(model, few) == bits(ones, few)
        assert set(model.predict(X)) <= set(kept)
    y = np.where(rows, np.arange(120) % 7, 1e9)
    model = regressor().fit(X, y, sample_weight=rows * 1.0)
    assert vars(model.model_.target) == vars(regressor().fit(few, y[rows]).model_.target)
    assert bits(model, few) == bits(regressor().fit(few, y[rows], sample_weight=np.ones(rows.sum())), few)


def test_columns_that_nobody_else_needs_are_let_go_when_rows_are_left_out(X, y):
    weight = np.arange(120) % 3 > 0
    expected = bits(classifier().fit(X, y, sample_weight=weight), X)
    columns = frames.ConsumableColumns({name: X[name] for name in FEATURES})
    assert bits(classifier().fit(columns, y, sample_weight=weight), X) == expected
    assert not columns


def test_balanced_classes_are_balanced_among_the_rows_that_count(X, y):
    rows = np.arange(120) % 3 > 0
    few, kept = without(X, y, rows)
    model = classifier(class_weight="balanced").fit(X, y, sample_weight=rows * 1.0)
    assert bits(model, few) == bits(classifier(class_weight="balanced").fit(few, kept), few)


def test_a_class_of_weight_0_may_be_in_the_eval_set(X):
    labels = ["abc"[i % 3] for i in range(120)]
    rows = np.array(labels) != "c"
    few, kept = without(X, labels, rows)
    weights = {"a": 1.0, "b": 3.0, "c": 0.0}
    model = classifier(class_weight=weights).fit(X, labels, eval_set=(X, labels))
    assert bits(model, few) == bits(classifier(class_weight=weights).fit(few, kept, eval_set=(few, kept)), few)
    with pytest.raises(ValueError, match="eval_set's y, row 2 holds 'c', which is no label of the model's: 'a', 'b'"):
        classifier().fit(X, labels, sample_weight=rows * 1.0, eval_set=(X, labels))
    classifier().fit(X, labels, sample_weight=rows * 1.0, eval_set=(X, labels, rows * 1.0))


def test_weights_that_leave_too_little_are_refused(X, y):
    one_class = np.array(y) == "no"
    for options, weight in (({}, one_class * 1.0), ({"class_weight": {"no": 1.0, "yes": 0.0}}, None)):
        with pytest.raises(ValueError, match="one class only among the rows of weight above 0, 'no'"):
            classifier(**options).fit(X, y, sample_weight=weight)
    with pytest.raises(ValueError, match="sample_weight and the weights of classes leave 0 of 120 rows"):
        classifier(class_weight={"no": 1.0, "yes": 0.0}).fit(X, y, sample_weight=~one_class * 1.0)
    three, weights = ["abc"[i % 3] for i in range(120)], {"a": 1.0, "b": 1.0, "c": 0.0}
    with pytest.raises(ValueError, match="eval_set's sample_weight and the weights of classes leave 0 of 120 rows"):
        classifier(class_weight=weights).fit(X, three, eval_set=(X, ["c"] * 120))
    with pytest.raises(ValueError, match="leave 1 of 120 rows a weight above 0: at least 2 must count"):
        regressor().fit(X, np.arange(120.0), sample_weight=np.arange(120) == 5)


@pytest.mark.parametrize("class_weight", ["balanced", {"often": 1.0, "rare": 7.0}])
def test_class_weights_reach_the_eval_set(class_weight):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 2)), np.where(np.arange(200) % 5 == 0, "rare", "often")
    own = {"often": 200 / 320, "rare": 200 / 80} if class_weight == "balanced" else class_weight
    others = rng.normal(size=(90, 2)), np.where(np.arange(90) % 2 == 0, "rare", "often")
    model = classifier(class_weight=class_weight).fit(x, y, eval_set=others)
    P, codes = model.predict_proba(others[0]), (others[1] == "rare") * 1
    w = np.array([own[label] for label in others[1]])
    assert model.report_[0]["score"] == pytest.approx(METRICS["log_loss"].value(codes, P.T, w), rel=1e-6)
    assert model.report_[0]["score"] != pytest.approx(METRICS["log_loss"].value(codes, P.T), rel=1e-3)
    half = rng.random(90)
    model = classifier(class_weight=class_weight).fit(x, y, eval_set=(*others, half))
    P = model.predict_proba(others[0])
    assert model.report_[0]["score"] == pytest.approx(METRICS["log_loss"].value(codes, P.T, w * half), rel=1e-6)
