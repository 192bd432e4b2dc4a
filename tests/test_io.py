"""Saving and loading: what goes round comes round, a file is whole or as it was, a bad one is a ModelFormatError."""

import contextlib
import errno
import functools
import io
import json
import os
import pickle
import random
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import assert_no_leaks, fails, fuzzing, measured
from hypothesis import given
from hypothesis import strategies as st

import nnkern as nk
from nnkern.files.atomic import whole_file
from nnkern.files.opening import reading
from nnkern.state import of

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits, signals and memory as Linux counts them")

LOSSES = {name: loss.output or "relu" for name, loss in nk.losses.LOSSES.items()}


def small(**options):
    layers = [nk.Dense(5, "tanh", dropout=0.25), nk.Dense(4, "softmax")]
    return nk.Network(layers, "cross_entropy", **{"n_x": 3, "seed": 0, **options})


def saved(net, path):
    net.save(path)
    return path.read_bytes()


# ---- round trip ----


@pytest.fixture(params=["net.npz", "net.safetensors"])
def path(tmp_path, request):
    """A file's name in an empty folder, one for each format."""
    if request.param.endswith("safetensors"):
        pytest.importorskip("safetensors")
    return tmp_path / request.param


def assert_round_trip(net, path):
    net.save(path)
    loaded = nk.load(path)
    assert loaded == net
    assert loaded.config() == net.config()
    assert loaded.metadata == net.metadata
    assert (loaded.n_x, loaded.n_y, loaded.L, loaded.loss, loaded.dtype) == (
        (net.n_x, net.n_y, net.L, net.loss, net.dtype)
    )
    # a file without its training state doesn't tell what was drawn
    assert loaded.seed == net.config()["seed"]
    for name, a in net.parameters.items():
        assert loaded.parameters[name].tobytes() == a.tobytes()
        assert loaded.parameters[name].flags.writeable
    X = np.random.default_rng(0).normal(size=(net.n_x, 7))
    assert loaded.predict(X).tobytes() == net.predict(X).tobytes()
    return loaded


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", nk.kernels.ACTIVATIONS)
def test_round_trip_of_every_activation_and_loss(path, activation, loss, dtype):
    layers = [nk.Dense(5, activation), nk.Dense(3, LOSSES[loss])]
    assert_round_trip(nk.Network(layers, loss, n_x=4, dtype=str(dtype), seed=0), path)


OPTIONS = {
    "one neuron": ([nk.Dense(1, "sigmoid")], {"loss": "binary_cross_entropy"}),
    "many layers": ([nk.Dense(3, "relu") for _ in range(40)], {}),
    "dropout": ([nk.Dense(3, dropout=0.1), nk.Dense(2)], {}),
    "l2 of a layer": ([nk.Dense(3, l2=0.0), nk.Dense(2, l2=1e-300)], {"l2": 0.1}),
    "l1": ([nk.Dense(3)], {"l1": 1 / 3}),
    "no bias": ([nk.Dense(3, use_bias=False), nk.Dense(2)], {}),
    "no bias at all": ([nk.Dense(3, use_bias=False)], {}),
    "frozen": ([nk.Dense(3, trainable=False), nk.Dense(2)], {}),
    "slope": ([nk.Dense(3, "leaky_relu", negative_slope=0.3)], {}),
    "large seed": ([nk.Dense(3)], {"seed": 2**63 + 1}),
    "no seed": ([nk.Dense(3)], {"seed": None}),
    "init by name": ([nk.Dense(3, init="zeros")], {}),
    "init by array": ([nk.Dense(3, init=np.ones((3, 4)))], {}),
    "init by callable": ([nk.Dense(3, init=lambda rng, n, n_prev: rng.normal(size=(n, n_prev)))], {}),
}


@pytest.mark.parametrize(("layers", "options"), OPTIONS.values(), ids=list(OPTIONS))
def test_round_trip_of_every_option(path, layers, options):
    net = nk.Network(layers, **{"loss": "squared_error", "n_x": 4, "seed": 1, **options})
    loaded = assert_round_trip(net, path)
    for own, other in zip(net.layers, loaded.layers, strict=True):
        assert own.to_dict() == other.to_dict()


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.0, 1e-45, 3e38])
def test_round_trip_of_any_number(path, value):
    net = small()
    net.parameters["W1"][2, 1] = value
    net.save(path)
    loaded = nk.load(path)
    assert loaded.parameters["W1"].tobytes() == net.parameters["W1"].tobytes()


def test_loaded_networks_train_on(path):
    X, Y = np.random.default_rng(0).normal(size=(3, 20)), np.arange(20) % 4
    net = small()
    net.fit(X, Y, epochs=2)
    net.save(path)
    loaded = nk.load(path)
    history = loaded.fit(X, Y, epochs=3, shuffle=False)
    assert all(np.isfinite(history["cost"]))
    assert loaded != net


def test_round_trip_of_metadata(path):
    net = small()
    net.metadata["labels"] = ["Café", "\u0000", "数", '"', "\\"]
    net.metadata["nested"] = {"mean": [1.5, -2e-300, 1 / 3], "n": 2**60, "none": None, "yes": True}
    loaded = assert_round_trip(net, path)
    assert loaded.metadata["nested"]["mean"][2] == 1 / 3


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.ones(3), b"x", {0: "a"}, [({"a": {None: 1}},)], {True: 1}, {0.5: 1}, np.nan, [-np.inf]],
    ids=["object", "set", "array", "bytes", "int key", "nested None", "bool key", "float key", "NaN", "-Inf"],
)
def test_metadata_that_json_cannot_hold_keeps_the_old_file(path, value):
    net = small()
    before = saved(net, path)
    net.metadata["bad"] = value
    with pytest.raises(ValueError, match=r"metadata must be what JSON can hold, arrays as array\.tolist\(\)"):
        net.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_metadata_that_is_no_dict_is_refused(path):
    net = small()
    net.metadata = [1]
    with pytest.raises(ValueError, match="metadata must be a dict; got list"):
        net.save(path)
    assert not path.exists()


@pytest.mark.parametrize("as_what", [str, lambda path: path, os.fsencode], ids=["str", "Path", "bytes"])
def test_paths_of_every_kind(path, as_what):
    suffix = {".npz": ".model"}.get(path.suffix, path.suffix)  # any other than the one of safetensors
    named = path.with_name(f"a name with spaces, Ünicode{suffix}")
    net = small()
    net.save(as_what(named))
    assert os.listdir(named.parent) == [named.name]
    assert named.read_bytes() == saved(net, path)
    assert nk.load(as_what(named)) == net
    with pytest.raises(FileNotFoundError):
        nk.load(as_what(path.with_stem("none")))


def test_a_file_is_an_ordinary_npz_without_pickle(tmp_path):
    net = small()
    saved(net, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as archive:
        for name, a in net.parameters.items():
            assert np.array_equal(archive[name], a)


def test_same_network_same_bytes(path):
    other = path.with_name(f"other{path.suffix}")
    assert saved(small(), path) == saved(small(), other)


def test_save_without_parameters(path):
    with pytest.raises(nk.NotFittedError):
        small(n_x=None).save(path)
    assert os.listdir(path.parent) == []


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"what was there")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: small().save(path), lambda: nk.load(path)):
        with pytest.raises(ImportError, match=r"pip install 'nnkern\[safetensors\]'"):
            call()
    assert path.read_bytes() == b"what was there"
    assert os.listdir(tmp_path) == ["net.safetensors"]


# ---- the state of a training ----

X_TRAIN, Y_TRAIN = np.random.default_rng(0).normal(size=(3, 50)).astype("f4"), np.arange(50) % 4
OPTIMIZERS = {
    "sgd": nk.SGD(0.1),
    "momentum": nk.SGD(0.1, momentum=0.9),
    "nesterov": nk.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": nk.Adam(0.01),
    "adamw": nk.AdamW(nk.schedules.Cosine(0.02, 6), weight_decay=0.1),
    "rmsprop": nk.RMSprop(nk.schedules.InverseTime(0.01, 0.5)),
    "adagrad": nk.Adagrad(nk.schedules.Step(0.1, 0.5, 2)),
    "exponential": nk.SGD(nk.schedules.Exponential(0.1, 0.9)),
    "warm-up": nk.Adam(nk.schedules.WarmUp(nk.schedules.Cosine(0.02, 4), 2)),
}
EPOCHS = 6


class Batches:
    """The training data in batches, anew each epoch."""

    def __iter__(self):
        for first in range(0, 50, 16):
            yield X_TRAIN[:, first : first + 16], Y_TRAIN[first : first + 16]


def whole(folder):
    """The training data in memory-mapped files."""
    np.save(folder / "X.npy", X_TRAIN)
    np.save(folder / "Y.npy", Y_TRAIN)
    return np.load(folder / "X.npy", mmap_mode="r"), np.load(folder / "Y.npy", mmap_mode="r")


