"""What works on matrices as heaps of numbers: gathering and scattering, dropout, the search for what isn't finite.

Through networks so plain that their numbers are those moved: an identity for W gives A = X to the bit, and a loss that
is a function sees which examples came and says what derivative goes back. Clipping is in test_kernels_updates.py,
beside the penalties.
"""

import re

import numpy as np
import pytest
import reference as ref
from conftest import DTYPES, LAYOUTS, WRITABLE_LAYOUTS, assert_only_inside, prefilled, unmodified
from hypothesis import given
from hypothesis import strategies as st

import nnkern as nk
from nnkern import _kernels
from nnkern.state import of

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 70)
# what holds each example's own number has to keep them apart
WHOLE_LAYOUTS = [name for name in LAYOUTS if "broadcast" not in name]


# ---- gathering examples ----


class Recorder:
    """A loss of cost and derivative 0 that keeps what it is given."""

    def __init__(self):
        self.A, self.Y = [], []

    def __call__(self, A, Y):
        self.A.append(A)
        self.Y.append(Y)
        return np.zeros(A.shape[1]), np.zeros_like(A)


def recorded(X, Y, *, dtype, seed, **options):
    """(the batches' examples, their targets), as a network with W = I sees them."""
    n = X.shape[0]
    recorder = Recorder()
    net = nk.Network([nk.Dense(n, init=np.eye(n), use_bias=False)], recorder, n_x=n, dtype=str(dtype), seed=seed)
    net.fit(X, Y, optimizer=nk.SGD(1.0), **options)
    return recorder.A, recorder.Y


def orders_of(m, *, dtype, seed, **options):
    """Of the examples, batch by batch."""
    _, numbers = recorded(np.zeros((1, m)), np.arange(m)[None], dtype=dtype, seed=seed, **options)
    return [batch[0].astype(int) for batch in numbers]


