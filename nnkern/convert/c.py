"""A network as one file of C99: its weights, and a function `predict` for one example.

For microcontrollers and other languages. The file includes math.h and nothing more, keeps no state and takes no memory
but the stack. How C writes an activation is in forms.py.
"""

import numpy as np

from nnkern.convert import forms
from nnkern.convert.options import ExportOptions
from nnkern.files import endings
from nnkern.files.atomic import whole_file

_NUMBERS_IN_A_LINE = 8
_CHARACTERS_IN_A_LINE = 100
_LONGEST_LITERAL = 4095  # characters that every compiler of C99 takes
_LINES_AT_ONCE = 4096  # texts of numbers take many times the memory of the numbers
_NOT_FINITE = {"nan": "NAN", "inf": "INFINITY", "-inf": "-INFINITY"}

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
static void {name}({real} *y, const {real} *W, const {real} *b, const {real} *x, int n, int n_prev)
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


_PERIODIC = """\
/* y[i] = cos(w[i] x + b[i]) */
static void {name}({real} *y, const {real} *w, const {real} *b, {real} x, int k)
{{
    int i;
    for (i = 0; i < k; i++)
        y[i] = cos{suffix}(w[i] * x + b[i]);
}}
"""

_BINS = """\
/* y[i] = (x - edges[i]) / width of bin i, between 0 and 1 */
static void {name}({real} *y, const {real} *edges, const {real} *inverse, {real} x, int k)
{{
    int i;
    for (i = 0; i < k; i++) {{
        const {real} f = (x - edges[i]) * inverse[i];
        y[i] = f < 0 ? 0 : f > 1 ? 1 : f;
    }}
}}
"""

_ONE_HOT = """\
static void {name}({real} *y, int code, int n)
{{
    int i;
    for (i = 0; i < n; i++)
        y[i] = i == code;
}}
"""

_CODE = """\
/* the code x, a whole number from 0 to size - 1; -1 for anything else */
static int {name}({real} x, int size)
{{
    return x >= 0 && x < size ? (int)x : -1;
}}
"""

_COPY = """\
static void {name}({real} *y, const {real} *x, int n)
{{
    int i;
    for (i = 0; i < n; i++)
        y[i] = x[i];
}}
"""


_EMBEDDING = """\
/* the vector of a code, of code 0 where there is none */
static void {name}({real} *y, const {real} *E, int code, int n)
{{
    int i;
    for (i = 0; i < n; i++)
        y[i] = E[(code > 0 ? code : 0) * n + i];
}}
"""


def _dense(out, l, layer, x, y, W, b=None, a=None):
    out.constants(f"W{l}", W)
    bias = "0"
    if b is not None:
        bias = f"b{l}"
        out.constants(bias, b)
    dense = out.function("dense", _DENSE)
    out.lines.append(f"    {dense}({y}, W{l}, {bias}, {x}, {W.shape[0]}, {W.shape[1]});")
    if a is None:
        out.activate(layer, y, len(W))
        return
    out.constants(f"mix{l}", a)
    copy = out.function("copy", _COPY)
    out.lines.append(f"    {{\n        {out.real} z[{len(W)}];\n        {copy}(z, {y}, {len(W)});")
    out.activate(layer, y, len(W))
    out.loop(len(W), f"{y}[i] = z[i] + mix{l}[i] * ({y}[i] - z[i]);")
    out.lines.append("    }")


def _scale(out, l, layer, x, y, s):
    out.constants(f"s{l}", s)
    out.loop(s.size, f"{y}[i] = s{l}[i] * {x}[i];")


def _encode(out, l, layer, x, y, **parameters):
    places, at = {}, 0
    pairs = list(enumerate(layer.parameters_of(parameters)))
    for i, (encoder, _) in layer.in_order(pairs):
        places[i] = at
        at += encoder.outputs
    for i, (encoder, own) in pairs:
        ENCODERS[encoder.name](out, f"{l}_{i}", encoder, f"{x}[{encoder.row}]", f"{y} + {places[i]}", **own)


def _numeric(out, name, encoder, x, y):
    out.lines.append(f"    *({y}) = {x};")


def _mapped(out, name, y, M, k, features):
    """`features`: the call that fills an array of k, but for its name."""
    if M is None:
        out.lines.append("    " + features.format(y))
        return
    out.constants(f"M{name}", M[:, :-1])
    out.constants(f"c{name}", M[:, -1])
    mapped = f"{out.function('dense', _DENSE)}({y}, M{name}, c{name}, f, {len(M)}, {k});"
    out.lines.append(f"    {{\n        {out.real} f[{k}];\n        {features.format('f')}\n        {mapped}\n    }}")


def _periodic(out, name, encoder, x, y, w, b, M=None):
    out.constants(f"w{name}", 2 * np.pi * w)
    out.constants(f"b{name}", b)
    periodic = out.function("periodic", _PERIODIC, suffix=out.suffix)
    if M is not None:
        out.lines.append(f"    *({y}) = {x};")
        y = f"{y} + 1"
    _mapped(out, name, y, M, len(w), f"{periodic}({{}}, w{name}, b{name}, {x}, {len(w)});")


