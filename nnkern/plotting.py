"""Plots of learning curves, decision boundaries, first-layer weights and confusion matrices, with matplotlib.

Each function draws into one matplotlib Axes, `ax`, or by default into that of a new pyplot figure, and returns it:
titles, limits and saving are left to the caller. Nothing is shown or printed; the figures of `panels` need no display.
This module uses the public methods of networks, and `import nnkern` doesn't load it.
"""

from collections.abc import Mapping

import numpy as np

from nnkern._optional import require
from nnkern.network import Network
from nnkern.state import of

__all__ = ["confusion", "confusion_matrix", "decision_boundary", "learning_curve", "panels", "weight_images"]

# with more classes than this, the numbers in a confusion matrix would be too small to read
_MOST_NUMBERED = 25
_SIDES = "RdBu_r"  # the colour map of the probability of the second of two classes


def panels(rows=1, columns=1, *, width=5.0, height=4.0):
    """A figure that no window shows, and its axes.

    Parameters
    ----------
    rows, columns : int
    width, height : float
        Of each panel, in inches.

    Returns
    -------
    figure : matplotlib.figure.Figure
        ``figure.savefig(path)`` writes it.
    axes : (rows, columns) array of matplotlib.axes.Axes

    Raises
    ------
    MissingPackageError
        matplotlib isn't installed; all functions that draw raise it.

    Examples
    --------
    >>> from nnkern import plotting
    >>> figure, axes = plotting.panels(columns=2)
    >>> axes.shape
    (1, 2)
    """
    require("matplotlib", "drawing")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _axes(ax):
    """`ax`, or the axes of a new figure."""
    if ax is not None:
        return ax
    return require("matplotlib.pyplot", "drawing").subplots(layout="constrained")[1]


def learning_curve(history, quantity="cost", *, labels=None, ax=None):
    """A quantity against the epochs, in training and on held-out data.

    Parameters
    ----------
    history : dict, fitted estimator, or list of them
        What `Network.fit` returned, or an estimator with ``loss_curve_``; several, such as `fit_many`'s, are drawn
        into the same axes.
    quantity : str
        A key of the history: "cost", "score", "learning_rate", "seconds". ``"val_" + quantity`` is drawn too if the
        history has it.
    labels : list of str, optional
        Names of several histories; default 1, 2, ….
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError, ValueError
        It isn't a history; no history has the quantity; the labels are too few or too many.

    Examples
    --------
    >>> from nnkern import plotting
    >>> axes = plotting.learning_curve(
    ...     {"cost": [0.7, 0.5, 0.4], "val_cost": [0.7, 0.6, 0.6]}
    ... )
    >>> [line.get_label() for line in axes.lines]
    ['training', 'held out']
    """
    several = isinstance(history, list | tuple)
    histories = [_as_history(one) for one in (history if several else [history])]
    if labels is None:
        labels = [str(i) for i in range(1, len(histories) + 1)]
    if len(labels) != len(histories):
        raise ValueError(f"labels has {len(labels)} names for {len(histories)} histories")
    held_out = f"val_{quantity}"
    if not any(key in one for one in histories for key in (quantity, held_out)):
        there = sorted({key for one in histories for key in one})
        raise ValueError(f"quantity must be one of {', '.join(there)}; got {quantity!r}")
    ax = _axes(ax)
    for i, (one, label) in enumerate(zip(histories, labels, strict=True)):
        for key, what, style in ((quantity, "training", "-"), (held_out, "held out", "--")):
            if key in one:
                epochs = range(1, len(one[key]) + 1)
                if several:
                    what = label if key == quantity else f"{label}, {what}"
                    ax.plot(epochs, one[key], style, color=f"C{i % 10}", label=what)
                else:
                    ax.plot(epochs, one[key], label=what)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch", ylabel=quantity.replace("_", " "))
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def _as_history(given):
    """The history as a dict of lists, from such a dict or from an estimator of nnkern's or scikit-learn's."""
    if isinstance(given, Mapping):
        return given
    curves = {"cost": "loss_curve_", "val_cost": "validation_loss_curve_", "val_score": "validation_scores_"}
    found = {key: getattr(given, name, None) for key, name in curves.items()}
    found = {key: curve for key, curve in found.items() if curve is not None}
    if not found:
        raise TypeError(f"history must be what fit returned, a fitted estimator, or a list of them; got {given!r}")
    return found


