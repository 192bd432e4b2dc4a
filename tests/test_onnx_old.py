"""ONNX models older than opset 9, which onnx's version converter brings to what is read."""

import contextlib
import re
import warnings

import numpy as np
import pytest
from conftest import fuzzing
from hypothesis import given
from hypothesis import strategies as st

import nnkern as nk

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

node = helper.make_node
RNG = np.random.default_rng(7)
W, V, S = (RNG.standard_normal(shape) for shape in ((4, 3), (2, 3), (3, 3)))
B, C = RNG.standard_normal(3), RNG.standard_normal(2)
NORMAL = {name: 0.5 + RNG.random(3) for name in ("scale", "shift", "mean", "variance")}
X = RNG.standard_normal((4, 17))


def old(opset, **attributes):
    """What an operator needs before opset 7."""
    return attributes if opset < 7 else {}


def gemm(o):
    return [node("Gemm", ["x", "W", "b"], ["y"], alpha=0.5, beta=2.0, **old(o, broadcast=1))]


def gemm_of_one_number(o):
    return [node("Gemm", ["x", "W", "one"], ["y"], **old(o, broadcast=1))]


def two_gemms(o):
    first = node("Gemm", ["x", "W", "b"], ["h"], **old(o, broadcast=1))
    return [first, node("Relu", ["h"], ["r"]), node("Gemm", ["r", "V", "c"], ["y"], transB=1, **old(o, broadcast=1))]


def add_along_an_axis(o):
    return [node("MatMul", ["x", "W"], ["h"]), node("Add", ["h", "b"], ["y"], **old(o, broadcast=1, axis=1))]


def arithmetic(o):
    how = old(o, broadcast=1)
    names = ["MatMul", "Sub", "Mul", "Div", "Add"]
    inputs = ["W", "b", "scale", "variance", "shift"]
    values = ["x", *(f"h{i}" for i in range(4)), "y"]
    return [node(name, [values[i], inputs[i]], [values[i + 1]], **(how if i else {})) for i, name in enumerate(names)]


def batch_normalization(o):
    inputs = ["h", "scale", "shift", "mean", "variance"]
    how = {"epsilon": 1e-3, "momentum": 0.9, "spatial": 1, **old(o, is_test=1)}
    first = node("MatMul", ["x", "W"], ["h"])
    return [first, node("BatchNormalization", inputs, ["n"], **how), node("Tanh", ["n"], ["y"])]


def dropout(o):
    how = {"ratio": 0.25, **old(o, is_test=1)}
    middle = [node("Sigmoid", ["h"], ["s"]), node("Dropout", ["s"], ["d"], **how)]
    return [node("MatMul", ["x", "W"], ["h"]), *middle, node("MatMul", ["d", "S"], ["y"])]


def shapes(o):
    nodes = [node("Flatten", ["x"], ["f"]), node("Reshape", ["f", "to"], ["r"]), node("MatMul", ["r", "W"], ["h"])]
    return [*nodes, node("Add", ["h", "b"], ["a"], **old(o, broadcast=1)), node("Softmax", ["a"], ["y"], axis=1)]


def activations(o):
    nodes, x = [], "x"
    for i, (name, how) in enumerate(
        [("LeakyRelu", {"alpha": 0.3}), ("Elu", {"alpha": 1.0}), ("Selu", {}), ("Softplus", {})]
    ):
        nodes += [node("MatMul", [x, "W" if i == 0 else "S"], [f"h{i}"]), node(name, [f"h{i}"], [f"a{i}"], **how)]
        x = f"a{i}"
    return [*nodes, node("Identity", [x], ["y"])]


GRAPHS = {
    form.__name__: form
    for form in (
        gemm, gemm_of_one_number, two_gemms, add_along_an_axis, arithmetic, batch_normalization, dropout, shapes,
        activations,
    )
}  # fmt: skip


