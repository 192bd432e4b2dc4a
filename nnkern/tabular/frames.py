"""A caller's table as named columns of Apache Arrow, whatever library it comes from.

Data frames of pandas, polars and pyarrow come in through narwhals; numpy arrays through scikit-learn's validation. What
a column means is columns.py's concern: here are names, lengths and the forms of memory.
"""

import datetime
import decimal
from collections.abc import Mapping
from os import PathLike

import numpy as np

from nnkern._kernels import release_memory
from nnkern._optional import require


class Columns(dict):
    """{name: Arrow array}, checked: the names are texts, and all arrays have the same length."""

    _taken = dict.__getitem__

    def parts(self, masks):
        """Of each mask (m,) of bool the columns of its rows."""
        parts = [type(self)() for _ in masks]
        for name in list(self):
            column = self._taken(name)
            for mask, part in zip(masks, parts, strict=True):
                part[name] = column.filter(mask)
        return parts


class ConsumableColumns(Columns):
    """Columns that nobody else needs: each is let go as soon as X, or what is kept of its rows, has been made of it."""

    _taken = dict.pop


def give_back():
    """What Arrow and the C library keep of freed memory goes back to the system: much, where columns were converted."""
    require("pyarrow", "a data frame").default_memory_pool().release_unused()
    release_memory()


def is_frame(X):
    """Whether X has columns by name."""
    if is_mapping(X):
        return True
    _refuse_rows_and_names(X)
    nw = require("narwhals", "a data frame")
    if nw.dependencies.is_into_lazyframe(X):
        raise TypeError(f"{type(X).__name__} has no rows before they are asked for: give what its collect() returns")
    return nw.dependencies.is_into_dataframe(X)


def _refuse_rows_and_names(X):
    """A TypeError for what a table can be made of, but isn't one: a list of dicts, and the name of a file."""
    if isinstance(X, list | tuple) and X and isinstance(X[0], Mapping):
        raise TypeError(
            "a table has columns, and this is a list of dicts, one a row: pandas.DataFrame(rows) or "
            "pyarrow.Table.from_pylist(rows) makes a table of it; predict_one takes one dict"
        )
    if isinstance(X, str | bytes | PathLike):
        raise TypeError(f"a table is expected, got the text {X!r}: read a file first, for instance by pandas.read_csv")


def is_mapping(X):
    """Whether X is a dict of columns; some sparse matrices of scipy are dicts too, but those have a shape."""
    return isinstance(X, Mapping) and not hasattr(X, "shape")


def columns_of(X, names=None, what="X"):
    """Columns, arrays of m entries in one or more chunks, of a data frame or a dict of columns.

    With `names`, these columns only; a ValueError names those that X lacks.
    """
    pa = require("pyarrow", "a data frame")
    nw = require("narwhals", "a data frame")
    if is_mapping(X):
        return _columns_of_mapping(X, names, what)
    X = _with_texts_for_names(X)
    present = names_of(X, what)
    frame = nw.from_native(X, eager_only=True)
    if names is None:
        names = present
    refuse_lacking(names, present, what)
    if isinstance(X, pa.Table):
        return Columns((name, X.column(name)) for name in names)
    return Columns((name, _of_series(frame[name], name, what)) for name in names)


def _columns_of_mapping(X, names, what):
    present = [str(name) for name in X]
    refuse_twice(present, what)
    given = dict(zip(present, X.values(), strict=True))
    if names is None:
        names = present
    refuse_lacking(names, present, what)
    columns = Columns((name, _column_of(given[name], name, what)) for name in names)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name!r} {length}" for name, length in list(lengths.items())[:10])
        raise ValueError(f"the columns of {what} have different lengths: {said}; each needs an entry for each row")
    return columns


def _column_of(values, name, what):
    """The Arrow array of one column of a dict: the same as of a frame that has this column."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        values = np.asarray(values, object)  # no column, refused below
    elif is_series(values):
        return series(values, what, name)
    elif not (isinstance(values, list | tuple | range) or hasattr(values, "__arrow_array__")):
        values = np.asanyarray(values)  # keeps the mask of a masked array
    if isinstance(values, np.ndarray) and values.ndim != 1:
        hint = ": predict_one takes a dict of one row" if values.ndim == 0 else ""
        raise ValueError(f"{_named(name, what)} must have one entry for each row; got {_shaped(values)}{hint}")
    return _arrow_of(values, name, what)


def _shaped(values):
    return f"an array of shape {values.shape}" if values.ndim else f"{values.item()!r}"


def refuse_lacking(names, present, what):
    """A ValueError that names all of `names` that aren't present."""
    lacking = [name for name in names if name not in set(present)]
    if lacking:
        raise ValueError(
            f"{what} lacks the column{'s' * (len(lacking) > 1)} {listed(lacking)}, which the model was trained on; it "
            f"has {listed(present)}"
        )


