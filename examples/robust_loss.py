"""Absolute error against squared error where some of the data is wrong.

A line y = 2x + 1 is measured with a little noise, and one measurement in ten has gone astray, far
upwards. The squared error ½(ŷ - y)² pulls with ŷ - y, so a point ten times as far pulls ten times
as hard; the absolute error |ŷ - y| pulls with its sign alone, and one point in ten is outvoted.
"""

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk

SLOPE, INTERCEPT = 2.0, 1.0
LOSSES = ("squared_error", "absolute_error")


def measurements(m=200, outliers=0.1, seed=0):
    """X (1, m) in [-2, 2], Y (1, m), and which of the columns are outliers (m,)."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, (1, m))
    Y = SLOPE * X + INTERCEPT + 0.2 * rng.standard_normal((1, m))
    # Astray more often where x is large: that tilts the line, not only lifts it.
    wrong = np.zeros(m, dtype=bool)
    wrong[np.argsort(X[0] + rng.standard_normal(m))[-round(outliers * m) :]] = True
    Y[0, wrong] += rng.uniform(8, 16, wrong.sum())
    return X, Y, wrong


def line(X, Y, loss, epochs=400):
    """Slope and intercept of one linear neuron, by full-batch gradient descent on `loss`."""
    net = nk.Network([nk.Dense(1, init="zeros")], loss=loss, dtype="float64")
    # The absolute error's gradient does not shrink near the optimum, so the steps must.
    optimizer = nk.SGD(nk.schedules.InverseTime(0.3, decay=0.02))
    net.fit(X, Y, epochs=epochs, batch_size=None, optimizer=optimizer)
    return net.parameters["W1"].item(), net.parameters["b1"].item()


def draw(X, Y, wrong, lines, path):
    drawing, (axes,) = figure()
    axes.plot(X[0, ~wrong], Y[0, ~wrong], ".", color="0.6", label="measurements")
    axes.plot(X[0, wrong], Y[0, wrong], "x", color="0.4", label="gone astray")
    ends = np.array([X.min(), X.max()])
    axes.plot(ends, SLOPE * ends + INTERCEPT, "k:", label="the truth")
    for loss, (slope, intercept) in lines.items():
        axes.plot(ends, slope * ends + intercept, label=loss)
    axes.set(xlabel="x", ylabel="y")
    axes.legend()
    save(drawing, path)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    X, Y, wrong = measurements()
    lines = {loss: line(X, Y, loss) for loss in LOSSES}
    print(f"{X.size} measurements of y = {SLOPE:g} x + {INTERCEPT:g}, {wrong.sum()} of them astray")
    for loss, (slope, intercept) in lines.items():
        print(f"  {loss:16} y = {slope:.3f} x + {intercept:.3f}")
    if options.plot:
        draw(X, Y, wrong, lines, options.plot)


if __name__ == "__main__":
    run(main)
