"""ONNX models of old opsets, brought to the oldest one that is read by onnx's own version converter.

The converter is handed the graph alone: weights stay where they are, in the message or in files beside the model, and
their shapes stand for them. So it takes no memory for them, and sees nothing of a file but names, types, shapes and
operators.
"""

from nnkern._optional import require
from nnkern.convert.onnx_constants import STANDARD
from nnkern.exceptions import ModelFormatError

# Entries of an initializer that the converter is handed: Reshape's, which tell it shapes
_SMALL = 8
# What stands for an open batch: before opset 7 the converter takes numbers only
_BATCH = 2
# The converter takes some 5 kB of memory and 0.1 ms for each
_MOST_NODES = 10_000


def converted(onnx, message, target):
    """A ModelProto of the opset `target` with the same weights, of one of an older opset, which is spent after this."""
    entry = next(entry for entry in message.opset_import if entry.domain in STANDARD)
    graph, about = message.graph, f"it is of opset {entry.version}, older than {target}"
    if len(graph.node) > _MOST_NODES:
        raise ModelFormatError(f"{about}, and has {len(graph.node)} nodes; at most {_MOST_NODES} are converted")
    entry.domain = STANDARD[0]
    weights = _shapes_for_weights(onnx, graph)
    opened = _close_batches(graph)
    converter = require("onnx.version_converter", "from_onnx")
    try:
        new = converter.convert_version(message, target)
    except (RuntimeError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().rpartition(" failed: ")[2]
        raise ModelFormatError(f"{about}, and onnx's version converter can't take it: {reason}") from error
    new.graph.initializer.extend(weights)
    for value in new.graph.input:
        if value.name in opened:
            value.type.tensor_type.shape.dim[0].Clear()
    return new


def _shapes_for_weights(onnx, graph):
    """Takes the weights out of the graph, which has inputs of their names and shapes for them; gives a list of them."""
    declared = {value.name for value in graph.input}
    small, weights = [], []
    for tensor in graph.initializer:
        is_shape = tensor.data_type == onnx.TensorProto.INT64 and tensor.ByteSize() < 32 * _SMALL
        (small if is_shape else weights).append(tensor)
        if tensor.name not in declared:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del graph.initializer[:]
    graph.initializer.extend(small)
    return weights


def _close_batches(graph):
    """Gives each input whose first size is open a number for it; the names of these inputs."""
    opened = set()
    for value in graph.input:
        sizes = value.type.tensor_type.shape.dim
        if sizes and not sizes[0].HasField("dim_value"):
            sizes[0].dim_value = _BATCH
            opened.add(value.name)
    return opened
