"""What one row is predicted to be, and what predictions hang on: importances of columns, and what each adds."""

import datetime as dt
import math

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.7")
pytest.importorskip("narwhals")
pytest.importorskip("pyarrow")

import pyarrow as pa
from tables import FEATURES, LIBRARIES, UTC, bits, classifier, mixed, outputs, regressor, replaced

pytest_plugins = ["tables"]

# ---- one row ----

KINDS = mixed(80)


@pytest.fixture(scope="module")
def of_kinds():
    """Models of a table with columns of every kind."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 80)
    return classifier(column_types={"int": "category"}).fit(KINDS, y), regressor().fit(KINDS, rng.normal(size=80))


def assert_one_row_is_as_of_a_table(model, rows, frame):
    expected, labels = outputs(model, frame), model.predict(frame)
    for i, row in enumerate(rows):
        if hasattr(model, "predict_proba"):
            np.testing.assert_allclose(model.predict_proba_one(row), expected[i], rtol=0, atol=1e-6)
            assert model.predict_one(row) == labels[i]
            assert type(model.predict_one(row)) is type(labels[i])
        else:
            assert abs(model.predict_one(row) - expected[i]) <= 3e-6 * model.model_.target.scale


def test_one_row_with_every_kind_of_column(of_kinds):
    for model in of_kinds:
        assert_one_row_is_as_of_a_table(model, KINDS.to_pylist(), KINDS)


def test_one_row_as_pandas_has_it(of_kinds):
    pytest.importorskip("pandas")
    for library in ("pandas", "pandas of arrow"):
        frame = LIBRARIES[library](KINDS)
        for model in of_kinds:
            assert_one_row_is_as_of_a_table(model, frame.to_dict("records"), KINDS)
            assert_one_row_is_as_of_a_table(model, [frame.iloc[4]], KINDS.slice(4, 1))


def test_one_row_as_polars_has_it(of_kinds):
    pytest.importorskip("polars")
    for model in of_kinds:
        assert_one_row_is_as_of_a_table(model, LIBRARIES["polars"](KINDS).to_dicts(), KINDS)


def test_one_row_of_numpys_scalars(of_kinds):
    rows = [
        {
            name: value if value is None else as_numpy(value)
            for name, value, as_numpy in zip(KINDS.column_names, row.values(), NUMPYS, strict=True)
        }
        for row in KINDS.to_pylist()
    ]
    for model in of_kinds:
        assert_one_row_is_as_of_a_table(model, rows, KINDS)


def without_zone(value):
    return np.datetime64(value.astimezone(UTC).replace(tzinfo=None))


NUMPYS = [np.float64, np.float32, np.int64, np.int8, np.bool_, np.str_, np.str_, np.str_]
NUMPYS += [np.datetime64, lambda value: value, np.datetime64, np.timedelta64]


def test_one_row_with_what_was_never_seen(of_kinds):
    unseen = {"text": "Rom", "large text": "", "categorical": "?", "float": 1e9, "float32": -1e30, "int": 10**6}
    unseen |= {"time": dt.datetime(1900, 1, 1), "date": dt.date(9999, 12, 31)}
    row = KINDS.to_pylist()[0] | unseen
    frame = pa.table({name: pa.array([value], KINDS.schema.field(name).type) for name, value in row.items()})
    for model in of_kinds:
        assert_one_row_is_as_of_a_table(model, [row], frame)
        assert_one_row_is_as_of_a_table(model, [dict.fromkeys(row)], pa.table({name: pa.nulls(1) for name in row}))
        assert model.predict_one(row | {"more": object()}) == model.predict_one(row)


def test_one_row_with_what_pandas_has_for_nothing(of_kinds):
    pd = pytest.importorskip("pandas")
    row = KINDS.to_pylist()[0]
    for model in of_kinds:
        for name in row:
            nothing = model.predict_one(row | {name: None})
            assert model.predict_one(row | {name: pd.NA}) == nothing
            assert model.predict_one(row | {name: math.nan}) == nothing
            if name in ("time", "zone", "date", "duration"):
                assert model.predict_one(row | {name: pd.NaT}) == nothing


def test_one_row_with_numbers_written_as_texts(of_kinds):
    row = KINDS.to_pylist()[0]
    for model in of_kinds:
        assert model.predict_one(row | {"float": "0.25", "all there": " 3 "}) == model.predict_one(
            row | {"float": 0.25, "all there": 3}
        )
        assert model.predict_one(row | {"float": ""}) == model.predict_one(row | {"float": None})


def test_one_row_with_times_of_day():
    times = [dt.time(i % 24, i % 60, 30) for i in range(60)]
    X = pa.table({"at": pa.array(times, pa.time64("us")), "in": [dt.timedelta(minutes=7 * i) for i in range(60)]})
    model = regressor().fit(X, np.arange(60) % 24)
    assert_one_row_is_as_of_a_table(model, X.to_pylist(), X)
    minutes = [{"at": row["at"], "in": np.timedelta64(7 * i, "m")} for i, row in enumerate(X.to_pylist())]
    assert_one_row_is_as_of_a_table(model, minutes, X)


def test_one_row_with_dates_written_as_texts():
    X = pa.table({"when": [f"20{10 + i % 13}-{1 + i % 12:02}-05 {i % 24:02}:30" for i in range(60)]})
    model = regressor(column_types={"when": "date"}).fit(X, np.arange(60) % 13)
    assert_one_row_is_as_of_a_table(model, X.to_pylist(), X)
    times = [{"when": dt.datetime.fromisoformat(text)} for text in X["when"].to_pylist()]
    assert_one_row_is_as_of_a_table(model, times, X)


def test_one_row_takes_the_numbers_in_texts_that_a_table_takes(of_kinds):
    row = KINDS.to_pylist()[0]
    index = KINDS.column_names.index("float")
    for text in ("1_5", "١", "1,5", "0x10", "one", b"1"):
        table = KINDS.slice(0, 1).set_column(index, "float", pa.array([text]))
        for model in of_kinds:
            with pytest.raises(ValueError, match="'float' must be a number; got"):
                model.predict_one(row | {"float": text})
            with pytest.raises(ValueError, match="'float' of X"):
                model.predict(table)
    for text in ("1.5", " 2e-1", ".5", "5.", "nan", "+1"):
        table = KINDS.slice(0, 1).set_column(index, "float", pa.array([text]))
        for model in of_kinds:
            assert_one_row_is_as_of_a_table(model, [row | {"float": text}], table)


def test_times_with_a_zone_in_texts():
    """In a column and in one row, where training had a zone, and only there."""
    times = [dt.datetime(2020, 1, 1, tzinfo=UTC) + dt.timedelta(hours=37 * i) for i in range(60)]
    texts = [time.astimezone(dt.timezone(dt.timedelta(hours=1))).isoformat() for time in times]
    y = np.arange(60) % 13
    of_times = regressor().fit(pa.table({"when": pa.array(times, pa.timestamp("us", "UTC"))}), y)
    of_texts = regressor(column_types={"when": "date"}).fit(pa.table({"when": texts}), y)
    table = pa.table({"when": texts})
    assert of_texts.columns_.to_dict() == of_times.columns_.to_dict()
    assert bits(of_texts, table) == bits(of_times, table)
    for model in (of_times, of_texts):
        assert_one_row_is_as_of_a_table(model, table.to_pylist(), table)
        with pytest.raises(ValueError, match="'when' of X have no zone, and had one"):
            model.predict(pa.table({"when": ["2020-01-01 12:00"]}))
        with pytest.raises(ValueError, match="'when' has no zone, and had one"):
            model.predict_one({"when": "2020-01-01 12:00"})
    plain = regressor().fit(pa.table({"when": [time.replace(tzinfo=None) for time in times]}), y)
    with pytest.raises(ValueError, match="'when' of X have a zone, and had none"):
        plain.predict(table)
    for text in ("20200101", "2020-W01-1", ""):  # which Python reads, or nobody
        with pytest.raises(ValueError, match="'when' must be a date such as"):
            plain.predict_one({"when": text})
        with pytest.raises(ValueError, match="'when' of X must hold dates such as"):
            plain.predict(pa.table({"when": [text]}))


def test_one_row_with_categories_of_every_type():
    """A date, a number or a boolean that is a category is the same one, whichever library's value it is."""
    pd = pytest.importorskip("pandas")
    days = [dt.date(2020, 1, 1 + i % 5) for i in range(60)]
    X = pa.table(
        {
            "day": days,
            "size": pa.array([[0.1, 2.5, 7.0][i % 3] for i in range(60)], pa.float32()),
            "yes": [i % 4 > 1 for i in range(60)],
            "zone": pa.array([dt.datetime(2020, 1, 1, i % 3, tzinfo=UTC) for i in range(60)]),
            "long": [dt.timedelta(seconds=i % 3) for i in range(60)],
        }
    )
    types = dict.fromkeys(["day", "size", "zone", "long"], "category")
    model = regressor(column_types=types).fit(X, np.arange(60) % 13)
    assert [column.kind for column in model.columns_.columns] == ["category"] * 5
    rows = X.to_pylist()
    assert_one_row_is_as_of_a_table(model, rows, X)
    expected = [model.predict_one(row) for row in rows]
    assert len(set(expected)) == 30
    frame = X.to_pandas()
    frame["day"] = pd.to_datetime(frame["day"])
    np.testing.assert_array_equal(model.predict(frame), model.predict(X))
    changes = [
        lambda row: {"day": pd.Timestamp(row["day"])},
        lambda row: {"day": np.datetime64(row["day"])},
        lambda row: {"day": np.datetime64(row["day"], "ns")},
        lambda row: {"day": str(row["day"])},
        lambda row: {"size": np.float32(row["size"])},
        lambda row: {"size": round(row["size"], 6)},
        lambda row: {"size": str(round(row["size"], 6))},
        lambda row: {"yes": int(row["yes"])},
        lambda row: {"yes": np.bool_(row["yes"])},
        lambda row: {"yes": str(row["yes"]).lower()},
        lambda row: {"zone": row["zone"].astimezone(dt.timezone(dt.timedelta(hours=5)))},
        lambda row: {"long": np.timedelta64(row["long"])},
        lambda row: {"long": pd.Timedelta(row["long"])},
    ]
    for i, change in enumerate(changes):
        assert [model.predict_one(row | change(row)) for row in rows] == expected, i


