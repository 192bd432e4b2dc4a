"""torch, eager: modules, the fused SGD, inference mode; batches are views made before the clock starts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


class Side:
    library = "torch"

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

    def network(self, case, dtype, threads, output: tuple = ()) -> nn.Sequential:
        """Up to Z of the last layer; its activation is part of the loss, or given as `output`."""
        torch.set_num_threads(threads)
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
        self.batches = list(zip(self.X.split(case.batch), self.Y.split(case.batch), strict=True))
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
