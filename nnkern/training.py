"""One call of Network.fit: its arguments judged, its epochs run, its history kept.

Where nothing has to happen between epochs (no callback, no validation data, no progress), all of them are one call into
the engine; otherwise each is. Data that comes as batches goes through the engine one batch a call.
"""

import time

import numpy as np

from nnkern import _engine, _kernels, callbacks, progress, validation
from nnkern.exceptions import DivergenceError
from nnkern.losses import r2, spread

# most epochs in one call of the engine: the call costs little beside so many, and memory doesn't grow with `epochs`
EPOCHS_AT_ONCE = 1024


class Training:
    """The state of one fit."""

    def __init__(
        self, net, epochs, batch_size, shuffle, optimizer, class_weight, callbacks_, progress_, resume, threads
    ):
        self.net = net
        self.epochs = validation.integer("epochs", epochs, 0)
        self.batch_size = None if batch_size is None else validation.integer("batch_size", batch_size, 1)
        self.shuffle = validation.flag("shuffle", shuffle)
        self.resume = validation.flag("resume", resume)
        if optimizer is None and self.resume:
            optimizer = net._last_optimizer()
        self.optimizer = net._take_optimizer(optimizer)
        self.class_weight = class_weight
        self.callbacks = callbacks.get(callbacks_)
        self.show = validation.flag("progress", progress_)
        self.threads = validation.threads(threads)
        net._check_trainable()

    def on_arrays(self, X, Y, sample_weight, validation_data, validation_split):
        """Trains on X (n_x, m) and Y in memory, or memory-mapped."""
        net = self.net
        split = validation.number("validation_split", validation_split, 0, 1, high_open=True)
        if split and validation_data is not None:
            raise ValueError("validation_data and validation_split were both given: use one")
        if isinstance(X, np.memmap) or isinstance(Y, np.memmap):
            return self.on_batches(_Slices(self, X, Y, sample_weight), validation_data, split)
        data = net._judge(X, Y, sample_weight, n_x=net.n_x)
        if split:
            data, held_out = self._split(data, split)
        else:
            held_out = self._judge_validation(validation_data, data[0].shape[0])
        data = validation.class_weights(self.class_weight, net._loss, net.n_y, data)
        course = Course(self, data)

        def run(rates):
            prepared = course.prepare(rates)
            try:
                _engine.train_together([prepared], self.threads)
            finally:
                course.count()
                divergence = course.conclude()
            if divergence is not None:
                raise divergence

        return self._loop(run, held_out, data[0].shape[0], self.show)

    def on_batches(self, batches, validation_data, split=0.0):
        """Trains on an iterable of (X, Y) or (X, Y, sample_weight) batches."""
        net = self.net
        if split:
            raise ValueError("validation_split needs arrays in memory: use validation_data")
        if not hasattr(batches, "__iter__"):
            raise TypeError(
                f"X must be an array (with Y), or an iterable of (X, Y) batches; got {type(batches).__name__} without Y"
            )
        if isinstance(batches, np.ndarray):
            raise ValueError("Y is missing: fit(X, Y), or fit(batches) with an iterable of (X, Y) batches")
        if iter(batches) is batches and self.epochs > 1:
            raise ValueError(
                f"an iterator can be gone through once, and epochs is {self.epochs}: pass an object that gives a new "
                "iterator each time, or epochs=1"
            )
        class_weight = validation.unbalanced(self.class_weight)
        first = None
        if net._engine is None:
            batches, first = _peek(batches)
            n_x = net._judge(*first, n_x=None, whole=False)[0].shape[0]
        else:
            n_x = net.n_x
        held_out = self._judge_validation(validation_data, n_x)

        def run(rates):
            engine = net._engine
            engine.keep()
            begun, total, total_weight, number = time.perf_counter(), 0.0, 0.0, 0
            cost = self.history["cost"][-1] if self.history["cost"] else np.nan
            try:
                for batch in batches:
                    X, Y, *w = _as_batch(batch, number)
                    data = net._judge(X, Y, w[0] if w else None, class_weight, n_x=net.n_x, whole=False)
                    weight = data[0].shape[1] if data[3] is None else float(data[3].sum(dtype=np.float64))
                    cost = net._train_batch(data, rates[0], number, cost, self.threads, undone=True)
                    total += weight * cost
                    total_weight += weight
                    number += 1
                if number == 0:
                    raise ValueError("the iterable gave no batch")
                if total_weight == 0:
                    raise ValueError("sample_weight and class_weight give every example the weight 0")
                if _kernels.first_nonfinite(engine.theta) is not None:
                    raise DivergenceError(net._epochs_done, number - 1, cost)
            except BaseException:
                engine.rollback()
                raise
            net._epochs_done += 1
            self._record(rates, [total / total_weight], [time.perf_counter() - begun])

        return self._loop(run, held_out, n_x, True)

    def _loop(self, run, held_out, n_x, one_by_one):
        """Calls `run` with the learning rates of the next epochs until all are done or a callback ends it."""
        net = self.net
        self.history = {"cost": [], "learning_rate": [], "seconds": []}
        if held_out is not None:
            self.history |= {"val_cost": [], "val_score": []}
        if self.show:
            self.history["score"] = []
        for callback in self.callbacks:
            callbacks.check_monitor(callback, self.history)
        if net._engine is None:
            net.initialize(n_x)
        engine = net._engine
        shown = progress.Progress(self.epochs, "accuracy" if net._loss.classifies else "r2") if self.show else None
        engine.enter_training()
        undo = net._undo()
        try:
            if not self.resume:
                net._forget_state()
            net._use_optimizer(self.optimizer)
            for callback in self.callbacks:
                callbacks.call(callback, "on_fit_begin", net)
            at_once = 1 if one_by_one or self.callbacks or held_out is not None else EPOCHS_AT_ONCE
            done = 0
            while done < self.epochs:
                count = min(at_once, self.epochs - done)
                run(self.next_rates(count))
                done += count
                if held_out is not None:
                    evaluation = net._evaluate(engine, *held_out, threads=self.threads)
                    self.history["val_cost"].append(evaluation.cost)
                    self.history["val_score"].append(evaluation.score)
                if shown is not None:
                    shown.update(done, self.history)
                # each is called, also after one has asked for the end
                asked = [callback.on_epoch_end(net, done - 1, self.history) for callback in self.callbacks]
                if any(asked):
                    break
            for callback in self.callbacks:
                callbacks.call(callback, "on_fit_end", net, self.history)
        except BaseException:
            if not self.history["cost"]:
                undo()
            raise
        finally:
            engine.leave_training()
            if shown is not None:
                shown.close()
        if self.show and not self.history["score"]:
            del self.history["score"]
        return self.history

    def next_rates(self, count):
        """The learning rates of the next epochs."""
        optimizer, first = self.net.optimizer, self.net._epochs_done
        if not callable(optimizer.learning_rate):
            return np.full(count, optimizer.rate(first))
        return np.array([optimizer.rate(first + i) for i in range(count)])

    def _record(self, rates, costs, seconds):
        self.history["learning_rate"] += [float(x) for x in rates]
        self.history["cost"] += [float(x) for x in costs]
        self.history["seconds"] += [float(x) for x in seconds]

    def _scores(self, right, squares, spread_of_Y, total):
        """Training scores of epochs, from the predictions made before each update."""
        if squares is None:
            return [float(x) / total for x in right]
        return [r2(row, spread_of_Y) for row in squares[: len(right)]]

    def _judge_validation(self, validation_data, n_x):
        if validation_data is None:
            return None
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise ValueError("validation_data must be (X, Y) or (X, Y, sample_weight)")
        return self.net._judge(*validation_data, n_x=n_x, names=("validation_data's X", "validation_data's Y"))

    def _split(self, data, share):
        """(training data, held-out data): `share` of the examples, drawn by the network's seed, is held out."""
        m = data[0].shape[1]
        held = round(m * share)
        if not 0 < held < m:
            raise ValueError(
                f"validation_split {share:g} of {m} examples leaves {m - held} for training and {held} aside"
            )
        order = self.net._random("split").permutation(m)

        def take(indices):
            X, Y, labels, w = data
            return (
                X[:, indices],
                None if Y is None else Y[:, indices],
                None if labels is None else labels[indices],
                None if w is None else w[indices],
            )

        return take(np.sort(order[held:])), take(np.sort(order[:held]))


