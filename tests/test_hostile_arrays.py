"""Arrays that the caller changes after handing them in: reshaped, resized, or written to where they had been validated.

That may happen in a callback, a schedule, a loss, an iterable of batches, an argument that is converted to an array, in
another thread, or between two calls. Whatever is done, nothing is read or written outside an array's memory, and where
only the shape has changed the result is that of the shape the array had, or an error. Every way below is gone in a
process of its own: what crashes is a test that fails.
"""

import importlib
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from conftest import HERE, run

import nnkern as nk

# a network that took one row of N_X * M entries for examples would read 2 MB beyond them
N_X, N_Y, M = 130, 3, 41

# ---- what is done to an array, which is an attribute: numpy resizes what only one name has ----


def shaped(shape_of):
    def change(data, name):
        a = getattr(data, name)
        a.shape = shape_of(a)

    return change


def typed(dtype_of):
    def change(data, name):
        a = getattr(data, name)
        a.dtype = dtype_of(a)

    return change


def resized(factor, **options):
    def change(data, name):
        getattr(data, name).resize((int(factor * getattr(data, name).size) + 1,), **options)

    return change


def same_strides(data, name):
    a = getattr(data, name)
    a.strides = (a.itemsize,) * a.ndim


SHAPES = {
    "flat": shaped(lambda a: (a.size,)),
    "one row": shaped(lambda a: (1, a.size)),
    "one column": shaped(lambda a: (a.size, 1)),
    "transposed": shaped(lambda a: a.shape[::-1]),
    "one axis more": shaped(lambda a: (*a.shape, 1)),
    "bytes": typed(lambda a: np.uint8),
    "twice the size": typed(lambda a: {8: np.complex128, 4: np.float64}.get(a.itemsize, a.dtype)),
    "strides": same_strides,
    "larger": resized(3),
    "smaller": resized(0),
}
# numpy refuses these, too, where there is a weak reference to the array
RESIZED_REGARDLESS = {"smaller": resized(0, refcheck=False), "larger": resized(64, refcheck=False)}


def write_far(data, name):
    a = getattr(data, name)
    a[...] = 2**40 if a.dtype.kind == "i" else np.nan


def negate(data, name):
    a = getattr(data, name)
    a[...] = -a - 1


CONTENTS = {"far": write_far, "negative": negate}
CHANGES = {"shape": SHAPES, "resized regardless": RESIZED_REGARDLESS, "contents": CONTENTS}


def changed(change, data, name):
    """Whether numpy lets the change be made."""
    try:
        change(data, name)
    except (AttributeError, ValueError, TypeError):
        return False
    return True


# ---- the ways: name -> (names of the arrays to change, function of them and of `now`, which changes one) ----

WAYS = {}


def way(*names, order="C", dtype="float32", m=M):
    """Adds a function of (data, now) to the ways: `data` has the arrays, `now()` is called where one may change."""

    def add(function):
        WAYS[function.__name__] = function
        function.names, function.order, function.dtype, function.m = names, order, dtype, m
        return function

    return add


class Data:
    """The arrays of one call, all of them owners of their memory."""

    def __init__(self, order, dtype, m):
        rng = np.random.default_rng(0)

        def draw(*shape):
            return np.array(rng.normal(size=shape), dtype, order=order)

        self.X, self.Y, self.X2, self.Y2 = draw(N_X, m), draw(N_Y, m), draw(N_X, m), draw(N_Y, m)
        self.w, self.w2 = (np.array(rng.uniform(0.5, 2, m), dtype) for _ in "ab")
        self.labels = rng.integers(0, N_Y, m)
        self.out, self.W, self.b = draw(N_Y, m), draw(N_Y, N_X), draw(N_Y, 1)
        self.rows, self.rows2 = draw(m, N_X), draw(m, N_X)  # for the estimators
        self.y, self.y2 = draw(m), draw(m)
        self.dtype = dtype


def network(data, loss="squared_error", output="linear", **options):
    layers = [nk.Dense(7, "tanh"), nk.Dense(N_Y, output)]
    return nk.Network(layers, loss, n_x=N_X, dtype=data.dtype, seed=0, **options)


