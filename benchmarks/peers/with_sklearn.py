"""scikit-learn: MLPClassifier with plain SGD; one partial_fit is one epoch, its costs those of loss_curve_."""

from __future__ import annotations

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from peers import with_numpy


class Side:
    library = "scikit-learn"

    def __init__(self):
        # As a service with validated data would: no search for NaN, no validation of parameters in each call.
        sklearn.set_config(assume_finite=True, skip_parameter_validation=True)

    def describe(self) -> dict:
        # Its products are numpy's.
        return {"version": sklearn.__version__, **with_numpy.blas_in_use()}

    def network(self, case, batch: int, settings: dict, X, labels) -> MLPClassifier:
        """A network whose parameters exist, from a first partial_fit, and are to be replaced."""
        net = MLPClassifier(
            case.n[1:-1],
            case.activation,
            alpha=0.0,
            batch_size=batch,
            momentum=0.0,
            nesterovs_momentum=False,
            random_state=0,
            **settings,
        )
        classes = max(case.n[-1], 2)
        return net.partial_fit(X[:batch], labels[:batch], classes=np.arange(classes))

    def prepare_training(self, case, dtype, threads, X, labels):
        self.X, self.labels = np.ascontiguousarray(X.T, dtype), labels
        settings = {
            "solver": case.optimizer,
            "learning_rate_init": case.learning_rate,
            "shuffle": case.shuffle,
        }
        self.net = self.network(case, case.batch, settings, self.X, labels)

    def load(self, parameters):
        if self.net.solver == "adam":
            # Its moments; the next partial_fit makes new ones.
            del self.net._optimizer
        # In place: the optimizer holds these arrays.
        for k, (W, b) in enumerate(zip(self.net.coefs_, self.net.intercepts_, strict=True), 1):
            W[...] = parameters[f"W{k}"].T
            b[...] = parameters[f"b{k}"][:, 0]

    def train(self, epochs):
        for _ in range(epochs):
            self.net.partial_fit(self.X, self.labels)
        return self.net.loss_curve_[-epochs:]

    def parameters(self):
        pairs = enumerate(zip(self.net.coefs_, self.net.intercepts_, strict=True), 1)
        return {name: array for k, (W, b) in pairs for name, array in ((f"W{k}", W.T), (f"b{k}", b[:, None]))}

    def predictor(self, case, dtype, threads, parameters, X):
        X = np.ascontiguousarray(X.T, dtype)
        self.net = self.network(case, 1, {}, X, np.zeros(len(X), int))
        self.load(parameters)
        return lambda: self.net.predict_proba(X), lambda: self.net.predict_proba(X).T.copy()
