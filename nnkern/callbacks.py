"""What may happen between epochs: stopping early, changing the learning rate, saving, or a function of one's own.

A callback is an object with the methods of `Callback`, or a function f(net, epoch, history); epochs count from 0,
`history` is the dict that fit returns, as far as it has got. A true return ends the training after this epoch.
"""

import math
import os

from nnkern import state, validation
from nnkern.files import endings


class Callback:
    """Base class: override what you need."""

    def on_fit_begin(self, net):
        """Before the first epoch."""

    def on_epoch_end(self, net, epoch, history):
        """After each epoch; a true return ends the training."""

    def on_fit_end(self, net, history):
        """After the last epoch, however the training ended but for an error."""


class _Function(Callback):
    def __init__(self, function):
        self.on_epoch_end = function


def get(callbacks):
    """A list of Callbacks from one or several objects or functions."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback) or callable(callbacks):
        callbacks = [callbacks]
    if not hasattr(callbacks, "__iter__"):
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
    """Ends the training when the monitored value hasn't improved for `patience` epochs.

    Parameters
    ----------
    patience : int
        Epochs without improvement after which it ends, >= 1.
    min_delta : float
        What counts as improvement, >= 0.
    monitor : str
        A key of the history. Names that end in "score" should rise, others fall.
    restore_best : bool
        Bring back the parameters of the best epoch at the end.

    Attributes
    ----------
    best_epoch : int
        Counted from 0.
    best_value : float
    """

    def __init__(self, patience=10, min_delta=0.0, monitor="val_cost", restore_best=True):
        self.patience = validation.integer("patience", patience, 1)
        self.min_delta = validation.number("min_delta", min_delta, 0)
        self.monitor = monitor
        self.restore_best = validation.flag("restore_best", restore_best)

    def on_fit_begin(self, net):
        self.best_epoch, self.best_value, self._best_parameters = None, None, None

    def on_epoch_end(self, net, epoch, history):
        value = history[self.monitor][-1]
        sign = -1 if self.monitor.endswith("score") else 1
        if self.best_value is None or sign * value < sign * self.best_value - self.min_delta:
            self.best_epoch, self.best_value = epoch, value
            if self.restore_best:
                self._best_parameters = {name: view.copy("K") for name, view in net.parameters.items()}
            return False
        return epoch - self.best_epoch >= self.patience

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


class Checkpoint(Callback):
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
    monitor : str, optional
        A key of the history: save only when it is the best so far.
    training_state : bool
        Save what ``fit(resume=True)`` needs, too; the file grows by the optimizer's vectors.
    """

    def __init__(self, path, every=1, monitor=None, training_state=True):
        self.path = os.fsdecode(path)
        endings.check_written(self.path)
        self.every = validation.integer("every", every, 1)
        self.monitor = monitor
        self.training_state = validation.flag("training_state", training_state)

    def on_fit_begin(self, net):
        self._best = math.inf

    def on_epoch_end(self, net, epoch, history):
        epochs_done = state.of(net).epochs_done
        if epochs_done % self.every:
            return
        if self.monitor is not None:
            value = history[self.monitor][-1] * (-1 if self.monitor.endswith("score") else 1)
            if not value < self._best:
                return
            self._best = value
        path = self.path.replace("{epoch}", str(epochs_done - 1))
        net.save(path, training_state=self.training_state)


def check_monitor(callback, history):
    """Refuses a callback that monitors what this training doesn't record."""
    monitor = getattr(callback, "monitor", None)
    if monitor is not None and monitor not in history:
        hint = "; it needs validation_data or validation_split" if str(monitor).startswith("val_") else ""
        raise ValueError(f"monitor {monitor!r} isn't in the history, which has {', '.join(history)}{hint}")


def call(callback, method, *arguments):
    """Calls a method that an object with on_epoch_end alone may lack."""
    function = getattr(callback, method, None)
    if function is not None:
        function(*arguments)
