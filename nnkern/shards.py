"""What each of several processes has of the examples, and how an epoch goes through what the engine can't take whole.

The engine takes arrays as they are, and deals them to the steps itself. Where a process reads or converts examples step
by step, from memory maps, sparse matrices or batches, all processes go step by step, each step a call of the engine.
"""

import time
from typing import NamedTuple

import numpy as np

from nnkern import _engine, _kernels, sources
from nnkern.runners import ArrayRunner, EpochRunner, Outcome, PartsRunner


class Shards:
    """What all processes have together.

    `rows`: of each, what `row` gives; `batch_size`: None for all examples.
    """

    def __init__(self, rows, batch_size):
        self.key = None  # of shuffling and dropout, when it is known
        self.sizes = [row["m"] for row in rows]
        self.batches = any(row["batches"] for row in rows)
        self.direct = all(row["direct"] for row in rows)
        self.weighted = any(row["weighted"] for row in rows)
        self.held_out = any(row["held_out"] for row in rows)
        self.scored = not self.batches and any(row["progress"] for row in rows)
        # whose parameters all begin with: rank 0's, unless these depend on examples and it has none
        self.root = next((rank for rank, row in enumerate(rows) if row["begins"]), 0)
        if self.batches:
            counts = [row["steps"] for row in rows]
            self.m, self.weight, self.steps = None, None, None if None in counts else max(counts)
            return
        self.m, self.weight = sum(self.sizes), float(sum(row["weight"] for row in rows))
        if self.m == 0:
            raise ValueError(f"the shards of all {len(rows)} ranks have 0 examples")
        if self.weight == 0:
            raise ValueError("sample_weight and class_weight give every example of all ranks the weight 0")
        self.steps = -(-self.m // min(batch_size or self.m, self.m))

    @property
    def mean_weight(self):
        """Of an example, over all processes."""
        return self.weight / self.m if self.weighted else 1.0

    def first(self, rank, step):
        """Where the examples of a step begin in that shard, which is dealt evenly to the steps of an epoch."""
        return self.sizes[rank] * step // self.steps


def row(source, held_out, options, begins):
    """What the others are told of the examples of a process. `begins`: whether it has parameters or can draw them."""
    batches = isinstance(source, sources.Batches)
    return {
        "batches": batches,
        "direct": source.direct,
        "m": None if batches else source.m,
        "steps": source.steps(None) if batches else None,
        "weight": None if batches else source.weight(),
        "weighted": not batches and source.w is not None,
        "begins": begins,
        "held_out": held_out is not None,
        "progress": options.progress,
    }


def nothing(state, n_x):
    """No examples."""
    return sources.Arrays(np.zeros((n_x, 0), state.dtype, "F"), np.zeros((state.n_y, 0), state.dtype, "F"), None, None)


class Shard:
    """The source of this process's examples; what a score is divided by is that of all processes."""

    def __init__(self, source, weight, spread):
        self._source, self._weight, self._spread = source, weight, spread

    def __getattr__(self, name):
        return getattr(self._source, name)

    def weight(self, _used=None):
        return self._weight

    def spread(self, _used=None):
        return self._spread


def runner(state, source, plan, ranks, shards):
    """The runner for the examples of this process, of the same kind on all of them."""
    if shards.batches:
        return BatchRunner(state, source, plan, ranks, shards) if ranks.size > 1 else PartsRunner(state, source, plan)
    return ArrayRunner(state, source, plan) if shards.direct else PartRunner(state, source, plan, ranks, shards)


class PartRunner(EpochRunner):
    """An epoch step by step: this process's examples of each are read and converted when its turn comes.

    Whatever fails here, this process comes to the next step, where the others are told of it.
    """

    def __init__(self, state, source, plan, ranks, shards):
        super().__init__(state, source, plan)
        self.ranks, self.shards, self._steps = ranks, shards, shards.steps
        self._nothing = nothing(state, source.n_x).whole()

    def prepare(self, rates, by_step):
        self._rates, self._by_step = rates, by_step

    def outcome(self, error):
        """Runs an epoch; where it failed, the network is as it was before."""
        engine, begun, epoch = self.state.engine, time.perf_counter(), _Epoch(self)
        try:
            epoch.run()
        except BaseException:
            epoch.rollback()
            raise
        self.status, failure = epoch.status, epoch.failure
        self._last = epoch  # whose memory MPI may still write to where a process was lost
        if epoch.whole:
            cost, failure = self._cost(epoch.at, failure)
        if not epoch.whole or cost is None:
            epoch.rollback()
            return Outcome(failure=failure)
        engine.epoch = epoch.number + 1
        self.state.epochs_done += 1
        if self.plan.patience is not None:
            self.plan.patience.note(cost)
        scores = self._scores(epoch.at.right, epoch.at.squares, 1)
        return Outcome([cost], [time.perf_counter() - begun], scores, failure)

    def _cost(self, at, failure):
        """(cost, failure) of an epoch that is whole; the cost None where it is to be brought back."""
        if at.step == 0:
            return None, failure or ValueError("the iterables of all ranks gave no batch")
        if at.share == 0:
            return None, failure or ValueError("sample_weight and class_weight give every example the weight 0")
        if _kernels.first_nonfinite(self.state.engine.theta) is not None:
            return None, failure or (at.step - 1, self._last_cost)
        return float(at.total / at.share), failure

    def begin(self, epoch):
        """Before the first step of an epoch."""
        if self.plan.shuffle:
            # each process has its examples in another order
            self.order = _engine.shuffled_order(self.source.m, self.shards.key + self.ranks.rank, epoch)

    def job(self, step, failed):
        """(a step as a job of the engine, vectors for its score); of no example where this process has `failed`."""
        with self.ranks.raising():
            data = self._nothing if failed else self.read(step)
        right, squares = self._score_vectors(1)
        self.deal(step)
        job = _engine.TrainJob(
            self.state.engine,
            *data,
            **self._options(self._rates, self.of_step(step, data), np.empty(1), np.empty(1)),
            batch_size=max(data[0].shape[1], 1),
            shuffle=False,
            order=None,
            keep_last=False,
            right=right,
            squares=squares,
        )
        return job, (right, squares)

    def note(self, result):
        """After a step."""
        self._last_cost = result["last_cost"]

    def diverged(self, step, result):
        """What a divergence is told of by."""
        return self._diverged(step, result["last_cost"])

    def of_step(self, step, _data):
        """What that step of the epoch has of the numbers that change from step to step."""
        return {name: table.reshape(self._steps, -1)[step] for name, table in self._by_step.items()}

    # Where a step's examples come from

    def is_step(self, step):
        """Whether there is such a step, as far as is known before."""
        return step < self._steps

    def read(self, step):
        """(X, Y, labels, w) of this process's examples of a step, the next one."""
        first, end = (self.shards.first(self.ranks.rank, number) for number in (step, step + 1))
        return self.source.part(first, end, self.order)

    def deal(self, step):
        """Tells the engine what all processes have in that step."""
        shards = self.shards
        counts = [shards.first(rank, step + 1) - shards.first(rank, step) for rank in range(self.ranks.size)]
        self.ranks.reducer.deal(counts, 1, shards.mean_weight, shards.weighted, shards.key, direct=False)


class BatchRunner(PartRunner):
    """An epoch through the batches of an iterable: one of each process a step, until none has more."""

    _weight = 1.0  # of the last step

    def begin(self, epoch):
        self._parts = self.source.parts(None, None)

    def is_step(self, step):
        return True

    def read(self, step):
        data, _ = next(self._parts, (self._nothing, 0))
        return data

    def deal(self, step):
        self.ranks.reducer.take_batches(self._weight, self.shards.key)

    def note(self, result):
        super().note(result)
        self._weight = result["weight"] or self._weight

    def of_step(self, step, data):
        if self._by_step and step == self._steps and data[0].shape[1]:
            raise ValueError(
                f"the iterables of batches have a length of at most {self._steps}, and that of rank "
                f"{self.ranks.rank} gives more: schedules by step need the right number"
            )
        return {
            name: table.reshape(self._steps, -1)[min(step, self._steps - 1)] for name, table in self._by_step.items()
        }


class _At(NamedTuple):
    """How far an epoch has come: the next step, what the steps before it gave, and that step's job where it is made."""

    step: int = 0
    total: float = 0.0
    share: float = 0.0
    right: object = None
    squares: object = None
    job: object = None
    scores: tuple = (None, None)


class _Epoch:
    """An epoch of a PartRunner, which an interrupt may come to at any point: it is noted, and told at the next step.

    So all that is known is in `at`, which is replaced as a whole: what was interrupted is done once more.
    """

    _MOST_ERRORS = 8  # of what makes a step, after which this process leaves

    def __init__(self, runner):
        self._runner, self._engine = runner, runner.state.engine
        self.number = self._engine.epoch
        self.at, self.status, self.failure = _At(), "done", None
        self.over = self.whole = self._kept = self._begun = False
        self._errors = 0

    def run(self):
        """All steps."""
        while not self.over:
            try:
                while not self.over:
                    self._advance()
            except BaseException as raised:
                self._errors += 1
                if self._errors > self._MOST_ERRORS:
                    raise
                self.failure = self.failure or raised

    def rollback(self):
        """Brings back what was before the epoch."""
        if self._kept:
            self._engine.rollback()

    def _advance(self):
        """A step."""
        runner, at = self._runner, self.at
        if not self._begun and self.failure is None:
            self._engine.keep()
            self._kept = True
            runner.begin(self.number)
            self._begun = True
        if at.job is None:
            if not runner.is_step(at.step):
                self.over = self.whole = True
                return
            job, scores = runner.job(at.step, self.failure is not None)
            self.at = at = at._replace(job=job, scores=scores)
        if not at.job.begun:
            if self.failure is not None:
                runner.ranks.reducer.fail()
            _engine.train_together([at.job], runner.plan.threads)
        self._take(at, at.job.outcome())

    def _take(self, at, result):
        """What the step has given; it may be called again with the same."""
        runner = self._runner
        self._engine.epoch = self.number  # which the engine counts at the end of each step
        self.status = result["status"]
        # of a signal that came while the others were waited for
        self.failure = self.failure or runner.ranks.reducer.take_error()
        if self.status == "done":
            runner.note(result)
            share = result["examples" if runner.plan.more.get("by_count") else "weight"]
            right, squares = (
                one if before is None else before + one
                for before, one in zip((at.right, at.squares), at.scores, strict=True)
            )
            self.at = _At(at.step + 1, at.total + share * result["last_cost"], at.share + share, right, squares)
            return
        self.whole = self.status == "empty"
        if not self.whole and self.failure is None:
            diverged = self.status == "diverged"
            self.failure = runner.diverged(at.step, result) if diverged else self.status
        self.over = True
