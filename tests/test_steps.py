"""Loops of one's own: `gradients` in one pass, and `step` with what it gave."""

import copy
import re
import threading

import numpy as np
import pytest

import nnkern as nk
from nnkern.state import of

N_X, M = 5, 24
rng = np.random.default_rng(0)
X = rng.standard_normal((N_X, M))

CASES = {
    "cross_entropy": ("softmax", rng.integers(0, 3, M)),
    "binary_cross_entropy": ("sigmoid", rng.integers(0, 2, (3, M)).astype(float)),
    "poisson": ("exp", rng.integers(0, 5, (3, M)).astype(float)),
    "squared_error": ("linear", rng.standard_normal((3, M))),
    "quantile": ("tanh", rng.standard_normal((3, M))),
}


def network(loss="squared_error", *, n_x=N_X, dtype="float64", hidden=(), seed=1, **options):
    layers = [nk.Dense(7, "gelu", dropout=0.3), nk.Scale(), *hidden, nk.Dense(3, CASES[loss][0])]
    return nk.Network(layers, loss, n_x=n_x, dtype=dtype, seed=seed, **options)


def by_hand(net, X, Y, w=None, training=True):
    net.forward(X, training=training)
    return net.backward(Y, sample_weight=w)


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)
        assert actual[name].dtype == array.dtype


# ---- gradients ----


@pytest.mark.parametrize(
    "options", [{}, {"l2": 0.1, "l1": 0.05}, {"hidden": [nk.Dense(4, trainable=False)], "l2": 0.1}]
)
@pytest.mark.parametrize("loss", CASES)
def test_they_are_what_forward_and_backward_give(loss, options, dtype):
    """To the bit, whether Y needs a conversion or not; the cost is J."""
    net, Y = network(loss, dtype=dtype.name, **options), CASES[loss][1]
    tolerance = 8 * float(np.finfo(dtype).eps)
    J = net.evaluate(X, Y).cost + of(net).engine.penalty()
    for X_ in (X.astype(dtype), np.asfortranarray(X.astype(dtype)), X, X.tolist()):
        for Y_ in (Y, Y.astype(dtype) if Y.ndim == 2 else Y.astype("int8"), Y.tolist()):
            for training in (False, True):
                expected = by_hand(net, X_, Y_, training=training)
                cost, grads = net.gradients(X_, Y_, training=training)
                assert_same(grads, expected)
                assert type(cost) is float
                if not training:
                    assert cost == pytest.approx(J, rel=tolerance)
    w = rng.uniform(0.5, 2, M)
    cost, grads = net.gradients(X, Y, sample_weight=w, training=False)
    assert_same(grads, by_hand(net, X, Y, w, training=False))
    J = net.evaluate(X, Y, sample_weight=w).cost + of(net).engine.penalty()
    assert cost == pytest.approx(J, rel=tolerance)


def test_products_in_bfloat16():
    Y = np.arange(300) % 3
    X = rng.standard_normal((40, 300)).astype("float32")
    layers = [nk.Dense(230, "gelu", dropout=0.3), nk.Dense(210, "relu"), nk.Dense(3, "softmax")]
    net = nk.Network(layers, "cross_entropy", n_x=40, compute="bfloat16", seed=0)
    assert_same(net.gradients(X, Y).grads, by_hand(net, X, Y))
    assert net.gradients(X, Y).cost != nk.Network(layers, "cross_entropy", n_x=40, seed=0).gradients(X, Y).cost


@pytest.mark.parametrize("m", [1, 4096, 4097, 20000])
def test_many_examples(m, dtype):
    """In chunks, as `backward` has them; the same bits for any number of threads."""
    X, Y = rng.standard_normal((N_X, m)).astype(dtype), rng.standard_normal((3, m)).astype(dtype)
    net, before = network(dtype=dtype.name), nk.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            nk.set_num_threads(threads)
            found.append(net.gradients(X, Y))
    finally:
        nk.set_num_threads(before)
    assert found[0].cost == found[1].cost
    assert_same(found[0].grads, found[1].grads)
    for name, array in by_hand(net, X, Y).items():
        scale = 200 * float(np.finfo(dtype).eps) * np.abs(array).max()
        np.testing.assert_allclose(found[0].grads[name], array, atol=scale, rtol=0)


