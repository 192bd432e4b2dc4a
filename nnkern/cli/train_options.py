"""The options of `nnkern train`: what there is to choose, and its help. Computes nothing."""

from nnkern import kernels, losses, optimizers
from nnkern.cli import options as kinds
from nnkern.cli.errors import CommandError
from nnkern.cli.options import command, common, given, option

# Held-out accuracy on the digits was 0.980 ± 0.004 over twelve seeds, each with its own split; with 64 units and no
# dropout 0.976.
DIGITS_DEFAULTS = {"layers": [256], "dropout": [0.3], "validation": 1 / 3}
DATA_DEFAULTS = {
    "activation": ["relu"], "batch_size": 32, "dropout": [0.0], "dtype": "float32", "epochs": 50, "l1": 0.0, "l2": 0.0,
    "layers": [64], "optimizer": "adam", "size": 64, "validation": 0.2,
}  # fmt: skip
# of the training examples, for early stopping; scikit-learn's default
STOPPING_SHARE = 0.1

EXAMPLES = """\
examples:
  nnkern train                                        scikit-learn's handwritten digits
  nnkern train houses.csv --target price --save houses.npz
  nnkern train patients.parquet --target sick --metric auc --class-weight balanced --time-limit 60
  nnkern train sales.csv.gz --types zip=category,id=ignore --preset best --threads 8 --json
  nnkern train cats/ --layers 20,7,5 --epochs 50 --plot curve.png --save cats.npz
  nnkern train arrays.npz --task classification --dtype float64 --loss huber --schedule cosine --folds 5

DATA is one of
  a table      CSV with a header (.csv, .tsv, .txt, .csv.gz; "-" is standard input), Parquet or Feather. Types of
               columns are inferred; missing values and unseen categories are fine. Rows without a target are left out.
  an .npz      with X of shape (n_x, m), one example a column, and Y: labels (m,) or values (n_y, m). An array (m, n_x)
               of scikit-learn's kind is saved as X.T.
  a folder     with one subfolder of pictures for each class.
  nothing      scikit-learn's digits.

A share of the data, stratified by class, is held out to measure the result on; it takes no part in the training. Of a
table, nnkern.tabular trains what the preset says; options of network and training then replace what its recipes have.
Of arrays and pictures, one network is trained on standardised features and targets. The model file has what data needs.
"""

