"""Saving and loading: what goes round comes round, a file is whole or as it was, a bad one is a ModelFormatError."""

import contextlib
import io
import json
import os
import pickle
import random
import re
import signal
import stat
import struct
import subprocess
import sys
import textwrap
import time
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnkern as nk

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits, signals and memory as Linux counts them")

LOSSES = {
    "binary_cross_entropy": "sigmoid",
    "cross_entropy": "softmax",
    "squared_error": "linear",
    "absolute_error": "relu",
}


def small(**options):
    layers = [nk.Dense(5, "tanh", dropout=0.25), nk.Dense(4, "softmax")]
    return nk.Network(layers, "cross_entropy", **{"n_x": 3, "seed": 0, **options})


def saved(net, path):
    net.save(path)
    return path.read_bytes()


# ---- round trip ----


def assert_round_trip(net, path):
    net.save(path)
    loaded = nk.load(path)
    assert loaded == net
    assert loaded.config() == net.config()
    assert loaded.metadata == net.metadata
    assert (loaded.n_x, loaded.n_y, loaded.L, loaded.loss, loaded.dtype, loaded.seed) == (
        (net.n_x, net.n_y, net.L, net.loss, net.dtype, net.seed)
    )
    for name, a in net.parameters.items():
        assert loaded.parameters[name].tobytes() == a.tobytes()
        assert loaded.parameters[name].flags.writeable
    X = np.random.default_rng(0).normal(size=(net.n_x, 7))
    assert loaded.predict(X).tobytes() == net.predict(X).tobytes()
    return loaded


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", nk.kernels.ACTIVATIONS)
def test_round_trip_of_every_activation_and_loss(tmp_path, activation, loss, dtype):
    layers = [nk.Dense(5, activation), nk.Dense(3, LOSSES[loss])]
    assert_round_trip(nk.Network(layers, loss, n_x=4, dtype=str(dtype), seed=0), tmp_path / "net.npz")


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
def test_round_trip_of_every_option(tmp_path, layers, options):
    net = nk.Network(layers, **{"loss": "squared_error", "n_x": 4, "seed": 1, **options})
    loaded = assert_round_trip(net, tmp_path / "net.npz")
    for own, other in zip(net.layers, loaded.layers, strict=True):
        assert own.facts() == other.facts()


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.0, 1e-45, 3e38])
def test_round_trip_of_any_number(tmp_path, value):
    net = small()
    net.parameters["W1"][2, 1] = value
    net.save(tmp_path / "net.npz")
    loaded = nk.load(tmp_path / "net.npz")
    assert loaded.parameters["W1"].tobytes() == net.parameters["W1"].tobytes()


def test_loaded_networks_train_on(tmp_path):
    X, Y = np.random.default_rng(0).normal(size=(3, 20)), np.arange(20) % 4
    net = small()
    net.fit(X, Y, epochs=2)
    net.save(tmp_path / "net.npz")
    loaded = nk.load(tmp_path / "net.npz")
    history = loaded.fit(X, Y, epochs=3, shuffle=False)
    assert all(np.isfinite(history["cost"]))
    assert loaded != net


def test_round_trip_of_metadata(tmp_path):
    net = small()
    net.metadata["labels"] = ["Café", "\u0000", "数", '"', "\\"]
    net.metadata["nested"] = {"mean": [1.5, -2e-300, 1 / 3], "n": 2**60, "none": None, "yes": True}
    loaded = assert_round_trip(net, tmp_path / "net.npz")
    assert loaded.metadata["nested"]["mean"][2] == 1 / 3


@pytest.mark.parametrize("value", [object(), {1, 2}, np.ones(3), b"x"], ids=["object", "set", "array", "bytes"])
def test_metadata_that_json_cannot_hold_keeps_the_old_file(tmp_path, value):
    path = tmp_path / "net.npz"
    net = small()
    before = saved(net, path)
    net.metadata["bad"] = value
    with pytest.raises((TypeError, ValueError), match="metadata"):
        net.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.npz"]


