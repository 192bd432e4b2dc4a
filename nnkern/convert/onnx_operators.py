"""The operators of ONNX that are read: each takes the value that its node is fed with one map further along its chain.

Knows maps and shapes; the graph and the order of its nodes are onnx_in's. Nothing is computed of a constant before the
chain is known that needs it: thousands of nodes may share one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nnkern.convert import onnx_activations, onnx_encoders
from nnkern.convert.chain import normalisation
from nnkern.convert.onnx_constants import attributes_of


@dataclass(eq=False)
class State:
    """A value of the graph that is a chain of maps from its input."""

    before: Any  # the State that the last map takes; None at the input
    step: Callable | None  # step(chain) adds the last map to a Chain; None where the map changes nothing
    inner: list | None  # its shape without the batch, entries None where unknown; None where nothing is known
    elem_type: int
    where: str = ""
    weights: int = 0  # bytes of the weights that the step adds
    pair: bool = False  # whether it is (1 - p, p) of a chain p

    @property
    def row(self):
        """Whether it is (batch, n), as far as is known."""
        return self.inner is None or len(self.inner) == 1

    @property
    def entries(self):
        """The number of entries of one example, or None where it isn't known."""
        return None if self.inner is None or None in self.inner else math.prod(self.inner)

    def last_step(self):
        """The last one that changes something; None where the chain is the input."""
        state = self
        while state.step is None and state.before is not None:
            state = state.before
        return state.step


def _before(graph, node, position=0):
    """The state that the node takes there, or None where it takes none that another map may follow."""
    state = graph.states.get(node.input[position]) if position < len(node.input) else None
    return None if state is None or state.pair else state


def _row(graph, node, position=0):
    """As `_before`, where it is (batch, n)."""
    state = _before(graph, node, position)
    return state if state is not None and state.row else None


# What changes nothing


def _same(graph, node, where):
    return graph.states.get(node.input[0])


def _dropout(graph, node, where):
    if len(node.input) > 2 and node.input[2]:
        training = graph.constants.get(node.input[2])
        if training is None or training.size != 1 or training.item():
            return None
    return _same(graph, node, where)


def _cast(graph, node, where):
    state, to = graph.states.get(node.input[0]), attributes_of(graph.onnx, node).get("to")
    real = (graph.onnx.TensorProto.FLOAT, graph.onnx.TensorProto.DOUBLE)
    # at the input it says what X is converted to, and the network does that; widening changes nothing
    if state is None or to not in real or not (state.before is None or to >= state.elem_type):
        return None
    return replace(state, elem_type=to)


def _flatten(graph, node, where):
    state = _before(graph, node)
    if state is None or attributes_of(graph.onnx, node).get("axis", 1) != 1:
        return None
    return State(state, None, [state.entries], state.elem_type)


def _reshape(graph, node, where):
    state = graph.states.get(node.input[0])
    shape = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
    if state is None or shape is None or shape.shape != (2,):
        return None
    batch, n = (int(size) for size in shape)
    size = 2 if state.pair else state.entries
    if batch == 0 and attributes_of(graph.onnx, node).get("allowzero", 0):
        return None
    if batch > 0 and batch != graph.batch:
        return None
    if n == -1 and batch != -1:
        n = size
    elif n < 1 or (size is not None and n != size) or (size is None and batch == -1 and state.before is not None):
        return None
    return State(state, None, [n], state.elem_type, pair=state.pair)


def _concat(graph, node, where):
    """An Encode layer, or (1 - p, p), which classifiers make of one sigmoid."""
    found = onnx_encoders.read(graph, node) if attributes_of(graph.onnx, node).get("axis") in (1, -1) else None
    if found is None:
        return _pair(graph, node, where)
    state = next(iter(graph.states.values()))  # the input
    n_x = state.inner[0] if state.inner else None

    def step(chain):
        chain.encode([branch.make for branch in found], n_x, where)

    outputs, nbytes = (sum(each) for each in zip(*((one.outputs, one.nbytes) for one in found), strict=True))
    return State(state, step, [outputs], state.elem_type, where, nbytes)


def _pair(graph, node, where):
    """(1 - p, p)"""
    state = _before(graph, node, 1)
    if len(node.input) != 2 or state is None or attributes_of(graph.onnx, node).get("axis") not in (1, -1):
        return None
    other = graph.made_by.get(node.input[0])
    if other is None or other.op_type != "Sub" or list(other.input[1:]) != [node.input[1]] or state.inner != [1]:
        return None
    one = graph.constants.get(other.input[0])
    if one is None or one.size != 1 or one.item() != 1:
        return None
    return State(state, None, state.inner, state.elem_type, pair=True)


