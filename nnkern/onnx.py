"""ONNX files: export of any network, import of any chain of dense layers and activations.

ONNX has examples in rows: its X is (batch, n_x), a row what a column is here, and Gemm with transB takes W (n, n_prev)
as it lies. How an activation looks is formats.py's affair; export runs its rows over a graph that is written, import
over one that is looked for. The library onnx is used for reading and writing its messages only: files are judged here.
"""

import math
import os
from pathlib import Path

import numpy as np

from nnkern import formats, io
from nnkern._optional import require
from nnkern.exceptions import ModelFormatError
from nnkern.interop import Chain, normalisation
from nnkern.state import of

OPSET = 17
_OLDEST_OPSET = 9
_STANDARD = ("", "ai.onnx")
_LARGEST_MESSAGE = 2**31 - 1

# Operators that onnxruntime has for float32 only, in terms of such as it has for float64 too. (It has none for Erf.)
_IN_DOUBLE = {
    "LeakyRelu": lambda f, z, alpha: f.Where(f.Less(z, 0.0), f.Mul(z, alpha), z),
    "Elu": lambda f, z, alpha: f.Where(f.Less(z, 0.0), f.Mul(f.Sub(f.Exp(z), 1.0), alpha), z),
    "Selu": lambda f, z, alpha, gamma: f.Mul(f.Elu(z, alpha=alpha), gamma),
    "Softplus": lambda f, z: f.Add(f.Relu(z), f.Log(f.Add(f.Exp(f.Neg(f.Abs(z))), 1.0))),
    "HardSwish": lambda f, z: f.Mul(f.Mul(z, f.Clip(f.Add(z, 3.0), 0.0, 6.0)), 1 / 6),
}

# What other exporters write for an activation, where it differs from what is written here.
_OTHER_FORMS = [
    ("leaky_relu", lambda f, z, slope: f.PRelu(z, slope)),
    ("gelu", lambda f, z, _: f.Gelu(z, approximate="none")),
    ("gelu_tanh", lambda f, z, _: f.Gelu(z, approximate="tanh")),
    ("silu", lambda f, z, _: f.Swish(z, alpha=1.0)),
    ("mish", lambda f, z, _: f.Mish(z)),
    ("hard_swish", lambda f, z, _: f.Mul(z, f.HardSigmoid(z, alpha=1 / 6, beta=0.5))),
    # torch's softplus is z itself from a threshold on; 20 is its default, 40 what this package gives it
    ("softplus", lambda f, z, _: f.Where(f.Greater(z, 20.0), z, f.Softplus(z))),
    ("softplus", lambda f, z, _: f.Where(f.Greater(z, 40.0), z, f.Softplus(z))),
]

_DEFAULTS = {
    "LeakyRelu": {"alpha": 0.01},
    "Elu": {"alpha": 1.0},
    "Selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Swish": {"alpha": 1.0},
    "Gelu": {"approximate": "none"},
    "Softmax": {"axis": -1},
}


# ---------------------------------------------------------------------------------------------------------------------
# Export


class _Builder:
    """f.Op(inputs…, attributes…) is a node of that operator; in float64, of such as onnxruntime has."""

    double = False

    def __getattr__(self, op):
        if self.double and op in _IN_DOUBLE:
            return lambda *inputs, **attributes: _IN_DOUBLE[op](self, *inputs, **attributes)
        return lambda *inputs, **attributes: self.node(op, inputs, attributes)


class _Graph(_Builder):
    """The nodes and constants of a graph that is being written."""

    def __init__(self, onnx, dtype):
        self._onnx, self._dtype = onnx, dtype
        self.double = dtype == np.float64
        self.nodes, self.constants = [], {}

    def node(self, op, inputs, attributes):
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        output = f"{op}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(op, names, [output], name=output, **attributes))
        return output

    def constant(self, value, name=None, dtype=None):
        """The name of an array's initializer; numbers are kept once."""
        name = name or f"constant_{float(value)!r}"
        if name not in self.constants:
            array = np.array(value, dtype or self._dtype, order="C")
            self.constants[name] = self._onnx.numpy_helper.from_array(array, name)
        return name


