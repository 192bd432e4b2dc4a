"""A model of a table as one file of C99: a struct with a field for each column, and a function for one row.

The formulas of X are those of columns.py, in double too. Every network is written by convert/c.py; like its files, this
one keeps no state and takes no memory but the stack.
"""

import math
import re
import unicodedata

import numpy as np

from nnkern.convert import c
from nnkern.files import endings
from nnkern.tabular.columns import CLIP, FARTHEST, Category, Date
from nnkern.tabular.frames import text_of

_HEAD = """\
/* A model of a table: {columns} columns, {networks}, {outputs}.
 *
 * predict_row takes one row and writes the NNKERN_N_Y numbers y. A field that isn't known is NAN, or a null pointer;
 * infinity is no number that the model knows. It keeps nothing between calls, and the stack holds its {stack} bytes.
 * C99, with libm. Written by nnkern {version}.
 */
#include <math.h>
#include <string.h>

enum {{ NNKERN_N_Y = {n_y} }};

typedef struct {{
{fields}
}} nnkern_row;

void predict_row(const nnkern_row *row, double *y);
"""

_SCALED = """\
/* a number by median and scale, smoothly clipped; 0 where it isn't known */
static double {name}(double value, double median, double scale)
{{
    double z, bent;
    if (isnan(value))
        return 0;
    z = (value - median) / scale;
    z = z < -{farthest} ? -{farthest} : z > {farthest} ? {farthest} : z;
    bent = z / {clip};
    return z / sqrt(1 + bent * bent);
}}
"""

_ANGLE = """\
/* where in a period of that length a time lies, as an angle */
static double {name}(double seconds, double start, double length)
{{
    return fmod(seconds + start, length) * ({turn} / length);
}}
"""

_CATEGORY = """\
/* what stands for a text that is one of n in the order of strcmp; 0 for any other and for a null pointer */
static float {name}(const char *text, const char *const *levels, const float *codes, int n)
{{
    int low = 0, high = n;
    while (text && low < high) {{
        const int middle = low + (high - low) / 2, order = strcmp(text, levels[middle]);
        if (order == 0)
            return codes[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }}
    return 0;
}}
"""

# Words that are no names of fields: of C and C++, and macros that headers or compilers may have.
_TAKEN = (
    "alignas alignof and asm atomic auto bitand bitor bool break case catch cdecl char class compl complex "
    "concept const constexpr continue decltype default delete do double else emit enum environ errno explicit "
    "export extern false far float for foreach friend goto i386 if imaginary inline int interface linux long "
    "mutable namespace near new noexcept noreturn not null nullptr operator or pascal pixel private protected "
    "public register requires restrict return short signals signed sizeof slots small static stderr stdin stdout "
    "struct switch template this thread throw true try typedef typeid typename typeof union unix unsigned using "
    "vector virtual void volatile wchar_t while xor"
)
_LONGEST_NAME = 48  # C tells names apart by 63 characters


def to_c(model, path=None):
    """A TableModel as one C99 file; TabularClassifier.to_c says what it takes, gives and raises.

    Examples
    --------
    >>> import nnkern as nk
    >>> from nnkern.tabular.c_out import to_c
    >>> from nnkern.tabular.columns import Category, Number
    >>> from nnkern.tabular.model import TableModel
    >>> from nnkern.tabular.preprocessing import Preprocessing
    >>> from nnkern.tabular.target import Labels
    >>> preprocessing = Preprocessing(
    ...     [Number("Age", 40.0, 12.0), Category("Job", ["clerk", "cook"])]
    ... )
    >>> layers = [nk.Dense(1, "sigmoid")]
    >>> net = nk.Network(layers, "binary_cross_entropy", n_x=2, seed=0)
    >>> source = to_c(
    ...     TableModel(preprocessing, [net], [1.0], Labels(["no", "yes"], "text"))
    ... )
    >>> print(source[source.index("typedef") : source.index("void")].strip())
    typedef struct {
        double age; /* 'Age': a number */
        const char *job; /* 'Job': one of 2 texts such as 'clerk' */
    } nnkern_row;
    """
    endings.check_exported(path, "to_c", table=True)
    preprocessing, networks = model.preprocessing, [net.to_model() for net in model.networks]
    n_y = len(model.target.labels) if model.classifies else 1
    out = c.Source(np.float32)
    fields = field_names(preprocessing.names)
    at = 0
    for i, (column, field) in enumerate(zip(preprocessing.columns, fields, strict=True)):
        value = f"row->{field}"
        if isinstance(column, Category):
            _category(out, i, column, value, at)
        else:
            _number(out, column, value, at)
        at += len(column.rows())
    declared, stack = _mean(out, model, networks, n_y)
    out.functions["predict_row"] = out.definition("void predict_row(const nnkern_row *row, double *y)", declared)
    head = _HEAD.format(
        columns=len(fields),
        networks=f"the mean of {len(networks)} networks" if len(networks) > 1 else "one network",
        outputs=f"{n_y} classes" if model.classifies else "one number",
        stack=stack,
        version=c.version(),
        n_y=n_y,
        fields="\n".join(map(_field, preprocessing.columns, fields)),
    )
    if model.classifies:
        head += "\n" + c.labels_array("nnkern_labels", [text_of(label) for label in model.target.labels])
    return c.written(out.text(head), path)


