"""Network: what a network is, and its life from initial weights to predictions.

Here are names, defaults, histories and the order of things. What a user hands in goes through validation.py first; the
arithmetic is one call into _engine for all layers, and for whole epochs where nothing has to happen between them.
"""

import contextlib
import copy
import types
from collections import namedtuple

import numpy as np

from nnkern import _engine, _kernels, derivatives, initializers, io, losses, optimizers, validation
from nnkern.exceptions import DivergenceError
from nnkern.layers import Dense
from nnkern.losses import r2, spread
from nnkern.training import Training

# the random streams of one seed, numbered
_STREAMS = ("weights", "key", "split", "slices")

Evaluation = namedtuple("Evaluation", "cost score")
Evaluation.__doc__ = "cost: mean loss without penalty; score: accuracy for the cross-entropies, else R²."


class Network:
    """A dense network of any depth.

    Parameters
    ----------
    layers : list of Dense
        From the first hidden layer to the output.
    loss : str, loss object or function
        "binary_cross_entropy" (sigmoid output), "cross_entropy" (softmax output), "poisson" (exp output),
        "squared_error", "absolute_error", "huber" or "quantile" (any output); an object such as
        ``nk.losses.Huber(delta=2.0)``; or a function (A, Y) -> (cost, dA), see `nnkern.losses.Custom`.
    n_x : int, optional
        Number of features; with it the parameters exist at once, otherwise from `initialize` or the first `fit` on.
    l2, l1 : float
        The cost gets l2/2 Σ‖W[l]‖² + l1 Σ|W[l]|; biases carry no penalty.
    dtype : "float32" or "float64"
    seed : int, optional
        Decides initial weights, shuffling and dropout: same seed, same bits. None draws one.

    Raises
    ------
    ValueError
        A number is out of its range, a name unknown, or the output doesn't suit the loss.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> X = np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    >>> Y = np.array([0, 1, 1, 0])
    >>> net = nk.Network([nk.Dense(8, "tanh"), nk.Dense(1, "sigmoid")], "binary_cross_entropy", seed=1)
    >>> history = net.fit(X, Y, epochs=2000, batch_size=None, optimizer=nk.SGD(0.5))
    >>> net.predict_labels(X)
    array([0, 1, 1, 0])
    """

    def __init__(self, layers, loss, *, n_x=None, l2=0.0, l1=0.0, dtype="float32", seed=None):
        if isinstance(layers, Dense) or not hasattr(layers, "__iter__"):
            raise TypeError(f"layers must be a list of Dense layers; got {layers!r}")
        self._layers = tuple(layers)
        if not self.layers or not all(isinstance(layer, Dense) for layer in self.layers):
            raise ValueError(f"layers must be a list of at least one Dense; got {layers!r}")
        self._loss = losses.get(loss)
        last = self.layers[-1]
        if self._loss.output is not None and last.activation != self._loss.output:
            raise ValueError(
                f"the loss {self.loss} needs {self._loss.output} units at the output, "
                f"the last layer has {last.activation}: "
                f'use Dense({last.units}, "{self._loss.output}")'
            )
        if last.dropout:
            raise ValueError(f"the last layer has dropout {last.dropout}: outputs are never dropped")
        self._l2 = validation.number("l2", l2, 0)
        self._l1 = validation.number("l1", l1, 0)
        self._dtype = validation.dtype(dtype)
        self._seed = None if seed is None else validation.integer("seed", seed, 0)
        self._entropy = self._draw_entropy()
        self.metadata = {}
        self.optimizer = None
        self._engine = None
        self._state_of = None  # the update that the engine's state belongs to
        self._epochs_done = 0
        if n_x is not None:
            self.initialize(n_x)

    # What it is

    @property
    def layers(self):
        """The Dense layers, the output last."""
        return self._layers

    @property
    def l2(self):
        """Weight of the penalty on squares of weights."""
        return self._l2

    @property
    def l1(self):
        """Weight of the penalty on sizes of weights."""
        return self._l1

    @property
    def dtype(self):
        """Of the parameters and of the arithmetic."""
        return self._dtype

    @property
    def seed(self):
        """What initial weights, shuffling and dropout were asked to be drawn from, or None."""
        return self._seed

    @property
    def loss(self):
        """Name of the loss."""
        return self._loss.name

    @property
    def L(self):
        """Number of layers."""
        return len(self.layers)

    @property
    def n_x(self):
        """Number of features, or None before the parameters exist."""
        return None if self._engine is None else self._engine.n_x

    @property
    def n_y(self):
        """Number of outputs."""
        return self.layers[-1].units

    @property
    def parameters(self):
        """{"W1": (n[1], n_x) view, "b1": (n[1], 1) view, …}: writable views of the parameters.

        Raises
        ------
        NotFittedError
            They don't exist yet.
        """
        engine = validation.fitted(self._engine)
        return types.MappingProxyType(engine.views(engine.theta))

    def set_parameters(self, parameters):
        """Writes all parameters.

        Parameters
        ----------
        parameters : mapping
            Arrays in any order and memory layout, with the names and shapes of `parameters`.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            There are none yet; a name or shape is wrong. Nothing has been written then.
        """
        views = self.parameters
        self._engine.check_untrained()
        arrays = validation.arrays("parameters", parameters, views)
        if any(np.may_share_memory(array, self._engine.theta) for array in arrays.values()):
            arrays = {name: array.copy("K") for name, array in arrays.items()}
        for name, array in arrays.items():
            views[name][...] = array

    def initialize(self, n_x):
        """Draws new initial parameters for n_x features.

        Parameters
        ----------
        n_x : int

        Returns
        -------
        Network
            Itself.
        """
        n_x = validation.size("n_x", n_x)
        if self._engine is not None:
            self._engine.check_idle()
            self._entropy = self._draw_entropy()
        rng = self._random("weights")
        weights, n_prev = {}, n_x
        for l, layer in enumerate(self.layers, start=1):
            init = _kernels.INITIALIZERS[layer.activation] if layer.init is None else layer.init
            weights[f"W{l}"] = initializers.draw(init, rng, layer.units, n_prev, self.dtype, l)
            n_prev = layer.units
        self._make_engine(n_x)
        parameters = self.parameters  # made anew each time it is asked for
        for name, W in weights.items():
            parameters[name][...] = W
        return self

    def _draw_entropy(self):
        """What the random streams grow from: the seed, or where there is none a number drawn for this network."""
        return np.random.SeedSequence(self.seed).entropy

    def _random(self, stream, *more):
        """A generator of one of the streams that the seed gives."""
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=(_STREAMS.index(stream), *more)))

    def _make_engine(self, n_x, key=None):
        """A new engine whose parameters are all zero; `key` keys shuffling and dropout."""
        if key is None:
            key = int(self._random("key").integers(2**63))
        facts, n_prev = [], n_x
        for layer in self.layers:
            facts.append(
                {
                    "kind": "dense",
                    "n": layer.units,
                    "n_prev": n_prev,
                    "activation": _kernels.ACTIVATIONS.index(layer.activation),
                    "slope": layer.negative_slope,
                    "dropout": layer.dropout,
                    "l2": self.l2 if layer.l2 is None else layer.l2,
                    "l1": self.l1,
                    "use_bias": layer.use_bias,
                    "trainable": layer.trainable,
                }
            )
            n_prev = layer.units
        self._engine = _engine.Engine(facts, self.dtype, self._loss.native, self._loss.parameter, key)
        self._forget_state()

    def _forget_state(self):
        self._state_of = None
        self._epochs_done = 0
        self._engine.fresh_state()
        self._engine.epoch = self._engine.step = 0

    def _progress(self):
        """Where the training stands: with the optimizer and its vectors, all that a resumed fit goes on from."""
        engine = self._engine
        return {
            "entropy": self._entropy,
            "key": engine.key,
            "t": engine.t,
            "epoch": engine.epoch,
            "step": engine.step,
            "epochs_done": self._epochs_done,
            "state_of": self._state_of,
        }

    def _stand_at(self, progress, optimizer, s1, s2):
        """Puts a network with a new engine of that key to where `_progress` says another stood."""
        engine = self._engine
        self._entropy = progress["entropy"]
        engine.restore_state(progress["t"], s1, s2)
        engine.epoch, engine.step = progress["epoch"], progress["step"]
        self._epochs_done, self._state_of = progress["epochs_done"], progress["state_of"]
        self.optimizer = optimizer

    # Using it

    def predict(self, X, *, out=None, threads=None):
        """A[L] for the examples in X.

        Parameters
        ----------
        X : (n_x, m) array
            One example a column; an (m, n_x) array of scikit-learn enters as ``X.T`` without a copy.
        out : (n_y, m) array of the network's dtype, optional
        threads : int, optional
            At most this many threads; results don't depend on it.

        Returns
        -------
        A : (n_y, m) array

        Raises
        ------
        NotFittedError
            There are no parameters yet.
        ValueError, TypeError
            X or `out` has another shape or holds no numbers. NaN is let through.
        """
        engine = validation.fitted(self._engine)
        A = engine.predict_fast(X, out, threads)
        if A is not None:
            return A
        X = validation.examples(X, self.n_x, self.dtype, finite=False)
        if out is not None:
            inputs = ("X", X), ("the parameters", engine.theta)
            out = _kernels.output("out", out, self.n_y, X.shape[1], self.dtype.num, inputs)
        return engine.predict(X, out, validation.threads(threads))

    def predict_labels(self, X, *, threads=None):
        """Class labels: argmax for cross_entropy, ŷ > ½ for binary_cross_entropy.

        Parameters
        ----------
        X : (n_x, m) array
        threads : int, optional

        Returns
        -------
        labels : (m,) array of int64; (n_y, m) for several sigmoid outputs

        Raises
        ------
        ValueError
            As `predict`; or the network predicts numbers, not classes.
        """
        if not self._loss.classifies:
            raise ValueError(f"a network with the loss {self.loss} predicts numbers, not labels: use predict")
        return self._labels_of(self.predict(X, threads=threads))

    def _labels_of(self, A):
        """The labels that outputs stand for."""
        if self.loss == "cross_entropy":
            return A.argmax(axis=0)
        labels = (A > 0.5).astype(np.int64)
        return labels[0] if self.n_y == 1 else labels

    def compile_predict(self, *, weights=None, threads=None):
        """A frozen predictor: a copy of the present weights, packed for prediction, for one example above all.

        Parameters
        ----------
        weights : "float32", "float64", "bfloat16" or "int8", optional
            What they are kept in; by default the network's dtype. "bfloat16" has the 8 leading bits of each weight, and
            "int8" a whole number of 127ths of the largest of its unit: half and a quarter of the memory of float32, in
            which both compute. Reduced weights are faster where they make room in a cache.
        threads : int, optional
            At most this many threads a call; the default is that of the moment of the call.

        Returns
        -------
        Predictor
            ``predictor(X)`` or ``predictor.predict(X, out=None)`` gives A (n_y, m), as `predict` does. What happens to
            the network later doesn't change it. It can be called from any number of threads at once.
            ``predictor.report(net, X, Y)`` tells what reduced weights cost.

        Raises
        ------
        NotFittedError
            There are no parameters yet.
        ValueError
            A parameter isn't finite in that type; an unknown type.

        Examples
        --------
        >>> import numpy as np
        >>> import nnkern as nk
        >>> net = nk.Network([nk.Dense(8, "relu"), nk.Dense(3, "softmax")], "cross_entropy", n_x=5, seed=0)
        >>> predictor = net.compile_predict(weights="bfloat16")
        >>> predictor(np.ones((5, 1), np.float32)).shape
        (3, 1)
        """
        from nnkern import predictor

        validation.fitted(self._engine)
        return predictor.compile(self, weights=weights, threads=threads)

    def evaluate(self, X, Y, *, sample_weight=None, threads=None):
        """Cost without penalty, and score.

        Parameters
        ----------
        X : (n_x, m) array
        Y : (n_y, m) array, or labels
        sample_weight : (m,) array, optional
        threads : int, optional

        Returns
        -------
        Evaluation
            Named tuple (cost, score): accuracy for the cross-entropies (argmax; ŷ > ½; several sigmoid outputs: all
            right), otherwise R² averaged over the outputs.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            There are no parameters yet; X, Y or sample_weight doesn't fit or isn't finite.
        """
        engine = validation.fitted(self._engine)
        threads = validation.threads(threads)
        return self._evaluate(engine, *self._judge(X, Y, sample_weight, n_x=self.n_x), threads=threads)

    def _judge(self, X, Y, sample_weight=None, class_weight=None, *, n_x, names=("X", "Y"), whole=True):
        """(X, Y, labels, w) as the engine takes them; all of a batch may weigh nothing, not all of the `whole`."""
        X = validation.examples(X, n_x, self.dtype, finite=True, name=names[0])
        Y, labels = validation.targets(Y, self._loss, self.n_y, X.shape[1], self.dtype, n_x=X.shape[0], name=names[1])
        data = X, Y, labels, validation.weights(sample_weight, X.shape[1], self.dtype, whole)
        return validation.class_weights(class_weight, self._loss, self.n_y, data, whole)

    def _evaluate(self, engine, X, Y, labels, w, threads=None):
        cost, right, squares, total = engine.evaluate(X, Y, labels, w, threads)
        if squares is None:
            return Evaluation(cost, right / total)
        return Evaluation(cost, r2(squares, spread(Y, w)))

    # Training it

    def fit(
        self,
        X,
        Y=None,
        *,
        epochs=100,
        batch_size=32,
        shuffle=True,
        optimizer=None,
        sample_weight=None,
        class_weight=None,
        validation_data=None,
        validation_split=0.0,
        callbacks=(),
        progress=False,
        resume=False,
        threads=None,
    ):
        """Trains by mini-batch gradient descent, going on from the present parameters.

        Parameters
        ----------
        X : (n_x, m) array, or an iterable of batches
            One example a column. A memory-mapped array is read batch by batch. An iterable gives (X, Y) or
            (X, Y, sample_weight) batches, anew each epoch; Y is None then.
        Y : (n_y, m) array, or labels
        epochs : int
        batch_size : int or None
            None: full-batch gradient descent. The last, smaller batch is used too.
        shuffle : bool
            Go through the examples in a new order each epoch.
        optimizer : optimizer or name, optional
            Default SGD(0.1).
        sample_weight : (m,) array, optional
            J = Σ w_i L_i / Σ w_i within each batch.
        class_weight : "balanced", dict or sequence, optional
            For the cross-entropies: w_i is multiplied with the weight of example i's class. "balanced": m / (number of
            classes · examples of the class). A dict {label: weight} leaves the other classes at 1. Where Y holds
            probabilities, the weights are averaged by them. For several sigmoid outputs, a list with a dict or pair
            for each, whose weights are multiplied, as scikit-learn does. Evaluation doesn't use it.
        validation_data : (X, Y) or (X, Y, sample_weight), optional
            Evaluated after each epoch.
        validation_split : float
            Share of the examples, drawn by the seed, set aside for that instead (they are copied).
        callbacks : callback or list of them
            See `nnkern.callbacks`.
        progress : bool
            Show epochs, cost, score and time left on standard error.
        resume : bool
            Keep the optimizer's state, the count of epochs and the random streams of the last fit.
        threads : int, optional
            At most this many threads; results don't depend on it.

        Returns
        -------
        history : dict of lists
            "cost": the mean over the epoch's batches of J before each update, each batch weighted by its number of
            examples, or by the sum of their weights;
            "learning_rate"; "seconds"; "val_cost" and "val_score" with validation data; "score" with progress.

        Raises
        ------
        ValueError, TypeError
            Something handed in doesn't fit; the network is as it was.
        DivergenceError
            The cost became NaN or infinite; the parameters are those of the last whole epoch.
        """
        training = Training(
            self, epochs, batch_size, shuffle, optimizer, class_weight, callbacks, progress, resume, threads
        )
        if Y is not None:
            return training.on_arrays(X, Y, sample_weight, validation_data, validation_split)
        if sample_weight is not None or validation_split:
            raise ValueError(
                "with an iterable of batches the sample_weight comes inside them, as (X, Y, w), and there is nothing "
                "for validation_split to split: use validation_data"
            )
        return training.on_batches(X, validation_data)

    def partial_fit(self, X, Y, *, optimizer=None, sample_weight=None, class_weight=None):
        """One step on one batch of a stream; the optimizer's state is kept from call to call.

        Parameters
        ----------
        X : (n_x, m) array
        Y : (n_y, m) array, or labels
        optimizer : optimizer or name, optional
            Default: the last one, or SGD(0.1). Another kind starts with a fresh state.
        sample_weight : (m,) array, optional
        class_weight : dict or sequence, optional
            As in `fit`.

        Returns
        -------
        cost : float
            J of the batch before the step.

        Raises
        ------
        ValueError, TypeError
            Something handed in doesn't fit.
        DivergenceError
            The cost isn't finite. Weights that earlier steps have spoilt are not brought back: no copy is kept.
        """
        optimizer = self._take_optimizer(self._last_optimizer() if optimizer is None else optimizer)
        data = self._judge(X, Y, sample_weight, validation.unbalanced(class_weight), n_x=self.n_x)
        if self._engine is None:
            self.initialize(data[0].shape[0])
        self._check_trainable()
        with self._stepping(optimizer):
            return self._train_batch(data, optimizer.rate(self._epochs_done), 0)

    def forward(self, X, training=False):
        """A[L], keeping what `backward` needs: X itself where no copy was made of it, so leave it as it is until then.

        Parameters
        ----------
        X : (n_x, m) array
        training : bool
            Whether dropout is active.

        Returns
        -------
        A : (n_y, m) array
        """
        engine = validation.fitted(self._engine)
        X = validation.examples(X, self.n_x, self.dtype, finite=False)
        return engine.forward(X, validation.flag("training", training))

    def backward(self, Y, *, sample_weight=None):
        """Gradients of the cost J, penalty included, for the examples of the last `forward`.

        Parameters
        ----------
        Y : (n_y, m) array, or labels
        sample_weight : (m,) array, optional

        Returns
        -------
        grads : dict
            {"dW1": (n[1], n_x), "db1": (n[1], 1), …}; without the layers that are frozen.

        Raises
        ------
        RuntimeError
            There was no `forward` before, another thread is training the network, or another `backward` is going on.
        ValueError, TypeError
            Y or sample_weight doesn't fit.
        """
        engine = validation.fitted(self._engine)
        self._check_trainable()
        last = engine.retained
        if last is None:
            raise RuntimeError("backward needs a forward(X) before it")
        m = last.examples
        Y, labels = validation.targets(Y, self._loss, self.n_y, m, self.dtype)
        gradient = engine.backward(last, Y, labels, validation.weights(sample_weight, m, self.dtype))
        return {f"d{name}": view for name, view in self._trained(engine.views(gradient)).items()}

    def input_gradient(self, X, Y=None, *, output=None):
        """Derivatives by the inputs: of each example's loss, or of one of its outputs.

        Parameters
        ----------
        X : (n_x, m) array
        Y : (n_y, m) array, or labels, optional
            With it, the loss is derived; without it, an output.
        output : int, or (m,) array of int, optional
            Without Y: which unit of ŷ, for all examples or for each. A network with one output needs none.

        Returns
        -------
        dX : (n_x, m) array
            Column i is ∂L(ŷ(i), y(i)) / ∂x(i), or ∂ŷ_k(i) / ∂x(i) for k = output: each example's own, without a factor
            1/m, penalty and dropout.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            There are no parameters yet; X or Y doesn't fit; it isn't clear which output is meant.

        Examples
        --------
        >>> import numpy as np
        >>> import nnkern as nk
        >>> net = nk.Network([nk.Dense(2)], "squared_error", n_x=2, dtype="float64")
        >>> net.set_parameters({"W1": np.array([[1.0, 2.0], [3.0, 4.0]]), "b1": np.zeros((2, 1))})
        >>> net.input_gradient(np.ones((2, 1)), output=1)
        array([[3.],
               [4.]])
        """
        with self._reading():
            X = validation.examples(X, self.n_x, self.dtype, finite=False)
            if Y is not None:
                if output is not None:
                    raise ValueError("Y and output were both given: the loss is derived, or an output of ŷ")
                Y, labels = validation.targets(Y, self._loss, self.n_y, X.shape[1], self.dtype, n_x=X.shape[0])
                return derivatives.input_gradient(self, X, Y, labels)
            if output is None:
                if self.n_y > 1:
                    raise ValueError(
                        f"the network has {self.n_y} outputs: say which is to be derived, output=k or one for each "
                        "example, pass Y for the loss's derivative, or use jacobian(X) for all outputs"
                    )
                output = 0
            return derivatives.output_gradient(self, X, validation.units("output", output, self.n_y, X.shape[1]))

    def jacobian(self, X):
        """Derivatives of all outputs by all inputs.

        Parameters
        ----------
        X : (n_x, m) array

        Returns
        -------
        J : (m, n_y, n_x) array
            J[i, k, j] = ∂ŷ_k(i) / ∂x_j(i): an example's Jacobian matrix is J[i]. ŷ is A[L], after the activation.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            There are no parameters yet; X doesn't fit.
        """
        with self._reading():
            return derivatives.jacobian(self, validation.examples(X, self.n_x, self.dtype, finite=False))

    def example_gradients(self, X, Y):
        """The gradients of each example's own loss; their mean over the examples is `backward`'s, without penalty.

        Parameters
        ----------
        X : (n_x, m) array
        Y : (n_y, m) array, or labels

        Returns
        -------
        grads : dict
            {"dW1": (m, n[1], n_x), "db1": (m, n[1], 1), …}; without the layers that are frozen. m times the memory of
            the parameters.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            There are no parameters yet; X or Y doesn't fit.
        """
        with self._reading():
            X = validation.examples(X, self.n_x, self.dtype, finite=False)
            Y, labels = validation.targets(Y, self._loss, self.n_y, X.shape[1], self.dtype, n_x=X.shape[0])
            return derivatives.example_gradients(self, X, Y, labels)

    @contextlib.contextmanager
    def _reading(self):
        """What goes on inside reads the parameters: no other thread may train meanwhile."""
        engine = validation.fitted(self._engine)
        engine.enter_reading()
        try:
            yield
        finally:
            engine.leave_reading()

    def step(self, grads, optimizer):
        """Applies gradients; the optimizer's state is kept from call to call.

        Parameters
        ----------
        grads : mapping
            As `backward` returns it.
        optimizer : optimizer or name
        """
        engine = validation.fitted(self._engine)
        optimizer = self._take_optimizer(optimizer)
        dtheta = _engine.aligned_zeros(len(engine.theta), self.dtype)
        views = {f"d{name}": view for name, view in self._trained(engine.views(dtheta)).items()}
        for name, array in validation.arrays("grads", grads, views).items():
            views[name][...] = array
        with self._stepping(optimizer):
            engine.update(dtheta, optimizer.update, optimizer.numbers, optimizer.rate(self._epochs_done))

    def _trained(self, views):
        """Those of the views that belong to trainable layers."""
        return {name: view for name, view in views.items() if self.layers[int(name[1:]) - 1].trainable}

    def _check_trainable(self):
        if not any(layer.trainable for layer in self.layers):
            raise ValueError("no layer is trainable")

    @staticmethod
    def _take_optimizer(optimizer):
        """A copy of what the user handed in: callbacks may change it."""
        return copy.copy(optimizers.get(optimizer))

    def _last_optimizer(self):
        """The one that the network was trained by last, or None."""
        if self.optimizer is None and self._state_of is not None:
            raise ValueError(
                "the file that this network comes from couldn't hold its optimizer, of a class or with a schedule that "
                "isn't nnkern's: pass optimizer="
            )
        return self.optimizer

    def _use_optimizer(self, optimizer):
        """Makes it the network's; another kind of update starts with a fresh state."""
        if self._state_of != optimizer.update:
            self._engine.fresh_state()
            self._state_of = optimizer.update
        self.optimizer = optimizer

    @contextlib.contextmanager
    def _stepping(self, optimizer):
        """One step of an optimizer; the last one is still the network's where that fails before it is made."""
        engine = self._engine
        engine.enter_training()
        undo, step = self._undo(), engine.step
        try:
            self._use_optimizer(optimizer)
            yield
        except BaseException:
            if engine.step == step:
                undo()
            raise
        finally:
            engine.leave_training()

    def _undo(self):
        """What brings back the present optimizer, its state and all counts, as long as no step was made with them."""
        progress, optimizer, (_, *moments) = self._progress(), self.optimizer, self._engine.state()
        return lambda: self._stand_at(progress, optimizer, *moments)

    def _train_batch(self, data, rate, number, last_cost=np.nan, threads=None, *, undone=False):
        """One step on one batch, in a training that has been entered; returns its cost."""
        cost, seconds = np.empty(1), np.empty(1)
        result = self._engine.train(
            *data,
            rates=np.array([rate]),
            batch_size=data[0].shape[1],
            shuffle=False,
            order=None,
            update=self.optimizer.update,
            numbers=self.optimizer.numbers,
            keep_last=False,
            costs=cost,
            seconds=seconds,
            threads=threads,
        )
        if result["status"] == "diverged":
            raise DivergenceError(self._epochs_done, number, last_cost, undone)
        return float(cost[0])

    # Keeping it

    def save(self, path, *, training_state=False):
        """Saves parameters, configuration and metadata to a file, whole or not at all.

        Parameters
        ----------
        path : str or path
            A name that ends in ".safetensors" gives a file of that format (by the package safetensors), whose tensors
            have the names of `to_torch`'s state dict; any other name an .npz archive.
        training_state : bool
            Save the optimizer with its state, the count of epochs and the random streams too: after `nnkern.load`,
            ``fit(…, resume=True)`` goes on with the same bits as the training that wasn't interrupted.

        Raises
        ------
        OSError
            It can't be written; a file that was there is as it was.
        ValueError
            JSON can't hold the metadata.
        """
        io.save(self, path, training_state=training_state)

    def to_onnx(self, path, **dressing):
        """Saves the network as an ONNX file, opset 17: X (batch, n_x) to A (batch, n_y), examples in rows.

        The file's numbers are of the network's dtype. Operators that onnxruntime has for float32 only are written by
        means of others in a float64 file; all but gelu's Erf, which onnxruntime can run in float32 alone.

        Parameters
        ----------
        path : str or path
        mean, scale : (n_x,) arrays, optional
            The model takes raw features x and gives the network (x - mean) / scale.
        target_mean, target_scale : (n_y,) arrays, optional
            It gives target_mean + target_scale A.
        labels : list of str or of int, optional
            Names of the classes: the outputs are then "label" (batch,) and "probabilities" (batch, classes), where a
            single sigmoid output p gives the two (1 - p, p).

        Raises
        ------
        MissingPackageError
            The package onnx isn't installed.
        OSError
            The file can't be written; one that was there is as it was.
        ValueError
            Labels, means or scales don't fit the network; or it is larger than the 2 GB that ONNX takes.
        """
        from nnkern import onnx

        onnx.save(self, path, **dressing)

    def to_torch(self):
        """A torch.nn.Sequential with a copy of the parameters, in evaluation mode: (m, n_x) to (m, n_y).

        Returns
        -------
        torch.nn.Sequential
            Linear, activation and Dropout modules, of the network's dtype.

        Raises
        ------
        MissingPackageError
            torch isn't installed.
        ValueError
            torch has no module for an activation.
        """
        from nnkern import interop

        return interop.to_torch(self)

    def to_sklearn(self):
        """A fitted scikit-learn MLPClassifier or MLPRegressor with a copy of the parameters.

        Its classes are ``metadata["classes"]``, where `nnkern.from_sklearn` has put them, else 0, 1, ….

        Returns
        -------
        MLPClassifier or MLPRegressor

        Raises
        ------
        MissingPackageError
            scikit-learn isn't installed.
        ValueError
            Its MLPs have no such activation, or the hidden layers differ in theirs.
        """
        from nnkern import interop

        return interop.to_sklearn(self)

    def to_c(self, path=None, **dressing):
        """The network as one C99 file with the weights and a function ``predict``; it needs nothing but libm.

        Parameters
        ----------
        path : str or path, optional
            Where to write it, whole or not at all.
        **dressing
            mean, scale, target_mean, target_scale and labels as for `to_onnx`; labels become an array of texts.

        Returns
        -------
        source : str
            ``void predict(const float *x, float *y)`` takes one example of n_x numbers and writes n_y, in double for a
            float64 network. It keeps nothing between calls and takes memory from the stack only, for the two widest
            neighbouring layers at most.

        Raises
        ------
        OSError, ValueError
            As `to_onnx`.

        Examples
        --------
        >>> import nnkern as nk
        >>> net = nk.Network([nk.Dense(4, "relu"), nk.Dense(1)], "squared_error", n_x=3, seed=0)
        >>> "void predict(const float *x, float *y)" in net.to_c()
        True
        """
        from nnkern import c_source

        return c_source.source(self, path, **dressing)

    def summary(self):
        """Layers, shapes and numbers of parameters, as an object that prints well."""
        return Summary(self)

    def __repr__(self):
        parts = [f"{layer.units} {layer.activation}" for layer in self.layers]
        n_x = "?" if self.n_x is None else self.n_x
        return f"<Network {n_x} → {' → '.join(parts)}, {self.loss}, {self.dtype}>"

    def __eq__(self, other):
        """Networks are equal when configuration and parameters are, to the bit."""
        if not isinstance(other, Network):
            return NotImplemented
        if self.config() != other.config() or (self._engine is None) != (other._engine is None):
            return False
        return self._engine is None or (
            self.n_x == other.n_x and all(np.array_equal(a, other.parameters[k]) for k, a in self.parameters.items())
        )

    __hash__ = None

    def config(self):
        """What the network is, but for its parameters: a dict that JSON can hold."""
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "loss": self._loss.config(),
            "l2": self.l2,
            "l1": self.l1,
            "dtype": self.dtype.name,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        """A network without parameters, from what `config` returned."""
        config = dict(config)
        return cls([Dense(**facts) for facts in config.pop("layers")], config.pop("loss"), **config)

    def __getstate__(self):
        config = {**self.config(), "loss": self._loss}
        state = {"config": config, "inits": [layer.init for layer in self.layers], "metadata": self.metadata}
        plain = vars(Network(self.layers, self._loss))
        state["attributes"] = {name: value for name, value in vars(self).items() if name not in plain}
        engine = self._engine
        if engine is not None:
            engine.check_untrained()
            state["n_x"] = self.n_x
            state["parameters"] = {name: view.copy("K") for name, view in self.parameters.items()}
            state["progress"] = self._progress()
            state["optimizer"] = self.optimizer
            state["moments"] = copy.deepcopy(engine.state()[1:])
        return state

    def __setstate__(self, state):
        config = dict(state["config"])
        facts = zip(config.pop("layers"), state["inits"], strict=True)
        layers = [Dense(**layer, init=init) for layer, init in facts]
        Network.__init__(self, layers, config.pop("loss"), **config)
        self.metadata = state["metadata"]
        vars(self).update(state["attributes"])
        if "n_x" in state:
            self._make_engine(state["n_x"], state["progress"]["key"])
            self.set_parameters(state["parameters"])
            self._stand_at(state["progress"], state["optimizer"], *state["moments"])


