"""Networks to and from the objects of other libraries: torch's modules, scikit-learn's MLPs; and the chain of maps that
they, and ONNX, are read as.

It knows networks; networks know it only where one of their methods calls it.
"""

import math
from os import PathLike
from typing import Any

import numpy as np

from nnkern import formats, losses
from nnkern._optional import require
from nnkern.exceptions import ModelFormatError, NotFittedError
from nnkern.layers import Dense
from nnkern.network import Network
from nnkern.state import of

# The only parameter of a torch module that is judged otherwise than by being equal: softplus is z itself from the
# threshold on, which at 20 (torch's default) is off by 2e-9 at most.
_TORCH_JUDGES = {"threshold": lambda value, _: value >= 20}


class Chain:
    """Dense layers as other libraries write them, one map after another: dense, entry by entry, activation.

    What is entry by entry (standardisation, batch normalisation) is folded into the weights before or after it. `where`
    names the map in the errors.
    """

    def __init__(self):
        self._layers = []  # [W, b or None, activation or None, slope, dropout, where]
        self._scale = self._shift = None  # what the next layer's input still has to be multiplied by, and added to

    def dense(self, W, b, where):
        """A = W A_prev + b; W (n, n_prev), b (n,) or None."""
        if W.ndim != 2 or 0 in W.shape or (b is not None and b.shape != W.shape[:1]):
            raise ModelFormatError(f"{where}: W has shape {W.shape}, b {None if b is None else b.shape}")
        dtypes = {array.dtype for array in (W, b) if array is not None}
        dtypes |= {layer[0].dtype for layer in self._layers[:1]}
        if len(dtypes) > 1 or next(iter(dtypes)) not in (np.float32, np.float64):
            names = " and ".join(sorted(map(str, dtypes)))
            raise ModelFormatError(f"{where}: the parameters are {names}; all must be float32, or all float64")
        if self._layers and self._layers[-1][0].shape[0] != W.shape[1]:
            raise ModelFormatError(f"{where}: it takes {W.shape[1]} numbers, but gets {self._layers[-1][0].shape[0]}")
        dtype = W.dtype
        if self._shift is not None:
            b = (0 if b is None else b.astype(np.float64)) + W @ self._broadcast(self._shift, W.shape[1], where)
        if self._scale is not None:
            W = W * self._broadcast(self._scale, W.shape[1], where)
        self._scale = self._shift = None
        W, b = W.astype(dtype, copy=False), None if b is None else b.astype(dtype, copy=False)
        self._layers.append([W, b, None, 0.01, 0.0, where])

    def affine(self, scale, shift, where):
        """A = scale A_prev + shift entry by entry; each (n,), or one number, or None."""
        scale = None if scale is None else np.asarray(scale, np.float64)
        shift = None if shift is None else np.asarray(shift, np.float64)
        if not self._layers or self._layers[-1][2] is not None:
            # scale (before_scale x + before_shift) + shift
            if scale is not None:
                self._scale = scale if self._scale is None else self._scale * scale
                self._shift = None if self._shift is None else self._shift * scale
            if shift is not None:
                self._shift = shift if self._shift is None else self._shift + shift
            self._after = where
            return
        W, b, *_ = self._layers[-1]
        if scale is not None:
            W = (W * self._broadcast(scale, len(W), where)[:, None]).astype(W.dtype)
            b = None if b is None else (b * scale).astype(W.dtype)
        if shift is not None:
            b = ((0 if b is None else b) + self._broadcast(shift, len(W), where)).astype(W.dtype)
        self._layers[-1][:2] = W, b

    @staticmethod
    def _broadcast(vector, n, where):
        if vector.size not in (1, n):
            raise ModelFormatError(f"{where}: {vector.size} numbers meet {n}")
        return np.broadcast_to(vector.reshape(-1), (n,))

    def activate(self, name, slope, where):
        """A = g(A_prev)."""
        if name == "linear":
            return
        if self._scale is not None or self._shift is not None or not self._layers or self._layers[-1][2] is not None:
            raise ModelFormatError(f"{where}: the activation {name} doesn't follow a dense layer")
        if self._layers[-1][4] and name not in ("relu", "leaky_relu"):
            # g(0) = 0 and g(cz) = c g(z) for c > 0: dropping before or after them is the same
            raise ModelFormatError(
                f"{where}: dropout before {name}; nnkern drops what a layer gives, after its activation"
            )
        self._layers[-1][2] = name
        if slope is not None:
            self._layers[-1][3] = slope

    def drop(self, p, where):
        """Dropout in training."""
        if p and (not self._layers or self._layers[-1][4]):
            raise ModelFormatError(f"{where}: dropout that doesn't follow a dense layer")
        if p:
            self._layers[-1][4] = p

    def network(self, loss=None):
        """The network; its loss is the one that its output's activation belongs to, where none is named."""
        if not self._layers:
            raise ModelFormatError("there is no dense layer in it")
        if self._scale is not None or self._shift is not None:
            raise ModelFormatError(f"{self._after}: it has no dense layer after it or straight before it")
        last = self._layers[-1]
        if loss is None:
            matched = (each.name for each in losses.LOSSES.values() if each.output == last[2])
            loss = "squared_error" if last[2] is None else next(matched, "squared_error")
        elif last[2] is None:
            last[2] = losses.get(loss).output
        layers = []
        for W, b, activation, slope, dropout, where in self._layers:
            try:
                layers.append(
                    Dense(
                        len(W),
                        activation or "linear",
                        dropout=dropout,
                        use_bias=b is not None,
                        negative_slope=float(slope),
                    )
                )
            except ValueError as error:
                raise ModelFormatError(f"{where}: {error}") from error
        net = Network(layers, loss, dtype=self._layers[0][0].dtype)
        of(net).make_engine(self._layers[0][0].shape[1])
        parameters = net.parameters
        for l, (W, b, *_) in enumerate(self._layers, start=1):
            parameters[f"W{l}"][...] = W
            if b is not None:
                parameters[f"b{l}"][...] = b.reshape(-1, 1)
        return net


