"""Loops against vectors: a dot product of a million terms, and one step of logistic regression.

    z(i) = wᵀx(i) + b,  a(i) = σ(z(i)),  dz(i) = a(i) - y(i)
    J = 1/m Σ L(a(i), y(i)),  dw = 1/m Σ x(i) dz(i),  db = 1/m Σ dz(i)

The step is written four times, with two explicit loops, one, none, and through nnkern. All four
give the same J, dw (n_x, 1) and db; they differ in time.
"""

import math
import timeit

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk


def dot_loop(u, v):
    """Σ u_k v_k, one term after the other; u and v of shape (n,)."""
    z = 0.0
    for k in range(len(u)):
        z += u[k] * v[k]
    return z


def step_two_loops(w, b, X, Y):
    """w (n_x, 1), X (n_x, m), Y (1, m): a loop over examples and, inside, loops over features."""
    n_x, m = X.shape
    J, db, dw = 0.0, 0.0, np.zeros((n_x, 1))
    for i in range(m):
        z = b
        for j in range(n_x):
            z += w[j, 0] * X[j, i]
        a = 1 / (1 + math.exp(-z))
        y = Y[0, i]
        J -= y * math.log(a) + (1 - y) * math.log(1 - a)
        dz = a - y
        for j in range(n_x):
            dw[j, 0] += X[j, i] * dz
        db += dz
    return J / m, dw / m, db / m


def step_one_loop(w, b, X, Y):
    """The features as vectors, a loop over examples."""
    n_x, m = X.shape
    J, db, dw = 0.0, 0.0, np.zeros((n_x, 1))
    for i in range(m):
        x, y = X[:, i : i + 1], Y[0, i]
        z = (w.T @ x).item() + b
        a = 1 / (1 + math.exp(-z))
        J -= y * math.log(a) + (1 - y) * math.log(1 - a)
        dz = a - y
        dw += x * dz
        db += dz
    return J / m, dw / m, db / m


def step_no_loop(w, b, X, Y):
    """All examples at once."""
    m = X.shape[1]
    A = 1 / (1 + np.exp(-(w.T @ X + b)))
    J = -np.mean(Y * np.log(A) + (1 - Y) * np.log(1 - A))
    dZ = A - Y
    return J, X @ dZ.T / m, np.sum(dZ) / m


def step_nnkern(w, b, X, Y):
    """A layer of one unit: its forward pass, sigmoid and loss in one pass, its backward pass."""
    W, b = w.T, np.full((1, 1), b)
    Z = nk.kernels.dense_forward(W, X, b, "linear")
    J, _, dZ = nk.kernels.binary_cross_entropy(Z, Y)
    _, dW, db, _ = nk.kernels.dense_backward(dZ, W, X, Z, "linear", need_dA_prev=False)
    return J, dW.T, db.item()


STEPS = {
    "two loops": step_two_loops,
    "one loop": step_one_loop,
    "no loop, numpy": step_no_loop,
    "nnkern": step_nnkern,
}


def problem(n_x, m, seed=0):
    """A small random start (w, b), examples X and labels Y that a line separates, with mistakes."""
    rng = np.random.default_rng(seed)
    # In Fortran order an example, a column, is contiguous: the way nnkern keeps data.
    X = np.asfortranarray(rng.standard_normal((n_x, m)))
    truth = rng.standard_normal((1, n_x))
    Y = (truth @ X + rng.standard_normal((1, m)) > 0).astype(float)
    return 0.1 * rng.standard_normal((n_x, 1)), 0.1, X, Y


def seconds(f, *operands):
    """The best time of a call; quick ones are called for about half a second."""
    timer = timeit.Timer(lambda: f(*operands))
    once = timer.timeit(1)
    if once > 0.1:
        return once
    repeats = min(1000, int(0.5 / once) + 1)
    return min(once, *timer.repeat(repeats, number=1))


def table(times):
    """Milliseconds of each form, and how many times as fast as the first it is."""
    first = next(iter(times.values()))
    return "\n".join(f"  {name:16}{1e3 * t:12.3f} ms{first / t:9,.0f} ×" for name, t in times.items())


def draw(dot_times, step_times, path):
    drawing, panels = figure(columns=2, height=3.2)
    titles = ("dot product of a million terms", "one step of logistic regression")
    for axes, times, title in zip(panels, (dot_times, step_times), titles, strict=True):
        bars = axes.barh(list(times), [1e3 * t for t in times.values()])
        axes.bar_label(bars, fmt=lambda ms: f"{ms:.3g}" if ms < 100 else f"{ms:.0f}", padding=3)
        axes.set(xscale="log", xlabel="milliseconds", title=title)
        axes.invert_yaxis()
        axes.margins(x=0.3)
    save(drawing, path)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    u, v = np.random.default_rng(0).random((2, 1_000_000))
    dot_times = {"a loop": seconds(dot_loop, u, v), "one call": seconds(np.dot, u, v)}
    print(f"dot product of {len(u):,} terms: {dot_loop(u, v):.6f} and {np.dot(u, v):.6f}")
    print(table(dot_times))

    w, b, X, Y = problem(n_x=64, m=10_000)
    print(f"\none step of logistic regression, n_x = {X.shape[0]}, m = {X.shape[1]:,}")
    results = {name: step(w, b, X, Y) for name, step in STEPS.items()}
    step_times = {name: seconds(step, w, b, X, Y) for name, step in STEPS.items()}
    for name, (J, dw, db) in results.items():
        print(f"  {name:16}J = {J:.12f}   dw[0] = {dw[0, 0]:+.12f}   db = {db:+.12f}")
    print(table(step_times))
    if options.plot:
        draw(dot_times, step_times, options.plot)


if __name__ == "__main__":
    run(main)
