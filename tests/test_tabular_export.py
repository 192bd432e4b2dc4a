"""Models of tables as ONNX and as C: raw columns give the numbers of TableModel, within bounds."""

import ctypes
import datetime
import doctest
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import reference as ref
from test_c_export import CC, STRICT, needs_cc

import nnkern as nk

pa = pytest.importorskip("pyarrow", reason="tables are Arrow's arrays")
pytest.importorskip("narwhals", reason="tables come in through it")
pytest.importorskip("sklearn", minversion="1.7", reason="the estimators of tables are scikit-learn's")

from nnkern import tabular  # noqa: E402
from nnkern.convert import onnx_out as networks_out  # noqa: E402
from nnkern.tabular import c_out, onnx_out  # noqa: E402
from nnkern.tabular.columns import Category, Date, Number, numbers, seconds  # noqa: E402
from nnkern.tabular.frames import text_of  # noqa: E402
from nnkern.tabular.model import TableModel  # noqa: E402
from nnkern.tabular.preprocessing import Preprocessing  # noqa: E402
from nnkern.tabular.target import Labels, Numbers  # noqa: E402

U = ref.unit_roundoff(np.float32)
DAY = 86400


# ---- the exported programs, called with columns of raw values ----


def raw(column, array):
    """What stands for a column of an Arrow array outside: float64, or texts and None."""
    if isinstance(column, Number):
        return numbers(array, column.name, "X")
    if isinstance(column, Date):
        return seconds(array, column.name, "X", column.zone)
    return [None if value is None else text_of(value) for value in array.to_pylist()]


def raw_of(model, arrays):
    """{name: what stands for the column outside}"""
    return {column.name: raw(column, arrays[column.name]) for column in model.preprocessing.columns}


def feeds_of(values, missing=""):
    """The same as ONNX takes them."""
    feeds = {}
    for name, column in values.items():
        if isinstance(column, list):
            column = np.array([missing if text is None else text for text in column], object)
        feeds[name] = column[:, None]
    return feeds


class InOnnx:
    """The exported model in onnxruntime: (names or None, outputs (k, m)) of columns."""

    def __init__(self, model, folder):
        onnx = pytest.importorskip("onnx")
        onnxruntime = pytest.importorskip("onnxruntime")
        self.model, self.path = model, folder / "table.onnx"
        onnx_out.to_onnx(model, self.path)
        self.proto = onnx.load(self.path)
        onnx.checker.check_model(self.proto, full_check=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])

    def __call__(self, arrays, missing=""):
        return self.of_values(raw_of(self.model, arrays), missing)

    def of_values(self, values, missing=""):
        outputs = self.session.run(None, feeds_of(values, missing))
        return (list(outputs[0]) if self.model.classifies else None), outputs[-1].T


