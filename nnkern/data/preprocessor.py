"""Reads data for the command line and the examples, and turns it into X (n_x, m) and Y.

Sources: CSV files with a header, `.npz` archives with X and Y, folders of pictures by class, and
scikit-learn's digits. A `Preprocessor` learns from the training part what a network needs to see
(means, scales, categories, label names), travels as JSON in the model file, and treats new data
the same way. numpy and the standard library; Pillow and scikit-learn are imported where they are
used. This module knows nothing of networks, and `import nnkern` doesn't load it.
"""

import csv
import numbers
import os
import sys
import warnings
from dataclasses import dataclass, field

import numpy as np

from nnkern._optional import MissingPackageError, require

__all__ = [
    "Arrays",
    "DataError",
    "MissingPackageError",
    "Preprocessor",
    "Table",
    "Target",
    "UnknownCategoryWarning",
    "choose_target",
    "digits",
    "folds",
    "picture_features",
    "read",
    "read_csv",
    "read_npz",
    "read_pictures",
    "require",
    "split",
    "take",
]

# Written in a CSV cell, in any case, these mean that the value isn't known.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
# A text column with more different values than this is a name, an address, a date: one-hot
# columns of it would say nothing, and there would be a great many.
MAX_CATEGORIES = 200
# So few whole numbers in a target may have been meant as classes: the user is told how to say so.
FEW = 20
PICTURE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
CHANNELS = 3  # red, green, blue
TASKS = ("classification", "regression")
FORMAT_VERSION = 1
BLOCK = 2**22  # numbers that are standardised at a time, so that little is held in float64


class DataError(ValueError):
    """Data that can't be used; the message says where and what to do."""


class UnknownCategoryWarning(UserWarning):
    """New data holds a category that the training data didn't: it counts as none of the known."""


@dataclass
class Table:
    """A CSV file as it was read: every column a list of m texts, stripped of outer blanks."""

    columns: dict
    lines: list  # the file's line on which each row ends
    source: str

    @property
    def m(self):
        return len(self.lines)

    def describe(self):
        return f"{self.source}: {self.m} rows, {len(self.columns)} columns"


@dataclass
class Arrays:
    """Examples that are numbers already: X (n_x, m), Y (m,) or (n_y, m) or None."""

    X: np.ndarray
    Y: np.ndarray | None
    source: str
    size: int | None = None  # side of the pictures in pixels, None for plain arrays
    files: list = field(default_factory=list)  # pictures: the file of each example
    groups: int | None = None  # groups of consecutive features alike, such as a picture's channels

    @property
    def m(self):
        return self.X.shape[1]

    @property
    def kind(self):
        return "array" if self.size is None else "pictures"

    def describe(self):
        return f"{self.source}: {self.m} examples, {self.X.shape[0]} features"


# ---------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------


