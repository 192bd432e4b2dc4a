"""Data that has been read, before anything is made of it, and its errors. Knows no file formats and no networks."""

from dataclasses import dataclass, field

import numpy as np

KINDS = {"array": "an .npz file with X", "pictures": "pictures"}
"""What may be said of Arrays' kinds."""


class DataError(ValueError):
    """Data that can't be used; the message says where and what to do."""


@dataclass
class Arrays:
    """Examples that are numbers already: X (n_x, m), Y (m,) or (n_y, m) or None."""

    X: np.ndarray
    Y: np.ndarray | None
    source: str
    size: int | None = None  # side of the pictures in pixels, None for plain arrays
    files: list = field(default_factory=list)  # pictures: the file of each example
    groups: int | None = None  # groups of consecutive features that share a scale, such as the channels of pictures

    @property
    def m(self):
        return self.X.shape[1]

    @property
    def kind(self):
        return "array" if self.size is None else "pictures"

    def describe(self):
        return f"{self.source}: {self.m} examples, {self.X.shape[0]} features"
