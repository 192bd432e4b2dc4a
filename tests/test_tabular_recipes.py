"""Recipes, bins, metrics, parts of the rows and the ensemble's weights: what trains the networks of a table."""

import itertools
import os
import signal
import time
import types

import numpy as np
import pytest

import nnkern as nk
from nnkern import exceptions

pytest.importorskip("sklearn")

from sklearn import metrics as theirs
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from nnkern.tabular import bins, ensemble, metrics, recipes, splits, training
from nnkern.tabular.recipes import Preset, Recipe

SMALL = {"units": (8,), "epochs": 4, "bins": 4, "number_units": None, "patience": None, "batch_size": 16}
# one of each way to take numbers
WAYS = [Recipe(**SMALL, numbers=numbers) for numbers in ("quantile", "tree", "plain")]


def row(kind, size=1):
    return types.SimpleNamespace(kind=kind, size=size)


ROWS = [row("number"), row("number"), row("passthrough"), row("code", 4), row("code", 12)]


def table(task, m=300, seed=0):
    """X (5, m), y (m,) of a task."""
    rng = np.random.default_rng(seed)
    X = np.zeros((5, m), np.float32, order="F")
    X[:2] = rng.normal(size=(2, m))
    X[2], X[3], X[4] = rng.integers(0, 2, m), rng.integers(0, 4, m), rng.integers(0, 12, m)
    z = np.sin(2 * X[0]) + (X[3] == 2) + 0.3 * rng.normal(size=m)
    if task == "regression":
        return X, ((z - z.mean()) / z.std()).astype(np.float32)
    return X, (z > np.median(z)).astype(int) if task == "binary" else np.digitize(z, np.quantile(z, [0.3, 0.7]))


def train(task="binary", m=300, **options):
    X, y = table(task, m)
    return training.train(X, y, ROWS, task, **({"recipes": WAYS[0], "seed": 3} | options))


def bits(trained):
    return [net.parameters[name].tobytes() for net in trained.networks for name in net.parameters]


# ---- bins ----


def test_quantile_edges_are_numpys_quantiles_in_float32():
    x = np.random.default_rng(0).normal(size=1000)
    edges = bins.quantile_edges(x, 16)
    assert edges.tolist() == np.quantile(x, np.linspace(0, 1, 17)).astype(np.float32).astype(float).tolist()


def test_quantiles_that_fall_together_are_one_edge():
    x = np.concatenate([np.zeros(80), np.arange(1.0, 21)])
    edges = bins.quantile_edges(x, 10)
    assert edges.tolist() == np.unique(np.quantile(x, np.linspace(0, 1, 11)).astype(np.float32)).tolist()
    assert bins.quantile_edges(np.full(9, 2.5), 4).tolist() == [2.5]


def test_edges_that_float32_hardly_tells_apart_are_one():
    x = np.concatenate([np.zeros(50), np.full(50, 1e-8), np.ones(50)])
    assert bins.quantile_edges(x, 8).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_tree_edges_are_the_thresholds_of_a_tree_of_one_feature(classes, weighted):
    rng = np.random.default_rng(1)
    x = rng.normal(size=900).astype(np.float32)
    y = (np.sin(4 * x) > 0).astype(int) if classes else np.sin(4 * x)
    w = rng.uniform(0.1, 3, 900) if weighted else None
    kind = DecisionTreeClassifier if classes else DecisionTreeRegressor
    tree = kind(max_leaf_nodes=8, min_samples_leaf=64, random_state=0).fit(x[:, None], y, w).tree_
    inner = np.unique(tree.threshold[tree.feature >= 0].astype(np.float32))
    edges = bins.tree_edges(x, y, 8, classes=classes, sample_weight=w)
    assert len(inner) > 3
    assert edges.tolist() == [x.min(), *inner.tolist(), x.max()]


def test_a_tree_that_finds_nothing_leaves_one_bin():
    x = np.arange(40.0)
    assert bins.tree_edges(x, np.arange(40) % 2, 8, classes=True).tolist() == [0.0, 39.0]


def test_edges_make_encoders():
    x = np.concatenate([np.zeros(500), np.random.default_rng(0).lognormal(size=300)])
    for edges in (bins.quantile_edges(x, 16), bins.tree_edges(x, x, 16, classes=False)):
        assert nk.PiecewiseLinear(0, edges).features == len(edges) - 1


# ---- metrics ----


def predictions(k, m=200):
    rng = np.random.default_rng(k)
    P = rng.dirichlet(np.ones(k), m).T
    return rng.integers(0, k, m), P, rng.uniform(0.1, 2, m)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("weighted", [True, False])
def test_metrics_of_classes_are_scikit_learns(k, weighted):
    y, P, w = predictions(k)
    w = w if weighted else None
    labels = P.argmax(axis=0)
    expected = {
        "log_loss": theirs.log_loss(y, P.T, sample_weight=w),
        "accuracy": theirs.accuracy_score(y, labels, sample_weight=w),
        "error": theirs.zero_one_loss(y, labels, sample_weight=w),
        "recall": theirs.recall_score(y, labels, sample_weight=w, average="binary" if k == 2 else "macro"),
        "balanced_accuracy": theirs.balanced_accuracy_score(y, labels, sample_weight=w),
        "f1": theirs.f1_score(y, labels, sample_weight=w, average="binary" if k == 2 else "macro"),
        "auc": theirs.roc_auc_score(y, P[1], sample_weight=w)
        if k == 2
        else np.mean([theirs.roc_auc_score(y == c, P[c], sample_weight=w) for c in range(k)]),
    }
    for name, value in expected.items():
        assert metrics.METRICS[name].value(y, P, w) == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("weighted", [True, False])