# Dense layers, and what is folded into them


def _dense(state, W, b, where, alpha=1, beta=1):
    """A = alpha W A_prev + beta b; W (n, n_prev), b (n,), one number or None."""
    n, n_prev = W.shape
    if state.inner and state.inner[0] not in (None, n_prev):
        return None

    def step(chain):
        scaled = W if alpha == 1 else (W * alpha).astype(W.dtype)
        bias = None if b is None else np.broadcast_to((b * beta).astype(b.dtype).reshape(-1), (n,))
        chain.dense(scaled, bias, where)

    return State(state, step, [n], state.elem_type, where, W.nbytes)


def _matmul(graph, node, where):
    state = _row(graph, node)
    W = graph.constants.get(node.input[1]) if len(node.input) == 2 else None
    return None if state is None or W is None or W.ndim != 2 else _dense(state, W.T, None, where)


def _gemm(graph, node, where):
    state, attributes = _row(graph, node), attributes_of(graph.onnx, node)
    W = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
    if state is None or W is None or W.ndim != 2 or attributes.get("transA", 0):
        return None
    if not attributes.get("transB", 0):
        W = W.T
    b = None
    if len(node.input) > 2 and node.input[2]:
        b = graph.constants.get(node.input[2])
        if b is None or b.size not in (1, len(W)) or (b.ndim and b.shape[-1] != b.size):
            return None
    return _dense(state, W, b, where, attributes.get("alpha", 1.0), attributes.get("beta", 1.0))


def _affine(graph, node, where):
    """Add, Sub, Mul, Div by a constant, entry by entry; or the sum that is a mix."""
    mix = onnx_encoders.mixed(graph, node) if node.op_type == "Add" else None
    if mix is not None:
        state = graph.states[mix[0]]
        return State(state, lambda chain: chain.mix(mix[1], where), state.inner, state.elem_type, where)
    if len(node.input) != 2:
        return None
    constant, swapped = graph.constants.get(node.input[1]), False
    if constant is None:
        constant, swapped = graph.constants.get(node.input[0]), True
    state = _row(graph, node, int(swapped))
    if state is None or constant is None or constant.dtype.kind != "f":
        return None
    n = state.inner[0] if state.inner else None
    # (n,) as it is, or with ones in front of it
    if constant.size != 1 and (constant.shape[-1] != constant.size or n not in (None, constant.size)):
        return None
    if (constant.size == 1 and constant.ndim > 2) or (swapped and node.op_type == "Div"):
        return None
    scale_and_shift = {
        "Add": lambda c: (None, c),
        "Mul": lambda c: (c, None),
        "Sub": (lambda c: (-np.ones(1), c)) if swapped else (lambda c: (None, -c)),
        "Div": lambda c: (1 / c, None),
    }[node.op_type]

    def step(chain):
        chain.affine(*scale_and_shift(constant.reshape(-1).astype(np.float64)), where)

    return State(state, step, [constant.size] if constant.size > 1 else state.inner, state.elem_type, where)


def _batch_normalization(graph, node, where):
    state, attributes = _row(graph, node), attributes_of(graph.onnx, node)
    constants = [graph.constants.get(name) for name in node.input[1:]]
    if state is None or len(constants) != 4 or attributes.get("training_mode", 0):
        return None
    if any(constant is None or constant.ndim != 1 or len(constant) != len(constants[0]) for constant in constants):
        return None

    def step(chain):
        chain.affine(*normalisation(*constants, attributes.get("epsilon", 1e-5)), where)

    return State(state, step, [len(constants[0])], state.elem_type, where)


OPERATORS = {
    "Add": _affine,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Concat": _concat,
    "Div": _affine,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "Identity": _same,
    "MatMul": _matmul,
    "Mul": _affine,
    "Reshape": _reshape,
    "Sub": _affine,
}
"""For each operator: a function (graph, node, where) -> State, or None for a node that can't be read. A kind of layer
is read by the operators that it is written as, whose steps add it to the Chain."""


def activation(graph, node, where):
    """The State of a node that is the last of an activation's, of one value before it that is a chain; else None."""
    for name in onnx_activations.near(graph, node):
        state = graph.states.get(name)
        if state is None or state.pair or not state.row:
            continue
        found = onnx_activations.recognise(graph, node, name)
        if found is not None:
            g, slope, values = found
            graph.parts.update(values)

            def step(chain, g=g, slope=slope):
                chain.activate(g, slope, where)

            return State(state, step, state.inner, state.elem_type, where)
    return None