def from_onnx(path: str | PathLike[str], *, loss: str | None = None) -> Network:
    """The network in an ONNX file: any chain of dense layers and activations.

    Taken are Gemm, MatMul with Add, Sub, Mul, Div by constants, the activations in every form that this package or
    torch's and scikit-learn's exporters give them, BatchNormalization (folded into the weights), and Identity, Dropout,
    Flatten, Reshape and Cast where they change nothing. Of a classifier that gives labels too, the probabilities are
    taken; where these are (1 - p, p), the network gives p.

    Parameters
    ----------
    path : str or path
    loss : str, optional
        Default: the one that the output's activation belongs to, else squared_error. A loss that needs an output
        activation is given it where the chain ends without one (in logits).

    Returns
    -------
    Network
        Its features are the model's, flattened: X is (n_x, m) here, (m, n_x) there.

    Raises
    ------
    ModelFormatError
        The file is damaged, or holds what can't be taken: the first such node is named, or the outputs where
        several are networks.
    MissingPackageError
        The package onnx isn't installed.
    OSError
        The file can't be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import nnkern as nk
    >>> net = nk.Network([nk.Dense(4, "tanh"), nk.Dense(3, "softmax")], "cross_entropy", n_x=2, seed=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "net.onnx")
    >>> net.to_onnx(path)
    >>> nk.from_onnx(path)
    <Network 2 → 4 tanh → 3 softmax, cross_entropy, float32>
    """
    from nnkern import onnx

    return onnx.load(path, loss)


