"""Frozen predictors: what they give beside the network and the oracle, what reduced weights cost, who may call them."""

import copy
import pickle
import threading

import numpy as np
import pytest
import reference as ref
from conftest import (
    BF16_ISAS,
    LAYOUTS,
    SIZES,
    WRITABLE_LAYOUTS,
    assert_no_leaks,
    assert_only_inside,
    fails,
    prefilled,
    run_tests,
    unmodified,
)
from hypothesis import given
from hypothesis import strategies as st

import nnkern as nk

WEIGHTS = ("float32", "float64", "bfloat16", "int8")
USABLE_ISAS = [isa for isa in nk.show_config().to_dict()["usable_isas"].split(", ") if isa not in BF16_ISAS]
# examples taken one by one, widened for a product, and more than a block
EXAMPLES = (1, 2, 7, 8, 9, 33)


def network(sizes, activation="relu", output="linear", *, dtype="float32", seed=0, **options):
    layers = [nk.Dense(n, activation, **options) for n in sizes[1:-1]] + [nk.Dense(sizes[-1], output, **options)]
    loss = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy"}.get(output, "squared_error")
    net = nk.Network(layers, loss, n_x=sizes[0], dtype=dtype, seed=seed)
    rng = np.random.default_rng(seed)
    net.set_parameters({name: rng.normal(size=a.shape) / np.sqrt(a.shape[1]) for name, a in net.parameters.items()})
    return net


def examples(n_x, m, dtype="float32", seed=1):
    return np.random.default_rng(seed).normal(size=(m, n_x)).astype(dtype).T


def names_of(net):
    return [layer.activation for layer in net.layers]


def rounded_to_bfloat16(W):
    """By way of float64: 8 significant bits, halves to even."""
    mantissa, exponent = np.frexp(W.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 2**8), exponent - 8)


def rounded_to_int8(W):
    """(scales (n, 1), whole numbers of them) in float32, as they are defined."""
    scale = np.abs(W.astype(np.float32)).max(axis=1, keepdims=True) / np.float32(127)
    with np.errstate(invalid="ignore", divide="ignore"):
        return scale, np.where(scale > 0, np.rint(W.astype(np.float32) / scale).clip(-127, 127), np.float32(0))


# ---- whole weights ----


@pytest.mark.parametrize("activation", sorted(ref.ELEMENTWISE))
def test_every_activation_is_within_the_bound_of_the_oracle(activation, dtype, compare):
    net = network((19, 35, 17, 6), activation, "softmax", dtype=str(dtype))
    predictor = net.compile_predict()
    assert (predictor.weights, predictor.dtype) == (str(dtype), dtype)
    for m in EXAMPLES:
        X = examples(19, m, dtype)
        A, bound = ref.network_bound(X, net.parameters, names_of(net), dtype)
        compare(predictor(X), A, bound, f"{m} examples")
        compare(net.predict(X), A, bound, "the network")


@pytest.mark.parametrize("weights", WEIGHTS)
@given(
    n=st.sampled_from([*SIZES[1:], 127, 128, 129, 300]),
    n_prev=st.sampled_from([*SIZES[1:], 255, 256, 257, 600]),
    m=st.sampled_from(EXAMPLES),
    seed=st.integers(0, 2**32 - 1),
    use_bias=st.booleans(),
    layout=st.sampled_from(sorted(LAYOUTS)),
    out_layout=st.sampled_from(sorted(WRITABLE_LAYOUTS)),
)
def test_whole_numbers_are_exact(weights, n, n_prev, m, seed, use_bias, layout, out_layout):
    """Weights that every type holds, sums that the mantissa holds: an index error shows at any size."""
    rng = np.random.default_rng(seed)
    net = nk.Network([nk.Dense(n, use_bias=use_bias)], "squared_error", n_x=n_prev, dtype="float64")
    parameters = {"W1": rng.integers(-127, 128, (n, n_prev)), "b1": rng.integers(-9, 10, (n, 1))}
    parameters["W1"][:, rng.integers(n_prev)] = 127  # the scale of int8 is 1 then
    net.set_parameters({name: parameters[name] for name in net.parameters})
    predictor = net.compile_predict(weights=weights)
    # bfloat16 has 8 bits: 127 and what is below
    assert np.array_equal(predictor.parameters["W1"], parameters["W1"])
    X = rng.integers(-8, 9, (n_prev, m)).astype(predictor.dtype)
    X[rng.integers(n_prev)] = 127  # and the scale of each example
    X = LAYOUTS[layout](X)
    expected = parameters["W1"] @ X.astype(np.int64) + (parameters["b1"] if use_bias else 0)
    out = prefilled((n, m), predictor.dtype, out_layout)
    with unmodified(X):
        assert predictor.predict(X, out=out) is out
        assert np.array_equal(predictor(X), expected)
    assert np.array_equal(out, expected)
    assert_only_inside(out)


