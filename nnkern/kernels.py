"""The functional kernels: one dense layer, one activation or one loss at a time, in the notation of the equations.

Arrays are (units, examples), float32 or float64, all operands of one call alike. Results come in Fortran order
(an example's entries contiguous). `Network` runs the same C code, for all layers in one call.
"""

from nnkern._kernels import (
    ACTIVATIONS,
    NEEDS_Z,
    DenseGradients,
    absolute_error,
    activation_backward,
    activation_forward,
    binary_cross_entropy,
    cross_entropy,
    dense_backward,
    dense_forward,
    squared_error,
)

__all__ = [
    "ACTIVATIONS",
    "NEEDS_Z",
    "DenseGradients",
    "absolute_error",
    "activation_backward",
    "activation_forward",
    "binary_cross_entropy",
    "cross_entropy",
    "dense_backward",
    "dense_forward",
    "squared_error",
]
