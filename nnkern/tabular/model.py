"""A model of a table, whole: its columns, the networks of the ensemble with their weights, and what it predicts.

It is what files hold, what ONNX and C are made of, and what the estimators predict with. It knows no training.
"""

import numpy as np

from nnkern._predictor import RowOfTable
from nnkern.tabular.columns import CLIP, FARTHEST, Category, Date, level_of, number_of, seconds_of
from nnkern.tabular.frames import is_missing, listed
from nnkern.tabular.target import Labels

CLASSIFIERS = ("binary_cross_entropy", "cross_entropy")
"""Losses of networks that give probabilities."""


class TableModel:
    """Predicts from the columns of a table.

    Attributes
    ----------
    preprocessing : Preprocessing
    networks : list of Network
        Each takes X (n_x, m) and gives probabilities, (1, m) of the second of two classes or (k, m), or numbers (1, m).
    weights : (len(networks),) array
        Of the ensemble's mean; they sum to 1.
    target : Labels or Numbers
    classifies : bool
        Whether it predicts labels.
    n_y : int
        How many probabilities it gives, or 1 for a number.
    """

    def __init__(self, preprocessing, networks, weights, target):
        self.preprocessing, self.networks, self.target = preprocessing, list(networks), target
        self.weights = np.asarray(weights, np.float64)
        self.classifies = isinstance(target, Labels)
        self.n_y = len(target.labels) if self.classifies else 1

    def check(self):
        """Raises a ValueError unless columns, networks, weights and target agree with each other."""
        rows = self.preprocessing.rows
        if not self.networks or self.weights.shape != (len(self.networks),):
            raise ValueError(f"there are {len(self.networks)} networks, and weights for {len(self.weights)}")
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all() and abs(self.weights.sum() - 1) < 1e-6):
            raise ValueError(f"the weights are {self.weights}, and should be shares that add up to 1")
        wanted = {1, 2} if self.classifies and len(self.target.labels) == 2 else {self.n_y}
        outputs = sorted({net.n_y for net in self.networks})
        if len(outputs) > 1:
            raise ValueError(f"the networks have {outputs} outputs, each should have as many")
        for i, net in enumerate(self.networks):
            if net.n_x != len(rows) or net.n_y not in wanted or (net.loss in CLASSIFIERS) != self.classifies:
                raise ValueError(f"network {i} is not one for {len(rows)} rows of X and this target")
            for encoder in getattr(net.layers[0], "encoders", ()):
                codes = getattr(encoder, "codes", None)
                if codes is not None and (rows[encoder.row].kind != "code" or codes < rows[encoder.row].size):
                    raise ValueError(f"network {i} has {codes} codes where {rows[encoder.row]} has others")

    def outputs(self, X, threads=None):
        """Of X (n_x, m): probabilities (k, m), or numbers (m,) in the target's units; float64."""
        out = self.mean([net.predict(X, threads=threads, invariant=True) for net in self.networks])
        return out if self.classifies else self.target.restored(out[0])

    def mean(self, outputs):
        """The weighted mean of the networks' outputs, (n_y, m) in float64."""
        out = 0.0
        for weight, A in zip(self.weights, outputs, strict=True):
            A = A.astype(np.float64)
            out = out + weight * (np.concatenate((1 - A, A)) if len(A) == 1 < self.n_y else A)
        return out

    def predict(self, arrays, threads=None, what="X"):
        """The same, of {name: Arrow array}."""
        return self.outputs(self.preprocessing.transform(arrays, what, threads), threads)


class OneRow:
    """Predicts from a dict of one row, with as little as possible between it and the networks."""

    def __init__(self, model):
        self._model = model
        self._predictors = [net.compile_predict() for net in model.networks]
        self._names, self._categories, self._dates, numbers, category_places = [], [], [], [], []
        i = 0
        for column in model.preprocessing.columns:
            if isinstance(column, Category):
                self._categories.append((column.name, {**_by_value(column), None: 0.0}, column.holds))
                category_places.append(i)
            elif isinstance(column, Date):
                self._dates.append((column, slice(i, i + len(column.rows()))))
            else:
                self._names.append(column.name)
                numbers.append((column.median, column.scale, i, i + 1 if column.flag else -1))
            i += len(column.rows())
        self._row = RowOfTable(i, numbers, category_places, FARTHEST, CLIP)

    def outputs(self, row):
        """Probabilities (k,), or a number, as for a table with this row but for rounding."""
        try:
            return self._outputs(row)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            plain = self._plain(row)
        return self._outputs(plain)

    def _outputs(self, row):
        found = [codes.get(row[name]) for name, codes, _ in self._categories]
        if None in found:
            found = [
                codes.get(level_of(row[name], holds), 0.0) if code is None else code
                for code, (name, codes, holds) in zip(found, self._categories, strict=True)
            ]
        x = self._row.X([row[name] for name in self._names], found)
        for column, place in self._dates:
            value = np.array([seconds_of(row[column.name], column.name, column.zone)])
            column.fill_seconds(value, x[place])
        A = np.concatenate([predict(x) for predict in self._predictors], axis=1, dtype=np.float64)
        out = A @ self._model.weights
        if self._model.classifies:
            return out if len(out) > 1 else np.array((1 - out[0], out[0]))
        return self._model.target.restored(float(out[0]))

    def _plain(self, row):
        """The row, its numbers as floats; an error that names what is wrong with it, where something is."""
        if hasattr(row, "columns") or not hasattr(row, "keys"):
            hint = ": predict takes it" if hasattr(row, "columns") else ""
            raise TypeError(f"row must be a dict of a value for each column; got {type(row).__name__}{hint}") from None
        lacking = [name for name in self._model.preprocessing.names if name not in row]
        if lacking:
            raise ValueError(f"the row lacks {listed(lacking)}; None stands for what isn't known") from None
        row = {name: row[name] for name in self._model.preprocessing.names}
        for name in self._names:
            row[name] = number_of(row[name], name)
        for name, *_ in self._categories:
            if not is_missing(row[name]) and row[name].__hash__ is None:
                raise TypeError(f"{name!r} must be a text or a number; got {row[name]!r}") from None
        return row


def _by_value(column):
    """{text, or what has the same hash as a value: what stands in X for it} of the categories that a column has."""
    codes = column.codes()
    if column.holds == "booleans":
        return codes | {text == "True": code for text, code in codes.items()}
    return codes
