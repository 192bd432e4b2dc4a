"""The table of bad inputs, row by row: which error, what its message names, and that nothing changed.

A test is named after its row. `refused` asserts all that each row promises: the error, its words, parameters bit for
bit as they were (or still none), inputs unmodified.
"""

import re
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import DTYPES, LAYOUTS, unmodified

import nnkern as nk

M = 6
N_X = 3

# loss -> (n_y, output activation, Y of M examples)
KINDS = {
    "classes": ("cross_entropy", 4, "softmax", np.array([0, 3, 2, 1, 2, 0])),
    "shares of classes": ("cross_entropy", 4, "softmax", np.full((4, M), 0.25)),
    "two classes": ("binary_cross_entropy", 1, "sigmoid", np.array([0, 1, 1, 0, 1, 0])),
    "several labels": ("binary_cross_entropy", 2, "sigmoid", np.array([[0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 0, 1.0]])),
    "regression": ("squared_error", 2, "linear", np.arange(2.0 * M).reshape(2, M) / 10),
    "one output": ("absolute_error", 1, "linear", np.arange(1.0 * M).reshape(1, M) / 10),
}
EVERY_KIND = tuple(KINDS)


def make_X(dtype="float64"):
    return np.random.default_rng(0).normal(size=(N_X, M)).astype(dtype)


def make_Y(kind):
    return KINDS[kind][3].copy()


def make_net(kind="classes", *, n_x=N_X, **options):
    loss, n_y, activation, _ = KINDS[kind]
    return nk.Network([nk.Dense(5, "tanh"), nk.Dense(n_y, activation)], loss, n_x=n_x, seed=0, **options)


def fit(net, X, Y, **options):
    return net.fit(X, Y, **{"epochs": 2, "batch_size": 4, "shuffle": False, **options})


def validation(net, X, Y):
    kind = next(k for k, (loss, n_y, *_) in KINDS.items() if (loss, n_y) == (net.loss, net.n_y))
    return fit(net, make_X(), make_Y(kind), validation_data=(X, Y))


def backward(net, X, Y):
    net.forward(X)
    return net.backward(Y)


# every method that takes X and Y, by name
WAYS = {
    "fit": fit,
    "fit, full batch": lambda net, X, Y: fit(net, X, Y, batch_size=None),
    "fit, validation_data": validation,
    "fit, batches": lambda net, X, Y: net.fit([(X, Y)], epochs=2),
    "partial_fit": lambda net, X, Y: net.partial_fit(X, Y),
    "evaluate": lambda net, X, Y: net.evaluate(X, Y),
    "check_gradients": lambda net, X, Y: nk.check_gradients(net, X, Y),
}
WAYS_OF_Y = {**WAYS, "backward": backward}
WAYS_OF_X = {
    **WAYS,
    "predict": lambda net, X, Y: net.predict(X),
    "predict_labels": lambda net, X, Y: net.predict_labels(X),
    "forward": lambda net, X, Y: net.forward(X),
}
TRAINING = {name: WAYS[name] for name in ("fit", "fit, full batch", "fit, batches", "partial_fit")}


def every(ways):
    return pytest.mark.parametrize("way", ways.values(), ids=list(ways))


def state(net):
    """All of a network that can be seen, bit for bit."""
    try:
        parameters = {name: (a.shape, a.tobytes()) for name, a in net.parameters.items()}
    except nk.NotFittedError:
        parameters = None
    return parameters, net.config(), net.n_x, repr(net)


@contextmanager
def refused(net, *words, error=ValueError, inputs=()):
    """Asserts that the block raises `error` with these words (regular expressions), and that nothing changed."""
    before = state(net)
    arrays = [a for a in inputs if isinstance(a, np.ndarray) and a.dtype != object]
    with unmodified(*arrays), pytest.raises(error) as caught:
        yield
    assert state(net) == before
    message = str(caught.value)
    for word in words:
        assert re.search(word, message), f"no {word!r} in {message!r}"


def shape(*sizes):
    """A regular expression for a shape as numpy prints it."""
    return re.escape(str(sizes))


# ---- X or Y holds NaN or Inf ----


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", EVERY_KIND)
@every(WAYS)
def test_X_not_finite(way, kind, bad):
    X, Y, net = make_X(), make_Y(kind), make_net(kind)
    X[1, 2] = X[2, 5] = bad
    with refused(net, r"\bX\b", r"\b1, 2\b", inputs=(X, Y)):
        way(net, X, Y)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["shares of classes", "several labels", "regression", "one output"])
@every(WAYS_OF_Y)
def test_Y_not_finite(way, kind, bad):
    X, Y, net = make_X(), make_Y(kind), make_net(kind)
    row = Y.shape[0] - 1
    Y[row, 2] = Y[row, 5] = bad
    with refused(net, r"\bY\b", rf"\b{row}, 2\b", inputs=(X, Y)):
        way(net, X, Y)


@pytest.mark.parametrize("kind", ["classes", "two classes"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@every(WAYS_OF_Y)
def test_labels_not_finite(way, kind, bad):
    X, Y, net = make_X(), make_Y(kind).astype(float), make_net(kind)
    Y[2] = Y[5] = bad
    with refused(net, r"\bY\b", r"\b2\b", inputs=(X, Y)):
        way(net, X, Y)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("position", [0, 1, 4095, 4096, 70_001, 99_999])
def test_not_finite_anywhere_in_a_large_X(dtype, position):
    X = np.zeros((2, 50_000), dtype)
    i, k = divmod(position, 50_000)
    X[i, k] = np.nan
    net = make_net("one output", n_x=2, dtype=str(dtype))
    with refused(net, r"\bX\b", rf"\b{i}, {k}\b", inputs=(X,)):
        fit(net, X, np.zeros((1, 50_000)))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if not name.endswith("broadcast")])
def test_not_finite_position_counts_in_the_array_handed_in(layout):
    X, Y, net = make_X(), make_Y("regression"), make_net("regression")
    X[1, 2] = np.nan
    X = LAYOUTS[layout](X)
    with refused(net, r"\bX\b", r"\b1, 2\b"):
        net.evaluate(X, Y)


# ---- finite in float64, not in the network's dtype ----

TOO_LARGE = (r"which is finite in float64 and not in float32", r"scale", re.escape('dtype="float64"'))


@pytest.mark.parametrize("bad", [1e39, -1e300, 3.4028236e38])
@every({name: way for name, way in WAYS_OF_X.items() if name != "check_gradients"})  # which computes in float64
def test_X_that_float32_cannot_hold(way, bad):
    X, Y, net = make_X(), make_Y("classes"), make_net()
    X[1, 2] = X[2, 5] = bad
    with refused(net, r"\bX holds", re.escape(str(bad)), r"\(1, 2\)", *TOO_LARGE, inputs=(X, Y)):
        way(net, X, Y)


@every({name: way for name, way in WAYS_OF_Y.items() if name != "check_gradients"})
def test_Y_that_float32_cannot_hold(way):
    X, Y, net = make_X(), make_Y("regression"), make_net("regression")
    Y[1, 3] = 1e39
    with refused(net, r"\bY holds 1e\+39", r"\(1, 3\)", *TOO_LARGE, inputs=(X, Y)):
        way(net, X, Y)


