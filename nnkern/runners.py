"""How an epoch goes through the engine: all examples in one call, or the parts of a source one after the other.

A runner knows one network's state and its source of examples. What happens between epochs is training.py's.
"""

import abc
import time

import numpy as np

from nnkern import _engine, _kernels
from nnkern.exceptions import DivergenceError
from nnkern.losses import r2

# most epochs in one call of the engine: the call costs little beside so many, and memory doesn't grow with `epochs`
EPOCHS_AT_ONCE = 1024
# most steps in one call where numbers go by step: these take memory
STEPS_AT_ONCE = 1 << 20


class Outcome:
    """What some epochs gave: one entry for each whole epoch, and what ended them early.

    `failure` is an exception, (batch, last finite cost) of a training that diverged, how else the engine says that it
    ended, or None. `held_out`: costs and
    scores of the held-out examples, where the engine has evaluated them.
    """

    def __init__(self, costs=(), seconds=(), scores=(), failure=None, held_out=((), ())):
        self.costs, self.seconds, self.scores, self.failure = list(costs), list(seconds), list(scores), failure
        self.held_out = held_out


class Plan:
    """How the examples are gone through, and what the engine is told beside.

    `drop_last`: whether a last, smaller batch is left out. `random_state`: the generator of numpy that shuffles in
    place of the engine's own. `numbers`: of the update, beside the optimizer's. `more`: further options of the engine.
    """

    def __init__(
        self,
        batch_size,
        shuffle,
        scored=False,
        threads=None,
        *,
        drop_last=False,
        random_state=None,
        numbers=None,
        patience=None,
        more=None,
    ):
        self.batch_size, self.shuffle, self.scored, self.threads = batch_size, shuffle, scored, threads
        self.drop_last = drop_last
        self.random_state, self.numbers, self.patience, self.more = random_state, numbers or {}, patience, more or {}


def runner(state, source, plan):
    """The runner for a source."""
    return (ArrayRunner if source.direct else PartsRunner)(state, source, plan)


class EpochRunner(abc.ABC):
    """Base of the runners."""

    most = 1
    """Epochs that it can run at a time."""
    between = None
    """What the engine does between them, where it does anything."""
    status = "done"
    """How the last epochs ended, as the engine says."""

    def __init__(self, state, source, plan):
        self.state, self.source, self.plan = state, source, plan
        self.order = np.arange(source.m, dtype=np.int64) if plan.shuffle else None
        self._last_cost = np.nan  # finite, of a batch
        self._squared = plan.scored and not state.loss.classifies
        self._spread = source.spread() if self._squared and not plan.drop_last else None
        self._steps = source.steps(plan)

    def look_between(self, held_out, rule):
        """From now on the engine evaluates `held_out` (a source, or None) after each epoch and chooses the best epoch.

        `rule`: how, as `_engine.Between` says, or None. Returns whether that can be.
        """
        return False

    @abc.abstractmethod
    def prepare(self, rates, by_step):
        """What `_engine.train_together` takes of epochs with these rates; None where that isn't what runs them.

        `by_step`: {"rate", "decay", "dropout": vector} of the numbers that change from step to step of these epochs.
        """

    def count(self):  # noqa: B027, only of what the engine is handed there is something to count
        """Counts the epochs that were done, however they ended."""

    @abc.abstractmethod
    def outcome(self, error):
        """The Outcome of these epochs. `error`: what `_engine.train_together` raised, or None."""

    def _options(self, rates, by_step, costs, seconds):
        optimizer, plan = self.state.optimizer, self.plan
        return {
            "rates": rates,
            "by_step": by_step,
            "update": optimizer.update,
            "numbers": optimizer.numbers | plan.numbers,
            "costs": costs,
            "seconds": seconds,
            **plan.more,
        }

    def _score_vectors(self, count):
        """(right, squares): what the engine adds up the scores of epochs in, each None where it isn't wanted."""
        right = np.zeros(count) if self.plan.scored else None
        return right, np.zeros((count, self.state.n_y)) if self._squared else None

    def _scores(self, right, squares, done):
        """Training scores, from the predictions made before each update; with `drop_last`, of one epoch at most."""
        if right is None:
            return []
        used = self._used()
        weight = self.source.weight(used)
        if weight == 0:
            return [np.nan] * done  # of all examples that count none has come in
        if squares is None:
            return [float(x) / weight for x in right[:done]]
        spread = self.source.spread(used) if self._spread is None else self._spread
        return [r2(row, spread) for row in squares[:done]]

    def _used(self):
        """Which examples the last epoch has gone through; None for all."""
        if not self.plan.drop_last:
            return None
        used = self.source.m - self.source.m % self.plan.batch_size
        return np.arange(used) if self.order is None else self.order[:used]

    def _diverged(self, batch, last_cost):
        return batch, self._last_cost if np.isnan(last_cost) else last_cost


