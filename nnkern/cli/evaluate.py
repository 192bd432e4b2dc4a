"""`nnkern evaluate`: a model measured on labelled data."""

import numpy as np

import nnkern as nk
from nnkern.cli.errors import CommandError
from nnkern.cli.models import load, measure, measures_line, with_data
from nnkern.cli.options import command, model_and_data, option
from nnkern.cli.output import report

EXAMPLES = """\
examples:
  nnkern evaluate houses.npz other_houses.csv
  nnkern evaluate cats.npz other_cats/

Prints, for all the examples of DATA, accuracy and cost, or for a regression R2 and RMSE. A table's model: accuracy,
AUC, log loss, recall (of the second of two classes, of more the mean) and calibration error, or RMSE, MAE and R2,
beside what the shares of classes or the mean would have: of the data that nnkern train had, of other models of DATA.
"""


def add_to(commands):
    parser = command(commands, "evaluate", run, "measure a model on labelled data", EXAMPLES)
    model_and_data(parser)
    text = "a table's column to compare with (default: the training's, or the one that is no feature)"
    option(parser, "--target", text, metavar="COLUMN")
    text = "a table's column that says how much each row counts (default: that of the training, where it is there)"
    option(parser, "--weight", text, metavar="COLUMN")


def run(options):
    model = load(options.model)
    if not isinstance(model, nk.Network):
        return _table(model, options)
    if options.target or options.weight:
        raise CommandError("--target and --weight are for models of tables")
    preprocessor, data = with_data(model, options)
    Y = preprocessor.targets(data, model.dtype)
    X = preprocessor.features(data, model.dtype)
    measures = measure(model, preprocessor, X, Y, options.threads)
    report(options, {"examples": data.m, **measures}, measures_line("", measures, data.m))


def _table(stored, options):
    from nnkern.cli import tables

    told = stored.model.target.trained_on or {}
    model, data = tables.read_for(stored, options)
    weight = options.weight or (told.get("weight") if told.get("weight") in data else None)
    others = [name for name in data if name not in {*stored.names, weight}]
    name = options.target or (told["target"] if told.get("target") in data else None)
    if name is None and len(others) != 1:
        which = f"{', '.join(map(repr, others))} are no features of the model" if others else "all columns are features"
        raise CommandError(f"{options.data}: --target must say what to compare with, {which}")
    name = name or others[0]
    data, y, w, lost = tables.rows_that_count(data, name, weight)
    y = tables.targets(model, y, name)
    baseline = np.array(told["baseline"])[:, None] if told else tables.priors(model, y, w)
    scores = tables.measure(model, tables.predictions(model, data, options.threads), y, baseline, w)
    said = {"rows": len(y), "rows_without_target": lost, "target": name, "weight": weight, "scores": scores}
    return report(options, said, tables.lines(f"{name!r}", scores, len(y)))