def same_training(net, other):
    """Whether the two stand at the same point, to the bit."""
    assert net == other
    (t, s1, s2), (other_t, other_s1, other_s2) = of(net).engine.state(), of(other).engine.state()
    assert t == other_t
    for own, others in ((s1, other_s1), (s2, other_s2)):
        assert (own is None) == (others is None)
        assert own is None or own.tobytes() == others.tobytes()
    assert of(net).progress() == of(other).progress()
    assert net.optimizer == other.optimizer


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
@pytest.mark.parametrize("data", ["arrays", "batches", "mapped", "split"])
def test_a_run_resumed_at_any_epoch_is_the_run_that_went_on(path, data, optimizer):
    """Shuffled, with dropout, a frozen layer, without a seed: the same bits after every epoch."""
    layers = [nk.Dense(8, "tanh", dropout=0.25), nk.Dense(5, trainable=False), nk.Dense(4, "softmax")]
    net = nk.Network(layers, "cross_entropy", n_x=3, l2=0.01)
    arguments = {"batch_size": 16, "optimizer": optimizer}
    if data == "arrays":
        given = X_TRAIN, Y_TRAIN
    elif data == "mapped":
        given = whole(path.parent)
    elif data == "batches":
        given, arguments = (Batches(),), {"optimizer": optimizer}
    else:
        given, arguments = (X_TRAIN, Y_TRAIN), {**arguments, "validation_split": 0.3}
    name = f"{{epoch}}{path.suffix}"
    history = net.fit(*given, epochs=EPOCHS, callbacks=nk.Checkpoint(path.with_name(name)), **arguments)
    del arguments["optimizer"]  # the file has it
    for epoch in range(EPOCHS):
        resumed = nk.load(path.with_name(name.format(epoch=epoch)))
        left = EPOCHS - 1 - epoch
        more = resumed.fit(*given, epochs=left, resume=True, **arguments)
        for key in set(history) - {"seconds"}:
            assert more[key] == history[key][epoch + 1 :], key
        same_training(net, resumed)


def test_a_resumed_run_counts_its_checkpoints_on(tmp_path):
    net = small()
    net.fit(X_TRAIN, Y_TRAIN, epochs=3, callbacks=nk.Checkpoint(tmp_path / "{epoch}.npz", every=2))
    resumed = nk.load(tmp_path / "1.npz")
    resumed.fit(X_TRAIN, Y_TRAIN, epochs=4, resume=True, callbacks=nk.Checkpoint(tmp_path / "{epoch}.npz", every=2))
    assert sorted(os.listdir(tmp_path)) == ["1.npz", "3.npz", "5.npz"]


def test_a_stream_of_batches_is_resumed(path):
    """partial_fit, too, goes on where it was."""
    net = small()
    batches = list(Batches())
    for batch in batches:
        net.partial_fit(*batch, optimizer=nk.Adam(0.01))
    net.save(path, training_state=True)
    resumed = nk.load(path)
    for batch in batches:
        assert resumed.partial_fit(*batch) == net.partial_fit(*batch)
    same_training(net, resumed)


def test_without_the_state_a_file_is_small_and_starts_anew(path):
    net = small()
    net.fit(X_TRAIN, Y_TRAIN, epochs=2, optimizer="adam")
    with_state = len(saved(net, path.with_name(f"without{path.suffix}")))
    net.save(path, training_state=True)
    assert path.stat().st_size > with_state
    assert nk.load(path.with_name(f"without{path.suffix}")).optimizer is None
    net.fit(X_TRAIN, Y_TRAIN, epochs=1, callbacks=nk.Checkpoint(path, training_state=False))
    assert path.read_bytes() == saved(net, path.with_name(f"other{path.suffix}"))


OWN_RATES = {
    "a function": lambda epoch: 0.1 / (1 + epoch),
    "a function after a warm-up": nk.schedules.WarmUp(lambda epoch: 0.1 / (1 + epoch), 2),
}


@pytest.mark.parametrize("rate", OWN_RATES.values(), ids=list(OWN_RATES))
def test_a_rate_that_a_file_cannot_hold_has_to_be_given_again(path, rate):
    """Never a silent fall-back to another optimizer."""
    optimizer = nk.SGD(rate, momentum=0.5)
    net = small(seed=None)
    net.fit(X_TRAIN, Y_TRAIN, epochs=4, optimizer=optimizer, callbacks=nk.Checkpoint(path, every=3))
    resumed = nk.load(path)
    with pytest.raises(ValueError, match="pass optimizer="):
        resumed.fit(X_TRAIN, Y_TRAIN, epochs=1, resume=True)
    with pytest.raises(ValueError, match="pass optimizer="):
        resumed.partial_fit(X_TRAIN, Y_TRAIN)
    resumed.fit(X_TRAIN, Y_TRAIN, epochs=1, resume=True, optimizer=optimizer)
    same_training(net, resumed)


@pytest.mark.parametrize("optimizer", [None, nk.Adam(0.01)], ids=["none", "adam"])
def test_resuming_from_parameters_alone_brings_a_warning(path, optimizer):
    """All but the parameters begins anew, as it does without resume; a checkpoint has what it asks for."""
    net = small()
    net.fit(X_TRAIN, Y_TRAIN, epochs=2, optimizer="adam", callbacks=nk.Checkpoint(path.with_name("with" + path.suffix)))
    net.save(path)
    resumed, anew = nk.load(path), nk.load(path)
    words = "resume=True finds no state of a training.*random streams begin anew.*training_state=True"
    with pytest.warns(UserWarning, match=words) as caught:
        resumed.fit(X_TRAIN, Y_TRAIN, epochs=1, resume=True, optimizer=optimizer)
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anew.fit(X_TRAIN, Y_TRAIN, epochs=1, optimizer=optimizer)
        same_training(resumed, anew)
        resumed.fit(X_TRAIN, Y_TRAIN, epochs=1, resume=True)  # it has been trained by now
        nk.load(path.with_name("with" + path.suffix)).fit(X_TRAIN, Y_TRAIN, epochs=1, resume=True)
    with ThreadPoolExecutor(1) as executor, pytest.warns(UserWarning, match=words) as caught:
        nk.fit_shards(nk.load(path), [(X_TRAIN, Y_TRAIN)], executor=executor, rounds=1, resume=True)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("n_x", [None, 3])
