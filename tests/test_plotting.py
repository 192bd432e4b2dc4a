"""The pictures: what is in them, what they refuse, and that they neither show, print nor touch pyplot unasked."""

import subprocess
import sys

import numpy as np
import pytest

import nnkern as nk

pytest.importorskip("matplotlib")

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from nnkern import plotting

HISTORY = {"cost": [3.0, 2.0, 1.5], "val_cost": [3.5, 2.5, 2.6], "score": [0.5, 0.6, 0.7]}


@pytest.fixture(autouse=True)
def nothing_shown(monkeypatch, capsys):
    monkeypatch.setattr(pyplot, "show", lambda *_, **__: pytest.fail("pyplot.show was called"))
    yield
    pyplot.close("all")
    said = capsys.readouterr()
    assert said.out == said.err == ""


@pytest.fixture
def ax():
    return plotting.panels()[1][0, 0]


def lines(ax):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines}


def separator(output="sigmoid", loss="binary_cross_entropy"):
    """A network with two inputs whose boundary is x₁ = ½: z = 20 x₁ - 10."""
    n_y = 1 if output == "sigmoid" else 2
    net = nk.Network([nk.Dense(n_y, output)], loss, n_x=2, dtype="float64")
    W, b = np.array([[20.0, 0.0]]), np.array([[-10.0]])
    if n_y == 2:
        W, b = np.vstack([0 * W, W]), np.vstack([0 * b, b])
    net.set_parameters({"W1": W, "b1": b})
    return net


POINTS = np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])  # (2, m)


def boundary(ax):
    """x of the black line."""
    [contour] = [c for c in ax.collections if getattr(c, "levels", [None])[0] == 0 and len(c.levels) == 1]
    return np.concatenate([path.vertices for path in contour.get_paths()])[:, 0]


# ---- where it is drawn


DRAWINGS = {
    "learning_curve": lambda **more: plotting.learning_curve(HISTORY, **more),
    "decision_boundary": lambda **more: plotting.decision_boundary(separator(), POINTS, [0, 0, 1, 1], **more),
    "weight_images": lambda **more: plotting.weight_images(separator(), shape=(1, 2), **more),
    "confusion_matrix": lambda **more: plotting.confusion_matrix([0, 1], [1, 1], **more),
}


def test_every_picture_is_tried_here():
    assert set(plotting.__all__) == {*DRAWINGS, "panels", "confusion"}


@pytest.mark.parametrize("name", DRAWINGS)
def test_into_the_axes_given_or_into_a_new_figure(name, ax, tmp_path):
    assert DRAWINGS[name](ax=ax) is ax
    assert pyplot.get_fignums() == []  # pyplot knows of no figure
    ax.figure.savefig(tmp_path / "given.png")
    own = DRAWINGS[name]()
    assert isinstance(own, Axes)
    assert len(pyplot.get_fignums()) == 1
    assert own is not DRAWINGS[name]()
    assert len(pyplot.get_fignums()) == 2


