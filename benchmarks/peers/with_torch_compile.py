"""torch.compile: the eager side with forward and loss, and through them backward, compiled by inductor."""

from __future__ import annotations

import os
import shutil

# No pool of compiler processes during the measurement.
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import torch

from peers import with_torch

if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
    raise ImportError("torch.compile needs a C++ compiler")


class Side(with_torch.Side):
    library = "torch.compile"

    def wrapped(self, function):
        # Code for each shape, and none that is left from previous cases.
        torch.compiler.reset()
        return torch.compile(function, dynamic=False)
