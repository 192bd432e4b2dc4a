"""scikit-learn's MLPClassifier and MLPRegressor on nnkern: the same parameters, attributes and meaning, and more."""

from nnkern.estimators.classifier import MLPClassifier
from nnkern.estimators.epochs import SolverDivergenceError  # noqa: F401, the address of what they raise
from nnkern.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
