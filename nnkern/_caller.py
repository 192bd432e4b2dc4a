"""Warnings that point to the line of the program that called, however many functions of this package are in between."""

import sys
import warnings

# scikit-learn's own wrappers stand between a program and the estimators' methods.
_INSIDE = ("nnkern", "sklearn")


def warn(message, category=UserWarning):
    """Warns at the innermost line that is neither this package's nor scikit-learn's."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
