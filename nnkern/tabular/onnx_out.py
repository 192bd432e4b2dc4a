"""A model of a table as one ONNX file: an input for each column by its name, X from these, the networks, their mean.

The formulas of X are those of columns.py, in float64 too, so that the same numbers give the same bits of X. Every
network is written by convert/onnx_out.py.
"""

import json
import math

import numpy as np

from nnkern._optional import require
from nnkern.convert import onnx_out
from nnkern.files import endings
from nnkern.files.atomic import whole_file
from nnkern.tabular.columns import CLIP, FARTHEST, Category, Date
from nnkern.tabular.frames import listed, text_of

ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3
"""Where LabelEncoder is, which takes texts; the version of ONNX' own opset 17."""


def to_onnx(model, path):
    """Saves a TableModel as an ONNX file; TabularClassifier.to_onnx says what it takes, gives and raises."""
    endings.check_exported(path, "to_onnx", table=True)
    content = to_proto(model).SerializeToString()
    with whole_file(path) as file:
        file.write(content)


def to_proto(model):
    """The same as an onnx.ModelProto."""
    onnx = require("onnx", "to_onnx")
    columns = model.preprocessing.columns
    names = model.preprocessing.names
    _refuse_names(names)
    networks = [net.to_model() for net in model.networks]
    levels = [level for column in columns if isinstance(column, Category) for level in column.levels]
    onnx_out.refuse_too_large(networks, sum(len(level.encode()) for level in levels))
    f = onnx_out.Graph(onnx, np.float64, _free("nn_", lambda prefix: any(name.startswith(prefix) for name in names)))
    a = _mean(f, model, networks, _rows_of_x(f, columns))
    if model.classifies:
        outputs = onnx_out.classes(onnx, f, a, _labels(model.target), [_output(n, names) for n in OUTPUTS[:2]])
    else:
        target = model.target
        f.Clip(f.Add(f.Mul(a, target.scale), target.mean), target.low, target.high)
        outputs = [onnx.helper.make_tensor_value_info(f.rename_last(_output(OUTPUTS[2], names)), f.real, ["batch", 1])]
    inputs = [_input(onnx, f, column) for column in columns]
    proto = onnx_out.whole(onnx, f, inputs, outputs, [(ML_DOMAIN, ML_OPSET)] if levels else [])
    onnx.helper.set_model_props(proto, {"columns": json.dumps([_described(column) for column in columns])})
    return proto


OUTPUTS = ("label", "probabilities", "prediction")


def _output(name, names):
    return _free(name, lambda taken: taken in names)


def _free(name, taken):
    """The name, with as many underscores behind it as it takes to be free."""
    while taken(name):
        name += "_"
    return name


def _refuse_names(names):
    wrong = [name for name in names if not name or "\0" in name]
    if wrong:
        raise ValueError(f"ONNX has no inputs of such names: {listed(wrong)}; rename these columns")


def _labels(target):
    """The target's labels as integers of 64 bits where they all are, else as texts."""
    whole = all(type(label) is int and -(2**63) <= label < 2**63 for label in target.labels)
    return target.labels if whole else [text_of(label) for label in target.labels]


def _missing(column):
    """A text that is none of a category's levels."""
    return _free("", lambda text: text in column.levels)


def _described(column):
    entry = {"name": column.name, "kind": column.kind}
    return {**entry, "missing": _missing(column)} if isinstance(column, Category) else entry


def _input(onnx, f, column):
    """What an input is, with what to give it said."""
    if isinstance(column, Category):
        said = f"one of {listed(column.levels)}; {_missing(column)!r} where it isn't known"
        type_ = onnx.TensorProto.STRING
    else:
        unit = "seconds since 1970-01-01 00:00" + " UTC" * column.zone if isinstance(column, Date) else "a number"
        said, type_ = f"{unit}; NaN where it isn't known", f.real
    return onnx.helper.make_tensor_value_info(column.name, type_, ["batch", 1], doc_string=said)


def _rows_of_x(f, columns):
    """The value X (batch, n_x), float32, of the columns' inputs."""
    single = f.part(np.float32)
    counts = [len(column.rows()) for column in columns]
    # of each column the first of its rows, which the table's transpose has as columns
    first = dict(zip([column.name for column in columns], np.cumsum([0, *counts[:-1]]).tolist(), strict=True))
    parts, places = [], []
    numeric = [column for column in columns if not isinstance(column, Category)]
    if numeric:
        for value, rows in _numbers(f, numeric, first):
            parts.append(f.Cast(value, to=single.real))
            places += rows
    for column in columns:
        if isinstance(column, Category):
            codes = column.codes()
            parts.append(
                f.LabelEncoder(
                    column.name,
                    keys_strings=list(codes),
                    values_floats=list(codes.values()),
                    default_float=0.0,
                    domain=ML_DOMAIN,
                )
            )
            places.append(first[column.name])
    X = f.Concat(*parts, axis=1)
    order = np.argsort(places)
    return X if (order == np.arange(len(order))).all() else f.Gather(X, f.constant(order, "order", np.int64), axis=1)


def _numbers(f, columns, first):
    """(value (batch, k), its k rows of X) of the columns of numbers and dates, all at once."""
    values = f.Concat(*[column.name for column in columns], axis=1)
    missing = f.IsNaN(values)
    median = f.constant([column.median for column in columns], "median")
    # a missing number is the median, and so gives 0
    known = f.Where(missing, median, values)
    z = f.Div(f.Sub(known, median), f.constant([column.scale for column in columns], "scale"))
    z = f.Clip(z, -FARTHEST, FARTHEST)
    bent = f.Div(z, CLIP)
    yield f.Div(z, f.Sqrt(f.Add(f.Mul(bent, bent), 1.0))), [first[column.name] for column in columns]
    flagged = [i for i, column in enumerate(columns) if column.flag]
    if flagged:
        rows = [first[columns[i].name] + len(columns[i].rows()) - 1 for i in flagged]
        yield f.Gather(missing, f.constant(flagged, "flagged", np.int64), axis=1), rows
    for part, (length, start) in Date.PERIODS.items():
        having = [i for i, column in enumerate(columns) if part in getattr(column, "parts", ())]
        if having:
            which = f.constant(having, f"having_{part}", np.int64)
            time = f.Mod(f.Add(f.Gather(known, which, axis=1), start), length, fmod=1)
            angle = f.Mul(time, 2 * math.pi / length)
            unknown = f.Gather(missing, which, axis=1)
            for wave, op in enumerate((f.Sin, f.Cos)):
                rows = [first[columns[i].name] + 1 + 2 * columns[i].parts.index(part) + wave for i in having]
                yield f.Where(unknown, 0.0, op(angle)), rows


def _mean(f, model, networks, X):
    """The weighted mean of the networks' outputs, float64."""
    total = None
    for k, (network, weight) in enumerate(zip(networks, model.weights.tolist(), strict=True), start=1):
        part = f.part(network.dtype)
        a = X if network.dtype == np.float32 else f.Cast(X, to=part.real)
        a = f.Cast(onnx_out.network(part, network, a, f"{k}_"), to=f.real)
        if model.classifies and network.n_y == 1:
            a = onnx_out.both_classes(f, a)
        a = f.Mul(a, weight)
        total = a if total is None else f.Add(total, a)
    return total