def read(path=None, *, size=64):
    """Read whatever `path` is: digits for None, a folder or file of pictures, .npz, else CSV.

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

    def lines():
        yield first
        yield from file

    reader = csv.reader(lines(), delimiter=delimiter)
    header = [text.strip() for text in next(reader)]
    if all(_is_number(text) for text in header):
        raise DataError(f"{name}: the first line {first.strip()[:40]!r} holds numbers, expected column names")
    for i, text in enumerate(header):
        if not text:
            raise DataError(f"{name}: column {i + 1} has no name in the header")
        if text in header[:i]:
            raise DataError(f"{name}: the header names column {text!r} twice")
    rows, ends = [], []
    for row in reader:
        if not row or (len(row) == 1 and not row[0].strip() and len(header) > 1):
            continue
        line = blank + reader.line_num
        if len(row) != len(header):
            raise DataError(f"{name}, line {line}: {len(row)} fields, expected {len(header)} as in the header")
        rows.append(row)
        ends.append(line)
    if not rows:
        raise DataError(f"{name} has a header and no rows")
    columns = {
        column: [text.strip() for text in texts] for column, texts in zip(header, zip(*rows, strict=True), strict=True)
    }
    return Table(columns, ends, name)


def read_npz(path):
    """Read X (n_x, m), and Y if it is there, from an `.npz` archive; nothing is unpickled.

    Y: labels (m,), or (n_y, m); a Y of shape (1, m) that holds labels comes back as (m,).
    """
    path = os.fspath(path)
    name = os.path.basename(path)
    # A damaged archive shows as one of many errors of zipfile, zlib and numpy's header parser.
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
        X_turned = X.shape[0] == Y.shape[-1]
        Y_turned = Y.ndim == 2 and Y.shape[0] in (m, X.shape[0])
        if Y.ndim == 2 and Y.shape[0] == X.shape[0]:
            raise DataError(f"{message}; one example is a column: save X.T and Y.T")
        if X_turned:
            raise DataError(f"{message}; one example is a column of X, (n_x, m): save X.T")
        if Y_turned:
            raise DataError(f"{message}; one example is a column of Y, (n_y, m): save Y.T")
        raise DataError(message)
    if Y.dtype.kind == "f" and not np.isfinite(Y).all():
        raise DataError(f"{name}: Y holds NaN or Inf at {_first(~np.isfinite(Y))}")
    return Y


def _first(mask):
    return tuple(int(i) for i in np.argwhere(mask)[0])


def read_pictures(path, *, size=64):
    """Read pictures: a folder of class subfolders, a folder of pictures, or one picture.

    Returns `Arrays` with X (3·size², m) float32 as `picture_features` makes it, and Y the names of
    the class subfolders, or None without them. Classes and files come in alphabetical order;
    hidden entries and files that aren't pictures by their suffix are passed over.
    """
    require("PIL", "reading pictures")
    path = os.fspath(path)
    name = os.path.basename(os.path.normpath(path))
    if not os.path.isdir(path):
        return Arrays(picture_features(path, size)[:, None], None, name, size, [name], CHANNELS)
    files, classes = _pictures_in(path), []
    folders = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and entry.name[0] != ".")
    by_class = {folder: _pictures_in(os.path.join(path, folder)) for folder in folders}
    if any(by_class.values()):
        if files:
            raise DataError(f"{name}: {files[0]} lies beside the class folders, in no class")
        for folder, names in by_class.items():
            if not names:
                raise DataError(f"{name}: the class folder {folder} holds no pictures")
            classes += [folder] * len(names)
            files += [os.path.join(folder, file) for file in names]
    if not files:
        raise DataError(
            f"{name} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}), neither itself nor in class subfolders"
        )
    X = np.empty((len(files), CHANNELS * size * size), np.float32)
    for x, file in zip(X, files, strict=True):
        x[:] = picture_features(os.path.join(path, file), size)
    return Arrays(X.T, np.array(classes) if classes else None, name, size, files, CHANNELS)


def _pictures_in(folder):
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_file() and entry.name[0] != "." and os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES
    )


def picture_features(path, size=64):
    """One picture as n_x = 3·size² numbers in [0, 1], float32 (n_x,).

    Turned as its EXIF says, RGB, resized to size × size whatever its proportions, unrolled channel
    by channel (all red row by row, then green, then blue), divided by 255. 16-bit grey is divided by
    65535, and not rounded to 8 bits on the way; grey of other depths has no known white: `DataError`.
    """
    require("PIL", "reading pictures")
    from PIL import Image, ImageOps

    if not isinstance(size, int) or size < 1:
        raise DataError(f"the size of pictures is {size!r}, expected a whole number of at least 1")
    # Decoders report damage as OSError, SyntaxError, ValueError, struct.error, ..., and a picture
    # of absurd size as a warning or an error of its own.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                white = _white(image)
                image = ImageOps.exif_transpose(image)
                # Pillow cuts 16-bit grey off at 255 where it converts it; in mode F it may be resized
                image = image.convert("RGB") if white == 255 else Image.fromarray(np.asarray(image).astype(np.float32))
                image = image.resize((size, size), Image.Resampling.LANCZOS)
                pixels = np.asarray(image)  # (size, size, 3), or grey (size, size)
    except (FileNotFoundError, PermissionError, IsADirectoryError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{path} is not a readable picture: {error}") from error
    if pixels.ndim == 2:  # what the filter lets overshoot is cut off in modes of integers only
        pixels = np.repeat(pixels.clip(0, white)[:, :, None], CHANNELS, axis=2)
    return pixels.transpose(2, 0, 1).reshape(-1) / np.float32(white)


def _white(image):
    """The largest number of an opened picture's pixels, or a ValueError where its format doesn't fix it."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return 255
    # Pillow's mode I holds 32 bits. It gives 16 bits in it of a PGM, stretched to all of them, and up to its version 10
    # of a PNG. A TIFF's 12 bits are in mode I;16, and its inverted grey stays inverted.
    bits, colours = 258, 262  # tags of TIFF
    tags = getattr(image, "tag_v2", {bits: (16,), colours: 1})
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if not deep or tags.get(bits) != (16,) or tags.get(colours) != 1:
        raise ValueError(f"its grey, of Pillow's mode {image.mode}, is neither of 8 nor of 16 bits from black to white")
    return 65535


