"""The command line: `nnkern train | predict | evaluate | export | info | bench`.

Results go to standard output, the progress bar and messages to standard error. An error is one
line there and exit status 2; Ctrl-C gives 130; a reader that goes away (`| head`) gives 141.
Nothing here is imported by `import nnkern`; what is heavy is imported when a command needs it.
"""

import argparse
import contextlib
import csv
import math
import os
import sys
import warnings

USAGE_ERROR = 2
INTERRUPTED = 128 + 2  # as a shell reports death by SIGINT
BROKEN_PIPE = 128 + 13  # and by SIGPIPE

RECORD = "nnkern.data"  # the preprocessor's place in a model's metadata
PLOT_SUFFIXES = (".png", ".pdf", ".svg")
# Defaults of options for the digits, and for a user's own data. Held-out accuracy on the digits was
# 0.980 ± 0.004 over twelve seeds, each with its own split; with 64 units and no dropout 0.976.
DIGITS_DEFAULTS = {"layers": [256], "dropout": 0.3, "validation": 1 / 3}
DATA_DEFAULTS = {"layers": [64], "dropout": 0.0, "validation": 0.2}

TRAIN_EXAMPLES = """\
examples:
  nnkern train                                        scikit-learn's handwritten digits
  nnkern train houses.csv --target price --layers 64,64 --save houses.npz
  nnkern train patients.csv --target sick --layers none --optimizer sgd --l2 1e-3
  nnkern train cats/ --layers 20,7,5 --epochs 50 --plot curve.png --save cats.npz
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

    activations = ", ".join(nnkern.kernels.ACTIVATIONS)
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

    def threads(made):
        made.add_argument(
            "--threads",
            type=_whole(1),
            metavar="N",
            help=f"threads to compute with (default: {nnkern.get_num_threads()})",
        )

    train = command("train", _train, "train a network and measure it", TRAIN_EXAMPLES)
    train.add_argument("data", nargs="?", metavar="DATA", help="what to learn (default: digits)")
    group = train.add_argument_group("the data")
    group.add_argument("--target", metavar="COLUMN", help="column to predict (default: the last)")
    group.add_argument(
        "--task",
        choices=("auto", "classification", "regression"),
        default="auto",
        help="default: classification for text, labels and two values, regression for numbers",
    )
    group.add_argument("--ignore", type=_names, default=[], metavar="A,B", help="columns to leave out")
    group.add_argument(
        "--categorical",
        type=_names,
        default=[],
        metavar="A,B",
        help="columns of numbers that are names of categories",
    )
    group.add_argument(
        "--missing",
        choices=("error", "impute"),
        default="error",
        help="empty cells of features: refuse them (default), or take the column's mean, and for text no category",
    )
    group.add_argument(
        "--size",
        type=_whole(1),
        default=64,
        metavar="N",
        help="pictures are resized to N by N pixels (default: 64)",
    )
    group.add_argument(
        "--validation",
        type=_share,
        metavar="SHARE",
        help="share of the examples to hold out, 0 for none (default: 0.2; of the digits a third)",
    )
    group = train.add_argument_group("the network")
    group.add_argument(
        "--layers",
        type=_layers,
        metavar="N,N",
        help="units of the hidden layers, none for no hidden layer (default: 64; for the digits 256)",
    )
    group.add_argument(
        "--activation",
        default="relu",
        metavar="NAME",
        help=f"of the hidden layers: {activations} (default: relu)",
    )
    group.add_argument(
        "--loss",
        choices=list(nnkern.losses.LOSSES),
        help="default: binary_cross_entropy for two classes, cross_entropy for more, squared_error for regression",
    )
    group.add_argument("--l2", type=float, default=0.0, metavar="X", help="weight penalty (default: 0)")
    group.add_argument(
        "--dropout",
        type=float,
        metavar="P",
        help="share of each hidden layer's outputs that is dropped in training (default: 0; for the digits 0.3)",
    )
    group.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    group = train.add_argument_group("the training")
    group.add_argument(
        "--optimizer",
        choices=list(nnkern.optimizers.OPTIMIZERS),
        default="adam",
        help="default: adam",
    )
    group.add_argument("--learning-rate", type=float, metavar="X", help="default: the optimizer's own")
    group.add_argument("--momentum", type=float, metavar="X", help="for sgd (default: 0)")
    group.add_argument(
        "--epochs",
        type=_whole(1),
        default=50,
        metavar="N",
        help="passes over the data (default: 50)",
    )
    group.add_argument(
        "--batch-size",
        type=_batch_size,
        default=32,
        metavar="N",
        help="examples of one step, full for all of them (default: 32)",
    )
    group.add_argument(
        "--seed",
        type=_whole(0),
        default=0,
        metavar="N",
        help="of the split, the first weights, the order and dropout (default: 0)",
    )
    threads(group)
    group = train.add_argument_group("the result")
    group.add_argument("--save", metavar="FILE.npz", help="write the model to this file")
    group.add_argument("--plot", metavar="FILE.png", help="draw the learning curve (matplotlib)")
    group.add_argument("--quiet", action="store_true", help="print the result only")

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
    predict.add_argument("--output", metavar="FILE", help="where to write (default: standard output)")

    export = command("export", _export, "write a model in a format that other programs read", EXPORT_EXAMPLES)
    export.add_argument("model", metavar="MODEL", help="file that nnkern train --save, or save() of a network, wrote")
    export.add_argument("--to", choices=list(EXPORTS), required=True, help="the format")
    export.add_argument("--output", metavar="FILE", help="where to write (default: MODEL with the format's suffix)")

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
    classes = target.labels
    loss = options.loss or _default_loss(classes)
    if loss == "binary_cross_entropy" and len(classes) > 2:
        raise CommandError(f"--loss {loss} is for two classes, not for {len(classes)}")
    strata = target.Y if classes else target.m
    rows, held = nkdata.split(strata, options.validation, options.seed)
    preprocessor = nkdata.Preprocessor.fit(
        data,
        target,
        rows=rows,
        ignore=options.ignore,
        categorical=options.categorical,
        missing=options.missing,
        scale_target=nk.losses.LOSSES[loss].low == -math.inf,
    )
    X = preprocessor.features(data, options.dtype)
    Y = target.Y if classes else preprocessor.standardise_target(target.Y, options.dtype)
    X_train, Y_train = nkdata.take(X, rows), nkdata.take(Y, rows)
    X_held, Y_held = nkdata.take(X, held), nkdata.take(Y, held)
    del X

    net = _network(options, nk, preprocessor, loss)
    net.metadata[RECORD] = preprocessor.to_dict()
    if not options.quiet:
        _describe(options, data, target, net, len(rows), len(held))
    watch = len(held) > 0 and bool(options.plot or not options.quiet)
    history = net.fit(
        X_train,
        Y_train,
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=optimizer,
        validation_data=(X_held, Y_held) if watch else None,
        progress=not options.quiet,
        threads=options.threads,
    )
    if options.save:
        net.save(options.save)
    if len(held):
        _report("held-out", net, preprocessor, X_held, Y_held, options.threads)
    else:
        _report("training", net, preprocessor, X_train, Y_train, options.threads)
    seconds = sum(history["seconds"])  # of training alone, without what watches it
    speed = len(rows) * len(history["seconds"]) / seconds
    print(f"trained in {seconds:.2f} s, {speed:,.0f} examples per second")
    if options.save and not options.quiet:
        print(f"saved {options.save}")
    if options.plot:
        _plot(history, options.plot, "accuracy" if classes else "R2")
        if not options.quiet:
            print(f"drew {options.plot}")


def _task(nk, loss):
    return "classification" if nk.losses.LOSSES[loss].classifies else "regression"


def _default_loss(classes):
    if classes is None:
        return "squared_error"
    return "cross_entropy" if len(classes) > 2 else "binary_cross_entropy"


def _check_outputs(options, nkdata):
    """Refuse before the training what could only fail after it."""
    for path in filter(None, (options.save, options.plot)):
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise CommandError(f"{path}: there is no folder {folder}")
        if os.path.exists(path) and not os.path.isfile(path):
            raise CommandError(f"{path} is a folder or a device, expected the name of a file")
        if not os.access(folder, os.W_OK):
            raise CommandError(f"{path}: no permission to write in {folder}")
    if options.plot:
        if not options.plot.lower().endswith(PLOT_SUFFIXES):
            raise CommandError(f"--plot {options.plot}: expected one of {', '.join(PLOT_SUFFIXES)}")
        nkdata.require("matplotlib", "--plot")


def _optimizer(options, nk):
    settings = {}
    if options.learning_rate is not None:
        settings["learning_rate"] = options.learning_rate
    if options.momentum is not None:
        if options.optimizer != "sgd":
            raise CommandError(f"--momentum is for --optimizer sgd, not for {options.optimizer}")
        settings["momentum"] = options.momentum
    return nk.optimizers.OPTIMIZERS[options.optimizer](**settings)


def _network(options, nk, preprocessor, loss):
    hidden = [nk.Dense(units, options.activation, dropout=options.dropout) for units in options.layers]
    if loss == "binary_cross_entropy":
        output = nk.Dense(1, "sigmoid")
    elif loss == "cross_entropy":
        output = nk.Dense(len(preprocessor.labels), "softmax")
    else:
        output = nk.Dense(len(preprocessor.target_mean), nk.losses.LOSSES[loss].output or "linear")
    return nk.Network(
        [*hidden, output],
        loss=loss,
        n_x=preprocessor.n_x,
        l2=options.l2,
        dtype=options.dtype,
        seed=options.seed,
    )


def _describe(options, data, target, net, m, held):
    task = target.task
    if target.labels:
        task = f"{len(target.labels)} classes"
    column = f" of {target.name!r}" if target.name else ""
    print(f"data     {data.describe()}")
    print(f"task     {task}{column} ({target.reason}); {m} to train on, {held} held out")
    sizes = "-".join(str(n) for n in (net.n_x, *(layer.units for layer in net.layers)))
    outputs = net.layers[-1].activation
    hidden = f"{options.activation}, " if options.layers else ""
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
    _report("", net, preprocessor, X, Y, options.threads)


def _report(what, net, preprocessor, X, Y, threads):
    """Print accuracy, or R2 and RMSE, and the cost."""
    cost, score = net.evaluate(X, Y, threads=threads)
    what = what and f"{what} "
    examples = f"({X.shape[1]} examples)"
    if preprocessor.labels is not None:
        print(f"{what}accuracy {score:.4f} {examples}, cost {cost:.4g}")
        return
    off = preprocessor.predictions(net.predict(X, threads=threads)) - preprocessor.predictions(Y)
    rmse = (off**2).mean() ** 0.5
    print(f"{what}R2 {score:.4f}, RMSE {rmse:.6g} {examples}, cost {cost:.4g}")


def _export(options):
    import nnkern as nk
    from nnkern import io

    output = options.output or os.path.splitext(options.model)[0] + EXPORTS[options.to]
    if options.to == "safetensors" and not output.lower().endswith(".safetensors"):
        raise CommandError(f"--output {output}: the name must end in .safetensors")
    if os.path.realpath(output) == os.path.realpath(options.model):
        raise CommandError(f"{output} is the model itself: --output says where else to write")
    net = nk.load(options.model)
    if options.to == "safetensors":
        net.save(output)
    elif options.to == "torch":
        model = net.to_torch()
        import torch

        with io.whole_file(output) as file:
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


def _plot(history, path, score):
    """The learning curve: the cost by epoch above, the score below where there is one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = range(1, len(history["cost"]) + 1)
    curves = [("cost", ("cost", "val_cost")), (score, ("score", "val_score"))]
    curves = [(name, keys) for name, keys in curves if any(key in history for key in keys)]
    figure = Figure(figsize=(7, 3.5 * len(curves)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, keys) in zip(figure.subplots(len(curves), squeeze=False), curves, strict=True):
        for key, label in zip(keys, ("training", "held out"), strict=True):
            if key in history:
                axes[0].plot(epochs, history[key], label=label)
        axes[0].set(xlabel="epoch", ylabel=name)
        axes[0].grid(alpha=0.3)
        axes[0].legend()
    figure.savefig(path, dpi=120)