def test_a_new_network_resumes_without_a_warning(n_x):
    """What a script does that is run for the first time: it trains as it does without resume."""
    trained = []
    for resume in (False, True):
        net = nk.Network([nk.Dense(4, "tanh"), nk.Dense(2, "softmax")], "cross_entropy", n_x=n_x, seed=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net.fit(np.eye(3), [0, 1, 0], epochs=2, resume=resume)
        trained.append(net)
    same_training(*trained)


def trained_header(good_path, change):
    """The members of a checkpoint, its header changed."""
    net = small()
    net.fit(X_TRAIN, Y_TRAIN, epochs=2, optimizer=nk.Adam(nk.schedules.Cosine(0.1, 5)))
    net.save(good_path, training_state=True)
    return with_header(good_path.read_bytes(), lambda header: change(header["training"]))


TRAININGS = {
    "no key": lambda t: t.pop("key") and None,
    "key too large": lambda t: t.update(key=2**64),
    "negative t": lambda t: t.update(t=-1),
    "t a text": lambda t: t.update(t="1"),
    "epoch a float": lambda t: t.update(epoch=1.5),
    "no entropy": lambda t: t.update(entropy=None),
    "unknown update": lambda t: t.update(state_of="lion"),
    "unknown vectors": lambda t: t.update(moments=["s1", "s3"]),
    "vectors that aren't there": lambda t: t.update(moments=["s1", "s2", "s2"]),
    "fewer vectors": lambda t: t.update(moments=["s1"]),
    "vectors a text": lambda t: t.update(moments="s1"),
    "unknown optimizer": lambda t: t["optimizer"].update(name="lion"),
    "optimizer a text": lambda t: t.update(optimizer="adam"),
    "unknown number": lambda t: t["optimizer"].update(colour=1),
    "negative rate": lambda t: t["optimizer"].update(learning_rate=-1),
    "rate a list": lambda t: t["optimizer"].update(learning_rate=[1]),
    "unknown schedule": lambda t: t["optimizer"]["learning_rate"].update(schedule="eval"),
    "schedule with a text": lambda t: t["optimizer"]["learning_rate"].update(initial="x"),
}


@pytest.mark.parametrize("change", TRAININGS.values(), ids=list(TRAININGS))
def test_states_that_are_none(tmp_path, change):
    contents = trained_header(tmp_path / "good.npz", change)
    assert_refused(write_members(tmp_path / "net.npz", contents))


def test_a_training_state_that_is_no_dict(tmp_path):
    net = small()
    net.save(tmp_path / "good.npz", training_state=True)
    contents = with_header((tmp_path / "good.npz").read_bytes(), lambda header: header.update(training=[1]))
    assert_refused(write_members(tmp_path / "net.npz", contents))


# ---- a file is written whole or not at all ----


@pytest.fixture(params=["npz", "safetensors", "onnx"])
def form(request):
    """A format that networks are written and read in."""
    if request.param != "npz":
        pytest.importorskip(request.param)
    onnx = request.param == "onnx"
    return SimpleNamespace(
        name=f"net.{request.param}",
        write="to_onnx" if onnx else "save",
        save=nk.Network.to_onnx if onnx else nk.Network.save,
        load=nk.from_onnx if onnx else nk.load,
    )


def values(net):
    return {name: a.tobytes() for name, a in net.parameters.items()}


def test_save_replaces_a_file_and_keeps_its_neighbours(tmp_path):
    path = tmp_path / "net.npz"
    path.write_bytes(b"something else")
    (tmp_path / "net.npz.tmp").write_bytes(b"not ours")
    net = small()
    net.save(path)
    assert nk.load(path) == net
    assert (tmp_path / "net.npz.tmp").read_bytes() == b"not ours"
    assert sorted(os.listdir(tmp_path)) == ["net.npz", "net.npz.tmp"]


def test_save_through_a_link_writes_the_file_it_names(tmp_path):
    (tmp_path / "models").mkdir()
    target = tmp_path / "models" / "v1.npz"
    saved(small(seed=1), target)
    link = tmp_path / "net.npz"
    link.symlink_to(target)
    net = small(seed=2)
    net.save(link)
    assert nk.load(link) == net
    assert link.is_symlink()
    assert nk.load(target) == net


def test_permissions_are_those_of_any_new_file_and_of_the_old_one(tmp_path):
    previous = os.umask(0o022)
    try:
        path = tmp_path / "net.npz"
        small().save(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        path.chmod(0o640)
        small().save(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(previous)


OTHER_ENDINGS = {
    ".onnx": ("to_onnx", "from_onnx"),
    ".pt": ("to_torch", "from_torch"),
    ".pth": ("to_torch", "from_torch"),
    ".h5": ("to_onnx", "from_onnx"),
    ".hdf5": ("to_onnx", "from_onnx"),
    ".keras": ("to_onnx", "from_onnx"),
    ".pb": ("to_onnx", "from_onnx"),
    ".tflite": ("to_onnx", "from_onnx"),
    ".pkl": ("pickle.dump", "pickle.load"),
    ".pickle": ("pickle.dump", "pickle.load"),
    ".joblib": ("joblib.dump", "joblib.load"),
    ".c": ("to_c", "nothing"),
    ".h": ("to_c", "nothing"),
}


@pytest.mark.parametrize(("ending", "words"), OTHER_ENDINGS.items(), ids=list(OTHER_ENDINGS))
@pytest.mark.parametrize("case", [str.lower, str.upper], ids=["lower", "upper"])
def test_names_of_other_formats_are_refused(tmp_path, ending, words, case):
    """An .npz under such a name would be taken for what it isn't; what is there stays."""
    path = tmp_path / f"net{case(ending)}"
    path.write_bytes(b"what was there")
    for_writing, for_reading = words
    with pytest.raises(ValueError, match=rf"save writes .*{re.escape(str(path))}.*{for_writing}"):
        small().save(path)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}.*{for_writing}"):
        nk.Checkpoint(os.fsencode(path))
    with pytest.raises(ValueError, match=rf"load reads .*{re.escape(str(path))}.*{for_reading}"):
        nk.load(path)
    assert path.read_bytes() == b"what was there"


@pytest.mark.parametrize(
    ("ending", "words"), [*OTHER_ENDINGS.items(), (".npz", ("net.save",)), (".safetensors", ("net.save",))]
)
def test_exports_refuse_the_names_of_other_formats(tmp_path, ending, words):
    net, path = small(), tmp_path / f"net{ending.upper()}"
    path.write_bytes(b"what was there")
    how = {"weights": "int8", "calibration": np.ones((net.n_x, 9))}
    exports = {"to_onnx": [net.to_onnx], "to_c": [net.to_c, functools.partial(net.to_c, **how)]}
    for name, methods in exports.items():
        if words[0] == name and ending in (".onnx", ".c", ".h"):
            continue
        for method in methods:
            with pytest.raises(ValueError, match=rf"^{name} writes .*{re.escape(str(path))} ends as .*{words[0]}"):
                method(os.fsencode(path))
    assert path.read_bytes() == b"what was there"


@pytest.mark.parametrize("name", ["net.c", "net.h", "net.H", "net.txt", "net"])
def test_names_that_a_file_of_c_may_have(tmp_path, name):
    assert small().to_c(tmp_path / name) == (tmp_path / name).read_text()


@pytest.mark.parametrize("where", ["missing/net.npz", ".", "file/net.npz"])
def test_places_that_cannot_be_written(tmp_path, where):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=re.escape(str(tmp_path))) as caught:
        small().save(tmp_path / where)
    # the name that the user gave, and not that of the file which grows beside it
    assert where == "." or caught.value.filename == str(tmp_path / where)
    assert ".tmp" not in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


def test_a_name_that_is_too_long_is_named_and_leaves_nothing(tmp_path):
    path = tmp_path / f"{'x' * 300}.npz"
    with pytest.raises(OSError, match=re.escape(f": '{path}'") + "$"):
        small().save(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("length", [200, 255])
def test_names_as_long_as_the_disk_takes(form, length):
    """In folders whose own path is short: the file beside it that grows meanwhile has a name that fits, too."""
    suffix = Path(form.name).suffix
    with tempfile.TemporaryDirectory() as folder:
        name = "x" * (length - len(suffix)) + suffix
        for net in (small(seed=1), small(seed=2)):
            form.save(net, Path(folder) / name)
            assert values(form.load(Path(folder) / name)) == values(net)
        assert os.listdir(folder) == [name]


@contextlib.contextmanager
def without_rights():
    """Root, who writes everywhere, becomes a user who doesn't."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users of POSIX")
def test_no_permission(form):
    """In a folder that isn't to be written to, with an old file and without: PermissionError, nothing changed."""
    # pytest's own folders are closed to other users
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / form.name
        form.save(small(), path)
        before = path.read_bytes()
        os.chmod(folder, 0o555)
        try:
            with without_rights():
                for name in (form.name, f"new{path.suffix}"):
                    with pytest.raises(PermissionError):
                        form.save(small(seed=1), Path(folder) / name)
                assert os.listdir(folder) == [form.name]
        finally:
            os.chmod(folder, 0o700)
        assert path.read_bytes() == before


def run(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize("error", [OSError(errno.EIO, "the source is gone", "source"), OSError(), KeyboardInterrupt()])
def test_what_fails_while_a_file_is_written_is_raised_as_it_is(tmp_path, error):
    path = tmp_path / "net.npz"
    path.write_bytes(b"before")

    def write():
        with whole_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert [file.name for file in tmp_path.iterdir()] == ["net.npz"]
    assert path.read_bytes() == b"before"


def test_no_memory_for_an_exception_is_no_damage():
    """The interpreter says so by a SystemError."""
    with pytest.raises(MemoryError, match=r"^net\.npz: error return without exception set$"), reading("net.npz"):
        raise SystemError("error return without exception set")


@linux
@pytest.mark.no_sanitizer
@pytest.mark.parametrize("limit", [0, 1, 100, 4096, 100_000, 300_000])
def test_disk_that_fills_up_keeps_the_old_file(tmp_path, form, limit):
    """RLIMIT_FSIZE stands for the full disk: the file would have 400 kB."""
    path = tmp_path / form.name
    old = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)
    form.save(old, path)
    before = path.read_bytes()
    code = """
        import resource, signal, sys
        import nnkern as nk
        net = nk.Network([nk.Dense(1000, "relu")], "squared_error", n_x=100, seed=0)
        save = getattr(net, sys.argv[3])
        save(sys.argv[4])  # with what it imports
        before = {name: a.copy() for name, a in net.parameters.items()}
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        try:
            save(sys.argv[1])
        except OSError as error:
            print(type(error).__name__)
        assert all((net.parameters[name] == a).all() for name, a in before.items())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        save(sys.argv[1] + ".2")
    """
    first = tmp_path / f"first{path.suffix}"
    done = run(code, path, limit, form.write, first)
    assert done.stdout == "OSError\n", done.stderr
    assert path.read_bytes() == before
    assert values(form.load(path)) == values(old)
    assert sorted(os.listdir(tmp_path)) == sorted([first.name, form.name, f"{form.name}.2"])


@linux
@pytest.mark.no_sanitizer
def test_killed_at_random_moments(tmp_path, form):
    """kill -9 while two networks are saved in turn: the file is one of them, whole, and the next save works."""
    path = tmp_path / form.name
    code = """
        import sys
        import nnkern as nk
        nets = [nk.Network([nk.Dense(200, "relu")], "squared_error", n_x=300, seed=seed) for seed in (0, 1)]
        getattr(nets[0], sys.argv[2])(sys.argv[1])
        print("go", flush=True)
        while True:
            for net in nets:
                getattr(net, sys.argv[2])(sys.argv[1])
    """
    nets = [nk.Network([nk.Dense(200, "relu")], "squared_error", n_x=300, seed=seed) for seed in (0, 1)]
    rng = random.Random(0)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", textwrap.dedent(code), str(path), form.write], stdout=subprocess.PIPE
        )
        try:
            assert process.stdout.readline() == b"go\n"
            time.sleep(rng.uniform(0, 0.05))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        assert process.returncode == -signal.SIGKILL
        assert values(form.load(path)) in [values(net) for net in nets]
    form.save(nets[1], path)
    assert values(form.load(path)) == values(nets[1])


# ---- file objects ----


class Trickle(io.RawIOBase):
    """Takes and gives at most 100 bytes at a time, and can't go back."""

    def __init__(self, content=b""):
        self.content = bytearray(content)

    def writable(self):
        return True

    def readable(self):
        return True

    def write(self, part):
        part = bytes(part[:100])
        self.content += part
        return len(part)

    def readinto(self, buffer):
        count = min(100, len(buffer), len(self.content))
        buffer[:count], self.content[:count] = self.content[:count], b""
        return count


class Uncounted:
    """Has no method but write, which doesn't say what it took."""

    def __init__(self):
        self.parts = []

    def write(self, part):
        self.parts.append(bytes(part))


def test_file_objects_hold_what_files_do(tmp_path):
    net = small()
    net.metadata["labels"] = ["a", "b"]
    net.fit(np.ones((3, 4)), [0, 1, 2, 3], epochs=2)
    content = saved(net, tmp_path / "net.npz")
    memory, trickle, uncounted = io.BytesIO(), Trickle(), Uncounted()
    for file in (memory, trickle, uncounted):
        net.save(file)
    assert memory.getvalue() == trickle.content == content
    assert uncounted.parts == [content]
    with open(tmp_path / "net.npz", "rb") as file:
        assert nk.load(file) == net
        assert file.read() == b""
    assert nk.load(io.BytesIO(content)).metadata == net.metadata
    net.save(state := io.BytesIO(), training_state=True)
    resumed = nk.load(io.BytesIO(state.getvalue()))
    for one in (net, resumed):
        one.fit(np.ones((3, 4)), [0, 1, 2, 3], epochs=2, resume=True)
    assert resumed == net


def test_file_objects_hold_safetensors_too(tmp_path):
    """The name or `format` says so; what is read is what is there, with state and metadata, checked as a file's is."""
    pytest.importorskip("safetensors")
    net = small()
    net.metadata["labels"] = ["a", "b"]
    net.fit(np.ones((3, 4)), [0, 1, 2, 3], epochs=2, optimizer="adam")
    path = tmp_path / "net.safetensors"
    content = saved(net, path)
    memory, trickle, uncounted = io.BytesIO(), Trickle(), Uncounted()
    for file in (memory, trickle, uncounted):
        net.save(file, format="safetensors")
    assert memory.getvalue() == trickle.content == content
    assert uncounted.parts == [content]
    with open(tmp_path / "named.safetensors", "w+b") as file:
        net.save(file)
        file.seek(0)
        assert nk.load(file) == net
        assert file.read() == b""
        file.seek(0)
        net.save(file, format="npz")
        file.truncate()
        file.seek(0)
        assert file.read(2) == b"PK"
        file.seek(0)
        assert nk.load(file) == net
    assert (tmp_path / "named.safetensors").read_bytes() == saved(net, tmp_path / "net.npz")
    behind = io.BytesIO(b"something before" + content)
    behind.seek(16)
    assert nk.load(behind).metadata == net.metadata
    net.save(state := io.BytesIO(), training_state=True, format="safetensors")
    same_training(nk.load(io.BytesIO(state.getvalue())), net)
    net64 = nk.Network([nk.Dense(2)], "squared_error", n_x=3, dtype="float64", seed=0)
    net64.save(file := io.BytesIO(), format="safetensors")
    assert nk.load(io.BytesIO(file.getvalue())) == net64


def test_damaged_safetensors_in_a_file_object(tmp_path):
    pytest.importorskip("safetensors")
    content = saved(small(), tmp_path / "net.safetensors")
    flipped = bytearray(content)
    flipped[-1] ^= 1
    for bad, words in (
        (content[:-1], "^the BytesIO is no model file, or a damaged one"),
        (content + b"more", "^the BytesIO is no model file, or a damaged one"),
        (content[:20], "^the BytesIO is no model file, or a damaged one"),
        (bytes(flipped), "^the BytesIO: .* doesn't match its checksum"),
    ):
        with pytest.raises(nk.ModelFormatError, match=words):
            nk.load(io.BytesIO(bad))
    from safetensors.numpy import save

    with pytest.raises(nk.ModelFormatError, match=r"^the BytesIO: its metadata has no header of nnkern"):
        nk.load(io.BytesIO(save({"a": np.ones(3)})))
    many = b'{"a":[' + b"[]," * 100000 + b"[]]}"
    with pytest.raises(nk.ModelFormatError, match="it describes more parts than a file of"):
        nk.load(io.BytesIO(struct.pack("<Q", len(many)) + many))


def test_formats_that_a_name_or_a_caller_gets_wrong(tmp_path):
    for name, form in (("net.npz", "safetensors"), ("net", "safetensors"), ("net.safetensors", "npz")):
        with pytest.raises(ValueError, match=rf"^format is '{form}', and the name .*{name} says that it is another"):
            small().save(tmp_path / name, format=form)
    with pytest.raises(ValueError, match=r"format must be .*npz.*safetensors.*zip"):
        small().save(io.BytesIO(), format="zip")
    assert os.listdir(tmp_path) == []
    small().save(tmp_path / "net.npz", format="npz")
    assert nk.load(tmp_path / "net.npz") == small()


def test_a_file_object_is_read_from_where_it_stands(good, tmp_path):
    file = io.BytesIO(b"something before" + good)
    file.seek(16)
    assert nk.load(file) == nk.load(io.BytesIO(good))
    file = io.BytesIO()
    small().save(file)
    with pytest.raises(
        nk.ModelFormatError, match=rf"the BytesIO stands at its end, {len(file.getvalue())}: file\.seek"
    ):
        nk.load(file)
    file.seek(0)
    assert nk.load(file) == small()


def test_file_objects_that_will_not_do(good, tmp_path):
    path = tmp_path / "net.npz"
    path.write_bytes(good)
    with pytest.raises(ValueError, match=r"the Trickle can't: read all of it first, nnkern\.load\(io\.BytesIO"):
        nk.load(Trickle(good))
    assert nk.load(io.BytesIO(Trickle(good).read())) == nk.load(path)
    text = rf"{re.escape(str(path))} is open for text, and a model is bytes: open it with mode 'rb' or 'wb'"
    for call in (nk.load, small().save):
        with open(path) as file, pytest.raises(TypeError, match=text):
            call(file)
        with pytest.raises(TypeError, match="expected a path, or a file object that is open in binary mode; got 3"):
            call(3)
    with pytest.raises(ValueError, match=r"the Uncounted isn't open for reading: open it with mode 'rb'"):
        nk.load(Uncounted())
    with open(path, "ab") as file, pytest.raises(ValueError, match="isn't open for reading"):
        nk.load(file)
    with open(path, "rb") as file, pytest.raises(OSError, match="write"):
        small().save(file)
    assert path.read_bytes() == good
    with pytest.raises(nk.ModelFormatError, match=r"^the BytesIO"):
        nk.load(io.BytesIO(b"no model"))


def test_what_cannot_be_saved_writes_nothing_to_a_file_object():
    net, file = small(), io.BytesIO()
    net.metadata["labels"] = {1, 2}
    with pytest.raises(ValueError, match="metadata must be what JSON can hold"):
        net.save(file)
    assert file.getvalue() == b""


# ---- bad files ----


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a model file."""
    net = small()
    net.metadata["labels"] = ["a", "b", "c", "d"]
    return saved(net, tmp_path_factory.mktemp("good") / "net.npz")


def assert_refused(path, *words):
    with pytest.raises(nk.ModelFormatError) as caught:
        nk.load(path)
    assert isinstance(caught.value, ValueError)
    message = str(caught.value)
    assert len(message) > 10
    without_path = message.replace(str(path), "")  # which holds the test's name
    for word in words:
        assert word in without_path
    if path.is_file() and path.suffix != ".safetensors":
        # a file object is trusted no more, and stands afterwards where it stood
        file = io.BytesIO(path.read_bytes())
        with pytest.raises(nk.ModelFormatError) as of_object:
            nk.load(file)
        assert str(of_object.value).replace("the BytesIO", "") == without_path
        assert file.tell() == 0
    return message


def members(good):
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def npy(array, *, allow_pickle=False):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=allow_pickle)
    return file.getvalue()


def read_header(contents):
    return json.loads(np.load(io.BytesIO(contents["header.npy"])).tobytes())


def with_header(good, change):
    """The members of a good file, its header changed by a function that works in place (or returns a new one)."""
    contents = members(good)
    header = read_header(contents)
    header = change(header) or header
    contents["header.npy"] = npy(np.frombuffer(json.dumps(header).encode(), np.uint8))
    return contents


def test_rewritten_members_load(good, tmp_path):
    """What the tests below change one thing of is good before."""
    assert nk.load(write_members(tmp_path / "net.npz", with_header(good, lambda header: None))) is not None


def test_every_truncation(good, tmp_path):
    path = tmp_path / "net.npz"
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        assert_refused(path)


def test_something_appended_or_prepended(good, tmp_path):
    """Zip allows it: the network or a ModelFormatError, nothing else."""
    path = tmp_path / "net.npz"
    expected = small()
    expected.metadata["labels"] = ["a", "b", "c", "d"]
    for content in (good + b"\0" * 100, b"junk" + good, good + good):
        path.write_bytes(content)
        with contextlib.suppress(nk.ModelFormatError):
            assert nk.load(path) == expected


@st.composite
def flipped_bits(draw, good):
    """(positions, content): up to four bytes of the content hit."""
    flips = draw(st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(1, 255)), min_size=1, max_size=4))
    content = bytearray(good)
    for position, mask in flips:
        content[position] ^= mask
    return [position for position, _ in flips], bytes(content)


def loaded_unless_refused(path, content):
    """The network that a file of this content holds, or None where it isn't taken."""
    path.write_bytes(content)
    try:
        return nk.load(path)
    except nk.ModelFormatError:
        return None


@fuzzing
@given(data=st.data())
def test_bits_flipped_anywhere(good, tmp_path, data):
    """A network or a ModelFormatError. Where a parameter's bytes were hit, the checksum tells."""
    _, content = data.draw(flipped_bits(good))
    net = loaded_unless_refused(tmp_path / "net.npz", content)
    if net is not None:
        assert all(net.parameters[name].tobytes() == a.tobytes() for name, a in small().parameters.items())


@fuzzing
@given(data=st.data())
def test_bytes_inserted_and_cut_out_anywhere(good, tmp_path, data):
    """Whatever the places that the archive names are then, before its start among them."""
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        count = data.draw(st.integers(1, 40))
        if data.draw(st.booleans()):
            del content[position : position + count]
        else:
            content[position:position] = content[-count:]
    net = loaded_unless_refused(tmp_path / "net.npz", content)
    if net is not None:
        assert all(net.parameters[name].tobytes() == a.tobytes() for name, a in small().parameters.items())


def test_every_byte_of_the_parameters_is_checked(good, tmp_path):
    path = tmp_path / "net.npz"
    for name, a in small().parameters.items():
        member = members(good)[f"{name}.npy"]
        start = good.find(member)
        assert start > 0
        for position in range(start + len(member) - a.nbytes, start + len(member)):
            path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
            assert_refused(path)


@fuzzing
@given(data=st.data())
def test_members_changed_under_a_right_checksum(good, tmp_path, data):
    """What a bit flip can't reach: bytes changed inside a member, and the archive written anew."""
    contents = members(good)
    name = data.draw(st.sampled_from(sorted(contents)))
    content = bytearray(contents[name])
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "empty"]))
    position = data.draw(st.integers(0, len(content) - 1))
    if kind == "flip":
        content[position] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del content[position:]
    elif kind == "insert":
        content[position:position] = data.draw(st.binary(min_size=1, max_size=20))
    else:
        content.clear()
    path = write_members(tmp_path / "net.npz", {**contents, name: bytes(content)})
    try:
        net = nk.load(path)
    except nk.ModelFormatError:
        return
    assert isinstance(net, nk.Network)
    net.predict(np.ones((net.n_x, 2)))
    net.summary()