def field_names(names):
    """Names of fields in C for columns' names: each there once, and none that a compiler takes for another thing."""
    found, taken, numbers = [], set(_TAKEN.split()), {}
    for name in names:
        letters = "".join(one for one in unicodedata.normalize("NFKD", name) if not unicodedata.combining(one))
        field = re.sub("[^a-z0-9]+", "_", letters.lower())[:_LONGEST_NAME].strip("_") or "column"
        if field[0].isdigit():
            field = f"column_{field}"
        free = field
        while free in taken:
            numbers[field] = numbers.get(field, 1) + 1
            free = f"{field}_{numbers[field]}"
        taken.add(free)
        found.append(free)
    return found


def _field(column, name):
    """Its line in the struct, with the column's own name and what it takes."""
    if isinstance(column, Category):
        said = f"one of {len(column.levels)} texts such as '{c.commented(column.levels[0])}'"
        name = f"const char *{name}"
    else:
        said = "seconds since 1970-01-01 00:00" + " UTC" * column.zone if isinstance(column, Date) else "a number"
        name = f"double {name}"
    return f"    {name}; /* '{c.commented(column.name)}': {said} */"


def _number(out, column, value, at):
    """The lines that compute the rows of x from `at` on of a number or a time."""
    scaled = out.function("scaled", _SCALED, farthest=FARTHEST, clip=CLIP)
    out.lines.append(f"    x[{at}] = (float){scaled}({value}, {column.median!r}, {column.scale!r});")
    for part in getattr(column, "parts", ()):
        length, start = Date.PERIODS[part]
        angle = f"{out.function('angle', _ANGLE, turn=2 * math.pi)}({value}, {start!r}, {length!r})"
        for wave in ("sin", "cos"):
            at += 1
            out.lines.append(f"    x[{at}] = isnan({value}) ? 0.0f : (float){wave}({angle});")
    if column.flag:
        out.lines.append(f"    x[{at + 1}] = isnan({value}) ? 1.0f : 0.0f;")


def _category(out, i, column, value, at):
    """The line that computes row `at` of x of a text, and its levels in the order of strcmp."""
    codes = sorted(column.codes().items(), key=lambda item: item[0].encode())
    before, lines = c.texts(f"levels{i}", [level for level, _ in codes])
    out.arrays.append(f"{before}static const char *const levels{i}[{len(codes)}] = {{\n{lines}}};\n")
    out.constants(f"codes{i}", np.array([code for _, code in codes]))
    category = out.function("category", _CATEGORY)
    out.lines.append(f"    x[{at}] = {category}({value}, levels{i}, codes{i}, {len(codes)});")


def _mean(out, model, networks, n_y):
    """Writes the networks' functions, and the lines that compute y from x.

    Returns declarations, and the bytes of these and of the largest network's.
    """
    n_x, most = model.preprocessing.n_x, 0
    declared = {f"float x[{n_x}];": 4 * n_x}
    out.loop("NNKERN_N_Y", "y[i] = 0;")
    for k, (network, weight) in enumerate(zip(networks, model.weights.tolist(), strict=True), start=1):
        part = out.part(network.dtype)
        own, stack = c.network(part, network, prefix=f"{k}_")
        head = f"static void network_{k}(const {part.real} *x, {part.real} *y)"
        out.functions[f"network_{k}"] = part.definition(head, own)
        most = max(most, stack)
        x, a = ("x", "a") if part.real == "float" else ("x_double", "a_double")
        declared[f"{part.real} {a}[{n_y}];"] = n_y * network.dtype.itemsize
        if x != "x":
            declared[f"double {x}[{n_x}];"] = 8 * n_x
            out.loop(n_x, f"{x}[i] = (double)x[i];")
        out.lines.append(f"    network_{k}({x}, {a});")
        if model.classifies and network.n_y == 1:
            out.lines.append(f"    y[0] += {weight!r} * (1 - (double){a}[0]);")
            out.lines.append(f"    y[1] += {weight!r} * (double){a}[0];")
        else:
            out.loop("NNKERN_N_Y", f"y[i] += {weight!r} * (double){a}[i];")
    if not model.classifies:
        target = model.target
        low, high = f"{target.low!r}", f"{target.high!r}"
        out.lines.append(f"    y[0] = y[0] * {target.scale!r} + {target.mean!r};")
        out.lines.append(f"    y[0] = y[0] < {low} ? {low} : y[0] > {high} ? {high} : y[0];")
    return list(declared), sum(declared.values()) + most