class InC:
    """The exported model, compiled: called as InOnnx."""

    def __init__(self, model, folder):
        if CC is None or sys.platform == "win32":
            pytest.skip("no C compiler")
        self.model, columns = model, model.preprocessing.columns
        (folder / "table.c").write_text(c_out.to_c(model), encoding="utf-8")
        command = [CC, *STRICT, "-Wconversion", "-O2", "-fPIC", "-shared", "-o", "table.so", "table.c", "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        self.library = ctypes.CDLL(str(folder / "table.so"))
        # fields by place: their names are another test's concern
        kinds = [ctypes.c_char_p if isinstance(column, Category) else ctypes.c_double for column in columns]
        fields = [(f"f{i}", kind) for i, kind in enumerate(kinds)]
        self.Row = type("Row", (ctypes.Structure,), {"_fields_": fields})
        self.n_y = len(model.target.labels) if model.classifies else 1
        if model.classifies:
            found = (ctypes.c_char_p * self.n_y).in_dll(self.library, "nnkern_labels")
            self.labels = [text.decode() for text in found]

    def __call__(self, arrays):
        return self.of_values(raw_of(self.model, arrays))

    def of_values(self, values):
        columns = [
            [None if text is None else text.encode() for text in column]
            if isinstance(column, list)
            else column.tolist()
            for column in values.values()
        ]
        out = np.full((len(columns[0]), self.n_y), np.nan)
        for row, y in zip(zip(*columns, strict=True), out, strict=True):
            self.library.predict_row(ctypes.byref(self.Row(*row)), ctypes.c_void_p(y.ctypes.data))
        names = [self.labels[i] for i in out.argmax(axis=1)] if self.model.classifies else None
        return names, out.T


FORMS = [pytest.param(InC, marks=needs_cc, id="c"), pytest.param(InOnnx, id="onnx")]


# ---- tables and models ----


def chunked(values, kind=None):
    return pa.chunked_array([pa.array(values, kind, from_pandas=True)])


def table(m, seed, *, unseen=False):
    """Columns of every kind with holes; with `unseen`, categories that the training rows don't have."""
    rng = np.random.default_rng(seed)

    def holes(values, share=0.1):
        return [None if gone else value for value, gone in zip(values, rng.random(m) < share, strict=True)]

    start = datetime.datetime(2019, 3, 1)
    times = [start + datetime.timedelta(seconds=int(s)) for s in rng.integers(0, 1500 * DAY, m)]
    trades = [f"trade {i}" for i in range(12)] + ["никогда"] * unseen
    return {
        "age": chunked(holes(rng.normal(40, 12, m))),
        "income": chunked(rng.exponential(3e4, m).astype(np.float32)),
        "trade": chunked(holes(rng.choice(trades, m).tolist()), pa.string()),
        "rooms": chunked(rng.integers(1, 7 + 3 * unseen, m)),
        "owner": chunked(holes(rng.random(m) < 0.4), pa.bool_()),
        "colour": chunked(holes(rng.choice(["red", "Grün ☘"] + ["blue"] * unseen, m).tolist()), pa.string()),
        "born": chunked(holes([time.date() for time in times]), pa.date32()),
        "seen": chunked(holes(times), pa.timestamp("us")),
        "level": chunked(holes(rng.choice(["low", "high", "middle"], m).tolist())).dictionary_encode(),
    }


TYPES = {"rooms": "category"}


def quantiles(x, bins):
    return np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)).astype(np.float32))


def first_layer(rows, X, how):
    """An Encode layer, another one for each `how`."""
    encoders = []
    for i, row in enumerate(rows):
        if row.kind == "number":
            bins = nk.PiecewiseLinear(i, quantiles(X[i], 6 + 3 * how), units=5 if how == 1 else None)
            encoders.append([bins, bins, nk.Periodic(i, 5, units=4)][how])
        elif row.kind == "passthrough":
            encoders.append(nk.Numeric(i))
        elif how == 0:
            encoders.append(nk.OneHot(i, row.size - 1, unknown=True))
        else:
            encoders.append(nk.Embedding(i, row.size, 3))
    return nk.Encode(encoders)


def targets(arrays, k):
    """Numbers, or classes 0 … k - 1, that the columns tell something of."""
    age = np.nan_to_num(numbers(arrays["age"], "age", "X"), nan=40)
    trade = np.array([len(text or "") for text in arrays["trade"].to_pylist()])
    y = np.sin(age / 5) + 0.3 * trade + np.log(numbers(arrays["income"], "income", "X") + 1)
    return y if k is None else np.searchsorted(np.quantile(y, np.arange(1, k) / k), y)


def trained(k, outputs):
    """A TableModel of k classes, or of numbers for None; `outputs`: of each network how many outputs it has."""
    arrays = table(600, 0)
    preprocessing = Preprocessing.fit(arrays, TYPES)
    X, y = preprocessing.transform(arrays), targets(arrays, k)
    target = Numbers.of(1e5 + 1e4 * y) if k is None else Labels.of(np.array(["yes", "no", "may be"][:k]))
    nets = []
    for i, n_y in enumerate(outputs):
        output, loss = {
            1: ("sigmoid", "binary_cross_entropy") if k else ("linear", "squared_error"),
        }.get(n_y, ("softmax", "cross_entropy"))
        hidden = [nk.Dense(16, ("silu", "mish", "selu")[i % 3]), nk.Dense(12, "relu")]
        net = nk.Network([first_layer(preprocessing.rows, X, i % 3), *hidden, nk.Dense(n_y, output)], loss, seed=i)
        learnt = target.standardised(1e5 + 1e4 * y) if k is None else y
        net.fit(X, learnt if k else learnt[None], epochs=8, optimizer=nk.Adam(0.005))
        nets.append(net)
    weights = np.arange(1, len(nets) + 1) / np.arange(1, len(nets) + 1).sum()
    return TableModel(preprocessing, nets, weights, target)