FOREIGN = {
    "empty": b"",
    "text": b"hello, world\n" * 10,
    "zeros": bytes(1000),
    "pickle": pickle.dumps({"W1": np.ones(3)}),
    "zip end record alone": b"PK\x05\x06" + bytes(18),
    "zip start alone": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=list(FOREIGN))
def test_foreign_files(tmp_path, content):
    path = tmp_path / "net.npz"
    path.write_bytes(content)
    assert_refused(path)


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_foreign_files_of_numpy(tmp_path, save):
    save(tmp_path / "net", np.ones((3, 4)))
    (path,) = tmp_path.iterdir()
    assert_refused(path)


def test_foreign_zip_files(tmp_path):
    assert_refused(write_members(tmp_path / "a.zip", {}))
    assert_refused(write_members(tmp_path / "b.zip", {"readme.txt": b"hello"}), "unexpected member 'readme.txt'")
    assert_refused(write_members(tmp_path / "none.zip", {"W1.npy": npy(np.ones(3))}), "it has no header")
    assert_refused(write_members(tmp_path / "c.zip", {"header.npy": b"hello"}))
    assert_refused(write_members(tmp_path / "d.zip", {"header.npy": npy(np.frombuffer(b"{}", np.uint8))}))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        nk.load(tmp_path / "missing.npz")
    with pytest.raises(IsADirectoryError):
        nk.load(tmp_path)


