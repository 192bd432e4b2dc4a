"""Training by several processes at once, each with a shard of the examples.

Every process computes the gradient of its own examples of a step, the gradients are summed, and each makes the same
step. What one decides, all decide: sums over all processes tell when to stop and which epoch was the best, and the
learning rate is that of rank 0. How processes meet and how errors reach all of them is ranks.py's affair.
"""

import contextlib
import os
import platform

import numpy as np

from nnkern import _engine, _kernels, shards, sources, training, validation
from nnkern.losses import r2
from nnkern.monitors import METRICS
from nnkern.ranks import Ranks
from nnkern.runners import Plan
from nnkern.state import Evaluation, of

# of what may be monitored, what sums over the processes give
_SUMMED = ("val_error",)


def fit(net, options, data, held_out, comm, deadline):
    """Network.fit with `comm`; the history.

    `options`: gives the Options; `data`: (X, Y, sample_weight) of this process; `held_out`: (validation_data,
    validation_split).
    """
    ranks = Ranks(comm, deadline)
    with ranks.together():
        fit = fit_of_shards(ranks, net, options, data, held_out)
        run(fit)
        return fit.history


def run(fit):
    """All epochs of a FitOfShards."""
    with fit.entered():
        fit.begin()
        while not fit.over:
            fit.go_on()
        fit.end()


class FitOfShards(training.Fit):
    """A network in a training of several processes."""

    def __init__(self, net, source, plan, options, ranks, *, its_shards, **more):
        self._ranks, self.shards = ranks, its_shards
        self._watched = None  # whether a process wants to see each epoch, when that is known
        self.stopped = False  # whether a process has asked for the end
        self._seen = None  # (cost, score) of the held-out examples of all, after the last epoch
        for asked in [getattr(callback, "monitor", None) for callback in options.callbacks] + options.metrics:
            _check_monitor(asked)
        super().__init__(net, source, plan, options, **more)
        self.shows = self.shows and ranks.rank == 0

    @contextlib.contextmanager
    def entered(self):
        with contextlib.ExitStack() as stack:
            with self._ranks.alone():
                if self.state.engine is None and self._ranks.rank != self.shards.root:
                    self.state.make_engine(self.source.n_x)  # the parameters come from another rank
                stack.enter_context(super().entered())
            yield

    def make_runner(self):
        """How the epochs are computed."""
        return shards.runner(self.state, self.source, self.plan, self._ranks, self.shards)

    def begin(self):
        with self._ranks.alone():
            self.prepare()
        self._follow_root()
        with self._ranks.alone():
            self.announce()
            self.in_engine = self.looks_in_engine()
        rule = self.callbacks[0].rule() if self.in_engine and self.callbacks else None
        rows = self._ranks.gather({"in_engine": self.in_engine, "watched": self.is_watched(), "rule": rule})
        # the engine decides alike on all of them where all have told it the same
        same = all(row == rows[0] for row in rows)
        self._watched = any(row["watched"] or (row["in_engine"] and not same) for row in rows)
        if not same:
            self.in_engine, self.runner.between = False, None

    def _follow_root(self):
        """All begin with the parameters, the optimizer's state, the counts and the keys of one."""
        ranks, state, root = self._ranks, self.state, self.shards.root
        _, *moments = state.engine.state()
        rows = ranks.gather({"progress": state.progress(), "has": [s is not None for s in moments]})
        ranks.of_root(state.engine.theta, root)
        moments = [
            ranks.of_root(np.zeros_like(state.engine.theta) if own is None else own.copy(), root) if has else None
            for own, has in zip(moments, rows[root]["has"], strict=True)
        ]
        progress = rows[root]["progress"]
        state.restore(progress, state.optimizer, *moments)
        own, own.key = self.shards, progress["key"]
        if not own.batches:
            how = own.mean_weight, own.weighted, own.key
            ranks.reducer.deal(own.sizes, own.steps, *how, direct=own.direct)

    def is_watched(self):
        return super().is_watched() if self._watched is None else self._watched

    def steps(self):
        if self.shards.steps is None:
            raise ValueError(
                "a schedule by step needs to know how many steps there are: give the iterable of batches of each rank "
                "a __len__, or take numbers, or a schedule of the epoch for the learning rate"
            )
        return max(self.shards.steps, 1)

    def go_on(self):
        """Some epochs."""
        with self._ranks.alone():
            rates = self.rates(self.most())
        self._ranks.of_root(rates, self.shards.root)
        for name in sorted(self.by_step):
            self._ranks.of_root(self.by_step[name], self.shards.root)
        with self._ranks.alone():
            job = self.runner.prepare(rates, self.by_step)
        outcome = self.runner.outcome(None if job is None else self._train(job))
        self.done += len(outcome.costs)
        if self.runner.status == "lost":
            raise self._ranks.lost(self.runner)
        self.after(rates, outcome)

    def _train(self, job):
        """Runs epochs; the error that has ended them in this process, or None."""
        try:
            _engine.train_together([job], self.plan.threads)
        except BaseException as raised:
            if not job.begun:
                raise  # the others have begun, and are told by a message
            return raised
        finally:
            self.runner.count()
        return self._ranks.reducer.take_error() if self.runner.status == "interrupted" else None

    def after(self, rates, outcome):
        failure, looks = outcome.failure, self.is_watched() and self.held_out is not None
        numbers = np.zeros(self.sums_count if looks else 0)
        try:
            if outcome.costs:
                self.note(rates[: len(outcome.costs)], outcome)
                if looks:
                    numbers[:] = self.sums_of_held_out()
        except BaseException as raised:
            failure = raised if failure is None else failure
        numbers = self._ranks.meet(failure, numbers, self.done)
        failure, asked = None, False
        try:
            if looks:
                self._seen = self.evaluation_of(numbers)
            with self._ranks.raising():
                if outcome.costs and self.is_watched():
                    self.look()
                asked = self.is_enough()
        except BaseException as raised:
            failure = raised
        (stop,) = self._ranks.meet(failure, [bool(asked)], self.done)
        self.stopped = stop > 0
        self.over = self.stopped or self.done >= self.epochs

    @property
    def sums_count(self):
        """How many numbers `sums_of_held_out` gives."""
        return 3 + self.state.n_y

    def sums_of_held_out(self):
        """Of this process's: Σ w L, Σ w, and what the score is made of."""
        if self.held_out.m == 0:
            return np.zeros(self.sums_count)
        cost, right, squares, total = self.state.engine.evaluate(*self.held_out.whole(), threads=self.plan.threads)
        return [cost * total, total, right, *(np.zeros(self.state.n_y) if squares is None else squares)]

    def evaluation_of(self, sums):
        """The Evaluation of the held-out examples of all, from the sums over the processes."""
        cost, total, right, *squares = sums
        score = right / total if self.classifies() else r2(squares, self.held_out.spread())
        return Evaluation(cost / total, score)

    def evaluate(self):
        return self._seen

    def end(self):
        with self._ranks.alone():
            super().end()
        # of callbacks that only one process has, such as one that brings back the best epoch
        self._ranks.of_root(self.state.engine.theta, self.shards.root)


