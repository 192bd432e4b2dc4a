"""A network as RealMLP's recipe for tables has it, trained beside torch in torch's own parametrisation.

Source of the recipe: Holzmüller, Grinsztajn and Steinwart, Better by default, 2024.
"""

import numpy as np
import pytest

import nnkern as nk

torch = pytest.importorskip("torch", reason="torch is an optional second opinion")

NUMBERS, CODES, M, STEPS = 4, (5, 12), 64, 10
RATE, DECAY, SMOOTHING = 0.04, 0.02, 0.1


def network(activation, n_y, loss):
    encoders = [nk.Periodic(i, 16, 4) for i in range(NUMBERS)]
    encoders += [nk.OneHot(NUMBERS, CODES[0], unknown=True), nk.Embedding(NUMBERS + 1, CODES[1], 8)]
    hidden = [
        nk.Dense(32, activation, ntk=True, bias_rate=0.1, mix=True, mix_rate=0.1, bias_init="examples")
        for _ in range(3)
    ]
    output = nk.Dense(n_y, "softmax" if n_y > 1 else "linear", ntk=True, bias_rate=0.1)
    layers = [nk.Encode(encoders, rate=0.1), nk.Scale(rate=6), *hidden, output]
    return nk.Network(layers, loss, dtype="float64", seed=0)


def table(n_y):
    rng = np.random.default_rng(0)
    X = np.concatenate(
        [rng.normal(size=(NUMBERS, M)), rng.integers(0, CODES[0] + 1, (1, M)), rng.integers(0, CODES[1], (1, M))]
    )
    return X, rng.integers(0, n_y, M) if n_y > 1 else rng.normal(size=(1, M))


def coslog4(t):
    return (1 - np.cos(2 * np.pi * np.log2(1 + 15 * t))) / 2


def flat_cos(t):
    return 1.0 if t < 0.5 else (1 + np.cos(np.pi * (2 * t - 1))) / 2


class Torch:
    """The same network: weights are held times the root of their inputs; each kind of parameter is a group of Adam."""

    def __init__(self, net, activation):
        self.net, self.g = net, {"selu": torch.nn.functional.selu, "mish": torch.nn.functional.mish}[activation]
        self.p = {}
        for name, view in net.parameters.items():
            held = np.sqrt(view.shape[1]) if name[0] == "W" else 1
            self.p[name] = torch.tensor(view * held, requires_grad=True)
        factors = {"w1": 0.1, "b1": 0.1, "M1": 0.1, "s2": 6}
        groups = [
            {"params": [tensor], "factor": factors.get(name, 0.1 if name[0] in "ab" else 1), "name": name}
            for name, tensor in self.p.items()
        ]
        self.adam = torch.optim.Adam(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8)

    def parameters(self):
        return {
            name: tensor.detach().numpy() / (np.sqrt(tensor.shape[1]) if name[0] == "W" else 1)
            for name, tensor in self.p.items()
        }

    def forward(self, X):
        p, parts = self.p, []
        for i in range(NUMBERS):
            x, of = X[i], slice(16 * i, 16 * i + 16)
            M = p["M1"][51 * i : 51 * i + 51, 0].reshape(17, 3).T
            features = torch.cos(2 * torch.pi * p["w1"][of] * x + p["b1"][of])
            parts += [x[None], M[:, :16] @ features + M[:, 16:]]
        codes = X[NUMBERS + 1].long()
        parts.append(p["E1"][:, 0].reshape(CODES[1], 8).T[:, codes])
        parts.append((X[NUMBERS] == torch.arange(1, CODES[0] + 1)[:, None]).to(X.dtype))
        A = p["s2"] * torch.cat(parts)
        for l in (3, 4, 5, 6):
            W = p[f"W{l}"]
            Z = W @ A / np.sqrt(W.shape[1]) + p[f"b{l}"]
            A = Z if l == 6 else p[f"a{l}"] * self.g(Z) + (1 - p[f"a{l}"]) * Z
        return A

    def step(self, X, Y, t):
        Z = self.forward(torch.tensor(X))
        if Z.shape[0] > 1:
            cost = torch.nn.functional.cross_entropy(Z.T, torch.tensor(Y), label_smoothing=SMOOTHING)
        else:
            cost = ((Z - torch.tensor(Y)) ** 2).mean() / 2
        self.adam.zero_grad()
        cost.backward()
        rate = RATE * coslog4(t)
        with torch.no_grad():
            for group in self.adam.param_groups:
                group["lr"] = rate * group["factor"]
                if group["name"][0] == "W":
                    group["params"][0].mul_(1 - rate * DECAY * flat_cos(t))
        self.adam.step()
        return cost.item()


@pytest.mark.parametrize(("activation", "n_y"), [("selu", 3), ("mish", 1)])
def test_ten_steps_beside_torch(activation, n_y):
    loss = nk.losses.CrossEntropy(label_smoothing=SMOOTHING) if n_y > 1 else "squared_error"
    X, Y = table(n_y)
    net = network(activation, n_y, loss).initialize(len(X), X)
    beside = Torch(net, activation)
    optimizer = nk.AdamW(
        nk.schedules.ByStep(RATE, "coslog4"), beta2=0.95, weight_decay=nk.schedules.ByStep(DECAY, "flat_cos")
    )
    history = net.fit(X, Y, epochs=STEPS, batch_size=None, optimizer=optimizer)
    costs = [beside.step(X, Y, step / STEPS) for step in range(STEPS)]
    assert history["cost"] == pytest.approx(costs, rel=1e-10)
    for name, array in beside.parameters().items():
        scale = np.abs(array).max()
        assert np.abs(net.parameters[name] - array).max() <= 1e-10 * scale, name
