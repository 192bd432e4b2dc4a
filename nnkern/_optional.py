"""Modules that only some functions need: imported where they are used; where one is missing, the error names it."""

import contextlib
import importlib

from nnkern.exceptions import MissingPackageError

# module: (name of the package, what to install)
PACKAGES = {
    "sklearn": ("scikit-learn", "nnkern[demo]"),
    "narwhals": ("narwhals", "nnkern[tabular]"),
    "pyarrow": ("pyarrow", "nnkern[tabular]"),
    "PIL": ("Pillow", "nnkern[images]"),
    "matplotlib": ("matplotlib", "nnkern[plot]"),
    "onnx": ("onnx", "nnkern[onnx]"),
    "safetensors": ("safetensors", "nnkern[safetensors]"),
    "tensorboard": ("tensorboard", "nnkern[tensorboard]"),
    "mlflow": ("MLflow", "nnkern[mlflow]"),
    "optuna": ("Optuna", "nnkern[optuna]"),
    "torch": ("PyTorch", "torch"),
    "dask": ("Dask", "nnkern[dask]"),
    "distributed": ("Dask's distributed", "nnkern[dask]"),
    "pandas": ("pandas", "dask[dataframe]"),
}


# how the loader of shared libraries says that there is no room for one
_NO_MEMORY = ("failed to map segment", "Cannot allocate memory", "cannot allocate memory")


@contextlib.contextmanager
def loading():
    """Makes a MemoryError of the error of what is there and finds no memory, in whatever is imported inside.

    That is an ImportError where a library can't be mapped, and an OSError where a folder or a file can't be read.
    """
    try:
        yield
    except (ImportError, OSError) as error:
        if any(words in str(error) for words in _NO_MEMORY):
            raise MemoryError(str(error)) from error
        raise


def require(module, purpose):
    """The optional module of that name; where it can't be imported, a MissingPackageError that says what to install."""
    try:
        with loading():
            return importlib.import_module(module)
    except ImportError as error:
        package, install = PACKAGES[module.partition(".")[0]]
        raise MissingPackageError(f"{purpose} needs {package}: pip install '{install}' ({error})") from error
