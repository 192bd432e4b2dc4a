"""Gradients of whole networks: central differences, the oracle, and torch's autograd.

Every activation in the hidden layers of depths 1 to 4 with every loss, every loss with every output activation it
allows, in float64.
"""

import numpy as np
import pytest
import reference as ref

import nnkern as nk

ACTIVATIONS = nk.kernels.ACTIVATIONS

N_X, N_HIDDEN, N_Y, M = 3, 4, 3, 7
STEP = 1e-5


def output_activations(loss):
    return [ref.MATCHED[loss]] if loss in ref.MATCHED else list(ACTIVATIONS)


def networks():
    """(hidden activation, output activation, loss, depth): each loss with every hidden activation at depths 2 to 4, and
    with every output activation it allows at depths 1, without a hidden layer, and 2."""
    cases = {}
    for loss in ref.LOSSES:
        outputs = output_activations(loss)
        for output in outputs:
            cases |= {(None, output, loss, 1): 1, ("tanh", output, loss, 2): 1}
        for hidden in ACTIVATIONS:
            cases |= {(hidden, outputs[0], loss, depth): 1 for depth in (2, 3, 4)}
    for case in cases:
        hidden, output, loss, depth = case
        yield pytest.param(*case, id=f"{depth}-{hidden}-{output}-{loss}")


every_network = pytest.mark.parametrize(("hidden", "output", "loss", "depth"), list(networks()))


class Case:
    """A network with its data, and the same for the oracle."""

    def __init__(self, hidden, output, loss, depth, *, l2=0.0, weighted=False, **options):
        self.activations = (hidden,) * (depth - 1) + (output,)
        self.loss, self.l2 = loss, l2
        self.units = (N_X,) + (N_HIDDEN,) * (depth - 1) + (N_Y,)
        for seed in range(1000):
            self.draw(np.random.default_rng(seed), weighted)
            if self.distance_from_kinks() > 100 * STEP:
                break
        else:
            raise AssertionError("no data far enough from every kink")
        layers = [
            nk.Dense(units, activation, **options)
            for units, activation in zip(self.units[1:], self.activations, strict=True)
        ]
        self.net = nk.Network(layers, loss, n_x=N_X, l2=l2, dtype="float64", seed=0)
        self.net.set_parameters(self.parameters)

    def draw(self, rng, weighted):
        self.parameters = {}
        scale = 0.2 if "exp" in self.activations else 1.0  # e^e^e^z leaves no float64 for differences otherwise
        for layer, (n_prev, n) in enumerate(zip(self.units, self.units[1:], strict=False), start=1):
            self.parameters[f"W{layer}"] = rng.normal(scale=scale, size=(n, n_prev))
            self.parameters[f"b{layer}"] = rng.normal(scale=0.3, size=(n, 1))
        self.X = rng.normal(size=(N_X, M))
        self.sample_weight = rng.uniform(0.5, 2, M) if weighted else None
        if self.loss == "cross_entropy":
            self.Y = rng.integers(0, N_Y, M)
            self.Y_full = ref.one_hot(self.Y, N_Y)
        else:
            self.Y = self.Y_full = rng.uniform(size=(N_Y, M))

    def distance_from_kinks(self):
        """The smallest |z| before a relu and the like, |a - y| in the absolute error: no step may cross a kink."""
        A, Z = ref.network_forward(self.X, self.parameters, self.activations)
        distances = [
            np.abs(z - kink).min()
            for z, name in zip(Z[1:], self.activations, strict=True)
            if name in ref.ELEMENTWISE
            for kink in ref.ELEMENTWISE[name].kinks
        ]
        for kink in ref.KINKED_LOSSES.get(self.loss, ()):
            distances.append(np.abs(A[-1] - self.Y_full - kink).min())
        return min(distances, default=np.inf)

    def cost(self):
        """J by the library: `evaluate` leaves the penalty out."""
        cost = self.net.evaluate(self.X, self.Y, sample_weight=self.sample_weight).cost
        return cost + ref.penalty(self.net.parameters, len(self.activations), self.l2)

    def gradients(self):
        self.net.forward(self.X)
        return self.net.backward(self.Y, sample_weight=self.sample_weight)

    def oracle(self, function, parameters=None):
        parameters = self.parameters if parameters is None else parameters
        case = (self.activations, self.loss, self.l2, self.sample_weight)
        return function(self.X, self.Y_full, parameters, *case)


def assert_close(actual, expected, relative, what=""):
    """Relative to the largest entry: single ones may cancel to nothing."""
    scale = max(1.0, np.max(np.abs(expected)))
    assert np.shape(actual) == np.shape(expected), what
    assert np.max(np.abs(actual - expected)) <= relative * scale, what


def assert_agrees_with_differences(case):
    """Truncation is step^2 J'''/6, about 1e-10; rounding is u |J| / step, about 1e-11."""
    gradients = case.gradients()
    assert set(gradients) == {"d" + name for name in case.net.parameters}
    for name, theta in case.net.parameters.items():
        numerical = ref.central_differences(case.cost, theta, STEP)
        assert_close(gradients["d" + name], numerical, 1e-8, name)


def assert_agrees_with_oracle(case):
    assert case.cost() == pytest.approx(case.oracle(ref.network_cost), rel=1e-13)
    A, _ = ref.network_forward(case.X, case.parameters, case.activations)
    np.testing.assert_allclose(case.net.forward(case.X), A[-1], rtol=1e-12, atol=1e-14)
    gradients = case.gradients()
    for name, expected in case.oracle(ref.network_backward).items():
        assert_close(gradients[name], expected, 1e-13, name)


@every_network
def test_network(hidden, output, loss, depth):
    case = Case(hidden, output, loss, depth)
    assert_agrees_with_oracle(case)
    assert_agrees_with_differences(case)
    assert nk.check_gradients(case.net, case.X, case.Y, step=STEP) < 1e-6


