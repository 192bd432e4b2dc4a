"""ONNX: what is exported is valid and computes what the equations say; others' models are read, or refused by name."""

import contextlib
import math
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import reference
from conftest import assert_no_leaks, fails, fuzzing, measured
from hypothesis import given
from hypothesis import strategies as st

import nnkern as nk

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from nnkern import layers, losses  # noqa: E402
from nnkern.convert import onnx_activations, onnx_in, onnx_out  # noqa: E402
from nnkern.model import Model  # noqa: E402

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux counts it")
# onnxruntime has no double kernel for Erf
NOT_IN_DOUBLE = {"gelu"}


def evaluate(model, X):
    """Outputs by onnx.reference, of examples in columns as nnkern takes them."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class Erf(OpRun):
        """The library's own is good to 3e-8 only, in float64 too (seen in onnx 1.23)."""

        op_domain = ""

        def _run(self, x):
            return (np.vectorize(math.erf, otypes=[x.dtype])(x),)

    name = model.graph.input[0].name
    return ReferenceEvaluator(model, new_ops=[Erf]).run(None, {name: np.ascontiguousarray(X.T)})


def run(model, X):
    """Outputs by onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(X.T)})


def exported(net, folder, **options):
    net.to_onnx(folder / "net.onnx", **options)
    model = onnx.load(folder / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    return model


def example(activation, dtype, **options):
    """A network with that activation in a hidden and the output layer, and examples for it."""
    layers = [
        nk.Dense(9, activation, negative_slope=0.3),
        nk.Dense(6, activation, negative_slope=0.3, use_bias=False),
    ]
    net = nk.Network(layers, "squared_error", n_x=5, dtype=dtype, seed=0, **options)
    rng = np.random.default_rng(1)
    net.parameters["b1"][...] = rng.standard_normal((9, 1))
    return net, ((0.3 if activation == "exp" else 3) * rng.standard_normal((5, 40))).astype(dtype)


# ---- export ----


@pytest.mark.parametrize("activation", nk.kernels.ACTIVATIONS)
def test_every_activation_agrees_with_onnxruntime(tmp_path, compare, activation, dtype):
    net, X = example(activation, dtype)
    model = exported(net, tmp_path)
    expected, bound = reference.network_bound(X, net.parameters, [activation] * 2, dtype, 0.3)
    if dtype == np.float32 or activation not in NOT_IN_DOUBLE:
        for m in (40, 1):
            (A,) = run(model, X[:, :m])
            assert A.dtype == dtype
            compare(A.T, expected[:, :m], bound[:, :m], "onnxruntime")


@pytest.mark.parametrize("activation", nk.kernels.ACTIVATIONS)
def test_every_activation_agrees_with_the_reference(tmp_path, compare, activation, dtype):
    net, X = example(activation, dtype)
    expected, bound = reference.network_bound(X, net.parameters, [activation] * 2, dtype, 0.3)
    (A,) = evaluate(exported(net, tmp_path), X)
    assert A.dtype == dtype
    compare(A.T, expected, bound, "onnx.reference")


@pytest.mark.parametrize("activation", nk.kernels.ACTIVATIONS)
def test_round_trip_of_every_activation(tmp_path, activation, dtype):
    net, X = example(activation, dtype)
    exported(net, tmp_path)
    back = nk.from_onnx(tmp_path / "net.onnx", loss="squared_error")
    assert back.dtype == dtype
    for own, other in zip(net.layers, back.layers, strict=True):
        assert (own.units, own.activation, own.use_bias) == (other.units, other.activation, other.use_bias)
    if activation == "leaky_relu":
        # the attribute is a float32 in ONNX; the kernels round the slope to the network's dtype
        assert np.float32(back.layers[0].negative_slope) == np.float32(0.3)
    assert set(back.parameters) == set(net.parameters)
    for name, array in net.parameters.items():
        assert np.array_equal(back.parameters[name], array)
    assert np.array_equal(back.predict(X), net.predict(X))


def test_the_file_is_as_users_of_onnx_expect_it(tmp_path):
    net = nk.Network([nk.Dense(4, "relu"), nk.Dense(2)], "squared_error", n_x=3, seed=0)
    model = exported(net, tmp_path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert model.producer_name == "nnkern"
    (X,), (A,) = model.graph.input, model.graph.output
    assert (X.name, A.name) == ("X", "A")
    sizes = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in (X, A)]
    assert sizes == [["batch", 3], ["batch", 2]]
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Relu", "Gemm"]
    assert {tensor.name for tensor in model.graph.initializer} == {"W1", "b1", "W2", "b2"}


@pytest.mark.parametrize("program", [evaluate, run])
@pytest.mark.parametrize("labels", [["no", "yes"], [-1, 7], None])
def test_labels_of_one_sigmoid(tmp_path, program, labels, dtype):
    net = nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=3, dtype=dtype, seed=0)
    X = np.random.default_rng(0).standard_normal((3, 50)).astype(dtype)
    model = exported(net, tmp_path, labels=labels)
    p = net.predict(X)[0]
    if labels is None:
        (A,) = program(model, X)
        np.testing.assert_allclose(A[:, 0], p, rtol=1e-5)
        return
    label, probabilities = program(model, X)
    assert list(label) == [labels[i] for i in net.predict_labels(X)]
    assert set(label) == set(labels)
    np.testing.assert_allclose(probabilities, np.stack([1 - p, p], axis=1), atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("program", [evaluate, run])
@pytest.mark.parametrize("labels", [["ä", "b", "a long name"], [10, 20, 2**40]])
def test_labels_and_standardised_features(tmp_path, program, labels, dtype):
    net = nk.Network([nk.Dense(4, "tanh"), nk.Dense(3, "softmax")], "cross_entropy", n_x=3, dtype=dtype, seed=2)
    X = (20 + 4 * np.random.default_rng(0).standard_normal((3, 50))).astype(dtype)
    mean, scale = X.mean(axis=1), X.std(axis=1)
    label, probabilities = program(exported(net, tmp_path, labels=labels, mean=mean, scale=scale), X)
    A = net.predict((X - mean[:, None]) / scale[:, None])
    assert list(label) == [labels[i] for i in A.argmax(axis=0)]
    np.testing.assert_allclose(probabilities.T, A, atol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("program", [evaluate, run])
def test_standardised_targets(tmp_path, program, dtype):
    net = nk.Network([nk.Dense(4, "tanh"), nk.Dense(2)], "squared_error", n_x=3, dtype=dtype, seed=2)
    X = np.random.default_rng(0).standard_normal((3, 50)).astype(dtype)
    mean, scale = np.array([1000.0, -3.0]), np.array([50.0, 0.25])
    (A,) = program(exported(net, tmp_path, target_mean=mean, target_scale=scale), X)
    np.testing.assert_allclose(A.T, mean[:, None] + scale[:, None] * net.predict(X), rtol=64 * np.finfo(dtype).eps)
    # and back: both are folded into the weights
    back = nk.from_onnx(tmp_path / "net.onnx")
    np.testing.assert_allclose(back.predict(X), A.T, rtol=64 * np.finfo(dtype).eps)


def test_what_cannot_be_exported_leaves_the_old_file(tmp_path):
    net = nk.Network([nk.Dense(2)], "squared_error", n_x=3, seed=0)
    path = tmp_path / "net.onnx"
    net.to_onnx(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"labels are for sigmoid or softmax outputs, .* got linear"):
        net.to_onnx(path, labels=["a", "b"])
    with pytest.raises(nk.NotFittedError):
        nk.Network([nk.Dense(2)], "squared_error").to_onnx(path)
    with pytest.raises(TypeError, match="colour"):
        net.to_onnx(path, colour="red")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.onnx"]


def test_more_parameters_than_a_file_may_hold(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(b"old")
    monkeypatch.setattr(onnx_out, "LARGEST_MESSAGE", 2**20 + 100)
    net = nk.Network([nk.Dense(9)], "squared_error", n_x=9, seed=0)
    with pytest.raises(ValueError, match=f"holds at most {2**20 + 100} bytes; the parameters have"):
        net.to_onnx(tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == b"old"


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    net = nk.Network([nk.Dense(2)], "squared_error", n_x=3, seed=0)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'nnkern\[onnx\]'"):
        net.to_onnx(tmp_path / "net.onnx")
    with pytest.raises(ImportError, match=r"pip install 'nnkern\[onnx\]'"):
        nk.from_onnx(tmp_path / "net.onnx")
    assert os.listdir(tmp_path) == []


# ---- import: models of other programs ----


def torch_model(torch, activations):
    nn, layers = torch.nn, [torch.nn.Flatten()]
    torch.manual_seed(0)
    for activation in activations:
        layers += [nn.Linear(24 if len(layers) > 1 else 6, 24, bias=len(layers) != 3), activation]
    layers[3:3] = [nn.BatchNorm1d(24), nn.Dropout(0.5)]
    model = nn.Sequential(*layers, nn.Linear(24, 3), nn.Softmax(1))
    for module in model:
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                torch.nn.init.normal_(tensor)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


TORCH_ACTIVATIONS = {
    "sigmoid": lambda nn: nn.Sigmoid(),
    "tanh": lambda nn: nn.Tanh(),
    "relu": lambda nn: nn.ReLU(),
    "leaky_relu": lambda nn: nn.LeakyReLU(0.2),
    "elu": lambda nn: nn.ELU(),
    "selu": lambda nn: nn.SELU(),
    "gelu": lambda nn: nn.GELU(),
    "gelu_tanh": lambda nn: nn.GELU("tanh"),
    "silu": lambda nn: nn.SiLU(),
    "softplus": lambda nn: nn.Softplus(),
    "mish": lambda nn: nn.Mish(),
    "hard_swish": lambda nn: nn.Hardswish(),
}
"""As torch's users write them."""
KNOWN = [name for name in TORCH_ACTIVATIONS if name in nk.kernels.ACTIVATIONS]


