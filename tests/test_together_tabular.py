"""Tables learnt by several ranks, each a thread with a shard of the rows."""

import functools
import pickle
import warnings

import numpy as np
import pytest
from test_together import Group, errors_of, results, steps_of

import nnkern as nk

pytest.importorskip("sklearn", minversion="1.7")
pytest.importorskip("narwhals")
pytest.importorskip("pyarrow")

from nnkern.tabular import (
    PRESETS,
    Recipe,
    TabularClassifier,
    TabularRegressor,
    TabularWarning,
    load,
    shards,
    splits,
    training,
)
from nnkern.tabular import together as together_
from nnkern.tabular.target import Numbers

TOLERANCE = 2e-4  # the networks of tables are float32
SHORT = Recipe(units=(12,), epochs=3, patience=None, bins=6, bin_rows=4)
NAMES = np.array(["fern", "lichen", "moss"])


def rows(m, seed=0):
    """({name: column}, classes, numbers)"""
    rng = np.random.default_rng(seed)
    size, age, place = rng.normal(size=m), rng.exponential(size=m), rng.integers(0, 4, m)
    out = size + 0.5 * age + (place == 1) + 0.2 * rng.normal(size=m)
    table = {
        "size": size,
        "age": np.where(np.arange(m) % 7 == 3, np.nan, age),
        "place": np.array(["bog", "dune", "heath", "wood"])[place],
        "seen": np.datetime64("2026-01-01") + rng.integers(0, 300, m).astype("timedelta64[D]"),
    }
    return table, NAMES[np.digitize(out, [0.2, 1.3])], 100 + 30 * out


def take(table, which):
    return {name: column[which] for name, column in table.items()}


def shares(sizes):
    ends = np.cumsum(sizes)
    return [slice(end - m, end) for end, m in zip(ends, sizes, strict=True)]


def fit_all(make, sizes, table, y, w=None, **how):
    """The models of ranks with shards of those sizes; `how`: of each rank, what fit is called with beside."""

    def work(comm):
        rank = comm.Get_rank()
        own = shares(sizes)[rank]
        more = {name: values[rank] for name, values in how.items()}
        weights = None if w is None else w[own]
        return make().fit(take(table, own), y[own], sample_weight=weights, comm=comm, **more)

    return results(Group(len(sizes)), work)


def parameters(model):
    return [array for net in model.networks_ for array in net.parameters.values()]


def assert_same(models):
    """All ranks have the same model, to the last bit."""
    first = models[0]
    for model in models[1:]:
        assert [a.tobytes() for a in parameters(model)] == [a.tobytes() for a in parameters(first)]
        assert model.model_.weights.tobytes() == first.model_.weights.tobytes()
        assert model.columns_.to_dict() == first.columns_.to_dict()
        assert model.report_ == first.report_
        assert model.score_ == first.score_
        assert [net.to_model().config() for net in model.networks_] == [
            net.to_model().config() for net in first.networks_
        ]


@pytest.fixture
def in_order(monkeypatch):
    """Rows are gone through in their order, by one process and by several."""

    def options(epochs, batch_size, shuffle, *how, **more):
        return nk.training.Options(epochs, batch_size, False, *how, **more)

    monkeypatch.setattr(together_, "Options", options)
    monkeypatch.setattr(training.many, "fit_many", functools.partial(nk.fit_many, shuffle=False))


