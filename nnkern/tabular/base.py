"""What the two estimators of tables share: scikit-learn's API around a model of a table.

Here are names, checks of what a caller hands in, and what is remembered; the recipe and the training are training.py's.
"""

from numbers import Integral, Real

import numpy as np

from nnkern.estimators.needed import (
    BaseEstimator,
    ClassifierMixin,
    Interval,
    StrOptions,
    check_array,
    check_is_fitted,
    check_random_state,
    check_sample_weight,
    fit_context,
    validate_data,
)
from nnkern.exceptions import ModelFormatError
from nnkern.ranks import DEADLINE, Ranks
from nnkern.tabular import recipes as recipes_
from nnkern.tabular.explaining import permutation_importances
from nnkern.tabular.frames import columns_of, columns_of_array, is_frame, listed
from nnkern.tabular.inputs import (
    arrows_of,
    counting,
    finite,
    numbered_names,
    refuse_dict,
    refuse_holes,
    rows_of,
    target_values,
    times_class_weights,
)
from nnkern.tabular.leaks import warn_of_leaks
from nnkern.tabular.metrics import METRICS
from nnkern.tabular.model import OneRow
from nnkern.tabular.model_file import Stored, read, write
from nnkern.tabular.preprocessing import Preprocessing
from nnkern.tabular.recipes import PRESETS, Preset, Recipe
from nnkern.tabular.several import OfShards
from nnkern.tabular.target import Labels
from nnkern.tabular.training import default_metric, train


class ScoredByName:
    """Before scikit-learn's mixin, whose score it is: y may be the name of a column."""

    def score(self, X, y, sample_weight=None):
        """A classifier's accuracy: the share of rows whose class is right. A regressor's R²: 1 for right numbers, 0 for
        the mean of y, below for worse.

        Parameters
        ----------
        X : data frame of m rows, or (m, n) array
        y : (m,) array, or str
            A text names a column of X, as in `fit`.
        sample_weight : (m,) array, optional

        Returns
        -------
        score : float
        """
        if isinstance(y, str):
            check_is_fitted(self)
            X, y = self._with_target(X, y, "X")
            y = target_values(y, "y")
            refuse_holes(y, "y")
        return super().score(X, y, sample_weight)


