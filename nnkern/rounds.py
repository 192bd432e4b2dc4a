"""Training in rounds: every shard of the examples trains the present network for a while where it lies, and the
networks are averaged (local SGD: Stich 2019).

What trains a shard is a task of an executor: a process pool's, Dask's, mpi4py.futures'. A task depends on nothing but
what it is given, so that it may run anywhere, and again where it was lost.
"""

import dataclasses
import time
from concurrent.futures import BrokenExecutor

import numpy as np

from nnkern import callbacks as callbacks_
from nnkern import validation
from nnkern.model import MOMENTS, Training
from nnkern.network import Network
from nnkern.state import of, take_optimizer

_KEYS = 1 << 63  # of shuffling and dropout
_LOOK = 0.01  # seconds between two looks at whether a task has ended


def fit_shards(
    net,
    shards,
    *,
    executor,
    rounds=10,
    epochs_a_round=1,
    batch_size=32,
    shuffle=True,
    optimizer=None,
    validation_data=None,
    callbacks=(),
    resume=False,
    retries=3,
    timeout=None,
    threads=1,
):
    """Trains a network in rounds on the shards of the examples, by the tasks of an executor.

    Each round, every shard trains the present network for some epochs by itself; then parameters and the optimizer's
    state become the means of those of all shards, weighted by their examples or by the sums of their weights.

    Parameters
    ----------
    net : Network
        Where it has no parameters yet, the first shard must be arrays.
    shards : sequence
        Of (X, Y) or (X, Y, sample_weight), with X (n_x, m); of functions without arguments that return such, called
        where the task runs; or of what the executor puts such in the place of, as Dask does with its futures. A shard
        may have no examples.
    executor : object with ``submit(function, *arguments)``
        As concurrent.futures has them: a process or thread pool, Dask's ``Client``, mpi4py.futures' pool.
    rounds : int
        How often the shards' networks are averaged.
    epochs_a_round : int
        More of them make fewer rounds for the same work, and shards that drift further apart in each.
    batch_size, shuffle, optimizer
        As in `Network.fit`, of each shard. A rate that goes by step isn't taken.
    validation_data : (X, Y) or (X, Y, sample_weight), optional
        Evaluated after each round.
    callbacks : callback or list of them
        Called after each round, which is an epoch to them.
    resume : bool
        Go on from the optimizer's state and counts of the last training; as in `Network.fit` where there are none.
    retries : int
        How often a task that has failed is submitted again; one that fails by its data or diverges isn't.
    timeout : float, optional
        Seconds, > 0, without that any task of a round ends, after which those that haven't are submitted again, to the
        number of `retries`: a worker that hangs costs its task. The first to end counts. A task that waits for a free
        worker doesn't count as hanging as long as others end. None waits for ever.
    threads : int or None
        Of each task.

    Returns
    -------
    history : dict of lists
        One entry a round: "cost", the mean of the shards' over its last epoch; "seconds"; "val_cost" and "val_score"
        with validation data.

    Raises
    ------
    ValueError, TypeError
        Something handed in doesn't fit; a note names the shard.
    DivergenceError
        A shard diverged; a note names it.
    TimeoutError
        A task hasn't ended, however often it was submitted.
    Exception
        What a task raised for the last time.

    In each case the network is as it was after the last whole round.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import numpy as np
    >>> import nnkern as nk
    >>> X = np.random.default_rng(0).standard_normal((4, 300))
    >>> Y = (X.sum(axis=0) > 0).astype(int)
    >>> shards = [(X[:, k::3], Y[k::3]) for k in range(3)]
    >>> layers = [nk.Dense(8, "tanh"), nk.Dense(1, "sigmoid")]
    >>> net = nk.Network(layers, "binary_cross_entropy", seed=0)
    >>> with ThreadPoolExecutor() as executor:
    ...     history = nk.fit_shards(
    ...         net,
    ...         shards,
    ...         executor=executor,
    ...         epochs_a_round=2,
    ...         optimizer=nk.Adam(0.01),
    ...     )
    >>> net.evaluate(X, Y).score > 0.9
    True
    """
    rounds = validation.integer("rounds", rounds, 0)
    retries = validation.integer("retries", retries, 0)
    timeout = None if timeout is None else validation.number("timeout", timeout, 0, low_open=True)
    resume = validation.flag("resume", resume)
    how = {
        "epochs": validation.integer("epochs_a_round", epochs_a_round, 1),
        "batch_size": batch_size,
        "shuffle": shuffle,
        "threads": validation.threads(threads),
    }
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor must have a method submit(function, *arguments); got {type(executor).__name__}")
    shards, state = list(shards), of(net)
    if not shards:
        raise ValueError("shards holds none: give at least one (X, Y)")
    optimizer = state.resumed(optimizer) if resume else optimizer
    optimizer = take_optimizer(optimizer)
    if state.goes_by_step(optimizer):
        raise ValueError(
            "a number that goes by step doesn't go with fit_shards, whose shards have steps of their own: take a "
            "number, or a schedule of the epoch for the learning rate"
        )
    state.check_trainable()
    if net.n_x is None:
        _initialize(net, shards[0])
    training = _Rounds(net, shards, optimizer, executor, (retries, timeout), how)
    return training.run(rounds, validation_data, callbacks_.get(callbacks), resume)