def to_model(net, **dressing):
    """The network as an onnx.ModelProto, opset 17: X (batch, n_x) to A (batch, n_y), in the network's dtype.

    Parameters
    ----------
    net : Network
    **dressing
        See `nnkern.formats.Dressing`: mean and scale of the features, target_mean and target_scale, labels. With labels
        the outputs are "label" (batch,), integers or texts, and "probabilities" (batch, classes); a single sigmoid
        output p gives the two (1 - p, p).

    Returns
    -------
    onnx.ModelProto
    """
    onnx = require("onnx", "to_onnx")
    engine = of(net).fitted()
    engine.check_untrained()
    size = engine.theta.nbytes
    if size > _LARGEST_MESSAGE - 2**20:
        raise ValueError(f"an ONNX file holds at most {_LARGEST_MESSAGE} bytes; the parameters have {size}")
    dress = formats.Dressing(net, **dressing)
    f, parameters = _Graph(onnx, net.dtype), net.parameters
    a = "X"
    if dress.mean is not None:
        a = f.Sub(a, f.constant(dress.mean, "mean"))
    if dress.scale is not None:
        a = f.Div(a, f.constant(dress.scale, "scale"))
    for l, layer in enumerate(net.layers, start=1):
        inputs = [a, f.constant(parameters[f"W{l}"], f"W{l}")]
        if layer.use_bias:
            inputs.append(f.constant(parameters[f"b{l}"][:, 0], f"b{l}"))
        a = formats.FORMS[layer.activation].onnx(f, f.Gemm(*inputs, transB=1), layer.negative_slope)
    if dress.target_scale is not None:
        a = f.Mul(a, f.constant(dress.target_scale, "target_scale"))
    if dress.target_mean is not None:
        a = f.Add(a, f.constant(dress.target_mean, "target_mean"))
    real = onnx.helper.np_dtype_to_tensor_dtype(net.dtype)
    width, outputs = net.n_y, []
    if dress.labels is not None:
        if net.n_y == 1:
            a, width = f.Concat(f.Sub(1.0, a), a, axis=1), 2
        kind = object if isinstance(dress.labels[0], str) else np.int64
        labels = f.constant(np.array(dress.labels, kind), "labels", kind)
    f.nodes[-1].output[0] = a = "A" if dress.labels is None else "probabilities"
    if dress.labels is not None:
        f.Gather(labels, f.ArgMax(a, axis=1, keepdims=0), axis=0)
        f.nodes[-1].output[0] = "label"
        type_ = onnx.TensorProto.STRING if kind is object else onnx.TensorProto.INT64
        outputs.append(onnx.helper.make_tensor_value_info("label", type_, ["batch"]))
    outputs.append(onnx.helper.make_tensor_value_info(a, real, ["batch", width]))
    graph = onnx.helper.make_graph(
        f.nodes,
        "network",
        [onnx.helper.make_tensor_value_info("X", real, ["batch", net.n_x])],
        outputs,
        list(f.constants.values()),
    )
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(
        graph,
        producer_name="nnkern",
        opset_imports=opsets,
        ir_version=onnx.helper.find_min_ir_version_for(opsets),
    )


def save(net, path, **dressing):
    """See Network.to_onnx."""
    content = to_model(net, **dressing).SerializeToString()
    with io.whole_file(path) as file:
        file.write(content)


# ---------------------------------------------------------------------------------------------------------------------
# Import: the values of the graph that are chains of maps from its input, node by node


def load(path, loss):
    """See nnkern.from_onnx."""
    onnx = require("onnx", "from_onnx")
    path = os.fsdecode(path)
    with open(path, "rb") as file:
        content = file.read()
    with io.reading(path):
        model = onnx.ModelProto()
        model.ParseFromString(content)
        return _Reader(onnx, model, Path(path).parent, len(content)).network(loss)