@pytest.mark.parametrize(("exporter", "opset"), [("script", 17), ("script", 20), ("dynamo", 18), ("dynamo", 20)])
def test_models_of_torch(tmp_path, exporter, opset):
    torch = pytest.importorskip("torch")
    if exporter == "dynamo":
        pytest.importorskip("onnxscript")
    model = torch_model(torch, [TORCH_ACTIVATIONS[name](torch.nn) for name in KNOWN])
    X = torch.randn(20, 2, 3)
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            sizes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(model, (X,), path, dynamo=True, opset_version=opset, dynamic_shapes=sizes, verbose=False)
        else:
            axes = {"X": {0: "batch"}}
            torch.onnx.export(
                model, (X,), path, dynamo=False, opset_version=opset, input_names=["X"], dynamic_axes=axes
            )
    if exporter == "dynamo":
        assert (tmp_path / "model.onnx.data").exists()  # where this exporter puts all but small parameters
    net = nk.from_onnx(path)
    assert net.loss == "cross_entropy"
    assert [layer.activation for layer in net.layers] == [*KNOWN, "softmax"]
    with torch.no_grad():
        expected = model(X).numpy().T
    # the layers are contractions nearly: a few roundings each, and softmax's output is below 1
    np.testing.assert_allclose(net.predict(X.reshape(20, 6).numpy().T), expected, atol=2e-6)


