"""The epochs of a training: the one loop over them, and what happens between two of them.

Arrays, batches, several networks at once and the estimators all go through `run`. What differs is a `Fit`: one network
with its runner, its history, and what is decided between its epochs. How an epoch is computed is the runner's affair.
"""

import contextlib

import numpy as np

from nnkern import _engine, _kernels, monitors, sources, validation
from nnkern import callbacks as callbacks_
from nnkern import progress as progress_
from nnkern.exceptions import DivergenceError
from nnkern.monitors import Monitors
from nnkern.runners import STEPS_AT_ONCE, Plan, runner
from nnkern.state import of, take_optimizer

# seconds of training several networks after which Python has its turn: Ctrl-C is noticed by then at the latest
_ROUND = 0.25
# epochs whose mean time tells how long the next one takes
_PACED = 16
# most examples that initial values depend on
_INITIALISING = 4096


class Options:
    """What `Network.fit` was asked for, checked."""

    def __init__(self, epochs, batch_size, shuffle, optimizer, class_weight, callbacks=(), **more):
        self.epochs = validation.integer("epochs", epochs, 0)
        self.batch_size = None if batch_size is None else validation.integer("batch_size", batch_size, 1)
        self.shuffle = validation.flag("shuffle", shuffle)
        self.optimizer, self.class_weight = optimizer, class_weight
        self.callbacks = callbacks_.get(callbacks)
        self.resume = validation.flag("resume", more.get("resume", False))
        self.progress = validation.flag("progress", more.get("progress", False))
        self.threads = validation.threads(more.get("threads"))
        self.drop_last = validation.flag("drop_last", more.get("drop_last", False))
        self.metrics = monitors.get(more.get("metrics", ()))
        self.rows = validation.flag("rows", more.get("rows", False))

    def plan(self, m):
        """How m examples are gone through."""
        size = m if self.batch_size is None else min(self.batch_size, m)
        if self.drop_last and self.batch_size is not None and self.batch_size > m:
            raise ValueError(
                f"drop_last=True leaves nothing of {m} examples in batches of {self.batch_size}: take a batch_size of "
                f"at most {m}, or drop_last=False"
            )
        return Plan(size, self.shuffle and size < m, self.progress, self.threads, drop_last=self.drop_last)