def _check_monitor(monitor):
    """Refuses what needs the outputs of all processes in one place."""
    if callable(monitor) or (monitor in METRICS and monitor not in _SUMMED):
        name = f"the function {getattr(monitor, '__name__', monitor)}" if callable(monitor) else repr(monitor)
        raise ValueError(
            f"monitor can't be {name} with comm=: each rank has its own held-out examples, and only val_cost, "
            "val_score and val_error are sums over them"
        )


def fit_of_shards(ranks, net, options, data, held_out):
    """The FitOfShards of what `fit` takes, of processes that are together already."""
    with ranks.alone():
        options, state = options(), of(net)
        optimizer = training.optimizer_for(state, options)
        source, aside = _read(state, options, data, *held_out)
        same = settings(state, options, optimizer, source)
    plan, own, source, aside = agree(state, options, (source, aside), same, ranks)
    with ranks.alone():
        return FitOfShards(net, source, plan, options, ranks, its_shards=own, held_out=aside, optimizer=optimizer)


def agree(state, options, examples, same, ranks):
    """(plan, Shards, training source, held-out source or None): what all processes have together.

    `examples`: the two sources of this one; `same`: {name: value} of what must be the same on all ranks.
    """
    source, aside = examples
    with ranks.alone():
        begins = state.engine is not None or not any(layer.needs_examples for layer in state.layers)
        begins = begins or (source.direct and source.m > 0)
        row = shards.row(source, aside, options, begins) | {"place": _place(), "same": same}
    rows = ranks.gather(row)
    compare([one["same"] for one in rows])
    own = shards.Shards(rows, options.batch_size)
    if own.held_out and aside is None:
        aside = shards.nothing(state, source.n_x)
    spreads = [
        _spread(one, state, ranks) if needed and not state.loss.classifies else None
        for one, needed in ((source, own.scored), (aside, aside is not None))
    ]
    threads = options.threads
    if threads is None:
        neighbours = sum(one["place"] == row["place"] for one in rows)
        threads = max(1, _kernels.get_threads() // neighbours)
    with ranks.alone():
        m = 0 if own.batches else source.m
        shuffle = not own.batches and options.shuffle and own.steps > 1 and m > 0
        more = {} if own.batches and ranks.size == 1 else {"ranks": ranks.reducer}
        plan = Plan(max(m, 1), shuffle, own.scored, threads, more=more)  # the engine deals the examples to the steps
        aside = None if aside is None else shards.Shard(aside, None, spreads[1])
        return plan, own, shards.Shard(source, own.weight, spreads[0]), aside


def _read(state, options, data, validation_data, validation_split):
    """(examples of this process, held-out ones or None), checked."""
    share = validation.number("validation_split", validation_split, 0, 1, high_open=True)
    if share and validation_data is not None:
        raise ValueError("validation_data and validation_split were both given: use one")
    if isinstance(options.class_weight, str):
        raise ValueError(
            f"class_weight {options.class_weight!r} counts classes, of which each rank sees its own shard: with comm= "
            "pass a dict of labels and weights"
        )
    X, Y, w = data
    if Y is None:
        if w is not None or share:
            training.refuse_with_batches()
        source = training.source_of_batches(state, options, X)
        return source, training.validation_source(state, validation_data, source.n_x, rows=options.rows)
    if np.ndim(X) == 2 and np.shape(X)[0 if options.rows else 1] == 0:
        source = shards.nothing(state, np.shape(X)[1 if options.rows else 0])
    else:
        X, Y = state.columns(X, Y) if options.rows else (X, Y)
        with validation.told_of_columns(options.rows):
            source = sources.arrays(state, X, Y, w, options.class_weight, _Checks())
    held_out = None
    if share and source.m:
        source, held_out = training.split(state, source, share)
    elif validation_data is not None:
        held_out = training.validation_source(state, validation_data, source.n_x, rows=options.rows)
    if source.m:
        source = source.weighted(options.class_weight, state.loss, state.n_y, whole=False)
    return source, held_out


class _Checks:
    """validation.py's, but for weights: those of one process may all be 0, and all have the same unit."""

    @staticmethod
    def examples(*how, **more):
        return validation.examples(*how, **more)

    @staticmethod
    def targets(*how, **more):
        return validation.targets(*how, **more)

    @staticmethod
    def weights(sample_weight, m, to, _whole=True):
        return validation.weights(sample_weight, m, to, whole=False)


def _place():
    """What processes that share their processors have in common."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return [platform.node(), affinity]


def settings(state, options, optimizer, source):
    """What must be the same for all processes, by the name that a user knows."""
    return {
        "X's number of features": source.n_x,
        "whether X is an iterable of batches": isinstance(source, sources.Batches),
        "dtype": state.dtype.name,
        "compute": state.compute or state.dtype.name,
        "layers": [repr(layer.to_dict()) for layer in state.layers],
        "loss": state.loss.name,
        "l2": state.l2,
        "l1": state.l1,
        "optimizer": [optimizer.update, optimizer.numbers],
        "numbers that go by step": sorted(optimizer.by_step()),
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "shuffle": options.shuffle,
        "resume": options.resume,
    }


def compare(rows):
    """A ValueError where the dicts of the ranks, {name: value}, differ."""
    for rank, own in enumerate(rows):
        for name, value in rows[0].items():
            if own[name] != value:
                raise ValueError(f"{name} must be the same on all ranks; rank 0 has {value}, rank {rank} {own[name]}")


def _spread(source, state, ranks):
    """Σ w (y - ȳ)² per output, over the examples of all processes."""
    Y, _, w = source.targets()
    Y, n = Y.astype(np.float64), state.n_y
    w = np.ones(source.m) if w is None else w.astype(np.float64)
    sums = ranks.sum([w.sum(), *(Y @ w)])
    mean = sums[1:] / sums[0] if sums[0] else np.zeros(n)
    return ranks.sum(((Y - mean.reshape(-1, 1)) ** 2) @ w)