def test_numbers_that_float32_cannot_hold_elsewhere():
    net = make_net()
    with refused(net, r"parameters\['W1'\] holds 1e\+39", *TOO_LARGE):
        net.set_parameters({**net.parameters, "W1": np.full((5, N_X), 1e39)})
    net.forward(make_X())
    gradients = net.backward(make_Y("classes"))
    with refused(net, r"grads\['db2'\] holds -1e\+39 at position \(0, 0\)", *TOO_LARGE):
        net.step({**gradients, "db2": np.full((4, 1), -1e39)}, "sgd")
    with pytest.raises(ValueError, match="init of layer 1 holds 1e"):
        nk.Network([nk.Dense(2, init=np.full((2, 3), 1e39))], "squared_error", n_x=3)
    with pytest.raises(ValueError, match="X holds"):
        net.compile_predict()(np.full((N_X, 1), 1e39))


def test_numbers_that_float32_cannot_hold_in_a_memory_map(tmp_path):
    X = np.asfortranarray(np.ones((N_X, 40)))
    X[1, 33] = 1e39
    np.save(tmp_path / "X.npy", X)
    X, net = np.load(tmp_path / "X.npy", mmap_mode="r"), make_net("regression")
    with refused(net, r"\bX holds 1e\+39", *TOO_LARGE, inputs=(X,)):
        fit(net, X, np.ones((2, 40)), batch_size=10)


@pytest.mark.skipif(np.finfo("g").max == np.finfo("d").max, reason="a processor whose long double is double")
def test_numbers_that_float64_cannot_hold():
    X, Y, net = make_X(), np.full((2, M), np.longdouble("1e4000")), make_net("regression", dtype="float64")
    with refused(net, r"Y holds 1e\+4000 at position \(0, 0\), which is finite in .* and not in float64"):
        fit(net, X, Y)


def test_numbers_that_some_dtypes_hold():
    X, Y = make_X(), make_Y("regression")
    X[1, 2] = 1e39
    assert np.isfinite(make_net("regression", dtype="float64").predict(X)).all()
    with pytest.raises(ValueError, match="X holds a number that is too large for float64"):
        fit(make_net("regression"), [[10**400] * M] * N_X, Y)
    with pytest.raises(ValueError, match=r"X holds 1e\+39"):
        fit(make_net("regression"), [[10**39] * M] * N_X, Y)


@pytest.mark.parametrize(
    ("came", "scale"),
    [("float32", scale) for scale in (1e-43, 2.0**-140, 2.0**-70, 2.0**70, 3e38)]
    + [("float64", scale) for scale in (1e-320, 1e-300, 1e-44, 3e38, 1e300, 1.7e308)],
)
def test_sample_weights_of_any_size(came, scale, dtype):
    """Only their ratios count: a power of two changes no bit, whichever sums it would make too large or too small."""
    w = (np.array([0.25, 0.5, 0.125, 0, 0.25, 1]) * scale).astype(came)
    X, Y = make_X(), make_Y("classes")
    net, plain = make_net(dtype=str(dtype)), make_net(dtype=str(dtype))
    top = np.frexp(w.astype(float).max())[1]
    expected = np.ldexp(w.astype(float), -top)
    for way in (
        lambda net, w: fit(net, X, Y, sample_weight=w)["cost"],
        lambda net, w: net.partial_fit(X, Y, sample_weight=w),
        lambda net, w: net.evaluate(X, Y, sample_weight=w),
        lambda net, w: net.forward(X) is None or net.backward(Y, sample_weight=w)["dW1"].tobytes(),
    ):
        with unmodified(w):
            assert way(net, w) == way(plain, expected)
    assert net == plain


@pytest.mark.parametrize("least", [1e-44, 1e-300, 1e-30])
def test_sample_weights_of_sizes_far_apart(least):
    """What is too small for a batch's mean to be computed beside the largest counts as 0."""
    w = np.full(M, least)
    w[0] = 1
    history = fit(make_net(), make_X(), make_Y("classes"), batch_size=2, sample_weight=w)
    assert np.isfinite(history["cost"]).all()


def test_class_weights_of_any_size(dtype):
    X, Y = make_X(), make_Y("classes")
    net, plain = make_net(dtype=str(dtype)), make_net(dtype=str(dtype))
    fit(net, X, Y, class_weight={0: 2.0**-1040, 1: 2.0**-1041, 2: 0, 3: 2.0**-1040})
    fit(plain, X, Y, class_weight={0: 1, 1: 0.5, 2: 0, 3: 1})
    assert net == plain


# ---- outputs that are NaN, where labels are asked for ----


@pytest.mark.parametrize("kind", ["classes", "two classes", "several labels"])
def test_labels_of_outputs_that_are_NaN(kind):
    X, net = make_X(), make_net(kind)
    X[1, 2] = X[2, 4] = np.nan
    with refused(net, r"the outputs for example 2 hold NaN"):
        net.predict_labels(X)
    net.parameters["W1"][0, 0] = np.nan
    with refused(net, r"the outputs for example 0 hold NaN"):
        net.predict_labels(make_X())


@pytest.mark.parametrize("name", ["X", "Y"])
def test_not_finite_in_memory_mapped_data(tmp_path, name):
    """Found before the training, as in arrays."""
    m = 40
    files = {}
    for which, array in {"X": np.ones((N_X, m)), "Y": np.ones((2, m))}.items():
        if which == name:
            array[1, 33] = np.nan
        np.save(tmp_path / which, np.asfortranarray(array))
        files[which] = np.load(tmp_path / f"{which}.npy", mmap_mode="r")
    net = make_net("regression")
    with refused(net, rf"\b{name}\b", r"\b1, 33\b", inputs=files.values()):
        fit(net, files["X"], files["Y"], batch_size=10)


def test_not_finite_in_a_later_batch_of_an_iterable():
    X, Y, net = make_X(), make_Y("regression"), make_net("regression")
    bad = X.copy()
    bad[2, 1] = np.nan
    with refused(net, r"\bX\b", r"\b2, 1\b", inputs=(X, Y, bad)):
        net.fit([(X, Y), (X, Y), (bad, Y)], epochs=3)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_not_finite_is_let_through_by_predict_and_forward(kind):
    X, net = make_X(), make_net(kind)
    X[1, 2] = np.nan
    for A in (net.predict(X), net.forward(X)):
        assert np.isnan(A[:, 2]).all()
        assert np.isfinite(np.delete(A, 2, axis=1)).all()


def test_not_finite_is_let_through_by_backward():
    X, Y, net = make_X(), make_Y("regression"), make_net("regression")
    X[1, 2] = np.nan
    net.forward(X)
    grads = net.backward(Y)
    assert np.isnan(grads["dW1"]).all()
    assert np.isnan(grads["db2"]).all()


# ---- numbers of examples differ ----


@pytest.mark.parametrize("kind", EVERY_KIND)
@every(WAYS_OF_Y)
def test_numbers_of_examples_differ(way, kind):
    X, Y, net = make_X(), make_Y(kind)[..., :-1], make_net(kind)
    with refused(net, r"\bY\b", rf"\b{M - 1}\b", rf"\b{M}\b", inputs=(X, Y)):
        way(net, X, Y)


@pytest.mark.parametrize("weights", [np.ones(M - 1), np.ones(M + 1), np.ones((1, M)), np.ones((M, 1)), np.float64(1)])
@pytest.mark.parametrize("way", ["fit", "partial_fit", "evaluate", "backward"])
def test_numbers_of_examples_differ_in_sample_weight(way, weights):
    X, Y, net = make_X(), make_Y("classes"), make_net()
    net.forward(X)
    arguments = (Y,) if way == "backward" else (X, Y)
    with refused(net, "sample_weight", re.escape(str(weights.shape)), rf"\b{M}\b", inputs=(X, Y)):
        getattr(net, way)(*arguments, sample_weight=weights)


