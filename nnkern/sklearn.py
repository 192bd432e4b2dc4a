"""scikit-learn's MLPClassifier and MLPRegressor on nnkern: the same parameters, attributes and meaning, and more.

What is scikit-learn's convention stays here: examples are rows, names such as "logistic", the random draws (initial
weights, shuffling, the validation split come from `random_state` exactly as there), its schedules and its rules for
stopping, alpha as a penalty on the sum over a batch, and its words for bad input, which its own validation says. The
arithmetic is that of a Network, whose parameters `coefs_` and `intercepts_` are views of.
"""

import copy
import inspect
import time
import warnings
from numbers import Integral, Real

import numpy as np

from nnkern import _engine, _kernels, callbacks, losses, progress, validation
from nnkern.exceptions import DivergenceError
from nnkern.layers import Dense
from nnkern.losses import LOSSES, Loss, r2, spread
from nnkern.network import Network
from nnkern.optimizers import SGD, Adam, AdamW, Optimizer
from nnkern.training import EPOCHS_AT_ONCE

try:
    import scipy.optimize
    from scipy.sparse import csr_matrix, issparse
    from scipy.special import xlogy
    from sklearn import neural_network as theirs
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context, is_classifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils._param_validation import Interval, StrOptions
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import (
        _check_partial_fit_first_call,
        check_classification_targets,
        type_of_target,
    )
    from sklearn.utils.optimize import _check_optimize_result
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f'nnkern.sklearn needs scikit-learn 1.7 or newer ({error}): python -m pip install "nnkern[sklearn]"'
    ) from error

__all__ = ["MLPClassifier", "MLPRegressor"]

# scikit-learn's name of an activation, where it isn't ours
_OUR_ACTIVATION = {"identity": "linear", "logistic": "sigmoid"}
_THEIR_ACTIVATION = {ours: theirs for theirs, ours in _OUR_ACTIVATION.items()}
# "adaptive" divides the learning rate by this, down to the smallest at which it still goes on
_ADAPTIVE_DIVISOR = 5.0
_ADAPTIVE_SMALLEST = 1e-6
# entries of sparse X that are made dense at a time
_DENSE_ENTRIES = 1 << 20


class SolverDivergenceError(DivergenceError):
    """The training diverged; said in scikit-learn's words first."""

    def __str__(self):
        return (
            "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
            f"preprocessed. In nnkern's words: {super().__str__()}"
        )


class _Dense:
    """Examples as the engine takes them: X (m, n_x), Y (n_y, m) or labels (m,), weights (m,)."""

    def __init__(self, X, Y, labels, w):
        self.X, self.Y, self.labels, self.w = X, Y, labels, w
        self.m = X.shape[0]

    def take(self, picked):
        """Those examples, copied."""
        return type(self)(self.X[picked], *self._targets(picked))

    def _targets(self, picked):
        return (
            None if self.Y is None else self.Y[:, picked],
            None if self.labels is None else self.labels[picked],
            None if self.w is None else self.w[picked],
        )

    def astype(self, dtype):
        """The same with other floating-point numbers."""
        X, Y, w = (None if a is None else a.astype(dtype, copy=False) for a in (self.X, self.Y, self.w))
        return type(self)(X, Y, self.labels, w)

    def weight(self):
        """Σ w_i."""
        return self.m if self.w is None else float(self.w.sum(dtype=np.float64))

    def blocks(self):
        """(X (n_x, c), Y, labels, w) of all examples in turn; here in one."""
        yield self.X.T, self.Y, self.labels, self.w

    def train(self, engine, rates, seconds, *, source, **how):
        """(cost of each whole epoch, what ended the training early or None)."""
        costs = np.full(len(rates), np.nan)
        try:
            result = engine.train(
                *next(self.blocks()),
                rates=rates,
                shuffle=source is not None,
                source=source,
                keep_last=True,
                costs=costs,
                seconds=seconds,
                by_count=True,
                **how,
            )
        except BaseException as stop:
            return costs[: np.count_nonzero(~np.isnan(costs))].tolist(), stop
        done = result["done"]
        if result["status"] == "diverged":
            return costs[:done].tolist(), (result["batch"], result["last_cost"])
        return costs[:done].tolist(), None