def from_torch(model: Any, *, loss: str | None = None) -> Network:
    """The network of a torch.nn.Sequential, with a copy of its parameters.

    Parameters
    ----------
    model : torch.nn.Sequential
        Of Linear, activations, Dropout, Identity, Flatten before the first Linear, BatchNorm1d (folded into the weights
        as it predicts), and Sequentials of these.
    loss : str, optional
        Default: the one that the output's activation belongs to, else squared_error. A loss that needs an output
        activation is given it where the model ends without one (in logits, as torch's own losses take them).

    Returns
    -------
    Network

    Raises
    ------
    ModelFormatError
        A module can't be taken; it is named.
    TypeError
        The model is no Sequential.

    Examples
    --------
    >>> import torch
    >>> import nnkern as nk
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    >>> nk.from_torch(model, loss="cross_entropy")
    <Network 2 → 4 relu → 3 softmax, cross_entropy, float32>
    """
    nn = require("torch", "from_torch").nn
    if type(model) is not nn.Sequential:
        raise TypeError(f"model must be a torch.nn.Sequential; got {type(model).__name__}")
    chain = Chain()
    for name, module in _leaves(nn, model):
        where = f"module {name} ({type(module).__name__})"
        kind = type(module)
        if kind is nn.Linear:
            chain.dense(_numpy(module.weight, where), _numpy(module.bias, where), where)
        elif kind is nn.Dropout:
            chain.drop(module.p, where)
        elif kind is nn.BatchNorm1d and module.track_running_stats:
            chain.affine(
                *normalisation(
                    _numpy(module.weight, where),
                    _numpy(module.bias, where),
                    _numpy(module.running_mean, where),
                    _numpy(module.running_var, where),
                    module.eps,
                ),
                where,
            )
        elif kind is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            continue
        else:
            chain.activate(*_activation_of_torch(nn, module, where), where)
    return chain.network(loss)


def normalisation(scale, shift, mean, variance, eps):
    """(scale, shift) of the entry-by-entry map that batch normalisation is when it predicts."""
    factor = 1 / np.sqrt(variance.astype(np.float64) + eps)
    if scale is not None:
        factor = factor * scale
    return factor, (0 if shift is None else shift) - mean * factor


def _leaves(nn, model, prefix=""):
    for name, module in model.named_children():
        if type(module) is nn.Sequential:
            yield from _leaves(nn, module, f"{prefix}{name}.")
        else:
            yield prefix + name, module


def _numpy(tensor, where):
    if tensor is None:
        return None
    tensor = tensor.detach().cpu()
    if not tensor.is_floating_point() or tensor.element_size() not in (4, 8):
        raise ModelFormatError(f"{where}: the parameters are {tensor.dtype}; they must be float32 or float64")
    return tensor.numpy().copy()


def _activation_of_torch(nn, module, where):
    """(name, slope or None)"""
    for name, form in formats.FORMS.items():
        if form.torch is None or type(module) is not getattr(nn, form.torch[0], None):
            continue
        slope, fits = None, True
        for key, value in form.torch[1].items():
            found = getattr(module, key)
            if value == formats.SLOPE:
                slope = found
            elif key == "dim":
                fits = fits and found in (1, -1)
            else:
                fits = fits and _TORCH_JUDGES.get(key, lambda a, b: a == b)(found, value)
        if fits:
            return name, slope
    raise ModelFormatError(f"{where} can't be taken: {module!r}")


def to_torch(net):
    """See Network.to_torch."""
    torch = require("torch", "to_torch")
    of(net).fitted().check_untrained()
    dtype, parameters = getattr(torch, net.dtype.name), net.parameters
    modules, l = [], 0
    for name, arguments in formats.torch_modules(net.layers):
        if name is None:
            raise ValueError(f"torch has no module for the activation {arguments} of layer {l}")
        if name != "Linear":
            modules.append(getattr(torch.nn, name)(**arguments))
            continue
        l += 1
        W, b = parameters[f"W{l}"], parameters.get(f"b{l}")
        linear = torch.nn.Linear(W.shape[1], W.shape[0], bias=b is not None, dtype=dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(np.array(W, order="C")))
            if b is not None:
                linear.bias.copy_(torch.from_numpy(b[:, 0].copy()))
        modules.append(linear)
    return torch.nn.Sequential(*modules).eval()