@given(
    n_x=SIZES,
    m=st.integers(1, 200),
    batch_size=st.integers(1, 80),
    dtype=st.sampled_from(DTYPES),
    layouts=st.tuples(st.sampled_from(sorted(LAYOUTS)), st.sampled_from(WHOLE_LAYOUTS)),
    shuffle=st.booleans(),
    seed=SEEDS,
)
def test_examples_are_gathered_whole(compare, n_x, m, batch_size, dtype, layouts, shuffle, seed):
    """Each epoch a permutation, cut into batches; every entry of X and Y to the bit."""
    rng = np.random.default_rng(seed)
    X = LAYOUTS[layouts[0]](rng.normal(size=(n_x, m)).astype(dtype))
    Y = rng.normal(size=(n_x, m)).astype(dtype)
    Y[0] = np.arange(m)
    Y = LAYOUTS[layouts[1]](Y)
    with unmodified(X, Y):
        seen = recorded(X, Y, dtype=dtype, seed=seed, epochs=2, batch_size=batch_size, shuffle=shuffle)
    size = min(batch_size, m)
    sizes = [size] * (m // size) + [m % size] * (m % size > 0)
    assert [A.shape[1] for A in seen[0]] == 2 * sizes
    A, Y_seen = (np.concatenate(batches, axis=1) for batches in seen)
    order = Y_seen[0].astype(int)
    for epoch in (order[:m], order[m:]):
        assert sorted(epoch) == list(range(m))
        assert shuffle or (epoch == np.arange(m)).all()
    compare(A, np.asarray(X[:, order], np.float64), 0, f"X {layouts[0]}")
    compare(Y_seen, np.asarray(Y[:, order], np.float64), 0, f"Y {layouts[1]}")


@given(
    n_x=SIZES,
    sizes=st.tuples(SIZES, SIZES).filter(lambda sizes: sizes[0] != sizes[1]).map(sorted),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(sorted(LAYOUTS)),
    labelled=st.booleans(),
    weighted=st.booleans(),
    seed=SEEDS,
)
def test_a_shuffled_epoch_is_its_batches_one_after_the_other(
    compare, n_x, sizes, dtype, layout, labelled, weighted, seed
):
    """The bits of every parameter are those of partial_fit, given the same examples contiguous.

    A full batch isn't shuffled: its products read X as it lies, and may round differently.
    """
    batch_size, m = sizes
    rng = np.random.default_rng(seed)
    X = LAYOUTS[layout](rng.normal(size=(n_x, m)).astype(dtype))
    Y = rng.integers(0, 3, m) if labelled else np.asfortranarray(rng.normal(size=(3, m)).astype(dtype))
    w = rng.uniform(0.5, 2, m).astype(dtype) if weighted else None
    output, loss = ("softmax", "cross_entropy") if labelled else ("linear", "squared_error")
    whole, parts = (
        nk.Network([nk.Dense(4, "tanh"), nk.Dense(3, output)], loss, n_x=n_x, l2=0.1, dtype=str(dtype), seed=seed)
        for _ in range(2)
    )
    optimizer = nk.SGD(0.1, momentum=0.9)
    options = {"epochs": 1, "batch_size": batch_size}
    whole.fit(X, Y, optimizer=optimizer, sample_weight=w, **options)
    for batch in orders_of(m, dtype=dtype, seed=seed, **options):
        columns = np.array(np.asarray(X)[:, batch], dtype, order="F")
        targets = Y[batch] if labelled else np.asfortranarray(Y[:, batch])
        parts.partial_fit(columns, targets, optimizer=optimizer, sample_weight=None if w is None else w[batch])
    for name, a in parts.parameters.items():
        compare(whole.parameters[name], a.astype(np.float64), 0, f"{name} {layout}")


@given(
    n_y=SIZES,
    m=st.integers(1, 200),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(sorted(WRITABLE_LAYOUTS)),
    seed=SEEDS,
)
def test_predictions_are_scattered_whole(compare, n_y, m, dtype, layout, seed):
    """Into `out` of any layout, and nowhere beside it."""
    rng = np.random.default_rng(seed)
    net = nk.Network([nk.Dense(n_y, init=np.eye(n_y))], "squared_error", n_x=n_y, dtype=str(dtype), seed=0)
    X = rng.normal(size=(n_y, m)).astype(dtype)
    out = prefilled((n_y, m), dtype, layout)
    assert net.predict(X, out=out) is out
    compare(out, X.astype(np.float64), 0, layout)
    assert_only_inside(out)


# ---- dropout ----


def words_of(key, count):
    """The generator's first 32-bit words for the first step's first layer."""
    counters = range((count + 3) // 4)
    return np.ravel([_kernels.philox((c, 0, 0, 0), (key % 2**32, key >> 32)) for c in counters])[:count]


@given(
    units=SIZES,
    m=st.sampled_from([1, 2, 4, 8, 16, 32, 64]),
    p=st.one_of(st.sampled_from([0.1, 0.5, 0.9]), st.floats(1e-3, 0.999)),
    dtype=st.sampled_from(DTYPES),
    seed=SEEDS,
)
def test_dropout(compare, units, m, p, dtype, seed):
    """The same entries forward and backward: 0 there, the others times 1 / (1 - p), the only rounding.

    X = I and W[2] = I, so that A[1] = W[1], and, m being a power of 2, m dW[1] is what dropout makes of the derivative.
    """
    rng = np.random.default_rng(seed)
    derivative = rng.uniform(1, 2, (units, m)).astype(dtype)
    W = rng.uniform(1, 2, (units, m)).astype(dtype)

    def passes(seed):
        layers = [nk.Dense(units, dropout=p, init=W), nk.Dense(units, init=np.eye(units))]
        net = nk.Network(layers, lambda A, Y: (np.zeros(m), Y), n_x=m, dtype=str(dtype), seed=seed)
        A = net.forward(np.eye(m), training=True)
        return net, A, net.backward(derivative)

    net, A, gradients = passes(seed)
    dropped = (words_of(of(net).engine.key, units * m) < int(p * 2**32)).reshape((units, m), order="F")
    kept = dtype.type(1 / (1 - p))
    for actual, whole in ((A, W), (m * gradients["dW1"], derivative)):
        np.testing.assert_array_equal(actual, np.where(dropped, 0, whole * kept))
        # for the share of numbers that aren't 0, which p decides
        compare(actual[~dropped], whole[~dropped].astype(np.float64) / (1 - p), 4 * kept * np.finfo(dtype).eps)
    # the layer above learns from what was left
    _, dW, db, _ = ref.dense_backward(derivative, np.eye(units), A, A, "linear")
    _, dW_bound, db_bound, _ = ref.bound_backward(derivative, np.eye(units), A, A, "linear", dtype)
    np.testing.assert_array_less(np.abs(gradients["dW2"] - dW), dW_bound + 1e-300)
    compare(gradients["db2"], db, db_bound)
    # Hoeffding: once in 10^12 it is further off
    assert abs(dropped.mean() - p) <= np.sqrt(np.log(2e12) / (2 * dropped.size))

    _, same_A, same_gradients = passes(seed)
    np.testing.assert_array_equal(same_A, A)
    np.testing.assert_array_equal(same_gradients["dW1"], gradients["dW1"])


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8, 33])
def test_dropout_of_every_number_of_entries(dtype, m):
    """1 … 70 units: every tail of vectors, and of the generator's rounds."""
    p = 0.4
    for units in range(1, 71):
        W = np.arange(1, units + 1, dtype=dtype)[:, None]
        net = nk.Network(
            [nk.Dense(units, dropout=p, init=W), nk.Dense(units, init=np.eye(units))],
            "squared_error",
            n_x=1,
            dtype=str(dtype),
            seed=units,
        )
        A = net.forward(np.ones((1, m)), training=True)
        dropped = (words_of(of(net).engine.key, units * m) < int(p * 2**32)).reshape((units, m), order="F")
        np.testing.assert_array_equal(A, np.where(dropped, 0, W * dtype.type(1 / (1 - p))))


