"""TabularClassifier: classes of a table's rows."""

import numpy as np

from nnkern._caller import warn
from nnkern.estimators import class_weights
from nnkern.estimators.needed import ClassifierMixin, StrOptions, check_classification_targets, compute_sample_weight
from nnkern.estimators.signatures import in_full
from nnkern.tabular.base import BaseTabular, ScoredByName
from nnkern.tabular.explaining import integrated_gradients
from nnkern.tabular.frames import listed
from nnkern.tabular.preprocessing import TabularWarning
from nnkern.tabular.target import Labels

MANY_CLASSES = 50
"""More classes than that of numbers, and fewer than ten rows of each, look like a regression."""


@in_full
class TabularClassifier(ScoredByName, ClassifierMixin, BaseTabular):
    """Classes of a table's rows, by an ensemble of networks that takes the table as it is.

    Parameters
    ----------
    class_weight : dict, "balanced" or None, default=None
        Weights of the labels, in training and in what is chosen by held-out rows; "balanced": the same total for each
        class. A label that a dict doesn't name has weight 1. One of weight 0 is left out, as if its rows weren't there.
    {shared}

    Attributes
    ----------
    classes_ : (k,) array
        The labels of rows whose weight isn't 0, sorted.
    model_ : TableModel
        Columns, networks, weights and labels, which predict together.
    columns_ : Preprocessing
        What was learnt of each column; prints as a table of kinds and rows of X.
    networks_, network_ : list of Network, Network
        All of the ensemble, and the one of the largest weight.
    report_ : list of dict
        What was trained, a dict for each network: "recipe", its place in the list of recipes; "part", which rows were
        held out; "epochs" done, and the "best_epoch", counted from 0; "seconds"; "score", the metric's value on the
        rows held out, before a refit; "weight" in the ensemble; "refit", whether it was trained on all rows afterwards.
    score_ : float
        The metric's value of the ensemble on the held-out rows, before a refit; optimistic, for these chose the
        weights.
    interrupted_ : bool
        Whether Ctrl-C ended the training: the best epochs until then are kept.
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

    def _class_weights(self, y, weight):
        check_classification_targets(y)
        if self.class_weight is None:
            return {}
        if not isinstance(self.class_weight, str):
            labels = np.unique(y)
            return _by_label(labels, class_weights.of_classes("class_weight", self.class_weight, labels))
        if weight is not None:
            y = y[weight > 0]  # "balanced" counts the rows of each class that count
        labels, first = np.unique(y, return_index=True)
        return _by_label(labels, compute_sample_weight(self.class_weight, y)[first])

    def _learnt(self, y, weight):
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            among = "" if weight is None else " among the rows of weight above 0"
            raise ValueError(
                f"y has one class only{among}, {classes.tolist()[0]!r}: a classifier needs two classes or more"
            )
        self._warn_of_classes(classes, len(y))
        return codes, Labels.of(classes)

    def _warn_of_classes(self, classes, m):
        if classes.dtype.kind in "iuf" and len(classes) > MANY_CLASSES and m < 10 * len(classes):
            warn(
                f"y has {len(classes)} different numbers in {m} rows, which are taken for as many classes: "
                "TabularRegressor predicts numbers",
                TabularWarning,
            )

    def _summary(self, y, weight):
        if len(y):
            check_classification_targets(y)
        return super()._summary(y, weight)

    def _agreed(self, rows, noun):
        labels, counts = Labels.of_all(rows, noun)
        weights = {}
        if self.class_weight is not None:
            if isinstance(self.class_weight, str):
                each = counts.sum() / (len(counts) * counts)
            else:
                each = class_weights.of_classes("class_weight", self.class_weight, labels)
            weights, labels = _by_label(labels, each), labels[each != 0]
        self._warn_of_classes(labels, counts.sum())
        if len(labels) < 2:
            raise ValueError(
                f"y has one class only on all {noun}s together, {labels.tolist()}: a classifier needs two or more"
            )
        return Labels.of(labels), weights

    def _as_learnt(self, y, target, what):
        known = {label: code for code, label in enumerate(target.classes.tolist())}
        codes = np.array([known.get(label, -1) for label in y.tolist()], np.int64)
        if (codes < 0).any():
            i = int((codes < 0).argmax())
            raise ValueError(
                f"{what}, row {i} holds {y.tolist()[i]!r}, which is no label of the model's: {listed(known)}"
            )
        return codes

    def _remember(self, stored):
        super()._remember(stored)
        self.classes_ = stored.model.target.classes

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
        base : (m,) array
            The probability of a neutral row, with every number at its median and no category.
        added : dict
            {column: (m,) array}. They come as a named tuple (base, added), whose `total()`, base and all of added, is
            the probability.

        Notes
        -----
        Sundararajan, Taly, Yan (2017), Axiomatic Attribution for Deep Networks, equation 1, on what the networks' first
        layers make of a row.
        """
        arrays = self._columns(X)
        output = None
        if label is not None:
            if label not in self.classes_.tolist():
                raise ValueError(f"label is {label!r}, which is none of the model's: {listed(self.classes_.tolist())}")
            output = self.classes_.tolist().index(label)
        return integrated_gradients(self.model_, self.columns_.transform(arrays), output, steps)


def _by_label(labels, weights):
    """{label: weight}"""
    return dict(zip(labels.tolist(), weights.tolist(), strict=True))