@linux
@pytest.mark.parametrize("name", ["net.npz", "net.safetensors"])
@pytest.mark.parametrize("kind", ["a FIFO", "a link to a FIFO", "a link to a device", "a socket"])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a link to a FIFO":
        os.mkfifo(tmp_path / "fifo")
        path.symlink_to(tmp_path / "fifo")
    elif kind == "a link to a device":
        path.symlink_to("/dev/zero")
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(os.path.relpath(path))
        sock.close()
    code = """
        import signal, sys
        import nnkern as nk
        signal.alarm(20)
        try:
            nk.load(sys.argv[1])
        except nk.ModelFormatError as error:
            print(error)
    """
    done = run(code, path)
    assert f"{path} is no regular file" in done.stdout, done


class Bomb:
    """Pickled, it writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["header.npy", "W1.npy", "b2.npy"])
def test_arrays_that_are_not_what_they_say(good, tmp_path, name):
    for content, words in (
        (b"\x93NUMPY\x03\x00" + npy(np.ones(3))[8:], f"{name[:-4]} has the .npy version (3, 0)"),
        (npy_header((5, 2**28)) + bytes(60), f"{name[:-4]} claims shape (5, 268435456) of float32, but has 60 bytes"),
    ):
        assert_refused(write_members(tmp_path / "net.npz", {**members(good), name: content}), words)


@pytest.mark.parametrize("name", ["header.npy", "W1.npy", "b2.npy"])
def test_pickled_objects_are_not_unpickled(good, tmp_path, name):
    trap = tmp_path / "trap"
    array = np.empty((1,), object)
    array[0] = Bomb(trap)
    pickled = npy(array, allow_pickle=True)
    np.load(io.BytesIO(pickled), allow_pickle=True)[0].close()
    assert trap.exists()  # the trap works
    trap.unlink()
    assert_refused(write_members(tmp_path / "net.npz", {**members(good), name: pickled}))
    path = tmp_path / "pickle.npz"
    path.write_bytes(pickle.dumps(Bomb(trap)))
    assert_refused(path)
    assert not trap.exists()


@pytest.mark.parametrize("version", [2, 3, 1000])
def test_newer_version(good, tmp_path, version):
    path = write_members(tmp_path / "net.npz", with_header(good, lambda h: h.update(version=version)))
    present = read_header(members(good))["version"]
    message = assert_refused(path, str(version), "version")
    assert str(present) in message.replace(str(version), "")


def test_newer_version_with_another_header_still_says_so(good, tmp_path):
    """What a later version adds or drops must not hide the reason."""
    name = read_header(members(good))["format"]
    header = {"format": name, "version": 9, "something": "new"}
    assert_refused(write_members(tmp_path / "net.npz", with_header(good, lambda _: header)), "9", "version")


@pytest.mark.parametrize("version", [0, -1, 1.5, "1", None, True, [1], 10**30])
def test_versions_that_are_none(good, tmp_path, version):
    assert_refused(write_members(tmp_path / "net.npz", with_header(good, lambda h: h.update(version=version))))


HEADERS = {
    "no header": lambda h: {"nothing": 1},
    "another format": lambda h: h.update(format="other"),
    "no config": lambda h: h.pop("config") and None,
    "config is a list": lambda h: h.update(config=[1]),
    "no layers": lambda h: h["config"].update(layers=[]),
    "layers are numbers": lambda h: h["config"].update(layers=[1, 2]),
    "one layer too many": lambda h: h["config"]["layers"].append(h["config"]["layers"][0]),
    "one layer fewer": lambda h: h["config"]["layers"].pop() and None,
    "other units": lambda h: h["config"]["layers"][0].update(units=6),
    "huge units": lambda h: h["config"]["layers"][0].update(units=2**62),
    "negative units": lambda h: h["config"]["layers"][0].update(units=-5),
    "units as text": lambda h: h["config"]["layers"][0].update(units="5"),
    "unknown activation": lambda h: h["config"]["layers"][0].update(activation="sin"),
    "unknown option of a layer": lambda h: h["config"]["layers"][0].update(color="red"),
    "unknown option": lambda h: h["config"].update(color="red"),
    "parameters in the configuration": lambda h: h["config"].update(parameters={}),
    "dropout of 2": lambda h: h["config"]["layers"][0].update(dropout=2),
    "unknown loss": lambda h: h["config"].update(loss="l3"),
    "loss of another output": lambda h: h["config"].update(loss="binary_cross_entropy"),
    "unknown dtype": lambda h: h["config"].update(dtype="float16"),
    "another dtype": lambda h: h["config"].update(dtype="float64"),
    "object dtype": lambda h: h["config"].update(dtype="object"),
    "l2 NaN": lambda h: h["config"].update(l2=float("nan")),
    "l2 negative": lambda h: h["config"].update(l2=-1),
    "seed as text": lambda h: h["config"].update(seed="x"),
    "n_x of another size": lambda h: h.update(n_x=4),
    "n_x huge": lambda h: h.update(n_x=2**62),
    "n_x 0": lambda h: h.update(n_x=0),
    "n_x None": lambda h: h.update(n_x=None),
    "n_x text": lambda h: h.update(n_x="3"),
    "n_x true": lambda h: h.update(n_x=True),
    "metadata is a list": lambda h: h.update(metadata=[1]),
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=list(HEADERS))
def test_headers_that_are_wrong(good, tmp_path, change):
    assert_refused(write_members(tmp_path / "net.npz", with_header(good, change)))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000],
    ids=["empty", "cut", "null", "list", "text", "no UTF-8", "deep lists", "deep dicts", "long number"],
)
def test_headers_that_are_no_json(good, tmp_path, text):
    header = npy(np.frombuffer(text, np.uint8))
    assert_refused(write_members(tmp_path / "net.npz", {**members(good), "header.npy": header}))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("more", ['"metadata": {"a": [0.5, NUMBER]}', '"more": NUMBER'], ids=["metadata", "elsewhere"])
def test_numbers_that_are_not_finite_in_a_header(good, tmp_path, number, more):
    """Saving refuses them, so no file has them."""
    contents = members(good)
    header = np.load(io.BytesIO(contents["header.npy"])).tobytes()

    def path(number):
        text = header[:-1] + f", {more.replace('NUMBER', number)}}}".encode()
        return write_members(tmp_path / "net.npz", contents | {"header.npy": npy(np.frombuffer(text, np.uint8))})

    assert_refused(path(number), number)
    assert nk.load(path("1e99")).n_x == 3


def test_more_layers_than_arrays(good, tmp_path):
    """A layer has one array at least, so that a short file can't make Python hold many layers."""
    contents = with_header(good, lambda h: h["config"].update(layers=100 * h["config"]["layers"]))
    assert_refused(write_members(tmp_path / "net.npz", contents), "it describes 200 layers, and holds 4 arrays")


