"""TabularClassifier and TabularRegressor: scikit-learn's API around a model of a table.

Here are names, checks of what a caller hands in, and what is remembered; the recipe and the training are training.py's.
"""

import warnings
from numbers import Integral, Real

import numpy as np

from nnkern.estimators.needed import (
    BaseEstimator,
    ClassifierMixin,
    Interval,
    RegressorMixin,
    StrOptions,
    check_array,
    check_classification_targets,
    check_is_fitted,
    check_random_state,
    check_sample_weight,
    column_or_1d,
    compute_sample_weight,
    fit_context,
    validate_data,
)
from nnkern.estimators.signatures import in_full
from nnkern.exceptions import ModelFormatError
from nnkern.tabular import columns, explaining, frames, leaks, model_file, training
from nnkern.tabular.metrics import METRICS
from nnkern.tabular.model import OneRow, TableModel
from nnkern.tabular.preprocessing import Preprocessing, TabularWarning
from nnkern.tabular.recipes import PRESETS
from nnkern.tabular.target import Labels, Numbers

MANY_CLASSES = 50
"""More classes than that of numbers, and fewer than ten rows of each, look like a regression."""


class BaseTabular(BaseEstimator):
    """What both share."""

    _parameter_constraints = {  # noqa: RUF012, as scikit-learn has it
        "preset": [StrOptions(set(PRESETS))],
        "recipes": ["array-like", None],
        "n_estimators": [Interval(Integral, 1, None, closed="left"), None],
        "metric": [StrOptions(set(METRICS)), None],
        "column_types": [dict, None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
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
        time_limit=None,
        random_state=None,
        threads=None,
        progress=False,
    ):
        # the docstrings of both classes take this one in, see in_full
        """preset : {"fast", "default", "best"}, default="default"
            Which recipes are trained: one; a few, whose weights in the ensemble held-out rows decide; or more of them,
            on several parts of the rows.
        recipes : list of Recipe, optional
            Recipes of one's own in place of the preset's.
        n_estimators : int, optional
            So many networks of each recipe, bagged: each holds out another part of the rows, or with an eval_set begins
            with other weights. Default the preset's.
        metric : str, optional
            What the ensemble is chosen by, and epochs: a name in `nnkern.tabular.METRICS`. Default the log loss of
            classes, the root of the mean squared error of numbers.
        column_types : dict, optional
            {column: "number", "category", "date" or "ignore"} where it isn't what the column's type says.
        validation_fraction : float, default=0.2
            Share of the rows that is held out where neither an eval_set nor bagging says which.
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
    def fit(self, X, y, sample_weight=None, eval_set=None):
        """Learns from a table.

        Parameters
        ----------
        X : data frame of m rows (pandas, polars, pyarrow), dict of columns, or (m, n) array
            Texts, booleans and categoricals are categories, None and NaN missing, dates and times are known as such.
        y : (m,) labels or numbers, or str
            A text names a column of X, which is then no feature.
        sample_weight : (m,) array, optional
        eval_set : (X, y) or (X, y, sample_weight), optional
            Held-out rows, never trained on, which decide when to stop and what of the ensemble counts. Without it a
            share `validation_fraction` of the rows is held out, or with bagging each part in turn.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            What is handed in can't be learnt from; the message names columns and rows. The estimator stays as it was.

        Warns
        -----
        TabularWarning
            For columns that are left out or look like an identifier, or that give the target away.
        """
        X, y = self._with_target(X, y, "X")
        arrays, named = self._table(X)
        y, target, weight = self._target(y, sample_weight, _rows(arrays))
        held_out = None if eval_set is None else self._eval_set(eval_set, list(arrays), named, target)
        preprocessing = Preprocessing.fit(arrays, self.column_types)
        table = preprocessing.transform(arrays)
        if held_out is not None:
            held_out = (preprocessing.transform(held_out[0], "eval_set's X"), *held_out[1:])
        leaks.warn_of_leaks(preprocessing, table, y, isinstance(target, Labels))
        trained = training.train(
            table,
            y,
            preprocessing.rows,
            self._task(target),
            recipes=self.recipes if self.recipes is not None else PRESETS[self.preset],
            metric=self.metric,
            held_out=self.validation_fraction if held_out is None else held_out,
            sample_weight=weight,
            n_estimators=self.n_estimators,
            time_limit=self.time_limit,
            seed=int(check_random_state(self.random_state).randint(2**31)),
            threads=self.threads,
            progress=self.progress,
        )
        self._remember(TableModel(preprocessing, trained.networks, trained.weights, target), list(arrays), named)
        self.report_ = trained.report
        return self

    def _remember(self, model, names, named):
        """Takes a model over; all that is remembered changes at once."""
        self.model_, self._one_row = model, None
        self.networks_ = model.networks
        self.network_ = model.networks[int(np.argmax(model.weights))]
        self.columns_ = model.preprocessing
        self.n_features_in_ = len(names)
        vars(self).pop("feature_names_in_", None)
        if named:
            self.feature_names_in_ = np.array(names, object)

    def _with_target(self, X, y, what):
        """(X, y), y taken out of X where it is the name of a column."""
        if not isinstance(y, str):
            if y is None:
                raise ValueError("requires y to be passed, but the target y is None")
            return X, y
        if not frames.is_frame(X):
            raise TypeError(f"y={y!r} names a column of a data frame; {what} is of type {type(X).__name__}")
        arrays = frames.columns_of(X, what=what)
        if y not in arrays:
            raise ValueError(f"{what} has no column {y!r} to predict, but {frames.listed(arrays)}")
        target = arrays.pop(y)
        return arrays, target

    def _table(self, X):
        """({name: Arrow array}, whether X has names) of what is learnt from."""
        if not frames.is_frame(X):
            X = check_array(X, dtype=None, ensure_all_finite=False, estimator=self)
            return frames.columns_of_array(_finite(X), _places(X.shape[1])), False
        arrays = _arrows(X, None, "X")
        if not arrays:
            raise ValueError("0 feature(s): X has no columns, while a minimum of 1 is required")
        return arrays, True

    def _columns(self, X, what="X"):
        """{name: Arrow array} of what is predicted; by place where X has no names."""
        check_is_fitted(self)
        if frames.is_frame(X) and hasattr(self, "feature_names_in_"):
            return _arrows(X, self.columns_.names, what)
        X = validate_data(self, X, dtype=None, ensure_all_finite=False, reset=False)
        names = getattr(self, "feature_names_in_", None)
        return frames.columns_of_array(_finite(X), _places(X.shape[1]) if names is None else list(names))

    def _target(self, y, sample_weight, m):
        """(codes or standardised numbers, Labels or Numbers, weights or None)"""
        if m < 2:
            raise ValueError("X has 1 sample: at least two rows are needed, one of them to be held out")
        y = _values(y, "y")
        if len(y) != m:
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: X has {m} rows, y has {len(y)}"
            )
        _refuse_holes(y, "y")
        weight = None
        if sample_weight is not None:
            weight = check_sample_weight(sample_weight, np.empty((m, 1)), dtype=np.float64, ensure_non_negative=True)
            if not weight.any():
                raise ValueError("sample_weight is zero for every row: at least one must count")
        return self._learnt(y, weight)

    def _eval_set(self, eval_set, names, named, target):
        """({name: Arrow array}, y as learnt, weights or None)"""
        what = "eval_set's X"
        if isinstance(eval_set, list) and len(eval_set) == 1:
            eval_set = eval_set[0]
        if not isinstance(eval_set, tuple) or len(eval_set) not in (2, 3):
            raise ValueError(f"eval_set must be (X, y) or (X, y, sample_weight); got {type(eval_set).__name__}")
        X, y = self._with_target(eval_set[0], eval_set[1], what)
        if frames.is_frame(X) and named:
            arrays = _arrows(X, names, what)
        else:
            X = check_array(X, dtype=None, ensure_all_finite=False, input_name=what)
            if X.shape[1] != len(names):
                raise ValueError(f"{what} has {X.shape[1]} columns, X has {len(names)}")
            arrays = frames.columns_of_array(_finite(X), names)
        y = _values(y, "eval_set's y")
        if len(y) != _rows(arrays):
            raise ValueError(f"{what} has {_rows(arrays)} rows, its y {len(y)}")
        _refuse_holes(y, "eval_set's y")
        weight = None
        if len(eval_set) == 3 and eval_set[2] is not None:
            weight = check_sample_weight(eval_set[2], np.empty((len(y), 1)), dtype=np.float64, ensure_non_negative=True)
        return arrays, self._as_learnt(y, target), weight

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
            {column: mean loss of the metric over the repeats}, the most important first. A column that was left out
            of the features isn't there.

        Notes
        -----
        Breiman (2001), Random Forests, section 10.
        """
        check_is_fitted(self)
        X, y = self._with_target(X, y, "X")
        arrays = self._columns(X)
        y = _values(y, "y")
        _refuse_holes(y, "y")
        y = self._as_learnt(y, self.model_.target)
        table = self.columns_.transform(arrays)
        return explaining.permutation_importances(
            self.model_,
            table,
            y,
            metric or self.metric or training.default_metric(self._task(self.model_.target)),
            sample_weight,
            n_repeats,
            check_random_state(random_state),
        )

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
        names, named = (_places(self.n_features_in_), False) if names is None else (list(names), True)
        model_file.write(path, model_file.Stored(self.model_, names, named, self._saved_parameters()))

    def _saved_parameters(self):
        parameters = self.get_params(deep=False)
        parameters["recipes"] = None
        if not isinstance(self.random_state, Integral | None):
            parameters["random_state"] = None
        return parameters

    @classmethod
    def load(cls, path):
        """The estimator that `save` wrote: it predicts to the same bits.

        Raises
        ------
        ModelFormatError
            The file is no table's model, damaged, or of the other task.
        """
        stored = model_file.read(path)
        made = of_stored(stored)
        if not isinstance(made, cls):
            raise ModelFormatError(f"{path} holds a {type(made).__name__}, load it by that")
        return made

    def to_onnx(self, path):
        """Writes the whole model as ONNX, an input for each column by its name."""
        from nnkern.tabular import onnx_out

        check_is_fitted(self)
        onnx_out.to_onnx(self.model_, path)

    def to_c(self, path):
        """Writes the whole model as one C99 file, whose function takes a struct with a field for each column."""
        from nnkern.tabular import c_out

        check_is_fitted(self)
        c_out.to_c(self.model_, path)


@in_full
class TabularClassifier(ClassifierMixin, BaseTabular):
    """Classes of a table's rows, by an ensemble of networks that takes the table as it is.

    Parameters
    ----------
    class_weight : dict, "balanced" or None, default=None
        Weights of the labels; "balanced": the same total for each class.
    {shared}

    Attributes
    ----------
    classes_ : (k,) array
        The labels, sorted.
    model_ : TableModel
        Columns, networks, weights and labels, which predict together.
    columns_ : Preprocessing
        What was learnt of each column; prints as a table of kinds and rows of X.
    networks_, network_ : list of Network, Network
        All of the ensemble, and the one of the largest weight.
    report_ : list of dict
        What was trained: recipe, epochs, seconds, held-out metric, weight.
    n_features_in_, feature_names_in_ : int, (n,) array of str
        Columns of the table; their names where it had some.

    Examples
    --------
    >>> from nnkern.tabular import TabularClassifier
    >>> ages, towns = [22, 38, 26, None, 35, 54], ["a", "b", "b", "a", "c", None]
    >>> frame = {"age": ages * 20, "town": towns * 20, "ill": [0, 1, 1, 0, 1, 0] * 20}
    >>> clf = TabularClassifier(preset="fast", random_state=0).fit(frame, "ill")
    >>> int(clf.predict_one({"age": 26, "town": "b"}))
    1
    >>> clf.predict_proba({"age": [22.0], "town": ["a"]}).shape
    (1, 2)
    """

    __module__ = "nnkern.tabular"

    _parameter_constraints = {  # noqa: RUF012
        **BaseTabular._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }
    _target_kind = Labels

    def __init__(self, *, class_weight=None, **shared):
        super().__init__(**shared)
        self.class_weight = class_weight

    def _task(self, target):
        return "binary" if len(target.labels) == 2 else "multiclass"

    def _learnt(self, y, weight):
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has one class only, {classes[0]!r}: a classifier needs two classes or more")
        if y.dtype.kind in "iuf" and len(classes) > MANY_CLASSES and len(y) < 10 * len(classes):
            warnings.warn(
                f"y has {len(classes)} different numbers in {len(y)} rows, which are taken for as many classes: "
                "TabularRegressor predicts numbers",
                TabularWarning,
                stacklevel=4,
            )
        if self.class_weight is not None:
            balance = compute_sample_weight(self.class_weight, y)
            weight = balance if weight is None else weight * balance
        return codes, Labels.of(classes), weight

    def _as_learnt(self, y, target):
        known = {label: code for code, label in enumerate(target.classes.tolist())}
        codes = np.array([known.get(label, -1) for label in y.tolist()], np.int64)
        if (codes < 0).any():
            i = int((codes < 0).argmax())
            raise ValueError(f"the label {y[i]!r} of row {i} is none of the model's: {frames.listed(known)}")
        return codes

    def _remember(self, model, names, named):
        super()._remember(model, names, named)
        self.classes_ = model.target.classes

    def predict_proba(self, X):
        """Probabilities (m, k), a column for each of `classes_`."""
        return self._outputs(X).T

    def predict(self, X):
        """Labels (m,): the most probable class of each row."""
        codes = self._outputs(X).argmax(axis=0)
        return self.classes_[codes]

    def predict_one(self, row):
        """The label of one row, a dict of a value for each column, None for what is missing."""
        code = self._one(row).argmax()
        return self.classes_[code]

    def predict_proba_one(self, row):
        """Its probabilities (k,)."""
        return self._one(row)

    def explain(self, X, *, label=None, steps=32):
        """What each column adds to a class's probability, by integrated gradients.

        Parameters
        ----------
        X : data frame of m rows, or (m, n) array
        label : optional
            Of which class; default the second of two, of more each row's most probable one.
        steps : int
            Nodes of the integral.

        Returns
        -------
        added : dict
            {"base": (m,) array, column: (m,) array, …}: they add up to the probability. "base" is that of a neutral
            row, with every number at its median and no category.

        Notes
        -----
        Sundararajan, Taly, Yan (2017), Axiomatic Attribution for Deep Networks, equation 1, on what the networks' first
        layers make of a row.
        """
        arrays = self._columns(X)
        output = None if label is None else int(self._as_learnt(np.array([label], object), self.model_.target)[0])
        return explaining.integrated_gradients(self.model_, self.columns_.transform(arrays), output, steps)


@in_full
class TabularRegressor(RegressorMixin, BaseTabular):
    """Numbers of a table's rows, by an ensemble of networks that takes the table as it is.

    Predictions stay within the range of the training rows.

    Parameters
    ----------
    {shared}

    Attributes
    ----------
    model_, columns_, networks_, network_, report_, n_features_in_, feature_names_in_
        As TabularClassifier's.

    Examples
    --------
    >>> from nnkern.tabular import TabularRegressor
    >>> frame = {"size": [50, 80, 120, 65, 90, 110] * 20, "town": ["a", "b", "b", "a", "c", None] * 20}
    >>> price = [size * 3.0 for size in frame["size"]]
    >>> model = TabularRegressor(preset="fast", random_state=0).fit(frame, price)
    >>> 150 < model.predict_one({"size": 70, "town": "a"}) < 270
    True
    """

    __module__ = "nnkern.tabular"

    def __init__(self, **shared):
        super().__init__(**shared)

    _target_kind = Numbers

    def _task(self, target):
        return "regression"

    def _learnt(self, y, weight):
        y = _floats(y, "y")
        target = Numbers.of(y, weight)
        return target.standardised(y), target, weight

    def _as_learnt(self, y, target):
        return target.standardised(_floats(y, "y"))

    def predict(self, X):
        """Numbers (m,), float64."""
        return self._outputs(X)

    def predict_one(self, row):
        """The number of one row, a dict of a value for each column, None for what is missing."""
        return self._one(row)

    def explain(self, X, *, steps=32):
        """What each column adds to each row's number, by integrated gradients; see TabularClassifier.explain.

        The sums are the numbers before they are clipped to the range of training.
        """
        arrays = self._columns(X)
        return explaining.integrated_gradients(self.model_, self.columns_.transform(arrays), 0, steps)


def _rows(arrays):
    return len(next(iter(arrays.values()))) if arrays else 0


def load(path):
    """The TabularClassifier or TabularRegressor that `save` wrote to a file: it predicts to the same bits.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    ModelFormatError
        The file is no table's model, or a damaged one.
    """
    return of_stored(model_file.read(path))


def of_stored(stored):
    """The estimator of what a file holds."""
    kind = TabularClassifier if stored.model.classifies else TabularRegressor
    known = {name: value for name, value in stored.parameters.items() if name in kind().get_params()}
    made = kind(**known)
    made._remember(stored.model, stored.names, stored.named)
    return made


def _places(n):
    """Names of columns that have none."""
    return [f"x{j}" for j in range(n)]


def _arrows(X, names, what):
    """{name: Arrow array} of a frame, which may be such a dict already; a ValueError where there is no row."""
    ready = isinstance(X, dict) and all(hasattr(array, "null_count") for array in X.values())
    arrays = X if ready else frames.columns_of(X, names, what)
    if arrays and not _rows(arrays):
        raise ValueError(f"{what} has 0 rows: at least one is needed")
    return {name: arrays[name] for name in names} if names is not None else arrays


def _finite(X):
    if X.dtype.kind == "f" and np.isinf(X).any():
        i, j = (int(part[0]) for part in np.nonzero(np.isinf(X)))
        raise ValueError(f"Input X contains infinity: row {i}, column {j}; give what isn't known as NaN")
    return X


def _values(y, what):
    """The target as a numpy array (m,), None where it has holes."""
    if frames.is_series(y):
        array = columns.plain(frames.series(y, what))
        return array.to_numpy() if hasattr(array, "chunks") else array.to_numpy(zero_copy_only=False)
    return column_or_1d(y, warn=True)


def _refuse_holes(y, what):
    missing = (
        np.array([value is None or value != value for value in y]) if y.dtype.kind in "OfM" else np.zeros(len(y), bool)
    )
    if missing.any():
        raise ValueError(
            f"Input {what} contains NaN: {missing.sum()} of {len(y)} values are missing, the first in row "
            f"{missing.argmax()}; leave these rows out"
        )


def _floats(y, what):
    try:
        y = np.asarray(y, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must hold numbers, TabularClassifier predicts labels: {error}") from None
    if not np.isfinite(y).all():
        raise ValueError(f"Input {what} contains infinity or a value too large for float64: row {np.isinf(y).argmax()}")
    return y
