"""`nnkern predict`: a model's predictions as CSV or Parquet."""

import csv
import io

import numpy as np

import nnkern as nk
from nnkern.cli.errors import CommandError
from nnkern.cli.models import load, with_data
from nnkern.cli.options import command, model_and_data, names, option
from nnkern.cli.output import binary_file, check_folder, is_special, to_json
from nnkern.data import require

EXAMPLES = """\
examples:
  nnkern predict houses.npz new_houses.csv --output prices.csv
  nnkern predict patients.npz new.parquet --proba --keep id,name --output sick.parquet
  nnkern predict cats.npz picture.jpg
  cat new.csv | nnkern predict model.npz - | head

Writes one row for each example. A table's model: the columns to keep, then the label, with --proba the probability of
every class, or for a regression the prediction. A model of arrays or pictures: the file of a picture, the label and the
probability of every class, or the predictions. The target may be absent, and other columns are no hindrance.
"""

WRITTEN_ROWS = 2**16
"""At a time: with Arrow's 1024, 2 million numbers take twice as long."""
OTHER_TABLES = (".xlsx", ".xls", ".ods", ".feather", ".arrow", ".npz", ".npy")
"""Endings of tables that aren't CSV, which a program that opens such a file would find in it."""


def add_to(commands):
    parser = command(commands, "predict", run, "write a model's predictions as CSV", EXAMPLES)
    model_and_data(parser)
    option(parser, "--proba", "probabilities of a table's classes too", action="store_true")
    option(parser, "--keep", "columns of the table to write too, or all", type=names, metavar="A,B")
    option(parser, "--output", "where to write, of a table .parquet too (default: standard output)", metavar="FILE")


def run(options):
    if options.output and not is_special(options.output):
        check_folder(options.output)
        if options.output.lower().endswith(OTHER_TABLES):
            raise CommandError(f"--output {options.output}: predictions are written as CSV, of a table as .parquet too")
        if options.output.lower().endswith(".json") and not options.json:
            raise CommandError(f"--output {options.output}: predictions are written as CSV, and as JSON with --json")
    net = load(options.model)
    if not isinstance(net, nk.Network):
        return _table(net, options)
    if options.proba or options.keep:
        raise CommandError("--proba and --keep are for models of tables")
    if options.output and options.output.lower().endswith(".parquet"):
        raise CommandError(f"--output {options.output}: .parquet is for models of tables, other predictions are CSV")
    preprocessor, data = with_data(net, options)
    A = net.predict(preprocessor.features(data, net.dtype), threads=options.threads)
    columns = ({"file": data.files} if data.files else {}) | _predicted(preprocessor, A)
    with binary_file(options.output) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        if options.json:
            print(to_json(columns), file=text)
        else:
            csv.writer(text, lineterminator="\n").writerows([columns, *zip(*columns.values(), strict=True)])
        text.detach()  # which flushes; the file is closed outside
    return None


def _table(stored, options):
    """The same of a table."""
    pa, csv, parquet = (require(f"pyarrow{part}", "a table") for part in ("", ".csv", ".parquet"))
    from nnkern.cli import tables

    if options.proba and not stored.model.classifies:
        raise CommandError("--proba is for classes, and the model predicts numbers: leave it out")
    keep = options.keep or []
    names = None if keep == ["all"] else [*stored.model.preprocessing.names, *keep]
    model, data = tables.read_for(stored, options, names, exact=stored.names if keep == ["all"] else keep)
    lacking = [name for name in keep if name not in data and keep != ["all"]]
    if lacking:
        raise CommandError(f"--keep: {options.data} has no column {', '.join(map(repr, lacking))}")
    out = {name: data[name] for name in (data if keep == ["all"] else keep)}
    P = tables.predictions(model, data, options.threads)
    new = {"prediction": P[0]}
    if model.classifies:
        new = {"label": pa.array(model.target.classes).take(pa.array(P.argmax(axis=0)))}
        if options.proba:
            # as the networks gave them: the digits of a float32
            labels = map(tables.frames.text_of, model.target.labels)
            new |= {f"p({label})": row.astype(np.float32) for label, row in zip(labels, P, strict=True)}
    taken = [name for name in new if name in out]
    if taken:
        raise CommandError(f"--keep: {taken[0]!r} is also the name of what is predicted: rename that column")
    table = pa.table(out | new)
    with binary_file(options.output) as file:
        if options.json:
            file.write(to_json(table.to_pydict()).encode() + b"\n")
        elif options.output and options.output.lower().endswith(".parquet"):
            parquet.write_table(table, file)
        else:
            csv.write_csv(table, file, csv.WriteOptions(batch_size=WRITTEN_ROWS))


def _predicted(preprocessor, A):
    """{name of a column: its texts}, for a network's output A (n_y, m)."""
    digits = 9 if A.dtype == "float32" else 17  # enough to distinguish any two numbers
    columns = {}
    if preprocessor.labels is None:
        values = preprocessor.predictions(A)
        names = ["prediction"] if len(values) == 1 else [f"prediction_{i}" for i in range(len(values))]
    else:
        values = np.concatenate((1 - A, A)) if len(A) == 1 else A  # one sigmoid: the probability of the second class
        columns["label"] = [preprocessor.labels[i] for i in values.argmax(axis=0)]
        names = [f"p({label})" for label in preprocessor.labels]
    for name, row in zip(names, values, strict=True):
        columns[name] = [f"{value:.{digits}g}" for value in row.tolist()]
    return columns