def _piecewise_linear(out, name, encoder, x, y, M=None):
    e = np.array(encoder.edges)
    out.constants(f"edges{name}", e[:-1])
    out.constants(f"inverse{name}", 1 / np.diff(e))
    bins = out.function("bins", _BINS)
    _mapped(out, name, y, M, len(e) - 1, f"{bins}({{}}, edges{name}, inverse{name}, {x}, {len(e) - 1});")


def _one_hot(out, name, encoder, x, y):
    code, one_hot = out.function("code", _CODE), out.function("one_hot", _ONE_HOT)
    out.lines.append(f"    {one_hot}({y}, {code}({x}, {encoder.codes}) - {int(encoder.unknown)}, {encoder.size});")


def _embedding(out, name, encoder, x, y, E):
    out.constants(f"E{name}", E.T)
    code, embedding = out.function("code", _CODE), out.function("embedding", _EMBEDDING)
    out.lines.append(f"    {embedding}({y}, E{name}, {code}({x}, {encoder.size}), {encoder.units});")


ENCODERS = {
    "numeric": _numeric,
    "periodic": _periodic,
    "piecewise_linear": _piecewise_linear,
    "one_hot": _one_hot,
    "embedding": _embedding,
}
"""For each encoder: a function (out, name, encoder, x, y, **parameters) like those of LAYERS, of one number x; `name`
ends those of constants."""

LAYERS = {"dense": _dense, "scale": _scale, "encode": _encode}
"""For each kind of layer: a function (out, l, layer, x, y, **parameters) that writes the statements which compute the
array named y from the one named x."""


class Source:
    """The parts of the file while they are written: constants, functions, and the lines of one that is being made."""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)
        self.real, self.suffix = ("float", "f") if self.dtype == np.float32 else ("double", "")
        self.arrays, self.functions, self.lines = [], {}, []

    def part(self, dtype):
        """What writes another function of the same file, in another dtype."""
        part = Source(dtype)
        part.arrays, part.functions = self.arrays, self.functions
        return part

    def constants(self, name, array):
        numbers = _numbers(array.astype(self.dtype), self.suffix)
        self.arrays.append(f"static const {self.real} {name}[{array.size}] = {{\n{numbers}}};\n")

    def whole_numbers(self, name, kind, array):
        """The same of an integer type of stdint.h."""
        self.arrays.append(f"static const {kind} {name}[{array.size}] = {{\n{_numbers(array, '')}}};\n")

    def loop(self, count, statement):
        """A statement for each i < count."""
        self.lines.append(f"    for (i = 0; i < {count}; i++)\n        {statement}")

    def function(self, name, template, **parts):
        """The name of a function of that text: another one where the name has another text already."""
        base, number = name, 1
        while True:
            text = template.format(name=name, real=self.real, **parts)
            if self.functions.setdefault(name, text) == text:
                return name
            number += 1
            name = f"{base}_{number}"

    def activate(self, layer, y, n):
        """y = g(y) for the n numbers of y; a function for each slope there is."""
        if layer.activation == "linear":
            return
        form = forms.FORMS[layer.activation].c
        if layer.activation == "softmax":
            name = self.function("softmax", _COLUMNWISE, body=form.format(real=self.real, f=self.suffix))
        else:
            slope = _literal(str(self.dtype.type(layer.negative_slope)), "")
            # the activations' own names are libm's in part
            name = self.function(
                f"activation_{layer.activation}", _ELEMENTWISE, expression=form.format(f=self.suffix, slope=slope)
            )
        self.lines.append(f"    {name}({y}, {n});")

    def definition(self, head, declared):
        """The function of that head, with these declarations and the lines written by now."""
        if any(line.startswith("    for") for line in self.lines):
            declared = [*declared, "int i;"]
        body = "\n".join([f"    {line}" for line in declared] + self.lines)
        return f"{head}\n{{\n{body}\n}}\n"

    def text(self, head):
        """The file: what it begins with, constants, functions."""
        return "\n".join([head, *self.arrays, *self.functions.values()])


def network(out, model, x="x", prefix=""):
    """Writes the lines that compute y from the array named x; `prefix` begins the layers' numbers in constants' names.

    Returns the declarations that they need, and the bytes of these.
    """
    sizes = model.sizes
    # a layer's outputs are in one of two arrays by turns, the last one's in y
    room = [max(sizes[1:-1:2], default=0), max(sizes[2:-1:2], default=0)]
    for l, layer, parameters in model.numbered_layers():
        y = "y" if l == len(model.layers) else f"a{(l - 1) % 2}"
        LAYERS[layer.kind](out, f"{prefix}{l}", layer, x, y, **parameters)
        x = y
    return [f"{out.real} a{i}[{size}];" for i, size in enumerate(room) if size], sum(room) * model.dtype.itemsize