MODELS = {
    "two classes": lambda: trained(2, [1, 2, 1]),
    "three classes": lambda: trained(3, [3, 3, 3]),
    "one network": lambda: trained(2, [1]),
    "numbers": lambda: trained(None, [1, 1, 1]),
}


def oracle(encoder):
    """The encoder's equations."""
    kind = getattr(ref, type(encoder).__name__)
    return kind(*[getattr(encoder, field) for field in kind._fields])


def exact(net, X):
    """Outputs in float64, and what any program of float32 may be off by.

    X's numbers and codes are the same in all programs; its waves, which Numeric takes, may be off by a unit in the last
    place. Encoders round as tests of exported encoders have it.
    """
    first = ref.Encode([oracle(encoder) for encoder in net.layers[0].encoders])
    p = ref.of_layer(net.parameters, 1)
    A, _ = first.forward(p, X)
    error = 2 * first.errors(p, X, np.float32) + ref.FORM_ROUNDINGS * U * np.abs(A)
    activations = [layer.activation for layer in net.layers[1:]]
    return ref.network_bound(A, net.parameters, activations, np.float32, error=error, first=2)


def exact_outputs(model, X):
    """The model's outputs (k, m) in float64, and their bound."""
    A, bound = 0.0, 0.0
    for net, weight in zip(model.networks, model.weights, strict=True):
        own, own_bound = exact(net, X)
        if model.classifies and len(own) == 1:
            own, own_bound = np.concatenate([1 - own, own]), np.concatenate([own_bound] * 2)
        A, bound = A + weight * own, bound + weight * own_bound
    # that bound has all roundings go the same way. They are independent, so that a hundred of numbers of order 1 make
    # ten, times three for the size of a few weights
    bound = np.minimum(bound, 32 * U)
    if model.classifies:
        return A, bound
    return model.target.restored(A), bound * model.target.scale


def identity(preprocessing, **options):
    """A model that gives X itself, as if it were probabilities."""
    n = preprocessing.n_x
    net = nk.Network([nk.Dense(n, use_bias=False)], "squared_error", n_x=n, seed=0, **options)
    net.parameters["W1"][...] = np.eye(n)
    return TableModel(preprocessing, [net], [1.0], Labels([f"row {i}" for i in range(n)], "text"))


def test_networks_of_one_ensemble_have_as_many_outputs():
    model = trained(2, [1, 2])
    for i in range(2):
        TableModel(model.preprocessing, model.networks[i:][:1], [1.0], model.target).check()
    with pytest.raises(ValueError, match=r"^the networks have \[1, 2\] outputs, each should have as many$"):
        model.check()


# ---- the same numbers ----


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_ten_thousand_rows_agree(tmp_path, compare, name, form):
    model = MODELS[name]()
    arrays = table(10_000, 1, unseen=True)
    assert any(column.flag for column in model.preprocessing.columns if isinstance(column, Number))
    expected, bound = exact_outputs(model, model.preprocessing.transform(arrays))
    A = np.atleast_2d(model.predict(arrays))
    compare(A, expected, bound, "TableModel")
    names, outputs = form(model, tmp_path)(arrays)
    assert outputs.dtype == np.float64
    compare(outputs, expected, bound, form.__name__)
    if model.classifies:
        ordered = np.sort(expected, axis=0)
        clear = ordered[-1] - ordered[-2] > 2 * bound.max(axis=0)
        assert clear.mean() > 0.999
        labels = model.target.classes[A.argmax(axis=0)]
        assert (np.array(names, object) == labels)[clear].all()
        assert len(set(names)) == len(model.target.labels)