def decision_boundary(model, X, Y=None, *, points=200, labels=None, ax=None):
    """The decision boundary of a classifier of two features.

    For two classes the colours show the probability of the second one; of more classes, each has its own colour.

    Parameters
    ----------
    model : Network, or estimator with predict
        With two features. Estimators follow scikit-learn's convention: examples are rows.
    X : (2, m) array for a Network, (n_samples, 2) for an estimator
        Examples; the plot covers their range, and a tenth of it on each side.
    Y : labels of the examples, optional
        If given, the examples are drawn as points.
    points : int
        The model is evaluated on a grid of points².
    labels : list of str, optional
        Names of the classes, for the legend of the points.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        The model isn't a classifier with one class an example; it hasn't two features; Y has another number of
        examples, or labels that aren't classes.
    """
    by_columns = isinstance(model, Network)
    x = np.asarray(X) if by_columns else np.asarray(X).T  # (2, m)
    if x.ndim != 2 or x.shape[0] != 2:
        expected = "(2, m)" if by_columns else "(n_samples, 2)"
        raise ValueError(f"X must have shape {expected}, for a plane has two features; got shape {np.shape(X)}")
    low, high = x.min(axis=1), x.max(axis=1)
    margin = np.where(high > low, 0.1 * (high - low), 1)
    across, up = np.linspace(low - margin, high + margin, points).T
    grid = np.stack([side.ravel() for side in np.meshgrid(across, up)])  # (2, points²)
    P, classes = _probabilities_of_network(model, grid) if by_columns else _probabilities_of_estimator(model, grid.T)
    P = P.reshape(len(classes), points, points)
    names = _names(labels, classes)
    if Y is not None:
        Y = _labels("Y", Y)
        if len(Y) != x.shape[1]:
            raise ValueError(f"X has {x.shape[1]} examples, Y has {len(Y)}")
        codes = _codes("Y", Y, classes)

    ax = _axes(ax)
    colormaps = require("matplotlib", "drawing").colormaps
    if len(classes) == 2:
        colours = colormaps[_SIDES]([0.05, 0.95])
        ax.contourf(across, up, P[1], levels=np.linspace(0, 1, 11), cmap=_SIDES, alpha=0.6)
    else:
        several = colormaps["tab10" if len(classes) <= 10 else "tab20"]
        colours = several(np.arange(len(classes)) % several.N)
        filled = np.append(colours[:, :3], np.full((len(classes), 1), 0.35), axis=1)
        ax.imshow(
            filled[P.argmax(axis=0)],
            extent=(across[0], across[-1], up[0], up[-1]),
            origin="lower",
            aspect="auto",
            interpolation="nearest",
        )
    for k in range(1 if len(classes) == 2 else 0, len(classes)):
        lead = P[k] - np.delete(P, k, axis=0).max(axis=0)  # over the most probable of the others
        if lead.min() < 0 < lead.max():
            ax.contour(across, up, lead, levels=[0.0], colors="k", linewidths=1)
    if Y is not None:
        for k, name in enumerate(names):
            ax.scatter(*x[:, codes == k], color=colours[k], edgecolors="white", linewidths=0.3, s=14, label=name)
        ax.legend()
    ax.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]), xlabel="x₁", ylabel="x₂")
    return ax


