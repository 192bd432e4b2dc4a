"""What may happen between epochs: stopping early, changing the learning rate, saving, or a function of one's own.

A callback is an object with the methods of `Callback`, or a function f(net, epoch, history); epochs count from 0,
`history` is the dict that fit returns, as far as it has got. A true return ends the training after this epoch.
"""

import copy
import errno
import math
import os

import numpy as np

from nnkern import _engine, arguments, monitors, state, validation
from nnkern.files import endings


class Callback:
    """Base class: override what you need."""

    def on_fit_begin(self, net):
        """Before the first epoch."""

    def on_epoch_end(self, net, epoch, history):
        """After each epoch; a true return ends the training."""

    def on_fit_end(self, net, history):
        """After the last epoch, however the training ended but for an error."""

    def on_fit_error(self, net, error):
        """Where an error or an interrupt ends the training: to close what `on_fit_begin` has opened.

        The network is what the caller will have. What fails here doesn't take the place of the error that `fit` raises,
        which gets a note of it.
        """


class ForOne(Callback):
    """Base class of callbacks that write to one place: several networks have one each.

    Attributes
    ----------
    shared : str
        What several networks would do with one.
    """

    shared: str


class _Function(Callback):
    def __init__(self, function):
        self.on_epoch_end = function


def get(callbacks):
    """A list of Callbacks from one or several objects or functions."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback) or callable(callbacks):
        callbacks = [callbacks]
    if isinstance(callbacks, str) or not hasattr(callbacks, "__iter__"):
        raise TypeError(f"callbacks must be a callback or a list of them; got {callbacks!r}")
    result = []
    for callback in callbacks:
        if isinstance(callback, type):
            raise TypeError(f"a callback must be an object, not its class; got {callback!r}: {callback.__name__}(…)")
        if isinstance(callback, Callback) or hasattr(callback, "on_epoch_end"):
            result.append(callback)
        elif callable(callback):
            result.append(_Function(callback))
        else:
            raise TypeError(f"a callback must be a Callback or a function (net, epoch, history); got {callback!r}")
    return result


class EarlyStopping(Callback):
    """Ends the training when the monitored value hasn't improved for `patience` epochs, and keeps the best epoch.

    Parameters
    ----------
    patience : int or None
        Epochs without improvement after which it ends, >= 1. None: it never ends early, the best epoch is kept.
    min_delta : float
        What counts as improvement, >= 0.
    monitor : str or function
        A key of the history. Or one of what is recorded for it, of the held-out examples: "val_error", the error rate
        1 - accuracy; "val_auc", the area under the ROC curve, for several classes or outputs the mean of each one
        against the rest; "val_rmse", the root of the mean squared error, and "val_mae", the mean absolute error,
        both averaged over the outputs. Sample weights count in these. Or a function f(targets, outputs) -> float: it
        gets the held-out labels in the shape that `predict_labels` has, or Y (n_y, m) where there are no classes, and
        the outputs A (n_y, m); its values are recorded as ``val_<its name>``.
    restore_best : bool
        Bring back the parameters of the best epoch at the end.
    ties : "first" or "last"
        Which of epochs with equal values is kept. An equal value is no improvement: it doesn't prolong the patience.
    mode : "min", "max" or None
        Which values are better. None: names that end in "score" or "auc" should rise, other keys of the history fall;
        of functions those whose name ends in "cost", "error", "loss", "rmse" or "mae". For any other function it must
        be said.

    Attributes
    ----------
    best_epoch : int
        Counted from 0.
    best_value : float

    Raises
    ------
    ValueError, TypeError
        A parameter is out of its range, or the direction of a function isn't clear.

    Examples
    --------
    All epochs, and the parameters of the one with the fewest errors on held-out examples:

    >>> import numpy as np
    >>> import nnkern as nk
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(4, 300))
    >>> layers = [nk.Dense(8, "tanh"), nk.Dense(1, "sigmoid")]
    >>> net = nk.Network(layers, "binary_cross_entropy", seed=0)
    >>> best = nk.EarlyStopping(None, monitor="val_error", ties="last")
    >>> labels = (X.sum(axis=0) > 0).astype(int)
    >>> history = net.fit(X, labels, epochs=30, validation_split=0.2, callbacks=best)
    >>> errors = history["val_error"]
    >>> len(history["cost"]), errors[best.best_epoch] == min(errors)
    (30, True)
    """

    @arguments.named("callbacks=EarlyStopping({}=…)")
    def __init__(self, patience=10, min_delta=0.0, monitor="val_cost", restore_best=True, *, ties="first", mode=None):
        self.patience = None if patience is None else validation.integer("patience", patience, 1)
        self.min_delta = validation.number("min_delta", min_delta, 0)
        monitors.check(monitor, mode)
        self.monitor, self.mode = monitor, mode
        self.restore_best = validation.flag("restore_best", restore_best)
        self.ties = validation.choice("ties", ties, ("first", "last"))

    def on_fit_begin(self, net):
        self.best_epoch, self.best_value, self._best_parameters = None, None, None
        self._improved = 0  # the epoch that was an improvement last

    def on_epoch_end(self, net, epoch, history):
        value, best = history[monitors.key(self.monitor)][-1], self.best_value
        sign = monitors.sign(self.monitor, self.mode)
        # anything is an improvement on NaN
        improves = best is None or sign * value < sign * best - self.min_delta or (best != best and value == value)
        if improves or (self.ties == "last" and value == best):
            self.best_epoch, self.best_value = epoch, value
            if self.restore_best:
                self._best_parameters = {name: view.copy("K") for name, view in net.parameters.items()}
        if improves:
            self._improved = epoch
        return self.patience is not None and epoch - self._improved >= self.patience

    def rule(self):
        """How the best epoch is chosen, for the engine; None where that can't."""
        # of a subclass, or with a method of the object's own, the engine knows nothing
        changed = type(self) is not EarlyStopping or not vars(self).keys().isdisjoint(vars(EarlyStopping))
        if changed or callable(self.monitor) or self.monitor not in _engine.MONITORS:
            return None
        return {
            "monitor": self.monitor,
            "sign": monitors.sign(self.monitor, self.mode),
            "min_delta": self.min_delta,
            "last": self.ties == "last",
            "patience": self.patience,
            "keeps": self.restore_best,
        }

    def found(self, epoch, value, parameters):
        """Takes over what the engine has found by `rule`: the best epoch, and its parameters or None."""
        self.best_epoch, self.best_value, self._best_parameters = epoch, value, parameters

    def on_fit_end(self, net, history):
        if self._best_parameters is not None:
            net.set_parameters(self._best_parameters)
            self._best_parameters = None


