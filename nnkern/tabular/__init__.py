"""From a data frame to a trained ensemble of networks, and back to one call.

Needs the extra `tabular`: narwhals, pyarrow and scikit-learn. `import nnkern` doesn't load it.
"""

from nnkern.tabular.classifier import TabularClassifier
from nnkern.tabular.metrics import METRICS
from nnkern.tabular.preprocessing import TabularWarning
from nnkern.tabular.recipes import PRESETS, Recipe
from nnkern.tabular.regressor import TabularRegressor
from nnkern.tabular.saved import load

__all__ = ["METRICS", "PRESETS", "Recipe", "TabularClassifier", "TabularRegressor", "TabularWarning", "load"]
