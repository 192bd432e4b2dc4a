"""The constants of an ONNX graph as arrays, from the file or a plain file beside it, each checked before it is read.

Knows tensors and nodes that stand for constants, nothing of what a graph computes.
"""

import math
import os

import numpy as np

from nnkern.exceptions import ModelFormatError

STANDARD = ("", "ai.onnx")
_NUMBERS = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}


def attributes_of(onnx, node):
    """{name: number, list of numbers or text}"""
    values = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        values[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return values


class Constants:
    """The arrays by name, each decoded when it is first asked for."""

    def __init__(self, onnx, graph, folder):
        self._onnx, self._folder = onnx, folder
        types = onnx.TensorProto
        self._types = {types.FLOAT: "<f4", types.DOUBLE: "<f8", types.INT64: "<i8", types.BOOL: "?"}
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._arrays = {}
        self.external = set()  # the files beside the model that arrays were mapped from

    def __contains__(self, name):
        return name in self._tensors or name in self._arrays

    def get(self, name):
        """The array of that name, or None where it is no constant."""
        if name in self._tensors and name not in self._arrays:
            self._arrays[name] = self._decode(self._tensors[name])
        return self._arrays.get(name)

    def take(self, node):
        """Whether the node's output is a constant: it is one, or is made of one without becoming larger."""
        if node.domain not in STANDARD:
            return False
        if node.op_type == "Constant":
            self._tensors[node.output[0]] = node
            return True
        if node.op_type not in ("Identity", "Transpose") or not node.input:
            return False
        array = self.get(node.input[0])
        if array is None:
            return False
        if node.op_type == "Transpose":
            array = array.transpose(attributes_of(self._onnx, node).get("perm"))
        self._arrays[node.output[0]] = array
        return True

    def _decode(self, source):
        """The array of a tensor, or of a Constant node."""
        if isinstance(source, self._onnx.TensorProto):
            return self._array(source)
        (attribute,) = source.attribute
        value = self._onnx.helper.get_attribute_value(attribute)
        return self._array(value) if attribute.name == "value" else np.array(value, _NUMBERS[attribute.name])

    def _array(self, tensor):
        if tensor.data_type not in self._types:
            return np.zeros(0)  # of a type that no network has: fits nowhere
        shape = tuple(tensor.dims)
        count = math.prod(shape)
        dtype = np.dtype(self._types[tensor.data_type])
        if min(shape, default=1) < 0:
            raise ModelFormatError(f"the constant {tensor.name} has shape {shape}")
        if tensor.data_location == self._onnx.TensorProto.EXTERNAL:
            return self._beside(tensor, shape, dtype)
        held = len(tensor.raw_data) // dtype.itemsize if tensor.HasField("raw_data") else None
        if held is None:
            held = len(tensor.float_data) + len(tensor.double_data) + len(tensor.int64_data) + len(tensor.int32_data)
        if held != count:
            raise ModelFormatError(f"the constant {tensor.name} has shape {shape}, but {held} entries")
        return self._onnx.numpy_helper.to_array(tensor)

    def _beside(self, tensor, shape, dtype):
        """An array in a file beside the model's, where torch's exporter puts them; mapped, not read."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        path = self._folder / name
        if name != os.path.basename(name) or name in ("", ".", "..") or path.is_symlink() or not path.is_file():
            raise ModelFormatError(
                f"the constant {tensor.name} is said to be in {name!r}; only plain files beside the model are read"
            )
        offset, count = int(entries.get("offset", 0)), math.prod(shape)
        if offset < 0 or offset + count * dtype.itemsize > path.stat().st_size or "\0" in name:
            raise ModelFormatError(f"the constant {tensor.name} of shape {shape} reaches over the end of {name}")
        self.external.add(path)
        if count == 0:
            return np.zeros(shape, dtype)
        return np.memmap(path, dtype, "r", offset, shape)
