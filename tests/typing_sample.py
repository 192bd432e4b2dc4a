"""A program as users write it: mypy --strict must find nothing in it. test_typing.py checks that, and runs it too."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

import nnkern as nk
from nnkern import names
from nnkern.data import Arrays, Preprocessor, choose_target, split, take
from nnkern.plotting import confusion
from nnkern.sklearn import MLPClassifier

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def blobs(m: int, seed: int = 0) -> Batch:
    """X (2, m) around three centres, labels (m,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, m)
    centres = np.array([[0.0, 3.0, -3.0], [3.0, -2.0, -2.0]])
    X = centres[:, labels] + rng.standard_normal((2, m))
    return X.astype(np.float32), labels


def stream(batches: int) -> Iterator[Batch]:
    for seed in range(batches):
        yield blobs(32, seed)


class Notes(nk.Callback):
    def __init__(self) -> None:
        self.costs: list[float] = []

    def on_epoch_end(self, net: nk.Network, epoch: int, history: dict[str, list[float]]) -> bool:
        self.costs.append(history["cost"][-1])
        return epoch >= 50


def small(activation: names.Activation) -> nk.Network:
    return nk.Network([nk.Dense(2, activation)], "squared_error", n_x=2)


def half(epoch: int) -> float:
    return 0.1 * 0.5**epoch


def follow(net: nk.Network, batch: Batch, folder: Path, trial: object) -> bool:
    """Which other packages are needed for; it isn't called."""
    pruning = nk.OptunaPruning(trial, monitor="val_error", raises=False)
    told = [nk.TensorBoard(folder / "log", every=5), nk.MLflow(prefix="small/"), pruning]
    net.fit(*batch, validation_split=0.2, callbacks=told)
    return pruning.pruned


def main(folder: Path) -> float:
    X, Y = blobs(300)
    layers = [nk.Dense(16, "relu", init="he_normal", dropout=0.1), nk.Dense(3, "softmax", init=nk.initializers.zeros)]
    net = nk.Network(layers, loss="cross_entropy", l2=1e-4, dtype=np.float32, seed=0)
    notes = Notes()
    history = net.fit(
        X,
        Y,
        epochs=20,
        batch_size=None,
        optimizer=nk.Adam(nk.schedules.Cosine(0.02, epochs=20)),
        validation_data=blobs(100, seed=1),
        callbacks=[notes, nk.EarlyStopping(patience=5), lambda net, epoch, history: None],
    )
    last: float = history["val_cost"][-1]
    net.fit(list(stream(3)), epochs=2, optimizer="adamw")
    net.freeze(1).unfreeze()
    hidden = net.activations(X)[0]
    rate: float = nk.find_learning_rate(net, X, Y, optimizer="adam").best
    small("relu").evaluate([(x, x) for x, _ in stream(2)])
    net.fit(X.T, Y, rows=True, epochs=1, validation_split=0.1, metrics="val_auc", callbacks=nk.ReduceLROnPlateau())
    net.predict([x for x, _ in stream(2)], threads=1)
    net.partial_fit(X, Y, optimizer=nk.SGD(half, momentum=0.9))

    A: npt.NDArray[np.floating] = net.predict(X, threads=1)
    labels: npt.NDArray[np.int64] = net.predict_labels(X)
    cost, score = net.evaluate(X, Y)
    net.forward(X, training=True)
    grads = net.backward(Y)
    net.step({name: dvar / 2 for name, dvar in grads.items()}, nk.SGD(0.1))
    error: float = nk.check_gradients(net, X, Y)

    dX: npt.NDArray[np.floating] = net.input_gradient(X, output=labels)
    counts = nk.Network([nk.Dense(1, "exp")], nk.losses.Poisson(), n_x=2, seed=0)
    counts.fit(X, Y.reshape(1, -1), epochs=1, optimizer=nk.SGD(0.01, clip_norm=1.0), callbacks=notes)

    right: int = int(np.trace(confusion(Y, labels)))

    nk.fit_many([counts], X, Y.reshape(1, -1), epochs=1, optimizer=["sgd"])

    W1 = net.parameters["W1"]
    W1[...] = 0
    path = folder / "net.npz"
    net.save(path, training_state=True)
    same: bool = nk.load(path) == net
    with open(path, "rb") as file:
        same = same and nk.load(file) == net
    right += int(np.trace(nk.plotting.confusion(Y, labels)))
    source: str = net.to_c(labels=["a", "b", "c"]) + net.to_c(weights="int8", calibration=X)

    predictor = net.compile_predict(weights="bfloat16", threads=1)
    frozen: npt.NDArray[np.floating] = predictor(X, out=predictor.predict(X))
    report = predictor.report(net, X, Y)
    lost: float = report.largest_difference
    if report.evaluation is not None:
        lost += report.evaluation.cost

    W, b = np.ones((3, 2), np.float32), np.zeros((3, 1), np.float32)
    Z, Z_too = nk.kernels.dense_forward(W, X, b, "linear", return_Z=True)
    J, A_out, dZ = nk.kernels.cross_entropy(Z, Y)
    back = nk.kernels.dense_backward(dZ, W, X, Z, "linear", need_dA_prev=False)
    step: npt.NDArray[np.floating] = 0.1 * back.dW

    data = Arrays(X, Y, "blobs")
    target = choose_target(data, task="classification")
    train, held_out = split(target.Y, share=0.3)
    features = Preprocessor.fit(data, target, rows=train).features(data)
    mlp = MLPClassifier((16,), "tanh", solver=nk.Adam(0.01), max_iter=5, tol=0.0, random_state=0)
    mlp.fit(take(features, train).T, target.Y[train], eval_set=(take(features, held_out).T, target.Y[held_out]))
    inside: nk.Network = mlp.network_

    try:
        nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy").predict(X)
    except nk.NotFittedError as wrong:
        print(wrong)
    nk.set_num_threads(nk.get_num_threads())
    print(nk.__version__, nk.show_config().to_dict()["isa"], net.summary().parameters, net.n_x, net.L, net.dtype)
    print(last, A.shape, labels[:3], cost, error, same, len(source))
    print(right, frozen.shape, predictor.nbytes, lost, dX.shape, Z_too.shape, J, A_out.shape, step.shape)
    print(notes.costs, inside, hidden.shape, rate, net.seed)
    return score
