"""Reads `.npz` archives and scikit-learn's digits, and finds out from a path which of these it is, or pictures."""

import os

import numpy as np

from nnkern._optional import require
from nnkern.data.containers import Arrays, DataError
from nnkern.data.pictures import PICTURE_SUFFIXES, read_pictures


def read(path=None, *, size=64):
    """Read `path` by its kind: digits for None, `.npz`, else a folder or file of pictures, resized to `size`."""
    if path is None:
        return digits()
    path = os.fspath(path)
    return read_npz(path) if path.lower().endswith(".npz") else read_pictures(path, size=size)


def is_table(path):
    """Whether a path that isn't None is of none of these kinds: `nnkern.tabular` reads it."""
    suffix = os.path.splitext(path)[1].lower()
    return not (os.path.isdir(path) or suffix == ".npz" or suffix in PICTURE_SUFFIXES)


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
        hint = ""
        if Y.ndim == 2 and Y.shape[0] == X.shape[0]:
            hint = "; one example is a column: save X.T and Y.T"
        elif X.shape[0] == Y.shape[-1]:
            hint = "; one example is a column of X, (n_x, m): save X.T"
        elif Y.ndim == 2 and Y.shape[0] == m:
            hint = "; one example is a column of Y, (n_y, m): save Y.T"
        raise DataError(f"{name}: X has shape {X.shape}, so m = {m} examples, but Y has shape {Y.shape}{hint}")
    if Y.dtype.kind == "f" and not np.isfinite(Y).all():
        raise DataError(f"{name}: Y holds NaN or Inf at {tuple(np.argwhere(~np.isfinite(Y))[0].tolist())}")
    return Y


def digits():
    """scikit-learn's 1797 handwritten digits: X (64, 1797) with entries 0..16, Y labels 0..9.

    Each is a picture of 8×8 grey pixels, row by row.
    """
    require("sklearn", "the digits data set")
    from sklearn.datasets import load_digits

    data, labels = load_digits(return_X_y=True)
    return Arrays(data.T, labels, "digits", groups=1)