@pytest.mark.parametrize(
    "bad",
    [np.full(M, np.nan), np.full(M, np.inf), np.array([1, 1, -0.5, 1, 1, 1]), np.zeros(M)],
    ids=["NaN", "Inf", "negative", "all zero"],
)
@pytest.mark.parametrize("way", ["fit", "partial_fit", "evaluate"])
def test_sample_weight_that_gives_no_mean(way, bad):
    X, Y, net = make_X(), make_Y("classes"), make_net()
    with refused(net, "sample_weight", inputs=(X, Y, bad)):
        getattr(net, way)(X, Y, sample_weight=bad)


# ---- X of rank 1 or 3 ----


@pytest.mark.parametrize("bad", [np.ones(N_X), np.ones((N_X, M, 1)), np.float64(1.0)], ids=["1", "3", "0"])
@every(WAYS_OF_X)
def test_X_of_rank_1_or_3(way, bad):
    Y, net = make_Y("classes"), make_net()
    with refused(net, r"\bX\b", re.escape(str(bad.shape)), inputs=(bad, Y)):
        way(net, bad, Y)


@pytest.mark.parametrize("bad", [np.ones(N_X), np.ones((N_X, M, 1))], ids=["1", "3"])
@pytest.mark.parametrize("n_x", [None, N_X])
def test_X_of_rank_1_or_3_is_told_the_reshape(bad, n_x):
    net = make_net(n_x=n_x)
    with refused(net, r"\bX\b", "reshape", inputs=(bad,)):
        fit(net, bad, make_Y("classes"))


# ---- Y of shape (m,) with a loss that isn't for labels ----


@pytest.mark.parametrize("kind", ["regression", "one output", "several labels"])
@every(WAYS_OF_Y)
def test_Y_of_rank_1_is_never_broadcast(way, kind):
    X, net = make_X(), make_net(kind)
    Y = np.zeros(M)
    n_y = KINDS[kind][1]
    with refused(net, r"\bY\b", re.escape(f"({M},)"), shape(n_y, M), inputs=(X, Y)):
        way(net, X, Y)


def test_Y_of_rank_1_is_told_the_reshape():
    net = make_net("one output")
    with refused(net, r"\bY\b", "reshape"):
        fit(net, make_X(), np.zeros(M))


@pytest.mark.parametrize("kind", ["regression", "several labels"])
def test_Y_of_one_row_is_never_broadcast(kind):
    net = make_net(kind)
    with refused(net, r"\bY\b", shape(1, M), shape(2, M)):
        fit(net, make_X(), np.zeros((1, M)))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_Y_of_rank_0_or_3_is_never_broadcast(kind):
    net = make_net(kind)
    for Y in (0, np.zeros((KINDS[kind][1], M, 1))):
        with refused(net, r"\bY\b"):
            fit(net, make_X(), Y)


# ---- Y transposed ----


@pytest.mark.parametrize("kind", ["shares of classes", "several labels", "regression", "one output"])
@every(WAYS_OF_Y)
def test_Y_transposed(way, kind):
    X, Y, net = make_X(), make_Y(kind).T, make_net(kind)
    with refused(net, r"\bY\b", shape(*Y.shape), shape(*Y.T.shape), "transpos", inputs=(X, Y)):
        way(net, X, Y)


@pytest.mark.parametrize("kind", ["classes", "two classes"])
def test_labels_as_a_column(kind):
    net = make_net(kind)
    Y = make_Y(kind).reshape(-1, 1)
    with refused(net, r"\bY\b", shape(M, 1), inputs=(Y,)):
        fit(net, make_X(), Y)


# ---- 0 examples, 0 features ----


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("n_x", [None, N_X])
@every({**TRAINING, "evaluate": WAYS["evaluate"]})
def test_0_examples(way, kind, n_x):
    net = make_net(kind, n_x=n_x)
    error = nk.NotFittedError if n_x is None and way is WAYS["evaluate"] else ValueError
    words = ("fit", "initialize") if error is nk.NotFittedError else (r"\bX\b", "0 examples")
    with refused(net, *words, error=error):
        way(net, np.zeros((N_X, 0)), make_Y(kind)[..., :0])


@every(TRAINING)
def test_0_features(way):
    net = make_net(n_x=None)
    with refused(net, r"\bX\b", "0 features"):
        way(net, np.zeros((0, M)), make_Y("classes"))


@pytest.mark.parametrize("n_x", [0, -1, True, 2.5, "3"])
def test_0_features_of_initialize(n_x):
    net = make_net(n_x=None)
    with refused(net, "n_x", error=(ValueError, TypeError)):
        net.initialize(n_x)
    with pytest.raises((ValueError, TypeError), match="n_x"):
        make_net(n_x=n_x)


@pytest.mark.parametrize("method", ["predict", "predict_labels", "forward"])
def test_0_examples_of_methods_without_Y(method):
    net = make_net()
    with refused(net, r"\bX\b", "0 examples"):
        getattr(net, method)(np.zeros((N_X, 0)))


def test_0_batches():
    net = make_net(n_x=None)
    with refused(net, "gave no batch"):
        net.fit([], epochs=2)
    with refused(net, "gave no batch"):
        net.fit(iter(()), epochs=1)


def test_an_iterator_cannot_be_gone_through_twice():
    net = make_net(n_x=None)
    with refused(net, "iterator", r"epochs is 2"):
        net.fit(iter([(make_X(), make_Y("classes"))]), epochs=2)
    net.fit(iter([(make_X(), make_Y("classes"))]), epochs=1)


# ---- strings, complex, object, ragged lists ----

# all are refused by the argument's name; where an entry is no number, numpy's words come too
BY_NAME, BY_NUMPY, NO_ARRAY = (
    r"{} must hold real numbers; got dtype",
    r"{0} must hold real numbers; got an array of objects.*not '|{0} is no array of numbers.*inhomogeneous",
    r"{}.*\(\)|Y is missing",
)
NO_NUMBERS = {
    "strings": np.full((N_X, M), "a"),
    "numbers as strings": np.full((N_X, M), "1.5"),
    "bytes": np.full((N_X, M), b"1"),
    "complex": np.ones((N_X, M), complex),
    "object": np.full((N_X, M), object(), dtype=object),
    "ragged": [[1.0, 2.0], [1.0], [3.0, 4.0, 5.0]],
    "dates": np.full((N_X, M), np.datetime64("2020-01-01")),
    "durations": np.full((N_X, M), np.timedelta64(1, "s")),
    "records": np.zeros((N_X, M), [("x", float)]),
    "None": None,
    "dict": {"a": 1},
}


WORDS = {"object": BY_NUMPY, "ragged": BY_NUMPY, "dict": BY_NUMPY, "None": NO_ARRAY}


@pytest.mark.parametrize("name", NO_NUMBERS)
@every({name: way for name, way in WAYS_OF_X.items() if name != "fit, batches"})
def test_X_of_strings_complex_object_ragged(way, name):
    bad, Y, net = NO_NUMBERS[name], make_Y("classes"), make_net()
    words = WORDS.get(name, BY_NAME).format("X")
    with refused(net, words, error=ValueError if name in ("ragged", "None") else TypeError, inputs=(bad, Y)):
        way(net, bad, Y)