class Summary:
    """What `Network.summary` returns: prints as a table."""

    def __init__(self, net):
        rows, n_prev, total = [("layer", "units", "activation", "W", "b", "parameters", "")], net.n_x, 0
        for l, layer in enumerate(net.layers, start=1):
            count = None if n_prev is None else layer.units * (n_prev + layer.use_bias)
            total = None if count is None or total is None else total + count
            notes = [f"dropout {layer.dropout:g}"] if layer.dropout else []
            notes += [] if layer.trainable else ["frozen"]
            rows.append(
                (
                    str(l),
                    str(layer.units),
                    layer.activation,
                    f"({layer.units}, {'?' if n_prev is None else n_prev})",
                    f"({layer.units}, 1)" if layer.use_bias else "none",
                    "?" if count is None else f"{count:,}",
                    ", ".join(notes),
                )
            )
            n_prev = layer.units
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.append(
            f"loss {net.loss}, {net.dtype}, "
            + ("parameters not yet initialized" if total is None else f"{total:,} parameters")
        )
        self.parameters = total
        self._text = "\n".join(lines)

    def __str__(self):
        return self._text

    __repr__ = __str__


def check_gradients(net, X, Y, *, step=1e-5, max_entries=2000):
    """Largest relative error of the gradients against central differences (J(θ+ε) - J(θ-ε)) / 2ε.

    Works on a float64 copy; dropout is off. Errors are taken array by array, relative to the array's largest entry.

    Parameters
    ----------
    net : Network
        With parameters.
    X : (n_x, m) array
    Y : (n_y, m) array, or labels
    step : float
        ε.
    max_entries : int
        So many entries of a parameter are tried at most, spread evenly.

    Returns
    -------
    error : float
        Around 1e-9 for right gradients; kinks (relu, absolute error) within ε of an example's Z can raise it.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> net = nk.Network([nk.Dense(3, "tanh"), nk.Dense(1)], "squared_error", n_x=2, seed=0)
    >>> nk.check_gradients(net, np.ones((2, 4)), np.zeros((1, 4))) < 1e-7
    True
    """
    step = validation.number("step", step, 0, low_open=True)
    max_entries = validation.integer("max_entries", max_entries, 1)
    validation.fitted(net._engine)
    copied = Network.from_config({**net.config(), "loss": net._loss, "dtype": "float64"})
    copied._make_engine(net.n_x)
    copied.set_parameters(net.parameters)
    data = copied._judge(X, Y, n_x=net.n_x)
    engine = copied._engine

    def J():
        return engine.evaluate(*data)[0] + engine.penalty()

    copied.forward(data[0])
    grads = copied.backward(Y)
    worst = 0.0
    for name, exact in grads.items():
        theta = copied.parameters[name[1:]]
        picked = np.unique(np.linspace(0, theta.size - 1, min(theta.size, max_entries)).astype(np.intp))
        nudged = np.empty(len(picked))
        for k, flat in enumerate(picked):
            at = np.unravel_index(flat, theta.shape)
            before = theta[at]
            theta[at] = before + step
            above = J()
            theta[at] = before - step
            below = J()
            theta[at] = before
            nudged[k] = (above - below) / (2 * step)
        exact = exact.reshape(-1)[picked]
        scale = max(np.abs(exact).max(), np.abs(nudged).max())
        if scale > 0:
            worst = max(worst, float(np.abs(exact - nudged).max() / scale))
    return worst
