"""The golden run: ten steps of each optimizer, every cost and every parameter against the oracle.

The oracle walks step by step in float64; the library goes by each of its four ways to take a step.
The same ten steps against torch's optimizers, where torch is installed.
"""

import numpy as np
import pytest
import reference as ref

import nnkern as nk

STEPS = 10
M = 12

OPTIMIZERS = {
    "SGD": ("SGD", {"learning_rate": 0.3}),
    "SGD, momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    "SGD, Nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "Adam": ("Adam", {"learning_rate": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6}),
    "Adam by default": ("Adam", {}),
    "AdamW": ("AdamW", {"learning_rate": 0.02, "weight_decay": 0.3}),
    "AdamW by default": ("AdamW", {}),
    "RMSprop": ("RMSprop", {"learning_rate": 0.02, "alpha": 0.8, "eps": 1e-6}),
    "RMSprop by default": ("RMSprop", {}),
    "Adagrad": ("Adagrad", {"learning_rate": 0.1, "eps": 1e-6}),
    "Adagrad by default": ("Adagrad", {}),
}

CASES = {
    "classes": ((4, 5, 4, 3), ("tanh", "sigmoid", "softmax"), "cross_entropy"),
    "regression": ((3, 6, 5, 2), ("relu", "leaky_relu", "linear"), "squared_error"),
}


class Run:
    """One small network, its data, and its twin for the oracle."""

    def __init__(self, case="classes", *, l2=0.01, weighted=False, frozen=(), dtype="float64"):
        units, self.activations, self.loss = CASES[case]
        rng = np.random.default_rng(0)
        self.l2 = l2
        self.X = rng.normal(size=(units[0], M))
        self.sample_weight = rng.uniform(0.5, 2, M) if weighted else None
        if self.loss == "cross_entropy":
            self.Y = rng.integers(0, units[-1], M)
            self.Y_full = ref.one_hot(self.Y, units[-1])
        else:
            self.Y = self.Y_full = rng.normal(size=(units[-1], M))
        self.frozen = frozen
        layers = [
            nk.Dense(n, name, trainable=layer not in frozen)
            for layer, (n, name) in enumerate(zip(units[1:], self.activations, strict=True), start=1)
        ]
        self.net = nk.Network(layers, self.loss, n_x=units[0], l2=l2, dtype=dtype, seed=1)
        self.parameters = {name: rng.normal(scale=0.5, size=a.shape) for name, a in self.net.parameters.items()}
        self.net.set_parameters(self.parameters)

    def case(self, columns=slice(None)):
        """What the oracle's functions take before and after the parameters."""
        w = None if self.sample_weight is None else self.sample_weight[columns]
        data = self.X[:, columns], self.Y_full[:, columns]
        return data, (self.activations, self.loss, self.l2, w)

    def oracle_step(self, optimizer, columns=slice(None), learning_rate=None):
        """One update of the twin; gives J before it."""
        data, rest = self.case(columns)
        cost = ref.network_cost(*data, self.parameters, *rest)
        gradients = ref.network_backward(*data, self.parameters, *rest)
        free = {name: theta for name, theta in self.parameters.items() if int(name[1:]) not in self.frozen}
        optimizer.step(free, gradients, learning_rate)
        return cost

    def assert_same_parameters(self, actual=None, tolerance=1e-12, what=""):
        actual = self.net.parameters if actual is None else actual
        assert set(actual) == set(self.parameters)
        for name, expected in self.parameters.items():
            difference = np.max(np.abs(actual[name] - expected))
            assert difference <= tolerance * max(1, np.max(np.abs(expected))), (name, what)


def optimizers(name):
    """The same optimizer of the library and of the oracle."""
    kind, options = OPTIMIZERS[name]
    return getattr(nk, kind)(**options), getattr(ref, kind)(**options)


