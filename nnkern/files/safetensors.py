"""Models in .safetensors files, whose tensors have the names of the state dict of the network's torch module.

The header is the entry "nnkern" of the metadata. The format has no checksums, so the header has them.
"""

import contextlib
import json
import zlib

import numpy as np

from nnkern._optional import require
from nnkern.convert.torch import tensor_names
from nnkern.exceptions import ModelFormatError
from nnkern.files.atomic import whole_file
from nnkern.files.header import fits, to_json
from nnkern.files.opening import size_of
from nnkern.model import MOMENTS

_LENGTH = 8
"""Bytes at the start of a file, the length of the JSON that follows."""
_DTYPES = {"F32": "<f4", "F64": "<f8"}
"""The format's names of what parameters may be."""


def write(path, model, header, arrays):
    """Writes a header and {name: array}."""
    save_bytes = require("safetensors.numpy", f"writing {path}").save
    tensors = _tensors(model.layers)
    arrays = {
        tensors[name]: np.ascontiguousarray(array).reshape(_shape_of(tensors[name], array.shape))
        for name, array in arrays.items()
    }
    header["crc32"] = {tensor: zlib.crc32(array) for tensor, array in arrays.items()}
    content = save_bytes(arrays, metadata={"nnkern": to_json(header, arrays)})
    with whole_file(path) as file:
        file.write(content)


def begins(file):
    """Whether an open file, from where it stands, begins as one of that format does."""
    start, size = file.tell(), size_of(file)
    first = file.read(_LENGTH + 1)
    file.seek(start)
    return first[_LENGTH:] == b"{" and int.from_bytes(first[:_LENGTH], "little") <= size - _LENGTH


@contextlib.contextmanager
def opened(file, path):
    """The `Reader` of a file."""
    safe_open = require("safetensors", f"reading {path}").safe_open
    _header(file)
    with safe_open(path, framework="np") as content:
        yield Reader(content)


@contextlib.contextmanager
def opened_object(file, name):
    """The `Reader` of a file object, which is read from where it stands."""
    deserialize = require("safetensors", f"reading {name}").deserialize
    start = file.tell()
    text = _header(file)
    file.seek(start)
    parts = dict(deserialize(file.read()))  # which checks the header
    yield Reader(_Parts(json.loads(text).get("__metadata__"), parts))


def _header(file):
    """The JSON that a file begins with, "" where it claims to be longer than the file."""
    size = size_of(file)
    length = int.from_bytes(file.read(_LENGTH), "little")
    text = file.read(length).decode() if length <= size else ""
    if not fits(text, size):
        raise ModelFormatError(f"it describes more parts than a file of {size} bytes may have")
    return text


class _Parts:
    """What `safe_open` gives of a file, of one that was read whole: {tensor: its "dtype", "shape" and "data"}."""

    def __init__(self, metadata, parts):
        self._metadata, self._parts = metadata, parts

    def metadata(self):
        return self._metadata

    def keys(self):
        return list(self._parts)

    def get_slice(self, tensor):
        return _Slice(self._parts[tensor])

    def get_tensor(self, tensor):
        part = self._parts[tensor]
        return np.frombuffer(part["data"], _DTYPES[part["dtype"]]).reshape(part["shape"])


class _Slice:
    """Of one tensor, what is known of it before it is looked at."""

    def __init__(self, part):
        self._part = part

    def get_shape(self):
        return self._part["shape"]

    def get_dtype(self):
        return self._part["dtype"]


class Reader:
    """What is in a file: the header's `text`, and the `count` of the arrays."""

    def __init__(self, content):
        metadata = content.metadata() or {}
        if "nnkern" not in metadata:
            raise ModelFormatError(
                "its metadata has no header of nnkern: another program wrote it, and it doesn't say what the layers "
                "are. Load its tensors into the torch module that they are of, and take nnkern.from_torch(module)"
            )
        self.text = metadata["nnkern"]
        self._content, self._keys = content, content.keys()
        self.count = len(self._keys)

    def names(self, header, layers):
        """The arrays' names as parameters of those layers; what is none of them keeps the name that it has."""
        self._sums = header.get("crc32")
        if not isinstance(self._sums, dict):
            raise ModelFormatError("its header has no checksums")
        self._tensors = _tensors(layers)
        known = {tensor: name for name, tensor in self._tensors.items()}
        return {known.get(key, key) for key in self._keys}

    def array(self, name, shape, dtype):
        """The array of that name, which must have that shape and dtype."""
        tensor = self._tensors[name]
        part = self._content.get_slice(tensor)
        found = tuple(part.get_shape()), part.get_dtype()
        needed = _shape_of(tensor, shape)
        if found != (needed, f"F{8 * dtype.itemsize}"):
            raise ModelFormatError(f"{tensor} is {found[1]} {found[0]}; its layers need {dtype} {needed}")
        array = self._content.get_tensor(tensor)
        if zlib.crc32(array) != self._sums.get(tensor):
            raise ModelFormatError(f"{tensor} doesn't match its checksum")
        return array.reshape(shape)


def _tensors(layers):
    """{"W1": "0.weight", "s1.W1": "s1.0.weight", …}: the tensor of every parameter and of the optimizer's vectors."""
    prefixes = ("", *(f"{moment}." for moment in MOMENTS))
    return {prefix + name: prefix + tensor for name, tensor in tensor_names(layers).items() for prefix in prefixes}


def _shape_of(tensor, shape):
    """The tensor's shape for a parameter of that shape: a column (n, 1) is (n,) there."""
    return shape if tensor.endswith("weight") else shape[:1]