class BaseTabular(OfShards, BaseEstimator):
    """What both share."""

    _parameter_constraints = {  # noqa: RUF012, as scikit-learn has it
        "preset": [StrOptions(set(PRESETS))],
        "recipes": [Recipe, Preset, "array-like", None],
        "n_estimators": [Interval(Integral, 1, None, closed="left"), None],
        "metric": [StrOptions(set(METRICS)), None],
        "column_types": [dict, None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "refit": ["boolean"],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
        "threads": [Interval(Integral, 1, None, closed="left"), None],
        "progress": ["boolean"],
    }

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
        time_limit=None,
        random_state=None,
        threads=None,
        progress=False,
    ):
        # the docstrings of both classes take this one in, see in_full
        """preset : {"fast", "default", "best"}, default="default"
            Which recipes are trained: one; a few, whose weights in the ensemble held-out rows decide; or more of them,
            on several parts of the rows.
        recipes : Recipe, sequence of Recipe or Preset, optional
            Recipes of one's own in place of the preset's.
        n_estimators : int, optional
            So many networks of each recipe, bagged: each holds out another part of the rows, or with an eval_set begins
            with other weights. Default the preset's.
        metric : str, optional
            What the ensemble is chosen by, and epochs: a name in `nnkern.tabular.METRICS`. Default the log loss of
            classes, the root of the mean squared error of numbers.
        column_types : dict, optional
            {column: "number", "category", "date" or "ignore"} where it isn't what the column's type says. A column of
            an array is given by its place, such as 0.
        validation_fraction : float, default=0.2
            Share of the rows that is held out where neither an eval_set nor bagging says which.
        refit : bool, default=True
            Train the networks that count once more, on all rows and for as many epochs as their best, where a share of
            the rows was held out: better by 3 % in the mean of seven tables, for half as much time again.
        time_limit : float, optional
            Seconds that `fit` may take, about: fewer epochs and networks are trained. One network always is.
        random_state : int, RandomState or None, default=None
            Of splits, initial weights, order and dropout: the same one gives the same bits, without a time_limit.
        threads : int, optional
            At most so many; results don't depend on it.
        progress : bool, default=False
            Show epochs and the time left.
        """
        self.preset = preset
        self.recipes = recipes
        self.n_estimators = n_estimators
        self.metric = metric
        self.column_types = column_types
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.time_limit = time_limit
        self.random_state = random_state
        self.threads = threads
        self.progress = progress

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.non_deterministic = False
        return tags

    # Training

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, eval_set=None, *, comm=None, deadline=DEADLINE):
        """Learns from a table.

        Parameters
        ----------
        X : data frame of m rows (pandas, polars, pyarrow), dict of columns, or (m, n) array
            Texts, booleans and categoricals are categories, None and NaN missing, dates and times are known as such.
        y : (m,) labels or numbers, or str
            A text names a column of X, which is then no feature.
        sample_weight : (m,) array, optional
            Rows of weight 0 count as if they weren't there: no label, median or category is learnt from them. So do
            rows whose label has the class weight 0.
        eval_set : (X, y) or (X, y, sample_weight), or a list of one of these, optional
            Held-out rows, never trained on, which decide when to stop and what of the ensemble counts; weights of
            classes count there too. Without it a share `validation_fraction` of the rows is held out, or with bagging
            each part in turn. Other libraries take a list of several: here it holds one.
        comm : communicator, optional
            Train together with the other processes of an MPI communicator, as `nnkern.Network.fit` does: each calls
            `fit` with its own shard of the rows, which may have none, and the same parameters; `random_state` is rank
            0's. Columns are learnt from the rows of all shards, of more than 200,000 from a sample of so many, of which
            a share is held out then, unless some ranks give an eval_set. All end with the same model. Ctrl-C raises.
        deadline : float
            Seconds that a process waits for the others then.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            What is handed in can't be learnt from; the message names columns and rows. The estimator stays as it was.
        RankError
            With `comm`: another process has failed or is missing; likewise.

        Warns
        -----
        TabularWarning
            For columns that are left out or look like an identifier, or that give the target away.
        """
        if comm is not None:
            ranks = Ranks(comm, deadline)
            with ranks.together():
                return self._fit_together(ranks, X, y, sample_weight, eval_set)
        X, y = self._with_target(X, y, "X")
        arrays, named = self._table(X)
        y, weight, class_weights = self._weighed(y, sample_weight, rows_of(arrays))
        arrays, y, weight = counting(arrays, y, weight, "sample_weight", 2)
        y, target = self._learnt(y, weight)
        names = list(arrays)
        held_out = None if eval_set is None else self._eval_set(eval_set, names, named, target, class_weights)
        preprocessing = Preprocessing.fit(arrays, self.column_types, threads=self.threads)
        table = preprocessing.transform(arrays, threads=self.threads)
        if held_out is not None:
            held_out = (preprocessing.transform(held_out[0], "eval_set's X", self.threads), *held_out[1:])
        warn_of_leaks(preprocessing, table, y, isinstance(target, Labels))
        trained = train(
            table,
            y,
            preprocessing.rows,
            self._task(target),
            recipes=self._recipes(),
            metric=self.metric,
            held_out=self.validation_fraction if held_out is None else held_out,
            sample_weight=weight,
            n_classes=len(target.labels) if isinstance(target, Labels) else None,
            n_estimators=self.n_estimators,
            refit=self.refit,
            time_limit=self.time_limit,
            seed=self._seed(),
            threads=self.threads,
            progress=self.progress,
            overwrite_X=True,
        )
        self._take(preprocessing, trained, target, (names, named))
        return self

    def _recipes(self):
        return self.recipes if self.recipes is not None else PRESETS[self.preset]

    def _seed(self):
        return int(check_random_state(self.random_state).randint(2**31))

    def _remember(self, stored):
        """Takes a model over; all that is remembered changes at once."""
        model, names = stored.model, stored.names
        self.model_, self._one_row = model, None
        self.networks_ = model.networks
        self.network_ = model.networks[int(np.argmax(model.weights))]
        self.columns_ = model.preprocessing
        self.n_features_in_ = len(names)
        vars(self).pop("feature_names_in_", None)
        if stored.named:
            self.feature_names_in_ = np.array(names, object)
        self.report_, self.score_, self.interrupted_ = stored.report, stored.score, stored.interrupted

    def _with_target(self, X, y, what):
        """(X, y), y taken out of X where it is the name of a column."""
        if not isinstance(y, str):
            if y is None:
                raise ValueError("requires y to be passed, but the target y is None")
            return X, y
        if not is_frame(X):
            raise TypeError(f"y={y!r} names a column of a data frame; {what} is of type {type(X).__name__}")
        arrays = columns_of(X, what=what)
        if y not in arrays:
            raise ValueError(f"{what} has no column {y!r} to predict, but {listed(arrays)}")
        target = arrays.pop(y)
        return arrays, target

    def _table(self, X, least=1):
        """({name: Arrow array}, whether X has names) of what is learnt from, `least` rows or more."""
        if not is_frame(X):
            X = check_array(X, dtype=None, ensure_all_finite=False, ensure_min_samples=least, estimator=self)
            return columns_of_array(finite(X), numbered_names(X.shape[1])), False
        arrays = arrows_of(X, None, "X", least)
        if not arrays:
            raise ValueError("0 feature(s): X has no columns, while a minimum of 1 is required")
        return arrays, True

    def _columns(self, X, what="X"):
        """{name: Arrow array} of what is predicted; by place where X has no names."""
        check_is_fitted(self)
        if is_frame(X) and hasattr(self, "feature_names_in_"):
            return arrows_of(X, self.columns_.names, what)
        refuse_dict(X, self.n_features_in_, what)
        X = validate_data(self, X, dtype=None, ensure_all_finite=False, reset=False)
        names = getattr(self, "feature_names_in_", None)
        return columns_of_array(finite(X), numbered_names(X.shape[1]) if names is None else list(names))

    def _weighed(self, y, sample_weight, m):
        """(values of the target, weights of the rows or None, {label: weight of its class})"""
        if m < 2:
            raise ValueError("X has 1 sample: at least two rows are needed, one of them to be held out")
        y, weight = self._target(y, sample_weight, m)
        if weight is not None and not weight.any():
            raise ValueError("sample_weight is zero for every row: at least one must count")
        class_weights = self._class_weights(y, weight)
        return y, times_class_weights(weight, y, class_weights), class_weights

    def _target(self, y, sample_weight, m):
        """(values of the target, weights of the m rows or None)"""
        y = target_values(y, "y")
        if len(y) != m:
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: X has {m} rows, y has {len(y)}"
            )
        refuse_holes(y, "y")
        weight = None
        if sample_weight is not None and m:
            weight = check_sample_weight(sample_weight, np.empty((m, 1)), dtype=np.float64, ensure_non_negative=True)
        return y, weight

    def _class_weights(self, y, weight):
        """{label: weight}, empty where all count alike."""
        return {}

    def _eval_set(self, eval_set, names, named, target, class_weights):
        """({name: Arrow array}, y as learnt, weights or None)"""
        what = "eval_set's X"
        if isinstance(eval_set, list) and len(eval_set) == 1:
            eval_set = eval_set[0]
        if not isinstance(eval_set, tuple) or len(eval_set) not in (2, 3):
            raise ValueError(f"eval_set must be (X, y) or (X, y, sample_weight); got {type(eval_set).__name__}")
        X, y = self._with_target(eval_set[0], eval_set[1], what)
        if is_frame(X) and named:
            arrays = arrows_of(X, names, what)
        else:
            refuse_dict(X, len(names), what)
            X = check_array(X, dtype=None, ensure_all_finite=False, input_name=what)
            if X.shape[1] != len(names):
                raise ValueError(f"{what} has {X.shape[1]} columns, X has {len(names)}")
            arrays = columns_of_array(finite(X), names)
        y = target_values(y, "eval_set's y")
        if len(y) != rows_of(arrays):
            raise ValueError(f"{what} has {rows_of(arrays)} rows, its y {len(y)}")
        refuse_holes(y, "eval_set's y")
        weight = None
        if len(eval_set) == 3 and eval_set[2] is not None:
            weight = check_sample_weight(eval_set[2], np.empty((len(y), 1)), dtype=np.float64, ensure_non_negative=True)
        weight = times_class_weights(weight, y, class_weights)
        arrays, y, weight = counting(arrays, y, weight, "eval_set's sample_weight")
        return arrays, self._as_learnt(y, target, "eval_set's y"), weight

    # Prediction

    def _outputs(self, X):
        arrays = self._columns(X)
        return self.model_.predict(arrays, self.threads)

    def _one(self, row):
        one_row = vars(self).get("_one_row")
        if one_row is None:
            check_is_fitted(self)
            one_row = self._one_row = OneRow(self.model_)
        return one_row.outputs(row)

    def __getstate__(self):
        return {**super().__getstate__(), "_one_row": None}  # predictors aren't pickled

    def feature_importances(self, X, y, *, sample_weight=None, n_repeats=5, metric=None, random_state=None):
        """How much worse the model is on held-out rows with one column's entries shuffled.

        Parameters
        ----------
        X : data frame of m rows, or (m, n) array
            Rows that the model wasn't trained on: of others it says what was learnt, also by heart.
        y : (m,) labels or numbers, or the name of a column of X
        sample_weight : (m,) array, optional
        n_repeats : int
        metric : str, optional
            One of nnkern.tabular.METRICS; default the model's own.
        random_state : int, RandomState or None
            Of the shuffles.

        Returns
        -------
        importances : dict
            {column: mean loss of the metric over the repeats}, the most important first; of rmse and mae in the
            target's units. A column that was left out of the features isn't there.

        Notes
        -----
        Breiman (2001), Random Forests, section 10.
        """
        check_is_fitted(self)
        X, y = self._with_target(X, y, "X")
        arrays = self._columns(X)
        y = target_values(y, "y")
        refuse_holes(y, "y")
        y = self._as_learnt(y, self.model_.target, "y")
        table = self.columns_.transform(arrays)
        metric = metric or self.metric or default_metric(self._task(self.model_.target))
        found = permutation_importances(
            self.model_, table, y, metric, sample_weight, n_repeats, check_random_state(random_state)
        )
        unit = self._unit(self.model_.target, metric)
        return {name: unit * loss for name, loss in found.items()}

    # Files

    def save(self, path):
        """Writes the whole model to one .npz file, without pickle: columns, networks, labels; see `load`.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        ValueError
            The name has the ending of another format.
        OSError
            It can't be written; what was there stays.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        names, named = (numbered_names(self.n_features_in_), False) if names is None else (list(names), True)
        parameters = self._saved_parameters()
        write(path, Stored(self.model_, names, named, parameters, self.report_, self.score_, self.interrupted_))

    def _saved_parameters(self):
        parameters = {name: _plain(value) for name, value in self.get_params(deep=False).items()}
        parameters["recipes"] = recipes_.to_dict(self.recipes)
        if self.column_types is not None:  # places are numbers, perhaps numpy's
            parameters["column_types"] = {str(name): kind for name, kind in self.column_types.items()}
        if not isinstance(self.random_state, Integral | None):
            parameters["random_state"] = None
        if isinstance(parameters.get("class_weight"), dict):  # keys in JSON are texts, and labels needn't be
            given = parameters["class_weight"]
            parameters["class_weight"] = [list(map(_plain, given)), list(map(_plain, given.values()))]
        return parameters

    @classmethod
    def load(cls, path):
        """The estimator that `save` wrote: it predicts to the same bits.

        Raises
        ------
        ModelFormatError
            The file is no table's model, damaged, or of the other task.
        """
        return cls.of_stored(read(path), path)

    @classmethod
    def of_stored(cls, stored, path):
        """The estimator of what the file of that name holds."""
        if stored.model.classifies != issubclass(cls, ClassifierMixin):
            raise ModelFormatError(f"{path} holds a model of the other task: nnkern.tabular.load knows which")
        parameters = {name: value for name, value in stored.parameters.items() if name in cls().get_params()}
        if isinstance(parameters.get("class_weight"), list):
            try:
                parameters["class_weight"] = dict(zip(*parameters["class_weight"], strict=True))
            except (TypeError, ValueError) as error:
                raise ModelFormatError(f"{path}: its class_weight is none: {error}") from error
        try:
            parameters["recipes"] = recipes_.from_dict(parameters.get("recipes"))
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise ModelFormatError(f"{path}: its recipes are none: {error}") from error
        made = cls(**parameters)
        made._remember(stored)
        return made

    def to_onnx(self, path):
        """Writes the whole model as an ONNX file of opset 17, for categories with ai.onnx.ml 3: it takes raw columns.

        Each column that the model learnt from is an input (batch, 1) of its name:

        - a number: double, NaN where it isn't known;
        - a category: string, the text by which the model knows it: "3" for the whole number 3, "True" and "False" for
          booleans. Any text that isn't one of its levels stands for what isn't known; "" does, unless it is a level;
        - a date or time: double, seconds since 1970-01-01 00:00, of a time with a zone in UTC; NaN where it isn't
          known.

        A number that is infinite counts as a very large one.

        A classifier gives "label" (batch,), int64 where the labels are whole numbers, else string, and "probabilities"
        (batch, classes), double; a regressor "prediction" (batch, 1), double, in the target's units. Where a column has
        one of these names, the output's ends in an underscore. The metadata "columns" is a JSON list of {"name",
        "kind", "missing"}, where "missing" is the text that stands for a category that isn't known.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        MissingPackageError
            The package onnx isn't installed.
        OSError
            The file can't be written; one that was there is as it was.
        ValueError
            A column's name can't be an input's; the model is larger than the 2 GB that ONNX takes; or the name ends as
            another format's do.
        """
        from nnkern.tabular.onnx_out import to_onnx

        check_is_fitted(self)
        to_onnx(self.model_, path)

    def to_c(self, path=None):
        """The whole model as one C99 file without dependencies: a struct of a row, and a function that predicts.

        ``nnkern_row`` has a field for each column that the model learnt from, in the table's order. Its name is the
        column's in lower case, with an underscore for what no name in C may hold, and a number where two would be the
        same; the comment behind it has the column's own.

        - a number: ``double``, NAN where it isn't known;
        - a category: ``const char *``, the text in UTF-8 by which the model knows it: "3" for the whole number 3,
          "True" and "False" for booleans. A null pointer or any text that isn't one of its levels stands for what isn't
          known;
        - a date or time: ``double``, seconds since 1970-01-01 00:00, of a time with a zone in UTC; NAN where it isn't
          known.

        ``void predict_row(const nnkern_row *row, double *y)`` writes NNKERN_N_Y numbers: of a classifier the
        probability of each class, whose names are ``nnkern_labels``; of a regressor one number in the target's units. A
        number that is infinite counts as a very large one.

        Parameters
        ----------
        path : str or path-like, optional
            Where to write it, whole or not at all.

        Returns
        -------
        source : str

        Raises
        ------
        OSError
            The file can't be written; one that was there is as it was.
        ValueError
            A category or a label holds a NUL character, at which C's texts end; or the name ends as another format's
            do.
        """
        from nnkern.tabular.c_out import to_c

        check_is_fitted(self)
        return to_c(self.model_, path)


def _plain(value):
    """A number of numpy's as Python's, which JSON holds."""
    return value.item() if isinstance(value, np.generic) else value
