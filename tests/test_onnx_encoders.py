"""Graphs that look like an Encode layer or a mix as it is written, and aren't: none of them is read as one."""

import numpy as np
import pytest

import nnkern as nk

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node


def array(*values, dtype="f4"):
    return np.array(values, dtype)


# A branch of each kind over the input x (batch, 4): its nodes, the last of which is y, and its constants.

NUMBER = node("Gather", ["x", "row"], ["n"], axis=1)
NUMERIC = [node("Gather", ["x", "row"], ["y"], axis=1)]
EMBEDDING = [
    node("Gather", ["x", "only row"], ["g"], axis=1),
    node("Cast", ["g"], ["code"], to=INT64),
    node("Gather", ["E", "code"], ["y"], axis=0),
]
ONE_HOT = [NUMBER, node("Equal", ["n", "codes"], ["e"]), node("Cast", ["e"], ["y"], to=FLOAT)]
BINS = [
    NUMBER,
    node("Sub", ["n", "edges"], ["d"]),
    node("Mul", ["d", "inverse"], ["s"]),
    node("Clip", ["s", "zero", "one"], ["y"]),
]
COSINES = [
    NUMBER,
    node("Mul", ["n", "w"], ["p"]),
    node("Add", ["p", "b"], ["q"]),
    node("Cos", ["q"], ["y"]),
]
MAPPED_BINS = [*BINS[:-1], node("Clip", ["s", "zero", "one"], ["f"]), node("Gemm", ["f", "M", "c"], ["y"], transB=1)]
MAPPED_COSINES = [
    *COSINES[:-1],
    node("Cos", ["q"], ["f"]),
    node("Gemm", ["f", "M", "c"], ["m"], transB=1),
    node("Concat", ["n", "m"], ["y"], axis=1),
]
CONSTANTS = {
    "square": np.eye(4, dtype="f4"),
    "row": array(1, dtype="i8"),
    "rows": array(1, 2, dtype="i8"),
    "other row": array(3, dtype="i8"),
    "last row": array(-1, dtype="i8"),
    "only row": np.array(1, "i8"),
    "E": np.arange(15, dtype="f4").reshape(5, 3),
    "tables": np.ones((5, 3, 1), "f4"),
    "codes": array(0, 1, 2),
    "no codes": array(0, 2, 1),
    "edges": array(0, 1, 3),
    "inverse": array(1, 0.5, 1),
    "one inverse": array(0.5),
    "zero": np.float32(0),
    "one": np.float32(1),
    "two": np.float32(2),
    "zeros": array(0, 0),
    "w": array(1, 2, 3),
    "b": array(0.5, 0, 1),
    "one b": array(0.5),
    "M": np.arange(9, dtype="f4").reshape(3, 3) / 9,
    "narrow M": np.ones((3, 2), "f4"),
    "M of rank 3": np.ones((3, 3, 1), "f4"),
    "c": array(1, 2, 3),
    "one c": array(1),
}
W = np.random.default_rng(0).normal(size=(12, 2)).astype("f4")


