"""Logistic regression as a network of one neuron, on real data: breast cancer, 30 features.

    Z = W X + b,  A = σ(Z),  J = 1/m Σ -(y log a + (1-y) log(1-a)),  W := W - α dW,  b := b - α db

The cost is convex, so the weights may start at zero, and with a small enough learning rate every
step of full-batch gradient descent lowers it.
"""

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk
from nnkern.data import require, split
from nnkern.plotting import learning_curve


def data():
    """X_train (30, 379), Y_train (379,), X_test, Y_test; standardised by the training examples."""
    require("sklearn", "this example")
    from sklearn.datasets import load_breast_cancer

    X, Y = load_breast_cancer(return_X_y=True)
    train, test = split(Y, share=1 / 3)
    X -= X[train].mean(axis=0)
    X /= X[train].std(axis=0)
    return X[train].T, Y[train], X[test].T, Y[test]


def train(X, Y, learning_rate=0.1, epochs=1000):
    """The fitted network and its cost before each step."""
    net = nk.Network([nk.Dense(1, "sigmoid", init="zeros")], loss="binary_cross_entropy", dtype="float64")
    history = net.fit(X, Y, epochs=epochs, batch_size=None, optimizer=nk.SGD(learning_rate))
    return net, np.array(history["cost"])


def draw(X, Y, path):
    """The first steps with rates that are too small, right, and too large."""
    drawing, (axes,) = figure()
    rates = (0.001, 0.01, 0.1, 100.0)
    histories = [{"cost": train(X, Y, learning_rate, epochs=50)[1]} for learning_rate in rates]
    learning_curve(histories, labels=[f"α = {rate:g}" for rate in rates], ax=axes)
    axes.set(xlabel="steps", ylabel="cost J", yscale="log")
    ticks = (0.1, 0.2, 0.5, 1, 2, 5)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    save(drawing, path)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    X_train, Y_train, X_test, Y_test = data()
    net, cost = train(X_train, Y_train)
    for step in range(0, len(cost), 100):
        print(f"cost after {step:4} steps: {cost[step]:.6f}")
    for name, X, Y in (("training", X_train, Y_train), ("held-out", X_test, Y_test)):
        print(f"accuracy on {Y.size} {name} examples: {net.evaluate(X, Y).score:.3f}")
    if options.plot:
        draw(X_train, Y_train, options.plot)


if __name__ == "__main__":
    run(main)
