"""What a caller of the estimators hands in, checked: tables by name or by place, targets without holes."""

import numpy as np

from nnkern.estimators.needed import column_or_1d
from nnkern.tabular.columns import plain
from nnkern.tabular.frames import Columns, columns_of, is_mapping, is_series, place_name, refuse_lacking, series


def rows_of(arrays):
    return len(next(iter(arrays.values()))) if arrays else 0


def places(n):
    """Names of columns that have none."""
    return [place_name(j) for j in range(n)]


def arrows_of(X, names, what):
    """{name: Arrow array} of a frame, which may be Columns already; a ValueError where there is no row."""
    arrays = X if isinstance(X, Columns) else columns_of(X, names, what)
    if arrays and not rows_of(arrays):
        raise ValueError(f"{what} has 0 rows: at least one is needed")
    if names is None:
        return arrays
    refuse_lacking(names, arrays, what)
    return {name: arrays[name] for name in names}


def refuse_dict(X, n, what):
    """A TypeError for a dict of columns where the model was trained on an array, whose columns have places only."""
    if is_mapping(X):
        raise TypeError(
            f"{what} must be an array with {n} columns, as in training, whose columns had no names; got "
            f"{type(X).__name__}"
        )


def finite(X):
    if X.dtype.kind == "f" and np.isinf(X).any():
        i, j = (int(part[0]) for part in np.nonzero(np.isinf(X)))
        raise ValueError(f"Input X contains infinity: row {i}, column {j}; give what isn't known as NaN")
    return X


def target_values(y, what):
    """The target as a numpy array (m,), None where it has holes."""
    if is_series(y):
        array = plain(series(y, what))
        return array.to_numpy() if hasattr(array, "chunks") else array.to_numpy(zero_copy_only=False)
    y = column_or_1d(y, warn=True)
    if y.dtype == object and len({type(value) for value in y}) == 1:
        plain_values = np.array(y.tolist())
        if plain_values.dtype.kind in "biuf":
            return plain_values
    return y


def refuse_holes(y, what):
    missing = (
        np.array([value is None or value != value for value in y]) if y.dtype.kind in "OfM" else np.zeros(len(y), bool)
    )
    if missing.any():
        raise ValueError(
            f"Input {what} contains NaN: {missing.sum()} of {len(y)} values are missing, the first in row "
            f"{missing.argmax()}; leave these rows out"
        )


def floats(y, what):
    try:
        y = np.asarray(y, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must hold numbers, TabularClassifier predicts labels: {error}") from None
    if not np.isfinite(y).all():
        raise ValueError(f"Input {what} contains infinity or a value too large for float64: row {np.isinf(y).argmax()}")
    return y
