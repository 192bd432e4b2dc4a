"""Losses as a network has them: by name, object or function, with class weights; kept in files and copies."""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest
import reference as ref

import nnkern as nk

OBJECTS = [
    nk.losses.BinaryCrossEntropy(label_smoothing=0.2),
    nk.losses.CrossEntropy(label_smoothing=0.1),
    nk.losses.Huber(delta=0.3),
    nk.losses.Quantile(q=0.8),
    nk.losses.Poisson(),
]


def network(loss, n_y=3, dtype="float64", **options):
    output = getattr(nk.losses.get(loss), "output", None) or "linear"
    return nk.Network([nk.Dense(5, "tanh"), nk.Dense(n_y, output)], loss, n_x=4, dtype=dtype, seed=0, **options)


def data(n_y=3, m=17, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, m)), rng.dirichlet(np.ones(n_y), size=m).T


def parameter_of(loss):
    return loss.parameter if loss.name in ref.PARAMETERS else None


# ---- objects ----


@pytest.mark.parametrize("loss", OBJECTS, ids=repr)
def test_cost_and_gradients(loss, dtype):
    net, (X, Y) = network(loss, dtype=str(dtype)), data()
    Z = nk.kernels.dense_forward(
        net.parameters["W2"],
        np.asfortranarray(np.tanh(net.parameters["W1"] @ X + net.parameters["b1"]).astype(dtype)),
        net.parameters["b2"],
        "linear",
    )
    L, _, dZ = ref.loss(Z, Y, loss.name, parameter=parameter_of(loss))
    assert net.evaluate(X, Y).cost == pytest.approx(L.mean(), rel=100 * float(np.finfo(dtype).eps))
    net.forward(X)
    np.testing.assert_allclose(net.backward(Y)["db2"], dZ.mean(axis=1, keepdims=True), atol=50 * np.finfo(dtype).eps)
    assert nk.check_gradients(net, X, Y) < 1e-6


