"""The command line: `nnkern train | predict | evaluate | export | info | bench`.

Results go to standard output, the progress bar and messages to standard error. An error is one
line there and exit status 2; Ctrl-C gives 130; a reader that goes away (`| head`) gives 141.
Nothing here is imported by `import nnkern`; what is heavy is imported when a command needs it.
"""

import argparse
import contextlib
import csv
import dataclasses
import math
import os
import sys
import warnings

USAGE_ERROR = 2
INTERRUPTED = 128 + 2  # as a shell reports death by SIGINT
BROKEN_PIPE = 128 + 13  # and by SIGPIPE

FORMATS = {"accuracy": ".4f", "R2": ".4f", "RMSE": ".6g", "cost": ".4g"}
RECORD = "nnkern.data"  # the preprocessor's place in a model's metadata
PLOT_SUFFIXES = (".png", ".pdf", ".svg")
# Defaults of options for the digits, and for a user's own data. Held-out accuracy on the digits was
# 0.980 ± 0.004 over twelve seeds, each with its own split; with 64 units and no dropout 0.976.
DIGITS_DEFAULTS = {"layers": [256], "dropout": [0.3], "validation": 1 / 3}
DATA_DEFAULTS = {"layers": [64], "dropout": [0.0], "validation": 0.2}
# of the training examples, for early stopping; scikit-learn's default
STOPPING_SHARE = 0.1
# schedule: the class in nnkern.schedules, and the kinds of its numbers after the first rate
SCHEDULES = {
    "cosine": ("Cosine", {"final": float}),
    "exponential": ("Exponential", {"factor": float}),
    "step": ("Step", {"factor": float, "every": int}),
    "inverse": ("InverseTime", {"decay": float}),
}

TRAIN_EXAMPLES = """\
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

Features are standardised (what that takes, and the label names, are kept in the model file), and
so is the target of a regression. Part of the data, of every class alike, is held out to measure
the result on; it takes no part in the training.
"""
PREDICT_EXAMPLES = """\
examples:
  nnkern predict houses.npz new_houses.csv --output prices.csv
  nnkern predict cats.npz picture.jpg
  cat new.csv | nnkern predict model.npz - | head

Writes CSV, one row for each example: its label and the probability of every class, or for a
regression the prediction; for pictures, the file before that. The target column may be absent.
"""
EVALUATE_EXAMPLES = """\
examples:
  nnkern evaluate houses.npz other_houses.csv
  nnkern evaluate cats.npz other_cats/

Prints accuracy and cost, or for a regression R2 and RMSE, on all the examples of DATA.
"""


EXPORT_EXAMPLES = """\
examples:
  nnkern export houses.npz --to onnx
  nnkern export digits.npz --to c --output digits.c

onnx         X (batch, features) to A, or to label and probabilities; needs the package onnx
c            one C99 file with a function predict for one example; needs nothing
safetensors  an nnkern model of that format, its tensors named as torch names them
torch        a torch.nn.Sequential, for torch.load(FILE, weights_only=False)

For onnx and c, what the model's file remembers of its data goes along: features enter as they are in the
data (text columns as their 0/1 features) and are standardised inside, numbers come out in the target's
units, classes have their names.
"""
# suffix of the file, and the packages it takes
EXPORTS = {"onnx": ".onnx", "c": ".c", "safetensors": ".safetensors", "torch": ".pt"}


class CommandError(Exception):
    """What is wrong with a command, in one line."""


