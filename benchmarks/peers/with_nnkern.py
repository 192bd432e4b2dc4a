"""nnkern: `fit` as a user calls it; `predict` with `out=` on an array that fits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from cases import TableCase

import nnkern as nk
from nnkern import _kernels

OPTIMIZERS = {"sgd": nk.SGD, "adam": nk.Adam}


def before_dense(case: TableCase) -> list[nk.Layer]:
    """The encoders and the factors."""
    layers: list[nk.Layer] = []
    if case.encode:
        encoders = []
        for row in range(case.numbers):
            periodic = nk.Periodic(row, case.frequencies, case.units)
            encoders += [periodic] if case.periodic else [nk.Numeric(row)] * case.units
        for row in range(case.numbers, case.n_x):
            kinds = {
                "vectors": [nk.Embedding(row, case.codes, case.embedding)],
                "one-hot": [nk.OneHot(row, case.codes)],
                "numbers": [nk.Numeric(row)] * case.embedding,
            }
            encoders += kinds[case.codes_as]
        layers.append(nk.Encode(encoders))
    return layers + [nk.Scale()] * case.scale


class Side:
    library = "nnkern"
    tables = True
    compute = None  # what products are computed in, where that isn't the dtype
    weights = None  # the same of what a frozen predictor keeps its weights in

    def describe(self) -> dict:
        config = nk.show_config().to_dict()
        threads, version = config.pop("threads"), config.pop("version")
        return {"version": version, "kernels": config, "threads": threads}

    def network(self, case, dtype, threads):
        nk.set_num_threads(threads)
        layers = [nk.Dense(n, name) for n, name in zip(case.n[1:], case.activations, strict=True)]
        loss = "binary_cross_entropy" if case.output == "sigmoid" else "cross_entropy"
        n_x = case.n[0]
        if isinstance(case, TableCase):
            layers = [*before_dense(case), *(replace(layer, mix=case.mix) for layer in layers[:-1]), layers[-1]]
            n_x = case.n_x
        return nk.Network(layers, loss, n_x=n_x, dtype=dtype, compute=self.compute, seed=0)

    def prepare_training(self, case, dtype, threads, X, labels):
        self.net = self.network(case, dtype, threads)
        X = np.asarray(X, dtype, order="F")
        self.fit = partial(
            self.net.fit,
            X,
            labels,
            batch_size=None if case.full_batch else case.batch,
            shuffle=case.shuffle,
            optimizer=OPTIMIZERS[case.optimizer](case.learning_rate),
        )

    def load(self, parameters):
        self.net.set_parameters(parameters)

    def train(self, epochs):
        return self.fit(epochs=epochs)["cost"]

    def parameters(self):
        return dict(self.net.parameters)

    def frozen(self, case) -> bool:
        return case.frozen

    def predictor(self, case, dtype, threads, parameters, X):
        net = self.network(case, dtype, threads)
        net.set_parameters(parameters)
        X = np.asarray(X, dtype, order="F")
        A = np.empty((case.n[-1], X.shape[1]), dtype, order="F")
        if self.frozen(case):
            predict = partial(net.compile_predict(weights=self.weights).predict, X, A)
        else:
            predict = partial(net.predict, X, out=A)
        return predict, lambda: predict().copy()

    limit = "multiply-adds in registers"

    def measure_limit(self, dtype, threads) -> float:
        """Flops per second of that many threads at once."""
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(_kernels.fma_rate, [dtype] * threads))
