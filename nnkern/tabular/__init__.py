"""From a data frame to a trained ensemble of networks, and back to one call.

Needs the extra `tabular`: narwhals, pyarrow and scikit-learn. `import nnkern` doesn't load it.
"""

import importlib

from nnkern.tabular.metrics import METRICS
from nnkern.tabular.preprocessing import TabularWarning
from nnkern.tabular.recipes import PRESETS, Recipe

__all__ = ["METRICS", "PRESETS", "Recipe", "TabularClassifier", "TabularRegressor", "TabularWarning", "load"]

# With these comes scikit-learn: a second and 130 MB, which predictions on the command line do without.
_LATER = {"TabularClassifier": "classifier", "TabularRegressor": "regressor", "load": "saved"}


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
