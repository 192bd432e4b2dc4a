"""What the library computes, to the bit: several hundred small trainings, and a table of hashes of all they give.

    python tests/golden/trainings.py                 prints the hashes as JSON, for the instruction set of NNKERN_ISA
    python tests/golden/trainings.py --record NAME   writes table.json for all instruction sets of this processor; NAME
                                                     is the commit whose build is installed

`tests/test_golden_table.py` compares with table.json, so that a change that is meant to keep every bit shows that it
does. A change that is meant to give other bits records the table again, in a commit that says why.

The bits shall depend on no library: products are the tiles' (NNKERN_GEMM=tiles), data and initial weights are whole
numbers from numpy's frozen RandomState divided by powers of two. What is left is the compiler (whether it contracts
a * b + c), libm's pow and cos (Adam's corrections, schedules) and numpy's random streams (shuffling, dropout);
`conditions()` says which these were, and where they are others there is nothing to compare. A few products of a matrix
and a vector (one unit, one example) go to BLAS under NNKERN_GEMM=tiles too: recording finds these cases by running them
on BLAS's kernels for other processors, and the table names them; they are compared where BLAS is the one recorded.
The state of a training is read by the public API alone: parameters, histories, predictions, evaluations, saved files.
"""

import contextlib
import copy
import functools
import hashlib
import importlib.util
import io
import json
import math
import os
import pickle
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import types
import warnings
from pathlib import Path

import numpy as np

import nnkern as nk

TABLE = Path(__file__).with_name("table.json")
ISAS = ("baseline", "avx2", "avx512")
DTYPES = ("float32", "float64")
BLAS_CORES = ("Prescott", "Nehalem", "Haswell")  # of OpenBLAS, besides the one that it chooses itself
CASES = {}  # name -> function that gives {part: what is hashed of it}


# ---- data ----


def grid(seed, shape, low=-64, high=64, step=1 / 32):
    """Whole numbers from `low` to `high`, times a power of two."""
    return np.random.RandomState(seed).randint(low, high + 1, shape, np.int64) * step


def fine(seed, shape, dtype):
    """Numbers between -1 and 1 with so many bits that their products are rounded: the order of a sum then shows."""
    bits = {"float32": 23, "float64": 50}[np.dtype(dtype).name]
    return grid(seed, shape, -(2**bits), 2**bits, 2.0**-bits)


def targets(loss, n_y, m):
    name = loss if isinstance(loss, str) else getattr(loss, "name", "custom")
    if name == "cross_entropy":
        return np.random.RandomState(11).randint(0, n_y, m)
    if name == "binary_cross_entropy":
        return grid(12, (n_y, m), 0, 1, 1)
    if name == "poisson":
        return grid(13, (n_y, m), 0, 5, 1)
    return grid(14, (n_y, m))


def probabilities(n_y, m):
    """Columns of eighths that sum to 1."""
    Y = np.zeros((n_y, m))
    for seed in range(8):
        Y[np.random.RandomState(20 + seed).randint(0, n_y, m), np.arange(m)] += 1 / 8
    return Y


def polynomial(A, Y):
    """A loss in Python of sums and products alone: ½ d² + ¼ d⁴ / 16."""
    d = A - Y
    squares = d * d
    each = squares / 2 + squares * squares / 64
    return functools.reduce(np.add, each), d + squares * d / 16


def dense(units, activations, **options):
    """Layers from their units and activations; `options` of a layer by its number from 1, as l1={…}, or of all."""
    single = {int(name[1:]): given for name, given in options.items() if re.fullmatch(r"l\d", name)}
    shared = {name: given for name, given in options.items() if not re.fullmatch(r"l\d", name)}
    return [
        nk.Dense(n, g, **{**shared, **single.get(l, {})})
        for l, (n, g) in enumerate(zip(units, activations, strict=True), start=1)
    ]


def small(activation="tanh", **options):
    return dense((9, 7, 3), (activation, activation, "softmax"), **options)


def regression(activation="tanh", outputs=2, last="linear", **options):
    return dense((8, outputs), (activation, last), **options)


