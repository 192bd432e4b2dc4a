"""Ad clicks: how probable is it that this reader clicks on this advertisement? One in forty does.

With so few clicks "nobody ever clicks" is right 39 times in 40, so accuracy says nothing. The cost
does: it is least for the true probabilities. And so does the place where the clicks land when the
showings are sorted by ŷ. The readers are invented by a known law; what pays is that the right topic
counts, on a telephone in the evening most, which a single neuron can't express.
"""

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk
from nnkern.data import split, take

TOPICS = ["books", "cars", "garden", "music"]
DEVICES = ["desk", "tablet", "telephone"]


def chance(ad, interest, device, hour):
    """The law: the probability of a click."""
    fits = ad == interest
    evening = (hour >= 18) & (device == "telephone")
    z = np.where(fits, -3.0, -5.0) + np.where(fits & evening, 2.5, 0.0)
    return 1 / (1 + np.exp(-z))


def invent_showings(m=20000, seed=0):
    """X (12, m): a row of 0 and 1 for each text, and the hour; Y (m,); each showing's true probability (m,)."""
    rng = np.random.default_rng(seed)
    ad, interest = rng.choice(TOPICS, (2, m))
    device, hour = rng.choice(DEVICES, m), rng.integers(0, 24, m)
    p = chance(ad, interest, device, hour)
    X = [
        text == known
        for text, all_known in ((ad, TOPICS), (interest, TOPICS), (device, DEVICES))
        for known in all_known
    ]
    return np.array([*X, hour / 12 - 1]), (rng.random(m) < p).astype(int), p


def data():
    """X_train, Y_train, X_test, Y_test, and the true probabilities of the test's showings."""
    X, Y, p = invent_showings()
    train, test = split(Y, share=1 / 4)
    return take(X, train), Y[train], take(X, test), Y[test], p[test]


def network(hidden, seed=0):
    """`hidden` relu units (none for 0), one sigmoid unit."""
    layers = [nk.Dense(hidden, "relu")] if hidden else []
    return nk.Network([*layers, nk.Dense(1, "sigmoid")], loss="binary_cross_entropy", seed=seed)


def train(net, X, Y, epochs=25):
    return net.fit(X, Y, epochs=epochs, batch_size=64, optimizer=nk.Adam(3e-3))["cost"]


def cost_of(p, Y):
    """The cross-entropy of probabilities p (m,) for labels Y (m,)."""
    return -np.mean(np.where(Y == 1, np.log(p), np.log(1 - p)))


def clicks_in_first(share, y_hat, Y):
    """Share of all clicks among that share of the showings whose ŷ is largest."""
    first = np.argsort(-y_hat, kind="stable")[: round(share * Y.size)]
    return Y[first].sum() / Y.sum()


def draw(predictions, Y, path):
    """Clicks gained over showings used, the best first."""
    drawing, (axes,) = figure()
    axes.plot([0, 1], [0, 1], "k:", linewidth=1, label="any order")
    used = np.arange(1, Y.size + 1) / Y.size
    for title, y_hat in predictions.items():
        axes.plot(used, np.cumsum(Y[np.argsort(-y_hat, kind="stable")]) / Y.sum(), label=title)
    axes.set(xlabel="showings, sorted by ŷ", ylabel="share of the clicks")
    axes.legend()
    save(drawing, path)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    X_train, Y_train, X_test, Y_test, p = data()
    rate = Y_train.mean()
    print(f"{Y_test.size} held-out showings of {X_test.shape[0]} features, {Y_test.sum()} clicks")
    predictions = {"the rate for all": np.full(Y_test.size, rate)}
    for title, hidden in (("one neuron", 0), ("32 relu units", 32)):
        net = network(hidden)
        train(net, X_train, Y_train)
        predictions[title] = net.predict(X_test)[0].astype(float)
    predictions["the law"] = p
    print("                       cost   accuracy   clicks in the first tenth")
    for title, y_hat in predictions.items():
        accuracy = np.mean((y_hat > 0.5) == Y_test)
        first = clicks_in_first(0.1, y_hat, Y_test)
        print(f"{title:18} {cost_of(y_hat, Y_test):8.4f} {accuracy:10.3f} {first:27.2f}")
    if options.plot:
        draw(
            {title: y_hat for title, y_hat in predictions.items() if title != "the rate for all"}, Y_test, options.plot
        )


if __name__ == "__main__":
    run(main)
