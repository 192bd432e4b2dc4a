"""What the two estimators share: scikit-learn's parameters, attributes, draws and words, around a Network.

What is scikit-learn's convention stays in this room: examples are rows, names such as "logistic", the random draws
(initial weights, shuffling, the validation split come from `random_state` as there), its schedules and rules for
stopping, alpha as a penalty on the sum over a batch, and its words for bad input, which its own validation says. The
arithmetic is that of a Network, whose parameters `coefs_` and `intercepts_` are views of.
"""

import copy
from numbers import Integral, Real

import numpy as np

from nnkern import _kernels
from nnkern._caller import warn
from nnkern.estimators import lbfgs
from nnkern.estimators.examples import source_of
from nnkern.estimators.needed import (
    BaseEstimator,
    ConvergenceWarning,
    Interval,
    StrOptions,
    check_is_fitted,
    check_random_state,
    check_sample_weight,
    column_or_1d,
    fit_context,
    is_classifier,
    theirs,
    validate_data,
)
from nnkern.estimators.processes import ALONE, Processes, empty
from nnkern.layers import Dense
from nnkern.network import Network
from nnkern.optimizers import SGD, Adam, AdamW, Optimizer
from nnkern.ranks import DEADLINE
from nnkern.state import of

# scikit-learn's name of an activation, where it isn't ours
_OUR_ACTIVATION = {"identity": "linear", "logistic": "sigmoid"}
_THEIR_ACTIVATION = {ours: theirs for theirs, ours in _OUR_ACTIVATION.items()}


def is_stochastic(estimator):
    """Whether partial_fit is there."""
    if estimator.solver == "lbfgs":
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True