@pytest.mark.parametrize("name", ["strings", "complex"])
@pytest.mark.parametrize("argument", ["X", "Y"])
def test_strings_complex_are_named(argument, name):
    """numpy would convert these, so the words are the library's own."""
    data = {"X": make_X(), "Y": make_Y("shares of classes"), argument: np.resize(NO_NUMBERS[name], (4, M))}
    net = make_net()
    with refused(net, rf"\b{argument}\b", "complex|<U1|str", error=TypeError, inputs=data.values()):
        net.evaluate(data["X"][:N_X], data["Y"])


@pytest.mark.parametrize("name", NO_NUMBERS)
@pytest.mark.parametrize("kind", ["classes", "several labels", "regression"])
@every({name: way for name, way in WAYS_OF_Y.items() if name != "fit, batches"})
def test_Y_of_strings_complex_object_ragged(way, kind, name):
    X, bad, net = make_X(), NO_NUMBERS[name], make_net(kind)
    words = WORDS.get(name, BY_NAME).format("Y")
    with refused(net, words, error=ValueError if name in ("ragged", "None") else TypeError, inputs=(X, bad)):
        way(net, X, bad)


@pytest.mark.parametrize(
    ("error", "words", "bad"),
    [
        (TypeError, "sample_weight must hold real numbers", np.full(M, "cat")),
        (TypeError, "sample_weight must hold real numbers", np.ones(M, complex)),
        (ValueError, "sample_weight is no array of numbers: .*inhomogeneous", [[1], [1, 2]]),
    ],
    ids=["str", "complex", "ragged"],
)
def test_sample_weight_of_strings_complex_ragged(error, words, bad):
    net = make_net()
    with refused(net, words, error=error):
        net.fit(make_X(), make_Y("classes"), sample_weight=bad)


@pytest.mark.parametrize("bad", [5, 1.5, object(), "abc"], ids=["int", "float", "object", "str"])
def test_neither_arrays_nor_batches(bad):
    """Without Y, X must be an iterable of batches."""
    net = make_net()
    words = ("an iterable of .X, Y. batches", f"got {type(bad).__name__}")
    with refused(net, *(words if bad != "abc" else ("got the text 'abc': read the file first",)), error=TypeError):
        net.fit(bad)


def test_sparse_matrices_are_named_and_what_takes_them():
    sparse = pytest.importorskip("scipy.sparse")
    X, Y, net = make_X(), make_Y("classes"), make_net()
    for kind in (sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
        S = kind(X)
        words = rf"X is sparse, a {kind.__name__}, .*pass X\.toarray\(\), or batch by batch .* nnkern\.sklearn"
        for call in (
            lambda S=S: net.fit(S, Y),
            lambda S=S: net.fit(S),
            lambda S=S: net.predict(S),
            lambda S=S: net.compile_predict()(S),
            lambda S=S: net.gradients(S, Y),
            lambda S=S: net.evaluate(S, Y),
        ):
            with refused(net, words, error=TypeError):
                call()
    with refused(net, r"Y is sparse, a csr_matrix, .* Y\.toarray\(\)", error=TypeError):
        net.fit(X, sparse.csr_matrix(np.eye(net.n_y)[:, np.resize(np.arange(net.n_y), X.shape[1])]))
    np.testing.assert_array_equal(net.predict(sparse.csr_matrix(X).toarray()), net.predict(X))


@pytest.mark.parametrize("as_what", [np.array, list])
def test_text_is_shown_and_what_makes_numbers_of_it(as_what):
    net, rows = make_net(), [["1.5"] * M for _ in range(N_X)]
    with refused(net, r"X must hold real numbers.*, '1\.5' at position \(0, 0\).*X\.astype.*tabular", error=TypeError):
        net.predict(as_what(rows))
    np.testing.assert_array_equal(net.predict(np.array(rows).astype(float)), net.predict(np.full((N_X, M), 1.5)))
    mixed = np.ones((N_X, M), object)
    mixed[1, 2] = "red"
    with refused(net, r"got an array of objects, 'red' at position \(1, 2\)", error=TypeError):
        net.predict(mixed)
    with refused(net, r"got the text 'data\.csv': read the file first", error=TypeError):
        net.fit("data.csv", make_Y("classes"))


def test_labels_that_are_text_are_made_numbers_as_the_message_says():
    X, net = make_X(), make_net()
    Y = np.resize(["no", "yes", "perhaps"], X.shape[1])
    for given in (Y, Y.astype(object), Y.tolist()):
        with refused(net, r"Y must hold real numbers; got dtype .*, 'no' first.*numpy\.unique\(Y", error=TypeError):
            net.fit(X, given)
    names, labels = np.unique(Y, return_inverse=True)
    net.fit(X, labels, epochs=1)
    assert names.tolist() == ["no", "perhaps", "yes"]


def test_batches_that_are_no_pairs():
    X, Y, net = make_X(), make_Y("classes"), make_net()
    for batch in ((X,), (X, Y, np.ones(M), 1), X[0, 0]):
        with refused(net, r"batch 0 of the iterable must be \(X, Y\)", f"got {type(batch).__name__}"):
            net.fit([batch], epochs=1)


def test_batches_that_come_once():
    net = make_net()
    with refused(net, "epochs is 2"):
        net.fit(iter([(make_X(), make_Y("classes"))]), epochs=2)
    batches = iter([(make_X(), make_Y("classes"))])
    net.fit(batches, epochs=1)
    with refused(net, "the iterable gave no batch"):
        net.fit(batches, epochs=1)


@pytest.mark.parametrize(
    "option", [{"sample_weight": np.ones(M)}, {"validation_split": 0.5}], ids=lambda option: next(iter(option))
)
def test_options_that_batches_cannot_have(option):
    net = make_net()
    with refused(net, "with an iterable of batches the sample_weight comes inside them"):
        net.fit([(make_X(), make_Y("classes"))], epochs=1, **option)


def test_mapped_data_that_do_not_fit(tmp_path):
    """Checked before the first batch is read."""
    net, X, Y = make_net(), make_X(), make_Y("classes")
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "row.npy", X[0])
    X, row = (np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "row.npy"))
    with refused(net, r"X must have shape \(n_x, m\)", re.escape(str(row.shape))):
        net.fit(row, Y)
    with refused(net, rf"Y has shape \({M - 1},\).* X has {M} examples, Y has {M - 1}"):
        net.fit(X, Y[1:])
    with refused(net, rf"sample_weight must have shape \({M},\)", rf"\({M - 1},\)"):
        net.fit(X, Y, sample_weight=np.ones(M - 1))


def test_last_batch_of_an_iterable_that_overflows():
    """Its cost is finite still, the weights after it aren't: those of the last epoch come back."""
    net = nk.Network([nk.Dense(1, init="zeros")], "squared_error", n_x=3, dtype="float64")
    with refused(net, "epoch 0", "batch 1", error=nk.DivergenceError):
        net.fit([(X, np.ones((1, 2))) for X in (np.zeros((3, 2)), np.full((3, 2), 100.0))], optimizer=nk.SGD(1e307))


FLAGS = {
    "use_bias": lambda bad: nk.Dense(1, use_bias=bad),
    "trainable": lambda bad: nk.Dense(1, trainable=bad),
    "nesterov": lambda bad: nk.SGD(0.1, momentum=0.5, nesterov=bad),
    "restore_best": lambda bad: nk.EarlyStopping(restore_best=bad),
    "training_state": lambda bad: nk.Checkpoint("net.npz", training_state=bad),
    "shuffle": lambda bad: make_net().fit(make_X(), make_Y("classes"), shuffle=bad),
    "resume": lambda bad: make_net().fit(make_X(), make_Y("classes"), resume=bad),
    "progress": lambda bad: make_net().fit(make_X(), make_Y("classes"), progress=bad),
    "training": lambda bad: make_net().forward(make_X(), training=bad),
}


