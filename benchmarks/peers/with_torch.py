"""torch, eager: modules, the fused SGD, inference mode; batches are views made before the clock starts."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import numpy as np
import torch
from cases import TableCase
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


class Table(nn.Module):
    """A network for tables: one batched product for all numbers, one table of vectors for all categories."""

    def __init__(self, case: TableCase):
        super().__init__()
        self.case = case
        *hidden, self.last = range(case.before + 1, case.before + len(case.n))
        self.hidden = hidden
        for name, shape in case.shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        # The map and its bias are parameters of their own: no slices in the step.
        features = case.shapes["M1"]
        self.M1 = nn.Parameter(torch.empty(features[0], case.frequencies, features[2]))
        self.c1 = nn.Parameter(torch.empty(features[0], 1, features[2]))

    def inputs(self, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers (numbers, m, 1), and the rows of the table that the codes are."""
        first = self.case.codes * torch.arange(self.case.categories)
        numbers, codes = X.split([self.case.numbers, self.case.categories], dim=1)
        return numbers.T[:, :, None].contiguous(), codes.long() + first

    def forward(self, X: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        numbers, codes = X
        phases = torch.addcmul(self.b1[:, None], numbers, 2 * math.pi * self.w1[:, None])
        features = torch.cat([numbers, torch.baddbmm(self.c1, phases.cos(), self.M1)], dim=2)
        parts = [features.transpose(0, 1).flatten(1), F.embedding(codes, self.E1).flatten(1)]
        A = torch.cat(parts, dim=1) * self.s2
        for layer in self.hidden:
            W, b, a = (getattr(self, f"{name}{layer}") for name in "Wba")
            Z = F.linear(A, W, b)
            A = torch.lerp(Z, F.selu(Z), a)
        return F.linear(A, getattr(self, f"W{self.last}"), getattr(self, f"b{self.last}"))

    def load(self, parameters: dict[str, np.ndarray]) -> None:
        given = {name: torch.from_numpy(parameters[name]).reshape(shape) for name, shape in self.case.shapes.items()}
        given["M1"], given["c1"] = given["M1"].split([self.case.frequencies, 1], dim=1)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(given[name])

    def arrays(self) -> dict[str, torch.Tensor]:
        """The parameters as load takes them."""
        held = {name: parameter.detach() for name, parameter in self.named_parameters()}
        held["M1"] = torch.cat([held["M1"], held.pop("c1")], dim=1)
        return {name: array if name[0] == "W" else array.reshape(-1, 1) for name, array in held.items()}


class Side:
    library = "torch"
    tables = True

    def __init__(self):
        self.mode = contextlib.ExitStack()
        self.optimizer = None

    def wrapped(self, function: Callable) -> Callable:
        """The function that is run instead: other sides compile it, or round what it multiplies."""
        return function

    def kind(self, dtype: str) -> torch.dtype:
        """Of parameters and inputs; another side's are narrower than the case's."""
        return getattr(torch, dtype)

    def inputs(self, X: np.ndarray, dtype: str) -> torch.Tensor:
        """X (n_x, m) with examples in rows."""
        return torch.from_numpy(np.ascontiguousarray(X.T, dtype)).to(self.kind(dtype))

    def describe(self) -> dict:
        kernels = {
            "simd": torch.backends.cpu.get_cpu_capability(),
            "mkl": torch.backends.mkl.is_available(),
            "onednn": torch.backends.mkldnn.is_available(),
        }
        return {"version": torch.__version__, "kernels": kernels, "threads": torch.get_num_threads()}

    def network(self, case, dtype, threads, output: tuple = ()) -> nn.Sequential | Table:
        """Up to Z of the last layer; its activation is part of the loss, or given as `output`."""
        torch.set_num_threads(threads)
        if isinstance(case, TableCase):
            return Table(case).to(self.kind(dtype))
        layers = []
        for n_prev, n in zip(case.n, case.n[1:], strict=False):
            layers += [nn.Linear(n_prev, n), ACTIVATIONS[case.activation]()]
        return nn.Sequential(*layers[:-1], *output).to(self.kind(dtype))

    def linear_layers(self) -> list[nn.Linear]:
        return [module for module in self.net if isinstance(module, nn.Linear)]

    def prepare_training(self, case, dtype, threads, X, labels):
        self.mode.close()
        self.case, self.dtype = case, getattr(torch, dtype)
        self.net = self.network(case, dtype, threads)
        self.X = self.inputs(X, dtype)
        if case.output == "sigmoid":
            loss = nn.BCEWithLogitsLoss()
            self.Y = torch.from_numpy(labels[:, None].astype(dtype)).to(self.X.dtype)
        else:
            loss = nn.CrossEntropyLoss()
            self.Y = torch.from_numpy(labels.astype(np.int64))
        self.loss = self.wrapped(lambda X, Y: loss(self.net(X), Y))
        kind = OPTIMIZERS[case.optimizer]
        self.optimizer = kind(self.net.parameters(), lr=case.learning_rate, fused=True)
        parts = self.X.split(case.batch)
        if isinstance(self.net, Table):
            parts = tuple(map(self.net.inputs, parts))
        self.batches = list(zip(parts, self.Y.split(case.batch), strict=True))
        sizes = [len(Y) for _, Y in self.batches]
        self.shares = torch.tensor(sizes, dtype=self.dtype) / case.examples

    def epoch(self):
        if not self.case.shuffle:
            return self.batches
        order = torch.randperm(self.case.examples).split(self.case.batch)
        return ((self.X.index_select(0, part), self.Y.index_select(0, part)) for part in order)

    def load(self, parameters):
        if self.optimizer is not None:
            self.optimizer.state.clear()
        if isinstance(self.net, Table):
            return self.net.load(parameters)
        with torch.no_grad():
            for k, layer in enumerate(self.linear_layers(), 1):
                layer.weight.copy_(torch.from_numpy(parameters[f"W{k}"]))
                layer.bias.copy_(torch.from_numpy(parameters[f"b{k}"][:, 0]))

    def train(self, epochs):
        costs = []
        for _ in range(epochs):
            losses = []
            for X, Y in self.epoch():
                self.optimizer.zero_grad(set_to_none=True)
                loss = self.loss(X, Y)
                loss.backward()
                self.optimizer.step()
                losses.append(loss.detach())
            costs.append(torch.dot(torch.stack(losses).to(self.dtype), self.shares).item())
        return costs

    def parameters(self):
        if isinstance(self.net, Table):
            return {name: array.to(self.dtype).numpy().copy() for name, array in self.net.arrays().items()}
        given = {}
        for k, layer in enumerate(self.linear_layers(), 1):
            given[f"W{k}"] = layer.weight.detach().to(self.dtype).numpy()
            given[f"b{k}"] = layer.bias.detach().to(self.dtype).numpy()[:, None]
        return given

    def predictor(self, case, dtype, threads, parameters, X):
        # A service enters inference mode once, not for each call.
        self.mode.close()
        self.mode.enter_context(torch.inference_mode())
        self.net = self.network(case, dtype, threads, output=(nn.Softmax(dim=1),)).eval()
        self.load(parameters)
        X = self.inputs(X, dtype)
        net = self.wrapped(self.net)
        return lambda: net(X), lambda: net(X).to(getattr(torch, dtype)).numpy().T.copy()
