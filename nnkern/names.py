"""The names that can be passed, as types, so that editors complete them and type checkers find what is misspelt.

A parameter of a function of one's own that goes on to nnkern is annotated with them: ``activation: names.Activation``.
The tables that the names stand in are elsewhere; a test holds these types against them.
"""

from typing import Literal, TypeAlias

Activation: TypeAlias = Literal[
    "linear",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "softplus",
    "mish",
    "hard_swish",
    "exp",
    "softmax",
]
"""`nnkern.kernels.ACTIVATIONS`."""

Loss: TypeAlias = Literal[
    "binary_cross_entropy",
    "cross_entropy",
    "squared_error",
    "absolute_error",
    "huber",
    "quantile",
    "poisson",
]
"""`nnkern.losses.LOSSES`."""

Optimizer: TypeAlias = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]
"""`nnkern.optimizers.OPTIMIZERS`."""

Initializer: TypeAlias = Literal[
    "zeros",
    "normal",
    "he_normal",
    "he_uniform",
    "glorot_normal",
    "glorot_uniform",
    "lecun_normal",
    "unit_variance",
]
"""`nnkern.initializers.NAMES`."""

Shape: TypeAlias = Literal["cosine", "coslog4", "flat_cos", "linear", "one_cycle", "warm_up"]
"""`nnkern.schedules.SHAPES`."""

Compute: TypeAlias = Literal["float32", "float64", "bfloat16"]
"""What products are computed in."""
