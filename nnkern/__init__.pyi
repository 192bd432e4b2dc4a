# Types of __init__.py, whose docstring says what is where; the modules that are imported later are here too.

from nnkern import callbacks, initializers, kernels, losses, optimizers, schedules
from nnkern import data as data
from nnkern import plotting as plotting
from nnkern import predictor as predictor
from nnkern import sklearn as sklearn
from nnkern import tabular as tabular
from nnkern._config import Config, get_num_threads, set_num_threads, show_config
from nnkern.callbacks import (
    AverageWeights,
    Callback,
    Checkpoint,
    EarlyStopping,
    LearningRateSchedule,
    ReduceLROnPlateau,
)
from nnkern.encoders import Embedding, Numeric, OneHot, Periodic, PiecewiseLinear
from nnkern.exceptions import DivergenceError, MissingPackageError, ModelFormatError, NotFittedError, RankError
from nnkern.interop import from_onnx, from_sklearn, from_torch, load
from nnkern.layers import Dense, Encode, Scale
from nnkern.many import fit_many
from nnkern.network import Evaluation, Gradients, Network, check_gradients
from nnkern.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from nnkern.rounds import fit_shards
from nnkern.search import RateSearch, find_learning_rate
from nnkern.tracking import MLflow, OptunaPruning, TensorBoard

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "AverageWeights",
    "Callback",
    "Checkpoint",
    "Config",
    "Dense",
    "DivergenceError",
    "EarlyStopping",
    "Embedding",
    "Encode",
    "Evaluation",
    "Gradients",
    "LearningRateSchedule",
    "MLflow",
    "MissingPackageError",
    "ModelFormatError",
    "Network",
    "NotFittedError",
    "Numeric",
    "OneHot",
    "OptunaPruning",
    "Periodic",
    "PiecewiseLinear",
    "RMSprop",
    "RankError",
    "RateSearch",
    "ReduceLROnPlateau",
    "Scale",
    "TensorBoard",
    "__version__",
    "callbacks",
    "check_gradients",
    "find_learning_rate",
    "fit_many",
    "fit_shards",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "get_num_threads",
    "initializers",
    "kernels",
    "load",
    "losses",
    "optimizers",
    "schedules",
    "set_num_threads",
    "show_config",
]

__version__: str
