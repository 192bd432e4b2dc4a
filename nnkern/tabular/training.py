"""Trains the networks of a table: by which recipes, on which rows, for how long; and what each counts in the ensemble.

    X, y → parts (who is trained on, who is held out) → jobs (a recipe on a part) → fit_many → weights of the ensemble

Knows X and y, not columns and labels. Same seed, same bits, for any number of threads, unless a time limit or Ctrl-C
ends the training.
"""

import time

import numpy as np

from nnkern import _kernels, callbacks, many, validation
from nnkern import progress as progress_
from nnkern._caller import warn
from nnkern.exceptions import DivergenceError
from nnkern.tabular import ensemble, metrics, splits
from nnkern.tabular.metrics import default_metric
from nnkern.tabular.recipes import recipes_of

__all__ = ["Trained", "default_metric", "train"]

TASKS = ("binary", "multiclass", "regression")
# of a time limit, what the trainings are planned to take: the rest is for what can't be foreseen
_PLANNED = 0.8
# the share of a recipe's epochs down to which several recipes are preferred to one that is trained longer
_FEWEST_EPOCHS = 0.5
# copies of rows up to which all parts of a bagging are trained at once
_COPIED_BYTES = 1 << 28
# rows that tell how long an epoch takes
_PACED_ROWS = 4096


class Trained:
    """An ensemble of networks.

    Attributes
    ----------
    networks : list of Network
        Those that count: with the parameters of the best epoch, or after a refit with those that all rows gave in as
        many epochs.
    weights : (len(networks),) array
        They sum to 1.
    report : list of dict
        Of each network that was trained: "recipe", its place in the list of recipes; "part", which rows were held out;
        "epochs" done, and the "best_epoch", counted from 0; "seconds" of its epochs; "score", the metric's value on the
        rows held out, of the network that wasn't trained on them, also where another took its place; "weight"; "refit",
        whether it was trained on all rows afterwards and so replaced.
    score : float
        The metric's value of the ensemble on the held-out rows, before a refit; optimistic, for these chose the
        weights. Like those of the report it is of y as the networks learn it.
    interrupted : bool
        Whether Ctrl-C ended the training.
    """

    def __init__(self, networks, weights, report, score, interrupted):
        self.networks, self.weights, self.report = networks, weights, report
        self.score, self.interrupted = score, interrupted