def network(layers, loss, n_x, dtype, **options):
    """A network whose initial parameters are `fine` numbers of a size that suits how many are added."""
    net = nk.Network(layers, loss, n_x=n_x, dtype=dtype, seed=5, **options)
    net.set_parameters(
        {
            name: fine(30 + k, view.shape, dtype) * 2.0 ** (1 - view.shape[1].bit_length() // 2)
            for k, (name, view) in enumerate(net.parameters.items())
        }
    )
    return net


# ---- what is hashed ----


def moments(net):
    """The optimizer's vectors, from a saved file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.npz")
        net.save(path, training_state=True)
        with np.load(path) as file:
            return [file[name] for name in sorted(file.files) if name.startswith(("s1.", "s2."))]


def of_network(net, X, Y, *, history=(), weights=None):
    """All that a trained network tells."""
    cost, score = net.evaluate(X, Y, sample_weight=weights)
    # R² with weights goes through numpy's BLAS
    evaluation = [cost] if weights is not None and not net.loss.endswith("cross_entropy") else [cost, score]
    history = [history] if isinstance(history, dict) else history
    return {
        "history": [np.array(h[key]) for h in history for key in sorted(h) if key not in ("seconds", "diverged")],
        "parameters": list(net.parameters.values()),
        "predictions": [net.predict(X)],
        "evaluation": [np.array(evaluation)],
        "state": moments(net),
    }


def digest(arrays):
    """8 hexadecimal digits of the bits, dtypes and shapes of arrays, whatever their order in memory."""
    hashed = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError("what isn't finite says little: choose other numbers for this case")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        hashed.update(f"{array.dtype.name}{array.shape}".encode() + little.tobytes())
    return hashed.hexdigest()[:8]


def record(case):
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {part: digest(arrays) for part, arrays in CASES[case]().items() if len(arrays)}


# ---- the ways to train ----


def fit(
    layers, loss, options, *, dtype, n_x=6, m=70, net=None, weighted=False, layout=None, Y=None, way="fit", again=1
):
    """A training by `way`, one of those below; `options` are what `fit` takes, or functions that make it."""
    net = network(layers(), loss, n_x, dtype, **(net or {}))
    X = 2 * fine(1, (n_x, m), "float32")
    X = np.asfortranarray(X.astype(dtype)) if layout is None else layout(X)
    Y = targets(loss, net.n_y, m) if Y is None else Y(net.n_y, m)
    w = grid(2, m, 1, 16, 1 / 8) if weighted else None
    options = {"epochs": 3, "batch_size": 32, **{k: v() if callable(v) else v for k, v in options.items()}}
    net, history = WAYS[way](net, X, Y, w, options, again)
    return of_network(net, X, Y, history=history, weights=w)


def _fit(net, X, Y, w, options, again):
    return net, [net.fit(X, Y, sample_weight=w, **options) for _ in range(again)]


def _resume(net, X, Y, w, options, again):
    return net, [net.fit(X, Y, sample_weight=w, **options), net.fit(X, Y, sample_weight=w, **options, resume=True)]


def _through(carry):
    def way(net, X, Y, w, options, again):
        first = net.fit(X, Y, sample_weight=w, **options)
        net = carry(net)
        options = {name: given for name, given in options.items() if name != "optimizer"}
        return net, [first, net.fit(X, Y, sample_weight=w, **options, resume=True)]

    return way


def _by_file(ending):
    def carry(net):
        with tempfile.TemporaryDirectory() as folder:
            net.save(os.path.join(folder, "net" + ending), training_state=True)
            return nk.load(os.path.join(folder, "net" + ending))

    return carry


def _batches_of(X, Y, w, size):
    for first in range(0, X.shape[1], size):
        part = slice(first, first + size)
        yield (X[:, part], Y[..., part]) if w is None else (X[:, part], Y[..., part], w[part])


def _stream(net, X, Y, w, options, again):
    size = options.pop("batch_size")

    class Batches:
        def __iter__(self):
            return _batches_of(X, Y, w, size)

    return net, [net.fit(Batches(), **options)]


def _partial(net, X, Y, w, options, again):
    costs = []
    for _ in range(options["epochs"]):
        for x, y, *v in _batches_of(X, Y, w, options["batch_size"]):
            costs.append(net.partial_fit(x, y, optimizer=options.get("optimizer"), sample_weight=v[0] if v else None))
    return net, {"cost": costs}


def _by_hand(net, X, Y, w, options, again):
    gradients = []
    for _ in range(options["epochs"]):
        for x, y, *v in _batches_of(X, Y, w, options["batch_size"]):
            A = net.forward(x, training=True)
            grads = net.backward(y, sample_weight=v[0] if v else None)
            gradients += [A, *grads.values()]
            net.step(grads, options.get("optimizer", nk.SGD()))
    return net, {"gradients": np.concatenate([a.ravel() for a in gradients])}


def _by_gradients(net, X, Y, w, options, again):
    costs, gradients, optimizer = [], [], options.get("optimizer", nk.SGD())
    for _ in range(options["epochs"]):
        for x, y, *v in _batches_of(X, Y, w, options["batch_size"]):
            cost, grads = net.gradients(x, y, v[0] if v else None)
            costs.append(cost)
            gradients += grads.values()
            net.step(grads, optimizer)
    return net, {"costs": costs, "gradients": np.concatenate([a.ravel() for a in gradients])}


def _mapped(net, X, Y, w, options, again):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "X")
        mapped = np.memmap(path, X.dtype, "w+", shape=X.shape, order="F")
        mapped[...] = X
        history = net.fit(mapped, Y, sample_weight=w, **options)
        del mapped
    return net, [history]


def _many(net, X, Y, w, options, again):
    nets = [net, *(copy.deepcopy(net) for _ in range(2))]
    histories = nk.fit_many(nets, X, Y, sample_weight=w, **options)
    each = [np.concatenate([view.ravel() for view in one.parameters.values()]) for one in nets]
    return net, [*histories, {"parameters": each}]


def _bagged(net, X, Y, w, options, again):
    """Three networks that are alike, each of which holds out another third and keeps its best epoch."""
    nets, folds = [net, *(copy.deepcopy(net) for _ in range(2))], np.arange(X.shape[1]) % 3
    parts = [(folds != k, folds == k) for k in range(3)]
    histories = nk.fit_many(
        nets,
        [X[:, rest] for rest, _ in parts],
        [Y[..., rest] for rest, _ in parts],
        validation_data=[(X[:, held], Y[..., held]) for _, held in parts],
        callbacks=nk.EarlyStopping(3),
        **options,
    )
    each = [np.concatenate([view.ravel() for view in one.parameters.values()]) for one in nets]
    return net, [*histories, {"parameters": each}]


WAYS = {
    "fit": _fit,
    "resume": _resume,
    "load, resume": _through(_by_file(".npz")),
    "pickle, resume": _through(lambda net: pickle.loads(pickle.dumps(net))),
    "deepcopy, resume": _through(copy.deepcopy),
    "stream": _stream,
    "partial_fit": _partial,
    "forward, backward, step": _by_hand,
    "gradients, step": _by_gradients,
    "memory-mapped": _mapped,
    "fit_many": _many,
    "bagged": _bagged,
}


# ---- the cases ----
# fmt: off


def add(name, layers, loss, options=None, *, dtypes=DTYPES, **more):
    for dtype in dtypes:
        key = f"{name}, {dtype}"
        assert key not in CASES, key
        CASES[key] = functools.partial(fit, layers, loss, options or {}, dtype=dtype, **more)


OPTIMIZERS = {
    "SGD": lambda: nk.SGD(0.125),
    "momentum": lambda: nk.SGD(0.0625, 0.875),
    "Nesterov": lambda: nk.SGD(0.0625, 0.875, nesterov=True),
    "Adam": lambda: nk.Adam(0.01, beta1=0.8, beta2=0.95, eps=1e-6),
    "AdamW": lambda: nk.AdamW(0.01, weight_decay=0.25),
    "RMSprop": lambda: nk.RMSprop(0.01, alpha=0.8),
    "Adagrad": lambda: nk.Adagrad(0.03),
}
SCHEDULES = {
    "inverse time": lambda: nk.Adam(nk.schedules.InverseTime(0.02, 0.5)),
    "exponential": lambda: nk.SGD(nk.schedules.Exponential(0.1, 0.75), 0.5),
    "step": lambda: nk.RMSprop(nk.schedules.Step(0.02, 0.5, every=2)),
    "cosine": lambda: nk.AdamW(nk.schedules.Cosine(0.02, epochs=4)),
    "warm-up": lambda: nk.Adagrad(nk.schedules.WarmUp(nk.schedules.Exponential(0.1, 0.5), epochs=2)),
}
CLASSES = {"layers": small, "loss": "cross_entropy"}
NUMBERS = {"layers": regression, "loss": "squared_error"}


def _optimizers():
    for name, optimizer in OPTIMIZERS.items():
        add(f"optimizer {name}", **CLASSES, options={"optimizer": optimizer})
        add(
            f"optimizer {name}, clipped, penalties", small, "cross_entropy",
            {"optimizer": lambda o=optimizer: _with(o(), clip_value=0.03125, clip_norm=0.0625), "batch_size": None},
            net={"l2": 0.125, "l1": 0.015625}, again=2,
        )
        add(f"optimizer {name}, resumed", **NUMBERS, options={"optimizer": optimizer}, way="resume")
    for name, optimizer in SCHEDULES.items():
        add(f"schedule {name}", **NUMBERS, options={"optimizer": optimizer, "epochs": 5})
    for name in ("clip_value", "clip_norm"):
        add(name, **NUMBERS, options={"optimizer": lambda n=name: _with(nk.SGD(0.25, 0.5), **{n: 0.125})})


def _with(optimizer, **numbers):
    for name, number in numbers.items():
        setattr(optimizer, name, number)
    return optimizer


def _activations():
    for name in nk.kernels.ACTIVATIONS:
        more = {"negative_slope": 0.25} if name == "leaky_relu" else {}
        # exp grows too fast for two layers of itself
        options = {"optimizer": lambda: nk.SGD(0.015625)}
        add(f"activation {name}", lambda n=name, o=more: dense((11, 6, 2), (n, "tanh", "linear"), **o), "squared_error",
            options)
        if name != "exp":
            add(f"activation {name}, one unit", lambda n=name, o=more: dense((1, 5, 1), (n, n, n), **o),
                "squared_error", options, m=33)


def _losses():
    smooth = nk.losses
    for name, layers, loss in (
        ("binary_cross_entropy", lambda: regression(last="sigmoid", outputs=1), "binary_cross_entropy"),
        ("binary_cross_entropy, three outputs", lambda: regression(last="sigmoid", outputs=3), "binary_cross_entropy"),
        ("binary_cross_entropy, smoothed", lambda: regression(last="sigmoid"), smooth.BinaryCrossEntropy(0.125)),
        ("cross_entropy", small, "cross_entropy"),
        ("cross_entropy, smoothed", small, smooth.CrossEntropy(0.125)),
        ("squared_error", regression, "squared_error"),
        ("squared_error of sigmoids", lambda: regression(last="sigmoid"), "squared_error"),
        ("squared_error of softmax", lambda: regression(last="softmax", outputs=4), "squared_error"),
        ("absolute_error", regression, "absolute_error"),
        ("absolute_error of tanh", lambda: regression(last="tanh"), "absolute_error"),
        ("huber", regression, "huber"),
        ("huber, delta ½", regression, smooth.Huber(0.5)),
        ("quantile", regression, "quantile"),
        ("quantile ⅞, of softplus", lambda: regression(last="softplus"), smooth.Quantile(0.875)),
        ("poisson", lambda: regression(last="exp"), "poisson"),
        ("of the user's own", regression, polynomial),
        ("of the user's own, of gelu", lambda: regression(last="gelu"), polynomial),
    ):
        options = {"optimizer": lambda: nk.SGD(0.03125)}
        add(f"loss {name}", layers, loss, options)
        if loss is not polynomial:
            add(f"loss {name}, weighted", layers, loss, {**options, "batch_size": 25}, weighted=True)
        if "of the user" not in name:
            add(f"loss {name}, fit_many", layers, loss, options, way="fit_many", dtypes=("float32",))
    add("loss cross_entropy of probabilities", **CLASSES, Y=probabilities)
    add("loss cross_entropy, smoothed, of probabilities", small, nk.losses.CrossEntropy(0.25), Y=probabilities)


def _batches():
    adam = {"optimizer": lambda: nk.Adam(0.01)}
    add("full batch", **CLASSES, options={**adam, "batch_size": None})
    add("batches of 1", **CLASSES, options={**adam, "batch_size": 1}, m=17)
    add("batches of 1, one unit", lambda: dense((1,), ("sigmoid",)), "binary_cross_entropy", {"batch_size": 1}, m=17)
    add("batches with a ragged rest", **NUMBERS, options={**adam, "batch_size": 64}, m=131)
    add("batches in order", **NUMBERS, options={**adam, "shuffle": False}, m=131)
    add("batch larger than the data", **NUMBERS, options={**adam, "batch_size": 500})
    add("batches beyond 4096 examples", lambda: dense((5, 3), ("relu", "softmax")), "cross_entropy",
        {**adam, "batch_size": 5000, "epochs": 2}, m=9500)
    add("full batch beyond 4096 examples, in weights", lambda: dense((3, 2), ("gelu", "linear")), "squared_error",
        {"batch_size": None, "epochs": 2}, m=8200, weighted=True)
    add("one example", **NUMBERS, m=1)
    add("fits one after the other", **CLASSES, options=adam, again=3)
    for threads in (1, 2):
        for name, layers, n_x in (
            ("wide", lambda: dense((300, 130, 10), ("relu", "tanh", "softmax")), 700),
            ("few units, many features", lambda: dense((5, 3), ("tanh", "softmax")), 3000),
        ):
            add(f"{name}, threads {threads}", layers, "cross_entropy",
                {"epochs": 1, "batch_size": 100, "threads": threads, "optimizer": lambda: nk.Adam(0.001)},
                n_x=n_x, m=150)
    add("wide output, many examples", lambda: dense((33, 260), ("silu", "linear")), "huber",
        {"epochs": 1, "batch_size": 300}, n_x=65, m=300, dtypes=("float32",))


def _regularisation():
    adam = {"optimizer": lambda: nk.Adam(0.01)}
    add("dropout", lambda: small(l1={"dropout": 0.25}, l2={"dropout": 0.5}), "cross_entropy", adam)
    add("dropout, relu, by hand", lambda: small("relu", l1={"dropout": 0.25}), "cross_entropy", adam,
        way="forward, backward, step")
    add("dropout, gelu, fit_many", lambda: small("gelu", l2={"dropout": 0.5}), "cross_entropy", adam, way="fit_many")
    add("dropout, resumed", lambda: small(l1={"dropout": 0.25}), "cross_entropy", adam, way="load, resume")
    add("l2", **NUMBERS, options=adam, net={"l2": 0.0625})
    add("l1", **NUMBERS, options=adam, net={"l1": 0.0625})
    add("l2 of a layer of its own", lambda: regression(l1={"l2": 0.25}), "squared_error", adam, net={"l2": 0.0625})
    add("l2 and l1, by hand", **NUMBERS, options=adam, net={"l2": 0.0625, "l1": 0.03125}, way="forward, backward, step")
    for name, which in (("first", (1,)), ("middle", (2,)), ("last", (3,)), ("first and second", (1, 2))):
        add(f"frozen, {name}", lambda w=which: small(**{f"l{l}": {"trainable": False} for l in w}), "cross_entropy",
            adam, net={"l2": 0.0625})
    add("frozen, middle, by hand", lambda: small(l2={"trainable": False}), "cross_entropy", adam,
        way="forward, backward, step")
    add("no bias", lambda: small(use_bias=False), "cross_entropy", adam)
    add("no bias in the first layer", lambda: regression("relu", l1={"use_bias": False}), "squared_error", adam)
    for name, given in (("balanced", "balanced"), ("as a dict", {0: 2.0, 2: 0.5}), ("as a list", [1.0, 0.25, 2.0])):
        add(f"class_weight {name}", **CLASSES, options={**adam, "class_weight": given})
    add("class_weight of two classes, sample weights", lambda: regression(last="sigmoid", outputs=1),
        "binary_cross_entropy", {**adam, "class_weight": {1: 2.5}}, weighted=True)
    for way in ("stream", "partial_fit", "forward, backward, step", "memory-mapped", "fit_many"):
        add(f"{way}, weighted", **CLASSES, options=adam, weighted=True, way=way)
    for way in WAYS:
        add(f"by {way}", **NUMBERS, options=adam, way=way)


def _steps():
    """Rates of layers, numbers by step (of shapes that need no cosine of numpy's), and what an epoch leaves out."""
    rates = functools.partial(regression, l1={"ntk": True, "bias_rate": 0.125}, l2={"rate": 0.75})
    for name, optimizer in OPTIMIZERS.items():
        add(f"rates and ntk, {name}", rates, "squared_error", {"optimizer": optimizer}, net={"l2": 0.0625})
    add("rates and ntk, by hand", rates, "squared_error", {"optimizer": OPTIMIZERS["AdamW"]}, way="gradients, step")
    add("a scale with a rate", lambda: [nk.Scale(rate=6), *small()], "cross_entropy")
    by_step = nk.schedules.ByStep
    falling = {"optimizer": lambda: nk.AdamW(by_step(0.02, "linear"), weight_decay=by_step(0.25, "warm_up"))}
    layers = functools.partial(small, l1={"dropout": by_step(0.5, "linear")}, l2={"dropout": 0.25})
    for way in ("fit", "load, resume", "memory-mapped", "fit_many"):
        add(f"by step, {way}", layers, "cross_entropy", falling, way=way)
        add(f"drop_last, {way}", **CLASSES, options={**falling, "drop_last": True}, way=way)


def _coded(X):
    """The last two rows of X as codes below 5."""
    return np.concatenate([X[:-2], np.floor(np.abs(X[-2:] * 32)) % 5])


def _encoded(*hidden, n_x=6, **options):
    """Every encoder, behind which there are further layers."""
    encoders = [nk.Numeric(0), nk.Periodic(1, 5, 3), nk.Periodic(2, 17, None), nk.PiecewiseLinear(3, (-1, 0, 0.5, 2))]
    encoders += [nk.PiecewiseLinear(0, (-2, 0.25, 1), units=2), nk.Embedding(n_x - 2, 5, 3)]
    encoders += [nk.OneHot(n_x - 1, 5), nk.OneHot(n_x - 2, 4, unknown=True)]
    return [nk.Encode(encoders, **options), *hidden, nk.Dense(3, "softmax")]


def _encoders():
    coded, adam = {"loss": "cross_entropy", "layout": _coded}, {"optimizer": lambda: nk.Adam(0.01)}
    tanh = nk.Dense(7, "tanh")
    for name, optimizer in OPTIMIZERS.items():
        add(f"encode, {name}", lambda: _encoded(tanh), options={"optimizer": optimizer}, **coded)
    for way in ("partial_fit", "forward, backward, step", "load, resume", "memory-mapped", "fit_many", "stream"):
        add(f"encode, {way}", lambda: _encoded(tanh), options=adam, way=way, **coded)
    add("encode, full batch, clipped, penalties", lambda: _encoded(tanh), options={
        "optimizer": lambda: nk.Adam(0.01, clip_norm=0.0625), "batch_size": None}, net={"l2": 0.125, "l1": 0.0625},
        **coded)
    add("encode, scale", lambda: _encoded(nk.Scale(), tanh), options=adam, **coded)
    add("encode, nothing between", lambda: _encoded(), options=adam, weighted=True, **coded)
    add("encode, frozen", lambda: _encoded(tanh, trainable=False), options=adam, **coded)
    add("encode, rates", lambda: _encoded(tanh, rate=0.125, embedding_rate=2.0), options=adam, **coded)
    for name in ("tanh", "silu", "selu", "mish", "relu"):
        mixed = functools.partial(small, name, l1={"mix": True}, l2={"mix": True, "mix_rate": 0.5, "dropout": 0.25})
        add(f"mix, {name}", mixed, "cross_entropy", adam, net={"l2": 0.0625})
    add("mix, no bias, by hand", lambda: small("silu", l1={"mix": True, "use_bias": False}), "cross_entropy", adam,
        way="forward, backward, step")
    add("mix, frozen", lambda: small("silu", l1={"mix": True}, l2={"mix": True, "trainable": False}), "cross_entropy",
        adam)


def _bfloat16():
    """Layers and batches for which operands are rounded with every instruction set."""
    def layers(activation="tanh"):
        return dense((230, 210, 3), (activation, "relu", "softmax"))

    large = {"n_x": 40, "m": 450, "dtypes": ("float32",), "net": {"compute": "bfloat16"}}
    for name in ("SGD", "Adam", "AdamW"):
        add(f"bfloat16, {name}", layers, "cross_entropy", {"batch_size": 225, "optimizer": OPTIMIZERS[name]}, **large)
    add("bfloat16, full batch", layers, "cross_entropy", {"batch_size": None}, **large)
    add("bfloat16, gelu, weighted", lambda: layers("gelu"), "cross_entropy", {"batch_size": 225}, weighted=True,
        **large)
    add("bfloat16, encode and mix", lambda: _encoded(nk.Dense(230, "silu", mix=True), nk.Dense(210, "tanh"), n_x=40),
        "cross_entropy", {"batch_size": 225}, layout=_coded, **large)
    add("bfloat16, by hand", layers, "cross_entropy", {"batch_size": 225}, way="forward, backward, step", **large)
    add("bfloat16, resumed", layers, "cross_entropy", {"batch_size": 225}, way="load, resume", **large)


def _around():
    adam = {"optimizer": lambda: nk.Adam(0.01)}
    layouts = {
        "float64, C": lambda X: np.ascontiguousarray(X),
        "float64, F": lambda X: np.asfortranarray(X),
        "float32, C": lambda X: np.array(X, np.float32, order="C"),
        "integers": lambda X: (X * 4).astype(np.int16),
        "strided": lambda X: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
        "reversed": lambda X: np.asfortranarray(X.astype(np.float32))[:, ::-1],
    }
    for name, layout in layouts.items():
        add(f"X {name}", **CLASSES, options=adam, layout=layout)
    add("validation_split", **CLASSES, options={**adam, "validation_split": 0.25})
    add("validation_split, numbers", **NUMBERS, options={**adam, "validation_split": 0.25, "batch_size": None})
    add("validation_split, weighted", **CLASSES, options={**adam, "validation_split": 0.25}, weighted=True)
    for loss, layers, n_y in (("cross_entropy", small, 3), ("squared_error", regression, 2)):
        held_out = (grid(3, (6, 20)), targets(loss, n_y, 20))
        add(f"validation_data, {loss}", layers, loss, {**adam, "validation_data": lambda h=held_out: h})
        add(f"progress, {loss}", layers, loss, {**adam, "progress": True})
        early = {"validation_data": lambda h=held_out: h, "epochs": 12, "optimizer": lambda: nk.SGD(0.5)}
        add(f"early stopping, {loss}", layers, loss,
            {**early, "callbacks": lambda: [nk.EarlyStopping(patience=2, min_delta=0.25)]})
        add(f"early stopping by score, last kept, {loss}", layers, loss,
            {**early, "callbacks": lambda: [nk.EarlyStopping(2, 0.125, "val_score", restore_best=False)]})
        monitor = "val_error" if loss == "cross_entropy" else "val_rmse"
        add(f"best epoch by {monitor}, last of equals", layers, loss,
            {**early, "callbacks": lambda by=monitor: [nk.EarlyStopping(None, monitor=by, ties="last")]})
        add(f"bagged, {loss}", layers, loss, {"epochs": 12, "optimizer": lambda: nk.SGD(0.5)}, way="bagged")
    add("a schedule as callback", **NUMBERS,
        options={"callbacks": lambda: [nk.LearningRateSchedule(nk.schedules.Exponential(0.1, 0.5))]})
    for dtype in DTYPES:
        CASES[f"divergence, {dtype}"] = functools.partial(_diverging, dtype)
        CASES[f"progress, several sigmoids, {dtype}"] = functools.partial(
            fit, lambda: regression(last="sigmoid", outputs=3), "binary_cross_entropy", {**adam, "progress": True},
            dtype=dtype,
        )
        for loss, layers in (("cross_entropy", small), ("squared_error", lambda: regression("gelu"))):
            CASES[f"derivatives, {loss}, {dtype}"] = functools.partial(_derivatives, loss, layers, dtype)
    for init in nk.initializers.INITIALIZERS:
        CASES[f"initial weights, {init}"] = functools.partial(_initial, init)


def _diverging(dtype):
    net = network(regression("relu"), "squared_error", 6, dtype)
    X, Y = 2 * fine(1, (6, 70), dtype), targets("squared_error", 2, 70)
    history = net.fit(X, Y, epochs=2)
    try:
        net.fit(X, Y, epochs=50, optimizer=nk.SGD(2.0**20), batch_size=16)
    except nk.DivergenceError:
        return of_network(net, X, Y, history=history)
    raise AssertionError("this training must diverge")


def _derivatives(loss, layers, dtype):
    net = network(layers(), loss, 6, dtype)
    X, Y = 2 * fine(1, (6, 9), dtype), targets(loss, net.n_y, 9)
    return {
        "inputs": [net.input_gradient(X, Y), net.input_gradient(X, output=1)],
        "jacobian": [net.jacobian(X)],
        "examples": list(net.example_gradients(X, Y).values()),
    }


def _initial(init):
    nets = [nk.Network([nk.Dense(7, "relu", init), nk.Dense(3, init=init)], "squared_error", n_x=5, dtype=d, seed=3)
            for d in DTYPES]
    return {"parameters": [view for net in nets for view in net.parameters.values()]}


# ---- predictors and kernels ----


def _compiled(weights, dtype, units, activation):
    net = network(dense((*units, 3), (*[activation] * len(units), "softmax")), "cross_entropy", 37, dtype)
    predictor = net.compile_predict(weights=weights)
    X = 2 * fine(1, (37, 70), predictor.dtype).astype(predictor.dtype)
    return {
        "predictions": [predictor(X[:, :m]) for m in (1, 2, 7, 70)],
        "parameters": list(predictor.parameters.values()),
    }


def _kernel(activation, dtype, order, shape):
    n, n_prev, m = shape
    arrays = (2 * fine(s, size, dtype) for s, size in enumerate(((n, n_prev), (n_prev, m), (n, 1), (n, m)), start=1))
    W, A_prev, b, dA = (np.array(a, dtype, order=order) for a in arrays)
    W *= 2.0 ** -(n_prev.bit_length() // 2)
    A, Z = nk.kernels.dense_forward(W, A_prev, b, activation, return_Z=True, negative_slope=0.25)
    given = {"negative_slope": 0.25, "Z": Z if activation in nk.kernels.NEEDS_Z else None}
    return {
        "forward": [A, Z, nk.kernels.activation_forward(Z, activation, negative_slope=0.25)],
        "backward": list(nk.kernels.dense_backward(dA, W, A_prev, A, activation, **given)),
        "activation": [nk.kernels.activation_backward(dA, A, activation, **given)],
    }


def _loss_kernel(name, dtype, numbers):
    parts = {}
    for n_y, m in ((1, 1), (3, 70), (17, 33), (2, 4200)):
        Z, w = np.asfortranarray(2 * fine(1, (n_y, m), dtype).astype(dtype)), grid(2, m, 1, 16, 1 / 8).astype(dtype)
        Y = np.asfortranarray(targets(name, n_y, m).astype(np.int64 if name == "cross_entropy" else dtype))
        kernel = getattr(nk.kernels, name)
        parts[f"{n_y} x {m}"] = [*kernel(Z, Y, **numbers), *kernel(Z, Y, w, **numbers)]
    return parts


def _below():
    for dtype, weights in (("float32", ("float32", "bfloat16", "int8")), ("float64", ("float64", "float32"))):
        for kept in weights:
            for units, activation in (((12, 9), "relu"), ((130,), "gelu")):
                CASES[f"compile_predict {kept} of {dtype}, {activation}"] = functools.partial(
                    _compiled, kept, dtype, units, activation
                )
    for dtype in DTYPES:
        for activation in nk.kernels.ACTIVATIONS:
            CASES[f"kernels, {activation}, {dtype}"] = functools.partial(
                _kernel, activation, dtype, "F", (9, 13, 70)
            )
        for order, shape in (
            ("C", (9, 13, 70)), ("F", (1, 100, 21)), ("C", (40, 1, 33)), ("F", (7, 5, 4200)), ("F", (130, 65, 1)),
            ("C", (3, 700, 40)),
        ):
            CASES[f"kernels, {order}, {shape}, {dtype}"] = functools.partial(_kernel, "tanh", dtype, order, shape)
        for name, numbers in (
            ("binary_cross_entropy", {}), ("binary_cross_entropy", {"label_smoothing": 0.25}), ("cross_entropy", {}),
            ("cross_entropy", {"label_smoothing": 0.25}), ("squared_error", {}), ("absolute_error", {}),
            ("huber", {"delta": 0.5}), ("quantile", {"q": 0.75}), ("poisson", {}),
        ):
            CASES[f"kernel {name} {numbers or ''}, {dtype}"] = functools.partial(_loss_kernel, name, dtype, numbers)


# ---- the estimators ----


def _estimator(kind, options, *, dtype="float32", task="classes", way="fit", sparse=False, weighted=False):
    from nnkern import sklearn

    estimator = getattr(sklearn, kind)(**{"max_iter": 4, "random_state": 3, "hidden_layer_sizes": (7,), **options})
    m = 90
    X, w = 2 * fine(1, (m, 6), dtype).astype(dtype), grid(2, m, 1, 16, 1 / 8) if weighted else None
    y = {
        "classes": lambda: np.random.RandomState(4).randint(0, 3, m),
        "two classes": lambda: np.random.RandomState(4).randint(0, 2, m),
        "labels": lambda: np.random.RandomState(4).randint(0, 2, (m, 3)),
        "numbers": lambda: grid(5, m),
        "several numbers": lambda: grid(5, (m, 2)),
        "counts": lambda: grid(5, m, 0, 4, 1),
    }[task]()
    if sparse:
        from scipy.sparse import csr_matrix

        X = csr_matrix(np.where(grid(6, (m, 6), 0, 2, 1) == 0, X, 0))
    history = []
    for _ in range(1 if way == "fit" else 3):
        arguments = {"classes": np.unique(y)} if way == "partial_fit" and kind == "MLPClassifier" else {}
        if way == "partial_fit" and task == "labels":
            arguments = {"classes": np.arange(3)}
        getattr(estimator, "partial_fit" if way == "partial_fit" else "fit")(X, y, sample_weight=w, **arguments)
        history += [estimator.loss_curve_, [estimator.n_iter_, estimator.t_, estimator.loss_]]
        if estimator.early_stopping:
            history += [estimator.validation_scores_, estimator.validation_loss_curve_]
    predict = estimator.predict_proba if kind == "MLPClassifier" else estimator.predict
    return {
        "history": [np.array(x, np.float64) for x in history],
        "parameters": [*estimator.coefs_, *estimator.intercepts_],
        "predictions": [predict(X), np.asarray(estimator.predict(X))],
        "state": moments(estimator.network_),
    }


def _estimators():
    def case(name, kind, *, options=types.MappingProxyType({}), **more):
        for dtype in DTYPES:
            CASES[f"{kind}, {name}, {dtype}"] = functools.partial(_estimator, kind, options, dtype=dtype, **more)

    solvers = {
        "sgd": {"solver": "sgd", "learning_rate_init": 0.03125},
        "sgd, plain": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.03125},
        "sgd, momentum": {"solver": "sgd", "nesterovs_momentum": False},
        "sgd, invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.25},
        "sgd, adaptive": {
            "solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 0.5, "max_iter": 9
        },
        "adam": {"solver": "adam"},
        "adamw": {"solver": "adamw", "weight_decay": 0.25, "learning_rate_init": 0.01},
        "nnkern.RMSprop": {"solver": nk.RMSprop(0.01)},
    }
    for name, options in solvers.items():
        case(name, "MLPClassifier", options=options)
        case(name, "MLPRegressor", options=options, task="several numbers")
    for task in ("two classes", "labels"):
        case(task, "MLPClassifier", task=task)
    case("numbers", "MLPRegressor", task="numbers")
    case("poisson", "MLPRegressor", options={"loss": "poisson"}, task="counts")
    case("huber", "MLPRegressor", options={"loss": nk.losses.Huber(0.5)}, task="numbers")
    for kind, task in (("MLPClassifier", "classes"), ("MLPRegressor", "numbers")):
        for way in ("partial_fit", "warm_start"):
            case(way, kind, options={"warm_start": way == "warm_start"}, task=task, way=way)
        case("early stopping", kind, task=task,
             options={"early_stopping": True, "max_iter": 9, "n_iter_no_change": 2, "learning_rate_init": 0.0625})
        case("sparse", kind, task=task, sparse=True)
        case("sparse, partial_fit", kind, task=task, sparse=True, way="partial_fit")
        case("weighted", kind, task=task, weighted=True, options={"alpha": 0.5, "batch_size": 20})
        case("several layers, dropout", kind, task=task,
             options={"hidden_layer_sizes": (9, 5), "activation": ["gelu", "logistic"], "dropout": [0.25, 0.0]})
        case("in order, small batches", kind, task=task, options={"shuffle": False, "batch_size": 7})
        case("no hidden layer", kind, task=task, options={"hidden_layer_sizes": ()})
    case("class_weight", "MLPClassifier", options={"class_weight": {0: 2.0, 1: 0.5}})
    case("sparse, early stopping", "MLPClassifier", sparse=True, options={"early_stopping": True})


# fmt: on
for _part in (
    _optimizers,
    _activations,
    _losses,
    _batches,
    _regularisation,
    _steps,
    _encoders,
    _bfloat16,
    _around,
    _below,
    _estimators,
):
    _part()


# ---- the conditions under which the bits are these ----


def _compiler():
    """What the extensions' .comment sections say of their compilers, and whether their code isn't the usual one."""
    files = Path(nk.__file__).parent.glob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}")
    content = b"".join(file.read_bytes() for file in sorted(files))
    found = re.findall(rb"(?:GCC: \(|clang version |Apple clang )[\x20-\x7e]+", content)
    unusual = [mark for mark in (b"__gcov_", b"__asan_", b"__ubsan_", b"__tsan_", b".debug_info") if mark in content]
    return "; ".join(sorted({name.decode() for name in found})) + (", for debugging" if unusual else "")


def _libm():
    """pow and cos where the library asks for them."""
    values = [math.pow(beta, t) for beta in (0.8, 0.875, 0.9, 0.95, 0.999) for t in range(1, 60)]
    values += [0.75**e for e in range(9)] + [math.cos(math.pi * e / 16) for e in range(17)]
    values += [1.0 / (90 * e + 1) ** 0.5 for e in range(9)]
    return digest([np.array(values)])


def _streams():
    """numpy's random streams, which may change from version to version but for RandomState's."""
    rng = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(1,)))
    return digest([np.array(rng.integers(2**63)), rng.permutation(50), rng.standard_normal(50), rng.uniform(-1, 1, 50)])


