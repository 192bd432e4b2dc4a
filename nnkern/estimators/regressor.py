"""MLPRegressor: numbers to what a network takes, and back."""

import numpy as np

from nnkern import losses, validation
from nnkern._caller import warn
from nnkern.estimators.base import BaseMLP, is_stochastic
from nnkern.estimators.needed import RegressorMixin, StrOptions, available_if, fit_context
from nnkern.estimators.signatures import in_full
from nnkern.losses import LOSSES, Loss
from nnkern.state import of

# Standard deviations of targets that the defaults can learn. Measured on 2000 samples of a smooth function of 8
# features and noise, R² is 0.96 where it is 1. Below, the loss soon falls by less than `tol`: 0.89 at 0.3, 0.71
# at 0.1, and less than 0 at 0.03. Above, so many steps of Adam don't get there: 0.90 at 100, 0.80 at 300, 0.65 at 1000.
_LEAST_SPREAD, _MOST_SPREAD = 0.1, 100


@in_full
class MLPRegressor(RegressorMixin, BaseMLP):
    """Dense network for regression with one or several outputs, a drop-in for scikit-learn's.

    It learns targets whose standard deviation is near 1, as a network for numbers does: `fit` warns of others, which
    `sklearn.compose.TransformedTargetRegressor` standardises.

    Parameters
    ----------
    loss : str, default="squared_error"
        "squared_error", "poisson", or what scikit-learn doesn't have: "absolute_error", "huber", "quantile", a loss of
        `nnkern.losses`, or a function, see `nnkern.losses.Custom`.
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer; empty: linear regression.
    {shared}

    Attributes
    ----------
    loss_, best_loss_, loss_curve_ : float, float or None, list
        Mean over an epoch's batches, penalty included; squared errors are averaged over the outputs, halved.
    coefs_, validation_scores_, and all the others
        As `MLPClassifier`'s; the score is R².

    Examples
    --------
    >>> import numpy as np
    >>> from nnkern.sklearn import MLPRegressor
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> mlp = MLPRegressor(
    ...     hidden_layer_sizes=(), solver="lbfgs", alpha=0, random_state=0
    ... ).fit(X, 3 * X[:, 0] + 1)
    >>> round(float(mlp.coefs_[0][0, 0]), 3), round(float(mlp.intercepts_[0][0]), 3)
    (3.0, 1.0)
    """

    __module__ = "nnkern.sklearn"

    _parameter_constraints = {  # noqa: RUF012
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({name for name, loss in LOSSES.items() if not loss.classifies}), Loss, callable],
    }

    def __init__(self, loss="squared_error", hidden_layer_sizes=(100,), activation="relu", **shared):
        super().__init__(hidden_layer_sizes, activation, loss, **shared)

    def _find_classes(self, y, first):
        """None: y are numbers."""
        return None, None

    def _learn_classes(self, kind, classes, y, first, incremental):
        """Nothing to learn here."""

    def _output(self, y):
        loss = losses.get(self.loss)
        if loss.classifies:
            raise ValueError(f"loss {loss.name!r} is for classes, and a regressor predicts numbers: use MLPClassifier")
        return 1 if y.ndim == 1 else y.shape[1], loss.output or "linear", loss

    def _targets(self, y, dtype):
        Y = y.reshape(1, -1) if y.ndim == 1 else y.T
        return validation.targets(Y, of(self._network).loss, self._network.n_y, len(y), dtype, name="y")

    def _with_class_weight(self, y, w, several):
        return w

    def _look_at_spread(self, Y):
        if losses.get(self.loss).output is not None:
            return  # its activation has a scale of its own
        with np.errstate(over="ignore"):
            spread = Y.std(axis=1, dtype=np.float64)
        far = np.flatnonzero((spread > 0) & ((spread < _LEAST_SPREAD) | (spread > _MOST_SPREAD)))
        if len(far):
            which = "`y`" if len(spread) == 1 else f"Column {far[0]} of `y`"
            warn(
                f"{which} has a standard deviation of {spread[far[0]]:.3g}: solver {self.solver!r} learns little of "
                f"targets outside of {_LEAST_SPREAD} to {_MOST_SPREAD}. Standardise them: "
                "sklearn.compose.TransformedTargetRegressor(MLPRegressor(…), transformer=StandardScaler())",
            )

    def predict(self, X):
        """Predicted numbers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        """
        A = self._outputs(X)
        return A[:, 0] if A.shape[1] == 1 else A

    @available_if(is_stochastic)
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """One epoch over the given samples, going on from the present parameters and optimizer state.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, None, incremental=True)
