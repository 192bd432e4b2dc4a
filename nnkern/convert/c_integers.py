"""A network as one file of C99 that computes in whole numbers alone, for chips without floating point.

What it computes is integers.py's; here it is written. The file includes stdint.h and stddef.h, and needs no library.
"""

from nnkern import validation
from nnkern.convert import integers
from nnkern.convert.c import Source, labels_array, version, written
from nnkern.convert.options import ExportOptions
from nnkern.files import endings

_HEAD = """\
/* {description}
 *
 * In whole numbers alone: int8 weights, {constants} bytes of constants; the stack holds {stack} bytes.
 * predict takes one example: x[i] is the feature times 2^NETWORK_X_BITS, rounded, and y[i] the output times
 * 2^NETWORK_Y_BITS; x and y must not overlap.{classes}
 * On the {m} examples that its ranges come from, outputs differ from the network's by {largest:.3g} at most,
 * {mean:.3g} in the root of the mean square{agreement}.
 * It keeps nothing between calls. C99. Written by nnkern {version}.
 */
#include <stddef.h>
#include <stdint.h>

enum {{ NETWORK_N_X = {n_x}, NETWORK_N_Y = {n_y}, NETWORK_X_BITS = {x_bits}, NETWORK_Y_BITS = {y_bits} }};

void predict(const int16_t *x, int16_t *y);
"""

_FEATURES = """\
/* x as steps of each feature's own size */
static void {name}(int8_t *q, const int16_t *x)
{{
    size_t i;
    for (i = 0; i < NETWORK_N_X; i++) {{
        const int32_t half = (int32_t)1 << (x_shift[i] - 1);
        int32_t value = ((int32_t)x[i] - x_center[i]) * x_multiplier[i];
        value = value < 0 ? -((half - value) >> x_shift[i]) : (value + half) >> x_shift[i];
        q[i] = (int8_t)(value < -{top} ? -{top} : value > {top} ? {top} : value);
    }}
}}
"""

_UNIT = """\
/* (b + W q) multiplier / 2^shift, rounded to the nearest, from low to high */
static int32_t {name}(const int8_t *W, int32_t b, int32_t multiplier, int shift, const int8_t *q, size_t n,
                    int32_t low, int32_t high)
{{
    const int64_t half = (int64_t)1 << (shift - 1);
    int64_t value;
    size_t k;
    for (k = 0; k < n; k++)
        b += W[k] * q[k];
    value = (int64_t)b * multiplier;
    value = value < 0 ? -((half - value) >> shift) : (value + half) >> shift;
    return value < low ? low : value > high ? high : (int32_t)value;
}}
"""

_LOOKED_UP = """\
/* {between} times the table's value at p, {between} steps from entry to entry */
static int32_t {name}(const int16_t *table, int32_t p)
{{
    const int16_t *at = table + p / {between};
    const int32_t f = p % {between};
    return at[0] * ({between} - f) + at[1] * f;
}}
"""

_SOFTMAX = """\
/* exp(y[i]) / sum of exp(y[j]), where 1 is 2^{one_bits}, of y in units of 2^-{bits} */
static void {name}(int16_t *y)
{{
    int32_t largest = y[0];
    uint32_t sum = 0;
    size_t i;
    for (i = 1; i < NETWORK_N_Y; i++)
        largest = y[i] > largest ? y[i] : largest;
    for (i = 0; i < NETWORK_N_Y; i++) {{
        const int32_t d = largest - y[i];
        const int32_t e = d < {limit} ? ({looked_up}(exponentials, d * {spread}) + {half}) / {between} : 0;
        y[i] = (int16_t)e;
        sum += (uint32_t)e;
    }}
    for (i = 0; i < NETWORK_N_Y; i++)
        y[i] = (int16_t)((((uint32_t)y[i] << {one_bits}) + sum / 2) / sum);
}}
"""

_LARGEST_OF = """\
int predict_class(const int16_t *x)
{{
    int16_t y[NETWORK_N_Y];
    int i, largest = 0;
    numbers(x, y);
    for (i = 1; i < NETWORK_N_Y; i++)
        largest = y[i] > y[largest] ? i : largest;
    return largest;
}}
"""

_ABOVE_HALF = """\
int predict_class(const int16_t *x)
{{
    int16_t y[1];
    predict(x, y);
    return y[0] > {threshold};
}}
"""

_SOFT = """\
void predict(const int16_t *x, int16_t *y)
{{
    numbers(x, y);
    {softmax}(y);
}}
"""


def write(model, path, calibration, **options):
    """The text of the file; with a path it is written there too. See Network.to_c."""
    endings.check_exported(path, "to_c")
    export = ExportOptions(model, **options)
    X = validation.examples(calibration, model.n_x, "float64", finite=True, name="calibration")
    net = integers.quantised(model, X, export)
    out = Source(model.dtype)
    stack = _network(out, net)
    text = out.text(_head(model, net, X.shape[1], stack, export.labels))
    return written(text, path)


