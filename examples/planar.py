"""One hidden layer on a planar two-class problem, and why its weights may not all start at zero.

    Z[1] = W[1] X + b[1],  A[1] = tanh(Z[1]),  Z[2] = W[2] A[1] + b[2],  A[2] = σ(Z[2])

The classes are the petals of a flower, which no straight line parts; four tanh units do it. With
all weights zero, or all equal, every hidden unit computes the same, gets the same gradient, and
stays the same for ever: four units are then worth one.
"""

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk
from nnkern.plotting import decision_boundary


def flower(m=400, petals=4, noise=0.2, seed=0):
    """X (2, m) on the rose r = 4 sin(petals t); Y (1, m): 0 on its first half turn, then 1."""
    rng = np.random.default_rng(seed)
    Y = np.arange(m) % 2
    t = np.pi * (Y + rng.random(m)) + noise * rng.standard_normal(m)
    r = 4 * np.sin(petals * t) + noise * rng.standard_normal(m)
    return np.stack([r * np.sin(t), r * np.cos(t)]), Y.reshape(1, m)


def network(hidden=4, init=(None, None), seed=0):
    """2 inputs, `hidden` tanh units, one sigmoid unit; `init` names each layer's first weights."""
    layers = [nk.Dense(hidden, "tanh", init=init[0]), nk.Dense(1, "sigmoid", init=init[1])]
    return nk.Network(layers, loss="binary_cross_entropy", n_x=2, dtype="float64", seed=seed)


def train(net, X, Y, epochs=5000, learning_rate=1.2):
    """Full-batch gradient descent; the costs, one an epoch."""
    history = net.fit(X, Y, epochs=epochs, batch_size=None, optimizer=nk.SGD(learning_rate))
    return history["cost"]


def spread(net):
    """How far the hidden units are apart: the largest difference of any weight from unit 1's."""
    parameters = net.parameters
    units = np.hstack([parameters["W1"], parameters["b1"], parameters["W2"].T])
    return np.abs(units - units[0]).max()


def draw(nets, X, Y, path):
    drawing, panels = figure(columns=2, rows=len(nets) // 2, height=3.5)
    for axes, (title, net) in zip(panels, nets.items(), strict=True):
        decision_boundary(net, X, Y, points=300, ax=axes)
        accuracy = net.evaluate(X, Y).score
        axes.set(title=f"{title}: {100 * accuracy:.0f} %", aspect="equal")
    save(drawing, path)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    X, Y = flower()
    ones = np.ones((4, 2)), np.ones((1, 4))
    nets = {
        "a straight line": nk.Network([nk.Dense(1, "sigmoid")], loss="binary_cross_entropy", seed=0),
        "4 units, random": network(),
        "4 units, all zero": network(init=("zeros", "zeros")),
        "4 units, all one": network(init=ones),
    }
    print("start of the weights   cost first    last   accuracy   hidden units apart by")
    for title, net in nets.items():
        cost = train(net, X, Y)
        apart = f"{spread(net):.3g}" if net.L == 2 else ""
        accuracy = net.evaluate(X, Y).score
        print(f"{title:20} {cost[0]:12.4f} {cost[-1]:7.4f} {accuracy:10.3f}   {apart}")
    if options.plot:
        draw(nets, X, Y, options.plot)


if __name__ == "__main__":
    run(main)