class _Parser(argparse.ArgumentParser):
    """Reports an error as one line, without the usage."""

    def error(self, message):
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv=None):
    """Run the command line on `argv` (`sys.argv[1:]` by default); returns the exit status."""
    name = "nnkern"
    status = 0
    try:
        try:
            parser = _parser()
            arguments, arguments.rest = parser.parse_known_args(argv)
            if arguments.rest and arguments.run is not _bench:
                parser.error(f"unrecognized arguments: {' '.join(arguments.rest)}")
            name = f"nnkern {arguments.command}"
            with _one_line_warnings():
                arguments.run(arguments)
        except SystemExit as stop:  # argparse: --help, --version, a wrong argument
            status = stop.code or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _silence_output()
        return BROKEN_PIPE
    except Exception as error:
        if sys.flags.dev_mode:  # python -X dev -m nnkern shows where it came from
            raise
        _silence_output()
        print(f"{name}: error: {_one_line(error)}", file=sys.stderr)
        return USAGE_ERROR
    return status


def _silence_output():
    """Keep the interpreter from failing once more when it flushes standard output at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error):
    from nnkern.data import MissingPackageError

    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' + text if text else ''}"
    if not isinstance(error, (CommandError, ValueError, OSError, MissingPackageError)) or not text:
        text = f"{type(error).__name__}: {text}"  # not foreseen: its kind is part of the news
    return text


@contextlib.contextmanager
def _one_line_warnings():
    def show(message, category, filename, lineno, file=None, line=None):
        print(f"nnkern: warning: {' '.join(str(message).split())}", file=sys.stderr)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


# ---------------------------------------------------------------------------------------------
# Arguments
# ---------------------------------------------------------------------------------------------


def _parser():
    import nnkern

    parser = _Parser(
        prog="nnkern",
        description="Train and run dense neural networks on the CPU.",
        epilog="nnkern COMMAND --help says more; nnkern train alone shows what it does.",
    )
    parser.add_argument("--version", action="version", version=f"nnkern {nnkern.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name, run, text, epilog=None, **more):
        made = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **more,
        )
        made.set_defaults(run=run)
        return made

    def option(made, name, text, default=None, **how):
        if default is not None and not isinstance(default, list):
            text += f" (default: {default:g})" if isinstance(default, float) else f" (default: {default})"
        made.add_argument(name, default=default, help=text, **how)

    def threads(made):
        default = nnkern.get_num_threads()
        option(made, "--threads", f"threads to compute with (default: {default})", type=_whole(1), metavar="N")

    train = command("train", _train, "train a network and measure it", TRAIN_EXAMPLES)
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
    option(group, "--ignore", "columns to leave out", type=_names, metavar="A,B")
    option(group, "--categorical", "columns of numbers that are names of categories", type=_names, metavar="A,B")
    option(
        group,
        "--missing",
        "empty cells of features: refuse them, or take the column's mean, and for text no category",
        "error",
        choices=("error", "impute"),
    )
    option(group, "--size", "pictures are resized to N by N pixels", 64, type=_whole(1), metavar="N")
    option(
        group,
        "--validation",
        "share of the examples to hold out, 0 for none (default: 0.2; of the digits a third)",
        type=_share,
        metavar="SHARE",
    )
    option(
        group,
        "--folds",
        "cross-validation: K trainings, each of which holds out another K-th of the examples; --save then trains once "
        "more, on all of them",
        type=_whole(2),
        metavar="K",
    )
    group = train.add_argument_group("the network")
    option(
        group,
        "--layers",
        "units of the hidden layers, none for no hidden layer (default: 64; for the digits 256)",
        type=_layers,
        metavar="N,N",
    )
    option(
        group,
        "--activation",
        f"of the hidden layers, one for all or one for each: {', '.join(nnkern.kernels.ACTIVATIONS)} (default: relu)",
        ["relu"],
        type=_names,
        metavar="NAME,NAME",
    )
    option(
        group,
        "--dropout",
        "share of the hidden layers' outputs that is dropped in training, one for all or one for each (default: 0; for "
        "the digits 0.3)",
        type=_numbers,
        metavar="P,P",
    )
    option(group, "--dtype", "of all numbers", "float32", choices=("float32", "float64"))
    group = train.add_argument_group("what is minimised")
    option(
        group,
        "--loss",
        "default: binary_cross_entropy for two classes, cross_entropy for more, squared_error for regression",
        choices=list(nnkern.losses.LOSSES),
    )
    option(group, "--label-smoothing", "share of each label that goes to all classes alike", type=float, metavar="X")
    option(group, "--delta", "where huber turns from a square into a line", type=float, metavar="X")
    option(group, "--quantile", "which quantile the loss quantile predicts", type=float, dest="q", metavar="Q")
    option(
        group,
        "--class-weight",
        "balanced: each class counts as much as any other; or the weights of labels, 1 for those that aren't named",
        type=_class_weight,
        metavar="A=X,B=X",
    )
    option(group, "--l2", "penalty on the squares of weights", 0.0, type=float, metavar="X")
    option(group, "--l1", "penalty on their sizes", 0.0, type=float, metavar="X")
    group = train.add_argument_group("the training")
    option(group, "--optimizer", "the update", "adam", choices=list(nnkern.optimizers.OPTIMIZERS))
    option(group, "--learning-rate", "default: the optimizer's own", type=float, metavar="X")
    option(
        group,
        "--schedule",
        "what becomes of the learning rate: cosine, down to 0 or to cosine:FINAL; exponential:FACTOR an epoch; "
        "step:FACTOR,EPOCHS; inverse:DECAY, divided by 1 + DECAY epochs",
        type=_schedule,
        metavar="NAME:X,X",
    )
    option(group, "--warm-up", "epochs in which it rises first", type=_whole(1), metavar="N")
    option(group, "--momentum", "for sgd (default: 0)", type=float, metavar="X")
    option(group, "--nesterov", "Nesterov's momentum, for sgd", action="store_true")
    option(group, "--weight-decay", "for adamw (default: 0.01)", type=float, metavar="X")
    option(group, "--clip-norm", "longest gradient; a longer one is made shorter", type=float, metavar="X")
    option(group, "--clip-value", "largest entry of the gradient", type=float, metavar="X")
    option(group, "--epochs", "passes over the data", 50, type=_whole(1), metavar="N")
    option(
        group,
        "--early-stopping",
        "stop after N epochs without improvement, and keep the best epoch's weights; it is measured by the cost of "
        f"{STOPPING_SHARE:g} of the training examples, which are set aside",
        type=_whole(1),
        metavar="N",
    )
    option(group, "--batch-size", "examples of one step, full for all of them", 32, type=_batch_size, metavar="N")
    option(group, "--seed", "of splits, first weights, order and dropout", 0, type=_whole(0), metavar="N")
    threads(group)
    group = train.add_argument_group("the result")
    option(group, "--save", "write the model to this file", metavar="FILE.npz")
    option(group, "--plot", "draw learning curves, and of classes what was taken for what", metavar="FILE.png")
    option(group, "--quiet", "print the result only", action="store_true")

    predict = command("predict", _predict, "write a model's predictions as CSV", PREDICT_EXAMPLES)
    evaluate = command("evaluate", _evaluate, "measure a model on labelled data", EVALUATE_EXAMPLES)
    for made in (predict, evaluate):
        made.add_argument("model", metavar="MODEL", help="file that nnkern train --save wrote")
        made.add_argument(
            "data",
            nargs="?",
            metavar="DATA",
            help="data of the kind the model was trained on (default: all the digits)",
        )
        threads(made)
    option(predict, "--output", "where to write (default: standard output)", metavar="FILE")

    export = command("export", _export, "write a model in a format that other programs read", EXPORT_EXAMPLES)
    export.add_argument("model", metavar="MODEL", help="file that nnkern train --save, or save() of a network, wrote")
    option(export, "--to", "the format", choices=list(EXPORTS), required=True)
    option(export, "--output", "where to write (default: MODEL with the format's suffix)", metavar="FILE")

    command("info", _info, "show version, BLAS, instruction set and threads")
    # The benchmarks parse their options, --help too.
    command("bench", _bench, "verify, then time nnkern beside the libraries that are installed", add_help=False)
    return parser


def _whole(least):
    def parse(text):
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return value

    return parse


def _share(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share, 0 <= share < 1")
    return value


def _layers(text):
    if text.strip().lower() == "none":
        return []
    try:
        layers = [int(units) for units in text.split(",")]
    except ValueError:
        layers = [0]
    if min(layers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layer sizes like 64,32")
    return layers


def _numbers(text):
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, or a list of them like 0.1,0.2") from None


def _class_weight(text):
    """ "balanced", or {label: weight}."""
    if text.strip().lower() == "balanced":
        return "balanced"
    pairs = [pair.rpartition("=") for pair in _names(text)]
    try:
        return {label.strip(): float(weight) for label, _, weight in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither balanced nor a list like yes=5,no=1") from None


def _schedule(text):
    """(name of the class, its numbers but for the first rate and the epochs)."""
    name, _, numbers = text.partition(":")
    if name not in SCHEDULES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of the schedules {', '.join(SCHEDULES)}")
    cls, kinds = SCHEDULES[name]
    given = numbers.split(",") if numbers else []
    if len(given) != len(kinds) and (given or name != "cosine"):
        raise argparse.ArgumentTypeError(f"{text!r} must be {name}:{','.join(kinds).upper()}")
    try:
        settings = {key: kind(number) for (key, kind), number in zip(kinds.items(), given, strict=False)}
        good = all(math.isfinite(x) and x >= (key == "every") for key, x in settings.items())
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers >= 0, and a whole number of epochs >= 1")
    return cls, settings


def _batch_size(text):
    return None if text.strip().lower() == "full" else _whole(1)(text)


def _names(text):
    return next(csv.reader([text], skipinitialspace=True))


# ---------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------


def _train(options):
    import nnkern as nk
    from nnkern import data as nkdata

    if options.folds and options.validation is not None:
        raise CommandError("--folds holds out every example once: leave --validation out")
    defaults = DIGITS_DEFAULTS if options.data is None else DATA_DEFAULTS
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    _check_outputs(options, nkdata)
    optimizer = _optimizer(options, nk)
    task = None if options.task == "auto" else options.task
    if options.loss:
        task_of_loss = _task(nk, options.loss)
        if task not in (None, task_of_loss):
            raise CommandError(f"--loss {options.loss} is for {task_of_loss}, not for {task}")
        task = task_of_loss

    data = nkdata.read(options.data, size=options.size)
    if not isinstance(data, nkdata.Table):
        for name in ("target", "ignore", "categorical"):
            if getattr(options, name):
                raise CommandError(f"--{name} is for CSV files, {data.source} has no columns")
    target = nkdata.choose_target(data, options.target, task)
    loss = _loss(options, nk, target.labels)
    fit = {"optimizer": optimizer, "class_weight": _weights_of_codes(options, target)}
    strata = target.Y if target.labels else target.m
    if options.folds:
        parts = nkdata.folds(strata, options.folds, options.seed)
    else:
        parts = [nkdata.split(strata, options.validation, options.seed)]
    runs = []
    for i, part in enumerate(parts):
        run = _Run(options, data, target, loss, *part)
        if i == 0 and not options.quiet:
            _describe(options, data, target, run)
        run.train(fit)
        if options.folds and not options.quiet:
            print(f"fold {i + 1}/{len(parts)} {run.said()}", flush=True)
        runs.append(run)
    if options.save:
        if options.folds:
            run = _Run(options, data, target, loss, *nkdata.split(strata, 0))
            run.train(fit)
        run.net.save(options.save)
    print(f"{len(runs)} folds {_said_of_all(runs)}" if options.folds else run.said())
    seconds = sum(sum(run.history["seconds"]) for run in runs)  # of training alone, without what watches it
    examples = sum(run.m * len(run.history["seconds"]) for run in runs)
    print(f"trained in {seconds:.2f} s, {examples / seconds:,.0f} examples per second")
    if options.save and not options.quiet:
        print(f"saved {options.save}")
    if options.plot:
        _plot(runs, options.plot)
        if not options.quiet:
            print(f"drew {options.plot}")


class _Run:
    """One training, and what it came to: of the whole command, or of one fold."""

    def __init__(self, options, data, target, loss, rows, held):
        import nnkern as nk
        from nnkern import data as nkdata

        self.options, self.held = options, len(held)
        preprocessor = nkdata.Preprocessor.fit(
            data,
            target,
            rows=rows,
            ignore=options.ignore or (),
            categorical=options.categorical or (),
            missing=options.missing,
            scale_target=loss.low == -math.inf,
        )
        self.preprocessor = preprocessor
        X = preprocessor.features(data, options.dtype)
        Y = target.Y if target.labels else preprocessor.standardise_target(target.Y, options.dtype)
        aside = []
        if options.early_stopping:
            strata = target.Y[rows] if target.labels else len(rows)
            trained, stopping = nkdata.split(strata, STOPPING_SHARE, options.seed)
            rows, aside = rows[trained], rows[stopping]
        self.m = len(rows)
        self._training, self._aside, self._held = (
            (nkdata.take(X, part), nkdata.take(Y, part)) for part in (rows, aside, held)
        )
        self.net = _network(options, nk, preprocessor, loss)
        self.net.metadata[RECORD] = preprocessor.to_dict()

    def train(self, fit):
        """Fits the network, with these options of fit among others, and measures it."""
        import nnkern as nk

        options = self.options
        stopping = nk.EarlyStopping(options.early_stopping) if options.early_stopping else None
        watched = None
        if stopping:
            watched = self._aside
        elif self.held and (options.plot or not options.quiet):
            watched = self._held
        self.history = self.net.fit(
            *self._training,
            epochs=options.epochs,
            batch_size=options.batch_size,
            validation_data=watched,
            callbacks=stopping,
            progress=not options.quiet,
            threads=options.threads,
            **fit,
        )
        if stopping and not options.quiet:
            done, best = len(self.history["cost"]), stopping.best_epoch + 1
            print(f"stopped  after {done} epochs, with the weights of epoch {best}")
        X, Y = self._held if self.held else self._training
        self.measures = _measures(self.net, self.preprocessor, X, Y, options.threads)
        self.labels = None
        if self.held and options.plot and self.preprocessor.labels is not None:
            self.labels = Y, self.net.predict_labels(X, threads=options.threads)
        del self._training, self._aside, self._held

    def said(self):
        """What it came to, in one line."""
        what, m = ("held-out", self.held) if self.held else ("training", self.m)
        return _said(what, self.measures, m)


def _said_of_all(runs):
    """Mean and standard deviation of what several trainings came to."""
    import statistics

    parts = []
    for name in runs[0].measures:
        values = [run.measures[name] for run in runs]
        mean, spread = (format(x, FORMATS[name]) for x in (statistics.fmean(values), statistics.stdev(values)))
        parts.append(f"{name} {mean} +- {spread}")
    return f"{', '.join(parts)} (mean and standard deviation)"


def _loss(options, nk, labels):
    """The loss, with its numbers."""
    name = options.loss or _default_loss(labels)
    if name == "binary_cross_entropy" and len(labels) > 2:
        raise CommandError(f"--loss {name} is for two classes, not for {len(labels)}")
    numbers = {"label_smoothing": "--label-smoothing", "delta": "--delta", "q": "--quantile"}
    return _made(options, nk.losses.LOSSES, name, "--loss", numbers)


def _made(options, registry, name, choice, numbers):
    """What a registry has of that name, made anew with the numbers {field: option} that were given."""
    fields = {key: {f.name for f in dataclasses.fields(one)} for key, one in registry.items()}
    given = {field: getattr(options, field) for field in numbers if getattr(options, field) is not None}
    for field in given:
        if field not in fields[name]:
            those = " or ".join(key for key in registry if field in fields[key])
            raise CommandError(f"{numbers[field]} is for {choice} {those}, not for {name}")
    one = registry[name]
    return (one if isinstance(one, type) else type(one))(**given)


def _weights_of_codes(options, target):
    """--class-weight as fit takes it: labels are integers there."""
    from nnkern.data import _codes

    weights = options.class_weight
    if weights is None:
        return None
    if target.labels is None:
        raise CommandError("--class-weight is for classification, not for regression")
    if isinstance(weights, str):
        return weights
    codes = _codes(weights, target.labels).tolist()
    for code, (label, weight) in zip(codes, weights.items(), strict=True):
        if code < 0:
            known = ", ".join(map(repr, target.labels[:20]))
            raise CommandError(f"--class-weight: {label!r} is none of the classes {known}")
        if not (math.isfinite(weight) and weight >= 0):
            raise CommandError(f"--class-weight {label}={weight:g}: expected a finite weight >= 0")
    return dict(zip(codes, weights.values(), strict=True))


def _task(nk, loss):
    return "classification" if nk.losses.LOSSES[loss].classifies else "regression"


def _default_loss(classes):
    if classes is None:
        return "squared_error"
    return "cross_entropy" if len(classes) > 2 else "binary_cross_entropy"


def _check_outputs(options, nkdata):
    """Refuse before the training what could only fail after it."""
    from nnkern.files.endings import is_safetensors

    for path in filter(None, (options.save, options.plot)):
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise CommandError(f"{path}: there is no folder {folder}")
        if os.path.exists(path) and not os.path.isfile(path):
            raise CommandError(f"{path} is a folder or a device, expected the name of a file")
        if not os.access(folder, os.W_OK):
            raise CommandError(f"{path}: no permission to write in {folder}")
    if options.save and is_safetensors(options.save):
        nkdata.require("safetensors.numpy", f"--save {options.save}")
    if options.plot:
        if not options.plot.lower().endswith(PLOT_SUFFIXES):
            raise CommandError(f"--plot {options.plot}: expected one of {', '.join(PLOT_SUFFIXES)}")
        nkdata.require("matplotlib", "--plot")


def _optimizer(options, nk):
    fields = ("learning_rate", "momentum", "nesterov", "weight_decay", "clip_norm", "clip_value")
    numbers = {field: f"--{field.replace('_', '-')}" for field in fields}
    optimizer = _made(options, nk.optimizers.OPTIMIZERS, options.optimizer, "--optimizer", numbers)
    warm_up = options.warm_up or 0
    if options.schedule:
        name, settings = options.schedule
        if name == "Cosine":
            settings = {"epochs": max(options.epochs - warm_up, 1), **settings}
        optimizer.learning_rate = getattr(nk.schedules, name)(optimizer.learning_rate, **settings)
    if warm_up:
        optimizer.learning_rate = nk.schedules.WarmUp(optimizer.learning_rate, warm_up)
    return optimizer


def _network(options, nk, preprocessor, loss):
    count = len(options.layers)

    def each(name):
        values = getattr(options, name)
        if len(values) not in (1, count):
            raise CommandError(f"--{name} has {len(values)} entries, expected one, or one for each of {count} layers")
        return values * count if len(values) == 1 else values

    hidden = [
        nk.Dense(units, activation, dropout=dropout)
        for units, activation, dropout in zip(options.layers, each("activation"), each("dropout"), strict=True)
    ]
    if loss.name == "binary_cross_entropy":
        output = nk.Dense(1, "sigmoid")
    elif loss.name == "cross_entropy":
        output = nk.Dense(len(preprocessor.labels), "softmax")
    else:
        output = nk.Dense(len(preprocessor.target_mean), loss.output or "linear")
    return nk.Network(
        [*hidden, output],
        loss=loss,
        n_x=preprocessor.n_x,
        l2=options.l2,
        l1=options.l1,
        dtype=options.dtype,
        seed=options.seed,
    )


def _describe(options, data, target, run):
    net, task = run.net, target.task
    if target.labels:
        task = f"{len(target.labels)} classes"
    column = f" of {target.name!r}" if target.name else ""
    print(f"data     {data.describe()}")
    parts = f"{run.m} to train on, {run.held} held out"
    if options.early_stopping:
        parts += f", {data.m - run.m - run.held} set aside"
    if options.folds:
        parts += f" in each of {options.folds} folds"
    print(f"task     {task}{column} ({target.reason}); {parts}")
    sizes = "-".join(str(n) for n in (net.n_x, *(layer.units for layer in net.layers)))
    outputs = net.layers[-1].activation
    hidden = f"{', '.join(options.activation)}, " if options.layers else ""
    rate = "" if options.learning_rate is None else f" {options.learning_rate:g}"
    print(
        f"network  {sizes}, {hidden}{outputs}, {net.loss}, {options.dtype}, {options.optimizer}{rate}",
        flush=True,
    )


def _predict(options):
    net, preprocessor, data = _load(options)
    A = net.predict(preprocessor.features(data, net.dtype), threads=options.threads)
    header, columns = _prediction_columns(preprocessor, A)
    if getattr(data, "files", None):
        header, columns = ["file", *header], [data.files, *columns]
    with _output(options.output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))


def _prediction_columns(preprocessor, A):
    """Header and columns of the CSV, for a network's output A (n_y, m)."""
    digits = 9 if A.dtype == "float32" else 17  # as many as tell any two numbers apart

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


