"""Broadcasting: the share of calories by food, and the rank-1 array that spoils it.

A column (n, 1) or a row (1, m) says along which axis it is repeated. A rank-1 array (m,) is
neither: numpy takes it for a row wherever it stands, its transpose is itself, and an error that
should have stopped the program becomes a wrong number. nnkern refuses it and names the remedy.
"""

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk

FOODS = ["apples", "beef", "eggs", "potatoes"]
NUTRIENTS = ["carbs", "protein", "fat"]
# kcal from each nutrient in 100 g of each food
CALORIES = np.array(
    [
        [56.0, 0.0, 4.4, 68.0],
        [1.2, 104.0, 52.0, 8.0],
        [1.8, 135.0, 99.0, 0.9],
    ]
)


def share(calories):
    """Per cent of each food's calories by nutrient: (3, 4) over (1, 4), no loop."""
    total = calories.sum(axis=0, keepdims=True)
    return 100 * calories / total


def error_of(Y_hat, Y):
    """Mean squared error as most people write it: right only where both have the same shape."""
    return np.mean((Y_hat - Y) ** 2)


def refusal(X, Y):
    """What nnkern says when it is asked to fit targets of this shape; None if it took them."""
    net = nk.Network([nk.Dense(1)], loss="squared_error", seed=0)
    try:
        net.fit(X, Y, epochs=1)
    except ValueError as error:
        return str(error)
    return None


def draw(percent, path):
    drawing, (axes,) = figure()
    base = np.zeros(len(FOODS))
    for name, row in zip(NUTRIENTS, percent, strict=True):
        axes.bar(FOODS, row, bottom=base, label=name)
        base += row
    axes.set(ylabel="per cent of calories")
    drawing.legend(loc="outside upper center", ncols=3)
    save(drawing, path)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    percent = share(CALORIES)
    print("per cent of calories" + "".join(f"{food:>10}" for food in FOODS))
    for nutrient, row in zip(NUTRIENTS, percent, strict=True):
        print(f"{nutrient:>20}" + "".join(f"{value:10.1f}" for value in row))

    a = np.arange(5.0)
    column = a.reshape(5, 1)
    print("\n                  a rank-1 array   a column")
    for what, ours, theirs in (
        ("a", a, column),
        ("a.T", a.T, column.T),
        ("a @ a.T", a @ a.T, column @ column.T),
        ("a + column", a + column, column + column),
    ):
        print(f"shape of {what:10} {ours.shape!s:>13} {theirs.shape!s:>10}")

    X = np.linspace(-1, 1, 50).reshape(1, 50)
    Y = 3 * X
    y = Y[0]
    print(f"\nerror of a perfect prediction where the targets have shape {y.shape}:")
    for Y_hat in (Y, Y.T):
        print(f"    predictions of shape {Y_hat.shape!s:7}  {error_of(Y_hat, y):.3f}")
    print(f"\nnnkern, given targets of shape {y.shape}, raises ValueError:\n    {refusal(X, y)}")
    print(f"given targets of shape {Y.shape}, it {refusal(X, Y) or 'trains'}")
    if options.plot:
        draw(percent, options.plot)


if __name__ == "__main__":
    run(main)