def test_a_loop_of_them_is_a_loop_of_partial_fit():
    """Dropout too: its masks go by the step."""
    nets = [network(l2=0.01) for _ in range(2)]
    for first in range(0, M, 5):
        columns = slice(first, first + 5)
        Y = CASES["squared_error"][1]
        expected = nets[0].partial_fit(X[:, columns], Y[:, columns], optimizer=nk.AdamW())
        cost, grads = nets[1].gradients(X[:, columns], Y[:, columns])
        nets[1].step(grads, nk.AdamW())
        assert cost == pytest.approx(expected, rel=1e-13)
    for name, array in nets[0].parameters.items():
        np.testing.assert_allclose(nets[1].parameters[name], array, rtol=1e-12, atol=1e-14)
    assert [(of(net).engine.step, of(net).engine.t) for net in nets] == [(5, 5)] * 2


def test_the_arrays_are_the_caller_s():
    """Another call, a step and a larger batch leave them as they are; the memory outlives the network."""
    Y = CASES["squared_error"][1]
    net = network()
    first = net.gradients(X, Y).grads
    kept = {name: array.copy() for name, array in first.items()}
    for optimizer in (nk.SGD(0.1), nk.SGD(0.1, clip_norm=1e-3), nk.SGD(0.1, clip_value=1e-3), nk.Adam()):
        for _ in range(2):
            net.step(first, optimizer)
            net.gradients(np.tile(X, 3), np.tile(Y, 3))
    del net
    assert_same(first, kept)
    assert all(array.flags.writeable for array in first.values())


def test_a_loss_of_one_s_own():
    def loss(A, Y):
        return ((A - Y) ** 2).sum(axis=0) / 2, A - Y

    nets = [nk.Network([nk.Dense(3)], kind, n_x=N_X, dtype="float64", seed=0) for kind in (loss, "squared_error")]
    found = [net.gradients(X, CASES["squared_error"][1]) for net in nets]
    assert found[0].cost == pytest.approx(found[1].cost, rel=1e-14)
    for name, array in found[1].grads.items():
        np.testing.assert_allclose(found[0].grads[name], array, rtol=1e-13, atol=1e-15)

    def broken(A, Y):
        raise KeyError("no loss")

    with pytest.raises(KeyError, match="no loss"):
        nk.Network([nk.Dense(3)], broken, n_x=N_X).gradients(X, CASES["squared_error"][1])


def test_inside_a_training_they_do_not_disturb_it():
    nets = [network() for _ in range(2)]
    Y = CASES["squared_error"][1]
    how = {"epochs": 3, "batch_size": 10, "optimizer": nk.Adam()}
    nets[0].fit(X, Y, **how)
    nets[1].fit(X, Y, callbacks=[lambda net, epoch, history: net.gradients(X, Y) and None], **how)
    assert nets[0] == nets[1]


def test_several_threads_at_once():
    net, Y = network(), CASES["squared_error"][1]
    expected, wrong = net.gradients(X, Y), []

    def work():
        for _ in range(200):
            cost, grads = net.gradients(X, Y)
            if cost != expected.cost or any((grads[name] != a).any() for name, a in expected.grads.items()):
                wrong.append(cost)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_not_a_number_in_X_is_let_through():
    net = network()
    for X_ in (X.copy(), X.astype("float32")):
        X_[0, 3] = np.nan
        cost, grads = net.gradients(X_, CASES["squared_error"][1])
        assert np.isnan(cost)
        assert np.isnan(grads["dW3"]).any()


