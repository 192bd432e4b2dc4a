"""Saving and loading: .npz and .safetensors files without pickle, versioned, checked, written whole or not at all.

Both hold a header, JSON (format, version, configuration, n_x, metadata), and one array a parameter; with the training
state, also where the training stands and one array a parameter for each vector of the optimizer's. In an .npz the
header is the bytes of `header.npy`, and nothing is compressed, so that nothing in it is larger than the file. In a
.safetensors it is the entry "nnkern" of the metadata, W and b are named as in the state dict of the network's torch
module, and since the format has no checksums, the header has them. Loading runs no code and believes nothing: every
size is checked before memory is taken.
"""

import contextlib
import errno
import io
import json
import os
import stat
import zlib
from typing import TYPE_CHECKING

import numpy as np

from nnkern import _engine, formats, optimizers, validation
from nnkern._optional import require
from nnkern.exceptions import ModelFormatError
from nnkern.state import of

if TYPE_CHECKING:
    from nnkern.network import Network

FORMAT = "nnkern network"
VERSION = 1
_MOMENTS = ("s1", "s2")  # the vectors of the optimizer's state


@contextlib.contextmanager
def whole_file(path):
    """A binary file to write to, which takes the place of `path` when all is written, or never."""
    # a link stays a link: the file it names is replaced
    path = os.path.realpath(os.fsdecode(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path} is no regular file: a model can't take its place")
    # the new file grows beside the old one and takes its place in one step
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def reading(path):
    """Makes a ModelFormatError that names the file, which is open, of whatever goes wrong with its bytes."""
    try:
        yield
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from error
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        # a place before the start of the file is an invalid argument; any other OSError is of the disk's making
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        # zipfile, numpy, json and the formats' libraries each have many ways to say that bytes aren't what they expect
        raise ModelFormatError(f"{path} is no model file, or a damaged one: {error}") from error


def is_safetensors(path):
    """Whether a model's file of that name is one of safetensors."""
    return os.path.splitext(path)[1].lower() == ".safetensors"


def save(net, path, *, training_state):
    """See Network.save."""
    path = os.fsdecode(path)
    state = of(net)
    state.fitted().check_untrained()
    if not isinstance(net.metadata, dict):
        raise ValueError(f"metadata must be a dict; got {type(net.metadata).__name__}")
    header = {
        "format": FORMAT,
        "version": VERSION,
        "config": net.config(),
        "n_x": net.n_x,
        "metadata": net.metadata,
    }
    arrays = dict(net.parameters)
    if validation.flag("training_state", training_state):
        _, *moments = state.engine.state()
        present = {name: vector for name, vector in zip(_MOMENTS, moments, strict=True) if vector is not None}
        header["training"] = {
            **state.progress(),
            "moments": list(present),
            "optimizer": optimizers.to_json(net.optimizer),
        }
        for moment, vector in present.items():
            arrays |= {f"{moment}.{name}": view for name, view in state.engine.views(vector).items()}
    if is_safetensors(path):
        _write_safetensors(net, path, header, arrays)
    else:
        _write_npz(path, header, arrays)


def _write_npz(path, header, arrays):
    text = _to_json(header)
    with whole_file(path) as file:
        np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **arrays)


def _write_safetensors(net, path, header, arrays):
    save_bytes = require("safetensors.numpy", f"writing {path}").save
    names = _tensor_names(net.layers)
    arrays = {
        names[name]: np.ascontiguousarray(array).reshape(_tensor_shape(names[name], array.shape))
        for name, array in arrays.items()
    }
    header["crc32"] = {name: zlib.crc32(array) for name, array in arrays.items()}
    content = save_bytes(arrays, metadata={"nnkern": _to_json(header)})
    with whole_file(path) as file:
        file.write(content)


def _to_json(header):
    try:
        text = json.dumps(header, allow_nan=False)
        _check_keys(header)
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata must be what JSON can hold: {error}") from error


def _check_keys(value):
    """Raises a TypeError for a key that json would make a text: it wouldn't come back as it was."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise TypeError(f"the key {key!r} is no text")
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


def _tensor_names(layers):
    """{"W1": "0.weight", "s1.W1": "s1.0.weight", …}: every parameter and moment's name in a .safetensors file."""
    names = {}
    for l, number in enumerate(formats.torch_linears(layers), start=1):
        for name, tensor in ((f"W{l}", f"{number}.weight"), (f"b{l}", f"{number}.bias")):
            names |= {prefix + name: prefix + tensor for prefix in ("", *(f"{moment}." for moment in _MOMENTS))}
    return names


def _tensor_shape(tensor, shape):
    """Of a parameter of that shape in a .safetensors file: b is (n,) there."""
    return shape[:1] if tensor.endswith("bias") else shape


def load(path: "str | os.PathLike[str]") -> "Network":
    """The network in a file that `Network.save` wrote.

    Parameters
    ----------
    path : str or path
        The file of a name that ends in ".safetensors" is read as that, any other as an .npz archive.

    Returns
    -------
    Network
        With its training state, where the file has that: ``fit(…, resume=True)`` goes on from there.

    Raises
    ------
    ModelFormatError
        The file is damaged, no model file, or of a newer format.
    OSError
        It can't be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import nnkern as nk
    >>> net = nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=3, seed=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "net.npz")
    >>> net.save(path)
    >>> nk.load(path) == net
    True
    """
    path = os.fsdecode(path)
    with open(path, "rb") as file, reading(path):
        return _load_safetensors(path) if is_safetensors(path) else _load_npz(file)