# ---- the first entry that isn't finite ----

NOT_FINITE = [np.nan, -np.nan, np.inf, -np.inf]


def finite(shape, dtype, rng):
    """Numbers of all sizes, the largest and the smallest among them."""
    info = np.finfo(dtype)
    extremes = np.array([info.max, info.min, info.smallest_subnormal, info.tiny, 0.0, -0.0, 1.0], dtype)
    return np.where(rng.random(shape) < 0.5, rng.choice(extremes, shape), rng.normal(size=shape).astype(dtype))


@given(
    shape=st.tuples(SIZES, SIZES),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(sorted(LAYOUTS)),
    how_many=st.integers(0, 4),
    seed=SEEDS,
)
def test_the_first_entry_that_is_not_finite(shape, dtype, layout, how_many, seed):
    """Row by row, whatever the layout: in the kernel's answer, and in what the user reads."""
    rng = np.random.default_rng(seed)
    X = finite(shape, dtype, rng)
    X.flat[rng.integers(0, X.size, how_many)] = rng.choice(NOT_FINITE, how_many)
    X = LAYOUTS[layout](X)
    bad = [index for index in np.ndindex(shape) if not np.isfinite(X[index])]
    with unmodified(X):
        assert _kernels.first_nonfinite(X) == (bad[0] if bad else None)
        if bad:
            net = nk.Network([nk.Dense(1)], "squared_error", n_x=shape[0], dtype=str(dtype), seed=0)
            with pytest.raises(ValueError, match=rf"X.*{re.escape(str(bad[0]))}"):
                net.evaluate(X, np.zeros((1, shape[1])))


@pytest.mark.parametrize("value", NOT_FINITE, ids=str)
def test_every_place_of_every_count(dtype, value):
    """In every lane, every tail, and around the ends of runs of vectors, of which one sum is looked at."""
    counts = {*range(1, 70), 127, 128, 129, 1023, 1024, 1025, 3001}
    for count in counts:
        x = np.zeros(count, dtype)
        assert _kernels.first_nonfinite(x) is None
        for place in range(count) if count < 70 else {0, 1, 63, 64, 65, count // 2, count - 2, count - 1}:
            x[place] = value
            assert _kernels.first_nonfinite(x) == (place,), count
            x[-1], last = value, x[-1]
            assert _kernels.first_nonfinite(x) == (place,), count
            x[-1] = last
            x[place] = 0


def test_no_entries(dtype):
    for shape in ((0,), (0, 3), (3, 0)):
        assert _kernels.first_nonfinite(np.zeros(shape, dtype)) is None