@pytest.mark.parametrize(
    ("loss", "Y", "said"),
    [
        ("cross_entropy", np.full(M, 3), "Y holds the label 3 at position 0: labels go from 0 to 2"),
        ("cross_entropy", np.full(M, -1), "Y holds the label -1 at position 0"),
        ("cross_entropy", np.zeros(M - 1, int), f"Y has shape ({M - 1},)"),
        ("squared_error", np.full((3, M), np.inf), "Y holds inf at position (0, 0)"),
        ("squared_error", np.full((3, M), np.nan), "Y holds nan at position (0, 0)"),
        ("squared_error", np.zeros((3, M + 1)), f"Y has shape (3, {M + 1}), expected (3, {M})"),
        ("squared_error", np.zeros((M, 3)), "it is transposed, pass Y.T"),
        (
            "squared_error",
            np.zeros((len(X), 3)),
            f"(3, {M}): an example is a column of X and of Y: pass X.T and Y.T if yours are the rows",
        ),
        ("binary_cross_entropy", np.full((3, M), 1.5), "binary_cross_entropy needs entries in [0, 1]"),
        ("poisson", np.full((3, M), -1.0), "poisson needs entries >= 0"),
    ],
)
def test_targets_are_validated(loss, Y, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        network(loss).gradients(X, Y)


def test_codes_are_validated():
    """Whether X needs a conversion or not."""
    X_ = np.array([[0.0, 1.0, 2.0], [0.5, 0.25, 0.0]])
    layers = [nk.Encode([nk.OneHot(0, 3), nk.Numeric(1)]), nk.Dense(3)]
    net, Y = nk.Network(layers, "squared_error", n_x=2, dtype="float64", seed=0), np.ones((3, 3))
    assert_same(net.gradients(X_, Y).grads, by_hand(net, X_, Y))
    for bad in (3.0, -1.0, 0.5, np.nan):
        X_[0, 1] = bad
        for given in (X_, X_.astype("float32")):
            with pytest.raises(ValueError, match=r"X\[0, 1\] must be a code, a whole number from 0 to 2"):
                net.gradients(given, Y)


def test_refusals():
    Y = CASES["squared_error"][1]
    with pytest.raises(nk.NotFittedError):
        network(n_x=None).gradients(X, Y)
    with pytest.raises(ValueError, match=r"X has 4 features, the network expects 5"):
        network().gradients(X[:4], Y)
    with pytest.raises(ValueError, match=r"X has 0 examples"):
        network().gradients(X[:, :0], Y[:, :0])
    with pytest.raises(ValueError, match=r"training must be True or False; got 1"):
        network().gradients(X, Y, training=1)
    with pytest.raises(ValueError, match=r"sample_weight must be >= 0"):
        network().gradients(X, Y, -np.ones(M))
    with pytest.raises(ValueError, match=r"no layer is trainable"):
        nk.Network([nk.Dense(3, trainable=False)], "squared_error", n_x=N_X).gradients(X, Y)


def test_another_thread_s_training_is_not_looked_into():
    net, Y, said = network(), CASES["squared_error"][1], []
    engine = of(net).engine
    grads = net.gradients(X, Y).grads
    net.step(grads, optimizer := nk.SGD(0.0625))

    def elsewhere():
        for call in (lambda: net.gradients(X, Y), lambda: net.step(grads, optimizer)):
            try:
                call()
            except RuntimeError as error:
                said.append(str(error))

    engine.enter_training()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    engine.leave_training()
    assert len(said) == 2
    assert all("being trained" in text for text in said)


# ---- step ----


def plain_step(net, grads, rate):
    return {name: array - rate * grads["d" + name] for name, array in net.parameters.items()}


def changed(grads, how):
    if how == "as they are":
        return grads
    if how == "one in its place":
        grads["dW1"] *= 0.5
    elif how == "one replaced":
        grads["dW3"] = grads["dW3"] + 1
    elif how == "one of another layout":
        grads["dW1"] = np.ascontiguousarray(grads["dW1"])
    elif how == "one of another dtype":
        grads["db1"] = grads["db1"].astype("float32")
    elif how == "others order":
        return dict(reversed(grads.items()))
    elif how == "lists":
        return {name: array.tolist() for name, array in grads.items()}
    return grads


HOW = [
    "as they are",
    "one in its place",
    "one replaced",
    "one of another layout",
    "one of another dtype",
    "others order",
]


@pytest.mark.parametrize("how", [*HOW, "lists"])
def test_a_step_takes_what_it_is_given(how):
    """The second one by the same optimizer, for which less is looked at, too."""
    net, optimizer = network(), nk.SGD(0.25)
    for _ in range(3):
        grads = changed(net.gradients(X, CASES["squared_error"][1]).grads, how)
        expected = plain_step(net, {name: np.asarray(array) for name, array in grads.items()}, 0.25)
        net.step(grads, optimizer)
        for name, array in expected.items():
            np.testing.assert_allclose(net.parameters[name], array, rtol=1e-14, atol=1e-15)


def test_the_parameters_themselves_as_gradients():
    """Memory that a step writes to isn't read as a gradient meanwhile."""
    for optimizer in (nk.SGD(0.25, momentum=0.5), nk.Adam(0.25)):
        nets = [network() for _ in range(2)]
        for _ in range(3):
            nets[0].step({"d" + name: array for name, array in nets[0].parameters.items()}, optimizer)
            nets[1].step({"d" + name: array.copy() for name, array in nets[1].parameters.items()}, optimizer)
        assert nets[0] == nets[1]


@pytest.mark.parametrize("clip", [{"clip_norm": 0.1}, {"clip_value": 0.01}], ids=str)
def test_clipped_steps(clip):
    net, optimizer = network(), nk.SGD(0.25, **clip)
    for _ in range(3):
        grads = net.gradients(X, CASES["squared_error"][1]).grads
        limit = clip.get("clip_value", np.inf)
        limited = {name: np.clip(array, -limit, limit) for name, array in grads.items()}
        norm = np.sqrt(sum((array**2).sum() for array in limited.values()))
        factor = min(1, clip.get("clip_norm", np.inf) / norm)
        expected = plain_step(net, {name: factor * array for name, array in limited.items()}, 0.25)
        net.step(grads, optimizer)
        for name, array in expected.items():
            np.testing.assert_allclose(net.parameters[name], array, rtol=1e-13, atol=1e-15)


def test_what_happens_to_an_optimizer_counts():
    """Its own numbers, those of the network's copy, another object of its kind, and a state that was forgotten."""
    Y = CASES["squared_error"][1]
    net, optimizer = network(), nk.SGD(0.25)
    before = [0.25, 0.25, 0.5, 0.5, 0.125, 0.125]

    def at(step):
        if step == 2:
            optimizer.learning_rate = 0.5
        return nk.SGD(0.125) if step >= 4 else optimizer

    for step, rate in enumerate(before):
        grads = net.gradients(X, Y).grads
        expected = plain_step(net, grads, rate)
        net.step(grads, at(step))
        assert net.optimizer == nk.SGD(rate)
        net.optimizer.learning_rate = 9.0  # which the next step doesn't go by: it is given one
        for name, array in expected.items():
            np.testing.assert_allclose(net.parameters[name], array, rtol=1e-14, atol=1e-15)
    optimizer.learning_rate = -1
    with pytest.raises(ValueError, match=r"learning_rate must be finite and > 0; got -1"):
        net.step(grads, optimizer)


def test_state_is_kept_and_forgotten_as_before():
    """A fit between two steps with one optimizer leaves its own state; an optimizer of another kind begins afresh."""
    Y = CASES["squared_error"][1]
    nets, adam = [network(), network()], nk.Adam()
    for net in nets:
        for k in range(6):
            grads = net.gradients(X, Y).grads
            if net is nets[1]:
                grads = dict(grads, dW1=np.ascontiguousarray(grads["dW1"]))
            net.step(grads, adam if k != 3 else nk.RMSprop())
            if k == 1:
                net.fit(X, Y, epochs=1, optimizer=nk.Adam(0.1))
            if k == 4:
                net.initialize(N_X)
    assert of(nets[0]).engine.t == of(nets[1]).engine.t == 1
    for name, array in nets[0].parameters.items():
        np.testing.assert_allclose(nets[1].parameters[name], array, rtol=1e-14)


def test_a_schedule_of_the_epoch_goes_on():
    net, calls = network(), []

    def schedule(epoch):
        calls.append(epoch)
        return 0.5

    optimizer = nk.SGD(schedule)
    for _ in range(3):
        net.step(net.gradients(X, CASES["squared_error"][1]).grads, optimizer)
    assert calls == [0, 0, 0]


@pytest.mark.parametrize("repeated", [False, True])
def test_grads_that_do_not_fit(repeated):
    net, optimizer = network(), nk.SGD(0.1)
    grads = net.gradients(X, CASES["squared_error"][1]).grads
    if repeated:
        net.step(grads, optimizer)
    before = {name: array.copy() for name, array in net.parameters.items()}
    for wrong, said in (
        ({name: grads[name] for name in list(grads)[:-1]}, "grads lacks"),
        (grads | {"dW9": np.ones(1)}, "holds the unknown dW9"),
        (grads | {"dW1": grads["dW1"].T}, r"grads\['dW1'\] must have shape"),
        (grads | {"dW1": grads["dW1"][:-1]}, r"grads\['dW1'\] must have shape"),
    ):
        with pytest.raises(ValueError, match=said):
            net.step(wrong, optimizer)
    with pytest.raises(
        TypeError, match=r"grads must be a mapping from names .* to arrays; got Gradients: its \.grads is"
    ):
        net.step(net.gradients(X, CASES["squared_error"][1]), optimizer)
    with pytest.raises(TypeError, match=r"grads must be a mapping from names \(dW1, db1.*\) to arrays; got list$"):
        net.step(list(grads.values()), optimizer)
    for name, array in before.items():
        np.testing.assert_array_equal(net.parameters[name], array)


# ---- partial_fit, again and again ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "optimizer",
    [nk.SGD(0.1), nk.SGD(0.1, 0.9, True), nk.Adam(0.01), nk.AdamW(0.01), nk.SGD(0.1, clip_norm=0.5), nk.Adagrad(0.01)],
    ids=repr,
)
@pytest.mark.parametrize(("m", "options"), [(1, {}), (32, {"l2": 0.01, "l1": 0.001}), (300, {})], ids=str)
def test_steps_on_arrays_as_they_are_have_the_bits_of_converted_ones(dtype, optimizer, m, options):
    """The first step validates, and the next ones with the same optimizer needn't: what they compute is the same."""
    rng = np.random.default_rng(0)
    for loss, output, Y in (
        ("cross_entropy", nk.Dense(3, "softmax"), rng.integers(0, 3, m)),
        ("squared_error", nk.Dense(3), rng.normal(size=(3, m)).astype(dtype)),
    ):
        layers = [nk.Dense(20, "relu", dropout=0.2), nk.Dense(5, "tanh", trainable=False), output]
        net = nk.Network(layers, loss, n_x=7, seed=0, dtype=dtype, **options)
        converted = copy.deepcopy(net)
        for _ in range(4):
            X = np.asfortranarray(rng.normal(size=(7, m)).astype(dtype))
            # of another dtype, whose entries are the same numbers
            other = X.astype("longdouble"), Y.tolist() if Y.ndim == 1 else Y.astype("longdouble")
            assert net.partial_fit(X, Y, optimizer=optimizer) == converted.partial_fit(*other, optimizer=optimizer)
            assert of(net).progress() == of(converted).progress()
            assert net == converted
        # the last optimizer, as long as it is the last one
        assert net.partial_fit(X, Y) == converted.partial_fit(*other)
        assert net == converted


