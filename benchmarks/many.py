"""Many networks at once: `nk.fit_many`, JAX's `vmap` of a jitted scan, scikit-learn's fits one after the other.

    python benchmarks/many.py [--threads 2] [--rounds 9] [--networks 64]

One process. First nnkern and JAX train unshuffled from the same parameters and must end up with the same costs; then
all take turns, and a time is the best of its rounds. JAX's epochs are one call, whose compilation isn't counted; where
it or scikit-learn isn't installed it is left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings

from sides import environment, idlest_cores, stay_on

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=9)
parser.add_argument("--networks", type=int, default=64)
options = parser.parse_args()
# before the libraries are loaded: they size their pools from it
settings = environment(options.threads)
os.environ.clear()
os.environ.update(settings)
stay_on(idlest_cores(options.threads))

import cases  # noqa: E402
import numpy as np  # noqa: E402
from clock import Clock  # noqa: E402

import nnkern as nk  # noqa: E402

EPOCHS, RATE = 20, 1e-3
CASE = cases.TrainingCase("many", (16, 32, 1), "relu", 32, 1024)
# largest difference of the mean cost of an epoch, relative
AGREEMENT = 1e-4


def networks():
    layers = [nk.Dense(CASE.n[1], CASE.activation), nk.Dense(1, "sigmoid")]
    return [nk.Network(layers, "binary_cross_entropy", n_x=CASE.n[0], seed=seed) for seed in range(options.networks)]


def by_nnkern(X, y, shuffle):
    """The costs of the last epoch."""
    how = {"epochs": EPOCHS, "batch_size": CASE.batch, "optimizer": nk.Adam(RATE), "threads": options.threads}
    return [one["cost"][-1] for one in nk.fit_many(networks(), X, y, shuffle=shuffle, **how)]


def by_jax(X, y):
    """A function that does the same, unshuffled."""
    import jax
    import jax.numpy as jnp
    from peers.with_jax import adam, cost

    batches = jnp.asarray(X.T.reshape(-1, CASE.batch, CASE.n[0])), jnp.asarray(y.reshape(-1, CASE.batch, 1))
    value_and_gradients = jax.value_and_grad(lambda p, X, Y: cost(p, X, Y, CASE))

    def step(state, batch):
        value, gradients = value_and_gradients(state[0], *batch)
        return adam(state, gradients, RATE), value

    def epochs(parameters):
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        state = parameters, zeros, zeros, jnp.float32(0)
        _, costs = jax.lax.scan(lambda state, _: jax.lax.scan(step, state, batches), state, length=EPOCHS)
        return costs[-1].mean()

    def layers_of(net):
        p = net.parameters
        return [(p[f"W{layer}"].T, p[f"b{layer}"].ravel()) for layer in (1, 2)]

    parameters = jax.tree.map(lambda *each: jnp.stack(each), *map(layers_of, networks()))
    train = jax.jit(jax.vmap(epochs))
    return lambda: np.asarray(train(parameters))


def by_sklearn(X, y):
    from sklearn.neural_network import MLPClassifier

    how = {"hidden_layer_sizes": CASE.n[1:-1], "batch_size": CASE.batch, "max_iter": EPOCHS, "alpha": 0.0, "tol": 0.0}
    for seed in range(options.networks):
        MLPClassifier(learning_rate_init=RATE, random_state=seed, **how).fit(X.T, y)


def main() -> int:
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    X = np.asarray(rng.standard_normal((CASE.n[0], CASE.examples)), np.float32, order="F")
    y = (X[0] * X[1] > 0).astype(np.float32)
    calls = {
        f"nnkern, {name}": lambda s=s: by_nnkern(X, y, s) for name, s in (("shuffled", True), ("unshuffled", False))
    }
    try:
        calls["JAX, unshuffled"] = by_jax(X, y)
    except ImportError as error:
        print(f"left out: {error}")
    else:
        mine, peer = calls["nnkern, unshuffled"](), calls["JAX, unshuffled"]()
        off = np.abs(np.subtract(mine, peer) / peer).max()
        print(f"costs of the last epoch: largest relative difference {off:.1e}")
        if not off <= AGREEMENT:
            print(f"WRONG, not timed: it is above {AGREEMENT:.0e}")
            return 1
    times = dict.fromkeys(calls, np.inf)
    for _ in range(options.rounds):
        for name, call in calls.items():
            clock = Clock()
            call()
            times[name] = min(times[name], clock.read()[0])
    try:
        clock = Clock()
        by_sklearn(X, y)
        times["scikit-learn, shuffled, once"] = clock.read()[0]
    except ImportError as error:
        print(f"left out: {error}")
    what = f"{options.networks} networks 16-32-1, {CASE.examples} examples"
    print(f"\n{what}, {EPOCHS} epochs, {options.threads} threads, ms")
    for name, seconds in times.items():
        print(f"{name:32}{seconds * 1e3:10.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