def loss_that(now):
    def loss(A, Y):
        now()
        return ((A - Y) ** 2).sum(axis=0) / 2, A - Y

    return loss


def rate_that(now):
    def rate(epoch):
        now()
        return 0.01

    return nk.SGD(rate)


class Converted:
    """An argument that is an array only when it is asked for."""

    def __init__(self, array, now):
        self.array, self.now = array, now

    def __array__(self, dtype=None, copy=None):
        self.now()
        return np.array(self.array, dtype)


class Weights(dict):
    """A dict whose items are asked for when the arrays have been validated."""

    def items(self):
        self.now()
        return super().items()


class Number(int):
    """A number that is converted when the arrays have been validated."""

    def __int__(self):
        self.now()
        return 2

    __index__ = __int__


def with_now(kind, value, now):
    result = kind(value)
    result.now = now
    return result


def results(net, *more):
    return [*net.parameters.values(), *more]


HOW = {"epochs": 3, "batch_size": 16, "optimizer": nk.SGD(0.01)}


@way("X", "Y", "w")
def fit_with_a_callback(data, now):
    net = network(data)
    history = net.fit(data.X, data.Y, sample_weight=data.w, callbacks=lambda *_: now(), **HOW)
    return results(net, history["cost"])


@way("X", "Y", "w", order="F", dtype="float64")
def fit_with_a_callback_in_order(data, now):
    net = network(data)
    net.fit(data.X, data.Y, sample_weight=data.w, callbacks=lambda *_: now(), shuffle=False, **HOW)
    return results(net)


@way("X", "Y", "w")
def fit_of_the_full_batch(data, now):
    net = network(data)
    net.fit(data.X, data.Y, sample_weight=data.w, callbacks=lambda *_: now(), **HOW | {"batch_size": None})
    return results(net)


@way("X", "labels", "w")
def fit_of_labels(data, now):
    net = network(data, "cross_entropy", "softmax")
    net.fit(data.X, data.labels, sample_weight=data.w, callbacks=lambda *_: now(), **HOW)
    return results(net)


@way("X", "Y")
def fit_that_begins(data, now):
    class Callback(nk.Callback):
        def on_fit_begin(self, net):
            now()

    net = network(data)
    net.fit(data.X, data.Y, callbacks=Callback(), **HOW)
    return results(net)


@way("X", "Y", "w")
def fit_with_a_schedule(data, now):
    net = network(data)
    net.fit(data.X, data.Y, sample_weight=data.w, **HOW | {"optimizer": rate_that(now)})
    return results(net)


@way("X", "Y", "w")
def fit_with_a_loss(data, now):
    net = network(data, loss_that(now))
    net.fit(data.X, data.Y, sample_weight=data.w, **HOW)
    return results(net)


@way("X", "Y")
def fit_with_progress(data, now):
    net, stderr = network(data), sys.stderr
    sys.stderr = None
    try:
        net.fit(data.X, data.Y, progress=True, callbacks=lambda *_: now(), **HOW)
    finally:
        sys.stderr = stderr
    return results(net)


@way("X2", "Y2", "w2")
def fit_with_validation_data(data, now):
    net = network(data)
    held_out = data.X2, data.Y2, data.w2
    history = net.fit(data.X, data.Y, validation_data=held_out, callbacks=lambda *_: now(), **HOW)
    return results(net, history["val_cost"], history["val_score"])


@way("X", "Y", "w")
def fit_with_a_validation_split(data, now):
    net = network(data)
    how = {"validation_split": 0.3, "callbacks": lambda *_: now(), **HOW}
    history = net.fit(data.X, data.Y, sample_weight=data.w, **how)
    return results(net, history["val_cost"])


@way("X", "Y", "w")
def fit_of_batches(data, now):
    class Batches:
        def __iter__(self):
            yield data.X2, data.Y2, data.w2
            yield data.X, data.Y, data.w
            now()

    net = network(data)
    net.fit(Batches(), epochs=2, optimizer=nk.SGD(0.01))
    return results(net)


@way("X", "Y", "w")
def fit_of_batches_with_a_loss(data, now):
    net = network(data, loss_that(now))
    net.fit([(data.X, data.Y, data.w), (data.X2, data.Y2, data.w2)], epochs=1, optimizer=nk.SGD(0.01))
    return results(net)


