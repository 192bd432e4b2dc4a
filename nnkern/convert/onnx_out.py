"""Writing ONNX files, opset 17: X (batch, n_x) to A (batch, n_y), examples in rows.

ONNX has in rows what are columns here, and Gemm with transB takes W (n, n_prev) in its own layout. How an activation is
written is in forms.py; the library onnx is needed for its messages only.
"""

import numpy as np

from nnkern._optional import require
from nnkern.convert import forms
from nnkern.convert.options import ExportOptions
from nnkern.files import endings
from nnkern.files.atomic import whole_file

OPSET = 17
LARGEST_MESSAGE = 2**31 - 1
_HEAD_ROOM = 2**20  # bytes for all that isn't parameters

# Operators that onnxruntime has for float32 only, in terms of such as it has for float64 too. (It has none for Erf.)
_IN_DOUBLE = {
    "LeakyRelu": lambda f, z, alpha: f.Where(f.Less(z, 0.0), f.Mul(z, alpha), z),
    "Elu": lambda f, z, alpha: f.Where(f.Less(z, 0.0), f.Mul(f.Sub(f.Exp(z), 1.0), alpha), z),
    "Selu": lambda f, z, alpha, gamma: f.Mul(f.Elu(z, alpha=alpha), gamma),
    "Softplus": lambda f, z: f.Add(f.Relu(z), f.Log(f.Add(f.Exp(f.Neg(f.Abs(z))), 1.0))),
    "HardSwish": lambda f, z: f.Mul(f.Mul(z, f.Clip(f.Add(z, 3.0), 0.0, 6.0)), 1 / 6),
}


class Builder:
    """f.Op(inputs…, attributes…) is what `node(op, inputs, attributes)` of the derived class makes of that operator.

    In float64, it is made of operators that onnxruntime has for it.
    """

    double = False

    def __getattr__(self, op):
        if self.double and op in _IN_DOUBLE:
            return lambda *inputs, **attributes: _IN_DOUBLE[op](self, *inputs, **attributes)
        return lambda *inputs, **attributes: self.node(op, inputs, attributes)


class Graph(Builder):
    """The nodes and constants of a graph that is being written, whose names all begin with `prefix`."""

    def __init__(self, onnx, dtype, prefix=""):
        self._onnx, self._dtype, self._prefix = onnx, dtype, prefix
        self.double = dtype == np.float64
        self.real, self.int64 = map(onnx.helper.np_dtype_to_tensor_dtype, (np.dtype(dtype), np.dtype(np.int64)))
        self.nodes, self.constants = [], {}

    def part(self, dtype):
        """What writes to the same graph in another dtype."""
        part = Graph(self._onnx, dtype, f"{self._prefix}{np.dtype(dtype).name}_")
        part.nodes, part.constants = self.nodes, self.constants
        return part

    def node(self, op, inputs, attributes):
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        output = f"{self._prefix}{op}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(op, names, [output], name=output, **attributes))
        return output

    def constant(self, value, name=None, dtype=None):
        """The name of an array's initializer; numbers are kept once."""
        name = self._prefix + (name or f"constant_{float(value)!r}")
        if name not in self.constants:
            array = np.array(value, dtype or self._dtype, order="C")
            self.constants[name] = self._onnx.numpy_helper.from_array(array, name)
        return name

    def rename_last(self, name):
        """Names the output of the last node."""
        self.nodes[-1].output[0] = name
        return name


def _dense(f, l, layer, a_prev, W, b=None, a=None):
    inputs = [a_prev, f.constant(W, f"W{l}")]
    if b is not None:
        inputs.append(f.constant(b[:, 0], f"b{l}"))
    z = f.Gemm(*inputs, transB=1)
    g = forms.FORMS[layer.activation].onnx(f, z, layer.negative_slope)
    return g if a is None else f.Add(z, f.Mul(f.Sub(g, z), f.constant(a[:, 0], f"a{l}")))


def _scale(f, l, layer, a, s):
    return f.Mul(a, f.constant(s[:, 0], f"s{l}"))


def _encode(f, l, layer, a, **parameters):
    outputs = []
    for i, (encoder, own) in enumerate(layer.parameters_of(parameters)):
        outputs.append(ENCODERS[encoder.name](f, f"{l}_{i}", encoder, a, **own))
    return f.Concat(*layer.in_order(outputs), axis=1)


def _number(f, encoder, a):
    """x (batch, 1)"""
    return f.Gather(a, f.constant([encoder.row], f"row_{encoder.row}", np.int64), axis=1)


def _code(f, encoder, a):
    """(batch,) whole numbers"""
    row = f.constant(encoder.row, f"only_row_{encoder.row}", np.int64)
    return f.Cast(f.Gather(a, row, axis=1), to=f.int64)


def _mapped(f, name, features, M):
    if M is None:
        return features
    return f.Gemm(features, f.constant(M[:, :-1], f"M{name}"), f.constant(M[:, -1], f"c{name}"), transB=1)


def _periodic(f, name, encoder, a, w, b, M=None):
    x = _number(f, encoder, a)
    phase = f.Add(f.Mul(x, f.constant(2 * np.pi * w.T, f"w{name}")), f.constant(b.T, f"b{name}"))
    mapped = _mapped(f, name, f.Cos(phase), M)
    return mapped if M is None else f.Concat(x, mapped, axis=1)


