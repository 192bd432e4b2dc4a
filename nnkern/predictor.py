"""The frozen predictor of one network: what `Network.compile_predict` makes, and what reduced weights cost.

Here is what goes into one and how users' input is validated; packing and prediction are _predictor's. It knows a
network only as the Model that it is made from, and as what it is compared with.
"""

from dataclasses import dataclass

import numpy as np

from nnkern import _kernels, _predictor, validation
from nnkern.layers import Dense
from nnkern.model import Model
from nnkern.state import State

# From here on a float32 is rounded to infinity: halfway from the largest bfloat16 to what would be the next.
_BFLOAT16_INFINITY = float.fromhex("0x1.ffp127")


def compile(model, *, weights=None, compute=None, threads=None):
    """A Predictor with the present weights of a Model; see `Network.compile_predict`."""
    dtype, asked_for = model.dtype.name, weights
    if weights is None:
        weights = model.compute or dtype
    validation.choice("weights", weights, tuple(_predictor.WEIGHTS))
    if compute is not None:
        validation.choice("compute", compute, tuple(dict.fromkeys((_predictor.WEIGHTS[weights][0].__name__, weights))))
    threads = validation.threads(threads)
    for l, layer in enumerate(model.layers, start=1):
        if layer.kind not in LAYERS or layer.mix:
            if asked_for not in (None, dtype) or compute not in (None, dtype):
                raise ValueError(
                    f"layer {l}, {layer.label}, isn't packed: a network with it is predicted in its own precision; "
                    "leave weights and compute away"
                )
            return UnpackedPredictor(model, threads)
    layers = [
        LAYERS[layer.kind](l, layer, weights if weights != dtype else None, **parameters)
        for l, layer, parameters in model.numbered_layers()
    ]
    return Predictor(layers, weights, threads, compute not in (None, weights))


def _dense(l, layer, weights, W, b=None):
    if weights is not None:
        W = _converted(f"W{l}", W, weights)
        b = None if b is None else _converted(f"b{l}", b, np.dtype(_predictor.WEIGHTS[weights][0]).name)
    return W, b, _kernels.ACTIVATIONS.index(layer.activation), layer.negative_slope


LAYERS = {"dense": _dense}
"""For each kind of layer that is packed: a function (l, layer, weights, **parameters) that returns what _predictor
packs; `weights` is None where the parameters stay as they are."""


def _converted(name, array, weights):
    """In the type of the arithmetic; refused where an entry isn't finite, or isn't there any more."""
    dtype = np.dtype(_predictor.WEIGHTS[weights][0])
    with np.errstate(over="ignore"):
        array = array.astype(dtype)
    if weights == "bfloat16":
        array = np.where(np.abs(array) >= _BFLOAT16_INFINITY, np.inf, array)
    return validation.parameter(f"{name} in {weights}", array, array.shape, dtype)


# Z of the outputs A of a layer, where its activation goes with a loss
_INVERSES = {
    None: lambda A: A,
    "softmax": np.log,
    "exp": np.log,
    "sigmoid": lambda A: np.log(A) - np.log1p(-A),
}


def _inverse(loss, A):
    """Z of the output layer, in float64; where A was rounded to 0 or 1, of what is next to that."""
    A = A.astype(np.float64)
    if loss.output is not None:
        A = A.clip(np.finfo(np.float32).tiny, 1 - 2.0**-53 if loss.output == "sigmoid" else None)
    return _INVERSES[loss.output](A)


def _output_alone(model):
    """The Model of a network that does no more than apply the output's activation to its inputs."""
    layer, W = Dense(model.n_y, model.loss.output or "linear", use_bias=False), np.eye(model.n_y)
    return Model([layer], model.loss, n_x=model.n_y, parameters={"W1": W}, dtype="float64")