class ArrayRunner(EpochRunner):
    """Epochs over arrays, as many as there are rates in one call of the engine."""

    most = EPOCHS_AT_ONCE

    def look_between(self, held_out, rule):
        data, spread = None, None
        if held_out is not None:
            data, spread = held_out.whole(), None if self.state.loss.classifies else held_out.spread()
        self.between = _engine.Between(self.state.engine, data, spread, rule)
        return True

    def prepare(self, rates, by_step):
        count, plan = len(rates), self.plan
        self._costs, self._seconds = np.empty(count), np.empty(count)
        self._right, self._squares = self._score_vectors(count)
        self._job = _engine.TrainJob(
            self.state.engine,
            *self.source.whole(),
            **self._options(rates, by_step, self._costs, self._seconds),
            batch_size=plan.batch_size,
            shuffle=plan.shuffle,
            order=self.order,
            source=plan.random_state,
            patience=plan.patience,
            between=self.between,
            keep_last=True,
            drop_last=plan.drop_last,
            right=self._right,
            squares=self._squares,
        )
        return self._job

    def count(self):
        self._result = self._job.outcome()
        self.status = self._result["status"]
        self.state.epochs_done += self._result["done"]

    def outcome(self, error):
        result = self._result
        done, failure = result["done"], error
        if error is None and result["status"] == "diverged":
            failure = self._diverged(result["batch"], result["last_cost"])
        elif error is None and result["status"] != "done":
            failure = result["status"]
        elif done:
            self._last_cost = result["last_cost"]
        scores = self._scores(self._right, self._squares, done)
        seen = ((), ()) if self.between is None else self.between.seen()
        return Outcome(self._costs[:done].tolist(), self._seconds[:done].tolist(), scores, failure, seen)


class PartsRunner(EpochRunner):
    """An epoch in parts, each of some batches: of examples that come as they are needed."""

    def prepare(self, rates, by_step):
        self._rates, self._by_step = rates, by_step

    def outcome(self, error):
        """Runs an epoch; where it failed, the network is as it was before."""
        engine, kept = self.state.engine, False
        begun = time.perf_counter()
        try:
            engine.keep()  # may be interrupted too: nothing has changed by then
            kept = True
            right, squares = self._score_vectors(1)
            cost = self._epoch(right, squares)
        except BaseException as raised:
            if kept:
                engine.rollback()
            return Outcome(failure=raised)
        if isinstance(cost, tuple):
            engine.rollback()
            return Outcome(failure=cost)
        self.state.epochs_done += 1
        if self.plan.patience is not None:
            self.plan.patience.note(cost)
        return Outcome([cost], [time.perf_counter() - begun], self._scores(right, squares, 1))

    def _epoch(self, right, squares):
        """The epoch's cost, or what a divergence is told of by."""
        engine, epoch = self.state.engine, self.state.engine.epoch
        total, total_share, batches = 0.0, 0.0, 0
        self._shuffle(epoch)
        for data, batch_size in self.source.parts(self.plan.batch_size, self.order):
            m = data[0].shape[1]
            if self.plan.drop_last and m < batch_size:
                break
            options = self._options(self._rates, self._of_step(batches), np.empty(1), np.empty(1))
            if right is not None:
                options |= {"right": np.zeros(1), "squares": squares}  # the engine adds to squares
            cost, result = _train_part(engine, data, options, batch_size, self.plan.threads)
            engine.epoch = epoch  # which the engine counts at the end of each part
            if result["status"] == "diverged":
                return self._diverged(batches + result["batch"], result["last_cost"])
            self._last_cost = result["last_cost"]
            if right is not None:
                right += options["right"]
            share = m if data[3] is None or self.plan.more.get("by_count") else _sum(data[3])
            total += share * cost
            total_share += share
            batches += -(-m // batch_size)
        if batches == 0:
            raise ValueError("the iterable gave no batch")
        if total_share == 0:
            raise ValueError("sample_weight and class_weight give every example the weight 0")
        if _kernels.first_nonfinite(engine.theta) is not None:
            return self._diverged(batches - 1, np.nan)
        engine.epoch = epoch + 1
        return float(total / total_share)

    def _of_step(self, step):
        """What that step of the epoch has of the numbers that change from step to step: a part is one batch."""
        if self._by_step and step == self._steps:
            raise ValueError(
                f"the iterable of batches has a length of {self._steps} and gives more: schedules by step need the "
                "right number"
            )
        return {name: table.reshape(self._steps, -1)[step] for name, table in self._by_step.items()}

    def _shuffle(self, epoch):
        """The order of the examples becomes that of this epoch, where it isn't their own."""
        if self.plan.random_state is not None:
            self.plan.random_state.shuffle(self.order)
        elif self.plan.shuffle:
            self.order = _engine.shuffled_order(self.source.m, self.state.engine.key, epoch)


def _train_part(engine, data, options, batch_size, threads=None):
    """(cost, result): the steps of one part of an epoch; their mean cost."""
    result = engine.train(
        *data, **options, batch_size=batch_size, shuffle=False, order=None, keep_last=False, threads=threads
    )
    # the mean over one batch is its cost, but for the rounding of a product and a quotient
    alone = batch_size >= data[0].shape[1] and result["status"] != "diverged"
    return result["last_cost"] if alone else options["costs"][0], result


def step(state, data, rate):
    """One step on one batch, in a training that has been entered; returns its cost."""
    optimizer = state.optimizer
    options = {"rates": np.array([rate]), "update": optimizer.update, "numbers": optimizer.numbers}
    options |= {"costs": np.empty(1), "seconds": np.empty(1)}
    cost, result = _train_part(state.engine, data, options, data[0].shape[1])
    if result["status"] == "diverged":
        raise DivergenceError(state.epochs_done, 0, np.nan, False)
    return cost


def _sum(w):
    """Σ w_i in the order and the precision of the engine."""
    return float(np.cumsum(w, dtype=np.float64)[-1])
