"""What each rank of a test of test_cluster.py does: mpiexec -n 2 python worker.py <what> <folder for results> [more].

Each rank writes down what it has got, in <rank>.npz or <rank>.json.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

import nnkern as nk
from nnkern.ranks import Ranks
from nnkern.state import of

# as test_cluster.py has them
BATCH_SIZE, EPOCHS, DEADLINE = 16, 10, 3.0
OPTIMIZERS = {"sgd": nk.SGD(0.05, momentum=0.9), "adam": nk.Adam(0.01)}

comm = MPI.COMM_WORLD
rank = comm.Get_rank()


def examples(m):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5, m))
    return X, np.sin(X.sum(axis=0, keepdims=True)) + X[:2].sum(axis=0)


def network(seed, units=7):
    layers = [nk.Dense(units, "tanh", dropout=0.2), nk.Dense(6, "relu"), nk.Dense(1)]
    return nk.Network(layers, "squared_error", seed=seed, dtype="float64")


def train(folder, sizes, twice):
    """The parameters after ten epochs of each optimizer, twice."""
    X, Y = examples(sum(sizes))
    end = sum(sizes[: rank + 1])
    own = slice(end - sizes[rank], end)
    found = {}
    for name, optimizer in OPTIMIZERS.items():
        for units in (7, 120):  # the larger one's gradient takes more than a page
            for again in range(1 + twice):
                net = network(rank, units)
                how = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "shuffle": False, "optimizer": optimizer}
                net.fit(X[:, own], Y[:, own], comm=comm, deadline=60, **how)
                found |= {f"{name} {units} {again} {key}": array for key, array in net.parameters.items()}
    np.savez(folder / f"{rank}.npz", **found)


def split(folder):
    """Two trainings at once, each by half of the ranks, then one by all."""
    X, Y = examples(40)
    found = {}
    for name, group in (("half", comm.Split(rank % 2)), ("all", comm)):
        net = network(7 + rank % 2 if name == "half" else 3)
        net.fit(X, Y, epochs=3, batch_size=BATCH_SIZE, comm=group, deadline=60)
        found |= {f"{name} {key}": array for key, array in net.parameters.items()}
    np.savez(folder / f"{rank}.npz", **found)


def batches(folder):
    """Batches of each rank, of different numbers."""
    X, Y = examples(60)
    own = [(X[:, k : k + 5], Y[:, k : k + 5]) for k in range(5 * rank, 60 - 20 * rank, 5 * comm.Get_size())]
    net = network(rank, 120)
    net.initialize(5)
    net.fit(own, epochs=3, comm=comm, deadline=60, optimizer="adam")
    np.savez(folder / f"{rank}.npz", count=len(own), **net.parameters)


def sums(folder):
    """Blocks of both dtypes, longer and shorter than what is summed at once."""
    ranks, found = Ranks(comm, 60), {}
    for dtype in ("float32", "float64"):
        for count in (1, 2**18, 2**20, 2**20 + 1, 2**20 + 2**18 + 7):
            found[f"{dtype} {count}"] = ranks.sum_into((np.arange(count) % 1001 + rank).astype(dtype))
    np.savez(folder / f"{rank}.npz", **found)


def table_model(begun):
    """A model whose first network is trained for ever; `begun` is called when that begins."""
    from nnkern import together
    from nnkern.tabular import Recipe, TabularRegressor

    run = together.run

    def run_and_tell(fit):
        begun()
        return run(fit)

    together.run = run_and_tell
    return TabularRegressor(recipes=Recipe(units=(8,), epochs=10**6, patience=None), random_state=0)


def fail(folder, how, bad, form):
    """A training of many epochs in which something happens to one rank; what each rank raises, and when.

    `form`: that of arrays, of "batches", or a model of a "table".
    """
    rng = np.random.default_rng(rank)
    X = rng.standard_normal((5, 2000))
    Y = X.sum(axis=0, keepdims=True)
    net, mine, happened = network(0), rank == bad, [time.time()]
    begun, table = threading.Event(), None
    if form == "table":
        table = table_model(begun.set)
    else:
        begun.set()
    events = {"raise": _raise, "exit": lambda: os._exit(3), "hang": lambda: time.sleep(4 * DEADLINE)}

    def callback(net, epoch, history):
        if epoch == 3:
            happened[0] = time.time()
            (folder / "happened").write_text(str(happened[0]))
            events[how]()

    def send(number):
        begun.wait()
        time.sleep(0.3 + 0.2 * float(np.random.default_rng().random()))
        happened[0] = time.time()
        (folder / "happened").write_text(str(happened[0]))
        os.kill(os.getpid(), number)

    if mine and how in ("interrupt", "kill"):
        number = signal.SIGINT if how == "interrupt" else signal.SIGKILL
        threading.Thread(target=send, args=(number,), daemon=True).start()
    if mine and how == "nan":
        Y[0, 777] = 1e200
    callbacks = callback if mine and how in events else []
    data, error = (X, Y), None
    if form == "batches":
        data = ([(X[:, k : k + 20], Y[:, k : k + 20]) for k in range(0, 2000, 20)],)
    try:
        if form == "table":
            table.fit(X.T, Y[0], comm=comm, deadline=DEADLINE)
        else:
            net.fit(*data, epochs=10**6, optimizer="adam", callbacks=callbacks, comm=comm, deadline=DEADLINE)
    except BaseException as raised:
        error = raised
    parameters = () if table else net.parameters.values()
    result = {
        "error": type(error).__name__,
        "text": str(error),
        "ranks": list(getattr(error, "ranks", ())),
        "at": time.time(),
        "happened": happened[0] if mine else None,
        "fitted": hasattr(table, "model_"),
        "epochs": of(net).epochs_done,
        "sum": float(sum(array.sum() for array in parameters)),
    }
    (folder / f"{rank}.json").write_text(json.dumps(result))
    if how in ("hang", "kill"):
        time.sleep(1)  # the first to end then ends the others, which have results to write down


def _raise():
    raise OSError("no disk")


if __name__ == "__main__":
    what, folder, *more = sys.argv[1:]
    folder = Path(folder)
    if what == "train":
        train(folder, [int(m) for m in more[0].split(",")], twice=True)
    elif what == "split":
        split(folder)
    elif what == "batches":
        batches(folder)
    elif what == "sums":
        sums(folder)
    else:
        fail(folder, what, int(more[0]), more[1] if more[1:] else "arrays")