class _State:
    """A value of the graph that is a chain of maps from its input."""

    def __init__(self, before, step, inner, elem_type, where="", pair=False):
        self.before = before  # the state that the last map takes; None at the input
        self.step = step  # (method of Chain, *arguments), or None where the last map changes nothing
        self.inner = inner  # its shape without the batch, entries None where unknown; None where nothing is known
        self.elem_type = elem_type
        self.where = where
        self.pair = pair  # whether it is (1 - p, p) of a chain p

    def last_step(self):
        """The last one that changes something; None where the chain is the input."""
        state = self
        while state.step is None and state.before is not None:
            state = state.before
        return state.step


class _Reader:
    def __init__(self, onnx, model, folder, size):
        self._onnx, self._folder, self._size = onnx, folder, size
        self._graph = model.graph
        versions = [entry.version for entry in model.opset_import if entry.domain in _STANDARD]
        if not model.graph.node or not versions:
            raise ModelFormatError("it holds no ONNX graph")
        if versions[0] < _OLDEST_OPSET:
            raise ModelFormatError(f"it is of opset {versions[0]}; read are {_OLDEST_OPSET} and newer")
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._arrays = {}  # constants that have been decoded
        self._made_by = {}  # {value: node}
        self._states = {}  # {value: _State}
        self._taken = set()  # outputs of nodes that are part of something larger that has been taken
        self._templates = _templates()
        self._external = set()

    def network(self, loss):
        onnx = self._onnx
        inputs = [value for value in self._graph.input if value.name not in self._tensors]
        if len(inputs) != 1 or not inputs[0].type.HasField("tensor_type"):
            raise ModelFormatError(f"it has {len(inputs)} inputs; a network has one, a tensor")
        type_ = inputs[0].type.tensor_type
        inner = None
        self._batch = None
        if type_.HasField("shape"):
            sizes = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in type_.shape.dim]
            if len(sizes) < 2:
                raise ModelFormatError(f"its input has {len(sizes)} dimensions; a network's is (batch, features)")
            self._batch, *inner = sizes
        self._states[inputs[0].name] = _State(None, None, inner, type_.elem_type)
        for number, node in enumerate(self._graph.node):
            where = f"node {node.name or number} ({node.op_type})"
            for output in node.output:
                self._made_by[output] = node
            if node.op_type == "Constant" and node.domain in _STANDARD:
                self._tensors[node.output[0]] = node
                continue
            array = self._folded(node)
            if array is not None:
                self._arrays[node.output[0]] = array
                continue
            state = self._state(node, where)
            if state is not None:
                self._states[node.output[0]] = state
        found = {}  # an output of each chain: ZipMap, (1 - p, p) and others that change nothing give one again
        for value in self._graph.output:
            if value.name in self._states:
                found.setdefault(id(self._states[value.name].last_step()), value.name)
        if not found:
            raise ModelFormatError(self._first_refused(onnx))
        if len(found) > 1:
            raise ModelFormatError(f"its outputs {', '.join(found.values())} are a chain of layers each; taken is one")
        (name,) = found.values()
        return self._assemble(self._states[name], loss)

    def _assemble(self, state, loss):
        steps = []
        while state is not None:
            if state.step is not None:
                steps.append((state.step, state.where))
            state = state.before
        chain, bytes_ = Chain(), 0
        for (method, *arguments), where in reversed(steps):
            if method == "dense":
                bytes_ += arguments[0].nbytes
                if bytes_ > 4 * (self._size + sum(path.stat().st_size for path in self._external)):
                    raise ModelFormatError(f"{where}: the same weights are used again and again: {bytes_} bytes by now")
            getattr(chain, method)(*arguments, where)
        return chain.network(loss)

    def _first_refused(self, onnx):
        """What to say where no output is a chain: the first node on the way to one that couldn't be taken."""
        needed, waiting = set(), [value.name for value in self._graph.output]
        while waiting:
            node = self._made_by.get(waiting.pop())
            if node is not None and not needed.issuperset(node.output):
                needed.update(node.output)
                waiting += node.input
        for number, node in enumerate(self._graph.node):
            first = node.output[0] if node.output else ""
            known = first in self._states or first in self._tensors or first in self._taken or first in self._arrays
            if first in needed and not known:
                domain = "" if node.domain in _STANDARD else f" of {node.domain}"
                return (
                    f"node {node.name or number} ({node.op_type}{domain}) can't be taken: read are chains of dense "
                    "layers and activations"
                )
        return "its output isn't a chain of dense layers and activations"

    # Constants

    def _constant(self, name):
        """The array of that name, or None where it is no constant."""
        if name not in self._arrays:
            array = self._decode(name)
            if array is None:
                return None
            self._arrays[name] = array
        return self._arrays[name]

    def _decode(self, name):
        source = self._tensors.get(name)
        if source is None:
            return None
        if isinstance(source, self._onnx.TensorProto):
            return self._array(source)
        (attribute,) = source.attribute
        value = self._onnx.helper.get_attribute_value(attribute)
        if attribute.name == "value":
            return self._array(value)
        dtypes = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
        return np.array(value, dtypes[attribute.name])

    def _folded(self, node):
        """The array of a node over a constant that gives no more than it takes; None for any other node."""
        if node.domain not in _STANDARD or node.op_type not in ("Identity", "Transpose") or not node.input:
            return None
        array = self._constant(node.input[0])
        if array is None or node.op_type == "Identity":
            return array
        return array.transpose(self._attributes(node).get("perm"))

    def _array(self, tensor):
        types = {self._onnx.TensorProto.FLOAT: "<f4", self._onnx.TensorProto.DOUBLE: "<f8"}
        types |= {self._onnx.TensorProto.INT64: "<i8", self._onnx.TensorProto.BOOL: "?"}
        if tensor.data_type not in types:
            return np.zeros(0)  # of a type that no network has: fits nowhere
        shape = tuple(tensor.dims)
        count = math.prod(shape)
        dtype = np.dtype(types[tensor.data_type])
        if min(shape, default=1) < 0:
            raise ModelFormatError(f"the constant {tensor.name} has shape {shape}")
        if tensor.data_location == self._onnx.TensorProto.EXTERNAL:
            return self._outside(tensor, shape, dtype)
        held = len(tensor.raw_data) // dtype.itemsize if tensor.HasField("raw_data") else None
        if held is None:
            held = len(tensor.float_data) + len(tensor.double_data) + len(tensor.int64_data) + len(tensor.int32_data)
        if held != count:
            raise ModelFormatError(f"the constant {tensor.name} has shape {shape}, but {held} entries")
        return self._onnx.numpy_helper.to_array(tensor)

    def _outside(self, tensor, shape, dtype):
        """An array that lies in a file beside the model's, as torch's exporter puts them; mapped, not read."""
        facts = {entry.key: entry.value for entry in tensor.external_data}
        name = facts.get("location", "")
        path = self._folder / name
        if name != os.path.basename(name) or name in ("", ".", "..") or path.is_symlink() or not path.is_file():
            raise ModelFormatError(
                f"the constant {tensor.name} is said to lie in {name!r}; taken are plain files beside the model"
            )
        offset, count = int(facts.get("offset", 0)), math.prod(shape)
        if offset < 0 or offset + count * dtype.itemsize > path.stat().st_size or "\0" in name:
            raise ModelFormatError(f"the constant {tensor.name} of shape {shape} reaches over the end of {name}")
        self._external.add(path)
        if count == 0:
            return np.zeros(shape, dtype)
        return np.memmap(path, dtype, "r", offset, shape)

    def _attributes(self, node):
        """{name: number, list of numbers or text}"""
        values = {}
        for attribute in node.attribute:
            value = self._onnx.helper.get_attribute_value(attribute)
            values[attribute.name] = value.decode() if isinstance(value, bytes) else value
        return values

    # Nodes

    def _state(self, node, where):
        """What its first output is as a chain, or None."""
        if node.domain == "ai.onnx.ml" and node.op_type == "ZipMap" and node.input:
            return self._states.get(node.input[0])
        if node.domain not in _STANDARD or not node.input or not node.output:
            return None
        take = getattr(self, f"_take_{node.op_type}", None)
        state = None if take is None else take(node, where)
        return state if state is not None else self._activation(node, where)

    def _before(self, node, position=0):
        """The state that the node takes there, or None where it takes none that can be gone on from."""
        state = self._states.get(node.input[position]) if position < len(node.input) else None
        return None if state is None or state.pair else state

    def _same(self, node, where):
        return self._states.get(node.input[0])

    _take_Identity = _same

    def _take_Dropout(self, node, where):
        if len(node.input) > 2 and node.input[2]:
            training = self._constant(node.input[2])
            if training is None or training.size != 1 or training.item():
                return None
        return self._same(node, where)

    def _take_Cast(self, node, where):
        state = self._states.get(node.input[0])
        to = self._attributes(node).get("to")
        real = (self._onnx.TensorProto.FLOAT, self._onnx.TensorProto.DOUBLE)
        # at the input it says what X is converted to, and the network does that; widening changes nothing
        if state is None or to not in real or not (state.before is None or to >= state.elem_type):
            return None
        return _State(state.before, state.step, state.inner, to, state.where, state.pair)

    def _flat(self, state):
        """Entries of one example, where they are known."""
        if state.inner is None or None in state.inner:
            return None
        return math.prod(state.inner)

    def _take_Flatten(self, node, where):
        state = self._before(node)
        if state is None or self._attributes(node).get("axis", 1) != 1:
            return None
        return _State(state, None, [self._flat(state)], state.elem_type)

    def _take_Reshape(self, node, where):
        state = self._states.get(node.input[0])
        shape = self._constant(node.input[1]) if len(node.input) > 1 else None
        if state is None or shape is None or shape.shape != (2,):
            return None
        batch, n = (int(size) for size in shape)
        size = 2 if state.pair else self._flat(state)
        if batch == 0 and self._attributes(node).get("allowzero", 0):
            return None
        if batch > 0 and batch != self._batch:
            return None
        if n == -1 and batch != -1:
            n = size
        elif n < 1 or (size is not None and n != size) or (size is None and batch == -1 and state.before is not None):
            return None
        return _State(state, None, [n], state.elem_type, pair=state.pair)

    def _row(self, state):
        """Whether a value is (batch, n), as far as is known."""
        return state is not None and (state.inner is None or len(state.inner) == 1)

    def _dense(self, state, W, b, where):
        if W.ndim != 2 or (state.inner and state.inner[0] not in (None, W.shape[1])):
            return None
        return _State(state, ("dense", W, b), [W.shape[0]], state.elem_type, where)

    def _take_MatMul(self, node, where):
        state = self._before(node)
        W = self._constant(node.input[1]) if len(node.input) == 2 else None
        if not self._row(state) or W is None or W.ndim != 2:
            return None
        return self._dense(state, W.T, None, where)

    def _take_Gemm(self, node, where):
        state, attributes = self._before(node), self._attributes(node)
        W = self._constant(node.input[1]) if len(node.input) > 1 else None
        if not self._row(state) or W is None or W.ndim != 2 or attributes.get("transA", 0):
            return None
        if not attributes.get("transB", 0):
            W = W.T
        alpha, beta, b = attributes.get("alpha", 1.0), attributes.get("beta", 1.0), None
        if alpha != 1:
            W = (W * alpha).astype(W.dtype)
        if len(node.input) > 2 and node.input[2]:
            b = self._constant(node.input[2])
            if b is None or b.size not in (1, len(W)) or (b.ndim and b.shape[-1] != b.size):
                return None
            b = np.broadcast_to((b * beta).astype(b.dtype).reshape(-1), (len(W),))
        return self._dense(state, W, b, where)

    def _affine(self, node, where):
        """Add, Sub, Mul, Div by a constant, entry by entry."""
        if len(node.input) != 2:
            return None
        constant, swapped = self._constant(node.input[1]), False
        state = self._before(node)
        if constant is None:
            constant, swapped = self._constant(node.input[0]), True
            state = self._before(node, 1)
        if not self._row(state) or constant is None or constant.dtype.kind != "f":
            return None
        n = state.inner[0] if state.inner else None
        # (n,) as it is, or with ones in front of it
        if constant.size != 1 and (constant.shape[-1] != constant.size or n not in (None, constant.size)):
            return None
        if constant.size == 1 and constant.ndim > 2:
            return None
        c = constant.reshape(-1).astype(np.float64)
        if node.op_type == "Add":
            scale, shift = None, c
        elif node.op_type == "Mul":
            scale, shift = c, None
        elif node.op_type == "Sub":
            scale, shift = (-np.ones(1), c) if swapped else (None, -c)
        elif swapped:
            return None
        else:
            scale, shift = 1 / c, None
        width = [constant.size] if constant.size > 1 else state.inner
        return _State(state, ("affine", scale, shift), width, state.elem_type, where)

    _take_Add = _take_Sub = _take_Mul = _take_Div = _affine

    def _take_BatchNormalization(self, node, where):
        state, attributes = self._before(node), self._attributes(node)
        constants = [self._constant(name) for name in node.input[1:]]
        if not self._row(state) or len(constants) != 4 or attributes.get("training_mode", 0):
            return None
        if any(constant is None or constant.ndim != 1 or len(constant) != len(constants[0]) for constant in constants):
            return None
        scale, shift = normalisation(*constants, attributes.get("epsilon", 1e-5))
        return _State(state, ("affine", scale, shift), [len(scale)], state.elem_type, where)

    def _take_Concat(self, node, where):
        """(1 - p, p), which classifiers make of one sigmoid."""
        state = self._before(node, 1)
        if len(node.input) != 2 or state is None or self._attributes(node).get("axis") not in (1, -1):
            return None
        other = self._made_by.get(node.input[0])
        if other is None or other.op_type != "Sub" or list(other.input[1:]) != [node.input[1]] or state.inner != [1]:
            return None
        one = self._constant(other.input[0])
        if one is None or one.size != 1 or one.item() != 1:
            return None
        return _State(state, None, state.inner, state.elem_type, pair=True)

    # Activations

    def _activation(self, node, where):
        """The node as the last of an activation's: of one value before it that is a chain, a form that is known."""
        for name in self._near(node):
            state = self._states.get(name)
            if not self._row(state) or state.pair:
                continue
            seen = []
            try:
                expression = self._expression(node.output[0], name, seen)
                key, numbers = _text(_canonical(expression))
            except _Unknown:
                continue
            for expected, activation in self._templates.get(key, ()):
                fits, slope = _compare(numbers, expected)
                if fits:
                    self._taken.update(seen)
                    return _State(state, ("activate", activation, slope), state.inner, state.elem_type, where)
        return None

    def _near(self, node):
        """The values that a node is made of, near ones first, as many as an activation may have."""
        found, waiting = [], list(node.input)
        while waiting and len(found) < _MOST_NODES:
            name = waiting.pop(0)
            if name in found:
                continue
            found.append(name)
            if name in self._made_by:
                waiting += self._made_by[name].input
        return found

    def _expression(self, name, leaf, seen):
        """A value as nested tuples (operator, arguments, attributes) over "z", the value `leaf`, and numbers."""
        if name == leaf:
            return "z"
        constant = self._constant(name)
        if constant is not None:
            if constant.size != 1 or constant.dtype.kind not in "fi":
                raise _Unknown
            return float(constant.item())
        node = self._made_by.get(name)
        seen.append(name)
        if node is None or len(seen) > _MOST_NODES or node.domain not in _STANDARD or len(node.input) > 3:
            raise _Unknown
        arguments = [self._expression(value, leaf, seen) for value in node.input if value]
        return node.op_type, arguments, self._attributes(node)