@way("X", "labels")
def fit_with_class_weight(data, now):
    net = network(data, "cross_entropy", "softmax")
    net.fit(data.X, data.labels, class_weight=with_now(Weights, {0: 2.0, 1: 1.0}, now), **HOW)
    return results(net)


@way("X", "Y")
def fit_with_weights_that_are_converted(data, now):
    net = network(data)
    net.fit(data.X, data.Y, sample_weight=Converted(data.w, now), **HOW)
    return results(net)


@way("X")
def fit_with_targets_that_are_converted(data, now):
    net = network(data)
    net.fit(data.X, Converted(data.Y, now), **HOW)
    return results(net)


@way("X", "Y", "w")
def fit_many_with_a_schedule(data, now):
    nets = [network(data) for _ in range(2)]
    nk.fit_many(nets, data.X, data.Y, sample_weight=data.w, **HOW | {"optimizer": rate_that(now)})
    return [a for net in nets for a in results(net)]


@way("X", "Y", "w")
def fit_many_with_a_loss(data, now):
    nets = [network(data, loss_that(now)) for _ in range(2)]
    nk.fit_many(nets, data.X, data.Y, sample_weight=data.w, **HOW)
    return [a for net in nets for a in results(net)]


@way("X", "Y", "w")
def partial_fit_with_a_schedule(data, now):
    net = network(data)
    for _ in range(2):
        net.partial_fit(data.X2, data.Y2, sample_weight=data.w2)
        net.partial_fit(data.X, data.Y, sample_weight=data.w, optimizer=rate_that(now))
    return results(net)


@way("X", "Y", "w")
def partial_fit_with_a_loss(data, now):
    net = network(data, loss_that(now))
    cost = net.partial_fit(data.X, data.Y, sample_weight=data.w)
    return results(net, cost)


@way("X", "Y", "w")
def evaluate_with_a_loss(data, now):
    return [*network(data, loss_that(now)).evaluate(data.X, data.Y, sample_weight=data.w)]


@way("X", "Y")
def evaluate_with_weights_that_are_converted(data, now):
    return [*network(data).evaluate(data.X, data.Y, sample_weight=Converted(data.w, now))]


@way("X", "labels")
def evaluate_of_labels(data, now):
    net = network(data, "cross_entropy", "softmax")
    return [*net.evaluate(data.X, data.labels, sample_weight=Converted(data.w, now))]


@way("X", "out")
def predict_with_threads_that_are_converted(data, now):
    net = network(data)
    A = net.predict(data.X, threads=with_now(Number, 2, now))
    return [A, net.predict(data.X, out=data.out, threads=with_now(Number, 2, now))]


@way("X", "out", order="F")
def predict_with_threads_that_are_converted_in_order(data, now):
    net = network(data)
    A = net.predict(data.X, threads=with_now(Number, 2, now))
    return [A, net.predict(data.X, out=data.out, threads=with_now(Number, 2, now))]


@way("X")
def backward_after_forward(data, now):
    net = network(data)
    net.forward(data.X)
    now()
    return list(net.backward(data.Y).values())


@way("X", order="F", dtype="float64")
def backward_after_forward_in_order(data, now):
    net = network(data)
    net.forward(data.X, training=True)
    now()
    return list(net.backward(data.Y, sample_weight=data.w).values())


@way("X", "Y", "w")
def backward_with_a_loss(data, now):
    net = network(data, loss_that(now))
    net.forward(data.X)
    return list(net.backward(data.Y, sample_weight=data.w).values())


@way("X", "Y")
def backward_with_weights_that_are_converted(data, now):
    net = network(data)
    net.forward(data.X)
    return list(net.backward(data.Y, sample_weight=Converted(data.w, now)).values())


@way("X", "Y")
def gradients_of_each_example(data, now):
    net = network(data, loss_that(now))
    dX = net.input_gradient(data.X, data.Y)
    return [dX, *net.example_gradients(data.X, data.Y).values()]


@way("X", "Y", dtype="float64")
def gradients_that_are_checked(data, now):
    return [nk.check_gradients(network(data, loss_that(now)), data.X, data.Y, max_entries=3)]


