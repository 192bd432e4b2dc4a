"""The table of activations in other formats is whole: every activation of the library has its form in each of them."""

from dataclasses import fields

import numpy as np
import pytest

import nnkern as nk
from nnkern.convert import forms, torch
from nnkern.convert.options import ExportOptions

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


def test_options_take_numpy_labels():
    assert ExportOptions(NET, labels=np.array([3, 5])).labels == [3, 5]
    assert ExportOptions(NET, labels=np.array(["x", "y"])).labels == ["x", "y"]
