"""The command line: train, predict, evaluate, info, bench, and every way to get it wrong."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from commands import one_line, rows

import nnkern as nk
from nnkern import data as nkdata
from nnkern.cli.models import RECORD
from nnkern.state import of

pytest.importorskip("sklearn", reason="draws what is held out")
pytest_plugins = ["commands"]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and pipes of POSIX")
pictures = pytest.mark.skipif(not importlib.util.find_spec("PIL"), reason="pictures need Pillow")


def process(*arguments, **options):
    """The same in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "nnkern", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def number_after(name, text):
    return float(re.search(rf"{name} (-?[0-9.e+-]+)", text)[1])


def write_flowers(path, m=240):
    """Three well separated classes from a number and two of 0 and 1."""
    rng = np.random.default_rng(0)
    kind = np.arange(m) % 3
    X = np.array([np.array([1, 2, 6])[kind] + rng.normal(size=m) / 4, kind > 0, kind == 0], float)
    np.savez(path, X=X, Y=np.array(["daisy", "rose", "tulip"])[kind])
    return path


def write_houses(path, m=300):
    """price = 3000 · size + 50000 in the town, − 20000 outside, and a little noise."""
    rng = np.random.default_rng(1)
    size, town = rng.uniform(30, 200, m), np.arange(m) % 2 == 0
    np.savez(
        path, X=[size, town, np.ones(m)], Y=3000 * size + np.where(town, 50000, -20000) + rng.normal(size=m) * 1000
    )
    return path


def write_pictures(folder, n=20):
    image = pytest.importorskip("PIL.Image", reason="pictures need Pillow")
    rng = np.random.default_rng(2)
    for kind, channel in (("cat", 0), ("not cat", 2)):
        (folder / kind).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 120, (10, 12, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            image.fromarray(pixels).save(folder / kind / f"{i:02}.png")
    return folder


# --- training, and what becomes of the model ---------------------------------------------------


def test_digits_by_default(good, tmp_path):
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    out = good("train", "--quiet", "--save", "m.npz")
    assert number_after("held-out accuracy", out) >= 0.97
    assert "(599 examples)" in out
    seconds, rate = re.search(r"^trained in (\d+\.\d\d) s, ([\d,]+) examples per second$", out, re.MULTILINE).groups()
    rate = float(rate.replace(",", ""))
    # all epochs over the examples that aren't held out, within what the seconds are rounded by: a hundred at the most
    trained = (float(seconds) - 0.005) * rate, (float(seconds) + 0.005) * rate
    assert trained[0] <= 100 * 1198
    assert trained[1] >= 1198
    assert number_after("accuracy", good("evaluate", "m.npz")) >= 0.98
    table = rows(good("predict", "m.npz"))
    assert table[0] == ["label", *(f"p({i})" for i in range(10))]
    assert len(table) == 1798
    P = np.array(table[1:], float)
    assert (P[:, 1:].argmax(axis=1) == P[:, 0]).all()
    np.testing.assert_allclose(P[:, 1:].sum(axis=1), 1, rtol=1e-5)


def test_same_seed_same_model(good, tmp_path):
    flowers = write_flowers(tmp_path / "f.npz")
    outs = []
    for seed in (3, 3, 4):
        good("train", flowers, "--quiet", "--epochs", 3, "--seed", seed, "--save", "m.npz")
        outs.append(good("predict", "m.npz", flowers))
    assert outs[0] == outs[1]
    assert outs[0] != outs[2]


def test_two_classes(good, tmp_path):
    flowers = write_flowers(tmp_path / "f.npz")
    arrays = dict(np.load(flowers))
    np.savez(flowers, X=arrays["X"], Y=np.where(arrays["Y"] == "daisy", "daisy", "no"))
    for loss in ((), ("--loss", "cross_entropy")):
        out = good("train", flowers, "--quiet", "--epochs", 100, "--save", "m.npz", *loss)
        assert number_after("held-out accuracy", out) >= 0.98
        assert nk.load("m.npz").n_y == (2 if loss else 1)
        table = rows(good("predict", "m.npz", flowers))
        assert table[0] == ["label", "p(daisy)", "p(no)"]
        P = np.array([row[1:] for row in table[1:]], float)
        np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-6)
        assert all((row[0] == "no") == (p[1] > 0.5) for row, p in zip(table[1:], P, strict=True))


def test_absolute_error_and_no_hidden_layer(good, tmp_path):
    houses = write_houses(tmp_path / "h.npz")
    out = good(
        *("train", houses, "--quiet", "--loss", "absolute_error"),
        *("--layers", "none", "--optimizer", "sgd", "--learning-rate", "0.05"),
        *("--momentum", "0.5", "--save", "m.npz"),
    )
    assert number_after("held-out R2", out) >= 0.99
    net = nk.load("m.npz")
    assert (net.L, net.loss) == (1, "absolute_error")


@pytest.mark.parametrize("labels", ["numbers", "text", "one-hot"])
def test_npz_classes(good, labels):
    rng = np.random.default_rng(0)
    Y = np.arange(200) % 2
    X = rng.normal(size=(3, 200)) + 4 * Y
    named = {
        "numbers": Y,
        "text": np.array(["no", "yes"])[Y],
        "one-hot": np.eye(2, dtype=int)[:, Y],
    }
    np.savez("a.npz", X=X, Y=named[labels])
    np.savez("new.npz", X=X)
    out = good("train", "a.npz", "--quiet", "--layers", "8", "--save", "m.npz")
    assert number_after("held-out accuracy", out) >= 0.98
    assert number_after("accuracy", good("evaluate", "m.npz", "a.npz")) >= 0.98
    table = rows(good("predict", "m.npz", "new.npz"))
    names = ["no", "yes"] if labels == "text" else ["0", "1"]
    assert table[0] == ["label", *(f"p({name})" for name in names)]
    assert np.mean([row[0] == names[y] for row, y in zip(table[1:], Y, strict=True)]) >= 0.98