def train(
    X,
    y,
    rows,
    task,
    *,
    recipes,
    metric=None,
    held_out=0.2,
    sample_weight=None,
    n_classes=None,
    n_estimators=None,
    refit=False,
    time_limit=None,
    seed=0,
    threads=None,
    progress=False,
    overwrite_X=False,
):
    """Trains each recipe and weighs what came of them by rows that weren't trained on.

    Parameters
    ----------
    X : (n_x, m) array of float32
    y : (m,) array
        Codes of classes 0 … k - 1, or numbers, about standardised.
    rows : sequence
        Of each row of X its `kind`, "number", "passthrough" or "code", and its `size`, of a code how many there are.
    task : "binary", "multiclass" or "regression"
    recipes : Preset, Recipe or sequence of Recipe
    metric : str, optional
        What is reported, and decides which epoch is kept: where it is the accuracy or the error rate, the epoch with
        the fewest errors, else the one with the least loss. Default: log loss, or RMSE.
    held_out : (X, y), (X, y, sample_weight) or float
        Rows that choose epochs and weights and are never trained on; or the share of X's rows to set aside for that.
    sample_weight : (m,) array, optional
        Rows of weight 0 are left out.
    n_classes : int, optional
        How many classes there are, 2 at least; default as many as the codes of rows that aren't left out tell of.
    n_estimators : int, optional
        How often each recipe is trained; default the preset's, or 1. With rows of the caller's held out, the networks
        differ by their seeds; otherwise in bagging: that many parts, each held out once.
    refit : bool
        Whether networks that count are trained once more, on all rows and for as many epochs as their best, where a
        share of the rows was set aside, and the time is enough.
    time_limit : float, optional
        Seconds within which the training should end: fewer recipes and fewer epochs, whose schedules complete. At least
        one epoch of one network is trained.
    seed : int
    threads : int, optional
    progress : bool or callable
        True shows epochs and time left on standard error. A function is called as f(epochs done, epochs in all,
        seconds left).
    overwrite_X : bool
        Whether X, with an example contiguous, may come back with its columns in another order: where a share of the
        rows is held out, that saves a copy.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError, TypeError
        Something handed in doesn't fit.
    DivergenceError
        Every network's cost became infinite or NaN in its first epoch.

    Warns
    -----
    UserWarning
        Ctrl-C ended the training; the best epochs so far are kept.

    Notes
    -----
    Weights: Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble selection from libraries of models, 2004.
    """
    begun = time.monotonic()
    task = validation.choice("task", task, TASKS)
    metric = metrics.get(metric, task)
    recipes, n_estimators = recipes_and_count(recipes, n_estimators)
    refit = validation.flag("refit", refit)
    seed, threads = validation.integer("seed", seed, 0), validation.threads(threads)
    if time_limit is not None:
        time_limit = validation.number("time_limit", time_limit, 0, low_open=True)
    data = splits.Examples(X, y, sample_weight).counting()
    n_classes = 0 if task == "regression" else _classes(data.y, n_classes)
    parts = splits.parts(data, held_out, n_estimators, n_classes, seed, overwrite_X)
    jobs = jobs_of(recipes, parts, seed)
    session = Session(list(rows), task, n_classes, metric, threads)
    if time_limit is not None:
        jobs = session.within(jobs, begun, time_limit)
    interrupted = session.run(jobs, progress)
    trained = trained_of(kept(jobs), session, interrupted)
    if refit and len(parts) == 1 and parts[0].held_rows is not None and not interrupted:
        parts[0].put_back()
        session.refit(jobs, trained, data, progress)
    return trained


def _classes(y, given):
    """How many classes there are, by what is given or by the codes."""
    if y.dtype.kind not in "iu" or (len(y) and y.min() < 0):
        raise ValueError(f"y must hold codes of classes, integers from 0; got {y.dtype} from {y.min():g}")
    least = max(2, int(y.max(initial=0)) + 1)
    return least if given is None else validation.integer("n_classes", given, least)


def recipes_and_count(recipes, n_estimators):
    """(list of recipes, how often each is trained)"""
    recipes, default = recipes_of(recipes)
    return recipes, default if n_estimators is None else validation.integer("n_estimators", n_estimators, 1)


def jobs_of(recipes, parts, seed):
    """A job for each recipe on each part."""
    return [Job(recipe, i, k, part, seed) for i, recipe in enumerate(recipes) for k, part in enumerate(parts)]


class Job:
    """A network that is to be trained by a recipe on a part of the rows."""

    def __init__(self, recipe, recipe_number, part_number, part, seed):
        self.recipe, self.recipe_number, self.part_number, self.part = recipe, recipe_number, part_number, part
        self.seed = int(np.random.SeedSequence((seed, recipe_number, part_number)).generate_state(1)[0])
        self.epochs, self.batch_size = recipe.epochs_of(part.m), recipe.batch(part.m)
        self.net = self.best = self.P = None
        self.history = {}

    @property
    def best_epoch(self):
        """The epoch that was kept, counted from 0; None where none was trained."""
        return getattr(self.best, "best_epoch", None)

    def report(self, metric):
        """What `Trained.report` says of it, but for its weight."""
        held = self.part.held_out
        return {
            "recipe": self.recipe_number,
            "part": self.part_number,
            "epochs": len(self.history.get("cost", ())) or self.best_epoch + 1,
            "best_epoch": self.best_epoch,
            "seconds": float(sum(self.history.get("seconds", ()))),
            "score": metric.value(held.y, self.P, held.w),
        }


