"""What the compiled modules refuse by themselves: arrays that changed after Python had looked at them, and what
subclasses hand on. Nothing that a user can do in one thread gets here, so the modules are called directly."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import nnkern as nk
from nnkern import _engine, _predictor
from nnkern.state import of

X = np.asfortranarray(np.arange(10.0).reshape(2, 5) / 10)
Y = np.zeros((3, 5), order="F")


@pytest.fixture
def net():
    return nk.Network([nk.Dense(4, "tanh"), nk.Dense(3)], "squared_error", n_x=2, seed=0, dtype="float64")


@pytest.fixture
def engine(net):
    return of(net).engine


def test_what_is_asked_of_an_array_is_asked_of_what_it_is_now(engine):
    assert np.array_equal(engine.predict(X), engine.predict(np.ascontiguousarray(X)))
    assert engine.predict(X[:, :0]).shape == (3, 0)
    with pytest.raises(TypeError, match=r"X must be an aligned array in the network's dtype; got list"):
        engine.predict(X.tolist())
    with pytest.raises(TypeError, match=r"X must be an aligned array in the network's dtype; got ndarray of float32"):
        engine.predict(X.astype(np.float32))
    with pytest.raises(ValueError, match=r"X has shape \(5, 2\) now: expected \(2, m\)"):
        engine.predict(X.T)
    with pytest.raises(ValueError, match=r"X has shape \(10,\) now: expected \(2, m\)"):
        engine.predict(X.reshape(-1))
    in_halves = np.ndarray((2, 3), X.dtype, np.zeros(100), strides=(8, 20))
    with pytest.raises(TypeError, match="X must be an aligned array"):
        engine.predict(in_halves)
    with pytest.raises(ValueError, match="out has 4 columns, X 5"):
        engine.predict(X, np.empty((3, 4)))


def test_what_belongs_to_X_has_its_columns(engine):
    assert engine.loss_gradient(X, Y, None, None)[0] > 0
    with pytest.raises(ValueError, match="Y has 4 columns, X 5"):
        engine.loss_gradient(X, Y[:, :4], None, None)
    assert engine.loss_gradient(X, Y, None, np.ones(5))[0] > 0
    with pytest.raises(TypeError, match=r"w must be a contiguous vector of numpy's type \d+; got list"):
        engine.loss_gradient(X, Y, None, [1.0] * 5)
    with pytest.raises(TypeError, match="w must be a contiguous vector"):
        engine.loss_gradient(X, Y, None, np.ones(10)[::2])
    with pytest.raises(ValueError, match=r"w has shape \(4,\) now: expected \(5,\)"):
        engine.loss_gradient(X, Y, None, np.ones(4))
    with pytest.raises(ValueError, match=r"w has shape \(1, 5\) now: expected \(5,\)"):
        engine.loss_gradient(X, Y, None, np.ones((1, 5)))


def test_an_optimizer_s_state_is_as_long_as_the_parameters(engine):
    count = engine.theta.size
    engine.restore_state(3, np.ones(count), None)
    for wrong in (np.ones(count + 1), np.ones(count, np.float32)):
        with pytest.raises(ValueError, match=rf"must have shape \({count},\) and dtype float64; got"):
            engine.restore_state(4, None, wrong)
        with pytest.raises(ValueError, match="the optimizer's state must have shape"):
            engine.restore_state(4, wrong, None)
    assert engine.state()[0] == 3


class Careless(_predictor.Packed):
    """A predictor that lets through what it is to check."""

    def validated(self, X, out):
        return X, out


def test_a_predictor_s_output_has_the_columns_of_X():
    W = np.array([[1.0, 2.0], [3.0, 4.0]])
    predictor = Careless([(W, None, 0, 0.0)], "float64", None)
    out = np.empty((2, 5))
    assert predictor.predict(X[:, ::-1][:, ::-1], out) is out
    with pytest.raises(ValueError, match="out has 4 columns, X 5"):
        predictor.predict(X, np.empty((2, 4)))


def test_a_training_within_a_prediction_is_told_whose_prediction():
    told = []

    def loss(A, Y):
        try:
            net.fit(X, Y, epochs=1)
        except RuntimeError as error:
            told.append(str(error))
        return ((A - Y) ** 2).sum(axis=0), 2 * (A - Y)

    net = nk.Network([nk.Dense(3)], loss, n_x=2, seed=0, dtype="float64")
    net.evaluate(X, Y)
    assert told
    assert all("used by the call that this one is made from" in words for words in told)
    told.clear()
    assert len(net.fit(X, Y, epochs=1)["cost"]) == 1
    assert all("being trained already" in words for words in told)


def engine_of_one_layer():
    return of(nk.Network([nk.Dense(3)], "squared_error", n_x=2, seed=0, dtype="float64")).engine


def training_job(engine=None, **how):
    """An epoch of one step."""
    optimizer = nk.SGD()
    return _engine.TrainJob(
        engine or engine_of_one_layer(), X, Y, None, None, rates=np.ones(1), batch_size=5, shuffle=False, order=None,
        update=optimizer.update, numbers=optimizer.numbers, keep_last=False, costs=np.empty(1), seconds=np.empty(1),
        **how,
    )  # fmt: skip


def test_an_average_has_as_many_numbers_as_the_parameters(engine):
    assert not training_job(engine, average=_engine.Average(engine, None)).begun
    other = engine_of_one_layer()
    with pytest.raises(ValueError, match=rf"^an average of {other.theta.size} parameters of {engine.theta.size}$"):
        training_job(engine, average=_engine.Average(other, None))


def test_an_epoch_of_several_processes_has_a_step():
    reducer = _engine.Reducer(0, 2, None, None, None)
    reducer.deal([3, 4], 1, 1.0, False, 7, direct=True)
    assert reducer.largest_share(3) == 3
    with pytest.raises(ValueError, match=r"^an epoch must have a step; got 0$"):
        reducer.deal([3, 4], 0, 1.0, False, 7, direct=True)
    with pytest.raises(ValueError, match=r"shards has shape \(3,\) now: expected \(2,\)"):
        reducer.deal([3, 4, 5], 1, 1.0, False, 7, direct=True)


linux = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the memory in use is read from /proc")


@contextmanager
def memory_left(size):
    """This process may have so many bytes more."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.no_sanitizer
