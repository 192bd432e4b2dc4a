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
from cases import one_hot  # noqa: E402

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def logits(parameters, X, activation):
    """Z of the last layer, examples in rows; a layer is (W of shape (n_prev, n), b of shape (n))."""
    *hidden, (W, b) = parameters
    for W_hidden, b_hidden in hidden:
        X = ACTIVATIONS[activation](X @ W_hidden + b_hidden)
    return X @ W + b


def cost(parameters, X, Y, activation):
    Z = logits(parameters, X, activation)
    if Z.shape[1] == 1:
        return jnp.mean(jnp.logaddexp(0, Z) - Y * Z)
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(Z), axis=1))


class Side:
    library = "jax"

    def describe(self) -> dict:
        flags = os.environ.get("XLA_FLAGS", "").strip()
        version = f"{jax.__version__}, jaxlib {jax.lib.__version__}"
        return {"version": version, "kernels": {"xla": flags or "its own settings"}, "threads": THREADS}

    def layers(self, case, dtype, parameters) -> list:
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

        def step(parameters, batch):
            value, gradients = jax.value_and_grad(cost)(parameters, *batch, case.activation)
            moved = jax.tree.map(lambda p, g: p - case.learning_rate * g, parameters, gradients)
            return moved, value

        def epoch(parameters, batches, last, pick=lambda batch: batch):
            """`batches` are (full, batch, ...), `last` is the smaller one that may be left over."""
            parameters, values = jax.lax.scan(lambda p, batch: step(p, pick(batch)), parameters, batches)
            total = jnp.sum(values) * case.batch
            if rest:
                parameters, value = step(parameters, pick(last))
                total += value * rest
            return parameters, total / case.examples

        X = jnp.asarray(np.ascontiguousarray(X.T, dtype))
        Y = jnp.asarray(np.ascontiguousarray(one_hot(labels, case.n[-1], dtype).T))
        if case.shuffle:

            def shuffled(parameters, X, Y, order):
                def pick(part):
                    return X[part], Y[part]

                return epoch(parameters, order[:cut].reshape(full, case.batch), order[cut:], pick)

            run = jax.jit(shuffled, donate_argnums=0)
            self.epoch = lambda p: run(p, X, Y, self.rng.permutation(case.examples).astype(np.int32))
        else:
            batches = tuple(data[:cut].reshape(full, case.batch, -1) for data in (X, Y))
            last = (X[cut:], Y[cut:]) if rest else None
            run = jax.jit(epoch, donate_argnums=0)
            self.epoch = lambda p: run(p, batches, last)

    def load(self, parameters):
        self.layers_ = jax.block_until_ready(self.layers(self.case, self.dtype, parameters))

    def train(self, epochs):
        costs = []
        for _ in range(epochs):
            self.layers_, value = self.epoch(self.layers_)
            costs.append(value)
        jax.block_until_ready(self.layers_)
        return costs

    def parameters(self):
        pairs = enumerate(self.layers_, 1)
        named = {name: array for k, (W, b) in pairs for name, array in ((f"W{k}", W.T), (f"b{k}", b[:, None]))}
        return {name: np.asarray(array) for name, array in named.items()}

    def predictor(self, case, dtype, threads, parameters, X):
        jax.config.update("jax_enable_x64", dtype == "float64")
        layers = self.layers(case, dtype, parameters)
        # Parameters that don't change are constants of the compiled function.
        predict = jax.jit(lambda X: jax.nn.softmax(logits(layers, X, case.activation)))
        X = jnp.asarray(np.ascontiguousarray(X.T, dtype))
        return lambda: predict(X).block_until_ready(), lambda: np.asarray(predict(X)).T.copy()