ARRAYS = {
    "missing": None,
    "transposed": np.zeros((3, 5), "f4"),
    "flat": np.zeros(15, "f4"),
    "smaller": np.zeros((5, 2), "f4"),
    "number": np.float32(1),
    "float64": np.zeros((5, 3), "f8"),
    "integers": np.zeros((5, 3), "i4"),
    "complex": np.zeros((5, 3), "c8"),
    "strings": np.full((5, 3), "a"),
    "records": np.zeros((5, 3), [("x", "f4")]),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=list(ARRAYS))
def test_layer_shapes_that_do_not_chain(good, tmp_path, array):
    contents = members(good)
    if array is None:
        del contents["W1.npy"]
    else:
        contents["W1.npy"] = npy(array)
    assert_refused(write_members(tmp_path / "net.npz", contents), "W1")


def test_arrays_that_nobody_asked_for(good, tmp_path):
    """Ignored or refused, never loaded."""
    path = write_members(tmp_path / "net.npz", {**members(good), "W3.npy": npy(np.zeros((2, 2), "f4"))})
    with contextlib.suppress(nk.ModelFormatError):
        assert set(nk.load(path).parameters) == {"W1", "b1", "W2", "b2"}


# ---- no memory beyond a small multiple of the file ----


@linux
@pytest.mark.no_sanitizer
def test_peaks_of_memory_show():
    """100 MB, held for a moment by a child of a process that has held 300 MB itself: the tests below can fail."""
    bytearray(b"1" * 300 * 2**20)
    code = """
        import numpy as np
        import nnkern as nk
        before = peak_bytes()
        bytearray(b"1") * (100 * 2**20)
        print(peak_bytes() - before)
    """
    assert 95 * 2**20 < int(run(measured(code)).stdout) < 110 * 2**20


def npy_header(shape, dtype="<f4"):
    """The start of an .npy file of that shape, without its data."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def huge(good, n_x):
    """A file that says W1 is (5, n_x), everywhere where it can say so, and has no such data."""
    contents = with_header(good, lambda h: h.update(n_x=n_x))
    contents["W1.npy"] = npy_header((5, n_x)) + bytes(60)
    return contents


def bomb(good):
    """A file of 300 kB whose W1 is 300 MB of deflated zeros, as its header says too."""
    n_x = 15_000_000
    contents = with_header(good, lambda h: h.update(n_x=n_x))
    contents["W1.npy"] = npy_header((5, n_x)) + bytes(20 * n_x)
    return contents


def long_header(good):
    return {**members(good), "header.npy": npy_header((2**34,), "|u1") + b"{}"}


def test_members_that_claim_other_sizes(good, tmp_path):
    """Other sizes in the archive's directory (PK 1 2: what it takes there, 4 bytes at 20; unpacked, 4 bytes at 24)."""
    first = good.index(b"PK\x01\x02")
    for at, size in ((20, 7), (24, 2**31)):
        content = bytearray(good)
        content[first + at : first + at + 4] = size.to_bytes(4, "little")
        (tmp_path / "net.npz").write_bytes(content)
        assert_refused(tmp_path / "net.npz", "claims")


def shared(path, count):
    """A file of `count` layers whose weights are one block of bytes: a member's data starts after those of the others.

    Everything between a member's own header and the block is, to it, an extra field, which has 64 kB at most.
    """
    block = npy(np.zeros((512, 512), "f4"))
    layers = [{"units": 512, "activation": "linear", "use_bias": False}] * count
    config = nk.Network([nk.Dense(1)], "squared_error").config() | {"layers": layers}
    header = {"format": "nnkern network", "version": 1, "config": config, "n_x": 512, "metadata": {}}
    header = npy(np.frombuffer(json.dumps(header).encode(), np.uint8))
    names = [f"W{l}.npy".encode() for l in range(1, count + 1)]
    before = sum(30 + len(name) for name in names)
    content, directory = b"", b""
    for name, data in [*((name, block) for name in names), (b"header.npy", header)]:
        before = before - 30 - len(name) if data is block else 0
        facts = struct.pack("<HHHHHIII", 20, 0, 0, 0, 33, zlib.crc32(data), len(data), len(data))
        directory += b"PK\1\2\x14\0" + facts + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, len(content)) + name
        content += b"PK\3\4" + facts + struct.pack("<HH", len(name), before) + name
        content += data if before == 0 else b""
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count + 1, count + 1, len(directory), len(content), 0)
    path.write_bytes(content + directory + end)
    return path


def test_a_member_after_the_other_loads(tmp_path):
    """What the next test has two hundred of is good where there is one."""
    assert nk.load(shared(tmp_path / "net.npz", 1)).layers[0].units == 512


@linux
@pytest.mark.no_sanitizer
def test_members_that_share_their_bytes_take_no_memory(tmp_path):
    path = shared(tmp_path / "net.npz", 200)
    assert_refused(path, "overlaps")
    assert memory_of_a_refusal(path, "import zipfile, json") < 2 * path.stat().st_size + 2**23


def test_an_error_of_the_disk_is_no_error_of_the_file(good, tmp_path, monkeypatch):
    """OSError, not ModelFormatError: another try may succeed."""
    path = tmp_path / "net.npz"
    path.write_bytes(good)

    def broken(archive, name):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(zipfile.ZipFile, "read", broken)
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.EIO))):
        nk.load(path)


def crowd(path):
    """A directory of 200,000 members, and nothing else."""
    entry = b"PK\1\2\x14\0" + struct.pack("<HHHHHIII", 20, 0, 0, 0, 33, 0, 0, 0)
    directory = b"".join(
        entry + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
        for name in (f"{i:x}.npy".encode() for i in range(200_000))
    )
    size = struct.pack("<QQQQ", 200_000, 200_000, len(directory), 0)
    end = b"PK\6\6" + struct.pack("<QHHII", 44, 45, 45, 0, 0) + size
    locator = b"PK\6\7" + struct.pack("<IQI", 0, len(directory), 1)
    last = struct.pack("<IHHHHIIH", 0x06054B50, *[2**16 - 1] * 4, *[2**32 - 1] * 2, 0)
    path.write_bytes(directory + end + locator + last)
    return path


HOSTILE = {
    "more than there is": lambda good, path: write_members(path, huge(good, 2**28)),
    "more than there can be": lambda good, path: write_members(path, huge(good, 2**61)),
    "deflated zeros": lambda good, path: write_members(path, bomb(good), zipfile.ZIP_DEFLATED),
    "a header longer than the file": lambda good, path: write_members(path, long_header(good)),
}


def memory_of_a_refusal(path, first, loaded="sys.argv[1]"):
    """Bytes by which the peak grows while a file is refused, after the statement `first`."""
    code = f"""
        import sys
        import nnkern as nk
        {first}
        before = peak_bytes()
        try:
            nk.load({loaded})
        except nk.ModelFormatError as error:
            print(peak_bytes() - before)
    """
    done = run(measured(code), path)
    assert done.returncode == 0, done.stderr
    assert done.stdout, "no ModelFormatError"
    return int(done.stdout)


