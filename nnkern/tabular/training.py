"""Provisional."""

import numpy as np

import nnkern as nk


class Trained:
    def __init__(self, networks, weights, report):
        self.networks, self.weights, self.report = networks, weights, report


def default_metric(task):
    return "rmse" if task == "regression" else "log_loss"


def train(
    X,
    y,
    rows,
    task,
    *,
    recipes,
    metric,
    held_out,
    sample_weight=None,
    n_estimators=None,
    time_limit=None,
    seed=0,
    threads=None,
    progress=False,
):
    k = int(y.max()) + 1 if task == "multiclass" else 2
    enc = []
    for i, r in enumerate(rows):
        if r.kind == "number":
            e = np.unique(np.quantile(X[i], np.linspace(0, 1, 17)).astype(np.float32))
            enc.append(nk.PiecewiseLinear(i, e) if len(e) > 1 else nk.Numeric(i))
        elif r.kind == "flag":
            enc.append(nk.Numeric(i))
        else:
            enc.append(nk.OneHot(i, r.size, unknown=True))
    m = X.shape[1]
    if isinstance(held_out, float):
        order = np.random.default_rng(seed).permutation(m)
        n = min(max(1, int(held_out * m)), m - 1) if m > 1 else 0
        va, tr = order[:n], order[n:]
        if n == 0:
            va = tr
        held = (X[:, va], y[va], None)
        X, y = X[:, tr], y[tr]
        sample_weight = None if sample_weight is None else sample_weight[tr]
    else:
        held = held_out
    last, loss = {
        "binary": (nk.Dense(1, "sigmoid"), "binary_cross_entropy"),
        "multiclass": (nk.Dense(k, "softmax"), "cross_entropy"),
        "regression": (nk.Dense(1), "squared_error"),
    }[task]
    nets = [
        nk.Network([nk.Encode(enc), nk.Dense(64, "silu"), nk.Dense(64, "silu"), last], loss, seed=seed + i)
        for i in range(n_estimators or 1)
    ]
    f = lambda y: y[None, :] if task == "regression" else y
    for net in nets:
        net.fit(
            X,
            f(y),
            epochs=recipes[0].epochs,
            batch_size=64,
            optimizer=nk.AdamW(2e-3),
            sample_weight=sample_weight,
            validation_data=(held[0], f(held[1])),
            callbacks=[nk.EarlyStopping(patience=None)],
            threads=threads,
        )
    return Trained(nets, np.full(len(nets), 1 / len(nets)), [])
