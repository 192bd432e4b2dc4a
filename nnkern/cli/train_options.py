"""The options of `nnkern train`: what there is to choose, and its help. Computes nothing."""

from nnkern import kernels, losses, optimizers
from nnkern.cli.options import (
    batch_size,
    class_weight,
    command,
    layers,
    names,
    numbers,
    option,
    schedule,
    share,
    threads,
    whole,
)

# Defaults of options for the digits, and for a user's own data. Held-out accuracy on the digits was
# 0.980 ± 0.004 over twelve seeds, each with its own split; with 64 units and no dropout 0.976.
DIGITS_DEFAULTS = {"layers": [256], "dropout": [0.3], "validation": 1 / 3}
DATA_DEFAULTS = {"layers": [64], "dropout": [0.0], "validation": 0.2}
# of the training examples, for early stopping; scikit-learn's default
STOPPING_SHARE = 0.1

EXAMPLES = """\
examples:
  nnkern train                                        scikit-learn's handwritten digits
  nnkern train houses.csv --target price --layers 64,64 --save houses.npz
  nnkern train patients.csv --target sick --layers none --optimizer sgd --l2 1e-3
  nnkern train cats/ --layers 20,7,5 --epochs 50 --plot curve.png --save cats.npz
  nnkern train patients.csv --target sick --class-weight balanced --dropout 0.2 --early-stopping 10
  nnkern train houses.csv --target price --loss huber --schedule cosine --folds 5
  nnkern train arrays.npz --task classification --dtype float64 --seed 1

DATA is one of
  a CSV file   with a header; "-" is standard input. Text columns become one 0/1 feature for each
               of their categories.
  an .npz      with X of shape (n_x, m), one example a column, and Y: labels (m,) or values
               (n_y, m). An array (m, n_x) of scikit-learn's kind is saved as X.T.
  a folder     with one subfolder of pictures for each class.
  nothing      scikit-learn's digits.

Features are standardised, and so is the target of a regression; means, scales and label names are
kept in the model file. A share of the data, stratified by class, is held out to measure the result
on; it takes no part in the training.
"""


def add_train(commands, run):
    """The parser of `nnkern train`, which calls `run` with the options."""
    train = command(commands, "train", run, "train a network and measure it", EXAMPLES)
    train.add_argument("data", nargs="?", metavar="DATA", help="what to learn (default: digits)")
    group = train.add_argument_group("the data")
    option(group, "--target", "column to predict (default: the last)", metavar="COLUMN")
    option(
        group,
        "--task",
        "auto: classification for text, labels and two values, regression for numbers",
        "auto",
        choices=("auto", "classification", "regression"),
    )
    option(group, "--ignore", "columns to leave out", type=names, metavar="A,B")
    option(group, "--categorical", "columns of numbers that are names of categories", type=names, metavar="A,B")
    option(
        group,
        "--missing",
        "empty cells of features: an error, or replaced by the column's mean, and in text columns by no category",
        "error",
        choices=("error", "impute"),
    )
    option(group, "--size", "pictures are resized to N by N pixels", 64, type=whole(1), metavar="N")
    option(
        group,
        "--validation",
        "share of the examples to hold out, 0 for none (default: 0.2; of the digits a third)",
        type=share,
        metavar="SHARE",
    )
    option(
        group,
        "--folds",
        "cross-validation: K trainings, each of which holds out another K-th of the examples; --save then trains "
        "once more, on all of them",
        type=whole(2),
        metavar="K",
    )
    group = train.add_argument_group("the network")
    option(
        group,
        "--layers",
        "units of the hidden layers, none for no hidden layer (default: 64; for the digits 256)",
        type=layers,
        metavar="N,N",
    )
    option(
        group,
        "--activation",
        f"of the hidden layers, one for all or one for each: {', '.join(kernels.ACTIVATIONS)} (default: relu)",
        ["relu"],
        type=names,
        metavar="NAME,NAME",
    )
    option(
        group,
        "--dropout",
        "share of the hidden layers' outputs that is dropped in training, one for all or one for each (default: 0; for "
        "the digits 0.3)",
        type=numbers,
        metavar="P,P",
    )
    option(group, "--dtype", "of all numbers", "float32", choices=("float32", "float64"))
    option(group, "--compute", "what products are computed in (default: the dtype)", choices=("bfloat16",))
    group = train.add_argument_group("what is minimised")
    option(
        group,
        "--loss",
        "default: binary_cross_entropy for two classes, cross_entropy for more, squared_error for regression",
        choices=list(losses.LOSSES),
    )
    option(group, "--label-smoothing", "share of each label that is spread over all classes", type=float, metavar="X")
    option(group, "--delta", "where huber changes from quadratic to linear", type=float, metavar="X")
    option(group, "--quantile", "which quantile the loss quantile predicts", type=float, dest="q", metavar="Q")
    option(
        group,
        "--class-weight",
        "balanced: classes have equal total weight; or the weights of labels, 1 for those that aren't named",
        type=class_weight,
        metavar="A=X,B=X",
    )
    option(group, "--l2", "penalty on the squares of weights", 0.0, type=float, metavar="X")
    option(group, "--l1", "penalty on their absolute values", 0.0, type=float, metavar="X")
    group = train.add_argument_group("the training")
    option(group, "--optimizer", "the update", "adam", choices=list(optimizers.OPTIMIZERS))
    option(group, "--learning-rate", "default: the optimizer's own", type=float, metavar="X")
    option(
        group,
        "--schedule",
        "of the learning rate: cosine, down to 0 or to cosine:FINAL; exponential:FACTOR an epoch; "
        "step:FACTOR,EPOCHS; inverse:DECAY, divided by 1 + DECAY epochs",
        type=schedule,
        metavar="NAME:X,X",
    )
    option(group, "--warm-up", "epochs of linear warm-up, before the schedule", type=whole(1), metavar="N")
    option(group, "--momentum", "for sgd (default: 0)", type=float, metavar="X")
    option(group, "--nesterov", "Nesterov's momentum, for sgd", action="store_true")
    option(group, "--weight-decay", "for adamw (default: 0.01)", type=float, metavar="X")
    option(group, "--clip-norm", "largest norm of the gradient, which is scaled down to it", type=float, metavar="X")
    option(group, "--clip-value", "largest absolute value of its entries, which are clipped", type=float, metavar="X")
    option(group, "--epochs", "passes over the data", 50, type=whole(1), metavar="N")
    option(
        group,
        "--early-stopping",
        "stop after N epochs without improvement, and keep the best epoch's weights; improvement is measured by the "
        f"cost of {STOPPING_SHARE:g} of the training examples, which are set aside",
        type=whole(1),
        metavar="N",
    )
    option(group, "--batch-size", "examples of one step, or full for all of them", 32, type=batch_size, metavar="N")
    option(group, "--seed", "of splits, first weights, order and dropout", 0, type=whole(0), metavar="N")
    threads(group)
    group = train.add_argument_group("the result")
    option(group, "--save", "write the model to this file", metavar="FILE.npz")
    option(group, "--plot", "draw learning curves, and for classes the confusion matrix", metavar="FILE.png")
    option(group, "--quiet", "print the result only", action="store_true")