def written(path, branch, units, **concat):
    """A model file: the branch beside x's first entry, and a dense layer."""
    nodes = [
        node("Gather", ["x", "first"], ["x0"], axis=1),
        *branch,
        node("Concat", ["x0", "y"], ["all"], name="encoders", **(concat or {"axis": 1})),
        node("Gemm", ["all", "W"], ["out"]),
    ]
    constants = CONSTANTS | {"first": array(0, dtype="i8"), "W": W[: 1 + units]}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    X = helper.make_tensor_value_info("x", FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "g", [X], [helper.make_tensor_value_info("out", FLOAT, None)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return model


TAKEN = {
    "number": (NUMERIC, 1, nk.Numeric(1)),
    "embedding": (EMBEDDING, 3, nk.Embedding(1, 5, 3)),
    "bins": (BINS, 3, nk.PiecewiseLinear(1, array(0, 1, 3, 4))),
    "cosines": (COSINES, 3, nk.Periodic(1, 3, None)),
    "mapped bins": (MAPPED_BINS, 3, nk.PiecewiseLinear(1, array(0, 1, 3, 4), units=3)),
    "mapped cosines": (MAPPED_COSINES, 4, nk.Periodic(1, 3, 4)),
}
X = np.array([[0.5, 1, 0, 2], [2, 0, 1, 2.5], [1, 1, 1, 0], [-1, 0, 3, 1]], "f4")


@pytest.mark.parametrize(("branch", "units", "encoder"), TAKEN.values(), ids=list(TAKEN))
def test_what_is_an_encoder_is_read_as_one(tmp_path, branch, units, encoder):
    from onnx.reference import ReferenceEvaluator

    model = written(tmp_path / "m.onnx", branch, units)
    net = nk.from_onnx(tmp_path / "m.onnx")
    assert net.layers[0].encoders == (nk.Numeric(0), encoder)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": X})
    np.testing.assert_allclose(net.predict(X.T).T, expected, rtol=1e-5, atol=1e-5)


def test_codes_are_read_as_one_hot(tmp_path):
    written(tmp_path / "m.onnx", ONE_HOT, 3)
    net = nk.from_onnx(tmp_path / "m.onnx")
    assert net.layers[0].encoders == (nk.Numeric(0), nk.OneHot(1, 3))
    np.testing.assert_allclose(net.predict(X.T), W[0][:, None] * X[:, 0] + W[1 + X[:, 1].astype(int)].T, rtol=1e-6)


def changed(branch, output, *inputs, op=None, **attributes):
    """The branch with other inputs, another operator or other attributes of the node that makes `output`."""
    nodes = []
    for one in branch:
        if one.output[0] == output:
            kept = {a.name: helper.get_attribute_value(a) for a in one.attribute} | attributes
            kept = {name: value for name, value in kept.items() if value is not None}
            one = node(op or one.op_type, list(inputs) or one.input, [output], **kept)
        nodes.append(one)
    return nodes


# and how many units the branch would have if it were read as the encoder that it looks like
OTHERS = {
    "nothing makes it": (NUMERIC[:0], 1),
    "another operator": ([node("Gather", ["x", "row"], ["g"], axis=1), node("Sin", ["g"], ["y"])], 1),
    "examples in place of features": (changed(NUMERIC, "y", axis=0), 1),
    "examples, as the default is": (changed(NUMERIC, "y", axis=None), 1),
    "a row of something else": ([node("Relu", ["x"], ["r"]), *changed(NUMERIC, "y", "r", "row")], 1),
    "a row of a hidden layer": ([node("Gemm", ["x", "square"], ["h"]), *changed(NUMERIC, "y", "h", "row")], 1),
    "several rows": (changed(NUMERIC, "y", "x", "rows"), 1),
    "a row counted from the end": (changed(NUMERIC, "y", "x", "last row"), 1),
    "a row that isn't known": (
        [
            node("Gather", ["x", "only row"], ["g"], axis=1),
            node("Cast", ["g"], ["i"], to=INT64),
            *changed(NUMERIC, "y", "x", "i"),
        ],
        1,
    ),
    "a column of a table": (changed(EMBEDDING, "y", axis=1), 3),
    "a table of tables": (changed(EMBEDDING, "y", "tables", "code"), 3),
    "codes that aren't converted": (changed(EMBEDDING, "code", op="Neg", to=None), 3),
    "codes of a column": (changed(EMBEDDING, "g", "x", "row"), 3),
    "less in place of equal": (changed(ONE_HOT, "e", op="Less"), 3),
    "equal to another feature": (
        [node("Gather", ["x", "other row"], ["o"], axis=1), *changed(ONE_HOT, "e", "n", "o")],
        1,
    ),
    "clipped to other bounds": (changed(BINS, "y", "s", "zero", "two"), 3),
    "clipped to several bounds": (changed(BINS, "y", "s", "zeros", "one"), 3),
    "clipped on one side": (changed(BINS, "y", "s", "zero"), 3),
    "as many edges as one width": (changed(BINS, "s", "d", "one inverse"), 3),
    "a sum in place of a difference": (changed(BINS, "d", op="Add"), 3),
    "as many frequencies as one phase": (changed(COSINES, "q", "p", "one b"), 3),
    "a difference in place of a sum": (changed(COSINES, "q", op="Sub"), 3),
    "a map the other way": (changed(MAPPED_BINS, "y", transB=0), 3),
    "a map without terms": (changed(MAPPED_BINS, "y", "f", "M"), 3),
    "a map with one term": (changed(MAPPED_BINS, "y", "f", "M", "one c"), 3),
    "a map of rank 3": (changed(MAPPED_BINS, "y", "f", "M of rank 3", "c"), 3),
    "a map of fewer features": (changed(MAPPED_BINS, "y", "f", "narrow M", "c"), 3),
    "a map times a factor": (changed(MAPPED_BINS, "y", alpha=2.0), 3),
    "a map with terms times a factor": (changed(MAPPED_BINS, "y", beta=2.0), 3),
    "a map of examples": (changed(MAPPED_BINS, "y", transA=1), 3),
    "mapped cosines without the number": (
        [*MAPPED_COSINES[:-2], node("Gemm", ["f", "M", "c"], ["y"], transB=1)],
        3,
    ),
    "mapped cosines beside two": (changed(MAPPED_COSINES, "y", "n", "m", "n"), 4),
    "mapped cosines alone": (changed(MAPPED_COSINES, "y", "m"), 4),
    "mapped cosines below the number": (changed(MAPPED_COSINES, "y", axis=0), 4),
    "cosines beside the number, not mapped": (changed(MAPPED_COSINES, "y", "n", "f"), 4),
    "mapped cosines beside another number": (
        [
            node("Gather", ["x", "other row"], ["o"], axis=1),
            *changed(MAPPED_COSINES, "y", "o", "m"),
        ],
        4,
    ),
}


@pytest.mark.parametrize(("branch", "units"), OTHERS.values(), ids=list(OTHERS))
def test_what_is_no_encoder_is_not_read_as_one(tmp_path, branch, units):
    written(tmp_path / "m.onnx", branch, units)
    with pytest.raises(nk.ModelFormatError, match=r"can't be taken: read are chains") as caught:
        nk.from_onnx(tmp_path / "m.onnx")
    assert str(tmp_path) in str(caught.value)


def test_codes_that_do_not_count_on(tmp_path):
    written(tmp_path / "m.onnx", changed(ONE_HOT, "e", "n", "no codes"), 3)
    with pytest.raises(nk.ModelFormatError, match=r"encoders \(Concat\): codes that don't count on from 0 or 1"):
        nk.from_onnx(tmp_path / "m.onnx")


# ---- mixes: A = Z + a (g(Z) - Z) ----

MIX = [
    node("Gemm", ["x", "W4", "b4"], ["z"]),
    node("Tanh", ["z"], ["g"]),
    node("Sub", ["g", "z"], ["d"]),
    node("Mul", ["d", "a"], ["m"]),
    node("Add", ["z", "m"], ["y"], name="sum"),
]
MIX_CONSTANTS = {
    "W4": np.random.default_rng(1).normal(size=(4, 4)).astype("f4"),
    "b4": array(1, 2, 3, 4),
    "a": array(0.25, 0.5, 1, 2),
    "wide a": array(1, 2, 3, 4, 5),
    "double a": array(0.25, 0.5, 1, 2, dtype="f8"),
    "half": np.float32(0.5),
}


def written_mix(path, nodes):
    """A model file: these nodes, the last of which makes y, and a dense layer."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in MIX_CONSTANTS.items()]
    X = helper.make_tensor_value_info("x", FLOAT, ["batch", 4])
    nodes = [*nodes, node("Gemm", ["y", "W4"], ["out"])]
    graph = helper.make_graph(nodes, "g", [X], [helper.make_tensor_value_info("out", FLOAT, None)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return model


def test_what_is_a_mix_is_read_as_one(tmp_path):
    from onnx.reference import ReferenceEvaluator

    model = written_mix(tmp_path / "m.onnx", MIX)
    net = nk.from_onnx(tmp_path / "m.onnx")
    assert [(layer.activation, layer.mix) for layer in net.layers] == [("tanh", True), ("linear", False)]
    (expected,) = ReferenceEvaluator(model).run(None, {"x": X})
    np.testing.assert_allclose(net.predict(X.T).T, expected, rtol=1e-5, atol=1e-5)


NO_MIXES = {
    "a sum": (changed(MIX, "d", op="Add"), "can't be taken"),
    "a quotient": (changed(MIX, "m", op="Div"), "can't be taken"),
    "a difference the other way": (changed(MIX, "d", "z", "g"), "can't be taken"),
    "shares that aren't known": (changed(MIX, "m", "d", "z"), "can't be taken"),
    "with what came before the layer": (
        [*changed(MIX[:3], "d", "g", "x"), MIX[3], node("Add", ["x", "m"], ["y"])],
        "can't be taken",
    ),
    "with another layer": (
        [node("Gemm", ["x", "W4"], ["z2"]), *changed(MIX[:4], "d", "g", "z2"), node("Add", ["z2", "m"], ["y"])],
        "can't be taken",
    ),
    "with the layer before": (
        [*MIX[:1], node("Gemm", ["z", "W4"], ["z2"]), node("Tanh", ["z2"], ["g"]), *MIX[2:]],
        "can't be taken",
    ),
    "of a factor": (changed(MIX, "g", "z", "half", op="Mul"), r"sum \(Add\): a mix that doesn't follow an activation"),
    "of a second layer": (
        changed(MIX, "g", "z", "W4", op="Gemm"),
        r"sum \(Add\): a mix that doesn't follow an activation",
    ),
    "in double": (changed(MIX, "m", "d", "double a"), r"sum \(Add\): the parameters are float64 and float32"),
    "of five units": (changed(MIX, "m", "d", "wide a"), r"sum \(Add\): 5 factors or terms for 4 numbers"),
}


@pytest.mark.parametrize(("nodes", "words"), NO_MIXES.values(), ids=list(NO_MIXES))
def test_what_is_no_mix_is_not_read_as_one(tmp_path, nodes, words):
    written_mix(tmp_path / "m.onnx", nodes)
    with pytest.raises(nk.ModelFormatError, match=words):
        nk.from_onnx(tmp_path / "m.onnx")
