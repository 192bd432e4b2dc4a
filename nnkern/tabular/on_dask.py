"""TabularClassifier and TabularRegressor of `nnkern.dask`: tables whose partitions lie with Dask's workers.

A sample of the rows comes to the client, where the columns are learnt and rows are held out; the partitions are encoded
by what was learnt where they lie, and the networks are trained on them in rounds.
"""

import contextlib

import numpy as np

from nnkern import validation
from nnkern._optional import require
from nnkern.estimators.needed import ClassifierMixin, RegressorMixin, check_is_fitted, check_random_state
from nnkern.estimators.partitions import OnDask, client_of, empty_like, parts_of, shards_of
from nnkern.estimators.signatures import in_full
from nnkern.tabular import rounds, several, shards, splits
from nnkern.tabular.classifier import TabularClassifier as OneClassifier
from nnkern.tabular.leaks import warn_of_leaks
from nnkern.tabular.preprocessing import Preprocessing, check_entries
from nnkern.tabular.recipes import PRESETS
from nnkern.tabular.regressor import TabularRegressor as OneRegressor
from nnkern.tabular.target import Labels


@in_full
class BaseDaskTabular(OnDask):
    """What the two estimators share."""

    def __init__(
        self,
        *,
        preset="default",
        recipes=None,
        n_estimators=None,
        metric=None,
        column_types=None,
        validation_fraction=0.2,
        refit=True,
        random_state=None,
        **shared,
    ):
        # the docstrings of both classes take this one in, see in_full
        """preset, recipes, n_estimators, metric, column_types
            As in `nnkern.tabular`. A recipe's dropout stays as it is where its `dropout_schedule` would have it change.
        validation_fraction : float, default=0.2
            Share of the rows that is held out where neither an eval_set nor bagging says which; of more than 200,000
            rows, of a sample of so many.
        refit : bool, default=True
            Train the networks that count once more, on all rows and for as many epochs as their best, where a share of
            the rows was held out.
        random_state : int, RandomState or None, default=None
            Of the sample, splits, initial weights, order and dropout.
        {shared}
        """
        arguments = dict(locals())
        del arguments["self"], arguments["shared"]
        vars(self).update(arguments)
        OnDask.__init__(self, **shared)

    def fit(self, X, y, sample_weight=None, eval_set=None):
        """Learns from a table in partitions.

        Parameters
        ----------
        X : dask frame, or dask array of shape (n_samples, n_features)
            Columns as in `nnkern.tabular`. Its partitions need not fit into this process together.
        y : dask series or array of shape (n_samples,), with the same partitions as X, or str
            A text names a column of X, which is then no feature.
        sample_weight : dask series or array of shape (n_samples,), optional
        eval_set : (X, y) or (X, y, sample_weight), optional
            Held-out rows, which decide when to stop and what of the ensemble counts; where these are Dask collections
            they are computed.

        Returns
        -------
        self

        Raises
        ------
        MissingPackageError
            Dask's distributed isn't installed.
        ValueError, TypeError
            Something handed in doesn't fit; a note tells the partition, or the shard, whose rows are counted.
        DivergenceError
            All networks diverged.

        Warns
        -----
        TabularWarning
            For columns that are left out or look like an identifier, or that give the target away.
        """
        client, model = client_of(self.client), self._one()
        epochs = validation.integer("epochs_a_round", self.epochs_a_round, 1)
        seed = int(check_random_state(self.random_state).randint(2**31))
        delayed = require("dask", "nnkern.dask").delayed
        lists = shards_of(parts_of(X, y, sample_weight), self.n_shards, client)
        firsts = np.cumsum([0, *map(len, lists)]).tolist()
        shards_ = [delayed(_put_together)(model, parts, first) for parts, first in zip(lists, firsts[:-1], strict=True)]
        tasks = _Tasks(client, client.compute(shards_))
        names, named, target, class_weights = several.agreed(model, tasks.gather(_row, model))
        tasks.map(_learnt, model, target, class_weights)
        sizes = tasks.gather(_size)
        preprocessing, sample = _plan(model, tasks, (sizes, names, seed), isinstance(target, Labels))
        held_out = self.validation_fraction
        if eval_set is not None:
            given = several.eval_set_of(model, _computed(eval_set), names, named, target, class_weights)
            held_out = preprocessing.transform(given[0], "eval_set's X"), *given[1:]
        tasks.map(_encoded, preprocessing, sum(sizes) <= shards.SAMPLE_ROWS, isinstance(target, Labels))
        table = rounds.ShardsOfTasks(sample, tasks.futures, sizes, client, tasks.taken)
        how = table, (epochs, self.timeout)
        session = several.session_of(model, target, rounds.SessionOfRounds, preprocessing.rows, *how)
        trained = rounds.train(
            table,
            session,
            recipes=self.recipes if self.recipes is not None else PRESETS[self.preset],
            n_estimators=self.n_estimators,
            held_out=held_out,
            refit=self.refit,
            seed=seed,
        )
        several.remember(model, preprocessing, trained, target, (names, named))
        self._take(model)
        return self

    def _one(self):
        """The estimator of a table in one place that is to be fitted, its parameters checked."""
        own = OnDask().get_params()
        parameters = {name: value for name, value in self.get_params(deep=False).items() if name not in own}
        return several.checked(self._kind(**parameters, threads=1))

    def _take(self, model):
        self.model_, self.n_features_in_ = model, model.n_features_in_
        self.report_, self.score_ = model.report_, model.score_
        vars(self).pop("feature_names_in_", None)
        if hasattr(model, "feature_names_in_"):
            self.feature_names_in_ = model.feature_names_in_

    def _predict(self, X, method, dtype, columns=None):
        """What a method of the model gives for X, lazily where that is a Dask collection."""
        how = {"model": self.model_, "method": method, "columns": columns, "kind": dtype}
        if hasattr(X, "map_partitions"):
            like = empty_like(X, dtype, columns)
            return X.map_partitions(_of_frame, **how, meta=like)
        if hasattr(X, "map_blocks"):
            X = X.rechunk({1: -1})
            shape = {"drop_axis": 1} if columns is None else {"chunks": (X.chunks[0], (len(columns),))}
            return X.map_blocks(_of_array, **how, dtype=dtype, **shape)
        return getattr(self.model_, method)(X)


