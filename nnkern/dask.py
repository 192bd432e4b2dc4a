"""Estimators for Dask's arrays and frames, trained in rounds where the partitions lie.

`nnkern.fit_shards` does the training and Dask's workers run its tasks; what is here makes shards of partitions, learns
the classes of all of them, and predicts lazily, partition by partition.
"""

import numpy as np

from nnkern import callbacks as callbacks_
from nnkern import losses, validation
from nnkern._optional import require
from nnkern.estimators.needed import ClassifierMixin, RegressorMixin, check_is_fitted
from nnkern.estimators.partitions import OnDask, client_of, empty_like, parts_of, shards_of
from nnkern.estimators.signatures import in_full
from nnkern.layers import Dense
from nnkern.losses import LOSSES
from nnkern.network import Network
from nnkern.optimizers import SGD, Adam, AdamW, Optimizer
from nnkern.rounds import fit_shards
from nnkern.tabular.on_dask import TabularClassifier, TabularRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "TabularClassifier", "TabularRegressor"]

# samples of a step that batch_size="auto" takes, over all shards, at most
_AUTO_BATCH = 200
# scikit-learn's name of an activation, where it isn't ours
_OUR_ACTIVATION = {"identity": "linear", "logistic": "sigmoid"}


@in_full
class _DaskMLP(OnDask):
    """What the two estimators share."""

    def __init__(
        self,
        hidden_layer_sizes,
        activation,
        loss,
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate_init=0.001,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        early_stopping=False,
        n_iter_no_change=10,
        dropout=0.0,
        callbacks=None,
        **shared,
    ):
        # the docstrings of both classes take this one in, see in_full
        """activation : str, default="relu"
            Of the hidden layers; scikit-learn's names and nnkern's.
        solver : {"adam", "adamw", "sgd"} or an optimizer of nnkern, default="adam"
            An optimizer brings its own numbers, a schedule by the round among them.
        alpha : float, default=1e-4
            alpha/2 Σ‖W‖² is added to each step's sum of losses over all shards, as in scikit-learn.
        batch_size : int or "auto", default="auto"
            Samples of a step over all shards, of which each takes its part; "auto": min(200, n_samples).
        learning_rate_init : float, default=1e-3
            As one process would take it. "adam" and "adamw" take it times √n_shards: a step of theirs is as long as the
            gradient's noise is small, and a shard's has that of a smaller batch.
        max_iter : int, default=200
            Epochs.
        shuffle : bool, default=True
            Go through a shard's samples in a new order each epoch.
        random_state : int, RandomState or None, default=None
            Decides initial weights and the order of samples.
        tol : float, default=1e-4
            What counts as improvement.
        early_stopping : bool, default=False
            Stop by the loss on `eval_set`, in place of the training loss, and keep the best round's parameters.
        n_iter_no_change : int, default=10
            Rounds without improvement after which the training ends.
        dropout : float, default=0
            Of the hidden layers.
        callbacks : callback or list of them, default=None
            Called in this process after each round, see `nnkern.callbacks`.
        {shared}
        """
        arguments = dict(locals())
        del arguments["self"], arguments["shared"]
        vars(self).update(arguments)
        OnDask.__init__(self, **shared)

    def fit(self, X, y, sample_weight=None, eval_set=None):
        """Trains on Dask collections.

        Parameters
        ----------
        X : dask array of shape (n_samples, n_features), or dask frame of numbers
            Its partitions need not fit into this process together.
        y : dask array or series of shape (n_samples,), or with n_outputs columns
            With the same partitions as X.
        sample_weight : dask array or series of shape (n_samples,), optional
        eval_set : (X, y) or (X, y, sample_weight), optional
            Evaluated here after each round; where these are Dask collections they are computed.

        Returns
        -------
        self

        Raises
        ------
        MissingPackageError
            Dask's distributed isn't installed.
        ValueError, TypeError
            Something handed in doesn't fit; a note tells the shard.
        DivergenceError
            A shard diverged.
        """
        client = client_of(self.client)
        if eval_set is None and self.early_stopping:
            raise ValueError("early_stopping needs an eval_set: Dask's partitions have no share that is set aside")
        lists = shards_of(parts_of(X, y, sample_weight), self.n_shards, client)
        delayed = require("dask", "nnkern.dask").delayed
        shards = client.compute([delayed(_put_together)(parts) for parts in lists])
        seen = client.gather([client.submit(_look, shard, self._classifies, pure=False) for shard in shards])
        m, widths = sum(one["m"] for one in seen), {(one["n_x"], one["n_y"]) for one in seen}
        if m == 0:
            raise ValueError("X has no samples")
        if len(widths) > 1:
            raise ValueError(f"the partitions have different (features, columns of y): {sorted(widths)}")
        ((n_x, columns),) = widths
        self._learn([one["classes"] for one in seen if one["m"]], columns)
        net = self._network(n_x, m, seen[0]["dtype"])
        coding = self._coding(), net.dtype
        prepared = [client.submit(_prepare, shard, *coding, pure=False) for shard in shards]
        del shards
        self._train(net, prepared, client, m, None if eval_set is None else self._evaluated(eval_set, net))
        self.n_features_in_, self.network_ = n_x, net
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.array([str(name) for name in X.columns], object)
        return self

    def _step(self, m):
        """Samples of a step, over all shards."""
        if self.batch_size == "auto":
            return min(_AUTO_BATCH, m)
        return min(validation.integer("batch_size", self.batch_size, 1), m)

    def _network(self, n_x, m, dtype):
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        activation = _OUR_ACTIVATION.get(self.activation, self.activation)
        units, output, loss = self._output()
        hidden = [Dense(n, activation, dropout=self.dropout) for n in sizes]
        seed = self.random_state
        if hasattr(seed, "randint"):
            seed = int(seed.randint(2**31))
        # alpha counts once a step
        l2 = self.alpha / self._step(m)
        return Network([*hidden, Dense(units, output)], loss, n_x=n_x, l2=l2, dtype=dtype, seed=seed)

    def _optimizer(self, shards):
        if isinstance(self.solver, Optimizer):
            return self.solver
        validation.choice("solver", self.solver, ("adam", "adamw", "sgd"))
        if self.solver == "sgd":
            return SGD(self.learning_rate_init, momentum=0.9, nesterov=True)
        return {"adam": Adam, "adamw": AdamW}[self.solver](self.learning_rate_init * shards**0.5)

    def _train(self, net, shards, client, m, validation_data):
        monitor = "val_cost" if self.early_stopping else "cost"
        ends = [callbacks_.EarlyStopping(self.n_iter_no_change, self.tol, monitor, restore_best=False)]
        if self.early_stopping:
            # the best round, by however little
            ends.append(callbacks_.EarlyStopping(None, monitor=monitor))
        more = callbacks_.get(() if self.callbacks is None else self.callbacks)
        epochs = validation.integer("epochs_a_round", self.epochs_a_round, 1)
        history = fit_shards(
            net,
            shards,
            executor=client,
            rounds=-(-self.max_iter // epochs),
            epochs_a_round=epochs,
            batch_size=max(1, round(self._step(m) / len(shards))),
            shuffle=self.shuffle,
            optimizer=self._optimizer(len(shards)),
            validation_data=validation_data,
            callbacks=[*ends, *more],
            timeout=self.timeout,
        )
        self.loss_curve_, self.n_iter_ = history["cost"], epochs * len(history["cost"])
        self.loss_ = self.loss_curve_[-1]
        if validation_data is not None:
            self.validation_loss_curve_, self.validation_scores_ = history["val_cost"], history["val_score"]

    def _evaluated(self, eval_set, net):
        """An eval_set as the network takes it."""
        if not isinstance(eval_set, tuple | list) or len(eval_set) not in (2, 3):
            raise ValueError("eval_set must be (X, y) or (X, y, sample_weight)")
        parts = [part.compute() if hasattr(part, "compute") else part for part in eval_set]
        return _prepare(_put_together([parts]), self._coding(), net.dtype)

    def _predict(self, X, function, dtype, columns=None):
        """function(outputs (m, n_y)) of X, lazily where that is a Dask collection."""
        check_is_fitted(self, "network_")
        how = {"net": self.network_, "function": function}
        if hasattr(X, "map_partitions"):
            return X.map_partitions(_of_frame, **how, columns=columns, meta=empty_like(X, dtype, columns))
        if hasattr(X, "map_blocks"):
            X = X.rechunk({1: -1})
            shape = {"drop_axis": 1} if columns is None else {"chunks": (X.chunks[0], (len(columns),))}
            return X.map_blocks(_of_array, **how, dtype=dtype, **shape)
        return _of_array(X, **how)


@in_full
class MLPClassifier(ClassifierMixin, _DaskMLP):
    """Dense network for classification on Dask's arrays and frames: two classes, or several.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer; empty: logistic regression.
    {shared}

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    network_ : nnkern.Network
        Its X is (n_features, n_samples); to save, to export.
    loss_, loss_curve_, n_iter_ : float, list, int
        The mean loss of the shards in each round's last epoch, penalty included; epochs.
    validation_loss_curve_, validation_scores_ : lists
        Of `eval_set`.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    _classifies = True

    def __init__(self, hidden_layer_sizes=(100,), activation="relu", *, loss="log_loss", **shared):
        super().__init__(hidden_layer_sizes, activation, loss, **shared)

    def _learn(self, classes, columns):
        if columns != 1:
            raise ValueError(f"y must have one column of classes; it has {columns}")
        self.classes_ = np.unique(np.concatenate(classes))
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only: {self.classes_.tolist()[0]!r}")

    def _output(self):
        if self.loss != "log_loss":
            raise ValueError(f"loss must be 'log_loss'; got {self.loss!r}")
        if len(self.classes_) == 2:
            return 1, "sigmoid", "binary_cross_entropy"
        return len(self.classes_), "softmax", "cross_entropy"

    def _coding(self):
        return self.classes_

    def predict(self, X):
        """Classes, lazily where X is a Dask collection.

        Parameters
        ----------
        X : dask array or frame, or array-like, of shape (n_samples, n_features)

        Returns
        -------
        y : dask array or series, or array, of shape (n_samples,)
        """
        check_is_fitted(self, "network_")
        return self._predict(X, _Labels(self.classes_), self.classes_.dtype)

    def predict_proba(self, X):
        """Probabilities of the classes, lazily where X is a Dask collection.

        Parameters
        ----------
        X : dask array or frame, or array-like, of shape (n_samples, n_features)

        Returns
        -------
        P : dask array or frame, or array, of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        check_is_fitted(self, "network_")
        return self._predict(X, _probabilities, self.network_.dtype, list(self.classes_))


@in_full
class MLPRegressor(RegressorMixin, _DaskMLP):
    """Dense network for regression on Dask's arrays and frames, with one or several outputs.

    Parameters
    ----------
    loss : str or loss of nnkern, default="squared_error"
        "squared_error", "poisson", "absolute_error", "huber" or "quantile".
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer; empty: linear regression.
    {shared}

    Attributes
    ----------
    network_, loss_, and all the others
        As `MLPClassifier`'s.
    """

    _classifies = False

    def __init__(self, loss="squared_error", hidden_layer_sizes=(100,), activation="relu", **shared):
        super().__init__(hidden_layer_sizes, activation, loss, **shared)

    def _learn(self, classes, columns):
        self.n_outputs_ = columns

    def _output(self):
        loss = losses.get(self.loss)
        if loss.classifies:
            names = [name for name, one in LOSSES.items() if not one.classifies]
            raise ValueError(f"loss must be one of {names}; got {self.loss!r}")
        return self.n_outputs_, loss.output or "linear", loss

    def _coding(self):
        return None

    def predict(self, X):
        """Predicted numbers, lazily where X is a Dask collection.

        Parameters
        ----------
        X : dask array or frame, or array-like, of shape (n_samples, n_features)

        Returns
        -------
        y : dask array, series or frame, or array, of shape (n_samples,) or (n_samples, n_outputs)
        """
        check_is_fitted(self, "network_")
        several = self.n_outputs_ > 1
        columns = list(range(self.n_outputs_)) if several else None
        return self._predict(X, _all if several else _only, self.network_.dtype, columns)


# ---- what runs on the workers ----


def _dense(X, dtype=None):
    """(m, n_x) of float32 or float64."""
    X = np.asarray(X.toarray() if hasattr(X, "toarray") else X)
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise TypeError(f"X must have two dimensions and hold numbers; got shape {X.shape}, {X.dtype}")
    wanted = X.dtype if X.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    return np.ascontiguousarray(X, wanted if dtype is None else dtype)


def _put_together(parts):
    """One shard of the (X, y, …) of some partitions, one after the other."""
    made = []
    for X, y, *w in parts:
        X, y = _dense(X), np.asarray(y)
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        shard = (X, y, *(np.asarray(one).reshape(-1) for one in w))
        lengths = [len(one) for one in shard]
        if len(set(lengths)) > 1:
            raise ValueError(f"X, y and sample_weight have {lengths} rows in the same partition")
        made.append(shard)
    return tuple(np.concatenate(ones) for ones in zip(*made, strict=True))


def _look(shard, classifies):
    """What there is to know of a shard before the training."""
    X, y, *_ = shard
    return {
        "m": len(X),
        "n_x": X.shape[1],
        "dtype": X.dtype.name,
        "n_y": 1 if y.ndim == 1 else y.shape[1],
        "classes": np.unique(y) if classifies else None,
    }


def _prepare(shard, classes, dtype):
    """A shard as fit_shards takes it."""
    X, y, *w = shard
    if classes is None:
        return X.T.astype(dtype, copy=False), y.reshape(len(X), -1).T.astype(dtype), *w
    codes = np.searchsorted(classes, y)
    unknown = classes.take(codes, mode="clip") != y
    if unknown.any():
        raise ValueError(f"y has the class {y[unknown].tolist()[0]!r}, which isn't one of {classes.tolist()}")
    return X.T.astype(dtype, copy=False), codes, *w


def _of_array(X, net, function):
    X = _dense(X, net.dtype)
    if len(X) == 0:
        return function(np.zeros((0, net.n_y), net.dtype))
    return function(net.predict(X.T, threads=1).T)


def _of_frame(X, net, function, columns):
    pandas = require("pandas", "a dask frame")
    found = _of_array(X, net, function)
    return pandas.Series(found, X.index) if columns is None else pandas.DataFrame(found, X.index, columns)


class _Labels:
    """The classes by outputs."""

    def __init__(self, classes):
        self._classes = classes

    def __call__(self, A):
        A = validation.no_nan(A.T).T
        return self._classes[A.argmax(axis=1) if A.shape[1] > 1 else (A[:, 0] > 0.5).astype(np.intp)]


def _probabilities(A):
    return np.hstack([1 - A, A]) if A.shape[1] == 1 else A


def _all(A):
    return A


def _only(A):
    return A[:, 0]