@way("dW1", "db2")
def step_with_a_schedule(data, now):
    net = network(data)
    net.forward(data.X)
    gradients = net.backward(data.Y)
    data.dW1, data.db2 = gradients["dW1"], gradients["db2"]
    net.step(gradients, rate_that(now))
    return results(net)


@way("W1", "b2")
def parameters_between_calls(data, now):
    net = network(data)
    data.W1, data.b2 = net.parameters["W1"], net.parameters["b2"]
    now()
    net.partial_fit(data.X, data.Y)
    return [net.predict(data.X), *net.parameters.values()]


@way("W1", "b2")
def parameters_that_are_set(data, now):
    class Mapping(dict):
        def __getitem__(self, name):
            if name == "W2":
                now()
            return super().__getitem__(name)

    net = network(data)
    given = Mapping({name: a + 1 for name, a in net.parameters.items()})
    data.W1, data.b2 = given["W1"], given["b2"]
    net.set_parameters(given)
    return results(net)


@way("W1")
def initial_weights(data, now):
    data.W1 = np.array(data.W)
    net = nk.Network([nk.Dense(N_Y, init=data.W1)], "squared_error", dtype=data.dtype, seed=0)
    now()
    net.initialize(N_X)
    return results(net)


@way("W1")
def initial_weights_of_a_function(data, now):
    data.W1 = np.array(data.W)

    def again(rng, n, n_prev):
        now()
        return np.ones((n, n_prev))

    layers = [nk.Dense(N_Y, init=lambda rng, n, n_prev: data.W1), nk.Dense(2, init=again)]
    net = nk.Network(layers, "squared_error", n_x=N_X, dtype=data.dtype, seed=0)
    now()
    return results(net)


@way("A", "Y_seen", "cost", "derivative")
def arrays_of_a_loss(data, now):
    """What the loss is given and what it returns."""

    def loss(A, Y):
        data.cost, data.derivative = ((A - Y) ** 2).sum(axis=0) / 2, A - Y
        data.A, data.Y_seen = A, Y
        now()
        return data.cost, data.derivative

    net = network(data, loss)
    net.fit(data.X, data.Y, **HOW)
    return results(net)


@way("X", "Y", "out")
def report_of_a_predictor(data, now):
    net = network(data, loss_that(now))
    predictor = net.compile_predict()
    report = predictor.report(net, data.X, data.Y)
    now()
    return [report.mean_difference, *report.evaluation, predictor(data.X2, out=data.out)]


@way("W", "X", "b", "out", order="F")
def kernels_with_threads_that_are_converted(data, now):
    threads = with_now(Number, 2, now)
    A = nk.kernels.dense_forward(data.W, data.X, data.b, "tanh", out=data.out, threads=threads)
    return [A, *nk.kernels.dense_backward(np.ones_like(A), data.W, data.X, A, "tanh", threads=threads)]


def regressor(data, **options):
    from nnkern.sklearn import MLPRegressor

    how = {"hidden_layer_sizes": (7,), "max_iter": 3, "batch_size": 16, "random_state": 0, "solver": nk.SGD(0.01)}
    return MLPRegressor(**how | options)


def coefficients(mlp):
    return [*mlp.coefs_, *mlp.intercepts_, mlp.loss_curve_]


@way("rows", "y", "w")
def estimator_with_a_callback(data, now):
    mlp = regressor(data, callbacks=lambda *_: now()).fit(data.rows, data.y, data.w)
    return [*coefficients(mlp), mlp.predict(data.rows2)]


@way("rows", "y", "w", order="F", dtype="float64")
def estimator_with_a_schedule(data, now):
    return coefficients(regressor(data, solver=rate_that(now)).fit(data.rows, data.y, data.w))


@way("rows", "y", "w")
def estimator_with_a_loss(data, now):
    return coefficients(regressor(data, loss=loss_that(now)).fit(data.rows, data.y, data.w))


@way("rows", "labels", "w")
def estimator_of_labels(data, now):
    from nnkern.sklearn import MLPClassifier

    mlp = MLPClassifier((7,), max_iter=3, random_state=0, callbacks=lambda *_: now())
    return coefficients(mlp.fit(data.rows, data.labels, data.w))