@in_full
class TabularClassifier(ClassifierMixin, BaseDaskTabular):
    """Classes of the rows of a table in Dask's partitions, by an ensemble of networks.

    Parameters
    ----------
    class_weight : dict, "balanced" or None, default=None
        As in `nnkern.tabular`, of the rows of all partitions.
    {shared}

    Attributes
    ----------
    model_ : nnkern.tabular.TabularClassifier
        What was learnt, for tables in one place: to save, to export, to predict one row.
    classes_ : array of shape (n_classes,)
    report_, score_ : list of dict, float
        As `model_` has them.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    __module__ = "nnkern.dask"
    _kind = OneClassifier

    def __init__(self, *, class_weight=None, **shared):
        super().__init__(**shared)
        self.class_weight = class_weight

    def _take(self, model):
        super()._take(model)
        self.classes_ = model.classes_

    def predict(self, X):
        """Labels, lazily where X is a Dask collection.

        Parameters
        ----------
        X : dask frame or array, or a table of any kind, with n_samples rows

        Returns
        -------
        y : dask series or array, or array, of shape (n_samples,)
        """
        check_is_fitted(self, "model_")
        return self._predict(X, "predict", self.classes_.dtype)

    def predict_proba(self, X):
        """Probabilities of the classes, lazily where X is a Dask collection.

        Parameters
        ----------
        X : dask frame or array, or a table of any kind, with n_samples rows

        Returns
        -------
        P : dask frame or array, or array, of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        check_is_fitted(self, "model_")
        return self._predict(X, "predict_proba", np.dtype(np.float64), list(self.classes_))


@in_full
class TabularRegressor(RegressorMixin, BaseDaskTabular):
    """Numbers of the rows of a table in Dask's partitions, by an ensemble of networks.

    Parameters
    ----------
    {shared}

    Attributes
    ----------
    model_ : nnkern.tabular.TabularRegressor
    report_, score_, n_features_in_, feature_names_in_
        As TabularClassifier's.
    """

    __module__ = "nnkern.dask"
    _kind = OneRegressor

    def __init__(self, **shared):
        super().__init__(**shared)

    def predict(self, X):
        """Numbers, lazily where X is a Dask collection.

        Parameters
        ----------
        X : dask frame or array, or a table of any kind, with n_samples rows

        Returns
        -------
        y : dask series or array, or array, of shape (n_samples,)
        """
        check_is_fitted(self, "model_")
        return self._predict(X, "predict", np.dtype(np.float64))