def test_metrics_of_numbers_are_scikit_learns(weighted):
    rng = np.random.default_rng(0)
    y, P = rng.normal(size=50), rng.normal(size=(1, 50))
    w = rng.uniform(0.1, 2, 50) if weighted else None
    expected = {
        "rmse": theirs.root_mean_squared_error(y, P[0], sample_weight=w),
        "mae": theirs.mean_absolute_error(y, P[0], sample_weight=w),
        "r2": theirs.r2_score(y, P[0], sample_weight=w),
    }
    for name, value in expected.items():
        assert metrics.METRICS[name].value(y, P, w) == pytest.approx(value, rel=1e-12), name


def test_the_loss_of_a_metric_falls_where_it_gets_better():
    y = np.array([0, 1, 0, 1])
    good = np.array([[0.8, 0.3, 0.7, 0.1], [0.2, 0.7, 0.3, 0.9]])
    bad = good[::-1]
    for metric in metrics.METRICS.values():
        right, wrong = (good, bad) if metric.classifies else (y[None] + 0.1, 1 - y[None])
        assert metric.loss(y, right) < metric.loss(y, wrong), metric.name
        assert abs(metric.loss(y, right)) == abs(metric.value(y, right))


def test_an_auc_of_one_class_is_nan_and_absent_classes_are_left_out():
    auc = metrics.METRICS["auc"]
    assert np.isnan(auc.value(np.ones(3, int), np.full((2, 3), 0.5)))
    y, P, _ = predictions(3)
    only = y < 2
    expected = np.mean([theirs.roc_auc_score(y[only] == c, P[c, only]) for c in (0, 1)])
    assert auc.value(y[only], P[:, only]) == pytest.approx(expected, rel=1e-12)


def test_recall_is_the_share_of_the_second_class_that_is_found():
    recall = metrics.METRICS["recall"]
    P = np.array([[0.9, 0.2, 0.6, 0.1], [0.1, 0.8, 0.4, 0.9]])
    assert recall.value(np.array([0, 1, 1, 0]), P, np.array([1, 3, 1, 1.0])) == 3 / 4
    assert np.isnan(recall.value(np.zeros(4, int), P))


def test_calibration_error_is_the_mean_gap_between_confidence_and_accuracy():
    error = metrics.METRICS["calibration_error"]
    P = np.array([[0.95, 0.65, 0.62, 0.4], [0.05, 0.35, 0.38, 0.6]])
    # bins: 0.95 right; 0.65 and 0.62 and 0.6: right, wrong, right, 0.6 lying in the bin from 0.6 on
    gap = abs(1 - 0.95) * 1 + abs(2 - (0.65 + 0.62 + 0.6))
    assert error.value(np.array([0, 0, 1, 1]), P) == pytest.approx(gap / 4)
    weight = np.array([2.0, 1, 1, 0])
    gap = 2 * abs(1 - 0.95) + abs(1 - (0.65 + 0.62))
    assert error.value(np.array([0, 0, 1, 1]), P, weight) == pytest.approx(gap / 4)


def test_a_metric_of_the_other_kind_is_refused():
    with pytest.raises(
        ValueError, match=r"metric 'auc' is of classes, the task is regression: use one of rmse, mae, r2"
    ):
        metrics.get("auc", "regression")
    with pytest.raises(ValueError, match=r"metric 'rmse' is of numbers, the task is binary: use one of log_loss, auc"):
        metrics.get("rmse", "binary")
    with pytest.raises(ValueError, match=r"metric must be one of log_loss, .*; got 'acc'"):
        metrics.get("acc", "binary")
    assert metrics.get(None, "regression").name == "rmse"
    assert metrics.get(None, "multiclass").name == "log_loss"


# ---- recipes ----


