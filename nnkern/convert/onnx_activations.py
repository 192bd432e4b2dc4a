"""Which activation the nodes of an ONNX graph compute: as an expression in z they are compared with every known form.

The comparison is of a canonical form in which the order of factors and terms doesn't matter. Knows no layers.
"""

import math

from nnkern.convert import forms
from nnkern.convert.onnx_constants import STANDARD, attributes_of
from nnkern.convert.onnx_out import Builder

_MOST_NODES = 32  # of one activation, and factors of a product in it
_TOLERANCE = 1e-6  # relative, of constants: they may have been rounded to float32, and multiplied
_OPERANDS = {"Neg": 1, "Mul": 2, "Div": 2, "Pow": 2, "Add": 2, "Sub": 2}
_SLOPE = math.nan  # stands for the slope in the forms

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


class _Unknown(Exception):
    """An expression that no activation looks like."""


def recognise(graph, node, leaf):
    """(activation, slope, names of the values on the way) where the node's output is an activation of the value `leaf`.

    None where it is no activation that is known; the slope is None where the activation has none.
    """
    seen = []
    try:
        key, numbers = _text(_canonical(_expression(graph, node.output[0], leaf, seen)))
    except _Unknown:
        return None
    for expected, activation in _TEMPLATES.get(key, ()):
        fits, slope = _compare(numbers, expected)
        if fits:
            return activation, slope, seen
    return None


def near(graph, node):
    """The values that a node is made of, near ones first, as many as an activation may have."""
    found, waiting = [], list(node.input)
    while waiting and len(found) < _MOST_NODES:
        name = waiting.pop(0)
        if name in found:
            continue
        found.append(name)
        if name in graph.made_by:
            waiting += graph.made_by[name].input
    return found


def _expression(graph, name, leaf, seen):
    """A value as nested tuples (operator, arguments, attributes) over "z", the value `leaf`, and numbers."""
    if name == leaf:
        return "z"
    constant = graph.constants.get(name)
    if constant is not None:
        if constant.size != 1 or constant.dtype.kind not in "fi":
            raise _Unknown
        return float(constant.item())
    node = graph.made_by.get(name)
    seen.append(name)
    if node is None or len(seen) > _MOST_NODES or node.domain not in STANDARD or len(node.input) > 3:
        raise _Unknown
    arguments = [_expression(graph, value, leaf, seen) for value in node.input if value]
    return node.op_type, arguments, attributes_of(graph.onnx, node)


class _Expressions(Builder):
    """Makes expressions instead of nodes."""

    def __init__(self, double):
        self.double = double

    def node(self, op, inputs, attributes):
        return op, list(inputs), attributes


def _templates():
    """{key: [(numbers, activation)]} of every form."""
    written = [(name, row.onnx, double) for name, row in forms.FORMS.items() for double in (False, True)]
    found = {}
    for name, form, double in written + [(name, form, False) for name, form in _OTHER_FORMS]:
        if name != "linear":
            key, numbers = _text(_canonical(form(_Expressions(double), "z", _SLOPE)))
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


_TEMPLATES = _templates()
