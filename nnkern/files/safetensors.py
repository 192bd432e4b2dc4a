"""Models in .safetensors files, whose tensors have the names of the state dict of the network's torch module.

The header is the entry "nnkern" of the metadata. The format has no checksums, so the header has them.
"""

import contextlib
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


@contextlib.contextmanager
def opened(file, path):
    """The `Reader` of a file."""
    safe_open = require("safetensors", f"reading {path}").safe_open
    size = size_of(file)
    length = int.from_bytes(file.read(_LENGTH), "little")
    if length <= size and not fits(file.read(length).decode(), size):
        raise ModelFormatError(f"it describes more parts than a file of {size} bytes may have")
    with safe_open(path, framework="np") as content:
        yield Reader(content)


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