class Reporting:
    """What predictors are handed, and what they tell of themselves."""

    def validated(self, X, out):
        X = validation.examples(X, self.n_x, self.dtype, finite=False)
        return X, _kernels.output("out", out, self.n_y, X.shape[1], self.dtype.num, [("X", X)])

    def report(self, net, X, Y=None):
        """What the predictor's weights cost beside those of a network, on data.

        Parameters
        ----------
        net : Network
            The one that the predictor was made from, or another with the same layers.
        X : (n_x, m) array
        Y : (n_y, m) array, or labels, optional
            With it cost and score of both are told.

        Returns
        -------
        PredictorReport

        Raises
        ------
        NotFittedError, ValueError, TypeError
            The network has no parameters yet, or other layers; X or Y doesn't fit or isn't finite.
        """
        parameters, theirs = self.parameters, net.parameters
        shapes = {name: array.shape for name, array in parameters.items()}
        if shapes != {name: array.shape for name, array in theirs.items()}:
            raise ValueError(f"the network {net!r} has other layers than the predictor, {self!r}")
        model = net.to_model()
        X = validation.examples(X, self.n_x, model.dtype, finite=True)
        A, mine = net.predict(X), self.predict(X)
        difference = np.abs(mine.astype(np.float64) - A)
        agreement = None
        if model.loss.classifies:
            if model.loss.score == "argmax":
                same = A.argmax(axis=0) == mine.argmax(axis=0)
            else:
                same = ((A > 0.5) == (mine > 0.5)).all(axis=0)
            agreement = float(np.mean(same))
        evaluation = network_evaluation = None
        if Y is not None:
            network_evaluation = net.evaluate(X, Y)
            evaluation = type(net).from_model(_output_alone(model)).evaluate(_inverse(model.loss, mine), Y)
        return PredictorReport(
            weights=self.weights,
            nbytes=self.nbytes,
            network_nbytes=sum(array.nbytes for array in theirs.values()),
            examples=X.shape[1],
            largest_difference=float(difference.max()),
            mean_difference=float(difference.mean()),
            agreement=agreement,
            evaluation=evaluation,
            network_evaluation=network_evaluation,
        )

    def __repr__(self):
        return f"<Predictor {self.n_x} → {self.n_y}, {self.weights} weights, {self.nbytes:,} bytes>"


class Predictor(Reporting, _predictor.Packed):
    """A network that no longer changes: its weights are a copy, packed for prediction. See `Network.compile_predict`.

    Attributes
    ----------
    weights : str
        What the weights are kept in: "float32", "float64", "bfloat16" or "int8".
    dtype : numpy dtype
        Of the arithmetic and of what is predicted: float32, or float64 for float64 weights.
    n_x, n_y : int
        Numbers of features and of outputs.
    nbytes : int
        Memory of the packed weights, biases and scales.
    threads : int or None
    parameters : dict
        {"W1": (n[1], n_x), "b1": (n[1], 1), …}: copies of what is computed with, reduced weights widened.
    """


class UnpackedPredictor(Reporting):
    """The same for a network with layers that aren't packed: it is predicted by the engine, on a copy."""

    def __init__(self, model, threads):
        self._state = State(model)
        self._state.make_engine(model.n_x)
        self._state.set_parameters(model.parameters)
        self.weights, self.dtype, self.threads = model.dtype.name, model.dtype, threads
        self.n_x, self.n_y = model.n_x, model.n_y
        self.nbytes = self._state.engine.theta.nbytes

    @property
    def parameters(self):
        """Copies of the parameters, by name."""
        return {name: view.copy("K") for name, view in self._state.parameters().items()}

    def predict(self, X, out=None):
        """A[L] (n_y, m) for the examples in X (n_x, m); see `Network.predict`."""
        engine = self._state.engine
        A = engine.predict_fast(X, out, self.threads)
        if A is not None:
            return A
        return engine.predict(*self.validated(X, out), self.threads)

    __call__ = predict

    def __reduce__(self):
        raise TypeError("a predictor can't be pickled: pickle the network, and compile it where it is loaded")


@dataclass(frozen=True)
class PredictorReport:
    """What a predictor's weights cost beside its network's: prints as a table.

    largest_difference and mean_difference are those of the outputs; agreement is the share of the examples that get the
    same labels, None for a network that predicts numbers; the evaluations (cost, score) are None without Y.
    """

    weights: str
    nbytes: int
    network_nbytes: int
    examples: int
    largest_difference: float
    mean_difference: float
    agreement: float | None
    evaluation: tuple | None
    network_evaluation: tuple | None

    def __str__(self):
        rows = [
            ("weights", f"{self.weights}, {self.nbytes:,} bytes; the network's {self.network_nbytes:,}"),
            ("examples", f"{self.examples:,}"),
            ("difference of outputs", f"largest {self.largest_difference:.3g}, mean {self.mean_difference:.3g}"),
        ]
        if self.agreement is not None:
            rows.append(("same labels", f"{self.agreement:.4%}"))
        if self.evaluation is not None:
            rows += [
                (name, f"{mine:.6g}; the network's {theirs:.6g}")
                for name, mine, theirs in zip(("cost", "score"), self.evaluation, self.network_evaluation, strict=True)
            ]
        return "\n".join(f"{name:<21}  {value}" for name, value in rows)