class _Rounds:
    """One training in rounds."""

    def __init__(self, net, shards, optimizer, executor, patience, how):
        self._net, self._state, self._shards, self._optimizer = net, of(net), shards, optimizer
        self._executor, self._how = executor, how
        self._retries, self._timeout = patience

    def run(self, rounds, validation_data, callbacks, resume):
        net, state = self._net, self._state
        history = {"cost": [], "seconds": []}
        if validation_data is not None:
            history |= {"val_cost": [], "val_score": []}
        for callback in callbacks:
            callbacks_.check_monitor(callback, history)
        with state.training():
            undo = state.undo()
            if not resume:
                state.fresh()
            state.use_optimizer(self._optimizer)
            begun = []  # as Fit has it
            try:
                for callback in callbacks:
                    callbacks_.call(callback, "on_fit_begin", net)
                    begun.append(callback)
                self._all_rounds(rounds, validation_data, callbacks, history)
                while begun:
                    callbacks_.call(begun.pop(0), "on_fit_end", net, history)
            except BaseException as error:
                if not history["cost"]:
                    undo()
                callbacks_.tell_of_error(begun, net, error)
                raise
        return history

    def _all_rounds(self, rounds, validation_data, callbacks, history):
        for number in range(rounds):
            begun = time.perf_counter()
            history["cost"].append(self._round())
            history["seconds"].append(time.perf_counter() - begun)
            if validation_data is not None:
                X, Y, w = (*validation_data, None)[:3]
                cost, score = self._net.evaluate(X, Y, sample_weight=w)
                history["val_cost"].append(cost)
                history["val_score"].append(score)
            asked = [callback.on_epoch_end(self._net, number, history) for callback in callbacks]
            if any(asked):
                break

    def _round(self):
        """One round; the mean cost."""
        model = self._net.to_model(training_state=True)
        # of each shard: its tasks that may still end
        pending = [[self._submit(model, number)] for number in range(len(self._shards))]
        try:
            trained = [self._result(model, number, pending) for number in range(len(self._shards))]
        finally:
            for future in (future for futures in pending for future in futures if not _is_done(future)):
                getattr(future, "cancel", lambda: None)()
        trained = [one for one in trained if one.weight > 0]
        if not trained:
            raise ValueError("the shards hold no example with a weight above 0")
        # in the order of the shards, whoever was first
        total = sum(one.weight for one in trained)
        shares = [one.weight / total for one in trained]
        parameters = _mean(shares, [one.parameters for one in trained])
        moments = {
            name: _mean(shares, [one.training.moments[name] for one in trained])
            for name in MOMENTS
            if all(name in one.training.moments for one in trained)
        }
        progress = model.training.progress | {"state_of": trained[0].training.progress["state_of"]}
        for count in ("t", "epoch", "step", "epochs_done"):
            progress[count] = max(one.training.progress[count] for one in trained)
        self._net.set_parameters(parameters)
        self._state.take_training(Training(progress, self._state.optimizer, moments))
        return float(sum(share * one.cost for share, one in zip(shares, trained, strict=True)))

    def _submit(self, model, number, attempt=0):
        # without the attempt, Dask would take a task that has failed for the one that is asked for again
        return self._executor.submit(_train, model, self._shards[number], number, self._how, attempt)

    def _result(self, model, number, pending):
        """What the task of a shard gave, which is submitted again where it was lost or hangs."""
        for attempt in range(1, self._retries + 2):
            future = self._first(pending, number)
            try:
                if future is not None:
                    return future.result()
                error = TimeoutError(f"the task of shards[{number}] hasn't ended, nor another for {self._timeout:g} s")
            except BrokenExecutor:
                raise  # takes no more tasks
            except Exception as raised:
                pending[number].remove(future)
                error = raised
            if attempt > self._retries or isinstance(error, ValueError | TypeError):
                if future is not None:
                    error.add_note(f"That is what the task of shards[{number}] raised.")
                raise error
            pending[number].append(self._submit(model, number, attempt))
        return None

    def _first(self, pending, number):
        """The first task of a shard to end, to ask for its result; None where no task ends any more."""
        if self._timeout is None:
            return pending[number][-1]
        done, since = -1, 0.0
        while True:
            for future in pending[number]:
                if future.done():
                    return future
            ended = sum(any(map(_is_done, futures)) for futures in pending)
            if ended > done:
                done, since = ended, time.monotonic()
            if time.monotonic() - since > self._timeout:
                return None
            time.sleep(min(_LOOK, self._timeout / 10))


