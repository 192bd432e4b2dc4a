"""Callbacks that tell another tool how a training goes: TensorBoard, MLflow, and Optuna's pruning.

Each needs its tool's package, which is imported when the callback is made. What they count is the epochs of the
network's life, as `Checkpoint` does: a training that is resumed goes on where the one before has ended.
"""

import copy
import os
import platform
import re
import time

from nnkern import monitors, state, validation
from nnkern._optional import require
from nnkern.callbacks import ForOne

# what a metric of MLflow's may not be called
_NOT_IN_A_NAME = re.compile(r"[^\w.\-/ ]", re.ASCII)


def _step(net):
    """The epoch that has just ended, from 0, with those of the trainings that this one resumes."""
    return state.of(net).epochs_done - 1


class _Log(ForOne):
    """Tells each value of the history to `write(step, values)`, every so many epochs."""

    def __init__(self, every, prefix):
        self.every = validation.integer("every", every, 1)
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a text; got {prefix!r}")
        self.prefix = prefix

    def on_epoch_end(self, net, epoch, history):
        step = _step(net)
        if (step + 1) % self.every == 0:
            self.write(step, {self.prefix + name: float(values[-1]) for name, values in history.items()})


class TensorBoard(_Log):
    """Writes the history to an event file, epoch by epoch, for ``tensorboard --logdir``; by tensorboard's own writer.

    Neither torch nor tensorflow is needed. Each key of the history is a scalar of that name; an epoch is on the disk
    when the next one begins. Give every training a folder of its own. One that is resumed goes on in the same folder,
    and replaces what was written of epochs that are trained again, as after an interruption.

    Parameters
    ----------
    log_dir : str or path
        The folder; it is made where there is none.
    every : int
        Epochs between two entries, >= 1.
    prefix : str
        What the names of the scalars begin with.

    Raises
    ------
    MissingPackageError
        The package tensorboard isn't installed.
    OSError
        In `fit`: the folder can't be written to.
    ValueError, TypeError
        A parameter is out of its range.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import nnkern as nk
    >>> folder = tempfile.mkdtemp()
    >>> net = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)
    >>> X, Y = np.ones((1, 4)), np.ones((1, 4))
    >>> history = net.fit(X, Y, epochs=3, callbacks=nk.TensorBoard(folder))
    >>> [name.startswith("events.out.tfevents") for name in os.listdir(folder)]
    [True]
    """

    shared = "would write to the same folder"

    def __init__(self, log_dir, every=1, *, prefix=""):
        super().__init__(every, prefix)
        self.log_dir = os.fsdecode(log_dir)
        self._records = None
        self._module("summary.writer.record_writer")

    @staticmethod
    def _module(name):
        return require(f"tensorboard.{name}", "TensorBoard")

    def on_fit_begin(self, net):
        files, now = self._module("compat").tf.io.gfile, time.time_ns()
        files.makedirs(self.log_dir)
        # files are read in the order of their names, which tells the second, and here what is less than that too
        when = f"{now // 10**9:010d}.{now % 10**9:09d}"
        name = f"events.out.tfevents.{when}.{platform.node()}.{os.getpid()}"
        file = files.GFile(os.path.join(self.log_dir, name), "wb")
        self._records = self._module("summary.writer.record_writer").RecordWriter(file)
        self._add(file_version="brain.Event:2")
        # what was written of this step and of later ones is to be forgotten
        log = self._module("compat.proto.event_pb2").SessionLog
        self._add(step=_step(net) + 1, session_log=log(status=log.START))

    def write(self, step, values):
        """An entry of each value."""
        summary = self._module("compat.proto.summary_pb2").Summary
        entries = [summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step=step, summary=summary(value=entries))

    def _add(self, **what):
        event = self._module("compat.proto.event_pb2").Event(wall_time=time.time(), **what)
        self._records.write(event.SerializeToString())
        self._records.flush()

    def on_fit_end(self, net, history):
        self._records.close()
        self._records = None

    def on_fit_error(self, net, error):
        self.on_fit_end(net, None)

    def __getstate__(self):
        # a copy writes a file of its own
        return vars(self) | {"_records": None}


