"""What test_dask.py runs: python dask_tables.py <tests> <folder>: nnkern.dask's estimators of tables."""

import re
import sys
import warnings
from pathlib import Path

import dask.array as da
import dask.dataframe as dd
import distributed
import numpy as np
import pandas as pd
import pytest

from nnkern.dask import TabularClassifier, TabularRegressor
from nnkern.tabular import Recipe, TabularWarning, load, rounds, shards
from nnkern.tabular import TabularClassifier as OneClassifier
from nnkern.tabular.frames import columns_of

SHORT = Recipe(units=(12,), epochs=6, patience=None, bins=6, bin_rows=4)
FEATURES = ["size", "age", "place", "seen"]


def table(m=400, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"size": rng.normal(size=m), "age": rng.exponential(size=m)}, index=np.arange(1000, 1000 + m))
    place = rng.integers(0, 4, m)
    frame["place"] = np.array(["bog", "dune", "heath", "wood"])[place]
    frame["seen"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 300, m), unit="D")
    out = frame["size"] + frame["age"] / 2 + (place == 1) + 0.2 * rng.normal(size=m)
    frame.loc[frame.index[::7], "age"] = np.nan
    frame["kind"] = np.array(["fern", "lichen", "moss"])[np.digitize(out, [0.2, 1.3])]
    frame["height"] = 100 + 30 * out
    return frame


def set_sample(m):
    shards.SAMPLE_ROWS = m


def raises(kind, words, function, *arguments, **how):
    with pytest.raises(kind, match=re.escape(words)):
        function(*arguments, **how)


def check_classifier(client, folder):
    """Classes and categories that partitions lack, lazy predictions, a model that is an ordinary one; same bits."""
    frame = table().sort_values(["kind", "place"])
    whole = dd.from_pandas(frame.reset_index(drop=True), npartitions=5, sort=False)
    whole = whole[whole["size"] > -9]  # nobody knows the lengths
    X = whole[FEATURES]
    clf = TabularClassifier(recipes=SHORT, random_state=0, n_shards=3).fit(X, whole["kind"])
    assert clf.classes_.tolist() == ["fern", "lichen", "moss"]
    assert clf.feature_names_in_.tolist() == FEATURES
    one = OneClassifier(recipes=SHORT, random_state=0).fit(frame[FEATURES], frame["kind"])
    assert clf.model_.columns_.to_dict() == one.columns_.to_dict()
    assert isinstance(clf.model_, OneClassifier)
    lazy = clf.predict(X)
    assert isinstance(lazy, dd.Series)
    found = lazy.compute()
    assert (found.to_numpy() == clf.model_.predict(frame)).all()
    assert found.index.equals(X.compute().index)
    P = clf.predict_proba(X)
    assert list(P.columns) == ["fern", "lichen", "moss"]
    P = P.compute()
    assert P.to_numpy().tobytes() == clf.model_.predict_proba(frame).tobytes() == clf.predict_proba(frame).tobytes()
    assert clf.score(frame[FEATURES], frame["kind"]) > 0.6
    again = TabularClassifier(recipes=SHORT, random_state=0, n_shards=3).fit(whole[[*FEATURES, "kind"]], "kind")
    assert again.predict_proba(frame).tobytes() == P.to_numpy().tobytes()
    clf.model_.save(folder / "table.npz")
    assert load(folder / "table.npz").predict_proba(frame).tobytes() == P.to_numpy().tobytes()
    row = frame[FEATURES].iloc[5].to_dict()
    assert clf.model_.predict_one(row) == clf.model_.predict(frame[5:6])[0]
    new = frame[FEATURES][:3].assign(place="moon")
    with pytest.warns(TabularWarning, match="'place' in 3 of 3 rows"):
        assert clf.predict(new).shape == (3,)


