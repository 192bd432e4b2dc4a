"""Data that has been read, before anything is made of it: tables of text, arrays of numbers, and their errors.

Knows no file formats and no networks.
"""

from dataclasses import dataclass, field

import numpy as np

from nnkern.data.texts import parse_numbers


class DataError(ValueError):
    """Data that can't be used; the message says where and what to do."""


class UnknownCategoryWarning(UserWarning):
    """New data holds a category that the training data didn't: it counts as none of the known."""


@dataclass
class Table:
    """A CSV file as it was read: every column a list of m texts, without the white space around them."""

    columns: dict
    lines: list  # the file's line on which each row ends
    source: str

    def __post_init__(self):
        self._parsed = {}

    @property
    def m(self):
        return len(self.lines)

    def numbers(self, name):
        """The column as float64, NaN where missing (None if a text isn't a number), and the mask of the missing ones.

        Both arrays are read-only, and kept until one of the column's texts changes.
        """
        texts = list(self.columns[name])
        known = self._parsed.get(name)
        if known is None or known[0] != texts:  # of the same texts, this compares their addresses alone
            values, missing = parse_numbers(texts)
            for array in (values, missing):
                if array is not None:
                    array.flags.writeable = False
            self._parsed[name] = known = (texts, values, missing)
        return known[1:]

    def describe(self):
        return f"{self.source}: {self.m} rows, {len(self.columns)} columns"


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


def quoted(names):
    """A list of names for a message."""
    return ", ".join(repr(name) for name in names)


def first_index(mask):
    """The index of the first true entry, as a tuple of int."""
    return tuple(int(i) for i in np.argwhere(mask)[0])
