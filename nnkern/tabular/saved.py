"""Loading a table's model, whichever task it is for."""

from nnkern.tabular.classifier import TabularClassifier
from nnkern.tabular.model_file import read
from nnkern.tabular.regressor import TabularRegressor


def load(path):
    """The TabularClassifier or TabularRegressor that `save` wrote to a file: it predicts to the same bits.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    ModelFormatError
        The file is no table's model, or a damaged one.
    """
    stored = read(path)
    return (TabularClassifier if stored.model.classifies else TabularRegressor).of_stored(stored, path)