def _with_texts_for_names(X):
    """pandas numbers columns that weren't given names."""
    if not hasattr(X, "set_axis") or all(isinstance(name, str) for name in X.columns):
        return X
    return X.set_axis([str(name) for name in X.columns], axis=1)


def names_of(native, what):
    """The names of a frame's columns; a ValueError where two have the same."""
    names = list(native.column_names if hasattr(native, "column_names") else native.columns)
    refuse_twice(names, what)
    return names


def refuse_twice(names, what):
    """A ValueError that lists the names that are there more than once."""
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            f"{what} has several columns named {listed(twice)}: rename them, so that each name is there once"
        )


def place_name(j):
    """The name of the column number j of an array, whose columns have none."""
    return f"x{j}"


def columns_of_array(X, names):
    """Columns of a 2-D numpy array."""
    return Columns((name, _arrow_of(X[:, j], name, "X")) for j, name in enumerate(names))


def series(values, what, name=None):
    """The Arrow array of one column that is given by itself: a Series of pandas or polars, or an array of pyarrow."""
    pa = require("pyarrow", what)
    nw = require("narwhals", what)
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return pa.chunked_array([values]) if isinstance(values, pa.Array) else values
    return _of_series(nw.from_native(values, series_only=True), name, what)


def is_series(values):
    """Whether it is one column of pandas, polars or pyarrow."""
    nw = require("narwhals", "a data frame")
    return hasattr(values, "null_count") or nw.dependencies.is_into_series(values)


def _of_series(series, name, what):
    pa = require("pyarrow", "a data frame")
    try:
        array = series.to_arrow()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        array = _of_objects(series.to_list(), name, what)
    except UnicodeError as error:
        raise ValueError(f"{_named(name, what)} holds a text that is none: {error}") from None
    return pa.chunked_array([array]) if isinstance(array, pa.Array) else array


def _arrow_of(values, name, what):
    pa = require("pyarrow", "a data frame")
    if getattr(getattr(values, "dtype", None), "kind", "") == "c":
        raise ValueError(f"Complex data not supported: {_named(name, what)} holds {values.dtype}")
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, TypeError, pa.ArrowNotImplementedError, OverflowError):
        array = _of_objects(values.tolist() if hasattr(values, "tolist") else list(values), name, what)
    except UnicodeError as error:
        raise ValueError(f"{_named(name, what)} holds a text that is none: {error}") from None
    return pa.chunked_array([array]) if isinstance(array, pa.Array) else array


def _of_objects(values, name, what):
    """Of Python objects: numbers, where all are such or missing; of several kinds texts."""
    pa = require("pyarrow", "a data frame")
    values = [None if is_missing(value) else value for value in values]
    for kind in (np.datetime64, np.timedelta64):  # Arrow takes arrays of them, not each by itself
        if any(isinstance(value, kind) for value in values) and all(isinstance(value, kind | None) for value in values):
            return pa.array(np.array([kind("NaT") if value is None else value for value in values], kind))
    for i, value in enumerate(values):
        if not isinstance(value, str | bool | np.bool_ | int | float | np.integer | np.floating | None):
            raise TypeError(
                f"{_named(name, what)}, row {i} holds a {type(value).__name__}: argument must be a string or a number; "
                "a column must hold numbers, texts, booleans or dates"
            )
    if any(isinstance(value, str | bool | np.bool_) for value in values):
        return pa.array([None if value is None else text_of(value) for value in values], pa.string())
    try:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    except OverflowError as error:
        raise ValueError(f"{_named(name, what)} holds a number that is too large: {error}") from None


def _named(name, what):
    return what if name is None else f"column {name!r} of {what}"


def is_missing(value):
    """Whether one value is None, NaN, or what pandas has for it."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # arrays, and pandas' NA, whose comparisons are neither true nor false
        return type(value).__name__ == "NAType"


def text_of(value):
    """The text by which a category is known, whichever type a library or one row has the value in.

    Whole numbers have no point, others the digits of float32 where it resolves them, dates no time at midnight, times
    with a zone are in UTC, and durations are seconds.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, datetime.timedelta | np.timedelta64):
        value = value.total_seconds() if isinstance(value, datetime.timedelta) else value / np.timedelta64(1, "s")
    if isinstance(value, decimal.Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float | np.floating):
        value = float(value)
        if value.is_integer():
            return str(int(value))
        narrow = np.float32(value)
        return str(narrow) if float(narrow) == value else repr(value)
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    return _text_of_moment(value) if isinstance(value, datetime.datetime) else str(value)


def _text_of_moment(value):
    if hasattr(value, "to_pydatetime"):  # pandas' has nanoseconds, which the others don't tell
        value = value.to_pydatetime(warn=False)
    if value.tzinfo is not None:
        return value.astimezone(datetime.UTC).isoformat(sep=" ")
    return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(sep=" ")


def listed(names, most=10):
    """Names for a message, the first ones where there are many."""
    names = [repr(name) for name in names]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