def fitted(kind, y, **options):
    pytest.importorskip("skl2onnx")
    module = pytest.importorskip("sklearn.neural_network")
    X = np.random.default_rng(0).standard_normal((60, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return X, getattr(module, kind)(hidden_layer_sizes=[5, 4], max_iter=30, random_state=0, **options).fit(X, y)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
def test_classifiers_of_skl2onnx(tmp_path, classes, zipmap, activation, kind):
    X, model = fitted("MLPClassifier", np.arange(60) % classes, activation=activation)
    import skl2onnx

    X = X.astype(kind)
    options = {"zipmap": zipmap}
    (tmp_path / "m.onnx").write_bytes(skl2onnx.to_onnx(model, X[:1], options=options).SerializeToString())
    net = nk.from_onnx(tmp_path / "m.onnx")
    A, expected = net.predict(X.T), model.predict_proba(X).T
    np.testing.assert_allclose(A, expected[1:] if classes == 2 else expected, atol=3e-6)
    assert np.array_equal(net.predict_labels(X.T), model.predict(X))


def test_a_pipeline_of_skl2onnx(tmp_path):
    # with several targets, skl2onnx reshapes (m, n_y) to (n_y m, 1)
    y = np.random.default_rng(1).standard_normal(60)
    X, model = fitted("MLPRegressor", y, activation="tanh")
    import skl2onnx
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X = 7 + 3 * X
    pipeline = make_pipeline(StandardScaler().fit(X), model)
    (tmp_path / "m.onnx").write_bytes(skl2onnx.to_onnx(pipeline, X[:1]).SerializeToString())
    net = nk.from_onnx(tmp_path / "m.onnx")
    assert net.dtype == np.float64
    np.testing.assert_allclose(net.predict(X.T)[0], pipeline.predict(X), rtol=1e-12, atol=1e-12)


# ---- import: graphs by hand ----


def written(path, nodes, constants, *, n_x=4, opset=17, inputs=None, outputs=("y",), elem=TensorProto.FLOAT):
    """A model file of these nodes over the input x."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    inputs = inputs or [helper.make_tensor_value_info("x", elem, ["batch", n_x])]
    values = [helper.make_tensor_value_info(name, elem, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", inputs, values, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return model


RNG = np.random.default_rng(5)
W = RNG.standard_normal((4, 3)).astype("f4")
V = RNG.standard_normal((3, 2)).astype("f4")
B = RNG.standard_normal(3).astype("f4")
X4 = RNG.standard_normal((4, 17)).astype("f4")
node = helper.make_node
POSITIVE = (0.5 + RNG.random(3)).astype("f4")
POSITIVE_4 = (0.5 + RNG.random(4)).astype("f4")

CHAINS = {
    "MatMul": ([node("MatMul", ["x", "W"], ["y"])], {"W": W}),
    "MatMul, Add": ([node("MatMul", ["x", "W"], ["a"]), node("Add", ["a", "b"], ["y"])], {"W": W, "b": B}),
    "Add the other way": ([node("MatMul", ["x", "W"], ["a"]), node("Add", ["b", "a"], ["y"])], {"W": W, "b": B[None]}),
    "Gemm": ([node("Gemm", ["x", "W", "b"], ["y"])], {"W": W, "b": B}),
    "Gemm without bias": ([node("Gemm", ["x", "W"], ["y"])], {"W": W}),
    "Gemm, transB": ([node("Gemm", ["x", "W", "b"], ["y"], transB=1)], {"W": W.T.copy(), "b": B}),
    "Gemm, alpha and beta": ([node("Gemm", ["x", "W", "b"], ["y"], alpha=0.5, beta=2.0)], {"W": W, "b": B}),
    "Gemm, one number for b": ([node("Gemm", ["x", "W", "b"], ["y"])], {"W": W, "b": np.float32(2)}),
    "Gemm, b a row": ([node("Gemm", ["x", "W", "b"], ["y"])], {"W": W, "b": B[None]}),
    "constants as nodes": (
        [
            node("Constant", [], ["W"], value=numpy_helper.from_array(W)),
            node("Constant", [], ["b"], value_floats=[1.0, 2.0, 3.0]),
            node("Gemm", ["x", "W", "b"], ["y"]),
        ],
        {},
    ),
    "a transposed constant": (
        [node("Transpose", ["V"], ["W"], perm=[1, 0]), node("MatMul", ["x", "W"], ["y"])],
        {"V": W.T.copy()},
    ),
    "standardised": (
        [
            node("Sub", ["x", "mean"], ["a"]),
            node("Div", ["a", "scale"], ["c"]),
            node("Mul", ["c", "two"], ["d"]),
            node("Add", ["d", "mean"], ["e"]),
            node("Gemm", ["e", "W", "b"], ["y"]),
        ],
        {"mean": X4[:, 0], "scale": POSITIVE_4, "two": np.float32(2), "W": W, "b": B},
    ),
    "affine after and between": (
        [
            node("Gemm", ["x", "W", "b"], ["a"]),
            node("Mul", ["s", "a"], ["c"]),
            node("Sub", ["b", "c"], ["d"]),
            node("Tanh", ["d"], ["e"]),
            node("Mul", ["e", "s"], ["f"]),
            node("Sub", ["f", "b"], ["g"]),
            node("MatMul", ["g", "V"], ["y"]),
        ],
        {"W": W, "b": B, "s": POSITIVE, "V": V},
    ),
    "BatchNormalization": (
        [
            node("BatchNormalization", ["x", "s4", "m4", "m4", "s4"], ["n"], epsilon=0.01),
            node("MatMul", ["n", "W"], ["a"]),
            node("BatchNormalization", ["a", "s", "b", "b", "s"], ["c"]),
            node("Relu", ["c"], ["d"]),
            node("BatchNormalization", ["d", "s", "b", "b", "s"], ["e"]),
            node("MatMul", ["e", "V"], ["y"]),
        ],
        {"s4": POSITIVE_4, "m4": X4[:, 1], "W": W, "s": POSITIVE, "b": B, "V": V},
    ),
    "what changes nothing": (
        [
            node("Identity", ["x"], ["x1"]),
            node("Cast", ["x1"], ["x2"], to=TensorProto.FLOAT),
            node("Flatten", ["x2"], ["x3"]),
            node("Reshape", ["x3", "shape"], ["x4"]),
            node("MatMul", ["x4", "W"], ["a"]),
            node("Dropout", ["a", "p"], ["c", "mask"]),
            node("Relu", ["c"], ["d"]),
            node("Reshape", ["d", "shape3"], ["e"]),
            node("Cast", ["e"], ["y"], to=TensorProto.FLOAT),
        ],
        {"shape": np.array([-1, 4]), "shape3": np.array([0, -1]), "W": W, "p": np.float32(0.5)},
    ),
    "leaky by PRelu": (
        [node("MatMul", ["x", "W"], ["a"]), node("PRelu", ["a", "s"], ["y"])],
        {"W": W, "s": np.float32([0.25])},
    ),
    "LeakyRelu's default": ([node("MatMul", ["x", "W"], ["a"]), node("LeakyRelu", ["a"], ["y"])], {"W": W}),
    "leaky written out": (
        [
            node("MatMul", ["x", "W"], ["a"]),
            node("Mul", ["s", "a"], ["c"]),
            node("Less", ["a", "zero"], ["d"]),
            node("Where", ["d", "c", "a"], ["y"]),
        ],
        {"W": W, "s": np.float32(0.25), "zero": np.float32(0)},
    ),
    "Softmax of axis 1": ([node("MatMul", ["x", "W"], ["a"]), node("Softmax", ["a"], ["y"], axis=1)], {"W": W}),
    "old opset": ([node("MatMul", ["x", "W"], ["a"]), node("Sigmoid", ["a"], ["y"])], {"W": W}),
    # as torch writes it: x / √2 rather than x · √½
    "gelu by a division": (
        [
            node("MatMul", ["x", "W"], ["a"]),
            node("Div", ["a", "root2"], ["c"]),
            node("Erf", ["c"], ["d"]),
            node("Add", ["d", "one"], ["e"]),
            node("Mul", ["a", "e"], ["f"]),
            node("Mul", ["f", "half"], ["y"]),
        ],
        {"W": W, "root2": np.float32(math.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5)},
    ),
    "gelu_tanh by a power": (
        [
            node("MatMul", ["x", "W"], ["a"]),
            node("Pow", ["a", "three"], ["c"]),
            node("Mul", ["c", "cubic"], ["d"]),
            node("Add", ["a", "d"], ["e"]),
            node("Mul", ["e", "root"], ["f"]),
            node("Tanh", ["f"], ["g"]),
            node("Add", ["g", "one"], ["h"]),
            node("Mul", ["a", "half"], ["i"]),
            node("Mul", ["i", "h"], ["y"]),
        ],
        {"W": W, "three": np.float32(3), "cubic": np.float32(0.044715), "one": np.float32(1), "half": np.float32(0.5)}
        | {"root": np.float32(math.sqrt(2 / math.pi))},
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains(tmp_path, name):
    nodes, constants = CHAINS[name]
    model = written(tmp_path / "m.onnx", nodes, constants, opset=9 if name == "old opset" else 17)
    net = nk.from_onnx(tmp_path / "m.onnx")
    (expected,) = evaluate(model, X4)
    # a dozen products and sums of numbers of order 1, folded in another order
    np.testing.assert_allclose(net.predict(X4), expected.T, rtol=2e-5, atol=2e-5)


def test_every_form_of_an_activation_is_told_apart():
    """No two activations share a form, and each form is found again however its products are put together."""
    keys = {}
    for key, forms in onnx_activations._templates().items():
        for numbers, name in forms:
            for other, other_name in keys.get(key, []):
                fits, _ = onnx_activations._compare(numbers, other)
                assert not fits or name == other_name
            keys.setdefault(key, []).append((numbers, name))


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.INT64])
def test_the_input_may_be_converted(tmp_path, kind):
    nodes = [node("Cast", ["x"], ["a"], to=TensorProto.FLOAT), node("MatMul", ["a", "W"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", kind, ["batch", 4])]
    written(tmp_path / "m.onnx", nodes, {"W": W}, inputs=inputs)
    X = np.arange(8).reshape(4, 2)
    np.testing.assert_allclose(nk.from_onnx(tmp_path / "m.onnx").predict(X), W.T @ X, rtol=1e-5)


def test_constants_in_fields_of_their_type(tmp_path):
    """As numbers one by one rather than as bytes."""
    model = written(tmp_path / "m.onnx", [node("MatMul", ["x", "W"], ["y"])], {"W": W})
    model.graph.initializer[0].CopyFrom(helper.make_tensor("W", TensorProto.FLOAT, W.shape, W.ravel()))
    assert not model.graph.initializer[0].HasField("raw_data")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert np.array_equal(nk.from_onnx(tmp_path / "m.onnx").parameters["W1"], W.T)
    del model.graph.initializer[0].float_data[-1]
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(nk.ModelFormatError, match=r"W has shape \(4, 3\), but 11 entries"):
        nk.from_onnx(tmp_path / "m.onnx")


def test_probabilities_by_name(tmp_path):
    """ZipMap makes dictionaries of a classifier's probabilities, which the network gives as a matrix."""
    zipmap = node("ZipMap", ["p"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
    nodes = [node("MatMul", ["x", "W"], ["a"]), node("Softmax", ["a"], ["p"])]
    (expected,) = evaluate(written(tmp_path / "m.onnx", nodes, {"W": W}, outputs=("p",)), X4)
    written(tmp_path / "m.onnx", [*nodes, zipmap], {"W": W})
    net = nk.from_onnx(tmp_path / "m.onnx")
    assert net.layers[-1].activation == "softmax"
    np.testing.assert_allclose(net.predict(X4), expected.T, rtol=2e-5)


def two_of_one_sigmoid(axis=1):
    """What classifiers of two classes do: (1 - p, p)."""
    return [
        node("MatMul", ["x", "w"], ["a"]),
        node("Sigmoid", ["a"], ["p"]),
        node("Sub", ["one", "p"], ["q"]),
        node("Concat", ["q", "p"], ["y"], axis=axis, name="pair"),
    ]


def test_one_sigmoid_for_two_classes(tmp_path):
    constants = {"w": W[:, :1], "one": np.float32(1)}
    (expected,) = evaluate(written(tmp_path / "m.onnx", two_of_one_sigmoid(), constants), X4)
    net = nk.from_onnx(tmp_path / "m.onnx")
    assert (net.layers[-1].units, net.layers[-1].activation) == (1, "sigmoid")
    np.testing.assert_allclose(net.predict(X4)[0], expected[:, 1], rtol=2e-5)
    for nodes, changed in (
        (two_of_one_sigmoid(axis=0), constants),
        (two_of_one_sigmoid(), {**constants, "one": np.float32(2)}),
        (two_of_one_sigmoid(), {**constants, "w": W}),
    ):
        written(tmp_path / "m.onnx", nodes, changed)
        with pytest.raises(nk.ModelFormatError, match=r"pair \(Concat\)"):
            nk.from_onnx(tmp_path / "m.onnx")


def test_pictures_of_a_size_that_is_not_said(tmp_path):
    nodes = [node("Flatten", ["x"], ["a"]), node("MatMul", ["a", "W"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, "rows", "columns"])]
    written(tmp_path / "m.onnx", nodes, {"W": W}, inputs=inputs)
    np.testing.assert_allclose(nk.from_onnx(tmp_path / "m.onnx").predict(X4), W.T @ X4, rtol=1e-5, atol=1e-6)


def test_flattened_pictures(tmp_path):
    nodes = [node("Flatten", ["x"], ["a"]), node("MatMul", ["a", "W"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 2, 2])]
    written(tmp_path / "m.onnx", nodes, {"W": W}, inputs=inputs)
    np.testing.assert_allclose(nk.from_onnx(tmp_path / "m.onnx").predict(X4), W.T @ X4, rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_named_gives_logits_their_activation(tmp_path):
    nodes, constants = CHAINS["MatMul, Add"]
    written(tmp_path / "m.onnx", nodes, constants)
    assert nk.from_onnx(tmp_path / "m.onnx").layers[-1].activation == "linear"
    net = nk.from_onnx(tmp_path / "m.onnx", loss="cross_entropy")
    assert net.layers[-1].activation == "softmax"
    with pytest.raises(ValueError, match=r"^loss must be one of"):
        nk.from_onnx(tmp_path / "m.onnx", loss="hinge")
    written(tmp_path / "m.onnx", [MATMUL, SOFTMAX], {"W": W}, outputs=("p",))
    with pytest.raises(nk.ModelFormatError, match=r"m\.onnx: the loss poisson needs exp units at the output"):
        nk.from_onnx(tmp_path / "m.onnx", loss="poisson")


@pytest.mark.parametrize("program", [evaluate, run])
def test_a_factor_per_feature(tmp_path, program, dtype):
    """Factors before a dense layer are folded into it; those that no layer can take up come back as written."""
    rng = np.random.default_rng(0)
    scale, dense = layers.Scale(), nk.Dense(4, "tanh")
    shapes = {"s1": (3, 1), "W2": (4, 3), "b2": (4, 1), "s3": (4, 1)}
    p = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    X = rng.standard_normal((3, 20)).astype(dtype)
    model = Model((scale, dense, scale), losses.get("squared_error"), 3, p, dtype)
    onnx_out.write(model, tmp_path / "net.onnx")
    written = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(written, full_check=True)
    assert [node.op_type for node in written.graph.node] == ["Mul", "Gemm", "Tanh", "Mul"]
    (A,) = program(written, X)
    assert A.dtype == dtype
    # numbers of order 1, a dozen roundings each
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(A.T, p["s3"] * np.tanh(p["W2"] @ (p["s1"] * X) + p["b2"]), atol=32 * eps)
    back = onnx_in.read(tmp_path / "net.onnx")
    assert back.layers == (dense, scale)
    assert (back.loss.name, back.n_x, back.dtype) == ("squared_error", 3, dtype)
    assert list(back.parameters) == ["W1", "b1", "s2"]
    np.testing.assert_allclose(back.parameters["W1"], p["W2"] * p["s1"].T, rtol=eps)
    assert np.array_equal(back.parameters["b1"], p["b2"])
    assert np.array_equal(back.parameters["s2"], p["s3"])


def test_factors_after_an_activation_are_no_output_of_its_loss(tmp_path):
    nodes = [node("MatMul", ["x", "W"], ["a"]), node("Softmax", ["a"], ["p"]), node("Mul", ["p", "s"], ["y"], name="m")]
    written(tmp_path / "m.onnx", nodes, {"W": W, "s": POSITIVE})
    assert onnx_in.read(tmp_path / "m.onnx").loss.name == "squared_error"
    written(tmp_path / "m.onnx", [*nodes[:2], node("Sub", ["p", "s"], ["y"], name="m")], {"W": W, "s": POSITIVE})
    with pytest.raises(nk.ModelFormatError, match=r"m \(Sub\): it has no dense layer after it"):
        onnx_in.read(tmp_path / "m.onnx")


# ---- import: refused, and the first node named ----

DENSE = node("MatMul", ["x", "W"], ["a"], name="dense")
REFUSED = {
    "unknown operator": ([DENSE, node("Sin", ["a"], ["y"], name="sine")], "sine (Sin)"),
    "unknown domain": ([DENSE, node("Relu", ["a"], ["y"], name="r", domain="their.own")], "r (Relu of their.own)"),
    "without a name": ([DENSE, node("Sin", ["a"], ["b"]), node("Cos", ["b"], ["y"])], "node 1 (Sin)"),
    "the first of two": ([node("Sin", ["x"], ["b"]), DENSE, node("MatMul", ["b", "W"], ["y"])], "node 0 (Sin)"),
    "activation first": ([node("Relu", ["x"], ["r"], name="early"), node("MatMul", ["r", "W"], ["y"])], "early (Relu)"),
    "two activations": ([DENSE, node("Relu", ["a"], ["b"]), node("Tanh", ["b"], ["y"], name="t")], "t (Tanh)"),
    "a skip connection": (
        [DENSE, node("Relu", ["a"], ["b"]), node("Add", ["a", "b"], ["y"], name="skip")],
        "skip (Add)",
    ),
    "quick gelu": (
        [
            DENSE,
            node("Mul", ["a", "c"], ["b"]),
            node("Sigmoid", ["b"], ["d"]),
            node("Mul", ["a", "d"], ["y"], name="quick"),
        ],
        "quick (Mul)",
    ),
    "transposed examples": ([node("Gemm", ["x", "W"], ["y"], transA=1, name="g")], "g (Gemm)"),
    "weights from the input": ([node("MatMul", ["x", "x"], ["y"], name="square")], "square (MatMul)"),
    "weights on the left": ([node("MatMul", ["U", "x"], ["y"], name="left")], "left (MatMul)"),
    "dropout in training": ([DENSE, node("Dropout", ["a", "c", "true"], ["y"], name="d")], "d (Dropout)"),
    "batch norm in training": (
        [DENSE, node("BatchNormalization", ["a", "s", "s", "s", "s"], ["y", "m", "v"], training_mode=1, name="n")],
        "n (BatchNormalization)",
    ),
    "softmax over the batch": ([DENSE, node("Softmax", ["a"], ["y"], axis=0, name="s")], "s (Softmax)"),
    "log softmax": ([DENSE, node("LogSoftmax", ["a"], ["y"], name="ls")], "ls (LogSoftmax)"),
    "another alpha": ([DENSE, node("Elu", ["a"], ["y"], alpha=0.5, name="e")], "e (Elu)"),
    "negative slope": ([DENSE, node("LeakyRelu", ["a"], ["y"], alpha=-0.5, name="l")], "dense"),
    "reshaped": ([DENSE, node("Reshape", ["a", "six"], ["y"], name="r")], "r (Reshape)"),
    "reshaped to three": ([DENSE, node("Reshape", ["a", "three"], ["y"], name="r")], "r (Reshape)"),
    "flattened otherwise": ([DENSE, node("Flatten", ["a"], ["y"], axis=0, name="f")], "f (Flatten)"),
    "narrowed": ([DENSE, node("Cast", ["a"], ["y"], to=TensorProto.INT64, name="c")], "c (Cast)"),
    "a column is added": ([DENSE, node("Add", ["a", "column"], ["y"], name="plus")], "plus (Add)"),
    "divided by the layer": ([DENSE, node("Div", ["s", "a"], ["y"], name="by")], "by (Div)"),
    "wrong size": ([DENSE, node("MatMul", ["a", "W"], ["y"], name="again")], "again (MatMul)"),
    "wrong size of bias": ([DENSE, node("Add", ["a", "five"], ["y"], name="plus")], "plus (Add)"),
    "affine at the end": (
        [DENSE, node("Relu", ["a"], ["r"]), node("Mul", ["r", "c"], ["y"], name="last")],
        "last (Mul)",
    ),
    "another dtype": ([DENSE, node("MatMul", ["a", "D"], ["y"], name="double")], "double (MatMul)"),
    "half": ([node("MatMul", ["x", "H"], ["y"], name="half")], "half (MatMul)"),
    "a shape with nothing for the batch": (
        [DENSE, node("Reshape", ["a", "none"], ["y"], allowzero=1, name="r")],
        "r (Reshape)",
    ),
    "a batch of five": ([DENSE, node("Reshape", ["a", "of five"], ["y"], name="r")], "r (Reshape)"),
    "one number of rank 3": ([DENSE, node("Mul", ["a", "cube"], ["y"], name="times")], "times (Mul)"),
    "a sum of one": ([DENSE, node("Add", ["a"], ["y"], name="plus")], "plus (Add)"),
    "a dense layer of another domain": (
        [node("MatMul", ["x", "W"], ["y"], name="m", domain="their.own")],
        "m (MatMul of their.own)",
    ),
    "a constant of another domain": (
        [
            node("Constant", [], ["K"], name="k", domain="their.own", value=numpy_helper.from_array(W)),
            node("MatMul", ["x", "K"], ["y"], name="m"),
        ],
        "k (Constant of their.own)",
    ),
    "nothing to take": ([DENSE, node("Identity", [], ["y"], name="of nothing")], "of nothing (Identity)"),
    "no dense layer": ([node("Identity", ["x"], ["y"], name="same")], "there is no dense layer in it"),
    "no node that makes it": ([node("MatMul", ["nothing", "W"], ["y"], name="m")], "m (MatMul)"),
}
REFUSED_CONSTANTS = {
    "W": W, "U": W.T.copy(), "s": POSITIVE, "c": np.float32(1.702), "true": np.array(True), "six": np.array([-1, 6]),
    "three": np.array([-1, 3, 1]), "column": np.ones((3, 1), "f4"), "five": np.ones(5, "f4"), "D": V.astype("f8"),
    "H": W.astype("f2"), "none": np.array([0, 3]), "of five": np.array([5, 3]), "cube": np.ones((1, 1, 1), "f4"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_named(tmp_path, name):
    nodes, words = REFUSED[name]
    written(tmp_path / "m.onnx", nodes, REFUSED_CONSTANTS)
    with pytest.raises(nk.ModelFormatError) as caught:
        nk.from_onnx(tmp_path / "m.onnx")
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_factors_that_do_not_fit_the_layer_after_them(tmp_path):
    """Where the model doesn't say how many features it takes, the layer does."""
    nodes = [node("Mul", ["x", "five"], ["a"]), node("MatMul", ["a", "W"], ["y"], name="dense")]
    written(tmp_path / "m.onnx", nodes, {"five": np.ones(5, "f4"), "W": W}, n_x="features")
    with pytest.raises(nk.ModelFormatError, match=r"dense \(MatMul\)"):
        nk.from_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(("count", "taken"), [(29, True), (40, False)])
def test_expressions_of_many_nodes(tmp_path, count, taken):
    """z σ(z) with so many factors 1 in it: an activation has 32 nodes at most."""
    nodes = [DENSE, *(node("Mul", [f"m{i}" if i else "a", "one"], [f"m{i + 1}"]) for i in range(count))]
    nodes += [node("Sigmoid", [f"m{count}"], ["s"]), node("Mul", ["a", "s"], ["y"], name="last")]
    written(tmp_path / "m.onnx", nodes, {"W": W, "one": np.float32(1)})
    if taken:
        assert nk.from_onnx(tmp_path / "m.onnx").layers[-1].activation == "silu"
    else:
        with pytest.raises(nk.ModelFormatError, match=r"last \(Mul\)"):
            nk.from_onnx(tmp_path / "m.onnx")


def test_powers_of_powers_stay_small():
    """z³ cubed again and again: 3 to the power of the depth factors."""
    power = "z"
    for _ in range(4):
        power = ("Pow", [power, 3.0], {})
    assert len(onnx_activations._canonical(power)[1]) == 81
    with pytest.raises(onnx_activations._Unknown):
        onnx_activations._canonical(("Pow", [power, 3.0], {}))


MATMUL, SOFTMAX = node("MatMul", ["x", "W"], ["a"]), node("Softmax", ["a"], ["p"])


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([MATMUL, node("Relu", ["a"], ["emb"]), node("MatMul", ["emb", "V"], ["y"])], ("emb", "y")),
        ([MATMUL, node("MatMul", ["a", "V"], ["one"]), node("MatMul", ["a", "V"], ["other"])], ("one", "other")),
        ([MATMUL, SOFTMAX], ("a", "p")),
        ([MATMUL, node("Identity", ["x"], ["same"])], ("a", "same")),
    ],
    ids=["hidden layer", "two heads", "logits", "input"],
)
def test_several_outputs_are_not_one_network(tmp_path, nodes, outputs):
    for names in (outputs, outputs[::-1]):
        written(tmp_path / "m.onnx", nodes, {"W": W, "V": V}, outputs=names)
        with pytest.raises(nk.ModelFormatError, match=f"its outputs {', '.join(names)} are a chain of layers each"):
            nk.from_onnx(tmp_path / "m.onnx")


def test_outputs_that_say_the_same_are_one_network(tmp_path):
    label = node("ArgMax", ["p"], ["label"], axis=1, keepdims=0)
    zipmap = node("ZipMap", ["p"], ["named"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
    double = node("Cast", ["p"], ["double"], to=TensorProto.DOUBLE)
    path = tmp_path / "m.onnx"
    written(path, [MATMUL, SOFTMAX, label, zipmap, double], {"W": W}, outputs=("label", "p", "named", "double"))
    assert [layer.activation for layer in nk.from_onnx(os.fsencode(path)).layers] == ["softmax"]
    constants = {"w": W[:, :1], "one": np.float32(1)}
    written(path, two_of_one_sigmoid(), constants, outputs=("p", "y"))
    assert nk.from_onnx(path).n_y == 1


def test_inputs_that_a_network_does_not_have(tmp_path):
    def refuse(message, **options):
        written(tmp_path / "m.onnx", [DENSE], {"W": W}, outputs=("a",), **options)
        with pytest.raises(nk.ModelFormatError, match=message):
            nk.from_onnx(tmp_path / "m.onnx")

    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    refuse("2 inputs", inputs=[value("x", ["batch", 4]), value("z", ["batch", 4])])
    refuse("1 dimensions", inputs=[value("x", [4])])
    refuse(r"dense \(MatMul\)", inputs=[value("x", ["batch", 2, 2])])
    refuse(r"dense \(MatMul\)", inputs=[value("x", ["batch", 5])])
    refuse("opset 0", opset=0)


# ---- import: damaged and hostile files ----


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "net.onnx"
    layers = [nk.Dense(3, "leaky_relu"), nk.Dense(2, "softmax")]
    nk.Network(layers, "cross_entropy", n_x=4, dtype="float64", seed=0).to_onnx(path)
    return path.read_bytes()


def a_network_or_refused(path):
    with contextlib.suppress(nk.ModelFormatError):
        net = nk.from_onnx(path)
        net.predict(np.ones((net.n_x, 2)))
        return net


def test_every_truncation(good, tmp_path):
    path = tmp_path / "net.onnx"
    for length in range(0, len(good), 5):
        path.write_bytes(good[:length])
        a_network_or_refused(path)
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(nk.ModelFormatError, match="no model file, or a damaged one"):
        nk.from_onnx(path)


@fuzzing
@given(data=st.data())
def test_bytes_changed_anywhere(good, tmp_path, data):
    """Any byte, among them those of names, shapes, types and lengths."""
    content = bytearray(good)
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), min_size=1, max_size=6)
    ):
        content[position] = value
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    a_network_or_refused(path)


@pytest.mark.parametrize("content", [b"", b"hello, world\n", bytes(1000), b"\x0a\xff\xff\xff\xff\x0f", b"PK\x03\x04"])
def test_foreign_files(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    words = "no model file, or a damaged one" if content else "it holds no ONNX graph"
    with pytest.raises(nk.ModelFormatError, match=words):
        nk.from_onnx(tmp_path / "m.onnx")


def test_nodes_without_outputs_are_nobodys(tmp_path):
    written(tmp_path / "m.onnx", [DENSE, node("Relu", ["a"], [])], {"W": W}, outputs=("a",))
    assert nk.from_onnx(tmp_path / "m.onnx").layers == (nk.Dense(3, use_bias=False),)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        nk.from_onnx(tmp_path / "missing.onnx")
    with pytest.raises(IsADirectoryError):
        nk.from_onnx(tmp_path)


@linux
@pytest.mark.parametrize("device", [None, "/dev/zero"], ids=["a FIFO", "a link to a device"])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path, device):
    path = tmp_path / "m.onnx"
    if device:
        path.symlink_to(device)
    else:
        os.mkfifo(path)
    code = "import signal, sys, nnkern; signal.alarm(20); nnkern.from_onnx(sys.argv[1])"
    done = subprocess.run([sys.executable, "-P", "-c", code, path], capture_output=True, text=True, timeout=60)
    assert f"ModelFormatError: {path} is no regular file" in done.stderr, done


def with_tensor(path, **facts):
    """The chain MatMul with W replaced by a tensor of these fields."""
    model = written(path, [DENSE], {"W": W}, outputs=("a",))
    tensor = model.graph.initializer[0]
    for name, value in facts.items():
        if name == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)
        elif name == "external_data":
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, text in value.items():
                entry = tensor.external_data.add()
                entry.key, entry.value = key, text
        else:
            setattr(tensor, name, value)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("dims", [[4, 2**40], [2**40, 2**40], [-4, -3], [0, 3], [4, 0], [12], [], [2**62, 4]])
def test_shapes_that_lie(tmp_path, dims):
    with_tensor(tmp_path / "m.onnx", dims=dims)
    # a vector is a shape that W may have, and that no layer takes
    words = rf"the constant W has shape {re.escape(str(tuple(dims)))}" if dims != [12] else r"node dense \(MatMul\)"
    with pytest.raises(nk.ModelFormatError, match=words):
        nk.from_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("data_type", [0, 2, 3, 8, 10, 14, 16, 17, 99])
def test_types_that_no_network_has(tmp_path, data_type):
    with_tensor(tmp_path / "m.onnx", data_type=data_type)
    with pytest.raises(nk.ModelFormatError, match=r"node dense \(MatMul\) can't be taken"):
        nk.from_onnx(tmp_path / "m.onnx")


def test_parameters_in_a_file_beside_the_model(tmp_path):
    """As torch's exporter puts them."""
    (tmp_path / "m.data").write_bytes(b"head" + W.tobytes())
    facts = {"location": "m.data", "offset": "4", "length": str(W.nbytes)}
    with_tensor(tmp_path / "m.onnx", external_data=facts)
    assert np.array_equal(nk.from_onnx(tmp_path / "m.onnx").parameters["W1"], W.T)


NO_PLACE, NO_PART = "only plain files beside the model are read", "reaches over the end of m.data"
OUTSIDE = {
    "above": ({"location": "../m.data"}, NO_PLACE),
    "absolute": ({"location": "/etc/passwd"}, NO_PLACE),
    "nothing": ({"location": ""}, NO_PLACE),
    "no location": ({}, NO_PLACE),
    "the folder": ({"location": "."}, NO_PLACE),
    "a folder": ({"location": "folder"}, NO_PLACE),
    "missing": ({"location": "other.data"}, NO_PLACE),
    "a link": ({"location": "link"}, NO_PLACE),
    "over the end": ({"location": "m.data", "offset": "1"}, NO_PART),
    "far over the end": ({"location": "m.data", "offset": str(2**62)}, NO_PART),
    "before the start": ({"location": "m.data", "offset": "-4"}, NO_PART),
    "no number": ({"location": "m.data", "offset": "x"}, "a damaged one: .*'x'"),
    "a zero byte": ({"location": "m.data\0"}, NO_PLACE),
}


@pytest.mark.parametrize(("facts", "words"), OUTSIDE.values(), ids=list(OUTSIDE))
def test_files_beside_the_model_that_are_none(tmp_path, facts, words):
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    for place in (tmp_path, folder):
        (place / "m.data").write_bytes(W.tobytes())
    (folder / "link").symlink_to(tmp_path / "m.data")
    with_tensor(folder / "m.onnx", external_data=facts)
    with pytest.raises(nk.ModelFormatError, match=words):
        nk.from_onnx(folder / "m.onnx")


def test_weights_that_are_used_again_and_again(tmp_path):
    """Parameters of a network are its own: a small file mustn't become a large network."""
    nodes = [node("MatMul", [f"a{i}" if i else "x", "square"], [f"a{i + 1}"], name=f"layer {i}") for i in range(9)]
    for count, taken in ((2, True), (9, False)):
        square = np.eye(100, dtype="f4")
        written(tmp_path / "m.onnx", nodes[:count], {"square": square}, n_x=100, outputs=(f"a{count}",))
        if taken:
            assert len(nk.from_onnx(tmp_path / "m.onnx").layers) == count
        else:
            with pytest.raises(nk.ModelFormatError, match="the same weights are used again and again"):
                nk.from_onnx(tmp_path / "m.onnx")


def test_long_chains(tmp_path):
    """Thousands of layers, of constants that stand for one another, of maps folded into one layer."""
    count = 3000
    nodes = [node("Identity", ["W"], ["k0"])]
    nodes += [node("Identity", [f"k{i}"], [f"k{i + 1}"]) for i in range(count)]
    nodes += [node("Transpose", [f"k{count}"], ["Wt"]), node("Transpose", ["Wt"], ["W2"])]
    square = np.eye(4, dtype="f4")
    nodes += [node("MatMul", ["x", "square"], ["d0"])]
    for i in range(count):
        nodes += [node("Relu", [f"d{i}"], [f"r{i}"]), node("MatMul", [f"r{i}", f"s{i}"], [f"d{i + 1}"])]
    nodes += [node("MatMul", [f"d{count}", "W2"], ["a0"])]
    nodes += [node("Add", [f"a{i}", "one"], [f"a{i + 1}"]) for i in range(count)]
    constants = {"W": W, "square": square, "one": np.float32(1), **{f"s{i}": square for i in range(count)}}
    written(tmp_path / "m.onnx", nodes, constants, outputs=(f"a{count}",))
    net = nk.from_onnx(tmp_path / "m.onnx")
    assert len(net.layers) == count + 2
    np.testing.assert_allclose(net.predict(X4), W.T @ np.maximum(X4, 0) + count, rtol=1e-5)


@linux
@pytest.mark.no_sanitizer
def test_hostile_files_take_little_memory(tmp_path):
    """A constant of 1 MB that many nodes use, an outer product of two vectors, expressions that double at each node."""
    n = 512
    square = np.zeros((n, n), "f4")
    nodes = [node("MatMul", [f"v{i}" if i else "x", "W"], [f"v{i + 1}"]) for i in range(2000)]
    written(tmp_path / "shared.onnx", nodes, {"W": square}, n_x=n, outputs=("v2000",))
    wide = 20_000
    nodes = [node("MatMul", ["x", "u"], ["a"]), node("MatMul", ["a", "v"], ["b"]), node("Tanh", ["b"], ["y"])]
    outer = {"u": np.zeros((wide, 1), "f4"), "v": np.zeros((1, wide), "f4")}
    written(tmp_path / "outer.onnx", nodes, outer, n_x=wide)
    nodes = [node("MatMul", ["x", "W"], ["v0"])]
    nodes += [node("Mul", [f"v{i}", f"v{i}"], [f"v{i + 1}"]) for i in range(200)]
    nodes += [node("Pow", [f"v{i}", "three"], [f"v{i + 1}"]) for i in range(200, 400)]
    written(tmp_path / "powers.onnx", nodes, {"W": W, "three": np.float32(3)}, outputs=("v400",))
    n = 2**18
    column, row = np.ones((n, 1), "f4"), np.ones(n, "f4")
    last = node("MatMul", ["v200", "u"], ["y"])
    nodes = [node("Mul", [f"v{i}" if i else "x", "c"], [f"v{i + 1}"]) for i in range(200)]
    written(tmp_path / "factors.onnx", [*nodes, last], {"u": column, "c": row}, n_x=n)
    nodes = [node("BatchNormalization", [f"v{i}" if i else "x", *"cccc"], [f"v{i + 1}"]) for i in range(200)]
    written(tmp_path / "normalised.onnx", [*nodes, last], {"u": column, "c": row}, n_x=n)
    nodes = [node("Gemm", ["x", "u"], [f"v{i}"], alpha=0.5) for i in range(200)]
    written(tmp_path / "halves.onnx", nodes, {"u": column}, n_x=n, outputs=("v7",))
    code = """
        import sys
        import onnx
        import nnkern as nk
        nk.from_onnx(sys.argv[1])
        for path in sys.argv[2:]:
            before = peak_bytes()
            try:
                print(nk.from_onnx(path), end=" ")
            except nk.ModelFormatError as error:
                print(error, end=" ")
            print("-", peak_bytes() - before)
    """
    written(tmp_path / "small.onnx", [DENSE], {"W": W}, outputs=("a",))
    paths = [tmp_path / f"{name}.onnx" for name in ("small", "shared", "outer", "powers")]
    paths += [tmp_path / f"{name}.onnx" for name in ("factors", "normalised", "halves")]
    done = subprocess.run(
        [sys.executable, "-P", "-c", measured(code), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line, path in zip(lines, paths[1:], strict=True):
        assert int(line.rpartition(" - ")[2]) < 12 * path.stat().st_size + 2**23, line
    assert "used again and again" in lines[0]
    assert "20000 tanh" in lines[1]
    assert "node 1 (Mul)" in lines[2]
    assert all("262144 → 1 linear" in line for line in lines[3:])


# ---- estimators ----

few_epochs = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")

CLASSES = {
    "texts": ["ape", "bear", "cat"],
    "two texts": ["no", "yes"],
    "integers": [3, 5, 8],
    "floats": [0.0, 1.0],
    "booleans": [False, True],
}


@few_epochs
@pytest.mark.parametrize("classes", CLASSES.values(), ids=list(CLASSES))
def test_fitted_classifiers(tmp_path, classes):
    ours = pytest.importorskip("nnkern.sklearn")
    rng = np.random.default_rng(0)
    X = rng.normal(5, 3, size=(60, 4)).astype(np.float32)
    y = np.array(classes)[rng.integers(0, len(classes), 60)]
    mean, scale = X.mean(axis=0), X.std(axis=0)
    mlp = ours.MLPClassifier((7,), max_iter=5, tol=0.0, random_state=0).fit((X - mean) / scale, y)
    mlp.to_onnx(tmp_path / "mlp.onnx", mean=mean, scale=scale)
    labels, P = run(onnx.load(tmp_path / "mlp.onnx"), X.T)
    assert P.shape == (60, len(classes))
    np.testing.assert_allclose(P, mlp.predict_proba((X - mean) / scale), atol=1e-5)
    assert labels.tolist() == mlp.predict((X - mean) / scale).tolist()


@few_epochs
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("loss", ["huber", nk.losses.Quantile(0.25), "function"], ids=str)
def test_fitted_classifiers_of_any_loss(tmp_path, loss, n_classes):
    """Their outputs are probabilities whatever the loss."""
    ours = pytest.importorskip("nnkern.sklearn")
    if loss == "function":
        loss = lambda A, Y: (0.5 * ((A - Y) ** 2).sum(axis=0), A - Y)  # noqa: E731
    X = np.random.default_rng(0).normal(size=(60, 4))
    y = np.array(["a", "b", "c"])[X[:, :n_classes].argmax(axis=1)]
    mlp = ours.MLPClassifier((7,), loss=loss, max_iter=20, tol=0.0, learning_rate_init=0.1, random_state=0).fit(X, y)
    mlp.to_onnx(tmp_path / "mlp.onnx")
    labels, P = run(onnx.load(tmp_path / "mlp.onnx"), X.T)
    np.testing.assert_allclose(P, mlp.predict_proba(X), atol=1e-12)
    assert labels.tolist() == mlp.predict(X).tolist()
    assert len(set(labels)) == n_classes


@few_epochs
def test_fitted_estimators_of_numbers_and_of_several_labels(tmp_path):
    ours = pytest.importorskip("nnkern.sklearn")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    path = tmp_path / "mlp.onnx"
    for n_y in (1, 3):
        mlp = ours.MLPRegressor(hidden_layer_sizes=(7,), max_iter=5, tol=0.0, random_state=0).fit(
            X, rng.normal(size=(60, n_y)).squeeze()
        )
        mlp.to_onnx(path)
        (A,) = run(onnx.load(path), X.T)
        np.testing.assert_allclose(A.squeeze(), mlp.predict(X), atol=1e-12)
    mlp = ours.MLPClassifier((7,), max_iter=5, tol=0.0, random_state=0).fit(X, rng.integers(0, 2, (60, 3)))
    mlp.to_onnx(path)
    (P,) = run(onnx.load(path), X.T)
    np.testing.assert_allclose(P, mlp.predict_proba(X), atol=1e-12)


@few_epochs
def test_estimators_that_cannot_be_exported(tmp_path):
    ours = pytest.importorskip("nnkern.sklearn")
    exceptions = pytest.importorskip("sklearn.exceptions")
    with pytest.raises(exceptions.NotFittedError):
        ours.MLPRegressor().to_onnx(tmp_path / "mlp.onnx")
    mlp = ours.MLPClassifier((7,), max_iter=2, tol=0.0).fit(np.eye(4), [1, 2, 1, 2])
    with pytest.raises(ValueError, match=r"mean must have shape \(4,\)"):
        mlp.to_onnx(tmp_path / "mlp.onnx", mean=np.zeros(3))
    assert not list(tmp_path.iterdir())


# ---- leaks ----

# call -> how many: fewer of what takes long
REPEATED = {"to_onnx": 1000, "from_onnx": 1000, "from_onnx, refused": 2000}


@pytest.mark.no_sanitizer
@pytest.mark.parametrize(("call", "calls"), REPEATED.items(), ids=list(REPEATED))
def test_no_leaks(tmp_path, call, calls, monkeypatch):
    """Nobody waits for the disk here."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    net, _ = example("gelu", "float32")
    path, bad = tmp_path / "net.onnx", tmp_path / "bad.onnx"
    net.to_onnx(path)
    written(bad, [DENSE, node("Cos", ["a"], ["y"])], {"W": W})
    call = {
        "to_onnx": lambda: net.to_onnx(path),
        "from_onnx": lambda: nk.from_onnx(path),
        "from_onnx, refused": lambda: fails(nk.from_onnx, bad),
    }[call]
    assert_no_leaks(call, [net, path, bad], calls)
