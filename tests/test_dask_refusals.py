"""What nnkern.dask refuses before it trains, on stand-ins for Dask's collections and its client."""

import inspect
import re
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone

import nnkern.dask
import nnkern.estimators.partitions
from nnkern.dask import MLPClassifier, MLPRegressor

ESTIMATORS = [getattr(nnkern.dask, name) for name in nnkern.dask.__all__]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: one.__name__)
def test_what_all_estimators_take_is_said_in_one_place(estimator):
    """Signature, docstring, parameters and their copies have what trains in rounds, after each one's own."""
    shared = inspect.signature(nnkern.estimators.partitions.OnDask).parameters
    assert list(shared) == ["epochs_a_round", "n_shards", "timeout", "client"]
    assert list(inspect.signature(estimator).parameters.items())[-4:] == list(shared.items())
    words = inspect.cleandoc(nnkern.estimators.partitions.OnDask.__init__.__doc__)
    assert f"\n{words}\n\nAttributes\n" in estimator.__doc__
    assert "{shared}" not in estimator.__doc__
    given = {"epochs_a_round": 3, "n_shards": 2, "timeout": 1.5}
    found = clone(estimator(**given)).get_params()
    assert given.items() <= found.items()
    assert found["client"] is None
    assert set(found) == set(inspect.signature(estimator).parameters)
    with pytest.raises(TypeError, match="n_shard"):
        estimator(n_shard=2)


class Blocks:
    """An array in partitions, with what nnkern asks of Dask's; `known`: whether it knows how many rows they have."""

    map_blocks = None

    def __init__(self, *parts, known=True):
        self.parts, self.ndim = [np.asarray(part) for part in parts], np.ndim(parts[0])
        self.chunks = (tuple(len(part) if known else np.nan for part in self.parts), *self.parts[0].shape[1:])

    def rechunk(self, chunks):
        if 0 not in chunks:
            return self
        return Blocks(*np.split(np.concatenate(self.parts), np.cumsum(chunks[0])[:-1]))

    def to_delayed(self):
        delayed = np.empty(len(self.parts), object)
        delayed[:] = self.parts
        return delayed

    def compute(self):
        return np.concatenate(self.parts)


class Client:
    """Computes at once what it is given."""

    compute = gather = staticmethod(list)

    @staticmethod
    def submit(function, *arguments, pure):
        return function(*arguments)


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """In place of dask and distributed, and no client that is the present one."""

    def get_client():
        raise ValueError("No global client found and no address provided")

    stand_in = SimpleNamespace(delayed=lambda function: function, get_client=get_client)
    for module in (nnkern.dask, nnkern.estimators.partitions):
        monkeypatch.setattr(module, "require", lambda name, what: stand_in)


RNG = np.random.default_rng(0)
X = Blocks(RNG.normal(size=(6, 3)), RNG.normal(size=(5, 3)))
Y = Blocks(RNG.normal(size=6), RNG.normal(size=5))
CLASSES = Blocks(["a", "b", "a", "b", "a", "b"], ["b", "a", "a", "a", "b"])
W = Blocks(np.ones(6), np.ones(5))


def regressor(**options):
    return MLPRegressor(**{"client": Client(), "n_shards": 2, "max_iter": 2} | options)


def classifier(**options):
    return MLPClassifier(**{"client": Client(), "n_shards": 2, "max_iter": 2} | options)


@pytest.fixture
def trained(monkeypatch):
    """What would be trained, in place of a training: the network and each shard's arrays."""
    given = []

    def fit_shards(net, shards, **how):
        given.append((net, shards))
        return {"cost": [1.0, 0.5]}

    monkeypatch.setattr(nnkern.dask, "fit_shards", fit_shards)
    return given


def test_what_is_taken_comes_to_the_training(trained):
    regressor().fit(X, Y, W)
    model = classifier().fit(X, CLASSES)
    assert model.classes_.tolist() == ["a", "b"]
    (net, shards), (classifying, coded) = trained
    assert (net.n_x, net.n_y, net.loss) == (3, 1, "squared_error")
    assert [[part.shape for part in shard] for shard in shards] == [[(3, 6), (1, 6), (6,)], [(3, 5), (1, 5), (5,)]]
    assert classifying.loss == "binary_cross_entropy"
    assert [shard[1].tolist() for shard in coded] == [[0, 1, 0, 1, 0, 1], [1, 0, 0, 0, 1]]
    # partitions of y that are others than X's become X's, where both know their rows
    regressor().fit(X, Blocks(*np.split(Y.compute(), [2, 9])))
    np.testing.assert_array_equal(trained[-1][1][1][1], Y.parts[1][None])


