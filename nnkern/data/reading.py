"""Reads CSV files, `.npz` archives and scikit-learn's digits, and finds out from a path which of these it is."""

import csv
import os
import sys
from itertools import chain

import numpy as np

from nnkern._optional import require
from nnkern.data.containers import Arrays, DataError, Table, first_index
from nnkern.data.pictures import PICTURE_SUFFIXES, read_pictures
from nnkern.data.texts import is_number


def read(path=None, *, size=64):
    """Read `path` by its kind: digits for None, a folder or file of pictures, .npz, else CSV.

    `"-"` is a CSV on standard input. `size` is the side that pictures are resized to.
    """
    if path is None:
        return digits()
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower()
    if os.path.isdir(path) or suffix in PICTURE_SUFFIXES:
        return read_pictures(path, size=size)
    if suffix == ".npz":
        return read_npz(path)
    return read_csv(path)


def read_csv(path):
    """Read a CSV file with a header into a `Table`; `"-"` is standard input.

    UTF-8; the delimiter is the one of comma, semicolon, tab and bar that splits the header into
    most fields. Blank lines are skipped, every other line must have the header's number of fields.
    """
    path = os.fspath(path)
    name = "standard input" if path == "-" else os.path.basename(path)
    source = sys.stdin.fileno() if path == "-" else path
    try:
        with open(source, encoding="utf-8-sig", newline="", closefd=path != "-") as file:
            return _parse_csv(file, name)
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not a CSV file in UTF-8: {error.reason}") from error
    except csv.Error as error:
        raise DataError(f"{name} is not a CSV file: {error}") from error


def _parse_csv(file, name):
    first, blank = file.readline(), 0  # blank lines before the header
    while first and not first.strip():
        first, blank = file.readline(), blank + 1
    if not first:
        raise DataError(f"{name} is empty: expected a header and rows of data")
    if "\0" in first:
        raise DataError(f"{name} is not a CSV file: it holds NUL bytes")
    delimiter = max(",;\t|", key=lambda mark: len(next(csv.reader([first], delimiter=mark))))
    reader = csv.reader(chain([first], file), delimiter=delimiter)
    header = [text.strip() for text in next(reader)]
    if all(is_number(text) for text in header):
        raise DataError(f"{name}: the first line {first.strip()[:40]!r} holds numbers, expected column names")
    for i, text in enumerate(header):
        if not text:
            raise DataError(f"{name}: column {i + 1} has no name in the header")
        if text in header[:i]:
            raise DataError(f"{name}: the header names column {text!r} twice")
    n = len(header)
    # All cells in one list: the rows' own lists are freed as they come, and never traversed by the garbage collector.
    cells, ends = [], []
    for row in reader:
        if not row or (len(row) == 1 < n and not row[0].strip()):
            continue
        line = blank + reader.line_num
        if len(row) != n:
            raise DataError(f"{name}, line {line}: {len(row)} fields, expected {n} as in the header")
        cells += map(str.strip, row)
        ends.append(line)
    if not ends:
        raise DataError(f"{name} has a header and no rows")
    return Table({column: cells[j::n] for j, column in enumerate(header)}, ends, name)


def read_npz(path):
    """Read X (n_x, m), and Y if it is there, from an `.npz` archive; nothing is unpickled.

    Y: labels (m,), or (n_y, m); a Y of shape (1, m) that holds labels comes back as (m,).
    """
    path = os.fspath(path)
    name = os.path.basename(path)
    # zipfile, zlib and numpy's header parser each raise errors of their own for a damaged archive.
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = list(archive.files)
            X = archive["X"] if "X" in keys else None
            Y = archive["Y"] if "Y" in keys else None
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{name} is not a readable .npz file: {error}") from error
    if X is None:
        raise DataError(f"{name} holds no array X, but {', '.join(keys) or 'nothing'}")
    _check_features(X, name)
    if Y is not None:
        Y = _check_target_array(Y, X, name)
    return Arrays(X, Y, name)


def _check_features(X, name):
    if X.ndim != 2:
        raise DataError(f"{name}: X has shape {X.shape}, expected (n_x, m), one example a column")
    if X.dtype.kind not in "fiub":
        raise DataError(f"{name}: X holds {X.dtype}, expected numbers")
    if not X.size:
        raise DataError(f"{name}: X has shape {X.shape}, expected at least 1 feature and 1 example")
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        raise DataError(f"{name}: X holds {X[row, column]} at feature {row}, example {column}")


def _check_target_array(Y, X, name):
    m = X.shape[1]
    if Y.dtype.kind not in "fiubU":
        raise DataError(f"{name}: Y holds {Y.dtype}, expected numbers or text labels")
    if Y.ndim == 2 and Y.shape[0] == 1:
        Y = Y[0]
    if Y.ndim not in (1, 2):
        raise DataError(f"{name}: Y has shape {Y.shape}, expected (m,) or (n_y, m)")
    if Y.shape[-1] != m:
        message = f"{name}: X has shape {X.shape}, so m = {m} examples, but Y has shape {Y.shape}"
        X_transposed = X.shape[0] == Y.shape[-1]
        Y_transposed = Y.ndim == 2 and Y.shape[0] in (m, X.shape[0])
        if Y.ndim == 2 and Y.shape[0] == X.shape[0]:
            raise DataError(f"{message}; one example is a column: save X.T and Y.T")
        if X_transposed:
            raise DataError(f"{message}; one example is a column of X, (n_x, m): save X.T")
        if Y_transposed:
            raise DataError(f"{message}; one example is a column of Y, (n_y, m): save Y.T")
        raise DataError(message)
    if Y.dtype.kind == "f" and not np.isfinite(Y).all():
        raise DataError(f"{name}: Y holds NaN or Inf at {first_index(~np.isfinite(Y))}")
    return Y


def digits():
    """scikit-learn's 1797 handwritten digits: X (64, 1797) with entries 0..16, Y labels 0..9.

    Each is a picture of 8×8 grey pixels, row by row.
    """
    require("sklearn", "the digits data set")
    from sklearn.datasets import load_digits

    data, labels = load_digits(return_X_y=True)
    return Arrays(data.T, labels, "digits", groups=1)