def test_one_row_of_two_and_of_many_classes(X, y):
    for labels in (y, [f"{i % 5}" for i in range(120)]):
        model = classifier().fit(X, labels)
        P = model.predict_proba_one(X.to_pylist()[3])
        assert P.shape == (len(set(labels)),)
        assert abs(P.sum() - 1) < 1e-6
        assert_one_row_is_as_of_a_table(model, X.to_pylist()[:30], X.slice(0, 30))


ONE_ROW = {
    "lacks one": (lambda row: row.pop("town"), ValueError, "the row lacks 'town'; None stands"),
    "lacks several": (lambda row: [row.pop(n) for n in ("age", "since")], ValueError, "the row lacks 'age', 'since'"),
    "a word": (lambda row: row.update(age="old"), ValueError, "'age' must be a number; got 'old'"),
    "a list": (lambda row: row.update(age=[1, 2]), ValueError, r"'age' must be a number; got \[1, 2\]"),
    "infinity": (lambda row: row.update(age=math.inf), ValueError, "'age' is inf: give what isn't known as None"),
    "minus infinity": (lambda row: row.update(age=-math.inf), ValueError, "'age' is -inf"),
    "a zone": (lambda row: row.update(since=dt.datetime(2020, 1, 1, tzinfo=UTC)), ValueError, "'since' has a zone"),
    "another zone": (lambda row: row.update(since="2020-01-01T00:00:00+01:00"), ValueError, "'since' has a zone"),
    "a number for a time": (lambda row: row.update(since=7), TypeError, "'since' must be a date or a time; got 7"),
    "a word for a time": (lambda row: row.update(since="noon"), ValueError, "'since' must be a date .* got 'noon'"),
    "a list for a category": (lambda row: row.update(town=["Ulm"]), (TypeError, ValueError), r"'town' .*\['Ulm'\]"),
}