def _probabilities_of_network(net, X):
    """(classes, m) probabilities, and the classes 0, 1, …."""
    sides = of(net).loss.score == "sides"
    if not of(net).loss.classifies or (sides and net.n_y > 1):
        raise ValueError(
            "a decision boundary needs one class an example: softmax outputs, or one sigmoid output; "
            f"the loss is {net.loss}, of {net.n_y} outputs"
        )
    A = net.predict(X)
    P = np.vstack([1 - A, A]) if sides else A
    return P, np.arange(len(P))


def _probabilities_of_estimator(model, X):
    """(classes, m) probabilities, ones and zeros for an estimator without them; and the classes."""
    classes = getattr(model, "classes_", None)
    if classes is None:
        raise TypeError(f"model must be a Network or a fitted classifier, with classes_; got {model!r}")
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X)).T, classes
    return (np.asarray(model.predict(X)) == np.asarray(classes).reshape(-1, 1)).astype(float), classes


def _labels(name, given):
    """(m,) labels from those of shape (m,) or (1, m)."""
    given = np.asarray(given)
    if given.ndim == 2 and given.shape[0] == 1:
        given = given[0]
    if given.ndim != 1:
        raise ValueError(f"{name} must hold labels of shape (m,) or (1, m); got shape {given.shape}")
    return given


def _codes(name, labels, classes):
    """(m,) indices of the labels in `classes`."""
    same = labels == np.asarray(classes).reshape(-1, 1)
    unknown = ~same.any(axis=0)
    if unknown.any():
        raise ValueError(
            f"{name} holds {labels[unknown][0]!s}, which is none of the classes {', '.join(map(str, classes))}"
        )
    return same.argmax(axis=0)


def _names(labels, classes):
    """The names of the classes: the given ones, or the classes themselves."""
    names = [str(label) for label in (classes if labels is None else labels)]
    if len(names) != len(classes):
        raise ValueError(f"labels has {len(names)} names for {len(classes)} classes")
    return names