# ---------------------------------------------------------------------------------------------------------------------
# Activations as expressions in z, compared in a form in which the order of factors and terms doesn't matter

_MOST_NODES = 32  # of one activation, and factors of a product in it
_TOLERANCE = 1e-6  # relative, of constants: they may have been rounded to float32, and multiplied
_OPERANDS = {"Neg": 1, "Mul": 2, "Div": 2, "Pow": 2, "Add": 2, "Sub": 2}
_SLOPE = math.nan  # stands for the slope in the forms


class _Unknown(Exception):
    """An expression that no activation looks like."""


class _Forms(_Builder):
    """Makes expressions instead of nodes."""

    def __init__(self, double):
        self.double = double

    @staticmethod
    def node(op, inputs, attributes):
        return op, list(inputs), attributes


def _templates():
    """{key: [(numbers, activation)]} of every form."""
    forms = [(name, forms.onnx, double) for name, forms in formats.FORMS.items() for double in (False, True)]
    forms += [(name, form, False) for name, form in _OTHER_FORMS]
    found = {}
    for name, form, double in forms:
        if name in formats.FORMS and name != "linear":
            key, numbers = _text(_canonical(form(_Forms(double), "z", _SLOPE)))
            found.setdefault(key, []).append((numbers, name))
    return found