def from_sklearn(model: Any, *, loss: str | None = None) -> Network:
    """The network of a fitted scikit-learn MLPClassifier or MLPRegressor, with a copy of its parameters.

    Its labels, where it is a classifier, are kept as ``net.metadata["classes"]``: the network's labels are their
    positions in that list.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
    loss : str, optional
        Default: the one that the output's activation belongs to, else squared_error.

    Returns
    -------
    Network

    Raises
    ------
    NotFittedError
        The model isn't fitted.
    TypeError
        It is another estimator.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> import nnkern as nk
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((50, 3)), rng.standard_normal(50)
    >>> model = MLPRegressor(hidden_layer_sizes=[4], max_iter=2000).fit(X, y)
    >>> net = nk.from_sklearn(model)
    >>> np.allclose(net.predict(X.T)[0], model.predict(X))
    True
    """
    if not hasattr(model, "hidden_layer_sizes") or not hasattr(model, "activation"):
        raise TypeError(f"model must be an MLPClassifier or MLPRegressor; got {type(model).__name__}")
    if not hasattr(model, "coefs_"):
        raise NotFittedError(f"this {type(model).__name__} isn't fitted yet")
    chain, last = Chain(), len(model.coefs_) - 1
    for i, (W, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        where = f"layer {i + 1}"
        chain.dense(np.array(W.T), np.array(b), where)
        given = model.activation if i < last else model.out_activation_
        name = next((name for name, form in formats.FORMS.items() if form.sklearn == given), None)
        if name is None:
            raise ModelFormatError(f"{where}: the activation {given!r} can't be taken")
        chain.activate(name, None, where)
    net = chain.network(loss)
    if hasattr(model, "classes_") and not isinstance(model.classes_, list):
        net.metadata["classes"] = model.classes_.tolist()
    return net


def to_sklearn(net):
    """See Network.to_sklearn."""
    require("sklearn", "to_sklearn")
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import LabelBinarizer

    of(net).fitted().check_untrained()
    parameters = net.parameters
    names = []
    for l, layer in enumerate(net.layers, start=1):
        name = formats.FORMS[layer.activation].sklearn
        if name is None:
            raise ValueError(f"scikit-learn's MLPs have no {layer.activation}, which layer {l} has")
        names.append(name)
    hidden = set(names[:-1])
    if len(hidden) > 1:
        raise ValueError(
            f"scikit-learn's MLPs have one activation for all hidden layers; here are {', '.join(names[:-1])}"
        )
    if "softmax" in hidden:
        raise ValueError("scikit-learn's MLPs have softmax at the output only")
    sizes = [layer.units for layer in net.layers[:-1]]
    options = {"hidden_layer_sizes": sizes, "activation": hidden.pop() if hidden else "identity"}
    if of(net).loss.classifies:
        model = MLPClassifier(**options)
        count = 2 if net.loss == "binary_cross_entropy" and net.n_y == 1 else net.n_y
        classes = np.asarray(net.metadata.get("classes", np.arange(count)))
        if classes.shape != (count,):
            raise ValueError(f'net.metadata["classes"] has shape {classes.shape}; the network tells {count} apart')
        model._label_binarizer = LabelBinarizer()
        if net.loss == "binary_cross_entropy" and net.n_y > 1:
            model._label_binarizer.fit(np.eye(count, dtype=int))
        else:
            model._label_binarizer.fit(classes)
        model.classes_ = classes
    elif names[-1] == "identity":
        model = MLPRegressor(**options)
    elif names[-1] == "exp":
        model = MLPRegressor(loss="poisson", **options)
    else:
        raise ValueError(f"an MLPRegressor's output is linear or exp; this one is {net.layers[-1].activation}")
    model.coefs_ = [np.array(parameters[f"W{l}"].T, order="C") for l in range(1, net.L + 1)]
    zeros = [np.zeros(layer.units, net.dtype) for layer in net.layers]
    model.intercepts_ = [
        parameters[f"b{l}"][:, 0].copy() if layer.use_bias else zeros[l - 1]
        for l, layer in enumerate(net.layers, start=1)
    ]
    model.n_layers_, model.n_outputs_, model.n_features_in_ = net.L + 1, net.n_y, net.n_x
    model.out_activation_ = names[-1]
    model.n_iter_, model.t_, model.loss_curve_, model.loss_ = of(net).epochs_done, 0, [], math.nan
    return model
