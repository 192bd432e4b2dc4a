"""Refusals that stand at one place only, each beside the nearest thing that is taken.

`tools/mutate.py --python` deletes each refusal in turn; what it found to go unnoticed is tested here.
"""

import os
import stat

import numpy as np
import pytest

import nnkern as nk


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


def test_the_base_of_the_optimizers_has_no_update():
    from nnkern.optimizers import Optimizer

    with pytest.raises(NotImplementedError):
        _ = Optimizer().update


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_neither_replaced_nor_opened(net, tmp_path, monkeypatch):
    path = tmp_path / "net.npz"
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        net.save(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert [file.name for file in tmp_path.iterdir()] == ["net.npz"]
    # some devices do something when they are opened
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(nk.ModelFormatError, match="no regular file"):
        nk.load(path)


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