def test_what_is_said_of_arrays_and_of_a_plot(run):
    pytest.importorskip("matplotlib", reason="draws the PNG")
    np.savez("a.npz", X=np.random.default_rng(0).normal(size=(3, 200)), Y=np.arange(200) % 2)
    status, out, _ = run("train", "a.npz", "--epochs", 1, "--plot", "c.png")
    assert status == 0
    assert out.splitlines()[0] == "data     a.npz: 200 examples, 3 features"
    assert out.splitlines()[-1] == "drew c.png"


def test_npz_regression_of_two_values(good):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 400))
    Y = np.array([[1000, 0, 0], [0, 1, -1]]) @ X + [[500], [0]]
    np.savez("a.npz", X=X, Y=Y)
    options = ("--layers", "none", "--l2", 0, "--learning-rate", "0.01")
    out = good("train", "a.npz", "--quiet", *options, "--epochs", 100, "--save", "m.npz")
    assert number_after("held-out R2", out) >= 0.999
    table = rows(good("predict", "m.npz", "a.npz"))
    assert table[0] == ["prediction_0", "prediction_1"]
    off = np.array(table[1:], float).T - Y
    assert (np.sqrt((off**2).mean(axis=1)) < 0.03 * Y.std(axis=1)).all()


def test_folder_of_pictures(good, tmp_path):
    folder = write_pictures(tmp_path / "pictures")
    out = good(
        *("train", folder, "--layers", "8", "--quiet", "--size", 16),
        *("--epochs", 30, "--save", "m.npz"),
    )
    assert number_after("held-out accuracy", out) == 1
    assert "(8 examples)" in out
    assert nk.load("m.npz").n_x == 3 * 16 * 16
    assert number_after("accuracy", good("evaluate", "m.npz", folder)) == 1
    table = rows(good("predict", "m.npz", folder))
    assert table[0] == ["file", "label", "p(cat)", "p(not cat)"]
    assert table[1][:2] == [os.path.join("cat", "00.png"), "cat"]
    assert table[40][:2] == [os.path.join("not cat", "19.png"), "not cat"]
    table = rows(good("predict", "m.npz", folder / "not cat" / "03.png"))
    assert [row[:2] for row in table[1:]] == [["03.png", "not cat"]]
    assert len(rows(good("predict", "m.npz", folder / "cat"))) == 21


def test_pictures_are_64_pixels_wide_by_default(good, tmp_path):
    folder = write_pictures(tmp_path / "pictures", n=3)
    good("train", folder, "--layers", "2", "--quiet", "--epochs", 1, "--save", "m.npz")
    assert nk.load("m.npz").n_x == 12288


def test_plain_network_predicts_from_arrays(good, bad, tmp_path):
    X = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.savez("x.npz", X=X, Y=np.array([0, 1, 2, 0, 1]))
    np.savez("price.npz", X=X, Y=np.array([[0.5, 1, 2, 3, 4]]))
    for layer, loss, header in [
        (nk.Dense(1, "sigmoid"), "binary_cross_entropy", ["label", "p(0)", "p(1)"]),
        (nk.Dense(3, "softmax"), "cross_entropy", ["label", "p(0)", "p(1)", "p(2)"]),
        (nk.Dense(1, "linear"), "squared_error", ["prediction"]),
    ]:
        net = nk.Network([layer], loss=loss, n_x=3, seed=0)
        net.save("m.npz")
        table = rows(good("predict", "m.npz", "x.npz"))
        assert table[0] == header
        printed = np.array([row[-net.n_y :] for row in table[1:]], np.float32)
        # examples contiguous, as the command has them: another layout may round its sums otherwise
        np.testing.assert_array_equal(printed, net.predict(np.asfortranarray(X)).T)
    assert "R2" in good("evaluate", "m.npz", "price.npz")
    nk.Network([nk.Dense(2, "sigmoid")], loss="binary_cross_entropy", n_x=3).save("m.npz")
    assert "several sigmoid outputs" in bad("predict", "m.npz", "x.npz")