@linux
@pytest.mark.parametrize("frozen", [False, True], ids=["network", "predictor"])
def test_activations_that_find_no_memory(frozen):
    wide = nk.Network([nk.Dense(1 << 20), nk.Dense(1)], "squared_error", n_x=1)
    predict = wide.compile_predict() if frozen else wide.predict
    x = np.zeros((1, 300), np.float32)
    with memory_left(1 << 28), pytest.raises(MemoryError, match=r"no \d+ bytes for the activations of 256 examples"):
        predict(x)
    assert predict(x[:, :1]).shape == (1, 1)


# lists of so many entries are made beforehand; what is made of them needs far more
MANY = 1 << 20
WITHOUT_MEMORY = {
    "layers": (lambda: [None] * MANY, lambda l: _engine.Engine(l, "float64", "squared_error", 0.0, 0, "float64")),
    "frozen layers": (lambda: [None] * MANY, lambda l: _predictor.Packed(l, "float64", None)),
    "numbers": (lambda: [None] * MANY, lambda l: _engine.EncodersOf("float64", l, [], [], [])),
    "networks": (lambda: [training_job()] * (8 * MANY), lambda l: _engine.train_together(l, 1)),
}


@pytest.mark.no_sanitizer
@linux
@pytest.mark.parametrize("what", WITHOUT_MEMORY)
def test_what_finds_no_memory_for_its_list(what):
    # in a process of its own: what other tests have freed may be enough
    here = Path(__file__).resolve()
    script = (
        f"import sys; sys.path.insert(0, {str(here.parent)!r}); import {here.stem} as t; t.find_no_memory({what!r})"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def find_no_memory(what):
    made, call = WITHOUT_MEMORY[what]
    many = made()
    with (
        memory_left(1 << 24),
        pytest.raises(MemoryError, match=r"^no memory for (the layers|the encoders|\d+ networks)$"),
    ):
        call(many)
