"""`nnkern evaluate`: a model measured on labelled data."""

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
AUC, log loss and calibration error, or RMSE, MAE and R2, beside what classes' shares or the mean of DATA would have.
"""


def add_to(commands):
    parser = command(commands, "evaluate", run, "measure a model on labelled data", EXAMPLES)
    model_and_data(parser)
    option(
        parser,
        "--target",
        "a table's column to compare with (default: the one that wasn't a feature)",
        metavar="COLUMN",
    )


def run(options):
    model = load(options.model)
    if not isinstance(model, nk.Network):
        return _table(model, options)
    preprocessor, data = with_data(model, options)
    Y = preprocessor.targets(data, model.dtype)
    X = preprocessor.features(data, model.dtype)
    measures = measure(model, preprocessor, X, Y, options.threads)
    report(options, {"examples": data.m, **measures}, measures_line("", measures, data.m))


def _table(stored, options):
    from nnkern.cli import tables

    model = tables.model_of(stored, options)
    data = tables.read(options)
    others = [name for name in data if name not in set(stored.names)]
    if options.target is None and len(others) != 1:
        which = f"{', '.join(map(repr, others))} are no features of the model" if others else "all columns are features"
        raise CommandError(f"{options.data}: --target must say what to compare with, {which}")
    name = options.target or others[0]
    data, lost = tables.without_holes(data, name)
    y = tables.targets(model, data.pop(name), name)
    scores = tables.measure(model, tables.predictions(model, data, options.threads), y, tables.priors(model, y))
    said = {"rows": len(y), "rows_without_target": lost, "target": name, "scores": scores}
    return report(options, said, tables.lines(f"{name!r}", scores, len(y)))
