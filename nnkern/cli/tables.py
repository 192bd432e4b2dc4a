"""Tables for the commands: read, their target taken out, and models of tables measured beside a baseline."""

import re

import numpy as np

from nnkern._caller import warn
from nnkern.cli.errors import CommandError
from nnkern.data.target import MAX_CLASSES
from nnkern.tabular import METRICS, columns, frames
from nnkern.tabular.reading import read_table

FEW = 20
"""A target of at most so many whole numbers may have been meant as classes: what is printed says how to choose that."""
SCORES = {
    True: ("accuracy", "balanced_accuracy", "auc", "log_loss", "recall", "calibration_error"),
    False: ("rmse", "mae", "r2"),
}
"""Of classes, and of numbers."""


def read(options, **which):
    """DATA as ConsumableColumns; `which`: read_table's columns, texts and narrow."""
    if options.data is None:
        raise CommandError("DATA is missing: the model is of a table")
    if options.data.lower().endswith(".npz"):
        raise CommandError(f"{options.data}: the model expects a table, not arrays")
    how = {name: getattr(options, name) for name in ("delimiter", "decimal", "encoding", "threads")}
    table = read_table(options.data, **which, **how)
    frames.names_of(table, options.data)
    return frames.ConsumableColumns(zip(table.column_names, table.columns, strict=True))


def read_for(stored, options, names=None, exact=()):
    """(the model in what a file holds, DATA as `read` gives it, its categories as texts); `exact`: never narrowed."""
    if not stored.named:
        raise CommandError(f"{options.model} was trained on an array, whose columns have no names: use it from Python")
    kinds = {column.name: column.kind for column in stored.model.preprocessing.columns}
    texts = [name for name, kind in kinds.items() if kind == "category"]
    narrow = {name for name, kind in kinds.items() if kind == "number"} - set(exact)
    return stored.model, read(options, columns=names, texts=texts, narrow=lambda _: narrow)


def rows_that_count(data, name, weight):
    """(data, y, weights or None, lost): the columns of these names taken out, rows without a target or of weight 0 too.

    `lost`: how many rows have no target, which a warning says.
    """
    import pyarrow.compute as pc

    if name not in data:
        raise CommandError(f"there is no column {name!r}, but {frames.listed(data)}")
    y = data.pop(name)
    if weight not in (None, *data):
        raise CommandError(f"--weight {weight}: there is no such column, but {frames.listed(data)}")
    w = np.broadcast_to(1.0, len(y)) if weight is None else columns.numbers(data.pop(weight), weight, "the data")
    known = pc.invert(pc.is_null(y, nan_is_null=True)).to_numpy()
    lost, wrong, counting = int((~known).sum()), known & ~(w >= 0), known & (w > 0)
    if lost == len(y):
        raise CommandError(f"{name!r} has no value in any of {lost} rows")
    if wrong.any():
        raise CommandError(f"--weight {weight}: row {wrong.argmax()} has none of at least 0")
    if not counting.any():
        raise CommandError(f"--weight {weight}: all rows have the weight 0")
    if lost:
        warn(f"{lost} of {len(y)} rows have no {name!r} and are left out")
    if not counting.all():
        [data], y, w = data.parts([counting]), y.filter(counting), w[counting]
    return data, y, None if weight is None else w, lost


def task_of(array, name, task):
    """(whether its values are classes, why): text, booleans and two whole values are, other numbers aren't."""
    kind = columns.family(array)
    if kind not in ("category", "number"):
        raise CommandError(f"{name!r} holds {array.type}, expected labels or numbers to predict")
    if kind == "category":
        if task == "regression":
            raise CommandError(f"{name!r} holds {columns.plain(array).type}s, regression needs numbers")
        if task is None and columns.distinct(array) > MAX_CLASSES:
            raise CommandError(
                f"{name!r} has {columns.distinct(array)} different texts, more than the {MAX_CLASSES} taken for classes"
                ": --target names another column, --task classification takes them all"
            )
        return True, "text" if columns.is_text(columns.plain(array).type) else "booleans"
    if task is not None:
        return task == "classification", "as asked for"
    if columns.distinct(array[:1000]) > FEW or columns.distinct(array) > FEW or is_broken(array):
        return False, "numbers"
    count = columns.distinct(array)
    few = f"numbers; --task classification takes its {count} values for classes"
    return count == 2, "two values" if count == 2 else few


def is_broken(array):
    """Whether an Arrow array is of numbers that aren't all whole."""
    return columns.family(array) == "number" and bool((np.mod(columns.numbers(array, "", ""), 1) > 0).any())


def codes(array, classes, name):
    """The place of each label in `classes`, int64; a CommandError for one that isn't there.

    A label is the one of the same text, else one that says the same, such as true for True or 1.5 for 1.50: the type of
    a column is inferred file by file, and what is text beside "maybe" is a boolean where all are true or false.
    """
    known = {frames.text_of(label): place for place, label in enumerate(classes)}
    sense = {}
    for text, place in known.items():
        sense.setdefault(_sense(text), place)
    parts = [np.empty(0, np.int64)]
    for chunk in columns.encoded(array).chunks:
        texts = [frames.text_of(label) for label in chunk.dictionary.to_pylist()]
        places = np.array([known.get(text, sense.get(_sense(text), -1)) for text in texts], np.int64)
        parts.append(places[chunk.indices.to_numpy()])
    codes = np.concatenate(parts)
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        was = array[row].as_py()
        raise CommandError(f"{name!r} in row {row} is {was!r}, none of the model's classes: {frames.listed(known)}")
    return codes


def _sense(text):
    """What a text says, whichever way a boolean or a number is written in it."""
    if text.lower() in ("true", "false"):
        return text.title()
    plain = re.fullmatch(r"[+-]?(?!0\d)(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.IGNORECASE)
    return frames.text_of(int(text) if text.isdecimal() else float(text)) if plain else text


def targets(model, array, name):
    """What a model's predictions are compared with: codes, or numbers in float64."""
    return codes(array, model.target.labels, name) if model.classifies else columns.numbers(array, name, "the data")


def predictions(model, data, threads):
    """P (k, m), probabilities, or numbers (1, m)."""
    frames.refuse_lacking(model.preprocessing.names, data, "the data")
    return np.atleast_2d(model.predict(data, threads, "the data"))


def priors(model, y, weight=None):
    """What predicts without looking at a row: the classes' shares (k, 1), or the mean (1, 1)."""
    if not model.classifies:
        return np.full((1, 1), np.average(y, weights=weight))
    shares = np.bincount(y, weight, minlength=len(model.target.labels))
    return (shares / shares.sum())[:, None]


def measure(model, P, y, baseline, weight=None):
    """{name of a score: {"model": its value, "baseline": that of `priors`}} of targets y (m,)."""
    both = {"model": P, "baseline": np.repeat(baseline, len(y), axis=1)}
    scores = {name: METRICS[name] for name in SCORES[model.classifies]}
    return {name: {who: of.value(y, P, weight) for who, P in both.items()} for name, of in scores.items()}


def lines(what, scores, m):
    """The scores in lines, the baseline beside each."""
    rows = [(f"{what} ({m} rows)", "model", "baseline")]
    for name, of in scores.items():
        both = [f"{value:.4f}" if abs(value) < 10 else f"{value:.6g}" for value in of.values()]
        rows.append((name.replace("_", " "), *both))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:{width}}  {ours:>10}  {baseline:>10}" for name, ours, baseline in rows)