def test_a_recipe_is_its_numbers():
    assert Recipe() == Recipe() != Recipe(dropout=0.2)
    assert Recipe(dropout=0.2) == Recipe().replace(dropout=0.2)
    assert hash(Recipe(units=[8, 8])) == hash(Recipe(units=(8, 8)))
    assert eval(repr(Recipe(units=(4,)))) == Recipe(units=(4,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 8}, "units must be a sequence of whole numbers; got 8"),
        ({"units": (0,)}, "units must be an integer >= 1"),
        ({"activation": "gelu?"}, "activation must be one of"),
        ({"numbers": "bins"}, "numbers must be one of plain, periodic, quantile, tree; got 'bins'"),
        ({"bins": 1}, "bins must be an integer >= 2"),
        ({"bin_rows": 0}, "bin_rows must be an integer >= 1"),
        ({"number_units": 1}, "number_units must be an integer >= 2"),
        ({"embedding_units": 0}, "embedding_units must be an integer >= 1"),
        ({"embedding_from": 0}, "embedding_from must be an integer >= 1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"scale": 1}, "scale must be True or False"),
        ({"mix": None}, "mix must be True or False"),
        ({"ntk": 0}, "ntk must be True or False"),
        ({"bias_rate": -1}, "bias_rate must be finite and >= 0"),
        ({"encoder_rate": -1}, "encoder_rate must be finite and >= 0"),
        ({"learning_rate": 0}, "learning_rate must be finite and > 0"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and >= 0"),
        ({"beta2": 1.0}, r"beta2 must be in \[0, 1\)"),
        ({"schedule": "cos"}, "schedule must be one of cosine"),
        ({"dropout_schedule": "cos"}, "dropout_schedule must be one of cosine"),
        ({"epochs": 0}, "epochs must be an integer >= 1"),
        ({"patience": 0}, "patience must be an integer >= 1"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
        ({"label_smoothing": 1}, r"label_smoothing must be in \[0, 1\)"),
        ({"compute": "int8"}, "compute must be None"),
    ],
)
def test_what_a_recipe_refuses(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Recipe(**options)


def test_batches_grow_with_the_rows():
    rows = (1, 5, 100, 767, 768, 1535, 1536, 20_000, 39_999, 40_000, 700_000, 10**8)
    sizes = [Recipe().batch(m) for m in rows]
    assert sizes == [1, 5, 8, 32, 64, 64, 128, 128, 128, 256, 4096, 4096]
    assert sorted(sizes) == sizes
    assert Recipe(batch_size=100).batch(1200) == 100
    assert Recipe(batch_size=100).batch(1000) == 50
    assert Recipe(batch_size=10_000).batch(10**6) == 10_000


def test_the_rate_goes_with_the_square_root_of_the_batch():
    recipe = Recipe(learning_rate=1e-3, batch_size=64)
    rates = [recipe.optimizer(m).learning_rate.initial for m in (192, 1000, 20_000, 80_000)]
    assert rates == [0.5e-3, 1e-3, 1e-3, 2e-3]
    assert recipe.replace(schedule=None).optimizer(80_000).learning_rate == 2e-3


def test_large_tables_have_fewer_epochs():
    assert [Recipe(epochs=64).epochs_of(m) for m in (10, 20_000, 80_000, 10**7)] == [64, 64, 32, 16]
    assert Recipe(epochs=5).epochs_of(10**7) == 5


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_recipe_makes_the_network_that_it_says(task):
    X, y = table(task)
    n_classes = {"binary": 2, "multiclass": 3, "regression": 0}[task]
    recipe = Recipe(
        units=(7, 5),
        activation="selu",
        mix=True,
        scale=True,
        dropout=0.2,
        bias_rate=0.1,
        encoder_rate=0.5,
        embedding_from=11,
    )
    recipe = recipe.replace(
        dropout_schedule="flat_cos", numbers="quantile", number_units=3, bins=4, label_smoothing=0.1
    )
    net = recipe.network((X, y, None, ROWS), n_classes, seed=4)
    encode, scale, *hidden, last = net.layers
    kinds = ["numeric", "piecewise_linear"] * 2 + ["numeric", "one_hot", "embedding"]
    assert [one.name for one in encode.encoders] == kinds
    assert [one.row for one in encode.encoders] == [0, 0, 1, 1, 2, 3, 4]
    assert encode.encoders[1].edges == tuple(bins.quantile_edges(X[0], 4))
    assert (encode.encoders[5].size, encode.encoders[5].unknown, encode.encoders[6].size) == (3, True, 12)
    assert (encode.rate, scale.kind, scale.rate) == (0.5, "scale", 6.0)
    assert [(one.units, one.activation, one.mix, one.bias_rate) for one in hidden] == [
        (7, "selu", True, 0.1),
        (5, "selu", True, 0.1),
    ]
    assert hidden[0].dropout == nk.schedules.ByStep(0.2, "flat_cos")
    assert (last.units, last.activation) == ((1, "linear") if task == "regression" else (n_classes, "softmax"))
    assert net.loss == ("squared_error" if task == "regression" else "cross_entropy")
    assert net.seed == 4


def test_each_way_to_take_numbers():
    X, y = table("binary")
    made = {
        numbers: Recipe(numbers=numbers, bins=5, number_units=None if numbers != "periodic" else 3).encoders(
            (X, y, None, ROWS), 2
        )
        for numbers in recipes.NUMBERS
    }
    assert [one.name for one in made["plain"][:3]] == ["numeric"] * 3
    assert made["periodic"][0] == nk.Periodic(0, 5, 3)
    assert made["tree"][1] == nk.PiecewiseLinear(0, bins.tree_edges(X[0], y, 5, classes=True))
    few = Recipe(bins=20, bin_rows=5, number_units=None).encoders((X, y, None, ROWS), 2)[1]
    assert few.edges == tuple(bins.tree_edges(X[0], y, 20, classes=True, min_rows=5))
    assert few.features > made["tree"][1].features
    assert made["quantile"][1] == nk.PiecewiseLinear(0, bins.quantile_edges(X[0], 5))


def test_a_number_of_one_bin_is_itself():
    X = np.zeros((1, 50), np.float32)
    X[0, :3] = 1
    found = Recipe().encoders((X, np.arange(50) % 2, None, [row("number")]), 2)
    assert found == [nk.Numeric(0)]


def test_edges_of_many_rows_are_found_from_some():
    X, y = table("regression", recipes._MOST_FOR_EDGES + 1000)
    edges = [Recipe(numbers="quantile").encoders((X, y, None, ROWS), 0)[1].edges for _ in range(2)]
    assert edges[0] == edges[1] != tuple(bins.quantile_edges(X[0], 16))
    assert np.allclose(edges[0][1:-1], bins.quantile_edges(X[0], 16)[1:-1], atol=0.03)


def test_an_unknown_kind_of_row_is_refused():
    with pytest.raises(ValueError, match="row 0 of X must be of kind number, passthrough or code; got 'text'"):
        Recipe().encoders((np.zeros((1, 4)), np.zeros(4), None, [row("text")]), 2)


def test_the_presets_are_recipes():
    assert list(recipes.PRESETS) == ["fast", "default", "best"]
    for preset in recipes.PRESETS.values():
        assert all(isinstance(one, Recipe) for one in preset.recipes)
    with pytest.raises(ValueError, match="n_estimators must be an integer >= 1"):
        Preset([Recipe()], 0)


# ---- parts ----


@pytest.mark.parametrize("m", [7, 50, 301])
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("classes", [True, False])
def test_folds_partition_the_rows_and_each_class(m, count, classes):
    y = np.random.default_rng(m).integers(0, 3, m) if classes else None
    numbers = splits.folds_of(m, count, y, 5)
    assert sorted(set(numbers.tolist())) == list(range(count))
    sizes = np.bincount(numbers)
    assert sizes.max() - sizes.min() <= 1
    for label in range(3) if classes else ():
        sizes = np.bincount(numbers[y == label], minlength=count)
        assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_a_share_is_held_out_of_each_class(share):
    y = np.repeat([0, 1, 2], [500, 200, 40])
    held = splits.share_of(740, share, y, 1)
    assert abs(held.sum() - 740 * share) <= 1
    for label, size in enumerate((500, 200, 40)):
        assert abs(held[y == label].sum() - size * share) <= 1
    assert (splits.share_of(740, share, y, 2) != held).any()


@pytest.mark.parametrize("m", [2, 3, 4, 9])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
def test_something_is_trained_on_and_something_held_out(m, share):
    assert 0 < splits.share_of(m, share, None, 0).sum() < m


def test_a_class_is_never_held_out_whole():
    for seed in range(20):
        y = np.repeat([0, 1, 2], [60, 30, 1])
        held = splits.share_of(91, 0.2, y, seed)
        assert set(y[~held].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(5))
def test_the_one_row_that_is_held_out_is_of_the_most_frequent_class(seed):
    assert splits.share_of(4, 0.01, np.array([0, 0, 0, 1]), seed)[:3].sum() == 1
    assert splits.share_of(4, 0.01, np.array([2, 0, 0, 1]), seed)[1:3].sum() == 1
    assert splits.share_of(4, 0.01, None, seed).sum() == 1


@pytest.mark.parametrize("m", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.97, 1.0])
def test_columns_are_put_last_in_place_and_back(m, share, monkeypatch):
    monkeypatch.setattr(splits, "BLOCK_ROWS", 64)
    rng = np.random.default_rng(m)
    X = np.asfortranarray(rng.standard_normal((3, m)).astype(np.float32))
    held, before = rng.random(m) < share, X.copy()
    splits.held_last(X, held)
    np.testing.assert_array_equal(X, np.concatenate([before[:, ~held], before[:, held]], axis=1))
    splits.as_before(X, held)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("weights", [None, "some 0"])
def test_to_overwrite_X_saves_a_copy_and_changes_nothing(refit, weights, monkeypatch):
    monkeypatch.setattr(splits, "BLOCK_ROWS", 32)
    X, y = table("binary")
    weight = None if weights is None else np.arange(len(y)) % 5
    options = {"recipes": WAYS, "sample_weight": weight, "refit": refit, "seed": 3}
    expected = training.train(X, y, ROWS, "binary", **options)
    ours, found, parts_of = X.copy(order="F"), [], splits.parts
    monkeypatch.setattr(splits, "parts", lambda *some: found.extend(parts_of(*some)) or found)
    trained = training.train(ours, y, ROWS, "binary", **options, overwrite_X=True)
    assert bits(trained) == bits(expected)
    if weights is None:
        assert np.shares_memory(found[0].train.X, ours)
        assert (ours == X).all() == refit


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_parts_hold_out_rows_of_their_own(n_estimators):
    X, y = table("binary", 100)
    X[0] = np.arange(100)
    data = splits.Examples(X, y, np.arange(1.0, 101))
    found = splits.parts(data, 0.2, n_estimators, 2, seed=0)
    assert len(found) == n_estimators
    for part in found:
        rows_of = [examples.X[0].astype(int).tolist() for examples in (part.train, part.held_out)]
        assert sorted(rows_of[0] + rows_of[1]) == list(range(100))
        for examples, own in zip((part.train, part.held_out), rows_of, strict=True):
            assert (examples.y == y[own]).all()
            assert (examples.w == np.array(own) + 1.0).all()
        assert part.held_rows.tolist() == rows_of[1]
    if n_estimators > 1:
        assert sorted(itertools.chain(*(part.held_rows.tolist() for part in found))) == list(range(100))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": 0.0}, r"held_out must be in \(0, 1\)"),
        ({"held_out": (1, 2, 3, 4)}, r"held_out must be \(X, y\)"),
        ({"held_out": (np.zeros((4, 9)), np.zeros(9, int))}, "held_out's X has 4 features, X has 5"),
        (
            {"held_out": (np.zeros((5, 9)), np.zeros(8, int))},
            r"held_out's X must be \(n_x, m\) and held_out's y \(m,\)",
        ),
        ({"held_out": (np.zeros((5, 9)), np.full(9, 2))}, "held_out's y must hold codes 0 to 1, those of y; got 2"),
        ({"held_out": (np.zeros((5, 9)), np.zeros(9, int), np.zeros(9))}, "held_out has no rows of weight above 0"),
        ({"held_out": (np.zeros((5, 9)), np.zeros(9, int), np.ones(8))}, r"sample_weight must have shape \(9,\)"),
        ({"sample_weight": np.ones(299)}, r"sample_weight must have shape \(300,\); got \(299,\)"),
        ({"sample_weight": np.eye(1, 300)[0]}, "1 sample .* can't be divided into rows to train on"),
        ({"n_estimators": 0}, "n_estimators must be an integer >= 1"),
        ({"n_estimators": 301}, "300 samples .* at least 301 are needed"),
        ({"recipes": []}, "recipes must be recipes of nnkern.tabular, at least one"),
        ({"recipes": [3]}, "recipes must be recipes of nnkern.tabular, at least one"),
        ({"metric": "rmse"}, "metric 'rmse' is of numbers"),
        ({"time_limit": 0}, "time_limit must be finite and > 0"),
        ({"seed": -1}, "seed must be an integer >= 0"),
        ({"threads": 0}, "threads must be"),
        ({"progress": "yes"}, "progress must be True or False"),
    ],
)
def test_what_train_refuses(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        train(**options)
    X, y = table("binary")
    for codes, what in ((y - 1, "int64 from -1"), (y / 1, "float64 from 0")):
        with pytest.raises(ValueError, match=f"y must hold codes of classes, integers from 0; got {what}"):
            training.train(X, codes, ROWS, "binary", recipes=WAYS)
    with pytest.raises(ValueError, match="task must be one of binary, multiclass, regression; got 'classes'"):
        training.train(*table("binary"), ROWS, "classes", recipes=WAYS)


# ---- the ensemble ----


def squared(y):
    return lambda P: float(((P - y) ** 2).mean())


def test_greedy_weights_are_no_worse_than_the_best_alone():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        y = rng.normal(size=(1, 60))
        predictions = [y + rng.normal(size=(1, 60)) * rng.uniform(0.2, 2) + rng.normal() / 3 for _ in range(4)]
        loss = squared(y)
        weights = ensemble.greedy_weights(predictions, loss)
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        assert (weights >= 0).all()
        mean = sum(w * P for w, P in zip(weights, predictions, strict=True))
        assert loss(mean) <= min(map(loss, predictions)) + 1e-12


def test_greedy_weights_take_what_makes_up_for_each_other_and_leave_the_rest():
    y = np.zeros((1, 4))
    off = np.array([[1.0, -1.0, 1.0, -1.0]])
    weights = ensemble.greedy_weights([off, 5 + off, -off], squared(y))
    assert weights.tolist() == [0.5, 0, 0.5]


def test_the_best_alone_where_nothing_helps():
    y = np.zeros((1, 4))
    assert ensemble.greedy_weights([y + 2, y + 1, y + 3], squared(y)).tolist() == [0, 1, 0]


def test_a_loss_that_isnt_a_number_tells_nothing():
    assert ensemble.greedy_weights([np.zeros((1, 3))] * 4, lambda P: np.nan).tolist() == [0.25] * 4


def held_out_job(number, part, y, P, held_rows=None):
    held = splits.Examples(np.zeros((1, len(y))), y)
    return types.SimpleNamespace(recipe_number=number, part_number=part, P=P, part=splits.Part(None, held, held_rows))


def test_a_metric_of_the_caller_has_half_a_say():
    y = np.array([0, 1, 1, 1])
    sure = np.array([[0.9, 0.01, 0.01, 0.51], [0.1, 0.99, 0.99, 0.49]])  # the least log loss, one error
    right = np.array([[0.51, 0.49, 0.49, 0.49], [0.49, 0.51, 0.51, 0.51]])
    jobs = [held_out_job(0, 0, y, sure), held_out_job(1, 0, y, right)]
    by = [metrics.METRICS[name] for name in ("log_loss", "error")]
    each = [ensemble.weights(jobs, [one]) for one in by]
    assert (each[0] != each[1]).any()
    assert ensemble.weights(jobs, by).tolist() == (np.add(*each) / 2).tolist()


def test_recipes_are_compared_on_rows_that_all_have_predicted():
    y = [np.zeros(4), np.ones(4)]
    first, second = np.arange(4), np.arange(4, 8)
    jobs = [
        held_out_job(0, 0, y[0], y[0][None] + 0.1, first),
        held_out_job(0, 1, y[1], y[1][None] + 9, second),
        held_out_job(1, 0, y[0], y[0][None] + 0.2, first),
    ]
    by = [metrics.METRICS["rmse"]]
    assert ensemble.weights(jobs, by).tolist() == [0.5, 0.5, 0]
    assert ensemble.weights([jobs[1], jobs[2]], by).tolist() == [0.5, 0.5]  # nothing in common


def mean(trained, X):
    """The weighted mean of the networks' outputs."""
    outputs = [net.predict(X, invariant=True).astype(float) for net in trained.networks]
    return sum(weight * out for weight, out in zip(trained.weights, outputs, strict=True))


def test_the_weights_of_an_ensemble_are_those_of_the_report():
    trained = train(recipes=WAYS, metric="auc")
    assert trained.weights.sum() == pytest.approx(1, abs=1e-12)
    assert trained.weights.tolist() == [one["weight"] for one in trained.report if one["weight"] > 0]


@pytest.mark.parametrize(("task", "outputs"), [("binary", 2), ("multiclass", 3), ("regression", 1)])
def test_each_task_has_its_outputs_and_its_score(task, outputs):
    X, y = table(task, 120, seed=9)
    trained = train(task, recipes=WAYS, held_out=(X, y))
    P = mean(trained, X)
    assert P.shape == (outputs, 120)
    assert trained.score == metrics.get(None, task).value(y, P)
    if task != "regression":
        assert np.allclose(P.sum(axis=0), 1, atol=1e-6)


def test_the_folds_networks_of_a_recipe_count_alike():
    trained = train(recipes=WAYS[:2], n_estimators=3)
    of_recipes = {k: {one["weight"] for one in trained.report if one["recipe"] == k} for k in (0, 1)}
    assert [len(weights) for weights in of_recipes.values()] == [1, 1]
    assert sum(one["weight"] for one in trained.report) == pytest.approx(1, abs=1e-12)
    assert [(one["recipe"], one["part"]) for one in trained.report] == [*itertools.product((0, 1), range(3))]


def test_the_score_of_folds_is_of_networks_that_havent_seen_the_row():
    X, y = table("regression")
    trained = train("regression", recipes=WAYS[0], n_estimators=3)
    parts = splits.parts(splits.Examples(X, y), 0.2, 3, 0, 3)
    out = [net.predict(part.held_out.X)[0] for net, part in zip(trained.networks, parts, strict=True)]
    expected = theirs.root_mean_squared_error(np.concatenate([part.held_out.y for part in parts]), np.concatenate(out))
    assert trained.score == pytest.approx(expected, rel=1e-6)


# ---- training ----


@pytest.mark.parametrize("options", [{}, {"n_estimators": 3}, {"held_out": None}])
def test_same_seed_same_bits_for_any_number_of_threads_and_with_progress(options, capsys):
    if "held_out" in options:
        options = {"held_out": table("binary", 80, seed=5), "n_estimators": 2}
    first = train(recipes=WAYS, threads=1, **options)
    for other in (
        train(recipes=WAYS, threads=2, **options),
        train(recipes=WAYS, threads=3, progress=True, **options),
        train(recipes=WAYS, threads=1, progress=lambda *_: None, **options),
    ):
        assert bits(other) == bits(first)
        assert other.weights.tolist() == first.weights.tolist()
    assert bits(train(recipes=WAYS, threads=1, seed=4, **options)) != bits(first)


@pytest.mark.parametrize(("n_estimators", "threads", "at_once"), [(5, 1, 1), (5, 4, 2), (1, 2, 1)])
def test_of_a_large_table_only_what_is_trained_is_copied(n_estimators, threads, at_once, monkeypatch):
    """Parts whose rows are copied at once: as few as there must be for each thread to have a network."""
    options = {"recipes": [way.replace(epochs=4, batch_size=16) for way in WAYS], "n_estimators": n_estimators}
    expected, found, held, parts_of, fit_many = train(**options), [], [], splits.parts, training.many.fit_many

    def spy(*arguments):
        found.extend(parts_of(*arguments))
        return found

    def copied():
        return sum(part.train._X is not None for part in found)

    def trains(nets, X, *arguments, **more):
        held.append((copied(), len({id(array) for array in X})))
        return fit_many(nets, X, *arguments, **more)

    monkeypatch.setattr(training, "_COPIED_BYTES", 0)
    monkeypatch.setattr(splits, "parts", spy)
    monkeypatch.setattr(training.many, "fit_many", trains)
    trained = train(**options, threads=threads)
    assert bits(trained) == bits(expected)
    assert trained.report == [
        one | {"seconds": mine["seconds"]} for one, mine in zip(expected.report, trained.report, strict=True)
    ]
    assert max(held) == (at_once, at_once)
    assert copied() == sum(part.held_out._X is not None for part in found) == 0


def test_networks_of_one_recipe_differ_by_their_seeds():
    trained = train(recipes=WAYS[0], held_out=table("binary", 80, seed=5), n_estimators=2)
    assert len({one["score"] for one in trained.report}) == 2


def test_rows_of_the_caller_are_only_looked_at():
    """With other labels held out other epochs may be kept, but each epoch is the same: the last one is a witness."""
    X, y = table("binary", 80, seed=5)
    ends = []

    class Witness(nk.Callback):
        def on_epoch_end(self, net, epoch, history):
            ends[-1] = {name: array.copy() for name, array in net.parameters.items()}

    for labels in (y, 1 - y):
        ends.append(None)
        session = training.Session(ROWS, "binary", 2, metrics.METRICS["log_loss"], 1)
        parts = splits.parts(splits.Examples(*table("binary")), (X, labels), 1, 2, 0)
        job = training.Job(WAYS[1], 0, 0, parts[0], 0)
        session.prepare(job)
        train_rows = job.part.train
        held = session.validation_data(job.part.held_out)
        job.net.fit(
            train_rows.X, train_rows.y, epochs=3, validation_data=held, callbacks=[Witness()], optimizer=nk.Adam()
        )
    assert all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_training_is_that_of_fit():
    X, y = table("binary")
    held = table("binary", 80, seed=5)
    trained = train(recipes=WAYS[1], held_out=held)
    seed = int(np.random.SeedSequence((3, 0, 0)).generate_state(1)[0])
    recipe, best = WAYS[1], nk.EarlyStopping(None)
    net = recipe.network((X, y, None, ROWS), 2, seed)
    net.fit(
        X,
        y,
        epochs=4,
        batch_size=recipe.batch(300),
        optimizer=recipe.optimizer(300),
        validation_data=held,
        callbacks=best,
    )
    assert all(np.array_equal(net.parameters[name], trained.networks[0].parameters[name]) for name in net.parameters)
    assert trained.report[0]["best_epoch"] == best.best_epoch
    assert trained.report[0]["epochs"] == 4
    assert trained.report[0]["weight"] == 1


def test_rows_of_weight_0_are_as_if_they_werent_there():
    X, y = table("binary")
    w = np.ones(300)
    w[::3] = 0
    with_zeros = train(sample_weight=w)
    kept = w > 0
    without = training.train(X[:, kept], y[kept], ROWS, "binary", recipes=WAYS[0], sample_weight=w[kept], seed=3)
    assert bits(with_zeros) == bits(without)


def test_weights_count_in_training_and_in_the_score():
    X, _ = table("regression")
    w = np.where(X[0] > 0, 10.0, 0.1)
    held = (*table("regression", 80, seed=5), np.linspace(0.1, 3, 80))
    plain, weighted = (train("regression", sample_weight=weight, held_out=held) for weight in (None, w))
    assert bits(plain) != bits(weighted)
    assert weighted.score == metrics.METRICS["rmse"].value(held[1], mean(weighted, held[0]), held[2])


def test_the_number_of_classes_may_be_given():
    """Where no row of the last class counts, the codes don't tell of it."""
    _, y = table("multiclass")
    trained = train("multiclass", sample_weight=(y < 2) * 1.0, n_classes=3)
    assert [net.n_y for net in trained.networks] == [3]
    assert train("multiclass", sample_weight=(y < 2) * 1.0).networks[0].n_y == 2
    with pytest.raises(ValueError, match="n_classes must be an integer >= 3; got 2"):
        train("multiclass", n_classes=2)


def test_the_error_rate_chooses_the_epoch_where_it_is_the_metric():
    session = training.Session(ROWS, "binary", 2, metrics.METRICS["accuracy"], 1)
    part = splits.parts(splits.Examples(*table("binary")), 0.2, 1, 2, 0)[0]
    job = training.Job(WAYS[0], 0, 0, part, 0)
    session.prepare(job)
    assert (job.best.monitor, job.best.ties) == ("val_error", "last")
    for name in ("log_loss", "auc", "f1"):
        training.Session(ROWS, "binary", 2, metrics.METRICS[name], 1).prepare(job)
        assert (job.best.monitor, job.best.ties) == ("val_cost", "first")


def test_a_function_is_told_of_each_epoch():
    told = []
    train(recipes=WAYS, progress=lambda done, total, left: told.append((done, total, left)))
    assert [done for done, _, _ in told] == list(range(1, 13))
    assert {total for _, total, _ in told} == {12}
    assert told[-1][2] == 0


def test_epochs_that_patience_saves_arent_waited_for():
    told = []
    recipe = WAYS[0].replace(epochs=200, patience=1, learning_rate=0.1)
    trained = train(recipes=recipe, progress=lambda *given: told.append(given))
    assert trained.report[0]["epochs"] == len(told) < 200


def test_progress_is_shown(capsys):
    train(progress=True)
    assert "epoch 4/4" in capsys.readouterr().err


# ---- time ----


def jobs(count, parts=1, epochs=40):
    found = []
    for number in range(count):
        for part in range(parts):
            found.append(types.SimpleNamespace(recipe_number=number, part_number=part, epochs=epochs))
    return found


@pytest.mark.parametrize(
    ("count", "parts", "room", "expected"),
    [
        (3, 1, 120.0, [(0, 0, 40), (1, 0, 40), (2, 0, 40)]),  # room for all
        (3, 1, 60.0, [(0, 0, 20), (1, 0, 20), (2, 0, 20)]),  # half of the epochs of all
        (3, 1, 59.0, [(0, 0, 29), (1, 0, 29)]),  # less than half: a recipe less
        (3, 1, 10.0, [(0, 0, 10)]),
        (1, 3, 50.0, [(0, 0, 25), (0, 1, 25)]),  # a part less
        (2, 3, 0.0, [(0, 0, 1)]),  # never nothing
    ],
)
def test_what_a_time_limit_has_room_for(count, parts, room, expected):
    paces = dict.fromkeys(range(count), 1.0)
    chosen = training.plan(jobs(count, parts), paces, room, 1)
    assert [(job.recipe_number, job.part_number, job.epochs) for job in chosen] == expected


def test_two_threads_have_room_for_twice_as_much():
    chosen = training.plan(jobs(2), {0: 1.0, 1: 1.0}, 40.0, 2)
    assert [job.epochs for job in chosen] == [40, 40]


def test_no_time_at_all_trains_one_network():
    trained = train(recipes=WAYS, n_estimators=3, time_limit=1e-9)
    assert [(one["recipe"], one["part"], one["epochs"]) for one in trained.report] == [(0, 0, 1)]
    assert trained.weights.tolist() == [1]


def test_much_time_changes_nothing():
    assert bits(train(recipes=WAYS, time_limit=1e6)) == bits(train(recipes=WAYS))


def test_held_out_rows_are_predicted_on_the_threads_asked_for(monkeypatch):
    asked, predict = [], nk.Network.predict

    def spy(net, X, **options):
        asked.append(options)
        return predict(net, X, **options)

    monkeypatch.setattr(nk.Network, "predict", spy)
    train(recipes=WAYS, threads=1)
    assert asked == [{"threads": 1, "invariant": True}] * len(WAYS)


# ---- what goes wrong ----


def test_a_network_that_diverges_is_left_out():
    wild = WAYS[2].replace(learning_rate=1e30, schedule=None, units=(64,))
    trained = train("regression", recipes=[wild, WAYS[0]])
    assert [one["recipe"] for one in trained.report] == [1]
    assert np.isfinite(mean(trained, table("regression")[0])).all()
    with pytest.raises(exceptions.DivergenceError):
        train("regression", recipes=wild)


def test_ctrl_c_keeps_the_best_so_far():
    seen = []

    def interrupt(done, total, left):
        seen.append(done)
        if done == 5:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    recipe = WAYS[0].replace(epochs=100_000)
    with pytest.warns(UserWarning, match="Training interrupted by user; the best epochs so far are kept"):
        trained = train(recipes=recipe, progress=interrupt)
    assert trained.interrupted
    assert 5 <= len(seen) < 100_000
    report = trained.report[0]
    assert report["best_epoch"] < len(seen)
    assert trained.score == report["score"]


def test_ctrl_c_before_the_first_epoch_is_raised(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.many, "fit_many", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train()


# ---- all rows at the end ----


def test_networks_that_count_are_trained_again_on_all_rows_as_long_as_their_best():
    first, again = train(recipes=WAYS), train(recipes=WAYS, refit=True)
    assert [one["refit"] for one in first.report] == [False] * 3
    assert [one["refit"] for one in again.report] == [one["weight"] > 0 for one in again.report]
    assert again.weights.tolist() == first.weights.tolist()
    assert again.score == first.score
    X, y = table("binary")
    counting = [one for one in again.report if one["weight"] > 0]
    for one, net in zip(counting, again.networks, strict=True):
        recipe = WAYS[one["recipe"]]
        seed = int(np.random.SeedSequence((3, one["recipe"], 0)).generate_state(1)[0])
        own = recipe.network((X, y, None, ROWS), 2, seed)
        ends = [lambda net, epoch, history, last=one["best_epoch"]: epoch == last]
        own.fit(X, y, epochs=4, batch_size=16, optimizer=recipe.optimizer(300), callbacks=ends)
        assert all((net.parameters[name] == own.parameters[name]).all() for name in own.parameters)


@pytest.mark.parametrize(
    "options", [{"held_out": table("binary", 80, 1)}, {"n_estimators": 2}], ids=["given", "bagged"]
)
def test_rows_that_the_caller_holds_out_and_folds_are_not_trained_on_again(options):
    first, again = train(**options), train(**options, refit=True)
    assert bits(first) == bits(again)
    assert not any(one["refit"] for one in again.report)


def test_the_last_training_has_the_same_bits_for_any_number_of_threads():
    assert bits(train(recipes=WAYS, refit=True, threads=1)) == bits(train(recipes=WAYS, refit=True, threads=2))


def test_ctrl_c_in_the_last_training_keeps_what_was_there(monkeypatch):
    first, fit_many = train(), training.many.fit_many

    def interrupted(nets, X, *rest, **more):
        if isinstance(X, list):
            return fit_many(nets, X, *rest, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(training.many, "fit_many", interrupted)
    with pytest.warns(UserWarning, match="interrupted by user"):
        again = train(refit=True)
    assert again.interrupted
    assert bits(again) == bits(first)


def test_no_time_for_a_last_training_leaves_it_out(monkeypatch):
    monkeypatch.setattr(training.Session, "time_for", lambda session, group, report: False)
    assert bits(train(refit=True)) == bits(train())


def test_the_last_trainings_epochs_are_told_of():
    told = []
    again = train(refit=True, progress=lambda done, total, left: told.append((done, total)))
    last = again.report[0]["best_epoch"] + 1
    assert told == [*((k, 4) for k in range(1, 5)), *((k, last) for k in range(1, last + 1))]
