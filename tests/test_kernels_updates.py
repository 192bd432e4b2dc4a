"""The optimizers' updates: parameters of any number and dtype after some steps, within bounds that are derived.

The gradient is known to the bit, as the loss is a function whose derivative is what was handed in as Y: one example of
whole powers of 2 then gives dW = Y Xᵀ, db = Y without a rounding. Three ways lead to the loops over θ: `step`, for
gradients that the caller has; `partial_fit`, which updates a layer's weights block by block with their gradient; and
`partial_fit` with clipping, which needs the whole gradient first. Ten steps of whole networks are in test_golden.py.
"""

import numpy as np
import pytest
import reference as ref
from conftest import DTYPES
from hypothesis import given, reject
from hypothesis import strategies as st

import nnkern as nk

OPTIMIZERS = {
    "SGD": {},
    "SGD, momentum": {"momentum": st.sampled_from([0.1, 0.9])},
    "SGD, Nesterov": {"momentum": st.sampled_from([0.1, 0.9]), "nesterov": st.just(True)},
    "Adam": {
        "beta1": st.sampled_from([0.0, 0.5, 0.9]),
        "beta2": st.sampled_from([0.0, 0.9, 0.999]),
        "eps": st.sampled_from([1e-8, 1e-3, 1.0]),
    },
    "RMSprop": {"alpha": st.sampled_from([0.0, 0.5, 0.99]), "eps": st.sampled_from([1e-8, 1e-3, 1.0])},
    "Adagrad": {"eps": st.sampled_from([1e-10, 1e-3, 1.0])},
}
OPTIMIZERS["AdamW"] = OPTIMIZERS["Adam"] | {"weight_decay": st.sampled_from([0.01, 0.3])}


def test_every_optimizer_is_held():
    kinds = {cls.__name__ for cls in nk.optimizers.OPTIMIZERS.values()}
    assert {name.partition(",")[0] for name in OPTIMIZERS} == kinds


def given_derivative(A, Y):
    """A loss of cost 0 whose derivative by A is Y."""
    return np.zeros(A.shape[1]), Y


def network(n, n_x, dtype, parameters, **options):
    net = nk.Network([nk.Dense(n)], given_derivative, n_x=n_x, dtype=str(dtype), seed=0, **options)
    net.set_parameters(parameters)
    return net


