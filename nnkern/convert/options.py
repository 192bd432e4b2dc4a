"""What an exported file has around the network: standardisation of features and targets, names of the classes."""

import numpy as np

from nnkern import validation


class ExportOptions:
    """Standardisation and labels, validated for one network.

    Parameters
    ----------
    model : Model
    mean, scale : (n_x,) arrays, optional
        The exported file takes raw features x and gives the network (x - mean) / scale.
    target_mean, target_scale : (n_y,) arrays, optional
        It returns target_mean + target_scale A: for networks that predict numbers.
    labels : list of str or of int, optional
        It names the most probable class too: one label for each softmax output, two for a single sigmoid output.

    Raises
    ------
    ValueError
        A length or a number doesn't fit the network.
    TypeError
        An option has another name.
    """

    def __init__(self, model, mean=None, scale=None, target_mean=None, target_scale=None, labels=None, **unknown):
        if unknown:
            raise TypeError(
                f"options of an export are mean, scale, target_mean, target_scale and labels; got {', '.join(unknown)}"
            )
        self.mean, self.scale = _vector("mean", mean, model.n_x), _vector("scale", scale, model.n_x)
        self.target_mean = _vector("target_mean", target_mean, model.n_y)
        self.target_scale = _vector("target_scale", target_scale, model.n_y)
        if labels is not None and (self.target_mean is not None or self.target_scale is not None):
            raise ValueError("labels and a standardised target don't go together")
        self.labels = None if labels is None else _labels(labels, model.layers[-1].activation, model.n_y)


def _vector(name, values, n):
    if values is None:
        return None
    array = validation.parameter(name, np.asarray(values), (n,), np.float64)
    if name.endswith("scale") and not (array > 0).all():
        raise ValueError(f"{name} must be > 0 everywhere; its smallest entry is {array.min():g}")
    return array


def _labels(labels, output, n_y):
    """The labels as Python's texts or integers: one for each class of outputs with that activation."""
    labels = [label.item() if isinstance(label, np.generic) else label for label in labels]
    if output not in ("sigmoid", "softmax"):
        raise ValueError(f"labels are for sigmoid or softmax outputs, which are probabilities; got {output}")
    kinds = {type(label) for label in labels}
    if kinds not in ({str}, {int}):
        raise ValueError("labels must be all texts or all integers")
    if kinds == {int} and not all(-(2**63) <= label < 2**63 for label in labels):
        raise ValueError("labels that are integers must fit 64 bits")
    if output == "sigmoid" and n_y > 1:
        raise ValueError("a network of several sigmoid outputs has no one most probable class: leave labels out")
    count = 2 if output == "sigmoid" else n_y
    if len(labels) != count:
        raise ValueError(f"{len(labels)} labels were given; the network tells {count} classes apart")
    return labels
