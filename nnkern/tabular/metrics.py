"""Metrics by name: what held-out predictions are compared by. Knows no networks.

Predictions are P (k, m), the probability of each class, k >= 2, or (1, m) for numbers; y (m,) holds codes 0 … k - 1, or
numbers. Sample weights w (m,) count in all of them.

    log_loss            the mean of -log p(y), p at least 1e-7
    auc                 the area under the ROC curve; for more than two classes the mean of each against the rest
    accuracy            the share of rows whose most probable class is right
    error               the share of rows whose most probable class is wrong
    recall              the share of class 1's rows that are right, of two classes; of more the balanced accuracy
    balanced_accuracy   the mean over the classes of the share of their rows that are right
    f1                  2 TP / (2 TP + FP + FN) of class 1 of two; the mean over the classes of more
    calibration_error   the mean over ten bins of confidence of |share of right ones - mean confidence|, each bin by its
                        weight: Guo, Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks, eq. 3
    rmse                the root of the mean squared difference
    mae                 the mean absolute difference
    r2                  1 - the squared differences' sum / that of y from its mean
"""

import numpy as np

from nnkern import monitors, validation
from nnkern._values import Value

_LEAST_PROBABILITY = 1e-7  # about float32's, lest one row that is surely wrong makes the mean infinite
_BINS = 10


class Metric(Value):
    """A metric.

    Attributes
    ----------
    name : str
    classifies : bool
        Whether it is of classes; otherwise of numbers.
    rises : bool
        Whether larger values are better.
    has_unit : bool
        Whether it has the unit of what is predicted, and so its scale.

    Examples
    --------
    >>> import numpy as np
    >>> from nnkern.tabular.metrics import METRICS
    >>> P = np.array([[0.9, 0.2, 0.6], [0.1, 0.8, 0.4]])
    >>> y = np.array([0, 1, 0])
    >>> METRICS["accuracy"].value(y, P), METRICS["accuracy"].loss(y, P)
    (1.0, -1.0)
    """

    def __init__(self, name, function, classifies=True, rises=True, has_unit=False):
        self.name, self.classifies, self.rises, self.has_unit = name, classifies, rises, has_unit
        self._function = function

    def value(self, y, P, w=None):
        """Its value, a float; NaN where it isn't defined, as the AUC of rows of one class isn't."""
        y, P = np.asarray(y), np.asarray(P)
        w = np.ones(len(y)) if w is None else np.asarray(w, np.float64)
        return float(self._function(y, P, w))

    def loss(self, y, P, w=None):
        """The value, or its negative where larger values are better."""
        value = self.value(y, P, w)
        return -value if self.rises else value


def get(name, task):
    """The metric of that name, or where it is None the one that a task is judged by unless another is asked for.

    Parameters
    ----------
    name : str or None
    task : "binary", "multiclass" or "regression"

    Raises
    ------
    ValueError
        The name is unknown, or the metric isn't for the task.
    """
    if name is None:
        name = default_metric(task)
    metric = METRICS[validation.choice("metric", name, METRICS)]
    if metric.classifies != (task != "regression"):
        fit = [other.name for other in METRICS.values() if other.classifies != metric.classifies]
        kind = "classes" if metric.classifies else "numbers"
        raise ValueError(f"metric {name!r} is of {kind}, the task is {task}: use one of {', '.join(fit)}")
    return metric


def default_metric(task):
    """The name of the metric of a task: the log loss, which asks for right probabilities, or the RMSE."""
    return "rmse" if task == "regression" else "log_loss"


def _log_loss(y, P, w):
    own = P[y, np.arange(len(y))].astype(np.float64)
    return np.average(-np.log(np.maximum(own, _LEAST_PROBABILITY)), weights=w)


def _auc(y, P, w):
    members = y == np.arange(len(P))[:, None]
    weighing = members[:, w > 0]
    both = weighing.any(axis=1) & ~weighing.all(axis=1)
    return monitors.auc(P[both], members[both], w) if both.any() else np.nan


def _accuracy(y, P, w):
    return np.average(P.argmax(axis=0) == y, weights=w)


def _counts(y, P, w):
    """(right, predicted, true): the weight of each class."""
    labels, k = P.argmax(axis=0), len(P)
    right = np.bincount(y, w * (labels == y), minlength=k)
    return right, np.bincount(labels, w, minlength=k), np.bincount(y, w, minlength=k)


def _recalls(y, P, w):
    """Of each class, NaN where it has no row."""
    right, _, true = _counts(y, P, w)
    return np.divide(right, true, out=np.full(len(P), np.nan), where=true > 0)


def _balanced_accuracy(y, P, w):
    return np.nanmean(_recalls(y, P, w))


def _recall(y, P, w):
    return _recalls(y, P, w)[1] if len(P) == 2 else _balanced_accuracy(y, P, w)


def _calibration_error(y, P, w):
    confidence, right = P.max(axis=0), P.argmax(axis=0) == y
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return np.abs(np.bincount(bins, w * (right - confidence))).sum() / w.sum()


def _f1(y, P, w):
    right, predicted, true = _counts(y, P, w)
    sizes = predicted + true
    scores = np.divide(2 * right, sizes, out=np.zeros(len(P)), where=sizes > 0)
    return scores[1] if len(P) == 2 else scores[sizes > 0].mean()


def _mean_square(y, P, w):
    return np.average((P[0].astype(np.float64) - y) ** 2, weights=w)


def _mae(y, P, w):
    return np.average(np.abs(P[0].astype(np.float64) - y), weights=w)


def _r2(y, P, w):
    spread = np.average((y - np.average(y, weights=w)) ** 2, weights=w)
    return 1 - _mean_square(y, P, w) / spread if spread > 0 else np.nan


METRICS = {
    metric.name: metric
    for metric in (
        Metric("log_loss", _log_loss, rises=False),
        Metric("auc", _auc),
        Metric("accuracy", _accuracy),
        Metric("error", lambda y, P, w: 1 - _accuracy(y, P, w), rises=False),
        Metric("recall", _recall),
        Metric("balanced_accuracy", _balanced_accuracy),
        Metric("f1", _f1),
        Metric("calibration_error", _calibration_error, rises=False),
        Metric("rmse", lambda y, P, w: np.sqrt(_mean_square(y, P, w)), classifies=False, rises=False, has_unit=True),
        Metric("mae", _mae, classifies=False, rises=False, has_unit=True),
        Metric("r2", _r2, classifies=False),
    )
}
"""{name: Metric} of all that there are."""
