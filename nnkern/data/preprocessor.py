"""Converts data to a network's inputs and targets, in the way that was learned from the training part.

Knows no file formats, and no networks: they keep what `Preprocessor.to_dict` returns in their metadata.
"""

import warnings
from itertools import compress

import numpy as np

from nnkern.data.containers import DataError, Table, UnknownCategoryWarning, first_index, quoted
from nnkern.data.pictures import CHANNELS
from nnkern.data.target import MAX_CATEGORIES, TASKS, choose_target
from nnkern.data.texts import are_missing, label_codes, label_name, not_a_number

FORMAT_VERSION = 1
NUMBERS_AT_A_TIME = 2**22  # that are standardised: 32 MB in float64


class Preprocessor:
    """How data becomes X and Y: what was learned from the training data, for new data of the same kind.

    Features: a number column (or row of X) is `(x − mean) / scale`, with mean and standard
    deviation of the training part; a constant's scale is 1. The pixels of one channel (of a picture,
    or of a digit) share one mean and scale: a pixel that is almost always blank in the training part
    has a tiny standard deviation of its own, which would amplify it in other pictures. A text column
    becomes one 0/1 feature for each category of the training part; an unknown category sets none of
    them, and warns. A missing value is an error, or with `missing="impute"` the column's mean; in a
    text column it sets no category.

    Targets: labels become their index in `labels`; regression targets are standardised too, and
    `predictions` converts a network's output back.

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

        `ignore` names columns to leave out, `categorical` number columns whose values are categories. Without
        `scale_target` the target of a regression isn't standardised.
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
                    raise DataError(f"{data.source} has no column {name!r}, but {quoted(data.columns)}")
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
        step = max(1, NUMBERS_AT_A_TIME // (width * len(rows)))
        mean, scale = np.empty((2, groups))
        for i in range(0, groups, step):
            block = data.X[i * width : (i + step) * width, rows]
            values = block.reshape(-1, width * len(rows))  # (groups of the block, their numbers)
            mean[i : i + step], scale[i : i + step] = _mean_and_scale(values, axis=1)
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            row = first_index(~(np.isfinite(mean) & np.isfinite(scale)))[0]
            raise DataError(f"{data.source}: feature {row} holds values too large to be standardised")
        return cls(data.kind, n_x, mean, scale, target.task, size=data.size, **rest)

    def features(self, data, dtype=np.float64):
        """X (n_x, m) of new data of the same kind, examples contiguous."""
        self._check_kind(data)
        if self.kind != "table":
            n_x = data.X.shape[0]
            if n_x != self.n_x:
                transposed = data.X.shape[1] == self.n_x and self.kind == "array"
                hint = "; one example is a column: save X.T" if transposed else ""
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
        """Values (n_y, m) in the scale that the network learns them in."""
        return ((Y - self.target_mean[:, None]) / self.target_scale[:, None]).astype(dtype)

    def predictions(self, A):
        """A regression network's output (n_y, m) in the target's units, float64."""
        return np.asarray(A, np.float64) * self.target_scale[:, None] + self.target_mean[:, None]

    def _scaled(self, X, source, dtype, which=slice(None)):
        """(X − mean) / scale of the features `which`, computed in float64."""
        repeat = X.shape[0] // len(self.mean[which])
        mean, scale = (np.repeat(part[which], repeat) for part in (self.mean, self.scale))
        out = np.empty((X.shape[1], X.shape[0]), dtype)
        step = max(1, NUMBERS_AT_A_TIME // X.shape[0])
        for i in range(0, len(out), step):
            with np.errstate(over="ignore"):
                out[i : i + step] = (X.T[i : i + step] - mean) / scale
            if not np.isfinite(out[i : i + step]).all():
                raise DataError(f"{source}: a value is too far from the training data's for {np.dtype(dtype)}")
        return out.T

    def _check_kind(self, data):
        kind = "table" if isinstance(data, Table) else data.kind
        if kind != self.kind:
            names = {"table": "a CSV file", "array": "an .npz file with X", "pictures": "pictures"}
            raise DataError(f"{data.source}: the model expects {names[self.kind]}, not {names[kind]}")

    def _check_names(self, table):
        gone = [name for name, _ in self.columns if name not in table.columns]
        if gone:
            raise DataError(f"{table.source} lacks the model's columns {quoted(gone)}")
        known = {name for name, _ in self.columns} | {*self.ignored, self.target}
        new = [name for name in table.columns if name not in known]
        if new:
            raise DataError(f"{table.source} has columns unknown to the model: {quoted(new)}")

    def _column_values(self, table, name, j):
        values, missing = table.numbers(name)
        if values is None:
            raise DataError(not_a_number(table, name))
        if missing.any():
            _refuse_missing(table, name, missing, self.missing)
            values = np.where(missing, self.mean[j], values)
        _refuse_infinite(table, name, values)
        return values

    def _column_codes(self, table, name, categories):
        texts = table.columns[name]
        codes = label_codes(texts, categories)
        missing = are_missing(texts)
        if missing.any():
            _refuse_missing(table, name, missing, self.missing)
        unknown = sorted({texts[i] for i in np.flatnonzero((codes < 0) & ~missing)})
        if unknown:
            warnings.warn(
                f"{table.source}: column {name!r} holds {quoted(unknown[:3])}"
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
            names = [label_name(value) for value in Y]
            where = [f"example {i}" for i in range(len(names))]
        codes = label_codes(names, self.labels)
        if (codes < 0).any():
            i = (codes < 0).argmax()
            raise DataError(
                f"{data.source}, {where[i]}: the label {names[i]!r} is none of the model's: "
                f"{quoted(self.labels[:20])}{', ...' if self.labels[20:] else ''}"
            )
        return codes

    def to_dict(self):
        """All that was learned, as values that JSON can hold."""
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
        """Raise a ValueError unless the fields agree with each other."""

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


def _mean_and_scale(values, axis):
    """Mean and standard deviation along `axis` in float64; for a constant, the constant and 1."""
    values = np.asarray(values, np.float64)
    low, high = values.min(axis=axis), values.max(axis=axis)
    constant = low == high
    # Deviations are divided by the largest one, so that their squares neither overflow nor underflow.
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(constant, low, values.mean(axis=axis))
        deviation = values - np.expand_dims(mean, axis)
        largest = np.where(constant, 1.0, np.abs(deviation).max(axis=axis))
        deviation /= np.expand_dims(largest, axis)
        scale = np.where(constant, 1.0, largest * np.sqrt(np.square(deviation).mean(axis=axis)))
    return mean, scale


def _fit_columns(table, names, rows, categorical, missing_policy):
    """[[name, categories or None], ...], and mean and scale of every feature, from the given rows."""
    columns, means, scales = [], [], []
    for name in names:
        texts = table.columns[name]
        values, missing = table.numbers(name)
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
        learned = np.zeros(len(texts), bool)
        learned[rows] = True
        categories = sorted(set(compress(texts, learned & ~missing)))
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
