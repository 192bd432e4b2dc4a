"""Reading ONNX files: any chain of dense layers and activations, whichever exporter wrote it.

The graph is walked node by node, noting of each value whether it is a chain of maps from the input, and which. The
library onnx is needed for parsing the messages only: what is in them is checked here.
"""

import os
from pathlib import Path

from nnkern import losses
from nnkern._optional import require
from nnkern.convert import onnx_old
from nnkern.convert.chain import Chain
from nnkern.convert.onnx_constants import STANDARD, Constants
from nnkern.convert.onnx_operators import OPERATORS, State, activation
from nnkern.exceptions import ModelFormatError
from nnkern.files.opening import open_regular, reading

_OLDEST_OPSET = 9


def read(path, loss=None):
    """The Model in an ONNX file. See nnkern.from_onnx."""
    onnx = require("onnx", "from_onnx")
    loss = None if loss is None else losses.get(loss)
    path = os.fsdecode(path)
    with open_regular(path) as file:
        content = file.read()
    with reading(path):
        message = onnx.ModelProto()
        message.ParseFromString(content)
        return _Graph(onnx, message, Path(path).parent).model(loss, len(content))


class _Graph:
    """A graph, and what is known of its values so far.

    Attributes
    ----------
    constants : Constants
    made_by : dict
        {value: the node that it is an output of}
    states : dict
        {value: State}
    parts : set
        Values that are part of an activation that has been recognised.
    batch : int or None
        The number of examples, where the input has one.
    """

    def __init__(self, onnx, message, folder):
        self.onnx, self._graph = onnx, message.graph
        versions = [entry.version for entry in message.opset_import if entry.domain in STANDARD]
        if not self._graph.node or not versions:
            raise ModelFormatError("it holds no ONNX graph")
        if versions[0] < _OLDEST_OPSET:
            self._graph = onnx_old.converted(onnx, message, _OLDEST_OPSET).graph
        self.constants = Constants(onnx, self._graph, folder)
        self.made_by, self.states, self.parts, self.batch = {}, {}, set(), None

    def model(self, loss, size):
        """The Model of the one chain that is an output; `size`: the file's bytes."""
        self._walk()
        found = {}  # an output of each chain: ZipMap, (1 - p, p) and others that change nothing give one again
        for value in self._graph.output:
            if value.name in self.states:
                found.setdefault(id(self.states[value.name].last_step()), value.name)
        if not found:
            raise ModelFormatError(self._first_refused())
        if len(found) > 1:
            raise ModelFormatError(f"its outputs {', '.join(found.values())} are a chain of layers each; taken is one")
        (name,) = found.values()
        return self._chain(self.states[name], size).model(loss)

    def _walk(self):
        """Notes what each node computes, where that is a constant or a chain."""
        self._input()
        for number, node in enumerate(self._graph.node):
            for output in node.output:
                self.made_by[output] = node
            if self.constants.take(node):
                continue
            state = self._state(node, f"node {node.name or number} ({node.op_type})")
            if state is not None:
                self.states[node.output[0]] = state

    def _input(self):
        inputs = [value for value in self._graph.input if value.name not in self.constants]
        if len(inputs) != 1 or not inputs[0].type.HasField("tensor_type"):
            raise ModelFormatError(f"it has {len(inputs)} inputs; a network has one, a tensor")
        type_, inner = inputs[0].type.tensor_type, None
        if type_.HasField("shape"):
            sizes = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in type_.shape.dim]
            if len(sizes) < 2:
                raise ModelFormatError(f"its input has {len(sizes)} dimensions; a network's is (batch, features)")
            self.batch, *inner = sizes
        self.states[inputs[0].name] = State(None, None, inner, type_.elem_type)

    def _state(self, node, where):
        """What its first output is as a chain, or None."""
        if node.domain == "ai.onnx.ml" and node.op_type == "ZipMap" and node.input:
            return self.states.get(node.input[0])
        if node.domain not in STANDARD or not node.input or not node.output:
            return None
        state = OPERATORS[node.op_type](self, node, where) if node.op_type in OPERATORS else None
        return state if state is not None else activation(self, node, where)

    def _chain(self, state, size):
        """The Chain that ends in that state."""
        states = []
        while state is not None:
            if state.step is not None:
                states.append(state)
            state = state.before
        chain, weights = Chain(), 0
        largest = 4 * (size + sum(path.stat().st_size for path in self.constants.external))
        for state in reversed(states):
            weights += state.weights
            if weights > largest:
                raise ModelFormatError(
                    f"{state.where}: the same weights are used again and again: {weights} bytes by now"
                )
            state.step(chain)
        return chain

    def _first_refused(self):
        """What to say where no output is a chain: the first node on the way to one that couldn't be read."""
        needed, waiting = set(), [value.name for value in self._graph.output]
        while waiting:
            node = self.made_by.get(waiting.pop())
            if node is not None and not needed.issuperset(node.output):
                needed.update(node.output)
                waiting += node.input
        for number, node in enumerate(self._graph.node):
            first = node.output[0] if node.output else ""
            known = first in self.states or first in self.constants or first in self.parts
            if first in needed and not known:
                domain = "" if node.domain in STANDARD else f" of {node.domain}"
                return (
                    f"node {node.name or number} ({node.op_type}{domain}) can't be taken: read are chains of dense "
                    "layers and activations"
                )
        return "its output isn't a chain of dense layers and activations"
