"""nnkern: train and run dense neural networks on a CPU.

Layers of the package, each knowing only those below it:

    cli           the command `nnkern`, over tabular and data, which reads pictures and arrays
    plotting      learning curves, decision boundaries, first-layer weights, confusion matrices
    tabular       TabularClassifier and TabularRegressor, from a data frame to an ensemble and back
    sklearn       MLPClassifier and MLPRegressor in scikit-learn's convention; they are made in estimators
    dask          the same two for Dask's arrays and frames, trained in rounds
    interop       networks from files, ONNX, torch and scikit-learn
    many          many networks trained at once; rounds: one network trained on shards by an executor's tasks
    search        the learning-rate finder
    network       Network: what can be done with one; its exports and its summary
    together      training by several processes, each with a shard of the examples (shards); ranks: how these meet
    training      the one loop over epochs, what may happen between two of them (callbacks), how one is computed
                  (runners), and where the examples come from (sources; streams predicts and evaluates such);
                  tracking tells other tools how it goes
    predictor     frozen networks, packed for prediction, and what reduced weights cost
    convert       plain networks to and from ONNX, torch, scikit-learn and C
    files         the model file, whole or not at all
    derivatives   by the inputs, and of each example by itself
    layerwise     which layers learn, and what each puts out
    steps         gradients of a batch, and a step with them
    state         a network's parameters, optimizer state, counters: what other modules may touch of it
    model         a network as plain data
    layers        what a network is made of; encoders: what the first layer of one for tables is made of
    kernels       one layer, one activation, one loss at a time
    losses, optimizers, initializers, schedules, progress
    validation    numbers, names and arrays that users hand in are validated
    names         the names that can be passed, as types
    _engine       the whole network in native code
    _predictor    a frozen network in native code
    _kernels      one layer, activation or loss in native code
    _products     matrix products on BLAS and the C kernels of the processor's instruction set, and threads
"""

from nnkern import _loading, callbacks, initializers, kernels, losses, optimizers, schedules
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

# Public modules that are imported when they are asked for, each with the package that it can't do without, or None
_LATER = {
    "dask": "distributed",
    "data": None,
    "plotting": "matplotlib",
    "predictor": None,
    "sklearn": "sklearn",
    "tabular": "pyarrow",
}


def __getattr__(name):
    import importlib

    if name in _LATER:
        return importlib.import_module(f"{__name__}.{name}")
    # reading the package's metadata takes longer than loading all of it
    if name == "__version__":
        import importlib.metadata

        return globals().setdefault(name, importlib.metadata.version("nnkern"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    import importlib.util

    # what goes through all names, as help() does, is to meet none that needs what isn't installed
    usable = [name for name, needed in _LATER.items() if needed is None or importlib.util.find_spec(needed)]
    return sorted({*globals(), *usable, "__version__"})


del _loading