def test_every_optimizer_and_every_update_is_run():
    ours = [optimizers(name)[0] for name in OPTIMIZERS]
    assert {type(optimizer) for optimizer in ours} == set(nk.optimizers.OPTIMIZERS.values())
    assert {optimizer.update for optimizer in ours} == set(nk._engine.UPDATES) - {"penalise"}


def copies(parameters):
    return {name: np.array(a) for name, a in parameters.items()}


# ---- four ways to take ten full-batch steps: each gives [(cost before, parameters after)] ----


def by_fit(run, optimizer):
    after = []
    history = run.net.fit(
        run.X,
        run.Y,
        epochs=STEPS,
        batch_size=None,
        optimizer=optimizer,
        sample_weight=run.sample_weight,
        callbacks=[lambda net, epoch, history: after.append(copies(net.parameters))],
    )
    return list(zip(history["cost"], after, strict=True))


def by_partial_fit(run, optimizer):
    return [
        (
            run.net.partial_fit(run.X, run.Y, optimizer=optimizer, sample_weight=run.sample_weight),
            copies(run.net.parameters),
        )
        for _ in range(STEPS)
    ]


def by_step(run, optimizer):
    steps = []
    for _ in range(STEPS):
        cost = run.net.evaluate(run.X, run.Y, sample_weight=run.sample_weight).cost
        cost += ref.penalty(run.net.parameters, len(run.activations), run.l2)
        run.net.forward(run.X, training=True)
        gradients = run.net.backward(run.Y, sample_weight=run.sample_weight)
        run.net.step(gradients, optimizer)
        steps.append((cost, copies(run.net.parameters)))
    return steps


def by_gradients(run, optimizer):
    steps = []
    for _ in range(STEPS):
        cost, gradients = run.net.gradients(run.X, run.Y, sample_weight=run.sample_weight)
        run.net.step(gradients, optimizer)
        steps.append((cost, copies(run.net.parameters)))
    return steps


@pytest.mark.parametrize("way", [by_fit, by_partial_fit, by_step, by_gradients])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ten_steps(optimizer, weighted, case, way):
    run = Run(case, weighted=weighted)
    start = copies(run.parameters)
    ours, oracles = optimizers(optimizer)
    for number, (cost, parameters) in enumerate(way(run, ours), start=1):
        expected = run.oracle_step(oracles)
        assert cost == pytest.approx(expected, rel=1e-12), f"cost of step {number}"
        run.assert_same_parameters(parameters, what=f"step {number}")
    assert number == STEPS
    for name, value in start.items():
        assert np.abs(run.parameters[name] - value).max() > 1e-3, f"{name} hardly moved"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_mini_batches(optimizer):
    """Batches of 5, 5 and 2 in order; the epoch's cost is their example-weighted mean."""
    run = Run()
    ours, oracles = optimizers(optimizer)
    history = run.net.fit(run.X, run.Y, epochs=4, batch_size=5, shuffle=False, optimizer=ours)
    for cost in history["cost"]:
        expected = 0.0
        for start in range(0, M, 5):
            columns = slice(start, min(start + 5, M))
            share = (columns.stop - columns.start) / M
            expected += share * run.oracle_step(oracles, columns)
        assert cost == pytest.approx(expected, rel=1e-12)
    run.assert_same_parameters()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_schedule(optimizer):
    """A callable epoch -> rate, epochs counted from 0; momentum's velocity includes the rate."""
    run = Run()
    kind, options = OPTIMIZERS[optimizer]

    def schedule(epoch):
        return 0.05 / (1 + epoch)

    ours = getattr(nk, kind)(**options | {"learning_rate": schedule})
    oracles = getattr(ref, kind)(**options)
    history = run.net.fit(run.X, run.Y, epochs=STEPS, batch_size=6, shuffle=False, optimizer=ours)
    assert history["learning_rate"] == [schedule(epoch) for epoch in range(STEPS)]
    for epoch in range(STEPS):
        for columns in (slice(0, 6), slice(6, M)):
            run.oracle_step(oracles, columns, learning_rate=schedule(epoch))
    run.assert_same_parameters()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("resume", [False, True])
