"""`nnkern evaluate`: a model measured on labelled data."""

from nnkern.cli.models import load_with_data, measure, measures_line
from nnkern.cli.options import command, model_and_data

EXAMPLES = """\
examples:
  nnkern evaluate houses.npz other_houses.csv
  nnkern evaluate cats.npz other_cats/

Prints accuracy and cost, or for a regression R2 and RMSE, on all the examples of DATA.
"""


def add_to(commands):
    parser = command(commands, "evaluate", run, "measure a model on labelled data", EXAMPLES)
    model_and_data(parser)


def run(options):
    net, preprocessor, data = load_with_data(options)
    Y = preprocessor.targets(data, net.dtype)
    X = preprocessor.features(data, net.dtype)
    print(measures_line("", measure(net, preprocessor, X, Y, options.threads), X.shape[1]))