class Session:
    """What the trainings of a table have in common, and how they are run.

    `deadline`: the time on the monotonic clock after which no further epoch begins, or None.
    """

    keeps_interrupted = True
    """Whether Ctrl-C ends a training with what it has come to."""

    def __init__(self, rows, task, n_classes, metric, threads):
        self.rows, self.task, self.n_classes, self.metric, self.threads = rows, task, n_classes, metric, threads
        self.deadline = None

    def network(self, recipe, known, seed):
        """An untrained network, whose bins are those of the `known` rows."""
        return recipe.network((known.X, known.y, known.w, self.rows), self.n_classes, seed)

    def prepare(self, job):
        """Gives a job its untrained network, and the callback that keeps its best epoch."""
        job.net = self.network(job.recipe, job.part.known, job.seed)
        by_errors = self.metric.name in ("accuracy", "error")
        monitor, ties = ("val_error", "last") if by_errors else ("val_cost", "first")
        job.best = callbacks.EarlyStopping(job.recipe.patience, monitor=monitor, ties=ties)

    def within(self, jobs, begun, limit):
        """The jobs that a time limit has room for, with fewer epochs where it has to be: a whole schedule each."""
        self.deadline = begun + limit
        paces = {}
        for job in jobs:
            if job.recipe_number not in paces and time.monotonic() < self.deadline:
                paces[job.recipe_number] = self.pace(job)
        room = _PLANNED * (self.deadline - time.monotonic())
        return plan(jobs, paces, max(room, 0.0), self.threads)

    def pace(self, job):
        """About how many seconds an epoch of a job takes on one thread."""
        known, m = job.part.known, job.part.m
        some = known.take(np.arange(min(known.m, _PACED_ROWS)))
        net = self.network(job.recipe, some, job.seed)
        optimizer = job.recipe.optimizer(m)
        batch = min(job.batch_size, some.m)
        history = net.fit(
            some.X, self.targets(some), epochs=2, batch_size=batch, optimizer=optimizer, sample_weight=some.w, threads=1
        )
        looked = job.part.held_out.m / (3 * m)  # a forward pass is a third of what an example costs in training
        return min(history["seconds"]) * m / some.m * (1 + looked)

    def run(self, jobs, progress):
        """Trains the jobs, those with as many epochs and as large batches side by side; whether Ctrl-C ended it."""
        progress_bar = shared_progress(progress, jobs, self.metric)
        groups = {}
        for job in jobs:
            groups.setdefault((job.epochs, job.batch_size), []).append(job)
        try:
            for group in groups.values():
                for some in side_by_side(group, self.threads):
                    if self.late() and any(job.best_epoch is not None for job in jobs):
                        break
                    self.run_together(some, progress_bar)
        except KeyboardInterrupt:
            for job in jobs:
                if job.best_epoch is not None and job.P is None:
                    job.best.on_fit_end(job.net, job.history)
            if all(job.best_epoch is None for job in jobs):
                raise
            _warn_of_interrupt()
            return True
        finally:
            if progress_bar is not None:
                progress_bar.close()
        return False

    def predict(self, net, X):
        """The outputs of a network for held-out rows."""
        return net.predict(X, threads=self.threads, invariant=True)

    def late(self):
        """Whether the time is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def run_together(self, group, progress_bar):
        """Trains jobs side by side."""
        watches = self.deadline is not None or progress_bar is not None
        for job in group:
            self.prepare(job)
        histories = many.fit_many(
            [job.net for job in group],
            [job.part.train.X for job in group],
            [self.targets(job.part.train) for job in group],
            sample_weight=[job.part.train.w for job in group],
            epochs=group[0].epochs,
            batch_size=group[0].batch_size,
            optimizer=[job.recipe.optimizer(job.part.train.m) for job in group],
            validation_data=[self.validation_data(job.part.held_out) for job in group],
            callbacks=[
                [job.best, SessionCallback(self, job.epochs, progress_bar)] if watches else [job.best] for job in group
            ],
            threads=self.threads,
        )
        for job, history in zip(group, histories, strict=True):
            job.history = history
            job.part.free()

    def refit(self, jobs, trained, data, progress):
        """Trains an ensemble's networks on all rows, for as many epochs as their best; each replaces the first one.

        Those that don't get there, for want of time, by Ctrl-C or a cost that isn't finite, stay as they are.
        """
        counting = [i for i, one in enumerate(trained.report) if one["weight"] > 0]
        of_recipe = {job.recipe_number: job for job in jobs}
        again = [RefitJob(of_recipe[trained.report[i]["recipe"]], i, place, data.m) for place, i in enumerate(counting)]
        progress_bar = shared_progress(progress, again, self.metric)
        groups = {}
        for one in again:
            groups.setdefault((one.all_epochs, one.batch_size), []).append(one)
        try:
            for group in groups.values():
                if not self.time_for(group, trained.report):
                    continue
                for one, history in zip(group, self.fit_again(group, data, progress_bar), strict=True):
                    if one.stop.reached and "diverged" not in history:
                        trained.networks[one.place] = one.net
                        trained.report[one.number]["refit"] = True
        except KeyboardInterrupt:
            if not self.keeps_interrupted:
                raise
            trained.interrupted = True
            _warn_of_interrupt()
        finally:
            if progress_bar is not None:
                progress_bar.close()

    def time_for(self, group, report):
        """Whether there is time enough to train these once more, by what they took before."""
        if self.deadline is None:
            return True
        took = sum(report[one.number]["seconds"] / report[one.number]["epochs"] * one.epochs for one in group)
        return time.monotonic() + took * group[0].grown < self.deadline

    def fit_again(self, group, data, progress_bar):
        """The histories of networks that are trained on all rows, side by side."""
        for one in group:
            one.net = self.network(one.recipe, data, one.seed)
        return many.fit_many(
            [one.net for one in group],
            data.X,
            self.targets(data),
            sample_weight=data.w,
            epochs=group[0].all_epochs,
            batch_size=group[0].batch_size,
            optimizer=[one.recipe.optimizer(data.m) for one in group],
            callbacks=[
                [one.stop] if progress_bar is None else [one.stop, SessionCallback(self, one.epochs, progress_bar)]
                for one in group
            ],
            threads=self.threads,
        )

    def targets(self, examples):
        """y as the networks take it."""
        return examples.y if self.n_classes else examples.y[None]

    def validation_data(self, held):
        """Held-out rows as `fit` takes them."""
        return (held.X, self.targets(held)) if held.w is None else (held.X, self.targets(held), held.w)


class RefitJob:
    """An ensemble's network that is to be trained on all rows: `place` among the networks, `number` in the report."""

    def __init__(self, job, number, place, m):
        self.recipe, self.seed, self.number, self.place = job.recipe, job.seed, number, place
        self.epochs, self.all_epochs = job.best_epoch + 1, job.epochs
        self.batch_size, self.grown = job.recipe.batch(m), m / job.part.m
        self.stop, self.net = StopAfterEpoch(job.best_epoch), None


