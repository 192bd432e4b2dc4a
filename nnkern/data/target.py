"""Decides what of an array Y is to be predicted: classes or numbers."""

from dataclasses import dataclass

import numpy as np

from nnkern.data.containers import DataError
from nnkern.tabular.frames import text_of

MAX_CLASSES = 200
"""Of more, whole numbers are quantities and texts names or addresses, unless the task says otherwise."""
TASKS = ("classification", "regression")


@dataclass
class Target:
    """What is to be predicted: the task, and Y as labels (m,) int64 or values (n_y, m) float64."""

    task: str
    Y: np.ndarray
    labels: list | None = None  # classification: the name of each class
    reason: str = ""  # why this task, in a few words

    @property
    def m(self):
        return self.Y.shape[-1]


def choose_target(data, task=None):
    """Take the target out of `Arrays` and decide the task.

    Without `task`, text means classification, and so do two different values, and integers 0..k−1 or 1..k or one-hot;
    other numbers mean regression.
    """
    if task is not None and task not in TASKS:
        raise DataError(f"task is {task!r}, expected one of {', '.join(TASKS)}")
    Y = data.Y
    if Y is None:
        missing = "array Y beside X (both capital letters)" if data.kind == "array" else "class subfolders"
        raise DataError(f"{data.source} has no {missing}, so nothing says what to learn")
    text = Y.dtype.kind == "U"
    if text and task == "regression":
        raise DataError(f"{data.source}: regression needs numbers, Y holds text")
    if text and Y.ndim == 2:
        raise DataError(f"{data.source}: text labels have shape {Y.shape}, expected (m,)")
    if Y.ndim == 2:
        one_hot = np.isin(Y, (0, 1)).all() and (Y.sum(axis=0) == 1).all()
        if task == "classification" or (task is None and one_hot and Y.dtype.kind in "iub"):
            if not one_hot:
                expected = "must be one-hot, or give labels of shape (m,)"
                raise DataError(f"{data.source}: for classification a Y of shape {Y.shape} {expected}")
            return Target("classification", Y.argmax(axis=0), [str(i) for i in range(Y.shape[0])], "one-hot Y")
    else:
        different, codes = np.unique(Y, return_inverse=True)
        if task == "classification" or (task is None and (text or len(different) == 2 or _are_labels(different))):
            if len(different) < 2:
                raise DataError(f"Y is {label_name(different[0])} in every example, expected two classes or more")
            reason = "labels in Y" if data.kind == "array" else "folders"
            return Target("classification", codes, [label_name(value) for value in different], reason)
    return Target("regression", np.atleast_2d(Y).astype(np.float64), None, "numbers in Y")


def label_name(value):
    """The name of a class: the text that it has as a category of a table; but of booleans, in arrays, 0 and 1."""
    return str(text_of(int(value) if isinstance(value, np.bool_) else value))


def _are_labels(different):
    """Whether the different values of a Y are 0, 1, ..., k−1 or 1, 2, ..., k of an integer type."""
    k = len(different)
    first, last = different[[0, -1]]
    return different.dtype.kind in "iu" and k <= MAX_CLASSES and first in (0, 1) and last - first == k - 1