class _Sparse(_Dense):
    """Likewise with X in CSR, which is made dense some batches at a time."""

    def __init__(self, X, Y, labels, w):
        super().__init__(X.tocsr(), Y, labels, w)

    def _dense(self, picked):
        return self.X[picked].toarray().T, *self._targets(picked)

    def _slices(self, multiple):
        """Slices of examples that are made dense at a time, multiples of so many but for the last."""
        size = max(1, _DENSE_ENTRIES // self.X.shape[1] // multiple) * multiple
        return [slice(first, first + size) for first in range(0, self.m, size)]

    def blocks(self):
        for picked in self._slices(1):
            yield self._dense(picked)

    def train(self, engine, rates, seconds, *, source, order, batch_size, patience, **how):
        costs, last = [], np.nan  # `last`: of a batch
        engine.keep()
        try:
            for epoch in range(len(rates)):
                begun, total, batches = time.perf_counter(), 0.0, 0
                if source is not None:
                    source.shuffle(order)
                for part in self._slices(batch_size):
                    data = self._dense(part if source is None else order[part])
                    cost = np.empty(1)
                    result = engine.train(
                        *data,
                        rates=rates[epoch : epoch + 1],
                        shuffle=False,
                        order=None,
                        batch_size=batch_size,
                        keep_last=False,
                        costs=cost,
                        seconds=np.empty(1),
                        by_count=True,
                        **how,
                    )
                    if result["status"] == "diverged":
                        engine.rollback()
                        return costs, (batches + result["batch"], last if result["batch"] == 0 else result["last_cost"])
                    last = result["last_cost"]
                    total += data[0].shape[1] * cost[0]
                    batches += -(-data[0].shape[1] // batch_size)
                if _kernels.first_nonfinite(engine.theta) is not None:
                    engine.rollback()
                    return costs, (batches - 1, last)
                engine.keep()
                seconds[epoch] = time.perf_counter() - begun
                costs.append(float(total / self.m))
                if patience is not None and patience.note(costs[-1]):
                    break
        except BaseException as stop:
            engine.rollback()
            return costs, stop
        return costs, None


def _check_weights(name, w):
    """Refuses weights that are all 0."""
    if w is not None and not w.any():
        raise ValueError(f"{name} must contain at least one non-zero number.")


def _is_stochastic(estimator):
    """Whether partial_fit is there."""
    if estimator.solver == "lbfgs":
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True


class _MLP(BaseEstimator):
    """What the two estimators share."""

    # scikit-learn's, with what is beyond it
    _parameter_constraints = {  # noqa: RUF012, as scikit-learn has it
        **{name: allowed for name, allowed in theirs.MLPClassifier._parameter_constraints.items() if name != "loss"},
        "activation": [StrOptions({*_kernels.ACTIVATIONS, *_OUR_ACTIVATION}), "array-like"],
        "solver": [StrOptions({"lbfgs", "sgd", "adam", "adamw"}), Optimizer],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "callbacks": "no_validation",  # nnkern.callbacks does that
        "progress": ["boolean"],
        "threads": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        hidden_layer_sizes,
        activation,
        loss,
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        weight_decay=0.01,
        dropout=0.0,
        callbacks=None,
        progress=False,
        threads=None,
    ):
        # the docstrings of both classes take this one in, see _in_full
        """activation : str or list of str, default="relu"
            Of the hidden layers, one name or one for each: "identity", "logistic", "tanh", "relu", or any other of
            `nnkern.kernels.ACTIVATIONS`.
        solver : {"lbfgs", "sgd", "adam", "adamw"} or an optimizer of nnkern, default="adam"
            An optimizer brings its own numbers and schedule. Adam's epsilon is scikit-learn's with the names, and
            nnkern's with `nnkern.Adam`: added to √v before or after the correction of its start.
        alpha : float, default=1e-4
            alpha/2 Σ‖W‖² is added to each batch's sum of losses.
        batch_size : int or "auto", default="auto"
            "auto": min(200, n_samples).
        learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
            "sgd"'s schedule: learning_rate_init; learning_rate_init / (1 + samples seen)^power_t; or a fifth of it each
            time that n_iter_no_change epochs went by without improvement.
        learning_rate_init : float, default=1e-3
        power_t : float, default=0.5
        max_iter : int, default=200
            Epochs; iterations of "lbfgs".
        shuffle : bool, default=True
            Go through the samples in a new order each epoch.
        random_state : int, RandomState or None, default=None
            Decides initial weights, the order of samples and the validation split: the same ones as in scikit-learn.
        tol : float, default=1e-4
            What counts as improvement.
        verbose : bool, default=False
            Print each epoch's loss.
        warm_start : bool, default=False
            A further fit goes on from the present parameters.
        momentum, nesterovs_momentum : float in [0, 1], default=0.9; bool, default=True
            Of "sgd".
        early_stopping : bool, default=False
            Stop by the score of held-out samples in place of the training loss, and keep the best epoch's parameters.
        validation_fraction : float, default=0.1
            Share of the samples that is held out then.
        beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
            Of "adam" and "adamw".
        n_iter_no_change : int or inf, default=10
            Epochs without improvement after which the training ends.
        max_fun : int, default=15000
            Most evaluations of the loss by "lbfgs".
        weight_decay : float, default=0.01
            Not in scikit-learn, as all that follow: of "adamw".
        dropout : float or list of float, default=0
            Of the hidden layers, one share or one for each.
        callbacks : callback or list of them, default=None
            See `nnkern.callbacks`; they are handed the network and a history of this fit.
        progress : bool, default=False
            Show epochs, loss, score and time left on standard error.
        threads : int or None, default=None
            At most this many threads; results don't depend on it.
        """
        arguments = dict(locals())
        del arguments["self"]
        vars(self).update(arguments)

    # ---- the network

    @property
    def network_(self):
        """The trained `nnkern.Network`: to save, to export, to go on with. Its X is (n_features, n_samples)."""
        check_is_fitted(self)
        self._take_back()
        return self._network

    def to_onnx(self, path, **dressing):
        """Saves the trained network as an ONNX file, as `nnkern.Network.to_onnx` does.

        A classifier's file gives the label, one of `classes_`, and the probabilities; for several labels at once the
        probabilities alone.

        Parameters
        ----------
        path : str or path
        mean, scale : arrays of shape (n_features,), optional
            The file takes raw features x and gives the network (x - mean) / scale: a StandardScaler's ``mean_`` and
            ``scale_``.
        target_mean, target_scale : arrays of shape (n_outputs,), optional
            Of a regressor's target.

        Raises
        ------
        NotFittedError, MissingPackageError, OSError, ValueError
            As there.
        """
        self.network_.to_onnx(path, **self._names(), **dressing)

    def _names(self):
        """What an exported file is told of the outputs."""
        return {}

    def _hidden(self):
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _per_layer(self, name, count):
        """A parameter that may be a list with an entry for each hidden layer."""
        value = getattr(self, name)
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            return [value] * count
        values = list(value)
        if len(values) != count:
            raise ValueError(f"{name} must be one value or one for each of the {count} hidden layers, got {values}.")
        return values

    def _activations(self, count):
        """Our names, one for each hidden layer."""
        return [_OUR_ACTIVATION.get(name, name) for name in self._per_layer("activation", count)]

    def _configure(self, n_x, n_y, dtype, output, loss, first):
        """Makes the network, with fresh parameters where `first`, else with those there are."""
        hidden = self._hidden()
        activations, dropouts = self._activations(len(hidden)), self._per_layer("dropout", len(hidden))
        layers = [Dense(n, g, dropout=p) for n, g, p in zip(hidden, activations, dropouts, strict=True)]
        layers.append(Dense(n_y, output))
        new = Network(layers, loss, dtype=dtype)
        if first:
            draws = self._draw([n_x, *hidden, n_y], activations)
            # only dropout draws more than scikit-learn does
            new._make_engine(n_x, int(self._random_state.randint(2**31)) if any(dropouts) else 0)
            self._network = new
            self._expose()
            for views, arrays in zip(self._views, draws, strict=True):
                for view, array in zip(views, arrays, strict=True):
                    view[...] = array
            return
        self._take_back()
        old = self._network
        if [layer.units for layer in old.layers] != [layer.units for layer in layers]:
            raise ValueError(
                f"the layers there are have {[layer.units for layer in old.layers]} units, the parameters and `y` ask "
                f"for {[layer.units for layer in layers]}: warm_start and partial_fit can't change that"
            )
        if old.config() != new.config():
            new._make_engine(n_x, old._engine.key)
            new.set_parameters(old.parameters)
            _, *moments = old._engine.state()
            new._stand_at(old._progress(), old.optimizer, *moments)
            self._network = new
        self._expose()

    def _draw(self, units, activations):
        """(coefs, intercepts) drawn as scikit-learn does, uniform after Glorot and Bengio 2010, each layer's in turn.

        The bound is √(factor / (n_prev + n)); the output layer's factor is that of the activation before it.
        """
        coefs, intercepts = [], []
        alone = self.activation if isinstance(self.activation, str) else None
        last = activations[-1] if activations else _OUR_ACTIVATION.get(alone, alone)
        for n_prev, n, activation in zip(units[:-1], units[1:], [*activations, last], strict=True):
            bound = np.sqrt((2.0 if activation == "sigmoid" else 6.0) / (n_prev + n))
            coefs.append(self._random_state.uniform(-bound, bound, (n_prev, n)))
            intercepts.append(self._random_state.uniform(-bound, bound, n))
        return coefs, intercepts

    def _expose(self):
        """coefs_ and intercepts_ become views of the network's parameters."""
        views, L = self._network.parameters, self._network.L
        coefs, intercepts = [views[f"W{l}"].T for l in range(1, L + 1)], [views[f"b{l}"][:, 0] for l in range(1, L + 1)]
        self._views = (tuple(coefs), tuple(intercepts))
        self.coefs_, self.intercepts_ = coefs, intercepts

    def _take_back(self):
        """What a user has put into coefs_ or intercepts_ in place of our views goes into the network."""
        for name, views in zip(("coefs_", "intercepts_"), self._views, strict=True):
            given = getattr(self, name)
            if len(given) != len(views):
                raise ValueError(f"{name} must have {len(views)} arrays, got {len(given)}.")
            for l, (array, view) in enumerate(zip(given, views, strict=True)):
                if array is not view:
                    if np.shape(array) != view.shape:
                        raise ValueError(f"{name}[{l}] must have shape {view.shape}, got {np.shape(array)}.")
                    view[...] = array

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "_network" in state:
            self._take_back()
            for name in ("_views", "coefs_", "intercepts_"):
                del state[name]
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "_network" in state:
            self._expose()
        if state.get("_best_theta") is not None:
            self._best_theta = state["_best_theta"].copy()  # it is written to, and may be a file that is mapped

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # ---- training

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, eval_set=None):
        """Trains on X and y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A C-contiguous array of float32 or float64 isn't copied; a sparse one is made dense some batches at a time.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional
        eval_set : (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch, see `validation_scores_` and `validation_loss_curve_`; with early_stopping it
            stands for the share of the training data that would be set aside.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Something handed in doesn't fit, in scikit-learn's words.
        SolverDivergenceError
            The loss became NaN or infinite; the parameters are those of the last whole epoch.
        """
        return self._fit(X, y, sample_weight, eval_set, incremental=False)

    def _fit(self, X, y, sample_weight, eval_set, incremental):
        before = dict(vars(self))
        try:
            solve = self._prepare(X, y, sample_weight, eval_set, incremental)
        except BaseException:
            # whatever was wrong with the data, a model that was there is as it was
            vars(self).clear()
            vars(self).update(before)
            raise
        engine = self._network._engine
        engine.enter_training()
        try:
            solve()
        finally:
            engine.leave_training()
        return self

    def _prepare(self, X, y, sample_weight, eval_set, incremental):
        """Judges all that came and makes the network; returns the function that trains it."""
        hidden = self._hidden()
        first = not hasattr(self, "_network") or not (self.warm_start or incremental)
        dtype = (np.float64, np.float32) if first else self._network.dtype
        X, y = self._validate(X, y, dtype, reset=first)
        n_x, dtype = X.shape[1], X.dtype
        self._learn_classes(y, first, incremental)
        n_y, output, loss = self._output(y)
        self._random_state = check_random_state(self.random_state)
        self._configure(n_x, n_y, dtype, output, loss, first)
        data = self._examples(X, y, sample_weight)
        self.n_outputs_ = n_y
        if first:
            self.n_iter_ = self.t_ = 0
            self.n_layers_ = len(hidden) + 2
            self.out_activation_ = _THEIR_ACTIVATION.get(output, output)
        held_out = None
        if eval_set is not None:
            if not isinstance(eval_set, tuple | list) or len(eval_set) not in (2, 3):
                raise ValueError("eval_set must be (X, y) or (X, y, sample_weight)")
            X_val, y_val = self._validate(*eval_set[:2], dtype, reset=False)
            held_out = self._examples(X_val, y_val, *eval_set[2:])
        if self.solver == "lbfgs":
            return self._lbfgs(data, loss)
        return self._stochastic(data, held_out, first, incremental)

    def _validate(self, X, y, dtype, reset):
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=not is_classifier(self),
            dtype=dtype,
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _examples(self, X, y, sample_weight=None):
        """X, y and weights as the engine takes them."""
        w = None
        if sample_weight is not None:
            w = _check_sample_weight(sample_weight, X, dtype=X.dtype)
        w = self._with_class_weight(y, w)
        _check_weights("Sample weights", w)
        Y, labels = self._targets(y, X.dtype)
        return (_Sparse if issparse(X) else _Dense)(X, Y, labels, w if w is None else w.astype(X.dtype, copy=False))

    def _loss_scale(self):
        """scikit-learn averages squared errors over the outputs, where the loss is their sum."""
        return 1 / self._network.n_y if self._network.loss == "squared_error" else 1

    def _constants(self, Y):
        """(m,), what scikit-learn counts beyond our loss: y log y - y, for poisson; None for the others."""
        return (xlogy(Y, Y) - Y).sum(axis=0, dtype=np.float64) if self._network.loss == "poisson" else None

    def _new_optimizer(self):
        if isinstance(self.solver, Optimizer):
            return copy.copy(self.solver)
        if self.solver == "sgd":
            return SGD(self.learning_rate_init, self.momentum, bool(self.nesterovs_momentum))
        numbers = (self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)
        return Adam(*numbers) if self.solver == "adam" else AdamW(*numbers, self.weight_decay)

    def _split(self, data):
        """(training examples, held-out examples), drawn as scikit-learn does."""
        stratify = data.Y[0] if is_classifier(self) and self.n_outputs_ == 1 else None
        rest, held = train_test_split(
            np.arange(data.m),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=stratify,
        )
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        data, held_out = data.take(rest), data.take(held)
        _check_weights("Sample weights of the training samples, those not held out,", data.w)
        _check_weights("Sample weights of the held-out samples", held_out.w)
        return data, held_out

    def _stochastic(self, data, held_out, first, incremental):
        """The training by mini-batches, ready to run."""
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if first or not hasattr(self, "loss_curve_"):
            self.loss_curve_ = []
            self._no_improvement_count = 0
            self.best_loss_ = None
            self.validation_scores_ = self.best_validation_score_ = self._best_theta = None
        net = self._network
        if self.early_stopping and held_out is None:
            data, held_out = self._split(data)
        if held_out is not None and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_, self.best_validation_score_ = [], [], -np.inf
        if self.early_stopping and self._best_theta is None:
            self._best_theta = net._engine.theta.copy()
        if self.best_loss_ is None and not self.early_stopping:
            self.best_loss_ = np.inf
        size = min(200, data.m) if self.batch_size == "auto" else self.batch_size
        if size > data.m:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
            )
            size = data.m
        kept = net.optimizer if incremental else None
        epochs = _Epochs(self, data, held_out, size, kept or self._new_optimizer())

        def solve():
            if kept is None:
                net._engine.fresh_state()
            epochs.run(1 if incremental else self.max_iter, incremental)
            if self.early_stopping:
                net._engine.theta[:] = self._best_theta

        return solve

    def _lbfgs(self, data, loss):
        """The minimisation over all examples with scipy's L-BFGS-B, in float64, ready to run.

        Dropout, which would make the loss another one each time, is refused; callbacks and validation play no part.
        """
        if any(layer.dropout for layer in self._network.layers):
            raise ValueError("dropout needs a stochastic solver: 'lbfgs' must see the same loss each time")
        net = Network(self._network.layers, loss, dtype="float64")
        net._make_engine(self._network.n_x, 0)
        net.set_parameters(self._network.parameters)
        engine, data = net._engine, data.astype(np.float64)
        segments = [(at, n * m, kind == "W") for _, kind, (n, m), at, _ in engine.segments()]
        entries = np.concatenate([np.arange(at, at + count) for at, count, _ in segments])
        penalised = np.concatenate([np.full(count, is_W) for _, count, is_W in segments])
        weight = data.weight()

        def loss_of(theta):
            engine.theta[entries] = theta
            loss, gradient = 0.0, np.zeros(len(theta))
            for block in data.blocks():
                share = (block[0].shape[1] if block[3] is None else block[3].sum()) / weight
                part, dtheta = engine.loss_gradient(*block, threads=self.threads)
                loss += share * part
                gradient += share * dtheta[entries]
            return loss, gradient

        def penalty_of(theta):
            W = theta * penalised
            return 0.5 * self.alpha / weight * (W @ W), self.alpha / weight * W

        def J(theta):
            loss, gradient = loss_of(theta)
            penalty, its_gradient = penalty_of(theta)
            return loss + penalty, gradient + its_gradient

        def show(intermediate_result):
            show.n += 1
            print(f"Iteration {show.n}, loss = {intermediate_result.fun:.8f}")

        def solve():
            show.n = 0
            result = scipy.optimize.minimize(
                J,
                engine.theta[entries],
                method="L-BFGS-B",
                jac=True,
                callback=show if self.verbose else None,
                options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
            )
            if not np.isfinite(result.x).all() or not np.isfinite(result.fun):
                raise SolverDivergenceError(result.nit, 0, np.nan)
            self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
            engine.theta[entries] = result.x
            self._network.set_parameters(net.parameters)
            penalty = penalty_of(result.x)[0]
            self.loss_ = float((result.fun - penalty) * self._loss_scale() + penalty)
            if (constants := self._constants(data.Y)) is not None:
                self.loss_ += float(np.average(constants, weights=data.w))

        return solve

    # ---- prediction

    def _outputs(self, X):
        """A[L] as (n_samples, n_outputs)."""
        check_is_fitted(self)
        net = self._network
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=net.dtype, reset=False)
        self._take_back()
        return self._outputs_of((_Sparse if issparse(X) else _Dense)(X, None, None, None))

    def _outputs_of(self, data):
        parts = [self._network._engine.predict(X, threads=self.threads).T for X, *_ in data.blocks()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Epochs:
    """The epochs of one fit with a stochastic solver, and what is kept of them and decided between them."""

    def __init__(self, mlp, data, held_out, batch_size, optimizer):
        self.mlp, self.data, self.held_out, self.batch_size = mlp, data, held_out, batch_size
        self.net, self.engine, self.optimizer = mlp._network, mlp._network._engine, optimizer
        self.source = mlp._random_state if mlp.shuffle else None
        self.order = np.arange(data.m) if mlp.shuffle else None
        self.numbers = {
            **optimizer.numbers,
            "l2_of_sum": mlp.alpha,
            "raw_eps": mlp.solver in ("adam", "adamw"),
        }
        self.constants = mlp._constants(data.Y)
        # with early stopping the score on held-out samples is what counts
        self.patience = None if mlp.early_stopping else self._patience()
        self.callbacks = callbacks.get(mlp.callbacks)
        # of this fit, as callbacks and the progress bar see it
        self.history = {"cost": [], "learning_rate": [], "seconds": []}
        if held_out is not None:
            self.history |= {"val_cost": [], "val_score": []}
            if mlp._network._loss.classifies or is_classifier(mlp):
                self.spread = None
            else:
                self.spread = spread(held_out.Y, held_out.w)
        for callback in self.callbacks:
            callbacks.check_monitor(callback, self.history)

    def run(self, max_iter, incremental):
        mlp = self.mlp
        self.net._use_optimizer(self.optimizer)
        shown = None
        if mlp.progress:
            shown = progress.Progress(max_iter, "accuracy" if is_classifier(mlp) else "r2")
        one_by_one = self.held_out is not None or self.callbacks or shown is not None or mlp.verbose
        one_by_one = one_by_one or self.constants is not None
        for callback in self.callbacks:
            callbacks.call(callback, "on_fit_begin", self.net)
        mlp.n_iter_ = 0
        seconds = np.empty(EPOCHS_AT_ONCE)
        try:
            while mlp.n_iter_ < max_iter:
                count = 1 if one_by_one else min(max_iter - mlp.n_iter_, EPOCHS_AT_ONCE)
                rates = self._rates(count)
                costs, failure = self.data.train(
                    self.engine,
                    rates,
                    seconds[:count],
                    source=self.source,
                    order=self.order,
                    batch_size=self.batch_size,
                    update=self.optimizer.update,
                    numbers=self.numbers,
                    loss_scale=mlp._loss_scale(),
                    patience=self.patience if self.constants is None else None,
                    threads=mlp.threads,
                )
                self._note(costs)
                if one_by_one and costs:
                    self._look(rates, seconds, shown)
                if isinstance(failure, KeyboardInterrupt):
                    warnings.warn("Training interrupted by user.", stacklevel=5)
                    break
                if isinstance(failure, BaseException):
                    raise failure
                if failure is not None:
                    raise SolverDivergenceError(mlp.n_iter_, *failure)
                if self._is_over():
                    break
            else:
                if not incremental:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({mlp.max_iter}) reached and the optimization "
                        "hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=5,
                    )
            for callback in self.callbacks:
                callbacks.call(callback, "on_fit_end", self.net, self.history)
        finally:
            if shown is not None:
                shown.close()

    def _patience(self):
        mlp = self.mlp
        return _engine.Patience(
            mlp.best_loss_, mlp.tol, mlp._no_improvement_count, int(min(mlp.n_iter_no_change, np.iinfo(np.intp).max))
        )

    def _rates(self, count):
        """The learning rates of the next epochs."""
        optimizer = self.optimizer
        if callable(optimizer.learning_rate):
            return np.array([optimizer.rate(self.net._epochs_done + i) for i in range(count)])
        rates = np.full(count, optimizer.learning_rate, np.float64)
        if self._scheduled("invscaling"):
            seen = self.mlp.t_
            for i in range(1, count):
                rates[i] = self._inverse_scaling(seen + i * self.data.m)
        return rates

    def _scheduled(self, schedule):
        return self.mlp.solver == "sgd" and self.mlp.learning_rate == schedule

    def _inverse_scaling(self, seen):
        return float(self.mlp.learning_rate_init) / (seen + 1) ** self.mlp.power_t

    def _note(self, costs):
        """Counts the epochs, and those without improvement."""
        mlp = self.mlp
        if not costs:
            return
        if self.constants is not None:
            costs = [costs[0] + self._mean_constant()]
            if self.patience is not None:
                self.patience.note(costs[0])
        mlp.loss_ = costs[-1]
        mlp.loss_curve_ += costs
        mlp.n_iter_ += len(costs)
        mlp.t_ += len(costs) * self.data.m
        self.net._epochs_done += len(costs)
        if self.patience is not None:
            mlp.best_loss_, mlp._no_improvement_count = self.patience.best, self.patience.bad
        if self._scheduled("invscaling") and not callable(self.optimizer.learning_rate):
            self.optimizer.learning_rate = self._inverse_scaling(mlp.t_)

    def _mean_constant(self):
        """Over the batches of the last epoch, as its cost is: by weight within a batch, by number among them."""
        if self.data.w is None:
            return float(self.constants.mean())
        order = slice(None) if self.order is None else self.order
        c, w = self.constants[order], self.data.w[order].astype(np.float64)
        firsts = np.arange(0, self.data.m, self.batch_size)
        total = np.add.reduceat(w, firsts)
        means = np.divide(np.add.reduceat(c * w, firsts), total, out=np.zeros(len(firsts)), where=total > 0)
        return float(np.average(means, weights=np.diff(firsts, append=self.data.m)))

    def _look(self, rates, seconds, shown):
        """What happens after an epoch where somebody looks on."""
        mlp, history = self.mlp, self.history
        if mlp.verbose:
            print(f"Iteration {mlp.n_iter_}, loss = {mlp.loss_:.8f}")
        history["cost"].append(mlp.loss_)
        history["learning_rate"].append(float(rates[0]))
        history["seconds"].append(float(seconds[0]))
        if self.held_out is not None:
            cost, score = self._evaluate()
            history["val_cost"].append(cost)
            history["val_score"].append(score)
            mlp.validation_loss_curve_.append(cost)
            mlp.validation_scores_.append(score)
            if mlp.verbose:
                print(f"Validation score: {score:f}")
            if mlp.early_stopping:
                improved = score >= mlp.best_validation_score_ + mlp.tol
                mlp._no_improvement_count = 0 if improved else mlp._no_improvement_count + 1
            if score > mlp.best_validation_score_:
                mlp.best_validation_score_ = score
                if mlp.early_stopping:
                    mlp._best_theta[:] = self.engine.theta
        if shown is not None:
            shown.update(mlp.n_iter_, history)

    def _evaluate(self):
        """(loss, score) of the held-out examples."""
        cost, right, squares, total = 0.0, 0.0, 0.0, 0.0
        classifier, by_hand = is_classifier(self.mlp), not self.net._loss.classifies
        for X, Y, labels, w in self.held_out.blocks():
            part, part_right, part_squares, weight = self.engine.evaluate(X, Y, labels, w, self.mlp.threads)
            cost += weight * part
            total += weight
            if classifier and by_hand:
                part_right = self.mlp._right(self.engine.predict(X, threads=self.mlp.threads), Y, w)
            right += part_right
            squares += 0 if part_squares is None else part_squares
        cost = cost / total * self.mlp._loss_scale() if total else 0.0
        if (constants := self.mlp._constants(self.held_out.Y)) is not None:
            cost += float(np.average(constants, weights=self.held_out.w))
        return cost, right / total if classifier else r2(squares, self.spread)

    def _is_over(self):
        """Whether a callback or a lack of improvement ends the training; "adaptive" lowers its learning rate first."""
        mlp, optimizer = self.mlp, self.optimizer
        # each is called, also after one has asked for the end
        asked = [callback.on_epoch_end(self.net, mlp.n_iter_ - 1, self.history) for callback in self.callbacks]
        if any(asked):
            return True
        if mlp._no_improvement_count <= mlp.n_iter_no_change:
            return False
        adaptive = self._scheduled("adaptive") and not callable(optimizer.learning_rate)
        over = not adaptive or optimizer.learning_rate <= _ADAPTIVE_SMALLEST
        if not over:
            optimizer.learning_rate /= _ADAPTIVE_DIVISOR
            mlp._no_improvement_count = 0
            self.patience = self.patience and self._patience()
        if mlp.verbose:
            what, then = "Validation score" if mlp.early_stopping else "Training loss", "Stopping."
            if adaptive and over:
                then = "Learning rate too small. Stopping."
            elif adaptive:
                then = f"Setting learning rate to {optimizer.learning_rate:f}"
            epochs = f"{mlp.n_iter_no_change} consecutive epochs"
            print(f"{what} did not improve more than tol={mlp.tol:f} for {epochs}. {then}")
        return over