def _load_npz(file):
    import zipfile  # with all it brings, as much to import as the rest of nnkern

    with zipfile.ZipFile(file) as archive:
        members = _members(archive, os.fstat(file.fileno()).st_size, zipfile.ZIP_STORED)
        if "header" not in members:
            raise ModelFormatError("it has no header: not written by nnkern")
        header = _array("header", members.pop("header")()).tobytes().decode()
        return _network(_checked(header), set(members), lambda name, *_: _array(name, members[name]()))


def _load_safetensors(path):
    safe_open = require("safetensors", f"reading {path}").safe_open
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
        if "nnkern" not in metadata:
            raise ModelFormatError(
                "its metadata has no header of nnkern: another program wrote it, and it doesn't say what the layers are"
            )
        header = _checked(metadata["nnkern"])
        sums = header.get("crc32")
        if not isinstance(sums, dict):
            raise ModelFormatError("its header has no checksums")
        keys = file.keys()  # it is no dict
        names = _tensor_names(_described(header, len(keys)).layers)
        known = {tensor: name for name, tensor in names.items()}

        def read(name, shape, dtype):
            tensor = names[name]
            part = file.get_slice(tensor)
            found = tuple(part.get_shape()), part.get_dtype()
            needed = _tensor_shape(tensor, shape)
            if found != (needed, f"F{8 * dtype.itemsize}"):
                raise ModelFormatError(f"{tensor} is {found[1]} {found[0]}; its layers need {dtype} {needed}")
            array = file.get_tensor(tensor)
            if zlib.crc32(array) != sums.get(tensor):
                raise ModelFormatError(f"{tensor} doesn't match its checksum")
            return array.reshape(shape)

        return _network(header, {known.get(key, key) for key in keys}, read)


def _members(archive, size, stored):
    """{name: function that reads its bytes}; nothing may claim to be larger than the file, or not be `stored`."""
    members = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in members or info.compress_type != stored:
            raise ModelFormatError(f"unexpected member {info.filename!r}")
        if info.file_size != info.compress_size or info.file_size > size:
            raise ModelFormatError(f"member {info.filename!r} claims {info.file_size} bytes, the file has {size}")
        members[name] = lambda info=info: archive.read(info)
    return members


def _array(name, data):
    """The array in the bytes of an .npy file."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ModelFormatError(f"{name} has the .npy version {version}")
    shape, fortran, dtype = readers[version](stream)
    rest = data[stream.tell() :]
    if dtype.hasobject or len(rest) != dtype.itemsize * int(np.prod(shape, dtype=object)):
        raise ModelFormatError(f"{name} claims shape {shape} of {dtype}, but has {len(rest)} bytes")
    return np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C")


def _checked(text):
    """The header, of a format and version that can be read."""
    header = json.loads(text)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFormatError("its header isn't that of a network")
    version = header.get("version")
    if type(version) is not int or version < 1:
        raise ModelFormatError(f"it has format version {version!r}, which there never was")
    if version > VERSION:
        raise ModelFormatError(f"it has format version {version}, this nnkern reads up to {VERSION}")
    if not isinstance(header.get("metadata"), dict):
        raise ModelFormatError("its metadata isn't a dict")
    return header


def _described(header, count):
    """The network of a header, without parameters, where there are `count` arrays: a layer takes one at least."""
    from nnkern.network import Network

    if len(header["config"]["layers"]) > count:
        raise ModelFormatError(f"it describes {len(header['config']['layers'])} layers, and holds {count} arrays")
    return Network.from_config(header["config"])


def _network(header, names, read):
    """The network of a header and of the arrays that `read(name, shape, dtype)` gives for those names."""
    net = _described(header, len(names))
    progress = _progress(header.get("training"))
    shapes, n_prev = {}, validation.size("n_x", header["n_x"])
    for l, layer in enumerate(net.layers, start=1):
        shapes[f"W{l}"] = (layer.units, n_prev)
        if layer.use_bias:
            shapes[f"b{l}"] = (layer.units, 1)
        n_prev = layer.units
    expected = dict(shapes)
    for moment in progress["moments"] if progress else ():
        expected |= {f"{moment}.{name}": shape for name, shape in shapes.items()}
    if names != set(expected):
        raise ModelFormatError(f"it holds {', '.join(sorted(names))}; its layers need {', '.join(expected)}")
    arrays = {}
    for name, shape in expected.items():
        array = read(name, shape, net.dtype)
        if array.shape != shape or array.dtype != net.dtype:
            raise ModelFormatError(f"{name} is {array.dtype} {array.shape}; its layers need {net.dtype} {shape}")
        arrays[name] = array
    of(net).make_engine(header["n_x"], progress and progress["key"])
    net.set_parameters({name: arrays[name] for name in shapes})
    net.metadata = header["metadata"]
    if progress:
        vectors = dict.fromkeys(_MOMENTS)
        for moment in progress["moments"]:
            vectors[moment] = _engine.aligned_zeros(len(of(net).engine.theta), net.dtype)
            for name, view in of(net).engine.views(vectors[moment]).items():
                view[...] = arrays[f"{moment}.{name}"]
        of(net).restore(progress, optimizers.from_json(progress["optimizer"]), *vectors.values())
    return net


def _progress(training):
    """Where a training stands, checked; None where the header doesn't say."""
    if training is None:
        return None
    for name in ("key", "t", "epoch", "step", "epochs_done"):
        if validation.integer(name, training[name], 0) >= 2**63:
            raise ModelFormatError(f"its training state has {name} {training[name]}")
    validation.integer("entropy", training["entropy"], 0)
    if training["state_of"] is not None:
        validation.choice("state_of", training["state_of"], _engine.UPDATES)
    if training["moments"] not in ([], ["s1"], ["s2"], ["s1", "s2"]):
        raise ModelFormatError(f"its training state has the vectors {training['moments']!r}")
    return training