@pytest.mark.own_kernels
@pytest.mark.parametrize("isa", USABLE_ISAS[1:])
def test_other_instruction_sets(isa):
    run_tests("test_predictor.py", "exact or oracle or rounded", NNKERN_ISA=isa)


@pytest.mark.own_kernels
def test_products_by_blas():
    run_tests("test_predictor.py", "exact", NNKERN_GEMM="blas")


def test_several_blocks_of_examples():
    net = network((5, 700, 3))
    X = examples(5, 700)
    predictor, A = net.compile_predict(), net.predict(X)
    _, bound = ref.network_bound(X, net.parameters, names_of(net), np.float32)
    for x in (X, np.ascontiguousarray(X)):
        assert (np.abs(predictor(x) - A) <= 2 * bound).all()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_nan_and_infinities_go_through(weights):
    predictor = network((70, 40, 3), "linear").compile_predict(weights=weights)
    for m in (1, 9):
        X = examples(70, m, predictor.dtype)
        X[69, 0] = np.nan
        assert np.isnan(predictor(X)[:, 0]).all()
        assert np.isfinite(predictor(X)[:, 1:]).all()
    single = network((70, 40)).compile_predict(weights=weights)
    X = examples(70, 1, predictor.dtype)
    X[69] = np.inf
    with np.errstate(invalid="ignore"):
        # an int8 may be 0, which makes it NaN
        np.testing.assert_array_equal(single(X), single.parameters["W1"][:, 69:] * np.inf)


# ---- reduced weights ----


def test_weights_are_rounded_to_the_nearest_bfloat16():
    net = network((300, 130, 3))
    special = [1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8 + 2**-20), 2**-8, 3.0e38, 0.0, -1.5]
    net.parameters["W1"][: len(special), 0] = special
    predictor = net.compile_predict(weights="bfloat16")
    for name in ("W1", "W2"):
        assert np.array_equal(predictor.parameters[name], rounded_to_bfloat16(net.parameters[name]))
    assert predictor.parameters["W1"][: len(special), 0][:3].tolist() == [1, 1 + 2**-6, -(1 + 2**-7)]
    assert np.array_equal(predictor.parameters["b1"], net.parameters["b1"])
    whole = net.compile_predict()
    assert 0.49 * whole.nbytes < predictor.nbytes < 0.55 * whole.nbytes


def test_weights_are_rounded_to_whole_numbers_of_a_units_scale():
    net = network((300, 130, 3))
    net.parameters["W1"][7] = 0
    net.parameters["W1"][8] *= 1e-30
    for row, size in ((9, 1e-44), (10, 1e-42)):
        net.parameters["W1"][row] *= size  # a scale of some of the smallest numbers, or of none
    predictor = net.compile_predict(weights="int8")
    for name in ("W1", "W2"):
        scale, whole = rounded_to_int8(net.parameters[name])
        assert np.abs(whole).max() == 127
        assert np.array_equal(predictor.parameters[name], scale * whole)
        error = np.abs(predictor.parameters[name] - net.parameters[name])
        assert (error <= scale * 0.5001)[scale[:, 0] > 1e-38].all()
    assert np.array_equal(predictor.parameters["b2"], net.parameters["b2"])
    assert 0.24 * net.compile_predict().nbytes < predictor.nbytes < 0.3 * net.compile_predict().nbytes