def digits():
    """scikit-learn's 1797 handwritten digits: X (64, 1797) with entries 0..16, Y labels 0..9.

    Each is a picture of 8×8 grey pixels, row by row.
    """
    require("sklearn", "the digits data set")
    from sklearn.datasets import load_digits

    data, labels = load_digits(return_X_y=True)
    return Arrays(data.T, labels, "digits", groups=1)


# ---------------------------------------------------------------------------------------------
# The target
# ---------------------------------------------------------------------------------------------


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

    The classes of a table have the names that stand in the file, leading zeros too. What is the same number
    otherwise (1, 1.0) is one class, under the shortest of its names.
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
        raise DataError(f"{table.source} has no column {name!r}, but {_names(table.columns)}")
    texts = table.columns[name]
    values, missing = _numbers(texts)
    if missing.any():
        raise DataError(f"{table.source}, line {table.lines[missing.argmax()]}: the target {name!r} is missing")
    if values is None:
        if task == "regression":
            raise DataError(f"{_bad_number(table, name)}; regression needs numbers in the target {name!r}")
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
        for text in sorted(set(texts), key=lambda text: (_number(text), len(text), text)):
            labels.setdefault(_sense(text), text)
        return _classes(texts, list(labels.values()), name, "two values" if len(labels) == 2 else "numbers")
    reason = "numbers"
    if task is None and len(different) <= FEW and (different % 1 == 0).all():
        reason = f"numbers; --task classification takes its {len(different)} values for classes"
    return Target("regression", values[None, :], name, None, reason)


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
            names = [_label(value) for value in Y]
            reason = "labels in Y" if data.kind == "array" else "folders"
            return _classes(names, [_label(value) for value in different], None, reason)
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
    return Target("classification", _codes(names, labels), column, labels, reason)


def _label(value):
    """The name of a class: whole numbers without a point, text as it is."""
    if isinstance(value, str):
        return str(value)
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _codes(texts, labels):
    """The index of each text in `labels`, or −1; numbers may be written otherwise (1.0 for 1)."""
    index = {label: i for i, label in enumerate(labels)}
    senses = {_sense(label): i for label, i in index.items()}
    for text in set(texts) - index.keys():
        index[text] = senses.get(_sense(text), -1)
    return np.fromiter((index[text] for text in texts), np.int64, len(texts))


def _sense(text):
    """What is equal of two ways to write a label: its number, or the text of what is none, such as a code 0123."""
    unsigned = text.lstrip("+-")
    if unsigned[:1] == "0" and unsigned[1:2].isdecimal():
        return text
    try:
        return int(text) if text.isdecimal() else _number(text)  # integers may be longer than a float's digits
    except ValueError:
        return text


def _names(names):
    return ", ".join(repr(name) for name in names)


# ---------------------------------------------------------------------------------------------
# Numbers and texts
# ---------------------------------------------------------------------------------------------


def _number(text):
    """The number that a text stands for, or a ValueError; 18_25 is one in Python's source only."""
    if "_" in text:
        raise ValueError(f"{text!r} holds an underscore")
    return float(text)


def _is_number(text):
    try:
        _number(text)
    except ValueError:
        return False
    return True


def _numbers(texts):
    """The texts as float64 with NaN where missing (None if some aren't numbers), and the mask."""
    try:
        values = np.fromiter(map(_number, texts), np.float64, len(texts))
        if not np.isnan(values).any():
            return values, np.zeros(len(texts), bool)
    except ValueError:
        pass
    missing = np.fromiter((text.lower() in MISSING for text in texts), bool, len(texts))
    try:
        filled = ("nan" if gone else text for text, gone in zip(texts, missing, strict=True))
        return np.fromiter(map(_number, filled), np.float64, len(texts)), missing
    except ValueError:
        return None, missing


def _bad_number(table, name):
    """Where a column that should be numbers holds a text first."""
    for line, text in zip(table.lines, table.columns[name], strict=True):
        if text.lower() not in MISSING and not _is_number(text):
            return f"{table.source}, line {line}: column {name!r} holds {text!r}, not a number"
    raise AssertionError(name)


