"""The tables of the formats are whole: each has a row for every activation and for every kind of layer."""

import json
import sys
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest

import nnkern as nk
from nnkern import layers, losses, predictor
from nnkern.convert import c, forms, onnx_out, sklearn, torch
from nnkern.convert.options import ExportOptions
from nnkern.model import Model

NOT_IN_TORCH = {"exp"}


@pytest.mark.parametrize("name", nk.kernels.ACTIVATIONS)
def test_every_activation_has_a_form_in_every_format(name):
    assert name in forms.FORMS, f"forms.py has no row for {name}"
    form = forms.FORMS[name]
    for field in fields(form):
        present = getattr(form, field.name) is not None
        assert present or field.name == "sklearn" or (field.name == "torch" and name in NOT_IN_TORCH), field.name


def test_tensors_of_torch_stand_where_state_dicts_count_them():
    leaky = nk.Dense(3, "leaky_relu", negative_slope=0.3)
    dense = [nk.Dense(3, "relu", dropout=0.5), nk.Dense(3), leaky, nk.Dense(1, use_bias=False)]
    make = torch.LAYERS["dense"][0]
    modules = [module for layer in dense for module in make(layer, 3)]
    names = [name for name, _ in modules]
    assert names == ["Linear", "ReLU", "Dropout", "Linear", "Linear", "LeakyReLU", "Linear"]
    assert modules[2][1] == {"p": 0.5}
    assert modules[5][1] == {"negative_slope": 0.3}
    assert modules[6][1] == {"in_features": 3, "out_features": 1, "bias": False}
    places = torch.tensor_names(dense)
    assert list(places) == ["W1", "b1", "W2", "b2", "W3", "b3", "W4"]
    assert [places[f"W{l}"] for l in (1, 2, 3, 4)] == ["0.weight", "3.weight", "4.weight", "6.weight"]
    assert places["b1"] == "0.bias"


NET = nk.Network([nk.Dense(2, "softmax")], "cross_entropy", n_x=3, seed=0)
REGRESSION = nk.Network([nk.Dense(2)], "squared_error", n_x=3, seed=0)
SEVERAL = nk.Network([nk.Dense(2, "sigmoid")], "binary_cross_entropy", n_x=3, seed=0)


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (NET, {"mean": [1, 2]}, r"mean must have shape \(3,\)"),
        (NET, {"mean": [1, 2, np.nan]}, "mean holds nan"),
        (NET, {"scale": [1, 2, 0]}, "scale must be > 0"),
        (NET, {"labels": ["a"]}, "1 labels were given; the network tells 2 classes apart"),
        (NET, {"labels": ["a", 1]}, "all texts or all integers"),
        (NET, {"labels": [1, 2**63]}, "64 bits"),
        (NET, {"labels": [0.5, 1.5]}, "all texts or all integers"),
        (NET, {"labels": ["a", "b"], "target_mean": [0, 0]}, "don't go together"),
        (REGRESSION, {"labels": ["a", "b"]}, "sigmoid or softmax outputs"),
        (REGRESSION, {"target_scale": [1]}, r"target_scale must have shape \(2,\)"),
        (SEVERAL, {"labels": ["a", "b"]}, "several sigmoid outputs"),
    ],
)
def test_options_that_does_not_fit(net, options, message):
    with pytest.raises(ValueError, match=message):
        ExportOptions(net, **options)


def test_options_of_other_names_are_told_those_that_there_are(tmp_path):
    message = "^options of an export are mean, scale, target_mean, target_scale and labels; got std$"
    net = nk.Network([nk.Dense(2, "softmax")], "cross_entropy", n_x=3, seed=0)
    with pytest.raises(TypeError, match=message):
        net.to_c(std=np.ones(3))
    with pytest.raises(TypeError, match=message):
        net.to_c(weights="int8", calibration=np.ones((3, 9)), std=np.ones(3))
    pytest.importorskip("onnx")
    with pytest.raises(TypeError, match=message):
        net.to_onnx(tmp_path / "net.onnx", std=np.ones(3))
    assert not (tmp_path / "net.onnx").exists()


def test_options_take_numpy_labels():
    assert ExportOptions(NET, labels=np.array([3, 5])).labels == [3, 5]
    assert ExportOptions(NET, labels=np.array(["x", "y"])).labels == ["x", "y"]


# ---- kinds of layers ----


@pytest.mark.parametrize("format", [c, onnx_out, sklearn, torch], ids=lambda format: format.__name__)
def test_every_kind_of_layer_has_an_entry_in_every_format(format):
    assert set(format.LAYERS) == set(layers.KINDS)


def scaled(*after, dtype="float32"):
    """A Model whose first layer is a Scale of three factors, and its parameters."""
    rng = np.random.default_rng(0)
    kinds, sizes, parameters = (layers.Scale(), *after), 3, {}
    for l, layer in enumerate(kinds, start=1):
        shapes = layer.parameter_shapes(sizes)
        parameters |= {f"{name}{l}": rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
        sizes = layer.outputs(sizes)
    return Model(kinds, losses.get("squared_error"), 3, parameters, np.dtype(dtype))


def test_the_sizes_of_a_model_with_factors():
    model = scaled(nk.Dense(4), layers.Scale(), nk.Dense(2), layers.Scale())
    assert model.sizes == [3, 3, 4, 4, 2, 2]
    assert model.n_y == 2
    assert {name: array.shape for name, array in model.parameters.items()} == {
        "s1": (3, 1), "W2": (4, 3), "b2": (4, 1), "s3": (4, 1), "W4": (2, 4), "b4": (2, 1), "s5": (2, 1),
    }  # fmt: skip


def test_what_has_no_factors_says_which_layer():
    model = scaled(nk.Dense(2))
    with pytest.raises(ValueError, match=r"layer 1, scale, isn't packed: .* leave weights and compute away"):
        predictor.compile(model, weights="int8")
    with pytest.raises(ValueError, match="torch has no module for the factors of layer 1"):
        torch.write(model)
    with pytest.raises(ValueError, match="torch has no module for the activation exp of layer 2"):
        nk.Network([nk.Dense(2), nk.Dense(2, "exp")], "squared_error", n_x=3).to_torch()
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match=r"scikit-learn's MLPs have dense layers only; layer 1 is of the kind scale"):
        sklearn.write(model)