class Course:
    """The epochs of a training on arrays, run some at a time: prepare, run what that gave, count, conclude."""

    def __init__(self, training, data):
        self.training, self.data = training, data
        net, m = training.net, data[0].shape[1]
        self._batch_size = m if training.batch_size is None else min(training.batch_size, m)
        self._shuffle = training.shuffle and self._batch_size < m
        self._order = np.empty(m, np.int64) if self._shuffle else None
        self._spread = spread(data[1], data[3]) if training.show and not net._loss.classifies else None
        self._weight = m if data[3] is None else float(data[3].sum(dtype=np.float64))

    def prepare(self, rates):
        """What `_engine.train_together` takes: an epoch for each learning rate."""
        net, count, show = self.training.net, len(rates), self.training.show
        self._rates, self._costs, self._seconds = rates, np.empty(count), np.empty(count)
        self._right = np.empty(count) if show else None
        self._squares = np.zeros((count, net.n_y)) if self._spread is not None else None
        self._prepared = _engine.TrainJob(
            net._engine,
            *self.data,
            rates=rates,
            batch_size=self._batch_size,
            shuffle=self._shuffle,
            order=self._order,
            update=net.optimizer.update,
            numbers=net.optimizer.numbers,
            keep_last=True,
            costs=self._costs,
            seconds=self._seconds,
            right=self._right,
            squares=self._squares,
        )
        return self._prepared

    def count(self):
        """Counts the epochs that were done, however they ended."""
        self._outcome = self._prepared.outcome()
        self.training.net._epochs_done += self._outcome["done"]

    def conclude(self):
        """Notes what they gave; the DivergenceError that they ended with, or None."""
        training, result = self.training, self._outcome
        done = result["done"]
        training._record(self._rates[:done], self._costs[:done], self._seconds[:done])
        if training.show:
            scores = training._scores(self._right[:done], self._squares, self._spread, self._weight)
            training.history["score"] += scores
        if result["status"] == "diverged":
            return DivergenceError(len(training.history["cost"]), result["batch"], result["last_cost"])
        return None