def _canonical(e):
    """An expression as (coefficient, factors); a factor is (key, numbers, terms), its terms those of a sum."""
    if e == "z":
        return 1.0, [("z", (), None)]
    if isinstance(e, float):
        return e, []
    op, arguments, attributes = e
    if len(arguments) != _OPERANDS.get(op, len(arguments)):
        raise _Unknown
    if op == "Neg":
        coefficient, factors = _canonical(arguments[0])
        return -coefficient, factors
    if op == "Mul":
        (c, first), (d, second) = map(_canonical, arguments)
        return c * d, first + second
    if op in ("Div", "Pow"):
        (c, first), (d, second) = map(_canonical, arguments)
        if not second and op == "Div" and d != 0:
            return c / d, first
        if not second and op == "Pow" and d in (2, 3):
            if len(first) > _MOST_NODES:
                raise _Unknown
            return c**d, first * int(d)
    if op in ("Add", "Sub"):
        return 1.0, [_sum(arguments, -1.0 if op == "Sub" else 1.0)]
    attributes = {**_DEFAULTS.get(op, {}), **attributes}
    if op == "Softmax" and attributes["axis"] == 1:
        attributes["axis"] = -1
    parts, numbers = [], []
    for argument in arguments:
        key, own = _text(_canonical(argument))
        parts.append(key)
        numbers += own
    for name, value in sorted(attributes.items()):
        if isinstance(value, int | float):
            parts.append(name)
            numbers.append(float(value))
        else:
            parts.append(f"{name}={value}")
    return 1.0, [(f"{op}({','.join(parts)})", tuple(numbers), None)]


