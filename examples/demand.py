"""Demand: will an article be among those that sell best? Four features, three hidden units, one answer.

    x = (price, shipping, marketing, quality)    A[1] = σ(W[1] x + b[1])    ŷ = σ(W[2] A[1] + b[2])

One thinks of the hidden units as affordability, awareness and perceived quality, each from some of the
features. Nobody tells the network so: it finds its own three. The articles are invented by a law
of exactly that form, so that the best possible accuracy is known.
"""

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk
from nnkern.data import Arrays, Preprocessor, Target, split, take

FEATURES = ["price", "shipping", "marketing", "quality"]


def sigma(Z):
    return 1 / (1 + np.exp(-Z))


def chance(X):
    """The law: the probability (1, m) that an article of features X (4, m) sells best."""
    price, shipping, marketing, quality = X
    affordability = sigma(6 - 0.15 * (price + 2 * shipping))
    awareness = sigma(0.5 * marketing - 3)
    perceived_quality = sigma(0.8 * quality + 0.05 * price - 6)
    return sigma(10 * (affordability + awareness + perceived_quality) - 17).reshape(1, -1)


def articles(m=4000, seed=0):
    """X (4, m): two prices, a budget in thousands, a mark from 1 to 10; Y (m,)."""
    rng = np.random.default_rng(seed)
    X = rng.uniform([[5], [0], [0], [1]], [[60], [15], [12], [10]], (4, m))
    return X, (rng.random(m) < chance(X)[0]).astype(int)


def data():
    """X_train, Y_train, X_test, Y_test; features standardised by the training examples; and the test articles."""
    X, Y = articles()
    train, test = split(Y, share=1 / 4)
    source = Arrays(X, Y, "articles")
    features = Preprocessor.fit(source, Target("classification", Y), rows=train).features(source)
    return take(features, train), Y[train], take(features, test), Y[test], X[:, test]


def network(hidden, seed=0):
    """4-`hidden`-1 sigmoid units; logistic regression where `hidden` is 0."""
    layers = [nk.Dense(hidden, "sigmoid")] if hidden else []
    return nk.Network([*layers, nk.Dense(1, "sigmoid")], loss="binary_cross_entropy", dtype="float64", seed=seed)


def train(net, X, Y, epochs=150):
    return net.fit(X, Y, epochs=epochs, batch_size=32, optimizer=nk.Adam(0.01))["cost"]


def draw(nets, X, true, path):
    """Predicted over true probabilities."""
    drawing, panels = figure(columns=len(nets))
    for axes, (title, net) in zip(panels, nets.items(), strict=True):
        axes.plot([0, 1], [0, 1], "k:", linewidth=1)
        axes.plot(true[0], net.predict(X)[0], ".", markersize=3)
        axes.set(xlabel="true probability", ylabel="ŷ", title=title)
    save(drawing, path)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    X_train, Y_train, X_test, Y_test, raw = data()
    true = chance(raw)
    best = np.mean((true[0] > 0.5) == Y_test)
    print(f"{Y_test.size} held-out articles: knowing the law gives accuracy {best:.3f}")
    nets = {"one neuron": network(0), "three hidden units": network(3)}
    for title, net in nets.items():
        train(net, X_train, Y_train)
        off = np.abs(net.predict(X_test) - true).mean()
        print(f"{title:20} accuracy {net.evaluate(X_test, Y_test).score:.3f}, ŷ off by {off:.3f} on average")
    if options.plot:
        draw(nets, X_test, true, options.plot)


if __name__ == "__main__":
    run(main)
