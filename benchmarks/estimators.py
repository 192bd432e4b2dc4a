"""The estimators of nnkern.sklearn on scikit-learn's digits: against scikit-learn's, and against the core below them.

    python benchmarks/estimators.py [--rounds 15] [--cpu-time]

One process, one thread, one processor. First both are trained alike in float64 and must agree, loss by loss and
parameter by parameter; then they take turns at the same `fit`, and a time is the best of its rounds. What an estimator
adds to the core is the difference to the same training by `Network.fit`, of one epoch and for each further one.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings

from sides import environment, idlest_cores, stay_on

# before the libraries are loaded: they size their pools from it
settings = environment(1)
os.environ.clear()
os.environ.update(settings)
stay_on(idlest_cores(1))

import numpy as np  # noqa: E402
from clock import Clock  # noqa: E402
from sklearn import neural_network as theirs  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402

import nnkern as nk  # noqa: E402
from nnkern import sklearn as ours  # noqa: E402

EPOCHS = 20
# largest difference over largest entry, in float64
AGREEMENT = 1e-9
# (title, parameters, dtype, how many times faster it shall be)
FITS = (
    ("defaults", {}, "float32", 6),
    ("defaults", {}, "float64", 4),
    ("batch_size=32", {"batch_size": 32}, "float32", 15),
    ("batch_size=32", {"batch_size": 32}, "float64", 15),
)
# What an estimator may add to a fit, and to each of its epochs, in µs. One hidden unit and two batches an epoch: it
# shall not be the small difference of large numbers.
PER_FIT, PER_EPOCH = 1000, 2
SMALL = {"hidden_layer_sizes": (1,), "batch_size": 900, "tol": 0.0}
FEW, MANY = 1, 401


def data(dtype):
    X, y = load_digits(return_X_y=True)
    spread = X.std(axis=0)
    return np.ascontiguousarray((X - X.mean(axis=0)) / np.where(spread == 0, 1, spread), dtype), y


def fit(module, X, y, parameters, epochs=EPOCHS):
    return module.MLPClassifier(max_iter=epochs, random_state=0, **parameters).fit(X, y)


def fit_core(X, y, epochs):
    """A training like that of SMALL by the core alone; its penalty is on the mean."""
    layers, size = [nk.Dense(1, "relu"), nk.Dense(10, "softmax")], SMALL["batch_size"]
    net = nk.Network(layers, "cross_entropy", l2=1e-4 / size, dtype=X.dtype.name, seed=0)
    net.fit(X.T, y, epochs=epochs, batch_size=size, optimizer=nk.Adam(1e-3))


def verify() -> list[str]:
    """Where the two don't agree."""
    X, y = data("float64")
    wrong = []
    for title, parameters in {title: parameters for title, parameters, *_ in FITS}.items():
        mine, peer = fit(ours, X, y, parameters), fit(theirs, X, y, parameters)
        pairs = {"loss_curve_": (mine.loss_curve_, peer.loss_curve_)}
        pairs |= {f"coefs_[{l}]": both for l, both in enumerate(zip(mine.coefs_, peer.coefs_, strict=True))}
        for name, (a, b) in pairs.items():
            off = np.abs(np.subtract(a, b)).max() / np.abs(b).max()
            print(f"{title}, {name}: largest difference over largest entry {off:.1e}")
            if not off <= AGREEMENT:
                wrong.append(f"{title}, {name}: {off:.1e} is above {AGREEMENT:.0e}")
    return wrong


def best(calls: dict, rounds: int, cpu_time: bool) -> dict[str, float]:
    """Seconds of each call at its best, the calls taking turns."""
    times = dict.fromkeys(calls, np.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            clock = Clock()
            call()
            times[name] = min(times[name], clock.read()[cpu_time])
    return times


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cpu-time", action="store_true", help="processor time in place of the wall's")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore", ConvergenceWarning)
    wrong = verify()
    if wrong:
        print("\n".join(["", "WRONG, not timed:", *wrong]))
        return 1
    print(f"\n{f'fit on digits, {EPOCHS} epochs, ms':32}{'nnkern':>10}{'sklearn':>10}{'ratio':>8}{'wanted':>8}")
    for title, parameters, dtype, wanted in FITS:
        X, y = data(dtype)
        calls = {m.__name__: lambda m=m, X=X, y=y, p=parameters: fit(m, X, y, p) for m in (ours, theirs)}
        mine, peer = best(calls, options.rounds, options.cpu_time).values()
        print(f"{title + ', ' + dtype:32}{mine * 1e3:10.1f}{peer * 1e3:10.1f}{peer / mine:8.1f}{wanted:8}")
    X, y = data("float32")
    times = {}
    for n in (FEW, MANY):
        calls = {("estimator", n): lambda n=n: fit(ours, X, y, SMALL, n), ("core", n): lambda n=n: fit_core(X, y, n)}
        times |= best(calls, 3 * options.rounds, options.cpu_time)
    print(f"\n{'the estimator over the core, µs':32}{'nnkern':>10}{'core':>10}{'added':>8}{'at most':>8}")
    mine, core = (times[who, FEW] * 1e6 for who in ("estimator", "core"))
    print(f"{'a fit of one epoch':32}{mine:10.1f}{core:10.1f}{mine - core:8.1f}{PER_FIT:8}")
    mine, core = ((times[who, MANY] - times[who, FEW]) * 1e6 / (MANY - FEW) for who in ("estimator", "core"))
    print(f"{'a further epoch':32}{mine:10.1f}{core:10.1f}{mine - core:8.1f}{PER_EPOCH:8}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
