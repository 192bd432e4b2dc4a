"""scikit-learn's MLPClassifier and MLPRegressor: what a Model is made into and read from."""

import math

import numpy as np

from nnkern._optional import require
from nnkern.convert import forms
from nnkern.convert.chain import Chain
from nnkern.exceptions import ModelFormatError, NotFittedError


def _dense(l, layer, W, b=None, a=None):
    if a is not None:
        raise ValueError(f"scikit-learn's MLPs don't mix activations, as layer {l} does")
    name = forms.FORMS[layer.activation].sklearn
    if name is None:
        raise ValueError(f"scikit-learn's MLPs have no {layer.activation}, which layer {l} has")
    return name, np.array(W.T, order="C"), np.zeros(len(W), W.dtype) if b is None else b[:, 0].copy()


def _none(l, layer, **parameters):
    raise ValueError(f"scikit-learn's MLPs have dense layers only; layer {l} is of the kind {layer.kind}")


LAYERS = {"dense": _dense, "scale": _none, "encode": _none}
"""For each kind of layer: a function (l, layer, **parameters) -> (activation, coefficients, intercepts)."""


def write(model):
    """A fitted MLPClassifier or MLPRegressor with a copy of the parameters. See Network.to_sklearn."""
    require("sklearn", "to_sklearn")
    layers = [LAYERS[layer.kind](l, layer, **parameters) for l, layer, parameters in model.numbered_layers()]
    names, coefficients, intercepts = (list(part) for part in zip(*layers, strict=True))
    hidden = set(names[:-1])
    if len(hidden) > 1:
        raise ValueError(
            f"scikit-learn's MLPs have one activation for all hidden layers; here are {', '.join(names[:-1])}"
        )
    if "softmax" in hidden:
        raise ValueError("scikit-learn's MLPs have softmax at the output only")
    sizes = model.sizes
    options = {"hidden_layer_sizes": sizes[1:-1], "activation": hidden.pop() if hidden else "identity"}
    mlp = _classifier(model, options) if model.loss.classifies else _regressor(model, names[-1], options)
    mlp.coefs_, mlp.intercepts_, mlp.out_activation_ = coefficients, intercepts, names[-1]
    mlp.n_layers_, mlp.n_outputs_, mlp.n_features_in_ = len(sizes), sizes[-1], sizes[0]
    mlp.n_iter_ = model.training.progress["epochs_done"] if model.training else 0
    mlp.t_, mlp.loss_curve_, mlp.loss_ = 0, [], math.nan
    return mlp


def _classifier(model, options):
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import LabelBinarizer

    sides = model.loss.score == "sides"
    count = 2 if sides and model.n_y == 1 else model.n_y
    classes = np.asarray(model.metadata.get("classes", np.arange(count)))
    if classes.shape != (count,):
        raise ValueError(f'net.metadata["classes"] has shape {classes.shape}; the network tells {count} apart')
    mlp = MLPClassifier(**options)
    several = sides and model.n_y > 1  # labels at once, each of which an example has or not
    mlp._label_binarizer = LabelBinarizer().fit(np.eye(count, dtype=int) if several else classes)
    mlp.classes_ = classes
    return mlp


def _regressor(model, output, options):
    from sklearn.neural_network import MLPRegressor

    if output == "identity":
        return MLPRegressor(**options)
    if output == "exp":
        return MLPRegressor(loss="poisson", **options)
    raise ValueError(f"an MLPRegressor's output is linear or exp; this one is {model.layers[-1].activation}")


def read(mlp, loss=None):
    """The Model of a fitted MLPClassifier or MLPRegressor, with copies of its parameters. See nnkern.from_sklearn."""
    if not hasattr(mlp, "hidden_layer_sizes") or not hasattr(mlp, "activation"):
        raise TypeError(f"model must be an MLPClassifier or MLPRegressor; got {type(mlp).__name__}")
    if not hasattr(mlp, "coefs_"):
        raise NotFittedError(f"this {type(mlp).__name__} isn't fitted yet")
    chain, last = Chain(), len(mlp.coefs_) - 1
    for i, (W, b) in enumerate(zip(mlp.coefs_, mlp.intercepts_, strict=True)):
        where = f"layer {i + 1}"
        chain.dense(np.array(W.T), np.array(b), where)
        given = mlp.activation if i < last else mlp.out_activation_
        name = next((name for name, form in forms.FORMS.items() if form.sklearn == given), None)
        if name is None:
            raise ModelFormatError(f"{where}: the activation {given!r} can't be taken")
        chain.activate(name, None, where)
    model = chain.model(loss)
    if hasattr(mlp, "classes_") and not isinstance(mlp.classes_, list):
        model.metadata["classes"] = mlp.classes_.tolist()
    return model
