"""Saving and loading: .npz files without pickle, versioned, checked, written whole or not at all.

The archive holds `header.npy`, JSON in bytes (format, version, configuration, n_x, metadata), and one array a
parameter, uncompressed, so that nothing in it is larger than the file. Loading runs no code and believes nothing:
every size is checked before memory is taken.
"""

import io
import json
import os
import secrets
import stat
import zipfile
from pathlib import Path

import numpy as np

from nnkern import validation
from nnkern.exceptions import ModelFormatError

FORMAT = "nnkern network"
VERSION = 1


def save(net, path):
    """See Network.save."""
    validation.fitted(net._engine).check_untrained()
    path = Path(path)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "config": net.config(),
        "n_x": net.n_x,
        "metadata": net.metadata,
    }
    try:
        text = json.dumps(header, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must be what JSON can hold: {error}") from error
    # a link stays a link: the file it names is replaced
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no regular file: a model can't take its place")
    # the new file grows beside the old one and takes its place in one step
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **net.parameters)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(path):
    """The network in a file that `Network.save` wrote.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Network

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
    size = os.path.getsize(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _load(_members(archive, size))
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from error
    except OSError:
        raise
    except Exception as error:
        # zipfile, numpy and json each have many ways to say that bytes aren't what they expect
        raise ModelFormatError(f"{path} is no model file, or a damaged one: {error}") from error


def _members(archive, size):
    """{name: function that reads its bytes}; nothing may claim to be larger than the file."""
    members = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in members or info.compress_type != zipfile.ZIP_STORED:
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


def _load(members):
    from nnkern.network import Network

    if "header" not in members:
        raise ModelFormatError("it has no header: not written by nnkern")
    header = json.loads(_array("header", members["header"]()).tobytes().decode())
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFormatError("its header isn't that of a network")
    version = header.get("version")
    if type(version) is not int or version < 1:
        raise ModelFormatError(f"it has format version {version!r}, which there never was")
    if version > VERSION:
        raise ModelFormatError(f"it has format version {version}, this nnkern reads up to {VERSION}")
    net = Network.from_config(header["config"])
    expected, n_prev = {}, validation.integer("n_x", header["n_x"], 1)
    for l, layer in enumerate(net.layers, start=1):
        expected[f"W{l}"] = (layer.units, n_prev)
        if layer.use_bias:
            expected[f"b{l}"] = (layer.units, 1)
        n_prev = layer.units
    if set(members) != {"header", *expected}:
        found = ", ".join(sorted(set(members) - {"header"}))
        raise ModelFormatError(f"it holds {found}; its layers need {', '.join(expected)}")
    parameters = {}
    for name, shape in expected.items():
        array = _array(name, members[name]())
        if array.shape != shape or array.dtype != net.dtype:
            raise ModelFormatError(f"{name} is {array.dtype} {array.shape}; its layers need {net.dtype} {shape}")
        parameters[name] = array
    if not isinstance(header.get("metadata"), dict):
        raise ModelFormatError("its metadata isn't a dict")
    net._make_engine(header["n_x"])
    net.set_parameters(parameters)
    net.metadata = header["metadata"]
    return net