def _piecewise_linear(f, name, encoder, a, M=None):
    e = np.array(encoder.edges)
    shares = f.Mul(
        f.Sub(_number(f, encoder, a), f.constant(e[None, :-1], f"edges{name}")),
        f.constant(1 / np.diff(e)[None], f"widths{name}"),
    )
    return _mapped(f, name, f.Clip(shares, 0, 1), M)


def _one_hot(f, name, encoder, a):
    codes = f.constant(np.arange(encoder.size)[None] + int(encoder.unknown), f"codes{name}")
    return f.Cast(f.Equal(_number(f, encoder, a), codes), to=f.real)


def _embedding(f, name, encoder, a, E):
    return f.Gather(f.constant(E.T, f"E{name}"), _code(f, encoder, a), axis=0)


ENCODERS = {
    "numeric": lambda f, name, encoder, a: _number(f, encoder, a),
    "periodic": _periodic,
    "piecewise_linear": _piecewise_linear,
    "one_hot": _one_hot,
    "embedding": _embedding,
}
"""For each encoder: a function (f, name, encoder, a, **parameters) like those of LAYERS; `name` ends those of
constants."""

LAYERS = {"dense": _dense, "scale": _scale, "encode": _encode}
"""For each kind of layer: a function (f, l, layer, a, **parameters) that adds its nodes behind the value a, and returns
the name of what it computes."""


def to_proto(model, **options):
    """The Model as an onnx.ModelProto, in the Model's dtype; options: see `ExportOptions`.

    With labels the outputs are "label" (batch,), integers or texts, and "probabilities" (batch, classes); a single
    sigmoid output p is written as the two (1 - p, p).
    """
    onnx = require("onnx", "to_onnx")
    refuse_too_large([model])
    export = ExportOptions(model, **options)
    f, a = Graph(onnx, model.dtype), "X"
    if export.mean is not None:
        a = f.Sub(a, f.constant(export.mean, "mean"))
    if export.scale is not None:
        a = f.Div(a, f.constant(export.scale, "scale"))
    a = network(f, model, a)
    if export.target_scale is not None:
        a = f.Mul(a, f.constant(export.target_scale, "target_scale"))
    if export.target_mean is not None:
        a = f.Add(a, f.constant(export.target_mean, "target_mean"))
    X = onnx.helper.make_tensor_value_info("X", f.real, ["batch", model.n_x])
    if export.labels is None:
        outputs = [onnx.helper.make_tensor_value_info(f.rename_last("A"), f.real, ["batch", model.n_y])]
    else:
        outputs = classes(onnx, f, both_classes(f, a) if model.n_y == 1 else a, export.labels)
    return whole(onnx, f, [X], outputs)


def refuse_too_large(models, more=0):
    """A ValueError where the Models' parameters and so many bytes more don't fit a file."""
    size = sum(array.nbytes for model in models for array in model.parameters.values()) + more
    if size > LARGEST_MESSAGE - _HEAD_ROOM:
        raise ValueError(f"an ONNX file holds at most {LARGEST_MESSAGE} bytes; the parameters have {size}")


def network(f, model, a, prefix=""):
    """Adds a Model's layers behind the value a; `prefix` begins the layers' numbers in the constants' names."""
    for l, layer, parameters in model.numbered_layers():
        a = LAYERS[layer.kind](f, f"{prefix}{l}", layer, a, **parameters)
    return a


def both_classes(f, a):
    """(1 - p, p) of a probability p."""
    return f.Concat(f.Sub(1.0, a), a, axis=1)


def classes(onnx, f, a, labels, names=("label", "probabilities")):
    """The graph's outputs of those names: the labels, all texts or all integers, where the last node's value a is
    largest, and a itself."""
    info = onnx.helper.make_tensor_value_info
    texts = isinstance(labels[0], str)
    dtype = object if texts else np.int64
    known = f.constant(np.array(labels, dtype), "labels", dtype)
    a = f.rename_last(names[1])
    f.Gather(known, f.ArgMax(a, axis=1, keepdims=0), axis=0)
    type_ = onnx.TensorProto.STRING if texts else onnx.TensorProto.INT64
    return [info(f.rename_last(names[0]), type_, ["batch"]), info(a, f.real, ["batch", len(labels)])]


def whole(onnx, f, inputs, outputs, opsets=()):
    """The onnx.ModelProto of a graph; `opsets`: (domain, version) of what it needs beside ONNX' own operators."""
    graph = onnx.helper.make_graph(f.nodes, "network", inputs, outputs, list(f.constants.values()))
    opsets = [onnx.helper.make_opsetid(*opset) for opset in (("", OPSET), *opsets)]
    ir_version = onnx.helper.find_min_ir_version_for(opsets)
    return onnx.helper.make_model(graph, producer_name="nnkern", opset_imports=opsets, ir_version=ir_version)


def write(model, path, **options):
    """See Network.to_onnx."""
    endings.check_exported(path, "to_onnx")
    content = to_proto(model, **options).SerializeToString()
    with whole_file(path) as file:
        file.write(content)
