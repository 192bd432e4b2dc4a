"""Converts data to a network's inputs and targets, in the way that was learned from the training part.

Knows no file formats, and no networks: they keep what `Preprocessor.to_dict` returns in their metadata.
"""

import numpy as np

from nnkern.data.containers import KINDS, DataError
from nnkern.data.pictures import CHANNELS
from nnkern.data.target import TASKS, choose_target, label_name

FORMAT_VERSION = 1
NUMBERS_AT_A_TIME = 2**22  # that are standardised: 32 MB in float64


class Preprocessor:
    """How data becomes X and Y: what was learned from the training data, for new data of the same kind.

    Features: a row of X is `(x − mean) / scale`, with mean and standard deviation of the training part; a constant's
    scale is 1. The pixels of one channel (of a picture, or of a digit) share one mean and scale: a pixel that is almost
    always blank in the training part has a tiny deviation of its own, which would amplify it in other pictures.

    Targets: labels become their index in `labels`; regression targets are standardised too, and
    `predictions` converts a network's output back.

    `to_dict` is JSON-able and exact: floats survive JSON to the last bit.
    """

    def __init__(self, kind, n_x, mean, scale, task, *, size=None, labels=None, target_mean=None, target_scale=None):
        self.kind = kind  # "array", "pictures"
        self.n_x = n_x
        # One entry for each feature, or for each of equal groups of consecutive features.
        self.mean = np.asarray(mean, np.float64)
        self.scale = np.asarray(scale, np.float64)
        self.task = task
        self.size = size  # pictures: side in pixels
        self.labels = labels  # classification
        self.target_mean = None if target_mean is None else np.asarray(target_mean, np.float64)  # regression, (n_y,)
        self.target_scale = None if target_scale is None else np.asarray(target_scale, np.float64)

    @classmethod
    def fit(cls, data, target, *, rows=None, scale_target=True):
        """Learn from the examples `rows` (all by default) of `data` and its `target`.

        Without `scale_target` the target of a regression isn't standardised.
        """
        rows = np.arange(data.m) if rows is None else np.asarray(rows)
        rest = {"labels": target.labels}
        if target.task == "regression":
            mean, scale = _mean_and_scale(target.Y[:, rows])
            if not np.isfinite([mean, scale]).all():
                raise DataError("the target's values are too large to be standardised")
            if not scale_target:
                mean, scale = np.zeros_like(mean), np.ones_like(scale)
            rest |= {"target_mean": mean, "target_scale": scale}
        n_x = data.X.shape[0]
        groups = data.groups or n_x
        width = n_x // groups  # features of a group
        step = max(1, NUMBERS_AT_A_TIME // (width * len(rows)))
        mean, scale = np.empty((2, groups))
        for i in range(0, groups, step):
            block = data.X[i * width : (i + step) * width, rows]
            mean[i : i + step], scale[i : i + step] = _mean_and_scale(block.reshape(-1, width * len(rows)))
        wrong = ~np.isfinite(mean + scale)
        if wrong.any():
            raise DataError(f"{data.source}: feature {wrong.argmax()} holds values too large to be standardised")
        return cls(data.kind, n_x, mean, scale, target.task, size=data.size, **rest)

    def features(self, data, dtype=np.float64):
        """X (n_x, m) of new data of the same kind, examples contiguous: (x − mean) / scale, computed in float64."""
        self._check_kind(data)
        n_x = data.X.shape[0]
        if n_x != self.n_x:
            transposed = data.X.shape[1] == self.n_x and self.kind == "array"
            hint = "; one example is a column: save X.T" if transposed else ""
            raise DataError(f"{data.source}: X has {n_x} features, the model expects {self.n_x}{hint}")
        mean, scale = (np.repeat(part, n_x // len(part)) for part in (self.mean, self.scale))
        out = np.empty((data.m, n_x), dtype)
        step = max(1, NUMBERS_AT_A_TIME // n_x)
        for i in range(0, len(out), step):
            with np.errstate(over="ignore"):
                out[i : i + step] = (data.X.T[i : i + step] - mean) / scale
            if not np.isfinite(out[i : i + step]).all():
                raise DataError(f"{data.source}: a value is too far from the training data's for {np.dtype(dtype)}")
        return out.T

    def targets(self, data, dtype=np.float64):
        """Y of data that has it: labels (m,) int64, or standardised values (n_y, m)."""
        self._check_kind(data)
        if self.labels is not None:
            return self._encode(data)
        target = choose_target(data, "regression")
        if target.Y.shape[0] != len(self.target_mean):
            raise DataError(f"{data.source}: Y has {target.Y.shape[0]} rows, the model {len(self.target_mean)}")
        return self.standardise_target(target.Y, dtype)

    def standardise_target(self, Y, dtype=np.float64):
        """Values (n_y, m) in the scale that the network learns them in."""
        return ((Y - self.target_mean[:, None]) / self.target_scale[:, None]).astype(dtype)

    def predictions(self, A):
        """A regression network's output (n_y, m) in the target's units, float64."""
        return np.asarray(A, np.float64) * self.target_scale[:, None] + self.target_mean[:, None]

    def _check_kind(self, data):
        if data.kind != self.kind:
            raise DataError(f"{data.source}: the model expects {KINDS[self.kind]}, not {KINDS[data.kind]}")

    def _encode(self, data):
        Y = data.Y if data.Y is not None and data.Y.ndim == 1 else choose_target(data, "classification").Y
        index = {label: i for i, label in enumerate(self.labels)}
        names = [label_name(value) for value in Y]
        codes = np.fromiter((index.get(name, -1) for name in names), np.int64, len(names))
        if (codes < 0).any():
            i = (codes < 0).argmax()
            raise DataError(
                f"{data.source}, example {i}: the label {names[i]!r} is none of the model's: "
                f"{', '.join(map(repr, self.labels[:20]))}{', ...' if self.labels[20:] else ''}"
            )
        return codes

    def to_dict(self):
        """All that was learned, as values that JSON can hold."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        arrays = {name: value.tolist() for name, value in known.items() if isinstance(value, np.ndarray)}
        return {"version": FORMAT_VERSION} | known | arrays

    @classmethod
    def from_dict(cls, values):
        """The preprocessor that `to_dict` wrote; `DataError` for anything else."""
        try:
            values = dict(values)
            if (version := values.pop("version")) != FORMAT_VERSION:
                said = f"has version {version}, this nnkern reads {FORMAT_VERSION}"
                raise DataError(f"the model's record of its data {said}")
            if values.get("kind") == "table":
                raise DataError("the model is of a table and from an older nnkern: train it again")
            made = cls(**values)
            made._check()
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"the model's record of its data is damaged: {error}") from error
        return made

    def _check(self):
        """Raise a ValueError that names the fields that don't agree with the others."""
        classifies = self.task == "classification"
        scaled = self.target_mean is not None or self.target_scale is not None
        labels = self.labels if isinstance(self.labels, list) else []
        named = len(labels) > 1 and all(isinstance(label, str) for label in labels)
        agrees = {
            "kind": self.kind in KINDS,
            "task": self.task in TASKS,
            "n_x": type(self.n_x) is int and self.n_x > 0,
            "mean and scale": _standardise(self.mean, self.scale) and self.n_x % len(self.mean) == 0,
            "size": self.kind != "pictures" or (type(self.size) is int and self.n_x == CHANNELS * self.size**2),
            "labels": named if classifies else self.labels is None,
            "target's mean and scale": not scaled if classifies else _standardise(self.target_mean, self.target_scale),
        }
        wrong = [name for name, good in agrees.items() if not good]
        if wrong:
            raise ValueError(", ".join(wrong))

    def __eq__(self, other):
        return isinstance(other, Preprocessor) and self.to_dict() == other.to_dict()


def _standardise(mean, scale):
    """Whether these are means and scales, (n,) each."""
    if mean is None or scale is None or mean.ndim != 1 or not mean.size or mean.shape != scale.shape:
        return False
    return bool(np.isfinite([mean, scale]).all() and (scale > 0).all())


def _mean_and_scale(values):
    """Mean and standard deviation of each row in float64; for a constant, the constant and 1."""
    values = np.asarray(values, np.float64)
    low, high = values.min(axis=1), values.max(axis=1)
    constant = low == high
    # Deviations are divided by the largest one, so that their squares neither overflow nor underflow.
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(constant, low, values.mean(axis=1))
        deviation = values - mean[:, None]
        largest = np.where(constant, 1.0, np.abs(deviation).max(axis=1))
        deviation /= largest[:, None]
        scale = np.where(constant, 1.0, largest * np.sqrt(np.square(deviation).mean(axis=1)))
    return mean, scale