@pytest.mark.parametrize("form", FORMS)
def test_x_is_the_same_to_the_bit(tmp_path, form):
    """Waves aside, whose sine and cosine are other libraries'."""
    arrays = table(2000, 2)
    preprocessing = Preprocessing.fit(arrays, TYPES)
    assert {part for row in preprocessing.rows for part in [row.part]} >= {"missing", "sin of hour", "cos of season"}
    new = table(2000, 3, unseen=True)
    far = [1e300, -1e300, 5e-324, -0.0, 1e6, 39.99999999999999, None, 2.0**53]
    new["age"] = chunked(far * 250)
    X = preprocessing.transform(new)
    _, out = form(identity(preprocessing), tmp_path)(new)
    for row, got, expected in zip(preprocessing.rows, out, X, strict=True):
        if row.part.startswith(("sin", "cos")):
            np.testing.assert_allclose(got, expected, rtol=0, atol=2 * U)
            assert np.ptp(expected) > 1.9
        else:
            np.testing.assert_array_equal(got, expected, err_msg=f"{row.column} {row.part}")


@pytest.mark.parametrize("form", FORMS)
def test_times_before_1970_and_with_a_zone(tmp_path, form):
    rng = np.random.default_rng(0)
    zone = pa.timestamp("ms", tz="Europe/Berlin")
    arrays = {"t": chunked(rng.integers(-(10**12), 10**12, 500), pa.int64()).cast(zone)}
    preprocessing = Preprocessing.fit(arrays)
    assert preprocessing.columns[0].parts == ["hour", "weekday", "season"]
    _, out = form(identity(preprocessing), tmp_path)(arrays)
    np.testing.assert_allclose(out, preprocessing.transform(arrays), rtol=0, atol=2 * U)
    if form is InC:
        assert "1970-01-01 00:00 UTC" in (tmp_path / "table.c").read_text()


@pytest.mark.parametrize("form", FORMS)
def test_networks_of_both_precisions_in_one_model(tmp_path, form):
    arrays = table(50, 0)
    preprocessing = Preprocessing.fit(arrays, TYPES, min_count=1)
    models = [identity(preprocessing, dtype=dtype) for dtype in ("float64", "float32", "float64")]
    models[0].networks[0].parameters["W1"][...] *= 2
    nets = [model.networks[0] for model in models]
    both = TableModel(preprocessing, nets, [0.25, 0.25, 0.5], models[0].target)
    X = preprocessing.transform(arrays)
    _, out = form(both, tmp_path)(arrays)
    np.testing.assert_allclose(out, 1.25 * X.astype(float), rtol=0, atol=4 * U)
    alone = TableModel(preprocessing, nets[2:], [1.0], models[0].target)
    (tmp_path / "alone").mkdir()
    np.testing.assert_allclose(form(alone, tmp_path / "alone")(arrays)[1], X, rtol=0, atol=2 * U)


