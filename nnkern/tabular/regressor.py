"""TabularRegressor: numbers of a table's rows."""

from nnkern.estimators.needed import RegressorMixin
from nnkern.estimators.signatures import in_full
from nnkern.tabular.base import BaseTabular, ScoredByName
from nnkern.tabular.explaining import integrated_gradients
from nnkern.tabular.inputs import floats
from nnkern.tabular.target import Numbers


@in_full
class TabularRegressor(ScoredByName, RegressorMixin, BaseTabular):
    """Numbers of a table's rows, by an ensemble of networks that takes the table as it is.

    Predictions stay within the range of the training rows.

    Parameters
    ----------
    {shared}

    Attributes
    ----------
    report_, score_ : list of dict, float
        As TabularClassifier's; rmse and mae are in the target's units, of predictions before they are clipped to the
        range of the training rows.
    model_, columns_, networks_, network_, interrupted_, n_features_in_, feature_names_in_
        As TabularClassifier's.

    Examples
    --------
    >>> from nnkern.tabular import TabularRegressor
    >>> frame = {
    ...     "size": [50, 80, 120, 65, 90, 110] * 20,
    ...     "town": ["a", "b", "b", "a", "c", None] * 20,
    ... }
    >>> price = [size * 3.0 for size in frame["size"]]
    >>> model = TabularRegressor(preset="fast", random_state=0).fit(frame, price)
    >>> 150 < model.predict_one({"size": 70, "town": "a"}) < 270
    True
    """

    __module__ = "nnkern.tabular"

    def __init__(self, **shared):
        super().__init__(**shared)

    _target_kind = Numbers

    def _task(self, target):
        return "regression"

    def _learnt(self, y, weight):
        y = floats(y, "y")
        target = Numbers.of(y, weight)
        return target.standardised(y), target

    def _summary(self, y, weight):
        return super()._summary(floats(y, "y"), weight)

    def _as_learnt(self, y, target, what):
        return target.standardised(floats(y, what))

    def predict(self, X):
        """Numbers (m,), float64."""
        return self._outputs(X)

    def predict_one(self, row):
        """The number of one row, a dict of a value for each column, None for what is missing."""
        return self._one(row)

    def explain(self, X, *, steps=32):
        """What each column adds to each row's number, by integrated gradients; see TabularClassifier.explain.

        The sums are the numbers before they are clipped to the range of training.
        """
        arrays = self._columns(X)
        return integrated_gradients(self.model_, self.columns_.transform(arrays), 0, steps)