class LearningRateSchedule(Callback):
    """Sets the learning rate of each epoch to f(epoch).

    Parameters
    ----------
    f : callable
        From the epoch, counted from 0, to the rate; see `nnkern.schedules`.
    """

    def __init__(self, f):
        if not callable(f):
            raise TypeError(f"f must be a callable from epoch to rate; got {f!r}")
        self.f = f

    def on_fit_begin(self, net):
        net.optimizer.learning_rate = self.f


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rate by `factor` each time that the monitored value hasn't improved for a while.

    The optimizer's rate must be a number, without a schedule.

    Parameters
    ----------
    factor : float
        In (0, 1).
    patience : int
        Epochs without improvement, since the last one or since the last reduction, after which the rate is reduced,
        >= 1.
    min_delta : float
        What counts as improvement, >= 0.
    monitor : str or function
        As `EarlyStopping` has it.
    min_rate : float
        Below which the rate isn't reduced, >= 0.
    mode : "min", "max" or None
        As `EarlyStopping` has it.

    Raises
    ------
    ValueError, TypeError
        A parameter is out of its range, or the direction of a function isn't clear; in `fit`, the rate is a schedule.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> net = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)
    >>> slower = nk.ReduceLROnPlateau(0.5, patience=1, min_delta=100, monitor="cost")
    >>> X = Y = np.ones((1, 4))
    >>> history = net.fit(X, Y, epochs=4, optimizer=nk.SGD(0.1), callbacks=slower)
    >>> history["learning_rate"]
    [0.1, 0.1, 0.05, 0.025]
    """

    def __init__(self, factor=0.1, patience=10, min_delta=0.0, monitor="val_cost", min_rate=0.0, *, mode=None):
        self.factor = validation.number("factor", factor, 0, 1, low_open=True, high_open=True)
        self.patience = validation.integer("patience", patience, 1)
        self.min_delta = validation.number("min_delta", min_delta, 0)
        monitors.check(monitor, mode)
        self.monitor, self.mode = monitor, mode
        self.min_rate = validation.number("min_rate", min_rate, 0)

    def on_fit_begin(self, net):
        if callable(net.optimizer.learning_rate):
            raise ValueError(
                "ReduceLROnPlateau needs a learning rate that is a number, and this optimizer's goes by a schedule: "
                "use one of the two"
            )
        self._best, self._waited = math.inf, 0

    def on_epoch_end(self, net, epoch, history):
        value = history[monitors.key(self.monitor)][-1] * monitors.sign(self.monitor, self.mode)
        if value < self._best - self.min_delta:
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            rate = net.optimizer.learning_rate
            net.optimizer.learning_rate = min(rate, max(rate * self.factor, self.min_rate))
            self._waited = 0


class AverageWeights(Callback):
    """Puts the mean of the parameters after each epoch, or each step, into the network at the end of the training.

    The mean of the points that a training passes late lies nearer the middle of a flat valley than its last point does,
    and often predicts better (stochastic weight averaging: Izmailov et al. 2018, who average one point an epoch at a
    rate that is constant or cyclic). What the history holds is of the parameters as they were, not of the mean. It is
    kept in float64.

    Parameters
    ----------
    start : int
        The first epoch that counts, from 0.
    decay : float, optional
        Of an exponential moving average in place of the mean, in [0, 1): after each epoch or step the average moves to
        decay · average + (1 - decay) · parameters.
    each : {"epoch", "step"}
        After what. Steps are followed in native code, at 8 bytes a parameter of memory; 0.999 is a common decay there.
        The most that one training follows by the step is one average.

    Attributes
    ----------
    count : int
        Epochs or steps that the average is of. With none the network stays as it is.

    Raises
    ------
    ValueError
        A parameter is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> net = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)
    >>> average = nk.AverageWeights(start=10)
    >>> history = net.fit(
    ...     np.ones((1, 4)), np.ones((1, 4)), epochs=30, callbacks=average
    ... )
    >>> average.count
    20

    Of the 30 · 2 steps of two examples each:

    >>> average = nk.AverageWeights(decay=0.9, each="step")
    >>> history = net.fit(
    ...     np.ones((1, 4)),
    ...     np.ones((1, 4)),
    ...     epochs=30,
    ...     batch_size=2,
    ...     callbacks=average,
    ... )
    >>> average.count
    60
    """

    follower = None
    """What the engine moves along with the parameters, step by step, during a training."""

    def __init__(self, start=0, decay=None, each="epoch"):
        self.start = validation.integer("start", start, 0)
        self.decay = None if decay is None else validation.number("decay", decay, 0, 1, high_open=True)
        self.each = validation.choice("each", each, ("epoch", "step"))

    def on_fit_begin(self, net):
        self.count, self._average = 0, None
        if self.each == "step":
            self.follower = _engine.Average(state.of(net).engine, self.decay)
            self.follower.counts = self.start == 0

    def on_epoch_end(self, net, epoch, history):
        if self.follower is not None:
            self.follower.counts = epoch + 1 >= self.start
            self.count = self.follower.steps
            return
        if epoch < self.start:
            return
        self.count += 1
        if self._average is None:
            self._average = {name: view.astype(np.float64) for name, view in net.parameters.items()}
            return
        share = 1 / self.count if self.decay is None else 1 - self.decay
        for name, view in net.parameters.items():
            self._average[name] += share * (view - self._average[name])

    def on_fit_end(self, net, history):
        if self.count and self.follower is not None:
            self._average = state.of(net).engine.views(self.follower.theta)
        if self._average is not None:
            net.set_parameters(self._average)
        self._average = self.follower = None


class Checkpoint(ForOne):
    """Saves the network between epochs, by default so that a training can go on from the file.

    After ``net = nnkern.load(path)``, ``net.fit(…, epochs=<those that are left>, resume=True)`` gives the same bits as
    the training that wasn't interrupted. What callbacks remember isn't saved: they start anew.

    Parameters
    ----------
    path : str or path
        May hold ``{epoch}``, the number of the epoch from 0, counted on by a resumed training; otherwise the file is
        replaced each time. See `Network.save` for the formats.
    every : int
        Epochs between two saves, >= 1.
    monitor : str or function, optional
        As `EarlyStopping` has it: save only when it is the best so far.
    training_state : bool
        Save what ``fit(resume=True)`` needs, too; the file grows by the optimizer's vectors.
    mode : "min", "max" or None
        As `EarlyStopping` has it.
    """

    shared = "would write the same file"

    def __init__(self, path, every=1, monitor=None, training_state=True, *, mode=None):
        self.path = os.fsdecode(path)
        endings.check_written(self.path)
        self.every = validation.integer("every", every, 1)
        monitors.check(monitor, mode)
        self.monitor, self.mode = monitor, mode
        self.training_state = validation.flag("training_state", training_state)

    def on_fit_begin(self, net):
        folder = os.path.dirname(os.path.realpath(self.path))
        if "{epoch}" not in folder and not os.path.isdir(folder):  # before the first epoch, not after it
            raise FileNotFoundError(errno.ENOENT, "There is no such folder for a Checkpoint", folder)
        self._best = math.inf

    def on_epoch_end(self, net, epoch, history):
        epochs_done = state.of(net).epochs_done
        if epochs_done % self.every:
            return
        if self.monitor is not None:
            value = history[monitors.key(self.monitor)][-1] * monitors.sign(self.monitor, self.mode)
            if not value < self._best:
                return
            self._best = value
        path = self.path.replace("{epoch}", str(epochs_done - 1))
        net.save(path, training_state=self.training_state)


# what each network has a copy of
_COPIED = EarlyStopping | ReduceLROnPlateau | AverageWeights


def remembers(callback):
    """Whether it is of one training at a time, for it keeps something of that."""
    return isinstance(callback, _COPIED | ForOne)


def for_one_of(callbacks, count):
    """The callbacks for one of so many networks, where they are meant for all: what remembers something is copied."""
    own = get(callbacks)
    alone = next((callback for callback in own if isinstance(callback, ForOne)), None)
    if count > 1 and alone is not None:
        name = type(alone).__name__
        raise ValueError(
            f"callbacks holds {'an' if name[0] in 'AEIO' else 'a'} {name} for all of {count} networks, which "
            f"{alone.shared}: give a list with the callbacks of each network"
        )
    return [copy.copy(callback) if isinstance(callback, _COPIED) else callback for callback in own]


def follower(callbacks):
    """What the engine is to move along with the parameters, or None."""
    found = [one.follower for one in callbacks if isinstance(one, AverageWeights) and one.follower is not None]
    if len(found) > 1:
        raise ValueError(
            'callbacks holds two AverageWeights with each="step": a training follows one, let the other go by epochs'
        )
    return found[0] if found else None


def check_monitor(callback, history):
    """Refuses a callback that monitors what this training doesn't record."""
    monitor = monitors.key(getattr(callback, "monitor", None))
    if monitor is not None and monitor not in history:
        hint = ""
        if "val_cost" in history:
            hint = f"; {', '.join(monitors.METRICS)} and functions (targets, outputs) can be monitored besides"
        elif str(monitor).startswith("val_"):
            hint = "; it needs validation_data or validation_split"
        raise ValueError(f"monitor {monitor!r} isn't in the history, which has {', '.join(history)}{hint}")


def call(callback, method, *arguments):
    """Calls a method that an object with on_epoch_end alone may lack."""
    function = getattr(callback, method, None)
    if function is not None:
        function(*arguments)


def tell_of_error(callbacks, net, error):
    """Tells callbacks that the training ends by an error."""
    for callback in callbacks:
        try:
            call(callback, "on_fit_error", net, error)
        except Exception as other:
            error.add_note(f"{type(callback).__name__}.on_fit_error failed too, {type(other).__name__}: {other}")
