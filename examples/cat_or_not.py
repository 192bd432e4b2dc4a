"""Cat or not: a deep network on pictures, each a column of n_x = 64 · 64 · 3 = 12288 numbers.

    python examples/cat_or_not.py [FOLDER [PICTURE ...]]

FOLDER holds one subfolder of pictures for each class, such as cat/ and other/; the pictures are
resized to 64 by 64, unrolled channel by channel and divided by 255. Every PICTURE named after it
is classified. Without a folder the program draws itself a small one: cats' heads, and other things.
"""

import math
import tempfile
from pathlib import Path

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk
from nnkern.data import picture_features, read_pictures, require, split, take
from nnkern.plotting import learning_curve

SIDE = 64


def read(folder, wanted=None):
    """X (12288, m), Y (m,) with 1 for the pictures in `wanted`, and that class's name.

    `wanted` is the subfolder whose pictures are y = 1, by default the first in the alphabet; all
    others are y = 0.
    """
    source = read_pictures(folder, size=SIDE)
    if source.Y is None:
        raise SystemExit(f"{folder} has no subfolders: expected one for each class, with pictures")
    wanted = wanted or source.Y[0]
    Y = (wanted == source.Y).astype(np.int64)
    if not 0 < Y.sum() < Y.size:
        raise SystemExit(f"{Y.sum()} of {Y.size} pictures are in {wanted}/: expected some of them")
    return source.X, Y, wanted


def network(m, seed=0):
    """12288-20-7-5-1, relu and at last sigmoid; logistic regression where examples are few."""
    hidden = (20, 7, 5) if m >= 100 else ()
    layers = [nk.Dense(units, "relu") for units in hidden] + [nk.Dense(1, "sigmoid")]
    return nk.Network(layers, loss="binary_cross_entropy", l2=1e-3, seed=seed)


def train(net, X, Y, epochs=100):
    """The cost in each epoch. Pixels are all positive and 12288 many, so the steps are small."""
    optimizer = nk.SGD(0.003, momentum=0.9)
    return net.fit(X, Y, epochs=epochs, batch_size=32, optimizer=optimizer)["cost"]


def classify(net, path):
    """ŷ, the probability that the picture is of the wanted class."""
    return net.predict(picture_features(path, SIDE).reshape(-1, 1)).item()


def draw_picture(path, cat, rng):
    """A cat's head or a ball, house or tree, light on dark, anywhere near the middle, 96 by 96."""
    require("PIL", "drawing pictures")
    from PIL import Image, ImageDraw

    paper = tuple(rng.integers(0, 90, 3).tolist())
    ink = tuple(rng.integers(150, 256, 3).tolist())
    image = Image.new("RGB", (96, 96), paper)
    pen = ImageDraw.Draw(image)
    middle = 48 + rng.uniform(-8, 8, 2)
    r = rng.uniform(22, 30)

    def points(*corners):
        """From coordinates (right, down) in units of r to pixels."""
        return [tuple(middle + r * np.array(corner)) for corner in corners]

    def disc(x, y, radius, colour):
        pen.ellipse(points((x - radius, y - radius), (x + radius, y + radius)), fill=colour)

    if cat:
        disc(0, 0, 1, ink)
        disc(0, 0.3, 0.12, paper)
        for side in (-1, 1):
            ear = points((0.95 * side, -1.4), (0.98 * side, -0.1), (0.2 * side, -0.9))
            pen.polygon(ear, fill=ink)
            disc(0.4 * side, -0.2, 0.16, paper)
            for y in (0.25, 0.45):
                pen.line(points((0.3 * side, 0.35), (1.3 * side, y)), fill=paper, width=2)
        return image.save(path)
    thing = rng.choice(["ball", "house", "tree"])
    if thing == "ball":
        disc(0, 0, 1, ink)
        disc(*rng.uniform(-0.5, 0.5, 2), 0.3, paper)
    elif thing == "house":
        pen.rectangle(points((-1, -0.2), (1, 1)), fill=ink)
        pen.polygon(points((-1.2, -0.2), (0, -1.3), (1.2, -0.2)), fill=ink)
        pen.rectangle(points((-0.2, 0.3), (0.2, 1)), fill=paper)
    else:
        pen.polygon(points((-1, 0.6), (0, -1.4), (1, 0.6)), fill=ink)
        pen.rectangle(points((-0.2, 0.6), (0.2, 1.3)), fill=ink)
    return image.save(path)


def draw_folder(folder, m=300, seed=0):
    """Half the pictures in `folder`/cat, half in `folder`/other."""
    rng = np.random.default_rng(seed)
    for name in ("cat", "other"):
        (Path(folder) / name).mkdir(parents=True)
        for i in range(m // 2):
            draw_picture(Path(folder) / name / f"{i:03}.png", name == "cat", rng)


def draw(cost, net, X, wanted, path):
    """The learning curve, and held-out pictures with what the network takes them for."""
    drawing, (curve, *panels) = figure(columns=4, rows=2, height=2.0)
    learning_curve({"cost": cost}, ax=curve)
    chosen = np.linspace(0, X.shape[1] - 1, len(panels)).astype(int)
    for axes, i in zip(panels, chosen, strict=True):
        axes.imshow(X[:, i].reshape(3, SIDE, SIDE).transpose(1, 2, 0))
        axes.set_title(f"{wanted}: {net.predict(X[:, [i]]).item():.3f}")
        axes.axis("off")
    save(drawing, path)


def main(arguments=None):
    command = parser(__doc__)
    command.add_argument("folder", nargs="?", help="subfolders of pictures, one for each class")
    command.add_argument("picture", nargs="*", help="pictures to classify afterwards")
    command.add_argument("--wanted", help="the class of y = 1 (default: the first in the alphabet)")
    options = command.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        folder, pictures = options.folder, options.picture
        if folder is None:
            folder, pictures = Path(place) / "pictures", [Path(place) / "new picture.png"]
            draw_folder(folder)
            draw_picture(pictures[0], cat=True, rng=np.random.default_rng(1))
        X, Y, wanted = read(folder, options.wanted)
        learn, check = split(Y, share=1 / 3)
        net = network(len(learn))
        cost = train(net, take(X, learn), Y[learn])
        shape = "-".join(str(n) for n in (X.shape[0], *(layer.units for layer in net.layers)))
        print(f"{Y.size} pictures, {Y.sum()} of them {wanted}; network {shape}")
        for epoch in range(0, len(cost), math.ceil(len(cost) / 6)):
            print(f"cost in epoch {epoch + 1:3}: {cost[epoch]:.4f}")
        for name, part in (("training", learn), ("held-out", check)):
            score = net.evaluate(take(X, part), Y[part]).score
            print(f"accuracy on {len(part)} {name} pictures: {score:.3f}")
        for picture in pictures:
            y_hat = classify(net, picture)
            answer = wanted if y_hat > 0.5 else f"not {wanted}"
            print(f"{Path(picture).name}: {answer} ({wanted} with probability {y_hat:.3f})")
        if options.plot:
            draw(cost, net, take(X, check), wanted, options.plot)


if __name__ == "__main__":
    run(main)