@pytest.mark.parametrize(("change", "error", "words"), ONE_ROW.values(), ids=list(ONE_ROW))
def test_rows_that_are_refused(either, X, change, error, words):
    row = X.to_pylist()[0]
    before = either.predict_one(row)
    changed = dict(row)
    change(changed)
    with pytest.raises(error, match=words):
        either.predict_one(changed)
    assert either.predict_one(row) == before


@pytest.mark.parametrize("row", [[1, 2, 3, 4], None, "age", 7], ids=repr)
def test_a_row_is_a_dict(either, row):
    with pytest.raises(TypeError, match=f"row must be a dict of a value for each column; got {type(row).__name__}"):
        either.predict_one(row)


def test_a_row_is_no_frame(either, X):
    pd = pytest.importorskip("pandas")
    row = X.to_pylist()[0]
    for frame in (pd.DataFrame([row]), X.slice(0, 1)):
        kind = type(frame).__name__
        with pytest.raises(TypeError, match=f"a dict of a value for each column; got {kind}: predict takes it$"):
            either.predict_one(frame)
    assert either.predict_one(pd.DataFrame([row]).astype(object).iloc[0]) == either.predict_one(row)


def test_one_row_of_a_table_without_names():
    A = np.random.default_rng(0).normal(size=(60, 2))
    model = regressor().fit(A, A[:, 0])
    assert model.predict_one({"x0": A[0, 0], "x1": A[0, 1]}) == pytest.approx(model.predict(A)[0], abs=1e-6)