def test_without_matplotlib_the_error_says_what_to_install():
    code = """
import sys
sys.modules["matplotlib"] = None
from nnkern import plotting
print(plotting.confusion([0, 1], [1, 1]).tolist())
plotting.learning_curve({"cost": [1.0]})
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "[[0, 1], [0, 1]]\n"
    assert "MissingPackageError: drawing needs matplotlib: pip install 'nnkern[plot]'" in done.stderr


def test_pyplot_is_not_imported_for_panels():
    code = "import sys; from nnkern import plotting; plotting.panels(2); print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "False\n", done.stderr


def test_panels():
    figure, axes = plotting.panels(2, 3, width=4, height=2)
    assert axes.shape == (2, 3)
    assert tuple(figure.get_size_inches()) == (12, 4)


# ---- learning curves


def test_a_history(ax):
    plotting.learning_curve(HISTORY, ax=ax)
    assert lines(ax) == {"training": ([1, 2, 3], HISTORY["cost"]), "held out": ([1, 2, 3], HISTORY["val_cost"])}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "cost")
    other = plotting.learning_curve(HISTORY, "score")
    assert lines(other) == {"training": ([1, 2, 3], HISTORY["score"])}


def test_several_histories_of_any_length(ax):
    plotting.learning_curve([HISTORY, {"cost": [1.0]}], labels=["SGD", "Adam"], ax=ax)
    assert [(name, len(x)) for name, (x, _) in lines(ax).items()] == [("SGD", 3), ("SGD, held out", 3), ("Adam", 1)]
    assert ax.lines[0].get_color() == ax.lines[1].get_color() != ax.lines[2].get_color()
    assert list(lines(plotting.learning_curve([{"cost": [1.0]}, {"cost": [2.0]}]))) == ["1", "2"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_curves_of_estimators(ax):
    estimators = pytest.importorskip("nnkern.sklearn", exc_type=ImportError)
    X, y = POINTS.T, np.array([0, 0, 1, 1])
    mlp = estimators.MLPClassifier(max_iter=3).fit(X, y, eval_set=(X, y))
    plotting.learning_curve(mlp, ax=ax)
    assert lines(ax) == {
        "training": ([1, 2, 3], mlp.loss_curve_),
        "held out": ([1, 2, 3], mlp.validation_loss_curve_),
    }
    plain = estimators.MLPClassifier(max_iter=3).fit(X, y)
    assert list(lines(plotting.learning_curve([mlp, plain], "score"))) == ["1, held out"]


def test_what_is_no_history():
    with pytest.raises(ValueError, match=r"quantity must be one of cost, score, val_cost; got 'acuracy'"):
        plotting.learning_curve(HISTORY, "acuracy")
    with pytest.raises(TypeError, match="history must be what fit returned"):
        plotting.learning_curve([1.0, 0.5])
    with pytest.raises(ValueError, match="labels has 1 names for 2 histories"):
        plotting.learning_curve([HISTORY, HISTORY], labels=["one"])
    assert pyplot.get_fignums() == []  # a refusal leaves no empty figure behind


# ---- decision boundaries


@pytest.mark.parametrize(("output", "loss"), [("sigmoid", "binary_cross_entropy"), ("softmax", "cross_entropy")])
def test_the_boundary_is_where_the_classes_are_even(output, loss, ax):
    plotting.decision_boundary(separator(output, loss), POINTS, np.array([[0, 0, 1, 1]]), labels=["no", "yes"], ax=ax)
    # between neighbours of the grid, 1.2/199 apart, the lead is drawn as a straight line
    np.testing.assert_allclose(boundary(ax), 0.5, atol=1.2 / 199)
    assert ax.get_xlim() == pytest.approx((-0.1, 1.1))
    assert ax.get_ylim() == pytest.approx((-0.1, 1.1))
    drawn = {c.get_label(): np.asarray(c.get_offsets()).tolist() for c in ax.collections if c.get_label()[0] != "_"}
    assert drawn == {"no": POINTS[:, :2].T.tolist(), "yes": POINTS[:, 2:].T.tolist()}


def test_three_classes_and_no_points(ax):
    net = nk.Network([nk.Dense(3, "softmax")], "cross_entropy", n_x=2, dtype="float64")
    # largest: -x₁ on the left, x₁ - 1 on the right, x₂ - 10 nowhere
    net.set_parameters({"W1": np.array([[-10.0, 0], [10, 0], [0, 10]]), "b1": np.array([[0.0], [-10], [-100]])})
    plotting.decision_boundary(net, POINTS, points=61, ax=ax)
    [image] = ax.images
    colours = image.get_array()
    assert colours.shape == (61, 61, 4)
    assert len(np.unique(colours.reshape(-1, 4), axis=0)) == 2
    assert (colours[:, :30] == colours[0, 0]).all()
    assert (colours[:, 31:] == colours[0, -1]).all()
    assert ax.get_legend() is None


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_boundary_of_estimators(ax):
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression, Perceptron
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    y = np.array(["left", "left", "right", "right"])
    for model in (LogisticRegression(), Perceptron(), make_pipeline(StandardScaler(), LogisticRegression())):
        ax = plotting.decision_boundary(model.fit(POINTS.T, y), POINTS.T, y)
        assert len(boundary(ax)) > 1
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["left", "right"]
        grid = np.stack([boundary(ax)], axis=1)
        assert ((grid > -0.1) & (grid < 1.1)).all()


def test_what_has_no_boundary():
    several = nk.Network([nk.Dense(2, "sigmoid")], "binary_cross_entropy", n_x=2)
    for net in (separator("linear", "squared_error"), several):
        with pytest.raises(ValueError, match="a decision boundary needs one class an example"):
            plotting.decision_boundary(net, POINTS)
    with pytest.raises(ValueError, match=r"X must have shape \(2, m\).* got shape \(4, 2\)"):
        plotting.decision_boundary(separator(), POINTS.T)
    with pytest.raises(ValueError, match="X has 4 examples, Y has 3"):
        plotting.decision_boundary(separator(), POINTS, [0, 1, 1])
    with pytest.raises(ValueError, match="Y holds 7, which is none of the classes 0, 1"):
        plotting.decision_boundary(separator(), POINTS, [0, 1, 1, 7])
    with pytest.raises(ValueError, match="labels has 1 names for 2 classes"):
        plotting.decision_boundary(separator(), POINTS, labels=["one"])
    with pytest.raises(TypeError, match="model must be a Network or a fitted classifier"):
        plotting.decision_boundary("net", POINTS.T)
    assert pyplot.get_fignums() == []


# ---- weights


def image_network(W):
    net = nk.Network([nk.Dense(len(W), "relu"), nk.Dense(1)], "squared_error", n_x=W.shape[1], dtype="float64", seed=0)
    net.set_parameters({**net.parameters, "W1": W})
    return net


def test_grey_pictures(ax):
    W = np.zeros((3, 6))
    W[0] = [0, 1, 2, -2, -1, 0]
    W[1, 0] = -4  # has its own scale; the third unit is all zero
    plotting.weight_images(image_network(W), shape=(2, 3), ax=ax)
    sheet = ax.images[0].get_array()
    assert sheet.shape == (2 * 2 + 1, 3 * 2 + 1)
    np.testing.assert_array_equal(sheet[:2, :3], [[0.5, 0.75, 1], [0, 0.25, 0.5]])
    np.testing.assert_array_equal(sheet[:2, 4:], [[0, 0.5, 0.5], [0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(sheet[3:, :3], np.full((2, 3), 0.5))
    assert (sheet[2] == 1).all()  # between the rows, and where there is no unit
    assert (sheet[3:, 4:] == 1).all()


def test_pictures_are_channel_by_channel(ax):
    W = np.arange(1.0, 13).reshape(1, 12)
    plotting.weight_images(image_network(W), ax=ax)
    sheet = ax.images[0].get_array()
    assert sheet.shape == (2, 2, 3)
    for c in range(3):
        np.testing.assert_allclose(sheet[:, :, c], 0.5 + 0.5 * W[0, 4 * c : 4 * c + 4].reshape(2, 2) / 12)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_chosen_units_and_estimators():
    W = np.random.default_rng(0).normal(size=(5, 4))
    all_, some = (plotting.weight_images(image_network(W), units=units).images[0].get_array() for units in (None, [3]))
    assert all_.shape == (5, 8)
    np.testing.assert_array_equal(some, all_[3:, :2])
    estimators = pytest.importorskip("nnkern.sklearn", exc_type=ImportError)
    mlp = estimators.MLPRegressor(hidden_layer_sizes=(2,), max_iter=1).fit(np.eye(4), np.arange(4))
    for model in (mlp, mlp.network_):
        sheet = plotting.weight_images(model).images[0].get_array()
        largest = np.abs(mlp.coefs_[0]).max(axis=0)
        np.testing.assert_allclose(sheet[:, 3:], 0.5 + 0.5 * (mlp.coefs_[0][:, 1] / largest[1]).reshape(2, 2))


def test_what_is_no_picture():
    net = image_network(np.ones((2, 6)))
    with pytest.raises(ValueError, match="6 features are no square picture"):
        plotting.weight_images(net)
    for shape in ((2, 2), (2, 1, 3), (6,)):
        with pytest.raises(ValueError, match="of 1 or 3 channels and 6 numbers in all"):
            plotting.weight_images(net, shape=shape)
    for units in ([2], [-1], [], [0.5]):
        with pytest.raises(ValueError, match="units must be integers from 0 to 1"):
            plotting.weight_images(net, shape=(2, 3), units=units)
    with pytest.raises(TypeError, match="model must be a Network or a fitted estimator"):
        plotting.weight_images(np.ones((2, 4)))
    with pytest.raises(nk.NotFittedError):
        plotting.weight_images(nk.Network([nk.Dense(1)], "squared_error"))
    assert pyplot.get_fignums() == []


# ---- confusion


def test_confusion():
    Y, Y_hat = np.array([0, 1, 2, 2, 2]), np.array([[0, 2, 2, 2, 0]])
    np.testing.assert_array_equal(plotting.confusion(Y, Y_hat), [[1, 0, 0], [0, 0, 1], [1, 0, 2]])
    np.testing.assert_array_equal(plotting.confusion(["b", "a"], ["a", "a"], ["b", "a"]), [[0, 1], [0, 1]])
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    Y, Y_hat = rng.integers(0, 5, (2, 200))
    np.testing.assert_array_equal(plotting.confusion(Y, Y_hat), metrics.confusion_matrix(Y, Y_hat))


def test_the_matrix_shows_counts_and_names(ax):
    plotting.confusion_matrix([0, 0, 0, 1], [0, 0, 1, 1], labels=["cat", "other"], ax=ax)
    np.testing.assert_allclose(ax.images[0].get_array(), [[2 / 3, 1 / 3], [0, 1]])
    assert [text.get_text() for text in ax.texts] == ["2", "1", "0", "1"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["cat", "other"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    shares = plotting.confusion_matrix([0, 0, 0, 1], [0, 0, 1, 1], classes=[1, 0, 7], normalise=True)
    assert [text.get_text() for text in shares.texts] == ["1.00", "0.00", "0.00", "0.33", "0.67", "0.00", *["0.00"] * 3]
    many = plotting.confusion_matrix(np.arange(40), np.arange(40))
    assert len(many.texts) == 0


def test_what_is_no_confusion():
    for call in (plotting.confusion, plotting.confusion_matrix):
        with pytest.raises(ValueError, match=r"^Y_hat holds 0\.25, which is no label: predict_labels gives those"):
            call([0, 1], [1.0, 0.25])
        with pytest.raises(ValueError, match=r"^Y holds nan, which is no label"):
            call([0, np.nan], [1, 1])
        with pytest.raises(ValueError, match="Y has 2 labels, Y_hat 1"):
            call([0, 1], [0])
        with pytest.raises(ValueError, match="Y_hat holds 3, which is none of the classes 0, 1"):
            call([0, 1], [0, 3], classes=[0, 1])
        with pytest.raises(ValueError, match=r"Y must hold labels of shape \(m,\) or \(1, m\); got shape \(2, 2\)"):
            call(np.eye(2), [0, 1])
    np.testing.assert_array_equal(plotting.confusion([0.5, 1.5], [1.5, 1.5], classes=[0.5, 1.5]), [[0, 1], [0, 1]])
    with pytest.raises(ValueError, match="labels has 1 names for 2 classes"):
        plotting.confusion_matrix([0, 1], [0, 1], labels=["one"])
    assert pyplot.get_fignums() == []
