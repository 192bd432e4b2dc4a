"""torch: networks become Sequentials and back with the same parameters, and compute the same; others are named."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference

import nnkern as nk
from nnkern.convert import forms

torch = pytest.importorskip("torch")
nn = torch.nn

IN_TORCH = [name for name in nk.kernels.ACTIVATIONS if forms.FORMS[name].torch is not None]


def outputs(model, X):
    """A (n_y, m) of examples in columns."""
    with torch.no_grad():
        return model(torch.from_numpy(np.ascontiguousarray(X.T))).numpy().T


@pytest.mark.parametrize("activation", IN_TORCH)
def test_round_trip_of_every_activation(compare, activation, dtype):
    layers = [nk.Dense(9, activation, negative_slope=0.3, dropout=0.25), nk.Dense(4, activation, use_bias=False)]
    net = nk.Network(layers, "squared_error", n_x=5, dtype=dtype, seed=0)
    rng = np.random.default_rng(1)
    net.parameters["b1"][...] = rng.standard_normal((9, 1))
    model = net.to_torch()
    assert not model.training
    X = (3 * rng.standard_normal((5, 40))).astype(dtype)
    if activation == "leaky_relu":
        assert model[1].negative_slope == 0.3
        model[4].negative_slope = 0.3  # the oracle takes one slope for all layers
    expected, bound = reference.network_bound(X, net.parameters, [activation] * 2, dtype, 0.3)
    A = outputs(model, X)
    assert A.dtype == dtype
    compare(A, expected, bound)
    back = nk.from_torch(net.to_torch(), loss="squared_error")
    for own, other in zip(net.layers, back.layers, strict=True):
        if activation != "leaky_relu":
            other = nk.Dense(**{**other.to_dict(), "negative_slope": own.negative_slope})
        assert own.to_dict() == other.to_dict()
    assert back.dtype == dtype
    assert set(back.parameters) == set(net.parameters)
    for name, array in net.parameters.items():
        assert np.array_equal(back.parameters[name], array)


def test_an_activation_that_torch_lacks_is_named():
    if "exp" not in nk.kernels.ACTIVATIONS:
        pytest.skip("no activation that torch lacks")
    with pytest.raises(ValueError, match="activation exp of layer 2"):
        nk.Network([nk.Dense(2), nk.Dense(2, "exp")], "squared_error", n_x=3).to_torch()


def test_parameters_are_copies():
    net = nk.Network([nk.Dense(2), nk.Dense(1)], "squared_error", n_x=3, seed=0)
    model = net.to_torch()
    before = net.parameters["W1"].copy()
    with torch.no_grad():
        model[0].weight.zero_()
    assert np.array_equal(net.parameters["W1"], before)
    back = nk.from_torch(model)
    back.parameters["b1"][...] = 7
    assert (model[0].bias == 0).all()


def test_models_as_users_write_them():
    """Nested, flattened, normalised, with dropout; float64."""
    torch.manual_seed(0)
    block = nn.Sequential(
        nn.Linear(5, 5, bias=False), nn.BatchNorm1d(5), nn.LeakyReLU(0.2, inplace=True), nn.Dropout(0.1)
    )
    plain = nn.Sequential(nn.BatchNorm1d(5, affine=False), nn.Linear(5, 4), nn.Identity(), nn.Softmax(dim=-1))
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), block, plain).double()
    for norm in (block[1], plain[0]):
        torch.nn.init.normal_(norm.running_mean)
        norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(block[1].weight)
    torch.nn.init.normal_(block[1].bias)
    model.eval()
    net = nk.from_torch(model)
    assert net.loss == "cross_entropy"
    assert [layer.activation for layer in net.layers] == ["tanh", "leaky_relu", "softmax"]
    assert [layer.dropout for layer in net.layers] == [0, 0.1, 0]
    X = torch.randn(20, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        expected = model(X).numpy().T
    # ten operations a layer on numbers of order 1, at 1e-16 each
    np.testing.assert_allclose(net.predict(X.reshape(20, 6).numpy().T), expected, atol=1e-14)
    history = net.fit(np.ones((6, 8)), np.arange(8) % 4, epochs=2)
    assert np.isfinite(history["cost"]).all()


def test_losses():
    logits = nn.Sequential(nn.Linear(3, 4))
    assert nk.from_torch(logits).loss == "squared_error"
    net = nk.from_torch(logits, loss="cross_entropy")
    assert net.layers[-1].activation == "softmax"
    X = np.random.default_rng(0).standard_normal((3, 5)).astype("f4")
    expected = torch.softmax(torch.from_numpy(outputs(logits, X).copy()), 0).numpy()
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-5)
    assert nk.from_torch(nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())).loss == "binary_cross_entropy"
    with pytest.raises(ValueError, match="needs sigmoid units"):
        nk.from_torch(nn.Sequential(nn.Linear(3, 1), nn.Tanh()), loss="binary_cross_entropy")


class OwnLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def linear():
    return nn.Linear(3, 3)


REFUSED = {
    "convolution": (lambda: [nn.Conv1d(3, 3, 1)], r"module 0 \(Conv1d\)"),
    "a class of their own": (lambda: [linear(), nn.ReLU(), OwnLinear(3, 2)], r"module 2 \(OwnLinear\)"),
    "in a nested one": (lambda: [linear(), nn.Sequential(nn.ReLU(), nn.GLU())], r"module 1.1 \(GLU\)"),
    "parametrised": (lambda: [nn.utils.parametrizations.weight_norm(linear())], r"module 0 \(ParametrizedLinear\)"),
    "another alpha": (lambda: [linear(), nn.ELU(0.5)], r"module 1 \(ELU\)"),
    "softplus of another beta": (lambda: [linear(), nn.Softplus(beta=2)], r"module 1 \(Softplus\)"),
    "softplus cut early": (lambda: [linear(), nn.Softplus(threshold=3)], r"module 1 \(Softplus\)"),
    "softmax over the batch": (lambda: [linear(), nn.Softmax(dim=0)], r"module 1 \(Softmax\)"),
    "softmax without axis": (lambda: [linear(), nn.Softmax()], r"module 1 \(Softmax\)"),
    "log softmax": (lambda: [linear(), nn.LogSoftmax(1)], r"module 1 \(LogSoftmax\)"),
    "activation first": (lambda: [nn.ReLU(), linear()], r"module 0 \(ReLU\)"),
    "two activations": (lambda: [linear(), nn.ReLU(), nn.Tanh()], r"module 2 \(Tanh\)"),
    "dropout before tanh": (lambda: [linear(), nn.Dropout(0.5), nn.Tanh(), linear()], r"module 2 \(Tanh\)"),
    "dropout first": (lambda: [nn.Dropout(0.5), linear()], r"module 0 \(Dropout\)"),
    "without statistics": (
        lambda: [linear(), nn.BatchNorm1d(3, track_running_stats=False)],
        r"module 1 \(BatchNorm1d\)",
    ),
    "half": (lambda: [linear().half()], r"module 0 .*float16"),
    "two dtypes": (lambda: [linear(), linear().double()], r"module 1 .*float32 and float64"),
    "shapes that don't chain": (lambda: [linear(), nn.Linear(4, 2)], r"module 1 .*takes 4 numbers, but gets 3"),
    "no dense layer": (list, "no dense layer"),
    "normalised at the end": (lambda: [linear(), nn.ReLU(), nn.BatchNorm1d(3)], r"module 2 \(BatchNorm1d\)"),
    "flattened later": (lambda: [linear(), nn.Flatten(0)], r"module 1 \(Flatten\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_named(name):
    modules, message = REFUSED[name]
    with pytest.raises(nk.ModelFormatError, match=message):
        nk.from_torch(nn.Sequential(*modules()))


def test_other_modules_are_refused():
    with pytest.raises(TypeError, match="Sequential; got Linear"):
        nk.from_torch(linear())


def test_dropout_before_relu_is_the_same_after_it():
    net = nk.from_torch(nn.Sequential(linear(), nn.Dropout(0.5), nn.ReLU(), linear()))
    assert net.layers[0].dropout == 0.5


def test_state_dicts_and_safetensors_have_the_same_names(tmp_path, dtype):
    """A file of nnkern's loads into torch by the names of torch."""
    pytest.importorskip("safetensors")
    from safetensors.torch import load_file

    layers = [nk.Dense(5, "relu", dropout=0.5), nk.Dense(4), nk.Dense(3, "softmax", use_bias=False)]
    net = nk.Network(layers, "cross_entropy", n_x=6, dtype=dtype, seed=0)
    net.save(tmp_path / "net.safetensors")
    tensors = load_file(tmp_path / "net.safetensors")
    state = net.to_torch().state_dict()
    assert set(tensors) == set(state) == {"0.weight", "0.bias", "3.weight", "3.bias", "4.weight"}
    assert tensors["0.weight"].shape == (5, 6)
    for name, tensor in state.items():
        assert torch.equal(tensor, tensors[name])
    other = nk.Network(layers, "cross_entropy", n_x=6, dtype=dtype, seed=1).to_torch()
    other.load_state_dict(tensors)
    assert nk.from_torch(other).parameters["W1"].tobytes() == net.parameters["W1"].tobytes()


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install 'torch'"):
        nk.from_torch(None)
    with pytest.raises(ImportError, match="pip install 'torch'"):
        nk.Network([nk.Dense(2)], "squared_error", n_x=3).to_torch()


# ---- ranks of a process group ----

GROUP = """
import sys
import numpy as np
import nnkern as nk

{adapter}

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{{folder}}/meeting", rank=rank, world_size=2)
rng = np.random.default_rng(rank)
X = rng.standard_normal((4, 30 + rank), dtype=np.float32)
net = nk.Network([nk.Dense(5, "tanh"), nk.Dense(1)], "squared_error", seed=rank)
history = net.fit(X, X.sum(axis=0, keepdims=True), epochs=4, batch_size=16, comm=TorchRanks())
assert history["cost"][-1] < history["cost"][0]
net.save(f"{{folder}}/{{rank}}.npz")
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="a torch without torch.distributed")
def test_the_ranks_of_a_process_group_train_together(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text(encoding="utf-8")
    adapter = re.search(r"```python\n(import torch\n.*?)```", page, re.DOTALL)[1]
    command = [sys.executable, "-P", "-c", GROUP.format(adapter=adapter)]
    ranks = [subprocess.Popen([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE) for rank in range(2)]
    for process in ranks:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    first, second = (nk.load(tmp_path / f"{rank}.npz") for rank in range(2))
    assert all(array.tobytes() == second.parameters[name].tobytes() for name, array in first.parameters.items())