def test_one_row_after_another_fit(X, y):
    model = classifier().fit(X, y)
    row = X.to_pylist()[0]
    model.predict_one(row)
    model.fit(X, [{"yes": "ja", "no": "nein"}[label] for label in y])
    assert model.predict_one(row) in ("ja", "nein")


# ---- what predictions hang on ----


def signal(m=200, seed=0):
    """A target that hangs on one column strongly, on one a bit, and on one not at all."""
    rng = np.random.default_rng(seed)
    strong, weak, unused = rng.choice(["a", "b"], m), rng.normal(size=m), rng.normal(size=m)
    hidden = np.where(strong == "a", 2.0, -2.0) + weak
    return pa.table({"unused": unused, "weak": weak, "strong": strong.tolist(), "y": hidden > 0, "n": hidden})


@pytest.fixture(scope="module")
def of_signal():
    table = signal()
    X = table.select(["unused", "weak", "strong"])
    return classifier(30).fit(X, table["y"]), regressor(30).fit(X, table["n"])


def test_importances_put_what_matters_first(of_signal, framed):
    held_out = signal(seed=1)
    for model, y in zip(of_signal, ("y", "n"), strict=True):
        found = model.feature_importances(framed(held_out), held_out[y], random_state=0)
        assert list(found) == ["strong", "weak", "unused"]
        assert found["strong"] > 10 * abs(found["unused"])
        assert all(type(value) is float for value in found.values())
        assert found == model.feature_importances(held_out, y, random_state=0)
        assert found != model.feature_importances(held_out, y, random_state=1)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_what_doesnt_vary_has_no_importance(of_signal):
    held_out = replaced(replaced(signal(seed=1), "weak", [0.5] * 200), "strong", [None] * 200, pa.string())
    for model, y in zip(of_signal, ("y", "n"), strict=True):
        found = model.feature_importances(held_out, held_out[y], n_repeats=2)
        assert found["weak"] == found["strong"] == 0
        assert found["unused"] != 0


def test_importances_are_those_of_columns_shuffled(of_signal):
    """Against frames whose column is shuffled, whatever the shuffles are: within their spread."""
    model = of_signal[1]
    held_out = signal(seed=1)
    y = held_out["n"].to_numpy()
    rng = np.random.default_rng(0)

    def rmse(frame):
        return math.sqrt(np.mean((model.predict(frame) - y) ** 2))

    for name in ("strong", "weak", "unused"):
        values = held_out[name].to_pylist()
        losses = [rmse(replaced(held_out, name, [values[i] for i in rng.permutation(200)])) for _ in range(20)]
        found = model.feature_importances(held_out, "n", n_repeats=20, metric="rmse", random_state=0)[name]
        error = np.std(losses) * math.sqrt(2 / 20)
        assert abs(found - (np.mean(losses) - rmse(held_out))) < 5 * error + 1e-9


def test_importances_of_weighted_rows(of_signal):
    held_out = signal(seed=1)
    model = of_signal[0]
    weight = (np.arange(200) < 100).astype(float)
    weighted = model.feature_importances(held_out, "y", sample_weight=weight, random_state=0)
    half = model.feature_importances(held_out.slice(0, 100), "y", random_state=0)
    every = model.feature_importances(held_out, "y", random_state=0)
    assert weighted["strong"] == pytest.approx(half["strong"], rel=0.4)
    assert weighted != every
    ones = model.feature_importances(held_out, "y", sample_weight=np.ones(200), random_state=0)
    assert ones == pytest.approx(every, abs=1e-12)


def test_importances_that_are_refused(of_signal):
    held_out = signal(seed=1)
    model = of_signal[0]
    for options, words in (
        ({"metric": "beauty"}, "metric.*beauty"),
        ({"metric": "rmse"}, "metric 'rmse' is of numbers"),
        ({"n_repeats": 0}, "n_repeats"),
        ({"sample_weight": np.ones(7)}, "sample_weight|inconsistent"),
        ({"y": ["?"] * 200}, "y, row 0 holds '[?]', which is no label of the model's"),
        ({"sample_weight": -np.ones(200)}, "[Nn]egative"),
        ({"y": [True]}, "X has 200 rows, y has 1"),
        ({"y": [True, None] * 100}, "100 of 200 values are missing, the first in row 1"),
        ({"y": "z"}, "X has no column 'z'"),
    ):
        with pytest.raises(ValueError, match=words):
            model.feature_importances(held_out, **{"y": "y", **options})