@pytest.mark.parametrize("bad", [1, 0.0, None, "yes"], ids=repr)
@pytest.mark.parametrize("name", FLAGS)
def test_flags_that_are_none(name, bad):
    with pytest.raises(ValueError, match=f"^{name} must be True or False; got {re.escape(repr(bad))}$"):
        FLAGS[name](bad)


def test_a_schedule_that_cannot_be_called():
    with pytest.raises(TypeError, match=r"f must be a callable from epoch to rate; got 0\.1"):
        nk.LearningRateSchedule(0.1)


def test_X_without_Y():
    """An array iterates over its rows: these are no batches, and the message says what is missing."""
    net = make_net()
    with refused(net, "Y is missing"):
        net.fit(make_X())


# ---- integers, booleans, float16, float64 are converted ----

CONVERTIBLE = ("?", "i1", "u1", "i2", "i4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i4", "g")


@pytest.mark.parametrize("came", CONVERTIBLE)
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_integers_booleans_floats_are_converted(kind, came, dtype):
    """The same numbers in any dtype give the same bits as in the network's own."""
    X = np.array([[0, 1, 1, 0, 1, 0], [1, 1, 1, 0, 0, 1], [0, 0, 1, 1, 1, 0]])
    Y = make_Y(kind)
    w = np.array([1, 0, 1, 1, 1, 0])
    if kind in ("regression", "one output", "several labels"):
        Y = (np.round(Y) > 0).astype(came)
    expected, actual = make_net(kind, dtype=str(dtype)), make_net(kind, dtype=str(dtype))
    own = fit(expected, X.astype(dtype), Y if Y.ndim == 1 else Y.astype(dtype), sample_weight=w.astype(dtype))
    X_came, w_came = X.astype(came), w.astype(came)
    with unmodified(X_came, Y, w_came):
        history = fit(actual, X_came, Y, sample_weight=w_came)
        assert actual.evaluate(X_came, Y) == expected.evaluate(X.astype(dtype), Y)
    assert history["cost"] == own["cost"]
    assert actual == expected
    assert actual.predict(X_came).dtype == dtype
    assert np.array_equal(actual.predict(X_came), expected.predict(X.astype(dtype)))


def test_lists_are_converted():
    X, Y = make_X("float32"), make_Y("classes")
    a, b = make_net(), make_net()
    fit(a, X, Y)
    fit(b, X.tolist(), Y.tolist())
    assert a == b


def test_integers_that_float32_cannot_hold_are_rounded():
    net = make_net("one output", n_x=1)
    large = np.array([[2**24 + 1, 2**53 + 1]])
    assert np.array_equal(net.predict(large), net.predict(large.astype("float32")))
    fit(net, large, np.zeros((1, 2)), epochs=1, optimizer=nk.SGD(1e-30))


@pytest.mark.parametrize("came", ["?", "i1", "u1", "i4", "u8", "f2", "f4", "f8"])
def test_labels_of_any_dtype(came):
    X, net, expected = make_X(), make_net("two classes"), make_net("two classes")
    fit(expected, X, make_Y("two classes"))
    Y = make_Y("two classes").astype(came)
    with unmodified(Y):
        fit(net, X, Y)
    assert net == expected


# ---- labels out of range or not whole ----


@pytest.mark.parametrize("bad", [4, -1, 200, 1.5, 3.0000001, 0.1])
@pytest.mark.parametrize("rank", [1, 2])
@every(WAYS_OF_Y)
def test_labels_outside_their_range_or_not_whole(way, bad, rank):
    X, net = make_X(), make_net()
    Y = make_Y("classes").astype(np.int64 if isinstance(bad, int) else np.float64)
    Y[3] = Y[5] = bad
    Y = Y.reshape((M,) if rank == 1 else (1, M))
    with refused(net, r"\bY\b", re.escape(str(bad)), r"\b3\b", inputs=(X, Y)):
        way(net, X, Y)


def test_labels_for_a_loss_of_numbers_are_told_theirs():
    X, net = make_X(), nk.Network([nk.Dense(3)], "squared_error", n_x=N_X, seed=0)
    several = nk.Network([nk.Dense(3, "sigmoid")], "binary_cross_entropy", n_x=N_X, seed=0)
    hint = "; labels of 3 classes go with softmax units and the loss cross_entropy$"
    for wrong in (net, several):
        with refused(wrong, rf"^Y has shape \({M},\), expected \(3, {M}\): a rank-1 array is never .*3 outputs{hint}"):
            wrong.fit(X, np.resize([0, 1, 2], M))
    for numbers in (np.resize([0, 1, 3], M), np.resize([0.5, 1, 2], M)):
        with refused(net, "never broadcast over the 3 outputs$"):
            net.fit(X, numbers)


def test_labels_that_begin_at_1_are_counted_from_0_as_the_message_says():
    X, net = make_X(), make_net()
    Y = np.resize([1, 2, 3, 4], M)
    message = (
        "Y holds the label 4 at position 3: labels go from 0 to 3, as the output has 4 classes; "
        "numpy.unique(Y, return_inverse=True)[1] counts other labels from 0"
    )
    with refused(net, f"^{re.escape(message)}$", inputs=(X, Y)):
        net.fit(X, Y)
    net.fit(X, np.unique(Y, return_inverse=True)[1], epochs=1)
    alone = nk.Network([nk.Dense(1, "softmax")], "cross_entropy", seed=0)
    with refused(alone, "labels go from 0 to 0, as the output has one class, its only unit"):
        alone.fit(X, Y)


@pytest.mark.parametrize("bad", [1234567, 2**40, -(2**40), 2**63 - 1])
def test_labels_outside_their_range_are_named_in_full(bad):
    Y, net = make_Y("classes").astype(np.int64), make_net()
    Y[3] = bad
    with refused(net, r"\bY\b", rf"{bad}\b", inputs=(Y,)):
        net.evaluate(make_X(), Y)


@pytest.mark.parametrize("bad", [2, -1, 0.5, 255])
@every(WAYS_OF_Y)
def test_labels_of_one_sigmoid_outside_0_and_1(way, bad):
    X, net = make_X(), make_net("two classes")
    Y = make_Y("two classes").astype(type(bad))
    Y[3] = bad
    with refused(net, r"\bY\b", re.escape(str(bad)), inputs=(X, Y)):
        way(net, X, Y)


@pytest.mark.parametrize("kind", ["two classes", "several labels"])
@pytest.mark.parametrize("bad", [-0.25, 1.25, 2])
@every(WAYS_OF_Y)
def test_shares_of_sigmoids_outside_0_and_1(way, kind, bad):
    X, net = make_X(), make_net(kind)
    Y = make_Y(kind).reshape(-1, M).astype(float)
    Y[-1, 4] = bad
    with refused(net, r"\bY\b", re.escape(str(bad)), r"\b4\b", inputs=(X, Y)):
        way(net, X, Y)


def test_labels_that_are_bad_in_a_later_batch_of_memory_mapped_data(tmp_path):
    X, Y = np.ones((N_X, 40)), np.zeros(40, np.int64)
    Y[33] = 9
    np.save(tmp_path / "X", X)
    np.save(tmp_path / "Y", Y)
    X, Y = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "XY")
    net = make_net()
    with refused(net, r"\bY\b", r"\b9\b"):
        fit(net, X, Y, batch_size=10)


# ---- columns that don't sum to 1, entries outside [0, 1] ----