def _computed(eval_set):
    """An eval_set without Dask's collections."""
    if isinstance(eval_set, list) and len(eval_set) == 1:
        eval_set = eval_set[0]
    if not isinstance(eval_set, tuple):
        return eval_set  # which is refused
    return tuple(part.compute() if hasattr(part, "compute") else part for part in eval_set)


def _plan(model, tasks, how, classifies):
    """(Preprocessing, Sample), learnt of some rows of all shards. `how`: (their sizes, names of columns, seed)."""
    sizes, names, seed = how
    places = [shards.sample_places(sizes, number, seed) for number in range(len(sizes))]
    some = tasks.gather(_some, names, model.column_types, each=list(enumerate(places)))
    arrays = shards.stacked([table for table, *_ in some], names, "shard")
    y, w = shards.joined_target([target for _, *target in some])
    preprocessing = Preprocessing.fit(arrays, model.column_types)
    X = preprocessing.transform(arrays)
    warn_of_leaks(preprocessing, X, y, classifies)
    return preprocessing, shards.Sample(splits.Examples(X, y, w), places)


class _Tasks:
    """The shards as futures, and functions that workers call with them."""

    def __init__(self, client, futures):
        self._client, self.futures = client, futures

    def _submit(self, function, arguments, each):
        each = [()] * len(self.futures) if each is None else [(one,) for one in each]
        return [
            self._client.submit(function, future, *arguments, *own, pure=False)
            for future, own in zip(self.futures, each, strict=True)
        ]

    def gather(self, function, *arguments, each=None):
        """function(shard, *arguments, its entry of `each`) of each shard, in this process."""
        return self._client.gather(self._submit(function, arguments, each))

    def map(self, function, *arguments):
        """function(shard, *arguments) takes the place of each shard, where it lies."""
        self.futures = self._submit(function, arguments, None)

    def taken(self, future, mask):
        """Some rows of what fit_shards takes."""
        return self._client.submit(_taken, future, mask, pure=False)


# ---- what runs on the workers ----


@contextlib.contextmanager
def _noted(where):
    """An error that a caller's rows give rise to tells whose they are."""
    try:
        yield
    except (TypeError, ValueError) as error:
        error.add_note(f"That is of {where}.")
        raise


def _put_together(model, parts, first):
    """One Shard of the (X, y, …) of some partitions, one after the other; of those without rows the first at most.

    `first`: the number of the first of these partitions among all.
    """
    made = []
    for number, part in enumerate(parts, first):
        with _noted(f"partition {number}"):
            made.append((number, several.shard_of(model, *part)))
    made = [(number, shard) for number, shard in made if shard.m] or made[:1]
    return shards.one_of(made)


def _row(shard, model):
    return several.row_of(model, shard)


def _learnt(shard, model, target, class_weights):
    return several.learnt(model, shard, target, class_weights)


def _size(shard):
    return shard.m


def _some(shard, names, column_types, own):
    """What a shard gives to the sample. `own`: (its number, places of rows)."""
    number, places = own
    arrays = shards.in_order(shard.arrays, names, "X")
    with _noted(f"shard {number}"):
        if shard.m:
            check_entries(arrays, column_types)
    return shards.Shard(arrays, shard.named, shard.y, shard.w).some(places)


def _encoded(shard, preprocessing, warn, classifies):
    """A shard as fit_shards takes it."""
    if shard.m:
        X = preprocessing.transform(shard.arrays, threads=1, warn=warn)
    else:
        X = np.zeros((preprocessing.n_x, 0), np.float32, "F")
    Y = shard.y if classifies else shard.y[None]
    return (X, Y) if shard.w is None else (X, Y, shard.w)


def _taken(shard, mask):
    return tuple(np.asfortranarray(one[..., mask]) for one in shard)


def _of_array(X, model, method, columns, kind):
    if len(X) == 0:
        return np.zeros((0,) if columns is None else (0, len(columns)), kind)
    return getattr(model, method)(X)


def _of_frame(X, model, method, columns, kind):
    pandas = require("pandas", "a dask frame")
    found = _of_array(X, model, method, columns, kind)
    return pandas.Series(found, X.index, kind) if columns is None else pandas.DataFrame(found, X.index, columns)