def summed(explanation):
    base, added = explanation
    assert (explanation.total() == base + sum(added.values())).all()
    return explanation.total()


@pytest.mark.parametrize("steps", [1, 32])
def test_explanations_add_up_to_the_probability(fitted, X, steps):
    explanation = fitted.explain(X, steps=steps)
    assert list(explanation.added) == FEATURES
    assert all(part.shape == (120,) for part in (explanation.base, *explanation.added.values()))
    P = fitted.predict_proba(X)
    np.testing.assert_allclose(summed(explanation), P[:, 1], rtol=0, atol=1e-6)
    for column, label in enumerate(("no", "yes")):
        np.testing.assert_allclose(summed(fitted.explain(X, label=label, steps=steps)), P[:, column], rtol=0, atol=1e-6)


def test_what_speaks_for_one_of_two_classes_speaks_against_the_other(fitted, X):
    for_, against = fitted.explain(X, label="yes"), fitted.explain(X, label="no")
    np.testing.assert_allclose(for_.base + against.base, 1, atol=1e-6)
    for name in FEATURES:
        np.testing.assert_allclose(for_.added[name], -against.added[name], rtol=0, atol=1e-3)
        assert np.abs(for_.added[name]).max() > 0


def test_explanations_of_several_classes(X):
    y = [f"{i % 4}" for i in range(120)]
    model = classifier(10).fit(X, y)
    P = model.predict_proba(X)
    by_label = [model.explain(X, label=label) for label in model.classes_]
    for column, explanation in enumerate(by_label):
        np.testing.assert_allclose(summed(explanation), P[:, column], rtol=0, atol=1e-6)
    np.testing.assert_allclose(summed(model.explain(X)), P.max(axis=1), rtol=0, atol=1e-6)
    for name in FEATURES:
        np.testing.assert_allclose(sum(one.added[name] for one in by_label), 0, atol=1e-3)


def test_explanations_of_numbers(fitted_regressor, X, table):
    explanation = fitted_regressor.explain(X)
    low, high = table["cost"].to_numpy().min(), table["cost"].to_numpy().max()
    predicted = fitted_regressor.predict(X)
    np.testing.assert_allclose(np.clip(summed(explanation), low, high), predicted, rtol=1e-6, atol=0)
    assert ((predicted > low) & (predicted < high)).sum() > 60


def test_what_is_as_in_the_neutral_row_adds_nothing(fitted, fitted_regressor, X):
    """Numbers at their medians, and categories that are missing or unknown."""
    ages = [v for v in X["age"].to_pylist() if v is not None]
    neutral = replaced(replaced(X, "age", [float(np.median(ages))] * 120), "town", [None, "Rom"] * 60, pa.string())
    for model in (fitted, fitted_regressor):
        base, added = model.explain(neutral)
        assert not added["age"].any()
        assert not added["town"].any()
        assert np.abs(added["member"]).max() > 0
        assert np.ptp(base) == 0
        assert base[0] == model.explain(X).base[0]


def test_the_column_that_matters_adds_the_most(of_signal):
    for model in of_signal:
        added = {name: np.abs(values).mean() for name, values in model.explain(signal(seed=1)).added.items()}
        assert added["strong"] > added["weak"] > added["unused"]


def test_explanations_of_many_rows_are_those_of_few(fitted, X):
    many = pa.concat_tables([X] * 36)
    few, found = fitted.explain(X, steps=2), fitted.explain(many, steps=2)
    np.testing.assert_allclose(found.base.reshape(36, 120), np.tile(few.base, (36, 1)), rtol=0, atol=1e-7)
    for name, values in few.added.items():
        np.testing.assert_allclose(found.added[name].reshape(36, 120), np.tile(values, (36, 1)), rtol=0, atol=1e-7)


def test_a_column_may_be_named_base(X, y):
    columns = {"base": X["age"].to_pylist(), "added": X["town"].to_pylist()}
    model = classifier().fit(columns, y)
    explanation = model.explain(columns)
    assert list(explanation.added) == ["base", "added"]
    np.testing.assert_allclose(summed(explanation), model.predict_proba(columns)[:, 1], rtol=0, atol=1e-6)


def test_explanations_that_are_refused(fitted, X):
    with pytest.raises(ValueError, match=r"^label is 'maybe', which is none of the model's: 'no', 'yes'"):
        fitted.explain(X, label="maybe")
    with pytest.raises(ValueError, match="X lacks the column 'age'"):
        fitted.explain(X.drop_columns("age"))
    with pytest.raises((TypeError, ValueError), match="steps"):
        fitted.explain(X, steps=0)
