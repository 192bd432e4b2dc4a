"""Reads data for the command line and the examples, and turns it into X (n_x, m) and Y."""

from nnkern.data import preprocessor
from nnkern.data.preprocessor import *  # noqa: F403
from nnkern.data.preprocessor import MAX_CATEGORIES as MAX_CATEGORIES

__all__ = preprocessor.__all__
