"""MLPClassifier: classes and labels to what a network takes, and back."""

import numpy as np

from nnkern import losses, validation
from nnkern.estimators import class_weights
from nnkern.estimators.base import BaseMLP, is_stochastic
from nnkern.estimators.needed import (
    ClassifierMixin,
    StrOptions,
    available_if,
    check_classification_targets,
    check_partial_fit_first_call,
    compute_sample_weight,
    csr_matrix,
    fit_context,
    issparse,
    type_of_target,
)
from nnkern.estimators.signatures import in_full
from nnkern.losses import LOSSES, Custom, Loss


@in_full
class MLPClassifier(ClassifierMixin, BaseMLP):
    """Dense network for classification, a drop-in for scikit-learn's: two classes, several, or several labels at once.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer; empty: logistic regression.
    loss : str or loss of nnkern, default="log_loss"
        Not in scikit-learn: a loss of `nnkern.losses` in place of the cross-entropy, or that with label smoothing,
        ``BinaryCrossEntropy(0.1)`` for two classes or several labels, ``CrossEntropy(0.1)`` for several classes; or a
        function, see `nnkern.losses.Custom`.
    class_weight : dict, list of dict, "balanced" or None, default=None
        Not in scikit-learn: the weight of each class, which the sample weights are multiplied by; those of held-out
        samples too. A class that a dict doesn't name has weight 1; for several labels at once, a dict for each.
    {shared}

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    coefs_, intercepts_ : lists of arrays of shapes (n_prev, n) and (n,)
        Views of the network's parameters; arrays put in their place are used.
    loss_, best_loss_, loss_curve_ : float, float or None, list
        Mean over an epoch's batches, penalty included; the exact one where scikit-learn clips probabilities.
    validation_scores_, validation_loss_curve_, best_validation_score_, best_validation_loss_ : lists, floats; or None
        Of the held-out samples or `eval_set`, after each epoch.
    n_iter_, t_ : int
        Epochs of the last fit, and samples gone through since the first.
    n_features_in_, n_layers_, n_outputs_, out_activation_, feature_names_in_
        As in scikit-learn.
    random_state_ : int or RandomState
        What a fit drew from: `random_state` where it is a number, else a copy of the generator as it was before, of
        numpy's own where none was given. Handed to another estimator it gives the same fit.
    network_ : nnkern.Network

    Examples
    --------
    >>> import numpy as np
    >>> from nnkern.sklearn import MLPClassifier
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> MLPClassifier((8,), "tanh", solver="lbfgs", random_state=1).fit(
    ...     X, [0, 1, 1, 0]
    ... ).predict(X)
    array([0, 1, 1, 0])
    """

    __module__ = "nnkern.sklearn"

    _parameter_constraints = {  # noqa: RUF012
        **BaseMLP._parameter_constraints,
        "loss": [
            StrOptions({"log_loss", *(name for name, loss in LOSSES.items() if loss.output is None)}),
            Loss,
            callable,
        ],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }

    def __init__(self, hidden_layer_sizes=(100,), activation="relu", *, loss="log_loss", class_weight=None, **shared):
        super().__init__(hidden_layer_sizes, activation, loss, **shared)
        self.class_weight = class_weight

    def _find_classes(self, y, first):
        """(kind of y, its classes); the latter None where y has no samples."""
        if y.shape[0] == 0:
            return "multilabel-indicator" if y.ndim == 2 else "binary", None
        kind = type_of_target(y, input_name="y")
        if kind not in ("binary", "multiclass", "multilabel-indicator"):
            check_classification_targets(y)
            raise ValueError("Multioutput target data is not supported: several columns of y must be labels, 0 or 1")
        multilabel = kind == "multilabel-indicator"
        if not first and multilabel != self._multilabel:
            raise ValueError(f"`y` is {kind} now, which it wasn't in the previous call to fit.")
        return kind, np.arange(y.shape[1]) if multilabel else np.unique(y)

    def _learn_classes(self, kind, classes, y, first, incremental):
        """classes_, or whether these fit those there are."""
        if first:
            self._multilabel, self._sparse_labels = kind == "multilabel-indicator", issparse(y)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self.classes_ = classes
        elif self.warm_start and not np.array_equal(classes, self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {classes}"
            )
        else:
            self._check_known(classes)

    def _check_known(self, classes):
        if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _output(self, y):
        """(number of outputs, the output's activation, our loss)."""
        if self._multilabel or len(self.classes_) <= 2:
            n_y, output, loss = len(self.classes_) if self._multilabel else 1, "sigmoid", "binary_cross_entropy"
        else:
            n_y, output, loss = len(self.classes_), "softmax", "cross_entropy"
        if self.loss != "log_loss":
            loss = losses.get(self.loss)
            needed = loss.output
            if needed not in (None, output):
                suited = next(type(one).__name__ for one in LOSSES.values() if one.output == output)
                has = f"{len(self.classes_)} {'labels' if self._multilabel else 'classes'}"
                raise ValueError(
                    f"loss {self.loss!r} is for {needed} outputs, `y` of {has} is for {output}: use {suited}"
                )
            if isinstance(loss, Custom):  # it needn't say that it classifies here
                loss = Custom(loss.function, score="sides" if output == "sigmoid" else "argmax")
        return n_y, output, loss

    def _targets(self, y, dtype):
        """(Y, labels) as the engine takes them, one of the two None."""
        if self._multilabel:
            if y.ndim != 2 or y.shape[1] != len(self.classes_):
                raise ValueError(f"`y` must have {len(self.classes_)} columns of labels, got shape {y.shape}.")
            return (y.toarray() if issparse(y) else y).T.astype(dtype), None
        codes = np.searchsorted(self.classes_, y)
        if (self.classes_.take(codes, mode="clip") != y).any():
            self._check_known(np.unique(y))
        if len(self.classes_) <= 2:
            return codes.astype(dtype).reshape(1, -1), None
        if self._network.loss == "cross_entropy":
            return None, codes
        return (codes == np.arange(len(self.classes_)).reshape(-1, 1)).astype(dtype), None

    def _with_class_weight(self, y, w, several):
        if self.class_weight is None:
            return w
        if isinstance(self.class_weight, str):
            if several:
                raise ValueError(
                    f"class_weight={self.class_weight!r} counts samples, of which each rank sees its own shard: with "
                    "comm= give a dict of weights"
                )
            of_class = compute_sample_weight(self.class_weight, y)
        elif self._multilabel:
            of_class = class_weights.of_several_labels(self.class_weight, y)
        elif isinstance(self.class_weight, dict):
            of_class = class_weights.of_samples(self.class_weight, self.classes_, y)
        else:
            raise ValueError(
                f"class_weight must be a dict of labels and weights where each sample has one label; got "
                f"{self.class_weight!r}"
            )
        return of_class if w is None else w * of_class

    def _labels_of(self, A):
        """Which class (n_samples,), or which labels (n_samples, n_outputs): the places of the outputs above ½."""
        if self.n_outputs_ > 1 and not self._multilabel:
            return A.argmax(axis=1)
        labels = (A > 0.5).astype(np.int64)
        return labels if self._multilabel else labels[:, 0]

    def _names(self):
        if self._multilabel or len(self.classes_) < 2:
            return {}
        # what isn't a text is a whole number, if of another type: 1.0, True
        return {"labels": [label if isinstance(label, str) else int(label) for label in self.classes_]}

    def _right(self, A, Y, w):
        """Σ w of the samples predicted rightly, from (n_outputs, n_samples)."""
        if len(self.classes_) > 2 and not self._multilabel:
            Y = Y.argmax(axis=0)
        right = Y == self._labels_of(A.T).T
        right = right.reshape(-1, A.shape[1]).all(axis=0)
        return right.sum() if w is None else w[right].sum()

    def predict(self, X):
        """Classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,), or (n_samples, n_outputs) of 0 and 1 for several labels
        """
        labels = self._labels_of(validation.no_nan(self._outputs(X).T).T)
        if self._multilabel:
            return csr_matrix(labels) if self._sparse_labels else labels
        return self.classes_.take(labels, mode="clip")  # there may be but one class

    def predict_proba(self, X):
        """Probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        P : array of shape (n_samples, n_classes)
            In the order of `classes_`; for several labels, each one's own.
        """
        A = self._outputs(X)
        return np.hstack([1 - A, A]) if self.n_outputs_ == 1 else A

    def predict_log_proba(self, X):
        """Logarithms of `predict_proba`; -inf where a probability is 0.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        log_P : array of shape (n_samples, n_classes)
        """
        P = self.predict_proba(X)
        return np.log(P, out=P)

    @available_if(is_stochastic)
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """One epoch over the given samples, going on from the present parameters and optimizer state.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional
        classes : array-like of shape (n_classes,)
            All classes there will be; the first call needs them.

        Returns
        -------
        self
        """
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' needs all samples at once: give partial_fit a dict of weights")
        check_partial_fit_first_call(self, classes)
        return self._fit(X, y, sample_weight, None, incremental=True)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
