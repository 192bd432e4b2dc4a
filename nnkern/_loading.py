"""Loads the extensions so that OpenBLAS starts no threads of its own: it reads the environment while it loads.

The environment is afterwards as it was. numpy comes first: its own BLAS is none of our business. On Windows, where
libraries hold no paths, this says where the BLAS lies.
"""

import os
import sys

import numpy

if sys.platform == "win32":
    os.add_dll_directory(os.path.join(os.path.dirname(__file__), "_libs"))

# OpenBLAS takes two buffers of 32 MiB while this loads and ends the process where it can't; numpy raises MemoryError
numpy.empty(72 << 20, numpy.uint8)

_VARIABLE = "OPENBLAS_NUM_THREADS"
_before = os.environ.get(_VARIABLE)
os.environ[_VARIABLE] = "1"
try:
    from nnkern import _engine, _kernels  # noqa: F401
finally:
    if _before is None:
        del os.environ[_VARIABLE]
    else:
        os.environ[_VARIABLE] = _before