@pytest.mark.parametrize("n", [1, 2, 4, 5, 100, 300])
@pytest.mark.parametrize("compute", ["float32", None])
@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_reduced_weights_are_computed_with_as_they_were_rounded(weights, compute, n, compare):
    """γ of K products, of two scales and of the bias; and what rounding weights and examples costs."""
    n_prev = 1333
    net = network((n_prev, n))
    W, b = net.parameters["W1"].astype(np.float64), net.parameters["b1"]
    predictor = net.compile_predict(weights=weights, compute=compute)
    rounded = predictor.parameters["W1"].astype(np.float64)
    step = np.abs(W) * 2.0**-8 if weights == "bfloat16" else np.abs(W).max(axis=1, keepdims=True) / 127 * 0.5001
    for m in EXAMPLES:
        X = examples(n_prev, m).astype(np.float64)
        computing = ref.gamma_both(n_prev + 3, np.float32) * (np.abs(rounded) @ np.abs(X) + np.abs(b))
        if compute is None:
            # an example's entries are rounded to half a unit of 8 bits, or of its scale (and that by 2 roundings more)
            halves = np.abs(X) * 2.0**-9 if weights == "bfloat16" else np.abs(X).max(axis=0) / 127 * 0.5001
            computing += np.abs(rounded) @ np.broadcast_to(halves, X.shape)
        compare(predictor(X.astype(np.float32)), rounded @ X + b, computing, f"{m} examples")
        rounding = np.broadcast_to(step, W.shape) @ np.abs(X)
        compare(predictor(X.astype(np.float32)), W @ X + b, computing + rounding, f"{m} examples, whole weights")


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
def test_a_float64_network_is_frozen_to_less(weights):
    net = network((9, 20, 2), dtype="float64")
    predictor = net.compile_predict(weights=weights)
    assert predictor(examples(9, 3, "float64")).dtype == np.float32
    assert predictor.parameters["W1"].dtype == np.float32
    if weights == "float32":
        assert np.array_equal(predictor.parameters["W1"], net.parameters["W1"].astype(np.float32))


@pytest.mark.parametrize(("value", "weights"), [(np.nan, "bfloat16"), (np.inf, "int8"), (1e200, "float32")])
def test_weights_that_a_type_cannot_hold(value, weights):
    net = network((3, 4, 2), dtype="float64")
    net.parameters["W2"][1, 2] = value
    with pytest.raises(ValueError, match=rf"W2 in {weights} holds (nan|inf) at position \(1, 2\)"):
        net.compile_predict(weights=weights)


def test_the_largest_bfloat16():
    """255 · 2¹²⁰; what lies nearer to 256 · 2¹²⁰ can't be held."""
    net = network((1, 1))
    net.parameters["b1"][...] = np.finfo("float32").max
    largest = np.float32(255 * 2.0**120)
    net.parameters["W1"][...] = np.nextafter(np.float32(255.5 * 2.0**120), np.float32(0))
    assert net.compile_predict(weights="bfloat16").parameters["W1"] == largest
    net.parameters["W1"][...] = -255.5 * 2.0**120
    with pytest.raises(ValueError, match=r"W1 in bfloat16 holds -?inf"):
        net.compile_predict(weights="bfloat16")


# ---- frozen ----


@pytest.mark.parametrize("weights", WEIGHTS)
def test_later_changes_of_the_network_do_not_reach_it(weights):
    net = network((6, 30, 3), "tanh", "softmax")
    predictor = net.compile_predict(weights=weights)
    X = examples(6, 12, predictor.dtype)
    before, parameters = predictor(X), predictor.parameters
    net.fit(X, np.arange(12) % 3, epochs=3, optimizer=nk.SGD(0.5))
    assert not np.array_equal(net.predict(X), before)
    net.set_parameters({name: np.zeros_like(a) for name, a in net.parameters.items()})
    parameters["W1"][...] = 0
    del net
    assert np.array_equal(predictor(X), before)
    assert predictor.parameters["W1"].any()


