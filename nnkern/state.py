"""The state of a network: parameters, the optimizer's vectors, counters, random streams, and what changes them.

It is what the other modules may touch of a network, and they get it by `of(net)`. It knows the engine, and no files,
callbacks or epochs: these are above it.
"""

import contextlib
import copy
import math
from typing import NamedTuple

import numpy as np

from nnkern import _engine, layers, model, optimizers, validation
from nnkern._caller import warn
from nnkern.exceptions import DivergenceError, NotFittedError
from nnkern.losses import r2, spread

# the random streams of one seed, numbered
_STREAMS = ("weights", "key", "split")
# the engine's names of an optimizer's numbers that may change from step to step
_TABLES = {"learning_rate": "rate", "weight_decay": "decay"}


class Evaluation(NamedTuple):
    """cost: mean loss without penalty; score: accuracy for the cross-entropies, else R²."""

    cost: float
    score: float


class Stateful:
    """Base of what has a state: of Network."""

    def __init__(self, state):
        self._state = state


def of(net):
    """The state of a network."""
    return net._state


class State:
    """The state of one network, and what it was made from: layers, loss object, penalties, dtype, compute, seed.

    Attributes
    ----------
    engine : Engine or None
        None before the parameters exist.
    stepper : Stepper or None
        Its single steps.
    optimizer : Optimizer or None
        The one of the last training.
    update : str or None
        The update that the engine's vectors s1 and s2 belong to.
    epochs_done : int
        Epochs since the optimizer's state was fresh.
    entropy : int
        What the random streams grow from: the seed, or where there is none a number drawn for this network.
    drawn : bool
        Whether the initial parameters were drawn from it, or will be.
    """

    def __init__(self, plain):
        """Of a Model, whose parameters and training aren't taken over."""
        self.layers, self.loss, self.dtype = plain.layers, plain.loss, plain.dtype
        self.l2, self.l1, self.seed, self.compute = plain.l2, plain.l1, plain.seed, plain.compute
        self.engine = self.stepper = self._last_step = None
        self.optimizer = self.update = None
        self.epochs_done = 0
        self.entropy = self._draw_entropy()
        self.drawn = True

    # Parameters

    @property
    def n_x(self):
        """Number of features, or None before the parameters exist."""
        return None if self.engine is None else self.engine.n_x

    @property
    def n_y(self):
        """Number of outputs."""
        return layers.outputs(self.layers, self.n_x)[-1]

    def fitted(self):
        """The engine; NotFittedError where there is none yet."""
        if self.engine is None:
            raise NotFittedError("the network has no parameters yet: call fit(X, Y) or initialize(n_x) first")
        return self.engine

    def parameters(self):
        """{"W1": view, "b1": view, …}: writable views of the parameters."""
        engine = self.fitted()
        return engine.views(engine.theta)

    def layer_parameters(self):
        """[{"W": view, "b": view}, …]: the same, layer by layer."""
        views, n = self.parameters(), layers.outputs(self.layers, self.n_x)
        return [
            {name: views[f"{name}{l}"] for name in layer.parameter_shapes(n[l - 1])}
            for l, layer in enumerate(self.layers, start=1)
        ]

    def set_parameters(self, parameters):
        """Writes all parameters, or none where one of them doesn't fit."""
        views = self.parameters()
        self.engine.check_untrained()
        arrays = validation.arrays("parameters", parameters, views)
        if any(np.may_share_memory(array, self.engine.theta) for array in arrays.values()):
            arrays = {name: array.copy("K") for name, array in arrays.items()}
        for name, array in arrays.items():
            views[name][...] = array

    def initialize(self, n_x, X=None):
        """Draws new initial parameters for n_x features; for layers that need examples, X (n_x, m) has some."""
        if self.engine is not None:
            self.engine.check_idle()
            self.entropy = self._draw_entropy()
        rng, values = self.random("weights"), {}
        needing = [l for l, layer in enumerate(self.layers, start=1) if layer.needs_examples]
        A = None if X is None or not needing else X.astype(np.float64)
        for l, (layer, n_prev) in enumerate(zip(self.layers, layers.outputs(self.layers, n_x), strict=False), start=1):
            drawn = layer.initial(rng, n_prev, self.dtype, l, A)
            values |= {f"{name}{l}": array for name, array in drawn.items()}
            if A is not None and l < needing[-1]:
                A, _ = layer.forward({name: array.astype(np.float64) for name, array in drawn.items()}, A)
        self.make_engine(n_x)
        self.set_parameters(values)
        self.drawn = True

    def make_engine(self, n_x, key=None):
        """A new engine whose parameters are all zero; `key` keys shuffling and dropout."""
        if key is None:
            key = int(self.random("key").integers(2**63))
        configs = [
            layer.engine_config(n_prev, self.l2, self.l1, self.layers[l:])
            for l, (layer, n_prev) in enumerate(
                zip(self.layers, layers.outputs(self.layers, n_x), strict=False), start=1
            )
        ]
        compute = self.compute or self.dtype.name
        self.engine = _engine.Engine(configs, self.dtype, self.loss.native, self.loss.parameter, key, compute)
        self.stepper = _engine.Stepper(self.engine, self.loss.low, self.loss.high, self.loss.score)
        self.fresh()
        self.drawn = False

    def replace_layers(self, layers):
        """Other layers, with parameters of the same names and shapes; all else stays."""
        layers = tuple(layers)
        if self.engine is None:
            self.layers = layers
            return
        self.engine.check_idle()
        before, optimizer, drawn = self.engine, self.optimizer, self.drawn
        progress, parameters, (_, *moments) = self.progress(), self.parameters(), before.state()
        self.layers = layers
        self.make_engine(before.n_x, before.key)
        self.set_parameters(parameters)
        self.restore(progress, optimizer, *moments)
        self.drawn = drawn

    def _draw_entropy(self):
        return np.random.SeedSequence(self.seed).entropy

    def random(self, stream):
        """A generator of one of the streams that the seed gives."""
        return np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=(_STREAMS.index(stream),)))

    # Where the training stands

    def fresh(self):
        """Forgets the optimizer's state and all counts."""
        self.update = None
        self.epochs_done = 0
        self.engine.fresh_state()
        self.engine.epoch = self.engine.step = 0

    def progress(self):
        """Where the training stands: with the optimizer and its vectors, all that a resumed fit goes on from."""
        engine = self.engine
        return {
            "entropy": self.entropy,
            "key": engine.key,
            "t": engine.t,
            "epoch": engine.epoch,
            "step": engine.step,
            "epochs_done": self.epochs_done,
            "state_of": self.update,
        }

    def restore(self, progress, optimizer, s1, s2):
        """Goes to where `progress` says that this network stood, or another whose engine has the same key."""
        engine = self.engine
        self.entropy = progress["entropy"]
        engine.restore_state(progress["t"], s1, s2)
        engine.epoch, engine.step = progress["epoch"], progress["step"]
        self.epochs_done, self.update = progress["epochs_done"], progress["state_of"]
        self.optimizer = optimizer

    def undo(self):
        """What brings back the present optimizer, its state and all counts, as long as no step was made with them."""
        progress, optimizer, (_, *moments) = self.progress(), self.optimizer, self.engine.state()
        return lambda: self.restore(progress, optimizer, *moments)

    def follow(self, other):
        """Becomes what another state is, whose layers have the same shapes."""
        self.make_engine(other.n_x, other.engine.key)
        self.set_parameters(other.parameters())
        _, *moments = other.engine.state()
        self.restore(other.progress(), other.optimizer, *moments)
        self.drawn = other.drawn

    def resumed(self, optimizer):
        """The optimizer that a training is resumed with: the one asked for, or the last.

        A network that has parameters from elsewhere and no state of a training brings a warning. One that is new is
        nothing to warn of: a script that always resumes is run for the first time.
        """
        if self.engine is not None and self.update is None and not self.drawn:
            warn(
                "resume=True finds no state of a training: this network has parameters only, as those of a file that "
                "was saved without it, so the optimizer's state, the count of epochs and the random streams begin "
                "anew. A file of nnkern.Checkpoint, or of save(path, training_state=True), holds them; without resume "
                "the training goes on from the parameters alone",
            )
        return self.last_optimizer() if optimizer is None else optimizer

    def last_optimizer(self):
        """The one that the network was trained by last, or None."""
        if self.optimizer is None and self.update is not None:
            raise ValueError(
                "the file that this network comes from couldn't hold its optimizer, of a class or with a schedule that "
                "isn't nnkern's: pass optimizer="
            )
        return self.optimizer

    def use_optimizer(self, optimizer):
        """Makes it the network's; another kind of update starts with a fresh state."""
        if self.update != optimizer.update:
            self.engine.fresh_state()
            self.update = optimizer.update
        self.optimizer = optimizer

    def goes_by_step(self, optimizer):
        """Whether a number of that optimizer or of a layer changes from step to step."""
        return bool(optimizer.by_step()) or any(callable(layer.dropout) for layer in self.layers)

    def next_tables(self, count, steps, epochs):
        """{"rate", "decay", "dropout": vector} of what changes from step to step, for the next `count` epochs.

        `steps`: of each epoch; `epochs`: those that are left, so that t counts the epochs before a resumed training.
        """
        done, tables = self.epochs_done, {}
        how = done * steps, count * steps, (done + epochs) * steps
        for number, schedule in self.optimizer.by_step().items():
            tables[_TABLES[number]] = schedule.table(*how)
        if any(callable(layer.dropout) for layer in self.layers):
            dropouts = np.zeros((count * steps, len(self.layers)))
            for l, layer in enumerate(self.layers):
                dropouts[:, l] = layer.dropout.table(*how) if callable(layer.dropout) else layer.dropout
                if dropouts[:, l].max() >= 1:
                    raise ValueError(
                        f"the dropout of layer {l + 1} becomes {dropouts[:, l].max():g} by its schedule: it must stay "
                        "below 1"
                    )
            tables["dropout"] = dropouts.reshape(-1)
        return tables

    # Who may be at it

    @contextlib.contextmanager
    def training(self):
        """What goes on inside changes the state: nothing else may use the network meanwhile."""
        engine = self.engine
        engine.enter_training()
        try:
            yield
        finally:
            engine.leave_training()

    @contextlib.contextmanager
    def reading(self):
        """What goes on inside reads the parameters: no other thread may train meanwhile."""
        engine = self.fitted()
        engine.enter_reading()
        try:
            yield
        finally:
            engine.leave_reading()

    @contextlib.contextmanager
    def stepping(self, optimizer):
        """One step of an optimizer; the last one is still the network's where that fails before it is made."""
        with self.training():
            engine = self.engine
            undo, step = self.undo(), engine.step
            try:
                self.use_optimizer(optimizer)
                yield
            except BaseException:
                if engine.step == step:
                    undo()
                raise

    def rate_of_step(self, optimizer):
        """The learning rate of a step that belongs to no fit."""
        optimizer.refuse_by_step()
        return optimizer.rate(self.epochs_done)

    def note_step(self, given):
        """Notes the optimizer that a user has made a step with: one more with it as it is needs no look at it."""
        used = self.optimizer
        steady = type(given) in optimizers.OPTIMIZERS.values() and not callable(used.learning_rate)
        numbers = used.update, used.numbers, used.learning_rate
        self._last_step = (given, used, dict(vars(used)), numbers) if steady else None

    def steady_numbers(self, given):
        """(update, its numbers, rate) where the last step was made with that optimizer as it is; else None."""
        if self._last_step is None or self._last_step[0] is not given:
            return None
        _, used, settings, numbers = self._last_step
        same = used is self.optimizer and self.update == numbers[0] and vars(given) == settings == vars(used)
        return numbers if same else None

    def steady_step(self, X, Y, given):
        """The cost of a step on one batch with the optimizer of the last step as it is; None where that can't be taken.

        For small batches: what is looked at otherwise takes longer than the arithmetic.
        """
        if given is None and self._last_step is not None:
            given = self._last_step[0]
        numbers = self.steady_numbers(given)
        cost = None if numbers is None else self.stepper.train(X, Y, *numbers)
        if cost is not None and math.isnan(cost):
            raise DivergenceError(self.epochs_done, 0, math.nan, False)
        return cost

    def check_trainable(self):
        """Refuses to train where no layer learns."""
        if not any(layer.trainable for layer in self.layers):
            raise ValueError(
                "no layer is trainable, so there is nothing to train: unfreeze() lets all learn, unfreeze(-1) the last"
            )

    def trained(self, views):
        """Those of the views {"W1": view, …} that belong to trainable layers."""
        return {
            f"{name}{l}": views[f"{name}{l}"]
            for l, layer in enumerate(self.layers, start=1)
            if layer.trainable
            for name in layer.parameter_shapes(1)
        }

    # Data

    def data(
        self, X, Y, sample_weight=None, class_weight=None, *, n_x, names=("X", "Y"), whole=True, checks=validation
    ):
        """(X, Y, labels, w) as the engine takes them; all of a batch may weigh nothing, not all of the `whole`."""
        X = checks.examples(X, n_x, self.dtype, finite=True, name=names[0])
        Y, labels = checks.targets(Y, self.loss, self.n_y, X.shape[1], self.dtype, n_x=X.shape[0], name=names[1])
        data = X, Y, labels, checks.weights(sample_weight, X.shape[1], self.dtype, whole)
        return validation.class_weights(class_weight, self.loss, self.n_y, data, whole)

    def columns(self, X, Y, names=("X", "Y"), checks=validation):
        """(X, Y) of examples in rows: X (n_x, m) and Y (n_y, m), or labels (m,)."""
        X, Y = checks.examples_in_rows(names[0], X), checks.rows(names[1], Y)
        if Y.ndim == 1 and self.n_y == 1 and not self.loss.labels:
            Y = Y.reshape(1, -1)  # numbers, one an example
        return X, Y

    def evaluate(self, X, Y, labels, w, threads=None):
        """The Evaluation of data as `data` returns it."""
        cost, right, squares, total = self.fitted().evaluate(X, Y, labels, w, threads)
        if squares is None:
            return Evaluation(cost, right / total)
        return Evaluation(cost, r2(squares, spread(Y, w)))

    # As plain data

    def description(self, metadata):
        """The Model of this network without its parameters."""
        config = {name: getattr(self, name) for name in ("layers", "loss", "dtype", "compute", "l2", "l1", "seed")}
        return model.Model(metadata=metadata, **config)

    def model(self, metadata, training_state):
        """The Model of this network; its arrays are views of the parameters and of the optimizer's vectors."""
        made = self.description(metadata)
        if self.engine is not None:
            self.engine.check_untrained()
            made.n_x, made.parameters = self.n_x, self.parameters()
            if training_state:
                _, *vectors = self.engine.state()
                present = [(name, s) for name, s in zip(model.MOMENTS, vectors, strict=True) if s is not None]
                moments = {name: self.engine.views(s) for name, s in present}
                made.training = model.Training(self.progress(), self.optimizer, moments)
        return made

    def take(self, model_):
        """Becomes what a Model with the same layers describes."""
        if model_.n_x is None:
            return
        training = model_.training
        self.make_engine(model_.n_x, training and training.progress["key"])
        self.set_parameters(model_.parameters)
        if training is not None:
            self.take_training(training)
            self.drawn = True

    def take_training(self, training):
        """Goes to where a model.Training says that a network with the same layers stood."""
        vectors = dict.fromkeys(model.MOMENTS)
        for name, arrays in training.moments.items():
            vectors[name] = _engine.aligned_zeros(len(self.engine.theta), self.dtype)
            views = self.engine.views(vectors[name])
            for key, array in validation.arrays(name, arrays, views).items():
                views[key][...] = array
        self.restore(training.progress, training.optimizer, *vectors.values())


def take_optimizer(optimizer):
    """A copy of what the user handed in, an optimizer, a name or None: callbacks may change it."""
    return copy.copy(optimizers.get(optimizer))