@pytest.mark.parametrize("error", [2e-3, -2e-3, 1.0, -0.5])
@every(WAYS_OF_Y)
def test_columns_that_do_not_sum_to_1(way, error):
    X, Y, net = make_X(), make_Y("shares of classes"), make_net()
    Y[:, [2, 4]] += error / 4
    with refused(net, r"\bY\b", r"\bcolumn 2\b|, 2\b", inputs=(X, Y)):
        way(net, X, Y)


@every(WAYS_OF_Y)
def test_columns_that_sum_to_1_with_entries_outside_their_range(way):
    X, Y, net = make_X(), make_Y("shares of classes"), make_net()
    Y[:, 3] = [1.5, -0.5, 0.0, 0.0]
    with refused(net, r"\bY\b", r"\b3\b", inputs=(X, Y)):
        way(net, X, Y)


@pytest.mark.parametrize("error", [0.9e-3, -0.9e-3])
def test_columns_that_sum_to_1_within_the_tolerance(error):
    Y = make_Y("shares of classes")
    Y[:, 2] += error / 4
    fit(make_net(), make_X(), Y)


@pytest.mark.parametrize("Y", [np.ones((1, M)), np.ones((1, M), int), np.zeros((1, M)), np.zeros(M, int)], ids=str)
@every({name: way for name, way in WAYS_OF_Y.items() if way is not validation})
def test_one_class_as_columns_or_labels(way, Y):
    """(1, m) of ones are columns that sum to 1, of zeros labels."""
    way(nk.Network([nk.Dense(5), nk.Dense(1, "softmax")], "cross_entropy", n_x=N_X, seed=0), make_X(), Y)


def test_one_class_as_neither():
    net = nk.Network([nk.Dense(1, "softmax")], "cross_entropy", n_x=N_X, seed=0)
    for Y in (np.ones(M), np.arange(M).reshape(1, M) % 2, np.full((1, M), 0.5)):
        with refused(net, r"\bY holds the label"):
            fit(net, make_X(), Y)


# ---- unknown names ----

NAMES = {
    "activation": (
        lambda name: nk.Dense(3, name),
        nk.kernels.ACTIVATIONS,
    ),
    "loss": (
        lambda name: nk.Network([nk.Dense(1)], name),
        ("binary_cross_entropy", "cross_entropy", "squared_error", "absolute_error"),
    ),
    "optimizer": (
        lambda name: make_net().fit(make_X(), make_Y("classes"), optimizer=name),
        ("sgd", "adam", "adamw", "rmsprop", "adagrad"),
    ),
    "init": (
        lambda name: nk.Dense(3, init=name),
        ("zeros", "normal", "he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal"),
    ),
    "dtype": (
        lambda name: nk.Network([nk.Dense(1)], "squared_error", dtype=name),
        ("float32", "float64"),
    ),
}


@pytest.mark.parametrize("unknown", ["nonsense", "", "Relu6"])
@pytest.mark.parametrize("what", list(NAMES))
def test_unknown_names_list_the_names_there_are(what, unknown):
    function, names = NAMES[what]
    with pytest.raises(ValueError, match=re.escape(repr(unknown))) as caught:
        function(unknown)
    for name in names:
        assert name in str(caught.value).lower()


@pytest.mark.parametrize("bad", [3, None, b"relu", ["relu"]])
@pytest.mark.parametrize("what", ["activation", "loss"])
def test_unknown_names_that_are_no_strings(what, bad):
    with pytest.raises((ValueError, TypeError), match=what):
        NAMES[what][0](bad)


@pytest.mark.parametrize("bad", [3, nk.SGD, object()])
def test_optimizer_that_is_none(bad):
    net = make_net()
    with refused(net, "optimizer", error=(ValueError, TypeError)):
        net.fit(make_X(), make_Y("classes"), optimizer=bad)
    net.forward(make_X())
    grads = net.backward(make_Y("classes"))
    with refused(net, "optimizer", error=(ValueError, TypeError)):
        net.step(grads, bad)


@pytest.mark.parametrize(
    ("loss", "activation"),
    [("cross_entropy", "linear"), ("cross_entropy", "sigmoid"), ("binary_cross_entropy", "tanh")],
)
def test_output_that_does_not_suit_the_loss_is_told_the_fix(loss, activation):
    fix = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}[loss]
    with pytest.raises(ValueError, match=fix) as caught:
        nk.Network([nk.Dense(3, activation)], loss)
    assert activation in str(caught.value)
    assert loss in str(caught.value)


@pytest.mark.parametrize("layers", [[], None, 3, ["relu"], [3], [nk.Dense(2), None]], ids=repr)
def test_layers_that_are_none(layers):
    with pytest.raises((ValueError, TypeError), match="layer"):
        nk.Network(layers, "squared_error")


# ---- hyper-parameters ----

NAN, INF = float("nan"), float("inf")
SHARE = [-0.1, 1.5, NAN, INF, True, False, np.True_]
SHARE_BELOW_1 = [*SHARE, 1.0]
AT_LEAST_0 = [-1e-9, NAN, INF, -INF, True, np.True_]
POSITIVE = [-0.1, NAN, INF, -INF, True, np.True_]
COUNT = [0, -1, True, False, NAN, INF, np.True_]

HYPER = {
    "learning_rate": [
        (lambda bad, make=make: make(learning_rate=bad), POSITIVE)
        for make in (nk.SGD, nk.Adam, nk.AdamW, nk.RMSprop, nk.Adagrad)
    ],
    "momentum": [(lambda bad: nk.SGD(0.1, momentum=bad), SHARE)],
    "beta1": [(lambda bad: nk.Adam(beta1=bad), SHARE_BELOW_1), (lambda bad: nk.AdamW(beta1=bad), SHARE_BELOW_1)],
    "beta2": [(lambda bad: nk.Adam(beta2=bad), SHARE_BELOW_1), (lambda bad: nk.AdamW(beta2=bad), SHARE_BELOW_1)],
    "alpha": [(lambda bad: nk.RMSprop(alpha=bad), SHARE_BELOW_1)],
    "eps": [(lambda bad, make=make: make(eps=bad), POSITIVE) for make in (nk.Adam, nk.AdamW, nk.RMSprop, nk.Adagrad)],
    "weight_decay": [(lambda bad: nk.AdamW(weight_decay=bad), AT_LEAST_0)],
    "l2": [
        (lambda bad: nk.Network([nk.Dense(1)], "squared_error", l2=bad), AT_LEAST_0),
        (lambda bad: nk.Dense(1, l2=bad), AT_LEAST_0),
    ],
    "l1": [(lambda bad: nk.Network([nk.Dense(1)], "squared_error", l1=bad), AT_LEAST_0)],
    "dropout": [(lambda bad: nk.Dense(1, dropout=bad), SHARE_BELOW_1)],
    "negative_slope": [(lambda bad: nk.Dense(1, "leaky_relu", negative_slope=bad), [NAN, INF, True, np.True_])],
    "units": [(lambda bad: nk.Dense(bad), COUNT)],
    "patience": [(lambda bad: nk.EarlyStopping(patience=bad), COUNT)],
    "min_delta": [(lambda bad: nk.EarlyStopping(min_delta=bad), AT_LEAST_0)],
    "every": [(lambda bad: nk.Checkpoint("net.npz", every=bad), COUNT)],
    "seed": [(lambda bad: nk.Network([nk.Dense(1)], "squared_error", seed=bad), [-1, True, 0.5, NAN])],
    "n": [(lambda bad: nk.set_num_threads(bad), COUNT)],
}