@way("rows2", "y2", "w2")
def estimator_with_an_eval_set(data, now):
    mlp = regressor(data, callbacks=lambda *_: now())
    mlp.fit(data.rows, data.y, eval_set=(data.rows2, data.y2, data.w2))
    return [*coefficients(mlp), mlp.validation_scores_]


@way("rows", "y")
def estimator_fitted_in_parts(data, now):
    mlp = regressor(data, solver=rate_that(now))
    for _ in range(2):
        mlp.partial_fit(data.rows2, data.y2)
        mlp.partial_fit(data.rows, data.y)
    return coefficients(mlp)


# Ways that hand an array in anew after its change: what it says by then is what counts.
HANDED_IN_AGAIN = {
    "fit_of_batches",
    "partial_fit_with_a_schedule",
    "predict_with_threads_that_are_converted",
    "predict_with_threads_that_are_converted_in_order",
    "kernels_with_threads_that_are_converted",
    "gradients_of_each_example",
    "gradients_that_are_checked",
    "report_of_a_predictor",
    "estimator_fitted_in_parts",
    "arrays_of_a_loss",  # which returns them changed
}
NEED_SCIKIT_LEARN = {name for name in WAYS if name.startswith("estimator")}
REFUSALS = (ValueError, TypeError, RuntimeError)


# ---- in a process of its own ----


def go(name, array=None, change=None, at=0):
    """What comes of one way, where the array changes at the call number `at` of `now`: (outcome, bits or error)."""
    function = WAYS[name]
    data, calls = Data(function.order, function.dtype, function.m), 0

    def now():
        nonlocal calls
        if calls == at and array is not None:
            changed(change, data, array)
        calls += 1

    try:
        found = function(data, now)
    except REFUSALS as error:
        return "refused", str(error)
    return "result", b"".join(np.asarray(a).tobytes() for a in found)


def say(name, said):
    print(json.dumps([name, said]), flush=True)


def say_outcomes(name, kind):
    """A line of JSON with {what was done: what came of it} of one way: "same", "another result" or "refused"."""
    plain = go(name)
    assert plain[0] == "result", plain
    assert go(name) == plain
    found = {}
    for array in WAYS[name].names:
        for how, change in CHANGES[kind].items():
            for at in (0, 1):
                what = f"{array} {how} {at}"
                say(name, f"went no further than {what}")  # what stands there if this crashes
                outcome, came = go(name, array, change, at)
                found[what] = "another result" if outcome == "result" and came != plain[1] else outcome
    say(name, "the next call isn't as the first")
    if go(name) == plain:
        say(name, found)


def say_all_outcomes(kind, names):
    """Of each way, from a child each where there is fork."""
    warnings.simplefilter("ignore")  # numpy's of arrays changed in place, scikit-learn's of their shapes
    if NEED_SCIKIT_LEARN & set(names):
        importlib.import_module("nnkern.sklearn")  # once, not in each child
    with np.errstate(all="ignore"):
        for name in names:
            if not hasattr(os, "fork"):
                say_outcomes(name, kind)
                continue
            pid = os.fork()
            if pid == 0:
                signal.alarm(300)
                status = 1
                try:
                    say_outcomes(name, kind)
                    status = 0
                finally:
                    os._exit(status)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if status:
                print(f"{name} ended with the status {status}", file=sys.stderr)


def in_process(code, **environment):
    """Runs it with this module at hand; what it wrote to its standard error isn't looked at unless it fails."""
    code = f"import test_hostile_arrays as hostile\n{code}"
    done = run(code, environment={"PYTHONPATH": str(HERE), **environment}, check=False, timeout=600)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def outcomes_of(kind):
    names = [name for name in WAYS if name not in NEED_SCIKIT_LEARN or has_scikit_learn()]
    # memory that is given back is unmapped at once: reading there ends the process
    done = in_process(f"hostile.say_all_outcomes({kind!r}, {names!r})", MALLOC_MMAP_THRESHOLD_="16384")
    return dict(map(json.loads, done.stdout.splitlines())), done.stderr