class BaseMLP(BaseEstimator):
    """What the two estimators share."""

    # scikit-learn's, with what is beyond it
    _parameter_constraints = {  # noqa: RUF012, as scikit-learn has it
        **{name: allowed for name, allowed in theirs.MLPClassifier._parameter_constraints.items() if name != "loss"},
        "activation": [StrOptions({*_kernels.ACTIVATIONS, *_OUR_ACTIVATION}), "array-like"],
        "early_stopping": ["boolean", StrOptions({"loss"})],
        "solver": [StrOptions({"lbfgs", "sgd", "adam", "adamw"}), Optimizer],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "callbacks": "no_validation",  # nnkern.callbacks does that
        "progress": ["boolean"],
        "threads": [Interval(Integral, 1, None, closed="left"), None],
        "compute": [StrOptions({"bfloat16"}), None],
    }

    # Σ w of the samples predicted rightly: a classifier has the function
    _right = None

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
        compute=None,
    ):
        # the docstrings of both classes take this one in, see in_full
        """activation : str or list of str, default="relu"
            Of the hidden layers, one name or one for each: "identity", "logistic", "tanh", "relu", or what
            scikit-learn doesn't have: "linear" and "sigmoid" for the first two, "leaky_relu", "elu", "selu", "gelu",
            "gelu_tanh", "silu", "softplus", "mish", "hard_swish", "exp", "softmax".
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
        early_stopping : bool or "loss", default=False
            True: stop by the score of held-out samples in place of the training loss, and keep the best epoch's
            parameters. "loss", which scikit-learn doesn't have: by their loss, which is log loss, or for numbers the
            squared error, where no other is asked for. It suits probabilities better, and small numbers of samples.
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
        compute : "bfloat16" or None, default=None
            What products are computed in, as `nnkern.Network` says; X is converted to float32 for "bfloat16".
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

    def to_onnx(self, path, **options):
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
        self.network_.to_onnx(path, **self._names(), **options)

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

    def _configure(self, hidden, n_x, network, first, keyed):
        """Makes the network, with fresh parameters where `first`, else with those there are.

        `network`: (outputs, their activation, loss, dtype); `keyed`: whether it has a key of its own for shuffling.
        """
        n_y, output, loss, dtype = network
        activations = [_OUR_ACTIVATION.get(name, name) for name in self._per_layer("activation", len(hidden))]
        dropouts = self._per_layer("dropout", len(hidden))
        layers = [Dense(n, g, dropout=p) for n, g, p in zip(hidden, activations, dropouts, strict=True)]
        layers.append(Dense(n_y, output))
        new = Network(layers, loss, dtype=dtype, compute=self.compute)
        if first:
            draws = self._draw([n_x, *hidden, n_y], activations)
            # only dropout, and several processes, draw more than scikit-learn does
            keyed = keyed or any(dropouts)
            of(new).make_engine(n_x, int(self._random_state.randint(2**31)) if keyed else 0)
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
            of(new).follow(of(old))
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

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, eval_set=None, *, comm=None, deadline=DEADLINE):
        """Trains on X and y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A C-contiguous array of float32 or float64 isn't copied. A sparse one isn't made dense: the first layer's
            products, forward and of its gradient, take its entries alone.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional
        eval_set : (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch, see `validation_scores_` and `validation_loss_curve_`; with early_stopping it
            stands for the share of the training data that would be set aside.
        comm : communicator, optional
            Train together with the other processes of an MPI communicator, as `nnkern.Network.fit` does: each calls
            `fit` with its own shard of the samples, which may be empty, of shape (0, n_features), and the same
            parameters. The classes are those of all shards, batch_size counts samples of all, each shard holds out its
            `validation_fraction`, drawn without regard to classes, and all end with the same estimator. Solver "lbfgs"
            and class_weight="balanced" don't go with it; Ctrl-C raises.
        deadline : float
            Seconds that a process waits for the others then.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Something handed in doesn't fit, in scikit-learn's words.
        SolverDivergenceError
            The loss became NaN or infinite; the parameters are those of the last whole epoch.
        RankError
            With `comm`: another process has failed or is missing; likewise.
        """
        if comm is None:
            return self._fit(X, y, sample_weight, eval_set, incremental=False)
        processes = Processes(comm, deadline)
        with processes.together():
            return self._fit(X, y, sample_weight, eval_set, incremental=False, processes=processes)

    def _fit(self, X, y, sample_weight, eval_set, incremental, processes=ALONE):
        before = dict(vars(self))
        try:
            solve = self._prepare(X, y, sample_weight, eval_set, incremental, processes)
        except BaseException:
            # whatever was wrong with the data, a model that was there is as it was
            vars(self).clear()
            vars(self).update(before)
            raise
        solve()
        return self

    def _prepare(self, X, y, sample_weight, eval_set, incremental, processes):
        """Checks all that came and makes the network; returns the function that trains it."""
        with processes.alone():
            hidden = self._hidden()
            first = not hasattr(self, "_network") or not (self.warm_start or incremental)
            floats = np.float32 if self.compute else (np.float64, np.float32)
            X, y = self._validate(X, y, floats if first else self._network.dtype, first, processes.least)
            has_eval_set = eval_set is not None
            if has_eval_set and (not isinstance(eval_set, tuple | list) or len(eval_set) not in (2, 3)):
                raise ValueError("eval_set must be (X, y) or (X, y, sample_weight)")
            kind, classes = self._find_classes(y, first)
        kind, classes, has_eval_set = processes.agree_on(kind, classes, has_eval_set)
        with processes.alone():
            self._learn_classes(kind, classes, y, first, incremental)
            self._random_state = check_random_state(self.random_state)
            if not incremental or first:
                drawn = self.random_state
                self.random_state_ = drawn if isinstance(drawn, Integral) else copy.deepcopy(self._random_state)
            n_y, output, loss = self._output(y)
            self._configure(hidden, X.shape[1], (n_y, output, loss, X.dtype), first, processes.several)
            data, held_out = self._examples(X, y, sample_weight, processes), None
            self.n_outputs_ = n_y
            if first:
                self.n_iter_ = self.t_ = 0
                self.n_layers_ = len(hidden) + 2
                self.out_activation_ = _THEIR_ACTIVATION.get(output, output)
            if eval_set is not None:
                X_val, y_val = self._validate(*eval_set[:2], X.dtype, False)
                held_out = self._examples(X_val, y_val, *eval_set[2:], processes=processes)
            elif has_eval_set:
                held_out = empty(self._network)
            if self.solver == "lbfgs":
                return self._with_lbfgs(data, processes)
        return self._stochastic(data, held_out, first, incremental, processes)

    def _with_lbfgs(self, data, processes):
        if processes.several:
            raise ValueError("solver='lbfgs' needs all samples in one process: with comm= use 'adam', 'adamw' or 'sgd'")
        if any(layer.dropout for layer in self._network.layers):
            raise ValueError("dropout needs a stochastic solver: 'lbfgs' must see the same loss each time")
        return lambda: lbfgs.minimise(self, self._network, data)

    def _validate(self, X, y, dtype, reset, least=1):
        how = {"accept_sparse": ["csr", "csc"], "dtype": dtype, "reset": reset}
        if least == 0 and np.ndim(X) == 2 and np.shape(X)[0] == 0:
            X, y = validate_data(self, X, ensure_min_samples=0, **how), np.asarray(y)
            if y.size:
                raise ValueError(f"X has no samples, and y has {len(y)}")
            return X, y
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=not is_classifier(self), **how)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _examples(self, X, y, sample_weight=None, processes=ALONE):
        """X, y and weights as the engine takes them."""
        if X.shape[0] == 0:
            return empty(self._network)
        w = None
        if sample_weight is not None:
            w = check_sample_weight(sample_weight, X, dtype=X.dtype)
        w = self._with_class_weight(y, w, processes.several)
        processes.check_weights("Sample weights", w)
        Y, labels = self._targets(y, X.dtype)
        return source_of(X, Y, labels, w if w is None else w.astype(X.dtype, copy=False))

    def _look_at_spread(self, Y):
        """Warns of targets that are hard to learn as they are; there are none among classes."""

    def _new_optimizer(self):
        if isinstance(self.solver, Optimizer):
            return copy.copy(self.solver)
        if self.solver == "sgd":
            return SGD(self.learning_rate_init, self.momentum, bool(self.nesterovs_momentum))
        numbers = (self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)
        return Adam(*numbers) if self.solver == "adam" else AdamW(*numbers, self.weight_decay)

    def _begin_records(self, first):
        """What is recorded of the epochs, from the beginning where there is nothing to go on from."""
        if first or not hasattr(self, "loss_curve_"):
            self.loss_curve_ = []
            self._no_improvement_count = 0
            self.best_loss_ = None
            self.validation_scores_ = self.best_validation_score_ = self._best_theta = None
            self.best_validation_loss_ = None
        if self._best_theta is not None and self._best_by != self.early_stopping:
            self._best_theta = None  # the best of another measure
        if self.best_loss_ is None and not self.early_stopping:
            self.best_loss_ = np.inf
        if self.early_stopping and self._best_theta is None:
            self._best_theta, self._best_by = of(self._network).engine.theta.copy(), self.early_stopping

    def _stochastic(self, data, held_out, first, incremental, processes):
        """The training by mini-batches, ready to run."""
        with processes.alone():
            if self.early_stopping and incremental:
                raise ValueError(f"partial_fit does not support early_stopping={self.early_stopping!r}")
            if not incremental and data.m:
                self._look_at_spread(data.Y)
            self._begin_records(first)
            if self.early_stopping and held_out is None:
                data, held_out = processes.split(self, data, self._random_state)
            if held_out is not None and self.validation_scores_ is None:
                self.validation_scores_, self.validation_loss_curve_, self.best_validation_score_ = [], [], -np.inf
                self.best_validation_loss_ = np.inf
        size, m = processes.batch_size(self, data.m)
        if size > m > 0:
            warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
            size = m
        kept = of(self._network).optimizer if incremental else None
        optimizer = kept or self._new_optimizer()
        fit = processes.fit_of(self, self._network, (data, held_out), size, self._random_state, optimizer)
        fit.resume = kept is not None
        fit.goes_on(self._no_improvement_count, self._best_theta, self._right)
        return lambda: self._run(fit, incremental)

    def _run(self, fit, incremental):
        """Runs the epochs, and tells how they ended where that is worth a warning."""
        fit.epochs = 1 if incremental else self.max_iter
        try:
            fit.run()
        finally:
            self._no_improvement_count = fit.no_improvement
        if fit.interrupted:
            warn("Training interrupted by user.")
        elif not (fit.enough or incremental):
            warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization "
                "hasn't converged yet.",
                ConvergenceWarning,
            )

    # ---- prediction

    def _outputs(self, X):
        """A[L] as (n_samples, n_outputs)."""
        check_is_fitted(self)
        net = self._network
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=net.dtype, reset=False)
        self._take_back()
        blocks = source_of(X, None, None, None).blocks()
        parts = [of(net).engine.predict(X, threads=self.threads).T for X, *_ in blocks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