def _mean_and_scale(values, axis):
    """Mean and standard deviation along `axis` in float64; of a constant, itself and 1."""
    values = np.asarray(values, np.float64)
    low, high = values.min(axis=axis), values.max(axis=axis)
    constant = low == high
    # Deviations are divided by the largest one, so that their squares neither over- nor underflow.
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(constant, low, values.mean(axis=axis))
        deviation = values - np.expand_dims(mean, axis)
        largest = np.where(constant, 1.0, np.abs(deviation).max(axis=axis))
        deviation /= np.expand_dims(largest, axis)
        scale = np.where(constant, 1.0, largest * np.sqrt(np.square(deviation).mean(axis=axis)))
    return mean, scale


# ---------------------------------------------------------------------------------------------
# What was learned about the data
# ---------------------------------------------------------------------------------------------


class Preprocessor:
    """What a network's model file remembers of its data, and how new data becomes X and Y.

    Features: a number column (or row of X) is `(x − mean) / scale`, with mean and standard
    deviation of the training part, and 1 for a constant's scale. The pixels of one channel (of a
    picture, or of a digit) share one mean and scale: a pixel that is almost always blank in the
    training part would else blow up what little another picture shows there. A text column becomes
    one 0/1 feature for each category of the training part; an unknown category sets none of them,
    and warns. A missing value is an error, or with `missing="impute"` the column's mean, and no
    category.

    Targets: labels become their index in `labels`; regression targets are standardised too, and
    `predictions` turns a network's output back.

    `to_dict` is JSON-able and exact: floats survive JSON to the last bit.
    """

    def __init__(self, kind, n_x, mean, scale, task, **rest):
        self.kind = kind  # "table", "array", "pictures"
        self.n_x = n_x
        # One entry for each feature, or for each of equal groups of consecutive features.
        self.mean = np.asarray(mean, np.float64)
        self.scale = np.asarray(scale, np.float64)
        self.task = task
        # table: [[name, categories or None for numbers], ...], in the order of the features
        self.columns = rest.get("columns")
        self.ignored = rest.get("ignored")  # table: names of columns left out
        self.missing = rest.get("missing")  # table: "error", "impute"
        self.target = rest.get("target")  # table: the target's name
        self.size = rest.get("size")  # pictures: side in pixels
        self.labels = rest.get("labels")  # classification
        self.target_mean = rest.get("target_mean")  # regression, (n_y,)
        self.target_scale = rest.get("target_scale")
        for name in ("target_mean", "target_scale"):
            if getattr(self, name) is not None:
                setattr(self, name, np.asarray(getattr(self, name), np.float64))

    @classmethod
    def fit(cls, data, target, *, rows=None, ignore=(), categorical=(), missing="error", scale_target=True):
        """Learn from the examples `rows` (all by default) of `data` and its `target`.

        `ignore` names columns to leave out, `categorical` number columns to take for categories. Without `scale_target`
        a regression's target stays as it is.
        """
        rows = np.arange(data.m) if rows is None else np.asarray(rows)
        rest = {"labels": target.labels}
        if target.task == "regression":
            mean, scale = _mean_and_scale(target.Y[:, rows], axis=1)
            if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
                raise DataError("the target's values are too large to be standardised")
            if not scale_target:
                mean, scale = np.zeros_like(mean), np.ones_like(scale)
            rest |= {"target_mean": mean, "target_scale": scale}
        if isinstance(data, Table):
            if missing not in ("error", "impute"):
                raise DataError(f"missing is {missing!r}, expected error or impute")
            for name in (*ignore, *categorical):
                if name not in data.columns:
                    raise DataError(f"{data.source} has no column {name!r}, but {_names(data.columns)}")
            if target.name in ignore:
                raise DataError(f"the target {target.name!r} can't be left out")
            names = [name for name in data.columns if name != target.name and name not in ignore]
            if not names:
                raise DataError(f"{data.source} has no column besides the target {target.name!r}")
            columns, mean, scale = _fit_columns(data, names, rows, categorical, missing)
            rest |= {"columns": columns, "ignored": list(ignore), "missing": missing}
            rest |= {"target": target.name}
            return cls("table", len(mean), mean, scale, target.task, **rest)
        n_x = data.X.shape[0]
        groups = data.groups or n_x
        width = n_x // groups  # features of a group
        step = max(1, BLOCK // (width * len(rows)))
        mean, scale = np.empty((2, groups))
        for i in range(0, groups, step):
            block = data.X[i * width : (i + step) * width, rows]
            values = block.reshape(-1, width * len(rows))  # (groups of the block, their numbers)
            mean[i : i + step], scale[i : i + step] = _mean_and_scale(values, axis=1)
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            row = _first(~(np.isfinite(mean) & np.isfinite(scale)))[0]
            raise DataError(f"{data.source}: feature {row} holds values too large to be standardised")
        return cls(data.kind, n_x, mean, scale, target.task, size=data.size, **rest)

    def features(self, data, dtype=np.float64):
        """X (n_x, m) of new data of the same kind, examples contiguous."""
        self._check_kind(data)
        if self.kind != "table":
            n_x = data.X.shape[0]
            if n_x != self.n_x:
                turned = data.X.shape[1] == self.n_x and self.kind == "array"
                hint = "; one example is a column: save X.T" if turned else ""
                raise DataError(f"{data.source}: X has {n_x} features, the model expects {self.n_x}{hint}")
            return self._scaled(data.X, data.source, dtype)
        self._check_names(data)
        X = np.zeros((data.m, self.n_x), dtype)
        j = 0
        for name, categories in self.columns:
            if categories is None:
                values = self._column_values(data, name, j)[None, :]
                X[:, j] = self._scaled(values, f"{data.source}, {name}", dtype, slice(j, j + 1))[0]
                j += 1
            else:
                codes = self._column_codes(data, name, categories)
                known = np.flatnonzero(codes >= 0)
                X[known, j + codes[known]] = 1
                j += len(categories)
        return X.T

    def targets(self, data, dtype=np.float64):
        """Y of data that has it: labels (m,) int64, or standardised values (n_y, m)."""
        self._check_kind(data)
        if self.kind == "table" and self.target not in data.columns:
            raise DataError(f"{data.source} has no column {self.target!r}, the target")
        if self.labels is not None:
            return self._encode(data)
        target = choose_target(data, self.target, "regression")
        if target.Y.shape[0] != len(self.target_mean):
            raise DataError(f"{data.source}: Y has {target.Y.shape[0]} rows, the model {len(self.target_mean)}")
        return self.standardise_target(target.Y, dtype)

    def standardise_target(self, Y, dtype=np.float64):
        """Values (n_y, m) as the network is to learn them."""
        return ((Y - self.target_mean[:, None]) / self.target_scale[:, None]).astype(dtype)

    def predictions(self, A):
        """A regression network's output (n_y, m) in the target's units, float64."""
        return np.asarray(A, np.float64) * self.target_scale[:, None] + self.target_mean[:, None]

    def _scaled(self, X, source, dtype, which=slice(None)):
        """(X − mean) / scale of the features `which`, computed in float64."""
        repeat = X.shape[0] // len(self.mean[which])
        mean, scale = (np.repeat(part[which], repeat) for part in (self.mean, self.scale))
        out = np.empty((X.shape[1], X.shape[0]), dtype)
        step = max(1, BLOCK // X.shape[0])
        for i in range(0, len(out), step):
            with np.errstate(over="ignore"):
                out[i : i + step] = (X.T[i : i + step] - mean) / scale
            if not np.isfinite(out[i : i + step]).all():
                raise DataError(f"{source}: a value is too far from the training data's for {np.dtype(dtype)}")
        return out.T

    def _check_kind(self, data):
        kind = "table" if isinstance(data, Table) else data.kind
        if kind != self.kind:
            said = {"table": "a CSV file", "array": "an .npz file with X", "pictures": "pictures"}
            raise DataError(f"{data.source}: the model expects {said[self.kind]}, not {said[kind]}")

    def _check_names(self, table):
        gone = [name for name, _ in self.columns if name not in table.columns]
        if gone:
            raise DataError(f"{table.source} lacks the model's columns {_names(gone)}")
        known = {name for name, _ in self.columns} | {*self.ignored, self.target}
        new = [name for name in table.columns if name not in known]
        if new:
            raise DataError(f"{table.source} has columns unknown to the model: {_names(new)}")

    def _column_values(self, table, name, j):
        values, missing = _numbers(table.columns[name])
        if values is None:
            raise DataError(_bad_number(table, name))
        if missing.any():
            _refuse_missing(table, name, missing, self.missing)
            values[missing] = self.mean[j]
        _refuse_infinite(table, name, values)
        return values

    def _column_codes(self, table, name, categories):
        texts = table.columns[name]
        codes = _codes(texts, categories)
        missing = np.fromiter((text.lower() in MISSING for text in texts), bool, len(texts))
        if missing.any():
            _refuse_missing(table, name, missing, self.missing)
        unknown = sorted({texts[i] for i in np.flatnonzero((codes < 0) & ~missing)})
        if unknown:
            warnings.warn(
                f"{table.source}: column {name!r} holds {_names(unknown[:3])}"
                f"{' and others' if unknown[3:] else ''}, unseen in training: "
                "taken for none of its categories",
                UnknownCategoryWarning,
                stacklevel=3,
            )
        return codes

    def _encode(self, data):
        if self.kind == "table":
            names = data.columns[self.target]
            where = [f"line {line}" for line in data.lines]
        else:
            if data.Y is None:
                choose_target(data)  # raises, and says what is missing
            Y = data.Y if data.Y.ndim == 1 else choose_target(data, None, "classification").Y
            names = [_label(value) for value in Y]
            where = [f"example {i}" for i in range(len(names))]
        codes = _codes(names, self.labels)
        if (codes < 0).any():
            i = (codes < 0).argmax()
            raise DataError(
                f"{data.source}, {where[i]}: the label {names[i]!r} is none of the model's: "
                f"{_names(self.labels[:20])}{', ...' if self.labels[20:] else ''}"
            )
        return codes

    def to_dict(self):
        """All of it as JSON-able values."""
        values = {"version": FORMAT_VERSION}
        for name, value in vars(self).items():
            if value is not None:
                values[name] = value.tolist() if isinstance(value, np.ndarray) else value
        return values

    @classmethod
    def from_dict(cls, values):
        """The preprocessor that `to_dict` wrote; `DataError` for anything else."""
        try:
            values = dict(values)
            version = values.pop("version")
            if version != FORMAT_VERSION:
                raise DataError(
                    f"the model's record of its data has version {version}, this nnkern reads {FORMAT_VERSION}"
                )
            made = cls(**values)
            made._check()
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"the model's record of its data is damaged: {error}") from error
        return made

    def _check(self):
        """Raise a ValueError unless the parts fit together."""

        def must(condition, what):
            if not condition:
                raise ValueError(what)

        def texts(value):
            return isinstance(value, list) and all(isinstance(text, str) for text in value)

        must(self.kind in ("table", "array", "pictures"), "kind")
        must(self.task in TASKS, "task")
        must(type(self.n_x) is int and self.n_x > 0, "n_x")
        must(self.mean.ndim == 1 and self.mean.shape == self.scale.shape, "mean")
        must(np.isfinite(self.mean).all() and np.isfinite(self.scale).all(), "mean and scale")
        must((self.scale > 0).all(), "scale")
        must(len(self.mean) > 0 and self.n_x % len(self.mean) == 0, "mean's length")
        if self.kind == "table":
            must(isinstance(self.columns, list) and self.columns, "columns")
            must(all(isinstance(name, str) for name, _ in self.columns), "columns' names")
            must(all(c is None or texts(c) for _, c in self.columns), "categories")
            widths = [1 if c is None else len(c) for _, c in self.columns]
            must(sum(widths) == self.n_x == len(self.mean), "columns' width")
            must(texts(self.ignored) and isinstance(self.target, str), "names of columns")
            must(self.missing in ("error", "impute"), "missing")
        if self.kind == "pictures":
            must(type(self.size) is int and self.n_x == CHANNELS * self.size**2, "size")
        if self.task == "classification":
            must(texts(self.labels) and len(self.labels) > 1, "labels")
            must(self.target_mean is None and self.target_scale is None, "target's mean")
        else:
            must(self.labels is None, "labels")
            must(self.target_mean is not None and self.target_scale is not None, "target's mean")
            must(self.target_mean.ndim == 1 and self.target_mean.size, "target's mean")
            must(self.target_mean.shape == self.target_scale.shape, "target's scale")
            must(np.isfinite(self.target_mean).all(), "target's mean")
            must(np.isfinite(self.target_scale).all() and (self.target_scale > 0).all(), "scale")

    def __eq__(self, other):
        return isinstance(other, Preprocessor) and self.to_dict() == other.to_dict()

    __hash__ = None


def _fit_columns(table, names, rows, categorical, missing_policy):
    """Kinds of the columns, and mean and scale of every feature, from the given rows."""
    columns, means, scales = [], [], []
    for name in names:
        texts = table.columns[name]
        values, missing = _numbers(texts)
        if missing.any():
            _refuse_missing(table, name, missing, missing_policy)
        if missing[rows].all():
            raise DataError(f"{table.source}: column {name!r} has no value to learn from")
        if values is not None and name not in categorical:
            _refuse_infinite(table, name, values)
            present = rows[~missing[rows]]
            mean, scale = _mean_and_scale(values[present], axis=0)
            if not (np.isfinite(mean) and np.isfinite(scale)):
                raise DataError(f"{table.source}: column {name!r} holds values too large to be standardised")
            columns.append([name, None])
            means.append(mean)
            scales.append(scale)
            continue
        categories = sorted({texts[i] for i in rows if not missing[i]})
        if len(categories) > MAX_CATEGORIES:
            raise DataError(
                f"{table.source}: column {name!r} has {len(categories)} different texts, more than "
                f"the {MAX_CATEGORIES} taken for categories; leave it out (--ignore)"
            )
        columns.append([name, categories])
        means += [0.0] * len(categories)
        scales += [1.0] * len(categories)
    return columns, means, scales


def _refuse_missing(table, name, missing, policy):
    if policy == "error":
        raise DataError(
            f"{table.source}, line {table.lines[missing.argmax()]}: column {name!r} has no value, "
            "and the model wants all; training with --missing impute fills in the column's mean"
        )


def _refuse_infinite(table, name, values):
    infinite = np.isinf(values)
    if infinite.any():
        raise DataError(f"{table.source}, line {table.lines[infinite.argmax()]}: column {name!r} is infinite")


# ---------------------------------------------------------------------------------------------
# Held-out examples
# ---------------------------------------------------------------------------------------------


def split(strata, share, seed=0):
    """Indices (train, held_out), both ascending, with about `share` of the examples held out.

    `strata`: labels (m,), each class giving its part and keeping at least one example to train on;
    or a number m of examples, to draw from all of them alike. Same seed, same split.
    """
    labels = np.zeros(strata, np.int64) if isinstance(strata, numbers.Integral) else np.asarray(strata)
    m = len(labels)
    if not 0 <= share < 1:
        raise DataError(f"the held-out share is {share}, expected 0 <= share < 1")
    if share == 0:
        return np.arange(m), np.arange(0)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = min(max(round(share * m), 1), m - 1)
    quota = counts * (wanted / m)
    taken = np.minimum(np.floor(quota), counts - 1).astype(np.int64)
    # What rounding left over goes to the largest remainders, ties to the first class,
    # and on to others where a small class can't give it.
    while taken.sum() < min(wanted, m - len(counts)):
        for c in np.argsort(taken - quota, kind="stable"):
            if taken.sum() < wanted and taken[c] < counts[c] - 1:
                taken[c] += 1
    if not taken.any():
        raise DataError(f"{m} examples in {len(counts)} classes are too few to hold out a share of {share}")
    order = _class_by_class(codes, seed)
    ends = np.cumsum(counts)
    held = np.zeros(m, bool)
    for end, count, n in zip(ends, counts, taken, strict=True):
        held[order[end - count : end - count + n]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def folds(strata, count, seed=0):
    """`count` pairs of indices (train, held_out), both ascending: every example is held out once.

    `strata` as for `split`: of every class, each fold holds out as many examples as any other, or one more. Same seed,
    same folds.
    """
    labels = np.zeros(strata, np.int64) if isinstance(strata, numbers.Integral) else np.asarray(strata)
    m = len(labels)
    if not isinstance(count, numbers.Integral) or not 2 <= count <= m:
        raise DataError(f"the number of folds is {count}, expected 2 to {m}, the number of examples")
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        raise DataError("a class has a single example: a fold that holds it out has none to learn it from")
    order = _class_by_class(codes, seed)
    fold_of = np.empty(m, np.int64)
    fold_of[order] = np.arange(m) % count
    return [(np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(count)]


def _class_by_class(codes, seed):
    """All indices, class by class, shuffled within."""
    order = np.random.default_rng(seed).permutation(len(codes))
    return order[np.argsort(codes[order], kind="stable")]


def take(X, rows):
    """The examples `rows` of X (n_x, m), or of labels (m,), each example contiguous."""
    return np.ascontiguousarray(X.T[rows]).T