def _evaluate(options):
    net, preprocessor, data = _load(options)
    Y = preprocessor.targets(data, net.dtype)
    X = preprocessor.features(data, net.dtype)
    print(_said("", _measures(net, preprocessor, X, Y, options.threads), X.shape[1]))


def _measures(net, preprocessor, X, Y, threads):
    """{name: value} of what is printed: accuracy, or R2 and RMSE; and the cost."""
    cost, score = net.evaluate(X, Y, threads=threads)
    if preprocessor.labels is not None:
        return {"accuracy": score, "cost": cost}
    off = preprocessor.predictions(net.predict(X, threads=threads)) - preprocessor.predictions(Y)
    return {"R2": score, "RMSE": (off**2).mean() ** 0.5, "cost": cost}


def _said(what, measures, m):
    """The measures of m examples in one line."""
    *scores, cost = [f"{name} {value:{FORMATS[name]}}" for name, value in measures.items()]
    return f"{what}{' ' if what else ''}{', '.join(scores)} ({m} examples), {cost}"


def _export(options):
    import nnkern as nk
    from nnkern.files.atomic import whole_file
    from nnkern.files.endings import is_safetensors

    output = options.output or os.path.splitext(options.model)[0] + EXPORTS[options.to]
    if options.to == "safetensors" and not is_safetensors(output):
        raise CommandError(f"--output {output}: the name must end in .safetensors")
    if os.path.realpath(output) == os.path.realpath(options.model):
        raise CommandError(f"{output} is the model itself: --output says where else to write")
    net = nk.load(options.model)
    if options.to == "safetensors":
        net.save(output)
    elif options.to == "torch":
        model = net.to_torch()
        import torch

        with whole_file(output) as file:
            torch.save(model, file)
    else:
        dressing = _dressing(net, _preprocessor(net, options.model)) if RECORD in net.metadata else {}
        (net.to_onnx if options.to == "onnx" else net.to_c)(output, **dressing)
    print(f"wrote {output}")