@linux
@pytest.mark.no_sanitizer
@pytest.mark.parametrize("make", HOSTILE.values(), ids=list(HOSTILE))
@pytest.mark.parametrize("loaded", ["sys.argv[1]", "open(sys.argv[1], 'rb')"], ids=["path", "file object"])
def test_hostile_sizes_take_no_memory(good, tmp_path, make, loaded):
    path = make(good, tmp_path / "net.npz")
    size = path.stat().st_size
    assert memory_of_a_refusal(path, "import zipfile, json", loaded) < 8 * size + 2**23


@linux
@pytest.mark.no_sanitizer
def test_a_directory_of_many_members_takes_a_multiple_of_its_size(tmp_path):
    path = crowd(tmp_path / "net.npz")
    assert_refused(path, "its directory is at 0")
    assert memory_of_a_refusal(path, "import zipfile, json") < 20 * path.stat().st_size + 2**23


def safetensors_of(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def claims(n, count=1):
    """A .safetensors file of `count` layers that says, wherever it can, that W1 is (n, n), and has 60 bytes of it."""

    def make(path):
        layers = [{"units": n, "activation": "linear", "use_bias": False}] * count
        config = nk.Network([nk.Dense(1)], "squared_error").config() | {"layers": layers}
        own = {"format": "nnkern network", "version": 1, "config": config, "n_x": n, "metadata": {}}
        metadata = {"nnkern": json.dumps(own | {"crc32": {"0.weight": 0}})}
        end = min(4 * n * n, 60) if count > 1 else 4 * n * n
        tensor = {"dtype": "F32", "shape": [n, n], "data_offsets": [0, end]}
        return safetensors_of(path, {"__metadata__": metadata, "0.weight": tensor}, bytes(min(end, 60)))

    return make


def crowded(path):
    """A file whose own JSON has a million entries that nobody asks for."""
    return safetensors_of(path, {"__metadata__": {f"{i:x}": "" for i in range(10**6)}})


def empty_tensors(path):
    tensors = {f"{i:x}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(200_000)}
    return safetensors_of(path, {"__metadata__": {"nnkern": "{}"}} | tensors)


HOSTILE_TENSORS = {
    "a million texts": crowded,
    "200,000 tensors of nothing": empty_tensors,
    "more than there is": claims(2**14),
    "more than there can be": claims(2**30),
    "a header of 1 GB": lambda path: path.write_bytes(struct.pack("<Q", 2**30) + b"{}" + bytes(100)) and path,
    "20,000 layers without numbers": claims(1, 20_000),
}


@linux
@pytest.mark.no_sanitizer
@pytest.mark.parametrize("make", HOSTILE_TENSORS.values(), ids=list(HOSTILE_TENSORS))
def test_hostile_sizes_in_safetensors_take_no_memory(tmp_path, make):
    pytest.importorskip("safetensors")
    path = make(tmp_path / "net.safetensors")
    small = tmp_path / "small.safetensors"
    nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0).save(small)
    assert memory_of_a_refusal(path, f"nk.load({str(small)!r})") < 20 * path.stat().st_size + 2**23


PARTS = {
    "empty lists": lambda n: "[" + ",".join(["[]"] * n) + "]",
    "lists of one": lambda n: "[" + ",".join(["[[]]"] * n) + "]",
    "empty dicts": lambda n: "[" + ",".join(["{}"] * n) + "]",
    "small dicts": lambda n: "[" + ",".join(['{"a":{}}'] * n) + "]",
    "dicts of other keys": lambda n: "[" + ",".join(f'{{"{i:x}":{{}}}}' for i in range(n)) + "]",
    "many keys": lambda n: "{" + ",".join(f'"{i:x}":[]' for i in range(n)) + "}",
    "short texts": lambda n: "[" + ",".join(['"ab"'] * n) + "]",
    "a wide text": lambda n: '"\U00010000' + "x" * 5 * n + '"',
    "numbers": lambda n: "[" + ",".join(["999"] * n) + "]",
    "floats": lambda n: "[" + ",".join(["0.5"] * n) + "]",
    "text that looks like lists": lambda n: '"' + "[]," * n + '"',
    "a text without an end": lambda n: '"' + '\\"' * n,
}


def of_parts(path, text):
    """A file whose metadata is {"a": text}, by its own header where it is an .npz, else in both of its headers."""
    header = f'{{"format": "nnkern network", "version": 1, "metadata": {{"a": {text}}}}}'
    if path.suffix == ".npz":
        return write_members(path, {"header.npy": npy(np.frombuffer(header.encode(), np.uint8))})
    return safetensors_of(path, {"__metadata__": {"nnkern": header}})


@linux
@pytest.mark.no_sanitizer
@pytest.mark.parametrize("make", PARTS.values(), ids=list(PARTS))
def test_headers_of_many_parts_take_a_multiple_of_their_size(path, make):
    """A million of them; refused for their number, or for what is missing beside them."""
    of_parts(path, make(1000 if make is PARTS["a text without an end"] else 10**6))
    small().save(path.with_name(f"small{path.suffix}"))
    assert (
        memory_of_a_refusal(path, f"nk.load({str(path.with_name(f'small{path.suffix}'))!r})")
        < 20 * path.stat().st_size + 2**23
    )


def test_metadata_that_could_not_be_loaded_is_not_saved(path):
    net = small()
    before = saved(net, path)
    net.metadata["parts"] = [{}] * 200_000
    with pytest.raises(ValueError, match="metadata must take at most 16 times the file's size"):
        net.save(path)
    assert path.read_bytes() == before


METADATA = {
    "class names": lambda: [f"class {i}" for i in range(200_000)],
    "short names": lambda: ["ab"] * 200_000,
    "column names and numbers": lambda: {f"column_{i}": [i / 3, i / 7] for i in range(50_000)},
    "a history": lambda: [{"epoch": i, "cost": 1 / (i + 1), "val_cost": 2 / (i + 1)} for i in range(50_000)],
    "numbers": lambda: list(range(1000)) * 300,
    "a text of commas": lambda: ",[{" * 500_000,
    "JSON in a text": lambda: json.dumps({str(i): [i] for i in range(100_000)}),
}


@pytest.mark.parametrize("make", METADATA.values(), ids=list(METADATA))
def test_metadata_as_users_have_it_comes_back(path, make):
    net = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)
    net.metadata["all"] = make()
    assert_round_trip(net, path)


@linux
@pytest.mark.no_sanitizer
def test_files_of_many_small_layers_take_a_multiple_of_their_size(path):
    """A layer is described in some hundred bytes; what Python keeps of it is 20 times as much at most."""
    nk.Network([nk.Dense(1) for _ in range(5000)], "squared_error", n_x=1, seed=0).save(path)
    code = """
        import sys
        import nnkern as nk
        before = peak_bytes()
        assert nk.load(sys.argv[1]).L == 5000
        print(peak_bytes() - before)
    """
    done = run(measured(code), path)
    assert int(done.stdout) < 20 * path.stat().st_size + 2**23, done.stderr


@linux
@pytest.mark.no_sanitizer
def test_good_files_take_little_memory(tmp_path):
    """40 MB on disk: the parameters themselves, and no more than two copies beside them."""
    path = tmp_path / "net.npz"
    nk.Network([nk.Dense(1000, "relu")], "squared_error", n_x=10_000, seed=0).save(path)
    code = """
        import sys
        import nnkern as nk
        nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0).save(sys.argv[1] + ".small")
        nk.load(sys.argv[1] + ".small")
        before = peak_bytes()
        net = nk.load(sys.argv[1])
        print(peak_bytes() - before)
    """
    done = run(measured(code), path)
    assert int(done.stdout) < 3.2 * path.stat().st_size, done.stderr


LIMITED = """
import os, traceback
import numpy as np
import nnkern as nk

def bits(net):
    return {name: a.tobytes() for name, a in net.parameters.items()}

def source(error):
    "Whether the line that raised it is the engine's or in a file of Python."
    file = os.path.basename(traceback.extract_tb(error.__traceback__)[-1].filename)
    return "engine" if file.endswith((".pyx", ".pxi")) else file

"""


@linux
@pytest.mark.no_sanitizer
def test_out_of_memory_is_a_memory_error_and_leaves_the_network():
    """Activations that can't be had, in the engine: MemoryError, the network as before, the process alive.

    The operands are there before the limit is set. Of the layers' activations a chunk of 4096 examples has 64 MB.
    """
    code = """
        net = nk.Network([nk.Dense(2000, "tanh"), nk.Dense(1)], "squared_error", n_x=10, dtype="float64", seed=0)
        X, Y = np.ones((10, 8192)), np.zeros((1, 8192))
        net.fit(X[:, :100], Y[:, :100], epochs=1)
        before = bits(net)
        wide = nk.Network([nk.Dense(2000)], "squared_error", n_x=10, dtype="float64", seed=0)
        wide.predict(X[:, :100])
        of_wide = bits(wide)
        limit_memory(2**25)
        calls = {
            "initialize": lambda: nk.Network([nk.Dense(20_000), nk.Dense(20_000)], "squared_error", n_x=10, seed=0),
            "predict": lambda: wide.predict(X),
            "forward": lambda: net.forward(X),
            "fit": lambda: net.fit(X, Y, epochs=1, batch_size=None),
        }
        for name, call in calls.items():
            try:
                call()
            except MemoryError as error:
                print(name, source(error))
        assert (X == 1).all() and (Y == 0).all()
        assert bits(net) == before
        assert bits(wide) == of_wide
        net.fit(X[:, :100], Y[:, :100], epochs=1)
        assert bits(net) != before
    """
    done = run(measured(LIMITED + textwrap.dedent(code)))
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first.startswith("initialize ")  # where numpy draws the weights
    assert others == [f"{call} engine" for call in ("predict", "forward", "fit")]