# one column or row of W, which lies contiguous, and matrices; a run of vectors has 128 to 1024 entries
SHAPES = st.one_of(
    st.tuples(st.integers(1, 200), st.just(1)),
    st.tuples(st.just(1), st.integers(1, 200)),
    st.tuples(st.just(1), st.integers(200, 2500)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
)


def options_of(name):
    """An optimizer's numbers."""
    return st.fixed_dictionaries(OPTIMIZERS[name] | {"learning_rate": st.sampled_from([1e-3, 0.1, 1.0])})


def run_of(name, options, dtype, shape, steps, start, scale, seed):
    """An optimizer, where it begins, and the examples (x, y) whose gradients it gets."""
    n, n_x = shape
    rng = np.random.default_rng(seed)
    parameters = {key: (start * rng.normal(size=size)).astype(dtype) for key, size in shapes(n, n_x).items()}
    examples = []
    for _ in range(steps):
        x = rng.choice([-2.0, -1.0, 0.5, 1.0], (n_x, 1)).astype(dtype)
        y = (rng.normal(scale=scale, size=(n, 1)) * (rng.random((n, 1)) < 0.9)).astype(dtype)
        examples.append((x, y))
    return name, options, dtype, parameters, examples


RUNS = {
    name: st.builds(
        run_of,
        name=st.just(name),
        options=options_of(name),
        dtype=st.sampled_from(DTYPES),
        shape=SHAPES,
        steps=st.integers(1, 5),
        start=st.sampled_from([0.0, 1e-3, 1.0]),
        scale=st.sampled_from([1e-3, 1.0, 1e3]),
        seed=st.integers(0, 2**32 - 1),
    )
    for name in OPTIMIZERS
}


def shapes(n, n_x):
    return {"W1": (n, n_x), "b1": (n, 1)}


def optimizers(name, options, limits):
    """The same optimizer of the library, and of the oracle, which is clipped outside."""
    kind = name.partition(",")[0]
    return getattr(nk, kind)(**options, **limits), getattr(ref, kind)(**options)


def hold(compare, run, way, *, l2=0.0, l1=0.0, limits=None):
    """Goes through the run by one of the ways below and by the oracle. A way gives J before its step, or None."""
    name, options, dtype, parameters, examples = run
    limits = limits or {}
    ours, oracle = optimizers(name, options, limits)
    net = network(*parameters["W1"].shape, dtype, parameters, l2=l2, l1=l1)
    twins = {key: ref.RoundedUpdates(oracle, theta, dtype) for key, theta in parameters.items()}
    for number, (x, y) in enumerate(examples, start=1):
        what = f"{parameters['W1'].shape} {dtype}, step {number} of {name} {options} {limits} {l2} {l1}"
        gradients = {
            "W1": ref.Rounded.exact(y.astype(np.float64) @ x.T.astype(np.float64), dtype),
            "b1": ref.Rounded.exact(y, dtype),
        }
        if l2 or l1:
            if l1 and not twins["W1"].signs_are_sure:
                reject()
            gradients["W1"] = twins["W1"].penalised(gradients["W1"].value, l2, l1)
        if limits:
            gradients = ref.clipped(gradients, **{key.removeprefix("clip_"): limit for key, limit in limits.items()})
        penalty, penalty_bound = twins["W1"].penalty(l2, l1)
        cost = way(net, ours, x, y)
        if cost is not None:
            compare(cost, penalty, penalty_bound, f"cost, {what}")
        for key, twin in twins.items():
            twin.step(gradients[key], is_weight=key == "W1")
            if not twin.bounded:
                reject()
            compare(net.parameters[key], twin.theta.value, twin.theta.error, f"{key}, {what}")


def by_step(net, optimizer, x, y):
    net.step({"dW1": y @ x.T, "db1": y}, optimizer)


def by_backward(net, optimizer, x, y):
    net.forward(x)
    net.step(net.backward(y), optimizer)


def by_partial_fit(net, optimizer, x, y):
    return net.partial_fit(x, y, optimizer=optimizer)


ANY_WAY = st.sampled_from([by_step, by_backward, by_partial_fit])
PENALISED_WAY = st.sampled_from([by_backward, by_partial_fit])


@pytest.mark.parametrize("name", OPTIMIZERS)
@given(data=st.data())
def test_any_number_of_parameters(compare, name, data):
    # a cost of 0 is no number to compare
    way = data.draw(ANY_WAY)
    hold(compare, data.draw(RUNS[name]), lambda *step: way(*step) and None)


# every tail of vectors; runs of vectors; parts that threads share
COUNTS = (*range(1, 70), 127, 128, 129, 200, 255, 257, 1023, 1024, 1025, 2077, 40_001)


@pytest.mark.parametrize("way", [by_step, by_partial_fit])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_number_of_parameters(compare, dtype, name, way):
    """Two steps of as many weights, and of as many biases."""
    rng = np.random.default_rng(0)
    options = {"learning_rate": 0.1}
    if "," in name:
        options |= {"momentum": 0.9, "nesterov": "Nesterov" in name}
    for n in COUNTS:
        parameters = {key: rng.normal(size=shape).astype(dtype) for key, shape in shapes(n, 1).items()}
        examples = [(np.ones((1, 1), dtype), rng.normal(size=(n, 1)).astype(dtype)) for _ in range(2)]
        hold(compare, (name, options, dtype, parameters, examples), lambda *step: way(*step) and None)


PENALTIES = st.sampled_from([(0.3, 0.0), (0.0, 0.2), (0.7, 0.1)])


@pytest.mark.parametrize("name", OPTIMIZERS)
@given(data=st.data(), penalties=PENALTIES)
def test_penalties(compare, name, data, penalties):
    """Their gradient in the step, and their value in the cost."""
    l2, l1 = penalties
    hold(compare, data.draw(RUNS[name]), data.draw(PENALISED_WAY), l2=l2, l1=l1)


@pytest.mark.parametrize("name", OPTIMIZERS)
@given(
    data=st.data(),
    penalties=st.one_of(st.just((0.0, 0.0)), PENALTIES),
    value=st.sampled_from([None, 0.3, 1.5]),
    norm=st.sampled_from([None, 0.3, 0.9, 10.0]),
)
def test_clipping(compare, name, data, penalties, value, norm):
    """By value, in terms of the first gradient's mean entry, and by norm, in terms of its length."""
    run = data.draw(RUNS[name])
    x, y = run[-1][0]
    g = np.concatenate([(y @ x.T).ravel(), y.ravel()]).astype(np.float64)
    limits = {}
    if value is not None:
        limits["clip_value"] = max(value * float(np.abs(g).mean()), 1e-6)
    if norm is not None:
        limits["clip_norm"] = max(norm * float(np.linalg.norm(g)), 1e-6)
    way = data.draw(ANY_WAY if penalties == (0.0, 0.0) else PENALISED_WAY)
    l2, l1 = penalties
    hold(compare, run, way if l2 or l1 else lambda *step: way(*step) and None, l2=l2, l1=l1, limits=limits)
