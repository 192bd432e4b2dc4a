"""A model of a table, whole: its columns, the networks of the ensemble with their weights, and what it predicts.

It is what files hold, what ONNX and C are made of, and what the estimators predict with. It knows no training.
"""

import numpy as np

from nnkern.tabular.columns import Category, Date, numbers, seconds_of, smooth_clip
from nnkern.tabular.frames import listed, text_of
from nnkern.tabular.target import Labels


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
    """

    def __init__(self, preprocessing, networks, weights, target):
        self.preprocessing, self.networks, self.target = preprocessing, list(networks), target
        self.weights = np.asarray(weights, np.float64)

    @property
    def classifies(self):
        """Whether it predicts labels."""
        return isinstance(self.target, Labels)

    def outputs(self, X, threads=None):
        """Of X (n_x, m): probabilities (k, m), or numbers (m,) in the target's units; float64."""
        return self._ended(
            sum(
                weight * both_classes(net.predict(X, threads=threads), self.classifies)
                for net, weight in zip(self.networks, self.weights, strict=True)
            )
        )

    def _ended(self, out):
        return out if self.classifies else self.target.restored(out[0])

    def predict(self, arrays, threads=None, what="X"):
        """The same, of {name: Arrow array}."""
        return self.outputs(self.preprocessing.transform(arrays, what), threads)


def both_classes(A, classifies):
    """A network's outputs in float64; a probability of the second of two classes has the first one's above it."""
    A = np.asarray(A, np.float64)
    return np.concatenate([1 - A, A]) if classifies and len(A) == 1 else A


class OneRow:
    """Predicts from a dict of one row, with as little as possible between it and the networks."""

    def __init__(self, model):
        self._model = model
        self._predictors = [net.compile_predict() for net in model.networks]
        self._x = np.zeros((model.preprocessing.n_x, 1), np.float32, order="F")
        self._numbers, self._categories, self._dates, self._flags = [], [], [], []
        places, i = [], 0
        for column in model.preprocessing.columns:
            if isinstance(column, Category):
                self._categories.append((column.name, i, column.codes()))
            elif isinstance(column, Date):
                self._dates.append((column, slice(i, i + len(column.rows()))))
            else:
                self._numbers.append(column)
                places.append(i)
                if column.flag:
                    self._flags.append((len(self._numbers) - 1, i + 1))
            i += len(column.rows())
        self._places = np.array(places, np.intp)
        self._names = [column.name for column in self._numbers]
        self._median = np.array([column.median for column in self._numbers])
        self._scale = np.array([column.scale for column in self._numbers])
        self._flagged, self._flag_places = (
            (np.array(part, np.intp) for part in zip(*self._flags, strict=True)) if self._flags else (None, None)
        )

    def outputs(self, row):
        """Probabilities (k,), or a number; the same bits as of a table with this row."""
        try:
            return self._outputs(row)
        except (KeyError, TypeError, ValueError) as error:
            self._explain(row)
            raise error

    def _outputs(self, row):
        x = self._x[:, 0]
        if self._names:
            values = np.array([row[name] for name in self._names], np.float64)
            if np.isinf(values).any():
                raise ValueError(f"the row has infinite numbers: {row!r}")
            x[self._places] = smooth_clip(values, self._median, self._scale)
            if self._flagged is not None:
                x[self._flag_places] = np.isnan(values[self._flagged])
        for name, i, codes in self._categories:
            value = row[name]
            code = codes.get(value) if type(value) is str else None
            x[i] = code if code is not None else 0.0 if value is None else codes.get(text_of(value), 0.0)
        for column, place in self._dates:
            column.fill_seconds(np.array([seconds_of(row[column.name], column.name, column.zone)]), self._x[place])
        model = self._model
        out = 0.0
        for predictor, weight in zip(self._predictors, model.weights, strict=True):
            out = out + weight * both_classes(predictor(self._x), model.classifies)
        return out[:, 0] if model.classifies else float(model.target.restored(out[0])[0])

    def _explain(self, row):
        """Raises an error that names what is wrong with a row, where something is."""
        if not hasattr(row, "keys"):
            raise TypeError(f"row must be a dict of a value for each column; got {type(row).__name__}") from None
        lacking = [name for name in self._model.preprocessing.names if name not in row]
        if lacking:
            raise ValueError(f"the row lacks {listed(lacking)}; None stands for what isn't known") from None
        for name in self._names:
            try:
                value = np.float64(row[name])
            except (TypeError, ValueError):
                raise ValueError(f"{name!r} must be a number; got {row[name]!r}") from None
            if np.isinf(value):
                raise ValueError(f"{name!r} is {value}: give what isn't known as None") from None
