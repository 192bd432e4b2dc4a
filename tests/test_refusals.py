"""Refusals that stand at one place only, each beside the nearest thing that is taken.

`tools/mutate.py --python` deletes each refusal in turn; what it found to go unnoticed is tested here.
"""

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
