"""Decides what is to be predicted: which column or array, and whether its values are classes or numbers."""

from dataclasses import dataclass

import numpy as np

from nnkern.data.containers import DataError, Table, quoted
from nnkern.data.texts import label_codes, label_name, label_value, not_a_number, parse_number

# A text column with more different values than this holds names, addresses or dates: its one-hot
# columns would be very many, and carry no information.
MAX_CATEGORIES = 200
# A regression target with at most this many different whole numbers may have been meant as classes:
# the reason that is printed says how to choose that.
FEW = 20
TASKS = ("classification", "regression")


@dataclass
class Target:
    """What is to be predicted: the task, and Y as labels (m,) int64 or values (n_y, m) float64."""

    task: str
    Y: np.ndarray
    name: str | None = None  # the column of a table
    labels: list | None = None  # classification: the name of each class
    reason: str = ""  # why this task, in a few words

    @property
    def m(self):
        return self.Y.shape[-1]


def choose_target(data, name=None, task=None):
    """Take the target out of `data` and decide the task.

    The column of a table is its last one unless `name` says otherwise. Without `task`, text means
    classification, and so do numbers of only two different values and, in an archive, a Y of
    integers 0..k−1 or 1..k or one-hot; other numbers mean regression.

    The classes of a table are named as in the file, leading zeros included. Other texts that are the same number
    (1, 1.0) are one class, which has the shortest of these names.
    """
    if task is not None and task not in TASKS:
        raise DataError(f"task is {task!r}, expected one of {', '.join(TASKS)}")
    if isinstance(data, Table):
        return _table_target(data, name, task)
    if name is not None:
        raise DataError(f"{data.source} has no columns to choose the target {name!r} from")
    if data.Y is None:
        missing = "array Y" if data.kind == "array" else "class subfolders"
        raise DataError(f"{data.source} has no {missing}, so nothing says what to learn")
    return _array_target(data, task)


def _table_target(table, name, task):
    if name is None:
        name = list(table.columns)[-1]
    if name not in table.columns:
        raise DataError(f"{table.source} has no column {name!r}, but {quoted(table.columns)}")
    texts = table.columns[name]
    values, missing = table.numbers(name)
    if missing.any():
        raise DataError(f"{table.source}, line {table.lines[missing.argmax()]}: the target {name!r} is missing")
    if values is None:
        if task == "regression":
            raise DataError(f"{not_a_number(table, name)}; regression needs numbers in the target {name!r}")
        labels = sorted(set(texts))
        if task is None and len(labels) > MAX_CATEGORIES:
            raise DataError(
                f"{table.source}: the target {name!r} has {len(labels)} different texts, more than "
                f"the {MAX_CATEGORIES} taken for classes; name another target, or the task "
                "classification"
            )
        return _classes(texts, labels, name, "text")
    if not np.isfinite(values).all():
        line = table.lines[np.argmin(np.isfinite(values))]
        raise DataError(f"{table.source}, line {line}: the target {name!r} is infinite")
    different = np.unique(values)
    if task == "classification" or (task is None and len(different) == 2):
        labels = {}
        for text in sorted(set(texts), key=lambda text: (parse_number(text), len(text), text)):
            labels.setdefault(label_value(text), text)
        return _classes(texts, list(labels.values()), name, "two values" if len(labels) == 2 else "numbers")
    reason = "numbers"
    if task is None and len(different) <= FEW and (different % 1 == 0).all():
        reason = f"numbers; --task classification takes its {len(different)} values for classes"
    return Target("regression", values[None, :].copy(), name, None, reason)


def _array_target(data, task):
    Y = data.Y
    text = Y.dtype.kind == "U"
    if text and task == "regression":
        raise DataError(f"{data.source}: regression needs numbers, Y holds text")
    if text and Y.ndim == 2:
        raise DataError(f"{data.source}: text labels have shape {Y.shape}, expected (m,)")
    if Y.ndim == 2:
        one_hot = np.isin(Y, (0, 1)).all() and (Y.sum(axis=0) == 1).all()
        if task == "classification" or (task is None and one_hot and Y.dtype.kind in "iub"):
            if not one_hot:
                raise DataError(
                    f"{data.source}: for classification a Y of shape {Y.shape} must be one-hot, "
                    "or give labels of shape (m,)"
                )
            names = [str(i) for i in range(Y.shape[0])]
            return Target("classification", Y.argmax(axis=0), None, names, "one-hot Y")
    else:
        different = np.unique(Y)
        labels = text or len(different) == 2 or _are_labels(different)
        if task == "classification" or (task is None and labels):
            names = [label_name(value) for value in Y]
            reason = "labels in Y" if data.kind == "array" else "folders"
            return _classes(names, [label_name(value) for value in different], None, reason)
    return Target("regression", np.atleast_2d(Y).astype(np.float64), None, None, "numbers in Y")


def _are_labels(different):
    """Whether the different values of a Y are 0, 1, ..., k−1 or 1, 2, ..., k of an integer type."""
    k = len(different)
    return (
        different.dtype.kind in "iu"
        and k <= MAX_CATEGORIES
        and different[0] in (0, 1)
        and different[-1] - different[0] == k - 1
    )


def _classes(names, labels, column, reason):
    if len(labels) < 2:
        what = f"the target {column!r}" if column else "Y"
        raise DataError(f"{what} is {labels[0]!r} in every example, expected two classes or more")
    return Target("classification", label_codes(names, labels), column, labels, reason)