@pytest.mark.parametrize("write", [write_flowers, write_houses])
def test_exported_onnx_takes_the_data_as_it_is(good, tmp_path, write):
    """Features unscaled, labels by name, prices in the data's units: what predict prints."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    path = write(tmp_path / "f.npz")
    good("train", path, "--quiet", "--epochs", 5, "--save", "m.npz")
    assert good("export", "m.npz", "--to", "onnx") == "wrote m.onnx\n"
    predicted = rows(good("predict", "m.npz", path))
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"X": np.load(path)["X"].T.astype(np.float32)})
    if write is write_flowers:
        assert outputs[0].tolist() == [row[0] for row in predicted[1:]]
    numbers = np.array([row[-outputs[-1].shape[1] :] for row in predicted[1:]], float)
    # float32 standardisation: the features are of order 100, their deviations of order 1 to 50
    np.testing.assert_allclose(outputs[-1], numbers, rtol=1e-4, atol=1e-5)


def test_export_to_every_format(good, bad, tmp_path):
    good("train", write_flowers(tmp_path / "f.npz"), "--quiet", "--epochs", 1, "--save", "m.npz")
    net = nk.load("m.npz")
    assert good("export", "m.npz", "--to", "c", "--output", "net.c") == "wrote net.c\n"
    source = (tmp_path / "net.c").read_text()
    assert "predict" in source
    assert '"tulip"' in source
    assert "scaled[i]" in source
    if importlib.util.find_spec("safetensors"):
        good("export", "m.npz", "--to", "safetensors")
        assert nk.load("m.safetensors") == net
        assert good("predict", "m.safetensors", "f.npz") == good("predict", "m.npz", "f.npz")
        assert "must end in .safetensors" in bad("export", "m.npz", "--to", "safetensors", "--output", "m.st")
        assert "the model itself" in bad("export", "m.safetensors", "--to", "safetensors")
    if importlib.util.find_spec("torch"):
        import torch

        good("export", "m.npz", "--to", "torch")
        model = torch.load("m.pt", weights_only=False)
        assert nk.from_torch(model).parameters["W1"].tobytes() == net.parameters["W1"].tobytes()


@pytest.mark.parametrize("to", ["onnx", "c", "torch"])
def test_export_refuses_the_name_of_another_format(bad, tmp_path, to):
    nk.Network([nk.Dense(2, "softmax")], "cross_entropy", n_x=3, seed=0).save(tmp_path / "m.npz")
    if to == "torch":
        pytest.importorskip("torch")
    error = bad("export", "m.npz", "--to", to, "--output", "m.h5")
    assert re.search("to_?[ a-z]+ writes [a-zA-Z]+, and m.h5 ends as files of Keras do", error)
    assert not (tmp_path / "m.h5").exists()


def test_export_of_a_plain_network(good, tmp_path):
    nk.Network([nk.Dense(2, "softmax")], "cross_entropy", n_x=3, seed=0).save(tmp_path / "m.npz")
    good("export", "m.npz", "--to", "c")
    source = (tmp_path / "m.c").read_text()
    assert "scaled" not in source
    assert "labels" not in source


def _focal(A, Y):
    A = A.clip(1e-7, 1)
    return -(Y * (1 - A) ** 2 * np.log(A)).sum(axis=0), Y * (1 - A) * (2 * np.log(A) - (1 - A) / A)


@pytest.mark.parametrize(
    ("score", "output"),
    [("argmax", nk.Dense(3, "softmax")), ("sides", nk.Dense(1, "sigmoid")), ("squares", nk.Dense(2))],
)
def test_a_network_whose_loss_is_a_function(good, bad, tmp_path, score, output):
    """The file tells whether it classifies; what the loss is it doesn't, so that a cost can't be measured."""
    X = np.random.default_rng(0).standard_normal((4, 20))
    net = nk.Network([output], nk.losses.Custom(_focal, score=score), n_x=4, dtype="float64", seed=0)
    net.save(tmp_path / "m.npz")
    Y = net.predict(X) if score == "squares" else net.predict_labels(X).reshape(-1)
    np.savez(tmp_path / "d.npz", X=X, Y=Y)
    found = rows(good("predict", "m.npz", "d.npz"))[1:]
    if score == "squares":
        assert np.array_equal(np.array(found, float).T, Y)
    else:
        assert [int(row[0]) for row in found] == Y.tolist()
    error = bad("evaluate", "m.npz", "d.npz")
    assert "the network's loss is the Python function" in error
    assert "nnkern.load(path, loss=function)" in error


def test_several_outputs_of_two_classes_are_refused(bad, tmp_path):
    for loss in ("binary_cross_entropy", nk.losses.Custom(_focal, score="sides")):
        nk.Network([nk.Dense(2, "sigmoid")], loss, n_x=4, seed=0).save(tmp_path / "m.npz")
        np.savez(tmp_path / "d.npz", X=np.ones((4, 3)))
        assert "m.npz has several sigmoid outputs, of two classes each, which only" in bad("predict", "m.npz", "d.npz")


def test_without_held_out_examples(good, tmp_path):
    flowers = write_flowers(tmp_path / "f.npz")
    out = good("train", flowers, "--quiet", "--validation", 0, "--epochs", 2)
    assert re.match(r"training accuracy [01]\.\d+ \(240 examples\)", out)


def test_plot_without_held_out_examples(good, tmp_path):
    pytest.importorskip("matplotlib", reason="draws the PNG")
    flowers = write_flowers(tmp_path / "f.npz")
    good("train", flowers, "--quiet", "--validation", 0, "--epochs", 2, "--plot", "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000


@pytest.mark.parametrize("optimizer", nk.optimizers.OPTIMIZERS)
def test_every_optimizer(good, tmp_path, optimizer):
    flowers = write_flowers(tmp_path / "f.npz")
    out = good("train", flowers, "--quiet", "--optimizer", optimizer, "--batch-size", 8)
    assert number_after("held-out accuracy", out) >= 0.9


def test_every_training_option_arrives(good, tmp_path, monkeypatch):
    seen = {}
    fit, init = nk.Network.fit, nk.Network.__init__

    def spy_fit(self, *arguments, **options):
        seen.update(options)
        return fit(self, *arguments, **options)

    def spy_init(self, layers, *arguments, **options):
        seen["layers"] = [(d.units, d.activation, d.dropout) for d in layers]
        seen.update(options)
        init(self, layers, *arguments, **options)

    monkeypatch.setattr(nk.Network, "fit", spy_fit)
    monkeypatch.setattr(nk.Network, "__init__", spy_init)
    flowers = write_flowers(tmp_path / "f.npz")
    good(
        *("train", flowers, "--quiet", "--layers", "7,5", "--activation", "tanh", "--l2", "0.25", "--l1", "0.125"),
        *("--dropout", "0.5", "--dtype", "float64", "--optimizer", "sgd", "--momentum", "0.75", "--nesterov"),
        *("--learning-rate", "0.125", "--epochs", 2, "--batch-size", "full", "--seed", 11),
        *("--threads", 1, "--loss", "cross_entropy", "--label-smoothing", "0.25"),
        *("--clip-norm", 2, "--clip-value", "0.5", "--class-weight", "rose=5, tulip=0.5"),
    )
    assert seen["layers"] == [(7, "tanh", 0.5), (5, "tanh", 0.5), (3, "softmax", 0.0)]
    assert (seen["l2"], seen["l1"], seen["dtype"], seen["seed"]) == (0.25, 0.125, "float64", 11)
    assert (seen["epochs"], seen["batch_size"], seen["threads"]) == (2, None, 1)
    assert seen["loss"] == nk.losses.CrossEntropy(label_smoothing=0.25)
    assert seen["optimizer"] == nk.SGD(0.125, 0.75, True, clip_norm=2.0, clip_value=0.5)
    assert seen["class_weight"] == {1: 5.0, 2: 0.5}
    good(
        *("train", flowers, "--quiet", "--layers", "7,5", "--activation", "tanh,selu", "--dropout", "0.5,0"),
        *("--class-weight", "balanced", "--optimizer", "adamw", "--weight-decay", "0.5", "--learning-rate", "0.5"),
        *("--schedule", "cosine:0.01", "--warm-up", 2, "--epochs", 9, "--early-stopping", 4),
    )
    assert seen["layers"] == [(7, "tanh", 0.5), (5, "selu", 0.0), (3, "softmax", 0.0)]
    schedule = nk.schedules.WarmUp(nk.schedules.Cosine(0.5, 7, 0.01), 2)
    assert seen["optimizer"] == nk.AdamW(schedule, weight_decay=0.5)
    assert seen["class_weight"] == "balanced"
    assert (seen["callbacks"].patience, seen["callbacks"].monitor) == (4, "val_cost")


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("cosine", [0.5, 0.25]),
        ("cosine:0.5", [0.5, 0.5]),
        ("exponential:0.5", [0.5, 0.25]),
        ("step:0.5,2", [0.5, 0.5]),
        ("inverse:1", [0.5, 0.25]),
    ],
)
def test_schedules(good, tmp_path, monkeypatch, text, rates):
    histories = []
    fit = nk.Network.fit
    monkeypatch.setattr(nk.Network, "fit", lambda *a, **how: histories.append(fit(*a, **how)) or histories[-1])
    flowers = write_flowers(tmp_path / "f.npz")
    good("train", flowers, "--quiet", "--epochs", 2, "--learning-rate", 0.5, "--schedule", text)
    assert histories[0]["learning_rate"] == pytest.approx(rates)


@pytest.mark.parametrize(("loss", "numbers"), [
    ("squared_error", ()), ("absolute_error", ()), ("huber", ("--delta", 0.5)), ("quantile", ("--quantile", 0.75)),
])  # fmt: skip
def test_losses_of_regression(good, tmp_path, loss, numbers):
    houses = write_houses(tmp_path / "h.npz")
    out = good("train", houses, "--quiet", "--loss", loss, *numbers, "--save", "m.npz")
    assert number_after("R2", out) > 0.9
    made = of(nk.load("m.npz")).loss
    assert made.name == loss
    assert made.parameter == (numbers[1] if numbers else 0)


def test_counts_are_learned_as_counts(good, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2, 300))
    np.savez("counts.npz", X=X, Y=rng.poisson(np.exp(X[:1])).astype(float))
    out = good("train", "counts.npz", "--task", "regression", "--loss", "poisson", "--quiet", "--save", "m.npz")
    assert number_after("R2", out) > 0.3
    assert nk.load("m.npz").layers[-1].activation == "exp"


def test_class_weights_shift_the_balance(good, tmp_path):
    """Two classes that overlap, one of them rare: the more it weighs, the more often it is predicted."""
    rng = np.random.default_rng(0)
    Y = np.arange(400) % 10 == 0
    np.savez("rare.npz", X=rng.normal(size=(1, 400)) + Y, Y=Y.astype(int))
    found = []
    for weight in ("0=1,1=1", "balanced", "1=100"):
        good("train", "rare.npz", "--quiet", "--layers", "none", "--class-weight", weight, "--save", "m.npz")
        found.append(sum(row[0] == "1" for row in rows(good("predict", "m.npz", "rare.npz"))[1:]))
    assert found[0] < found[1] < found[2]


def test_early_stopping_sets_examples_aside_and_says_when(run, tmp_path):
    flowers = write_flowers(tmp_path / "f.npz")
    status, out, err = run("train", flowers, "--epochs", 500, "--early-stopping", 3, "--learning-rate", 0.1)
    assert status == 0, err
    assert "172 to train on, 48 held out, 20 set aside\n" in out
    stopped, best = map(int, re.search(r"stopped  after (\d+) epochs, with the weights of epoch (\d+)\n", out).groups())
    assert stopped == best + 3 < 500


# --- cross-validation --------------------------------------------------------------------------


def test_folds_print_mean_and_spread(run, good, tmp_path):
    flowers = write_flowers(tmp_path / "f.npz", m=100)
    status, out, err = run("train", flowers, "--folds", 4, "--epochs", 4, "--layers", "none")
    assert status == 0, err
    assert "75 to train on, 25 held out in each of 4 folds\n" in out
    folds = re.findall(r"^fold (\d)/4 held-out accuracy (\S+) \(25 examples\), cost (\S+)$", out, re.MULTILINE)
    assert [fold for fold, _, _ in folds] == list("1234")
    summary = r"^4 folds accuracy (\S+) \+- (\S+), cost (\S+) \+- (\S+) \(mean and standard deviation\)$"
    printed = [float(x) for x in re.search(summary, out, re.MULTILINE).groups()]
    accuracies, costs = (np.array([float(fold[i]) for fold in folds]) for i in (1, 2))
    # the folds' numbers are printed to 4 places, the costs to 4 digits
    for i, (values, digits) in enumerate(((accuracies, 5e-5), (costs, 5e-4 * costs.max()))):
        assert printed[2 * i] == pytest.approx(values.mean(), abs=2 * digits)
        assert printed[2 * i + 1] == pytest.approx(values.std(ddof=1), abs=2 * digits)
    quiet = good("train", flowers, "--folds", 4, "--epochs", 4, "--layers", "none", "--quiet")
    assert quiet.splitlines()[0] == re.search(summary, out, re.MULTILINE)[0]
    assert len(quiet.splitlines()) == 2


def test_folds_of_a_regression_and_the_model_of_all(good, tmp_path):
    houses = write_houses(tmp_path / "h.npz", m=90)
    how = ("train", houses, "--quiet", "--epochs", 20, "--layers", "none")
    out = good(*how, "--folds", 3, "--save", "m.npz")
    assert re.match(r"3 folds R2 0\.\d+ \+- \S+, RMSE \S+ \+- \S+, cost \S+ \+- \S+ \(mean and", out)
    good(*how, "--validation", 0, "--save", "all.npz")
    assert nk.load("m.npz") == nk.load("all.npz")


def test_curves_and_confusion_of_folds(good, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="draws")
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **how: drawn.append(self) or save(self, *a, **how))
    flowers = write_flowers(tmp_path / "f.npz", m=60)
    good("train", flowers, "--folds", 3, "--epochs", 3, "--quiet", "--plot", "folds.svg")
    curves, scores, matrix = drawn[0].axes
    assert [line.get_label() for line in curves.lines][:2] == ["fold 1", "fold 1, held out"]
    assert len(curves.lines) == 6
    assert scores.get_ylabel() == "accuracy"
    assert sum(int(text.get_text()) for text in matrix.texts) == 60  # every example once
    assert [label.get_text() for label in matrix.get_xticklabels()] == ["daisy", "rose", "tulip"]
    houses = write_houses(tmp_path / "h.npz", m=60)
    good("train", houses, "--epochs", 3, "--quiet", "--plot", "one.svg")
    assert [ax.get_ylabel() for ax in drawn[1].axes] == ["cost", "R2"]


# --- what is shown -----------------------------------------------------------------------------


def test_progress_where_standard_error_is_no_terminal(run, tmp_path):
    flowers = write_flowers(tmp_path / "f.npz")
    status, out, err = run("train", flowers, "--epochs", 3, "--save", "m.npz")
    assert status == 0
    assert out.splitlines()[0] == "data     f.npz: 240 examples, 3 features"
    assert out.splitlines()[1] == ("task     3 classes (labels in Y); 192 to train on, 48 held out")
    assert out.splitlines()[2].startswith("network  3-64-3, relu, softmax, cross_entropy, float32")
    assert "held-out accuracy" in out
    assert out.splitlines()[-1] == "saved m.npz"
    assert "cost" in err
    assert "3/3" in err
    assert "\r" not in err
    assert "\x1b" not in err


def test_plot_is_a_picture(good, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="looks at the PNG with Pillow")
    pytest.importorskip("matplotlib", reason="draws the PNG")
    flowers = write_flowers(tmp_path / "f.npz")
    good("train", flowers, "--quiet", "--epochs", 3, "--plot", "curve.png")
    with image.open("curve.png") as drawn:
        assert drawn.format == "PNG"
        assert len(drawn.convert("RGB").getcolors(1 << 24)) > 2  # paper, ink and a curve


def test_info(good):
    out = good("info")
    assert out == f"{nk.show_config()}\n"
    facts = nk.show_config().to_dict()
    for name in ("version", "blas", "isa", "threads"):
        assert str(facts[name]) in out


def test_info_of_a_network(good, tmp_path):
    net = nk.Network([nk.Dense(4, "relu"), nk.Dense(1)], "squared_error", n_x=3, seed=5)
    net.metadata["made by"] = "me"
    net.save(tmp_path / "m.npz")
    assert good("info", "m.npz") == f"{net.summary()}\n"
    said = json.loads(good("info", "m.npz", "--json"))
    assert (said.pop("n_x"), said.pop("parameters"), said.pop("metadata")) == (3, 21, ["made by"])
    assert nk.Network.from_config(said).config() == net.config()


@pytest.mark.parametrize("command", [(), ("train",), ("predict",), ("evaluate",), ("export",), ("info",), ("bench",)])
def test_help(good, command):
    out = good(*command, "--help")
    assert out.startswith("usage: nnkern")
    if command in (("train",), ("predict",), ("evaluate",)):
        assert f"nnkern {command[0]} " in out.split("examples:")[1]


def test_version(good):
    assert good("--version") == f"nnkern {nk.__version__}\n"


# --- files -------------------------------------------------------------------------------------


def test_output_file_is_the_old_or_the_new_one(good, bad, tmp_path):
    flowers = write_flowers(tmp_path / "f.npz")
    good("train", flowers, "--quiet", "--epochs", 1, "--save", "m.npz")
    assert good("predict", "m.npz", flowers, "--output", "out.csv") == ""
    text = (tmp_path / "out.csv").read_text()
    assert text == good("predict", "m.npz", flowers)
    np.savez(flowers, X=np.ones((2, 3)))
    bad("predict", "m.npz", flowers, "--output", "out.csv")
    assert (tmp_path / "out.csv").read_text() == text
    assert sorted(os.listdir()) == ["f.npz", "m.npz", "out.csv"]


def commands_that_write(to):
    return [
        ("train", "f.npz", "--quiet", "--save", to),
        ("train", "f.npz", "--quiet", "--plot", f"{to}.png"),
        ("predict", "m.npz", "f.npz", "--output", to),
        ("export", "m.npz", "--to", "c", "--output", to),
    ]


@pytest.mark.parametrize("command", commands_that_write("no/file"))
def test_a_folder_that_is_missing_is_noticed_before_anything_is_read(bad, tmp_path, command):
    assert f": there is no folder {tmp_path / 'no'}" in bad(*command)


@pytest.mark.parametrize("command", commands_that_write("file"))
def test_a_folder_that_cannot_be_written_is_noticed_before_anything_is_read(bad, tmp_path, monkeypatch, command):
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (str(tmp_path), os.W_OK))
    assert f": no permission to write in {tmp_path}" in bad(*command)


@posix
def test_output_to_a_device_leaves_it_a_device(good, tmp_path):
    flowers = write_flowers(tmp_path / "f.npz")
    good("train", flowers, "--quiet", "--epochs", 1, "--save", "m.npz")
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    good("predict", "m.npz", flowers, "--output", "pipe")
    assert os.read(reader, 5) == b"label"
    os.close(reader)
    assert not os.path.isfile("pipe")


def test_saved_model_predicts_the_same_in_a_new_process(good, tmp_path):
    flowers = write_flowers(tmp_path / "f.npz")
    good("train", flowers, "--quiet", "--epochs", 2, "--save", "m.npz")
    again = process("predict", "m.npz", "f.npz", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == good("predict", "m.npz", flowers)


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "required: COMMAND"),
        (("dance",), "dance"),
        (("train", "--epochs", "0"), "'0' is not a whole number of at least 1"),
        (("train", "--epochs", "many"), "'many' is not a whole number"),
        (("train", "--layers", "64,x"), "'64,x' is not a list of layer sizes like 64,32"),
        (("train", "--layers", "0"), "'0' is not a list of layer sizes"),
        (("train", "--batch-size", "-1"), "--batch-size"),
        (("train", "--validation", "1"), "0 <= share < 1"),
        (("train", "--validation", "nan"), "0 <= share < 1"),
        (("train", "--validation", "half"), "'half' is not a share, 0 <= share < 1"),
        (("train", "--learning-rate", "fast"), "'fast'"),
        (("train", "--seed", "-1"), "'-1'"),
        (("train", "--threads", "0"), "'0'"),
        (("train", "--loss", "huge"), "'huge'"),
        (("train", "--optimizer", "huge"), "'huge'"),
        (("train", "--dropout", "0.1,much"), "'0.1,much' is not a number, or a list of them"),
        (("train", "--class-weight", "yes"), "'yes' is neither balanced nor a list like yes=5,no=1"),
        (("train", "--class-weight", "yes=much"), "'yes=much' is neither balanced"),
        (("train", "--schedule", "linear"), "'linear' is none of the schedules cosine, exponential, step, inverse"),
        (("train", "--schedule", "step:0.5"), "'step:0.5' must be step:FACTOR,EVERY"),
        (("train", "--schedule", "exponential"), "'exponential' must be exponential:FACTOR"),
        (("train", "--schedule", "step:0.5,0"), "'step:0.5,0': expected numbers >= 0, and a whole number of epochs"),
        (
            ("train", "--schedule", "step:0.5,2.5"),
            "'step:0.5,2.5': expected numbers >= 0, and a whole number of epochs",
        ),
        (("train", "--schedule", "inverse:nan"), "'inverse:nan': expected numbers >= 0"),
        (("train", "--schedule", "cosine:0.1,2"), "'cosine:0.1,2' must be cosine:FINAL"),
        (("train", "--folds", "1"), "'1' is not a whole number of at least 2"),
        (("train", "--early-stopping", "0"), "'0' is not a whole number of at least 1"),
        (("train", "--nonsense"), "--nonsense (see"),
        (("train", "--foo"), "unrecognized arguments: --foo (see nnkern train --help)"),
        (("train", "houses.csv", "the price"), "unrecognized arguments: the price; did you mean --target 'the price'?"),
        (("train", "--lr", "0.1"), "unrecognized arguments: --lr; did you mean --learning-rate?"),
        (("train", "--learning_rate=0.1"), "did you mean --learning-rate?"),
        (("train", "--hidden", "3"), "did you mean --layers?"),
        (("train", "--epochz", "3"), "did you mean --epochs?"),
        (("train", "--optimizer", "adm"), "; did you mean adam?"),
        (("predict", "m.npz", "--lr", "3"), "unrecognized arguments: --lr"),
        (("predict", "m.npz", "--jsno"), "did you mean --json?"),
        (("trian",), "; did you mean train?"),
        (("predict",), "MODEL"),
        (("export", "m.npz"), "--to"),
        (("export", "m.npz", "--to", "gif"), "'gif'"),
        (("info", "more"), "more"),
    ],
)
def test_wrong_arguments(bad, arguments, message):
    assert message in bad(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no.csv",), "no.csv: No such file or directory"),
        (("no.npz",), "no.npz: No such file or directory"),
        pytest.param(("no.png",), "no.png: No such file or directory", marks=pictures),
        (("noise.npz",), "noise.npz is not a readable .npz file"),
        pytest.param(("empty",), "empty holds no pictures", marks=pictures),
        (("f.npz", "--task", "regression"), "regression needs numbers, Y holds text"),
        (("f.npz", "--loss", "squared_error"), "regression needs numbers"),
        (("f.npz", "--target", "kind"), "--target is for tables only, not for arrays and pictures"),
        (("f.npz", "--preset", "fast"), "--preset is for tables only"),
        (("f.npz", "--loss", "binary_cross_entropy"), "is for two classes, not for 3"),
        (("f.npz", "--task", "regression", "--loss", "cross_entropy"), "is for classification"),
        (("f.npz", "--activation", "wiggle"), "relu"),
        (("f.npz", "--learning-rate", "-1"), "learning_rate"),
        (("f.npz", "--learning-rate", "nan"), "learning_rate"),
        (("f.npz", "--l2", "-1"), "l2"),
        (("f.npz", "--dropout", "1"), "dropout"),
        (("f.npz", "--optimizer", "sgd", "--momentum", "2"), "momentum"),
        (("f.npz", "--momentum", "0.9"), "--momentum is for --optimizer sgd, not for adam"),
        (("f.npz", "--momentum", "0"), "--momentum is for --optimizer sgd, not for adam"),
        (("f.npz", "--nesterov"), "--nesterov is for --optimizer sgd, not for adam"),
        (("f.npz", "--weight-decay", "0.1"), "--weight-decay is for --optimizer adamw, not for adam"),
        (("f.npz", "--clip-norm", "0"), "clip_norm"),
        (("f.npz", "--delta", "2"), "--delta is for --loss huber, not for cross_entropy"),
        (("f.npz", "--quantile", "0.5"), "--quantile is for --loss quantile, not for cross_entropy"),
        (("f.npz", "--label-smoothing", "1"), "label_smoothing must be in [0, 1); got 1.0"),
        (
            ("f.npz", "--task", "classification", "--class-weight", "oak=2"),
            "--class-weight: 'oak' is none of the classes",
        ),
        (("f.npz", "--class-weight", "rose=-2"), "--class-weight rose=-2: expected a finite weight >= 0"),
        (("h.npz", "--class-weight", "balanced"), "--class-weight is for classification"),
        (
            ("h.npz", "--label-smoothing", "0.1"),
            "is for --loss binary_cross_entropy or cross_entropy",
        ),
        (("f.npz", "--dropout", "0.1,0.2"), "--dropout has 2 entries, expected one, or one for each of 1 layers"),
        (("f.npz", "--folds", "3", "--validation", "0.5"), "leave --validation out"),
        (("f.npz", "--folds", "241"), "number of splits n_splits=241 greater than"),
        (("f.npz", "--save", "no/m.npz"), "there is no folder"),
        (("f.npz", "--save", "m.onnx"), "save writes .npz or .safetensors, and m.onnx ends as files of ONNX do"),
        (("f.npz", "--save", "empty"), "empty is a folder"),
        (("f.npz", "--plot", "empty.png"), "empty.png is a folder"),
        (("f.npz", "--plot", "curve.txt"), "expected one of .png"),
        (("f.npz", "--plot", "no/curve.png"), "there is no folder"),
        (("x.npz",), "x.npz has no array Y beside X (both capital letters), so nothing says what to learn"),
        (("turned.npz",), "save X.T"),
        (("tiny.npz",), "should be greater or equal to the number of classes"),
    ],
)
def test_training_that_cannot_be(bad, tmp_path, arguments, message):
    write_flowers(tmp_path / "f.npz")
    write_houses(tmp_path / "h.npz")
    (tmp_path / "noise.npz").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.png").mkdir()
    np.savez("tiny.npz", X=np.ones((2, 4)), Y=np.array(["a", "b", "a", "b"]))
    np.savez("x.npz", X=np.ones((2, 3)))
    np.savez("turned.npz", X=np.ones((3, 2)), Y=np.arange(3))
    before = sorted(os.listdir())
    assert message in bad("train", *arguments, "--epochs", 1, "--quiet")
    assert sorted(os.listdir()) == before


@posix
def test_a_pipe_is_not_replaced_by_a_model(bad, tmp_path):
    os.mkfifo("pipe")
    assert "pipe is a folder or a device" in bad("train", "--save", "pipe")
    assert not os.path.isfile("pipe")


def test_divergence_is_one_line_and_saves_nothing(bad, tmp_path):
    houses = write_houses(tmp_path / "h.npz")
    options = ("--optimizer", "sgd", "--learning-rate", 1e6)
    line = bad("train", houses, "--quiet", *options, "--save", "m.npz")
    assert "epoch" in line
    assert not os.path.exists("m.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no.npz", "f.npz"), "no.npz: No such file or directory"),
        (("f.npz", "f.npz"), "f.npz"),
        (("cut.npz", "f.npz"), "cut.npz"),
        (("m.npz", "no.npz"), "no.npz: No such file or directory"),
        (("m.npz", "a.csv"), "a.csv: the model expects an .npz file with X, not a table"),
        (("m.npz", "less.npz"), "less.npz: X has 2 features, the model expects 3"),
        (("m.npz", "holes.npz"), "holes.npz: X holds nan at feature 0, example 1"),
        (("odd.npz", "f.npz"), "damaged"),
        (("other.npz", "f.npz"), "don't agree"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_predictions_that_cannot_be(good, bad, tmp_path, command, arguments, message):
    flowers = write_flowers(tmp_path / "f.npz", 60)
    good("train", flowers, "--quiet", "--epochs", 1, "--save", "m.npz")
    whole = (tmp_path / "m.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez("less.npz", X=np.ones((2, 2)), Y=np.array(["rose", "rose"]))
    np.savez("holes.npz", X=[[1, np.nan]] * 3, Y=np.array(["rose", "rose"]))
    net = nk.load("m.npz")
    record = net.metadata[RECORD]
    net.metadata[RECORD] = record | {"mean": "none"}
    net.save("odd.npz")
    net.metadata[RECORD] = record | {"labels": ["a", "b"]}
    net.save("other.npz")
    assert message in bad(command, *arguments)


def test_what_is_no_model_of_a_table_is_named_as_a_network_is(bad, tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "m.safetensors").write_bytes(b"hello")
    with pytest.raises(nk.ModelFormatError) as caught:
        nk.load("m.safetensors")
    assert bad("evaluate", "m.safetensors", "f.npz") == f"nnkern evaluate: error: {caught.value}\n"


def test_evaluation_needs_known_labels(good, bad, tmp_path):
    good("train", write_flowers(tmp_path / "f.npz"), "--quiet", "--epochs", 1, "--save", "m.npz")
    np.savez("new.npz", X=np.ones((3, 2)))
    assert "has no array Y" in bad("evaluate", "m.npz", "new.npz")
    np.savez("new.npz", X=np.ones((3, 2)), Y=np.array(["rose", "oak"]))
    assert "example 1: the label 'oak' is none of the model's" in bad("evaluate", "m.npz", "new.npz")
    assert "--proba and --keep are for models of tables" in bad("predict", "m.npz", "new.npz", "--proba")
    for option in ("--target", "--weight"):
        assert "--target and --weight are for models of tables" in bad("evaluate", "m.npz", "new.npz", option, "Y")
    assert ".parquet is for models of tables" in bad("predict", "m.npz", "new.npz", "--output", "p.parquet")
    assert "predictions are written as CSV" in bad("predict", "m.npz", "new.npz", "--output", "p.npz")


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("onnx", ("export", "m.npz", "--to", "onnx"), "nnkern[onnx]"),
        ("torch", ("export", "m.npz", "--to", "torch"), "torch"),
        ("safetensors.numpy", ("export", "m.npz", "--to", "safetensors"), "nnkern[safetensors]"),
        ("safetensors.numpy", ("train", "f.npz", "--quiet", "--save", "m.safetensors"), "nnkern[safetensors]"),
        ("sklearn", ("train",), "nnkern[demo]"),
        ("PIL", ("train", "pictures"), "nnkern[images]"),
        ("matplotlib", ("train", "f.npz", "--plot", "c.png"), "nnkern[plot]"),
        ("pyarrow", ("train", "f.csv"), "nnkern[tabular]"),
    ],
)
def test_missing_package_names_its_extra(bad, tmp_path, monkeypatch, module, arguments, extra):
    write_flowers(tmp_path / "f.npz")
    (tmp_path / "f.csv").write_text("x,y\n1,2\n")
    (tmp_path / "pictures").mkdir()
    nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0).save(tmp_path / "m.npz")
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(nk.Network, "fit", lambda *_, **__: pytest.fail("it is missed after the training only"))
    assert f"pip install '{extra}'" in bad(*arguments)


@pytest.mark.parametrize("name", ["m.onnx", "m.pt"])
def test_a_name_of_another_format_is_refused_before_the_training(bad, tmp_path, monkeypatch, name):
    write_flowers(tmp_path / "f.npz")
    monkeypatch.setattr(nk.Network, "fit", lambda *_, **__: pytest.fail("it is refused after the training only"))
    assert "save writes .npz or .safetensors" in bad("train", "f.npz", "--quiet", "--save", name)


def test_unforeseen_error_is_one_line_too(bad, monkeypatch):
    def broken():
        raise RuntimeError("wires\ncrossed")

    monkeypatch.setattr(nk, "show_config", broken)
    assert bad("info") == "nnkern info: error: RuntimeError: wires crossed\n"


def test_development_mode_shows_where_an_error_came_from(tmp_path):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-m", "nnkern", "predict", "no.npz", "no.csv"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "no.npz" in done.stderr.splitlines()[-1]


def test_out_of_memory_is_one_line(bad, monkeypatch):
    def greedy(path=None, **options):
        raise MemoryError

    monkeypatch.setattr(nkdata, "read", greedy)
    assert bad("train") == "nnkern train: error: not enough memory\n"


def test_no_traceback_from_a_process(tmp_path):
    for arguments in (("train", "no.csv"), ("predict", "no.npz", "no.csv"), ("dance",)):
        done = process(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        one_line(done.stderr)


# --- interruption and pipes --------------------------------------------------------------------


@posix
def test_interrupt_gives_130(tmp_path):
    write_flowers(tmp_path / "f.npz")
    command = [sys.executable, "-m", "nnkern", "train", "f.npz", "--epochs", "10000000"]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        child.stderr.read(1)  # the first sign of progress: the training has begun
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=300)
    finally:
        child.kill()
    assert child.returncode == 130
    assert err.endswith("nnkern train: interrupted\n")
    assert "Traceback" not in err


@posix
@pytest.mark.parametrize("arguments", [("predict", "m.npz", "f.npz"), ("info",), ("--help",)])
def test_reader_that_goes_away(good, tmp_path, arguments):
    good(
        "train",
        write_flowers(tmp_path / "f.npz", 6000),
        "--quiet",
        "--epochs",
        1,
        "--save",
        "m.npz",
    )
    read_end, write_end = os.pipe()
    os.close(read_end)
    # unbuffered, argparse itself meets the closed pipe when it prints the help, and says nothing
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-m", "nnkern", *arguments],
        cwd=tmp_path,
        env=buffered,
        stdout=write_end,
        stderr=subprocess.PIPE,
        timeout=300,
        check=False,
    )
    os.close(write_end)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the device is Linux's")
def test_full_disk_is_one_line(good, tmp_path):
    good("train", write_flowers(tmp_path / "f.npz"), "--quiet", "--epochs", 1, "--save", "m.npz")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nnkern", "predict", "m.npz", "f.npz"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 2
    assert "No space left" in one_line(done.stderr)


def test_record_in_a_model_file_is_json(good, tmp_path):
    good("train", write_flowers(tmp_path / "f.npz"), "--quiet", "--epochs", 1, "--save", "m.npz")
    record = nk.load("m.npz").metadata[RECORD]
    assert json.loads(json.dumps(record)) == record