def _sum(arguments, sign):
    """A factor that is the sum of the two; sums in it are dissolved."""
    terms, constant = [], 0.0
    for factor, argument in zip((1.0, sign), arguments, strict=True):
        c, factors = _canonical(argument)
        c *= factor
        if not factors:
            constant += c
        elif len(factors) == 1 and factors[0][2] is not None:
            terms += [(c * d, inner) for d, inner in factors[0][2]]
        else:
            terms.append((c, factors))
    numbered = [term for term in terms if term[1]]
    constant += sum(c for c, factors in terms if not factors)
    if constant:
        numbered.append((constant, []))
    texts = sorted(map(_text, numbered), key=lambda text: text[0])
    return f"({'+'.join(key for key, _ in texts)})", tuple(x for _, own in texts for x in own), numbered


def _text(product):
    """(key, numbers): the product with # for each number in it, and these in their order."""
    coefficient, factors = product
    factors = sorted(factors, key=lambda factor: factor[0])
    return "*".join(["#", *(key for key, _, _ in factors)]), (coefficient, *(x for _, own, _ in factors for x in own))


def _compare(numbers, expected):
    """Whether the numbers are those expected, and what stands where the slope does (None where it doesn't)."""
    slope = None
    for found, wanted in zip(numbers, expected, strict=True):
        if math.isnan(wanted):
            if slope is not None and found != slope:
                return False, None
            slope = found
        elif not abs(found - wanted) <= _TOLERANCE * abs(wanted):
            return False, None
    return True, slope