@pytest.mark.parametrize(
    ("model", "given", "error", "message"),
    [
        (
            regressor(early_stopping=True),
            (X, Y),
            ValueError,
            "early_stopping needs an eval_set: Dask's partitions have no share that is set aside",
        ),
        (regressor(), (Blocks(np.ones((0, 3))), Blocks(np.ones(0))), ValueError, "X has no samples"),
        (
            regressor(),
            (Blocks(X.parts[0], X.parts[1][:, :2]), Y),
            ValueError,
            "the partitions have different (features, columns of y): [(2, 1), (3, 1)]",
        ),
        (
            regressor(),
            (X, Blocks(Y.parts[0], np.ones((5, 2)), known=False)),
            ValueError,
            "the partitions have different (features, columns of y): [(3, 1), (3, 2)]",
        ),
        (
            regressor(client=None),
            (X, Y),
            ValueError,
            "there is no client: make one, distributed.Client(…), or pass client=",
        ),
        (
            classifier(),
            (X, Blocks(np.ones((6, 2)), np.zeros((5, 2)))),
            ValueError,
            "y must have one column of classes; it has 2",
        ),
        (classifier(loss="hinge"), (X, CLASSES), ValueError, "loss must be 'log_loss'; got 'hinge'"),
        (regressor(), (X.compute(), Y), TypeError, "X must be a dask array, frame or series; got ndarray"),
        (regressor(), (X, [1.0] * 11), TypeError, "y must be a dask array, frame or series; got list"),
        (
            regressor(),
            (X, Blocks(*Y.parts, [], known=False)),
            ValueError,
            "X, y and sample_weight must have the same partitions; they have {'X': 2, 'y': 3} of them",
        ),
        (
            regressor(),
            (X, Y, Blocks(np.ones(11), known=False)),
            ValueError,
            "X, y and sample_weight must have the same partitions; they have {'X': 2, 'y': 2, 'sample_weight': 1} "
            "of them",
        ),
        (
            regressor(),
            (Y, Y),
            TypeError,
            "X must have two dimensions and hold numbers; got shape (6,), float64",
        ),
        (
            regressor(),
            (Blocks(X.parts[0].astype(str), X.parts[1].astype(str)), Y),
            TypeError,
            "X must have two dimensions and hold numbers; got shape (6, 3), <U32",
        ),
        (
            regressor(),
            (X, Blocks(Y.parts[0], Y.parts[1][:4], known=False)),
            ValueError,
            "X, y and sample_weight have [5, 4] rows in the same partition",
        ),
        (
            regressor(),
            (X, Y, Blocks(W.parts[0][:3], W.parts[1], known=False)),
            ValueError,
            "X, y and sample_weight have [6, 6, 3] rows in the same partition",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_the_training(trained, model, given, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        model.fit(*given)
    assert not trained


def test_one_class_is_nothing_to_learn(trained):
    with pytest.raises(ValueError, match=r"^y has one class only: 'a'"):
        classifier().fit(X, Blocks(["a"] * 6, ["a"] * 5))
    assert not trained


def test_a_loss_of_classes_is_none_of_numbers(trained):
    with pytest.raises(ValueError, match=r"^loss must be one of \['squared_error', .*\]; got 'cross_entropy'$"):
        regressor(loss="cross_entropy").fit(X, Y)
    assert not trained


@pytest.mark.parametrize("eval_set", [X, (X,), (X, Y, W, W), {"X": X, "y": Y}])
def test_an_eval_set_is_a_tuple_of_two_or_three(trained, eval_set):
    with pytest.raises(ValueError, match=r"^eval_set must be \(X, y\) or \(X, y, sample_weight\)$"):
        regressor().fit(X, Y, eval_set=eval_set)
    assert not trained


def test_a_class_that_was_not_trained_on_is_named(trained):
    held_out = X.compute(), np.array(["a"] * 10 + ["c"])
    with pytest.raises(ValueError, match=r"^y has the class 'c', which isn't one of \['a', 'b'\]$"):
        classifier().fit(X, CLASSES, eval_set=held_out)
    assert not trained