@pytest.mark.parametrize("loss", OBJECTS, ids=repr)
def test_a_loss_is_kept(loss, tmp_path):
    net, (X, Y) = network(loss), data()
    net.fit(X, Y, epochs=2)
    net.save(tmp_path / "net.npz")
    for other in (nk.load(tmp_path / "net.npz"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other == net
        assert other.loss == loss.name
        assert other.evaluate(X, Y) == net.evaluate(X, Y)
    assert nk.Network.from_config(net.config()).config() == net.config()


def test_a_class_in_place_of_a_loss_is_named():
    with pytest.raises(TypeError, match=r"the class Huber: pass an object of it, such as Huber\(\)"):
        network(nk.losses.Huber)


def test_default_numbers_are_a_name():
    assert network(nk.losses.Huber()).config()["loss"] == "huber"
    assert network(nk.losses.Huber(2)).config()["loss"] == {"name": "huber", "delta": 2.0}
    assert network("huber").config() == network(nk.losses.Huber(1)).config()


def test_what_is_no_loss_is_refused():
    for bad in ("hubert", None, 3, {"name": "hubert"}, {"delta": 1.0}):
        with pytest.raises(ValueError, match="huber, quantile, poisson"):
            network(bad)


def test_targets_of_poisson():
    net, (X, Y) = network("poisson"), data()
    Y[1, 3] = -0.5
    with pytest.raises(ValueError, match=r"-0\.5 at position \(1, 3\): poisson needs entries >= 0"):
        net.evaluate(X, Y)
    with pytest.raises(ValueError, match='Dense\\(2, "exp"\\)'):
        nk.Network([nk.Dense(2)], "poisson")


def test_quantile_regression_finds_the_quantile():
    rng = np.random.default_rng(1)
    Y = rng.exponential(size=(1, 2000))
    net = nk.Network([nk.Dense(1, init="zeros")], nk.losses.Quantile(0.9), n_x=1, dtype="float64", seed=0)
    optimizer = nk.SGD(nk.schedules.Exponential(0.5, 0.98))
    net.fit(np.zeros((1, 2000)), Y, epochs=400, batch_size=None, optimizer=optimizer)
    assert np.mean(net.parameters["b1"] > Y) == pytest.approx(0.9, abs=0.01)


def test_poisson_regression_finds_the_mean():
    rng = np.random.default_rng(2)
    Y = rng.poisson(3.7, size=(1, 500))
    net = nk.Network([nk.Dense(1, "exp", init="zeros")], "poisson", n_x=1, dtype="float64", seed=0)
    net.fit(np.zeros((1, 500)), Y, epochs=300, batch_size=None, optimizer=nk.SGD(0.1))
    assert np.exp(net.parameters["b1"]) == pytest.approx(Y.mean(), rel=1e-6)


# ---- a function of the user's own ----


def squared(A, Y):
    return 0.5 * ((A - Y) ** 2).sum(axis=0), A - Y


def squared_mean(A, Y):
    return 0.5 * ((A - Y) ** 2).sum() / A.shape[1], A - Y


@pytest.mark.parametrize("output", ["linear", "softmax", "tanh", "gelu"])
@pytest.mark.parametrize(
    "options", [{}, {"batch_size": None}, {"sample_weight": True}, {"validation_split": 0.3}], ids=str
)
def test_a_function_trains_as_the_native_loss(output, options, dtype):
    X, Y = data(m=50)
    if "sample_weight" in options:
        options = {"sample_weight": np.random.default_rng(3).uniform(0.5, 2, 50)}
    nets = []
    for loss in (squared, "squared_error"):
        layers = [nk.Dense(5, "tanh", dropout=0.2), nk.Dense(3, output)]
        net = nk.Network(layers, loss, n_x=4, l2=0.01, dtype=str(dtype), seed=1)
        history = net.fit(X, Y, epochs=4, **options)
        nets.append((net, history))
    (net, history), (native, expected) = nets
    eps = np.finfo(dtype).eps
    for key in ("cost", *(["val_cost", "val_score"] if "validation_split" in options else [])):
        np.testing.assert_allclose(history[key], expected[key], rtol=100 * eps)
    for name, a in native.parameters.items():
        np.testing.assert_allclose(net.parameters[name], a, rtol=0, atol=100 * eps)
    np.testing.assert_allclose(net.evaluate(X, Y), native.evaluate(X, Y), rtol=100 * eps)
    assert nk.check_gradients(net, X, Y) < 1e-6


def test_a_function_may_give_the_mean():
    X, Y = data()
    assert network(squared_mean).evaluate(X, Y).cost == pytest.approx(network(squared).evaluate(X, Y).cost, rel=1e-14)
    with pytest.raises(ValueError, match=r"cost of shape \(\): expected \(17,\), one an example$"):
        network(squared_mean).evaluate(X, Y, sample_weight=np.ones(17))


@pytest.mark.parametrize(
    ("function", "exception", "words"),
    [
        (lambda A, Y: 1 / 0, ZeroDivisionError, "division"),
        (
            lambda A, Y: (squared(A, Y)[0], (A - Y).T),
            ValueError,
            r"derivative of shape \(17, 3\) for A of shape \(3, 17\)",
        ),
        (lambda A, Y: (np.ones(3), A - Y), ValueError, r"cost of shape \(3,\): expected \(17,\)"),
        (
            lambda A, Y: A - Y,
            ValueError,
            r"two things, .*\(17,\).*own.*\(3, 17\), without a factor 1/17; got an array of shape \(3, 17\)",
        ),
        (lambda A, Y: 0.5, ValueError, r"two things, \(cost, dA\).*; got 0\.5\. check_gradients"),
        (lambda A, Y: (1, 2, A), ValueError, r"two things, \(cost, dA\).*; got 3 things"),
    ],
)
def test_what_a_function_raises_is_raised(function, exception, words):
    X, Y = data()
    net = network(function)
    before = {name: a.copy() for name, a in net.parameters.items()}
    net.forward(X)
    for use in (
        lambda: net.fit(X, Y, epochs=2, batch_size=None),
        lambda: net.partial_fit(X, Y),
        lambda: net.evaluate(X, Y),
        lambda: net.backward(Y),
    ):
        with pytest.raises(exception, match=words):
            use()
    for name, a in before.items():
        np.testing.assert_array_equal(net.parameters[name], a)


def test_a_function_keeps_what_it_gets():
    kept = []

    def loss(A, Y):
        kept.append((A, Y, A.copy(), Y.copy()))
        return squared(A, Y)

    X, Y = data(m=40)
    network(loss).fit(X, Y, epochs=3, batch_size=8)
    assert len(kept) == 15
    for A, Y, A_then, Y_then in kept:
        assert A.shape == Y.shape == (3, 8)
        np.testing.assert_array_equal(A, A_then)
        np.testing.assert_array_equal(Y, Y_then)


def test_a_function_in_a_file(tmp_path):
    net, (X, Y) = network(squared), data()
    net.fit(X, Y, epochs=1)
    net.save(tmp_path / "net.npz")
    loaded = nk.load(tmp_path / "net.npz")
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
    with pytest.raises(ValueError, match=r"test_losses.*squared"):
        loaded.evaluate(X, Y)
    again = nk.Network.from_config({**loaded.config(), "loss": squared}).initialize(4)
    again.set_parameters(loaded.parameters)
    assert again.evaluate(X, Y) == nk.load(tmp_path / "net.npz", loss=squared).evaluate(X, Y) == net.evaluate(X, Y)
    assert copy.deepcopy(net).evaluate(X, Y) == net.evaluate(X, Y)


def test_a_training_by_a_function_goes_on_from_a_file(tmp_path):
    (X, Y), path = data(m=40), tmp_path / "net.npz"
    net = network(squared)
    net.fit(X, Y, epochs=3, batch_size=8, optimizer="adam", callbacks=nk.Checkpoint(path))
    resumed = nk.load(path, loss=squared)
    for one in (net, resumed):
        one.fit(X, Y, epochs=2, batch_size=8, resume=True)
    assert resumed == net


def test_a_loss_that_a_file_has_no_place_for(tmp_path):
    network(squared).save(tmp_path / "function.npz")
    network("squared_error").save(tmp_path / "name.npz")
    for loss in ("squared_error", nk.losses.SquaredError):
        with pytest.raises(TypeError, match="loss must be the function that the network was trained by; got "):
            nk.load(tmp_path / "function.npz", loss=loss)
    with pytest.raises(ValueError, match=r"loss is for networks whose loss is a Python function; .* squared_error"):
        nk.load(tmp_path / "name.npz", loss=squared)


def test_labels_for_a_function_that_does_not_say_that_it_classifies():
    net = nk.Network([nk.Dense(3, "softmax")], squared, n_x=4, seed=0)
    with pytest.raises(ValueError, match=r'expected \(3, 17\): .*, or with a function .* function\.score = "argmax"$'):
        net.fit(data()[0], np.arange(17) % 3)


def test_torch_smooths_labels_the_same_way():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    Z, labels = rng.normal(size=(4, 30)), rng.integers(0, 4, 30)
    cost, _, dZ = nk.kernels.cross_entropy(Z, labels, label_smoothing=0.3)
    z = torch.tensor(Z.T, requires_grad=True)
    L = torch.nn.functional.cross_entropy(z, torch.tensor(labels), label_smoothing=0.3)
    L.backward()
    assert cost == pytest.approx(L.item(), rel=1e-13)
    np.testing.assert_allclose(dZ / 30, z.grad.numpy().T, rtol=0, atol=1e-15)
    # two softmax units are one sigmoid unit of their difference
    two = nk.kernels.cross_entropy(Z[:2], labels % 2, label_smoothing=0.3)[0]
    one = nk.kernels.binary_cross_entropy(Z[1:2] - Z[:1], labels[None] % 2.0, label_smoothing=0.3)[0]
    assert one == pytest.approx(two, rel=1e-13)


# ---- class weights ----


def classifier(binary, dtype="float64"):
    return network("binary_cross_entropy", 1, dtype) if binary else network("cross_entropy", 3, dtype)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_class_weights_are_sample_weights(binary, weighted, dtype):
    rng = np.random.default_rng(4)
    X, n = rng.normal(size=(4, 60)), 2 if binary else 3
    labels = rng.integers(0, n, 60)
    labels[:40] = 0
    w = rng.uniform(0.5, 2, 60) if weighted else np.ones(60)
    by_class = np.array([0.5, 2.0, 1.0])[:n]
    given = {0: 0.5, 1: 2}
    balanced = 60 / (n * np.bincount(labels))
    Y = labels[None].astype(float) if binary else ref.one_hot(labels, n)
    for class_weight, weights in ((given, by_class), (by_class.tolist(), by_class), ("balanced", balanced)):
        expected = classifier(binary, str(dtype))
        history = expected.fit(X, labels, epochs=2, sample_weight=w * weights[labels])
        for targets in (labels, Y):
            net = classifier(binary, str(dtype))
            options = {"sample_weight": w} if weighted else {}
            seen = net.fit(X, targets, epochs=2, class_weight=class_weight, **options)
            np.testing.assert_allclose(seen["cost"], history["cost"], rtol=100 * np.finfo(dtype).eps)
            for name, a in expected.parameters.items():
                np.testing.assert_allclose(net.parameters[name], a, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("soft", [False, True])
def test_class_weights_of_several_sigmoid_outputs_are_multiplied(soft):
    rng = np.random.default_rng(6)
    X, Y = rng.normal(size=(4, 40)), rng.integers(0, 2, (3, 40)).astype(float)
    Y[2] = 1  # of one class alone
    if soft:
        Y[0] = rng.uniform(size=40)
    given = [{1: 5}, [0.5, 2], {0: 3}]
    by_hand = np.array([[1, 5], [0.5, 2], [3, 1]])  # (n_y, classes)
    counts = np.stack([(1 - Y).sum(axis=1), Y.sum(axis=1)], axis=1)
    balanced = 40 / ((counts > 0).sum(axis=1, keepdims=True) * np.where(counts == 0, np.inf, counts))
    for class_weight, by_class in ((given, by_hand), ("balanced", balanced)):
        w = np.prod(by_class[:, :1] * (1 - Y) + by_class[:, 1:] * Y, axis=0)
        net, expected = network("binary_cross_entropy"), network("binary_cross_entropy")
        net.fit(X, Y, epochs=2, class_weight=class_weight)
        expected.fit(X, Y, epochs=2, sample_weight=w)
        for name, a in expected.parameters.items():
            np.testing.assert_allclose(net.parameters[name], a, rtol=1e-12, atol=1e-14)
        if not soft:
            convention = pytest.importorskip("sklearn.utils.class_weight").compute_sample_weight
            dicts = class_weight
            if class_weight is given:
                dicts = [dict(enumerate(row)) for row in by_hand]
            np.testing.assert_allclose(w, convention(dicts, Y.T.astype(int)), rtol=1e-12)


def test_class_weights_of_batches_and_of_validation():
    X, labels = np.random.default_rng(5).normal(size=(4, 30)), np.arange(30) % 3
    a, b, c = (classifier(False) for _ in range(3))
    a.partial_fit(X, labels, class_weight=[1, 2, 3])
    b.fit([(X, labels)], epochs=1, class_weight={1: 2, 2: 3})
    c.fit(X, labels, epochs=1, batch_size=None, class_weight={1: 2, 2: 3})
    for name, value in a.parameters.items():
        np.testing.assert_allclose(b.parameters[name], value, rtol=1e-12)
        np.testing.assert_allclose(c.parameters[name], value, rtol=1e-12)
    history = c.fit(X, labels, epochs=1, class_weight={1: 2, 2: 3}, validation_data=(X, labels))
    assert history["val_cost"] == [c.evaluate(X, labels).cost]
    for use in (lambda: a.partial_fit(X, labels, class_weight="balanced"), lambda: a.fit([], class_weight="balanced")):
        with pytest.raises(ValueError, match="class_weight 'balanced' needs all of Y in memory"):
            use()


@pytest.mark.parametrize(
    ("loss", "n_y", "class_weight", "words"),
    [
        ("squared_error", 1, {0: 1}, "needs classes, which the loss squared_error doesn't have"),
        ("binary_cross_entropy", 2, {0: 1}, "a list of 2 dicts or pairs of numbers, one for each sigmoid output"),
        ("binary_cross_entropy", 2, [{0: 1}], "one for each sigmoid output"),
        ("binary_cross_entropy", 2, [1, 2], r"class_weight\[0\] must be 2 numbers, or a dict"),
        ("binary_cross_entropy", 2, [{}, {2: 1}], r"class_weight\[1\] holds the label 2"),
        ("cross_entropy", 3, "equal", "balanced"),
        ("cross_entropy", 3, {3: 1}, "label 3"),
        ("cross_entropy", 3, {"0": 1}, "label '0'"),
        ("cross_entropy", 3, {True: 1}, "label True"),
        ("cross_entropy", 3, {0: -1}, r"class_weight\[0\] must be finite and >= 0; got -1"),
        ("cross_entropy", 3, [1, 2], "3 numbers"),
        ("cross_entropy", 3, 2.0, "3 numbers"),
        ("cross_entropy", 3, [0, 0, 0], "every example the weight 0"),
    ],
)
def test_refused_class_weights(loss, n_y, class_weight, words):
    net = network(loss, n_y)
    X, Y = data(n_y)
    before = net.parameters["W1"].copy()
    with pytest.raises(ValueError, match=words):
        net.fit(X, Y, class_weight=class_weight)
    np.testing.assert_array_equal(net.parameters["W1"], before)


def test_batches_in_which_nothing_counts():
    net = network("cross_entropy", 3)
    X, Y = data(3)
    net.fit(X, Y, epochs=1)
    before = net.parameters["W1"].copy()
    with pytest.raises(ValueError, match="give every example the weight 0"):
        net.fit([(X, Y, np.zeros(X.shape[1]))] * 2, epochs=1)
    np.testing.assert_array_equal(net.parameters["W1"], before)


@pytest.mark.parametrize("loss", nk.losses.LOSSES.values(), ids=list(nk.losses.LOSSES))
def test_labels_of_outputs(loss):
    """By the score that a loss has: the largest output, or each on its side of ½; numbers have no labels."""
    A = np.array([[0.1, 0.9, 0.5], [0.2, 0.05, 0.4], [0.7, 0.05, 0.1]])
    assert loss.classifies == loss.labels == (loss.score != "squares")
    if loss.score == "argmax":
        assert loss.labels_of(A).tolist() == [2, 0, 0]
    elif loss.score == "sides":
        assert loss.labels_of(A).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
        assert loss.labels_of(A[:1]).tolist() == [0, 1, 0]
    else:
        with pytest.raises(ValueError, match=f"the loss {loss.name} has no classes"):
            loss.labels_of(A)
        return
    A[1, 2] = np.nan
    with pytest.raises(ValueError, match="the outputs for example 2 hold NaN"):
        loss.labels_of(A)


# ---- a function of the user's own that classifies ----


def cross_entropy(A, Y):
    A = A.clip(1e-300, 1)
    return -(Y * np.log(A)).sum(axis=0), -Y / A


def binary_cross_entropy(A, Y):
    return -(Y * np.log(A) + (1 - Y) * np.log(1 - A)).sum(axis=0), (A - Y) / (A * (1 - A))


# {the native loss: (outputs, their activation, the function, its score)}
CLASSIFYING = {
    "cross_entropy": (3, "softmax", cross_entropy, "argmax"),
    "binary_cross_entropy": (1, "sigmoid", binary_cross_entropy, "sides"),
}


def classifying(name, own=True, m=60, dtype="float64", **options):
    """(network by the native loss or the user's own, X, labels, Y as columns)."""
    n_y, output, function, score = CLASSIFYING[name]
    rng = np.random.default_rng(5)
    X, classes = rng.normal(size=(4, m)), max(n_y, 2)
    labels = rng.integers(0, classes, m)
    X[0] += 2 * labels
    Y = ref.one_hot(labels, 3) if n_y == 3 else labels[None].astype(float)
    loss = nk.losses.Custom(function, score=score) if own else name
    layers = [nk.Dense(5, "tanh"), nk.Dense(n_y, output)]
    return nk.Network(layers, loss, n_x=4, dtype=dtype, seed=1, **options), X, labels, Y


@pytest.mark.parametrize("name", CLASSIFYING)
@pytest.mark.parametrize("targets", ["labels", "columns"])
@pytest.mark.parametrize(
    "options", [{}, {"class_weight": {0: 3}}, {"sample_weight": True}, {"batch_size": None}], ids=str
)
def test_a_function_that_classifies_trains_as_the_native_loss(name, targets, options):
    if "sample_weight" in options:
        options = {"sample_weight": np.random.default_rng(3).uniform(0.5, 2, 60)}
    found = {}
    for own in (True, False):
        net, X, labels, Y = classifying(name, own)
        given = labels if targets == "labels" else Y
        best = nk.EarlyStopping(None, monitor="val_auc")
        history = net.fit(X, given, epochs=4, validation_data=(X[:, :40], given.T[:40].T), callbacks=best, **options)
        found[own] = net, history, net.evaluate(X, given), net.predict_labels(X), best.best_epoch
    (net, history, evaluation, predicted, best), (native, expected, *known) = found[True], found[False]
    for key in ("cost", "val_cost", "val_score", "val_auc"):
        np.testing.assert_allclose(history[key], expected[key], rtol=1e-12)
    for key, a in native.parameters.items():
        np.testing.assert_allclose(net.parameters[key], a, rtol=0, atol=1e-12)
    assert evaluation == pytest.approx(known[0], rel=1e-12)
    np.testing.assert_array_equal(predicted, known[1])
    assert best == known[2]
    assert evaluation.score == np.mean(predicted == labels)
    assert nk.check_gradients(net, X, given) < 1e-6


@pytest.mark.parametrize("name", CLASSIFYING)
def test_labels_reach_a_function_that_classifies_everywhere(name, tmp_path):
    net, X, labels, Y = classifying(name)
    seen = net.fit(X, labels, epochs=2, progress=True)["score"]
    assert all(0 < score <= 1 for score in seen)
    assert copy.deepcopy(net).partial_fit(X, labels) == net.partial_fit(X, Y)
    net.fit([(X[:, :30], labels[:30]), (X[:, 30:], labels[30:])], epochs=1)
    J, grads = net.gradients(X, labels)
    assert (J, grads["dW1"].tobytes()) == ((same := net.gradients(X, Y)).cost, same.grads["dW1"].tobytes())
    net.forward(X)
    np.testing.assert_array_equal(net.backward(labels)["dW2"], grads["dW2"])
    np.testing.assert_array_equal(net.input_gradient(X, labels), net.input_gradient(X, Y))
    report = net.compile_predict().report(net, X, labels)
    assert report.agreement == 1
    assert report.evaluation.score == net.evaluate(X, labels).score
    bad = np.array(labels)
    bad[3] = 7
    with pytest.raises(ValueError, match="holds the label 7 at position 3"):
        net.fit(X, bad)
    if name == "cross_entropy":
        with pytest.raises(ValueError, match=r"column 0 of Y sums to 3: custom needs columns that sum to 1"):
            net.fit(X, np.ones((3, 60)))


@pytest.mark.parametrize("name", CLASSIFYING)
def test_a_function_that_classifies_in_a_file(name, tmp_path):
    net, X, labels, _ = classifying(name)
    function, score = CLASSIFYING[name][2:]
    net.save(tmp_path / "net.npz")
    assert net.config()["loss"] == {"name": "custom", "function": f"{__name__}.{function.__name__}", "score": score}
    loaded = nk.load(tmp_path / "net.npz")
    np.testing.assert_array_equal(loaded.predict_labels(X), net.predict_labels(X))
    with pytest.raises(ValueError, match=function.__name__) as caught:
        loaded.evaluate(X, labels)
    # what the message proposes, word for word
    [line] = re.findall(r"nnkern\.load\(.*\)$", str(caught.value))
    again = eval(line, {"nnkern": nk, "path": tmp_path / "net.npz", "function": function})
    assert again.config() == net.config()  # the score is the file's, where the function doesn't say one
    assert again.evaluate(X, labels) == net.evaluate(X, labels)
    assert copy.deepcopy(net).evaluate(X, labels) == net.evaluate(X, labels)


def test_several_labels_at_once_by_a_function():
    rng = np.random.default_rng(8)
    X, Y = rng.normal(size=(4, 50)), rng.integers(0, 2, (3, 50)).astype(float)
    nets = []
    for loss in (nk.losses.Custom(binary_cross_entropy, score="sides"), "binary_cross_entropy"):
        net = nk.Network([nk.Dense(5, "tanh"), nk.Dense(3, "sigmoid")], loss, n_x=4, dtype="float64", seed=0)
        net.fit(X, Y, epochs=3)
        nets.append(net)
    own, native = nets
    np.testing.assert_array_equal(own.predict_labels(X), native.predict_labels(X))
    assert own.evaluate(X, Y) == pytest.approx(native.evaluate(X, Y), rel=1e-12)
    with pytest.raises(ValueError, match=r"custom needs entries in \[0, 1\]"):
        own.fit(X, 2 * Y)


def test_the_score_of_a_function_is_its_own_attribute_or_given():
    def loss(A, Y):
        return cross_entropy(A, Y)

    assert nk.losses.get(loss).score == nk.losses.Custom(loss).score == "squares"
    assert "score" not in nk.losses.get(loss).config()
    loss.score = "argmax"
    assert nk.losses.get(loss).score == "argmax"
    assert nk.losses.get(loss) == nk.losses.Custom(loss, score="argmax")
    assert nk.losses.Custom(loss, score="squares").score == "squares"
    with pytest.raises(ValueError, match="score must be one of argmax, sides, squares; got 'accuracy'"):
        nk.losses.Custom(loss, score="accuracy")
    loss.score = "right"
    with pytest.raises(ValueError, match="score must be one of argmax, sides, squares; got 'right'"):
        network(loss)
    # one that doesn't say so gets numbers, and its network has no labels
    net, X, labels, _ = classifying("cross_entropy")
    numbers = nk.Network(net.layers, cross_entropy, n_x=4)
    with pytest.raises(ValueError, match=r"Y has shape \(60,\), expected \(3, 60\)"):
        numbers.fit(X, labels)
    with pytest.raises(ValueError, match="has no classes"):
        numbers.predict_labels(X)


@pytest.mark.parametrize("name", CLASSIFYING)
@pytest.mark.parametrize("early_stopping", [False, True, "loss"])
def test_a_function_that_classifies_in_an_estimator(name, early_stopping):
    estimators = pytest.importorskip("nnkern.sklearn", exc_type=ImportError)
    _, X, labels, _ = classifying(name, m=120)
    names = np.array(["a", "b", "c"])[labels]
    how = {
        "max_iter": 60,
        "learning_rate_init": 0.02,
        "random_state": 0,
        "early_stopping": early_stopping,
        "tol": 0.0,
        "n_iter_no_change": np.inf,
    }
    fitted = []
    for loss in (CLASSIFYING[name][2], "log_loss"):
        mlp = estimators.MLPClassifier((6,), "tanh", loss=loss, **how)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # so few epochs aren't convergence
            fitted.append(mlp.fit(X.T, names, eval_set=(X.T[:50], names[:50])))
    own, native = fitted
    np.testing.assert_array_equal(own.predict(X.T), native.predict(X.T))
    np.testing.assert_allclose(own.predict_proba(X.T), native.predict_proba(X.T), rtol=1e-9)
    assert own.validation_scores_ == native.validation_scores_
    np.testing.assert_allclose(own.validation_loss_curve_, native.validation_loss_curve_, rtol=1e-9)
    assert own.score(X.T, names) == native.score(X.T, names) > 0.5
    np.testing.assert_array_equal(own.classes_[own.network_.predict_labels(X)], own.predict(X.T))
    assert own.network_.evaluate(X, labels).score == own.score(X.T, names)


def test_a_regressor_takes_no_loss_that_classifies():
    estimators = pytest.importorskip("nnkern.sklearn", exc_type=ImportError)
    loss = nk.losses.Custom(cross_entropy, score="argmax")
    with pytest.raises(
        ValueError, match="loss 'custom' is for classes, and a regressor predicts numbers: use MLPClass"
    ):
        estimators.MLPRegressor(loss).fit(np.ones((5, 2)), np.arange(5.0))


@pytest.mark.parametrize("name", CLASSIFYING)
def test_a_network_whose_function_classifies_becomes_scikit_learns_classifier(name):
    pytest.importorskip("sklearn")
    net, X, _, _ = classifying(name)
    np.testing.assert_array_equal(net.to_sklearn().predict(X.T), net.predict_labels(X))


def test_backward_of_a_function_that_classifies_gets_columns():
    """Labels that need no validation otherwise, too: the function knows of none."""
    net, X, labels, Y = classifying("cross_entropy")
    X, labels = np.asfortranarray(X), labels.astype(np.int64)
    for _ in range(2):
        net.forward(X)
        np.testing.assert_array_equal(net.backward(labels)["dW1"], net.backward(Y)["dW1"])
        cost = net.partial_fit(X, labels)
        assert np.isfinite(cost)
    with pytest.raises(ValueError, match="sums to 3"):
        net.backward(np.ones((3, 60)))