@pytest.mark.parametrize("as_what", [str, lambda path: path], ids=["str", "Path"])
def test_paths_of_every_kind(tmp_path, as_what):
    path = as_what(tmp_path / "a name with spaces, Ünicode.model")
    net = small()
    net.save(path)
    assert os.listdir(tmp_path) == ["a name with spaces, Ünicode.model"]
    assert nk.load(path) == net


def test_a_file_is_an_ordinary_npz_without_pickle(tmp_path):
    net = small()
    saved(net, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as archive:
        for name, a in net.parameters.items():
            assert np.array_equal(archive[name], a)


def test_same_network_same_bytes(tmp_path):
    assert saved(small(), tmp_path / "a.npz") == saved(small(), tmp_path / "b.npz")


def test_save_without_parameters(tmp_path):
    with pytest.raises(nk.NotFittedError):
        small(n_x=None).save(tmp_path / "net.npz")
    assert os.listdir(tmp_path) == []


# ---- a file is written whole or not at all ----


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


@pytest.mark.parametrize("where", ["missing/net.npz", ".", "file/net.npz"])
def test_places_that_cannot_be_written(tmp_path, where):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        small().save(tmp_path / where)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root writes everywhere")
def test_no_permission(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        small().save(folder / "net.npz")


def run(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


@linux
@pytest.mark.no_sanitizer
@pytest.mark.parametrize("limit", [0, 1, 100, 4096, 100_000, 300_000])
def test_disk_that_fills_up_keeps_the_old_file(tmp_path, limit):
    """RLIMIT_FSIZE stands for the full disk: the file would have 400 kB."""
    path = tmp_path / "net.npz"
    old = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)
    before = saved(old, path)
    code = """
        import resource, signal, sys
        import nnkern as nk
        net = nk.Network([nk.Dense(1000, "relu")], "squared_error", n_x=100, seed=0)
        before = {name: a.copy() for name, a in net.parameters.items()}
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        try:
            net.save(sys.argv[1])
        except OSError as error:
            print(type(error).__name__)
        assert all((net.parameters[name] == a).all() for name, a in before.items())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        net.save(sys.argv[1] + ".2")
    """
    done = run(code, path, limit)
    assert done.stdout == "OSError\n", done.stderr
    assert path.read_bytes() == before
    assert nk.load(path) == old
    assert sorted(os.listdir(tmp_path)) == ["net.npz", "net.npz.2"]


@linux
@pytest.mark.no_sanitizer
def test_killed_at_random_moments(tmp_path):
    """kill -9 while two networks are saved in turn: the file is one of them, whole, and the next save works."""
    path = tmp_path / "net.npz"
    code = """
        import sys
        import nnkern as nk
        nets = [nk.Network([nk.Dense(200, "relu")], "squared_error", n_x=300, seed=seed) for seed in (0, 1)]
        nets[0].save(sys.argv[1])
        print("go", flush=True)
        while True:
            for net in nets:
                net.save(sys.argv[1])
    """
    nets = [nk.Network([nk.Dense(200, "relu")], "squared_error", n_x=300, seed=seed) for seed in (0, 1)]
    rng = random.Random(0)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", textwrap.dedent(code), str(path)], stdout=subprocess.PIPE
        )
        try:
            assert process.stdout.readline() == b"go\n"
            time.sleep(rng.uniform(0, 0.05))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        assert process.returncode == -signal.SIGKILL
        assert nk.load(path) in nets
    nets[1].save(path)
    assert nk.load(path) == nets[1]


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
    for word in words:
        assert word in message
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


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bits_flipped_anywhere(good, tmp_path, data):
    """A network or a ModelFormatError. Where a parameter's bytes were hit, the checksum tells."""
    flips = data.draw(st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(1, 255)), min_size=1, max_size=4))
    content = bytearray(good)
    for position, mask in flips:
        content[position] ^= mask
    path = tmp_path / "net.npz"
    path.write_bytes(content)
    try:
        net = nk.load(path)
    except nk.ModelFormatError:
        return
    for name, a in small().parameters.items():
        assert net.parameters[name].tobytes() == a.tobytes()


