"""Handwritten digits, ten classes: a hidden layer of relu units and softmax over the outputs.

    Z[1] = W[1] X + b[1],  A[1] = relu(Z[1]),  Z[2] = W[2] A[1] + b[2],  A[2] = softmax(Z[2])
    L(ŷ, y) = -Σ_k y_k log ŷ_k

A picture of 8×8 pixels is one column of 64 numbers, and its label one of the integers 0 to 9.
"""

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk
from nnkern.data import digits, split, take
from nnkern.plotting import confusion, confusion_matrix, learning_curve, weight_images


def data():
    """X_train (64, 1198) in [0, 1], Y_train (1198,), and a stratified third held out."""
    source = digits()
    train, test = split(source.Y, share=1 / 3)
    X = source.X / 16
    return take(X, train), source.Y[train], take(X, test), source.Y[test]


def train(X, Y, validation_data=None, epochs=60, seed=0):
    """The fitted 64-256-10 network and its history; dropout keeps it from learning by heart."""
    layers = [nk.Dense(256, "relu", dropout=0.4), nk.Dense(10, "softmax")]
    net = nk.Network(layers, loss="cross_entropy", seed=seed)
    history = net.fit(
        X,
        Y,
        epochs=epochs,
        batch_size=32,
        optimizer=nk.Adam(nk.schedules.Cosine(4e-3, epochs)),
        validation_data=validation_data,
    )
    return net, history


def draw(net, history, X, Y, Y_hat, path):
    """The learning curve, what went wrong, what the first units look for, and three digits that were misread."""
    drawing, panels = figure(columns=3, rows=2, height=2.5)
    curve, matrix, weights, *pictures = panels
    learning_curve(history, ax=curve).set(yscale="log")
    confusion_matrix(Y, Y_hat, ax=matrix)
    weight_images(net, units=range(25), ax=weights).set(title="weights of 25 units")
    for axes in pictures:
        axes.axis("off")
    for axes, i in zip(pictures, np.flatnonzero(Y_hat != Y), strict=False):
        axes.imshow(X[:, i].reshape(8, 8), cmap="gray_r")
        axes.set_title(f"{Y[i]} read as {Y_hat[i]}")
    save(drawing, path)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    X_train, Y_train, X_test, Y_test = data()
    net, history = train(X_train, Y_train, validation_data=(X_test, Y_test))
    for epoch in range(9, len(history["cost"]), 10):
        cost, held_out = history["cost"][epoch], history["val_cost"][epoch]
        print(f"epoch {epoch + 1:3}: cost {cost:.4f}, of the held-out third {held_out:.4f}")
    Y_hat = net.predict_labels(X_test)
    print(f"\ndigit written (row) and read (column)\n{confusion(Y_test, Y_hat)}")
    print(f"\naccuracy on {Y_test.size} held-out digits: {net.evaluate(X_test, Y_test).score:.4f}")
    if options.plot:
        draw(net, history, X_test, Y_test, Y_hat, options.plot)


if __name__ == "__main__":
    run(main)