TABLE, ARRAYS, ALL = "tables", "arrays and pictures", ""
# {group: (option, metavar, what converts its text or its choices, whose it is, help) …}
# fmt: off
OPTIONS = {
    "the data": (
        ("--target", "COLUMN", str, TABLE, "column to predict (default: the last)"),
        ("--task", None, ("auto", "classification", "regression"), ALL,
         "auto: classification for text, labels and two values, regression for numbers"),
        ("--types", "A=KIND,…", kinds.pairs, TABLE, "what columns are: number, category, date or ignore"),
        ("--ignore", "A,B", kinds.names, TABLE, "columns to leave out"),
        ("--weight", "COLUMN", str, TABLE, "column that says how much each row counts"),
        ("--size", "N", kinds.whole(1), ARRAYS, "pictures are resized to N by N pixels (default: 64)"),
        ("--validation", "SHARE", kinds.share, ALL, "share to hold out, 0 for none (default: 0.2; of digits a third)"),
        ("--folds", "K", kinds.whole(2), ARRAYS, "cross-validation: K trainings, each of which holds out another K-th "
         "of the examples; --save then trains once more, on all of them"),
    ),
    "what is trained": (
        ("--preset", None, ("fast", "default", "best"), TABLE, "how much is tried (default: default)"),
        ("--estimators", "N", kinds.whole(1), TABLE, "networks of each recipe, each with other rows held out"),
        ("--metric", "NAME", str, TABLE, "what chooses epochs and networks: log_loss, auc, accuracy, recall, "
         "balanced_accuracy, f1, calibration_error, error, rmse, mae or r2"),
        ("--time-limit", "S", kinds.number, TABLE, "seconds within which the training is to end"),
        ("--layers", "N,N", kinds.layers, ALL, "units of hidden layers, none for none (default: 64, for digits 256)"),
        ("--activation", "NAME,NAME", kinds.names, ALL, f"of the hidden layers, of arrays one for each too: "
         f"{', '.join(kernels.ACTIVATIONS)} (default: relu)"),
        ("--dropout", "P,P", kinds.numbers, ALL, "share of the hidden layers' outputs that is dropped in training, of "
         "arrays one for each too (default: 0; for the digits 0.3)"),
        ("--numbers", None, ("plain", "quantile", "tree", "periodic"), TABLE, "how numbers enter: plain, or by bins"),
        ("--dtype", None, ("float32", "float64"), ARRAYS, "of all numbers (default: float32)"),
        ("--compute", None, ("bfloat16",), ALL, "what products are computed in (default: the dtype)"),
    ),
    "what is minimised": (
        ("--loss", None, tuple(losses.LOSSES), ARRAYS, "default: binary_cross_entropy for two classes, cross_entropy "
         "for more, squared_error for regression"),
        ("--label-smoothing", "X", float, ALL, "share of each label that is spread over all classes"),
        ("--delta", "X", float, ARRAYS, "where huber changes from quadratic to linear"),
        ("--quantile", "Q", float, ARRAYS, "which quantile the loss quantile predicts"),
        ("--class-weight", "A=X,B=X", kinds.class_weight, ALL, "balanced: classes have equal total weight; or the "
         "weights of labels, 1 for those that aren't named"),
        ("--l2", "X", float, ARRAYS, "penalty on the squares of weights (default: 0)"),
        ("--l1", "X", float, ARRAYS, "penalty on their absolute values (default: 0)"),
    ),
    "the training": (
        ("--optimizer", None, tuple(optimizers.OPTIMIZERS), ARRAYS, "the update (default: adam)"),
        ("--learning-rate", "X", float, ALL, "default: the optimizer's own"),
        ("--schedule", "NAME:X,X", kinds.schedule, ARRAYS, "of the learning rate: cosine, down to 0 or to "
         "cosine:FINAL; exponential:FACTOR an epoch; step:FACTOR,EPOCHS; inverse:DECAY, divided by 1 + DECAY epochs"),
        ("--warm-up", "N", kinds.whole(1), ARRAYS, "epochs of linear warm-up, before the schedule"),
        ("--momentum", "X", float, ARRAYS, "for sgd (default: 0)"),
        ("--nesterov", None, None, ARRAYS, "Nesterov's momentum, for sgd"),
        ("--weight-decay", "X", float, ALL, "for adamw (default: 0.01)"),
        ("--clip-norm", "X", float, ARRAYS, "largest norm of the gradient, which is scaled down to it"),
        ("--clip-value", "X", float, ARRAYS, "largest absolute value of its entries, which are clipped"),
        ("--epochs", "N", kinds.whole(1), ALL, "passes over the data (default: 50)"),
        ("--early-stopping", "N", kinds.whole(1), ALL, "stop after N epochs without improvement, and keep the best "
         f"epoch's weights; of arrays {STOPPING_SHARE:g} of the training examples are set aside to measure it"),
        ("--batch-size", "N", kinds.batch_size, ALL, "examples of one step, of arrays also full for all (default: 32)"),
        ("--seed", "N", kinds.whole(0), ALL, "of splits, first weights, order and dropout (default: 0)"),
    ),
    "the result": (
        ("--save", "FILE.npz", str, ALL, "write the model to this file"),
        ("--plot", "FILE.png", str, ALL, "draw learning curves, confusion of classes, predicted over true numbers"),
        ("--quiet", None, None, ALL, "print the result only"),
    ),
}
# fmt: on


def add_train(commands, run):
    """The parser of `nnkern train`, which calls `run` with the options."""
    train = command(commands, "train", run, "train a network and measure it", EXAMPLES)
    train.add_argument("data", nargs="?", metavar="DATA", help="what to learn (default: digits)")
    for title, rows in OPTIONS.items():
        group = train.add_argument_group(title)
        for name, metavar, kind, whose, text in rows:
            if kind is None:
                how = {"action": "store_const", "const": True}
            else:
                how = {"choices": kind} if isinstance(kind, tuple) else {"type": kind, "metavar": metavar}
            option(group, name, f"{text}{f' ({whose} only)' if whose else ''}", **how)
    common(train)


def refuse_others(options, whose):
    """A CommandError for a given option that isn't for such data."""
    for rows in OPTIONS.values():
        for name, _, _, only, _ in rows:
            if only not in (whose, ALL) and given(options, name) is not None:
                raise CommandError(f"{name} is for {only} only, not for {whose}")