def model(form, opset, *, kind=np.float32, ir_version=3, batch="batch", n_x=4, weights=None):
    """The weights are inputs too before version 4 of the format."""
    nodes = form(opset)
    used = {name for one in nodes for name in one.input}
    constants = {"W": W, "V": V, "S": S, "b": B, "c": C, "one": np.array([1.5]), **NORMAL, **(weights or {})}
    tensors = [numpy_helper.from_array(a.astype(kind), name) for name, a in constants.items() if name in used]
    if "to" in used:
        tensors.append(numpy_helper.from_array(np.array([-1, 4]), "to"))
    elem = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    inputs = [helper.make_tensor_value_info("x", elem, None if batch is None else [batch, n_x])]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", elem, None)], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def taken(made, folder):
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    return nk.from_onnx(path)


def by_onnxruntime(made):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (name, *_) = [value.name for value in session.get_inputs()]
    return session.run(None, {name: np.ascontiguousarray(X.T.astype(np.float32))})[0].T


@pytest.mark.parametrize("ir_version", [3, 4])
@pytest.mark.parametrize("opset", [6, 7, 8])
@pytest.mark.parametrize("name", GRAPHS)
def test_old_models_compute_what_onnxruntime_says(tmp_path, name, opset, ir_version):
    net = taken(model(GRAPHS[name], opset, ir_version=ir_version), tmp_path)
    # onnxruntime has nothing older than opset 7, where the same graph is written without the old attributes
    expected = by_onnxruntime(model(GRAPHS[name], max(opset, 7), ir_version=ir_version))
    assert net.dtype == np.float32
    np.testing.assert_allclose(net.predict(X.astype(np.float32)), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("opset", [6, 8])
def test_weights_come_through_to_the_bit(tmp_path, opset, dtype):
    net = taken(model(two_gemms, opset, kind=dtype), tmp_path)
    assert net.dtype == dtype
    for name, array in {"W1": W.T, "b1": B[:, None], "W2": V, "b2": C[:, None]}.items():
        assert np.array_equal(net.parameters[name], array.astype(dtype))
    expected = V @ np.maximum(W.T @ X + B[:, None], 0) + C[:, None]
    np.testing.assert_allclose(net.predict(X.astype(dtype)), expected, rtol=1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("opset", [1, 3, 5])
def test_still_older_ones_where_their_operators_only_lost_attributes(tmp_path, opset):
    def form(o):
        first = node("MatMul", ["x", "W"], ["h"])
        return [first, node("Elu", ["h"], ["e"], consumed_inputs=[0]), node("MatMul", ["e", "S"], ["y"])]

    net = taken(model(form, opset), tmp_path)
    z = W.T @ X
    expected = S.T @ np.where(z > 0, z, np.expm1(z))
    np.testing.assert_allclose(net.predict(X.astype(np.float32)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [6, 8])
@pytest.mark.parametrize("batch", ["batch", 17, 1])
def test_the_batch_is_what_the_model_says(tmp_path, opset, batch):
    """An open one stays open: Reshape to (17, 4) would need 17 examples."""
    net = taken(model(shapes, opset, batch=batch), tmp_path)
    z = W.T @ X + B[:, None]
    e = np.exp(z - z.max(axis=0))
    np.testing.assert_allclose(net.predict(X.astype(np.float32)), e / e.sum(axis=0), rtol=1e-5)


def test_old_domains_by_their_long_name(tmp_path):
    made = model(gemm, 6)
    made.opset_import[0].domain = "ai.onnx"
    assert taken(made, tmp_path).layers == (nk.Dense(3),)


@pytest.mark.parametrize("opset", [6, 8])
def test_weights_in_a_file_beside_an_old_model(tmp_path, opset):
    made = model(gemm, opset)
    (tensor,) = [tensor for tensor in made.graph.initializer if tensor.name == "W"]
    (tmp_path / "m.data").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "m.data"
    net = taken(made, tmp_path)
    assert np.array_equal(net.parameters["W1"], 0.5 * W.T.astype(np.float32))


@pytest.mark.parametrize("opset", [7, 8])
@pytest.mark.parametrize("classes", [2, 3])
def test_old_classifiers_of_skl2onnx(tmp_path, opset, classes):
    skl2onnx = pytest.importorskip("skl2onnx")
    module = pytest.importorskip("sklearn.neural_network")
    X = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlp = module.MLPClassifier((5,), max_iter=30, random_state=0).fit(X, np.arange(60) % classes)
    net = taken(skl2onnx.to_onnx(mlp, X[:1], target_opset={"": opset, "ai.onnx.ml": 1}), tmp_path)
    expected = mlp.predict_proba(X).T
    np.testing.assert_allclose(net.predict(X.T), expected[1:] if classes == 2 else expected, atol=3e-6)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: model(add_along_an_axis, 6, batch=None), "opset 6, older than 9, and .*: Shape of input 0 is"),
        (lambda: model(gemm, 0), "opset 0, older than 9, and onnx's version converter .*: .*invalid"),
        (lambda: model(gemm, -3), "opset -3, older than 9"),
        (lambda: model(lambda o: [node("Sin", ["x"], ["y"])], 8), r"node 0 \(Sin\) can't be taken"),
        (lambda: model(lambda o: [node("Nonsense", ["x"], ["y"])], 8), "version converter can't take it: .*Nonsense"),
        (lambda: model(lambda o: [node("Gemm", ["x"], ["y"])], 6), "version converter can't take it"),
        (lambda: model(gemm, 8, weights={"W": W[:3]}), r"node 0 \(Gemm\) can't be taken"),
    ],
)  # fmt: skip
def test_what_the_converter_cannot_take_is_refused(tmp_path, made, words):
    with pytest.raises(nk.ModelFormatError, match=words):
        taken(made(), tmp_path)


