"""What each of several processes has of the examples, and how an epoch goes through what the engine can't take whole.

The engine takes arrays as they are, and deals them to the steps itself. Where a process reads or converts examples step
by step, from memory maps, sparse matrices or batches, all processes go step by step, each step a call of the engine.
"""

import time

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
        self._ranks, self._shards, self._steps = ranks, shards, shards.steps
        self._nothing = nothing(state, source.n_x).whole()

    def prepare(self, rates, by_step):
        self._rates, self._by_step = rates, by_step

    def outcome(self, error):
        """Runs an epoch; where it failed, the network is as it was before."""
        engine, begun = self.state.engine, time.perf_counter()
        epoch, kept, failure = engine.epoch, False, None
        try:
            engine.keep()
            kept = True
            self._begin(epoch)
        except BaseException as raised:
            failure = raised
        right, squares = self._score_vectors(1)
        try:
            cost, failure = self._epoch(epoch, failure, right, squares)
        except BaseException:
            if kept:
                engine.rollback()
            raise
        if cost is None:
            if kept:
                engine.rollback()
            return Outcome(failure=failure)
        engine.epoch = epoch + 1
        self.state.epochs_done += 1
        if self.plan.patience is not None:
            self.plan.patience.note(cost)
        return Outcome([cost], [time.perf_counter() - begun], self._scores(right, squares, 1), failure)

    def _begin(self, epoch):
        """Before the first step of an epoch."""
        if self.plan.shuffle:
            # each process has its examples in another order
            self.order = _engine.shuffled_order(self.source.m, self._shards.key + self._ranks.rank, epoch)

    def _epoch(self, epoch, failure, right, squares):
        """(cost, failure): the epoch's cost, None where it isn't whole, and what has failed.

        An error that came too late for the last step leaves the epoch whole.
        """
        engine, total, total_share, step = self.state.engine, 0.0, 0.0, 0
        while self._is_step(step):
            job = None
            if failure is None:
                try:
                    data = self._read(step)
                    job = self._job(data, step)
                except BaseException as raised:
                    failure = raised
            if job is None:
                self._ranks.reducer.fail()
                job = self._job(self._nothing, step)
            failure = self._train(job, failure)
            engine.epoch = epoch  # which the engine counts at the end of each step
            result = job.outcome()
            self.status = result["status"]
            if self.status == "empty":
                break
            if self.status != "done":
                return None, self._failure(failure, step, result)
            self._last_cost = result["last_cost"]
            self._note(result)
            if right is not None:
                right += self._right
            if squares is not None:
                squares += self._squares
            share = result["examples" if self.plan.more.get("by_count") else "weight"]
            total += share * self._costs[0]
            total_share += share
            step += 1
        if step == 0:
            return None, failure or ValueError("the iterables of all ranks gave no batch")
        if total_share == 0:
            return None, failure or ValueError("sample_weight and class_weight give every example the weight 0")
        if _kernels.first_nonfinite(engine.theta) is not None:
            return None, failure or (step - 1, self._last_cost)
        return float(total / total_share), failure

    def _job(self, data, step):
        """A step as a job of the engine."""
        self._costs = np.empty(1)
        self._right, self._squares = self._score_vectors(1)
        self._deal(step)
        return _engine.TrainJob(
            self.state.engine,
            *data,
            **self._options(self._rates, self._of_step(step, data), self._costs, np.empty(1)),
            batch_size=max(data[0].shape[1], 1),
            shuffle=False,
            order=None,
            keep_last=False,
            right=self._right,
            squares=self._squares,
        )

    def _train(self, job, failure):
        """Runs it; what has failed in this process until now."""
        try:
            _engine.train_together([job], self.plan.threads)
        except BaseException as raised:
            if not job.begun:
                raise  # the others have begun, and are told by a message
            failure = failure or raised
        # of a signal that came while the others were waited for
        return failure or self._ranks.reducer.take_error()

    def _failure(self, failure, step, result):
        if failure is None and self.status == "diverged":
            return self._diverged(step, result["last_cost"])
        return failure or self.status

    def _of_step(self, step, _data):
        """What that step of the epoch has of the numbers that change from step to step."""
        return {name: table.reshape(self._steps, -1)[step] for name, table in self._by_step.items()}

    # Where a step's examples come from

    def _is_step(self, step):
        """Whether there is such a step, as far as is known before."""
        return step < self._steps

    def _read(self, step):
        """(X, Y, labels, w) of this process's examples of a step, the next one."""
        first, end = (self._shards.first(self._ranks.rank, number) for number in (step, step + 1))
        return self.source.part(first, end, self.order)

    def _deal(self, step):
        """Tells the engine what all processes have in that step."""
        shards = self._shards
        counts = [shards.first(rank, step + 1) - shards.first(rank, step) for rank in range(self._ranks.size)]
        self._ranks.reducer.deal(counts, 1, shards.mean_weight, shards.weighted, shards.key)

    def _note(self, result):
        """After a step."""


class BatchRunner(PartRunner):
    """An epoch through the batches of an iterable: one of each process a step, until none has more."""

    _weight = 1.0  # of the last step

    def _begin(self, epoch):
        self._parts = self.source.parts(None, None)

    def _is_step(self, step):
        return True

    def _read(self, step):
        data, _ = next(self._parts, (self._nothing, 0))
        return data

    def _deal(self, step):
        self._ranks.reducer.take_batches(self._weight, self._shards.key)

    def _note(self, result):
        self._weight = result["weight"] or self._weight

    def _of_step(self, step, data):
        if self._by_step and step == self._steps and data[0].shape[1]:
            raise ValueError(
                f"the iterables of batches have a length of at most {self._steps}, and that of rank "
                f"{self._ranks.rank} gives more: schedules by step need the right number"
            )
        return {
            name: table.reshape(self._steps, -1)[min(step, self._steps - 1)] for name, table in self._by_step.items()
        }