def _in_full(cls):
    """Class decorator: signature and docstring name the shared parameters, where they had `**shared` and {shared}."""
    constructor = inspect.signature(cls.__init__)
    shared = [p for p in inspect.signature(_MLP.__init__).parameters.values() if p.kind is p.KEYWORD_ONLY]
    own = [p for p in constructor.parameters.values() if p.kind is not p.VAR_KEYWORD]
    cls.__init__.__signature__ = constructor.replace(parameters=own + shared)
    if cls.__doc__ is not None:  # python -OO
        cls.__doc__ = inspect.cleandoc(cls.__doc__).replace("{shared}", inspect.cleandoc(_MLP.__init__.__doc__))
    return cls


@_in_full
class MLPClassifier(ClassifierMixin, _MLP):
    """Dense network for classification, a drop-in for scikit-learn's: two classes, several, or several labels at once.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer; empty: logistic regression.
    loss : str or loss of nnkern, default="log_loss"
        Not in scikit-learn: a loss of `nnkern.losses` in place of the cross-entropy, or that with label smoothing,
        ``BinaryCrossEntropy(0.1)`` for two classes or several labels, ``CrossEntropy(0.1)`` for several classes.
    class_weight : dict, list of dict, "balanced" or None, default=None
        Not in scikit-learn: the weight of each class, which the sample weights are multiplied by; those of held-out
        samples too.
    {shared}

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    coefs_, intercepts_ : lists of arrays of shapes (n_prev, n) and (n,)
        Views of the network's parameters; arrays put in their place are used.
    loss_, best_loss_, loss_curve_ : float, float or None, list
        Mean over an epoch's batches, penalty included; the exact one where scikit-learn clips probabilities.
    validation_scores_, validation_loss_curve_, best_validation_score_ : list, list, float; or None
        Of the held-out samples or `eval_set`, after each epoch.
    n_iter_, t_ : int
        Epochs of the last fit, and samples gone through since the first.
    n_features_in_, n_layers_, n_outputs_, out_activation_, feature_names_in_
        As in scikit-learn.
    network_ : nnkern.Network

    Examples
    --------
    >>> import numpy as np
    >>> from nnkern.sklearn import MLPClassifier
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> MLPClassifier((8,), "tanh", solver="lbfgs", random_state=1).fit(X, [0, 1, 1, 0]).predict(X)
    array([0, 1, 1, 0])
    """

    _parameter_constraints = {  # noqa: RUF012
        **_MLP._parameter_constraints,
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

    def _learn_classes(self, y, first, incremental):
        """classes_, or whether y fits those there are."""
        kind = type_of_target(y, input_name="y")
        if kind not in ("binary", "multiclass", "multilabel-indicator"):
            check_classification_targets(y)
            raise ValueError("Multioutput target data is not supported: several columns of y must be labels, 0 or 1")
        multilabel = kind == "multilabel-indicator"
        if first:
            self._multilabel, self._sparse_labels = multilabel, issparse(y)
        elif multilabel != self._multilabel:
            raise ValueError(f"`y` is {kind} now, which it wasn't in the previous call to fit.")
        classes = np.arange(y.shape[1]) if multilabel else np.unique(y)
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
            n_y, output, loss = y.shape[1] if self._multilabel else 1, "sigmoid", "binary_cross_entropy"
        else:
            n_y, output, loss = len(self.classes_), "softmax", "cross_entropy"
        if self.loss != "log_loss":
            needed, loss = losses.get(self.loss).output, self.loss
            if needed not in (None, output):
                suited = next(type(one).__name__ for one in LOSSES.values() if one.output == output)
                has = f"{len(self.classes_)} {'labels' if self._multilabel else 'classes'}"
                raise ValueError(f"loss {loss!r} is for {needed} outputs, `y` of {has} is for {output}: use {suited}")
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

    def _with_class_weight(self, y, w):
        if self.class_weight is None:
            return w
        of_class = compute_sample_weight(self.class_weight, y)
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
        labels = self._labels_of(self._outputs(X))
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

    @available_if(_is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
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
        _check_partial_fit_first_call(self, classes)
        return self._fit(X, y, sample_weight, None, incremental=True)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@_in_full
class MLPRegressor(RegressorMixin, _MLP):
    """Dense network for regression with one or several outputs, a drop-in for scikit-learn's.

    Parameters
    ----------
    loss : str, default="squared_error"
        "squared_error", "poisson", or any other loss for numbers of `nnkern.losses`.
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
    >>> mlp = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=0, random_state=0).fit(X, 3 * X[:, 0] + 1)
    >>> round(float(mlp.coefs_[0][0, 0]), 3), round(float(mlp.intercepts_[0][0]), 3)
    (3.0, 1.0)
    """

    _parameter_constraints = {  # noqa: RUF012
        **_MLP._parameter_constraints,
        "loss": [StrOptions({name for name, loss in LOSSES.items() if not loss.classifies}), Loss, callable],
    }

    def __init__(self, loss="squared_error", hidden_layer_sizes=(100,), activation="relu", **shared):
        super().__init__(hidden_layer_sizes, activation, loss, **shared)

    def _learn_classes(self, y, first, incremental):
        """Nothing to learn here."""

    def _output(self, y):
        return 1 if y.ndim == 1 else y.shape[1], losses.get(self.loss).output or "linear", self.loss

    def _targets(self, y, dtype):
        Y = y.reshape(1, -1) if y.ndim == 1 else y.T
        return validation.targets(Y, self._network._loss, self._network.n_y, len(y), dtype, name="y")

    def _with_class_weight(self, y, w):
        return w

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

    @available_if(_is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
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