def conditions():
    """What the bits depend on beside the sources and the instruction set."""
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "compiler": _compiler(),
        "pow and cos of libm": _libm(),
        "numpy's random streams": _streams(),
    }


def results():
    """Of this process's instruction set: the conditions, and the hashes of all cases that can be run here."""
    facts = nk.show_config().to_dict()
    with_estimators = importlib.util.find_spec("sklearn") is not None
    cases = [case for case in CASES if with_estimators or not case.startswith("MLP")]
    return {
        "isa": facts["isa"],
        "gemm": facts["gemm"],
        "BLAS": facts["blas_config"],
        "conditions": conditions(),
        "hashes": {case: record(case) for case in cases},
    }


def run(isa, **environment):
    """`results` of a process of its own with that instruction set."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("NNKERN_", "OMP_", "OPENBLAS_"))}
    done = subprocess.run(
        [sys.executable, "-P", __file__],
        capture_output=True,
        text=True,
        timeout=600,
        env={**clean, "NNKERN_ISA": isa, "NNKERN_GEMM": "tiles", **environment},
    )
    if done.returncode:
        raise RuntimeError(f"{isa}: {done.stderr[-3000:]}")
    return json.loads(done.stdout)


def write_table(commit):
    """Records all instruction sets, and which cases go through BLAS."""
    found = {isa: run(isa) for isa in ISAS}
    through_blas = set()
    for isa in ISAS:
        for core in BLAS_CORES:
            hashes = run(isa, OPENBLAS_CORETYPE=core)["hashes"]
            through_blas |= {case for case in CASES if hashes[case] != found[isa]["hashes"][case]}
    head = {"commit": commit, **{key: found[ISAS[0]][key] for key in ("conditions", "BLAS")}}
    head["through BLAS"] = [case for case in CASES if case in through_blas]
    lines = []
    for case in CASES:
        by_isa = {isa: ", ".join(f"{k}={v}" for k, v in found[isa]["hashes"][case].items()) for isa in ISAS}
        lines.append(f"  {json.dumps(case, ensure_ascii=False)}: {json.dumps(by_isa)}")
    text = json.dumps(head, indent=1, ensure_ascii=False)
    TABLE.write_text(text[:-2] + ',\n "cases": {\n' + ",\n".join(lines) + "\n }\n}\n", encoding="utf-8")
    print(f"{len(CASES)} cases, {len(through_blas)} of them through BLAS, {TABLE.stat().st_size:,} bytes")


def main():
    if sys.argv[1:2] != ["--record"]:
        print(json.dumps(results(), indent=1))
        return
    (commit,) = sys.argv[2:] or sys.exit("--record needs the commit whose build is installed")
    if missing := set(ISAS) - set(nk.show_config().to_dict()["usable_isas"].split(", ")):
        sys.exit(f"this processor has no {', '.join(sorted(missing))}: the table is recorded where all are")
    write_table(commit)


if __name__ == "__main__":
    main()