class StopAfterEpoch(callbacks.Callback):
    """Ends a training after an epoch, counted from 0; the schedule is that of all epochs."""

    def __init__(self, last):
        self._last, self.reached = last, False

    def on_epoch_end(self, net, epoch, history):
        self.reached = epoch >= self._last
        return self.reached


class SessionCallback(callbacks.Callback):
    """Between the epochs of one network: ends it when the time is over, and tells how far all are."""

    def __init__(self, session, epochs, progress_bar):
        self._session, self._left, self._progress_bar = session, epochs, progress_bar

    def on_epoch_end(self, net, epoch, history):
        self._left -= 1
        if self._progress_bar is not None:
            self._progress_bar.step(history)
        return self._session.late()

    def on_fit_end(self, net, history):
        if self._progress_bar is not None:
            self._progress_bar.skip(self._left)


class SharedProgress:
    """Epochs of all networks, shown on standard error or told to a function."""

    def __init__(self, total, score_name, tell=None):
        self._total, self._done, self._tell, self._begun = total, 0, tell, time.monotonic()
        self._line = progress_.Progress(total, score_name) if tell is None else None

    def step(self, history):
        """After an epoch of one of them."""
        self._done += 1
        if self._tell is None:
            self._line.update(self._done, history)
        else:
            left = (time.monotonic() - self._begun) / self._done * (self._total - self._done)
            self._tell(self._done, self._total, left)

    def skip(self, epochs):
        """These won't be trained."""
        self._total -= epochs

    def close(self):
        """At the end, however it came."""
        if self._line is not None:
            self._line.close()