def same(a, b):
    return type(a) is type(b) and (a == b or a != a)


@pytest.mark.parametrize(
    ("name", "make", "bad"),
    [
        pytest.param(name, make, bad, id=f"{name}-{number}-{bad}")
        for name, cases in HYPER.items()
        for number, (make, values) in enumerate(cases)
        for bad in values
    ],
)
def test_hyper_parameters_out_of_range_nan_or_bool(name, make, bad):
    threads = nk.get_num_threads()
    with pytest.raises(ValueError, match=rf"\b{name}\b") as caught:
        make(bad)
    message = str(caught.value)
    assert str(bad) in message
    assert re.search(r"[<>≤≥]|\[|\(|at least|positive|between|finite|whole|integer", message), (
        f"no range in {message!r}"
    )
    assert nk.get_num_threads() == threads


def test_sizes_that_blas_cannot_count():
    """A C int's: one more is refused before memory is asked for."""
    assert nk.Dense(2**31 - 1).units == 2**31 - 1
    with pytest.raises(ValueError, match=r"units must be an integer >= 1 and <= 2147483647; got 2147483648"):
        nk.Dense(2**31)
    with pytest.raises(ValueError, match=r"n_x must be an integer >= 1 and <= 2147483647; got 2147483648"):
        nk.Network([nk.Dense(1)], "squared_error", n_x=2**31)


FIT_OPTIONS = {
    "batch_size": [0, -1, True, False, NAN, INF, np.True_],
    "epochs": [-1, True, NAN, INF, np.True_],
    "validation_split": [-0.1, 1.0, 1.5, NAN, INF, True, np.True_],
    "threads": [0, -1, True, NAN, np.True_],
}


@pytest.mark.parametrize("n_x", [None, N_X])
@pytest.mark.parametrize(
    ("name", "bad"), [(name, bad) for name, values in FIT_OPTIONS.items() for bad in values], ids=str
)
def test_options_of_fit_out_of_range_nan_or_bool(name, bad, n_x):
    X, Y, net = make_X(), make_Y("classes"), make_net(n_x=n_x)
    with refused(net, rf"\b{name}\b", re.escape(str(bad)), inputs=(X, Y)):
        net.fit(X, Y, **{name: bad})


@pytest.mark.parametrize("bad", ["0.1", [0.1], 1j, object()], ids=["str", "list", "complex", "object"])
@pytest.mark.parametrize("name", ["learning_rate", "momentum", "l2", "dropout", "units"])
def test_hyper_parameters_that_are_no_numbers(name, bad):
    make = HYPER[name][0][0]
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        make(bad)


@pytest.mark.parametrize("bad", ["32", 2.5, [32], 1j], ids=str)
@pytest.mark.parametrize("name", list(FIT_OPTIONS))
def test_options_of_fit_that_are_no_numbers(name, bad):
    net = make_net(n_x=None)
    with refused(net, rf"\b{name}\b", error=(TypeError, ValueError)):
        net.fit(make_X(), make_Y("classes"), **{name: bad})


@pytest.mark.parametrize("bad", [NAN, -1.0, INF, True, "0.1", None])
def test_schedule_that_gives_a_rate_out_of_range(bad):
    net = make_net()
    with refused(net, r"\brate\b", re.escape(str(bad)), error=(ValueError, TypeError)):
        net.fit(make_X(), make_Y("classes"), epochs=2, optimizer=nk.SGD(lambda epoch: bad))


def test_hyper_parameters_as_numpy_scalars():
    net, expected = make_net(l2=np.float64(0.25)), make_net(l2=0.25)
    X, Y = make_X(), make_Y("classes")
    net.fit(
        X, Y, epochs=np.int64(2), batch_size=np.int32(4), optimizer=nk.SGD(np.float64(0.5), momentum=np.float32(0.5))
    )
    expected.fit(X, Y, epochs=2, batch_size=4, optimizer=nk.SGD(0.5, momentum=0.5))
    assert net == expected


@pytest.mark.parametrize("attribute", ["learning_rate", "momentum"])
def test_optimizer_that_was_spoilt_afterwards(attribute):
    """Set to NaN after it was made: never trained with."""
    net, optimizer = make_net(), nk.SGD(0.1)
    setattr(optimizer, attribute, NAN)
    with refused(net, attribute, "nan"):
        net.fit(make_X(), make_Y("classes"), optimizer=optimizer)


@pytest.mark.parametrize("data", [(), (np.ones((N_X, 2)),), np.ones((N_X, 2)), 3, (1, 2, 3, 4)], ids=str)
def test_validation_data_that_is_none(data):
    net = make_net()
    with refused(net, r"validation_data must be \(X, Y\)"):
        net.fit(make_X(), make_Y("classes"), validation_data=data)


def test_validation_data_and_split_together():
    net = make_net()
    data = make_X(), make_Y("classes")
    with refused(net, "validation_data and validation_split"):
        net.fit(*data, validation_data=data, validation_split=0.5)


def test_validation_split_that_leaves_no_examples():
    net = make_net()
    with refused(net, "validation_split", "leaves 0 for training"):
        net.fit(make_X(), make_Y("classes"), validation_split=0.999)


def test_validation_split_that_takes_no_examples():
    net = make_net()
    with refused(net, "validation_split", "0 aside"):
        net.fit(make_X(), make_Y("classes"), validation_split=1e-9)


def test_early_stopping_without_validation_data():
    """What it should monitor isn't there: an error names it, before or at the end of the first epoch."""
    net = make_net()
    with refused(net, "val_cost", "needs validation_data"):
        net.fit(make_X(), make_Y("classes"), epochs=2, callbacks=nk.EarlyStopping())


@pytest.mark.parametrize("bad", [3, "stop", [None]], ids=str)
def test_callbacks_that_are_none(bad):
    net = make_net()
    with refused(net, "callbacks? must be", error=TypeError):
        net.fit(make_X(), make_Y("classes"), callbacks=bad)


# ---- batch_size larger than m; the last smaller batch ----


@pytest.mark.parametrize("batch_size", [M, M + 1, 10**6, 2**40])
def test_batch_size_larger_than_m_is_a_full_batch(batch_size):
    X, Y = make_X(), make_Y("classes")
    net, expected = make_net(), make_net()
    history = fit(net, X, Y, batch_size=batch_size)
    assert history["cost"] == fit(expected, X, Y, batch_size=None)["cost"]
    assert net == expected


def test_last_smaller_batch_is_used():
    """m = 6 in batches of 4: two steps an epoch, the second on the last two examples."""
    X, Y = make_X(), make_Y("classes")
    net, expected = make_net(), make_net()
    fit(net, X, Y, batch_size=4, epochs=1)
    for columns in (slice(0, 4), slice(4, 6)):
        expected.partial_fit(X[:, columns], Y[columns], optimizer=nk.SGD(0.1))
    assert net == expected


# ---- another number of features ----


@pytest.mark.parametrize("rows", [1, 2, 4])
@every(WAYS_OF_X)
def test_another_number_of_features(way, rows):
    X, Y, net = np.ones((rows, M)), make_Y("classes"), make_net()
    with refused(net, rf"X has {rows} features?, the network expects {N_X}", inputs=(X, Y)):
        way(net, X, Y)


def test_another_number_of_features_after_fit():
    net = make_net(n_x=None)
    fit(net, make_X(), make_Y("classes"))
    with refused(net, "X has 2 features, the network expects 3"):
        net.predict(np.ones((2, M)))


# ---- before the parameters exist ----

