"""What test_dask.py runs: python dask_rounds.py <test> <folder>. Rounds on Dask give the bits of others."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import distributed
import numpy as np

import nnkern as nk

SIZES = (40, 25, 0, 33)


def load(m, seed, seconds=0.0):
    time.sleep(seconds)
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((4, m))
    return X, np.sin(X.sum(axis=0, keepdims=True))


def fails_once(path, function):
    if not path.exists():
        path.write_text("")
        raise OSError("the disk was busy")
    return function()


def trained(executor, shards, **how):
    net = nk.Network([nk.Dense(6, "tanh", dropout=0.2), nk.Dense(1)], "squared_error", n_x=4, seed=0, dtype="float64")
    history = nk.fit_shards(net, shards, executor=executor, rounds=3, epochs_a_round=2, optimizer="adam", **how)
    return {name: array.tobytes() for name, array in net.parameters.items()}, history["cost"]


def check_shards(client, expected, _folder):
    """Arrays, functions and futures."""
    functions = [partial(load, m, seed) for seed, m in enumerate(SIZES)]
    assert trained(client, [function() for function in functions]) == expected
    assert trained(client, functions) == expected
    assert trained(client, [client.submit(function) for function in functions]) == expected


def check_killed(client, expected, _folder):
    """A worker that is killed in the middle of a round."""
    killed = []

    def kill():
        time.sleep(1)
        pid = next(iter(workers.values()))
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    workers = client.run(os.getpid)
    thread = threading.Thread(target=kill)
    thread.start()
    assert trained(client, [partial(load, m, seed, 0.8) for seed, m in enumerate(SIZES)]) == expected
    thread.join()
    assert killed


def check_failing(client, expected, folder):
    """A task that fails, and doesn't when it is submitted again."""
    functions = [partial(load, m, seed) for seed, m in enumerate(SIZES)]
    functions[1] = partial(fails_once, folder / "tried", functions[1])
    assert trained(client, functions) == expected
    assert (folder / "tried").exists()


if __name__ == "__main__":
    check, folder = {"shards": check_shards, "killed": check_killed, "failing": check_failing}[sys.argv[1]], sys.argv[2]
    with ThreadPoolExecutor(1) as executor:
        expected = trained(executor, [load(m, seed) for seed, m in enumerate(SIZES)])
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "local_directory": folder}
    with distributed.LocalCluster(**how) as cluster, distributed.Client(cluster) as client:
        check(client, expected, Path(folder))
    print("all was as it should be")