def write(model, path=None, **options):
    """The text of the file; with a path it is written there too. See Network.to_c."""
    endings.check_exported(path, "to_c")
    export = ExportOptions(model, **options)
    out = Source(model.dtype)
    x = _standardise(out, export)
    declared, stack = network(out, model, x)
    if x != "x":
        declared.append(f"{out.real} {x}[NETWORK_N_X];")
        stack += model.n_x * model.dtype.itemsize
    if export.target_scale is not None:
        out.constants("target_scale", export.target_scale)
        out.loop("NETWORK_N_Y", "y[i] *= target_scale[i];")
    if export.target_mean is not None:
        out.constants("target_mean", export.target_mean)
        out.loop("NETWORK_N_Y", "y[i] += target_mean[i];")
    out.functions["predict"] = out.definition(f"void predict(const {out.real} *x, {out.real} *y)", declared)
    return written(out.text(_head(model, out.real, stack, export.labels)), path)


def written(text, path):
    """The text, which is written to a file of that path where there is one."""
    if path is not None:
        with whole_file(path) as file:
            file.write(text.encode())
    return text


def _standardise(out, export):
    """The name of the array that the first layer takes: x, or `scaled`, which this fills from it."""
    if export.mean is None and export.scale is None:
        return "x"
    value = "x[i]"
    if export.mean is not None:
        out.constants("mean", export.mean)
        value = "x[i] - mean[i]"
    if export.scale is not None:
        out.constants("scale", export.scale)
        value = f"({value}) / scale[i]"
    out.loop("NETWORK_N_X", f"scaled[i] = {value};")
    return "scaled"


def _head(model, real, stack, labels):
    """What the file begins with: comment, sizes, declarations, and the labels where there are any."""
    layers = [f"{n} {layer.label}" for n, layer in zip(model.sizes[1:], model.layers, strict=True)]
    head = _HEAD.format(
        description=f"A network: {' -> '.join([str(model.n_x), *layers])}.",
        stack=stack,
        version=version(),
        n_x=model.n_x,
        n_y=model.n_y,
        real=real,
    )
    return head if labels is None else f"{head}\n{labels_array('network_labels', labels)}"


def version():
    """Of this package."""
    import importlib.metadata

    return importlib.metadata.version("nnkern")


def _literal(text, f):
    """A number, as numpy writes it in as few digits as tell it apart, in C."""
    return _NOT_FINITE.get(text, text + f)


def _numbers(array, f):
    """Lines of the entries, row by row."""
    flat, lines = np.ascontiguousarray(array).reshape(-1), []
    for first in range(0, len(flat), _LINES_AT_ONCE * _NUMBERS_IN_A_LINE):
        part = flat[first : first + _LINES_AT_ONCE * _NUMBERS_IN_A_LINE].astype(str).tolist()
        texts = [_literal(text, f) for text in part]
        for i in range(0, len(texts), _NUMBERS_IN_A_LINE):
            lines.append(f"    {', '.join(texts[i : i + _NUMBERS_IN_A_LINE])},\n")
    return "".join(lines)


def labels_array(name, labels):
    """The names of the classes as texts of C: class i of a single sigmoid's is y[0] > 0.5."""
    array = f"const char *const {name}[{len(labels)}]"
    before, lines = texts(name, map(str, labels))
    return f"{before}extern {array};\n{array} = {{\n{lines}}};\n"


def texts(name, values):
    """Texts as the entries of an array of that name, and what must stand before it: arrays of texts too long for C."""
    before, lines = [], []
    for i, text in enumerate(values):
        if "\0" in text:
            raise ValueError(f"C's texts end at a NUL character, and {shortened(text)!r} holds one: rename it")
        parts = escaped(text)
        runs = ["".join(parts[at : at + _CHARACTERS_IN_A_LINE]) for at in range(0, len(parts), _CHARACTERS_IN_A_LINE)]
        if len(parts) <= _LONGEST_LITERAL:
            line = "\n        ".join(f'"{run}"' for run in runs or [""])
        else:
            line = f"{name}_{i}"
            characters = [f"'{part}'" for part in parts]
            rows = [
                f"    {', '.join(characters[at : at + _NUMBERS_IN_A_LINE])},\n"
                for at in range(0, len(characters), _NUMBERS_IN_A_LINE)
            ]
            before.append(f"static const char {line}[] = {{\n{''.join(rows)}    0\n}};\n")
        lines.append(f"    {line},\n")
    return "".join(before), "".join(lines)


def escaped(text):
    """A part of a literal in C for each byte: octal escapes, which end after three digits, and plain characters.

    Any text, and no trigraph, comes out as it is.
    """
    return [chr(byte) if 32 <= byte < 127 and chr(byte) not in "\"'\\?" else f"\\{byte:03o}" for byte in text.encode()]


def commented(text):
    """A text within a comment of C, cut where it is long."""
    return "".join(f"\\{ord(part):03o}" if part in "*/" else part for part in escaped(shortened(text)))


def shortened(text, most=60):
    """A text's beginning."""
    return text if len(text) <= most else text[:most] + "..."