BEFORE = {
    "parameters": lambda net: net.parameters,
    "set_parameters": lambda net: net.set_parameters({}),
    "predict": lambda net: net.predict(make_X()),
    "predict_labels": lambda net: net.predict_labels(make_X()),
    "evaluate": lambda net: net.evaluate(make_X(), make_Y("classes")),
    "forward": lambda net: net.forward(make_X()),
    "backward": lambda net: net.backward(make_Y("classes")),
    "step": lambda net: net.step({}, nk.SGD()),
    "check_gradients": lambda net: nk.check_gradients(net, make_X(), make_Y("classes")),
}


@pytest.mark.parametrize("call", BEFORE.values(), ids=list(BEFORE))
def test_predict_before_the_parameters_exist(call):
    net = make_net(n_x=None)
    with refused(net, "fit", "initialize", error=nk.NotFittedError):
        call(net)


def test_save_before_the_parameters_exist(tmp_path):
    net = make_net(n_x=None)
    with refused(net, "fit", "initialize", error=nk.NotFittedError):
        net.save(tmp_path / "net.npz")
    assert list(tmp_path.iterdir()) == []


def test_backward_before_forward():
    net = make_net()
    with refused(net, "forward", error=RuntimeError):
        net.backward(make_Y("classes"))


# ---- out= ----


@pytest.mark.parametrize(
    ("error", "out"),
    [
        (ValueError, np.empty((4, M + 1), "float32")),
        (ValueError, np.empty((M, 4), "float32")),
        (ValueError, np.empty(4 * M, "float32")),
        (TypeError, np.empty((4, M), "float64")),
        (TypeError, np.empty((4, M), ">f4")),
        (TypeError, [[0.0] * M] * 4),
        (ValueError, np.broadcast_to(np.float32(0), (4, M))),
    ],
    ids=["wider", "transposed", "flat", "dtype", "byte order", "list", "read-only"],
)
def test_out_of_predict_that_cannot_be_written(error, out):
    net = make_net()
    with refused(net, r"\bout\b", error=error, inputs=(out,)):
        net.predict(make_X(), out=out)


@pytest.mark.parametrize("order", ["C", "F"])
def test_out_of_predict_that_overlaps_an_input(order):
    net = nk.Network([nk.Dense(N_X, "tanh")], "squared_error", n_x=N_X, seed=0)
    X = np.array(make_X("float32"), order=order)
    with refused(net, r"\bout\b", inputs=(X,)):
        net.predict(X, out=X)


@pytest.mark.parametrize("order", ["C", "F"])
def test_out_of_predict_that_overlaps_the_parameters(order):
    net = nk.Network([nk.Dense(N_X, "tanh")], "squared_error", n_x=N_X, seed=0)
    W = net.parameters["W1"]
    with refused(net, r"\bout\b"):
        net.predict(np.ones((N_X, N_X), "float32", order=order), out=W)


# ---- parameters and gradients handed in ----


def test_parameters_that_do_not_fit():
    net = make_net()
    good = {name: np.ones(a.shape) for name, a in net.parameters.items()}
    with refused(net, "b2"):
        net.set_parameters({name: a for name, a in good.items() if name != "b2"})
    with refused(net, "W3"):
        net.set_parameters({**good, "W3": np.ones((1, 1))})
    for bad in (np.ones(4), np.ones((1, 4)), np.ones((4, 5)), 1.0):
        with refused(net, "b2", shape(4, 1)):
            net.set_parameters({**good, "b2": bad})
    with refused(net, "inhomogeneous"):
        net.set_parameters({**good, "b2": [[1], [1, 2]]})
    for bad in (np.full((4, 1), "a"), np.ones((4, 1), complex)):
        with refused(net, "b2", "real numbers", error=TypeError):
            net.set_parameters({**good, "b2": bad})
    with refused(net, "parameters lacks W1"):
        net.set_parameters({})
    with refused(net, r"parameters must be a mapping from names \(W1, b1, .*\) to arrays; got list$", error=TypeError):
        net.set_parameters([1, 2])


def test_gradients_that_do_not_fit():
    X, Y, net = make_X(), make_Y("classes"), make_net()
    net.forward(X)
    grads = net.backward(Y)
    with refused(net, "db2"):
        net.step({name: g for name, g in grads.items() if name != "db2"}, nk.SGD())
    with refused(net, "dW3"):
        net.step({**grads, "dW3": np.ones((1, 1))}, nk.SGD())
    for bad in (np.ones(4), np.ones((1, 4)), 1.0):
        with refused(net, "db2", shape(4, 1)):
            net.step({**grads, "db2": bad}, nk.SGD())
    with refused(net, "db2", "real numbers", error=TypeError):
        net.step({**grads, "db2": np.full((4, 1), "a")}, nk.SGD())


@pytest.mark.parametrize(
    ("init", "words", "error"),
    [
        (np.ones((N_X, 5)), (shape(5, N_X), shape(N_X, 5)), ValueError),
        (lambda rng, n, n_prev: np.ones((n_prev, n)), (shape(5, N_X), shape(N_X, 5)), ValueError),
        (np.full((5, N_X), np.nan), ("holds nan",), ValueError),
        (np.full((5, N_X), "a"), ("real numbers",), TypeError),
    ],
    ids=["array of another shape", "callable", "NaN", "strings"],
)
def test_initial_weights_that_do_not_fit(init, words, error):
    """Refused when the number of features is known."""
    layers = [nk.Dense(5, init=init), nk.Dense(2)]
    with pytest.raises(error, match=r"^init of layer 1 ") as caught:
        nk.Network(layers, "squared_error", n_x=N_X)
    assert all(re.search(word, str(caught.value)) for word in words)
    net = nk.Network(layers, "squared_error")
    with refused(net, "^init of layer 1 ", *words, error=error):
        net.fit(make_X(), np.zeros((2, M)))


# ---- the whole state, not only what can be seen ----


@pytest.mark.parametrize("optimizer", [nk.SGD(0.1, momentum=0.9), nk.Adam()], ids=["SGD", "Adam"])
def test_a_refused_fit_leaves_state_epoch_and_random_streams(optimizer):
    """fit, something refused, resume: the same bits as without what was refused."""
    X, Y = make_X(), make_Y("classes")
    bad = X.copy()
    bad[0, 5] = np.nan
    refusals = (
        ("^X holds nan", lambda net: net.fit(bad, Y, optimizer=nk.RMSprop())),
        ("^X holds nan", lambda net: net.fit(bad, Y, resume=True, optimizer=optimizer)),
        ("^X holds nan", lambda net: net.fit([(bad, Y)], resume=True, optimizer=optimizer)),
        ("^batch_size must", lambda net: net.fit(X, Y, batch_size=0)),
        ("^validation_data's X holds nan", lambda net: net.fit(X, Y, validation_data=(bad, Y))),
        ("^X holds nan", lambda net: net.partial_fit(bad, Y, optimizer=optimizer)),
        ("^X holds nan", lambda net: net.partial_fit(bad, Y, optimizer="adagrad")),
        ("^X holds nan", lambda net: net.evaluate(bad, Y)),
    )

    def train(between):
        layers = [nk.Dense(5, "tanh", dropout=0.5), nk.Dense(4, "softmax")]
        net = nk.Network(layers, "cross_entropy", seed=3)
        net.fit(X, Y, epochs=3, batch_size=4, optimizer=optimizer)
        for words, call in between:
            with refused(net, words):
                call(net)
        net.fit(X, Y, epochs=3, batch_size=4, optimizer=optimizer, resume=True)
        return net

    assert train(refusals) == train(())
