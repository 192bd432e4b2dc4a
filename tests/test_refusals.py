"""Refusals that stand at one place only, each beside the nearest thing that is taken.

`tools/mutate.py --python` deletes each refusal in turn; what it found to go unnoticed is tested here.
"""

import inspect
import os
import re
import stat

import numpy as np
import pytest

import nnkern as nk


def test_a_number_of_inputs_is_no_activation():
    assert nk.Dense(8, "relu").activation == "relu"
    with pytest.raises(
        ValueError, match=r'^activation must be a name, as in Dense\(8, "relu"\); got 8: how many inputs'
    ):
        nk.Dense(3, 8, "relu")


def test_dropout_on_the_last_layer_is_refused():
    hidden = nk.Dense(3, "relu", dropout=0.5)
    assert nk.Network([hidden, nk.Dense(1)], "squared_error").layers[0].dropout == 0.5
    with pytest.raises(ValueError, match=r"last layer has dropout 0\.25"):
        nk.Network([hidden, nk.Dense(1, dropout=0.25)], "squared_error")
    with pytest.raises(ValueError, match=r"last layer has dropout 0\.5"):
        nk.Network([nk.Dense(1, dropout=0.5)], "squared_error")


def test_a_summary_needs_no_parameters():
    net = nk.Network([nk.Dense(3, "relu", dropout=0.5), nk.Dense(2, trainable=False)], "squared_error")
    summary = net.summary()
    assert summary.parameters is None
    head, first, second, foot = str(summary).splitlines()
    assert first.split() == ["1", "3", "relu", "(3,", "?)", "(3,", "1)", "?", "dropout", "0.5"]
    # what comes from the layer before is known
    assert second.split() == ["2", "2", "linear", "(2,", "3)", "(2,", "1)", "8", "frozen"]
    assert "parameters" in head
    assert "not yet initialized" in foot
    assert net.initialize(4).summary().parameters == 3 * (4 + 1) + 2 * (3 + 1)


@pytest.fixture
def net():
    return nk.Network([nk.Dense(4, "tanh"), nk.Dense(3)], "squared_error", n_x=2, seed=0)


X = np.arange(10.0).reshape(2, 5) / 10


def test_the_output_of_a_gradient_is_one_of_those_there_are(net):
    for output in (0, 2, np.int8(1), [0, 1, 2, 0, 1], np.array([2] * 5)):
        assert net.input_gradient(X, output=output).shape == (2, 5)
    for output in (-1, 3, [0, 1, 2, 3, 0], [0, -1, 0, 0, 0]):
        with pytest.raises(ValueError, match="output must be from 0 to 2"):
            net.input_gradient(X, output=output)
    for output in (1.0, "1", True, [0, 1], [[0, 1, 2, 0, 1]], [0.0] * 5):
        with pytest.raises(ValueError, match=r"output must be a unit, an integer from 0 to 2, or \(5,\) of them"):
            net.input_gradient(X, output=output)


def test_an_array_without_Y_is_told_that_Y_is_missing(net):
    assert net.fit([(X, np.zeros((3, 5)))], epochs=1)["cost"]
    with pytest.raises(ValueError, match="Y is missing"):
        net.fit(X, epochs=1)


