"""The networks of a table in rounds, by the threads of this process; on Dask's workers they are test_dask.py's."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import nnkern as nk

pytest.importorskip("sklearn", minversion="1.7")
pytest.importorskip("narwhals")
pytest.importorskip("pyarrow")

from nnkern.schedules import ByStep
from nnkern.tabular import Recipe, TabularClassifier, metrics, on_dask, rounds, splits
from nnkern.tabular import shards as shards_
from nnkern.tabular.columns import Row

SHORT = Recipe(units=(12,), epochs=6, patience=None, bins=6, bin_rows=4)
ROWS = [Row("number", "a"), Row("number", "b"), Row("code", "c", 4)]
SIZES = (70, 0, 90)


def examples(m, classes, seed=0):
    rng = np.random.default_rng(seed)
    X = np.asfortranarray(np.stack([*rng.normal(size=(2, m)), rng.integers(0, 4, m)]).astype(np.float32))
    y = X[0] + (X[2] == 1) + 0.1 * rng.normal(size=m)
    return splits.Examples(X, (y > 0.3).astype(np.int64) if classes else y.astype(np.float32))


class Work:
    """A table in shards, and what is trained of it."""

    def __init__(self, classes=2, sizes=SIZES, epochs_a_round=1):
        self.data, ends = examples(sum(sizes), classes), np.cumsum(sizes)
        self.own = [slice(end - m, end) for end, m in zip(ends, sizes, strict=True)]
        self.taken = []
        shards = [(self.data.X[:, at], self.targets(self.data.y[at], classes)) for at in self.own]
        sample = shards_.Sample(self.data, [np.arange(m) for m in sizes])
        self.table = rounds.ShardsOfTasks(sample, shards, list(sizes), ThreadPoolExecutor(2), self.take)
        task = "binary" if classes else "regression"
        how = ROWS, task, classes, metrics.get(None, task), 1
        self.session = rounds.SessionOfRounds(self.table, (epochs_a_round, None), *how)

    @staticmethod
    def targets(y, classes):
        return y if classes else y[None]

    def take(self, shard, mask):
        self.taken.append(mask)
        return tuple(one[..., mask] for one in shard)

    def train(self, recipes, **how):
        how = {"n_estimators": None, "held_out": 0.2, "refit": False, "seed": 3} | how
        return rounds.train(self.table, self.session, recipes=recipes, **how)


@pytest.mark.parametrize("classes", [0, 2])
def test_a_recipe_is_trained_by_fit_shards_and_its_best_round_kept(classes):
    work = Work(classes)
    trained = work.train(SHORT)
    (part,) = splits.parts(work.data, 0.2, 1, classes, 3)
    held = np.zeros(160, bool)
    held[part.held_rows] = True
    assert [mask.tolist() for mask in work.taken] == [(~held[at]).tolist() for at in (work.own[0], work.own[2])]
    job = rounds.training_.jobs_of([SHORT], [part], 3)[0]
    net = SHORT.network((part.train.X, part.train.y, None, ROWS), classes, job.seed)
    net.initialize(3)
    left = [(work.data.X[:, at][:, ~held[at]], work.data.y[at][~held[at]]) for at in work.own]
    given = [(X, y if classes else y[None]) for X, y in left]
    rate = ByStep(SHORT.optimizer(128).learning_rate.initial * 3**0.5, "cosine")
    best = nk.EarlyStopping(None)
    with ThreadPoolExecutor(1) as executor:
        nk.fit_shards(
            net,
            given,
            executor=executor,
            rounds=6,
            batch_size=round(SHORT.batch(128) / 3),
            optimizer=nk.AdamW(lambda epoch: rate((epoch + 0.5) / 6), weight_decay=0.01),
            validation_data=(part.held_out.X, part.held_out.y if classes else part.held_out.y[None]),
            callbacks=best,
        )
    (ours,) = trained.networks
    for name, array in net.parameters.items():
        assert ours.parameters[name].tobytes() == array.tobytes(), name
    assert trained.report[0]["best_epoch"] == best.best_epoch
    assert trained.report[0]["epochs"] == 6
    metric = metrics.get(None, "binary" if classes else "regression")
    assert trained.score == metric.value(part.held_out.y, net.predict(part.held_out.X, invariant=True))


def test_epochs_of_a_round_are_counted():
    trained = Work(epochs_a_round=4).train(SHORT)
    assert trained.report[0]["epochs"] == 8
    assert trained.report[0]["best_epoch"] in (3, 7)


def test_bagging_holds_out_other_rows_of_each_network():
    work = Work()
    trained = work.train([SHORT, SHORT.replace(numbers="quantile")], n_estimators=2)
    assert [(row["recipe"], row["part"]) for row in trained.report] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    first, second = (np.concatenate(work.taken[at : at + 2]) for at in (0, 2))
    assert (first ^ second).all()
    assert not trained.report[0]["refit"]


def test_refit_is_on_all_rows():
    work = Work(0)
    shards = []
    fit = work.session._fit
    work.session._fit = lambda *how: shards.append([len(one[1][0]) for one in how[1]]) or fit(*how)
    trained = work.train(SHORT, refit=True)
    assert shards[1] == list(SIZES)
    assert sum(shards[0]) == 128
    assert trained.report[0]["refit"]


def test_an_interrupt_in_a_refit_in_rounds_reaches_the_caller():
    work, groups = Work(0), []

    def fit_again(group, data, progress_bar):
        groups.append(group)
        raise KeyboardInterrupt

    work.session.fit_again = fit_again
    with pytest.raises(KeyboardInterrupt):
        work.train(SHORT, refit=True)
    assert len(groups) == 1


def part(places=("hill", "dune"), y=("a", "b")):
    return {"place": np.array(places, object), "size": np.arange(float(len(places)))}, np.array(y, object)


def test_partitions_become_one_shard_in_their_order():
    parts = [part(), part((), ()), part(["fen"], ["c"])]
    made = on_dask._put_together(TabularClassifier(), parts, 4)
    assert made.y.tolist() == ["a", "b", "c"]
    assert made.names == ["place", "size"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (part(y=("a", None)), "Input y contains NaN"),
        (part(y=("a",)), "X has 2 rows, y has 1"),
        (
            ({"place": np.array(["hill"], object)}, np.array(["a"], object)),
            "of partition 5 lacks 'size', compared with partition 4",
        ),
        (({"place": np.arange(2.0), "size": np.arange(2.0)}, part()[1]), "on partition 4, double on partition 5"),
        (part(y=np.array([True, False])), "y holds texts in some partitions and numbers in others"),
    ],
)
def test_no_rows_of_a_wrong_partition_are_lost_in_silence(wrong, message):
    with pytest.raises((ValueError, TypeError), match=message) as raised:
        on_dask._put_together(TabularClassifier(), [part(), wrong], 4)
    told = getattr(raised.value, "__notes__", [])
    assert told == (["That is of partition 5."] if "artition" not in message else [])


def test_rows_of_the_callers_are_held_out_whole():
    work, held = Work(), examples(50, 2, seed=1)
    trained = work.train(SHORT, held_out=(held.X, held.y), n_estimators=2, refit=True)
    assert not work.taken
    assert [row["refit"] for row in trained.report] == [False, False]
    P = trained.networks[0].predict(held.X)
    by = -np.log(P[held.y, np.arange(50)]).mean()
    assert by in [pytest.approx(row["score"], rel=1e-5) for row in trained.report]


def test_a_network_that_diverges_is_left_out():
    wild = SHORT.replace(learning_rate=1e30, schedule=None)
    trained = Work(0).train([wild, SHORT])
    assert [row["recipe"] for row in trained.report] == [1]
    with pytest.raises(nk.DivergenceError):
        Work(0).train(wild)


def test_dropout_by_step_stays_as_it_is():
    recipe = SHORT.replace(dropout=0.2, dropout_schedule="flat_cos", schedule="coslog4")
    (net,) = Work().train(recipe).networks
    assert net.layers[1].dropout == 0.2


def test_rates_are_those_of_the_middle_of_an_epoch():
    rate = rounds.ByRound(ByStep(0.5, "linear"), 4)
    assert [rate(epoch) for epoch in range(6)] == [0.4375, 0.3125, 0.1875, 0.0625, 0.0, 0.0]
