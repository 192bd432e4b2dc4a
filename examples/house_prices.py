"""Regression with relu units: house prices from a CSV file, and a real data set, diabetes.

    python examples/house_prices.py [HOUSES.csv] [--target price]

    A[1] = relu(W[1] X + b[1]),  ŷ = W[2] A[1] + b[2] or relu of it,  L(ŷ, y) = ½(ŷ - y)²

A price is never negative, and neither is what a relu unit puts out. Columns of text, such as the
district, become one 0/1 feature for each category. Without a file the program invents houses by a
known law, so that the best possible error is known: the noise.
"""

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk
from nnkern.data import Arrays, DataError, Preprocessor, choose_target, require, split, take

NOISE = 12.0  # standard deviation of the invented prices, in thousands
DISTRICTS = {"centre": 1.5, "suburb": 1.0, "village": 0.6}  # what a square metre is worth there


def price(size, bedrooms, age, district):
    """The law of the invented prices, in thousands, before noise; an old small house is worth 0."""
    return np.maximum(0, 3 * size * DISTRICTS[district] + 15 * bedrooms - 3 * age)


def invent_houses(m=900, seed=0):
    """{name: column} of m houses."""
    rng = np.random.default_rng(seed)
    size, age, bedrooms = rng.uniform(20, 160, m), rng.uniform(0, 90, m), rng.integers(1, 6, m)
    district = rng.choice(list(DISTRICTS), m)
    worth = np.array([price(*house) for house in zip(size, bedrooms, age, district, strict=True)])
    paid = np.where(worth > 0, np.maximum(0, worth + NOISE * rng.standard_normal(m)), 0)
    return {"size": size, "bedrooms": bedrooms, "age": age, "district": district, "price": paid}


def read_houses(path):
    """{name: column} of a CSV file."""
    from nnkern.tabular.reading import read_table

    try:
        table = read_table(path)
    except ValueError as error:
        raise DataError(str(error)) from error
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def houses_of(columns, target):
    """X with a row for each column of numbers and for each category of the others; Y."""
    if target not in columns:
        raise DataError(f"there is no column {target!r}, but {', '.join(columns)}")
    rows = []
    for name, values in columns.items():
        if name != target:
            rows += [values] if values.dtype.kind in "iuf" else [values == category for category in np.unique(values)]
    return Arrays(np.array(rows, float), columns[target].astype(float), "houses")


def diabetes():
    """442 patients, 10 features, how far the disease has gone a year later."""
    require("sklearn", "the diabetes data set")
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    return Arrays(X.T, y, "diabetes")


def prepare(source):
    """X_train, Y_train, X_test, Y_test, a third held out; features standardised, Y as it is."""
    target = choose_target(source, "regression")
    learn, check = split(source.m, share=1 / 3)
    X = Preprocessor.fit(source, target, rows=learn).features(source)
    return take(X, learn), target.Y[:, learn], take(X, check), target.Y[:, check]


def network(hidden, output, l2=0.0, seed=0):
    """`hidden` relu units (none for 0) and one unit of the activation `output`."""
    layers = [nk.Dense(hidden, "relu")] if hidden else []
    return nk.Network([*layers, nk.Dense(1, output)], loss="squared_error", l2=l2, dtype="float64", seed=seed)


def fit_and_evaluate(net, X_train, Y_train, X_test, Y_test, epochs=200):
    """Held-out R² and root of the mean squared error, in the target's unit, and predictions."""
    unit = Y_train.mean()  # the network learns Y / unit, numbers of about 1
    net.fit(X_train, Y_train / unit, epochs=epochs, batch_size=32, optimizer=nk.Adam(3e-3))
    Y_hat = unit * net.predict(X_test)
    score = net.evaluate(X_test, Y_test / unit).score
    return score, np.sqrt(np.mean((Y_hat - Y_test) ** 2)), Y_hat


def draw(results, path):
    """Predicted over true values."""
    drawing, panels = figure(columns=2, rows=len(results) // 2, height=3.2)
    for axes, (title, Y, Y_hat) in zip(panels, results, strict=True):
        ends = [min(Y.min(), Y_hat.min()), max(Y.max(), Y_hat.max())]
        axes.plot(ends, ends, "k:", linewidth=1)
        axes.plot(Y[0], Y_hat[0], ".")
        axes.set(xlabel="true", ylabel="predicted", title=title)
    save(drawing, path)


def main(arguments=None):
    command = parser(__doc__)
    command.add_argument("houses", nargs="?", help="a CSV file with a header")
    command.add_argument("--target", default="price", help="the column to predict (default: price)")
    options = command.parse_args(arguments)
    if options.houses:
        columns = read_houses(options.houses)
    else:
        columns = invent_houses()
        print(f"invented prices, with noise of {NOISE:g}: the error can't be much below that")
    houses = prepare(houses_of(columns, options.target))
    patients = prepare(diabetes())
    results = []
    print("held out:                           R²     error (RMSE)")
    for title, data, hidden, output, l2 in (
        ("houses, one linear neuron", houses, 0, "linear", 0.0),
        ("houses, 16 relu, relu output", houses, 16, "relu", 0.0),
        ("diabetes, one linear neuron", patients, 0, "linear", 0.0),
        ("diabetes, 16 relu, linear output", patients, 16, "linear", 0.1),
    ):
        score, error, Y_hat = fit_and_evaluate(network(hidden, output, l2), *data)
        print(f"{title:34} {score:.3f} {error:12.1f}")
        results.append((title, data[3], Y_hat))
    if options.plot:
        draw(results, options.plot)


if __name__ == "__main__":
    run(main)