@pytest.mark.parametrize("form", FORMS)
def test_predicted_numbers_stay_within_those_of_training(tmp_path, form):
    preprocessing = Preprocessing([Number("a", 0.0, 1.0)])
    net = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)
    net.set_parameters({"W1": [[10.0]], "b1": [[0.0]]})
    model = TableModel(preprocessing, [net], [1.0], Numbers(2.0, 0.5, -1.0, 4.5))
    arrays = {"a": chunked([-5.0, 0.0, None, 0.25, 5.0])}
    _, out = form(model, tmp_path)(arrays)
    assert out[0, [0, 1, 2, 4]].tolist() == [-1.0, 2.0, 2.0, 4.5]
    assert out[0] == pytest.approx(model.predict(arrays), rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_finite(tmp_path, form):
    """NaN isn't known; infinity, which TableModel refuses, is a very large number."""
    columns = [Number("a", 1.0, 2.0, flag=True), Date("t", 5.0, 2.0, flag=True, parts=["hour"])]
    exported = form(identity(Preprocessing(columns)), tmp_path)
    _, out = exported.of_values({"a": np.array([np.nan, np.inf, -np.inf]), "t": np.array([np.nan] * 3)})
    largest = np.float32(1e6 / np.sqrt(1 + (1e6 / 3) ** 2))
    np.testing.assert_array_equal(out[:2], [[0, largest, -largest], [1, 0, 0]])
    np.testing.assert_array_equal(out[2:], np.array([[0, 0, 0, 1]] * 3).T)


@pytest.mark.parametrize("form", FORMS)
def test_a_column_that_had_no_holes(tmp_path, form):
    """What isn't known is the median then, and nothing tells it."""
    exported = form(identity(Preprocessing([Number("a", 1.0, 2.0), Date("t", 5.0, 2.0, parts=["hour"])])), tmp_path)
    _, out = exported.of_values({"a": np.array([np.nan]), "t": np.array([np.nan])})
    assert out[:, 0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", [tabular.TabularClassifier, tabular.TabularRegressor])
def test_an_estimator_that_comes_from_a_file(tmp_path, estimator, form):
    """Trained, saved, loaded: the exported program, all rows at once and one row at a time give the same."""
    arrays, new = table(400, 0), table(10_000, 1, unseen=True)
    classifies = estimator is tabular.TabularClassifier
    y = np.array(["low", "high", "middle"])[targets(arrays, 3)] if classifies else targets(arrays, None)
    options = {"preset": "fast", "random_state": 0, "column_types": TYPES}
    estimator(**options).fit(pa.table(arrays), y).save(tmp_path / "model.npz")
    model = tabular.load(tmp_path / "model.npz")
    frame = pa.table(new)
    A = model.predict_proba(frame).T if classifies else model.predict(frame)[None]
    names, outputs = form(model.model_, tmp_path)(new)
    scale = 1 if classifies else model.model_.target.scale
    # both are off from what the equations say, by 32 U at most as above
    np.testing.assert_allclose(outputs, A, rtol=0, atol=64 * U * scale)
    if classifies:
        ordered = np.sort(A, axis=0)
        clear = ordered[-1] - ordered[-2] > 128 * U
        assert clear.mean() > 0.99
        assert (np.array(names) == model.predict(frame))[clear].all()
    for i, row in enumerate(frame.slice(0, 100).to_pylist()):
        one = model.predict_proba_one(row) if classifies else model.predict_one(row)
        one = list(one.values()) if isinstance(one, dict) else one
        np.testing.assert_allclose(outputs[:, i], one, rtol=0, atol=64 * U * scale)


# ---- names and texts of any kind ----

HOSTILE = [
    "quote \" and ' and backslash \\",
    "line\nfeed\r\ttab",
    "trigraph ??/ ??' and \\123",
    "/* comment */ // another",
    "Ünïcode 数 ☘ \u202e",
    "%s %n {0} {name}",
    "",
    " ",
    "a",
    "B",
    "ab",
    "long " * 1000,
    "long " * 1000 + "é",
    "7f",
]


@pytest.mark.parametrize("form", FORMS)
def test_categories_of_any_text(tmp_path, form):
    values = HOSTILE * 5 + [None, "A", "b", "abc", "long", "zz", "\x7f", "Ü"]
    arrays = {"text": chunked(values), "two": chunked(["long " * 1000, "*/"] * 39)}
    preprocessing = Preprocessing.fit({name: array.slice(0, 5 * len(HOSTILE)) for name, array in arrays.items()})
    X = preprocessing.transform(arrays)
    assert sorted(set(X[0])) == list(range(len(HOSTILE) + 1))
    exported = form(identity(preprocessing), tmp_path)
    options = {"missing": "_"} if form is InOnnx else {}
    np.testing.assert_array_equal(exported(arrays, **options)[1], X)
    if form is InOnnx:
        # the text for what isn't known is none of the levels
        (entry, _) = json.loads(exported.session.get_modelmeta().custom_metadata_map["columns"])
        assert entry == {"name": "text", "kind": "category", "missing": "_"}


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_any_text(tmp_path, form):
    arrays = {"text": chunked(["b", "c", "a"] * 20)}
    preprocessing = Preprocessing.fit(arrays)
    net = nk.Network(
        [nk.Encode([nk.OneHot(0, 3, unknown=True)]), nk.Dense(len(HOSTILE), "softmax")], "cross_entropy", n_x=1, seed=0
    )
    model = TableModel(preprocessing, [net], [1.0], Labels(HOSTILE, "text"))
    winner = HOSTILE.index("long " * 1000 + "é")
    net.parameters["b2"][winner] = 99
    names, out = form(model, tmp_path)(arrays)
    assert out.shape == (len(HOSTILE), 60)
    assert names == [HOSTILE[winner]] * 60


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("classes", "in_onnx", "in_c"),
    [
        (np.array([3, 7]), [3, 7], ["3", "7"]),
        (np.array([-1, 2**40]), [-1, 2**40], ["-1", str(2**40)]),
        (np.array([0, 2**63], np.uint64), ["0", str(2**63)], ["0", str(2**63)]),
        (np.array([False, True]), ["False", "True"], ["False", "True"]),
        (np.array([1.0, 2.5]), ["1", "2.5"], ["1", "2.5"]),
        (np.array(["é", "z"]), ["é", "z"], ["é", "z"]),
    ],
    ids=str,
)
def test_labels_of_every_type(tmp_path, form, classes, in_onnx, in_c):
    preprocessing = Preprocessing([Number("a", 0.0, 1.0)])
    net = nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=1, seed=0)
    net.set_parameters({"W1": [[1.0]], "b1": [[0.0]]})
    model = TableModel(preprocessing, [net], [1.0], Labels.of(classes))
    exported = form(model, tmp_path)
    names, out = exported({"a": chunked([-1.0, 1.0])})
    assert names == (in_onnx if form is InOnnx else in_c)
    np.testing.assert_allclose(out.sum(axis=0), 1, rtol=1e-15)