@pytest.mark.parametrize("loss", ref.LOSSES)
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(("l2", "weighted"), [(0.3, False), (0.0, True), (0.3, True)])
def test_penalty_and_sample_weight(loss, depth, l2, weighted):
    case = Case("tanh", output_activations(loss)[0], loss, depth, l2=l2, weighted=weighted)
    assert_agrees_with_oracle(case)
    assert_agrees_with_differences(case)
    if not weighted:
        assert nk.check_gradients(case.net, case.X, case.Y, step=STEP) < 1e-6


def test_penalty_of_one_layer():
    """A layer's own l2 stands for the network's."""
    case = Case("tanh", "sigmoid", "binary_cross_entropy", 3, l2=0.2)
    layers = [nk.Dense(4, "tanh"), nk.Dense(4, "tanh", l2=0.7), nk.Dense(3, "sigmoid", l2=0.0)]
    case.net = nk.Network(layers, case.loss, n_x=N_X, l2=0.2, dtype="float64")
    case.net.set_parameters(case.parameters)
    case.l2 = (0.2, 0.7, 0.0)
    assert_agrees_with_oracle(case)
    assert nk.check_gradients(case.net, case.X, case.Y, step=STEP) < 1e-6


def test_weights_of_one_label_a_unit():
    """One sigmoid output with labels (m,): the same as Y (1, m)."""
    rng = np.random.default_rng(0)
    net = nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=3, dtype="float64")
    net.set_parameters({"W1": rng.normal(size=(1, 3)), "b1": rng.normal(size=(1, 1))})
    X, labels = rng.normal(size=(3, 9)), rng.integers(0, 2, 9)
    results = []
    for Y in (labels, labels[None], labels[None].astype(float)):
        net.forward(X)
        results.append(net.backward(Y))
    for gradients in results[1:]:
        for name, value in results[0].items():
            np.testing.assert_array_equal(gradients[name], value)
    expected = ref.network_backward(X, labels[None], dict(net.parameters), ["sigmoid"], "binary_cross_entropy")
    for name, value in expected.items():
        assert_close(results[0][name], value, 1e-13, name)


@pytest.mark.parametrize("negative_slope", [0.0, 0.3])
def test_negative_slope(negative_slope):
    case = Case("leaky_relu", "linear", "squared_error", 3, negative_slope=negative_slope)
    A, _ = ref.network_forward(case.X, case.parameters, case.activations, negative_slope)
    np.testing.assert_allclose(case.net.forward(case.X), A[-1], rtol=1e-12)
    expected = ref.network_backward(
        case.X, case.Y, case.parameters, case.activations, case.loss, negative_slope=negative_slope
    )
    gradients = case.gradients()
    for name, value in expected.items():
        assert_close(gradients[name], value, 1e-13, name)


def test_no_bias():
    layers = [nk.Dense(4, "tanh", use_bias=False), nk.Dense(3, "linear")]
    net = nk.Network(layers, "squared_error", n_x=3, dtype="float64", seed=0)
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    parameters = dict(net.parameters) | {"b1": np.zeros((4, 1))}
    A, _ = ref.network_forward(X, parameters, ("tanh", "linear"))
    np.testing.assert_allclose(net.forward(X), A[-1], rtol=1e-12, atol=1e-15)
    assert nk.check_gradients(net, X, Y) < 1e-6


def test_check_gradients_finds_a_wrong_gradient():
    """At a kink relu' is 0 where central differences see 1/2: an error that must not be small."""
    net = nk.Network([nk.Dense(2, "relu"), nk.Dense(1)], "squared_error", n_x=2, dtype="float64", seed=0)
    net.set_parameters({name: np.ones(a.shape) for name, a in net.parameters.items()})
    net.parameters["b1"][...] = 0
    X, Y = np.zeros((2, 3)), np.zeros((1, 3))
    assert nk.check_gradients(net, X, Y) > 0.1


def test_check_gradients_leaves_the_network_alone():
    case = Case("tanh", "softmax", "cross_entropy", 2)
    nk.check_gradients(case.net, case.X, case.Y)
    for name, value in case.parameters.items():
        np.testing.assert_array_equal(case.net.parameters[name], value)


def test_check_gradients_of_a_float32_network():
    """It works on a float64 copy: differences in float32 could not come out below 1e-3."""
    case = Case("tanh", "softmax", "cross_entropy", 2)
    net = nk.Network([nk.Dense(4, "tanh"), nk.Dense(3, "softmax")], "cross_entropy", n_x=3, seed=0)
    assert net.parameters["W1"].dtype == np.float32
    assert nk.check_gradients(net, case.X, case.Y, step=STEP) < 1e-6


# ---- torch's autograd, a second opinion ----


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is an optional second opinion")


def assert_agrees_with_torch(torch, case):
    theta = {name: torch.tensor(a, requires_grad=True) for name, a in case.parameters.items()}
    cost = case.oracle(ref.torch_cost, theta)
    cost.backward()
    assert case.cost() == pytest.approx(cost.item(), rel=1e-12)
    gradients = case.gradients()
    for name, leaf in theta.items():
        assert_close(gradients["d" + name], leaf.grad.numpy(), 1e-13, name)


@every_network
def test_torch_agrees(torch, hidden, output, loss, depth):
    assert_agrees_with_torch(torch, Case(hidden, output, loss, depth))


@pytest.mark.parametrize("loss", ref.LOSSES)
def test_torch_agrees_on_penalty_and_sample_weight(torch, loss):
    case = Case("tanh", output_activations(loss)[0], loss, 3, l2=0.3, weighted=True)
    assert_agrees_with_torch(torch, case)
