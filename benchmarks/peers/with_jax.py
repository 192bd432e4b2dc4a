"""JAX: a whole epoch is one jitted lax.scan with donated parameters; prediction is one jitted function."""

from __future__ import annotations

import os

# Read when XLA's client is created, whose pool has one thread for each processor of this process.
THREADS = int(os.environ["OMP_NUM_THREADS"])
os.environ["NPROC"] = str(THREADS)
os.environ["JAX_PLATFORMS"] = "cpu"
if THREADS == 1:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from cases import TableCase, one_hot  # noqa: E402
from reference import BETA1, BETA2, EPS  # noqa: E402

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def logits(parameters, X, activation):
    """Z of the last layer, examples in rows; a layer is (W of shape (n_prev, n), b of shape (n))."""
    *hidden, (W, b) = parameters
    for W_hidden, b_hidden in hidden:
        X = ACTIVATIONS[activation](X @ W_hidden + b_hidden)
    return X @ W + b


def table_logits(p, X, case):
    """The same of a network for tables, p being named as `case.shapes` has them, but W (n_prev, n)."""
    x, codes = X[0].T[:, :, None], X[1]
    # numbers before examples: products of matrices side by side, which XLA is faster at than with the examples first
    features = jnp.cos(2 * jnp.pi * p["w1"][:, None] * x + p["b1"][:, None])
    mapped = features @ p["M1"][:, :-1] + p["M1"][:, -1:]
    numbers = jnp.concatenate([x, mapped], axis=2).transpose(1, 0, 2)
    A = p["s2"] * jnp.concatenate([part.reshape(len(codes), -1) for part in (numbers, p["E1"][codes])], axis=1)
    *hidden, last = range(case.before + 1, case.before + len(case.n))
    for layer in hidden:
        Z, a = A @ p[f"W{layer}"] + p[f"b{layer}"], p[f"a{layer}"]
        A = a * jax.nn.selu(Z) + (1 - a) * Z
    return A @ p[f"W{last}"] + p[f"b{last}"]


def sgd(state, gradients, rate):
    return (jax.tree.map(lambda p, g: p - rate * g, state[0], gradients),)


def adam(state, gradients, rate):
    """State is (parameters, m, v, step)."""
    parameters, m, v, t = state
    t += 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, gradients)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, gradients)
    scale, root = rate / (1 - BETA1**t), 1 / jnp.sqrt(1 - BETA2**t)
    moved = jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(v) * root + EPS), parameters, m, v)
    return moved, m, v, t


def cost(parameters, X, Y, case):
    """The mean over the examples of a batch."""
    Z = table_logits(parameters, X, case) if isinstance(case, TableCase) else logits(parameters, X, case.activation)
    if Z.shape[1] == 1:
        return jnp.mean(jnp.logaddexp(0, Z) - Y * Z)
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(Z), axis=1))


class Side:
    library = "jax"
    tables = True

    def describe(self) -> dict:
        flags = os.environ.get("XLA_FLAGS", "").strip()
        version = f"{jax.__version__}, jaxlib {jax.lib.__version__}"
        return {"version": version, "kernels": {"xla": flags or "its own settings"}, "threads": THREADS}

    def layers(self, case, dtype, parameters) -> list | dict:
        if isinstance(case, TableCase):
            arranged = {name: parameters[name].reshape(shape) for name, shape in case.shapes.items()}
            return {name: jnp.asarray(p.T if name[0] == "W" else p, dtype) for name, p in arranged.items()}
        return [
            (jnp.asarray(parameters[f"W{k}"].T, dtype), jnp.asarray(parameters[f"b{k}"][:, 0], dtype))
            for k in range(1, len(case.n))
        ]

    def prepare_training(self, case, dtype, threads, X, labels):
        jax.config.update("jax_enable_x64", dtype == "float64")
        self.case, self.dtype = case, dtype
        full, rest = divmod(case.examples, case.batch)
        cut = full * case.batch
        self.rng = np.random.default_rng(0)

        update = {"sgd": sgd, "adam": adam}[case.optimizer]

        def step(state, batch):
            value, gradients = jax.value_and_grad(cost)(state[0], *batch, case)
            return update(state, gradients, case.learning_rate), value

        def epoch(state, batches, last, pick=lambda batch: batch):
            """`batches` are (full, batch, ...), `last` is the smaller one that may be left over."""
            state, values = jax.lax.scan(lambda state, batch: step(state, pick(batch)), state, batches)
            total = jnp.sum(values) * case.batch
            if rest:
                state, value = step(state, pick(last))
                total += value * rest
            return state, total / case.examples

        if isinstance(case, TableCase):
            first = case.codes * np.arange(case.categories)
            X = jnp.asarray(X[: case.numbers].T, dtype), jnp.asarray(X[case.numbers :].T + first, np.int32)
        else:
            X = jnp.asarray(np.ascontiguousarray(X.T, dtype))
        Y = jnp.asarray(np.ascontiguousarray(one_hot(labels, case.n[-1], dtype).T))
        if case.shuffle:

            def shuffled(state, X, Y, order):
                def pick(part):
                    return X[part], Y[part]

                return epoch(state, order[:cut].reshape(full, case.batch), order[cut:], pick)

            run = jax.jit(shuffled, donate_argnums=0)
            self.epoch = lambda state: run(state, X, Y, self.rng.permutation(case.examples).astype(np.int32))
        else:
            batches = jax.tree.map(lambda data: data[:cut].reshape(full, case.batch, -1), (X, Y))
            last = jax.tree.map(lambda data: data[cut:], (X, Y)) if rest else None
            run = jax.jit(epoch, donate_argnums=0)
            self.epoch = lambda state: run(state, batches, last)

    def load(self, parameters):
        layers = self.layers(self.case, self.dtype, parameters)
        self.state = (layers,)
        if self.case.optimizer == "adam":
            # m and v are donated, so they can't be the same arrays
            m, v = (jax.tree.map(jnp.zeros_like, layers) for _ in range(2))
            self.state = layers, m, v, jnp.zeros((), self.dtype)
        jax.block_until_ready(self.state)

    def train(self, epochs):
        costs = []
        for _ in range(epochs):
            self.state, value = self.epoch(self.state)
            costs.append(value)
        jax.block_until_ready(self.state)
        return costs

    def parameters(self):
        if isinstance(self.case, TableCase):
            held = {name: np.asarray(p) for name, p in self.state[0].items()}
            return {name: p.T if name[0] == "W" else p.reshape(-1, 1) for name, p in held.items()}
        pairs = enumerate(self.state[0], 1)
        named = {name: array for k, (W, b) in pairs for name, array in ((f"W{k}", W.T), (f"b{k}", b[:, None]))}
        return {name: np.asarray(array) for name, array in named.items()}

    def predictor(self, case, dtype, threads, parameters, X):
        jax.config.update("jax_enable_x64", dtype == "float64")
        layers = self.layers(case, dtype, parameters)
        # Parameters that don't change are constants of the compiled function.
        predict = jax.jit(lambda X: jax.nn.softmax(logits(layers, X, case.activation)))
        X = jnp.asarray(np.ascontiguousarray(X.T, dtype))
        return lambda: predict(X).block_until_ready(), lambda: np.asarray(predict(X)).T.copy()
