"""The examples: each runs as its reader would run it, and gives the results it promises."""

import csv
import functools
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnkern as nk
from nnkern._optional import PACKAGES
from nnkern.data import DataError, MissingPackageError

Image = pytest.importorskip("PIL.Image", reason="pictures need Pillow")

EXAMPLES = Path(__file__).parents[1] / "examples"

# What each program says among other things: the results that don't depend on the machine.
SAYS = {
    "activations": ["tanh            -0.964   0.000   0.964   0.071   1.000   0.071"],
    "ad_clicks": ["5000 held-out showings of 12 features", "32 relu units"],
    "autoencoder": ["one digit, 64 numbers, is kept as 10"],
    "broadcasting": ["94.9", "raises ValueError", "it trains"],
    "cat_or_not": ["300 pictures, 150 of them cat; network 12288-20-7-5-1", "new picture.png: cat"],
    "computation_graph": ["J = 3v = 33", "da      3", "db      6", "dc      9"],
    "demand": ["1000 held-out articles", "three hidden units   accuracy 0.9"],
    "digits": ["accuracy on 599 held-out digits: 0.9"],
    "house_prices": ["houses, 16 relu, relu output", "diabetes, 16 relu, linear output"],
    "logistic_regression": ["cost after    0 steps: 0.693147", "cost after  900 steps: 0.05"],
    "planar": ["4 units, random", "4 units, all zero          0.6931  0.6931      0.500   0"],
    "robust_loss": ["200 measurements of y = 2 x + 1, 20 of them astray", "absolute_error"],
    "vectorization": ["dot product of 1,000,000 terms", "two loops", "nnkern"],
}


@functools.cache
def load(name):
    """The example as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        return importlib.import_module(name)


def run(folder, name, *arguments):
    """What the example prints, run from `folder`, so with the installed package."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    # R² and × are printed, and a pipe's encoding is the locale's unless told.
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_picture(path):
    """A PNG of reasonable size with something on it."""
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with Image.open(path) as image:
        assert 400 <= image.width <= 4000
        assert 200 <= image.height <= 2000
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 20
    assert 5_000 < path.stat().st_size < 1_000_000


def test_every_example_is_run_here():
    assert {path.stem for path in EXAMPLES.glob("[!_]*.py")} == SAYS.keys()


@pytest.mark.parametrize("name", SAYS)
def test_example_runs_and_draws(name, tmp_path):
    printed = run(tmp_path, name, "--plot", "drawn.png")
    for words in SAYS[name]:
        assert words in printed
    check_picture(tmp_path / "drawn.png")
    assert [path.name for path in tmp_path.iterdir()] == ["drawn.png"]