def _dressing(net, preprocessor):
    """What stands around the network in an exported file."""
    repeat = net.n_x // len(preprocessor.mean)
    dressing = {name: getattr(preprocessor, name).repeat(repeat) for name in ("mean", "scale")}
    if preprocessor.labels is not None:
        return dressing | {"labels": preprocessor.labels}
    return dressing | {name: getattr(preprocessor, name) for name in ("target_mean", "target_scale")}


def _load(options):
    """The network of the model file, its preprocessor, and the data read as that one wants it."""
    import nnkern as nk
    from nnkern import data as nkdata

    net = nk.load(options.model)
    preprocessor = _preprocessor(net, options.model)
    return net, preprocessor, nkdata.read(options.data, size=preprocessor.size or 64)


def _preprocessor(net, path):
    """What the model file remembers of its data, held against the network."""
    import nnkern as nk
    from nnkern import data as nkdata

    record = net.metadata.get(RECORD)
    if record is None:
        preprocessor = _plain_preprocessor(net, nk, nkdata, path)
    else:
        preprocessor = nkdata.Preprocessor.from_dict(record)
    if preprocessor.labels is None:
        n_y = len(preprocessor.target_mean)
    else:
        n_y = 1 if net.loss == "binary_cross_entropy" else len(preprocessor.labels)
    if (net.n_x, net.n_y, _task(nk, net.loss)) != (preprocessor.n_x, n_y, preprocessor.task):
        raise CommandError(f"{path}: the network and the record of its data don't agree")
    return preprocessor


