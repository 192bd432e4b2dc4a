"""Packages that only some functions need: imported where they are used; where one is missing, the error names it."""

import importlib

# module: (name of the package, what to install)
PACKAGES = {
    "sklearn": ("scikit-learn", "nnkern[demo]"),
    "PIL": ("Pillow", "nnkern[images]"),
    "matplotlib": ("matplotlib", "nnkern[plot]"),
    "onnx": ("onnx", "nnkern[onnx]"),
    "safetensors": ("safetensors", "nnkern[safetensors]"),
    "torch": ("PyTorch", "torch"),
}


class MissingPackageError(ImportError):
    """An optional package is needed; the message says what to install."""


def require(module, purpose):
    """The optional module of that name; where it can't be imported, a MissingPackageError that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package, install = PACKAGES[module.partition(".")[0]]
        raise MissingPackageError(f"{purpose} needs {package}: pip install '{install}' ({error})") from error
