"""`nnkern train` on a table: what the options say of it, of recipes and of rows, handed to nnkern.tabular."""

import contextlib
import re
import shlex
import time
import warnings

import numpy as np

from nnkern.cli import tables
from nnkern.cli.errors import CommandError
from nnkern.cli.models import class_weights
from nnkern.cli.output import report_training
from nnkern.cli.train_options import DATA_DEFAULTS, TABLE, refuse_others
from nnkern.data import require
from nnkern.files.endings import is_safetensors
from nnkern.tabular import METRICS, PRESETS, TabularClassifier, TabularRegressor, columns, frames, splits
from nnkern.tabular.preprocessing import TYPES

# what an option replaces in a recipe
FIELDS = {
    "learning_rate": "learning_rate", "weight_decay": "weight_decay", "epochs": "epochs", "early_stopping": "patience",
    "batch_size": "batch_size", "label_smoothing": "label_smoothing", "compute": "compute", "layers": "units",
    "activation": "activation", "dropout": "dropout", "numbers": "numbers",
}  # fmt: skip
SHOWN = 40
"""Columns of which is printed what they are."""


def run(options):
    """Trains as the options say, prints the measures, and writes model and plot."""
    pa = require("pyarrow", "a table")

    refuse_others(options, TABLE)
    if options.save and is_safetensors(options.save):
        raise CommandError(f"--save {options.save}: a table's model is saved as .npz")
    recipes = _recipes(options)
    types = options.types or {}
    texts = [name for name, kind in types.items() if kind == "category"]
    exact = {options.target, options.weight, *types}
    data = tables.read(options, texts=texts, narrow=lambda names: {*names[: None if options.target else -1]} - exact)
    name = options.target or list(data)[-1]
    said = {"data": options.data, "columns": len(data)}
    data, y, weight, said["rows_without_target"] = tables.rows_that_count(data, name, options.weight)
    _refuse_names(options, data)
    y = columns.plain(y)
    said |= {"rows": len(y), "target": name}
    classes, reason = tables.task_of(y, name, options.task)
    said["task"] = "classification" if classes else "regression"
    if classes and tables.is_broken(y):  # as numbers they would be no labels
        y = pa.chunked_array([[frames.text_of(label) for label in y.to_pylist()]])
    share = DATA_DEFAULTS["validation"] if options.validation is None else options.validation
    strata = y.combine_chunks().dictionary_encode().indices.to_numpy() if classes else None
    held = splits.share_of(len(y), share, strata, options.seed) if share else np.zeros(len(y), bool)
    said |= {"rows_trained_on": int((~held).sum()), "rows_held_out": int(held.sum())}
    if not options.quiet:
        print(f"data     {options.data}: {len(y)} rows, {said['columns']} columns")
        task = f"{columns.distinct(y)} classes" if classes else "regression"
        counts = f"{said['rows_trained_on']} to train on, {said['rows_held_out']} held out"
        print(f"task     {task} of {name!r} ({reason}); {counts}", flush=True)
    parts = [(frames.Columns(data), y, weight)]
    if held.any():
        masks = (~held, held)
        weights = [None if weight is None else weight[mask] for mask in masks]
        parts = list(zip(data.parts(masks), map(y.filter, masks), weights, strict=True))
        frames.give_back()
    data, y, weight = parts[0]
    estimator = _estimator(options, classes, recipes, y)
    said["seconds"] = _seconds_of_fit(estimator, data, y, weight)
    model = estimator.model_
    known = tables.targets(model, y, name)
    baseline = tables.priors(model, known, weight)
    model.target.trained_on = {"target": name, "weight": options.weight, "baseline": baseline[:, 0].tolist()}
    if options.save:
        estimator.save(options.save)
    what = "held out" if held.any() else "trained on"
    data, y, weight = parts[-1]
    known = tables.targets(model, y, name)
    P = tables.predictions(model, data, options.threads)
    said["measured_on"], said["scores"] = what, tables.measure(model, P, known, baseline, weight)
    said |= {"networks": len(model.networks), "kinds": {one.name: one.kind for one in model.preprocessing.columns}}
    said["left_out"] = model.preprocessing.left_out
    if options.plot:
        _plot(model, P, known, name, options.plot)
    text = [tables.lines(what, said["scores"], len(known)), f"trained in {said['seconds']:.2f} s"]
    if not options.quiet:
        shown = str(model.preprocessing).splitlines()
        text[:0] = [*shown[: SHOWN + 1], *[f"… {len(shown) - SHOWN - 1} more"] * (len(shown) > SHOWN + 1)]
    report_training(options, said, text)