def test_a_step_takes_the_optimizer_as_it_is_now():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(3, 8)), rng.normal(size=(1, 8))

    def steps(*rates):
        net, optimizer = nk.Network([nk.Dense(1)], "squared_error", n_x=3, seed=0, dtype="float64"), nk.SGD(0.1)
        for rate in rates:
            optimizer.learning_rate = rate
            net.partial_fit(X, Y, optimizer=optimizer)
        return net

    changed = steps(0.1, 0.1, 0.2)
    assert changed == steps(0.1, 0.1, 0.2)
    assert changed != steps(0.1, 0.1, 0.1)
    net = steps(0.1, 0.1)
    net.optimizer.learning_rate = 0.2
    net.partial_fit(X, Y)
    assert net == changed
    # a fit between makes its own optimizer the last
    net.fit(X, Y, epochs=1, optimizer="adam")
    net.partial_fit(X, Y)
    assert net.optimizer.update == "adam"


def targets_that_need_no_conversion(dtype, m):
    """(loss, output layer, Y) for each form of targets."""
    classes, sides = rng.integers(0, 3, m), rng.integers(0, 2, m)
    softmax, sigmoid = nk.Dense(3, "softmax"), nk.Dense(1, "sigmoid")
    soft = rng.dirichlet(np.ones(3), m).T.astype(dtype)
    for Y in (np.eye(3, dtype=dtype)[:, classes], np.asfortranarray(soft), np.repeat(soft, 2, axis=1)[:, ::2]):
        yield "cross_entropy", softmax, Y
    for kind in ("int64", "int32", "uint8"):
        yield "cross_entropy", softmax, classes.astype(kind)
        yield "binary_cross_entropy", sigmoid, sides.astype(kind)
    yield "binary_cross_entropy", sigmoid, sides.astype(dtype).reshape(1, m)
    yield "squared_error", nk.Dense(3), soft


