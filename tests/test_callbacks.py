"""What callbacks may be given; what they do is held in test_network.py."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

import nnkern as nk

ONE = np.ones((1, 1))


def make():
    return nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)


class OnlyOnEpochEnd:
    def on_epoch_end(self, net, epoch, history):
        pass


@pytest.mark.parametrize("cls", [nk.EarlyStopping, nk.Callback, OnlyOnEpochEnd, dict])
def test_classes_in_place_of_objects_are_refused(cls):
    for callbacks in (cls, [nk.EarlyStopping(monitor="cost"), cls]):
        net = make()
        before = net.parameters["W1"].copy()
        said = f"a callback must be an object, not its class; got {cls!r}: {cls.__name__}(…)"
        with pytest.raises(TypeError, match=re.escape(said)):
            net.fit(ONE, ONE, epochs=1, callbacks=callbacks)
        assert np.array_equal(net.parameters["W1"], before)


@pytest.mark.parametrize("form", [str, Path, os.fsencode])
def test_checkpoints_take_any_path(form, tmp_path):
    net = make()
    net.fit(ONE, ONE, epochs=2, callbacks=nk.Checkpoint(form(tmp_path / "ä {epoch}.npz")))
    assert sorted(os.listdir(tmp_path)) == ["ä 0.npz", "ä 1.npz"]
    assert nk.load(tmp_path / "ä 1.npz") == net


def test_checkpoints_take_nothing_but_paths():
    with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not int"):
        nk.Checkpoint(3)
