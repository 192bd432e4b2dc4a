"""The functional kernels: one dense layer, one activation or one loss at a time, in the notation of the equations.

Arrays are (units, examples), float32 or float64, all operands of one call alike. Results come in Fortran order
(an example's entries contiguous). `Network` runs the same C code, for all layers in one call.

The activations g(z), σ being sigmoid and Φ the normal distribution function:

    linear       z
    sigmoid      1 / (1 + e^-z)
    tanh         (e^z - e^-z) / (e^z + e^-z)
    relu         z for z >= 0, else 0
    leaky_relu   z for z >= 0, else 0.01 z                     0.01 is what `negative_slope` changes
    elu          z for z >= 0, else e^z - 1                    Clevert et al. 2016
    selu         1.0507 z for z >= 0, else 1.7581 (e^z - 1)    Klambauer et al. 2017
    gelu         z Φ(z)                                        Hendrycks and Gimpel 2016
    gelu_tanh    ½ z (1 + tanh(√(2/π) (z + 0.044715 z³)))      the same authors' approximation of gelu
    silu         z σ(z)
    softplus     log(1 + e^z)
    mish         z tanh(log(1 + e^z))                          Misra 2019
    hard_swish   z min(max(z + 3, 0), 6) / 6                   Howard et al. 2019
    exp          e^z
    softmax      e^z / Σ_units e^z                             over the units of each example
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nnkern import losses
from nnkern._kernels import (
    ACTIVATIONS,
    NEEDS_Z,
    DenseGradients,
    activation_backward,
    activation_forward,
    dense_backward,
    dense_forward,
)
from nnkern._kernels import loss as _loss

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
    "huber",
    "poisson",
    "quantile",
    "squared_error",
]

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
_Labels: TypeAlias = npt.NDArray[np.integer[Any]] | Sequence[int]
_Loss: TypeAlias = tuple[float, Floats, Floats]


def binary_cross_entropy(
    Z: Floats, Y: Floats, sample_weight: npt.ArrayLike | None = None, *, label_smoothing: float = 0.0
) -> _Loss:
    """cost, A, dZ of sigmoid units with L = -Σ_units (y log a + (1 - y) log(1 - a)), a = σ(z), in one pass over Z.

    Parameters
    ----------
    Z : (n_y, m) array of float32 or float64
    Y : (n_y, m) array of the same dtype, entries in [0, 1]
    sample_weight : (m,) array, optional
        w_i >= 0; then the cost is Σ w_i L_i / Σ w_i, and column i of dZ carries the factor m w_i / Σ w.
    label_smoothing : float
        ε in [0, 1): (1 - ε) y + ε / 2 stands for y.

    Returns
    -------
    cost : float
        The mean of L over the examples, computed from Z as max(z, 0) - y z + log(1 + e^-|z|).
    A : (n_y, m) array, σ(Z)
    dZ : (n_y, m) array, A - Y

    Raises
    ------
    TypeError, ValueError
        Dtypes or shapes don't agree.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> cost, A, dZ = nk.kernels.binary_cross_entropy(
    ...     np.zeros((1, 2)), np.array([[0.0, 1.0]])
    ... )
    >>> round(cost, 6), A.tolist(), dZ.tolist()
    (0.693147, [[0.5, 0.5]], [[0.5, -0.5]])
    """
    return _loss("binary_cross_entropy", Z, Y, sample_weight, losses.BinaryCrossEntropy.checked(label_smoothing))


def cross_entropy(
    Z: Floats, Y: Floats | _Labels, sample_weight: npt.ArrayLike | None = None, *, label_smoothing: float = 0.0
) -> _Loss:
    """cost, A, dZ of softmax units with L = -Σ_units y log ŷ, in one pass over Z.

    Parameters
    ----------
    Z : (n_y, m) array of float32 or float64
    Y : integer labels 0 … n_y-1 of shape (m,) or (1, m), or an (n_y, m) array of Z's dtype whose columns sum to 1
    sample_weight : (m,) array, optional
        As in `binary_cross_entropy`.
    label_smoothing : float
        ε in [0, 1): (1 - ε) y + ε / n_y stands for y.

    Returns
    -------
    cost : float
        The mean of L over the examples, computed from Z as log Σ e^z - Σ y z.
    A : (n_y, m) array, softmax(Z)
    dZ : (n_y, m) array, A - Y

    Raises
    ------
    TypeError, ValueError
        Dtypes or shapes don't agree, or a label isn't in 0 … n_y-1.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> cost, A, dZ = nk.kernels.cross_entropy(np.zeros((2, 1)), np.array([1]))
    >>> round(cost, 6), A.T.tolist(), dZ.T.tolist()
    (0.693147, [[0.5, 0.5]], [[0.5, -0.5]])
    """
    return _loss("cross_entropy", Z, Y, sample_weight, losses.CrossEntropy.checked(label_smoothing))


def squared_error(Z: Floats, Y: Floats, sample_weight: npt.ArrayLike | None = None) -> _Loss:
    """cost, A, dZ of linear units with L = Σ_units ½ (ŷ - y)², ŷ = z.

    Parameters and returns as in `binary_cross_entropy`; A is a copy of Z, dZ = Z - Y.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> nk.kernels.squared_error(np.array([[3.0]]), np.array([[1.0]]))[0]
    2.0
    """
    return _loss("squared_error", Z, Y, sample_weight)


def absolute_error(Z: Floats, Y: Floats, sample_weight: npt.ArrayLike | None = None) -> _Loss:
    """cost, A, dZ of linear units with L = Σ_units |ŷ - y|, ŷ = z; the derivative at 0 is 0.

    Parameters and returns as in `binary_cross_entropy`; A is a copy of Z, dZ = sign(Z - Y).

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> nk.kernels.absolute_error(np.array([[3.0]]), np.array([[1.0]]))[0]
    2.0
    """
    return _loss("absolute_error", Z, Y, sample_weight)


def huber(Z: Floats, Y: Floats, sample_weight: npt.ArrayLike | None = None, *, delta: float = 1.0) -> _Loss:
    """cost, A, dZ of linear units with L = Σ_units ½ d² for |d| <= δ, else δ (|d| - ½ δ), d = ŷ - y, ŷ = z.

    Parameters and returns as in `binary_cross_entropy`; A is a copy of Z, dZ = d kept within ±δ. `delta`: δ > 0.
    Source: Huber, Robust estimation of a location parameter, 1964.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> nk.kernels.huber(np.array([[3.0, 1.5]]), np.array([[1.0, 1.0]]))[0]
    0.8125
    """
    return _loss("huber", Z, Y, sample_weight, losses.Huber.checked(delta))


def quantile(Z: Floats, Y: Floats, sample_weight: npt.ArrayLike | None = None, *, q: float = 0.5) -> _Loss:
    """cost, A, dZ of linear units with L = Σ_units q (y - ŷ) where ŷ <= y, else (1 - q) (ŷ - y), ŷ = z.

    Parameters and returns as in `binary_cross_entropy`; A is a copy of Z, dZ is -q or 1 - q, and 0 where ŷ = y.
    `q`: in (0, 1); the cost is least at the q-quantile of y.
    Source: Koenker and Bassett, Regression quantiles, 1978.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> nk.kernels.quantile(np.array([[3.0, 0.0]]), np.array([[1.0, 1.0]]), q=0.75)[0]
    0.625
    """
    return _loss("quantile", Z, Y, sample_weight, losses.Quantile.checked(q))


def poisson(Z: Floats, Y: Floats, sample_weight: npt.ArrayLike | None = None) -> _Loss:
    """cost, A, dZ of exp units with L = Σ_units (ŷ - y z), ŷ = e^z: -log of y's Poisson probability, without log y!.

    Parameters and returns as in `binary_cross_entropy`; Y >= 0, A = e^Z, dZ = A - Y.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> nk.kernels.poisson(np.array([[0.0]]), np.array([[3.0]]))
    (1.0, array([[1.]]), array([[-2.]]))
    """
    return _loss("poisson", Z, Y, sample_weight)