def shared_progress(progress, jobs, metric):
    total = sum(job.epochs for job in jobs)
    if callable(progress):
        return SharedProgress(total, None, progress)
    return (
        SharedProgress(total, "accuracy" if metric.classifies else "r2")
        if validation.flag("progress", progress)
        else None
    )


def side_by_side(group, threads):
    """Lists of jobs that are trained at once: all of them, or of large tables those of as few parts as threads need.

    Each part of the rows that is trained on is a copy of most of the table.
    """
    of_part = {}
    for job in group:
        of_part.setdefault(id(job.part), []).append(job)
    if len(of_part) * group[0].part.train.nbytes <= _COPIED_BYTES:
        return [group]
    threads, found = threads or _kernels.get_threads(), [[]]
    for jobs in of_part.values():
        if len(found[-1]) >= threads:
            found.append([])
        found[-1] += jobs
    return found


def plan(jobs, paces, room, threads):
    """The jobs that `room` seconds are enough for, the first recipes', their epochs cut where they must.

    Several recipes with at least half of their epochs come before fewer with more; the first recipe is always there, on
    one part only where its epochs would be fewer than that on all.

    `paces`: {recipe's number: seconds of an epoch on one thread}.
    """
    numbers = list(paces)
    while True:
        chosen = [job for job in jobs if job.recipe_number in numbers] if numbers else jobs[:1]
        at_once = min(threads or _kernels.get_threads(), len(chosen))
        cost = sum(job.epochs * paces.get(job.recipe_number, 0.0) for job in chosen) / at_once
        share = 1.0 if cost <= room else room / cost
        if share >= _FEWEST_EPOCHS or len(chosen) == 1:
            break
        if len(numbers) > 1:
            numbers.pop()
        else:
            jobs = chosen[:-1]
    for job in chosen:
        job.epochs = max(1, int(job.epochs * share))
    return chosen


def _warn_of_interrupt():
    warn("Training interrupted by user; the best epochs so far are kept.")


def kept(jobs):
    """The jobs that have come to something; a DivergenceError where none has."""
    diverged = [job.history["diverged"] for job in jobs if "diverged" in job.history]
    jobs = [job for job in jobs if job.best_epoch is not None and np.isfinite(job.best.best_value)]
    if not jobs:
        raise diverged[0] if diverged else DivergenceError(0, 0, np.nan)
    return jobs


def trained_of(jobs, session, interrupted):
    """The ensemble of jobs that have come to something."""
    metric = session.metric
    for part in {id(job.part): job.part for job in jobs}.values():
        for job in jobs:
            if job.part is part:
                job.P = session.predict(job.net, part.held_out.X)
        part.free()
    # what is trained for is smooth, and tells few rows best; a metric that is something else has its say beside it
    criteria = [metrics.METRICS[default_metric(session.task)]]
    if metric.name not in (criteria[0].name, "r2"):
        criteria.append(metric)
    weights = ensemble.weights(jobs, criteria)
    report = [
        job.report(metric) | {"weight": float(weight), "refit": False}
        for job, weight in zip(jobs, weights, strict=True)
    ]
    score = ensemble.score(jobs, weights, metric)
    counting = [i for i, weight in enumerate(weights) if weight > 0]
    return Trained([jobs[i].net for i in counting], weights[counting], report, score, interrupted)
