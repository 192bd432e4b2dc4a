"""What the estimators take from scikit-learn and scipy, some of it private there: in one place, to be looked at when
their versions change.
"""

# ruff: noqa: F401, what is imported here is for the others

from nnkern.exceptions import MissingPackageError

try:
    import scipy.optimize
    from scipy.sparse import csr_matrix, issparse
    from scipy.special import xlogy
    from sklearn import neural_network as theirs
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
    from sklearn.base import _fit_context as fit_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_array, check_random_state, column_or_1d
    from sklearn.utils._param_validation import Interval, StrOptions
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import _check_partial_fit_first_call as check_partial_fit_first_call
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.optimize import _check_optimize_result as check_optimize_result
    from sklearn.utils.validation import _check_sample_weight as check_sample_weight
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise MissingPackageError(
        f'nnkern.sklearn needs scikit-learn 1.7 or newer ({error}): python -m pip install "nnkern[sklearn]", or '
        '"nnkern[tabular]", which has what nnkern.tabular needs besides'
    ) from error
