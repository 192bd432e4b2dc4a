"""What a model of a table predicts: labels of any type as codes, or numbers as they are learnt, standardised.

`trained_on` is what the command line remembers for later comparisons: the names of the columns of target and weights,
and the baseline, which is each class's share, or the mean. It is None for what was trained otherwise.
"""

import math

import numpy as np

from nnkern._values import Value


class Labels(Value):
    """Classes by their labels, sorted; a network learns their places in the list."""

    task = "classification"

    def __init__(self, labels, kind, trained_on=None):
        self.labels, self.kind, self.trained_on = list(labels), kind, trained_on

    @classmethod
    def of(cls, classes):
        """Of the sorted array of different labels, as numpy.unique gives it."""
        classes = _plain(classes)
        kinds = {"O": "object", "U": "str", "T": "str"}
        return cls(classes.tolist(), kinds.get(classes.dtype.kind, classes.dtype.name))

    @staticmethod
    def summary(y, weight=None):
        """What others must know of the rows of a shard, as JSON has it: its labels, and how often they are there."""
        classes, counts = np.unique(y if weight is None else y[weight > 0], return_counts=True)
        if len(classes):  # of a shard without rows, what type they have says nothing
            classes = _plain(classes)
        kind = "O" if classes.dtype.kind in "OT" else classes.dtype.str
        return {"labels": classes.tolist(), "kind": kind, "counts": counts.tolist()}

    @staticmethod
    def of_all(rows, noun):
        """(sorted labels, how often they are there) of all shards, from their summaries; `noun`: what has a shard."""
        found = [(number, row) for number, row in enumerate(rows) if row["labels"]]
        if not found:
            raise ValueError(f"the shards of all {len(rows)} {noun}s have 0 rows of weight above 0")
        groups = {}
        for number, row in found:
            group = {"O": "texts", "U": "texts", "b": "booleans"}.get(row["kind"].strip("<>=|")[0], "numbers")
            groups.setdefault(group, number)
        if len(groups) > 1:
            said = ", ".join(f"{group} on {noun} {number}" for group, number in groups.items())
            raise TypeError(f"y must hold labels of one kind on all {noun}s; it has {said}")
        parts = [np.array(row["labels"], row["kind"]) for _, row in found]
        labels, places = np.unique(np.concatenate(parts), return_inverse=True)
        counts = np.zeros(len(labels), np.int64)
        np.add.at(counts, places, np.concatenate([row["counts"] for _, row in found]))
        return labels, counts

    @property
    def classes(self):
        """The labels as a numpy array, of the type that they had in training."""
        return np.array(self.labels, self.kind)

    def to_dict(self):
        """As JSON has it."""
        return {"task": self.task, **vars(self)}


def _plain(classes):
    """Labels as texts or of a type of numpy's; a TypeError for what is neither text, number nor boolean."""
    if classes.dtype.kind == "O" and not all(isinstance(label, str) for label in classes):
        classes = np.array(classes.tolist())
    if classes.dtype.kind not in "OUTbiuf":
        raise TypeError(f"labels must be texts, numbers or booleans; got {classes.dtype}")
    return classes


class Numbers(Value):
    """Numbers, learnt as (y − mean) / scale; what is predicted stays within `low` and `high`, the range of training."""

    task = "regression"

    def __init__(self, mean, scale, low, high, trained_on=None):
        self.trained_on = trained_on
        self.mean, self.scale, self.low, self.high = float(mean), float(scale), float(low), float(high)

    @classmethod
    def of(cls, y, weight=None):
        """Of the training values, float64; a ValueError where they are too large."""
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            mean = np.average(y, weights=weight)
            scale = math.sqrt(np.average((y - mean) ** 2, weights=weight)) or 1.0
        return cls._checked(mean, scale, y.min(), y.max())

    @staticmethod
    def summary(y, weight=None):
        """What others must know of the rows of a shard, as JSON has it."""
        if weight is not None:
            y, weight = y[weight > 0], weight[weight > 0]
        if not len(y):
            return {"weight": 0.0}
        with np.errstate(over="ignore", invalid="ignore"):  # refused by of_all
            mean = np.average(y, weights=weight)
            total = len(y) if weight is None else weight.sum()
            spread = np.average((y - mean) ** 2, weights=weight)
        numbers = {"weight": total, "mean": mean, "spread": spread, "low": y.min(), "high": y.max()}
        return {name: float(number) for name, number in numbers.items()}

    @classmethod
    def of_all(cls, rows, noun):
        """Of the training values of all shards, from their summaries; `noun`: what has a shard."""
        found = [row for row in rows if row["weight"]]
        if not found:
            raise ValueError(f"the shards of all {len(rows)} {noun}s have 0 rows of weight above 0")
        weight, means, spreads = (np.array([row[name] for row in found]) for name in ("weight", "mean", "spread"))
        low, high = min(row["low"] for row in found), max(row["high"] for row in found)
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            mean = np.average(means, weights=weight)
            scale = math.sqrt(np.average(spreads + (means - mean) ** 2, weights=weight)) or 1.0
        return cls._checked(mean, scale, low, high)

    @classmethod
    def _checked(cls, mean, scale, low, high):
        if not (math.isfinite(mean) and math.isfinite(scale)):
            raise ValueError(f"y has values too large to be standardised, up to {max(abs(low), abs(high)):g}")
        return cls(mean, scale, low, high)

    def standardised(self, y):
        """As a network learns them, in float32."""
        y = y - self.mean
        y /= self.scale
        return y.astype(np.float32)

    def restored(self, out):
        """Predictions of standardised ones, float64; of an array, or of one number."""
        out = out * self.scale + self.mean
        return min(max(out, self.low), self.high) if type(out) is float else np.clip(out, self.low, self.high)

    def to_dict(self):
        """As JSON has it."""
        return {"task": self.task, **vars(self)}


def from_dict(entry):
    """The target that `to_dict` gave; TypeError, ValueError or KeyError for anything else."""
    entry = dict(entry)
    target = {"classification": Labels, "regression": Numbers}[entry.pop("task")](**entry)
    if isinstance(target, Labels):
        if len(target.labels) < 2 or len(set(target.labels)) < len(target.labels):
            raise ValueError(f"the labels are {target.labels}")
        if type(target.kind) is not str or target.classes.tolist() != target.labels:
            raise ValueError(f"the labels aren't all {target.kind}")
        if np.unique(target.classes).tolist() != target.labels:
            raise ValueError(f"the labels aren't sorted: {target.labels}")
    elif not (0 < target.scale < math.inf and all(map(math.isfinite, (target.mean, target.low, target.high)))):
        raise ValueError(f"the target is {entry}")
    _check_trained_on(target)
    return target


def _check_trained_on(target):
    told = target.trained_on
    if told is None:
        return
    count = len(target.labels) if isinstance(target, Labels) else 1
    named = isinstance(told["target"], str) and isinstance(told["weight"], str | None)
    baseline = [float(value) for value in told["baseline"]]
    if not named or len(baseline) != count or not all(map(math.isfinite, baseline)):
        raise ValueError(f"the target's record of its training is {told}")