def test_old_models_of_many_nodes(tmp_path):
    """The converter takes a multiple of their size."""

    def chain(count):
        nodes = [node("MatMul", ["x", "W"], ["v0"])]
        nodes += [node("Identity", [f"v{i}"], [f"v{i + 1}"]) for i in range(count - 2)]
        return lambda o: [*nodes, node("Relu", [f"v{count - 2}"], ["y"])]

    assert taken(model(chain(10_000), 8), tmp_path).layers == (nk.Dense(3, "relu", use_bias=False),)
    with pytest.raises(nk.ModelFormatError, match="has 10001 nodes; at most 10000 are converted"):
        taken(model(chain(10_001), 8), tmp_path)


@pytest.mark.parametrize("dims", [[4, 2**40], [2**40, 2**40], [-4, -3], [0, 3], [12], [], [2**62, 4]])
@pytest.mark.parametrize("opset", [6, 8])
def test_shapes_that_lie(tmp_path, opset, dims):
    made = model(add_along_an_axis, opset)
    (tensor,) = [tensor for tensor in made.graph.initializer if tensor.name == "W"]
    del tensor.dims[:]
    tensor.dims.extend(dims)
    with pytest.raises(nk.ModelFormatError):
        taken(made, tmp_path)


GOOD = {name: model(GRAPHS[name], 6).SerializeToString() for name in ("shapes", "batch_normalization")}


@fuzzing
@given(name=st.sampled_from(sorted(GOOD)), data=st.data())
def test_bytes_changed_anywhere(tmp_path, name, data):
    content = bytearray(GOOD[name])
    places = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for position, value in data.draw(st.lists(places, min_size=1, max_size=6)):
        content[position] = value
    (tmp_path / "m.onnx").write_bytes(content)
    with contextlib.suppress(nk.ModelFormatError):
        net = nk.from_onnx(tmp_path / "m.onnx")
        net.predict(np.ones((net.n_x, 2)))


def test_a_refusal_names_the_file(tmp_path):
    with pytest.raises(nk.ModelFormatError, match=re.escape(f"{tmp_path / 'm.onnx'}: it is of opset 0")):
        taken(model(gemm, 0), tmp_path)