NAMES = [
    *["X", "A", "W1", "label", "probabilities", "prediction", "nn", "nn_", "nn_float32_W1_1", "nn_median", "labels"],
    *["Age", "age", "AGE!", "age 2", "int", "NULL", "y", "x", "row", "1st", "größe", "数", "*/ int x; /*", "a\nb", " "],
    *['"', "\\", "long " * 100, "long " * 100 + "2", "isnan", "predict_row", "_", "I", "new", "linux", "??/"],
]


@pytest.mark.parametrize("form", FORMS)
def test_columns_of_any_name(tmp_path, form):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(len(NAMES), 30))
    arrays = {name: chunked(row) for name, row in zip(NAMES, values, strict=True)}
    preprocessing = Preprocessing.fit(arrays)
    exported = form(identity(preprocessing), tmp_path)
    np.testing.assert_array_equal(exported(arrays)[1], preprocessing.transform(arrays))
    if form is InOnnx:
        assert [one.name for one in exported.session.get_inputs()] == NAMES
        assert [one.name for one in exported.session.get_outputs()] == ["label_", "probabilities_"]
        assert [one.shape for one in exported.session.get_outputs()] == [["batch"], ["batch", len(NAMES)]]


def test_names_of_fields():
    fields = c_out.field_names(NAMES)
    assert len(set(fields)) == len(NAMES)
    found = dict(zip(NAMES, fields, strict=True))
    assert [found[name] for name in ("Age", "age", "AGE!", "age 2")] == ["age", "age_2", "age_3", "age_2_2"]
    assert [found[name] for name in ("int", "NULL", "1st", "größe", "数")] == [
        *["int_2", "null_2", "column_1st", "gro_e", "column"]
    ]
    assert [found[name] for name in ("*/ int x; /*", "a\nb", " ")] == ["int_x", "a_b", "column_2"]
    assert max(map(len, fields)) < 63


# ---- files, and what can't be exported ----


def small(columns=None, labels=("a", "b")):
    preprocessing = Preprocessing(columns or [Number("a", 0.0, 1.0)])
    net = nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=preprocessing.n_x, seed=0)
    return TableModel(preprocessing, [net], [1.0], Labels(list(labels), "text"))