def test_it_cannot_be_written_to_or_pickled():
    predictor = network((3, 4, 2)).compile_predict()
    for name in ("weights", "dtype", "n_x", "n_y", "nbytes", "threads", "parameters"):
        with pytest.raises(AttributeError):
            setattr(predictor, name, 1)
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="pickle the network, and compile it where it is loaded"):
            copied(predictor)


def test_it_says_what_it_is():
    predictor = network((64, 64, 10), dtype="float64").compile_predict(threads=3)
    assert repr(predictor) == f"<Predictor 64 → 10, float64 weights, {predictor.nbytes:,} bytes>"
    assert (predictor.n_x, predictor.n_y, predictor.threads) == (64, 10, 3)


# ---- threads ----


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_number_of_threads_changes_no_bit(weights):
    net = network((800, 700, 600, 5))
    for m in (1, 3, 64):
        X = examples(800, m)
        A = [net.compile_predict(weights=weights, threads=threads)(X).tobytes() for threads in (1, 2, 3)]
        assert len(set(A)) == 1


@pytest.mark.parametrize("sizes", [(6, 8, 3), (300, 700, 10)])
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_eight_threads_at_a_barrier(sizes, weights):
    predictor = network(sizes).compile_predict(weights=weights, threads=2)
    inputs = [examples(sizes[0], 1 + number % 3 * 8, seed=number) for number in range(8)]
    expected = [predictor(X).tobytes() for X in inputs]
    barrier, right = threading.Barrier(8), []

    def work(number):
        barrier.wait(300)
        for _ in range(50):
            right.append(predictor(inputs[number]).tobytes() == expected[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(right) == 400
    assert all(right)


# ---- bad inputs ----


@pytest.mark.parametrize(
    ("X", "out"),
    [
        (np.ones(3, "float32"), None),
        (np.ones((3, 1, 1), "float32"), None),
        (np.ones((2, 3), "float32"), None),
        (np.ones((2, 2), "float32"), None),
        (np.ones((3, 0), "float32"), None),
        (np.ones((3, 2), "complex64"), None),
        (np.array([["a"], ["b"], ["c"]]), None),
        ([[1.0], [2.0, 3.0], [4.0]], None),
        (np.ones((3, 2), "float32"), np.empty((2, 3), "float32")),
        (np.ones((3, 2), "float32"), np.empty((2, 2), "float64")),
        (np.ones((3, 2), "float32"), np.broadcast_to(np.float32(0), (2, 2))),
        (np.ones((3, 2), "float32"), [[0.0, 0.0], [0.0, 0.0]]),
    ],
)
def test_bad_inputs_get_the_words_of_the_networks_predict(X, out):
    net = network((3, 4, 2))
    predictor = net.compile_predict()
    with pytest.raises((ValueError, TypeError)) as expected:
        net.predict(X, out=out)
    for call in (predictor, predictor.predict):
        with pytest.raises(expected.type) as came:
            call(X, out=out)
        assert str(came.value) == str(expected.value)


def test_out_that_overlaps_the_input():
    X = np.ones((3, 3), "float32", order="F")
    with pytest.raises(ValueError, match="out overlaps X in memory"):
        network((3, 3)).compile_predict()(X, out=X)


def test_other_numbers_are_converted():
    predictor = network((3, 4, 2)).compile_predict()
    X = np.array([[1, 2], [0, 3], [1, 1]])
    expected = predictor(X.astype("float32"))
    for came in (X, X.astype("float64"), X.astype("float16"), X.astype(">f4"), X.tolist()):
        assert np.array_equal(predictor(came), expected)


def test_a_network_without_parameters():
    with pytest.raises(nk.NotFittedError, match=r"call fit\(X, Y\) or initialize\(n_x\) first"):
        nk.Network([nk.Dense(1)], "squared_error").compile_predict()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "float16"}, r"weights must be one of float32, float64, bfloat16, int8; got 'float16'"),
        ({"threads": 0}, r"threads must be an integer >= 1; got 0"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(ValueError, match=said):
        network((3, 2)).compile_predict(**options)


# ---- report ----


def test_the_report_of_a_classifier():
    rng = np.random.default_rng(0)
    net = network((20, 40, 5), "relu", "softmax")
    X, labels = examples(20, 20000), rng.integers(0, 5, 20000)
    predictor = net.compile_predict(weights="int8")
    report = predictor.report(net, X, labels)
    difference = np.abs(predictor(X).astype("float64") - net.predict(X))
    assert (report.weights, report.examples) == ("int8", 20000)
    assert (report.nbytes, report.network_nbytes) == (predictor.nbytes, 4 * (41 * 5 + 21 * 40))
    assert report.largest_difference == difference.max() > 0
    assert report.mean_difference == pytest.approx(difference.mean())
    agree = predictor(X).argmax(axis=0) == net.predict(X).argmax(axis=0)
    assert report.agreement == agree.mean()
    assert 0.9 < report.agreement < 1
    assert report.network_evaluation == net.evaluate(X, labels)
    assert report.evaluation.score == np.mean(predictor(X).argmax(axis=0) == labels)
    cost = -np.log(predictor(X).astype("float64")[labels, np.arange(20000)]).mean()
    assert report.evaluation.cost == pytest.approx(cost, rel=1e-5)
    assert report.evaluation.cost != report.network_evaluation.cost
    lines = str(report).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "weights",
        "examples",
        "difference of outputs",
        "same labels",
        "cost",
        "score",
    ]
    assert f"{report.evaluation.cost:.6g}; the network's {report.network_evaluation.cost:.6g}" in lines[4]


