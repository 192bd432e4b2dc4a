"""Optimizers as objects, gradient clipping, schedules; the updates themselves are held in test_golden.py."""

import re

import numpy as np
import pytest
import reference as ref

import nnkern as nk
from nnkern.state import of

OPTIMIZERS = list(nk.optimizers.OPTIMIZERS.values())


def case(dtype, m=20, **options):
    rng = np.random.default_rng(0)
    layers = [nk.Dense(6, "tanh"), nk.Dense(5, "relu", use_bias=False), nk.Dense(2)]
    net = nk.Network(layers, "squared_error", n_x=3, dtype=str(dtype), seed=1, **options)
    return net, rng.normal(size=(3, m)), rng.normal(size=(2, m))


def clipped(gradients, value=np.inf, norm=np.inf):
    gradients = {name: np.clip(g.astype(np.float64), -value, value) for name, g in gradients.items()}
    length = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    return {name: g * min(1, norm / length) for name, g in gradients.items()}


@pytest.mark.parametrize(
    "limits", [{"clip_value": 0.05}, {"clip_norm": 0.3}, {"clip_value": 0.1, "clip_norm": 0.4}], ids=str
)
@pytest.mark.parametrize("penalty", [{}, {"l2": 0.7}, {"l1": 0.2}], ids=str)
def test_clipping(limits, penalty, dtype):
    """The gradient of J, penalty included: by value, then by the norm over all parameters; then the update."""
    net, X, Y = case(dtype, **penalty)
    rate, bounds = 0.5, {name.removeprefix("clip_"): x for name, x in limits.items()}
    optimizer = nk.SGD(rate, **limits)
    for use in (
        lambda: net.fit(X, Y, epochs=1, batch_size=None, optimizer=optimizer)["cost"][0],
        lambda: net.partial_fit(X, Y, optimizer=optimizer),
        lambda: net.step(net.backward(Y), optimizer),
    ):
        net.forward(X)
        gradients, before = net.backward(Y), {name: a.copy() for name, a in net.parameters.items()}
        exact = clipped(gradients, **bounds)
        assert any(np.abs(exact[name] - g).max() > 1e-3 for name, g in gradients.items())
        J = net.evaluate(X, Y).cost + of(net).engine.penalty()
        cost = use()
        if cost is not None:
            assert cost == pytest.approx(J, rel=50 * float(np.finfo(dtype).eps))
        for name, a in before.items():
            expected = a - rate * exact["d" + name]
            np.testing.assert_allclose(net.parameters[name], expected, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_limits_that_nothing_reaches_change_nothing(make, dtype):
    nets = [case(dtype, l2=0.1) for _ in range(2)]
    for (net, X, Y), limits in zip(nets, ({}, {"clip_value": 1e6, "clip_norm": 1e6}), strict=True):
        net.fit(X, Y, epochs=3, batch_size=7, optimizer=make(**limits))
    for name, a in nets[0][0].parameters.items():
        np.testing.assert_allclose(nets[1][0].parameters[name], a, atol=20 * np.finfo(dtype).eps)


def test_frozen_layers_have_no_part_in_the_norm():
    rng = np.random.default_rng(0)
    layers = [nk.Dense(4, "tanh"), nk.Dense(2, trainable=False)]
    net = nk.Network(layers, "squared_error", n_x=3, dtype="float64", seed=1)
    X, Y = rng.normal(size=(3, 9)), rng.normal(size=(2, 9))
    before = {name: a.copy() for name, a in net.parameters.items()}
    net.fit(X, Y, epochs=1, batch_size=None, optimizer=nk.SGD(1.0, clip_norm=1e-3))
    moved = np.sqrt(sum(((net.parameters[name] - a) ** 2).sum() for name, a in before.items()))
    assert moved == pytest.approx(1e-3, rel=1e-12)


def test_torch_clips_the_same_way():
    torch = pytest.importorskip("torch", reason="torch is an optional second opinion")
    net, X, Y = case("float64")
    theta = {name: torch.tensor(np.array(a), requires_grad=True) for name, a in net.parameters.items()}
    theta["b2"] = torch.zeros((5, 1), dtype=torch.float64)
    ref.torch_cost(X, Y, theta, ["tanh", "relu", "linear"], "squared_error").backward()
    leaves = [theta[name] for name in net.parameters]
    torch.nn.utils.clip_grad_value_(leaves, 0.1)
    torch.nn.utils.clip_grad_norm_(leaves, 0.3)
    torch.optim.SGD(leaves, 0.5).step()
    net.fit(X, Y, epochs=1, batch_size=None, optimizer=nk.SGD(0.5, clip_value=0.1, clip_norm=0.3))
    for name, a in net.parameters.items():
        # torch adds 1e-6 to the norm
        np.testing.assert_allclose(a, theta[name].detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "large", "m"), [("float32", 2.0**127, 1), ("float32", 2.0**67, 5000), ("float64", 2.0**530, 5000)]
)
@pytest.mark.parametrize("clip_norm", [1e-3, 1.0, 1e30])
def test_a_gradient_too_large_for_its_squares_is_clipped(dtype, large, m, clip_norm):
    """∂|w·x|/∂w = x sign(w·x): its norm is √2 times `large`."""
    net = nk.Network([nk.Dense(1, use_bias=False)], "absolute_error", n_x=2, dtype=dtype)
    net.parameters["W1"][...] = 0.25, 0.25
    before = net.parameters["W1"].astype("float64")
    optimizer = nk.SGD(0.5, clip_norm=clip_norm)
    net.fit(np.full((2, m), large), np.zeros((1, m)), epochs=1, batch_size=None, optimizer=optimizer)
    norm = min(clip_norm, large * 2**0.5)
    expected = before - 0.5 * norm / 2**0.5
    np.testing.assert_allclose(net.parameters["W1"], expected, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("name", ["clip_value", "clip_norm"])
@pytest.mark.parametrize("bad", [0, -1.0, np.nan, np.inf, True, "1"])
def test_refused_limits(make, name, bad):
    with pytest.raises(ValueError, match=f"{name} must be"):
        make(**{name: bad})


def test_representation():
    assert repr(nk.SGD(0.1)) == "SGD(learning_rate=0.1, momentum=0.0, nesterov=False)"
    assert repr(nk.RMSprop(clip_norm=1)) == "RMSprop(learning_rate=0.01, alpha=0.99, eps=1e-08, clip_norm=1.0)"
    assert nk.Adam(clip_norm=1) != nk.Adam()


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize(
    "optimizer",
    [
        nk.SGD(np.float32(0.1), momentum=np.int64(1), nesterov=np.True_, clip_norm=np.float32(2)),
        nk.AdamW(np.float32(0.1), np.float32(0.9), np.float32(0.99), np.float32(1e-7), np.int64(0)),
        nk.RMSprop(nk.schedules.Step(np.float32(0.1), np.float32(0.5), np.int64(2)), alpha=np.float32(0.5)),
        nk.SGD(nk.schedules.WarmUp(np.float32(0.1), np.int8(2))),
        nk.SGD(nk.schedules.WarmUp(nk.schedules.Cosine(0.1, np.int64(3), np.float32(0.01)), 2)),
    ],
    ids=str,
)
def test_settings_that_are_numpy_s_are_saved(optimizer, suffix, tmp_path):
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    net, X, Y = case("float64")
    net.fit(X, Y, epochs=2, optimizer=optimizer)
    net.save(tmp_path / f"net.{suffix}", training_state=True)
    again = nk.load(tmp_path / f"net.{suffix}")
    assert again.optimizer == optimizer
    net.fit(X, Y, epochs=2, resume=True)
    again.fit(X, Y, epochs=2, resume=True)
    assert again == net


@pytest.mark.parametrize("bad", [-1, -1e-9, float("nan"), float("inf"), "fast", None])
@pytest.mark.parametrize("data", ["arrays", "batches"])
def test_a_rate_that_a_callback_sets_is_checked_before_the_next_epoch(bad, data):
    """By the rule for what a schedule gives; the epochs before it stay."""
    net, X, Y = case("float64")
    other, *_ = case("float64")
    given = (X, Y) if data == "arrays" else ([(X, Y)],)

    def break_it(net, epoch, history):
        if epoch == 1:
            net.optimizer.learning_rate = bad

    with pytest.raises(ValueError, match=f"learning_rate must be .*>= 0; got {bad!r}"):
        net.fit(*given, epochs=4, callbacks=break_it, shuffle=False)
    other.fit(*given, epochs=2, shuffle=False)
    assert net == other


def test_what_a_callback_sets_is_checked_when_saved(tmp_path):
    net, X, Y = case("float64")
    for rate in (np.float32(0.5), 0):

        def slower(net, epoch, history, rate=rate):
            net.optimizer.learning_rate = rate

        net.fit(X, Y, epochs=2, callbacks=slower)
        if rate:
            net.save(tmp_path / "net.npz", training_state=True)
    assert nk.load(tmp_path / "net.npz").optimizer == nk.SGD(0.5)
    with pytest.raises(ValueError, match="learning_rate must be finite and > 0; got 0"):
        net.save(tmp_path / "net.npz", training_state=True)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: nk.schedules.Step(0.1, 0.5, 0), "every must be an integer >= 1; got 0"),
        (lambda: nk.schedules.Step(0.1, 0.5, 2.0), "every must be an integer >= 1; got 2.0"),
        (lambda: nk.schedules.Step(0.1, -0.5, 2), "factor must be finite and >= 0; got -0.5"),
        (lambda: nk.schedules.Cosine(0.1, 0), "epochs must be an integer >= 1; got 0"),
        (lambda: nk.schedules.Cosine("0.1", 3), "initial must be a number, finite and >= 0; got '0.1'"),
        (lambda: nk.schedules.Cosine(0.1, 3, np.nan), "final must be finite and >= 0; got nan"),
        (lambda: nk.schedules.InverseTime(-0.1, 1), "initial must be finite and >= 0; got -0.1"),
        (lambda: nk.schedules.InverseTime(0.1, -0.1), "decay must be finite and >= 0; got -0.1"),
        (lambda: nk.schedules.Exponential(0.1, None), "factor must be a number, finite and >= 0; got None"),
        (lambda: nk.schedules.WarmUp(0.1, -1), "epochs must be an integer >= 0; got -1"),
        (lambda: nk.schedules.WarmUp("0.1", 1), "then must be a number, finite and >= 0; got '0.1'"),
        (lambda: nk.Adam("cosine"), "got 'cosine': a schedule is an object such as schedules.Cosine(0.01, "),
        (lambda: nk.SGD(nk.schedules.ByStep), "ByStep'>: a schedule is an object such as ByStep(…), or a function"),
        (lambda: nk.SGD(True), "learning_rate must be a number, finite and > 0; got True"),
    ],
)  # fmt: skip
def test_refused_schedules(make, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        make()


def test_warm_up():
    for then, later in ((0.4, [0.4, 0.4]), (nk.schedules.Step(0.4, 0.5, 1), [0.4, 0.2])):
        warm_up = nk.schedules.WarmUp(then, 3)
        np.testing.assert_allclose([warm_up(epoch) for epoch in range(5)], [0.1, 0.2, 0.3, *later])
    net, X, Y = case("float64")
    history = net.fit(X, Y, epochs=4, optimizer=nk.Adam(warm_up))
    np.testing.assert_allclose(history["learning_rate"], [0.1, 0.2, 0.3, 0.4])
