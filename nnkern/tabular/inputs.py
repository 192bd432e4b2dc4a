"""What a caller of the estimators hands in, checked: tables by name or by place, targets without holes."""

import numpy as np

from nnkern.estimators.needed import column_or_1d
from nnkern.tabular.columns import plain
from nnkern.tabular.frames import (
    Columns,
    columns_of,
    is_mapping,
    is_missing,
    is_series,
    place_name,
    refuse_lacking,
    series,
)


def rows_of(arrays):
    return len(next(iter(arrays.values()))) if arrays else 0


def numbered_names(n):
    """Names of columns that have none."""
    return [place_name(j) for j in range(n)]


def arrows_of(X, names, what, least=1):
    """{name: Arrow array} of a frame, which may be Columns already; a ValueError where there is no row, unless `least`
    is 0.
    """
    arrays = X if isinstance(X, Columns) else columns_of(X, names, what)
    if arrays and rows_of(arrays) < least:
        raise ValueError(f"{what} has 0 rows: at least one is needed")
    if names is None:
        return arrays
    refuse_lacking(names, arrays, what)
    return Columns((name, arrays[name]) for name in names)


def refuse_dict(X, n, what):
    """A TypeError for a dict of columns where the model was trained on an array, whose columns have places only."""
    if is_mapping(X):
        raise TypeError(
            f"{what} must be an array with {n} columns, as in training, whose columns had no names; got "
            f"{type(X).__name__}"
        )


def _first_without_number(y):
    """(row, value) of the first one that can't be a float64."""
    for row, value in enumerate(y.tolist()):
        try:
            float(value)
        except (TypeError, ValueError, OverflowError):
            return row, value
    return 0, y.tolist()[0]


def finite(X):
    if X.dtype.kind == "f" and np.isinf(X).any():
        i, j = (int(part[0]) for part in np.nonzero(np.isinf(X)))
        raise ValueError(f"Input X contains infinity: row {i}, column {j}; give what isn't known as NaN")
    return X


def target_values(y, what):
    """The target as a numpy array (m,), None where it has holes."""
    if str(getattr(y, "dtype", "")).lower() == "object" and getattr(y, "ndim", 1) == 1:
        _refuse_mixed(list(y), what)
    if is_series(y):
        array = plain(series(y, what))
        return array.to_numpy() if hasattr(array, "chunks") else array.to_numpy(zero_copy_only=False)
    given, y = y, column_or_1d(y, warn=True)
    if isinstance(given, list | tuple):
        _refuse_mixed(given, what)  # numpy makes texts of all
    if y.dtype == object and len({type(value) for value in y}) == 1:
        plain_values = np.array(y.tolist())
        if plain_values.dtype.kind in "biuf":
            return plain_values
    return y


def _refuse_mixed(values, what):
    """A TypeError where texts stand among numbers or booleans: some libraries make texts of all, others can't sort."""
    seen, groups = set(), {}
    for value in values:
        one = type(value)
        if one not in seen and not is_missing(value):
            seen.add(one)
            group = str if issubclass(one, str) else bool if issubclass(one, bool | np.bool_) else "other"
            groups.setdefault(group, value)
    if len(groups) > 1:
        said = " and ".join(f"{type(value).__name__} ({value!r})" for value in list(groups.values())[:2])
        raise TypeError(
            f"{what} holds values of several types, {said}: argument must be a string or a number; make "
            "them all texts, or all numbers"
        )


def times_class_weights(weight, y, class_weights):
    """Weights of rows, each times that of its label in {label: weight}; a label that isn't there counts as 1."""
    if not class_weights:
        return weight
    own = np.array([class_weights.get(label, 1.0) for label in y.tolist()])
    return own if weight is None else weight * own


def counting(arrays, y, weight, what, least=1):
    """({name: Arrow array}, y, weight) of the rows whose weight isn't 0; a ValueError where these are too few.

    They are left out before anything is learnt: a label, median or category of theirs would be one of no training row.
    """
    if weight is None or weight.all():
        return arrays, y, weight
    rows = weight != 0
    if rows.sum() < least:
        raise ValueError(
            f"{what} and the weights of classes leave {rows.sum()} of {len(y)} rows a weight above 0: at least {least} "
            "must count"
        )
    return *arrays.parts([rows]), y[rows], weight[rows]


def refuse_holes(y, what):
    if y.dtype.kind in "fmM":
        missing = y != y  # NaN, and NaT
    elif y.dtype.kind == "O":
        missing = np.fromiter(map(is_missing, y), bool, len(y))
    else:
        return
    if missing.any():
        raise ValueError(
            f"Input {what} contains NaN: {missing.sum()} of {len(y)} values are missing, the first in row "
            f"{missing.argmax()}; leave these rows out"
        )


def floats(y, what):
    try:
        y = np.asarray(y, np.float64)
    except (TypeError, ValueError):
        row, value = _first_without_number(y)
        raise ValueError(
            f"{what} must hold numbers, row {row} holds {value!r}: TabularClassifier predicts labels"
        ) from None
    if not np.isfinite(y).all():
        raise ValueError(f"Input {what} contains infinity or a value too large for float64: row {np.isinf(y).argmax()}")
    return y
