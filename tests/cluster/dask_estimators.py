"""What test_dask.py runs: python dask_estimators.py <tests> <folder>: nnkern.dask, searches, workers that hang."""

import itertools
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import dask.array as da
import distributed
import numpy as np
import pytest
from dask_rounds import SIZES, load, trained

import nnkern as nk
from nnkern.dask import MLPClassifier, MLPRegressor


def samples(m=300, classes=3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((m, 4))
    return X, np.array(["fern", "lichen", "moss"])[(X @ rng.standard_normal((4, classes))).argmax(axis=1)]


def raises(kind, words, function, *arguments, **how):
    with pytest.raises(kind, match=re.escape(words)):
        function(*arguments, **how)


def same(net, other):
    return all(array.tobytes() == other.parameters[name].tobytes() for name, array in net.parameters.items())


def check_classifier(client, _folder):
    """Classes of all partitions; what is trained is what fit_shards trains; predictions are lazy."""
    X, y = samples()
    order = np.argsort(y, kind="stable")  # no partition has all classes
    X, y, w = X[order], y[order], np.random.default_rng(1).exponential(size=300)
    sizes = (100, 0, 120, 80)
    own = {"chunks": (sizes, (2, 2))}, {"chunks": (sizes,)}
    clf = MLPClassifier((6,), max_iter=6, batch_size=30, random_state=3, n_shards=2)
    clf.fit(da.from_array(X, **own[0]), da.from_array(y, **own[1]), da.from_array(w, **own[1]))
    assert clf.classes_.tolist() == ["fern", "lichen", "moss"]
    codes = np.searchsorted(clf.classes_, y)
    shards = [(X[at].T, codes[at], w[at]) for at in (slice(0, 100), slice(100, 300))]
    layers = [nk.Dense(6, "relu"), nk.Dense(3, "softmax")]
    net = nk.Network(layers, "cross_entropy", n_x=4, l2=1e-4 / 30, dtype="float64", seed=3)
    with ThreadPoolExecutor(1) as executor:
        how = {"rounds": 6, "batch_size": 15, "optimizer": nk.Adam(1e-3 * 2**0.5)}
        history = nk.fit_shards(net, shards, executor=executor, **how)
    assert same(net, clf.network_)
    assert clf.loss_curve_ == history["cost"]
    lazy = clf.predict(da.from_array(X, **own[0]))
    assert isinstance(lazy, da.Array)
    assert lazy.chunks == (sizes,)
    assert (lazy.compute() == clf.predict(X)).all()
    assert (clf.predict(X) == clf.classes_[net.predict_labels(X.T)]).all()
    P = clf.predict_proba(da.from_array(X, **own[0]))
    assert P.chunks == (sizes, (3,))
    np.testing.assert_allclose(P.compute(), net.predict(X.T).T, rtol=1e-12)
    assert clf.score(X, y) == (clf.predict(X) == y).mean()


def check_two_classes_and_early_stopping(client, _folder):
    """Labels of 0 and 1, held-out samples that end the training, and its best round."""
    X, y = samples()
    y = (y == "moss").astype(int)
    clf = MLPClassifier((6,), max_iter=500, learning_rate_init=0.05, random_state=0, early_stopping=True, tol=0.01)
    arrays = da.from_array(X[:200], chunks=(70, 4)), da.from_array(y[:200], chunks=70)
    clf.fit(*arrays, eval_set=(da.from_array(X[200:], chunks=(50, 4)), y[200:]))
    assert clf.n_iter_ < 500
    cost, score = clf.network_.evaluate(X[200:].T, y[200:])
    best = np.argmin(clf.validation_loss_curve_)
    np.testing.assert_allclose(cost, clf.validation_loss_curve_[best], rtol=1e-12)
    assert score == clf.validation_scores_[best]
    assert clf.predict_proba(X).shape == (300, 2)
    assert set(clf.predict(arrays[0]).compute()) == {0, 1}


def check_frames(client, _folder):
    """Frames of partitions whose lengths nobody knows, their index, their names; numbers in several columns."""
    import dask.dataframe as dd
    import pandas as pd

    X, y = samples()
    frame = pd.DataFrame(X, columns=list("abcd"), index=pd.Index(range(1000, 1300), name="number")).astype(np.float32)
    frame["y"], frame["sum"], frame["first"] = y, X.sum(axis=1), X[:, 0]
    table = dd.from_pandas(frame, npartitions=3)
    table = table[table["a"] > -5]
    clf = MLPClassifier((6,), max_iter=5, random_state=1).fit(table[list("abcd")], table["y"])
    assert clf.network_.dtype == np.float32
    assert clf.feature_names_in_.tolist() == list("abcd")
    lazy = clf.predict(table[list("abcd")])
    found = lazy.compute()
    assert found.index.equals(frame.index)
    assert (found == clf.predict(frame[list("abcd")])).all()
    P = clf.predict_proba(table[list("abcd")]).compute()
    assert list(P.columns) == ["fern", "lichen", "moss"]
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
    several = MLPRegressor(hidden_layer_sizes=(6,), max_iter=60, random_state=1, learning_rate_init=0.02)
    several.fit(table[list("abcd")], table[["sum", "first"]])
    assert several.score(X, frame[["sum", "first"]]) > 0.9
    assert several.predict(table[list("abcd")]).compute().shape == (300, 2)
    one = MLPRegressor("huber", (6,), max_iter=5, random_state=1).fit(table[list("abcd")], table["sum"])
    assert one.predict(table[list("abcd")]).compute().shape == (300,)


def check_refusals(client, _folder):
    """What is said of what can't be trained on."""
    X, y = samples()
    arrays = da.from_array(X, chunks=(100, 4)), da.from_array(y, chunks=100)
    raises(TypeError, "X must be a dask array, frame or series; got ndarray", MLPClassifier().fit, X, y)
    raises(ValueError, "early_stopping needs an eval_set", MLPClassifier(early_stopping=True).fit, *arrays)
    raises(ValueError, "y has one class only", MLPClassifier().fit, arrays[0], da.full_like(arrays[1], "fern"))
    raises(ValueError, "solver", MLPClassifier(solver="lbfgs").fit, *arrays)
    bad = da.from_array(np.where(X > 2, np.nan, X), chunks=(100, 4))
    raises(ValueError, "X", MLPClassifier(max_iter=1).fit, bad, arrays[1])
    other = da.from_array(y[:200], chunks=100)
    raises(ValueError, "must have the same partitions", MLPClassifier().fit, arrays[0], other)
    raises(ValueError, "rows in the same partition", MLPClassifier().fit, arrays[0], da.from_array(y[:280], chunks=100))
    unknown = MLPClassifier(max_iter=1).fit
    raises(
        ValueError, "has the class 'fungus'", unknown, *arrays, eval_set=(X[:3], np.array(["fern", "fungus", "moss"]))
    )


def check_search(client, _folder):
    """A search of scikit-learn's on joblib's backend of Dask."""
    import joblib
    from sklearn.model_selection import GridSearchCV

    from nnkern.sklearn import MLPClassifier as InMemory

    X, y = samples()

    def search():
        estimator = InMemory((6,), max_iter=15, random_state=0, learning_rate_init=0.01, tol=0, n_iter_no_change=99)
        return GridSearchCV(estimator, {"alpha": [1e-4, 1.0], "activation": ["relu", "tanh"]}, cv=3)

    with joblib.parallel_backend("dask"):
        spread = search().fit(X, y)
    here = search().fit(X, y)
    assert spread.best_params_ == here.best_params_
    assert spread.cv_results_["mean_test_score"].tolist() == here.cv_results_["mean_test_score"].tolist()
    assert spread.best_estimator_.coefs_[0].tobytes() == here.best_estimator_.coefs_[0].tobytes()


def hangs_once(path, function):
    if not path.exists():
        path.write_text("")
        time.sleep(600)
    return function()


def check_hanging(client, folder):
    """A task that hangs costs its task: another worker does it."""
    functions = [partial(load, m, seed) for seed, m in enumerate(SIZES)]
    with ThreadPoolExecutor(1) as executor:
        expected = trained(executor, functions)
    functions[1] = partial(hangs_once, folder / "tried", functions[1])
    begun = time.monotonic()
    assert trained(client, functions, timeout=2.0) == expected
    assert (folder / "tried").exists()
    assert time.monotonic() - begun < 300


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}

if __name__ == "__main__":
    folder, names = Path(sys.argv[2]), sys.argv[1].split(",")
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "local_directory": str(folder)}
    if "no_client" in names:
        raises(ValueError, "there is no client", MLPClassifier().fit, da.zeros((3, 4)), da.zeros(3))
    cluster = distributed.LocalCluster(**how)
    client = distributed.Client(cluster)
    for name in itertools.filterfalse("no_client".__eq__, names):
        CHECKS[name](client, folder)
    print("all was as it should be", flush=True)
    if "hanging" in names:
        os._exit(0)  # nobody waits for what sleeps
    client.close()
    cluster.close()