def has_scikit_learn():
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.fixture(scope="module")
def after_shapes():
    return outcomes_of("shape")


@pytest.fixture(scope="module")
def after_resizing():
    return outcomes_of("resized regardless")


@pytest.fixture(scope="module")
def after_writing():
    return outcomes_of("contents")


def of_one(name, found):
    if name in NEED_SCIKIT_LEARN:
        pytest.importorskip("sklearn")
    said, errors = found
    assert isinstance(said[name], dict), f"{said[name]}\n{errors[-4000:]}"
    return said[name]


@pytest.mark.parametrize("name", WAYS)
def test_the_shape_it_had_or_an_error(name, after_shapes):
    """Bit for bit the result of arrays that nobody changed, or an error."""
    found = of_one(name, after_shapes)
    if name not in HANDED_IN_AGAIN:
        assert [what for what, outcome in found.items() if outcome == "another result"] == []


@pytest.mark.parametrize("name", WAYS)
def test_an_owner_that_is_resized_without_numpys_check(name, after_resizing):
    """Memory that is in use isn't given back: a weak reference has numpy refuse it, a copy doesn't need it."""
    of_one(name, after_resizing)


@pytest.mark.parametrize("name", WAYS)
def test_entries_that_were_written_to_after_they_were_validated(name, after_writing):
    """The result may be any; a label says where to read, so it has to be one still."""
    of_one(name, after_writing)