def _network(out, net):
    """Writes constants and functions; the bytes of the stack."""
    features = net.features
    for name, kind, array in (
        ("center", "int16_t", features.center),
        ("multiplier", "int16_t", features.multiplier),
        ("shift", "uint8_t", features.shift),
    ):
        out.whole_numbers(f"x_{name}", kind, array)
    sizes = [len(features.shift), *(len(layer.b) for layer in net.layers)]
    room = [max(sizes[1:-1:2], default=0), max(sizes[2:-1:2], default=0)]
    declared = ["size_t i;", f"int8_t q[{sizes[0]}];"]
    declared += [f"int8_t a{i}[{size}];" for i, size in enumerate(room) if size]
    lines = [f"{out.function('features', _FEATURES, top=integers.TOP)}(q, x);"]
    x = "q"
    for l, layer in enumerate(net.layers, start=1):
        y = "y" if l == len(net.layers) else f"a{(l - 1) % 2}"
        lines += _layer(out, l, layer, x, y)
        x = y
    softmax = net.logit_bits is not None
    name = "static void numbers" if softmax else "void predict"
    body = "\n".join(f"    {line}" for line in [*declared, *lines])
    out.functions["numbers"] = f"{name}(const int16_t *x, int16_t *y)\n{{\n{body}\n}}\n"
    if softmax:
        out.functions["predict"] = _SOFT.format(softmax=_softmax(out, net.logit_bits))
        out.functions["predict_class"] = _LARGEST_OF.format()
    elif net.threshold is not None:
        out.functions["predict_class"] = _ABOVE_HALF.format(threshold=net.threshold)
    return sizes[0] + sum(room) + (2 * sizes[-1] if net.agreement is not None else 0)


def _layer(out, l, layer, x, y):
    """The lines that compute the array named y from the one named x."""
    n, n_prev = layer.W.shape
    out.whole_numbers(f"W{l}", "int8_t", layer.W)
    out.whole_numbers(f"b{l}", "int32_t", layer.b)
    out.whole_numbers(f"multiplier{l}", "int32_t", layer.multiplier)
    unit, kind = out.function("unit", _UNIT), "int16_t" if y == "y" else "int8_t"
    numbers = f"W{l} + i * {n_prev}, b{l}[i], multiplier{l}[i], {layer.shift}, {x}, {n_prev}, {layer.low}, {layer.high}"
    value = f"{unit}({numbers})"
    if layer.table is not None:
        out.whole_numbers(f"table{l}", "int16_t", layer.table)
        looked_up = out.function("looked_up", _LOOKED_UP, between=integers.BETWEEN)
        # a whole multiple of the divisor more makes what is divided positive, and division and shift the same
        more = 1 << 15
        value = f"({looked_up}(table{l}, {value}) + {(1 << layer.drop >> 1) + (more << 8)}) / {1 << layer.drop}"
        value += f" - {(more << 8) >> layer.drop}"
    return [f"for (i = 0; i < {n}; i++)", f"    {y}[i] = ({kind})({value});"]


def _softmax(out, bits):
    """The name of the function."""
    out.whole_numbers("exponentials", "int16_t", integers.exponentials())
    return out.function(
        "softmax",
        _SOFTMAX,
        looked_up=out.function("looked_up", _LOOKED_UP, between=integers.BETWEEN),
        bits=bits,
        one_bits=integers.ONE_BITS,
        limit=integers.FAR << bits,
        spread=1 << (integers.LOGIT_BITS - bits),
        half=integers.BETWEEN // 2,
        between=integers.BETWEEN,
    )


def _head(model, net, m, stack, labels):
    """What the file begins with."""
    layers = [f"{n} {layer.label}" for n, layer in zip(model.sizes[1:], model.layers, strict=True)]
    has_classes = net.agreement is not None
    head = _HEAD.format(
        description=f"A network: {' -> '.join([str(model.n_x), *layers])}.",
        constants=net.constant_bytes,
        stack=stack,
        classes=" predict_class gives the number of the class." if has_classes else "",
        m=m,
        largest=net.largest_error,
        mean=net.mean_error,
        agreement=f"; classes agree in {100 * net.agreement:.4g} %" if has_classes else "",
        version=version(),
        n_x=model.n_x,
        n_y=model.n_y,
        x_bits=net.features.bits,
        y_bits=net.bits,
    )
    if has_classes:
        head += "int predict_class(const int16_t *x);\n"
    return head if labels is None else f"{head}\n{labels_array('network_labels', labels)}"