def _refuse_names(options, data):
    """Refuses columns, types and metrics that there aren't by the option that names them."""
    types = options.types or {}
    for option, names in (("--ignore", options.ignore or ()), ("--types", types)):
        unknown = [name for name in names if name not in data]
        if unknown:
            raise CommandError(f"{option}: there is no column {frames.listed(unknown)}, but {frames.listed(data)}")
    for name, kind in types.items():
        if kind not in TYPES:
            raise CommandError(f"--types {name}={kind}: expected one of {', '.join(TYPES)}")
    if options.metric is not None and options.metric not in METRICS:
        raise CommandError(f"--metric {options.metric}: expected one of {', '.join(METRICS)}")


@contextlib.contextmanager
def _warnings_of_options():
    """Warnings say by which option a column is left out or taken in, not by which parameter of the estimator."""
    shown = warnings.showwarning

    def show(message, *where, **more):
        ignored = r"column_types=\{(['\"])(.*?)\1: \"ignore\"\}"
        text = re.sub(ignored, lambda found: f"--ignore {shlex.quote(found[2])}", str(message))
        shown(text.replace("column_types", "--types"), *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


def _recipes(options):
    """The preset's, with what the options replace; None for the preset as it is."""
    changes = {field: getattr(options, name) for name, field in FIELDS.items() if getattr(options, name) is not None}
    for name in ("activation", "dropout"):
        if name in changes:
            if len(changes[name]) > 1:
                raise CommandError(f"--{name} has {len(changes[name])} entries, expected one for all layers")
            [changes[name]] = changes[name]
    if changes.get("batch_size") == "full":
        raise CommandError("--batch-size full is for arrays and pictures, a table's is a number")
    if not changes:
        return None
    preset = PRESETS[options.preset or "default"]
    return list(dict.fromkeys(recipe.replace(**changes) for recipe in preset.recipes))


def _estimator(options, classes, recipes, y):
    """Untrained."""
    types = (options.types or {}) | dict.fromkeys(options.ignore or (), "ignore")
    preset = options.preset or "default"
    how = {name: getattr(options, name) for name in ("metric", "time_limit", "threads")}
    how |= {"preset": preset, "recipes": recipes, "column_types": types or None, "random_state": options.seed}
    how["n_estimators"] = options.estimators or (PRESETS[preset].n_estimators if recipes else None)
    how["progress"] = not options.quiet
    known = {frames.text_of(label): label for label in y.unique().to_pylist()} if classes else None
    weights = class_weights(options, known)
    if isinstance(weights, dict) and 0 in weights.values():
        raise CommandError("--class-weight: a table's class of weight 0 isn't learnt: leave its rows out")
    return TabularClassifier(class_weight=weights, **how) if classes else TabularRegressor(**how)


def _seconds_of_fit(estimator, data, y, weight):
    begun = time.perf_counter()
    with _warnings_of_options():
        estimator.fit(data, y, sample_weight=weight)
    return time.perf_counter() - begun


def _plot(model, P, y, name, path):
    """The confusion of classes, or predicted over true numbers."""
    from nnkern import plotting

    figure, axes = plotting.panels(1, width=7, height=5)
    ax = axes[0, 0]
    if model.classifies:
        labels = [frames.text_of(label) for label in model.target.labels]
        plotting.confusion_matrix(y, P.argmax(axis=0), classes=range(len(labels)), labels=labels, ax=ax)
    else:
        ends = [min(y.min(), P.min()), max(y.max(), P.max())]
        ax.plot(ends, ends, "k:", linewidth=1)
        ax.plot(y, P[0], ".", markersize=3)
        ax.set(xlabel=f"true {name}", ylabel="predicted")
    figure.savefig(path, dpi=120)
