"""How far a result of reduced precision may be from float64's, and how far it is.

The bounds of reference.py count every rounding of a case; those of reduced precision are of another size, and one
figure for each class is enough. `ROUNDOFF` is the standard deviation of the error that one rounding of an operand adds
to a sum of products, relative to the spread of such sums. Roundings are independent, so they add up as squares:

    bfloat16: a relative error of at most 2^-8, about 2^-9 in the root mean square;
    int8: 127 steps up to the largest entry, which is 4 or more times the spread: 4 / 127 / sqrt(12), above 2^-7;
    none of both: float32's sums of up to some thousand products, each rounded: 2^-24 times 2^6.

Each product rounds its two operands and its result (as activations that are stored narrow are), so that after P
products in a row the error is sqrt(3 P) roundings. Predictions are L products in a row, gradients at most 2 L. LAMBDA
times that is allowed: the gains from layer to layer aren't one. A rounded Z also turns relu's derivative from 0 to 1
where it changes its sign, for a share of the entries that is the error of Z: that adds the square root of the share.
Adam divides each gradient by its size, so that small ones whose sign changes move by as much as the others.
"""

from __future__ import annotations

import numpy as np
from reference import LAMBDA, Disagreement, compare

ROUNDOFF = {"": 2.0**-18, "bfloat16": 2.0**-9, "int8": 2.0**-7}
# A parameter is rounded as it is stored, narrow ones before the first step too, and after each of a few.
STORED = 4
# How many times the tolerance one entry's error may be, in terms of the spread and the entry: errors of a softmax are
# in proportion to its outputs, of which one may be many times the spread.
LARGEST = 8


def error(kind: str, products: int) -> float:
    """The standard deviation that is expected after so many products in a row, relative to the spread."""
    return ROUNDOFF[kind] * np.sqrt(3 * products)


def of_outputs(kind: str, case) -> float:
    return LAMBDA * error(kind, len(case.activations))


def of_gradients(kind: str, case) -> float:
    e = error(kind, 2 * len(case.activations))
    return LAMBDA * e + 2 * np.sqrt(e) * ("relu" in case.activations)


def of_change(kind: str, case) -> float:
    """Of what a few steps change; below 1, which is the error of parameters that don't move."""
    tolerance = of_gradients(kind, case)
    return min(0.9, 2 * np.sqrt(tolerance)) if case.optimizer == "adam" else tolerance


def measure(what: str, came, value, spread: float, tolerance: float) -> dict[str, float]:
    """The largest and the root-mean-square error by `spread`; Disagreement where the latter is above its tolerance."""
    came, value = np.asarray(came), np.asarray(value)
    if came.shape != value.shape:
        raise Disagreement(f"{what}: shape {came.shape}, expected {value.shape}")
    off = np.abs(came - value) / spread
    found = {"largest": float(off.max()), "rms": root_mean_square(off)}
    # NaN is below no limit.
    if not found["rms"] <= tolerance:
        rms = f"{found['rms']:.2g} of the spread"
        raise Disagreement(f"{what}: the root-mean-square error is {rms}, expected at most {tolerance:.2g}")
    return found


def measure_outputs(what: str, came, value, kind: str, case) -> dict[str, float]:
    """The same of predictions, none of which may be far off."""
    spread, tolerance = float(value.std()), of_outputs(kind, case)
    found = measure(what, came, value, spread, tolerance)
    compare(what, came, value, LARGEST * tolerance * (spread + np.abs(value)))
    return found


def root_mean_square(array) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