class Fit:
    """One network in a training: its runner, its history, and what happens between its epochs."""

    def __init__(self, net, source, plan, options, *, held_out=None, optimizer=None):
        self.net, self.state, self.source, self.plan = net, of(net), source, plan
        self.epochs, self.callbacks, self.resume = options.epochs, options.callbacks, options.resume
        self.begun = []  # the callbacks that were told of the begin, and not yet of the end
        self.held_out, self.optimizer = held_out, optimizer
        self.shows = options.progress
        self.shown = None  # the progress bar, while there is one
        self.by_step = {}  # the tables of the next epochs
        self.done, self.over = 0, self.epochs == 0
        self.divergence = None
        self.in_engine = False  # whether all that is done between epochs is done there
        self.history = {"cost": [], "learning_rate": [], "seconds": []}
        if held_out is not None:
            self.history |= {"val_cost": [], "val_score": []}
        if plan.scored:
            self.history["score"] = []
        asked = [getattr(callback, "monitor", None) for callback in self.callbacks] + options.metrics
        if options.metrics and held_out is None:
            raise ValueError("metrics are those of held-out examples: use validation_data or validation_split")
        self.monitors = Monitors(asked, self.state, held_out, self.classifies())
        self.history |= {name: [] for name in self.monitors.names}
        for callback in self.callbacks:
            callbacks_.check_monitor(callback, self.history)
        if optimizer is not None and self.state.goes_by_step(optimizer):
            self.steps()  # refuses what has no number of them

    @contextlib.contextmanager
    def entered(self):
        """The training of this network: what fails before its first epoch is over leaves its state as it was."""
        if self.state.engine is None:
            needed = any(layer.needs_examples for layer in self.state.layers)
            self.state.initialize(self.source.n_x, self.source.some(_INITIALISING) if needed else None)
        self.runner = self.make_runner()
        if self.held_out is not None and self.state.layers[0].reads_codes:
            for X, *_ in self.held_out.blocks():
                self.state.engine.check_examples(X)
        with self.state.training():
            rollback = self.state.undo()
            try:
                yield
            except BaseException as error:
                if not self.done:
                    rollback()
                callbacks_.tell_of_error(self.begun, self.net, error)
                raise
            finally:
                if self.shown is not None:
                    self.shown.close()
            if self.divergence is not None and not self.done:
                rollback()

    def make_runner(self):
        """How the epochs are computed."""
        return runner(self.state, self.source, self.plan)

    def begin(self):
        """Before the first epoch."""
        if self.shows:
            self.shown = progress_.Progress(self.epochs, "accuracy" if self.classifies() else "r2")
        self.prepare()
        self.announce()
        self.in_engine = self.looks_in_engine()

    def announce(self):
        """Tells the callbacks that it begins."""
        for callback in self.callbacks:
            callbacks_.call(callback, "on_fit_begin", self.net)
            self.begun.append(callback)
        if (followed := callbacks_.follower(self.callbacks)) is not None:
            self.plan.more = {**self.plan.more, "average": followed}

    def looks_in_engine(self):
        """Has the engine look at what there is to see between epochs, where it can; whether it does."""
        rule = None
        if len(self.callbacks) == 1 and isinstance(self.callbacks[0], callbacks_.EarlyStopping):
            rule = self.callbacks[0].rule()
        if not {"val_error"}.issuperset(self.monitors.names):
            return False
        if self.shows or len(self.callbacks) != (rule is not None) or (rule is None and self.held_out is None):
            return False
        return self.runner.look_between(self.held_out, rule)

    def prepare(self):
        """Makes the state what the first epoch begins with."""
        if not self.resume:
            self.state.fresh()
        self.state.use_optimizer(self.optimizer)

    def most(self):
        """Epochs that may follow each other without a look at them."""
        most = 1 if self.is_watched() else self.runner.most
        if self.state.goes_by_step(self.state.optimizer):
            most = min(most, max(1, STEPS_AT_ONCE // self.steps()))
        return min(most, self.epochs - self.done)

    def steps(self):
        """Of an epoch, where numbers go by step."""
        steps = self.source.steps(self.plan)
        if steps is None:
            raise ValueError(
                "a schedule by step needs to know how many steps there are: give the iterable of batches a __len__, or "
                "take numbers, or a schedule of the epoch for the learning rate"
            )
        return max(steps, 1)  # no batch is told of when its turn comes

    def pace(self):
        """About how many seconds an epoch takes, with what is looked at after it; None before the first."""
        last = self.history["seconds"][-_PACED:]
        # a forward pass is a third of what an example costs in training
        looked = 0 if self.held_out is None else self.held_out.m / (3 * self.source.m)
        return max(sum(last), 1e-9) / len(last) * (1 + looked) if last else None

    def is_watched(self):
        """Whether somebody but the engine wants to know of each epoch."""
        return not self.in_engine and (bool(self.callbacks) or self.held_out is not None or self.shows)

    def classifies(self):
        """Whether the score is accuracy."""
        return self.state.loss.classifies

    def rates(self, count):
        """The learning rates of the next epochs, each at its begin; what goes by step is noted."""
        try:
            return self._rates(count)
        except Exception:
            # of a schedule that ends before `epochs`, where the training may end before it
            if count == 1 or not self.in_engine:
                raise
            return self._rates(1)

    def _rates(self, count):
        self.by_step = {}
        optimizer, first = self.state.optimizer, self.state.epochs_done
        if self.state.goes_by_step(optimizer):
            self.by_step = self.state.next_tables(count, self.steps(), self.epochs - self.done)
        if "rate" in self.by_step:
            return self.by_step["rate"][:: self.steps()].copy()
        if not callable(optimizer.learning_rate):
            return np.full(count, optimizer.rate(first))
        return np.array([optimizer.rate(first + i) for i in range(count)])

    def after(self, rates, outcome):
        """After some epochs: what they gave is noted, and whether the training goes on decided."""
        if outcome.costs:
            self.note(rates[: len(outcome.costs)], outcome)
            if self.is_watched():
                self.look()
        if outcome.failure is not None:
            self.over = True
            self.fail(outcome.failure)
        else:
            self.over = self.is_enough() or self.done >= self.epochs

    def note(self, rates, outcome):
        """Writes down what whole epochs gave."""
        self.history["learning_rate"] += rates.tolist()
        self.history["cost"] += outcome.costs
        self.history["seconds"] += outcome.seconds
        if outcome.scores:
            self.history["score"] += outcome.scores
        if self.in_engine:
            self.take_over(*outcome.held_out)

    def take_over(self, costs, scores):
        """Writes down what the engine has seen between these epochs."""
        if self.held_out is not None:
            self.history["val_cost"] += costs
            self.history["val_score"] += scores
        if "val_error" in self.history:
            self.history["val_error"] += [1 - score for score in scores]
        between = self.runner.between
        if between.best() is not None:
            theta = between.theta
            self.callbacks[0].found(*between.best(), None if theta is None else self.state.engine.views(theta))

    def look(self):
        """What is shown after an epoch."""
        if self.held_out is not None:
            cost, score = self.evaluate()
            values = {"val_cost": cost, "val_score": score, **self.monitors.values(score, self.plan.threads)}
            for name, value in values.items():
                self.history[name].append(value)
        if self.shown is not None:
            self.shown.update(self.done, self.history)

    def evaluate(self):
        """(cost, score) of the held-out examples."""
        return self.state.evaluate(*self.held_out.whole(), threads=self.plan.threads)

    def is_enough(self):
        """Whether a callback asks for the end; each is called, also after one has."""
        if self.in_engine:
            return self.runner.between.over()
        asked = [callback.on_epoch_end(self.net, self.done - 1, self.history) for callback in self.callbacks]
        return any(asked)

    def fail(self, failure):
        """What ended an epoch early is raised."""
        if isinstance(failure, BaseException):
            raise failure
        raise DivergenceError(self.done, *failure)

    def end(self):
        """After the last epoch, however the training ended but for an error."""
        while self.begun:
            callbacks_.call(self.begun.pop(0), "on_fit_end", self.net, self.history)


class FitOfMany(Fit):
    """A network that is trained beside others: these go on where it diverges."""

    def fail(self, failure):
        """A divergence is noted, anything else raised."""
        if isinstance(failure, tuple):
            failure = DivergenceError(self.done, *failure)
            self.history["diverged"] = self.divergence = failure
        else:
            super().fail(failure)


def run(fits, threads):
    """All fits to their end, some epochs of each at a time.

    One network has all threads, several have one each at a time.
    """
    with contextlib.ExitStack() as entered:
        for fit in fits:
            entered.enter_context(fit.entered())
        for fit in fits:
            fit.begin()
        while running := [fit for fit in fits if not fit.over]:
            try:
                turns, jobs = _prepared(running, threads)
                error = None
                try:
                    if jobs:
                        _engine.train_together(jobs, threads)
                except BaseException as raised:
                    error = raised
                finally:
                    for fit, _ in turns:  # all at once, lest an interrupt comes between
                        fit.runner.count()
                _note(turns, error)
            except KeyboardInterrupt as error:
                # between two epochs, in Python; amid them it is an outcome, of fits that are over then
                left = [fit for fit in running if not fit.over]
                for fit in left:
                    fit.over = True
                    fit.fail(error)
                if not left:
                    raise
        for fit in fits:
            fit.end()


def _prepared(running, threads):
    """([(fit, rates of its next epochs)] of those whose turn it is, the engine's jobs)."""
    turns = [(fit, fit.rates(count)) for fit, count in _turns(running, threads)]
    prepared = [fit.runner.prepare(rates, fit.by_step) for fit, rates in turns]
    return turns, [job for job in prepared if job is not None]


def _note(turns, error):
    """What became of these epochs, of which the engine has raised the error, or None."""
    outcomes = [fit.runner.outcome(error) for fit, _ in turns]
    for (fit, _), outcome in zip(turns, outcomes, strict=True):
        fit.done += len(outcome.costs)  # of all, before the failure of one is raised
    for (fit, rates), outcome in zip(turns, outcomes, strict=True):
        fit.after(rates, outcome)


def _turns(running, threads):
    """(fit, epochs) of those whose turn it is.

    Of several each gets the epochs of about the same time, and each thread as many fits, those with the most before
    them, lest threads wait for the last one at the end of every turn.
    """
    if len(running) == 1 or any(fit.pace() is None for fit in running):
        return [(fit, fit.most() if len(running) == 1 else 1) for fit in running]
    threads = min(threads or _kernels.get_threads(), len(running))
    turn = sorted(running, key=lambda fit: fit.pace() * (fit.epochs - fit.done), reverse=True)
    turn = turn[: len(running) // threads * threads]
    each = max(fit.pace() for fit in turn)
    if not any(fit.is_watched() for fit in turn):
        each = max(each, _ROUND * threads / len(turn))
    return [(fit, max(1, min(fit.most(), int(each / fit.pace())))) for fit in turn]


def fit_of_arrays(net, options, data, validation_data, validation_split):
    """The Fit of Network.fit on arrays, in memory or memory-mapped. `data`: (X, Y, sample_weight)."""
    state = of(net)
    optimizer = optimizer_for(state, options)
    share = validation.number("validation_split", validation_split, 0, 1, high_open=True)
    if share and validation_data is not None:
        raise ValueError("validation_data and validation_split were both given: use one")
    X, Y, w = data
    X, Y = state.columns(X, Y) if options.rows else (X, Y)
    with validation.told_of_columns(options.rows):
        source = sources.arrays(state, X, Y, w, options.class_weight)
    if share:
        source, held_out = split(state, source, share)
    else:
        held_out = validation_source(state, validation_data, source.n_x, rows=options.rows)
    source = source.weighted(options.class_weight, state.loss, state.n_y)
    return Fit(net, source, options.plan(source.m), options, held_out=held_out, optimizer=optimizer)


def fit_of_batches(net, options, batches, validation_data):
    """The Fit of Network.fit on an iterable of (X, Y) or (X, Y, sample_weight) batches."""
    state = of(net)
    optimizer = optimizer_for(state, options)
    source = source_of_batches(state, options, batches)
    held_out = validation_source(state, validation_data, source.n_x, rows=options.rows)
    plan = Plan(batch_size=None, shuffle=False, threads=options.threads)
    return Fit(net, source, plan, options, held_out=held_out, optimizer=optimizer)


def source_of_batches(state, options, batches):
    """The source of an iterable of batches, checked as far as can be before they come."""
    sources.check_batches(batches, "fit")
    if iter(batches) is batches and options.epochs > 1:
        raise ValueError(
            f"an iterator can be gone through once, and epochs is {options.epochs}: pass an object that gives a new "
            "iterator each time, or epochs=1"
        )
    if options.drop_last:
        raise ValueError(
            "drop_last=True is for arrays: of an iterable of batches each one is used, so leave out there what is to be"
        )
    return sources.Batches(state, batches, options.class_weight, options.rows)


def refuse_with_batches():
    """Refuses what comes inside an iterable of batches, or can't be had of one."""
    raise ValueError(
        "with an iterable of batches the sample_weight comes inside them, as (X, Y, w), and there is nothing "
        "for validation_split to split: use validation_data"
    )


def fits_of_many(nets, options, data, validation_data):
    """A Fit for each of several networks, with its Options, its (X, Y, sample_weight) and its validation data.

    What is the same object for several is checked and held once.
    """
    checks, alike, fits = sources.Checks(), {}, []
    for i, (net, own, arrays, held_out) in enumerate(zip(nets, options, data, validation_data, strict=True)):
        try:
            state = of(net)
            optimizer = optimizer_for(state, own)
            same = _kind(state), *map(id, arrays)
            if same not in alike:
                X, Y, w = arrays
                X, Y = state.columns(X, Y, checks=checks) if own.rows else (X, Y)
                with validation.told_of_columns(own.rows):
                    source = sources.arrays(state, X, Y, w, own.class_weight, checks)
                alike[same] = source.weighted(own.class_weight, state.loss, state.n_y)
            source = alike[same]
            held_out = validation_source(state, held_out, source.n_x, checks, own.rows)
            fits.append(FitOfMany(net, source, own.plan(source.m), own, held_out=held_out, optimizer=optimizer))
        except (ValueError, TypeError) as error:
            error.add_note(f"That is what was given for nets[{i}].")
            raise
    return fits


def _kind(state):
    """What the check of the data depends on."""
    return state.dtype, state.loss, state.n_y, state.n_x


def optimizer_for(state, options):
    """A copy of the one that was asked for, or of the last one where a training is resumed."""
    optimizer = state.resumed(options.optimizer) if options.resume else options.optimizer
    optimizer = take_optimizer(optimizer)
    state.check_trainable()
    return optimizer


def validation_source(state, validation_data, n_x, checks=validation, rows=False):
    """The source of the examples that are evaluated after each epoch, or None."""
    if validation_data is None:
        return None
    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
        raise ValueError("validation_data must be (X, Y) or (X, Y, sample_weight)")
    names = ("validation_data's X", "validation_data's Y")
    if rows:
        validation_data = (*state.columns(*validation_data[:2], names, checks), *validation_data[2:])
    with validation.told_of_columns(rows):
        return sources.Arrays(*state.data(*validation_data, n_x=n_x, names=names, checks=checks))


def split(state, source, share):
    """(training source, held-out source): `share` of the examples, drawn by the network's seed, is held out."""
    m = source.m
    held = round(m * share)
    if not 0 < held < m:
        raise ValueError(f"validation_split {share:g} of {m} examples leaves {m - held} for training and {held} aside")
    order = state.random("split").permutation(m)
    return source.subset(np.sort(order[held:])), source.take(np.sort(order[:held]))