def test_an_optimizer_without_an_update_says_so():
    with pytest.raises(NotImplementedError):
        _ = nk.optimizers.Optimizer().update
    assert nk.SGD().update == "sgd"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_not_replaced(net, tmp_path):
    path = tmp_path / "net.npz"
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        net.save(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert [file.name for file in tmp_path.iterdir()] == ["net.npz"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_not_opened(tmp_path, monkeypatch):
    path = tmp_path / "net.npz"
    os.mkfifo(path)
    # some devices do something when they are opened
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(nk.ModelFormatError, match="no regular file"):
        nk.load(path)


def test_what_is_no_optimizer_is_shown_in_short():
    net = nk.Network([nk.Dense(200)], "squared_error", n_x=300, seed=0)
    grads = {name.replace("", "d", 1): array for name, array in net.parameters.items()}
    with pytest.raises(
        TypeError, match=r"^optimizer must be one of sgd, .* or an optimizer object; got \{'dW1': "
    ) as caught:
        net.step(nk.Adam(), grads)
    assert len(str(caught.value)) < 300
    with pytest.raises(TypeError, match=r"Adam'>: make one, Adam\(…\)$"):
        net.step(grads, nk.Adam)


def test_what_json_holds_of_an_optimizer_names_what_there_is():
    schedule = nk.schedules.Step(0.5, 0.5, 2)
    written = nk.optimizers.to_json(nk.Adam(schedule))
    assert nk.optimizers.from_json(written) == nk.Adam(schedule)
    with pytest.raises(ValueError, match=r"optimizer must be one of sgd, adam.*got 'sdg'"):
        nk.optimizers.from_json({**written, "name": "sdg"})
    with pytest.raises(ValueError, match=r"schedule must be one of InverseTime, .*got 'Setp'"):
        nk.optimizers.from_json({**written, "learning_rate": {**written["learning_rate"], "schedule": "Setp"}})


def test_the_record_of_data_in_another_version_is_not_called_damaged():
    from nnkern.data import DataError, Preprocessor

    with pytest.raises(DataError, match=r"has version 99, this nnkern reads \d"):
        Preprocessor.from_dict({"version": 99})
    with pytest.raises(DataError, match="damaged"):
        Preprocessor.from_dict({})


def test_whatever_trains_refuses_a_network_without_a_layer_to_train():
    def make(trainable):
        layers = [nk.Dense(4, "tanh", trainable=False), nk.Dense(3, trainable=trainable)]
        return nk.Network(layers, "squared_error", n_x=2, seed=0)

    def backward(net):
        net.forward(X)
        return net.backward(Y)

    Y = np.zeros((3, 5))
    for train in (
        lambda net: net.fit(X, Y, epochs=1),
        lambda net: net.fit([(X, Y)], epochs=1),
        lambda net: net.partial_fit(X, Y),
        lambda net: nk.fit_many([net], X, Y, epochs=1),
        lambda net: nk.check_gradients(net, X, Y),
        backward,
    ):
        train(make(True))
        with pytest.raises(ValueError, match="no layer is trainable"):
            train(make(False))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: nk.check_gradients(net, X, np.zeros((3, 5)), step=0), "step must be finite and > 0"),
        (lambda net: nk.check_gradients(net, X, np.zeros((3, 5)), max_entries=0), "max_entries must be .*>= 1"),
        (lambda net: net.evaluate(X, np.zeros((3, 5)), threads=0), "threads must be .*>= 1"),
        (lambda net: net.predict(X.tolist(), threads=0), "threads must be .*>= 1"),
        (lambda net: net.compile_predict(threads=0), "threads must be .*>= 1"),
        (lambda net: net.compile_predict(weights="float16"), "weights must be one of .*got 'float16'"),
        (lambda net: nk.fit_many([net], X, np.zeros((3, 5)), threads=0), "threads must be .*>= 1"),
        (lambda net: nk.initializers.normal(-1.0), "scale must be finite and >= 0"),
        (lambda net: nk.Dense(2, init="normla"), "init must be one of .*got 'normla'"),
        (lambda net: nk.Dense(2, "ReLU"), "activation must be one of .*got 'ReLU': did you mean 'relu'"),
        (lambda net: nk.Dense(2, "qqq"), "activation must be one of .*got 'qqq'$"),
        (lambda net: nk.schedules.Step(-1.0, 0.5, 2), "initial must be finite and >= 0"),
        (lambda net: nk.schedules.Step(1.0, 0.5, 0), "every must be .*>= 1"),
    ],
)
def test_numbers_out_of_their_range_are_named(net, call, words):
    with pytest.raises(ValueError, match=words):
        call(net)


# ---- arguments of other names ----

TAKING = {
    "Network": nk.Network, "fit": nk.Network.fit, "Dense": nk.Dense, "SGD": nk.SGD, "Adam": nk.Adam, "AdamW": nk.AdamW,
    "RMSprop": nk.RMSprop, "Adagrad": nk.Adagrad, "EarlyStopping": nk.EarlyStopping, "fit_many": nk.fit_many,
}  # fmt: skip


@pytest.mark.parametrize(
    ("function", "name", "said"),
    [
        ("fit", "lr", "its place is optimizer=Adam(learning_rate=…)"),
        ("fit", "learning_rate", "its place is optimizer=Adam(learning_rate=…)"),
        ("fit", "momentum", "its place is optimizer=SGD(0.1, momentum=…)"),
        ("fit", "seed", 'its place is Network(layers, "squared_error", seed=…)'),
        ("fit", "patience", "its place is callbacks=EarlyStopping(patience=…)"),
        ("fit", "dropout", "its place is Dense(8, dropout=…)"),
        ("fit", "num_iterations", "epochs= is its name here"),
        ("fit", "verbose", "progress= is its name here"),
        ("fit", "epoch", "did you mean epochs=?"),
        ("fit", "validation_size", "did you mean validation_split=?"),
        ("fit_many", "lr", "its place is optimizer=Adam(learning_rate=…)"),
        ("Network", "epochs", "its place is fit(X, Y, epochs=…)"),
        ("Network", "random_state", "seed= is its name here"),
        ("Network", "zzz", "there are layers, loss, n_x, l2, l1, dtype, compute, seed"),
        ("Dense", "input_dim", 'its place is Network(layers, "squared_error", n_x=…)'),
        ("Dense", "out_features", "units= is its name here"),
        ("Adam", "lr", "learning_rate= is its name here"),
        ("Adam", "weight_decay", "its place is optimizer=AdamW(weight_decay=…)"),
        ("Adam", "zzz", "there are learning_rate, beta1, beta2, eps, clip_value, clip_norm"),
        ("AdamW", "betas", "did you mean beta2=?"),
        ("RMSprop", "epsilon", "eps= is its name here"),
        ("Adagrad", "lr", "learning_rate= is its name here"),
        ("SGD", "nestrov", "did you mean nesterov=?"),
        ("EarlyStopping", "restore_best_weights", "did you mean restore_best=?"),
    ],
)
def test_arguments_of_other_names(function, name, said):
    called = "Network.fit" if function == "fit" else function
    call = nk.Network([nk.Dense(1)], "squared_error").fit if function == "fit" else TAKING[function]
    with pytest.raises(TypeError) as caught:
        call(**{name: 1})
    assert str(caught.value) == f"{called}() got an unexpected keyword argument {name!r}: {said}"
    # what is proposed exists
    if "there are" not in said:
        place = re.fullmatch(r"its place is (?:\w+=)?(\w+)\(.*?(\w+)=…\)", said)
        owner, argument = place.groups() if place else (function, re.search(r"(\w+)=", said)[1])
        assert argument in inspect.signature(TAKING[owner]).parameters
