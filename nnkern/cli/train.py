"""`nnkern train`: of arrays and pictures, reads, trains one network or one for each fold, measures, saves and draws.

A table goes on to train_table.py.
"""

import dataclasses
import math

import nnkern as nk
from nnkern import data as nkdata
from nnkern.cli.errors import CommandError
from nnkern.cli.models import FORMATS, RECORD, class_weights, measure, measures_line, outputs_of, task_of
from nnkern.cli.options import FULL, given
from nnkern.cli.output import check_folder, is_special, report_training
from nnkern.cli.train_options import ARRAYS, DATA_DEFAULTS, DIGITS_DEFAULTS, STOPPING_SHARE, add_train, refuse_others
from nnkern.files.endings import check_written, is_safetensors
from nnkern.summary import numbers_of

PLOT_SUFFIXES = (".png", ".pdf", ".svg")


def add_to(commands):
    add_train(commands, run)


def run(options):
    """Trains as the options say, prints the measures, and writes model and plot."""
    options.quiet = options.quiet or options.json
    options.task = None if options.task == "auto" else options.task
    options.seed = options.seed or 0
    _check_outputs(options)
    if options.data is not None and nkdata.is_table(options.data):
        from nnkern.cli import train_table

        return train_table.run(options)
    _fill_in_defaults(options)
    optimizer = _optimizer(options)
    data, target = _read(options)
    loss = _loss(options, target.labels)
    codes = target.labels and {label: code for code, label in enumerate(target.labels)}
    fit = {name: getattr(options, name) for name in ("epochs", "batch_size", "threads")}
    fit |= {"optimizer": optimizer, "class_weight": class_weights(options, codes), "progress": not options.quiet}
    strata, seed = target.Y if target.labels else target.m, options.seed
    split = nkdata.split(strata, 0 if options.folds else options.validation, seed)
    parts = nkdata.folds(strata, options.folds, seed) if options.folds else [split]
    trainings = []
    for i, part in enumerate(parts, start=1):
        described = i == 1 and not options.quiet
        trainings.append(Training(options, data, target, loss, fit, part, described))
        if options.folds and not options.quiet:
            print(f"fold {i}/{len(parts)} {trainings[-1].result}", flush=True)
    if options.save:
        last = Training(options, data, target, loss, fit, split) if options.folds else trainings[0]
        last.net.save(options.save)
    return _report(options, trainings)


def _fill_in_defaults(options):
    refuse_others(options, ARRAYS)
    if options.folds and options.validation is not None:
        raise CommandError("--folds holds out every example once: leave --validation out")
    defaults = DATA_DEFAULTS | (DIGITS_DEFAULTS if options.data is None else {})
    vars(options).update({name: value for name, value in defaults.items() if given(options, name) is None})
    options.batch_size = None if options.batch_size == FULL else options.batch_size


def _read(options):
    """The data and its target."""
    task = task_of(nk.losses.LOSSES[options.loss]) if options.loss else options.task
    if options.task not in (None, task):
        raise CommandError(f"--loss {options.loss} is for {task}, not for {options.task}")
    data = nkdata.read(options.data, size=options.size)
    return data, nkdata.choose_target(data, task)


def _report(options, trainings):
    text = [f"{len(trainings)} folds {_summary(trainings)}" if options.folds else trainings[0].result]
    # history has the time of the training alone, without the evaluation on held-out examples
    seconds = sum(sum(training.history["seconds"]) for training in trainings)
    examples = sum(training.m * len(training.history["seconds"]) for training in trainings)
    text.append(f"trained in {seconds:.2f} s, {examples / seconds:,.0f} examples per second")
    if options.plot:
        _plot(trainings, options.plot)
    scores = [training.measures for training in trainings]
    said = {"scores": scores if options.folds else scores[0], "seconds": seconds}
    said |= {"examples_trained_on": trainings[0].m, "examples_held_out": trainings[0].held}
    report_training(options, said, text)


class Training:
    """One training and its result, of the whole command or of one fold; `fit`: further arguments of Network.fit."""

    def __init__(self, options, data, target, loss, fit, part, described=False):
        rows, held = part
        self.held = len(held)
        self.preprocessor = nkdata.Preprocessor.fit(data, target, rows=rows, scale_target=loss.low == -math.inf)
        X = self.preprocessor.features(data, options.dtype)
        Y = target.Y if target.labels else self.preprocessor.standardise_target(target.Y, options.dtype)
        stopping, aside = None, []
        if options.early_stopping:
            stopping = nk.EarlyStopping(options.early_stopping)
            strata = target.Y[rows] if target.labels else len(rows)
            rows, aside = (rows[some] for some in nkdata.split(strata, STOPPING_SHARE, options.seed))
        self.m = len(rows)
        training, aside, held = ((nkdata.take(X, some), nkdata.take(Y, some)) for some in (rows, aside, held))
        del X, Y
        self.net = _network(options, self.preprocessor, loss)
        self.net.metadata[RECORD] = self.preprocessor.to_dict()
        if described:
            _describe(options, data, target, self)
        watched = aside if stopping else held if self.held and (options.plot or not options.quiet) else None
        fit = fit | {"validation_data": watched, "callbacks": stopping}
        self.history = self.net.fit(*training, **fit)
        if stopping and not options.quiet:
            done, best = len(self.history["cost"]), stopping.best_epoch + 1
            print(f"stopped  after {done} epochs, with the weights of epoch {best}")
        X, Y = held if self.held else training
        self.measures = measure(self.net, self.preprocessor, X, Y, options.threads)
        self.result = measures_line("held-out" if self.held else "training", self.measures, self.held or self.m)
        self.labels = None
        if self.held and options.plot and self.preprocessor.labels is not None:
            self.labels = Y, self.net.predict_labels(X, threads=options.threads)