class MLflow(_Log):
    """Logs the history as metrics of an MLflow run, epoch by epoch, by mlflow's own client.

    Each key of the history is a metric of that name, where characters that MLflow doesn't take are written as "_"; its
    step is the epoch. What else belongs to a run, such as parameters and the model's file, is logged by mlflow's own
    functions beside it.

    Parameters
    ----------
    run_id : str, optional
        Default: the run that is active when the training begins; where none is, one is started, which stays active
        until ``mlflow.end_run()``, as with ``mlflow.log_metric``.
    every : int
        Epochs between two entries, >= 1: each is a request to the tracking server, or to its database.
    prefix : str
        What the names of the metrics begin with, such as "net3/" for one of several networks in one run.

    Attributes
    ----------
    run_id : str or None
        As given.

    Raises
    ------
    MissingPackageError
        The package mlflow isn't installed.
    mlflow.exceptions.MlflowException
        In `fit`: the server doesn't take it.
    ValueError, TypeError
        A parameter is out of its range.

    Examples
    --------
    >>> import os, tempfile
    >>> import mlflow
    >>> import numpy as np
    >>> import nnkern as nk
    >>> path = os.path.join(tempfile.mkdtemp(), "runs.db")
    >>> mlflow.set_tracking_uri("sqlite:///" + path)
    >>> net = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)
    >>> X, Y = np.ones((1, 4)), np.ones((1, 4))
    >>> with mlflow.start_run() as run:
    ...     history = net.fit(X, Y, epochs=3, callbacks=nk.MLflow())
    >>> costs = mlflow.MlflowClient().get_metric_history(run.info.run_id, "cost")
    >>> [metric.value for metric in costs] == history["cost"]
    True
    """

    shared = "would log the same metrics of one run"

    def __init__(self, run_id=None, every=1, *, prefix=""):
        super().__init__(every, prefix)
        if run_id is not None and not isinstance(run_id, str):
            raise TypeError(f"run_id must be a text, as run.info.run_id is; got {run_id!r}")
        self.run_id, self._run_id = run_id, None
        require("mlflow", "MLflow")

    def on_fit_begin(self, net):
        mlflow = require("mlflow", "MLflow")
        self._run_id = self.run_id
        if self._run_id is None:
            self._run_id = (mlflow.active_run() or mlflow.start_run()).info.run_id

    def write(self, step, values):
        """An entry of each value."""
        mlflow, now = require("mlflow", "MLflow"), time.time_ns() // 1_000_000
        metrics = [
            mlflow.entities.Metric(_NOT_IN_A_NAME.sub("_", name), value, now, step) for name, value in values.items()
        ]
        mlflow.MlflowClient().log_batch(self._run_id, metrics=metrics)


class OptunaPruning(ForOne):
    """Reports a value of each epoch to an Optuna trial, and ends the training where the study's pruner says so.

    Parameters
    ----------
    trial : optuna.Trial
        The step of what it is told is the epoch, which a resumed training counts on.
    monitor : str or function
        What is reported, as `EarlyStopping` has it. Whether less or more is better is the study's direction.
    raises : bool
        Whether ``optuna.TrialPruned`` is raised from `fit`, as Optuna expects of an objective. Otherwise the training
        of this network ends, as early stopping does, and `pruned` tells why: for `fit_many`, where the other networks
        train on.

    Attributes
    ----------
    pruned : bool
        Whether the pruner has ended the last training.

    Raises
    ------
    MissingPackageError
        The package optuna isn't installed.
    TypeError, ValueError
        `trial` is no trial; `monitor` or `raises` can't be one.
    optuna.TrialPruned
        In `fit`: the trial is to be pruned. The network is left as it is after this epoch.

    Examples
    --------
    >>> import numpy as np
    >>> import optuna
    >>> import nnkern as nk
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> X = np.random.default_rng(0).normal(size=(1, 200))
    >>> def objective(trial):
    ...     rate = trial.suggest_float("learning_rate", 1e-4, 1.0, log=True)
    ...     layers = [nk.Dense(8, "tanh"), nk.Dense(1)]
    ...     net = nk.Network(layers, "squared_error", seed=0)
    ...     how = {"optimizer": nk.SGD(rate), "validation_split": 0.2}
    ...     how["callbacks"] = nk.OptunaPruning(trial)
    ...     return net.fit(X, np.sin(X), epochs=20, **how)["val_cost"][-1]
    >>> pruner = optuna.pruners.MedianPruner(n_startup_trials=3)
    >>> sampler = optuna.samplers.RandomSampler(0)
    >>> study = optuna.create_study(sampler=sampler, pruner=pruner)
    >>> study.optimize(objective, n_trials=10, catch=nk.DivergenceError)
    >>> any(trial.state.name == "PRUNED" for trial in study.trials)
    True
    """

    shared = "would report to the same trial"

    def __init__(self, trial, monitor="val_cost", *, raises=True):
        for method in ("report", "should_prune"):
            if not callable(getattr(trial, method, None)):
                raise TypeError(f"trial must be a trial of Optuna's, which has a method {method}; got {trial!r}")
        # the direction is the study's affair
        monitors.check(monitor, "min")
        self.trial, self.monitor = trial, monitor
        self.raises = validation.flag("raises", raises)
        self.pruned = False
        require("optuna", "OptunaPruning")

    def on_fit_begin(self, net):
        self.pruned = False

    def on_epoch_end(self, net, epoch, history):
        key, step = monitors.key(self.monitor), _step(net)
        value = history[key][-1]
        self.trial.report(value, step)
        self.pruned = bool(self.trial.should_prune())
        if self.pruned and self.raises:
            optuna = require("optuna", "OptunaPruning")
            raise optuna.TrialPruned(f"pruned after epoch {step}, with {key} {value:g}")
        return self.pruned

    def __deepcopy__(self, memo):
        # a copy, as scikit-learn makes one of an estimator's parameters, reports to the same trial
        return copy.copy(self)