def test_second_fit(optimizer, resume):
    """It goes on from the present parameters; with resume=True it keeps the state as well."""
    run = Run()
    ours, oracles = optimizers(optimizer)
    _, fresh = optimizers(optimizer)
    options = {"batch_size": None, "optimizer": ours}
    run.net.fit(run.X, run.Y, epochs=4, **options)
    run.net.fit(run.X, run.Y, epochs=3, resume=resume, **options)
    for oracle, steps in ((oracles, 4), (oracles if resume else fresh, 3)):
        for _ in range(steps):
            run.oracle_step(oracle)
    run.assert_same_parameters()


@pytest.mark.parametrize("way", [by_fit, by_partial_fit, by_step, by_gradients])
@pytest.mark.parametrize("optimizer", ["SGD, momentum", "AdamW"])
@pytest.mark.parametrize("frozen", [(1,), (2,), (1, 3)], ids=str)
def test_frozen_layers(optimizer, frozen, way):
    """They keep their bits, and the others go as they would."""
    run = Run(frozen=frozen)
    start = copies(run.parameters)
    ours, oracles = optimizers(optimizer)
    way(run, ours)
    for _ in range(STEPS):
        run.oracle_step(oracles)
    run.assert_same_parameters()
    for layer in frozen:
        for name in (f"W{layer}", f"b{layer}"):
            np.testing.assert_array_equal(run.net.parameters[name], start[name])


# A gradient meets about M roundings in each step; these small networks don't amplify them.
FLOAT32_TOLERANCE = STEPS * M * ref.unit_roundoff("float32")


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if "default" not in name])
def test_ten_steps_in_float32(optimizer):
    run = Run(dtype="float32")
    ours, oracles = optimizers(optimizer)
    for cost, parameters in by_fit(run, ours):
        assert cost == pytest.approx(run.oracle_step(oracles), rel=FLOAT32_TOLERANCE)
        assert parameters["W1"].dtype == np.float32
        run.assert_same_parameters(parameters, FLOAT32_TOLERANCE)


# ---- torch's optimizers ----


def torch_optimizer(torch, name, theta):
    kind, options = OPTIMIZERS[name]
    defaults = {"SGD": 0.1, "Adam": 1e-3, "AdamW": 1e-3, "RMSprop": 1e-2, "Adagrad": 1e-2}
    options = {"lr": defaults[kind]} | options
    options["lr"] = options.pop("learning_rate", options["lr"])
    if kind.startswith("Adam"):
        options["betas"] = options.pop("beta1", 0.9), options.pop("beta2", 0.999)
    groups = [{"params": [leaf]} for leaf in theta.values()]
    if kind == "AdamW":
        decay = options.pop("weight_decay", 0.01)
        for group, parameter in zip(groups, theta, strict=True):
            group["weight_decay"] = decay if parameter.startswith("W") else 0.0
    return getattr(torch.optim, kind)(groups, **options)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ten_steps_of_torch(optimizer, case):
    torch = pytest.importorskip("torch", reason="torch is an optional second opinion")
    run = Run(case)
    theta = {name: torch.tensor(a, requires_grad=True) for name, a in run.parameters.items()}
    torchs = torch_optimizer(torch, optimizer, theta)
    ours, _ = optimizers(optimizer)
    data, rest = run.case()
    for cost, parameters in by_partial_fit(run, ours):
        torchs.zero_grad()
        expected = ref.torch_cost(*data, theta, *rest)
        expected.backward()
        torchs.step()
        assert cost == pytest.approx(expected.item(), rel=1e-10)
        for name, leaf in theta.items():
            np.testing.assert_allclose(parameters[name], leaf.detach().numpy(), rtol=1e-10, atol=1e-10, err_msg=name)