def test_files_are_written_whole_or_not_at_all(tmp_path):
    pytest.importorskip("onnx")
    path = tmp_path / "table"
    source = c_out.to_c(small(), path)
    assert path.read_text() == source == c_out.to_c(small())
    onnx_out.to_onnx(small(), path)
    before = path.read_bytes()
    assert before == onnx_out.to_proto(small()).SerializeToString()
    with pytest.raises(ValueError, match=r"ONNX has no inputs of such names: '', 'a\\x00b'; rename these columns"):
        onnx_out.to_onnx(small([Number("", 0.0, 1.0), Number("b", 0.0, 1.0), Number("a\0b", 0.0, 1.0)]), path)
    for model in (small([Category("a", ["x", "y\0z"])]), small(labels=("x", "y\0z"))):
        with pytest.raises(ValueError, match=r"C's texts end at a NUL character, and 'y\\x00z' holds one"):
            c_out.to_c(model, path)
    for write in (c_out.to_c, onnx_out.to_onnx):
        with pytest.raises(FileNotFoundError):
            write(small(), tmp_path / "missing" / "table")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["table"]


def test_more_than_a_file_may_hold(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr(networks_out, "LARGEST_MESSAGE", 2**20 + 100)
    onnx_out.to_onnx(small([Category("a", ["x" * 40, "y" * 40])]), tmp_path / "fits.onnx")
    with pytest.raises(ValueError, match=f"holds at most {2**20 + 100} bytes; the parameters have 108"):
        onnx_out.to_onnx(small([Category("a", ["x" * 50, "y" * 50])]), tmp_path / "table.onnx")
    assert os.listdir(tmp_path) == ["fits.onnx"]


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'nnkern\[onnx\]'"):
        onnx_out.to_onnx(small(), tmp_path / "table.onnx")
    assert os.listdir(tmp_path) == []


def test_what_users_of_onnx_read(tmp_path):
    onnx = pytest.importorskip("onnx")
    arrays = table(200, 0)
    model = identity(Preprocessing.fit(arrays, TYPES))
    proto = onnx_out.to_proto(model)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 17), ("ai.onnx.ml", 3)]
    assert (proto.ir_version, proto.producer_name) == (8, "nnkern")
    kinds = {one.name: (one.type.tensor_type.elem_type, one.doc_string) for one in proto.graph.input}
    text, double = onnx.TensorProto.STRING, onnx.TensorProto.DOUBLE
    assert kinds["age"] == (double, "a number; NaN where it isn't known")
    assert kinds["seen"] == (double, "seconds since 1970-01-01 00:00; NaN where it isn't known")
    assert kinds["owner"] == (text, "one of 'False', 'True'; '' where it isn't known")
    plain = onnx_out.to_proto(small())
    assert [(entry.domain, entry.version) for entry in plain.opset_import] == [("", 17)]


def test_the_reference_of_onnx_agrees():
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    model = trained(3, [3, 3, 3])
    arrays = table(100, 1, unseen=True)
    labels, A = ReferenceEvaluator(onnx_out.to_proto(model)).run(None, feeds_of(raw_of(model, arrays)))
    expected, bound = exact_outputs(model, model.preprocessing.transform(arrays))
    assert (np.abs(A.T - expected) <= bound).all()
    assert list(labels) == [model.target.labels[i] for i in A.argmax(axis=1)]


@needs_cc
def test_a_table_without_numbers_or_without_texts_compiles(tmp_path):
    for name, columns in {
        "texts": [Category("a", ["*/ int x; /* \\", "y"])],
        "numbers": [Number("a", 0.0, 1.0)],
    }.items():
        (tmp_path / name).mkdir()
        InC(small(columns), tmp_path / name)


@needs_cc
def test_the_stack_is_what_the_file_says():
    """x, a, and of the larger network its two arrays: 4 (3 + 2 + 5 + 7) bytes."""
    preprocessing = Preprocessing([Number(name, 0.0, 1.0) for name in "abc"])
    nets = [
        nk.Network(
            [*[nk.Dense(n, "relu") for n in widths], nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=3, seed=0
        )
        for widths in ([4], [5, 7, 2])
    ]
    source = c_out.to_c(TableModel(preprocessing, nets, [0.5, 0.5], Labels(["a", "b"], "text")))
    assert f"the stack holds its {4 * (3 + 2 + 5 + 7)} bytes" in source
    assert "malloc" not in source


def test_the_example_gives_what_it_prints():
    result = doctest.testmod(c_out)
    assert result.attempted > 5
    assert result.failed == 0