@linux
@pytest.mark.no_sanitizer
@pytest.mark.own_kernels
def test_out_of_memory_while_loading_is_a_memory_error(path):
    """Also where a module that is imported then finds no room, by numpy too; in a process for each limit.

    Python's small objects have room of their own: CPython 3.11, on its way to an exception's handler, makes a number
    of where it is, and where there is no memory for that, starts on its way again, for good.
    """
    small().save(path)
    code = """
        import logging, os, signal, sys
        logging.disable()
        objects = [bytes(400) for _ in range(40_000)]
        objects = objects[::500]  # which keep the memory that the others leave

        def outcome(more):
            child = os.fork()
            if child:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            signal.alarm(60)
            limit_memory(more)
            try:
                nk.load(sys.argv[1])
            except MemoryError:
                os._exit(1)
            except BaseException as error:
                os.write(1, repr(error).encode())
                os._exit(2)
            os._exit(0)

        for more in range(0, 12 * 2**20, 3 * 2**16):
            print(outcome(more), flush=True)
    """
    done = run(measured(LIMITED + textwrap.dedent(code)), path)
    assert done.returncode == 0, done.stderr
    outcomes = done.stdout.splitlines()
    assert set(outcomes) == {"0", "1"}, outcomes
    assert outcomes[-1] == "0"


@linux
@pytest.mark.no_sanitizer
def test_out_of_memory_amid_training_leaves_the_last_whole_epoch():
    """The third epoch takes a step, then has a batch whose activations, 60 MB, can't be had."""
    code = """
        rng = np.random.default_rng(0)
        first, second, large = (
            (rng.standard_normal((64, m), np.float32), rng.integers(0, 10, m)) for m in (64, 64, 60_000)
        )

        class Batches:
            def __init__(self, bad_epoch):
                self.epoch, self.bad_epoch = 0, bad_epoch

            def __iter__(self):
                self.epoch += 1
                yield first
                yield large if self.epoch == self.bad_epoch else second

        def network():
            return nk.Network([nk.Dense(256, "relu"), nk.Dense(10, "softmax")], "cross_entropy", n_x=64, seed=0)

        def trained(epochs):
            net = network()
            net.fit(Batches(None), epochs=epochs, optimizer=nk.Adam())
            return net

        net, two_epochs = network(), trained(2)
        assert bits(two_epochs) != bits(trained(1))
        batches = Batches(3)
        limit_memory(3 * 2**23)
        try:
            net.fit(batches, epochs=5, optimizer=nk.Adam())
        except MemoryError as error:
            print(batches.epoch, source(error))
        assert bits(net) == bits(two_epochs)
        assert all(np.isfinite(a).all() for a in net.parameters.values())
        net.partial_fit(*first)
        assert bits(net) != bits(two_epochs)
    """
    done = run(measured(LIMITED + textwrap.dedent(code)))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 engine\n"


# ---- .safetensors ----


@pytest.fixture(scope="module")
def good_tensors(tmp_path_factory):
    """The bytes of a .safetensors file with a training state."""
    pytest.importorskip("safetensors")
    net = small()
    net.fit(X_TRAIN, Y_TRAIN, epochs=1, optimizer="adam")
    path = tmp_path_factory.mktemp("good") / "net.safetensors"
    net.save(path, training_state=True)
    return path.read_bytes()


def split_tensors(content):
    """(header as a dict, nnkern's own in it, data)"""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["nnkern"]), content[8 + length :]


def join_tensors(path, header, own, data):
    if own is not None:
        header["__metadata__"]["nnkern"] = own if isinstance(own, str) else json.dumps(own)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_rejoined_tensors_load(good_tensors, tmp_path):
    assert nk.load(join_tensors(tmp_path / "net.safetensors", *split_tensors(good_tensors))).optimizer == nk.Adam()


def test_every_truncation_of_safetensors(good_tensors, tmp_path):
    path = tmp_path / "net.safetensors"
    for length in range(0, len(good_tensors), 7):
        path.write_bytes(good_tensors[:length])
        assert_refused(path)


@fuzzing
@given(data=st.data())
def test_bits_flipped_anywhere_in_safetensors(good_tensors, tmp_path, data):
    """A network or a ModelFormatError; in the numbers themselves, always the latter."""
    positions, content = data.draw(flipped_bits(good_tensors))
    net = loaded_unless_refused(tmp_path / "net.safetensors", content)
    if net is None:
        return
    numbers = len(good_tensors) - len(split_tensors(good_tensors)[2])
    assert all(position < numbers for position in positions) or content == good_tensors
    net.predict(np.ones((net.n_x, 2)))


@pytest.mark.parametrize("change", HEADERS.values(), ids=list(HEADERS))
def test_headers_of_safetensors_that_are_wrong(good_tensors, tmp_path, change):
    header, own, data = split_tensors(good_tensors)
    own = change(own) or own
    assert_refused(join_tensors(tmp_path / "net.safetensors", header, own, data))


TENSORS = {
    "missing": lambda h: h.pop("0.weight") and None,
    "transposed": lambda h: h["0.weight"]["shape"].reverse(),
    "flat": lambda h: h["0.weight"].update(shape=[15]),
    "integers": lambda h: h["0.weight"].update(dtype="I32"),
    "half as many doubles": lambda h: h["0.weight"].update(dtype="F64", shape=[5, 3]),
    "huge": lambda h: h["0.weight"].update(shape=[5, 2**61]),
    "over the end": lambda h: h["0.weight"]["data_offsets"].__setitem__(1, 2**40),
    "overlapping": lambda h: h["0.weight"].update(data_offsets=h["3.weight"]["data_offsets"]),
    "negative": lambda h: h["0.weight"]["data_offsets"].__setitem__(0, -4),
    "unasked for": lambda h: h.update({"9.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
    "no header of nnkern": lambda h: h["__metadata__"].pop("nnkern") and None,
    "no metadata": lambda h: h.pop("__metadata__") and None,
    "no JSON": lambda h: h["__metadata__"].update(nnkern="{"),
    "deep JSON": lambda h: h["__metadata__"].update(nnkern="[" * 100_000),
}


@pytest.mark.parametrize("change", TENSORS.values(), ids=list(TENSORS))
def test_tensors_that_are_wrong(good_tensors, tmp_path, change):
    header, _, data = split_tensors(good_tensors)
    change(header)
    words = ["its metadata has no header of nnkern"] if "nnkern" not in header.get("__metadata__", {}) else []
    assert_refused(join_tensors(tmp_path / "net.safetensors", header, None, data), *words)


@pytest.mark.parametrize(
    ("sums", "words"),
    [
        (None, "its header has no checksums"),
        ([], "its header has no checksums"),
        ({}, "doesn't match its checksum"),
        ({"0.weight": 1}, "doesn't match its checksum"),
    ],
)
def test_checksums_that_are_none(good_tensors, tmp_path, sums, words):
    header, own, data = split_tensors(good_tensors)
    assert_refused(join_tensors(tmp_path / "net.safetensors", header, {**own, "crc32": sums}, data), words)


@pytest.mark.parametrize(
    "content",
    [*FOREIGN.values(), struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 2) + b"{}", b"\xff" * 100],
    ids=[*FOREIGN, "a header of 2^63 bytes", "nothing in it", "ones"],
)
def test_foreign_files_by_that_name(tmp_path, content):
    pytest.importorskip("safetensors")
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    assert_refused(path)


def test_folders_and_missing_files_by_that_name(tmp_path):
    pytest.importorskip("safetensors")
    with pytest.raises(FileNotFoundError):
        nk.load(tmp_path / "missing.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(IsADirectoryError):
        nk.load(tmp_path / "folder.safetensors")


# ---- leaks ----

# call -> how many: fewer of what takes long
REPEATED = {"save": 500, "load": 1000, "load, refused": 2000}


@pytest.mark.no_sanitizer
@pytest.mark.parametrize(("call", "calls"), REPEATED.items(), ids=list(REPEATED))
def test_no_leaks(path, call, calls, monkeypatch):
    """With the state of a training. Nobody waits for the disk here."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    net, torn = small(), path.with_name(f"torn{path.suffix}")
    net.fit(X_TRAIN, Y_TRAIN, epochs=1, optimizer="adam")
    net.save(path, training_state=True)
    torn.write_bytes(path.read_bytes()[:-100])
    call = {
        "save": lambda: net.save(path, training_state=True),
        "load": lambda: nk.load(path),
        "load, refused": lambda: fails(nk.load, torn),
    }[call]
    assert_no_leaks(call, [net, path, torn, *net.parameters.values()], calls)
