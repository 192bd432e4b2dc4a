"""Networks from files and from other libraries' objects: nnkern's own files, ONNX, torch, scikit-learn.

Reading itself is in files/ and convert/, which know no Network; here each Model becomes one.
"""

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from typing import IO, Any

from nnkern import _optional, names
from nnkern.losses import Custom
from nnkern.network import Network


def load(path: str | PathLike[str] | bytes | IO[bytes], *, loss: Callable[..., Any] | None = None) -> Network:
    """The network in a file that `Network.save` wrote.

    Parameters
    ----------
    path : str, path or file object
        The file of a name that ends in ".safetensors" is read as that, any other as an .npz archive. What a file object
        holds from where it stands is read as what it is, whatever its name; the object must be open for reading bytes
        and able to seek.
    loss : function, optional
        The one that the network was trained by, where its loss is a Python function: a file holds its name alone.
        Without it the network predicts, and can't be evaluated or trained on.

    Returns
    -------
    Network
        With its training state, where the file has that: ``fit(…, resume=True)`` goes on from there.

    Raises
    ------
    ModelFormatError
        The file is damaged, no model file, or of a newer format.
    OSError
        It can't be read.
    ValueError
        The name ends as another format's do, and the message says what reads that; a file object can't be read, or
        not seek; or a loss is given, and the network's has a name of its own.
    TypeError
        It is neither a path nor a file object for bytes, or the loss no function.

    Examples
    --------
    >>> import os, tempfile
    >>> import nnkern as nk
    >>> layers = [nk.Dense(1, "sigmoid")]
    >>> net = nk.Network(layers, "binary_cross_entropy", n_x=3, seed=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "net.npz")
    >>> net.save(path)
    >>> nk.load(path) == net
    True

    Without a file on a disk:

    >>> import io
    >>> file = io.BytesIO()
    >>> net.save(file)
    >>> nk.load(io.BytesIO(file.getvalue())) == net
    True
    """
    with _optional.loading():  # of zipfile, or of numpy's random numbers, which numpy imports when they are asked for
        from nnkern.files import model_file

        model = model_file.read(path)
        if loss is not None:
            if not isinstance(model.loss, Custom):
                raise ValueError(
                    "loss is for networks whose loss is a Python function; that of this one is "
                    f"{model.loss.name}, which its file has"
                )
            model = replace(model, loss=model.loss.with_function(loss))
        return Network.from_model(model)


def from_onnx(path: str | PathLike[str], *, loss: names.Loss | None = None) -> Network:
    """The network in an ONNX file: any chain of dense layers and activations.

    Taken are Gemm, MatMul with Add, Sub, Mul, Div by constants, the activations in every form that this package or
    torch's and scikit-learn's exporters give them, BatchNormalization, and Identity, Dropout, Flatten, Reshape and Cast
    where they change nothing. What is entry by entry is folded into the weights before or after it; factors with no
    weights beside them become a Scale. Of a classifier that gives labels too, the probabilities are taken; where these
    are (1 - p, p), the network gives p.

    A model older than opset 9 is brought to that by onnx's own version converter first. Before opset 7 that needs the
    shape of the input, and takes what has a shape in it: of opset 5 and older no sums, and no Gemm.

    Parameters
    ----------
    path : str or path
    loss : {"binary_cross_entropy", "cross_entropy", "squared_error", "absolute_error", "huber", "quantile", "poisson"}
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
        several are networks; or the version converter can't take an old one.
    MissingPackageError
        The package onnx isn't installed.
    OSError
        The file can't be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import nnkern as nk
    >>> layers = [nk.Dense(4, "tanh"), nk.Dense(3, "softmax")]
    >>> net = nk.Network(layers, "cross_entropy", n_x=2, seed=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "net.onnx")
    >>> net.to_onnx(path)
    >>> nk.from_onnx(path)
    <Network 2 → 4 tanh → 3 softmax, cross_entropy, float32>
    """
    from nnkern.convert import onnx_in

    return Network.from_model(onnx_in.read(path, loss))


def from_torch(model: Any, *, loss: names.Loss | None = None) -> Network:
    """The network of a torch.nn.Sequential, with a copy of its parameters.

    Parameters
    ----------
    model : torch.nn.Sequential
        Of Linear, activations, Dropout, Identity, Flatten before the first Linear, BatchNorm1d (folded into the weights
        as it predicts), and Sequentials of these.
    loss : {"binary_cross_entropy", "cross_entropy", "squared_error", "absolute_error", "huber", "quantile", "poisson"}
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
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)
    ... )
    >>> nk.from_torch(model, loss="cross_entropy")
    <Network 2 → 4 relu → 3 softmax, cross_entropy, float32>
    """
    from nnkern.convert import torch

    return Network.from_model(torch.read(model, loss))


def from_sklearn(model: Any, *, loss: names.Loss | None = None) -> Network:
    """The network of a fitted scikit-learn MLPClassifier or MLPRegressor, with a copy of its parameters.

    Its labels, where it is a classifier, are kept as ``net.metadata["classes"]``: the network's labels are their
    positions in that list.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
    loss : {"binary_cross_entropy", "cross_entropy", "squared_error", "absolute_error", "huber", "quantile", "poisson"}
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
    from nnkern.convert import sklearn

    return Network.from_model(sklearn.read(model, loss))