def _as_batch(batch, number):
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        raise ValueError(
            f"batch {number} of the iterable must be (X, Y) or (X, Y, sample_weight); got {type(batch).__name__}"
        )
    return batch


class _Peeked:
    """An iterable whose first batch has been looked at already."""

    def __init__(self, batches, iterator, first):
        self._batches, self._waiting = batches, (first, iterator)

    def __iter__(self):
        if self._waiting is None:
            yield from self._batches
            return
        (first, iterator), self._waiting = self._waiting, None
        yield first
        yield from iterator


def _peek(batches):
    iterator = iter(batches)
    try:
        first = _as_batch(next(iterator), 0)
    except StopIteration:
        raise ValueError("the iterable gave no batch") from None
    return _Peeked(batches, iterator, first), first


class _Slices:
    """Batches of arrays that are too large to be read whole, anew each epoch."""

    def __init__(self, training, X, Y, sample_weight):
        if getattr(X, "ndim", 0) != 2:
            raise ValueError(f"X must have shape (n_x, m), one example a column; got shape {np.shape(X)}")
        self._training, self._X = training, X
        self._Y, self._w = np.asanyarray(Y), None if sample_weight is None else np.asanyarray(sample_weight)
        m = X.shape[1]
        if self._Y.ndim not in (1, 2) or self._Y.shape[-1] != m:
            raise ValueError(f"X has {m} examples, Y has shape {self._Y.shape}: its last axis must count them too")
        if self._w is not None and self._w.shape != (m,):
            raise ValueError(f"sample_weight must have shape ({m},), one weight an example; got {self._w.shape}")

    def __iter__(self):
        m = self._X.shape[1]
        size = m if self._training.batch_size is None else min(self._training.batch_size, m)
        order = None
        if self._training.shuffle and size < m:
            net = self._training.net
            order = net._random("slices", net._epochs_done).permutation(m)
        for first in range(0, m, size):
            # reading in the order of the file spares the disk; the order within a batch doesn't matter
            picked = slice(first, first + size) if order is None else np.sort(order[first : first + size])
            batch = (self._read("X", self._X, picked), self._read("Y", self._Y, picked))
            yield batch if self._w is None else (*batch, self._w[picked])

    @staticmethod
    def _read(name, array, picked):
        """Those examples of it; a number that isn't finite is named by its place in the whole."""
        part = np.asarray(array[..., picked])
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            at = np.argwhere(~np.isfinite(part))[0]
            value = part[tuple(at)]
            at[-1] = np.arange(array.shape[-1])[picked][at[-1]]
            raise ValueError(f"{name} holds {value} at position {tuple(map(int, at))}: every entry must be finite")
        return part