def test_factors_have_a_name_among_the_tensors_of_torch():
    names = torch.tensor_names(scaled(nk.Dense(4, "relu"), layers.Scale()).layers)
    assert names == {"s1": "0.scale", "W2": "1.weight", "b2": "1.bias", "s3": "3.scale"}


@pytest.mark.parametrize("config", [{"trainable": False}, {}])
def test_layers_to_and_from_dictionaries(config):
    for layer in (layers.Scale(**config), nk.Dense(3, "leaky_relu", negative_slope=0.3, **config)):
        assert layers.from_dict(json.loads(json.dumps(layer.to_dict()))) == layer
    with pytest.raises(ValueError, match="must be one of dense, scale, encode; got 'conv'"):
        layers.from_dict({"kind": "conv"})


# ---- torch's modules, as far as reading them needs torch ----


class Tensor(np.ndarray):
    """An array that is asked as torch's tensors are."""

    detach = cpu = lambda self: self
    is_floating_point = lambda self: self.dtype.kind == "f"  # noqa: E731
    element_size = lambda self: self.itemsize  # noqa: E731
    numpy = lambda self: np.array(self)  # noqa: E731


class Module:
    def __init__(self, *children, **attributes):
        self.children = children
        vars(self).update(attributes)

    def named_children(self):
        return [(str(position), child) for position, child in enumerate(self.children)]

    def __repr__(self):
        return f"{type(self).__name__}()"


CLASSES = ("Sequential", "Linear", "Dropout", "BatchNorm1d", "Flatten", "Softplus", "Softmax", "LeakyReLU", "GLU")
NN = SimpleNamespace(**{name: type(name, (Module,), {}) for name in CLASSES})


def tensor(*shape, dtype="f4"):
    return np.random.default_rng(0).random(shape).astype(dtype).view(Tensor)


def linear(n=3, n_prev=3, **options):
    return NN.Linear(weight=tensor(n, n_prev, **options), bias=tensor(n, **options))


def norm(track_running_stats=True):
    array = tensor(3)
    return NN.BatchNorm1d(
        weight=array,
        bias=array,
        running_mean=array,
        running_var=array,
        eps=0.1,
        track_running_stats=track_running_stats,
    )


@pytest.fixture
def nn(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(nn=NN))
    return NN


def test_a_sequential_is_read(nn):
    leaky, soft = NN.LeakyReLU(negative_slope=0.3), NN.Softplus(beta=1.0, threshold=20.0)
    block = NN.Sequential(linear(), norm(), NN.Dropout(p=0.25), leaky)
    sequence = NN.Sequential(
        NN.Flatten(start_dim=1, end_dim=-1), block, linear(2), soft, linear(1, 2), NN.Softmax(dim=1)
    )
    model = torch.read(sequence)
    kinds = [
        nk.Dense(3, "leaky_relu", negative_slope=0.3, dropout=0.25),
        nk.Dense(2, "softplus"),
        nk.Dense(1, "softmax"),
    ]
    assert list(model.layers) == kinds
    W, b, factor = tensor(3, 3), tensor(3), tensor(3) / np.sqrt(tensor(3) + 0.1)
    np.testing.assert_allclose(model.parameters["W1"], factor[:, None] * W, rtol=1e-6)
    np.testing.assert_allclose(model.parameters["b1"][:, 0], b, rtol=1e-6)
    assert np.array_equal(model.parameters["W2"], tensor(2, 3))


def test_modules_that_are_no_chain_are_named(nn):
    for modules, message in [
        ([linear(), NN.GLU()], r"module 1 \(GLU\) can't be taken: GLU\(\)"),
        ([linear(), NN.Softplus(beta=1.0, threshold=19.0)], r"module 1 \(Softplus\)"),
        ([linear(), NN.Softplus(beta=2.0, threshold=40.0)], r"module 1 \(Softplus\)"),
        ([linear(), NN.Softmax(dim=0)], r"module 1 \(Softmax\)"),
        ([linear(), NN.Sequential(norm(False))], r"module 1.0 \(BatchNorm1d\)"),
        ([linear(), NN.Flatten(start_dim=0, end_dim=-1)], r"module 1 \(Flatten\)"),
        ([linear(dtype="f2")], r"module 0 \(Linear\): the parameters are float16; they must be float32 or float64"),
        ([linear(dtype="i4")], r"module 0 \(Linear\): the parameters are int32"),
    ]:
        with pytest.raises(nk.ModelFormatError, match=message):
            torch.read(NN.Sequential(*modules))
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Sequential; got Linear"):
        torch.read(linear())
    without_bias = NN.Sequential(NN.Linear(weight=tensor(2, 3), bias=None))
    assert torch.read(without_bias).layers == (nk.Dense(2, use_bias=False),)