SIZES = [(192,), (96, 96), (144, 48), (192, 0), (48, 96, 48), (0, 60, 132)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", [TabularClassifier, TabularRegressor])
@pytest.mark.parametrize("weighted", [False, True])
def test_shards_are_learnt_as_all_rows_are(in_order, sizes, kind, weighted):
    table, classes, numbers = rows(192)
    y = classes if kind is TabularClassifier else numbers
    held, *held_y = rows(90, seed=1)
    held_y = held_y[kind is TabularRegressor]
    w = np.random.default_rng(5).exponential(size=192) if weighted else None
    recipes = [SHORT, SHORT.replace(numbers="quantile", dropout=0.3), SHORT.replace(numbers="periodic")]
    make = functools.partial(kind, recipes=recipes, random_state=0)
    parts = [slice(90 * k // len(sizes), 90 * (k + 1) // len(sizes)) for k in range(len(sizes))]
    models = fit_all(make, sizes, table, y, w, eval_set=[(take(held, own), held_y[own]) for own in parts])
    assert_same(models)
    order = np.concatenate(steps_of(sizes, SHORT.batch(192)))
    one = make().fit(take(table, order), y[order], None if w is None else w[order], eval_set=(held, held_y))
    ours, theirs = parameters(models[0]), parameters(one)
    assert len(ours) == len(theirs)
    for own, alone in zip(ours, theirs, strict=True):
        assert np.abs(own - alone).max() <= TOLERANCE * np.abs(alone).max()
    assert models[0].columns_.to_dict() == one.columns_.to_dict()
    np.testing.assert_allclose(models[0].model_.weights, one.model_.weights)
    np.testing.assert_allclose(models[0].score_, one.score_, rtol=1e-4)
    for own, alone in zip(models[0].report_, one.report_, strict=True):
        assert (own["epochs"], own["best_epoch"], own["weight"]) == (
            alone["epochs"],
            alone["best_epoch"],
            alone["weight"],
        )
    if kind is TabularClassifier:
        np.testing.assert_allclose(models[0].predict_proba(table), one.predict_proba(table), atol=1e-4)
    else:
        np.testing.assert_allclose(models[0].predict(table), one.predict(table), rtol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_the_rows_held_out_are_those_of_one_process(monkeypatch, count):
    table, y, _ = rows(150)
    found = []

    def parts(*how, **more):
        made = splits_parts(*how, **more)
        found.append(made)
        return made

    splits_parts = splits.parts
    monkeypatch.setattr(splits, "parts", parts)
    make = functools.partial(TabularClassifier, recipes=SHORT, n_estimators=count, random_state=3, refit=False)
    models = fit_all(make, (70, 0, 80), table, y)
    assert_same(models)
    alone, several = make().fit(table, y), found[:3]
    for made in several:
        for own, one in zip(made, found[3], strict=True):
            assert own.held_rows.tolist() == one.held_rows.tolist()
    assert [row["part"] for row in models[0].report_] == list(range(count)) == [row["part"] for row in alone.report_]
    assert len(models[0].networks_) == len(alone.networks_)


def test_one_rank_is_one_process():
    table, _, y = rows(240)
    make = functools.partial(TabularRegressor, recipes=[SHORT, SHORT.replace(dropout=0.4)], random_state=1, refit=False)
    (model,), one = fit_all(make, (240,), table, y), make().fit(table, y)
    assert [a.tobytes() for a in parameters(model)] == [a.tobytes() for a in parameters(one)]
    assert model.score_ == one.score_


def test_the_same_bits_twice_and_rank_0_has_the_say():
    table, y, _ = rows(160)

    def fitted(*seeds):
        def work(comm):
            own = shares((100, 60))[comm.Get_rank()]
            model = TabularClassifier(recipes=SHORT, random_state=seeds[comm.Get_rank()])
            return model.fit(take(table, own), y[own], comm=comm)

        models = results(Group(2), work)
        first = [a.tobytes() for a in parameters(models[0])]
        assert first == [a.tobytes() for a in parameters(models[1])]
        return first

    assert fitted(4, 5) == fitted(4, None)
    assert fitted(5, 4) != fitted(4, 5)


def test_refit_trains_on_all_rows_of_all_shards(in_order, monkeypatch):
    table, y, _ = rows(240)
    make = functools.partial(TabularClassifier, recipes=SHORT.replace(batch_size=20), random_state=0)
    trained = []
    fit_again = together_.SessionOfRanks.fit_again

    def noted(self, group, table, bar):
        trained.append((table.own.m, table.m, group[0].epochs))
        return fit_again(self, group, table, bar)

    monkeypatch.setattr(together_.SessionOfRanks, "fit_again", noted)
    models = fit_all(make, (120, 120), table, y)
    assert_same(models)
    epochs = models[0].report_[0]["best_epoch"] + 1
    assert trained == [(120, 240, epochs)] * 2
    assert models[0].report_[0]["refit"]
    without = fit_all(functools.partial(make, refit=False), (120, 120), table, y)
    assert without[0].score_ == models[0].score_
    assert not without[0].report_[0]["refit"]
    assert parameters(without[0])[0].tobytes() != parameters(models[0])[0].tobytes()


def test_every_recipe_of_the_presets_where_rank_0_has_no_rows():
    table, y, _ = rows(200)
    recipes = [recipe.replace(epochs=2) for recipe in PRESETS["best"].recipes]
    models = fit_all(functools.partial(TabularClassifier, recipes=recipes, random_state=0), (0, 200), table, y)
    assert_same(models)
    assert [row["recipe"] for row in models[0].report_] == list(range(len(recipes)))


@pytest.mark.parametrize("form", ["texts", "objects", "numbers", "booleans"])
def test_labels_of_all_shards_are_the_classes(form):
    table, y, _ = rows(120)
    order = np.argsort(y, kind="stable")  # each shard has but one or two of the classes
    table, y = take(table, order), y[order]
    codes = np.searchsorted(NAMES, y)
    y = {"texts": y, "objects": y.astype(object), "numbers": codes * 2.0, "booleans": codes > 0}[form]
    one = TabularClassifier(recipes=SHORT, random_state=0).fit(table, y)
    models = fit_all(functools.partial(TabularClassifier, recipes=SHORT, random_state=0), (30, 0, 90), table, y)
    assert_same(models)
    for model in models:
        assert model.classes_.tolist() == one.classes_.tolist()
        assert model.classes_.dtype.kind == one.classes_.dtype.kind


@pytest.mark.parametrize("class_weight", ["balanced", {"fern": 3.0}, {"fern": 2.0, "lichen": 0.25, "moss": 1.5}])
def test_class_weights_count_the_rows_of_all_shards(in_order, class_weight):
    table, y, _ = rows(192)
    order = np.argsort(y, kind="stable")
    table, y, held = take(table, order), y[order], rows(60, seed=1)[:2]
    make = functools.partial(TabularClassifier, recipes=SHORT, random_state=0, class_weight=class_weight)
    w = np.where(np.arange(192) % 16 == 0, 2.0, 1.0)
    models = fit_all(make, (48, 144), table, y, w, eval_set=[held, None])
    assert_same(models)
    order = np.concatenate(steps_of((48, 144), SHORT.batch(192)))
    one = make().fit(take(table, order), y[order], w[order], eval_set=held)
    assert models[1].score_ == pytest.approx(one.score_, rel=1e-4)
    plain = functools.partial(make, class_weight=None)().fit(take(table, order), y[order], w[order], eval_set=held)
    assert models[1].score_ != pytest.approx(plain.score_, rel=1e-3)


def test_a_class_of_weight_0_is_left_out():
    table, y, _ = rows(150)
    make = functools.partial(TabularClassifier, recipes=SHORT, random_state=0, class_weight={"moss": 0})
    w = np.where(table["place"] == "bog", 0.0, 1.0)
    models = fit_all(make, (50, 100), table, y, w)
    assert_same(models)
    assert models[0].classes_.tolist() == ["fern", "lichen"]
    assert sorted(models[0].columns_.columns[2].levels) == ["dune", "heath", "wood"]


def test_numbers_are_standardised_by_those_of_all_shards():
    table, _, y = rows(150)
    order = np.argsort(y)
    table, y, w = take(table, order), y[order], np.random.default_rng(0).exponential(size=150)
    w[::9] = 0
    for weight in (None, w):
        models = fit_all(
            functools.partial(TabularRegressor, recipes=SHORT, random_state=0), (20, 130), table, y, weight
        )
        target = models[1].model_.target
        counts = np.ones(150, bool) if weight is None else w > 0
        wanted = Numbers.of(y[counts], None if weight is None else w[counts])
        for name in ("mean", "scale", "low", "high"):
            assert getattr(target, name) == pytest.approx(getattr(wanted, name), rel=1e-13), name


def test_categories_of_all_shards_are_known_and_others_are_missing():
    table, y, _ = rows(160)
    order = np.argsort(table["place"], kind="stable")  # no shard has all categories
    table, y = take(table, order), y[order]
    with warnings.catch_warnings():
        warnings.simplefilter("error", TabularWarning)
        models = fit_all(functools.partial(TabularClassifier, recipes=SHORT, random_state=0), (60, 100), table, y)
    assert_same(models)
    assert sorted(models[0].columns_.columns[2].levels) == ["bog", "dune", "heath", "wood"]
    new = take(table, slice(5)) | {"place": np.array(["moon"] * 5)}
    with pytest.warns(TabularWarning, match="'place' in 5 of 5 rows"):
        P = models[1].predict_proba(new)
    assert P.tobytes() == models[0].predict_proba(new | {"place": [None] * 5}).tobytes()


def test_of_many_rows_a_sample_is_looked_at(monkeypatch):
    monkeypatch.setattr(shards, "SAMPLE_ROWS", 100)
    table, y, _ = rows(1000)
    table["place"][-1] = "moon"  # in no sample, and too rare anyhow
    asked = []
    places = shards.sample_places
    monkeypatch.setattr(shards, "sample_places", lambda *how: asked.append(places(*how)) or asked[-1])
    parts = []
    of_all = shards.PartOfAll
    monkeypatch.setattr(shards, "PartOfAll", lambda *how: parts.append(of_all(*how)) or parts[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error", TabularWarning)
        models = fit_all(
            functools.partial(TabularClassifier, recipes=SHORT, random_state=0), (600, 0, 399, 1), table, y
        )
    assert_same(models)
    assert sorted({len(own) for own in asked}) == [0, 1, 39, 60]
    assert all(len(np.unique(own)) == len(own) for own in asked)
    assert sum(part.own.m for part in parts) == parts[0].m == 1000 - 20
    assert {(part.known.m, part.held_out.m) for part in parts} == {(80, 20)}
    assert models[0].score_ < 0.8 * np.log(3)


def test_trained_and_held_out_rows_of_a_sample_are_no_others(monkeypatch):
    monkeypatch.setattr(shards, "SAMPLE_ROWS", 60)
    table, _, y = rows(200)
    table["size"] = np.arange(200.0)
    seen, of_all = [], shards.PartOfAll
    monkeypatch.setattr(shards, "PartOfAll", lambda *how: seen.append(of_all(*how)) or seen[-1])
    fit_all(functools.partial(TabularRegressor, recipes=SHORT, n_estimators=2, refit=False), (120, 80), table, y)
    for number in range(2):
        # of both ranks
        own, other = seen[number], seen[number + 2]
        trained, held = [set(part.X[0].tolist()) for part in (own.own, own.held_out)]
        trained |= set(other.own.X[0].tolist())
        assert not trained & held
        assert len(trained) + len(held) == 200
        assert held == set(other.held_out.X[0].tolist())
        assert set(own.known.X[0].tolist()) <= trained


@pytest.mark.parametrize("on", [0, 1])
def test_an_eval_set_may_be_on_one_rank(on):
    table, y, _ = rows(120)
    held, held_y, _ = rows(50, seed=1)
    given = [None, None]
    given[on] = [(held, held_y, np.ones(50))]
    make = functools.partial(TabularClassifier, recipes=SHORT, random_state=0)
    models = fit_all(make, (60, 60), table, y, eval_set=given)
    assert_same(models)
    codes = np.searchsorted(NAMES, held_y)
    P = models[0].predict_proba(held)
    assert models[0].score_ == pytest.approx(-np.log(P[np.arange(50), codes]).mean(), rel=1e-5)


def test_types_that_go_together():
    """Categoricals with other dictionaries, whole numbers and others, columns that are missing on one rank alone."""
    pd = pytest.importorskip("pandas")
    table, y, _ = rows(120)
    frame = pd.DataFrame(table)
    frame["count"], frame["note"] = (
        np.arange(120) % 11,
        np.where(np.arange(120) < 60, None, ["a", "b", "c", "d", "e"] * 24),
    )
    one = TabularClassifier(recipes=SHORT, random_state=0).fit(frame, y)
    first, second = frame[:60].copy(), frame[60:].copy()
    first["place"], second["place"] = first["place"].astype("category"), second["place"].astype(object)
    second["count"] = second["count"].astype(float)
    second = second[["note", "seen", "count", "place", "age", "size"]]  # in another order

    def work(comm):
        own = [(first, y[:60]), (second, y[60:]), (frame[:0], y[:0])][comm.Get_rank()]
        return TabularClassifier(recipes=SHORT, random_state=0).fit(*own, comm=comm)

    models = results(Group(3), work)
    assert_same(models)
    assert models[0].feature_names_in_.tolist() == list(frame.columns)
    assert [column["name"] for column in models[0].columns_.to_dict()["columns"]] == list(frame.columns)
    assert [(row.kind, row.size) for row in models[0].columns_.rows] == [
        (row.kind, row.size) for row in one.columns_.rows
    ]


def test_arrays_whose_columns_have_no_names():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 3))
    y = X[:, 0] * 2 + X[:, 1]

    def work(comm):
        own = shares((90, 60, 0))[comm.Get_rank()]
        return TabularRegressor(recipes=SHORT, random_state=0).fit(X[own], y[own], comm=comm)

    models = results(Group(3), work)
    assert_same(models)
    assert models[2].n_features_in_ == 3
    assert not hasattr(models[2], "feature_names_in_")
    assert models[2].predict(X).tobytes() == models[0].predict(X).tobytes()


def test_the_model_is_an_ordinary_one(tmp_path):
    table, y, _ = rows(150)
    models = fit_all(functools.partial(TabularClassifier, recipes=SHORT, random_state=0), (90, 60), table, y)
    models[0].save(tmp_path / "model.npz")
    loaded = load(tmp_path / "model.npz")
    P = models[1].predict_proba(table)
    assert loaded.predict_proba(table).tobytes() == P.tobytes()
    assert pickle.loads(pickle.dumps(models[1])).predict_proba(table).tobytes() == P.tobytes()
    row = {name: column[4].item() for name, column in table.items()}
    np.testing.assert_allclose(models[1].predict_proba_one(row), P[4], rtol=1e-5)
    assert "predict_row" in models[1].to_c()
    assert models[1].get_params()["random_state"] == 0


def test_a_time_limit_is_kept_by_the_clock_of_rank_0(monkeypatch):
    table, y, _ = rows(200)
    recipes = [SHORT.replace(epochs=40), SHORT.replace(epochs=40, dropout=0.3)]
    make = functools.partial(TabularClassifier, recipes=recipes, random_state=0, time_limit=1000.0)
    monkeypatch.setattr(together_._Planning, "pace", lambda self, job: 40.0)  # less than 800 s
    models = fit_all(make, (120, 80), table, y)
    assert_same(models)
    assert [(row["recipe"], row["epochs"]) for row in models[0].report_] == [(0, 19)]
    monkeypatch.undo()
    models = fit_all(functools.partial(make, time_limit=1e-9), (120, 80), table, y)
    assert_same(models)
    assert [(row["epochs"], row["refit"]) for row in models[0].report_] == [(1, False)]


def test_a_network_that_diverges_is_left_out():
    table, _, y = rows(150)
    wild = SHORT.replace(learning_rate=1e30, schedule=None)
    make = functools.partial(TabularRegressor, recipes=[wild, SHORT], random_state=0)
    models = fit_all(make, (90, 60), table, y)
    assert_same(models)
    assert [row["recipe"] for row in models[0].report_] == [1]
    make = functools.partial(TabularRegressor, recipes=[wild], random_state=0)

    def work(comm):
        own = shares((90, 60))[comm.Get_rank()]
        return make().fit(take(table, own), y[own], comm=comm)

    for error in errors_of(Group(2), work):
        assert isinstance(error, nk.DivergenceError)


def spoilt(what, table, y):
    """(table, y, parameters, what fit is called with) of rank 1, which has something wrong."""
    y, table, own, more = y.copy(), dict(table), {}, {}
    if what == "a column lacks":
        del table["age"]
    elif what == "a column more":
        table["more"] = table["age"]
    elif what == "another type":
        table["size"] = table["place"]
    elif what == "no number":
        table["age"] = np.where(np.arange(len(y)) == 2, np.inf, table["age"])
    elif what == "holes in y":
        y = np.where(np.arange(len(y)) == 3, None, y.astype(object))
    elif what == "another kind of y":
        y = np.arange(len(y)) % 3
    elif what == "other lengths":
        y = y[1:]
    elif what == "other parameters":
        own["validation_fraction"] = 0.3
    elif what == "no names":
        table = np.zeros((len(y), 4))
    elif what == "an eval_set with a new label":
        more["eval_set"] = (table, np.full(len(y), "alga"))
    elif what == "column_types":
        own["column_types"] = {"place": "number"}
    return table, y, own, more


WRONG = {
    "a column lacks": ("of rank 1 lacks 'age'", True),
    "a column more": ("of rank 1 has 'more' beside", True),
    "another type": ("column 'size' of X must have the same type on all ranks; it has double on rank 0", True),
    "no number": ("column 'age' of X, row 2 holds inf", False),
    "holes in y": ("Input y contains NaN: 1 of 60 values", False),
    "another kind of y": (
        "y must hold labels of one kind on all ranks; it has texts on rank 0, numbers on rank 1",
        True,
    ),
    "other lengths": ("X has 60 rows, y has 59", False),
    "other parameters": ("validation_fraction must be the same on all ranks; rank 0 has 0.2, rank 1 0.3", True),
    "no names": ("the columns of X have names on rank 0 and none on rank 1", True),
    "an eval_set with a new label": ("eval_set's y, row 0 holds 'alga'", False),
    "column_types": ("column_types must be the same on all ranks", True),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_on_one_rank_is_raised_on_all(what):
    table, y, _ = rows(120)
    words, on_all = WRONG[what]

    def work(comm):
        own = shares((60, 60))[comm.Get_rank()]
        parts = take(table, own), y[own], {}, {}
        if comm.Get_rank() == 1:
            parts = spoilt(what, *parts[:2])
        model = TabularClassifier(recipes=SHORT, random_state=0, **parts[2])
        try:
            return model.fit(*parts[:2], comm=comm, **parts[3])
        finally:
            assert not hasattr(model, "model_")

    first, second = errors_of(Group(2), work)
    assert words in str(second)
    if on_all:
        assert words in str(first)
    else:
        assert isinstance(first, nk.RankError)
        assert "rank 1 has failed" in str(first)
        assert words in str(first)


def test_shards_without_rows_or_with_one_class():
    table, y, numbers = rows(40)
    none = slice(0)

    def work(kind, which, comm):
        target = y if kind is TabularClassifier else numbers
        return kind(recipes=SHORT).fit(take(table, which), target[which], comm=comm)

    for kind in (TabularClassifier, TabularRegressor):
        for error in errors_of(Group(2), functools.partial(work, kind, none)):
            assert "the shards of all 2 ranks have 0 rows of weight above 0" in str(error)
    for error in errors_of(Group(2), functools.partial(work, TabularClassifier, y == "moss")):
        assert "y has one class only on all ranks together, ['moss']" in str(error)