def _summary(trainings):
    """Mean and standard deviation of the measures of several trainings."""
    import statistics

    parts = []
    for name in trainings[0].measures:
        values, how = [training.measures[name] for training in trainings], FORMATS[name]
        parts.append(f"{name} {statistics.fmean(values):{how}} +- {statistics.stdev(values):{how}}")
    return f"{', '.join(parts)} (mean and standard deviation)"


def _describe(options, data, target, training):
    net = training.net
    task = f"{len(target.labels)} classes" if target.labels else target.task
    aside = f", {data.m - training.m - training.held} set aside" if options.early_stopping else ""
    folds = f" in each of {options.folds} folds" if options.folds else ""
    sizes = "-".join(str(n) for n in (net.n_x, *(layer.units for layer in net.layers)))
    names = [*(options.activation if options.layers else ()), net.layers[-1].activation, net.loss, numbers_of(net)]
    rate = "" if options.learning_rate is None else f" {options.learning_rate:g}"
    print(f"data     {data.describe()}")
    print(f"task     {task} ({target.reason}); {training.m} to train on, {training.held} held out{aside}{folds}")
    print(f"network  {sizes}, {', '.join(names)}, {options.optimizer}{rate}", flush=True)


def _loss(options, labels):
    """The loss, with the parameters that were given."""
    name = options.loss or "squared_error"
    if labels and not options.loss:
        name = "cross_entropy" if len(labels) > 2 else "binary_cross_entropy"
    if name == "binary_cross_entropy" and len(labels) > 2:
        raise CommandError(f"--loss {name} is for two classes, not for {len(labels)}")
    numbers = {"--label-smoothing": "label_smoothing", "--delta": "delta", "--quantile": "q"}
    return _configured(options, nk.losses.LOSSES, name, "--loss", numbers)


def _configured(options, registry, name, choice, numbers):
    """The loss or optimizer of that name, with those of the numbers {option: field} that were given."""
    fields = {key: {f.name for f in dataclasses.fields(one)} for key, one in registry.items()}
    settings = {field: value for option, field in numbers.items() if (value := given(options, option)) is not None}
    for option, field in numbers.items():
        if field in settings and field not in fields[name]:
            those = " or ".join(key for key in registry if field in fields[key])
            raise CommandError(f"{option} is for {choice} {those}, not for {name}")
    one = registry[name]
    return (one if isinstance(one, type) else type(one))(**settings)


def _optimizer(options):
    fields = ("learning_rate", "momentum", "nesterov", "weight_decay", "clip_norm", "clip_value")
    numbers = {f"--{field.replace('_', '-')}": field for field in fields}
    optimizer = _configured(options, nk.optimizers.OPTIMIZERS, options.optimizer, "--optimizer", numbers)
    warm_up = options.warm_up or 0
    if options.schedule:
        name, settings = options.schedule
        if name == "Cosine":
            settings = {"epochs": max(options.epochs - warm_up, 1), **settings}
        optimizer.learning_rate = getattr(nk.schedules, name)(optimizer.learning_rate, **settings)
    if warm_up:
        optimizer.learning_rate = nk.schedules.WarmUp(optimizer.learning_rate, warm_up)
    return optimizer


def _network(options, preprocessor, loss):
    count = len(options.layers)

    def each(name):
        values = getattr(options, name)
        if len(values) not in (1, count):
            raise CommandError(f"--{name} has {len(values)} entries, expected one, or one for each of {count} layers")
        return values * count if len(values) == 1 else values

    hidden = zip(options.layers, each("activation"), each("dropout"), strict=True)
    hidden = [nk.Dense(units, activation, dropout=dropout) for units, activation, dropout in hidden]
    output = nk.Dense(outputs_of(preprocessor, loss), loss.output or "linear")
    how = {name: getattr(options, name) for name in ("l2", "l1", "dtype", "compute", "seed")}
    return nk.Network([*hidden, output], loss=loss, n_x=preprocessor.n_x, **how)


def _check_outputs(options):
    """Refuses before the training what could only fail after it."""
    for path in filter(None, (options.save, options.plot)):
        if is_special(path):
            raise CommandError(f"{path} is a folder or a device, expected the name of a file")
        check_folder(path)
    if options.save:
        check_written(options.save)
        if is_safetensors(options.save):
            nkdata.require("safetensors.numpy", f"--save {options.save}")
    if options.plot:
        if not options.plot.lower().endswith(PLOT_SUFFIXES):
            raise CommandError(f"--plot {options.plot}: expected one of {', '.join(PLOT_SUFFIXES)}")
        nkdata.require("matplotlib", "--plot")


def _plot(trainings, path):
    """The learning curves of all trainings (cost, and score if there is one), and the confusion of held-out labels."""
    import numpy as np

    from nnkern import plotting

    histories = [training.history for training in trainings]
    kinds = ["cost"] + ["score"] * any(key in histories[0] for key in ("score", "val_score"))
    matrix = trainings[0].labels is not None
    figure, axes = plotting.panels(len(kinds) + matrix, width=7, height=3.5)
    how = {"labels": [f"fold {i}" for i in range(1, len(trainings) + 1)]} if trainings[1:] else {}
    for quantity, ax in zip(kinds, axes[:, 0], strict=False):
        plotting.learning_curve(histories if how else histories[0], quantity, ax=ax, **how)
        if quantity == "score":
            ax.set(ylabel=next(iter(trainings[0].measures)))
    if matrix:
        names = trainings[0].preprocessor.labels
        Y, Y_hat = (np.concatenate(parts) for parts in zip(*(training.labels for training in trainings), strict=True))
        plotting.confusion_matrix(Y, Y_hat, classes=range(len(names)), labels=names, ax=axes[-1, 0])
    figure.savefig(path, dpi=120)
