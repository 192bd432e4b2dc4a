"""What a model's predictions hang on: columns shuffled on held-out rows, and integrated gradients row by row."""

from typing import NamedTuple

import numpy as np

from nnkern import validation
from nnkern.estimators.needed import check_sample_weight
from nnkern.network import Network
from nnkern.tabular import metrics


class Explanation(NamedTuple):
    """Predictions of m rows, taken apart: `base` and the entries of `added` add up to them.

    Attributes
    ----------
    base : (m,) array
        The prediction for a neutral row, with every number at its median and no category.
    added : dict
        {column: (m,) array}, what each column adds to it.
    """

    base: np.ndarray
    added: dict

    def total(self):
        """(m,) array: what they add up to."""
        return self.base + sum(self.added.values())


BLOCK_ROWS = 2**12
"""Rows whose gradients are computed at a time."""


def permutation_importances(model, X, y, metric, sample_weight, n_repeats, rng):
    """{column: how much worse the metric is with the column's entries shuffled}, the largest first."""
    task = "regression" if not model.classifies else "binary" if model.n_y == 2 else "multiclass"
    metric = metrics.get(metric, task)
    validation.size("n_repeats", n_repeats)
    if len(y) != X.shape[1]:
        raise ValueError(f"X has {X.shape[1]} rows, y has {len(y)}")
    if sample_weight is not None:
        sample_weight = check_sample_weight(sample_weight, X.T, dtype=np.float64, ensure_non_negative=True)
    before = metric.loss(y, model_outputs(model, X), sample_weight)
    importances, i = {}, 0
    for column in model.preprocessing.columns:
        rows = slice(i, i + len(column.rows()))
        i = rows.stop
        losses = []
        for _ in range(n_repeats):
            shuffled = X.copy("F")
            shuffled[rows] = X[rows][:, rng.permutation(X.shape[1])]
            losses.append(metric.loss(y, model_outputs(model, shuffled), sample_weight))
        importances[column.name] = float(np.mean(losses) - before)
    return dict(sorted(importances.items(), key=lambda item: -item[1]))


def model_outputs(model, X):
    """Probabilities (k, m), or standardised numbers (1, m): what metrics compare with y as it is learnt."""
    if model.classifies:
        return model.outputs(X)
    return model.target.standardised(model.outputs(X))[None, :]


def integrated_gradients(model, X, output, steps):
    """The Explanation of the predictions of X (n_x, m).

    The path leads in a straight line from a neutral row, all medians and no category, to the row; not in X but in the
    features that the networks' first layers make of it, where categories are numbers too. `output` is the class; None
    for the second of two, and for each row's most probable one of several. Sundararajan, Taly, Yan (2017), Axiomatic
    Attribution for Deep Networks. The integral is Gauss and Legendre's sum over `steps` nodes; what is left of the
    difference (bends of the activations) is spread over the columns in proportion to their sizes.
    """
    m, steps = X.shape[1], validation.size("steps", steps)
    owners = [column.name for column in model.preprocessing.columns for _ in column.rows()]
    if model.classifies and output is None:
        output = model.outputs(X).argmax(axis=0) if len(model.target.labels) > 2 else 1
    output = np.broadcast_to(np.asarray(0 if output is None else output, np.intp), (m,))
    names = model.preprocessing.names
    shares, base = np.zeros((len(names), m)), np.zeros(m)
    for net, weight in zip(model.networks, model.weights, strict=True):
        for start in range(0, m, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            of_net, of_base = _of_network(net, X[:, block], output[block], steps, owners, names, model.classifies)
            shares[:, block] += weight * of_net
            base[block] += weight * of_base
    if not model.classifies:
        shares *= model.target.scale
        base = base * model.target.scale + model.target.mean
    return Explanation(base, dict(zip(names, shares, strict=True)))


def _of_network(net, X, output, steps, owners, names, classifies):
    """What the columns add to one network's output, (columns, m), and its output for the neutral row, (m,)."""
    above, features, of_feature = _without_encoders(net, X, owners)
    neutral = features(np.zeros((X.shape[0], 1), X.dtype))
    A = features(X)
    step = A - neutral
    m = A.shape[1]
    two = classifies and net.n_y == 1
    unit = np.zeros(m, np.intp) if two else output
    sign = np.where(output == 0, -1.0, 1.0) if two else np.ones(m)
    total = np.zeros(A.shape)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        total += weight * above.input_gradient(neutral + node * step, output=unit)
    by_feature = total * step * sign
    shares = np.zeros((len(names), m))
    np.add.at(shares, [names.index(owner) for owner in of_feature], by_feature)
    ends = [_chosen(above.predict(Z), unit, two and output) for Z in (np.repeat(neutral, m, axis=1), A)]
    left = ends[1] - ends[0] - shares.sum(axis=0)
    size = np.abs(shares)
    whole = size.sum(axis=0)
    shares += left * np.where(whole > 0, size / np.where(whole > 0, whole, 1), 1 / len(names))
    return shares, ends[0]


def _chosen(A, unit, binary_class):
    chosen = np.asarray(A, np.float64)[unit, np.arange(A.shape[1])]
    return chosen if binary_class is False else np.where(binary_class == 0, 1 - chosen, chosen)


def _without_encoders(net, X, owners):
    """(the layers above the encoders as a network in float64, features of X, the column of each feature)"""
    layers = list(net.layers)
    encode = layers.pop(0) if layers[0].kind == "encode" else None
    taken = 0 if encode is None else 1
    own = {name[:-1]: array for name, array in net.parameters.items() if name.endswith("1") and name[:-1].isalpha()}
    if encode is None:
        features, of_feature = (lambda Z: np.asarray(Z, np.float64)), owners
    else:
        own = {name: np.asarray(own[name], np.float64) for name in encode.parameter_shapes(net.n_x)}
        features = lambda Z: encode.forward(own, np.asarray(Z, np.float64))[1]  # noqa: E731
        in_order = encode.in_order(encode.encoders)
        of_feature = [owners[encoder.row] for encoder in in_order for _ in range(encoder.outputs)]
    width = len(of_feature)
    above = Network(layers, net.loss, n_x=width, dtype="float64", seed=0)
    above.set_parameters(
        {
            f"{name.rstrip('0123456789')}{_number(name) - taken}": array
            for name, array in net.parameters.items()
            if _number(name) > taken
        }
    )
    return above, features, of_feature


def _number(name):
    return int(name.lstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