def test_the_report_without_labels_and_of_numbers():
    net = network((20, 40, 2))
    report = net.compile_predict(weights="bfloat16").report(net, examples(20, 50))
    assert report.agreement is report.evaluation is report.network_evaluation is None
    assert len(str(report).splitlines()) == 3
    whole = net.compile_predict().report(net, examples(20, 50))
    assert whole.largest_difference < 1e-5 < report.largest_difference


def test_the_report_of_several_sigmoid_outputs_wants_all_of_them_right():
    net = network((20, 40, 3), "relu", "sigmoid")
    X = examples(20, 2000)
    predictor = net.compile_predict(weights="int8")
    agree = ((predictor(X) > 0.5) == (net.predict(X) > 0.5)).all(axis=0)
    assert predictor.report(net, X).agreement == agree.mean() < 1


def test_the_report_refuses_another_network_and_bad_data():
    net = network((3, 4, 2))
    predictor = net.compile_predict(weights="int8")
    with pytest.raises(ValueError, match="has other layers than the predictor"):
        predictor.report(network((3, 5, 2)), examples(3, 5))
    with pytest.raises(ValueError, match="X holds nan"):
        predictor.report(net, np.full((3, 5), np.nan))
    with pytest.raises(nk.NotFittedError):
        predictor.report(nk.Network([nk.Dense(2)], "squared_error"), examples(3, 5))


# ---- leaks ----

# name -> (call of a network, its predictor, X and out, how many: fewer of what takes long)
REPEATED = {
    "compile": (lambda net, predictor, X, out: net.compile_predict(weights="int8"), 5000),
    "compile, refused": (lambda net, predictor, X, out: fails(net.compile_predict, weights="int3"), 10_000),
    "call": (lambda net, predictor, X, out: predictor(X), 10_000),
    "call into out": (lambda net, predictor, X, out: predictor(X, out=out), 10_000),
    "call, refused": (lambda net, predictor, X, out: fails(predictor, X[:3]), 10_000),
    "report": (lambda net, predictor, X, out: predictor.report(net, X), 2000),
}


@pytest.mark.no_sanitizer
@pytest.mark.parametrize(("call", "calls"), REPEATED.values(), ids=list(REPEATED))
def test_no_leaks(call, calls):
    net, X, out = network((7, 9, 4)), examples(7, 5), np.empty((4, 5), np.float32)
    used = net, net.compile_predict(), X, out
    assert_no_leaks(lambda: call(*used), used, calls)
