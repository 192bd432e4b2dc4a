"""A network as one file of C99: its weights, and a function `predict` for one example.

For microcontrollers and other languages. The file includes math.h (and for labels nothing more), keeps no state and
takes no memory but the stack. How an activation looks is formats.py's affair.
"""

import numpy as np

from nnkern import formats, io
from nnkern.state import of

_NUMBERS_IN_A_LINE = 8
_LINES_AT_ONCE = 4096  # texts of numbers take many times the memory of the numbers

_HEAD = """\
/* {description}
 *
 * predict takes one example x of NETWORK_N_X numbers and writes the NETWORK_N_Y numbers y; x and y must not overlap.
 * It keeps nothing between calls, and the stack holds its {stack} bytes. C99, with libm. Written by nnkern {version}.
 */
#include <math.h>

enum {{ NETWORK_N_X = {n_x}, NETWORK_N_Y = {n_y} }};

void predict(const {real} *x, {real} *y);
"""

_DENSE = """\
/* y = W x + b: W (n, n_prev) row by row, b may be a null pointer */
static void dense({real} *y, const {real} *W, const {real} *b, const {real} *x, int n, int n_prev)
{{
    int i, k;
    for (i = 0; i < n; i++) {{
        {real} z = b ? b[i] : 0;
        for (k = 0; k < n_prev; k++)
            z += W[k] * x[k];
        W += n_prev;
        y[i] = z;
    }}
}}
"""

_ELEMENTWISE = """\
static void {name}({real} *a, int n)
{{
    int i;
    for (i = 0; i < n; i++) {{
        const {real} z = a[i];
        a[i] = {expression};
    }}
}}
"""

_COLUMNWISE = """\
static void {name}({real} *a, int n)
{{
{body}
}}
"""


def source(net, path=None, **dressing):
    """See Network.to_c."""
    import importlib.metadata

    of(net).fitted().check_untrained()
    dress = formats.Dressing(net, **dressing)
    real, f = ("float", "f") if net.dtype == np.float32 else ("double", "")
    widths = [layer.units for layer in net.layers]
    # what a layer gives lies in one of two arrays by turns, of the last in y
    room = [max(widths[0:-1:2], default=0), max(widths[1:-1:2], default=0)]
    scaled = dress.mean is not None or dress.scale is not None
    parts, functions, calls, parameters = [], {}, [], net.parameters

    def constants(name, array, type_=real):
        parts.append(f"static const {type_} {name}[{array.size}] = {{\n{_numbers(array.astype(net.dtype), f)}}};\n")

    def loop(count, statement):
        calls.append(f"    for (i = 0; i < {count}; i++)\n        {statement}")

    declared = [f"{real} a{i}[{size}];" for i, size in enumerate(room) if size]
    x = "x"
    if scaled:
        declared.append(f"{real} scaled[NETWORK_N_X];")
        value = "x[i]"
        if dress.mean is not None:
            constants("mean", dress.mean)
            value = "x[i] - mean[i]"
        if dress.scale is not None:
            constants("scale", dress.scale)
            value = f"({value}) / scale[i]"
        loop("NETWORK_N_X", f"scaled[i] = {value};")
        x = "scaled"
    for l, layer in enumerate(net.layers, start=1):
        W = parameters[f"W{l}"]
        constants(f"W{l}", W)
        if layer.use_bias:
            constants(f"b{l}", parameters[f"b{l}"])
        y = "y" if l == net.L else f"a{(l - 1) % 2}"
        calls.append(f"    dense({y}, W{l}, {f'b{l}' if layer.use_bias else '0'}, {x}, {W.shape[0]}, {W.shape[1]});")
        if layer.activation != "linear":
            name, text = _function(layer, real, f, functions)
            functions[name] = text
            calls.append(f"    {name}({y}, {layer.units});")
        x = y
    if dress.target_scale is not None:
        constants("target_scale", dress.target_scale)
        loop("NETWORK_N_Y", "y[i] *= target_scale[i];")
    if dress.target_mean is not None:
        constants("target_mean", dress.target_mean)
        loop("NETWORK_N_Y", "y[i] += target_mean[i];")
    if any(call.startswith("    for") for call in calls):
        declared.append("int i;")
    stack = (sum(room) + (net.n_x if scaled else 0)) * net.dtype.itemsize
    sizes = " -> ".join([str(net.n_x), *(f"{layer.units} {layer.activation}" for layer in net.layers)])
    head = _HEAD.format(
        description=f"A dense network: {sizes}.",
        stack=stack,
        version=importlib.metadata.version("nnkern"),
        n_x=net.n_x,
        n_y=net.n_y,
        real=real,
    )
    if dress.labels is not None:
        head += _labels(dress.labels)
    body = "\n".join([f"    {line}" for line in declared] + calls)
    text = "\n".join(
        [
            head,
            *parts,
            _DENSE.format(real=real),
            *functions.values(),
            f"void predict(const {real} *x, {real} *y)\n{{\n{body}\n}}\n",
        ]
    )
    if path is not None:
        with io.whole_file(path) as file:
            file.write(text.encode())
    return text


def _function(layer, real, f, functions):
    """(name, text) of the function of a layer's activation; one for each slope there is."""
    form = formats.FORMS[layer.activation].c
    if layer.activation == "softmax":
        return "softmax", _COLUMNWISE.format(name="softmax", real=real, body=form.format(real=real, f=f))
    kind = np.float32 if f else np.float64
    slope = _literal(str(kind(layer.negative_slope)), "")
    name = f"activation_{layer.activation}"  # the names alone are libm's in part
    expression = form.format(f=f, slope=slope)
    text = _ELEMENTWISE.format(name=name, real=real, expression=expression)
    number = 2
    while functions.get(name, text) != text:
        name = f"activation_{layer.activation}_{number}"
        text = _ELEMENTWISE.format(name=name, real=real, expression=expression)
        number += 1
    return name, text


def _literal(text, f):
    """A number, as numpy writes it in as few digits as tell it apart, in C."""
    if text in ("nan", "inf", "-inf"):
        return {"nan": "NAN", "inf": "INFINITY", "-inf": "-INFINITY"}[text]
    return text + f


def _numbers(array, f):
    """Lines of the entries, row by row."""
    flat, lines = np.ascontiguousarray(array).reshape(-1), []
    for first in range(0, len(flat), _LINES_AT_ONCE * _NUMBERS_IN_A_LINE):
        part = flat[first : first + _LINES_AT_ONCE * _NUMBERS_IN_A_LINE].astype(str).tolist()
        texts = [_literal(text, f) for text in part]
        for i in range(0, len(texts), _NUMBERS_IN_A_LINE):
            lines.append(f"    {', '.join(texts[i : i + _NUMBERS_IN_A_LINE])},\n")
    return "".join(lines)


def _labels(labels):
    """The names of the classes as texts of C: class i of a single sigmoid's is y[0] > 0.5."""
    texts = []
    for label in labels:
        # octal escapes, which end after three digits: any text, and no trigraph, comes out as it is
        plain = "".join(
            chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
            for byte in str(label).encode()
        )
        texts.append(f'    "{plain}",\n')
    array = f"const char *const network_labels[{len(labels)}]"
    return f"\nextern {array};\n{array} = {{\n{''.join(texts)}}};\n"
