"""Reading what onnx_out writes of an Encode layer, and of a mix: the nodes between the input and a Concat, a branch for
each encoder, and a sum of two chains.

Knows the operators' order, and nothing of other layers. Nothing is computed of a constant before the chain is known
that needs it: thousands of nodes may share one.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nnkern import encoders
from nnkern.convert.onnx_constants import attributes_of


class _Other(Exception):
    """What is there is no encoder."""


class Branch(NamedTuple):
    """An encoder that was recognised, and not made yet."""

    outputs: int
    nbytes: int  # of its constants
    last: bool  # whether its outputs follow all others
    make: Callable  # () -> (encoder, its parameters); ValueError where its numbers make none


def read(graph, node):
    """The Branches of a Concat whose inputs are all encoders of the graph's input; else None."""
    try:
        found = [_branch(graph, name) for name in node.input]
    except _Other:
        return None
    last = [branch.last for branch in found]
    # what isn't so stands in another order in an Encode layer
    return found if last == sorted(last) else None


def mixed(graph, node):
    """(G, a) of Z + a (G - Z), where G is one map of Z, and both are chains by those names; else None."""
    if len(node.input) != 2:
        return None
    z, product = node.input[0], graph.made_by.get(node.input[1])
    if product is None or product.op_type != "Mul" or len(product.input) != 2:
        return None
    difference, a = graph.made_by.get(product.input[0]), graph.constants.get(product.input[1])
    if difference is None or difference.op_type != "Sub" or list(difference.input[1:]) != [z] or a is None:
        return None
    state = graph.states.get(difference.input[0])
    if state is None or state.before is None or state.before is not graph.states.get(z):
        return None
    return difference.input[0], a.reshape(-1)


def _made(graph, name, op, inputs):
    """The node that makes a value; it must be of that operator."""
    node = graph.made_by.get(name)
    if node is None or node.op_type != op or len(node.input) != inputs:
        raise _Other
    return node


def _constant(graph, name):
    array = graph.constants.get(name)
    if array is None:
        raise _Other
    return array


def _row(graph, name, size):
    """The row of X that a Gather takes, as (batch, 1), or (batch,) where `size` is 0."""
    node = _made(graph, name, "Gather", 2)
    index = _constant(graph, node.input[1])
    state = graph.states.get(node.input[0])
    if state is None or state.before is not None or attributes_of(graph.onnx, node).get("axis", 0) != 1:
        raise _Other
    if index.ndim != size or index.size != 1 or index.dtype.kind != "i" or index.item() < 0:
        raise _Other
    return index.item()


def _branch(graph, name):
    node = graph.made_by.get(name)
    reader = READERS.get(None if node is None else node.op_type)
    if reader is None:
        raise _Other
    return reader(graph, name, node)


def _gather(graph, name, node):
    table = graph.constants.get(node.input[0])
    if table is None:
        row = _row(graph, name, 1)
        return Branch(1, 0, False, lambda: (encoders.Numeric(row), {}))
    cast = _made(graph, node.input[1], "Cast", 1)
    row = _row(graph, cast.input[0], 0)
    if table.ndim != 2 or attributes_of(graph.onnx, node).get("axis", 0) != 0:
        raise _Other
    size, units = table.shape
    return Branch(units, table.nbytes, False, lambda: (encoders.Embedding(row, size, units), {"E": table.T}))


def _cast(graph, name, node):
    equal = _made(graph, node.input[0], "Equal", 2)
    row, codes = _row(graph, equal.input[0], 1), _constant(graph, equal.input[1]).reshape(-1)

    def make():
        first = codes[0] if codes.size else -1
        if first not in (0, 1) or (codes != first + np.arange(codes.size)).any():
            raise ValueError("codes that don't count on from 0 or 1")
        return encoders.OneHot(row, codes.size, unknown=bool(first)), {}

    return Branch(codes.size, codes.nbytes, True, make)