def _plain_preprocessor(net, nk, nkdata, path):
    """For a network that was not made by `nnkern train`: X enters as it is, labels are numbers."""
    plain = {"mean": [0.0] * net.n_x, "scale": [1.0] * net.n_x}
    if _task(nk, net.loss) == "regression":
        target = {"target_mean": [0.0] * net.n_y, "target_scale": [1.0] * net.n_y}
        return nkdata.Preprocessor("array", net.n_x, task="regression", **plain, **target)
    if net.loss == "binary_cross_entropy" and net.n_y > 1:
        raise CommandError(f"{path} has several sigmoid outputs, which only nk.load can use")
    labels = [str(i) for i in range(max(net.n_y, 2))]
    return nkdata.Preprocessor("array", net.n_x, task="classification", labels=labels, **plain)


def _info(options):
    import nnkern as nk

    print(nk.show_config())


def _bench(options):
    """Run the benchmarks, a folder of scripts, in a process of their own."""
    import subprocess

    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_bench", "run.py")
    # A script finds its neighbours in its own folder, unless this variable is set.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    raise SystemExit(subprocess.run([sys.executable, script, *options.rest], env=environment).returncode)


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _output(path):
    """Standard output, or a text file that becomes `path` when all is written, old or new whole."""
    if path is None:
        yield sys.stdout
        return
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):  # a device or a pipe: no renaming
        with open(target, "w", encoding="utf-8", newline="") as file:
            yield file
        return
    draft = f"{target}.{os.getpid()}.part"
    try:
        with open(draft, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def _plot(runs, path):
    """The learning curves of all runs: cost, and score where there is one; and the confusion on what was held out."""
    import numpy as np

    from nnkern import plotting

    histories = [run.history for run in runs]
    kinds = ["cost"] + ["score"] * any(key in histories[0] for key in ("score", "val_score"))
    matrix = runs[0].labels is not None
    figure, axes = plotting.panels(len(kinds) + matrix, width=7, height=3.5)
    labels = [f"fold {i}" for i in range(1, len(runs) + 1)]
    for quantity, ax in zip(kinds, axes[:, 0], strict=False):
        if len(runs) > 1:
            plotting.learning_curve(histories, quantity, labels=labels, ax=ax)
        else:
            plotting.learning_curve(histories[0], quantity, ax=ax)
        if quantity == "score":
            ax.set(ylabel=next(iter(runs[0].measures)))
    if matrix:
        names = runs[0].preprocessor.labels
        Y, Y_hat = (np.concatenate(parts) for parts in zip(*(run.labels for run in runs), strict=True))
        plotting.confusion_matrix(Y, Y_hat, classes=range(len(names)), labels=names, ax=axes[-1, 0])
    figure.savefig(path, dpi=120)