@pytest.mark.parametrize(
    ("missing", "name", "arguments"),
    [
        ("matplotlib", "computation_graph", ["--plot", "drawn.png"]),
        ("PIL", "cat_or_not", []),
        ("sklearn", "logistic_regression", []),
        ("sklearn", "digits", []),
    ],
)
def test_a_missing_package_is_named_with_its_extra(missing, name, arguments, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    package, install = PACKAGES[missing]
    remedy = re.escape(f"needs {package}: pip install '{install}'")
    with pytest.raises(MissingPackageError, match=remedy):
        load(name).main(arguments)
    with pytest.raises(SystemExit, match=remedy):
        load("_shared").run(lambda: load(name).main(arguments))


class TestVectorization:
    def test_the_loop_and_the_call_give_the_same_dot_product(self):
        u, v = np.random.default_rng(0).integers(-9, 10, (2, 1000)).astype(float)
        assert load("vectorization").dot_loop(u, v) == np.dot(u, v)

    def test_the_four_forms_of_the_step_agree(self):
        example = load("vectorization")
        w, b, X, Y = example.problem(n_x=7, m=300)
        J, dw, db = example.step_two_loops(w, b, X, Y)
        for step in example.STEPS.values():
            other_J, other_dw, other_db = step(w, b, X, Y)
            # Every term is below 10, and the sums run over 300 of them: γ_300 · 10 < 1e-12.
            assert other_J == pytest.approx(J, abs=1e-12, rel=0)
            assert other_db == pytest.approx(db, abs=1e-12, rel=0)
            assert other_dw.shape == dw.shape == (7, 1)
            np.testing.assert_allclose(other_dw, dw, atol=1e-12, rtol=0)

    def test_the_step_is_the_derivative_of_its_cost(self):
        example = load("vectorization")
        w, b, X, Y = example.problem(n_x=5, m=40)
        _, dw, db = example.step_two_loops(w, b, X, Y)

        def cost(w, b):
            return example.step_no_loop(w, b, X, Y)[0]

        nudges = 1e-5 * np.eye(5)[:, :, None]
        numeric = [(cost(w + e, b) - cost(w - e, b)) / 2e-5 for e in nudges]
        np.testing.assert_allclose(dw[:, 0], numeric, atol=1e-9, rtol=0)
        assert db == pytest.approx((cost(w, b + 1e-5) - cost(w, b - 1e-5)) / 2e-5, abs=1e-9)

    def test_one_call_is_much_faster_than_a_loop(self):
        example = load("vectorization")
        u, v = np.random.default_rng(0).random((2, 10_000))
        # Some hundred times is usual; ten leaves room for a busy machine. More terms than these
        # numpy may give to a second thread, which on a busy machine is waited for.
        assert example.seconds(example.dot_loop, u, v) > 10 * example.seconds(np.dot, u, v)


class TestLogisticRegression:
    def test_the_cost_falls_with_every_step_and_others_are_judged_well(self):
        example = load("logistic_regression")
        X_train, Y_train, X_test, Y_test = example.data()
        assert X_train.shape == (30, 379)
        assert X_test.shape == (30, 190)
        np.testing.assert_allclose(X_train.mean(axis=1), 0, atol=1e-12)
        np.testing.assert_allclose(X_train.std(axis=1), 1, rtol=1e-12)
        net, cost = example.train(X_train, Y_train)
        assert cost[0] == pytest.approx(np.log(2), rel=1e-14)  # W = 0, so every ŷ is ½
        assert (np.diff(cost) < 0).all()
        assert cost[-1] < 0.07
        assert net.evaluate(X_train, Y_train).score >= 0.98
        assert net.evaluate(X_test, Y_test).score >= 0.95


class TestPlanar:
    def test_the_flower_has_two_classes_of_petals(self):
        X, Y = load("planar").flower(m=400, noise=0)
        assert X.shape == (2, 400)
        assert Y.shape == (1, 400)
        assert np.count_nonzero(Y) == 200
        # Without noise each point is on r = 4 |sin 4t|, t counted from the x₂ axis.
        r, t = np.hypot(*X), np.arctan2(*X)
        np.testing.assert_allclose(r, 4 * np.abs(np.sin(4 * t)), atol=1e-12)

    def test_a_hidden_layer_parts_what_a_line_cannot(self):
        example = load("planar")
        X, Y = example.flower()
        net = example.network()
        cost = example.train(net, X, Y)
        assert cost[-1] < 0.3 < 0.6 < cost[0]
        assert net.evaluate(X, Y).score >= 0.9
        assert example.spread(net) > 1
        line = nk.Network([nk.Dense(1, "sigmoid")], loss="binary_cross_entropy", seed=0)
        example.train(line, X, Y)
        assert line.evaluate(X, Y).score <= 0.6

    def test_from_zero_the_hidden_units_never_part(self):
        example = load("planar")
        X, Y = example.flower(m=401)  # classes of unequal size, so that something can be learned
        net = example.network(init=("zeros", "zeros"))
        example.train(net, X, Y, epochs=200)
        assert example.spread(net) == 0
        parameters = net.parameters
        assert not any(parameters[name].any() for name in ("W1", "b1", "W2"))
        assert parameters["b2"].item() == pytest.approx(np.log(200 / 201), rel=1e-9)

    def test_from_equal_weights_the_hidden_units_learn_but_never_part(self):
        example = load("planar")
        X, Y = example.flower()
        net = example.network(init=(np.ones((4, 2)), np.ones((1, 4))))
        example.train(net, X, Y, epochs=1000)
        # Units may be summed in different orders, so rounding may part them, by no more than that.
        assert example.spread(net) < 1e-9
        assert np.abs(net.parameters["W1"] - 1).min() > 0.01


class TestCatOrNot:
    def test_a_picture_is_unrolled_channel_by_channel(self, tmp_path):
        for name, colour in (("cat", (255, 51, 0)), ("other", (0, 0, 255))):
            (tmp_path / name).mkdir()
            Image.new("RGB", (100, 80), colour).save(tmp_path / name / "plain.png")
        X, Y, wanted = load("cat_or_not").read(tmp_path)
        assert (X.shape, Y.tolist(), wanted) == ((12288, 2), [1, 0], "cat")
        for column, colour in ((0, (1, 0.2, 0)), (1, (0, 0, 1))):
            channels = X[:, column].reshape(3, 64 * 64)
            np.testing.assert_array_equal(channels.T, np.tile(np.float32(colour), (64 * 64, 1)))

    def test_any_class_can_be_the_wanted_one(self, tmp_path):
        example = load("cat_or_not")
        example.draw_folder(tmp_path / "pictures", m=6)
        _, Y, wanted = example.read(tmp_path / "pictures", "other")
        assert (Y.tolist(), wanted) == ([0, 0, 0, 1, 1, 1], "other")

    def test_folders_that_cannot_be_learned_from(self, tmp_path):
        example = load("cat_or_not")
        example.draw_folder(tmp_path, m=4)
        with pytest.raises(SystemExit, match="0 of 4 pictures are in dog/"):
            example.read(tmp_path, "dog")
        with pytest.raises(SystemExit, match="no subfolders"):
            example.read(tmp_path / "cat")
        (tmp_path / "other" / "000.png").write_bytes(b"no picture")
        with pytest.raises(DataError, match="not a readable picture"):
            example.read(tmp_path)

    def test_few_pictures_get_a_shallower_network(self):
        example = load("cat_or_not")
        assert [layer.units for layer in example.network(m=99).layers] == [1]
        assert [layer.units for layer in example.network(m=100).layers] == [20, 7, 5, 1]

    def test_new_pictures_are_told_apart(self, tmp_path):
        example = load("cat_or_not")
        example.draw_folder(tmp_path / "known")
        X, Y, _ = example.read(tmp_path / "known")
        net = example.network(Y.size)
        cost = example.train(net, X, Y)
        assert cost[-1] < 0.1 * cost[0]
        rng, right = np.random.default_rng(77), 0
        for i in range(40):
            cat = i % 2 == 0
            example.draw_picture(tmp_path / "new.png", cat, rng)
            right += (example.classify(net, tmp_path / "new.png") > 0.5) == cat
        assert right >= 36

    def test_a_folder_of_ones_own_and_pictures_to_classify(self, tmp_path):
        example = load("cat_or_not")
        example.draw_folder(tmp_path / "pictures", m=120)
        rng = np.random.default_rng(5)
        example.draw_picture(tmp_path / "tom.png", True, rng)
        example.draw_picture(tmp_path / "home.png", False, rng)
        printed = run(tmp_path, "cat_or_not", "pictures", "tom.png", "home.png")
        assert "120 pictures, 60 of them cat; network 12288-1\n" in printed
        assert "tom.png: cat (" in printed
        assert "home.png: not cat (" in printed


class TestHousePrices:
    def test_the_invented_houses_follow_their_law(self):
        example = load("house_prices")
        columns = example.invent_houses(m=300)
        houses = zip(*(columns[name] for name in ("size", "bedrooms", "age", "district")), strict=True)
        worth = np.array([example.price(*house) for house in houses])
        paid = columns["price"]
        assert (paid[worth == 0] == 0).all()
        sold = worth > 5 * example.NOISE
        assert np.std(paid[sold] - worth[sold]) == pytest.approx(example.NOISE, rel=0.2)

    def test_relu_units_come_close_to_the_noise_and_a_line_does_not(self):
        example = load("house_prices")
        data = example.prepare(example.houses_of(example.invent_houses(), "price"))
        assert data[0].shape == (3 + len(example.DISTRICTS), 600)
        score, error, Y_hat = example.fit_and_evaluate(example.network(16, "relu"), *data)
        assert score >= 0.98
        assert 0.8 * example.NOISE < error < 1.5 * example.NOISE
        assert (Y_hat >= 0).all()
        assert (Y_hat == 0).any()
        _, error_of_line, Y_hat = example.fit_and_evaluate(example.network(0, "linear"), *data)
        assert error_of_line > 3 * error
        assert (Y_hat < 0).any()

    def test_diabetes(self):
        example = load("house_prices")
        data = example.prepare(example.diabetes())
        score, error, _ = example.fit_and_evaluate(example.network(16, "linear", l2=0.1), *data)
        assert score >= 0.4
        assert error == pytest.approx(np.sqrt(1 - score) * data[3].std(), rel=1e-9)

    def test_a_table_of_ones_own(self, tmp_path):
        pytest.importorskip("pyarrow")
        rng = np.random.default_rng(3)
        with open(tmp_path / "flats.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["cost", "rooms", "lift"])
            for rooms, lift in zip(rng.uniform(1, 9, 90), rng.choice(["yes", "no"], 90), strict=True):
                rows.writerow([100 * rooms + 50 * (lift == "yes"), rooms, lift])
        printed = run(tmp_path, "house_prices", "flats.csv", "--target", "cost")
        line = next(line for line in printed.splitlines() if line.startswith("houses, 16 relu"))
        assert float(line.split()[-2]) >= 0.98
        with pytest.raises(DataError, match="no column 'price', but a"):
            load("house_prices").houses_of({"a": np.ones(3)}, "price")


class TestDigits:
    def test_the_held_out_third_is_read(self):
        example = load("digits")
        X_train, Y_train, X_test, Y_test = example.data()
        assert X_train.shape == (64, 1198)
        assert X_test.shape == (64, 599)
        assert abs(np.bincount(Y_test) - np.bincount(Y_train) / 2).max() <= 1  # stratified
        net, history = example.train(X_train, Y_train, validation_data=(X_test, Y_test))
        cost, score = net.evaluate(X_test, Y_test)
        assert score >= 0.97
        assert history["val_score"][-1] == score
        assert history["val_cost"][-1] == pytest.approx(cost, rel=1e-6)
        counts = example.confusion(Y_test, net.predict_labels(X_test))
        assert counts.sum() == 599
        assert np.trace(counts) / 599 == pytest.approx(score, rel=1e-12)
        np.testing.assert_allclose(net.predict(X_test).sum(axis=0), 1, atol=1e-6)


class TestRobustLoss:
    def test_outliers_bend_the_squared_error_only(self):
        example = load("robust_loss")
        X, Y, wrong = example.measurements()
        assert wrong.sum() == 20
        truth = np.array([example.SLOPE, example.INTERCEPT])
        absolute = example.line(X, Y, "absolute_error")
        squared = example.line(X, Y, "squared_error")
        np.testing.assert_allclose(absolute, truth, atol=0.1)
        assert (np.abs(squared - truth) > 0.5).all()
        np.testing.assert_allclose(squared, np.polyfit(X[0], Y[0], 1), rtol=1e-4)

    def test_without_outliers_both_find_the_line(self):
        example = load("robust_loss")
        X, Y, wrong = example.measurements(outliers=0.005)
        X, Y = X[:, ~wrong], Y[:, ~wrong]
        for loss in example.LOSSES:
            np.testing.assert_allclose(example.line(X, Y, loss), (2, 1), atol=0.05)


class TestComputationGraph:
    def test_the_numbers_of_the_course(self):
        example = load("computation_graph")
        assert example.forward(5, 3, 2) == (6, 11, 33)
        assert example.backward(5, 3, 2) == {"v": 3, "u": 3, "a": 3, "b": 6, "c": 9}

    @pytest.mark.parametrize(("a", "b", "c"), [(5, 3, 2), (-1, 4, 0), (0, 0, -7)])
    def test_nudged_and_through_layers(self, a, b, c):
        example = load("computation_graph")
        exact = example.backward(a, b, c)
        J, through_layers = example.through_layers(a, b, c)
        assert example.forward(a, b, c)[-1] == J
        assert through_layers == {name: exact[name] for name in through_layers}
        # J is linear in each input alone, so nudging errs by rounding only: u |J| / step < 1e-11.
        for name, slope in example.nudged(a, b, c).items():
            assert slope == pytest.approx(exact[name], abs=1e-10, rel=0)


class TestBroadcasting:
    def test_shares_of_calories(self):
        example = load("broadcasting")
        percent = example.share(example.CALORIES)
        np.testing.assert_allclose(percent.sum(axis=0), 100, rtol=1e-15)
        assert percent[0, 0] == pytest.approx(100 * 56 / 59, rel=1e-14)  # apples, 59 kcal in all

    def test_a_rank_1_array_makes_a_perfect_prediction_wrong(self):
        example = load("broadcasting")
        y = np.array([0.0, 1.0, 2.0])
        assert example.error_of(y.reshape(1, 3), y) == 0
        # (3, 1) and (3,) give all nine differences: two of 2, four of 1, three of 0.
        assert example.error_of(y.reshape(3, 1), y) == pytest.approx(12 / 9, rel=1e-15)

    def test_nnkern_refuses_it_and_names_the_remedy(self):
        example = load("broadcasting")
        X = np.linspace(-1, 1, 50).reshape(1, 50)
        message = example.refusal(X, 3 * X[0])
        for words in ("(50,)", "(1, 50)", "reshape"):
            assert words in message
        assert example.refusal(X, 3 * X) is None


class TestActivations:
    def test_derivatives_are_those_of_nudging(self):
        example = load("activations")
        Z = example.grid()
        for name in example.ELEMENTWISE:
            # both of the two values of g are off by 2 ulp at most, so by 4u |g|; their difference is divided by 2e-6
            rounding = 2 * 4 * 2**-53 * np.abs(example.g(name, Z)).max() / 2e-6
            np.testing.assert_allclose(example.nudged(name, Z), example.dg(name, Z), atol=rounding + 1e-10, rtol=0)


class TestDemand:
    def test_three_hidden_units_find_the_law(self):
        example = load("demand")
        X_train, Y_train, X_test, _, raw = example.data()
        assert X_train.shape == (4, 3000)
        np.testing.assert_allclose(X_train.mean(axis=1), 0, atol=1e-12)
        true = example.chance(raw)
        off = {}
        for hidden in (0, 3):
            net = example.network(hidden)
            cost = example.train(net, X_train, Y_train)
            assert cost[-1] < cost[0]
            off[hidden] = np.abs(net.predict(X_test) - true).mean()
        assert off[3] < 0.04 < off[0]


class TestAdClicks:
    def test_probabilities_come_close_to_the_law(self):
        example = load("ad_clicks")
        X_train, Y_train, X_test, Y_test, p = example.data()
        assert X_train.shape == (4 + 4 + 3 + 1, 15000)
        assert 0.02 < Y_train.mean() < 0.03
        costs = {"law": example.cost_of(p, Y_test)}
        costs["rate"] = example.cost_of(np.full(Y_test.size, Y_train.mean()), Y_test)
        for hidden in (0, 32):
            net = example.network(hidden)
            example.train(net, X_train, Y_train)
            y_hat = net.predict(X_test)[0].astype(float)
            costs[hidden] = example.cost_of(y_hat, Y_test)
            assert costs[hidden] == pytest.approx(net.evaluate(X_test, Y_test).cost, rel=1e-4)
        assert costs["law"] < costs[32] < costs[0] < costs["rate"]
        assert example.clicks_in_first(0.1, y_hat, Y_test) > 0.45

    def test_the_share_of_clicks_in_the_first_showings(self):
        Y = np.array([0, 1, 0, 1, 0])
        share = load("ad_clicks").clicks_in_first
        assert share(0.4, np.array([0.1, 0.9, 0.2, 0.8, 0.3]), Y) == 1
        assert share(0.4, np.array([0.1, 0.9, 0.2, 0.0, 0.3]), Y) == 0.5


class TestAutoencoder:
    def test_the_network_reaches_what_principal_components_reach(self):
        example = load("autoencoder")
        X, _ = example.data()
        least = example.smallest_cost(X, 10)
        net = example.network(10)
        example.train(net, X)
        # less than the least possible only by rounding
        assert least * (1 - 1e-9) < net.evaluate(X, X).cost < 1.01 * least
        np.testing.assert_allclose(net.parameters["W2"] @ example.code(net, X), net.predict(X), atol=1e-12)
