"""Reads arrays and pictures for the command line and the examples, and converts them to X (n_x, m) and Y.

Sources: `.npz` archives with X and Y, folders of pictures by class, and scikit-learn's digits; tables are
`nnkern.tabular`'s. A `Preprocessor` learns means, scales and label names from the training part, is saved as JSON in
the model file, and converts new data in the same way. Pillow and scikit-learn are imported where they are used.
This package knows nothing of networks, and `import nnkern` doesn't load it.
"""

from nnkern._optional import require
from nnkern.data.containers import Arrays, DataError
from nnkern.data.pictures import picture_features, read_pictures
from nnkern.data.preprocessor import Preprocessor
from nnkern.data.reading import digits, is_table, read, read_npz
from nnkern.data.splits import folds, split, take
from nnkern.data.target import Target, choose_target
from nnkern.exceptions import MissingPackageError

__all__ = [
    "Arrays", "DataError", "MissingPackageError", "Preprocessor", "Target", "choose_target", "digits", "folds",
    "is_table", "picture_features", "read", "read_npz", "read_pictures", "require", "split", "take",
]  # fmt: skip
