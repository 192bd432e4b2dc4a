"""The chain that other libraries' networks are read as: what it folds into a layer, and what it refuses."""

import numpy as np
import pytest

import nnkern as nk
from nnkern.convert.chain import Chain, normalisation

W = np.arange(12, dtype="f4").reshape(3, 4)
B = np.ones(3, "f4")
THREE = np.array([1.0, 2.0, 4.0])


def model(*maps, loss=None):
    """The Model of these maps, (method, *arguments) each; their place is what errors name."""
    chain = Chain()
    for number, (method, *arguments) in enumerate(maps):
        getattr(chain, method)(*arguments, f"map {number}")
    return chain.model(loss)


DENSE = ("dense", W, B)
RELU = ("activate", "relu", None)
ENCODE = ("encode", [lambda: (nk.Numeric(1), {})], 4)
MIX = ("mix", B / 2)
REFUSED = {
    "rank": ([("dense", W[0], None)], r"map 0: W has shape \(4,\), b None"),
    "nothing in it": ([("dense", W[:0], None)], r"map 0: W has shape \(0, 4\)"),
    "bias": ([("dense", W, B[:2])], r"map 0: W has shape \(3, 4\), b \(2,\)"),
    "two dtypes": ([("dense", W, B.astype("f8"))], "map 0: the parameters are float32 and float64"),
    "dtypes of two layers": ([DENSE, ("dense", np.eye(3), None)], "map 1: the parameters are float32 and float64"),
    "whole numbers": ([("dense", W.astype("i8"), None)], "map 0: the parameters are int64; all must be float32"),
    "widths": ([DENSE, DENSE], "map 1: it takes 4 numbers, but gets 3"),
    "factors before": ([("affine", THREE, None), DENSE], "map 1: 3 factors or terms for 4 numbers"),
    "terms before": ([("affine", None, THREE), DENSE], "map 1: 3 factors or terms for 4 numbers"),
    "factors after": ([DENSE, ("affine", np.ones(4), None)], "map 1: 4 factors or terms for 3 numbers"),
    "terms after": ([DENSE, ("affine", None, np.ones(4))], "map 1: 4 factors or terms for 3 numbers"),
    "activation first": ([RELU, DENSE], "map 0: the activation relu doesn't follow a dense layer"),
    "two activations": ([DENSE, RELU, RELU], "map 2: the activation relu doesn't follow a dense layer"),
    "activation of factors": (
        [DENSE, RELU, ("affine", THREE, None), RELU],
        "map 3: the activation relu doesn't follow",
    ),
    "activation of terms": ([DENSE, RELU, ("affine", None, THREE), RELU], "map 3: the activation relu"),
    "dropout first": ([("drop", 0.5), DENSE], "map 0: dropout that doesn't follow a dense layer"),
    "dropout twice": ([DENSE, ("drop", 0.5), ("drop", 0.5)], "map 2: dropout that doesn't follow a dense layer"),
    "dropout before": ([DENSE, ("drop", 0.5), ("activate", "tanh", None)], "map 2: dropout before tanh"),
    "dropout of all": ([DENSE, ("drop", 1.0), ("dense", W.T, None)], "map 0: dropout must be"),
    "slope": ([DENSE, ("activate", "leaky_relu", -1.0)], "map 0: negative_slope must be"),
    "encoders after a layer": ([DENSE, ENCODE], "map 1: encoders are the first layer of a network"),
    "encoders of factors": ([("affine", THREE, None), ENCODE], "map 1: encoders are the first layer of a network"),
    "encoders of terms": ([("affine", None, THREE), ENCODE], "map 1: encoders are the first layer of a network"),
    "encoders twice": ([ENCODE, ENCODE], "map 1: encoders are the first layer of a network"),
    "mix first": ([MIX], "map 0: a mix that doesn't follow an activation"),
    "mix of encoders": ([ENCODE, MIX], "map 1: a mix that doesn't follow an activation"),
    "mix of a layer": ([DENSE, MIX], "map 1: a mix that doesn't follow an activation"),
    "mix twice": ([DENSE, RELU, MIX, MIX], "map 3: a mix that doesn't follow an activation"),
    "mix of factors": ([DENSE, RELU, ("affine", THREE, None), MIX], "map 3: a mix that doesn't follow an activation"),
    "mix of another dtype": ([DENSE, RELU, ("mix", THREE)], "map 2: the parameters are float64 and float32"),
    "nothing": ([], "there is no dense layer in it"),
    "terms at the end": ([DENSE, RELU, ("affine", None, THREE)], "map 2: it has no dense layer after it or"),
    "both at the end": ([DENSE, RELU, ("affine", THREE, THREE)], "map 2: it has no dense layer after it or"),
    "one factor at the end": (
        [DENSE, RELU, ("affine", 2.0, None)],
        "map 2: it has no dense layer after it or straight",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_chain_of_layers_is_named(name):
    maps, message = REFUSED[name]
    with pytest.raises(nk.ModelFormatError, match=message):
        model(*maps)


def test_what_is_entry_by_entry_is_folded_into_the_layers():
    before, after = ("affine", [1, 2, 3, 4], None), ("affine", None, [4, 3, 2, 1])
    made = model(before, after, ("dense", W, None), ("affine", THREE, THREE), ("affine", 2.0, None), RELU)
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert np.array_equal(made.parameters["W1"], 2 * THREE[:, None] * W * a)
    assert np.array_equal(made.parameters["b1"][:, 0], 2 * (THREE * (W @ a[::-1]) + THREE))
    assert {array.dtype for array in made.parameters.values()} == {np.dtype("f4")}
    assert made.layers == (nk.Dense(3, "relu"),)
    assert (made.n_x, made.dtype, made.loss.name) == (4, np.float32, "squared_error")


def test_factors_after_terms_scale_these_too():
    made = model(("affine", None, np.ones(4)), ("affine", 2.0, None), ("affine", 3.0, 1.0), ("dense", W, None))
    assert np.array_equal(made.parameters["W1"], 6 * W)
    assert np.array_equal(made.parameters["b1"][:, 0], 7 * W.sum(axis=1))


def test_dropout_stands_behind_its_layer_whichever_side_of_relu():
    for maps in ([("drop", 0.5), RELU], [RELU, ("drop", 0.5)], [("drop", 0.0), RELU, ("drop", 0.5), ("drop", 0.0)]):
        assert model(DENSE, *maps, ("dense", W.T.copy(), None)).layers[0] == nk.Dense(3, "relu", dropout=0.5)


@pytest.mark.parametrize(
    ("activation", "loss", "output", "expected"),
    [
        ("sigmoid", None, "sigmoid", "binary_cross_entropy"),
        ("softmax", None, "softmax", "cross_entropy"),
        ("exp", None, "exp", "poisson"),
        ("tanh", None, "tanh", "squared_error"),
        ("linear", None, "linear", "squared_error"),
        ("linear", "cross_entropy", "softmax", "cross_entropy"),
        ("linear", "huber", "linear", "huber"),
    ],
)
def test_the_loss_and_the_output_that_belongs_to_it(activation, loss, output, expected):
    made = model(DENSE, ("activate", activation, None), loss=loss)
    assert (made.layers[-1].activation, made.loss.name) == (output, expected)


def test_an_output_that_a_loss_does_not_take():
    message = "the loss cross_entropy needs softmax units at the output; this one's are"
    with pytest.raises(nk.ModelFormatError, match=f"^{message} sigmoid"):
        model(DENSE, ("activate", "sigmoid", None), loss="cross_entropy")
    with pytest.raises(nk.ModelFormatError, match=f"^{message} linear"):
        model(DENSE, ("activate", "softmax", None), ("affine", THREE, None), loss="cross_entropy")


def test_batch_normalisation_as_a_map():
    mean, variance = np.array([1.0, -2.0]), np.array([3.0, 0.25])
    x, root = np.array([5.0, 7.0]), np.sqrt(variance + 0.5)
    scale, shift = normalisation(np.array([2.0, 3.0]), np.array([-1.0, 1.0]), mean, variance, 0.5)
    np.testing.assert_allclose(scale * x + shift, (x - mean) / root * [2, 3] + [-1, 1])
    scale, shift = normalisation(None, None, mean, variance, 0.5)
    np.testing.assert_allclose(scale * x + shift, (x - mean) / root)