def test_the_changes_are_made(dtype):
    """The outcomes above are worth something: numpy lets all of this be done to an array that nobody else has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for changes in CHANGES.values():
            for how, change in changes.items():
                data = Data("C", dtype, 6)
                before = data.X.shape, data.X.strides, data.X.dtype, data.X.tobytes()
                assert changed(change, data, "X"), how
                assert (data.X.shape, data.X.strides, data.X.dtype, data.X.tobytes()) != before, how


# ---- 2000 at random ----


class Hook:
    """Changes some of the arrays at random each time it is called, or none."""

    def __init__(self, rng):
        self.rng, self.data, self.made = rng, None, 0

    def __call__(self):
        for name in ("X", "Y", "w", "labels", "out", "W", "b", "X2", "Y2"):
            if self.rng.random() < 0.2:
                self.made += changed(self.rng.choice(list(SHAPES.values())), self.data, name)


def calls_of(net, data, hook):
    """What may be called with arrays that are as they are by now, and change meanwhile."""
    X, Y, w, out = data.X, data.Y, data.w, data.out
    if net.loss == "cross_entropy":
        Y = data.labels
    if data.rng.random() < 0.5:
        # no other name for these, so that numpy may resize them
        X, Y, w, out = X.copy("K"), Y.copy("K"), w.copy(), out.copy("K")
    how = HOW | {"optimizer": rate_that(hook)}
    callback = {"callbacks": lambda *_: hook()}
    threads = with_now(Number, 2, hook)
    return [
        lambda: net.fit(X, Y, sample_weight=w, **HOW, **callback),
        lambda: net.fit(X, Y, **how | {"batch_size": None}),
        lambda: net.fit([(X, Y, w), (data.X2, Y)], epochs=2, **callback),
        lambda: net.fit(data.X2, Y, validation_data=(X, Y, w), epochs=2, **callback),
        lambda: net.partial_fit(X, Y, sample_weight=w, optimizer=rate_that(hook)),
        lambda: nk.fit_many([net], X, Y, **how),
        lambda: net.evaluate(X, Y, sample_weight=Converted(w, hook)),
        lambda: net.predict(X, threads=threads),
        lambda: net.predict(X, out=out, threads=threads),
        lambda: net.forward(X),
        lambda: net.backward(Y),
        lambda: net.backward(Converted(Y, hook), sample_weight=w),
        lambda: net.step(net.backward(Y), rate_that(hook)),
        lambda: net.input_gradient(X, Y),
        lambda: net.example_gradients(X, Y),
        lambda: net.compile_predict()(X, out=out),
        lambda: nk.kernels.dense_forward(data.W, X, data.b, "tanh", out=out, threads=threads),
        lambda: nk.kernels.dense_backward(out, data.W, X, out, "tanh", threads=threads),
        lambda: nk.kernels.squared_error(out, Y, w),
        hook,  # between calls
    ]


def at_random(times, seed=0):
    """Changes arrays in place so many times, in callbacks and between calls, on networks that live on."""
    warnings.simplefilter("ignore")
    rng = random.Random(seed)
    hook, count = Hook(rng), {"result": 0, "refused": 0}
    for number in itertools.count():
        if number % 6 == 0:
            # fresh arrays, for soon no shape fits any more
            hook.data = data = Data(rng.choice("CF"), rng.choice(["float32", "float64"]), rng.choice([1, 5, M, 300]))
            data.rng = rng
        if number % 60 == 0:
            nets = [
                network(data), network(data, loss_that(hook)), network(data, "cross_entropy", "softmax", l2=0.1)
            ]  # fmt: skip
        net = rng.choice(nets)
        try:
            rng.choice(calls_of(net, data, hook))()
            count["result"] += 1
        except REFUSALS:
            count["refused"] += 1
        if not all(np.isfinite(a).all() for a in net.parameters.values()):
            net.initialize(N_X)
        if hook.made >= times:
            break
    print(json.dumps({"changes": hook.made, **count}))


def test_two_thousand_changes_at_random_end_in_a_result_or_an_error():
    found = json.loads(in_process("hostile.np.seterr(all='ignore'); hostile.at_random(2000)").stdout)
    assert found["changes"] >= 2000
    # neither is refused throughout, nor does nothing come of the changes
    assert min(found["result"], found["refused"]) > 200


# ---- another thread ----


def beside_a_thread(seconds):
    """Calls beside a thread that reshapes their arrays all the time."""
    warnings.simplefilter("ignore")
    sys.setswitchinterval(1e-5)
    data, over = Data("C", "float32", M), threading.Event()
    net = network(data)
    predictor = net.compile_predict()
    names = "X", "Y", "w", "out", "W"
    right = {name: getattr(data, name).shape for name in names}

    def reshape():
        rng = random.Random(0)
        while not over.is_set():
            for name in names:
                changed(SHAPES["one row"], data, name)
            time.sleep(1e-5 * rng.random())
            for name in names:
                getattr(data, name).shape = right[name]
            time.sleep(1e-5 * rng.random())

    A, trained = net.predict(data.X), network(data)
    cost = net.evaluate(data.X, data.Y, sample_weight=data.w)
    product = nk.kernels.dense_forward(data.W, data.X, None, "tanh")
    trained.partial_fit(data.X, data.Y, sample_weight=data.w)

    def trains(call):
        other = network(data)
        call(other)
        return other == trained

    how = {"sample_weight": data.w, "epochs": 1, "batch_size": None}
    calls = {
        "predict": lambda: np.array_equal(net.predict(data.X), A),
        "predict into out": lambda: net.predict(data.X, out=data.out).size == A.size,
        "predictor": lambda: np.allclose(predictor(data.X), A, atol=1e-5),
        "evaluate": lambda: net.evaluate(data.X, data.Y, sample_weight=data.w) == cost,
        "forward": lambda: net.forward(data.X).shape == A.shape,
        "backward": lambda: net.backward(data.Y)["dW1"].shape == (7, N_X),
        "partial_fit": lambda: trains(lambda other: other.partial_fit(data.X, data.Y, sample_weight=data.w)),
        "fit": lambda: trains(lambda other: other.fit(data.X, data.Y, **how)),
        "kernels": lambda: np.array_equal(nk.kernels.dense_forward(data.W, data.X, None, "tanh"), product),
    }
    found = {name: {"right": 0, "wrong": 0, "refused": 0} for name in calls}
    thread = threading.Thread(target=reshape, daemon=True)
    thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, call in calls.items():
            try:
                found[name]["right" if call() else "wrong"] += 1
            except REFUSALS:
                found[name]["refused"] += 1
    over.set()
    thread.join()
    print(json.dumps(found))


def test_another_thread_that_reshapes():
    found = json.loads(in_process("hostile.beside_a_thread(2)").stdout)
    assert {name: counts["wrong"] for name, counts in found.items()} == dict.fromkeys(found, 0)
