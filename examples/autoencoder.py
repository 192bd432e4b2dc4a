"""Compression by a linear autoencoder: 64 pixels through 10 units and back.

    A[1] = W[1] X    X̂ = W[2] A[1]    J = 1/m Σ ½ ‖x̂ - x‖²        the targets are the inputs

Without a non-linear g the network is the matrix W[2] W[1] of rank 10, and no matrix of rank 10 does
better than the first 10 principal components (Eckart and Young 1936). So the smallest possible cost
is known from the singular values: ½/m Σ_{i>10} s_i². Gradient descent gets there.
"""

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk
from nnkern.data import digits


def data():
    """X (64, 1797): the digits, entries 0 … 1, without their mean; and the mean (64, 1)."""
    X = digits().X / 16
    mean = X.mean(axis=1, keepdims=True)
    return X - mean, mean


def network(units, n_x=64, seed=0):
    layers = [nk.Dense(units, "linear", use_bias=False), nk.Dense(n_x, "linear", use_bias=False)]
    return nk.Network(layers, loss="squared_error", dtype="float64", seed=seed)


def train(net, X, epochs=150):
    optimizer = nk.Adam(nk.schedules.Cosine(0.01, epochs))
    return net.fit(X, X, epochs=epochs, batch_size=100, optimizer=optimizer)["cost"]


def smallest_cost(X, units):
    """What the best matrix of that rank leaves."""
    s = np.linalg.svd(X, compute_uv=False)
    return 0.5 * np.sum(s[units:] ** 2) / X.shape[1]


def code(net, X):
    """A[1]: what is kept of each example, (units, m)."""
    return nk.kernels.dense_forward(net.parameters["W1"], X, None, "linear")


def draw(net, X, mean, path, shown=10):
    """Digits above, what comes back below."""
    drawing, panels = figure(columns=shown, height=1.6)
    both = np.stack([X, net.predict(X)])[:, :, :shown] + mean
    gap = np.zeros((2, 8))
    for i, axes in enumerate(panels):
        above, below = both[:, :, i].reshape(2, 8, 8)
        axes.imshow(np.vstack([above, gap, below]), cmap="gray_r", vmin=0, vmax=1)
        axes.axis("off")
    save(drawing, path)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    X, mean = data()
    print("units   cost of the network   smallest possible   kept of the variance")
    for units in (2, 10, 30):
        net = network(units)
        train(net, X)
        cost, _ = net.evaluate(X, X)
        kept = 1 - cost / smallest_cost(X, 0)
        print(f"{units:5} {cost:21.4f} {smallest_cost(X, units):19.4f} {100 * kept:20.1f} %")
        if units == 10 and options.plot:
            draw(net, X, mean, options.plot)
        if units == 10:
            print(f"      one digit, 64 numbers, is kept as {code(net, X[:, :1]).shape[0]}")


if __name__ == "__main__":
    run(main)