@pytest.mark.parametrize("m", [1, 2, 33])
def test_batches_in_the_usual_forms_need_no_conversion(dtype, m):
    """One-hot and soft targets, labels of usual types, parts of larger arrays: to the bits of converted ones."""
    wide = rng.standard_normal((8, 3 * m + 2)).astype(dtype)
    parts = wide[1:6, m : 2 * m], np.asfortranarray(wide)[1:6, m : 2 * m], np.asfortranarray(wide[:5, :m])
    for loss, output, Y in targets_that_need_no_conversion(dtype, m):
        optimizer = nk.Adam(0.01)
        net = nk.Network([nk.Dense(4, "tanh"), output], loss, n_x=5, seed=0, dtype=dtype.name)
        converted = copy.deepcopy(net)
        for X in parts:
            other = X.astype("longdouble"), Y.tolist()
            given = of(net).stepper.fast(X, Y, False)
            assert given is not None
            expected = converted.gradients(*other)
            assert given[0] == expected.cost
            assert_same(given[1], expected.grads)
            assert_same(by_hand(net, X, Y), by_hand(converted, *other))
            assert net.partial_fit(X, Y, optimizer=optimizer) == converted.partial_fit(*other, optimizer=optimizer)
            assert of(net).steady_step(X, Y, optimizer) == converted.partial_fit(*other, optimizer=optimizer)
            assert net == converted


