"""Trained models: what is in a file, a network's preprocessor, and its measures on data.

Knows no options but MODEL, DATA and --threads, and prints nothing.
"""

import math

import nnkern as nk
from nnkern import data as nkdata
from nnkern.cli.errors import CommandError
from nnkern.data.containers import KINDS
from nnkern.files import header
from nnkern.state import of

RECORD = "nnkern.data"  # the preprocessor's key in a model's metadata
FORMATS = {"accuracy": ".4f", "R2": ".4f", "RMSE": ".6g", "cost": ".4g"}


def load(path):
    """The network in a model file, or what `nnkern.tabular.model_file` reads of a table's model."""
    try:
        return nk.load(path)
    except nk.ModelFormatError as error:
        if header.READERS[header.TABLE_FORMAT] not in str(error):
            raise
    from nnkern.tabular import model_file

    return model_file.read(path)


def with_data(net, options):
    """A network's preprocessor, and the data; pictures in the size that it was trained on."""
    preprocessor = preprocessor_of(net, options.model)
    if options.data is not None and nkdata.is_table(options.data):
        raise CommandError(f"{options.data}: the model expects {KINDS[preprocessor.kind]}, not a table")
    return preprocessor, nkdata.read(options.data, size=preprocessor.size or 64)


def preprocessor_of(net, path):
    """The preprocessor that a model file holds, checked against the network."""
    record = net.metadata.get(RECORD)
    preprocessor = _plain_preprocessor(net, path) if record is None else nkdata.Preprocessor.from_dict(record)
    loss = of(net).loss
    expected = preprocessor.n_x, outputs_of(preprocessor, loss), preprocessor.task
    if (net.n_x, net.n_y, task_of(loss)) != expected:
        raise CommandError(f"{path}: the network and the record of its data don't agree")
    return preprocessor


def outputs_of(preprocessor, loss):
    """How many outputs a network with that loss has for the preprocessor's target."""
    if preprocessor.labels is None:
        return len(preprocessor.target_mean)
    return 1 if loss.score == "sides" else len(preprocessor.labels)


def _plain_preprocessor(net, path):
    """For a network that was not made by `nnkern train`: X enters as it is, labels are numbers."""
    task = task_of(of(net).loss)
    if of(net).loss.score == "sides" and net.n_y > 1:
        raise CommandError(f"{path} has several sigmoid outputs, of two classes each, which only nk.load can use")
    if task == "regression":
        target = {"target_mean": [0.0] * net.n_y, "target_scale": [1.0] * net.n_y}
    else:
        target = {"labels": [str(i) for i in range(max(net.n_y, 2))]}
    return nkdata.Preprocessor("array", net.n_x, [0.0], [1.0], task, **target)


def task_of(loss):
    """The task that a loss is for; a function of the user's own says it by its score."""
    return "classification" if loss.classifies else "regression"


def measure(net, preprocessor, X, Y, threads):
    """{name: value}: accuracy, or R2 and RMSE; and the cost."""
    cost, score = net.evaluate(X, Y, threads=threads)
    if preprocessor.labels is not None:
        return {"accuracy": score, "cost": cost}
    off = preprocessor.predictions(net.predict(X, threads=threads)) - preprocessor.predictions(Y)
    return {"R2": score, "RMSE": (off**2).mean() ** 0.5, "cost": cost}


def measures_line(what, measures, m):
    """The measures of m examples in one line."""
    *scores, cost = [f"{name} {value:{FORMATS[name]}}" for name, value in measures.items()]
    return f"{what}{' ' if what else ''}{', '.join(scores)} ({m} examples), {cost}"


def class_weights(options, known):
    """--class-weight as `fit` takes it; `known`: {label: what it is in Y}, or None for a regression."""
    weights = options.class_weight
    if weights is None or (isinstance(weights, str) and known is not None):
        return weights
    if known is None:
        raise CommandError("--class-weight is for classification, not for regression")
    for label, weight in weights.items():
        if label not in known:
            classes = ", ".join(map(repr, sorted(known)[:20]))
            raise CommandError(f"--class-weight: {label!r} is none of the classes {classes}")
        if not 0 <= weight < math.inf:
            raise CommandError(f"--class-weight {label}={weight:g}: expected a finite weight >= 0")
    return {known[label]: weight for label, weight in weights.items()}