def _features(graph, name, units=None):
    """A Cos or a Clip, with a linear map of so many units behind it."""
    node = graph.made_by.get(name)
    if node is not None and node.op_type == "Cos":
        return _cosines(graph, node, units)
    clip = _made(graph, name, "Clip", 3)
    if [_constant(graph, each).size for each in clip.input[1:]] != [1, 1]:
        raise _Other
    if [_constant(graph, each).item() for each in clip.input[1:]] != [0, 1]:
        raise _Other
    shares = _made(graph, clip.input[0], "Mul", 2)
    difference = _made(graph, shares.input[0], "Sub", 2)
    row = _row(graph, difference.input[0], 1)
    lower, inverse = (_constant(graph, each).reshape(-1) for each in (difference.input[1], shares.input[1]))
    if lower.shape != inverse.shape or not lower.size:
        raise _Other

    def make():
        below = lower.astype(np.float64)
        above = below + 1 / inverse.astype(np.float64)
        # bins follow each other, to the rounding of their edges
        if not np.allclose(above[:-1], below[1:], rtol=1e-5, atol=1e-6 * np.abs(above).max()):
            raise ValueError("bins that don't follow each other")
        return encoders.PiecewiseLinear(row, [*below, above[-1].astype(lower.dtype)], units), {}

    return Branch(lower.size, 2 * lower.nbytes, False, make)


def _cosines(graph, node, units):
    shift = _made(graph, node.input[0], "Add", 2)
    scale = _made(graph, shift.input[0], "Mul", 2)
    row = _row(graph, scale.input[0], 1)
    w, b = (_constant(graph, each).reshape(-1, 1) for each in (scale.input[1], shift.input[1]))
    if w.shape != b.shape or not w.size:
        raise _Other

    def make():
        # the number itself comes before a map
        one = encoders.Periodic(row, len(w), None if units is None else units + 1)
        return one, {"w": (w.astype(np.float64) / (2 * np.pi)).astype(w.dtype), "b": b}

    return Branch(len(w), w.nbytes + b.nbytes, False, make)


def _mapped(graph, name, node):
    """A linear map of features."""
    attributes = attributes_of(graph.onnx, node)
    if len(node.input) != 3 or not attributes.get("transB", 0) or attributes.get("transA", 0):
        raise _Other
    if (attributes.get("alpha", 1.0), attributes.get("beta", 1.0)) != (1, 1):
        raise _Other
    M, c = _constant(graph, node.input[1]), _constant(graph, node.input[2])
    if M.ndim != 2 or c.size != len(M):
        raise _Other
    features = _features(graph, node.input[0], len(M))
    if M.shape[1] != features.outputs:
        raise _Other

    def make():
        one, own = features.make()
        return one, own | {"M": np.concatenate([M, c.reshape(-1, 1)], axis=1)}

    return Branch(len(M), features.nbytes + M.nbytes + c.nbytes, False, make)


def _bins(graph, name, node):
    """A linear map of bins; one of cosines has the number itself beside it."""
    if graph.made_by.get(node.input[0]) is None or graph.made_by[node.input[0]].op_type != "Clip":
        raise _Other
    return _mapped(graph, name, node)


def _beside_itself(graph, name, node):
    """x, and a map of its cosines."""
    if len(node.input) != 2 or attributes_of(graph.onnx, node).get("axis") not in (1, -1):
        raise _Other
    map_ = _made(graph, node.input[1], "Gemm", 3)
    cosines = _made(graph, map_.input[0], "Cos", 1)
    branch, row = _mapped(graph, node.input[1], map_), _row(graph, node.input[0], 1)
    scale = _made(graph, _made(graph, cosines.input[0], "Add", 2).input[0], "Mul", 2)
    if _row(graph, scale.input[0], 1) != row:
        raise _Other
    return branch._replace(outputs=branch.outputs + 1)


READERS = {
    "Gather": _gather,
    "Cast": _cast,
    "Cos": lambda graph, name, node: _features(graph, name),
    "Clip": lambda graph, name, node: _features(graph, name),
    "Gemm": _bins,
    "Concat": _beside_itself,
}
"""For each operator: a function (graph, name, node) -> Branch that reads the encoder whose last node it is."""