@pytest.mark.parametrize(
    ("loss", "output", "good", "spoil", "said"),
    [
        ("cross_entropy", nk.Dense(3, "softmax"), np.eye(3), 0.5, "column 1 of Y sums to 0.5"),
        ("cross_entropy", nk.Dense(3, "softmax"), np.eye(3), np.nan, r"Y holds nan at position \(1, 1\)"),
        ("cross_entropy", nk.Dense(3, "softmax"), np.eye(3), -1, r"Y holds -1.0 at position \(1, 1\)"),
        ("binary_cross_entropy", nk.Dense(1, "sigmoid"), np.array([0, 1, 1]), 2, "Y holds the label 2 at position 1"),
        ("binary_cross_entropy", nk.Dense(1, "sigmoid"), np.array([0, 1, 1]), -1, "Y holds the label -1 at position 1"),
    ],
)
def test_targets_in_the_usual_forms_are_looked_at_each_time(loss, output, good, spoil, said):
    net, optimizer = nk.Network([output], loss, n_x=5, seed=0, dtype="float64"), nk.SGD(0.1)
    net.partial_fit(X[:, :3], good, optimizer=optimizer)
    before = copy.deepcopy(net)
    good = good.copy()
    good[(1,) * good.ndim] = spoil
    net.forward(X[:, :3])
    for way in (
        lambda: net.partial_fit(X[:, :3], good, optimizer=optimizer),
        lambda: net.gradients(X[:, :3], good),
        lambda: net.backward(good),
    ):
        with pytest.raises(ValueError, match=said):
            way()
    assert net == before


