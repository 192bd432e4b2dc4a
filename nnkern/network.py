"""Network: what a network is, and its life from initial weights to predictions.

The public methods are here, with their words; what they do is a line or two. The parameters and the rest of the state
are state.py's, the epochs training.py's, and what a user hands in goes through validation.py first.
"""

import copy
import types

import numpy as np

from nnkern import arguments, runners, streams, together, validation
from nnkern import layers as kinds
from nnkern.derivatives import Derivatives, check_gradients
from nnkern.exports import Exports
from nnkern.layerwise import Layerwise
from nnkern.model import Model
from nnkern.ranks import DEADLINE
from nnkern.state import Evaluation, State, Stateful, of, take_optimizer
from nnkern.steps import Gradients, Steps
from nnkern.summary import Summary, numbers_of
from nnkern.training import Options, fit_of_arrays, fit_of_batches, refuse_with_batches, run

__all__ = ["Evaluation", "Gradients", "Network", "Summary", "check_gradients"]


class Network(Stateful, Steps, Derivatives, Layerwise, Exports):
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
    compute : "bfloat16", optional
        What products are computed in; by default the dtype. With "bfloat16", for float32, the operands of the three
        products (weights, inputs and dZ) are rounded to their 8 leading bits where they enter one; sums, parameters,
        optimizer, activations and losses stay float32's, and so do small products. Takes less time where the processor
        has instructions for it, as ``nnkern.show_config()`` tells, elsewhere a little more.
    seed : int, optional
        Decides initial weights, shuffling and dropout: same seed, same bits. None draws one, which `seed` tells.

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
    >>> layers = [nk.Dense(8, "tanh"), nk.Dense(1, "sigmoid")]
    >>> net = nk.Network(layers, "binary_cross_entropy", seed=1)
    >>> history = net.fit(X, Y, epochs=2000, batch_size=None, optimizer=nk.SGD(0.5))
    >>> net.predict_labels(X)
    array([0, 1, 1, 0])
    """

    @arguments.named('Network(layers, "squared_error", {}=…)')
    def __init__(self, layers, loss, *, n_x=None, l2=0.0, l1=0.0, dtype="float32", compute=None, seed=None):
        super().__init__(State(Model(layers, loss, dtype=dtype, compute=compute, l2=l2, l1=l1, seed=seed)))
        self.metadata = {}
        if n_x is not None:
            self.initialize(n_x)

    # What it is

    @property
    def layers(self):
        """The layers, the output last."""
        return self._state.layers

    @property
    def l2(self):
        """Weight of the penalty on squares of weights."""
        return self._state.l2

    @property
    def l1(self):
        """Weight of the penalty on sizes of weights."""
        return self._state.l1

    @property
    def dtype(self):
        """Of the parameters and of the arithmetic."""
        return self._state.dtype

    @property
    def compute(self):
        """What products are computed in: "float32", "float64" or "bfloat16"."""
        return self._state.compute or self.dtype.name

    @property
    def seed(self):
        """What initial weights, shuffling and dropout are drawn from: where none was asked for, the one that was drawn.

        None where the weights were drawn from nothing that is known, as those of a file without its training state.
        """
        state = self._state
        return state.entropy if state.seed is None and state.drawn else state.seed

    @property
    def loss(self):
        """Name of the loss."""
        return self._state.loss.name

    @property
    def L(self):
        """Number of layers."""
        return len(self.layers)

    @property
    def n_x(self):
        """Number of features, or None before the parameters exist."""
        return self._state.n_x

    @property
    def n_y(self):
        """Number of outputs."""
        return self._state.n_y

    @property
    def optimizer(self):
        """The optimizer of the last training, or None; callbacks may change it."""
        return self._state.optimizer

    @optimizer.setter
    def optimizer(self, optimizer):
        self._state.optimizer = optimizer

    @property
    def parameters(self):
        """{"W1": (n[1], n_x) view, "b1": (n[1], 1) view, …}: writable views of the parameters.

        Raises
        ------
        NotFittedError
            They don't exist yet.
        """
        return types.MappingProxyType(self._state.parameters())

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
        self._state.set_parameters(parameters)

    def initialize(self, n_x, X=None):
        """Draws new initial parameters for n_x features.

        Parameters
        ----------
        n_x : int
        X : (n_x, m) array, optional
            Examples, for layers whose initial values depend on them (init="unit_variance", bias_init="examples").

        Returns
        -------
        Network
            Itself.
        """
        n_x = validation.size("n_x", n_x)
        if X is not None:
            X = validation.examples(X, n_x, self.dtype, finite=True)
        self._state.initialize(n_x, X)
        return self

    # Using it

    def predict(self, X, *, out=None, threads=None, invariant=False, rows=False):
        """A[L] for the examples in X.

        Parameters
        ----------
        X : (n_x, m) array, or an iterable of batches
            One example a column; an (m, n_x) array of scikit-learn enters as ``X.T`` without a copy. A large
            memory-mapped array of another dtype is converted a part at a time. Of batches (X, Y) or (X, Y,
            sample_weight), as `fit` takes them, X is used; what is predicted of all is in one array.
        out : (n_y, m) array of the network's dtype, optional
        threads : int, optional
            At most this many threads; results don't depend on it.
        invariant : bool
            Whether each example gets the same bits whatever other examples X holds and however X is laid out in memory.
            Otherwise the last bits may depend on both. For single examples it costs many times the time.
        rows : bool
            Whether examples are the rows of X, (m, n_x), as in scikit-learn and torch's DataLoader, and of what is
            returned, (m, n_y). An X of more dimensions, (m, …), is flattened.

        Returns
        -------
        A : (n_y, m) array

        Raises
        ------
        NotFittedError
            There are no parameters yet.
        ValueError, TypeError
            X or `out` has another shape or holds no numbers. NaN is let through.

        Examples
        --------
        >>> import numpy as np
        >>> import nnkern as nk
        >>> layers = [nk.Dense(3, "tanh"), nk.Dense(1)]
        >>> net = nk.Network(layers, "squared_error", n_x=50, seed=0)
        >>> X = np.random.default_rng(0).standard_normal((50, 8))
        >>> A = net.predict(X, invariant=True)
        >>> bool((net.predict(X[:, 5:6], invariant=True) == A[:, 5:6]).all())
        True
        """
        engine = self._state.engine
        if engine is None:
            self._state.fitted()  # raises NotFittedError
        if invariant is False and rows is False:
            A = engine.predict_fast(X, out, threads)
            if A is not None:
                return A
        how = {"threads": validation.threads(threads), "invariant": validation.flag("invariant", invariant)}
        return streams.predict(self._state, X, out, rows=validation.flag("rows", rows), **how)

    def predict_labels(self, X, *, threads=None, rows=False):
        """Class labels: argmax for cross_entropy, ŷ > ½ for binary_cross_entropy.

        Parameters
        ----------
        X : (n_x, m) array, or an iterable of batches
            As `predict` takes it.
        threads : int, optional
        rows : bool
            As in `predict`.

        Returns
        -------
        labels : (m,) array of int64; (n_y, m) for several sigmoid outputs, (m, n_y) with `rows`

        Raises
        ------
        ValueError
            As `predict`; or the network predicts numbers, not classes; or an output is NaN.
        """
        A = self.predict(X, threads=threads, rows=rows)
        return self._state.loss.labels_of(A.T).T if rows else self._state.loss.labels_of(A)

    def compile_predict(self, *, weights=None, compute=None, threads=None):
        """A frozen predictor: a copy of the present weights, packed for prediction, for one example above all.

        Parameters
        ----------
        weights : "float32", "float64", "bfloat16" or "int8", optional
            What they are kept in; by default what the network computes in. "bfloat16" has the 8 leading bits of each
            weight, and "int8" a whole number of 127ths of the largest of its unit: half and a quarter of the memory of
            float32, which makes room in a cache.
        compute : "float32", "float64", "bfloat16" or "int8", optional
            What blocks of 8 and more examples are multiplied in: by default what the weights are kept in where the
            processor can, and then examples are rounded to that too (to int8 each by its own largest entry). "float32"
            widens reduced weights, as is done for fewer examples and on other processors.
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
        >>> layers = [nk.Dense(8, "relu"), nk.Dense(3, "softmax")]
        >>> net = nk.Network(layers, "cross_entropy", n_x=5, seed=0)
        >>> predictor = net.compile_predict(weights="bfloat16")
        >>> predictor(np.ones((5, 1), np.float32)).shape
        (3, 1)
        """
        from nnkern import predictor

        with self._state.reading():
            return predictor.compile(self.to_model(), weights=weights, compute=compute, threads=threads)

    def evaluate(self, X, Y=None, *, sample_weight=None, threads=None, rows=False):
        """Cost without penalty, and score.

        Parameters
        ----------
        X : (n_x, m) array, or an iterable of batches
            As `fit` takes it: batches (X, Y) or (X, Y, sample_weight) without Y, memory-mapped arrays.
        Y : (n_y, m) array, or labels
        sample_weight : (m,) array, optional
        threads : int, optional
        rows : bool
            As in `fit`.

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
        self._state.fitted()
        threads, rows = validation.threads(threads), validation.flag("rows", rows)
        return streams.evaluate(self._state, X, Y, sample_weight, threads, rows)

    # Training it

    @arguments.named("fit(X, Y, {}=…)")
    def fit(
        self,
        X,
        Y=None,
        *,
        epochs=100,
        batch_size=32,
        shuffle=True,
        drop_last=False,
        optimizer=None,
        sample_weight=None,
        class_weight=None,
        validation_data=None,
        validation_split=0.0,
        metrics=(),
        callbacks=(),
        progress=False,
        resume=False,
        threads=None,
        rows=False,
        comm=None,
        deadline=DEADLINE,
    ):
        """Trains by mini-batch gradient descent, going on from the present parameters.

        Parameters
        ----------
        X : (n_x, m) array, or an iterable of batches
            One example a column. A memory-mapped array trains to the same bits as one in memory; a large one is read
            once before, for numbers that aren't finite, and then batch by batch. An iterable gives (X, Y) or
            (X, Y, sample_weight) batches, anew each epoch; Y is None then.
        Y : (n_y, m) array, or labels
        epochs : int
        batch_size : int or None
            None: full-batch gradient descent.
        shuffle : bool
            Go through the examples in a new order each epoch.
        drop_last : bool
            Whether the last batch of an epoch is left out where it is smaller than the others: with `shuffle` other
            examples each epoch. Costs are means over what was trained.
        optimizer : optimizer, "sgd", "adam", "adamw", "rmsprop" or "adagrad", optional
            Default SGD(0.1). `nnkern.schedules` has what its learning rate and weight decay may go by.
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
        metrics : name, function or list of them
            What the history has of the held-out examples beside cost and score: "val_error", "val_auc", "val_rmse",
            "val_mae", or a function f(targets, outputs) -> float, as `EarlyStopping` describes them for `monitor`.
        callbacks : callback or list of them
            See `nnkern.callbacks`.
        progress : bool
            Show epochs, cost, score and time left on standard error.
        resume : bool
            Keep the optimizer's state, the count of epochs and the random streams of the last fit. A network that is
            new has none, and its training begins: so a script may always resume, also where it is run for the first
            time. One with parameters from elsewhere, as of a file that was saved without ``training_state``, brings a
            warning, and goes on from these with all else afresh.
        threads : int, optional
            At most this many threads; results don't depend on it.
        rows : bool
            Whether examples are the rows of X, (m, n_x), and Y, (m, n_y) or (m,), in batches and validation_data too:
            as in scikit-learn, and in the batches that torch's DataLoader gives. An X of more dimensions, (m, …), is
            flattened.
        comm : communicator, optional
            Train together with the other processes of an MPI communicator: mpi4py's, or anything with its methods
            Get_rank, Get_size and Allreduce. Each process calls `fit` with its own shard of the examples, or its own
            iterable of batches, and the same settings. `batch_size` counts examples over all of them; each step, a
            process computes the gradient of its share, and their sum is what all step by. All begin with the parameters
            of rank 0 and end with the same. See the page "Several machines" of the documentation.
        deadline : float
            Seconds, > 0, that a process waits for the others with `comm`; then the training ends with a RankError.

        Returns
        -------
        history : dict of lists
            "cost": the mean over the epoch's batches of J before each update, each batch weighted by its number of
            examples, or by the sum of their weights;
            "learning_rate"; "seconds"; "val_cost" and "val_score" with validation data, and the metrics; "score" with
            progress.

        Raises
        ------
        ValueError, TypeError
            Something handed in doesn't fit; the network is as it was.
        DivergenceError
            The cost became NaN or infinite; the parameters are those of the last whole epoch.
        RankError
            With `comm`: another process has failed or is missing; likewise.
        """

        def asked():
            how = {"drop_last": drop_last, "metrics": metrics, "progress": progress, "resume": resume}
            return Options(
                epochs, batch_size, shuffle, optimizer, class_weight, callbacks, threads=threads, rows=rows, **how
            )

        if comm is not None:
            data, held_out = (X, Y, sample_weight), (validation_data, validation_split)
            return together.fit(self, asked, data, held_out, comm, deadline)
        options = asked()
        if Y is not None:
            fit = fit_of_arrays(self, options, (X, Y, sample_weight), validation_data, validation_split)
        elif sample_weight is not None or validation_split:
            refuse_with_batches()
        else:
            fit = fit_of_batches(self, options, X, validation_data)
        run([fit], options.threads)
        return fit.history

    def partial_fit(self, X, Y, *, optimizer=None, sample_weight=None, class_weight=None, rows=False):
        """One step on one batch of a stream; the optimizer's state is kept from call to call.

        Parameters
        ----------
        X : (n_x, m) array
        Y : (n_y, m) array, or labels
        optimizer : optimizer, "sgd", "adam", "adamw", "rmsprop" or "adagrad", optional
            Default: the last one, or SGD(0.1). Another kind starts with a fresh state.
        sample_weight : (m,) array, optional
        class_weight : dict or sequence, optional
            As in `fit`.
        rows : bool
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
        state = self._state
        if rows is not False and validation.flag("rows", rows):
            X, Y = state.columns(X, Y)
            with validation.told_of_columns():
                return Network.partial_fit(
                    self, X, Y, optimizer=optimizer, sample_weight=sample_weight, class_weight=class_weight
                )
        if sample_weight is None and class_weight is None:
            cost = state.steady_step(X, Y, optimizer)
            if cost is not None:
                return cost
        given = optimizer
        optimizer = take_optimizer(state.last_optimizer() if optimizer is None else optimizer)
        data = state.data(X, Y, sample_weight, validation.unbalanced(class_weight), n_x=self.n_x)
        if state.engine is None:
            self.initialize(data[0].shape[0], data[0])
        state.check_trainable()
        with state.stepping(optimizer):
            cost = runners.step(state, data, state.rate_of_step(optimizer))
        state.note_step(optimizer if given is None else given)
        return cost

    # What it looks like

    def summary(self):
        """Layers, shapes and numbers of parameters, as an object that prints well."""
        return Summary(self)

    def __repr__(self):
        n_x, *outputs = kinds.outputs(self.layers, self.n_x)
        parts = [f"{n or '?'} {layer.label}" for n, layer in zip(outputs, self.layers, strict=True)]
        return f"<Network {n_x or '?'} → {' → '.join(parts)}, {self.loss}, {numbers_of(self)}>"

    def __eq__(self, other):
        """Networks are equal when configuration and parameters are, to the bit."""
        if not isinstance(other, Network):
            return NotImplemented
        if self.config() != other.config() or self.n_x != other.n_x:
            return False
        return self.n_x is None or all(np.array_equal(a, other.parameters[k]) for k, a in self.parameters.items())

    __hash__ = None

    def config(self):
        """What the network is, but for its parameters: a dict that JSON can hold."""
        return self._state.description(self.metadata).config()

    @classmethod
    def from_config(cls, config):
        """A network without parameters, from what `config` returned."""
        config = dict(config)
        return cls([kinds.from_dict(layer) for layer in config.pop("layers")], config.pop("loss"), **config)

    def to_model(self, training_state=False):
        """The network as plain data, for files and other formats.

        Parameters
        ----------
        training_state : bool
            Whether it has what ``fit(…, resume=True)`` goes on from.

        Returns
        -------
        nnkern.model.Model
            Its arrays are views: copy what shall outlive the next training.
        """
        return self._state.model(self.metadata, validation.flag("training_state", training_state))

    @classmethod
    def from_model(cls, model):
        """The network that a Model describes, with its training state where it has that.

        Parameters
        ----------
        model : nnkern.model.Model
            Its arrays are copied.

        Raises
        ------
        ValueError, TypeError
            An array has another name or shape than the layers say, or holds no numbers.
        """
        net = cls.__new__(cls)  # the constructor of a subclass may have other parameters
        options = {name: getattr(model, name) for name in ("l2", "l1", "dtype", "compute", "seed")}
        Network.__init__(net, model.layers, model.loss, **options)
        net.metadata = model.metadata
        of(net).take(model)
        return net

    def __getstate__(self):
        model = self.to_model(training_state=True)
        model.parameters, model.training = copy.deepcopy((model.parameters, model.training))
        more = {name: value for name, value in vars(self).items() if name not in ("_state", "metadata")}
        return {"model": model, "attributes": more}

    def __setstate__(self, state):
        vars(self).update(vars(Network.from_model(state["model"])) | state["attributes"])