def test_every_byte_of_the_parameters_is_checked(good, tmp_path):
    path = tmp_path / "net.npz"
    for name, a in small().parameters.items():
        member = members(good)[f"{name}.npy"]
        start = good.find(member)
        assert start > 0
        for position in range(start + len(member) - a.nbytes, start + len(member)):
            path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
            assert_refused(path)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    assert_refused(write_members(tmp_path / "b.zip", {"readme.txt": b"hello"}))
    assert_refused(write_members(tmp_path / "c.zip", {"header.npy": b"hello"}))
    assert_refused(write_members(tmp_path / "d.zip", {"header.npy": npy(np.frombuffer(b"{}", np.uint8))}))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        nk.load(tmp_path / "missing.npz")
    with pytest.raises(IsADirectoryError):
        nk.load(tmp_path)


class Bomb:
    """Pickled, it writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


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


HOSTILE = {
    "more than there is": lambda good, path: write_members(path, huge(good, 2**28)),
    "more than there can be": lambda good, path: write_members(path, huge(good, 2**61)),
    "deflated zeros": lambda good, path: write_members(path, bomb(good), zipfile.ZIP_DEFLATED),
    "a header longer than the file": lambda good, path: write_members(path, long_header(good)),
}


@linux
@pytest.mark.no_sanitizer
@pytest.mark.parametrize("make", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_sizes_take_no_memory(good, tmp_path, make):
    path = make(good, tmp_path / "net.npz")
    size = path.stat().st_size
    code = """
        import resource, sys
        import nnkern as nk
        import zipfile, json
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            nk.load(sys.argv[1])
        except nk.ModelFormatError as error:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = run(code, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout, "no ModelFormatError"
    assert int(done.stdout) * 1024 < 8 * size + 2**23


@linux
@pytest.mark.no_sanitizer
def test_good_files_take_little_memory(tmp_path):
    """40 MB on disk: the parameters themselves, and no more than two copies beside them."""
    path = tmp_path / "net.npz"
    nk.Network([nk.Dense(1000, "relu")], "squared_error", n_x=10_000, seed=0).save(path)
    code = """
        import resource, sys
        import nnkern as nk
        nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0).save(sys.argv[1] + ".small")
        nk.load(sys.argv[1] + ".small")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        net = nk.load(sys.argv[1])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = run(code, path)
    assert int(done.stdout) * 1024 < 3.2 * path.stat().st_size, done.stderr


@linux
@pytest.mark.no_sanitizer
def test_out_of_memory_is_a_memory_error_and_leaves_the_network(tmp_path):
    """An allocation that can't be had, in fit and predict: MemoryError, the network as before, the process alive."""
    code = """
        import resource
        import numpy as np
        import nnkern as nk
        n = 2000
        net = nk.Network([nk.Dense(n, "tanh"), nk.Dense(1)], "squared_error", n_x=10, dtype="float64", seed=0)
        X = np.ones((10, 100_000))
        net.fit(X[:, :100], np.zeros((1, 100)), epochs=1)
        before = {name: a.copy() for name, a in net.parameters.items()}
        with open("/proc/self/statm") as statm:
            now = int(statm.read().split()[0]) * resource.getpagesize()
        wide = nk.Network([nk.Dense(50_000)], "squared_error", n_x=10, seed=0)
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**25, resource.RLIM_INFINITY))
        calls = {
            "initialize": lambda: nk.Network([nk.Dense(20_000), nk.Dense(20_000)], "squared_error", n_x=10, seed=0),
            "predict": lambda: wide.predict(X),
            "fit": lambda: wide.fit(X[:, :5000], np.zeros((50_000, 1)) + np.zeros((1, 5000)), epochs=1),
        }
        for name, call in calls.items():
            try:
                call()
            except MemoryError:
                print(name)
        assert (X == 1).all()
        assert all((net.parameters[name] == a).all() for name, a in before.items())
        net.fit(X[:, :100], np.zeros((1, 100)), epochs=1)
    """
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["initialize", "predict", "fit"]