def _is_done(future):
    """Whether it is known to have ended: not all that executors give can tell."""
    return callable(getattr(future, "done", None)) and future.done()


@dataclasses.dataclass
class _Trained:
    """What a task gives back."""

    weight: float
    cost: float = np.nan
    parameters: dict | None = None
    training: Training | None = None


def _train(model, shard, number, how, _attempt):
    """The task: the network of a model, trained on a shard."""
    data = shard() if callable(shard) else shard
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ValueError(
            f"shards[{number}] must be (X, Y) or (X, Y, sample_weight), or a function that returns it; got "
            f"{type(data).__name__}"
        )
    X, Y, w = (*data, None)[:3]
    if (np.ndim(X) == 2 and np.shape(X)[1] == 0) or (w is not None and not np.any(w)):
        return _Trained(0.0)
    progress = dict(model.training.progress)
    progress["key"] = (progress["key"] + number) % _KEYS  # lest all shards shuffle and drop alike
    net = Network.from_model(
        dataclasses.replace(model, training=dataclasses.replace(model.training, progress=progress))
    )
    history = net.fit(X, Y, sample_weight=w, optimizer=model.training.optimizer, resume=True, **how)
    after = net.to_model(training_state=True)
    weight = np.shape(X)[1] if w is None else np.sum(w, dtype=np.float64)
    return _Trained(float(weight), history["cost"][-1], after.parameters, after.training)


def _mean(shares, all_arrays):
    """The mean of dicts of arrays, by these shares."""
    return {
        name: sum(share * arrays[name].astype(np.float64) for share, arrays in zip(shares, all_arrays, strict=True))
        for name in all_arrays[0]
    }


def _initialize(net, shard):
    if not isinstance(shard, tuple | list) or np.ndim(shard[0]) != 2:
        raise ValueError(
            "the network has no parameters yet, and the first shard isn't arrays, which tell the number of features: "
            "call initialize(n_x) first"
        )
    X = validation.examples(shard[0], None, net.dtype, finite=True)
    net.initialize(X.shape[0], X)
