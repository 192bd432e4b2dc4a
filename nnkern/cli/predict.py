"""`nnkern predict`: a model's predictions as CSV."""

import csv

from nnkern.cli.models import load_with_data
from nnkern.cli.options import command, model_and_data, option
from nnkern.cli.output import check_folder, is_special, text_file

EXAMPLES = """\
examples:
  nnkern predict houses.npz new_houses.csv --output prices.csv
  nnkern predict cats.npz picture.jpg
  cat new.csv | nnkern predict model.npz - | head

Writes CSV, one row for each example: its label and the probability of every class, or for a
regression the prediction; for pictures, the file before that. The target column may be absent.
"""


def add_to(commands):
    parser = command(commands, "predict", run, "write a model's predictions as CSV", EXAMPLES)
    model_and_data(parser)
    option(parser, "--output", "where to write (default: standard output)", metavar="FILE")


def run(options):
    if options.output and not is_special(options.output):
        check_folder(options.output)
    net, preprocessor, data = load_with_data(options)
    A = net.predict(preprocessor.features(data, net.dtype), threads=options.threads)
    header, columns = _prediction_columns(preprocessor, A)
    if getattr(data, "files", None):
        header, columns = ["file", *header], [data.files, *columns]
    with text_file(options.output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))


def _prediction_columns(preprocessor, A):
    """Header and columns of the CSV, for a network's output A (n_y, m)."""
    digits = 9 if A.dtype == "float32" else 17  # enough to distinguish any two numbers

    def texts(row):
        return [f"{value:.{digits}g}" for value in row.tolist()]

    if preprocessor.labels is None:
        values = preprocessor.predictions(A)
        one = len(values) == 1
        header = ["prediction"] if one else [f"prediction_{i}" for i in range(len(values))]
        return header, [texts(row) for row in values]
    labels = preprocessor.labels
    if len(A) == 1:  # one sigmoid: the probability of the second class
        best, A = (A[0] > 0.5).astype(int), [1 - A[0], A[0]]
    else:
        best = A.argmax(axis=0)
    header = ["label", *(f"p({label})" for label in labels)]
    return header, [[labels[i] for i in best], *(texts(row) for row in A)]
