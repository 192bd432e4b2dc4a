"""nnkern: train and run dense neural networks on a CPU.

Layers of the package, each knowing only those below it:

    cli           the command `nnkern`, over data, which reads files
    sklearn       MLPClassifier and MLPRegressor in scikit-learn's convention
    network       Dense and Network: configuration, fit, predict, evaluate, forward, backward
    losses, optimizers, initializers, schedules, callbacks, progress, io
    validation    the only place where what a user hands in is judged
    kernels       one layer, one activation, one loss at a time
    _engine       the whole network in native code
    _kernels      dense layers on BLAS and the C kernels of the processor's instruction set
"""

import importlib.metadata as _metadata

from nnkern import _loading, callbacks, initializers, kernels, losses, optimizers, schedules
from nnkern._config import Config, get_num_threads, set_num_threads, show_config
from nnkern.callbacks import Callback, Checkpoint, EarlyStopping, LearningRateSchedule
from nnkern.exceptions import DivergenceError, ModelFormatError, NotFittedError
from nnkern.io import load
from nnkern.network import Dense, Evaluation, Network, check_gradients
from nnkern.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop

del _loading

__version__ = _metadata.version("nnkern")

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Callback",
    "Checkpoint",
    "Config",
    "Dense",
    "DivergenceError",
    "EarlyStopping",
    "Evaluation",
    "LearningRateSchedule",
    "ModelFormatError",
    "Network",
    "NotFittedError",
    "RMSprop",
    "__version__",
    "callbacks",
    "check_gradients",
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