def test_not_a_number_in_a_part_of_an_array_is_found():
    """Whichever of its rows or columns hang together; beside the part it doesn't count."""
    for order in "CF":
        wide = np.array(rng.standard_normal((9, 30)), order=order)
        wide[:2], wide[7:], wide[:, :10], wide[:, 20:] = (np.nan,) * 4
        net, optimizer = nk.Network([nk.Dense(1)], "squared_error", n_x=5, seed=0, dtype="float64"), nk.SGD(0.1)
        part, Y = wide[2:7, 10:20], np.ones((1, 10))
        net.partial_fit(part, Y, optimizer=optimizer)
        assert of(net).steady_step(part, Y, optimizer) is not None
        for i, j in ((0, 0), (4, 9), (2, 5)):
            kept, part[i, j] = part[i, j], np.inf
            with pytest.raises(ValueError, match=rf"X holds inf at position \({i}, {j}\)"):
                net.partial_fit(part, Y, optimizer=optimizer)
            part[i, j] = kept


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ({"X": np.nan}, ValueError, r"X holds nan at position \(1, 2\)"),
        ({"Y": 7}, ValueError, "Y holds the label 7 at position 2"),
        ({"X": np.ones((4, 8))}, ValueError, "X has 4 features"),
        ({"Y": np.zeros(7, int)}, ValueError, "X has 8 examples, Y has 7"),
        ({"X": np.ones((3, 0)), "Y": np.zeros(0, int)}, ValueError, "X has 0 examples"),
    ],
)
def test_what_a_later_step_refuses_changes_nothing(bad, error, words):
    rng = np.random.default_rng(0)
    data = {"X": rng.normal(size=(3, 8)), "Y": rng.integers(0, 2, 8)}
    net, optimizer = nk.Network([nk.Dense(2, "softmax")], "cross_entropy", n_x=3, seed=0, dtype="float64"), nk.Adam()
    net.partial_fit(**data, optimizer=optimizer)
    before = of(net).progress(), copy.deepcopy(net)
    for name, value in bad.items():
        if isinstance(value, np.ndarray):
            data[name] = value
        else:
            data[name][(1, 2) if name == "X" else 2] = value
    with pytest.raises(error, match=words):
        net.partial_fit(**data, optimizer=optimizer)
    assert (of(net).progress(), net) == before


def test_a_later_step_that_diverges_says_so():
    net, optimizer = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0), nk.SGD(0.1)
    ones = np.ones((1, 4), np.float32)
    net.partial_fit(ones, ones, optimizer=optimizer)
    net.set_parameters({"W1": [[3e38]], "b1": [[3e38]]})
    before = of(net).progress()
    with pytest.raises(nk.DivergenceError, match="the cost became NaN or infinite in epoch 0, batch 0"):
        net.partial_fit(ones, ones, optimizer=optimizer)
    assert of(net).progress() == before
    of(net).engine.check_idle()


def test_no_later_step_while_the_network_is_in_use():
    net, optimizer = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0), nk.SGD(0.1)
    ones = np.ones((1, 4), np.float32)
    net.partial_fit(ones, ones, optimizer=optimizer)
    with of(net).reading(), pytest.raises(RuntimeError, match="it can't be trained before that one has returned"):
        net.partial_fit(ones, ones, optimizer=optimizer)
    net.partial_fit(ones, ones, optimizer=optimizer)