def weight_images(model, *, shape=None, units=None, ax=None):
    """The weights of each unit of the first layer as a picture: the input that it responds to most.

    Each picture has its own scale: weights of 0 are grey, the largest absolute one is black or white; in colour
    likewise, channel by channel.

    Parameters
    ----------
    model : Network, or estimator with ``coefs_``
        Its features are the pixels of pictures, row by row, and in colour channel by channel: all red, then green,
        then blue, as `nnkern.data` makes them.
    shape : (height, width) or (channels, height, width), optional
        Of a picture; channels 1 or 3. Default: a square, grey or else of three channels.
    units : iterable of int, optional
        Indices of the units to draw, from 0; default all.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        The number of features isn't that of a picture of this shape; there is no such unit; the model has no weights.

    Examples
    --------
    >>> import nnkern as nk
    >>> from nnkern import plotting
    >>> layers = [nk.Dense(6, "relu"), nk.Dense(1)]
    >>> net = nk.Network(layers, "squared_error", n_x=3 * 4 * 4, seed=0)
    >>> plotting.weight_images(net).images[0].get_array().shape
    (9, 14, 3)
    """
    if isinstance(model, Network):
        W = model.parameters["W1"]  # (n[1], n_x)
    elif hasattr(model, "coefs_"):
        W = model.coefs_[0].T
    else:
        raise TypeError(f"model must be a Network or a fitted estimator with coefs_; got {model!r}")
    n, n_x = W.shape
    channels, height, width = _picture_shape(shape, n_x)
    chosen = np.arange(n) if units is None else np.asarray(list(units))
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or not chosen.size or chosen.min() < 0 or chosen.max() >= n:
        raise ValueError(f"units must be integers from 0 to {n - 1}, at least one; got {units!r}")
    W = np.asarray(W[chosen], np.float64)
    largest = np.abs(W).max(axis=1, keepdims=True)
    pictures = 0.5 + 0.5 * W / np.where(largest > 0, largest, 1)
    pictures = pictures.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)

    columns = int(np.ceil(np.sqrt(len(chosen))))
    rows = -(-len(chosen) // columns)
    # a white line between pictures
    sheet = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, channels))
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = picture
    ax = _axes(ax)
    ax.imshow(sheet[:, :, 0] if channels == 1 else sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.axis("off")
    return ax


def _picture_shape(shape, n_x):
    """(channels, height, width) of pictures with n_x values."""
    if shape is None:
        for channels in (1, 3):
            side = round((n_x / channels) ** 0.5)
            if channels * side**2 == n_x:
                return channels, side, side
        raise ValueError(f"{n_x} features are no square picture, grey or of 3 channels: pass shape=(height, width)")
    full = (1, *shape) if len(shape) == 2 else tuple(shape)
    if len(full) != 3 or full[0] not in (1, 3) or np.prod(full) != n_x:
        raise ValueError(
            f"shape must be (height, width) or (channels, height, width), of 1 or 3 channels and {n_x} numbers in all; "
            f"got {shape!r}"
        )
    return full


def confusion(Y, Y_hat, classes=None):
    """The confusion matrix: how many examples of each class were predicted as which.

    Parameters
    ----------
    Y, Y_hat : (m,) or (1, m) labels
        The true and the predicted ones: integers or texts.
    classes : sequence, optional
        All labels, in the order of rows and columns; default those in Y and Y_hat, sorted.

    Returns
    -------
    counts : (classes, classes) array of int
        Row: the true class; column: the predicted one.

    Raises
    ------
    ValueError
        The numbers of labels differ, or one isn't in `classes`; without these, one isn't whole.

    Examples
    --------
    >>> from nnkern import plotting
    >>> plotting.confusion([0, 0, 1, 2], [0, 1, 1, 2])
    array([[1, 1, 0],
           [0, 1, 0],
           [0, 0, 1]])
    """
    return _count(Y, Y_hat, classes)[0]


def _count(Y, Y_hat, classes):
    """(counts, classes)."""
    Y, Y_hat = _labels("Y", Y), _labels("Y_hat", Y_hat)
    for name, given in (("Y", Y), ("Y_hat", Y_hat)):
        if classes is None and given.dtype.kind == "f" and not (given == np.floor(given)).all():
            off = given[given != np.floor(given)][0]
            raise ValueError(f"{name} holds {off}, which is no label: predict_labels gives those of a network")
    if Y.shape != Y_hat.shape:
        raise ValueError(f"Y has {Y.size} labels, Y_hat {Y_hat.size}")
    classes = np.unique(np.concatenate([Y, Y_hat])) if classes is None else np.asarray(classes)
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (_codes("Y", Y, classes), _codes("Y_hat", Y_hat, classes)), 1)
    return counts, classes


def confusion_matrix(Y, Y_hat, *, classes=None, labels=None, normalise=False, ax=None):
    """Draws the confusion matrix: rows are the true classes, columns the predicted ones.

    Parameters
    ----------
    Y, Y_hat, classes
        As for `confusion`.
    labels : list of str, optional
        Names of the classes, in their order.
    normalise : bool
        Write each row's shares instead of counts.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        As `confusion`; or the names are too few or too many.
    """
    counts, classes = _count(Y, Y_hat, classes)
    names = _names(labels, classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax = _axes(ax)
    # coloured by the share of the row, so that a rare class is as readable as a frequent one
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = np.arange(len(counts))
    ax.set_xticks(places, names, rotation=45 if max(map(len, names)) > 3 else 0)
    ax.set_yticks(places, names)
    if len(counts) <= _MOST_NUMBERED:
        for i, j in np.ndindex(counts.shape):
            text = f"{shares[i, j]:.2f}" if normalise else str(counts[i, j])
            colour = "white" if shares[i, j] > 0.5 else "black"
            ax.text(j, i, text, ha="center", va="center", color=colour, size="small")
    ax.set(xlabel="predicted", ylabel="true")
    return ax