def check_regressor(client, _folder):
    """Weights, an eval_set, several recipes; partitions without rows; a dask array of numbers."""
    frame, held = table(), table(150, seed=1)
    w = pd.Series(np.random.default_rng(1).exponential(size=400), frame.index)
    w[::5] = 0.0
    whole = dd.from_pandas(frame.assign(w=w), npartitions=4)
    own = whole[whole["size"] < 9].map_partitions(lambda part: part if part.index[0] < 1300 else part[:0])
    recipes = [SHORT, SHORT.replace(numbers="quantile", dropout=0.2)]
    model = TabularRegressor(recipes=recipes, random_state=1, epochs_a_round=2)
    height = frame["height"][:300][w[:300] > 0]
    held_out = dd.from_pandas(held, npartitions=2)
    model.fit(own[FEATURES], own["height"], own["w"], eval_set=(held_out[FEATURES], held["height"]))
    mean = np.average(height, weights=w[height.index])
    assert model.model_.model_.target.mean == pytest.approx(mean, rel=1e-12)
    made = model.model_.model_  # its score is of predictions before they are clipped
    x = made.preprocessing.transform(columns_of(held))
    (out,) = made.mean([net.predict(x) for net in made.networks])
    error = np.sqrt(((out - made.target.standardised(held["height"].to_numpy())) ** 2).mean())
    assert model.score_ == pytest.approx(made.target.scale * error, rel=1e-5)
    assert {row["epochs"] for row in model.report_} == {6}
    assert not any(row["refit"] for row in model.report_)
    lazy = model.predict(own[FEATURES]).compute()
    assert lazy.to_numpy().tobytes() == model.predict(frame[:300]).tobytes()
    X, y = frame[["size", "age"]].to_numpy(), frame["height"].to_numpy()
    arrays = da.from_array(X, chunks=((150, 0, 250), (1, 1))), da.from_array(y, chunks=100)
    model = TabularRegressor(recipes=SHORT, random_state=1, n_shards=2).fit(*arrays)
    lazy = model.predict(arrays[0])
    assert lazy.chunks == ((150, 0, 250),)
    assert lazy.compute().tobytes() == model.model_.predict(X).tobytes()
    assert model.n_features_in_ == 2


def check_sample(client, _folder):
    """Of more rows than the sample has, here and on the workers, all are trained on but for those held out of it."""
    client.run(set_sample, 300)
    set_sample(300)
    frame = table(1200)
    whole = dd.from_pandas(frame, npartitions=4)
    sizes = []
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("error", TabularWarning)
        of_all = rounds.PartOfAll
        patched.setattr(
            rounds, "PartOfAll", lambda part, m: sizes.append((part.train.m, part.held_out.m, m)) or of_all(part, m)
        )
        clf = TabularClassifier(recipes=SHORT, class_weight="balanced", random_state=0).fit(
            whole[FEATURES], whole["kind"]
        )
    assert sizes == [(240, 60, 1140)]
    assert clf.score_ < 0.8 * np.log(3)


def check_refusals(client, _folder):
    """What is said of what can't be learnt."""
    frame = table()
    whole = dd.from_pandas(frame, npartitions=4)
    X, y = whole[FEATURES], whole["kind"]
    clf = TabularClassifier(recipes=SHORT)
    raises(TypeError, "X must be a dask array, frame or series; got DataFrame", clf.fit, frame[FEATURES], frame["kind"])
    raises(ValueError, "The 'preset' parameter of TabularClassifier must be", TabularClassifier(preset="no").fit, X, y)
    raises(ValueError, "has no column 'kinds' to predict", clf.fit, whole, "kinds")
    raises(ValueError, "must have the same partitions", clf.fit, X, y.repartition(npartitions=2))
    raises(ValueError, "y has one class only on all shards together, ['fern']", clf.fit, X, y.map(lambda one: "fern"))
    with pytest.raises(ValueError, match=r"Input y contains NaN: 15 of 100 values") as raised:
        TabularRegressor(recipes=SHORT, n_shards=1).fit(X, whole["age"])
    assert raised.value.__notes__ == ["That is of partition 0."]
    raises(ValueError, "y must hold numbers, row 0 holds", TabularRegressor(recipes=SHORT).fit, X, y)
    frame.loc[1320, "size"] = np.inf
    bad = dd.from_pandas(frame, npartitions=4)[FEATURES]
    with pytest.raises(ValueError, match="column 'size' of X, row 120 holds inf") as raised:
        TabularClassifier(recipes=SHORT, n_shards=2).fit(bad, y)
    assert raised.value.__notes__ == ["That is of shard 1."]
    eval_set = frame[["size"]], frame["kind"]
    raises(ValueError, "eval_set's X lacks the columns 'age', 'place', 'seen'", clf.fit, X, y, eval_set=eval_set)
    raises(ValueError, "epochs_a_round must be", TabularClassifier(epochs_a_round=0).fit, X, y)
    assert not hasattr(clf, "model_")


if __name__ == "__main__":
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        for name in sys.argv[1].split(","):
            globals()[f"check_{name}"](client, Path(sys.argv[2]))
    print("all was as it should be")
